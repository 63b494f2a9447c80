//! The OpenTelemetry protocol (OTLP 1.x): what programs tell each other of traces, metrics and logs.
//!
//! Messages are read straight off the wire into plain values, within bounds that are counted while reading: names and
//! texts are cut, attributes and items beyond their number are left out and told, and nesting ends at a depth. So a
//! request costs memory in proportion to its bytes, whoever wrote it. JSON is turned into protobuf first, by tables of the
//! same field numbers, so that there is one reader and one set of bounds. Field numbers are those of opentelemetry-proto
//! 1.x (`trace.proto`, `metrics.proto`, `logs.proto`, `common.proto`, `resource.proto` and the three `*_service.proto`).
//!
//! Absent here: sockets, gRPC framing, compression, clocks. Bytes come in and plain values go out, and the other way.
#![forbid(unsafe_code)]

mod base64;
mod ids;
mod json;
mod logs;
mod metrics;
mod metrics_out;
mod request;
mod response;
mod schema;
mod traces;
mod value;
mod wire;

// The public interface is:
pub use logs::{LogRecord, read_logs, write_logs};
pub use metrics::{
    Buckets, Data, ExponentialPoint, HistogramPoint, Metric, NumberPoint, SummaryPoint, Temporality,
    read_metrics,
};
pub use metrics_out::write_metrics;
pub use request::{Received, Signal, json_to_protobuf};
pub use response::{Partial, read_grpc_retry_delay, read_response, write_response, write_status};
pub use traces::{read_traces, write_traces};
pub use value::{Attributes, Origin};

/// Spans, data points or log records of one request; further ones are refused and counted.
pub const ITEMS_MAX: usize = 32_768;
/// Attributes of one item; further ones are left out.
pub const ATTRIBUTES_MAX: usize = 128;
/// Events of one span that are kept as attributes; further ones are left out.
pub const EVENTS_MAX: usize = 16;
/// Buckets or quantiles of one data point; further ones are left out.
pub const BUCKETS_MAX: usize = 1_024;
/// Bytes of a name; the rest is cut off.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Bytes of a text; the rest is cut off.
pub const TEXT_BYTES_MAX: usize = 16_384;
/// Lists and maps within each other; what is deeper is left out.
pub const DEPTH_MAX: usize = 8;

/// Why a request cannot be read. The sender's fault; a retry does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is no protobuf, or breaks off.
    #[error("the body is no OTLP message: it is no protobuf, or breaks off")]
    Malformed,
    /// It is no JSON of the right form.
    #[error("the body is no OTLP message in JSON: wrong at line {line}, column {column}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
}
