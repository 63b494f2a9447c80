//! Who may pass, for as long as Terrace runs: what checks proofs, the API keys, and the secret of sessions. A file is made into gates
//! and logins here; what does not change between two files stays as it is, with all that it remembers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use terrace_auth::{Auth, AuthTask, CacheBounds, KeyFileError, Keys, Login, SealKeys, SealKeysError};
use terrace_edge::Required;
use terrace_instruments::{Log, Meter};
use terrace_runtime::threads;

use crate::compile::identity::Ground;
use crate::file::Resolved;
use crate::state::State;

/// Why who may pass cannot be decided as the file says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("API keys: {0}")]
    Keys(#[from] KeyFileError),
    #[error("the secret of sessions: {0}")]
    SealKeys(#[from] SealKeysError),
    #[error("[route.{route}] auth: {error}")]
    Gate { route: String, error: terrace_auth::BuildError },
    #[error("[login.{login}]: {error}")]
    Login { login: String, error: terrace_auth::BuildError },
}

/// What decides it.
pub(crate) struct Identity {
    auth: Auth,
    /// API keys, those that other processes make too.
    pub(crate) keys: Keys,
    state: State,
}

/// A file's gates and logins, ready.
pub(crate) struct Prepared {
    /// By route.
    pub(crate) gates: BTreeMap<String, Arc<Required>>,
    pub(crate) logins: Vec<Arc<Login>>,
}

impl Identity {
    /// Opens what is in the state folder; the task is to be run.
    pub(crate) fn open(state: &State, log: &Log, meter: &Meter) -> Result<(Self, AuthTask), IdentityError> {
        let keys = Keys::open(state.folder(), log.clone())?;
        let (auth, task) = Auth::new(CacheBounds::default(), threads::available_cores(), log, meter);
        Ok((Self { auth, keys, state: state.clone() }, task))
    }

    /// Makes ready what the file asks of routes' users. Nothing of what runs changes by it.
    pub(crate) fn prepare(
        &self,
        resolved: &Resolved,
        internal: &BTreeMap<String, SocketAddr>,
    ) -> Result<Prepared, IdentityError> {
        let seal_keys = self.seal_keys(resolved)?;
        let ground = Ground {
            resolved,
            internal,
            keys: &self.keys,
            seal_keys: seal_keys.as_ref(),
            state: self.state.folder(),
        };
        let mut gates = BTreeMap::new();
        for (name, route) in &resolved.routes {
            let Some(auth) = &route.guards.auth else { continue };
            let gate = self.auth.gate(&ground.gate(auth));
            let gate = gate.map_err(|error| IdentityError::Gate { route: name.clone(), error })?;
            gates.insert(name.clone(), Arc::new(Required::new(gate)));
        }
        let mut logins = Vec::new();
        for name in resolved.identity.logins.keys() {
            let login = self.auth.login(&ground.login(name));
            logins.push(login.map_err(|error| IdentityError::Login { login: name.clone(), error })?);
        }
        Ok(Prepared { gates, logins })
    }

    /// Those of the state folder, if a login leaves it to us.
    fn seal_keys(&self, resolved: &Resolved) -> Result<Option<SealKeys>, IdentityError> {
        if resolved.identity.logins.values().all(|login| login.secret.is_some()) {
            return Ok(None);
        }
        // Read anew each time: a reload is how a new secret is taken into use.
        Ok(Some(SealKeys::open(self.state.folder())?))
    }
}
