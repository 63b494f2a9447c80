//! Upgrades, of which WebSocket is the one in use (RFC 6455, RFC 9110 section 7.8): two directions that end each by
//! itself, and what two servers could disagree about.

use std::time::Duration;

use terrace_instruments::{HistogramSnapshot, SeriesValue};
use terrace_runtime::clock;

use crate::rig::{Peer, Rig};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// An open tunnel through the edge.
fn tunnel(rig: &Rig) -> (Peer, Peer) {
    let mut client = rig.client_that_sent(ASK);
    let mut origin = rig.origin.accept();
    let request = origin.request();
    assert_eq!(request.field("connection"), Some("upgrade"));
    assert_eq!(request.field("upgrade"), Some("websocket"));
    origin.send(ACCEPT);
    let answer = client.head();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.field("connection"), Some("upgrade"));
    assert_eq!(answer.field("upgrade"), Some("websocket"));
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!((answer.field("transfer-encoding"), answer.field("content-length")), (None, None));
    (client, origin)
}

#[test]
fn bytes_go_both_ways_as_they_are() {
    let rig = Rig::new();
    let (mut client, mut origin) = tunnel(&rig);
    let all: Vec<u8> = (0..=255).collect();
    client.send(&all);
    assert_eq!(origin.exactly(256), all);
    origin.send(&all);
    assert_eq!(client.exactly(256), all);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(origin.until("\r\n\r\n"), "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "not read as a request");
}

/// The durations of the one request there was, once it is over.
fn durations(rig: &Rig, family: &str) -> HistogramSnapshot {
    loop {
        for found in rig.meter.collect().iter().filter(|found| found.family.name == family) {
            for series in &found.series {
                match &series.value {
                    SeriesValue::Histogram(durations) if durations.count() > 0 => return durations.clone(),
                    _ => {}
                }
            }
        }
        std::thread::yield_now();
    }
}

/// Lets at least as much time pass again as it took to open.
fn linger(took: Duration) {
    let until = clock::now() + took;
    while clock::now() <= until {
        std::thread::yield_now();
    }
}

#[test]
fn what_goes_on_for_hours_took_no_longer_than_its_opening() {
    let events = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    for (ask, answer) in [(ASK, ACCEPT), ("GET /events HTTP/1.1\r\nHost: a\r\n\r\n", events)] {
        let rig = Rig::new();
        let began = clock::now();
        let mut client = rig.client_that_sent(ask);
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send(answer);
        client.head();
        let opened = clock::now() - began;
        linger(opened);
        origin.send("data: last\n\n");
        drop(origin);
        drop(client);
        for family in ["terrace_request_duration", "terrace_service_request_duration"] {
            let waited = durations(&rig, family).sum();
            assert!(waited <= opened, "{family}: {waited:?}, opened after {opened:?}");
        }
    }
}

#[test]
fn large_messages_pass_in_both_directions_at_once() {
    let rig = Rig::new();
    let (mut client, mut origin) = tunnel(&rig);
    let large = vec![7_u8; 4 << 20];
    let echo = std::thread::spawn(move || {
        for _ in 0..64 {
            let bytes = origin.exactly(64 << 10);
            origin.send(&bytes);
        }
        origin
    });
    let mut writer = client.another();
    let sent = large.clone();
    let writing = std::thread::spawn(move || writer.send(&sent));
    assert!(client.exactly(large.len()) == large);
    writing.join().expect("all was sent");
    drop(echo.join().expect("all was echoed"));
    client.ends();
}

#[test]
fn when_the_client_has_said_all_the_origin_may_go_on() {
    let rig = Rig::new();
    let (mut client, mut origin) = tunnel(&rig);
    client.send("last");
    client.half_close();
    assert_eq!(origin.rest(), b"last");
    origin.send("still here");
    assert_eq!(client.exactly(10), b"still here");
    drop(origin);
    client.ends();
}

#[test]
fn when_the_origin_has_said_all_the_client_may_go_on() {
    let rig = Rig::new();
    let (mut client, mut origin) = tunnel(&rig);
    origin.send("last");
    origin.half_close();
    assert_eq!(client.rest(), b"last");
    client.send("still here");
    assert_eq!(origin.exactly(10), b"still here");
    drop(client);
    origin.ends();
}

#[test]
fn an_end_that_breaks_off_ends_the_other() {
    let rig = Rig::new();
    let (client, mut origin) = tunnel(&rig);
    client.reset();
    origin.ends();
    let (mut client, origin) = tunnel(&rig);
    origin.reset();
    client.ends();
}

#[test]
fn what_comes_right_behind_the_answer_is_not_lost() {
    let rig = Rig::new();
    let mut client = rig.client_that_sent(ASK);
    let mut origin = rig.origin.accept();
    origin.request();
    origin.send(format!("{ACCEPT}\x01hello"));
    client.head();
    assert_eq!(client.exactly(6), b"\x01hello");
}

#[test]
fn what_comes_right_behind_the_request_waits_for_the_answer() {
    let rig = Rig::new();
    let mut client = rig.client_that_sent(format!("{ASK}\x01early"));
    let mut origin = rig.origin.accept();
    origin.request();
    assert!(origin.unread.is_empty());
    origin.send(ACCEPT);
    assert_eq!(origin.exactly(6), b"\x01early");
    assert_eq!(client.head().status(), 101);
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer_and_what_came_behind_it_is_no_request() {
    let rig = Rig::new();
    let mut client = rig.client_that_sent(format!("{ASK}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"));
    let mut origin = rig.origin.accept();
    origin.request();
    origin.send("HTTP/1.1 426 Upgrade Required\r\nUpgrade: h3\r\nContent-Length: 2\r\n\r\nno");
    let answer = client.response();
    assert_eq!((answer.status(), answer.text(), answer.field("connection")), (426, "no", Some("close")));
    client.ends();
    let mut other = rig.client_that_sent("GET /other HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(origin.request().line, "GET /other HTTP/1.1", "the origin's connection is in step");
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    other.response();
}

#[test]
fn an_upgrade_with_a_body_is_not_asked_for() {
    let rig = Rig::new();
    for body in [
        "Content-Length: 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n26\r\nGET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n\r\n0\r\n\r\n",
    ] {
        let request = rig.passes(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{body}"
        ));
        assert_eq!((request.field("upgrade"), request.field("connection")), (None, None));
        assert_eq!(request.body.len(), 38);
    }
}

#[test]
fn an_upgrade_that_connection_does_not_name_is_none() {
    let rig = Rig::new();
    let request = rig.passes("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(request.field("upgrade"), None);
    let request =
        rig.passes("GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(request.field("upgrade"), None, "HTTP/1.0 has none");
    let request =
        rig.passes("POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(request.field("upgrade"), None);
}

#[test]
fn h2c_is_not_offered_to_the_origin_behind_the_edges_back() {
    let request = Rig::new().passes(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    );
    for gone in ["upgrade", "connection", "http2-settings"] {
        assert_eq!(request.field(gone), None, "{gone}");
    }
}
