//! A hop that is kept, and its spans: the request as it was taken, and beneath it each step of its way.
//!
//! It is kept as it was noted, with the names that it needs, since a reload may take them away. Spans are made for whoever
//! looks, and for a collector: they take ten times the room, and most are never looked at.
//!
//! | span | kind | from … to |
//! |---|---|---|
//! | `GET /orders/*` | server | the request's head … the last byte of its answer |
//! | `route` | internal | the head … the first try: route, bounds, admission |
//! | `wait` | internal | a try's failure … the next try: the policy's back-off |
//! | `try` | client | an endpoint picked … its answer whole, or its failure |
//! | `connect` | internal | a connection dialled … established, with TLS where there is one |
//! | `request body` | internal | the try, or the connection … the request's last byte sent |
//! | `first byte` | internal | the try, or the connection … the answer's head |
//! | `response body` | internal | the answer's head … its last byte |
//!
//! Names and attributes are those of OpenTelemetry's semantic conventions for HTTP where they have one (stable since
//! 1.23); what only Terrace knows begins with `terrace.`. Names come from the file, never from a request, so that a
//! backend that groups by them holds.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use terrace_http::Version;
use terrace_instruments::{
    AddressText, BLOCK_BYTES, Hop, Kept, Span, SpanId, SpanKind, SpanStatus, TraceId, Value,
};

use crate::flight::{Flight, Try};
use crate::snapshot::{Names, RouteName};

/// Whose spans they are.
pub(crate) static TERRACE: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("terrace"));
/// Of which instance.
pub(crate) static NOBODY: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));

/// Numbers of a hop's parts ([`crate::trace::Place::part`]) that are no tries: each kind has room for one a try.
const ROUTE: u64 = 1 << 32;
const WAIT: u64 = 2 << 32;
const CONNECT: u64 = 3 << 32;
const UPLOAD: u64 = 4 << 32;
const FIRST_BYTE: u64 = 5 << 32;
const DOWNLOAD: u64 = 6 << 32;
/// A gap between two tries that is shorter is no wait, only the work in between.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// Attributes of the span of a hop that went well.
const ATTRIBUTES_USUAL: usize = 20;

type Attributes = Vec<(Cow<'static, str>, Value)>;

/// A hop that is kept.
#[derive(Debug)]
pub(crate) struct KeptFlight {
    flight: Flight,
    why: Kept,
    /// The time of day at the clock's start, since 1970.
    wall_at_start: Duration,
    route: Option<Arc<RouteName>>,
    service: Option<Arc<str>>,
    listener: Arc<str>,
}

impl KeptFlight {
    pub(crate) fn new(flight: Flight, names: &Names, wall_at_start: Duration, why: Kept) -> Self {
        Self {
            route: names.route(flight.route).cloned(),
            service: flight.service.map(|service| Arc::clone(names.service(service))),
            listener: Arc::clone(names.listener(flight.listener)),
            flight,
            why,
            wall_at_start,
        }
    }

    /// Bytes of its names, with the counts in front of each.
    fn names_bytes(&self) -> usize {
        const SHARED: usize = 2 * size_of::<usize>() + BLOCK_BYTES;
        let route = self.route.as_ref().map_or(0, |route| {
            size_of::<RouteName>() + route.name.len() + route.pattern.len() + 2 * SHARED + BLOCK_BYTES
        });
        let service = self.service.as_ref().map_or(0, |service| service.len() + SHARED);
        route + service + self.listener.len() + SHARED
    }
}

impl Hop for KeptFlight {
    fn trace(&self) -> TraceId {
        self.flight.place.trace
    }

    fn route(&self) -> Option<&Arc<str>> {
        self.route.as_ref().map(|route| &route.name)
    }

    fn is_trouble(&self) -> bool {
        self.flight.is_error || matches!(self.why, Kept::Error | Kept::Slow)
    }

    fn spans_count(&self) -> usize {
        let mut count = 2;
        let mut before = None;
        for attempt in self.flight.tries.iter() {
            count += 1 + usize::from(waited_since(before, attempt).is_some());
            parts(&self.flight, attempt, |_, _, _| count += 1);
            before = Some(attempt);
        }
        count
    }

    fn bytes(&self) -> usize {
        // A list shows the names once more.
        size_of::<Self>() + BLOCK_BYTES + self.flight.held_bytes() + 2 * self.names_bytes()
    }

    fn spans(&self) -> Vec<Span> {
        let flight = &self.flight;
        let mut spans = Vec::with_capacity(self.spans_count());
        spans.push(self.server());
        let decided = flight.tries.iter().next().map_or(flight.ended, |first| first.began());
        spans.push(self.part(ROUTE, "route", flight.place.span, (flight.began, decided)));
        let mut before = None;
        for attempt in flight.tries.iter() {
            if let Some(failed) = waited_since(before, attempt) {
                let number = WAIT + u64::from(attempt.number);
                spans.push(self.part(number, "wait", flight.place.span, (failed, attempt.began())));
            }
            self.push_try(&mut spans, attempt);
            before = Some(attempt);
        }
        spans
    }
}

/// Since when a try was waited for, where that was long enough to be told.
fn waited_since(before: Option<&Try>, attempt: &Try) -> Option<Duration> {
    let (failed, _) = before.and_then(Try::failed)?;
    (attempt.began() >= failed + WAIT_MIN).then_some(failed)
}

/// Tells the steps of a try, in their order: number among the hop's parts, name, from when to when.
fn parts(flight: &Flight, attempt: &Try, mut tell: impl FnMut(u64, &'static str, (Duration, Duration))) {
    let ready = attempt.dialled().map_or_else(|| attempt.began(), |(_, to)| to);
    if let Some(time) = attempt.dialled() {
        tell(CONNECT, "connect", time);
    }
    if let Some(sent) = attempt.sent() {
        tell(UPLOAD, "request body", (ready, sent));
    }
    if let Some((head, _)) = attempt.head() {
        tell(FIRST_BYTE, "first byte", (ready, head));
        if attempt.failed().is_none() {
            tell(DOWNLOAD, "response body", (head, flight.ended));
        }
    }
}

impl KeptFlight {
    fn wall(&self, moment: Duration) -> SystemTime {
        SystemTime::UNIX_EPOCH + (self.wall_at_start + moment)
    }

    fn span(
        &self,
        id: SpanId,
        parent: Option<SpanId>,
        name: Cow<'static, str>,
        (from, to): (Duration, Duration),
    ) -> Span {
        Span {
            trace: self.flight.place.trace,
            id,
            parent,
            name,
            kind: SpanKind::Internal,
            service: Arc::clone(&TERRACE),
            instance: Arc::clone(&NOBODY),
            start: self.wall(from),
            duration: to.saturating_sub(from),
            status: SpanStatus::Unset,
            attributes: Vec::new(),
        }
    }

    fn part(&self, number: u64, name: &'static str, parent: SpanId, time: (Duration, Duration)) -> Span {
        self.span(self.flight.place.part(number), Some(parent), Cow::Borrowed(name), time)
    }

    fn server(&self) -> Span {
        let flight = &self.flight;
        let name = match &self.route {
            Some(route) => format!("{} {}", spoken(flight.method), route.pattern),
            None => spoken(flight.method).to_owned(),
        };
        let mut span =
            self.span(flight.place.span, flight.place.parent, Cow::Owned(name), (flight.began, flight.ended));
        span.kind = SpanKind::Server;
        span.status = status(flight.is_error);
        span.attributes = Vec::with_capacity(ATTRIBUTES_USUAL);
        self.put_request(&mut span.attributes);
        self.put_way(&mut span.attributes);
        span
    }

    fn put_request(&self, attributes: &mut Attributes) {
        let flight = &self.flight;
        put(attributes, "http.request.method", flight.method);
        put(attributes, "url.scheme", if flight.is_tls { "https" } else { "http" });
        put(attributes, "url.path", flight.path.to_text());
        put(attributes, "server.address", flight.host.to_text());
        put(attributes, "client.address", address(flight.client));
        put(attributes, "network.protocol.name", "http");
        put(attributes, "network.protocol.version", version(flight.version));
        if flight.status > 0 {
            put(attributes, "http.response.status_code", flight.status);
        }
        if let Some(error) = self.error() {
            put(attributes, "error.type", error);
        }
        put(attributes, "http.request.body.size", flight.bytes_in);
        put(attributes, "http.response.body.size", flight.bytes_out);
    }

    fn put_way(&self, attributes: &mut Attributes) {
        let flight = &self.flight;
        if let Some(route) = &self.route {
            put(attributes, "http.route", route.pattern.to_string());
            put(attributes, "terrace.route", route.name.to_string());
        }
        put(attributes, "terrace.listener", self.listener.to_string());
        if let Some(service) = &self.service {
            put(attributes, "terrace.service", service.to_string());
        }
        put(attributes, "terrace.outcome", flight.outcome.clone());
        put(attributes, "terrace.tries", flight.tries.last().map_or(0, |last| last.number));
        put(attributes, "terrace.own_answer", flight.is_own);
        put(attributes, "terrace.kept", self.why.as_str());
        for note in flight.notes.iter() {
            let (key, value) = note.attribute();
            put(attributes, key, value);
        }
    }

    /// What went wrong, in a word: as Terrace calls it, or else the status.
    fn error(&self) -> Option<Cow<'static, str>> {
        match (self.flight.is_error, self.flight.outcome.as_ref()) {
            (false, _) => None,
            (true, "ok") => Some(Cow::Owned(self.flight.status.to_string())),
            (true, _) => Some(self.flight.outcome.clone()),
        }
    }

    fn push_try(&self, spans: &mut Vec<Span>, attempt: &Try) {
        let id = self.flight.place.part(u64::from(attempt.number));
        spans.push(self.attempt(id, attempt));
        parts(&self.flight, attempt, |kind, name, time| {
            spans.push(self.part(kind + u64::from(attempt.number), name, id, time));
        });
    }

    fn attempt(&self, id: SpanId, attempt: &Try) -> Span {
        let flight = &self.flight;
        let ended = attempt.failed().map_or(flight.ended, |(at, _)| at);
        let time = (attempt.began(), ended);
        let mut span = self.span(id, Some(flight.place.span), Cow::Borrowed("try"), time);
        span.kind = SpanKind::Client;
        let is_last = flight.tries.last().is_some_and(|last| last.number == attempt.number);
        let error = match attempt.failed() {
            Some((_, error)) => Some(Cow::Borrowed(error)),
            None if is_last && !flight.is_own => self.error(),
            None => None,
        };
        span.status = status(error.is_some());
        let attributes = &mut span.attributes;
        attributes.reserve_exact(ATTRIBUTES_USUAL / 2);
        put(attributes, "http.request.method", flight.method);
        let address = address(attempt.sign.address().ip());
        put(attributes, "server.address", address.clone());
        put(attributes, "server.port", attempt.sign.address().port());
        put(attributes, "network.peer.address", address);
        put(attributes, "network.peer.port", attempt.sign.address().port());
        if let Some((_, status)) = attempt.head() {
            put(attributes, "http.response.status_code", status);
        }
        if let Some(error) = error {
            put(attributes, "error.type", error);
        }
        if attempt.number > 1 {
            put(attributes, "http.request.resend_count", attempt.number - 1);
        }
        if let Some(service) = &self.service {
            put(attributes, "terrace.service", service.to_string());
        }
        put(attributes, "terrace.instance", attempt.sign.name().to_string());
        put(attributes, "terrace.connection_reused", attempt.dialled().is_none());
        span
    }
}

/// As [`AddressText`] writes it: the standard formatter costs ten times as much, and each kept try has three.
fn address(address: std::net::IpAddr) -> String {
    String::from_utf8_lossy(AddressText::new(address).as_bytes()).into_owned()
}

fn put(attributes: &mut Attributes, key: &'static str, value: impl Into<Value>) {
    attributes.push((Cow::Borrowed(key), value.into()));
}

fn status(is_error: bool) -> SpanStatus {
    if is_error { SpanStatus::Error } else { SpanStatus::Unset }
}

/// A method that is not known stands in a name as `HTTP` ("HTTP server semantic conventions", name).
fn spoken(method: &'static str) -> &'static str {
    if method == OTHER_METHOD { "HTTP" } else { method }
}

/// What OpenTelemetry calls a method that it does not know.
pub(crate) const OTHER_METHOD: &str = "_OTHER";

fn version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "1.0",
        Version::Http11 => "1.1",
        Version::Http2 => "2",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::tests::flight;
    use terrace_upstream::Sign;

    use crate::snapshot::RouteName;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn attempt(number: u32, began: u64) -> Try {
        let sign = Sign::new(format!("orders-{number}").into(), ([127, 0, 0, 1], 4000).into());
        Try::new(number, Arc::new(sign), ms(began))
    }

    fn names() -> Names {
        let route = RouteName { name: "orders".into(), pattern: "/orders/*".into() };
        Names::new(vec![route], vec!["orders".into()], vec!["public".into()])
    }

    fn kept(flight: &Flight) -> KeptFlight {
        KeptFlight::new(flight.clone(), &names(), Duration::ZERO, Kept::Sampled)
    }

    fn spans(flight: &Flight) -> Vec<Span> {
        kept(flight).spans()
    }

    fn attribute<'s>(span: &'s Span, key: &str) -> Option<&'s Value> {
        span.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    fn shown(spans: &[Span]) -> Vec<(String, u64, u64)> {
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        spans
            .iter()
            .map(|span| {
                (
                    span.name.to_string(),
                    since(span.start).as_millis() as u64,
                    span.duration.as_millis() as u64,
                )
            })
            .collect()
    }

    #[test]
    fn a_retried_request_shows_each_step_of_its_way() {
        let mut flight = flight(1);
        let mut first = attempt(1, 101);
        first.note_dialled(ms(101), ms(103));
        first.note_failed(ms(105), "connection_terminated");
        let mut second = attempt(2, 115);
        second.note_sent(ms(117));
        second.note_head(ms(120), 200);
        flight.tries.push(first);
        flight.tries.push(second);
        let spans = spans(&flight);
        let expected = [
            ("GET /orders/*", 100, 30),
            ("route", 100, 1),
            ("try", 101, 4),
            ("connect", 101, 2),
            ("wait", 105, 10),
            ("try", 115, 15),
            ("request body", 115, 2),
            ("first byte", 115, 5),
            ("response body", 120, 10),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(name, at, took)| ((*name).to_owned(), *at, *took)).collect();
        assert_eq!(shown(&spans), expected);
        let ids: std::collections::HashSet<SpanId> = spans.iter().map(|span| span.id).collect();
        assert_eq!(ids.len(), spans.len(), "every span has an id of its own");
        assert_eq!(spans[2].status, SpanStatus::Error);
        assert_eq!(attribute(&spans[2], "error.type"), Some(&"connection_terminated".into()));
        assert_eq!(spans[3].parent, Some(spans[2].id), "the steps hang under their try");
        assert_eq!(attribute(&spans[5], "http.request.resend_count"), Some(&1_u32.into()));
        assert_eq!(spans[0].status, SpanStatus::Unset);
        assert_eq!(kept(&flight).spans_count(), spans.len(), "they are counted without being made");
    }

    #[test]
    fn a_failed_request_says_whose_fault_it_was() {
        let mut flight = flight(1);
        (flight.status, flight.is_error) = (503, true);
        let by_status = spans(&flight);
        assert_eq!(attribute(&by_status[0], "error.type"), Some(&"503".into()));
        assert_eq!(by_status[0].status, SpanStatus::Error);
        flight.outcome = Cow::Borrowed("upstream.destination_unavailable");
        let by_word = spans(&flight);
        assert_eq!(attribute(&by_word[0], "error.type"), Some(&"upstream.destination_unavailable".into()));
    }

    #[test]
    fn names_are_of_the_file_whatever_a_client_sends() {
        let mut flight = flight(1);
        (flight.method, flight.route, flight.listener) = (OTHER_METHOD, 9, 9);
        let spans = spans(&flight);
        assert_eq!(spans[0].name, "HTTP");
        assert_eq!(attribute(&spans[0], "http.request.method"), Some(&"_OTHER".into()));
    }
}
