//! The store: what is kept, what waits, and what gives way.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use terrace_instruments::{BLOCK_BYTES, Hop, Span, TraceId};

use super::filter::Wanted;
use super::pending::Pending;
use super::trigrams::Trigrams;
use super::view;
use super::weight::span_bytes;
use super::{TraceBounds, TraceFilter, TraceSummary};

/// The kept traces.
#[derive(Debug)]
pub struct TraceStore {
    bounds: TraceBounds,
    traces: FxHashMap<TraceId, Trace>,
    /// Newest last.
    arrivals: BTreeMap<u64, TraceId>,
    shares: FxHashMap<Holder, Share>,
    pending: Pending,
    next: u64,
    bytes: usize,
    counts: TraceCounts,
    joined: Joined,
}

/// Spans of the app that became part of a kept trace, for whoever sends kept traces on.
#[derive(Debug, Default)]
struct Joined {
    is_wanted: bool,
    spans: Vec<Span>,
}

/// Spans that may wait for [`TraceStore::take_joined`]; further ones are not told.
const JOINED_MAX: usize = 16_384;

/// What a [`TraceStore`] holds and has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceCounts {
    /// Traces kept now.
    pub traces: usize,
    /// Bytes of them, estimated.
    pub bytes: usize,
    /// Spans of the app that wait now for their trace to be kept.
    pub spans_pending: usize,
    /// Bytes of them, estimated.
    pub pending_bytes: usize,
    /// Traces that gave way to newer ones, since the start.
    pub traces_evicted: u64,
    /// Spans left out of traces that had grown too large, since the start.
    pub spans_left_out: u64,
    /// Spans of the app whose trace nobody kept, since the start; with head sampling that is most of what it sends.
    pub spans_expired: u64,
    /// Spans of the app that found no room to wait, since the start.
    pub spans_refused: u64,
}

/// One kept trace.
#[derive(Debug)]
struct Trace {
    id: TraceId,
    number: u64,
    holder: Holder,
    /// As they were noted: their spans are made when somebody looks, and not kept.
    hops: Vec<Box<dyn Hop>>,
    /// The app's, and what else came as spans.
    spans: Vec<Span>,
    /// Spans of both.
    spans_count: usize,
    /// Of both, without the lists that hold them.
    held_bytes: usize,
    /// Of everything.
    bytes: usize,
    left_out: u64,
    /// Made when somebody looks.
    summary: OnceCell<TraceSummary>,
    /// Made when somebody looks for a text: it costs more than all else that keeping a trace does.
    pieces: OnceCell<Trigrams>,
}

/// In whose account a trace is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holder {
    /// A route of ours, with what failed or was slow; none for what met none.
    Route(Option<Arc<str>>),
    /// A route of ours, with what was kept though it went well. Apart, for any caller can have that kept, by the flag in
    /// `traceparent` or by the id, and must not push out what went wrong.
    Calm(Option<Arc<str>>),
    /// A service of the app, with what it began itself.
    Service(Arc<str>),
}

/// What one holder has.
#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    /// Oldest first.
    traces: BTreeMap<u64, TraceId>,
}

/// Of the entries in the maps: a slot in each, and room to grow.
const TRACE_BYTES: usize =
    2 * size_of::<(TraceId, Trace)>() + 4 * size_of::<(u64, TraceId)>() + Trigrams::BYTES;

impl TraceStore {
    /// An empty store.
    pub fn new(bounds: TraceBounds) -> Self {
        Self {
            bounds,
            traces: FxHashMap::default(),
            arrivals: BTreeMap::new(),
            shares: FxHashMap::default(),
            pending: Pending::default(),
            next: 0,
            bytes: 0,
            counts: TraceCounts::default(),
            joined: Joined::default(),
        }
    }

    /// Takes hops through Terrace that were decided to be kept.
    pub fn keep_hops(&mut self, now: Duration, hops: Vec<Box<dyn Hop>>) {
        self.expire(now);
        for hop in hops {
            let trace = hop.trace();
            let waiting = self.pending.take(trace);
            self.add(trace, Some(hop), waiting);
        }
        self.make_room();
    }

    /// Takes spans of Terrace that were decided to be kept.
    pub fn keep(&mut self, now: Duration, spans: Vec<Span>) {
        self.expire(now);
        for (trace, mut spans) in by_trace(spans) {
            spans.extend(self.pending.take(trace));
            self.add(trace, None, spans);
        }
        self.make_room();
    }

    /// Takes spans that the app sent. They wait a while for their trace to be kept, unless it already is, or began in the
    /// app itself: then it has a span without parent that is not ours, and the app's own sampler has chosen it.
    pub fn offer(&mut self, now: Duration, spans: Vec<Span>) {
        self.expire(now);
        for (trace, mut spans) in by_trace(spans) {
            if self.traces.contains_key(&trace) || spans.iter().any(begins_in_the_app) {
                spans.extend(self.pending.take(trace));
                self.add(trace, None, spans);
            } else {
                self.counts.spans_refused += self.pending.add(now, trace, spans, &self.bounds);
            }
        }
        self.make_room();
    }

    /// The newest traces that fit: by when they were first kept, which no clock of a stranger can forge.
    pub fn recent(&self, filter: &TraceFilter) -> Vec<TraceSummary> {
        let wanted = Wanted::new(filter);
        let newest = self.arrivals.values().rev().filter_map(|trace| self.traces.get(trace));
        let fits =
            newest.filter(|trace| wanted.fits(trace.summary(), || trace.pieces(), || trace.all_spans()));
        fits.take(filter.limit).map(|trace| trace.summary().clone()).collect()
    }

    /// All spans of a trace, parents before their children, siblings by start; spans whose parent is not known stand at
    /// the top. A span of another process that seems to begin before its parent is shown later, and says so in
    /// [`SKEW_ATTRIBUTE`](super::SKEW_ATTRIBUTE).
    pub fn get(&self, trace: TraceId) -> Option<Vec<Span>> {
        self.traces.get(&trace).map(|trace| view::shown(&trace.all_spans()))
    }

    /// What is held and what was lost.
    pub fn counts(&self) -> TraceCounts {
        TraceCounts {
            traces: self.traces.len(),
            bytes: self.bytes,
            spans_pending: self.pending.spans(),
            pending_bytes: self.pending.bytes(),
            ..self.counts
        }
    }

    /// Spans of the app that became part of kept traces since the last call, but for those before the first. They are
    /// gathered while `is_wanted` was true the last time.
    pub fn take_joined(&mut self, is_wanted: bool) -> Vec<Span> {
        self.joined.is_wanted = is_wanted;
        std::mem::take(&mut self.joined.spans)
    }

    fn expire(&mut self, now: Duration) {
        self.counts.spans_expired += self.pending.expire(now, self.bounds.pending_time);
    }

    /// Adds to a trace, which begins to be kept if it is not yet.
    fn add(&mut self, id: TraceId, hop: Option<Box<dyn Hop>>, spans: Vec<Span>) {
        let mut trace = match self.release(id) {
            Some(trace) => trace,
            None => self.begin(id),
        };
        if let Some(hop) = hop {
            trace.push(hop, &self.bounds, &mut self.counts);
        }
        trace.extend(spans, &self.bounds, &mut self.counts, &mut self.joined);
        if matches!(trace.holder, Holder::Calm(_)) {
            trace.holder = trace.holder();
        }
        trace.renew();
        self.hold(id, trace);
    }

    fn begin(&mut self, trace: TraceId) -> Trace {
        self.next += 1;
        Trace {
            id: trace,
            number: self.next,
            holder: Holder::Calm(None),
            hops: Vec::new(),
            spans: Vec::new(),
            spans_count: 0,
            held_bytes: 0,
            bytes: 0,
            left_out: 0,
            summary: OnceCell::new(),
            pieces: OnceCell::new(),
        }
    }

    /// Takes a trace out of the books, all but its place among the others.
    fn release(&mut self, id: TraceId) -> Option<Trace> {
        let trace = self.traces.remove(&id)?;
        self.bytes -= trace.bytes;
        self.arrivals.remove(&trace.number);
        if let Some(share) = self.shares.get_mut(&trace.holder) {
            share.bytes -= trace.bytes;
            share.traces.remove(&trace.number);
            if share.traces.is_empty() {
                self.shares.remove(&trace.holder);
            }
        }
        Some(trace)
    }

    fn hold(&mut self, id: TraceId, trace: Trace) {
        self.bytes += trace.bytes;
        self.arrivals.insert(trace.number, id);
        let share = match self.shares.get_mut(&trace.holder) {
            Some(share) => share,
            None => self.shares.entry(trace.holder.clone()).or_default(),
        };
        share.bytes += trace.bytes;
        share.traces.insert(trace.number, id);
        self.traces.insert(id, trace);
    }

    fn make_room(&mut self) {
        while self.traces.len() > self.bounds.traces_max || self.bytes > self.bounds.bytes_max {
            let Some(oldest) = self.oldest_of_the_largest() else { return };
            self.release(oldest);
            self.counts.traces_evicted += 1;
        }
    }

    /// The oldest trace of who holds most of whichever bound it holds more of; between equals, of who has the oldest.
    fn oldest_of_the_largest(&self) -> Option<TraceId> {
        let weight = |share: &Share| {
            let by_number = share.traces.len() as f64 / self.bounds.traces_max.max(1) as f64;
            let by_bytes = share.bytes as f64 / self.bounds.bytes_max.max(1) as f64;
            by_number.max(by_bytes)
        };
        let oldest = |share: &Share| share.traces.first_key_value().map(|(number, trace)| (*number, *trace));
        let candidates = self.shares.values().filter_map(|share| Some((weight(share), oldest(share)?)));
        let largest =
            candidates.max_by(|(a, (first, _)), (b, (second, _))| a.total_cmp(b).then(second.cmp(first)));
        largest.map(|(_, (_, trace))| trace)
    }
}

impl Trace {
    fn push(&mut self, hop: Box<dyn Hop>, bounds: &TraceBounds, counts: &mut TraceCounts) {
        let (spans, bytes) = (hop.spans_count(), hop.bytes());
        if self.takes(spans, bytes, bounds, counts) {
            self.hops.push(hop);
        }
    }

    /// Whether so much more finds room in the trace; it is counted as held, or as left out.
    fn takes(&mut self, spans: usize, bytes: usize, bounds: &TraceBounds, counts: &mut TraceCounts) -> bool {
        let is_full = self.spans_count + spans > bounds.spans_per_trace_max
            || self.held_bytes + bytes > bounds.bytes_per_trace_max;
        if is_full {
            self.left_out += spans as u64;
            counts.spans_left_out += spans as u64;
        } else {
            self.spans_count += spans;
            self.held_bytes += bytes;
        }
        !is_full
    }

    fn extend(
        &mut self,
        spans: Vec<Span>,
        bounds: &TraceBounds,
        counts: &mut TraceCounts,
        joined: &mut Joined,
    ) {
        for span in spans {
            // Sent twice, as after an answer that got lost.
            if self.spans.iter().any(|known| known.id == span.id) {
                continue;
            }
            if self.takes(1, span_bytes(&span), bounds, counts) {
                joined.tell(&span);
                self.spans.push(span);
            }
        }
    }

    /// All spans, those of the hops made anew. Of an id that a hop has the hop is believed, not the app.
    fn all_spans(&self) -> Cow<'_, [Span]> {
        if self.hops.is_empty() {
            return Cow::Borrowed(&self.spans);
        }
        let mut all: Vec<Span> = self.hops.iter().flat_map(|hop| hop.spans()).collect();
        let is_other = |span: &&Span| all.iter().all(|made| made.id != span.id);
        let others: Vec<Span> = self.spans.iter().filter(is_other).cloned().collect();
        all.extend(others);
        Cow::Owned(all)
    }

    /// Who pays for it: its route, or the service that began it. Both come from the file or are few; were it the name of a
    /// span, whoever invents names would outlive all others.
    fn holder(&self) -> Holder {
        let is_ours = |span: &Span| span.service.as_ref() == view::TERRACE;
        if self.hops.is_empty()
            && !self.spans.iter().any(is_ours)
            && let Some(root) = self.spans.iter().find(|span| begins_in_the_app(span))
        {
            return Holder::Service(Arc::clone(&root.service));
        }
        let noted = self.hops.iter().find_map(|hop| hop.route()).cloned();
        let route = noted.or_else(|| self.spans.iter().find_map(view::route_of).map(Arc::from));
        let is_trouble =
            self.hops.iter().any(|hop| hop.is_trouble()) || self.spans.iter().any(view::is_trouble);
        if is_trouble { Holder::Route(route) } else { Holder::Calm(route) }
    }

    fn pieces(&self) -> &Trigrams {
        self.pieces.get_or_init(|| view::trigrams(self.id, &self.all_spans()))
    }

    fn summary(&self) -> &TraceSummary {
        self.summary.get_or_init(|| view::summary(self.id, &self.all_spans(), self.left_out))
    }

    /// Forgets what was shown of it, which does not fit its spans any more.
    fn renew(&mut self) {
        (self.summary, self.pieces) = (OnceCell::new(), OnceCell::new());
        let spare = (self.spans.capacity() - self.spans.len()) * size_of::<Span>();
        let list = self.hops.capacity() * size_of::<Box<dyn Hop>>();
        // At most what a summary will take: a name and a service of each span, and the route's.
        let service = |span: &Span| span.service.len() + 3 * BLOCK_BYTES;
        let summary: usize = self.spans.iter().map(service).sum();
        self.bytes = TRACE_BYTES + self.held_bytes + spare + list + summary + 8 * BLOCK_BYTES;
    }
}

impl Joined {
    fn tell(&mut self, span: &Span) {
        if self.is_wanted && self.spans.len() < JOINED_MAX && span.service.as_ref() != view::TERRACE {
            self.spans.push(span.clone());
        }
    }
}

fn begins_in_the_app(span: &Span) -> bool {
    span.parent.is_none() && span.service.as_ref() != view::TERRACE
}

/// The spans of each trace, in the order in which they came.
fn by_trace(spans: Vec<Span>) -> Vec<(TraceId, Vec<Span>)> {
    let mut places: FxHashMap<TraceId, usize> = FxHashMap::default();
    let mut traces: Vec<(TraceId, Vec<Span>)> = Vec::new();
    for span in spans {
        let place = *places.entry(span.trace).or_insert(traces.len());
        if place == traces.len() {
            traces.push((span.trace, Vec::new()));
        }
        traces[place].1.push(span);
    }
    traces
}
