//! The line in front of a service at its limit: bounded, by priority, and never one in which everybody waits for longer
//! than anybody is willing to.
//!
//! A short line absorbs a burst: those who came first are served first, and all of them soon. A *standing* line absorbs
//! nothing, it only makes every answer late by as much; served in the order of arrival, each request is then worked on
//! when its client has just given up, and all work is in vain. So the line watches its own oldest request. When that has
//! waited for longer than a target throughout an interval (the test of CoDel, "Controlling Queue Delay", Nichols and
//! Jacobson, 2012), the line is standing: the newest are served first, since their clients surely still wait, and whoever
//! has waited for longer than the target is sent away (as in "Fail at Scale", Maurer, 2015, which calls it adaptive LIFO
//! and controlled delay). [`Order::Codel`] sends away by the same test, but serves the oldest of those who are left.
//!
//! Higher priorities are served first; when the line is full the lowest are sent away first. Those whose deadline has
//! passed are sent away when their turn comes, for nothing is begun that nobody can use any more.
//!
//! Pure: who waits is a value of the caller's, and it is the caller that wakes and answers.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Priority;

/// The parameters of a line. Cheap to copy; may change between two calls (a reload, or another usual latency).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineLaw {
    /// Requests that may wait at once.
    pub size: u32,
    /// Whom a standing line serves.
    pub order: Order,
    /// The longest wait while the line is not standing.
    pub patience: Duration,
    /// The longest wait while it is; and what the oldest must have waited for it to be so.
    pub target: Duration,
    /// For how long the oldest must have waited for longer than the target.
    pub interval: Duration,
}

/// Whom a standing line serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest.
    #[default]
    Lifo,
    /// The oldest of those who have waited for less than the target.
    Codel,
}

impl LineLaw {
    /// Requests that may wait at once, where nothing else is said: a bound on memory; what bounds the wait is time.
    pub const SIZE: u32 = 1_000;

    /// A line in front of a service whose answers usually take `usual`: a target of five times that, from 100 to 500 ms,
    /// and patience of twenty times, from 1 s to 2 s. More nobody should wait for what is usually fast, nor for what is slow
    /// anyway.
    pub fn fitting(size: u32, order: Order, usual: Option<Duration>) -> Self {
        let usual = usual.unwrap_or(Duration::ZERO);
        let times = |factor: u32, from_ms: u64, to_ms: u64| {
            usual.saturating_mul(factor).clamp(Duration::from_millis(from_ms), Duration::from_millis(to_ms))
        };
        let target = times(5, 100, 500);
        Self { size, order, patience: times(20, 1_000, 2_000), target, interval: 2 * target }
    }

    /// A line in which nobody waits for longer than `patience`.
    pub fn of_patience(size: u32, order: Order, patience: Duration) -> Self {
        Self { size, order, patience, target: patience / 5, interval: patience }
    }
}

/// Why somebody was sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// The line was full, and this the least important.
    Full,
    /// It had waited for too long.
    TooLong,
    /// Its deadline could not be met any more.
    Deadline,
}

impl Turned {
    /// All.
    pub const ALL: [Self; 3] = [Self::Full, Self::TooLong, Self::Deadline];

    /// A word for labels and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "queue_full",
            Self::TooLong => "queue_wait",
            Self::Deadline => "deadline",
        }
    }
}

/// A place in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    priority: Priority,
    number: u64,
}

/// Those who wait.
#[derive(Debug)]
pub struct Line<T> {
    /// By priority, the lowest first; in each the oldest in front.
    waiting: [VecDeque<Waiting<T>>; Priority::ALL.len()],
    number: u64,
    /// When the line will be standing, if its oldest goes on to wait for longer than the target.
    standing_at: Option<Duration>,
    is_standing: bool,
}

#[derive(Debug)]
struct Waiting<T> {
    number: u64,
    since: Duration,
    /// It must have been begun by then.
    until: Duration,
    who: T,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        let waiting = [VecDeque::new(), VecDeque::new(), VecDeque::new()];
        Self { waiting, number: 0, standing_at: None, is_standing: false }
    }
}

impl<T> Line<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }

    /// Whether the newest are served and the oldest sent away, as of the last look.
    pub fn is_standing(&self) -> bool {
        self.is_standing
    }

    /// How long the oldest has waited.
    pub fn oldest_waited(&self, now: Duration) -> Duration {
        let oldest = self.waiting.iter().filter_map(|class| class.front()).map(|first| first.since).min();
        oldest.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// `who` joins the line, to be begun by `until`. When it is full somebody is sent away: the least important of all,
    /// and `who` itself before others that are equally so, unless the line is standing.
    ///
    /// # Errors
    /// Gives `who` back when there is no place for it.
    pub fn join(
        &mut self,
        law: &LineLaw,
        now: Duration,
        (priority, until): (Priority, Duration),
        who: T,
        turned: &mut impl FnMut(T, Turned),
    ) -> Result<Place, T> {
        self.judge(law, now);
        self.send_away(law, now, turned);
        if self.len() >= law.size as usize {
            let may_displace =
                |class: &Priority| *class < priority || (self.is_standing && *class == priority);
            let lowest = Priority::ALL.into_iter().find(|class| !self.waiting[*class as usize].is_empty());
            let victim = match lowest.filter(may_displace) {
                Some(class) => self.waiting[class as usize].pop_front(),
                None => return Err(who),
            };
            let Some(victim) = victim else { return Err(who) };
            turned(victim.who, Turned::Full);
        }
        self.number += 1;
        let number = self.number;
        self.waiting[priority as usize].push_back(Waiting { number, since: now, until, who });
        Ok(Place { priority, number })
    }

    /// Whose turn it is. Those whose time has passed are sent away.
    pub fn next(&mut self, law: &LineLaw, now: Duration, turned: &mut impl FnMut(T, Turned)) -> Option<T> {
        self.judge(law, now);
        self.send_away(law, now, turned);
        let from_the_end = self.is_standing && law.order == Order::Lifo;
        for class in self.waiting.iter_mut().rev() {
            while let Some(next) = if from_the_end { class.pop_back() } else { class.pop_front() } {
                if next.until > now {
                    return Some(next.who);
                }
                turned(next.who, Turned::Deadline);
            }
        }
        None
    }

    /// Leaves the line, as a client that went away does; nothing, when its turn had come.
    pub fn leave(&mut self, place: Place) -> Option<T> {
        let class = &mut self.waiting[place.priority as usize];
        let at = class.binary_search_by_key(&place.number, |waiting| waiting.number).ok()?;
        class.remove(at).map(|waiting| waiting.who)
    }

    /// Until when somebody who joins now may wait at the longest.
    pub fn patience_until(law: &LineLaw, now: Duration, until: Duration) -> Duration {
        until.min(now.saturating_add(law.patience))
    }

    /// Sends away who has waited for longer than the line as it is now lets anybody.
    pub fn send_away(&mut self, law: &LineLaw, now: Duration, turned: &mut impl FnMut(T, Turned)) {
        let longest = if self.is_standing { law.target } else { law.patience };
        for class in &mut self.waiting {
            while class.front().is_some_and(|first| now.saturating_sub(first.since) > longest) {
                if let Some(first) = class.pop_front() {
                    turned(first.who, Turned::TooLong);
                }
            }
        }
    }

    /// Finds out whether the line is standing.
    fn judge(&mut self, law: &LineLaw, now: Duration) {
        if self.is_empty() {
            (self.is_standing, self.standing_at) = (false, None);
            return;
        }
        let waited = self.oldest_waited(now);
        if waited > law.target {
            let standing_at = *self.standing_at.get_or_insert(now + law.interval);
            self.is_standing |= now >= standing_at;
            return;
        }
        self.standing_at = None;
        // What stands is kept at the target by sending away; only well below it is it a line again that moves.
        self.is_standing &= waited > law.target / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LAW: LineLaw = LineLaw {
        size: 4,
        order: Order::Lifo,
        patience: Duration::from_millis(1_000),
        target: Duration::from_millis(100),
        interval: Duration::from_millis(200),
    };
    const LATE: Duration = Duration::from_secs(1_000);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A line of numbers, and who was sent away.
    #[derive(Default)]
    struct World {
        line: Line<u32>,
        turned: Vec<(u32, Turned)>,
    }

    impl World {
        fn join(&mut self, now: u64, who: u32) -> bool {
            self.join_as(now, Priority::Normal, LATE, who).is_some()
        }

        fn join_as(&mut self, now: u64, priority: Priority, until: Duration, who: u32) -> Option<Place> {
            let turned = &mut self.turned;
            self.line
                .join(&LAW, at(now), (priority, until), who, &mut |who, why| turned.push((who, why)))
                .ok()
        }

        fn next(&mut self, now: u64) -> Option<u32> {
            self.next_by(&LAW, now)
        }

        fn next_by(&mut self, law: &LineLaw, now: u64) -> Option<u32> {
            let turned = &mut self.turned;
            self.line.next(law, at(now), &mut |who, why| turned.push((who, why)))
        }
    }

    /// A line whose oldest has waited for longer than the target for longer than the interval.
    fn standing(law: &LineLaw) -> World {
        let mut world = World::default();
        (1..=3).for_each(|who| assert!(world.join(u64::from(who), who)));
        assert_eq!(world.next_by(law, 150), Some(1));
        assert!(world.join(155, 5));
        assert!(!world.line.is_standing(), "not yet");
        world
    }

    #[test]
    fn a_line_that_moves_serves_who_came_first() {
        let mut world = World::default();
        (1..=4).for_each(|who| assert!(world.join(0, who)));
        let served: Vec<_> = (0..5).map(|step| world.next(step * 20)).collect();
        assert_eq!(served, [Some(1), Some(2), Some(3), Some(4), None]);
        assert_eq!(world.turned, []);
    }

    #[test]
    fn a_line_that_stands_serves_the_newest_and_sends_the_oldest_away() {
        let mut world = standing(&LAW);
        assert_eq!(world.next(360), None, "all had waited for longer than the target by then");
        assert_eq!(world.turned.len(), 3);
        let mut world = standing(&LAW);
        world.line.leave(Place { priority: Priority::Normal, number: 2 });
        assert!(world.join(340, 6) && world.join(345, 7));
        assert_eq!(world.next(360), Some(7));
        assert_eq!(world.turned, [(3, Turned::TooLong), (5, Turned::TooLong)]);
        assert_eq!(world.next(361), Some(6));
        assert_eq!(world.next(362), None);
        assert!(!world.line.is_standing(), "an empty line stands no longer");
    }

    #[test]
    fn codel_sends_the_same_away_and_serves_the_oldest_of_the_rest() {
        let law = LineLaw { order: Order::Codel, ..LAW };
        let mut world = standing(&law);
        world.line.leave(Place { priority: Priority::Normal, number: 2 });
        assert!(world.join(340, 6) && world.join(345, 7));
        assert_eq!(world.next_by(&law, 360), Some(6));
        assert_eq!(world.turned.len(), 2);
    }

    #[test]
    fn higher_priorities_are_served_first() {
        let mut world = World::default();
        world.join_as(0, Priority::Low, LATE, 1);
        world.join_as(0, Priority::Normal, LATE, 2);
        world.join_as(0, Priority::High, LATE, 3);
        world.join_as(0, Priority::High, LATE, 4);
        let served: Vec<_> = (0..4).filter_map(|_| world.next(1)).collect();
        assert_eq!(served, [3, 4, 2, 1]);
    }

    #[test]
    fn of_a_full_line_the_least_important_is_sent_away() {
        let mut world = World::default();
        world.join_as(0, Priority::Low, LATE, 1);
        world.join_as(0, Priority::Low, LATE, 2);
        world.join_as(0, Priority::High, LATE, 3);
        world.join_as(0, Priority::Normal, LATE, 4);
        assert_eq!(world.join_as(1, Priority::Low, LATE, 5), None, "who comes last of equals");
        assert!(world.join_as(1, Priority::Normal, LATE, 6).is_some());
        assert_eq!(world.turned, [(1, Turned::Full)]);
        assert!(world.join_as(1, Priority::High, LATE, 7).is_some());
        assert_eq!(world.join_as(1, Priority::Normal, LATE, 8), None);
        assert_eq!(world.turned, [(1, Turned::Full), (2, Turned::Full)]);
    }

    #[test]
    fn nothing_is_begun_whose_deadline_has_passed() {
        let mut world = World::default();
        world.join_as(0, Priority::Normal, at(50), 1);
        world.join_as(0, Priority::Normal, at(80), 2);
        assert_eq!(world.next(60), Some(2));
        assert_eq!(world.turned, [(1, Turned::Deadline)]);
    }

    #[test]
    fn nobody_waits_for_longer_than_patience_lasts() {
        let mut world = World::default();
        world.join(0, 1);
        world.join(500, 2);
        world.line.send_away(&LAW, at(1_001), &mut |who, why| world.turned.push((who, why)));
        assert_eq!(world.turned, [(1, Turned::TooLong)]);
    }

    #[test]
    fn who_leaves_is_not_served() {
        let mut world = World::default();
        let place = world.join_as(0, Priority::Normal, LATE, 1).expect("there is room");
        world.join(0, 2);
        assert_eq!(world.line.leave(place), Some(1));
        assert_eq!(world.line.leave(place), None);
        assert_eq!(world.next(1), Some(2));
    }

    #[test]
    fn a_line_fits_the_service_behind_it() {
        let fitting = |usual_ms| LineLaw::fitting(10, Order::Lifo, Some(at(usual_ms)));
        assert_eq!((fitting(1).target, fitting(1).patience), (at(100), at(1_000)));
        assert_eq!((fitting(50).target, fitting(80).patience), (at(250), at(1_600)));
        assert_eq!((fitting(9_000).target, fitting(9_000).patience), (at(500), at(2_000)));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Join(Priority, u64),
        Next,
        Leave(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
        let priority = prop_oneof![Just(Priority::Low), Just(Priority::Normal), Just(Priority::High)];
        let step = prop_oneof![
            4 => (priority, 0_u64..2_000).prop_map(|(priority, time)| Step::Join(priority, time)),
            3 => Just(Step::Next),
            1 => (0_usize..8).prop_map(Step::Leave),
        ];
        prop::collection::vec((0_u64..60, step), 1..250)
    }

    /// The line as one list of everybody, sorted anew whenever somebody is wanted.
    #[derive(Debug, Default)]
    struct Naive {
        all: Vec<(Priority, u64, u64, u32)>,
        above_since: Option<u64>,
        is_standing: bool,
        turned: Vec<(u32, Turned)>,
    }

    impl Naive {
        fn look(&mut self, now: u64) {
            match self.all.iter().map(|(_, since, ..)| now - since).max() {
                None => (self.above_since, self.is_standing) = (None, false),
                Some(waited) if waited > 100 => {
                    let since = *self.above_since.get_or_insert(now);
                    self.is_standing |= now >= since + 200;
                }
                Some(waited) => {
                    self.above_since = None;
                    self.is_standing &= waited > 50;
                }
            }
            let longest = if self.is_standing { 100 } else { 1_000 };
            for priority in Priority::ALL {
                let is_over = |one: &&(Priority, u64, u64, u32)| one.0 == priority && now - one.1 > longest;
                let over: Vec<_> = self.all.iter().filter(is_over).copied().collect();
                self.turned.extend(over.iter().map(|one| (one.3, Turned::TooLong)));
                self.all.retain(|one| !over.contains(one));
            }
        }

        fn join(&mut self, now: u64, priority: Priority, until: u64, who: u32) -> bool {
            self.look(now);
            if self.all.len() >= 4 {
                let lowest = self.all.iter().map(|one| one.0).min().expect("it is full");
                if lowest > priority || (lowest == priority && !self.is_standing) {
                    return false;
                }
                let victim = self.all.iter().position(|one| one.0 == lowest).expect("there is one");
                let victim = self.all.remove(victim);
                self.turned.push((victim.3, Turned::Full));
            }
            self.all.push((priority, now, until, who));
            true
        }

        fn next(&mut self, now: u64) -> Option<u32> {
            self.look(now);
            loop {
                let highest = self.all.iter().map(|one| one.0).max()?;
                let mut of_class = (0..self.all.len()).filter(|at| self.all[*at].0 == highest);
                let at = if self.is_standing { of_class.next_back() } else { of_class.next() }?;
                let (_, _, until, who) = self.all.remove(at);
                if until > now {
                    return Some(who);
                }
                self.turned.push((who, Turned::Deadline));
            }
        }
    }

    proptest! {
        /// Against the naive line: the same are served, in the same order, and the same are sent away for the same reason.
        #[test]
        fn it_serves_and_sends_away_as_the_naive_line(steps in steps()) {
            let (mut world, mut naive, mut now) = (World::default(), Naive::default(), 0);
            let mut places: Vec<(u32, Place)> = Vec::new();
            for (who, (gap, step)) in (0_u32..).zip(steps) {
                now += gap;
                match step {
                    Step::Join(priority, time) => {
                        let place = world.join_as(now, priority, at(now + time), who);
                        prop_assert_eq!(place.is_some(), naive.join(now, priority, now + time, who));
                        places.extend(place.map(|place| (who, place)));
                    }
                    Step::Next => prop_assert_eq!(world.next(now), naive.next(now)),
                    Step::Leave(which) if which < places.len() => {
                        let (who, place) = places.remove(which);
                        let was_there = naive.all.iter().any(|one| one.3 == who);
                        naive.all.retain(|one| one.3 != who);
                        prop_assert_eq!(world.line.leave(place).is_some(), was_there);
                    }
                    Step::Leave(_) => {}
                }
                prop_assert_eq!(&world.turned, &naive.turned);
                prop_assert_eq!(world.line.len(), naive.all.len());
                prop_assert!(world.line.len() <= 4);
            }
        }
    }
}
