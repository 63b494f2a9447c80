//! Runs the app: every instance under a shim of its own, ready before it is used, drained before it is stopped,
//! replaced before it is missed.
//!
//! A [`Fleet`] is told the whole of what shall run ([`Handle::apply`]) and works towards it, whatever happens on the
//! way. What to do next is decided by one pure function over what runs and what shall run; one task per service
//! carries it out, and one task per instance waits for what takes time. Who gets requests is told to a load balancer
//! through [`Rotation`].
//!
//! Instances outlive Terrace: the [shim](shim_main) of each holds its process group and output, and waits some
//! seconds for a successor that adopts it.
//!
//! Absent here: HTTP but for the ready check, TOML, and services that Terrace does not run.
#![forbid(unsafe_code)]

mod adopt;
mod config;
mod context;
mod error;
mod fleet;
mod instance;
mod ledger;
mod link;
mod metrics;
mod plan;
mod ports;
mod ready;
mod release;
mod rotation;
mod service;
mod shim;
mod spec;
mod status;
mod users;

// The public interface is:
pub use config::{Config, INSTANCES_MAX, Ready, ReadyKind, Secret, ServiceConfig, Stop, Value};
pub use error::{BuildError, Error, Problem};
pub use fleet::{Fleet, Handle, build};
pub use rotation::{BoxFuture, Member, Rotation};
pub use shim::protocol::Stream;
pub use shim::shim_main;
pub use status::{FleetStatus, InstanceState, InstanceStatus, ServiceState, ServiceStatus};
