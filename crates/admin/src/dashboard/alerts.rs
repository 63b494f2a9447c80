//! Alerts: what fires, what is kept quiet, whom it is told to, and how the objectives stand.

use std::time::UNIX_EPOCH;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use terrace_runtime::clock;
use terrace_signals::alerts::{AlertState, AlertView, ObjectiveView, Severity, SilenceView, Subject};
use terrace_telemetry::{Receiver, Way};

use crate::control::ControlError;

use super::Dashboard;
use super::layout::{self, Nav};
use super::visitor::Visitor;
use super::{actions, faults, figures, objective};

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/alerts", get(show))
}

async fn show(State(dashboard): State<Dashboard>, visitor: Visitor) -> Result<Response, ControlError> {
    let telemetry = &dashboard.telemetry;
    let (alerts, silences) = (telemetry.alerts(), telemetry.silences());
    let objectives = telemetry.objectives();
    let config = telemetry.config();
    // Not the map's, which may be a second old: whoever just ended one shall not see it any more.
    let faults = dashboard.control.faults().await?;
    let (now, past): (Vec<_>, Vec<_>) = alerts.iter().partition(|alert| alert.state != AlertState::Resolved);
    let content = html! {
        // app.js fetches this page again when an event says that alerts or silences have changed.
        div.stack data-refresh-on="alerts" {
            div.page-head { div { h1 { "Alerts" } p.sub { (in_short(&alerts)) } } }
            (faults::panel(&visitor, &faults, seconds_since_1970()))
            (alerts_panel(&visitor, "Now", &now, "Nothing fires and nothing is about to."))
            (objectives_panel(&objectives))
            (silences_panel(&visitor, &silences, &alerts))
            (receivers_panel(&visitor, &config.receivers))
            @if !past.is_empty() { (alerts_panel(&visitor, "Resolved", &past, "")) }
        }
    };
    Ok(layout::page("Alerts", &visitor, Nav::Alerts, content))
}

fn seconds_since_1970() -> f64 {
    clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn in_short(alerts: &[AlertView]) -> String {
    let count = |state| alerts.iter().filter(|alert| alert.state == state).count();
    match (count(AlertState::Firing), count(AlertState::Pending)) {
        (0, 0) => "All is quiet.".to_owned(),
        (0, pending) => format!("{pending} pending."),
        (firing, 0) => format!("{firing} firing."),
        (firing, pending) => format!("{firing} firing, {pending} pending."),
    }
}

fn alerts_panel(visitor: &Visitor, title: &str, alerts: &[&AlertView], empty: &str) -> Markup {
    html! {
        section.panel {
            header { h2 { (title) } }
            @if alerts.is_empty() { p.empty { (empty) } }
            ul.alerts { @for group in by_name(alerts) { li { (group_card(visitor, &group)) } } }
        }
    }
}

/// Alerts of one objective or rule are one trouble: together, in the order in which its most serious one comes.
fn by_name<'a>(alerts: &[&'a AlertView]) -> Vec<Vec<&'a AlertView>> {
    let mut groups: Vec<Vec<&AlertView>> = Vec::new();
    for alert in alerts {
        match groups.iter_mut().find(|group| group[0].name == alert.name) {
            Some(group) => group.push(alert),
            None => groups.push(vec![alert]),
        }
    }
    groups
}

/// The most serious alert, and the others of the same name below it.
fn group_card(visitor: &Visitor, group: &[&AlertView]) -> Markup {
    let Some((first, others)) = group.split_first() else { return html! {} };
    html! {
        (alert_card(visitor, first))
        @if !others.is_empty() {
            details.others {
                summary { (others.len()) " more of " (first.name) }
                div.alerts { @for alert in others { (alert_card(visitor, alert)) } }
            }
        }
    }
}

fn alert_card(visitor: &Visitor, alert: &AlertView) -> Markup {
    let is_over = alert.state == AlertState::Resolved;
    html! {
        article.alert.(kind(alert)) {
            div.alert-head {
                (state_badge(alert))
                h3 { (objective_link(&alert.name, alert.subject.as_ref())) }
                span.hint { (severity(alert.severity)) }
                span.hint { (since(alert)) }
                @if let Some(until) = alert.silenced_until { span.badge { "silenced until " (layout::time(until)) } }
            }
            p { (alert.summary) }
            p.hint {
                (alert.detail)
                @if let Some(subject) = &alert.subject {
                    @if !alert.detail.is_empty() { " · " }
                    (subject_link(subject))
                }
            }
            @if !alert.notes.is_empty() {
                div.notes {
                    p.hint { "Unusual at the same time:" }
                    ul { @for note in &alert.notes { li { (note) } } }
                }
            }
            @if !is_over && alert.silenced_until.is_none() {
                (actions::silence_form(visitor, &[(&alert.id, "this alert"), (&alert.name, &format!("all of {}", alert.name))]))
            }
        }
    }
}

/// Since when, and how long that is; of one that is over only when it began.
fn since(alert: &AlertView) -> Markup {
    let lasted = clock::wall().duration_since(alert.since).unwrap_or_default();
    html! {
        @if alert.state != AlertState::Resolved { "for " (figures::span(lasted.as_secs())) ", " }
        "since " (layout::time(alert.since))
    }
}

fn kind(alert: &AlertView) -> &'static str {
    match (alert.state, alert.severity) {
        (AlertState::Firing, Severity::Page) => "bad",
        (AlertState::Firing, Severity::Ticket) | (AlertState::Pending, _) => "warn",
        _ => "idle",
    }
}

/// The state as a shape and a word.
fn state_badge(alert: &AlertView) -> Markup {
    let (sign, word) = match alert.state {
        AlertState::Firing => ("▲", "firing"),
        AlertState::Pending => ("△", "pending"),
        AlertState::Resolved => ("✓", "resolved"),
    };
    let kind = if alert.state == AlertState::Resolved { "ok" } else { kind(alert) };
    html! { span.badge.(kind) { span aria-hidden="true" { (sign) } (word) } }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Page => "page: now",
        Severity::Ticket => "ticket: within days",
        Severity::Info => "for the record",
    }
}

/// An objective's alert leads to the objective; another one's name is only a name.
fn objective_link(name: &str, subject: Option<&Subject>) -> Markup {
    match subject {
        Some(_) => html! { a href={ "/objectives/" (layout::escape_query(name)) } { (name) } },
        None => html! { (name) },
    }
}

fn subject_link(subject: &Subject) -> Markup {
    match subject {
        Subject::Route(name) => {
            html! { "route " a href={ "/routes/" (layout::escape_query(name)) } { (name) } }
        }
        Subject::Service(name) => {
            html! { "service " a href={ "/services/" (layout::escape_query(name)) } { (name) } }
        }
    }
}

fn objectives_panel(objectives: &[ObjectiveView]) -> Markup {
    html! {
        section.panel {
            header { h2 { "Objectives" } }
            @if objectives.is_empty() {
                p.empty {
                    "No objective is set. " code { "[objective.checkout] route = \"orders\"; success = \"99.9%\"" }
                    " promises something to users, and calls somebody when the promise is about to be broken."
                }
            }
            (objective::budgets(objectives))
        }
    }
}

fn silences_panel(visitor: &Visitor, silences: &[SilenceView], alerts: &[AlertView]) -> Markup {
    html! {
        section.panel {
            header { h2 { "Silences" } }
            @if silences.is_empty() { p.empty { "Nothing is silenced." } }
            @else {
                div.scroll tabindex="0" role="region" aria-label="Silences in force" {
                    table.list {
                        caption.visually-hidden { "Silences in force" }
                        thead { tr {
                            th scope="col" { "What" } th scope="col" { "Until" } th scope="col" { "Why" } th scope="col" { "By" }
                            th scope="col" { span.visually-hidden { "Actions" } }
                        } }
                        tbody { @for silence in silences { (silence_row(visitor, silence, alerts)) } }
                    }
                }
            }
        }
    }
}

fn silence_row(visitor: &Visitor, silence: &SilenceView, alerts: &[AlertView]) -> Markup {
    let alert = alerts.iter().find(|alert| alert.id == silence.target);
    html! {
        tr {
            th scope="row" { @match alert { Some(alert) => { (alert.name) " " span.hint { (alert.detail) } } None => (silence.target) } }
            td.nowrap { (layout::time(silence.until)) }
            td { (silence.comment) }
            td { (silence.by) }
            td {
                @if visitor.may_act() {
                    form.inline method="post" action="/silences/end" data-action data-refresh {
                        (visitor.form_fields())
                        input type="hidden" name="id" value=(silence.id);
                        button type="submit" { "End" span.visually-hidden { " the silence of " (silence.target) } }
                    }
                }
            }
        }
    }
}

fn receivers_panel(visitor: &Visitor, receivers: &[Receiver]) -> Markup {
    html! {
        section.panel {
            header {
                h2 { "Who is told" }
                @if visitor.may_act() && receivers.len() > 1 { (test_form(visitor, None)) }
            }
            @if receivers.is_empty() {
                p.empty { "Nobody. " code { "[notify.oncall] webhook = \"https://…\"" } " tells somebody; e-mail, Slack and a command work too." }
            } @else {
                div.scroll tabindex="0" role="region" aria-label="Receivers of alerts" {
                    table.list {
                        caption.visually-hidden { "Receivers of alerts" }
                        thead { tr {
                            th scope="col" { "Receiver" } th scope="col" { "By" } th scope="col" { "At least" } th scope="col" { "When it is over" }
                            th scope="col" { "Again after" } th scope="col" { span.visually-hidden { "Actions" } }
                        } }
                        tbody { @for receiver in receivers { (receiver_row(visitor, receiver)) } }
                    }
                }
            }
        }
    }
}

/// Neither addresses nor keys: who knows a webhook's address may post there.
fn receiver_row(visitor: &Visitor, receiver: &Receiver) -> Markup {
    let way = match &receiver.way {
        Way::Webhook { .. } => "webhook".to_owned(),
        Way::Slack { .. } => "Slack".to_owned(),
        Way::Email { to, .. } => format!("e-mail to {}", to.join(", ")),
        Way::Command(_) => "command".to_owned(),
    };
    html! {
        tr {
            th scope="row" { (receiver.name) }
            td { (way) }
            td { (severity(receiver.severity_min)) }
            td { (if receiver.resolved { "told" } else { "not told" }) }
            td { (figures::words(receiver.repeat)) }
            td { @if visitor.may_act() { (test_form(visitor, Some(&receiver.name))) } }
        }
    }
}

fn test_form(visitor: &Visitor, name: Option<&str>) -> Markup {
    html! {
        form.inline method="post" action="/receivers/test" data-action {
            (visitor.form_fields())
            @if let Some(name) = name { input type="hidden" name="name" value=(name); }
            button type="submit" {
                @match name { Some(name) => { "Send a test" span.visually-hidden { " to " (name) } } None => "Send a test to all" }
            }
        }
    }
}
