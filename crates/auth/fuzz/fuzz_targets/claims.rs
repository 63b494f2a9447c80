//! Claims of tokens, after their signature was checked: whoever comes of them has bounded grants, and an end.
//! The property is in `terrace_auth::fuzzing::claims`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::claims(data));
