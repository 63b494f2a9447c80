//! One line of the access log: what a request was, what became of it, and whose doing that was.
//!
//! It is encoded once, by the thread that served the request, straight into that thread's buffer: no allocation, no
//! system call, no second representation. The alternative, sending the fields to a writer that encodes them, costs a
//! copy of each string more and saves nothing in sum. A line of 400 bytes costs about 3,000 instructions (callgrind), and
//! with the writer's share under 0.005 system calls (strace, at 40,000 a second).

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::json::{push_escaped, push_json_string, push_seconds, push_u64};
use crate::rfc3339::Timestamp;

/// What is known of a request when its answer is through. Empty texts are left out of the line.
#[derive(Debug, Clone, Copy)]
pub struct AccessRecord<'a> {
    /// When its head was complete.
    pub time: SystemTime,
    /// The listener that took it.
    pub listener: &'a str,
    /// Who asked, after trusted proxies.
    pub client: IpAddr,
    /// `GET` …
    pub method: &'a str,
    /// The host asked for.
    pub host: &'a str,
    /// Path and query as sent.
    pub path: &'a str,
    /// `HTTP/1.1`, `HTTP/2.0` …
    pub protocol: &'a str,
    /// Status of the answer; 0 when there was none because the client had gone.
    pub status: u16,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were sent.
    pub bytes_out: u64,
    /// From the head's arrival to the last byte.
    pub duration: Duration,
    /// The route that matched.
    pub route: &'a str,
    /// The service it went to.
    pub service: &'a str,
    /// The instance that answered last.
    pub instance: &'a str,
    /// Attempts made towards the service; 0 when it answered from Terrace itself.
    pub tries: u32,
    /// The request id.
    pub request_id: &'a str,
    /// How it ended and whose doing that was, such as `ok`, `client.gone`, `upstream.timeout`, `terrace.overload`.
    pub outcome: &'a str,
}

/// What the access log shows of a query's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum QueryValues {
    /// All but the values of keys that commonly carry secrets (`token`, `password`, `signature` …).
    #[default]
    Sensitive,
    /// None: `?a=-&b=-`.
    Redacted,
    /// Everything as sent.
    Shown,
}

impl AccessRecord<'_> {
    /// Appends the record as one JSON line. `stamp` is the thread's own memory of the current second.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, stamp: &mut Timestamp, query: QueryValues) {
        out.extend_from_slice(b"{\"time\":\"");
        out.extend_from_slice(stamp.bytes(self.time));
        out.extend_from_slice(b"\",\"event\":\"access\",\"client\":\"");
        push_ip(out, self.client);
        out.extend_from_slice(b"\",\"status\":");
        push_u64(out, u64::from(self.status));
        out.extend_from_slice(b",\"duration_seconds\":");
        push_seconds(out, u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX));
        self.encode_request(out, query);
        self.encode_way(out);
        out.extend_from_slice(b"}\n");
    }

    fn encode_request(&self, out: &mut Vec<u8>, query: QueryValues) {
        push_text(out, b",\"method\":", self.method);
        push_text(out, b",\"host\":", self.host);
        out.extend_from_slice(b",\"path\":\"");
        push_path(out, self.path, query);
        out.push(b'"');
        push_text(out, b",\"protocol\":", self.protocol);
        push_text(out, b",\"request_id\":", self.request_id);
        out.extend_from_slice(b",\"bytes_in\":");
        push_u64(out, self.bytes_in);
        out.extend_from_slice(b",\"bytes_out\":");
        push_u64(out, self.bytes_out);
    }

    fn encode_way(&self, out: &mut Vec<u8>) {
        push_text(out, b",\"listener\":", self.listener);
        push_text(out, b",\"route\":", self.route);
        push_text(out, b",\"service\":", self.service);
        push_text(out, b",\"instance\":", self.instance);
        out.extend_from_slice(b",\"tries\":");
        push_u64(out, u64::from(self.tries));
        push_text(out, b",\"outcome\":", self.outcome);
    }
}

#[inline]
fn push_text(out: &mut Vec<u8>, key: &[u8], text: &str) {
    if !text.is_empty() {
        out.extend_from_slice(key);
        push_json_string(out, text);
    }
}

/// IPv4 by hand: the standard formatter costs more than the rest of the line's numbers together.
fn push_ip(out: &mut Vec<u8>, client: IpAddr) {
    match client.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            push_u64(out, u64::from(a));
            for octet in [b, c, d] {
                out.push(b'.');
                push_u64(out, u64::from(octet));
            }
        }
        IpAddr::V6(address) => out.extend_from_slice(address.to_string().as_bytes()),
    }
}

fn push_path(out: &mut Vec<u8>, target: &str, query: QueryValues) {
    let bytes = target.as_bytes();
    let cut = match (query, bytes.iter().position(|byte| *byte == b'?')) {
        (QueryValues::Shown, _) | (_, None) => return push_escaped(out, bytes),
        (_, Some(cut)) => cut,
    };
    push_escaped(out, &bytes[..cut]);
    for (index, pair) in bytes[cut + 1..].split(|byte| *byte == b'&').enumerate() {
        out.push(if index == 0 { b'?' } else { b'&' });
        push_pair(out, pair, query);
    }
}

fn push_pair(out: &mut Vec<u8>, pair: &[u8], query: QueryValues) {
    let key = match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => &pair[..at],
        None => return push_escaped(out, pair),
    };
    if query == QueryValues::Redacted || is_sensitive(key) {
        push_escaped(out, key);
        out.extend_from_slice(b"=-");
    } else {
        push_escaped(out, pair);
    }
}

/// Keys whose values open doors: OAuth 2 (RFC 6749, RFC 6750), presigned URLs, and what people call passwords.
fn is_sensitive(key: &[u8]) -> bool {
    const KEYS: [&[u8]; 6] = [b"key", b"sig", b"code", b"auth", b"pwd", b"authorization"];
    KEYS.iter().any(|word| key.eq_ignore_ascii_case(word))
        || (0..key.len()).any(|at| opens_sensitive_word(&key[at..]))
}

/// Decides by the first letter, so that a harmless key costs a look per letter and no comparison.
fn opens_sensitive_word(rest: &[u8]) -> bool {
    let words: &[&[u8]] = match rest[0].to_ascii_lowercase() {
        b't' => &[b"token"],
        b's' => &[b"secret", b"signature", b"session"],
        b'p' => &[b"passw"],
        b'a' => &[b"api_key", b"apikey", b"api-key"],
        b'c' => &[b"credential"],
        b'j' => &[b"jwt"],
        _ => return false,
    };
    words.iter().any(|word| rest.len() >= word.len() && rest[..word.len()].eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> AccessRecord<'static> {
        AccessRecord {
            time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001),
            listener: "public",
            client: IpAddr::from([192, 0, 2, 7]),
            method: "GET",
            host: "shop.example.com",
            path: "/orders/7?expand=lines",
            protocol: "HTTP/1.1",
            status: 200,
            bytes_in: 0,
            bytes_out: 1_234,
            duration: Duration::from_micros(1_500),
            route: "orders",
            service: "orders",
            instance: "orders-1",
            tries: 1,
            request_id: "018f",
            outcome: "ok",
        }
    }

    fn line(record: &AccessRecord<'_>, query: QueryValues) -> String {
        let mut out = Vec::new();
        record.encode(&mut out, &mut Timestamp::default(), query);
        String::from_utf8(out).unwrap()
    }

    fn path(target: &str, query: QueryValues) -> String {
        let line = line(&AccessRecord { path: target, ..record() }, query);
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        parsed["path"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_request_is_one_json_line() {
        assert_eq!(
            line(&record(), QueryValues::Sensitive),
            concat!(
                r#"{"time":"2023-11-14T22:13:20.000001Z","event":"access","client":"192.0.2.7","status":200,"#,
                r#""duration_seconds":0.001500,"method":"GET","host":"shop.example.com","#,
                r#""path":"/orders/7?expand=lines","protocol":"HTTP/1.1","request_id":"018f","bytes_in":0,"#,
                r#""bytes_out":1234,"listener":"public","route":"orders","service":"orders","#,
                r#""instance":"orders-1","tries":1,"outcome":"ok"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_a_client_sends_cannot_forge_a_line() {
        let forged = AccessRecord { host: "a\"}\n{\"status\":200", path: "/\u{1b}[2J\u{7f}", ..record() };
        let line = line(&forged, QueryValues::Shown);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.contains('\u{1b}') && !line.contains('\u{7f}'));
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["host"], forged.host);
    }

    #[test]
    fn secrets_in_a_query_do_not_reach_the_log() {
        let target = "/cb?code=S1&state=x&access_token=S2&X-Amz-Signature=S3&Password=S4&flag&sort=key";
        let shown = path(target, QueryValues::Sensitive);
        assert_eq!(shown, "/cb?code=-&state=x&access_token=-&X-Amz-Signature=-&Password=-&flag&sort=key");
        assert_eq!(path("/a?b=c&d", QueryValues::Redacted), "/a?b=-&d");
        assert_eq!(path(target, QueryValues::Shown), target);
    }

    #[test]
    fn ipv6_and_mapped_clients_read_as_people_write_them() {
        let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        assert!(
            line(&AccessRecord { client: mapped, ..record() }, QueryValues::Shown).contains("\"192.0.2.7\"")
        );
        assert!(
            line(&AccessRecord { client: six, ..record() }, QueryValues::Shown).contains("\"2001:db8::1\"")
        );
    }
}
