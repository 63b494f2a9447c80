//! `[service.*]` for its upstream: balancing, health, ejection, connections; and where its endpoints come from.

use std::sync::Arc;

use terrace_policy::{Backoff, EjectionLaw, Share, SilenceLaw};
use terrace_upstream as upstream;
use terrace_upstream::{Host, IdentityKey, Names};

use super::resilience;
use crate::file::{
    Balance, DnsName, Eject, Endpoint, Health, HealthProbe, Protocol, ProxyProtocolOut, Service, Source,
    UpstreamTls,
};

/// How the service's endpoints are chosen, watched and connected to.
pub(crate) fn config(service: &Service, identity_key: IdentityKey) -> upstream::Config {
    upstream::Config {
        service: service.name.as_str().into(),
        identity_key,
        balance: balance(&service.balance),
        slow_start: service.slow_start,
        ejection: service.eject.as_ref().map(ejection),
        panic_share: service.panic_below_share.map(Share::from_ratio),
        health: service.health.as_ref().map(health),
        connections: upstream::Connections {
            per_endpoint_max: service.connections.per_endpoint_max,
            idle_per_core_max: service.connections.idle_max,
            idle_time: service.connections.idle_time,
        },
        protocol: match service.protocol {
            Protocol::Http1 => upstream::Protocol::Http1,
            Protocol::H2 => upstream::Protocol::H2,
        },
        tls: service.tls.as_ref().map(tls),
        proxy_protocol_out: match service.proxy_protocol {
            ProxyProtocolOut::Off => upstream::ProxyProtocol::Off,
            ProxyProtocolOut::V1 => upstream::ProxyProtocol::V1,
            ProxyProtocolOut::V2 => upstream::ProxyProtocol::V2,
        },
        connect_timeout: service.policies.timeout.connect,
    }
}

fn balance(balance: &Balance) -> upstream::Balance {
    match balance {
        Balance::LeastRequests => upstream::Balance::LeastRequests,
        Balance::RoundRobin => upstream::Balance::RoundRobin,
        Balance::Weighted => upstream::Balance::Weighted,
        Balance::PeakEwma => upstream::Balance::PeakEwma,
        Balance::Random => upstream::Balance::Random,
        Balance::IpHash | Balance::Hash(_) => upstream::Balance::Hash,
    }
}

fn ejection(eject: &Eject) -> EjectionLaw {
    EjectionLaw {
        failures: eject.failures,
        share: Share::from_ratio(eject.failure_share),
        requests: eject.requests_min,
        window: eject.window,
        duration: Backoff { from: eject.duration_first, to: eject.duration_max },
        share_max: Share::from_ratio(eject.ejected_share_max),
        slow: eject.slow.map(resilience::slow),
        silence: eject.silent.then(SilenceLaw::default),
        ..EjectionLaw::default()
    }
}

fn health(health: &Health) -> upstream::HealthCheck {
    let probe = match &health.probe {
        HealthProbe::Tcp => upstream::Probe::Tcp,
        HealthProbe::Http { path, healthy } => upstream::Probe::Http {
            path: path.as_str().into(),
            host: None,
            status: (healthy.from, healthy.to),
        },
    };
    upstream::HealthCheck {
        probe,
        interval: health.every,
        timeout: health.timeout,
        up: health.up,
        down: health.down,
    }
}

fn tls(tls: &UpstreamTls) -> upstream::TlsConfig {
    let roots = match &tls.authorities {
        Some(authorities) => upstream::Roots::Pem(authorities.pem.as_bytes().into()),
        None => upstream::Roots::System,
    };
    let client = tls.client.as_ref().map(|client| upstream::ClientIdentity {
        certificates_pem: client.chain_pem.as_bytes().into(),
        key_pem: client.key.reveal().as_bytes().into(),
    });
    upstream::TlsConfig { server_name: tls.name.clone(), roots, client }
}

/// Where the endpoints of a service that Terrace does not run are found.
pub(crate) fn source(service: &Service) -> Option<upstream::Source> {
    match &service.source {
        Source::Run(_) => None,
        Source::Hosts(endpoints) => {
            let names = Names::Hosts(endpoints.iter().map(host).collect());
            Some(upstream::Source { names, resolver: None })
        }
        Source::Dns { name, resolver } => {
            Some(upstream::Source { names: dns_names(name), resolver: *resolver })
        }
    }
}

fn host(endpoint: &Endpoint) -> Host {
    Host {
        host: Arc::from(endpoint.address.ip().to_string()),
        port: endpoint.address.port(),
        weight: endpoint.weight,
    }
}

fn dns_names(name: &DnsName) -> Names {
    match name {
        DnsName::Address { name, port } => {
            Names::Hosts(vec![Host { host: name.as_str().into(), port: *port, weight: 1 }])
        }
        DnsName::Service { name } => Names::Srv(name.as_str().into()),
    }
}
