//! What the edge says itself: problem details (RFC 9457), a page for people, and `Proxy-Status` (RFC 9209).

use crate::rig::{Rig, respond};

/// The answer to a request that meets an origin which closes at once.
fn answer_to(fields: &str) -> crate::message::Message {
    let rig = Rig::with(|setup| setup.policy.retry.attempts_max = 1);
    let mut client = rig.client_that_sent(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    let mut origin = rig.origin.accept();
    origin.request();
    drop(origin);
    client.response()
}

#[test]
fn a_program_gets_json_that_says_whose_fault_it_was() {
    for fields in ["", "Accept: */*\r\n", "Accept: application/json\r\n", "Accept: text/html;q=0\r\n"] {
        let answer = answer_to(fields);
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{fields}");
        let status = answer.field("proxy-status").expect("rfc9209");
        assert!(status.starts_with("terrace; error=connection_terminated"), "{status}");
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        let id = answer.field("x-request-id").expect("an id").to_owned();
        for part in [r#""status":502"#, r#""fault":"upstream""#, r#""error":"connection_terminated""#, &id] {
            assert!(answer.text().contains(part), "{part}: {}", answer.text());
        }
    }
}

#[test]
fn a_browser_gets_a_page() {
    let answer = answer_to("Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n");
    assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(answer.text().starts_with("<!doctype html>") && answer.text().contains("502 Bad Gateway"));
}

#[test]
fn a_client_of_grpc_gets_a_grpc_status() {
    let answer = answer_to("Content-Type: application/grpc+proto\r\n");
    assert_eq!((answer.status(), answer.field("grpc-status")), (200, Some("14")));
    assert_eq!(answer.text(), "");
}

#[test]
fn what_a_client_wrote_is_not_repeated_as_markup() {
    let rig = Rig::with(|setup| setup.routes.push(respond("own", "other.example/*", 200, "")));
    let mut client = rig.client_that_sent(
        "GET /<script>alert(1)</script> HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nVia: \
         1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26\r\n\r\n",
    );
    let answer = client.response();
    assert_eq!(answer.status(), 508);
    assert!(!answer.text().contains("<script"), "{}", answer.text());
}

#[test]
fn an_answer_to_head_has_no_body() {
    let rig = Rig::with(|setup| setup.policy.retry.attempts_max = 1);
    let mut client = rig.client_that_sent("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut origin = rig.origin.accept();
    origin.request();
    drop(origin);
    let head = client.head();
    assert_eq!(head.status(), 502);
    assert!(head.field("content-length").is_some_and(|length| length != "0"));
    client.ends();
}

#[test]
fn a_service_without_an_endpoint_says_when_to_come_back() {
    let rig = Rig::new();
    rig.upstream.publish(&[], terrace_runtime::clock::now());
    let mut client = rig.client_that_sent("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status(), answer.field("retry-after")), (503, Some("1")));
    assert!(answer.text().contains(r#""retry_safe":true"#));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status(), 503, "the connection is kept");
}

#[test]
fn an_endpoint_that_refuses_connections_is_a_bad_gateway() {
    let rig = Rig::new();
    let address = {
        let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        closed.local_addr().expect("bound")
    };
    rig.upstream.publish(&[terrace_upstream::Member::new("gone", address)], terrace_runtime::clock::now());
    let mut client = rig.client_that_sent("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.status(), 502);
    assert!(answer.text().contains("connection_refused") && answer.text().contains(r#""retry_safe":true"#));
}
