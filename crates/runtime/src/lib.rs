//! The ground: the doors through which time, randomness, threads and sockets come in, and the way to ask for an end.
//!
//! Nothing here knows HTTP, services or the file. It is the only crate that may hold `unsafe`, and each such block says
//! why it is sound.

pub mod clock;
pub mod drain;
pub mod random;
pub mod sockets;
pub mod spawn;
pub mod threads;
pub mod timer;
