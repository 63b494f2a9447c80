//! The charts of each page, as data: a title, a unit, and the questions whose answers are its lines.
//!
//! What a chart shows is one row of code here ([`of_route`], [`of_service`] …); how it is read, drawn and sent to the
//! browser is the same for all (`charts_drawn.rs`). A browser names the page, never a question: so what it can ask for is
//! bounded by what the pages show. The metric explorer is the one exception, and asks one question at a time.

use std::time::Duration;

use terrace_signals::alerts::{ObjectiveView, Subject};
use terrace_signals::series::{Measure, Quantile, Query, Selector};

use crate::map::{Map, Route};

use super::figures::Unit;

/// How far back charts reach: the resolutions of telemetry's rings stand behind these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Range {
    /// A point each second.
    #[default]
    FiveMinutes,
    /// A point each fifteen seconds.
    Hour,
    /// The same.
    SixHours,
    /// A point each five minutes.
    Day,
    /// The same.
    Week,
}

impl Range {
    /// All, shortest first.
    pub(super) const ALL: [Self; 5] = [Self::FiveMinutes, Self::Hour, Self::SixHours, Self::Day, Self::Week];

    /// As it stands in a URL.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::FiveMinutes => "5m",
            Self::Hour => "1h",
            Self::SixHours => "6h",
            Self::Day => "24h",
            Self::Week => "7d",
        }
    }

    /// As a person reads it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::FiveMinutes => "5 min",
            Self::Hour => "1 h",
            Self::SixHours => "6 h",
            Self::Day => "24 h",
            Self::Week => "7 d",
        }
    }

    /// The one with this key; any other text is the shortest.
    pub(super) fn from_key(key: &str) -> Self {
        Self::ALL.into_iter().find(|range| range.key() == key).unwrap_or_default()
    }

    /// How far back.
    pub(super) fn duration(self) -> Duration {
        let minutes = match self {
            Self::FiveMinutes => 5,
            Self::Hour => 60,
            Self::SixHours => 360,
            Self::Day => 1_440,
            Self::Week => 10_080,
        };
        Duration::from_secs(60 * minutes)
    }
}

/// What a page is about; it decides which charts it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    /// A route, by name.
    Route(String),
    /// A service, by name.
    Service(String),
    /// An instance, by service and name.
    Instance(String, String),
    /// An objective, by name.
    Objective(String),
    /// The machine that all of it runs on.
    Machine,
    /// A question of the reader's own, about one metric.
    Explore(Asked),
}

/// A question of the reader's own: any metric, filtered and split as told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// The metric, as `/metrics` calls it.
    pub(super) selector: Selector,
    /// What of it.
    pub(super) measure: Measure,
    /// The labels by which lines are split; `None`: by all.
    pub(super) by: Option<Vec<String>>,
}

/// A chart, before anything was asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ChartSpec {
    /// Unique on its page; also the anchor.
    pub(super) id: &'static str,
    /// What it shows.
    pub(super) title: String,
    /// What the figures mean, in a few words.
    pub(super) about: &'static str,
    /// How figures are written.
    pub(super) unit: Unit,
    /// Whether lines lie on top of each other, because their sum means something.
    pub(super) is_stacked: bool,
    /// Whether a logarithmic axis helps.
    pub(super) may_be_log: bool,
    /// Each point is the mean of so long before it, of what comes more seldom than steps are.
    pub(super) mean_of: Duration,
    /// Where its lines come from.
    pub(super) sources: Vec<Source>,
}

/// Where lines of a chart come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Source {
    /// The question, without its reach.
    pub(super) of: Of,
    /// What its lines are called.
    pub(super) name: Name,
}

/// A question, or what stands for its answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Of {
    /// The answer as it is.
    Metric(Selector, Measure, Option<Vec<String>>),
    /// The sum of the first rate over the sum of the second.
    Ratio(Selector, Selector),
    /// Points that are known already, oldest first, this far apart.
    Points(Duration, Vec<f64>),
}

/// What lines are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// One line, called so.
    Fixed(String),
    /// Each line after the value of this label.
    Label(&'static str),
    /// The same, without the line of this value.
    LabelBut(&'static str, &'static str),
    /// Each line after all its labels.
    Labels,
}

/// The series of a metric that carry these labels.
fn of(name: &str, labels: &[(&str, &str)]) -> Selector {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Selector { name: name.to_owned(), labels }
}

/// Checks come every few seconds; each second by itself they would be a fence.
const CHECKS_MEAN_OF: Duration = Duration::from_secs(30);

const QUANTILES: [(&str, Quantile); 4] =
    [("p50", Quantile::P50), ("p90", Quantile::P90), ("p99", Quantile::P99), ("p99.9", Quantile::P999)];

impl ChartSpec {
    fn new(id: &'static str, title: &str, about: &'static str, unit: Unit) -> Self {
        let (is_stacked, may_be_log) = (false, false);
        let (title, mean_of, sources) = (title.to_owned(), Duration::ZERO, Vec::new());
        Self { id, title, about, unit, is_stacked, may_be_log, mean_of, sources }
    }

    fn stacked(mut self) -> Self {
        self.is_stacked = true;
        self
    }

    fn mean_of(mut self, time: Duration) -> Self {
        self.mean_of = time;
        self
    }

    fn with(mut self, name: Name, of: Of) -> Self {
        self.sources.push(Source { of, name });
        self
    }

    /// One line: all series summed.
    fn sum(self, name: &str, selector: Selector, measure: Measure) -> Self {
        self.with(Name::Fixed(name.to_owned()), Of::Metric(selector, measure, Some(Vec::new())))
    }

    /// A line for each value of a label.
    fn by(self, label: &'static str, selector: Selector, measure: Measure) -> Self {
        self.with(Name::Label(label), Of::Metric(selector, measure, Some(vec![label.to_owned()])))
    }

    fn by_but(self, label: &'static str, but: &'static str, selector: Selector, measure: Measure) -> Self {
        self.with(Name::LabelBut(label, but), Of::Metric(selector, measure, Some(vec![label.to_owned()])))
    }

    fn ratio(self, name: &str, part: Selector, whole: Selector) -> Self {
        self.with(Name::Fixed(name.to_owned()), Of::Ratio(part, whole))
    }

    fn quantiles(mut self, selector: &Selector) -> Self {
        self.may_be_log = true;
        for (name, quantile) in QUANTILES {
            self = self.sum(name, selector.clone(), Measure::Quantile(quantile));
        }
        self
    }
}

/// The charts of a page. An objective that is gone has none.
pub(super) fn of_page(page: &Page, map: &Map, objectives: &[ObjectiveView]) -> Vec<ChartSpec> {
    match page {
        Page::Route(name) => of_route(name, map.routes.iter().find(|route| route.name == *name)),
        Page::Service(name) => of_service(name, map),
        Page::Instance(service, name) => of_instance(service, name),
        Page::Objective(name) => of_objective(objectives.iter().filter(|view| view.name == *name)),
        Page::Machine => of_machine(),
        Page::Explore(asked) => vec![of_asked(asked)],
    }
}

fn of_machine() -> Vec<ChartSpec> {
    let host = |name: &str| of(&format!("terrace_host_{name}"), &[]);
    let (rate, value) = (Measure::Rate, Measure::Value);
    vec![
        ChartSpec::new("cpu", "CPU", "share of all cores in use", Unit::Share).sum(
            "in use",
            host("cpu_usage_ratio"),
            value,
        ),
        ChartSpec::new("modes", "CPU by mode", "cores", Unit::Number).stacked().by_but(
            "mode",
            "idle",
            host("cpu_seconds_total"),
            rate,
        ),
        ChartSpec::new("memory", "Memory", "of the machine, or of our control group", Unit::Bytes)
            .sum("available", host("memory_available_bytes"), value)
            .sum("all", host("memory_total_bytes"), value),
        ChartSpec::new("pressure", "Waiting", "share of time in which something waited", Unit::Share).by(
            "resource",
            host("pressure_waiting_seconds_total"),
            rate,
        ),
        ChartSpec::new("load", "Load", "processes that run or wait", Unit::Number).sum(
            "load",
            host("load1"),
            value,
        ),
        ChartSpec::new("disk", "Disk", "of the state folder", Unit::Bytes)
            .sum("free", host("filesystem_free_bytes"), value)
            .sum("all", host("filesystem_size_bytes"), value),
        ChartSpec::new("received", "Network in", "a second, by device", Unit::Bytes).stacked().by(
            "device",
            host("network_receive_bytes_total"),
            rate,
        ),
        ChartSpec::new("sent", "Network out", "a second, by device", Unit::Bytes).stacked().by(
            "device",
            host("network_transmit_bytes_total"),
            rate,
        ),
    ]
}

fn of_route(name: &str, route: Option<&Route>) -> Vec<ChartSpec> {
    let route_is = [("route", name)];
    let requests = of("terrace_requests_total", &route_is);
    let class = |class| of("terrace_requests_total", &[("route", name), ("class", class)]);
    let duration = of("terrace_request_duration_seconds", &route_is);
    let (rate, value) = (Measure::Rate, Measure::Value);
    let p99 = Measure::Quantile(Quantile::P99);
    let mut ways = ChartSpec::new("first-byte", "First byte and whole answer", "p99", Unit::Seconds).sum(
        "whole answer",
        duration.clone(),
        p99,
    );
    for (service, _) in route.map(|route| route.to.as_slice()).unwrap_or_default() {
        let first_byte = of("terrace_upstream_first_byte_seconds", &[("service", service)]);
        ways = ways.sum(&format!("first byte of {service}"), first_byte, p99);
    }
    ways.may_be_log = true;
    let mut charts = vec![
        ChartSpec::new("requests", "Requests", "by class of status", Unit::Rate).stacked().by(
            "class",
            requests.clone(),
            rate,
        ),
        ChartSpec::new("latency", "Latency", "from the head to the last byte", Unit::Seconds)
            .quantiles(&duration),
        ChartSpec::new("errors", "Errors", "share of requests", Unit::Share)
            .ratio("5xx", class("5xx"), requests.clone())
            .ratio("4xx", class("4xx"), requests),
        ChartSpec::new("in-flight", "In flight", "requests being served", Unit::Number).sum(
            "in flight",
            of("terrace_requests_in_flight", &route_is),
            value,
        ),
        ways,
        ChartSpec::new("own-answers", "Terrace's own answers", "by whose fault it was", Unit::Rate)
            .stacked()
            .by("fault", of("terrace_own_answers_total", &route_is), rate),
    ];
    charts.extend(route.into_iter().flat_map(of_rules));
    charts
}

/// Who is let through, where a route asks.
fn of_rules(route: &Route) -> Vec<ChartSpec> {
    /// Limits whose decisions are shown.
    const LIMITS_MAX: usize = 4;
    let rate = Measure::Rate;
    let mut charts = Vec::new();
    if route.asks_who {
        let asked = of("terrace_auth_total", &[("route", &route.name)]);
        let chart = ChartSpec::new("who", "Who asks", "by what came of their proof", Unit::Rate).stacked();
        charts.push(chart.by("outcome", asked, rate));
    }
    let mut decisions = ChartSpec::new("limits", "Limits", "by what was decided", Unit::Rate).stacked();
    for limit in route.limits.iter().take(LIMITS_MAX) {
        for outcome in ["allowed", "waited", "refused", "would_refuse"] {
            let name =
                if route.limits.len() == 1 { outcome.to_owned() } else { format!("{limit}: {outcome}") };
            let decided = of("terrace_limit_total", &[("limit", limit), ("outcome", outcome)]);
            decisions = decisions.sum(&name, decided, rate);
        }
    }
    if !decisions.sources.is_empty() {
        charts.push(decisions);
    }
    charts
}

fn of_service(name: &str, map: &Map) -> Vec<ChartSpec> {
    let service_is = [("service", name)];
    let attempts = of("terrace_upstream_requests_total", &service_is);
    let first_byte = of("terrace_upstream_first_byte_seconds", &service_is);
    let (rate, p99) = (Measure::Rate, Measure::Quantile(Quantile::P99));
    let mut ways = ChartSpec::new("whole-answer", "First byte and whole answer", "p99", Unit::Seconds).sum(
        "first byte",
        first_byte.clone(),
        p99,
    );
    for route in map.routes.iter().filter(|route| route.to.iter().any(|(to, _)| to == name)).take(6) {
        let duration = of("terrace_request_duration_seconds", &[("route", &route.name)]);
        ways = ways.sum(&format!("whole, by {}", route.name), duration, p99);
    }
    ways.may_be_log = true;
    let mut charts = vec![
        ChartSpec::new("attempts", "Requests", "attempts, by instance", Unit::Rate).stacked().by(
            "endpoint",
            attempts.clone(),
            rate,
        ),
        ChartSpec::new("first-byte", "Time to first byte", "of attempts that went well", Unit::Seconds)
            .quantiles(&first_byte),
        ChartSpec::new("failures", "Failures", "failed attempts, by kind", Unit::Rate)
            .stacked()
            .by_but("outcome", "success", attempts, rate),
        ChartSpec::new("retries", "Retries", "begun, and refused by the budget", Unit::Rate).by(
            "result",
            of("terrace_upstream_retries_total", &service_is),
            rate,
        ),
        ways,
        ChartSpec::new("in-flight", "In flight", "by instance", Unit::Number).stacked().by(
            "endpoint",
            of("terrace_upstream_in_flight", &service_is),
            Measure::Value,
        ),
    ];
    charts.extend(of_gate(&service_is));
    charts.extend(of_processes(&service_is));
    charts
}

/// What stands in front of a service, and what those get who ask.
fn of_gate(service_is: &[(&str, &str)]) -> Vec<ChartSpec> {
    let gauge = |name: &str| of(name, service_is);
    let (rate, value) = (Measure::Rate, Measure::Value);
    vec![
        ChartSpec::new("answers", "Answers", "to those who ask, by class of status", Unit::Rate)
            .stacked()
            .by("class", of("terrace_service_requests_total", service_is), rate),
        ChartSpec::new("sent-away", "Sent away", "to protect others, by why", Unit::Rate).stacked().by(
            "reason",
            of("terrace_shed_total", service_is),
            rate,
        ),
        ChartSpec::new("breaker", "Breaker", "0 closed, 2 open", Unit::Number).sum(
            "state",
            gauge("terrace_breaker_state"),
            value,
        ),
        ChartSpec::new("at-once", "At once", "worked on, in line, and the limit (0: none)", Unit::Number)
            .sum("worked on", gauge("terrace_concurrency"), value)
            .sum("in line", gauge("terrace_queue_length"), value)
            .sum("limit", gauge("terrace_concurrency_limit"), value),
    ]
}

fn of_processes(labels: &[(&str, &str)]) -> Vec<ChartSpec> {
    let value = Measure::Value;
    vec![
        ChartSpec::new("cpu", "CPU", "cores in use, by instance", Unit::Number).by(
            "instance",
            of("terrace_instance_cpu_seconds_total", labels),
            Measure::Rate,
        ),
        ChartSpec::new("memory", "Memory", "resident, by instance", Unit::Bytes).by(
            "instance",
            of("terrace_instance_memory_bytes", labels),
            value,
        ),
        ChartSpec::new("files", "Open files", "descriptors, by instance", Unit::Number).by(
            "instance",
            of("terrace_instance_open_fds", labels),
            value,
        ),
        ChartSpec::new("processes", "Processes", "by instance", Unit::Number).by(
            "instance",
            of("terrace_instance_processes", labels),
            value,
        ),
    ]
}

fn of_instance(service: &str, name: &str) -> Vec<ChartSpec> {
    let endpoint_is = [("service", service), ("endpoint", name)];
    let attempts = of("terrace_upstream_requests_total", &endpoint_is);
    let went_well =
        of("terrace_upstream_requests_total", &[endpoint_is[0], endpoint_is[1], ("outcome", "success")]);
    let gauge = |name: &str| of(name, &endpoint_is);
    let mut charts = vec![
        ChartSpec::new("attempts", "Requests", "attempts, by how they ended", Unit::Rate).stacked().by(
            "outcome",
            attempts.clone(),
            Measure::Rate,
        ),
        ChartSpec::new("success", "Success", "share of attempts that went well", Unit::Share)
            .ratio("success", went_well, attempts),
        ChartSpec::new("in-flight", "In flight", "requests, and connections open", Unit::Number)
            .sum("requests", gauge("terrace_upstream_in_flight"), Measure::Value)
            .sum("connections", gauge("terrace_upstream_connections"), Measure::Value),
        ChartSpec::new("checks", "Health checks", "by result, mean of half a minute", Unit::Rate)
            .by("result", gauge("terrace_upstream_health_checks_total"), Measure::Rate)
            .mean_of(CHECKS_MEAN_OF),
    ];
    charts.extend(of_processes(&[("service", service), ("instance", name)]));
    charts
}

fn of_objective<'a>(views: impl Iterator<Item = &'a ObjectiveView>) -> Vec<ChartSpec> {
    let mut budget = ChartSpec::new("budget", "Budget left", "over the window", Unit::Share);
    let mut charts = Vec::new();
    for view in views {
        let step = view.window / view.history.len().max(1) as u32;
        budget = budget.with(Name::Fixed(view.kind.to_owned()), Of::Points(step, view.history.clone()));
        if charts.is_empty() {
            charts = about(&view.subject);
        }
    }
    if !budget.sources.is_empty() {
        charts.insert(0, budget);
    }
    charts
}

/// What one looks at first when an objective's budget burns.
fn about(subject: &Subject) -> Vec<ChartSpec> {
    match subject {
        Subject::Route(name) => of_route(name, None).into_iter().take(3).collect(),
        Subject::Service(name) => of_service(name, &Map::default()).into_iter().take(3).collect(),
    }
}

fn of_asked(asked: &Asked) -> ChartSpec {
    let name = asked.selector.name.as_str();
    let unit = match asked.measure {
        Measure::Rate => Unit::Rate,
        Measure::Quantile(_) | Measure::Mean => Unit::Seconds,
        Measure::Value if name.ends_with("_bytes") => Unit::Bytes,
        Measure::Value if name.ends_with("_seconds") => Unit::Seconds,
        Measure::Value => Unit::Number,
    };
    let mut chart = ChartSpec::new("asked", name, "as asked", unit);
    chart.may_be_log = true;
    chart.with(Name::Labels, Of::Metric(asked.selector.clone(), asked.measure, asked.by.clone()))
}

/// The question behind a metric of a chart.
pub(super) fn question(selector: &Selector, measure: Measure, by: Option<&[String]>, range: Range) -> Query {
    Query { selector: selector.clone(), measure, last: range.duration(), by: by.map(<[String]>::to_vec) }
}

/// The figures above the map: name, and where the last minutes come from.
pub(super) fn golden() -> [ChartSpec; 3] {
    let requests = of("terrace_requests_total", &[]);
    let failed = of("terrace_requests_total", &[("class", "5xx")]);
    let duration = of("terrace_outside_request_duration_seconds", &[]);
    [
        ChartSpec::new("rate", "Requests", "", Unit::Rate).sum("rate", requests.clone(), Measure::Rate),
        ChartSpec::new("errors", "Errors", "", Unit::Share).ratio("errors", failed, requests),
        ChartSpec::new("p99", "Latency", "", Unit::Seconds).sum(
            "p99",
            duration,
            Measure::Quantile(Quantile::P99),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{objectives, shop_map};
    use super::*;

    #[test]
    fn a_range_is_found_by_its_key_and_nonsense_is_the_shortest() {
        for range in Range::ALL {
            assert_eq!(Range::from_key(range.key()), range);
        }
        assert_eq!(Range::from_key("a week or so"), Range::FiveMinutes);
        assert_eq!(Range::Week.duration(), Duration::from_secs(7 * 86_400));
    }

    #[test]
    fn charts_of_a_page_have_anchors_of_their_own() {
        let map = shop_map();
        let pages = [
            Page::Route("api-orders".to_owned()),
            Page::Service("orders".to_owned()),
            Page::Instance("orders".to_owned(), "orders-1".to_owned()),
            Page::Objective("checkout".to_owned()),
            Page::Machine,
        ];
        for page in pages {
            let charts = of_page(&page, &map, &objectives());
            let mut ids: Vec<&str> = charts.iter().map(|chart| chart.id).collect();
            ids.sort_unstable();
            ids.dedup();
            assert!(charts.len() > 2 && ids.len() == charts.len(), "{page:?}");
            assert!(charts.iter().all(|chart| !chart.sources.is_empty()), "{page:?}");
        }
    }

    #[test]
    fn a_route_shows_whom_it_lets_through_where_it_asks() {
        let ids = |route: &Route| -> Vec<&str> { of_rules(route).iter().map(|chart| chart.id).collect() };
        let mut route = Route::default();
        assert!(ids(&route).is_empty());
        (route.asks_who, route.limits) = (true, vec!["logins".to_owned(), "route:api".to_owned()]);
        assert_eq!(ids(&route), ["who", "limits"]);
        let limits = of_rules(&route).pop().expect("a chart of limits");
        let has =
            |name: &str| limits.sources.iter().any(|source| source.name == Name::Fixed(name.to_owned()));
        assert!(has("logins: refused") && has("route:api: allowed"));
    }

    #[test]
    fn an_objective_that_is_gone_has_no_charts() {
        assert!(of_page(&Page::Objective("gone".to_owned()), &Map::default(), &[]).is_empty());
    }
}
