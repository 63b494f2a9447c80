//! The log: what was said last, by whom, filtered, and followed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use serde::Deserialize;
use terrace_instruments::{Level, TraceId};
use terrace_runtime::clock;
use terrace_signals::records::{APP_OUTPUT, LogFilter, LogRecord, Records, TERRACE};
use terrace_telemetry::{Followed, Handle, RecordStream};

use crate::api::bad_request;
use crate::control::ControlError;

use super::layout::{self, Nav};
use super::visitor::Visitor;
use super::{Dashboard, assets};

/// Records on the page when it opens.
const RECORDS_MAX: usize = 200;
/// Rows in one event of the live log; what is beyond is told as a number.
const ROWS_MAX: usize = 200;
/// Between two events of the live log.
const FLUSH_EVERY: Duration = Duration::from_millis(250);
const TEXT_BYTES_MAX: usize = 200;
/// Fields that stand on a row's line, and characters of each: a row is read at a glance, the details have the rest.
const GLANCED_AT_MAX: usize = 12;
const VALUE_CHARS_MAX: usize = 120;

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
    search: Result<Query<Search>, QueryRejection>,
) -> Result<Response, ControlError> {
    let Query(search) = search.map_err(|rejection| bad_request(rejection.body_text()))?;
    let filter = search.filter()?;
    let whole_since = dashboard.telemetry.records_whole_since(filter.service.as_deref());
    let records = find(dashboard.telemetry.clone(), filter).await?;
    let map = dashboard.control.map().await?;
    let mut services: BTreeSet<String> = map.services.iter().map(|service| service.name.clone()).collect();
    services.extend(dashboard.telemetry.records_services());
    services.remove(TERRACE);
    let content = html! {
        div.page-head {
            div {
                h1 { "Logs" }
                p.sub { "What the app's instances and Terrace itself said. All of it since " (layout::time(whole_since)) " is kept here." }
            }
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

fn form(search: &Search, services: &BTreeSet<String>) -> Markup {
    html! {
        form.filters method="get" action="/logs" role="search" aria-label="Filter log lines" {
            (service_field(given(&search.service).unwrap_or_default(), services))
            (level_field(given(&search.level)))
            (since_field(given(&search.since)))
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

/// One that is not known any more stays chosen.
fn service_field(chosen: &str, services: &BTreeSet<String>) -> Markup {
    let is_other = !chosen.is_empty() && chosen != TERRACE && !services.contains(chosen);
    html! {
        label.field {
            "Service"
            select name="service" {
                option value="" { "all" }
                @for service in services { option value=(service) selected[service == chosen] { (service) } }
                @if is_other { option value=(chosen) selected { (chosen) } }
                option value=(TERRACE) selected[chosen == TERRACE] { "Terrace itself" }
            }
        }
    }
}

fn level_field(chosen: Option<&str>) -> Markup {
    html! {
        label.field {
            "Level"
            select name="level" {
                option value="" { "all" }
                @for (name, _) in LEVELS { option value=(name) selected[chosen == Some(name)] { (name) " and above" } }
            }
        }
    }
}

fn since_field(chosen: Option<&str>) -> Markup {
    html! {
        label.field {
            "Since"
            select name="since" {
                option value="" { "the beginning" }
                @for (value, text, _) in SINCE { option value=(value) selected[chosen == Some(value)] { (text) } }
            }
        }
    }
}

/// A record as a row of the table. All text comes from apps and is escaped.
pub(crate) fn row(record: &LogRecord) -> Markup {
    let level = record.level.as_str();
    html! {
        tr.(format!("level-{level}")) data-key=(key(record)) {
            td.nowrap { (layout::time(record.time)) }
            td { (level_sign(record.level)) }
            td.from { (origin(record)) }
            td.message {
                div.line {
                    @if !record.message.is_empty() { span.text { (record.message) } }
                    @if record.message.is_empty() { span.event { (record.event) } }
                    @if record.is_cut { " " span.hint { "(the line was longer)" } }
                    (glance(record))
                    @if let Some(trace) = record.trace { " " a.id href={ "/traces/" (trace) } { "trace " (short(trace)) } }
                    (details(record))
                }
            }
        }
    }
}

/// What a page knows a row by. Two may have the same, and are counted then.
fn key(record: &LogRecord) -> String {
    let time = record.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let text = format!("{} {} {} {}", time.as_nanos(), record.instance, record.event, record.message);
    layout::digest(text.as_bytes())
}

/// A level as a sign and a word, so that its colour is not all there is.
fn level_sign(level: Level) -> Markup {
    let sign = match level {
        Level::Debug => "·",
        Level::Info => "",
        Level::Warn => "▲",
        Level::Error => "✕",
    };
    html! { span.level { span.sign aria-hidden="true" { (sign) } (level.as_str()) } }
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

/// The fields as far as they fit on the line, the most telling first; all of them are among the details.
fn glance(record: &LogRecord) -> Markup {
    let mut fields = record.telling_fields();
    fields.truncate(GLANCED_AT_MAX);
    html! {
        @if !fields.is_empty() {
            " " span.glance {
                @for (name, value) in fields { span.key { (name) "=" } (head(bare(value))) " " }
            }
        }
    }
}

/// A word without the quotes that JSON has it in; what would not be told from its neighbours keeps them.
fn bare(json: &str) -> &str {
    let word = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    word.filter(|word| !word.is_empty() && !word.contains(['"', '\\', ' ', '='])).unwrap_or(json)
}

/// The beginning of a value.
fn head(value: &str) -> &str {
    let end = value.char_indices().nth(VALUE_CHARS_MAX).map_or(value.len(), |(at, _)| at);
    &value[..end]
}

fn details(record: &LogRecord) -> Markup {
    let is_named = !record.message.is_empty() && record.event != APP_OUTPUT;
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

/// Records for the page; looking for text goes through all that is kept, which is not for the control plane's thread.
async fn find(telemetry: Handle, filter: LogFilter) -> Result<Records, ControlError> {
    let searched = tokio::task::spawn_blocking(move || telemetry.records(&filter, RECORDS_MAX)).await;
    searched.map_err(|_| ControlError::failed("Terrace is ending."))
}

/// The live log of one page: first what was said last, for the page may be a moment old or its stream have been away (the
/// page knows its rows by their `data-key` and takes what it lacks), then what comes.
///
/// A page cannot show thousands of lines a second, and nobody can read them: of what came within one [`FLUSH_EVERY`] the
/// newest [`ROWS_MAX`] are sent, and a number for the rest.
pub(super) struct Tail {
    stream: RecordStream,
    first: Option<Records>,
    rows: VecDeque<Arc<LogRecord>>,
    left_out: u64,
    flush_at: Duration,
}

/// What a page's live log is told.
pub(super) struct Rows {
    /// Whether these are the last ones that were said before, of which the page may have some.
    pub(super) is_start: bool,
    pub(super) html: String,
}

impl Tail {
    pub(super) async fn open(telemetry: &Handle, filter: LogFilter) -> Result<Self, ControlError> {
        let stream = telemetry.follow(LogFilter { since: None, ..filter });
        let opened = tokio::task::spawn_blocking(move || (stream.recent(RECORDS_MAX), stream)).await;
        let (first, stream) = opened.map_err(|_| ControlError::failed("Terrace is ending."))?;
        let (rows, flush_at) = (VecDeque::new(), clock::now());
        Ok(Self { stream, first: Some(first), rows, left_out: 0, flush_at })
    }

    /// The next rows. May be dropped and called again without loss.
    pub(super) async fn next(&mut self) -> Rows {
        if let Some(first) = self.first.take() {
            return Rows {
                is_start: true,
                html: html! { @for record in &first { (row(record)) } }.into_string(),
            };
        }
        loop {
            let has_some = !self.rows.is_empty() || self.left_out > 0;
            let flush = tokio::time::sleep_until(clock::instant(self.flush_at));
            tokio::select! {
                followed = self.stream.next() => self.take(followed),
                () = flush, if has_some => return self.flush(),
            }
        }
    }

    fn take(&mut self, followed: Followed) {
        match followed {
            Followed::Missed(missed) => self.left_out += missed,
            Followed::Record(record) => {
                self.rows.push_back(record);
                if self.rows.len() > ROWS_MAX {
                    self.rows.pop_front();
                    self.left_out += 1;
                }
            }
        }
    }

    fn flush(&mut self) -> Rows {
        self.flush_at = clock::now() + FLUSH_EVERY;
        let left_out = std::mem::take(&mut self.left_out);
        let html = html! {
            @if left_out > 0 { (gap(&format!("{left_out} more lines came too fast to show; a filter leaves fewer."))) }
            @for record in self.rows.drain(..) { (row(&record)) }
        };
        Rows { is_start: false, html: html.into_string() }
    }
}

/// A row that says that others are missing.
fn gap(text: &str) -> Markup {
    html! { tr.gap { td colspan="4" { (text) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fields: &[(&str, &str)]) -> LogRecord {
        let mut record = LogRecord::new(SystemTime::UNIX_EPOCH, Level::Info, "request");
        record.fields = fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        record
    }

    #[test]
    fn a_request_in_the_log_is_read_at_a_glance() {
        let record = record(&[
            ("at", "\"2026\""),
            ("method", "\"GET\""),
            ("note", "\"a <b>\""),
            ("path", "\"/products\""),
            ("status", "200"),
            ("took_ms", "4"),
        ]);
        let text = glance(&record).into_string().replace("<span class=\"key\">", "").replace("</span>", "");
        let told = "method=GET path=/products status=200 took_ms=4 note=&quot;a &lt;b&gt;&quot; at=2026 ";
        assert_eq!(text, format!(" <span class=\"glance\">{told}"));
    }

    #[test]
    fn a_line_of_many_and_long_fields_stays_a_line() {
        let long = format!("\"{}\"", "é".repeat(10_000));
        let names: Vec<String> = (0..100).map(|index| format!("field-{index}")).collect();
        let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), long.as_str())).collect();
        let record = record(&fields);
        assert!(glance(&record).into_string().len() < 5_000);
        assert!(row(&record).into_string().len() > 2_000_000, "the details have all of it");
        assert_eq!(glance(&self::record(&[])).into_string(), "");
    }
}
