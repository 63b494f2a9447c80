//! Connections of one listener, within bounds.

use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use terrace_runtime::drain::Drain;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::intake::Intake;
use super::serve::Service;

/// Connections at a time, some of each instance; further ones wait in the listen queue.
const CONNECTIONS_MAX: usize = 512;
/// Requests of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 16;
/// Bytes of requests of one HTTP/2 connection that nobody has asked for yet.
const WINDOW_BYTES: u32 = 128 << 10;
/// For a request's head, and between requests of HTTP/1.1.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const HEAD_BYTES_MAX: usize = 32 << 10;
/// How long answers in flight may take once the listener is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What each connection needs.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    service: Service,
    slots: Arc<Semaphore>,
}

impl Listener {
    pub(super) fn new(intake: Arc<Intake>) -> Self {
        Self { service: Service::new(intake), slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }

    /// Until closing is asked for.
    pub(super) async fn serve(self, socket: TcpListener, mut closing: Drain) {
        loop {
            let slots = Arc::clone(&self.slots);
            let slot = slots.acquire_owned().await.expect("invariant: the slots are never closed");
            let accepted = tokio::select! {
                () = closing.requested() => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) if peer.ip().to_canonical().is_loopback() => {
                    tokio::spawn(self.service.clone().connection(stream, closing.clone(), slot));
                }
                Ok(_) => self.service.refuse_stranger(),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

impl Service {
    async fn connection(self, stream: TcpStream, mut closing: Drain, _slot: OwnedSemaphorePermit) {
        // A connection on which nothing is said gives its slot back.
        let spoken = tokio::time::timeout(HEAD_TIMEOUT, stream.readable());
        if !matches!(spoken.await, Ok(Ok(()))) {
            return;
        }
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .initial_connection_window_size(WINDOW_BYTES)
            .initial_stream_window_size(WINDOW_BYTES / 4)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .keep_alive_interval(HEAD_TIMEOUT);
        let service = service_fn(move |request| {
            let service = self.clone();
            async move { service.answer(request).await }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        // How a connection ends is the sender's business; it sends again what was not answered.
        tokio::select! {
            _ended = connection.as_mut() => return,
            () = closing.requested() => connection.as_mut().graceful_shutdown(),
        }
        let _ended = tokio::time::timeout(CLOSE_TIMEOUT, connection).await;
    }
}
