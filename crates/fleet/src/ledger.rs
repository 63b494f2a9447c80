//! What must survive a restart of Terrace and is not in a shim: the numbers set by `scale`, and which configuration
//! was released last.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use terrace_instruments::{Event, Level, Log};

/// The ledger; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Ledger(Arc<Mutex<Book>>);

#[derive(Debug)]
struct Book {
    path: PathBuf,
    entries: Entries,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Entries {
    scaled: BTreeMap<String, Scaled>,
    released: BTreeMap<String, String>,
}

/// A number set by hand, and the file's number that it overrides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Scaled {
    file: u32,
    to: u32,
}

impl Ledger {
    /// Reads the ledger. An unreadable one is told of, set aside as `fleet.json.aside`, in the place of an older one, and
    /// begun anew, for nothing in it is worth refusing to start.
    pub(crate) fn open(path: PathBuf, log: &Log) -> Self {
        let entries = match read(&path) {
            Ok(entries) => entries,
            Err(problem) => {
                let mut aside = path.as_os_str().to_owned();
                aside.push(".aside");
                let is_aside = fs::rename(&path, aside).is_ok();
                let event = Event::new(Level::Error, "fleet.state_set_aside")
                    .field("path", path.display().to_string())
                    .field("problem", problem.to_string())
                    .field("is_aside", is_aside);
                log.emit(event.message("numbers set by `terrace scale` cannot be read and hold no more, and a release may run again"));
                Entries::default()
            }
        };
        Self(Arc::new(Mutex::new(Book { path, entries })))
    }

    /// How many instances of `service` there shall be when the file says `file`, and whether that was set by hand.
    pub(crate) fn instances(&self, service: &str, file: u32) -> (u32, bool) {
        let mut book = self.lock();
        match book.entries.scaled.get(service).copied() {
            Some(scaled) if scaled.file == file => return (scaled.to, true),
            Some(_) => book.entries.scaled.remove(service),
            None => return (file, false),
        };
        // If this cannot be written, the old number is still void: it is bound to the file's number of that time.
        let _next_time = book.write();
        (file, false)
    }

    /// Sets the number by hand, until the file's changes. What cannot be written does not hold either.
    pub(crate) fn scale(&self, service: &str, file: u32, to: u32) -> io::Result<()> {
        let mut book = self.lock();
        let before = book.entries.scaled.insert(service.to_owned(), Scaled { file, to });
        let written = book.write();
        if written.is_err() {
            match before {
                Some(before) => book.entries.scaled.insert(service.to_owned(), before),
                None => book.entries.scaled.remove(service),
            };
        }
        written
    }

    /// Whether this configuration was the last one released.
    pub(crate) fn is_released(&self, service: &str, hash: &str) -> bool {
        self.lock().entries.released.get(service).is_some_and(|released| released == hash)
    }

    /// Notes that this configuration was released.
    pub(crate) fn released(&self, service: &str, hash: &str) -> io::Result<()> {
        let mut book = self.lock();
        book.entries.released.insert(service.to_owned(), hash.to_owned());
        book.write()
    }

    /// Where it is kept.
    pub(crate) fn path(&self) -> PathBuf {
        self.lock().path.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was written; nothing where nothing was.
fn read(path: &Path) -> io::Result<Entries> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Entries::default()),
        Err(error) => Err(error),
    }
}

impl Book {
    /// Written beside and renamed, so that a crash leaves the old one or the new one.
    fn write(&self) -> io::Result<()> {
        let beside = self.path.with_extension("json.new");
        let text = serde_json::to_vec_pretty(&self.entries).map_err(io::Error::from)?;
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("terrace-ledger-{name}-{}.json", std::process::id()));
        let _absent = fs::remove_file(&path);
        path
    }

    #[test]
    fn a_number_set_by_hand_holds_until_the_files_number_changes() {
        let path = path("scale");
        let ledger = Ledger::open(path.clone(), &Log::discard());
        ledger.scale("orders", 3, 5).expect("writable");
        assert_eq!(ledger.instances("orders", 3), (5, true));
        assert_eq!(
            Ledger::open(path.clone(), &Log::discard()).instances("orders", 3),
            (5, true),
            "a restart keeps it"
        );
        assert_eq!(ledger.instances("orders", 4), (4, false));
        assert_eq!(ledger.instances("orders", 3), (3, false), "once void it stays void");
        fs::remove_file(path).expect("it was written");
    }

    #[test]
    fn a_number_that_cannot_be_written_does_not_hold() {
        let ledger = Ledger::open(path("no-such-folder").join("ledger.json"), &Log::discard());
        assert!(ledger.scale("orders", 3, 5).is_err());
        assert_eq!(ledger.instances("orders", 3), (3, false));
    }

    #[test]
    fn a_release_is_remembered() {
        let path = path("release");
        let ledger = Ledger::open(path.clone(), &Log::discard());
        assert!(!ledger.is_released("orders", "a"));
        ledger.released("orders", "a").expect("writable");
        assert!(Ledger::open(path.clone(), &Log::discard()).is_released("orders", "a"));
        fs::remove_file(path).expect("it was written");
    }

    #[test]
    fn a_damaged_ledger_is_set_aside_and_begun_anew() {
        let path = path("damaged");
        fs::write(&path, "{").expect("writable");
        assert_eq!(Ledger::open(path.clone(), &Log::discard()).instances("orders", 2), (2, false));
        let aside = path.with_extension("json.aside");
        assert_eq!(fs::read_to_string(&aside).expect("it was set aside"), "{");
        fs::remove_file(aside).expect("it is there");
    }
}
