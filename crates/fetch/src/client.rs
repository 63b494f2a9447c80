//! The client: whole answers within a bound of size and time, idle connections kept for each origin.
//!
//! Idle connections are kept, so that an exporter that speaks each second opens none each second, and whoever asks many
//! things at once opens as many as it asks at once. An
//! answer is read whole, within a bound and a time that counts from the first packet to the last. Redirects are not
//! followed, for a secret in a header would follow them; proxies of the environment are not asked, for the file says
//! where things go.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

/// An answer larger than this is refused.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Idle connections; the one that was used longest ago gives way.
const IDLE_MAX: usize = 64;
/// Idle connections to one origin, which as many requests at once have left behind.
const IDLE_PER_ORIGIN_MAX: usize = 16;
/// HTTP/2 has a silent peer answer a PING within that time; a request's own timeout is what its caller sees.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Why a request had no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The file's to put right. The address is not repeated: it may be a secret.
    #[error("its address is not usable: {0}")]
    Address(&'static str),
    /// A field of the file that HTTP does not allow; the value is not repeated.
    #[error("the field {0} is not one that HTTP allows")]
    Field(String),
    /// Certificates to be trusted that are none; the file's to put right.
    #[error("these certificates cannot be used: {0}")]
    Certificates(String),
    /// Theirs or the network's; a retry may help.
    #[error("cannot connect to {host}: {reason}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// Theirs, or the system's certificates'; a retry does not help soon.
    #[error(
        "no TLS with {host}: {reason}; check its certificate and the certificates that this system trusts"
    )]
    Tls {
        /// Host and port.
        host: String,
        /// What was wrong.
        reason: String,
    },
    /// Theirs; a retry may help, and may repeat what was done.
    #[error("{host} did not answer within {after:?}")]
    Timeout {
        /// Host and port.
        host: String,
        /// How long it was given.
        after: Duration,
    },
    /// Theirs; a retry may help, and may repeat what was done.
    #[error("{host} broke off: {reason}")]
    Broken {
        /// Host and port.
        host: String,
        /// What happened.
        reason: String,
    },
    /// Theirs; a retry does not help.
    #[error("the answer of {host} is larger than 1 MiB")]
    TooLarge {
        /// Host and port.
        host: String,
    },
}

impl ClientError {
    /// Whether the same request may fare better later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. } | Self::Broken { .. })
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Fields of its head.
    pub headers: HeaderMap,
    /// The body, at most 1 MiB.
    pub body: Bytes,
    /// Fields after the body.
    pub trailers: HeaderMap,
}

/// Makes requests. Cheap to clone; clones share their connections.
#[derive(Debug, Clone, Default)]
pub struct Client(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Used last, last.
    idle: Mutex<Vec<(Origin, Sender)>>,
    /// Trusted besides those of the system.
    more: Vec<CertificateDer<'static>>,
    /// Read from disk at the first need, for that takes a while.
    roots: OnceCell<Arc<RootCertStore>>,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    /// HTTP/1.1, or with TLS whichever of both the server prefers.
    Any,
    /// HTTP/2, without asking where there is no TLS.
    Http2,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    is_tls: bool,
    host: String,
    port: u16,
    speech: Speech,
}

/// A request before it is known which protocol carries it.
struct Message {
    method: Method,
    uri: Uri,
    host: HeaderValue,
    headers: HeaderMap,
    body: Bytes,
}

/// Why there is no answer, and whether anything was sent at all.
struct Unsent {
    error: hyper::Error,
    was_sent: bool,
}

type Body = Full<Bytes>;

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Client {
    /// A client without connections.
    pub fn new() -> Self {
        Self::default()
    }

    /// A client that trusts these certificates (PEM) besides those that the system trusts.
    ///
    /// # Errors
    /// [`ClientError::Certificates`] when there is none in it, or one that is not understood.
    pub fn trusting(pem: &[u8]) -> Result<Self, ClientError> {
        let mut more = Vec::new();
        for found in CertificateDer::pem_slice_iter(pem) {
            more.push(found.map_err(|error| ClientError::Certificates(error.to_string()))?);
        }
        if more.is_empty() {
            return Err(ClientError::Certificates("there is none in it".to_owned()));
        }
        Ok(Self(Arc::new(Inner { more, ..Inner::default() })))
    }

    /// Makes a request with any method and waits for the whole answer, whatever its status, at most `timeout` in all.
    ///
    /// # Errors
    /// [`ClientError`] says whose fault it is that there is no answer.
    pub async fn request(
        &self,
        method: Method,
        url: &str,
        headers: &[(String, String)],
        body: Bytes,
        timeout: Duration,
    ) -> Result<Answer, ClientError> {
        self.send(Speech::Any, method, url, headers, body, timeout).await
    }

    /// GETs an `http` or `https` address, as [`Client::request`].
    ///
    /// # Errors
    /// [`ClientError`] says whose fault it is that there is no answer.
    pub async fn get(
        &self,
        url: &str,
        headers: &[(String, String)],
        timeout: Duration,
    ) -> Result<Answer, ClientError> {
        self.send(Speech::Any, Method::GET, url, headers, Bytes::new(), timeout).await
    }

    /// POSTs `body` to an `http` or `https` address and waits for the whole answer, whatever its status, at most
    /// `timeout` in all.
    ///
    /// # Errors
    /// [`ClientError`] says whose fault it is that there is no answer.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(String, String)],
        body: Bytes,
        timeout: Duration,
    ) -> Result<Answer, ClientError> {
        self.send(Speech::Any, Method::POST, url, headers, body, timeout).await
    }

    /// [`Client::post`] over HTTP/2, as gRPC needs it.
    ///
    /// # Errors
    /// [`ClientError`] says whose fault it is that there is no answer.
    pub async fn post_http2(
        &self,
        url: &str,
        headers: &[(String, String)],
        body: Bytes,
        timeout: Duration,
    ) -> Result<Answer, ClientError> {
        self.send(Speech::Http2, Method::POST, url, headers, body, timeout).await
    }

    async fn send(
        &self,
        speech: Speech,
        method: Method,
        url: &str,
        headers: &[(String, String)],
        body: Bytes,
        timeout: Duration,
    ) -> Result<Answer, ClientError> {
        let (origin, message) = prepare(speech, method, url, headers, body)?;
        let host = origin.name();
        match tokio::time::timeout(timeout, self.exchange(origin, message)).await {
            Ok(answered) => answered,
            Err(_elapsed) => Err(ClientError::Timeout { host, after: timeout }),
        }
    }

    async fn exchange(&self, origin: Origin, message: Message) -> Result<Answer, ClientError> {
        let mut sender = match self.0.take(&origin) {
            Some(sender) => sender,
            None => self.connect(&origin).await?,
        };
        let response = match sender.send(&message).await {
            Ok(response) => response,
            // The connection had ended while it was idle, and nothing was sent on it.
            Err(Unsent { was_sent: false, .. }) => {
                sender = self.connect(&origin).await?;
                sender.send(&message).await.map_err(|unsent| origin.broken(&unsent.error))?
            }
            Err(unsent) => return Err(origin.broken(&unsent.error)),
        };
        let answer = read(&origin, response).await?;
        self.0.put(origin, sender);
        Ok(answer)
    }

    async fn connect(&self, origin: &Origin) -> Result<Sender, ClientError> {
        let unreachable =
            |error: io::Error| ClientError::Unreachable { host: origin.name(), reason: error.to_string() };
        let stream = TcpStream::connect((origin.host.as_str(), origin.port)).await.map_err(unreachable)?;
        // Without it a small request waits for an acknowledgement; that it fails costs no more than that.
        let _ = stream.set_nodelay(true);
        if !origin.is_tls {
            return handshake(origin, stream, origin.speech == Speech::Http2).await;
        }
        let connector = TlsConnector::from(self.tls(origin).await?);
        let refused = |reason: String| ClientError::Tls { host: origin.name(), reason };
        let name = ServerName::try_from(origin.host.clone()).map_err(|error| refused(error.to_string()))?;
        let stream = connector.connect(name, stream).await.map_err(|error| refused(error.to_string()))?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2") || origin.speech == Speech::Http2;
        handshake(origin, stream, is_http2).await
    }

    async fn tls(&self, origin: &Origin) -> Result<Arc<ClientConfig>, ClientError> {
        let roots = self.0.roots.get_or_try_init(|| async {
            let more = self.0.more.clone();
            let loaded =
                tokio::task::spawn_blocking(move || roots(&more)).await.map_err(|error| error.to_string());
            loaded.and_then(|roots| roots).map_err(|reason| ClientError::Tls { host: origin.name(), reason })
        });
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions of TLS")
            .with_root_certificates(Arc::clone(roots.await?))
            .with_no_client_auth();
        config.alpn_protocols = match origin.speech {
            Speech::Any => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Speech::Http2 => vec![b"h2".to_vec()],
        };
        Ok(Arc::new(config))
    }
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Vec<(Origin, Sender)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection that is not known to have ended.
    fn take(&self, origin: &Origin) -> Option<Sender> {
        let mut idle = self.idle();
        let at = idle.iter().rposition(|(known, _)| known == origin)?;
        let (_, sender) = idle.remove(at);
        (!sender.is_closed()).then_some(sender)
    }

    fn put(&self, origin: Origin, sender: Sender) {
        let mut idle = self.idle();
        idle.retain(|(_, sender)| !sender.is_closed());
        if idle.iter().filter(|(known, _)| *known == origin).count() >= IDLE_PER_ORIGIN_MAX {
            return;
        }
        if idle.len() >= IDLE_MAX {
            idle.remove(0);
        }
        idle.push((origin, sender));
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("idle", &self.idle().len()).finish_non_exhaustive()
    }
}

impl Origin {
    fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn broken(&self, error: &dyn std::error::Error) -> ClientError {
        // hyper's own words say what it did; its cause says what happened.
        let reason = match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        ClientError::Broken { host: self.name(), reason }
    }
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    async fn send(&mut self, message: &Message) -> Result<Response<Incoming>, Unsent> {
        let sent = match self {
            Self::Http1(sender) => {
                // Not ready means ended, for nobody else uses it; then sending says so.
                let _ = sender.ready().await;
                sender.try_send_request(message.for_http1()).await
            }
            Self::Http2(sender) => sender.try_send_request(message.for_http2()).await,
        };
        sent.map_err(|mut error| {
            let was_sent = error.take_message().is_none();
            Unsent { error: error.into_error(), was_sent }
        })
    }
}

impl Message {
    /// With the path alone (RFC 9112 section 3.2.1) and a Host field.
    fn for_http1(&self) -> Request<Body> {
        let path = self.uri.path_and_query().cloned();
        let mut request = self.request(path.map_or_else(Uri::default, Uri::from));
        request.headers_mut().insert(header::HOST, self.host.clone());
        request
    }

    /// With the whole address, which HTTP/2 takes apart (RFC 9113 section 8.3.1).
    fn for_http2(&self) -> Request<Body> {
        self.request(self.uri.clone())
    }

    fn request(&self, uri: Uri) -> Request<Body> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        request
    }
}

async fn handshake(
    origin: &Origin,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    is_http2: bool,
) -> Result<Sender, ClientError> {
    let io = TokioIo::new(stream);
    // A connection's task ends with its sender; what goes wrong is seen by whoever waits for an answer.
    if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(KEEP_ALIVE).max_header_list_size(64 << 10);
        let (sender, connection) = builder.handshake(io).await.map_err(|error| origin.broken(&error))?;
        tokio::spawn(connection);
        return Ok(Sender::Http2(sender));
    }
    let (sender, connection) = http1::handshake(io).await.map_err(|error| origin.broken(&error))?;
    tokio::spawn(connection);
    Ok(Sender::Http1(sender))
}

async fn read(origin: &Origin, response: Response<Incoming>) -> Result<Answer, ClientError> {
    let (head, body) = response.into_parts();
    let whole = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| match error
        .downcast_ref::<LengthLimitError>(
    ) {
        Some(_) => ClientError::TooLarge { host: origin.name() },
        None => origin.broken(error.as_ref()),
    })?;
    let trailers = whole.trailers().cloned().unwrap_or_default();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: whole.to_bytes(), trailers })
}

fn prepare(
    speech: Speech,
    method: Method,
    url: &str,
    fields: &[(String, String)],
    body: Bytes,
) -> Result<(Origin, Message), ClientError> {
    let uri: Uri = url.parse().map_err(|_| ClientError::Address("it is no URL"))?;
    let origin = origin(speech, &uri)?;
    let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let host = HeaderValue::from_str(host).map_err(|_| ClientError::Address("its host is no field value"))?;
    let mut headers = HeaderMap::with_capacity(fields.len() + 1);
    for (name, value) in fields {
        let refused = || ClientError::Field(name.clone());
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| refused())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok((origin, Message { method, uri, host, headers, body }))
}

fn origin(speech: Speech, uri: &Uri) -> Result<Origin, ClientError> {
    let is_tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(ClientError::Address("it must begin with http:// or https://")),
    };
    let authority = uri.authority().ok_or(ClientError::Address("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(ClientError::Address(
            "a name or password in it is not used; give an Authorization header",
        ));
    }
    let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() {
        return Err(ClientError::Address("it names no host"));
    }
    Ok(Origin { is_tls, host, port, speech })
}

/// Single certificates of the system that rustls does not understand are passed over, as browsers do.
fn roots(more: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots.add_parsable_certificates(more.iter().cloned());
    match (roots.is_empty(), found.errors.first()) {
        (false, _) => Ok(Arc::new(roots)),
        (true, Some(error)) => Err(format!("the system's certificates cannot be read: {error}")),
        (true, None) => Err("this system trusts no certificate; install ca-certificates".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::thread::JoinHandle;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A server that answers one connection for each script, once for each answer in it, and returns what it was sent.
    fn server(scripts: Vec<Vec<&'static str>>) -> (SocketAddr, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let serve = move || {
            let mut heard = Vec::new();
            for answers in scripts {
                let (mut stream, _) = listener.accept().expect("a connection");
                for answer in answers {
                    heard.push(hear(&mut stream));
                    stream.write_all(answer.as_bytes()).expect("it listens");
                }
            }
            heard
        };
        (address, std::thread::spawn(serve))
    }

    /// One request whose body is `!`.
    fn hear(stream: &mut std::net::TcpStream) -> String {
        let mut heard = Vec::new();
        let mut byte = [0];
        while !heard.ends_with(b"\r\n\r\n!") && stream.read(&mut byte).expect("readable") == 1 {
            heard.push(byte[0]);
        }
        String::from_utf8(heard).expect("text")
    }

    async fn post(client: &Client, address: SocketAddr) -> Result<Answer, ClientError> {
        let fields = [("X-Key".to_owned(), "secret".to_owned())];
        client.post(&format!("http://{address}/v1/x?y"), &fields, Bytes::from_static(b"!"), PATIENCE).await
    }

    /// A server with TLS that speaks what it is told to, and a client that trusts it.
    fn secure(alpn: &[&[u8]]) -> (Client, Arc<rustls::ServerConfig>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let client = Client::new();
        client.0.roots.set(Arc::new(roots)).expect("not read yet");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key =
            rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("the key is the certificate's");
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        (client, Arc::new(config))
    }

    /// Answers each request on each connection with its version.
    async fn serve_secure(config: Arc<rustls::ServerConfig>) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = tokio_rustls::TlsAcceptor::from(Arc::clone(&config)).accept(stream).await
                else {
                    continue;
                };
                let service = hyper::service::service_fn(async |request: Request<Incoming>| {
                    let said = format!("{:?} {}", request.version(), request.uri().path());
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(said))))
                });
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ended = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        });
        address
    }

    async fn post_secure(client: &Client, address: SocketAddr) -> Result<Bytes, ClientError> {
        let url = format!("https://localhost:{}/v1/x", address.port());
        client.post(&url, &[], Bytes::new(), PATIENCE).await.map(|answer| answer.body)
    }

    #[tokio::test]
    async fn a_server_with_tls_is_spoken_to_as_it_prefers() {
        for (alpn, expected) in [(&[&b"h2"[..], b"http/1.1"][..], "HTTP/2.0 /v1/x"), (&[], "HTTP/1.1 /v1/x")]
        {
            let (client, config) = secure(alpn);
            let address = serve_secure(config).await;
            assert_eq!(post_secure(&client, address).await.expect("answered"), expected);
        }
    }

    #[tokio::test]
    async fn a_certificate_that_nobody_vouches_for_is_refused_for_good() {
        let ((stranger, _), (_, config)) = (secure(&[]), secure(&[]));
        let address = serve_secure(config).await;
        let error = post_secure(&stranger, address).await.expect_err("refused");
        assert!(matches!(error, ClientError::Tls { .. }) && !error.is_retryable(), "{error}");
    }

    #[tokio::test]
    async fn requests_at_once_leave_as_many_connections_for_the_next() {
        const AT_ONCE: usize = 4;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (accepted, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Barrier::new(AT_ONCE)));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Relaxed);
                let all = Arc::clone(&all);
                let service = hyper::service::service_fn(move |_: Request<Incoming>| {
                    let all = Arc::clone(&all);
                    async move {
                        // Each is answered when all have been asked.
                        all.wait().await;
                        Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from_static(b"hi"))))
                    }
                });
                let builder = hyper::server::conn::http1::Builder::new();
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        let client = Client::new();
        for _ in 0..3 {
            let mut asking = tokio::task::JoinSet::new();
            for _ in 0..AT_ONCE {
                let client = client.clone();
                asking.spawn(async move { post(&client, address).await.expect("answered").status });
            }
            assert_eq!(asking.join_all().await, [200; AT_ONCE]);
        }
        assert_eq!(accepted.load(Relaxed), AT_ONCE);
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\nhi";

    #[tokio::test]
    async fn two_requests_share_a_connection() {
        let (address, server) = server(vec![vec![OK, OK]]);
        let client = Client::new();
        for _ in 0..2 {
            let answer = post(&client, address).await.expect("answered");
            assert_eq!((answer.status, &answer.body[..]), (200, &b"hi"[..]));
            assert_eq!(answer.headers["retry-after"], "7");
        }
        let heard = server.join().expect("no panic").remove(1);
        assert!(heard.starts_with("POST /v1/x?y HTTP/1.1\r\n"), "{heard}");
        assert!(
            heard.contains(&format!("host: {address}\r\n")) && heard.contains("x-key: secret\r\n"),
            "{heard}"
        );
    }

    #[tokio::test]
    async fn a_connection_that_ended_meanwhile_costs_nothing() {
        let (address, server) = server(vec![vec![OK], vec![OK]]);
        let client = Client::new();
        post(&client, address).await.expect("answered");
        while !client.0.idle().iter().all(|(_, sender)| sender.is_closed()) {
            tokio::task::yield_now().await;
        }
        post(&client, address).await.expect("answered on another connection");
        assert_eq!(server.join().expect("no panic").len(), 2);
    }

    #[tokio::test]
    async fn a_server_that_breaks_off_is_told_and_is_no_time_out() {
        let (address, server) = server(vec![vec!["HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi"]]);
        let error = post(&Client::new(), address).await.expect_err("half an answer");
        assert!(matches!(&error, ClientError::Broken { .. }) && error.is_retryable(), "{error}");
        server.join().expect("no panic");
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_told_with_its_address() {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
        let error = post(&Client::new(), address).await.expect_err("nobody is there");
        assert!(error.is_retryable() && error.to_string().contains(&address.to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up_after_the_time() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let soon = Duration::from_millis(1);
        let error = Client::new().post(&url, &[], Bytes::new(), soon).await.expect_err("silence");
        assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_answer_without_end_is_refused() {
        let (address, server) = server(vec![vec!["HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"]]);
        let error = post(&Client::new(), address).await.expect_err("too large");
        assert!(matches!(error, ClientError::Broken { .. } | ClientError::TooLarge { .. }), "{error}");
        server.join().expect("no panic");
    }

    #[tokio::test]
    async fn a_secret_in_an_address_or_field_is_in_no_error() {
        let client = Client::new();
        for url in ["hunter2", "ftp://x/hunter2", "http://joe:hunter2@localhost/", "http://:80/hunter2"] {
            let error = client.post(url, &[], Bytes::new(), PATIENCE).await.expect_err("refused");
            assert!(!error.is_retryable() && !format!("{error:?} {error}").contains("hunter2"), "{error}");
        }
        let fields = [("X-Key".to_owned(), "hunter2\n".to_owned())];
        let error =
            client.post("http://localhost/", &fields, Bytes::new(), PATIENCE).await.expect_err("refused");
        assert_eq!(error.to_string(), "the field X-Key is not one that HTTP allows");
    }
}
