//! How much time a caller says that it leaves: see `entries::deadline`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::deadline(data));
