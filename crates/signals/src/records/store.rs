//! The last records of every service, within one bound on their bytes.
//!
//! Each service has a ring. When the whole grows too large, the ring that holds most gives up its oldest record: so
//! every service keeps all it said as long as that is less than its fair share, and what others leave of theirs is
//! used by who needs it. A follower holds a place in each ring and reads on from there; it costs nothing
//! while it is slow, and is told what it missed when a ring overtook it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use super::{LogFilter, LogRecord, Records};

/// Services that have a ring of their own; for a further one the ring that was silent for longest goes.
const RINGS_MAX: usize = 256;
/// What a string costs besides its bytes: the allocator's own.
const ALLOCATION_BYTES: usize = 16;

/// The last records.
#[derive(Debug)]
pub struct RecordStore {
    bytes_max: usize,
    bytes: usize,
    rings: BTreeMap<String, Ring>,
    /// Number of the next record, over all rings.
    next: u64,
}

/// How far a follower has read.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    /// Records of each ring that are behind it.
    read: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Ring {
    slots: VecDeque<Slot>,
    bytes: usize,
    /// Records that it had and has not any more.
    gone: u64,
    /// The latest time among those.
    gone_until: Option<SystemTime>,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    bytes: usize,
    record: Arc<LogRecord>,
}

impl RecordStore {
    /// An empty store for so many bytes, estimated with all that a record costs.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, rings: BTreeMap::new(), next: 0 }
    }

    /// Changes the bound; what does not fit any more goes at once.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.shrink();
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a record.
    pub fn push(&mut self, record: LogRecord) {
        if !self.rings.contains_key(record.owner()) {
            self.add_ring(record.owner().to_owned());
        }
        let (number, bytes) = (self.next, weight(&record));
        self.next += 1;
        if let Some(ring) = self.rings.get_mut(record.owner()) {
            ring.slots.push_back(Slot { number, bytes, record: Arc::new(record) });
            ring.bytes += bytes;
            self.bytes += bytes;
        }
        self.shrink();
    }

    /// The newest records that are wanted, at most `last`, oldest first.
    pub fn recent(&self, filter: &LogFilter, last: usize) -> Records {
        self.newest(filter, last, None)
    }

    /// The same, of what had been said when a follower began.
    pub fn before(&self, cursor: &Cursor, filter: &LogFilter, last: usize) -> Records {
        self.newest(filter, last, Some(cursor))
    }

    /// A place behind all that was said so far.
    pub fn end(&self) -> Cursor {
        Cursor { read: self.rings.iter().map(|(name, ring)| (name.clone(), ring.end())).collect() }
    }

    /// At most `count` records that came after `cursor` (of one service, or of all), in the order in which they came,
    /// and how many were overtaken before they could be read. The cursor is behind them then.
    pub fn after(&self, cursor: &mut Cursor, service: Option<&str>, count: usize) -> (u64, Records) {
        let (mut missed, mut found) = (0, Vec::new());
        for (name, ring) in self.rings_of(service) {
            let read = cursor.read.get(name).copied().unwrap_or_default();
            // A ring that went and came again counts anew.
            let read = if read > ring.end() { 0 } else { read };
            missed += ring.gone.saturating_sub(read);
            let place = read.max(ring.gone);
            set(&mut cursor.read, name, place);
            let skipped = usize::try_from(place - ring.gone).unwrap_or(usize::MAX);
            found.extend(
                ring.slots.iter().skip(skipped).take(count).map(|slot| (slot.number, name, &slot.record)),
            );
        }
        found.sort_unstable_by_key(|(number, ..)| *number);
        found.truncate(count);
        for (_, name, _) in &found {
            if let Some(read) = cursor.read.get_mut(*name) {
                *read += 1;
            }
        }
        (missed, found.into_iter().map(|(.., record)| Arc::clone(record)).collect())
    }

    /// The time up to which records of a service, or of any, may be missing because others needed the room; `None`:
    /// nothing had to go so far.
    pub fn gone_until(&self, service: Option<&str>) -> Option<SystemTime> {
        self.rings_of(service).filter_map(|(_, ring)| ring.gone_until).max()
    }

    /// Who said something that is still here, `terrace` among them, in order of the names.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.rings.iter().filter(|(_, ring)| !ring.slots.is_empty()).map(|(name, _)| name.as_str())
    }

    fn newest(&self, filter: &LogFilter, last: usize, before: Option<&Cursor>) -> Records {
        let mut found = Vec::new();
        for (name, ring) in self.rings_of(filter.service.as_deref()) {
            let end = match before {
                Some(cursor) => cursor.read.get(name).copied().unwrap_or_default().saturating_sub(ring.gone),
                None => u64::MAX,
            };
            let end = usize::try_from(end).unwrap_or(usize::MAX).min(ring.slots.len());
            let wanted = ring.slots.range(..end).rev().filter(|slot| filter.wants(&slot.record));
            found.extend(wanted.take(last).map(|slot| (slot.record.time, slot.number, &slot.record)));
        }
        found.sort_unstable_by_key(|(time, number, _)| (*time, *number));
        let skipped = found.len().saturating_sub(last);
        found.into_iter().skip(skipped).map(|(.., record)| Arc::clone(record)).collect()
    }

    fn rings_of(&self, service: Option<&str>) -> impl Iterator<Item = (&str, &Ring)> {
        let of_one = service.and_then(|name| self.rings.get_key_value(name));
        let all = if service.is_none() { Some(self.rings.iter()) } else { None };
        of_one.into_iter().chain(all.into_iter().flatten()).map(|(name, ring)| (name.as_str(), ring))
    }

    fn add_ring(&mut self, name: String) {
        if self.rings.len() >= RINGS_MAX {
            let silent = self.rings.iter().min_by_key(|(_, ring)| ring.slots.back().map(|slot| slot.number));
            if let Some(name) = silent.map(|(name, _)| name.clone())
                && let Some(ring) = self.rings.remove(&name)
            {
                self.bytes -= ring.bytes;
            }
        }
        self.rings.insert(name, Ring::default());
    }

    fn shrink(&mut self) {
        while self.bytes > self.bytes_max {
            let Some(largest) = self.rings.values_mut().max_by_key(|ring| ring.bytes) else { return };
            let Some(oldest) = largest.slots.pop_front() else { return };
            largest.bytes -= oldest.bytes;
            self.bytes -= oldest.bytes;
            largest.gone += 1;
            largest.gone_until = largest.gone_until.max(Some(oldest.record.time));
        }
    }
}

impl Ring {
    /// Records that it ever had.
    fn end(&self) -> u64 {
        self.gone + self.slots.len() as u64
    }
}

fn set(read: &mut BTreeMap<String, u64>, name: &str, place: u64) {
    match read.get_mut(name) {
        Some(known) => *known = place,
        None => drop(read.insert(name.to_owned(), place)),
    }
}

fn weight(record: &LogRecord) -> usize {
    let text = |text: &String| if text.is_empty() { 0 } else { text.capacity() + ALLOCATION_BYTES };
    let names = [&record.event, &record.service, &record.instance, &record.request_id, &record.message];
    let fields = record.fields.iter().map(|(name, value)| text(name) + text(value)).sum::<usize>();
    let list = record.fields.capacity() * size_of::<(String, String)>();
    size_of::<Slot>()
        + size_of::<LogRecord>()
        + 2 * ALLOCATION_BYTES
        + names.into_iter().map(text).sum::<usize>()
        + fields
        + list
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;
    use terrace_instruments::Level;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn record(service: &str, number: u64) -> LogRecord {
        LogRecord {
            service: service.to_owned(),
            message: number.to_string(),
            ..LogRecord::new(at(number), Level::Info, "said")
        }
    }

    fn of(service: &str) -> LogFilter {
        LogFilter { service: Some(service.to_owned()), ..LogFilter::default() }
    }

    fn numbers(records: &Records) -> Vec<u64> {
        records.iter().map(|record| record.message.parse().unwrap()).collect()
    }

    fn room(records: usize) -> usize {
        records * weight(&record("loud", 10_000))
    }

    #[test]
    fn a_loud_service_does_not_push_out_what_quiet_ones_said() {
        let mut store = RecordStore::new(room(100));
        store.push(record("quiet", 0));
        store.push(LogRecord::new(at(1), Level::Info, "ready"));
        (10..5_000).for_each(|number| store.push(record("loud", number)));
        assert!(store.bytes() <= room(100));
        assert_eq!(numbers(&store.recent(&of("quiet"), 10)), [0]);
        assert_eq!(store.recent(&of("terrace"), 10)[0].event, "ready");
        assert!(store.recent(&of("loud"), usize::MAX).len() > 90);
        assert_eq!(store.services().collect::<Vec<_>>(), ["loud", "quiet", "terrace"]);
    }

    #[test]
    fn two_loud_services_share_evenly() {
        let mut store = RecordStore::new(room(100));
        (0..1_000).for_each(|number| store.push(record("aaaa", number)));
        (1_000..2_000).for_each(|number| store.push(record("bbbb", number)));
        let kept = ["aaaa", "bbbb"].map(|service| store.recent(&of(service), usize::MAX).len());
        assert!(kept[0].abs_diff(kept[1]) <= 2, "{kept:?}");
    }

    #[test]
    fn the_past_comes_in_the_order_of_its_time_and_the_newest_count() {
        let mut store = RecordStore::new(room(100));
        for (service, number) in [("a", 5), ("b", 3), ("a", 4), ("b", 9)] {
            store.push(record(service, number));
        }
        assert_eq!(numbers(&store.recent(&LogFilter::default(), 10)), [3, 4, 5, 9]);
        assert_eq!(numbers(&store.recent(&LogFilter::default(), 2)), [5, 9]);
        assert_eq!(numbers(&store.recent(&LogFilter { since: Some(at(4)), ..of("a") }, 10)), [4, 5]);
    }

    #[test]
    fn a_follower_gets_the_past_once_and_what_comes_once() {
        let mut store = RecordStore::new(room(100));
        store.push(record("a", 1));
        let mut cursor = store.end();
        store.push(record("b", 2));
        store.push(record("a", 3));
        assert_eq!(numbers(&store.before(&cursor, &LogFilter::default(), 10)), [1]);
        let (missed, first) = store.after(&mut cursor, None, 1);
        assert_eq!((missed, numbers(&first)), (0, vec![2]));
        assert_eq!(numbers(&store.after(&mut cursor, None, 10).1), [3]);
        assert_eq!(store.after(&mut cursor, None, 10), (0, Vec::new()));
    }

    #[test]
    fn a_slow_follower_is_told_what_it_missed_and_only_of_what_it_follows() {
        let mut store = RecordStore::new(room(10));
        store.push(record("quiet", 0));
        let (mut loud, mut quiet) = (store.end(), store.end());
        (10_000..10_100).for_each(|number| store.push(record("loud", number)));
        store.push(record("quiet", 1));
        let (missed, records) = store.after(&mut loud, Some("loud"), usize::MAX);
        assert_eq!(missed + records.len() as u64, 100);
        assert!(missed > 80);
        let (missed, records) = store.after(&mut quiet, Some("quiet"), 10);
        assert_eq!((missed, numbers(&records)), (0, vec![1]));
    }

    #[test]
    fn what_had_to_go_is_known_by_its_time() {
        let mut store = RecordStore::new(room(3));
        assert_eq!(store.gone_until(None), None);
        (10_000..10_010).for_each(|number| store.push(record("loud", number)));
        assert_eq!(store.gone_until(Some("loud")), Some(at(10_006)));
        assert_eq!(store.gone_until(Some("quiet")), None);
        assert_eq!(store.gone_until(None), Some(at(10_006)));
    }

    #[test]
    fn a_record_larger_than_the_bound_is_not_kept() {
        let mut store = RecordStore::new(1_000);
        store.push(LogRecord { message: "x".repeat(2_000), ..record("loud", 1) });
        assert_eq!((store.bytes(), store.recent(&LogFilter::default(), 10).len()), (0, 0));
        store.set_bytes_max(10_000);
        store.push(record("loud", 2));
        assert_eq!(numbers(&store.recent(&LogFilter::default(), 10)), [2]);
        store.set_bytes_max(0);
        assert_eq!(store.bytes(), 0);
    }

    #[test]
    fn services_without_number_are_no_way_around_the_bound() {
        let mut store = RecordStore::new(1 << 30);
        (0..10_000).for_each(|number| store.push(record(&format!("s{number}"), number)));
        assert_eq!(store.services().count(), RINGS_MAX);
        assert_eq!(store.recent(&LogFilter::default(), usize::MAX).len(), RINGS_MAX);
    }

    proptest! {
        /// The model is a plain list of all that was said: what is kept of each service are its last records, what a
        /// follower reads is what came after it began, less what it was told that it missed.
        #[test]
        fn it_keeps_and_hands_on_as_a_plain_list_would(
            steps in prop::collection::vec((0_u8..4, 0_usize..12), 1..200),
            records_max in 1_usize..30,
        ) {
            let mut store = RecordStore::new(room(records_max));
            let (mut said, mut read, mut missed) = (Vec::new(), Vec::new(), 0);
            let mut cursor = store.end();
            for (number, (what, count)) in steps.into_iter().enumerate() {
                if what == 3 {
                    let (overtaken, records) = store.after(&mut cursor, None, count);
                    prop_assert!(records.len() <= count);
                    missed += overtaken;
                    read.extend(numbers(&records));
                } else {
                    let service = ["a", "b", "c"][usize::from(what)];
                    store.push(record(service, number as u64));
                    said.push((service, number as u64));
                }
                prop_assert!(store.bytes() <= room(records_max));
            }
            let (overtaken, records) = store.after(&mut cursor, None, usize::MAX);
            missed += overtaken;
            read.extend(numbers(&records));
            prop_assert_eq!(read.len() as u64 + missed, said.len() as u64);
            prop_assert!(read.iter().all(|number| said.iter().any(|(_, other)| other == number)));
            let mut unique = read.clone();
            unique.sort_unstable();
            unique.dedup();
            prop_assert_eq!(unique.len(), read.len());
            for service in ["a", "b", "c"] {
                let kept = numbers(&store.recent(&of(service), usize::MAX));
                let all: Vec<u64> = said.iter().filter(|(by, _)| *by == service).map(|(_, number)| *number).collect();
                prop_assert!(all.ends_with(&kept));
            }
        }
    }
}
