//! The routes of the control API: reading a request, calling [`Control`], noting the change, answering.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Path, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use terrace_runtime::clock;
use terrace_telemetry::Handle as Telemetry;

use crate::audit::{Audit, Change};
use crate::config::Role;
use crate::control::{Control, ControlError};
use crate::dashboard::{CODE_LASTS, Sessions, Shown};
use crate::faults;
use crate::gate::Caller;
use crate::keys;
use crate::logs::{Logs, logs};
use crate::observe;

/// Bodies are small objects; a larger one is refused.
const BODY_BYTES_MAX: usize = 64 << 10;
/// A roll-out is waited for a day at most.
const WAIT_MAX: Duration = Duration::from_secs(86_400);
/// More is a slip of the finger.
pub(crate) const INSTANCES_MAX: u32 = 10_000;

#[derive(Clone)]
struct Api {
    control: Arc<dyn Control>,
    audit: Audit,
    sessions: Arc<Sessions>,
}

/// The API, to be served with a [`Caller`] in each request's extensions.
pub(crate) fn router(
    control: Arc<dyn Control>,
    audit: Audit,
    sessions: Arc<Sessions>,
    telemetry: Telemetry,
) -> Router {
    let seen = observe::router(Arc::clone(&control), telemetry.clone(), audit.clone());
    let broken = faults::router(Arc::clone(&control), audit.clone());
    let keys = keys::router(Arc::clone(&control), audit.clone());
    let said = Logs::new(Arc::clone(&control), telemetry);
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/config", get(config))
        .route("/v1/logs", get(logs).with_state(said))
        .route("/v1/reload", post(reload))
        .route("/v1/stop", post(stop))
        .route("/v1/login-code", post(login_code))
        .route("/v1/totp", post(totp))
        .route("/v1/services/{name}/scale", post(scale))
        .route("/v1/services/{name}/restart", post(restart))
        .merge(seen)
        .merge(broken)
        .merge(keys)
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Api { control, audit, sessions })
}

async fn status(State(api): State<Api>) -> Result<Response, ControlError> {
    Ok(json(&api.control.status().await?))
}

async fn config(State(api): State<Api>) -> Result<Response, ControlError> {
    Ok(json(&api.control.config().await?))
}

async fn reload(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, ControlError> {
    let wait = wanted_wait(&body)?;
    let change = Change::new(caller, "reload");
    api.carry_out(change, |control| Box::pin(async move { control.reload(wait).await })).await
}

/// For how long the roll-out is waited for; nothing where the body is empty.
fn wanted_wait(body: &[u8]) -> Result<Option<Duration>, ControlError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Reload {
        #[serde(default)]
        wait_seconds: Option<f64>,
    }
    if body.is_empty() {
        return Ok(None);
    }
    let Reload { wait_seconds } = serde_json::from_slice(body).map_err(|error| {
        bad_request(format!("the body must be empty or {{\"wait_seconds\": 300}}: {error}"))
    })?;
    let Some(seconds) = wait_seconds else { return Ok(None) };
    let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| *time <= WAIT_MAX);
    match time {
        Some(time) => Ok(Some(time)),
        None => Err(bad_request(format!("`wait_seconds` must be from 0 to {}", WAIT_MAX.as_secs()))),
    }
}

async fn stop(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ControlError> {
    let change = Change::new(caller, "stop");
    api.carry_out(change, |control| Box::pin(async move { control.stop().await })).await
}

async fn scale(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, ControlError> {
    let service = service_name(name)?;
    let instances = wanted_instances(&body)?;
    let change = Change::new(caller, "scale").service(service.as_str()).instances(instances);
    api.carry_out(change, |control| Box::pin(async move { control.scale(service, instances).await })).await
}

async fn restart(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response, ControlError> {
    let service = service_name(name)?;
    let change = Change::new(caller, "restart").service(service.as_str());
    api.carry_out(change, |control| Box::pin(async move { control.restart(service).await })).await
}

/// A way into the dashboard that is good once, for whoever can speak to the socket: they may do everything anyway.
async fn login_code(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, ControlError> {
    let Caller::Peer { uid, .. } = caller else {
        return Err(ControlError::not_found("codes are handed out on the Unix socket only"));
    };
    let (role, is_for_them_alone) = wanted_code(&body)?;
    let Some(url) = api.sessions.issue_code(role, is_for_them_alone.then_some(uid), clock::now()) else {
        return Err(ControlError::conflict(
            "the dashboard is off; give [admin] an address, such as \"127.0.0.1:9900\"",
        ));
    };
    api.audit.note(&Change::new(caller, "login-code").target(role.as_str()), Ok(())).await;
    Ok(json(&json!({ "url": url, "expires_in_seconds": CODE_LASTS.as_secs() })))
}

/// The secret of the second factor, for whoever can speak to the socket: they own the folder that it lies in.
async fn totp(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, ControlError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        new: bool,
    }
    let Caller::Peer { .. } = caller else {
        return Err(ControlError::not_found("the second factor is set up on the Unix socket only"));
    };
    let Wanted { new } = serde_json::from_slice(&body)
        .map_err(|error| bad_request(format!("the body must be {{\"new\": false}}: {error}")))?;
    let sessions = Arc::clone(&api.sessions);
    let shown = tokio::task::spawn_blocking(move || sessions.show_factor(new)).await;
    let change = Change::new(caller, "totp").target(if new { "new" } else { "show" });
    let shown = factor_shown(shown.unwrap_or_else(|_| Err(std::io::Error::other("Terrace is ending"))));
    api.audit.note(&change, shown.as_ref().map(drop)).await;
    let Shown { secret, uri } = shown?;
    Ok(json(&json!({ "secret": secret, "uri": uri, "is_on": api.sessions.wants_code() })))
}

/// What was shown, or why it was not.
pub(crate) fn factor_shown(shown: std::io::Result<Option<Shown>>) -> Result<Shown, ControlError> {
    match shown {
        Ok(Some(shown)) => Ok(shown),
        Ok(None) => Err(ControlError::conflict(
            "the secret was shown already and is in a phone by now; `terrace totp --new` makes a new one and ends all sessions",
        )),
        Err(error) => Err(ControlError::failed(format!("the secret cannot be kept: {error}"))),
    }
}

/// The role, and whether the code is for the user who asks alone.
fn wanted_code(body: &[u8]) -> Result<(Role, bool), ControlError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        role: String,
        #[serde(default)]
        own_user_only: bool,
    }
    let wanted: Wanted = serde_json::from_slice(body)
        .map_err(|error| bad_request(format!("the body must be {{\"role\": \"operator\"}}: {error}")))?;
    match wanted.role.as_str() {
        "operator" => Ok((Role::Operator, wanted.own_user_only)),
        "viewer" => Ok((Role::Viewer, wanted.own_user_only)),
        _ => Err(bad_request("the role must be \"operator\" or \"viewer\"")),
    }
}

/// What a change comes to.
pub(crate) type Outcome = Pin<Box<dyn Future<Output = Result<Value, ControlError>> + Send>>;

impl Api {
    async fn carry_out(
        self,
        change: Change,
        act: impl FnOnce(Arc<dyn Control>) -> Outcome,
    ) -> Result<Response, ControlError> {
        Ok(json(&carry_out(self.audit, change, act(self.control)).await?))
    }
}

/// Carries a change out to its end and notes it, even when the caller hangs up meanwhile.
pub(crate) async fn carry_out(audit: Audit, change: Change, outcome: Outcome) -> Result<Value, ControlError> {
    let audited = tokio::spawn(async move {
        let outcome = outcome.await;
        audit.note(&change, outcome.as_ref().map(|_| ())).await;
        outcome
    });
    match audited.await {
        Ok(outcome) => outcome,
        Err(_) => Err(ControlError::failed("the command came to no end; see the log")),
    }
}

fn wanted_instances(body: &[u8]) -> Result<u32, ControlError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Scale {
        instances: u32,
    }
    let Scale { instances } = serde_json::from_slice(body)
        .map_err(|error| bad_request(format!("the body must be {{\"instances\": N}}: {error}")))?;
    if instances > INSTANCES_MAX {
        return Err(ControlError::invalid(format!(
            "{instances} instances are more than the {INSTANCES_MAX} allowed"
        )));
    }
    Ok(instances)
}

/// Names that cannot be a service's are told apart here, so that nothing odd goes further or into the audit log.
pub(crate) fn service_name(name: String) -> Result<String, ControlError> {
    let fits = name.len() <= 40
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits {
        Ok(name)
    } else {
        Err(ControlError::not_found("a service's name is of a-z, 0-9 and -, at most 40"))
    }
}

async fn nothing_here(uri: Uri) -> ControlError {
    ControlError::not_found(format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> ControlError {
    ControlError::new(405, "Method not allowed", format!("{} does not take {method}", uri.path()), false)
}

pub(crate) fn bad_request(detail: impl Into<String>) -> ControlError {
    ControlError::new(400, "Bad request", detail, false)
}

pub(crate) fn json(value: &Value) -> Response {
    let mut response = (StatusCode::OK, value.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // What is answered is true now; a browser's cache must not show it later.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
