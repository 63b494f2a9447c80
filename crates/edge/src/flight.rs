//! The flight recorder: what a core still knows of the hops it served last, so that a trace can be kept after the fact.
//!
//! Whether a trace is worth keeping is known when one of its hops fails or drags on; by then its other hops may be over,
//! on other cores. So each core writes every hop that is not kept into a ring of its own: plain values, no allocation, no
//! lock, nothing shared. When a trace is kept late, its id is told to all cores ([`terrace_instruments::Tracer`]), and
//! each looks through its ring, once a second and whenever half of the ring was written anew. A request pays for one
//! copy of a few hundred bytes; the looking is paid for by the clock, and only while there is something to look for.
//!
//! The other designs cost more or keep less. To send all hops to a collector that decides costs each request what here
//! only the kept ones cost. To look into a table of kept ids at the end of each hop costs a shared cache line a request
//! and misses the hops that ended before. To decide at the first hop alone is the head sample, which misses what failed.
//!
//! Bounds: the last 4,096 hops of each core (about 2 MiB; some 10 where every one of them was tried again up to the bound),
//! ids for two minutes. A hop that is older when its trace turns
//! out to matter is not found, and the trace is kept without it.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use terrace_http::Version;
use terrace_instruments::{BLOCK_BYTES, Kept, SpanId, TraceId};
use terrace_upstream::Sign;

use crate::note::Notes;
use crate::small::SmallText;
use crate::trace::Place;

/// Hops that a core remembers.
const FLIGHTS_MAX: usize = 4_096;
/// So long hops are looked for that end after their trace was kept.
const LATE_FOR: Duration = Duration::from_secs(120);
/// Ids that are looked for at once.
const LATE_MAX: usize = 1_024;
/// Tries whose course is noted; further ones are counted.
const TRIES_NOTED_MAX: usize = 16;

/// What is known of one hop; filled while it lasts, and whole when it is over.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) place: Place,
    /// Which [`crate::snapshot::Names`] the numbers below belong to.
    pub(crate) names: u64,
    pub(crate) listener: u32,
    pub(crate) route: u32,
    pub(crate) service: Option<u32>,
    pub(crate) client: IpAddr,
    pub(crate) is_tls: bool,
    pub(crate) method: &'static str,
    pub(crate) version: Version,
    /// As sent, without the query: what it says may be secret, and long.
    pub(crate) path: SmallText<80>,
    pub(crate) host: SmallText<40>,
    pub(crate) status: u16,
    pub(crate) outcome: Cow<'static, str>,
    pub(crate) is_error: bool,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) began: Duration,
    pub(crate) ended: Duration,
    pub(crate) tries: Tries,
    pub(crate) notes: Notes,
    /// The answer came from Terrace itself.
    pub(crate) is_own: bool,
    /// It was handed over; what is left is a place in the ring.
    is_told: bool,
}

impl Flight {
    /// What is there before anything is known.
    pub(crate) fn blank() -> Self {
        let nowhere =
            Place { trace: TraceId(0), span: SpanId(0), parent: None, is_asked: false, is_in_sample: false };
        Self {
            place: nowhere,
            names: 0,
            listener: 0,
            route: 0,
            service: None,
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            is_tls: false,
            method: "",
            version: Version::Http11,
            path: SmallText::new(b""),
            host: SmallText::new(b""),
            status: 0,
            outcome: Cow::Borrowed(""),
            is_error: false,
            bytes_in: 0,
            bytes_out: 0,
            began: Duration::ZERO,
            ended: Duration::ZERO,
            tries: Tries::default(),
            notes: Notes::default(),
            is_own: false,
            is_told: false,
        }
    }
}

impl Flight {
    /// Bytes that it holds beside itself, estimated from above: what it shares with others is counted as its own.
    pub(crate) fn held_bytes(&self) -> usize {
        let outcome = match &self.outcome {
            Cow::Borrowed(_) => 0,
            Cow::Owned(text) => text.capacity() + BLOCK_BYTES,
        };
        let signs: usize = self.tries.iter().map(|attempt| attempt.sign.bytes()).sum();
        let more = self.tries.more.capacity() * size_of::<Try>() + BLOCK_BYTES;
        outcome + signs + more + self.notes.bytes()
    }
}

/// A moment in nanoseconds of the clock, with 0 for never: five centuries in eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Moment(u64);

impl Moment {
    #[inline]
    fn of(at: Duration) -> Self {
        Self(at.as_nanos() as u64)
    }

    /// When it was, if ever.
    fn at(self) -> Option<Duration> {
        (self.0 > 0).then(|| Duration::from_nanos(self.0))
    }
}

/// One try at an endpoint. It is copied with every request that is noted, so it is small.
#[derive(Debug, Clone)]
pub(crate) struct Try {
    /// Its number, from 1; its span's id is made of it.
    pub(crate) number: u32,
    status: u16,
    /// The endpoint, which may be gone when this is read.
    pub(crate) sign: Arc<Sign>,
    began: Moment,
    dialled_from: Moment,
    dialled_to: Moment,
    sent: Moment,
    head: Moment,
    failed: Moment,
    error: &'static str,
}

impl Try {
    /// A try that begins.
    #[inline]
    pub(crate) fn new(number: u32, sign: Arc<Sign>, began: Duration) -> Self {
        let never = Moment::default();
        Self {
            number,
            status: 0,
            sign,
            began: Moment::of(began),
            dialled_from: never,
            dialled_to: never,
            sent: never,
            head: never,
            failed: never,
            error: "",
        }
    }

    pub(crate) fn began(&self) -> Duration {
        self.began.at().unwrap_or_default()
    }

    /// From when to when a connection was dialled for it; none on one that was there.
    pub(crate) fn dialled(&self) -> Option<(Duration, Duration)> {
        Some((self.dialled_from.at()?, self.dialled_to.at()?))
    }

    /// When the request's body had been sent, where it has one.
    pub(crate) fn sent(&self) -> Option<Duration> {
        self.sent.at()
    }

    /// When the answer's head came, and its status.
    pub(crate) fn head(&self) -> Option<(Duration, u16)> {
        Some((self.head.at()?, self.status))
    }

    /// When and why it failed before the client had seen anything of it.
    pub(crate) fn failed(&self) -> Option<(Duration, &'static str)> {
        Some((self.failed.at()?, self.error))
    }

    pub(crate) fn note_dialled(&mut self, from: Duration, to: Duration) {
        (self.dialled_from, self.dialled_to) = (Moment::of(from), Moment::of(to));
    }

    pub(crate) fn note_sent(&mut self, at: Duration) {
        self.sent = Moment::of(at);
    }

    #[inline]
    pub(crate) fn note_head(&mut self, at: Duration, status: u16) {
        (self.head, self.status) = (Moment::of(at), status);
    }

    pub(crate) fn note_failed(&mut self, at: Duration, error: &'static str) {
        (self.failed, self.error) = (Moment::of(at), error);
    }
}

/// The tries of one request: nearly always one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tries {
    first: Option<Try>,
    more: Vec<Try>,
}

impl Tries {
    /// A try begins; it is made where it stays.
    #[inline]
    pub(crate) fn begin(&mut self, number: u32, sign: &Arc<Sign>, now: Duration) {
        if self.first.is_none() {
            self.first = Some(Try::new(number, Arc::clone(sign), now));
        } else if self.more.len() + 1 < TRIES_NOTED_MAX {
            self.more.push(Try::new(number, Arc::clone(sign), now));
        }
    }

    #[cfg(test)]
    pub(crate) fn push(&mut self, next: Try) {
        match self.first {
            None => self.first = Some(next),
            Some(_) => self.more.push(next),
        }
    }

    /// The try of that number; they are numbered from 1 in the order in which they begin.
    #[inline]
    pub(crate) fn of_mut(&mut self, number: u32) -> Option<&mut Try> {
        match number {
            0 => None,
            1 => self.first.as_mut(),
            _ => self.more.get_mut(number as usize - 2),
        }
    }

    /// The same to look at.
    #[inline]
    pub(crate) fn of(&self, number: u32) -> Option<&Try> {
        match number {
            0 => None,
            1 => self.first.as_ref(),
            _ => self.more.get(number as usize - 2),
        }
    }

    #[inline]
    pub(crate) fn last(&self) -> Option<&Try> {
        self.more.last().or(self.first.as_ref())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Try> {
        self.first.iter().chain(&self.more)
    }
}

/// The ring of one core, and what is looked for in it.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// Room for all is asked for at once, with the first: a ring that grew would be copied as often as it doubles.
    flights: Vec<Flight>,
    is_full: bool,
    /// Where the next hop is written.
    next: usize,
    /// Hops written since the last look.
    unseen: usize,
    late: BTreeMap<TraceId, Kept>,
    /// The same in the order in which they came.
    late_since: VecDeque<(TraceId, Duration)>,
}

impl Recorder {
    /// The place for the next hop: that of the oldest, to be written over in full.
    #[inline]
    pub(crate) fn place(&mut self) -> &mut Flight {
        if !self.is_full {
            self.grow();
        }
        let place = self.next;
        self.next = (self.next + 1) % FLIGHTS_MAX;
        self.unseen += 1;
        let flight = &mut self.flights[place];
        flight.is_told = false;
        flight
    }

    /// Whether it is time to look, lest hops are overwritten unseen.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.unseen >= FLIGHTS_MAX / 2
    }

    fn grow(&mut self) {
        if self.flights.is_empty() {
            self.flights.reserve_exact(FLIGHTS_MAX);
        }
        self.flights.push(Flight::blank());
        self.is_full = self.flights.len() == FLIGHTS_MAX;
    }

    /// The hops of traces that are kept late, each once: of `fresh` traces all that are known, of those told before what
    /// came since the last look.
    pub(crate) fn look(&mut self, fresh: Vec<(TraceId, Kept)>, now: Duration) -> Vec<(Flight, Kept)> {
        let looked = if fresh.is_empty() { self.unseen } else { self.flights.len() };
        self.unseen = 0;
        self.remember(fresh, now);
        if self.late.is_empty() {
            return Vec::new();
        }
        let (late, count) = (&self.late, self.flights.len());
        let oldest = if self.is_full { self.next } else { 0 };
        let (before, after) = self.flights.split_at_mut(oldest);
        // In the order in which they were written.
        let recent = after.iter_mut().chain(before).skip(count - looked.min(count));
        let mut found = Vec::new();
        for flight in recent.filter(|flight| !flight.is_told) {
            if let Some(why) = late.get(&flight.place.trace) {
                found.push((flight.clone(), *why));
                flight.is_told = true;
            }
        }
        found
    }

    fn remember(&mut self, fresh: Vec<(TraceId, Kept)>, now: Duration) {
        for (trace, why) in fresh {
            if self.late.insert(trace, why).is_none() {
                self.late_since.push_back((trace, now));
            }
        }
        while let Some((trace, since)) = self.late_since.front().copied() {
            if since + LATE_FOR > now && self.late_since.len() <= LATE_MAX {
                break;
            }
            self.late.remove(&trace);
            self.late_since.pop_front();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn flight(trace: u128) -> Flight {
        let place = Place { trace: TraceId(trace), span: SpanId(7), ..Flight::blank().place };
        Flight {
            place,
            service: Some(0),
            client: [192, 0, 2, 7].into(),
            method: "GET",
            path: SmallText::cut("/orders/7"),
            host: SmallText::cut("shop.example"),
            status: 200,
            outcome: Cow::Borrowed("ok"),
            bytes_out: 2,
            began: Duration::from_millis(100),
            ended: Duration::from_millis(130),
            ..Flight::blank()
        }
    }

    impl Recorder {
        fn record(&mut self, flight: Flight) -> bool {
            *self.place() = flight;
            self.is_due()
        }
    }

    const NOW: Duration = Duration::from_secs(1_000);

    fn traces(found: &[(Flight, Kept)]) -> Vec<u128> {
        found.iter().map(|(flight, _)| flight.place.trace.0).collect()
    }

    fn late(trace: u128) -> Vec<(TraceId, Kept)> {
        vec![(TraceId(trace), Kept::Error)]
    }

    #[test]
    fn hops_that_ended_before_are_found_and_told_once() {
        let mut recorder = Recorder::default();
        for trace in [1, 2, 1, 3] {
            recorder.record(flight(trace));
        }
        assert_eq!(traces(&recorder.look(Vec::new(), NOW)), []);
        assert_eq!(traces(&recorder.look(late(1), NOW)), [1, 1]);
        assert_eq!(traces(&recorder.look(late(1), NOW)), []);
    }

    #[test]
    fn hops_that_end_afterwards_are_found_for_two_minutes() {
        let mut recorder = Recorder::default();
        recorder.look(late(1), NOW);
        recorder.record(flight(1));
        assert_eq!(traces(&recorder.look(Vec::new(), NOW + LATE_FOR / 2)), [1]);
        recorder.record(flight(1));
        assert_eq!(traces(&recorder.look(Vec::new(), NOW + LATE_FOR)), []);
        assert!(recorder.late.is_empty() && recorder.late_since.is_empty());
    }

    #[test]
    fn the_ring_holds_the_last_hops_and_asks_for_a_look_before_it_goes_round() {
        let mut recorder = Recorder::default();
        let hops = 3 * FLIGHTS_MAX as u128;
        let mut looks = 0;
        for trace in 1..=hops {
            if recorder.record(flight(trace)) {
                recorder.look(Vec::new(), NOW);
                looks += 1;
            }
        }
        assert_eq!((looks, recorder.flights.len()), (6, FLIGHTS_MAX));
        let oldest = hops - FLIGHTS_MAX as u128 + 1;
        assert_eq!(traces(&recorder.look(late(oldest - 1), NOW)), []);
        assert_eq!(traces(&recorder.look(late(oldest), NOW)), [oldest]);
        assert_eq!(traces(&recorder.look(late(hops), NOW)), [hops]);
    }

    #[test]
    fn what_is_looked_for_is_bounded_and_the_oldest_gives_way() {
        let mut recorder = Recorder::default();
        let many = (1..=2 * LATE_MAX as u128).map(|trace| (TraceId(trace), Kept::Slow)).collect();
        recorder.look(many, NOW);
        assert_eq!((recorder.late.len(), recorder.late_since.len()), (LATE_MAX, LATE_MAX));
        recorder.record(flight(1));
        recorder.record(flight(2 * LATE_MAX as u128));
        assert_eq!(traces(&recorder.look(Vec::new(), NOW)), [2 * LATE_MAX as u128]);
    }

    #[test]
    fn tries_beyond_the_bound_are_not_noted() {
        let mut tries = Tries::default();
        for number in 1..100 {
            let sign = Arc::new(Sign::new("orders-1".into(), ([127, 0, 0, 1], 1).into()));
            tries.begin(number, &sign, NOW);
        }
        assert_eq!(tries.iter().count(), TRIES_NOTED_MAX);
        assert_eq!(tries.last().map(|last| last.number), Some(TRIES_NOTED_MAX as u32));
    }
}
