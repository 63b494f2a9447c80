//! Checking passwords, which is slow on purpose: beside the cores, a bounded number at a time, and once for all who bring the
//! same one at once.
//!
//! What is remembered is a fact that cannot change: this password is the one of that hash. So a list of users that changes makes
//! nothing void; who is taken off the list, or has another hash, is not found by the old fact. Only what was right is
//! remembered, for some minutes, under a key of this process.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::cache::{Cache, CacheBounds, Generation, Keep, Owner};
use crate::desk::Desk;
use crate::flights::{self, Flights};
use crate::gate::Moment;
use crate::guesses::Guesses;
use crate::proof::Proof;
use crate::users::Hash;

/// Passwords that are being checked or wait for it.
const WAITING_MAX: usize = 64;
/// How long it is remembered that a password was right.
const REMEMBERED: Duration = Duration::from_secs(600);
const MEMO: CacheBounds = CacheBounds { entries_max: 20_000, bytes_max: 8 << 20 };
const OWNER: Owner = Owner { gate: 0, method: 0 };

/// Checks passwords. One in a program.
#[derive(Debug)]
pub(crate) struct Passwords {
    facts: Cache<()>,
    ground: Generation,
    key: hmac::Key,
    checking: Flights<Verdict>,
    guesses: Guesses,
}

/// Who claims to have a password, and whose hash it is held against.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    /// The list's name.
    pub(crate) list: String,
    pub(crate) user: String,
    /// Whether the hash is theirs; a right guess at another's is a wrong one.
    pub(crate) is_real: bool,
    pub(crate) client: IpAddr,
    pub(crate) hash: Arc<Hash>,
    pub(crate) password: Vec<u8>,
}

/// What came of checking a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
    /// Not looked at: so long is the next guess to wait.
    HeldUp(Duration),
    /// Not looked at: too many wait.
    Crowded,
}

impl Passwords {
    pub(crate) fn new() -> Self {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).expect("the system has random numbers once it has booted");
        Self {
            facts: Cache::new(MEMO),
            ground: Generation::default(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            checking: Flights::new(WAITING_MAX),
            guesses: Guesses::new(),
        }
    }

    /// Whether it was found right in the last minutes. Makes no system call.
    pub(crate) fn remembers(&self, hash: &Hash, password: &[u8], wall: Duration) -> bool {
        let fact = fact(hash, password);
        self.facts.get(&self.facts.seek(OWNER, Proof::Secret(&fact)), wall).is_some()
    }

    /// How long the next guess has to wait, without making one.
    pub(crate) fn held_up(&self, list: &str, user: &str, client: IpAddr, at: Moment) -> Option<Duration> {
        self.guesses.wait(list, user, client, at.now)
    }

    /// Whether it is the password of that hash. All who bring the same at once make one guess. To be called from work of
    /// the desk.
    pub(crate) async fn check(self: &Arc<Self>, desk: &Desk, claim: Claim, at: Moment) -> Verdict {
        let key = self.key_of(&claim);
        let (passwords, desk) = (Arc::clone(self), desk.clone());
        let work = async move { passwords.guess(&desk, claim, at).await };
        self.checking.join(key, work).await.unwrap_or(Verdict::Crowded)
    }

    async fn guess(&self, desk: &Desk, claim: Claim, at: Moment) -> Verdict {
        let Claim { list, user, is_real, client, hash, password } = claim;
        let guess = match self.guesses.charge(&list, &user, client, at.now) {
            Ok(guess) => guess,
            Err(wait) => return Verdict::HeldUp(wait),
        };
        let fact = fact(&hash, &password);
        match desk.compute(move || hash.is_of(&password)).await {
            Ok(true) if is_real => {
                self.guesses.was_right(guess, at.now);
                let keep = Keep { until: at.wall + REMEMBERED, since: self.ground.now() };
                self.facts.put(self.facts.seek(OWNER, Proof::Secret(&fact)).place(), (), 0, keep, at.wall);
                Verdict::Right
            }
            Ok(_) => Verdict::Wrong,
            Err(_) => {
                self.guesses.give_back(guess);
                Verdict::Crowded
            }
        }
    }

    fn key_of(&self, claim: &Claim) -> flights::Key {
        let mut tag = hmac::Context::with_key(&self.key);
        for part in
            [claim.list.as_bytes(), claim.user.as_bytes(), claim.hash.text().as_bytes(), &claim.password]
        {
            tag.update(&(part.len() as u64).to_le_bytes());
            tag.update(part);
        }
        tag.sign().as_ref().try_into().expect("invariant: an HMAC with SHA-256 has 32 bytes")
    }

    /// A number of that name that nobody outside can know.
    pub(crate) fn number_of(&self, name: &str) -> u64 {
        let tag = hmac::sign(&self.key, name.as_bytes());
        let first = tag.as_ref().first_chunk().expect("invariant: an HMAC with SHA-256 has 32 bytes");
        u64::from_le_bytes(*first)
    }
}

/// No hash holds a zero byte, so that no two pairs read the same.
fn fact(hash: &Hash, password: &[u8]) -> Vec<u8> {
    [hash.text().as_bytes(), b"\0", password].concat()
}
