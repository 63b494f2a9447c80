//! Authorities that issue certificates ask back before they do: is whoever asks for a certificate really at that host? They
//! ask over plain HTTP (HTTP-01, RFC 8555 section 8.3) or in a handshake that offers one protocol only (TLS-ALPN-01,
//! RFC 8737), and nothing may stand between them and the answer: no redirect, no route, no policy. A question that is not
//! ours to answer goes the way of any request, for the app behind may have certificates issued by itself.
//!
//! Here is also what happens to a client that asks for a host whose certificate is not there yet: it waits in the
//! handshake while one may come soon, and is else told that there is none (alert `unrecognized_name`, RFC 6066 section 3).
//! A certificate that nobody vouches for is never shown in its place: that would teach people to click warnings away.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{Acceptor, ClientHello};
use rustls::sign::SingleCertAndKey;
use terrace_http::{Method, RequestHead};
use terrace_runtime::timer::Timer;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::server::{StartHandshake, TlsStream};
use tokio_rustls::{Accept, LazyConfigAcceptor};

use crate::chain::Way;
use crate::config::Purpose;
use crate::listener::see_off;
use crate::tls::{Certificates, Pair, TlsError, unchecked};

/// Where an authority asks over HTTP; the token follows.
const PATH: &str = "/.well-known/acme-challenge/";
/// Tokens that are looked at: at least 128 bits in base64url (RFC 8555 section 8.3), and no path to anywhere.
const TOKEN_BYTES_MAX: usize = 128;
/// The one protocol of a handshake that is a question (RFC 8737 section 6.2).
const ALPN: &[u8] = b"acme-tls/1";
/// A TLS record with the fatal alert `unrecognized_name` (RFC 8446 sections 5.1 and 6).
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];
/// So much of a handshake's time is left to say that no certificate came.
const TO_SAY_SO: Duration = Duration::from_millis(250);

/// What an [`Issuer`] finds out beside the requests.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Has certificates issued by an authority, and knows what to answer when it asks back.
pub trait Issuer: Send + Sync + fmt::Debug {
    /// What an authority is told that asks for this token over HTTP; nothing for a token that is not ours.
    fn http_answer<'a>(&'a self, token: &'a str) -> Later<'a, Option<String>>;

    /// The certificate that an authority is shown which asks for this host (RFC 8737 section 3); nothing when nobody
    /// wants one issued just now.
    fn tls_answer<'a>(&'a self, host: &'a str) -> Later<'a, Option<Pair>>;

    /// Told of a client that asks for this host, which has no certificate. Whether one may be there within seconds, so
    /// that waiting is worth it.
    fn is_coming(&self, host: &str) -> bool;
}

/// An authority's question over HTTP.
pub(crate) struct Question {
    issuer: Arc<dyn Issuer>,
    token: String,
}

impl Question {
    /// The question that a request is, where certificates are issued at all.
    pub(crate) fn of(way: Way<'_>, head: &RequestHead) -> Option<Self> {
        let issuer = way.snapshot.issuer.as_ref()?;
        let token = token(head)?;
        let is_from_outside = !matches!(way.listener.config.purpose, Purpose::Internal { .. });
        is_from_outside.then(|| Self { issuer: Arc::clone(issuer), token: token.to_owned() })
    }

    /// What is answered; nothing where it is not ours to answer.
    pub(crate) fn answer(&self) -> Later<'_, Option<String>> {
        self.issuer.http_answer(&self.token)
    }
}

fn token(head: &RequestHead) -> Option<&str> {
    let token = head.path().strip_prefix(PATH)?;
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_token = (1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(is_base64url);
    (is_token && matches!(head.method, Method::Get | Method::Head)).then_some(token)
}

/// What a handshake came to.
pub(crate) enum Handshake {
    /// A client that can be served.
    Client(Box<TlsStream<TcpStream>>),
    /// An authority's question, which was answered.
    Answered,
    /// Neither.
    Failed,
}

/// Takes the handshake of a listener whose certificates an authority issues. It ends by the moment `until`, or is given up
/// then by the caller.
pub(crate) async fn accept(
    stream: TcpStream,
    certificates: &Certificates,
    issuer: &dyn Issuer,
    until: Duration,
) -> Handshake {
    let Ok(mut start) = LazyConfigAcceptor::new(Acceptor::default(), stream).await else {
        return Handshake::Failed;
    };
    let name = start.client_hello().server_name().map(str::to_ascii_lowercase);
    let is_question = is_question(&start.client_hello());
    if is_question && let Some(config) = answer(issuer, name.as_deref()).await {
        return finish(start, config).await;
    }
    if is_question || !is_there(certificates, issuer, name.as_deref(), until).await {
        let _gone_either_way = start.io.write_all(&UNRECOGNIZED_NAME).await;
        see_off(start.io).await;
        return Handshake::Failed;
    }
    shake(start.into_stream(certificates.server_config())).await
}

/// Takes a handshake to its end; a client that is refused is told why.
pub(crate) async fn shake(handshake: Accept<TcpStream>) -> Handshake {
    match handshake.into_fallible().await {
        Ok(stream) => Handshake::Client(Box::new(stream)),
        Err((_, stream)) => {
            see_off(stream).await;
            Handshake::Failed
        }
    }
}

fn is_question(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut offered| offered.next() == Some(ALPN) && offered.next().is_none())
}

/// Whether there is a certificate to be shown, if need be after a while.
async fn is_there(
    certificates: &Certificates,
    issuer: &dyn Issuer,
    name: Option<&str>,
    until: Duration,
) -> bool {
    match name {
        Some(name) if certificates.has(name) => true,
        Some(name) if issuer.is_coming(name) => {
            let waited = Timer::new().run(until.saturating_sub(TO_SAY_SO), certificates.wait_for(name)).await;
            waited.unwrap_or(false)
        }
        // As with certificates from files: who asks for nobody or a stranger meets the first one.
        Some(_) | None => certificates.has_any(),
    }
}

/// How a question is answered, if it is ours to answer.
async fn answer(issuer: &dyn Issuer, name: Option<&str>) -> Option<Arc<ServerConfig>> {
    let pair = issuer.tls_answer(name?).await?;
    config_of(&pair).ok()
}

/// Answers a question: the handshake is the answer.
async fn finish(start: StartHandshake<TcpStream>, config: Arc<ServerConfig>) -> Handshake {
    match start.into_stream(config).await {
        Ok(mut stream) => {
            // Nothing else is ever sent on it (RFC 8737 section 3).
            let _gone_either_way = stream.shutdown().await;
            Handshake::Answered
        }
        Err(_) => Handshake::Failed,
    }
}

fn config_of(pair: &Pair) -> Result<Arc<ServerConfig>, TlsError> {
    // It holds an extension that only authorities know, and would be refused by whoever looks into it.
    let shown = Arc::new(SingleCertAndKey::from(unchecked(pair)?));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols.push(ALPN.to_vec());
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use terrace_http::{Bounds, parse_request};

    use super::*;

    fn asked(line: &str) -> Option<String> {
        let mut head = RequestHead::new();
        let text = format!("{line} HTTP/1.1\r\nHost: a.example\r\n\r\n");
        parse_request(text.as_bytes(), &Bounds::default(), &mut head).expect("valid");
        token(&head).map(str::to_owned)
    }

    #[test]
    fn rfc8555_8_3_only_a_token_in_its_place_is_a_question() {
        assert_eq!(asked("GET /.well-known/acme-challenge/Ab-_9").as_deref(), Some("Ab-_9"));
        assert_eq!(asked("HEAD /.well-known/acme-challenge/a").as_deref(), Some("a"));
        let long = format!("GET /.well-known/acme-challenge/{}", "a".repeat(129));
        for other in [
            "POST /.well-known/acme-challenge/a",
            "GET /.well-known/acme-challenge/",
            "GET /.well-known/acme-challenge/a/b",
            "GET /.well-known/acme-challenge/a.b",
            "GET /.well-known/acme-challenge/a%20b",
            "GET /x/.well-known/acme-challenge/a",
            "GET /",
            &long,
        ] {
            assert_eq!(asked(other), None, "{other}");
        }
    }
}
