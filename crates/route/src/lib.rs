//! Request head and table in, route out: pure, no socket, no clock.
#![forbid(unsafe_code)]
