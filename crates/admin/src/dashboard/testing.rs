//! A shop that never was, for tests and for looking at pages: a map, a past full of curves, traces, promises.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use terrace_instruments::{Kind, Span, SpanId, SpanKind, SpanStatus, TraceId, Value};
use terrace_signals::alerts::{AlertState, AlertView, ObjectiveView, Severity, Subject};
use terrace_signals::series::{Chart, Line, Measure, MetricName, Quantile, Query};
use terrace_signals::traces::{SKEW_ATTRIBUTE, TraceFilter, TraceSummary};

use crate::map::{Figures, Gate, Instance, Listener, Map, Route, Service};

use super::past::Past;

/// The moment at which all of it is.
pub(super) fn moment() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

/// Answers every question with a curve, or with nothing.
#[derive(Debug, Default)]
pub(super) struct FakePast {
    pub(super) is_empty: bool,
}

impl Past for FakePast {
    fn chart(&self, query: &Query) -> Chart {
        if self.is_empty || query.selector.name.contains("gone") {
            return Chart::default();
        }
        let (points, step) = match query.last.as_secs() {
            0..=300 => (300, 1),
            301..=21_600 => (query.last.as_secs() / 15, 15),
            last => (last / 300, 300),
        };
        let lines = names(query).into_iter().enumerate().map(|(index, labels)| {
            let seed = index as f64 + query.selector.labels.len() as f64;
            let points =
                (0..points).map(|at| wave(query, &labels, at as f64 / points as f64, seed)).collect();
            Line { labels, points, whole: None }
        });
        let step = Duration::from_secs(step);
        let first_ago = step * u32::try_from(points - 1).unwrap();
        Chart { first_ago, step, lines: lines.collect(), left_out: 0 }
    }

    fn traces(&self, filter: &TraceFilter) -> Vec<TraceSummary> {
        let mut all = if self.is_empty { Vec::new() } else { summaries() };
        if let Some(text) = &filter.text {
            all.retain(|trace| trace.trace.to_string().contains(text));
        }
        all.truncate(filter.limit);
        all
    }

    fn trace(&self, _trace: TraceId) -> Option<Vec<Span>> {
        (!self.is_empty).then(trace_spans)
    }

    fn alerts(&self) -> Vec<AlertView> {
        if self.is_empty { Vec::new() } else { alerts() }
    }

    fn objectives(&self) -> Vec<ObjectiveView> {
        if self.is_empty { Vec::new() } else { objectives() }
    }

    fn metrics(&self) -> Vec<MetricName> {
        let metric = |name: &str, help: &str, kind, labels: &[&str]| MetricName {
            name: name.into(),
            kind,
            help: help.into(),
            labels: labels.iter().map(|label| Arc::from(*label)).collect(),
            series: 12,
        };
        vec![
            metric("orders_placed_total", "Orders that were placed.", Kind::Counter, &["service"]),
            metric(
                "terrace_request_duration_seconds",
                "From a request's head to the last byte of its answer.",
                Kind::Histogram,
                &["route"],
            ),
            metric(
                "terrace_requests_total",
                "Requests that were answered, by route and class of status.",
                Kind::Counter,
                &["class", "route"],
            ),
        ]
    }
}

fn names(query: &Query) -> Vec<Vec<(String, String)>> {
    let of = |label: &str| -> Vec<&str> {
        match label {
            "class" => vec!["2xx", "3xx", "4xx", "5xx"],
            "endpoint" | "instance" => vec!["orders-1", "orders-2", "orders-3"],
            "outcome" => vec!["connect", "success", "timeout"],
            "fault" => vec!["client", "upstream"],
            "result" => vec!["begun", "over_budget"],
            _ => vec!["one"],
        }
    };
    match query.by.as_deref() {
        Some([label]) => of(label).into_iter().map(|value| vec![(label.clone(), value.to_owned())]).collect(),
        Some(_) => vec![Vec::new()],
        None => vec![vec![("class".to_owned(), "2xx".to_owned()), ("route".to_owned(), "pages".to_owned())]],
    }
}

fn wave(query: &Query, labels: &[(String, String)], at: f64, seed: f64) -> f64 {
    let noise = ((at * 1_117.0 + seed * 13.7).sin() * 43_758.545).fract().abs();
    let swell = 1.0 + 0.35 * (TAU * (at * 1.7 + seed * 0.21)).sin();
    let trouble = if (0.62..0.70).contains(&at) { 6.0 } else { 1.0 };
    let size = match (query.measure, query.selector.name.as_str()) {
        (Measure::Quantile(Quantile::P50), _) => 0.004,
        (Measure::Quantile(Quantile::P90), _) => 0.018,
        (Measure::Quantile(Quantile::P99), _) => 0.06 * trouble,
        (Measure::Quantile(Quantile::P999), _) => 0.25 * trouble,
        (_, name) if name.contains("bytes") => 64e6,
        (_, name) if name.contains("cpu") => 0.2,
        (Measure::Value, _) => 5.0,
        _ => 120.0,
    };
    let part = match labels.first().map(|(_, value)| value.as_str()) {
        Some("3xx" | "client") => 0.04,
        Some("4xx" | "connect") => 0.03,
        Some("5xx" | "timeout" | "upstream") => 0.002 * trouble,
        Some("begun" | "over_budget") => 0.01 * trouble,
        None if query.selector.labels.iter().any(|(_, value)| value == "5xx") => 0.002 * trouble,
        None if query.selector.labels.iter().any(|(_, value)| value == "4xx") => 0.02,
        _ => 1.0,
    };
    size * part * swell * (0.85 + 0.3 * noise)
}

fn figures(rate: f64, errors: Option<f64>, p50: f64, p99: f64) -> Figures {
    let spark = (0..60).map(|at| {
        let at = f64::from(at);
        (rate * (1.0 + 0.3 * (at / 9.0 + rate).sin() + 0.12 * (at * 2.3).sin())) as f32
    });
    let served = rate > 0.0;
    Figures {
        rate,
        errors: errors.filter(|_| served),
        p50: served.then_some(p50),
        p99: served.then_some(p99),
        in_flight: (rate * p50 * 1.4).round(),
        spark: spark.collect(),
    }
}

fn route(name: &str, at: &str, to: &str, figures: Figures) -> Route {
    Route { name: name.into(), at: vec![at.into()], to: vec![(to.into(), 1)], figures, ..Route::default() }
}

fn service(name: &str, count: u32, figures: Figures) -> Service {
    let share = 1.0 / f64::from(count);
    let instance = |index| {
        let mut own = figures.clone();
        own.rate *= share * if index % 2 == 0 { 1.06 } else { 0.94 };
        own.in_flight = (own.in_flight * share).round();
        (own.p50, own.p99) = (None, None);
        Instance {
            name: format!("{name}-{}", index + 1),
            address: Some(format!("127.0.0.1:{}", 41_000 + index)),
            pid: Some(4_200 + i32::try_from(index).unwrap()),
            state: "ready".into(),
            in_rotation: true,
            uptime_seconds: Some(273_600),
            cpu: Some(0.11 + f64::from(index) * 0.02),
            memory_bytes: Some(58e6 + f64::from(index) * 3e6),
            latency: figures.p50,
            figures: own,
            ..Instance::default()
        }
    };
    Service {
        name: name.into(),
        kind: "run".into(),
        state: "running".into(),
        reason: None,
        desired: count,
        ready: count,
        is_managed: true,
        instances: (0..count).map(instance).collect(),
        figures,
        gate: Gate::default(),
    }
}

/// The shop on a day on which the bank is slow and one instance of the orders is in trouble.
pub(super) fn shop_map() -> Map {
    let mut services = vec![
        service("auth", 1, figures(9.0, Some(0.0), 0.011, 0.038)),
        service("catalog", 2, figures(214.0, Some(0.0), 0.0021, 0.0124)),
        service("orders", 3, figures(38.4, Some(0.021), 0.0093, 0.61)),
        service("payments", 1, figures(11.2, Some(0.004), 0.084, 3.02)),
        service("web", 2, figures(96.0, Some(0.0), 0.0043, 0.021)),
    ];
    services[2].state = "running".into();
    services[2].ready = 2;
    services[2].instances[1].ejected_for_seconds = Some(17.3);
    services[2].instances[1].in_rotation = false;
    services[2].instances[1].restarts = 3;
    services[2].instances[1].figures.errors = Some(0.31);
    services[4].instances[1].is_drained = true;
    services[4].instances[1].figures.rate = 0.0;
    services[4].instances[1].figures.errors = None;
    let routes = vec![
        route("api-auth", "/api/auth/login", "auth", figures(3.4, Some(0.0), 0.012, 0.041)),
        route("api-catalog", "/api/catalog/*", "catalog", figures(142.0, Some(0.0), 0.0024, 0.0131)),
        route("api-orders", "/api/orders/*", "orders", figures(27.1, Some(0.021), 0.0101, 0.64)),
        route("keys", "/.well-known/*", "auth", figures(0.0, None, 0.0, 0.0)),
        route("pages", "/*", "web", figures(96.0, Some(0.0), 0.0046, 0.0222)),
        route("pictures", "/pictures/*", "catalog", figures(61.0, Some(0.0002), 0.0015, 0.0092)),
    ];
    let mut total = figures(329.5, Some(0.0018), 0.0041, 0.118);
    total.in_flight = 7.0;
    let listener = Listener {
        name: "public".into(),
        urls: vec!["http://127.0.0.1:8080".into()],
        connections: 42.0,
        accepted_rate: 3.2,
        routes: routes.iter().map(|route| route.name.clone()).collect(),
    };
    Map {
        at: 1.79e9,
        uptime_seconds: 273_600,
        version: "0.1.0".into(),
        total,
        listeners: vec![listener],
        routes,
        services,
        faults: Vec::new(),
        alerts_firing: [1, 0],
        not_ready: Vec::new(),
        host_cpu: Some(0.34),
        host_memory: Some(0.612),
    }
}

/// Fifty routes, twenty services, a hundred and more instances each, and names that want to be markup.
pub(super) fn hostile_map() -> Map {
    let name = |kind: &str, index: usize| format!("{kind}-{index}<script>alert(1)</script>\"'&");
    let service_names: Vec<String> = (0..20).map(|index| name("service", index)).collect();
    let services = service_names.iter().enumerate().map(|(index, name)| {
        let count = if index == 0 { 200 } else { 100 };
        let mut service =
            service(name, count, figures(index as f64 * 7.0, Some(0.5), f64::NAN, f64::INFINITY));
        service.reason = (index % 3 == 0).then(|| "<img src=x onerror=alert(1)>".to_owned());
        service
    });
    let routes = (0..50).map(|index| {
        let to = &service_names[index % service_names.len()];
        route(&name("route", index), "/<b>/*", to, figures(index as f64, Some(0.0), 0.001, 0.01))
    });
    let routes: Vec<Route> = routes.collect();
    let listeners = (0..3).map(|index| Listener {
        name: name("listener", index),
        urls: vec!["http://[::1]:1/\"onload=".to_owned()],
        routes: routes.iter().map(|route| route.name.clone()).collect(),
        ..Listener::default()
    });
    Map {
        listeners: listeners.collect(),
        services: services.collect(),
        routes,
        not_ready: vec!["<script>alert(2)</script>".to_owned()],
        host_cpu: Some(f64::NAN),
        total: figures(1e12, Some(1.0), f64::INFINITY, -1.0),
        ..Map::default()
    }
}

/// One promise of success and one of latency; the first is half spent.
pub(super) fn objectives() -> Vec<ObjectiveView> {
    let history = |left: f64| {
        let fall = move |at: u32| 1.0 - (1.0 - left) * (f64::from(at) / 199.0).powi(3);
        (0..200).map(fall).collect::<Vec<f64>>()
    };
    let hours = |hours: f64| Duration::from_secs_f64(hours * 3_600.0);
    let burn = |now: f64| {
        let windows =
            [(1.0 / 12.0, 1.6), (0.5, 1.3), (1.0, 1.1), (2.0, 0.8), (6.0, 0.5), (24.0, 0.3), (72.0, 0.2)];
        windows.map(|(window, part)| (hours(window), now * part)).to_vec()
    };
    let success = ObjectiveView {
        name: "checkout".into(),
        kind: "success",
        subject: Subject::Route("api-orders".into()),
        goal: 0.999,
        under: None,
        window: Duration::from_secs(30 * 86_400),
        total: 1_240_800,
        bad: 732,
        budget_left: 0.41,
        burn: burn(15.8),
        history: history(0.41),
    };
    let latency = ObjectiveView {
        kind: "latency",
        goal: 0.99,
        under: Some(Duration::from_millis(300)),
        bad: 2_810,
        budget_left: 0.773,
        burn: burn(1.2),
        history: history(0.773),
        ..success.clone()
    };
    vec![success, latency]
}

fn alerts() -> Vec<AlertView> {
    vec![AlertView {
        id: "a1".into(),
        name: "checkout".into(),
        detail: "burn 14.4x over 1h and 5m".into(),
        severity: Severity::Page,
        state: AlertState::Firing,
        since: moment() - Duration::from_secs(252),
        summary: "2.1 % of requests to route api-orders fail; at this rate the budget of 30 days is gone in 1.9 days".into(),
        subject: Some(Subject::Route("api-orders".into())),
        value: 17.4,
        notes: vec!["orders-2 was ejected twice in the same minutes".into()],
        silenced_until: None,
    }]
}

/// Name, route, services, microseconds, status, why it was kept.
type TraceRow = (&'static str, &'static str, &'static [&'static str], u64, u16, &'static str);

const TRACES: [TraceRow; 8] = [
    ("POST /api/orders/*", "api-orders", &["terrace", "orders", "payments"], 3_020_400, 201, "slow"),
    ("POST /api/orders/*", "api-orders", &["terrace", "orders", "payments"], 412_900, 502, "error"),
    ("GET /api/catalog/*", "api-catalog", &["terrace", "catalog"], 2_340, 200, "sampled"),
    ("GET /*", "pages", &["terrace", "web", "catalog", "auth", "orders"], 18_200, 200, "sampled"),
    ("POST /api/orders/*", "api-orders", &["terrace", "orders"], 30_001, 503, "error"),
    ("GET /pictures/*", "pictures", &["terrace", "catalog"], 1_120, 304, "sampled"),
    ("GET /api/orders/*", "api-orders", &["terrace", "orders"], 9_870, 404, "asked"),
    ("POST /api/auth/login", "api-auth", &["terrace", "auth"], 1_204_000, 200, "slow"),
];

/// Traces of the last minutes, some failed, some slow.
pub(super) fn summaries() -> Vec<TraceSummary> {
    TRACES.iter().enumerate().map(|(index, row)| summary(index, row)).collect()
}

fn summary(index: usize, (root, route, services, micros, status, kept): &TraceRow) -> TraceSummary {
    TraceSummary {
        trace: TraceId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736 + index as u128),
        root: (*root).into(),
        path: root.split_once(' ').map_or("", |(_, pattern)| pattern).replace('*', "17"),
        route: (*route).into(),
        services: services.iter().map(|service| (*service).to_owned()).collect(),
        start: moment() - Duration::from_secs(4 + 37 * index as u64),
        duration: Duration::from_micros(*micros),
        spans: 9,
        spans_left_out: 0,
        is_error: *status >= 500,
        is_retried: false,
        status: Some(*status),
        kept,
    }
}

/// A span of Terrace's, from and for so many milliseconds; `parent` 0 is none.
pub(super) fn span(id: u64, parent: u64, start: u64, length: u64) -> Span {
    Span {
        trace: summaries()[0].trace,
        id: SpanId(id),
        parent: (parent > 0).then_some(SpanId(parent)),
        name: "step".into(),
        kind: SpanKind::Internal,
        service: "terrace".into(),
        instance: "".into(),
        start: moment() + Duration::from_millis(start),
        duration: Duration::from_millis(length),
        status: SpanStatus::Unset,
        attributes: Vec::new(),
    }
}

/// An order whose payment fails once and is slow the second time.
pub(super) fn trace_spans() -> Vec<Span> {
    let rows: [(u64, u64, u64, u64, &'static str, &str, SpanKind); 14] = [
        (1, 0, 0, 3_020, "POST /api/orders/*", "terrace", SpanKind::Server),
        (2, 1, 0, 2, "policy", "terrace", SpanKind::Internal),
        (3, 1, 3, 3_014, "try 1 orders", "terrace", SpanKind::Client),
        (4, 3, 4, 2, "connect", "terrace", SpanKind::Internal),
        (5, 3, 8, 3_004, "POST /orders", "orders", SpanKind::Server),
        (6, 5, 12, 46, "SELECT stock", "orders", SpanKind::Client),
        (7, 5, 20, 90, "GET /catalog/*", "terrace", SpanKind::Server),
        (8, 7, 24, 80, "GET /products", "catalog", SpanKind::Server),
        (9, 5, 120, 2_860, "POST /payments/*", "terrace", SpanKind::Server),
        (10, 9, 121, 410, "try 1 payments", "terrace", SpanKind::Client),
        (11, 9, 560, 2_410, "try 2 payments", "terrace", SpanKind::Client),
        (12, 11, 565, 2_400, "POST /payments", "payments", SpanKind::Server),
        (13, 12, 580, 2_360, "bank.charge", "payments", SpanKind::Client),
        (14, 5, 2_985, 20, "INSERT order", "orders", SpanKind::Client),
    ];
    let spans = rows.into_iter().map(|(id, parent, start, length, name, service, kind)| {
        let mut span = span(0xa000 + id, if parent > 0 { 0xa000 + parent } else { 0 }, start, length);
        (span.name, span.service, span.kind) = (name.into(), service.into(), kind);
        if kind == SpanKind::Client && service == "terrace" {
            let asked = name.rsplit(' ').next().unwrap_or_default().to_owned();
            span.attributes.push(("terrace.instance".into(), Value::Text(format!("{asked}-1").into())));
            span.attributes.push(("terrace.service".into(), Value::Text(asked.into())));
        }
        if service != "terrace" {
            span.instance = format!("{service}-1").into();
        }
        span.attributes.push(("http.request.method".into(), Value::Text("POST".into())));
        span
    });
    let mut spans: Vec<Span> = spans.collect();
    spans[9].status = SpanStatus::Error;
    spans[9].attributes.push(("error.type".into(), Value::Text("timeout".into())));
    spans[11].attributes.push((SKEW_ATTRIBUTE.into(), Value::Float(0.0042)));
    spans
}
