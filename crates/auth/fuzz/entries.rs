//! What the fuzzers call. What must hold of every input stands beside the code it is about.

pub(crate) use terrace_auth::fuzzing::{claims, discovery, key_set, token};
