//! Traces: who caused what, by ids that travel with a request (W3C Trace Context, Level 1).
//!
//! Spans are made only of requests that are kept, so their cost is that of a log line, not of a request. What every
//! request pays for is in `edge`.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use crate::event::Value;

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

/// Where kept spans go. Cheap to clone; never blocks.
#[derive(Debug, Clone)]
pub struct Tracer(Option<Arc<Waiting>>);

/// The reading end of a [`Tracer`].
#[derive(Debug)]
pub struct SpanReceiver(Arc<Waiting>);

#[derive(Debug)]
struct Waiting {
    capacity: usize,
    spans: Mutex<VecDeque<Span>>,
    dropped: AtomicU64,
}

impl Tracer {
    /// A tracer that holds up to `capacity` spans until they are taken.
    pub fn channel(capacity: usize) -> (Tracer, SpanReceiver) {
        let waiting = Arc::new(Waiting { capacity, spans: Mutex::default(), dropped: AtomicU64::new(0) });
        (Tracer(Some(Arc::clone(&waiting))), SpanReceiver(waiting))
    }

    /// A tracer that keeps nothing.
    pub fn discard() -> Tracer {
        Tracer(None)
    }

    /// Hands over the spans of one hop, all or none; when they do not fit they are dropped and counted.
    pub fn keep(&self, spans: Vec<Span>) {
        let Some(waiting) = &self.0 else { return };
        let mut queue = lock(&waiting.spans);
        if queue.len() + spans.len() > waiting.capacity {
            waiting.dropped.fetch_add(spans.len() as u64, Relaxed);
            return;
        }
        queue.extend(spans);
    }
}

impl SpanReceiver {
    /// Takes all spans that wait.
    pub fn take(&self) -> Vec<Span> {
        std::mem::take(&mut *lock(&self.0.spans)).into()
    }

    /// Spans dropped so far because nobody took them in time.
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
        let id = is_hex(text, 32).then(|| u128::from_str_radix(text, 16).ok()).flatten();
        id.filter(|id| *id != 0).map(Self).ok_or(NotAnId)
    }
}

impl FromStr for SpanId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let id = is_hex(text, 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
        id.filter(|id| *id != 0).map(Self).ok_or(NotAnId)
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
