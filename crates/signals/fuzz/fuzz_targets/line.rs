//! Lines that apps print: each becomes a record that no terminal obeys and that costs no more than a few times its
//! length. The property is in `entries::line`.
#![no_main]

#[path = "../entries.rs"]
#[expect(dead_code, reason = "each target calls one entry")]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::line(data));
