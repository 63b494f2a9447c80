//! The state of alerts on disk: whatever it holds, Terrace goes on. The property is in `entries::alerts_state`.
#![no_main]

#[path = "../entries.rs"]
#[expect(dead_code, reason = "each target calls one entry")]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::alerts_state(data));
