//! What services say when they cannot do what was asked: problem details (RFC 9457).
//!
//! A problem says whose fault it was, whether asking again is safe and sensible, and what to do.

use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::log;

/// A refusal or failure, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    /// Status of the answer; 4xx is the caller's fault, 5xx ours.
    pub(crate) status: StatusCode,
    /// Stable name of the kind of problem, for programs.
    pub(crate) kind: String,
    /// One sentence for people, with what to do.
    pub(crate) detail: String,
    /// When asking again is sensible, in seconds; `None` when it is not.
    pub(crate) retry_after_s: Option<u32>,
}

/// A problem as it travels.
#[derive(Serialize, Deserialize)]
pub(crate) struct Body {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    pub(crate) detail: String,
    #[serde(default)]
    retryable: bool,
}

const KIND_PREFIX: &str = "urn:shop:problem:";

impl Problem {
    fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self { status, kind: kind.to_owned(), detail: detail.into(), retry_after_s: None }
    }

    /// The caller sent something that cannot be understood or is out of bounds.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    }

    /// The request itself is malformed, as a parser found.
    pub(crate) fn malformed(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::new(status, "malformed", detail)
    }

    /// The thing is there but cannot be asked for in this way.
    pub(crate) fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "This cannot be asked for in this way.")
    }

    /// No such thing, or none that the caller may see.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", format!("There is no such {what}."))
    }

    /// The caller may not do this.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// What was asked clashes with how things are; `kind` says how.
    pub(crate) fn conflict(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, kind, detail)
    }

    /// The bank said no.
    pub(crate) fn declined(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYMENT_REQUIRED, "declined", detail)
    }

    /// Something of ours or behind us is away for the moment; asking again is safe.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self { retry_after_s: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail) }
    }

    /// A neighbour gave no answer, so nobody knows how far it got; asking again is safe where the request carries a key.
    pub(crate) fn unsure(detail: impl Into<String>) -> Self {
        Self { retry_after_s: Some(1), ..Self::new(StatusCode::BAD_GATEWAY, "no-answer", detail) }
    }

    /// A neighbour answered something that makes no sense.
    pub(crate) fn bad_neighbour(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "bad-neighbour", detail)
    }

    /// A fault of this service. The cause goes to the log and not to the caller.
    pub(crate) fn internal(cause: &dyn std::fmt::Display) -> Self {
        log::error("fault", serde_json::json!({ "error": cause.to_string() }));
        let detail = "Something broke on our side; it has been noted.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// A problem that a neighbour reported about the caller's own request, passed on.
    pub(crate) fn passed_on(status: StatusCode, body: Body) -> Self {
        let kind = body.kind.strip_prefix(KIND_PREFIX).unwrap_or("unknown").to_owned();
        Self { status, kind, detail: body.detail, retry_after_s: None }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            kind: format!("{KIND_PREFIX}{}", self.kind),
            title: self.status.canonical_reason().unwrap_or("Problem").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            retryable: self.retry_after_s.is_some(),
        };
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// A JSON body, whose faults are told as a [`Problem`].
pub(crate) struct Input<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Input<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::malformed(rejection.status(), rejection.body_text())),
        }
    }
}
