//! `[admin]` for the dashboard and the admin API: where they listen and which tokens open them. An address or token that
//! would open them to strangers is refused here, by the admin crate's own types.

use std::io;
use std::path::PathBuf;

use terrace_admin::{Config, Loopback, Token};

use crate::file::{Admin, AdminApi, DEFAULT_ADDRESS};
use crate::state::State;

/// What is wrong with the admin's address or token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error(transparent)]
    NotLoopback(#[from] terrace_admin::NotLoopback),
    #[error(transparent)]
    WeakToken(#[from] terrace_admin::WeakToken),
    #[error("cannot keep the token of the dashboard in {folder}: {error}; give that folder to the user who runs Terrace", folder = folder.display())]
    State { folder: PathBuf, error: io::Error },
}

/// Where the admin API and the probes listen. A token that nobody wrote is the one in the state folder, made when there is
/// none.
pub(crate) fn config(admin: &Admin, state: &State) -> Result<Config, AdminError> {
    let loopback = match &admin.api {
        Some(api) => Some(loopback(api, state)?),
        None => None,
    };
    Ok(Config { state: state.folder().to_owned(), loopback, probes: admin.probes })
}

fn loopback(api: &AdminApi, state: &State) -> Result<Loopback, AdminError> {
    let token = match &api.token {
        Some(token) => Token::new(token.reveal())?,
        None => {
            let folder = || state.folder().to_owned();
            let made = state.admin_token().map_err(|error| AdminError::State { folder: folder(), error })?;
            Token::new(&made)?
        }
    };
    let loopback = match api.address {
        Some(address) => Loopback::new(address, token)?,
        // Nobody asked for this port, so a program that has it must not keep Terrace from starting.
        None => Loopback::new(DEFAULT_ADDRESS, token)?.or_any_port(),
    };
    let loopback = loopback.with_second_factor(api.totp);
    Ok(match &api.viewer_token {
        Some(viewer) => loopback.with_viewer_token(Token::new(viewer.reveal())?),
        None => loopback,
    })
}
