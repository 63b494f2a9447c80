//! What a user would say of traces, and the store against a model that does everything the long way.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use terrace_instruments::{Hop, Span, SpanId, SpanKind, SpanStatus, TraceId, Value};

use super::{SKEW_ATTRIBUTE, TraceBounds, TraceFilter, TraceStore};

const NOW: Duration = Duration::from_secs(100);

fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + millis)
}

fn span(trace: u128, id: u64, parent: u64, service: &str) -> Span {
    Span {
        trace: TraceId(trace),
        id: SpanId(id),
        parent: (parent != 0).then_some(SpanId(parent)),
        name: Cow::Owned(format!("span {id}")),
        kind: SpanKind::Internal,
        service: Arc::from(service),
        instance: Arc::from(""),
        start: at(id),
        duration: Duration::from_millis(10),
        status: SpanStatus::Unset,
        attributes: Vec::new(),
    }
}

fn with(mut span: Span, name: &'static str, value: impl Into<Value>) -> Span {
    span.attributes.push((Cow::Borrowed(name), value.into()));
    span
}

/// A request to `route` as Terrace tells of it.
fn hop(trace: u128, route: &str) -> Span {
    let mut span = span(trace, 1, 0, "terrace");
    span.kind = SpanKind::Server;
    with(
        with(with(span, "terrace.route", route), "terrace.kept", "slow"),
        "http.response.status_code",
        503_u16,
    )
}

/// A hop as it is handed over: what its spans will be, and what of it is known before.
#[derive(Debug)]
struct Noted {
    spans: Vec<Span>,
    route: Arc<str>,
    bytes: usize,
}

impl Hop for Noted {
    fn trace(&self) -> TraceId {
        self.spans[0].trace
    }
    fn route(&self) -> Option<&Arc<str>> {
        Some(&self.route)
    }
    fn is_trouble(&self) -> bool {
        true
    }
    fn spans_count(&self) -> usize {
        self.spans.len()
    }
    fn bytes(&self) -> usize {
        self.bytes
    }
    fn spans(&self) -> Vec<Span> {
        self.spans.clone()
    }
}

/// The same request as it was noted, with a try.
fn noted(trace: u128, route: &str) -> Box<dyn Hop> {
    let spans = vec![hop(trace, route), span(trace, 2, 1, "terrace")];
    Box::new(Noted { spans, route: Arc::from(route), bytes: 500 })
}

fn store() -> TraceStore {
    TraceStore::new(TraceBounds::default())
}

fn all() -> TraceFilter {
    TraceFilter { limit: usize::MAX, ..TraceFilter::default() }
}

fn ids(store: &TraceStore, filter: &TraceFilter) -> Vec<u128> {
    store.recent(filter).iter().map(|summary| summary.trace.0).collect()
}

fn shown(store: &TraceStore, trace: u128) -> Vec<u64> {
    let spans = store.get(TraceId(trace)).unwrap_or_default();
    spans.iter().map(|span| span.id.0).collect()
}

#[test]
fn a_trace_is_put_together_from_hops_and_the_app() {
    let mut store = store();
    store.offer(NOW, vec![span(7, 3, 2, "orders")]);
    assert!(store.get(TraceId(7)).is_none(), "nobody kept it yet");
    store.keep(NOW, vec![hop(7, "orders"), with(span(7, 2, 1, "terrace"), "terrace.service", "orders")]);
    store.offer(NOW, vec![span(7, 4, 3, "payments")]);
    assert_eq!(shown(&store, 7), [1, 2, 3, 4]);
    let summary = store.recent(&all()).remove(0);
    assert_eq!((summary.root.as_str(), summary.route.as_str(), summary.kept), ("span 1", "orders", "slow"));
    assert_eq!(summary.services, ["terrace", "orders", "payments"]);
    assert_eq!((summary.spans, summary.status, summary.is_error), (4, Some(503), false));
    assert_eq!((summary.start, summary.duration), (at(1), Duration::from_millis(13)));
}

#[test]
fn a_try_that_another_made_good_is_no_error_and_one_that_none_did_is() {
    let attempt = |id, status| Span { kind: SpanKind::Client, status, ..span(7, id, 1, "terrace") };
    let failed = |mut span: Span| {
        span.status = SpanStatus::Error;
        span
    };
    let seen = |spans: Vec<Span>| {
        let mut store = store();
        store.keep(NOW, spans);
        let errors = TraceFilter { errors_only: true, ..all() };
        let summary = store.recent(&all()).remove(0);
        assert_eq!(store.recent(&errors).len(), usize::from(summary.is_error));
        (summary.is_error, summary.is_retried)
    };
    let app = failed(span(7, 4, 2, "orders"));
    let tries = |last| vec![attempt(2, SpanStatus::Error), app.clone(), attempt(3, last)];
    let hop = || vec![hop(7, "orders")];
    assert_eq!(seen([hop(), tries(SpanStatus::Unset)].concat()), (false, true));
    assert_eq!(seen([hop(), tries(SpanStatus::Error)].concat()), (true, false), "a fallback answered");
    assert_eq!(seen([vec![failed(hop().remove(0))], tries(SpanStatus::Unset)].concat()), (true, false));
    let inside = failed(span(7, 5, 3, "stock"));
    assert_eq!(seen([hop(), tries(SpanStatus::Unset), vec![inside]].concat()), (true, false));
}

#[test]
fn spans_of_the_app_wait_thirty_seconds_for_their_trace_and_no_longer() {
    let mut store = store();
    store.offer(NOW, vec![span(1, 3, 2, "orders")]);
    store.offer(NOW + Duration::from_secs(1), vec![span(2, 3, 2, "orders")]);
    store.keep(NOW + Duration::from_secs(30), vec![hop(1, "a"), hop(2, "a")]);
    assert_eq!((shown(&store, 1), shown(&store, 2)), (vec![1], vec![1, 3]));
    assert_eq!((store.counts().spans_expired, store.counts().spans_pending), (1, 0));
}

#[test]
fn who_sends_kept_traces_on_is_told_the_apps_part_of_them() {
    let mut store = store();
    store.keep(NOW, vec![hop(1, "a"), span(1, 2, 1, "orders")]);
    assert_eq!(store.take_joined(true), [], "nobody had asked");
    store.offer(NOW, vec![span(2, 3, 2, "orders"), span(1, 3, 2, "orders"), span(1, 3, 2, "orders")]);
    store.keep(NOW, vec![hop(2, "a")]);
    let told: Vec<(u128, u64)> =
        store.take_joined(false).iter().map(|span| (span.trace.0, span.id.0)).collect();
    assert_eq!(told, [(1, 3), (2, 3)]);
}

#[test]
fn a_trace_that_began_in_the_app_is_kept_as_its_own() {
    let mut store = store();
    store.offer(NOW, vec![span(5, 11, 10, "worker")]);
    store.offer(NOW, vec![span(5, 10, 0, "worker")]);
    assert_eq!(shown(&store, 5), [10, 11]);
    assert_eq!(store.recent(&all())[0].kept, "sampled");
}

#[test]
fn the_store_says_what_it_left_out_of_a_trace_that_grew_too_large() {
    let mut store = TraceStore::new(TraceBounds { spans_per_trace_max: 3, ..TraceBounds::default() });
    store.keep(NOW, vec![hop(1, "a")]);
    store.offer(NOW, (2..10).map(|id| span(1, id, 1, "orders")).collect());
    let summary = store.recent(&all()).remove(0);
    assert_eq!((summary.spans, summary.spans_left_out), (3, 6));
}

#[test]
fn a_hop_as_it_was_noted_is_shown_like_one_that_came_as_spans() {
    let mut store = store();
    store.offer(NOW, vec![span(7, 3, 2, "orders")]);
    store.keep_hops(NOW, vec![noted(7, "orders"), noted(8, "payments")]);
    store.offer(NOW, vec![span(7, 4, 3, "stock")]);
    assert_eq!((shown(&store, 7), shown(&store, 8)), (vec![1, 2, 3, 4], vec![1, 2]));
    let summary = store.recent(&all()).remove(1);
    assert_eq!((summary.root.as_str(), summary.route.as_str(), summary.kept), ("span 1", "orders", "slow"));
    assert_eq!(summary.services, ["terrace", "orders", "stock"]);
    assert_eq!((summary.spans, summary.status), (4, Some(503)));
    let found = TraceFilter { text: Some("PAYMENTS".into()), ..all() };
    assert_eq!(ids(&store, &found), [8]);
}

#[test]
fn of_an_id_that_a_hop_has_the_hop_is_believed() {
    let mut store = store();
    store.keep_hops(NOW, vec![noted(1, "a")]);
    store.offer(NOW, vec![span(1, 2, 1, "liar"), span(1, 3, 2, "orders")]);
    let spans = store.get(TraceId(1)).expect("kept");
    let services: Vec<&str> = spans.iter().map(|span| &*span.service).collect();
    assert_eq!(services, ["terrace", "terrace", "orders"]);
}

#[test]
fn hops_count_against_the_bounds_of_their_trace_and_give_way_like_others() {
    let bounds = TraceBounds { spans_per_trace_max: 5, traces_max: 2, ..TraceBounds::default() };
    let mut store = TraceStore::new(bounds);
    store.keep_hops(NOW, vec![noted(1, "a"), noted(1, "a"), noted(1, "a")]);
    let summary = store.recent(&all()).remove(0);
    assert_eq!((summary.spans, summary.spans_left_out, store.counts().spans_left_out), (4, 2, 2));
    let before = store.counts().bytes;
    assert!(before >= 2 * 500, "{before}");
    store.keep_hops(NOW, vec![noted(2, "b")]);
    store.keep_hops(NOW, vec![noted(3, "b")]);
    assert_eq!(ids(&store, &all()), [3, 1], "of the route that has most");
    store.keep_hops(NOW, vec![noted(4, "c"), noted(5, "c")]);
    assert_eq!(store.counts().traces, 2);
}

#[test]
fn a_span_sent_twice_is_there_once() {
    let mut store = store();
    store.keep(NOW, vec![hop(1, "a"), hop(1, "a")]);
    store.offer(NOW, vec![span(1, 2, 1, "orders")]);
    store.offer(NOW, vec![span(1, 2, 1, "orders")]);
    assert_eq!(shown(&store, 1), [1, 2]);
}

#[test]
fn a_route_that_fails_all_the_time_pushes_out_its_own_traces_only() {
    let mut store = TraceStore::new(TraceBounds { traces_max: 10, ..TraceBounds::default() });
    store.keep(NOW, (1..=3).map(|trace| hop(trace, "quiet")).collect());
    store.keep(NOW, (100..200).map(|trace| hop(trace, "noisy")).collect());
    let kept = ids(&store, &all());
    assert_eq!(kept, [199, 198, 197, 196, 195, 194, 193, 3, 2, 1]);
    assert_eq!(store.counts().traces_evicted, 93);
}

#[test]
fn memory_stays_within_its_bound_however_large_the_spans_are() {
    let bounds = TraceBounds {
        bytes_max: 1 << 20,
        bytes_per_trace_max: 1 << 18,
        pending_bytes_max: 1 << 18,
        ..TraceBounds::default()
    };
    let mut store = TraceStore::new(bounds);
    let large =
        |trace: u128, id: u64, parent: u64| with(span(trace, id, parent, "app"), "text", "x".repeat(5_000));
    for trace in 1..2_000 {
        store.offer(NOW, vec![large(trace, 1, 0), large(trace + 10_000, 2, 1)]);
        assert!(store.counts().bytes <= bounds.bytes_max && store.counts().pending_bytes <= 1 << 18);
    }
    assert!(store.counts().traces > 50 && store.counts().spans_pending > 20);
    assert!(store.counts().spans_refused > 1_900);
    store.offer(NOW, (1..400).map(|id| large(9_000_000, id, id - 1)).collect());
    assert!(store.recent(&all())[0].spans_left_out > 0, "one trace may not take all the room");
}

#[test]
fn parents_that_are_their_own_children_do_not_hang_the_page() {
    let mut store = store();
    let ring =
        [span(1, 5, 7, "a"), span(1, 6, 5, "a"), span(1, 7, 6, "a"), span(1, 8, 8, "a"), span(1, 9, 7, "a")];
    store.keep(NOW, ring.into());
    assert_eq!(shown(&store, 1), [5, 6, 7, 9, 8]);
}

#[test]
fn a_chain_of_thousands_of_spans_is_shown() {
    let bounds =
        TraceBounds { spans_per_trace_max: 5_000, bytes_per_trace_max: 64 << 20, ..TraceBounds::default() };
    let mut store = TraceStore::new(bounds);
    store.keep(NOW, (1..=5_000).rev().map(|id| span(1, id, id - 1, "a")).collect());
    assert_eq!(shown(&store, 1), (1..=5_000).collect::<Vec<u64>>());
}

#[test]
fn a_child_on_a_machine_whose_clock_is_behind_is_shown_within_its_parent() {
    let mut parent = span(1, 1, 0, "terrace");
    (parent.start, parent.duration) = (at(10_000), Duration::from_millis(100));
    let mut child = span(1, 2, 1, "orders");
    (child.start, child.duration) = (at(4_000), Duration::from_millis(60));
    let mut inner = span(1, 3, 2, "orders");
    (inner.start, inner.duration) = (at(4_010), Duration::from_millis(5));
    let mut store = store();
    store.keep(NOW, vec![parent, child, inner]);
    let spans = store.get(TraceId(1)).expect("kept");
    assert_eq!(spans.iter().map(|span| span.start).collect::<Vec<_>>(), [at(10_000), at(10_020), at(10_030)]);
    let moved = (Cow::Borrowed(SKEW_ATTRIBUTE), Value::Float(6.02));
    assert!(
        spans[0].attributes.is_empty()
            && spans[1].attributes == [moved.clone()]
            && spans[2].attributes == [moved]
    );
    assert_eq!(store.recent(&all())[0].duration, Duration::from_millis(100));
}

#[test]
fn work_that_goes_on_after_the_answer_is_no_clock_error() {
    let mut child = span(1, 2, 1, "orders");
    (child.start, child.duration) = (at(5), Duration::from_secs(60));
    let mut store = store();
    store.keep(NOW, vec![hop(1, "a"), child]);
    assert_eq!(store.get(TraceId(1)).expect("kept")[1].start, at(5));
}

#[test]
fn whoever_asks_for_every_trace_to_be_kept_does_not_push_out_what_went_wrong() {
    let bounds = TraceBounds { traces_max: 10, ..TraceBounds::default() };
    let mut store = TraceStore::new(bounds);
    let calm = |trace| {
        let mut hop = hop(trace, "a");
        hop.attributes.retain(|(name, _)| name != "terrace.kept");
        with(hop, "terrace.kept", "asked")
    };
    store.keep(NOW, (1..=4).map(|trace| hop(trace, "a")).collect());
    // It looked well at first; another hop of it did not.
    store.keep(NOW, vec![calm(5)]);
    let late = Span { id: SpanId(9), ..hop(5, "b") };
    store.keep(NOW, vec![late]);
    (100..1_000).for_each(|trace| store.keep(NOW, vec![calm(trace)]));
    let failed = (1..=5).filter(|trace| store.get(TraceId(*trace)).is_some()).count();
    assert_eq!((failed, store.counts().traces), (5, 10));
}

#[test]
fn traces_are_found_by_service_route_duration_failure_and_text() {
    let mut store = store();
    let mut failed = with(span(2, 2, 1, "orders"), "db.statement", "SELECT Title FROM books");
    failed.status = SpanStatus::Error;
    failed.duration = Duration::from_secs(3);
    store
        .keep(NOW, vec![hop(1, "a"), hop(2, "b"), failed, with(span(3, 9, 0, "terrace"), "size", 4_711_u64)]);
    let find = |filter: TraceFilter| ids(&store, &TraceFilter { limit: 10, ..filter });
    let text = |text: &str| TraceFilter { text: Some(text.to_owned()), ..TraceFilter::default() };
    assert_eq!(find(TraceFilter::default()), [3, 2, 1]);
    assert_eq!(find(TraceFilter { service: Some("orders".into()), ..TraceFilter::default() }), [2]);
    assert_eq!(find(TraceFilter { route: Some("a".into()), ..TraceFilter::default() }), [1]);
    assert_eq!(find(TraceFilter { duration_min: Duration::from_secs(3), ..TraceFilter::default() }), [2]);
    assert_eq!(find(TraceFilter { errors_only: true, ..TraceFilter::default() }), [2]);
    assert_eq!(find(text("title from")), [2]);
    assert_eq!(find(text("4711")), [3]);
    assert_eq!(find(text("0000003")), [3], "the id is a text too");
    assert!(find(text("title form")).is_empty());
    assert_eq!(ids(&store, &TraceFilter { limit: 2, ..TraceFilter::default() }), [3, 2]);
}

/// What is done to a store.
#[derive(Debug, Clone)]
enum Step {
    Keep(Vec<Span>),
    Offer(Vec<Span>),
    Wait(u64),
}

fn any_span() -> impl Strategy<Value = Span> {
    (1_u128..6, 1_u64..9, 0_u64..9, 0_usize..3, 0_u64..50).prop_map(|(trace, id, parent, service, start)| {
        let mut span = span(trace, id, parent, ["terrace", "orders", "payments"][service]);
        span.start = at(start);
        span
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let spans = || prop::collection::vec(any_span(), 0..5);
    prop_oneof![spans().prop_map(Step::Keep), spans().prop_map(Step::Offer), (0_u64..20).prop_map(Step::Wait),]
}

/// The store the long way: lists that are searched from end to end, and no bound but that on the spans of a trace.
#[derive(Debug, Default)]
struct Model {
    /// Newest last.
    kept: Vec<(TraceId, Vec<Span>)>,
    waiting: Vec<(TraceId, u64, Vec<Span>)>,
}

const SPANS_MAX: usize = 5;

impl Model {
    fn waiting_for(&self, trace: TraceId) -> Option<usize> {
        self.waiting.iter().position(|(waiting, ..)| *waiting == trace)
    }

    fn add(&mut self, trace: TraceId, spans: Vec<Span>) {
        if !self.kept.iter().any(|(kept, _)| *kept == trace) {
            self.kept.push((trace, Vec::new()));
        }
        let Some((_, held)) = self.kept.iter_mut().find(|(kept, _)| *kept == trace) else { return };
        for span in spans {
            if held.len() < SPANS_MAX && !held.iter().any(|known| known.id == span.id) {
                held.push(span);
            }
        }
    }

    fn step(&mut self, spans: &[Span], now: u64, is_offer: bool) {
        self.waiting.retain(|(_, since, _)| now < since + 30);
        let mut traces: Vec<TraceId> = Vec::new();
        for span in spans {
            if !traces.contains(&span.trace) {
                traces.push(span.trace);
            }
        }
        for trace in traces {
            let mut own: Vec<Span> = spans.iter().filter(|span| span.trace == trace).cloned().collect();
            let is_kept = self.kept.iter().any(|(kept, _)| *kept == trace);
            let is_root = own.iter().any(|span| span.parent.is_none() && &*span.service != "terrace");
            if !is_offer || is_kept || is_root {
                let earlier = self.waiting_for(trace).map(|at| self.waiting.remove(at).2);
                own.extend(earlier.unwrap_or_default());
                self.add(trace, own);
            } else {
                let at = self.waiting_for(trace).unwrap_or_else(|| {
                    self.waiting.push((trace, now, Vec::new()));
                    self.waiting.len() - 1
                });
                self.waiting[at].2.extend(own);
                self.waiting[at].2.truncate(SPANS_MAX);
            }
        }
    }
}

/// Tree order the long way: the spans of each parent are looked up in the whole list. Without rings.
fn naive_order(spans: &[Span], parent: Option<SpanId>, order: &mut Vec<u64>) {
    let is_known = |id: SpanId| spans.iter().any(|span| span.id == id);
    let below = |span: &&Span| match parent {
        Some(_) => span.parent == parent,
        None => span.parent.is_none_or(|parent| !is_known(parent)),
    };
    let mut children: Vec<&Span> = spans.iter().filter(below).collect();
    children.sort_by_key(|span| (span.start, span.id));
    for child in children {
        order.push(child.id.0);
        naive_order(spans, Some(child.id), order);
    }
}

proptest! {
    #[test]
    fn the_store_holds_what_the_long_way_holds(steps in prop::collection::vec(any_step(), 0..40)) {
        let mut store = TraceStore::new(TraceBounds { spans_per_trace_max: SPANS_MAX, ..TraceBounds::default() });
        let (mut model, mut now) = (Model::default(), 1_000);
        for step in steps {
            match step {
                Step::Wait(seconds) => now += seconds,
                Step::Keep(spans) => {
                    model.step(&spans, now, false);
                    store.keep(Duration::from_secs(now), spans);
                }
                Step::Offer(spans) => {
                    model.step(&spans, now, true);
                    store.offer(Duration::from_secs(now), spans);
                }
            }
        }
        let newest_first: Vec<u128> = model.kept.iter().rev().map(|(trace, _)| trace.0).collect();
        prop_assert_eq!(ids(&store, &all()), newest_first);
        for (trace, held) in &model.kept {
            let expected: Vec<u64> = held.iter().map(|span| span.id.0).collect();
            let mut got = shown(&store, trace.0);
            got.sort_by_key(|id| expected.iter().position(|other| other == id));
            prop_assert_eq!(got, expected);
        }
        let waiting: usize = model.waiting.iter().filter(|(_, since, _)| now < since + 30).map(|(.., spans)| spans.len()).sum();
        store.keep(Duration::from_secs(now), Vec::new());
        prop_assert_eq!(store.counts().spans_pending, waiting);
    }

    #[test]
    fn trees_are_read_in_the_order_of_the_long_way(starts in prop::collection::vec((0_u64..20, any::<prop::sample::Index>(), 0_usize..4), 1..30)) {
        let mut spans: Vec<Span> = Vec::new();
        for (place, (start, parent, how)) in starts.iter().enumerate() {
            let id = place as u64 + 1;
            // No parent, one that is not there, or one that came before: no rings.
            let parent = match (how, place) {
                (0, _) | (_, 0) => 0,
                (1, _) => 1_000,
                _ => parent.index(place) as u64 + 1,
            };
            let mut span = span(1, id, parent, "a");
            span.start = at(*start);
            spans.push(span);
        }
        let mut order = Vec::new();
        naive_order(&spans, None, &mut order);
        let mut store = store();
        spans.reverse();
        store.keep(NOW, spans);
        prop_assert_eq!(shown(&store, 1), order);
    }

    #[test]
    fn whatever_the_parents_each_span_is_shown_once(spans in prop::collection::vec(any_span(), 0..20)) {
        let mut expected: BTreeMap<u128, Vec<u64>> = BTreeMap::new();
        for span in &spans {
            let ids = expected.entry(span.trace.0).or_default();
            if !ids.contains(&span.id.0) {
                ids.push(span.id.0);
            }
        }
        let mut store = store();
        store.keep(NOW, spans);
        for (trace, mut ids) in expected {
            let mut got = shown(&store, trace);
            got.sort_unstable();
            ids.sort_unstable();
            prop_assert_eq!(got, ids);
        }
    }

    #[test]
    fn a_text_is_found_where_it_is_and_nowhere_else(texts in prop::collection::vec("[a-cA-C ü0]{0,12}", 1..20), wanted in "[a-cA-C ü0]{0,4}") {
        let mut store = store();
        let spans = texts.iter().enumerate().map(|(place, text)| with(span(place as u128 + 1, 1, 0, "s"), "zz", text.as_str()));
        store.keep(NOW, spans.collect());
        let holds = |(place, text): (usize, &String)| {
            let id = TraceId(place as u128 + 1).to_string();
            let all = [id.as_str(), "span 1", "s", "", "zz", text];
            all.iter().any(|text| text.to_ascii_lowercase().contains(&wanted.to_ascii_lowercase())).then_some(place as u128 + 1)
        };
        let expected: Vec<u128> = texts.iter().enumerate().filter_map(holds).collect();
        let mut got = ids(&store, &TraceFilter { text: Some(wanted.clone()), ..all() });
        got.reverse();
        prop_assert_eq!(got, expected);
    }
}
