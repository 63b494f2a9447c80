//! What every service does around its own answers: listen, name itself, log, misbehave when told to, and stop politely.

use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::clock;
use crate::database::{Database, OpenError};
use crate::log;
use crate::metrics;
use crate::problem::Problem;
use crate::random;
use crate::settings::Settings;
use crate::spans::{Kind, Open, Place};
use crate::switch::{self, Switch};

/// How long requests in flight may go on after a stop was asked for.
const GRACE: Duration = Duration::from_secs(30);
/// How long WebSockets may take to say goodbye after that.
const GOODBYE: Duration = Duration::from_secs(5);
/// A database that takes longer to say hello is not healthy.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_INSTANCE: HeaderName = HeaderName::from_static("x-instance");
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Why a service could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
    #[error("cannot listen on 127.0.0.1:{port}: {source}; set PORT to a free one")]
    Listen { port: u16, source: std::io::Error },
    #[error("the {name} service is needed and its address is not known; set {}_URL", name.to_uppercase())]
    NoNeighbour { name: &'static str },
    #[error(transparent)]
    Database(#[from] OpenError),
    #[error("cannot read or make the signing key {file}: {why}")]
    Key { file: String, why: String },
    #[error("the server broke: {0}")]
    Serve(std::io::Error),
}

tokio::task_local! {
    /// The request being answered, for calls to neighbours made on its behalf.
    pub(crate) static REQUEST: RequestContext;
}

/// What is carried on from a request to the calls it causes.
#[derive(Clone)]
pub(crate) struct RequestContext {
    id: HeaderValue,
    traceparent: Option<HeaderValue>,
    /// Under which span things happen, when the request is sampled.
    place: Option<Place>,
    instance: HeaderValue,
}

impl RequestContext {
    fn of(request: &Request, instance: &HeaderValue) -> Self {
        let id = match request.headers().get(X_REQUEST_ID) {
            Some(id) if id.len() <= 128 => id.clone(),
            _ => HeaderValue::from_str(&random::id()).expect("hexadecimal digits make a header value"),
        };
        let traceparent = request.headers().get(TRACEPARENT).cloned();
        Self { id, traceparent, place: None, instance: instance.clone() }
    }

    /// Begins the span of the answer, under which all else happens.
    fn open(&mut self, request: &Request) -> Option<Open> {
        let open = Place::of(self.traceparent.as_ref()?)?
            .open(format!("{} {}", request.method(), request.uri().path()), Kind::Server);
        self.place = Some(open.place().clone());
        Some(open)
    }

    /// Under which span things happen, when the request is sampled.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Adds itself to the headers of a call.
    pub(crate) fn carry_on(&self, headers: &mut HeaderMap) {
        headers.insert(X_REQUEST_ID, self.id.clone());
        if let Some(traceparent) = &self.traceparent {
            headers.insert(TRACEPARENT, traceparent.clone());
        }
    }

    /// The trace it belongs to, for the log.
    fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_ref().and_then(|value| value.to_str().ok())
    }

    /// The request's id, to be told to people who want to complain.
    pub(crate) fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// The instance that answers it.
    pub(crate) fn instance(&self) -> &str {
        self.instance.to_str().unwrap_or_default()
    }
}

/// Tells everything in the process when to stop, and waits for streams that end on their own.
#[derive(Clone)]
pub(crate) struct Stop {
    requested: watch::Receiver<bool>,
    streams: Arc<watch::Sender<usize>>,
}

/// Held by a stream that outlives its request (a WebSocket).
pub(crate) struct StreamGuard(Arc<watch::Sender<usize>>);

impl Stop {
    /// Stops on SIGTERM and SIGINT.
    pub(crate) fn on_signals() -> Result<Self, StartError> {
        let mut term = signal(SignalKind::terminate()).map_err(StartError::Runtime)?;
        let mut int = signal(SignalKind::interrupt()).map_err(StartError::Runtime)?;
        let (sender, requested) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! { _ = term.recv() => (), _ = int.recv() => () }
            let _ = sender.send(true);
            // Kept open: a dropped sender must not be mistaken for anything.
            sender.closed().await;
        });
        Ok(Self { requested, streams: Arc::new(watch::Sender::new(0)) })
    }

    /// Resolves when a stop was asked for.
    pub(crate) fn requested(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut requested = self.requested.clone();
        async move {
            let _ = requested.wait_for(|asked| *asked).await;
        }
    }

    /// Counts a stream in until the guard is dropped.
    pub(crate) fn guard(&self) -> StreamGuard {
        self.streams.send_modify(|open| *open += 1);
        StreamGuard(Arc::clone(&self.streams))
    }

    async fn streams_ended(&self) {
        let mut open = self.streams.subscribe();
        let _ = open.wait_for(|open| *open == 0).await;
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// What the layer around all answers needs.
struct Around {
    service: &'static str,
    instance: HeaderValue,
    switch: Switch,
    refuse: fn(Problem) -> Response,
}

/// Serves `routes` until a stop is asked for and the requests in flight are done.
///
/// `refuse` dresses up a problem as the service's callers expect it: a page for people, JSON for services.
pub(crate) async fn serve(
    settings: &Settings,
    stop: &Stop,
    database: Database,
    routes: Router,
    refuse: fn(Problem) -> Response,
) -> Result<(), StartError> {
    let port = settings.port;
    let listen_error = |source| StartError::Listen { port, source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(listen_error)?;
    let port = listener.local_addr().map_err(listen_error)?.port();
    let instance = settings.instance();
    let service = settings.role.name();
    log::info("listening", json!({ "service": service, "instance": instance, "port": port }));

    let app = surround(settings, database, routes, refuse);
    let listener = listener.tap_io(|socket| {
        let _ = socket.set_nodelay(true); // answers are small and wanted at once
    });
    let server = axum::serve(listener, app).with_graceful_shutdown(stop_requested(stop, service));
    tokio::select! {
        outcome = server => outcome.map_err(StartError::Serve)?,
        () = grace_over(stop) => log::warn("stop.gave_up", json!({ "grace_s": GRACE.as_secs() })),
    }
    let _ = tokio::time::timeout(GOODBYE, stop.streams_ended()).await;
    log::info("stopped", json!({ "service": service, "instance": instance }));
    Ok(())
}

fn stop_requested(stop: &Stop, service: &'static str) -> impl Future<Output = ()> + Send + use<> {
    let requested = stop.requested();
    async move {
        requested.await;
        log::info("stopping", json!({ "service": service }));
    }
}

async fn grace_over(stop: &Stop) {
    stop.requested().await;
    tokio::time::sleep(GRACE).await;
}

fn surround(
    settings: &Settings,
    database: Database,
    routes: Router,
    refuse: fn(Problem) -> Response,
) -> Router {
    let switch = Switch::new(settings.delay, settings.fail);
    let service = settings.role.name();
    let around = Arc::new(Around {
        service,
        instance: HeaderValue::from_str(&settings.instance())
            .unwrap_or_else(|_| HeaderValue::from_static("unnamed")),
        switch: switch.clone(),
        refuse,
    });
    routes
        .fallback(async move || refuse(Problem::not_found("page")))
        .method_not_allowed_fallback(async move || refuse(Problem::wrong_method()))
        .route("/metrics", get(async move || metrics::show(service).await))
        .route("/health", get(health).with_state((switch.clone(), database)))
        .merge(switch::routes(switch))
        .layer(middleware::from_fn_with_state(around, around_answer))
}

async fn health(State((switch, database)): State<(Switch, Database)>) -> Response {
    if switch.is_unhealthy() {
        return Problem::unavailable("This instance was told to be unhealthy.").into_response();
    }
    match tokio::time::timeout(CHECK_TIMEOUT, database.check()).await {
        Ok(Ok(())) => Json(json!({ "status": "ok" })).into_response(),
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => Problem::unavailable("The database does not answer.").into_response(),
    }
}

async fn around_answer(State(around): State<Arc<Around>>, request: Request, next: Next) -> Response {
    let mut context = RequestContext::of(&request, &around.instance);
    let open = context.open(&request);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let began = clock::now();
    let mut response = REQUEST.scope(context.clone(), answer(&around, &path, request, next)).await;
    response.headers_mut().insert(X_INSTANCE, around.instance.clone());
    response.headers_mut().insert(X_REQUEST_ID, context.id.clone());
    let took_ms = clock::millis(began.elapsed());
    if let Some(open) = open {
        let status = response.status();
        open.close(status.is_server_error(), &[("http.response.status_code", json!(status.as_u16()))]);
    }
    log_request(&around, &context, &method, &path, response.status(), took_ms);
    response
}

async fn answer(around: &Around, path: &str, request: Request, next: Next) -> Response {
    if matches!(path, "/health" | "/switch" | "/metrics") {
        return next.run(request).await;
    }
    if let Some(problem) = around.switch.interfere().await {
        return (around.refuse)(problem);
    }
    let response = next.run(request).await;
    around.switch.keep_silent().await;
    response
}

fn log_request(
    around: &Around,
    context: &RequestContext,
    method: &Method,
    path: &str,
    status: StatusCode,
    took_ms: i64,
) {
    if matches!(path, "/health" | "/metrics") && status.is_success() {
        return; // several a second, and nothing to learn from them
    }
    let fields = json!({
        "service": around.service, "request": context.id(), "method": method.as_str(),
        "path": path, "status": status.as_u16(), "took_ms": took_ms, "traceparent": context.traceparent(),
    });
    if status.is_server_error() { log::warn("request", fields) } else { log::info("request", fields) }
}
