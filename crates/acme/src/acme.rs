//! The component: it looks what is due, has it ordered, and hands out what it has on a watch. All decisions are in `plan`;
//! all waiting is in the loop of [`Acme::run`]; what both share stands behind one lock that is never held across an await.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use terrace_instruments::{Event, Level, Log, Meter, Timestamp};
use terrace_runtime::drain::Drain;
use terrace_runtime::{clock, random};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, Id, JoinSet};

use crate::account::Accounts;
use crate::answers::{Answers, Pair};
use crate::config::{Authority, Challenge, Config, Listener};
use crate::disk::Disk;
use crate::error::OrderError;
use crate::http::Http;
use crate::metrics::Metrics;
use crate::order::{Done, Job, since_1970};
use crate::plan::{ByHost, Moment, Plan, Shown, Task, Wanted};
use crate::renewal::{self, Round, Suggestion};
use crate::store::{Seen, Store, Stored, Unreadable};
use crate::x509::Facts;

/// How often the folder is looked through for what other machines put there.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How long a start or a reload waits for the folder.
const LOOK_AT_START: Duration = Duration::from_secs(2);
/// Orders at once.
const ORDERS_MAX: usize = 4;
/// Hosts that were asked for on demand and wait for their order.
const ASKED_MAX: usize = 1_000;
/// A certificate that may be there so soon is worth waiting for in a handshake.
const SOON: Duration = Duration::from_secs(10);
/// How long the end waits for the folder.
const REST: Duration = Duration::from_secs(1);
/// An authority is first asked for its wishes within that time after the start.
const FIRST_ROUND: Duration = Duration::from_secs(600);

/// The certificates that each listener shows, the first for who names no host.
pub type Issued = BTreeMap<String, Vec<Pair>>;

/// Why certificates cannot be issued as the file wants it.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The operator's.
    #[error("the authority's `ca`: {0}")]
    Roots(terrace_fetch::ClientError),
}

/// Looks after certificates.
#[derive(Debug)]
pub struct Acme {
    handle: Handle,
}

/// What others have to do with it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Log,
    answers: Answers,
    state: Mutex<State>,
    issued: watch::Sender<Arc<Issued>>,
    /// Something may be due.
    wake: Notify,
    /// What jitter is drawn from.
    seed: u64,
}

#[derive(Debug)]
struct State {
    config: Config,
    scene: Option<Scene>,
    seen: Seen,
    /// Issued, and not seen in the folder yet.
    fresh: Fresh,
    held: ByHost,
    plan: Plan,
    /// The hosts of orders that are being carried out.
    running: BTreeSet<Vec<String>>,
    /// The hosts of all listeners.
    ours: HashSet<String>,
    /// Asked for on demand.
    asked: BTreeSet<String>,
    /// When each host's next order begins, of those that will have one; by the monotonic clock.
    coming: HashMap<String, Duration>,
    suggestions: BTreeMap<String, Suggestion>,
    next_round: Duration,
    /// Problems of the folder that were told already.
    told: BTreeMap<String, String>,
    metrics: Metrics,
}

/// Certificates by their names, and whether they are still to be written.
type Fresh = BTreeMap<String, (Arc<Stored>, bool)>;

/// The authority, and where what it issued is kept.
#[derive(Debug, Clone)]
struct Scene {
    authority: Arc<Authority>,
    accounts: Accounts,
}

impl Scene {
    fn disk(&self) -> &Disk {
        &self.accounts.disk
    }
}

/// A configuration that can be taken into use, with what the folder holds for it.
#[derive(Debug)]
pub struct Prepared {
    config: Config,
    scene: Option<Scene>,
    seen: Seen,
    /// What the listeners can show at once.
    pub issued: Issued,
}

/// What a task of the loop brings.
#[derive(Debug)]
enum Work {
    Order {
        job: Box<Job>,
        result: Result<Done, OrderError>,
    },
    Round(Round),
    /// The folder was looked through.
    Look,
}

/// The tasks of the loop, with the hosts of each order: a task that panicked can say nothing any more.
#[derive(Debug, Default)]
struct Tasks {
    set: JoinSet<Work>,
    orders: HashMap<Id, Begun>,
    /// The task that looks through the folder.
    looking: Option<Id>,
}

/// An order that is being carried out.
#[derive(Debug)]
struct Begun {
    hosts: Vec<String>,
    authority: Arc<Authority>,
    task: AbortHandle,
}

impl Tasks {
    /// The next one that ends: the hosts of its order, if it was one, and what it brought.
    async fn next(&mut self) -> Option<(Option<Vec<String>>, Option<Work>)> {
        let ended = self.set.join_next_with_id().await?;
        let (id, was_given_up) = match &ended {
            Ok((id, _)) => (*id, false),
            Err(error) => (error.id(), error.is_cancelled()),
        };
        self.looking = self.looking.filter(|looking| *looking != id);
        let order = self.orders.remove(&id).filter(|_| !was_given_up);
        Some((order.map(|order| order.hosts), ended.ok().map(|(_, work)| work)))
    }

    /// Gives up the orders of another authority: nobody waits for them any more.
    fn give_up_others(&self, authority: &Arc<Authority>) {
        for order in self.orders.values().filter(|order| !Arc::ptr_eq(&order.authority, authority)) {
            order.task.abort();
        }
    }
}

impl Acme {
    /// A component that looks after nothing until [`Handle::apply`].
    #[must_use]
    pub fn build(meter: &Meter, log: &Log) -> Self {
        let state = State {
            config: Config::default(),
            scene: None,
            seen: Seen::new(),
            fresh: Fresh::new(),
            held: ByHost::new(),
            plan: Plan::default(),
            running: BTreeSet::new(),
            ours: HashSet::new(),
            asked: BTreeSet::new(),
            coming: HashMap::new(),
            suggestions: BTreeMap::new(),
            next_round: Duration::ZERO,
            told: BTreeMap::new(),
            metrics: Metrics::new(meter),
        };
        let shared = Shared {
            log: log.clone(),
            answers: Answers::default(),
            state: Mutex::new(state),
            issued: watch::Sender::new(Arc::default()),
            wake: Notify::new(),
            seed: random::u64(),
        };
        Self { handle: Handle(Arc::new(shared)) }
    }

    /// For those who talk to it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Orders and renews until asked to stop. Orders that are under way are given up then; the authority keeps them, and
    /// the next start goes on from there.
    pub async fn run(self, mut drain: Drain) {
        let shared = &self.handle.0;
        let mut tasks = Tasks::default();
        let mut look_at = Duration::ZERO;
        loop {
            if clock::now() >= look_at && tasks.looking.is_none() {
                // Not awaited here: the folder may hang, and orders go on without it.
                let looking = Arc::clone(shared);
                let task = tasks.set.spawn(async move {
                    looking.look().await;
                    Work::Look
                });
                tasks.looking = Some(task.id());
                look_at = clock::now() + LOOK_EVERY;
            }
            let next = shared.begin_what_is_due(&mut tasks);
            let pause = next.min(look_at.saturating_sub(clock::now()));
            tokio::select! {
                () = drain.requested() => break,
                () = shared.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
                Some((hosts, work)) = tasks.next() => {
                    if shared.settle(hosts, work) {
                        look_at = Duration::ZERO;
                    }
                }
            }
        }
        tasks.set.shutdown().await;
        let scene = shared.state().scene.clone();
        if let Some(scene) = scene {
            // Locks and answers are taken back, so that no other machine has to wait for our silence.
            scene.disk().rest(REST).await;
        }
    }
}

impl Handle {
    /// Finds out whether a configuration can be used, and what the folder holds for it. Changes nothing. A folder that does
    /// not answer within two seconds is taken for empty; it is looked into again later.
    ///
    /// # Errors
    /// [`BuildError`], the operator's to mend.
    pub async fn prepare(&self, config: Config) -> Result<Prepared, BuildError> {
        let Some(authority) = &config.authority else {
            return Ok(Prepared { config, scene: None, seen: Seen::new(), issued: Issued::new() });
        };
        Http::new(authority).map_err(BuildError::Roots)?;
        let (scene, seen, fresh) = {
            let state = self.0.state();
            match &state.scene {
                Some(scene) if *scene.authority == *authority => {
                    (scene.clone(), state.seen.clone(), state.fresh.clone())
                }
                _ => (self.0.scene(authority), Seen::new(), Fresh::new()),
            }
        };
        let disk = scene.disk().clone();
        let before = seen.clone();
        let looked = disk.run(move |store| store.look(&before));
        let seen = match tokio::time::timeout(LOOK_AT_START, looked).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) | Err(_) => seen,
        };
        let held = self.0.best(&config, &seen, &fresh, &BTreeMap::new());
        let issued = issued(&config.listeners, &held);
        Ok(Prepared { config, scene: Some(scene), seen, issued })
    }

    /// Takes a configuration into use.
    pub fn apply(&self, prepared: Prepared) {
        let Prepared { config, scene, seen, issued: _ } = prepared;
        {
            let mut state = self.0.state();
            let is_same = match (&state.scene, &scene) {
                (Some(now), Some(next)) => Arc::ptr_eq(&now.authority, &next.authority),
                _ => false,
            };
            if !is_same {
                state.plan = Plan::default();
                state.fresh.clear();
                state.suggestions.clear();
                state.running.clear();
                state.next_round = clock::now() + FIRST_ROUND.mul_f64(share());
            }
            self.0.answers.look_in(scene.as_ref().map(|scene| scene.disk().clone()));
            state.plan.forget_others(&config.listeners);
            state.plan.hurry(clock::now());
            let ours: HashSet<String> =
                config.listeners.iter().flat_map(|listener| &listener.hosts).cloned().collect();
            state.asked.retain(|host| ours.contains(host));
            state.ours = ours;
            state.config = config;
            state.scene = scene;
            if !is_same {
                state.seen = seen;
            }
        }
        self.0.fold();
        self.0.wake.notify_one();
    }

    /// What each listener shows, from now on.
    #[must_use]
    pub fn issued(&self) -> watch::Receiver<Arc<Issued>> {
        self.0.issued.subscribe()
    }

    /// What an authority is told that asks for this token (RFC 8555 section 8.3).
    pub async fn http_answer(&self, token: &str) -> Option<String> {
        self.0.answers.http(token).await
    }

    /// The certificate that an authority is shown that asks for this host (RFC 8737 section 3).
    pub async fn tls_answer(&self, host: &str) -> Option<Pair> {
        self.0.answers.tls(host).await
    }

    /// Told of a client that asks for this host (in lower case), which has no certificate. Whether one may be there within
    /// seconds. On demand this is what orders it.
    #[must_use]
    pub fn is_coming(&self, host: &str) -> bool {
        let now = clock::now();
        let mut state = self.0.state();
        if !state.ours.contains(host) {
            return false;
        }
        let is_under_way = state.running.iter().any(|hosts| hosts.iter().any(|one| one == host));
        let begins_soon = state.coming.get(host).is_some_and(|at| at.saturating_sub(now) <= SOON);
        if state.held.contains_key(host) || is_under_way || begins_soon {
            return true;
        }
        let is_on_demand = state.config.authority.as_ref().is_some_and(|authority| authority.on_demand);
        let has_room = state.asked.len() < ASKED_MAX;
        if !is_on_demand || !has_room || state.plan.trouble_of(host, now) > SOON {
            return false;
        }
        state.asked.insert(host.to_owned());
        drop(state);
        self.0.wake.notify_one();
        true
    }
}

impl State {
    /// All orders that will be due, and notes when each host's begins.
    fn foresee(&mut self, scene: &Scene, at: Moment) -> Vec<Task> {
        let tasks = self.plan.tasks(wanted(&self.config, scene, &self.asked), &self.held, at);
        let begins = |task: &Task| {
            let at = at.now + task.wait;
            task.hosts.iter().map(move |host| (host.clone(), at)).collect::<Vec<_>>()
        };
        self.coming = tasks.iter().flat_map(begins).collect();
        tasks
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scene(&self, authority: &Authority) -> Scene {
        let store = Store::new(&authority.folder, &authority.directory);
        let disk = Disk::new(store);
        Scene { authority: Arc::new(authority.clone()), accounts: Accounts::new(disk, self.log.clone()) }
    }

    /// Looks through the folder, and writes what could not be written before.
    async fn look(&self) {
        let (scene, before, fresh) = {
            let state = self.state();
            state.metrics.tick(since_1970());
            let Some(scene) = state.scene.clone() else { return };
            (scene, state.seen.clone(), state.fresh.clone())
        };
        for (stored, _) in fresh.into_values().filter(|(_, is_unsaved)| *is_unsaved) {
            if let Err(error) = scene.disk().run(move |store| store.save(&stored)).await {
                self.tell_of_folder(&scene, &error);
                break;
            }
        }
        let looked = scene.disk().run(move |store| store.look(&before)).await;
        let is_current = |state: &State| {
            state.scene.as_ref().is_some_and(|now| Arc::ptr_eq(&now.authority, &scene.authority))
        };
        match looked {
            Ok(seen) => {
                let mut state = self.state();
                if !is_current(&state) {
                    return;
                }
                state.told.remove("");
                state.fresh.retain(|name, (stored, _)| {
                    let found = seen.get(name).and_then(|(_, found)| found.as_ref().ok());
                    found.is_none_or(|found| found.facts.not_before < stored.facts.not_before)
                });
                self.tell_of_unreadable(&mut state, &seen, scene.disk());
                state.seen = seen;
            }
            Err(error) => self.tell_of_folder(&scene, &error),
        }
        self.fold();
    }

    /// Works out anew which certificate is each host's best, and hands them out.
    fn fold(&self) {
        let mut state = self.state();
        state.held = self.best(&state.config, &state.seen, &state.fresh, &state.suggestions);
        let shown = shown_until(&state.config, &state.held);
        state.metrics.set_shown(shown);
        state.metrics.tick(since_1970());
        if let Some(scene) = state.scene.clone() {
            let _begun_elsewhere = state.foresee(&scene, moment());
        }
        let issued = issued(&state.config.listeners, &state.held);
        drop(state);
        self.issued.send_if_modified(|before| {
            let is_other = **before != issued;
            if is_other {
                *before = Arc::new(issued);
            }
            is_other
        });
    }

    /// The certificate of each host that is shown.
    fn best(
        &self,
        config: &Config,
        seen: &Seen,
        fresh: &Fresh,
        suggestions: &BTreeMap<String, Suggestion>,
    ) -> ByHost {
        let Some(authority) = &config.authority else { return ByHost::new() };
        let wanted: BTreeSet<&String> =
            config.listeners.iter().flat_map(|listener| &listener.hosts).collect();
        let mut held = ByHost::new();
        let wall = since_1970();
        let found = seen.values().filter_map(|(_, found)| found.as_ref().ok());
        for stored in found.chain(fresh.values().map(|(stored, _)| stored)) {
            let suggestion =
                renewal::identifier(&stored.facts).and_then(|name| suggestions.get(&name).copied());
            let due_at =
                renewal::due_at(&stored.facts, authority.renew_before, suggestion, self.jitter(stored));
            for host in stored.hosts.iter().filter(|host| wanted.contains(host)) {
                let is_better =
                    |now: &Shown| renewal::rank(&now.stored.facts, wall) < renewal::rank(&stored.facts, wall);
                if held.get(host).is_none_or(is_better) {
                    held.insert(host.clone(), Shown { stored: Arc::clone(stored), due_at });
                }
            }
        }
        held
    }

    /// A certificate's own, 0 to 1: the same for as long as the process lives, another on each machine.
    fn jitter(&self, stored: &Stored) -> f64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, stored.fingerprint()).hash(&mut hasher);
        (hasher.finish() % 1_000) as f64 / 1_000.0
    }

    /// Begins what is due, as far as there is room; how long until there is more.
    fn begin_what_is_due(&self, tasks: &mut Tasks) -> Duration {
        let mut state = self.state();
        let Some(scene) = state.scene.clone() else { return LOOK_EVERY };
        let at = moment();
        tasks.give_up_others(&scene.authority);
        let all = state.foresee(&scene, at);
        let mut next = LOOK_EVERY;
        for task in all {
            let is_running = state.running.contains(&task.hosts);
            let has_room = tasks.orders.len() < ORDERS_MAX;
            if is_running || !task.wait.is_zero() || !has_room {
                // Without room there is some when an order has ended.
                next = if is_running || !has_room { next } else { next.min(task.wait) };
                continue;
            }
            let ways = &scene.authority.challenges;
            let way =
                ways.get(task.failures as usize % ways.len().max(1)).copied().unwrap_or(Challenge::Http01);
            let job = self.job(&state, &scene, task.hosts.clone(), way);
            state.running.insert(task.hosts.clone());
            let begun = tasks.set.spawn(async move {
                let result = job.clone().run().await;
                Work::Order { job: Box::new(job), result }
            });
            let authority = Arc::clone(&scene.authority);
            tasks.orders.insert(begun.id(), Begun { hosts: task.hosts, authority, task: begun });
        }
        self.begin_round(&mut state, &scene, tasks, at);
        next
    }

    fn job(&self, state: &State, scene: &Scene, hosts: Vec<String>, challenge: Challenge) -> Job {
        let held: Vec<&Shown> = hosts.iter().filter_map(|host| state.held.get(host)).collect();
        let known = held.iter().map(|shown| shown.stored.fingerprint()).collect();
        // Only an authority that has spoken of a certificate knows what it is to replace it.
        let is_spoken_of = |shown: &&&Shown| {
            let identifier = renewal::identifier(&shown.stored.facts);
            identifier.is_some_and(|name| state.suggestions.contains_key(&name))
        };
        let replaces = held.iter().find(is_spoken_of).map(|shown| Arc::clone(&shown.stored));
        self.log.emit(
            Event::new(Level::Info, "acme.order_begun")
                .field("hosts", hosts.join(", "))
                .field("challenge", challenge.as_str()),
        );
        Job {
            authority: Arc::clone(&scene.authority),
            accounts: scene.accounts.clone(),
            answers: self.answers.clone(),
            log: self.log.clone(),
            hosts,
            challenge,
            known,
            replaces,
        }
    }

    /// Asks the authority when it wants its certificates to be renewed, when it is time for that.
    fn begin_round(&self, state: &mut State, scene: &Scene, tasks: &mut Tasks, at: Moment) {
        if at.now < state.next_round {
            return;
        }
        let identifiers: BTreeSet<String> =
            state.held.values().filter_map(|shown| renewal::identifier(&shown.stored.facts)).collect();
        // Set again by what the round brings.
        state.next_round = at.now + FIRST_ROUND;
        let Ok(http) = Http::new(&scene.authority) else { return };
        if identifiers.is_empty() {
            return;
        }
        let directory = scene.authority.directory.clone();
        tasks.set.spawn(async move {
            Work::Round(renewal::ask(&http, &directory, identifiers.into_iter().collect()).await)
        });
    }

    /// Takes what a task brought; whether the folder should be looked through.
    fn settle(&self, hosts: Option<Vec<String>>, work: Option<Work>) -> bool {
        match (hosts, work) {
            (_, Some(Work::Round(round))) => {
                self.settle_round(round);
                false
            }
            (_, Some(Work::Look)) => false,
            (_, Some(Work::Order { job, result })) => self.settle_order(&job, result),
            (Some(hosts), None) => {
                let error = OrderError::Useless("the order ended by a fault in Terrace itself".to_owned());
                self.fail(&hosts, &error);
                false
            }
            (None, None) => false,
        }
    }

    fn settle_round(&self, round: Round) {
        let mut state = self.state();
        state.next_round = clock::now() + round.again;
        state.suggestions.extend(round.suggestions);
        let held: BTreeSet<String> =
            state.held.values().filter_map(|shown| renewal::identifier(&shown.stored.facts)).collect();
        state.suggestions.retain(|identifier, _| held.contains(identifier));
        drop(state);
        if let Some(problem) = round.problem {
            let event = Event::new(Level::Debug, "acme.renewal_info").field("problem", problem);
            self.log.emit(event.message("renewed as the file says, not as the authority suggests"));
        }
        self.fold();
    }

    fn settle_order(&self, job: &Job, result: Result<Done, OrderError>) -> bool {
        let mut state = self.state();
        let is_current =
            state.scene.as_ref().is_some_and(|scene| Arc::ptr_eq(&scene.authority, &job.authority));
        if !is_current {
            // What was ordered of another authority is nobody's any more.
            return false;
        }
        state.running.remove(&job.hosts);
        for host in &job.hosts {
            state.asked.remove(host);
        }
        let outcome = match &result {
            Ok(Done::Issued { .. }) => "issued",
            Ok(Done::Found) => "found",
            Err(error) => error.outcome(),
        };
        state.metrics.orders(outcome).inc();
        match result {
            Ok(Done::Issued { stored, unsaved }) => {
                state.fresh.insert(stored.name.clone(), (Arc::clone(&stored), unsaved.is_some()));
                drop(state);
                self.tell_of_issue(job, &stored, unsaved);
                self.fold();
                let mut state = self.state();
                if let Some(shown) = job.hosts.first().and_then(|host| state.held.get(host).cloned()) {
                    state.plan.succeeded(&job.hosts, &shown, moment());
                }
                true
            }
            Ok(Done::Found) => {
                state.plan.found(&job.hosts, moment());
                true
            }
            Err(error) => {
                drop(state);
                self.fail(&job.hosts, &error);
                false
            }
        }
    }

    fn fail(&self, hosts: &[String], error: &OrderError) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.running.remove(hosts);
        let Some(scene) = &state.scene else { return };
        let at = moment();
        let wanted = wanted(&state.config, scene, &state.asked);
        let wait = state.plan.failed(hosts, error, wanted, at, share());
        let held = hosts.iter().map(|host| state.held.get(host));
        // How long the worst off can still be served.
        let left =
            held.map(|shown| shown.map_or(Duration::ZERO, |shown| left_of(&shown.stored.facts, at.wall)));
        let left = left.min().unwrap_or_default();
        let is_grave = hosts
            .iter()
            .any(|host| state.held.get(host).is_none_or(|shown| left < shown.stored.facts.lifetime() / 10));
        drop(guard);
        let level = if is_grave { Level::Error } else { Level::Warn };
        let event = Event::new(level, "acme.order_failed")
            .field("hosts", hosts.join(", "))
            .field("outcome", error.outcome())
            .field("problem", error.to_string())
            .field("again_in_seconds", wait)
            .field("served_for_seconds", left);
        self.log.emit(event.message(match left.is_zero() {
            true => "there is no certificate for at least one of these hosts",
            false => "the certificate that is there is served on",
        }));
    }

    fn tell_of_issue(&self, job: &Job, stored: &Stored, unsaved: Option<String>) {
        let mut stamp = Timestamp::default();
        let until = stamp.format(SystemTime::UNIX_EPOCH + stored.facts.not_after).to_owned();
        self.log.emit(
            Event::new(Level::Info, "acme.certificate_issued")
                .field("hosts", job.hosts.join(", "))
                .field("challenge", job.challenge.as_str())
                .field("until", until),
        );
        if let Some(problem) = unsaved {
            let folder = job.accounts.disk.store.root().display().to_string();
            let event =
                Event::new(Level::Error, "acme.folder").field("problem", problem).field("folder", folder);
            self.log.emit(
                event.message("the certificate is served from memory; it is written when that can be done"),
            );
        }
    }

    /// A problem of the folder is told when it begins, and when it is another one.
    fn tell_of_folder(&self, scene: &Scene, error: &std::io::Error) {
        let problem = error.to_string();
        if self.state().told.insert(String::new(), problem.clone()).as_ref() == Some(&problem) {
            return;
        }
        let folder = scene.disk().store.root().display().to_string();
        let event = Event::new(Level::Error, "acme.folder").field("problem", problem).field("folder", folder);
        self.log.emit(event.message("certificates cannot be read or kept; what is served is served on"));
    }

    fn tell_of_unreadable(&self, state: &mut State, seen: &Seen, disk: &Disk) {
        let unreadable: BTreeMap<String, &Unreadable> = seen
            .iter()
            .filter_map(|(name, (_, found))| Some((name.clone(), found.as_ref().err()?)))
            .collect();
        state.told.retain(|name, _| name.is_empty() || unreadable.contains_key(name));
        for (name, why) in unreadable {
            let why = why.to_string();
            if state.told.insert(name.clone(), why.clone()).as_ref() == Some(&why) {
                continue;
            }
            let file = disk.store.root().join("certificates").join(format!("{name}.pem"));
            let event = Event::new(Level::Warn, "acme.certificate_unreadable")
                .field("file", file.display().to_string());
            self.log.emit(
                event.field("problem", why).message("it is passed over; another is ordered where one is due"),
            );
        }
    }
}

fn wanted<'a>(config: &'a Config, scene: &Scene, asked: &'a BTreeSet<String>) -> Wanted<'a> {
    Wanted {
        listeners: &config.listeners,
        on_demand: scene.authority.on_demand,
        asked,
        ways: u32::try_from(scene.authority.challenges.len()).unwrap_or(1),
    }
}

fn moment() -> Moment {
    Moment { now: clock::now(), wall: since_1970() }
}

/// At random from 0 to 1.
fn share() -> f64 {
    (random::u64() % 1_000) as f64 / 1_000.0
}

fn left_of(facts: &Facts, wall: Duration) -> Duration {
    facts.not_after.saturating_sub(wall)
}

/// What each listener shows: every certificate that is the best of one of its hosts, once.
fn issued(listeners: &[Listener], held: &ByHost) -> Issued {
    let pairs = |listener: &Listener| {
        let mut names = BTreeSet::new();
        let shown = listener.hosts.iter().filter_map(|host| held.get(host));
        let distinct = shown.filter(|shown| names.insert(shown.stored.name.clone()));
        distinct.map(|shown| Pair { pem: shown.stored.pem.0.clone() }).collect::<Vec<_>>()
    };
    listeners.iter().map(|listener| (listener.name.clone(), pairs(listener))).collect()
}

/// Listener, host, and until when, of all certificates that are shown.
fn shown_until(config: &Config, held: &ByHost) -> Vec<(String, String, Duration)> {
    let mut shown = Vec::new();
    for listener in &config.listeners {
        for host in &listener.hosts {
            if let Some(found) = held.get(host) {
                shown.push((listener.name.clone(), host.clone(), found.stored.facts.not_after));
            }
        }
    }
    for foreign in &config.foreign {
        let Ok(der) = CertificateDer::from_pem_slice(&foreign.certificates_pem) else { continue };
        let (Some(facts), Ok(own)) = (Facts::read(&der), webpki::EndEntityCert::try_from(&der)) else {
            continue;
        };
        let hosts =
            own.valid_dns_names().map(|host| (foreign.listener.clone(), host.to_owned(), facts.not_after));
        shown.extend(hosts);
    }
    shown
}
