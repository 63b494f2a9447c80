//! Signing in and out.
//!
//! With the token of `[admin]`, or with a code that `terrace dashboard` was given on the Unix socket. A code is taken by
//! the form that its page sends, not by opening the page: whatever fetches links ahead of people does not burn it.

use std::sync::Arc;

use axum::extract::{Extension, Form, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, http::HeaderMap};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::json;
use terrace_runtime::clock;

use crate::config::Role;
use crate::control::ControlError;
use crate::gate::Caller;

use super::guard::{local_place, now, see_other, set_cookie};
use super::session::{Session, Sessions};
use super::visitor::Visitor;
use super::{Dashboard, layout};

pub(super) fn router() -> Router<Dashboard> {
    Router::new()
        .route("/login", get(show).post(sign_in))
        .route("/logout", post(sign_out))
        .route("/session", get(session))
}

#[derive(Debug, Default, Deserialize)]
struct Asked {
    code: Option<String>,
    next: Option<String>,
}

async fn show(
    State(dashboard): State<Dashboard>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let place = local_place(asked.next.as_deref());
    if let Some(code) = &asked.code {
        return layout::bare_page("Sign in", StatusCode::OK, code_form(code, place));
    }
    if dashboard.sessions.read(&headers, now()).is_some() {
        return see_other(place);
    }
    layout::bare_page("Sign in", StatusCode::OK, token_form(place, None))
}

#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    code: Option<String>,
    next: Option<String>,
}

async fn sign_in(
    State(dashboard): State<Dashboard>,
    Extension(caller): Extension<Caller>,
    Form(given): Form<Given>,
) -> Response {
    let place = local_place(given.next.as_deref());
    let role = match (&given.token, &given.code) {
        (Some(token), _) => dashboard.sessions.role_of(token.trim().as_bytes()),
        (None, Some(code)) => dashboard.sessions.redeem(code, clock::now()),
        (None, None) => None,
    };
    match role {
        Some(role) => begin(&dashboard.sessions, role, place),
        None => refuse(&dashboard, caller, &given, place).await,
    }
}

fn begin(sessions: &Sessions, role: Role, place: &str) -> Response {
    let mut response = see_other(place);
    if let Some(cookie) = sessions.begin(role, now()) {
        set_cookie(&mut response, &cookie);
    }
    response
}

/// Says that it was wrong, after a while; see [`super::throttle`].
async fn refuse(dashboard: &Dashboard, caller: Caller, given: &Given, place: &str) -> Response {
    let (what, advice) = match given.token.is_some() {
        true => ("the token is wrong", "That token is not right."),
        false => (
            "the code is used or too old",
            "That link was used already, or is older than a minute. Ask for a new one, or sign in with the token.",
        ),
    };
    dashboard.audit.refused(caller, &ControlError::new(401, "Unauthorized", what, false));
    let Some(delay) = dashboard.sessions.failed(clock::now()) else {
        let advice = "Too many wrong attempts are waiting for their answers. Try again in some seconds.";
        let page = token_form(place, Some(advice));
        let mut response = layout::bare_page("Sign in", StatusCode::TOO_MANY_REQUESTS, page);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        return response;
    };
    let _waiting = Waiting(Arc::clone(&dashboard.sessions));
    tokio::time::sleep(delay).await;
    layout::bare_page("Sign in", StatusCode::UNAUTHORIZED, token_form(place, Some(advice)))
}

/// An answer that waits; it also ends when whoever waits for it hangs up.
struct Waiting(Arc<Sessions>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.answered();
    }
}

async fn sign_out(
    State(dashboard): State<Dashboard>,
    Extension(session): Extension<Session>,
    _visitor: Visitor,
) -> Result<Response, ControlError> {
    let sessions = Arc::clone(&dashboard.sessions);
    let ended = tokio::task::spawn_blocking(move || sessions.end(&session, now())).await;
    let cookie = match ended {
        Ok(Ok(cookie)) => cookie,
        Ok(Err(error)) => {
            return Err(ControlError::failed(format!("The session cannot be ended for good: {error}.")));
        }
        Err(_) => return Err(ControlError::failed("Terrace is ending.")),
    };
    let mut response = see_other("/login");
    set_cookie(&mut response, &cookie);
    Ok(response)
}

/// Whether one is still signed in, for a script that cannot tell from a broken stream; if not, the guard says so.
async fn session(visitor: Visitor) -> Response {
    let said = json!({ "role": visitor.role.as_str(), "expires": visitor.session.expires });
    ([(header::CONTENT_TYPE, "application/json")], said.to_string()).into_response()
}

fn token_form(place: &str, problem: Option<&str>) -> Markup {
    html! {
        (heading())
        form.panel.login method="post" action="/login" {
            @if let Some(problem) = problem { div.banner.bad role="alert" { p { (problem) } } }
            label.field {
                "Token"
                input type="password" name="token" required autocomplete="current-password" autofocus
                    aria-describedby="token-hint";
            }
            input type="hidden" name="next" value=(place);
            button.primary type="submit" { "Sign in" }
            p.hint #token-hint {
                code { "terrace dashboard" } " on the machine opens this page signed in. The token is that of "
                code { "[admin]" } " in the file; without one there, " code { "admin.token" } " in the state folder holds it."
            }
        }
    }
}

fn code_form(code: &str, place: &str) -> Markup {
    html! {
        (heading())
        form.panel.login method="post" action="/login" data-auto-submit {
            input type="hidden" name="code" value=(code);
            input type="hidden" name="next" value=(place);
            button.primary type="submit" autofocus { "Sign in" }
            p.hint { "This link is good once, for a minute." }
        }
    }
}

fn heading() -> Markup {
    html! {
        div.login-head {
            (layout::mark())
            div { h1 { "Terrace" } p.sub { "Sign in to see what happens, and to act." } }
        }
    }
}
