//! API keys, and names with passwords: what is taken has one way to be written, and changed anywhere it is refused.
//! The property is in `terrace_auth::fuzzing::credentials`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::credentials(data));
