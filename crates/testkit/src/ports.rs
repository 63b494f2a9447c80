//! Ports that no other test takes, in whichever process it runs.
//!
//! Asking the system for a free port and closing it again invites another to take it before its user does. So ports come
//! from below the range that the system gives out by itself, and a locked file says that one is taken, as long as its
//! [`Port`] lives.

use std::fmt;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Below Linux's and macOS's ephemeral ranges, above what programs usually listen on.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A TCP port on loopback, reserved.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves one.
    ///
    /// # Panics
    /// When none can be had.
    #[must_use]
    pub fn reserve() -> Self {
        let folder = std::env::temp_dir().join("terrace-it-ports");
        std::fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
        let start = std::process::id() as u16;
        for step in 0..COUNT {
            let number = FIRST + start.wrapping_mul(37).wrapping_add(step) % COUNT;
            let lock = File::create(folder.join(number.to_string()));
            let Ok(lock) = lock else { continue };
            let is_free = || TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok();
            if lock.try_lock().is_ok() && is_free() {
                return Self { number, _lock: lock };
            }
        }
        panic!("no port between {FIRST} and {} is free", FIRST + COUNT);
    }

    /// The number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// On loopback.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

/// `127.0.0.1:20000`, as it stands in the file.
impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(formatter)
    }
}
