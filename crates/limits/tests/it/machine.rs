//! One machine of a test: limits with a control plane of their own, as a Terrace has them, and requests that ask.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use terrace_instruments::{Event, Log, Meter, Receiver, SeriesValue};
use terrace_limits::{Config, Engine, Limit, Limits, RedisUrl, Spec, Step};
use terrace_policy::limit::{Decision, Law, Material, Moment, Period, Rate};
use terrace_runtime::clock;
use terrace_runtime::drain::{self, Drainer};
use tokio::runtime::Builder;

/// A machine that shares limits.
pub(crate) struct Machine {
    pub(crate) limits: Limits,
    control: JoinHandle<()>,
    drainer: Drainer,
    killer: Drainer,
    events: Receiver,
    seen: Mutex<Vec<Event>>,
    meter: Meter,
}

/// Far longer than an answer takes anywhere: what a loaded machine does slowly is no reason to decide alone.
const PATIENT: Duration = Duration::from_secs(20);

pub(crate) fn patient() -> Config {
    Config { answer_within: PATIENT, ..hasty() }
}

pub(crate) fn hasty() -> Config {
    Config { pulse: Duration::from_millis(50), ..Config::default() }
}

pub(crate) fn keeping(folder: &Path) -> Config {
    Config { folder: Some(folder.to_owned()), ..patient() }
}

impl Machine {
    pub(crate) fn start(config: Config) -> Self {
        let meter = Meter::new(1);
        let (log, events) = Log::channel(1_000);
        let limits = Limits::build(config, &meter, &log).expect("the folder can be used");
        let (drainer, drain) = drain::channel();
        let (killer, mut killed) = drain::channel();
        let running = limits.clone().run(drain);
        let control = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a thread");
            runtime.block_on(async {
                tokio::select! {
                    () = running => {}
                    () = killed.requested() => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { limits, control, drainer, killer, events, seen: Mutex::default(), meter }
    }

    /// Takes these limits into use, and gives the first.
    pub(crate) fn apply(&self, specs: &[Spec]) -> Arc<Limit> {
        let prepared = self.limits.prepare(specs.to_vec());
        let first = prepared.get(&specs[0].name).expect("it was just prepared");
        self.limits.commit(prepared);
        first
    }

    /// Ends in good order.
    pub(crate) fn end(self) {
        self.drainer.request();
        self.control.join().expect("no panic");
    }

    /// Ends as a `kill -9` does, as far as what is on disk is concerned: nothing is done any more.
    pub(crate) fn die(self) {
        self.killer.request();
        self.control.join().expect("no panic");
    }

    /// The names of all events so far.
    pub(crate) fn events(&self) -> Vec<&'static str> {
        let mut seen = self.seen.lock().expect("no panic");
        seen.extend(self.events.take_events());
        seen.iter().map(|event| event.name).collect()
    }

    /// What the last event of that name gave as its reason.
    pub(crate) fn reason(&self, name: &str) -> String {
        let _taken = self.events();
        let seen = self.seen.lock().expect("no panic");
        let event = seen.iter().rev().find(|event| event.name == name).expect("it happened");
        format!("{:?}", event.get("reason"))
    }

    /// The value of a gauge or counter with that label somewhere.
    pub(crate) fn metric(&self, name: &str, label: &str) -> i64 {
        let families = self.meter.collect();
        let series =
            families.iter().filter(|family| family.family.name == name).flat_map(|family| &family.series);
        let mut found = series.filter(|series| series.labels.iter().any(|value| value == label));
        match found.next().map(|series| &series.value) {
            Some(SeriesValue::Gauge(value)) => *value,
            Some(SeriesValue::Counter(value)) => *value as i64,
            _ => 0,
        }
    }

    pub(crate) fn is_sharing(&self) -> bool {
        let families = self.meter.collect();
        let mut ups = families.iter().filter(|family| family.family.name == "terrace_limit_engine_up");
        let is_up = |value: &SeriesValue| matches!(value, SeriesValue::Gauge(1));
        ups.any(|family| family.series.iter().any(|series| is_up(&series.value)))
    }
}

pub(crate) fn material(text: &str) -> Material {
    let mut material = Material::new();
    material.text(text.as_bytes());
    material
}

/// Asks once, as a request does: with Redis, or the disk, waited for as long as either is to be waited for.
pub(crate) async fn take(limit: &Limit, key: &Material, cost: u32) -> Decision {
    let mut step = limit.take(key, cost, now(), Duration::ZERO);
    loop {
        step = match step {
            Step::Decided(decision, hold) => {
                drop(hold.keep());
                return decision;
            }
            Step::Unsaved(decision, hold, mut unsaved) => {
                let _or_for_long_enough = tokio::time::timeout(PATIENT, unsaved.written()).await;
                Step::Decided(decision, hold)
            }
            Step::Asked(question, mut asked) => {
                let word = tokio::time::timeout(asked.within(), asked.word()).await;
                Limit::settle(question, word.ok().flatten(), now())
            }
            Step::Waits(..) => panic!("no limit of these tests has a line"),
        };
    }
}

/// How many pass of so many requests in each of `tasks` tasks, which all run at once on each limit.
pub(crate) fn hammer(limits: &[&Arc<Limit>], key: &str, tasks: usize, requests: usize) -> u64 {
    let allowed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for limit in limits {
            let allowed = &allowed;
            scope.spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build().expect("a thread");
                let one = || async {
                    let key = material(key);
                    for _ in 0..requests {
                        if take(limit, &key, 1).await.allowed {
                            allowed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                };
                runtime.block_on(all((0..tasks).map(|_| one()).collect()));
            });
        }
    });
    allowed.into_inner()
}

/// Drives all futures together on this task.
async fn all<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        running.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().expect("a thread").block_on(future)
}

pub(crate) fn now() -> Moment {
    let wall = clock::wall().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Moment { clock: clock::now(), wall }
}

fn count(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).expect("not zero")
}

/// So many an hour: within a test next to none come back.
pub(crate) fn bucket(burst: u32) -> Law {
    Law::TokenBucket { rate: Rate::new(count(1), Duration::from_secs(3_600)), burst: count(burst) }
}

pub(crate) fn fixed(limit: u32) -> Law {
    Law::FixedWindow { rate: Rate::new(count(limit), Duration::from_secs(3_600)) }
}

pub(crate) fn sliding(limit: u32) -> Law {
    Law::SlidingWindow { rate: Rate::new(count(limit), Duration::from_secs(3_600)) }
}

/// A month ends within a test less often than a day.
pub(crate) fn quota(limit: u64) -> Law {
    Law::Quota { limit: NonZeroU64::new(limit).expect("not zero"), period: Period::Month }
}

pub(crate) fn spec(law: Law, engine: Engine) -> Spec {
    Spec { name: "api".to_owned(), law, keys_max: 10_000, engine }
}

pub(crate) fn redis(url: &str) -> Engine {
    Engine::Redis(RedisUrl::parse(url).expect("a URL"))
}
