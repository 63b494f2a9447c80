//! Signing in and signing up.

use maud::{Markup, html};

use super::{alert, layout};
use crate::client::encode;
use crate::web::visitor::Visitor;

pub(in crate::web) fn login(visitor: &Visitor, next: &str, email: &str, problem: Option<&str>) -> Markup {
    layout(
        Some(visitor),
        "Sign in",
        &html! {
            form.panel.narrow method="post" action="/login" {
                h1 { "Sign in" }
                (alert(problem))
                input type="hidden" name="next" value=(next);
                (email_field(email))
                label for="password" { "Password" }
                input #password name="password" type="password" required maxlength="128" autocomplete="current-password";
                button.wide { "Sign in" }
                p { "New here? " a href={ "/register?next=" (encode(next)) } { "Make an account" } "." }
            }
        },
    )
}

/// `typed` is the name and the address from the last attempt.
pub(in crate::web) fn register(
    visitor: &Visitor,
    next: &str,
    typed: (&str, &str),
    problem: Option<&str>,
) -> Markup {
    let (name, email) = typed;
    layout(
        Some(visitor),
        "Make an account",
        &html! {
            form.panel.narrow method="post" action="/register" {
                h1 { "Make an account" }
                (alert(problem))
                input type="hidden" name="next" value=(next);
                label for="name" { "Your name" }
                input #name name="name" required maxlength="80" autocomplete="name" value=(name);
                (email_field(email))
                label for="password" { "Password" }
                input #password name="password" type="password" required minlength="8" maxlength="128"
                    autocomplete="new-password" aria-describedby="password-hint";
                p.quiet #password-hint { "At least 8 characters." }
                button.wide { "Make an account" }
                p { "Been here before? " a href={ "/login?next=" (encode(next)) } { "Sign in" } "." }
            }
        },
    )
}

fn email_field(email: &str) -> Markup {
    html! {
        label for="email" { "E-mail" }
        input #email name="email" type="email" required maxlength="254" autocomplete="email" value=(email);
    }
}
