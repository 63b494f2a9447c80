//! Alerts on any metric: what a question about the past answers, against a bound.

use std::time::Duration;

use super::alert::{Identity, Origin, Verdict, stable_id};
use super::burn::span;
use super::{Subject, Threshold};
use crate::series::{Chart, Line, Measure, Quantile};

/// Lines of one rule that are looked at, in the order of their labels; the rest is counted.
pub(crate) const LINES_MAX: usize = 200;
/// Nothing at all is known for at least so long before that is an alert.
const ABSENT_HOLD_MIN: Duration = Duration::from_secs(60);

/// What one line, or the lack of any, says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) id: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) verdict: Verdict,
    pub(crate) hold: Duration,
    /// The mean, or the quantile of the whole time; `None` where nothing is known.
    pub(crate) value: Option<f64>,
}

/// What the answer says of each line.
pub(crate) fn judge(threshold: &Threshold, chart: &Chart) -> Vec<Finding> {
    let lines = chart.lines.iter().take(LINES_MAX);
    let mut findings: Vec<Finding> = lines.map(|line| of_line(threshold, chart, line)).collect();
    if threshold.below.is_some() {
        findings.push(absence(threshold, findings.iter().all(|finding| finding.value.is_none())));
    }
    findings
}

fn of_line(threshold: &Threshold, chart: &Chart, line: &Line) -> Finding {
    let value = line.whole.or_else(|| mean(&line.points));
    let verdict = match value {
        None => Verdict::Unknown,
        Some(value) if threshold.above.is_some_and(|bound| value > bound) => Verdict::Holds,
        Some(value) if threshold.below.is_some_and(|bound| value < bound) => {
            match known_for(chart, line) >= threshold.query.last / 2 {
                true => Verdict::Holds,
                false => Verdict::Unknown,
            }
        }
        Some(_) => Verdict::Clear,
    };
    let labels = line.labels.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    let id = stable_id([threshold.name.as_str(), "line"].into_iter().chain(labels));
    Finding { id, labels: line.labels.clone(), verdict, hold: threshold.hold, value }
}

fn absence(threshold: &Threshold, is_absent: bool) -> Finding {
    Finding {
        id: stable_id([threshold.name.as_str(), "absent"]),
        labels: Vec::new(),
        verdict: if is_absent { Verdict::Holds } else { Verdict::Clear },
        hold: threshold.hold.max(threshold.query.last).max(ABSENT_HOLD_MIN),
        value: None,
    }
}

fn mean(points: &[f64]) -> Option<f64> {
    let known = points.iter().filter(|point| point.is_finite());
    let (sum, count) = known.fold((0.0, 0_u32), |(sum, count), point| (sum + point, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// How long ago the first thing is that is known of a line: a counter that was first read a second ago has no rate of
/// five minutes yet, and above all not one that is too low. Just after a start the answer itself is as short as what is
/// known, so its length says nothing.
fn known_for(chart: &Chart, line: &Line) -> Duration {
    let Some(first) = line.points.iter().position(|point| point.is_finite()) else { return Duration::ZERO };
    let later = chart.step.saturating_mul(u32::try_from(first).unwrap_or(u32::MAX));
    (chart.first_ago + chart.step).saturating_sub(later)
}

/// What tells a finding's alert from others.
pub(crate) fn identity(threshold: &Threshold, finding: &Finding) -> Identity {
    let mut labels = vec![
        ("alertname".to_owned(), threshold.name.clone()),
        ("severity".to_owned(), threshold.severity.as_str().to_owned()),
    ];
    labels.extend(finding.labels.iter().cloned());
    let absent = finding.value.is_none();
    let words: Vec<String> = finding.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Identity {
        id: finding.id.clone(),
        origin: Origin::Threshold,
        name: threshold.name.clone(),
        detail: if absent { "absent".to_owned() } else { words.join(", ") },
        labels,
        severity: threshold.severity,
        subject: subject(&finding.labels).or_else(|| subject(&threshold.query.selector.labels)),
        notify: threshold.notify.clone(),
    }
}

fn subject(labels: &[(String, String)]) -> Option<Subject> {
    let value = |wanted: &str| labels.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    match value("route") {
        Some(route) => Some(Subject::Route(route)),
        None => value("service").map(Subject::Service),
    }
}

/// The finding in a sentence.
pub(crate) fn summary(threshold: &Threshold, finding: &Finding) -> String {
    let name = &threshold.query.selector.name;
    let Some(value) = finding.value else {
        return format!("{name}: nothing is known of it for {}", span(finding.hold));
    };
    let (word, bound) = match (threshold.above, threshold.below) {
        (Some(bound), _) if value > bound => ("above", bound),
        (_, Some(bound)) => ("below", bound),
        (bound, None) => ("above", bound.unwrap_or_default()),
    };
    let of = measure(threshold.query.measure);
    format!("{name}: {of} of {} over {} is {word} {bound}", figure(value), span(threshold.query.last))
}

fn measure(measure: Measure) -> &'static str {
    match measure {
        Measure::Rate => "a rate each second",
        Measure::Value => "a value",
        Measure::Mean => "a mean in seconds",
        Measure::Quantile(Quantile::P50) => "a p50 in seconds",
        Measure::Quantile(Quantile::P90) => "a p90 in seconds",
        Measure::Quantile(Quantile::P99) => "a p99 in seconds",
        Measure::Quantile(Quantile::P999) => "a p99.9 in seconds",
    }
}

/// Three significant digits, and whole numbers as they are.
pub(crate) fn figure(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 100.0 || value == value.trunc() {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else if magnitude >= 1.0 {
        format!("{value:.2}")
    } else {
        let digits = (2.0 - magnitude.log10().floor()).clamp(3.0, 12.0) as usize;
        let text = format!("{value:.digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::Severity;
    use crate::series::{Query, Selector};

    fn threshold(above: Option<f64>, below: Option<f64>) -> Threshold {
        let selector = Selector { name: "orders_placed_total".to_owned(), labels: Vec::new() };
        let last = Duration::from_secs(300);
        Threshold {
            name: "orders".to_owned(),
            query: Query { selector, measure: Measure::Rate, last, by: None },
            above,
            below,
            hold: Duration::from_secs(120),
            severity: Severity::Page,
            notify: Vec::new(),
        }
    }

    fn chart(lines: &[&[f64]]) -> Chart {
        let line = |(number, points): (usize, &&[f64])| Line {
            labels: vec![("service".to_owned(), number.to_string())],
            points: points.to_vec(),
            whole: None,
        };
        let lines: Vec<Line> = lines.iter().enumerate().map(line).collect();
        // Of the five minutes asked for, all.
        let points = lines.iter().map(|line| line.points.len()).max().unwrap_or_default().max(1) as u32;
        let step = Duration::from_secs(300) / points;
        Chart { first_ago: step * (points - 1), step, lines, left_out: 0 }
    }

    fn verdicts(threshold: &Threshold, lines: &[&[f64]]) -> Vec<Verdict> {
        judge(threshold, &chart(lines)).iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn the_mean_of_what_is_known_is_compared() {
        let above = threshold(Some(2.0), None);
        let lines: [&[f64]; 4] = [&[1.0, f64::NAN, 4.0], &[2.0, 2.0], &[f64::NAN], &[]];
        assert_eq!(
            verdicts(&above, &lines),
            [Verdict::Holds, Verdict::Clear, Verdict::Unknown, Verdict::Unknown]
        );
    }

    #[test]
    fn too_little_is_said_only_of_what_is_known_for_a_while() {
        let below = threshold(None, Some(1.0));
        let nan = f64::NAN;
        let lines: [&[f64]; 3] = [&[0.0; 4], &[nan, nan, nan, 0.0], &[1.0; 4]];
        assert_eq!(
            verdicts(&below, &lines),
            [Verdict::Holds, Verdict::Unknown, Verdict::Clear, Verdict::Clear],
            "the last is the absence"
        );
    }

    #[test]
    fn just_after_a_start_nothing_is_too_little_yet() {
        let below = threshold(None, Some(1.0));
        let known_secs = |secs: u32| {
            let line = Line { labels: Vec::new(), points: vec![0.0; secs as usize], whole: None };
            let step = Duration::from_secs(1);
            let chart = Chart { first_ago: step * (secs - 1), step, lines: vec![line], left_out: 0 };
            judge(&below, &chart)[0].verdict
        };
        assert_eq!([known_secs(6), known_secs(149)], [Verdict::Unknown; 2]);
        assert_eq!(known_secs(150), Verdict::Holds);
    }

    #[test]
    fn nothing_at_all_is_too_little_and_not_too_much() {
        assert_eq!(verdicts(&threshold(Some(1.0), None), &[]), []);
        let below = threshold(None, Some(1.0));
        let findings = judge(&below, &chart(&[&[f64::NAN]]));
        assert_eq!((findings[1].verdict, findings[1].hold), (Verdict::Holds, Duration::from_secs(300)));
        assert_eq!(identity(&below, &findings[1]).detail, "absent");
        assert_eq!(summary(&below, &findings[1]), "orders_placed_total: nothing is known of it for 5m");
    }

    #[test]
    fn an_alert_reads_as_a_sentence_with_figures() {
        let below = threshold(None, Some(0.1));
        let finding = &judge(&below, &chart(&[&[0.0123, 0.0123]]))[0];
        assert_eq!(
            summary(&below, finding),
            "orders_placed_total: a rate each second of 0.0123 over 5m is below 0.1"
        );
        assert_eq!(identity(&below, finding).subject, Some(Subject::Service("0".to_owned())));
    }

    #[test]
    fn figures_have_three_digits() {
        let figures = [0.0, 12_345.678, 12.345, 1.2345, 0.000_123_45, -0.5].map(figure);
        assert_eq!(figures, ["0", "12346", "12.3", "1.23", "0.000123", "-0.5"]);
    }
}
