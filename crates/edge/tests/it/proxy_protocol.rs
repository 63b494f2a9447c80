//! The PROXY protocol (haproxy.org, proxy-protocol.txt): believed from those who may say it, and from nobody else.

use terrace_edge::{Network, ProxyProtocol};

use crate::rig::{Rig, Setup};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn rig(accepted: ProxyProtocol) -> Rig {
    Rig::with(|setup: &mut Setup| {
        setup.listener.proxy_protocol = accepted;
        setup.listener.trusted_proxies = vec![Network::new([127, 0, 0, 1].into(), 32)];
    })
}

fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(addresses.len()).expect("short").to_be_bytes());
    header.extend(addresses);
    header
}

#[test]
fn section_2_1_the_line_says_who_the_client_is() {
    let request =
        rig(ProxyProtocol::V1).passes(format!("PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\r\n{GET}"));
    assert_eq!(request.field("x-forwarded-for"), Some("203.0.113.9"));
    assert_eq!(request.field("x-forwarded-port"), Some("443"));
    let request =
        rig(ProxyProtocol::Any).passes(format!("PROXY TCP6 2001:db8::9 2001:db8::1 5000 443\r\n{GET}"));
    assert_eq!(request.field("x-forwarded-for"), Some("2001:db8::9"));
    assert_eq!(request.field("forwarded"), Some("for=\"[2001:db8::9]\";proto=http;host=a"));
}

#[test]
fn section_2_2_the_header_says_who_the_client_is_and_its_extensions_are_skipped() {
    let mut addresses = vec![203, 0, 113, 9, 192, 0, 2, 1, 0x13, 0x88, 1, 0xbb];
    addresses.extend([4, 0, 3, b'a', b'b', b'c']);
    let bytes = [v2(1, 0x11, &addresses), GET.into()].concat();
    let request = rig(ProxyProtocol::V2).passes(bytes);
    assert_eq!(request.field("x-forwarded-for"), Some("203.0.113.9"));
}

#[test]
fn a_header_in_pieces_is_waited_for() {
    let rig = rig(ProxyProtocol::V1);
    let mut client = rig.client();
    for byte in format!("PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\r\n{GET}").bytes() {
        client.send([byte]);
    }
    let mut origin = rig.origin.accept();
    assert_eq!(origin.request().field("x-forwarded-for"), Some("203.0.113.9"));
}

#[test]
fn a_connection_of_the_proxy_itself_speaks_for_the_proxy() {
    let request = rig(ProxyProtocol::V2).passes([v2(0, 0, &[]), GET.into()].concat());
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
    let request = rig(ProxyProtocol::V1).passes(format!("PROXY UNKNOWN\r\n{GET}"));
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn where_it_is_asked_for_a_connection_without_it_is_closed_without_a_word() {
    for bytes in [
        GET.as_bytes().to_vec(),
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n".to_vec(),
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 99999\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::1 2.2.2.2 1 2\r\n".to_vec(),
        b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(),
        [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat(),
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        v2(5, 0x11, &[0; 12]),
        v2(1, 0x11, &[0; 3]),
        v2(1, 0x11, &[0; 5_000]),
    ] {
        let rig = rig(ProxyProtocol::Any);
        let mut client = rig.client();
        client.try_send(&bytes);
        client.ends();
        rig.origin.heard_nothing();
    }
}

#[test]
fn a_version_that_was_not_asked_for_is_none() {
    let rig = rig(ProxyProtocol::V2);
    rig.client_that_sent("PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\r\n").ends();
}

#[test]
fn one_who_is_not_trusted_cannot_say_who_the_client_is() {
    let rig = Rig::with(|setup| {
        setup.listener.proxy_protocol = ProxyProtocol::Any;
        setup.listener.trusted_proxies = vec![Network::new([10, 0, 0, 0].into(), 8)];
    });
    let mut client = rig.client();
    client.try_send(format!("PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\r\n{GET}"));
    client.ends();
    rig.origin.heard_nothing();
}

#[test]
fn where_it_is_not_asked_for_it_is_no_request() {
    Rig::new().refuses(format!("PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\r\n{GET}"), 400);
}

#[test]
fn the_header_towards_an_origin_comes_first_and_such_a_connection_serves_one_client_only() {
    let rig = Rig::with(|setup| setup.upstream.proxy_protocol_out = terrace_upstream::ProxyProtocol::V1);
    for _ in 0..2 {
        let mut client = rig.client_that_sent(GET);
        let mut origin = rig.origin.accept();
        let line = origin.until("\r\n");
        assert!(line.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "), "{line}");
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(client.response().text(), "ok");
        assert!(origin.rest().is_empty());
    }
}
