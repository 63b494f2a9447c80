//! Metrics of others, in both formats: what is accepted is written as it was read. The property is in `entries::text`.
#![no_main]

#[path = "../entries.rs"]
#[expect(dead_code, reason = "each target calls one entry")]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::text(data));
