//! Log records from a stranger: whatever the bytes, an answer within the bounds or a refusal. The property is in
//! `entries::logs`.
#![no_main]

#[path = "../entries.rs"]
#[expect(dead_code, reason = "each target calls one entry")]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::logs(data));
