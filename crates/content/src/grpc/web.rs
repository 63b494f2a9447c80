//! gRPC-Web (grpc/doc/PROTOCOL-WEB.md): gRPC for browsers, which cannot read trailers. The same messages, but the trailers
//! are one more frame at the body's end, and all of it may be base64.
//!
//! A call is made gRPC on its way to the service, and its answer gRPC-Web on its way back. What a browser of another origin
//! may read of it is the business of CORS.

use terrace_http::{Fields, Known, Method, RequestHead, ResponseHead};

use super::{GrpcStatus, TextEncoder, encode_message};
use crate::media::essence;

const WEB: &[u8] = b"application/grpc-web";
const TEXT: &[u8] = b"application/grpc-web-text";
const GRPC: &[u8] = b"application/grpc";
/// The first byte of a frame that holds trailers.
const TRAILERS: u8 = 0x80;

/// What a call of gRPC-Web asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebCall {
    /// Its body is base64.
    pub is_text: bool,
    /// Its answer is to be base64.
    pub wants_text: bool,
}

/// What becomes of an answer to a call of gRPC-Web.
#[derive(Debug)]
pub enum WebReply {
    /// Its body goes through this.
    Body(WebAnswer),
    /// Its head says all; there is no body, whatever the service sent.
    HeadOnly,
}

impl WebCall {
    /// Makes a call of gRPC-Web one of gRPC; `None` for any other request, which stays as it is. Where the body is base64,
    /// it has another length then, and must go through a [`TextDecoder`](super::TextDecoder).
    pub fn ask(request: &mut RequestHead) -> Option<Self> {
        if request.method != Method::Post {
            return None;
        }
        let fields = &mut request.fields;
        let content_type = essence(fields.get(Known::ContentType)?);
        let (is_text, suffix) = match suffix_after(content_type, TEXT) {
            Some(suffix) => (true, suffix),
            None => (false, suffix_after(content_type, WEB)?),
        };
        let ours = [GRPC, suffix].concat();
        let accepts_text = fields.all(Known::Accept).flat_map(terrace_http::tokens).any(is_web_text);
        fields.set(Known::ContentType, &ours);
        fields.set(Known::Te, b"trailers");
        fields.remove(Known::Accept);
        fields.remove_named(b"x-grpc-web");
        if is_text {
            fields.remove(Known::ContentLength);
        }
        Some(Self { is_text, wants_text: is_text || accepts_text })
    }

    /// Makes the head of the service's answer one of gRPC-Web.
    ///
    /// An answer that is no gRPC, such as a page of a proxy's, becomes what a client of gRPC takes it for
    /// (grpc/doc/http-grpc-status-mapping.md).
    pub fn answer(self, response: &mut ResponseHead) -> WebReply {
        let content_type = response.fields.get(Known::ContentType).map(essence).unwrap_or_default();
        let suffix = suffix_after(content_type, GRPC).map(<[u8]>::to_vec);
        let is_grpc = response.status == 200 && suffix.is_some();
        if !is_grpc && !response.fields.has(Known::GrpcStatus) {
            no_grpc(response);
        }
        let web = if self.wants_text { TEXT } else { WEB };
        let ours = [web, suffix.as_deref().unwrap_or_default()].concat();
        let fields = &mut response.fields;
        fields.set(Known::ContentType, &ours);
        fields.remove(Known::ContentLength);
        fields.remove(Known::Trailer);
        if fields.has(Known::GrpcStatus) {
            // To HTTP/1 it must be said that nothing follows.
            fields.append_known(Known::ContentLength, b"0");
            return WebReply::HeadOnly;
        }
        WebReply::Body(WebAnswer { text: self.wants_text.then(TextEncoder::default) })
    }
}

/// What follows `prefix` in a content type: nothing, or a format such as `+proto`.
fn suffix_after<'a>(content_type: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, suffix) = content_type.split_at_checked(prefix.len())?;
    let fits = start.eq_ignore_ascii_case(prefix) && matches!(suffix, [] | [b'+', ..]);
    fits.then_some(suffix)
}

fn is_web_text(accepted: &[u8]) -> bool {
    let essence = essence(accepted);
    suffix_after(essence, TEXT).is_some()
        || suffix_after(essence, b"application/grpc-web-text-base64").is_some()
}

fn no_grpc(response: &mut ResponseHead) {
    let status = GrpcStatus::of_http(response.status);
    let message =
        encode_message(&format!("the service answered with HTTP status {}, not gRPC", response.status));
    response.status = 200;
    response.fields.remove(Known::ContentEncoding);
    response.fields.append_known(Known::GrpcStatus, status.digits().as_bytes());
    response.fields.set(Known::GrpcMessage, message.as_bytes());
}

/// The body of an answer on its way to a client of gRPC-Web.
#[derive(Debug)]
pub struct WebAnswer {
    text: Option<TextEncoder>,
}

impl WebAnswer {
    /// Whether data goes on as it came.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.text.is_none()
    }

    /// Appends to `out` what comes of `data`.
    pub fn data(&mut self, data: &[u8], out: &mut Vec<u8>) {
        match &mut self.text {
            Some(encoder) => encoder.encode(data, out),
            None => out.extend_from_slice(data),
        }
    }

    /// Appends to `out` what is still held, so that the client can read every byte that came.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if let Some(encoder) = &mut self.text {
            encoder.flush(out);
        }
    }

    /// Appends to `out` the frame of trailers. A service that ended without a status did not end as it should.
    pub fn end(&mut self, trailers: Option<&Fields>, out: &mut Vec<u8>) {
        let mut lines = Vec::new();
        let has_status = trailers.is_some_and(|trailers| trailers.has(Known::GrpcStatus));
        if !has_status {
            let message = encode_message("the service ended its answer without a status");
            lines.extend_from_slice(b"grpc-status: 2\r\ngrpc-message: ");
            lines.extend_from_slice(message.as_bytes());
            lines.extend_from_slice(b"\r\n");
        }
        for (name, value) in trailers.into_iter().flat_map(Fields::iter) {
            lines.extend(name.iter().map(u8::to_ascii_lowercase));
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value);
            lines.extend_from_slice(b"\r\n");
        }
        let bytes = u32::try_from(lines.len()).expect("invariant: trailers are bounded far below 4 GiB");
        self.flush(out);
        self.data(&[TRAILERS], out);
        self.data(&bytes.to_be_bytes(), out);
        self.data(&lines, out);
        self.flush(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(fields: &[(&str, &str)]) -> (Option<WebCall>, RequestHead) {
        let mut head = RequestHead::new();
        head.method = Method::Post;
        fields.iter().for_each(|(name, value)| head.fields.append(name.as_bytes(), value.as_bytes()));
        (WebCall::ask(&mut head), head)
    }

    fn reply(call: WebCall, status: u16, fields: &[(&str, &str)]) -> (WebReply, ResponseHead) {
        let mut head = ResponseHead::new(status);
        fields.iter().for_each(|(name, value)| head.fields.append(name.as_bytes(), value.as_bytes()));
        (call.answer(&mut head), head)
    }

    const BINARY: WebCall = WebCall { is_text: false, wants_text: false };

    #[test]
    fn a_call_of_grpc_web_becomes_one_of_grpc() {
        let asked =
            [("Content-Type", "application/grpc-web+proto"), ("X-Grpc-Web", "1"), ("Content-Length", "5")];
        let (web, head) = call(&asked);
        assert_eq!(web, Some(BINARY));
        assert_eq!(head.fields.text(Known::ContentType), Some("application/grpc+proto"));
        assert_eq!(head.fields.text(Known::Te), Some("trailers"));
        assert_eq!(head.fields.text(Known::ContentLength), Some("5"));
        assert!(head.fields.named(b"x-grpc-web").is_none());
    }

    #[test]
    fn text_may_be_sent_or_only_wanted() {
        let (web, head) = call(&[("Content-Type", "application/grpc-web-text"), ("Content-Length", "8")]);
        assert_eq!(web, Some(WebCall { is_text: true, wants_text: true }));
        assert_eq!(head.fields.text(Known::ContentType), Some("application/grpc"));
        assert!(!head.fields.has(Known::ContentLength), "it is another one");
        let (web, _) = call(&[
            ("Content-Type", "application/grpc-web"),
            ("Accept", "a/b, application/grpc-web-text;q=1"),
        ]);
        assert_eq!(web, Some(WebCall { is_text: false, wants_text: true }));
    }

    #[test]
    fn other_requests_stay_as_they_are() {
        for content_type in
            ["application/grpc", "application/grpc+proto", "application/grpc-websocket", "text/html"]
        {
            let (web, head) = call(&[("Content-Type", content_type)]);
            assert_eq!(web, None);
            assert_eq!(head.fields.text(Known::ContentType), Some(content_type));
        }
    }

    #[test]
    fn the_trailers_are_the_last_frame_byte_for_byte() {
        let (web, head) = reply(BINARY, 200, &[("content-type", "application/grpc+proto"), ("x-a", "1")]);
        assert_eq!(head.fields.text(Known::ContentType), Some("application/grpc-web+proto"));
        let WebReply::Body(mut answer) = web else { panic!("it has a body") };
        let mut out = Vec::new();
        answer.data(b"\0\0\0\0\x02hi", &mut out);
        let mut trailers = Fields::new();
        trailers.append(b"Grpc-Status", b"0");
        trailers.append(b"x-b", b"2");
        answer.end(Some(&trailers), &mut out);
        assert_eq!(out, b"\0\0\0\0\x02hi\x80\0\0\0\x18grpc-status: 0\r\nx-b: 2\r\n");
    }

    #[test]
    fn text_is_padded_where_the_answer_pauses() {
        let wants = WebCall { is_text: false, wants_text: true };
        let (web, head) = reply(wants, 200, &[("content-type", "application/grpc")]);
        assert_eq!(head.fields.text(Known::ContentType), Some("application/grpc-web-text"));
        let WebReply::Body(mut answer) = web else { panic!("it has a body") };
        let mut out = Vec::new();
        answer.data(b"\0\0\0\0\x02hi", &mut out);
        assert_eq!(out, b"AAAAAAJo");
        answer.flush(&mut out);
        assert_eq!(out, b"AAAAAAJoaQ==");
        let mut trailers = Fields::new();
        trailers.append(b"grpc-status", b"0");
        answer.end(Some(&trailers), &mut out);
        assert_eq!(&out[12..], b"gAAAABBncnBjLXN0YXR1czogMA0K");
    }

    #[test]
    fn an_answer_of_trailers_only_stays_one() {
        let fields = [("content-type", "application/grpc"), ("grpc-status", "5"), ("grpc-message", "none")];
        let (web, head) = reply(BINARY, 200, &fields);
        assert!(matches!(web, WebReply::HeadOnly));
        assert_eq!(head.fields.text(Known::GrpcStatus), Some("5"));
        assert_eq!(head.fields.text(Known::ContentType), Some("application/grpc-web"));
    }

    #[test]
    fn what_is_no_grpc_becomes_the_status_that_a_client_makes_of_it() {
        for (status, grpc) in [(404, "12"), (503, "14"), (200, "2")] {
            let (web, head) =
                reply(BINARY, status, &[("content-type", "text/html"), ("content-length", "9")]);
            assert!(matches!(web, WebReply::HeadOnly));
            assert_eq!((head.status, head.fields.text(Known::GrpcStatus)), (200, Some(grpc)));
            assert_eq!(head.fields.text(Known::ContentLength), Some("0"));
        }
    }

    #[test]
    fn an_end_without_a_status_is_told_as_unknown() {
        let mut out = Vec::new();
        WebAnswer { text: None }.end(None, &mut out);
        assert!(out[5..].starts_with(b"grpc-status: 2\r\ngrpc-message: "), "{out:?}");
        assert_eq!(usize::from(out[4]), out.len() - 5);
    }
}
