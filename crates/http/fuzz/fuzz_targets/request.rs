//! Heads of requests: what is accepted and written again must be read as the same. The property is in
//! `entries::request`.
#![no_main]

#[path = "../entries.rs"]
#[expect(dead_code, reason = "each target calls one entry")]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::request(data));
