//! The edge: where requests arrive, and the chain that each goes through.
//!
//! The files in the order of a request's way: [`listener`] accepts, `proxy_protocol` learns who the client is, `tls`
//! secures, `http1` and `http2` read requests, `chain` is the list of what happens to each, `hop` and `client` look at
//! its fields, `guards` is the list of what may stand before a route's action, each step a file of its own, `forward` sends it to a service, `converse` moves its two bodies, `problem` is what Terrace says itself,
//! `journal` notes what became of it, `trace` which trace it belongs to, `flight` remembers it for a while, and `spans`
//! tells it when its trace is kept. The edge knows no file, no process and no clock but the runtime's.
#![forbid(unsafe_code)]

mod address;
mod bulkhead;
mod chain;
mod challenge;
mod choose;
mod client;
mod compress;
mod config;
mod converse;
mod core;
mod cors;
mod deadline;
mod download;
mod edge;
mod exchange;
mod fallback;
mod fault;
mod fields;
mod flight;
mod forward;
mod grpc_web;
mod guards;
mod hedge;
mod hop;
mod http1;
mod http2;
mod identity;
mod journal;
mod limit;
mod listener;
mod lookout;
mod metrics;
mod mirror;
mod note;
mod overload;
mod pace;
mod problem;
pub mod proxy_protocol;
mod resilience;
mod security;
mod small;
mod snapshot;
mod spans;
mod sticky;
mod tls;
mod trace;
mod validate;
mod withheld;

// The public interface is:
pub use address::Addresses;
pub use challenge::{Issuer, Later};
pub use choose::{Choosing, Stick, StickKey};
pub use config::{
    Action, Bounds, Config, HashSource, Listener, LoginPages, Network, Policy, ProxyProtocol, Purpose, Route,
    Service, Sticky, Target,
};
pub use cors::{Cors, CorsError, CorsRules, Origin};
pub use edge::{Edge, EdgeError};
pub use fallback::{Fallback, FallbackOn, FallbackTo};
pub use fault::{DELAY_MAX, Fault, FaultBoard, FaultError, FaultReport, Faults, LEASE_MAX, LEASES_MAX};
pub use fields::{ChangeRules, Changes, FIELD_EDITS_MAX, FieldEdits, FieldError, FieldName};
pub use guards::Guards;
pub use identity::Required;
pub use limit::{Limit, LimitKey, LimitRules, Limits};
pub use mirror::Mirror;
pub use overload::Priority;
pub use resilience::{Concurrency, Queue, Resilience};
pub use security::{Security, SecurityRules};
pub use tls::{Certificates, Clients, Demand, Pair, Tls, TlsError, dev_pair};
pub use validate::Schema;
pub use withheld::Withheld;
