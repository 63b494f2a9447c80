//! How requests reach a service's endpoints: which one, over which connection, and which ones are left out.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::ServiceTable;
use crate::file::listen::{Certificate, resolve_certificate};
use crate::file::policy::ordered;
use crate::file::problem::Finding;
use crate::file::read::{OneOrMany, Read, Reader, Scalar, Switch, Wrong, choice, table};
use crate::file::resilience::{Slow, SlowTable};
use crate::file::spec::{Form, Shape};
use crate::file::tree::{Node, Value};
use crate::file::values::{FilePath, SecretSource, Share, StatusRange, Token, UrlPath, Words, is_token};

table! {
    /// Checks that go on: by `path` or by `tcp`.
    pub(crate) struct HealthTable one of "path" "tcp" {
        /// Ask for this path over HTTP.
        "path" path: Option<UrlPath>, example "/health";
        /// Only open a connection.
        "tcp" tcp: Option<bool>, example true;
        /// Pause between two checks of an endpoint, give or take a tenth.
        "every" every: Duration = "2s", within "100ms" to "1h";
        /// A check that takes longer has failed.
        "timeout" timeout: Duration = "1s", within "1ms" to "10m";
        /// Checks in a row that must succeed until an unhealthy endpoint gets requests again.
        "up" up: u32 = 1, within 1 to 100;
        /// Checks in a row that must fail until an endpoint gets no more requests.
        "down" down: u32 = 3, within 1 to 100;
        /// Statuses that count as healthy; with `path`.
        "status" status: StatusRange = "200-399";
    }
}

table! {
    /// The app's own metrics.
    pub(crate) struct MetricsTable {
        /// Where each instance shows them.
        "path" path: UrlPath = "/metrics";
        /// How often they are fetched.
        "every" every: Duration = "15s", within "1s" to "10m";
    }
}

/// `metrics` as written.
#[derive(Clone, Debug)]
pub(crate) struct MetricsSetting(Metrics);

impl Read for MetricsSetting {
    fn shape() -> Shape {
        Shape::Either(vec![UrlPath::shape(), MetricsTable::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let (path, every) = match &node.value {
            Value::Table(_) => {
                let table = MetricsTable::read(node, reader)?;
                (table.path, table.every)
            }
            _ => (UrlPath::read(node, reader)?, METRICS_EVERY),
        };
        Some(Self(Metrics { path: path.0, every }))
    }
}

/// As the default in [`MetricsTable`].
const METRICS_EVERY: Duration = Duration::from_secs(15);

/// Where the app's own metrics are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Path at each instance.
    pub path: String,
    /// How often.
    pub every: Duration,
}

pub(super) fn resolve_metrics(
    table: &ServiceTable,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<Option<Metrics>> {
    let Some(MetricsSetting(metrics)) = table.metrics.clone().on() else { return Some(None) };
    if !table.worker {
        return Some(Some(metrics));
    }
    let message = "a worker has no port that metrics could be fetched from";
    let finding = Finding::new(node.key_origin_of("metrics"), message);
    reader.refuse(finding.help("send them by OTLP, see [otlp]"))
}

table! {
    /// An endpoint with its weight.
    pub(crate) struct EndpointTable {
        /// IP address and port.
        "address" address: SocketAddr, example "10.0.0.6:8080";
        /// Share of the requests, relative to the others'.
        "weight" weight: u32 = 1, within 1 to 1000;
    }
}

/// An item of `hosts` as written.
#[derive(Clone, Debug)]
pub(crate) struct EndpointSetting(Endpoint);

impl Read for EndpointSetting {
    fn shape() -> Shape {
        Shape::Either(vec![SocketAddr::shape(), EndpointTable::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let (address, weight) = match &node.value {
            Value::Table(_) => {
                let table = EndpointTable::read(node, reader)?;
                (table.address, table.weight)
            }
            _ => (SocketAddr::read(node, reader)?, 1),
        };
        if address.port() == 0 || address.ip().is_unspecified() {
            let message = format!("{address} is no address that can be connected to");
            return reader.refuse(Finding::new(node.origin_of("address"), message));
        }
        Some(Self(Endpoint { address, weight }))
    }
}

choice! {
    /// A way to pick an endpoint.
    pub(crate) enum BalanceWord {
        /// The less busy of two picked at random.
        "least-requests" LeastRequests,
        /// One after the other.
        "round-robin" RoundRobin,
        /// One after the other, in proportion to their weights.
        "weighted" Weighted,
        /// The one with the smallest expected latency of two picked at random; a failure counts as slow.
        "peak-ewma" PeakEwma,
        /// Each client address to the same endpoint.
        "ip-hash" IpHash,
        /// At random.
        "random" Random,
    }
}

table! {
    /// Each key to the same endpoint, with the fewest moves when endpoints come and go (maglev).
    pub(crate) struct HashTable, whole {
        /// What is hashed: `"header:NAME"`, `"cookie:NAME"` or `"address"`.
        "hash" hash: HashKey, example "header:X-User";
    }
}

/// What is hashed to pick an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// A header of the request.
    Header(String),
    /// A cookie of the request.
    Cookie(String),
    /// The client's address.
    Address,
}

impl Scalar for HashKey {
    const FORM: Form = Form {
        noun: "a key to hash",
        example: "header:X-User",
        pattern: "^(address|(header|cookie):[!#$%&'*+.^_`|~0-9A-Za-z-]+)$",
    };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let name = |name: &str| match is_token(name) {
            true => Ok(name.to_owned()),
            false => Err(Wrong::because("has no name of HTTP behind the colon")),
        };
        match text.split_once(':') {
            Some(("header", header)) => Ok(Self::Header(name(header)?)),
            Some(("cookie", cookie)) => Ok(Self::Cookie(name(cookie)?)),
            None if text == "address" => Ok(Self::Address),
            _ => Err(Wrong::because("is neither \"header:NAME\", \"cookie:NAME\" nor \"address\"")),
        }
    }
}

/// `balance` as written.
#[derive(Clone, Debug)]
pub(crate) enum BalanceSetting {
    Word(BalanceWord),
    Hash(HashKey),
}

impl Read for BalanceSetting {
    fn shape() -> Shape {
        Shape::Either(vec![BalanceWord::shape(), HashTable::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Table(_) => Some(Self::Hash(HashTable::read(node, reader)?.hash)),
            _ => Some(Self::Word(BalanceWord::read(node, reader)?)),
        }
    }
}

table! {
    /// A client whose endpoint is gone gets another.
    pub(crate) struct StickyTable {
        /// Name of the cookie.
        "cookie" cookie: Token, example "terrace-endpoint";
        /// How long the cookie lives after the last request.
        "ttl" ttl: Duration = "1h", within "1s" to "400d";
    }
}

table! {
    /// An endpoint is ejected by failures in a row, or by its share of failures, more of them where its neighbours fail as
    /// well. A failure is a broken or refused connection, a timeout, or a status of 500 and above.
    pub(crate) struct EjectTable {
        /// Failures in a row, where little else fails.
        "failures" failures: u32 = 5, within 1 to 1000;
        /// Share of failures in the window.
        "share" share: Share = "50%";
        /// Requests in the window below which the share says nothing.
        "requests" requests: u32 = 20, within 1 to 100000;
        /// The window.
        "window" window: Duration = "10s", within "1s" to "10m";
        /// How long the first time; it doubles with each time.
        "for" first: Duration = "10s", within "100ms" to "1h";
        /// How long at most.
        "for-max" longest: Duration = "5m", within "100ms" to "1d";
        /// Share of the endpoints that are out at most.
        "share-max" share_max: Share = "50%";
        /// Answers that come too late count as failures. `false`: however late.
        "slow" slow: Switch<SlowTable> = {}, example { over = "2s", share = "80%" };
        /// Whether an endpoint that owes two answers or more, and gives none, is taken out.
        "silent" silent: bool = true;
    }
}

choice! {
    /// Protocol towards the endpoints.
    pub enum Protocol {
        /// HTTP/1.1.
        "http1" Http1,
        /// HTTP/2: with prior knowledge, or by ALPN with `tls`. For gRPC.
        "h2" H2,
    }
}

choice! {
    /// PROXY protocol header sent to the endpoints.
    pub enum ProxyProtocolOut {
        /// None.
        "off" Off,
        /// As text.
        "v1" V1,
        /// Binary.
        "v2" V2,
    }
}

table! {
    /// A table says whom to trust instead.
    pub(crate) struct UpstreamTlsTable {
        /// PEM file with the authorities to trust. Default: the system's.
        "ca" ca: Option<FilePath>, example "ca.pem";
        /// Name that the endpoint's certificate must have. Default: the endpoint's host or address.
        "name" name: Option<Words>, example "orders.internal";
        /// PEM file with the certificate, and its chain, that endpoints are shown when they ask for one (mutual TLS).
        /// Followed when it changes, as the key is.
        "certificate" certificate: Option<FilePath>, with "key", example "client.pem";
        /// The private key of that certificate, as PEM.
        "key" key: Option<SecretSource>, with "certificate", example { file = "client.key" };
    }
}

/// `tls` as written.
#[derive(Clone, Debug)]
pub(crate) enum TlsSetting {
    Off,
    System,
    Own(UpstreamTlsTable),
}

impl Read for TlsSetting {
    fn shape() -> Shape {
        Shape::Either(vec![Shape::Boolean, UpstreamTlsTable::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Boolean(true) => Some(Self::System),
            Value::Boolean(false) => Some(Self::Off),
            Value::Table(_) => Some(Self::Own(UpstreamTlsTable::read(node, reader)?)),
            _ => reader.unexpected(node, "`true`, `false` or a table", None),
        }
    }
}

table! {
    /// Connections to the endpoints.
    pub(crate) struct ConnectionsTable {
        /// To one endpoint, over all threads.
        "max" max: u32 = 1024, within 1 to 1000000;
        /// Idle ones kept for one endpoint by each thread.
        "idle" idle: u32 = 512, within 0 to 100000;
        /// How long an idle one is kept. Keep it below the endpoint's own limit, or requests race its closing.
        "idle-time" idle_time: Duration = "4s", within "100ms" to "1h";
    }
}

/// An endpoint that Terrace does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// IP address and port.
    pub address: SocketAddr,
    /// Share of the requests, relative to the others'; at least 1.
    pub weight: u32,
}

/// Checks that go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is asked.
    pub probe: HealthProbe,
    /// Pause between two checks of an endpoint.
    pub every: Duration,
    /// A check that takes longer has failed.
    pub timeout: Duration,
    /// Successes in a row until it gets requests again.
    pub up: u32,
    /// Failures in a row until it gets none.
    pub down: u32,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthProbe {
    /// A path, over HTTP.
    Http {
        /// Path, perhaps with a query.
        path: String,
        /// Statuses that count as healthy.
        healthy: StatusRange,
    },
    /// A connection.
    Tcp,
}

/// How an endpoint is picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The less busy of two.
    LeastRequests,
    /// One after the other.
    RoundRobin,
    /// One after the other, by weight.
    Weighted,
    /// The faster of two.
    PeakEwma,
    /// By client address.
    IpHash,
    /// At random.
    Random,
    /// By a key, with the fewest moves (maglev).
    Hash(HashKey),
}

impl From<BalanceSetting> for Balance {
    fn from(setting: BalanceSetting) -> Self {
        match setting {
            BalanceSetting::Word(BalanceWord::LeastRequests) => Self::LeastRequests,
            BalanceSetting::Word(BalanceWord::RoundRobin) => Self::RoundRobin,
            BalanceSetting::Word(BalanceWord::Weighted) => Self::Weighted,
            BalanceSetting::Word(BalanceWord::PeakEwma) => Self::PeakEwma,
            BalanceSetting::Word(BalanceWord::IpHash) => Self::IpHash,
            BalanceSetting::Word(BalanceWord::Random) => Self::Random,
            BalanceSetting::Hash(key) => Self::Hash(key),
        }
    }
}

/// A cookie that keeps each client at its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// Its name.
    pub cookie: String,
    /// How long it lives after the last request.
    pub ttl: Duration,
}

impl From<StickyTable> for Sticky {
    fn from(table: StickyTable) -> Self {
        Self { cookie: table.cookie.0, ttl: table.ttl }
    }
}

/// When an endpoint that fails is taken out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Eject {
    /// Failures in a row.
    pub failures: u32,
    /// Share of failures in the window, 0 to 1.
    pub failure_share: f64,
    /// Requests in the window below which the share says nothing.
    pub requests_min: u32,
    /// The window.
    pub window: Duration,
    /// How long the first time; it doubles.
    pub duration_first: Duration,
    /// How long at most; not below the first.
    pub duration_max: Duration,
    /// Share of the endpoints out at most, 0 to 1.
    pub ejected_share_max: f64,
    /// Answers that come too late.
    pub slow: Option<Slow>,
    /// Whether one that owes answers and gives none is taken out.
    pub silent: bool,
}

/// TLS towards the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The authorities to trust; `None`: the system's.
    pub authorities: Option<Authorities>,
    /// Name that the certificate must have; `None`: the endpoint's host or address.
    pub name: Option<String>,
    /// The certificate that endpoints are shown; `None`: none.
    pub client: Option<Certificate>,
}

/// Authorities to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    /// The file they were read from.
    pub file: PathBuf,
    /// Their certificates as PEM.
    pub pem: String,
}

/// Connections to the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// To one endpoint, over all threads.
    pub per_endpoint_max: u32,
    /// Idle ones kept for one endpoint by each thread.
    pub idle_max: u32,
    /// How long an idle one is kept.
    pub idle_time: Duration,
}

impl From<ConnectionsTable> for Connections {
    fn from(table: ConnectionsTable) -> Self {
        Self { per_endpoint_max: table.max, idle_max: table.idle, idle_time: table.idle_time }
    }
}

pub(super) fn resolve_hosts(
    hosts: &[EndpointSetting],
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<Vec<Endpoint>> {
    if hosts.is_empty() {
        return reader.refuse(Finding::new(node.origin_of("hosts"), "a service needs at least one host"));
    }
    let nodes = OneOrMany::<EndpointSetting>::nodes(node.get("hosts"));
    let mut seen = BTreeSet::new();
    for (host, node) in hosts.iter().zip(nodes) {
        if !seen.insert(host.0.address) {
            let finding = Finding::new(node.origin, format!("{} is listed twice", host.0.address));
            return reader.refuse(finding.help("give it a weight instead"));
        }
    }
    Some(hosts.iter().map(|setting| setting.0).collect())
}

pub(super) fn resolve_health(
    switch: Switch<HealthTable>,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<Option<Health>> {
    let (Switch::On(table), Some(written)) = (switch, node.get("health")) else { return Some(None) };
    let is_worker = matches!(node.get("worker").map(|node| &node.value), Some(Value::Boolean(true)));
    if is_worker {
        return reader.refuse(Finding::new(
            node.key_origin_of("health"),
            "a worker has no port that could be checked",
        ));
    }
    only_true("tcp", table.tcp, written, reader)?;
    let probe = match table.path {
        Some(path) => HealthProbe::Http { path: path.0, healthy: table.status },
        None => HealthProbe::Tcp,
    };
    Some(Some(Health { probe, every: table.every, timeout: table.timeout, up: table.up, down: table.down }))
}

/// Refuses `tcp = false`: whoever does not want that kind leaves the key out.
pub(super) fn only_true(key: &str, value: Option<bool>, node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    match value {
        Some(false) => {
            reader.refuse(Finding::new(node.origin_of(key), format!("`{key}` is `true` or left out")))
        }
        Some(true) | None => Some(()),
    }
}

pub(super) fn resolve_eject(
    switch: Switch<EjectTable>,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<Option<Eject>> {
    let Switch::On(table) = switch else { return Some(None) };
    ordered(node.get("eject"), ("for", table.first), ("for-max", table.longest), reader)?;
    Some(Some(Eject {
        failures: table.failures,
        failure_share: table.share.0,
        requests_min: table.requests,
        window: table.window,
        duration_first: table.first,
        duration_max: table.longest,
        ejected_share_max: table.share_max.0,
        slow: table.slow.on().map(Slow::from),
        silent: table.silent,
    }))
}

pub(super) fn resolve_tls(
    setting: &TlsSetting,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<Option<UpstreamTls>> {
    match setting {
        TlsSetting::Off => Some(None),
        TlsSetting::System => Some(Some(UpstreamTls { authorities: None, name: None, client: None })),
        TlsSetting::Own(table) => {
            let authorities = match &table.ca {
                Some(path) => Some(resolve_authorities(path, node, reader)?),
                None => None,
            };
            let client = match (&table.certificate, &table.key) {
                (Some(certificate), Some(key)) => {
                    let node = node.get("tls").unwrap_or(node);
                    Some(resolve_certificate(certificate, key, node, reader)?)
                }
                _ => None,
            };
            let name = table.name.clone().map(|name| name.0);
            Some(Some(UpstreamTls { authorities, name, client }))
        }
    }
}

fn resolve_authorities(path: &FilePath, node: &Node, reader: &mut Reader<'_>) -> Option<Authorities> {
    let origin = node.get("tls").map_or(node.origin, |tls| tls.origin_of("ca"));
    let pem = reader.side_text(&path.0, origin)?;
    if !crate::file::listen::holds_pem(&pem, "CERTIFICATE", origin, reader) {
        return None;
    }
    Some(Authorities { file: reader.path(&path.0), pem })
}
