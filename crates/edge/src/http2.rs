//! A client's connection that speaks HTTP/2: many streams at once, each served like a request of its own.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use terrace_http::{BodyLength, RequestHead, Version, request_body};
use terrace_runtime::clock;
use terrace_runtime::timer::{Elapsed, Timer};
use terrace_wire::{Body, Io, http2};

use crate::chain::{self, Way};
use crate::config::Bounds;
use crate::exchange::{After, Exchange, Reply, Reused};
use crate::http1::Session;
use crate::problem::Problem;

/// Bytes of one stream that may wait for the service to take them.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// The same over all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of all streams' answers that may wait to be sent.
const SEND_BUFFER_BYTES_MAX: usize = 256 << 10;
/// The time in which resets are counted.
const RESET_WINDOW: Duration = Duration::from_secs(10);

/// Memory that one connection keeps for its next streams.
const SPARES_MAX: usize = 16;

/// How long a client that was told to leave may take to hear it, once its last stream has ended.
const LEAVING: Duration = Duration::from_secs(2);

/// What the streams of one connection share.
#[derive(Debug, Default)]
struct Streams {
    open: Cell<usize>,
    resets: Cell<u32>,
    resets_since: Cell<Duration>,
    /// The connection's own task, whose idle time begins with the last stream's end.
    when_idle: RefCell<Option<Waker>>,
    spares: RefCell<Vec<Spare>>,
}

/// What a stream uses and leaves to the next one.
#[derive(Debug, Default)]
struct Spare {
    head: RequestHead,
    reused: Reused,
}

/// Why a connection's accept loop goes on, or ends.
enum Event {
    Stream(Box<(http::Request<RecvStream>, SendResponse<Bytes>)>),
    Leaving,
    Ended,
}

/// Serves a connection of HTTP/2 until it ends.
pub(crate) async fn serve(session: Session, io: Io, bounds: Bounds) {
    let mut timer = Timer::new();
    let handshake = builder(&bounds).handshake::<_, Bytes>(io);
    let mut connection = match timer.run(clock::now() + bounds.head_time, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) | Err(Elapsed) => return,
    };
    let session = Rc::new(session);
    let streams = Rc::new(Streams { resets_since: Cell::new(clock::now()), ..Streams::default() });
    let mut is_leaving = false;
    loop {
        match next(&session, &mut connection, &mut timer, &streams, &bounds, is_leaving).await {
            Event::Stream(stream) => begin(&session, &streams, *stream, bounds),
            Event::Leaving => {
                is_leaving = true;
                connection.graceful_shutdown();
            }
            Event::Ended => break,
        }
        if streams.resets.get() > bounds.resets_max {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
    }
}

/// Bounds on what one client may ask of one connection. The crate itself bounds what is reset before it is accepted,
/// CONTINUATION frames, settings and pings.
fn builder(bounds: &Bounds) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(bounds.streams_max)
        .max_header_list_size(u32::try_from(bounds.head.head_bytes_max).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
        .max_pending_accept_reset_streams(bounds.resets_max as usize)
        .max_local_error_reset_streams(Some(bounds.resets_max as usize));
    builder
}

async fn next(
    session: &Session,
    connection: &mut Connection<Io, Bytes>,
    timer: &mut Timer,
    streams: &Streams,
    bounds: &Bounds,
    is_leaving: bool,
) -> Event {
    let mut idle_since = None;
    poll_fn(|cx| {
        match connection.poll_accept(cx) {
            Poll::Ready(Some(Ok(stream))) => return Poll::Ready(Event::Stream(Box::new(stream))),
            Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Event::Ended),
            Poll::Pending => {}
        }
        let (patience, then) =
            if is_leaving { (LEAVING, Event::Ended) } else { (bounds.idle, Event::Leaving) };
        if streams.open.get() > 0 {
            idle_since = None;
            streams.wake_when_idle(cx);
        } else {
            let since = *idle_since.get_or_insert_with(clock::now);
            if timer.poll_elapsed(cx, since + patience).is_ready() {
                return Poll::Ready(then);
            }
        }
        if is_leaving { Poll::Pending } else { session.guard.poll_leaving(cx).map(|()| Event::Leaving) }
    })
    .await
}

/// Starts the service of one stream.
fn begin(
    session: &Rc<Session>,
    streams: &Rc<Streams>,
    (request, mut respond): (http::Request<RecvStream>, SendResponse<Bytes>),
    bounds: Bounds,
) {
    // A stream that was reset makes room for another at once, while what was begun for it may take a moment to end.
    if streams.open.get() >= 2 * bounds.streams_max as usize {
        respond.send_reset(Reason::REFUSED_STREAM);
        streams.count_reset();
        return;
    }
    let open = Open::new(session, streams);
    tokio::task::spawn_local(async move {
        let mut spare = open.streams.spares.borrow_mut().pop().unwrap_or_default();
        let was_reset = serve_stream(&open.session, request, respond, &bounds, &mut spare).await;
        open.streams.ended(spare, was_reset);
    });
}

/// Counts a stream as open until this is dropped, however its task ends.
struct Open {
    session: Rc<Session>,
    streams: Rc<Streams>,
}

impl Open {
    fn new(session: &Rc<Session>, streams: &Rc<Streams>) -> Self {
        streams.open.set(streams.open.get() + 1);
        Self { session: Rc::clone(session), streams: Rc::clone(streams) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.streams.close();
        self.session.core.note_panic();
    }
}

impl Streams {
    fn wake_when_idle(&self, cx: &mut Context<'_>) {
        let mut waker = self.when_idle.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    fn ended(&self, mut spare: Spare, was_reset: bool) {
        // What was large is let go now, not when the next stream comes.
        spare.head.clear();
        spare.reused.response.fields.clear();
        let mut spares = self.spares.borrow_mut();
        if spares.len() < SPARES_MAX {
            spares.push(spare);
        }
        if was_reset {
            self.count_reset();
        }
    }

    fn close(&self) {
        self.open.set(self.open.get() - 1);
        if self.open.get() == 0
            && let Some(waker) = self.when_idle.take()
        {
            waker.wake();
        }
    }

    /// Counts a stream that the client broke off after we had begun to serve it: cheap for it, dear for us
    /// (CVE-2023-44487).
    fn count_reset(&self) {
        let now = clock::now();
        if now.saturating_sub(self.resets_since.get()) > RESET_WINDOW {
            self.resets.set(0);
            self.resets_since.set(now);
        }
        self.resets.set(self.resets.get() + 1);
    }
}

/// Serves one stream; says whether the client broke it off.
async fn serve_stream(
    session: &Session,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    bounds: &Bounds,
    Spare { head, reused }: &mut Spare,
) -> bool {
    let (read, body) = read_stream(request, bounds, head);
    let length = *read.as_ref().unwrap_or(&BodyLength::Empty);
    let mut exchange = Exchange { head, length, body, reply: Reply::Http2(respond), reused };
    let sight = session.core.sight(&session.listener);
    let Some((snapshot, listener)) = sight.look() else { return false };
    let connected = &session.connected;
    let way = Way { core: &session.core, snapshot, listener, connected, is_leaving: false };
    match read {
        Ok(_) => chain::serve(way, &mut exchange).await == After::Gone,
        Err(problem) => {
            Box::pin(chain::refuse(way, &mut exchange, &problem)).await;
            false
        }
    }
}

/// The head as ours, and how long the body after it is.
fn read_stream(
    request: http::Request<RecvStream>,
    bounds: &Bounds,
    head: &mut RequestHead,
) -> (Result<BodyLength, Problem>, Body<'static>) {
    let (parts, stream) = request.into_parts();
    let incoming = http2::Incoming::new(stream);
    let refused = |status, error: String| Problem::client(status, "http_request_error", error);
    let read = http2::read_request(&parts, &bounds.head, head)
        .map_err(|error| refused(error.status(), error.to_string()));
    if incoming.is_done() {
        return (read.map(|()| BodyLength::Empty), Body::Empty);
    }
    let length = read.and_then(|()| match request_body(Version::Http2, &head.fields) {
        Ok(BodyLength::Empty) => Ok(BodyLength::Framed),
        length => length.map_err(|error| refused(400, error.to_string())),
    });
    (length, Body::Http2(incoming))
}
