//! All limits by name. What they have counted lives here and not in a configuration, so it survives a reload: the same name
//! goes on with what was used, under whatever law it has now. A change is first prepared, which changes nothing, and then
//! committed, when all else of the new configuration was accepted.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use terrace_instruments::{Log, Meter};
use terrace_policy::limit::{Key, KeySeed, Law, Limiter};
use terrace_runtime::drain::Drain;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::engine::{self, Engine as Way};
use crate::keys::KeyLimits;
use crate::limit::{Backing, Limit, Target, now};
use crate::metrics::{EngineMetrics, LimitMetrics, quota_failures};
use crate::quotas::{LimitId, Quotas};
use crate::scripts::Spelled;
use crate::url::RedisUrl;

/// How often gauges are set.
const LOOK: Duration = Duration::from_secs(5);

/// What limits are told when they are built.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where quotas are kept; they live in memory alone without one.
    pub folder: Option<PathBuf>,
    /// How long Redis has for an answer.
    pub answer_within: Duration,
    /// How often a machine tells Redis that it is there, at least each 15 s: Redis forgets it after 30.
    pub pulse: Duration,
}

impl Default for Config {
    /// No folder, 50 ms, and 10 s.
    fn default() -> Self {
        Self { folder: None, answer_within: Duration::from_millis(50), pulse: Duration::from_secs(10) }
    }
}

/// Why limits could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The folder cannot be used: the operator's to put right.
    #[error("the quotas in {folder} cannot be read: {error}; it must be a folder that this user may write")]
    Quotas {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Where a limit is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// In memory; a quota also in the state folder.
    Embedded,
    /// In a Redis that others ask too. Concurrency and leaky buckets are counted in memory all the same.
    Redis(RedisUrl),
}

/// One limit as the file wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Tells it apart, in state, metrics and answers.
    pub name: String,
    /// Its algorithm and parameters.
    pub law: Law,
    /// Keys that it remembers at least.
    pub keys_max: usize,
    /// Where it is counted.
    pub engine: Engine,
}

/// All limits. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    seed: KeySeed,
    meter: Meter,
    log: Log,
    quotas: Option<Arc<Quotas>>,
    keys: Arc<KeyLimits>,
    /// For an answer, and between two signs of life.
    times: (Duration, Duration),
    known: Mutex<HashMap<String, Known>>,
    /// Tasks of engines, to be run.
    tasks: mpsc::UnboundedSender<engine::Task>,
    waiting: Mutex<Option<mpsc::UnboundedReceiver<engine::Task>>>,
}

/// A limit, and what it was made from.
#[derive(Debug, Clone)]
struct Known {
    spec: Spec,
    limit: Arc<Limit>,
}

/// Limits that are ready to be used, and not in force yet.
#[derive(Debug)]
pub struct Prepared {
    next: HashMap<String, Known>,
    engines: Vec<engine::Task>,
    /// Limiters whose algorithm changes, and the next ones: until these are in force the others are asked.
    changed: Vec<(Arc<Limiter>, Arc<Limiter>)>,
}

impl Prepared {
    /// The limit of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Limit>> {
        self.next.get(name).map(|known| Arc::clone(&known.limit))
    }
}

impl Limits {
    /// Without any limit; [`Limits::prepare`] and [`Limits::commit`] bring them.
    ///
    /// # Errors
    /// [`BuildError`] when what is kept cannot be read.
    pub fn build(config: Config, meter: &Meter, log: &Log) -> Result<Self, BuildError> {
        let open = |folder: PathBuf| match Quotas::open(&folder) {
            Ok(quotas) => Ok(Arc::new(quotas)),
            Err(error) => Err(BuildError::Quotas { folder, error }),
        };
        let (tasks, waiting) = mpsc::unbounded_channel();
        let seed = random_seed()?;
        let quotas = config.folder.map(open).transpose()?;
        Ok(Self(Arc::new(Inner {
            seed,
            meter: meter.clone(),
            log: log.clone(),
            keys: Arc::new(KeyLimits::new(seed, quotas.clone(), meter)),
            quotas,
            times: (config.answer_within, config.pulse),
            known: Mutex::default(),
            tasks,
            waiting: Mutex::new(Some(waiting)),
        })))
    }

    /// The limits of API keys that have one of their own.
    #[must_use]
    pub fn of_keys(&self) -> Arc<KeyLimits> {
        Arc::clone(&self.0.keys)
    }

    /// Makes the limits ready that a configuration wants. What is there goes on, also if this is dropped.
    #[must_use]
    pub fn prepare(&self, specs: Vec<Spec>) -> Prepared {
        let before = self.known();
        let mut prepared = Prepared { next: HashMap::new(), engines: Vec::new(), changed: Vec::new() };
        let mut ways: HashMap<RedisUrl, Arc<Way>> = HashMap::new();
        for known in before.values() {
            if let (Engine::Redis(url), Backing::Shared(_, way, _)) =
                (&known.spec.engine, &known.limit.backing)
            {
                ways.insert(url.clone(), Arc::clone(way));
            }
        }
        for spec in specs {
            let kept = before.get(&spec.name).filter(|known| known.spec == spec);
            let limit = match kept {
                Some(known) => Arc::clone(&known.limit),
                None => {
                    let limiter = self.limiter(&spec, before.get(&spec.name), &mut prepared.changed);
                    Arc::new(self.limit(&spec, limiter, &mut ways, &mut prepared.engines))
                }
            };
            prepared.next.insert(spec.name.clone(), Known { spec, limit });
        }
        prepared
    }

    /// Puts what was prepared in force: state goes on under the new laws, engines that nobody uses any more end.
    pub fn commit(&self, prepared: Prepared) {
        let now = now();
        for (before, next) in &prepared.changed {
            before.tell(next, now);
        }
        for Known { spec, limit } in prepared.next.values() {
            limit.limiter.set_law(spec.law, spec.keys_max, now);
        }
        for task in prepared.engines {
            let _nobody_runs_it_any_more = self.0.tasks.send(task);
        }
        *self.known() = prepared.next;
    }

    /// Keeps engines and quotas going until `drain` asks for an end. To be run once.
    pub async fn run(self, mut drain: Drain) {
        let Some(mut tasks) = lock(&self.0.waiting).take() else { return };
        let mut running = JoinSet::new();
        if let Some(quotas) = &self.0.quotas {
            let failures = quota_failures(&self.0.meter);
            running.spawn(Arc::clone(quotas).run(self.0.log.clone(), failures, drain.clone()));
        }
        loop {
            tokio::select! {
                task = tasks.recv() => match task {
                    Some(task) => drop(running.spawn(task.run(drain.clone()))),
                    None => break,
                },
                () = tokio::time::sleep(LOOK) => self.look(),
                Some(_ended) = running.join_next() => {}
                () = drain.requested() => break,
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Tells how full the limits are.
    fn look(&self) {
        let limits: Vec<Arc<Limit>> = self.known().values().map(|known| Arc::clone(&known.limit)).collect();
        for limit in limits {
            let (keys, forgotten) = (limit.limiter.keys(), limit.limiter.forgotten());
            limit.metrics.keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
            limit.metrics.forgotten.add(forgotten.saturating_sub(limit.metrics.forgotten.value()));
        }
    }

    /// The state that a limit goes on with: its own, or its own fitted to another algorithm, or a new one.
    fn limiter(
        &self,
        spec: &Spec,
        before: Option<&Known>,
        changed: &mut Vec<(Arc<Limiter>, Arc<Limiter>)>,
    ) -> Arc<Limiter> {
        match before {
            Some(known) if known.limit.limiter.is_for(&spec.law) => Arc::clone(&known.limit.limiter),
            Some(known) if !matches!(known.spec.law, Law::Quota { .. }) && is_alike(spec, &known.spec) => {
                let before = &known.limit.limiter;
                let next = Arc::new(before.changed_to(spec.law, spec.keys_max, now()));
                changed.push((Arc::clone(before), Arc::clone(&next)));
                next
            }
            _ => Arc::new(self.kept_limiter(spec)),
        }
    }

    fn kept_limiter(&self, spec: &Spec) -> Limiter {
        let limiter = Limiter::new(spec.law, spec.keys_max);
        if let (Law::Quota { .. }, Some(quotas)) = (spec.law, &self.0.quotas) {
            for (key, used) in quotas.of_limit(LimitId::of(&spec.name)) {
                limiter.raise(Key::from_hash(key), used, now());
            }
        }
        limiter
    }

    fn limit(
        &self,
        spec: &Spec,
        limiter: Arc<Limiter>,
        ways: &mut HashMap<RedisUrl, Arc<Way>>,
        engines: &mut Vec<engine::Task>,
    ) -> Limit {
        let kept = match (spec.law, &self.0.quotas) {
            (Law::Quota { .. }, Some(quotas)) => Some((LimitId::of(&spec.name), Arc::clone(quotas))),
            _ => None,
        };
        let backing = match (&spec.engine, Spelled::of(&spec.law), kept) {
            (Engine::Redis(url), Some(spelled), kept) => {
                let way = ways.entry(url.clone()).or_insert_with(|| {
                    let metrics = EngineMetrics::new(&self.0.meter, &url.to_string());
                    let (way, task) = Way::new(url.clone(), self.0.times, metrics, self.0.log.clone());
                    engines.push(task);
                    way
                });
                let limiter = Arc::clone(&limiter);
                let target = Target::new(&spec.name, spelled, spec.keys_max, limiter);
                Backing::Shared(Arc::new(target), Arc::clone(way), kept)
            }
            (_, _, Some(kept)) => Backing::Kept(kept),
            (_, _, None) => Backing::Memory,
        };
        let metrics = Arc::new(LimitMetrics::new(&self.0.meter, &spec.name));
        Limit::new(spec.name.clone(), spec.law, self.0.seed, limiter, backing, metrics)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        lock(&self.0.known)
    }
}

/// Whether keys are hashed alike before and after: in memory with a secret of this process, for a quota and for Redis with
/// none.
fn is_alike(next: &Spec, before: &Spec) -> bool {
    let is_lasting = |spec: &Spec| {
        let is_shared = matches!(spec.engine, Engine::Redis(_)) && Spelled::of(&spec.law).is_some();
        is_shared || matches!(spec.law, Law::Quota { .. })
    };
    is_lasting(next) == is_lasting(before)
}

fn random_seed() -> Result<KeySeed, BuildError> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| BuildError::Random)?;
    let halves = u128::from_le_bytes(bytes);
    Ok(KeySeed::new(halves as u64, (halves >> 64) as u64))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in these is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
