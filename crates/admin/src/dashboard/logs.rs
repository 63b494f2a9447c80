//! The log: what was said last, by whom, filtered, and followed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use serde::Deserialize;
use terrace_instruments::{Level, TraceId};
use terrace_runtime::clock;
use terrace_signals::records::{LogFilter, LogRecord};
use terrace_telemetry::Handle;

use crate::api::bad_request;
use crate::control::ControlError;

use super::layout::{self, Nav};
use super::visitor::Visitor;
use super::{Dashboard, assets};

/// Records on the page when it opens.
const RECORDS_MAX: usize = 200;
/// Rows in one event of the live log; what is beyond is told as a number.
const ROWS_MAX: usize = 200;
/// How often the live log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const TEXT_BYTES_MAX: usize = 200;

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/logs", get(show))
}

/// The filter as it stands in the address. Blank is the same as absent, for so browsers send empty fields.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Search {
    /// For the stream: whether rows are wanted.
    pub(super) logs: Option<String>,
    service: Option<String>,
    instance: Option<String>,
    level: Option<String>,
    text: Option<String>,
    trace: Option<String>,
    since: Option<String>,
}

const LEVELS: &[(&str, Level)] =
    &[("debug", Level::Debug), ("info", Level::Info), ("warn", Level::Warn), ("error", Level::Error)];

const SINCE: &[(&str, &str, u64)] = &[
    ("5m", "last 5 minutes", 300),
    ("15m", "last 15 minutes", 900),
    ("1h", "last hour", 3_600),
    ("6h", "last 6 hours", 21_600),
    ("1d", "last day", 86_400),
];

impl Search {
    /// # Errors
    /// A level, trace or time that is none.
    pub(super) fn filter(&self) -> Result<LogFilter, ControlError> {
        let level_min = match given(&self.level) {
            None => None,
            Some(name) => match LEVELS.iter().find(|(known, _)| *known == name) {
                Some((_, level)) => Some(*level),
                None => return Err(bad_request("The level is debug, info, warn or error.")),
            },
        };
        let trace = match given(&self.trace) {
            None => None,
            Some(id) => match id.parse::<TraceId>() {
                Ok(id) => Some(id),
                Err(_) => return Err(bad_request("A trace's id has 32 hexadecimal digits.")),
            },
        };
        let since = match given(&self.since) {
            None => None,
            Some(name) => match SINCE.iter().find(|(known, _, _)| *known == name) {
                Some((_, _, seconds)) => clock::wall().checked_sub(Duration::from_secs(*seconds)),
                None => return Err(bad_request("That is none of the times to choose from.")),
            },
        };
        if given(&self.text).is_some_and(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(bad_request("The text to look for is too long."));
        }
        Ok(LogFilter {
            service: given(&self.service).map(str::to_owned),
            instance: given(&self.instance).map(str::to_owned),
            level_min,
            trace,
            text: given(&self.text).map(str::to_owned),
            since,
            until: None,
        })
    }

    /// The same filter for the stream.
    fn stream_query(&self) -> String {
        let fields = [
            ("service", &self.service),
            ("instance", &self.instance),
            ("level", &self.level),
            ("text", &self.text),
            ("trace", &self.trace),
        ];
        let mut query = "logs=1".to_owned();
        for (name, value) in fields {
            if let Some(value) = given(value) {
                query.push_str(&format!("&{name}={}", layout::escape_query(value)));
            }
        }
        query
    }
}

fn given(field: &Option<String>) -> Option<&str> {
    field.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

async fn show(
    State(dashboard): State<Dashboard>,
    visitor: Visitor,
    Query(search): Query<Search>,
) -> Result<Response, ControlError> {
    let records = dashboard.telemetry.records(&search.filter()?, RECORDS_MAX);
    let map = dashboard.control.map().await?;
    let services: Vec<&str> = map.services.iter().map(|service| service.name.as_str()).collect();
    let content = html! {
        div.page-head {
            div { h1 { "Logs" } p.sub { "What the app's instances and Terrace itself said last." } }
            div.actions {
                button #follow type="button" aria-pressed="true" hidden { "Follow" }
            }
        }
        (form(&search, &services))
        section.panel.log-panel {
            div.scroll.log-box #log tabindex="0" role="region" aria-label="Log lines, newest last"
                data-stream-query=(search.stream_query()) {
                table.list.log {
                    caption.visually-hidden { "Log lines, newest last" }
                    thead { tr { th scope="col" { "Time" } th scope="col" { "Level" } th scope="col" { "From" } th scope="col" { "Message" } } }
                    tbody { @for record in &records { (row(record)) } }
                }
                @if records.is_empty() {
                    p.empty { "Nothing was said that fits. What comes is shown here." }
                }
            }
            button.new-lines #new-lines type="button" hidden {}
        }
        script type="module" src=(assets::url("logs.js")) {}
    };
    Ok(layout::page("Logs", &visitor, Nav::Logs, content))
}

fn form(search: &Search, services: &[&str]) -> Markup {
    let chosen = given(&search.service).unwrap_or_default();
    let is_other = !chosen.is_empty() && chosen != "terrace" && !services.contains(&chosen);
    html! {
        form.filters method="get" action="/logs" role="search" aria-label="Filter log lines" {
            label.field {
                "Service"
                select name="service" {
                    option value="" { "all" }
                    @for service in services { option value=(service) selected[*service == chosen] { (service) } }
                    @if is_other { option value=(chosen) selected { (chosen) } }
                    option value="terrace" selected[chosen == "terrace"] { "Terrace itself" }
                }
            }
            label.field {
                "Level"
                select name="level" {
                    option value="" { "all" }
                    @for (name, _) in LEVELS {
                        option value=(name) selected[given(&search.level) == Some(name)] { (name) " and above" }
                    }
                }
            }
            label.field {
                "Since"
                select name="since" {
                    option value="" { "the beginning" }
                    @for (value, text, _) in SINCE {
                        option value=(value) selected[given(&search.since) == Some(value)] { (text) }
                    }
                }
            }
            label.field.grow {
                "Text"
                input type="search" name="text" value=[given(&search.text)] maxlength=(TEXT_BYTES_MAX) data-filter;
            }
            label.field {
                "Trace"
                input.id type="text" name="trace" value=[given(&search.trace)] pattern="[0-9a-f]{32}" maxlength="32" title="32 hexadecimal digits";
            }
            @if let Some(instance) = given(&search.instance) {
                label.field { "Instance" input type="text" name="instance" value=(instance); }
            }
            button.primary type="submit" { "Show" }
            a.button.quiet href="/logs" { "Clear" }
        }
    }
}

/// A record as a row of the table. All text comes from apps and is escaped.
pub(crate) fn row(record: &LogRecord) -> Markup {
    let level = record.level.as_str();
    html! {
        tr.(format!("level-{level}")) {
            td.nowrap { (layout::time(record.time)) }
            td { (level_badge(record.level)) }
            td.from { (origin(record)) }
            td.message {
                @if !record.message.is_empty() { span.text { (record.message) } }
                @if record.message.is_empty() { span.event { (record.event) } }
                @if record.is_cut { " " span.hint { "(the line was longer)" } }
                @if let Some(trace) = record.trace { " " a.id href={ "/traces/" (trace) } { "trace " (short(trace)) } }
                (details(record))
            }
        }
    }
}

/// A level as a shape and a word, so that its colour is not all there is.
fn level_badge(level: Level) -> Markup {
    let (kind, sign) = match level {
        Level::Debug => ("idle", "·"),
        Level::Info => ("idle", "i"),
        Level::Warn => ("warn", "!"),
        Level::Error => ("bad", "✕"),
    };
    html! { span.badge.(kind) { span aria-hidden="true" { (sign) } (level.as_str()) } }
}

fn origin(record: &LogRecord) -> Markup {
    html! {
        @if record.service.is_empty() { span.muted { "terrace" } }
        @else if record.instance.is_empty() { a href={ "/services/" (record.service) } { (record.service) } }
        @else {
            a href={ "/services/" (record.service) "/instances/" (layout::escape_query(&record.instance)) } { (record.instance) }
        }
    }
}

fn details(record: &LogRecord) -> Markup {
    let is_named = !record.message.is_empty() && record.event != "app.output";
    if !is_named && record.fields.is_empty() && record.request_id.is_empty() {
        return html! {};
    }
    html! {
        details.fields {
            summary { (record.fields.len() + usize::from(is_named) + usize::from(!record.request_id.is_empty())) " fields" }
            dl {
                @if is_named { div { dt { "event" } dd { (record.event) } } }
                @if !record.request_id.is_empty() { div { dt { "request" } dd { (record.request_id) } } }
                @for (name, value) in &record.fields { div { dt { (name) } dd { (value) } } }
            }
        }
    }
}

fn short(trace: TraceId) -> String {
    trace.to_string().chars().take(8).collect()
}

/// The live log of one page: what fits its filter and was not shown yet.
pub(super) struct Tail {
    telemetry: Handle,
    filter: LogFilter,
    /// The last records that fitted; held, so that each is known by its address.
    shown: Vec<Arc<LogRecord>>,
    every: tokio::time::Interval,
}

impl Tail {
    /// Begins behind what the page shows when it opens.
    pub(super) fn open(dashboard: &Dashboard, filter: LogFilter) -> Self {
        let filter = LogFilter { since: None, ..filter };
        let telemetry = dashboard.telemetry.clone();
        let shown = telemetry.records(&filter, ROWS_MAX);
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Self { telemetry, filter, shown, every }
    }

    /// The next rows; resolves when there are some. Nothing is lost when it is dropped before.
    pub(super) async fn next(&mut self) -> String {
        loop {
            self.every.tick().await;
            let records = self.telemetry.records(&self.filter, ROWS_MAX);
            let known: HashSet<_> = self.shown.iter().map(address).collect();
            let rows = html! { @for record in records.iter().filter(|record| !known.contains(&address(record))) { (row(record)) } };
            self.shown = records;
            if !rows.0.is_empty() {
                return rows.into_string();
            }
        }
    }
}

fn address(record: &Arc<LogRecord>) -> usize {
    Arc::as_ptr(record) as usize
}
