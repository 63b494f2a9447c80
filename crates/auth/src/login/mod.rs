//! Logins of people with their browser (OpenID Connect).

mod cookies;
mod place;
