//! Signing in, signing up, signing out. The login is a token in a cookie that no script can read.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use maud::Markup;
use serde::Deserialize;
use serde_json::json;

use super::Web;
use super::pages::{self, Filled, Oops};
use super::visitor::{Visitor, local_path, see_other};
use crate::auth::Welcome;
use crate::problem::Problem;

#[derive(Default, Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

/// What the two forms hold. Has no Debug, for it holds a password.
#[derive(Deserialize)]
pub(super) struct Credentials {
    #[serde(default)]
    name: String,
    email: String,
    password: String,
    next: Option<String>,
}

pub(super) async fn login_page(visitor: Visitor, Query(next): Query<Next>) -> Markup {
    pages::login(&visitor, local_path(next.next.as_deref()), "", None)
}

pub(super) async fn register_page(visitor: Visitor, Query(next): Query<Next>) -> Markup {
    pages::register(&visitor, local_path(next.next.as_deref()), ("", ""), None)
}

pub(super) async fn login(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Filled(typed): Filled<Credentials>,
) -> Result<Response, Oops> {
    let next = local_path(typed.next.as_deref());
    let body = json!({ "email": typed.email, "password": typed.password });
    match web.auth.post("/login").json(&body).fetch::<Welcome>().await {
        Ok(welcome) => come_in(&visitor, &welcome, next),
        Err(problem) if problem.status.is_client_error() => {
            let page = pages::login(&visitor, next, &typed.email, Some(&problem.detail));
            Ok((problem.status, page).into_response())
        }
        Err(problem) => Err(Oops(problem)),
    }
}

pub(super) async fn register(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Filled(typed): Filled<Credentials>,
) -> Result<Response, Oops> {
    let next = local_path(typed.next.as_deref());
    let body = json!({ "name": typed.name, "email": typed.email, "password": typed.password });
    match web.auth.post("/register").json(&body).fetch::<Welcome>().await {
        Ok(welcome) => come_in(&visitor, &welcome, next),
        Err(problem) if problem.status.is_client_error() => {
            let page = pages::register(&visitor, next, (&typed.name, &typed.email), Some(&problem.detail));
            Ok((problem.status, page).into_response())
        }
        Err(problem) => Err(Oops(problem)),
    }
}

/// Clears everything the browser keeps of this person but the cart.
pub(super) async fn logout(visitor: Visitor) -> Response {
    see_other("/", vec![visitor.session_cookie("")])
}

fn come_in(visitor: &Visitor, welcome: &Welcome, next: &str) -> Result<Response, Oops> {
    if HeaderValue::from_str(&welcome.token).is_err() || welcome.token.contains(';') {
        return Err(Oops(Problem::bad_neighbour("The auth service answered nonsense.")));
    }
    Ok(see_other(next, vec![visitor.session_cookie(&welcome.token)]))
}
