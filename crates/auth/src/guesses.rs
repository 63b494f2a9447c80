//! How often a password may be guessed.
//!
//! Three rates bound it, each a bucket that a wrong guess fills and time empties: of one address for one user, of one address for
//! all users (somebody who tries a list), and of one user from all addresses (many machines that try one door). The last would
//! let anybody lock a user out, so whoever was right from an address within the last day is not held by it there.
//!
//! The buckets are an array of fixed size that is entered by a keyed hash: nothing is allocated, nobody can choose whom they
//! collide with, and no flood of addresses pushes an entry out. A bucket is one number, the time at which it is empty (the generic cell
//! rate algorithm, ITU-T I.371). A guess is charged before it is checked, so that many at once are no way around, and given
//! back when it was right.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ring::hmac;

/// Buckets of each kind; two that are busy share one rarely.
const BUCKETS: usize = 1 << 14;
/// Whoever was right is known for so long.
const PROVEN: Duration = Duration::from_secs(86_400);

/// So many wrong guesses at once, and one more for each interval.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u64,
    interval_ms: u64,
}

const OF_BOTH: Rate = Rate { burst: 10, interval_ms: 10_000 };
const OF_ADDRESS: Rate = Rate { burst: 50, interval_ms: 1_000 };
const OF_USER: Rate = Rate { burst: 100, interval_ms: 10_000 };

/// Counts guesses. Shared by all lists of users.
pub(crate) struct Guesses {
    key: hmac::Key,
    both: Buckets,
    address: Buckets,
    user: Buckets,
    /// When it was right last, in milliseconds since the clock's start.
    proven: Box<[AtomicU64]>,
}

/// A guess that was charged: what it says to whom it must be given back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guess {
    both: usize,
    address: usize,
    user: usize,
    is_proven: bool,
}

/// Each the millisecond, since the clock's start, at which the bucket is empty.
struct Buckets {
    empty_at: Box<[AtomicU64]>,
    rate: Rate,
}

impl Buckets {
    fn new(rate: Rate) -> Self {
        Self { empty_at: zeros(), rate }
    }

    /// How long until the next guess is free.
    fn wait(&self, at: usize, now_ms: u64) -> u64 {
        let full_ms = self.rate.interval_ms * (self.rate.burst - 1);
        self.empty_at[at].load(Relaxed).saturating_sub(now_ms).saturating_sub(full_ms)
    }

    fn charge(&self, at: usize, now_ms: u64) {
        let fuller = |empty_at: u64| Some(empty_at.max(now_ms) + self.rate.interval_ms);
        let _always_some = self.empty_at[at].fetch_update(Relaxed, Relaxed, fuller);
    }

    fn give_back(&self, at: usize) {
        let emptier = |empty_at: u64| Some(empty_at.saturating_sub(self.rate.interval_ms));
        let _always_some = self.empty_at[at].fetch_update(Relaxed, Relaxed, emptier);
    }
}

impl Guesses {
    pub(crate) fn new() -> Self {
        Self {
            key: random_key(),
            both: Buckets::new(OF_BOTH),
            address: Buckets::new(OF_ADDRESS),
            user: Buckets::new(OF_USER),
            proven: zeros(),
        }
    }

    /// How long the next guess has to wait at `now`, since the clock's start; nothing when it may be made. Whether there is such a
    /// user makes no difference.
    pub(crate) fn wait(&self, list: &str, user: &str, client: IpAddr, now: Duration) -> Option<Duration> {
        let now_ms = millis(now);
        self.wait_of(self.guess(list, user, client, now_ms), now_ms)
    }

    fn wait_of(&self, guess: Guess, now_ms: u64) -> Option<Duration> {
        let of_user = if guess.is_proven { 0 } else { self.user.wait(guess.user, now_ms) };
        let waits = [self.both.wait(guess.both, now_ms), self.address.wait(guess.address, now_ms), of_user];
        let wait = waits.into_iter().max().unwrap_or_default();
        (wait > 0).then(|| Duration::from_millis(wait))
    }

    /// Charges a guess.
    ///
    /// # Errors
    /// How long to wait before the next one.
    pub(crate) fn charge(
        &self,
        list: &str,
        user: &str,
        client: IpAddr,
        now: Duration,
    ) -> Result<Guess, Duration> {
        let now_ms = millis(now);
        let guess = self.guess(list, user, client, now_ms);
        if let Some(wait) = self.wait_of(guess, now_ms) {
            return Err(wait);
        }
        self.both.charge(guess.both, now_ms);
        self.address.charge(guess.address, now_ms);
        if !guess.is_proven {
            self.user.charge(guess.user, now_ms);
        }
        Ok(guess)
    }

    /// The guess was right.
    pub(crate) fn was_right(&self, guess: Guess, now: Duration) {
        self.give_back(guess);
        self.proven[guess.both].store(millis(now).max(1), Relaxed);
    }

    /// It was not looked at.
    pub(crate) fn give_back(&self, guess: Guess) {
        self.both.give_back(guess.both);
        self.address.give_back(guess.address);
        if !guess.is_proven {
            self.user.give_back(guess.user);
        }
    }

    fn guess(&self, list: &str, user: &str, client: IpAddr, now_ms: u64) -> Guess {
        let address = network(client);
        let text = |parts: &[&[u8]]| place(&self.key, parts);
        let both = text(&[b"both", list.as_bytes(), user.as_bytes(), &address]);
        let proven = self.proven[both].load(Relaxed);
        Guess {
            both,
            address: text(&[b"address", &address]),
            user: text(&[b"user", list.as_bytes(), user.as_bytes()]),
            is_proven: proven > 0 && now_ms.saturating_sub(proven) < millis(PROVEN),
        }
    }
}

/// What is wrong once in a while is nothing; an address that is wrong all the time is held up. For proofs that nobody can guess,
/// but that cost somebody a question each.
pub(crate) struct Misses {
    key: hmac::Key,
    address: Buckets,
}

/// An address behind which many people are may well have sixty tokens that ran out.
const OF_MISSES: Rate = Rate { burst: 60, interval_ms: 1_000 };

impl Misses {
    pub(crate) fn new() -> Self {
        Self { key: random_key(), address: Buckets::new(OF_MISSES) }
    }

    /// How long the next has to wait at `now`, since the clock's start.
    pub(crate) fn wait(&self, client: IpAddr, now: Duration) -> Option<Duration> {
        let wait = self.address.wait(place(&self.key, &[&network(client)]), millis(now));
        (wait > 0).then(|| Duration::from_millis(wait))
    }

    pub(crate) fn charge(&self, client: IpAddr, now: Duration) {
        self.address.charge(place(&self.key, &[&network(client)]), millis(now));
    }
}

impl fmt::Debug for Misses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Misses").finish_non_exhaustive()
    }
}

fn random_key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &crate::sealed::random::<32>())
}

/// The bucket of these parts.
fn place(key: &hmac::Key, parts: &[&[u8]]) -> usize {
    let mut hash = hmac::Context::with_key(key);
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let tag = hash.sign();
    let [low, high, ..] = tag.as_ref() else { unreachable!("an HMAC has 32 bytes") };
    (usize::from(*high) << 8 | usize::from(*low)) % BUCKETS
}

/// Whoever has one IPv6 address has a whole /64 of them.
fn network(client: IpAddr) -> [u8; 16] {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).octets(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn zeros() -> Box<[AtomicU64]> {
    std::iter::repeat_with(AtomicU64::default).take(BUCKETS).collect()
}

impl fmt::Debug for Guesses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Guesses").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// So many guesses pass at once.
    fn passed(guesses: &Guesses, user: &str, client: &str, now: Duration) -> usize {
        (0..1_000).take_while(|_| guesses.charge("staff", user, address(client), now).is_ok()).count()
    }

    #[test]
    fn an_address_may_guess_ten_times_at_a_user_and_then_every_ten_seconds() {
        let guesses = Guesses::new();
        assert_eq!(passed(&guesses, "ann", "192.0.2.1", START), 10);
        let wait = guesses.charge("staff", "ann", address("192.0.2.1"), START).expect_err("no more");
        assert_eq!(wait, Duration::from_secs(10));
        assert_eq!(passed(&guesses, "ann", "192.0.2.1", START + wait), 1);
        assert_eq!(
            passed(&guesses, "ann", "::ffff:192.0.2.1", START + wait),
            0,
            "the same, written otherwise"
        );
        assert_eq!(passed(&guesses, "ann", "192.0.2.2", START), 10, "another address");
        assert_eq!(
            passed(&guesses, "ann", "192.0.2.1", START + Duration::from_secs(1_000)),
            10,
            "long after"
        );
    }

    #[test]
    fn an_address_may_not_try_a_list_of_users() {
        let guesses = Guesses::new();
        let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let client = |host: u32| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(host)));
        let tried = (0..)
            .zip(&names)
            .take_while(|(host, name)| guesses.charge("staff", name, client(*host), START).is_ok());
        assert_eq!(tried.count(), 50, "one IPv6 network is one address");
    }

    #[test]
    fn many_addresses_may_not_try_one_user_but_who_was_right_there_still_may() {
        let guesses = Guesses::new();
        let home = guesses.charge("staff", "ann", address("198.51.100.1"), START).expect("free");
        guesses.was_right(home, START);
        let tried = (0..250_u8).take_while(|host| {
            guesses.charge("staff", "ann", IpAddr::from([192, 0, 2, *host]), START).is_ok()
        });
        assert_eq!(tried.count(), 100);
        assert_eq!(passed(&guesses, "ann", "203.0.113.9", START), 0);
        assert!(guesses.charge("staff", "ann", address("198.51.100.1"), START).is_ok());
        assert!(guesses.charge("other", "ann", address("203.0.113.9"), START).is_ok(), "another list's ann");
    }

    #[test]
    fn who_is_right_is_never_held_up() {
        let guesses = Guesses::new();
        for _ in 0..1_000 {
            let guess = guesses.charge("staff", "ann", address("192.0.2.1"), START).expect("free");
            guesses.was_right(guess, START);
        }
    }

    #[test]
    fn a_day_after_being_right_one_is_a_stranger_again() {
        let guesses = Guesses::new();
        let right = guesses.charge("staff", "ann", address("192.0.2.1"), START).expect("free");
        guesses.was_right(right, START);
        assert!(
            guesses.charge("staff", "ann", address("192.0.2.1"), START + PROVEN / 2).expect("free").is_proven
        );
        assert!(
            !guesses.charge("staff", "ann", address("192.0.2.1"), START + PROVEN).expect("free").is_proven
        );
    }
}
