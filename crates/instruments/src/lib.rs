//! Metric handles and typed events that every crate may own; no exposition, no IO, no clock.
//!
//! A request must be able to count itself for the price of one relaxed atomic add. So names and labels are
//! looked up once, when a component is built, and what remains is a handle onto cells of the calling core:
//! no lock, no map, no shared cache line. What becomes of the numbers and events is telemetry's business; it
//! reads them through [`Meter::collect`] and [`Receiver`].
//!
//! Absent here: files, sockets, threads of our own, and the time of day (a [`Log`] is given its clock).
#![forbid(unsafe_code)]

mod access;
mod cells;
mod event;
mod family;
mod hex;
mod histogram;
mod json;
mod log;
mod meter;
mod number;
mod plate;
mod rfc3339;
mod told;
mod trace;
mod trace_parent;

// The public interface is:
pub use access::{AccessRecord, QueryValues, RequestId};
pub use cells::set_shard;
pub use event::{Event, Level, Value};
pub use family::{Family, Kind};
pub use histogram::{Exemplar, Histogram, HistogramSnapshot};
pub use json::{push_json_string, push_json_value};
pub use log::{AccessSettings, Dropped, Log, Receiver};
pub use meter::{FamilySnapshot, Meter, SeriesSnapshot, SeriesValue};
pub use number::{Counter, Gauge};
pub use plate::{AddressText, Plate};
pub use rfc3339::Timestamp;
pub use told::Told;
pub use trace::{
    BLOCK_BYTES, Handed, Hop, Kept, NotAnId, Span, SpanId, SpanKind, SpanReceiver, SpanStatus, TraceId,
    TraceSettings, Tracer,
};
pub use trace_parent::TraceParent;
