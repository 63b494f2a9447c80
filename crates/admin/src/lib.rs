//! The admin API and the dashboard: how people and tools speak to a running Terrace.
//!
//! It has three faces. The Unix socket in the state folder belongs to whoever runs Terrace: the system says who is
//! calling. The loopback address is for browsers, which get the dashboard there, and for tools that cannot speak to a
//! socket; since any program and any web page on the machine can reach it, it asks for a token or a session and looks at
//! Host and Origin, so that an application's forged request or a rebound name gets nothing. The probes answer anyone, and
//! can change nothing. Every change is written to an audit log with who made it.
//!
//! What a command does is not decided here: the binary implements [`Control`].
#![forbid(unsafe_code)]

mod admin;
mod api;
mod audit;
pub mod client;
mod config;
mod control;
mod dashboard;
mod faults;
mod gate;
mod keys;
mod logs;
pub mod map;
mod observe;
pub mod offline;
mod patience;
mod probes;
mod problem;
mod serve;
mod socket;

// The public interface is:
pub use admin::{Addresses, Admin, BuildError, Handle};
pub use config::{Config, Loopback, NotLoopback, Role, Token, WeakToken};
pub use control::{Answer, Control, ControlError, FaultWanted};
pub use socket::{Claim, check_state_folder};
