//! Paths from a client: the normal form must be its own normal form and hold no dot segment. The property is in
//! `entries::path`.
#![no_main]

#[path = "../entries.rs"]
#[expect(dead_code, reason = "each target calls one entry")]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::path(data));
