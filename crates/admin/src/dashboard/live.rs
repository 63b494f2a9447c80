//! `/live`: what changes, as server-sent events (HTML Living Standard, section 9.2).
//!
//! | event | data | when |
//! |---|---|---|
//! | `map` | the map ([`crate::map::Map`]) as JSON | each second |
//! | `alerts` | `{"firing":[pages,tickets],"digest":"…"}` | when alerts or silences have changed, and at first |
//! | `log-start` | rows of the log's table as HTML, made by the same code as the page: the last that were said | at first, with `?logs=1` and the log page's filter |
//! | `log` | the same of those that come | at most four times a second |
//! | `end` | nothing | the session has ended, or Terrace closes the face |
//!
//! One page has one stream, since a browser opens six connections to a host at most; `app.js` closes it while the page
//! is hidden. The map is asked for and written down once a second for all streams together, and only while there
//! are any. A reader that is too slow misses maps, never gets old ones late. Charts are not pushed: their page asks
//! `/v1/series` at each step, so that what is watched need not be known here.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use hyper::body::Frame;
use serde_json::json;
use terrace_runtime::drain::Drain;
use terrace_signals::alerts::{AlertState, AlertView, Severity, SilenceView};
use terrace_telemetry::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::api::bad_request;
use crate::control::{Control, ControlError};

use super::guard::now;
use super::logs::{Rows, Search, Tail};
use super::visitor::Visitor;
use super::{Dashboard, layout};

/// Streams at a time, of the 128 connections that the face takes: what is left is for pages and the API.
const STREAMS_MAX: usize = 48;
/// Between two maps.
const EVERY: Duration = Duration::from_secs(1);
/// Events that wait for a slow reader.
const WAITING_MAX: usize = 4;

/// The source of all streams. Cheap to clone.
#[derive(Clone)]
pub(super) struct Live(Arc<Shared>);

struct Shared {
    control: Arc<dyn Control>,
    telemetry: Handle,
    slots: Arc<Semaphore>,
    /// What was last; `None` while nobody listens.
    latest: watch::Sender<Option<Arc<Reading>>>,
    /// Whether somebody keeps `latest` up to date.
    is_read: Mutex<bool>,
}

/// What all streams are told of one second.
struct Reading {
    map: Bytes,
    alerts: Bytes,
}

impl Live {
    pub(super) fn new(control: Arc<dyn Control>, telemetry: Handle) -> Self {
        let (latest, slots) = (watch::Sender::new(None), Arc::new(Semaphore::new(STREAMS_MAX)));
        Self(Arc::new(Shared { control, telemetry, slots, latest, is_read: Mutex::new(false) }))
    }

    /// Follows the readings, and sees to it that there are some.
    fn follow(&self) -> watch::Receiver<Option<Arc<Reading>>> {
        let shared = &self.0;
        let mut is_read = shared.is_read.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_read {
            *is_read = true;
            shared.latest.send_replace(None);
            tokio::spawn(Arc::clone(shared).read());
        }
        // Within the lock: so the reader that is just about to stop for want of followers sees this one.
        shared.latest.subscribe()
    }
}

impl Shared {
    /// Reads once a second until nobody follows any more.
    async fn read(self: Arc<Self>) {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            {
                let mut is_read = self.is_read.lock().unwrap_or_else(PoisonError::into_inner);
                if self.latest.receiver_count() == 0 {
                    *is_read = false;
                    self.latest.send_replace(None);
                    return;
                }
            }
            // A map that cannot be had now may be had in a second; the page says how old the last one is.
            if let Ok(map) = self.control.map().await
                && let Ok(text) = serde_json::to_string(&*map)
            {
                let alerts = alerts_event(&self.telemetry.alerts(), &self.telemetry.silences());
                self.latest.send_replace(Some(Arc::new(Reading { map: event("map", &text), alerts })));
            }
        }
    }
}

/// What the page's count and the page of alerts need to know: whether it is time to look again.
fn alerts_event(alerts: &[AlertView], silences: &[SilenceView]) -> Bytes {
    let firing = |severity: Severity| {
        let fires = |alert: &&AlertView| alert.state == AlertState::Firing && alert.severity == severity;
        alerts.iter().filter(fires).count()
    };
    // Values are left out of it: they change with every reading.
    let alerts_now: Vec<_> = alerts
        .iter()
        .map(|alert| json!([alert.id, alert.state as u8, alert.silenced_until.is_some()]))
        .collect();
    let silences_now: Vec<_> = silences.iter().map(|silence| silence.id.as_str()).collect();
    let digest = layout::digest(json!([alerts_now, silences_now]).to_string().as_bytes());
    let data = json!({ "firing": [firing(Severity::Page), firing(Severity::Ticket)], "digest": digest });
    event("alerts", &data.to_string())
}

/// An event; each line of its data is a field of its own.
fn event(name: &str, data: &str) -> Bytes {
    let mut text = format!("event: {name}\n");
    for line in data.split(['\n', '\r']) {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    Bytes::from(text)
}

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/live", get(live))
}

async fn live(
    State(dashboard): State<Dashboard>,
    Extension(closing): Extension<Drain>,
    visitor: Visitor,
    search: Result<Query<Search>, QueryRejection>,
) -> Result<Response, ControlError> {
    let Query(search) = search.map_err(|rejection| bad_request(rejection.body_text()))?;
    let Ok(slot) = Arc::clone(&dashboard.live.0.slots).try_acquire_owned() else {
        let detail = format!("{STREAMS_MAX} pages are being kept up to date already; close some.");
        return Err(ControlError::new(503, "Too many streams", detail, true));
    };
    let tail = match search.logs {
        Some(_) => Some(Tail::open(&dashboard.telemetry, search.filter()?).await?),
        None => None,
    };
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let readings = dashboard.live.follow();
    let stream = Stream { dashboard, visitor, closing, readings, tail, sender, _slot: slot };
    tokio::spawn(stream.run());
    let mut response = Body::new(Events(receiver)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    Ok(response)
}

/// One page's stream.
struct Stream {
    dashboard: Dashboard,
    visitor: Visitor,
    closing: Drain,
    readings: watch::Receiver<Option<Arc<Reading>>>,
    tail: Option<Tail>,
    sender: mpsc::Sender<Bytes>,
    _slot: OwnedSemaphorePermit,
}

impl Stream {
    async fn run(mut self) {
        // A browser that lost us asks again after two seconds; app.js backs off from there.
        if self.sender.send(Bytes::from_static(b"retry: 2000\n\n")).await.is_err() {
            return;
        }
        let mut alerts_told = Bytes::new();
        loop {
            let told = tokio::select! {
                () = self.closing.requested() => break,
                () = self.sender.closed() => return,
                changed = self.readings.changed() => match changed {
                    Ok(()) => self.tell_reading(&mut alerts_told).await,
                    Err(_) => break,
                },
                rows = next_rows(&mut self.tail) => {
                    let name = if rows.is_start { "log-start" } else { "log" };
                    self.sender.send(event(name, &rows.html)).await.is_ok()
                }
            };
            if !told || !self.dashboard.sessions.holds(&self.visitor.session, now()) {
                break;
            }
        }
        let _gone = self.sender.try_send(event("end", ""));
    }

    /// Says whether there is somebody to tell.
    async fn tell_reading(&mut self, alerts_told: &mut Bytes) -> bool {
        let Some(reading) = self.readings.borrow_and_update().clone() else { return true };
        if reading.alerts != *alerts_told {
            alerts_told.clone_from(&reading.alerts);
            if self.sender.send(reading.alerts.clone()).await.is_err() {
                return false;
            }
        }
        self.sender.send(reading.map.clone()).await.is_ok()
    }
}

/// The next rows of a log that is followed; never, when none is.
async fn next_rows(tail: &mut Option<Tail>) -> Rows {
    match tail {
        Some(tail) => tail.next().await,
        None => std::future::pending().await,
    }
}

/// Events as a body: each is sent when it comes.
struct Events(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_cannot_be_ended_by_what_is_in_it() {
        let event = event("log", "one\r\ntwo\n\ndata: three");
        assert_eq!(&event[..], b"event: log\ndata: one\ndata: \ndata: two\ndata: \ndata: data: three\n\n");
    }
}
