//! Listening sockets: opened for every core on the same address, and closed without resetting anybody.
//!
//! Each data-plane core has a socket of its own on the address (`SO_REUSEPORT`), so that accepting needs no hand-over
//! between threads. Two traps come with that. A second program of the same user could silently join the group, so the
//! address is first tried without the option. And closing a socket resets the connections that wait in its accept
//! queue, so a listener that goes away first refuses new handshakes with a socket filter, lets those begun complete,
//! accepts what waits, and only then closes.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// How many connections may wait to be accepted on each core's socket; the kernel caps it at `net.core.somaxconn`.
pub const BACKLOG_CONNECTIONS: i32 = 4096;

/// The sockets of one listening address, one for each core, not yet tied to a core's runtime.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    sockets: Vec<std::net::TcpListener>,
}

impl Listening {
    /// Listens on `address` with one socket for each of `cores` cores. Port 0 takes a free one.
    ///
    /// # Errors
    /// What the operating system says: `AddrInUse` when somebody listens there, `PermissionDenied` for a privileged
    /// port, `AddrNotAvailable` for an address that this machine does not have.
    pub fn open(address: SocketAddr, cores: usize) -> io::Result<Self> {
        if address.port() != 0 {
            drop(bound(address, false)?);
        }
        Self::open_beside(address, cores)
    }

    /// [`Listening::open`] where this program may listen on the same port already, and nobody else does.
    ///
    /// # Errors
    /// As there.
    pub fn open_beside(address: SocketAddr, cores: usize) -> io::Result<Self> {
        let first = listening(address)?;
        let address = first.local_addr()?;
        let mut sockets = vec![first];
        for _ in 1..cores {
            sockets.push(listening(address)?);
        }
        Ok(Self { address, sockets })
    }

    /// The address, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The sockets, one for each core.
    #[must_use]
    pub fn into_sockets(self) -> Vec<std::net::TcpListener> {
        self.sockets
    }
}

fn bound(address: SocketAddr, shared_between_cores: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared_between_cores {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listening(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = bound(address, true)?;
    socket.listen(BACKLOG_CONNECTIONS)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it on Linux, which saves a system call for each connection.
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// Makes a listener refuse new handshakes (their SYN is dropped) while those already begun still complete.
///
/// On systems without socket filters it does nothing; a handshake that ends at the moment of closing is then reset.
///
/// # Errors
/// What the operating system says of the filter; closing may go on regardless.
pub fn refuse_new_handshakes(listener: &TcpListener) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let filter = syn_filter();
        socket2::SockRef::from(listener).attach_filter(&filter)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = listener;
    Ok(())
}

/// Classic BPF over the TCP header: drop what has SYN set and ACK clear (RFC 9293 section 3.1, flags at octet 13).
#[cfg(target_os = "linux")]
fn syn_filter() -> [socket2::SockFilter; 5] {
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = socket2::SockFilter::new;
    [
        step(LOAD_BYTE, 0, 0, 13),
        step(AND, 0, 0, 0x12),
        step(JUMP_IF_EQUAL, 0, 1, 0x02),
        step(RETURN, 0, 0, 0),
        step(RETURN, 0, 0, u32::MAX),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_port() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[tokio::test]
    async fn every_core_gets_a_socket_on_the_same_port() {
        let listening = Listening::open(any_port(), 3).expect("a free port");
        let address = listening.address();
        let sockets = listening.into_sockets();
        assert_eq!(sockets.len(), 3);
        assert!(sockets.iter().all(|socket| socket.local_addr().expect("bound") == address));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_refused_although_it_could_be_shared() {
        let first = Listening::open(any_port(), 1).expect("a free port");
        let error = Listening::open(first.address(), 1).expect_err("the port is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_closing_listener_serves_who_came_before_and_not_who_comes_after() {
        let listening = Listening::open(any_port(), 1).expect("a free port");
        let address = listening.address();
        let socket = listening.into_sockets().remove(0);
        let listener = TcpListener::from_std(socket).expect("in a runtime");
        let before = tokio::net::TcpStream::connect(address).await.expect("connected before");
        refuse_new_handshakes(&listener).expect("filter attached");
        let late = std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(50));
        assert!(late.is_err(), "a handshake after the filter must not complete");
        let (accepted, peer) = listener.accept().await.expect("who came before is served");
        assert_eq!(peer, before.local_addr().expect("connected"));
        drop(accepted);
    }
}
