//! Logins of people with their browser (OpenID Connect).

mod browser;
mod cookies;
pub(crate) mod ended;
mod pending;
mod place;
mod provider;
