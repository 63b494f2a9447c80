//! The app's own figures as it sent them last, shown at `/metrics/services` beside those that were fetched: whoever scrapes
//! Terrace need not know in which of the two ways an app tells.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use terrace_signals::series::text::{Suffix, Text, TextFamily, TextKind, TextSample};

use crate::foreign::label_bytes;

/// Samples kept; a histogram takes one for each bucket. What is beyond is charted, but not shown here.
const SAMPLES_MAX: usize = 50_000;
/// Bytes of their names and labels, estimated.
const BYTES_MAX: usize = 32 << 20;
/// What was not heard of for so long is gone; Prometheus looks back as far.
const FORGET_AFTER: Duration = Duration::from_secs(300);
/// Between two searches for what is gone.
const FORGET_EVERY: Duration = Duration::from_secs(10);

type Labels = Arc<[(Arc<str>, Arc<str>)]>;

/// What was said last of each series. Cheap to clone; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    families: BTreeMap<Arc<str>, Family>,
    samples: usize,
    bytes: usize,
    forgot_at: Duration,
}

#[derive(Debug)]
struct Family {
    kind: TextKind,
    help: String,
    samples: BTreeMap<(Suffix, Labels), Heard>,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    value: f64,
    at: Duration,
}

impl Said {
    /// Keeps what was said. Of one name with two meanings the first is kept, for as long as it is heard of.
    pub(crate) fn put(&self, now: Duration, families: Vec<TextFamily>) {
        let mut inner = self.lock();
        if now.saturating_sub(inner.forgot_at) >= FORGET_EVERY {
            inner.forget(now);
        }
        families.into_iter().for_each(|family| inner.put(now, family));
    }

    /// All of it that is not older than it may be, but for what `is_fetched`.
    pub(crate) fn text(&self, now: Duration, is_fetched: impl Fn(&str, &TextSample) -> bool) -> Text {
        let mut inner = self.lock();
        inner.forget(now);
        let shown = |(name, family): (&Arc<str>, &Family)| TextFamily {
            name: Arc::clone(name),
            kind: family.kind,
            help: family.help.clone(),
            unit: String::new(),
            samples: family.samples().filter(|sample| !is_fetched(name, sample)).collect(),
        };
        let families = inner.families.iter().map(shown).collect();
        drop(inner);
        Text::of(families)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, at: Duration, family: TextFamily) {
        let TextFamily { name, kind, help, samples, .. } = family;
        let fresh = || Family { kind, help, samples: BTreeMap::new() };
        let known = self.families.entry(Arc::clone(&name)).or_insert_with(fresh);
        if known.kind != kind {
            return;
        }
        for TextSample { suffix, labels, value } in samples {
            let key = (suffix, labels);
            if !known.samples.contains_key(&key) {
                let bytes = self.bytes + label_bytes(&name, &key.1);
                if self.samples >= SAMPLES_MAX || bytes > BYTES_MAX {
                    continue;
                }
                (self.samples, self.bytes) = (self.samples + 1, bytes);
            }
            known.samples.insert(key, Heard { value, at });
        }
    }

    fn forget(&mut self, now: Duration) {
        self.forgot_at = now;
        for (name, family) in &mut self.families {
            family.samples.retain(|(_, labels), heard| {
                let is_kept = now.saturating_sub(heard.at) < FORGET_AFTER;
                if !is_kept {
                    self.samples -= 1;
                    self.bytes -= label_bytes(name, labels);
                }
                is_kept
            });
        }
        self.families.retain(|_, family| !family.samples.is_empty());
    }
}

impl Family {
    fn samples(&self) -> impl Iterator<Item = TextSample> {
        let sample = |((suffix, labels), heard): (&(Suffix, Labels), &Heard)| TextSample {
            suffix: *suffix,
            labels: Arc::clone(labels),
            value: heard.value,
        };
        self.samples.iter().map(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn counter(name: &str, instance: &str, value: f64) -> TextFamily {
        let labels: Labels = Arc::new([("instance".into(), instance.into())]);
        let samples = vec![TextSample { suffix: Suffix::Total, labels, value }];
        let (help, unit) = (String::new(), String::new());
        TextFamily { name: name.into(), kind: TextKind::Counter, help, unit, samples }
    }

    fn shown(said: &Said, now: Duration) -> Vec<(String, f64)> {
        let text = said.text(now, |_, _| false);
        let of = |family: &TextFamily| -> Vec<(String, f64)> {
            let of_sample =
                |sample: &TextSample| (format!("{}/{}", family.name, sample.labels[0].1), sample.value);
            family.samples.iter().map(of_sample).collect()
        };
        text.families.iter().flat_map(of).collect()
    }

    #[test]
    fn the_last_word_of_each_series_is_shown_until_it_is_five_minutes_old() {
        let said = Said::default();
        said.put(NOW, vec![counter("orders", "a", 1.0), counter("orders", "b", 5.0)]);
        said.put(NOW + Duration::from_secs(60), vec![counter("orders", "a", 2.0)]);
        let both = [("orders/a".to_owned(), 2.0), ("orders/b".to_owned(), 5.0)];
        assert_eq!(shown(&said, NOW + Duration::from_secs(61)), both);
        assert_eq!(shown(&said, NOW + FORGET_AFTER), both[..1]);
        assert_eq!(shown(&said, NOW + 2 * FORGET_AFTER), []);
        let inner = said.lock();
        assert_eq!((inner.samples, inner.bytes), (0, 0), "what is gone makes room");
    }

    #[test]
    fn a_name_has_one_meaning_and_label_bombs_stay_within_the_bound() {
        let said = Said::default();
        said.put(NOW, vec![counter("orders", "a", 1.0)]);
        said.put(NOW, vec![TextFamily { kind: TextKind::Gauge, ..counter("orders", "b", 7.0) }]);
        assert_eq!(shown(&said, NOW), [("orders/a".to_owned(), 1.0)]);
        for number in 0..SAMPLES_MAX + 10 {
            said.put(NOW, vec![counter("bomb", &number.to_string(), 1.0)]);
        }
        assert_eq!(said.text(NOW, |_, _| false).samples(), SAMPLES_MAX);
        said.put(NOW, vec![counter("orders", "a", 3.0)]);
        assert_eq!(shown(&said, NOW).last(), Some(&("orders/a".to_owned(), 3.0)), "what is known goes on");
    }
}
