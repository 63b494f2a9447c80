//! Sets of keys: whatever an authority publishes, what is kept of it is bounded and usable.
//! The property is in `terrace_auth::fuzzing::key_set`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::key_set(data));
