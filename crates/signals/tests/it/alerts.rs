//! Objectives and alerts as whoever is on call meets them, played in simulated time.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use terrace_instruments::{Counter, Family, Kind, Meter};
use terrace_signals::alerts::{
    AlertState, BURN_RULES, Engine, LatencyGoal, Notification, Objective, Route, Rules, Saved, Severity,
    Sight, StateError, Subject, Threshold, Ticked,
};
use terrace_signals::series::{Chart, Line, Measure, Query, Selector};

static REQUESTS: Family = Family {
    name: "terrace_requests",
    help: "Requests.",
    unit: "",
    labels: &["route", "class"],
    kind: Kind::Counter,
};

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn checkout(success: f64) -> Objective {
    Objective {
        name: "checkout".to_owned(),
        subject: Subject::Route("orders".to_owned()),
        success: Some(success),
        latency: None,
        window: seconds(30 * DAY),
        notify: Vec::new(),
    }
}

fn oncall() -> Route {
    Route {
        receiver: "oncall".to_owned(),
        severity_min: Severity::Info,
        resolved: true,
        group_wait: Duration::ZERO,
        repeat: seconds(4 * HOUR),
    }
}

fn rules(objective: Objective) -> Rules {
    Rules { objectives: vec![objective], thresholds: Vec::new(), routes: vec![oncall()] }
}

/// A route under load, watched by an engine.
struct World {
    engine: Engine,
    meter: Meter,
    good: Counter,
    bad: Counter,
    /// The process's clock and the wall's, in seconds.
    now: u64,
    wall: SystemTime,
    /// What the only series answers.
    chart: Chart,
    fired: Vec<(u64, String)>,
    resolved: Vec<(u64, String)>,
    messages: Vec<(u64, Notification)>,
    /// Whether messages arrive at once.
    delivers: bool,
    owed: f64,
    failed: f64,
    unusual: Vec<String>,
}

impl World {
    fn new(rules: Rules) -> Self {
        let meter = Meter::new(1);
        let count = |class| meter.counter(&REQUESTS, &["orders", class]);
        let (good, bad) = (count("2xx"), count("5xx"));
        Self {
            engine: Engine::new(rules, Duration::ZERO),
            meter,
            good,
            bad,
            now: 0,
            wall: SystemTime::UNIX_EPOCH + seconds(1_800_000_000),
            // What is asked for in these tests is five minutes, and lines have ten points.
            chart: Chart { first_ago: seconds(270), step: seconds(30), ..Chart::default() },
            fired: Vec::new(),
            resolved: Vec::new(),
            messages: Vec::new(),
            delivers: true,
            owed: 0.0,
            failed: 0.0,
            unusual: vec!["connections to orders".to_owned()],
        }
    }

    fn tick(&mut self) -> Ticked {
        let (own, chart) = (self.meter.collect(), self.chart.clone());
        let sight = Sight { own: &own, ask: &|_| chart.clone(), unusual: &|| self.unusual.clone() };
        let ticked = self.engine.tick(seconds(self.now), self.wall, &sight);
        for change in &ticked.changes {
            let entry = (self.now, format!("{} {}", change.alert.name, change.alert.detail));
            match change.alert.state {
                AlertState::Firing => self.fired.push(entry),
                _ => self.resolved.push(entry),
            }
        }
        for message in &ticked.notifications {
            self.messages.push((self.now, message.clone()));
            if self.delivers {
                self.engine.settled(seconds(self.now), message.id, true);
            }
        }
        ticked
    }

    /// Lets time pass in steps, at a steady load of which a share fails.
    fn play(&mut self, lasts_s: u64, step_s: u64, per_second: f64, share_bad: f64) {
        let end = self.now + lasts_s;
        while self.now < end {
            self.now += step_s;
            self.wall += seconds(step_s);
            self.owed += per_second * step_s as f64;
            self.failed += per_second * step_s as f64 * share_bad;
            let (all, bad) = (self.owed as u64, self.failed as u64);
            self.owed -= all as f64;
            self.failed -= bad as f64;
            self.good.add(all.saturating_sub(bad));
            self.bad.add(bad);
            self.tick();
        }
    }

    fn firing(&self) -> Vec<String> {
        let views = self.engine.alerts(self.wall).into_iter();
        views.filter(|view| view.state == AlertState::Firing).map(|view| view.detail).collect()
    }

    /// Kill -9 and a new process, `away_s` later by the wall clock.
    fn restart(&mut self, rules: Rules, away_s: i64) {
        let json = self.engine.save(self.wall).to_json();
        self.wall = match u64::try_from(away_s) {
            Ok(ahead) => self.wall + seconds(ahead),
            Err(_) => self.wall - seconds(away_s.unsigned_abs()),
        };
        self.now = 3;
        let saved = Saved::parse(&json).unwrap();
        self.engine = Engine::restore(rules, saved, seconds(self.now), self.wall);
        self.meter = Meter::new(1);
        self.good = self.meter.counter(&REQUESTS, &["orders", "2xx"]);
        self.bad = self.meter.counter(&REQUESTS, &["orders", "5xx"]);
    }
}

/// When each rule fires after a fault begins, in seconds.
fn detection(share_bad: f64) -> Vec<(String, u64)> {
    let mut world = World::new(rules(checkout(0.999)));
    world.play(4 * DAY, 60, 50.0, 0.0);
    let began = world.now;
    // Somewhat longer than the slowest rules need.
    world.play((300.0 / share_bad.max(0.01)) as u64, 1, 50.0, share_bad);
    world.fired.iter().map(|(at, alert)| (alert.clone(), at - began)).collect()
}

#[test]
fn detection_takes_as_long_as_the_closed_form_says() {
    for share_bad in [1.0, 0.1, 0.02] {
        let found = detection(share_bad);
        for rule in BURN_RULES {
            let closed = rule.rate * rule.long.as_secs_f64() * 0.001 / share_bad;
            let wanted = format!("burn {}x", rule.rate);
            let fired = found.iter().find(|(alert, _)| alert.contains(&wanted));
            // The short window is a twelfth of the long one, so it is past its rate sooner.
            let Some((_, took)) = fired else { panic!("{wanted} at {share_bad}: {found:?}") };
            // A window's beginning is moved by at most 5 s, or 150 s beyond six hours; a tick is a second.
            let slack = rule.rate * 0.001 / share_bad * 150.0 + 2.0;
            assert!(
                (*took as f64 - closed).abs() <= slack,
                "{wanted} at {share_bad}: {took} s, not {closed} s"
            );
        }
    }
}

#[test]
fn what_stays_within_the_budget_fires_nothing() {
    assert_eq!(detection(0.000_9), []);
}

#[test]
fn a_page_ends_soon_after_its_cause() {
    let mut world = World::new(rules(checkout(0.999)));
    world.play(DAY, 60, 50.0, 0.0);
    world.play(20 * MINUTE, 1, 50.0, 0.2);
    assert!(world.firing().iter().any(|alert| alert.contains("14.4x")));
    let ended = world.now;
    world.play(6 * HOUR, 1, 50.0, 0.0);
    let (at, _) = world.resolved.iter().find(|(_, alert)| alert.contains("14.4x")).unwrap();
    assert!(at - ended <= 5 * MINUTE + 10, "{}", at - ended);
}

#[test]
fn one_failure_of_a_quiet_service_calls_nobody() {
    let mut world = World::new(rules(checkout(0.999)));
    for _ in 0..3 * 24 {
        world.good.add(20);
        world.play(HOUR, 60, 0.0, 0.0);
    }
    world.bad.add(1);
    world.play(HOUR, 60, 0.0, 0.0);
    assert_eq!(world.fired, []);
    world.bad.add(5);
    world.play(MINUTE, 60, 0.0, 0.0);
    assert!(world.fired.iter().any(|(_, alert)| alert.contains("14.4x")), "{:?}", world.fired);
}

#[test]
fn the_first_minute_may_call_somebody_and_says_nothing_of_days() {
    let mut world = World::new(rules(checkout(0.999)));
    world.play(20, 1, 5.0, 0.06);
    let pages =
        |alerts: &[String]| alerts.iter().all(|alert| alert.contains("14.4x") || alert.contains("6x"));
    assert!(world.firing().len() == 2 && pages(&world.firing()), "{:?}", world.firing());
    let summary = &world.engine.alerts(world.wall)[0].summary;
    assert!(summary.ends_with("the budget of 30d is spent 52.6 times"), "{summary}");
    // Who goes on like this has spent a tenth of a month's budget after 72 minutes, and not after 20 seconds.
    world.play(2 * HOUR, 1, 5.0, 0.06);
    let of = |wanted: &str| world.fired.iter().find(|(_, alert)| alert.contains(wanted)).map(|(at, _)| *at);
    for wanted in ["burn 3x", "burn 1x"] {
        let at = of(wanted).expect("it is found in the end");
        assert!(at.abs_diff(72 * MINUTE) < 2 * MINUTE, "{wanted} after {at} s");
    }
}

#[test]
fn a_budget_is_spent_by_failures_and_comes_back_when_they_leave_the_window() {
    let mut world = World::new(rules(checkout(0.99)));
    world.play(DAY, 60, 10.0, 0.0);
    world.play(DAY, 60, 10.0, 0.05);
    world.play(8 * DAY, 60, 10.0, 0.0);
    let view = &world.engine.objectives()[0];
    // The first look only sets the mark: one minute of requests is not counted.
    assert_eq!((view.total, view.bad), (10 * DAY * 10 - 600, DAY * 10 / 20));
    assert!((view.budget_left - 0.5).abs() < 0.001, "{}", view.budget_left);
    assert_eq!(view.history.len(), 200);
    assert!((view.history[199] - view.budget_left).abs() < 1e-12);
    world.play(22 * DAY + 10 * MINUTE, 300, 10.0, 0.0);
    assert_eq!(world.engine.objectives()[0].bad, 0);
}

#[test]
fn clock_jumps_neither_fire_nor_clear() {
    let hour = i64::try_from(HOUR).unwrap();
    for jump in [365 * 24 * hour, -365 * 24 * hour, hour, -hour] {
        let (mut calm, mut troubled) =
            (World::new(rules(checkout(0.999))), World::new(rules(checkout(0.999))));
        calm.play(DAY, 60, 50.0, 0.0);
        troubled.play(DAY, 60, 50.0, 0.0);
        troubled.play(20 * MINUTE, 1, 50.0, 0.2);
        let before = troubled.firing();
        assert!(!before.is_empty());
        for world in [&mut calm, &mut troubled] {
            world.wall = match jump > 0 {
                true => world.wall + seconds(jump.unsigned_abs()),
                false => world.wall - seconds(jump.unsigned_abs()),
            };
            world.play(1, 1, 50.0, 0.0);
        }
        assert_eq!(calm.fired, []);
        assert_eq!(troubled.firing(), before);
    }
}

#[test]
fn what_fires_and_what_was_spent_survives_kill_and_restart() {
    let mut world = World::new(rules(checkout(0.999)));
    world.play(3 * DAY, 60, 50.0, 0.0);
    world.play(40 * MINUTE, 1, 50.0, 0.2);
    let (before, budget, told) = (world.firing(), world.engine.objectives()[0].clone(), world.messages.len());
    world.restart(rules(checkout(0.999)), 30);
    assert_eq!(world.firing(), before);
    let after = &world.engine.objectives()[0];
    assert_eq!((after.total, after.bad), (budget.total, budget.bad));
    world.play(10 * MINUTE, 1, 50.0, 0.2);
    assert_eq!(world.firing(), before);
    assert_eq!(world.messages.len(), told, "nobody is told twice");
}

#[test]
fn a_restart_with_a_wrong_clock_neither_fires_nor_clears() {
    let year = i64::try_from(365 * DAY).unwrap();
    for away in [year, -year] {
        let mut world = World::new(rules(checkout(0.999)));
        world.play(3 * DAY, 60, 50.0, 0.0);
        world.play(20 * MINUTE, 1, 50.0, 0.2);
        let (before, fired) = (world.firing(), world.fired.len());
        world.restart(rules(checkout(0.999)), away);
        world.play(4 * MINUTE, 1, 50.0, 0.0);
        assert_eq!(
            world.firing(),
            before,
            "away {away}: five minutes pass before anything is believed to be over"
        );
        assert_eq!(world.fired.len(), fired);
        assert!(world.engine.objectives()[0].bad > 0, "the budget stays spent");
    }
}

#[test]
fn a_message_that_was_under_way_when_terrace_died_is_sent_again() {
    let mut world = World::new(rules(checkout(0.999)));
    world.delivers = false;
    world.play(DAY, 60, 50.0, 0.0);
    world.play(5 * MINUTE, 1, 50.0, 0.2);
    let (_, lost) = world.messages.pop().unwrap();
    world.restart(rules(checkout(0.999)), 5);
    let ticked = world.tick();
    assert_eq!(ticked.notifications, [lost]);
}

#[test]
fn a_message_that_never_arrived_is_told_anew() {
    let mut world = World::new(rules(checkout(0.999)));
    world.delivers = false;
    world.play(DAY, 60, 50.0, 0.0);
    world.play(5 * MINUTE, 1, 50.0, 0.2);
    assert_eq!(world.messages.len(), 1, "one message a group is under way");
    let (_, first) = world.messages.pop().unwrap();
    world.engine.settled(seconds(world.now), first.id, false);
    world.play(4 * MINUTE, 1, 50.0, 0.2);
    assert_eq!(world.messages, []);
    world.play(2 * MINUTE, 1, 50.0, 0.2);
    let again = &world.messages[0].1;
    assert!(first.alerts.iter().all(|told| again.alerts.iter().any(|other| other.id == told.id)));
}

#[test]
fn a_group_is_told_together_repeated_and_told_when_it_is_over() {
    let route = Route { group_wait: seconds(30), ..oncall() };
    let mut world = World::new(Rules { routes: vec![route], ..rules(checkout(0.999)) });
    world.play(DAY, 60, 50.0, 0.0);
    world.play(DAY, 10, 50.0, 0.2);
    let first = &world.messages[0];
    assert_eq!(first.0, world.fired[0].0 + 30);
    assert!(first.1.is_firing());
    let repeats = world.messages.windows(2).filter(|pair| pair[1].0 - pair[0].0 >= 4 * HOUR).count();
    assert!(repeats >= 4, "{repeats}");
    world.play(4 * DAY, 10, 50.0, 0.0);
    assert_eq!(world.firing(), [""; 0]);
    let told = world.messages.iter().flat_map(|(_, message)| &message.alerts);
    assert_eq!(told.filter(|told| told.ends_at.is_some()).count(), BURN_RULES.len());
    assert!(!world.messages.last().unwrap().1.is_firing());
}

#[test]
fn who_takes_pages_only_is_not_told_of_tickets() {
    let pages = Route { severity_min: Severity::Page, resolved: false, ..oncall() };
    let mut world = World::new(Rules { routes: vec![pages], ..rules(checkout(0.999)) });
    world.play(4 * DAY, 60, 50.0, 0.0);
    world.play(DAY, 10, 50.0, 0.004);
    assert!(world.fired.iter().any(|(_, alert)| alert.contains("burn 3x")));
    assert_eq!(world.messages, []);
    world.play(HOUR, 1, 50.0, 0.5);
    let told = world.messages.iter().flat_map(|(_, message)| &message.alerts);
    assert!(!world.messages.is_empty() && told.clone().all(|told| told.severity == Severity::Page));
    assert!(told.clone().all(|told| told.ends_at.is_none()));
    world.play(DAY, 10, 50.0, 0.0);
    assert!(world.messages.iter().all(|(_, message)| message.is_firing()));
}

#[test]
fn an_objective_may_name_whom_it_calls() {
    let other = Route { receiver: "shop".to_owned(), ..oncall() };
    let mut objective = checkout(0.999);
    objective.notify = vec!["shop".to_owned()];
    let mut world = World::new(Rules { routes: vec![oncall(), other], ..rules(objective) });
    world.play(DAY, 60, 50.0, 0.0);
    world.play(HOUR, 1, 50.0, 0.2);
    assert!(
        !world.messages.is_empty() && world.messages.iter().all(|(_, message)| message.receiver == "shop")
    );
}

#[test]
fn a_silence_keeps_everybody_quiet_until_it_ends() {
    let mut world = World::new(rules(checkout(0.999)));
    world.play(DAY, 60, 50.0, 0.0);
    let at = (seconds(world.now), world.wall);
    let silence = world.engine.silence(at, "checkout", seconds(2 * HOUR), ("a deploy", "anna")).unwrap();
    assert_eq!(silence.until, world.wall + seconds(2 * HOUR));
    let began = world.now;
    world.play(HOUR, 1, 50.0, 0.2);
    assert!(!world.fired.is_empty() && world.messages.is_empty());
    assert_eq!(world.engine.alerts(world.wall)[0].silenced_until, Some(silence.until));
    world.restart(rules(checkout(0.999)), 0);
    assert_eq!(world.engine.silences(world.wall), [silence]);
    world.play(HOUR + 5, 1, 50.0, 0.2);
    assert_eq!(world.messages.len(), 1, "it ended {began} + 2 h later, and it still fires");
    assert_eq!(world.engine.silences(world.wall), []);
}

#[test]
fn who_was_called_is_told_of_the_end_however_long_the_silence_in_between() {
    let mut world = World::new(rules(checkout(0.999)));
    world.play(10 * MINUTE, 10, 10.0, 1.0);
    assert!(world.messages.iter().any(|(_, message)| message.is_firing()), "somebody was called");
    let at = (seconds(world.now), world.wall);
    world.engine.silence(at, "checkout", seconds(5 * DAY), ("a holiday", "anna")).unwrap();
    let told = world.messages.len();
    // A page ends within the hour; then its end is older than what is kept of what nobody waits for.
    world.play(4 * DAY, 60, 10.0, 0.0);
    assert!(world.resolved.iter().any(|(_, name)| name.contains("14.4x")), "{:?}", world.resolved);
    assert_eq!(world.messages.len(), told, "it is silent");
    world.play(DAY + HOUR, 60, 10.0, 0.0);
    let after: Vec<_> = world.messages[told..].iter().flat_map(|(_, message)| &message.alerts).collect();
    let is_end =
        |detail: &str| after.iter().any(|told| told.detail.contains(detail) && told.ends_at.is_some());
    assert!(is_end("14.4x") && is_end("6x"), "{after:#?}");
    world.play(2 * DAY, 60, 10.0, 0.0);
    assert_eq!(world.engine.alerts(world.wall), [], "what everybody knows is forgotten");
}

#[test]
fn a_silence_of_nothing_or_for_ever_is_refused() {
    let mut world = World::new(rules(checkout(0.999)));
    let at = (Duration::ZERO, world.wall);
    assert!(world.engine.silence(at, "chekout", seconds(60), ("", "")).unwrap_err().contains("chekout"));
    assert!(world.engine.silence(at, "checkout", Duration::ZERO, ("", "")).is_err());
    assert!(world.engine.silence(at, "checkout", Duration::MAX, ("", "")).is_err());
    let id = world.engine.silence(at, "checkout", seconds(60), ("", "")).unwrap().id;
    assert!(world.engine.unsilence(&id));
    assert!(!world.engine.unsilence(&id));
}

#[test]
fn an_alert_whose_objective_left_the_file_is_over() {
    let mut world = World::new(rules(checkout(0.999)));
    world.play(DAY, 60, 50.0, 0.0);
    world.play(HOUR, 1, 50.0, 0.2);
    assert!(!world.firing().is_empty());
    world.engine.configure(Rules { objectives: Vec::new(), ..rules(checkout(0.999)) }, seconds(world.now));
    world.play(6 * MINUTE, 1, 50.0, 0.2);
    assert_eq!(world.firing(), [""; 0]);
    assert!(!world.messages.last().unwrap().1.is_firing());
}

#[test]
fn a_reload_that_changes_the_goal_keeps_what_was_counted() {
    let mut world = World::new(rules(checkout(0.999)));
    world.play(DAY, 60, 50.0, 0.01);
    let before = world.engine.objectives()[0].clone();
    world.engine.configure(rules(checkout(0.95)), seconds(world.now));
    let after = &world.engine.objectives()[0];
    assert_eq!((after.total, after.bad, after.goal), (before.total, before.bad, 0.95));
    let mut elsewhere = checkout(0.95);
    elsewhere.subject = Subject::Route("other".to_owned());
    world.engine.configure(rules(elsewhere), seconds(world.now));
    assert_eq!(world.engine.objectives()[0].total, 0, "another route's requests are not this one's");
}

fn orders_below(bound: f64) -> Threshold {
    let selector = Selector { name: "orders_placed_total".to_owned(), labels: Vec::new() };
    let query = Query { selector, measure: Measure::Rate, last: seconds(300), by: None };
    Threshold {
        name: "orders-stopped".to_owned(),
        query,
        above: None,
        below: Some(bound),
        hold: seconds(120),
        severity: Severity::Page,
        notify: Vec::new(),
    }
}

fn line(instance: &str, value: f64) -> Line {
    Line { labels: vec![("instance".to_owned(), instance.to_owned())], points: vec![value; 10], whole: None }
}

fn watched(threshold: Threshold) -> World {
    World::new(Rules { objectives: Vec::new(), thresholds: vec![threshold], routes: vec![oncall()] })
}

#[test]
fn each_line_below_its_bound_is_an_alert_of_its_own() {
    let mut world = watched(orders_below(0.1));
    world.chart.lines = vec![line("orders-1", 0.0), line("orders-2", 5.0)];
    world.play(115, 5, 0.0, 0.0);
    assert_eq!(world.firing(), [""; 0], "not before it held for two minutes");
    world.play(15, 5, 0.0, 0.0);
    assert_eq!(world.firing(), ["instance=orders-1"]);
    let told = &world.messages[0].1.alerts[0];
    assert_eq!(told.summary, "orders_placed_total: a rate each second of 0 over 5m is below 0.1");
    assert_eq!(told.notes, ["connections to orders"]);
}

#[test]
fn what_shows_as_unusual_only_later_is_noted_later() {
    let mut world = watched(orders_below(0.1));
    world.unusual.clear();
    world.chart.lines = vec![line("orders-1", 0.0)];
    world.play(5 * MINUTE, 5, 0.0, 0.0);
    assert!(!world.firing().is_empty());
    world.unusual = vec!["p99 of orders".to_owned()];
    assert_eq!(world.engine.alerts(world.wall)[0].notes, [""; 0]);
    world.play(10 * MINUTE, 5, 0.0, 0.0);
    assert_eq!(world.engine.alerts(world.wall)[0].notes, ["p99 of orders"]);
    assert_eq!(world.fired.len(), 1, "a note is no alert");
}

#[test]
fn an_app_that_says_nothing_any_more_has_stopped_placing_orders() {
    let mut world = watched(orders_below(0.1));
    world.chart.lines = vec![line("orders-1", 3.0)];
    world.play(HOUR, 5, 0.0, 0.0);
    world.chart.lines = vec![line("orders-1", f64::NAN)];
    world.play(5 * MINUTE + 10, 5, 0.0, 0.0);
    assert_eq!(world.firing(), ["absent"]);
}

#[test]
fn a_line_that_goes_while_others_stay_is_not_an_alert() {
    let mut world = watched(orders_below(0.1));
    world.chart.lines = vec![line("orders-1", 3.0), line("orders-2", 3.0)];
    world.play(HOUR, 5, 0.0, 0.0);
    world.chart.lines.truncate(1);
    world.play(HOUR, 5, 0.0, 0.0);
    assert_eq!(world.fired, []);
}

#[test]
fn a_flapping_alert_costs_a_message_in_five_minutes_and_not_one_a_flap() {
    let mut world = watched(Threshold { hold: Duration::ZERO, ..orders_below(0.1) });
    for flap in 0..120 {
        world.chart.lines = vec![line("orders-1", if flap % 2 == 0 { 0.0 } else { 3.0 })];
        world.play(30, 5, 0.0, 0.0);
    }
    assert!(world.fired.len() > 50);
    assert!(world.messages.len() <= 13, "{}", world.messages.len());
}

#[test]
fn a_threshold_that_fires_goes_on_firing_over_a_restart_with_empty_series() {
    let mut world = watched(orders_below(0.1));
    let rules =
        || Rules { objectives: Vec::new(), thresholds: vec![orders_below(0.1)], routes: vec![oncall()] };
    world.chart.lines = vec![line("orders-1", 0.0)];
    world.play(HOUR, 5, 0.0, 0.0);
    world.restart(rules(), 10);
    world.chart.lines = Vec::new();
    world.play(4 * MINUTE, 5, 0.0, 0.0);
    assert_eq!(world.firing(), ["instance=orders-1"]);
    world.chart.lines = vec![line("orders-1", 3.0)];
    world.play(2 * MINUTE, 5, 0.0, 0.0);
    assert_eq!(world.firing(), [""; 0]);
}

#[test]
fn slow_answers_spend_the_budget_of_latency() {
    static DURATION: Family = Family {
        name: "terrace_request_duration",
        help: "Duration.",
        unit: "seconds",
        labels: &["route"],
        kind: Kind::Histogram,
    };
    let latency = LatencyGoal { under: Duration::from_millis(300), share: 0.99 };
    let mut world = World::new(rules(Objective { latency: Some(latency), ..checkout(0.999) }));
    let durations = world.meter.histogram(&DURATION, &["orders"]);
    world.play(1, 1, 0.0, 0.0);
    for _ in 0..600 {
        for slow in 0..5 {
            durations.record(Duration::from_millis(if slow == 0 { 900 } else { 20 }));
        }
        world.play(1, 1, 0.0, 0.0);
    }
    let views = world.engine.objectives();
    assert_eq!(
        views.iter().map(|view| (view.kind, view.bad)).collect::<Vec<_>>(),
        [("success", 0), ("latency", 600)]
    );
    assert!(
        world.firing().iter().any(|alert| alert == "latency: burn 14.4x over 1h and 5m"),
        "{:?}",
        world.firing()
    );
    let summary = &world.engine.alerts(world.wall)[0].summary;
    assert!(summary.contains("took longer than 300ms"), "{summary}");
}

#[test]
fn a_busy_month_is_kept_in_less_than_a_quarter_of_a_megabyte() {
    let mut world = World::new(rules(checkout(0.999)));
    world.play(30 * DAY, 300, 5_000.0, 0.01);
    world.play(6 * HOUR, 10, 5_000.0, 0.01);
    let json = world.engine.save(world.wall).to_json();
    assert!(json.len() < 256 << 10, "{} bytes", json.len());
    let saved = Saved::parse(&json).unwrap();
    let again = Engine::restore(rules(checkout(0.999)), saved, Duration::ZERO, world.wall);
    assert_eq!(again.objectives()[0].bad, world.engine.objectives()[0].bad);
}

#[test]
fn state_of_a_later_terrace_and_damaged_state_are_told_apart() {
    assert_eq!(Saved::parse(br#"{"version":7,"x":1}"#), Err(StateError::Newer(7)));
    for damaged in [&b""[..], b"{", b"[]", br#"{"version":0}"#, br#"{"version":1}"#] {
        assert!(matches!(Saved::parse(damaged), Err(StateError::Damaged(_))), "{damaged:?}");
    }
}

fn saved_json() -> Vec<u8> {
    let mut world = World::new(Rules { thresholds: vec![orders_below(0.1)], ..rules(checkout(0.999)) });
    world.delivers = false;
    world.play(HOUR, 60, 50.0, 0.0);
    world.play(10 * MINUTE, 10, 50.0, 0.2);
    let at = (seconds(world.now), world.wall);
    world.engine.silence(at, "checkout", seconds(HOUR), ("é", "anna")).unwrap();
    world.engine.save(world.wall).to_json()
}

/// What a rule should say, from all that ever happened.
/// Of a window of days, what came before everything counts as calm.
fn naive(events: &[(u64, u64, u64)], now: u64, rate: f64, (long, short): (u64, u64)) -> bool {
    let over = |window: u64| {
        let recent = events.iter().rev().take_while(|(at, _, _)| *at >= now.saturating_sub(window));
        recent.fold((0, 0), |(total, bad), (_, more, worse)| (total + more, bad + worse))
    };
    let burns = |(total, bad): (u64, u64), covered: f64| {
        total > 0 && bad as f64 / total as f64 / 0.001 * covered > rate
    };
    let covered = if long < DAY { 1.0 } else { (now as f64 / long as f64).min(1.0) };
    let of_long = over(long);
    of_long.1 >= 5 && burns(of_long, covered) && burns(over(short), 1.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn three_weeks_are_judged_as_if_every_request_were_looked_through(
        phases in proptest::collection::vec((1_u64..500, 0_u64..2_000, prop_oneof![Just(0_u64), 0_u64..4, 0_u64..80]), 30),
    ) {
        let mut world = World::new(rules(checkout(0.999)));
        let mut events = Vec::new();
        world.tick();
        'weeks: for (lasts, good, bad) in phases {
            for _ in 0..lasts {
                if world.now > 21 * DAY {
                    break 'weeks;
                }
                // At multiples of five minutes a window's beginning is exact in both rings.
                world.now += 300;
                world.good.add(good);
                world.bad.add(bad);
                world.tick();
                events.push((world.now, good + bad, bad));
                let firing = world.firing();
                for rule in BURN_RULES {
                    let windows = (rule.long.as_secs(), rule.short.as_secs());
                    let fires = firing.iter().any(|detail| detail.contains(&format!("burn {}x", rule.rate)));
                    prop_assert_eq!(fires, naive(&events, world.now, rule.rate, windows), "{:?} at {}", rule, world.now);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_on_the_way_a_receiver_ends_up_believing_what_is_true(
        steps in proptest::collection::vec((0_usize..4, any::<bool>(), 1_u64..200, 0_u8..10), 1..60),
    ) {
        let rules = || Rules {
            objectives: Vec::new(),
            thresholds: vec![Threshold { hold: Duration::ZERO, ..orders_below(0.1) }],
            routes: vec![Route { group_wait: seconds(10), ..oncall() }],
        };
        let mut world = World::new(rules());
        world.delivers = false;
        let mut lines = [3.0; 4];
        let mut believed = std::collections::BTreeSet::new();
        let mut under_way: Vec<Notification> = Vec::new();
        let (mut sent, mut played) = (0, 0);
        let quiet = (0_usize, false, 40 * MINUTE, 0_u8);
        let calm = [quiet];
        for (which, low, lasts, luck) in steps.into_iter().chain(calm) {
            lines[which] = if low { 0.0 } else { 3.0 };
            world.chart.lines = lines.iter().enumerate().map(|(number, value)| line(&number.to_string(), *value)).collect();
            if luck == 9 {
                world.restart(rules(), 20);
                under_way.clear();
            }
            for _ in 0..lasts {
                world.now += 5;
                played += 5;
                world.wall += seconds(5);
                under_way.extend(world.tick().notifications);
                // What is under way arrives, fails or takes its time.
                if luck % 3 == 2 {
                    continue;
                }
                for message in under_way.drain(..) {
                    sent += 1;
                    if luck % 3 == 0 {
                        for told in &message.alerts {
                            match told.ends_at {
                                None => believed.insert(told.id.clone()),
                                Some(_) => believed.remove(&told.id),
                            };
                        }
                    }
                    world.engine.settled(seconds(world.now), message.id, luck % 3 == 0);
                }
            }
        }
        let views = world.engine.alerts(world.wall).into_iter();
        let firing: std::collections::BTreeSet<String> =
            views.filter(|view| view.state == AlertState::Firing).map(|view| view.id).collect();
        prop_assert_eq!(&believed, &firing);
        prop_assert!(sent <= 70 + played / 300, "{} messages: some at restarts, else one in five minutes", sent);
    }
}

proptest! {
    #[test]
    fn no_damage_to_the_state_on_disk_stops_terrace(
        place in any::<proptest::sample::Index>(),
        with in "[0-9]{0,20}|[\\[\\]{},:\"-]|[a-z]",
        length in 0_usize..6,
        now in 0_u64..1_000_000,
    ) {
        let mut json = saved_json();
        let at = place.index(json.len());
        json.splice(at..(at + length).min(json.len()), with.into_bytes());
        if let Ok(saved) = Saved::parse(&json) {
            let wall = SystemTime::UNIX_EPOCH + seconds(1_900_000_000);
            let mut engine = Engine::restore(rules(checkout(0.999)), saved, seconds(now), wall);
            let sight = Sight { own: &[], ask: &|_| Chart::default(), unusual: &Vec::new };
            for later in [0, 10, 400, 100_000] {
                engine.tick(seconds(now + later), wall, &sight);
            }
            prop_assert!(Saved::parse(&engine.save(wall).to_json()).is_ok());
            engine.objectives();
            engine.alerts(wall);
        }
    }
}
