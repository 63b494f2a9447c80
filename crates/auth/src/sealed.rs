//! Values that a browser keeps for us and can neither read nor change.
//!
//! What is sealed is encrypted and authenticated (AES-256-GCM), and bound to what it is for: a value that was sealed as one
//! thing opens as nothing else. Each value has a key of its own, derived from the secret and sixteen random bytes (HKDF, RFC 5869), so that
//! however many are sealed no nonce comes twice.
//!
//! There may be several secrets. The first seals, all open: so a new one is put before the old one, and the old one
//! taken away when nothing that it sealed is alive any more.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::files::{FileError, Files};
use crate::secret::Secret;

/// Fewer bytes could be guessed.
const SECRET_BYTES_MIN: usize = 32;
/// Secrets at once.
const SECRETS_MAX: usize = 8;
const SALT_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// The first byte of each value, for the day when another way is better.
const VERSION: u8 = 1;
/// The secret's name in the state folder, where the file names none.
const FILE: &str = "login.key";
const LOCK: &str = "login.lock";

/// The secrets by which values are sealed. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKeys(Arc<Vec<Secret>>);

/// Why there are no secrets to seal with.
#[derive(Debug, thiserror::Error)]
pub enum SealKeysError {
    /// The file's to put right.
    #[error(
        "a secret of sessions has at least {SECRET_BYTES_MIN} bytes; `openssl rand -hex 32` makes a good one"
    )]
    Short,
    /// The file's to put right.
    #[error("there are more than {SECRETS_MAX} secrets of sessions; take the old ones away")]
    TooMany,
    /// The machine's.
    #[error(transparent)]
    File(#[from] FileError),
}

impl SealKeys {
    /// Secrets from a text with one on each line, the newest first.
    ///
    /// # Errors
    /// [`SealKeysError`] when one is too short to be one, or there are too many.
    pub fn parse(text: &str) -> Result<Self, SealKeysError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let secrets: Vec<Secret> = lines.map(|line| Secret::new(line.as_bytes())).collect();
        let is_short = |secret: &Secret| secret.expose().len() < SECRET_BYTES_MIN;
        match secrets.len() {
            0 => Err(SealKeysError::Short),
            1..=SECRETS_MAX if !secrets.iter().any(is_short) => Ok(Self(Arc::new(secrets))),
            1..=SECRETS_MAX => Err(SealKeysError::Short),
            _ => Err(SealKeysError::TooMany),
        }
    }

    /// Those of `login.key` in the state folder, which is made when it is not there: of several machines that share the folder, one
    /// makes it. Waits for the disk.
    ///
    /// # Errors
    /// [`SealKeysError`] when the file cannot be read or made, or is no file of secrets.
    pub fn open(folder: &Path) -> Result<Self, SealKeysError> {
        let files = Files::new(folder);
        let lock = files.lock(LOCK)?;
        if let Some(bytes) = files.read(FILE)? {
            return Self::parse(&String::from_utf8_lossy(&bytes));
        }
        let text = format!("{}\n", HEXLOWER.encode(&random::<32>()));
        files.write(&lock, FILE, text.as_bytes(), true)?;
        Self::parse(&text)
    }

    /// Seals `plain` as what `purpose` says: text that fits into a cookie or a URL.
    pub(crate) fn seal(&self, purpose: &str, plain: &[u8]) -> String {
        let salt: [u8; SALT_BYTES] = random();
        let key = key(&self.0[0], &salt, purpose);
        let mut secret = plain.to_vec();
        let tag = key.seal_in_place_separate_tag(nonce(), Aad::from(purpose), &mut secret);
        let tag = tag.expect("invariant: a cookie is far below what AES-GCM can seal");
        let parts = [&[VERSION][..], &salt, tag.as_ref(), &secret].concat();
        BASE64URL_NOPAD.encode(&parts)
    }

    /// What was sealed as that; nothing for whatever else.
    pub(crate) fn open_sealed(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let parts = BASE64URL_NOPAD.decode(sealed).ok()?;
        let (version, rest) = parts.split_first()?;
        let (salt, rest) = rest.split_at_checked(SALT_BYTES)?;
        let (tag, secret) = rest.split_at_checked(TAG_BYTES)?;
        if *version != VERSION {
            return None;
        }
        self.0.iter().find_map(|one| {
            let mut plain = [secret, tag].concat();
            let opened =
                key(one, salt, purpose).open_in_place(nonce(), Aad::from(purpose), &mut plain).ok()?;
            let length = opened.len();
            plain.truncate(length);
            Some(plain)
        })
    }

    /// A word that only we can make of that text: whoever shows it has been given it.
    pub(crate) fn mark(&self, purpose: &str, text: &[u8]) -> String {
        BASE64URL_NOPAD.encode(mark(&self.0[0], purpose, text).as_ref())
    }

    /// Whether the word is the one for that text.
    pub(crate) fn is_mark(&self, purpose: &str, text: &[u8], given: &[u8]) -> bool {
        let Ok(given) = BASE64URL_NOPAD.decode(given) else { return false };
        self.0.iter().any(|one| crate::secret::is_same(mark(one, purpose, text).as_ref(), &given))
    }
}

fn mark(secret: &Secret, purpose: &str, text: &[u8]) -> ring::hmac::Tag {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.expose());
    let mut mark = ring::hmac::Context::with_key(&key);
    mark.update(b"terrace mark 1\0");
    mark.update(purpose.as_bytes());
    mark.update(b"\0");
    mark.update(text);
    mark.sign()
}

/// The key for one value.
fn key(secret: &Secret, salt: &[u8], purpose: &str) -> LessSafeKey {
    let info = [b"terrace seal 1\0", purpose.as_bytes()];
    let derived = Salt::new(HKDF_SHA256, salt).extract(secret.expose());
    let derived = derived.expand(&info, &AES_256_GCM).expect("invariant: 32 bytes are few for HKDF");
    LessSafeKey::new(UnboundKey::from(derived))
}

/// Always the same, since no key is used twice.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// Random bytes of the system's.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system has random numbers once it has booted");
    bytes
}

impl fmt::Debug for SealKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SealKeys({}, redacted)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use terrace_testkit::Folder;

    use super::*;

    const ONE: &str = "0123456789abcdef0123456789abcdef";
    const TWO: &str = "fedcba9876543210fedcba9876543210";

    fn keys(text: &str) -> SealKeys {
        SealKeys::parse(text).expect("secrets")
    }

    #[test]
    fn what_was_sealed_is_had_again_by_whoever_has_the_secret() {
        let keys = keys(ONE);
        let sealed = keys.seal("session", b"plain");
        assert_eq!(keys.open_sealed("session", sealed.as_bytes()).as_deref(), Some(&b"plain"[..]));
        assert_eq!(keys.open_sealed("login", sealed.as_bytes()), None, "as something else");
        assert_eq!(self::keys(TWO).open_sealed("session", sealed.as_bytes()), None, "with another secret");
        assert_ne!(keys.seal("session", b"plain"), sealed, "no two look the same");
        assert!(!sealed.contains(&BASE64URL_NOPAD.encode(b"plain")));
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_noticed() {
        let keys = keys(ONE);
        let sealed = keys.seal("session", b"plain");
        let bytes = BASE64URL_NOPAD.decode(sealed.as_bytes()).expect("what we wrote");
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let wrong = BASE64URL_NOPAD.encode(&wrong);
            assert_eq!(keys.open_sealed("session", wrong.as_bytes()), None, "bit {bit}");
        }
        for end in 0..sealed.len() {
            assert_eq!(keys.open_sealed("session", &sealed.as_bytes()[..end]), None, "cut at {end}");
        }
        assert_eq!(keys.open_sealed("session", format!("{sealed}A").as_bytes()), None);
    }

    #[test]
    fn a_new_secret_seals_and_the_old_one_still_opens() {
        let old = keys(ONE).seal("session", b"old");
        let both = keys(&format!("{TWO}\n\n {ONE} \n"));
        assert_eq!(both.open_sealed("session", old.as_bytes()).as_deref(), Some(&b"old"[..]));
        let new = both.seal("session", b"new");
        assert_eq!(keys(ONE).open_sealed("session", new.as_bytes()), None);
        assert_eq!(keys(TWO).open_sealed("session", new.as_bytes()).as_deref(), Some(&b"new"[..]));
        let marked = keys(ONE).mark("logout", b"x");
        assert!(
            both.is_mark("logout", b"x", marked.as_bytes())
                && !both.is_mark("logout", b"y", marked.as_bytes())
        );
        assert!(!both.is_mark("other", b"x", marked.as_bytes()) && !both.is_mark("logout", b"x", b""));
    }

    #[test]
    fn secrets_that_protect_nothing_are_refused() {
        for text in ["", "\n \n", "short", &format!("{ONE}\nshort")] {
            assert!(matches!(SealKeys::parse(text), Err(SealKeysError::Short)), "{text:?}");
        }
        let many = [ONE; 9].join("\n");
        assert!(matches!(SealKeys::parse(&many), Err(SealKeysError::TooMany)));
        assert_eq!(format!("{:?}", keys(ONE)), "SealKeys(1, redacted)");
    }

    #[test]
    fn a_secret_is_made_once_whoever_needs_it_first() {
        let folder = Folder::new();
        let open = || SealKeys::open(folder.path()).expect("made or read");
        let all = std::thread::scope(|scope| {
            let opening = [(); 4].map(|()| scope.spawn(open));
            opening.map(|opening| opening.join().expect("no panic"))
        });
        assert!(all.iter().all(|keys| *keys == all[0]));
        let mode = std::fs::metadata(folder.join(FILE)).expect("made");
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    }
}
