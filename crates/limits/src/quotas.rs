//! Quotas on disk: what each key has used of its day and month, so that a restart gives nobody a second helping.
//!
//! Each record says how much was used in all, not how much more, so one that is lost is made good by the next, and one that
//! is read twice changes nothing. A task gathers what changed for some milliseconds, appends one record for each key, and
//! has the disk take it once a second. So a crash of Terrace forgets what was let through within those milliseconds, and
//! never more than [`UNWRITTEN_MAX`] requests of a key: who comes beyond that waits for the next write. A loss of power
//! forgets about a second. When the file has grown to twice what it has to say it is written anew, beside the old one, which
//! it then replaces.
//!
//! When the disk takes nothing (full, broken) requests do not wait for it: they are counted in memory, an event and a metric
//! say that the counts are not safe, and the task tries on.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::digest;
use rustc_hash::FxHashMap;
use terrace_instruments::{Counter, Event, Level, Log};
use terrace_policy::limit::QuotaUse;
use terrace_runtime::clock;
use terrace_runtime::drain::Drain;
use tokio::sync::{Notify, watch};

use crate::limit::wall;

/// Requests of one key that are let through and not written down yet; twice half of it, for one half may be on its way.
pub(crate) const UNWRITTEN_MAX: u32 = 100;
/// How long changes are gathered.
const GATHER: Duration = Duration::from_millis(10);
/// How often the disk is made to take what was written.
const SYNC: Duration = Duration::from_secs(1);
/// Between attempts when it does not go.
const RETRY: Duration = Duration::from_secs(1);
/// The file is not written anew before it is that large.
const REWRITE_BYTES_MIN: u64 = 1 << 20;
/// Keys that the file remembers; beyond that, those that used least are left out when it is written anew.
const KEYS_MAX: usize = 2_000_000;

const MAGIC: &[u8; 16] = b"terrace quota 1\n";
const RECORD_BYTES: usize = 56;
const CHECK_BYTES: usize = 8;

/// Which limit a record is of: a hash of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LimitId(u64);

impl LimitId {
    pub(crate) fn of(name: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, name.as_bytes());
        Self(u64::from_be_bytes(digest.as_ref().first_chunk().copied().unwrap_or_default()))
    }
}

type Keyed<T> = FxHashMap<(LimitId, u128), T>;

/// What a key of a limit has used.
pub(crate) type Record = ((LimitId, u128), QuotaUse);

/// The quotas of all limits.
#[derive(Debug)]
pub(crate) struct Quotas {
    folder: PathBuf,
    changed: Mutex<Changed>,
    /// What the file says.
    known: Mutex<Keyed<QuotaUse>>,
    /// Something has changed.
    wake: Notify,
    /// Somebody waits for it to be written.
    hurry: Notify,
    written: watch::Sender<u64>,
    is_failing: AtomicBool,
}

/// What changed since the last write.
#[derive(Debug, Default)]
struct Changed {
    /// How many writes there were before the one that will have it.
    round: u64,
    keys: Keyed<Change>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Change {
    used: QuotaUse,
    /// Requests let through since the last write.
    requests: u32,
}

/// Waits until what a request took is written down.
#[derive(Debug)]
pub struct Unwritten {
    round: u64,
    written: watch::Receiver<u64>,
}

impl Unwritten {
    /// Nobody waits for the disk for longer.
    pub const WITHIN: Duration = Duration::from_millis(50);

    /// Resolves when it is written.
    pub async fn written(&mut self) {
        let round = self.round;
        let _the_end_is_near = self.written.wait_for(|written| *written > round).await;
    }
}

impl Quotas {
    /// Reads what is kept in `folder`, which is made if there is none.
    ///
    /// # Errors
    /// What the system says: the operator's to put right.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let bytes = match fs::read(folder.join("quotas")) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut known: Keyed<QuotaUse> = Keyed::default();
        let now = wall();
        for (key, used) in read(&bytes) {
            // One that a clock far ahead has written must not stand above what came after it.
            let used = used.not_far_ahead_of(now);
            known.entry(key).and_modify(|known| *known = known.at_least(&used)).or_insert(used);
        }
        Ok(Self {
            folder: folder.to_owned(),
            changed: Mutex::default(),
            known: Mutex::new(known),
            wake: Notify::new(),
            hurry: Notify::new(),
            written: watch::Sender::new(0),
            is_failing: AtomicBool::new(false),
        })
    }

    /// What is known of a limit's keys.
    pub(crate) fn of_limit(&self, id: LimitId) -> Vec<(u128, QuotaUse)> {
        let mut found: HashMap<u128, QuotaUse> = HashMap::new();
        let known = lock(&self.known);
        found.extend(known.iter().filter(|((of, _), _)| *of == id).map(|((_, key), used)| (*key, *used)));
        drop(known);
        let changed = lock(&self.changed);
        let newer = changed.keys.iter().filter(|((of, _), _)| *of == id);
        found.extend(newer.map(|((_, key), change)| (*key, change.used)));
        found.into_iter().collect()
    }

    /// A request was let through, and its key has used so much now. Something to wait for, when too many of it were not
    /// written down yet.
    pub(crate) fn note(&self, id: LimitId, key: u128, used: QuotaUse) -> Option<Unwritten> {
        let mut changed = lock(&self.changed);
        let is_first = changed.keys.is_empty();
        let change = changed.keys.entry((id, key)).or_default();
        // Several cores may come here in another order than they were decided about.
        change.used = change.used.at_least(&used);
        change.requests += 1;
        let must_wait = change.requests > UNWRITTEN_MAX / 2 && !self.is_failing.load(Ordering::Relaxed);
        let round = changed.round;
        drop(changed);
        if is_first {
            self.wake.notify_one();
        }
        if !must_wait {
            return None;
        }
        self.hurry.notify_one();
        Some(Unwritten { round, written: self.written.subscribe() })
    }

    /// A key was given something back.
    pub(crate) fn correct(&self, id: LimitId, key: u128, used: QuotaUse) {
        let mut changed = lock(&self.changed);
        let is_first = changed.keys.is_empty();
        changed.keys.entry((id, key)).or_default().used = used;
        drop(changed);
        if is_first {
            self.wake.notify_one();
        }
    }

    /// Writes until `drain` asks for an end, then once more.
    pub(crate) async fn run(self: Arc<Self>, log: Log, failures: Counter, mut drain: Drain) {
        let mut writer =
            Writer { folder: self.folder.clone(), file: None, synced_at: clock::now(), bytes_max: 0 };
        let mut is_ending = false;
        while !is_ending {
            is_ending = tokio::select! {
                () = self.wake.notified() => self.gather(&mut drain).await,
                () = drain.requested() => true,
                // What was written last still has to be taken by the disk.
                () = tokio::time::sleep(SYNC), if writer.is_unsynced() => false,
            };
            let (round, keys) = self.begin_round();
            let quotas = Arc::clone(&self);
            let wrote = tokio::task::spawn_blocking(move || {
                let result = writer.write(&quotas, &keys, is_ending);
                (writer, keys, result)
            });
            let Ok((back, keys, result)) = wrote.await else { return };
            writer = back;
            match result {
                Ok(()) => self.end_round(round, &log),
                Err(error) => {
                    failures.inc();
                    self.fail(keys, &error, &log);
                    writer.file = None;
                    is_ending |= self.pause(&mut drain).await;
                }
            }
        }
    }

    /// Whether the end was asked for.
    async fn gather(&self, drain: &mut Drain) -> bool {
        tokio::select! {
            () = tokio::time::sleep(GATHER) => false,
            () = self.hurry.notified() => false,
            () = drain.requested() => true,
        }
    }

    async fn pause(&self, drain: &mut Drain) -> bool {
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {
                self.wake.notify_one();
                false
            }
            () = drain.requested() => true,
        }
    }

    fn begin_round(&self) -> (u64, Keyed<Change>) {
        let mut changed = lock(&self.changed);
        changed.round += 1;
        (changed.round, std::mem::take(&mut changed.keys))
    }

    fn end_round(&self, round: u64, log: &Log) {
        self.written.send_replace(round);
        if self.is_failing.swap(false, Ordering::Relaxed) {
            log.emit(Event::new(Level::Info, "limits.quotas.safe").message("quotas are written down again"));
        }
    }

    /// What could not be written is to be written the next time, but for what has changed since.
    fn fail(&self, keys: Keyed<Change>, error: &io::Error, log: &Log) {
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            let event = Event::new(Level::Error, "limits.quotas.unsafe")
                .field("file", self.folder.join("quotas").display().to_string())
                .field("reason", error.to_string())
                .message("quotas cannot be written down; what is used now would be forgotten in a crash");
            log.emit(event);
        }
        let mut changed = lock(&self.changed);
        for (key, change) in keys {
            changed.keys.entry(key).or_insert(change);
        }
        let round = changed.round;
        drop(changed);
        // Nobody shall wait for what does not come.
        self.written.send_replace(round);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Maps of plain values are whole after any panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file, on a thread that may wait for the disk.
#[derive(Debug)]
struct Writer {
    folder: PathBuf,
    file: Option<Open>,
    synced_at: Duration,
    /// At that size the file is written anew.
    bytes_max: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
    is_synced: bool,
}

impl Writer {
    fn is_unsynced(&self) -> bool {
        self.file.as_ref().is_some_and(|open| !open.is_synced)
    }

    fn write(&mut self, quotas: &Quotas, keys: &Keyed<Change>, is_last: bool) -> io::Result<()> {
        if !keys.is_empty() {
            let mut known = lock(&quotas.known);
            known.extend(keys.iter().map(|(key, change)| (*key, change.used)));
            let is_due = self.file.as_ref().is_none_or(|open| open.bytes >= self.bytes_max);
            let anew = if is_due { Some(whole(&mut known)) } else { None };
            drop(known);
            match anew {
                Some(bytes) => self.rewrite(&bytes)?,
                None => self.append(keys)?,
            }
        }
        let is_due = is_last || clock::now() >= self.synced_at + SYNC;
        match &mut self.file {
            Some(open) if is_due && !open.is_synced => {
                open.file.sync_data()?;
                open.is_synced = true;
                self.synced_at = clock::now();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn append(&mut self, keys: &Keyed<Change>) -> io::Result<()> {
        let Some(open) = &mut self.file else { return Ok(()) };
        let mut out = Vec::with_capacity(keys.len() * RECORD_BYTES);
        keys.iter().for_each(|(key, change)| push(&mut out, *key, &change.used));
        open.file.write_all(&out)?;
        open.bytes += out.len() as u64;
        open.is_synced = false;
        Ok(())
    }

    /// Puts a new file in the place of the old one, which stays as it is if that fails.
    fn rewrite(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (path, partial) = (self.folder.join("quotas"), self.folder.join("quotas.partial"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&partial, &path)?;
        File::open(&self.folder)?.sync_all()?;
        let bytes = bytes.len() as u64;
        self.bytes_max = (bytes * 2).max(REWRITE_BYTES_MIN);
        self.file = Some(Open { file, bytes, is_synced: true });
        Ok(())
    }
}

/// A file that says all that is known and not over.
fn whole(known: &mut Keyed<QuotaUse>) -> Vec<u8> {
    let now = wall();
    known.retain(|_, used| !used.is_over(now));
    if known.len() > KEYS_MAX {
        let mut used: Vec<u64> = known.values().map(|used| used.in_month).collect();
        let (_, least, _) = used.select_nth_unstable(known.len() - KEYS_MAX);
        let least = *least;
        known.retain(|_, used| used.in_month > least);
    }
    let records: Vec<Record> = known.iter().map(|(key, used)| (*key, *used)).collect();
    write(&records)
}

/// A file of these records.
pub(crate) fn write(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAGIC.len() + records.len() * RECORD_BYTES);
    out.extend_from_slice(MAGIC);
    records.iter().for_each(|(key, used)| push(&mut out, *key, used));
    out
}

/// Appends a record: limit, key, day, month, used in the day, used in the month, and a check of all that.
fn push(out: &mut Vec<u8>, (id, key): (LimitId, u128), used: &QuotaUse) {
    let from = out.len();
    out.extend_from_slice(&id.0.to_le_bytes());
    out.extend_from_slice(&key.to_le_bytes());
    out.extend_from_slice(&used.day.to_le_bytes());
    out.extend_from_slice(&used.month.to_le_bytes());
    out.extend_from_slice(&used.in_day.to_le_bytes());
    out.extend_from_slice(&used.in_month.to_le_bytes());
    let check = check(&out[from..]);
    out.extend_from_slice(&check);
}

fn check(record: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = digest::digest(&digest::SHA256, record);
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// The records of a file, as far as they are whole: behind a crash the last one may be torn.
pub(crate) fn read(bytes: &[u8]) -> Vec<Record> {
    let records = bytes.strip_prefix(MAGIC).unwrap_or_default();
    let mut found = Vec::new();
    for record in records.chunks_exact(RECORD_BYTES) {
        match parse(record) {
            Some(read) => found.push(read),
            None => break,
        }
    }
    found
}

fn parse(record: &[u8]) -> Option<Record> {
    let (fields, checked) = record.split_at_checked(RECORD_BYTES - CHECK_BYTES)?;
    if check(fields) != *checked {
        return None;
    }
    let (id, rest) = fields.split_first_chunk()?;
    let (key, rest) = rest.split_first_chunk()?;
    let (day, rest) = rest.split_first_chunk()?;
    let (month, rest) = rest.split_first_chunk()?;
    let (in_day, rest) = rest.split_first_chunk()?;
    let (in_month, _) = rest.split_first_chunk()?;
    let used = QuotaUse {
        day: u32::from_le_bytes(*day),
        month: u32::from_le_bytes(*month),
        in_day: u64::from_le_bytes(*in_day),
        in_month: u64::from_le_bytes(*in_month),
    };
    Some(((LimitId(u64::from_le_bytes(*id)), u128::from_le_bytes(*key)), used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let used = |in_day| QuotaUse { day: 20_000, month: 657, in_day, in_month: in_day + 7 };
        (1..5).map(|number| ((LimitId::of("api"), u128::from(number) << 70), used(number))).collect()
    }

    #[test]
    fn a_record_with_one_bit_changed_is_none_and_nothing_behind_it_is_believed() {
        let (records, whole) = (records(), write(&records()));
        assert_eq!(read(&whole), records);
        for at in MAGIC.len() + RECORD_BYTES..MAGIC.len() + 2 * RECORD_BYTES {
            let mut changed = whole.clone();
            changed[at] ^= 4;
            assert_eq!(read(&changed), records[..1], "byte {at}");
        }
    }

    #[test]
    fn a_file_cut_off_anywhere_gives_the_records_before_the_cut() {
        let (records, whole) = (records(), write(&records()));
        for end in 0..whole.len() {
            let kept = end.saturating_sub(MAGIC.len()) / RECORD_BYTES;
            assert_eq!(read(&whole[..end]), records[..kept], "{end} bytes");
        }
    }
}
