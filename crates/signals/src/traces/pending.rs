//! Spans of the app that wait for their trace to be kept, which Terrace decides at the end of a request and the app cannot
//! know. They wait within a bound on bytes and time; the app's SDK sends them some seconds late, so most find their trace
//! decided already.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use terrace_instruments::{BLOCK_BYTES, Span, TraceId};

use super::TraceBounds;
use super::weight::span_bytes;

/// What waits, by trace.
#[derive(Debug, Default)]
pub(super) struct Pending {
    traces: FxHashMap<TraceId, Waiting>,
    /// In order of arrival; a trace that was taken meanwhile, or taken and came again, has another number.
    arrivals: VecDeque<(Duration, u64, TraceId)>,
    bytes: usize,
    spans: usize,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    spans: Vec<Span>,
    bytes: usize,
}

/// Of the map's slot, the queue's, and the list's block.
const TRACE_BYTES: usize = 2 * (size_of::<TraceId>() + size_of::<Waiting>())
    + 2 * size_of::<(Duration, u64, TraceId)>()
    + BLOCK_BYTES;

impl Pending {
    /// Lets spans wait; those that find no room are dropped, and their number is returned.
    pub(super) fn add(
        &mut self,
        now: Duration,
        trace: TraceId,
        spans: Vec<Span>,
        bounds: &TraceBounds,
    ) -> u64 {
        let mut dropped = 0;
        for span in spans {
            // A list that grows has at worst as much room again as it uses.
            let bytes = span_bytes(&span) + size_of::<Span>();
            let more = if self.traces.contains_key(&trace) { bytes } else { bytes + TRACE_BYTES };
            let held = self.traces.get(&trace).map_or(0, |waiting| waiting.spans.len());
            if self.bytes + more > bounds.pending_bytes_max || held >= bounds.spans_per_trace_max {
                dropped += 1;
                continue;
            }
            self.push(now, trace, span, more);
        }
        dropped
    }

    fn push(&mut self, now: Duration, trace: TraceId, span: Span, bytes: usize) {
        let number = self.next;
        let waiting = self.traces.entry(trace).or_insert_with(|| {
            self.next += 1;
            self.arrivals.push_back((now, number, trace));
            Waiting { number, spans: Vec::new(), bytes: 0 }
        });
        waiting.spans.push(span);
        waiting.bytes += bytes;
        self.bytes += bytes;
        self.spans += 1;
    }

    /// Takes what waits for this trace.
    pub(super) fn take(&mut self, trace: TraceId) -> Vec<Span> {
        let Some(waiting) = self.traces.remove(&trace) else { return Vec::new() };
        self.bytes -= waiting.bytes;
        self.spans -= waiting.spans.len();
        self.forget_gaps();
        waiting.spans
    }

    /// Forgets what has waited `time` or longer; returns the number of spans.
    pub(super) fn expire(&mut self, now: Duration, time: Duration) -> u64 {
        let before = self.spans;
        while let Some((since, number, trace)) = self.arrivals.front().copied() {
            if now.saturating_sub(since) < time && self.waits(trace, number) {
                break;
            }
            self.arrivals.pop_front();
            if self.waits(trace, number) {
                self.take(trace);
            }
        }
        (before - self.spans) as u64
    }

    /// Keeps the queue in proportion to what waits, when most of what it names was taken from its middle.
    fn forget_gaps(&mut self) {
        if self.arrivals.len() > 2 * self.traces.len() + 64 {
            let traces = &self.traces;
            let waits =
                |number: &u64, trace: &TraceId| traces.get(trace).is_some_and(|it| it.number == *number);
            self.arrivals.retain(|(_, number, trace)| waits(number, trace));
        }
    }

    fn waits(&self, trace: TraceId, number: u64) -> bool {
        self.traces.get(&trace).is_some_and(|waiting| waiting.number == number)
    }

    /// Spans that wait.
    pub(super) fn spans(&self) -> usize {
        self.spans
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
