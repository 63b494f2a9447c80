//! What the edge counts, and the handles with which it does: RED by route and class of status, connections by listener.

use std::time::Duration;

use terrace_auth::Method;
use terrace_content::Coding;
use terrace_instruments::{Counter, Family, Gauge, Histogram, Kind, Meter, Told};
use terrace_policy::{Priority, Turned};
use terrace_route::Ground;

use crate::guards::Guards;
use crate::identity::Required;

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
static FAILED_DURATION: Family = Family {
    name: "terrace_failed_request_duration",
    help: "The same of requests answered with status 500 and above alone: what fails quickly is no quick answer.",
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
    help: "Requests for a service, those who were sent away in front of it included, by class of status; tries of one request count once. Class none: the client had gone.",
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

static SERVICE_FAILED_DURATION: Family = Family {
    name: "terrace_service_failed_request_duration",
    help: "The same of requests answered with status 500 and above alone, by the service they went to.",
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
    failed: Histogram,
    pub(crate) in_flight: Gauge,
    pub(crate) faults: [Counter; 3],
}

impl RouteMetrics {
    pub(crate) fn new(meter: &Meter, route: &str) -> Self {
        let fault = |name| meter.counter(&OWN_ANSWERS, &[route, name]);
        Self {
            by_class: CLASSES.map(|class| meter.counter(&REQUESTS, &[route, class])),
            duration: meter.histogram(&DURATION, &[route]),
            failed: meter.histogram(&FAILED_DURATION, &[route]),
            in_flight: meter.gauge(&IN_FLIGHT, &[route]),
            faults: [fault("client"), fault("upstream"), fault("terrace")],
        }
    }

    #[inline]
    pub(crate) fn answered(&self, class: Class, waited: Duration) {
        self.by_class[class.0].inc();
        self.duration.record(waited);
        if class.is_failure() {
            self.failed.record(waited);
        }
    }
}

/// One service's figures, as its callers see it.
#[derive(Debug, Clone)]
pub(crate) struct ServiceMetrics {
    by_class: [Counter; 6],
    pub(crate) duration: Histogram,
    failed: Histogram,
    pub(crate) fallbacks: Counter,
}

impl ServiceMetrics {
    pub(crate) fn new(meter: &Meter, service: &str) -> Self {
        Self {
            by_class: CLASSES.map(|class| meter.counter(&SERVICE_REQUESTS, &[service, class])),
            duration: meter.histogram(&SERVICE_DURATION, &[service]),
            failed: meter.histogram(&SERVICE_FAILED_DURATION, &[service]),
            fallbacks: meter.counter(&FALLBACKS, &[service]),
        }
    }

    #[inline]
    pub(crate) fn answered(&self, class: Class, waited: Duration) {
        self.by_class[class.0].inc();
        self.duration.record(waited);
        if class.is_failure() {
            self.failed.record(waited);
        }
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

    #[inline]
    fn is_failure(self) -> bool {
        self.0 == CLASSES.len() - 1
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

static ADDRESSES_REFUSED: Family = Family {
    name: "terrace_addresses_refused",
    help: "Requests of clients whose address the route does not let in.",
    unit: "",
    labels: &["route"],
    kind: Kind::Counter,
};
static PREFLIGHTS: Family = Family {
    name: "terrace_cors_preflights",
    help: "Questions of browsers, asked beforehand, that Terrace answered.",
    unit: "",
    labels: &["route"],
    kind: Kind::Counter,
};
static AUTH: Family = Family {
    name: "terrace_auth",
    help: "Requests that were asked who sends them, by the method of their proof (none: there was none) and what came of it: allowed, anonymous, login, missing, malformed, invalid, expired, forbidden, too_many, unavailable.",
    unit: "",
    labels: &["route", "method", "outcome"],
    kind: Kind::Counter,
};
static CODED: Family = Family {
    name: "terrace_coded",
    help: "Answers that were coded for their client, by coding; busy: one that went as it is because too many were being coded.",
    unit: "",
    labels: &["route", "coding"],
    kind: Kind::Counter,
};
static CODING_TAKEN: Family = Family {
    name: "terrace_coding_taken",
    help: "Bytes of answers that were coded, as the service gave them.",
    unit: "bytes",
    labels: &["route"],
    kind: Kind::Counter,
};
static CODING_GIVEN: Family = Family {
    name: "terrace_coding_given",
    help: "Bytes of the same answers as their clients got them.",
    unit: "bytes",
    labels: &["route"],
    kind: Kind::Counter,
};
static VALIDATED: Family = Family {
    name: "terrace_validated",
    help: "Requests held against a schema, by what came of it: ok, or the status that they were refused with.",
    unit: "",
    labels: &["route", "verdict"],
    kind: Kind::Counter,
};
static CHOICES: Family = Family {
    name: "terrace_choices",
    help: "Requests by the service that a route chose for them, and by what decided: rule, share, side, key, chance.",
    unit: "",
    labels: &["route", "service", "by"],
    kind: Kind::Counter,
};
static FAULTS: Family = Family {
    name: "terrace_faults_injected",
    help: "Requests that were delayed or aborted on purpose.",
    unit: "",
    labels: &["route", "kind"],
    kind: Kind::Counter,
};
static MIRRORED: Family = Family {
    name: "terrace_mirrored",
    help: "Requests drawn to be mirrored, by what became of the copy: answered, failed, timed_out; or why there was none: too_large, full, unfinished.",
    unit: "",
    labels: &["route", "service", "outcome"],
    kind: Kind::Counter,
};
static COMPARED: Family = Family {
    name: "terrace_mirror_compared",
    help: "Answers of copies held against the real ones: same, or what differed first: status, body.",
    unit: "",
    labels: &["route", "service", "result"],
    kind: Kind::Counter,
};

/// What one route's rules do; only what it has is counted.
#[derive(Debug)]
pub(crate) struct RuleMetrics {
    addresses_refused: Option<Counter>,
    preflights: Option<Counter>,
    /// For each target, by ground.
    choices: Box<[[Counter; 5]]>,
    pub(crate) faults: Option<FaultMetrics>,
    pub(crate) identity: Option<IdentityMetrics>,
    pub(crate) coding: Option<CodingMetrics>,
    pub(crate) validation: Option<ValidationMetrics>,
}

impl RuleMetrics {
    /// The figures of a route with these guards, which chooses among those services; nothing where there is nothing.
    pub(crate) fn new(
        meter: &Meter,
        route: &str,
        guards: Option<&Guards>,
        chosen: &[&str],
    ) -> Option<Box<Self>> {
        let counter = |is_there: bool, family| is_there.then(|| meter.counter(family, &[route]));
        let has = |of: fn(&Guards) -> bool| guards.is_some_and(of);
        let by = ["rule", "share", "side", "key", "chance"];
        let choice = |service: &&str| by.map(|ground| meter.counter(&CHOICES, &[route, service, ground]));
        let rules = Self {
            addresses_refused: counter(has(|guards| guards.addresses.is_some()), &ADDRESSES_REFUSED),
            preflights: counter(has(|guards| guards.cors.is_some()), &PREFLIGHTS),
            choices: chosen.iter().map(choice).collect(),
            faults: has(|guards| guards.faults.is_some()).then(|| FaultMetrics::new(meter, route)),
            identity: guards
                .and_then(|guards| guards.identity.as_deref())
                .map(|required| IdentityMetrics::new(meter, route, required)),
            coding: has(|guards| guards.compress.is_some()).then(|| CodingMetrics::new(meter, route)),
            validation: has(|guards| guards.validate.is_some()).then(|| ValidationMetrics::new(meter, route)),
        };
        let is_empty = rules.addresses_refused.is_none()
            && rules.preflights.is_none()
            && rules.choices.is_empty()
            && rules.faults.is_none()
            && rules.identity.is_none()
            && rules.coding.is_none()
            && rules.validation.is_none();
        if is_empty { None } else { Some(Box::new(rules)) }
    }

    pub(crate) fn address_refused(&self) {
        self.addresses_refused.iter().for_each(Counter::inc);
    }

    pub(crate) fn preflight_answered(&self) {
        self.preflights.iter().for_each(Counter::inc);
    }

    pub(crate) fn chosen(&self, target: usize, ground: Ground) {
        let by = match ground {
            Ground::Rule(_) => 0,
            Ground::Share(_) => 1,
            Ground::Side => 2,
            Ground::Key => 3,
            Ground::Chance => 4,
        };
        if let Some(counters) = self.choices.get(target) {
            counters[by].inc();
        }
    }
}

/// What became of answers that might be coded.
#[derive(Debug)]
pub(crate) struct CodingMetrics {
    coded: [Counter; Coding::ALL.len()],
    busy: Counter,
    taken: Counter,
    given: Counter,
}

impl CodingMetrics {
    fn new(meter: &Meter, route: &str) -> Self {
        let coded = |name: &'static str| meter.counter(&CODED, &[route, name]);
        Self {
            coded: Coding::ALL.map(|coding| coded(coding.name())),
            busy: coded("busy"),
            taken: meter.counter(&CODING_TAKEN, &[route]),
            given: meter.counter(&CODING_GIVEN, &[route]),
        }
    }

    /// An answer is coded so, or not because too many are.
    pub(crate) fn began(&self, coding: Option<Coding>) {
        match coding.and_then(|coding| Coding::ALL.iter().position(|known| *known == coding)) {
            Some(place) => self.coded[place].inc(),
            None => self.busy.inc(),
        }
    }

    /// So many bytes went in, and so many came out.
    pub(crate) fn ended(&self, taken_bytes: u64, given_bytes: u64) {
        self.taken.add(taken_bytes);
        self.given.add(given_bytes);
    }
}

/// What became of requests held against a schema.
#[derive(Debug)]
pub(crate) struct ValidationMetrics {
    ok: Counter,
    refused: [(u16, Counter); 6],
}

impl ValidationMetrics {
    fn new(meter: &Meter, route: &str) -> Self {
        let counter = |verdict: &'static str| meter.counter(&VALIDATED, &[route, verdict]);
        let refused = [(400, "400"), (404, "404"), (405, "405"), (413, "413"), (415, "415"), (422, "422")];
        Self { ok: counter("ok"), refused: refused.map(|(status, name)| (status, counter(name))) }
    }

    /// One fits, or was refused with that status.
    pub(crate) fn count(&self, refused: Option<u16>) {
        let Some(status) = refused else { return self.ok.inc() };
        self.refused.iter().filter(|(known, _)| *known == status).for_each(|(_, counter)| counter.inc());
    }
}

/// Counters by outcome, the usual one first.
type ByOutcome = Vec<(&'static str, Counter)>;

/// What became of requests that were asked who sends them.
#[derive(Debug)]
pub(crate) struct IdentityMetrics {
    /// By method, where there was a proof.
    by_method: Vec<(Option<Method>, ByOutcome)>,
    told: Told,
}

impl IdentityMetrics {
    /// What may become of a proof.
    const OF_PROOFS: [&str; 8] =
        ["allowed", "invalid", "expired", "forbidden", "malformed", "too_many", "unavailable", "login"];
    /// What may become of a request without.
    const WITHOUT: [&str; 5] = ["anonymous", "missing", "login", "malformed", "unavailable"];

    fn new(meter: &Meter, route: &str, required: &Required) -> Self {
        let row = |method: Option<Method>, outcomes: &[&'static str]| {
            let name = method.map_or("none", Method::as_str);
            let counter = |outcome: &&'static str| (*outcome, meter.counter(&AUTH, &[route, name, outcome]));
            (method, outcomes.iter().map(counter).collect())
        };
        let mut by_method: Vec<_> =
            required.methods().map(|method| row(Some(method), &Self::OF_PROOFS)).collect();
        by_method.push(row(None, &Self::WITHOUT));
        Self { by_method, told: Told::default() }
    }

    #[inline]
    pub(crate) fn count(&self, method: Option<Method>, outcome: &str) {
        let row = self.by_method.iter().find(|(of, _)| *of == method);
        if let Some((_, counter)) =
            row.and_then(|(_, counters)| counters.iter().find(|(name, _)| *name == outcome))
        {
            counter.inc();
        }
    }

    /// Whether one more refusal may be told in this second.
    pub(crate) fn may_tell(&self, now: Duration) -> bool {
        self.told.may(now)
    }
}

/// What is broken on purpose on one route.
#[derive(Debug, Clone)]
pub(crate) struct FaultMetrics {
    pub(crate) delayed: Counter,
    pub(crate) aborted: Counter,
}

impl FaultMetrics {
    pub(crate) fn new(meter: &Meter, route: &str) -> Self {
        let kind = |kind| meter.counter(&FAULTS, &[route, kind]);
        Self { delayed: kind("delay"), aborted: kind("abort") }
    }
}

/// What became of a request that was drawn to be mirrored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mirrored {
    Answered,
    Failed,
    TimedOut,
    TooLarge,
    /// The lane had no room.
    Full,
    /// The original's body did not come whole.
    Unfinished,
}

/// The copies of one route's requests.
#[derive(Debug, Clone)]
pub(crate) struct MirrorMetrics {
    outcomes: [Counter; 6],
    pub(crate) same: Counter,
    pub(crate) other_status: Counter,
    pub(crate) other_body: Counter,
}

impl MirrorMetrics {
    pub(crate) fn new(meter: &Meter, route: &str, service: &str) -> Self {
        let outcomes = ["answered", "failed", "timed_out", "too_large", "full", "unfinished"];
        let result = |result| meter.counter(&COMPARED, &[route, service, result]);
        Self {
            outcomes: outcomes.map(|outcome| meter.counter(&MIRRORED, &[route, service, outcome])),
            same: result("same"),
            other_status: result("status"),
            other_body: result("body"),
        }
    }

    pub(crate) fn count(&self, outcome: Mirrored) {
        self.outcomes[outcome as usize].inc();
    }
}

static SHED: Family = Family {
    name: "terrace_shed",
    help: "Requests that were sent away to protect others, by why (overload, breaker_open, queue_full, queue_wait, deadline, client_left), by priority, and by the service they were for (none: by the overload of the machine).",
    unit: "",
    labels: &["reason", "priority", "service"],
    kind: Kind::Counter,
};
static PRESSURE: Family = Family {
    name: "terrace_overload_pressure",
    help: "How hard pressed this machine is: per hundred all requests of one more priority are sent away, low ones first.",
    unit: "",
    labels: &[],
    kind: Kind::Gauge,
};
static BREAKER: Family =
    of_service("terrace_breaker_state", "A service's breaker: 0 closed, 1 half-open, 2 open.");
static LIMIT: Family =
    of_service("terrace_concurrency_limit", "Requests that a service is given at once; 0 without a limit.");
static WORKED_ON: Family =
    of_service("terrace_concurrency", "Requests that a service was working on when that was last looked at.");
static QUEUE: Family = of_service("terrace_queue_length", "Requests that wait for a place at a service.");
static QUEUE_WAIT: Family = Family {
    name: "terrace_queue_wait",
    help: "How long requests waited for a place at a service, those that got none too.",
    unit: "seconds",
    labels: &["service"],
    kind: Kind::Histogram,
};
static FALLBACKS: Family = Family {
    name: "terrace_fallbacks",
    help: "Requests that something else answered in the place of a service.",
    unit: "",
    labels: &["service"],
    kind: Kind::Counter,
};

const fn of_service(name: &'static str, help: &'static str) -> Family {
    Family { name, help, unit: "", labels: &["service"], kind: Kind::Gauge }
}

/// How hard pressed this machine is.
pub(crate) fn pressure(meter: &Meter) -> Gauge {
    meter.gauge(&PRESSURE, &[])
}

/// Why a request was sent away to protect others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shed {
    Overload,
    Breaker,
    QueueFull,
    QueueWait,
    Deadline,
    ClientLeft,
}

impl Shed {
    const ALL: [Self; 6] =
        [Self::Overload, Self::Breaker, Self::QueueFull, Self::QueueWait, Self::Deadline, Self::ClientLeft];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Overload => "overload",
            Self::Breaker => "breaker_open",
            Self::QueueFull => Turned::Full.as_str(),
            Self::QueueWait => Turned::TooLong.as_str(),
            Self::Deadline => Turned::Deadline.as_str(),
            Self::ClientLeft => "client_left",
        }
    }
}

/// Requests that were sent away.
#[derive(Debug, Clone)]
pub(crate) struct ShedMetrics([[Counter; Priority::ALL.len()]; Shed::ALL.len()]);

impl ShedMetrics {
    /// Those on their way to a service, or of the whole machine.
    pub(crate) fn new(meter: &Meter, service: Option<&str>) -> Self {
        let service = service.unwrap_or("none");
        let counter = |shed: Shed, priority: Priority| {
            meter.counter(&SHED, &[shed.as_str(), priority.as_str(), service])
        };
        Self(Shed::ALL.map(|shed| Priority::ALL.map(|priority| counter(shed, priority))))
    }

    pub(crate) fn count(&self, shed: Shed, priority: Priority) {
        self.0[shed as usize][priority as usize].inc();
    }
}

/// The figures of a service's gate.
#[derive(Debug, Clone)]
pub(crate) struct GateMetrics {
    pub(crate) breaker: Gauge,
    pub(crate) limit: Gauge,
    pub(crate) in_flight: Gauge,
    pub(crate) length: Gauge,
    pub(crate) waited: Histogram,
    pub(crate) shed: ShedMetrics,
}

impl GateMetrics {
    pub(crate) fn new(meter: &Meter, service: &str) -> Self {
        let gauge = |family| meter.gauge(family, &[service]);
        Self {
            breaker: gauge(&BREAKER),
            limit: gauge(&LIMIT),
            in_flight: gauge(&WORKED_ON),
            length: gauge(&QUEUE),
            waited: meter.histogram(&QUEUE_WAIT, &[service]),
            shed: ShedMetrics::new(meter, Some(service)),
        }
    }
}
