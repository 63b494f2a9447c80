//! Lists of users: one that is taken keeps its bounds; each line that is wrong is told with its number.
//! The property is in `terrace_auth::fuzzing::users`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::users(data));
