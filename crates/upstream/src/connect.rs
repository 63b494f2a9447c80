//! A new connection to an endpoint: TCP, then the PROXY protocol header if one is asked for, then TLS, then HTTP/2
//! if that is what the endpoint speaks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use terrace_runtime::timer::{Elapsed, Timer};
use terrace_wire::{Io, http1};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{Http1Link, Http2Link, Link};
use crate::config::{Protocol, ProxyProtocol};
use crate::endpoint::{ConnectionPermit, Endpoint};
use crate::proxy_header;
use crate::upstream::Settings;

/// Why no connection could be had. Nothing of a request was sent, so trying elsewhere is always safe.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint is at its bound of connections.
    #[error("the endpoint is at its bound of connections")]
    Full,
    /// It was not established in time.
    #[error("no connection within the connect timeout")]
    Timeout,
    /// What the operating system says.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// TLS could not be agreed, or the certificate is not believed.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// HTTP/2 could not be agreed.
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
}

/// Who is connected to whom in front of the proxy, for the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proxied {
    /// The client.
    pub source: SocketAddr,
    /// The listener it connected to.
    pub destination: SocketAddr,
}

/// Connects to `endpoint`, within the service's connect timeout.
pub(crate) async fn connect(
    settings: &Settings,
    endpoint: &Arc<Endpoint>,
    proxied: Proxied,
    timer: &mut Timer,
) -> Result<Link, ConnectError> {
    let permit = endpoint.open_connection().ok_or(ConnectError::Full)?;
    let until = match settings.config.connect_timeout {
        Some(timeout) => terrace_runtime::clock::now() + timeout,
        None => terrace_runtime::timer::NEVER,
    };
    match timer.run(until, establish(settings, permit, proxied)).await {
        Ok(link) => link,
        Err(Elapsed) => Err(ConnectError::Timeout),
    }
}

async fn establish(
    settings: &Settings,
    permit: ConnectionPermit,
    proxied: Proxied,
) -> Result<Link, ConnectError> {
    let endpoint = Arc::clone(permit.endpoint());
    let mut tcp = TcpStream::connect(endpoint.address()).await?;
    tcp.set_nodelay(true)?;
    if settings.config.proxy_protocol_out != ProxyProtocol::Off {
        tcp.write_all(&proxy_header::encode(settings.config.proxy_protocol_out, proxied)).await?;
    }
    let io = match &settings.tls {
        None => Io::from(tcp),
        Some(tls) => {
            let connector = TlsConnector::from(Arc::clone(tls.client_config()));
            Io::from(connector.connect(tls.server_name(&endpoint), tcp).await.map_err(ConnectError::Tls)?)
        }
    };
    match settings.config.protocol {
        Protocol::Http1 => Ok(Link::Http1(Box::new(Http1Link::new(http1::Connection::new(io), permit)))),
        Protocol::H2 => Ok(Link::Http2(Http2Link::open(io, permit).await?)),
    }
}
