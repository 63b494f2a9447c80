//! One request: its head is judged, its body read and unpacked, its items taken in, and what became of them answered, in
//! the sender's own encoding.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use terrace_otlp::{Partial, Signal, write_response, write_status};
use tokio::sync::Semaphore;

use super::body;
use super::intake::Intake;
use super::request::{self, Refusal, Wire};

/// Requests that are read and unpacked at a time; each takes some tens of MiB at worst.
const READ_MAX: usize = 2;
/// How long a request waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers requests. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Service {
    intake: Arc<Intake>,
    turns: Arc<Semaphore>,
}

impl Service {
    pub(super) fn new(intake: Arc<Intake>) -> Self {
        Self { intake, turns: Arc::new(Semaphore::new(READ_MAX)) }
    }

    /// Counts a connection from another machine.
    pub(super) fn refuse_stranger(&self) {
        self.intake.count_request("forbidden");
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
        let (parts, body) = request.into_parts();
        let origin = request::allowed_origin(&parts.headers).cloned();
        let wire = request::wire(&parts.headers).unwrap_or(Wire::Json);
        let mut response = match self.take(&parts, body).await {
            Ok((signal, partial)) => accepted(signal, wire, &partial),
            Err(refusal) if is_preflight(&parts, origin.as_ref()) => preflight(refusal),
            Err(refusal) => {
                self.intake.count_request(refusal.reason);
                refused(wire, &refusal)
            }
        };
        if let Some(origin) = origin {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::VARY, HeaderValue::from_static("origin"));
        }
        Ok(response)
    }

    async fn take(&self, parts: &Parts, body: Incoming) -> Result<(Signal, Partial), Refusal> {
        let wanted = request::read(parts)?;
        let busy = |_| Refusal::new(503, 14, "busy", "too much is being read at once; send it again later");
        let turn = tokio::time::timeout(TURN_TIMEOUT, Arc::clone(&self.turns).acquire_owned())
            .await
            .map_err(busy)?;
        let body = body::read(body).await?;
        let intake = Arc::clone(&self.intake);
        // Unpacking and reading some megabytes takes some tens of milliseconds, which the control plane's thread has not.
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let message = body::unpack(wanted, &body)?;
            intake.take(wanted, &message)
        });
        let broken = |_| Refusal::new(500, 13, "failed", "a fault of Terrace's own; please report it");
        let partial = reading.await.map_err(broken)??;
        self.intake.count_request("ok");
        Ok((wanted.signal, partial))
    }
}

fn is_preflight(parts: &Parts, origin: Option<&HeaderValue>) -> bool {
    parts.method == Method::OPTIONS && origin.is_some()
}

/// What a browser asks before it sends JSON (Fetch, section 4.8).
fn preflight(refusal: Refusal) -> Response<Answer> {
    let mut response = Response::new(Answer::default());
    *response.status_mut() =
        if refusal.status == 405 { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    let fields = HeaderValue::from_static("content-type, content-encoding, user-agent");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, fields);
    response
}

fn accepted(signal: Signal, wire: Wire, partial: &Partial) -> Response<Answer> {
    let message = write_response(signal, partial, wire == Wire::Json);
    let mut answer = Answer { data: Some(message.into()), trailers: None };
    if wire == Wire::Grpc {
        answer.frame();
    }
    let mut response = Response::new(answer);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type(wire));
    response
}

/// With gRPC the status of HTTP is 200, and what is wrong is in the head, as there is no body ("Trailers-Only").
fn refused(wire: Wire, refusal: &Refusal) -> Response<Answer> {
    let mut response = Response::new(Answer::default());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type(wire));
    if wire == Wire::Grpc {
        let headers = response.headers_mut();
        headers.insert("grpc-status", HeaderValue::from(refusal.code));
        if let Ok(why) = HeaderValue::from_str(&refusal.why) {
            headers.insert("grpc-message", why);
        }
        return response;
    }
    *response.status_mut() =
        StatusCode::from_u16(refusal.status).expect("invariant: refusals have valid statuses");
    if refusal.status == 503 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    let status = write_status(refusal.code, &refusal.why, wire == Wire::Json);
    response.body_mut().data = Some(status.into());
    response
}

fn content_type(wire: Wire) -> HeaderValue {
    HeaderValue::from_static(match wire {
        Wire::Grpc => "application/grpc",
        Wire::Protobuf => "application/x-protobuf",
        Wire::Json => "application/json",
    })
}

/// A body of one piece, and what follows it.
#[derive(Debug, Default)]
pub(super) struct Answer {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Answer {
    /// As gRPC has it: a message with its length, and the status after it.
    fn frame(&mut self) {
        let message = self.data.take().unwrap_or_default();
        let mut frame = vec![0];
        frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
        frame.extend_from_slice(&message);
        self.data = Some(frame.into());
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        self.trailers = Some(trailers);
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().filter(|data| !data.is_empty()).map(Frame::data);
        let next = match data {
            Some(data) => Some(data),
            None => self.trailers.take().map(Frame::trailers),
        };
        Poll::Ready(next.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.as_ref().is_none_or(Bytes::is_empty) && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, Bytes::len) as u64)
    }
}
