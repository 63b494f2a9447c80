//! One question to DNS and its answer, with the time it is good for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use thiserror::Error;

/// A server that has not answered by then is asked once more, then given up.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// Endpoints that one name may bring; the rest of a longer answer is left.
const RECORDS_MAX: usize = 1_024;

/// Why a name gave no answer; the name server's fault or the record's. Asking again is safe.
#[derive(Clone, Debug, Error)]
pub(crate) enum LookupError {
    #[error("the system's resolver configuration is unusable: {0}")]
    Configuration(NetError),
    #[error("{0}")]
    Failed(NetError),
    #[error("the name has no address")]
    Empty,
}

/// What was found, and for how long it may be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer<T> {
    pub(crate) found: T,
    pub(crate) ttl: Duration,
}

/// The addresses of a name, by kind; none where that kind could not be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    v4: Option<Vec<IpAddr>>,
    v6: Option<Vec<IpAddr>>,
}

/// One target of a service name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) target: Arc<str>,
    pub(crate) port: u16,
    pub(crate) weight: u16,
}

impl Addresses {
    /// In an order that does not depend on the order of the answers, which servers rotate.
    pub(crate) fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.v4.iter().chain(&self.v6).flatten().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// These, and where one kind could not be asked, what it was before.
    pub(crate) fn or_as_before(self, before: Self) -> Self {
        Self { v4: self.v4.or(before.v4), v6: self.v6.or(before.v6) }
    }
}

/// The addresses of a host name.
pub(crate) async fn addresses(
    name: &str,
    server: Option<SocketAddr>,
) -> Result<Answer<Addresses>, LookupError> {
    let resolver = resolver(server)?;
    let (v4, v6) =
        tokio::join!(records(&resolver, name, RecordType::A), records(&resolver, name, RecordType::AAAA));
    let ttl = [&v4, &v6].into_iter().flatten().flatten().map(ttl_of).min();
    let found = |lookup: &Option<Lookup>| lookup.as_ref().map(ips).unwrap_or_default();
    let (v4, v6) = match (v4, v6) {
        (Err(error), Err(_)) => return Err(LookupError::Failed(error)),
        (v4, v6) => (v4.ok().as_ref().map(found), v6.ok().as_ref().map(found)),
    };
    let found = Addresses { v4, v6 };
    match ttl {
        Some(ttl) if !found.is_empty() => Ok(Answer { found, ttl }),
        Some(_) | None => Err(LookupError::Empty),
    }
}

/// The targets of a service name that have the lowest priority.
pub(crate) async fn services(
    name: &str,
    server: Option<SocketAddr>,
) -> Result<Answer<Vec<Service>>, LookupError> {
    let resolver = resolver(server)?;
    let lookup = records(&resolver, name, RecordType::SRV).await.map_err(LookupError::Failed)?;
    let Some(lookup) = lookup else { return Err(LookupError::Empty) };
    let mut found: Vec<(u16, Service)> =
        lookup.answers().iter().filter_map(|record| service(&record.data)).collect();
    let Some(lowest) = found.iter().map(|(priority, _)| *priority).min() else {
        return Err(LookupError::Empty);
    };
    found.retain(|(priority, _)| *priority == lowest);
    found.sort_by(|(_, one), (_, other)| (&one.target, one.port).cmp(&(&other.target, other.port)));
    found.truncate(RECORDS_MAX);
    Ok(Answer { found: found.into_iter().map(|(_, service)| service).collect(), ttl: ttl_of(&lookup) })
}

/// The records of one kind; none, when the name is known to have none.
async fn records(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Option<Lookup>, NetError> {
    match resolver.lookup(name, kind).await {
        Ok(lookup) => Ok(Some(lookup)),
        Err(error) if error.is_no_records_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, LookupError> {
    let mut builder = match server {
        Some(server) => {
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server(server)]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
        None => TokioResolver::builder_tokio().map_err(LookupError::Configuration)?,
    };
    let options = builder.options_mut();
    options.timeout = TIMEOUT;
    options.attempts = ATTEMPTS;
    options.cache_size = 0;
    builder.build().map_err(LookupError::Configuration)
}

/// UDP, and TCP for answers that do not fit.
fn name_server(server: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = server.port();
    }
    NameServerConfig::new(server.ip(), true, connections)
}

/// The shortest of all records, aliases on the way included.
fn ttl_of(lookup: &Lookup) -> Duration {
    let shortest = lookup.answers().iter().map(|record| record.ttl).min();
    Duration::from_secs(u64::from(shortest.unwrap_or(0)))
}

fn ips(lookup: &Lookup) -> Vec<IpAddr> {
    let ip = |data: &RData| match data {
        RData::A(v4) => Some(IpAddr::V4(v4.0)),
        RData::AAAA(v6) => Some(IpAddr::V6(v6.0)),
        _ => None,
    };
    let mut ips: Vec<IpAddr> = lookup.answers().iter().filter_map(|record| ip(&record.data)).collect();
    ips.sort_unstable();
    ips.dedup();
    ips.truncate(RECORDS_MAX);
    ips
}

/// The target of a record; the root means that there is no such service (RFC 2782).
fn service(data: &RData) -> Option<(u16, Service)> {
    let RData::SRV(srv) = data else { return None };
    if srv.target.is_root() {
        return None;
    }
    let mut target = srv.target.clone();
    target.set_fqdn(true);
    let service = Service { target: target.to_string().into(), port: srv.port, weight: srv.weight };
    Some((srv.priority, service))
}
