//! Spans that wait for their batch, bounded in number and bytes.

use std::collections::VecDeque;

use terrace_instruments::Span;
use terrace_signals::traces::span_bytes;

/// Some seconds of a thousand kept requests.
const SPANS_MAX: usize = 8_192;
/// However large they are.
const BYTES_MAX: usize = 16 << 20;

/// Oldest first. What is new finds no room when it is full, for what waits may be the beginning of its trace.
#[derive(Debug)]
pub(super) struct SpanQueue {
    is_on: bool,
    spans: VecDeque<Span>,
    bytes: usize,
}

impl SpanQueue {
    /// On, so that nothing of the first moments is lost before anybody has looked whether it is wanted.
    pub(super) fn new() -> Self {
        Self { is_on: true, spans: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Off, it takes nothing and forgets what it has: nobody wants it.
    pub(super) fn set_on(&mut self, is_on: bool) {
        self.is_on = is_on;
        if !is_on {
            self.spans = VecDeque::new();
            self.bytes = 0;
        }
    }

    /// Returns how many found no room.
    pub(super) fn push(&mut self, spans: &[Span]) -> u64 {
        if !self.is_on {
            return 0;
        }
        let mut dropped = 0;
        for span in spans {
            // A clone has no spare room, which is what is counted again when it is taken.
            let span = span.clone();
            let bytes = span_bytes(&span);
            if self.spans.len() >= SPANS_MAX || self.bytes + bytes > BYTES_MAX {
                dropped += 1;
                continue;
            }
            self.bytes += bytes;
            self.spans.push_back(span);
        }
        dropped
    }

    pub(super) fn take(&mut self, max: usize) -> Vec<Span> {
        let taken: Vec<Span> = self.spans.drain(..max.min(self.spans.len())).collect();
        self.bytes -= taken.iter().map(span_bytes).sum::<usize>();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};
    use terrace_instruments::{SpanId, SpanKind, SpanStatus, TraceId, Value};

    fn span(bytes: usize) -> Span {
        Span {
            trace: TraceId(1),
            id: SpanId(1),
            parent: None,
            name: Cow::Borrowed("x"),
            kind: SpanKind::Internal,
            service: Arc::from("terrace"),
            instance: Arc::from(""),
            start: SystemTime::UNIX_EPOCH,
            duration: Duration::ZERO,
            status: SpanStatus::Unset,
            attributes: vec![(Cow::Borrowed("text"), Value::Text(Cow::Owned("x".repeat(bytes))))],
        }
    }

    #[test]
    fn a_full_queue_drops_what_is_new_and_counts_it() {
        let mut queue = SpanQueue::new();
        queue.set_on(false);
        assert_eq!((queue.push(&[span(1)]), queue.take(9).len()), (0, 0), "nobody wants any");
        queue.set_on(true);
        assert_eq!(queue.push(&vec![span(1); SPANS_MAX + 3]), 3);
        assert_eq!(queue.take(BATCH).len(), BATCH);
        assert_eq!(queue.push(&vec![span(1); BATCH + 1]), 1);
    }

    const BATCH: usize = 512;

    #[test]
    fn large_spans_are_bounded_by_their_bytes() {
        let mut queue = SpanQueue::new();
        queue.set_on(true);
        let dropped = queue.push(&vec![span(1 << 20); 100]);
        assert!(dropped >= 84, "{dropped}");
        while !queue.take(5).is_empty() {}
        assert_eq!((queue.bytes, queue.push(&[span(1 << 20)])), (0, 0), "what was taken makes room");
        queue.set_on(false);
        assert_eq!(queue.take(5).len(), 0);
    }
}
