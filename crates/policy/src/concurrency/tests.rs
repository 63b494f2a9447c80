//! The adaptive limit against a simulated service: so many workers, a line of its own without a bound, and clients that
//! give up. Time is simulated, so that a minute takes a moment.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::{Line, LineLaw, Order, Priority, Spread};

const LAW: GradientLaw =
    GradientLaw { floor: 4, ceiling: 1 << 20, tolerance: 4, slack: Duration::from_millis(100) };

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A service behind the limit, its clients in front of it.
struct World {
    now: Duration,
    workers: usize,
    service: Duration,
    /// Requests that arrive each second.
    rate_per_s: f64,
    /// For how long a client waits in all.
    patience: Duration,
    is_limited: bool,
    /// How unsteady the service is: of a second it stands still for up to so much, in pieces; and each request takes up to
    /// so much more or less.
    unsteadiness: f64,
    random: u64,
    stands_until: Duration,
    gradient: Gradient,
    line: Line<u32>,
    /// When each request arrived at us, and was given to the service.
    arrived: BTreeMap<u32, Duration>,
    given: BTreeMap<u32, Duration>,
    /// The service's own line, and what it works on, by the moment when it is done.
    inside: VecDeque<u32>,
    working: BTreeMap<(Duration, u32), ()>,
    next: u32,
    owed: f64,
    spread: Spread,
    seen: crate::SpreadCounts,
    beat_at: Duration,
    good: u64,
    refused: u64,
    answered: u64,
    limits: Vec<u32>,
}

impl World {
    fn new(workers: usize, service: Duration, rate_per_s: f64) -> Self {
        Self {
            now: Duration::from_secs(10),
            workers,
            service,
            rate_per_s,
            patience: Duration::from_secs(1),
            is_limited: true,
            unsteadiness: 0.0,
            random: 1,
            stands_until: Duration::ZERO,
            gradient: Gradient::default(),
            line: Line::default(),
            arrived: BTreeMap::new(),
            given: BTreeMap::new(),
            inside: VecDeque::new(),
            working: BTreeMap::new(),
            next: 0,
            owed: 0.0,
            spread: Spread::default(),
            seen: crate::SpreadCounts::default(),
            beat_at: Duration::from_secs(10),
            good: 0,
            refused: 0,
            answered: 0,
            limits: Vec::new(),
        }
    }

    /// What the service can answer each second.
    fn capacity(&self) -> f64 {
        self.workers as f64 / self.service.as_secs_f64()
    }

    fn line_law(&self) -> LineLaw {
        LineLaw::fitting(LineLaw::SIZE, Order::Lifo, self.gradient.usual())
    }

    /// Lets time pass, and counts anew what happens meanwhile.
    fn pass(&mut self, time: Duration) -> Figures {
        (self.good, self.refused, self.answered) = (0, 0, 0);
        let until = self.now + time;
        while self.now < until {
            self.step(ms(1));
        }
        let seconds = time.as_secs_f64();
        Figures {
            good_per_s: self.good as f64 / seconds,
            refused_per_s: self.refused as f64 / seconds,
            answered_per_s: self.answered as f64 / seconds,
        }
    }

    fn step(&mut self, time: Duration) {
        self.now += time;
        // Ten times a second it may stand still for a while, as where others use the machine too.
        if self.draw() < 0.01 {
            self.stands_until = self.now + ms((200.0 * self.unsteadiness * self.draw()) as u64);
        }
        if self.now >= self.stands_until {
            self.finish();
        }
        self.owed += self.rate_per_s * time.as_secs_f64();
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            self.arrive();
        }
        self.let_in();
        if self.now >= self.beat_at + ms(100) {
            self.beat();
        }
    }

    /// SplitMix64, from 0 to 1.
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn arrive(&mut self) {
        self.next += 1;
        let (who, law) = (self.next, self.line_law());
        self.arrived.insert(who, self.now);
        let arrived = &mut self.arrived;
        let mut gone = 0;
        let mut turned = |who: u32, _| {
            arrived.remove(&who);
            gone += 1;
        };
        let until = self.now + self.patience;
        if self.line.join(&law, self.now, (Priority::Normal, until), who, &mut turned).is_err() {
            turned(who, crate::Turned::Full);
        }
        self.refused += gone;
    }

    fn let_in(&mut self) {
        let law = self.line_law();
        let limit =
            self.gradient.limit(&LAW).filter(|_| self.is_limited).map_or(usize::MAX, |limit| limit as usize);
        while self.given.len() < limit {
            let arrived = &mut self.arrived;
            let refused = &mut self.refused;
            let mut turned = |who: u32, _| {
                arrived.remove(&who);
                *refused += 1;
            };
            let Some(who) = self.line.next(&law, self.now, &mut turned) else { break };
            self.given.insert(who, self.now);
            self.inside.push_back(who);
        }
        while self.working.len() < self.workers {
            let Some(who) = self.inside.pop_front() else { break };
            let jitter = 1.0 + self.unsteadiness * (2.0 * self.draw() - 1.0);
            self.working.insert((self.now + self.service.mul_f64(jitter), who), ());
        }
    }

    fn finish(&mut self) {
        while let Some(((at, who), ())) = self.working.first_key_value().map(|(key, ())| (*key, ())) {
            if at > self.now {
                break;
            }
            self.working.remove(&(at, who));
            let given = self.given.remove(&who).expect("it was given");
            let arrived = self.arrived.remove(&who).expect("it arrived");
            self.spread.record(at - given);
            self.answered += 1;
            // A client that has given up meanwhile gets nothing, but the work is done.
            self.good += u64::from(at - arrived <= self.patience);
        }
    }

    fn beat(&mut self) {
        let counts = self.spread.counts();
        let fresh = counts.since(&self.seen);
        if fresh.total() < 20 && self.now < self.beat_at + ms(1_000) {
            return;
        }
        let Some(latency) = fresh.quantile(crate::Share::percent(50)) else { return };
        let sample = Sample {
            now: self.now,
            span: self.now - self.beat_at,
            answers: fresh.total(),
            latency,
            in_flight: self.given.len() as u32,
            waiting: self.line.len() as u32,
        };
        self.gradient.observe(&LAW, &sample);
        self.limits.extend(self.gradient.limit(&LAW));
        (self.seen, self.beat_at) = (counts, self.now);
    }
}

#[derive(Debug)]
struct Figures {
    good_per_s: f64,
    refused_per_s: f64,
    answered_per_s: f64,
}

const SECOND: Duration = Duration::from_secs(1);

/// 40 workers of 20 ms, as many as ten endpoints of four: 2,000 a second.
fn service(load: f64) -> World {
    World::new(40, ms(20), 2_000.0 * load)
}

#[test]
fn a_service_below_its_capacity_is_never_limited() {
    let mut world = service(0.9);
    let figures = world.pass(60 * SECOND);
    assert_eq!((world.limits.len(), figures.refused_per_s), (0, 0.0));
}

#[test]
fn without_a_limit_three_times_the_load_leaves_nothing() {
    let mut world = service(0.5);
    world.is_limited = false;
    world.pass(5 * SECOND);
    world.rate_per_s = 6_000.0;
    world.pass(5 * SECOND);
    assert!(world.pass(10 * SECOND).good_per_s < 0.1 * world.capacity());
}

#[test]
fn with_it_as_much_as_the_service_can_is_answered_in_time() {
    let mut world = service(0.5);
    world.pass(5 * SECOND);
    world.rate_per_s = 6_000.0;
    world.pass(5 * SECOND);
    let figures = world.pass(20 * SECOND);
    assert!(figures.good_per_s > 0.95 * world.capacity(), "{figures:?}");
}

#[test]
fn a_little_too_much_is_as_good_as_three_times_too_much() {
    let mut world = service(0.5);
    world.pass(5 * SECOND);
    world.rate_per_s = 2_100.0;
    world.pass(20 * SECOND);
    let figures = world.pass(20 * SECOND);
    assert!(figures.good_per_s > 0.95 * world.capacity(), "{figures:?}");
}

#[test]
fn when_the_crowd_has_gone_all_is_as_before_within_seconds() {
    let mut world = service(0.5);
    world.pass(5 * SECOND);
    world.rate_per_s = 6_000.0;
    world.pass(30 * SECOND);
    world.rate_per_s = 1_000.0;
    world.pass(2 * SECOND);
    let figures = world.pass(20 * SECOND);
    assert!(figures.refused_per_s == 0.0 && figures.good_per_s > 990.0, "{figures:?}");
    assert_eq!(world.gradient.limit(&LAW), None, "there is no need for a limit any more");
}

#[test]
fn a_service_that_has_become_slower_is_not_taken_for_an_overloaded_one() {
    // Room for twenty times as much: what it waits for takes longer now, and nothing stands in line.
    let mut world = World::new(4_000, ms(20), 400.0);
    world.pass(10 * SECOND);
    world.service = ms(500);
    world.patience = 5 * SECOND;
    let change = world.pass(10 * SECOND);
    let after = world.pass(20 * SECOND);
    assert!(change.answered_per_s > 0.85 * 400.0, "{change:?}");
    assert!(change.refused_per_s < 8.0, "{change:?}");
    assert!(after.refused_per_s == 0.0 && after.good_per_s > 0.99 * 400.0, "{after:?}");
}

#[test]
fn a_service_that_grows_is_given_more_within_seconds() {
    let mut world = service(0.5);
    world.pass(5 * SECOND);
    world.rate_per_s = 20_000.0;
    world.pass(10 * SECOND);
    world.workers = 400;
    world.pass(5 * SECOND);
    let figures = world.pass(10 * SECOND);
    assert!(figures.answered_per_s > 0.95 * 20_000.0, "{figures:?}, {:?}", world.gradient);
}

#[test]
fn from_its_floor_it_recovers() {
    let mut world = World::new(2, ms(100), 10.0);
    world.pass(10 * SECOND);
    world.rate_per_s = 100.0;
    world.pass(30 * SECOND);
    let squeezed = world.limits.iter().min().copied();
    assert!(squeezed.is_some_and(|least| least <= 16), "{squeezed:?}");
    world.workers = 64;
    world.pass(15 * SECOND);
    let figures = world.pass(10 * SECOND);
    assert!(
        figures.answered_per_s > 95.0 && figures.refused_per_s == 0.0,
        "{figures:?} {:?}",
        world.gradient
    );
}

#[test]
fn the_limit_is_never_below_its_floor_and_somebody_is_always_served() {
    let mut world = World::new(1, ms(50), 200.0);
    for _ in 0..60 {
        let figures = world.pass(SECOND);
        assert!(figures.answered_per_s >= 15.0, "{figures:?}");
    }
    assert!(world.limits.iter().all(|limit| *limit >= LAW.floor));
}

#[test]
fn a_day_that_begins_slowly_and_ends_in_a_crowd_costs_nothing() {
    let mut world = service(0.1);
    for hour in 1..30 {
        world.rate_per_s = 200.0 * f64::from(hour);
        let figures = world.pass(4 * SECOND);
        let possible = world.rate_per_s.min(world.capacity());
        assert!(figures.good_per_s > 0.8 * possible, "at {} a second: {figures:?}", world.rate_per_s);
    }
}

#[test]
fn a_crowd_that_is_there_from_the_first_moment_is_answered_within_seconds() {
    let mut world = World::new(10, ms(50), 600.0);
    world.pass(4 * SECOND);
    let figures = world.pass(20 * SECOND);
    assert!(figures.good_per_s > 0.95 * world.capacity(), "{figures:?}");
}

#[test]
fn a_service_that_loses_workers_under_the_crowd_is_not_given_more_for_it() {
    let mut world = service(3.0);
    world.pass(10 * SECOND);
    for (workers, _round) in [(28, 1), (40, 1), (28, 2), (40, 2), (20, 3), (40, 3)] {
        world.workers = workers;
        world.pass(2 * SECOND);
        let figures = world.pass(8 * SECOND);
        assert!(
            figures.good_per_s > 0.9 * world.capacity(),
            "{workers} workers: {figures:?} {:?}",
            world.gradient
        );
    }
}

#[test]
fn on_a_machine_that_others_use_too_it_holds_for_minutes() {
    for seed in 0..8 {
        let mut world = World::new(10, ms(50), 600.0);
        (world.unsteadiness, world.random) = (0.5, seed);
        world.pass(10 * SECOND);
        for minute in 0..4 {
            let figures = world.pass(30 * SECOND);
            let share = figures.good_per_s / figures.answered_per_s;
            assert!(share > 0.85, "seed {seed}, minute {minute}: {figures:?} {:?}", world.gradient);
        }
    }
}

#[test]
fn an_unsteady_service_that_has_become_slower_is_not_taken_for_an_overloaded_one() {
    for seed in 0..8 {
        let mut world = World::new(4_000, ms(20), 400.0);
        (world.unsteadiness, world.random) = (0.5, seed);
        world.pass(10 * SECOND);
        world.service = ms(500);
        world.patience = 5 * SECOND;
        world.pass(10 * SECOND);
        let after = world.pass(20 * SECOND);
        assert!(after.good_per_s > 0.97 * 400.0, "seed {seed}: {after:?} {:?}", world.gradient);
    }
}

#[test]
fn answers_that_are_late_even_at_the_floor_are_what_the_service_takes() {
    let mut gradient =
        Gradient { limit: Some(4.0), usual_s: Some(0.05), is_line: true, ..Gradient::default() };
    let sample = |tick: u64| Sample {
        now: ms(100_000 + tick * 100),
        span: ms(100),
        answers: 1,
        latency: ms(900),
        in_flight: 4,
        waiting: 50,
    };
    (0..20).for_each(|tick| gradient.observe(&LAW, &sample(tick)));
    assert!(gradient.limit.is_some_and(|limit| limit > 8.0), "{gradient:?}");
    assert!(gradient.usual_s.is_some_and(|usual_s| usual_s > 0.8), "{gradient:?}");
}

#[test]
fn workers_lost_during_the_first_cut_are_not_taken_for_its_cost() {
    let mut world = service(0.5);
    world.pass(5 * SECOND);
    // Just too much: the line grows slowly, so that only a cut can tell.
    world.rate_per_s = 2_100.0;
    while !matches!(world.gradient.phase, Phase::Settling { .. }) {
        world.step(ms(1));
    }
    assert!(!world.gradient.is_line, "nobody knows yet");
    world.workers = 20;
    world.pass(10 * SECOND);
    let figures = world.pass(10 * SECOND);
    assert!(figures.good_per_s > 0.9 * world.capacity(), "{figures:?} {:?}", world.gradient);
    assert!(world.gradient.usual_s.is_some_and(|usual_s| usual_s < 0.03), "{:?}", world.gradient);
}

#[test]
fn of_less_at_once_either_the_answers_are_fewer_or_they_come_sooner() {
    let cut = Cut { from: 100.0, to: 60.0, rate: 200.0, latency_s: 0.5 };
    let after =
        |answers, latency_s: f64| Counted { answers, span: SECOND, latencies_s: latency_s * answers as f64 };
    assert!(cut.cost_answers(after(120, 0.5)), "there was no line");
    assert!(!cut.cost_answers(after(200, 0.3)), "there was one");
    assert!(!cut.cost_answers(after(120, 0.3)), "it stood still for a while besides");
    assert!(cut.has_back(after(190, 0.5)) && !cut.has_back(after(150, 0.5)));
}
