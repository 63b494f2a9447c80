//! Forwarded (RFC 7239) and its older relatives: read from trusted proxies, from the right, and written for the origin.

use terrace_edge::Network;

use crate::message::Message;
use crate::rig::Rig;

fn forwarded(trusted: &[(&str, u8)], fields: &str) -> Message {
    let rig = Rig::with(|setup| {
        let network = |(address, bits): &(&str, u8)| Network::new(address.parse().expect("valid"), *bits);
        setup.listener.trusted_proxies = trusted.iter().map(network).collect();
    });
    rig.passes(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

const LOOPBACK: (&str, u8) = ("127.0.0.0", 8);

#[test]
fn a_trusted_proxys_word_is_kept_and_ours_is_added() {
    let request = forwarded(
        &[LOOPBACK],
        "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n\
         X-Request-Id: abc\r\nForwarded: for=203.0.113.9\r\n",
    );
    assert_eq!(request.field("x-forwarded-for"), Some("203.0.113.9, 127.0.0.1"));
    assert_eq!(request.field("x-forwarded-proto"), Some("https"));
    assert_eq!(request.field("x-forwarded-host"), Some("shop.example"));
    assert_eq!(request.field("x-request-id"), Some("abc"));
    assert_eq!(request.field("forwarded"), Some("for=203.0.113.9, for=127.0.0.1;proto=http;host=a"));
}

#[test]
fn several_fields_become_one_in_their_order() {
    let request = forwarded(&[LOOPBACK], "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n");
    assert_eq!(request.field("x-forwarded-for"), Some("1.1.1.1, 2.2.2.2, 127.0.0.1"));
}

#[test]
fn look_alikes_are_not_passed_on_even_by_a_trusted_proxy() {
    let request = forwarded(&[LOOPBACK], "X_Forwarded_For: 6.6.6.6\r\n");
    assert_eq!(request.field("x_forwarded_for"), None);
}

#[test]
fn a_request_id_that_could_not_stand_in_a_log_is_replaced() {
    for id in ["a b", "\u{e9}", "", &"x".repeat(129)] {
        let request = forwarded(&[LOOPBACK], &format!("X-Request-Id: {id}\r\n"));
        let given = request.field("x-request-id").expect("one");
        assert!(given.len() == 32 && given != id, "{given}");
    }
}

#[test]
fn an_odd_list_is_kept_as_text_and_harms_nothing() {
    let request = forwarded(&[LOOPBACK], "X-Forwarded-For: , ,unknown, \"[::1]:80\",, _hidden\r\n");
    assert!(request.field("x-forwarded-for").is_some_and(|value| value.ends_with(", 127.0.0.1")));
}
