//! Asking a Redis for many at once. Cores put their questions into one bounded queue; a task of the control plane takes what
//! has gathered, makes one call for each key of it, sends all calls in one write, and hands out the answers. While one round
//! is under way the next one gathers, so the busier it gets the more is asked in one go, and a quiet limit waits for one round
//! trip only.
//!
//! When Redis is away, slow, full, a replica that must not be written to, or something else entirely, nobody is asked: a
//! flag says so, each machine decides by itself, and the task tries again, ever less often, up to each five seconds. To
//! decide by itself it goes on from what Redis last said of a key, and counts each request as many times as there are
//! machines, as if each of them let the same through; so they have together what was left. How many they are is what Redis
//! last said; a machine that never heard of Redis thinks that it is alone.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use terrace_instruments::{Event, Level, Log};
use terrace_policy::Backoff;
use terrace_policy::limit::{Decision, QuotaUse};
use terrace_runtime::clock;
use terrace_runtime::drain::Drain;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::cluster::{Call, Nodes};
use crate::limit::Target;
use crate::link::LinkError;
use crate::metrics::EngineMetrics;
use crate::resp::Answer;
use crate::scripts::{MACHINES_KEY, Script};
use crate::url::RedisUrl;

/// Questions that wait to be sent; further ones are decided locally.
const ASKS_MAX: usize = 4_096;
/// Questions of one round.
const ROUND_MAX: usize = 512;
/// Between attempts to come back to it.
const BACKOFF: Backoff = Backoff { from: Duration::from_millis(100), to: Duration::from_secs(5) };
/// Whoever was back for as long begins anew with short waits.
const WELL_AFTER: Duration = Duration::from_secs(10);

/// One question.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) target: Arc<Target>,
    pub(crate) digest: u128,
    /// What the request costs, or, with a minus, what is given back.
    pub(crate) cost: i64,
    /// When what is given back was taken, by Redis' clock.
    pub(crate) taken_us: u64,
    pub(crate) reply: Option<oneshot::Sender<Shared>>,
}

/// What Redis decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared {
    pub(crate) decision: Decision,
    pub(crate) at_us: u64,
    /// What all machines together have used of a quota.
    pub(crate) used: Option<QuotaUse>,
}

/// A question that was asked; a future of what Redis says, or of nothing when it will not.
#[derive(Debug)]
pub struct Asked {
    pub(crate) answer: oneshot::Receiver<Shared>,
    pub(crate) within: Duration,
}

/// The way to a Redis, for all limits that are shared through it.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) metrics: EngineMetrics,
    asks: mpsc::Sender<Ask>,
    is_up: AtomicBool,
    machines: AtomicU32,
    /// A round that takes longer means that Redis is too slow to decide about requests that wait.
    within: Duration,
}

impl Engine {
    /// The way, and the task that is to be run for it.
    pub(crate) fn new(
        url: RedisUrl,
        (within, pulse): (Duration, Duration),
        metrics: EngineMetrics,
        log: Log,
    ) -> (Arc<Self>, Task) {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let (is_up, machines) = (AtomicBool::new(false), AtomicU32::new(1));
        let engine = Arc::new(Self { metrics, asks, is_up, machines, within });
        let machine = format!("{:016x}", terrace_runtime::random::u64());
        let way = Arc::downgrade(&engine);
        let (told_away, back_since, failures) = (None, None, 0);
        let task =
            Task { url, within, pulse, machine, engine: way, asked, log, told_away, back_since, failures };
        (engine, task)
    }

    /// Puts a question, if there is anybody to answer it.
    pub(crate) fn ask(&self, mut ask: Ask) -> Option<Asked> {
        if !self.is_up.load(Ordering::Relaxed) {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        ask.reply = Some(reply);
        self.asks.try_send(ask).ok().map(|()| Asked { answer, within: self.within })
    }

    /// Says something that nobody waits for an answer to.
    pub(crate) fn tell(&self, ask: Ask) {
        if self.is_up.load(Ordering::Relaxed) {
            let _lost_when_there_is_no_room = self.asks.try_send(ask);
        }
    }

    /// How many machines share, as last heard.
    pub(crate) fn machines(&self) -> NonZeroU32 {
        NonZeroU32::new(self.machines.load(Ordering::Relaxed)).unwrap_or(NonZeroU32::MIN)
    }

    fn set_machines(&self, count: u32) {
        self.metrics.machines.set(i64::from(count.max(1)));
        self.machines.store(count.max(1), Ordering::Relaxed);
    }
}

/// Keeps the way open, for as long as anybody uses it.
#[derive(Debug)]
pub(crate) struct Task {
    url: RedisUrl,
    within: Duration,
    /// How often it says that it is there.
    pulse: Duration,
    /// What this process is called among those that share.
    machine: String,
    engine: Weak<Engine>,
    asked: mpsc::Receiver<Ask>,
    log: Log,
    /// Since when it has been said to be away.
    told_away: Option<Duration>,
    /// When it came back the last time, if it was ever away.
    back_since: Option<Duration>,
    failures: u32,
}

/// Whether nobody uses the way any more, or the end was asked for.
type Ended = ControlFlow<()>;

impl Task {
    /// Runs until nobody uses the way any more, or `drain` asks for an end.
    pub(crate) async fn run(mut self, mut drain: Drain) {
        loop {
            let opened = match Nodes::open(&self.url).await {
                Ok(mut nodes) => self.greet(&mut nodes).await.map(|()| nodes),
                Err(error) => Err(error),
            };
            let served = match opened {
                Ok(nodes) => self.serve(nodes, &mut drain).await,
                Err(error) => Err(error),
            };
            let Err(error) = served else { return };
            self.lost(&error);
            if self.wait(&mut drain).await.is_break() {
                return;
            }
        }
    }

    /// Says that this machine is there, which also shows that Redis takes what is written, and in time.
    async fn greet(&self, nodes: &mut Nodes) -> Result<(), LinkError> {
        let arguments = vec![self.machine.clone()];
        let call = [Call { script: Script::Machines, key: MACHINES_KEY.to_owned(), arguments }];
        match in_time(self.within, nodes.run(&call)).await?.first() {
            Some(Answer::Number(count)) => {
                if let Some(engine) = self.engine.upgrade() {
                    engine.set_machines(u32::try_from(*count).unwrap_or(1));
                }
                Ok(())
            }
            _ => Err(LinkError::Strange),
        }
    }

    /// Answers questions until the way is lost, or until the end.
    async fn serve(&mut self, mut nodes: Nodes, drain: &mut Drain) -> Result<(), LinkError> {
        // Who asked before has decided by itself meanwhile.
        while self.asked.try_recv().is_ok() {}
        let back_since = self.told_away.map(|_| clock::now());
        self.back_since = back_since.or(self.back_since);
        self.found();
        let (since, mut greeted) = (clock::now(), clock::now());
        // What a round leaves to be given back goes into the next one.
        let mut round = Vec::new();
        loop {
            tokio::select! {
                () = std::future::ready(()), if !round.is_empty() => {}
                count = self.asked.recv_many(&mut round, ROUND_MAX) => {
                    if count == 0 {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep_until(clock::instant(greeted + self.pulse)) => {}
                error = nodes.lost() => return Err(error),
                () = drain.requested() => return Ok(()),
            }
            if clock::now() >= greeted + self.pulse {
                greeted = clock::now();
                self.greet(&mut nodes).await?;
            }
            if clock::now() >= since + WELL_AFTER {
                self.failures = 0;
            }
            decide((&mut nodes, self.back_since), self.within, &mut round).await?;
        }
    }

    fn found(&mut self) {
        let Some(engine) = self.engine.upgrade() else { return };
        engine.metrics.up.set(1);
        engine.is_up.store(true, Ordering::Relaxed);
        let event = match self.told_away.take() {
            None => Event::new(Level::Info, "limits.redis.shared").message("limits are shared through Redis"),
            Some(since) => Event::new(Level::Info, "limits.redis.back")
                .field("away", clock::now().saturating_sub(since))
                .message("limits are shared through Redis again"),
        };
        let machines = u64::from(engine.machines().get());
        self.log.emit(event.field("engine", self.url.to_string()).field("machines", machines));
    }

    fn lost(&mut self, error: &LinkError) {
        self.failures = self.failures.saturating_add(1);
        let Some(engine) = self.engine.upgrade() else { return };
        engine.is_up.store(false, Ordering::Relaxed);
        engine.metrics.up.set(0);
        if self.told_away.is_some() {
            return;
        }
        self.told_away = Some(clock::now());
        let event = Event::new(Level::Warn, "limits.redis.away")
            .field("engine", self.url.to_string())
            .field("machines", u64::from(engine.machines().get()))
            .field("reason", error.to_string())
            .message(
                "Redis cannot be asked; each machine goes on with its share of what is left of the limits",
            );
        self.log.emit(event);
    }

    /// Waits before the next attempt; those who asked meanwhile are told at once that nobody answers.
    async fn wait(&mut self, drain: &mut Drain) -> Ended {
        let until = clock::now() + BACKOFF.equal_jitter(self.failures, terrace_runtime::random::u64());
        loop {
            tokio::select! {
                ask = self.asked.recv() => {
                    if ask.is_none() {
                        return Ended::Break(());
                    }
                }
                () = tokio::time::sleep_until(clock::instant(until)) => return Ended::Continue(()),
                () = drain.requested() => return Ended::Break(()),
            }
        }
    }
}

async fn in_time<T>(
    within: Duration,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    timeout(within, work).await.map_err(|_| LinkError::Silent(within))?
}

/// All questions about one key.
struct Group {
    target: Arc<Target>,
    digest: u128,
    costs: Vec<i64>,
    replies: Vec<Option<oneshot::Sender<Shared>>>,
    unreported: u64,
}

/// Has Redis decide about a round of questions; what is left in it is for the next one.
async fn decide(
    (nodes, back_since): (&mut Nodes, Option<Duration>),
    within: Duration,
    round: &mut Vec<Ask>,
) -> Result<(), LinkError> {
    // Who does not wait any more has decided by itself.
    round.retain(|ask| ask.reply.as_ref().is_none_or(|reply| !reply.is_closed()));
    if round.is_empty() {
        return Ok(());
    }
    let (groups, calls) = grouped(round.drain(..), back_since);
    let answers = match in_time(within, nodes.run(&calls)).await {
        Ok(answers) => answers,
        Err(error) => {
            for group in &groups {
                group.target.report_later(group.digest, group.unreported, 0);
            }
            return Err(error);
        }
    };
    let mut unused = Vec::new();
    for (group, answer) in groups.into_iter().zip(answers) {
        group.hand_out(&answer, &mut unused)?;
    }
    round.append(&mut unused);
    Ok(())
}

impl Group {
    /// Tells each who asked what was decided. What was granted to somebody who has gone meanwhile, or has decided by itself,
    /// is to be given back.
    fn hand_out(self, answer: &Answer, unused: &mut Vec<Ask>) -> Result<(), LinkError> {
        let told = self.target.spelled.understand(answer, &self.costs).ok_or(LinkError::Strange)?;
        let (at_us, used) = (told.at_us, told.used);
        for ((reply, cost), decision) in self.replies.into_iter().zip(self.costs).zip(told.decisions) {
            let Some(reply) = reply else { continue };
            let is_left = reply.send(Shared { decision, at_us, used }).is_err();
            if is_left && decision.allowed && cost > 0 {
                let (target, digest) = (Arc::clone(&self.target), self.digest);
                unused.push(Ask { target, digest, cost: -cost, taken_us: at_us, reply: None });
            }
        }
        Ok(())
    }
}

/// One call for each key.
fn grouped(asks: impl Iterator<Item = Ask>, back_since: Option<Duration>) -> (Vec<Group>, Vec<Call>) {
    let (mut groups, mut calls): (Vec<Group>, Vec<Call>) = (Vec::new(), Vec::new());
    let mut places: HashMap<(*const Target, u128), usize> = HashMap::new();
    for ask in asks {
        let place = *places.entry((Arc::as_ptr(&ask.target), ask.digest)).or_insert_with(|| {
            let (target, digest) = (Arc::clone(&ask.target), ask.digest);
            let unreported = target.take_unreported(digest);
            calls.push(target.call(digest, unreported, back_since));
            groups.push(Group { target, digest, costs: Vec::new(), replies: Vec::new(), unreported });
            groups.len() - 1
        });
        calls[place].arguments.extend([ask.cost.to_string(), ask.taken_us.to_string()]);
        groups[place].costs.push(ask.cost);
        groups[place].replies.push(ask.reply);
    }
    (groups, calls)
}
