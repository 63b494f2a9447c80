//! `terrace alerts`: how the objectives stand, what fires, and what is done about it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};
use terrace_admin::client::{self, ClientError};
use terrace_runtime::clock;
use terrace_telemetry::for_terminal;

use super::{Paint, encoded, print, second, values};
use crate::cli::{Alerts, AlertsAction, Global};
use crate::figures::{percent, seconds};

/// Characters of a budget's bar.
const BAR_WIDTH: usize = 20;

/// Asks, and prints the answer. Says whether all went well: a receiver that could not be reached is a failure.
pub(super) async fn run(socket: &Path, alerts: &Alerts, global: &Global) -> Result<bool, ClientError> {
    let value = match &alerts.action {
        None => client::request(socket, "GET", "/v1/alerts", None).await?,
        Some(AlertsAction::Test { receiver, .. }) => {
            let body = receiver.as_ref().map_or_else(|| json!({}), |name| json!({ "receiver": name }));
            client::request(socket, "POST", "/v1/alerts/test", Some(&body)).await?
        }
        Some(AlertsAction::Silence { target, lasts, comment, .. }) => {
            let body = json!({ "target": target, "seconds": lasts.as_secs_f64(), "comment": comment });
            client::request(socket, "POST", "/v1/silences", Some(&body)).await?
        }
        Some(AlertsAction::Unsilence { id, .. }) => {
            let path = format!("/v1/silences/{}/end", encoded(id));
            client::request(socket, "POST", &path, Some(&json!({}))).await?
        }
    };
    print(global, &value, |paint| match &alerts.action {
        None => list(&value, clock::wall(), paint),
        Some(AlertsAction::Test { .. }) => tested(&value, paint),
        Some(AlertsAction::Silence { target, .. }) => format!(
            "nobody is told about {target} until {} UTC; terrace alerts unsilence {} ends that\n{}",
            second(text(&value, "until"), clock::wall()),
            text(&value, "id"),
            unless_kept(&value, paint)
        ),
        Some(AlertsAction::Unsilence { id, .. }) => {
            format!("silence {id} is over\n{}", unless_kept(&value, paint))
        }
    });
    Ok(values(&value["results"]).all(|result| result["is_delivered"] == true))
}

/// What is to be said besides where the state folder took nothing.
fn unless_kept(value: &Value, paint: Paint) -> String {
    match value["kept"].as_bool() {
        Some(false) => {
            paint.bad("but the state folder cannot be written, so a restart will forget that") + "\n"
        }
        _ => String::new(),
    }
}

fn tested(value: &Value, paint: Paint) -> String {
    let mut out = String::new();
    for result in values(&value["results"]) {
        let outcome = match result["problem"].as_str() {
            Some(problem) => paint.bad(&for_terminal(problem, false)),
            None => paint.state("ready").replace("ready", "delivered"),
        };
        let _infallible = writeln!(out, "{:<14} {outcome}", text(result, "receiver"));
    }
    out
}

/// Objectives, alerts and silences, each under its heading.
fn list(value: &Value, now: SystemTime, paint: Paint) -> String {
    let mut out = String::new();
    let silence = |out: &mut String, silence: &Value| push_silence(out, silence, now, paint);
    section(&mut out, "Objectives", &value["objectives"], paint, |out, one| push_objective(out, one, paint));
    push_alerts(&mut out, value, now, paint);
    section(&mut out, "Silences", &value["silences"], paint, silence);
    if out.is_empty() {
        out.push_str(
            "no objective is set and nothing fires; see [objective.NAME] in `terrace schema --markdown`\n",
        );
    }
    out
}

/// Alerts of one objective (of several windows, of failures and of slowness) tell of one outage: the gravest in full, the
/// others of its state below.
fn push_alerts(out: &mut String, value: &Value, now: SystemTime, paint: Paint) {
    let is_of_objective =
        |alert: &Value| values(&value["objectives"]).any(|objective| objective["name"] == alert["name"]);
    let mut outages: Vec<Vec<&Value>> = Vec::new();
    for alert in values(&value["alerts"]) {
        let same = |outage: &&mut Vec<&Value>| {
            let first = outage[0];
            first["name"] == alert["name"] && first["state"] == alert["state"] && is_of_objective(alert)
        };
        match outages.iter_mut().find(same) {
            Some(outage) => outage.push(alert),
            None => outages.push(vec![alert]),
        }
    }
    if outages.is_empty() {
        return;
    }
    push_heading(out, "Alerts", paint);
    for outage in &mut outages {
        outage.sort_by_key(|alert| alert["severity"] != "page");
        let (first, others) = (outage[0], &outage[1..]);
        push_alert(out, first, now, paint);
        others.iter().for_each(|other| push_also(out, other, first, now, paint));
    }
}

/// `also ticket: 1.2 % of requests are slow, burn 6x over 6h and 30m, since 12:00:00 UTC, id a2`
fn push_also(out: &mut String, alert: &Value, first: &Value, now: SystemTime, paint: Paint) {
    let summary = match alert["summary"] == first["summary"] {
        true => String::new(),
        false => format!("{}, ", for_terminal(text(alert, "summary"), false)),
    };
    let about = format!("    also {}: {summary}{}", text(alert, "severity"), about(alert, now));
    let _infallible = writeln!(out, "{}", paint.faint(&about));
}

fn push_heading(out: &mut String, heading: &str, paint: Paint) {
    if !out.is_empty() {
        out.push('\n');
    }
    let _infallible = writeln!(out, "{}", paint.bold(heading));
}

fn section(out: &mut String, heading: &str, list: &Value, paint: Paint, push: impl Fn(&mut String, &Value)) {
    let mut items = values(list).peekable();
    if items.peek().is_none() {
        return;
    }
    push_heading(out, heading, paint);
    items.for_each(|item| push(out, item));
}

/// `checkout  objective 99.9 % ███████████████░░░░░ 74 % of the budget left, 30 days; 12 of 48211 bad`
fn push_objective(out: &mut String, objective: &Value, paint: Paint) {
    let left = objective["budget_left"].as_f64().unwrap_or(1.0);
    let goal = goal(objective["goal"].as_f64().unwrap_or_default());
    let promise = match objective["under_seconds"].as_f64() {
        Some(under) => format!("objective {goal} within {}", seconds(Some(under))),
        None => format!("objective {goal}"),
    };
    let bar = bar(left);
    let bar = match left {
        left if left <= 0.0 => paint.bad(&bar),
        left if left < 0.25 => paint.state("starting").replace("starting", &bar),
        _ => paint.state("ready").replace("ready", &bar),
    };
    let days = objective["window_seconds"].as_f64().unwrap_or_default() / 86_400.0;
    let name = for_terminal(text(objective, "name"), false);
    let spent = match left {
        left if left <= -99.0 => paint.bad(&format!("budget spent {:.0} times over", 1.0 - left)),
        left if left < 0.0 => paint.bad(&format!("budget spent {:.1} times over", 1.0 - left)),
        left => format!("{} of the budget left", percent(Some(left))),
    };
    let counts = match objective["total"].as_u64() {
        Some(0) => "no requests yet".to_owned(),
        _ => format!("{} of {} bad", objective["bad"], objective["total"]),
    };
    let _infallible = writeln!(out, "  {name:<16} {promise:<30} {bar} {spent}, {days:.0} days; {counts}");
}

/// Full blocks for what is left.
fn bar(left: f64) -> String {
    let full = (left.clamp(0.0, 1.0) * BAR_WIDTH as f64).round() as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(BAR_WIDTH - full))
}

fn push_alert(out: &mut String, alert: &Value, now: SystemTime, paint: Paint) {
    let (state, severity) = (text(alert, "state"), text(alert, "severity"));
    let shown = format!("{state:<9} {severity:<7}");
    let shown = match (state, severity) {
        ("firing", "page") => paint.bad(&shown),
        ("firing", _) | ("pending", _) => paint.state("starting").replace("starting", &shown),
        _ => paint.faint(&shown),
    };
    let name = for_terminal(text(alert, "name"), false);
    let summary = for_terminal(text(alert, "summary"), false);
    let _infallible = writeln!(out, "  {shown} {} {summary}", paint.bold(&name));
    let _infallible = writeln!(out, "{}", paint.faint(&format!("    {}", about(alert, now))));
    for note in values(&alert["notes"]).filter_map(Value::as_str) {
        let _infallible = writeln!(out, "{}", paint.faint(&format!("    {}", for_terminal(note, false))));
    }
}

/// What it is about, since when, and how to name it.
fn about(alert: &Value, now: SystemTime) -> String {
    // A rule without `by` has one alert, and nothing to tell it from others.
    let detail = match text(alert, "detail") {
        "" => String::new(),
        detail => format!("{}, ", for_terminal(detail, false)),
    };
    let silenced = match alert["silenced_until"].as_str() {
        Some(until) => format!(", silent until {} UTC", second(until, now)),
        None => String::new(),
    };
    let since = second(text(alert, "since"), now);
    format!("{detail}since {since} UTC{silenced}, id {}", text(alert, "id"))
}

fn push_silence(out: &mut String, silence: &Value, now: SystemTime, paint: Paint) {
    let of = |key| for_terminal(text(silence, key), false);
    let comment = match of("comment").as_str() {
        "" => String::new(),
        comment => format!(": {comment}"),
    };
    let _infallible = writeln!(
        out,
        "  {} until {} UTC, by {}{comment} {}",
        paint.bold(&of("target")),
        second(text(silence, "until"), now),
        of("by"),
        paint.faint(&format!("id {}", of("id")))
    );
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// With all its nines, since each of them is a promise: `99.95 %`.
fn goal(share: f64) -> String {
    let thousandths = (share * 1e5).round() / 1e3;
    format!("{thousandths} %")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// On 31 January 2026.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_860_800)
    }

    #[test]
    fn objectives_stand_with_what_is_left_of_their_budget() {
        let objective = |left: f64, under: Option<f64>| {
            json!({
                "name": "checkout", "goal": 0.999, "under_seconds": under, "window_seconds": 2_592_000.0,
                "budget_left": left, "bad": 12, "total": 48_211,
            })
        };
        let value = json!({
            "objectives": [objective(0.742, None), objective(-27.67, Some(0.3))], "alerts": [], "silences": [],
        });
        assert_eq!(
            list(&value, now(), Paint(false)),
            "Objectives\n\
             \x20 checkout         objective 99.9 %               ███████████████░░░░░ 74 % of the budget left, 30 days; 12 of 48211 bad\n\
             \x20 checkout         objective 99.9 % within 300 ms ░░░░░░░░░░░░░░░░░░░░ budget spent 28.7 times over, 30 days; 12 of 48211 bad\n"
        );
    }

    #[test]
    fn alerts_say_what_is_wrong_since_when_and_how_to_name_them() {
        let value = json!({
            "objectives": [],
            "alerts": [{
                "id": "a1", "name": "checkout", "detail": "burn 14.4x over 1h and 5m", "severity": "page",
                "state": "firing", "since": "2026-01-30T12:00:00.123456Z", "summary": "1.6 % of requests fail\u{1b}[2J",
                "notes": ["orders-2 is slow"], "silenced_until": null,
            }],
            "silences": [{ "id": "s1", "target": "checkout", "until": "2026-01-31T14:00:00.5Z", "comment": "known", "by": "uid 0" }],
        });
        assert_eq!(
            list(&value, now(), Paint(false)),
            "Alerts\n\
             \x20 firing    page    checkout 1.6 % of requests fail[2J\n\
             \x20   burn 14.4x over 1h and 5m, since 2026-01-30 12:00:00 UTC, id a1\n\
             \x20   orders-2 is slow\n\
             \n\
             Silences\n\
             \x20 checkout until 14:00:00 UTC, by uid 0: known id s1\n"
        );
        assert!(list(&json!({}), now(), Paint(false)).starts_with("no objective is set"));
    }
    #[test]
    fn one_outage_is_told_once_however_many_windows_see_it() {
        let alert = |id: &str, severity: &str, summary: &str| {
            json!({
                "id": id, "name": "checkout", "detail": "burn 14.4x over 1h and 5m", "severity": severity,
                "state": "firing", "since": "2026-01-31T12:00:00Z", "summary": summary,
            })
        };
        let all = [
            alert("a1", "ticket", "it is slow"),
            alert("a2", "page", "it fails"),
            alert("a3", "page", "it fails"),
        ];
        let value = json!({ "objectives": [{ "name": "checkout" }], "alerts": all });
        let shown = list(&value, now(), Paint(false));
        assert!(
            shown.ends_with(
                "  firing    page    checkout it fails\n\
             \x20   burn 14.4x over 1h and 5m, since 12:00:00 UTC, id a2\n\
             \x20   also page: burn 14.4x over 1h and 5m, since 12:00:00 UTC, id a3\n\
             \x20   also ticket: it is slow, burn 14.4x over 1h and 5m, since 12:00:00 UTC, id a1\n"
            ),
            "{shown}"
        );
    }
}
