//! How much of a retry budget one client may use.
//!
//! A budget for all lets a single client, whose every request fails, use it up, and leaves nothing for the others at the
//! moment when they need it (envoy issue 24937). So of each client's own requests, too, only a share may be retried. Clients
//! are told apart by a hash, in a table of fixed size: two that meet in a cell share what is one client's, and there is
//! nothing to forget and nothing that grows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Share;

/// Cells of the table, for each of two halves of the window: 4 KiB.
const CELLS: usize = 256;
/// Half of the window over which is counted: the present half and the whole one before.
const HALF: Duration = Duration::from_secs(5);
/// So many retries a client has within the window, however little it asks.
const FLOOR: u64 = 3;

const COUNT_BITS: u32 = 24;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const TAG_MASK: u64 = (1 << (64 - 2 * COUNT_BITS)) - 1;

/// Requests and retries by client, over the last five to ten seconds. Written from any core.
#[derive(Debug)]
pub(crate) struct ClientShares {
    halves: [Box<[AtomicU64]>; 2],
}

impl Default for ClientShares {
    fn default() -> Self {
        let half = || (0..CELLS).map(|_| AtomicU64::new(0)).collect();
        Self { halves: [half(), half()] }
    }
}

impl ClientShares {
    /// A request of this client was admitted.
    pub(crate) fn admit(&self, client: u64, now: Duration) {
        self.add(client, now, 1);
    }

    /// Whether the client has not had its share of retries.
    pub(crate) fn may_retry(&self, share: Share, client: u64, now: Duration) -> bool {
        let (admitted, retried) = self.counts(client, now);
        retried < share.of(admitted) + FLOOR
    }

    /// A request of this client is retried.
    pub(crate) fn retry(&self, client: u64, now: Duration) {
        self.add(client, now, 1 << COUNT_BITS);
    }

    /// Requests and retries.
    fn counts(&self, client: u64, now: Duration) -> (u64, u64) {
        let tag = tag_of(now);
        let count = |tag: u64| {
            let word = self.cell(client, tag).load(Ordering::Relaxed);
            match word >> (2 * COUNT_BITS) == tag {
                true => (word & COUNT_MAX, word >> COUNT_BITS & COUNT_MAX),
                false => (0, 0),
            }
        };
        let (present, before) = (count(tag), count(tag.wrapping_sub(1) & TAG_MASK));
        (present.0 + before.0, present.1 + before.1)
    }

    fn add(&self, client: u64, now: Duration, what: u64) {
        let tag = tag_of(now);
        let added = |word: u64| {
            let kept = if word >> (2 * COUNT_BITS) == tag { word } else { tag << (2 * COUNT_BITS) };
            let is_full = kept & COUNT_MAX == COUNT_MAX || kept >> COUNT_BITS & COUNT_MAX == COUNT_MAX;
            Some(if is_full { kept } else { kept + what })
        };
        let updated = self.cell(client, tag).fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
        debug_assert!(updated.is_ok(), "the update always gives a value");
    }

    fn cell(&self, client: u64, tag: u64) -> &AtomicU64 {
        &self.halves[(tag & 1) as usize][(client % CELLS as u64) as usize]
    }
}

/// Which half of a window `now` lies in; from 1, so that an untouched cell belongs to none for two weeks.
fn tag_of(now: Duration) -> u64 {
    (1 + now.as_secs() / HALF.as_secs()) & TAG_MASK
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIFTH: Share = Share::percent(20);

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn granted(shares: &ClientShares, client: u64, now: Duration) -> usize {
        (0..10_000).take_while(|_| try_retry(shares, client, now)).count()
    }

    fn try_retry(shares: &ClientShares, client: u64, now: Duration) -> bool {
        let may = shares.may_retry(FIFTH, client, now);
        if may {
            shares.retry(client, now);
        }
        may
    }

    #[test]
    fn a_client_has_its_share_and_takes_nothing_from_the_others() {
        let shares = ClientShares::default();
        (0..100).for_each(|_| shares.admit(1, at(100)));
        (0..50).for_each(|_| shares.admit(2, at(100)));
        assert_eq!((granted(&shares, 1, at(100)), granted(&shares, 2, at(100))), (23, 13));
        assert_eq!(granted(&shares, 3, at(100)), 3, "who asks little may still try again");
    }

    #[test]
    fn what_was_ten_seconds_ago_is_forgotten() {
        let shares = ClientShares::default();
        (0..100).for_each(|_| shares.admit(1, at(100)));
        assert_eq!(granted(&shares, 1, at(104)), 23);
        assert_eq!(granted(&shares, 1, at(109)), 0);
        (0..10).for_each(|_| shares.admit(1, at(110)));
        assert_eq!(granted(&shares, 1, at(110)), 5);
    }

    proptest! {
        /// Against the naive client: a list of what it did, looked through anew.
        #[test]
        fn a_client_never_has_more_than_its_share(events in prop::collection::vec((0_u64..2, any::<bool>()), 1..300)) {
            let (shares, mut now, mut admitted, mut retried) = (ClientShares::default(), 7, Vec::new(), Vec::new());
            for (gap, is_retry) in events {
                now += gap;
                let within = |list: &[u64]| list.iter().filter(|then| now / 5 - **then / 5 < 2).count();
                if is_retry {
                    let may = within(&retried) < within(&admitted) / 5 + 3;
                    prop_assert_eq!(try_retry(&shares, 9, at(now)), may);
                    retried.extend(may.then_some(now));
                } else {
                    shares.admit(9, at(now));
                    admitted.push(now);
                }
            }
        }
    }
}
