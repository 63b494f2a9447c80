//! Traffic by rule: who may come in, what browsers are told, what is changed on the way there and back, which service a
//! request goes to, and what goes wrong on purpose.

use std::sync::Arc;
use std::time::Duration;

use terrace_edge::{
    Action, Addresses, ChangeRules, Changes, Choosing, Cors, CorsRules, Fault, Faults, FieldEdits, FieldName,
    Guards, Network, Origin as CorsOrigin, Route, Security, SecurityRules, Stick, StickKey, Sticky, Target,
};
use terrace_instruments::SeriesValue;
use terrace_policy::Share;
use terrace_route::{Choice, ChoiceRule, HeaderMatch, Pattern, QueryEdit, Rewrite, Split, ValueTemplate};
use terrace_runtime::clock;

use crate::message::Message;
use crate::rig::{PATIENCE, Peer, Rig, Setup, route};

/// What the origin says when nothing else is meant.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A forwarding of all to the services with these weights.
pub(crate) fn forward(setup: &Setup, weights: &[u32]) -> Action {
    let numbered = weights.iter().copied().enumerate().collect();
    Action::Forward {
        split: Split::new(numbered).expect("a weight"),
        targets: (0..weights.len()).map(|service| Target { service, policy: setup.policy.clone() }).collect(),
        choosing: None,
        mirror: None,
        strip: None,
        rewrite: None,
    }
}

/// A route of all under `at` with these guards, to the only service.
fn guarded(setup: &mut Setup, at: &str, guards: Guards) {
    let action = forward(setup, &[1]);
    setup.routes.push(Route { guards: Some(Box::new(guards)), ..route("guarded", at, action) });
}

pub(crate) fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n")
}

impl Rig {
    /// What a client gets for these bytes when the origin, which saw the request, answers that.
    #[track_caller]
    pub(crate) fn exchanges(&self, asked: impl AsRef<[u8]>, answer: &str) -> (Message, Message) {
        let mut client = self.client_that_sent(asked);
        let mut origin = self.origin.accept();
        let request = origin.request();
        origin.send(answer.replacen("\r\n", "\r\nConnection: close\r\n", 1));
        (request, client.response())
    }

    /// What a client gets for these bytes, of which no origin hears.
    #[track_caller]
    pub(crate) fn answers_itself(&self, asked: impl AsRef<[u8]>) -> Message {
        let answer = self.client_that_sent(asked).response();
        self.origin.heard_nothing();
        answer
    }

    /// Which of the services gets a request, and what the client is told: 0 is the first one.
    #[track_caller]
    fn goes_to(&self, asked: &str) -> (usize, Message) {
        let mut client = self.client_that_sent(asked);
        let until = clock::now() + PATIENCE;
        let (service, mut origin): (usize, Peer) = loop {
            if let Some(peer) = self.origin.try_accept() {
                break (0, peer);
            }
            let others = self.beside.iter().zip(1..);
            let found = others.filter_map(|(origin, place)| Some((place, origin.try_accept()?))).next();
            if let Some(found) = found {
                break found;
            }
            assert!(clock::now() < until, "no service was asked");
            std::thread::yield_now();
        };
        origin.request();
        origin.send(OK.replacen("\r\n", "\r\nConnection: close\r\n", 1));
        (service, client.response())
    }

    /// The sum of the counters of that name whose labels are these, among others.
    pub(crate) fn counted(&self, family: &str, labels: &[&str]) -> u64 {
        let families = self.meter.collect();
        let of_name = families.iter().filter(|found| found.family.name == family);
        let series = of_name.flat_map(|found| &found.series);
        let is_meant = |known: &[String]| labels.iter().all(|label| known.iter().any(|known| known == label));
        series
            .filter(|series| is_meant(&series.labels))
            .map(|series| if let SeriesValue::Counter(count) = series.value { count } else { 0 })
            .sum()
    }

    /// The same, once it has come to that: what is counted at a request's end is counted after its answer.
    #[track_caller]
    pub(crate) fn counts(&self, family: &str, labels: &[&str], expected: u64) {
        let until = clock::now() + PATIENCE;
        while self.counted(family, labels) != expected {
            assert!(clock::now() < until, "{family}{labels:?} is {}", self.counted(family, labels));
            std::thread::yield_now();
        }
    }
}

mod addresses {
    use super::*;

    fn rig(allow: &[(&str, u8)], deny: &[(&str, u8)], trusted: &[(&str, u8)]) -> Rig {
        let networks = |texts: &[(&str, u8)]| -> Vec<Network> {
            texts.iter().map(|(text, bits)| Network::new(text.parse().expect("an address"), *bits)).collect()
        };
        let addresses = Addresses::new(&networks(allow), &networks(deny));
        Rig::with(|setup| {
            setup.listener.trusted_proxies = networks(trusted);
            guarded(
                setup,
                "shop.example/*",
                Guards { addresses: Some(Arc::new(addresses)), ..Guards::default() },
            );
        })
    }

    #[test]
    fn a_client_that_is_denied_gets_403_and_the_service_hears_nothing() {
        let rig = rig(&[], &[("127.0.0.0", 8)], &[]);
        let answer = rig.answers_itself(get("/", ""));
        assert_eq!(answer.status(), 403);
        assert!(answer.text().contains(r#""fault":"client""#), "{}", answer.text());
        assert_eq!(rig.counted("terrace_addresses_refused", &["guarded"]), 1);
    }

    #[test]
    fn the_address_is_the_clients_as_trusted_proxies_tell_it() {
        let rig = rig(&[("203.0.113.0", 24)], &[], &[("127.0.0.1", 32)]);
        rig.exchanges(get("/", "X-Forwarded-For: 203.0.113.9\r\n"), OK);
        assert_eq!(rig.answers_itself(get("/", "X-Forwarded-For: 198.51.100.1\r\n")).status(), 403);
        assert_eq!(rig.answers_itself(get("/", "X-Forwarded-For: 203.0.113.9, 8.8.8.8\r\n")).status(), 403);
    }

    #[test]
    fn nobody_talks_its_way_in() {
        let rig = rig(&[("203.0.113.0", 24)], &[], &[]);
        assert_eq!(rig.answers_itself(get("/", "X-Forwarded-For: 203.0.113.9\r\n")).status(), 403);
    }
}

mod cors {
    use super::*;

    fn rules() -> CorsRules {
        CorsRules {
            origins: vec![CorsOrigin::Exact("https://shop.example".to_owned())],
            methods: vec!["GET".to_owned(), "PUT".to_owned()],
            headers: vec!["X-A".to_owned()],
            credentials: true,
            max_age: Duration::from_secs(60),
            ..CorsRules::default()
        }
    }

    fn rig() -> Rig {
        let cors = Some(Arc::new(Cors::new(&rules()).expect("valid rules")));
        Rig::with(|setup| {
            guarded(setup, "shop.example/api/*", Guards { cors, ..Guards::default() });
            setup.routes[0].conditions.methods = vec!["GET".to_owned(), "PUT".to_owned()];
        })
    }

    fn preflight(path: &str, method: &str) -> String {
        format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: shop.example\r\nOrigin: https://shop.example\r\n\
             Access-Control-Request-Method: {method}\r\n\r\n"
        )
    }

    #[test]
    fn a_browser_that_asks_beforehand_is_answered_for_the_route_of_the_method_it_asks_about() {
        let rig = rig();
        let answer = rig.answers_itself(preflight("/api/x", "PUT"));
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.field("access-control-allow-origin"), Some("https://shop.example"));
        assert_eq!(answer.field("access-control-allow-methods"), Some("GET, PUT"));
        assert_eq!(answer.field("access-control-max-age"), Some("60"));
        assert_eq!(answer.field("content-length"), None);
        assert_eq!(rig.counted("terrace_cors_preflights", &["guarded"]), 1);
    }

    #[test]
    fn a_question_about_a_route_without_rules_is_the_services() {
        let rig = rig();
        for (path, method) in [("/other", "PUT"), ("/api/x", "DELETE")] {
            let (request, answer) =
                rig.exchanges(preflight(path, method), "HTTP/1.1 204 No Content\r\nX-App: 1\r\n\r\n");
            assert!(request.line.starts_with("OPTIONS "));
            assert_eq!(answer.field("x-app"), Some("1"));
        }
    }

    #[test]
    fn the_apps_own_fields_are_replaced() {
        let app =
            "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nVary: Accept\r\nContent-Length: 0\r\n\r\n";
        let (_, answer) = rig().exchanges(get("/api/x", "Origin: https://shop.example\r\n"), app);
        assert_eq!(answer.field("access-control-allow-origin"), Some("https://shop.example"));
        assert_eq!(answer.field("access-control-allow-credentials"), Some("true"));
        assert_eq!(answer.all("vary").collect::<Vec<_>>(), ["Accept", "Origin"]);
    }

    #[test]
    fn another_origin_is_served_and_told_nothing() {
        let (_, answer) = rig().exchanges(get("/api/x", "Origin: https://evil.test\r\n"), OK);
        assert_eq!((answer.status(), answer.field("access-control-allow-origin")), (200, None));
        assert_eq!(answer.field("vary"), Some("Origin"));
        let (_, answer) = rig().exchanges(get("/api/x", ""), OK);
        assert_eq!(answer.field("vary"), Some("Origin"), "or a cache mixes them up");
    }

    #[test]
    fn a_page_can_read_why_terrace_refused_it() {
        let everybody = [Network::new([0, 0, 0, 0].into(), 0)];
        let guards = Guards {
            cors: Some(Arc::new(Cors::new(&rules()).expect("valid rules"))),
            addresses: Some(Arc::new(Addresses::new(&[], &everybody))),
            ..Guards::default()
        };
        let rig = Rig::with(|setup| guarded(setup, "shop.example/*", guards));
        let answer = rig.answers_itself(get("/", "Origin: https://shop.example\r\n"));
        assert_eq!(answer.status(), 403);
        assert_eq!(answer.field("access-control-allow-origin"), Some("https://shop.example"));
    }
}

mod fields {
    use super::*;

    const AT: &str = "shop.example/orders/{id}/*";

    fn value(text: &str) -> ValueTemplate {
        ValueTemplate::parse(text, &[Pattern::parse(AT).expect("valid")]).expect(text)
    }

    fn named(pairs: &[(&str, &str)]) -> Vec<(FieldName, ValueTemplate)> {
        let pair = |(name, text): &(&str, &str)| (FieldName::parse(name).expect("valid"), value(text));
        pairs.iter().map(pair).collect()
    }

    fn edits(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> FieldEdits {
        let remove = remove.iter().map(|name| FieldName::parse(name).expect("valid")).collect();
        FieldEdits::new(named(set), named(add), remove).expect("valid")
    }

    fn rig(rules: ChangeRules) -> Rig {
        rig_with(rules, |_| {})
    }

    fn rig_with(rules: ChangeRules, change: impl FnOnce(&mut Setup)) -> Rig {
        let fields = Some(Arc::new(Changes::new(rules).expect("valid")));
        Rig::with(|setup| {
            guarded(setup, AT, Guards { fields, ..Guards::default() });
            change(setup);
        })
    }

    #[test]
    fn the_service_is_told_what_the_rules_say() {
        let request = edits(
            &[("X-Order", "{id} of {client-ip}"), ("x-service", "{service} by {route}")],
            &[("X-Seen", "ours")],
            &["X-Debug"],
        );
        let rig = rig(ChangeRules { request, ..ChangeRules::default() });
        let sent =
            "x-order: 1\r\nX_Order: forged\r\nX-ORDER: 2\r\nX-Debug: 1\r\nx_debug: 2\r\nX-Seen: theirs\r\n";
        let (request, _) = rig.exchanges(get("/orders/7/x", sent), OK);
        assert_eq!(request.field("x-order"), Some("7 of 127.0.0.1"));
        assert_eq!(request.field("x-service"), Some("origin by guarded"));
        assert_eq!(request.all("x-seen").collect::<Vec<_>>(), ["theirs", "ours"]);
        assert!(
            !request
                .fields
                .iter()
                .any(|(name, _)| matches!(name.as_str(), "x_order" | "x-debug" | "x_debug"))
        );
    }

    #[test]
    fn nothing_in_a_path_begins_another_field() {
        let request = edits(&[("X-Order", "{id}")], &[], &[]);
        let rig = rig(ChangeRules { request, ..ChangeRules::default() });
        let (request, _) = rig.exchanges(get("/orders/a%0d%0aX-Admin:%201/x", ""), OK);
        assert_eq!(request.field("x-order"), Some("a%0D%0AX-Admin:%201"));
        assert_eq!(request.field("x-admin"), None);
    }

    #[test]
    fn an_id_can_go_on_under_another_name() {
        let request = edits(&[("X-Correlation-Id", "{request-id}")], &[], &["X-Request-Id"]);
        let rig = rig(ChangeRules { request, ..ChangeRules::default() });
        let (request, _) = rig.exchanges(get("/orders/7/x", ""), OK);
        assert_eq!(request.field("x-correlation-id").map(str::len), Some(32));
        assert_eq!(request.field("x-request-id"), None);
    }

    #[test]
    fn a_service_that_listens_for_another_host_is_asked_for_it() {
        let request = edits(&[("Host", "api.example:8443")], &[], &[]);
        let response = edits(&[("X-Asked-Host", "{host}")], &[], &[]);
        let rig = rig(ChangeRules { request, response, ..ChangeRules::default() });
        let (request, answer) = rig.exchanges(get("/orders/7/x", ""), OK);
        assert_eq!(request.field("host"), Some("api.example:8443"));
        assert_eq!(answer.field("x-asked-host"), Some("shop.example"));
        assert_eq!(request.field("x-forwarded-host"), Some("shop.example"));
    }

    #[test]
    fn a_query_is_changed_before_the_path_is() {
        let set = vec![("order".to_owned(), value("{id}"))];
        let query = QueryEdit::new(set, vec!["utm".to_owned()]).expect("valid");
        let rules = ChangeRules { query, ..ChangeRules::default() };
        let rig = rig_with(rules, |setup| {
            let at = [Pattern::parse(AT).expect("valid")];
            let Action::Forward { rewrite, .. } = &mut setup.routes[0].action else { unreachable!() };
            *rewrite = Some(Rewrite::parse("/v2/{rest}", &at).expect("valid"));
        });
        let (request, _) = rig.exchanges(get("/orders/7/items?a=1&utm=x&order=9", ""), OK);
        assert_eq!(request.line, "GET /v2/items?a=1&order=7 HTTP/1.1");
        let (request, _) = rig.exchanges(get("/orders/7/items", ""), OK);
        assert_eq!(request.line, "GET /v2/items?order=7 HTTP/1.1");
    }

    #[test]
    fn the_client_is_told_what_the_rules_say_of_the_request_as_it_came() {
        let response = edits(
            &[
                ("X-Served-By", "{service}"),
                ("X-Order", "{id}"),
                ("Server", "shop"),
                ("X-None", "{claim:sub}"),
            ],
            &[],
            &["X-Powered-By"],
        );
        let rules = ChangeRules { response, ..ChangeRules::default() };
        let rig = rig_with(rules, |setup| {
            let at = [Pattern::parse(AT).expect("valid")];
            let Action::Forward { rewrite, .. } = &mut setup.routes[0].action else { unreachable!() };
            *rewrite = Some(Rewrite::parse("/x", &at).expect("valid"));
        });
        let app =
            "HTTP/1.1 200 OK\r\nX-Powered-By: y\r\nServer: old\r\nX-None: z\r\nContent-Length: 0\r\n\r\n";
        let (_, answer) = rig.exchanges(get("/orders/7/x", ""), app);
        assert_eq!(answer.field("x-served-by"), Some("origin"));
        assert_eq!(answer.field("x-order"), Some("7"));
        assert_eq!(answer.field("server"), Some("shop"));
        assert_eq!((answer.field("x-powered-by"), answer.field("x-none")), (None, None));
    }

    #[test]
    fn a_status_is_exchanged_of_a_service_and_not_of_ours() {
        let rules = ChangeRules {
            statuses: vec![(404, 200), (502, 200)],
            response: edits(&[("X-Ours", "1")], &[], &[]),
            ..ChangeRules::default()
        };
        let rig = rig_with(rules, |setup| setup.policy.retry.attempts_max = 1);
        let app = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone";
        let (_, answer) = rig.exchanges(get("/orders/7/x", ""), app);
        assert_eq!((answer.status(), answer.text()), (200, "none"));
        rig.counts("terrace_requests", &["guarded", "2xx"], 1);
        let mut client = rig.client_that_sent(get("/orders/7/x", "").replacen("GET", "POST", 1));
        let mut origin = rig.origin.accept();
        origin.request();
        drop(origin);
        let answer = client.response();
        assert_eq!((answer.status(), answer.field("x-ours")), (502, Some("1")));
    }

    #[test]
    fn a_value_that_gets_too_long_is_the_clients_fault_and_never_the_services() {
        let request = edits(&[("X-Path", &"{path}".repeat(20))], &[], &[]);
        let rig = rig(ChangeRules { request, ..ChangeRules::default() });
        let path = format!("/orders/7/{}", "x".repeat(1_000));
        assert_eq!(rig.answers_itself(get(&path, "")).status(), 400);
    }
}

mod security {
    use super::*;

    #[test]
    fn what_the_app_does_not_say_is_said_and_terraces_own_answers_say_it_too() {
        let rules = SecurityRules {
            hsts: Some(Duration::from_secs(60)),
            no_sniffing: true,
            frame: Some("DENY".to_owned()),
            ..SecurityRules::default()
        };
        let security = Some(Arc::new(Security::new(&rules)));
        let rig = Rig::with(|setup| {
            setup.policy.retry.attempts_max = 1;
            guarded(setup, "shop.example/*", Guards { security, ..Guards::default() });
        });
        let app = "HTTP/1.1 200 OK\r\nX-Frame-Options: SAMEORIGIN\r\nContent-Length: 0\r\n\r\n";
        let (_, answer) = rig.exchanges(get("/", ""), app);
        assert_eq!(answer.field("x-frame-options"), Some("SAMEORIGIN"));
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.field("strict-transport-security"), None, "this came in the clear");
        rig.upstream.publish(&[], clock::now());
        let answer = rig.answers_itself(get("/", ""));
        assert_eq!((answer.status(), answer.field("x-frame-options")), (503, Some("DENY")));
    }
}

mod choice {
    use super::*;

    fn rig(weights: &'static [u32], rules: Vec<ChoiceRule>, stick: Option<Stick>) -> Rig {
        Rig::with(|setup| {
            setup.beside = vec!["next"];
            let mut action = forward(setup, weights);
            if let Action::Forward { choosing, .. } = &mut action {
                let targets = [("origin", weights[0]), ("next", weights[1])];
                let choice = Choice::new(&targets, rules).expect("a valid choice");
                *choosing = Some(Box::new(Choosing { choice, stick }));
            }
            setup.routes.push(route("shop", "shop.example/*", action));
        })
    }

    fn beta() -> ChoiceRule {
        ChoiceRule {
            to: 1,
            headers: vec![("X-Beta".to_owned(), HeaderMatch::Exact("1".to_owned()))],
            cookies: Vec::new(),
            claims: Vec::new(),
            share: None,
        }
    }

    #[test]
    fn a_request_goes_where_the_first_rule_that_fits_says() {
        let rig = rig(&[1, 0], vec![beta()], None);
        assert_eq!(rig.goes_to(&get("/", "")).0, 0);
        assert_eq!(rig.goes_to(&get("/", "x-beta: 1\r\n")).0, 1);
        assert_eq!(rig.goes_to(&get("/", "X-Beta: 0\r\n")).0, 0);
        assert_eq!(rig.counted("terrace_choices", &["shop", "next", "rule"]), 1);
        assert_eq!(rig.counted("terrace_choices", &["shop", "origin", "chance"]), 2);
    }

    #[test]
    fn a_client_known_by_a_header_stays_on_its_side() {
        let rig = rig(&[1, 1], Vec::new(), Some(Stick::Key(StickKey::Field("x-user".to_owned()))));
        let side = |user: u32| rig.goes_to(&get("/", &format!("X-User: {user}\r\n"))).0;
        let sides: Vec<usize> = (0..20).map(side).collect();
        assert!(sides.contains(&0) && sides.contains(&1), "{sides:?}");
        assert_eq!((0..20).map(side).collect::<Vec<_>>(), sides);
    }

    #[test]
    fn a_client_without_the_key_is_known_by_its_address() {
        let key = StickKey::Cookie("user".to_owned());
        let rig = rig(&[1, 1], Vec::new(), Some(Stick::Key(key)));
        let first = rig.goes_to(&get("/", "")).0;
        assert!((0..10).all(|_| rig.goes_to(&get("/", "Cookie: other=1\r\n")).0 == first));
    }

    #[test]
    fn a_cookie_of_ours_leads_a_client_back() {
        let sticky = Sticky { cookie: "side".to_owned(), ttl: Duration::from_secs(60) };
        let rig = rig(&[1, 1], Vec::new(), Some(Stick::Cookie(sticky)));
        let (side, answer) = rig.goes_to(&get("/", ""));
        let cookie = answer.field("set-cookie").expect("a cookie for a new client").to_owned();
        assert!(cookie.contains("; Max-Age=60; HttpOnly; SameSite=Lax"), "{cookie}");
        let (pair, _) = cookie.split_once(';').expect("attributes");
        assert!(!pair.contains("next") && !pair.contains("origin"), "it tells nothing: {pair}");
        for _ in 0..10 {
            let (again, answer) = rig.goes_to(&get("/", &format!("Cookie: a=1; {pair}\r\n")));
            assert_eq!((again, answer.field("set-cookie")), (side, None));
        }
        let (_, answer) = rig.goes_to(&get("/", "Cookie: side=0123456789abcdef\r\n"));
        assert!(answer.field("set-cookie").is_some(), "one that leads nowhere is replaced");
    }

    #[test]
    fn whoever_is_in_an_experiment_stays_in_it_by_the_cookie() {
        let sticky = Sticky { cookie: "side".to_owned(), ttl: Duration::from_secs(60) };
        let all = ChoiceRule { headers: Vec::new(), share: Some(1.0), ..beta() };
        let rig = rig(&[1, 0], vec![all], Some(Stick::Cookie(sticky)));
        let (side, answer) = rig.goes_to(&get("/", ""));
        let cookie = answer.field("set-cookie").expect("a cookie for a new client").to_owned();
        let (pair, _) = cookie.split_once(';').expect("attributes");
        let (again, answer) = rig.goes_to(&get("/", &format!("Cookie: {pair}\r\n")));
        assert_eq!((side, again, answer.field("set-cookie")), (1, 1, None));
    }
}

mod faults {
    use super::*;

    fn abort(headers: &[(&str, &str)]) -> Fault {
        let exact =
            |(name, value): &(&str, &str)| ((*name).to_owned(), HeaderMatch::Exact((*value).to_owned()));
        Fault::new(None, Some(503), Share::ALL, headers.iter().map(exact).collect()).expect("valid")
    }

    fn rig(faults: Vec<(Fault, Duration)>) -> Rig {
        let faults = faults.into_iter().map(|(fault, lasts)| (fault, clock::wall() + lasts)).collect();
        Rig::with(|setup| {
            let guards = Guards { faults: Some(Arc::new(Faults(faults))), ..Guards::default() };
            guarded(setup, "shop.example/*", guards);
        })
    }

    #[test]
    fn a_request_is_aborted_on_purpose_and_says_so() {
        let rig = rig(vec![(abort(&[("X-Test", "1")]), Duration::from_secs(3_600))]);
        rig.exchanges(get("/", ""), OK);
        let answer = rig.answers_itself(get("/", "x-test: 1\r\n"));
        assert_eq!(answer.status(), 503);
        let status = answer.field("proxy-status").expect("a proxy status");
        assert!(status.contains("proxy_internal_response") && status.contains("on purpose"), "{status}");
        assert!(
            answer.text().contains(r#""fault":"terrace""#) && answer.text().contains(r#""retry_safe":true"#)
        );
        assert_eq!(rig.counted("terrace_faults_injected", &["guarded", "abort"]), 1);
    }

    #[test]
    fn a_fault_ends_by_itself() {
        let rig = rig(vec![(abort(&[]), Duration::ZERO)]);
        rig.exchanges(get("/", ""), OK);
    }

    #[test]
    fn a_request_is_delayed_on_purpose() {
        let delay = Duration::from_millis(50);
        let fault = Fault::new(Some(delay), None, Share::ALL, Vec::new()).expect("valid");
        let rig = rig(vec![(fault, Duration::from_secs(3_600))]);
        let began = clock::now();
        rig.exchanges(get("/", ""), OK);
        assert!(clock::now() - began >= delay, "it waited at least that long");
        assert_eq!(rig.counted("terrace_faults_injected", &["guarded", "delay"]), 1);
    }

    #[test]
    fn an_operator_breaks_a_route_for_a_while_and_mends_it_again() {
        let rig = Rig::new();
        let board = rig.edge.faults();
        let lasts = Duration::from_secs(600);
        let report = board.begin("all", abort(&[]), lasts).expect("there is such a route");
        assert_eq!(rig.answers_itself(get("/", "")).status(), 503);
        assert_eq!(board.list(), std::slice::from_ref(&report));
        let id = report.id.expect("an operator's");
        assert_eq!(board.end(id), Some(report));
        assert_eq!((board.end(id), board.list().len()), (None, 0));
        rig.exchanges(get("/", ""), OK);
    }

    #[test]
    fn a_share_of_the_requests_is_broken_and_the_others_are_not() {
        let rig = Rig::new();
        let half = Fault::new(None, Some(500), Share::percent(50), Vec::new()).expect("valid");
        rig.edge.faults().begin("all", half, Duration::from_secs(600)).expect("there is such a route");
        let broken = (0..200).filter(|_| {
            let mut client = rig.client_that_sent(get("/", "Connection: close\r\n"));
            let until = clock::now() + PATIENCE;
            loop {
                if client.has_bytes() {
                    return client.response().status() == 500;
                }
                if let Some(mut origin) = rig.origin.try_accept() {
                    origin.request();
                    origin.send(OK.replacen("\r\n", "\r\nConnection: close\r\n", 1));
                    assert_eq!(client.response().status(), 200);
                    return false;
                }
                assert!(clock::now() < until, "neither answered nor asked");
            }
        });
        // Five standard deviations of a fair coin thrown 200 times are 35.
        let broken = broken.count();
        assert!((65..=135).contains(&broken), "{broken}");
    }
}
