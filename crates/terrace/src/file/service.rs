//! `[service.NAME]`: a program that Terrace runs, or endpoints that already run, and how requests reach them.

mod env;
mod program;
mod traffic;

use std::net::SocketAddr;
use std::time::Duration;

use super::policy::{self, Guards, Place, Policies, PolicyTable};
use super::problem::Finding;
use super::read::{OneOrMany, Read, Reader, Switch, table};
use super::resilience::{self, Breaker, BreakerTable, Concurrency, Queue, QueueTable};
use super::route::Known;
use super::tree::Node;
use super::values::{Account, Command, DnsName, FilePath, Share, Variable};

pub use env::EnvValue;
pub(super) use program::check_command;
pub use program::{Program, Ready, ReadyProbe, Restart, Signal, Stop};
pub use traffic::{
    Authorities, Balance, Connections, Eject, Endpoint, HashKey, Health, HealthProbe, Metrics, Protocol,
    ProxyProtocolOut, Sticky, UpstreamTls,
};

use env::EnvTable;
use program::{ReadyTable, RestartTable, StopTable};
use traffic::{
    BalanceSetting, ConnectionsTable, EjectTable, EndpointSetting, HealthTable, MetricsSetting, StickyTable,
    TlsSetting,
};

table! {
    /// A service: a program that Terrace runs (`run`), or endpoints that already run (`hosts` or `dns`); exactly
    /// one of the three. Other services reach it at `NAME_URL`, which they find in their environment.
    pub(crate) struct ServiceTable also PolicyTable one of "run" "hosts" "dns" {
        /// Command of the program; it finds its port in `PORT`. A text is split into words as a shell does, but no
        /// shell runs it; a list is taken as it is.
        "run" run: Option<Command>, example "node orders.js";
        /// Command that is run once before a changed service is rolled out, for a migration say. Fails it, the old
        /// instances stay.
        "release" release: Option<Command>, with "run", example "node migrate.js";
        /// How many instances run.
        "instances" instances: u32 = 1, within 1 to 1000, with "run";
        /// A program without a port: nothing is routed to it.
        "worker" worker: bool = false, with "run";
        /// Working folder.
        "folder" folder: FilePath = ".", with "run";
        /// Environment variables: texts, or secrets. What is set here wins over `env-file`.
        "env" env: EnvTable = {}, with "run", example { MODE = "production", API_KEY = { file = "api.key" } };
        /// File, or a list of them, with `NAME=value` lines; later files win.
        "env-file" env_file: Option<OneOrMany<FilePath>>, with "run", example ".env";
        /// User who runs it; only when Terrace itself runs as root.
        "user" user: Option<Account>, with "run", example "app";
        /// Group that runs it; default: the user's.
        "group" group: Option<Account>, with "run", example "app";
        /// Environment variable in which the program finds the port it must listen on.
        "port-env" port_env: Variable = "PORT", with "run";
        /// Checks that go on for as long as an instance or endpoint lives. `false`: none.
        "health" health: Switch<HealthTable> = false, example { path = "/health", every = "2s" };
        /// When a new instance gets its first request. Default: as `health` checks, else once its port accepts.
        "ready" ready: Option<ReadyTable>, with "run", example { path = "/ready", within = "60s" };
        /// How an instance is stopped.
        "stop" stop: StopTable = {}, with "run";
        /// How an instance that ended is started again.
        "restart" restart: RestartTable = {}, with "run";
        /// Endpoints that already run.
        "hosts" hosts: Option<Vec<EndpointSetting>>, example ["10.0.0.5:8080", { address = "10.0.0.6:8080", weight = 2 }];
        /// Endpoints that DNS knows: a name with a port (A and AAAA), or `srv:` and the name of an SRV record.
        "dns" dns: Option<DnsName>, example "legacy.internal:8080";
        /// DNS server to ask. Default: the system's.
        "resolver" resolver: Option<SocketAddr>, with "dns", example "127.0.0.1:5353";
        /// How an endpoint is picked.
        "balance" balance: BalanceSetting = "least-requests";
        /// Keep each client at its endpoint with a cookie. `false`: no.
        "sticky" sticky: Switch<StickyTable> = false, example { cookie = "terrace-endpoint", ttl = "1h" };
        /// How long a new endpoint's share of the requests grows until it is full.
        "slow-start" slow_start: Duration = "0s", within "0s" to "1h";
        /// Fetch the app's own metrics from each instance, in the Prometheus text: a path, or a table. They stand beside
        /// Terrace's own in charts and alerts. `false`: no.
        "metrics" metrics: Switch<MetricsSetting> = false, example "/metrics";
        /// Take an endpoint that fails out for a while. `false`: never.
        "eject" eject: Switch<EjectTable> = {};
        /// Refuse requests at once while no endpoint helps. `false`: never.
        "breaker" breaker: Switch<BreakerTable> = {};
        /// Requests under way at the service at the same time: `"adaptive"`, which finds out how many it can bear, a number, or
        /// `false` for any.
        "concurrency" concurrency: Concurrency = "adaptive";
        /// Requests beyond that wait here for a while.
        "queue" queue: QueueTable = {};
        /// With a smaller share of healthy endpoints than this, all are used: too few would drown. `false`: never.
        "panic" panic: Switch<Share> = "50%";
        /// Protocol towards the endpoints.
        "protocol" protocol: Protocol = "http1";
        /// TLS towards the endpoints: `true` trusts the system's authorities.
        "tls" tls: TlsSetting = false, example { ca = "ca.pem", name = "orders.internal" };
        /// PROXY protocol header sent to the endpoints.
        "proxy-protocol" proxy_protocol: ProxyProtocolOut = "off";
        /// Connections to the endpoints.
        "connections" connections: ConnectionsTable = {};
        /// Loopback address at which other services reach this one. Port 0: a free one, kept over restarts.
        "internal" internal: SocketAddr = "127.0.0.1:0";
    }
}

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name in the file.
    pub name: String,
    /// Where its endpoints come from.
    pub source: Source,
    /// Checks that go on; `None`: none.
    pub health: Option<Health>,
    /// Where the app's own metrics are fetched; `None`: nowhere.
    pub metrics: Option<Metrics>,
    /// How an endpoint is picked.
    pub balance: Balance,
    /// Keeps each client at its endpoint.
    pub sticky: Option<Sticky>,
    /// How long a new endpoint's share grows; zero: it is full at once.
    pub slow_start: Duration,
    /// Takes endpoints that fail out for a while.
    pub eject: Option<Eject>,
    /// Refuses requests while no endpoint helps.
    pub breaker: Option<Breaker>,
    /// How many requests are under way at the same time.
    pub concurrency: Concurrency,
    /// Where those beyond wait.
    pub queue: Queue,
    /// Share (0 to 1) of healthy endpoints below which all are used.
    pub panic_below_share: Option<f64>,
    /// Protocol towards the endpoints.
    pub protocol: Protocol,
    /// TLS towards the endpoints; `None`: plain.
    pub tls: Option<UpstreamTls>,
    /// PROXY protocol header sent to the endpoints.
    pub proxy_protocol: ProxyProtocolOut,
    /// Connections to the endpoints.
    pub connections: Connections,
    /// Loopback address at which other services reach it; port 0: a free one.
    pub internal: SocketAddr,
    /// Policies of calls from other services: built-in < `[defaults]` < service.
    pub policies: Policies,
    /// What stands before them.
    pub guards: Guards,
}

/// Where a service's endpoints come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Terrace runs them.
    Run(Box<Program>),
    /// They run already; never empty.
    Hosts(Vec<Endpoint>),
    /// DNS knows them.
    Dns {
        /// What is asked for.
        name: DnsName,
        /// Who is asked; `None`: the system's resolver.
        resolver: Option<SocketAddr>,
    },
}

impl Service {
    /// Whether requests can be routed to it: all but workers.
    pub fn is_routed(&self) -> bool {
        match &self.source {
            Source::Run(program) => !program.worker,
            Source::Hosts(_) | Source::Dns { .. } => true,
        }
    }
}

/// The service called `name`. `merged`: the policies of calls from inside.
pub(crate) fn resolve(
    name: &str,
    node: &Node,
    merged: &Node,
    known: &Known<'_>,
    reader: &mut Reader<'_>,
) -> Option<Service> {
    let place = Place { at: &[], service: Some(name), known };
    let policies = policy::resolve(merged, &place, reader);
    let guards = policy::resolve_guards_inside(merged, &place, reader);
    let table = ServiceTable::read(node, reader)?;
    let source = resolve_source(&table, node, reader);
    let health = traffic::resolve_health(table.health.clone(), node, reader);
    let eject = traffic::resolve_eject(table.eject.clone(), node, reader);
    let breaker = resilience::resolve_breaker(table.breaker.clone(), node, reader);
    let tls = traffic::resolve_tls(&table.tls, node, reader);
    let metrics = traffic::resolve_metrics(&table, node, reader);
    check_internal(&table, node, reader)?;
    Some(Service {
        name: name.to_owned(),
        source: source?,
        health: health?,
        metrics: metrics?,
        balance: table.balance.into(),
        sticky: table.sticky.on().map(Sticky::from),
        slow_start: table.slow_start,
        eject: eject?,
        breaker: breaker?,
        concurrency: table.concurrency,
        queue: table.queue.into(),
        panic_below_share: table.panic.on().map(|share| share.0),
        protocol: table.protocol,
        tls: tls?,
        proxy_protocol: table.proxy_protocol,
        connections: table.connections.into(),
        internal: table.internal,
        policies: policies?,
        guards: guards?,
    })
}

fn resolve_source(table: &ServiceTable, node: &Node, reader: &mut Reader<'_>) -> Option<Source> {
    match (&table.run, &table.hosts, &table.dns) {
        (Some(run), _, _) => Some(Source::Run(Box::new(program::resolve(run, table, node, reader)?))),
        (None, Some(hosts), _) => Some(Source::Hosts(traffic::resolve_hosts(hosts, node, reader)?)),
        (None, None, Some(name)) => Some(Source::Dns { name: name.clone(), resolver: table.resolver }),
        // Invariant: `ServiceTable` has exactly one of the three.
        (None, None, None) => None,
    }
}

fn check_internal(table: &ServiceTable, node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    if table.internal.ip().is_loopback() {
        return Some(());
    }
    let message = "the internal address is on loopback: it has no route that could guard it";
    let finding = Finding::new(node.origin_of("internal"), message);
    reader.refuse(finding.help(format!("write \"127.0.0.1:{}\"", table.internal.port())))
}
