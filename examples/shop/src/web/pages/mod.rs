//! The pages, as markup: what they look like and nothing else. They ask nobody and decide nothing.
//!
//! `maud` escapes every text that is put in, so a product called `<script>` is only a strange product.

mod account;
mod buying;
mod shelves;

use axum::extract::{Form, FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use serde::de::DeserializeOwned;

use super::assets;
use super::visitor::Visitor;
use crate::problem::Problem;
use crate::serve::REQUEST;

pub(super) use account::{login, register};
pub(super) use buying::{Attempt, Trouble, checkout, order, orders, status_text};
pub(super) use shelves::{cart, catalogue, product};

/// A problem told to a person, as a page.
pub(super) struct Oops(pub(super) Problem);

impl From<Problem> for Oops {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Oops {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let mut response = (problem.status, oops(&problem)).into_response();
        if let Some(seconds) = problem.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// A form that was filled in; one that was not made by our pages is refused with a page.
pub(super) struct Filled<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Filled<T> {
    type Rejection = Oops;

    async fn from_request(request: Request, state: &S) -> Result<Self, Oops> {
        match Form::<T>::from_request(request, state).await {
            Ok(Form(value)) => Ok(Self(value)),
            Err(rejection) => Err(Oops(Problem::malformed(rejection.status(), rejection.body_text()))),
        }
    }
}

fn oops(problem: &Problem) -> Markup {
    let title = match problem.status {
        StatusCode::NOT_FOUND => "Nothing grows here",
        StatusCode::FORBIDDEN => "This gate is closed",
        status if status.is_client_error() => "That did not work",
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY => "One moment, please",
        _ => "A pot fell over",
    };
    let request = REQUEST.try_with(|request| request.id().to_owned()).unwrap_or_default();
    layout(
        None,
        title,
        &html! {
            section.notice {
                p.eyebrow { (problem.status.as_u16()) }
                h1 { (title) }
                p.lead { (problem.detail) }
                p { a.button href="/" { "Back to the shop" } }
                p.quiet { "If you ask us about it, mention " code { (request) } "." }
            }
        },
    )
}

/// The frame of every page. Without a visitor (an error page) it does not show who is signed in.
fn layout(visitor: Option<&Visitor>, title: &str, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="description" content="Sundeck sells plants, pots, light and furniture for your terrace.";
                title { (title) " · Sundeck" }
                link rel="icon" type="image/svg+xml" href=(assets::address("icon.svg"));
                link rel="stylesheet" href=(assets::address("shop.css"));
                script type="module" src=(assets::address("shop.js")) {}
            }
            body {
                a.skip href="#main" { "Skip to content" }
                p.ticker role="status" data-live="/live" { "Everything for long evenings outside." }
                (header(visitor))
                main #main tabindex="-1" { (main) }
                (footer())
            }
        }
    }
}

fn header(visitor: Option<&Visitor>) -> Markup {
    let in_cart = visitor.map_or(0, |visitor| visitor.cart.count());
    html! {
        header.top {
            a.brand href="/" { img src=(assets::address("icon.svg")) width="34" height="34" alt=""; "Sundeck" }
            form.search action="/" role="search" {
                label.hidden for="q" { "Search the shop" }
                input #q name="q" type="search" maxlength="60" placeholder="Search: lantern, herbs, shade …";
                button { "Search" }
            }
            nav aria-label="Main" {
                @match visitor.and_then(Visitor::person) {
                    Some(person) => {
                        a href="/orders" { "Orders" }
                        form.inline method="post" action="/logout" {
                            button.plain title={ "Signed in as " (person.email) } { "Sign out" }
                        }
                    }
                    None => { a href="/login" { "Sign in" } }
                }
                a.cart href="/cart" { "Cart" span.count data-empty[in_cart == 0] {
                    span.hidden { ", pieces: " } (in_cart)
                } }
            }
        }
    }
}

fn footer() -> Markup {
    let instance = REQUEST.try_with(|request| request.instance().to_owned()).unwrap_or_default();
    html! {
        footer {
            p { "Sundeck is a make-believe shop: nothing is charged, nothing is sent." }
            p.quiet { "This page was served by " code { (instance) } "." }
        }
    }
}

/// "€12.50"
fn euros(cents: i64) -> String {
    format!("€{}.{:02}", cents / 100, cents % 100)
}

/// What went wrong with a form, read out to those who cannot see it.
fn alert(message: Option<&str>) -> Markup {
    html! { @if let Some(message) = message { p.alert role="alert" { (message) } } }
}
