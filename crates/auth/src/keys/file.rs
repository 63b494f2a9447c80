//! `keys.json`: every key but its secret, changed by one at a time and never half.
//!
//! What it says is on disk before anybody is told that it is so. When keys were last used stands in a file of its own,
//! `keys-used.json`, so that noting it never touches what opens doors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::{KeyRecord, NewKey, NewKeyError};
use super::text::KeyText;
use crate::files::{FileError, Files, Lock, Mark};

/// Keys in one folder.
const KEYS_MAX: usize = 100_000;

const FILE: &str = "keys.json";
const USED: &str = "keys-used.json";
const LOCK: &str = "keys.lock";
const VERSION: u32 = 1;

/// Why the keys could not be read or changed. What was there before is still there.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
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
    files: Files,
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
        Self { files: Files::new(folder) }
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
        let Some(bytes) = self.files.read(FILE)? else { return Ok(Vec::new()) };
        let damaged = |reason: String| KeyFileError::Damaged { path: self.files.path(FILE), reason };
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
        self.files.mark(FILE)
    }

    /// An error about one key of the file.
    pub(super) fn wrong_key(&self, id: &str, problem: NewKeyError) -> KeyFileError {
        KeyFileError::Key { path: self.files.path(FILE), id: id.to_owned(), problem }
    }

    /// When keys were last used. Not being able to say is no reason to fail.
    pub(super) fn used(&self) -> Used {
        let read = self.files.read(USED).ok().flatten();
        read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Adds what this machine saw to what others did; keys that are gone are forgotten.
    pub(super) fn note_used(&self, seen: &Used) -> Result<(), KeyFileError> {
        let lock = self.files.lock(LOCK)?;
        let before = self.used();
        let latest = |key: KeyRecord| {
            let at = before.get(&key.id).max(seen.get(&key.id)).copied()?;
            Some((key.id, at))
        };
        let used: Used = self.read()?.into_iter().filter_map(latest).collect();
        self.write(&lock, USED, &used, false)
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<KeyRecord>) -> Result<T, KeyFileError>,
    ) -> Result<T, KeyFileError> {
        let lock = self.files.lock(LOCK)?;
        let mut keys = self.read()?;
        let changed = change(&mut keys)?;
        self.write(&lock, FILE, &Content { version: VERSION, keys }, true)?;
        Ok(changed)
    }

    fn write(
        &self,
        lock: &Lock,
        name: &str,
        content: &impl Serialize,
        is_durable: bool,
    ) -> Result<(), KeyFileError> {
        let text = serde_json::to_vec_pretty(content);
        let text = text.expect("invariant: keys are plain values with text for names");
        Ok(self.files.write(lock, name, &text, is_durable)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
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
        assert!(matches!(store.create(named("y"), NOW), Err(KeyFileError::File(FileError::Io { .. }))));
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
