//! Documents by which issuers say where they do what: nothing in one leads to where the issuer's own address would not.
//! The property is in `terrace_auth::fuzzing::discovery`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::discovery(data));
