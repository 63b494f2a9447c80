//! The routes for what goes wrong on purpose: to begin a fault for a while, to end it, to see what is under way.
//!
//! ```text
//! GET  /v1/faults                { faults: [{ id, route, delay_seconds, abort, share, headers, until }] }
//! POST /v1/faults                { "route": "orders", "delay_seconds": 0.5, "abort": 503, "share": 0.1,
//!                                  "headers": { "X-Test": "1" }, "seconds": 300 }: the fault
//! POST /v1/faults/{id}/end       {}: { ended: [fault] }; a route's name in the place of the id ends all that operators began on it
//! ```
//!
//! A fault of the file has no id: the file ends it. `until` is a moment as the map has them: seconds since 1970.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::api::{bad_request, carry_out, json};
use crate::audit::{Audit, Change};
use crate::control::{Control, ControlError, FaultWanted};
use crate::gate::Caller;

/// Longer names are no route's.
const NAME_BYTES_MAX: usize = 200;
/// Headers that one fault may ask for.
const HEADERS_MAX: usize = 16;

#[derive(Clone)]
struct Faults {
    control: Arc<dyn Control>,
    audit: Audit,
}

/// The routes, to be merged into the API's.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(control: Arc<dyn Control>, audit: Audit) -> Router<S> {
    Router::new()
        .route("/v1/faults", get(list).post(begin))
        .route("/v1/faults/{which}/end", post(end))
        .with_state(Faults { control, audit })
}

async fn list(State(faults): State<Faults>) -> Result<Response, ControlError> {
    let listed = faults.control.faults().await?;
    Ok(json(&json!({ "faults": listed })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    route: String,
    delay_seconds: Option<f64>,
    abort: Option<u16>,
    share: Option<f64>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    seconds: f64,
}

async fn begin(
    State(faults): State<Faults>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, ControlError> {
    let like =
        "{\"route\": \"NAME\", \"delay_seconds\": 0.5, \"abort\": 503, \"share\": 0.1, \"seconds\": 300}";
    let wanted: Wanted = serde_json::from_slice(&body)
        .map_err(|error| bad_request(format!("the body must be like {like}: {error}")))?;
    let wanted = checked(wanted)?;
    let change = Change::new(caller, "fault").target(wanted.to_string());
    let control = faults.control;
    let outcome = async move { Ok(json!(control.begin_fault(wanted).await?)) };
    Ok(json(&carry_out(faults.audit, change, Box::pin(outcome)).await?))
}

fn checked(wanted: Wanted) -> Result<FaultWanted, ControlError> {
    let time = |seconds: f64| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| ControlError::invalid(format!("{seconds} seconds are no span of time")))
    };
    let share = wanted.share.unwrap_or(1.0);
    if !(share > 0.0 && share <= 1.0) {
        return Err(ControlError::invalid(format!("a share is above 0 and at most 1, not {share}")));
    }
    if wanted.headers.len() > HEADERS_MAX {
        return Err(ControlError::invalid(format!("more than {HEADERS_MAX} headers")));
    }
    let texts = wanted.headers.iter().flat_map(|(name, value)| [name, value]);
    for text in texts.chain([&wanted.route]) {
        short(text)?;
    }
    Ok(FaultWanted {
        delay: wanted.delay_seconds.map(time).transpose()?,
        lasts: time(wanted.seconds)?,
        route: wanted.route,
        abort: wanted.abort,
        share,
        headers: wanted.headers.into_iter().collect(),
    })
}

async fn end(
    State(faults): State<Faults>,
    Extension(caller): Extension<Caller>,
    Path(which): Path<String>,
) -> Result<Response, ControlError> {
    short(&which)?;
    let change = Change::new(caller, "end-fault").target(which.as_str());
    let control = faults.control;
    let outcome = async move { Ok(json!({ "ended": control.end_faults(which).await? })) };
    Ok(json(&carry_out(faults.audit, change, Box::pin(outcome)).await?))
}

/// What goes into the audit log, which a caller must not be able to fill.
fn short(text: &str) -> Result<(), ControlError> {
    match text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(bad_request(format!(
            "a name is of at most {NAME_BYTES_MAX} bytes, without control characters"
        ))),
    }
}
