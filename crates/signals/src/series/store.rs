//! What there is: families, their series, and room for no more than the bounds allow.
//!
//! A series that is gone keeps its rings, since "how was it yesterday" includes the instances of yesterday, until a new
//! one needs the room: then those that were not seen for longest give way. When nothing can give way the newcomer is
//! refused and counted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashTable;
use terrace_instruments::{Family, FamilySnapshot, HistogramSnapshot, Kind, SeriesSnapshot, SeriesValue};

use super::distribution::Distribution;
use super::labels::{Labels, Texts, hash, list_bytes, pairs};
use super::names::{spellings, text_name};
use super::rings::{Rings, Second};
use super::{MetricName, Sample, SeriesBounds, SeriesUsage};

/// A series not seen for so long may give way to a new one.
const GONE_AFTER_SECS: u32 = 600;
/// At least so many series give way at once, so that looking for them is seldom.
const MAKE_ROOM_MIN: usize = 64;
/// So many seconds without a tick are filled with the mean of what happened in them; longer ones are unknown. Our own
/// numbers are read every second.
const GAP_OWN_SECS_MAX: u32 = 15;
/// The same for foreign numbers, which may be fetched as seldom as every few minutes.
const GAP_FOREIGN_SECS_MAX: u32 = 300;
/// How often a foreign number is expected until it has come twice.
const FOREIGN_EVERY_SECS: u32 = 15;
/// Refused series that are told apart; beyond them some may be counted twice.
const REFUSED_KNOWN_MAX: usize = 8_192;
/// Rings are allocated so many at a time, so that an allocator's rounding of sizes does not cost a fifth.
const CHUNK: usize = 32;

type Hashing = BuildHasherDefault<DefaultHasher>;

/// All series.
#[derive(Debug)]
pub struct SeriesStore {
    bounds: SeriesBounds,
    /// The second of the last tick, or of the one being taken in; 0 before the first.
    second: Second,
    /// Whether the tick being taken in is the first.
    is_first: bool,
    families: Vec<FamilyEntry>,
    families_free: Vec<u32>,
    by_name: HashMap<Arc<str>, u32, Hashing>,
    /// Our own families by their static names, to spare building the text's name each second.
    own: HashMap<&'static str, u32, Hashing>,
    texts: Texts,
    lists_bytes: usize,
    scalars: Scalars,
    scalar_index: HashTable<u32>,
    distributions: Vec<Option<Box<Distribution>>>,
    distribution_index: HashTable<u32>,
    refused: Refused,
    /// Whether room was looked for in this second.
    made_room: bool,
}

/// All series of one name.
#[derive(Debug)]
pub(crate) struct FamilyEntry {
    pub(crate) name: Arc<str>,
    pub(crate) kind: Kind,
    help: Arc<str>,
    /// One of ours stays for ever; there are only so many statics.
    is_own: bool,
    pub(crate) scalars: Vec<u32>,
    pub(crate) distributions: Vec<u32>,
}

/// Who a series is.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) family: u32,
    pub(crate) labels: Labels,
    /// When it was last seen.
    pub(crate) seen: Second,
}

/// A scalar series, but for its rings.
#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) identity: Identity,
    /// A counter's last value; `None` before the first, and of a gauge.
    last: Option<f64>,
}

/// Scalar series and, apart, their rings: a slot's rings stay allocated and serve whoever comes next.
#[derive(Debug, Default)]
pub(crate) struct Scalars {
    slots: Vec<Option<Scalar>>,
    free: Vec<u32>,
    chunks: Vec<Box<[Rings]>>,
}

/// Series that were not taken in.
#[derive(Debug, Default)]
struct Refused {
    known: HashSet<u64, Hashing>,
    count: u64,
}

impl Refused {
    fn note(&mut self, hash: u64) {
        if self.known.len() >= REFUSED_KNOWN_MAX {
            self.known.clear();
        }
        self.count += u64::from(self.known.insert(hash));
    }
}

impl Scalars {
    pub(crate) fn get(&self, slot: u32) -> Option<&Scalar> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(crate) fn rings(&self, slot: u32) -> &Rings {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn both_mut(&mut self, slot: u32) -> Option<(&mut Scalar, &mut Rings)> {
        let scalar = self.slots.get_mut(slot as usize)?.as_mut()?;
        Some((scalar, &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]))
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn insert(&mut self, scalar: Scalar, filled: Second) -> u32 {
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        if slot as usize == self.slots.len() {
            self.slots.push(None);
        }
        if self.chunks.len() <= slot as usize / CHUNK {
            self.chunks.push((0..CHUNK).map(|_| Rings::new(filled)).collect());
        }
        self.chunks[slot as usize / CHUNK][slot as usize % CHUNK] = Rings::new(filled);
        self.slots[slot as usize] = Some(scalar);
        slot
    }

    fn remove(&mut self, slot: u32) -> Option<Scalar> {
        let removed = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(removed)
    }

    fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Option<Scalar>>()
            + self.free.capacity() * size_of::<u32>()
            + self.chunks.capacity() * size_of::<Box<[Rings]>>()
            + self.chunks.len() * CHUNK * size_of::<Rings>()
    }
}

/// What was seen of a scalar series.
#[derive(Debug, Clone, Copy)]
struct Seen {
    value: f64,
    is_counter: bool,
    is_own: bool,
}

impl SeriesStore {
    /// An empty store.
    pub fn new(bounds: SeriesBounds) -> Self {
        Self {
            bounds,
            second: 0,
            is_first: true,
            families: Vec::new(),
            families_free: Vec::new(),
            by_name: HashMap::default(),
            own: HashMap::default(),
            texts: Texts::default(),
            lists_bytes: 0,
            scalars: Scalars::default(),
            scalar_index: HashTable::new(),
            distributions: Vec::new(),
            distribution_index: HashTable::new(),
            refused: Refused::default(),
            made_room: false,
        }
    }

    /// Takes what all series hold at `now`; called about once a second. `foreign` are numbers that were read anew since
    /// the last call: those fetched every fifteen seconds come with every fifteenth call.
    ///
    /// What is seen stands for the time since the series was last seen: the increase of a counter is spread evenly over
    /// it, a gauge is taken to have had this value. After more than 15 s (foreign: 300 s) nothing is known of that time,
    /// which is a gap, and what a counter grew by in it is counted nowhere. A counter below its last value began again
    /// from 0. A counter seen for the first time has no increase yet, but for one of our own that was born after the
    /// store: it began at 0. A second call within a second, or with an earlier time, does nothing; what it would have
    /// brought comes with the next.
    pub fn record(&mut self, now: Duration, own: &[FamilySnapshot], foreign: &[Sample]) {
        // Seconds begin at 1, so that there is always one before.
        let second = u32::try_from(now.as_secs() + 1).unwrap_or(u32::MAX - 1);
        if second <= self.second {
            return;
        }
        (self.is_first, self.second, self.made_room) = (self.second == 0, second, false);
        for snapshot in own {
            self.record_own(snapshot);
        }
        for sample in foreign {
            self.record_foreign(sample);
        }
    }

    fn record_own(&mut self, snapshot: &FamilySnapshot) {
        let family = self.own_family(snapshot.family);
        for SeriesSnapshot { labels, value } in &snapshot.series {
            let pairs = snapshot.family.labels.iter().copied().zip(labels.iter().map(String::as_str));
            match value {
                SeriesValue::Counter(value) => {
                    self.see_scalar(
                        family,
                        pairs,
                        Seen { value: *value as f64, is_counter: true, is_own: true },
                    );
                }
                SeriesValue::Gauge(value) => {
                    self.see_scalar(
                        family,
                        pairs,
                        Seen { value: *value as f64, is_counter: false, is_own: true },
                    );
                }
                SeriesValue::Histogram(histogram) => self.see_distribution(family, pairs, histogram),
            }
        }
    }

    fn record_foreign(&mut self, sample: &Sample) {
        if !sample.value.is_finite() {
            return;
        }
        let pairs = sample.labels.iter().map(|(name, value)| (&**name, &**value));
        let family = match self.by_name.get(&*sample.name) {
            Some(family) => *family,
            None => self.add_family(&sample.name, sample.kind, "", false),
        };
        let is_counter = sample.kind == Kind::Counter;
        self.see_scalar(family, pairs, Seen { value: sample.value, is_counter, is_own: false });
    }

    fn see_scalar<'a>(
        &mut self,
        family: u32,
        pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        seen: Seen,
    ) {
        let hash = hash(family, pairs.clone());
        let is_it = |slot: &u32| {
            self.scalars.get(*slot).is_some_and(|known| known.identity.is(family, pairs.clone()))
        };
        let found = self.scalar_index.find(hash, is_it).copied();
        let Some(slot) = found.or_else(|| self.add_scalar(family, hash, pairs, seen.is_own)) else { return };
        let is_born = found.is_none() && !self.is_first;
        if let Some((scalar, rings)) = self.scalars.both_mut(slot) {
            scalar.see(rings, self.second, seen, is_born);
        }
    }

    fn see_distribution<'a>(
        &mut self,
        family: u32,
        pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        histogram: &HistogramSnapshot,
    ) {
        let hash = hash(family, pairs.clone());
        let is_it = |slot: &u32| {
            self.distribution(*slot).is_some_and(|known| known.identity.is(family, pairs.clone()))
        };
        let found = self.distribution_index.find(hash, is_it).copied();
        let Some(slot) = found.or_else(|| self.add_distribution(family, hash, pairs)) else { return };
        let is_born = found.is_none() && !self.is_first;
        if let Some(distribution) = &mut self.distributions[slot as usize] {
            distribution.see(self.second, histogram, is_born, GAP_OWN_SECS_MAX);
        }
    }

    /// The family of one of our own; its name is built only when it is first seen.
    fn own_family(&mut self, family: &'static Family) -> u32 {
        if let Some(known) = self.own.get(family.name) {
            return *known;
        }
        let name = text_name(family);
        let index = match self.by_name.get(name.as_str()) {
            Some(index) => *index,
            None => self.add_family(&name, family.kind, family.help, true),
        };
        self.families[index as usize].is_own = true;
        self.own.insert(family.name, index);
        index
    }

    fn add_family(&mut self, name: &str, kind: Kind, help: &str, is_own: bool) -> u32 {
        let (name, help) = (self.texts.intern(name), self.texts.intern(help));
        let (scalars, distributions) = (Vec::new(), Vec::new());
        let entry = FamilyEntry { name: Arc::clone(&name), kind, help, is_own, scalars, distributions };
        let index = self.families_free.pop().unwrap_or(self.families.len() as u32);
        match self.families.get_mut(index as usize) {
            Some(free) => *free = entry,
            None => self.families.push(entry),
        }
        self.by_name.insert(name, index);
        index
    }

    fn add_scalar<'a>(
        &mut self,
        family: u32,
        hash: u64,
        pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        is_own: bool,
    ) -> Option<u32> {
        if !self.has_room(pairs.clone(), is_own) {
            self.refuse(family, pairs);
            return None;
        }
        let identity = self.identify(family, pairs);
        let slot = self.scalars.insert(Scalar { identity, last: None }, self.second - 1);
        self.families[family as usize].scalars.push(slot);
        let scalars = &self.scalars;
        let hash_of = |slot: &u32| scalars.get(*slot).map_or(0, |known| known.identity.hash());
        self.scalar_index.insert_unique(hash, slot, hash_of);
        Some(slot)
    }

    fn add_distribution<'a>(
        &mut self,
        family: u32,
        hash: u64,
        pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Option<u32> {
        let Some(slot) = self.free_distribution().filter(|_| self.texts_fit(pairs.clone())) else {
            self.refuse(family, pairs);
            return None;
        };
        let identity = self.identify(family, pairs);
        self.distributions[slot as usize] = Some(Box::new(Distribution::new(identity, self.second - 1)));
        self.families[family as usize].distributions.push(slot);
        let known = &self.distributions;
        let hash_of = |slot: &u32| known[*slot as usize].as_ref().map_or(0, |known| known.identity.hash());
        self.distribution_index.insert_unique(hash, slot, hash_of);
        Some(slot)
    }

    fn identify<'a>(&mut self, family: u32, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Identity {
        let texts = &mut self.texts;
        let labels: Labels = pairs.map(|(name, value)| (texts.intern(name), texts.intern(value))).collect();
        self.lists_bytes += list_bytes(labels.len());
        Identity { family, labels, seen: self.second }
    }

    fn refuse<'a>(&mut self, family: u32, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
        // By its name, since the family's number may be given to the next name that is refused.
        let name = &*self.families[family as usize].name;
        let name_hash = hash(0, std::iter::once((name, "")));
        self.refused.note(name_hash.rotate_left(1) ^ hash(0, pairs));
        // Of what is refused nothing stays behind, not even the name.
        self.forget_if_empty(family);
        if self.texts.bytes() > self.bounds.labels_bytes_max {
            self.texts.sweep();
        }
    }

    /// Whether one more scalar series fits, after others have given way if need be. For one of our own those of the app
    /// give way: however many it shows, what Terrace says of a route or an instance that is new is not missing.
    fn has_room<'a>(
        &mut self,
        pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        is_own: bool,
    ) -> bool {
        let fits =
            |store: &Self| store.scalars.len() < store.bounds.scalars_max && store.texts_fit(pairs.clone());
        if !fits(self) && !self.made_room {
            self.made_room = true;
            self.make_room();
        }
        while is_own && !fits(self) && self.take_room() {}
        fits(self)
    }

    /// Takes room from the foreign family that has most; says whether there was one.
    fn take_room(&mut self) -> bool {
        let foreign = self.families.iter().filter(|family| !family.is_own);
        let Some(largest) = foreign.max_by_key(|family| family.scalars.len()) else { return false };
        let newest: Vec<u32> = largest.scalars.iter().rev().take(MAKE_ROOM_MIN).copied().collect();
        for slot in &newest {
            self.remove_scalar(*slot);
        }
        self.texts.sweep();
        !newest.is_empty()
    }

    fn texts_fit<'a>(&self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
        let new = pairs.fold(0, |bytes, (name, value)| bytes + list_bytes(1) + name.len() + value.len());
        self.texts.bytes() + self.lists_bytes + new <= self.bounds.labels_bytes_max
    }

    /// Lets a share of those that are gone give way, those first that were not seen for longest.
    fn make_room(&mut self) {
        let gone = |seen: Second| seen + GONE_AFTER_SECS < self.second;
        let slots = 0..self.scalars.slots.len() as u32;
        let seen = |slot: u32| Some((self.scalars.get(slot)?.identity.seen, slot));
        let mut old: Vec<(Second, u32)> = slots.filter_map(seen).filter(|(seen, _)| gone(*seen)).collect();
        old.sort_unstable();
        for (_, slot) in old.into_iter().take(MAKE_ROOM_MIN.max(self.bounds.scalars_max / 16)) {
            self.remove_scalar(slot);
        }
        self.texts.sweep();
    }

    fn remove_scalar(&mut self, slot: u32) {
        let Some(Scalar { identity, .. }) = self.scalars.remove(slot) else { return };
        if let Ok(entry) = self.scalar_index.find_entry(identity.hash(), |known| *known == slot) {
            entry.remove();
        }
        self.lists_bytes -= list_bytes(identity.labels.len());
        self.families[identity.family as usize].scalars.retain(|known| *known != slot);
        self.forget_if_empty(identity.family);
    }

    /// A place for a distribution, after the one that was gone for longest has given way if need be.
    fn free_distribution(&mut self) -> Option<u32> {
        if let Some(free) = self.distributions.iter().position(Option::is_none) {
            return Some(free as u32);
        }
        if self.distributions.len() < self.bounds.histograms_max {
            self.distributions.push(None);
            return Some(self.distributions.len() as u32 - 1);
        }
        let seen =
            |(slot, known): (usize, &Option<Box<Distribution>>)| Some((known.as_ref()?.identity.seen, slot));
        let (seen, slot) = self.distributions.iter().enumerate().filter_map(seen).min()?;
        (seen + GONE_AFTER_SECS < self.second).then(|| self.remove_distribution(slot as u32))
    }

    fn remove_distribution(&mut self, slot: u32) -> u32 {
        if let Some(removed) = self.distributions[slot as usize].take() {
            let identity = &removed.identity;
            if let Ok(entry) = self.distribution_index.find_entry(identity.hash(), |known| *known == slot) {
                entry.remove();
            }
            self.lists_bytes -= list_bytes(identity.labels.len());
            self.families[identity.family as usize].distributions.retain(|known| *known != slot);
        }
        slot
    }

    fn forget_if_empty(&mut self, family: u32) {
        let entry = &mut self.families[family as usize];
        if entry.is_own || !entry.scalars.is_empty() || !entry.distributions.is_empty() {
            return;
        }
        // Taken once only: a family that is free has no name to be found by.
        if self.by_name.remove(&entry.name).is_some() {
            (entry.name, entry.help) = (self.texts.intern(""), self.texts.intern(""));
            self.families_free.push(family);
        }
    }

    pub(crate) fn distribution(&self, slot: u32) -> Option<&Distribution> {
        self.distributions.get(slot as usize)?.as_deref()
    }

    pub(crate) fn scalars(&self) -> &Scalars {
        &self.scalars
    }

    /// The second of the last tick; `None` before the first.
    pub(crate) fn last_tick(&self) -> Option<Second> {
        (self.second > 0).then_some(self.second)
    }

    /// The family that a person means by a name: the name itself, or it without or with its unit and `_total`.
    pub(crate) fn family_named(&self, name: &str) -> Option<&FamilyEntry> {
        let index = spellings(name).find_map(|spelling| self.by_name.get(spelling.as_str()))?;
        self.families.get(*index as usize)
    }

    /// The family of exactly this name.
    pub(crate) fn family_exactly(&self, name: &str) -> Option<&FamilyEntry> {
        self.families.get(*self.by_name.get(name)? as usize)
    }

    /// Which metrics there are, by name; those that were seen in the last ten minutes.
    pub fn names(&self) -> Vec<MetricName> {
        let mut names: Vec<MetricName> = self
            .by_name
            .values()
            .filter_map(|index| self.metric_name(&self.families[*index as usize]))
            .collect();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        names
    }

    fn metric_name(&self, family: &FamilyEntry) -> Option<MetricName> {
        let scalars = family.scalars.iter().filter_map(|slot| Some(&self.scalars.get(*slot)?.identity));
        let distributions =
            family.distributions.iter().filter_map(|slot| Some(&self.distribution(*slot)?.identity));
        let (mut labels, mut series) = (BTreeSet::new(), 0);
        for identity in
            scalars.chain(distributions).filter(|known| known.seen + GONE_AFTER_SECS >= self.second)
        {
            series += 1;
            labels.extend(identity.labels.iter().map(|(name, _)| Arc::clone(name)));
        }
        let (name, help) = (Arc::clone(&family.name), Arc::clone(&family.help));
        (series > 0).then(|| MetricName {
            name,
            kind: family.kind,
            help,
            labels: labels.into_iter().collect(),
            series,
        })
    }

    /// What is kept and what is not.
    pub fn usage(&self) -> SeriesUsage {
        let histograms = self.distributions.iter().flatten().count();
        SeriesUsage {
            scalars: self.scalars.len(),
            histograms,
            refused: self.refused.count,
            bytes: self.heap_bytes(),
        }
    }

    /// Series for which there was no room, since the start.
    pub fn refused(&self) -> u64 {
        self.refused.count
    }

    /// Bytes on the heap, estimated from above but for the allocator's own.
    pub fn heap_bytes(&self) -> usize {
        let ids = |family: &FamilyEntry| (family.scalars.capacity() + family.distributions.capacity()) * 4;
        let families = self.families.capacity() * size_of::<FamilyEntry>();
        let maps = (self.by_name.capacity() + self.own.capacity()) * 32;
        let index = (self.scalar_index.capacity() + self.distribution_index.capacity()) * 8;
        let refused = self.refused.known.capacity() * 16;
        let distributions: usize = self.distributions.iter().flatten().map(|known| known.heap_bytes()).sum();
        let places = self.distributions.capacity() * size_of::<Option<Box<Distribution>>>();
        let lists = self.families.iter().map(ids).sum::<usize>() + self.lists_bytes + self.texts.bytes();
        families + maps + index + refused + distributions + places + lists + self.scalars.heap_bytes()
    }
}

impl Identity {
    fn is<'a>(&self, family: u32, mut labels: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
        let mut known = pairs(&self.labels);
        self.family == family && labels.all(|label| known.next() == Some(label)) && known.next().is_none()
    }

    /// The value of a label.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        pairs(&self.labels).find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn hash(&self) -> u64 {
        hash(self.family, pairs(&self.labels))
    }
}

impl Scalar {
    /// Takes one look at a series.
    fn see(&mut self, rings: &mut Rings, second: Second, seen: Seen, is_born: bool) {
        let since = second.saturating_sub(rings.filled());
        if since == 0 {
            // The same series twice in one look: the first counts.
            return;
        }
        self.identity.seen = second;
        let is_new = self.last.is_none() && rings.filled() + 1 == second;
        let gap_max = if seen.is_own { GAP_OWN_SECS_MAX } else { GAP_FOREIGN_SECS_MAX };
        let stands_for = match self.last.replace(seen.value) {
            _ if !seen.is_counter => Some(seen.value),
            Some(last) => Some(increase(last, seen.value) / f64::from(since)),
            None => (is_born && seen.is_own).then_some(seen.value),
        };
        if since > gap_max {
            rings.skip(second - 1);
        }
        let is_known = since <= gap_max || !seen.is_counter;
        let value = stands_for.filter(|_| is_known).map_or(f32::NAN, |value| value as f32);
        rings.fill(second, value);
        rings.set_hold(hold_secs(seen.is_own, if is_new { FOREIGN_EVERY_SECS } else { since.min(gap_max) }));
    }
}

/// Our own numbers come every second, so one that is missing is gone; foreign ones are given twice their time.
fn hold_secs(is_own: bool, every_secs: u32) -> u32 {
    if is_own { 0 } else { 2 * every_secs }
}

/// What a counter grew by; below its last value it began again from 0.
fn increase(last: f64, value: f64) -> f64 {
    if value >= last { value - last } else { value }
}
