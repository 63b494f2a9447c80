//! Endpoints: discovery, health, ejection, balancing, connections.
//!
//! A service's endpoints come from outside (the fleet, the file, DNS) as plain members, and a request leaves
//! with a [`Lease`] on one of them. Between the two stands one [`Upstream`] for each service, which outlives
//! every reload: it keeps what is known of each endpoint and folds it into an immutable picture of the
//! candidates, so that picking one takes no lock, allocates nothing and looks at two of them.
//!
//! Absent here: routes, instances and their processes, retries (the request chain's business, by
//! `terrace-policy`'s rules).
#![forbid(unsafe_code)]

mod balance;
mod config;
mod endpoint;
mod error;
mod id;
mod latency;
mod lease;
mod live;
mod metrics;
mod padded;
mod report;
mod roster;
mod slow_start;
#[cfg(test)]
mod testing;
mod tls;
mod upstream;

// The public interface is:
pub use config::{
    Balance, Config, Connections, HealthCheck, Probe, Protocol, ProxyProtocol, Roots, TlsConfig,
};
pub use endpoint::{ConnectionPermit, Endpoint, Health};
pub use error::{BuildError, NoEndpoint};
pub use id::{EndpointId, IdentityKey};
pub use lease::{FailureKind, Lease, Outcome, StreamLease};
pub use live::Ask;
pub use report::EndpointReport;
pub use roster::{Member, MemberState};
pub use tls::Tls;
pub use upstream::{Settings, Upstream, maintain};
