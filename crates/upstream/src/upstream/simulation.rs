//! Endpoints that fall ill under three times their load, in simulated time: ten endpoints of four workers, 120 clients that
//! ask again as soon as they are answered, three endpoints that fail fast, fall silent or slow down. Clients do here what
//! the edge does for them: they pick, tell how it went, look after requests that wait, and send one again, within the
//! budget, when the endpoint that it waits for is out. Nothing is configured.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use terrace_policy::{BudgetLaw, RetryBudget, RetryPermit};

use super::*;
use crate::config::Config;
use crate::id::IdentityKey;
use crate::lease::{FailureKind, Outcome};
use crate::testing::Random;

const ENDPOINTS: usize = 10;
const ILL: usize = 3;
const WORKERS: usize = 4;
const CLIENTS: usize = 120;
const SERVICE: Duration = Duration::from_millis(20);
const ATTEMPTS_MAX: usize = 2;
/// How long a client waits before it goes away.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    Failing,
    Silent,
    Slow(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The client asks.
    Ask(usize),
    /// The endpoint's worker is done with that attempt, begun in that era of its mood.
    Done { endpoint: usize, attempt: u64, era: u32 },
    /// Somebody looks after the client's request of that number.
    Look { client: usize, request: u64 },
    /// The client's patience with that request is over.
    Leave { client: usize, request: u64 },
}

/// A server, which works on what it is given whether anybody still waits or not.
#[derive(Debug)]
struct Server {
    mood: Mood,
    era: u32,
    line: VecDeque<u64>,
    working: Vec<u64>,
}

#[derive(Debug, Default)]
struct Client {
    request: u64,
    attempts: Vec<Attempt>,
    tried: Vec<EndpointId>,
    permit: Option<RetryPermit>,
}

#[derive(Debug)]
struct Attempt {
    number: u64,
    began: Duration,
    lease: Lease,
    /// It was given up for lost, and sent elsewhere or not.
    is_late: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    good: u64,
    failed: u64,
    left: u64,
    admitted: u64,
    attempts: u64,
}

struct World {
    upstream: Arc<Upstream>,
    budget: Arc<RetryBudget>,
    random: Random,
    now: Duration,
    events: BinaryHeap<Reverse<(Duration, Event)>>,
    servers: Vec<Server>,
    clients: Vec<Client>,
    next: u64,
    figures: Figures,
}

impl World {
    fn new(balance: Balance) -> Self {
        let config = Config { balance, ..Config::new("orders", IdentityKey([1; 16])) };
        let upstream = Upstream::build(config, &Meter::new(1), &Log::discard()).expect("no TLS");
        let now = Duration::from_secs(1_000);
        let member = |number: usize| {
            Member::new(&number.to_string(), SocketAddr::from(([127, 0, 0, 1], 8_000 + number as u16)))
        };
        upstream.publish(&(0..ENDPOINTS).map(member).collect::<Vec<_>>(), now);
        let server = |_| Server { mood: Mood::Well, era: 0, line: VecDeque::new(), working: Vec::new() };
        let mut world = Self {
            upstream,
            budget: Arc::new(RetryBudget::new(BudgetLaw::default())),
            random: Random::new(42),
            now,
            events: BinaryHeap::new(),
            servers: (0..ENDPOINTS).map(server).collect(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            next: 0,
            figures: Figures::default(),
        };
        (0..CLIENTS).for_each(|client| world.at(Duration::from_micros(client as u64), Event::Ask(client)));
        world
    }

    fn at(&mut self, delay: Duration, event: Event) {
        self.events.push(Reverse((self.now + delay, event)));
    }

    /// Lets time pass, and counts anew what happens meanwhile.
    fn pass(&mut self, time: Duration) -> Figures {
        self.figures = Figures::default();
        let until = self.now + time;
        while let Some(Reverse((at, event))) = self.events.pop() {
            if at > until {
                self.events.push(Reverse((at, event)));
                break;
            }
            self.now = at;
            self.play(event);
        }
        self.now = until;
        self.figures
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Ask(client) => self.ask(client),
            Event::Done { endpoint, attempt, era } if self.servers[endpoint].era == era => {
                self.servers[endpoint].working.retain(|working| *working != attempt);
                self.answer(attempt, true);
                self.work(endpoint);
            }
            Event::Done { .. } => {}
            Event::Look { client, request } => self.look(client, request),
            Event::Leave { client, request } => {
                if self.clients[client].request == request {
                    self.figures.left += 1;
                    self.end(client);
                }
            }
        }
    }

    fn ask(&mut self, client: usize) {
        self.next += 1;
        let request = self.next;
        self.clients[client] = Client { request, ..Client::default() };
        self.budget.admit(self.now);
        self.figures.admitted += 1;
        self.at(PATIENCE, Event::Leave { client, request });
        self.attempt(client);
    }

    fn attempt(&mut self, client: usize) {
        let ask =
            Ask { tried: &self.clients[client].tried, is_whole: true, is_repeatable: true, ..Ask::default() };
        let Self { upstream, random, now, .. } = self;
        let lease = upstream.pick(&ask, *now, &mut || random.next()).expect("some are always there");
        let endpoint: usize = lease.endpoint().name().parse().expect("they are called by number");
        self.next += 1;
        self.figures.attempts += 1;
        let (number, began) = (self.next, self.now);
        let one = &mut self.clients[client];
        one.tried.push(lease.endpoint().id());
        one.attempts.push(Attempt { number, began, lease, is_late: false });
        let request = one.request;
        self.schedule_look(client, request);
        match self.servers[endpoint].mood {
            Mood::Failing => self.answer(number, false),
            Mood::Well | Mood::Slow(_) | Mood::Silent => {
                self.servers[endpoint].line.push_back(number);
                self.work(endpoint);
            }
        }
    }

    fn schedule_look(&mut self, client: usize, request: u64) {
        let probes = self.clients[client].attempts.iter().any(|attempt| attempt.lease.is_probe());
        let patience = self.patience(probes);
        self.at(patience, Event::Look { client, request });
    }

    fn patience(&self, is_probe: bool) -> Duration {
        let silence = self.upstream.silence_limit();
        if is_probe { silence.min(self.upstream.slow_limit()) } else { silence }
    }

    /// What the edge does for a request that waits.
    fn look(&mut self, client: usize, request: u64) {
        if self.clients[client].request != request {
            return;
        }
        self.upstream.attend(self.now);
        let (now, probe_patience) = (self.now, self.patience(true));
        let one = &mut self.clients[client];
        let mut is_lost = true;
        for attempt in &mut one.attempts {
            let is_overdue = attempt.lease.is_probe() && now >= attempt.began + probe_patience;
            attempt.is_late |= is_overdue || attempt.lease.endpoint().is_out() && !attempt.lease.is_probe();
            if is_overdue {
                attempt.lease.overdue(now);
            }
            is_lost &= attempt.is_late;
        }
        if is_lost && one.tried.len() < ATTEMPTS_MAX {
            one.permit = self.budget.try_begin_retry(now);
            if one.permit.is_some() {
                self.attempt(client);
                return;
            }
        }
        self.schedule_look(client, request);
    }

    fn work(&mut self, endpoint: usize) {
        let server = &mut self.servers[endpoint];
        let service = match server.mood {
            Mood::Well => SERVICE,
            Mood::Slow(times) => SERVICE * times,
            Mood::Failing | Mood::Silent => return,
        };
        let mut begun = Vec::new();
        while server.working.len() < WORKERS {
            let Some(attempt) = server.line.pop_front() else { break };
            server.working.push(attempt);
            begun.push(Event::Done { endpoint, attempt, era: server.era });
        }
        begun.into_iter().for_each(|done| self.at(service, done));
    }

    fn answer(&mut self, attempt: u64, is_good: bool) {
        let is_its = |client: &Client| client.attempts.iter().any(|own| own.number == attempt);
        let Some(client) = self.clients.iter().position(is_its) else { return };
        let one = &mut self.clients[client];
        let place = one.attempts.iter().position(|own| own.number == attempt).expect("it was just seen");
        let own = one.attempts.swap_remove(place);
        let latency = self.now - own.began;
        let was_probe = own.lease.is_probe();
        if is_good {
            own.lease.done(Outcome::Success { latency }, self.now);
            self.figures.good += 1;
            return self.end(client);
        }
        own.lease.done(Outcome::Failure { kind: FailureKind::Status, latency }, self.now);
        if was_probe && one.tried.len() < ATTEMPTS_MAX {
            one.permit = self.budget.try_begin_retry(self.now);
            if one.permit.is_some() {
                return self.attempt(client);
            }
        }
        self.figures.failed += 1;
        self.end(client);
    }

    fn end(&mut self, client: usize) {
        let one = &mut self.clients[client];
        one.attempts.clear();
        one.permit = None;
        one.request = 0;
        self.at(Duration::from_micros(200), Event::Ask(client));
    }

    fn set(&mut self, mood: Mood) {
        for endpoint in 0..ILL {
            let server = &mut self.servers[endpoint];
            server.mood = mood;
            server.era += 1;
            // What was being worked on is begun anew, at the pace of the new mood.
            let working = std::mem::take(&mut server.working);
            working.into_iter().rev().for_each(|attempt| server.line.push_front(attempt));
            if mood == Mood::Failing {
                let line = std::mem::take(&mut server.line);
                line.into_iter().for_each(|attempt| self.answer(attempt, false));
            } else {
                self.work(endpoint);
            }
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn per_s(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// What `endpoints` answer each second when all their workers are always busy.
fn capacity(endpoints: usize) -> f64 {
    (endpoints * WORKERS) as f64 / SERVICE.as_secs_f64()
}

/// The three illnesses, and its three figures for each.
fn survives(balance: Balance, mood: Mood) {
    let mut world = World::new(balance);
    let before = world.pass(10 * SECOND);
    assert!(per_s(before.good, 10 * SECOND) > 0.97 * capacity(ENDPOINTS), "{before:?}");
    assert_eq!((before.failed, before.attempts), (0, before.admitted), "nobody was tried twice without need");
    world.set(mood);
    let ill = world.pass(10 * SECOND);
    assert!(per_s(ill.good, 10 * SECOND) > 0.9 * capacity(ENDPOINTS - ILL), "{ill:?}");
    assert!(ill.attempts as f64 <= 1.1 * ill.admitted as f64, "{ill:?}");
    assert!(ill.failed as f64 <= 0.01 * ill.admitted as f64 && ill.left == 0, "{ill:?}");
    world.set(Mood::Well);
    world.pass(5 * SECOND);
    let after = world.pass(5 * SECOND);
    assert!(per_s(after.good, 5 * SECOND) > 0.97 * capacity(ENDPOINTS), "{after:?}");
    assert_eq!((after.failed, after.left), (0, 0), "{after:?}");
}

#[test]
fn three_of_ten_that_fail_fast_cost_only_what_they_would_have_answered() {
    survives(Balance::LeastRequests, Mood::Failing);
    survives(Balance::RoundRobin, Mood::Failing);
    survives(Balance::PeakEwma, Mood::Failing);
}

#[test]
fn three_of_ten_that_fall_silent_cost_only_what_they_would_have_answered() {
    survives(Balance::LeastRequests, Mood::Silent);
    survives(Balance::RoundRobin, Mood::Silent);
    survives(Balance::PeakEwma, Mood::Silent);
}

#[test]
fn three_of_ten_that_slow_down_cost_only_what_they_would_have_answered() {
    survives(Balance::LeastRequests, Mood::Slow(10));
    survives(Balance::LeastRequests, Mood::Slow(100));
    survives(Balance::RoundRobin, Mood::Slow(100));
    survives(Balance::PeakEwma, Mood::Slow(100));
}

#[test]
fn one_illness_after_the_other_is_no_harder_than_the_first() {
    let mut world = World::new(Balance::LeastRequests);
    world.pass(10 * SECOND);
    for mood in [Mood::Failing, Mood::Silent, Mood::Slow(100), Mood::Silent] {
        world.set(mood);
        let ill = world.pass(10 * SECOND);
        assert!(per_s(ill.good, 10 * SECOND) > 0.9 * capacity(ENDPOINTS - ILL), "{mood:?}: {ill:?}");
        world.set(Mood::Well);
        world.pass(5 * SECOND);
        let after = world.pass(5 * SECOND);
        assert!(per_s(after.good, 5 * SECOND) > 0.97 * capacity(ENDPOINTS), "{mood:?}: {after:?}");
    }
}

#[test]
fn a_service_that_stops_as_a_whole_loses_nobody() {
    let mut world = World::new(Balance::LeastRequests);
    world.pass(10 * SECOND);
    let all = |world: &mut World, mood| {
        for server in &mut world.servers {
            server.mood = mood;
            server.era += 1;
            let working = std::mem::take(&mut server.working);
            working.into_iter().rev().for_each(|attempt| server.line.push_front(attempt));
        }
        (0..ENDPOINTS).for_each(|endpoint| world.work(endpoint));
    };
    all(&mut world, Mood::Silent);
    world.pass(3 * SECOND);
    all(&mut world, Mood::Well);
    let after = world.pass(2 * SECOND);
    assert!(per_s(after.good, 2 * SECOND) > 0.9 * capacity(ENDPOINTS), "{after:?}");
    assert_eq!(after.failed, 0);
}
