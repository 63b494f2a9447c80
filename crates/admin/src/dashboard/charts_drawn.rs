//! A chart with its answers: read once, then drawn for those without a script, listed for those who read figures, and
//! sent as JSON to those with one.

use std::time::{Duration, SystemTime};

use maud::{Markup, html};
use serde_json::{Value, json};
use terrace_signals::series::{Chart, Measure, Selector};

use super::charts::{ChartSpec, Name, Of, Page, Range, Source, of_page, question};
use super::figures::{UNKNOWN, Unit, span};
use super::past::{Past, View};
use super::shapes::{push_point, segment};

/// Lines of one chart; further ones are left out, and the chart says so.
const LINES_MAX: usize = 24;
/// Points of one line; more than a wide screen has columns for are joined.
const POINTS_MAX: usize = 600;
/// Rows of the table under a chart.
const ROWS_MAX: usize = 20;
/// The box in which lines are drawn; the style sheet stretches it.
const PLOT: (f64, f64) = (600.0, 160.0);
/// Tones of lines that mean nothing in particular.
const TONES: usize = 8;

/// A chart and what it shows now.
#[derive(Debug)]
pub(super) struct Drawn {
    spec: ChartSpec,
    /// Between two points.
    step: Duration,
    /// How long before now the last point is.
    end_ago: Duration,
    lines: Vec<DrawnLine>,
    /// Lines that were left out.
    left_out: usize,
}

#[derive(Debug, PartialEq)]
struct DrawnLine {
    name: String,
    tone: String,
    points: Vec<f64>,
}

/// Asks all questions of a chart.
pub(super) fn read(spec: ChartSpec, past: &dyn Past, range: Range) -> Drawn {
    let mut parts: Vec<(Duration, Duration, Vec<DrawnLine>)> = Vec::new();
    let mut left_out = 0;
    for source in &spec.sources {
        let chart = answer(source, past, range);
        left_out += chart.left_out;
        let points = chart.lines.first().map_or(0, |line| line.points.len());
        let reach = chart.step * u32::try_from(points.saturating_sub(1)).unwrap_or(u32::MAX);
        let end_ago = chart.first_ago.saturating_sub(reach);
        parts.push((chart.step, end_ago, named(source, chart)));
    }
    let step = parts.iter().map(|(step, ..)| *step).max().unwrap_or_default();
    let end_ago = parts.iter().filter(|part| !part.2.is_empty()).map(|part| part.1).min().unwrap_or_default();
    let mut lines: Vec<DrawnLine> = parts.into_iter().flat_map(|(.., lines)| lines).collect();
    left_out += lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    align(&mut lines);
    let each = spec.mean_of.as_secs().checked_div(step.as_secs()).unwrap_or_default() as usize;
    lines.iter_mut().filter(|_| each > 1).for_each(|line| line.points = means(&line.points, each));
    let joined = join(&mut lines, &spec);
    tint(&mut lines);
    Drawn { spec, step: step * joined, end_ago, lines, left_out }
}

fn answer(source: &Source, past: &dyn Past, range: Range) -> Chart {
    let rate = |selector: &Selector| past.chart(&question(selector, Measure::Rate, Some(&[]), range));
    match &source.of {
        Of::Metric(selector, measure, by) => past.chart(&question(selector, *measure, by.as_deref(), range)),
        Of::Ratio(part, whole) => divided(&rate(part), rate(whole)),
        Of::Points(step, points) => {
            let first_ago = *step * u32::try_from(points.len().saturating_sub(1)).unwrap_or(u32::MAX);
            let line =
                terrace_signals::series::Line { labels: Vec::new(), points: points.clone(), whole: None };
            Chart { first_ago, step: *step, lines: vec![line], left_out: 0 }
        }
    }
}

/// The first line of each, point by point from the newest: no part is nothing of the whole, no whole is unknown.
fn divided(part: &Chart, mut whole: Chart) -> Chart {
    whole.lines.truncate(1);
    let parts = part.lines.first().map(|line| line.points.as_slice()).unwrap_or_default();
    for line in &mut whole.lines {
        let mut parts = parts.iter().rev();
        for point in line.points.iter_mut().rev() {
            let part = parts.next().copied().filter(|part| part.is_finite()).unwrap_or(0.0);
            *point = if *point > 0.0 { part / *point } else { f64::NAN };
        }
    }
    whole
}

fn named(source: &Source, chart: Chart) -> Vec<DrawnLine> {
    let value = |labels: &[(String, String)], wanted: &str| {
        labels.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let lines = chart.lines.into_iter().filter_map(|line| {
        let name = match &source.name {
            Name::Fixed(name) => name.clone(),
            Name::Label(label) => value(&line.labels, label),
            Name::LabelBut(label, but) if value(&line.labels, label) == *but => return None,
            Name::LabelBut(label, _) => value(&line.labels, label),
            Name::Labels => all_labels(&line.labels),
        };
        Some(DrawnLine { name, tone: String::new(), points: line.points })
    });
    lines.collect()
}

fn all_labels(labels: &[(String, String)]) -> String {
    let parts: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    match parts.is_empty() {
        true => "all".to_owned(),
        false => parts.join(" "),
    }
}

/// Gives all lines the same number of points: what began later was unknown before.
fn align(lines: &mut [DrawnLine]) {
    let longest = lines.iter().map(|line| line.points.len()).max().unwrap_or(0);
    for line in lines {
        let missing = longest - line.points.len();
        line.points.splice(0..0, std::iter::repeat_n(f64::NAN, missing));
    }
}

/// Joins neighbours until a line fits; of a time the worst is kept, so that no peak is lost, of all else the mean. Says how
/// many points became one.
fn join(lines: &mut [DrawnLine], spec: &ChartSpec) -> u32 {
    let longest = lines.iter().map(|line| line.points.len()).max().unwrap_or(0);
    let each = longest.div_ceil(POINTS_MAX).max(1);
    if each > 1 {
        for line in lines {
            // From the newest, so that the last group is whole.
            let mut joined: Vec<f64> =
                line.points.rchunks(each).map(|points| joined(points, spec.unit == Unit::Seconds)).collect();
            joined.reverse();
            line.points = joined;
        }
    }
    u32::try_from(each).unwrap_or(u32::MAX)
}

/// Of each point and those before it, as many as told, the mean of what is known.
fn means(points: &[f64], of: usize) -> Vec<f64> {
    let mean = |at: usize| joined(&points[(at + 1).saturating_sub(of)..=at], false);
    (0..points.len()).map(mean).collect()
}

fn joined(points: &[f64], is_worst: bool) -> f64 {
    let known: Vec<f64> = points.iter().copied().filter(|point| point.is_finite()).collect();
    match (known.is_empty(), is_worst) {
        (true, _) => f64::NAN,
        (false, true) => known.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        (false, false) => known.iter().sum::<f64>() / known.len() as f64,
    }
}

/// Lines whose names mean something have their own tone; the others take the next free one.
fn tint(lines: &mut [DrawnLine]) {
    for (index, line) in lines.iter_mut().enumerate() {
        line.tone = match line.name.as_str() {
            "2xx" | "success" | "allowed" => "0".to_owned(),
            "3xx" => "1".to_owned(),
            "4xx" | "client" => "2".to_owned(),
            "5xx" | "upstream" | "failure" | "refused" => "bad".to_owned(),
            "1xx" | "none" => "6".to_owned(),
            _ => (index % TONES).to_string(),
        };
    }
}

fn finite(points: &[f64]) -> impl Iterator<Item = f64> + '_ {
    points.iter().copied().filter(|point| point.is_finite())
}

impl Drawn {
    /// The last known value of the first line, and all its points: for the figures above the map.
    pub(super) fn first_points(&self) -> &[f64] {
        self.lines.first().map(|line| line.points.as_slice()).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| finite(&line.points).next().is_none())
    }

    /// For `charts.js`; numbers have four digits that matter.
    fn json(&self, now: f64) -> Value {
        let lines: Vec<Value> = self
            .lines
            .iter()
            .map(|line| {
                let points: Vec<Value> = line.points.iter().map(|point| rounded(*point)).collect();
                json!({ "name": line.name, "tone": line.tone, "points": points })
            })
            .collect();
        json!({
            "id": self.spec.id,
            "at": now - self.end_ago.as_secs_f64(),
            "step": self.step.as_secs_f64(),
            "lines": lines,
        })
    }

    fn figure(&self) -> Markup {
        let spec = &self.spec;
        html! {
            figure class="chart panel" id=(spec.id) data-chart=(spec.id) data-unit=(spec.unit.name())
                data-stacked[spec.is_stacked] {
                figcaption {
                    h3 { (spec.title) " " span class="about" { (spec.about) } }
                    @if spec.may_be_log {
                        button type="button" class="quiet" data-log aria-pressed="false" hidden { "Log scale" }
                    }
                }
                p class="empty" hidden[!self.is_empty()] { "Nothing was measured in this time." }
                div class="plot" hidden[self.is_empty()] { (self.plot()) }
                (self.legend())
                details class="data" { summary { "Table" } (self.table()) }
            }
        }
    }

    fn top(&self) -> f64 {
        let top = match self.spec.is_stacked {
            true => stacked(&self.lines).last().map_or(0.0, |top| finite(top).fold(0.0, f64::max)),
            false => self.lines.iter().flat_map(|line| finite(&line.points)).fold(0.0, f64::max),
        };
        if top > 0.0 { top } else { 1.0 }
    }

    fn plot(&self) -> Markup {
        let top = self.top();
        let heights = match self.spec.is_stacked {
            true => stacked(&self.lines),
            false => self.lines.iter().map(|line| line.points.clone()).collect(),
        };
        let points = heights.first().map_or(0, Vec::len);
        let reach = self.step * u32::try_from(points.saturating_sub(1)).unwrap_or(0);
        html! {
            div class="still" {
                span class="top-label" { (self.spec.unit.format(top)) }
                svg viewBox={ "0 0 " (PLOT.0) " " (PLOT.1) } preserveAspectRatio="none" aria-hidden="true" {
                    @for part in 0..4 { line class="grid" x2=(PLOT.0) y1=(part * 40) y2=(part * 40) {} }
                    line class="ground" x2=(PLOT.0) y1=(PLOT.1) y2=(PLOT.1) {}
                    @for (index, line) in self.lines.iter().enumerate() {
                        @if self.spec.is_stacked {
                            @let below = index.checked_sub(1).map(|below| heights[below].as_slice());
                            path class={ "layer tone-" (line.tone) } d=(layer(below, &heights[index], top)) {}
                        } @else {
                            path class={ "line tone-" (line.tone) } d=(path(&heights[index], top)) {}
                            @let alone = alone(&heights[index], top);
                            @if !alone.is_empty() { path class={ "line alone tone-" (line.tone) } d=(alone) {} }
                        }
                    }
                }
                span class="left-label" { (span(reach.as_secs())) " ago" }
                span class="right-label" { "now" }
            }
        }
    }

    /// Each line with its figures; what the colours mean, and the chart in words.
    fn legend(&self) -> Markup {
        let unit = self.spec.unit;
        html! {
            table class="legend" {
                caption class="visually-hidden" { (self.spec.title) ": " (self.spec.about) }
                thead { tr {
                    th scope="col" { span class="visually-hidden" { "Line" } }
                    th scope="col" class="num" { "now" }
                    th scope="col" class="num" { "least" }
                    th scope="col" class="num" { "most" }
                } }
                tbody {
                    @for line in &self.lines {
                        tr {
                            th scope="row" { (swatch(&line.tone, self.spec.is_stacked)) (line.name) }
                            td class="num" { (last(&line.points).map_or_else(unknown, |value| unit.format(value))) }
                            td class="num" { (extreme(&line.points, f64::min).map_or_else(unknown, |value| unit.format(value))) }
                            td class="num" { (extreme(&line.points, f64::max).map_or_else(unknown, |value| unit.format(value))) }
                        }
                    }
                }
            }
            @if self.left_out > 0 { p class="hint" { (self.left_out) " more lines are not shown." } }
        }
    }

    fn table(&self) -> Markup {
        let points = self.lines.first().map_or(0, |line| line.points.len());
        let every = points.div_ceil(ROWS_MAX).max(1);
        html! {
            div class="scroll" tabindex="0" role="group" aria-label={ (self.spec.title) ", as a table" } {
                table class="list" {
                    thead { tr {
                        th scope="col" { "ago" }
                        @for line in &self.lines { th scope="col" class="num" { (line.name) } }
                    } }
                    tbody {
                        @for index in (0..points).rev().step_by(every) {
                            tr {
                                th scope="row" { (span(self.ago(points, index).as_secs())) }
                                @for line in &self.lines {
                                    td class="num" { (self.spec.unit.format(line.points[index])) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn ago(&self, points: usize, index: usize) -> Duration {
        self.end_ago + self.step * u32::try_from(points - 1 - index).unwrap_or(u32::MAX)
    }
}

fn unknown() -> String {
    UNKNOWN.to_owned()
}

fn last(points: &[f64]) -> Option<f64> {
    // A step that is not over yet may be missing; what is older than a few steps is no longer now.
    points.iter().rev().take(3).copied().find(|point| point.is_finite())
}

fn extreme(points: &[f64], better: fn(f64, f64) -> f64) -> Option<f64> {
    finite(points).reduce(better)
}

/// Sums from the first line to each: where the lines of a stacked chart lie.
fn stacked(lines: &[DrawnLine]) -> Vec<Vec<f64>> {
    let mut below: Vec<f64> = Vec::new();
    let sums = lines.iter().map(|line| {
        below.resize(line.points.len(), 0.0);
        for (sum, point) in below.iter_mut().zip(&line.points) {
            *sum += if point.is_finite() { *point } else { 0.0 };
        }
        below.clone()
    });
    sums.collect()
}

fn path(points: &[f64], top: f64) -> String {
    let step = PLOT.0 / points.len().saturating_sub(1).max(1) as f64;
    let mut path = String::new();
    let mut is_gap = true;
    for (index, point) in points.iter().enumerate() {
        if point.is_finite() {
            let y = PLOT.1 * (1.0 - (point / top).clamp(0.0, 1.0));
            push_point(&mut path, if is_gap { 'M' } else { 'L' }, step * index as f64, y);
        }
        is_gap = !point.is_finite();
    }
    path
}

/// A dot for each point that has no neighbour to be joined with.
fn alone(points: &[f64], top: f64) -> String {
    let step = PLOT.0 / points.len().saturating_sub(1).max(1) as f64;
    let is_known =
        |at: Option<usize>| at.and_then(|at| points.get(at)).is_some_and(|point| point.is_finite());
    let mut path = String::new();
    for (at, point) in points.iter().enumerate() {
        if is_known(Some(at)) && !is_known(at.checked_sub(1)) && !is_known(at.checked_add(1)) {
            let y = PLOT.1 * (1.0 - (point / top).clamp(0.0, 1.0));
            push_point(&mut path, 'M', step * at as f64, y);
            path.push_str("h0");
        }
    }
    path
}

/// The ground between a line of a stack and the one below it.
fn layer(below: Option<&[f64]>, heights: &[f64], top: f64) -> String {
    let step = PLOT.0 / heights.len().saturating_sub(1).max(1) as f64;
    let y = |height: f64| PLOT.1 * (1.0 - (height / top).clamp(0.0, 1.0));
    let mut path = String::new();
    for (index, height) in heights.iter().enumerate() {
        push_point(&mut path, if index == 0 { 'M' } else { 'L' }, step * index as f64, y(*height));
    }
    for index in (0..heights.len()).rev() {
        let ground = below.map_or(0.0, |below| below[index]);
        push_point(&mut path, 'L', step * index as f64, y(ground));
    }
    path
}

fn swatch(tone: &str, is_layer: bool) -> Markup {
    html! {
        svg class={ "swatch tone-" (tone) @if is_layer { " layer" } } viewBox="0 0 18 8" aria-hidden="true" { path class="line" d="M1 4H17" {} }
    }
}

fn rounded(value: f64) -> Value {
    match value.is_finite() {
        true => format!("{value:.3e}").parse::<f64>().map_or(Value::Null, |value| json!(value)),
        false => Value::Null,
    }
}

/// Where `charts.js` asks for a page's charts.
fn source_url(page: &Page) -> String {
    match page {
        Page::Route(name) => format!("/data/charts?route={}", segment(name)),
        Page::Service(name) => format!("/data/charts?service={}", segment(name)),
        Page::Instance(service, name) => {
            format!("/data/charts?service={}&instance={}", segment(service), segment(name))
        }
        Page::Objective(name) => format!("/data/charts?objective={}", segment(name)),
        Page::Machine => "/data/charts?machine=yes".to_owned(),
        Page::Explore(asked) => super::explore::source_url(asked),
    }
}

/// The charts of a page with the picker of their common range.
pub(super) fn charts(view: &View<'_>, page: &Page) -> Markup {
    let specs = of_page(page, view.map, &view.past.objectives());
    let drawn: Vec<Drawn> = specs.into_iter().map(|spec| read(spec, view.past, view.range)).collect();
    html! {
        section class="charts" id="charts" aria-label="Charts" data-charts=(source_url(page)) data-last=(view.range.key()) {
            h2 class="visually-hidden" { "Charts" }
            (range_picker(view.range))
            div class="chart-grid" { @for chart in &drawn { (chart.figure()) } }
        }
    }
}

fn range_picker(range: Range) -> Markup {
    html! {
        div class="range" {
            nav class="segments" aria-label="Time range" {
                @for each in Range::ALL {
                    a href={ "?last=" (each.key()) "#charts" } data-range=(each.key()) aria-current=[(each == range).then_some("true")] {
                        (each.label())
                    }
                }
            }
            span class="hint" data-range-note role="status" {}
            button type="button" class="quiet" data-live-again hidden { "Back to now" }
        }
    }
}

/// What `/data/charts` answers: all charts of a page.
pub(super) fn data(view: &View<'_>, page: &Page) -> Value {
    let now = match view.now.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(_) => 0.0,
    };
    let specs = of_page(page, view.map, &view.past.objectives());
    let charts: Vec<Value> =
        specs.into_iter().map(|spec| read(spec, view.past, view.range).json(now)).collect();
    json!({ "charts": charts })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakePast, shop_map};
    use super::*;

    fn line(points: &[f64]) -> DrawnLine {
        DrawnLine { name: "a".to_owned(), tone: "0".to_owned(), points: points.to_vec() }
    }

    #[test]
    fn lines_that_began_later_are_unknown_before() {
        let mut lines = [line(&[1.0, 2.0, 3.0]), line(&[9.0])];
        align(&mut lines);
        assert!(lines[1].points[..2].iter().all(|point| point.is_nan()));
        assert_eq!(lines[1].points[2], 9.0);
    }

    #[test]
    fn a_point_without_neighbours_is_a_dot() {
        let nan = f64::NAN;
        assert_eq!(alone(&[nan, 1.0, nan, 1.0, 1.0], 1.0).matches('M').count(), 1);
        assert_eq!(alone(&[1.0], 1.0).matches('M').count(), 1);
        assert_eq!(alone(&[1.0, 1.0, nan], 1.0), "");
    }

    #[test]
    fn what_comes_every_other_second_is_no_fence() {
        let each = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
        assert_eq!(means(&each, 2)[1..], [0.5; 5]);
        assert!(means(&[f64::NAN], 30)[0].is_nan());
    }

    #[test]
    fn joining_keeps_the_worst_of_times_and_the_mean_of_rates() {
        assert_eq!(joined(&[1.0, f64::NAN, 5.0], true), 5.0);
        assert_eq!(joined(&[1.0, f64::NAN, 5.0], false), 3.0);
        assert!(joined(&[f64::NAN], true).is_nan());
        let spec = super::super::charts::golden()[0].clone();
        let mut lines = [line(&vec![1.0; 2_016])];
        assert_eq!(join(&mut lines, &spec), 4);
        assert_eq!(lines[0].points.len(), 504);
    }

    #[test]
    fn a_share_of_nothing_is_unknown_and_nothing_of_something_is_none() {
        let chart = |points: &[f64]| Chart {
            lines: vec![terrace_signals::series::Line {
                labels: Vec::new(),
                points: points.to_vec(),
                whole: None,
            }],
            ..Chart::default()
        };
        let share = divided(&chart(&[1.0]), chart(&[0.0, 4.0, 2.0]));
        assert!(share.lines[0].points[0].is_nan());
        assert_eq!(share.lines[0].points[1..], [0.0, 0.5]);
        assert_eq!(divided(&Chart::default(), chart(&[4.0])).lines[0].points, [0.0]);
    }

    #[test]
    fn a_stack_adds_up_and_skips_gaps() {
        let sums = stacked(&[line(&[1.0, f64::NAN]), line(&[2.0, 3.0])]);
        assert_eq!(sums, [[1.0, 0.0], [3.0, 3.0]]);
    }

    #[test]
    fn a_gap_breaks_the_line() {
        assert_eq!(path(&[0.0, 1.0, f64::NAN, 1.0], 1.0), "M0 160L200 0M600 0");
        assert_eq!(path(&[], 1.0), "");
    }

    #[test]
    fn a_layer_of_a_stack_lies_on_the_one_below() {
        assert_eq!(layer(None, &[0.5, 1.0], 1.0), "M0 80L600 0L600 160L0 160");
        assert_eq!(layer(Some(&[0.5, 0.5]), &[0.5, 1.0], 1.0), "M0 80L600 0L600 80L0 80");
        assert_eq!(layer(None, &[], 1.0), "");
    }

    #[test]
    fn a_page_of_charts_says_its_figures_as_text() {
        let map = shop_map();
        let past = FakePast::default();
        let view = View { map: &map, past: &past, now: SystemTime::UNIX_EPOCH, range: Range::Hour };
        let page = charts(&view, &Page::Route("api-orders".to_owned())).into_string();
        for text in ["Requests", "p99.9", "most", "aria-current=\"true\"", "/data/charts?route=api-orders"] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("NaN") && !page.contains("style="));
        let data = data(&view, &Page::Route("api-orders".to_owned()));
        assert_eq!(data["charts"][0]["id"], "requests");
        assert!(data["charts"][0]["lines"][0]["points"].as_array().is_some_and(|points| !points.is_empty()));
    }

    #[test]
    fn an_empty_past_gives_empty_charts_and_no_nonsense() {
        let past = FakePast { is_empty: true };
        let view = View { map: &shop_map(), past: &past, now: SystemTime::UNIX_EPOCH, range: Range::Week };
        let page = charts(&view, &Page::Service("orders".to_owned())).into_string();
        assert!(page.contains("<p class=\"empty\">Nothing was measured in this time."));
        assert!(!page.contains("NaN"));
    }
}
