//! An upstream through publications, reloads and failures, as picks see it. Time and randomness are handed in, so that
//! an ejection of minutes passes at once.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Waker};

use proptest::prelude::*;
use terrace_policy::Share;

use super::*;
use crate::config::{Balance, Connections, HealthCheck, Probe};
use crate::endpoint::Refusal;
use crate::id::IdentityKey;
use crate::lease::{FailureKind, Outcome};
use crate::testing::Random;

/// A request that may be sent elsewhere should it fail.
const REPEATABLE: Ask<'static> =
    Ask { hash: None, sticky: None, tried: &[], is_whole: true, is_repeatable: true };
const START: Duration = Duration::from_secs(1_000);

fn secs(seconds: u64) -> Duration {
    START + Duration::from_secs(seconds)
}

fn config(balance: Balance) -> Config {
    Config { balance, ..Config::new("orders", IdentityKey([1; 16])) }
}

fn member(number: usize) -> Member {
    let address = SocketAddr::from(([127, 0, 0, 1], 8_000 + number as u16));
    Member::new(&format!("orders-{number}"), address)
}

fn members(count: usize) -> Vec<Member> {
    (0..count).map(member).collect()
}

fn build(config: Config) -> Arc<Upstream> {
    Upstream::build(config, &Meter::new(1), &Log::discard()).expect("a configuration without TLS")
}

fn with_members(config: Config, count: usize) -> Arc<Upstream> {
    let upstream = build(config);
    upstream.publish(&members(count), START);
    upstream
}

/// A service under test, with a clock and repeatable randomness.
struct Service {
    upstream: Arc<Upstream>,
    random: Random,
    now: Duration,
}

impl Service {
    fn new(config: Config, count: usize) -> Self {
        Self { upstream: with_members(config, count), random: Random::new(7), now: START }
    }

    fn ask(&mut self, ask: &Ask<'_>) -> Result<Lease, NoEndpoint> {
        let Self { upstream, random, now } = self;
        upstream.pick(ask, *now, &mut || random.next())
    }

    fn pick(&mut self) -> Lease {
        self.ask(&Ask::default()).expect("an endpoint")
    }

    fn name(&mut self) -> String {
        self.pick().endpoint().name().to_string()
    }

    /// How often each endpoint is picked when every request ends at once.
    fn spread(&mut self, picks: usize) -> BTreeMap<String, usize> {
        let mut spread = BTreeMap::new();
        (0..picks).for_each(|_| *spread.entry(self.name()).or_default() += 1);
        spread
    }

    fn names(&mut self) -> Vec<String> {
        self.spread(400).into_keys().collect()
    }

    fn endpoint(&self, name: &str) -> Arc<Endpoint> {
        self.upstream.named(name).into_iter().next().expect("an endpoint of that name")
    }

    fn fail(&self, name: &str, times: usize) {
        self.fail_by(FailureKind::Reset, name, times);
    }

    fn fail_by(&self, kind: FailureKind, name: &str, times: usize) {
        let outcome = Outcome::Failure { kind, latency: Duration::from_millis(1) };
        (0..times).for_each(|_| self.endpoint(name).record(outcome, self.now));
    }

    fn answer(&self, name: &str, times: usize, latency: Duration) {
        (0..times).for_each(|_| self.endpoint(name).record(Outcome::Success { latency }, self.now));
    }

    /// Lets every endpoint answer so often, and all be taken notice of.
    fn answer_everywhere(&mut self, times: usize, latency: Duration) {
        for report in self.upstream.report(self.now) {
            self.answer(&report.name, times, latency);
        }
        self.now += Duration::from_millis(200);
        self.upstream.attend(self.now);
    }

    /// Whether a request probes that endpoint; it goes well.
    fn probe(&mut self, name: &str) -> bool {
        let lease = self.ask(&REPEATABLE).expect("an endpoint");
        lease.done(Outcome::Success { latency: Duration::from_millis(10) }, self.now);
        lease.endpoint().name().as_ref() == name
    }

    /// So many requests, one each ten milliseconds, of which these fail wherever they go.
    fn requests(&mut self, times: usize, fails: impl Fn(usize, &str) -> bool) {
        for number in 0..times {
            self.now += Duration::from_millis(10);
            self.upstream.attend(self.now);
            let lease = self.ask(&REPEATABLE).expect("an endpoint");
            let latency = Duration::from_millis(1);
            let outcome = match fails(number, lease.endpoint().name()) {
                true => Outcome::Failure { kind: FailureKind::Status, latency },
                false => Outcome::Success { latency },
            };
            lease.done(outcome, self.now);
        }
    }

    /// How many endpoints have been ejected, ever.
    fn ejections(&self) -> u64 {
        self.upstream.metrics.ejections.value()
    }

    fn set_health(&self, name: &str, health: Health) {
        self.upstream.set_health(&self.endpoint(name), health, "", self.now);
    }
}

fn is_done(future: impl Future<Output = ()>) -> bool {
    pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn a_lease_counts_its_request_until_it_is_dropped() {
    let mut service = Service::new(config(Balance::LeastRequests), 1);
    let lease = service.pick();
    assert_eq!(lease.endpoint().in_flight(), 1);
    lease.done(Outcome::Success { latency: Duration::from_millis(3) }, START);
    assert_eq!(lease.endpoint().in_flight(), 1);
    drop(lease);
    assert_eq!(service.endpoint("orders-0").in_flight(), 0);
}

#[test]
fn an_upgraded_request_counts_as_a_stream_and_no_longer_as_a_request() {
    let mut service = Service::new(config(Balance::LeastRequests), 1);
    let stream = service.pick().into_stream();
    assert_eq!((stream.endpoint().in_flight(), stream.endpoint().streams()), (0, 1));
    drop(stream);
    let endpoint = service.endpoint("orders-0");
    assert_eq!((endpoint.in_flight(), endpoint.streams()), (0, 0));
}

#[test]
fn it_says_why_there_is_no_endpoint() {
    let mut service = Service::new(Config { panic_share: None, ..config(Balance::LeastRequests) }, 0);
    assert_eq!(service.ask(&Ask::default()).map(drop), Err(NoEndpoint::NoneConfigured));
    service.upstream.publish(&[Member { state: MemberState::Closed, ..member(0) }], START);
    assert_eq!(service.ask(&Ask::default()).map(drop), Err(NoEndpoint::NoneReady));
    service.upstream.publish(&members(1), START);
    service.set_health("orders-0", Health::Down);
    assert_eq!(service.ask(&Ask::default()).map(drop), Err(NoEndpoint::AllUnhealthy));
    assert!(!service.upstream.is_available());
}

#[test]
fn at_the_bound_of_connections_there_is_no_endpoint_until_one_is_free() {
    let connections = Connections { per_endpoint_max: 2, ..Connections::default() };
    let mut service = Service::new(Config { connections, ..config(Balance::LeastRequests) }, 2);
    let mut held: Vec<Lease> = (0..4).map(|_| service.pick()).collect();
    assert_eq!(service.ask(&Ask::default()).map(drop), Err(NoEndpoint::AllFull));
    held.pop();
    service.pick();
}

#[test]
fn a_stream_takes_its_place_within_the_bound() {
    let connections = Connections { per_endpoint_max: 1, ..Connections::default() };
    let mut service = Service::new(Config { connections, ..config(Balance::LeastRequests) }, 1);
    let stream = service.pick().into_stream();
    assert_eq!(service.ask(&Ask::default()).map(drop), Err(NoEndpoint::AllFull));
    drop(stream);
    service.pick();
}

#[test]
fn connections_are_bounded_over_all_cores() {
    let connections = Connections { per_endpoint_max: 2, ..Connections::default() };
    let service = Service::new(Config { connections, ..config(Balance::LeastRequests) }, 1);
    let endpoint = service.endpoint("orders-0");
    let (one, two) = (endpoint.open_connection(), endpoint.open_connection());
    assert!(one.is_some() && two.is_some());
    assert!(endpoint.open_connection().is_none());
    assert_eq!(endpoint.connections(), 2);
    drop(one);
    assert!(endpoint.open_connection().is_some());
}

#[test]
fn an_endpoint_that_was_tried_is_avoided_while_there_are_others() {
    for balance in [Balance::RoundRobin, Balance::LeastRequests, Balance::PeakEwma, Balance::Hash] {
        let mut service = Service::new(config(balance), 3);
        let tried = [service.endpoint("orders-0").id(), service.endpoint("orders-2").id()];
        for hash in 0..50 {
            let ask = Ask { tried: &tried, hash: Some(hash), ..Ask::default() };
            assert_eq!(&**service.ask(&ask).expect("orders-1").endpoint().name(), "orders-1");
        }
        service.upstream.publish(&members(1), START);
        let ask = Ask { tried: &tried, hash: Some(3), ..Ask::default() };
        assert_eq!(&**service.ask(&ask).expect("the only one").endpoint().name(), "orders-0");
    }
}

#[test]
fn a_sticky_client_meets_its_endpoint_again_until_that_is_no_candidate() {
    let mut service = Service::new(config(Balance::RoundRobin), 4);
    let sticky = Some(service.endpoint("orders-2").id());
    let meet = |service: &mut Service| {
        let lease = service.ask(&Ask { sticky, ..Ask::default() }).expect("an endpoint");
        lease.endpoint().name().to_string()
    };
    assert!((0..20).all(|_| meet(&mut service) == "orders-2"));
    service.set_health("orders-2", Health::Down);
    assert!((0..20).all(|_| meet(&mut service) != "orders-2"));
    service.set_health("orders-2", Health::Up);
    assert!((0..20).all(|_| meet(&mut service) == "orders-2"));
}

#[test]
fn weights_are_respected_by_those_who_look_at_them() {
    for balance in [Balance::Weighted, Balance::Random, Balance::LeastRequests, Balance::Hash] {
        let mut service = Service::new(config(balance), 0);
        service.upstream.publish(&[Member { weight: 3, ..member(0) }, member(1)], START);
        let mut heavy = 0;
        for hash in 0..8_000 {
            let lease = service.ask(&Ask { hash: Some(hash), ..Ask::default() }).expect("an endpoint");
            heavy += usize::from(&**lease.endpoint().name() == "orders-0");
        }
        assert!((5_700..6_300).contains(&heavy), "{balance:?}: {heavy}");
    }
}

#[test]
fn round_robin_takes_each_in_turn_whatever_the_weights() {
    let mut service = Service::new(config(Balance::RoundRobin), 0);
    service.upstream.publish(&[Member { weight: 3, ..member(0) }, member(1)], START);
    assert!(service.spread(100).values().all(|times| *times == 50));
}

#[test]
fn weight_zero_gets_no_request() {
    let mut service = Service::new(config(Balance::LeastRequests), 0);
    service.upstream.publish(&[Member { weight: 0, ..member(0) }, member(1)], START);
    assert_eq!(service.names(), ["orders-1"]);
}

#[test]
fn five_failures_in_a_row_eject_until_probes_readmit_and_then_a_tenth_of_the_share_returns() {
    let mut service = Service::new(config(Balance::Weighted), 4);
    service.fail("orders-3", 5);
    assert_eq!(service.names(), ["orders-0", "orders-1", "orders-2"]);
    service.now = secs(9);
    assert_eq!(service.names().len(), 3, "these cannot be sent twice: they are kept away for longer");
    assert!((0..3).all(|_| service.probe("orders-3")));
    let back = service.spread(3_100)["orders-3"];
    assert!((80..120).contains(&back), "{back}");
    service.now = secs(11) + Duration::from_millis(1);
    assert_eq!(service.spread(4_000)["orders-3"] / 100, 10);
}

#[test]
fn a_request_that_can_be_sent_twice_probes_after_a_second_and_one_at_a_time() {
    let mut service = Service::new(config(Balance::LeastRequests), 4);
    service.fail("orders-3", 5);
    assert!(!service.probe("orders-3"), "too early");
    service.now = secs(1);
    let probe = service.ask(&REPEATABLE).expect("an endpoint");
    assert!(probe.is_probe() && &**probe.endpoint().name() == "orders-3");
    assert!(!service.probe("orders-3"), "one at a time");
    drop(probe);
    assert!(service.probe("orders-3"), "a client that left says nothing of the endpoint");
}

#[test]
fn a_retry_is_no_probe() {
    let mut service = Service::new(config(Balance::LeastRequests), 4);
    service.fail("orders-3", 5);
    service.now = secs(1);
    let tried = [service.endpoint("orders-0").id()];
    let lease = service.ask(&Ask { tried: &tried, ..REPEATABLE }).expect("an endpoint");
    assert!(!lease.is_probe());
}

#[test]
fn a_probe_that_fails_or_is_slow_leaves_the_endpoint_out() {
    let mut service = Service::new(config(Balance::LeastRequests), 4);
    service.answer_everywhere(20, Duration::from_millis(10));
    service.fail("orders-3", 5);
    let reset = Outcome::Failure { kind: FailureKind::Reset, latency: Duration::from_millis(1) };
    let slow = Outcome::Success { latency: Duration::from_millis(400) };
    for (second, end) in [(2, reset), (4, slow)] {
        service.now = secs(second);
        let probe = service.ask(&REPEATABLE).expect("an endpoint");
        assert!(probe.is_probe());
        probe.done(end, service.now);
        assert!(!service.probe("orders-3"), "the next one waits");
    }
    service.now = secs(6);
    let probe = service.ask(&REPEATABLE).expect("an endpoint");
    probe.overdue(service.now);
    probe.done(Outcome::Success { latency: Duration::from_millis(1) }, service.now);
    assert!(!service.probe("orders-3"), "what was overdue has failed, whatever came after");
}

#[test]
fn an_endpoint_that_owes_answers_and_gives_none_is_taken_out() {
    let mut service = Service::new(config(Balance::LeastRequests), 4);
    service.answer_everywhere(100, Duration::from_millis(10));
    let whole = Ask { is_whole: true, ..Ask::default() };
    let held: Vec<Lease> = (0..20).map(|_| service.ask(&whole).expect("an endpoint")).collect();
    let (silent, others): (Vec<Lease>, Vec<Lease>) =
        held.into_iter().partition(|lease| &**lease.endpoint().name() == "orders-2");
    assert!(!silent.is_empty(), "requests were spread");
    let begun = service.now;
    for wait_ms in [100, 200, 300] {
        service.now = begun + Duration::from_millis(wait_ms);
        for lease in &others {
            lease.endpoint().request_is_whole(service.now);
            lease.endpoint().request_is_answered(true);
        }
        service.upstream.attend(service.now);
        assert_eq!(silent[0].endpoint().is_out(), wait_ms == 300, "after {wait_ms} ms");
    }
    drop(others);
    assert_eq!(service.names().len(), 3);
}

#[test]
fn one_answer_that_takes_long_makes_nobody_silent_who_answers_what_is_asked_later() {
    let mut service = Service::new(config(Balance::LeastRequests), 4);
    service.answer_everywhere(100, Duration::from_millis(10));
    let whole = Ask { is_whole: true, ..Ask::default() };
    let report = service.ask(&whole).expect("an endpoint");
    service.now += Duration::from_secs(5);
    service.upstream.attend(service.now);
    assert!(!report.endpoint().is_out(), "nothing else was asked");
    // A second between two requests is nothing special where few people are.
    for _ in 0..5 {
        report.endpoint().request_is_whole(service.now);
        report.endpoint().request_is_answered(true);
        service.now += Duration::from_secs(1);
        service.upstream.attend(service.now);
        assert!(!report.endpoint().is_out());
    }
    for is_out in [false, true] {
        report.endpoint().request_is_whole(service.now);
        service.now += Duration::from_secs(2);
        service.upstream.attend(service.now);
        assert_eq!(report.endpoint().is_out(), is_out, "two more are not answered either");
    }
}

#[test]
fn a_page_of_three_reports_that_take_long_makes_none_of_two_endpoints_silent() {
    let mut service = Service::new(config(Balance::LeastRequests), 2);
    service.answer_everywhere(100, Duration::from_millis(10));
    let whole = Ask { is_whole: true, ..Ask::default() };
    let held: Vec<Lease> = (0..3).map(|_| service.ask(&whole).expect("an endpoint")).collect();
    service.now += Duration::from_secs(9);
    service.upstream.attend(service.now);
    assert!(held.iter().all(|lease| !lease.endpoint().is_out()));
}

#[test]
fn when_all_are_silent_none_is_taken_out() {
    let mut service = Service::new(config(Balance::LeastRequests), 4);
    service.answer_everywhere(100, Duration::from_millis(10));
    let whole = Ask { is_whole: true, ..Ask::default() };
    let held: Vec<Lease> = (0..4).map(|_| service.ask(&whole).expect("an endpoint")).collect();
    service.now += Duration::from_secs(9);
    service.upstream.attend(service.now);
    assert!(held.iter().all(|lease| !lease.endpoint().is_out()));
}

#[test]
fn an_endpoint_that_waits_for_its_client_owes_nothing() {
    let mut service = Service::new(config(Balance::LeastRequests), 4);
    service.answer_everywhere(100, Duration::from_millis(10));
    let uploading = service.pick();
    uploading.endpoint().request_is_whole(service.now);
    service.now += Duration::from_secs(9);
    service.upstream.attend(service.now);
    assert!(!uploading.endpoint().is_out());
    uploading.sent(service.now);
    service.now += Duration::from_millis(300);
    service.upstream.attend(service.now);
    assert!(uploading.endpoint().is_out(), "now it does");
}

#[test]
fn an_endpoint_three_times_as_slow_as_its_neighbours_is_taken_out() {
    let mut service = Service::new(config(Balance::LeastRequests), 4);
    for (name, millis) in [("orders-0", 50), ("orders-1", 60), ("orders-2", 55), ("orders-3", 300)] {
        service.answer(name, 10, Duration::from_millis(millis));
    }
    service.now += Duration::from_millis(100);
    service.upstream.attend(service.now);
    assert_eq!(service.names(), ["orders-0", "orders-1", "orders-2"]);
}

#[test]
fn where_a_hash_decides_nobody_is_slow_by_comparison() {
    let mut service = Service::new(config(Balance::Hash), 2);
    service.answer("orders-0", 10, Duration::from_millis(50));
    service.answer("orders-1", 10, Duration::from_millis(900));
    service.now += Duration::from_millis(100);
    service.upstream.attend(service.now);
    assert_eq!(service.names().len(), 2, "what is asked of them differs");
}

#[test]
fn an_endpoint_that_fails_at_once_is_no_idle_one() {
    let off = Config { ejection: None, ..config(Balance::LeastRequests) };
    let mut service = Service::new(off, 2);
    service.fail("orders-1", 50);
    let held: Vec<Lease> = (0..20).map(|_| service.pick()).collect();
    assert!(held.iter().all(|lease| &**lease.endpoint().name() == "orders-0"));
    service.now += Duration::from_secs(10);
    assert_eq!(&**service.pick().endpoint().name(), "orders-1", "in the end it is tried again");
}

#[test]
fn never_more_than_the_share_is_ejected() {
    let service = Service::new(config(Balance::LeastRequests), 5);
    (0..5).for_each(|number| service.fail(&format!("orders-{number}"), 50));
    let out = service.upstream.report(START).iter().filter(|report| report.ejected_for.is_some()).count();
    assert_eq!(out, 2);
}

#[test]
fn where_requests_fail_wherever_they_go_nobody_is_ejected() {
    for endpoints in [2, 3, 10] {
        let mut service = Service::new(config(Balance::LeastRequests), endpoints);
        service.requests(50_000, |number, _| number % 3 == 0);
        service.requests(50_000, |number, _| number * 2_654_435_761 % 97 < 48);
        service.requests(10_000, |_, _| true);
        assert_eq!(service.ejections(), 0, "of {endpoints} endpoints");
    }
}

#[test]
fn one_that_fails_more_than_the_others_is_ejected_although_they_fail_as_well() {
    let mut service = Service::new(config(Balance::Random), 4);
    service.requests(2_000, |number, _| number % 3 == 0);
    service.requests(200, |number, name| number % 3 == 0 || name == "orders-2");
    let out = service.upstream.report(service.now).into_iter().find(|report| report.ejected_for.is_some());
    assert_eq!(
        (service.ejections(), out.map(|report| report.name.to_string())),
        (1, Some("orders-2".to_owned()))
    );
}

#[test]
fn one_to_which_nobody_can_connect_is_ejected_however_the_others_fare() {
    let mut service = Service::new(config(Balance::RoundRobin), 2);
    service.requests(2_000, |number, _| number % 3 == 0);
    service.fail_by(FailureKind::Connect, "orders-1", 5);
    assert_eq!(service.names(), ["orders-0"]);
}

#[test]
fn who_lets_an_endpoint_in_again_is_believed() {
    let mut service = Service::new(config(Balance::LeastRequests), 2);
    service.fail("orders-1", 5);
    service.upstream.set_drained("orders-1", true, START);
    assert!(service.upstream.report(START)[1].ejected_for.is_some(), "that it is drained makes nobody well");
    service.upstream.set_drained("orders-1", false, START);
    assert!(service.upstream.report(START)[1].ejected_for.is_none());
    assert_eq!(service.names().len(), 2);
}

#[test]
fn a_reload_readmits_nobody_and_forgets_no_latency() {
    let mut service = Service::new(config(Balance::LeastRequests), 4);
    service.fail("orders-3", 5);
    service.endpoint("orders-0").record(Outcome::Success { latency: Duration::from_millis(40) }, START);
    service.upstream.apply(config(Balance::Random), secs(1)).expect("a fine configuration");
    service.upstream.publish(&members(4), secs(1));
    service.now = secs(1);
    assert_eq!(service.names(), ["orders-0", "orders-1", "orders-2"]);
    assert!(service.endpoint("orders-0").latency().is_some());
}

#[test]
fn switching_ejection_off_readmits_all() {
    let mut service = Service::new(config(Balance::LeastRequests), 4);
    service.fail("orders-3", 5);
    let off = Config { ejection: None, ..config(Balance::LeastRequests) };
    service.upstream.apply(off, START).expect("a fine configuration");
    assert_eq!(service.names().len(), 4);
    service.fail("orders-3", 50);
    service.now = secs(10);
    assert_eq!(service.names().len(), 4, "it is avoided for a while, and no longer");
}

#[test]
fn with_too_few_healthy_ones_all_ready_ones_are_used() {
    let mut service = Service::new(config(Balance::LeastRequests), 4);
    service.set_health("orders-0", Health::Down);
    service.set_health("orders-1", Health::Down);
    assert!(!service.upstream.is_panicking());
    assert_eq!(service.names(), ["orders-2", "orders-3"]);
    service.set_health("orders-2", Health::Down);
    assert!(service.upstream.is_panicking());
    assert_eq!(service.names().len(), 4);
    service.set_health("orders-0", Health::Up);
    assert!(!service.upstream.is_panicking());
    assert_eq!(service.names(), ["orders-0", "orders-3"]);
}

#[test]
fn without_checks_nobody_stays_down() {
    let check = HealthCheck {
        probe: Probe::Tcp,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        up: 1,
        down: 3,
    };
    let mut service = Service::new(Config { health: Some(check), ..config(Balance::LeastRequests) }, 2);
    service.set_health("orders-0", Health::Down);
    assert_eq!(service.names(), ["orders-1"]);
    service.upstream.apply(config(Balance::LeastRequests), START).expect("a fine configuration");
    assert_eq!(service.names().len(), 2);
}

#[test]
fn a_newcomer_starts_with_a_small_share() {
    let slow = Config { slow_start: Duration::from_secs(10), ..config(Balance::Weighted) };
    let mut service = Service::new(slow, 1);
    service.now = secs(60);
    service.upstream.publish(&members(2), service.now);
    let young = service.spread(1_100)["orders-1"];
    assert!((80..120).contains(&young), "{young}");
    service.now = secs(65) + Duration::from_millis(1);
    let half = service.spread(1_500)["orders-1"];
    assert!((470..530).contains(&half), "{half}");
    service.now = secs(70) + Duration::from_millis(1);
    assert_eq!(service.spread(1_000)["orders-1"] / 10, 50);
}

#[test]
fn an_endpoint_back_from_an_outage_starts_with_a_small_share() {
    let slow = Config { slow_start: Duration::from_secs(10), ..config(Balance::Weighted) };
    let mut service = Service::new(slow, 2);
    service.set_health("orders-1", Health::Down);
    service.now = secs(60);
    service.set_health("orders-1", Health::Up);
    let back = service.spread(1_100)["orders-1"];
    assert!((80..120).contains(&back), "{back}");
}

#[test]
fn an_instance_that_was_closed_and_opens_again_starts_without_a_past() {
    let mut service = Service::new(config(Balance::LeastRequests), 2);
    service.fail("orders-1", 5);
    assert_eq!(service.names(), ["orders-0"]);
    service.upstream.publish(&[member(0), Member { state: MemberState::Closed, ..member(1) }], START);
    service.upstream.publish(&[member(0), Member { state: MemberState::Ready, ..member(1) }], START);
    assert_eq!(service.endpoint("orders-1").health(), Health::Up);
    assert_eq!(service.names().len(), 2);
}

#[test]
fn another_address_under_the_same_name_is_another_endpoint_with_the_same_id() {
    let service = Service::new(config(Balance::LeastRequests), 1);
    let before = service.endpoint("orders-0");
    let moved = Member { address: SocketAddr::from(([127, 0, 0, 1], 9_999)), ..member(0) };
    service.upstream.publish(&[moved], START);
    let after = service.endpoint("orders-0");
    assert!(!Arc::ptr_eq(&before, &after));
    assert_eq!(before.id(), after.id());
    assert!(!before.is_accepting() && after.is_accepting());
}

#[test]
fn the_same_endpoint_published_twice_is_one() {
    let service = Service::new(config(Balance::LeastRequests), 0);
    service.upstream.publish(&[member(0), member(0)], START);
    assert_eq!(service.upstream.report(START).len(), 1);
}

#[test]
fn a_drain_waits_for_requests_and_longer_for_streams() {
    let mut service = Service::new(config(Balance::LeastRequests), 1);
    let (request, stream) = (service.pick(), service.pick().into_stream());
    service.upstream.publish(&[], START);
    assert!(!is_done(service.upstream.wait_idle("orders-0")));
    drop(request);
    assert!(is_done(service.upstream.wait_idle("orders-0")));
    assert!(!is_done(service.upstream.wait_streams_idle("orders-0")));
    drop(stream);
    assert!(is_done(service.upstream.wait_streams_idle("orders-0")));
}

#[tokio::test]
async fn a_drain_is_woken_by_the_end_of_the_last_request() {
    let mut service = Service::new(config(Balance::LeastRequests), 1);
    let (one, two) = (service.pick(), service.pick());
    service.upstream.publish(&[], START);
    let waiting = tokio::spawn(service.upstream.wait_idle("orders-0"));
    tokio::task::yield_now().await;
    drop(one);
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(two);
    tokio::task::yield_now().await;
    assert!(waiting.is_finished());
}

#[test]
fn a_withdrawn_endpoint_is_reported_while_it_is_busy_and_then_forgotten() {
    let mut service = Service::new(config(Balance::LeastRequests), 1);
    let lease = service.pick();
    service.upstream.publish(&[], START);
    let report = service.upstream.report(START);
    assert_eq!(report.len(), 1);
    assert_eq!((report[0].state, report[0].in_flight), (None, 1));
    drop(lease);
    assert!(service.upstream.report(START).is_empty());
    service.upstream.maintain(START);
    assert!(service.upstream.roster().retired.is_empty());
}

#[test]
fn a_withdrawn_endpoint_that_comes_back_while_busy_is_the_same_one() {
    let mut service = Service::new(config(Balance::LeastRequests), 1);
    let lease = service.pick();
    service.upstream.publish(&[], START);
    service.upstream.publish(&members(1), START);
    assert!(Arc::ptr_eq(lease.endpoint(), &service.endpoint("orders-0")));
    assert_eq!(service.upstream.report(START).len(), 1);
    service.pick();
}

#[test]
fn when_an_endpoint_is_down_only_its_own_keys_move_and_they_come_back() {
    let mut service = Service::new(config(Balance::Hash), 5);
    let owners = |service: &mut Service| -> Vec<String> {
        let of = |hash| service.ask(&Ask { hash: Some(hash), ..Ask::default() });
        (0..2_000).map(of).map(|lease| lease.expect("an endpoint").endpoint().name().to_string()).collect()
    };
    let before = owners(&mut service);
    service.set_health("orders-3", Health::Down);
    let during = owners(&mut service);
    for (was, is) in before.iter().zip(&during) {
        assert!(was == is || was == "orders-3");
    }
    let others: BTreeMap<&String, usize> = before
        .iter()
        .zip(&during)
        .filter(|(was, _)| *was == "orders-3")
        .fold(BTreeMap::new(), |mut all, (_, is)| {
            *all.entry(is).or_default() += 1;
            all
        });
    assert_eq!(others.len(), 4, "its keys spread over all others: {others:?}");
    service.set_health("orders-3", Health::Up);
    assert_eq!(owners(&mut service), before);
}

#[test]
fn an_endpoint_that_an_operator_drains_gets_nothing_new_and_finishes_what_it_has() {
    let mut service = Service::new(config(Balance::RoundRobin), 3);
    let sticky = service.endpoint("orders-1").id();
    let held = service.ask(&Ask { sticky: Some(sticky), ..Ask::default() }).expect("orders-1");
    assert!(service.upstream.set_drained("orders-1", true, START));
    assert!(!service.upstream.set_drained("orders-9", true, START), "nobody of that name");
    assert_eq!(service.names(), ["orders-0", "orders-2"]);
    let other = service.ask(&Ask { sticky: Some(sticky), ..Ask::default() }).expect("another");
    assert_ne!(other.endpoint().id(), sticky, "its clients go elsewhere");
    assert_eq!(held.endpoint().in_flight(), 1);
    assert!(!held.endpoint().is_accepting(), "idle connections to it are of no more use");
    let report = &service.upstream.report(START)[1];
    assert!(report.is_drained && !report.is_candidate && report.ejected_for.is_none());
    assert!(service.upstream.set_drained("orders-1", false, START));
    assert_eq!(service.names().len(), 3);
    assert!(held.endpoint().is_accepting());
}

#[test]
fn panic_does_not_override_an_operator_and_a_drained_endpoint_causes_none() {
    let half = Config { panic_share: Some(Share::from_ratio(0.5)), ..config(Balance::RoundRobin) };
    let mut service = Service::new(half, 4);
    for name in ["orders-0", "orders-1", "orders-2"] {
        service.upstream.set_drained(name, true, START);
    }
    assert!(!service.upstream.is_panicking(), "three of four are out, but none of them is ill");
    assert_eq!(service.names(), ["orders-3"]);
    service.set_health("orders-3", Health::Down);
    assert!(service.upstream.is_panicking());
    assert_eq!(service.names(), ["orders-3"], "the ill one, not those that an operator took out");
    service.upstream.set_drained("orders-3", true, START);
    assert_eq!(service.ask(&Ask::default()).map(drop), Err(NoEndpoint::AllDrained));
    assert!(!service.upstream.is_available());
}

#[test]
fn an_operators_word_outlives_publications_and_reloads_but_not_the_endpoint() {
    let mut service = Service::new(config(Balance::RoundRobin), 2);
    service.upstream.set_drained("orders-1", true, START);
    service.upstream.publish(&members(3), START);
    service.upstream.apply(config(Balance::LeastRequests), START).expect("valid");
    assert_eq!(service.names(), ["orders-0", "orders-2"]);
    service.upstream.publish(&[member(0), Member { state: MemberState::Closed, ..member(1) }], START);
    service.upstream.publish(&members(2), START);
    assert_eq!(service.names(), ["orders-0", "orders-1"], "a new process is in rotation");
    service.upstream.set_drained("orders-1", true, START);
    service.upstream.publish(&members(1), START);
    service.upstream.publish(&members(2), START);
    assert_eq!(service.names(), ["orders-0", "orders-1"], "one that was gone and came back is another");
}

#[test]
fn a_drained_endpoint_stays_in_its_place_of_the_hash() {
    let mut service = Service::new(config(Balance::Hash), 4);
    let owners = |service: &mut Service| -> Vec<String> {
        let mut owner = |hash| service.ask(&Ask { hash: Some(hash), ..Ask::default() }).expect("an endpoint");
        (0..500_u64)
            .map(|key| owner(key.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
            .map(|lease| lease.endpoint().name().to_string())
            .collect()
    };
    let before = owners(&mut service);
    service.upstream.set_drained("orders-2", true, START);
    let during = owners(&mut service);
    let moved = before.iter().zip(&during).filter(|(was, is)| was != is);
    assert!(moved.clone().all(|(was, _)| was == "orders-2") && moved.count() > 50);
    service.upstream.set_drained("orders-2", false, START);
    assert_eq!(owners(&mut service), before);
}

#[test]
fn a_report_tells_what_stands() {
    let mut service = Service::new(config(Balance::RoundRobin), 2);
    service
        .upstream
        .publish(&[member(0), Member { weight: 4, state: MemberState::Ready, ..member(1) }], START);
    let lease = service.ask(&Ask { sticky: Some(service.endpoint("orders-1").id()), ..Ask::default() });
    lease.as_ref().expect("orders-1").done(Outcome::Success { latency: Duration::from_millis(20) }, START);
    service.fail("orders-0", 5);
    let report = service.upstream.report(secs(4));
    assert_eq!(report[0].ejected_for, Some(Duration::from_secs(6)));
    assert!(!report[0].is_candidate && report[1].is_candidate);
    assert_eq!((report[1].weight, report[1].in_flight, report[1].health), (4, 1, Health::Up));
}

/// Ends the loops of other threads when the test ends, by success or by a panic.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn while_endpoints_are_replaced_every_pick_finds_one_and_no_drained_one_gets_a_request() {
    let upstream = with_members(config(Balance::LeastRequests), 1);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&is_over);
        for seed in 0..2 {
            let (upstream, is_over) = (&upstream, &is_over);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                while !is_over.load(Ordering::Relaxed) {
                    upstream.pick(&Ask::default(), START, &mut || random.next()).expect("always an endpoint");
                }
            });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for number in 1..1_000 {
            let old = upstream.endpoints().pop().expect("the one published before");
            upstream.publish(&[member(number)], START);
            runtime.block_on(upstream.wait_idle(old.name()));
            // A pick may still count itself in for a moment, but it sees that it came too late and leaves.
            assert_eq!(old.begin_request(true, START), Err(Refusal::Closed));
        }
    });
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Publish(usize),
    Close(usize),
    Health(usize, Health),
    Fail(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let health = prop_oneof![Just(Health::Up), Just(Health::Down)];
    let step = prop_oneof![
        (1_usize..8).prop_map(Step::Publish),
        (0_usize..8).prop_map(Step::Close),
        (0_usize..8, health).prop_map(|(number, health)| Step::Health(number, health)),
        (0_usize..8).prop_map(Step::Fail),
        (0_u64..30).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..40)
}

impl Service {
    fn play(&mut self, step: Step) {
        let name = |number: usize| format!("orders-{number}");
        let exists = |number: usize| !self.upstream.named(&name(number)).is_empty();
        match step {
            Step::Publish(count) => self.upstream.publish(&members(count), self.now),
            Step::Close(number) => {
                let mut all = members(7);
                all.iter_mut().filter(|member| *member.name == name(number)).for_each(|member| {
                    member.state = MemberState::Closed;
                });
                self.upstream.publish(&all, self.now);
            }
            Step::Health(number, health) if exists(number) => self.set_health(&name(number), health),
            Step::Fail(number) if exists(number) => self.fail(&name(number), 5),
            Step::Health(..) | Step::Fail(_) => {}
            Step::Pass(seconds) => self.now += Duration::from_secs(seconds),
        }
    }

    /// What any pick must satisfy, by the report alone.
    fn check(&mut self) {
        let hash = Some(self.random.next());
        let picked = self.ask(&Ask { hash, ..Ask::default() });
        let report = self.upstream.report(self.now);
        let is_open =
            |report: &&EndpointReport| report.state.is_some_and(|state| state != MemberState::Closed);
        let is_well = |report: &EndpointReport| report.health != Health::Down && report.ejected_for.is_none();
        let open: Vec<&EndpointReport> = report.iter().filter(is_open).collect();
        let well = open.iter().filter(|report| is_well(report)).count();
        assert_eq!(self.upstream.is_panicking(), !open.is_empty() && well * 2 < open.len());
        match picked {
            Ok(lease) => {
                let name = lease.endpoint().name();
                let of =
                    open.iter().find(|report| report.name == *name).expect("only open endpoints are picked");
                assert!(is_well(of) || lease.is_probe() || self.upstream.is_panicking(), "{of:?}");
            }
            Err(why) => assert!(open.is_empty(), "{why}"),
        }
        let out = open.iter().filter(|report| report.ejected_for.is_some()).count();
        let is_within = Share::percent(50).of(report.len().max(7) as u64) >= out as u64;
        assert!(is_within, "never more than half of the largest set is out: {out}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_happens_an_unavailable_endpoint_is_picked_only_in_panic(steps in steps(), which in 0_usize..6) {
        let balances = [
            Balance::RoundRobin, Balance::Weighted, Balance::LeastRequests,
            Balance::PeakEwma, Balance::Random, Balance::Hash,
        ];
        let mut service = Service::new(config(balances[which]), 3);
        for step in steps {
            service.play(step);
            service.check();
        }
    }
}
