//! `terrace keys`: makes API keys, shows which there are, and takes them away.
//!
//! A running Terrace is asked, so that what is done holds at once and stands in its audit log. Where none runs, the same is done to the
//! state folder, whose lock sees to it that a Terrace on another machine that shares it is not disturbed.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use terrace_admin::ControlError;
use terrace_admin::client::{self, ClientError};
use terrace_auth::{KeyStore, NewKey};
use terrace_runtime::clock;
use terrace_telemetry::for_terminal;

use super::{Paint, encoded, print, values};
use crate::api_keys;
use crate::cli::{CreateKey, Global, Keys, KeysAction};
use crate::figures::age;
use crate::state::State;

/// Does it, and prints what came of it.
pub(super) async fn run(socket: &Path, keys: &Keys, global: &Global) -> Result<(), ClientError> {
    match &keys.action {
        KeysAction::Create(wanted) => {
            let value = create(socket, wanted).await?;
            print(global, &value, |_| format!("{}\n", value["key"].as_str().unwrap_or_default()));
            if !global.json {
                let id = value["id"].as_str().unwrap_or_default();
                eprintln!("this is the only time that it is shown; `terrace keys revoke {id}` takes it away");
            }
        }
        KeysAction::List(_) => {
            let value = match client::request(socket, "GET", "/v1/keys", None).await {
                Err(ClientError::NotRunning { .. }) => json!({ "keys": offline(socket, api_keys::list_in)? }),
                answered => answered?,
            };
            print(global, &value, |paint| list(&value, clock::wall(), paint));
        }
        KeysAction::Revoke(wanted) => {
            let path = format!("/v1/keys/{}/revoke", encoded(&wanted.id));
            let value = match client::request(socket, "POST", &path, Some(&json!({}))).await {
                Err(ClientError::NotRunning { .. }) => {
                    offline(socket, |store| api_keys::revoke_in(store, &wanted.id))?
                }
                answered => answered?,
            };
            print(global, &value, |_| format!("{} opens nothing any more\n", named(&value)));
        }
    }
    Ok(())
}

async fn create(socket: &Path, wanted: &CreateKey) -> Result<Value, ClientError> {
    let new = NewKey {
        name: wanted.name.clone(),
        roles: wanted.roles.clone(),
        limit: wanted.limit.clone(),
        lasts_s: wanted.expires.map(|lasts| lasts.as_secs()),
    };
    match client::request(socket, "POST", "/v1/keys", Some(&json!(new))).await {
        Err(ClientError::NotRunning { .. }) => offline(socket, |store| api_keys::create_in(store, new)),
        answered => answered,
    }
}

/// Does it to the folder in which the socket would be.
fn offline(
    socket: &Path,
    work: impl FnOnce(&KeyStore) -> Result<Value, ControlError>,
) -> Result<Value, ClientError> {
    let folder = socket.parent().unwrap_or_else(|| Path::new("."));
    let opened = State::open(folder).map_err(|error| {
        ControlError::failed(format!("cannot use the state folder {}: {error}", folder.display()))
    });
    opened.and_then(|state| work(&KeyStore::new(state.folder()))).map_err(ClientError::Refused)
}

fn named(key: &Value) -> String {
    let text = |name: &str| for_terminal(key[name].as_str().unwrap_or_default(), false);
    format!("{} ({})", text("id"), text("name"))
}

fn list(value: &Value, now: SystemTime, paint: Paint) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut out = String::new();
    for key in values(&value["keys"]) {
        let text = |name: &str| for_terminal(key[name].as_str().unwrap_or_default(), false);
        let _infallible = write!(out, "{}  {}", paint.bold(&text("id")), text("name"));
        for more in [roles(key), limit(key), expiry(key, now), used(key, now)].into_iter().flatten() {
            let _infallible = write!(out, "  {}", paint.faint(&more));
        }
        out.push('\n');
    }
    if out.is_empty() {
        out.push_str("there are no keys; `terrace keys create NAME` makes one\n");
    }
    out
}

fn roles(key: &Value) -> Option<String> {
    let roles: Vec<&str> = values(&key["roles"]).filter_map(Value::as_str).collect();
    (!roles.is_empty()).then(|| for_terminal(&format!("roles {}", roles.join(", ")), false))
}

fn limit(key: &Value) -> Option<String> {
    Some(for_terminal(&format!("at most {}", key["limit"].as_str()?), false))
}

fn expiry(key: &Value, now: u64) -> Option<String> {
    let expires = key["expires"].as_u64()?;
    Some(match expires.checked_sub(now).filter(|left| *left > 0) {
        Some(left) => format!("ends in {}", age(left)),
        None => "is over".to_owned(),
    })
}

fn used(key: &Value, now: u64) -> Option<String> {
    Some(match key["used"].as_u64() {
        Some(used) => format!("used {} ago", age(now.saturating_sub(used))),
        None => "never used".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn keys_are_listed_with_what_they_are_for() {
        let keys = json!({ "keys": [
            { "id": "abc", "name": "ci\u{1b}[2J", "roles": ["a", "b"], "limit": "5/s", "expires": 86_400 * 3 + 1_000, "used": 940 },
            { "id": "def", "name": "old", "roles": [], "limit": null, "expires": 1_000, "used": null },
            { "id": "ghi", "name": "for ever", "roles": [], "limit": null, "expires": null, "used": 10 },
        ] });
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let expected = "abc  ci[2J  roles a, b  at most 5/s  ends in 3 d  used 60 s ago\n\
                        def  old  is over  never used\n\
                        ghi  for ever  used 16 min ago\n";
        assert_eq!(list(&keys, now, Paint(false)), expected);
        assert!(list(&json!({ "keys": [] }), now, Paint(false)).contains("terrace keys create"));
    }
}
