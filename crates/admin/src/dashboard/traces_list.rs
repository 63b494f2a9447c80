//! Kept traces as a table, with how long each took on one logarithmic scale, so that a hundredfold difference fits beside
//! a twofold one.

use maud::{Markup, html};
use terrace_signals::traces::TraceSummary;

use super::figures::seconds;
use super::past::View;
use super::shapes::{Health, badge, service_name};

/// The ends of the scale when all traces are alike, in seconds.
const SCALE_DEFAULT: (f64, f64) = (0.001, 1.0);
/// Services named in a row.
const SERVICES_MAX: usize = 4;

/// From where to where the scale of durations reaches: whole powers of ten around them.
fn scale(traces: &[TraceSummary]) -> (f64, f64) {
    let durations = traces.iter().map(|trace| trace.duration.as_secs_f64()).filter(|seconds| *seconds > 0.0);
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    for seconds in durations {
        least = least.min(seconds);
        most = most.max(seconds);
    }
    match least.is_finite() {
        true => (10_f64.powf(least.log10().floor()), 10_f64.powf((most * 1.000_001).log10().ceil())),
        false => SCALE_DEFAULT,
    }
}

/// Where `seconds` lies on a logarithmic scale, 0 to 1.
pub(super) fn on_log_scale(seconds: f64, (least, most): (f64, f64)) -> f64 {
    match seconds > least && most > least {
        true => ((seconds / least).log10() / (most / least).log10()).clamp(0.0, 1.0),
        false => 0.0,
    }
}

/// The table; it says what its scale is.
pub(super) fn trace_table(view: &View<'_>, traces: &[TraceSummary]) -> Markup {
    let scale = scale(traces);
    html! {
        div class="scroll" tabindex="0" role="group" aria-label="Table of traces" {
            table class="list traces" {
                thead { tr {
                    th scope="col" { "Request" } th scope="col" { "Answer" } th scope="col" class="num" { "Took" }
                    th scope="col" { (seconds(scale.0)) " … " (seconds(scale.1)) } th scope="col" { "Through" }
                    th scope="col" { "Kept as" } th scope="col" class="num" { "When" }
                } }
                tbody { @for trace in traces { (row(view, trace, scale)) } }
            }
        }
    }
}

fn row(view: &View<'_>, trace: &TraceSummary, scale: (f64, f64)) -> Markup {
    let took = trace.duration.as_secs_f64();
    let width = 2.0 + 98.0 * on_log_scale(took, scale);
    // All of them came through Terrace.
    let services: Vec<&String> = trace.services.iter().filter(|service| *service != "terrace").collect();
    html! {
        tr {
            th scope="row" { a href={ "/traces/" (trace.trace) } { (trace.root) }
                @if !trace.path.is_empty() && !trace.root.ends_with(&trace.path) { span class="hint" { " " (trace.path) } }
            }
            td { (answer(trace)) }
            td class="num" { (seconds(took)) }
            td {
                svg class={ "bar took" @if trace.is_error { " bad" } } viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
                    rect width=(format!("{width:.1}")) height="8" {}
                }
            }
            td class="through" {
                @for service in services.iter().take(SERVICES_MAX) { (service_name(service)) }
                @if services.len() > SERVICES_MAX { "+" (services.len() - SERVICES_MAX) }
            }
            td { (trace.kept) }
            td class="num" { (view.ago(trace.start)) }
        }
    }
}

/// What the client got, as a badge.
pub(super) fn answer(trace: &TraceSummary) -> Markup {
    let status = trace.status.map(|status| status.to_string());
    match (trace.is_error, status) {
        (true, Some(status)) => badge(Health::Bad, &status),
        (true, None) => badge(Health::Bad, "failed"),
        (false, Some(status)) if status.starts_with('4') => badge(Health::Warn, &status),
        (false, Some(status)) if trace.is_retried => badge(Health::Ok, &format!("{status}, retried")),
        (false, Some(status)) => badge(Health::Ok, &status),
        (false, None) => badge(Health::Idle, "unknown"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{FakePast, shop_map, summaries};
    use super::*;
    use crate::dashboard::charts::Range;

    #[test]
    fn durations_share_a_scale_of_whole_powers_of_ten() {
        let mut traces = summaries();
        traces.truncate(2);
        traces[0].duration = Duration::from_micros(2_500);
        traces[1].duration = Duration::from_millis(420);
        let (least, most) = scale(&traces);
        assert!((least - 0.001).abs() < 1e-9 && (most - 1.0).abs() < 1e-9);
        assert_eq!(scale(&[]), SCALE_DEFAULT);
        assert!((on_log_scale(0.031_622_776, (0.001, 1.0)) - 0.5).abs() < 1e-6);
        assert_eq!(on_log_scale(0.0, (0.001, 1.0)), 0.0);
        assert_eq!(on_log_scale(9.0, (0.001, 1.0)), 1.0);
    }

    #[test]
    fn a_row_leads_to_its_trace_and_escapes_its_name() {
        let mut traces = summaries();
        traces[0].root = "GET /<script>".to_owned();
        traces[0].path = "/<i>".to_owned();
        let map = shop_map();
        let view = View { map: &map, past: &FakePast::default(), now: traces[0].start, range: Range::Hour };
        (traces[0].status, traces[0].is_error, traces[0].is_retried) = (Some(200), false, true);
        let table = trace_table(&view, &traces).into_string();
        assert!(table.contains("200, retried"), "another try went well");
        assert!(table.contains("GET /&lt;script&gt;"));
        assert!(table.contains("/&lt;i&gt;"), "which of the pattern's it was");
        assert!(table.contains(&format!("href=\"/traces/{}\"", traces[0].trace)));
        assert!(table.contains("just now"));
    }
}
