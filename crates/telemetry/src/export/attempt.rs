//! One attempt to hand a batch over, and what its answer means (OTLP specification 1.x, "OTLP/gRPC" and "OTLP/HTTP").

use std::time::Duration;

use bytes::Bytes;
use terrace_otlp::{Signal, read_grpc_retry_delay, read_response};

use crate::config::{Export, ExportProtocol};
use terrace_fetch::{Answer, Client, ClientError};

/// For connecting, sending and the whole answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Of a gRPC message: whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Taken, but for so many items.
    Taken { refused: u64, why: String },
    /// Not now; after that time, if the collector said.
    Later { after: Option<Duration>, why: String },
    /// Not ever.
    Refused { why: String },
}

/// Sends one request.
pub(super) async fn attempt(client: &Client, export: &Export, signal: Signal, message: Bytes) -> Outcome {
    let answered = match export.protocol {
        ExportProtocol::Http => {
            let url = address(export, signal.http_path());
            client.post(&url, &fields(export, &HTTP_FIELDS), message, TIMEOUT).await
        }
        ExportProtocol::Grpc => {
            let url = address(export, signal.grpc_path());
            client.post_http2(&url, &fields(export, &GRPC_FIELDS), framed(&message), TIMEOUT).await
        }
    };
    match (answered, export.protocol) {
        (Ok(answer), ExportProtocol::Http) => of_http(&answer),
        (Ok(answer), ExportProtocol::Grpc) => of_grpc(&answer),
        (Err(error), _) => of_error(&error),
    }
}

const USER_AGENT: (&str, &str) = ("user-agent", concat!("terrace/", env!("CARGO_PKG_VERSION")));
const HTTP_FIELDS: [(&str, &str); 2] = [("content-type", "application/x-protobuf"), USER_AGENT];
const GRPC_FIELDS: [(&str, &str); 4] =
    [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "10S"), USER_AGENT];

/// The user's own come last and win.
fn fields(export: &Export, own: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    own.chain(export.headers.iter().map(|(name, value)| (name.clone(), value.0.clone()))).collect()
}

fn address(export: &Export, path: &str) -> String {
    format!("{}{path}", export.url.trim_end_matches('/'))
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(FRAME_BYTES + message.len());
    frame.push(0);
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    frame.into()
}

fn of_error(error: &ClientError) -> Outcome {
    let why = error.to_string();
    if error.is_retryable() { Outcome::Later { after: None, why } } else { Outcome::Refused { why } }
}

fn of_http(answer: &Answer) -> Outcome {
    let why = || format!("it answered with status {}", answer.status);
    match answer.status {
        200..=299 => taken(&answer.body),
        429 | 502 | 503 | 504 => Outcome::Later { after: retry_after(answer), why: why() },
        _ => Outcome::Refused { why: why() },
    }
}

/// In seconds (RFC 9110 section 10.2.3); a date is not worth a clock, the usual wait is fine.
fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds = answer.headers.get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn taken(message: &[u8]) -> Outcome {
    // An answer that cannot be read is still a yes.
    let partial = read_response(message).unwrap_or_default();
    Outcome::Taken { refused: partial.refused, why: partial.why }
}

/// `grpc-status` is a trailer, or a field of a head without body.
fn of_grpc(answer: &Answer) -> Outcome {
    let field = |name: &str| {
        let found = answer.trailers.get(name).or_else(|| answer.headers.get(name));
        found.and_then(|value| value.to_str().ok())
    };
    if answer.status != 200 {
        return of_http(answer);
    }
    let Some(status) = field("grpc-status").and_then(|text| text.parse::<u32>().ok()) else {
        return Outcome::Refused {
            why: "its answer is not gRPC; is it a port for OTLP over HTTP?".to_owned(),
        };
    };
    let delay = field("grpc-status-details-bin").and_then(read_grpc_retry_delay);
    let said = field("grpc-message").unwrap_or_default();
    let why = format!("it answered with gRPC status {status} {said}");
    match status {
        0 => taken(answer.body.get(FRAME_BYTES..).unwrap_or_default()),
        // Cancelled, deadline exceeded, aborted, out of range, unavailable, data loss.
        1 | 4 | 10 | 11 | 14 | 15 => Outcome::Later { after: delay, why },
        // Resource exhausted, which may be over when it says when.
        8 if delay.is_some() => Outcome::Later { after: delay, why },
        _ => Outcome::Refused { why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn answer(status: u16, trailers: &[(&'static str, &str)]) -> Answer {
        let trailers: HeaderMap = trailers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("a field value")))
            .collect();
        Answer { status, headers: trailers.clone(), body: Bytes::new(), trailers }
    }

    fn later(outcome: Outcome) -> Option<Option<u64>> {
        match outcome {
            Outcome::Later { after, .. } => Some(after.map(|after| after.as_secs())),
            _ => None,
        }
    }

    #[test]
    fn only_what_the_specification_calls_retryable_is_tried_again_over_http() {
        for status in [429, 502, 503, 504] {
            assert_eq!(later(of_http(&answer(status, &[]))), Some(None), "{status}");
        }
        assert_eq!(later(of_http(&answer(503, &[("retry-after", "7")]))), Some(Some(7)));
        for status in [400, 401, 404, 413, 500, 501] {
            assert!(matches!(of_http(&answer(status, &[])), Outcome::Refused { .. }), "{status}");
        }
        assert_eq!(of_http(&answer(200, &[])), Outcome::Taken { refused: 0, why: String::new() });
    }

    #[test]
    fn only_what_the_specification_calls_retryable_is_tried_again_over_grpc() {
        for status in ["1", "4", "10", "11", "14", "15"] {
            assert_eq!(later(of_grpc(&answer(200, &[("grpc-status", status)]))), Some(None), "{status}");
        }
        for status in ["2", "3", "5", "7", "8", "12", "13", "16"] {
            let outcome = of_grpc(&answer(200, &[("grpc-status", status)]));
            assert!(matches!(outcome, Outcome::Refused { .. }), "{status}");
        }
        // google.rpc.Status { code: 8, details: [Any { RetryInfo { 3 s } }] }, base 64 without padding.
        let details = "CAgaMAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIECgIIAw";
        let exhausted = answer(200, &[("grpc-status", "8"), ("grpc-status-details-bin", details)]);
        assert_eq!(later(of_grpc(&exhausted)), Some(Some(3)));
        assert!(matches!(of_grpc(&answer(200, &[])), Outcome::Refused { .. }), "no gRPC");
        assert_eq!(later(of_grpc(&answer(503, &[]))), Some(None), "a proxy in between");
    }
}
