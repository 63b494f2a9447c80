//! What was checked, so that it need not be checked again.
//!
//! The same client sends the same proof a thousand times; a signature costs 20 µs to 1 ms to check, a look in here a few
//! hundred instructions. What lets somebody in must never be a coincidence of hashes, so a token is compared whole, and a
//! password, which shall not lie about in memory, by a hash with 256 bits under a key of this process (HMAC-SHA-256).
//!
//! The hash that finds the place reads the end of a proof only: that is where a signature is, and only what was checked
//! comes in here, so nobody can choose what collides. An entry lives until its proof expires, until what it was checked
//! against changed (its [`Generation`]), or until others need its room: a second chance goes to those that were used since
//! the hand last passed (Corbató, "A Paging Experiment with the Multics System", 1968).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashTable;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::proof::Proof;

/// A power of two: a few for each core that there may be.
const SHARDS: usize = 64;
/// Of a proof's end so much goes into its hash.
const TAIL_BYTES: usize = 32;

/// Something whose change makes void what was learned from it: an authority's keys, the store of API keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Generation(Arc<AtomicU64>);

impl Generation {
    /// What was learned until now does not hold any more.
    pub(crate) fn end(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    /// For what was learned from a thing that never changes, but ends: it holds until then, also when it is noted late.
    pub(crate) fn whole(&self) -> Since {
        Since { generation: self.clone(), at: 0 }
    }

    /// What is to be noted *before* looking, so that a change meanwhile is noticed.
    pub(crate) fn now(&self) -> Since {
        Since { generation: self.clone(), at: self.0.load(Ordering::Acquire) }
    }
}

/// A generation at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Since {
    generation: Generation,
    at: u64,
}

impl Since {
    pub(crate) fn holds(&self) -> bool {
        self.generation.0.load(Ordering::Acquire) == self.at
    }
}

/// How long what was checked may be remembered.
#[derive(Debug, Clone)]
pub(crate) struct Keep {
    /// Until then, since 1970.
    pub(crate) until: Duration,
    /// As long as this does not change.
    pub(crate) since: Since,
}

/// Whose proof it is: one policy's, by one of its methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) gate: u32,
    pub(crate) method: u8,
}

/// Bounds of the whole cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheBounds {
    /// Proofs remembered at once.
    pub entries_max: usize,
    /// Bytes that they take, about.
    pub bytes_max: usize,
}

impl Default for CacheBounds {
    fn default() -> Self {
        Self { entries_max: 100_000, bytes_max: 128 << 20 }
    }
}

/// A bounded table from proofs to what came of checking them.
pub(crate) struct Cache<V> {
    shards: Box<[Padded<Mutex<Shard<V>>>]>,
    /// What the table's hash starts from, so that places differ from process to process.
    seeds: [u64; 2],
    /// What secrets are hashed under.
    key: hmac::Key,
    entries_per_shard_max: usize,
    bytes_per_shard_max: usize,
}

/// Alone on its cache line, so that one core's lock is not another's.
#[derive(Default)]
#[repr(align(64))]
struct Padded<T>(T);

struct Shard<V> {
    /// Places in `slots`.
    table: HashTable<u32>,
    slots: Vec<Option<Entry<V>>>,
    free: Vec<u32>,
    /// Where the search for room goes on.
    hand: usize,
    bytes: usize,
}

struct Entry<V> {
    hash: u64,
    owner: Owner,
    proof: Box<[u8]>,
    until: Duration,
    since: Since,
    value: V,
    bytes: usize,
    was_used: bool,
}

/// A proof as it is looked for: hashed once, for the look and for what is put in after a miss.
pub(crate) struct Sought<'a> {
    hash: u64,
    owner: Owner,
    proof: Remembered<'a>,
}

enum Remembered<'a> {
    Whole(&'a [u8]),
    Tag(hmac::Tag),
}

/// The same, kept while the proof is being checked.
pub(crate) struct Place {
    hash: u64,
    owner: Owner,
    proof: Box<[u8]>,
}

impl Sought<'_> {
    fn bytes(&self) -> &[u8] {
        match &self.proof {
            Remembered::Whole(bytes) => bytes,
            Remembered::Tag(tag) => tag.as_ref(),
        }
    }

    pub(crate) fn place(&self) -> Place {
        Place { hash: self.hash, owner: self.owner, proof: self.bytes().into() }
    }
}

impl<V: Clone> Cache<V> {
    pub(crate) fn new(bounds: CacheBounds) -> Self {
        let mut random = [0; 48];
        SystemRandom::new().fill(&mut random).expect("invariant: the system has random bytes");
        let (seeds, key) = random.split_at(16);
        let seed =
            |at: usize| u64::from_le_bytes(seeds[at..at + 8].try_into().expect("invariant: eight bytes"));
        let shards = std::iter::repeat_with(|| Padded(Mutex::new(Shard::new()))).take(SHARDS);
        Self {
            shards: shards.collect(),
            seeds: [seed(0), seed(8)],
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            entries_per_shard_max: bounds.entries_max.div_ceil(SHARDS),
            bytes_per_shard_max: bounds.bytes_max.div_ceil(SHARDS),
        }
    }

    /// How a proof is looked for.
    #[inline]
    pub(crate) fn seek<'a>(&self, owner: Owner, proof: Proof<'a>) -> Sought<'a> {
        let proof = match proof {
            Proof::Sealed(bytes) => Remembered::Whole(bytes),
            Proof::Secret(bytes) => Remembered::Tag(hmac::sign(&self.key, bytes)),
        };
        let mut sought = Sought { hash: 0, owner, proof };
        sought.hash = self.hash(owner, sought.bytes());
        sought
    }

    /// What came of checking it, where that still holds at `wall`, since 1970.
    #[inline]
    pub(crate) fn get(&self, sought: &Sought<'_>, wall: Duration) -> Option<V> {
        let mut shard = self.shard(sought.hash);
        let Shard { table, slots, .. } = &mut *shard;
        let is_it = |slot: &u32| {
            let entry = slots[*slot as usize].as_ref();
            entry.is_some_and(|entry| entry.owner == sought.owner && *entry.proof == *sought.bytes())
        };
        let slot = *table.find(sought.hash, is_it)?;
        let entry = slots[slot as usize].as_mut()?;
        if entry.until <= wall || !entry.since.holds() {
            shard.remove(slot);
            return None;
        }
        entry.was_used = true;
        Some(entry.value.clone())
    }

    /// Remembers what came of checking it. `bytes` is about what `value` takes.
    pub(crate) fn put(&self, place: Place, value: V, bytes: usize, keep: Keep, wall: Duration) {
        let bytes = bytes + place.proof.len() + size_of::<Entry<V>>();
        if keep.until <= wall || !keep.since.holds() || bytes > self.bytes_per_shard_max {
            return;
        }
        let Place { hash, owner, proof } = place;
        let entry =
            Entry { hash, owner, proof, until: keep.until, since: keep.since, value, bytes, was_used: false };
        let mut shard = self.shard(hash);
        shard.remove_same(&entry);
        while shard.table.len() >= self.entries_per_shard_max
            || shard.bytes + bytes > self.bytes_per_shard_max
        {
            if !shard.evict(wall) {
                return;
            }
        }
        shard.insert(entry);
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(&shard.0).table.len()).sum()
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<V>> {
        // Neither the lowest bits, which choose the place in the table, nor the highest, which it compares first.
        lock(&self.shards[(hash >> 32) as usize % SHARDS].0)
    }

    /// The end of the proof, folded by multiplication (as wyhash and its kin do).
    fn hash(&self, owner: Owner, proof: &[u8]) -> u64 {
        let mut words = [0_u64; TAIL_BYTES / 8];
        match proof.last_chunk::<TAIL_BYTES>() {
            Some(tail) => {
                for (word, bytes) in words.iter_mut().zip(tail.as_chunks::<8>().0) {
                    *word = u64::from_le_bytes(*bytes);
                }
            }
            None => {
                for (at, byte) in proof.iter().enumerate() {
                    words[at / 8] |= u64::from(*byte) << (at % 8 * 8);
                }
            }
        }
        let [a, b, c, d] = words;
        let owner = (u64::from(owner.gate) << 8) | u64::from(owner.method);
        let [one, other] = self.seeds;
        let first = fold(a ^ one, b ^ other);
        let second = fold(c ^ other, d ^ first);
        fold(second ^ owner, one ^ proof.len() as u64)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product as u64) ^ ((product >> 64) as u64)
}

impl<V> Shard<V> {
    fn new() -> Self {
        Self { table: HashTable::new(), slots: Vec::new(), free: Vec::new(), hand: 0, bytes: 0 }
    }

    fn insert(&mut self, entry: Entry<V>) {
        let hash = entry.hash;
        self.bytes += entry.bytes;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).expect("invariant: bounded far below 4 billion")
            }
        };
        self.slots[slot as usize] = Some(entry);
        let slots = &self.slots;
        let rehash = |slot: &u32| slots[*slot as usize].as_ref().map_or(0, |entry| entry.hash);
        self.table.insert_unique(hash, slot, rehash);
    }

    fn remove(&mut self, slot: u32) {
        let Some(entry) = self.slots[slot as usize].take() else { return };
        if let Ok(found) = self.table.find_entry(entry.hash, |found| *found == slot) {
            found.remove();
        }
        self.bytes -= entry.bytes;
        self.free.push(slot);
    }

    /// Another core may have checked the same proof meanwhile.
    fn remove_same(&mut self, new: &Entry<V>) {
        let slots = &self.slots;
        let is_same = |slot: &u32| {
            let entry = slots[*slot as usize].as_ref();
            entry.is_some_and(|entry| entry.owner == new.owner && entry.proof == new.proof)
        };
        if let Some(slot) = self.table.find(new.hash, is_same).copied() {
            self.remove(slot);
        }
    }

    /// Makes room by one; says whether there was any to be made.
    fn evict(&mut self, wall: Duration) -> bool {
        // Twice round: the first takes the second chances away.
        for _ in 0..2 * self.slots.len() {
            let at = self.hand;
            self.hand = (at + 1) % self.slots.len();
            let Some(entry) = &mut self.slots[at] else { continue };
            let is_over = entry.until <= wall || !entry.since.holds();
            if is_over || !std::mem::take(&mut entry.was_used) {
                self.remove(at as u32);
                return true;
            }
        }
        false
    }
}

impl<V> fmt::Debug for Cache<V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const OWNER: Owner = Owner { gate: 1, method: 0 };

    fn cache(entries: usize) -> Cache<u32> {
        Cache::new(CacheBounds { entries_max: entries * SHARDS, bytes_max: 1 << 20 })
    }

    fn put(cache: &Cache<u32>, proof: Proof<'_>, value: u32, until_s: u64, since: Since) {
        let keep = Keep { until: Duration::from_secs(until_s), since };
        cache.put(cache.seek(OWNER, proof).place(), value, 0, keep, Duration::ZERO);
    }

    fn get(cache: &Cache<u32>, proof: Proof<'_>, wall_s: u64) -> Option<u32> {
        cache.get(&cache.seek(OWNER, proof), Duration::from_secs(wall_s))
    }

    #[test]
    fn what_was_checked_is_known_until_it_expires_or_its_ground_changes() {
        let (cache, keys) = (cache(8), Generation::default());
        for proof in [Proof::Sealed(b"token"), Proof::Secret(b"token")] {
            put(&cache, proof, 7, 10, keys.now());
            assert_eq!(
                (get(&cache, proof, 9), get(&cache, proof, 10), get(&cache, proof, 9)),
                (Some(7), None, None)
            );
            put(&cache, proof, 8, 10, keys.now());
            let before = keys.now();
            keys.end();
            assert_eq!(get(&cache, proof, 9), None);
            put(&cache, proof, 8, 10, before);
            assert_eq!(cache.len(), 0, "what does not hold takes no room");
            assert_eq!(get(&cache, proof, 9), None, "it was checked against what changed meanwhile");
        }
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn proofs_that_end_alike_are_told_apart() {
        let (cache, keys) = (cache(8), Generation::default());
        let tail = "x".repeat(TAIL_BYTES);
        let (one, other) = (format!("a.{tail}"), format!("b.{tail}"));
        put(&cache, Proof::Sealed(one.as_bytes()), 1, 10, keys.now());
        assert_eq!(get(&cache, Proof::Sealed(other.as_bytes()), 0), None);
        assert_eq!(get(&cache, Proof::Secret(one.as_bytes()), 0), None);
        let elsewhere = Owner { gate: 2, method: 0 };
        let same_place = Sought {
            hash: cache.hash(OWNER, one.as_bytes()),
            ..cache.seek(elsewhere, Proof::Sealed(one.as_bytes()))
        };
        assert_eq!(
            cache.get(&same_place, Duration::ZERO),
            None,
            "another policy's, though the hashes are the same"
        );
        assert_eq!(cache.get(&cache.seek(elsewhere, Proof::Sealed(one.as_bytes())), Duration::ZERO), None);
        assert_eq!(get(&cache, Proof::Sealed(one.as_bytes()), 0), Some(1));
    }

    #[test]
    fn a_proof_that_two_cores_checked_at_once_is_remembered_once() {
        let (cache, keys) = (cache(8), Generation::default());
        for value in [1, 2] {
            put(&cache, Proof::Sealed(b"token"), value, 10, keys.now());
        }
        assert_eq!((cache.len(), get(&cache, Proof::Sealed(b"token"), 0)), (1, Some(2)));
    }

    #[test]
    fn a_proof_in_use_outlives_those_that_came_once() {
        let (cache, keys) = (cache(4), Generation::default());
        put(&cache, Proof::Sealed(b"busy"), 1, 10, keys.now());
        for number in 0..4_000_u32 {
            put(&cache, Proof::Sealed(&number.to_le_bytes()), 0, 10, keys.now());
            assert_eq!(get(&cache, Proof::Sealed(b"busy"), 0), Some(1), "after {number}");
        }
        assert!(cache.len() <= 4 * SHARDS);
    }

    #[test]
    fn bytes_are_bounded_as_well() {
        let keys = Generation::default();
        let cache = Cache::new(CacheBounds { entries_max: 1 << 20, bytes_max: SHARDS * 4096 });
        for number in 0..4_000_u32 {
            let keep = Keep { until: Duration::MAX, since: keys.now() };
            let place = cache.seek(OWNER, Proof::Sealed(&number.to_le_bytes())).place();
            cache.put(place, number, 1000, keep, Duration::ZERO);
        }
        assert!(cache.len() <= 4 * SHARDS, "{}", cache.len());
        assert!(cache.shards.iter().all(|shard| lock(&shard.0).bytes <= 4096));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Put { proof: u8, lasts_s: u64 },
        Get { proof: u8 },
        Pass { seconds: u64 },
        Change,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..40_u8, 1..20_u64).prop_map(|(proof, lasts_s)| Step::Put { proof, lasts_s }),
            6 => (0..40_u8).prop_map(|proof| Step::Get { proof }),
            1 => (1..10_u64).prop_map(|seconds| Step::Pass { seconds }),
            1 => Just(Step::Change),
        ]
    }

    proptest! {
        /// The naive model is a map without bounds: the cache may know less than it, and never anything else.
        #[test]
        fn the_cache_never_knows_what_does_not_hold(steps in prop::collection::vec(step(), 1..200)) {
            let (cache, keys) = (Cache::new(CacheBounds { entries_max: SHARDS, bytes_max: 1 << 20 }), Generation::default());
            let (mut model, mut wall, mut value) = (HashMap::new(), 0_u64, 0_u32);
            for step in steps {
                match step {
                    Step::Put { proof, lasts_s } => {
                        value += 1;
                        model.insert(proof, (value, wall + lasts_s));
                        let keep = Keep { until: Duration::from_secs(wall + lasts_s), since: keys.now() };
                        let place = cache.seek(OWNER, Proof::Sealed(&[proof])).place();
                        cache.put(place, value, 0, keep, Duration::from_secs(wall));
                        prop_assert_eq!(get(&cache, Proof::Sealed(&[proof]), wall), Some(value));
                    }
                    Step::Get { proof } => {
                        let held = model.get(&proof).filter(|(_, until)| *until > wall).map(|(value, _)| *value);
                        let known = get(&cache, Proof::Sealed(&[proof]), wall);
                        prop_assert!(known.is_none() || known == held, "{known:?} instead of {held:?}");
                    }
                    Step::Pass { seconds } => wall += seconds,
                    Step::Change => {
                        keys.end();
                        model.clear();
                    }
                }
                prop_assert!(cache.len() <= SHARDS);
                let in_order = |shard: &Padded<Mutex<Shard<u32>>>| {
                    let shard = lock(&shard.0);
                    shard.slots.iter().flatten().count() == shard.table.len()
                        && shard.slots.iter().flatten().map(|entry| entry.bytes).sum::<usize>() == shard.bytes
                };
                prop_assert!(cache.shards.iter().all(in_order));
            }
        }
    }
}
