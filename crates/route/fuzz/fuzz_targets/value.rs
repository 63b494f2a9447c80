//! Values of fields and query parameters, filled in from any request: nothing may leave its place. The property is in
//! `entries::value`.
#![no_main]

#[path = "../entries.rs"]
#[expect(dead_code, reason = "each target calls one entry")]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::value(data));
