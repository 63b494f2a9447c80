//! Terrace's file and command line; `main.rs` wires them to the components.
#![forbid(unsafe_code)]

pub mod cli;
pub mod file;
