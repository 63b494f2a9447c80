//! The HTTP/1 engine on a real socket: what it reads does not depend on how the bytes were cut, what it writes arrives
//! whole however slowly it is taken, and nothing of one message shows in the next.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use terrace_http::{BodyLength, Bounds, Known, RequestHead, ResponseHead, Version, request_body};
use terrace_wire::http1::{Connection, Preface};
use terrace_wire::{Frame, Io, WireError};
use tokio::net::TcpListener;

/// A connection of the engine, and the other end in the hands of the test.
async fn pair() -> (Connection, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let other = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let (stream, _) = listener.accept().await.expect("it was connected");
    other.set_nodelay(true).expect("a socket");
    (Connection::new(Io::from(stream)), other)
}

/// Reads one request with its body and trailers, as text.
async fn request(connection: &mut Connection) -> Result<Option<String>, WireError> {
    let mut head = RequestHead::new();
    if !connection.read_request(&Bounds::default(), &mut head).await? {
        return Ok(None);
    }
    let length = request_body(head.version, &head.fields)?;
    connection.begin_body(length, 1024);
    let mut text = format!("{} {}", head.method, head.target());
    let (mut incoming, _) = connection.split();
    while let Some(frame) = poll_fn(|cx| incoming.poll_frame(cx)).await? {
        match frame {
            Frame::Data(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
            Frame::Trailers(fields) => text.push_str(&format!("{fields:?}")),
        }
    }
    assert!(connection.is_body_read());
    Ok(Some(text))
}

const PIPELINE: &str = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst\
    POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nsec\r\n3\r\nond\r\n0\r\nX-Sum: 1\r\n\r\n\
    GET /3 HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_pipeline_cut_anywhere_is_the_same_requests() {
    for cut in 0..=PIPELINE.len() {
        let (mut connection, mut other) = pair().await;
        let (before, after) = PIPELINE.split_at(cut);
        other.write_all(before.as_bytes()).expect("room");
        let mut rest = Some(after);
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let mut reading = Box::pin(request(&mut connection));
            let read = poll_fn(|cx| {
                let read = reading.as_mut().poll(cx);
                // The second part is sent only when the first is used up.
                if read.is_pending()
                    && let Some(rest) = rest.take()
                {
                    other.write_all(rest.as_bytes()).expect("room");
                }
                read
            });
            seen.push(read.await.expect("valid").expect("a request"));
        }
        assert_eq!(seen, ["POST /1first", "POST /2second[\"X-Sum\"]", "GET /3"], "cut at {cut}");
    }
}

#[tokio::test]
async fn a_message_that_ends_early_is_told_from_one_that_never_began() {
    let complete = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst";
    for cut in 0..complete.len() {
        let (mut connection, mut other) = pair().await;
        other.write_all(&complete.as_bytes()[..cut]).expect("room");
        drop(other);
        match request(&mut connection).await {
            Ok(None) => assert_eq!(cut, 0),
            Err(WireError::Closed) => assert!(cut > 0),
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_body_longer_or_shorter_than_its_head_said_is_not_sent() {
    let (mut connection, _other) = pair().await;
    let mut outgoing = connection.outgoing();
    outgoing.response(&ResponseHead::new(200), BodyLength::Known(3), Version::Http11);
    outgoing.data(Bytes::from_static(b"ab")).expect("as long as it said");
    assert!(matches!(outgoing.end(None), Err(WireError::Length)));
    assert!(matches!(outgoing.data(Bytes::from_static(b"cd")), Err(WireError::Length)));
    let mut outgoing = connection.outgoing();
    outgoing.response(&ResponseHead::new(204), BodyLength::Empty, Version::Http11);
    assert!(matches!(outgoing.data(Bytes::from_static(b"x")), Err(WireError::Length)));
}

#[tokio::test]
async fn parts_large_and_small_arrive_in_their_order_at_a_slow_reader() {
    let (mut connection, mut other) = pair().await;
    let parts: Vec<Bytes> = (0..200_usize)
        .map(|index| Bytes::from(vec![b'a' + (index % 26) as u8; 1 + (index * 7_919) % 40_000]))
        .collect();
    let all = parts.concat();
    let length = all.len();
    let reading = std::thread::spawn(move || {
        let mut read = Vec::new();
        let mut small = [0; 1_000];
        while !read.ends_with(b"0\r\n\r\n") {
            let bytes = other.read(&mut small).expect("open");
            assert!(bytes > 0, "closed after {} bytes", read.len());
            read.extend_from_slice(&small[..bytes]);
        }
        read
    });
    let mut outgoing = connection.outgoing();
    outgoing.response(&ResponseHead::new(200), BodyLength::Framed, Version::Http11);
    for (index, part) in parts.into_iter().enumerate() {
        outgoing.data(part).expect("chunks have no bound");
        if index % 3 == 0 {
            outgoing.flush().await.expect("open");
            assert_eq!(outgoing.buffered_bytes(), 0);
        }
    }
    outgoing.end(None).expect("chunks end anywhere");
    outgoing.flush().await.expect("open");
    assert!(connection.is_body_written());
    let read = reading.join().expect("all was read");
    assert_eq!(unchunked(&read), all, "{length} bytes");
}

fn unchunked(answer: &[u8]) -> Vec<u8> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).expect("text").to_owned();
    let end =
        |bytes: &[u8], of: &[u8]| bytes.windows(of.len()).position(|window| window == of).expect("its end");
    let mut rest = &answer[end(answer, b"\r\n\r\n") + 4..];
    let mut body = Vec::new();
    loop {
        let line = end(rest, b"\r\n");
        let size = usize::from_str_radix(&text(&rest[..line]), 16).expect("a size");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
    }
}

#[tokio::test]
async fn bytes_nobody_asked_for_make_an_idle_connection_stale() {
    let (mut connection, mut other) = pair().await;
    assert!(!connection.is_stale());
    other.write_all(b"HTTP/1.1 200 OK\r\n").expect("room");
    poll_fn(|cx| connection.split().0.poll_has_bytes(cx)).await.expect("open");
    assert!(connection.is_stale());
    let (mut connection, other) = pair().await;
    drop(other);
    assert!(!poll_fn(|cx| connection.split().0.poll_has_bytes(cx)).await.expect("closed in good order"));
    assert!(connection.is_stale());
}

#[tokio::test]
async fn the_preface_of_http_2_is_told_byte_by_byte_and_nothing_of_it_is_lost() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for cut in 1..PREFACE.len() {
        let (mut connection, mut other) = pair().await;
        other.write_all(&PREFACE[..cut]).expect("room");
        let mut rest = Some(&PREFACE[cut..]);
        let preface = {
            let mut told = Box::pin(connection.preface());
            poll_fn(|cx| {
                let told = told.as_mut().poll(cx);
                if told.is_pending()
                    && let Some(rest) = rest.take()
                {
                    other.write_all(rest).expect("room");
                }
                told
            })
            .await
        };
        assert_eq!(preface.expect("open"), Preface::Http2, "cut at {cut}");
        drop(other);
        let mut all = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut connection.into_io(), &mut all).await.expect("open");
        assert_eq!(all, PREFACE);
    }
    let (mut connection, mut other) = pair().await;
    other.write_all(b"PRIVATE / HTTP/1.1\r\nHost: a\r\n\r\n").expect("room");
    assert_eq!(connection.preface().await.expect("open"), Preface::Http1);
    assert_eq!(request(&mut connection).await.expect("valid").as_deref(), Some("PRIVATE /"));
}

#[tokio::test]
async fn an_upgraded_connection_is_two_streams_that_end_each_by_itself() {
    let (mut connection, mut other) = pair().await;
    other.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\nright behind").expect("room");
    let mut head = RequestHead::new();
    connection.read_request(&Bounds::default(), &mut head).await.expect("valid");
    assert_eq!(head.fields.get(Known::Upgrade), Some(&b"x"[..]));
    let (mut incoming, mut outgoing) = connection.split();
    incoming.begin_body(BodyLength::UntilClose, 0);
    outgoing.upgrade();
    let frame = poll_fn(|cx| incoming.poll_frame(cx)).await.expect("open");
    assert!(matches!(frame, Some(Frame::Data(bytes)) if bytes == b"right behind"[..]));
    outgoing.data(Bytes::from_static(b"last")).expect("no bound");
    outgoing.end(None).expect("it may end");
    outgoing.flush().await.expect("open");
    let mut rest = String::new();
    other.read_to_string(&mut rest).expect("closed in good order");
    assert_eq!(rest, "last");
    other.write_all(b"still here").expect("the other direction is open");
    let frame = poll_fn(|cx| incoming.poll_frame(cx)).await.expect("open");
    assert!(matches!(frame, Some(Frame::Data(bytes)) if bytes == b"still here"[..]));
    drop(other);
    assert!(poll_fn(|cx| incoming.poll_frame(cx)).await.expect("open").is_none());
}
