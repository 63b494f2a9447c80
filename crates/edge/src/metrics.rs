//! What the edge counts, and the handles with which it does: RED by route and class of status, connections by listener.

use terrace_instruments::{Counter, Family, Gauge, Histogram, Kind, Meter};

static REQUESTS: Family = Family {
    name: "terrace_requests",
    help: "Requests that were answered, by route and class of status; class none: the client had gone.",
    unit: "",
    labels: &["route", "class"],
    kind: Kind::Counter,
};
static DURATION: Family = Family {
    name: "terrace_request_duration",
    help: "From a request's head to the last byte of its answer; of WebSockets, event streams and gRPC to the answer's head.",
    unit: "seconds",
    labels: &["route"],
    kind: Kind::Histogram,
};
static IN_FLIGHT: Family = Family {
    name: "terrace_requests_in_flight",
    help: "Requests that are being served.",
    unit: "",
    labels: &["route"],
    kind: Kind::Gauge,
};
static OWN_ANSWERS: Family = Family {
    name: "terrace_own_answers",
    help: "Answers that Terrace gave in the place of a service, by whose fault it was.",
    unit: "",
    labels: &["route", "fault"],
    kind: Kind::Counter,
};
static CONNECTIONS: Family = Family {
    name: "terrace_connections",
    help: "Connections from clients that are open.",
    unit: "",
    labels: &["listener"],
    kind: Kind::Gauge,
};
static ACCEPTED: Family = Family {
    name: "terrace_connections_accepted",
    help: "Connections from clients, by what became of them: served, over a bound, failed before a request, or an authority whose question was answered.",
    unit: "",
    labels: &["listener", "outcome"],
    kind: Kind::Counter,
};

static PANICS: Family = Family {
    name: "terrace_panics",
    help: "Connections and streams of clients that a fault in Terrace itself ended; the others went on.",
    unit: "",
    labels: &[],
    kind: Kind::Counter,
};

static SERVICE_REQUESTS: Family = Family {
    name: "terrace_service_requests",
    help: "Requests that went to a service, by class of status; tries of one request count once. Class none: the client had gone.",
    unit: "",
    labels: &["service", "class"],
    kind: Kind::Counter,
};
static SERVICE_DURATION: Family = Family {
    name: "terrace_service_request_duration",
    help: "From a request's head to the last byte of its answer, by the service it went to, all tries included; of WebSockets, event streams and gRPC to the answer's head.",
    unit: "seconds",
    labels: &["service"],
    kind: Kind::Histogram,
};

/// What was given up because of a fault of ours.
pub(crate) fn panics(meter: &Meter) -> Counter {
    meter.counter(&PANICS, &[])
}

/// The classes of status, by their first digit; 0 when the client had gone before there was one.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// One route's figures.
#[derive(Debug, Clone)]
pub(crate) struct RouteMetrics {
    by_class: [Counter; 6],
    pub(crate) duration: Histogram,
    pub(crate) in_flight: Gauge,
    pub(crate) faults: [Counter; 3],
}

impl RouteMetrics {
    pub(crate) fn new(meter: &Meter, route: &str) -> Self {
        let fault = |name| meter.counter(&OWN_ANSWERS, &[route, name]);
        Self {
            by_class: CLASSES.map(|class| meter.counter(&REQUESTS, &[route, class])),
            duration: meter.histogram(&DURATION, &[route]),
            in_flight: meter.gauge(&IN_FLIGHT, &[route]),
            faults: [fault("client"), fault("upstream"), fault("terrace")],
        }
    }

    #[inline]
    pub(crate) fn answered(&self, class: Class) {
        self.by_class[class.0].inc();
    }
}

/// One service's figures, as its callers see it.
#[derive(Debug, Clone)]
pub(crate) struct ServiceMetrics {
    by_class: [Counter; 6],
    pub(crate) duration: Histogram,
}

impl ServiceMetrics {
    pub(crate) fn new(meter: &Meter, service: &str) -> Self {
        Self {
            by_class: CLASSES.map(|class| meter.counter(&SERVICE_REQUESTS, &[service, class])),
            duration: meter.histogram(&SERVICE_DURATION, &[service]),
        }
    }

    #[inline]
    pub(crate) fn answered(&self, class: Class) {
        self.by_class[class.0].inc();
    }
}

/// A class of status, by its place among [`CLASSES`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Class(usize);

impl Class {
    #[inline]
    pub(crate) fn of(status: u16) -> Self {
        Self(usize::from(status / 100).min(CLASSES.len() - 1))
    }
}

/// One listener's figures.
#[derive(Debug, Clone)]
pub(crate) struct ListenerMetrics {
    pub(crate) open: Gauge,
    pub(crate) served: Counter,
    pub(crate) over_bound: Counter,
    pub(crate) failed: Counter,
    pub(crate) answered: Counter,
}

impl ListenerMetrics {
    pub(crate) fn new(meter: &Meter, listener: &str) -> Self {
        let accepted = |outcome| meter.counter(&ACCEPTED, &[listener, outcome]);
        Self {
            open: meter.gauge(&CONNECTIONS, &[listener]),
            served: accepted("served"),
            over_bound: accepted("over_bound"),
            failed: accepted("failed"),
            answered: accepted("answered"),
        }
    }
}
