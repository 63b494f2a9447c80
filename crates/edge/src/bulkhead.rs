//! The gate of a service: its breaker, the number of requests it is given at once, and the line in front of it.
//!
//! A place at the service is held for as long as the service works, and not for as long as a request lasts: while it is the
//! client that is waited for (its body does not come, or it does not take the answer's) the place is another's, and taken
//! again, even beyond the limit, when the client moves on. So a client that is slow on purpose holds nobody up. Events and
//! WebSockets hold their place until their head.
//!
//! On a request's way the gate is a few atomics. The lock is for those who wait: it is taken when the limit is reached, when
//! somebody in the line can go on, and a few times a second by whoever comes by, to fit the limit to what answers took.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use terrace_instruments::{Event, Level, Log, Meter};
use terrace_policy::{
    Admission, Breaker, BreakerCause, BreakerState, Gradient, Line, LineLaw, Place, Priority, Probe,
    ProbeEnd, Sample, Turned,
};
use terrace_runtime::clock;
use terrace_upstream::Upstream;
use tokio::sync::oneshot;

use crate::chain::{Request, Towards};
use crate::journal::Journal;
use crate::metrics::{GateMetrics, Shed};
use crate::note::Note;
use crate::problem::{Fault, Problem};
use crate::resilience::{Concurrency, Resilience};

/// No limit.
const OPEN: u32 = u32::MAX;

/// A service's gate. Shared by all cores; outlives reloads.
#[derive(Debug)]
pub(crate) struct Gate {
    counts: Counts,
    /// The last beat of the service that was taken in.
    beat: AtomicU64,
    breaker: Breaker,
    lane: Mutex<Lane>,
    service: String,
    metrics: GateMetrics,
    log: Log,
    me: Weak<Self>,
}

/// On cache lines of their own: every request writes the first.
#[derive(Debug)]
#[repr(align(128))]
struct Counts {
    in_flight: AtomicU32,
    limit: AtomicU32,
    waiting: AtomicU32,
}

/// Those who wait, and what the limit follows.
#[derive(Debug)]
struct Lane {
    line: Line<oneshot::Sender<Turn>>,
    law: LineLaw,
    gradient: Gradient,
    resilience: Resilience,
}

/// What somebody in the line is told.
#[derive(Debug)]
enum Turn {
    Yours(Granted),
    Away(Turned),
}

/// A place that was given to somebody who waited; given back when nobody takes it.
#[derive(Debug)]
struct Granted(Option<Arc<Gate>>);

impl Drop for Granted {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.leave();
        }
    }
}

/// A request's passage through the gate.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    gate: &'a Gate,
    resilience: &'a Resilience,
    hold: Cell<Hold>,
    /// It is to find out whether the service answers again.
    probe: Cell<Option<Probe>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// No place is needed, or none any more.
    None,
    /// The service works.
    Place,
    /// The client is waited for.
    Paused,
}

impl Gate {
    pub(crate) fn new(service: &str, resilience: Resilience, meter: &Meter, log: &Log) -> Arc<Self> {
        let lane = Lane {
            line: Line::default(),
            law: resilience.queue.law(None),
            gradient: Gradient::default(),
            resilience,
        };
        let counts =
            Counts { in_flight: AtomicU32::new(0), limit: AtomicU32::new(OPEN), waiting: AtomicU32::new(0) };
        let gate = Arc::new_cyclic(|me| Self {
            counts,
            beat: AtomicU64::new(0),
            breaker: Breaker::default(),
            lane: Mutex::new(lane),
            service: service.to_owned(),
            metrics: GateMetrics::new(meter, service),
            log: log.clone(),
            me: Weak::clone(me),
        });
        gate.apply(resilience);
        gate
    }

    /// Goes on under other settings.
    pub(crate) fn apply(&self, resilience: Resilience) {
        {
            let mut lane = self.lane();
            lane.resilience = resilience;
            lane.law = resilience.queue.law(lane.gradient.usual());
            self.set_limit(&lane);
        }
        self.hand_on();
    }

    /// What the breaker is at; closed where the settings have none.
    pub(crate) fn breaker(&self, now: Duration) -> BreakerState {
        match self.lane().resilience.breaker {
            Some(_) => self.breaker.state(now),
            None => BreakerState::Closed,
        }
    }

    /// Requests that the service works on, as far as anybody knows.
    pub(crate) fn in_flight(&self) -> u32 {
        self.counts.in_flight.load(Ordering::Relaxed)
    }

    /// Lets a request in, or into the line, or says why not.
    pub(crate) async fn enter<'a>(
        &'a self,
        request: &mut Request<'_, '_>,
        to: Towards<'a>,
        until: Option<Duration>,
        journal: &mut Journal<'_>,
    ) -> Result<Slot<'a>, Problem> {
        let resilience = &to.service.resilience;
        let slot = Slot { gate: self, resilience, hold: Cell::new(Hold::None), probe: Cell::new(None) };
        if let Some(law) = &resilience.breaker {
            match self.breaker.admit(law, journal.began()) {
                Admission::Pass => {}
                Admission::Probe(probe) => slot.probe.set(Some(probe)),
                Admission::Refused { retry_after } => {
                    return Err(self.refused(request.passed.priority, retry_after, journal));
                }
            }
        }
        if resilience.concurrency == Concurrency::Off {
            return Ok(slot);
        }
        if self.beat.load(Ordering::Relaxed) != to.service.upstream.beats() {
            self.listen(&to.service.upstream);
        }
        if !self.try_take() {
            // On the heap, since it is large and rare.
            Box::pin(self.wait(request, to, until, journal)).await?;
        }
        slot.hold.set(Hold::Place);
        Ok(slot)
    }

    /// A place at once, when there is one and nobody waits for it.
    #[inline]
    fn try_take(&self) -> bool {
        let counts = &self.counts;
        let before = counts.in_flight.fetch_add(1, Ordering::SeqCst);
        if before < counts.limit.load(Ordering::Relaxed) && counts.waiting.load(Ordering::SeqCst) == 0 {
            return true;
        }
        self.leave();
        false
    }

    /// Gives a place back; whoever waits for it has it next.
    #[inline]
    fn leave(&self) {
        self.counts.in_flight.fetch_sub(1, Ordering::SeqCst);
        if self.counts.waiting.load(Ordering::SeqCst) > 0 {
            self.hand_on();
        }
    }

    /// Waits in the line for a place, which is held when this returns.
    async fn wait(
        &self,
        request: &mut Request<'_, '_>,
        to: Towards<'_>,
        until: Option<Duration>,
        journal: &mut Journal<'_>,
    ) -> Result<(), Problem> {
        let priority = request.passed.priority;
        let usual = to.service.upstream.usual();
        // A few answers may all have been slow ones.
        let fastest = usual.fastest.filter(|_| usual.is_known).unwrap_or_default();
        let until = until.map_or(terrace_runtime::timer::NEVER, |until| until.saturating_sub(fastest));
        let began = clock::now();
        let Some(mut waiting) =
            self.join(priority, until, began).map_err(|why| self.turned(why, priority, journal))?
        else {
            return Ok(());
        };
        let ended = waiting.turn(request).await;
        let waited = clock::now().saturating_sub(began);
        self.metrics.waited.record(waited);
        match ended {
            Waited::Turn(mut granted) => {
                journal.note(Note::Queued(waited));
                // From here on the slot answers for the place.
                granted.0 = None;
                Ok(())
            }
            Waited::Away(why) => Err(self.turned(why, priority, journal)),
            Waited::Left => Err(self.left(priority, journal)),
        }
    }

    /// Joins the line; nothing to wait for, when a place was free after all.
    fn join(
        &self,
        priority: Priority,
        until: Duration,
        now: Duration,
    ) -> Result<Option<Waiting<'_>>, Turned> {
        let counts = &self.counts;
        let (sender, receiver) = oneshot::channel();
        let mut away = Vec::new();
        let mut lane = self.lane();
        // Counted before looking: who leaves from here on either sees that somebody waits, or has left before the look.
        counts.waiting.fetch_add(1, Ordering::SeqCst);
        let is_free = counts.in_flight.load(Ordering::SeqCst) < counts.limit.load(Ordering::Relaxed);
        if is_free && lane.line.is_empty() {
            counts.waiting.fetch_sub(1, Ordering::SeqCst);
            counts.in_flight.fetch_add(1, Ordering::SeqCst);
            return Ok(None);
        }
        let law = lane.law;
        let mut turned = |who, why| away.push((who, why));
        let joined = lane.line.join(&law, now, (priority, until), sender, &mut turned);
        let patience_until = Line::<()>::patience_until(&law, now, until);
        drop(lane);
        self.send_away(away);
        match joined {
            Ok(place) => {
                self.metrics.length.set(i64::from(counts.waiting.load(Ordering::Relaxed)));
                Ok(Some(Waiting {
                    gate: self,
                    place: Some(place),
                    receiver,
                    until: patience_until,
                    deadline: until,
                }))
            }
            Err(_) => {
                counts.waiting.fetch_sub(1, Ordering::SeqCst);
                Err(Turned::Full)
            }
        }
    }

    /// Gives free places to those whose turn it is.
    #[cold]
    fn hand_on(&self) {
        let Some(me) = self.me.upgrade() else { return };
        let now = clock::now();
        let (mut away, mut missed) = (Vec::new(), Vec::new());
        let counts = &self.counts;
        {
            let mut lane = self.lane();
            let law = lane.law;
            while counts.in_flight.load(Ordering::SeqCst) < counts.limit.load(Ordering::Relaxed) {
                let mut turned = |who, why| away.push((who, why));
                let Some(next) = lane.line.next(&law, now, &mut turned) else { break };
                counts.in_flight.fetch_add(1, Ordering::SeqCst);
                counts.waiting.fetch_sub(1, Ordering::SeqCst);
                // Who has just left takes nothing; the place goes on when this is dropped, without the lock.
                missed.extend(next.send(Turn::Yours(Granted(Some(Arc::clone(&me))))).err());
            }
        }
        self.send_away(away);
        drop(missed);
        self.metrics.length.set(i64::from(counts.waiting.load(Ordering::Relaxed)));
    }

    fn send_away(&self, away: Vec<(oneshot::Sender<Turn>, Turned)>) {
        for (who, why) in away {
            self.counts.waiting.fetch_sub(1, Ordering::SeqCst);
            let _left_by_itself = who.send(Turn::Away(why));
        }
    }

    /// Takes in what the service did since the last time, and fits limit and line to it.
    #[cold]
    fn listen(&self, upstream: &Upstream) {
        // Whoever has the lock does it, or the next one.
        let Ok(mut lane) = self.lane.try_lock() else { return };
        let beat = upstream.beat();
        if self.beat.swap(beat.number, Ordering::Relaxed) == beat.number {
            return;
        }
        let sample = Sample {
            now: beat.at,
            span: beat.span,
            answers: beat.answers,
            latency: beat.median,
            in_flight: self.in_flight(),
            waiting: self.counts.waiting.load(Ordering::Relaxed),
        };
        if let Concurrency::Adaptive(law) = lane.resilience.concurrency {
            lane.gradient.observe(&law, &sample);
        }
        let usual = match lane.resilience.concurrency {
            Concurrency::Adaptive(_) => lane.gradient.usual(),
            Concurrency::Fixed(_) | Concurrency::Off => upstream.usual().median,
        };
        lane.law = lane.resilience.queue.law(usual);
        self.set_limit(&lane);
        drop(lane);
        self.metrics.in_flight.set(i64::from(self.in_flight()));
        self.metrics.length.set(i64::from(self.counts.waiting.load(Ordering::Relaxed)));
        if self.counts.waiting.load(Ordering::SeqCst) > 0 {
            self.hand_on();
        }
    }

    fn set_limit(&self, lane: &Lane) {
        let limit = match lane.resilience.concurrency {
            Concurrency::Off => None,
            Concurrency::Fixed(limit) => Some(limit),
            Concurrency::Adaptive(law) => lane.gradient.limit(&law),
        };
        self.counts.limit.store(limit.unwrap_or(OPEN), Ordering::Relaxed);
        self.metrics.limit.set(i64::from(limit.unwrap_or(0)));
    }

    fn refused(&self, priority: Priority, retry_after: Duration, journal: &mut Journal<'_>) -> Problem {
        self.shed(Shed::Breaker, priority, journal);
        let detail = format!("service {} does not answer (its breaker is open)", self.service);
        let mut problem = Problem::new(503, "destination_unavailable", Fault::Upstream, true, detail);
        problem.retry_after_s = Some(retry_after.as_secs() + 1);
        problem
    }

    fn turned(&self, why: Turned, priority: Priority, journal: &mut Journal<'_>) -> Problem {
        let (shed, what) = match why {
            Turned::Full => (Shed::QueueFull, "as many wait for it as may"),
            Turned::TooLong => (Shed::QueueWait, "it was not this request's turn in time"),
            Turned::Deadline => (Shed::Deadline, "its deadline could not be met any more"),
        };
        self.shed(shed, priority, journal);
        let detail = format!("service {} is given as much as it can do: {what}", self.service);
        let mut problem = Problem::new(503, "connection_limit_reached", Fault::Terrace, true, detail);
        problem.retry_after_s = Some(1);
        problem
    }

    fn left(&self, priority: Priority, journal: &mut Journal<'_>) -> Problem {
        self.shed(Shed::ClientLeft, priority, journal);
        Problem::client(
            503,
            "http_request_error",
            "the client closed its side while the request waited in line",
        )
    }

    /// A request is sent away to protect others.
    pub(crate) fn shed(&self, shed: Shed, priority: Priority, journal: &mut Journal<'_>) {
        self.metrics.shed.count(shed, priority);
        journal.note(Note::Shed(shed.as_str()));
    }

    fn tell_opened(&self, cause: BreakerCause) {
        self.metrics.breaker.set(BreakerState::Open as i64);
        let event = Event::new(Level::Warn, "service.breaker.opened").service(&*self.service);
        let event = match cause {
            BreakerCause::Consecutive(failures) => {
                event.field("cause", "consecutive").field("failures", failures)
            }
            BreakerCause::Errors { failures, requests } => {
                event.field("cause", "errors").field("failures", failures).field("requests", requests)
            }
            BreakerCause::Slow { slow, requests } => {
                event.field("cause", "slow").field("slow", slow).field("requests", requests)
            }
            BreakerCause::Probe => event.field("cause", "probe"),
        };
        self.log.emit(event);
    }

    fn tell_state(&self, state: BreakerState) {
        self.metrics.breaker.set(state as i64);
        if state == BreakerState::Closed {
            self.log.emit(Event::new(Level::Info, "service.breaker.closed").service(&*self.service));
        }
    }

    fn lane(&self) -> MutexGuard<'_, Lane> {
        // Every change under the lock is whole when it is let go, whatever panics elsewhere.
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody in the line; leaves it when dropped.
struct Waiting<'g> {
    gate: &'g Gate,
    place: Option<Place>,
    receiver: oneshot::Receiver<Turn>,
    /// It gives up by then.
    until: Duration,
    /// When that is because nobody could use the answer any more.
    deadline: Duration,
}

/// How waiting ended.
enum Waited {
    Turn(Granted),
    Away(Turned),
    /// The client did.
    Left,
}

impl Waiting<'_> {
    async fn turn(&mut self, request: &mut Request<'_, '_>) -> Waited {
        let until = self.until;
        let reply = &mut request.exchange.reply;
        let waited = poll_fn(|cx| {
            if let Poll::Ready(told) = Pin::new(&mut self.receiver).poll(cx) {
                return Poll::Ready(match told {
                    Ok(Turn::Yours(granted)) => Waited::Turn(granted),
                    Ok(Turn::Away(why)) => Waited::Away(why),
                    // The gate is gone, and with it whoever could say more.
                    Err(_) => Waited::Away(Turned::Full),
                });
            }
            reply.poll_left(cx).map(|()| Waited::Left)
        });
        match request.exchange.reused.down.run(until, waited).await {
            Ok(waited) => waited,
            Err(_) if until >= self.deadline => Waited::Away(Turned::Deadline),
            Err(_) => Waited::Away(Turned::TooLong),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let left = self.place.take().and_then(|place| self.gate.lane().line.leave(place));
        if left.is_some() {
            self.gate.counts.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Slot<'_> {
    /// The service answered, after `latency`.
    #[inline]
    pub(crate) fn answered(&self, latency: Duration, upstream: &Upstream, now: Duration) {
        let Some(law) = &self.resilience.breaker else { return };
        let usual = law.slow.and_then(|_| upstream.usual().median);
        if let Some(cause) = self.gate.breaker.success(law, (latency, usual), now) {
            self.gate.tell_opened(cause);
        }
        self.end_probe(ProbeEnd::Well, now);
    }

    /// No endpoint answered.
    pub(crate) fn unanswered(&self, now: Duration) {
        let Some(law) = &self.resilience.breaker else { return };
        if self.probe.get().is_some() {
            return self.end_probe(ProbeEnd::Ill, now);
        }
        if let Some(cause) = self.gate.breaker.failure(law, now) {
            self.gate.tell_opened(cause);
        }
    }

    /// The service is not waited for any more, or not yet: the client is.
    #[inline]
    pub(crate) fn pause(&self) {
        if self.hold.get() == Hold::Place {
            self.hold.set(Hold::Paused);
            self.gate.leave();
        }
    }

    /// The client moved on.
    #[inline]
    pub(crate) fn resume(&self) {
        if self.hold.get() == Hold::Paused {
            self.hold.set(Hold::Place);
            // Beyond the limit where need be: the service has begun with it.
            self.gate.counts.in_flight.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What follows is no work that others should wait for.
    pub(crate) fn release(&self) {
        if self.hold.replace(Hold::None) == Hold::Place {
            self.gate.leave();
        }
    }

    #[inline]
    fn end_probe(&self, end: ProbeEnd, now: Duration) {
        if let Some(probe) = self.probe.take() {
            self.tell_probe((probe, end), now);
        }
    }

    #[cold]
    fn tell_probe(&self, ended: (Probe, ProbeEnd), now: Duration) {
        let law = self.resilience.breaker.unwrap_or_default();
        if let Some(state) = self.gate.breaker.end_probe(&law, ended, now) {
            self.gate.tell_state(state);
        }
    }
}

impl Drop for Slot<'_> {
    #[inline]
    fn drop(&mut self) {
        self.release();
        self.end_probe(ProbeEnd::Nothing, Duration::ZERO);
    }
}
