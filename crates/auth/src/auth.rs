//! What gates share, and what of it outlives a reload: the cache, the desk, and the gates themselves, so that a policy that
//! did not change keeps what it knows.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use terrace_fetch::ClientError;
use terrace_instruments::{Log, Meter};
use terrace_runtime::drain::Drain;

use crate::cache::{Cache, CacheBounds};
use crate::desk::{self, Clerk, Desk};
use crate::gate::{BuildError, Decision, Gate, GateConfig};
use crate::keyring::{Keyring, RingConfig};
use crate::login::ended::{self, Ended};
use crate::login::{Login, LoginConfig};
use crate::passwords::Passwords;

/// Makes gates. Cheap to clone; there is one in a program.
#[derive(Debug, Clone)]
pub struct Auth(Arc<Shared>);

/// The part that works: fetches, asks and hashes for the gates.
pub struct AuthTask {
    clerk: Clerk,
}

/// What gates and methods share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) cache: Cache<Decision>,
    pub(crate) desk: Desk,
    pub(crate) passwords: Arc<Passwords>,
    pub(crate) log: Log,
    pub(crate) meter: Meter,
    gates: Mutex<Vec<Weak<Gate>>>,
    rings: Mutex<Vec<Weak<Keyring>>>,
    logins: Mutex<Vec<Weak<Login>>>,
    /// By the folder in which they are remembered; there is one.
    ended: Mutex<Option<(PathBuf, Weak<Ended>)>>,
    /// Numbers are never given twice, so that a new policy knows nothing of what an old one remembered.
    next_gate: AtomicU32,
}

impl Auth {
    /// What makes gates, and what is to be run on the control plane. `processors` heavy pieces of work are done at once.
    #[must_use]
    pub fn new(bounds: CacheBounds, processors: usize, log: &Log, meter: &Meter) -> (Self, AuthTask) {
        let (desk, clerk) = desk::open(processors);
        let shared = Shared {
            cache: Cache::new(bounds),
            desk,
            passwords: Arc::new(Passwords::new()),
            log: log.clone(),
            meter: meter.clone(),
            gates: Mutex::default(),
            rings: Mutex::default(),
            logins: Mutex::default(),
            ended: Mutex::default(),
            next_gate: AtomicU32::new(0),
        };
        (Self(Arc::new(shared)), AuthTask { clerk })
    }

    /// The gate of that policy: the one that there is already, if a route of the snapshot before had the same.
    ///
    /// # Errors
    /// [`BuildError`] says what of the policy cannot be.
    pub fn gate(&self, config: &GateConfig) -> Result<Arc<Gate>, BuildError> {
        let mut gates = self.0.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|gate| gate.strong_count() > 0);
        let same = gates.iter().filter_map(Weak::upgrade).find(|gate| gate.config() == config);
        if let Some(gate) = same {
            return Ok(gate);
        }
        let number = self.0.next_gate.fetch_add(1, Ordering::Relaxed);
        let gate = Arc::new(Gate::build(number, config.clone(), Arc::clone(&self.0))?);
        gates.push(Arc::downgrade(&gate));
        Ok(gate)
    }
}

impl Auth {
    /// The login of that configuration, as the gates have it that lead there. Waits for the disk when it is the first.
    ///
    /// # Errors
    /// [`BuildError`] says what of the login cannot be.
    pub fn login(&self, config: &LoginConfig) -> Result<Arc<Login>, BuildError> {
        self.0.login(config)
    }
}

impl Shared {
    pub(crate) fn login(&self, config: &LoginConfig) -> Result<Arc<Login>, BuildError> {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        logins.retain(|login| login.strong_count() > 0);
        let same = logins.iter().filter_map(Weak::upgrade).find(|login| login.config() == config);
        if let Some(login) = same {
            return Ok(login);
        }
        let ended = self.ended(&config.state)?;
        let login = Arc::new(Login::build(config.clone(), ended, self)?);
        logins.push(Arc::downgrade(&login));
        Ok(login)
    }

    /// The sessions that were ended early, which all logins share; they are followed for as long as one does.
    fn ended(&self, folder: &Path) -> Result<Arc<Ended>, BuildError> {
        let mut known = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, ended)) = &*known
            && let (true, Some(ended)) = (path == folder, ended.upgrade())
        {
            return Ok(ended);
        }
        let ended = Arc::new(Ended::open(folder).map_err(|error| BuildError::State(error.to_string()))?);
        *known = Some((folder.to_owned(), Arc::downgrade(&ended)));
        self.desk.employ(ended::follow(Arc::downgrade(&ended), self.log.clone()));
        Ok(ended)
    }

    /// The keys of that authority: those that are followed already, if anything asked for them before.
    pub(crate) fn ring(&self, config: &RingConfig) -> Result<Arc<Keyring>, ClientError> {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.retain(|ring| ring.strong_count() > 0);
        let same = rings.iter().filter_map(Weak::upgrade).find(|ring| ring.config() == config);
        if let Some(ring) = same {
            return Ok(ring);
        }
        let ring = Keyring::build(config.clone(), &self.desk, &self.log, &self.meter)?;
        rings.push(Arc::downgrade(&ring));
        Ok(ring)
    }
}

impl AuthTask {
    /// Works until asked to finish. Requests whose proof is being checked then are told that it cannot be.
    pub async fn run(self, drain: Drain) {
        self.clerk.run(drain).await;
    }
}

#[cfg(test)]
impl Auth {
    /// One whose events and numbers nobody reads.
    pub(crate) fn unseen(processors: usize) -> (Self, AuthTask) {
        Self::new(CacheBounds::default(), processors, &Log::discard(), &Meter::new(1))
    }
}
