//! Small files in the state folder that several processes and machines may change.
//!
//! Whoever changes one holds a lock beside it, reads it anew, writes it whole under another name, waits for the disk and
//! puts it in the old one's place. So a reader sees one or the other and needs no lock, a crash leaves one or the
//! other, and two machines that share the folder do not undo each other's changes. What a [`Mark`] says is how the others
//! notice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Gid, OFlags, Uid, flock};

/// A larger file is none of ours.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// How long another's change is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_LOOK: Duration = Duration::from_millis(20);

/// Why a file of the state folder could not be read or changed. What was there before is still there.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
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
    /// Somebody else changes it and does not end; a retry may help.
    #[error("somebody else holds {path} since {LOCK_WAIT:?}; who is it?", path = .0.display())]
    Locked(PathBuf),
}

/// By what a changed file is told from the one that was read. The default is that of no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    inode: u64,
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

/// The folder. Every method waits for the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    folder: PathBuf,
}

/// Held by whoever changes files; the system lets go of it when its holder dies.
pub(crate) struct Lock {
    _file: File,
}

impl Files {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A whole file, or nothing when there is none.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FileError> {
        let path = self.path(name);
        read_bounded(&path).map_err(|source| failed("read", &path, source))
    }

    /// To be compared with an earlier one; one call of the system.
    pub(crate) fn mark(&self, name: &str) -> Mark {
        let Ok(metadata) = fs::metadata(self.path(name)) else { return Mark::default() };
        Mark {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        }
    }

    /// The lock of that name.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock, FileError> {
        let path = self.path(name);
        let file = self.open_lock(&path).map_err(|source| failed("open", &path, source))?;
        let mut waited = Duration::ZERO;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) if waited < LOCK_WAIT => {
                    std::thread::sleep(LOCK_LOOK);
                    waited += LOCK_LOOK;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(FileError::Locked(path)),
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

    /// Puts a whole file in the place of the old one, on disk before this returns where it `is_durable`. Under the lock, so
    /// that the partial file is nobody else's; what lies at its place, perhaps a link, is not written into.
    pub(crate) fn write(
        &self,
        _lock: &Lock,
        name: &str,
        content: &[u8],
        is_durable: bool,
    ) -> Result<(), FileError> {
        let partial = self.path(&format!("{name}.partial"));
        let written = || -> io::Result<()> {
            match fs::remove_file(&partial) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
            self.give_to_owner(&file)?;
            file.write_all(content)?;
            if is_durable {
                file.sync_all()?;
            }
            fs::rename(&partial, self.path(name))?;
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

fn failed(what: &'static str, path: &Path, source: io::Error) -> FileError {
    FileError::Io { what, path: path.to_owned(), source }
}
