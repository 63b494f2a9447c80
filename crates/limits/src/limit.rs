//! One limit as a request meets it: what is asked of it is decided in memory at once, or waits for Redis, for the disk or
//! for its turn. What a request took is held by a [`Hold`]; dropped, it gives everything back, so whoever is refused by the
//! next limit, or leaves while it waits, has cost nothing.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, SystemTime};

use ring::digest;
use rustc_hash::FxHashMap;
use terrace_policy::limit::{
    AddressKey, Answer, Decision, Key, KeySeed, Law, Limiter, Material, Moment, Permit, Place, Policy,
    QuotaUse, Turn,
};
use terrace_runtime::clock;

use crate::cluster::Call;
use crate::engine::{Ask, Asked, Engine, Shared};
use crate::metrics::{LimitMetrics, Outcome};
use crate::quotas::{LimitId, Quotas, Unwritten};
use crate::scripts::{Heard, Script, Spelled};

/// A named limit. Shared by all cores; a reload replaces it by another one over the same state.
#[derive(Debug)]
pub struct Limit {
    name: String,
    law: Law,
    policy: Policy,
    seed: KeySeed,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) backing: Backing,
    pub(crate) metrics: Arc<LimitMetrics>,
}

/// What is behind the memory.
#[derive(Debug)]
pub(crate) enum Backing {
    /// Nothing.
    Memory,
    /// The file of quotas.
    Kept(Kept),
    /// Redis, and for a quota the file as well.
    Shared(Arc<Target>, Arc<Engine>, Option<Kept>),
}

/// A limit's place in the file of quotas.
pub(crate) type Kept = (LimitId, Arc<Quotas>);

/// A limit as Redis knows it.
#[derive(Debug)]
pub(crate) struct Target {
    name: String,
    pub(crate) spelled: Spelled,
    keys_max: usize,
    limiter: Arc<Limiter>,
    /// What was let through of a quota while Redis was away, by key, until it is told.
    unreported: Mutex<FxHashMap<u128, Unreported>>,
    has_unreported: AtomicBool,
}

/// What was let through of a quota while Redis was away.
#[derive(Debug, Clone, Copy, Default)]
struct Unreported {
    cost: u64,
    /// What it was counted as here, on behalf of the other machines too.
    counted: u64,
}

impl Target {
    pub(crate) fn new(name: &str, spelled: Spelled, keys_max: usize, limiter: Arc<Limiter>) -> Self {
        let (unreported, has_unreported) = (Mutex::default(), AtomicBool::new(false));
        Self { name: name.to_owned(), spelled, keys_max, limiter, unreported, has_unreported }
    }

    /// How to ask about a key: Redis is told what is known of it here, should it have lost that, and of a quota beside it what
    /// it was not told yet. `back_since`: when it came back, if it was ever away.
    pub(crate) fn call(&self, digest: u128, unreported: u64, back_since: Option<Duration>) -> Call {
        let heard = match self.spelled.script {
            Script::Quota => {
                Heard::Quota(self.limiter.quota_use(Key::from_hash(digest)).unwrap_or_default(), unreported)
            }
            _ => back_since.map_or(Heard::NOTHING, |since| self.heard(Key::from_hash(digest), since)),
        };
        let mut arguments = Vec::new();
        self.spelled.push_arguments(&mut arguments, &heard);
        Call { script: self.spelled.script, key: self.spelled.key(&self.name, digest), arguments }
    }

    /// What is known of a key that was used before Redis was away. Later than one window after, all of that is back, and what
    /// is known here is only what Redis said, in whole requests: not as exact as it knows it itself.
    fn heard(&self, key: Key, back_since: Duration) -> Heard {
        let now = now();
        if now.clock >= back_since.saturating_add(self.spelled.window()) {
            return Heard::NOTHING;
        }
        let standing = *self.limiter.take(key, 0, now, Duration::ZERO).decision();
        Heard::Used(standing.limit.saturating_sub(standing.remaining), standing.reset)
    }

    /// What was let through is to be told when Redis is back.
    pub(crate) fn report_later(&self, digest: u128, cost: u64, counted: u64) {
        let mut unreported = self.unreported();
        if cost == 0 || unreported.len() >= self.keys_max && !unreported.contains_key(&digest) {
            return;
        }
        let entry = unreported.entry(digest).or_default();
        entry.cost += cost;
        entry.counted += counted;
        self.has_unreported.store(true, Ordering::Relaxed);
    }

    /// What Redis is to be told of a key. It is taken back here, where it was counted for others too: from now on what Redis
    /// says counts.
    pub(crate) fn take_unreported(&self, digest: u128) -> u64 {
        if !self.has_unreported.load(Ordering::Relaxed) {
            return 0;
        }
        let mut unreported = self.unreported();
        let Unreported { cost, counted } = unreported.remove(&digest).unwrap_or_default();
        self.has_unreported.store(!unreported.is_empty(), Ordering::Relaxed);
        drop(unreported);
        let (now, counted) = (now(), u32::try_from(counted).unwrap_or(u32::MAX));
        let _written_with_the_next_word = self.limiter.give_back(Key::from_hash(digest), counted, now, now);
        cost
    }

    fn unreported(&self) -> MutexGuard<'_, FxHashMap<u128, Unreported>> {
        self.unreported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a limit says to a request.
#[derive(Debug)]
#[must_use = "what it holds is given back when it is dropped"]
pub enum Step<'a> {
    /// It is decided.
    Decided(Decision, Hold<'a>),
    /// It may pass when its turn comes: ask [`Hold::turn`].
    Waits(Decision, Hold<'a>),
    /// It may pass as soon as what was let through so far is written down, or has been waited for long enough.
    Unsaved(Decision, Hold<'a>, Unsaved),
    /// Redis is asked; hand its word to [`Limit::settle`].
    Asked(Question<'a>, Asked),
}

/// Waits for the file of quotas.
pub type Unsaved = Unwritten;

/// A question to Redis that is under way.
#[derive(Debug)]
pub struct Question<'a> {
    limit: &'a Limit,
    key: Key,
    cost: u32,
    asked: Moment,
}

impl Asked {
    /// Nobody waits for Redis for longer.
    #[must_use]
    pub fn within(&self) -> Duration {
        self.within
    }

    /// What Redis says; nothing when it will not.
    pub async fn word(&mut self) -> Option<Word> {
        (&mut self.answer).await.ok().map(Word)
    }
}

/// What Redis said.
#[derive(Debug, Clone, Copy)]
pub struct Word(Shared);

impl Limit {
    pub(crate) fn new(
        name: String,
        law: Law,
        seed: KeySeed,
        limiter: Arc<Limiter>,
        backing: Backing,
        metrics: Arc<LimitMetrics>,
    ) -> Self {
        Self { name, law, policy: law.policy(), seed, limiter, backing, metrics }
    }

    /// What the file calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its algorithm and parameters.
    #[must_use]
    pub fn law(&self) -> &Law {
        &self.law
    }

    /// What it promises.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The order in which several limits are best asked: those that decide at once first, then those that have to ask, and
    /// last the one that may have to wait long.
    #[must_use]
    pub fn rank(&self) -> u8 {
        match (&self.law, &self.backing) {
            (Law::LeakyBucket { .. }, _) => 3,
            (_, Backing::Shared(..)) => 2,
            (Law::Concurrency { .. }, _) => 1,
            (_, Backing::Memory | Backing::Kept(_)) => 0,
        }
    }

    /// Whether a request may have to wait in line here.
    #[inline]
    #[must_use]
    pub fn may_wait(&self) -> bool {
        matches!(self.law, Law::LeakyBucket { .. })
    }

    /// Counts what became of a request here.
    #[inline]
    pub fn count(&self, outcome: Outcome) {
        self.metrics.count(outcome);
    }

    /// Asks for one request that costs `cost`, of the key that `material` makes, and that can wait for `wait_max` in line.
    #[inline]
    pub fn take(&self, material: &Material, cost: u32, now: Moment, wait_max: Duration) -> Step<'_> {
        match &self.backing {
            Backing::Memory => self.decide(material.key(&self.seed), cost, now, wait_max),
            Backing::Kept(_) => self.decide(lasting(material), cost, now, wait_max),
            Backing::Shared(target, engine, _) => {
                let key = lasting(material);
                let (target, digest) = (Arc::clone(target), key.bits());
                let ask = Ask { target, digest, cost: i64::from(cost), taken_us: 0, reply: None };
                match engine.ask(ask) {
                    Some(asked) => Step::Asked(Question { limit: self, key, cost, asked: now }, asked),
                    None => self.decide_alone(key, cost, now),
                }
            }
        }
    }

    /// The same for whoever is counted by address alone, `(address, ipv6_prefix_bits)`. `last` is the connection's: most requests of
    /// one come from one client.
    #[inline]
    pub fn take_of_address(
        &self,
        (address, ipv6_prefix_bits): (IpAddr, u8),
        last: &Cell<Option<AddressKey>>,
        cost: u32,
        now: Moment,
        wait_max: Duration,
    ) -> Step<'_> {
        let Backing::Memory = &self.backing else {
            let mut material = Material::new();
            material.address(address, ipv6_prefix_bits);
            return self.take(&material, cost, now, wait_max);
        };
        let known = AddressKey::after(last.get(), self.seed, address, ipv6_prefix_bits);
        last.set(Some(known));
        self.decide(known.key(), cost, now, wait_max)
    }

    /// Goes on with Redis' word, or, without it, alone.
    pub fn settle<'a>(question: Question<'a>, word: Option<Word>, now: Moment) -> Step<'a> {
        let Question { limit, key, cost, asked } = question;
        let (Backing::Shared(_, engine, _), Some(Word(shared))) = (&limit.backing, word) else {
            return limit.decide_alone(key, cost, now);
        };
        engine.metrics.shared.inc();
        let Shared { decision, at_us, used } = shared;
        let what = if decision.allowed { What::Shared { at_us } } else { What::Nothing };
        let hold = limit.hold(what, key, cost, asked);
        match used {
            Some(used) => {
                limit.limiter.raise(key, used, now);
                limit.written(decision, hold, used)
            }
            None => {
                limit.limiter.raise_to(key, decision.limit.saturating_sub(decision.remaining), now);
                Step::Decided(decision, hold)
            }
        }
    }

    /// Decides without Redis. Each request counts for as many as there are machines, but never for more than there can be, or
    /// a small limit would let nobody through.
    fn decide_alone(&self, key: Key, cost: u32, now: Moment) -> Step<'_> {
        let Backing::Shared(target, engine, _) = &self.backing else {
            return self.decide(key, cost, now, Duration::ZERO);
        };
        engine.metrics.local.inc();
        let machines = engine.machines().get();
        let most = u32::try_from(self.policy.quota).unwrap_or(u32::MAX).max(cost);
        let counted = cost.saturating_mul(machines).min(most);
        let is_quota = matches!(self.law, Law::Quota { .. });
        let alone = |decision: Decision, hold: &mut Hold<'_>| {
            if decision.allowed && is_quota {
                hold.what = What::Alone;
                target.report_later(key.bits(), u64::from(cost), u64::from(counted));
            }
            Decision { remaining: decision.remaining / u64::from(machines), ..decision }
        };
        match self.decide(key, counted, now, Duration::ZERO) {
            Step::Decided(decision, mut hold) => Step::Decided(alone(decision, &mut hold), hold),
            Step::Unsaved(decision, mut hold, unsaved) => {
                Step::Unsaved(alone(decision, &mut hold), hold, unsaved)
            }
            // What may wait for its turn is not shared, and nobody is asked twice.
            other @ (Step::Waits(..) | Step::Asked(..)) => other,
        }
    }

    fn decide(&self, key: Key, cost: u32, now: Moment, wait_max: Duration) -> Step<'_> {
        match self.limiter.take(key, cost, now, wait_max) {
            Answer::Decided(decision) => Step::Decided(decision, self.taken(&decision, key, cost, now)),
            Answer::Counted(decision, used) => {
                self.written(decision, self.taken(&decision, key, cost, now), used)
            }
            Answer::Held(decision, permit) => {
                Step::Decided(decision, self.hold(What::Permit(permit), key, cost, now))
            }
            Answer::Waits(decision, place) => {
                Step::Waits(decision, self.hold(What::Place(place), key, cost, now))
            }
        }
    }

    /// What was used of a quota is to be written down.
    fn written<'a>(&'a self, decision: Decision, hold: Hold<'a>, used: QuotaUse) -> Step<'a> {
        let Some((id, quotas)) = self.kept().filter(|_| decision.allowed) else {
            return Step::Decided(decision, hold);
        };
        match quotas.note(*id, hold.key.bits(), used) {
            None => Step::Decided(decision, hold),
            Some(unwritten) => Step::Unsaved(decision, hold, unwritten),
        }
    }

    #[inline]
    fn taken(&self, decision: &Decision, key: Key, cost: u32, now: Moment) -> Hold<'_> {
        self.hold(if decision.allowed { What::Taken } else { What::Nothing }, key, cost, now)
    }

    #[inline]
    fn hold(&self, what: What, key: Key, cost: u32, taken: Moment) -> Hold<'_> {
        Hold { limit: self, what, key, cost, taken }
    }

    fn kept(&self) -> Option<&Kept> {
        match &self.backing {
            Backing::Memory => None,
            Backing::Kept(kept) => Some(kept),
            Backing::Shared(_, _, kept) => kept.as_ref(),
        }
    }
}

/// A key that means the same in all processes, on all machines, and says nothing of what it is made of: half of a SHA-256.
pub(crate) fn lasting(material: &Material) -> Key {
    let digest = digest::digest(&digest::SHA256, material.as_bytes());
    let half = digest.as_ref().first_chunk().copied().unwrap_or_default();
    Key::from_hash(u128::from_be_bytes(half))
}

/// What a request took from a limit. Dropped, it gives it back.
#[derive(Debug)]
#[must_use = "what it holds is given back when it is dropped"]
pub struct Hold<'a> {
    limit: &'a Limit,
    what: What,
    key: Key,
    cost: u32,
    taken: Moment,
}

#[derive(Debug)]
enum What {
    Nothing,
    Taken,
    /// From Redis, by its clock at that time.
    Shared {
        at_us: u64,
    },
    /// From a quota in the place of Redis, which will be told of it.
    Alone,
    Permit(Permit),
    Place(Place),
}

impl Hold<'_> {
    /// Whether it is one's turn; [`Turn::Go`] when there is nothing to wait for.
    pub fn turn(&mut self, now: Duration, waker: &Waker) -> Turn {
        let What::Place(place) = &mut self.what else { return Turn::Go };
        let turn = place.turn(now, waker);
        if turn == Turn::Go {
            self.what = What::Taken;
        }
        turn
    }

    /// Uses up what was taken. A permit is to be kept for as long as its request is under way.
    #[must_use = "a permit that is dropped is given back at once"]
    pub fn keep(mut self) -> Option<Permit> {
        match std::mem::replace(&mut self.what, What::Nothing) {
            What::Permit(permit) => Some(permit),
            What::Nothing | What::Taken | What::Shared { .. } | What::Alone | What::Place(_) => None,
        }
    }

    #[cold]
    fn give_back(&self) {
        let limit = self.limit;
        let used = limit.limiter.give_back(self.key, self.cost, self.taken, now());
        if let (Some(used), Some((id, quotas))) = (used, limit.kept()) {
            quotas.correct(*id, self.key.bits(), used);
        }
    }

    #[cold]
    fn give_back_to_redis(&self, taken_us: u64) {
        if let Backing::Shared(target, engine, _) = &self.limit.backing {
            let (target, digest, cost) = (Arc::clone(target), self.key.bits(), -i64::from(self.cost));
            engine.tell(Ask { target, digest, cost, taken_us, reply: None });
        }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        match self.what {
            // A permit and a place give themselves back. What was let through of a quota without Redis stays: it will have
            // been reported.
            What::Nothing | What::Alone | What::Permit(_) | What::Place(_) => {}
            What::Taken => self.give_back(),
            What::Shared { at_us } => {
                self.give_back();
                self.give_back_to_redis(at_us);
            }
        }
    }
}

/// The present moment, for what is rare.
pub(crate) fn now() -> Moment {
    Moment { clock: clock::now(), wall: wall() }
}

/// Since 1970.
pub(crate) fn wall() -> Duration {
    clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
