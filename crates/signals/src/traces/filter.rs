//! Whether a trace is wanted. What is cheap to ask is asked first; texts are looked into last, and only where the
//! trace's pieces allow that they are there.

use std::borrow::Cow;

use terrace_instruments::Span;

use super::trigrams::Trigrams;
use super::{TraceFilter, TraceSummary, view};

/// A filter whose text is in lower case.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    filter: &'a TraceFilter,
    text: Option<String>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(filter: &'a TraceFilter) -> Self {
        let text = filter.text.as_deref().filter(|text| !text.is_empty()).map(str::to_ascii_lowercase);
        Self { filter, text }
    }

    pub(super) fn fits<'t>(
        &self,
        summary: &TraceSummary,
        pieces: impl FnOnce() -> &'t Trigrams,
        spans: impl FnOnce() -> Cow<'t, [Span]>,
    ) -> bool {
        let filter = self.filter;
        let service = filter.service.as_ref().is_none_or(|service| summary.services.contains(service));
        let route = filter.route.as_ref().is_none_or(|route| summary.route == *route);
        let outcome = summary.is_error || !filter.errors_only;
        if !service || !route || !outcome || summary.duration < filter.duration_min {
            return false;
        }
        let Some(text) = &self.text else { return true };
        pieces().may_hold(text.as_bytes()) && view::holds(summary.trace, &spans(), text)
    }
}
