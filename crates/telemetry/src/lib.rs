//! What becomes of metrics, events and spans: exposition, logs, alerts, and OTLP in and out.
//!
//! The rest of Terrace counts and says; here the numbers become text that Prometheus reads, and the events lines
//! that people and collectors read. One thread does all the writing, so that a full disk or a pipe that nobody
//! reads costs lines, which are counted, and never a request.
//!
//! Absent here: any page (the admin crate serves what [`Handle::metrics`] renders) and any signal handling (the binary
//! calls [`Handle::reopen`]).
#![forbid(unsafe_code)]

mod alerts;
mod config;
mod derived;
mod export;
mod exposition;
mod foreign;
mod history;
mod host;
mod line;
mod observatory;
mod output;
mod pretty;
mod process;
mod receive;
mod records;
mod scrape;
mod telemetry;
mod traces;
mod writer;

// The public interface is:
pub use config::{
    Config, Destination, Export, ExportProtocol, Receiver, Rotation, Scrape, Secret, Style, Traces, Way,
};
pub use exposition::{Format, Rendered};
pub use host::own_memory_share;
pub use line::record_json;
pub use observatory::Instance;
pub use pretty::for_terminal;
pub use records::{Followed, RecordStream};
pub use telemetry::{BuildError, Handle, Lost, Telemetry};
