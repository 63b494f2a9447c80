//! HTTP on a socket: the engines for HTTP/1 and HTTP/2, each for both sides, behind one shape of message.
//!
//! A message is a head ([`terrace_http`]), then a [`Body`] that gives frames and a [`Sink`] that takes them; which
//! engine reads or writes them shows nowhere else. The HTTP/1 engine is our own, on httparse: it refuses what two
//! readers could read differently, keeps no buffer while a connection idles, and lets one task read and write both of
//! a proxy's connections without handing anything to another task. HTTP/2 is the `h2` crate. This crate knows no
//! route, no policy and no endpoint.
#![forbid(unsafe_code)]

mod body;
mod buffers;
mod change;
mod error;
pub mod http1;
pub mod http2;
mod io;

pub use body::{Body, Frame, Held, Pace, PumpError, Side, Sink, pump};
pub use change::{Change, ChangeError, collect, pump_changed};
pub use error::WireError;
pub use io::Io;
