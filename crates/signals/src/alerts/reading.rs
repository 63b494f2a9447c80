//! From the numbers of the meter to an objective's: what was counted since the last look.
//!
//! Counters only grow, until they begin anew: a route that is taken out of the file and put back counts from nothing.
//! So each series is compared with itself; one that shrank has begun anew, and what it holds came since.

use rustc_hash::FxHashMap;
use terrace_instruments::{Family, FamilySnapshot, Kind, SeriesSnapshot, SeriesValue};

use super::ledger::Counts;
use super::{LatencyGoal, Subject};

/// Remembers what each series of one objective held when it was last looked at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// By part and label values: what was last seen, and in which look.
    last: FxHashMap<(Part, Vec<String>), (Counts, u64)>,
    /// Looks so far. The first only sets the mark: what was counted before an objective existed is not held against it.
    looks: u64,
    /// Failures whose requests were not among all requests yet: they were recorded while the numbers were read.
    owed: u64,
}

/// What of a promise a family tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    /// All answers.
    Whole,
    /// Those that failed, which are among all.
    Failed,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Promise {
    /// Answers of status 500 and above are bad; a client that had gone counts neither way.
    Success,
    /// Answers that took longer are bad, and those that failed however quickly: nobody was promised a quick failure.
    Latency(LatencyGoal),
}

impl Reading {
    /// What was counted since the last call.
    pub(crate) fn read(&mut self, subject: &Subject, promise: Promise, own: &[FamilySnapshot]) -> Counts {
        self.looks += 1;
        let mut sum = Counts { total: 0, bad: self.owed };
        for (part, family) in families(subject, promise) {
            for snapshot in own.iter().filter(|snapshot| is_named(snapshot.family, family)) {
                sum = sum.plus(self.read_family(part, subject, promise, snapshot));
            }
        }
        let looks = self.looks;
        self.last.retain(|_, (_, look)| *look == looks);
        self.owed = sum.bad.saturating_sub(sum.total);
        Counts { bad: sum.bad - self.owed, ..sum }
    }

    fn read_family(
        &mut self,
        part: Part,
        subject: &Subject,
        promise: Promise,
        snapshot: &FamilySnapshot,
    ) -> Counts {
        let (label, name) = match subject {
            Subject::Route(name) => ("route", name),
            Subject::Service(name) => ("service", name),
        };
        let mut sum = Counts::default();
        let Some(place) = place_of(snapshot.family, label) else { return sum };
        let class = place_of(snapshot.family, "class");
        for series in snapshot.series.iter().filter(|series| series.labels.get(place) == Some(name)) {
            sum = sum.plus(self.grown(part, series, held(series, class, (part, promise))));
        }
        sum
    }

    fn grown(&mut self, part: Part, series: &SeriesSnapshot, held: Counts) -> Counts {
        let key = (part, series.labels.clone());
        match self.last.get_mut(&key) {
            Some((before, look)) => {
                *look = self.looks;
                grown(std::mem::replace(before, held), held)
            }
            None => {
                self.last.insert(key, (held, self.looks));
                if self.looks == 1 { Counts::default() } else { held }
            }
        }
    }
}

/// The families that tell of a promise.
fn families(subject: &Subject, promise: Promise) -> Vec<(Part, &'static str)> {
    match (subject, promise) {
        (Subject::Route(_), Promise::Success) => vec![(Part::Whole, "terrace_requests")],
        (Subject::Service(_), Promise::Success) => vec![(Part::Whole, "terrace_service_requests")],
        (Subject::Route(_), Promise::Latency(_)) => vec![
            (Part::Whole, "terrace_request_duration_seconds"),
            (Part::Failed, "terrace_failed_request_duration_seconds"),
        ],
        (Subject::Service(_), Promise::Latency(_)) => vec![
            (Part::Whole, "terrace_service_request_duration_seconds"),
            (Part::Failed, "terrace_service_failed_request_duration_seconds"),
        ],
    }
}

fn grown(before: Counts, held: Counts) -> Counts {
    match held.total < before.total || held.bad < before.bad {
        true => held,
        false => Counts { total: held.total - before.total, bad: held.bad - before.bad },
    }
}

fn held(series: &SeriesSnapshot, class: Option<usize>, what: (Part, Promise)) -> Counts {
    match (&series.value, what) {
        (SeriesValue::Counter(count), (Part::Whole, Promise::Success)) => {
            match class.and_then(|class| series.labels.get(class)).map(String::as_str) {
                Some("none") => Counts::default(),
                Some("5xx") => Counts { total: *count, bad: *count },
                _ => Counts { total: *count, bad: 0 },
            }
        }
        (SeriesValue::Histogram(histogram), (Part::Whole, Promise::Latency(goal))) => {
            let total = histogram.count();
            Counts { total, bad: total - histogram.count_at_most(goal.under).min(total) }
        }
        // Those that took longer are bad already.
        (SeriesValue::Histogram(failed), (Part::Failed, Promise::Latency(goal))) => {
            Counts { total: 0, bad: failed.count_at_most(goal.under) }
        }
        _ => Counts::default(),
    }
}

fn place_of(family: &Family, label: &str) -> Option<usize> {
    family.labels.iter().position(|name| *name == label)
}

/// Whether the family is shown under this name, without `_total` and with its unit.
fn is_named(family: &Family, name: &str) -> bool {
    let base = match family.name.strip_suffix("_total") {
        Some(base) if family.kind == Kind::Counter => base,
        _ => family.name,
    };
    match name.strip_prefix(base) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('_') == Some(family.unit) && !family.unit.is_empty(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use terrace_instruments::Meter;

    use super::*;

    static REQUESTS: Family = Family {
        name: "terrace_requests",
        help: "Requests.",
        unit: "",
        labels: &["route", "class"],
        kind: Kind::Counter,
    };
    static DURATION: Family = Family {
        name: "terrace_request_duration",
        help: "Duration.",
        unit: "seconds",
        labels: &["route"],
        kind: Kind::Histogram,
    };

    static FAILED_DURATION: Family = Family { name: "terrace_failed_request_duration", ..DURATION };

    fn orders() -> Subject {
        Subject::Route("orders".to_owned())
    }

    #[test]
    fn failures_count_and_clients_that_had_gone_do_not() {
        let meter = Meter::new(1);
        let count = |class, by| meter.counter(&REQUESTS, &["orders", class]).add(by);
        let mut reading = Reading::default();
        count("2xx", 1_000);
        let keep = meter.counter(&REQUESTS, &["orders", "2xx"]);
        assert_eq!(reading.read(&orders(), Promise::Success, &meter.collect()), Counts::default());
        keep.add(90);
        count("4xx", 5);
        count("5xx", 3);
        count("none", 7);
        meter.counter(&REQUESTS, &["other", "5xx"]).add(50);
        assert_eq!(reading.read(&orders(), Promise::Success, &meter.collect()), Counts { total: 98, bad: 3 });
        assert_eq!(reading.read(&orders(), Promise::Success, &meter.collect()), Counts::default());
    }

    #[test]
    fn a_counter_that_begins_anew_loses_and_invents_nothing() {
        let meter = Meter::new(1);
        let mut reading = Reading::default();
        let first = meter.counter(&REQUESTS, &["orders", "5xx"]);
        reading.read(&orders(), Promise::Success, &meter.collect());
        first.add(100);
        drop(first);
        assert_eq!(reading.read(&orders(), Promise::Success, &meter.collect()).bad, 100, "its last report");
        assert_eq!(reading.read(&orders(), Promise::Success, &meter.collect()).bad, 0, "it is gone");
        meter.counter(&REQUESTS, &["orders", "5xx"]).add(104);
        assert_eq!(reading.read(&orders(), Promise::Success, &meter.collect()).bad, 104, "it began anew");
    }

    #[test]
    fn slow_answers_are_those_beyond_the_bound() {
        let meter = Meter::new(1);
        let durations = meter.histogram(&DURATION, &["orders"]);
        let promise = Promise::Latency(LatencyGoal { under: Duration::from_millis(300), share: 0.99 });
        let mut reading = Reading::default();
        reading.read(&orders(), promise, &meter.collect());
        for ms in [100, 200, 290, 400, 5_000] {
            durations.record(Duration::from_millis(ms));
        }
        assert_eq!(reading.read(&orders(), promise, &meter.collect()), Counts { total: 5, bad: 2 });
    }

    #[test]
    fn what_fails_is_bad_once_whether_it_was_quick_or_slow() {
        let meter = Meter::new(1);
        let all = meter.histogram(&DURATION, &["orders"]);
        let failed = meter.histogram(&FAILED_DURATION, &["orders"]);
        let promise = Promise::Latency(LatencyGoal { under: Duration::from_millis(300), share: 0.99 });
        let mut reading = Reading::default();
        reading.read(&orders(), promise, &meter.collect());
        for (ms, is_failure) in [(1, true), (2, false), (5_000, true), (400, false), (3, true)] {
            all.record(Duration::from_millis(ms));
            if is_failure {
                failed.record(Duration::from_millis(ms));
            }
        }
        assert_eq!(reading.read(&orders(), promise, &meter.collect()), Counts { total: 5, bad: 4 });
        // Read between the two records of a request.
        failed.record(Duration::from_millis(1));
        assert_eq!(reading.read(&orders(), promise, &meter.collect()), Counts::default());
        all.record(Duration::from_millis(1));
        assert_eq!(reading.read(&orders(), promise, &meter.collect()), Counts { total: 1, bad: 1 });
    }

    #[test]
    fn nothing_known_of_a_subject_counts_nothing() {
        let mut reading = Reading::default();
        let service = Subject::Service("orders".to_owned());
        assert_eq!(reading.read(&service, Promise::Success, &[]), Counts::default());
    }
}
