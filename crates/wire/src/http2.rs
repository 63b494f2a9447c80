//! HTTP/2 (RFC 9113) through the `h2` crate: its heads turned into ours and back, its streams into bodies and sinks.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use terrace_http::{
    Authority, Bounds, Fields, Known, Method, ParseError, RequestHead, ResponseHead, Version, may_trail,
};

use crate::{Frame, WireError};

/// Turns the head of a request that came over HTTP/2 into ours. `Host` becomes what `:authority` says, and the pieces of
/// a cookie become one field again (RFC 9113 section 8.2.3).
///
/// # Errors
/// [`ParseError`] as for a request over HTTP/1.
pub fn read_request(
    parts: &http::request::Parts,
    bounds: &Bounds,
    head: &mut RequestHead,
) -> Result<(), ParseError> {
    head.clear();
    head.version = Version::Http2;
    head.method = Method::parse(parts.method.as_str());
    if parts.headers.len() > bounds.fields_max {
        return Err(ParseError::TooManyFields(bounds.fields_max));
    }
    read_authority(parts, head)?;
    read_fields(&parts.headers, &mut head.fields);
    if head.method == Method::Connect && parts.uri.path_and_query().is_none() {
        return Ok(());
    }
    let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    head.read_path(target, bounds)
}

fn read_authority(parts: &http::request::Parts, head: &mut RequestHead) -> Result<(), ParseError> {
    let mut hosts = parts.headers.get_all(http::header::HOST).iter();
    let named = match (parts.uri.authority(), hosts.next(), hosts.next()) {
        (Some(authority), host, None) => {
            // RFC 9113 section 8.3.1: a Host that differs makes the request malformed.
            if host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())) {
                return Err(ParseError::Host);
            }
            authority.as_str().as_bytes()
        }
        (None, Some(host), None) => host.as_bytes(),
        _ => return Err(ParseError::Host),
    };
    head.set_authority(&Authority::parse(named)?);
    head.fields.append(b"host", named);
    Ok(())
}

fn read_fields(headers: &HeaderMap, fields: &mut Fields) {
    let mut cookies = headers.get_all(http::header::COOKIE).iter();
    if let Some(first) = cookies.next() {
        let mut cookie = first.as_bytes().to_vec();
        for more in cookies {
            cookie.extend_from_slice(b"; ");
            cookie.extend_from_slice(more.as_bytes());
        }
        fields.append_known(Known::Cookie, &cookie);
    }
    for (name, value) in headers {
        if *name != http::header::COOKIE && *name != http::header::HOST {
            fields.append(name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

/// Our head as a request of HTTP/2.
///
/// # Errors
/// [`ParseError`] when a field, a target or a host that HTTP/1 allows is none in HTTP/2.
pub fn request(head: &RequestHead, scheme: &str) -> Result<http::Request<()>, ParseError> {
    let host = head.fields.text(Known::Host).unwrap_or_else(|| head.host());
    let target = match PathAndQuery::try_from(head.target()) {
        Ok(target) => target,
        Err(_) => PathAndQuery::try_from(encoded(head.target())).map_err(|_| ParseError::Target)?,
    };
    let uri = http::Uri::builder().scheme(scheme).authority(host).path_and_query(target);
    let mut request = http::Request::new(());
    *request.method_mut() = http::Method::from_bytes(head.method.as_str().as_bytes())
        .map_err(|_| ParseError::Syntax("method"))?;
    *request.uri_mut() = uri.build().map_err(|_| ParseError::Target)?;
    *request.version_mut() = http::Version::HTTP_2;
    write_fields(&head.fields, request.headers_mut())?;
    if let Some(trace_parent) = &head.trace_parent {
        let value = HeaderValue::from_bytes(trace_parent).map_err(|_| ParseError::Syntax("traceparent"))?;
        request.headers_mut().insert("traceparent", value);
    }
    Ok(request)
}

/// A target as HTTP/2 wants it: what HTTP/1 lets pass although no URI has it (`<`, `"`, `^`) is encoded.
fn encoded(target: &str) -> String {
    let mut encoded = String::with_capacity(target.len() + 16);
    for byte in target.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                let _infallible = write!(encoded, "%{byte:02X}");
            }
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

/// Our head as a response of HTTP/2.
///
/// # Errors
/// [`ParseError`] when a field or status that HTTP/1 allows is none in HTTP/2.
pub fn response(head: &ResponseHead) -> Result<http::Response<()>, ParseError> {
    let mut response = http::Response::new(());
    *response.status_mut() =
        http::StatusCode::from_u16(head.status).map_err(|_| ParseError::Syntax("status"))?;
    write_fields(&head.fields, response.headers_mut())?;
    if head.status == 204 || head.status < 200 {
        // RFC 9110 section 8.6: such a response has no length, not even one that there would be.
        response.headers_mut().remove(http::header::CONTENT_LENGTH);
    }
    Ok(response)
}

/// Turns the head of a response that came over HTTP/2 into ours.
pub fn read_response(parts: &http::response::Parts, head: &mut ResponseHead) {
    head.status = parts.status.as_u16();
    head.version = Version::Http2;
    head.fields.clear();
    for (name, value) in &parts.headers {
        head.fields.append(name.as_str().as_bytes(), value.as_bytes());
    }
}

/// Everything but what HTTP/2 says in other ways (RFC 9113 section 8.2.2).
fn write_fields(fields: &Fields, headers: &mut HeaderMap) -> Result<(), ParseError> {
    headers.reserve(fields.len());
    for (known, name, value) in fields.iter_known() {
        if known.is_some_and(is_of_connection) {
            continue;
        }
        if known == Some(Known::Te) && !value.eq_ignore_ascii_case(b"trailers") {
            continue;
        }
        let name = HeaderName::from_bytes(name).map_err(|_| ParseError::Syntax("field name"))?;
        let value = HeaderValue::from_bytes(value).map_err(|_| ParseError::Syntax("field value"))?;
        headers.append(name, value);
    }
    Ok(())
}

fn is_of_connection(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Host
    )
}

/// The body of a message that comes over HTTP/2. Its window opens again as its data is taken.
#[derive(Debug)]
pub struct Incoming {
    stream: RecvStream,
    taken_bytes: usize,
    state: Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Data,
    Trailers,
    Done,
}

impl Incoming {
    /// The body that `stream` gives.
    #[must_use]
    pub fn new(stream: RecvStream) -> Self {
        let state = if stream.is_end_stream() { Reading::Done } else { Reading::Data };
        Self { stream, taken_bytes: 0, state }
    }

    /// Whether nothing is left to be read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == Reading::Done
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// [`WireError::Http2`] when the stream was reset or the connection broke.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, WireError>> {
        self.release()?;
        loop {
            match self.state {
                Reading::Done => return Poll::Ready(Ok(None)),
                Reading::Data => match ready!(self.stream.poll_data(cx)).transpose()? {
                    Some(bytes) if bytes.is_empty() => {}
                    Some(bytes) => {
                        self.taken_bytes = bytes.len();
                        return Poll::Ready(Ok(Some(Frame::Data(bytes))));
                    }
                    None => self.state = Reading::Trailers,
                },
                Reading::Trailers => {
                    let trailers = ready!(self.stream.poll_trailers(cx))?;
                    self.state = Reading::Done;
                    return Poll::Ready(
                        Ok(trailers.map(|headers| Frame::Trailers(trailer_fields(&headers)))),
                    );
                }
            }
        }
    }

    /// What was taken at the last call has gone on: let as much come again.
    fn release(&mut self) -> Result<(), h2::Error> {
        let bytes = std::mem::take(&mut self.taken_bytes);
        if bytes == 0 { Ok(()) } else { self.stream.flow_control().release_capacity(bytes) }
    }
}

fn trailer_fields(headers: &HeaderMap) -> Fields {
    let mut fields = Fields::new();
    let may_stay = headers.iter().filter(|(name, _)| may_trail(name.as_str().as_bytes()));
    may_stay.for_each(|(name, value)| fields.append(name.as_str().as_bytes(), value.as_bytes()));
    fields
}

/// The body of a message that goes over HTTP/2, as far as the peer's window allows.
#[derive(Debug)]
pub struct Outgoing {
    stream: SendStream<Bytes>,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    end: End,
}

#[derive(Debug)]
enum End {
    Open,
    Asked(Option<Fields>),
    Sent,
}

impl Outgoing {
    /// A body sent on `stream`.
    #[must_use]
    pub fn new(stream: SendStream<Bytes>) -> Self {
        Self { stream, queue: VecDeque::new(), queued_bytes: 0, end: End::Open }
    }

    /// A message without a body: its end was sent with its head.
    #[must_use]
    pub fn ended(stream: SendStream<Bytes>) -> Self {
        Self { stream, queue: VecDeque::new(), queued_bytes: 0, end: End::Sent }
    }

    /// Adds data; it waits until [`Outgoing::poll_flush`].
    pub fn data(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.queued_bytes += bytes.len();
            self.queue.push_back(bytes);
        }
    }

    /// Ends the body.
    pub fn end(&mut self, trailers: Option<Fields>) {
        if matches!(self.end, End::Open) {
            self.end = End::Asked(trailers);
        }
    }

    /// Breaks the stream off.
    pub fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
        self.end = End::Sent;
    }

    /// Ready when the peer broke the stream off.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(drop)
    }

    /// Bytes that were given and that the peer's window has not taken yet.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Sends what was given, as far as the peer's window lets it.
    ///
    /// # Errors
    /// [`WireError::Http2`] when the stream was reset, [`WireError::Closed`] when it is over.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        while !self.queue.is_empty() {
            let room = ready!(self.poll_room(cx))?;
            self.send_data(room)?;
        }
        match std::mem::replace(&mut self.end, End::Sent) {
            End::Asked(Some(fields)) => self.send_trailers(&fields)?,
            End::Asked(None) => self.stream.send_data(Bytes::new(), true)?,
            open_or_sent => self.end = open_or_sent,
        }
        Poll::Ready(Ok(()))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, WireError>> {
        self.stream.reserve_capacity(self.queued_bytes);
        loop {
            let room = self.stream.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
                None => return Poll::Ready(Err(WireError::Closed)),
            }
        }
    }

    fn send_data(&mut self, room: usize) -> Result<(), WireError> {
        let Some(front) = self.queue.front_mut() else { return Ok(()) };
        let part = front.split_to(room.min(front.len()));
        if front.is_empty() {
            self.queue.pop_front();
        }
        self.queued_bytes -= part.len();
        let is_last = self.queue.is_empty() && matches!(self.end, End::Asked(None));
        if is_last {
            self.end = End::Sent;
        }
        Ok(self.stream.send_data(part, is_last)?)
    }

    fn send_trailers(&mut self, fields: &Fields) -> Result<(), WireError> {
        let mut headers = HeaderMap::new();
        write_fields(fields, &mut headers)?;
        Ok(self.stream.send_trailers(headers)?)
    }
}
