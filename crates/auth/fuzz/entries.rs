//! What the fuzzers call. What must hold of every input stands beside the code it is about.

pub(crate) use terrace_auth::fuzzing::{
    browser, certificate, claims, credentials, discovery, key_set, token, users,
};
