//! What Terrace says itself: whose fault it was, whether a retry is safe, what to do. As RFC 9457 JSON, as a plain page
//! for people, or as a gRPC status, always with `Proxy-Status` (RFC 9209) and the request's id.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use terrace_content::{GrpcStatus, encode_message};
use terrace_http::{Fields, Known, ResponseHead, contains_token, reason};
use terrace_instruments::TraceId;

/// Whose fault an answer of ours was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Client,
    Upstream,
    Terrace,
}

impl Fault {
    fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Terrace => "terrace",
        }
    }
}

/// An answer that Terrace gives in the place of a service.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    /// The error type of RFC 9209 section 2.3, or one of ours where it has none.
    pub(crate) error: &'static str,
    pub(crate) fault: Fault,
    /// Whether sending the same request again may help and cannot harm.
    pub(crate) is_retry_safe: bool,
    pub(crate) detail: String,
    pub(crate) retry_after_s: Option<u64>,
    pub(crate) allow: Option<Box<str>>,
    /// Further fields of the answer.
    pub(crate) fields: Vec<(Cow<'static, str>, String)>,
    /// What is wrong with which part of the request, as JSON: the document's `errors`.
    pub(crate) errors: Option<Box<str>>,
}

impl Problem {
    pub(crate) fn client(status: u16, error: &'static str, detail: impl Into<String>) -> Self {
        Self::new(status, error, Fault::Client, false, detail)
    }

    pub(crate) fn new(
        status: u16,
        error: &'static str,
        fault: Fault,
        is_retry_safe: bool,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            error,
            fault,
            is_retry_safe,
            detail: detail.into(),
            retry_after_s: None,
            allow: None,
            fields: Vec::new(),
            errors: None,
        }
    }

    /// How it stands in the access log and in metrics: `client.http_request_error`.
    pub(crate) fn outcome(&self) -> String {
        format!("{}.{}", self.fault.as_str(), self.error)
    }

    /// The answer for a client that sent these fields, one of gRPC in that media type. The trace is told to programs.
    pub(crate) fn answer(
        &self,
        (asked, grpc_type): (&Fields, &'static str),
        request_id: &str,
        trace: Option<TraceId>,
    ) -> (ResponseHead, Bytes) {
        let content_type = asked.get(Known::ContentType).unwrap_or_default();
        if content_type.starts_with(b"application/grpc") {
            return self.grpc(grpc_type, request_id);
        }
        let wants_page = asked.all(Known::Accept).any(accepts_html);
        let (content_type, body) = match wants_page {
            true => ("text/html; charset=utf-8", self.page(request_id)),
            false => ("application/problem+json", self.json(request_id, trace)),
        };
        let mut head = self.head(self.status, request_id);
        head.fields.append_known(Known::ContentType, content_type.as_bytes());
        if wants_page {
            head.fields.append(b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'");
        }
        (head, Bytes::from(body))
    }

    fn head(&self, status: u16, request_id: &str) -> ResponseHead {
        let mut head = ResponseHead::new(status);
        let fields = &mut head.fields;
        fields.append_known(Known::Server, b"terrace");
        fields.append_known(Known::CacheControl, b"no-store");
        fields.append_known(Known::ProxyStatus, self.proxy_status().as_bytes());
        fields.append_known(Known::XRequestId, request_id.as_bytes());
        if let Some(seconds) = self.retry_after_s {
            fields.append_known(Known::RetryAfter, seconds.to_string().as_bytes());
        }
        if let Some(allow) = &self.allow {
            fields.append_known(Known::Allow, allow.as_bytes());
        }
        for (name, value) in &self.fields {
            fields.append(name.as_bytes(), value.as_bytes());
        }
        head
    }

    /// RFC 9209 section 2: `terrace; error=connection_timeout; details="…"`.
    fn proxy_status(&self) -> String {
        let mut details = String::new();
        for letter in self.detail.chars().filter(|letter| matches!(letter, ' '..='~')) {
            if matches!(letter, '"' | '\\') {
                details.push('\\');
            }
            details.push(letter);
        }
        format!("terrace; error={}; details=\"{details}\"", self.error)
    }

    fn json(&self, request_id: &str, trace: Option<TraceId>) -> String {
        let mut json = String::with_capacity(320);
        json.push_str(r#"{"type":"about:blank","title":"#);
        push_json(&mut json, reason(self.status));
        let _infallible = write!(json, r#","status":{},"detail":"#, self.status);
        push_json(&mut json, &self.detail);
        let (fault, error, retry) = (self.fault.as_str(), self.error, self.is_retry_safe);
        let _infallible =
            write!(json, r#","fault":"{fault}","error":"{error}","retry_safe":{retry},"request_id":"#);
        push_json(&mut json, request_id);
        if let Some(trace) = trace {
            let _infallible = write!(json, r#","trace_id":"{trace}""#);
        }
        if let Some(errors) = &self.errors {
            json.push_str(r#","errors":"#);
            json.push_str(errors);
        }
        json.push_str("}\n");
        json
    }

    fn page(&self, request_id: &str) -> String {
        let title = reason(self.status);
        let whose = match self.fault {
            Fault::Client => "The request could not be served as it was sent.",
            Fault::Upstream => "The service behind this page did not answer as it should.",
            Fault::Terrace => "This server cannot serve the request at the moment.",
        };
        let advice = if self.is_retry_safe { "Trying again in a moment is safe." } else { "" };
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
             <title>{status} {title}</title><style>:root{{color-scheme:light dark}}body{{font:1rem/1.5 system-ui,\
             sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem}}small{{opacity:.75}}</style>\
             <h1>{status} {title}</h1><p>{whose} {advice}</p><p>{detail}</p><p><small>Request {id}</small></p>\n",
            status = self.status,
            detail = escape_html(&self.detail),
            id = escape_html(request_id),
        )
    }

    /// A response of gRPC that consists of trailers only (gRPC over HTTP/2, "Responses"); gRPC-Web has the same.
    fn grpc(&self, grpc_type: &str, request_id: &str) -> (ResponseHead, Bytes) {
        let mut head = self.head(200, request_id);
        head.fields.append_known(Known::ContentType, grpc_type.as_bytes());
        head.fields.append_known(Known::GrpcStatus, self.grpc_status().digits().as_bytes());
        head.fields.append_known(Known::GrpcMessage, encode_message(&self.detail).as_bytes());
        (head, Bytes::new())
    }

    /// What a client of gRPC understands best. It is Terrace that answers, so what the table for strangers' answers
    /// (grpc/doc/http-grpc-status-mapping.md) has to guess is known here: a limit, a deadline, a body that is not valid.
    fn grpc_status(&self) -> GrpcStatus {
        match (self.status, self.error) {
            (504, "http_response_timeout" | "connection_read_timeout") => GrpcStatus::DeadlineExceeded,
            (429 | 413 | 431, _) => GrpcStatus::ResourceExhausted,
            (405 | 415 | 501, _) => GrpcStatus::Unimplemented,
            (422, _) => GrpcStatus::InvalidArgument,
            (408, _) => GrpcStatus::Cancelled,
            (status, _) => GrpcStatus::of_http(status),
        }
    }
}

/// Whether `text/html` is named and not refused; browsers name it, programs do not.
fn accepts_html(accept: &[u8]) -> bool {
    accept.split(|byte| *byte == b',').any(|range| {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let is_html = parts.next().is_some_and(|name| contains_token(name, "text/html"));
        is_html && !parts.any(|part| matches!(part, b"q=0" | b"q=0.0" | b"q=0.00" | b"q=0.000"))
    })
}

fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            letter if letter.is_control() => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str, value: &str) -> Fields {
        let mut fields = Fields::new();
        fields.append(name.as_bytes(), value.as_bytes());
        fields
    }

    fn problem() -> Problem {
        Problem::new(503, "destination_unavailable", Fault::Upstream, true, "no \"endpoint\" <ready>")
    }

    #[test]
    fn rfc9457_a_program_gets_json() {
        let (head, body) = problem().answer((&asked("Accept", "*/*"), "application/grpc"), "id-1", None);
        assert_eq!(head.status, 503);
        assert_eq!(head.fields.get(Known::ContentType), Some(&b"application/problem+json"[..]));
        let body = std::str::from_utf8(&body).expect("text");
        assert!(body.contains(r#""detail":"no \"endpoint\" <ready>","fault":"upstream""#), "{body}");
        assert!(body.contains(r#""retry_safe":true,"request_id":"id-1""#), "{body}");
    }

    #[test]
    fn a_browser_gets_a_page_that_cannot_be_scripted() {
        let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let (_, body) = problem().answer((&asked("Accept", accept), "application/grpc"), "<id>", None);
        let body = std::str::from_utf8(&body).expect("text");
        assert!(body.contains("&lt;ready&gt;") && body.contains("&lt;id&gt;"), "{body}");
        let (head, _) =
            problem().answer((&asked("Accept", "text/html;q=0, */*"), "application/grpc"), "id", None);
        assert_eq!(head.fields.get(Known::ContentType), Some(&b"application/problem+json"[..]));
    }

    #[test]
    fn rfc9209_2_the_proxy_status_is_a_structured_field() {
        let (head, _) = problem().answer((&Fields::new(), "application/grpc"), "id", None);
        let expected = r#"terrace; error=destination_unavailable; details="no \"endpoint\" <ready>""#;
        assert_eq!(head.fields.text(Known::ProxyStatus), Some(expected));
    }

    #[test]
    fn a_grpc_client_gets_a_grpc_status() {
        let (head, body) = problem().answer(
            (&asked("Content-Type", "application/grpc+proto"), "application/grpc"),
            "id",
            None,
        );
        assert_eq!((head.status, body.len()), (200, 0));
        assert_eq!(head.fields.get(Known::GrpcStatus), Some(&b"14"[..]));
        let message = head.fields.text(Known::GrpcMessage);
        assert_eq!(message, Some("no \"endpoint\" <ready>"));
    }

    #[test]
    fn a_grpc_client_is_told_what_terrace_knows_and_not_what_a_table_guesses() {
        let status =
            |status, error| Problem::new(status, error, Fault::Terrace, false, "x").grpc_status().digits();
        assert_eq!(status(504, "http_response_timeout"), "4");
        assert_eq!(status(504, "connection_timeout"), "14");
        assert_eq!(status(429, "http_request_denied"), "8");
        assert_eq!(
            [401, 403, 404, 422, 502, 503].map(|code| status(code, "")),
            ["16", "7", "12", "3", "14", "14"]
        );
    }

    #[test]
    fn rfc9457_3_errors_stand_in_the_document() {
        let mut problem = Problem::client(422, "http_request_error", "two things");
        problem.errors = Some(r##"[{"pointer":"#/a"}]"##.into());
        let (_, body) = problem.answer((&Fields::new(), "application/grpc"), "id", None);
        let body = std::str::from_utf8(&body).expect("text");
        assert!(body.contains(r##""errors":[{"pointer":"#/a"}]}"##), "{body}");
    }
}
