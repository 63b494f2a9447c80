//! Tables of any routes asked with any request: the answer must be the one of the naive matcher. The property is in
//! `entries::table`.
#![no_main]

#[path = "../entries.rs"]
#[expect(dead_code, reason = "each target calls one entry")]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::table(data));
