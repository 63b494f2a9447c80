//! Who changed what: the last entries of the audit log.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use serde_json::Value;

use crate::control::ControlError;

use super::Dashboard;
use super::layout::{self, Nav};
use super::visitor::Visitor;

/// Entries on the page.
const ENTRIES_MAX: usize = 200;

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/audit", get(show))
}

async fn show(State(dashboard): State<Dashboard>, visitor: Visitor) -> Result<Response, ControlError> {
    let entries = match dashboard.audit.last(ENTRIES_MAX).await {
        Ok(entries) => entries,
        Err(error) => return Err(ControlError::failed(format!("The audit log cannot be read: {error}."))),
    };
    let content = html! {
        div.page-head {
            div { h1 { "Audit" } p.sub { "Who changed what. The whole of it is in " code { "audit.log" } " in the state folder." } }
        }
        section.panel {
            @if entries.is_empty() {
                p.empty { "Nothing was changed yet. Whoever scales, restarts, drains, silences or reloads is noted here." }
            } @else {
                div.scroll tabindex="0" role="region" aria-label="Changes, newest first" {
                    table.list.audit {
                        caption.visually-hidden { "Changes, newest first" }
                        thead { tr {
                            th scope="col" { "Time" } th scope="col" { "Who" } th scope="col" { "Action" }
                            th scope="col" { "Outcome" } th scope="col" { "Why not" }
                        } }
                        tbody { @for entry in &entries { (row(entry)) } }
                    }
                }
            }
        }
    };
    Ok(layout::page("Audit", &visitor, Nav::Audit, content))
}

fn row(entry: &Value) -> Markup {
    let text = |key: &str| entry[key].as_str().unwrap_or_default();
    let is_done = entry["outcome"] == "done";
    html! {
        tr {
            td.nowrap { (layout::time_text(text("time"))) }
            td { (who(&entry["who"])) }
            th scope="row" { (text("action")) " " (about(entry)) }
            td { span.badge.(if is_done { "ok" } else { "bad" }) { (text("outcome")) } }
            td { (text("detail")) }
        }
    }
}

fn about(entry: &Value) -> String {
    let mut parts = Vec::new();
    for key in ["service", "target"] {
        if let Some(text) = entry[key].as_str() {
            parts.push(text.to_owned());
        }
    }
    if let Some(instances) = entry["instances"].as_u64() {
        parts.push(format!("to {instances}"));
    }
    parts.join(" ")
}

fn who(who: &Value) -> String {
    let role = who["role"].as_str().unwrap_or("operator");
    if who["dashboard"] == true {
        return format!("dashboard {role}");
    }
    if who["token"] == true {
        return format!("{role} token");
    }
    match who["uid"].as_u64() {
        Some(uid) => format!("user {uid} on the machine"),
        None => "unknown".to_owned(),
    }
}
