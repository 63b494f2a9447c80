//! Who of several machines orders a certificate: the one whose lock file is there. The others wait, and find the
//! certificate when it has come.
//!
//! A lock file is made so that only one can make it (`O_EXCL`, which holds on network file systems too), and its holder
//! writes a new text into it every ten seconds. How can the others tell that a holder died? Not by any time in the file:
//! clocks differ. They *watch*: a text that stays the same for a minute of their own monotonic clock is nobody's any more.
//! On the same machine it goes faster, since a holder also holds the file by `flock`, which ends with its process.
//!
//! Should two take over at the same moment, or should a holder wake up after more than a minute, both order. That costs an
//! order, and nothing else: certificates are written whole, and the last one written is as good as the first.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use terrace_runtime::{clock, random};
use tokio::task::JoinHandle;

use crate::disk::Disk;

/// How often a holder says that it lives.
const BEAT: Duration = Duration::from_secs(10);
/// After so long without a word a lock is nobody's.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Bytes of a lock file that are read.
const TEXT_BYTES_MAX: u64 = 256;

/// A lock that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    disk: Disk,
    held: Option<Arc<Mutex<Held>>>,
    beating: JoinHandle<()>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.beating.abort();
        if let Some(held) = self.held.take() {
            self.disk.spawn(move |_| held.lock().unwrap_or_else(PoisonError::into_inner).release());
        }
    }
}

/// A lock of somebody else's, watched for whether its holder lives.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    text: Vec<u8>,
    since: Duration,
}

impl Watched {
    /// Notes what stands in the lock now; says whether it has been the same for too long.
    fn is_silent(&mut self, text: &[u8], now: Duration) -> bool {
        if self.text != text || self.since == Duration::ZERO {
            *self = Self { text: text.to_vec(), since: now };
        }
        now.saturating_sub(self.since) > SILENCE_MAX
    }
}

impl Lock {
    /// Takes the lock of that name if it is nobody's. `watched` is what was seen of it so far.
    ///
    /// # Errors
    /// The folder's. Whoever cannot lock may go on without.
    pub(crate) async fn take(disk: &Disk, name: &str, watched: &mut Watched) -> io::Result<Option<Self>> {
        let name = name.to_owned();
        let known = std::mem::take(watched);
        let (tried, known) = disk
            .run(move |store| {
                let mut known = known;
                let tried = try_take(&store.lock_path(&name)?, &mut known, clock::now())?;
                Ok((tried, known))
            })
            .await?;
        *watched = known;
        Ok(tried.map(|held| Self::beating(disk.clone(), held)))
    }

    fn beating(disk: Disk, held: Held) -> Self {
        let held = Arc::new(Mutex::new(held));
        let (beats, beaten) = (disk.clone(), Arc::clone(&held));
        let beating = tokio::spawn(async move {
            loop {
                tokio::time::sleep(BEAT).await;
                let beaten = Arc::clone(&beaten);
                // A beat that was missed is made up for by the next; too many, and the lock is another's.
                let _missed =
                    beats.run(move |_| beaten.lock().unwrap_or_else(PoisonError::into_inner).beat()).await;
            }
        });
        Self { disk, held: Some(held), beating }
    }
}

/// A lock file that is ours.
#[derive(Debug)]
struct Held {
    path: PathBuf,
    file: File,
    holder: String,
    beats: u64,
}

impl Held {
    /// Makes the file, if there is none.
    fn make(path: &Path) -> io::Result<Option<Self>> {
        let made = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            made => made?,
        };
        // Before anything says whose it is, or a neighbour could take us for dead. A file system that cannot do it has
        // its holders watched instead.
        let _watched_instead = file.try_lock();
        let holder = format!("{} {:016x}", machine(), random::u64());
        let mut held = Self { path: path.to_owned(), file, holder, beats: 0 };
        match held.beat() {
            Ok(()) => Ok(Some(held)),
            Err(error) => {
                held.release();
                Err(error)
            }
        }
    }

    /// Says that the holder lives.
    fn beat(&mut self) -> io::Result<()> {
        self.beats += 1;
        let text = format!("{} {}\n", self.holder, self.beats);
        self.file.rewind()?;
        self.file.set_len(0)?;
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()
    }

    /// Whether the file at the path is the one that was made.
    fn is_ours(&self) -> bool {
        let inode = |metadata: io::Result<fs::Metadata>| {
            metadata.map(|metadata| (metadata.dev(), metadata.ino())).ok()
        };
        inode(self.file.metadata()).is_some_and(|ours| inode(fs::metadata(&self.path)) == Some(ours))
    }

    fn release(&mut self) {
        if self.is_ours() {
            let _gone_already = fs::remove_file(&self.path);
        }
    }
}

fn try_take(path: &Path, watched: &mut Watched, now: Duration) -> io::Result<Option<Held>> {
    if let Some(held) = Held::make(path)? {
        return Ok(Some(held));
    }
    let Some((text, is_abandoned)) = theirs(path)? else { return Held::make(path) };
    if !is_abandoned && !watched.is_silent(&text, now) {
        return Ok(None);
    }
    if !set_aside(path, &text)? {
        return Ok(None);
    }
    Held::make(path)
}

/// What stands in the lock of somebody else, and whether its holder is known to have died; nothing when it is gone.
fn theirs(path: &Path) -> io::Result<Option<(Vec<u8>, bool)>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let text = text_of(&file)?;
    let is_here = text.split(|byte| *byte == b' ').next() == Some(machine().as_bytes());
    let is_abandoned = is_here && file.try_lock().is_ok();
    Ok(Some((text, is_abandoned)))
}

fn text_of(file: &File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(TEXT_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Takes the lock with that text away; whether it was that one.
fn set_aside(path: &Path, text: &[u8]) -> io::Result<bool> {
    let aside = path.with_extension(format!("{:016x}.old", random::u64()));
    match fs::rename(path, &aside) {
        // Another was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        renamed => renamed?,
    }
    let is_it = File::open(&aside).and_then(|file| text_of(&file)).is_ok_and(|found| found == text);
    if !is_it {
        // Another was faster, and this is its lock: it gets it back, unless a third has one by now.
        let _a_third_has_one = fs::hard_link(&aside, path);
    }
    fs::remove_file(&aside)?;
    Ok(is_it)
}

/// What tells this machine, as it runs now, from others.
fn machine() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id: String = id.chars().filter(|char| char.is_ascii_hexdigit()).take(32).collect();
    // Without it nobody is a neighbour, and every lock is watched.
    if id.is_empty() { format!("unknown-{:016x}", random::u64()) } else { id }
}

#[cfg(test)]
mod tests {
    use terrace_testkit::Folder;

    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    fn watched() -> Watched {
        Watched::default()
    }

    fn take(path: &Path, watched: &mut Watched, now: Duration) -> Option<Held> {
        try_take(path, watched, now).expect("a folder of ours")
    }

    #[test]
    fn one_has_the_lock_and_the_next_has_it_afterwards() {
        let folder = Folder::new();
        let path = folder.join("a.lock");
        let mut first = take(&path, &mut watched(), SOON).expect("it is free");
        assert!(take(&path, &mut watched(), SOON).is_none(), "it is held");
        first.release();
        assert!(take(&path, &mut watched(), SOON).is_some());
    }

    #[test]
    fn a_neighbour_that_died_is_followed_at_once() {
        let folder = Folder::new();
        let path = folder.join("a.lock");
        let dead = take(&path, &mut watched(), SOON).expect("it is free");
        // As its process ends, so does its hold on the file; the file stays.
        drop(dead);
        assert!(path.exists());
        assert!(take(&path, &mut watched(), SOON).is_some());
    }

    #[test]
    fn a_machine_elsewhere_is_believed_dead_after_a_minute_of_silence_only() {
        let folder = Folder::new();
        let path = folder.write("a.lock", "another-machine 0011 7\n");
        let mut watched = watched();
        let at = |seconds| Duration::from_secs(seconds);
        assert!(take(&path, &mut watched, at(1)).is_none());
        assert!(take(&path, &mut watched, at(59)).is_none());
        folder.write("a.lock", "another-machine 0011 8\n");
        assert!(take(&path, &mut watched, at(62)).is_none(), "it lives");
        assert!(take(&path, &mut watched, at(122)).is_none());
        let mut ours = take(&path, &mut watched, at(123)).expect("it is dead");
        assert!(ours.is_ours() && ours.beat().is_ok());
        let left = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 1, "what was set aside is gone");
    }

    #[test]
    fn who_was_believed_dead_does_not_take_the_lock_of_its_successor_away() {
        let folder = Folder::new();
        let path = folder.join("a.lock");
        let mut slept = take(&path, &mut watched(), SOON).expect("it is free");
        let text = fs::read(&path).expect("there");
        assert!(set_aside(&path, &text).expect("a folder of ours"));
        let successor = take(&path, &mut watched(), SOON).expect("it is free");
        slept.release();
        assert!(successor.is_ours());
    }

    #[test]
    fn a_lock_that_is_not_the_silent_one_any_more_is_given_back() {
        let folder = Folder::new();
        let path = folder.join("a.lock");
        let fresh = take(&path, &mut watched(), SOON).expect("it is free");
        assert!(!set_aside(&path, b"another-machine 0011 7\n").expect("a folder of ours"));
        assert!(fresh.is_ours());
    }

    #[test]
    fn a_lock_file_full_of_noise_stops_nobody_for_ever() {
        let folder = Folder::new();
        let path = folder.join("a.lock");
        for noise in [vec![], vec![0xff; 10_000]] {
            fs::write(&path, &noise).expect("a folder of ours");
            let mut watched = watched();
            assert!(take(&path, &mut watched, SOON).is_none());
            let late = SOON + SILENCE_MAX + SOON;
            let Some(mut held) = take(&path, &mut watched, late) else {
                panic!("{} bytes of noise hold it", noise.len());
            };
            held.release();
        }
    }
}
