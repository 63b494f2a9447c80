//! HTTP/1.1: where messages begin and end, read by two who must never differ.

use crate::rig::{Rig, respond};

/// RFC 9112 section 2: the lines of a message.
mod section_2 {
    use super::*;

    #[test]
    fn a_line_that_ends_in_lf_alone_is_refused() {
        let rig = Rig::new();
        for bytes in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            rig.refuses(bytes, 400);
        }
    }

    #[test]
    fn a_carriage_return_inside_a_line_is_refused() {
        let rig = Rig::new();
        for bytes in [
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\rZ: w\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX\r: y\r\n\r\n",
            "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
        ] {
            rig.refuses(bytes, 400);
        }
    }

    #[test]
    fn empty_lines_before_a_request_are_passed_over() {
        let request = Rig::new().passes("\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(request.line, "GET /x HTTP/1.1");
    }

    #[test]
    fn space_before_the_first_field_is_refused() {
        let rig = Rig::new();
        rig.refuses("GET / HTTP/1.1\r\n Host: a\r\nHost: b\r\n\r\n", 400);
        rig.refuses("GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", 400);
    }

    #[test]
    fn a_version_that_is_not_ours_is_refused() {
        let rig = Rig::new();
        rig.refuses("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505);
        rig.refuses("GET / HTTP/3\r\nHost: a\r\n\r\n", 505);
        rig.refuses("GET / http/1.1\r\nHost: a\r\n\r\n", 400);
        rig.refuses("GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400);
        rig.refuses("GET /\r\n\r\n", 400);
    }
}

/// RFC 9112 section 3: the request line, the target, and the host.
mod section_3 {
    use super::*;

    #[test]
    fn oddities_of_the_request_line_are_refused() {
        let rig = Rig::new();
        for bytes in [
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
            " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET gopher://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
        ] {
            rig.refuses(bytes, 400);
        }
    }

    #[test]
    fn a_method_nobody_knows_is_passed_on_as_it_is() {
        let request = Rig::new().passes("get / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(request.line, "get / HTTP/1.1", "methods are compared with regard to case");
    }

    #[test]
    fn there_is_exactly_one_host() {
        let rig = Rig::new();
        for bytes in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n",
            "GET http://b/ HTTP/1.1\r\n\r\n",
        ] {
            rig.refuses(bytes, 400);
        }
    }

    #[test]
    fn section_3_2_2_the_authority_of_an_absolute_target_replaces_host() {
        let rig = Rig::with(|setup| setup.routes.push(respond("b", "b.example/*", 403, "b's")));
        let mut client = rig.client_that_sent("GET http://b.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(client.response().status(), 403, "the route is that of the absolute target");
        let request = rig.passes("GET http://A.example:81/x?y HTTP/1.1\r\nHost: b.example\r\n\r\n");
        assert_eq!(request.line, "GET /x?y HTTP/1.1", "the origin gets the origin form");
        assert_eq!(request.field("host"), Some("A.example:81"));
        assert_eq!(request.field("x-forwarded-host"), Some("A.example:81"));
        rig.refuses("GET http://user:secret@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400);
    }

    #[test]
    fn section_3_2_3_connect_is_not_served_and_reaches_nobody() {
        let rig = Rig::new();
        rig.refuses("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", 501);
        rig.refuses("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 400);
        rig.refuses("CONNECT a.example HTTP/1.1\r\nHost: a.example\r\n\r\n", 400);
    }

    #[test]
    fn section_3_2_4_the_asterisk_form_is_for_options() {
        let request = Rig::new().passes("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(request.line, "OPTIONS * HTTP/1.1");
    }

    #[test]
    fn section_3_3_a_client_of_http_1_0_without_host_reaches_an_origin_that_wants_one() {
        let rig = Rig::new();
        let request = rig.passes("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(request.line, "GET / HTTP/1.1");
        assert_eq!(request.field("host"), Some(rig.address.to_string().as_str()));
    }

    #[test]
    fn a_target_over_its_bound_is_414_and_a_head_over_its_bound_431() {
        let rig = Rig::new();
        let long = |bytes: usize| "x".repeat(bytes);
        rig.refuses(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(9_000)), 414);
        rig.refuses(format!("GET /{}", long(9_000)), 414);
        rig.refuses(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", long(40_000)), 431);
        rig.refuses(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", long(40_000)), 431);
        rig.refuses(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100)), 431);
    }

    #[test]
    fn a_head_just_within_its_bounds_passes_whole() {
        let fields: String = (0..99).map(|index| format!("X-{index}: {}\r\n", "v".repeat(200))).collect();
        let request = Rig::new().passes(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(request.fields.iter().filter(|(_, value)| value.len() == 200).count(), 99);
        let request =
            Rig::new().passes(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(30_000)));
        assert_eq!(request.field("x").map(str::len), Some(30_000));
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_read() {
        let rig = Rig::new();
        let mut client = rig.client();
        for byte in "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".bytes() {
            client.send([byte]);
        }
        let mut origin = rig.origin.accept();
        let request = origin.request();
        assert_eq!((request.line.as_str(), request.text()), ("POST /slow HTTP/1.1", "abc"));
    }
}

/// RFC 9112 section 5: fields.
mod section_5 {
    use super::*;

    #[test]
    fn fields_that_smuggle_are_refused() {
        let rig = Rig::new();
        for field in [
            "Host : a",
            "X : y",
            "X\t: y",
            " X: y",
            "X: y\r\n z: folded",
            "X: y\r\n\tfolded",
            "X: y\0z",
            "X\0: y",
            "X: y\x01z",
            "X: y\x7fz",
            ": y",
            "X",
            "X Y: z",
            "(X): y",
            "X\u{e9}: y",
            "Transfer-Encoding : chunked",
            "Transfer\x0bEncoding: chunked",
            "Content-Length\u{a0}: 5",
        ] {
            rig.refuses(format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"), 400);
        }
    }

    #[test]
    fn a_field_that_an_origin_reads_as_one_of_ours_because_of_an_underscore_is_not_passed_on() {
        let request = Rig::new().passes(
            "GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 6.6.6.6\r\nX_Real-IP: 6.6.6.6\r\n\
             Content_Length: 5\r\nTransfer_Encoding: chunked\r\nMy_Own: kept\r\n\r\n",
        );
        assert!(request.fields.iter().all(|(_, value)| !value.contains("6.6.6.6")), "{request:?}");
        assert!(request.field("content_length").is_none() && request.field("transfer_encoding").is_none());
        assert_eq!(request.field("my_own"), Some("kept"));
    }
}

/// RFC 9112 section 6.3 and 11.2: the length of a request, and those who disagree about it.
mod section_6 {
    use super::*;

    #[test]
    fn a_length_that_is_not_one_plain_number_is_refused() {
        let rig = Rig::new();
        for value in [
            "+5",
            "-5",
            "5,5",
            "5, 5",
            "5 5",
            "0x5",
            "5.0",
            "5e0",
            "",
            "five",
            "\"5\"",
            "5;",
            "18446744073709551616",
            "99999999999999999999999",
            "\u{665}",
            "5\u{a0}",
            "\x0b5",
        ] {
            rig.refuses(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {value}\r\n\r\nabcde"), 400);
        }
    }

    #[test]
    fn two_lengths_are_refused_even_when_they_agree() {
        let rig = Rig::new();
        for (one, two) in [("5", "5"), ("5", "6"), ("0", "5"), ("5", "")] {
            rig.refuses(
                format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {one}\r\ncontent-length: {two}\r\n\r\nabcde"),
                400,
            );
        }
    }

    #[test]
    fn a_length_with_leading_zeros_is_sent_on_as_the_number_it_is() {
        let request = Rig::new().passes("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0000005\r\n\r\nabcde");
        assert_eq!((request.field("content-length"), request.text()), (Some("5"), "abcde"));
    }

    #[test]
    fn a_length_beside_a_coding_is_refused() {
        let rig = Rig::new();
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Transfer-Encoding: chunked\r\nContent-Length: 0",
        ] {
            rig.refuses(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n"), 400);
        }
    }

    #[test]
    fn codings_other_than_chunked_alone_are_refused() {
        let rig = Rig::new();
        for value in [
            "gzip",
            "identity",
            "chunked, identity",
            "identity, chunked",
            "gzip, chunked",
            "chunked, chunked",
            "chunked,",
            ",chunked",
            "xchunked",
            "chunkedx",
            "chunked;q=1",
            "\"chunked\"",
            "'chunked'",
            "chunked\x0c",
            "",
        ] {
            let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {value}\r\n\r\n0\r\n\r\n");
            let mut client = rig.client_that_sent(&bytes);
            let status = client.response().status();
            assert!(matches!(status, 400 | 501), "{value:?}: {status}");
            client.ends();
            rig.origin.heard_nothing();
        }
        rig.refuses(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            501,
        );
    }

    #[test]
    fn http_1_0_has_no_codings() {
        Rig::new().refuses(
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n",
            400,
        );
    }

    #[test]
    fn connection_cannot_name_the_length_away() {
        let request = Rig::new().passes(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length, host\r\nContent-Length: 5\r\n\r\nabcde",
        );
        assert_eq!((request.field("content-length"), request.text()), (Some("5"), "abcde"));
        assert_eq!(request.field("host"), Some("a"));
    }

    #[test]
    fn a_get_may_have_a_body_and_what_follows_it_is_the_next_request() {
        let rig = Rig::new();
        let mut client = rig.client_that_sent(
            "GET /one HTTP/1.1\r\nHost: a\r\nContent-Length: 37\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: evil\r\n\
             \r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\n"
                .replace("37", "38"),
        );
        let mut origin = rig.origin.accept();
        let request = origin.request();
        assert_eq!((request.line.as_str(), request.body.len()), ("GET /one HTTP/1.1", 38));
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none");
        assert_eq!(client.response().text(), "one");
        assert_eq!(origin.request().line, "GET /two HTTP/1.1");
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo");
        assert_eq!(client.response().text(), "two");
    }

    #[test]
    fn an_absent_body_of_a_post_is_said_to_be_absent() {
        let request = Rig::new().passes("POST / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(request.field("content-length"), Some("0"));
    }
}

/// RFC 9112 section 7: chunks.
mod section_7 {
    use super::*;

    #[test]
    fn chunks_are_read_and_written_anew_without_their_extensions() {
        let rig = Rig::new();
        let mut client =
            rig.client_that_sent("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n");
        client.send(
            "5;ext=\"v;\";x\r\nabcde\r\n00003\r\nfgh\r\n0;last\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\n",
        );
        let mut origin = rig.origin.accept();
        let head = origin.until("\r\n\r\n");
        assert!(!head.to_lowercase().contains("content-length"), "{head}");
        let raw = origin.until("0\r\nX-Sum: 1\r\n\r\n");
        assert!(!raw.contains(';'), "{raw}");
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.response().status(), 200);
    }

    #[test]
    fn what_is_no_chunk_ends_the_request_with_400_and_the_origin_never_sees_a_whole_body() {
        for chunks in [
            "5\nabcde\r\n0\r\n\r\n",
            "5\r\nabcde\n0\r\n\r\n",
            "5\r\nabcdef\r\n0\r\n\r\n",
            "5\r\nabcd\r\n0\r\n\r\n",
            " 5\r\nabcde\r\n0\r\n\r\n",
            "+5\r\nabcde\r\n0\r\n\r\n",
            "-5\r\nabcde\r\n0\r\n\r\n",
            "0x5\r\nabcde\r\n0\r\n\r\n",
            "5 5\r\nabcde\r\n0\r\n\r\n",
            "10000000000000005\r\nabcde\r\n0\r\n\r\n",
            "\r\n",
            ";\r\n",
            "5;a\nb\r\nabcde\r\n0\r\n\r\n",
            "5;a\rb\r\nabcde\r\n0\r\n\r\n",
            "5;a\0b\r\nabcde\r\n0\r\n\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\n X: y\r\n\r\n",
            "0\r\nX: y\r\n folded\r\n\r\n",
        ] {
            let rig = Rig::new();
            let mut client = rig.client_that_sent(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n",
            );
            let mut origin = rig.origin.accept();
            origin.until("xyz\r\n");
            client.send(chunks);
            let answer = client.response();
            assert_eq!(answer.status(), 400, "{chunks:?}");
            client.ends();
            let rest = origin.rest();
            assert!(!rest.windows(3).any(|window| window == b"0\r\n"), "{chunks:?}: {rest:?}");
        }
    }

    #[test]
    fn extensions_are_bounded() {
        let rig = Rig::new();
        let mut client =
            rig.client_that_sent("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(5_000)));
        assert_eq!(client.response().status(), 400);
        client.ends();
    }

    #[test]
    fn trailers_are_passed_on_both_ways_but_for_those_that_would_change_the_message() {
        let rig = Rig::new();
        let mut client = rig.client_that_sent(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers, deflate\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\
             X-Up: 1\r\nHost: evil\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For: 6.6.6.6\r\n\
             X-Forwarded-Proto: https\r\nX-Real-IP: 6.6.6.6\r\nX_Forwarded_Host: evil\r\nAuthorization: x\r\n\r\n",
        );
        let mut origin = rig.origin.accept();
        let request = origin.request();
        assert_eq!(request.field("te"), Some("trailers"));
        assert_eq!(request.trailers, [("x-up".to_owned(), "1".to_owned())]);
        origin.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Down\r\n\r\n1\r\nb\r\n0\r\nX-Down: 2\r\n\
             Set-Cookie: evil\r\n\r\n",
        );
        let answer = client.response();
        assert_eq!(answer.trailers, [("x-down".to_owned(), "2".to_owned())]);
    }
}

/// RFC 9112 section 9: connections.
mod section_9 {
    use super::*;

    #[test]
    fn pipelined_requests_are_answered_in_order_bodies_and_all() {
        let rig = Rig::with(|setup| setup.routes.push(respond("own", "/own", 200, "own")));
        let mut client = rig.client_that_sent(
            "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst\
             GET /own HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecond\r\n0\r\n\r\n\
             HEAD /own HTTP/1.1\r\nHost: a\r\n\r\n\
             GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
        let mut origin = rig.origin.accept();
        for (line, body) in
            [("POST /1 HTTP/1.1", "first"), ("POST /2 HTTP/1.1", "second"), ("GET /3 HTTP/1.1", "")]
        {
            let request = origin.request();
            assert_eq!((request.line.as_str(), request.text()), (line, body));
            origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}", line.len()));
        }
        assert_eq!(client.response().text(), "POST /1 HTTP/1.1");
        assert_eq!(client.response().text(), "own");
        assert_eq!(client.response().text(), "POST /2 HTTP/1.1");
        let head = client.head();
        assert_eq!(head.field("content-length"), Some("3"), "HEAD says the length and sends nothing");
        assert_eq!(client.response().text(), "GET /3 HTTP/1.1");
        client.ends();
    }

    #[test]
    fn section_9_3_a_client_of_http_1_0_keeps_its_connection_when_it_asks_to() {
        let rig = Rig::new();
        let mut client = rig.client_that_sent("GET /1 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
        let answer = client.response();
        assert_eq!(answer.line, "HTTP/1.0 200 OK");
        assert_eq!((answer.field("connection"), answer.text()), (Some("keep-alive"), "1"));
        client.send("GET /2 HTTP/1.0\r\nHost: a\r\n\r\n");
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
        let answer = client.response();
        assert_eq!((answer.field("connection"), answer.text()), (Some("close"), "2"));
        client.ends();
    }

    #[test]
    fn section_6_1_a_client_of_http_1_0_gets_no_chunks() {
        let rig = Rig::new();
        let mut client = rig.client_that_sent("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n");
        let head = client.head();
        assert_eq!((head.field("connection"), head.field("transfer-encoding")), (Some("close"), None));
        assert_eq!(client.rest(), b"abc");
    }

    #[test]
    fn a_client_of_http_1_0_does_not_take_a_chunked_answer_that_broke_off_for_whole() {
        let rig = Rig::new();
        let mut client = rig.client_that_sent("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        client.until("abc");
        drop(origin);
        client.is_reset();
    }

    #[test]
    fn section_9_6_a_client_that_half_closes_after_its_request_is_answered() {
        let rig = Rig::new();
        let mut client = rig.client_that_sent("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        client.half_close();
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(client.response().text(), "ok");
        client.ends();
    }

    #[test]
    fn a_body_that_nobody_wanted_is_read_over_and_not_taken_for_a_request() {
        let rig = Rig::with(|setup| setup.routes.push(respond("own", "/own", 200, "own")));
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut client = rig.client_that_sent(format!(
            "POST /own HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{smuggled}GET /own HTTP/1.1\r\nHost: a\r\n\r\n",
            smuggled.len()
        ));
        assert_eq!(client.response().text(), "own");
        assert_eq!(client.response().text(), "own");
        rig.origin.heard_nothing();
    }

    #[test]
    fn a_chunked_body_that_nobody_wanted_ends_the_connection_and_is_not_taken_for_a_request() {
        let rig = Rig::with(|setup| setup.routes.push(respond("own", "/own", 200, "own")));
        let mut client = rig.client_that_sent(
            "POST /own HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
             GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        );
        let answer = client.response();
        assert_eq!((answer.text(), answer.field("connection")), ("own", Some("close")));
        client.ends();
        rig.origin.heard_nothing();
    }

    #[test]
    fn what_is_left_of_a_body_after_an_early_answer_is_not_taken_for_a_request() {
        let rig = Rig::new();
        let rest = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut client = rig.client_that_sent(format!(
            "POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\nabc",
            3 + rest.len()
        ));
        let mut origin = rig.origin.accept();
        origin.head();
        origin.exactly(3);
        origin.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        assert_eq!(client.response().status(), 403);
        assert!(origin.rest().is_empty(), "a connection with half a request on it is not used again");
        client.send(format!("{rest}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
        let mut origin = rig.origin.accept();
        assert_eq!(origin.request().line, "GET /next HTTP/1.1");
    }
}
