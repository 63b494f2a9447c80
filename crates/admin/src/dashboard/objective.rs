//! The page of an objective: the promise in words, what is left of the budget, and how fast it burns.
//!
//! A budget is what may fail: of 99.9 % over 30 days it is one request in a thousand. A burn rate of 1 spends it in
//! exactly the window; the four rules that raise alerts are those of the SRE Workbook (chapter 5, "Alerting on SLOs"),
//! each asking a long window whether it matters and a short one whether it still goes on.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use terrace_signals::alerts::{AlertState, AlertView, ObjectiveView, Severity, Subject};

use crate::control::ControlError;

use super::charts::{Page, Range};
use super::charts_drawn::charts;
use super::figures::{UNKNOWN, number, seconds, share, words};
use super::layout::{Nav, page};
use super::overview::Reach;
use super::pages::{self, chart_files, crumbs, fact};
use super::past::View;
use super::shapes::{Health, badge, bar, mark, segment};
use super::visitor::Visitor;
use super::{Dashboard, lists};

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/objectives/{name}", get(objective))
}

async fn objective(
    State(dashboard): State<Dashboard>,
    visitor: Visitor,
    Path(name): Path<String>,
    Query(reach): Query<Reach>,
) -> Result<Response, ControlError> {
    let map = dashboard.control.map().await?;
    let view = pages::view(&dashboard, &map, Range::from_key(&reach.last));
    let objectives = view.past.objectives();
    let views: Vec<&ObjectiveView> = objectives.iter().filter(|view| view.name == name).collect();
    if views.is_empty() {
        return Err(ControlError::not_found(format!("The file has no objective called {name}.")));
    }
    let silence = super::actions::silence_form(&visitor, &[(&name, &name)]);
    Ok(page(&format!("Objective {name}"), &visitor, Nav::Overview, content(&view, &name, &views, &silence)))
}

fn content(view: &View<'_>, name: &str, views: &[&ObjectiveView], silence: &Markup) -> Markup {
    let mut alerts = view.past.alerts();
    alerts.retain(|alert| alert.name == name);
    html! {
        (crumbs(&[("Objectives", lists::OBJECTIVES), (name, "")]))
        div class="page-head" {
            div data-live="head" {
                div class="title" { h1 { "Objective " (name) } (standing(views)) }
                @for view in views { p class="sub" { (promise(view)) } }
            }
            div class="actions" { (silence) }
        }
        div class="columns" data-live="budgets" { @for view in views { (budget(view)) } }
        div data-live="alerts" { (alerts_of(view, &alerts)) }
        (charts(view, &Page::Objective(name.to_owned())))
        (chart_files())
    }
}

/// How much is left of a budget, as a state.
pub(super) fn health(view: &ObjectiveView) -> Health {
    match view.budget_left {
        _ if view.total == 0 => Health::Idle,
        left if left <= 0.0 => Health::Bad,
        left if left < 0.25 => Health::Warn,
        _ => Health::Ok,
    }
}

fn standing(views: &[&ObjectiveView]) -> Markup {
    let worst = views.iter().map(|view| health(view)).max().unwrap_or(Health::Idle);
    let word = match worst {
        Health::Idle => "no requests yet",
        Health::Ok => "kept",
        Health::Warn => "budget runs low",
        Health::Bad => "broken",
    };
    badge(worst, word)
}

/// The promise as one would say it.
pub(super) fn promise(view: &ObjectiveView) -> Markup {
    let (kind, name, link) = match &view.subject {
        Subject::Route(name) => ("route", name, format!("/routes/{}", segment(name))),
        Subject::Service(name) => ("service", name, format!("/services/{}", segment(name))),
    };
    html! {
        b { (share(view.goal)) } " of requests to " (kind) " " a href=(link) { (name) } " "
        @match view.under {
            Some(under) => { "are answered within " b { (seconds(under.as_secs_f64())) } },
            None => "succeed",
        }
        ", over " (words(view.window)) "."
    }
}

fn budget(view: &ObjectiveView) -> Markup {
    let health = health(view);
    let allowed = (1.0 - view.goal) * view.total as f64;
    html! {
        section class="panel" aria-label={ "Budget for " (view.kind) } {
            header { h2 { (title(view.kind)) } }
            p class={ "budget-left " (health.class()) } {
                @if view.total == 0 { (UNKNOWN) small { " no requests in the window yet" } }
                @else if view.budget_left < 0.0 { (times(Some(1.0 - view.budget_left))) small { " the budget was spent" } }
                @else { (share(view.budget_left)) small { " of the budget left" } }
            }
            (bar(view.budget_left, health))
            dl class="facts" {
                (fact("Requests in the window", &number(view.total as f64)))
                (fact(if view.under.is_some() { "Too slow" } else { "Failed" }, &number(view.bad as f64)))
                (fact("Allowed so far", &number(allowed)))
                (fact("Kept", &if view.total == 0 { UNKNOWN.to_owned() } else { share(1.0 - view.bad as f64 / view.total as f64) }))
            }
            (burn_table(view))
        }
    }
}

fn title(kind: &str) -> &str {
    match kind {
        "success" => "Success",
        "latency" => "Latency",
        other => other,
    }
}

/// Severity, long window, short window, burn rate: SRE Workbook, chapter 5, table 5-8.
const RULES: [(Severity, u64, u64, f64); 4] = [
    (Severity::Page, 3_600, 300, 14.4),
    (Severity::Page, 21_600, 1_800, 6.0),
    (Severity::Ticket, 86_400, 7_200, 3.0),
    (Severity::Ticket, 259_200, 21_600, 1.0),
];

fn burn_table(view: &ObjectiveView) -> Markup {
    let rate = |seconds: u64| {
        view.burn.iter().find(|(window, _)| *window == Duration::from_secs(seconds)).map(|(_, rate)| *rate)
    };
    html! {
        div class="scroll" tabindex="0" role="group" aria-label={ "Burn rates of " (view.kind) } {
            table class="list burns" {
                caption { "An alert fires when both windows burn faster than its rate; 1× spends the budget in exactly " (words(view.window)) "." }
                thead { tr {
                    th scope="col" { "Alert" } th scope="col" class="num" { "at" }
                    th scope="col" { "Long window" } th scope="col" { "Short window" } th scope="col" { "Now" }
                } }
                tbody {
                    @for (severity, long, short, limit) in RULES {
                        (burn_row(severity, limit, (long, rate(long)), (short, rate(short))))
                    }
                }
            }
        }
    }
}

fn burn_row(severity: Severity, limit: f64, long: (u64, Option<f64>), short: (u64, Option<f64>)) -> Markup {
    let is_over = |rate: Option<f64>| rate.is_some_and(|rate| rate > limit);
    let health = match (is_over(long.1) && is_over(short.1), severity) {
        (false, _) => Health::Ok,
        (true, Severity::Page) => Health::Bad,
        (true, _) => Health::Warn,
    };
    html! {
        tr {
            th scope="row" { (severity.as_str()) }
            td class="num" { (times(Some(limit))) }
            @for (window, rate) in [long, short] {
                td { span class="burn" { (bar(rate.unwrap_or(0.0) / limit, if is_over(rate) { health.max(Health::Warn) } else { Health::Idle })) b { (times(rate)) } span class="muted" { (words(Duration::from_secs(window))) } } }
            }
            td { (badge(health, if health == Health::Ok { "quiet" } else { "over" })) }
        }
    }
}

fn times(rate: Option<f64>) -> String {
    match rate {
        Some(rate) if rate.is_finite() => format!("{}×", number(rate)),
        _ => UNKNOWN.to_owned(),
    }
}

fn alerts_of(view: &View<'_>, alerts: &[AlertView]) -> Markup {
    html! {
        section class="panel" aria-labelledby="alerts-of" {
            header { h2 id="alerts-of" { "Its alerts" } a href="/alerts" { "All alerts" } }
            @if alerts.is_empty() { p class="empty" { "None of late." } }
            ul class="events" {
                @for alert in alerts {
                    @let health = alert_health(alert);
                    li {
                        (badge(health, alert_word(alert)))
                        div {
                            p { (alert.summary) }
                            p class="hint" { (alert.detail) " · " (view.ago(alert.since)) @for note in &alert.notes { " · " (note) } }
                        }
                    }
                }
            }
        }
    }
}

fn alert_health(alert: &AlertView) -> Health {
    match (alert.state, alert.severity) {
        (AlertState::Firing, Severity::Page) => Health::Bad,
        (AlertState::Firing | AlertState::Pending, _) => Health::Warn,
        (AlertState::Resolved, _) => Health::Ok,
    }
}

fn alert_word(alert: &AlertView) -> &'static str {
    match alert.state {
        _ if alert.silenced_until.is_some() => "silenced",
        AlertState::Firing => "firing",
        AlertState::Pending => "pending",
        AlertState::Resolved => "resolved",
    }
}

/// Objectives in a few lines each: the promise, and a bar of what is left.
pub(super) fn budgets(objectives: &[ObjectiveView]) -> Markup {
    html! {
        ul class="budgets" {
            @for view in objectives {
                @let health = health(view);
                li {
                    (mark(health))
                    div class="promise" {
                        a href={ "/objectives/" (segment(&view.name)) } { (view.name) }
                        span class="hint" {
                            (share(view.goal)) " "
                            @match view.under {
                                Some(under) => { "within " (seconds(under.as_secs_f64())) },
                                None => "succeed",
                            }
                            ", " (words(view.window))
                        }
                    }
                    (bar(view.budget_left, health))
                    span class={ "num " (health.class()) } {
                        @if view.total == 0 { "no requests" }
                        @else if view.budget_left < 0.0 { b { (times(Some(1.0 - view.budget_left))) } " spent" }
                        @else { b { (share(view.budget_left)) } " left" }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::testing::{FakePast, objectives, shop_map};
    use super::*;

    #[test]
    fn a_promise_is_said_in_words() {
        let views = objectives();
        let text = promise(&views[0]).into_string().replace('\u{202f}', " ");
        assert!(text.contains("<b>99.9 %</b> of requests to route"), "{text}");
        assert!(text.ends_with("succeed, over 30 days."), "{text}");
        let text = promise(&views[1]).into_string().replace('\u{202f}', " ");
        assert!(text.contains("answered within <b>300 ms</b>"), "{text}");
    }

    #[test]
    fn a_budget_is_kept_low_or_broken() {
        let mut view = objectives().remove(0);
        view.budget_left = 0.8;
        assert_eq!(health(&view), Health::Ok);
        view.budget_left = 0.1;
        assert_eq!(health(&view), Health::Warn);
        view.budget_left = -0.4;
        assert_eq!(health(&view), Health::Bad);
        view.total = 0;
        assert_eq!(health(&view), Health::Idle);
    }

    #[test]
    fn a_rule_fires_when_both_of_its_windows_are_over() {
        let row = |long, short| {
            burn_row(Severity::Page, 14.4, (3_600, Some(long)), (300, Some(short))).into_string()
        };
        assert!(row(20.0, 20.0).contains(">over<"));
        assert!(row(20.0, 2.0).contains(">quiet<"));
        assert!(!burn_row(Severity::Page, 14.4, (3_600, None), (300, None)).into_string().contains("NaN"));
    }

    #[test]
    fn the_page_shows_budget_burn_and_alerts() {
        let map = shop_map();
        let past = FakePast::default();
        let view = View { map: &map, past: &past, now: SystemTime::UNIX_EPOCH, range: Range::Hour };
        let all = objectives();
        let views: Vec<&ObjectiveView> = all.iter().collect();
        let page = content(&view, "checkout", &views, &Markup::default()).into_string();
        for text in ["of the budget left", "14.4×", "Its alerts", "Allowed so far"] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("style="));
    }
}
