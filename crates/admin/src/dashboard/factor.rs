//! The second factor of the dashboard's login: one-time codes of an authenticator (RFC 6238).
//!
//! The token says that somebody was told a secret; the code, that they hold the phone. The phone's secret lies in the state folder, is
//! shown once, on the machine, and can be replaced there by whoever owns the folder: they could read the token there anyway, so
//! for them the links of `terrace dashboard` need no code either. Wrong codes are bounded; only who has the token can make any, and
//! whoever is locked out by them has the machine.
//!
//! That a code was used is on disk before the door opens, so that a restart brings none back.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::digest;
use terrace_auth::{Attempts, TotpSecret};

/// The secret's name in the state folder.
const FILE: &str = "totp.key";
/// Under which the code is in a phone's list.
const ISSUER: &str = "Terrace";

/// What the phone and we know.
pub(crate) struct SecondFactor {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    kept: Option<Kept>,
    attempts: Attempts,
}

#[derive(Clone)]
struct Kept {
    secret: TotpSecret,
    /// The last step whose code was used; none up to it is good any more.
    last_step: u64,
    /// It was shown, so that it is in a phone, and is not shown again.
    was_shown: bool,
}

/// What came of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
    /// Too many were wrong: so long is the next to wait.
    Wait(Duration),
    /// No phone has been told the secret.
    NotSetUp,
}

/// The secret, for whoever sets up a phone. Shown once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) secret: String,
    pub(crate) uri: String,
}

impl SecondFactor {
    /// Reads what is kept in the state folder, if anything is.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        let path = state.join(FILE);
        let kept = read(&path)?;
        Ok(Self { path, inner: Mutex::new(Inner { kept, attempts: Attempts::default() }) })
    }

    /// The secret, to be put into a phone: a new one where there is none yet or where `anew`, and else the one that was made but
    /// not shown. Nothing when it was shown before. Waits for the disk.
    pub(crate) fn show(&self, anew: bool) -> io::Result<Option<Shown>> {
        let mut inner = self.inner();
        let kept = match inner.kept.take().filter(|_| !anew) {
            Some(kept) if kept.was_shown => {
                inner.kept = Some(kept);
                return Ok(None);
            }
            Some(kept) => Kept { was_shown: true, ..kept },
            None => Kept { secret: TotpSecret::random(), last_step: 0, was_shown: true },
        };
        write(&self.path, &kept)?;
        let shown = Shown { secret: kept.secret.text(), uri: kept.secret.uri(ISSUER, &host()) };
        *inner = Inner { kept: Some(kept), attempts: Attempts::default() };
        Ok(Some(shown))
    }

    /// Whether `code` is the phone's, at `now` (since the clock's start) and `wall` (since 1970). A right one is used up. Waits for
    /// the disk.
    pub(crate) fn check(&self, code: &str, now: Duration, wall: Duration) -> io::Result<Verdict> {
        let mut inner = self.inner();
        let Inner { kept, attempts } = &mut *inner;
        let Some(kept) = kept.as_mut().filter(|kept| kept.was_shown) else { return Ok(Verdict::NotSetUp) };
        if let Some(wait) = attempts.wait(now) {
            return Ok(Verdict::Wait(wait));
        }
        let Some(step) = kept.secret.step_of(code, wall, kept.last_step) else {
            attempts.failed(now);
            return Ok(Verdict::Wrong);
        };
        let used = Kept { last_step: step, ..kept.clone() };
        write(&self.path, &used)?;
        *kept = used;
        attempts.succeeded();
        Ok(Verdict::Right)
    }

    /// What sessions are bound to besides the token: they end with the secret that they began with.
    pub(crate) fn binding(&self) -> Vec<u8> {
        let inner = self.inner();
        let text = inner.kept.as_ref().map(|kept| kept.secret.text()).unwrap_or_default();
        digest::digest(&digest::SHA256, text.as_bytes()).as_ref().to_vec()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SecondFactor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecondFactor(redacted)")
    }
}

/// By which one machine is told from another in a phone's list.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    name.split('.').next().filter(|name| !name.is_empty()).unwrap_or("dashboard").to_owned()
}

/// Secret, last step, and whether it was shown, a line each. A file that is damaged is an error, not a factor that is not there.
fn read(path: &Path) -> io::Result<Option<Kept>> {
    let mut text = String::new();
    match fs::File::open(path) {
        Ok(file) => file.take(4096).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut lines = text.lines();
    let kept = (|| {
        let secret = TotpSecret::from_text(lines.next()?).ok()?;
        let last_step = lines.next()?.parse().ok()?;
        Some(Kept { secret, last_step, was_shown: lines.next()? == "shown" })
    })();
    let damaged = || {
        io::Error::other(
            "totp.key is damaged; remove it, and set up the phone anew with `terrace totp --new`",
        )
    };
    kept.map(Some).ok_or_else(damaged)
}

/// Whole or not at all, and durable.
fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let beside = path.with_extension("key.new");
    let _left_over = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let shown = if kept.was_shown { "shown" } else { "not shown" };
    file.write_all(format!("{}\n{}\n{shown}\n", kept.secret.text(), kept.last_step).as_bytes())?;
    file.sync_all()?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const WALL: Duration = Duration::from_secs(1_800_000_000);
    const NOW: Duration = Duration::from_secs(1_000);

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("terrace-totp-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn code(shown: &Shown, wall: Duration) -> String {
        TotpSecret::from_text(&shown.secret).unwrap().code_at(wall)
    }

    #[test]
    fn a_secret_is_shown_once_and_kept_for_its_owner_alone() {
        let state = folder("once");
        let factor = SecondFactor::open(&state).unwrap();
        assert_eq!(factor.check("000000", NOW, WALL).unwrap(), Verdict::NotSetUp);
        let shown = factor.show(false).unwrap().unwrap();
        assert!(shown.uri.starts_with("otpauth://totp/Terrace:") && shown.uri.contains(&shown.secret));
        assert_eq!(factor.show(false).unwrap(), None);
        assert_eq!(SecondFactor::open(&state).unwrap().show(false).unwrap(), None, "nor after a restart");
        let mode = fs::metadata(state.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = factor.binding();
        let anew = factor.show(true).unwrap().unwrap();
        assert_ne!(anew.secret, shown.secret);
        assert_ne!(factor.binding(), before, "sessions end with the secret that they began with");
        assert_eq!(
            factor.check(&code(&shown, WALL), NOW, WALL).unwrap(),
            Verdict::Wrong,
            "a lost phone is out"
        );
        assert_eq!(factor.check(&code(&anew, WALL), NOW, WALL).unwrap(), Verdict::Right);
        fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn a_code_is_used_up_also_across_a_restart() {
        let state = folder("used");
        let factor = SecondFactor::open(&state).unwrap();
        let shown = factor.show(false).unwrap().unwrap();
        let code = code(&shown, WALL);
        assert_eq!(factor.check(&code, NOW, WALL).unwrap(), Verdict::Right);
        assert_eq!(factor.check(&code, NOW, WALL).unwrap(), Verdict::Wrong);
        let again = SecondFactor::open(&state).unwrap();
        assert_eq!(again.check(&code, NOW, WALL).unwrap(), Verdict::Wrong);
        fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn wrong_codes_are_bounded_and_a_new_secret_forgives() {
        let state = folder("bounded");
        let factor = SecondFactor::open(&state).unwrap();
        let shown = factor.show(false).unwrap().unwrap();
        for _ in 0..Attempts::FREE {
            assert_eq!(factor.check("x", NOW, WALL).unwrap(), Verdict::Wrong);
        }
        assert_eq!(factor.check(&code(&shown, WALL), NOW, WALL).unwrap(), Verdict::Wait(Attempts::WAIT_MIN));
        let anew = factor.show(true).unwrap().unwrap();
        assert_eq!(factor.check(&code(&anew, WALL), NOW, WALL).unwrap(), Verdict::Right);
        fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn a_damaged_file_does_not_open_the_door() {
        let state = folder("damaged");
        for text in ["", "x\n0\nshown\n", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n"] {
            fs::write(state.join(FILE), text).unwrap();
            assert!(SecondFactor::open(&state).is_err(), "{text:?}");
        }
        fs::remove_dir_all(state).unwrap();
    }
}
