//! A file of quotas as a crash left it: see `entries::quota_log`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::quota_log(data));
