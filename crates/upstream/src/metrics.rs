//! The figures of this crate, in one place: resolved to handles when an endpoint is published, gone with it.
//!
//! Labels are names of services and endpoints, which the file and the fleet bound, and words from closed lists.

use terrace_instruments::{Counter, Family, Gauge, Histogram, Kind, Meter};

use crate::lease::FailureKind;

const ENDPOINT: &[&str] = &["service", "endpoint"];

static REQUESTS: Family = Family {
    name: "terrace_upstream_requests_total",
    help: "Attempts sent to an endpoint, by how they ended.",
    unit: "",
    labels: &["service", "endpoint", "outcome"],
    kind: Kind::Counter,
};
static LATENCY: Family = Family {
    name: "terrace_upstream_first_byte_seconds",
    help: "Time from sending an attempt to its response head, of attempts that went well.",
    unit: "seconds",
    labels: &["service"],
    kind: Kind::Histogram,
};
static IN_FLIGHT: Family = gauge("terrace_upstream_in_flight", "Requests in flight at an endpoint.");
static STREAMS: Family = gauge("terrace_upstream_streams", "Upgraded connections open at an endpoint.");
static CONNECTIONS: Family = gauge("terrace_upstream_connections", "Connections open to an endpoint.");
static HEALTHY: Family = gauge("terrace_upstream_healthy", "1 unless active checks found the endpoint down.");
static EJECTED: Family = gauge("terrace_upstream_ejected", "1 while the endpoint is out for failing.");
static DRAINED: Family =
    gauge("terrace_upstream_drained", "1 while an operator has the endpoint out of rotation.");
static CHECKS: Family = Family {
    name: "terrace_upstream_health_checks_total",
    help: "Active checks of an endpoint, by result.",
    unit: "",
    labels: &["service", "endpoint", "result"],
    kind: Kind::Counter,
};
static EJECTIONS: Family = Family {
    name: "terrace_upstream_ejections_total",
    help: "Times an endpoint of the service was taken out for failing.",
    unit: "",
    labels: &["service"],
    kind: Kind::Counter,
};
static AVAILABLE: Family = Family {
    name: "terrace_upstream_endpoints_available",
    help: "Endpoints of the service that requests may go to.",
    unit: "",
    labels: &["service"],
    kind: Kind::Gauge,
};
static PANIC: Family = Family {
    name: "terrace_upstream_panic",
    help: "1 while so few endpoints are healthy that all are used.",
    unit: "",
    labels: &["service"],
    kind: Kind::Gauge,
};
static RETRIES: Family = Family {
    name: "terrace_upstream_retries_total",
    help: "Retries begun, and retries that the budget refused.",
    unit: "",
    labels: &["service", "result"],
    kind: Kind::Counter,
};
static LOOKUPS: Family = Family {
    name: "terrace_discovery_lookups_total",
    help: "DNS lookups of a service's endpoints, by result.",
    unit: "",
    labels: &["service", "result"],
    kind: Kind::Counter,
};

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, unit: "", labels: ENDPOINT, kind: Kind::Gauge }
}

/// The figures of one service.
#[derive(Debug)]
pub(crate) struct ServiceMetrics {
    latency: Histogram,
    pub(crate) ejections: Counter,
    pub(crate) available: Gauge,
    pub(crate) panic: Gauge,
    pub(crate) retries_begun: Counter,
    pub(crate) retries_refused: Counter,
}

impl ServiceMetrics {
    pub(crate) fn new(meter: &Meter, service: &str) -> Self {
        Self {
            latency: meter.histogram(&LATENCY, &[service]),
            ejections: meter.counter(&EJECTIONS, &[service]),
            available: meter.gauge(&AVAILABLE, &[service]),
            panic: meter.gauge(&PANIC, &[service]),
            retries_begun: meter.counter(&RETRIES, &[service, "begun"]),
            retries_refused: meter.counter(&RETRIES, &[service, "over_budget"]),
        }
    }
}

/// The figures of one endpoint.
#[derive(Debug)]
pub(crate) struct EndpointMetrics {
    /// The service's own: an endpoint's latency is in its report.
    pub(crate) latency: Histogram,
    pub(crate) success: Counter,
    failures: [Counter; FailureKind::ALL.len()],
    pub(crate) in_flight: Gauge,
    pub(crate) streams: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) healthy: Gauge,
    pub(crate) ejected: Gauge,
    pub(crate) drained: Gauge,
    pub(crate) checks_passed: Counter,
    pub(crate) checks_failed: Counter,
}

impl EndpointMetrics {
    pub(crate) fn new(meter: &Meter, of_service: &ServiceMetrics, service: &str, endpoint: &str) -> Self {
        let outcome = |outcome: &str| meter.counter(&REQUESTS, &[service, endpoint, outcome]);
        let gauge = |family: &'static Family| meter.gauge(family, &[service, endpoint]);
        let checks = |result: &str| meter.counter(&CHECKS, &[service, endpoint, result]);
        Self {
            latency: of_service.latency.clone(),
            success: outcome("success"),
            failures: FailureKind::ALL.map(|kind| outcome(kind.as_str())),
            in_flight: gauge(&IN_FLIGHT),
            streams: gauge(&STREAMS),
            connections: gauge(&CONNECTIONS),
            healthy: gauge(&HEALTHY),
            ejected: gauge(&EJECTED),
            drained: gauge(&DRAINED),
            checks_passed: checks("passed"),
            checks_failed: checks("failed"),
        }
    }

    pub(crate) fn failure(&self, kind: FailureKind) -> &Counter {
        &self.failures[kind as usize]
    }
}

/// The figures of one service's discovery.
#[derive(Debug)]
pub(crate) struct DiscoveryMetrics {
    pub(crate) answered: Counter,
    pub(crate) failed: Counter,
}

impl DiscoveryMetrics {
    pub(crate) fn new(meter: &Meter, service: &str) -> Self {
        let lookups = |result: &str| meter.counter(&LOOKUPS, &[service, result]);
        Self { answered: lookups("answered"), failed: lookups("failed") }
    }
}
