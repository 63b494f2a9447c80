//! Endpoints: discovery, health, ejection, balancing, connections.
#![forbid(unsafe_code)]
