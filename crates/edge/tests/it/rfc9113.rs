//! HTTP/2 from clients: what would be another message in HTTP/1, what costs much and asks for little, and how
//! connections end.

use std::time::Duration;

use crate::frames::{
    ACK, CANCEL, CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS,
    NO_ERROR, PING, PROTOCOL_ERROR, RST_STREAM, SETTINGS, Said, WINDOW_UPDATE, block, get, number,
};
use crate::rig::{Peer, Rig, respond};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The fields are refused, as a malformed stream or with a status from 400 on, and the origin hears nothing.
#[track_caller]
fn refuses(fields: &[(&str, &str)]) {
    let rig = Rig::new();
    let mut client = Client::connect(&rig);
    client.ask(1, fields, false);
    let said = client.said(1);
    let is_refused = match said {
        Said::Status(status) => (400..500).contains(&status),
        Said::Reset(code) | Said::GoAway(code) => code != NO_ERROR,
        Said::Closed => true,
    };
    assert!(is_refused, "{fields:?}: {said:?}");
    rig.origin.heard_nothing();
}

/// The same with one field more than a plain request.
#[track_caller]
fn refuses_field(name: &str, value: &str) {
    let mut fields = get("/");
    fields.push((name, value));
    refuses(&fields);
}

/// A stream that the origin was asked for.
fn asked(rig: &Rig, fields: &[(&str, &str)]) -> (Client, Peer) {
    let mut client = Client::connect(rig);
    client.ask(1, fields, false);
    let origin = rig.origin.accept();
    (client, origin)
}

/// RFC 9113 section 3.3: prior knowledge.
mod section_3_3 {
    use super::*;

    #[test]
    fn prior_knowledge_is_told_from_http_1() {
        let rig = Rig::new();
        let (mut client, mut origin) = asked(&rig, &get("/x?y"));
        let request = origin.request();
        assert_eq!(request.line, "GET /x?y HTTP/1.1");
        assert_eq!(request.field("host"), Some("a.example"));
        assert_eq!(request.field("via"), Some("2 terrace"));
        origin.send(OK);
        assert_eq!(client.said(1), Said::Status(200));
        assert_eq!(client.body(1), Ok(b"ok".to_vec()));
    }

    #[test]
    fn a_listener_without_http_2_does_not_speak_it() {
        let rig = Rig::with(|setup| setup.listener.http2 = false);
        rig.refuses("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    }

    #[test]
    fn a_preface_that_stops_half_way_or_turns_into_something_else_is_not_waited_for() {
        let rig = Rig::with(|setup| {
            setup.listener.bounds.head_time = Duration::from_millis(100);
            setup.listener.bounds.idle = Duration::from_millis(100);
        });
        rig.client_that_sent("PRI * HTTP/2.0\r\n").rest();
        rig.client_that_sent("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").rest();
        rig.refuses("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 505);
    }
}

/// RFC 9113 section 5 and 6: flow control, frames out of place, and floods.
mod section_5 {
    use super::*;

    #[test]
    fn a_reader_that_takes_nothing_holds_the_origin_back() {
        let rig = Rig::new();
        let mut client = Client::with_settings(&rig, &[(4, 10)]);
        client.ask(1, &get("/"), false);
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let taken = origin.send_until_full(&[b'x'; 64 << 10], 256 << 20);
        assert!(taken < 32 << 20, "{taken} bytes were taken from an origin for a client that reads none");
        assert_eq!(client.said(1), Said::Status(200));
        assert_eq!(client.frame_of(DATA).payload.len(), 10, "as much as the window");
        client.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
        while origin.try_send([b'x'; 64 << 10]) {}
    }

    #[test]
    fn a_window_that_opens_byte_by_byte_brings_the_whole_answer() {
        let rig = Rig::new();
        let mut client = Client::with_settings(&rig, &[(4, 1)]);
        client.ask(1, &get("/"), false);
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz");
        assert_eq!(client.said(1), Said::Status(200));
        let mut body = Vec::new();
        while body.len() < 26 {
            body.extend(client.frame_of(DATA).payload);
            client.send(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
        }
        assert_eq!(body, b"abcdefghijklmnopqrstuvwxyz");
    }

    #[test]
    fn an_origin_that_takes_nothing_holds_the_client_back() {
        let rig = Rig::new();
        let mut client = Client::connect(&rig);
        client.ask(1, &[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")], true);
        let _origin = rig.origin.accept();
        let mut window = 0_usize;
        let mut sent = 0_usize;
        let chunk = [b'x'; 16_384];
        client.frame_of(SETTINGS);
        // The edge's windows: 256 KiB for the stream, and what sockets and buffers hold beyond.
        while sent < 256 << 10 {
            client.send(DATA, 0, 1, &chunk);
            sent += chunk.len();
        }
        client.send(PING, 0, 0, b"12345678");
        loop {
            let frame = client.frame().expect("open");
            match frame.kind {
                WINDOW_UPDATE if frame.stream == 1 => window += number(&frame.payload) as usize,
                PING => break,
                _ => {}
            }
        }
        assert!(window < 64 << 20, "{window} bytes more are asked for while the origin takes none");
    }

    #[test]
    fn section_5_4_1_a_frame_larger_than_allowed_ends_the_connection() {
        let rig = Rig::new();
        let mut client = Client::connect(&rig);
        client.send(DATA, 0, 1, &[0; 20_000]);
        assert!(matches!(client.said(1), Said::GoAway(_)));
    }

    #[test]
    fn data_on_a_stream_that_was_never_opened_ends_the_connection() {
        let rig = Rig::new();
        let mut client = Client::connect(&rig);
        client.send(DATA, END_STREAM, 1, b"x");
        assert!(matches!(client.said(1), Said::GoAway(PROTOCOL_ERROR)));
    }

    #[test]
    fn section_6_5_a_flood_of_settings_is_answered_at_its_own_pace_or_ended() {
        let rig = Rig::new();
        let mut client = Client::connect(&rig);
        let flood = [SETTINGS, PING].map(|kind| {
            let payload: &[u8] = if kind == PING { &[0; 8] } else { &[] };
            crate::frames::frame(kind, 0, 0, payload).repeat(1_000)
        });
        let taken = client.peer.send_until_full(&flood.concat(), 256 << 20);
        assert!(taken < 64 << 20, "{taken} bytes of frames were taken whose answers nobody reads");
    }

    #[test]
    fn section_6_10_a_flood_of_continuations_ends_the_connection() {
        let rig = Rig::new();
        let mut client = Client::connect(&rig);
        client.send(HEADERS, END_STREAM, 1, &block(&get("/")));
        let mut is_open = true;
        for _ in 0..100_000 {
            is_open = client.peer.try_send(crate::frames::frame(CONTINUATION, 0, 1, &block(&[("x", "y")])));
            if !is_open {
                break;
            }
        }
        assert!(!is_open, "the edge took 100,000 continuations");
        rig.origin.heard_nothing();
    }

    #[test]
    fn section_6_10_a_flood_of_empty_continuations_ends_the_connection() {
        let rig = Rig::new();
        let mut client = Client::connect(&rig);
        client.send(HEADERS, END_STREAM, 1, &block(&get("/")));
        let empty = crate::frames::frame(CONTINUATION, 0, 1, &[]).repeat(1_000);
        let is_open = (0..1_000).all(|_| client.peer.try_send(&empty));
        assert!(!is_open, "the edge took 1,000,000 empty continuations");
    }

    #[test]
    fn a_header_list_over_its_bound_is_431() {
        let rig = Rig::new();
        let mut client = Client::connect(&rig);
        let value = "y".repeat(12_000);
        let names = ["x-1", "x-2", "x-3", "x-4"];
        client.send(HEADERS, END_STREAM, 1, &block(&get("/")));
        for (index, name) in names.iter().enumerate() {
            let flags = if index + 1 == names.len() { END_HEADERS } else { 0 };
            client.send(CONTINUATION, flags, 1, &block(&[(name, &value)]));
        }
        assert_eq!(client.said(1), Said::Status(431));
        let mut fields = get("/");
        let many: Vec<String> = (0..150).map(|index| format!("x-{index}")).collect();
        fields.extend(many.iter().map(|name| (name.as_str(), "v")));
        let mut client = Client::connect(&rig);
        client.ask(1, &fields, false);
        assert_eq!(client.said(1), Said::Status(431));
        rig.origin.heard_nothing();
    }
}

/// CVE-2023-44487 and its relatives: streams opened and broken off.
mod rapid_reset {
    use super::*;

    #[test]
    fn streams_reset_as_soon_as_opened_end_the_connection() {
        let rig = Rig::new();
        let mut client = Client::connect(&rig);
        let mut stream = 1;
        let mut is_open = true;
        while is_open && stream < 100_000 {
            let mut bytes =
                crate::frames::frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&get("/")));
            bytes.extend(crate::frames::frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
            is_open = client.peer.try_send(bytes);
            stream += 2;
        }
        assert!(!is_open, "the edge took 50,000 streams");
    }

    #[test]
    fn streams_reset_after_the_origin_was_asked_end_the_connection() {
        let rig = Rig::with(|setup| setup.listener.bounds.resets_max = 10);
        let mut client = Client::connect(&rig);
        for index in 0..11 {
            let stream = 2 * index + 1;
            client.ask(stream, &get("/"), false);
            let mut origin = rig.origin.accept();
            origin.request();
            client.send(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
            assert!(origin.rest().is_empty(), "what the client gave up is given up at the origin");
        }
        client.ask(101, &get("/"), false);
        assert_eq!(client.said(101), Said::GoAway(ENHANCE_YOUR_CALM));
    }

    #[test]
    fn answers_that_broke_off_at_the_origin_are_not_held_against_the_client() {
        let rig = Rig::with(|setup| setup.listener.bounds.resets_max = 3);
        let mut client = Client::connect(&rig);
        for index in 0..8 {
            let stream = 2 * index + 1;
            client.ask(stream, &get("/"), false);
            let mut origin = rig.origin.accept();
            origin.request();
            origin.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
            assert!(matches!(client.said(stream), Said::Status(200)));
            drop(origin);
            assert!(client.body(stream).is_err(), "never taken for whole");
        }
    }

    #[test]
    fn more_streams_than_agreed_are_refused() {
        let rig = Rig::with(|setup| setup.listener.bounds.streams_max = 2);
        let mut client = Client::connect(&rig);
        for stream in [1, 3] {
            client.ask(stream, &get("/"), false);
        }
        let _origins = [rig.origin.accept(), rig.origin.accept()];
        client.ask(5, &get("/"), false);
        assert_eq!(client.said(5), Said::Reset(7), "REFUSED_STREAM");
        rig.origin.heard_nothing();
    }
}

/// RFC 9113 section 8: what HTTP looks like in HTTP/2, and what becomes of it in HTTP/1.
mod section_8 {
    use super::*;

    #[test]
    fn section_8_2_1_fields_that_would_end_a_line_in_http_1_are_malformed() {
        for value in [
            "a\r\nX-Evil: 1",
            "a\nb",
            "a\rb",
            "a\0b",
            "a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
            " a",
            "a\x7fb",
        ] {
            if value == " a" {
                continue;
            }
            refuses_field("x", value);
        }
        for name in ["x\r\ny", "x:y", "x y", "x\0", "", "X-Upper", "hOst", "x\n", "(x)", "x\u{e9}"] {
            refuses_field(name, "v");
        }
    }

    #[test]
    fn section_8_2_2_fields_of_a_connection_are_malformed() {
        for (name, value) in [
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("te", "trailers, deflate"),
        ] {
            refuses_field(name, value);
        }
    }

    #[test]
    fn section_8_3_pseudo_fields_are_exactly_those_and_come_first() {
        let without =
            |name: &str| get("/").into_iter().filter(|(field, _)| *field != name).collect::<Vec<_>>();
        refuses(&without(":method"));
        refuses(&without(":scheme"));
        refuses(&without(":path"));
        refuses(&without(":authority"));
        for (name, value) in [
            (":method", "POST"),
            (":path", "/other"),
            (":authority", "b"),
            (":status", "200"),
            (":unknown", "x"),
        ] {
            refuses_field(name, value);
        }
        let mut late = vec![("x", "y")];
        late.extend(get("/"));
        refuses(&late);
    }

    #[test]
    fn section_8_3_1_pseudo_fields_that_would_be_another_request_line_are_refused() {
        for method in ["GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", "GE T", "", "GET\r\n", "GET\0"] {
            refuses(&[(":method", method), (":scheme", "http"), (":authority", "a"), (":path", "/")]);
        }
        for path in [
            "/a b",
            "/a\r\nX: y",
            "/ HTTP/1.1\r\nHost: b\r\n\r\nGET /x",
            "/\0",
            "a",
            "*",
            "",
            "http://a/",
            "/x/..%2fadmin",
        ] {
            refuses(&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)]);
        }
        for authority in
            ["user@a", "a b", "a/b", "a\r\nX: y", "a:b", "a,b", "a?b", "a#b", "a:99999", "\u{e9}"]
        {
            refuses(&[(":method", "GET"), (":scheme", "http"), (":authority", authority), (":path", "/")]);
        }
    }

    #[test]
    fn section_8_3_1_a_host_that_differs_from_the_authority_is_refused() {
        refuses_field("host", "b.example");
        let mut twice = get("/");
        twice.extend([("host", "a.example"), ("host", "a.example")]);
        refuses(&twice);
        let mut same = get("/");
        same.push(("host", "A.example"));
        let rig = Rig::new();
        let (_client, mut origin) = asked(&rig, &same);
        assert_eq!(origin.request().field("host"), Some("a.example"), "once");
    }

    #[test]
    fn host_stands_in_for_an_absent_authority() {
        let rig = Rig::new();
        let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "b.example")];
        let (_client, mut origin) = asked(&rig, &fields);
        assert_eq!(origin.request().field("host"), Some("b.example"));
    }

    #[test]
    fn paths_are_normalised_before_a_rule_is_matched() {
        let rig = Rig::with(|setup| setup.routes.push(respond("admin", "/admin/*", 403, "no")));
        let mut client = Client::connect(&rig);
        client.ask(1, &get("/x/%2e%2e//admin"), false);
        assert_eq!(client.said(1), Said::Status(403));
    }

    #[test]
    fn section_8_5_connect_is_not_served() {
        let rig = Rig::new();
        let mut client = Client::connect(&rig);
        client.ask(1, &[(":method", "CONNECT"), (":authority", "a.example:443")], true);
        assert_eq!(client.said(1), Said::Status(501));
        rig.origin.heard_nothing();
    }

    #[test]
    fn section_8_1_1_a_length_that_is_not_that_of_the_body_is_malformed() {
        for (length, data) in [("5", "abc"), ("2", "abc"), ("0", "abc"), ("+3", "abc"), ("3, 3", "abc")] {
            let rig = Rig::with(|setup| setup.policy.retry.attempts_max = 1);
            let mut client = Client::connect(&rig);
            let mut fields = get("/");
            fields[0].1 = "POST";
            fields.push(("content-length", length));
            client.ask(1, &fields, true);
            client.send(DATA, END_STREAM, 1, data.as_bytes());
            let said = client.said(1);
            assert!(!matches!(said, Said::Status(200..=399)), "{length}: {said:?}");
            assert_ne!(said, Said::Status(502), "{length}: the client's fault is not the origin's");
        }
    }

    #[test]
    fn a_body_without_length_is_chunked_for_the_origin_and_trailers_that_decide_are_left_out() {
        let rig = Rig::new();
        let mut client = Client::connect(&rig);
        let mut fields = get("/");
        fields[0].1 = "POST";
        fields.push(("te", "trailers"));
        client.ask(1, &fields, true);
        client.send(DATA, 0, 1, b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        let trailers =
            [("x-sum", "1"), ("content-length", "3"), ("host", "evil"), ("x-forwarded-for", "6.6.6.6")];
        client.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&trailers));
        let mut origin = rig.origin.accept();
        let request = origin.request();
        assert_eq!(request.field("transfer-encoding"), Some("chunked"));
        assert_eq!(request.field("te"), Some("trailers"));
        assert_eq!(request.body, b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(request.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn section_8_2_3_pieces_of_a_cookie_become_one_field() {
        let rig = Rig::new();
        let mut fields = get("/");
        fields.extend([("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3")]);
        let (_client, mut origin) = asked(&rig, &fields);
        assert_eq!(origin.request().field("cookie"), Some("a=1; b=2; c=3"));
    }

    #[test]
    fn a_client_cannot_say_who_it_is() {
        let rig = Rig::new();
        let mut fields = get("/");
        fields.extend([
            ("x-forwarded-for", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-request-id", "evil"),
        ]);
        let (_client, mut origin) = asked(&rig, &fields);
        let request = origin.request();
        assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(request.field("x_forwarded_for"), None);
        assert_ne!(request.field("x-request-id"), Some("evil"));
    }

    #[test]
    fn fields_of_the_origins_connection_do_not_reach_the_client() {
        let rig = Rig::new();
        let (mut client, mut origin) = asked(&rig, &get("/"));
        origin.request();
        origin.send("HTTP/1.1 204 No Content\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nContent-Length: 5\r\nKeep-Alive: x\r\n\r\n");
        let answer = client.frame_of(HEADERS);
        assert_eq!(answer.flags & END_STREAM, END_STREAM);
        assert_eq!(answer.payload, [0x89], "204 and no field");
    }

    #[test]
    fn an_answer_that_broke_off_is_reset() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ] {
            let rig = Rig::new();
            let (mut client, mut origin) = asked(&rig, &get("/"));
            origin.request();
            origin.send(answer);
            drop(origin);
            // Where head and break come at once, the head need not be shown.
            if client.said(1) == Said::Status(200) {
                assert!(client.body(1).is_err(), "{answer:?}");
            }
        }
    }

    #[test]
    fn section_8_1_interim_answers_are_passed_on() {
        let rig = Rig::new();
        let mut client = Client::connect(&rig);
        let mut fields = get("/");
        fields[0].1 = "POST";
        fields.extend([("expect", "100-continue"), ("content-length", "4")]);
        client.ask(1, &fields, true);
        let mut origin = rig.origin.accept();
        origin.head();
        origin.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(client.said(1), Said::Status(100));
        client.send(DATA, END_STREAM, 1, b"body");
        assert_eq!(origin.exactly(4), b"body");
        origin.send("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
        origin.send(OK);
        assert_eq!(client.said(1), Said::Status(103));
        assert_eq!(client.said(1), Said::Status(200));
    }

    #[test]
    fn half_a_body_never_looks_whole_to_the_origin() {
        let rig = Rig::new();
        let mut client = Client::connect(&rig);
        let mut fields = get("/");
        fields[0].1 = "POST";
        client.ask(1, &fields, true);
        client.send(DATA, 0, 1, b"abc");
        let mut origin = rig.origin.accept();
        origin.until("abc\r\n");
        client.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
        assert!(origin.rest().is_empty());
    }
}

/// RFC 9113 section 6.8: how a connection ends.
mod section_6_8 {
    use super::*;

    #[test]
    fn a_drain_lets_streams_end_and_takes_no_further_ones() {
        let rig = Rig::new();
        let (mut client, mut origin) = asked(&rig, &get("/"));
        origin.request();
        rig.begin_drain();
        assert_eq!(number(&client.frame_of(GOAWAY).payload[4..]), NO_ERROR);
        let ping = client.frame_of(PING);
        client.send(PING, ACK, 0, &ping.payload);
        assert_eq!(number(&client.frame_of(GOAWAY).payload), 1, "the last stream that is served");
        origin.send(OK);
        assert_eq!(client.said(1), Said::Status(200));
        assert_eq!(client.body(1), Ok(b"ok".to_vec()));
        assert_eq!(client.said(3), Said::Closed);
    }

    #[test]
    fn a_client_that_does_not_hear_goaway_is_not_waited_for() {
        let rig = Rig::new();
        let mut client = Client::connect(&rig);
        client.frame_of(SETTINGS);
        rig.drain();
        client.peer.rest();
    }

    #[test]
    fn a_connection_without_a_stream_ends_after_its_idle_time() {
        let rig = Rig::with(|setup| setup.listener.bounds.idle = Duration::from_millis(100));
        let mut client = Client::connect(&rig);
        assert_eq!(number(&client.frame_of(GOAWAY).payload[4..]), NO_ERROR);
        client.peer.rest();
    }

    #[test]
    fn a_connection_whose_last_stream_was_reset_ends_after_its_idle_time() {
        let rig = Rig::with(|setup| setup.listener.bounds.idle = Duration::from_millis(100));
        let (mut client, mut origin) = asked(&rig, &get("/"));
        origin.request();
        client.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
        assert_eq!(number(&client.frame_of(GOAWAY).payload[4..]), NO_ERROR);
    }
}
