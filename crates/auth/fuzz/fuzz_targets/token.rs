//! Signed tokens: what is read of one can be written in one way only, and a forged signature never holds.
//! The property is in `terrace_auth::fuzzing::token`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::token(data));
