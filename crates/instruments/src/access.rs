//! One line of the access log: what a request was, what became of it, and whose doing that was.
//!
//! It is encoded once, by the thread that served the request, straight into that thread's buffer: no allocation, no
//! system call, no second representation. The alternative, sending the fields to a writer that encodes them, costs a
//! copy of each string more and saves nothing in sum. What the same names always give is encoded before
//! ([`Plate`], [`AddressText`]). What a line costs is in `docs/performance.md`.

use std::time::Duration;

use crate::json::{push_escaped, push_json_string, push_seconds, push_u64, six, three};
use crate::plate::{AddressText, Plate};
use crate::rfc3339::Timestamp;
use crate::trace::TraceId;

/// What is known of a request when its answer is through. Empty texts are left out of the line.
#[derive(Debug, Clone, Copy)]
pub struct AccessRecord<'a> {
    /// When its head was complete, since 1970.
    pub time: Duration,
    /// The keys of the connection: `listener`, `client` where nobody claims another, and `host` where it is the usual one.
    pub connection: &'a Plate,
    /// Who asked, where a trusted proxy says so; else it is the connection's.
    pub client: Option<&'a AddressText>,
    /// The keys `user` and `auth`, of somebody who proved who they are.
    pub asker: Option<&'a Plate>,
    /// `GET` …
    pub method: &'a str,
    /// The host asked for, where `connection` does not say it.
    pub host: &'a str,
    /// The path as sent.
    pub path: &'a str,
    /// The query as sent, without its question mark.
    pub query: Option<&'a str>,
    /// `HTTP/1.1`, `HTTP/2` …
    pub protocol: &'a str,
    /// Status of the answer; 0 when there was none because the client had gone.
    pub status: u16,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were sent.
    pub bytes_out: u64,
    /// From the head's arrival to the last byte.
    pub duration: Duration,
    /// The keys `route`, the one that matched, and `service`, where it went to.
    pub way: &'a Plate,
    /// The key `instance`, of the one that answered last.
    pub instance: Option<&'a Plate>,
    /// Attempts made towards the service; 0 when it answered from Terrace itself.
    pub tries: u32,
    /// The request id.
    pub request_id: RequestId<'a>,
    /// The trace, where requests are traced, by its digits ([`TraceId::digits`]).
    pub trace: Option<&'a [u8; TraceId::DIGITS]>,
    /// How it ended and whose doing that was, such as `ok`, `client.gone`, `upstream.timeout`, `terrace.overload`.
    pub outcome: &'a str,
}

/// How a request is called, as a log line has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestId<'a> {
    /// An id of ours: 32 hexadecimal digits.
    Digits(&'a [u8; TraceId::DIGITS]),
    /// Another's.
    Text(&'a str),
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
    ///
    /// What is of one length comes first, so that it is one copy for nearly every request, with the digits put in their
    /// places.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, stamp: &mut Timestamp, query: QueryValues) {
        let time = stamp.bytes(self.time);
        match (self.request_id, self.trace) {
            (RequestId::Digits(request), Some(trace)) if self.is_usual() => {
                self.encode_usual(out, time, (request, trace));
            }
            _ => self.encode_unusual(out, time),
        }
        self.encode_names(out);
        out.extend_from_slice(b",\"path\":\"");
        push_escaped(out, self.path.as_bytes());
        if let Some(asked) = self.query {
            push_query(out, asked.as_bytes(), query);
        }
        out.extend_from_slice(b"\",\"bytes_out\":");
        push_u64(out, self.bytes_out);
        out.extend_from_slice(b"}\n");
    }

    #[inline]
    fn is_usual(&self) -> bool {
        (100..1_000).contains(&self.status)
            && self.duration.as_secs() < 10
            && (self.tries, self.bytes_in) == (1, 0)
            && (self.outcome, self.method, self.protocol) == ("ok", "GET", "HTTP/1.1")
    }

    #[inline]
    fn encode_usual(
        &self,
        out: &mut Vec<u8>,
        time: &[u8; Timestamp::BYTES],
        (request, trace): (&[u8; TraceId::DIGITS], &[u8; TraceId::DIGITS]),
    ) {
        const USUAL: &[u8; 264] = b"{\"time\":\"1970-01-01T00:00:00.000000Z\",\"event\":\"access\",\"status\":000,\"duration_seconds\":0.000000,\"outcome\":\"ok\",\"tries\":1,\"method\":\"GET\",\"protocol\":\"HTTP/1.1\",\"request_id\":\"00000000000000000000000000000000\",\"trace_id\":\"00000000000000000000000000000000\",\"bytes_in\":0";
        const TIME_AT: usize = b"{\"time\":\"".len();
        const STATUS_AT: usize = TIME_AT + Timestamp::BYTES + b"\",\"event\":\"access\",\"status\":".len();
        const SECONDS_AT: usize = STATUS_AT + b"000,\"duration_seconds\":".len();
        const TRACE_AT: usize = USUAL.len() - b"\",\"bytes_in\":0".len() - TraceId::DIGITS;
        const REQUEST_AT: usize = TRACE_AT - b"\",\"trace_id\":\"".len() - TraceId::DIGITS;
        out.extend_from_slice(USUAL);
        let line = out.last_chunk_mut::<{ USUAL.len() }>().expect("invariant: it was just written");
        line[TIME_AT..TIME_AT + Timestamp::BYTES].copy_from_slice(time);
        line[STATUS_AT..STATUS_AT + 3].copy_from_slice(&three(u32::from(self.status)));
        line[SECONDS_AT] = b'0' + self.duration.as_secs() as u8;
        line[SECONDS_AT + 2..SECONDS_AT + 8].copy_from_slice(&six(self.duration.subsec_micros()));
        line[REQUEST_AT..REQUEST_AT + TraceId::DIGITS].copy_from_slice(request);
        line[TRACE_AT..TRACE_AT + TraceId::DIGITS].copy_from_slice(trace);
    }

    fn encode_unusual(&self, out: &mut Vec<u8>, time: &[u8; Timestamp::BYTES]) {
        let subsecond = u64::from(self.duration.subsec_micros());
        let micros = self.duration.as_secs().saturating_mul(1_000_000).saturating_add(subsecond);
        out.extend_from_slice(b"{\"time\":\"");
        out.extend_from_slice(time);
        out.extend_from_slice(b"\",\"event\":\"access\",\"status\":");
        push_u64(out, u64::from(self.status));
        out.extend_from_slice(b",\"duration_seconds\":");
        push_seconds(out, micros);
        out.extend_from_slice(b",\"outcome\":");
        push_json_string(out, self.outcome);
        out.extend_from_slice(b",\"tries\":");
        push_u64(out, u64::from(self.tries));
        out.extend_from_slice(b",\"method\":");
        push_json_string(out, self.method);
        out.extend_from_slice(b",\"protocol\":");
        push_json_string(out, self.protocol);
        out.extend_from_slice(b",\"request_id\":\"");
        match self.request_id {
            RequestId::Digits(digits) => out.extend_from_slice(digits),
            RequestId::Text(text) => push_escaped(out, text.as_bytes()),
        }
        if let Some(digits) = self.trace {
            out.extend_from_slice(b"\",\"trace_id\":\"");
            out.extend_from_slice(digits);
        }
        out.extend_from_slice(b"\",\"bytes_in\":");
        push_u64(out, self.bytes_in);
    }

    /// Who asked whom: all but the host of a connection's later requests is encoded before.
    #[inline]
    fn encode_names(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.connection.bytes());
        if let Some(client) = self.client {
            out.extend_from_slice(b",\"client\":\"");
            out.extend_from_slice(client.as_bytes());
            out.push(b'"');
        }
        if let Some(asker) = self.asker {
            out.extend_from_slice(asker.bytes());
        }
        if !self.host.is_empty() {
            out.extend_from_slice(b",\"host\":\"");
            push_escaped(out, self.host.as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(self.way.bytes());
        if let Some(instance) = self.instance {
            out.extend_from_slice(instance.bytes());
        }
    }
}

fn push_query(out: &mut Vec<u8>, asked: &[u8], query: QueryValues) {
    if query == QueryValues::Shown {
        out.push(b'?');
        return push_escaped(out, asked);
    }
    for (index, pair) in asked.split(|byte| *byte == b'&').enumerate() {
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
    use proptest::prelude::*;

    use super::*;

    /// The plates and the client's address that a test's record points to.
    struct World {
        connection: Plate,
        way: Plate,
        instance: Plate,
    }

    impl World {
        fn new() -> Self {
            Self {
                connection: Plate::new(&[("client", "192.0.2.7"), ("listener", "public")]),
                way: Plate::new(&[("route", "orders"), ("service", "orders")]),
                instance: Plate::new(&[("instance", "orders-1")]),
            }
        }

        fn record(&self) -> AccessRecord<'_> {
            AccessRecord {
                time: Duration::from_micros(1_700_000_000_000_001),
                connection: &self.connection,
                client: None,
                asker: None,
                method: "GET",
                host: "shop.example.com",
                path: "/orders/7",
                query: Some("expand=lines"),
                protocol: "HTTP/1.1",
                status: 200,
                bytes_in: 0,
                bytes_out: 1_234,
                duration: Duration::from_micros(1_500),
                way: &self.way,
                instance: Some(&self.instance),
                tries: 1,
                request_id: RequestId::Text("018f"),
                trace: Some(b"0af7651916cd43dd8448eb211c80319c"),
                outcome: "ok",
            }
        }
    }

    fn line(record: &AccessRecord<'_>, query: QueryValues) -> String {
        let mut out = Vec::new();
        record.encode(&mut out, &mut Timestamp::default(), query);
        String::from_utf8(out).unwrap()
    }

    fn parsed(record: &AccessRecord<'_>, query: QueryValues) -> serde_json::Value {
        serde_json::from_str(&line(record, query)).unwrap()
    }

    fn path(target: &str, query: QueryValues) -> String {
        let (path, asked) = target.split_once('?').unwrap();
        let world = World::new();
        let record = AccessRecord { path, query: Some(asked), ..world.record() };
        parsed(&record, query)["path"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_request_is_one_json_line() {
        assert_eq!(
            line(&World::new().record(), QueryValues::Sensitive),
            concat!(
                r#"{"time":"2023-11-14T22:13:20.000001Z","event":"access","status":200,"#,
                r#""duration_seconds":0.001500,"outcome":"ok","tries":1,"method":"GET","protocol":"HTTP/1.1","#,
                r#""request_id":"018f","trace_id":"0af7651916cd43dd8448eb211c80319c","bytes_in":0,"#,
                r#""client":"192.0.2.7","listener":"public","host":"shop.example.com","#,
                r#""route":"orders","service":"orders","instance":"orders-1","#,
                r#""path":"/orders/7?expand=lines","bytes_out":1234}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let world = World::new();
        let bare = AccessRecord { trace: None, query: None, instance: None, tries: 0, ..world.record() };
        let parsed = parsed(&bare, QueryValues::Sensitive);
        assert_eq!((&parsed["path"], &parsed["tries"]), (&"/orders/7".into(), &0.into()));
        assert!(parsed.get("trace_id").is_none() && parsed.get("instance").is_none());
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
    fn who_proved_who_they_are_is_shown() {
        let (world, asker) = (World::new(), Plate::new(&[("user", "ann \"a\""), ("auth", "jwt")]));
        let parsed = parsed(&AccessRecord { asker: Some(&asker), ..world.record() }, QueryValues::Sensitive);
        assert_eq!((&parsed["user"], &parsed["auth"]), (&"ann \"a\"".into(), &"jwt".into()));
    }

    #[test]
    fn a_client_that_a_trusted_proxy_names_is_shown() {
        let (world, client) = (World::new(), AddressText::new([203, 0, 113, 9].into()));
        let connection = Plate::new(&[("listener", "public")]);
        let record = AccessRecord { connection: &connection, client: Some(&client), ..world.record() };
        let parsed = parsed(&record, QueryValues::Sensitive);
        assert_eq!((&parsed["client"], &parsed["listener"]), (&"203.0.113.9".into(), &"public".into()));
    }

    proptest! {
        /// However numbers and ids come together, the line says what the record says: the short ways are no others.
        #[test]
        fn every_way_of_writing_a_line_says_the_same(
            status in 0_u16..1_200,
            micros in prop_oneof![0_u64..20_000_000, any::<u64>()],
            (bytes_in, bytes_out) in prop_oneof![Just((0, 0)), any::<(u64, u64)>()],
            tries in 0_u32..3,
            (is_traced, is_ours, is_common) in any::<(bool, bool, bool)>(),
            instance in prop_oneof![Just(""), Just("orders-1")],
            outcome in prop_oneof![Just("ok"), Just("client.gone")],
        ) {
            let (world, digits) = (World::new(), b"00112233445566778899aabbccddeeff");
            let plate = Plate::new(&[("instance", instance)]);
            let record = AccessRecord {
                status,
                duration: Duration::from_micros(micros),
                bytes_in,
                bytes_out,
                tries,
                trace: is_traced.then_some(b"0af7651916cd43dd8448eb211c80319c"),
                request_id: if is_ours { RequestId::Digits(digits) } else { RequestId::Text("given") },
                method: if is_common { "GET" } else { "PUT" },
                protocol: if is_common { "HTTP/1.1" } else { "HTTP/2" },
                instance: Some(&plate),
                outcome,
                ..world.record()
            };
            let parsed = parsed(&record, QueryValues::Sensitive);
            prop_assert_eq!(parsed["status"].as_u64(), Some(u64::from(status)));
            let seconds = parsed["duration_seconds"].as_f64().unwrap();
            prop_assert!((seconds - micros as f64 / 1e6).abs() <= seconds * 1e-12);
            prop_assert_eq!(parsed["bytes_in"].as_u64(), Some(bytes_in));
            prop_assert_eq!(parsed["bytes_out"].as_u64(), Some(bytes_out));
            prop_assert_eq!(parsed["tries"].as_u64(), Some(u64::from(tries)));
            prop_assert_eq!(parsed.get("trace_id").is_some(), is_traced);
            let id = if is_ours { "00112233445566778899aabbccddeeff" } else { "given" };
            prop_assert_eq!(parsed["request_id"].as_str(), Some(id));
            prop_assert_eq!(parsed["method"].as_str(), Some(record.method));
            prop_assert_eq!(parsed["protocol"].as_str(), Some(record.protocol));
            prop_assert_eq!(parsed["instance"].as_str().unwrap_or_default(), instance);
            prop_assert_eq!(parsed["outcome"].as_str(), Some(outcome));
        }

        /// Whatever a client sends stays inside its own value.
        #[test]
        fn no_text_can_forge_a_line(
            method in any::<String>(),
            host in any::<String>(),
            target in any::<String>(),
            asked in any::<String>(),
            id in any::<String>(),
            outcome in any::<String>(),
        ) {
            let (world, plate) = (World::new(), Plate::new(&[("instance", &id)]));
            let forged = AccessRecord {
                method: &method,
                host: &host,
                path: &target,
                query: Some(&asked),
                protocol: &outcome,
                instance: Some(&plate),
                request_id: RequestId::Text(&id),
                outcome: &outcome,
                ..world.record()
            };
            let line = line(&forged, QueryValues::Shown);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let commands = ['\u{1b}', '\u{7f}', '\r'];
            prop_assert!(!line.contains(commands));
            let parsed = parsed(&forged, QueryValues::Shown);
            let texts = [
                ("method", &method), ("request_id", &id), ("outcome", &outcome), ("protocol", &outcome),
            ];
            for (key, text) in texts {
                prop_assert_eq!(parsed[key].as_str(), Some(text.as_str()));
            }
            prop_assert_eq!(parsed["host"].as_str().unwrap_or_default(), host);
            prop_assert_eq!(parsed["path"].as_str().unwrap(), format!("{target}?{asked}"));
            prop_assert_eq!(parsed["client"].as_str(), Some("192.0.2.7"));
            prop_assert_eq!(parsed["status"].as_u64(), Some(200));
        }
    }
}
