//! Consistent hashing by Maglev: equal hashes meet the same endpoint, and few move when the set changes.
//!
//! After "Maglev: A Fast and Reliable Software Network Load Balancer" (Eisenbud et al., NSDI 2016), section
//! 3.4: every member has its own permutation of the table's slots, and the members take turns in claiming the
//! next free slot of theirs. So slots are shared almost exactly by weight, a member that leaves gives up its
//! own slots, and only a few others change hands. A lookup is one array access.
//!
//! The table knows the members, not their health: who is down for a moment is stepped over by walking on to
//! the next slots, which belong to all others in mixed order, and finds its old keys again afterwards.

use crate::id::siphash;

/// Prime, so that every skip visits all slots. More than 100 slots for each of up to 150 members keeps the
/// shares within about 1 % (section 5.3 of the paper).
const SMALL: usize = 16_381;
/// The paper's own choice, for larger sets.
const LARGE: usize = 65_537;
const SMALL_MEMBERS_MAX: usize = 150;
const OFFSET_KEY: [u8; 16] = *b"terrace: offset.";
const SKIP_KEY: [u8; 16] = *b"terrace: skip...";

/// A member as the table sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// The same name has the same slots, on every machine.
    pub(crate) name: std::sync::Arc<str>,
    /// Above zero.
    pub(crate) weight: u32,
}

/// Which member owns which slot.
#[derive(Debug)]
pub(crate) struct Table {
    slots: Box<[u16]>,
}

struct Claimant {
    index: u16,
    slot: usize,
    skip: usize,
    weight: u64,
    credit: u64,
}

impl Table {
    /// The table of these members; their order does not matter. At most 65,536 are looked at.
    pub(crate) fn new(members: &[Member]) -> Self {
        let size = if members.len() <= SMALL_MEMBERS_MAX { SMALL } else { LARGE };
        let mut claimants = claimants(members, size);
        let mut slots = vec![None; if members.is_empty() { 0 } else { size }];
        let weight_max = claimants.iter().map(|claimant| claimant.weight).max().unwrap_or(1);
        let mut free = slots.len();
        while free > 0 {
            for claimant in &mut claimants {
                claimant.credit += claimant.weight;
                if claimant.credit >= weight_max && free > 0 {
                    claimant.credit -= weight_max;
                    claimant.claim(&mut slots);
                    free -= 1;
                }
            }
        }
        Self { slots: slots.into_iter().map(|owner| owner.unwrap_or_default()).collect() }
    }

    /// The owners of the slots from the hash's own onwards, round the whole table.
    pub(crate) fn walk(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        let start = self.start(hash);
        let (before, after) = self.slots.split_at(start);
        after.iter().chain(before).map(|owner| usize::from(*owner))
    }

    fn start(&self, hash: u64) -> usize {
        // The caller's hash may be weak in any of its bits; mix before taking a part of it.
        let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((u128::from(mixed ^ (mixed >> 32)) * self.slots.len() as u128) >> 64) as usize
    }
}

impl Claimant {
    /// Takes the next free slot of this member's permutation.
    fn claim(&mut self, slots: &mut [Option<u16>]) {
        while slots[self.slot].is_some() {
            self.slot = (self.slot + self.skip) % slots.len();
        }
        slots[self.slot] = Some(self.index);
    }
}

/// In order of their names: who comes first in a round wins a contested slot.
fn claimants(members: &[Member], size: usize) -> Vec<Claimant> {
    let mut order: Vec<(u16, &Member)> = (0..=u16::MAX).zip(members).collect();
    order.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
    let claimant = |(index, member): (u16, &Member)| {
        let name = member.name.as_bytes();
        Claimant {
            index,
            slot: (siphash(&OFFSET_KEY, name) % size as u64) as usize,
            skip: (siphash(&SKIP_KEY, name) % (size as u64 - 1)) as usize + 1,
            weight: u64::from(member.weight.max(1)),
            credit: 0,
        }
    };
    order.into_iter().map(claimant).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members(names: &[&str]) -> Vec<Member> {
        names.iter().map(|name| Member { name: (*name).into(), weight: 1 }).collect()
    }

    fn numbered(count: usize) -> Vec<Member> {
        (0..count).map(|number| Member { name: format!("web-{number}").into(), weight: 1 }).collect()
    }

    fn owner<'a>(table: &Table, members: &'a [Member], hash: u64) -> &'a str {
        &members[table.walk(hash).next().expect("a table with members")].name
    }

    fn counts(table: &Table, members: usize) -> Vec<usize> {
        let mut counts = vec![0; members];
        table.slots.iter().for_each(|owner| counts[usize::from(*owner)] += 1);
        counts
    }

    #[test]
    fn an_empty_set_has_an_empty_walk() {
        assert_eq!(Table::new(&[]).walk(7).count(), 0);
    }

    #[test]
    fn the_order_in_which_members_are_told_does_not_matter() {
        let (one, other) = (members(&["a", "b", "c"]), members(&["c", "a", "b"]));
        let (first, second) = (Table::new(&one), Table::new(&other));
        assert!((0..1_000).all(|hash| owner(&first, &one, hash) == owner(&second, &other, hash)));
    }

    #[test]
    fn a_walk_meets_every_member() {
        let mut met: Vec<usize> = Table::new(&numbered(20)).walk(99).collect();
        met.sort_unstable();
        met.dedup();
        assert_eq!(met.len(), 20);
    }

    #[test]
    fn weights_are_met_within_a_per_cent() {
        let mut weighted = members(&["a", "b", "c"]);
        weighted[1].weight = 2;
        weighted[2].weight = 5;
        let counts = counts(&Table::new(&weighted), 3);
        for (member, count) in weighted.iter().zip(&counts) {
            let due = SMALL as f64 * f64::from(member.weight) / 8.0;
            assert!((*count as f64 - due).abs() <= due * 0.01, "{counts:?}");
        }
    }

    #[test]
    fn neighbouring_hashes_spread_over_all_members() {
        let (set, mut seen) = (numbered(10), [0; 10]);
        let table = Table::new(&set);
        (0..10_000).for_each(|hash| seen[table.walk(hash).next().expect("a table with members")] += 1);
        assert!(seen.iter().all(|times| (800..1_200).contains(times)), "{seen:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn equal_members_own_equally_many_slots(count in 1_usize..100) {
            let counts = counts(&Table::new(&numbered(count)), count);
            let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
            prop_assert!(most.unwrap_or(0) - least.unwrap_or(0) <= 1, "{:?}", counts);
        }

        /// Ideally only the keys of the member that left move; Maglev moves a few per cent more (section 5.3).
        #[test]
        fn little_moves_when_a_member_leaves_or_comes(count in 2_usize..40, leaves in 0_usize..40) {
            let leaves = leaves % count;
            let before = numbered(count);
            let mut after = before.clone();
            after.remove(leaves);
            let (old, new) = (Table::new(&before), Table::new(&after));
            let moved = (0..old.slots.len()).filter(|slot| {
                let was = usize::from(old.slots[*slot]);
                was != leaves && before[was] != after[usize::from(new.slots[*slot])]
            });
            let moved_share = moved.count() as f64 / old.slots.len() as f64;
            prop_assert!(moved_share < 0.20_f64.min(1.5 / count as f64), "{} of {}", moved_share, count);
        }
    }
}
