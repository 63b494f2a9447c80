//! The routes that look: the map, alerts and objectives, traces and series; and the few changes that belong to them. All
//! figures come from telemetry as plain types and become JSON here.
//!
//! Keys are in snake case. A time is text as RFC 3339 has it, in UTC; a span of time is a number of seconds and its key
//! ends in `_seconds`; a share is a number from 0 to 1; what is not known is `null`.
//!
//! ```text
//! GET  /v1/map                        the way of requests with its figures
//! GET  /v1/alerts                     { alerts, objectives, silences }
//! POST /v1/alerts/test                { "receiver": "oncall" } or {}: { results: [{ receiver, is_delivered, problem }] }
//! POST /v1/silences                   { "target", "seconds", "comment" }: the silence
//! POST /v1/silences/{id}/end          {}
//! GET  /v1/traces?service=&route=&slower_than_seconds=&errors=true&text=&limit=
//! GET  /v1/traces/{id}                { trace_id, spans }
//! GET  /v1/series?name=&label.NAME=&of=rate&by=a,b&last_seconds=300
//! POST /v1/services/{name}/instances/{instance}/drain   { "out": true }
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use terrace_instruments::{Span, SpanKind, SpanStatus, Timestamp, TraceId, Value as Attribute};
use terrace_signals::alerts::{AlertState, AlertView, ObjectiveView, Severity, SilenceView, Subject};
use terrace_signals::series::{Chart, Measure, Quantile, Query as SeriesQuery, Selector};
use terrace_signals::traces::{TraceFilter, TraceSummary};
use terrace_telemetry::Handle;

use crate::api::{bad_request, carry_out, json, service_name};
use crate::audit::{Audit, Change, who};
use crate::control::{Control, ControlError};
use crate::gate::Caller;

/// Traces of one answer.
const TRACES_MAX: usize = 1_000;
const TRACES_DEFAULT: usize = 100;
/// As long as the longest ring.
const SERIES_LAST_MAX: Duration = Duration::from_secs(7 * 86_400);
const SERIES_LAST_DEFAULT_SECONDS: f64 = 300.0;
/// Longer names are nobody's.
const NAME_BYTES_MAX: usize = 300;
/// Of a silence's comment.
const COMMENT_BYTES_MAX: usize = 1_000;

#[derive(Clone)]
struct Observe {
    control: Arc<dyn Control>,
    telemetry: Handle,
    audit: Audit,
}

/// The routes, to be merged into the API's.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(
    control: Arc<dyn Control>,
    telemetry: Handle,
    audit: Audit,
) -> Router<S> {
    Router::new()
        .route("/v1/map", get(map))
        .route("/v1/alerts", get(alerts))
        .route("/v1/alerts/test", post(test))
        .route("/v1/silences", post(silence))
        .route("/v1/silences/{id}/end", post(unsilence))
        .route("/v1/traces", get(traces))
        .route("/v1/traces/{id}", get(trace))
        .route("/v1/series", get(series))
        .route("/v1/services/{name}/instances/{instance}/drain", post(drain))
        .with_state(Observe { control, telemetry, audit })
}

async fn map(State(observe): State<Observe>) -> Result<Response, ControlError> {
    let map = observe.control.map().await?;
    match serde_json::to_value(&*map) {
        Ok(value) => Ok(json(&value)),
        Err(error) => Err(ControlError::failed(format!("the map is no JSON: {error}"))),
    }
}

async fn alerts(State(observe): State<Observe>) -> Response {
    let telemetry = &observe.telemetry;
    json(&json!({
        "alerts": telemetry.alerts().iter().map(alert_json).collect::<Vec<_>>(),
        "objectives": telemetry.objectives().iter().map(objective_json).collect::<Vec<_>>(),
        "silences": telemetry.silences().iter().map(silence_json).collect::<Vec<_>>(),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    receiver: Option<String>,
}

async fn test(
    State(observe): State<Observe>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, ControlError> {
    let Test { receiver } = asked(&body, "{\"receiver\": \"NAME\"}, or {} for all")?;
    let mut change = Change::new(caller, "test-alert");
    if let Some(name) = &receiver {
        change = change.target(short(name)?);
    }
    let telemetry = observe.telemetry;
    let outcome = async move {
        let results = telemetry.test_receivers(receiver.as_deref()).await;
        match (results.is_empty(), receiver) {
            (true, Some(name)) => {
                Err(ControlError::not_found(format!("there is no receiver {name} in the file")))
            }
            (true, None) => {
                Err(ControlError::not_found("there is no [notify.*] in the file, so nobody is told"))
            }
            (false, _) => Ok(json!({ "results": results.iter().map(result_json).collect::<Vec<_>>() })),
        }
    };
    Ok(json(&carry_out(observe.audit, change, Box::pin(outcome)).await?))
}

fn result_json((receiver, outcome): &(String, Result<(), String>)) -> Value {
    json!({ "receiver": receiver, "is_delivered": outcome.is_ok(), "problem": outcome.as_ref().err() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Silence {
    target: String,
    seconds: f64,
    #[serde(default)]
    comment: String,
}

async fn silence(
    State(observe): State<Observe>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, ControlError> {
    let Silence { target, seconds, comment } =
        asked(&body, "{\"target\": \"NAME\", \"seconds\": 7200, \"comment\": \"…\"}")?;
    let target = short(&target)?;
    if comment.len() > COMMENT_BYTES_MAX {
        return Err(ControlError::invalid(format!("a comment of more than {COMMENT_BYTES_MAX} bytes")));
    }
    let Ok(lasts) = Duration::try_from_secs_f64(seconds) else {
        return Err(ControlError::invalid(format!("{seconds} seconds are no time to be silent")));
    };
    let change = Change::new(caller, "silence").target(target.as_str());
    let telemetry = observe.telemetry;
    let outcome = async move {
        let begun = telemetry.silence(&target, lasts, &comment, &who(caller)).await;
        let (silence, is_kept) = begun.map_err(ControlError::invalid)?;
        let mut value = silence_json(&silence);
        value["kept"] = is_kept.into();
        Ok(value)
    };
    Ok(json(&carry_out(observe.audit, change, Box::pin(outcome)).await?))
}

async fn unsilence(
    State(observe): State<Observe>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, ControlError> {
    let id = short(&id)?;
    let change = Change::new(caller, "unsilence").target(id.as_str());
    let telemetry = observe.telemetry;
    let outcome = async move {
        match telemetry.unsilence(&id).await {
            Some(is_kept) => Ok(json!({ "is_over": true, "kept": is_kept })),
            None => Err(ControlError::not_found(format!("there is no silence {id}; it may be over"))),
        }
    };
    Ok(json(&carry_out(observe.audit, change, Box::pin(outcome)).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    out: bool,
}

async fn drain(
    State(observe): State<Observe>,
    Extension(caller): Extension<Caller>,
    Path((service, instance)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, ControlError> {
    let (service, instance) = (service_name(service)?, short(&instance)?);
    let Drain { out } = asked(&body, "{\"out\": true}")?;
    let action = if out { "drain" } else { "undrain" };
    let change = Change::new(caller, action).service(service.as_str()).target(instance.as_str());
    let control = observe.control;
    let outcome = async move { control.drain(service, instance, out).await };
    Ok(json(&carry_out(observe.audit, change, Box::pin(outcome)).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceParameters {
    service: Option<String>,
    route: Option<String>,
    slower_than_seconds: Option<f64>,
    #[serde(default)]
    errors: bool,
    text: Option<String>,
    limit: Option<usize>,
}

async fn traces(
    State(observe): State<Observe>,
    parameters: Result<Query<TraceParameters>, QueryRejection>,
) -> Result<Response, ControlError> {
    let Query(wanted) = parameters.map_err(|rejection| bad_request(rejection.body_text()))?;
    let duration_min = match wanted.slower_than_seconds.map(Duration::try_from_secs_f64) {
        None => Duration::ZERO,
        Some(Ok(duration)) => duration,
        Some(Err(_)) => return Err(bad_request("slower_than_seconds is no span of time")),
    };
    let filter = TraceFilter {
        service: wanted.service,
        route: wanted.route,
        duration_min,
        errors_only: wanted.errors,
        text: wanted.text,
        limit: wanted.limit.unwrap_or(TRACES_DEFAULT).min(TRACES_MAX),
    };
    beside(move || {
        let traces = observe.telemetry.traces(&filter);
        json(&json!({ "traces": traces.iter().map(summary_json).collect::<Vec<_>>() }))
    })
    .await
}

async fn trace(State(observe): State<Observe>, Path(id): Path<String>) -> Result<Response, ControlError> {
    let Ok(id) = id.parse::<TraceId>() else {
        return Err(bad_request("a trace's id is of 32 digits 0-9 and a-f"));
    };
    match observe.telemetry.trace(id) {
        Some(spans) => Ok(json(&json!({
            "trace_id": id.to_string(),
            "spans": spans.iter().map(span_json).collect::<Vec<_>>(),
        }))),
        None => {
            Err(ControlError::not_found(format!("trace {id} was not kept, or has made room for newer ones")))
        }
    }
}

async fn series(
    State(observe): State<Observe>,
    parameters: Result<Query<BTreeMap<String, String>>, QueryRejection>,
) -> Result<Response, ControlError> {
    let Query(parameters) = parameters.map_err(|rejection| bad_request(rejection.body_text()))?;
    let query = series_query(parameters)?;
    beside(move || json(&chart_json(&observe.telemetry.query(&query)))).await
}

/// Makes a long answer beside the control plane's thread: a week of hundreds of lines is millions of characters.
async fn beside(make: impl FnOnce() -> Response + Send + 'static) -> Result<Response, ControlError> {
    let made = tokio::task::spawn_blocking(make).await;
    made.map_err(|_| ControlError::failed("the answer could not be made; this is a fault of Terrace's own"))
}

/// The question that the parameters ask.
fn series_query(parameters: BTreeMap<String, String>) -> Result<SeriesQuery, ControlError> {
    let (mut name, mut labels, mut measure, mut by) = (None, Vec::new(), Measure::Value, None);
    let mut seconds = SERIES_LAST_DEFAULT_SECONDS;
    for (key, value) in parameters {
        match key.as_str() {
            "name" => name = Some(short(&value)?),
            "of" => measure = measure_of(&value)?,
            "by" => {
                by = Some(value.split(',').filter(|label| !label.is_empty()).map(str::to_owned).collect())
            }
            "last_seconds" => {
                let number = value.parse().ok().filter(|seconds| *seconds > 0.0);
                seconds = number.ok_or_else(|| bad_request("last_seconds is no span of time"))?;
            }
            key => match key.strip_prefix("label.") {
                Some(label) => labels.push((short(label)?, value)),
                None => return Err(bad_request(format!("the parameter {key} is not known here"))),
            },
        }
    }
    let Some(name) = name else { return Err(bad_request("the parameter name is missing")) };
    let last = Duration::try_from_secs_f64(seconds).unwrap_or(SERIES_LAST_MAX).min(SERIES_LAST_MAX);
    Ok(SeriesQuery { selector: Selector { name, labels }, measure, last, by })
}

fn measure_of(word: &str) -> Result<Measure, ControlError> {
    match word {
        "rate" => Ok(Measure::Rate),
        "value" => Ok(Measure::Value),
        "mean" => Ok(Measure::Mean),
        "p50" => Ok(Measure::Quantile(Quantile::P50)),
        "p90" => Ok(Measure::Quantile(Quantile::P90)),
        "p99" => Ok(Measure::Quantile(Quantile::P99)),
        "p99.9" => Ok(Measure::Quantile(Quantile::P999)),
        _ => Err(bad_request("of is one of rate, value, mean, p50, p90, p99 and p99.9")),
    }
}

fn asked<T: DeserializeOwned>(body: &[u8], like: &str) -> Result<T, ControlError> {
    // An empty body asks for nothing in particular.
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| bad_request(format!("the body must be {like}: {error}")))
}

/// Names go into the audit log, which a caller must not be able to fill.
fn short(name: &str) -> Result<String, ControlError> {
    match name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control) {
        true => Ok(name.to_owned()),
        false => Err(bad_request(format!(
            "a name is of at most {NAME_BYTES_MAX} bytes, without control characters"
        ))),
    }
}

fn alert_json(alert: &AlertView) -> Value {
    json!({
        "id": alert.id,
        "name": alert.name,
        "detail": alert.detail,
        "severity": severity(alert.severity),
        "state": match alert.state {
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
            AlertState::Resolved => "resolved",
        },
        "since": time(alert.since),
        "summary": alert.summary,
        "subject": alert.subject.as_ref().map(subject),
        "value": alert.value,
        "notes": alert.notes,
        "silenced_until": alert.silenced_until.map(time),
    })
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Page => "page",
        Severity::Ticket => "ticket",
        Severity::Info => "info",
    }
}

fn subject(subject: &Subject) -> Value {
    match subject {
        Subject::Route(name) => json!({ "route": name }),
        Subject::Service(name) => json!({ "service": name }),
    }
}

fn objective_json(objective: &ObjectiveView) -> Value {
    let burn = objective.burn.iter();
    let burn = burn.map(|(window, rate)| json!({ "window_seconds": window.as_secs_f64(), "rate": rate }));
    json!({
        "name": objective.name,
        "kind": objective.kind,
        "subject": subject(&objective.subject),
        "goal": objective.goal,
        "under_seconds": objective.under.map(|under| under.as_secs_f64()),
        "window_seconds": objective.window.as_secs_f64(),
        "total": objective.total,
        "bad": objective.bad,
        "budget_left": objective.budget_left,
        "burn": burn.collect::<Vec<_>>(),
        "history": objective.history,
    })
}

fn silence_json(silence: &SilenceView) -> Value {
    json!({
        "id": silence.id,
        "target": silence.target,
        "until": time(silence.until),
        "comment": silence.comment,
        "by": silence.by,
    })
}

fn summary_json(trace: &TraceSummary) -> Value {
    json!({
        "trace_id": trace.trace.to_string(),
        "root": trace.root,
        "path": trace.path,
        "route": trace.route,
        "services": trace.services,
        "start": time(trace.start),
        "duration_seconds": trace.duration.as_secs_f64(),
        "spans": trace.spans,
        "is_error": trace.is_error,
        "is_retried": trace.is_retried,
        "status": trace.status,
        "kept": trace.kept,
    })
}

fn span_json(span: &Span) -> Value {
    let attributes = span.attributes.iter();
    let attributes: Map<String, Value> =
        attributes.map(|(name, value)| (name.to_string(), attribute(value))).collect();
    json!({
        "span_id": span.id.to_string(),
        "parent_id": span.parent.map(|parent| parent.to_string()),
        "name": span.name,
        "kind": match span.kind {
            SpanKind::Internal => "internal",
            SpanKind::Server => "server",
            SpanKind::Client => "client",
            SpanKind::Producer => "producer",
            SpanKind::Consumer => "consumer",
        },
        "service": &*span.service,
        "instance": &*span.instance,
        "start": time(span.start),
        "duration_seconds": span.duration.as_secs_f64(),
        "is_error": span.status == SpanStatus::Error,
        "attributes": attributes,
    })
}

fn attribute(value: &Attribute) -> Value {
    match value {
        Attribute::Text(text) => json!(text),
        Attribute::Int(number) => json!(number),
        Attribute::Uint(number) => json!(number),
        Attribute::Float(number) => json!(number),
        Attribute::Bool(flag) => json!(flag),
        Attribute::Duration(duration) => json!(duration.as_secs_f64()),
    }
}

fn chart_json(chart: &Chart) -> Value {
    let line = |line: &terrace_signals::series::Line| {
        let labels: Map<String, Value> =
            line.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({ "labels": labels, "points": line.points })
    };
    json!({
        "first_ago_seconds": chart.first_ago.as_secs_f64(),
        "step_seconds": chart.step.as_secs_f64(),
        "lines": chart.lines.iter().map(line).collect::<Vec<_>>(),
        "left_out": chart.left_out,
    })
}

fn time(time: SystemTime) -> String {
    Timestamp::default().format(time).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(parameters: &[(&str, &str)]) -> Result<SeriesQuery, u16> {
        let parameters = parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        series_query(parameters.collect()).map_err(|problem| problem.status)
    }

    #[test]
    fn a_question_about_series_is_understood_or_refused() {
        let asked = query(&[
            ("name", "terrace_requests_total"),
            ("label.route", "orders"),
            ("of", "rate"),
            ("by", "class,"),
            ("last_seconds", "60"),
        ]);
        let selector = Selector {
            name: "terrace_requests_total".to_owned(),
            labels: vec![("route".to_owned(), "orders".to_owned())],
        };
        let by = Some(vec!["class".to_owned()]);
        let expected = SeriesQuery { selector, measure: Measure::Rate, last: Duration::from_secs(60), by };
        assert_eq!(asked, Ok(expected));
        let all = query(&[("name", "up"), ("by", "")]).expect("everything in one line");
        assert_eq!((all.by, all.measure), (Some(Vec::new()), Measure::Value));
        assert_eq!(
            query(&[("name", "up"), ("last_seconds", "1e300")]).map(|query| query.last),
            Ok(SERIES_LAST_MAX)
        );
        for wrong in [
            &[("of", "rate")][..],
            &[("name", "a"), ("of", "p95")],
            &[("name", "a"), ("last_seconds", "-1")],
            &[("name", "a"), ("last_seconds", "NaN")],
            &[("name", "a"), ("nmae", "b")],
        ] {
            assert_eq!(query(wrong), Err(400), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_null_and_times_are_text() {
        let objective = ObjectiveView {
            name: "checkout".to_owned(),
            kind: "success",
            subject: Subject::Route("orders".to_owned()),
            goal: 0.999,
            under: None,
            window: Duration::from_secs(86_400),
            total: 10,
            bad: 1,
            budget_left: -99.0,
            burn: vec![(Duration::from_secs(300), 100.0)],
            history: vec![1.0, f64::NAN],
        };
        let value = objective_json(&objective);
        assert_eq!(value["history"], json!([1.0, null]));
        assert_eq!(value["under_seconds"], Value::Null);
        assert_eq!(value["burn"], json!([{ "window_seconds": 300.0, "rate": 100.0 }]));
        assert_eq!(
            time(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500)),
            "1970-01-01T00:00:01.500000Z"
        );
    }
}
