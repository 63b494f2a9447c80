//! Hosts and ports from a client: whatever the bytes, an answer or a refusal. The property is in
//! `entries::authority`.
#![no_main]

#[path = "../entries.rs"]
#[expect(dead_code, reason = "each target calls one entry")]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::authority(data));
