//! A certificate that an authority handed out: see `entries::certificate`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::certificate(data));
