//! A client's connection that speaks HTTP/1: request after request, until one of the two has enough.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use terrace_http::{BodyLength, ParseError, RequestHead, Version, request_body};
use terrace_runtime::clock;
use terrace_runtime::timer::Elapsed;
use terrace_wire::http1::{Connection, Preface};
use terrace_wire::{Body, Io, WireError};

use crate::chain::{self, Way};
use crate::client::Connected;
use crate::config::Bounds;
use crate::core::{ClientGuard, Core};
use crate::exchange::{After, Exchange, Reply, Timers};
use crate::http2;
use crate::problem::Problem;

/// What is read over after a last answer, so that the client sees it rather than a reset.
const LINGER_BYTES_MAX: usize = 256 << 10;
const LINGER: std::time::Duration = std::time::Duration::from_secs(2);
/// What of a body is read over to keep the connection.
const LEFT_OVER_BYTES_MAX: usize = 128 << 10;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) core: Rc<Core>,
    pub(crate) guard: ClientGuard,
    pub(crate) listener: String,
    pub(crate) connected: Connected,
}

/// What a connection waits for between requests.
enum Next {
    Request,
    End,
}

/// Serves a connection that may speak HTTP/1 or, where the listener has it, HTTP/2 by prior knowledge.
pub(crate) async fn serve(session: Session, io: Io, bounds: Bounds, http2: bool) {
    let mut connection = Connection::new(io);
    let mut timers = Timers::default();
    if http2 && !session.connected.is_tls {
        let until = clock::now() + bounds.idle.min(bounds.head_time);
        match timers.down.run(until, connection.preface()).await {
            Ok(Ok(Preface::Http2)) => return http2::serve(session, connection.into_io(), bounds).await,
            Ok(Ok(Preface::Http1)) => {}
            Ok(Ok(Preface::Closed) | Err(_)) | Err(Elapsed) => return,
        }
    }
    while let Next::Request = next(&session, &mut connection, &mut timers, &bounds).await {
        // On the heap, so that a connection that idles is small.
        let served = Box::pin(serve_one(&session, &mut connection, &mut timers, &bounds)).await;
        if served == After::Close {
            break;
        }
    }
    let _elapsed = timers.down.run(clock::now() + LINGER, connection.linger(LINGER_BYTES_MAX)).await;
}

/// Waits for the next request, for as long as a connection may idle.
async fn next(session: &Session, connection: &mut Connection, timers: &mut Timers, bounds: &Bounds) -> Next {
    let until = clock::now() + bounds.idle;
    let mut readable = pin!(connection.readable());
    let waited = timers.down.run(
        until,
        poll_fn(|cx| {
            if let Poll::Ready(result) = readable.as_mut().poll(cx) {
                return Poll::Ready(matches!(result, Ok(true)));
            }
            session.guard.poll_leaving(cx).map(|()| false)
        }),
    );
    match waited.await {
        Ok(true) => Next::Request,
        Ok(false) | Err(Elapsed) => Next::End,
    }
}

async fn serve_one(
    session: &Session,
    connection: &mut Connection,
    timers: &mut Timers,
    bounds: &Bounds,
) -> After {
    let mut head = RequestHead::new();
    let until = clock::now() + bounds.head_time;
    let read = match timers.down.run(until, connection.read_request(&bounds.head, &mut head)).await {
        Ok(Ok(true)) => request_body(head.version, &head.fields).map_err(WireError::from),
        Ok(Ok(false)) => return After::Close,
        Ok(Err(error)) => Err(error),
        Err(Elapsed) => {
            let detail = "the request's head did not arrive within the listener's header-time";
            return refuse(session, connection, timers, Problem::client(408, "http_request_error", detail))
                .await;
        }
    };
    match read {
        Ok(length) => serve_request(session, connection, timers, bounds, &mut head, length).await,
        Err(WireError::Head(error)) => refuse(session, connection, timers, malformed(&error)).await,
        Err(_) => After::Close,
    }
}

fn malformed(error: &ParseError) -> Problem {
    Problem::client(error.status(), "http_request_error", error.to_string())
}

async fn serve_request(
    session: &Session,
    connection: &mut Connection,
    timers: &mut Timers,
    bounds: &Bounds,
    head: &mut RequestHead,
    length: BodyLength,
) -> After {
    connection.begin_body(length, bounds.head.head_bytes_max);
    let after = {
        let snapshot = session.core.snapshot();
        let Some(listener) = snapshot.listeners.get(&session.listener) else { return After::Close };
        let client = head.version;
        let (incoming, outgoing) = connection.split();
        let body = if length == BodyLength::Empty { Body::Empty } else { Body::Http1(incoming) };
        let mut exchange =
            Exchange { head, length, body, reply: Reply::Http1 { outgoing, client }, timers: &mut *timers };
        let is_leaving = session.guard.is_leaving();
        let way = Way {
            core: &session.core,
            snapshot: &snapshot,
            listener,
            connected: &session.connected,
            is_leaving,
        };
        chain::serve(way, &mut exchange).await
    };
    if after == After::Keep && connection.is_body_written() && read_over(connection, timers, bounds).await {
        After::Keep
    } else {
        After::Close
    }
}

/// Reads what is left of a body that nobody wanted.
async fn read_over(connection: &mut Connection, timers: &mut Timers, bounds: &Bounds) -> bool {
    if connection.is_body_read() {
        return true;
    }
    let (incoming, _) = connection.split();
    let mut body = Body::Http1(incoming);
    let mut left = LEFT_OVER_BYTES_MAX;
    let until = clock::now() + bounds.head_time;
    loop {
        match timers.up.run(until, poll_fn(|cx| body.poll_frame(cx))).await {
            Ok(Ok(None)) => return true,
            Ok(Ok(Some(terrace_wire::Frame::Data(bytes)))) if bytes.len() <= left => left -= bytes.len(),
            Ok(Ok(Some(terrace_wire::Frame::Trailers(_)))) => {}
            _ => return false,
        }
    }
}

/// Answers what is no request, without a route, and ends the connection.
async fn refuse(
    session: &Session,
    connection: &mut Connection,
    timers: &mut Timers,
    problem: Problem,
) -> After {
    let mut head = RequestHead::new();
    let snapshot = session.core.snapshot();
    let mut exchange = Exchange {
        head: &mut head,
        length: BodyLength::Empty,
        body: Body::Empty,
        reply: Reply::Http1 { outgoing: connection.outgoing(), client: Version::Http11 },
        timers,
    };
    if let Some(listener) = snapshot.listeners.get(&session.listener) {
        let connected = &session.connected;
        let way = Way { core: &session.core, snapshot: &snapshot, listener, connected, is_leaving: true };
        chain::refuse(way, &mut exchange, &problem).await;
    }
    After::Close
}
