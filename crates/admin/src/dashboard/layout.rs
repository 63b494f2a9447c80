//! What all pages have around their content: head, navigation, the state of the live connection, messages.
//!
//! The classes are those of `assets/app.css` (its head lists them); what only the shell and the pages beside it need is in
//! `assets/ground.css`. Scripts meet the page through attributes: `data-stream` on the body is the address of the live
//! stream, a form with `data-action` is sent by script when there is one (see `assets/app.js`).

use std::time::SystemTime;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use terrace_instruments::Timestamp;

use crate::control::ControlError;

use super::visitor::Visitor;
use super::{assets, guard, lists};

pub(crate) use crate::client::encoded as escape_query;

/// The entry of the navigation that a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nav {
    /// The map, and the pages of routes, services, instances and objectives.
    Overview,
    Traces,
    Logs,
    Alerts,
    Metrics,
    Config,
    Audit,
    /// None of them.
    Elsewhere,
}

const ENTRIES: &[(Nav, &str, &str)] = &[
    (Nav::Overview, "/", "Overview"),
    (Nav::Traces, "/traces", "Traces"),
    (Nav::Logs, "/logs", "Logs"),
    (Nav::Alerts, "/alerts", "Alerts"),
    (Nav::Metrics, "/metrics-explorer", "Metrics"),
    (Nav::Config, "/config", "Configuration"),
    (Nav::Audit, "/audit", "Audit"),
];

/// A whole page. `title` is a few words without markup; `content` begins with `.page-head` and its `h1`.
pub(crate) fn page(title: &str, visitor: &Visitor, active: Nav, content: Markup) -> Response {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body data-stream="/live" data-csrf=(visitor.csrf()) {
                a.skip href="#main" { "Skip to content" }
                (top(visitor, active))
                main.page #main tabindex="-1" {
                    @if let Some(flash) = &visitor.flash {
                        (banner(if flash.is_good { "ok" } else { "bad" }, &flash.text))
                    }
                    (content)
                }
                (furniture())
            }
        }
    };
    let mut response = answer(document);
    if visitor.flash.is_some() {
        // Shown; the next page is quiet again.
        response.extensions_mut().insert(FlashShown);
    }
    response
}

/// Marks an answer whose flash message was shown, so that the guard makes the browser forget it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlashShown;

/// A page for somebody who is not signed in: no navigation, no stream.
pub(crate) fn bare_page(title: &str, status: StatusCode, content: Markup) -> Response {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body.bare {
                main.page #main tabindex="-1" { (content) }
            }
        }
    };
    let mut response = answer(document);
    *response.status_mut() = status;
    response
}

/// Leads whoever followed a link from another page on to the same address: the request that follows is our own page's,
/// so the session's cookie comes with it.
pub(crate) fn go_on(here: &str) -> Response {
    let here = guard::local_place(Some(here));
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Terrace" }
                meta http-equiv="refresh" content={ "0; url=" (here) };
                link rel="stylesheet" href=(assets::url("app.css"));
            }
            body { main.page { p { a href=(here) { "Go on to Terrace" } } } }
        }
    };
    answer(document)
}

/// What went wrong, as a page.
pub(crate) fn problem(problem: &ControlError, visitor: &Visitor) -> Response {
    let is_lost = problem.status == StatusCode::NOT_FOUND.as_u16();
    let content = html! {
        div.page-head { div { h1 { (problem.title) } p.sub { (problem.detail) } } }
        p {
            @if let Some((place, name)) = is_lost.then(|| nearest(&visitor.here)).flatten() {
                a.button.primary href=(place) { (name) } " "
            }
            a.button href="/" { "Overview" }
            @if problem.retry_safe { " " a.button href=(visitor.here) { "Try again" } }
        }
    };
    let mut response = page(&problem.title, visitor, Nav::Elsewhere, content);
    *response.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// The page that somebody may have meant who came to an address where there is none: the list that a name is missing from, or
/// the page whose address begins alike (`/log`, `/metrics`).
fn nearest(here: &str) -> Option<(&'static str, &'static str)> {
    const LISTS: [(&str, &str); 4] = [
        (lists::ROUTES, "All routes"),
        (lists::SERVICES, "All services"),
        (lists::OBJECTIVES, "All objectives"),
        ("/machine", "Machine"),
    ];
    let path = here.split(['?', '#']).next().unwrap_or_default();
    let first = path.trim_start_matches('/').split('/').next().filter(|first| first.len() > 1)?;
    let known = LISTS.into_iter().chain(ENTRIES.iter().map(|(_, place, name)| (*place, *name)));
    let is_alike = |place: &str| {
        let place = place.trim_start_matches('/');
        !place.is_empty() && (place.starts_with(first) || first.starts_with(place))
    };
    known.into_iter().find(|(place, _)| is_alike(place) && *place != path)
}

fn answer(document: Markup) -> Response {
    let mut response = document.into_string().into_response();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " · Terrace" }
            link rel="icon" type="image/svg+xml" href=(assets::url("icon.svg"));
            link rel="stylesheet" href=(assets::url("app.css"));
            link rel="stylesheet" href=(assets::url("ground.css"));
            // Not deferred: the theme is chosen before anything is painted.
            script src=(assets::url("theme.js")) {}
            script type="module" src=(assets::url("app.js")) {}
        }
    }
}

fn top(visitor: &Visitor, active: Nav) -> Markup {
    html! {
        header.top {
            a.brand href="/" { (mark()) "Terrace" }
            nav.nav aria-label="Main" {
                @for (entry, place, name) in ENTRIES {
                    a href=(place) aria-current=[(active == *entry).then_some("page")] {
                        (name)
                        @if *entry == Nav::Alerts { (firing(visitor.firing)) }
                    }
                }
            }
            div.tools {
                // Filled and shown by app.js; without a script there is no stream and nothing to say.
                span.stream #stream role="status" hidden { span.dot aria-hidden="true" {} span.text {} }
                (menu(visitor))
            }
        }
    }
}

/// How many alerts fire; app.js keeps it true.
fn firing([pages, tickets]: [usize; 2]) -> Markup {
    let (all, kind) = (pages + tickets, if pages > 0 { "bad" } else { "warn" });
    html! {
        span.count #firing data-kind=(kind) hidden[all == 0] {
            span.number { (all) } span.visually-hidden { " firing" }
        }
    }
}

fn menu(visitor: &Visitor) -> Markup {
    html! {
        details.menu {
            summary { span.visually-hidden { "Menu, signed in as " } (visitor.role.as_str()) }
            div.menu-body {
                div.field #theme hidden {
                    span #theme-label { "Theme" }
                    div.segments role="group" aria-labelledby="theme-label" {
                        @for theme in ["auto", "light", "dark"] {
                            button type="button" data-theme-choice=(theme) aria-pressed="false" { (theme) }
                        }
                    }
                }
                button.quiet #show-help type="button" hidden { "Keyboard shortcuts" kbd { "?" } }
                form method="post" action="/logout" {
                    (visitor.form_fields())
                    button.quiet type="submit" { "Sign out" }
                }
            }
        }
    }
}

/// Where scripts put what they have to say.
fn furniture() -> Markup {
    html! {
        div.toasts #toasts role="status" aria-live="polite" {}
        dialog #confirm aria-labelledby="confirm-text" {
            form method="dialog" {
                p #confirm-text {}
                div.actions {
                    button type="submit" value="no" { "Cancel" }
                    button.primary type="submit" value="yes" { "Go ahead" }
                }
            }
        }
        dialog #help aria-labelledby="help-title" {
            form method="dialog" {
                h2 #help-title { "Keyboard shortcuts" }
                dl.keys {
                    @for (keys, what) in SHORTCUTS {
                        div { dt { @for key in *keys { kbd { (key) } " " } } dd { (what) } }
                    }
                }
                div.actions { button.primary type="submit" { "Close" } }
            }
        }
    }
}

/// As `assets/app.js` has them.
const SHORTCUTS: &[(&[&str], &str)] = &[
    (&["g", "o"], "Overview"),
    (&["g", "t"], "Traces"),
    (&["g", "l"], "Logs"),
    (&["g", "a"], "Alerts"),
    (&["g", "c"], "Configuration"),
    (&["/"], "To the page's filter"),
    (&["?"], "This help"),
    (&["Esc"], "Close what is open"),
];

/// A message across the page; `kind` is `ok`, `warn`, `bad` or `info`.
pub(crate) fn banner(kind: &str, text: &str) -> Markup {
    html! { div.banner.(kind) role="status" { p { (text) } } }
}

/// The sign of the house: three terraces.
pub(super) fn mark() -> Markup {
    PreEscaped(
        "<svg viewBox=\"0 0 20 20\" aria-hidden=\"true\"><path fill=\"currentColor\" \
         d=\"M2 14h16v3H2zM5 9h13v3H5zM9 4h9v3H9z\"/></svg>"
            .to_owned(),
    )
}

/// A moment: UTC in the markup, the reader's own time once app.js has run.
pub(crate) fn time(at: SystemTime) -> Markup {
    time_text(Timestamp::default().format(at))
}

/// The same of a moment that was written down in RFC 3339; any other text is shown as it is.
pub(crate) fn time_text(text: &str) -> Markup {
    match (text.get(..10), text.get(11..19)) {
        (Some(day), Some(of_day)) => html! { time datetime=(text) { (day) " " (of_day) " UTC" } },
        _ => html! { (text) },
    }
}

/// Tells whether something is the same as before: half of its SHA-256, in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_lost_is_led_to_what_they_may_have_meant() {
        let place = |here: &str| nearest(here).map(|(place, _)| place);
        assert_eq!(place("/routes/gone?last=1h"), Some("/routes"));
        assert_eq!(place("/service/web"), Some("/services"));
        assert_eq!(place("/log"), Some("/logs"));
        assert_eq!(place("/metrics"), Some("/metrics-explorer"));
        assert_eq!(place("/traces/0123"), Some("/traces"));
        assert_eq!((place("/"), place("/nowhere"), place("/x"), place("")), (None, None, None, None));
    }

    #[test]
    fn a_query_value_cannot_end_itself() {
        assert_eq!(escape_query("/logs?text=a b&c=\"é\""), "%2Flogs%3Ftext%3Da%20b%26c%3D%22%C3%A9%22");
    }
}
