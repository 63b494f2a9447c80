//! What an authority says of when to renew: see `entries::renewal_info`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::renewal_info(data));
