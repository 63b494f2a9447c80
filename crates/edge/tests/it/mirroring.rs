//! Mirroring: copies of requests go to another service, and whatever becomes of them the original never knows.

use terrace_edge::{Action, Mirror, Network};
use terrace_instruments::{Span, TraceParent, TraceSettings, Value};
use terrace_policy::Share;
use terrace_runtime::clock;

use crate::message::Message;
use crate::rig::{PATIENCE, Rig, Setup, route};
use crate::traffic::{forward, get};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn mirror(setup: &mut Setup, compare: bool) {
    setup.beside = vec!["next"];
    let mut action = forward(setup, &[1]);
    if let Action::Forward { mirror, .. } = &mut action {
        let body_bytes_max = Mirror::BODY_BYTES_MAX;
        *mirror = Some(Mirror { to: 1, share: Share::ALL, compare, body_bytes_max });
    }
    setup.routes.push(route("shop", "shop.example/*", action));
}

fn rig() -> Rig {
    Rig::with(|setup| mirror(setup, false))
}

fn comparing() -> Rig {
    Rig::with(|setup| {
        mirror(setup, true);
        setup.traces = TraceSettings { on: true, sample: 0.0, slow: PATIENCE };
    })
}

fn post(body: &str) -> String {
    format!("POST /orders HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

impl Rig {
    /// The copy, which the other service answers with that.
    #[track_caller]
    fn copy(&self, answer: &str) -> Message {
        let mut origin = self.beside[0].accept();
        let request = origin.request();
        origin.send(answer.replacen("\r\n", "\r\nConnection: close\r\n", 1));
        request
    }

    #[track_caller]
    fn mirrored(&self, outcome: &str, count: u64) {
        self.counts("terrace_mirrored", &["shop", "next", outcome], count);
    }

    #[track_caller]
    fn compared(&self, result: &str, count: u64) {
        self.counts("terrace_mirror_compared", &["shop", "next", result], count);
    }
}

#[test]
fn a_copy_is_the_request_that_the_service_got_and_is_marked() {
    let rig = rig();
    let (request, answer) = rig.exchanges(post("hello"), OK);
    assert_eq!((answer.status(), answer.text(), request.text()), (200, "ok", "hello"));
    let copy = rig.copy("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((copy.line.as_str(), copy.text()), ("POST /orders HTTP/1.1", "hello"));
    assert_eq!(copy.field("x-terrace-mirror"), Some("shop"));
    assert_eq!(request.field("x-terrace-mirror"), None);
    assert_eq!(copy.field("x-request-id"), request.field("x-request-id"));
    rig.mirrored("answered", 1);
    assert_eq!(rig.counted("terrace_service_requests", &["next"]), 0, "no client was served by it");
}

#[test]
fn a_body_of_unknown_length_is_copied_whole() {
    let rig = rig();
    let asked = "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let (request, _) = rig.exchanges(asked, OK);
    assert_eq!(request.text(), "abcde");
    let copy = rig.copy(OK);
    assert_eq!((copy.text(), copy.field("content-length")), ("abcde", Some("5")));
}

#[test]
fn whatever_the_other_service_does_the_client_is_served() {
    let rig = rig();
    for _ in 0..3 {
        let (_, answer) = rig.exchanges(get("/", ""), OK);
        assert_eq!(answer.text(), "ok");
        drop(rig.beside[0].accept());
    }
    rig.mirrored("failed", 3);
    let (_, answer) = rig.exchanges(get("/", ""), OK);
    assert_eq!(answer.text(), "ok");
    let mut origin = rig.beside[0].accept();
    origin.request();
    origin.send("HTTP/1.1 garbage\r\n\r\n");
    rig.mirrored("failed", 4);
}

#[test]
fn a_request_that_the_service_failed_is_mirrored_too() {
    let rig = Rig::with(|setup| {
        setup.policy.retry.attempts_max = 1;
        mirror(setup, true);
    });
    let mut client = rig.client_that_sent(post("x"));
    let mut origin = rig.origin.accept();
    origin.request();
    drop(origin);
    assert_eq!(client.response().status(), 502);
    rig.copy(OK);
    rig.mirrored("answered", 1);
    assert_eq!(rig.counted("terrace_mirror_compared", &[]), 0, "there was nothing to hold it against");
}

#[test]
fn a_body_that_is_too_large_is_not_copied() {
    let rig = rig();
    let large = "x".repeat(Mirror::BODY_BYTES_MAX + 1);
    let (request, _) = rig.exchanges(post(&large), OK);
    assert_eq!(request.body.len(), large.len());
    let head = "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (request, _) = rig.exchanges(format!("{head}{:x}\r\n{large}\r\n0\r\n\r\n", large.len()), OK);
    assert_eq!(request.body.len(), large.len());
    rig.mirrored("too_large", 2);
    rig.beside[0].heard_nothing();
}

#[test]
fn a_body_that_breaks_off_is_not_copied() {
    let rig = rig();
    let mut client = rig.client_that_sent(post("hello").trim_end_matches("lo"));
    let mut origin = rig.origin.accept();
    origin.head();
    client.half_close();
    client.ends();
    rig.mirrored("unfinished", 1);
    rig.beside[0].heard_nothing();
}

#[test]
fn a_mark_is_a_trusted_neighbours_and_a_marked_request_is_not_copied_again() {
    let mark = get("/", "X-Terrace-Mirror: other\r\nX_Terrace_Mirror: other\r\n");
    let rig = rig();
    let (request, _) = rig.exchanges(&mark, OK);
    assert_eq!(request.field("x-terrace-mirror"), None, "anybody could say so");
    assert_eq!(request.field("x_terrace_mirror"), None, "nor in other letters");
    rig.copy(OK);
    let rig = Rig::with(|setup| {
        mirror(setup, false);
        setup.listener.trusted_proxies = vec![Network::new([127, 0, 0, 1].into(), 32)];
    });
    let (request, _) = rig.exchanges(&mark, OK);
    assert_eq!(request.field("x-terrace-mirror"), Some("other"));
    rig.drain();
    rig.beside[0].heard_nothing();
}

#[test]
fn what_the_other_service_does_not_answer_takes_no_more_than_its_lane() {
    let rig = rig();
    for _ in 0..70 {
        let (_, answer) = rig.exchanges(get("/", ""), OK);
        assert_eq!(answer.text(), "ok");
    }
    rig.mirrored("full", 6);
}

#[test]
fn answers_are_compared_by_status_and_by_body() {
    let rig = comparing();
    let compared = |real: &str, copy: &str| {
        rig.exchanges(get("/", ""), real);
        rig.copy(copy);
    };
    compared(OK, "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n");
    rig.compared("same", 1);
    compared(OK, "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nok");
    rig.compared("status", 1);
    compared(OK, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
    rig.compared("body", 1);
}

#[test]
fn a_difference_has_its_trace_kept_with_both_answers() {
    let rig = comparing();
    let (request, _) = rig.exchanges(get("/", ""), OK);
    let copy = rig.copy("HTTP/1.1 500 X\r\nContent-Length: 5\r\n\r\nwrong");
    let told = |message: &Message| {
        let value = message.field("traceparent").expect("a traceparent").to_owned();
        TraceParent::parse(value.as_bytes()).expect("valid")
    };
    assert_eq!(told(&copy).trace, told(&request).trace);
    let until = clock::now() + PATIENCE;
    let mut spans: Vec<Span> = Vec::new();
    while !["mirror", "GET /*"].iter().all(|name| spans.iter().any(|span| span.name == *name)) {
        rig.edge.sweep();
        spans.extend(rig.spans.take_spans());
        assert!(clock::now() < until, "{spans:?}");
        std::thread::yield_now();
    }
    let of = |name: &str| spans.iter().find(|span| span.name == name).expect("a span");
    let (server, mirror) = (of("GET /*"), of("mirror"));
    assert_eq!((mirror.trace, mirror.parent), (server.trace, Some(server.id)));
    assert_eq!(mirror.id, told(&copy).parent, "the copy's own spans hang under it");
    let attribute = |span: &Span, key: &str| {
        span.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    };
    assert_eq!(attribute(mirror, "http.response.status_code"), Some(500_u16.into()));
    assert_eq!(attribute(mirror, "terrace.mirror.original.status_code"), Some(200_u16.into()));
    assert_eq!(attribute(mirror, "terrace.mirror.difference"), Some("status".into()));
    assert_eq!(attribute(server, "terrace.mirrored"), Some(Value::Bool(true)));
    assert_eq!(attribute(server, "terrace.kept"), Some("differed".into()));
}
