//! Certificates of clients, in DER: the walk to their names never runs off, and a name that is found is plain text.
//! The property is in `terrace_auth::fuzzing::certificate`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::certificate(data));
