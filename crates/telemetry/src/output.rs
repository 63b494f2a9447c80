//! The places lines are written to, and how each can fail without anybody noticing but the counters.
//!
//! A batch is whole lines. When a write breaks off in the middle of one (disk full, most often), what could not be
//! written is lost and counted, and the next batch begins on a fresh line, so that at most one line is spoilt.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use terrace_signals::records::rfc3339;

use crate::config::{Destination, Rotation, Style};
use crate::pretty::Pretty;

/// How often a file's name is looked at, to see whether somebody moved the file away.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// A standard stream set to non-blocking by somebody else is given this long in sum to take a batch.
const WOULD_BLOCK_TRIES_MAX: u32 = 50;
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(20);

/// One open destination.
#[derive(Debug)]
pub(crate) struct Output {
    target: Option<Target>,
    /// For people, when it is a terminal.
    pub(crate) pretty: Option<Pretty>,
    /// The last write broke off within a line.
    torn: bool,
}

#[derive(Debug)]
struct Target {
    file: File,
    log_file: Option<LogFile>,
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    bytes: u64,
    /// When its first line was written; `None` for an empty file.
    began: Option<SystemTime>,
    followed_at: Duration,
}

impl Output {
    /// Opens a destination. For a file, the error names what is wrong with it.
    pub(crate) fn open(destination: &Destination, style: Style, rotation: Rotation) -> io::Result<Self> {
        let mut pretty = None;
        let target = match destination {
            Destination::Off => None,
            Destination::Stdout => {
                let stdout = io::stdout();
                pretty = pretty_for(style, stdout.is_terminal());
                Some(Target::stream(stdout.as_fd().try_clone_to_owned()?.into()))
            }
            Destination::Stderr => {
                let stderr = io::stderr();
                pretty = pretty_for(style, stderr.is_terminal());
                Some(Target::stream(stderr.as_fd().try_clone_to_owned()?.into()))
            }
            Destination::File(path) => Some(Target::log_file(path, rotation)?),
        };
        Ok(Self { target, pretty, torn: false })
    }

    /// Writes whole lines, and says how many were lost. Never waits for a disk that is full. `now` is since the clock's
    /// start, `wall` the time of day.
    pub(crate) fn write(&mut self, now: Duration, wall: SystemTime, lines: &[u8]) -> u64 {
        let Some(target) = &mut self.target else { return 0 };
        if lines.is_empty() {
            return 0;
        }
        let is_fresh = target.follow(now) | target.set_aside_when_old(wall);
        self.torn &= !is_fresh;
        if self.torn && write_some(&mut target.file, b"\n") == 1 {
            self.torn = false;
        }
        let written = if self.torn { 0 } else { write_some(&mut target.file, lines) };
        self.torn |= written > 0 && lines[written - 1] != b'\n';
        self.torn &= !target.grew(written, wall);
        lines[written..].iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// Opens the file of this name anew, as after a log rotation by somebody else.
    pub(crate) fn reopen(&mut self) {
        if let Some(target) = &mut self.target {
            self.torn &= !target.reopen();
        }
    }
}

fn pretty_for(style: Style, terminal: bool) -> Option<Pretty> {
    match style {
        Style::Json => None,
        Style::Plain => Some(Pretty::new(false)),
        Style::Colour => Some(Pretty::new(true)),
        // https://no-color.org: set and not empty.
        Style::Auto if terminal => {
            Some(Pretty::new(std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())))
        }
        Style::Auto => None,
    }
}

/// Writes what can be written, and says how many bytes that was.
fn write_some(file: &mut File, bytes: &[u8]) -> usize {
    let mut written = 0;
    let mut tries_left = WOULD_BLOCK_TRIES_MAX;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && tries_left > 0 => {
                tries_left -= 1;
                std::thread::sleep(WOULD_BLOCK_PAUSE);
            }
            Err(_) => break,
        }
    }
    written
}

impl Target {
    fn stream(file: File) -> Self {
        Self { file, log_file: None }
    }

    fn log_file(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let file = open_file(path)?;
        let metadata = file.metadata()?;
        // A device such as /dev/null is written to, but never renamed.
        let log_file = metadata.is_file().then(|| LogFile {
            path: path.to_owned(),
            rotation,
            bytes: metadata.len(),
            began: began(path, &metadata),
            followed_at: Duration::ZERO,
        });
        Ok(Self { file, log_file })
    }

    /// Sees once a second whether the name still leads to the open file, and opens it anew when not; says whether it did.
    fn follow(&mut self, now: Duration) -> bool {
        let Some(log_file) = &mut self.log_file else { return false };
        if now.saturating_sub(log_file.followed_at) < FOLLOW_EVERY {
            return false;
        }
        log_file.followed_at = now;
        let here = fs::metadata(&log_file.path).map(|metadata| (metadata.dev(), metadata.ino()));
        let open = self.file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        here.ok() != open.ok() && self.reopen()
    }

    /// When the name cannot be opened the old file is written on: it may have been moved, not deleted.
    fn reopen(&mut self) -> bool {
        let Some(log_file) = &mut self.log_file else { return false };
        let Ok(file) = open_file(&log_file.path) else { return false };
        let metadata = file.metadata();
        log_file.bytes = metadata.as_ref().map_or(0, fs::Metadata::len);
        log_file.began = metadata.ok().and_then(|metadata| began(&log_file.path, &metadata));
        self.file = file;
        true
    }

    /// Before a line is written, so that the new file begins with it. A clock that was set back makes nothing old.
    fn set_aside_when_old(&mut self, wall: SystemTime) -> bool {
        let Some(log_file) = &mut self.log_file else { return false };
        let (Some(age_max), Some(began)) = (log_file.rotation.age_max, log_file.began) else { return false };
        if wall.duration_since(began).unwrap_or_default() < age_max {
            return false;
        }
        // From here on anew, also when it fails: not to be tried again for each batch.
        log_file.began = Some(wall);
        self.set_aside()
    }

    /// Says whether the file was set aside for its size.
    fn grew(&mut self, bytes: usize, wall: SystemTime) -> bool {
        let Some(log_file) = &mut self.log_file else { return false };
        log_file.bytes += bytes as u64;
        if bytes > 0 {
            log_file.began.get_or_insert(wall);
        }
        if log_file.rotation.bytes_max == 0 || log_file.bytes < log_file.rotation.bytes_max {
            return false;
        }
        // As above.
        log_file.bytes = 0;
        self.set_aside()
    }

    fn set_aside(&mut self) -> bool {
        let Some(log_file) = &mut self.log_file else { return false };
        if log_file.rotation.files_kept_max > 0 {
            return log_file.set_aside().is_ok() && self.reopen();
        }
        let is_empty = self.file.set_len(0).is_ok();
        if is_empty {
            (log_file.bytes, log_file.began) = (0, None);
        }
        is_empty
    }
}

/// When the first line of a log was written: what the line itself says, so that a copied file keeps its age; else when
/// the file was made, or where that is not known last changed.
fn began(path: &Path, metadata: &fs::Metadata) -> Option<SystemTime> {
    /// Room for the key and a time with microseconds.
    const HEAD_BYTES_MAX: u64 = 40;
    if metadata.len() == 0 {
        return None;
    }
    let mut head = String::new();
    let read = File::open(path).and_then(|file| file.take(HEAD_BYTES_MAX).read_to_string(&mut head));
    let time = read.ok().and_then(|_| head.strip_prefix("{\"time\":\"")?.split('"').next());
    time.and_then(rfc3339).or_else(|| metadata.created().or_else(|_| metadata.modified()).ok())
}

impl LogFile {
    fn older(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }

    /// Renames from the oldest to the newest; the oldest is overwritten, and what is left of times when more were kept goes.
    fn set_aside(&self) -> io::Result<()> {
        for number in (1..self.rotation.files_kept_max).rev() {
            match fs::rename(self.older(number), self.older(number + 1)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.older(1))?;
        let mut surplus = self.rotation.files_kept_max.saturating_add(1)..;
        while surplus.next().is_some_and(|number| fs::remove_file(self.older(number)).is_ok()) {}
        Ok(())
    }
}

/// Opens for appending; new files are readable by owner and group only, since they name clients.
fn open_file(path: &Path) -> io::Result<File> {
    match fs::metadata(path) {
        // Opening a pipe that nobody reads would hang.
        Ok(metadata) if metadata.file_type().is_fifo() || metadata.is_dir() => {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "it is no file; for a pipe use \"stdout\" or \"stderr\"",
            ));
        }
        _ => {}
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
