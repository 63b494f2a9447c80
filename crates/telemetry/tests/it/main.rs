//! Telemetry beside real peers: what it sends, and what they make of it.

mod alerts;
mod otlp;
mod scrape;
