//! Histograms that came as text: their parts are counters of their own, `…_bucket`, `…_sum` and `…_count`, and are put
//! together again when somebody asks for a quantile or a mean.
//!
//! A quantile is interpolated within its bucket, as Prometheus does it; how good it is depends on the app's bounds.

use std::collections::BTreeMap;
use std::ops::Range;

use super::query::{Group, Lines, Pairs, Span, fits, shown};
use super::rings::Rings;
use super::store::{Identity, SeriesStore};
use super::{Quantile, Query, Selector};

/// Buckets of one line: upper bound, and the rings of what lies at or below it a second, ordered by bound.
type Buckets<'a> = Vec<(f64, &'a Rings)>;

impl SeriesStore {
    /// Quantiles over time of the histogram `query` names. Buckets of several series are added up before, so the
    /// quantile is that of all of them.
    pub(super) fn quantiles_from_buckets(
        &self,
        query: &Query,
        quantile: Quantile,
        span: Span,
        lines_max: usize,
    ) -> Lines {
        let share = quantile.share();
        let group = |buckets: Buckets<'_>| {
            let of_step = |step| interpolated(&at(&buckets, span, step..step + 1), share);
            Group::of(span.steps().map(of_step).collect())
        };
        Lines::first(self.buckets(query), lines_max, group)
    }

    /// The same of the whole time: what its steps brought is added up before.
    pub(super) fn quantile_from_buckets(
        &self,
        query: &Query,
        quantile: Quantile,
        span: Span,
    ) -> Vec<(Pairs, f64)> {
        let whole = |buckets: &Buckets<'_>| interpolated(&at(buckets, span, span.steps()), quantile.share());
        let lines = self.buckets(query).into_iter().map(|(labels, buckets)| (labels, whole(&buckets)));
        lines.filter(|(_, value)| !value.is_nan()).collect()
    }

    fn buckets<'a>(&'a self, query: &'a Query) -> BTreeMap<Pairs, Buckets<'a>> {
        let mut lines: BTreeMap<Pairs, Buckets<'_>> = BTreeMap::new();
        for (identity, rings) in self.parts(&query.selector, "_bucket") {
            let Some(bound) = identity.label("le").and_then(|text| text.parse().ok()) else { continue };
            let mut labels = shown(identity, query.by.as_deref());
            labels.retain(|(name, _)| name != "le");
            lines.entry(labels).or_default().push((bound, rings));
        }
        lines.values_mut().for_each(|buckets| buckets.sort_by(|a, b| a.0.total_cmp(&b.0)));
        lines
    }

    /// Means over time: what the sums grew by over what the counts grew by.
    pub(super) fn means_from_parts(&self, query: &Query, span: Span, lines_max: usize) -> Lines {
        let mut lines: BTreeMap<Pairs, [Vec<&Rings>; 2]> = BTreeMap::new();
        for (part, suffix) in ["_sum", "_count"].into_iter().enumerate() {
            for (identity, rings) in self.parts(&query.selector, suffix) {
                lines.entry(shown(identity, query.by.as_deref())).or_default()[part].push(rings);
            }
        }
        let total = |rings: &[&Rings], step| added(rings.iter().map(|rings| span.value(rings, step)));
        let group = |parts: [Vec<&Rings>; 2]| {
            let [sums, counts] = parts.map(|rings| span.steps().map(|step| total(&rings, step)).collect());
            Group::of_ratios(sums, counts)
        };
        Lines::first(lines, lines_max, group)
    }

    fn parts<'a>(
        &'a self,
        selector: &'a Selector,
        suffix: &str,
    ) -> impl Iterator<Item = (&'a Identity, &'a Rings)> {
        let family = self.family_exactly(&format!("{}{suffix}", selector.name));
        let slots = family.into_iter().flat_map(|family| &family.scalars);
        let known = slots
            .filter_map(|slot| Some((&self.scalars().get(*slot)?.identity, self.scalars().rings(*slot))));
        known.filter(|(identity, _)| fits(identity, selector))
    }
}

/// Bounds and what lies at or below them in those steps, those of the same bound added up.
fn at(buckets: &Buckets<'_>, span: Span, steps: Range<u32>) -> Vec<(f64, f64)> {
    let of_steps = |rings| steps.clone().map(move |step| span.value(rings, step));
    let of_bound = buckets.chunk_by(|a, b| a.0 == b.0);
    of_bound.map(|same| (same[0].0, added(same.iter().flat_map(|(_, rings)| of_steps(rings))))).collect()
}

/// Of those that are known; NaN of none.
fn added(values: impl Iterator<Item = f64>) -> f64 {
    values.filter(|value| !value.is_nan()).reduce(|sum, value| sum + value).unwrap_or(f64::NAN)
}

/// The quantile of cumulative buckets, ordered by bound; NaN of none, and of those that do not end at infinity.
fn interpolated(buckets: &[(f64, f64)], share: f64) -> f64 {
    let total = match buckets.last() {
        Some((bound, total)) if *bound == f64::INFINITY && *total > 0.0 => *total,
        _ => return f64::NAN,
    };
    let rank = share * total;
    let (mut below, mut count_below) = (0.0_f64, 0.0_f64);
    for (bound, count) in buckets {
        // Rounding may let a bucket fall a little below the one before.
        let count = count.max(count_below);
        if count >= rank {
            return match bound.is_finite() && count > count_below {
                // What lies below the first bound lies between nothing and it, unless the bound itself is negative.
                true if *bound > below => {
                    below + (bound - below) * (rank - count_below) / (count - count_below)
                }
                true => *bound,
                false => below,
            };
        }
        (below, count_below) = (*bound, count);
    }
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let buckets = [(0.1, 50.0), (1.0, 90.0), (f64::INFINITY, 100.0)];
        let check = |share: f64, expected: f64| {
            let shown = interpolated(&buckets, share);
            assert!((shown - expected).abs() < 1e-9, "{share}: {shown}, expected {expected}");
        };
        check(0.25, 0.05);
        check(0.5, 0.1);
        check(0.7, 0.55);
        // Beyond the last bound nothing is known but that it is beyond.
        check(0.99, 1.0);
    }

    #[test]
    fn of_nothing_there_is_no_quantile() {
        assert!(interpolated(&[], 0.5).is_nan());
        assert!(interpolated(&[(1.0, 0.0), (f64::INFINITY, 0.0)], 0.5).is_nan());
        assert!(interpolated(&[(1.0, 5.0)], 0.5).is_nan());
        assert!(interpolated(&[(f64::INFINITY, f64::NAN)], 0.5).is_nan());
    }
}
