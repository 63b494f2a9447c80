//! Bodies both ways: large, slow, in pieces, with trailers, with leave and without.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use terrace_testkit::{
    Connection, Request, Response, Signal, Terrace, Upload, WebSocket, fingerprint, get, pattern,
    peak_memory_bytes, post, signal, until, until_true,
};

use crate::{shop, world};

const UPLOAD_BYTES: u64 = 200 << 20;
/// What a Terrace may take more while it passes on far more than that.
const FLAT_BYTES: u64 = 24 << 20;

#[test]
fn a_large_upload_streams_through_with_flat_memory_even_when_the_app_does_not_read_it_yet() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&format!("{file}body-max = \"1GiB\"\n"));
    assert_eq!(get(address, "/").status, 200);
    let before = peak_memory_bytes(terrace.pid());
    let written = AtomicU64::new(0);
    let told = std::thread::scope(|scope| {
        let uploading = scope.spawn(|| upload(address, "/pattern?gate=read", &written));
        until_stalled(&written);
        world.folder.write("gate-read", "");
        uploading.join().expect("it is answered").json()
    });
    assert_eq!((&told["bytes"], &told["matches"]), (&UPLOAD_BYTES.into(), &true.into()));
    flat(&terrace, before);
}

fn upload(address: SocketAddr, target: &str, written: &AtomicU64) -> Response {
    let block = pattern(0, 1 << 16);
    let mut connection = Connection::open(address).expect("it is served");
    let head = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {UPLOAD_BYTES}\r\n\r\n");
    connection.write(head.as_bytes()).expect("the head is taken");
    for _ in 0..UPLOAD_BYTES / block.len() as u64 {
        connection.write(&block).expect("the body is taken");
        written.fetch_add(block.len() as u64, Ordering::SeqCst);
    }
    connection.read("POST").expect("it is answered")
}

/// Waits until something was written and no more is, look after look; too early is no harm, only less of a test.
fn until_stalled(written: &AtomicU64) {
    let (mut seen, mut looks) = (0, 0);
    until_true("the upload stalls", || {
        let now = written.load(Ordering::SeqCst);
        looks = if now == seen && now > 0 { looks + 1 } else { 0 };
        seen = now;
        looks > 20
    });
}

#[test]
fn a_large_download_streams_through_with_flat_memory() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&file);
    assert_eq!(get(address, "/").status, 200);
    let before = peak_memory_bytes(terrace.pid());
    let mut connection = Connection::open(address).expect("it is served");
    let request = Request::get(&format!("/download?bytes={UPLOAD_BYTES}"));
    connection.write(&request.to_bytes()).expect("it is sent");
    let head = connection.read_head().expect("it is answered");
    assert_eq!(head.field("content-length"), Some(UPLOAD_BYTES.to_string().as_str()));
    let block = pattern(0, 1 << 16);
    for _ in 0..UPLOAD_BYTES / block.len() as u64 {
        let piece = connection.read_exact(block.len()).expect("it comes whole");
        assert!(piece == block, "it comes as it was sent");
    }
    flat(&terrace, before);
}

#[track_caller]
fn flat(terrace: &Terrace<'_>, before: u64) {
    let grown = peak_memory_bytes(terrace.pid()).saturating_sub(before);
    assert!(grown < FLAT_BYTES, "it took {grown} bytes more");
}

#[test]
fn an_upload_that_is_too_large_is_refused_before_it_is_sent() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let _terrace = world.up(&format!("{file}body-max = \"1KiB\"\n"));
    let answer = post(address, "/upload", vec![b'x'; 1025]);
    assert_eq!((answer.status, &answer.json()["fault"]), (413, &"client".into()));
    assert_eq!(post(address, "/upload", vec![b'x'; 1024]).status, 200);
    // One that does not say how much there will be is cut when there was too much.
    let mut upload = Upload::begin(address, &Request::new("POST", "/upload")).expect("it begins");
    let _refused_meanwhile = upload.push(&[b'x'; 2048]);
    assert_eq!(upload.finish().expect("it is answered").status, 413);
}

#[test]
fn events_arrive_one_by_one_as_they_are_sent() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let _terrace = world.up(&file);
    let mut connection = Connection::open(address).expect("it is served");
    connection.write(&Request::get("/events?gate=second").to_bytes()).expect("it is sent");
    let head = connection.read_head().expect("the head comes at once");
    assert_eq!(head.field("content-type"), Some("text/event-stream"));
    let event = connection.read_chunk().expect("the first event comes");
    assert_eq!(event.as_deref(), Some(&b"data: first\n\n"[..]));
    world.folder.write("gate-second", "");
    let event = connection.read_chunk().expect("the second event comes");
    assert_eq!(event.as_deref(), Some(&b"data: second\n\n"[..]));
    assert_eq!(connection.read_chunk().expect("the end comes"), None);
}

#[test]
fn a_client_that_waits_for_leave_gets_it_from_the_app() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let _terrace = world.up(&file);
    let mut connection = Connection::open(address).expect("it is served");
    let head =
        "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    connection.write(head.as_bytes()).expect("the head is taken");
    assert_eq!(connection.read_one_head().expect("there is leave").status, 100);
    connection.write(b"hello").expect("the body is taken");
    let answer = connection.read("POST").expect("it is answered");
    assert_eq!(answer.json()["fingerprint"], fingerprint(b"hello"));
    assert!(answer.interim.is_empty(), "leave is given once");
}

#[test]
fn a_client_that_waits_for_leave_is_told_when_it_has_none() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let _terrace = world.up(&file);
    let mut connection = Connection::open(address).expect("it is served");
    let head = "POST /early?code=417 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\nExpect: 100-continue\r\n\r\n";
    connection.write(head.as_bytes()).expect("the head is taken");
    let answer = connection.read("POST").expect("it is answered");
    assert_eq!((answer.status, answer.interim), (417, vec![]));
}

#[test]
fn an_answer_that_comes_before_the_body_is_passed_on() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let _terrace = world.up(&file);
    let mut connection = Connection::open(address).expect("it is served");
    let head =
        "POST /early?code=403 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\nsome of it";
    connection.write(head.as_bytes()).expect("the head is taken");
    let answer = connection.read("POST").expect("it is answered");
    assert_eq!((answer.status, answer.text()), (403, "early\n".to_owned()));
}

#[test]
fn chunks_and_trailers_pass_in_both_directions() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let _terrace = world.up(&file);
    let request = Request::new("POST", "/mirror").with("TE", "trailers");
    let mut upload = Upload::begin(address, &request).expect("it begins");
    for piece in ["one ", "two ", "three"] {
        upload.push(piece.as_bytes()).expect("it is taken");
    }
    let answer = upload.finish().expect("it is answered");
    assert_eq!((answer.text().as_str(), answer.trailer("x-length")), ("one two three", Some("13")));
    let mut connection = Connection::open(address).expect("it is served");
    let sent = "POST /seen HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                2\r\nok\r\n0\r\nX-Sum: 17\r\n\r\n";
    connection.write(sent.as_bytes()).expect("it is taken");
    let seen = connection.read("POST").expect("it is answered").json();
    assert_eq!(seen["trailers"].to_string().to_lowercase(), r#"[["x-sum","17"]]"#);
}

#[test]
fn answers_without_a_body_leave_the_connection_usable() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let _terrace = world.up(&file);
    let mut connection = Connection::open(address).expect("it is served");
    let mut exchange = |request: &Request| connection.exchange(request).expect("it is answered");
    assert_eq!(exchange(&Request::new("HEAD", "/")).field("content-length"), Some("17"));
    assert_eq!(exchange(&Request::get("/status?code=404")).status, 404);
    assert_eq!(exchange(&Request::get("/")).text(), "hello from web-1\n");
    let pair = [Request::get("/").to_bytes(), Request::get("/seen").to_bytes()].concat();
    connection.write(&pair).expect("two at once are taken");
    assert_eq!(connection.read("GET").expect("the first is answered").text(), "hello from web-1\n");
    assert_eq!(connection.read("GET").expect("the second is answered").json()["target"], "/seen");
}

#[test]
fn a_websocket_ends_when_its_instance_does_and_an_upgrade_can_be_refused() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&file);
    let mut socket = WebSocket::open(address, "/ws").expect("it opens");
    assert_eq!(socket.instance, "web-1");
    socket.echo("over and over").expect("it comes back");
    signal(terrace.pids("web")[0].1, Signal::KILL);
    assert!(socket.receive().is_err(), "the other end is gone");
    let answer = Request::get("/ws").with("Connection", "upgrade").with("Upgrade", "websocket");
    let answer = until("it is back", || answer.try_send(address).ok().filter(|a| a.status != 503));
    assert_eq!(answer.status, 426);
}
