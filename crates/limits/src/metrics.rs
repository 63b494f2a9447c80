//! What limits count: decisions by limit, and how the Redis behind them does. Labels are names of the file.

use terrace_instruments::{Counter, Family, Gauge, Kind, Meter};

static DECISIONS: Family = Family {
    name: "terrace_limit",
    help: "Decisions of limits, by what was decided: allowed, waited (allowed after its turn came), refused, would_refuse (dry run).",
    unit: "",
    labels: &["limit", "outcome"],
    kind: Kind::Counter,
};
static KEYS: Family = Family {
    name: "terrace_limit_keys",
    help: "Keys that a limit remembers.",
    unit: "",
    labels: &["limit"],
    kind: Kind::Gauge,
};
static FORGOTTEN: Family = Family {
    name: "terrace_limit_forgotten",
    help: "Keys that a limit forgot for want of room although they had used some of it; raise `keys` when this grows.",
    unit: "",
    labels: &["limit"],
    kind: Kind::Counter,
};
static ENGINE_UP: Family = Family {
    name: "terrace_limit_engine_up",
    help: "Whether the Redis that limits are shared through answers; 0: this machine goes on with its share.",
    unit: "",
    labels: &["engine"],
    kind: Kind::Gauge,
};
static ENGINE_MACHINES: Family = Family {
    name: "terrace_limit_engine_machines",
    help: "Machines that share limits through this Redis, as last heard.",
    unit: "",
    labels: &["engine"],
    kind: Kind::Gauge,
};
static ENGINE_DECISIONS: Family = Family {
    name: "terrace_limit_engine_decisions",
    help: "Decisions of shared limits, by who made them: shared (Redis) or local (this machine, from its share).",
    unit: "",
    labels: &["engine", "by"],
    kind: Kind::Counter,
};
static QUOTA_FAILURES: Family = Family {
    name: "terrace_limit_quota_write_failures",
    help: "Attempts to write down quotas that failed; what was used since the last one that went well is lost in a crash.",
    unit: "",
    labels: &[],
    kind: Kind::Counter,
};

/// What became of a request at one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Allowed,
    /// It passed when its turn came.
    Waited,
    /// It was refused.
    Refused,
    /// It would have been refused, if the limit did more than count.
    WouldRefuse,
}

impl Outcome {
    /// As it stands in metrics and traces.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Waited => "waited",
            Self::Refused => "refused",
            Self::WouldRefuse => "would_refuse",
        }
    }
}

/// One limit's figures.
#[derive(Debug)]
pub(crate) struct LimitMetrics {
    outcomes: [Counter; 4],
    pub(crate) keys: Gauge,
    pub(crate) forgotten: Counter,
}

impl LimitMetrics {
    pub(crate) fn new(meter: &Meter, limit: &str) -> Self {
        let outcome = |outcome: Outcome| meter.counter(&DECISIONS, &[limit, outcome.as_str()]);
        Self {
            outcomes: [Outcome::Allowed, Outcome::Waited, Outcome::Refused, Outcome::WouldRefuse]
                .map(outcome),
            keys: meter.gauge(&KEYS, &[limit]),
            forgotten: meter.counter(&FORGOTTEN, &[limit]),
        }
    }

    #[inline]
    pub(crate) fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].inc();
    }
}

/// One engine's figures.
#[derive(Debug)]
pub(crate) struct EngineMetrics {
    pub(crate) up: Gauge,
    pub(crate) machines: Gauge,
    pub(crate) shared: Counter,
    pub(crate) local: Counter,
}

impl EngineMetrics {
    pub(crate) fn new(meter: &Meter, engine: &str) -> Self {
        Self {
            up: meter.gauge(&ENGINE_UP, &[engine]),
            machines: meter.gauge(&ENGINE_MACHINES, &[engine]),
            shared: meter.counter(&ENGINE_DECISIONS, &[engine, "shared"]),
            local: meter.counter(&ENGINE_DECISIONS, &[engine, "local"]),
        }
    }
}

/// Failed attempts to write quotas down.
pub(crate) fn quota_failures(meter: &Meter) -> Counter {
    meter.counter(&QUOTA_FAILURES, &[])
}
