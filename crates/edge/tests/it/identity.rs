//! Who asks, and whether they may, through the edge: what a client is answered, and what the service behind is told.

use std::sync::Arc;
use std::thread::JoinHandle;

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use terrace_auth::{
    Algorithms, Auth, CacheBounds, Gate, GateConfig, IssuerConfig, KeySource, MethodConfig, Moment, Pace,
    Place, RingConfig, Rule, Secret, Source, TokenConfig,
};
use terrace_edge::{Cors, CorsRules, Guards, Origin as CorsOrigin, Required, Route};
use terrace_instruments::{Log, Meter, SeriesValue, TraceSettings};
use terrace_runtime::drain::{self, Drainer};

use crate::message::Message;
use crate::rig::{Rig, Setup, respond, route};
use crate::traffic::{forward, get};

const ISSUER: &str = "https://id.example.com";
const SECRET: &[u8; 32] = b"a secret of thirty-two bytes....";

/// What gates are made by, with a control plane of its own.
struct Control {
    auth: Auth,
    drainer: Drainer,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    fn new() -> Self {
        let (auth, task) = Auth::new(CacheBounds::default(), 1, &Log::discard(), &Meter::new(1));
        let (drainer, drain) = drain::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(task.run(drain));
        });
        Self { auth, drainer, thread: Some(thread) }
    }

    /// A gate for tokens that are signed with [`SECRET`].
    fn gate(&self, change: impl FnOnce(&mut GateConfig)) -> Arc<Gate> {
        let issuer = issuer(KeySource::Secret(Secret::new(*SECRET)), Algorithms::symmetric());
        let methods = vec![MethodConfig::Token(TokenConfig {
            place: Place::Bearer,
            issuers: vec![issuer],
            ..TokenConfig::default()
        })];
        let mut config = GateConfig { methods, ..GateConfig::default() };
        change(&mut config);
        self.auth.gate(&config).expect("a gate")
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.drainer.request();
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

fn issuer(source: KeySource, algorithms: Algorithms) -> IssuerConfig {
    IssuerConfig {
        ring: RingConfig { issuer: ISSUER.to_owned(), source, ca: None, pace: Pace::default() },
        audience: Some(vec!["shop".to_owned()]),
        algorithms,
        leeway: std::time::Duration::from_secs(60),
        roles: "roles".to_owned(),
    }
}

/// The route of all under `/guarded`, behind that gate.
fn behind(setup: &mut Setup, gate: Arc<Gate>) {
    let guards = Guards { identity: Some(Arc::new(Required::new(gate))), ..Guards::default() };
    let action = forward(setup, &[1]);
    setup.routes.push(Route { guards: Some(Box::new(guards)), ..route("guarded", "/guarded/*", action) });
}

fn token(more: &Value) -> String {
    let now_s = Moment::read().wall.as_secs();
    let mut claims =
        json!({"iss": ISSUER, "aud": "shop", "exp": now_s + 600, "sub": "ann", "roles": ["customer"]});
    claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let [header, claims] =
        [json!({"alg": "HS256"}), claims].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), format!("{header}.{claims}").as_bytes());
    format!("{header}.{claims}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
}

fn bearer(token: &str) -> String {
    get("/guarded/x", &format!("Authorization: Bearer {token}\r\n"))
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn told(request: &Message) -> Vec<(&str, &str)> {
    let names = ["x-auth-subject", "x-auth-issuer", "x-auth-roles", "x-auth-method", "x-tier"];
    names.iter().flat_map(|name| request.all(name).map(move |value| (*name, value))).collect()
}

#[test]
fn a_service_is_told_who_asks_and_the_client_cannot_tell_it_otherwise() {
    let control = Control::new();
    let gate =
        control.gate(|config| config.forward.push(("X-Tier".to_owned(), Source::Claim("tier".to_owned()))));
    let rig = Rig::with(|setup| behind(setup, gate));
    let lies = "X-Auth-Subject: root\r\nx-auth-roles: admin\r\nX_Auth_Method: key\r\nX-TIER: gold\r\nx_tier: gold\r\n";
    for claims in [json!({}), json!({"tier": "silver"})] {
        for _ in 0..2 {
            let asked = get("/guarded/x", &format!("{lies}Authorization: Bearer {}\r\n", token(&claims)));
            let (request, answer) = rig.exchanges(asked, OK);
            let mut expected = vec![
                ("x-auth-subject", "ann"),
                ("x-auth-issuer", ISSUER),
                ("x-auth-roles", "customer"),
                ("x-auth-method", "jwt"),
            ];
            if claims["tier"].is_string() {
                expected.push(("x-tier", "silver"));
            }
            assert_eq!((told(&request), answer.status()), (expected, 200));
            assert!(!request.fields.iter().any(|(name, _)| name.contains('_')), "{request:?}");
        }
    }
}

#[test]
fn on_a_route_that_asks_nobody_no_client_says_who_it_is_either() {
    let control = Control::new();
    let lies = "X-Auth-Subject: root\r\nX-Auth-Roles: admin\r\nX-Other: 1\r\n";
    let with = Rig::with(|setup| behind(setup, control.gate(|_| {})));
    let (request, _) = with.exchanges(get("/open", lies), OK);
    assert_eq!((told(&request), request.field("x-other")), (Vec::new(), Some("1")));
    let without = Rig::new();
    let (request, _) = without.exchanges(get("/open", lies), OK);
    assert_eq!(told(&request).len(), 2, "where nobody is ever asked, fields are the app's own business");
}

#[test]
fn rfc9110_6_5_1_nor_does_it_say_so_after_the_body() {
    let control = Control::new();
    let rig = Rig::with(|setup| behind(setup, control.gate(|_| {})));
    let asked = format!(
        "POST /guarded/x HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Auth-Subject\r\n\r\n1\r\na\r\n0\r\nX-Auth-Subject: root\r\nX-Auth_Roles: admin\r\nX-Sum: 7\r\n\r\n",
        token(&json!({}))
    );
    let (request, answer) = rig.exchanges(asked, OK);
    assert_eq!(
        (request.trailers.as_slice(), answer.status()),
        (&[("x-sum".to_owned(), "7".to_owned())][..], 200)
    );
    assert_eq!(request.field("x-auth-subject"), Some("ann"));
}

#[test]
fn rfc6750_3_who_shows_no_token_or_a_bad_one_is_told_what_is_missing() {
    let control = Control::new();
    let rig = Rig::with(|setup| behind(setup, control.gate(|_| {})));
    let answer = rig.answers_itself(get("/guarded/x", ""));
    assert_eq!((answer.status(), answer.field("www-authenticate")), (401, Some(r#"Bearer realm="terrace""#)));
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    assert_eq!(
        answer.field("proxy-status"),
        Some(concat!(
            r#"terrace; error=http_request_denied; details="this needs a proof of who is asking: "#,
            r#"a token as Authorization: Bearer""#
        ))
    );
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(
        (&body["status"], &body["fault"], &body["retry_safe"]),
        (&json!(401), &json!("client"), &json!(false))
    );

    let late = token(&json!({"exp": 7}));
    let expected =
        r#"Bearer realm="terrace", error="invalid_token", error_description="the token has expired""#;
    let answer = rig.answers_itself(bearer(&late));
    assert_eq!((answer.status(), answer.field("www-authenticate")), (401, Some(expected)));

    let twice = get("/guarded/x", "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n");
    let answer = rig.answers_itself(twice);
    assert_eq!(answer.status(), 400);
    assert!(
        answer.field("www-authenticate").is_some_and(|text| text.contains(r#"error="invalid_request""#)),
        "{answer:?}"
    );
}

#[test]
fn who_may_not_is_answered_403_with_the_scope_that_is_missing() {
    let control = Control::new();
    let rule = Rule::All(vec![
        Rule::parse("role:customer").expect("a rule"),
        Rule::parse("scope:orders:write").expect("a rule"),
    ]);
    let rig = Rig::with(|setup| behind(setup, control.gate(|config| config.require = Some(rule))));
    for _ in 0..2 {
        let answer = rig.answers_itself(bearer(&token(&json!({"scope": "orders:read"}))));
        let expected = r#"Bearer realm="terrace", error="insufficient_scope", error_description="who is asking may not do this", scope="orders:write""#;
        assert_eq!((answer.status(), answer.field("www-authenticate")), (403, Some(expected)));
    }
    let (_, answer) = rig.exchanges(bearer(&token(&json!({"scope": "orders:read orders:write"}))), OK);
    assert_eq!(answer.status(), 200);
}

#[test]
fn where_it_is_optional_nobody_passes_as_nobody_and_a_bad_proof_does_not() {
    let control = Control::new();
    let rig = Rig::with(|setup| behind(setup, control.gate(|config| config.is_optional = true)));
    let (request, answer) = rig.exchanges(get("/guarded/x", "X-Auth-Subject: root\r\n"), OK);
    assert_eq!((told(&request), answer.status()), (Vec::new(), 200));
    assert_eq!(rig.answers_itself(bearer("eyJ.e30.AA")).status(), 401);
}

#[test]
fn what_is_left_of_a_token_in_a_cookie_is_nobodys_and_is_not_passed_on() {
    let control = Control::new();
    let gate = control.gate(|config| {
        let [MethodConfig::Token(tokens)] = &mut config.methods[..] else { unreachable!("one method") };
        tokens.place = Place::Cookie("session".to_owned());
        config.is_optional = true;
    });
    let rig = Rig::with(|setup| behind(setup, gate));
    let with = |token: &str| {
        let cookies = format!("Cookie: a=1; session={token}\r\nCookie: session ={token}; b=2\r\n");
        let (request, _) = rig.exchanges(get("/guarded/x", &cookies), OK);
        (
            request.field("x-auth-subject").map(str::to_owned),
            request.all("cookie").collect::<Vec<_>>().join("; "),
        )
    };
    let (good, over) = (token(&json!({})), token(&json!({"exp": 1_000_000_000, "sub": "root"})));
    assert_eq!(with(&good), (Some("ann".to_owned()), format!("a=1; session={good}; session ={good}; b=2")));
    assert_eq!(with(&over), (None, "a=1; b=2".to_owned()));
}

#[test]
fn keys_that_must_be_fetched_first_are_waited_for_beside_the_core() {
    let control = Control::new();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes");
    let x = BASE64URL_NOPAD.encode(pair.public_key().as_ref());
    let folder = terrace_testkit::Folder::new();
    let file =
        folder.write("keys.json", &json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]}).to_string());
    let issuer = issuer(KeySource::File(file), Algorithms::asymmetric());
    let methods = vec![MethodConfig::Token(TokenConfig {
        place: Place::Bearer,
        issuers: vec![issuer],
        ..TokenConfig::default()
    })];
    let gate = control.gate(|config| config.methods = methods);
    let rig = Rig::with(|setup| behind(setup, gate));
    let signed = token(&json!({}))
        .split_once('.')
        .map(|(_, rest)| rest.rsplit_once('.').expect("three parts").0.to_owned());
    let signed =
        format!("{}.{}", BASE64URL_NOPAD.encode(br#"{"alg":"EdDSA"}"#), signed.expect("three parts"));
    let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(pair.sign(signed.as_bytes()).as_ref()));
    for _ in 0..2 {
        let (request, answer) = rig.exchanges(bearer(&token), OK);
        assert_eq!((request.field("x-auth-subject"), answer.status()), (Some("ann"), 200));
    }
}

#[test]
fn keys_that_cannot_be_had_are_our_fault_and_may_be_asked_for_again() {
    let control = Control::new();
    let nowhere = KeySource::File("/nonexistent/keys.json".into());
    let issuer = issuer(nowhere, Algorithms::asymmetric());
    let methods = vec![MethodConfig::Token(TokenConfig {
        place: Place::Bearer,
        issuers: vec![issuer],
        ..TokenConfig::default()
    })];
    let gate = control.gate(|config| config.methods = methods);
    let rig = Rig::with(|setup| behind(setup, gate));
    let header = BASE64URL_NOPAD.encode(br#"{"alg":"EdDSA","kid":"a"}"#);
    let hs = token(&json!({}));
    let rest = hs.split_once('.').expect("three parts").1;
    let answer = rig.answers_itself(bearer(&format!("{header}.{rest}")));
    assert_eq!(
        (answer.status(), answer.field("retry-after"), answer.field("www-authenticate")),
        (503, Some("1"), None)
    );
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!((&body["fault"], &body["retry_safe"]), (&json!("terrace"), &json!(true)));
    assert!(!answer.text().contains("nonexistent"), "{answer:?}");
}

#[test]
fn no_way_of_writing_a_path_leads_around_the_route_that_asks() {
    let control = Control::new();
    let gate = control.gate(|_| {});
    let exact = Arc::clone(&gate);
    let rig = Rig::with(|setup| {
        behind(setup, gate);
        let guards = Guards { identity: Some(Arc::new(Required::new(exact))), ..Guards::default() };
        let action = forward(setup, &[1]);
        setup.routes.push(Route { guards: Some(Box::new(guards)), ..route("exact", "/account", action) });
    });
    // Beside it there is a route for all other paths, to the same service, which may read any of these as `/guarded/x`.
    for path in [
        "/guarded/x",
        "//guarded//x",
        "/a/../guarded/x",
        "/%67uarded/x",
        "/guarded%2Fx",
        "/guarded%2fx",
        "/%2Fguarded/x",
        "/guarded%5Cx",
        "/guarded\\x",
        "/guarded;a/x",
        "/;a/guarded;b/x",
        "/guarded;%2F/x",
        "/account",
        "/account/",
        "/account;a",
        "/account%2F",
        "http://shop.example/guarded%2Fx",
    ] {
        let status = rig.answers_itself(get(path, "")).status();
        assert!(matches!(status, 400 | 401), "{path} {status}");
    }
    // What is served alike, or leads nowhere else, goes on as it came.
    let proof = format!("Authorization: Bearer {}\r\n", token(&json!({})));
    for path in ["/open%2Fx", "/open;v=1/x", "/open/", "/a%40b;c", "/guarde%2Fd"] {
        assert_eq!(rig.exchanges(get(path, ""), OK).0.line, format!("GET {path} HTTP/1.1"));
    }
    for path in ["/guarded/a%2Fb", "/guarded/;v=1/", "/guarded/%2Fx"] {
        assert_eq!(rig.exchanges(get(path, &proof), OK).0.line, format!("GET {path} HTTP/1.1"));
    }
}

#[test]
fn a_browser_that_asks_beforehand_needs_no_proof() {
    let control = Control::new();
    let gate = control.gate(|_| {});
    let origins = vec![CorsOrigin::Exact("https://shop.example".to_owned())];
    let rules = CorsRules { origins, ..CorsRules::default() };
    let rig = Rig::with(|setup| {
        let cors = Some(Arc::new(Cors::new(&rules).expect("rules that hold")));
        let guards = Guards { cors, identity: Some(Arc::new(Required::new(gate))), ..Guards::default() };
        let action = forward(setup, &[1]);
        setup.routes.push(Route { guards: Some(Box::new(guards)), ..route("guarded", "/guarded/*", action) });
    });
    let preflight = "OPTIONS /guarded/x HTTP/1.1\r\nHost: shop.example\r\nOrigin: https://shop.example\r\nAccess-Control-Request-Method: GET\r\n\r\n";
    assert_eq!(rig.answers_itself(preflight).status(), 204);
    let answer = rig.answers_itself(get("/guarded/x", "Origin: https://shop.example\r\n"));
    assert_eq!(
        (answer.status(), answer.field("access-control-allow-origin")),
        (401, Some("https://shop.example"))
    );
}

#[test]
fn a_route_that_answers_by_itself_asks_as_well() {
    let control = Control::new();
    let gate = control.gate(|_| {});
    let rig = Rig::with(|setup| {
        let guards = Guards { identity: Some(Arc::new(Required::new(gate))), ..Guards::default() };
        setup
            .routes
            .push(Route { guards: Some(Box::new(guards)), ..respond("fixed", "/guarded/*", 200, "secret") });
        setup.routes.push(respond("open", "/guarded;v=1/*", 200, "open"));
    });
    assert_eq!(rig.answers_itself(get("/guarded/x", "")).status(), 401);
    assert_eq!(rig.answers_itself(bearer(&token(&json!({})))).text(), "secret");
    assert_eq!(
        rig.answers_itself(get("/guarded;v=1/x", "")).text(),
        "open",
        "there is nobody behind who might read the path otherwise"
    );
}

#[test]
fn what_came_of_it_is_counted_and_noted_and_the_subject_is_in_the_line() {
    let control = Control::new();
    let rule = Rule::parse("role:customer").expect("a rule");
    let gate = control.gate(|config| config.require = Some(rule));
    let (log, receiver) = Log::channel(64);
    log.set_access(terrace_instruments::AccessSettings {
        on: true,
        ..terrace_instruments::AccessSettings::default()
    });
    let rig = Rig::with(|setup| {
        setup.traces = TraceSettings { on: true, sample: 1.0, ..TraceSettings::default() };
        setup.log = log;
        behind(setup, gate);
    });
    rig.exchanges(bearer(&token(&json!({}))), OK);
    rig.answers_itself(bearer(&token(&json!({"roles": [], "sub": "bob"}))));
    rig.answers_itself(get("/guarded/x", ""));
    rig.drain();
    let counted = |method: &str, outcome: &str| {
        let families = rig.meter.collect();
        let series = families
            .iter()
            .filter(|family| family.family.name == "terrace_auth")
            .flat_map(|family| &family.series);
        let of = |labels: &[String]| labels == ["guarded", method, outcome];
        series
            .filter(|series| of(&series.labels))
            .map(|series| match series.value {
                SeriesValue::Counter(count) => count,
                _ => panic!("a counter"),
            })
            .sum::<u64>()
    };
    assert_eq!(
        (counted("jwt", "allowed"), counted("jwt", "forbidden"), counted("none", "missing")),
        (1, 1, 1)
    );
    let (mut spares, mut taken) = (Vec::new(), Vec::new());
    receiver.take_access(&mut spares, &mut taken);
    let lines = String::from_utf8(taken.concat()).expect("text");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let users: Vec<_> = lines
        .iter()
        .map(|line| (line["user"].as_str(), line["auth"].as_str(), line["status"].as_u64()))
        .collect();
    assert_eq!(
        users,
        [
            (Some("ann"), Some("jwt"), Some(200)),
            (Some("bob"), Some("jwt"), Some(403)),
            (None, None, Some(401))
        ]
    );
    let events = receiver.take_events();
    let refused: Vec<_> = events.iter().filter(|event| event.name == "edge.identity.refused").collect();
    assert_eq!((refused.len(), refused[0].get("subject")), (1, Some(&"bob".into())), "{events:?}");
}
