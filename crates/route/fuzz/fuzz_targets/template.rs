//! Templates of rewrites and redirects, expanded with any request: no line end may come out. The property is in
//! `entries::template`.
#![no_main]

#[path = "../entries.rs"]
#[expect(dead_code, reason = "each target calls one entry")]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::template(data));
