//! What the fuzzer comes up with, shown to `entries::grpc_web`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::grpc_web(data));
