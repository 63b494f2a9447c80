//! `[listen.NAME]`: where clients connect.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use terrace_edge::Pair;

use super::acme::CertifiedHost;
use super::problem::Finding;
use super::read::{OneOrMany, Read, Reader, any, choice, table};
use super::route::Route;
use super::source::Origin;
use super::tree::Node;
use super::values::{ByteRate, FilePath, Network, Secret, SecretSource, Size};

table! {
    /// Where clients connect. Without any `[listen.*]` there is one, `public`, at `0.0.0.0:8080` without TLS.
    pub(crate) struct ListenTable {
        /// Address, or a list of them.
        "address" address: OneOrMany<SocketAddr>, example "0.0.0.0:8443";
        /// Where the certificate for TLS comes from.
        "tls" tls: TlsMode = "off";
        /// PEM file with the certificate and its chain; for `tls = "files"`.
        "certificate" certificate: Option<FilePath>, example "web.pem";
        /// The certificate's private key, as PEM; for `tls = "files"`.
        "key" key: Option<SecretSource>, example { file = "web.key" };
        /// Further certificates. Each connection gets the one that names the host it asks for.
        "certificates" certificates: Vec<CertificateTable>, example [{ certificate = "b.pem", key = { file = "b.key" } }];
        /// Address, or a list of them, at which plain HTTP is answered with a redirect (308) to here. Needs TLS.
        "redirect-from" redirect_from: Option<OneOrMany<SocketAddr>>, example "0.0.0.0:8080";
        /// Offer HTTP/2, by ALPN and to clients that know beforehand.
        "http2" http2: bool = true;
        /// Hosts that certificates are issued for besides those that routes name; for `tls = "acme"`.
        "hosts" hosts: Vec<CertifiedHost>, example ["shop.example.com"];
        /// Ask clients for certificates, and believe those of one's own authority (mutual TLS). Who a client is can then be
        /// told by it, see `auth`.
        "client-certificates" client_certificates: Option<ClientCertificatesTable>, example { ca = "clients.pem" };
        /// A PROXY protocol header, which every connection must then begin with.
        "proxy-protocol" proxy_protocol: ProxyProtocolIn = "off";
        /// Networks of the proxies in front whose `Forwarded`, `X-Forwarded-*`, `X-Request-Id` and PROXY headers are believed.
        "trusted-proxies" trusted_proxies: Vec<Network>, example ["10.0.0.0/8"];
        /// What one client can take up.
        "bounds" bounds: BoundsTable = {};
    }
}

table! {
    /// A certificate with its key.
    pub(crate) struct CertificateTable {
        /// PEM file with the certificate and its chain.
        "certificate" certificate: FilePath, example "b.pem";
        /// The private key, as PEM.
        "key" key: SecretSource, example { file = "b.key" };
    }
}

table! {
    /// Certificates of clients. The files are followed when they change; who is connected stays so, and nobody resumes a
    /// session that was agreed under the former ones.
    pub(crate) struct ClientCertificatesTable {
        /// PEM file with the authorities that vouch for clients.
        "ca" ca: FilePath, example "clients.pem";
        /// Whether who shows none is let in; what is shown must be good.
        "demand" demand: DemandWord = "required";
        /// PEM file with lists of certificates that do not hold any more (CRL), of each authority in `ca`.
        "revoked" revoked: Option<FilePath>, example "revoked.pem";
    }
}

table! {
    /// What one client can take up. Whoever asks for more gets 431, 414, 408 or a closed connection.
    pub(crate) struct BoundsTable {
        /// All fields of a request's head together.
        "header-bytes" header_bytes: Size = "32KiB", within "1KiB" to "1MiB";
        /// Fields of a request's head.
        "header-count" header_count: u32 = 100, within 1 to 256;
        /// Path and query.
        "uri-bytes" uri_bytes: Size = "8KiB", within "64B" to "256KiB";
        /// Until a request's head is complete.
        "header-time" header_time: Duration = "10s", within "10ms" to "10m";
        /// Slowest request body, as an average after a grace of ten seconds. `"0B/s"`: any.
        "body-rate" body_rate: ByteRate = "256B/s";
        /// A connection without a request is closed after this.
        "idle" idle: Duration = "75s", within "10ms" to "1d";
        /// Connections of this listener.
        "connections" connections: u32 = 10000, within 1 to 1000000;
        /// Connections of one client address.
        "connections-per-client" connections_per_client: u32 = 1000, within 1 to 1000000;
        /// Requests at a time on one HTTP/2 connection.
        "streams" streams: u32 = 128, within 1 to 10000;
        /// Requests that one HTTP/2 connection may cancel in 10 seconds.
        "resets" resets: u32 = 100, within 1 to 100000;
    }
}

choice! {
    /// Where the certificate comes from.
    pub(crate) enum TlsMode {
        /// Plain HTTP.
        "off" Off,
        /// A self-signed certificate, made when Terrace starts; for development.
        "dev" Dev,
        /// From `certificate`, `key` and `certificates`, followed when the files change.
        "files" Files,
        /// From an authority, see `[acme]`.
        "acme" Acme,
    }
}

choice! {
    /// Whether a client must show a certificate.
    pub enum DemandWord {
        /// Without one it is let in all the same.
        "optional" Optional,
        /// Without one there is no connection.
        "required" Required,
    }
}

choice! {
    /// Versions of the PROXY protocol that are accepted.
    pub enum ProxyProtocolIn {
        /// No header.
        "off" Off,
        /// The header as text.
        "v1" V1,
        /// The binary header.
        "v2" V2,
        /// Either.
        "any" Any,
    }
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Its name in the file.
    pub name: String,
    /// At least one.
    pub addresses: Vec<SocketAddr>,
    /// Whether and with which certificates.
    pub tls: Tls,
    /// Where plain HTTP is redirected to this listener from; empty without TLS.
    pub redirect_from: Vec<SocketAddr>,
    /// Whether clients are asked for certificates.
    pub clients: Option<ClientCertificates>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// The PROXY header that every connection begins with.
    pub proxy_protocol: ProxyProtocolIn,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// What one client can take up.
    pub bounds: Bounds,
}

/// How a listener speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// It does not.
    Off,
    /// With a self-signed certificate.
    Dev,
    /// With these; the first is for clients that name no host, or one that no certificate names.
    Files(Vec<Certificate>),
    /// With those that the authority of `[acme]` issues, for these hosts besides those that routes name.
    Acme(Vec<String>),
}

/// Certificates that clients are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities that vouch for them, as PEM.
    pub authorities_pem: String,
    /// Whether a client must show one.
    pub demand: DemandWord,
    /// Lists of those that do not hold any more, as PEM.
    pub revoked_pem: Option<String>,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The file it was read from.
    pub file: PathBuf,
    /// Certificate and chain as PEM.
    pub chain_pem: String,
    /// Private key as PEM.
    pub key: Secret,
}

/// What one client can take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// All fields of a head together.
    pub header_bytes_max: u64,
    /// Fields of a head.
    pub header_count_max: u32,
    /// Path and query.
    pub uri_bytes_max: u64,
    /// Until a head is complete.
    pub header_time_max: Duration,
    /// Slowest request body in bytes per second; 0: any.
    pub body_bytes_per_second_min: u64,
    /// A connection without a request is closed after this.
    pub idle_max: Duration,
    /// Connections of the listener.
    pub connections_max: u32,
    /// Connections of one client address.
    pub connections_per_client_max: u32,
    /// Requests at a time on one HTTP/2 connection.
    pub streams_max: u32,
    /// Cancelled requests in 10 seconds on one HTTP/2 connection.
    pub resets_max: u32,
}

impl From<BoundsTable> for Bounds {
    fn from(table: BoundsTable) -> Self {
        Self {
            header_bytes_max: table.header_bytes.0,
            header_count_max: table.header_count,
            uri_bytes_max: table.uri_bytes.0,
            header_time_max: table.header_time,
            body_bytes_per_second_min: table.body_rate.0,
            idle_max: table.idle,
            connections_max: table.connections,
            connections_per_client_max: table.connections_per_client,
            streams_max: table.streams,
            resets_max: table.resets,
        }
    }
}

/// The listener called `name`.
pub(crate) fn resolve(name: &str, node: &Node, reader: &mut Reader<'_>) -> Option<Listener> {
    let table = ListenTable::read(node, reader)?;
    let tls = resolve_tls(&table, node, reader);
    let clients = resolve_clients(&table, node, reader);
    let redirects = check_redirects(&table, node, reader);
    check_proxies(&table, node, reader)?;
    redirects?;
    Some(Listener {
        name: name.to_owned(),
        addresses: table.address.0,
        tls: tls?,
        redirect_from: any(table.redirect_from),
        clients: clients?,
        http2: table.http2,
        proxy_protocol: table.proxy_protocol,
        trusted_proxies: table.trusted_proxies,
        bounds: table.bounds.into(),
    })
}

fn resolve_tls(table: &ListenTable, node: &Node, reader: &mut Reader<'_>) -> Option<Tls> {
    match table.tls {
        TlsMode::Files => {
            let allowed = only_with("acme", &["hosts"], node, reader);
            let found = certificates(table, node, reader)?;
            allowed.then_some(Tls::Files(found))
        }
        TlsMode::Off | TlsMode::Dev => {
            let without_files = only_with("files", &["certificate", "key", "certificates"], node, reader);
            let allowed = only_with("acme", &["hosts"], node, reader) && without_files;
            allowed.then_some(if table.tls == TlsMode::Dev { Tls::Dev } else { Tls::Off })
        }
        TlsMode::Acme => {
            let allowed = only_with("files", &["certificate", "key", "certificates"], node, reader);
            let hosts = table.hosts.iter().map(|host| host.0.clone()).collect();
            allowed.then_some(Tls::Acme(hosts))
        }
    }
}

/// Whether no key is there that only that mode of `tls` gives a meaning.
fn only_with(mode: &str, keys: &[&str], node: &Node, reader: &mut Reader<'_>) -> bool {
    let mut allowed = true;
    for key in keys {
        if node.get(key).is_some() {
            let message = format!("`{key}` has no meaning without tls = \"{mode}\"");
            let help = format!("add tls = \"{mode}\"");
            reader.report(Finding::new(node.key_origin_of(key), message).help(help));
            allowed = false;
        }
    }
    allowed
}

/// Who vouches for clients, if they are asked.
fn resolve_clients(
    table: &ListenTable,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<Option<ClientCertificates>> {
    let Some(asked) = &table.client_certificates else { return Some(None) };
    if table.tls == TlsMode::Off {
        let message = "`client-certificates` has no meaning without TLS: clients show them in its handshake";
        let finding = Finding::new(node.key_origin_of("client-certificates"), message);
        return reader.refuse(finding.help("add tls = \"acme\" or tls = \"files\""));
    }
    let node = node.get("client-certificates").unwrap_or(node);
    let authorities_pem = pem_file(&asked.ca, "CERTIFICATE", node.origin_of("ca"), reader);
    let revoked_pem = match &asked.revoked {
        Some(path) => Some(pem_file(path, "X509 CRL", node.origin_of("revoked"), reader)?),
        None => None,
    };
    Some(Some(ClientCertificates { authorities_pem: authorities_pem?, demand: asked.demand, revoked_pem }))
}

/// The text of a file that must hold a PEM block of that kind.
fn pem_file(path: &FilePath, kind: &str, origin: Origin, reader: &mut Reader<'_>) -> Option<String> {
    let pem = reader.side_text(&path.0, origin)?;
    holds_pem(&pem, kind, origin, reader).then_some(pem)
}

/// The certificate of the table itself, then the further ones.
fn certificates(table: &ListenTable, node: &Node, reader: &mut Reader<'_>) -> Option<Vec<Certificate>> {
    let mut found = Vec::new();
    match (&table.certificate, &table.key) {
        (Some(certificate), Some(key)) => found.push(resolve_certificate(certificate, key, node, reader)),
        (Some(_), None) => found.push(lone("certificate", "key", node, reader)),
        (None, Some(_)) => found.push(lone("key", "certificate", node, reader)),
        (None, None) if table.certificates.is_empty() => {
            let finding =
                Finding::new(node.origin_of("tls"), "tls = \"files\" needs `certificate` and `key`");
            return reader.refuse(finding);
        }
        (None, None) => {}
    }
    let nodes = OneOrMany::<CertificateTable>::nodes(node.get("certificates"));
    for (further, node) in table.certificates.iter().zip(nodes) {
        found.push(resolve_certificate(&further.certificate, &further.key, node, reader));
    }
    found.into_iter().collect()
}

fn lone<T>(present: &str, missing: &str, node: &Node, reader: &mut Reader<'_>) -> Option<T> {
    reader
        .refuse(Finding::new(node.key_origin_of(present), format!("`{present}` needs `{missing}` beside it")))
}

/// Reads a certificate and its key, whose places in the file `node` knows.
pub(crate) fn resolve_certificate(
    certificate: &FilePath,
    key: &SecretSource,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<Certificate> {
    let (chain_origin, key_origin) = (node.origin_of("certificate"), node.origin_of("key"));
    let chain_pem = reader.side_text(&certificate.0, chain_origin);
    let key = reader.secret(key, key_origin);
    let chain_pem = chain_pem.filter(|pem| holds_pem(pem, "CERTIFICATE", chain_origin, reader));
    let key = key.filter(|key| holds_pem(key.reveal(), "PRIVATE KEY", key_origin, reader));
    let (chain_pem, key) = (chain_pem?, key?);
    let pair = Pair { certificates_pem: chain_pem.clone().into(), key_pem: key.reveal().into() };
    if let Err(error) = pair.check() {
        return reader.refuse(Finding::new(key_origin, error.to_string()));
    }
    Some(Certificate { file: reader.path(&certificate.0), chain_pem, key })
}

/// Whether `pem` has a block of that kind (RFC 7468); what is in it is for whoever builds the listener to judge.
pub(crate) fn holds_pem(pem: &str, kind: &str, origin: Origin, reader: &mut Reader<'_>) -> bool {
    let end = format!("{kind}-----");
    let found = pem.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&end));
    if !found {
        reader
            .report(Finding::new(origin, format!("there is no PEM block {kind:?} in it").replace('"', "`")));
    }
    found
}

fn check_redirects(table: &ListenTable, node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    if table.tls != TlsMode::Off || table.redirect_from.is_none() {
        return Some(());
    }
    let finding =
        Finding::new(node.key_origin_of("redirect-from"), "`redirect-from` has no meaning without TLS");
    reader.refuse(finding.help("add tls = \"acme\", \"files\" or \"dev\""))
}

fn check_proxies(table: &ListenTable, node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    if table.proxy_protocol == ProxyProtocolIn::Off || !table.trusted_proxies.is_empty() {
        return Some(());
    }
    let message = "the PROXY header is believed only from `trusted-proxies`, and there are none";
    let finding = Finding::new(node.origin_of("proxy-protocol"), message);
    reader
        .refuse(finding.help("add trusted-proxies = [\"10.0.0.0/8\"] with the network of the proxy in front"))
}

/// Reports routes that want clients' certificates and are reached through listeners only that ask for none: nobody could
/// ever show one there.
pub(crate) fn check_client_certificates(
    listeners: &BTreeMap<String, Listener>,
    routes: &BTreeMap<String, Route>,
    root: &Node,
    reader: &mut Reader<'_>,
) {
    for (name, route) in routes {
        let wants = route.guards.auth.as_ref().is_some_and(|auth| auth.certificate_names.is_some());
        let is_reached =
            |listener: &&Listener| route.listeners.is_empty() || route.listeners.contains(&listener.name);
        let mut through = listeners.values().filter(is_reached).peekable();
        if !wants || through.peek().is_none() || through.any(|listener| listener.clients.is_some()) {
            continue;
        }
        let node = root.get("route").and_then(|routes| routes.get(name));
        let origin = node.map_or(Origin::BuiltIn, |node| match node.get("auth") {
            Some(auth) => auth.key_origin_of("client-certificate"),
            None => node.origin,
        });
        let message = "no listener of this route asks clients for certificates";
        let finding = Finding::new(origin, message);
        reader.report(finding.help("add client-certificates = { ca = \"clients.pem\" } to [listen.*]"));
    }
}

/// An address that somebody wants to listen at.
pub(crate) struct Claim {
    pub(crate) address: SocketAddr,
    pub(crate) origin: Origin,
    /// Who, for a sentence.
    pub(crate) owner: String,
}

/// Reports every address that is wanted twice.
pub(crate) fn check_addresses(claims: &[Claim], reader: &mut Reader<'_>) {
    for (at, claim) in claims.iter().enumerate() {
        let Some(other) = claims[..at].iter().find(|other| clashes(claim.address, other.address)) else {
            continue;
        };
        // A built-in address has no place to point at: then it is the other one that can be changed.
        let (here, there) = match claim.origin {
            Origin::BuiltIn => (other, claim),
            Origin::Text(_) => (claim, other),
        };
        let finding =
            Finding::new(here.origin, format!("{} is taken already, by {}", here.address, there.owner));
        reader.report(finding.other(there.origin, "here"));
    }
}

/// Whether both cannot be bound at once. Port 0 is a free port, so it never clashes.
pub(crate) fn clashes(one: SocketAddr, other: SocketAddr) -> bool {
    let same_family = one.is_ipv4() == other.is_ipv4();
    let covers = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_family && covers
}

/// Whether a connection to `address` ends at a socket bound to `bound`, as far as that can be told from here.
pub(crate) fn reaches(address: SocketAddr, bound: SocketAddr) -> bool {
    let here =
        address.ip().is_loopback() && bound.ip().is_unspecified() && address.is_ipv4() == bound.is_ipv4();
    address.port() == bound.port() && (address.ip() == bound.ip() || here)
}

/// Every address that the listener in `node` wants.
pub(crate) fn claims(listener: &Listener, node: &Node) -> Vec<Claim> {
    let keys = [("address", &listener.addresses), ("redirect-from", &listener.redirect_from)];
    let mut claims = Vec::new();
    for (key, addresses) in keys {
        let nodes = OneOrMany::<SocketAddr>::nodes(node.get(key));
        for (address, node) in addresses.iter().zip(nodes) {
            let owner = format!("`{key}` of [listen.{}]", listener.name);
            claims.push(Claim { address: *address, origin: node.origin, owner });
        }
    }
    claims
}
