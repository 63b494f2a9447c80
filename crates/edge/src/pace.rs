//! How long a body may take: not one fixed time, which cuts off large uploads and lets slow attacks through, but a rate
//! that a client must keep up while we wait for it, and a time between two pieces for an endpoint.

use std::cell::Cell;
use std::task::{Context, Poll};
use std::time::Duration;

use terrace_auth::Reserved;
use terrace_http::Fields;
use terrace_runtime::clock;
use terrace_runtime::timer::{NEVER, Timer};
use terrace_wire::{Pace, Side};

use crate::bulkhead::Slot;
use crate::mirror::Watch;

/// What a client may be behind its rate.
const GRACE: Duration = Duration::from_secs(10);

/// How long one end of a body may keep us waiting.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// Bytes per second, over the time that was spent waiting for it; 0 asks nothing.
    Rate(u64),
    /// Between two pieces.
    Idle(Option<Duration>),
}

/// Where a body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the service.
    Up,
    /// To the client.
    Down,
}

/// Bounds one direction of one exchange.
#[derive(Debug)]
pub(crate) struct BodyPace<'a> {
    timer: &'a mut Timer,
    source: Patience,
    sink: Patience,
    bytes_max: u64,
    /// The whole request must be over by then.
    until: Duration,
    bytes: u64,
    waited: [Duration; 2],
    waiting: Option<(Side, Duration)>,
    ends_with_peer: bool,
    /// When a piece passed last in either direction, where silence in one of them is no reason to end.
    last: Option<&'a Cell<Duration>>,
    /// Who else looks at what passes.
    watch: Option<(&'a Watch, Direction)>,
    /// Fields that are taken out of those after the body.
    removed: Option<&'a Reserved>,
    /// The place at the service, given up for as long as the client, at that side, is waited for.
    slot: Option<(&'a Slot<'a>, Side)>,
}

impl<'a> BodyPace<'a> {
    pub(crate) fn new(timer: &'a mut Timer, source: Patience, sink: Patience, until: Duration) -> Self {
        let waited = [Duration::ZERO; 2];
        Self {
            timer,
            source,
            sink,
            bytes_max: u64::MAX,
            until,
            bytes: 0,
            waited,
            waiting: None,
            ends_with_peer: false,
            last: None,
            watch: None,
            removed: None,
            slot: None,
        }
    }

    /// Takes these fields out of those that follow the body.
    pub(crate) fn without(mut self, removed: Option<&'a Reserved>) -> Self {
        self.removed = removed;
        self
    }

    /// Gives the place at the service up for as long as the client is waited for, which is at that side.
    pub(crate) fn holding(mut self, slot: &'a Slot<'a>, client: Side) -> Self {
        self.slot = Some((slot, client));
        self
    }

    /// Shows what passes to a request's mirror, where it has one.
    pub(crate) fn watched(mut self, watch: Option<&'a Watch>, direction: Direction) -> Self {
        self.watch = watch.map(|watch| (watch, direction));
        self
    }

    pub(crate) fn at_most(mut self, bytes_max: Option<u64>) -> Self {
        self.bytes_max = bytes_max.unwrap_or(u64::MAX);
        self
    }

    /// For a stream that may be silent for long: it ends when the one who takes it goes away.
    pub(crate) fn ending_with_peer(mut self, ends: bool) -> Self {
        self.ends_with_peer = ends;
        self
    }

    /// For one of two directions that live together: a source that is silent is waited for as long as the other one is
    /// not. `last` is shared by both.
    pub(crate) fn beside(mut self, last: &'a Cell<Duration>) -> Self {
        self.last = Some(last);
        self
    }

    /// Bytes that passed.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn deadline(&self, side: Side, since: Duration) -> Duration {
        let patience = if side == Side::Source { self.source } else { self.sink };
        let of_side = match patience {
            Patience::Rate(0) | Patience::Idle(None) => NEVER,
            Patience::Idle(Some(idle)) => {
                let last = self.last.filter(|_| side == Side::Source).map(Cell::get);
                last.map_or(since, |last| last.max(since)) + idle
            }
            Patience::Rate(rate) => {
                let allowed = GRACE + Duration::from_millis(self.bytes.saturating_mul(1000) / rate);
                since + allowed.saturating_sub(self.waited[side as usize])
            }
        };
        of_side.min(self.until)
    }

    fn stop_waiting(&mut self) {
        if let Some((side, since)) = self.waiting.take() {
            self.waited[side as usize] += clock::now().saturating_sub(since);
            if let Some((slot, client)) = self.slot
                && client == side
            {
                slot.resume();
            }
        }
    }
}

impl Pace for BodyPace<'_> {
    fn ends_with_peer(&self) -> bool {
        self.ends_with_peer
    }

    fn admit(&mut self, bytes: usize) -> bool {
        self.stop_waiting();
        self.bytes += bytes as u64;
        if let Some(last) = self.last {
            last.set(clock::now());
        }
        self.bytes <= self.bytes_max
    }

    fn trail(&mut self, fields: &mut Fields) {
        if let Some(removed) = self.removed {
            fields.retain(|_, name, _| !removed.contains(name));
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        match self.watch {
            None => {}
            Some((watch, Direction::Up)) => watch.asked(bytes),
            Some((watch, Direction::Down)) => watch.answering(bytes),
        }
    }

    fn ended(&mut self) {
        match self.watch {
            None => {}
            Some((watch, Direction::Up)) => watch.asked_whole(),
            Some((watch, Direction::Down)) => watch.answered_whole(),
        }
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>, side: Side) -> Poll<()> {
        let since = match self.waiting {
            Some((waited_for, since)) if waited_for == side => since,
            _ => {
                self.stop_waiting();
                let now = clock::now();
                self.waiting = Some((side, now));
                if let Some((slot, client)) = self.slot
                    && client == side
                {
                    slot.pause();
                }
                now
            }
        };
        let deadline = self.deadline(side, since);
        self.timer.poll_elapsed(cx, deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn pace(timer: &mut Timer) -> BodyPace<'_> {
        BodyPace::new(timer, Patience::Rate(100), Patience::Idle(Some(60 * S)), NEVER)
    }

    #[test]
    fn a_client_that_keeps_its_rate_is_never_cut_off() {
        let mut timer = Timer::new();
        let mut pace = pace(&mut timer);
        assert_eq!(pace.deadline(Side::Source, 100 * S), 110 * S, "the grace comes first");
        pace.bytes = 1_000;
        pace.waited[Side::Source as usize] = 10 * S;
        assert_eq!(pace.deadline(Side::Source, 110 * S), 120 * S, "what was sent buys time");
        pace.waited[Side::Source as usize] = 30 * S;
        assert_eq!(pace.deadline(Side::Source, 130 * S), 130 * S, "too slow for too long");
    }

    #[test]
    fn an_endpoint_is_bounded_between_two_pieces_and_the_request_as_a_whole() {
        let mut timer = Timer::new();
        let mut pace = pace(&mut timer);
        assert_eq!(pace.deadline(Side::Sink, 7 * S), 67 * S);
        pace.until = 30 * S;
        assert_eq!(pace.deadline(Side::Sink, 7 * S), 30 * S);
    }

    #[test]
    fn a_direction_that_is_silent_lives_as_long_as_the_other_speaks() {
        let mut timer = Timer::new();
        let last = Cell::new(Duration::ZERO);
        let idle = Patience::Idle(Some(60 * S));
        let pace = BodyPace::new(&mut timer, idle, idle, NEVER).beside(&last);
        assert_eq!(pace.deadline(Side::Source, 7 * S), 67 * S);
        last.set(50 * S);
        assert_eq!(pace.deadline(Side::Source, 7 * S), 110 * S, "the other direction spoke at 50 s");
        assert_eq!(pace.deadline(Side::Sink, 7 * S), 67 * S, "who takes nothing is not waited for longer");
    }

    #[test]
    fn a_body_that_grows_over_its_bound_is_not_admitted() {
        let mut timer = Timer::new();
        let mut pace = pace(&mut timer).at_most(Some(10));
        assert!(pace.admit(10));
        assert!(!pace.admit(1));
    }
}
