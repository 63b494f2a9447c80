//! Opaque tokens of a certified provider: it is asked about each once, believed for a while, and its silence lets nobody in.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::json;
use terrace_auth::{
    Asked, ClientId, Decision, Gate, GateConfig, IntrospectConfig, MethodConfig, Moment, Secret, TokenConfig,
};
use terrace_http::RequestHead;
use terrace_testkit::{Browser, Provider, Response};

use crate::house::{House, decide, status};

/// The client that asks; it also has tokens of its own.
const GUARD: [&str; 2] = ["guard", "guarded"];

fn asked_as_guard(provider: &Provider, path: &str, form: &str) -> Response {
    let basic = format!("Basic {}", BASE64.encode(GUARD.join(":").as_bytes()));
    let url = format!("{}{path}", provider.issuer());
    Browser::new().send("POST", &url, Some(form), &[("Authorization", &basic)])
}

fn token(provider: &Provider) -> String {
    let answer = asked_as_guard(provider, "/token", "grant_type=client_credentials&scope=orders").json();
    answer["access_token"].as_str().expect("a token").to_owned()
}

fn gate(house: &House, provider: &Provider, cache: Duration) -> Arc<Gate> {
    let introspect = IntrospectConfig {
        issuer: provider.issuer().to_owned(),
        url: format!("{}/token/introspection", provider.issuer()),
        client: ClientId { id: GUARD[0].to_owned(), secret: Some(Secret::new(GUARD[1].as_bytes())) },
        cache,
        audience: None,
        leeway: Duration::from_secs(60),
        roles: "roles".to_owned(),
        ca: None,
    };
    let config = TokenConfig { introspect: vec![introspect], ..TokenConfig::default() };
    let methods = vec![MethodConfig::Token(config)];
    house.auth.gate(&GateConfig { methods, ..GateConfig::default() }).expect("a gate")
}

fn ask(gate: &Gate, token: &str, later: Duration) -> Decision {
    let mut head = RequestHead::new();
    head.fields.append(b"Authorization", format!("Bearer {token}").as_bytes());
    let client = "192.0.2.1".parse().expect("an address");
    let asked = Asked { head: &head, is_tls: true, client, certificate: None };
    let now = Moment::read();
    decide(gate, gate.check_now(&asked, Moment { now: now.now + later, wall: now.wall + later }))
}

#[test]
fn an_opaque_token_is_asked_about_once_in_a_while() {
    let (house, provider) = (House::new(), Provider::start(&json!({"access_s": 600})));
    let (gate, token) = (gate(&house, &provider, Duration::from_secs(30)), token(&provider));
    for later in [0, 1, 25] {
        let decision = ask(&gate, &token, Duration::from_secs(later));
        let Decision::Known(passed) = &decision else { panic!("{decision:?}") };
        assert_eq!((passed.identity.subject.as_str(), passed.identity.has_scope("orders")), ("guard", true));
        assert_eq!(passed.forward.named(b"X-Auth-Method"), Some(&b"introspection"[..]));
    }
    assert_eq!(provider.counts()["introspection"], json!(1));

    asked_as_guard(&provider, "/token/revocation", &format!("token={token}"));
    assert_eq!(status(&ask(&gate, &token, Duration::from_secs(25))), 200, "so long it was to be believed");
    assert_eq!(status(&ask(&gate, &token, Duration::from_secs(31))), 401);
}

#[test]
fn a_token_that_nobody_issued_is_refused_and_an_issuer_that_is_silent_lets_nobody_in() {
    let (house, provider) = (House::new(), Provider::start(&json!({})));
    let gate = gate(&house, &provider, Duration::ZERO);
    let refused = ask(&gate, "made-up", Duration::ZERO);
    let Decision::Refused(refusal) = &refused else { panic!("{refused:?}") };
    assert_eq!(refusal.status, 401);
    assert!(refusal.challenges[0].contains("error=\"invalid_token\""), "{:?}", refusal.challenges);
    let token = token(&provider);
    assert_eq!(status(&ask(&gate, &token, Duration::ZERO)), 200);
    provider.set_down(true);
    assert_eq!(status(&ask(&gate, &token, Duration::ZERO)), 503);
    provider.set_down(false);
    assert_eq!(status(&ask(&gate, &token, Duration::ZERO)), 200);
    assert_eq!(
        status(&ask(&gate, "eyJhbGciOiJub25lIn0.e30.", Duration::ZERO)),
        401,
        "what says something itself"
    );
}

#[test]
fn who_makes_up_tokens_is_held_up() {
    let (house, provider) = (House::new(), Provider::start(&json!({})));
    let gate = gate(&house, &provider, Duration::from_secs(30));
    let statuses: Vec<u16> =
        (0..80).map(|number| status(&ask(&gate, &format!("made-up-{number}"), Duration::ZERO))).collect();
    assert_eq!(statuses[..60], [401; 60]);
    assert!(statuses[60..].contains(&429), "{statuses:?}");
    let asked = provider.counts()["introspection"].as_u64().expect("a number");
    assert!(asked < 80, "{asked}");
}
