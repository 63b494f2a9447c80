//! How often and how many at once: on real sockets, with the bytes that clients see; never one over, from however many
//! connections and cores.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use terrace_edge::{
    Config, Edge, Guards, Limit, LimitKey, LimitRules, Limits, Listener, ProxyProtocol, Purpose, Route,
};
use terrace_instruments::{Log, Meter, TraceSettings, Tracer};
use terrace_limits::{Config as LimitsConfig, Engine, Limits as Registry, Spec};
use terrace_policy::limit::{Law, Period, Rate};
use terrace_runtime::threads::Cores;

use crate::message::Message;
use crate::rig::{PATIENCE, Peer, Rig, Setup, respond, route};
use crate::traffic::{forward, get};

const HOUR: Duration = Duration::from_secs(3_600);

fn count(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).expect("not zero")
}

/// So many an hour, all of them at once: within a test none comes back.
fn bucket(burst: u32) -> Law {
    Law::TokenBucket { rate: Rate::new(count(1), HOUR), burst: count(burst) }
}

fn line(per_second: u32, queue_max: u32) -> Law {
    let rate = Rate::new(count(per_second), Duration::from_secs(1));
    Law::LeakyBucket { rate, burst: NonZeroU32::MIN, queue_max }
}

fn at_once(number: u32) -> Law {
    Law::Concurrency { at_once: count(number) }
}

fn by(key: &[LimitKey]) -> LimitRules {
    LimitRules { key: key.to_vec(), cost_field: None, ipv6_prefix_bits: 64, dry_run: false }
}

fn by_client() -> LimitRules {
    by(&[LimitKey::ClientAddress])
}

/// Limits ready to be asked, named `a`, `b` and so on.
fn limits(meter: &Meter, wanted: &[(Law, LimitRules)], total: Option<Duration>) -> Arc<Limits> {
    let registry = Registry::build(LimitsConfig::default(), meter, &Log::discard()).expect("no folder");
    let name = |place: usize| char::from(b'a' + place as u8).to_string();
    let spec = |(place, (law, _)): (usize, &(Law, LimitRules))| Spec {
        name: name(place),
        law: *law,
        keys_max: 1_000,
        engine: Engine::Embedded,
    };
    let prepared = registry.prepare(wanted.iter().enumerate().map(spec).collect());
    let ready = |(place, (_, rules)): (usize, &(Law, LimitRules))| {
        Limit::new(prepared.get(&name(place)).expect("prepared"), rules.clone())
    };
    let limits = wanted.iter().enumerate().map(ready).collect();
    registry.commit(prepared);
    Arc::new(Limits::new(limits, None, total))
}

/// A route with these limits in the place of the rig's own.
fn limited(setup: &mut Setup, meter: &Meter, wanted: &[(Law, LimitRules)], total: Option<Duration>) {
    let guards = Guards { limits: Some(limits(meter, wanted, total)), ..Guards::default() };
    let action = forward(setup, &[1]);
    setup.routes.push(Route { guards: Some(Box::new(guards)), ..route("limited", "/a/*", action) });
}

/// An edge whose one service is under these limits.
fn rig(wanted: &[(Law, LimitRules)]) -> Rig {
    Rig::with(|setup| limited(setup, &Meter::new(1), wanted, None))
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The status of a request with these fields, which the origin answers if it hears of it.
#[track_caller]
fn passes(rig: &Rig, fields: &str) -> bool {
    let mut client = rig.client_that_sent(get("/a/", fields));
    loop {
        if let Some(mut origin) = rig.origin.try_accept() {
            origin.request();
            origin.send(OK.replacen("\r\n", "\r\nConnection: close\r\n", 1));
            assert_eq!(client.response().status(), 200);
            return true;
        }
        if client.has_bytes() {
            assert_eq!(client.response().status(), 429);
            return false;
        }
        std::thread::yield_now();
    }
}

#[test]
fn who_is_over_the_limit_is_told_so_and_when_to_come_back() {
    let rig = rig(&[(bucket(2), by_client())]);
    let (_, answer) = rig.exchanges(get("/a/", ""), OK);
    assert_eq!(answer.field("ratelimit-policy"), Some(r#""a";q=2;w=7200"#));
    assert_eq!(answer.field("ratelimit"), Some(r#""a";r=1;t=3600"#));
    rig.exchanges(get("/a/", ""), OK);
    let refused: Message = rig.answers_itself(get("/a/", ""));
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.field("ratelimit"), Some(r#""a";r=0;t=7200"#));
    assert_eq!(refused.field("ratelimit-policy"), Some(r#""a";q=2;w=7200"#));
    let wait: u64 = refused.field("retry-after").expect("a time").parse().expect("seconds");
    assert!((3_590..=3_600).contains(&wait), "{wait}");
    assert!(refused.text().contains(r#""fault":"client""#), "{}", refused.text());
    assert!(refused.text().contains(r#""retry_safe":true"#), "{}", refused.text());
    rig.counts("terrace_requests", &["limited", "4xx"], 1);
}

#[test]
fn from_many_connections_on_many_cores_never_one_over() {
    for law in [bucket(200), Law::FixedWindow { rate: Rate::new(count(200), HOUR) }, sliding(200), quota(200)]
    {
        let meter = Meter::new(4);
        let guards =
            Guards { limits: Some(limits(&meter, &[(law, by_client())], None)), ..Guards::default() };
        let route = Route { guards: Some(Box::new(guards)), ..respond("limited", "/*", 200, "ok") };
        let (edge, runtime) = on_four_cores(&meter, route);
        let address = edge.address("public").expect("it listens");
        let passed = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| {
                    let stream = std::net::TcpStream::connect(address).expect("the edge accepts");
                    let mut client = Peer::new(stream);
                    for _ in 0..25 {
                        client.send(get("/", ""));
                        let status = client.response().status();
                        assert!(status == 200 || status == 429, "{status}");
                        passed.fetch_add(u32::from(status == 200), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 200, "{law:?}");
        runtime.block_on(edge.drain(PATIENCE));
    }
}

fn sliding(limit: u32) -> Law {
    Law::SlidingWindow { rate: Rate::new(count(limit), HOUR) }
}

fn quota(limit: u64) -> Law {
    Law::Quota { limit: NonZeroU64::new(limit).expect("not zero"), period: Period::Month }
}

fn on_four_cores(meter: &Meter, route: Route) -> (Edge, tokio::runtime::Runtime) {
    let cores = Cores::start(4).expect("threads");
    let edge = Edge::build(cores, meter.clone(), &Log::discard(), &Tracer::discard());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let listener = Listener {
        name: "public".to_owned(),
        purpose: Purpose::Route,
        addresses: vec![([127, 0, 0, 1], 0).into()],
        tls: None,
        http2: true,
        proxy_protocol: ProxyProtocol::Off,
        trusted_proxies: Vec::new(),
        bounds: terrace_edge::Bounds::default(),
    };
    let config = Config { listeners: vec![listener], routes: vec![route], ..Config::default() };
    runtime.block_on(edge.apply(config)).expect("a valid configuration");
    (edge, runtime)
}

#[test]
fn places_at_once_are_never_one_too_many_on_many_cores() {
    let meter = Meter::new(4);
    let wanted = [(at_once(3), by_client())];
    let guards = Guards { limits: Some(limits(&meter, &wanted, None)), ..Guards::default() };
    let route = Route { guards: Some(Box::new(guards)), ..respond("limited", "/*", 200, "ok") };
    let (edge, runtime) = on_four_cores(&meter, route);
    let address = edge.address("public").expect("it listens");
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = Peer::new(std::net::TcpStream::connect(address).expect("the edge accepts"));
                for _ in 0..50 {
                    client.send(get("/", ""));
                    assert!(matches!(client.response().status(), 200 | 429));
                }
            });
        }
    });
    // All places come back, the last one just after the client has its answer.
    let mut client = Peer::new(std::net::TcpStream::connect(address).expect("the edge accepts"));
    let until = terrace_runtime::clock::now() + PATIENCE;
    loop {
        client.send(get("/", ""));
        if client.response().field("ratelimit") == Some(r#""a";r=2;t=1"#) {
            break;
        }
        assert!(terrace_runtime::clock::now() < until, "a place is lost");
    }
    runtime.block_on(edge.drain(PATIENCE));
}

#[test]
fn each_value_of_a_header_has_a_count_of_its_own_and_who_has_none_is_counted_by_address() {
    let rig = rig(&[(bucket(1), by(&[LimitKey::Field("X-Tenant".to_owned())]))]);
    assert!(passes(&rig, "X-Tenant: one\r\n"));
    assert!(passes(&rig, "X-Tenant: two\r\n"));
    assert!(passes(&rig, ""));
    assert!(!passes(&rig, "x-tenant: one\r\n") && !passes(&rig, ""));
}

#[test]
fn a_combination_counts_each_combination() {
    let key = [LimitKey::ClientAddress, LimitKey::Field("x-a".to_owned()), LimitKey::Route];
    let rig = rig(&[(bucket(1), by(&key))]);
    assert!(passes(&rig, "X-A: 1\r\n") && passes(&rig, "X-A: 2\r\n"));
    assert!(!passes(&rig, "X-A: 1\r\n"));
}

#[test]
fn a_request_costs_what_its_header_says_and_one_at_least() {
    let rules = LimitRules { cost_field: Some("X-Cost".to_owned()), ..by_client() };
    let rig = rig(&[(bucket(10), rules)]);
    assert!(passes(&rig, "X-Cost: 7\r\n"));
    assert!(!passes(&rig, "X-Cost: 4\r\n"));
    assert!(passes(&rig, "X-Cost: 0\r\n") && passes(&rig, "X-Cost: many\r\n"));
    let never = rig.answers_itself(get("/a/", "X-Cost: 99999999999\r\n"));
    assert_eq!((never.status(), never.field("retry-after")), (429, None));
    assert!(never.text().contains("never allows"), "{}", never.text());
    assert!(passes(&rig, ""));
    assert!(!passes(&rig, ""));
}

#[test]
fn what_the_second_limit_refuses_costs_the_first_nothing() {
    let tenant = by(&[LimitKey::Field("x-tenant".to_owned())]);
    let rig = rig(&[(bucket(3), by_client()), (bucket(1), tenant)]);
    assert!(passes(&rig, "X-Tenant: one\r\n"));
    for _ in 0..20 {
        assert!(!passes(&rig, "X-Tenant: one\r\n"));
    }
    assert!(passes(&rig, "X-Tenant: two\r\n") && passes(&rig, "X-Tenant: three\r\n"));
    assert!(!passes(&rig, "X-Tenant: four\r\n"));
    assert!(!passes(&rig, "X-Tenant: four\r\n"), "the first refused it, so the second was not asked");
}

#[test]
fn the_client_is_told_of_its_tightest_limit() {
    let rig = rig(&[(bucket(100), by_client()), (bucket(4), by_client())]);
    let (_, answer) = rig.exchanges(get("/a/", ""), OK);
    assert_eq!(answer.field("ratelimit"), Some(r#""b";r=3;t=3600"#));
    assert_eq!(answer.field("ratelimit-policy"), Some(r#""b";q=4;w=14400"#));
}

#[test]
fn a_place_at_once_is_held_until_the_answers_last_byte() {
    let rig = rig(&[(at_once(1), by_client())]);
    let mut client = rig.client_that_sent(get("/a/", ""));
    let mut origin = rig.origin.accept();
    origin.request();
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhalf ");
    let head = client.head();
    assert_eq!(head.field("ratelimit-policy"), Some(r#""a";q=1;qu="concurrent-requests""#));
    assert_eq!(client.exactly(5), b"half ");
    let refused = rig.answers_itself(get("/a/", ""));
    assert_eq!((refused.status(), refused.field("retry-after")), (429, Some("1")));
    origin.send("rest!");
    assert_eq!(client.exactly(5), b"rest!");
    until_passes(&rig);
}

/// The place is given back just after the client has the last byte.
fn until_passes(rig: &Rig) {
    let until = terrace_runtime::clock::now() + PATIENCE;
    while !passes(rig, "") {
        assert!(terrace_runtime::clock::now() < until, "the place did not come back");
    }
}

#[test]
fn a_client_that_breaks_off_gives_its_place_back() {
    let rig = rig(&[(at_once(1), by_client())]);
    let mut client = rig.client_that_sent(get("/a/", ""));
    let mut origin = rig.origin.accept();
    origin.request();
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\nConnection: close\r\n\r\nsome");
    client.head();
    client.reset();
    while origin.try_send([b'x'; 16 << 10]) {}
    until_passes(&rig);
}

#[test]
fn what_comes_too_soon_waits_for_its_turn() {
    let rig = rig(&[(line(20, 10), by_client())]);
    let began = terrace_runtime::clock::now();
    let mut clients: Vec<Peer> = (0..5).map(|_| rig.client_that_sent(get("/a/", ""))).collect();
    for _ in 0..5 {
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send(OK.replacen("\r\n", "\r\nConnection: close\r\n", 1));
    }
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    // The first goes at once, the others each 50 ms after the one before, and never sooner.
    assert!(terrace_runtime::clock::now() - began >= Duration::from_millis(4 * 50));
    rig.counts("terrace_requests", &["limited", "2xx"], 5);
}

#[test]
fn a_line_that_is_full_and_a_wait_that_takes_too_long_are_refused_at_once() {
    let slow = Law::LeakyBucket { rate: Rate::new(count(1), HOUR), burst: NonZeroU32::MIN, queue_max: 5 };
    let impatient = Rig::with(|setup| {
        limited(setup, &Meter::new(1), &[(slow, by_client())], Some(Duration::from_secs(10)));
    });
    assert!(passes(&impatient, ""));
    let refused = impatient.answers_itself(get("/a/", ""));
    assert_eq!(refused.status(), 429, "an hour is longer than ten seconds");
    let rig = rig(&[(line(1, 0), by_client())]);
    assert!(passes(&rig, "") && !passes(&rig, ""));
}

#[test]
fn a_client_that_leaves_the_line_frees_its_place_and_its_request_goes_nowhere() {
    let rig = rig(&[(line(1, 1), by_client())]);
    assert!(passes(&rig, ""));
    // One of the two waits, for the other there is no room.
    let (one, two) = (get("/a/", "X-Who: left\r\n"), get("/a/", "X-Who: left\r\n"));
    let mut both = [rig.client_that_sent(one), rig.client_that_sent(two)];
    let until = terrace_runtime::clock::now() + PATIENCE;
    let refused = loop {
        if let Some(place) = both.iter().position(Peer::has_bytes) {
            break place;
        }
        assert!(terrace_runtime::clock::now() < until, "the line takes as many as come");
        std::thread::yield_now();
    };
    assert_eq!(both[refused].response().status(), 429);
    drop(both);
    // Whoever left would be sent on before anybody who comes now.
    loop {
        let mut client = rig.client_that_sent(get("/a/", "X-Who: came\r\n"));
        while !client.has_bytes() {
            if let Some(mut origin) = rig.origin.try_accept() {
                assert_eq!(origin.request().field("x-who"), Some("came"));
                origin.send(OK.replacen("\r\n", "\r\nConnection: close\r\n", 1));
            }
            assert!(terrace_runtime::clock::now() < until, "the place did not come back");
            std::thread::yield_now();
        }
        if client.response().status() == 200 {
            break;
        }
    }
}

#[test]
fn a_dry_run_counts_and_refuses_nobody() {
    let rules = LimitRules { dry_run: true, ..by_client() };
    let meter = Meter::new(1);
    let rig = Rig::with(|setup| {
        limited(setup, &meter, &[(bucket(1), rules.clone()), (line(1, 5), rules)], None);
    });
    for _ in 0..3 {
        let (_, answer) = rig.exchanges(get("/a/", ""), OK);
        assert_eq!((answer.status(), answer.field("ratelimit")), (200, None));
    }
    let outcome = |limit: &str, outcome: &str| counted(&meter, limit, outcome);
    assert_eq!((outcome("a", "allowed"), outcome("a", "would_refuse"), outcome("a", "refused")), (1, 2, 0));
    assert_eq!((outcome("b", "allowed"), outcome("b", "would_refuse")), (1, 2));
}

fn counted(meter: &Meter, limit: &str, outcome: &str) -> u64 {
    let families = meter.collect();
    let series =
        families.iter().filter(|family| family.family.name == "terrace_limit").flat_map(|f| &f.series);
    let mut found = series.filter(|series| series.labels == [limit, outcome]);
    match found.next().map(|series| &series.value) {
        Some(terrace_instruments::SeriesValue::Counter(count)) => *count,
        _ => 0,
    }
}

#[test]
fn which_limit_refused_is_counted_and_in_the_trace() {
    let meter = Meter::new(1);
    let rig = Rig::with(|setup| {
        setup.traces = TraceSettings { on: true, ..TraceSettings::default() };
        limited(setup, &meter, &[(bucket(1), by_client())], None);
    });
    assert!(passes(&rig, ""));
    let parent = "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    assert_eq!(rig.answers_itself(get("/a/", parent)).status(), 429);
    assert_eq!((counted(&meter, "a", "allowed"), counted(&meter, "a", "refused")), (1, 1));
    let until = terrace_runtime::clock::now() + PATIENCE;
    let mut attributes = Vec::new();
    while !attributes.iter().any(|(name, _)| *name == "terrace.limit.refused") {
        assert!(terrace_runtime::clock::now() < until, "{attributes:?}");
        attributes.extend(rig.spans.take_spans().into_iter().flat_map(|span| span.attributes));
        std::thread::yield_now();
    }
}

#[test]
fn a_route_without_limits_tells_nothing_of_limits() {
    let rig = Rig::new();
    let (_, answer) = rig.exchanges(get("/a/", ""), OK);
    assert_eq!((answer.field("ratelimit"), answer.field("ratelimit-policy")), (None, None));
}
