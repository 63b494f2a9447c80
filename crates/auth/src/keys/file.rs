//! `keys.json`: every key but its secret, changed by one at a time and never half.
//!
//! Whoever changes the file holds a lock beside it, reads it anew, writes it whole under another name, waits for the disk and
//! puts it in the old one's place. So a reader sees one or the other and needs no lock, a crash leaves one or the
//! other, and two machines that share the folder do not undo each other's changes. What it says is on disk before
//! anybody is told that it is so.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Gid, OFlags, Uid, flock};
use serde::{Deserialize, Serialize};

use super::record::{KeyRecord, NewKey, NewKeyError};
use super::text::KeyText;

/// Keys in one folder.
const KEYS_MAX: usize = 100_000;
/// A larger file is none of ours: it holds [`KEYS_MAX`] keys of the usual size thrice.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// How long another's change is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_LOOK: Duration = Duration::from_millis(20);

const FILE: &str = "keys.json";
const USED: &str = "keys-used.json";
const LOCK: &str = "keys.lock";
const VERSION: u32 = 1;

/// Why the keys could not be read or changed. What was there before is still there.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The machine's, or that of who set the folder up.
    #[error("cannot {what} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else changes the keys and does not end; a retry may help.
    #[error("somebody else is changing the keys since {LOCK_WAIT:?}; who holds {path}?", path = .0.display())]
    Locked(PathBuf),
    /// The file was edited, or is another program's.
    #[error("{path} is no file of keys: {reason}; put a copy of it back, or remove it and make new keys", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A key in the file is wrong; it was edited.
    #[error("{path}: the key {id:?}: {problem}", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Its id.
        id: String,
        /// What is wrong with it.
        problem: NewKeyError,
    },
    /// What was asked for makes no sense.
    #[error(transparent)]
    New(#[from] NewKeyError),
    /// There is no such key; its id was mistyped, or it is revoked already.
    #[error("there is no key with the id {0:?}; `terrace keys list` shows them")]
    Unknown(String),
    /// The bound on keys.
    #[error("there are {KEYS_MAX} keys already, which is the most; revoke those that nobody uses")]
    Full,
}

/// The keys of one state folder, on disk. Every method waits for the disk.
#[derive(Debug, Clone)]
pub struct KeyStore {
    folder: PathBuf,
}

/// By what a changed file is told from the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    inode: u64,
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

/// When which key was last used, seconds since 1970.
pub(super) type Used = BTreeMap<String, u64>;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    version: u32,
    keys: Vec<KeyRecord>,
}

impl KeyStore {
    /// The keys in that state folder, which must be there.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Makes a key at `now`, since 1970. It opens doors once this returns, and its text is never had again.
    ///
    /// # Errors
    /// [`KeyFileError`] when what is asked for makes no sense, or the file cannot be read or written.
    pub fn create(&self, new: NewKey, now: Duration) -> Result<(KeyText, KeyRecord), KeyFileError> {
        let key = KeyText::random();
        let record = KeyRecord::new(new, &key, now.as_secs())?;
        self.change(|keys| {
            if keys.len() >= KEYS_MAX {
                return Err(KeyFileError::Full);
            }
            keys.push(record.clone());
            Ok(())
        })?;
        Ok((key, record))
    }

    /// Takes a key away for good.
    ///
    /// # Errors
    /// [`KeyFileError`] when there is no such key, or the file cannot be read or written.
    pub fn revoke(&self, id: &str) -> Result<KeyRecord, KeyFileError> {
        self.change(|keys| match keys.iter().position(|key| key.id == id) {
            Some(at) => Ok(keys.remove(at)),
            None => Err(KeyFileError::Unknown(id.to_owned())),
        })
    }

    /// All keys, oldest first, and when each was last used (seconds since 1970, to the minute or so).
    ///
    /// # Errors
    /// [`KeyFileError`] when the file cannot be read.
    pub fn list(&self) -> Result<Vec<(KeyRecord, Option<u64>)>, KeyFileError> {
        let used = self.used();
        let keys = self.read()?.into_iter();
        Ok(keys.map(|key| (used.get(&key.id).copied(), key)).map(|(used, key)| (key, used)).collect())
    }

    /// What the file says now. No file is no keys.
    pub(super) fn read(&self) -> Result<Vec<KeyRecord>, KeyFileError> {
        let path = self.folder.join(FILE);
        let Some(bytes) = read_bounded(&path).map_err(|source| failed("read", &path, source))? else {
            return Ok(Vec::new());
        };
        let damaged = |reason: String| KeyFileError::Damaged { path: path.clone(), reason };
        let content: Content = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if content.version != VERSION {
            return Err(damaged(format!(
                "its version is {}, and this Terrace knows {VERSION}",
                content.version
            )));
        }
        if content.keys.len() > KEYS_MAX {
            return Err(KeyFileError::Full);
        }
        Ok(content.keys)
    }

    /// To be compared with an earlier one; one call of the system.
    pub(super) fn mark(&self) -> Mark {
        let Ok(metadata) = fs::metadata(self.folder.join(FILE)) else { return Mark::default() };
        Mark {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        }
    }

    /// An error about one key of the file.
    pub(super) fn wrong_key(&self, id: &str, problem: NewKeyError) -> KeyFileError {
        KeyFileError::Key { path: self.folder.join(FILE), id: id.to_owned(), problem }
    }

    /// When keys were last used. Not being able to say is no reason to fail.
    pub(super) fn used(&self) -> Used {
        let read = read_bounded(&self.folder.join(USED)).ok().flatten();
        read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Adds what this machine saw to what others did; keys that are gone are forgotten.
    pub(super) fn note_used(&self, seen: &Used) -> Result<(), KeyFileError> {
        let _lock = self.lock()?;
        let before = self.used();
        let latest = |key: KeyRecord| {
            let at = before.get(&key.id).max(seen.get(&key.id)).copied()?;
            Some((key.id, at))
        };
        let used: Used = self.read()?.into_iter().filter_map(latest).collect();
        self.write(USED, &used, false)
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<KeyRecord>) -> Result<T, KeyFileError>,
    ) -> Result<T, KeyFileError> {
        let _lock = self.lock()?;
        let mut keys = self.read()?;
        let changed = change(&mut keys)?;
        self.write(FILE, &Content { version: VERSION, keys }, true)?;
        Ok(changed)
    }

    /// The lock, held for as long as the file is open; the system lets go of it when its holder dies.
    fn lock(&self) -> Result<File, KeyFileError> {
        let path = self.folder.join(LOCK);
        let file = self.open_lock(&path).map_err(|source| failed("open", &path, source))?;
        let mut waited = Duration::ZERO;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) if waited < LOCK_WAIT => {
                    std::thread::sleep(LOCK_LOOK);
                    waited += LOCK_LOOK;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(KeyFileError::Locked(path)),
                Err(error) => return Err(failed("lock", &path, error.into())),
            }
        }
    }

    fn open_lock(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
        match options.clone().create_new(true).open(path) {
            Ok(file) => {
                self.give_to_owner(&file)?;
                Ok(file)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
            Err(error) => Err(error),
        }
    }

    /// Puts a whole file in the place of the old one. The lock is held, so that the partial file is nobody else's.
    fn write(&self, name: &str, content: &impl Serialize, is_durable: bool) -> Result<(), KeyFileError> {
        let partial = self.folder.join(format!("{name}.partial"));
        let text = serde_json::to_vec_pretty(content)
            .map_err(|error| failed("write", &partial, io::Error::other(error)))?;
        let written = || -> io::Result<()> {
            match fs::remove_file(&partial) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
            self.give_to_owner(&file)?;
            file.write_all(&text)?;
            if is_durable {
                file.sync_all()?;
            }
            fs::rename(&partial, self.folder.join(name))?;
            if is_durable { File::open(&self.folder)?.sync_all() } else { Ok(()) }
        };
        written().map_err(|source| failed("write", &partial, source))
    }

    /// What root makes here must be readable by the one whose folder it is.
    fn give_to_owner(&self, file: &File) -> io::Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let folder = fs::metadata(&self.folder)?;
        let (user, group) = (Uid::from_raw(folder.uid()), Gid::from_raw(folder.gid()));
        Ok(rustix::fs::fchown(file, Some(user), Some(group))?)
    }
}

/// A whole file, or nothing when there is none.
fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 64 MiB"));
    }
    Ok(Some(bytes))
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> KeyFileError {
    KeyFileError::Io { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use terrace_testkit::Folder;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn named(name: &str) -> NewKey {
        NewKey { name: name.to_owned(), ..NewKey::default() }
    }

    #[test]
    fn keys_that_were_made_are_found_again_and_their_secrets_are_not() {
        let folder = Folder::new();
        let store = KeyStore::new(folder.path());
        let (first, _) = store.create(named("one"), NOW).unwrap();
        let (second, _) = store.create(named("two"), NOW).unwrap();
        let names: Vec<_> = store.list().unwrap().into_iter().map(|(key, used)| (key.name, used)).collect();
        assert_eq!(names, [("one".to_owned(), None), ("two".to_owned(), None)]);
        let text = folder.read(FILE);
        assert!(text.contains(first.id()));
        let secret = first.reveal().rsplit('_').next().unwrap();
        assert!(!text.contains(secret) && !text.contains(&secret[..43]));
        let mode = fs::metadata(folder.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        store.revoke(first.id()).unwrap();
        let left: Vec<_> = store.list().unwrap().into_iter().map(|(key, _)| key.id).collect();
        assert_eq!(left, [second.id()]);
        assert!(matches!(store.revoke(first.id()), Err(KeyFileError::Unknown(_))));
    }

    #[test]
    fn two_who_change_the_keys_at_once_do_not_undo_each_other() {
        let folder = Folder::new();
        let make = |index: usize| {
            let store = KeyStore::new(folder.path());
            (0..10).for_each(|number| drop(store.create(named(&format!("{index}-{number}")), NOW).unwrap()));
        };
        std::thread::scope(|scope| (0..4).for_each(|index| drop(scope.spawn(move || make(index)))));
        assert_eq!(KeyStore::new(folder.path()).list().unwrap().len(), 40);
    }

    #[test]
    fn a_damaged_file_is_told_and_left_as_it_is() {
        let folder = Folder::new();
        let store = KeyStore::new(folder.path());
        for text in ["", "{", "[]", r#"{"version":2,"keys":[]}"#, r#"{"version":1,"keys":[{}]}"#] {
            folder.write(FILE, text);
            let error = store.create(named("x"), NOW).unwrap_err();
            assert!(matches!(error, KeyFileError::Damaged { .. }), "{text}: {error}");
            assert_eq!(folder.read(FILE), text);
        }
    }

    #[test]
    fn a_link_at_the_place_of_a_file_of_ours_leads_nowhere() {
        let folder = Folder::new();
        let victim = folder.write("victim", "precious");
        symlink(&victim, folder.join("keys.json.partial")).unwrap();
        let store = KeyStore::new(folder.path());
        store.create(named("x"), NOW).unwrap();
        assert_eq!(folder.read("victim"), "precious");
        folder.remove(LOCK);
        symlink(&victim, folder.join(LOCK)).unwrap();
        assert!(matches!(store.create(named("y"), NOW), Err(KeyFileError::Io { .. })));
    }

    #[test]
    fn the_last_use_is_the_latest_that_any_machine_saw() {
        let folder = Folder::new();
        let (here, there) = (KeyStore::new(folder.path()), KeyStore::new(folder.path()));
        let (key, _) = here.create(named("x"), NOW).unwrap();
        let at = |seconds: u64| Used::from([(key.id().to_owned(), seconds), ("gone".to_owned(), 1)]);
        here.note_used(&at(50)).unwrap();
        there.note_used(&at(70)).unwrap();
        here.note_used(&at(60)).unwrap();
        assert_eq!(here.used(), Used::from([(key.id().to_owned(), 70)]));
        folder.write(USED, "{");
        assert_eq!(here.list().unwrap()[0].1, None, "a damaged note costs no key");
    }
}
