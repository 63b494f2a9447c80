//! From the file to each crate's own configuration: one module a crate, all pure. What one of them cannot express is
//! refused by the file's own checks, so nothing in here can fail.

pub(crate) mod acme;
pub(crate) mod admin;
pub(crate) mod edge;
pub(crate) mod fleet;
mod guards;
pub(crate) mod identity;
pub(crate) mod limit;
mod resilience;
mod route;
pub(crate) mod secrets;
pub(crate) mod telemetry;
pub(crate) mod upstream;
