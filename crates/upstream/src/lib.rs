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
mod client;
mod config;
mod connect;
mod discovery;
mod endpoint;
mod error;
mod health;
mod id;
mod latency;
mod lease;
mod live;
mod lookup;
mod metrics;
mod padded;
mod pool;
mod probe;
mod proxy_header;
mod pulse;
mod report;
mod roster;
mod slights;
mod slow_start;
#[cfg(test)]
mod testing;
mod tls;
mod upstream;

// The public interface is:
pub use client::{Answer, Aside, Link, RESPONSE_BOUNDS, StreamCount, keeps_alive};
pub use config::{
    Balance, ClientIdentity, Config, Connections, HealthCheck, Probe, Protocol, ProxyProtocol, Roots,
    TlsConfig,
};
pub use connect::{ConnectError, Proxied};
pub use discovery::{Discovery, Host, Names, Source};
pub use endpoint::{ConnectionPermit, Endpoint, Health, Sign};
pub use error::{BuildError, NoEndpoint};
pub use health::check;
pub use id::{EndpointId, IdentityKey};
pub use lease::{FailureKind, Lease, Outcome, StreamLease};
pub use live::Ask;
pub use pool::{Pool, Shelf};
pub use pulse::{Beat, Usual};
pub use report::EndpointReport;
pub use roster::{Member, MemberState};
pub use tls::Tls;
pub use upstream::{Settings, Upstream, maintain};
