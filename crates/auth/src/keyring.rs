//! The keys of one authority, kept up to date beside the requests.
//!
//! One task on the control plane fetches them, ahead of their time; cores only read what it last had. A token that names a key
//! which nobody knows may be the first after a rotation: its request asks the task to look now, and waits for it. How often
//! that may happen is bounded, and so is how many wait, since anybody can make up the name of a key.
//!
//! Rings are told apart by where their keys come from, not by what is asked of tokens, so that a reload which changes an audience
//! fetches nothing.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use terrace_fetch::{Client, ClientError};
use terrace_instruments::{Counter, Event, Family, Gauge, Kind, Level, Log, Meter};
use terrace_runtime::{clock, random};
use tokio::sync::{Notify, watch};

use crate::cache::{Generation, Since};
use crate::desk::Desk;
use crate::discovery::{self, Discovered, FetchError};
use crate::jose::Algorithms;
use crate::jose::compact::Compact;
use crate::jose::key::Key;
use crate::jwk::KeySet;
use crate::refresh::{self, Pace, Schedule};
use crate::refusal::Refused;
use crate::secret::Secret;

/// Requests that wait for one authority's keys at once.
const WAITING_MAX: usize = 64;

static FETCHES: Family = Family {
    name: "terrace_auth_key_fetches_total",
    help: "Attempts to have an issuer's keys, by what came of them: new, same, failed.",
    unit: "",
    labels: &["issuer", "outcome"],
    kind: Kind::Counter,
};
static KEYS: Family = Family {
    name: "terrace_auth_keys",
    help: "Keys of an issuer that tokens are checked with; 0 when there are none, or none that are young enough.",
    unit: "",
    labels: &["issuer"],
    kind: Kind::Gauge,
};

/// Whose keys, and where they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct RingConfig {
    /// The authority: `iss` of its tokens.
    pub issuer: String,
    /// Where its keys are.
    pub source: KeySource,
    /// Certificates (PEM) that are trusted besides the system's when it is asked.
    pub ca: Option<Arc<[u8]>>,
    /// How often it is asked.
    pub pace: Pace,
}

/// Where an authority's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Where its discovery document says.
    Discovery,
    /// At that address.
    Url(String),
    /// In that file, which is followed when it changes.
    File(PathBuf),
    /// There is one secret, which the authority and Terrace share.
    Secret(Secret),
}

/// The keys of one authority.
pub(crate) struct Keyring {
    config: RingConfig,
    client: Client,
    known: ArcSwapOption<Known>,
    discovered: ArcSwapOption<Discovered>,
    line: Arc<Line>,
    log: Log,
    meters: Meters,
}

/// Keys as they were fetched, and how long what they vouched for holds: until keys take their place that lack one of them.
struct Known {
    set: KeySet,
    generation: Generation,
}

/// What requests and the task share; it outlives the ring by the moment that the task needs to learn of its end.
struct Line {
    /// Somebody wants the keys now, or the ring has ended.
    wanted: Notify,
    /// What came of it.
    told: watch::Sender<Told>,
    /// Fetches that have begun.
    begun: AtomicU64,
    /// When the last fetch began: nanoseconds since the clock's start, plus one.
    begun_ns: AtomicU64,
    is_under_way: AtomicBool,
    /// No keys came yet, and some may come any moment.
    is_starting: AtomicBool,
    has_failed: AtomicBool,
    waiting: AtomicUsize,
}

/// What whoever waits is told.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    /// Fetches that have ended.
    ended: u64,
    /// Wishes that came too soon after the last fetch.
    too_soon: u64,
}

struct Meters {
    new: Counter,
    same: Counter,
    failed: Counter,
    keys: Gauge,
}

/// What a ring says of a signature without waiting.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is good, as long as the keys are these.
    Good(Since),
    Refused(Refused),
    /// It takes long to check, or the keys have to be fetched first: [`Keyring::verify`].
    Wait,
}

impl Keyring {
    /// The ring, with a task that follows its keys. The task ends with it.
    pub(crate) fn build(
        config: RingConfig,
        desk: &Desk,
        log: &Log,
        meter: &Meter,
    ) -> Result<Arc<Self>, ClientError> {
        let client = match &config.ca {
            Some(pem) => Client::trusting(pem)?,
            None => Client::new(),
        };
        let known = match &config.source {
            KeySource::Secret(secret) => Some(Arc::new(Known {
                set: KeySet::of(Key::secret(secret.clone())),
                generation: Generation::default(),
            })),
            KeySource::Discovery | KeySource::Url(_) | KeySource::File(_) => None,
        };
        let is_fixed = known.is_some();
        let ring = Arc::new(Self {
            client,
            known: ArcSwapOption::new(known),
            discovered: ArcSwapOption::empty(),
            line: Arc::new(Line::new()),
            log: log.clone(),
            meters: Meters::new(meter, &config.issuer),
            config,
        });
        if !is_fixed {
            desk.employ(follow(
                Arc::downgrade(&ring),
                Arc::clone(&ring.line),
                Schedule::new(ring.config.pace.clone()),
            ));
        }
        Ok(ring)
    }

    pub(crate) fn config(&self) -> &RingConfig {
        &self.config
    }

    /// The client with which the authority is spoken to.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Where the authority does what, if its keys are found by discovery and that has succeeded.
    pub(crate) fn discovered(&self) -> Option<Arc<Discovered>> {
        self.discovered.load_full()
    }

    /// Checks a signature with the keys that are there, at the moment `now`.
    pub(crate) fn verify_now(&self, token: &Compact<'_>, algorithms: Algorithms, now: Duration) -> Verdict {
        if !algorithms.has(token.algorithm) {
            return Verdict::Refused(Refused::invalid(
                "the token names no algorithm that is taken",
                token.algorithm.name(),
            ));
        }
        let known = self.known.load();
        let Some(Known { set, generation }) = known.as_deref() else { return self.unknown(token, now) };
        let mut is_any = false;
        for key in set.candidates(token.algorithm, token.kid.as_deref()) {
            is_any = true;
            if key.is_slow() {
                return Verdict::Wait;
            }
            if key.verifies(token.algorithm, token.signed, &token.signature) {
                return Verdict::Good(generation.whole());
            }
        }
        // A key without a name may have changed its nature under it.
        match is_any && (token.kid.is_some() || self.is_fixed()) {
            true => Verdict::Refused(bad_signature(token)),
            false => self.unknown(token, now),
        }
    }

    /// Checks a signature, however long it takes. To be called on the control plane.
    ///
    /// `token` is read again here, as it was read before.
    pub(crate) async fn verify(
        self: Arc<Self>,
        token: Arc<[u8]>,
        algorithms: Algorithms,
        desk: Desk,
    ) -> Result<Since, Refused> {
        let read = Compact::parse(&token).map_err(|error| Refused::invalid(error.reason(), ""))?;
        if !algorithms.has(read.algorithm) {
            return Err(Refused::invalid(
                "the token names no algorithm that is taken",
                read.algorithm.name(),
            ));
        }
        if !self.knows(&read) {
            self.wait().await?;
        }
        let Some(known) = self.known.load_full() else { return Err(self.silent()) };
        let since = known.generation.whole();
        let is_known = self.knows(&read);
        let checked = Arc::clone(&token);
        let is_good = desk.compute(move || is_signed(&known.set, &checked)).await;
        match is_good {
            Ok(true) => Ok(since),
            Ok(false) if is_known => Err(bad_signature(&read)),
            Ok(false) => Err(self.unknown_key(&read)),
            Err(busy) => Err(Refused::unavailable(busy.to_string())),
        }
    }

    fn is_fixed(&self) -> bool {
        matches!(self.config.source, KeySource::Secret(_))
    }

    /// Whether there is a key that the token may have been signed with. One without a name counts for a token without only when it is
    /// the right one, which is not known here.
    fn knows(&self, token: &Compact<'_>) -> bool {
        let known = self.known.load();
        let Some(Known { set, .. }) = known.as_deref() else { return false };
        let mut found = set.candidates(token.algorithm, token.kid.as_deref());
        match token.kid.is_some() || self.is_fixed() {
            true => found.next().is_some(),
            false => found
                .any(|key| key.is_slow() || key.verifies(token.algorithm, token.signed, &token.signature)),
        }
    }

    /// There is no key for the token: it is waited for where a fetch may bring it soon.
    fn unknown(&self, token: &Compact<'_>, now: Duration) -> Verdict {
        if self.is_fixed() {
            return Verdict::Refused(self.unknown_key(token));
        }
        let may_come = self.line.is_under_way.load(Ordering::Acquire)
            || self.line.is_starting.load(Ordering::Acquire)
            || self.line.may_hurry(&self.config.pace, now);
        match may_come {
            true if self.line.waiting.load(Ordering::Relaxed) < WAITING_MAX => Verdict::Wait,
            true => Verdict::Refused(Refused::unavailable("too many wait for the issuer's keys already")),
            false => Verdict::Refused(self.unknown_key(token)),
        }
    }

    /// Asks for the keys to be fetched, and waits for what comes of it.
    async fn wait(&self) -> Result<(), Refused> {
        let _place = Waiting::take(&self.line.waiting)?;
        let mut told = self.line.told.subscribe();
        let Told { too_soon, .. } = *told.borrow_and_update();
        // One that is under way may have had its answer before the key was there.
        let begun = self.line.begun.load(Ordering::Acquire);
        self.line.wanted.notify_one();
        // The document and the keys take a timeout each, and one fetch may have to end before.
        let patience = 4 * self.config.pace.timeout + Duration::from_secs(1);
        let came = told.wait_for(|told| told.ended > begun || told.too_soon != too_soon);
        match tokio::time::timeout(patience, came).await {
            Ok(_told) => Ok(()),
            Err(_elapsed) => Err(self.silent()),
        }
    }

    /// A key that nobody knows is a bad token, unless its authority could not be asked.
    fn unknown_key(&self, token: &Compact<'_>) -> Refused {
        if self.known.load().is_none() || self.line.has_failed.load(Ordering::Acquire) {
            return self.silent();
        }
        let kid = token.kid.as_deref().unwrap_or("none");
        Refused::invalid(
            "the token is signed with a key that is not known",
            format!("{} key {kid:?}", token.algorithm.name()),
        )
    }

    fn silent(&self) -> Refused {
        Refused::unavailable(format!("the keys of {} cannot be had", self.config.issuer))
    }
}

fn bad_signature(token: &Compact<'_>) -> Refused {
    let kid = token.kid.as_deref().unwrap_or("none");
    Refused::invalid("the token's signature is not good", format!("{} key {kid:?}", token.algorithm.name()))
}

fn is_signed(set: &KeySet, token: &[u8]) -> bool {
    let Ok(token) = Compact::parse(token) else { return false };
    let mut keys = set.candidates(token.algorithm, token.kid.as_deref());
    keys.any(|key| key.verifies(token.algorithm, token.signed, &token.signature))
}

/// A place among those who wait, given back however the wait ends.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, Refused> {
        let place = Self(waiting);
        match waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX {
            true => Ok(place),
            false => Err(Refused::unavailable("too many wait for the issuer's keys already")),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Line {
    fn new() -> Self {
        Self {
            wanted: Notify::new(),
            told: watch::Sender::new(Told::default()),
            begun: AtomicU64::new(0),
            begun_ns: AtomicU64::new(0),
            // The first fetch begins as soon as the task does.
            is_under_way: AtomicBool::new(true),
            is_starting: AtomicBool::new(true),
            has_failed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        }
    }

    fn may_hurry(&self, pace: &Pace, now: Duration) -> bool {
        let begun = self.begun_ns.load(Ordering::Acquire).checked_sub(1).map(Duration::from_nanos);
        refresh::may_hurry(pace, begun, now)
    }

    fn begin(&self, now: Duration) {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX - 1);
        self.begun_ns.store(now_ns + 1, Ordering::Release);
        self.begun.fetch_add(1, Ordering::AcqRel);
        self.is_under_way.store(true, Ordering::Release);
    }

    fn end(&self, has_failed: bool, is_starting: bool) {
        self.has_failed.store(has_failed, Ordering::Release);
        self.is_starting.store(is_starting, Ordering::Release);
        self.is_under_way.store(false, Ordering::Release);
        self.told.send_modify(|told| told.ended += 1);
    }

    /// Whoever waits shall look again, and find what is there.
    fn too_soon(&self) {
        self.told.send_modify(|told| told.too_soon += 1);
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        self.line.wanted.notify_one();
    }
}

/// Fetches keys until the ring ends.
async fn follow(ring: Weak<Keyring>, line: Arc<Line>, mut schedule: Schedule) {
    loop {
        let Some(held) = ring.upgrade() else { return };
        let now = clock::now();
        schedule.begin(now);
        line.begin(now);
        let done = held.refresh(&mut schedule).await;
        line.end(!done, schedule.is_starting());
        drop(held);
        rest(&ring, &line, &schedule).await;
    }
}

/// Waits until the next fetch is due, or wanted and allowed.
async fn rest(ring: &Weak<Keyring>, line: &Line, schedule: &Schedule) {
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(clock::instant(schedule.due())) => return,
            () = line.wanted.notified() => {
                if ring.strong_count() == 0 || schedule.may_hurry(clock::now()) {
                    return;
                }
                if schedule.is_starting() {
                    return tokio::time::sleep_until(clock::instant(schedule.starts_again())).await;
                }
                line.too_soon();
            }
        }
    }
}

/// What one attempt brought.
struct Fetched {
    set: KeySet,
    fresh: Option<Duration>,
    discovered: Option<Discovered>,
}

impl Keyring {
    /// One attempt; says whether it succeeded.
    async fn refresh(&self, schedule: &mut Schedule) -> bool {
        let fetched = self.fetch().await;
        let now = clock::now();
        match fetched {
            Ok(fetched) => {
                match &self.config.source {
                    KeySource::File(_) => schedule.succeed_from_file(now),
                    _ => schedule.succeed(now, fetched.fresh, random::u64()),
                }
                self.take(fetched);
                true
            }
            Err(error) => {
                schedule.fail(now, random::u64());
                self.failed(&error, schedule.is_over(now));
                false
            }
        }
    }

    async fn fetch(&self) -> Result<Fetched, FetchError> {
        let timeout = self.config.pace.timeout;
        let (url, discovered) = match &self.config.source {
            KeySource::File(path) => {
                let text = read_file(path.clone()).await?;
                return Ok(Fetched { set: KeySet::parse(&text)?, fresh: None, discovered: None });
            }
            KeySource::Url(url) => (url.clone(), None),
            KeySource::Discovery | KeySource::Secret(_) => {
                let found = discovery::discover(&self.client, &self.config.issuer, timeout).await?;
                (found.keys.clone(), Some(found))
            }
        };
        let answer = discovery::get(&self.client, &url, timeout).await?;
        let cache_control = answer.headers.get("cache-control").and_then(|value| value.to_str().ok());
        let fresh = cache_control.and_then(refresh::max_age);
        Ok(Fetched { set: KeySet::parse(&answer.body)?, fresh, discovered })
    }

    /// Puts the keys in the place of the old ones. What was checked with a key that is gone is checked again.
    fn take(&self, fetched: Fetched) {
        if let Some(discovered) = fetched.discovered {
            self.discovered.store(Some(Arc::new(discovered)));
        }
        let before = self.known.load_full();
        if before.as_deref().is_some_and(|before| before.set == fetched.set) {
            // Of a file that is looked at every few seconds nobody wants to know how often it was the same.
            if !matches!(self.config.source, KeySource::File(_)) {
                self.meters.same.inc();
            }
            return self.recovered();
        }
        self.meters.new.inc();
        self.meters.keys.set(fetched.set.keys().len() as i64);
        let is_kept = before.as_deref().is_none_or(|before| fetched.set.has_all_of(&before.set));
        self.tell(&fetched.set);
        let generation = match before {
            Some(before) if is_kept => before.generation.clone(),
            // Ended before others are there, so that nobody who knows the new keys still believes the old.
            Some(before) => {
                before.generation.end();
                Generation::default()
            }
            None => Generation::default(),
        };
        self.known.store(Some(Arc::new(Known { set: fetched.set, generation })));
        self.recovered();
    }

    fn tell(&self, set: &KeySet) {
        let mut event = Event::new(Level::Info, "auth.issuer.keys")
            .field("issuer", &self.config.issuer)
            .field("keys", set.keys().len());
        if let Some((count, why)) = set.passed_over() {
            event = event.field("passed_over", count).field("first_passed_over", why.to_string());
        }
        self.log.emit(event);
    }

    fn recovered(&self) {
        if self.line.has_failed.load(Ordering::Acquire) {
            self.log
                .emit(Event::new(Level::Info, "auth.issuer.recovered").field("issuer", &self.config.issuer));
        }
    }

    /// The keys stay what they are, until they are too old.
    fn failed(&self, error: &FetchError, is_over: bool) {
        self.meters.failed.inc();
        if let (true, Some(known)) = (is_over, self.known.load_full()) {
            known.generation.end();
            self.known.store(None);
            self.meters.keys.set(0);
        }
        let level = if self.known.load().is_some() { Level::Warn } else { Level::Error };
        let event = Event::new(level, "auth.issuer.unreachable")
            .field("issuer", &self.config.issuer)
            .field("error", error.to_string())
            .field("has_keys", self.known.load().is_some());
        self.log.emit(event);
    }
}

/// Reads a file on a thread that may wait for the disk, and no more of it than a set may have.
async fn read_file(path: PathBuf) -> Result<Vec<u8>, FetchError> {
    let read = tokio::task::spawn_blocking(move || {
        use std::io::Read as _;
        let mut text = Vec::new();
        if !std::fs::metadata(&path)?.is_file() {
            return Err(std::io::Error::other("it is no file"));
        }
        let file = std::fs::File::open(path)?;
        file.take(crate::jwk::SET_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
        Ok::<_, std::io::Error>(text)
    });
    match read.await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(FetchError::File(error.to_string())),
        Err(error) => Err(FetchError::File(error.to_string())),
    }
}

impl Meters {
    fn new(meter: &Meter, issuer: &str) -> Self {
        let fetches = |outcome| meter.counter(&FETCHES, &[issuer, outcome]);
        Self {
            new: fetches("new"),
            same: fetches("same"),
            failed: fetches("failed"),
            keys: meter.gauge(&KEYS, &[issuer]),
        }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keyring").field("config", &self.config).finish_non_exhaustive()
    }
}
