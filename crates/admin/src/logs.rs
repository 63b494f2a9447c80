//! `/v1/logs`: what was said, filtered, as one JSON object a line; and on request what comes.
//!
//! Beside records there may be two other objects: `{"note": …}` first, when memory does not reach as far back as was
//! asked, and `{"missed_lines": n}`, when a reader was so slow that records went by.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use serde::Deserialize;
use serde_json::json;
use terrace_instruments::{Timestamp, TraceId};
use terrace_runtime::clock;
use terrace_runtime::drain::Drain;
use terrace_signals::records::{LogFilter, Records, TERRACE, level_of, rfc3339};
use terrace_telemetry::{Destination, Followed, Handle, RecordStream, record_json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::api::{bad_request, service_name};
use crate::control::{Control, ControlError};
use crate::gate::Caller;

const LINES_DEFAULT: usize = 100;
/// The most records of the past that can be asked for.
const LINES_MAX: usize = 10_000;
const TEXT_BYTES_MAX: usize = 1_024;
/// Logs that are followed at a time over the loopback face, of its 128 connections: what is left is for pages. Whoever
/// speaks to the Unix socket has that to themselves.
const FOLLOWED_MAX: usize = 32;
/// Lines on their way to a reader; what comes while it is slower waits in memory as all records do.
const LINES_WAITING_MAX: usize = 64;

/// What the route needs.
#[derive(Clone)]
pub(crate) struct Logs {
    pub(crate) control: Arc<dyn Control>,
    pub(crate) telemetry: Handle,
    /// For those who follow.
    places: Arc<Semaphore>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    service: Option<String>,
    instance: Option<String>,
    level: Option<String>,
    trace: Option<String>,
    text: Option<String>,
    since: Option<String>,
    until: Option<String>,
    lines: Option<usize>,
    #[serde(default)]
    follow: bool,
}

pub(crate) async fn logs(
    State(logs): State<Logs>,
    Extension(closing): Extension<Drain>,
    Extension(caller): Extension<Caller>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Response, ControlError> {
    let Query(parameters) = parameters.map_err(|rejection| bad_request(rejection.body_text()))?;
    let place = if parameters.follow { logs.place(caller)? } else { None };
    let (last, follow) = (parameters.lines.unwrap_or(LINES_DEFAULT).min(LINES_MAX), parameters.follow);
    let filter = parameters.filter(clock::wall())?;
    logs.check_service(filter.service.as_deref()).await?;
    let stream = logs.telemetry.follow(filter.clone());
    // Looking for text goes through all that is kept, which is not for the control plane's thread.
    let searched = tokio::task::spawn_blocking(move || (stream.recent(last), stream)).await;
    let (recent, stream) = searched.map_err(|_| ControlError::failed("Terrace is ending"))?;
    let note = if recent.len() < last { logs.note(&filter) } else { None };
    let (lines, body) = mpsc::channel(LINES_WAITING_MAX);
    tokio::spawn(async move {
        send(lines, closing, note, recent, follow.then_some(stream)).await;
        drop(place);
    });
    let mut response = Body::new(Ndjson(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl Parameters {
    fn filter(self, now: SystemTime) -> Result<LogFilter, ControlError> {
        let level = |word: String| {
            level_of(&word).ok_or_else(|| bad_request("`level` is debug, info, warn or error"))
        };
        let trace = |id: String| {
            let id = id.parse::<TraceId>();
            id.map_err(|_| bad_request("`trace` is the id of a trace: 32 hexadecimal digits in lower case"))
        };
        if self.text.as_ref().is_some_and(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(bad_request(format!("`text` is longer than {TEXT_BYTES_MAX} bytes")));
        }
        if self.follow && self.until.is_some() {
            return Err(bad_request("what comes has no end: give either `until` or `follow`"));
        }
        Ok(LogFilter {
            service: self.service.map(service_name).transpose()?,
            instance: self.instance,
            level_min: self.level.map(level).transpose()?,
            trace: self.trace.map(trace).transpose()?,
            text: self.text.filter(|text| !text.is_empty()),
            since: self.since.map(|text| moment("since", &text, now)).transpose()?,
            until: self.until.map(|text| moment("until", &text, now)).transpose()?,
        })
    }
}

/// A moment of the past: `10m` and `1h30m` ago, or a time such as `2026-01-31T12:00:00Z` (RFC 3339).
fn moment(key: &str, text: &str, now: SystemTime) -> Result<SystemTime, ControlError> {
    // A time before 1970 is one too, and as good as 1970: nothing is older.
    let ago = |span: Duration| match now.checked_sub(span) {
        Some(at) => at.max(SystemTime::UNIX_EPOCH),
        None => SystemTime::UNIX_EPOCH,
    };
    rfc3339(text).or_else(|| span(text).map(ago)).ok_or_else(|| {
        bad_request(format!(
            "`{key}` is how long ago, such as 10m, 2h or 1d, or a time with its offset, such as 2026-01-31T12:00:00Z"
        ))
    })
}

/// `1h30m`: whole numbers, each with its unit.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit_ms = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        rest = &rest[letters..];
        sum = sum.checked_add(Duration::from_millis(number.checked_mul(unit_ms)?))?;
    }
    (!text.is_empty()).then_some(sum)
}

impl Logs {
    pub(crate) fn new(control: Arc<dyn Control>, telemetry: Handle) -> Self {
        Self { control, telemetry, places: Arc::new(Semaphore::new(FOLLOWED_MAX)) }
    }

    /// A place among those who follow; the Unix socket's need none.
    fn place(&self, caller: Caller) -> Result<Option<OwnedSemaphorePermit>, ControlError> {
        if matches!(caller, Caller::Peer { .. }) {
            return Ok(None);
        }
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Ok(Some(place)),
            Err(_) => {
                let detail = format!("{FOLLOWED_MAX} logs are being followed already; end one first");
                Err(ControlError::new(503, "Too many streams", detail, true))
            }
        }
    }

    /// A service that is in the file, or was when it said something that is still known.
    async fn check_service(&self, wanted: Option<&str>) -> Result<(), ControlError> {
        let Some(wanted) = wanted.filter(|name| *name != TERRACE) else { return Ok(()) };
        let mut known = self.telemetry.records_services();
        if known.iter().any(|name| name == wanted) {
            return Ok(());
        }
        let status = self.control.status().await?;
        let services = status["services"].as_array().into_iter().flatten();
        known.extend(services.filter_map(|service| service["name"].as_str()).map(str::to_owned));
        if known.iter().any(|name| name == wanted) { Ok(()) } else { Err(unknown(wanted, known)) }
    }

    /// What to say when records of the asked time may have been forgotten.
    fn note(&self, filter: &LogFilter) -> Option<String> {
        let whole_since = self.telemetry.records_whole_since(filter.service.as_deref());
        if filter.since? >= whole_since {
            return None;
        }
        let mut stamp = Timestamp::default();
        let since = stamp.format(whole_since);
        let config = self.telemetry.config();
        let (elsewhere, file) = match &config.events {
            Destination::File(path) => {
                (format!("; the file {} has them", path.display()), Some(path.display().to_string()))
            }
            _ => (String::new(), None),
        };
        let note = format!("records before {since} are not in memory{elsewhere}");
        Some(json!({ "note": note, "whole_since": since, "file": file }).to_string())
    }
}

fn unknown(wanted: &str, mut known: Vec<String>) -> ControlError {
    const FAR: f64 = 0.7;
    known.push(TERRACE.to_owned());
    known.sort();
    known.dedup();
    let near = known.iter().map(|name| (strsim::jaro_winkler(name, wanted), name));
    let nearest = near.filter(|(likeness, _)| *likeness > FAR).max_by(|(a, _), (b, _)| a.total_cmp(b));
    let suggestion = nearest.map_or_else(String::new, |(_, name)| format!("did you mean `{name}`? "));
    let list = known.join(", ");
    ControlError::not_found(format!("there is no service `{wanted}`; {suggestion}there are: {list}"))
}

/// Sends lines until the reader has gone or the face closes: who follows a log then sees its end, not a broken
/// connection.
async fn send(
    lines: mpsc::Sender<String>,
    mut closing: Drain,
    note: Option<String>,
    recent: Records,
    follow: Option<RecordStream>,
) {
    let all = async {
        let past = note.into_iter().chain(recent.iter().map(|record| record_json(record)));
        for line in past {
            if lines.send(line).await.is_err() {
                return;
            }
        }
        let Some(mut stream) = follow else { return };
        loop {
            let line = match stream.next().await {
                Followed::Record(record) => record_json(&record),
                Followed::Missed(missed) => json!({ "missed_lines": missed }).to_string(),
            };
            if lines.send(line).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = all => {}
        () = lines.closed() => {}
        () = closing.requested() => {}
    }
}

/// Lines as a body: each is sent when it comes.
struct Ndjson(mpsc::Receiver<String>);

impl hyper::body::Body for Ndjson {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|line| {
            line.map(|mut line| {
                line.push('\n');
                Ok(Frame::data(Bytes::from(line)))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let check = |text: &str, ago: u64| {
            assert_eq!(moment("since", text, now).unwrap(), now - Duration::from_secs(ago), "{text}");
        };
        check("10m", 600);
        check("1h30m", 5_400);
        check("2d", 172_800);
        check("1000ms", 1);
        check("1970-01-12T13:46:30Z", 10);
        check("99999999d", 1_000_000);
        for text in ["", "10", "m", "10 m", "-1h", "1.5h", "1w", "noon", "1h30", "99999999999999999999d"] {
            assert!(moment("since", text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn a_slip_of_the_finger_is_answered_with_what_was_meant() {
        let known = || ["orders", "web"].map(str::to_owned).to_vec();
        assert_eq!(
            unknown("ordrs", known()).detail,
            "there is no service `ordrs`; did you mean `orders`? there are: orders, terrace, web"
        );
        assert_eq!(unknown("x", known()).detail, "there is no service `x`; there are: orders, terrace, web");
    }
}
