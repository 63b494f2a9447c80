//! Signing in and out.
//!
//! With the token of `[admin]`, and a one-time code of a phone where the file asks for one; or with a code that `terrace
//! dashboard` was given on the Unix socket, which needs no other: whoever may use the socket owns the machine's state folder. Such a
//! code is taken by the form that its page sends, not by opening the page: whatever fetches links ahead of people does not burn it.
//!
//! A wrong token and a wrong one-time code look the same, so that nobody learns that they have one of the two.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

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

use super::factor::Verdict;
use super::guard::{local_place, now, see_other, set_cookie};
use super::session::{Session, Sessions};
use super::visitor::Visitor;
use super::{Dashboard, layout, peer};

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
    layout::bare_page("Sign in", StatusCode::OK, token_form(&dashboard, place, None))
}

#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    code: Option<String>,
    /// Of a phone.
    totp: Option<String>,
    next: Option<String>,
}

/// Why somebody is not let in.
enum Refused {
    Wrong,
    /// Too many codes of the phone were wrong.
    Wait(Duration),
    /// No phone knows the secret yet.
    NotSetUp,
    /// That a code was used cannot be noted.
    Failed(String),
}

async fn sign_in(
    State(dashboard): State<Dashboard>,
    Extension(caller): Extension<Caller>,
    Form(given): Form<Given>,
) -> Response {
    let place = local_place(given.next.as_deref());
    let role = match (&given.token, &given.code) {
        (Some(token), _) => with_token(&dashboard.sessions, token, given.totp.as_deref()).await,
        (None, Some(code)) => with_code(&dashboard.sessions, code, caller).await,
        (None, None) => Err(Refused::Wrong),
    };
    match role {
        Ok(role) => begin(&dashboard.sessions, role, place),
        Err(Refused::Wrong) => refuse(&dashboard, caller, &given, place).await,
        Err(refused) => hold_off(&dashboard, caller, &refused, place),
    }
}

/// What a code of `terrace dashboard` opens. Who brings it is looked for only where that matters: a stranger's guesses cost no look.
async fn with_code(sessions: &Arc<Sessions>, code: &str, caller: Caller) -> Result<Role, Refused> {
    let from = match (caller, sessions.bound()) {
        (Caller::Tcp { from } | Caller::Dashboard { from, .. }, Some(bound))
            if sessions.asks_for_user(code) =>
        {
            tokio::task::spawn_blocking(move || peer::user_of(from, bound)).await.ok().flatten()
        }
        _ => None,
    };
    sessions.redeem(code, from, clock::now()).ok_or(Refused::Wrong)
}

/// What a token opens, together with the code where one is asked for. Who does not have the token is not asked for the code: only
/// its owner can use up what attempts there are.
async fn with_token(sessions: &Arc<Sessions>, token: &str, code: Option<&str>) -> Result<Role, Refused> {
    let role = sessions.role_of(token.trim().as_bytes()).ok_or(Refused::Wrong)?;
    if !sessions.wants_code() {
        return Ok(role);
    }
    let (sessions, code) = (Arc::clone(sessions), code.unwrap_or_default().trim().to_owned());
    let wall = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    let checked = tokio::task::spawn_blocking(move || sessions.check_code(&code, clock::now(), wall)).await;
    match checked {
        Ok(Ok(Verdict::Right)) => Ok(role),
        Ok(Ok(Verdict::Wrong)) => Err(Refused::Wrong),
        Ok(Ok(Verdict::Wait(wait))) => Err(Refused::Wait(wait)),
        Ok(Ok(Verdict::NotSetUp)) => Err(Refused::NotSetUp),
        Ok(Err(error)) => Err(Refused::Failed(error.to_string())),
        Err(_) => Err(Refused::Failed("Terrace is ending".to_owned())),
    }
}

/// Says what to do where trying again at once is no use.
fn hold_off(dashboard: &Dashboard, caller: Caller, refused: &Refused, place: &str) -> Response {
    let (status, what, advice) = match refused {
        Refused::Wrong => (StatusCode::UNAUTHORIZED, "wrong", "That is not right.".to_owned()),
        Refused::Wait(wait) => (
            StatusCode::TOO_MANY_REQUESTS,
            "too many wrong one-time codes",
            format!(
                "Too many codes were wrong. Try again in {} s, or use `terrace dashboard` on the machine.",
                wait.as_secs() + 1
            ),
        ),
        Refused::NotSetUp => (
            StatusCode::FORBIDDEN,
            "the second factor is not set up",
            "No phone is set up yet: run `terrace totp` on the machine, or come in with `terrace dashboard`."
                .to_owned(),
        ),
        Refused::Failed(why) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "the code cannot be checked",
            format!("The code cannot be checked: {why}."),
        ),
    };
    dashboard.audit.refused(caller, &ControlError::new(status.as_u16(), "Not signed in", what, true));
    let mut response = layout::bare_page("Sign in", status, token_form(dashboard, place, Some(&advice)));
    if let Refused::Wait(wait) = refused {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
    }
    response
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
        true if dashboard.sessions.wants_code() => {
            ("the token or the code is wrong", "That token or that code is not right.")
        }
        true => ("the token is wrong", "That token is not right."),
        false => (
            "the code is used or too old",
            "That link was used already, or is older than a minute. Ask for a new one, or sign in with the token.",
        ),
    };
    dashboard.audit.refused(caller, &ControlError::new(401, "Unauthorized", what, false));
    let Some(delay) = dashboard.sessions.failed(clock::now()) else {
        let advice = "Too many wrong attempts are waiting for their answers. Try again in some seconds.";
        let page = token_form(dashboard, place, Some(advice));
        let mut response = layout::bare_page("Sign in", StatusCode::TOO_MANY_REQUESTS, page);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        return response;
    };
    let _waiting = Waiting(Arc::clone(&dashboard.sessions));
    tokio::time::sleep(delay).await;
    layout::bare_page("Sign in", StatusCode::UNAUTHORIZED, token_form(dashboard, place, Some(advice)))
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

fn token_form(dashboard: &Dashboard, place: &str, problem: Option<&str>) -> Markup {
    html! {
        (heading())
        form.panel.login method="post" action="/login" {
            @if let Some(problem) = problem { div.banner.bad role="alert" { p { (problem) } } }
            label.field {
                "Token"
                input type="password" name="token" required autocomplete="current-password" autofocus
                    aria-describedby="token-hint";
            }
            @if dashboard.sessions.wants_code() {
                label.field {
                    "One-time code"
                    input type="text" name="totp" required autocomplete="one-time-code" inputmode="numeric"
                        pattern="[0-9 ]*" maxlength="9" aria-describedby="code-hint";
                }
                p.hint #code-hint { "Six digits, from the authenticator that " code { "terrace totp" } " set up." }
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
