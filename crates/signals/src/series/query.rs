//! Answers to questions about the past: which series, which ring, and how lines are put together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use terrace_instruments::HistogramSnapshot;

use super::distribution::Distribution;
use super::rings::{Resolution, Rings, Second};
use super::store::{Identity, SeriesStore};
use super::{Chart, Line, Measure, Quantile, Query, Selector};

pub(super) type Pairs = Vec<(String, String)>;

/// Lines of one answer: what a week of them weighs (8 MiB) is still no burden, and no person looks at more.
const LINES_MAX: usize = 500;

/// Lines while they are put together: those that come first by their labels, and which others there would be.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) kept: BTreeMap<Pairs, Group>,
    pub(super) left_out: BTreeSet<Pairs>,
}

impl Lines {
    /// The line of these labels, unless it is one too many.
    fn of(&mut self, labels: Pairs, span: Span, lines_max: usize) -> Option<&mut Group> {
        if !self.kept.contains_key(&labels) {
            if self.kept.len() >= lines_max {
                let last = self.kept.last_entry().filter(|last| labels < *last.key());
                // A line that gave way once comes behind all that are kept for ever after.
                let Some(last) = last else {
                    self.left_out.insert(labels);
                    return None;
                };
                self.left_out.insert(last.remove_entry().0);
            }
            return Some(self.kept.entry(labels).or_insert_with(|| Group::new(span)));
        }
        self.kept.get_mut(&labels)
    }

    /// The first of what came elsewhere, put together by `group`.
    pub(super) fn first<T>(of: BTreeMap<Pairs, T>, lines_max: usize, group: impl Fn(T) -> Group) -> Self {
        let mut lines = Self::default();
        for (labels, parts) in of {
            match lines.kept.len() < lines_max {
                true => drop(lines.kept.insert(labels, group(parts))),
                false => drop(lines.left_out.insert(labels)),
            }
        }
        lines
    }
}

/// Where the points of one series come from.
#[derive(Debug, Clone, Copy)]
struct Source<'a> {
    identity: &'a Identity,
    value: &'a Rings,
    /// What the value is divided by, of a mean.
    over: Option<&'a Rings>,
}

/// Steps from one to the one before another, of a resolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    resolution: Resolution,
    begin: u32,
    end: u32,
}

/// How the values of several series become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fold {
    Sum,
    Highest,
}

/// Points of one line while they are put together.
#[derive(Debug)]
pub(super) struct Group {
    values: Vec<f64>,
    overs: Vec<f64>,
}

impl SeriesStore {
    /// Answers a question as of the last tick.
    ///
    /// Steps that have not ended are not shown. A counter's `Value` is its `Rate`, and a gauge's `Rate` its `Value`. The
    /// names of a histogram's samples, `…_count` and `…_sum`, are understood as well.
    pub fn query(&self, query: &Query) -> Chart {
        let Some(now) = self.last_tick() else { return Chart::default() };
        let Some(span) = Span::covering(now, query.last.as_secs()) else { return Chart::default() };
        let Lines { kept, left_out } = self.lines(query, span, LINES_MAX);
        let lines =
            kept.into_iter().map(|(labels, group)| Line { labels, points: group.points(), whole: None });
        let lines = lines.filter(|line| line.points.iter().any(|point| !point.is_nan())).collect();
        let first_ago = u64::from(now - span.resolution.last_of(span.begin));
        let step = u64::from(span.resolution.step_secs());
        let (first_ago, step) = (Duration::from_secs(first_ago), Duration::from_secs(step));
        Chart { first_ago, step, lines, left_out: left_out.len() }
    }

    /// [`query`](Self::query), and of quantiles and means what they are over the whole time, as
    /// [`latest`](Self::latest) has them.
    pub fn query_whole(&self, query: &Query) -> Chart {
        let mut chart = self.query(query);
        if matches!(query.measure, Measure::Quantile(_) | Measure::Mean) {
            let whole: BTreeMap<Pairs, f64> = self.latest(query).into_iter().collect();
            chart.lines.iter_mut().for_each(|line| line.whole = whole.get(&line.labels).copied());
        }
        chart
    }

    /// What each line that [`query`](Self::query) would draw is over the last time as a whole: a quantile that of all
    /// that was recorded in it, a mean over all of that, anything else the mean of the points that are known. Lines of
    /// which nothing is known are left out.
    ///
    /// Quantiles are kept for a day; of more than six minutes up to 5 min may be counted in that were before, of more
    /// than 75 minutes up to half an hour.
    pub fn latest(&self, query: &Query) -> Vec<(Pairs, f64)> {
        let Some(now) = self.last_tick() else { return Vec::new() };
        let last_secs = query.last.as_secs();
        let Some(span) = Span::covering(now, last_secs) else { return Vec::new() };
        if let Measure::Quantile(quantile) = query.measure {
            let start = now.saturating_sub(u32::try_from(last_secs.max(1)).unwrap_or(u32::MAX));
            return self.quantiles_since(query, quantile, start, span);
        }
        let means = self
            .lines(query, span, usize::MAX)
            .kept
            .into_iter()
            .map(|(labels, group)| (labels, group.mean()));
        means.filter(|(_, mean)| !mean.is_nan()).collect()
    }

    /// The quantile of all that was recorded after `start`, of several series the highest.
    fn quantiles_since(
        &self,
        query: &Query,
        quantile: Quantile,
        start: Second,
        span: Span,
    ) -> Vec<(Pairs, f64)> {
        let mut highest: BTreeMap<Pairs, f64> = BTreeMap::new();
        let distributions = self.distributions_of(&query.selector);
        let is_own = !distributions.is_empty();
        for known in distributions.into_iter().filter(|known| known.identity.seen > start) {
            let mut whole = HistogramSnapshot::default();
            known.add_since(start, &mut whole);
            let Some(value) = whole.quantile(quantile.share()) else { continue };
            let labels = shown(&known.identity, query.by.as_deref());
            let highest = highest.entry(labels).or_default();
            *highest = highest.max(value.as_secs_f64());
        }
        if is_own {
            return highest.into_iter().collect();
        }
        self.quantile_from_buckets(query, quantile, span)
    }

    fn distributions_of(&self, selector: &Selector) -> Vec<&Distribution> {
        let slots = self.family_named(&selector.name).into_iter().flat_map(|family| &family.distributions);
        let known = slots.filter_map(|slot| self.distribution(*slot));
        known.filter(|known| fits(&known.identity, selector)).collect()
    }

    fn lines(&self, query: &Query, span: Span, lines_max: usize) -> Lines {
        let fold = match query.measure {
            Measure::Quantile(_) => Fold::Highest,
            Measure::Rate | Measure::Value | Measure::Mean => Fold::Sum,
        };
        let mut lines = Lines::default();
        let may_be_known = |source: &Source<'_>| span.may_know(source.identity);
        for source in self.sources(&query.selector, query.measure).into_iter().filter(may_be_known) {
            let labels = shown(source.identity, query.by.as_deref());
            if let Some(group) = lines.of(labels, span, lines_max) {
                group.add(source, span, fold);
            }
        }
        match query.measure {
            // The app's own histograms are kept in parts.
            Measure::Quantile(quantile) if lines.kept.is_empty() => {
                self.quantiles_from_buckets(query, quantile, span, lines_max)
            }
            Measure::Mean if lines.kept.is_empty() => self.means_from_parts(query, span, lines_max),
            _ => lines,
        }
    }

    fn sources(&self, selector: &Selector, measure: Measure) -> Vec<Source<'_>> {
        let (family, measure) = match self.family_named(&selector.name) {
            Some(family) => (Some(family), Wanted::Whole(measure)),
            None => match (selector.name.strip_suffix("_count"), selector.name.strip_suffix("_sum")) {
                (Some(stem), _) => (self.family_named(stem), Wanted::Count),
                (_, Some(stem)) => (self.family_named(stem), Wanted::Sum),
                _ => (None, Wanted::Count),
            },
        };
        let Some(family) = family else { return Vec::new() };
        let distributions = family.distributions.iter().filter_map(|slot| self.distribution(*slot));
        let distributions = distributions.filter_map(|known| Source::of_distribution(known, measure));
        let scalars = family.scalars.iter().filter_map(|slot| {
            let is_wanted = matches!(measure, Wanted::Whole(Measure::Rate | Measure::Value));
            let identity = is_wanted.then(|| Some(&self.scalars().get(*slot)?.identity)).flatten()?;
            Some(Source { identity, value: self.scalars().rings(*slot), over: None })
        });
        scalars.chain(distributions).filter(|source| fits(source.identity, selector)).collect()
    }
}

/// What is wanted of a histogram: what the question asked for, or the part that its name asked for.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Whole(Measure),
    Count,
    Sum,
}

impl<'a> Source<'a> {
    fn of_distribution(known: &'a Distribution, wanted: Wanted) -> Option<Self> {
        let (value, over) = match wanted {
            Wanted::Whole(Measure::Rate) | Wanted::Count => (&known.count, None),
            Wanted::Whole(Measure::Quantile(quantile)) => (known.quantile(quantile), None),
            Wanted::Whole(Measure::Mean) => (&known.sum, Some(&known.count)),
            Wanted::Sum => (&known.sum, None),
            Wanted::Whole(Measure::Value) => return None,
        };
        Some(Self { identity: &known.identity, value, over })
    }
}

impl Span {
    /// The steps that ended by `now` and began within the last seconds; `None` when none has ended yet.
    fn covering(now: u32, last_secs: u64) -> Option<Self> {
        let resolution = Resolution::covering(last_secs);
        let end = resolution.ended(now);
        let wanted =
            last_secs.div_ceil(u64::from(resolution.step_secs())).clamp(1, resolution.points() as u64);
        let begin = end.saturating_sub(wanted as u32);
        (end > begin).then_some(Self { resolution, begin, end })
    }

    pub(super) fn steps(self) -> std::ops::Range<u32> {
        self.begin..self.end
    }

    pub(super) fn value(self, rings: &Rings, step: u32) -> f64 {
        rings.get(self.resolution, step)
    }

    /// Whether anything may be known of a series: what went before must not take the place of what is. The last value
    /// may be taken to hold for up to twice five minutes.
    fn may_know(self, identity: &Identity) -> bool {
        identity.seen.saturating_add(600) >= self.begin.saturating_mul(self.resolution.step_secs())
    }

    fn points(self, rings: &Rings) -> impl Iterator<Item = f64> {
        self.steps().map(move |step| self.value(rings, step))
    }
}

impl Group {
    /// Of points that are there already.
    pub(super) fn of(values: Vec<f64>) -> Self {
        Self { values, overs: Vec::new() }
    }

    /// Of sums, and what each is divided by.
    pub(super) fn of_ratios(values: Vec<f64>, overs: Vec<f64>) -> Self {
        Self { values, overs }
    }

    fn new(span: Span) -> Self {
        Self { values: vec![f64::NAN; (span.end - span.begin) as usize], overs: Vec::new() }
    }

    fn add(&mut self, source: Source<'_>, span: Span, fold: Fold) {
        for (sum, value) in self.values.iter_mut().zip(span.points(source.value)) {
            *sum = folded(*sum, value, fold);
        }
        if let Some(over) = source.over {
            self.overs.resize(self.values.len(), f64::NAN);
            for (sum, value) in self.overs.iter_mut().zip(span.points(over)) {
                *sum = folded(*sum, value, fold);
            }
        }
    }

    fn points(self) -> Vec<f64> {
        if self.overs.is_empty() {
            return self.values;
        }
        self.values.iter().zip(&self.overs).map(|(value, over)| ratio(*value, *over)).collect()
    }

    /// Over the points that are known; of a mean over what was counted, not over points.
    fn mean(&self) -> f64 {
        let known = |points: &[f64]| {
            let (sum, count) = points
                .iter()
                .filter(|point| !point.is_nan())
                .fold((0.0, 0), |(sum, count), point| (sum + point, count + 1));
            (sum, f64::from(count))
        };
        let (sum, count) = known(&self.values);
        if self.overs.is_empty() { ratio(sum, count) } else { ratio(sum, known(&self.overs).0) }
    }
}

fn folded(sum: f64, value: f64, fold: Fold) -> f64 {
    match fold {
        _ if value.is_nan() => sum,
        _ if sum.is_nan() => value,
        Fold::Sum => sum + value,
        Fold::Highest => sum.max(value),
    }
}

pub(super) fn ratio(value: f64, over: f64) -> f64 {
    if over > 0.0 { value / over } else { f64::NAN }
}

/// A label that is asked to be empty may be missing.
pub(super) fn fits(identity: &Identity, selector: &Selector) -> bool {
    selector.labels.iter().all(|(name, wanted)| identity.label(name).unwrap_or_default() == wanted)
}

/// The labels of the line that a series belongs to; a missing one is left out.
pub(super) fn shown(identity: &Identity, by: Option<&[String]>) -> Pairs {
    let Some(by) = by else {
        return identity.labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    };
    by.iter().filter_map(|name| Some((name.clone(), identity.label(name)?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use terrace_instruments::Kind;

    use super::*;
    use crate::series::{Sample, SeriesBounds};

    fn gauge(number: usize) -> Sample {
        let labels = Arc::from([(Arc::from("number"), Arc::from(format!("{number:04}").as_str()))]);
        Sample { name: "depth".into(), kind: Kind::Gauge, labels, value: number as f64 }
    }

    fn asked(last_secs: u64) -> Query {
        let selector = Selector { name: "depth".to_owned(), labels: Vec::new() };
        Query { selector, measure: Measure::Value, last: Duration::from_secs(last_secs), by: None }
    }

    fn numbers(chart: &Chart) -> Vec<usize> {
        chart.lines.iter().map(|line| line.labels[0].1.parse().expect("a number")).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn an_answer_has_the_first_lines_and_counts_the_others(
            order in Just((0..700_usize).collect::<Vec<_>>()).prop_shuffle()) {
            let mut store = SeriesStore::new(SeriesBounds::default());
            let samples: Vec<Sample> = order.into_iter().map(gauge).collect();
            store.record(Duration::from_secs(1), &[], &samples);
            let chart = store.query(&asked(60));
            prop_assert_eq!(numbers(&chart), (0..LINES_MAX).collect::<Vec<_>>());
            prop_assert_eq!(chart.left_out, 700 - LINES_MAX);
            prop_assert!(chart.lines.iter().zip(0..).all(|(line, number)| line.points.contains(&f64::from(number))));
            prop_assert_eq!(store.latest(&asked(60)).len(), 700, "figures of each are not bounded");
        }
    }

    #[test]
    fn what_is_gone_takes_no_place_from_what_is_there() {
        let mut store = SeriesStore::new(SeriesBounds::default());
        let samples = |numbers: std::ops::Range<usize>| numbers.map(gauge).collect::<Vec<_>>();
        store.record(Duration::from_secs(1), &[], &samples(0..600));
        store.record(Duration::from_secs(5_000), &[], &samples(600..650));
        let chart = store.query(&asked(60));
        assert_eq!((numbers(&chart), chart.left_out), ((600..650).collect(), 0));
        assert_eq!(store.query(&asked(6 * 3_600)).left_out, 150);
    }
}
