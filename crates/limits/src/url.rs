//! Where a Redis is: `redis://[[user]:password@]host[:port][/database]`, with TLS as `rediss://`. What it prints leaves out
//! who logs in and with what.

use std::fmt;

const PORT: u16 = 6379;

/// The address of a Redis, and how to log in there.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RedisUrl {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: u16,
}

/// A text that is no address of a Redis. It is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no URL of a Redis; write redis://host:6379/0, or rediss:// for TLS")]
pub struct NotARedisUrl;

impl RedisUrl {
    /// Reads one.
    ///
    /// # Errors
    /// [`NotARedisUrl`], which is the file's to put right.
    pub fn parse(text: &str) -> Result<Self, NotARedisUrl> {
        let (tls, rest) = match (text.strip_prefix("redis://"), text.strip_prefix("rediss://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(NotARedisUrl),
        };
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = match authority.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, authority),
        };
        let (host, port) = host_and_port(address)?;
        let database = if database.is_empty() { 0 } else { database.parse().map_err(|_| NotARedisUrl)? };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            None => (None, None),
        };
        Ok(Self { tls, host, port, user, password, database })
    }
}

fn host_and_port(address: &str) -> Result<(String, u16), NotARedisUrl> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(NotARedisUrl)?,
        None => address.split_once(':').map_or((address, ""), |(host, _)| (host, &address[host.len()..])),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().map_err(|_| NotARedisUrl)?,
        None if port.is_empty() => PORT,
        None => return Err(NotARedisUrl),
    };
    let is_host = |letter: char| letter.is_ascii_alphanumeric() || "-._:".contains(letter);
    if host.is_empty() || !host.chars().all(is_host) {
        return Err(NotARedisUrl);
    }
    Ok((host.to_owned(), port))
}

/// `%2F` and the like (RFC 3986 section 2.1); nothing for an empty text.
fn decoded(text: &str) -> Result<Option<String>, NotARedisUrl> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        bytes.push(digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or(NotARedisUrl)?);
        rest = &tail[2..];
    }
    let text = String::from_utf8(bytes).map_err(|_| NotARedisUrl)?;
    Ok(if text.is_empty() { None } else { Some(text) })
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}/{}", self.host, self.port, self.database)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self}, login redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_leaves_out_is_as_everybody_has_it() {
        let url = RedisUrl::parse("redis://redis.internal").expect("a URL");
        assert_eq!((url.host.as_str(), url.port, url.database, url.tls), ("redis.internal", 6379, 0, false));
        let url = RedisUrl::parse("rediss://[::1]:7000/3").expect("a URL");
        assert_eq!((url.host.as_str(), url.port, url.database, url.tls), ("::1", 7000, 3, true));
        assert_eq!(url.to_string(), "rediss://[::1]:7000/3");
    }

    #[test]
    fn who_logs_in_is_read_and_never_printed() {
        let url = RedisUrl::parse("redis://limits:p%40ss%3Aword@127.0.0.1:6380/2").expect("a URL");
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("limits"), Some("p@ss:word")));
        let printed = format!("{url} {url:?}");
        assert!(!printed.contains("p@ss") && !printed.contains("limits"), "{printed}");
        let url = RedisUrl::parse("redis://:secret@h").expect("a URL");
        assert_eq!((url.user, url.password.as_deref()), (None, Some("secret")));
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in [
            "",
            "redis://",
            "http://host",
            "redis://host:port",
            "redis://host/db",
            "redis://:%zz@host",
            "redis://:%4",
            "redis://ho st",
            "redis://[::1",
            "redis://[::1]7",
            "redis://:%+1@h",
        ] {
            assert_eq!(RedisUrl::parse(text), Err(NotARedisUrl), "{text}");
        }
    }
}
