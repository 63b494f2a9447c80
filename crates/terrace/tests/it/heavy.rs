//! What needs the machine for itself.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use terrace_testkit::{Failure, Kind, Load, Signal, Tally, Terrace, get, signal, until, until_true};

use crate::{shop, world};

const LOAD: &[(Kind, usize)] = &[(Kind::Get, 4), (Kind::Upload, 2), (Kind::WebSocket, 3)];
/// Changes that are made where the environment says nothing.
const CHANGES: u32 = 50;
/// The same changes each time, so that what fails once can be seen to fail again.
const SEED: u64 = 20_260;
/// Descriptors that may come and go without being a leak.
const DESCRIPTORS_SPARE: usize = 32;

/// An instance that was killed, and from when until when that could be noticed.
struct Killed {
    instance: String,
    from: Instant,
    to: Instant,
}

/// Everything that can be changed, as it stands.
struct Changing<'w> {
    terrace: Terrace<'w>,
    file: String,
    random: u64,
    turn: u32,
    colour: u32,
    killed: Vec<Killed>,
    /// What was done, for whoever looks for the reason of a failure.
    story: String,
}

#[test]
fn changes_under_load() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let changes = number("TERRACE_SOAK_CHANGES").map_or(CHANGES, |count| count as u32);
    let seed = number("TERRACE_SOAK_SEED").unwrap_or(SEED);
    let world = world();
    let (_port, address, file) = shop(&world, 3);
    let terrace = world.up(&format!("{file}{}", colour(0)));
    let mut changing = Changing {
        terrace,
        file,
        random: seed,
        turn: 0,
        colour: 0,
        killed: Vec::new(),
        story: format!("TERRACE_SOAK_SEED={seed}"),
    };
    let load = Load::start(address, LOAD);
    let descriptors = descriptors(&changing.terrace);
    for _ in 0..changes {
        changing.one_change();
        assert_eq!(get(address, "/colour").text(), changing.colour.to_string(), "{}", changing.story);
        load.wait_for_more(LOAD);
        judge(&load.tally(), &changing);
    }
    let tally = load.stop();
    judge(&tally, &changing);
    tell(&tally, &changing);
    until_true("what was open is closed", || {
        self::descriptors(&changing.terrace) <= descriptors + DESCRIPTORS_SPARE
    });
    assert!(changing.terrace.stop().success(), "{}", changing.story);
    until_true("no process is left", || world.processes().is_empty());
}

/// Nothing has failed but what was on a killed instance and may not be sent twice.
#[track_caller]
fn judge(tally: &Tally, changing: &Changing<'_>) {
    let is_excused = |failure: &&Failure| failure.kind != Kind::Get && changing.was_on_killed(failure);
    let (excused, lost): (Vec<_>, Vec<_>) = tally.failures.iter().partition(is_excused);
    let whats: Vec<&str> = lost.iter().take(10).map(|failure| failure.what.as_str()).collect();
    let (count, story) = (lost.len(), &changing.story);
    assert!(lost.is_empty(), "{count} failed without an excuse, such as {whats:#?}\n{story}");
    // What is excused is bounded by what can be in flight at once.
    let clients: usize = LOAD.iter().filter(|(kind, _)| *kind != Kind::Get).map(|(_, count)| count).sum();
    assert!(excused.len() <= changing.killed.len() * clients, "{} are excused\n{story}", excused.len());
}

/// The figures, for whoever runs it to see them.
fn tell(tally: &Tally, changing: &Changing<'_>) {
    let Tally { gets, uploads, websockets, failures } = tally;
    let (changes, kills) = (changing.turn, changing.killed.len());
    let line = format!(
        "{changes} changes, {kills} of them kills: {gets} GETs, {uploads} uploads and {websockets} WebSockets went \
         well; {} in flight on a killed instance did not\n",
        failures.len()
    );
    let _nobody_listens = std::io::stdout().lock().write_all(line.as_bytes());
}

impl Changing<'_> {
    fn one_change(&mut self) {
        self.turn += 1;
        let choice = self.random(8);
        let what = match choice {
            0 => self.scale(),
            1 => self.restart(),
            2 | 3 => self.kill(),
            4 => self.reload("env", |changing| format!("env = {{ TURN = \"{}\" }}\n", changing.turn)),
            5 => self.reload("limits", |changing| format!("body-max = \"{}MiB\"\n", 1 + changing.turn % 7)),
            6 => self.reload("policy", |changing| {
                format!("timeout = {{ total = \"{}s\" }}\nslow-start = \"0s\"\n", 30 + changing.turn % 30)
            }),
            _ => self.reload("route", |_| String::new()),
        };
        let _infallible = write!(self.story, "\n{}: {what}", self.turn);
    }

    fn scale(&mut self) -> String {
        let count = (2 + self.random(3)).to_string();
        self.terrace.command(&["scale", "web", &count]).ok();
        format!("scale to {count}")
    }

    fn restart(&mut self) -> String {
        self.terrace.command(&["restart", "web"]).ok();
        "restart".to_owned()
    }

    /// Takes another file over: with another fixed answer, so that it shows, and with `service` in the service.
    fn reload(&mut self, what: &str, service: impl Fn(&Self) -> String) -> String {
        self.colour = self.turn;
        let file = format!("{}{}{}", self.file, service(self), colour(self.colour));
        self.terrace.reload_with(&file).ok();
        format!("reload with another {what}")
    }

    fn kill(&mut self) -> String {
        // One that serves: a replacement that ends before it does is a roll-out that failed, which is another test.
        let serving = until("somebody serves", || Some(self.serving()).filter(|serving| !serving.is_empty()));
        let (instance, pid) = serving[self.random(serving.len() as u64) as usize].clone();
        let from = now();
        signal(pid, Signal::KILL);
        until(&format!("all are there again after the kill of {instance}\n{}", self.story), || {
            let service = self.terrace.service("web");
            let instances = service["fleet"]["instances"].as_array().cloned().unwrap_or_default();
            let is_gone = instances.iter().all(|other| other["pid"] != pid);
            (is_gone && service["fleet"]["state"] == "running").then_some(())
        });
        self.killed.push(Killed { instance: instance.clone(), from, to: now() });
        format!("kill of {instance}, pid {pid}")
    }

    fn serving(&self) -> Vec<(String, i32)> {
        let service = self.terrace.service("web");
        let instances = service["fleet"]["instances"].as_array().cloned().unwrap_or_default();
        let ready = instances.iter().filter(|one| one["state"] == "ready");
        ready
            .filter_map(|one| Some((one["name"].as_str()?.to_owned(), one["pid"].as_i64()? as i32)))
            .collect()
    }

    /// Whether it was on an instance that was killed while it was on it.
    fn was_on_killed(&self, failure: &Failure) -> bool {
        self.killed.iter().any(|killed| {
            let named = failure.instance.as_deref() == Some(&killed.instance)
                || failure.what.contains(&format!("endpoint {}:", killed.instance));
            named && failure.began <= killed.to && failure.ended >= killed.from
        })
    }

    /// The next number below `below` (Knuth's MMIX generator).
    fn random(&mut self, below: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }
}

fn colour(colour: u32) -> String {
    format!(
        "[route.colour]\nat = \"/colour\"\nrespond = {{ status = 200, body = \"{colour}\", type = \"text/plain\" }}\n\
         [route.all]\nat = \"/*\"\nto = \"web\"\n"
    )
}

fn descriptors(terrace: &Terrace<'_>) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", terrace.pid())).expect("it lives").count()
}

#[expect(clippy::disallowed_methods, reason = "tests wait in the time of the machine they run on")]
fn now() -> Instant {
    Instant::now()
}
