//! What the fleet counts: instances by state, restarts, roll-outs by how they ended. Handles are resolved when a service
//! is first seen, so that counting later costs no lookup.

use terrace_instruments::{Counter, Family, Gauge, Kind, Meter};

use crate::status::InstanceState;

static INSTANCES: Family = Family {
    name: "terrace_fleet_instances",
    help: "Instances of a service by how they are.",
    unit: "",
    labels: &["service", "state"],
    kind: Kind::Gauge,
};

static RESTARTS: Family = Family {
    name: "terrace_fleet_restarts_total",
    help: "Instances that ended by themselves, or never got ready, and were started again.",
    unit: "",
    labels: &["service"],
    kind: Kind::Counter,
};

static ROLLOUTS: Family = Family {
    name: "terrace_fleet_rollouts_total",
    help: "Roll-outs of a changed configuration and rolling restarts, by how they ended.",
    unit: "",
    labels: &["service", "outcome"],
    kind: Kind::Counter,
};

/// The handles of one service.
pub(crate) struct Metrics {
    instances: [Gauge; InstanceState::ALL.len()],
    pub(crate) restarts: Counter,
    pub(crate) rollouts_done: Counter,
    pub(crate) rollouts_failed: Counter,
    pub(crate) rollouts_superseded: Counter,
}

impl Metrics {
    pub(crate) fn new(meter: &Meter, service: &str) -> Self {
        let rollouts = |outcome| meter.counter(&ROLLOUTS, &[service, outcome]);
        Self {
            instances: InstanceState::ALL.map(|state| meter.gauge(&INSTANCES, &[service, state.as_str()])),
            restarts: meter.counter(&RESTARTS, &[service]),
            rollouts_done: rollouts("done"),
            rollouts_failed: rollouts("failed"),
            rollouts_superseded: rollouts("superseded"),
        }
    }

    /// Shows how many instances are in which state.
    pub(crate) fn show(&self, states: &[InstanceState]) {
        for (state, gauge) in InstanceState::ALL.iter().zip(&self.instances) {
            let count = states.iter().filter(|other| *other == state).count();
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
