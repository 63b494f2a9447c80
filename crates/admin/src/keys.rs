//! The routes for API keys: to make one, to see which there are, to take one away.
//!
//! ```text
//! GET  /v1/keys                  { keys: [{ id, name, roles, limit, created, expires, used }] }: times in seconds since 1970
//! POST /v1/keys                  { "name": "ci", "roles": ["reader"], "limit": "100/s", "lasts_s": 7776000 }: the same and `key`
//! POST /v1/keys/{id}/revoke      {}: the key that was
//! ```
//!
//! A new key is shown in the answer and nowhere else, so it is made on the Unix socket only: a page or a program on the machine
//! that got hold of a session shall not make itself a key that outlives it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::json;
use terrace_auth::NewKey;

use crate::api::{bad_request, carry_out, json};
use crate::audit::{Audit, Change};
use crate::control::{Control, ControlError};
use crate::gate::Caller;

/// Longer ones are no key's.
const ID_BYTES_MAX: usize = 64;

#[derive(Clone)]
struct Keys {
    control: Arc<dyn Control>,
    audit: Audit,
}

/// The routes, to be merged into the API's.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(control: Arc<dyn Control>, audit: Audit) -> Router<S> {
    Router::new()
        .route("/v1/keys", get(list).post(create))
        .route("/v1/keys/{id}/revoke", post(revoke))
        .with_state(Keys { control, audit })
}

async fn list(State(keys): State<Keys>) -> Result<Response, ControlError> {
    let listed = keys.control.keys().await?;
    Ok(json(&json!({ "keys": listed })))
}

async fn create(
    State(keys): State<Keys>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, ControlError> {
    let Caller::Peer { .. } = caller else {
        return Err(ControlError::not_found(
            "keys are made on the Unix socket only; use `terrace keys create`",
        ));
    };
    let like = "{\"name\": \"ci\", \"roles\": [\"reader\"], \"limit\": \"100/s\", \"lasts_s\": 7776000}";
    let new: NewKey = serde_json::from_slice(&body)
        .map_err(|error| bad_request(format!("the body must be like {like}: {error}")))?;
    let change = Change::new(caller, "create-key").target(new.name.as_str());
    let control = keys.control;
    let outcome = async move { control.create_key(new).await };
    Ok(json(&carry_out(keys.audit, change, Box::pin(outcome)).await?))
}

async fn revoke(
    State(keys): State<Keys>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, ControlError> {
    if id.len() > ID_BYTES_MAX {
        return Err(ControlError::not_found("there is no such key"));
    }
    let change = Change::new(caller, "revoke-key").target(id.as_str());
    let control = keys.control;
    let outcome = async move { control.revoke_key(id).await };
    Ok(json(&carry_out(keys.audit, change, Box::pin(outcome)).await?))
}
