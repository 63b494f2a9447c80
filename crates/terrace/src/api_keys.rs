//! API keys as the admin API and the command line show them: everything but the secret, which is shown once, to whoever had the
//! key made.

use serde_json::{Value, json};
use terrace_admin::ControlError;
use terrace_auth::{KeyFileError, KeyRecord, KeyStore, KeyText, Keys, NewKey};
use terrace_runtime::clock;

/// All keys, oldest first, with when each was last used.
pub(crate) fn list(keys: &Keys) -> Result<Value, ControlError> {
    listed(keys.list())
}

/// The same of a folder in which no Terrace runs.
pub(crate) fn list_in(store: &KeyStore) -> Result<Value, ControlError> {
    listed(store.list())
}

/// Makes one.
pub(crate) fn create(keys: &Keys, new: NewKey) -> Result<Value, ControlError> {
    made(keys.create(new))
}

/// The same in a folder in which no Terrace runs.
pub(crate) fn create_in(store: &KeyStore, new: NewKey) -> Result<Value, ControlError> {
    let now = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    made(store.create(new, now))
}

/// Takes one away.
pub(crate) fn revoke(keys: &Keys, id: &str) -> Result<Value, ControlError> {
    gone(keys.revoke(id))
}

/// The same in a folder in which no Terrace runs.
pub(crate) fn revoke_in(store: &KeyStore, id: &str) -> Result<Value, ControlError> {
    gone(store.revoke(id))
}

fn listed(listed: Result<Vec<(KeyRecord, Option<u64>)>, KeyFileError>) -> Result<Value, ControlError> {
    let listed = listed.map_err(refused)?;
    Ok(listed.iter().map(|(key, used)| shown(key, *used)).collect())
}

fn made(made: Result<(KeyText, KeyRecord), KeyFileError>) -> Result<Value, ControlError> {
    let (text, key) = made.map_err(refused)?;
    let mut shown = shown(&key, None);
    shown["key"] = json!(text.reveal());
    Ok(shown)
}

fn gone(revoked: Result<KeyRecord, KeyFileError>) -> Result<Value, ControlError> {
    Ok(shown(&revoked.map_err(refused)?, None))
}

fn shown(key: &KeyRecord, used: Option<u64>) -> Value {
    json!({
        "id": key.id,
        "name": key.name,
        "roles": key.roles,
        "limit": key.limit,
        "created": key.created,
        "expires": key.expires,
        "used": used,
    })
}

fn refused(error: KeyFileError) -> ControlError {
    match error {
        KeyFileError::New(_) => ControlError::invalid(error.to_string()),
        KeyFileError::Unknown(_) => ControlError::not_found(error.to_string()),
        KeyFileError::Full => ControlError::conflict(error.to_string()),
        KeyFileError::File(_) | KeyFileError::Damaged { .. } | KeyFileError::Key { .. } => {
            ControlError::failed(error.to_string())
        }
    }
}
