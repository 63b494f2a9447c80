//! What was fetched last from each instance, for those who ask Terrace instead of each instance; and how it went.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use terrace_instruments::{Family, Kind};
use terrace_runtime::clock;
use terrace_signals::series::text::{Text, TextSample, merge, write};
use terrace_signals::series::{Sample, text_name};

use crate::exposition::{Exposition, Format, Rendered, labels};
use crate::receive::Said;

/// Samples kept of all instances together; what is beyond is still charted but not shown again.
const SAMPLES_MAX: usize = 100_000;

static UP: Family = Family {
    name: "terrace_scrape_up",
    help: "1 when the last fetch of an instance's own metrics went well.",
    unit: "",
    labels: LABELS,
    kind: Kind::Gauge,
};
static DURATION: Family = Family {
    name: "terrace_scrape_duration_seconds",
    help: "How long the last fetch of an instance's own metrics took.",
    unit: "seconds",
    labels: LABELS,
    kind: Kind::Gauge,
};
static SAMPLES: Family = Family {
    name: "terrace_scrape_samples",
    help: "Samples in an instance's own metrics.",
    unit: "",
    labels: LABELS,
    kind: Kind::Gauge,
};
static DROPPED: Family = Family {
    name: "terrace_scrape_samples_dropped",
    help: "Samples of an instance's own metrics that were left out: beyond a bound, twice, or not possible.",
    unit: "",
    labels: LABELS,
    kind: Kind::Gauge,
};
const LABELS: &[&str] = &["instance", "service"];

/// Service and instance.
pub(crate) type Of = (Arc<str>, Arc<str>);

/// How the last fetch went, and what it brought.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// `None`: it failed.
    pub(crate) text: Option<Text>,
    /// How long it took.
    pub(crate) took: Duration,
}

/// The last outcome of each instance. Cheap to clone; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<BTreeMap<Of, Outcome>>>);

impl Kept {
    /// Keeps an outcome and says what is to be charted of it.
    pub(crate) fn put(&self, of: &Of, outcome: Outcome) -> Vec<Sample> {
        let mut samples = own_samples(of, &outcome);
        samples.extend(outcome.text.iter().flat_map(Text::to_samples));
        self.lock().insert(of.clone(), outcome);
        samples
    }

    /// Forgets instances that are gone.
    pub(crate) fn retain(&self, is_there: impl Fn(&Of) -> bool) {
        self.lock().retain(|of, _| is_there(of));
    }

    /// All instances' own metrics as one text: those that were fetched, and of those that were sent what was not fetched too.
    pub(crate) fn render(&self, format: Format, said: &Said) -> Rendered {
        let kept = self.lock();
        let fetched: HashSet<(&str, &str, &str)> = kept.iter().flat_map(names).collect();
        let said = said.text(clock::now(), |name, sample| {
            let of = |wanted| label(sample, wanted).unwrap_or_default();
            fetched.contains(&(name, of("service"), of("instance")))
        });
        let mut room = SAMPLES_MAX;
        let texts = kept.values().filter_map(|outcome| outcome.text.as_ref()).chain([&said]);
        let fitting = texts.filter(|text| {
            let fits = text.samples() <= room;
            room -= if fits { text.samples() } else { 0 };
            fits
        });
        let (families, _dropped) = merge(fitting);
        Rendered { content_type: format.content_type(), body: write(&families, format.dialect()) }
    }

    /// Adds how the fetches went.
    pub(crate) fn render_own(&self, out: &mut Exposition) {
        let kept = self.lock();
        for family in [&UP, &DURATION, &SAMPLES, &DROPPED] {
            if !kept.is_empty() {
                out.family(family.name, family.help, family.unit, family.kind);
            }
            for ((service, instance), outcome) in kept.iter() {
                out.gauge(&labels(LABELS, &[&**instance, &**service]), value(family, outcome));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Of, Outcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each name that an instance was seen to show, with its service and its own name.
fn names<'k>((of, outcome): (&'k Of, &'k Outcome)) -> impl Iterator<Item = (&'k str, &'k str, &'k str)> {
    let families = outcome.text.iter().flat_map(|text| &text.families);
    families.map(|family| (&*family.name, &*of.0, &*of.1))
}

fn label<'s>(sample: &'s TextSample, wanted: &str) -> Option<&'s str> {
    sample.labels.iter().find(|(name, _)| **name == *wanted).map(|(_, value)| &**value)
}

fn value(family: &Family, outcome: &Outcome) -> f64 {
    let samples = outcome.text.as_ref().map_or(0, Text::samples);
    match family.name {
        name if name == UP.name => f64::from(u8::from(outcome.text.is_some())),
        name if name == DURATION.name => outcome.took.as_secs_f64(),
        name if name == SAMPLES.name => samples as f64,
        _ => outcome.text.as_ref().map_or(0, |text| text.dropped) as f64,
    }
}

fn own_samples((service, instance): &Of, outcome: &Outcome) -> Vec<Sample> {
    let labels: Arc<[(Arc<str>, Arc<str>)]> =
        Arc::new([("instance".into(), Arc::clone(instance)), ("service".into(), Arc::clone(service))]);
    let sample = |family: &'static Family| Sample {
        name: text_name(family).into(),
        kind: family.kind,
        labels: Arc::clone(&labels),
        value: value(family, outcome),
    };
    [&UP, &DURATION, &SAMPLES, &DROPPED].map(sample).into()
}

#[cfg(test)]
mod tests {
    use terrace_signals::series::text::{Dialect, TextBounds, parse};

    use super::*;

    fn text(lines: &str) -> Text {
        parse(lines.as_bytes(), Dialect::Prometheus, &TextBounds::default()).expect("it is in the grammar")
    }

    #[test]
    fn what_an_instance_tells_in_both_ways_is_shown_once() {
        let kept = Kept::default();
        let fetched = "# TYPE placed_total counter\nplaced_total{instance=\"a-1\",service=\"a\"} 3\n";
        let of: Of = ("a".into(), "a-1".into());
        kept.put(&of, Outcome { text: Some(text(fetched)), took: Duration::ZERO });
        let said = Said::default();
        let sent = "# TYPE placed_total counter\nplaced_total{instance=\"a-1\",service=\"a\"} 4\n\
                    placed_total{instance=\"b-1\",service=\"b\"} 7\n# TYPE depth gauge\n\
                    depth{instance=\"a-1\",service=\"a\"} 1\n";
        said.put(clock::now(), text(sent).families);
        let shown = kept.render(Format::Prometheus, &said).body;
        let lines: Vec<&str> = shown.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                "depth{instance=\"a-1\",service=\"a\"} 1",
                "placed_total{instance=\"a-1\",service=\"a\"} 3",
                "placed_total{instance=\"b-1\",service=\"b\"} 7",
            ]
        );
    }
}
