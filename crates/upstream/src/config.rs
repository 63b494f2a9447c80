//! What one service's upstream is told: plain values, already checked, that know no file format.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use terrace_policy::{EjectionLaw, Share};

use crate::id::IdentityKey;

/// How one service's endpoints are chosen, watched and connected to.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The service's name: labels of metrics and events, and half of each endpoint's identity.
    pub service: Arc<str>,
    /// The key of endpoint ids, kept by the caller over restarts.
    pub identity_key: IdentityKey,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// How long a new endpoint takes to its full share; zero gives it at once.
    pub slow_start: Duration,
    /// Ejection of endpoints whose answers fail; none switches it off and readmits all.
    pub ejection: Option<EjectionLaw>,
    /// With a smaller share than this of the ready endpoints healthy, all ready ones are used; none switches it off.
    pub panic_share: Option<Share>,
    /// Active checks; none switches them off.
    pub health: Option<HealthCheck>,
    /// Bounds on connections.
    pub connections: Connections,
    /// What is spoken to the endpoints.
    pub protocol: Protocol,
    /// TLS towards the endpoints; none speaks in the clear.
    pub tls: Option<TlsConfig>,
    /// The PROXY protocol header sent on each connection.
    pub proxy_protocol_out: ProxyProtocol,
    /// How long a connection may take to be established, TLS included; none waits as long as the system does.
    pub connect_timeout: Option<Duration>,
}

impl Config {
    /// The built-in settings of a service: least requests, ejection and panic mode on, no active checks.
    pub fn new(service: &str, identity_key: IdentityKey) -> Self {
        Self {
            service: service.into(),
            identity_key,
            balance: Balance::LeastRequests,
            slow_start: Duration::ZERO,
            ejection: Some(EjectionLaw::default()),
            panic_share: Some(Share::percent(50)),
            health: None,
            connections: Connections::default(),
            protocol: Protocol::Http1,
            tls: None,
            proxy_protocol_out: ProxyProtocol::Off,
            connect_timeout: Some(Duration::from_secs(1)),
        }
    }
}

/// How an endpoint is chosen among the available ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn; weights are not looked at.
    RoundRobin,
    /// In turn, as often as the weights say, evenly spread.
    Weighted,
    /// Of two drawn by weight, the one with fewer requests in flight. The default: it needs no tuning, and an
    /// endpoint that hangs fills up and is left alone.
    LeastRequests,
    /// Of two drawn by weight, the one with the smaller expected latency times requests in flight.
    PeakEwma,
    /// Drawn by weight.
    Random,
    /// By the hash handed in with each request, so that equal hashes meet the same endpoint (Maglev).
    Hash,
}

/// Bounds on the connections to each endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Open connections to one endpoint, over all cores.
    pub per_endpoint_max: u32,
    /// Idle connections that one core keeps to one endpoint.
    pub idle_per_core_max: u32,
    /// How long an idle connection is kept. Shorter than the endpoint's own keep-alive, or requests meet
    /// connections that are just being closed.
    pub idle_time: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Self { per_endpoint_max: 1024, idle_per_core_max: 512, idle_time: Duration::from_secs(4) }
    }
}

/// What is spoken to the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by prior knowledge in the clear, by ALPN over TLS.
    H2,
}

/// The PROXY protocol header that opens each connection to an endpoint (haproxy.org, proxy-protocol.txt).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// None is sent.
    Off,
    /// The line of version 1.
    V1,
    /// The binary header of version 2.
    V2,
}

/// TLS towards the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The name that certificates must carry; none takes each endpoint's host, or its address.
    pub server_name: Option<String>,
    /// Whose signatures are believed.
    pub roots: Roots,
    /// What Terrace shows of itself to endpoints that ask for it; none shows nothing.
    pub client: Option<ClientIdentity>,
}

/// The certificate with which Terrace says who it is.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The chain in PEM, Terrace's own certificate first.
    pub certificates_pem: Arc<[u8]>,
    /// Its private key in PEM.
    pub key_pem: Arc<[u8]>,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientIdentity({} bytes of certificates, key hidden)", self.certificates_pem.len())
    }
}

/// Certificate authorities that are believed.
#[derive(Clone, PartialEq, Eq)]
pub enum Roots {
    /// Those of the system.
    System,
    /// These certificates, in PEM.
    Pem(Arc<[u8]>),
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::Pem(pem) => write!(f, "Pem({} bytes)", pem.len()),
        }
    }
}

/// Active checks of every endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// From one check to the next; each wait is up to a tenth shorter or longer.
    pub interval: Duration,
    /// A check without an answer by then has failed.
    pub timeout: Duration,
    /// Passed checks in a row that bring an endpoint up; 0 counts as 1.
    pub up: u32,
    /// Failed checks in a row that take it down; 0 counts as 1.
    pub down: u32,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// That a connection can be established.
    Tcp,
    /// `GET path`, answered with a status of the range.
    Http {
        /// Origin form, beginning with a slash.
        path: Arc<str>,
        /// The `Host` field; none sends the endpoint's host or address.
        host: Option<Arc<str>>,
        /// The lowest and the highest status that passes.
        status: (u16, u16),
    },
}
