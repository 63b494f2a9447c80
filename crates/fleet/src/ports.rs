//! Ports for instances: chosen by the kernel, remembered here.
//!
//! Between choosing a port and the app's `bind` it belongs to nobody, so another process can take it; the supervisor
//! then tries once more with another. What can be ruled out is that Terrace itself hands a port out twice.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ports given back that are not handed out again for a while: connections to the last holder may linger.
const RESTING_MAX: usize = 128;
/// The kernel does not offer a port twice in a row, so a free one is found long before.
const TRIES_MAX: usize = 300;

/// The ports in use. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ports(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    leased: BTreeSet<u16>,
    resting: VecDeque<u16>,
}

/// A port that nobody else gets until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    port: u16,
    ports: Ports,
}

impl Ports {
    /// A free port on loopback.
    pub(crate) fn lease(&self) -> io::Result<Lease> {
        for _ in 0..TRIES_MAX {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let mut taken = self.lock();
            if !taken.resting.contains(&port) && taken.leased.insert(port) {
                drop(taken);
                return Ok(Lease { port, ports: self.clone() });
            }
        }
        Err(io::ErrorKind::AddrNotAvailable.into())
    }

    /// The port of an instance that runs already.
    pub(crate) fn adopt(&self, port: u16) -> Lease {
        self.lock().leased.insert(port);
        Lease { port, ports: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Whether somebody listens there; asked when our own instance has gone, it is somebody else.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(TcpListener::bind(self.address()), Err(error) if error.kind() == io::ErrorKind::AddrInUse)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut taken = self.ports.lock();
        taken.leased.remove(&self.port);
        taken.resting.push_back(self.port);
        if taken.resting.len() > RESTING_MAX {
            taken.resting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_handed_out_twice_at_a_time() {
        let ports = Ports::default();
        let leases: Vec<Lease> = (0..500).map(|_| ports.lease().expect("there are thousands")).collect();
        let distinct: BTreeSet<u16> = leases.iter().map(Lease::port).collect();
        assert_eq!(distinct.len(), 500);
        drop(leases);
        assert!(ports.lock().leased.is_empty());
        assert_eq!(ports.lock().resting.len(), RESTING_MAX);
    }

    #[test]
    fn a_port_that_somebody_took_is_noticed() {
        let lease = Ports::default().lease().expect("there are thousands");
        assert!(!lease.is_taken());
        let _somebody = TcpListener::bind(lease.address()).expect("free a moment ago");
        assert!(lease.is_taken());
    }
}
