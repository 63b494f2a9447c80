//! What gates share, and what of it outlives a reload: the cache, the desk, and the gates themselves, so that a policy that
//! did not change keeps what it knows.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use terrace_fetch::ClientError;
use terrace_instruments::{Log, Meter};
use terrace_runtime::drain::Drain;

use crate::cache::{Cache, CacheBounds};
use crate::desk::{self, Clerk, Desk};
use crate::gate::{BuildError, Decision, Gate, GateConfig};
use crate::keyring::{Keyring, RingConfig};
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

impl Shared {
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
