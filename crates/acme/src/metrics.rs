//! What is counted, and until when certificates hold.

use std::collections::BTreeMap;
use std::time::Duration;

use terrace_instruments::{Counter, Family, Gauge, Kind, Meter};

static EXPIRES: Family = Family {
    name: "terrace_certificate_expires",
    help: "Until a listener's certificate for a host ends; below zero it has ended.",
    unit: "seconds",
    labels: &["listener", "host"],
    kind: Kind::Gauge,
};
static ORDERS: Family = Family {
    name: "terrace_acme_orders",
    help: "Orders of certificates, by outcome: issued, found (another machine was faster), refused, rate_limited, unreachable, failed.",
    unit: "",
    labels: &["outcome"],
    kind: Kind::Counter,
};

/// Handles onto the figures.
#[derive(Debug)]
pub(crate) struct Metrics {
    meter: Meter,
    /// By listener and host, with the moment of the wall clock at which it ends.
    expiries: BTreeMap<(String, String), (Gauge, Duration)>,
}

impl Metrics {
    pub(crate) fn new(meter: &Meter) -> Self {
        let metrics = Self { meter: meter.clone(), expiries: BTreeMap::new() };
        // So that they are there before the first order.
        for outcome in ["issued", "found", "refused", "rate_limited", "unreachable", "failed"] {
            let _zero = metrics.orders(outcome);
        }
        metrics
    }

    pub(crate) fn orders(&self, outcome: &str) -> Counter {
        self.meter.counter(&ORDERS, &[outcome])
    }

    /// Takes the certificates that are shown now: listener, host, and until when.
    pub(crate) fn set_shown(&mut self, shown: Vec<(String, String, Duration)>) {
        let mut expiries = BTreeMap::new();
        for (listener, host, until) in shown {
            let key = (listener, host);
            let gauge = match self.expiries.remove(&key) {
                Some((gauge, _)) => gauge,
                None => self.meter.gauge(&EXPIRES, &[&key.0, &key.1]),
            };
            expiries.insert(key, (gauge, until));
        }
        self.expiries = expiries;
    }

    /// Brings the figures up to the time.
    pub(crate) fn tick(&self, wall: Duration) {
        let seconds = |moment: Duration| i64::try_from(moment.as_secs()).unwrap_or(i64::MAX);
        for (gauge, until) in self.expiries.values() {
            gauge.set(seconds(*until).saturating_sub(seconds(wall)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_is_left_counts_down_through_zero() {
        let meter = Meter::new(1);
        let mut metrics = Metrics::new(&meter);
        let until = Duration::from_secs(1_000);
        let shown = vec![("public".to_owned(), "a.example".to_owned(), until)];
        metrics.set_shown(shown.clone());
        let gauge = meter.gauge(&EXPIRES, &["public", "a.example"]);
        metrics.tick(Duration::from_secs(900));
        assert_eq!(gauge.value(), 100);
        metrics.set_shown(shown);
        metrics.tick(Duration::from_secs(1_100));
        assert_eq!(gauge.value(), -100);
    }
}
