//! Fake upstreams and processes for tests (dev only).
#![forbid(unsafe_code)]
