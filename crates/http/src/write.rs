//! Heads of HTTP/1 messages written to bytes. What is written was checked when it was read, so that no field can carry
//! a line end; the body's length is stated once, here, whatever the fields said before.

use crate::{BodyLength, Known, KnownSet, Method, RequestHead, ResponseHead, Version, reason};

/// What a head takes beside its fields and target, generously.
const FRAME_BYTES: usize = 192;

/// What says how long a body is. We say that ourselves.
const LENGTHS: KnownSet = KnownSet::of(&[Known::ContentLength, Known::TransferEncoding]);

/// Writes a request's head for a body of that length. An origin server learns of an absent body where the method
/// would lead it to expect one (RFC 9110 section 8.6).
pub fn write_request(head: &RequestHead, length: BodyLength, out: &mut Vec<u8>) {
    out.reserve(head.fields.wire_bytes() + head.target().len() + FRAME_BYTES);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    head.fields.write_lines(LENGTHS, out);
    if let Some(trace_parent) = &head.trace_parent {
        out.extend_from_slice(b"traceparent: ");
        out.extend_from_slice(trace_parent);
        out.extend_from_slice(b"\r\n");
    }
    let expects_body = matches!(head.method, Method::Post | Method::Put | Method::Patch);
    match length {
        BodyLength::Empty if expects_body => out.extend_from_slice(b"content-length: 0\r\n"),
        length => write_length(length, out),
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a response's head for a body of that length, in the version the client speaks. For a message that has no body
/// by its nature (HEAD, 304) a `Content-Length` among the fields stays, since it speaks of the body there would be.
pub fn write_response(head: &ResponseHead, length: BodyLength, client: Version, out: &mut Vec<u8>) {
    out.reserve(head.fields.wire_bytes() + FRAME_BYTES);
    out.extend_from_slice(if client == Version::Http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(itoa::Buffer::new().format(head.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(head.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    let keeps_length = length == BodyLength::Empty && head.status != 204 && head.status >= 200;
    let left_out = if keeps_length { KnownSet::of(&[Known::TransferEncoding]) } else { LENGTHS };
    head.fields.write_lines(left_out, out);
    write_length(length, out);
    out.extend_from_slice(b"\r\n");
}

fn write_length(length: BodyLength, out: &mut Vec<u8>) {
    match length {
        BodyLength::Known(bytes) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        BodyLength::Framed => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        BodyLength::Empty | BodyLength::UntilClose => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bounds, parse_request};

    fn request(method: &str, length: BodyLength) -> String {
        let mut head = RequestHead::new();
        let text = format!("{method} /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nX: y\r\n\r\n");
        parse_request(text.as_bytes(), &Bounds::default(), &mut head).expect("valid");
        let mut out = Vec::new();
        write_request(&head, length, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn rfc9112_6_a_length_is_stated_once() {
        let known = "POST /a?b HTTP/1.1\r\nHost: a\r\nX: y\r\ncontent-length: 1234567890\r\n\r\n";
        assert_eq!(request("POST", BodyLength::Known(1_234_567_890)), known);
        let chunked = "POST /a?b HTTP/1.1\r\nHost: a\r\nX: y\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(request("POST", BodyLength::Framed), chunked);
        assert!(request("POST", BodyLength::Empty).contains("content-length: 0\r\n"));
        assert!(!request("GET", BodyLength::Empty).contains("content-length"));
    }

    #[test]
    fn rfc9110_8_6_a_response_to_head_keeps_the_length_there_would_be() {
        let mut head = ResponseHead::new(200);
        head.fields.append(b"Content-Length", b"42");
        let mut out = Vec::new();
        write_response(&head, BodyLength::Empty, Version::Http11, &mut out);
        assert_eq!(out, b"HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n");
        head.status = 204;
        out.clear();
        write_response(&head, BodyLength::Empty, Version::Http10, &mut out);
        assert_eq!(out, b"HTTP/1.0 204 No Content\r\n\r\n");
    }
}
