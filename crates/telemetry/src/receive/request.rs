//! What a request asks for, by its head alone, and why it may be refused.

use std::net::IpAddr;

use http::header::{self, HeaderMap};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Uri};
use terrace_otlp::Signal;

/// How a request is encoded, and so its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Grpc,
    Protobuf,
    Json,
}

/// A request that may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) signal: Signal,
    pub(super) wire: Wire,
    /// Whether the body, or the gRPC message that says so, is packed with gzip.
    pub(super) is_gzip: bool,
}

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Of HTTP.
    pub(super) status: u16,
    /// Of gRPC.
    pub(super) code: u32,
    /// Label of the metric.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) why: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: u32, reason: &'static str, why: impl Into<String>) -> Self {
        Self { status, code, reason, why: why.into() }
    }
}

/// How the sender speaks, so that a refusal can be understood.
pub(super) fn wire(headers: &HeaderMap) -> Option<Wire> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/x-protobuf" | "application/protobuf" => Some(Wire::Protobuf),
        "application/json" => Some(Wire::Json),
        "application/grpc" | "application/grpc+proto" => Some(Wire::Grpc),
        _ => None,
    }
}

/// Reads a head. A web page of elsewhere that this machine's browser shows may not send: its name is in Host, when it had
/// its name point here (DNS rebinding), or in Origin.
pub(super) fn read(parts: &Parts) -> Result<Wanted, Refusal> {
    let forbidden = |why: &str| Refusal::new(403, 7, "forbidden", why);
    if !host(parts).is_some_and(|host| is_here(&host)) {
        return Err(forbidden("only requests to localhost or a loopback address are taken"));
    }
    if parts.headers.contains_key(header::ORIGIN) && allowed_origin(&parts.headers).is_none() {
        return Err(forbidden("only pages of localhost may send"));
    }
    let path = parts.uri.path();
    let signal = |wanted: fn(Signal) -> &'static str| Signal::ALL.into_iter().find(|it| wanted(*it) == path);
    let (by_http, by_grpc) = (signal(Signal::http_path), signal(Signal::grpc_path));
    let Some(signal) = by_http.or(by_grpc) else {
        let why = "there is /v1/traces, /v1/metrics and /v1/logs, and the same over gRPC";
        return Err(Refusal::new(404, 12, "unknown", why));
    };
    if parts.method != Method::POST {
        return Err(Refusal::new(405, 12, "unknown", "signals are sent by POST"));
    }
    match wire(&parts.headers) {
        Some(wire) if (wire == Wire::Grpc) == by_grpc.is_some() => {
            Ok(Wanted { signal, wire, is_gzip: is_gzip(parts, wire)? })
        }
        _ => {
            let why = "Content-Type must be application/x-protobuf or application/json, or application/grpc for gRPC";
            Err(Refusal::new(415, 3, "malformed", why))
        }
    }
}

fn is_gzip(parts: &Parts, wire: Wire) -> Result<bool, Refusal> {
    let name = if wire == Wire::Grpc { "grpc-encoding" } else { "content-encoding" };
    let value = parts.headers.get(name).map_or("identity", |value| value.to_str().unwrap_or_default());
    match value.trim().to_ascii_lowercase().as_str() {
        "gzip" => Ok(true),
        "identity" | "" => Ok(false),
        _ => Err(Refusal::new(415, 12, "malformed", "bodies may be packed with gzip, or not at all")),
    }
}

fn host(parts: &Parts) -> Option<String> {
    if let Some(host) = parts.uri.host() {
        return Some(host.to_owned());
    }
    let authority: Authority = parts.headers.get(header::HOST)?.to_str().ok()?.parse().ok()?;
    Some(authority.host().to_owned())
}

/// The Origin of a page of this machine, which may read the answer.
pub(super) fn allowed_origin(headers: &HeaderMap) -> Option<&http::HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let uri: Uri = origin.to_str().ok()?.parse().ok()?;
    uri.host().is_some_and(is_here).then_some(origin)
}

fn is_here(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    let is_name = bare == "localhost" || bare.ends_with(".localhost");
    is_name || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn head(method: &str, uri: &str, fields: &[(&str, &str)]) -> Result<Wanted, u16> {
        let request =
            fields.iter().fold(Request::builder().method(method).uri(uri), |request, (name, value)| {
                request.header(*name, *value)
            });
        let (parts, ()) = request.body(()).expect("valid").into_parts();
        read(&parts).map_err(|refusal| refusal.status)
    }

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
    const HOST: (&str, &str) = ("host", "localhost:4318");

    #[test]
    fn signals_are_told_by_path_and_encoding_by_type() {
        let json = head("POST", "/v1/logs", &[HOST, JSON]);
        assert_eq!(json, Ok(Wanted { signal: Signal::Logs, wire: Wire::Json, is_gzip: false }));
        let packed = [
            ("host", "127.0.0.1:4318"),
            ("content-type", "application/x-protobuf"),
            ("content-encoding", "gzip"),
        ];
        let protobuf = head("POST", "/v1/traces", &packed);
        assert_eq!(protobuf, Ok(Wanted { signal: Signal::Traces, wire: Wire::Protobuf, is_gzip: true }));
        let uri = "http://[::1]:4317/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
        let grpc = head("POST", uri, &[("content-type", "application/grpc")]);
        assert_eq!(grpc, Ok(Wanted { signal: Signal::Metrics, wire: Wire::Grpc, is_gzip: false }));
    }

    #[test]
    fn what_is_no_otlp_is_refused() {
        assert_eq!(head("GET", "/v1/logs", &[HOST, JSON]), Err(405));
        assert_eq!(head("POST", "/", &[HOST, JSON]), Err(404));
        assert_eq!(head("POST", "/v1/logs", &[HOST]), Err(415));
        assert_eq!(head("POST", "/v1/logs", &[HOST, ("content-type", "application/grpc")]), Err(415));
        assert_eq!(head("POST", "/v1/logs", &[HOST, JSON, ("content-encoding", "br")]), Err(415));
    }

    #[test]
    fn a_web_page_of_elsewhere_may_not_send() {
        assert_eq!(head("POST", "/v1/logs", &[("host", "evil.example"), JSON]), Err(403));
        assert_eq!(head("POST", "/v1/logs", &[JSON]), Err(403), "no Host at all");
        for origin in ["https://evil.example", "null", "http://localhost.evil.example", "https://10.0.0.1"] {
            assert_eq!(head("POST", "/v1/logs", &[HOST, JSON, ("origin", origin)]), Err(403), "{origin}");
        }
        for origin in ["http://localhost:3000", "http://shop.localhost", "http://[::1]:8080"] {
            assert!(head("POST", "/v1/logs", &[HOST, JSON, ("origin", origin)]).is_ok(), "{origin}");
        }
    }
}
