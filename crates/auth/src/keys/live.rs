//! The keys as requests meet them: a table in memory, replaced whole when the file changes.
//!
//! To check a key is one hash and one look into the table: nothing is waited for, nothing is allocated, and who has it was
//! put together when the table was made. The file is looked at twice a second, so that what another process or machine
//! does to it holds within a second; what is done through this process holds at once.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use terrace_instruments::{Event, Level, Log};
use terrace_runtime::clock;
use terrace_runtime::drain::Drain;

use super::file::{KeyFileError, KeyStore, Used};
use super::record::{KeyRecord, NewKey};
use super::text::{self, Hash, Id, KeyText, NotAKey};
use crate::cache::{Generation, Since};
use crate::files::Mark;
use crate::identity::{Identity, Method};
use crate::secret::is_same;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// The last use is known to so many seconds.
const USED_STEP_S: u64 = 60;
/// So many looks lie between two notes of last uses: a minute.
const LOOKS_PER_NOTE: u32 = 120;

/// Why a key opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// It is none.
    #[error(transparent)]
    NotAKey(#[from] NotAKey),
    /// There is no such key, or no more.
    #[error("there is no such key, or it was revoked")]
    Unknown,
    /// Its time is over.
    #[error("the key has expired")]
    Expired,
}

/// All keys, live. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Keys(Arc<Shared>);

struct Shared {
    store: KeyStore,
    table: ArcSwap<Table>,
    /// Of the file that the table was made of; held while the table is replaced.
    mark: Mutex<Mark>,
    /// Some key's last use is not noted yet.
    is_used: AtomicBool,
    /// What was wrong when the file was last looked at; told once, not twice a second.
    told: Mutex<Option<String>>,
    /// Ends with each table: what was learned from it does not hold any more.
    generation: Generation,
    log: Log,
}

type Table = HashMap<Id, Arc<Entry>>;

struct Entry {
    hash: Hash,
    record: KeyRecord,
    identity: Arc<Identity>,
    /// Seconds since 1970; 0 is never.
    used: AtomicU64,
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Keys({}, redacted)", self.0.table.load().len())
    }
}

impl Keys {
    /// Reads the keys in that state folder. Waits for the disk.
    ///
    /// # Errors
    /// [`KeyFileError`] when they cannot be read: to go on without them would lock everybody out.
    pub fn open(folder: &Path, log: Log) -> Result<Self, KeyFileError> {
        let store = KeyStore::new(folder);
        let table = ArcSwap::from_pointee(Table::new());
        let mark = Mutex::new(Mark::default());
        let keys = Self(Arc::new(Shared {
            store,
            table,
            mark,
            is_used: AtomicBool::new(false),
            told: Mutex::default(),
            generation: Generation::default(),
            log,
        }));
        keys.0.reload()?;
        Ok(keys)
    }

    /// Who has the key that somebody sent. `now` is since 1970. No answer's time tells how much of it was right.
    ///
    /// # Errors
    /// [`KeyRefused`] says why it opens nothing; who sent it need not be told more than that.
    pub fn check(&self, given: &[u8], now: Duration) -> Result<Arc<Identity>, KeyRefused> {
        let id = text::read(given)?;
        let hash = text::hash(given);
        let table = self.0.table.load();
        let Some(entry) = table.get(&id) else { return Err(KeyRefused::Unknown) };
        if !is_same(&entry.hash, &hash) {
            return Err(KeyRefused::Unknown);
        }
        if entry.record.is_expired(now) {
            return Err(KeyRefused::Expired);
        }
        let seconds = now.as_secs();
        if seconds.saturating_sub(entry.used.load(Relaxed)) >= USED_STEP_S {
            entry.used.store(seconds, Relaxed);
            self.0.is_used.store(true, Relaxed);
        }
        Ok(Arc::clone(&entry.identity))
    }

    /// To be asked for before [`Keys::check`]: how long what it says may be believed.
    pub(super) fn since(&self) -> Since {
        self.0.generation.now()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.table.load().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes a key that opens doors once this returns. Waits for the disk.
    ///
    /// # Errors
    /// [`KeyFileError`] when what is asked for makes no sense, or the file cannot be read or written.
    pub fn create(&self, new: NewKey) -> Result<(KeyText, KeyRecord), KeyFileError> {
        let made = self.0.store.create(new, wall())?;
        self.0.reload()?;
        Ok(made)
    }

    /// Takes a key away: from when this returns it opens nothing here, and a second later on no machine that shares the
    /// folder. Waits for the disk.
    ///
    /// # Errors
    /// [`KeyFileError`] when there is no such key, or the file cannot be read or written.
    pub fn revoke(&self, id: &str) -> Result<KeyRecord, KeyFileError> {
        let record = self.0.store.revoke(id)?;
        self.0.reload()?;
        Ok(record)
    }

    /// All keys with when each was last used, as [`KeyStore::list`], but with what this process saw just now. Waits for
    /// the disk.
    ///
    /// # Errors
    /// [`KeyFileError`] when the file cannot be read.
    pub fn list(&self) -> Result<Vec<(KeyRecord, Option<u64>)>, KeyFileError> {
        let seen = self.0.seen();
        let mut listed = self.0.store.list()?;
        for (key, used) in &mut listed {
            *used = (*used).max(seen.get(&key.id).copied());
        }
        Ok(listed)
    }

    /// Follows the file until `drain` is asked for, and notes last uses.
    pub async fn run(self, mut drain: Drain) {
        let mut looks = 0;
        loop {
            let is_over = tokio::select! {
                () = drain.requested() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            looks += 1;
            let is_due = is_over || looks % LOOKS_PER_NOTE == 0;
            let shared = Arc::clone(&self.0);
            let looked = tokio::task::spawn_blocking(move || shared.look(is_due)).await;
            if is_over || looked.is_err() {
                return;
            }
        }
    }
}

impl Shared {
    /// One look at the file; what is wrong with it is told, and the keys stay as they were.
    fn look(&self, notes_uses: bool) {
        let is_changed = *self.mark.lock().unwrap_or_else(PoisonError::into_inner) != self.store.mark();
        if is_changed {
            self.tell(self.reload().err().map(|error| error.to_string()));
        }
        if notes_uses
            && self.is_used.swap(false, Relaxed)
            && let Err(error) = self.store.note_used(&self.seen())
        {
            let event = Event::new(Level::Warn, "auth.keys.unnoted").field("problem", error.to_string());
            self.log.emit(event.message("when keys were last used is not noted"));
        }
    }

    fn tell(&self, problem: Option<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = problem.as_ref().filter(|problem| told.as_ref() != Some(*problem)) {
            let event = Event::new(Level::Error, "auth.keys.unreadable").field("problem", problem.clone());
            self.log.emit(event.message("the keys stay as they were"));
        }
        *told = problem;
    }

    /// Takes over what the file says. A file that is wrong is read again when it changed again, one that could not be
    /// read at the next look.
    fn reload(&self) -> Result<(), KeyFileError> {
        let mut mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        // Before reading: what changes meanwhile differs from this mark, and is read once more.
        let before = std::mem::replace(&mut *mark, self.store.mark());
        let read = self.store.read();
        if matches!(read, Err(KeyFileError::File(_))) {
            *mark = before;
        }
        let table = self.table_of(read?)?;
        self.table.store(Arc::new(table));
        self.generation.end();
        Ok(())
    }

    fn table_of(&self, records: Vec<KeyRecord>) -> Result<Table, KeyFileError> {
        let before = self.table.load();
        let mut table = Table::with_capacity(records.len());
        for record in records {
            let parts = record.parts();
            let (id, hash) = parts.map_err(|problem| self.store.wrong_key(&record.id, problem))?;
            let entry = match before.get(&id) {
                Some(kept) if kept.record == record => Arc::clone(kept),
                other => {
                    let used = other.map_or(0, |entry| entry.used.load(Relaxed));
                    let identity = Arc::new(identity(&record));
                    Arc::new(Entry { hash, record, identity, used: AtomicU64::new(used) })
                }
            };
            table.insert(id, entry);
        }
        Ok(table)
    }

    fn seen(&self) -> Used {
        let table = self.table.load();
        let used = table.values().map(|entry| (entry.record.id.clone(), entry.used.load(Relaxed)));
        used.filter(|(_, at)| *at > 0).collect::<BTreeMap<_, _>>()
    }
}

fn identity(record: &KeyRecord) -> Identity {
    let mut identity = Identity::new(Method::Key, "keys", record.id.as_str());
    identity.roles.clone_from(&record.roles);
    identity.limit.clone_from(&record.limit);
    identity.claims.insert("name".to_owned(), Value::from(record.name.as_str()));
    if !record.roles.is_empty() {
        identity.claims.insert("roles".to_owned(), json!(record.roles));
    }
    identity.expires = record.expires.map(Duration::from_secs);
    identity
}

fn wall() -> Duration {
    clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use terrace_runtime::drain;
    use terrace_testkit::Folder;

    use super::*;

    fn opened(folder: &Folder) -> Keys {
        Keys::open(folder.path(), Log::discard()).unwrap()
    }

    fn named(name: &str) -> NewKey {
        NewKey { name: name.to_owned(), ..NewKey::default() }
    }

    #[test]
    fn a_key_says_who_has_it() {
        let folder = Folder::new();
        let keys = opened(&folder);
        let new = NewKey {
            roles: vec!["reader".to_owned()],
            limit: Some("5/s".to_owned()),
            lasts_s: Some(3_600),
            ..named("nightly")
        };
        let (key, record) = keys.create(new).unwrap();
        let identity = keys.check(key.reveal().as_bytes(), wall()).unwrap();
        assert_eq!((identity.subject.as_str(), identity.method), (key.id(), Method::Key));
        assert_eq!(identity.claim_text("name").as_deref(), Some("nightly"));
        assert!(identity.has_role("reader"));
        assert_eq!(identity.limit.as_deref(), Some("5/s"));
        let end = Duration::from_secs(record.expires.unwrap());
        assert!(keys.check(key.reveal().as_bytes(), end - Duration::from_secs(1)).is_ok());
        assert_eq!(keys.check(key.reveal().as_bytes(), end), Err(KeyRefused::Expired));
    }

    #[test]
    fn the_right_id_with_a_wrong_secret_opens_nothing() {
        let folder = Folder::new();
        let keys = opened(&folder);
        let (key, _) = keys.create(named("x")).unwrap();
        // Another key's secret under this id, with a checksum that fits.
        let forged = text::forged(key.id());
        assert_eq!(keys.check(forged.as_bytes(), wall()), Err(KeyRefused::Unknown));
        assert_eq!(keys.check(KeyText::random().reveal().as_bytes(), wall()), Err(KeyRefused::Unknown));
        assert_eq!(keys.check(b"tk_", wall()), Err(KeyRefused::NotAKey(NotAKey::Damaged)));
    }

    #[test]
    fn a_revoked_key_opens_nothing_from_then_on() {
        let folder = Folder::new();
        let keys = opened(&folder);
        let (key, _) = keys.create(named("x")).unwrap();
        keys.revoke(key.id()).unwrap();
        assert_eq!(keys.check(key.reveal().as_bytes(), wall()), Err(KeyRefused::Unknown));
    }

    #[test]
    fn a_file_with_a_key_of_nonsense_is_refused_whole_and_the_others_hold_on() {
        let folder = Folder::new();
        let keys = opened(&folder);
        let (key, _) = keys.create(named("x")).unwrap();
        let text = folder.read("keys.json").replace("\"name\": \"x\"", "\"name\": \"\"");
        folder.write("keys.json", &text);
        assert!(matches!(keys.0.reload(), Err(KeyFileError::Key { .. })));
        assert!(keys.check(key.reveal().as_bytes(), wall()).is_ok());
    }

    #[tokio::test]
    async fn what_another_process_does_holds_here_soon_and_uses_are_noted_at_the_end() {
        let folder = Folder::new();
        let keys = opened(&folder);
        let (drainer, drain) = drain::channel();
        let running = tokio::spawn(keys.clone().run(drain));
        let other = KeyStore::new(folder.path());
        let (key, _) = other.create(named("x"), wall()).unwrap();
        while keys.check(key.reveal().as_bytes(), wall()).is_err() {
            tokio::task::yield_now().await;
        }
        assert!(keys.list().unwrap()[0].1.is_some(), "known at once here");
        assert!(other.list().unwrap()[0].1.is_none(), "and not on disk yet");
        drainer.request();
        running.await.unwrap();
        assert!(other.list().unwrap()[0].1.is_some());
    }

    #[test]
    fn a_change_of_the_file_keeps_what_is_known_of_keys_that_stay() {
        let folder = Folder::new();
        let keys = opened(&folder);
        let (key, _) = keys.create(named("x")).unwrap();
        let first = keys.check(key.reveal().as_bytes(), wall()).unwrap();
        keys.create(named("y")).unwrap();
        assert!(Arc::ptr_eq(&first, &keys.check(key.reveal().as_bytes(), wall()).unwrap()));
        assert!(keys.list().unwrap()[0].1.is_some());
    }
}
