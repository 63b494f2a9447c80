//! The OpenTelemetry protocol (OTLP 1.x): what programs tell each other of traces, metrics and logs.
//!
//! Absent here: sockets, gRPC framing, compression, clocks. Bytes come in and plain values go out, and the other way.
#![forbid(unsafe_code)]
