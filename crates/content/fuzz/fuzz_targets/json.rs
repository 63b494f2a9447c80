//! What the fuzzer comes up with, shown to `entries::json`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::json(data));
