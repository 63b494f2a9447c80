//! What a browser brings to a login: cookies, the place that it wants to go to, the query with which it comes back. Nothing
//! that nobody sealed opens anything.
//! The property is in `terrace_auth::fuzzing::browser`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::browser(data));
