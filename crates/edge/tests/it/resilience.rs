//! What keeps the rest well when a part is not: endpoints that fall silent, breakers, lines, clients that are slow,
//! deadlines, fallbacks, and a machine that has too much to do.

use std::time::Duration;

use bytes::Bytes;
use terrace_edge::{
    Action, Concurrency, Fallback, FallbackOn, FallbackTo, Guards, Network, Priority, Purpose, Queue,
    Resilience, Route, Target,
};
use terrace_instruments::SeriesValue;
use terrace_policy::{
    Backoff, BreakerLaw, EjectionLaw, HedgeAfter, HedgeLaw, OverloadLaw, Priority as Rank, RetryPolicy,
    Share, Statuses,
};
use terrace_runtime::{clock, drain};
use terrace_upstream::Balance;

use crate::frames::{self, Client, DATA, END_STREAM, Said};
use crate::message::Message;
use crate::rig::{Origin, PATIENCE, Peer, Rig, Setup, route};
use crate::traffic::{forward, get};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const FAILED: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nill";
const POST: &str = "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n\r\n";

/// Two endpoints that are asked in turn, and taken out as they are by default.
fn two(setup: &mut Setup) {
    setup.origins = 2;
    setup.upstream.balance = Balance::RoundRobin;
    setup.upstream.ejection = Some(EjectionLaw::default());
}

fn at_once(setup: &mut Setup, limit: u32, size: u32) {
    let queue = Queue { size, wait: Some(PATIENCE), ..Queue::default() };
    setup.resilience = Resilience { concurrency: Concurrency::Fixed(limit), queue, ..Resilience::default() };
}

/// Looks until there is something to see.
#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(clock::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

impl Rig {
    fn gauge(&self, name: &str) -> i64 {
        let families = self.meter.collect();
        let of = families.iter().filter(|family| family.family.name == name);
        let value = |value: &SeriesValue| match value {
            SeriesValue::Gauge(value) => *value,
            SeriesValue::Counter(value) => *value as i64,
            SeriesValue::Histogram(_) => 0,
        };
        of.flat_map(|family| &family.series).map(|series| value(&series.value)).sum()
    }

    /// How often requests were sent away for that reason.
    fn shed(&self, reason: &str) -> u64 {
        self.counted("terrace_shed", &[reason])
    }

    fn is_out(&self, name: &str) -> bool {
        self.upstream.report(clock::now()).iter().any(|one| &*one.name == name && one.ejected_for.is_some())
    }

    fn waiting_are(&self, number: i64) {
        until("so many wait", || (self.gauge("terrace_queue_length") == number).then_some(()));
    }
}

fn answers(peer: &mut Peer, answer: &str) -> Message {
    let request = peer.request();
    peer.send(answer);
    request
}

// Endpoints that fall silent.

/// Two who wait for the same endpoint.
struct Waiting<'a> {
    clients: [Peer; 2],
    silent: [Peer; 2],
    silent_origin: &'a Origin,
    other: &'a Origin,
}

impl Rig {
    /// Two ask in turn, and the endpoint answers neither; a third is answered by the other one.
    fn two_wait(&self, request: impl Fn() -> String) -> Waiting<'_> {
        let first = self.client_that_sent(request());
        let (mut silent, other) = self.either_origin();
        silent.request();
        let mut answered = self.client_that_sent(get("/", ""));
        answers(&mut other.accept(), &OK.replacen("\r\n", "\r\nConnection: close\r\n", 1));
        assert_eq!(answered.response().text(), "ok");
        let second = self.client_that_sent(request());
        let is_first = other.address() != self.origin.address();
        let silent_origin = if is_first { &self.origin } else { &self.others[0] };
        let mut silent_too = silent_origin.accept();
        silent_too.request();
        Waiting { clients: [first, second], silent: [silent, silent_too], silent_origin, other }
    }
}

#[test]
fn requests_at_an_endpoint_that_fell_silent_are_answered_by_another() {
    let rig = Rig::with(two);
    let mut waiting = rig.two_wait(|| get("/", ""));
    for _ in 0..2 {
        let mut second = waiting.other.accept();
        let marked = answers(&mut second, OK);
        assert_eq!(marked.field("x-terrace-attempt"), Some("2"), "it shall not be tried again there");
    }
    waiting.clients.iter_mut().for_each(|client| assert_eq!(client.response().text(), "ok"));
    waiting.silent.into_iter().for_each(|mut silent| silent.ends());
}

#[test]
fn a_report_that_takes_long_is_asked_for_once_where_nothing_else_waits() {
    let rig = Rig::with(two);
    let mut client = rig.client_that_sent(get("/report", ""));
    let (mut report, other) = rig.either_origin();
    report.request();
    // As long as an endpoint is taken for silent after, and looked after in between.
    let until_then = clock::now() + 2 * rig.upstream.silence_limit();
    until("it has taken long", || {
        rig.upstream.maintain(clock::now());
        (clock::now() > until_then).then_some(())
    });
    assert!(!rig.is_out("origin-0") && !rig.is_out("origin-1"));
    report.send(OK);
    assert_eq!(client.response().text(), "ok");
    other.heard_nothing();
}

#[test]
fn an_endpoint_that_only_took_long_is_still_listened_to() {
    let rig = Rig::with(two);
    let mut waiting = rig.two_wait(|| get("/", ""));
    let mut again = [waiting.other.accept(), waiting.other.accept()];
    again.iter_mut().for_each(|again| drop(again.request()));
    waiting.silent.iter_mut().for_each(|slow| slow.send(OK));
    waiting.clients.iter_mut().for_each(|client| assert_eq!(client.response().text(), "ok"));
    again.into_iter().for_each(|mut again| again.ends());
}

#[test]
fn what_must_not_be_sent_twice_waits_for_its_endpoint() {
    let rig = Rig::with(two);
    let mut waiting = rig.two_wait(|| POST.to_owned());
    let name = if waiting.other.address() == rig.origin.address() { "origin-1" } else { "origin-0" };
    until("the endpoint is out", || {
        rig.upstream.maintain(clock::now());
        rig.is_out(name).then_some(())
    });
    waiting.silent.iter_mut().for_each(|silent| silent.send(OK));
    waiting.clients.iter_mut().for_each(|client| assert_eq!(client.response().text(), "ok"));
    waiting.other.heard_nothing();
}

#[test]
fn a_probe_that_fails_costs_its_client_nothing() {
    let rig = Rig::with(|setup| {
        two(setup);
        let law = EjectionLaw { failures: 1, ..EjectionLaw::default() };
        setup.upstream.ejection = Some(law);
    });
    // Each answer closes its connection, so that whoever is asked is seen here each time.
    let closing = |answer: &str| answer.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let mut client = rig.client_that_sent(get("/", ""));
    let (mut ill, well) = rig.either_origin();
    answers(&mut ill, &closing(FAILED));
    assert_eq!(client.response().status(), 500, "nobody knew");
    let ill = if well.address() == rig.origin.address() { &rig.others[0] } else { &rig.origin };
    until("the endpoint was probed", || {
        let mut client = rig.client_that_sent(get("/", ""));
        let mut is_probed = false;
        until("the client is answered", || {
            if let Some(mut peer) = ill.try_accept() {
                answers(&mut peer, &closing(FAILED));
                is_probed = true;
            }
            if let Some(mut peer) = well.try_accept() {
                answers(&mut peer, &closing(OK));
            }
            client.has_bytes().then_some(())
        });
        assert_eq!(client.response().status(), 200, "it is given another's answer");
        is_probed.then_some(())
    });
}

#[test]
fn a_hedge_is_sent_when_the_policy_says_and_the_first_answer_is_taken() {
    let rig = Rig::with(|setup| {
        setup.origins = 2;
        let after = HedgeAfter::Fixed(Duration::from_millis(20));
        setup.policy.hedge = Some(HedgeLaw { after, attempts: 2 });
    });
    let mut client = rig.client_that_sent(get("/", ""));
    let (mut first, other) = rig.either_origin();
    first.request();
    let mut second = other.accept();
    answers(&mut second, OK);
    assert_eq!(client.response().text(), "ok");
    first.ends();
    let mut client = rig.client_that_sent(POST);
    let mut asked = until("somebody was asked", || {
        if second.has_bytes() { Some(second.another()) } else { rig.either_try() }
    });
    asked.request();
    asked.send(OK);
    assert_eq!(client.response().text(), "ok");
}

impl Rig {
    fn either_try(&self) -> Option<Peer> {
        self.origin.try_accept().or_else(|| self.others[0].try_accept())
    }
}

#[test]
fn a_first_attempt_that_breaks_waits_for_the_second() {
    let rig = Rig::with(|setup| {
        setup.origins = 2;
        let after = HedgeAfter::Fixed(Duration::from_millis(20));
        setup.policy.hedge = Some(HedgeLaw { after, attempts: 2 });
    });
    let mut client = rig.client_that_sent(get("/", ""));
    let (mut first, other) = rig.either_origin();
    first.request();
    let mut second = other.accept();
    second.request();
    first.reset();
    second.send(OK);
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn when_both_attempts_break_the_client_is_told() {
    let rig = Rig::with(|setup| {
        setup.origins = 2;
        let after = HedgeAfter::Fixed(Duration::from_millis(20));
        setup.policy.hedge = Some(HedgeLaw { after, attempts: 2 });
    });
    let mut client = rig.client_that_sent(get("/", ""));
    let (mut first, other) = rig.either_origin();
    first.request();
    let mut second = other.accept();
    second.request();
    second.reset();
    first.reset();
    assert_eq!(client.response().status(), 502);
}

#[test]
fn a_request_that_waits_has_its_attempts_and_no_more_whatever_becomes_of_them() {
    let rig = Rig::with(two);
    let mut waiting = rig.two_wait(|| get("/waits", ""));
    for _ in 0..2 {
        let mut second = waiting.other.accept();
        assert!(second.request().line.contains("/waits"));
        second.reset();
    }
    // Until the silent one is probed requests are looked after ten times and more.
    until("it is probed", || {
        let mut other = rig.client_that_sent(get("/other", ""));
        let (mut peer, is_probe) = until("somebody was asked", || {
            let probe = waiting.silent_origin.try_accept().map(|peer| (peer, true));
            probe.or_else(|| waiting.other.try_accept().map(|peer| (peer, false)))
        });
        assert!(peer.request().line.contains("/other"), "two attempts are all that each has");
        peer.send(OK.replacen("\r\n", "\r\nConnection: close\r\n", 1));
        assert_eq!(other.response().status(), 200);
        is_probe.then_some(())
    });
    waiting.silent.iter_mut().for_each(|silent| silent.send(OK));
    waiting.clients.iter_mut().for_each(|client| assert_eq!(client.response().text(), "ok"));
}

#[test]
fn where_nobody_else_can_be_asked_the_retries_of_others_are_not_used_up_for_that() {
    let rig = Rig::with(|setup| {
        two(setup);
        setup.policy.retry.attempts_max = 5;
        setup.policy.timeouts.first_byte = Some(Duration::from_secs(2));
    });
    let mut waiting = rig.two_wait(|| get("/", ""));
    for _ in 0..2 {
        let mut second = waiting.other.accept();
        second.request();
        second.reset();
    }
    waiting.clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 504));
    waiting.other.heard_nothing();
    assert_eq!(
        rig.gauge("terrace_upstream_retries_total"),
        2,
        "a retry of each was made, and so many were charged"
    );
}

// Retries in chains.

#[test]
fn what_a_caller_tries_again_is_not_tried_again_here() {
    let rig = Rig::with(|setup| {
        setup.origins = 2;
        setup.listener.trusted_proxies = vec![Network::new([127, 0, 0, 0].into(), 8)];
    });
    let mut client = rig.client_that_sent(get("/", "X-Terrace-Attempt: 2\r\n"));
    let (mut first, other) = rig.either_origin();
    assert_eq!(first.request().field("x-terrace-attempt"), Some("2"), "and whoever is next is told as well");
    first.reset();
    assert_eq!(client.response().status(), 502);
    other.heard_nothing();
}

#[test]
fn a_stranger_cannot_say_that_a_request_was_tried_before() {
    let rig = Rig::with(|setup| setup.origins = 2);
    let mut client = rig.client_that_sent(get("/", "X-Terrace-Attempt: 2\r\n"));
    let (mut first, other) = rig.either_origin();
    assert_eq!(first.request().field("x-terrace-attempt"), None);
    first.reset();
    assert_eq!(answers(&mut other.accept(), OK).field("x-terrace-attempt"), Some("2"));
    assert_eq!(client.response().status(), 200);
}

#[test]
fn a_retry_says_that_it_is_one() {
    let rig = Rig::with(|setup| setup.origins = 2);
    let mut client = rig.client_that_sent(get("/", ""));
    let (mut first, other) = rig.either_origin();
    first.request();
    first.reset();
    let mut second = other.accept();
    assert_eq!(answers(&mut second, OK).field("x-terrace-attempt"), Some("2"));
    assert_eq!(client.response().status(), 200);
}

#[test]
fn an_answer_is_not_given_up_for_a_retry_that_comes_too_late() {
    let rig = Rig::with(|setup| {
        setup.origins = 2;
        setup.policy.timeouts.total = Some(Duration::from_secs(20));
        setup.policy.retry.on.statuses = Statuses::none().with(503);
        let pause = Duration::from_secs(100_000);
        setup.policy.retry.backoff = Backoff { from: pause, to: pause };
    });
    let mut client = rig.client_that_sent(get("/", ""));
    let (mut origin, _) = rig.either_origin();
    answers(
        &mut origin,
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy",
    );
    let answer = client.response();
    assert_eq!((answer.status(), answer.field("retry-after"), answer.text()), (503, Some("7"), "busy"));
}

// The gate of a service.

#[test]
fn a_service_is_given_no_more_at_once_than_it_may_have() {
    let rig = Rig::with(|setup| at_once(setup, 1, 10));
    let mut first = rig.client_that_sent(get("/1", ""));
    let mut origin = rig.origin.accept();
    origin.request();
    let mut second = rig.client_that_sent(get("/2", ""));
    rig.waiting_are(1);
    rig.origin.heard_nothing();
    origin.send(OK);
    assert_eq!(first.response().status(), 200);
    assert!(answers(&mut origin, OK).line.contains("/2"));
    assert_eq!(second.response().status(), 200);
}

#[test]
fn those_who_matter_more_are_served_first() {
    let rig = Rig::with(|setup| {
        at_once(setup, 1, 10);
        let action = forward(setup, &[1]);
        let priority = Priority::Field { name: "x-priority".into(), default: Rank::Normal };
        let guards = Guards { priority, ..Guards::default() };
        setup.routes.push(Route { guards: Some(Box::new(guards)), ..route("by-field", "/p/*", action) });
    });
    let mut first = rig.client_that_sent(get("/p/first", ""));
    let mut origin = rig.origin.accept();
    origin.request();
    let mut waiting = Vec::new();
    for (place, priority) in ["low", "normal", "high"].iter().enumerate() {
        waiting.push(
            rig.client_that_sent(get(&format!("/p/{priority}"), &format!("X-Priority: {priority}\r\n"))),
        );
        rig.waiting_are(place as i64 + 1);
    }
    origin.send(OK);
    assert_eq!(first.response().status(), 200);
    for priority in ["high", "normal", "low"] {
        let served = answers(&mut origin, OK);
        assert!(served.line.contains(priority), "{served:?}");
    }
    waiting.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
}

#[test]
fn one_more_than_may_wait_is_told_so_at_once() {
    let rig = Rig::with(|setup| at_once(setup, 1, 0));
    let _first = rig.client_that_sent(get("/", ""));
    let mut origin = rig.origin.accept();
    origin.request();
    let refused = rig.client_that_sent(get("/", "")).response();
    assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("1")));
    assert!(
        refused.text().contains(r#""error":"connection_limit_reached","retry_safe":true"#),
        "{refused:?}"
    );
    assert_eq!(rig.shed("queue_full"), 1);
}

#[test]
fn who_waits_for_too_long_is_told_so() {
    let rig = Rig::with(|setup| {
        at_once(setup, 1, 10);
        setup.resilience.queue.wait = Some(Duration::from_millis(20));
    });
    let _first = rig.client_that_sent(get("/", ""));
    let mut origin = rig.origin.accept();
    origin.request();
    assert_eq!(rig.client_that_sent(get("/", "")).response().status(), 503);
    assert_eq!(rig.shed("queue_wait"), 1);
}

#[test]
fn one_slow_answer_is_no_reason_to_send_those_away_who_could_wait() {
    let rig = Rig::with(|setup| {
        at_once(setup, 1, 10);
        let mut brief = setup.policy.clone();
        brief.timeouts.total = Some(Duration::from_secs(1));
        let action = match forward(setup, &[1]) {
            Action::Forward { split, choosing, mirror, strip, rewrite, .. } => {
                let targets = vec![Target { service: 0, policy: brief }];
                Action::Forward { split, targets, choosing, mirror, strip, rewrite }
            }
            other => other,
        };
        setup.routes.push(route("brief", "/brief/*", action));
    });
    // The service's first answer takes longer than the others have.
    let mut first = rig.client_that_sent(get("/first", ""));
    let mut origin = rig.origin.accept();
    origin.request();
    let began = clock::now();
    until("it has taken long", || (clock::now() >= began + Duration::from_millis(1_200)).then_some(()));
    origin.send(OK);
    assert_eq!(first.response().status(), 200);
    first.send(get("/second", ""));
    origin.request();
    until("that is all that is known", || {
        rig.upstream.maintain(clock::now());
        rig.upstream.usual().fastest.filter(|fastest| *fastest > Duration::from_secs(1))
    });
    let mut waits = rig.client_that_sent(get("/brief/", ""));
    until("it waits, or was sent away", || {
        (rig.gauge("terrace_queue_length") == 1 || waits.has_bytes()).then_some(())
    });
    origin.send(OK);
    assert!(answers(&mut origin, OK).line.contains("/brief/"));
    assert_eq!(waits.response().status(), 200);
}

#[test]
fn a_client_that_leaves_the_line_is_not_served() {
    let rig = Rig::with(|setup| at_once(setup, 1, 10));
    let mut first = rig.client_that_sent(get("/1", ""));
    let mut origin = rig.origin.accept();
    origin.request();
    let leaver = rig.client_that_sent(get("/leaver", ""));
    rig.waiting_are(1);
    drop(leaver);
    until("the line is empty", || (rig.shed("client_left") == 1).then_some(()));
    let mut third = rig.client_that_sent(get("/3", ""));
    rig.waiting_are(1);
    origin.send(OK);
    assert_eq!(first.response().status(), 200);
    assert!(answers(&mut origin, OK).line.contains("/3"));
    assert_eq!(third.response().status(), 200);
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let rig = Rig::with(|setup| at_once(setup, 1, 10));
    let slow = rig.client_that_sent(get("/large", ""));
    let mut origin = rig.origin.accept();
    origin.request();
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    origin.send_until_full(&[b'x'; 64 << 10], 1 << 30);
    let mut second = rig.client_that_sent(get("/2", ""));
    let mut other = rig.origin.accept();
    answers(&mut other, OK);
    assert_eq!(second.response().status(), 200, "the place is free while the first client does not read");
    drop(slow);
}

#[test]
fn a_client_that_does_not_send_its_body_holds_nobody_up() {
    let rig = Rig::with(|setup| at_once(setup, 1, 10));
    let head = "PUT /slow HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\n";
    let mut slow = rig.client_that_sent(head);
    let mut origin = rig.origin.accept();
    origin.head();
    let mut second = rig.client_that_sent(get("/2", ""));
    let mut other = rig.origin.accept();
    answers(&mut other, OK);
    assert_eq!(second.response().status(), 200);
    slow.send("body");
    assert_eq!(origin.exactly(4), b"body");
    origin.send(OK);
    assert_eq!(slow.response().status(), 200);
}

#[test]
fn a_client_of_http_2_that_does_not_read_holds_nobody_up() {
    let rig = Rig::with(|setup| at_once(setup, 1, 10));
    // Its streams have room for a kilobyte, and it gives them no more.
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let mut slow = Client::with_settings(&rig, &[(INITIAL_WINDOW_SIZE, 1_024)]);
    slow.ask(1, &frames::get("/large"), false);
    let mut origin = rig.origin.accept();
    origin.request();
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    origin.send_until_full(&[b'x'; 64 << 10], 1 << 30);
    let mut second = rig.client_that_sent(get("/2", ""));
    let mut other = rig.origin.accept();
    answers(&mut other, OK);
    assert_eq!(second.response().status(), 200, "the place is free while the first client does not read");
    // Another stream of the same connection is none of the slow one's.
    slow.ask(3, &frames::get("/3"), false);
    answers(&mut other, OK);
    assert_eq!(slow.said(3), Said::Status(200));
}

#[test]
fn a_client_of_http_2_that_does_not_send_its_body_holds_nobody_up() {
    let rig = Rig::with(|setup| at_once(setup, 1, 10));
    let mut slow = Client::connect(&rig);
    let mut fields = frames::get("/slow");
    fields[0] = (":method", "PUT");
    slow.ask(1, &fields, true);
    let mut origin = rig.origin.accept();
    origin.head();
    let mut second = rig.client_that_sent(get("/2", ""));
    let mut other = rig.origin.accept();
    answers(&mut other, OK);
    assert_eq!(second.response().status(), 200);
    slow.send(DATA, END_STREAM, 1, b"body");
    assert_eq!(origin.until("body\r\n0\r\n\r\n"), "4\r\nbody\r\n0\r\n\r\n");
    origin.send(OK);
    assert_eq!(slow.said(1), Said::Status(200));
}

#[test]
fn a_hundred_slow_clients_at_one_place_hold_nobody_up_and_none_of_the_place_is_lost() {
    let rig = Rig::with(|setup| at_once(setup, 1, 200));
    let put = "PUT /slow HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\n";
    let mut slow: Vec<(Peer, Peer)> = Vec::new();
    for _ in 0..100 {
        let client = rig.client_that_sent(put);
        let mut origin = rig.origin.accept();
        origin.head();
        slow.push((client, origin));
    }
    for (number, (mut client, mut origin)) in slow.into_iter().enumerate() {
        match number % 3 {
            // A third of them break off, a third go on, and of the rest the service loses patience.
            0 => client.reset(),
            1 => {
                client.send("body");
                assert_eq!(origin.exactly(4), b"body");
                origin.send(OK.replacen("\r\n", "\r\nConnection: close\r\n", 1));
                assert_eq!(client.response().status(), 200);
            }
            _ => origin.reset(),
        }
    }
    // As many places as before: one.
    until("nothing is under way", || {
        let mut client = rig.client_that_sent(get("/settles", ""));
        let mut origin = rig.origin.accept();
        origin.request();
        origin.send(OK.replacen("\r\n", "\r\nConnection: close\r\n", 1));
        assert_eq!(client.response().status(), 200);
        (rig.gauge("terrace_concurrency") == 0).then_some(())
    });
    let mut first = rig.client_that_sent(get("/1", ""));
    let mut origin = rig.origin.accept();
    origin.request();
    let mut second = rig.client_that_sent(get("/2", ""));
    rig.waiting_are(1);
    rig.origin.heard_nothing();
    origin.send(OK);
    assert_eq!(first.response().status(), 200);
    answers(&mut origin, OK);
    assert_eq!(second.response().status(), 200);
}

#[test]
fn an_upgraded_connection_holds_no_place() {
    let rig = Rig::with(|setup| at_once(setup, 1, 10));
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    let mut client = rig.client_that_sent(upgrade);
    let mut origin = rig.origin.accept();
    origin.head();
    origin.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(client.head().status(), 101);
    let mut second = rig.client_that_sent(get("/2", ""));
    let mut other = rig.origin.accept();
    answers(&mut other, OK);
    assert_eq!(second.response().status(), 200);
}

#[test]
fn a_service_that_answers_nobody_is_not_asked_for_a_while() {
    let rig = Rig::with(|setup| {
        setup.resilience.breaker = Some(BreakerLaw { consecutive: 2, probes: 1, ..BreakerLaw::default() });
        setup.policy.retry = RetryPolicy::off();
    });
    for _ in 0..2 {
        let mut client = rig.client_that_sent(get("/", ""));
        let mut origin = rig.origin.accept();
        origin.request();
        origin.reset();
        assert_eq!(client.response().status(), 502);
    }
    let refused = rig.client_that_sent(get("/", "")).response();
    assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("1")));
    assert!(refused.text().contains("its breaker is open"), "{refused:?}");
    rig.origin.heard_nothing();
    assert_eq!((rig.shed("breaker_open"), rig.gauge("terrace_breaker_state")), (1, 2));
    // Whoever was told so was failed by the service.
    rig.counts("terrace_service_requests", &["5xx"], 3);
    let (mut client, mut origin) = until("a probe is let through", || rig.passes_the_breaker(&get("/", "")));
    answers(&mut origin, OK);
    assert_eq!(client.response().status(), 200);
    until("it is closed", || (rig.gauge("terrace_breaker_state") == 0).then_some(()));
}

#[test]
fn a_slow_client_whose_request_is_to_find_out_keeps_nobody_else_out() {
    let rig = Rig::with(|setup| {
        let open = Backoff { from: Duration::from_millis(1), to: Duration::from_millis(50) };
        let law = BreakerLaw { consecutive: 2, probes: 1, open, ..BreakerLaw::default() };
        setup.resilience.breaker = Some(law);
        setup.policy.retry = RetryPolicy::off();
        // Nobody is cut off for being slow.
        setup.listener.bounds.body_rate_min = 0;
    });
    for _ in 0..2 {
        let mut client = rig.client_that_sent(get("/", ""));
        let mut origin = rig.origin.accept();
        origin.request();
        origin.reset();
        assert_eq!(client.response().status(), 502);
    }
    let put = "PUT /slow HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\n";
    let (mut slow, mut held) = until("it is let through", || rig.passes_the_breaker(put));
    held.head();
    let (mut client, mut origin) = until("the next one is", || rig.passes_the_breaker(&get("/", "")));
    answers(&mut origin, OK);
    assert_eq!(client.response().status(), 200);
    until("it is closed", || (rig.gauge("terrace_breaker_state") == 0).then_some(()));
    slow.send("body");
    assert_eq!(held.exactly(4), b"body");
    held.send(OK);
    assert_eq!(slow.response().status(), 200);
}

impl Rig {
    /// Both ends of a request that the breaker lets through; nothing when it does not.
    fn passes_the_breaker(&self, bytes: &str) -> Option<(Peer, Peer)> {
        let refused = self.shed("breaker_open");
        let client = self.client_that_sent(bytes);
        until("it was decided", || match self.origin.try_accept() {
            Some(origin) => Some(Some(origin)),
            None if self.shed("breaker_open") > refused => Some(None),
            None => None,
        })
        .map(|origin| (client, origin))
    }
}

#[test]
fn an_application_s_own_errors_open_no_breaker() {
    let rig = Rig::with(|setup| {
        setup.resilience.breaker = Some(BreakerLaw { consecutive: 2, ..BreakerLaw::default() });
    });
    let mut client = rig.client();
    client.send(get("/", ""));
    let mut origin = rig.origin.accept();
    answers(&mut origin, FAILED);
    assert_eq!(client.response().status(), 500);
    for _ in 0..5 {
        client.send(get("/", ""));
        answers(&mut origin, FAILED);
        assert_eq!(client.response().status(), 500);
    }
}

// Deadlines.

fn trusting(setup: &mut Setup) {
    setup.listener.trusted_proxies = vec![Network::new([127, 0, 0, 0].into(), 8)];
}

/// So many seconds from now, in Unix time.
fn in_seconds(seconds: u64) -> u64 {
    let wall = clock::wall().duration_since(std::time::SystemTime::UNIX_EPOCH).expect("after 1970");
    wall.as_secs() + seconds
}

#[test]
fn a_deadline_goes_on_to_the_service() {
    let rig = Rig::with(|setup| setup.policy.timeouts.total = Some(Duration::from_secs(60)));
    let (seen, _) = rig.exchanges(get("/", ""), OK);
    let deadline = seen.field("x-request-deadline").expect("there is one");
    let seconds: u64 = deadline.split('.').next().and_then(|whole| whole.parse().ok()).expect("Unix time");
    assert!((in_seconds(30)..=in_seconds(61)).contains(&seconds), "{deadline}");
    assert_eq!(seen.field("grpc-timeout"), None);
}

#[test]
fn a_grpc_service_is_told_how_much_is_left() {
    let rig = Rig::with(|setup| setup.policy.timeouts.total = Some(Duration::from_secs(60)));
    let (seen, _) = rig.exchanges(get("/", "Content-Type: application/grpc\r\n"), OK);
    let left = seen.field("grpc-timeout").expect("there is one");
    assert!(
        left.ends_with('u') && left.trim_end_matches('u').parse::<u64>().is_ok_and(|us| us <= 60_000_000),
        "{left}"
    );
}

#[test]
fn a_caller_that_is_believed_may_leave_less_time_and_not_more() {
    let rig = Rig::with(|setup| {
        trusting(setup);
        setup.policy.timeouts.total = Some(Duration::from_secs(60));
    });
    for (asked, expected) in [(20, 20), (3_000, 60)] {
        let field = format!("X-Request-Deadline: {}\r\n", in_seconds(asked));
        let (seen, _) = rig.exchanges(get("/", &field), OK);
        let told = seen.field("x-request-deadline").expect("there is one");
        let seconds: u64 = told.split('.').next().and_then(|whole| whole.parse().ok()).expect("Unix time");
        assert!(seconds.abs_diff(in_seconds(expected)) <= 10, "asked for {asked} s, told {told}");
    }
}

#[test]
fn what_cannot_be_answered_in_time_is_not_begun() {
    let rig = Rig::with(trusting);
    for field in [format!("X-Request-Deadline: {}\r\n", in_seconds(0) - 5), "grpc-timeout: 0S\r\n".to_owned()]
    {
        let answer = rig.answers_itself(get("/", &field));
        assert_eq!(answer.status(), 504, "{answer:?}");
    }
    assert_eq!(rig.shed("deadline"), 2);
}

#[test]
fn a_deadline_of_a_client_that_nobody_believes_is_taken_out() {
    let rig = Rig::new();
    let (seen, _) = rig.exchanges(get("/", "X-Request-Deadline: 1\r\ngrpc-timeout: 1S\r\n"), OK);
    assert_eq!(seen.field("x-request-deadline"), None);
    assert_eq!(seen.field("grpc-timeout"), Some("1S"), "that is between client and service");
}

#[test]
fn a_deadline_that_was_too_short_is_not_the_endpoint_s_failure() {
    let rig = Rig::with(|setup| {
        two(setup);
        trusting(setup);
        setup.upstream.ejection = Some(EjectionLaw { failures: 1, silence: None, ..EjectionLaw::default() });
        setup.policy.retry = RetryPolicy::off();
    });
    let mut client = rig.client_that_sent(get("/", "grpc-timeout: 50m\r\n"));
    let (mut origin, _) = rig.either_origin();
    origin.request();
    assert_eq!(client.response().status(), 504);
    assert!(!rig.is_out("origin-0") && !rig.is_out("origin-1"));
}

// Fallbacks.

fn fallback(to: FallbackTo) -> Option<Box<Fallback>> {
    let statuses = Statuses::none().with(503);
    Some(Box::new(Fallback {
        to,
        on: FallbackOn { open: true, connect: true, reset: true, timeout: true, statuses },
    }))
}

fn fixed() -> FallbackTo {
    FallbackTo::Respond {
        status: 200,
        body: Bytes::from_static(b"[]"),
        content_type: "application/json".to_owned(),
    }
}

#[test]
fn a_fixed_answer_stands_in_for_a_service_that_breaks() {
    let rig = Rig::with(|setup| {
        setup.policy.fallback = fallback(fixed());
        setup.policy.retry = RetryPolicy::off();
    });
    let mut client = rig.client_that_sent(POST);
    let mut origin = rig.origin.accept();
    origin.request();
    origin.reset();
    let answer = client.response();
    assert_eq!(
        (answer.status(), answer.text(), answer.field("content-type")),
        (200, "[]", Some("application/json"))
    );
    assert_eq!(rig.gauge("terrace_fallbacks"), 1);
}

#[test]
fn a_fallback_stands_in_for_the_statuses_it_names_and_no_others() {
    let rig = Rig::with(|setup| setup.policy.fallback = fallback(fixed()));
    let (_, answer) =
        rig.exchanges(get("/", ""), "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answer.text(), "[]");
    let (_, answer) = rig.exchanges(get("/", ""), FAILED);
    assert_eq!((answer.status(), answer.text()), (500, "ill"));
}

#[test]
fn another_service_stands_in_for_one_that_cannot() {
    let rig = Rig::with(|setup| {
        setup.beside = vec!["spare"];
        at_once(setup, 1, 0);
        let policy = setup.policy.clone();
        setup.policy.fallback = fallback(FallbackTo::Service(Box::new(Target { service: 1, policy })));
    });
    let _first = rig.client_that_sent(get("/1", ""));
    let mut origin = rig.origin.accept();
    origin.request();
    let mut second = rig.client_that_sent(get("/2", ""));
    let mut spare = rig.beside[0].accept();
    assert!(answers(&mut spare, OK).line.contains("/2"));
    assert_eq!(second.response().text(), "ok");
}

// The machine.

#[test]
fn when_the_machine_is_hard_pressed_what_matters_least_is_sent_away_first() {
    let rig = Rig::with(|setup| {
        setup.overload = Some(OverloadLaw { lag: None, ..OverloadLaw::default() });
        let action = forward(setup, &[1]);
        let guards = Guards { priority: Priority::Level(Rank::Low), ..Guards::default() };
        setup.routes.push(Route { guards: Some(Box::new(guards)), ..route("low", "/low/*", action) });
    });
    let (drainer, drain) = drain::channel();
    let edge = rig.edge.clone();
    let watching = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        // Just above the bound, so that pressure rises slowly.
        runtime.block_on(edge.watch_overload(|| Some(Share::percent(86)), drain));
    });
    until("all low ones are sent away", || {
        let level = rig.gauge("terrace_overload_pressure");
        assert!(level < 200, "looked too late: {level}");
        (level >= 100).then_some(())
    });
    let refused = rig.client_that_sent(get("/low/1", "")).response();
    assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("1")));
    assert_eq!(rig.shed("overload"), 1);
    drainer.request();
    watching.join().expect("it was asked to end");
}

#[test]
fn what_was_let_in_at_the_door_is_not_sent_away_between_services() {
    let rig = Rig::with(|setup| {
        setup.overload = Some(OverloadLaw { lag: None, ..OverloadLaw::default() });
        setup.listener.purpose = Purpose::Internal { route: 0 };
    });
    let (drainer, drain) = drain::channel();
    let edge = rig.edge.clone();
    let watching = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(edge.watch_overload(|| Some(Share::percent(90)), drain));
    });
    until("of those at the door half are sent away", || {
        (rig.gauge("terrace_overload_pressure") >= 150).then_some(())
    });
    drainer.request();
    watching.join().expect("it was asked to end");
    assert!(rig.gauge("terrace_overload_pressure") <= 200, "looked too late");
    for _ in 0..50 {
        let (_, answer) = rig.exchanges(get("/", ""), OK);
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(rig.shed("overload"), 0);
}

#[test]
fn nobody_is_sent_away_while_all_is_well() {
    let rig = Rig::with(|setup| setup.overload = Some(OverloadLaw::default()));
    for _ in 0..20 {
        let (_, answer) = rig.exchanges(get("/", ""), OK);
        assert_eq!(answer.status(), 200);
    }
}
