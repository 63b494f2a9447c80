//! What the fuzzer comes up with, shown to `entries::negotiation`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::negotiation(data));
