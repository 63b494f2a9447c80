//! TLS towards clients: the same requests inside it, and what comes in the clear where it is spoken.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use terrace_edge::{Certificates, Pair, Tls, dev_pair};

use crate::rig::{PATIENCE, Rig, Setup};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

fn tls(pair: &Pair) -> Tls {
    Tls { pairs: vec![pair.clone()], http2: true, ..Tls::default() }
}

fn rig() -> (Rig, Pair) {
    let pair = dev_pair(vec!["a.example".to_owned()]).expect("a certificate");
    let certificates = Arc::new(Certificates::build(&tls(&pair)).expect("valid"));
    (Rig::with(|setup: &mut Setup| setup.listener.tls = Some(certificates)), pair)
}

fn client(rig: &Rig, pair: &Pair, alpn: &[&[u8]]) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pair.certificates_pem).expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("a.example").expect("a name");
    let stream = TcpStream::connect(rig.address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("valid"), stream)
}

/// Reads until the bytes end with `end`.
fn read_until(stream: &mut impl Read, end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    while !read.ends_with(end) {
        let bytes = stream.read(&mut buffer).expect("open");
        assert!(bytes > 0, "closed after {:?}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&buffer[..bytes]);
    }
    read
}

#[test]
fn a_request_inside_tls_is_told_to_have_come_by_https() {
    let (rig, pair) = rig();
    let mut client = client(&rig, &pair, &[b"http/1.1"]);
    client.write_all(GET.as_bytes()).expect("open");
    let mut origin = rig.origin.accept();
    let request = origin.request();
    assert_eq!(request.field("x-forwarded-proto"), Some("https"));
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsafe");
    read_until(&mut client, b"safe");
    assert_eq!(client.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn a_large_answer_reaches_a_reader_that_takes_it_in_sips() {
    let (rig, pair) = rig();
    let mut client = client(&rig, &pair, &[]);
    client.write_all(GET.as_bytes()).expect("open");
    let mut origin = rig.origin.accept();
    origin.request();
    let sending = std::thread::spawn(move || {
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 8388612\r\n\r\n");
        origin.send(vec![b'x'; 8 << 20]);
        origin.send("end.");
        origin
    });
    let read = read_until(&mut client, b"end.");
    assert!(read.len() > 8 << 20);
    drop(sending.join().expect("all was taken"));
}

#[test]
fn an_answer_that_broke_off_is_not_taken_for_whole() {
    let (rig, pair) = rig();
    let mut client = client(&rig, &pair, &[]);
    client.write_all(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n").expect("open");
    let mut origin = rig.origin.accept();
    origin.request();
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    read_until(&mut client, b"abc");
    drop(origin);
    assert!(client.read(&mut [0; 16]).is_err(), "no close_notify, which would say that all is well");
}

#[test]
fn http_2_is_agreed_upon() {
    let (rig, pair) = rig();
    let mut client = client(&rig, &pair, &[b"h2", b"http/1.1"]);
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("open");
    let mut head = [0; 9];
    client.read_exact(&mut head).expect("open");
    assert_eq!(client.conn.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(head[3], 4, "settings come first");
}

#[test]
fn a_request_in_the_clear_is_sent_to_https_and_never_to_the_origin() {
    let (rig, _) = rig();
    let mut client = rig.client_that_sent("GET /x?y HTTP/1.1\r\nHost: a.example:80\r\n\r\n");
    let answer = client.response();
    let location = format!("https://a.example:{}/x?y", rig.address.port());
    assert_eq!((answer.status(), answer.field("location")), (308, Some(location.as_str())));
    rig.origin.heard_nothing();
}

#[test]
fn a_handshake_that_stops_half_way_is_not_waited_for() {
    let pair = dev_pair(vec!["a.example".to_owned()]).expect("a certificate");
    let certificates = Arc::new(Certificates::build(&tls(&pair)).expect("valid"));
    let rig = Rig::with(|setup| {
        setup.listener.tls = Some(certificates);
        setup.listener.bounds.head_time = std::time::Duration::from_millis(100);
    });
    rig.client_that_sent([0x16, 3, 1, 2, 0, 1]).rest();
    rig.client().ends();
    rig.client_that_sent([&[0x16, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat()).rest();
}
