//! The Unix socket, and who owns the state folder.
//!
//! A lock file says which Terrace is alive: the system lets go of the lock when its holder dies, however it dies, so a
//! socket found beside an unlocked lock file is stale and may be replaced without guessing.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::admin::BuildError;

/// `sun_path` holds 108 bytes with its terminating zero (unix(7)); macOS has 104.
const PATH_BYTES_MAX: usize = 103;

/// The socket's name in the state folder.
pub(crate) const NAME: &str = "admin.sock";

/// The lock file's name in the state folder.
pub(crate) const LOCK: &str = "terrace.lock";

/// The listening socket and the lock on the state folder. Both are given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    inode: u64,
    /// Held for as long as this Terrace lives.
    lock: Option<File>,
}

/// The state folder, taken until this is dropped.
#[derive(Debug)]
pub struct Claim(pub(crate) Socket);

impl Claim {
    /// Removes the socket, and leaves the folder taken until the process is gone: only then is everything free that
    /// another Terrace wants, its listeners' addresses too.
    pub fn until_exit(mut self) {
        std::mem::forget(self.0.lock.take());
    }
}

impl Socket {
    /// Takes the state folder and listens in it.
    pub(crate) fn open(state: &Path) -> Result<(Self, UnixListener), BuildError> {
        let failed = |what: &'static str| {
            move |source: io::Error| BuildError::State { what, path: state.to_owned(), source }
        };
        check_owner(state)?;
        let lock = take_lock(state)?;
        let path = state.join(NAME);
        remove(&path).map_err(failed("remove the stale socket in"))?;
        let listener = bind(&path).map_err(failed("listen on the socket in"))?;
        let inode = fs::metadata(&path).map_err(failed("see the socket in"))?.ino();
        Ok((Self { path, inode, lock: Some(lock) }, listener))
    }
}

impl Drop for Socket {
    /// Removes the socket, unless somebody else put another there meanwhile.
    fn drop(&mut self) {
        if fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _already_gone = fs::remove_file(&self.path);
        }
    }
}

/// Sees that the state folder, which is made where it is not there, is free and fit to hold keys: its owner may put any file
/// into it, so it must be this user's or root's, and nobody else may write there.
///
/// # Errors
/// The user's to put right; [`BuildError::State`] and [`BuildError::AlreadyRunning`].
pub fn check_state_folder(state: &Path) -> Result<(), BuildError> {
    check_owner(state)?;
    take_lock(state).map(drop)
}

fn check_owner(state: &Path) -> Result<(), BuildError> {
    let failed = |source| BuildError::State { what: "use the state folder", path: state.to_owned(), source };
    make_folder(state).map_err(failed)?;
    let owner = fs::metadata(state).map_err(failed)?.uid();
    let own = rustix::process::geteuid().as_raw();
    if owner == own || owner == 0 {
        return Ok(());
    }
    Err(failed(io::Error::other(format!(
        "it belongs to user {owner}, who could put keys of their own into it, and you are user {own}; \
         start Terrace as that user (sudo -u '#{owner}'), or take the folder over (chown -R {own})"
    ))))
}

/// Makes the folder, private. One that exists is left as it is, since it may be more than ours, but others must not be
/// able to put files into it: that they can look is harmless, for the socket and the files in it are private themselves.
fn make_folder(state: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(state)?;
    if fs::metadata(state)?.permissions().mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write into it; `chmod go-w` it"));
    }
    Ok(())
}

/// Takes the state folder, made where it is not there, for as long as the file is open.
pub(crate) fn take(state: &Path) -> Result<File, BuildError> {
    let failed = |source| BuildError::State { what: "make the state folder", path: state.to_owned(), source };
    make_folder(state).map_err(failed)?;
    take_lock(state)
}

fn take_lock(state: &Path) -> Result<File, BuildError> {
    let failed = |source: io::Error| BuildError::State {
        what: "lock the state folder",
        path: state.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(state.join(LOCK)).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(BuildError::AlreadyRunning { state: state.to_owned(), pid: holder(&mut file) });
        }
        Err(errno) => return Err(failed(errno.into())),
    }
    write_holder(&mut file).map_err(failed)?;
    Ok(file)
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(20).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let short = Short::of(path)?;
    let listener = UnixListener::bind(&short.path)?;
    // Whoever connects in between is told apart by credentials.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A name for a socket that the system accepts: a long one is spoken of through its open folder.
#[derive(Debug)]
pub(crate) struct Short {
    pub(crate) path: PathBuf,
    _folder: Option<File>,
}

impl Short {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let (folder, name) = match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) if path.as_os_str().len() > PATH_BYTES_MAX => (folder, name),
            _ => return Ok(Self { path: path.to_owned(), _folder: None }),
        };
        let folder = File::open(folder)?;
        let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
        Ok(Self { path: short, _folder: Some(folder) })
    }
}
