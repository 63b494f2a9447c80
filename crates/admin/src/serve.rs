//! Taking connections of one face and serving HTTP/1.1 on them, within bounds.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use terrace_runtime::clock;
use terrace_runtime::drain::Drain;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::audit::Audit;
use crate::config::Loopback;
use crate::control::ControlError;
use crate::dashboard::{self, Sessions};
use crate::gate::{self, Caller};
use crate::patience::{BODY_TIMEOUT, Patient, Timely, WRITE_TIMEOUT};

/// Connections that one face serves at a time; further ones wait in the listen queue.
const CONNECTIONS_MAX: usize = 128;
/// For a request's head, and between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long answers in flight may take once the face is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How one face decides who is let in.
#[derive(Debug, Clone)]
pub(crate) enum Gate {
    /// The Unix socket of a Terrace of this user.
    Socket { own_uid: u32 },
    /// The loopback address, for the API and the dashboard; tokens and hosts may change while it listens.
    Loopback { settings: Arc<RwLock<Loopback>>, bound: SocketAddr, sessions: Arc<Sessions>, pages: Router },
    /// The probes.
    Probes { bound: SocketAddr },
}

/// One face, listening.
#[derive(Debug)]
pub(crate) struct Face {
    pub(crate) listener: Listening,
    pub(crate) gate: Gate,
    pub(crate) router: Router,
    pub(crate) audit: Audit,
    /// Asked for when the face shall close.
    pub(crate) closing: Drain,
}

/// A listener not yet registered with a runtime.
#[derive(Debug)]
pub(crate) enum Listening {
    Unix(std::os::unix::net::UnixListener),
    Tcp(std::net::TcpListener),
}

impl Face {
    /// Serves until closing is asked for and the answers in flight are through, or too slow.
    pub(crate) async fn serve(self) {
        let audit = self.audit.clone();
        if let Err(error) = self.try_serve().await {
            audit.unserved(&error);
        }
    }

    async fn try_serve(self) -> io::Result<()> {
        let Self { listener, gate, router, audit, closing } = self;
        let visitor = Visitor { gate, router, audit, closing };
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        match listener {
            Listening::Unix(listener) => visitor.accept_unix(UnixListener::from_std(listener)?, &slots).await,
            Listening::Tcp(listener) => visitor.accept_tcp(TcpListener::from_std(listener)?, &slots).await,
        }
        // All slots are free when the last connection has gone.
        let all_gone = slots.acquire_many(CONNECTIONS_MAX as u32);
        let _too_slow = tokio::time::timeout(CLOSE_TIMEOUT, all_gone).await;
        Ok(())
    }
}

/// What each connection of a face needs.
#[derive(Debug, Clone)]
struct Visitor {
    gate: Gate,
    router: Router,
    audit: Audit,
    closing: Drain,
}

impl Visitor {
    async fn accept_unix(&self, listener: UnixListener, slots: &Arc<Semaphore>) {
        let mut closing = self.closing.clone();
        loop {
            let slot = slot(slots).await;
            let accepted = tokio::select! {
                () = closing.requested() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // A peer that went away before it could be asked who it was.
            let Ok(credentials) = stream.peer_cred() else { continue };
            let caller = Caller::Peer { uid: credentials.uid(), pid: credentials.pid() };
            tokio::spawn(self.clone().connection(stream, caller, slot));
        }
    }

    async fn accept_tcp(&self, listener: TcpListener, slots: &Arc<Semaphore>) {
        let mut closing = self.closing.clone();
        loop {
            let slot = slot(slots).await;
            let accepted = tokio::select! {
                () = closing.requested() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    // On the Unix socket whoever reads a log may stop at a page for as long as they like.
                    let stream = Patient::new(stream, WRITE_TIMEOUT);
                    tokio::spawn(self.clone().connection(stream, Caller::Tcp { from }, slot));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn connection(
        mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        caller: Caller,
        _slot: OwnedSemaphorePermit,
    ) {
        let mut closing = self.closing.clone();
        let visitor = &mut self;
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let visitor = visitor.clone();
            async move { Ok::<_, Infallible>(visitor.answer(request, caller).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        // How a connection ends is the peer's business: it is local and holds nothing.
        tokio::select! {
            _ended = connection.as_mut() => return,
            () = closing.requested() => connection.as_mut().graceful_shutdown(),
        }
        let _ended = tokio::time::timeout(CLOSE_TIMEOUT, connection).await;
    }

    async fn answer(&self, request: hyper::Request<Incoming>, caller: Caller) -> Response {
        let (mut parts, body) = request.into_parts();
        let mut response = match self.gate.admit(caller, &mut parts) {
            Ok(()) => self.route(parts, body).await,
            Err(problem) => {
                // Who is known by token or session and may not do this is no stranger.
                let caller = parts.extensions.get().copied().unwrap_or(caller);
                self.audit.refused(caller, &problem);
                problem.into_response()
            }
        };
        if matches!(self.gate, Gate::Loopback { .. }) {
            dashboard::guard_headers(response.headers_mut());
        }
        response
    }

    async fn route(&self, mut parts: Parts, body: Incoming) -> Response {
        parts.extensions.insert(self.closing.clone());
        let router = match &self.gate {
            Gate::Loopback { pages, .. } if !gate::is_api(&parts) => pages.clone(),
            _ => self.router.clone(),
        };
        let body = Body::new(Timely::new(body, BODY_TIMEOUT));
        let request = axum::http::Request::from_parts(parts, body);
        match hyper::service::Service::call(&TowerToHyperService::new(router), request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

impl Gate {
    /// Lets a request in or not; what is known of the caller is put into its extensions.
    fn admit(&self, caller: Caller, parts: &mut Parts) -> Result<(), ControlError> {
        match (self, caller) {
            (Self::Socket { own_uid }, Caller::Peer { uid, .. }) => {
                gate::admit_peer(uid, *own_uid)?;
                gate::admit_content(parts)?;
                parts.extensions.insert(caller);
                Ok(())
            }
            (Self::Loopback { settings, bound, sessions, .. }, Caller::Tcp { from }) => {
                let arrival = gate::arrival(*bound, parts)?;
                parts.extensions.insert(arrival);
                let settings = match settings.read() {
                    Ok(guard) => guard,
                    Err(poisoned) => poisoned.into_inner(),
                };
                match gate::is_api(parts) {
                    true => admit_to_api(&settings, sessions, from, parts),
                    false => admit_to_pages(sessions, from, parts),
                }
            }
            (Self::Probes { bound }, _) => gate::admit_probe(*bound, parts),
            _ => unreachable!("a Unix socket has peers with credentials, and only it"),
        }
    }
}

/// The API takes a token, or a session of the dashboard, whose changes must bring its CSRF token.
fn admit_to_api(
    settings: &Loopback,
    sessions: &Sessions,
    from: SocketAddr,
    parts: &mut Parts,
) -> Result<(), ControlError> {
    let (role, caller) = match gate::token_role(settings, parts)? {
        // The token is one factor of two; a program cannot show the other.
        Some(_) if settings.has_second_factor() => return Err(gate::one_of_two()),
        Some(role) => (role, Caller::Token { from, role }),
        None => {
            let session = sessions.read(&parts.headers, wall_seconds()).ok_or_else(gate::nobody)?;
            let reads = gate::is_reading(&parts.method);
            if !reads && !gate::csrf(parts)?.is_some_and(|given| sessions.is_csrf(&session, given)) {
                return Err(gate::forbidden("send the page's CSRF token as `X-CSRF-Token`"));
            }
            (session.role, Caller::Dashboard { from, role: session.role })
        }
    };
    parts.extensions.insert(caller);
    gate::admit_role(role, parts)?;
    gate::admit_content(parts)
}

/// Who sees which page, and what a form must bring, the dashboard decides; here it is only told whose session it is.
fn admit_to_pages(sessions: &Sessions, from: SocketAddr, parts: &mut Parts) -> Result<(), ControlError> {
    let caller = match sessions.read(&parts.headers, wall_seconds()) {
        Some(session) => {
            let caller = Caller::Dashboard { from, role: session.role };
            parts.extensions.insert(session);
            caller
        }
        None => Caller::Tcp { from },
    };
    parts.extensions.insert(caller);
    Ok(())
}

/// Seconds since 1970.
pub(crate) fn wall_seconds() -> u64 {
    match clock::wall().duration_since(std::time::SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs(),
        Err(_) => 0,
    }
}

async fn slot(slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(slots).acquire_owned().await.expect("the semaphore of a face is never closed")
}
