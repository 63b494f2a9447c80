//! HTTP requests that Terrace itself makes: to collectors, to whoever is told of alerts, to authorities that issue tokens or
//! certificates. Never a client's request: those go through `edge` and `upstream`.
#![forbid(unsafe_code)]

mod client;

// The public interface is:
pub use client::{Answer, Client, ClientError};
