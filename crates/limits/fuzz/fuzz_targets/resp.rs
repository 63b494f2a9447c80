//! Answers of a Redis, or of who speaks in its place: see `entries::resp`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::resp(data));
