//! What the fuzzers call, and what must hold of every input: nothing panics, what is accepted has one reading, and what
//! we write of it is read again as the same.

use terrace_http::{
    Authority, BodyLength, Bounds, ChunkedDecoder, Decoded, Fields, Head, Known, RequestHead, ResponseHead,
    Version, normalise, parse_request, parse_response, request_body, response_body, write_request,
    write_response,
};

/// A request's head: accepted only when it is accepted again, unchanged, in the form in which it is sent on.
pub(crate) fn request(data: &[u8]) {
    let bounds = Bounds::default();
    let mut head = RequestHead::new();
    let Ok(Head::Complete { bytes }) = parse_request(data, &bounds, &mut head) else { return };
    assert!(bytes <= data.len().min(bounds.head_bytes_max));
    assert!(data[..bytes].ends_with(b"\r\n\r\n"), "a head ends with an empty line");
    for end in 0..bytes {
        let shorter = parse_request(&data[..end], &bounds, &mut RequestHead::new());
        assert_eq!(shorter, Ok(Head::Partial), "the first {end} of {bytes} bytes");
    }
    assert!(head.path().starts_with('/') || head.path() == "*");
    holds_no_line_end(&head.fields);
    let Ok(length) = request_body(head.version, &head.fields) else { return };
    sent_on_reads_the_same(&head, length, &bounds);
}

fn sent_on_reads_the_same(head: &RequestHead, length: BodyLength, bounds: &Bounds) {
    if head.method == terrace_http::Method::Connect || !head.fields.has(Known::Host) {
        return;
    }
    let mut written = Vec::new();
    write_request(head, length, &mut written);
    let roomy =
        Bounds { head_bytes_max: bounds.head_bytes_max + 4096, fields_max: 256, target_bytes_max: 1 << 20 };
    let mut again = RequestHead::new();
    let read = parse_request(&written, &roomy, &mut again);
    assert_eq!(read, Ok(Head::Complete { bytes: written.len() }), "{:?}", String::from_utf8_lossy(&written));
    assert_eq!((&again.method, again.host(), again.port()), (&head.method, head.host(), head.port()));
    assert_eq!((again.path(), again.query()), (head.path(), head.query()));
    assert_eq!(request_body(Version::Http11, &again.fields), Ok(length));
}

/// A response's head, for the same.
pub(crate) fn response(data: &[u8]) {
    let bounds = Bounds::default();
    let mut head = ResponseHead::default();
    let Ok(Head::Complete { bytes }) = parse_response(data, &bounds, &mut head) else { return };
    assert!(bytes <= data.len().min(bounds.head_bytes_max) && (100..1000).contains(&head.status));
    holds_no_line_end(&head.fields);
    let method = terrace_http::Method::Get;
    let Ok(length) = response_body(&method, head.status, head.version, &head.fields) else { return };
    let mut written = Vec::new();
    write_response(&head, length, Version::Http11, &mut written);
    let mut again = ResponseHead::default();
    let roomy = Bounds { head_bytes_max: bounds.head_bytes_max + 4096, ..bounds };
    let read = parse_response(&written, &Bounds { fields_max: 256, ..roomy }, &mut again);
    assert_eq!(read, Ok(Head::Complete { bytes: written.len() }), "{:?}", String::from_utf8_lossy(&written));
    assert_eq!(again.status, head.status);
    if length != BodyLength::Empty {
        assert_eq!(response_body(&method, again.status, Version::Http11, &again.fields), Ok(length));
    }
}

fn holds_no_line_end(fields: &Fields) {
    for (name, value) in fields.iter() {
        assert!(!name.is_empty() && !name.iter().any(|byte| matches!(byte, 0..=32 | b':' | 127)), "{name:?}");
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{value:?}");
    }
}

/// The first byte says how many bytes the decoder is shown at once; the result must not depend on it.
pub(crate) fn chunked(data: &[u8]) {
    let Some((piece, body)) = data.split_first() else { return };
    assert_eq!(decoded(body, usize::from(*piece).max(1)), decoded(body, body.len().max(1)));
}

/// The data, and the bytes the body took; nothing for what is refused, or incomplete.
fn decoded(input: &[u8], piece: usize) -> Option<(Vec<u8>, usize)> {
    let mut decoder = ChunkedDecoder::new(512);
    let (mut data, mut at, mut end) = (Vec::new(), 0, 0);
    while end < input.len() {
        end = (end + piece).min(input.len());
        loop {
            match decoder.decode(&input[at..end]).ok()? {
                Decoded::Partial { framing } => {
                    at += framing;
                    assert_eq!(at, end, "all that was shown was taken");
                    break;
                }
                Decoded::Data { framing, data: bytes } => {
                    assert!(bytes > 0, "no progress");
                    data.extend_from_slice(&input[at + framing..at + framing + bytes]);
                    at += framing + bytes;
                }
                Decoded::End { framing } => {
                    let trailers = decoder.trailers().ok()?;
                    trailers.iter().for_each(holds_no_line_end);
                    return Some((data, at + framing));
                }
            }
        }
    }
    None
}

/// A path: its normal form is its own normal form, and hides no way up.
pub(crate) fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(normal) = normalise(text) else { return };
    assert_eq!(normalise(&normal).as_deref(), Ok(&*normal));
    assert!(normal.starts_with('/') && normal.is_ascii(), "{normal:?}");
    assert!(normal.bytes().all(|byte| byte > b' ' && byte != 127 && byte != b'#'), "{normal:?}");
    let seen = normal.replace("%2F", "/").replace("%5C", "/").replace('\\', "/");
    assert!(!seen.split('/').any(|segment| matches!(segment, "." | "..")), "{normal:?}");
}

/// A host and port: what is read is written so that it reads the same.
pub(crate) fn authority(data: &[u8]) {
    let Ok(authority) = Authority::parse(data) else { return };
    let mut host = String::new();
    authority.write_host(&mut host);
    let again = Authority::parse(host.as_bytes()).expect("a normal host is a host");
    assert_eq!(again.port, None);
    let mut twice = String::new();
    again.write_host(&mut twice);
    assert!(twice == host || host.ends_with('.'), "{host:?} {twice:?}");
    assert!(!host.contains(['@', '/', '?', '#', ' ', '\r', '\n']), "{host:?}");
}
