//! What is known of the past, and what follows from it.
//!
//! Numbers, spans and log records come in with the time at which they were seen; questions, burn rates and alerts come
//! out. Everything is bounded, so that a week of a noisy app costs the same memory as an hour of a quiet one. Nothing
//! here waits for anything: `telemetry` brings the time and carries out what is decided.
//!
//! Absent here: sockets, files, tasks, clocks and randomness. Moments are [`std::time::Duration`]s since the clock's
//! start where they decide something, and wall time only where a person reads them.
#![forbid(unsafe_code)]

pub mod alerts;
pub mod records;
pub mod series;
pub mod traces;
