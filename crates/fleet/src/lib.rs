//! Runs the app: supervision, shim, rollouts.
#![forbid(unsafe_code)]
