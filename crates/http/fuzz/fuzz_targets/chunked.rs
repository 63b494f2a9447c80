//! Chunked bodies in pieces of any size: the decoder must find the same body however it is cut. The property is in
//! `entries::chunked`.
#![no_main]

#[path = "../entries.rs"]
#[expect(dead_code, reason = "each target calls one entry")]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::chunked(data));
