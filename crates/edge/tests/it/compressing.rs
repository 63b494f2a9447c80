//! Answers that are coded for clients who take that, decoded here by the programs that everybody has.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;

use terrace_content::{Coding, Compression};
use terrace_edge::{Guards, Route};

use crate::frames::{Client, DATA, END_STREAM, HEADERS, Said, get as h2_get};
use crate::message::Message;
use crate::rig::{Rig, Setup, route};
use crate::traffic::{forward, get};

fn compressing(setup: &mut Setup) {
    let compress = Some(Arc::new(Compression::default()));
    let action = forward(setup, &[1]);
    let guards = Guards { compress, ..Guards::default() };
    setup.routes.push(Route { guards: Some(Box::new(guards)), ..route("pages", "/pages/*", action) });
}

fn rig() -> Rig {
    Rig::with(compressing)
}

/// What the program that everybody has for it makes of a coded body.
#[track_caller]
pub(crate) fn decoded(coding: &str, coded: &[u8]) -> Vec<u8> {
    let program = match coding {
        "br" => "brotli",
        other => other,
    };
    let mut child = Command::new(program)
        .args(["-d", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; run scripts/prepare.sh test"));
    let mut input = child.stdin.take().expect("piped");
    let coded = coded.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&coded));
    let mut body = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut body).expect("read");
    writer.join().expect("no panic").expect("it takes all");
    assert!(child.wait().expect("it ends").success(), "{program} takes it for whole");
    body
}

fn page() -> String {
    (0..2000).map(|line| format!("<p>line {line} of a page</p>\n")).collect()
}

fn answer(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

const HTML: &str = "Content-Type: text/html\r\n";

/// What a client that takes gzip gets for this answer.
#[track_caller]
fn gzipped(rig: &Rig, answer: &str) -> Message {
    rig.exchanges(get("/pages", "Accept-Encoding: gzip\r\n"), answer).1
}

#[test]
fn every_coding_is_read_by_its_program() {
    let rig = rig();
    let page = page();
    for coding in Coding::ALL.map(Coding::name) {
        let fields = format!("{HTML}ETag: \"v1\"\r\nAccept-Ranges: bytes\r\n");
        let asked = get("/pages", &format!("Accept-Encoding: {coding}\r\n"));
        let (seen, got) = rig.exchanges(asked, &answer(&fields, &page));
        assert_eq!(seen.field("accept-encoding"), Some(coding), "the service may code by itself");
        assert_eq!(got.field("content-encoding"), Some(coding));
        assert_eq!((got.field("content-length"), got.field("accept-ranges")), (None, None));
        assert_eq!(got.field("etag"), Some("W/\"v1\""));
        assert_eq!(got.field("vary"), Some("accept-encoding"));
        assert!(got.body.len() < page.len() / 4, "{}", got.body.len());
        assert!(decoded(coding, &got.body) == page.as_bytes(), "{coding}");
        assert_eq!(rig.counted("terrace_coded", &["pages", coding]), 1);
    }
    rig.counts("terrace_coding_taken", &["pages"], 3 * page.len() as u64);
    assert!(rig.counted("terrace_coding_given", &["pages"]) < page.len() as u64);
}

#[test]
fn a_client_that_takes_no_coding_gets_the_body_as_it_is_and_caches_are_told() {
    let rig = rig();
    let (_, got) = rig.exchanges(get("/pages", ""), &answer(&format!("{HTML}ETag: \"v1\"\r\n"), &page()));
    assert_eq!((got.field("content-encoding"), got.field("etag")), (None, Some("\"v1\"")));
    assert_eq!((got.text(), got.field("vary")), (&*page(), Some("accept-encoding")));
    assert_eq!(got.field("content-length"), Some(&*page().len().to_string()));
}

#[test]
fn what_is_coded_small_partial_or_an_event_stream_goes_as_it_is() {
    let rig = rig();
    let page = page();
    for fields in [
        "Content-Type: text/html\r\nContent-Encoding: br\r\n",
        "Content-Type: text/html\r\nCache-Control: no-transform\r\n",
        "Content-Type: image/png\r\n",
        "Content-Type: text/event-stream\r\n",
        "",
    ] {
        assert_eq!(gzipped(&rig, &answer(fields, &page)).text(), page, "{fields}");
    }
    assert_eq!(gzipped(&rig, &answer(HTML, "small")).text(), "small");
    let part = answer("Content-Type: text/html\r\nContent-Range: bytes 0-9/99\r\n", &page);
    let got = gzipped(&rig, &part.replacen("200 OK", "206 Partial Content", 1));
    assert_eq!((got.status(), got.field("content-encoding")), (206, None));
    assert_eq!(got.text(), page);
}

#[test]
fn a_page_is_shown_while_it_is_still_made() {
    let rig = rig();
    let mut client = rig.client_that_sent(get("/pages", "Accept-Encoding: gzip\r\n"));
    let mut origin = rig.origin.accept();
    origin.request();
    origin.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n");
    origin.send("7\r\n<h1>at \r\n");
    let head = client.head();
    assert_eq!(head.field("content-encoding"), Some("gzip"));
    // The origin has not said more: what there is of it can be read nevertheless.
    let mut shown = Shown::default();
    while shown.text() != "<h1>at " {
        shown.add(&chunk(&mut client));
    }
    origin.send("5\r\nonce.\r\n");
    while shown.text() != "<h1>at once." {
        shown.add(&chunk(&mut client));
    }
    origin.send("0\r\nX-Sum: 1\r\n\r\n");
    let mut rest = Vec::new();
    loop {
        let piece = chunk(&mut client);
        if piece.is_empty() {
            break;
        }
        rest.extend(piece);
    }
    shown.add(&rest);
    assert_eq!(decoded("gzip", &shown.coded), b"<h1>at once.");
    assert_eq!(client.until("\r\n\r\n").to_lowercase(), "x-sum: 1\r\n\r\n", "trailers follow");
}

/// A chunk of an answer; empty at the end.
fn chunk(client: &mut crate::rig::Peer) -> Vec<u8> {
    let line = client.until("\r\n");
    let size = usize::from_str_radix(line.trim_end(), 16).expect("a plain size");
    if size == 0 {
        return Vec::new();
    }
    let data = client.exactly(size);
    assert_eq!(client.exactly(2), b"\r\n");
    data
}

/// What of a gzip member can be read so far.
#[derive(Default)]
struct Shown {
    coded: Vec<u8>,
}

impl Shown {
    fn add(&mut self, coded: &[u8]) {
        self.coded.extend_from_slice(coded);
    }

    fn text(&self) -> String {
        let mut reader = flate2::read::GzDecoder::new(&self.coded[..]);
        let (mut text, mut piece) = (Vec::new(), [0; 256]);
        while let Ok(bytes @ 1..) = reader.read(&mut piece) {
            text.extend_from_slice(&piece[..bytes]);
        }
        String::from_utf8(text).expect("text")
    }
}

#[test]
fn an_answer_to_head_has_the_head_of_one_to_get() {
    let rig = rig();
    let asked = get("/pages", "Accept-Encoding: br\r\n").replacen("GET", "HEAD", 1);
    let mut client = rig.client_that_sent(asked);
    let mut origin = rig.origin.accept();
    origin.head();
    origin.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000\r\nETag: \"a\"\r\n\r\n");
    let got = client.head();
    assert_eq!((got.field("content-encoding"), got.field("content-length")), (Some("br"), None));
    assert_eq!((got.field("etag"), got.field("vary")), (Some("W/\"a\""), Some("accept-encoding")));
    client.send(get("/pages/next", "Connection: close\r\n"));
    origin.request();
    origin.send("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(client.response().status(), 204, "no body stood between the two");
}

#[test]
fn rfc9110_13_1_2_a_client_asks_again_with_the_tag_that_it_was_given() {
    let rig = rig();
    let asked = get("/pages", "Accept-Encoding: gzip\r\nIf-None-Match: W/\"v1\"\r\n");
    let (seen, got) = rig.exchanges(asked, "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n");
    assert_eq!(seen.field("if-none-match"), Some("W/\"v1\", \"v1\""));
    assert_eq!((got.status(), got.field("etag")), (304, Some("W/\"v1\"")));
    assert_eq!(got.field("vary"), Some("accept-encoding"));
}

#[test]
fn a_body_that_breaks_off_is_not_made_whole() {
    let rig = rig();
    let mut client = rig.client_that_sent(get("/pages", "Accept-Encoding: gzip\r\n"));
    let mut origin = rig.origin.accept();
    origin.request();
    origin.send(format!("HTTP/1.1 200 OK\r\n{HTML}Content-Length: 5000\r\n\r\nonly this"));
    drop(origin);
    let all = String::from_utf8_lossy(&client.rest()).into_owned();
    assert!(all.contains("content-encoding: gzip"), "{all}");
    assert!(!all.ends_with("0\r\n\r\n"), "a last chunk would say that this was all");
}

#[test]
fn a_body_without_a_length_and_one_that_ends_with_the_connection_are_coded() {
    let rig = rig();
    let page = page();
    let mut client = rig.client_that_sent(get("/pages", "Accept-Encoding: zstd\r\n"));
    let mut origin = rig.origin.accept();
    origin.request();
    origin.send(format!("HTTP/1.1 200 OK\r\n{HTML}\r\n{page}"));
    drop(origin);
    let got = client.response();
    assert_eq!(got.field("transfer-encoding"), Some("chunked"));
    assert!(decoded("zstd", &got.body) == page.as_bytes());
}

#[test]
fn http_1_0_knows_no_chunks_so_the_coded_body_ends_with_the_connection() {
    let rig = rig();
    let asked = get("/pages", "Accept-Encoding: gzip\r\n").replacen("HTTP/1.1", "HTTP/1.0", 1);
    let (_, got) = rig.exchanges(asked, &answer(HTML, &page()));
    assert_eq!((got.field("content-encoding"), got.field("transfer-encoding")), (Some("gzip"), None));
    assert!(decoded("gzip", &got.body) == page().as_bytes());
}

#[test]
fn a_large_body_goes_in_slices_and_arrives_whole() {
    let rig = rig();
    let body: String = (0..200_000).map(|number| format!("{{\"n\":{number}}}\n")).collect();
    for coding in ["zstd", "br", "gzip"] {
        let asked = get("/pages", &format!("Accept-Encoding: {coding}\r\n"));
        let (_, got) = rig.exchanges(asked, &answer("Content-Type: application/json\r\n", &body));
        assert!(decoded(coding, &got.body) == body.as_bytes(), "{coding}");
    }
}

#[test]
fn the_connection_goes_on_after_a_coded_answer() {
    let rig = rig();
    let mut client = rig.client_that_sent(get("/pages/1", "Accept-Encoding: gzip\r\n"));
    let mut origin = rig.origin.accept();
    for round in 0..3 {
        origin.request();
        origin.send(answer(HTML, &page()));
        assert!(decoded("gzip", &client.response().body) == page().as_bytes(), "{round}");
        client.send(get("/pages/next", "Accept-Encoding: gzip\r\n"));
    }
}

#[test]
fn a_client_of_http_2_gets_a_coded_body_that_ends_with_its_stream() {
    let rig = rig();
    let mut client = Client::connect(&rig);
    let mut fields = h2_get("/pages");
    fields.push(("accept-encoding", "gzip"));
    client.ask(1, &fields, false);
    let mut origin = rig.origin.accept();
    origin.request();
    origin.send(answer(HTML, &page()));
    assert_eq!(client.said(1), Said::Status(200));
    let body = client.body(1).expect("it ends in good order");
    assert!(decoded("gzip", &body) == page().as_bytes());
    // To HEAD the head alone, with the end of the stream.
    let mut fields = h2_get("/pages");
    fields[0] = (":method", "HEAD");
    fields.push(("accept-encoding", "gzip"));
    client.ask(3, &fields, false);
    origin.head();
    origin.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000\r\n\r\n");
    let head = loop {
        let frame = client.frame().expect("the connection is open");
        assert!(frame.kind != DATA || frame.stream != 3, "no body");
        if frame.kind == HEADERS && frame.stream == 3 {
            break frame;
        }
    };
    assert_eq!(head.flags & END_STREAM, END_STREAM);
}

#[test]
fn a_route_that_is_not_compressed_is_left_alone() {
    let rig = Rig::new();
    let asked = get("/pages", "Accept-Encoding: gzip\r\nIf-None-Match: W/\"a\"\r\n");
    let (seen, got) = rig.exchanges(asked, &answer(&format!("{HTML}ETag: \"a\"\r\n"), &page()));
    assert_eq!(seen.field("if-none-match"), Some("W/\"a\""));
    assert_eq!((got.field("vary"), got.field("etag"), got.text()), (None, Some("\"a\""), &*page()));
}
