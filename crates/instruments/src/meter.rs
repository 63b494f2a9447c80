//! The inventory of all metrics: which families and series exist, within a bound.
//!
//! A label that a user or a client chooses can take any number of values, and each costs memory here and in
//! whatever scrapes us. So a family has at most [`Meter::SERIES_PER_FAMILY_MAX`] series; who asks for more gets one
//! shared series whose labels all read `overflow`, and the refusal is counted in `terrace_series_overflow_total`.
//! A series lives as long as somebody holds its handle, and a minute longer: whoever reads now and then, a scraper or a
//! ring, shall see its last value.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::cells::PerShard;
use crate::family::{Family, Kind};
use crate::histogram::{Histogram, HistogramCells, HistogramSnapshot};
use crate::number::{Counter, Gauge, GaugeCells};

static OVERFLOW: Family = Family {
    name: "terrace_series_overflow",
    help: "Series refused because their family was full or registered in another shape; counted under labels \"overflow\" instead.",
    unit: "",
    labels: &["family"],
    kind: Kind::Counter,
};

/// Hands out metric handles and reports what they hold. Cheap to clone; all clones are one inventory.
#[derive(Debug, Clone)]
pub struct Meter(Arc<Inventory>);

#[derive(Debug)]
struct Inventory {
    shards: usize,
    series_per_family_max: usize,
    families: Mutex<BTreeMap<&'static str, Entry>>,
}

#[derive(Debug)]
struct Entry {
    family: &'static Family,
    series: HashMap<Box<[String]>, Known>,
    overflow: Option<Cells>,
    refused: u64,
}

/// A series, and for how many calls of [`Meter::forget_unheld`] nobody has held it.
#[derive(Debug)]
struct Known {
    cells: Cells,
    unheld: u32,
}

#[derive(Debug, Clone)]
enum Cells {
    Counter(Arc<PerShard<AtomicU64>>),
    Gauge(Arc<GaugeCells>),
    Histogram(Arc<PerShard<HistogramCells>>),
}

/// All series of one family at one moment.
#[derive(Debug, Clone)]
pub struct FamilySnapshot {
    /// Name, help, unit, labels.
    pub family: &'static Family,
    /// Ordered by their labels.
    pub series: Vec<SeriesSnapshot>,
}

/// One series at one moment.
#[derive(Debug, Clone)]
pub struct SeriesSnapshot {
    /// Label values, in the order of the family's labels.
    pub labels: Vec<String>,
    /// What it held.
    pub value: SeriesValue,
}

/// What a series held.
#[derive(Debug, Clone)]
pub enum SeriesValue {
    /// Of a [`Counter`].
    Counter(u64),
    /// Of a [`Gauge`].
    Gauge(i64),
    /// Of a [`Histogram`].
    Histogram(HistogramSnapshot),
}

impl Meter {
    /// Series that one family may have before further ones share the series `overflow`.
    pub const SERIES_PER_FAMILY_MAX: usize = 2_000;
    /// Calls of [`Meter::forget_unheld`] that a series outlives its last handle by.
    pub const UNHELD_CALLS_MAX: u32 = 60;

    /// An empty inventory for `shards` data-plane threads.
    pub fn new(shards: usize) -> Self {
        Self::with_series_max(shards, Self::SERIES_PER_FAMILY_MAX)
    }

    /// Like [`Meter::new`], with another bound on the series of each family.
    pub fn with_series_max(shards: usize, series_per_family_max: usize) -> Self {
        let families = Mutex::new(BTreeMap::new());
        Self(Arc::new(Inventory { shards, series_per_family_max, families }))
    }

    /// The counter of a family with these label values; the same arguments give the same cells. Resolve it when a
    /// component is built, never on a request's way.
    pub fn counter(&self, family: &'static Family, labels: &[&str]) -> Counter {
        match self.resolve(family, Kind::Counter, labels) {
            Cells::Counter(cells) => Counter(cells),
            _ => unreachable!("cells are made by the kind that was asked for"),
        }
    }

    /// The gauge of a family with these label values.
    pub fn gauge(&self, family: &'static Family, labels: &[&str]) -> Gauge {
        match self.resolve(family, Kind::Gauge, labels) {
            Cells::Gauge(cells) => Gauge(cells),
            _ => unreachable!("cells are made by the kind that was asked for"),
        }
    }

    /// The histogram of a family with these label values.
    pub fn histogram(&self, family: &'static Family, labels: &[&str]) -> Histogram {
        match self.resolve(family, Kind::Histogram, labels) {
            Cells::Histogram(cells) => Histogram(cells),
            _ => unreachable!("cells are made by the kind that was asked for"),
        }
    }

    /// What every series holds now, families ordered by name. Any number of readers may ask; nothing is forgotten by it.
    pub fn collect(&self) -> Vec<FamilySnapshot> {
        let families = self.families();
        let mut snapshots: Vec<FamilySnapshot> = families.values().filter_map(Entry::collect).collect();
        if let Some(overflow) = overflow_snapshot(&families) {
            snapshots.push(overflow);
        }
        snapshots
    }

    /// Forgets the series that nobody has held for 60 calls of this. To be called once a second, by one caller.
    pub fn forget_unheld(&self) {
        let mut families = self.families();
        families.values_mut().for_each(Entry::forget_unheld);
        families.retain(|_, entry| !entry.series.is_empty() || entry.overflow.is_some() || entry.refused > 0);
    }

    fn families(&self) -> MutexGuard<'_, BTreeMap<&'static str, Entry>> {
        match self.0.families.lock() {
            Ok(guard) => guard,
            // Nothing in here is left half-done by a panic: entries are inserted whole.
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// Two families of one name and different shape, or a wrong number of labels, are programming errors: loud in
    /// a debug build; in a release build the first family stays and the second counts into the void.
    fn resolve(&self, family: &'static Family, kind: Kind, labels: &[&str]) -> Cells {
        let fresh = || Cells::new(kind, self.0.shards);
        let mut families = self.families();
        let entry = families.entry(family.base()).or_insert_with(|| Entry::new(family));
        let fits =
            family.kind == kind && entry.family.same_shape(family) && labels.len() == family.labels.len();
        if fits {
            return entry.resolve(labels, self.0.series_per_family_max, fresh);
        }
        entry.refused += 1;
        // Let go first: a panic below must not poison the inventory of a test that expects it.
        drop(families);
        debug_assert!(
            fits,
            "metric {} asked for in two shapes, or with {} labels",
            family.name,
            labels.len()
        );
        fresh()
    }
}

impl Entry {
    fn new(family: &'static Family) -> Self {
        Self { family, series: HashMap::new(), overflow: None, refused: 0 }
    }

    fn resolve(&mut self, labels: &[&str], series_max: usize, fresh: impl Fn() -> Cells) -> Cells {
        let key: Box<[String]> = labels.iter().map(|label| (*label).to_owned()).collect();
        if let Some(known) = self.series.get(&key) {
            return known.cells.clone();
        }
        if self.series.len() >= series_max {
            self.series.retain(|_, known| known.cells.held());
        }
        if self.series.len() >= series_max {
            self.refused += 1;
            return self.overflow.get_or_insert_with(fresh).clone();
        }
        let cells = fresh();
        self.series.insert(key, Known { cells: cells.clone(), unheld: 0 });
        cells
    }

    fn forget_unheld(&mut self) {
        self.series.retain(|_, known| {
            known.unheld = if known.cells.held() { 0 } else { known.unheld + 1 };
            known.unheld <= Meter::UNHELD_CALLS_MAX
        });
    }

    /// Reads all series.
    fn collect(&self) -> Option<FamilySnapshot> {
        let mut series = Vec::with_capacity(self.series.len() + 1);
        for (labels, known) in &self.series {
            series.push(SeriesSnapshot { labels: labels.to_vec(), value: known.cells.read() });
        }
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        if let Some(overflow) = &self.overflow {
            let labels = vec!["overflow".to_owned(); self.family.labels.len()];
            series.push(SeriesSnapshot { labels, value: overflow.read() });
        }
        if series.is_empty() { None } else { Some(FamilySnapshot { family: self.family, series }) }
    }
}

fn overflow_snapshot(families: &BTreeMap<&'static str, Entry>) -> Option<FamilySnapshot> {
    let refused = families.iter().filter(|(_, entry)| entry.refused > 0);
    let row = |(name, entry): (&&'static str, &Entry)| SeriesSnapshot {
        labels: vec![(*name).to_owned()],
        value: SeriesValue::Counter(entry.refused),
    };
    let series: Vec<SeriesSnapshot> = refused.map(row).collect();
    if series.is_empty() { None } else { Some(FamilySnapshot { family: &OVERFLOW, series }) }
}

impl Cells {
    fn new(kind: Kind, shards: usize) -> Self {
        match kind {
            Kind::Counter => Self::Counter(Arc::new(PerShard::new(shards))),
            Kind::Gauge => Self::Gauge(Arc::new(GaugeCells::new(shards))),
            Kind::Histogram => Self::Histogram(Arc::new(PerShard::new(shards))),
        }
    }

    /// Whether anyone but the inventory holds them.
    fn held(&self) -> bool {
        match self {
            Self::Counter(cells) => Arc::strong_count(cells) > 1,
            Self::Gauge(cells) => Arc::strong_count(cells) > 1,
            Self::Histogram(cells) => Arc::strong_count(cells) > 1,
        }
    }

    fn read(&self) -> SeriesValue {
        match self.clone() {
            Self::Counter(cells) => SeriesValue::Counter(Counter(cells).value()),
            Self::Gauge(cells) => SeriesValue::Gauge(Gauge(cells).value()),
            Self::Histogram(cells) => SeriesValue::Histogram(Histogram(cells).snapshot()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static REQUESTS: Family = Family {
        name: "requests_total",
        help: "Requests.",
        unit: "",
        labels: &["route", "class"],
        kind: Kind::Counter,
    };
    static OPEN: Family = Family { name: "open", help: "Open.", unit: "", labels: &[], kind: Kind::Gauge };

    fn counters(snapshots: &[FamilySnapshot], name: &str) -> Vec<(Vec<String>, u64)> {
        let family = snapshots.iter().find(|snapshot| snapshot.family.name == name);
        let row = |series: &SeriesSnapshot| match series.value {
            SeriesValue::Counter(value) => (series.labels.clone(), value),
            _ => panic!("{name} is no counter"),
        };
        family.map_or_else(Vec::new, |family| family.series.iter().map(row).collect())
    }

    #[test]
    fn the_same_labels_are_the_same_number() {
        let meter = Meter::new(2);
        meter.counter(&REQUESTS, &["orders", "2xx"]).inc();
        let again = meter.clone().counter(&REQUESTS, &["orders", "2xx"]);
        again.add(2);
        assert_eq!(again.value(), 3);
    }

    #[test]
    fn threads_that_count_at_once_lose_nothing() {
        let meter = Meter::new(2);
        let (counter, gauge) = (meter.counter(&REQUESTS, &["a", "b"]), meter.gauge(&OPEN, &[]));
        std::thread::scope(|scope| {
            for shard in 0..5 {
                let (counter, gauge) = (&counter, &gauge);
                scope.spawn(move || {
                    crate::set_shard(shard);
                    (0..10_000).for_each(|_| counter.inc());
                    (0..10_000).for_each(|_| gauge.add(2));
                    (0..10_000).for_each(|_| gauge.sub(1));
                });
            }
        });
        assert_eq!((counter.value(), gauge.value()), (50_000, 50_000));
    }

    #[test]
    fn a_gauge_that_is_set_forgets_what_was_added_before() {
        let gauge = Meter::new(2).gauge(&OPEN, &[]);
        gauge.add(5);
        gauge.set(2);
        gauge.sub(3);
        assert_eq!(gauge.value(), -1);
    }

    #[test]
    fn a_series_nobody_holds_is_shown_to_every_reader_for_a_minute_and_then_gone() {
        let meter = Meter::new(1);
        meter.counter(&REQUESTS, &["old", "2xx"]).inc();
        let kept = meter.counter(&REQUESTS, &["new", "2xx"]);
        for _ in 0..Meter::UNHELD_CALLS_MAX {
            meter.forget_unheld();
            assert_eq!(counters(&meter.collect(), "requests_total").len(), 2);
            assert_eq!(counters(&meter.collect(), "requests_total")[1].1, 1, "another reader sees it too");
        }
        meter.forget_unheld();
        let left = counters(&meter.collect(), "requests_total");
        assert_eq!(left, [(vec!["new".to_owned(), "2xx".to_owned()], 0)]);
        drop(kept);
        (0..=Meter::UNHELD_CALLS_MAX).for_each(|_| meter.forget_unheld());
        assert!(meter.collect().is_empty());
    }

    #[test]
    fn a_series_that_is_asked_for_again_in_time_goes_on_where_it_was() {
        let meter = Meter::new(1);
        meter.counter(&REQUESTS, &["a", "2xx"]).inc();
        (0..Meter::UNHELD_CALLS_MAX).for_each(|_| meter.forget_unheld());
        let again = meter.counter(&REQUESTS, &["a", "2xx"]);
        again.inc();
        (0..2 * Meter::UNHELD_CALLS_MAX).for_each(|_| meter.forget_unheld());
        assert_eq!(counters(&meter.collect(), "requests_total")[0].1, 2);
    }

    #[test]
    fn series_beyond_the_bound_share_one_and_are_counted() {
        let meter = Meter::with_series_max(1, 2);
        let handles: Vec<Counter> =
            ["a", "b", "c", "d"].iter().map(|route| meter.counter(&REQUESTS, &[route, "2xx"])).collect();
        handles.iter().for_each(Counter::inc);
        let snapshots = meter.collect();
        let rows = counters(&snapshots, "requests_total");
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[2], (vec!["overflow".to_owned(); 2], 2));
        assert_eq!(counters(&snapshots, "terrace_series_overflow"), [(vec!["requests".to_owned()], 2)]);
    }

    #[test]
    fn a_full_family_makes_room_by_forgetting_series_nobody_holds() {
        let meter = Meter::with_series_max(1, 1);
        drop(meter.counter(&REQUESTS, &["old", "2xx"]));
        let held = meter.counter(&REQUESTS, &["new", "2xx"]);
        held.inc();
        let rows = counters(&meter.collect(), "requests_total");
        assert_eq!(rows, [(vec!["new".to_owned(), "2xx".to_owned()], 1)]);
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "asked for in two shapes"))]
    fn one_name_in_two_shapes_is_a_programming_error() {
        static OTHER: Family =
            Family { name: "requests", help: "", unit: "", labels: &["route"], kind: Kind::Counter };
        let meter = Meter::new(1);
        let first = meter.counter(&REQUESTS, &["a", "2xx"]);
        meter.counter(&OTHER, &["a"]).inc();
        assert_eq!(first.value(), 0);
    }
}
