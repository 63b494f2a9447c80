//! `[admin]` for the admin API: where it listens and which token opens it. An address or token that would open it to
//! strangers is refused here, by the admin crate's own types.

use std::path::Path;

use terrace_admin::{Config, Loopback, Token};

use crate::file::Admin;

/// What is wrong with the admin's address or token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error(transparent)]
    NotLoopback(#[from] terrace_admin::NotLoopback),
    #[error(transparent)]
    WeakToken(#[from] terrace_admin::WeakToken),
}

/// Where the admin API and the probes listen.
pub(crate) fn config(admin: &Admin, state: &Path) -> Result<Config, AdminError> {
    let loopback = match &admin.api {
        Some(api) => Some(Loopback::new(api.address, Token::new(api.token.reveal())?)?),
        None => None,
    };
    Ok(Config { state: state.to_owned(), loopback, probes: admin.probes })
}
