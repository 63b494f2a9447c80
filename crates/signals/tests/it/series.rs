//! Series over time: what a chart shows is what happened, whatever the order, the gaps and the restarts.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use terrace_instruments::{Counter, Family, Kind, Meter};
use terrace_signals::series::{Chart, Measure, Quantile, Query, Sample, Selector, SeriesBounds, SeriesStore};

static REQUESTS: Family = Family {
    name: "requests",
    help: "Requests.",
    unit: "",
    labels: &["route", "class"],
    kind: Kind::Counter,
};
static OPEN: Family = Family { name: "open", help: "", unit: "", labels: &["route"], kind: Kind::Gauge };
static DURATION: Family =
    Family { name: "duration", help: "", unit: "seconds", labels: &["route"], kind: Kind::Histogram };

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn store() -> SeriesStore {
    SeriesStore::new(SeriesBounds::default())
}

fn query(name: &str, measure: Measure, last_secs: u64) -> Query {
    let selector = Selector { name: name.to_owned(), labels: Vec::new() };
    Query { selector, measure, last: secs(last_secs), by: None }
}

fn by(query: Query, labels: &[&str]) -> Query {
    Query { by: Some(labels.iter().map(|label| (*label).to_owned()).collect()), ..query }
}

fn only(query: Query, name: &str, value: &str) -> Query {
    let labels = vec![(name.to_owned(), value.to_owned())];
    Query { selector: Selector { labels, ..query.selector }, ..query }
}

fn sample(name: &str, kind: Kind, labels: &[(&str, &str)], value: f64) -> Sample {
    let labels: Vec<(Arc<str>, Arc<str>)> =
        labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Sample { name: name.into(), kind, labels: labels.into(), value }
}

/// The points of the only line.
#[track_caller]
fn points(chart: &Chart) -> &[f64] {
    assert_eq!(chart.lines.len(), 1, "{chart:?}");
    &chart.lines[0].points
}

fn last(chart: &Chart) -> f64 {
    *points(chart).last().expect("there is a point")
}

/// Equal to within what is kept, or both unknown.
fn near(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || (a - b).abs() <= 0.002 * b.abs() + 1e-9
}

#[track_caller]
fn assert_near(shown: &[f64], expected: &[f64]) {
    let same = shown.len() == expected.len() && shown.iter().zip(expected).all(|(a, b)| near(*a, *b));
    assert!(same, "shown {shown:?}\nexpected {expected:?}");
}

/// Adds so many a second and ticks, for so long.
fn play(store: &mut SeriesStore, meter: &Meter, from: u64, to: u64, each: impl Fn(u64)) {
    for second in from..to {
        each(second);
        store.record(secs(second), &meter.collect(), &[]);
    }
}

#[test]
fn a_counter_shows_as_what_it_grew_by_each_second() {
    let (meter, mut store) = (Meter::new(1), store());
    let requests = meter.counter(&REQUESTS, &["orders", "2xx"]);
    requests.add(1_000_000);
    play(&mut store, &meter, 100, 110, |second| requests.add(second - 100));
    let chart = store.query(&query("requests_total", Measure::Rate, 5));
    assert_eq!((chart.step, chart.first_ago), (secs(1), secs(4)));
    assert_near(points(&chart), &[5.0, 6.0, 7.0, 8.0, 9.0]);
    assert_eq!(chart.lines[0].labels.len(), 2);
}

#[test]
fn what_was_counted_before_the_first_look_is_not_counted_but_a_counter_born_later_begins_at_nothing() {
    let (meter, mut store) = (Meter::new(1), store());
    let old = meter.counter(&REQUESTS, &["old", "2xx"]);
    old.add(7);
    store.record(secs(0), &meter.collect(), &[]);
    let new = meter.counter(&REQUESTS, &["new", "2xx"]);
    new.add(5);
    let foreign = sample("orders_total", Kind::Counter, &[], 40.0);
    store.record(secs(1), &meter.collect(), std::slice::from_ref(&foreign));
    let rate = |name: &str| store.latest(&only(query("requests_total", Measure::Rate, 10), "route", name));
    assert_eq!(rate("old")[0].1, 0.0, "nothing came since the first look");
    assert_eq!(rate("new")[0].1, 5.0);
    assert_eq!(store.latest(&query("orders_total", Measure::Rate, 10)), []);
}

#[test]
fn a_restart_of_the_app_is_no_negative_rate() {
    let mut store = store();
    for (second, value) in [(1, 100.0), (2, 110.0), (3, 4.0), (4, 6.0)] {
        store.record(secs(second), &[], &[sample("orders_total", Kind::Counter, &[], value)]);
    }
    let chart = store.query(&query("orders_total", Measure::Rate, 4));
    assert_near(points(&chart), &[f64::NAN, 10.0, 4.0, 2.0]);
}

#[test]
fn a_short_gap_is_spread_evenly_and_a_long_one_is_a_gap() {
    let (meter, mut store) = (Meter::new(1), store());
    let requests = meter.counter(&REQUESTS, &["orders", "2xx"]);
    store.record(secs(10), &meter.collect(), &[]);
    requests.add(8);
    store.record(secs(14), &meter.collect(), &[]);
    requests.add(9_000);
    store.record(secs(44), &meter.collect(), &[]);
    requests.add(1);
    store.record(secs(45), &meter.collect(), &[]);
    let chart = store.query(&query("requests", Measure::Rate, 300));
    let shown = points(&chart);
    assert_near(&shown[shown.len() - 35..shown.len() - 31], &[2.0; 4]);
    assert!(shown[shown.len() - 31..shown.len() - 1].iter().all(|point| point.is_nan()), "{shown:?}");
    assert_eq!(last(&chart), 1.0);
}

#[test]
fn two_ticks_in_one_second_lose_nothing() {
    let (meter, mut store) = (Meter::new(1), store());
    let requests = meter.counter(&REQUESTS, &["orders", "2xx"]);
    for millis in [0, 1_000, 1_900, 2_000, 2_500, 3_000] {
        store.record(Duration::from_millis(millis), &meter.collect(), &[]);
        requests.inc();
    }
    let chart = store.query(&query("requests", Measure::Rate, 3));
    assert_near(points(&chart), &[1.0, 2.0, 2.0]);
}

#[test]
fn coarser_rings_hold_means_for_hours_and_days() {
    let (meter, mut store) = (Meter::new(1), store());
    let (requests, open) = (meter.counter(&REQUESTS, &["a", "2xx"]), meter.gauge(&OPEN, &["a"]));
    play(&mut store, &meter, 0, 2 * HOUR, |second| {
        requests.add(if second < HOUR { 2 } else { 4 });
        open.set(i64::try_from(second % 15).expect("it is small"));
    });
    let chart = store.query(&query("requests_total", Measure::Rate, 2 * HOUR));
    assert_eq!(chart.step, secs(15));
    let shown = points(&chart);
    assert!(
        shown[1..230].iter().all(|point| near(*point, 2.0))
            && shown[242..].iter().all(|point| near(*point, 4.0))
    );
    let chart = store.query(&query("requests_total", Measure::Rate, 7 * DAY));
    assert_eq!((chart.step, points(&chart).len()), (secs(300), 24));
    let chart = store.query(&query("open", Measure::Value, HOUR));
    assert!(near(last(&chart), 7.0), "{}", last(&chart));
}

#[test]
fn lines_are_summed_over_all_but_the_labels_asked_for() {
    let (meter, mut store) = (Meter::new(1), store());
    let all: Vec<Counter> = [("a", "2xx"), ("a", "5xx"), ("b", "2xx")]
        .iter()
        .map(|(route, class)| meter.counter(&REQUESTS, &[route, class]))
        .collect();
    play(&mut store, &meter, 0, 3, |_| {
        all.iter().zip([1, 10, 100]).for_each(|(counter, count)| counter.add(count))
    });
    let rates = |by_labels: &[&str]| store.latest(&by(query("requests", Measure::Rate, 1), by_labels));
    assert_eq!(rates(&[]), [(vec![], 111.0)]);
    let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    assert_eq!(rates(&["route"]), [(pair("route", "a"), 11.0), (pair("route", "b"), 100.0)]);
    assert_eq!(rates(&["class"]), [(pair("class", "2xx"), 101.0), (pair("class", "5xx"), 10.0)]);
}

#[test]
fn a_series_looked_at_seldom_stands_until_it_is_looked_at_again_and_then_ends() {
    let mut store = store();
    for second in 0..=60_u64 {
        let seldom = sample("up", Kind::Gauge, &[("instance", "a")], 1.0);
        let often = sample("up", Kind::Gauge, &[("instance", "b")], 2.0);
        let foreign = if second % 15 == 0 { vec![seldom, often] } else { vec![often] };
        store.record(secs(second), &[], &foreign);
    }
    let sum = by(query("up", Measure::Value, 50), &[]);
    assert_near(points(&store.query(&sum)), &[3.0; 50]);
    for second in 61..=200_u64 {
        store.record(secs(second), &[], &[sample("up", Kind::Gauge, &[("instance", "b")], 2.0)]);
    }
    let shown = store.query(&by(query("up", Measure::Value, 140), &[]));
    assert_near(&points(&shown)[..30], &[3.0; 30]);
    assert_near(&points(&shown)[30..], &[2.0; 110]);
}

#[test]
fn quantiles_of_a_step_are_those_of_all_that_it_brought() {
    let (meter, mut store) = (Meter::new(1), store());
    let durations = meter.histogram(&DURATION, &["a"]);
    // In the first second of each fifteen 1,000 fast ones, in the others 1 slow one each.
    play(&mut store, &meter, 0, 30 * MINUTE, |second| {
        if second % 15 == 0 {
            (0..1_000).for_each(|_| durations.record(Duration::from_millis(10)));
        } else {
            durations.record(Duration::from_secs(1));
        }
    });
    let value =
        |quantile, last_secs| last(&store.query(&query("duration", Measure::Quantile(quantile), last_secs)));
    let within = |shown: f64, exact: f64| (shown / exact - 1.0).abs() <= 0.02;
    assert!(within(value(Quantile::P50, 5), 1.0), "of a second: {}", value(Quantile::P50, 5));
    for last_secs in [HOUR, 7 * DAY] {
        assert!(within(value(Quantile::P50, last_secs), 0.01), "{}", value(Quantile::P50, last_secs));
        assert!(within(value(Quantile::P999, last_secs), 1.0), "{}", value(Quantile::P999, last_secs));
    }
    let mean = last(&store.query(&query("duration", Measure::Mean, HOUR)));
    assert!(within(mean, (1_000.0 * 0.01 + 14.0) / 1_014.0), "{mean}");
    assert!(within(
        last(&store.query(&query("duration_seconds_count", Measure::Rate, HOUR))),
        1_014.0 / 15.0
    ));
}

#[test]
fn of_several_histograms_the_highest_quantile_counts_and_the_mean_is_over_all() {
    let (meter, mut store) = (Meter::new(1), store());
    let (fast, slow) = (meter.histogram(&DURATION, &["fast"]), meter.histogram(&DURATION, &["slow"]));
    play(&mut store, &meter, 0, 5, |_| {
        (0..9).for_each(|_| fast.record(Duration::from_millis(100)));
        slow.record(Duration::from_secs(2));
    });
    let highest = store.latest(&by(query("duration_seconds", Measure::Quantile(Quantile::P99), 3), &[]));
    assert!((highest[0].1 / 2.0 - 1.0).abs() < 0.02, "{highest:?}");
    let mean = store.latest(&by(query("duration_seconds", Measure::Mean, 3), &[]));
    assert!((mean[0].1 / 0.29 - 1.0).abs() < 0.001, "{mean:?}");
}

#[test]
fn one_slow_request_among_twenty_is_their_p99_and_not_half_their_median() {
    let (meter, mut store) = (Meter::new(1), store());
    let duration = meter.histogram(&DURATION, &["a"]);
    play(&mut store, &meter, 0, 10, |second| match second {
        2 => (0..20).for_each(|_| duration.record(Duration::from_millis(2))),
        8 => duration.record(Duration::from_secs(3)),
        _ => {}
    });
    let of = |quantile| store.latest(&query("duration", Measure::Quantile(quantile), 10))[0].1;
    assert!((of(Quantile::P50) / 0.002 - 1.0).abs() < 0.02, "{}", of(Quantile::P50));
    assert!((of(Quantile::P99) / 3.0 - 1.0).abs() < 0.02, "{}", of(Quantile::P99));
    // An alert is told the same.
    let asked = query("duration", Measure::Quantile(Quantile::P50), 300);
    assert_eq!(store.query_whole(&asked).lines[0].whole, Some(of(Quantile::P50)));
}

#[test]
fn the_apps_own_quantiles_and_means_are_of_the_whole_time_too() {
    let mut store = store();
    for second in 0..30_u64 {
        // Ten fast ones each second but in one, which has a slow one.
        let (fast, slow) = if second < 29 { (10 * second, 0) } else { (280, 1) };
        let bucket = |le, value: u64| sample("took_bucket", Kind::Counter, &[("le", le)], value as f64);
        let all = [
            bucket("0.1", fast),
            bucket("10", fast + slow),
            bucket("+Inf", fast + slow),
            sample("took_count", Kind::Counter, &[], (fast + slow) as f64),
            sample("took_sum", Kind::Counter, &[], 0.1 * fast as f64 + 10.0 * slow as f64),
        ];
        store.record(secs(second), &[], &all);
    }
    let of = |measure| store.latest(&by(query("took", measure, 10), &[]))[0].1;
    assert!(of(Measure::Quantile(Quantile::P50)) < 0.1, "{}", of(Measure::Quantile(Quantile::P50)));
    let mean = of(Measure::Mean);
    assert!((mean / (19.0 / 91.0) - 1.0).abs() < 0.02, "{mean}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// By a list of all that was recorded; what sticks out of a long time is looked for in the list as well.
    #[test]
    fn a_quantile_of_any_time_is_that_of_all_that_was_recorded_in_it(
        each in proptest::collection::vec(proptest::collection::vec(1_u64..20_000_000, 0..6), 1..700),
        last in 5_usize..700, share in 0_usize..4) {
        let (meter, mut store) = (Meter::new(1), store());
        let duration = meter.histogram(&DURATION, &["a"]);
        // One of a histogram that is there with the first look is known from the second on.
        store.record(secs(0), &meter.collect(), &[]);
        play(&mut store, &meter, 1, each.len() as u64 + 1, |second| {
            each[second as usize - 1].iter().for_each(|us| duration.record(Duration::from_micros(*us)));
        });
        let quantile = [Quantile::P50, Quantile::P90, Quantile::P99, Quantile::P999][share];
        let shown = store.latest(&query("duration", Measure::Quantile(quantile), last as u64));
        let out_max = match last { 0..=30 => 0, 31..=360 => 14, _ => 299 };
        let is_it = |out: usize| {
            let mut naive: Vec<u64> = each[each.len().saturating_sub(last + out)..].concat();
            naive.sort_unstable();
            let rank = (quantile.share() * naive.len() as f64).ceil() as usize;
            match (naive.get(rank.max(1) - 1), shown.first()) {
                (Some(us), Some((_, shown))) => (shown * 1e6 - *us as f64).abs() <= 0.02 * *us as f64 + 0.6,
                (None, None) => true,
                _ => false,
            }
        };
        prop_assert!((0..=out_max).any(is_it), "{shown:?}");
    }
}

#[test]
fn nobody_hides_a_series_that_had_no_room() {
    let mut store = SeriesStore::new(SeriesBounds { scalars_max: 3, ..SeriesBounds::default() });
    let names = ["a", "b", "c", "d", "e"];
    for second in 0..20 {
        let all: Vec<Sample> = names.iter().map(|name| sample(name, Kind::Gauge, &[], 1.0)).collect();
        store.record(secs(second), &[], &all);
    }
    assert_eq!((store.usage().scalars, store.refused()), (3, 2));
    assert_eq!(store.names().len(), 3);
}

#[test]
fn a_flood_of_an_apps_series_leaves_room_for_what_terrace_says_of_a_new_route() {
    let bounds = SeriesBounds { scalars_max: 160, labels_bytes_max: 40_000, ..SeriesBounds::default() };
    let (meter, mut store) = (Meter::new(1), SeriesStore::new(bounds));
    for second in 0..20_u64 {
        let bomb = |number: u64| sample("bomb", Kind::Gauge, &[("path", &format!("{second}-{number}"))], 1.0);
        store.record(secs(second), &meter.collect(), &(0..100).map(bomb).collect::<Vec<_>>());
    }
    assert!(store.refused() > 1_000);
    let _held = meter.counter(&REQUESTS, &["new", "2xx"]);
    store.record(secs(20), &meter.collect(), &[]);
    store.record(secs(21), &meter.collect(), &[]);
    assert_eq!(store.latest(&query("requests_total", Measure::Rate, 1)).len(), 1);
}

#[test]
fn what_is_gone_is_shown_until_its_room_is_needed() {
    let mut store = SeriesStore::new(SeriesBounds { scalars_max: 2, ..SeriesBounds::default() });
    let at = |name: &str| sample("memory", Kind::Gauge, &[("instance", name)], 1.0);
    (0..100).for_each(|second| store.record(secs(second), &[], &[at("a-1"), at("a-2")]));
    (100..2_000).for_each(|second| store.record(secs(second), &[], &[at("a-1")]));
    assert_eq!(store.query(&query("memory", Measure::Value, HOUR)).lines.len(), 2);
    assert_eq!(store.names()[0].series, 1, "it is known that one is gone");
    store.record(secs(2_000), &[], &[at("a-1"), at("a-3")]);
    assert_eq!((store.usage().scalars, store.refused()), (2, 0));
    let shown = store.query(&query("memory", Measure::Value, HOUR));
    let of: Vec<&str> = shown.lines.iter().map(|line| line.labels[0].1.as_str()).collect();
    assert_eq!(of, ["a-1"], "the new one has no whole step yet, and nothing of the one before it");
}

#[test]
fn label_texts_have_a_bound_of_their_own() {
    let mut store = SeriesStore::new(SeriesBounds { labels_bytes_max: 10_000, ..SeriesBounds::default() });
    for second in 0..50_u64 {
        let value = format!("{second}{}", "x".repeat(1_000));
        store.record(secs(second), &[], &[sample("bomb", Kind::Gauge, &[("path", &value)], 1.0)]);
    }
    assert!(store.usage().scalars < 10 && store.refused() > 40, "{:?}", store.usage());
}

#[test]
fn a_metric_is_found_under_the_names_people_give_it() {
    let (meter, mut store) = (Meter::new(1), store());
    let _held = (meter.counter(&REQUESTS, &["a", "b"]), meter.histogram(&DURATION, &["a"]));
    play(&mut store, &meter, 0, 3, |_| ());
    for name in ["requests", "requests_total"] {
        assert_eq!(store.latest(&query(name, Measure::Rate, 1)).len(), 1, "{name}");
    }
    for name in ["duration", "duration_seconds", "duration_seconds_count"] {
        assert_eq!(store.latest(&query(name, Measure::Rate, 1)).len(), 1, "{name}");
    }
    assert_eq!(store.latest(&query("nothing", Measure::Rate, 1)), []);
    let names: Vec<String> = store.names().iter().map(|known| known.name.to_string()).collect();
    assert_eq!(names, ["duration_seconds", "requests_total"]);
}

/// What a series was at each look, and everything computed from that anew.
#[derive(Debug, Default)]
struct Naive {
    /// Value a second for each second of which something is known.
    seconds: Vec<(u64, f64)>,
}

impl Naive {
    fn mean(&self, from: u64, to: u64) -> f64 {
        let known: Vec<f64> =
            self.seconds.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, value)| *value).collect();
        if known.is_empty() { f64::NAN } else { known.iter().sum::<f64>() / known.len() as f64 }
    }

    /// Counter or gauge, by looks: time and value.
    fn of(looks: &[(u64, f64)], is_counter: bool, gap_max: u64) -> Self {
        let mut seconds = Vec::new();
        if let (Some((at, value)), false) = (looks.first(), is_counter) {
            seconds.push((*at, *value));
        }
        for pair in looks.windows(2) {
            let ((before, old), (at, new)) = (pair[0], pair[1]);
            let gap = at - before;
            let value = match is_counter {
                true => (if new >= old { new - old } else { new }) / gap as f64,
                false => new,
            };
            if gap <= gap_max {
                seconds.extend((before + 1..=at).map(|second| (second, value)));
            } else if !is_counter {
                seconds.push((at, value));
            }
        }
        Self { seconds }
    }
}

fn gaps() -> impl Strategy<Value = u64> {
    prop_oneof![10 => Just(1_u64), 3 => 1..20_u64, 2 => 14..40_u64, 1 => 250..400_u64, 1 => 1..90_000_u64]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_chart_is_what_a_list_of_all_points_says(
        looks in proptest::collection::vec((gaps(), 0..1_000_u32), 2..300),
        is_counter: bool,
        start in 0..1_000_u64,
        last_secs in prop_oneof![1..=300_u64, 300..=21_600_u64, 21_600..=604_800_u64],
    ) {
        let mut at = start;
        let (kind, mut store) = (if is_counter { Kind::Counter } else { Kind::Gauge }, store());
        let mut all = Vec::new();
        for (gap, value) in looks {
            at += gap;
            all.push((at, f64::from(value)));
            store.record(secs(at), &[], &[sample("series", kind, &[], f64::from(value))]);
        }
        let naive = Naive::of(&all, is_counter, 300);
        let chart = store.query(&query("series", Measure::Rate, last_secs));
        let step = chart.step.as_secs();
        let none = Vec::new();
        let shown = chart.lines.first().map_or(&none, |line| &line.points);
        for (index, point) in shown.iter().enumerate() {
            // A step may lie before the clock began.
            let ended = (at + index as u64 * step).checked_sub(chart.first_ago.as_secs());
            let Some(ended) = ended else { continue };
            let expected = naive.mean((ended + 1).saturating_sub(step), ended + 1);
            prop_assert!(near(*point, expected), "at {ended} of {at}: {point}, expected {expected}");
        }
        let reach = if shown.is_empty() { 0 } else { shown.len() as u64 * step };
        prop_assert!(shown.is_empty() || reach >= last_secs.min(604_800) || chart.first_ago.as_secs() + 2 * step > at);
    }
}

#[test]
fn a_shop_that_sells_nothing_at_noon_is_unusual_and_at_night_it_is_not() {
    let sold_until = |end: u64| {
        let (mut store, mut sold) = (store(), 0.0);
        for at in (0..=end).step_by(300) {
            let is_day = (8..20).contains(&(at / HOUR % 24));
            let is_broken = at > end - 20 * MINUTE;
            sold += if is_day && !is_broken { 3_000.0 + (at / 300 % 7) as f64 * 20.0 } else { 0.0 };
            let labels = [("service", "orders")];
            store.record(secs(at), &[], &[sample("orders_placed_total", Kind::Counter, &labels, sold)]);
        }
        store.anomalies()
    };
    let noon = sold_until(5 * DAY + 12 * HOUR);
    assert_eq!(noon.len(), 1);
    assert!(
        noon[0].note.starts_with("orders_placed_total of service orders: 0.000 a second, usually 10."),
        "{noon:?}"
    );
    assert_eq!(sold_until(5 * DAY + 3 * HOUR), []);
}

#[test]
fn an_apps_own_histogram_has_quantiles_and_a_mean() {
    let mut store = store();
    for second in 0..=60_u64 {
        let total = second as f64 * 100.0;
        let part = |name: &str, instance: &str, le: Option<&str>, value: f64| {
            let mut labels = vec![("instance", instance)];
            labels.extend(le.map(|le| ("le", le)));
            sample(name, Kind::Counter, &labels, value)
        };
        let of = |instance: &'static str, fast: f64| {
            [
                part("took_seconds_bucket", instance, Some("0.1"), total * fast),
                part("took_seconds_bucket", instance, Some("1"), total),
                part("took_seconds_bucket", instance, Some("+Inf"), total),
                part("took_seconds_sum", instance, None, total * 0.3),
                part("took_seconds_count", instance, None, total),
            ]
        };
        store.record(secs(second), &[], &[of("a", 1.0), of("b", 0.0)].concat());
    }
    let p50 = by(query("took_seconds", Measure::Quantile(Quantile::P50), 30), &["instance"]);
    let lines = store.query(&p50).lines;
    assert!(near(lines[0].points[20], 0.05) && near(lines[1].points[20], 0.55), "{lines:?}");
    // Of both together, which is neither's.
    let both = store.latest(&by(query("took_seconds", Measure::Quantile(Quantile::P90), 30), &[]));
    assert!((both[0].1 - 0.82).abs() < 0.01, "{both:?}");
    let mean = store.latest(&by(query("took_seconds", Measure::Mean, 30), &[]));
    assert!((mean[0].1 - 0.3).abs() < 0.001, "{mean:?}");
    assert_eq!(store.latest(&by(query("took_seconds_count", Measure::Rate, 30), &[]))[0].1, 200.0);
}
