//! Traces: who caused what, by ids that travel with a request (W3C Trace Context, Level 1).
//!
//! A request that is kept is handed over as it was noted ([`Hop`]), and its spans are made when somebody looks or they are
//! sent on: most are never looked at. What every request pays for is in `edge`.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use crate::event::Value;
use crate::hex;

/// Identifies a trace; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub u128);

/// Identifies a span within a trace; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub u64);

/// The text is no id: it is not of that many lower-case hexadecimal digits, or all of them are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

/// What a span is to its parent, as OpenTelemetry names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SpanKind {
    /// A step within.
    #[default]
    Internal,
    /// A request taken.
    Server,
    /// A request sent.
    Client,
    /// A message sent.
    Producer,
    /// A message taken.
    Consumer,
}

/// How a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SpanStatus {
    /// Nobody said.
    #[default]
    Unset,
    /// Well.
    Ok,
    /// Not.
    Error,
}

/// A piece of a trace: what was done, where, from when to when.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub id: SpanId,
    /// What caused it; it may be known elsewhere only.
    pub parent: Option<SpanId>,
    /// Such as `GET /orders/*` or `connect`.
    pub name: Cow<'static, str>,
    /// What it is to its parent.
    pub kind: SpanKind,
    /// Who did it: `terrace`, or a service of the app.
    pub service: Arc<str>,
    /// Which instance of the service; empty where unknown.
    pub instance: Arc<str>,
    /// When it began.
    pub start: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// How it ended.
    pub status: SpanStatus,
    /// Names by OpenTelemetry's conventions where there is one, such as `http.route`.
    pub attributes: Vec<(Cow<'static, str>, Value)>,
}

/// What an allocator keeps beside each block, and rounds it up by, in bytes: for whoever estimates what something takes.
pub const BLOCK_BYTES: usize = 16;

/// A hop of a kept trace, as it was noted. Its spans are made when somebody asks for them, each time anew and always the
/// same, for they take ten times the room and the time.
pub trait Hop: fmt::Debug + Send {
    /// The trace.
    fn trace(&self) -> TraceId;
    /// The route that it met, if it met one.
    fn route(&self) -> Option<&Arc<str>>;
    /// Whether it is kept for what became of it: it failed, or was slow.
    fn is_trouble(&self) -> bool;
    /// How many spans it is.
    fn spans_count(&self) -> usize;
    /// Bytes of it, and of the names in the line that a list shows of it, estimated from above.
    fn bytes(&self) -> usize;
    /// Its spans, the request's first.
    fn spans(&self) -> Vec<Span>;
}

/// What was handed over to be kept, and not taken yet.
#[derive(Debug, Default)]
pub struct Handed {
    /// As they were noted.
    pub hops: Vec<Box<dyn Hop>>,
    /// What came as spans.
    pub spans: Vec<Span>,
    /// Spans of both.
    count: usize,
}

impl Handed {
    /// All spans: those of the hops are made.
    pub fn all_spans(&self) -> Vec<Span> {
        let mut all: Vec<Span> = self.hops.iter().flat_map(|hop| hop.spans()).collect();
        all.extend(self.spans.iter().cloned());
        all
    }

    /// Whether so many more spans find room, and if so that they are there.
    fn make_room(&mut self, count: usize, capacity: usize) -> bool {
        let is_room = self.count + count <= capacity;
        if is_room {
            self.count += count;
        }
        is_room
    }
}

/// Why a trace is kept, as far as one hop of it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kept {
    /// It is in the sample.
    Sampled,
    /// The caller keeps the trace, and says so.
    Asked,
    /// It failed, by our fault or a service's.
    Error,
    /// It took longer than [`TraceSettings::slow`].
    Slow,
    /// A copy of the request was answered differently by the service that it was mirrored to.
    Differed,
}

impl Kept {
    /// As the attribute `terrace.kept` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sampled => "sampled",
            Self::Asked => "asked",
            Self::Error => "error",
            Self::Slow => "slow",
            Self::Differed => "differed",
        }
    }

    /// Whether it was decided at the hop's end, so that no other hop of the trace can know.
    pub fn is_late(self) -> bool {
        matches!(self, Self::Error | Self::Slow | Self::Differed)
    }
}

/// Which traces are kept. May change at any time; what is under way is judged by what holds at its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceSettings {
    /// Whether requests are traced at all.
    pub on: bool,
    /// Share of all traces that is kept whatever becomes of them, 0 to 1.
    pub sample: f64,
    /// A hop that takes longer is kept.
    pub slow: Duration,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { on: true, sample: 0.01, slow: Duration::from_secs(1) }
    }
}

/// Decides which traces are kept, and takes their spans. Cheap to clone; never blocks.
///
/// # How hops of one trace agree
/// The sample is drawn by the trace id's own random bits, so that every hop draws alike without a word between them.
/// An error or slowness is known at the end of one hop only. That hop leaves the trace's id here ([`Tracer::keep_late`]);
/// each core asks now and then for ids that are new to it ([`Tracer::late_since`]), and hands over what its own flight
/// recorder still knows of them. So a request pays for the agreement with nothing: no shared table is looked into, and
/// nothing is sent to anybody, until something has gone wrong.
#[derive(Debug, Clone)]
pub struct Tracer(Option<Arc<Shared>>);

/// The reading end of a [`Tracer`].
#[derive(Debug)]
pub struct SpanReceiver(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    on: AtomicBool,
    /// Traces are in the sample whose [`SAMPLE_BITS`] lowest bits are below this.
    sample_below: AtomicU64,
    slow_ns: AtomicU64,
    capacity: usize,
    handed: Mutex<Handed>,
    dropped: AtomicU64,
    /// When a caller last named a trace: seconds of the clock, and one more, so that 0 says never.
    called_at_s: AtomicU64,
    /// How many ids were ever added to `late`.
    late_count: AtomicU64,
    late: Mutex<VecDeque<(TraceId, Kept)>>,
}

/// Of a trace id so many of the lowest bits are random wherever it was made (W3C Trace Context, Level 2, "random-trace-id").
const SAMPLE_BITS: u32 = 56;
const NS_PER_S: u64 = 1_000_000_000;
/// So long after the last call within a trace hops are remembered, lest a trace lacks those that ended before.
const CALLS_FOR_S: u64 = 600;
/// Ids of traces kept late that wait for cores to ask: a thousand failures between two looks.
const LATE_MAX: usize = 1_024;

impl Tracer {
    /// A tracer that holds up to `capacity` spans until they are taken.
    pub fn channel(capacity: usize) -> (Tracer, SpanReceiver) {
        let shared = Arc::new(Shared {
            on: AtomicBool::new(false),
            sample_below: AtomicU64::new(0),
            slow_ns: AtomicU64::new(0),
            capacity,
            handed: Mutex::default(),
            dropped: AtomicU64::new(0),
            called_at_s: AtomicU64::new(0),
            late_count: AtomicU64::new(0),
            late: Mutex::default(),
        });
        let tracer = Tracer(Some(Arc::clone(&shared)));
        tracer.configure(TraceSettings::default());
        (tracer, SpanReceiver(shared))
    }

    /// A tracer that is off for ever.
    pub fn discard() -> Tracer {
        Tracer(None)
    }

    /// Changes what is kept, from the next request on.
    pub fn configure(&self, settings: TraceSettings) {
        let Some(shared) = &self.0 else { return };
        let below = settings.sample.clamp(0.0, 1.0) * (1_u64 << SAMPLE_BITS) as f64;
        shared.sample_below.store(below as u64, Relaxed);
        let slow_ns = u64::try_from(settings.slow.as_nanos()).unwrap_or(u64::MAX);
        shared.slow_ns.store(slow_ns, Relaxed);
        shared.on.store(settings.on, Relaxed);
    }

    /// Whether requests are traced at all.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.on.load(Relaxed))
    }

    /// Whether the trace is kept whatever becomes of it.
    #[inline]
    pub fn is_in_sample(&self, trace: TraceId) -> bool {
        let random = trace.0 as u64 & ((1 << SAMPLE_BITS) - 1);
        self.0.as_ref().is_some_and(|shared| random < shared.sample_below.load(Relaxed))
    }

    /// Takes note of a caller that names its trace, so that traces of several hops are known to be about. Costs a load,
    /// and a store once a second.
    #[inline]
    pub fn heard_caller(&self, now: Duration) {
        let Some(shared) = &self.0 else { return };
        let now_s = now.as_secs() + 1;
        if shared.called_at_s.load(Relaxed) != now_s {
            shared.called_at_s.store(now_s, Relaxed);
        }
    }

    /// Whether traces may have more than one hop here: a caller named its trace within the last ten minutes. Where none
    /// does, a trace is kept or not with its only hop, and no hop need be remembered for the sake of others.
    #[inline]
    pub fn has_callers(&self, now: Duration) -> bool {
        let at_s = |shared: &Arc<Shared>| shared.called_at_s.load(Relaxed);
        let called_at_s = self.0.as_ref().map_or(0, at_s);
        called_at_s != 0 && now.as_secs() < called_at_s + CALLS_FOR_S
    }

    /// Whether a hop that took so long is kept for it.
    #[inline]
    pub fn is_slow(&self, duration: Duration) -> bool {
        let took_ns = duration.as_secs().saturating_mul(NS_PER_S) + u64::from(duration.subsec_nanos());
        self.0.as_ref().is_some_and(|shared| took_ns > shared.slow_ns.load(Relaxed))
    }

    /// Hands over a hop; when its spans would not fit it is dropped and they are counted.
    pub fn keep_hop(&self, hop: Box<dyn Hop>) {
        let Some(shared) = &self.0 else { return };
        let count = hop.spans_count();
        let mut handed = lock(&shared.handed);
        if !handed.make_room(count, shared.capacity) {
            return self.count_dropped(count as u64);
        }
        handed.hops.push(hop);
    }

    /// Hands over spans that belong together, all or none; when they do not fit they are dropped and counted.
    pub fn keep(&self, spans: Vec<Span>) {
        let Some(shared) = &self.0 else { return };
        let mut handed = lock(&shared.handed);
        if !handed.make_room(spans.len(), shared.capacity) {
            return self.count_dropped(spans.len() as u64);
        }
        handed.spans.extend(spans);
    }

    /// Counts spans that were never made, because too many were.
    pub fn count_dropped(&self, spans: u64) {
        if let Some(shared) = &self.0 {
            shared.dropped.fetch_add(spans, Relaxed);
        }
    }

    /// Makes known that a trace is kept because of what became of one of its hops. The last 1,024 are known.
    pub fn keep_late(&self, trace: TraceId, why: Kept) {
        let Some(shared) = &self.0 else { return };
        let mut late = lock(&shared.late);
        // A failure goes through all hops of a trace within moments; it needs telling once.
        if late.iter().rev().take(64).any(|(known, _)| *known == trace) {
            return;
        }
        if late.len() >= LATE_MAX {
            late.pop_front();
        }
        late.push_back((trace, why));
        shared.late_count.fetch_add(1, Relaxed);
    }

    /// Calls `tell` with each trace made known since the count was `seen`, at most the last 1,024, and returns the count
    /// as it is now. Costs one load when there is none.
    pub fn late_since(&self, seen: u64, mut tell: impl FnMut(TraceId, Kept)) -> u64 {
        let Some(shared) = &self.0 else { return seen };
        if shared.late_count.load(Relaxed) == seen {
            return seen;
        }
        let late = lock(&shared.late);
        let count = shared.late_count.load(Relaxed);
        let fresh = usize::try_from(count.saturating_sub(seen)).unwrap_or(usize::MAX).min(late.len());
        late.iter().skip(late.len() - fresh).for_each(|(trace, why)| tell(*trace, *why));
        count
    }
}

impl SpanReceiver {
    /// Takes all that waits.
    pub fn take(&self) -> Handed {
        std::mem::take(&mut *lock(&self.0.handed))
    }

    /// The same as spans.
    pub fn take_spans(&self) -> Vec<Span> {
        self.take().all_spans()
    }

    /// Spans dropped so far because nobody took them in time, or because more hops were to be kept than a core makes
    /// spans of; such a hop counts as one.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}

impl TraceId {
    /// How many digits it has.
    pub const DIGITS: usize = 32;

    /// Its digits, as fields and logs show it.
    #[inline]
    pub fn digits(self) -> [u8; Self::DIGITS] {
        let mut out = [0; Self::DIGITS];
        out[..16].copy_from_slice(&hex::digits((self.0 >> 64) as u64));
        out[16..].copy_from_slice(&hex::digits(self.0 as u64));
        out
    }
}

impl SpanId {
    /// How many digits it is written with.
    pub const DIGITS: usize = 16;

    /// Its digits, as fields and logs show it.
    #[inline]
    pub fn digits(self) -> [u8; Self::DIGITS] {
        hex::digits(self.0)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for TraceId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (words, rest) = text.as_bytes().as_chunks::<16>();
        match (words, rest) {
            ([high, low], []) => {
                let high = hex::number(high).ok_or(NotAnId)?;
                let low = hex::number(low).ok_or(NotAnId)?;
                let id = u128::from(high) << 64 | u128::from(low);
                if id == 0 { Err(NotAnId) } else { Ok(Self(id)) }
            }
            _ => Err(NotAnId),
        }
    }
}

impl FromStr for SpanId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digits = text.as_bytes().try_into().map_err(|_| NotAnId)?;
        match hex::number(digits) {
            Some(0) | None => Err(NotAnId),
            Some(id) => Ok(Self(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(trace: u128) -> Span {
        Span {
            trace: TraceId(trace),
            id: SpanId(1),
            parent: None,
            name: Cow::Borrowed("GET /"),
            kind: SpanKind::Server,
            service: Arc::from("terrace"),
            instance: Arc::from(""),
            start: SystemTime::UNIX_EPOCH,
            duration: Duration::ZERO,
            status: SpanStatus::Unset,
            attributes: Vec::new(),
        }
    }

    #[test]
    fn ids_are_read_as_they_are_written_and_zero_is_none() {
        let (trace, id) = (TraceId(0xabc), SpanId(0xdef));
        assert_eq!(trace.to_string().parse(), Ok(trace));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(trace.digits(), *trace.to_string().as_bytes());
        assert_eq!(id.digits(), *id.to_string().as_bytes());
        for text in ["", "0", &"0".repeat(32), &"A".repeat(32), &"1".repeat(33)] {
            assert_eq!(text.parse::<TraceId>(), Err(NotAnId), "{text}");
        }
        for text in ["", "0", &"0".repeat(16), &"A".repeat(16), &"1".repeat(17)] {
            assert_eq!(text.parse::<SpanId>(), Err(NotAnId), "{text}");
        }
    }

    #[test]
    fn spans_that_nobody_takes_are_bounded_and_counted() {
        let (tracer, receiver) = Tracer::channel(3);
        tracer.keep(vec![span(1), span(1)]);
        tracer.keep(vec![span(2), span(2)]);
        assert_eq!(receiver.dropped(), 2, "a hop is kept whole or not at all");
        assert_eq!(receiver.take_spans().len(), 2);
        tracer.keep(vec![span(3), span(3)]);
        assert_eq!(receiver.take_spans().len(), 2, "what is taken makes room");
    }

    /// A hop of so many spans.
    #[derive(Debug)]
    struct Noted(usize);

    impl Hop for Noted {
        fn trace(&self) -> TraceId {
            TraceId(1)
        }
        fn route(&self) -> Option<&Arc<str>> {
            None
        }
        fn is_trouble(&self) -> bool {
            false
        }
        fn spans_count(&self) -> usize {
            self.0
        }
        fn bytes(&self) -> usize {
            size_of::<Self>()
        }
        fn spans(&self) -> Vec<Span> {
            (0..self.0).map(|_| span(1)).collect()
        }
    }

    #[test]
    fn hops_share_the_bound_with_spans_and_are_kept_whole() {
        let (tracer, receiver) = Tracer::channel(5);
        tracer.keep_hop(Box::new(Noted(3)));
        tracer.keep(vec![span(2)]);
        tracer.keep_hop(Box::new(Noted(2)));
        let handed = receiver.take();
        assert_eq!((handed.hops.len(), handed.spans.len(), receiver.dropped()), (1, 1, 2));
        assert_eq!(handed.all_spans().len(), 4);
        tracer.keep_hop(Box::new(Noted(5)));
        assert_eq!(receiver.take_spans().len(), 5, "what is taken makes room");
    }

    #[test]
    fn the_sample_is_its_share_of_traces_and_the_same_on_every_hop() {
        let (tracer, _receiver) = Tracer::channel(1);
        let spread = |number: u64| TraceId(u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1 << 127);
        tracer.configure(TraceSettings { sample: 0.25, ..TraceSettings::default() });
        let drawn: Vec<bool> = (1..4_000).map(|number| tracer.is_in_sample(spread(number))).collect();
        let share = drawn.iter().filter(|is_in| **is_in).count();
        assert!((900..1_100).contains(&share), "{share}");
        let again: Vec<bool> = (1..4_000).map(|number| tracer.clone().is_in_sample(spread(number))).collect();
        assert_eq!(drawn, again);
        tracer.configure(TraceSettings { sample: 0.0, ..TraceSettings::default() });
        assert!(!(1..4_000).any(|number| tracer.is_in_sample(spread(number))));
        tracer.configure(TraceSettings { sample: 1.0, ..TraceSettings::default() });
        assert!(tracer.is_in_sample(TraceId(u128::MAX)));
        assert!(!Tracer::discard().is_in_sample(TraceId(1)));
    }

    #[test]
    fn a_trace_kept_late_is_told_once_to_each_who_asks() {
        let (tracer, _receiver) = Tracer::channel(1);
        let told = |seen: u64| {
            let mut told = Vec::new();
            let count = tracer.late_since(seen, |trace, why| told.push((trace.0, why)));
            (count, told)
        };
        assert_eq!(told(0), (0, vec![]));
        tracer.keep_late(TraceId(7), Kept::Error);
        tracer.keep_late(TraceId(7), Kept::Error);
        tracer.keep_late(TraceId(8), Kept::Slow);
        assert_eq!(told(0), (2, vec![(7, Kept::Error), (8, Kept::Slow)]));
        assert_eq!(told(1), (2, vec![(8, Kept::Slow)]));
        assert_eq!(told(2), (2, vec![]));
        (0..5_000).for_each(|number| tracer.keep_late(TraceId(100 + number), Kept::Slow));
        let (count, told) = told(2);
        assert_eq!(
            (count, told.len(), told.last()),
            (5_002, LATE_MAX, Some(&(5_099, Kept::Slow))),
            "the last ones are known"
        );
    }
}
