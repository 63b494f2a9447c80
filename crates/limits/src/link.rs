//! One connection to one Redis. It has said who it is, chosen its database and loaded the scripts before anybody is decided
//! about on it; after an error it is of no use any more and is dropped.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::resp::{self, Answer, Malformed};
use crate::scripts::Script;
use crate::url::RedisUrl;

/// For a connection to stand, TLS, login and scripts included.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// Why Redis is of no use at the moment. A retry may help with all of them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("it cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("no TLS with it: {0}")]
    Tls(String),
    #[error("it ended the connection")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("it did not answer within {0:?}")]
    Silent(Duration),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Its own words.
    #[error("it refuses: {0}")]
    Refused(String),
    #[error("it answers something else than the scripts of this version do")]
    Strange,
    #[error("its cluster sends us from machine to machine")]
    Scattered,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to a Redis.
pub(crate) struct Link {
    stream: Box<dyn Stream>,
    /// What came and was not read yet, from `read_at` on.
    came: Vec<u8>,
    read_at: usize,
    /// What each script is called there.
    hashes: Vec<Vec<u8>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("unread_bytes", &(self.came.len() - self.read_at))
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Connects to `host` and `port` as `url` says how.
    ///
    /// # Errors
    /// [`LinkError`] when it cannot be had within a second.
    pub(crate) async fn open(url: &RedisUrl, host: &str, port: u16) -> Result<Self, LinkError> {
        let opening = async {
            let stream = connect(url, host, port).await?;
            let mut link = Self { stream, came: Vec::new(), read_at: 0, hashes: Vec::new() };
            link.introduce(url).await?;
            Ok(link)
        };
        timeout(CONNECT_WITHIN, opening).await.map_err(|_| LinkError::Silent(CONNECT_WITHIN))?
    }

    async fn introduce(&mut self, url: &RedisUrl) -> Result<(), LinkError> {
        let database = url.database.to_string();
        let mut commands: Vec<Vec<&[u8]>> = Vec::new();
        match (&url.user, &url.password) {
            (Some(user), Some(password)) => {
                commands.push(vec![b"AUTH", user.as_bytes(), password.as_bytes()]);
            }
            (None, Some(password)) => commands.push(vec![b"AUTH", password.as_bytes()]),
            (_, None) => {}
        }
        if url.database != 0 {
            commands.push(vec![b"SELECT", database.as_bytes()]);
        }
        let before = commands.len();
        for script in Script::ALL {
            commands.push(vec![b"SCRIPT", b"LOAD", script.source().as_bytes()]);
        }
        let mut out = Vec::new();
        commands.iter().for_each(|parts| resp::push_command(&mut out, parts));
        self.send(&out).await?;
        for place in 0..commands.len() {
            match self.answer().await? {
                Answer::Error(error) => return Err(LinkError::Refused(error)),
                Answer::Text(hash) if place >= before => self.hashes.push(hash),
                Answer::Text(_) if place < before => {}
                _ => return Err(LinkError::Strange),
            }
        }
        Ok(())
    }

    /// What the script is called, for `EVALSHA`.
    pub(crate) fn hash(&self, script: Script) -> &[u8] {
        // Invariant: a link without the scripts is not handed out.
        self.hashes.get(script as usize).map_or(b"", Vec::as_slice)
    }

    /// Sends commands, as many as there are in `bytes`.
    ///
    /// # Errors
    /// [`LinkError`]; the link is of no use any more.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.stream.write_all(bytes).await.map_err(LinkError::Broken)?;
        self.stream.flush().await.map_err(LinkError::Broken)
    }

    /// Resolves when nothing is asked and the other side ends the connection, or says something unasked.
    pub(crate) async fn lost(&mut self) -> LinkError {
        match self.stream.read_buf(&mut self.came).await {
            Ok(0) => LinkError::Closed,
            Ok(_) => LinkError::Strange,
            Err(error) => LinkError::Broken(error),
        }
    }

    /// The answer to the first command that was not answered yet.
    ///
    /// # Errors
    /// [`LinkError`]; the link is of no use any more.
    pub(crate) async fn answer(&mut self) -> Result<Answer, LinkError> {
        loop {
            if let Some((answer, used)) = resp::parse(&self.came[self.read_at..])? {
                self.read_at += used;
                return Ok(answer);
            }
            self.came.drain(..self.read_at);
            self.read_at = 0;
            if self.stream.read_buf(&mut self.came).await.map_err(LinkError::Broken)? == 0 {
                return Err(LinkError::Closed);
            }
        }
    }
}

async fn connect(url: &RedisUrl, host: &str, port: u16) -> Result<Box<dyn Stream>, LinkError> {
    let stream = TcpStream::connect((host, port)).await.map_err(LinkError::Unreachable)?;
    stream.set_nodelay(true).map_err(LinkError::Unreachable)?;
    if !url.tls {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| LinkError::Tls(error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(trusting_the_system()?));
    let stream = connector.connect(name, stream).await.map_err(|error| LinkError::Tls(error.to_string()))?;
    Ok(Box::new(stream))
}

/// Read anew for each connection, of which there are few: what the system trusts may change.
fn trusting_the_system() -> Result<ClientConfig, LinkError> {
    let mut roots = RootCertStore::empty();
    let _unusable_ones_are_passed_over =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| LinkError::Tls(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
