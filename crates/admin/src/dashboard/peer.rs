//! Which user of this machine is at the other end of a connection over loopback, as Linux tells it in `/proc/net/tcp`.
//!
//! `terrace dashboard --open` hands an address with a code to a browser, and everybody on the machine can read it among the
//! browser's arguments for as long as that starts. So such a code is for whoever asked for it alone, and this says who comes with it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where the system tells of connections.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// The user whose socket is bound to `client` and connected to `server`; nothing where the system does not say. Reads as much as there
/// are connections, so not on the control plane's thread.
pub(super) fn user_of(client: SocketAddr, server: SocketAddr) -> Option<u32> {
    TABLES.iter().find_map(|table| find(&fs::read_to_string(table).ok()?, client, server))
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid …` (proc_pid_net(5)).
fn find(table: &str, client: SocketAddr, server: SocketAddr) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
        let user = words.nth(4)?.parse().ok()?;
        (local == canonical(client) && remote == canonical(server)).then_some(user)
    })
}

/// Address and port in hexadecimal, the address in words of 32 bits in the machine's own order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = [0; 16];
    for (at, word) in bytes.chunks_exact_mut(4).enumerate().take(ip.len() / 8) {
        let hex = ip.get(at * 8..at * 8 + 8)?;
        word.copy_from_slice(&u32::from_str_radix(hex, 16).ok()?.to_ne_bytes());
    }
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        32 => IpAddr::V6(Ipv6Addr::from(bytes)),
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, port)))
}

/// An IPv4 address is one, also where a socket for both writes it as IPv6; what else IPv6 knows of an address is left out.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn who_connects_is_this_user() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(bind) else { continue };
            let server = listener.local_addr().unwrap();
            let client = TcpStream::connect(server).unwrap();
            let own = rustix::process::geteuid().as_raw();
            assert_eq!(user_of(client.local_addr().unwrap(), server), Some(own));
            assert_eq!(user_of("127.0.0.1:1".parse().unwrap(), server), None);
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_line_of_the_table_is_read_as_the_system_writes_it() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:C350 0100007F:26AC 01 00000000:00000000 00:00000000 00000000  1000        0 41 1\n\
                     1: 0000000000000000FFFF00000100007F:C351 0000000000000000FFFF00000100007F:26AC 01 0:0 0:0 0 7 0 1\n\
                     2: torn\n";
        let found =
            |port| find(table, SocketAddr::from(([127, 0, 0, 1], port)), "127.0.0.1:9900".parse().unwrap());
        assert_eq!([found(50_000), found(50_001), found(50_002)], [Some(1000), Some(7), None]);
    }
}
