//! Tables of any routes asked with any path: what is found is a rule of the table, and captures are pieces of the path.
//! The property is in `entries::table`.
#![no_main]

#[path = "../entries.rs"]
#[expect(dead_code, reason = "each target calls one entry")]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::table(data));
