//! The fleet with real processes: what a user would say about services that Terrace runs.
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

mod adoption;
mod lifecycle;
mod output;
mod rollout;
mod world;
