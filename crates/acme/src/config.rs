//! What the component is told: plain values, already checked, that know no file.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Whose certificates are looked after, and where they come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Who issues them; none where no listener has certificates issued.
    pub authority: Option<Authority>,
    /// The hosts of each listener whose certificates are issued.
    pub listeners: Vec<Listener>,
    /// Certificates that come from elsewhere: only when they end is looked after.
    pub foreign: Vec<Foreign>,
}

/// Who issues certificates, and how it is spoken to.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// Its directory (RFC 8555 section 7.1.1), an `https` URL.
    pub directory: String,
    /// Where it may write to the operator.
    pub email: Option<String>,
    /// Certificates that its own server is checked with besides those that the system trusts, in PEM.
    pub roots_pem: Option<Vec<u8>>,
    /// Ties the account to one that was opened elsewhere (RFC 8555 section 7.3.4).
    pub external_account: Option<ExternalAccount>,
    /// Where account and certificates are kept; machines that have it in common have them in common.
    pub folder: PathBuf,
    /// How it may convince itself that a host is ours, the preferred way first; never empty.
    pub challenges: Vec<Challenge>,
    /// So long before its end a certificate is renewed, at most a third of its lifetime. None: 30 days, unless the
    /// authority says when (RFC 9773).
    pub renew_before: Option<Duration>,
    /// Order a host's certificate when it is first asked for, each its own, instead of all of a listener's beforehand.
    pub on_demand: bool,
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Authority")
            .field("directory", &self.directory)
            .field("folder", &self.folder)
            .field("challenges", &self.challenges)
            .field("renew_before", &self.renew_before)
            .field("on_demand", &self.on_demand)
            .finish_non_exhaustive()
    }
}

/// A name and a secret that an authority handed out by another way.
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The name of the key.
    pub id: String,
    /// The key for HMAC, decoded.
    pub key: Vec<u8>,
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ExternalAccount({:?}, key hidden)", self.id)
    }
}

/// How an authority convinces itself that a host is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Challenge {
    /// It asks over plain HTTP at port 80 (RFC 8555 section 8.3).
    Http01,
    /// It asks in a TLS handshake at port 443 (RFC 8737).
    TlsAlpn01,
}

impl Challenge {
    /// As the RFCs write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

/// A listener and the hosts that are reached through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Names of DNS in lower case, none twice, no wildcards.
    pub hosts: Vec<String>,
}

/// A certificate that comes from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The listener that shows it.
    pub listener: String,
    /// The chain in PEM, its own certificate first.
    pub certificates_pem: Vec<u8>,
}
