//! What a family must be to be shown again in either format: named in one way, in order, and possible.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use super::{Suffix, TextFamily, TextKind, TextSample};

/// Puts a family in order and leaves out what cannot be; says how much that was.
pub(super) fn put_right(family: &mut TextFamily) -> usize {
    let before = family.samples.len();
    if !family.unit.is_empty() && !family.name.ends_with(&format!("_{}", family.unit)) {
        family.unit.clear();
    }
    let (kind, name) = (family.kind, Arc::clone(&family.name));
    let mut seen = HashSet::new();
    family.samples.retain(|sample| {
        is_possible(kind, &name, sample) && seen.insert((sample.suffix, Arc::clone(&sample.labels)))
    });
    if let Some(splitting) = splitting_label(kind) {
        // Stable, and by labels first: what belongs to one histogram comes together, in the order of OpenMetrics.
        family.samples.sort_by(|a, b| in_group(a, b, splitting));
        leave_out_impossible(family, splitting);
    }
    before - family.samples.len()
}

/// The older format names a counter's family with `_total`, as its samples.
pub(super) fn stem(family: &TextFamily) -> Option<(&str, Suffix)> {
    let suffix = match family.kind {
        TextKind::Counter => Suffix::Total,
        TextKind::Info => Suffix::Info,
        _ => return None,
    };
    let stem = family.name.strip_suffix(suffix.text()).filter(|stem| !stem.is_empty())?;
    family.samples.iter().all(|sample| sample.suffix == Suffix::Bare).then_some((stem, suffix))
}

/// Moves what a name ends with to its samples.
pub(super) fn rename(family: &mut TextFamily, stem: Arc<str>, suffix: Suffix) {
    family.name = stem;
    for sample in family.samples.iter_mut().filter(|sample| sample.suffix == Suffix::Bare) {
        sample.suffix = suffix;
    }
}

fn is_possible(kind: TextKind, name: &str, sample: &TextSample) -> bool {
    let grows = kind == TextKind::Counter
        || matches!((kind, sample.suffix), (TextKind::Histogram, Suffix::Bucket | Suffix::Count));
    let fits = match (kind, sample.suffix) {
        // A state set names its state by a label of its own name (OpenMetrics section 5.1.5).
        (TextKind::StateSet, _) => {
            sample.labels.iter().any(|(label, _)| **label == *name)
                && (sample.value == 0.0 || sample.value == 1.0)
        }
        (TextKind::Info, _) => sample.value == 1.0,
        (TextKind::Histogram | TextKind::GaugeHistogram, Suffix::Bucket) => number(sample, "le").is_some(),
        (TextKind::Summary, Suffix::Bare) => {
            number(sample, "quantile").is_some_and(|quantile| (0.0..=1.0).contains(&quantile))
        }
        _ => true,
    };
    kind.allows(sample.suffix) && fits && (!grows || sample.value >= 0.0)
}

/// The label that tells the parts of one distribution from each other.
fn splitting_label(kind: TextKind) -> Option<&'static str> {
    match kind {
        TextKind::Histogram | TextKind::GaugeHistogram => Some("le"),
        TextKind::Summary => Some("quantile"),
        _ => None,
    }
}

fn number(sample: &TextSample, label: &str) -> Option<f64> {
    let (_, value) = sample.labels.iter().find(|(name, _)| **name == *label)?;
    value.parse().ok().filter(|number: &f64| !number.is_nan())
}

fn others<'a>(sample: &'a TextSample, but: &'a str) -> impl Iterator<Item = &'a (Arc<str>, Arc<str>)> {
    sample.labels.iter().filter(move |(name, _)| **name != *but)
}

fn in_group(a: &TextSample, b: &TextSample, splitting: &str) -> Ordering {
    let part = |sample: &TextSample| number(sample, splitting).unwrap_or(f64::INFINITY);
    let by_labels = others(a, splitting).cmp(others(b, splitting));
    by_labels.then(a.suffix.cmp(&b.suffix)).then_with(|| part(a).total_cmp(&part(b)))
}

/// Leaves out distributions whose buckets fall or do not end at infinity, which no reader could use.
fn leave_out_impossible(family: &mut TextFamily, splitting: &str) {
    let samples = std::mem::take(&mut family.samples);
    for group in samples.chunk_by(|a, b| others(a, splitting).eq(others(b, splitting))) {
        let buckets: Vec<&TextSample> =
            group.iter().filter(|sample| sample.suffix == Suffix::Bucket).collect();
        let rises = buckets.is_sorted_by(|a, b| a.value <= b.value && number(a, "le") < number(b, "le"));
        let ends = buckets.last().is_none_or(|last| number(last, "le") == Some(f64::INFINITY));
        let has_buckets = family.kind == TextKind::Summary || !buckets.is_empty();
        if rises && ends && has_buckets && counts_agree(group, &buckets) {
            family.samples.extend_from_slice(group);
        }
    }
}

/// The bucket at infinity is the count.
fn counts_agree(group: &[TextSample], buckets: &[&TextSample]) -> bool {
    let count = group.iter().find(|sample| matches!(sample.suffix, Suffix::Count | Suffix::GaugeCount));
    match (count, buckets.last()) {
        (Some(count), Some(all)) => count.value == all.value,
        _ => true,
    }
}
