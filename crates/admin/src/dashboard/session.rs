//! Who is signed in to the dashboard.
//!
//! A session is a cookie that says what it is (role, from when, until when) and proves it with an HMAC; nothing of it is
//! kept here, so it survives a restart of Terrace and costs no memory. The key is derived from a secret file in the state
//! folder, from the token behind the role and from the second factor's secret: a new token or a new phone ends the sessions that
//! the old one began. What must
//! be remembered is small and bounded: codes that were handed out a moment ago, and sessions that were ended early.
//!
//! Browsers do not keep cookies of two ports of one host apart: whoever serves another port of this machine's loopback
//! address is shown the cookie by a browser that visits both. That is why each Terrace's cookie bears its port, why a
//! change needs the CSRF token besides, which only our own pages show, and why foreign programs do not belong on
//! the machine of an operator; the app's own instances run as Terrace's user and could use the Unix socket anyway.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::config::{Loopback, Role};

use super::factor::{SecondFactor, Shown, Verdict};
use super::throttle::Throttle;

/// How long a session lasts: a working day.
pub(crate) const SESSION_SECONDS: u64 = 12 * 3_600;
/// How long a code opens the door.
pub(crate) const CODE_LASTS: Duration = Duration::from_secs(60);
/// Codes that wait to be used; an older one gives way.
const CODES_MAX: usize = 32;
/// Sessions that were ended early and are remembered until they would have ended; an older one gives way.
const ENDED_MAX: usize = 1_024;
/// The key's name in the state folder.
const KEY_FILE: &str = "session.key";
const KEY_BYTES: usize = 32;
/// A message shown once, on the page after the one that caused it.
const FLASH_BYTES_MAX: usize = 1_000;
const FLASH_SECONDS: u64 = 60;

/// A signed-in visitor, as their cookie says.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) role: Role,
    /// Wall time, seconds since 1970.
    pub(crate) expires: u64,
    nonce: u128,
    value: String,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({}, redacted)", self.role.as_str())
    }
}

/// A message for the next page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flash {
    /// Whether what was asked for was done.
    pub(crate) is_good: bool,
    pub(crate) text: String,
}

/// All that is known of visitors.
pub(crate) struct Sessions {
    secret: [u8; KEY_BYTES],
    path: PathBuf,
    random: SystemRandom,
    factor: SecondFactor,
    inner: Mutex<Inner>,
    /// Held while the file is written, so that of two writers the later has the later state; nobody who only reads waits.
    writing: Mutex<()>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions(redacted)")
    }
}

#[derive(Default)]
struct Inner {
    /// `None` while there is no loopback face.
    door: Option<Door>,
    codes: VecDeque<Code>,
    /// Nonce and expiry.
    ended: VecDeque<(u128, u64)>,
    throttle: Throttle,
}

/// The loopback face, as far as sessions go.
struct Door {
    bound: SocketAddr,
    loopback: Loopback,
    viewer: hmac::Key,
    operator: hmac::Key,
}

struct Code {
    text: String,
    role: Role,
    expires: Duration,
    /// The only user of this machine whom it lets in, besides root; `None`: whoever has it.
    user: Option<u32>,
}

impl Code {
    fn is(&self, given: &str) -> bool {
        same(self.text.as_bytes(), given.as_bytes())
    }
}

impl Sessions {
    /// Reads the key in the state folder, or makes one that only its owner can read.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        let (path, random) = (state.join(KEY_FILE), SystemRandom::new());
        let (secret, ended) = match read_key(&path)? {
            Some(read) => read,
            None => (new_secret(&random), VecDeque::new()),
        };
        write_key(&path, &secret, &ended)?;
        let inner = Mutex::new(Inner { ended, ..Inner::default() });
        let factor = SecondFactor::open(state)?;
        Ok(Self { secret, path, random, factor, inner, writing: Mutex::new(()) })
    }

    /// Says where the loopback face is now and which tokens open it.
    pub(crate) fn set_door(&self, door: Option<(&Loopback, SocketAddr)>) {
        let door = door.map(|(loopback, bound)| self.door(loopback.clone(), bound));
        self.inner().door = door;
    }

    fn door(&self, loopback: Loopback, bound: SocketAddr) -> Door {
        let factor = if loopback.has_second_factor() { self.factor.binding() } else { Vec::new() };
        Door {
            bound,
            viewer: self.key(Role::Viewer, loopback.secret_behind(Role::Viewer), &factor),
            operator: self.key(Role::Operator, loopback.secret_behind(Role::Operator), &factor),
            loopback,
        }
    }

    /// The secret of the second factor, for whoever sets up a phone; nothing when it was shown before. A new one ends all sessions.
    /// Waits for the disk.
    pub(crate) fn show_factor(&self, anew: bool) -> io::Result<Option<Shown>> {
        let shown = self.factor.show(anew)?;
        let mut inner = self.inner();
        if let Some(Door { loopback, bound, .. }) = inner.door.take() {
            inner.door = Some(self.door(loopback, bound));
        }
        Ok(shown)
    }

    /// Whether a login needs a code besides the token.
    pub(crate) fn wants_code(&self) -> bool {
        self.inner().door.as_ref().is_some_and(|door| door.loopback.has_second_factor())
    }

    /// Whether a code is the phone's, at `now` (since the clock's start) and `wall` (since 1970). Waits for the disk.
    pub(crate) fn check_code(&self, code: &str, now: Duration, wall: Duration) -> io::Result<Verdict> {
        self.factor.check(code, now, wall)
    }

    /// HMAC as a key derivation: its output is uniform, and neither input can be had back from it.
    fn key(&self, role: Role, token: &[u8], factor: &[u8]) -> hmac::Key {
        let mut derived = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret));
        derived.update(b"terrace dashboard session 1\0");
        derived.update(role.as_str().as_bytes());
        derived.update(b"\0");
        derived.update(token);
        derived.update(b"\0");
        derived.update(factor);
        hmac::Key::new(hmac::HMAC_SHA256, derived.sign().as_ref())
    }

    /// What a token opens.
    pub(crate) fn role_of(&self, token: &[u8]) -> Option<Role> {
        self.inner().door.as_ref()?.loopback.role_of(token)
    }

    /// Begins a session at wall time `now` (seconds since 1970): the `Set-Cookie` that carries it. `None` without a
    /// loopback face.
    pub(crate) fn begin(&self, role: Role, now: u64) -> Option<String> {
        let nonce = u128::from_be_bytes(self.random_bytes());
        let inner = self.inner();
        let door = inner.door.as_ref()?;
        let claims = format!("{}.{now:x}.{:x}.{nonce:032x}", role.as_str(), now + SESSION_SECONDS);
        let signature = hex(hmac::sign(door.key(role), claims.as_bytes()).as_ref());
        Some(cookie(&door.cookie_name(), &format!("{claims}.{signature}"), SESSION_SECONDS))
    }

    /// The session that a request's cookies prove, at wall time `now`. Several cookies of our name may come, since
    /// another port of this host can set them: the first that holds counts.
    pub(crate) fn read(&self, headers: &HeaderMap, now: u64) -> Option<Session> {
        let inner = self.inner();
        let door = inner.door.as_ref()?;
        let name = door.cookie_name();
        let mut sessions = cookies(headers, &name).filter_map(|value| door.verify(value, now));
        sessions.find(|session| !inner.ended.iter().any(|(nonce, _)| *nonce == session.nonce))
    }

    /// Whether a session that was read before still holds.
    pub(crate) fn holds(&self, session: &Session, now: u64) -> bool {
        let inner = self.inner();
        let verified = inner.door.as_ref().and_then(|door| door.verify(&session.value, now));
        verified.is_some() && !inner.ended.iter().any(|(nonce, _)| *nonce == session.nonce)
    }

    /// Ends a session for good, also after a restart. Gives the `Set-Cookie` that forgets it. Waits for the disk.
    pub(crate) fn end(&self, session: &Session, now: u64) -> io::Result<String> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, name) = {
            let mut inner = self.inner();
            inner.ended.retain(|(_, expires)| *expires > now);
            if inner.ended.len() >= ENDED_MAX {
                inner.ended.pop_front();
            }
            inner.ended.push_back((session.nonce, session.expires));
            (inner.ended.clone(), inner.door.as_ref().map(Door::cookie_name).unwrap_or_default())
        };
        write_key(&self.path, &self.secret, &ended)?;
        Ok(cookie(&name, "", 0))
    }

    /// What a change asked for in this session must bring with it; shown in our own pages only.
    pub(crate) fn csrf(&self, session: &Session) -> String {
        match self.inner().door.as_ref() {
            Some(door) => hex(hmac::sign(door.key(session.role), &csrf_message(session)).as_ref()),
            None => String::new(),
        }
    }

    /// Whether `given` is the session's CSRF token.
    pub(crate) fn is_csrf(&self, session: &Session, given: &str) -> bool {
        let (inner, given) = (self.inner(), unhex(given));
        match (inner.door.as_ref(), given) {
            (Some(door), Some(given)) => {
                hmac::verify(door.key(session.role), &csrf_message(session), &given).is_ok()
            }
            _ => false,
        }
    }

    /// A code that opens the door once, to whoever has it or to that user alone: where to go with it. `None` without a loopback
    /// face. `now` since the clock's start.
    pub(crate) fn issue_code(&self, role: Role, user: Option<u32>, now: Duration) -> Option<String> {
        let text = hex(&self.random_bytes::<16>());
        let mut inner = self.inner();
        let url = format!("http://{}/login?code={text}", inner.door.as_ref()?.bound);
        inner.codes.retain(|code| code.expires > now);
        if inner.codes.len() >= CODES_MAX {
            inner.codes.pop_front();
        }
        inner.codes.push_back(Code { text, role, expires: now + CODE_LASTS, user });
        Some(url)
    }

    /// Takes a code: the role it gives, once. `from`: who brings it, as far as the system says. One that is another user's stays
    /// good for them.
    pub(crate) fn redeem(&self, given: &str, from: Option<u32>, now: Duration) -> Option<Role> {
        let mut inner = self.inner();
        inner.codes.retain(|code| code.expires > now);
        let found = inner.codes.iter().position(|code| code.is(given))?;
        let is_anothers = match (inner.codes[found].user, from) {
            (Some(user), Some(from)) => from != user && from != 0,
            _ => false,
        };
        if is_anothers { None } else { inner.codes.remove(found).map(|code| code.role) }
    }

    /// Whether there is such a code and it is for one user alone.
    pub(crate) fn asks_for_user(&self, given: &str) -> bool {
        self.inner().codes.iter().any(|code| code.user.is_some() && code.is(given))
    }

    /// Where the loopback face is.
    pub(crate) fn bound(&self) -> Option<SocketAddr> {
        self.inner().door.as_ref().map(|door| door.bound)
    }

    /// Notes an attempt that failed: how long its answer must wait, or `None` when too many wait already.
    pub(crate) fn failed(&self, now: Duration) -> Option<Duration> {
        self.inner().throttle.failed(now)
    }

    /// The answer to a failed attempt has gone.
    pub(crate) fn answered(&self) {
        self.inner().throttle.answered();
    }

    /// The `Set-Cookie` that shows a message on the next page.
    pub(crate) fn flash(&self, session: &Session, flash: &Flash) -> Option<String> {
        let inner = self.inner();
        let door = inner.door.as_ref()?;
        let mut end = flash.text.len().min(FLASH_BYTES_MAX);
        while !flash.text.is_char_boundary(end) {
            end -= 1;
        }
        let text = format!("{}.{}", u8::from(flash.is_good), hex(&flash.text.as_bytes()[..end]));
        let signature = hex(hmac::sign(door.key(session.role), &flash_message(session, &text)).as_ref());
        Some(cookie(&door.flash_name(), &format!("{text}.{signature}"), FLASH_SECONDS))
    }

    /// The message that an earlier answer left for this session.
    pub(crate) fn read_flash(&self, session: &Session, headers: &HeaderMap) -> Option<Flash> {
        let inner = self.inner();
        let door = inner.door.as_ref()?;
        let name = door.flash_name();
        let value = cookies(headers, &name).next()?;
        let (text, signature) = value.rsplit_once('.')?;
        hmac::verify(door.key(session.role), &flash_message(session, text), &unhex(signature)?).ok()?;
        let (is_good, text) = text.split_once('.')?;
        Some(Flash { is_good: is_good == "1", text: String::from_utf8(unhex(text)?).ok()? })
    }

    /// The `Set-Cookie` that forgets the message, once it was shown.
    pub(crate) fn flash_shown(&self) -> Option<String> {
        let inner = self.inner();
        Some(cookie(&inner.door.as_ref()?.flash_name(), "", 0))
    }

    fn random_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).expect("the system has random numbers once it has booted");
        bytes
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door {
    fn key(&self, role: Role) -> &hmac::Key {
        match role {
            Role::Viewer => &self.viewer,
            Role::Operator => &self.operator,
        }
    }

    fn cookie_name(&self) -> String {
        format!("terrace_session_{}", self.bound.port())
    }

    fn flash_name(&self) -> String {
        format!("terrace_flash_{}", self.bound.port())
    }

    fn verify(&self, value: &str, now: u64) -> Option<Session> {
        let (claims, signature) = value.rsplit_once('.')?;
        let role = match claims.split_once('.')?.0 {
            "viewer" => Role::Viewer,
            "operator" => Role::Operator,
            _ => return None,
        };
        hmac::verify(self.key(role), claims.as_bytes(), &unhex(signature)?).ok()?;
        // We wrote what follows ourselves; still nothing is taken for granted.
        let mut numbers = claims.split('.').skip(1);
        let issued = u64::from_str_radix(numbers.next()?, 16).ok()?;
        let expires = u64::from_str_radix(numbers.next()?, 16).ok()?;
        let nonce = u128::from_str_radix(numbers.next()?, 16).ok()?;
        let is_now = now < expires && issued <= now.saturating_add(SESSION_SECONDS);
        is_now.then(|| Session { role, expires, nonce, value: value.to_owned() })
    }
}

fn csrf_message(session: &Session) -> Vec<u8> {
    [b"csrf\0", session.value.as_bytes()].concat()
}

fn flash_message(session: &Session, text: &str) -> Vec<u8> {
    [b"flash\0", session.value.as_bytes(), b"\0", text.as_bytes()].concat()
}

fn cookie(name: &str, value: &str, seconds: u64) -> String {
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict")
}

fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let fields = headers.get_all(header::COOKIE).iter().filter_map(|field| field.to_str().ok());
    let pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(key, _)| *key == name).map(|(_, value)| value)
}

/// Compares in a time that does not tell how much was right.
fn same(own: &[u8], given: &[u8]) -> bool {
    if own.len() != given.len() {
        return false;
    }
    let difference = own.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(difference) == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect()
}

fn new_secret(random: &SystemRandom) -> [u8; KEY_BYTES] {
    let mut secret = [0; KEY_BYTES];
    random.fill(&mut secret).expect("the system has random numbers once it has booted");
    secret
}

/// The key, and the sessions that were ended early.
type Kept = ([u8; KEY_BYTES], VecDeque<(u128, u64)>);

/// The key in its first line, sessions ended early in the others. A file that is not ours to read as such is replaced: the
/// worst that follows is that people sign in again.
fn read_key(path: &Path) -> io::Result<Option<Kept>> {
    let mut text = String::new();
    let opened = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if opened.take(1 << 20).read_to_string(&mut text).is_err() {
        return Ok(None);
    }
    let mut lines = text.lines();
    let key = lines.next().and_then(unhex).and_then(|bytes| bytes.try_into().ok());
    let ended = lines.filter_map(|line| {
        let (nonce, expires) = line.split_once(' ')?;
        Some((u128::from_str_radix(nonce, 16).ok()?, expires.parse().ok()?))
    });
    Ok(key.map(|key| (key, ended.take(ENDED_MAX).collect())))
}

/// Whole or not at all, and durable: a session that was ended must not come back.
fn write_key(path: &Path, secret: &[u8], ended: &VecDeque<(u128, u64)>) -> io::Result<()> {
    let beside = path.with_extension("key.new");
    let _left_over = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let mut text = format!("{}\n", hex(secret));
    for (nonce, expires) in ended {
        text.push_str(&format!("{nonce:032x} {expires}\n"));
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Token;
    use axum::http::HeaderValue;

    const BORN: u64 = 1_800_000_000;

    fn opened(name: &str) -> (Sessions, PathBuf) {
        let state = std::env::temp_dir().join(format!("terrace-sessions-{name}-{}", std::process::id()));
        fs::create_dir_all(&state).unwrap();
        let sessions = Sessions::open(&state).unwrap();
        let bound: SocketAddr = "127.0.0.1:9900".parse().unwrap();
        let loopback = Loopback::new(bound, Token::new("0123456789abcdef").unwrap()).unwrap();
        sessions.set_door(Some((&loopback, bound)));
        (sessions, state)
    }

    fn sent(set_cookie: &str) -> HeaderMap {
        let pair = set_cookie.split(';').next().unwrap();
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(&format!("a=b; {pair}")).unwrap())])
    }

    #[test]
    fn a_session_lasts_twelve_hours_and_no_second_longer() {
        let (sessions, state) = opened("lasts");
        let headers = sent(&sessions.begin(Role::Operator, BORN).unwrap());
        let session = sessions.read(&headers, BORN + SESSION_SECONDS - 1).unwrap();
        assert_eq!((session.role, session.expires), (Role::Operator, BORN + SESSION_SECONDS));
        assert!(sessions.read(&headers, BORN + SESSION_SECONDS).is_none());
        assert!(!sessions.holds(&session, BORN + SESSION_SECONDS));
        assert!(sessions.read(&headers, BORN - SESSION_SECONDS - 1).is_none(), "from the far future");
        assert_eq!(format!("{session:?}"), "Session(operator, redacted)");
        fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn a_code_is_good_once_for_a_minute_and_the_oldest_of_too_many_gives_way() {
        let (sessions, state) = opened("codes");
        let at = Duration::from_secs(1_000);
        let code = |at| {
            sessions.issue_code(Role::Viewer, None, at).unwrap().split_once("code=").unwrap().1.to_owned()
        };
        let (late, good) = (code(at), code(at));
        assert_eq!(
            sessions.redeem(&good, None, at + CODE_LASTS - Duration::from_millis(1)),
            Some(Role::Viewer)
        );
        assert_eq!(sessions.redeem(&good, None, at), None);
        assert_eq!(sessions.redeem(&late, None, at + CODE_LASTS), None);
        let first = code(at);
        (0..CODES_MAX).for_each(|_| drop(code(at)));
        assert_eq!(sessions.redeem(&first, None, at), None);
        fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn a_key_file_that_is_damaged_costs_a_login_and_no_more() {
        let (sessions, state) = opened("damaged");
        let headers = sent(&sessions.begin(Role::Operator, BORN).unwrap());
        fs::write(state.join(KEY_FILE), b"\xff no key").unwrap();
        let again = Sessions::open(&state).unwrap();
        let bound: SocketAddr = "127.0.0.1:9900".parse().unwrap();
        let loopback = Loopback::new(bound, Token::new("0123456789abcdef").unwrap()).unwrap();
        again.set_door(Some((&loopback, bound)));
        assert!(again.read(&headers, BORN).is_none());
        fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn a_message_is_shown_in_its_own_session_only() {
        let (sessions, state) = opened("flash");
        let mine = sessions.read(&sent(&sessions.begin(Role::Operator, BORN).unwrap()), BORN).unwrap();
        let other = sessions.read(&sent(&sessions.begin(Role::Operator, BORN).unwrap()), BORN).unwrap();
        let flash = Flash { is_good: false, text: "é".repeat(600) };
        let headers = sent(&sessions.flash(&mine, &flash).unwrap());
        let shown = sessions.read_flash(&mine, &headers).unwrap();
        assert_eq!((shown.is_good, shown.text), (false, "é".repeat(500)), "cut at a character");
        assert_eq!(sessions.read_flash(&other, &headers), None);
        fs::remove_dir_all(state).unwrap();
    }
}
