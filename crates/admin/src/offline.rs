//! What can be done to a state folder while no Terrace runs in it: what the Unix socket would do, without one.
//!
//! The folder is taken for that moment, so that a Terrace that starts meanwhile does not read what is half changed.

use std::path::Path;

use serde_json::{Value, json};

use crate::admin::BuildError;
use crate::api::factor_shown;
use crate::control::ControlError;
use crate::dashboard::SecondFactor;
use crate::socket;

/// The secret of the dashboard's second factor, as the socket's `POST /v1/totp` answers it. Waits for the disk.
///
/// # Errors
/// [`ControlError`] when it was shown already, when it cannot be kept, or when a Terrace has begun to run.
pub fn totp(state: &Path, anew: bool) -> Result<Value, ControlError> {
    let _taken = socket::take(state).map_err(|error| taken(&error))?;
    let shown = factor_shown(SecondFactor::open(state).and_then(|factor| factor.show(anew)))?;
    Ok(json!({ "secret": shown.secret, "uri": shown.uri }))
}

fn taken(error: &BuildError) -> ControlError {
    match error {
        BuildError::AlreadyRunning { .. } => ControlError::conflict("Terrace has just started; try again"),
        other => ControlError::failed(other.to_string()),
    }
}
