//! What Terrace says itself: whose fault it was, whether a retry is safe, what to do. As RFC 9457 JSON, as a plain page
//! for people, or as a gRPC status, always with `Proxy-Status` (RFC 9209) and the request's id.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
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
    pub(crate) allow: Option<String>,
    /// Further fields of the answer.
    pub(crate) fields: Vec<(Cow<'static, str>, String)>,
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
        let (retry_after_s, allow, fields) = (None, None, Vec::new());
        Self { status, error, fault, is_retry_safe, detail: detail.into(), retry_after_s, allow, fields }
    }

    /// How it stands in the access log and in metrics: `client.http_request_error`.
    pub(crate) fn outcome(&self) -> String {
        format!("{}.{}", self.fault.as_str(), self.error)
    }

    /// The answer for a client that sent these fields. The trace is told to programs.
    pub(crate) fn answer(
        &self,
        asked: &Fields,
        request_id: &str,
        trace: Option<TraceId>,
    ) -> (ResponseHead, Bytes) {
        let content_type = asked.get(Known::ContentType).unwrap_or_default();
        if content_type.starts_with(b"application/grpc") {
            return self.grpc(request_id);
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

    /// A response of gRPC that consists of trailers only (gRPC over HTTP/2, "Responses").
    fn grpc(&self, request_id: &str) -> (ResponseHead, Bytes) {
        let mut head = self.head(200, request_id);
        head.fields.append_known(Known::ContentType, b"application/grpc");
        head.fields.append_known(Known::GrpcStatus, grpc_status(self.status).as_bytes());
        let mut message = String::new();
        for byte in self.detail.bytes() {
            match byte {
                b' '..=b'~' if byte != b'%' => message.push(char::from(byte)),
                _ => {
                    let _infallible = write!(message, "%{byte:02X}");
                }
            }
        }
        head.fields.append(b"grpc-message", message.as_bytes());
        (head, Bytes::new())
    }
}

/// grpc/doc/http-grpc-status-mapping.md, and for 408 and 413 what clients understand best.
fn grpc_status(status: u16) -> &'static str {
    match status {
        400 => "13",
        401 => "16",
        403 => "7",
        404 | 405 | 501 => "12",
        408 => "1",
        413 | 431 => "8",
        429 | 502..=504 => "14",
        _ => "2",
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
        let (head, body) = problem().answer(&asked("Accept", "*/*"), "id-1", None);
        assert_eq!(head.status, 503);
        assert_eq!(head.fields.get(Known::ContentType), Some(&b"application/problem+json"[..]));
        let body = std::str::from_utf8(&body).expect("text");
        assert!(body.contains(r#""detail":"no \"endpoint\" <ready>","fault":"upstream""#), "{body}");
        assert!(body.contains(r#""retry_safe":true,"request_id":"id-1""#), "{body}");
    }

    #[test]
    fn a_browser_gets_a_page_that_cannot_be_scripted() {
        let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let (_, body) = problem().answer(&asked("Accept", accept), "<id>", None);
        let body = std::str::from_utf8(&body).expect("text");
        assert!(body.contains("&lt;ready&gt;") && body.contains("&lt;id&gt;"), "{body}");
        let (head, _) = problem().answer(&asked("Accept", "text/html;q=0, */*"), "id", None);
        assert_eq!(head.fields.get(Known::ContentType), Some(&b"application/problem+json"[..]));
    }

    #[test]
    fn rfc9209_2_the_proxy_status_is_a_structured_field() {
        let (head, _) = problem().answer(&Fields::new(), "id", None);
        let expected = r#"terrace; error=destination_unavailable; details="no \"endpoint\" <ready>""#;
        assert_eq!(head.fields.text(Known::ProxyStatus), Some(expected));
    }

    #[test]
    fn a_grpc_client_gets_a_grpc_status() {
        let (head, body) = problem().answer(&asked("Content-Type", "application/grpc+proto"), "id", None);
        assert_eq!((head.status, body.len()), (200, 0));
        assert_eq!(head.fields.get(Known::GrpcStatus), Some(&b"14"[..]));
    }
}
