//! Reading the PROXY protocol header that a proxy in front puts before a connection's own bytes (haproxy.org,
//! proxy-protocol.txt). Where it is asked for it must be there, or the connection is closed: guessing would let a client
//! choose who it is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::config::ProxyProtocol;

const SIGNATURE_V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Section 2.1: a line of version 1 is at most 107 bytes, its line end included.
const V1_BYTES_MAX: usize = 107;
/// What we take of a header of version 2, extensions included; the specification asks for 536 to be accepted.
const V2_BYTES_MAX: usize = 4096;

/// Who is connected to whom, as the proxy in front says. `None` for its own connections (health checks).
pub type Named = Option<(SocketAddr, SocketAddr)>;

/// Why bytes are no such header. The proxy's fault, or that of a client that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Neither version, or not the one that was asked for.
    #[error("the connection does not begin with the PROXY protocol header that the listener asks for")]
    Absent,
    /// A line of version 1 that is none.
    #[error("the PROXY protocol line is malformed")]
    Line,
    /// A header of version 2 that is none.
    #[error("the PROXY protocol header is malformed")]
    Binary,
}

/// How far reading came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// At least that many bytes in all are needed.
    Partial(usize),
    /// The header took `bytes` bytes.
    Complete {
        /// Bytes of the header.
        bytes: usize,
        /// What it says.
        named: Named,
    },
}

/// Reads a header from the start of `bytes`.
///
/// # Errors
/// [`HeaderError`] when there is none, or not of an `accepted` version.
pub fn parse(bytes: &[u8], accepted: ProxyProtocol) -> Result<Progress, HeaderError> {
    let may_be_v1 = matches!(accepted, ProxyProtocol::V1 | ProxyProtocol::Any);
    let may_be_v2 = matches!(accepted, ProxyProtocol::V2 | ProxyProtocol::Any);
    let begins_like = |start: &[u8]| bytes.iter().zip(start).all(|(a, b)| a == b);
    if may_be_v2 && begins_like(SIGNATURE_V2) {
        return parse_v2(bytes);
    }
    if may_be_v1 && begins_like(b"PROXY ") {
        return parse_v1(bytes);
    }
    Err(HeaderError::Absent)
}

fn parse_v1(bytes: &[u8]) -> Result<Progress, HeaderError> {
    let shown = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = memchr::memmem::find(shown, b"\r\n") else {
        return if bytes.len() >= V1_BYTES_MAX {
            Err(HeaderError::Line)
        } else {
            Ok(Progress::Partial(bytes.len() + 1))
        };
    };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| HeaderError::Line)?;
    let named = parse_line(line).ok_or(HeaderError::Line)?;
    Ok(Progress::Complete { bytes: end + 2, named })
}

/// `PROXY TCP4 source destination source-port destination-port`, one space between.
fn parse_line(line: &str) -> Option<Named> {
    let mut words = line.strip_prefix("PROXY ")?.split(' ');
    let is_family = match words.next()? {
        "UNKNOWN" => return Some(None),
        "TCP4" => IpAddr::is_ipv4,
        "TCP6" => IpAddr::is_ipv6,
        _ => return None,
    };
    let source: IpAddr = words.next()?.parse().ok().filter(is_family)?;
    let destination: IpAddr = words.next()?.parse().ok().filter(is_family)?;
    let (source_port, destination_port) = (parse_port(words.next()?)?, parse_port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    Some(Some((SocketAddr::new(source, source_port), SocketAddr::new(destination, destination_port))))
}

fn parse_port(text: &str) -> Option<u16> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn parse_v2(bytes: &[u8]) -> Result<Progress, HeaderError> {
    const FIXED: usize = 16;
    if bytes.len() < FIXED {
        return Ok(Progress::Partial(FIXED));
    }
    let length = FIXED + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let (version, command, family) = (bytes[12] >> 4, bytes[12] & 15, bytes[13]);
    if version != 2 || command > 1 || length > V2_BYTES_MAX {
        return Err(HeaderError::Binary);
    }
    if bytes.len() < length {
        return Ok(Progress::Partial(length));
    }
    let named = match (command, family) {
        (0, _) => None,
        (_, 0x11) => Some(addresses::<4, Ipv4Addr>(&bytes[FIXED..length]).ok_or(HeaderError::Binary)?),
        (_, 0x21) => Some(addresses::<16, Ipv6Addr>(&bytes[FIXED..length]).ok_or(HeaderError::Binary)?),
        // Section 2.2: unspecified and other families are accepted, their addresses not used.
        _ => None,
    };
    Ok(Progress::Complete { bytes: length, named })
}

fn addresses<const N: usize, A: From<[u8; N]> + Into<IpAddr>>(
    bytes: &[u8],
) -> Option<(SocketAddr, SocketAddr)> {
    let address = |at: usize| Some(A::from(bytes.get(at..at + N)?.try_into().ok()?).into());
    let port = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let source = SocketAddr::new(address(0)?, port(2 * N)?);
    Some((source, SocketAddr::new(address(N)?, port(2 * N + 2)?)))
}

/// Reads the header from a connection that was just accepted, and not one byte beyond it.
///
/// # Errors
/// `InvalidData` with [`HeaderError`] when there is none, `UnexpectedEof` when the peer closes first.
pub async fn read(stream: &mut TcpStream, accepted: ProxyProtocol) -> io::Result<Named> {
    // The bytes are looked at where they wait, since those after the header belong to TLS or HTTP. Nothing tells when
    // more have come than were looked at, so a header in pieces, which no proxy sends, is looked at again and again.
    const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(2);
    let mut shown = vec![0; V2_BYTES_MAX];
    loop {
        let bytes = stream.peek(&mut shown).await?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match parse(&shown[..bytes], accepted) {
            Ok(Progress::Partial(_)) => tokio::time::sleep(LOOK_AGAIN).await,
            Ok(Progress::Complete { bytes, named }) => {
                stream.read_exact(&mut shown[..bytes]).await?;
                return Ok(named);
            }
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Progress, HeaderError> {
        parse(text.as_bytes(), ProxyProtocol::Any)
    }

    #[test]
    fn section_2_1_a_line_names_both_ends() {
        let text = "PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\nGET /";
        let named = Some(("192.0.2.1:5000".parse().expect("valid"), "192.0.2.2:443".parse().expect("valid")));
        assert_eq!(line(text), Ok(Progress::Complete { bytes: text.len() - 5, named }));
        assert_eq!(line("PROXY UNKNOWN what ever\r\n"), Ok(Progress::Complete { bytes: 25, named: None }));
        assert_eq!(line("PRO"), Ok(Progress::Partial(4)));
    }

    #[test]
    fn section_2_1_what_is_no_line_is_refused() {
        for text in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 5000\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 5000 443 1\r\n",
            "PROXY TCP4 ::1 ::1 5000 443\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 5000 443\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +5000 443\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 5000 443\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 5000 443\r\n",
        ] {
            assert_eq!(line(text), Err(HeaderError::Line), "{text}");
        }
        assert_eq!(line(&format!("PROXY TCP4 {}", "1".repeat(200))), Err(HeaderError::Line));
        assert_eq!(line("GET / HTTP/1.1\r\n"), Err(HeaderError::Absent));
        assert_eq!(parse(b"PROXY ", ProxyProtocol::V2), Err(HeaderError::Absent));
    }

    #[test]
    fn section_2_2_the_binary_header_names_both_ends() {
        let mut header = SIGNATURE_V2.to_vec();
        header.extend_from_slice(&[0x21, 0x11, 0, 15]);
        header.extend_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 1, 0xbb, 0xee, 0, 0]);
        let named = Some(("192.0.2.1:5000".parse().expect("valid"), "192.0.2.2:443".parse().expect("valid")));
        assert_eq!(parse(&header, ProxyProtocol::V2), Ok(Progress::Complete { bytes: 31, named }));
        for cut in 1..header.len() {
            assert!(
                matches!(parse(&header[..cut], ProxyProtocol::V2), Ok(Progress::Partial(more)) if more > cut)
            );
        }
        header[12] = 0x20;
        assert_eq!(parse(&header, ProxyProtocol::V2), Ok(Progress::Complete { bytes: 31, named: None }));
        header[12] = 0x31;
        assert_eq!(parse(&header, ProxyProtocol::V2), Err(HeaderError::Binary));
        header[12] = 0x21;
        header[15] = 8;
        assert_eq!(
            parse(&header, ProxyProtocol::V2),
            Err(HeaderError::Binary),
            "too short for its addresses"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64), cut in 0usize..16) {
            let _refused = parse(&bytes, ProxyProtocol::Any);
            let _refused = parse(&[&SIGNATURE_V2[..cut.min(12)], &bytes].concat(), ProxyProtocol::Any);
            let _refused = parse(&[b"PROXY ", &bytes[..]].concat(), ProxyProtocol::Any);
        }
    }
}
