//! A bounded table of keys, in shards, each behind a lock of its own.
//!
//! Half of a key's 128 bits leads to its shard, the other half is kept in its place. A shard is one array of places, probed
//! in a row from where that half leads: who is looked for is found within one cache line or two, and there is no second
//! structure to keep in order. It begins with eight places and doubles up to what its bound needs, so a limit that few meet
//! costs next to nothing. A removed place is closed up at once (Knuth, The Art of Computer Programming 3, algorithm
//! 6.4 R), so it never fills up with what was.
//!
//! When a shard is full, a hand goes round it like that of a clock and looks at 32 places: those that owe nothing are
//! cleared, and if there were none, the one that owes least. Whoever is under way (a permit, a place in line) is never
//! forgotten: there are as many of these as there are requests, and these are bounded elsewhere.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Key, Moment, nanos};

/// What a limiter remembers of one key.
pub(super) trait Cell: Default + fmt::Debug {
    /// The parameters, the same for all keys.
    type Law: Copy + fmt::Debug;

    /// Whether to forget it changes nothing: it is as if the key had never been seen.
    fn is_idle(&self, law: &Self::Law, now: Moment) -> bool;

    /// What is used up, in requests of cost 1, rounded up.
    fn used(&self, law: &Self::Law, now: Moment) -> u64;

    /// How much would be forgiven by forgetting it; only compared with others of the same table.
    fn owes(&self, law: &Self::Law, now: Moment) -> u128 {
        u128::from(self.used(law, now))
    }

    /// Whether somebody is under way who will come back to it.
    fn is_pinned(&self) -> bool {
        false
    }

    /// That of a key which is seen for the first time.
    fn fresh(_: &Self::Law, _: Moment) -> Self {
        Self::default()
    }

    /// How often cells that owe nothing have to be cleared away, because they keep the time in a form that goes round. After
    /// as long again, nobody owes anything any more.
    fn sweep_every_ns(_: &Self::Law) -> u64 {
        u64::MAX
    }
}

/// Places that the hand looks at in one go: two kilobytes in a row for small cells.
const SCAN: usize = 32;
const PLACES_MIN: usize = 8;
/// Up to so many shards, each is made for this many keys: cores shall rarely meet at one.
const SHARDS_USUAL: usize = 64;
const KEYS_PER_SHARD_MIN: usize = 256;
/// Beyond that, shards become more so that each stays small, up to a bound.
const KEYS_PER_SHARD: usize = 1_600;
const SHARDS_MAX: usize = 1_024;

/// How many keys a table remembers, in how many shards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    keys_max: usize,
    shards: usize,
}

impl Size {
    pub(super) fn of(keys_max: usize) -> Self {
        let usual = (keys_max / KEYS_PER_SHARD_MIN).clamp(1, SHARDS_USUAL);
        Self { keys_max, shards: (keys_max / KEYS_PER_SHARD).clamp(usual, SHARDS_MAX) }
    }

    /// In as many shards as another table has, so that its keys lead to the same ones.
    pub(super) fn beside(keys_max: usize, other: &dyn Keys) -> Self {
        Self { keys_max, shards: other.shards() }
    }
}

/// A table of cells by key.
#[derive(Debug)]
pub(super) struct Table<C: Cell> {
    shards: Box<[Padded<C>]>,
}

/// On cache lines of its own, or cores that use different shards would still wait for one another.
#[derive(Debug)]
#[repr(align(128))]
struct Padded<C: Cell>(Mutex<Shard<C>>);

/// What each decision reads comes first, so that with the lock before it, it is one cache line.
#[derive(Debug)]
#[repr(C)]
struct Shard<C: Cell> {
    places: Vec<Slot<C>>,
    sweep_at_ns: u64,
    law: C::Law,
    len: usize,
    keys_max: usize,
    hand: usize,
    forgotten: u64,
}

#[derive(Debug, Default)]
struct Slot<C> {
    /// The half of the key that did not lead here; 0 where the place is empty.
    tag: u64,
    cell: C,
}

impl<C: Cell> Table<C> {
    /// An empty table that remembers at least `keys_max` keys; as keys do not fall evenly on its shards, it may remember
    /// up to half more.
    pub(super) fn new(law: C::Law, size: Size) -> Self {
        let Size { keys_max, shards } = size;
        let keys_max = keys_max_of_shard(keys_max, shards);
        let shard = || Shard {
            places: Vec::new(),
            sweep_at_ns: C::sweep_every_ns(&law),
            law,
            len: 0,
            keys_max,
            hand: 0,
            forgotten: 0,
        };
        Self { shards: (0..shards).map(|_| Padded(Mutex::new(shard()))).collect() }
    }

    /// Acts on the cell of a key, which is made if there is none.
    #[inline]
    pub(super) fn with<R>(&self, key: Key, now: Moment, act: impl FnOnce(&C::Law, &mut C) -> R) -> R {
        let mut shard = self.shard(key);
        let shard = &mut *shard;
        let now_ns = nanos(now.clock);
        if now_ns >= shard.sweep_at_ns {
            shard.sweep(now);
        }
        let place = match shard.find(tag(key)) {
            Ok(place) => place,
            Err(_) => shard.insert(tag(key), now),
        };
        act(&shard.law, &mut shard.places[place].cell)
    }

    /// Acts on the cell of a key, if there is one.
    #[inline]
    pub(super) fn with_known<R>(&self, key: Key, act: impl FnOnce(&C::Law, &mut C) -> R) -> Option<R> {
        let mut shard = self.shard(key);
        let shard = &mut *shard;
        let place = shard.find(tag(key)).ok()?;
        Some(act(&shard.law, &mut shard.places[place].cell))
    }

    /// Goes on under another law and bound. Each cell is handed both laws to fit itself to the new one. A shard is held for
    /// as long as its own cells take, no longer.
    pub(super) fn migrate(
        &self,
        law: C::Law,
        keys_max: usize,
        now: Moment,
        mut fit: impl FnMut(&C::Law, &C::Law, &mut C),
    ) {
        let keys_max = keys_max_of_shard(keys_max, self.shards.len());
        for padded in &self.shards {
            let mut shard = lock(padded);
            shard.sweep(now);
            let before = shard.law;
            for place in shard.places.iter_mut().filter(|place| place.tag != 0) {
                fit(&before, &law, &mut place.cell);
            }
            shard.law = law;
            shard.sweep_at_ns = nanos(now.clock).saturating_add(C::sweep_every_ns(&law));
            shard.keys_max = keys_max;
            while shard.len > keys_max && shard.make_room(now) {}
        }
    }

    #[inline]
    fn shard(&self, key: Key) -> MutexGuard<'_, Shard<C>> {
        lock(&self.shards[within((key.bits() >> 64) as u64, self.shards.len())])
    }
}

/// What can be asked of a table whatever its cells are.
pub(super) trait Keys {
    /// How many keys it remembers.
    fn len(&self) -> usize;

    /// How many keys were forgotten that owed something.
    fn forgotten(&self) -> u64;

    /// How many shards it has.
    fn shards(&self) -> usize;

    /// Tells what each key has used, one shard after the other. The key told is not the one that was asked with, but leads to
    /// the same place in a table of as many shards.
    fn each_used(&self, now: Moment, look: &mut dyn FnMut(Key, u64));
}

impl<C: Cell> Keys for Table<C> {
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len).sum()
    }

    fn forgotten(&self) -> u64 {
        self.shards.iter().map(|shard| lock(shard).forgotten).sum()
    }

    fn each_used(&self, now: Moment, look: &mut dyn FnMut(Key, u64)) {
        for (index, padded) in self.shards.iter().enumerate() {
            let shard = lock(padded);
            // The first half that leads to this shard.
            let half = ((index as u128) << 64).div_ceil(self.shards.len() as u128);
            for place in shard.places.iter().filter(|place| place.tag != 0) {
                look(Key::from_hash(half << 64 | u128::from(place.tag)), place.cell.used(&shard.law, now));
            }
        }
    }

    fn shards(&self) -> usize {
        self.shards.len()
    }
}

/// The law and the places are whole after any panic: a cell is changed by plain assignments.
#[inline]
fn lock<C: Cell>(shard: &Padded<C>) -> MutexGuard<'_, Shard<C>> {
    shard.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An even part, and six standard deviations more, so that no shard is full before the table is.
fn keys_max_of_shard(keys_max: usize, shards: usize) -> usize {
    if shards == 1 {
        return keys_max.max(1);
    }
    let part = keys_max.div_ceil(shards);
    part + 6 * part.isqrt() + 8
}

/// The half of a key that is kept.
#[inline]
fn tag(key: Key) -> u64 {
    (key.bits() as u64).max(1)
}

/// Leads a hash to one of `count` places, evenly.
#[inline]
fn within(hash: u64, count: usize) -> usize {
    ((u128::from(hash) * count as u128) >> 64) as usize
}

impl<C: Cell> Shard<C> {
    /// Where the key is, or the empty place where it would be.
    #[inline]
    fn find(&self, tag: u64) -> Result<usize, usize> {
        let count = self.places.len();
        let mut place = within(tag, count);
        // An array is never full, so this ends; one without places has nobody.
        while let Some(found) = self.places.get(place) {
            if found.tag == tag {
                return Ok(place);
            }
            if found.tag == 0 {
                return Err(place);
            }
            place = if place + 1 == count { 0 } else { place + 1 };
        }
        Err(0)
    }

    #[cold]
    #[inline(never)]
    fn insert(&mut self, tag: u64, now: Moment) -> usize {
        if self.len >= self.keys_max {
            self.make_room(now);
        }
        if (self.len + 1) * 4 > self.places.len() * 3 {
            self.grow();
        }
        let (Ok(place) | Err(place)) = self.find(tag);
        self.places[place] = Slot { tag, cell: C::fresh(&self.law, now) };
        self.len += 1;
        place
    }

    /// Doubles, or grows to what the bound needs; beyond that only for those who are under way.
    fn grow(&mut self) {
        let doubled = (self.places.len() * 2).max(PLACES_MIN);
        let needed = (self.keys_max + 1) * 4 / 3 + 1;
        let is_within = (self.len + 1) * 4 <= needed * 3;
        let count = if is_within { doubled.min(needed.max(PLACES_MIN)) } else { doubled };
        let mut places = Vec::new();
        places.resize_with(count, Slot::default);
        let before = std::mem::replace(&mut self.places, places);
        for place in before.into_iter().filter(|place| place.tag != 0) {
            let (Ok(index) | Err(index)) = self.find(place.tag);
            self.places[index] = place;
        }
        self.hand = 0;
    }

    /// Forgets who owes nothing.
    #[cold]
    #[inline(never)]
    fn sweep(&mut self, now: Moment) {
        let (now_ns, every_ns) = (nanos(now.clock), C::sweep_every_ns(&self.law));
        let is_everybody_idle = now_ns >= self.sweep_at_ns.saturating_add(every_ns);
        let mut place = 0;
        while let Some(Slot { tag, cell }) = self.places.get(place) {
            let is_idle = is_everybody_idle || cell.is_idle(&self.law, now);
            if *tag != 0 && is_idle && !cell.is_pinned() {
                self.remove(place);
            } else {
                place += 1;
            }
        }
        self.sweep_at_ns = now_ns.saturating_add(every_ns);
    }

    /// Forgets who owes nothing among the next places, or who owes least. Whether there was anybody.
    fn make_room(&mut self, now: Moment) -> bool {
        let before = self.len;
        let mut least: Option<(u128, u64)> = None;
        let (mut looked, mut steps) = (0, 0);
        // Whoever is under way does not count as looked at, so that there is a choice among the others.
        while looked < SCAN && steps < self.places.len() {
            steps += 1;
            self.hand = if self.hand >= self.places.len() { 0 } else { self.hand };
            let Slot { tag, cell } = &self.places[self.hand];
            if *tag == 0 || cell.is_pinned() {
                self.hand += 1;
                continue;
            }
            looked += 1;
            if cell.is_idle(&self.law, now) {
                self.remove(self.hand);
                continue;
            }
            let owes = cell.owes(&self.law, now);
            if least.is_none_or(|(smallest, _)| owes < smallest) {
                least = Some((owes, *tag));
            }
            self.hand += 1;
        }
        if self.len == before
            && let Some((_, tag)) = least
            && let Ok(place) = self.find(tag)
        {
            self.remove(place);
            self.forgotten += 1;
        }
        self.len < before
    }

    /// Empties a place, and moves up who would not be found any more behind the gap.
    fn remove(&mut self, place: usize) {
        let count = self.places.len();
        let distance = |from: usize, to: usize| if to >= from { to - from } else { to + count - from };
        let (mut gap, mut next) = (place, place);
        self.places[gap] = Slot::default();
        self.len -= 1;
        loop {
            next = if next + 1 == count { 0 } else { next + 1 };
            let tag = self.places[next].tag;
            if tag == 0 {
                return;
            }
            let home = within(tag, count);
            if distance(home, next) >= distance(gap, next) {
                self.places.swap(gap, next);
                gap = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Owes what it holds; holds nothing when idle.
    #[derive(Debug, Default, Clone, Copy, PartialEq)]
    struct Held {
        owed: u32,
        is_pinned: bool,
    }

    impl Cell for Held {
        type Law = ();

        fn is_idle(&self, _: &(), _: Moment) -> bool {
            self.owed == 0
        }

        fn used(&self, _: &(), _: Moment) -> u64 {
            u64::from(self.owed)
        }

        fn is_pinned(&self) -> bool {
            self.is_pinned
        }
    }

    fn table(keys_max: usize) -> Table<Held> {
        Table::new((), Size::of(keys_max))
    }

    /// Keys as a hash makes them.
    fn key(number: u64) -> Key {
        let mixed = |salt: u64| (number ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let high = mixed(1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let low = mixed(2).wrapping_mul(0x94d0_49bb_1331_11eb);
        Key::from_hash(u128::from(high ^ (high >> 31)) << 64 | u128::from(low ^ (low >> 29)))
    }

    fn set(table: &Table<Held>, number: u64, owed: u32) {
        table.with(key(number), Moment::default(), |(), held| held.owed = owed);
    }

    fn owed(table: &Table<Held>, number: u64) -> Option<u32> {
        table.with_known(key(number), |(), held| held.owed)
    }

    #[test]
    fn no_key_that_owes_is_forgotten_as_long_as_there_are_no_more_than_the_bound() {
        for keys_max in [1, 2, 100, 1_000, 5_000, 100_000] {
            let table = table(keys_max as usize);
            (0..keys_max).for_each(|number| set(&table, number, 7));
            assert_eq!((table.len() as u64, table.forgotten()), (keys_max, 0));
            assert!((0..keys_max).all(|number| owed(&table, number) == Some(7)));
        }
    }

    #[test]
    fn a_flood_of_keys_takes_no_more_memory_than_the_bound() {
        let table = table(10_000);
        (0..200_000).for_each(|number| set(&table, number, 1));
        assert!((10_000..=15_000).contains(&table.len()), "{}", table.len());
        let places: usize = table.shards.iter().map(|shard| lock(shard).places.len()).sum();
        assert!(places <= 15_000 * 4 / 3 + 200, "{places}");
    }

    #[test]
    fn whoever_owes_much_is_not_forgotten_for_a_flood_of_those_who_owe_little() {
        let table = table(1_000);
        (0..50).for_each(|number| set(&table, number, 100));
        (1_000..100_000).for_each(|number| set(&table, number, 1));
        assert!((0..50).all(|number| owed(&table, number) == Some(100)));
        assert!(table.forgotten() > 0);
    }

    #[test]
    fn who_owes_nothing_goes_first_and_is_not_counted_as_forgotten() {
        let table = table(1_000);
        (0..500).for_each(|number| set(&table, number, 1));
        (1_000..100_000).for_each(|number| set(&table, number, 0));
        assert!((0..500).all(|number| owed(&table, number) == Some(1)));
        assert_eq!(table.forgotten(), 0);
    }

    #[test]
    fn whoever_is_under_way_is_kept_even_beyond_the_bound() {
        let table = table(16);
        for number in 0..1_000 {
            table.with(key(number), Moment::default(), |(), held| {
                *held = Held { owed: 1, is_pinned: true };
            });
        }
        assert_eq!((table.len(), table.forgotten()), (1_000, 0));
        assert!((0..1_000).all(|number| owed(&table, number) == Some(1)));
    }

    #[test]
    fn a_smaller_bound_after_a_reload_forgets_those_who_owe_least() {
        let table = table(1_000);
        (0..1_000).for_each(|number| set(&table, number, if number < 20 { 100 } else { 1 }));
        table.migrate((), 100, Moment::default(), |(), (), _| ());
        assert!(table.len() <= 250, "{}", table.len());
        assert!((0..20).all(|number| owed(&table, number) == Some(100)));
    }

    proptest! {
        /// Against a map: whatever is put in and made idle, found or removed, nothing else gets lost or changed.
        #[test]
        fn it_holds_what_a_map_holds(events in prop::collection::vec((0_u64..60, 0_u32..4), 1..400)) {
            let table = table(1);
            lock(&table.shards[0]).keys_max = 40;
            let mut map: HashMap<u64, u32> = HashMap::new();
            for (number, value) in events {
                set(&table, number, value);
                map.insert(number, value);
                let shard = lock(&table.shards[0]);
                prop_assert_eq!(shard.places.iter().filter(|place| place.tag != 0).count(), shard.len);
                prop_assert!(shard.len <= 40);
                drop(shard);
                if table.forgotten() == 0 {
                    for (number, value) in map.iter().filter(|(_, value)| **value > 0) {
                        prop_assert_eq!(owed(&table, *number), Some(*value));
                    }
                }
            }
        }
    }
}
