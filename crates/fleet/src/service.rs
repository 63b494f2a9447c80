//! One service: a task that takes commands and happenings in, one at a time, and after each lets [`plan`] say what to
//! do next.
//!
//! Nothing here waits for an instance or a release: whatever takes time is a task of its own that tells when it is
//! done. So commands are done in sequence, a newer configuration supersedes an older one at whatever point that is,
//! and a crash in the midst of a roll-out is just one more event.

use std::sync::Arc;
use std::time::Duration;

use terrace_instruments::{Event, Level};
use terrace_policy::RestartState;
use terrace_runtime::{clock, random};
use tokio::sync::{mpsc, oneshot, watch};

use crate::adopt::Adopted;
use crate::config::{Ready, Stop};
use crate::context::Context;
use crate::error::Error;
use crate::instance::{self, Ending, Happening, Origin, StopPlan, Who, Wish};
use crate::metrics::Metrics;
use crate::plan::{self, Generation, Step, View, Wanted};
use crate::ports::Lease;
use crate::release;
use crate::rotation::Member;
use crate::shim::protocol::Exit;
use crate::spec::Spec;
use crate::status::{InstanceState, InstanceStatus, ServiceState, ServiceStatus};

/// An instance whose port was taken by somebody else gets another one this often before that counts as a crash.
const PORT_TRIES_MAX: u32 = 5;

/// What a service is asked.
pub(crate) enum Command {
    /// Be like this from now on.
    Configure(Arc<Spec>),
    /// So many instances, whatever the file says.
    Scale(u32, oneshot::Sender<Result<(), Error>>),
    /// Replace every instance, one by one.
    Restart,
    /// Say how it stands.
    Status(oneshot::Sender<ServiceStatus>),
    /// Stop every instance, and end; requests and streams have the given time at most, if one is given.
    End(Option<Duration>),
}

/// A service's task and state.
pub(crate) struct Service {
    context: Arc<Context>,
    name: String,
    metrics: Metrics,
    commands: mpsc::Receiver<Command>,
    happenings: mpsc::UnboundedReceiver<(u64, Happening)>,
    /// Handed to every instance.
    teller: mpsc::UnboundedSender<(u64, Happening)>,
    released: mpsc::UnboundedReceiver<(String, Result<(), String>)>,
    release_teller: mpsc::UnboundedSender<(String, Result<(), String>)>,
    /// What shall run; absent for a service that nobody asked for, whose instances were found.
    spec: Option<Arc<Spec>>,
    target: Generation,
    generations: Generation,
    /// The last configuration that worked; what runs while the target is blocked.
    good: Option<(Generation, Arc<Spec>)>,
    release: Release,
    /// Why the target cannot be brought up.
    failed: Option<String>,
    rolling: bool,
    ending: Option<Option<Duration>>,
    slots: Vec<Slot>,
    next_slot: u64,
    published: Vec<Member>,
}

/// Where the release of the target is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Release {
    /// None is needed, or it was done.
    Done,
    /// The command runs, for the configuration of this hash.
    Running(String),
    /// It failed, and so nothing of the target is started.
    Failed(String),
}

/// One instance, over all its lives.
struct Slot {
    id: u64,
    index: u32,
    name: String,
    generation: Generation,
    /// Absent where a Terrace before this one started it from a configuration that is not the present one.
    spec: Option<Arc<Spec>>,
    phase: Phase,
    wish: Option<watch::Sender<Wish>>,
    restart: RestartState,
    crash_loop: bool,
    was_ready: bool,
    pid: Option<i32>,
    address: Option<std::net::SocketAddr>,
    /// Since when the process runs.
    since: Duration,
    /// How long it had run already when it was adopted: before the clock of this Terrace began.
    ran_before: Duration,
    restarts: u32,
    port_tries: u32,
    last_exit: Option<String>,
    says: Option<String>,
    /// Why it is not ready yet, where that takes long.
    waits_for: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready,
    /// Ended by itself, or being ended because it was never ready; something may be left of it.
    Failing,
    /// Nothing is left of it; it is started again then.
    Waiting {
        until: Duration,
    },
    Stopping {
        requests_idle: bool,
    },
}

impl Service {
    /// A service with the instances that were found running, which are in rotation when this returns.
    pub(crate) fn new(
        context: Arc<Context>,
        name: String,
        spec: Option<Arc<Spec>>,
        adopted: Vec<Adopted>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let (teller, happenings) = mpsc::unbounded_channel();
        let (release_teller, released) = mpsc::unbounded_channel();
        let metrics = Metrics::new(&context.meter, &name);
        let mut service = Self {
            ending: if spec.is_some() { None } else { Some(None) },
            spec: None,
            target: 0,
            generations: 0,
            good: None,
            release: Release::Done,
            failed: None,
            rolling: false,
            slots: Vec::new(),
            next_slot: 0,
            published: Vec::new(),
            context,
            name,
            metrics,
            commands,
            happenings,
            teller,
            released,
            release_teller,
        };
        service.begin(spec, adopted);
        service
    }

    fn begin(&mut self, spec: Option<Arc<Spec>>, adopted: Vec<Adopted>) {
        self.generations = 1;
        self.target = if spec.is_some() { 1 } else { 0 };
        for found in adopted {
            self.adopt(found, spec.as_ref());
        }
        self.spec = spec;
        self.publish();
        self.begin_release();
        self.begin_rollout();
    }

    /// Runs until it was ended and nothing is left.
    pub(crate) async fn run(mut self) {
        loop {
            self.reconcile();
            if self.is_over() {
                return;
            }
            if !self.happen().await {
                return;
            }
        }
    }

    /// Waits until something happens and takes it in; false when nobody can command any more. Being asked how it
    /// stands is not something that happens: whoever asks at every change would be the cause of the next.
    async fn happen(&mut self) -> bool {
        let wake = self.next_start();
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Status(answer)) => {
                        drop(answer.send(self.status()));
                        continue;
                    }
                    Some(command) => self.obey(command),
                    None => return false,
                },
                Some((slot, happening)) = self.happenings.recv() => self.note(slot, happening),
                Some((hash, result)) = self.released.recv() => self.note_release(&hash, result),
                () = sleep_until(wake) => {}
            }
            return true;
        }
    }

    /// A command that arrived at the last moment is not lost: closing first makes a later one fail at its sender.
    fn is_over(&mut self) -> bool {
        if self.ending.is_none() || !self.slots.is_empty() {
            return false;
        }
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command);
        }
        let over = self.ending.is_some();
        if over {
            self.metrics.show(&[]);
        }
        over
    }

    // ---- commands ----

    fn obey(&mut self, command: Command) {
        match command {
            Command::Configure(spec) => self.configure(spec),
            Command::Scale(count, done) => drop(done.send(self.scale(count))),
            Command::Restart => self.restart(),
            Command::Status(answer) => drop(answer.send(self.status())),
            Command::End(bound) => self.end(bound),
        }
    }

    fn configure(&mut self, spec: Arc<Spec>) {
        self.ending = None;
        self.failed = None;
        let same = self.spec.as_ref().is_some_and(|present| present.hash == spec.hash);
        if !same {
            let known = self.generation_of(&spec.hash);
            self.supersede();
            self.target = known.unwrap_or_else(|| self.new_generation());
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.generation == self.target) {
            slot.spec = Some(Arc::clone(&spec));
        }
        self.spec = Some(spec);
        self.begin_release();
        self.begin_rollout();
    }

    fn scale(&mut self, count: u32) -> Result<(), Error> {
        let Some(spec) = &self.spec else { return Err(Error::Stopping) };
        let noted = self.context.ledger.scale(&self.name, spec.config.instances, count);
        noted.map_err(|source| Error::State { path: self.context.ledger.path(), source })?;
        self.emit(Level::Info, "fleet.service.scaled", |event| event.field("instances", count));
        Ok(())
    }

    fn restart(&mut self) {
        self.failed = None;
        self.supersede();
        self.target = self.new_generation();
        self.begin_release();
        self.begin_rollout();
    }

    fn end(&mut self, bound: Option<Duration>) {
        self.ending = Some(bound);
        let ids: Vec<u64> = self.slots.iter().map(|slot| slot.id).collect();
        for id in ids {
            self.stop(id);
        }
    }

    /// The target is about to change: what of it works is what is gone back to if the next does not.
    fn supersede(&mut self) {
        self.remember_good();
        if std::mem::take(&mut self.rolling) {
            self.metrics.rollouts_superseded.inc();
            self.emit(Level::Info, "fleet.rollout.superseded", |event| event);
        }
    }

    fn remember_good(&mut self) {
        let target = self.target;
        let works = self.slots.iter().any(|slot| slot.generation == target && slot.phase == Phase::Ready);
        if let (true, Some(spec)) = (works, &self.spec) {
            self.good = Some((target, Arc::clone(spec)));
        }
    }

    fn new_generation(&mut self) -> Generation {
        self.generations += 1;
        self.generations
    }

    /// The latest generation of this configuration that still runs or is gone back to.
    fn generation_of(&self, hash: &str) -> Option<Generation> {
        let running =
            self.slots.iter().filter(|slot| slot.spec.as_ref().is_some_and(|spec| spec.hash == hash));
        let good = self.good.iter().filter(|(_, spec)| spec.hash == hash).map(|(generation, _)| *generation);
        running.map(|slot| slot.generation).chain(good).max()
    }

    fn begin_rollout(&mut self) {
        let begins = !self.rolling && self.is_outdated();
        if begins {
            self.rolling = true;
            self.emit(Level::Info, "fleet.rollout.started", |event| event);
        }
    }

    // ---- the release command ----

    fn begin_release(&mut self) {
        let Some(spec) = &self.spec else { return };
        let needed =
            spec.config.release.is_some() && !self.context.ledger.is_released(&self.name, &spec.hash);
        match &self.release {
            // It is let run to its end even if it is of an older configuration: half a migration is worse.
            Release::Running(_) => return,
            _ if !needed => {
                self.release = Release::Done;
                return;
            }
            _ => self.release = Release::Running(spec.hash.clone()),
        }
        let (context, spec, teller) =
            (Arc::clone(&self.context), Arc::clone(spec), self.release_teller.clone());
        self.emit(Level::Info, "fleet.release.started", |event| event);
        tokio::spawn(async move {
            let hash = spec.hash.clone();
            tokio::select! {
                result = release::run(context, spec) => drop(teller.send((hash, result))),
                () = teller.closed() => {}
            }
        });
    }

    fn note_release(&mut self, hash: &str, result: Result<(), String>) {
        if result.is_ok()
            && let Err(error) = self.context.ledger.released(&self.name, hash)
        {
            let why = format!("the release was done but could not be noted, so it may run again: {error}");
            self.emit(Level::Warn, "fleet.release.not_noted", |event| event.message(why));
        }
        let current = self.spec.as_ref().is_some_and(|spec| spec.hash == hash);
        match (result, current) {
            (Ok(()), true) => {
                self.release = Release::Done;
                self.emit(Level::Info, "fleet.release.done", |event| event);
            }
            (Err(why), true) => self.fail_release(why),
            (_, false) => {
                self.release = Release::Done;
                self.begin_release();
            }
        }
    }

    fn fail_release(&mut self, why: String) {
        self.emit(Level::Error, "fleet.release.failed", |event| event.message(why.clone()));
        self.release = Release::Failed(why);
        self.end_rollout_failed();
    }

    // ---- happenings ----

    fn note(&mut self, id: u64, happening: Happening) {
        if !self.slots.iter().any(|slot| slot.id == id) {
            return;
        }
        match happening {
            Happening::Up { pid } => self.note_up(id, pid),
            Happening::Says(text) => self.slot(id).says = Some(text),
            Happening::NotYet(why) => self.note_not_yet(id, why),
            Happening::Ready => self.note_ready(id),
            Happening::NeverReady { why, tail } => self.note_never_ready(id, why, &tail),
            Happening::RequestsIdle => {
                let slot = self.slot(id);
                if let Phase::Stopping { requests_idle } = &mut slot.phase {
                    *requests_idle = true;
                }
            }
            Happening::Exited(exit) => self.note_exit(id, &exit),
            Happening::Over(ending) => self.note_over(id, ending),
        }
    }

    fn slot(&mut self, id: u64) -> &mut Slot {
        self.slots.iter_mut().find(|slot| slot.id == id).expect("the caller knows that the slot is there")
    }

    fn note_up(&mut self, id: u64, pid: i32) {
        let slot = self.slot(id);
        slot.pid = Some(pid);
        slot.since = clock::now();
        self.emit_of(id, Level::Info, "fleet.instance.started", |event| event.field("pid", i64::from(pid)));
    }

    fn note_not_yet(&mut self, id: u64, why: String) {
        let slot = self.slot(id);
        if slot.phase != Phase::Starting {
            return;
        }
        slot.waits_for = Some(why.clone());
        self.emit_of(id, Level::Warn, "fleet.instance.not_ready_yet", |event| event.message(why));
    }

    fn note_ready(&mut self, id: u64) {
        let slot = self.slot(id);
        if slot.phase != Phase::Starting {
            return;
        }
        slot.waits_for = None;
        slot.phase = Phase::Ready;
        slot.was_ready = true;
        slot.port_tries = 0;
        slot.restart.started_ok(clock::now());
        let after = clock::now().saturating_sub(slot.since);
        self.emit_of(id, Level::Info, "fleet.instance.ready", |event| event.field("after_seconds", after));
    }

    fn note_never_ready(&mut self, id: u64, why: String, tail: &[String]) {
        let output = tail.join("\n");
        let why = told(&why, tail);
        self.emit_of(id, Level::Error, "fleet.instance.not_ready", |event| {
            event.message(why.clone()).field("output", output)
        });
        if self.slot(id).phase != Phase::Starting {
            return;
        }
        self.slot(id).phase = Phase::Failing;
        self.slot(id).last_exit = Some(why.clone());
        if self.is_replacement(id) {
            self.fail_rollout(id, why);
            self.stop(id);
        } else {
            self.order_stop(id);
        }
    }

    fn note_exit(&mut self, id: u64, exit: &Exit) {
        let slot = self.slot(id);
        slot.pid = None;
        if !matches!(slot.phase, Phase::Stopping { .. }) {
            // Never ready is the better reason: what ended it then was us.
            if slot.phase != Phase::Failing {
                slot.last_exit = Some(exit.to_string());
            }
            slot.phase = Phase::Failing;
        }
    }

    fn note_over(&mut self, id: u64, ending: Ending) {
        let slot = self.slot(id);
        slot.wish = None;
        slot.pid = None;
        slot.address = None;
        match slot.phase {
            Phase::Stopping { .. } => self.remove(id),
            _ if slot.spec.is_none() => self.remove(id),
            _ if ending.port_taken && slot.port_tries < PORT_TRIES_MAX => {
                slot.port_tries += 1;
                slot.phase = Phase::Waiting { until: clock::now() };
                self.emit_of(id, Level::Warn, "fleet.instance.port_taken", |event| event);
            }
            _ => self.note_crash(id, &ending),
        }
    }

    fn note_crash(&mut self, id: u64, ending: &Ending) {
        let now = clock::now();
        let slot = self.slot(id);
        if let Some(why) = &ending.why {
            slot.last_exit = Some(why.clone());
        }
        let law = slot.spec.as_ref().map(|spec| spec.config.restart).expect("without one it is removed");
        let decision = slot.restart.exited(&law, now, random::u64());
        slot.crash_loop = decision.crash_loop;
        slot.phase = Phase::Waiting { until: now + decision.delay };
        let never_ready = !std::mem::take(&mut slot.was_ready);
        let how = slot.last_exit.clone().unwrap_or_else(|| "it ended".to_owned());
        let why = told(&how, &ending.tail);
        let name =
            if decision.crash_loop_began { "fleet.instance.crash_loop" } else { "fleet.instance.crashed" };
        let level = if decision.crash_loop_began { Level::Error } else { Level::Warn };
        let output = ending.tail.join("\n");
        self.emit_of(id, level, name, |event| {
            event.message(how).field("restart_after_seconds", decision.delay).field("output", output)
        });
        if self.is_replacement(id) && (never_ready || decision.crash_loop) {
            self.fail_rollout(id, why);
            self.remove(id);
        }
    }

    fn remove(&mut self, id: u64) {
        self.emit_of(id, Level::Info, "fleet.instance.stopped", |event| event);
        self.slots.retain(|slot| slot.id != id);
    }

    // ---- roll-outs ----

    /// Whether instances of another generation are to be replaced.
    fn is_outdated(&self) -> bool {
        self.slots.iter().any(|slot| slot.is_live() && slot.generation != self.target)
    }

    /// Whether this one takes the place of another that still serves.
    fn is_replacement(&mut self, id: u64) -> bool {
        let generation = self.slot(id).generation;
        generation == self.target && self.failed.is_none() && self.is_outdated()
    }

    fn fail_rollout(&mut self, id: u64, why: String) {
        let name = self.slot(id).name.clone();
        let why = format!("{name}, of the new configuration, failed, so what ran before goes on: {why}");
        self.emit(Level::Error, "fleet.rollout.failed", |event| event.message(why.clone()));
        self.failed = Some(why);
        self.end_rollout_failed();
    }

    fn end_rollout_failed(&mut self) {
        if std::mem::take(&mut self.rolling) {
            self.metrics.rollouts_failed.inc();
        }
    }

    /// Whether nothing of the target may be started. A failed target is tried on when there is nothing else left.
    fn is_blocked(&self) -> bool {
        let alternative = self.good.is_some() || self.is_outdated();
        self.release != Release::Done || (self.failed.is_some() && alternative)
    }

    // ---- doing ----

    /// Takes every step that is due, and shows the result.
    fn reconcile(&mut self) {
        while let Some(step) = plan::next(&self.wanted(), &self.views()) {
            match step {
                Step::Start { index, generation } => self.start_new(index, generation),
                Step::Stop { slot } => self.stop(slot),
            }
        }
        self.start_due();
        self.publish();
        self.note_rollout_done();
        let states: Vec<InstanceState> = self.slots.iter().map(Slot::state).collect();
        self.metrics.show(&states);
        self.context.changes.send_modify(|version| *version += 1);
    }

    fn wanted(&self) -> Wanted {
        let count = self.desired().0 as usize;
        let blocked = self.is_blocked();
        let good = self.good.as_ref().map(|(generation, _)| *generation);
        let start = if blocked { good } else { Some(self.target) };
        let start = if self.ending.is_some() { None } else { start };
        Wanted { count, target: self.target, start, replace: !blocked }
    }

    fn desired(&self) -> (u32, bool) {
        match (&self.spec, self.ending) {
            (Some(spec), None) => self.context.ledger.instances(&self.name, spec.config.instances),
            _ => (0, false),
        }
    }

    fn views(&self) -> Vec<View> {
        self.slots.iter().map(Slot::view).collect()
    }

    fn start_new(&mut self, index: u32, generation: Generation) {
        let spec = match &self.good {
            Some((good, spec)) if *good == generation && generation != self.target => Some(Arc::clone(spec)),
            _ => self.spec.clone(),
        };
        let id = self.new_slot(index, generation, spec);
        self.launch(id);
    }

    fn new_slot(&mut self, index: u32, generation: Generation, spec: Option<Arc<Spec>>) -> u64 {
        self.next_slot += 1;
        self.slots.push(Slot {
            id: self.next_slot,
            index,
            name: format!("{}-{index}", self.name),
            generation,
            spec,
            phase: Phase::Starting,
            wish: None,
            restart: RestartState::default(),
            crash_loop: false,
            was_ready: false,
            pid: None,
            address: None,
            since: clock::now(),
            ran_before: Duration::ZERO,
            restarts: 0,
            port_tries: 0,
            last_exit: None,
            says: None,
            waits_for: None,
        });
        self.next_slot
    }

    /// Starts a life of the slot.
    fn launch(&mut self, id: u64) {
        let spec = self.slot(id).spec.clone().expect("only what has a configuration is started");
        let lease = match (spec.config.worker, self.context.ports.lease()) {
            (true, _) => None,
            (false, Ok(lease)) => Some(lease),
            (false, Err(error)) => {
                let why = Some(format!("there is no free port on loopback: {error}"));
                return self.note_over(id, Ending { why, ..Ending::default() });
            }
        };
        let ready = spec.config.ready.clone();
        self.live(id, Origin::Fresh(spec), ready, lease);
    }

    fn live(&mut self, id: u64, origin: Origin, ready: Ready, lease: Option<Lease>) {
        let (context, teller, service) = (Arc::clone(&self.context), self.teller.clone(), self.name.clone());
        let slot = self.slot(id);
        slot.address = lease.as_ref().map(Lease::address);
        slot.since = clock::now();
        slot.ran_before = Duration::ZERO;
        slot.says = None;
        slot.waits_for = None;
        let who = Who { service, name: slot.name.clone(), slot: id };
        slot.wish = Some(instance::start(context, who, origin, ready, lease, teller));
    }

    /// Takes an instance over that was found running.
    fn adopt(&mut self, found: Adopted, spec: Option<&Arc<Spec>>) {
        let facts = &found.facts;
        let same = spec.filter(|spec| spec.hash == facts.config_hash).cloned();
        let index =
            facts.instance.rsplit_once('-').and_then(|(_, index)| index.parse().ok()).unwrap_or_default();
        let id = self.new_slot(index, if same.is_some() { 1 } else { 0 }, same);
        let (pid, ready) = (facts.pid, facts.ready);
        let stopping = facts.stopping || facts.exit.is_some();
        let lease = facts.port.map(|port| self.context.ports.adopt(port));
        let uptime = age(facts.created_ms);
        let probe = spec.map(|spec| spec.config.ready.clone()).unwrap_or_default();
        self.live(id, Origin::Adopted(Box::new(found)), probe, lease);
        let slot = self.slot(id);
        slot.pid = Some(pid);
        slot.ran_before = uptime;
        slot.was_ready = ready;
        if ready {
            slot.restart.started_ok(slot.since.saturating_sub(uptime));
        }
        slot.phase = match (stopping, ready) {
            (true, _) => Phase::Stopping { requests_idle: false },
            (false, true) => Phase::Ready,
            (false, false) => Phase::Starting,
        };
        self.emit_of(id, Level::Info, "fleet.instance.adopted", |event| event.field("pid", i64::from(pid)));
    }

    /// Starts again whatever has waited long enough.
    fn start_due(&mut self) {
        let now = clock::now();
        let due = |slot: &&Slot| matches!(slot.phase, Phase::Waiting { until } if until <= now);
        let due: Vec<u64> = self.slots.iter().filter(due).map(|slot| slot.id).collect();
        for id in due {
            self.metrics.restarts.inc();
            let slot = self.slot(id);
            slot.phase = Phase::Starting;
            slot.restarts += 1;
            self.launch(id);
        }
    }

    fn next_start(&self) -> Option<Duration> {
        let waits = |slot: &Slot| if let Phase::Waiting { until } = slot.phase { Some(until) } else { None };
        self.slots.iter().filter_map(waits).min()
    }

    /// Stops an instance for good.
    fn stop(&mut self, id: u64) {
        let slot = self.slot(id);
        if slot.wish.is_none() {
            return self.remove(id);
        }
        if !matches!(slot.phase, Phase::Stopping { .. }) {
            slot.phase = Phase::Stopping { requests_idle: false };
        }
        // Before its task hears of it: what is drained must be out of rotation.
        self.publish();
        self.order_stop(id);
    }

    fn order_stop(&mut self, id: u64) {
        let (present, bound) = (self.spec.clone(), self.ending.flatten());
        let slot = self.slot(id);
        let spec = slot.spec.clone().or(present);
        let stop = spec.map_or_else(Stop::default, |spec| spec.config.stop.clone());
        let limit = |time: Duration| bound.map_or(time, |bound| time.min(bound));
        let (drain, streams) = (limit(stop.drain), limit(stop.streams));
        let plan = StopPlan { drain, streams, grace: stop.grace, signal: stop.signal };
        if let Some(wish) = &slot.wish {
            // Asked for the same once more, what is being waited for goes on: its time must not begin anew.
            wish.send_if_modified(|wish| std::mem::replace(wish, Wish::Stop(plan)) != Wish::Stop(plan));
        }
    }

    fn publish(&mut self) {
        let mut ready: Vec<&Slot> = self.slots.iter().filter(|slot| slot.phase == Phase::Ready).collect();
        ready.sort_by_key(|slot| slot.index);
        let member = |slot: &Slot| Some(Member { name: slot.name.clone(), address: slot.address? });
        let members: Vec<Member> = ready.into_iter().filter_map(member).collect();
        if members != self.published {
            self.context.rotation.publish(&self.name, members.clone());
            self.published = members;
        }
    }

    fn note_rollout_done(&mut self) {
        let live: Vec<&Slot> = self.slots.iter().filter(|slot| slot.is_live()).collect();
        let current = live.iter().all(|slot| slot.generation == self.target);
        if !current || self.is_blocked() || self.ending.is_some() {
            return;
        }
        let ready = live.iter().filter(|slot| slot.phase == Phase::Ready).count();
        self.remember_good();
        if self.rolling && ready >= self.desired().0 as usize {
            self.rolling = false;
            self.metrics.rollouts_done.inc();
            self.emit(Level::Info, "fleet.rollout.done", |event| event);
        }
    }

    // ---- telling ----

    fn emit(&self, level: Level, name: &'static str, more: impl FnOnce(Event) -> Event) {
        self.context.log.emit(more(Event::new(level, name).service(&self.name)));
    }

    fn emit_of(&self, id: u64, level: Level, name: &'static str, more: impl FnOnce(Event) -> Event) {
        let slot = self.slots.iter().find(|slot| slot.id == id);
        let instance = slot.map(|slot| slot.name.clone()).unwrap_or_default();
        self.emit(level, name, |event| more(event.instance(instance)));
    }

    fn status(&self) -> ServiceStatus {
        let (desired, scaled) = self.desired();
        let ready = self.slots.iter().filter(|slot| slot.phase == Phase::Ready).count();
        let (state, reason) = self.state(desired as usize, ready);
        let mut slots: Vec<&Slot> = self.slots.iter().collect();
        slots.sort_by_key(|slot| slot.index);
        ServiceStatus {
            name: self.name.clone(),
            worker: self.spec.as_ref().is_some_and(|spec| spec.config.worker),
            desired,
            scaled,
            ready: u32::try_from(ready).unwrap_or(u32::MAX),
            state,
            reason,
            instances: slots.into_iter().map(|slot| slot.status(self.target)).collect(),
        }
    }

    fn state(&self, desired: usize, ready: usize) -> (ServiceState, Option<String>) {
        if let Some(why) = &self.failed {
            return (ServiceState::RolloutFailed, Some(why.clone()));
        }
        match &self.release {
            Release::Failed(why) => return (ServiceState::RolloutFailed, Some(why.clone())),
            Release::Running(_) => return (ServiceState::Releasing, None),
            Release::Done => {}
        }
        let looping = |slot: &&Slot| slot.is_live() && slot.crash_loop && slot.phase != Phase::Ready;
        if let Some(slot) = self.slots.iter().find(looping) {
            let how = slot.last_exit.clone().unwrap_or_default();
            return (ServiceState::CrashLoop, Some(format!("{} ends again and again: {how}", slot.name)));
        }
        let reason = self.slots.iter().find_map(Slot::delay);
        match (desired, self.slots.len()) {
            (0, 0) => (ServiceState::Stopped, None),
            (0, _) => (ServiceState::Stopping, None),
            _ if self.rolling => (ServiceState::RollingOut, reason),
            _ if ready >= desired => (ServiceState::Running, None),
            _ => (ServiceState::Starting, reason),
        }
    }
}

impl Slot {
    fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Stopping { .. })
    }

    /// Why it is not ready, where there is something to tell.
    fn delay(&self) -> Option<String> {
        let why = match self.phase {
            Phase::Starting => self.waits_for.as_ref()?,
            Phase::Waiting { .. } => self.last_exit.as_ref()?,
            _ => return None,
        };
        Some(format!("{}: {why}", self.name))
    }

    fn view(&self) -> View {
        let phase = match self.phase {
            Phase::Starting => plan::Phase::Starting,
            Phase::Ready => plan::Phase::Ready,
            Phase::Failing | Phase::Waiting { .. } => plan::Phase::Down,
            Phase::Stopping { requests_idle } => plan::Phase::Stopping { requests_idle },
        };
        View { slot: self.id, index: self.index, generation: self.generation, phase }
    }

    fn state(&self) -> InstanceState {
        match self.phase {
            Phase::Starting => InstanceState::Starting,
            Phase::Ready => InstanceState::Ready,
            Phase::Stopping { .. } => InstanceState::Draining,
            Phase::Failing | Phase::Waiting { .. } if self.crash_loop => InstanceState::CrashLoop,
            Phase::Failing | Phase::Waiting { .. } => InstanceState::Waiting,
        }
    }

    fn status(&self, target: Generation) -> InstanceStatus {
        let uptime = match self.pid {
            Some(_) => self.ran_before + clock::now().saturating_sub(self.since),
            None => Duration::ZERO,
        };
        InstanceStatus {
            name: self.name.clone(),
            pid: self.pid,
            port: self.address.map(|address| address.port()),
            state: self.state(),
            outdated: self.generation != target,
            uptime_seconds: uptime.as_secs(),
            restarts: self.restarts,
            last_exit: self.last_exit.clone(),
            says: self.says.clone(),
        }
    }
}

/// A failure with the last thing that was said about it.
fn told(why: &str, tail: &[String]) -> String {
    match tail.iter().rev().find(|line| !line.trim().is_empty()) {
        Some(last) => format!("{why}; its last words: {}", last.chars().take(300).collect::<String>()),
        None => why.to_owned(),
    }
}

fn age(created_ms: u64) -> Duration {
    let now = clock::wall().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(created_ms))
}

async fn sleep_until(moment: Option<Duration>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(clock::instant(moment)).await,
        None => std::future::pending().await,
    }
}
