//! Objectives and alerts of a running Terrace: the engine of `signals` is shown each second's numbers, what it knows is
//! kept on disk, and whom it wants told is told.
//!
//! What is decided is on disk before anybody hears of it, so that after kill -9 nobody is told twice and nobody is
//! forgotten. Telling is slow and fails; it happens in tasks of its own, one message each, so that a receiver that
//! hangs delays neither the others nor the second's tick.

mod body;
mod command;
mod deliver;
mod keep;
mod mail;
mod ways;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use terrace_instruments::{Event, FamilySnapshot, Kind, Level, Log, Meter};
use terrace_runtime::clock;
use terrace_runtime::drain::Drain;
use terrace_signals::alerts::{
    AlertState, AlertView, Change, Engine, Notification, ObjectiveView, Route, Rules, Saved, Severity, Sight,
    SilenceView, Subject, span,
};
use terrace_signals::series::{Chart, Query};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::config::{Config, Receiver};
use crate::exposition::{Exposition, labels};
use terrace_fetch::Client;

/// Without anything happening, state is written that often: so much of a budget's spending a crash forgets at most.
const SAVE_EVERY: Duration = Duration::from_secs(30);
/// … but large states more seldom, so that the disk sees at most this much a second on average.
const SAVE_BYTES_PER_SECOND: u64 = 64 << 10;
/// A disk that takes longer keeps nobody waiting who is to be called.
const SAVE_PATIENCE: Duration = Duration::from_secs(5);

/// So long the end waits for messages under way.
const PARTING: Duration = Duration::from_secs(1);

/// Speaks to the engine. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Alerts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    core: Mutex<Core>,
    config: watch::Receiver<Arc<Config>>,
    log: Log,
    meter: Meter,
    client: Client,
    /// Something is owed.
    wake: Notify,
    written: watch::Sender<Written>,
}

/// How far the state is on disk, by the numbers of what was owed.
#[derive(Debug, Clone, Copy, Default)]
struct Written {
    /// The last that was tried.
    tried: u64,
    /// The last that is there.
    kept: u64,
}

#[derive(Debug)]
struct Core {
    engine: Engine,
    /// The file of which the engine has the rules.
    configured: Arc<Config>,
    path: Option<PathBuf>,
    /// Something happened that must not be forgotten.
    has_news: bool,
    saved_at: Duration,
    save_every: Duration,
    /// Savings owed so far.
    saves: u64,
    owed: Owed,
}

/// What the tick leaves to do.
#[derive(Debug, Default)]
struct Owed {
    /// With its number.
    saved: Option<(u64, Saved)>,
    messages: Vec<Notification>,
}

/// Writes the state, one writing at a time.
#[derive(Default)]
struct Keeper {
    /// One that takes longer than anybody waits.
    writing: Option<JoinHandle<()>>,
}

impl Alerts {
    /// Goes on where the state on disk stands. What cannot be read is set aside, with an event.
    pub(crate) fn new(config: watch::Receiver<Arc<Config>>, log: Log, meter: Meter) -> Self {
        let configured = Arc::clone(&config.borrow());
        let path = configured.state.as_deref().map(keep::path);
        let saved = path.as_deref().and_then(|path| load(path, &log));
        let (now, rules) = (clock::now(), rules(&configured));
        let engine = match saved {
            Some(saved) => Engine::restore(rules, saved, now, clock::wall()),
            None => Engine::new(rules, now),
        };
        let core = Core {
            engine,
            configured,
            path,
            has_news: false,
            saved_at: now,
            save_every: SAVE_EVERY,
            saves: 0,
            owed: Owed::default(),
        };
        let (core, client, wake) = (Mutex::new(core), Client::new(), Notify::new());
        let written = watch::Sender::new(Written::default());
        Self(Arc::new(Inner { core, config, log, meter, client, wake, written }))
    }

    /// Shows the engine what there is to see; what follows is done elsewhere.
    pub(crate) fn tick(
        &self,
        now: Duration,
        own: &[FamilySnapshot],
        ask: &dyn Fn(&Query) -> Chart,
        unusual: &dyn Fn() -> Vec<String>,
    ) {
        let config = self.config();
        let mut core = self.core();
        if !Arc::ptr_eq(&core.configured, &config) {
            core.engine.configure(rules(&config), now);
            core.path = config.state.as_deref().map(keep::path);
            core.configured = config;
        }
        let wall = clock::wall();
        let ticked = core.engine.tick(now, wall, &Sight { own, ask, unusual });
        core.has_news |= !ticked.changes.is_empty() || !ticked.notifications.is_empty();
        core.owed.messages.extend(ticked.notifications);
        let is_due = now >= core.saved_at.saturating_add(core.save_every);
        if core.has_news || is_due {
            core.owe_save(now, wall);
            self.0.wake.notify_one();
        }
        drop(core);
        for change in &ticked.changes {
            self.0.log.emit(event_of(change));
        }
    }

    /// Keeps and tells what the ticks leave to do, until `drain` is asked for.
    pub(crate) async fn run(self, mut drain: Drain) {
        let mut keeper = Keeper::default();
        let mut post = deliver::Post::new(self.clone());
        loop {
            tokio::select! {
                () = drain.requested() => break,
                () = self.0.wake.notified() => {}
            }
            let owed = std::mem::take(&mut self.core().owed);
            if let Some(saved) = owed.saved {
                keeper.keep(&self, saved).await;
            }
            for message in owed.messages {
                post.hand_out(message);
            }
        }
        post.finish(PARTING).await;
        // Messages that are still under way are in it, and are sent again by whoever comes next.
        let last = self.core().save(clock::wall());
        keeper.keep(&self, last).await;
    }

    /// Takes note of what became of a message.
    fn settled(&self, message: &Notification, arrived: bool) {
        let mut core = self.core();
        core.engine.settled(clock::now(), message.id, arrived);
        core.has_news = true;
    }

    fn receiver(&self, name: &str) -> Option<Receiver> {
        self.0.config.borrow().receivers.iter().find(|receiver| receiver.name == name).cloned()
    }

    /// Tells one receiver, or all, that this is a test; once, and says what came of it. Of one that the file does not
    /// have there is nothing to say.
    pub(crate) async fn test(&self, name: Option<&str>) -> Vec<(String, Result<(), String>)> {
        let config = self.config();
        let wanted = |receiver: &&Receiver| name.is_none_or(|name| receiver.name == name);
        let mut attempts = JoinSet::new();
        for receiver in config.receivers.iter().filter(wanted).cloned() {
            let client = self.0.client.clone();
            attempts.spawn(async move {
                let message = body::test(&receiver.name, clock::wall());
                let told = ways::tell(&client, &receiver, &message).await;
                (receiver.name, told.map_err(|refusal| refusal.reason))
            });
        }
        let mut results = attempts.join_all().await;
        results.sort_by(|a, b| a.0.cmp(&b.0));
        results
    }

    pub(crate) fn alerts(&self) -> Vec<AlertView> {
        self.core().engine.alerts(clock::wall())
    }

    pub(crate) fn objectives(&self) -> Vec<ObjectiveView> {
        self.core().engine.objectives()
    }

    pub(crate) fn silences(&self) -> Vec<SilenceView> {
        self.core().engine.silences(clock::wall())
    }

    /// Begins a silence, and says whether it is on disk.
    pub(crate) async fn silence(
        &self,
        target: &str,
        lasts: Duration,
        about: (&str, &str),
    ) -> Result<(SilenceView, bool), String> {
        let (now, wall) = (clock::now(), clock::wall());
        let silence = self.core().engine.silence((now, wall), target, lasts, about)?;
        Ok((silence, self.keep_now().await))
    }

    /// Ends a silence, and says whether that is on disk; `None`: there was no such silence.
    pub(crate) async fn unsilence(&self, id: &str) -> Option<bool> {
        let was_there = self.core().engine.unsilence(id);
        if was_there { Some(self.keep_now().await) } else { None }
    }

    /// Waits until all that is known by now is on disk, not for ever; says whether it is.
    async fn keep_now(&self) -> bool {
        let number = {
            let mut core = self.core();
            core.owe_save(clock::now(), clock::wall());
            core.saves
        };
        self.0.wake.notify_one();
        let mut written = self.0.written.subscribe();
        // One that is being written is waited for first.
        let tried =
            tokio::time::timeout(2 * SAVE_PATIENCE, written.wait_for(|so_far| so_far.tried >= number));
        matches!(tried.await, Ok(Ok(so_far)) if so_far.kept >= number)
    }

    /// Adds what objectives and alerts are by now, as metrics.
    pub(crate) fn render(&self, out: &mut Exposition) {
        let alerts = self.alerts();
        out.family("terrace_alerts_firing", "Alerts that fire, by severity.", "", Kind::Gauge);
        for severity in [Severity::Info, Severity::Ticket, Severity::Page] {
            let fires = |alert: &&AlertView| alert.severity == severity && alert.state == AlertState::Firing;
            out.gauge(&labels(&["severity"], &[severity.as_str()]), alerts.iter().filter(fires).count());
        }
        render_objectives(out, &self.objectives());
        out.family(
            "terrace_alerts_refused",
            "Alerts that were one too many and not raised.",
            "",
            Kind::Counter,
        );
        out.counter("", self.core().engine.refused());
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.0.config.borrow())
    }

    /// Nothing in it is left half-done by a panic that would make it worse to go on than to stop.
    fn core(&self) -> MutexGuard<'_, Core> {
        self.0.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    fn owe_save(&mut self, now: Duration, wall: SystemTime) {
        self.owed.saved = Some(self.save(wall));
        (self.has_news, self.saved_at) = (false, now);
    }

    fn save(&mut self, wall: SystemTime) -> (u64, Saved) {
        self.saves += 1;
        (self.saves, self.engine.save(wall))
    }
}

impl Keeper {
    /// Writes the state; a disk that hangs is waited for a moment only, and then left to finish.
    async fn keep(&mut self, alerts: &Alerts, (number, saved): (u64, Saved)) {
        let path = alerts.core().path.clone();
        let is_free = match self.writing.take() {
            Some(earlier) => self.wait(earlier).await,
            None => true,
        };
        let is_kept = match path {
            Some(path) if is_free => {
                let writing = tokio::task::spawn_blocking(Self::job(alerts.clone(), path, (number, saved)));
                self.wait(writing).await
            }
            Some(_) => false,
            None => return alerts.0.written.send_modify(|written| written.tried = number),
        };
        if !is_kept {
            alerts.0.log.emit(
                Event::new(Level::Warn, "alert.state_unwritten")
                    .message("the disk takes long to keep the state of alerts; they are told all the same"),
            );
        }
    }

    /// Whether a writing ended; one that takes too long goes on by itself.
    async fn wait(&mut self, mut writing: JoinHandle<()>) -> bool {
        let has_ended = tokio::time::timeout(SAVE_PATIENCE, &mut writing).await.is_ok();
        if !has_ended {
            self.writing = Some(writing);
        }
        has_ended
    }

    fn job(alerts: Alerts, path: PathBuf, (number, saved): (u64, Saved)) -> impl FnOnce() {
        move || {
            let json = saved.to_json();
            let is_kept = match keep::write(&path, &json) {
                Ok(()) => true,
                Err(error) => {
                    let event = Event::new(Level::Warn, "alert.state_unwritten")
                        .message(
                            "the state of objectives and alerts cannot be kept; a restart will forget it",
                        )
                        .field("path", path.display().to_string())
                        .field("error", error.to_string());
                    alerts.0.log.emit(event);
                    false
                }
            };
            let seconds = json.len() as u64 / SAVE_BYTES_PER_SECOND;
            alerts.core().save_every = SAVE_EVERY.max(Duration::from_secs(seconds));
            alerts.0.written.send_modify(|written| {
                written.tried = number;
                written.kept = if is_kept { number } else { written.kept };
            });
        }
    }
}

fn load(path: &Path, log: &Log) -> Option<Saved> {
    match keep::load(path) {
        Ok(saved) => saved,
        Err(error) => {
            log.emit(
                Event::new(Level::Error, "alert.state_set_aside")
                    .message("the state of objectives and alerts cannot be read and is put aside; budgets begin anew")
                    .field("path", path.display().to_string())
                    .field("error", error.to_string()),
            );
            None
        }
    }
}

fn rules(config: &Config) -> Rules {
    let route = |receiver: &Receiver| Route {
        receiver: receiver.name.clone(),
        severity_min: receiver.severity_min,
        resolved: receiver.resolved,
        group_wait: receiver.group_wait,
        repeat: receiver.repeat,
    };
    Rules {
        objectives: config.objectives.clone(),
        thresholds: config.thresholds.clone(),
        routes: config.receivers.iter().map(route).collect(),
    }
}

fn event_of(change: &Change) -> Event {
    let alert = &change.alert;
    let (name, level) = match (alert.state, alert.severity) {
        (AlertState::Resolved, _) => ("alert.resolved", Level::Info),
        (_, Severity::Info) => ("alert.firing", Level::Info),
        (_, Severity::Ticket | Severity::Page) => ("alert.firing", Level::Warn),
    };
    let mut event = Event::new(level, name)
        .message(alert.summary.clone())
        .field("alert", &alert.name)
        .field("id", &alert.id)
        .field("detail", &alert.detail)
        .field("severity", alert.severity.as_str())
        .field("value", alert.value);
    match &alert.subject {
        Some(Subject::Route(route)) => event = event.field("route", route),
        Some(Subject::Service(service)) => event = event.service(service),
        None => {}
    }
    event
}

fn render_objectives(out: &mut Exposition, objectives: &[ObjectiveView]) {
    let help = "Share of the error budget that is left over its window; negative when overspent.";
    out.family("terrace_objective_budget_left_ratio", help, "ratio", Kind::Gauge);
    for view in objectives {
        out.gauge(&labels(&["objective", "kind"], &[&view.name, view.kind]), view.budget_left);
    }
    let help = "How many times faster than allowed the error budget is spent, by window.";
    out.family("terrace_objective_burn_rate", help, "", Kind::Gauge);
    for view in objectives {
        for (window, rate) in &view.burn {
            let window = span(*window);
            out.gauge(&labels(&["objective", "kind", "window"], &[&view.name, view.kind, &window]), rate);
        }
    }
}
