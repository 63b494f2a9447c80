//! Metric handles and typed events that every crate may own; no exposition, no IO.
#![forbid(unsafe_code)]
