//! What one client may take: time, connections, memory; and how connections end when it takes too much.

use std::time::Duration;

use terrace_edge::{Network, ProxyProtocol};

use crate::rig::{PATIENCE, Rig, respond};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const SHORT: Duration = Duration::from_millis(100);

#[test]
fn a_head_that_does_not_end_in_time_is_408() {
    let rig = Rig::with(|setup| setup.listener.bounds.head_time = SHORT);
    for bytes in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: "] {
        rig.refuses(bytes, 408);
    }
}

#[test]
fn a_head_that_trickles_in_is_408_however_often_a_byte_comes() {
    let rig = Rig::with(|setup| setup.listener.bounds.head_time = SHORT);
    let mut client = rig.client_that_sent("GET / HTTP/1.1\r\nHost: a\r\n");
    while client.try_send("X: y\r\n") && !client.has_bytes() {}
    assert!(matches!(client.response().status(), 408 | 431));
}

#[test]
fn a_connection_without_a_request_is_closed_after_its_idle_time() {
    let rig = Rig::with(|setup| {
        setup.listener.bounds.idle = SHORT;
        setup.routes.push(respond("own", "/own", 200, "own"));
    });
    rig.client().ends();
    let mut client = rig.client_that_sent("GET /own HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "own");
    client.ends();
}

#[test]
fn connections_over_the_listeners_bound_are_told_to_come_back_and_room_is_made_again() {
    let rig = Rig::with(|setup| setup.listener.bounds.connections_max = 2);
    over_the_bound(&rig);
}

#[test]
fn connections_over_one_clients_bound_are_told_to_come_back_and_room_is_made_again() {
    let rig = Rig::with(|setup| setup.listener.bounds.connections_per_client_max = 2);
    over_the_bound(&rig);
}

#[track_caller]
fn over_the_bound(rig: &Rig) {
    let (one, mut two) = (rig.client_that_sent(GET), rig.client_that_sent(GET));
    let mut origins = [rig.origin.accept(), rig.origin.accept()];
    for _ in 0..8 {
        let mut third =
            rig.client_that_sent(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{GET}"));
        let answer = third.response();
        assert_eq!((answer.status(), answer.field("retry-after")), (503, Some("1")));
        assert_eq!(answer.field("proxy-status"), Some("terrace; error=connection_limit_reached"));
        third.ends();
    }
    for origin in &mut origins {
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
    assert_eq!(two.response().text(), "ok");
    drop((one, two));
    // The places are given back when the edge has seen both close.
    let until = terrace_runtime::clock::now() + PATIENCE;
    while rig
        .client_that_sent("GET / HTTP/1.1\r\nHost: a\r\nVia: ".to_owned() + &"x,".repeat(30) + "\r\n\r\n")
        .response()
        .status()
        == 503
    {
        assert!(terrace_runtime::clock::now() < until, "the bound is not lifted");
    }
}

#[test]
fn clients_behind_a_proxy_are_counted_each_by_itself() {
    let rig = Rig::with(|setup| {
        setup.listener.bounds.connections_per_client_max = 1;
        setup.listener.proxy_protocol = ProxyProtocol::V1;
        setup.listener.trusted_proxies = vec![Network::new([127, 0, 0, 1].into(), 32)];
        setup.routes.push(respond("own", "/", 200, "own"));
    });
    let from = |address: &str| format!("PROXY TCP4 {address} 192.0.2.1 5000 80\r\n{GET}");
    let mut one = rig.client_that_sent(from("203.0.113.1"));
    assert_eq!(one.response().status(), 200);
    let mut two = rig.client_that_sent(from("203.0.113.2"));
    assert_eq!(two.response().status(), 200);
    assert_eq!(rig.client_that_sent(from("203.0.113.1")).response().status(), 503);
}

#[test]
fn a_client_that_reads_nothing_holds_the_origin_back() {
    let rig = Rig::new();
    let client = rig.client_that_sent(GET);
    let mut origin = rig.origin.accept();
    origin.request();
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    let taken = origin.send_until_full(&[b'x'; 64 << 10], 256 << 20);
    assert!(taken < 64 << 20, "{taken} bytes were taken for a client that reads none");
    drop(client);
    while origin.try_send([b'x'; 64 << 10]) {}
}

#[test]
fn an_origin_that_reads_nothing_holds_the_client_back() {
    let rig = Rig::new();
    let mut client = rig.client_that_sent("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
    let origin = rig.origin.accept();
    let taken = client.send_until_full(&[b'x'; 64 << 10], 256 << 20);
    assert!(taken < 64 << 20, "{taken} bytes were taken for an origin that reads none");
    drop(origin);
    assert_eq!(client.response().status(), 502);
}

#[test]
fn an_origin_that_stops_reading_for_too_long_is_a_gateway_timeout() {
    let rig = Rig::with(|setup| setup.policy.timeouts.idle = Some(SHORT));
    let mut client = rig.client_that_sent("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
    let _origin = rig.origin.accept();
    client.send_until_full(&[b'x'; 64 << 10], 256 << 20);
    assert_eq!(client.response().status(), 504);
}

#[test]
fn a_request_has_one_time_for_all_of_it() {
    let rig = Rig::with(|setup| setup.policy.timeouts.total = Some(SHORT));
    let mut client = rig.client_that_sent("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc");
    let _origin = rig.origin.accept();
    let answer = client.response();
    assert_eq!((answer.status(), answer.field("connection")), (408, Some("close")), "{answer:?}");
    client.ends();
}

#[test]
fn a_thousand_chunks_of_one_byte_pass() {
    let rig = Rig::new();
    let mut client = rig.client_that_sent("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut origin = rig.origin.accept();
    client.send("1\r\nx\r\n".repeat(1_000) + "0\r\n\r\n");
    assert_eq!(origin.request().body, vec![b'x'; 1_000]);
}

#[test]
fn large_bodies_pass_both_ways_at_once() {
    let rig = Rig::new();
    let body = vec![b'x'; 8 << 20];
    let mut client =
        rig.client_that_sent(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    let mut origin = rig.origin.accept();
    let mut writer = client.another();
    let sent = body.clone();
    let writing = std::thread::spawn(move || writer.send(&sent));
    let echoing = std::thread::spawn(move || {
        let length = origin.head().field("content-length").expect("a length").to_owned();
        origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
        for _ in 0..128 {
            let bytes = origin.exactly(64 << 10);
            origin.send(&bytes);
        }
        origin
    });
    assert!(client.response().body == body);
    writing.join().expect("all was sent");
    drop(echoing.join().expect("all was echoed"));
}

#[test]
fn a_drain_ends_idle_connections_and_lets_the_others_finish() {
    let rig = Rig::with(|setup| setup.routes.push(respond("own", "/own", 200, "own")));
    let mut idle = rig.client_that_sent("GET /own HTTP/1.1\r\nHost: a\r\n\r\n");
    idle.response();
    let mut busy = rig.client_that_sent(GET);
    let mut origin = rig.origin.accept();
    origin.request();
    rig.begin_drain();
    idle.ends();
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let answer = busy.response();
    assert_eq!(answer.text(), "ok");
    busy.ends();
    rig.drain();
}

#[test]
fn a_connection_that_an_origin_keeps_for_a_named_time_is_not_used_after_it() {
    let rig = Rig::new();
    let mut client = rig.client_that_sent(GET);
    let mut origin = rig.origin.accept();
    origin.request();
    origin.send("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1, max=5\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.response().text(), "ok");
    client.send(GET);
    let mut other = rig.origin.accept();
    other.request();
    other.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew");
    assert_eq!(
        client.response().text(),
        "new",
        "a second is taken off for the way, and nothing is left of it"
    );
}

#[test]
fn a_retry_goes_elsewhere_and_the_budget_bounds_retries() {
    let rig = Rig::with(|setup| setup.origins = 2);
    let mut client = rig.client_that_sent(GET);
    let (mut first, second) = rig.either_origin();
    first.request();
    drop(first);
    let mut again = second.accept();
    again.request();
    again.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain");
    assert_eq!(client.response().text(), "again");
}
