//! Host and port as they stand in `Host`, `:authority` and absolute-form targets (RFC 3986 section 3.2).

/// A host in its one normal form (lower case, no trailing dot, IPv6 in brackets) and the port, if one was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host as it was written, without the port.
    pub host: &'a str,
    /// The port, if one was given.
    pub port: Option<u16>,
}

/// What is wrong with an authority. The client's fault; sending it again does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// A byte that no host name holds; user information (`user@`) counts as such.
    #[error("the host has a character that hosts do not have")]
    Character,
    /// The port is no number from 0 to 65535.
    #[error("the port is not a number from 0 to 65535")]
    Port,
    /// An IPv6 address that is none, or whose bracket does not close.
    #[error("the address in brackets is not an IPv6 address")]
    Address,
}

impl<'a> Authority<'a> {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`. An empty host is an empty host, as RFC 9110 allows.
    ///
    /// # Errors
    /// [`AuthorityError`] for what RFC 3986 does not allow, and for user information.
    pub fn parse(text: &'a [u8]) -> Result<Self, AuthorityError> {
        let text = std::str::from_utf8(text).map_err(|_| AuthorityError::Character)?;
        let (host, port) = match text.strip_prefix('[') {
            Some(_) => split_address(text)?,
            None => split_name(text)?,
        };
        Ok(Self { host, port: port.map(parse_port).transpose()?.flatten() })
    }

    /// The host in its normal form: lower case, without a trailing dot.
    pub fn write_host(&self, out: &mut String) {
        out.clear();
        let host = self.host.strip_suffix('.').unwrap_or(self.host);
        out.extend(host.chars().map(|letter| letter.to_ascii_lowercase()));
    }
}

fn split_address(text: &str) -> Result<(&str, Option<&str>), AuthorityError> {
    let end = text.find(']').ok_or(AuthorityError::Address)?;
    text[1..end].parse::<std::net::Ipv6Addr>().map_err(|_| AuthorityError::Address)?;
    match text[end + 1..].strip_prefix(':') {
        Some(port) => Ok((&text[..=end], Some(port))),
        None if text.len() == end + 1 => Ok((text, None)),
        None => Err(AuthorityError::Character),
    }
}

fn split_name(text: &str) -> Result<(&str, Option<&str>), AuthorityError> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    // RFC 3986 reg-name also allows sub-delims and percent-encoding; no name system has such names, attackers do.
    let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if host.bytes().all(is_host_byte) { Ok((host, port)) } else { Err(AuthorityError::Character) }
}

/// An empty port (`host:`) is allowed by RFC 3986 section 3.2.3 and means none.
fn parse_port(port: &str) -> Result<Option<u16>, AuthorityError> {
    if port.is_empty() {
        return Ok(None);
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AuthorityError::Port);
    }
    port.parse().map(Some).map_err(|_| AuthorityError::Port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, host: &str, port: Option<u16>) {
        let authority = Authority::parse(text.as_bytes()).expect("a valid authority");
        let mut normal = String::new();
        authority.write_host(&mut normal);
        assert_eq!((normal.as_str(), authority.port), (host, port), "{text}");
    }

    #[test]
    fn rfc3986_3_2_hosts_and_ports_are_told_apart() {
        check("Shop.Example.COM", "shop.example.com", None);
        check("shop.example.com.:8080", "shop.example.com", Some(8080));
        check("[::1]:80", "[::1]", Some(80));
        check("[2001:DB8::1]", "[2001:db8::1]", None);
        check("host:", "host", None);
        check("", "", None);
    }

    #[test]
    fn what_is_no_authority_is_refused() {
        use AuthorityError::{Address, Character, Port};
        for (text, error) in [
            ("user@host", Character),
            ("a b", Character),
            ("a/b", Character),
            ("h\u{e9}", Character),
            ("host:+80", Port),
            ("host:65536", Port),
            ("host:80:80", Port),
            ("[::1", Address),
            ("[zz]", Address),
            ("[::1]x", Character),
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), Err(error), "{text}");
        }
    }
}
