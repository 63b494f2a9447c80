//! The admin API: Unix socket, loopback, probes.
#![forbid(unsafe_code)]
