//! HTTP semantics at a gateway: what is passed on, what is not, and what is said when an origin misbehaves.

use std::time::Duration;

use crate::rig::{PATIENCE, Rig, respond};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// The answer of the edge to a client when the origin says `bytes` and closes.
#[track_caller]
fn status_when_the_origin_says(bytes: &str) -> u16 {
    let rig = Rig::with(|setup| setup.policy.retry.attempts_max = 1);
    let mut client = rig.client_that_sent(GET);
    let mut origin = rig.origin.accept();
    origin.request();
    origin.send(bytes);
    origin.half_close();
    let answer = client.response();
    answer.status()
}

/// RFC 9110 section 6.4, 9.3.2, 15.3.5 and 15.4.5: messages without content.
mod section_6_4 {
    use super::*;

    /// Exchanges one request whose answer has no body, then another on the same connections.
    #[track_caller]
    fn stays_in_step(request: &str, answer: &str) -> crate::message::Message {
        let rig = Rig::new();
        let mut client = rig.client_that_sent(request);
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send(answer);
        let head = client.head();
        client.send(GET);
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext");
        assert_eq!(client.response().text(), "next");
        head
    }

    #[test]
    fn head_has_the_fields_of_get_and_no_body() {
        let head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer = stays_in_step(head, "HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n");
        assert_eq!(answer.field("content-length"), Some("42"));
        stays_in_step(head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        stays_in_step(head, "HTTP/1.1 200 OK\r\n\r\n");
    }

    #[test]
    fn no_content_and_not_modified_have_none_whatever_their_length_says() {
        let answer =
            stays_in_step(GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 42\r\nETag: \"x\"\r\n\r\n");
        assert_eq!((answer.status(), answer.field("content-length")), (304, Some("42")));
        let answer = stays_in_step(GET, "HTTP/1.1 204 No Content\r\nContent-Length: 42\r\n\r\n");
        assert_eq!((answer.status(), answer.field("content-length")), (204, None));
        stays_in_step(GET, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n");
    }

    #[test]
    fn a_body_behind_an_answer_that_has_none_is_not_the_next_clients_answer() {
        for (request, answer) in [
            ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
            (GET, "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
            (GET, "HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
            (
                GET,
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            ),
            (
                GET,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            ),
            (GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\r\n"),
        ] {
            let rig = Rig::new();
            let mut client = rig.client_that_sent(request);
            let mut origin = rig.origin.accept();
            origin.request();
            origin.send(answer);
            client.head();
            let mut other = rig.client_that_sent(GET);
            let mut next = rig.origin.accept();
            next.request();
            next.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext");
            assert_eq!(other.response().text(), "next", "{answer:?}");
        }
    }
}

/// RFC 9110 section 7.6: forwarding.
mod section_7_6 {
    use super::*;

    #[test]
    fn fields_between_neighbours_are_not_passed_on_in_either_direction() {
        let rig = Rig::new();
        let mut client = rig.client_that_sent(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop\r\nConnection: x-hop-too, close\r\nX-Hop: 1\r\n\
             X-HOP-TOO: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\n\
             TE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nX-Kept: 3\r\n\r\n",
        );
        let mut origin = rig.origin.accept();
        let request = origin.request();
        for gone in [
            "connection",
            "x-hop",
            "x-hop-too",
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "te",
            "upgrade",
            "http2-settings",
            "transfer-encoding",
        ] {
            assert_eq!(request.field(gone), None, "{gone}");
        }
        assert_eq!(request.field("x-kept"), Some("3"));
        origin.send(
            "HTTP/1.1 200 OK\r\nConnection: X-Inner\r\nX-Inner: 1\r\nKeep-Alive: timeout=9\r\n\
             Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-Outer: 2\r\nContent-Length: 0\r\n\r\n",
        );
        let answer = client.response();
        for gone in ["x-inner", "keep-alive", "proxy-authenticate", "upgrade"] {
            assert_eq!(answer.field(gone), None, "{gone}");
        }
        assert_eq!((answer.field("connection"), answer.field("x-outer")), (Some("close"), Some("2")));
        client.ends();
    }

    #[test]
    fn section_7_6_1_a_client_cannot_name_away_what_says_who_it_is() {
        let request = Rig::new().passes(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Forwarded-For, X-Real-IP, X-Forwarded-Proto, Forwarded, \
             Via, Cookie, Authorization, X-Request-Id\r\nCookie: c=1\r\nAuthorization: Bearer t\r\n\r\n",
        );
        for kept in [
            "x-forwarded-for",
            "x-real-ip",
            "x-forwarded-proto",
            "forwarded",
            "via",
            "cookie",
            "authorization",
            "x-request-id",
        ] {
            assert!(request.field(kept).is_some(), "{kept}");
        }
    }

    #[test]
    fn section_7_6_3_via_is_added_and_tells_a_loop() {
        let rig = Rig::new();
        let request = rig.passes("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 fred\r\n\r\n");
        assert_eq!(request.field("via"), Some("1.0 fred, 1.1 terrace"));
        let request = rig.passes("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        assert_eq!(request.field("via"), Some("1.0 terrace"));
        let via = ["1.1 terrace"; 40].join(", ");
        let mut client = rig.client_that_sent(format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {via}\r\n\r\n"));
        let answer = client.response();
        assert_eq!(answer.status(), 508);
        assert!(answer.text().contains("proxy_loop_detected"), "{answer:?}");
    }
}

/// RFC 9110 section 7.8: a protocol that nobody asked for.
mod section_7_8 {
    use super::*;

    #[test]
    fn switching_protocols_unasked_is_a_bad_gateway() {
        assert_eq!(
            status_when_the_origin_says("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
            502
        );
        assert_eq!(
            status_when_the_origin_says(
                "HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
            ),
            502
        );
    }
}

/// RFC 9110 section 10.1.1: Expect.
mod section_10_1_1 {
    use super::*;

    const EXPECTING: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";

    #[test]
    fn a_client_that_waits_for_100_gets_the_origins() {
        let rig = Rig::new();
        let mut client = rig.client_that_sent(EXPECTING);
        let mut origin = rig.origin.accept();
        assert_eq!(origin.head().field("expect"), Some("100-continue"));
        origin.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(client.head().line, "HTTP/1.1 100 Continue");
        client.send("body");
        assert_eq!(origin.exactly(4), b"body");
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(client.response().text(), "ok");
        client.send(GET);
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext");
        assert_eq!(client.response().text(), "next", "both connections are kept");
    }

    #[test]
    fn an_origin_that_refuses_never_gets_the_body_and_nobody_takes_it_for_a_request() {
        let rig = Rig::new();
        let mut client = rig.client_that_sent(EXPECTING);
        let mut origin = rig.origin.accept();
        origin.head();
        origin.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
        let answer = client.response();
        assert_eq!((answer.status(), answer.field("connection")), (417, Some("close")));
        client.ends();
        assert!(origin.rest().is_empty(), "no body, and the connection is not used again");
    }

    #[test]
    fn an_origin_that_stays_silent_gets_the_body_after_a_while() {
        let rig = Rig::new();
        let mut client = rig.client_that_sent(EXPECTING);
        let mut origin = rig.origin.accept();
        origin.head();
        assert_eq!(client.head().line, "HTTP/1.1 100 Continue", "from the edge itself");
        client.send("body");
        assert_eq!(origin.exactly(4), b"body");
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(client.response().text(), "ok");
    }

    #[test]
    fn a_client_that_does_not_wait_is_not_made_to() {
        let rig = Rig::new();
        let mut client = rig.client_that_sent(format!("{EXPECTING}body"));
        let mut origin = rig.origin.accept();
        origin.head();
        origin.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(origin.exactly(4), b"body");
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(client.response().text(), "ok");
    }

    #[test]
    fn an_expectation_without_a_body_changes_nothing() {
        let rig = Rig::new();
        let mut client = rig
            .client_that_sent("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n".to_owned() + GET);
        let mut origin = rig.origin.accept();
        for body in ["1", "2"] {
            origin.request();
            origin.send("HTTP/1.1 100 Continue\r\n\r\n");
            origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{body}"));
        }
        assert_eq!(client.response().text(), "1");
        assert_eq!(client.response().text(), "2", "100 is not taken for the answer");
    }

    #[test]
    fn an_answer_of_our_own_to_a_client_that_waits_ends_the_connection() {
        let rig = Rig::with(|setup| setup.routes.push(respond("own", "/", 403, "no")));
        rig.refuses(EXPECTING, 403);
    }

    #[test]
    fn a_client_of_http_1_0_is_never_told_to_continue() {
        let rig = Rig::new();
        let mut client = rig.client_that_sent(EXPECTING.replace("HTTP/1.1", "HTTP/1.0") + "body");
        let mut origin = rig.origin.accept();
        origin.head();
        origin.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(origin.exactly(4), b"body");
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(client.head().line, "HTTP/1.0 200 OK");
    }
}

/// RFC 9110 section 15: statuses, and what stands where one is due.
mod section_15 {
    use super::*;

    #[test]
    fn section_15_2_interim_answers_are_passed_on_to_http_1_1_only() {
        let rig = Rig::new();
        let mut client = rig.client_that_sent(GET);
        let mut origin = rig.origin.accept();
        origin.request();
        let early = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";
        origin.send(format!(
            "{early}{early}HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        ));
        for _ in 0..2 {
            let hint = client.head();
            assert_eq!((hint.status(), hint.field("x-hop")), (103, None));
            assert!(hint.field("link").is_some());
        }
        assert_eq!(client.head().status(), 102);
        assert_eq!(client.response().text(), "ok");
        let mut client = rig.client_that_sent("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        origin.request();
        origin.send(format!("{early}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
        assert_eq!(client.head().line, "HTTP/1.0 200 OK");
    }

    #[test]
    fn section_15_6_3_what_is_no_answer_is_a_bad_gateway() {
        for bytes in [
            "garbage",
            "garbage\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 Low\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n",
            "HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: y\0\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Le",
            "",
        ] {
            assert_eq!(status_when_the_origin_says(bytes), 502, "{bytes:?}");
        }
    }

    #[test]
    fn a_head_without_end_is_a_bad_gateway() {
        let rig = Rig::with(|setup| setup.policy.retry.attempts_max = 1);
        let mut client = rig.client_that_sent(GET);
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\n");
        while origin.try_send(format!("X: {}\r\n", "y".repeat(1_000))) {}
        assert_eq!(client.response().status(), 502);
    }

    #[test]
    fn an_answer_that_ends_with_the_connection_is_chunked_for_the_client() {
        let rig = Rig::new();
        let mut client = rig.client_that_sent(GET);
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\n\r\nall of it");
        drop(origin);
        let answer = client.response();
        assert_eq!((answer.field("transfer-encoding"), answer.text()), (Some("chunked"), "all of it"));
        client.send(GET);
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nnext");
        assert_eq!(client.response().text(), "next");
        assert!(origin.rest().is_empty(), "an origin of HTTP/1.0 does not keep the connection");
    }

    #[test]
    fn an_answer_that_broke_off_is_never_taken_for_whole() {
        for (answer, shown) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "abc"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "abc"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "abc"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", "abc"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n", "abc"),
        ] {
            let rig = Rig::new();
            let mut client = rig.client_that_sent(GET);
            let mut origin = rig.origin.accept();
            origin.request();
            origin.send(answer);
            drop(origin);
            let rest = String::from_utf8(client.rest()).expect("text");
            assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.contains(shown), "{rest:?}");
            assert!(!rest.contains("\r\n0\r\n"), "{answer:?}: {rest:?}");
            rig.origin.heard_nothing();
        }
    }

    #[test]
    fn an_origin_that_never_answers_is_a_gateway_timeout() {
        let rig = Rig::with(|setup| setup.policy.timeouts.first_byte = Some(Duration::from_millis(100)));
        let mut client = rig.client_that_sent(GET);
        let mut origin = rig.origin.accept();
        origin.request();
        let answer = client.response();
        assert_eq!(answer.status(), 504);
        assert!(answer.field("proxy-status").is_some_and(|value| value.contains("http_response_timeout")));
        assert!(origin.rest().is_empty(), "the connection is given up with the request");
    }

    #[test]
    fn an_origin_that_stops_in_the_middle_of_an_answer_is_not_waited_for_without_end() {
        let rig = Rig::with(|setup| setup.policy.timeouts.idle = Some(Duration::from_millis(100)));
        let mut client = rig.client_that_sent(GET);
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        let rest = client.rest();
        assert!(rest.ends_with(b"\r\n\r\nabc"));
        assert!(origin.rest().is_empty());
    }

    #[test]
    fn section_15_5_14_a_body_over_its_bound_is_413() {
        let rig = Rig::with(|setup| setup.policy.body_bytes_max = Some(10));
        rig.refuses("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n", 413);
        rig.refuses("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n", 413);
        let mut client = rig.client_that_sent(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nabcdefgh\r\n",
        );
        let mut origin = rig.origin.accept();
        origin.until("abcdefgh\r\n");
        client.send("8\r\nabcdefgh\r\n0\r\n\r\n");
        assert_eq!(client.response().status(), 413);
        client.ends();
        assert!(!origin.rest().ends_with(b"0\r\n\r\n"), "the origin never sees a whole body");
    }

    #[test]
    fn a_body_that_grows_over_its_bound_after_the_origin_answered_ends_neither_answer_nor_peace() {
        let rig = Rig::with(|setup| setup.policy.body_bytes_max = Some(10));
        let mut client = rig.client_that_sent(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n",
        );
        let mut origin = rig.origin.accept();
        origin.until("abcd\r\n");
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc");
        client.until("abc");
        client.send("10\r\n0123456789abcdef\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        origin.send("def");
        assert_eq!(client.exactly(3), b"def");
        client.ends();
        assert!(!origin.rest().windows(8).any(|window| window == b"smuggled"));
        rig.origin.heard_nothing();
    }
}

/// RFC 9110 section 7.6.1: options of the connection.
mod section_7_6_1_options {
    use super::*;

    #[test]
    fn more_options_than_anybody_means_are_refused_and_reach_no_service() {
        let rig = Rig::new();
        let options = vec!["x"; 65].join(", ");
        let mut client =
            rig.client_that_sent(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {options}\r\n\r\n"));
        assert_eq!(client.response().status(), 400);
        rig.origin.heard_nothing();
    }
}

/// RFC 9110 section 9.2.2: what may be sent twice.
mod section_9_2_2 {
    use super::*;

    /// A rig whose edge has one idle connection to the origin.
    fn with_an_idle_connection() -> (Rig, crate::rig::Peer, crate::rig::Peer) {
        let rig = Rig::with(|setup| {
            setup.listener.bounds.head_time = PATIENCE;
        });
        let mut client = rig.client_that_sent(GET);
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.response();
        (rig, client, origin)
    }

    #[test]
    fn a_get_that_meets_a_connection_being_closed_is_sent_again() {
        let (rig, mut client, mut origin) = with_an_idle_connection();
        client.send(GET);
        origin.request();
        drop(origin);
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain");
        assert_eq!(client.response().text(), "again");
    }

    #[test]
    fn a_get_that_ends_every_connection_it_meets_is_sent_three_times_at_most() {
        let (rig, mut client, mut origin) = with_an_idle_connection();
        client.send(GET);
        origin.request();
        drop(origin);
        // Once for the connection that may have been closing, then as often as the policy says.
        for _ in 0..2 {
            let mut origin = rig.origin.accept();
            origin.request();
            drop(origin);
        }
        assert_eq!(client.response().status(), 502);
        rig.origin.heard_nothing();
    }

    #[test]
    fn a_post_is_never_sent_twice() {
        for body in ["Content-Length: 4\r\n\r\nbody", "Content-Length: 0\r\n\r\n"] {
            let (rig, mut client, mut origin) = with_an_idle_connection();
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}"));
            origin.request();
            drop(origin);
            let answer = client.response();
            assert_eq!(answer.status(), 502);
            assert!(answer.text().contains("\"retry_safe\":false"), "{}", answer.text());
            rig.origin.heard_nothing();
        }
    }

    #[test]
    fn a_post_goes_to_a_new_connection_when_the_idle_one_is_seen_to_be_closed() {
        let (rig, mut client, origin) = with_an_idle_connection();
        drop(origin);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
        let mut origin = rig.origin.accept();
        assert_eq!(origin.request().text(), "body");
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(client.response().text(), "ok");
    }

    #[test]
    fn a_get_whose_answer_has_begun_is_not_sent_again() {
        let (rig, mut client, mut origin) = with_an_idle_connection();
        client.send(GET);
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        client.until("abc");
        drop(origin);
        client.ends();
        rig.origin.heard_nothing();
    }
}

/// A client that goes away in the middle.
mod clients_that_leave {
    use super::*;

    #[test]
    fn half_a_body_never_looks_whole_to_the_origin() {
        for (length, sent) in [
            ("Content-Length: 10", "abc"),
            ("Transfer-Encoding: chunked", "3\r\nabc\r\n"),
            ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n"),
        ] {
            let rig = Rig::new();
            let client =
                rig.client_that_sent(format!("POST / HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\n{sent}"));
            let mut origin = rig.origin.accept();
            origin.until("abc");
            drop(client);
            assert!(!origin.rest().ends_with(b"0\r\n\r\n"), "{length}");
        }
    }

    #[test]
    fn an_answer_nobody_reads_any_more_is_not_read_to_its_end() {
        let rig = Rig::new();
        let mut client = rig.client_that_sent(GET);
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nabc");
        client.until("abc");
        client.reset();
        while origin.try_send([b'x'; 16 << 10]) {}
    }

    #[test]
    fn a_client_that_leaves_while_the_origin_thinks_harms_nobody() {
        let rig = Rig::new();
        let client = rig.client_that_sent(GET);
        let mut origin = rig.origin.accept();
        origin.request();
        client.reset();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(rig.passes_somewhere(GET, origin), "ok");
    }
}

/// Header injection, and fields of ours that a client sends.
mod fields_of_ours {
    use super::*;

    #[test]
    fn x_forwarded_fields_say_what_the_edge_saw_and_nothing_else() {
        let rig = Rig::new();
        let request = rig.passes(
            "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\n\
             X-Real-IP: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n\
             X-Request-Id: evil\r\nForwarded: for=6.6.6.6;host=evil\r\n\r\n",
        );
        assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(request.field("x-real-ip"), Some("127.0.0.1"));
        assert_eq!(request.field("x-forwarded-proto"), Some("http"));
        assert_eq!(request.field("x-forwarded-host"), Some("shop.example"));
        assert_eq!(request.field("x-forwarded-port"), Some(rig.address.port().to_string().as_str()));
        assert_ne!(request.field("x-request-id"), Some("evil"));
        assert_eq!(request.field("forwarded"), Some("for=127.0.0.1;proto=http;host=shop.example"));
    }

    #[test]
    fn an_encoded_line_end_in_the_target_stays_encoded() {
        let rig = Rig::with(|setup| {
            use terrace_edge::Action;
            use terrace_route::{Pattern, Redirect};
            let at = "/r/{rest*}";
            let pattern = [Pattern::parse(at).expect("valid")];
            let to = Redirect::parse("https://b.example/{rest}", &pattern).expect("valid");
            setup.routes.push(crate::rig::route("r", at, Action::Redirect { to, status: 302 }));
        });
        let request = rig.passes("GET /a%0d%0aX:%20y?q=%0d%0aX:%20y HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(request.line, "GET /a%0D%0AX:%20y?q=%0d%0aX:%20y HTTP/1.1");
        let mut client =
            rig.client_that_sent("GET /r/a%0d%0aSet-Cookie:%20x%3dy HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.response();
        assert_eq!((answer.status(), answer.field("set-cookie")), (302, None));
        assert_eq!(answer.field("location"), Some("https://b.example/a%0D%0ASet-Cookie:%20x%3Dy"));
    }
}
