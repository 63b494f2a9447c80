//! Limits: how much one key may take, decided to the request.
//!
//! A limiter is a table of keys, each with the little that its algorithm has to remember, and one law for all of them. A
//! decision locks one shard of the table for some tens of nanoseconds, so whatever number of cores ask about one key, they
//! are answered one after the other, and none is let through too many.
//!
//! What "exact" means, for each [`Law`]:
//!
//! - **Token bucket**: of any stretch of time `t`, at most `burst + rate × t` pass, and whoever is refused would have been
//!   one over. Fractions of a nanosecond are kept, so nothing is lost to rounding however long it runs.
//! - **Leaky bucket**: the same, with the wait instead of the refusal. Departures are planned to the nanosecond; one that is
//!   picked up late is caught up with by at most [`CATCH_UP`].
//! - **Fixed window**: at most `limit` from a key's first request on for one period, then anew. Two windows meet, so a stretch
//!   of one period across their border may hold twice as many: that is the algorithm, not an error of ours.
//! - **Sliding window**: at most `limit` in *any* stretch of one period. The past is kept in tenths of a period, and the oldest
//!   one counts until all of it is past: somebody may be refused for up to a tenth of a period longer than a list of all
//!   requests would have it. It errs on this side only.
//! - **Concurrency**: at most so many permits at once; a permit is given back when it is dropped.
//! - **Quota**: at most `limit` within a day or month of UTC, by the wall clock that the caller hands in. A clock set back
//!   does not bring back what was used.
//!
//! Memory is bounded by `keys`. A key that owes nothing (a full bucket, a window that is over) is forgotten for free. When
//! there is none, the key that *owes least* is: it starts anew, so what is forgiven is the least that can be, and who wants an
//! exhausted key forgotten must first use up all others of its neighbourhood as far. Nobody is ever refused for want of room.
//!
//! Absent: a clock, randomness (the seed of the keys' hash is handed in), what a key is made of, and anything beyond this
//! process: `terrace-limits` does that.

mod bucket;
mod concurrency;
mod fixed;
mod key;
mod law;
mod limiter;
mod line;
mod personal;
mod quota;
mod sliding;
mod table;

use std::time::Duration;

// The public interface is:
pub use concurrency::Permit;
pub use key::{AddressKey, Key, KeySeed, Material};
pub use law::{Law, Period, Policy, Rate};
pub use limiter::{Answer, Limiter};
pub use line::{CATCH_UP, Place, Turn};
pub use personal::{PersonalBuckets, PersonalQuotas};
pub use quota::{QuotaUse, days_since_1970, months_since_1970};

/// A moment, by both clocks: the one that only goes forward, and the one that people read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Since the caller's clock started. Different threads may ask in a slightly different order.
    pub clock: Duration,
    /// Since 1970, in UTC; only quotas look at it.
    pub wall: Duration,
}

/// What a limit says to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may pass.
    pub allowed: bool,
    /// The most that can be had: the burst of a bucket, the requests of a window.
    pub limit: u64,
    /// What is left of it, after this decision.
    pub remaining: u64,
    /// Until all of it is there again, if nobody asks meanwhile.
    pub reset: Duration,
    /// How long to wait before the same request could pass. None when it passes now, and when it never can: it costs more
    /// than the limit ever has. Concurrency does not know, and says one second.
    pub retry_after: Option<Duration>,
}

/// Nanoseconds; beyond 584 years they stay there.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What eight threads count together that begin at once.
#[cfg(test)]
fn counted_by_threads(count: impl Fn() -> usize + Sync) -> usize {
    let together = std::sync::Barrier::new(8);
    let sum = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                together.wait();
                sum.fetch_add(count(), std::sync::atomic::Ordering::Relaxed)
            });
        }
    });
    sum.into_inner()
}
