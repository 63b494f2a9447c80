//! The configuration in force: the file with all defaults filled in and all secrets left out, each value with where it was
//! written. The file may say something else by now, or nothing that makes sense: then the page says so, and still shows
//! what is in force.

use std::path::Path;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use crate::control::ControlError;

use super::Dashboard;
use super::layout::{self, Nav};
use super::visitor::Visitor;

/// Changes that are named; a file that is another altogether has hundreds.
const CHANGES_MAX: usize = 20;

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/config", get(show))
}

/// What [`crate::control::Control::config`] answers, as far as it is looked at here.
#[derive(Debug, Deserialize)]
struct Shown {
    values: Vec<Setting>,
    file: Option<File>,
    on_disk: Option<OnDisk>,
}

#[derive(Debug, Deserialize)]
struct File {
    path: String,
}

/// How the file has moved away from what is in force.
#[derive(Debug, Deserialize)]
struct OnDisk {
    changes: Vec<String>,
    problem: Option<String>,
}

/// A value, as TOML on one line.
#[derive(Debug, Deserialize)]
struct Setting {
    table: String,
    name: Option<String>,
    key: String,
    value: String,
    /// Nowhere: it is a default.
    written: Option<Place>,
}

#[derive(Debug, Deserialize)]
struct Place {
    file: String,
    line: usize,
}

async fn show(State(dashboard): State<Dashboard>, visitor: Visitor) -> Result<Response, ControlError> {
    let config = dashboard.control.config().await?;
    let shown = Shown::deserialize(&config).ok();
    let content = html! {
        div.page-head {
            div {
                h1 { "Configuration" }
                p.sub { "What is in force: the file with every default filled in, and where each value was written. Secrets are left out." }
            }
            div.actions {
                button type="button" data-copy="#resolved" hidden { "Copy" }
                (reload_form(&visitor))
            }
        }
        @if let Some(on_disk) = shown.as_ref().and_then(|shown| shown.on_disk.as_ref()) { (moved_on(on_disk)) }
        section.panel {
            pre.resolved #resolved tabindex="0" role="region" aria-label="The configuration in force" {
                @match &shown {
                    Some(shown) => (settings(shown)),
                    None => (as_it_is(&config)),
                }
            }
        }
    };
    Ok(layout::page("Configuration", &visitor, Nav::Config, content))
}

/// What a reload would do, where that is anything.
fn moved_on(on_disk: &OnDisk) -> Markup {
    html! {
        @if let Some(problem) = &on_disk.problem {
            div.banner.warn role="status" {
                div {
                    p { "The file on disk has a fault by now and could not be taken over. What is shown here is in force." }
                    pre.resolved { (problem) }
                }
            }
        } @else if !on_disk.changes.is_empty() {
            div.banner.info role="status" {
                div {
                    p { "The file on disk says something else by now. Reading it anew would bring:" }
                    ul {
                        @for change in on_disk.changes.iter().take(CHANGES_MAX) { li { (change) } }
                        @if on_disk.changes.len() > CHANGES_MAX {
                            li { "and " (on_disk.changes.len() - CHANGES_MAX) " more" }
                        }
                    }
                }
            }
        }
    }
}

/// As TOML that means the same again: what somebody wrote stands out, with its place; what nobody wrote is quiet.
fn settings(shown: &Shown) -> Markup {
    let folder = shown.file.as_ref().and_then(|file| Path::new(&file.path).parent());
    let tables = shown.values.chunk_by(|one, other| (&one.table, &one.name) == (&other.table, &other.name));
    html! {
        @for (index, table) in tables.enumerate() {
            @if index > 0 { "\n" }
            @if let Some(first) = table.first() { b { "[" (first.heading()) "]" } "\n" }
            @for setting in table {
                @match &setting.written {
                    None => span.muted { (setting.key) " = " (setting.value) },
                    Some(place) => { (setting.key) " = " (setting.value) span.muted { "  # " (place.seen_from(folder)) } }
                }
                "\n"
            }
        }
    }
}

impl Setting {
    /// `service.web`; a name that is no bare key of TOML is in quotes.
    fn heading(&self) -> String {
        let is_bare = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        match &self.name {
            Some(name) if is_bare(name) => format!("{}.{name}", self.table),
            Some(name) => format!("{}.{name:?}", self.table),
            None => self.table.clone(),
        }
    }
}

impl Place {
    /// `terrace.toml:12`: without the folder that the main file is in.
    fn seen_from(&self, folder: Option<&Path>) -> String {
        let file = Path::new(&self.file);
        let near = folder.and_then(|folder| file.strip_prefix(folder).ok()).unwrap_or(file);
        format!("{}:{}", near.display(), self.line)
    }
}

fn as_it_is(config: &Value) -> String {
    match config {
        Value::String(text) => text.clone(),
        value => serde_json::to_string_pretty(value).unwrap_or_default(),
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(on_disk: &Value) -> Shown {
        let at = |line: usize| json!({ "file": "/srv/shop/terrace.toml", "line": line });
        let config = json!({
            "valid": true,
            "file": { "path": "/srv/shop/terrace.toml", "env": null },
            "values": [
                { "table": "terrace", "name": null, "key": "threads", "value": "4", "written": null },
                { "table": "service", "name": "web", "key": "instances", "value": "2", "written": at(12) },
                { "table": "service", "name": "web", "key": "run", "value": "[\"<web>\"]", "written": at(11) },
                { "table": "service", "name": "a b", "key": "run", "value": "[]", "written": null },
            ],
            "on_disk": on_disk,
        });
        Shown::deserialize(&config).expect("it is what Terrace answers")
    }

    #[test]
    fn what_is_in_force_reads_like_the_file_with_the_place_of_each_value() {
        let text = settings(&shown(&json!({ "changes": [], "problem": null }))).into_string();
        assert_eq!(
            text,
            "<b>[terrace]</b>\n<span class=\"muted\">threads = 4</span>\n\n\
             <b>[service.web]</b>\ninstances = 2<span class=\"muted\">  # terrace.toml:12</span>\n\
             run = [&quot;&lt;web&gt;&quot;]<span class=\"muted\">  # terrace.toml:11</span>\n\n\
             <b>[service.&quot;a b&quot;]</b>\n<span class=\"muted\">run = []</span>\n"
        );
    }

    #[test]
    fn a_file_that_was_changed_or_broken_since_is_told() {
        let banner = |on_disk: Value| {
            let shown = shown(&on_disk);
            shown.on_disk.as_ref().map(moved_on).expect("it was asked for").into_string()
        };
        assert_eq!(banner(json!({ "changes": [], "problem": null })), "");
        let changed = banner(json!({ "changes": ["service web: instances 2 → 3"], "problem": null }));
        assert!(changed.contains("says something else by now") && changed.contains("instances 2 → 3"));
        let many: Vec<String> = (0..25).map(|index| format!("route {index} added")).collect();
        assert!(banner(json!({ "changes": many, "problem": null })).contains("and 5 more"));
        let broken = banner(json!({ "changes": [], "problem": "terrace.toml:3:1: unknown key <rum>" }));
        assert!(broken.contains("has a fault by now") && broken.contains("unknown key &lt;rum&gt;"));
    }
}
