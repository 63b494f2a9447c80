//! One check of one endpoint: a connection, and over it perhaps one `GET`.
//!
//! Checks make their own connections, so that they see what a new connection sees, and say `Connection:
//! close`. Only the status line of the answer is looked at, within a bound of bytes. An upstream that expects
//! a PROXY header gets one that says it is no client's connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::{Probe, Protocol, ProxyProtocol};
use crate::endpoint::Endpoint;
use crate::upstream::Settings;

/// A response head longer than this fails the check.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the body that are read and thrown away, so that closing does not reset the endpoint's sending.
const BODY_BYTES_MAX: u64 = 64 * 1024;
/// … and for how long: an endpoint that keeps the connection open has answered all the same.
const BODY_TIME_MAX: Duration = Duration::from_millis(100);
const PROXY_V1: &[u8] = b"PROXY UNKNOWN\r\n";
/// Version 2, command LOCAL, no addresses.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

/// Why a check failed; in each case the endpoint's fault.
#[derive(Debug, Error)]
pub(crate) enum ProbeError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    #[error("its answer is not HTTP")]
    NotHttp,
    #[error("status {0}")]
    Status(u16),
    #[error("no answer in time")]
    Timeout,
}

/// What is asked over a connection.
struct Question<'a> {
    path: &'a str,
    host: &'a str,
}

/// Checks once. The caller bounds the time.
pub(crate) async fn probe(endpoint: &Endpoint, settings: &Settings, probe: &Probe) -> Result<(), ProbeError> {
    let mut tcp = TcpStream::connect(endpoint.address()).await.map_err(ProbeError::Connect)?;
    tcp.write_all(proxy_header(settings.config.proxy_protocol_out)).await?;
    let Some(tls) = &settings.tls else {
        return ask(tcp, endpoint, settings.config.protocol, probe).await;
    };
    let connector = TlsConnector::from(Arc::clone(tls.client_config()));
    let stream = connector.connect(tls.server_name(endpoint), tcp).await.map_err(ProbeError::Tls)?;
    ask(stream, endpoint, settings.config.protocol, probe).await
}

fn proxy_header(version: ProxyProtocol) -> &'static [u8] {
    match version {
        ProxyProtocol::Off => b"",
        ProxyProtocol::V1 => PROXY_V1,
        ProxyProtocol::V2 => PROXY_V2,
    }
}

async fn ask<S>(stream: S, endpoint: &Endpoint, protocol: Protocol, probe: &Probe) -> Result<(), ProbeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Probe::Http { path, host, status } = probe else { return Ok(()) };
    let own_host = match endpoint.host() {
        Some(host) => host.to_string(),
        None => endpoint.address().to_string(),
    };
    let question = Question { path, host: host.as_deref().unwrap_or(&own_host) };
    let answer = match protocol {
        Protocol::Http1 => get_http1(stream, &question).await?,
        Protocol::H2 => get_http2(stream, &question).await?,
    };
    let (least, most) = *status;
    if (least..=most).contains(&answer) { Ok(()) } else { Err(ProbeError::Status(answer)) }
}

async fn get_http1<S>(mut stream: S, question: &Question<'_>) -> Result<u16, ProbeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Question { path, host } = question;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: terrace-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let status = read_status(&mut stream).await?;
    // The verdict stands; what becomes of the rest does not change it.
    let mut rest = stream.take(BODY_BYTES_MAX);
    let _ = tokio::time::timeout(BODY_TIME_MAX, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    Ok(status)
}

async fn get_http2<S>(stream: S, question: &Question<'_>) -> Result<u16, ProbeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sender, connection) = h2::client::handshake(stream).await?;
    let uri = http::Uri::builder().scheme("http").authority(question.host).path_and_query(question.path);
    let request = uri.build().and_then(|uri| http::Request::get(uri).body(()));
    // Path and host were checked with the configuration; one that is no URI after all can only fail.
    let request = request.map_err(|_| ProbeError::NotHttp)?;
    let exchange = async {
        let (response, _) = sender.ready().await?.send_request(request, true)?;
        Ok(response.await?.status().as_u16())
    };
    tokio::select! {
        status = exchange => status,
        closed = connection => match closed {
            Ok(()) => Err(ProbeError::NotHttp),
            Err(error) => Err(ProbeError::Http2(error)),
        },
    }
}

/// The status of the first response that is not an interim one (RFC 9110, section 15.2).
async fn read_status<S: AsyncRead + Unpin>(stream: &mut S) -> Result<u16, ProbeError> {
    let mut head = Vec::with_capacity(1024);
    let mut bytes_left = HEAD_BYTES_MAX as u64;
    loop {
        while let Some(length) = memchr::memmem::find(&head, b"\r\n\r\n") {
            let status = parse_status(&head)?;
            if status >= 200 {
                return Ok(status);
            }
            head.drain(..length + 4);
        }
        let read = stream.take(bytes_left).read_buf(&mut head).await?;
        if read == 0 {
            return Err(ProbeError::NotHttp);
        }
        bytes_left -= read as u64;
    }
}

/// `HTTP/1.x NNN …` (RFC 9112, section 4).
fn parse_status(head: &[u8]) -> Result<u16, ProbeError> {
    let digits = match head {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', a, b, c, b' ' | b'\r', ..] => [a, b, c],
        _ => return Err(ProbeError::NotHttp),
    };
    let mut status = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(ProbeError::NotHttp);
        }
        status = status * 10 + u16::from(digit - b'0');
    }
    if status >= 100 { Ok(status) } else { Err(ProbeError::NotHttp) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    async fn status_of(mut bytes: &[u8]) -> Option<u16> {
        read_status(&mut bytes).await.ok()
    }

    #[tokio::test]
    async fn the_status_of_the_final_response_is_the_answer() {
        assert_eq!(status_of(b"HTTP/1.1 204 No Content\r\n\r\n").await, Some(204));
        assert_eq!(status_of(b"HTTP/1.0 503\r\nA: b\r\n\r\nbody").await, Some(503));
        assert_eq!(status_of(b"HTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").await, Some(200));
    }

    #[tokio::test]
    async fn what_is_not_http_is_no_answer() {
        for odd in [
            &b"SSH-2.0-OpenSSH\r\n\r\n"[..],
            b"HTTP/1.1 2x0 OK\r\n\r\n",
            b"HTTP/1.1 099 X\r\n\r\n",
            b"",
            b"HTTP/1.1 200 OK\r\n",
        ] {
            assert_eq!(status_of(odd).await, None, "{}", String::from_utf8_lossy(odd));
        }
    }

    #[tokio::test]
    async fn an_endless_head_is_given_up() {
        let endless = b"HTTP/1.1 200 OK\r\n".iter().copied().chain(std::iter::repeat_n(b'a', 1 << 20));
        let endless: Vec<u8> = endless.collect();
        let mut rest = &endless[..];
        assert!(read_status(&mut rest).await.is_err());
        assert!(endless.len() - rest.len() <= HEAD_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn any_head_is_read_without_a_panic(head: Vec<u8>) {
            let _ = parse_status(&head);
        }
    }
}
