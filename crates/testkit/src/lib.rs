//! What tests with real processes share: a Terrace in a folder of its own, an app that does what it is told, and small
//! clients that see every byte. Threads and blocking sockets only, so that a test reads from top to bottom.
//!
//! Nothing here waits for a while and hopes: a test waits for a condition through [`until`], which has one deadline for
//! all. Ports are reserved across processes ([`Port`]), and what a test starts carries its mark, so that it can be found,
//! and is ended, whatever becomes of the test ([`World`]).
#![forbid(unsafe_code)]

mod app;
mod browser;
mod crowd;
mod files;
mod folder;
mod http;
mod inbox;
mod load;
mod origin;
mod pebble;
mod ports;
mod processes;
mod provider;
mod redis;
mod terrace;
mod wait;
mod websocket;
mod world;

pub use app::{App, fingerprint, pattern};
pub use browser::{Browser, Page};
pub use crowd::{Asking, Crowd, Fate, Reply};
pub use files::{Authority, Leaf};
pub use folder::Folder;
pub use http::{Connection, Request, Response, Upload, get, post, try_get};
pub use inbox::{Inbox, Letter};
pub use load::{Failure, Kind, Load, Tally};
pub use origin::{Capacity, Mood, Origin, Served};
pub use pebble::{Pebble, Rules};
pub use ports::Port;
pub use processes::{Process, Signal, is_alive, peak_memory_bytes, processes_of, signal};
pub use provider::Provider;
pub use redis::Redis;
pub use terrace::{Done, Terrace};
pub use wait::{DEADLINE, until, until_true};
pub use websocket::{Message, WebSocket};
pub use world::World;
