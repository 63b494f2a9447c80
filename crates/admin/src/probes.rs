//! What anyone may ask: whether Terrace lives, whether it is ready, and its numbers.
//!
//! `/livez` fails only when nothing answers any more, so that an orchestrator restarts only what is truly stuck;
//! `/readyz` says when to send traffic, and why not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use terrace_telemetry::Rendered;

use crate::control::{Control, ControlError};

#[derive(Clone)]
struct Probes {
    control: Arc<dyn Control>,
    telemetry: terrace_telemetry::Handle,
    draining: Arc<AtomicBool>,
}

/// The probes. `draining` makes `/readyz` fail before anything else does.
pub(crate) fn router(
    control: Arc<dyn Control>,
    telemetry: terrace_telemetry::Handle,
    draining: Arc<AtomicBool>,
) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/metrics/services", get(service_metrics))
        .fallback(|| async {
            ControlError::not_found("there is /livez, /readyz, /metrics and /metrics/services")
        })
        .with_state(Probes { control, telemetry, draining })
}

async fn ready(State(probes): State<Probes>) -> Response {
    let mut reasons = probes.control.not_ready();
    if probes.draining.load(Relaxed) {
        reasons.insert(0, "Terrace is stopping: requests in flight are being finished".to_owned());
    }
    if reasons.is_empty() {
        return "ok\n".into_response();
    }
    let text: String = reasons.iter().map(|reason| format!("{reason}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics(State(probes): State<Probes>, headers: HeaderMap) -> Response {
    rendered(headers, move |accept| probes.telemetry.metrics(accept)).await
}

async fn service_metrics(State(probes): State<Probes>, headers: HeaderMap) -> Response {
    rendered(headers, move |accept| probes.telemetry.service_metrics(accept)).await
}

/// Ten thousand series are megabytes of text, which is made beside the control plane's thread.
async fn rendered(
    headers: HeaderMap,
    render: impl FnOnce(Option<&str>) -> Rendered + Send + 'static,
) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).map(str::to_owned);
    match tokio::task::spawn_blocking(move || render(accept.as_deref())).await {
        Ok(Rendered { content_type, body }) => ([(header::CONTENT_TYPE, content_type)], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
