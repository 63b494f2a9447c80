//! The leaky bucket: requests leave evenly, the others wait in line, and the line is bounded.
//!
//! Who waits holds a [`Place`]. Only the first in line looks at the clock; the others are woken one by one as places ahead
//! of them become free. So when somebody leaves the line (its client went away, its deadline came) all behind move up, and
//! no departure goes unused. A departure is charged from when it was due, not from when its task was run, or a timer that
//! is late by a millisecond would cost as much of the rate each time.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::bucket::Pace;
use super::table::{Cell, Size, Table};
use super::{Decision, Key, Moment, Rate};

/// So much of a delay in picking up departures is made up for afterwards, by letting the next ones go closer together.
pub const CATCH_UP: Duration = Duration::from_millis(5);

/// A line's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineLaw {
    pub(super) pace: Pace,
    pub(super) queue_max: u32,
}

impl LineLaw {
    pub(super) fn new(rate: Rate, burst: NonZeroU32, queue_max: u32) -> Self {
        Self { pace: Pace::new(rate, burst), queue_max }
    }

    fn limit(&self) -> u64 {
        u64::from(self.pace.burst()) + u64::from(self.queue_max)
    }
}

/// One key's line.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// When all that has left will have been paid for, as in a bucket.
    tat: u64,
    waiting: VecDeque<Waiter>,
    waiting_cost: u64,
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    cost: u32,
    waker: Option<Waker>,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Yours: go. The place is used up.
    Go,
    /// You are first in line, and it is time at that moment of the clock; ask again then.
    At(Duration),
    /// Others are before you. The waker is called when you are the first.
    Behind,
}

impl Line {
    /// How long until the next one, of that cost, may leave, in ticks. A request that costs more than the bucket holds
    /// leaves when the bucket is full, and those after it wait the longer.
    fn due_in(&self, pace: &Pace, cost: u32, now: Duration) -> u64 {
        let price = pace.cost_ticks(cost.min(pace.burst()));
        (pace.owed(self.tat, now) + price).saturating_sub(pace.capacity_ticks())
    }

    /// Pays for a departure that was due at `due` at the latest.
    fn leave(&mut self, pace: &Pace, cost: u32, due: Duration) {
        self.tat = pace.full_at(pace.owed(self.tat, due) + pace.cost_ticks(cost), due);
    }

    /// What those in line will have to pay.
    fn ahead_ticks(&self, pace: &Pace) -> u64 {
        pace.cost_ticks(1).saturating_mul(self.waiting_cost)
    }

    fn join(&mut self, law: &LineLaw, cost: u32, now: Duration, wait_max: Duration) -> Joined {
        let pace = &law.pace;
        if self.waiting.is_empty() && self.due_in(pace, cost, now) == 0 {
            self.leave(pace, cost, now);
            return Joined::Gone(self.decision(law, true, None, now));
        }
        let wait = pace.time(self.due_in(pace, cost, now).saturating_add(self.ahead_ticks(pace)));
        let retry_after = if self.waiting.len() >= law.queue_max as usize {
            let first = self.waiting.front().map_or(cost, |first| first.cost);
            Some(pace.time(self.due_in(pace, first, now)))
        } else {
            wait.checked_sub(wait_max).filter(|over| !over.is_zero())
        };
        if retry_after.is_some() {
            return Joined::Refused(self.decision(law, false, retry_after, now));
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push_back(Waiter { ticket, cost, waker: None });
        self.waiting_cost += u64::from(cost);
        Joined::Waits(self.decision(law, true, None, now), ticket)
    }

    fn decision(
        &self,
        law: &LineLaw,
        allowed: bool,
        retry_after: Option<Duration>,
        now: Duration,
    ) -> Decision {
        let pace = &law.pace;
        let owed = pace.owed(self.tat, now);
        let tokens = pace.tokens(pace.capacity_ticks().saturating_sub(owed));
        let places = u64::from(law.queue_max).saturating_sub(self.waiting.len() as u64);
        let at_once = if self.waiting.is_empty() { tokens } else { 0 };
        Decision {
            allowed,
            limit: law.limit(),
            remaining: (at_once + places).min(law.limit()),
            reset: pace.time(owed.saturating_add(self.ahead_ticks(pace))),
            retry_after,
        }
    }

    /// Whose turn it is, and who is to be woken.
    fn turn(&mut self, law: &LineLaw, ticket: u64, now: Duration, waker: &Waker) -> (Turn, Option<Waker>) {
        let pace = &law.pace;
        let first = self.waiting.front().filter(|first| first.ticket == ticket).map(|first| first.cost);
        let Some(cost) = first else {
            self.remember(ticket, waker);
            return (Turn::Behind, None);
        };
        let wait = self.due_in(pace, cost, now);
        if wait > 0 {
            self.remember(ticket, waker);
            return (Turn::At(now + pace.time(wait)), None);
        }
        self.leave(pace, cost, now.saturating_sub(CATCH_UP));
        (Turn::Go, self.quit(ticket))
    }

    fn remember(&mut self, ticket: u64, waker: &Waker) {
        if let Ok(index) = self.waiting.binary_search_by_key(&ticket, |waiter| waiter.ticket) {
            let known = &mut self.waiting[index].waker;
            if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
                *known = Some(waker.clone());
            }
        }
    }

    /// Takes somebody out of the line; whoever is first now, if it was the first who left, is to be woken.
    fn quit(&mut self, ticket: u64) -> Option<Waker> {
        let index = self.waiting.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()?;
        let gone = self.waiting.remove(index)?;
        self.waiting_cost -= u64::from(gone.cost);
        if self.waiting.is_empty() {
            // The table keeps the key for a while; its line shall take no room meanwhile.
            self.waiting = VecDeque::new();
        }
        if index > 0 {
            return None;
        }
        self.waiting.front().and_then(|first| first.waker.clone())
    }
}

enum Joined {
    Gone(Decision),
    Waits(Decision, u64),
    Refused(Decision),
}

impl Cell for Line {
    type Law = LineLaw;

    fn is_idle(&self, law: &LineLaw, now: Moment) -> bool {
        law.pace.owed(self.tat, now.clock) == 0
    }

    fn used(&self, law: &LineLaw, now: Moment) -> u64 {
        law.pace.owed(self.tat, now.clock).div_ceil(law.pace.cost_ticks(1))
    }

    fn fresh(law: &LineLaw, now: Moment) -> Self {
        Self { tat: law.pace.ticks(now.clock), ..Self::default() }
    }

    fn sweep_every_ns(law: &LineLaw) -> u64 {
        law.pace.sweep_every_ns()
    }

    fn is_pinned(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// A place in line; whoever drops it leaves the line, and those behind move up.
#[derive(Debug)]
#[must_use = "a place that is dropped is given up at once"]
pub struct Place {
    lines: Arc<Table<Line>>,
    key: Key,
    ticket: u64,
    is_used: bool,
}

impl Place {
    /// Whether it is one's turn. The waker is remembered, and called when somebody ahead leaves and this makes one the
    /// first; for [`Turn::At`] a timer is the caller's business.
    pub fn turn(&mut self, now: Duration, waker: &Waker) -> Turn {
        let ticket = self.ticket;
        let told = self.lines.with_known(self.key, |law, line| line.turn(law, ticket, now, waker));
        let Some((turn, next)) = told else {
            debug_assert!(false, "invariant: a key with somebody in line is not forgotten");
            return Turn::Go;
        };
        // Not under the lock: to wake a task of another core may take a system call.
        if let Some(next) = next {
            next.wake();
        }
        self.is_used = turn == Turn::Go;
        turn
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_used {
            return;
        }
        let ticket = self.ticket;
        let next = self.lines.with_known(self.key, |_, line| line.quit(ticket));
        if let Some(next) = next.flatten() {
            next.wake();
        }
    }
}

/// What a line says to who comes.
#[derive(Debug)]
pub(super) enum Arrival {
    /// Nobody is waiting, go.
    Gone(Decision),
    /// Wait.
    Waits(Decision, Place),
    /// There is no room, or it would take too long.
    Refused(Decision),
}

/// Lines by key.
#[derive(Debug)]
pub(super) struct Lines(Arc<Table<Line>>);

impl Lines {
    pub(super) fn new(law: LineLaw, size: Size) -> Self {
        Self(Arc::new(Table::new(law, size)))
    }

    /// Somebody comes who can wait for `wait_max`.
    pub(super) fn join(&self, key: Key, cost: u32, now: Moment, wait_max: Duration) -> Arrival {
        match self.0.with(key, now, |law, line| line.join(law, cost, now.clock, wait_max)) {
            Joined::Gone(decision) => Arrival::Gone(decision),
            Joined::Refused(decision) => Arrival::Refused(decision),
            Joined::Waits(decision, ticket) => {
                let place = Place { lines: Arc::clone(&self.0), key, ticket, is_used: false };
                Arrival::Waits(decision, place)
            }
        }
    }

    pub(super) fn raise_to(&self, key: Key, used: u64, now: Moment) {
        self.0.with(key, now, |law, line| {
            let used = law.pace.cost_ticks(u32::try_from(used).unwrap_or(u32::MAX));
            let owed = law.pace.owed(line.tat, now.clock).max(used.min(law.pace.capacity_ticks()));
            line.tat = law.pace.full_at(owed, now.clock);
        });
    }

    /// Who left the line and was not served after all. Those still in line move up by it.
    pub(super) fn give_back(&self, key: Key, cost: u32, now: Moment) {
        let first = self.0.with_known(key, |law, line| {
            let left = law.pace.owed(line.tat, now.clock).saturating_sub(law.pace.cost_ticks(cost));
            line.tat = law.pace.full_at(left, now.clock);
            line.waiting.front().and_then(|first| first.waker.clone())
        });
        if let Some(first) = first.flatten() {
            first.wake();
        }
    }

    /// Those in line stay there, also where a shorter line would not have taken them.
    pub(super) fn migrate(&self, law: LineLaw, keys_max: usize, now: Moment) {
        self.0.migrate(law, keys_max, now, |before, next, line| {
            line.tat = before.pace.carried_over(&next.pace, line.tat, now.clock);
            if let Some(first) = line.waiting.front().and_then(|first| first.waker.as_ref()) {
                first.wake_by_ref();
            }
        });
    }

    pub(super) fn table(&self) -> &Table<Line> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::super::counted_by_threads;
    use super::*;

    const KEY: Key = Key::from_hash(7);
    const LONG: Duration = Duration::from_secs(3_600);

    #[derive(Default)]
    struct Calls(AtomicU32);

    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lines(per_second: u32, queue_max: u32) -> Lines {
        Lines::new(law(per_second, queue_max), Size::of(100))
    }

    fn law(per_second: u32, queue_max: u32) -> LineLaw {
        let count = NonZeroU32::new(per_second).expect("not zero");
        LineLaw::new(Rate::new(count, Duration::from_secs(1)), NonZeroU32::MIN, queue_max)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn at(millis: u64) -> Moment {
        Moment { clock: ms(millis), wall: Duration::ZERO }
    }

    fn place(lines: &Lines, millis: u64) -> Place {
        match lines.join(KEY, 1, at(millis), LONG) {
            Arrival::Waits(_, place) => place,
            other => panic!("should wait: {other:?}"),
        }
    }

    #[test]
    fn requests_leave_one_after_the_other_at_the_rate() {
        let (lines, waker) = (lines(10, 5), Waker::noop());
        assert!(matches!(lines.join(KEY, 1, at(0), LONG), Arrival::Gone(_)));
        let (mut first, mut second) = (place(&lines, 0), place(&lines, 10));
        assert_eq!(second.turn(ms(10), waker), Turn::Behind);
        assert_eq!(first.turn(ms(10), waker), Turn::At(ms(100)));
        assert_eq!(first.turn(ms(100), waker), Turn::Go);
        assert_eq!(second.turn(ms(100), waker), Turn::At(ms(200)));
        assert_eq!(second.turn(ms(200), waker), Turn::Go);
        assert!(matches!(lines.join(KEY, 1, at(299), LONG), Arrival::Waits(..)));
        assert!(matches!(lines.join(KEY, 1, at(300), LONG), Arrival::Gone(_)));
    }

    #[test]
    fn the_line_is_bounded_and_whoever_does_not_fit_is_told_when_to_come_back() {
        let lines = lines(10, 2);
        assert!(matches!(lines.join(KEY, 1, at(0), LONG), Arrival::Gone(_)));
        let _waiting = (place(&lines, 0), place(&lines, 0));
        let Arrival::Refused(refused) = lines.join(KEY, 1, at(0), LONG) else { panic!("the line is full") };
        assert_eq!((refused.limit, refused.remaining), (3, 0));
        assert_eq!((refused.retry_after, refused.reset), (Some(ms(100)), ms(300)));
    }

    #[test]
    fn whoever_cannot_wait_so_long_is_refused_at_once_and_takes_no_place() {
        let lines = lines(10, 50);
        assert!(matches!(lines.join(KEY, 1, at(0), LONG), Arrival::Gone(_)));
        let _first = place(&lines, 0);
        let Arrival::Refused(refused) = lines.join(KEY, 1, at(0), ms(150)) else { panic!("200 ms to wait") };
        assert_eq!(refused.retry_after, Some(ms(50)));
        assert!(matches!(lines.join(KEY, 1, at(0), ms(200)), Arrival::Waits(..)));
    }

    #[test]
    fn when_somebody_leaves_the_line_those_behind_move_up() {
        let (lines, calls) = (lines(10, 5), Arc::new(Calls::default()));
        let waker = Waker::from(Arc::clone(&calls));
        assert!(matches!(lines.join(KEY, 1, at(0), LONG), Arrival::Gone(_)));
        let (mut first, mut second, mut third) = (place(&lines, 0), place(&lines, 0), place(&lines, 0));
        assert_eq!(first.turn(ms(0), &waker), Turn::At(ms(100)));
        assert_eq!(second.turn(ms(0), &waker), Turn::Behind);
        assert_eq!(third.turn(ms(0), &waker), Turn::Behind);
        drop(second);
        assert_eq!(calls.0.load(Ordering::Relaxed), 0, "the first is first still");
        drop(first);
        assert_eq!(calls.0.load(Ordering::Relaxed), 1);
        assert_eq!(third.turn(ms(1), &waker), Turn::At(ms(100)));
    }

    #[test]
    fn timers_that_are_late_cost_nothing_of_the_rate() {
        let (lines, waker) = (lines(1_000, 100), Waker::noop());
        assert!(matches!(lines.join(KEY, 1, at(0), LONG), Arrival::Gone(_)));
        let mut waiting: Vec<Place> = (0..100).map(|_| place(&lines, 0)).collect();
        // Each is looked at 1.5 ms after the one before.
        let left = (1..=50).map(|step| ms(step * 3 / 2)).filter(|now| {
            while let Some(first) = waiting.first_mut() {
                if first.turn(*now, waker) != Turn::Go {
                    break;
                }
                drop(waiting.remove(0));
            }
            true
        });
        assert_eq!(left.count(), 50);
        assert_eq!(waiting.len(), 25, "75 have left in 75 ms");
    }

    #[test]
    fn after_a_long_delay_departures_do_not_all_go_at_once() {
        let (lines, waker) = (lines(1_000, 100), Waker::noop());
        assert!(matches!(lines.join(KEY, 1, at(0), LONG), Arrival::Gone(_)));
        let mut waiting: Vec<Place> = (0..100).map(|_| place(&lines, 0)).collect();
        let at_once = waiting.iter_mut().filter_map(|place| {
            let turn = place.turn(ms(90), waker);
            (turn == Turn::Go).then_some(())
        });
        assert_eq!(at_once.count(), 6, "five milliseconds' worth, and the one that is due");
    }

    #[test]
    fn after_a_reload_the_line_stands_and_moves_at_the_new_rate() {
        let (lines, calls) = (lines(1, 5), Arc::new(Calls::default()));
        let waker = Waker::from(Arc::clone(&calls));
        assert!(matches!(lines.join(KEY, 1, at(0), LONG), Arrival::Gone(_)));
        let (mut first, mut second) = (place(&lines, 0), place(&lines, 0));
        assert_eq!(first.turn(ms(0), &waker), Turn::At(ms(1_000)));
        lines.migrate(law(10, 1), 100, at(0));
        assert_eq!(calls.0.load(Ordering::Relaxed), 1, "the first is told that its time has changed");
        assert_eq!(first.turn(ms(0), &waker), Turn::At(ms(100)));
        assert_eq!(first.turn(ms(100), &waker), Turn::Go);
        assert_eq!(second.turn(ms(200), &waker), Turn::Go);
    }

    #[test]
    fn many_threads_leave_no_faster_than_the_rate() {
        let lines = lines(10, 1_000);
        let go = |now: Duration| {
            let moment = Moment { clock: now, wall: Duration::ZERO };
            match lines.join(KEY, 1, moment, LONG) {
                Arrival::Gone(_) => true,
                Arrival::Waits(_, mut place) => place.turn(now, Waker::noop()) == Turn::Go,
                Arrival::Refused(_) => false,
            }
        };
        for second in 0..20 {
            let now = Duration::from_secs(second);
            let gone = counted_by_threads(|| (0..200).filter(|_| go(now)).count());
            assert_eq!(gone, 1, "at second {second}");
        }
    }

    proptest! {
        /// Against a plain list that is walked through millisecond by millisecond: who leaves when, who is refused, who
        /// gives up.
        #[test]
        fn it_moves_as_a_plain_list_does(
            per_second in 1_u32..200,
            queue_max in 0_u32..6,
            events in prop::collection::vec((0_u64..30, 0_u32..6, 0_usize..4), 1..150),
        ) {
            let lines = lines(per_second, queue_max);
            let interval = 1_000.0 / f64::from(per_second);
            let (mut held, mut naive, mut free_at, mut now) = (Vec::<Place>::new(), 0_usize, 0.0_f64, 0_u64);
            for (gap, what, which) in events {
                for _ in 0..=gap {
                    now += 1;
                    let mut gone = 0;
                    while held.first_mut().is_some_and(|first| first.turn(ms(now), Waker::noop()) == Turn::Go) {
                        drop(held.remove(0));
                        gone += 1;
                    }
                    let mut expected = 0;
                    while naive > 0 && free_at <= now as f64 + 1e-6 {
                        // Looked at each millisecond, nothing is ever late by more than CATCH_UP.
                        (naive, free_at, expected) = (naive - 1, free_at + interval, expected + 1);
                    }
                    prop_assert_eq!(gone, expected);
                }
                if what == 0 && !held.is_empty() {
                    drop(held.remove(which % held.len()));
                    naive -= 1;
                    continue;
                }
                match lines.join(KEY, 1, at(now), LONG) {
                    Arrival::Gone(_) => {
                        prop_assert!(naive == 0 && free_at <= now as f64 + 1e-6);
                        free_at = free_at.max(now as f64) + interval;
                    }
                    Arrival::Waits(_, place) => {
                        prop_assert!((naive as u32) < queue_max && free_at > now as f64 - 1e-6);
                        held.push(place);
                        naive += 1;
                    }
                    Arrival::Refused(_) => prop_assert!(naive as u32 >= queue_max),
                }
            }
        }
    }
}
