//! Errors as answers: `application/problem+json` (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::control::ControlError;

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({
            "type": "about:blank",
            "title": self.title,
            "status": status.as_u16(),
            "detail": self.detail,
            "retry_safe": self.retry_safe,
        });
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"terrace\""));
        }
        // For the dashboard, which shows it as a page.
        response.extensions_mut().insert(self);
        response
    }
}

impl ControlError {
    /// Reads an answer that is a problem; any other body becomes the detail.
    pub(crate) fn read(status: u16, body: &[u8]) -> Self {
        let parsed: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let text = |key: &str| parsed[key].as_str().map(str::to_owned);
        let detail = match text("detail") {
            Some(detail) => detail,
            None => String::from_utf8_lossy(&body[..body.len().min(1_000)]).into_owned(),
        };
        Self {
            status,
            title: text("title").unwrap_or_else(|| format!("HTTP status {status}")),
            detail,
            retry_safe: parsed["retry_safe"].as_bool().unwrap_or(false),
        }
    }
}
