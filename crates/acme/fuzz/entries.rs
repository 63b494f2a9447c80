//! What the fuzzers call, and what must hold of every input.

pub(crate) use terrace_acme::fuzzing::{certificate, renewal_info};
