//! The configuration in force: the file with all defaults filled in and all secrets left out.

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

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/config", get(show))
}

async fn show(State(dashboard): State<Dashboard>, visitor: Visitor) -> Result<Response, ControlError> {
    let resolved = dashboard.control.config().await?;
    let text = match &resolved {
        Value::String(text) => text.clone(),
        value => serde_json::to_string_pretty(value).unwrap_or_default(),
    };
    let content = html! {
        div.page-head {
            div {
                h1 { "Configuration" }
                p.sub { "What is in force: the file with every default filled in. Secrets are left out." }
            }
            div.actions {
                button type="button" data-copy="#resolved" hidden { "Copy" }
                (reload_form(&visitor))
            }
        }
        section.panel {
            pre.resolved #resolved tabindex="0" role="region" aria-label="The configuration in force" { (text) }
        }
    };
    Ok(layout::page("Configuration", &visitor, Nav::Config, content))
}

fn reload_form(visitor: &Visitor) -> Markup {
    html! {
        @if visitor.may_act() {
            form.inline method="post" action="/reload" data-action data-refresh {
                (visitor.form_fields())
                button type="submit" { "Read the file anew" }
            }
        }
    }
}
