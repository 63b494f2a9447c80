//! The way of events and access lines from whoever makes them to the one who writes them.
//!
//! Emitting never waits for a disk: what the writer cannot take is dropped and counted. And it makes almost no
//! system calls: access lines gather in a buffer per core, and the writer is woken when a buffer stops being empty
//! or has grown large, not for each line. It lingers a moment before it takes them, so that under load some thousand
//! lines cost one wake-up and one write. Locks are held for a push or a swap, never across encoding by another
//! thread or IO.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::Thread;
use std::time::{Duration, SystemTime};

use crate::access::{AccessRecord, QueryValues};
use crate::cells::PerShard;
use crate::event::{Event, Level};
use crate::rfc3339::Timestamp;

/// Bytes of access lines that may wait, per core: a second of 20,000 requests while the disk stalls.
const ACCESS_BYTES_MAX: usize = 8 << 20;
/// The writer is hurried when this many bytes wait.
const ACCESS_BYTES_HURRY: usize = 1 << 20;
/// Room for the lines that come until the writer is there.
const ACCESS_BYTES_SPARE: usize = 64 << 10;
/// Buffers for access lines; further cores share.
const ACCESS_BUFFERS: usize = 64;
/// Bytes of other programs' lines that may wait: some seconds of a noisy fleet.
const RELAYED_BYTES_MAX: usize = 16 << 20;
/// What other programs say leaves this share of the places to Terrace's own events.
const RELAYED_PLACES_LEFT: usize = 8;
/// A sampling share of one.
const SHARE_ONE: u32 = 1_000_000;

/// Where events go. Cheap to clone; never blocks.
#[derive(Debug, Clone)]
pub struct Log(Option<Arc<Shared>>);

/// The reading end of a [`Log`]: for the one thread that writes, or for a test.
#[derive(Debug)]
pub struct Receiver(Arc<Shared>);

/// What could not be taken and was dropped, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Events.
    pub events: u64,
    /// Lines of the access log.
    pub access: u64,
}

/// Which requests the access log shows, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AccessSettings {
    /// Whether there is an access log at all.
    pub on: bool,
    /// The share of requests logged, 0 to 1. Answers with status 500 and above are always logged.
    pub sample: f64,
    /// What is shown of the query.
    pub query: QueryValues,
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self { on: true, sample: 1.0, query: QueryValues::default() }
    }
}

#[derive(Debug)]
struct Shared {
    capacity: usize,
    clock: fn() -> SystemTime,
    level_min: AtomicU8,
    events: Mutex<Waiting>,
    events_dropped: AtomicU64,
    access_on: AtomicBool,
    access_query: AtomicU8,
    /// In millionths.
    access_share: AtomicU32,
    access: PerShard<Mutex<Lines>>,
    access_dropped: AtomicU64,
    writer: Mutex<Waiter>,
}

/// Events that nobody has taken yet.
#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Event>,
    /// Of what other programs said.
    relayed_bytes: usize,
}

/// Whoever is to be woken.
#[derive(Debug, Default)]
struct Waiter {
    /// The thread that waits, once it does.
    thread: Option<Thread>,
    /// Whether it was called before that.
    is_called: bool,
}

/// The access lines of one core.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    stamp: Timestamp,
    sampler: u64,
}

impl Log {
    /// A log that holds up to `capacity` events until they are taken. Events read as of 1970: for tests.
    pub fn channel(capacity: usize) -> (Log, Receiver) {
        Self::channel_with_clock(capacity, || SystemTime::UNIX_EPOCH)
    }

    /// A log that holds up to `capacity` events, and stamps them with `clock`.
    pub fn channel_with_clock(capacity: usize, clock: fn() -> SystemTime) -> (Log, Receiver) {
        let shared = Arc::new(Shared {
            capacity,
            clock,
            level_min: AtomicU8::new(Level::Info as u8),
            events: Mutex::default(),
            events_dropped: AtomicU64::new(0),
            access_on: AtomicBool::new(true),
            access_query: AtomicU8::new(QueryValues::default() as u8),
            access_share: AtomicU32::new(SHARE_ONE),
            access: PerShard::new(ACCESS_BUFFERS),
            access_dropped: AtomicU64::new(0),
            writer: Mutex::default(),
        });
        (Log(Some(Arc::clone(&shared))), Receiver(shared))
    }

    /// A log that keeps nothing.
    pub fn discard() -> Log {
        Log(None)
    }

    /// Says what happened. Never blocks; when the queue is full the event is dropped and counted.
    pub fn emit(&self, mut event: Event) {
        let Some(shared) = &self.0 else { return };
        if (event.level as u8) < shared.level_min.load(Relaxed) {
            return;
        }
        event.time = (shared.clock)();
        shared.push(event, shared.capacity, 0);
    }

    /// Hands on what another program said, with the time that it came with, and whatever its level, which is known only
    /// when it has been read. It leaves room for Terrace's own events: what comes when most places are taken, or when too
    /// much of it waits already, is dropped and counted.
    pub fn relay(&self, event: Event) {
        let Some(shared) = &self.0 else { return };
        let places = shared.capacity - shared.capacity / RELAYED_PLACES_LEFT;
        let bytes = event.message.as_ref().map_or(0, |text| text.len());
        shared.push(event, places, bytes);
    }

    /// Whether access records are wanted at all, so that their fields need not be gathered in vain.
    #[inline]
    pub fn access_on(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.access_on.load(Relaxed))
    }

    /// Adds a line to the access log, unless it is off or this request is not in the sample.
    pub fn access(&self, record: &AccessRecord<'_>) {
        match &self.0 {
            Some(shared) if shared.access_on.load(Relaxed) => shared.access(record),
            _ => {}
        }
    }

    /// Changes what the access log shows, from the next request on.
    pub fn set_access(&self, settings: AccessSettings) {
        let Some(shared) = &self.0 else { return };
        let share = (settings.sample.clamp(0.0, 1.0) * f64::from(SHARE_ONE)) as u32;
        shared.access_on.store(settings.on, Relaxed);
        shared.access_share.store(share, Relaxed);
        shared.access_query.store(settings.query as u8, Relaxed);
    }

    /// Events below this level are not taken. `Info` at first.
    pub fn set_level(&self, level: Level) {
        if let Some(shared) = &self.0 {
            shared.level_min.store(level as u8, Relaxed);
        }
    }

    /// What was dropped so far because nobody took it in time.
    pub fn dropped(&self) -> Dropped {
        match &self.0 {
            Some(shared) => shared.dropped(),
            None => Dropped::default(),
        }
    }

    /// Wakes the receiver out of [`Receiver::wait`], as when something had been emitted.
    pub fn wake(&self) {
        if let Some(shared) = &self.0 {
            shared.wake();
        }
    }
}

impl Shared {
    fn push(&self, event: Event, places: usize, relayed_bytes: usize) {
        let mut events = lock(&self.events);
        if events.queue.len() >= places || events.relayed_bytes + relayed_bytes > RELAYED_BYTES_MAX {
            self.events_dropped.fetch_add(1, Relaxed);
            return;
        }
        events.relayed_bytes += relayed_bytes;
        events.queue.push_back(event);
        let was_empty = events.queue.len() == 1;
        drop(events);
        if was_empty {
            self.wake();
        }
    }

    fn access(&self, record: &AccessRecord<'_>) {
        let share = self.access_share.load(Relaxed);
        let mut lines = lock(self.access.own());
        if share < SHARE_ONE && record.status < 500 && !lines.in_sample(share) {
            return;
        }
        let before = lines.bytes.len();
        if before >= ACCESS_BYTES_MAX {
            self.access_dropped.fetch_add(1, Relaxed);
            return;
        }
        lines.push(record, query_values(self.access_query.load(Relaxed)));
        let now = lines.bytes.len();
        drop(lines);
        if before == 0 || (before < ACCESS_BYTES_HURRY && now >= ACCESS_BYTES_HURRY) {
            self.wake();
        }
    }

    fn dropped(&self) -> Dropped {
        Dropped { events: self.events_dropped.load(Relaxed), access: self.access_dropped.load(Relaxed) }
    }

    /// Free when the writer is awake or already called; one system call when it sleeps.
    fn wake(&self) {
        let mut writer = lock(&self.writer);
        match &writer.thread {
            Some(thread) => thread.unpark(),
            None => writer.is_called = true,
        }
    }
}

impl Lines {
    fn push(&mut self, record: &AccessRecord<'_>, query: QueryValues) {
        if self.bytes.capacity() < ACCESS_BYTES_HURRY {
            // All at once: a buffer that grows copies its lines over and over. What is not written to is no memory yet.
            self.bytes.reserve_exact(ACCESS_BYTES_HURRY + ACCESS_BYTES_SPARE - self.bytes.len());
        }
        record.encode(&mut self.bytes, &mut self.stamp, query);
    }

    /// Weyl sequence through the SplitMix64 finaliser (Steele, Lea, Flood 2014): evenly spread, and the same in each run.
    fn in_sample(&mut self, share: u32) -> bool {
        self.sampler = self.sampler.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.sampler;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        mixed % u64::from(SHARE_ONE) < u64::from(share)
    }
}

fn query_values(stored: u8) -> QueryValues {
    match stored {
        stored if stored == QueryValues::Shown as u8 => QueryValues::Shown,
        stored if stored == QueryValues::Redacted as u8 => QueryValues::Redacted,
        _ => QueryValues::Sensitive,
    }
}

impl Receiver {
    /// Waits until something was emitted since the last call, or `timeout` has passed. Only one thread may wait;
    /// it may also return early without reason.
    pub fn wait(&self, timeout: Duration) {
        let this = std::thread::current();
        let mut writer = lock(&self.0.writer);
        let is_known = writer.thread.as_ref().is_some_and(|thread| thread.id() == this.id());
        if !is_known {
            writer.thread = Some(this);
        }
        let is_called = std::mem::take(&mut writer.is_called);
        drop(writer);
        if is_known || (self.is_empty() && !is_called) {
            std::thread::park_timeout(timeout);
        }
    }

    /// Whether nothing waits to be taken.
    pub fn is_empty(&self) -> bool {
        lock(&self.0.events).queue.is_empty()
            && self.0.access.iter().all(|lines| lock(lines).bytes.is_empty())
    }

    /// Takes all events that wait.
    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut *lock(&self.0.events)).queue.into()
    }

    /// Whether events of this level are wanted.
    pub fn takes(&self, level: Level) -> bool {
        level as u8 >= self.0.level_min.load(Relaxed)
    }

    /// Takes all access lines that wait: puts each core's bytes (whole lines) into `taken`, in no order between cores.
    /// `spares` are buffers that were taken before and are not needed any more: they take the places of those taken now,
    /// so that memory circulates, and a line is never copied between its making and its file.
    pub fn take_access(&self, spares: &mut Vec<Vec<u8>>, taken: &mut Vec<Vec<u8>>) {
        for lines in self.0.access.iter() {
            let mut lines = lock(lines);
            if !lines.bytes.is_empty() {
                let mut spare = spares.pop().unwrap_or_default();
                spare.clear();
                taken.push(std::mem::replace(&mut lines.bytes, spare));
            }
        }
    }

    /// What was dropped so far.
    pub fn dropped(&self) -> Dropped {
        self.0.dropped()
    }
}

/// A panic of an emitter leaves at most a line cut short, so the lock is used on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::RequestId;
    use crate::plate::Plate;

    fn access(log: &Log, status: u16) {
        let plate = Plate::default();
        log.access(&AccessRecord {
            time: Duration::ZERO,
            connection: &plate,
            client: None,
            asker: None,
            method: "GET",
            host: "localhost",
            path: "/",
            query: None,
            protocol: "HTTP/1.1",
            status,
            bytes_in: 0,
            bytes_out: 0,
            duration: Duration::ZERO,
            way: &plate,
            instance: None,
            tries: 0,
            request_id: RequestId::Text(""),
            trace: None,
            outcome: "ok",
        });
    }

    fn lines(receiver: &Receiver) -> usize {
        let mut taken = Vec::new();
        receiver.take_access(&mut Vec::new(), &mut taken);
        taken.iter().flatten().filter(|byte| **byte == b'\n').count()
    }

    #[test]
    fn events_arrive_in_order() {
        let (log, receiver) = Log::channel(10);
        log.emit(Event::new(Level::Info, "first").service("orders").field("port", 80_u16));
        log.clone().emit(Event::new(Level::Error, "second"));
        let events = receiver.take_events();
        assert_eq!(events.iter().map(|event| event.name).collect::<Vec<_>>(), ["first", "second"]);
        assert_eq!(events[0].get("port"), Some(&crate::Value::Uint(80)));
        assert!(receiver.is_empty());
    }

    #[test]
    fn a_full_queue_drops_and_counts_instead_of_waiting() {
        let (log, receiver) = Log::channel(2);
        (0..5).for_each(|_| log.emit(Event::new(Level::Warn, "x")));
        assert_eq!(receiver.take_events().len(), 2);
        assert_eq!(log.dropped().events, 3);
        log.emit(Event::new(Level::Warn, "x"));
        assert_eq!(receiver.take_events().len(), 1, "what is taken makes room");
    }

    #[test]
    fn events_below_the_level_are_not_taken() {
        let (log, receiver) = Log::channel(2);
        log.emit(Event::new(Level::Debug, "x"));
        assert!(receiver.is_empty());
        log.set_level(Level::Debug);
        log.emit(Event::new(Level::Debug, "x"));
        assert_eq!(receiver.take_events().len(), 1);
    }

    #[test]
    fn a_call_that_comes_before_the_first_wait_is_heard() {
        let (log, receiver) = Log::channel(1);
        log.wake();
        let (answer, answered) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            receiver.wait(Duration::MAX);
            answer.send(())
        });
        answered.recv_timeout(Duration::from_secs(60)).expect("the receiver does not sleep");
    }

    #[test]
    fn what_programs_say_keeps_its_time_and_leaves_room_for_our_own_words() {
        let (log, receiver) = Log::channel(16);
        let said = |level| Event::new(level, "app.output").message("x");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        log.relay(Event { time, ..said(Level::Debug) });
        (0..100).for_each(|_| log.relay(said(Level::Info)));
        log.emit(said(Level::Info));
        assert_eq!(log.dropped().events, 87);
        let taken = receiver.take_events();
        assert_eq!((taken.len(), taken[0].time, taken[0].level), (15, time, Level::Debug));
        assert!(receiver.takes(Level::Info) && !receiver.takes(Level::Debug));
    }

    #[test]
    fn bytes_of_what_programs_say_are_bounded_until_they_are_taken() {
        let (log, receiver) = Log::channel(1_000);
        let line = || Event::new(Level::Info, "app.output").message("x".repeat(1 << 20));
        (0..20).for_each(|_| log.relay(line()));
        assert_eq!((receiver.take_events().len(), log.dropped().events), (16, 4));
        log.relay(line());
        assert_eq!(receiver.take_events().len(), 1);
    }

    #[test]
    fn access_lines_that_nobody_takes_are_bounded_and_counted() {
        let (log, receiver) = Log::channel(1);
        let written = 50_000;
        (0..written).for_each(|_| access(&log, 200));
        let dropped = log.dropped().access;
        assert!(dropped > 0);
        assert_eq!(lines(&receiver) as u64 + dropped, written);
    }

    #[test]
    fn buffers_that_were_taken_are_filled_again() {
        let (log, receiver) = Log::channel(1);
        let (mut spares, mut taken) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            (0..100).for_each(|_| access(&log, 200));
            receiver.take_access(&mut spares, &mut taken);
            spares.append(&mut taken);
        }
        assert_eq!(spares.len(), 1, "the other is where lines are put");
        let grown = spares.iter().map(Vec::capacity).min();
        (0..100).for_each(|_| access(&log, 200));
        receiver.take_access(&mut spares, &mut taken);
        assert!(taken[0].capacity() >= grown.unwrap_or(usize::MAX) && !taken[0].is_empty());
    }

    #[test]
    fn a_sample_shows_its_share_of_requests_and_every_failure() {
        let (log, receiver) = Log::channel(1);
        log.set_access(AccessSettings { sample: 0.25, ..AccessSettings::default() });
        (0..4_000).for_each(|_| access(&log, 200));
        let shown = lines(&receiver);
        assert!((900..1_100).contains(&shown), "{shown}");
        (0..100).for_each(|_| access(&log, 502));
        assert_eq!(lines(&receiver), 100);
        log.set_access(AccessSettings { on: false, ..AccessSettings::default() });
        access(&log, 502);
        assert_eq!(lines(&receiver), 0);
        assert!(!log.access_on() && !Log::discard().access_on());
    }

    #[test]
    fn a_receiver_that_sleeps_is_woken_by_each_first_event_and_line() {
        let (log, receiver) = Log::channel(10);
        let (answer, answered) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || {
            for _ in 0..200 {
                while receiver.is_empty() {
                    receiver.wait(Duration::from_secs(3_600));
                }
                answer.send(receiver.take_events().len() + lines(&receiver)).unwrap();
            }
        });
        for round in 0..200 {
            if round % 2 == 0 {
                log.emit(Event::new(Level::Info, "x"))
            } else {
                access(&log, 200)
            }
            let taken = answered.recv_timeout(Duration::from_secs(60)).expect("the receiver is woken");
            assert_eq!(taken, 1);
        }
        waiter.join().unwrap();
    }
}
