//! Issuers that are well, that rotate, that fall silent, that are slow, huge, or that lie.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use terrace_auth::{
    Decision, Gate, GateConfig, IssuerConfig, KeySource, MethodConfig, Now, Pace, Place, TokenConfig,
};
use terrace_http::RequestHead;
use terrace_policy::Backoff;
use terrace_testkit::{Folder, until_true};

use crate::authority::{Authority, Mood};
use crate::house::{House, Signer, ask, ask_now, ask_with, claims, decide, issuer, quick, set, status};

fn at_pace(authority: &Authority, pace: Pace) -> IssuerConfig {
    let mut config = issuer(&authority.url(), KeySource::Discovery);
    config.ring.pace = pace;
    config
}

/// A token that the gate takes, until it does.
fn until_taken(gate: &Gate, token: &str) {
    until_true("the token is taken", || status(&ask(gate, token)) == 200);
}

#[test]
fn an_issuer_is_found_by_its_discovery_document_and_its_tokens_are_remembered() {
    let (house, signer) = (House::new(), Signer::new("a"));
    let authority = Authority::with_keys(&[signer.public()]);
    let gate = house.gate(at_pace(&authority, Pace::default()));
    let token = signer.sign(&claims(&authority.url()));
    assert_eq!(status(&ask(&gate, &token)), 200, "the first request waits for the keys");
    for _ in 0..10 {
        let Now::Decided(Decision::Known(passed)) = ask_now(&gate, &token) else {
            panic!("it is known at once")
        };
        assert_eq!(passed.identity.issuer, authority.url());
    }
    assert_eq!(authority.asked(), 1);
}

#[test]
fn keys_may_be_at_an_address_of_their_own() {
    let (house, signer) = (House::new(), Signer::new("a"));
    let authority = Authority::with_keys(&[signer.public()]);
    let gate = house.gate(issuer("urn:example:issuer", KeySource::Url(format!("{}/keys", authority.url()))));
    assert_eq!(status(&ask(&gate, &signer.sign(&claims("urn:example:issuer")))), 200);
    assert_eq!(status(&ask(&gate, &signer.sign(&claims(&authority.url())))), 401);
}

#[test]
fn a_key_that_is_new_is_asked_for_and_one_that_is_gone_is_forgotten() {
    let (house, old, new) = (House::new(), Signer::new("old"), Signer::new("new"));
    let authority = Authority::with_keys(&[old.public()]);
    let gate = house.gate(at_pace(&authority, quick()));
    let [before, after] = [&old, &new].map(|signer| signer.sign(&claims(&authority.url())));
    assert_eq!((status(&ask(&gate, &before)), status(&ask(&gate, &after))), (200, 401));
    authority.be(Mood::Keys(set(&[old.public(), new.public()])));
    assert_eq!(status(&ask(&gate, &after)), 200, "the request waited for the new key");
    assert!(matches!(ask_now(&gate, &before), Now::Decided(Decision::Known(_))), "the old one still holds");
    authority.be(Mood::Keys(set(&[new.public()])));
    assert_eq!(status(&ask(&gate, &Signer::new("unknown").sign(&claims(&authority.url())))), 401);
    assert_eq!(
        (status(&ask(&gate, &before)), status(&ask(&gate, &after))),
        (401, 200),
        "also what was remembered"
    );
}

#[test]
fn keys_that_nobody_knows_do_not_make_us_a_flood_for_their_issuer() {
    let (house, signer) = (House::new(), Signer::new("a"));
    let authority = Authority::with_keys(&[signer.public()]);
    let gate = house.gate(at_pace(&authority, Pace { unknown_every: Duration::from_secs(3600), ..quick() }));
    let good = signer.sign(&claims(&authority.url()));
    assert_eq!(status(&ask(&gate, &good)), 200);
    for number in 0..200 {
        let forged = Signer::new(&format!("forged {number}")).sign(&claims(&authority.url()));
        let Now::Decided(decision) = ask_now(&gate, &forged) else { panic!("nobody waits for it") };
        assert_eq!(status(&decision), 401);
    }
    assert_eq!((authority.asked(), status(&ask(&gate, &good))), (1, 200));
}

#[test]
fn an_issuer_that_goes_down_takes_nobody_along_until_its_keys_are_too_old() {
    for mood in
        [Mood::Status(500), Mood::Silent, Mood::Endless, Mood::Document("<html>busy</html>".to_owned())]
    {
        let (house, signer) = (House::new(), Signer::new("a"));
        let authority = Authority::with_keys(&[signer.public()]);
        let always = Duration::from_millis(1);
        let pace = Pace {
            fresh: always,
            fresh_min: always,
            fresh_max: always,
            timeout: Duration::from_millis(200),
            ..quick()
        };
        let gate = house.gate(at_pace(&authority, pace.clone()));
        let brief = house.gate(at_pace(&authority, Pace { stale_max: Duration::from_millis(50), ..pace }));
        let mut claims = claims(&authority.url());
        let token = signer.sign(&claims);
        until_taken(&gate, &token);
        until_taken(&brief, &token);
        authority.be(mood.clone());
        let before = authority.asked();
        until_true("it was asked in vain a few times", || authority.asked() > before + 6);
        claims["jti"] = json!(1);
        let fresh = signer.sign(&claims);
        assert_eq!((status(&ask(&gate, &token)), status(&ask(&gate, &fresh))), (200, 200), "{mood:?}");
        until_true("old keys are given up", || status(&ask(&brief, &token)) == 503);
        let Decision::Refused(refusal) = ask(&brief, &fresh) else {
            panic!("{mood:?}: its keys are too old")
        };
        assert_eq!(
            (refusal.status, refusal.retry_after_s, refusal.challenges.len()),
            (503, Some(1), 0),
            "{mood:?}"
        );
        authority.be(Mood::Keys(set(&[signer.public()])));
        until_taken(&brief, &fresh);
    }
}

#[test]
fn a_new_key_of_an_issuer_that_is_down_is_a_503_for_it_may_be_good() {
    let (house, old, new) = (House::new(), Signer::new("old"), Signer::new("new"));
    let authority = Authority::with_keys(&[old.public()]);
    let gate = house.gate(at_pace(&authority, quick()));
    let [before, after] = [&old, &new].map(|signer| signer.sign(&claims(&authority.url())));
    assert_eq!((status(&ask(&gate, &before)), status(&ask(&gate, &after))), (200, 401));
    authority.be(Mood::Status(500));
    assert_eq!((status(&ask(&gate, &after)), status(&ask(&gate, &before))), (503, 200));
}

#[test]
fn a_core_does_not_wait_for_an_issuer_that_is_silent() {
    let (house, authority) = (House::new(), Authority::start(Mood::Silent));
    let gate = house.gate(at_pace(&authority, Pace::default()));
    let now = ask_now(&gate, &Signer::new("a").sign(&claims(&authority.url())));
    assert!(matches!(now, Now::Later(_)), "{now:?}");
}

#[test]
fn an_issuer_that_starts_together_with_us_is_waited_for() {
    let hour = Duration::from_secs(3600);
    let (house, signer) = (House::new(), Signer::new("a"));
    let authority = Authority::start(Mood::Status(503));
    let pace = Pace { unknown_every: hour, retry: Backoff { from: hour, to: hour }, ..quick() };
    let gate = house.gate(at_pace(&authority, pace));
    let token = signer.sign(&claims(&authority.url()));
    assert_eq!(status(&ask(&gate, &token)), 503);
    authority.be(Mood::Keys(set(&[signer.public()])));
    assert_eq!(status(&ask(&gate, &token)), 200, "neither the next try nor the next unknown key is due");
}

#[test]
fn an_issuer_that_was_never_there_is_a_503_and_no_401() {
    for mood in [
        Mood::Silent,
        Mood::Dripping,
        Mood::Endless,
        Mood::Status(404),
        Mood::Status(302),
        Mood::Document("{}".to_owned()),
        Mood::Document(
            r#"{"issuer":"https://evil.example","jwks_uri":"https://evil.example/keys"}"#.to_owned(),
        ),
        Mood::Keys("[]".to_owned()),
        Mood::Keys(r#"{"keys":[]}"#.to_owned()),
        Mood::Keys(r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#.to_owned()),
        Mood::Keys(format!(r#"{{"keys":[{}1]}}"#, "1,".repeat(1000))),
        Mood::Keys(" ".repeat(900 << 10)),
    ] {
        let (house, authority) = (House::new(), Authority::start(mood.clone()));
        let gate = house.gate(at_pace(&authority, Pace { timeout: Duration::from_millis(200), ..quick() }));
        let now = ask_now(&gate, &Signer::new("a").sign(&claims(&authority.url())));
        let Decision::Refused(refusal) = decide(&gate, now) else { panic!("{mood:?}") };
        assert_eq!((refusal.status, refusal.outcome), (503, "unavailable"), "{mood:?}: {refusal:?}");
        assert!(!refusal.reason.contains(&authority.url()));
    }
}

#[test]
fn a_file_of_keys_is_followed_when_it_changes() {
    let (house, folder, old, new) = (House::new(), Folder::new(), Signer::new("old"), Signer::new("new"));
    let file = folder.write("keys.json", &set(&[old.public()]));
    let gate = house.gate(issuer("file", KeySource::File(file)));
    let [before, after] = [&old, &new].map(|signer| signer.sign(&claims("file")));
    until_taken(&gate, &before);
    folder.write("keys.json", "half a fi");
    folder.write("keys.json", &set(&[new.public()]));
    until_taken(&gate, &after);
    assert_eq!(status(&ask(&gate, &before)), 401);
}

#[test]
fn a_reload_that_changes_what_is_asked_of_tokens_fetches_no_keys() {
    let (house, signer) = (House::new(), Signer::new("a"));
    let authority = Authority::with_keys(&[signer.public()]);
    let config = at_pace(&authority, Pace::default());
    let gate = house.gate(config.clone());
    let token = signer.sign(&claims(&authority.url()));
    assert_eq!(status(&ask(&gate, &token)), 200);
    assert!(Arc::ptr_eq(&gate, &house.gate(config.clone())), "the same policy is the same gate");
    let other = house.gate(IssuerConfig { audience: Some(vec!["other".to_owned()]), ..config });
    let Now::Decided(Decision::Refused(refusal)) = ask_now(&other, &token) else { panic!("known at once") };
    assert_eq!(
        (refusal.status, refusal.reason, authority.asked()),
        (401, "the token is meant for somebody else", 1)
    );
}

#[test]
fn each_of_several_issuers_checks_its_own_tokens() {
    let (house, folder, one, other) =
        (House::new(), Folder::new(), Signer::new("same"), Signer::new("different"));
    let file = |name: &str, signer: &Signer| KeySource::File(folder.write(name, &set(&[signer.public()])));
    let issuers = vec![issuer("one", file("one.json", &one)), issuer("other", file("other.json", &other))];
    let gate = house.gate_of(issuers, Place::Bearer);
    assert_eq!(
        (status(&ask(&gate, &one.sign(&claims("one")))), status(&ask(&gate, &other.sign(&claims("other"))))),
        (200, 200)
    );
    assert_eq!(
        (status(&ask(&gate, &one.sign(&claims("other")))), status(&ask(&gate, &other.sign(&claims("one"))))),
        (401, 401)
    );
    assert_eq!(status(&ask(&gate, &one.sign(&claims("third")))), 401);
}

#[test]
fn a_token_may_be_in_a_cookie_or_in_a_header_of_its_own() {
    let (house, folder, signer) = (House::new(), Folder::new(), Signer::new("a"));
    let file = folder.write("keys.json", &set(&[signer.public()]));
    let token = signer.sign(&claims("file"));
    for (place, name, value) in [
        (Place::Cookie("session".to_owned()), "cookie", format!("a=b; session={token}")),
        (Place::Header("X-Token".to_owned()), "x-token", token.clone()),
        (Place::Header("X-Token".to_owned()), "x-token", format!("Bearer {token}")),
    ] {
        let gate = house.gate_of(vec![issuer("file", KeySource::File(file.clone()))], place);
        let mut head = RequestHead::new();
        head.fields.append(name.as_bytes(), value.as_bytes());
        let decision = decide(&gate, ask_with(&gate, &head));
        assert_eq!(status(&decision), 200, "{name}: {decision:?}");
        assert_eq!(status(&ask(&gate, &token)), 401, "it is looked for nowhere else");
    }
}

#[test]
fn whoever_has_an_old_cookie_may_look_around_where_everybody_may_and_only_there() {
    let (house, folder, signer) = (House::new(), Folder::new(), Signer::new("a"));
    let source = KeySource::File(folder.write("keys.json", &set(&[signer.public()])));
    let gate = |place, is_optional| {
        let issuers = vec![issuer("file", source.clone())];
        let methods = vec![MethodConfig::Token(TokenConfig { place, issuers, ..TokenConfig::default() })];
        house.auth.gate(&GateConfig { methods, is_optional, ..GateConfig::default() }).expect("a gate")
    };
    let cookie = || Place::Cookie("session".to_owned());
    let asked = |gate: &Gate, token: &str| {
        let mut head = RequestHead::new();
        head.fields.append(b"cookie", format!("session={token}").as_bytes());
        head.fields.append(b"authorization", format!("Bearer {token}").as_bytes());
        decide(gate, ask_with(gate, &head))
    };
    let mut over = claims("file");
    over["exp"] = json!(1_000_000_000);
    let other_key = Signer::new("another").sign(&claims("file"));
    for bad in [signer.sign(&over), other_key, signer.sign(&claims("elsewhere")), "no.token.atall".to_owned()]
    {
        assert_eq!(asked(&gate(cookie(), true), &bad), Decision::Anonymous, "{bad}");
        assert_eq!(status(&asked(&gate(cookie(), false), &bad)), 401, "{bad}");
        assert_eq!(
            status(&asked(&gate(Place::Bearer, true), &bad)),
            401,
            "what a program sends, it means: {bad}"
        );
    }
    let good = signer.sign(&claims("file"));
    assert!(matches!(asked(&gate(cookie(), true), &good), Decision::Known(_)));
}
