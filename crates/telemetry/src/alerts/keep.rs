//! The state file: written whole beside the old one, then put in its place.
//!
//! So a crash at any moment leaves the old state or the new one, never half of one. What cannot be read back is set
//! aside, not overwritten: it may hold a month's budget that somebody wants to see.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use terrace_signals::alerts::{Saved, StateError};

/// In the state folder.
const NAME: &str = "alerts.json";
/// A state larger than this was not written by us: a thousand objectives need less.
const BYTES_MAX: u64 = 512 << 20;

/// Why a state could not be read. It is set aside.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("{0}")]
    State(#[from] StateError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The file in a state folder.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// What was saved; `None` when nothing was. What cannot be read is renamed to `alerts.json.aside`, in the place of an
/// older one.
pub(super) fn load(path: &Path) -> Result<Option<Saved>, Unreadable> {
    let read = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error.into()),
        Ok(found) if found.len() > BYTES_MAX => Err(StateError::Damaged("it is too large".to_owned()).into()),
        Ok(_) => fs::read(path).map_err(Unreadable::from),
    };
    let saved = read.and_then(|json| Ok(Saved::parse(&json)?));
    match saved {
        Ok(saved) => Ok(Some(saved)),
        Err(error) => {
            let mut aside = path.as_os_str().to_owned();
            aside.push(".aside");
            fs::rename(path, aside)?;
            Err(error)
        }
    }
}

/// Puts `json` in the place of what was saved, readable by this user alone; on disk when it returns.
pub(super) fn write(path: &Path, json: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(json)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The name, too, must be on disk.
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
