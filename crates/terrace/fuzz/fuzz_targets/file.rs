//! Whole files of any bytes: a configuration or a list of problems with places. The property is in
//! `entries::file`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::file(data));
