//! Patterns of routes: parsed or refused with a place, never a panic. The property is in
//! `entries::pattern`.
#![no_main]

#[path = "../entries.rs"]
#[expect(dead_code, reason = "each target calls one entry")]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::pattern(data));
