//! Threads, sockets, clock, randomness, drain.
#![forbid(unsafe_code)]
