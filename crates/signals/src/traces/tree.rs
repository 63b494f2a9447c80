//! The order in which a trace is read: parents before their children, siblings by start.
//!
//! Spans come from strangers, so a parent may be missing, or be its own grandchild. A span whose parent is unknown stands
//! at the top; of a ring of parents the earliest span stands at the top and the rest hangs below it. Each span is in the
//! answer exactly once, and no chain is too deep, for nothing here recurses.

use std::time::{Duration, SystemTime};

use rustc_hash::FxHashMap;
use terrace_instruments::{Span, SpanId};

use super::skew;

/// A span at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// Where it is in what was given.
    pub(super) index: usize,
    /// How much later it is shown than its clock said.
    pub(super) shift: Duration,
}

/// The order of `spans`, whose ids differ.
pub(super) fn arrange(spans: &[Span]) -> Vec<Placed> {
    let family = Family::of(spans);
    let mut walk = Walk { spans, family: &family, seen: vec![false; spans.len()], order: Vec::new() };
    walk.order.reserve(spans.len());
    for top in sorted(spans, family.tops.clone()) {
        walk.descend(top);
    }
    if walk.order.len() < spans.len() {
        // What is left hangs below rings.
        for top in sorted(spans, (0..spans.len()).map(unshifted).collect()) {
            walk.descend(top);
        }
    }
    walk.order
}

/// Who hangs below whom.
struct Family {
    tops: Vec<Placed>,
    children: FxHashMap<usize, Vec<usize>>,
}

impl Family {
    fn of(spans: &[Span]) -> Self {
        let by_id: FxHashMap<SpanId, usize> =
            spans.iter().enumerate().map(|(index, span)| (span.id, index)).collect();
        let mut family = Self { tops: Vec::new(), children: FxHashMap::default() };
        for (index, span) in spans.iter().enumerate() {
            match span.parent.and_then(|parent| by_id.get(&parent)) {
                Some(parent) => family.children.entry(*parent).or_default().push(index),
                None => family.tops.push(unshifted(index)),
            }
        }
        family
    }
}

struct Walk<'a> {
    spans: &'a [Span],
    family: &'a Family,
    seen: Vec<bool>,
    order: Vec<Placed>,
}

impl Walk<'_> {
    /// Adds a span and all that hangs below it and was not seen yet.
    fn descend(&mut self, top: Placed) {
        let mut stack = vec![top];
        while let Some(placed) = stack.pop() {
            if std::mem::replace(&mut self.seen[placed.index], true) {
                continue;
            }
            self.order.push(placed);
            let Some(children) = self.family.children.get(&placed.index) else { continue };
            let parent = &self.spans[placed.index];
            let place = |index: &usize| Placed {
                index: *index,
                shift: skew::shift(parent, placed.shift, &self.spans[*index]),
            };
            // The stack gives back the last one first.
            stack.extend(sorted(self.spans, children.iter().map(place).collect()).into_iter().rev());
        }
    }
}

fn unshifted(index: usize) -> Placed {
    Placed { index, shift: Duration::ZERO }
}

/// By start as shown; by id where two begin at once, so that the order does not depend on who came first.
fn sorted(spans: &[Span], mut placed: Vec<Placed>) -> Vec<Placed> {
    placed.sort_by_key(|placed| (shown_start(spans, *placed), spans[placed.index].id));
    placed
}

/// When a span is shown to begin.
pub(super) fn shown_start(spans: &[Span], placed: Placed) -> SystemTime {
    skew::later(spans[placed.index].start, placed.shift)
}
