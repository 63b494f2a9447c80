//! What receivers read: Alertmanager's webhook body, and texts for people.
//!
//! The body is version 4 of <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>, field by field,
//! so that whatever takes alerts from Alertmanager takes ours.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use terrace_instruments::Timestamp;
use terrace_signals::alerts::{Notification, Severity, Told};

/// Alerts of which a text tells; it says how many more there are.
const ALERTS_IN_TEXT_MAX: usize = 10;
/// How Go writes a time that was never set; Alertmanager sends it while an alert fires.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The webhook's body.
pub(super) fn webhook(message: &Notification) -> Vec<u8> {
    let labels: Vec<Labels<'_>> = message.alerts.iter().map(label_map).collect();
    let annotations: Vec<Map<String, Value>> = message.alerts.iter().map(annotations).collect();
    let alerts: Vec<Value> = message.alerts.iter().map(alert).collect();
    let body = json!({
        "version": "4",
        "groupKey": format!("{{}}:{{alertname={:?}}}", message.name),
        "truncatedAlerts": message.left_out,
        "status": status(message.is_firing()),
        "receiver": message.receiver,
        "groupLabels": { "alertname": message.name },
        "commonLabels": common(&labels),
        "commonAnnotations": common(&annotations),
        "externalURL": "",
        "alerts": alerts,
    });
    body.to_string().into_bytes()
}

type Labels<'a> = BTreeMap<&'a str, &'a str>;

fn alert(told: &Told) -> Value {
    json!({
        "status": status(told.ends_at.is_none()),
        "labels": label_map(told),
        "annotations": annotations(told),
        "startsAt": time(told.starts_at),
        "endsAt": told.ends_at.map_or_else(|| NEVER.to_owned(), time),
        "generatorURL": "",
        "fingerprint": told.id,
    })
}

fn label_map(told: &Told) -> Labels<'_> {
    told.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn annotations(told: &Told) -> Map<String, Value> {
    let mut all = Map::new();
    all.insert("summary".to_owned(), told.summary.clone().into());
    all.insert("value".to_owned(), told.value.to_string().into());
    for (name, text) in [("detail", told.detail.clone()), ("description", unusual(told).join("\n"))] {
        if !text.is_empty() {
            all.insert(name.to_owned(), text.into());
        }
    }
    all
}

/// What all of them have, with the same value.
fn common<K: ToString + Ord, V: PartialEq + Clone + Into<Value>, M>(all: &[M]) -> Map<String, Value>
where
    for<'a> &'a M: IntoIterator<Item = (&'a K, &'a V)>,
{
    let Some((first, rest)) = all.split_first() else { return Map::new() };
    let has = |map: &M, (key, value): (&K, &V)| map.into_iter().any(|entry| entry == (key, value));
    let shared = first.into_iter().filter(|entry| rest.iter().all(|map| has(map, *entry)));
    shared.map(|(key, value)| (key.to_string(), value.clone().into())).collect()
}

fn status(firing: bool) -> &'static str {
    if firing { "firing" } else { "resolved" }
}

fn time(at: SystemTime) -> String {
    Timestamp::default().format(at).to_owned()
}

/// One line: `[FIRING: 2] checkout (page)`.
pub(super) fn subject(message: &Notification) -> String {
    let firing = message.alerts.iter().filter(|told| told.ends_at.is_none());
    let gravest = firing.clone().map(|told| told.severity).max();
    match gravest {
        Some(severity) => format!("[FIRING: {}] {} ({})", firing.count(), message.name, severity.as_str()),
        None => format!("[RESOLVED] {}", message.name),
    }
}

/// Several lines for a person.
pub(super) fn text(message: &Notification) -> String {
    let mut text = subject(message);
    for told in message.alerts.iter().take(ALERTS_IN_TEXT_MAX) {
        text.push_str(&line(told));
    }
    let more = message.alerts.len().saturating_sub(ALERTS_IN_TEXT_MAX) + message.left_out;
    if more > 0 {
        text.push_str(&format!("\n… and {more} more; terrace alerts lists them"));
    }
    text
}

fn line(told: &Told) -> String {
    let mut line = format!("\n- {}", told.summary);
    if !told.detail.is_empty() {
        line.push_str(&format!("\n  {}", told.detail));
    }
    line.push_str(&format!("\n  since {}", time(told.starts_at)));
    if let Some(ended) = told.ends_at {
        line.push_str(&format!(", over at {}", time(ended)));
    }
    for note in unusual(told) {
        line.push_str(&format!("\n  {note}"));
    }
    line
}

fn unusual(told: &Told) -> Vec<String> {
    told.notes.iter().map(|note| format!("unusual at the time: {note}")).collect()
}

/// The body that Slack, Mattermost and Discord's `/slack` take; `&`, `<` and `>` are their markup.
pub(super) fn slack(message: &Notification) -> Vec<u8> {
    let text = text(message).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    json!({ "text": text }).to_string().into_bytes()
}

/// A message that says that it is a test.
pub(super) fn test(receiver: &str, wall: SystemTime) -> Notification {
    let labels = [("alertname", "terrace-test"), ("severity", Severity::Info.as_str())];
    let told = Told {
        id: "0000000000000000".to_owned(),
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        severity: Severity::Info,
        detail: String::new(),
        subject: None,
        summary: "This is a test of Terrace's alerts; nothing is wrong.".to_owned(),
        notes: Vec::new(),
        value: 0.0,
        starts_at: wall,
        ends_at: None,
    };
    Notification {
        id: 0,
        receiver: receiver.to_owned(),
        name: "terrace-test".to_owned(),
        alerts: vec![told],
        left_out: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn message() -> Notification {
        let mut message = test("oncall", SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        message.name = "checkout".to_owned();
        let mut second = message.alerts[0].clone();
        second.severity = Severity::Page;
        second.labels[1].1 = "page".to_owned();
        second.summary = "1% <failed> & more".to_owned();
        second.notes = vec!["connections".to_owned()];
        second.ends_at = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_060));
        message.alerts.push(second);
        message
    }

    #[test]
    fn a_webhook_has_every_field_of_alertmanagers() {
        let body: Value = serde_json::from_slice(&webhook(&message())).unwrap();
        let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            [
                "alerts",
                "commonAnnotations",
                "commonLabels",
                "externalURL",
                "groupKey",
                "groupLabels",
                "receiver",
                "status",
                "truncatedAlerts",
                "version"
            ]
        );
        assert_eq!(body["status"], "firing");
        assert_eq!(body["groupKey"], "{}:{alertname=\"checkout\"}");
        assert_eq!(body["commonLabels"], json!({ "alertname": "terrace-test" }));
        let alert = &body["alerts"][1];
        assert_eq!(alert["status"], "resolved");
        assert_eq!(alert["startsAt"], "2027-01-15T08:00:00.000000Z");
        assert_eq!(alert["endsAt"], "2027-01-15T08:01:00.000000Z");
        assert_eq!(body["alerts"][0]["endsAt"], NEVER);
    }

    #[test]
    fn a_text_says_what_is_wrong_since_when_and_what_was_unusual() {
        assert_eq!(
            text(&message()),
            "[FIRING: 1] checkout (info)\n\
             - This is a test of Terrace's alerts; nothing is wrong.\n  since 2027-01-15T08:00:00.000000Z\n\
             - 1% <failed> & more\n  since 2027-01-15T08:00:00.000000Z, over at 2027-01-15T08:01:00.000000Z\n  \
             unusual at the time: connections"
        );
        let slack: Value = serde_json::from_slice(&slack(&message())).unwrap();
        assert!(slack["text"].as_str().unwrap().contains("1% &lt;failed&gt; &amp; more"));
    }

    #[test]
    fn a_text_of_many_alerts_is_short() {
        let mut message = message();
        message.alerts = vec![message.alerts[0].clone(); 50];
        message.left_out = 3;
        assert!(text(&message).ends_with("… and 43 more; terrace alerts lists them"));
    }
}
