//! Mirroring: a copy of a share of a route's requests goes to another service, and its answers go nowhere. So a new version
//! meets real requests before anybody depends on it; with `compare` its answers are held against the real ones.
//!
//! The original never waits for its copy. What passes is looked at while it passes anyway; the copy is sent when the original
//! is over, by a task of its own. Everything that a copy takes is bounded apart: bytes kept and copies under way by one lane
//! for each service that is mirrored to, a body's size, the time until its answer's end. What does not fit is not mirrored,
//! and counted. A copy is sent once, carries `X-Terrace-Mirror` with the route's name, tells no endpoint's record how it went,
//! and a marked request is not mirrored again. Streams that switch protocols are not mirrored at all.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use terrace_http::{BodyLength, Known, RequestHead, ResponseHead};
use terrace_instruments::{Span, SpanId, SpanKind, SpanStatus, Value};
use terrace_policy::Share;
use terrace_runtime::clock;
use terrace_runtime::timer::Timer;
use terrace_upstream::{Answer, Ask, Proxied, Upstream, keeps_alive};
use terrace_wire::{Body, Frame, Sink};

use crate::chain::{Request, Way};
use crate::core::Core;
use crate::fault::draw;
use crate::journal::Journal;
use crate::metrics::{MirrorMetrics, Mirrored};
use crate::spans;
use crate::trace::Place;

/// Copies to one service that are under way at once, over all cores.
const AT_ONCE_MAX: usize = 64;
/// Bytes of copies to one service that are kept at once, from a request's head until its copy is sent.
const BYTES_MAX: usize = 16 << 20;
/// From a copy's begin to its answer's end.
const PATIENCE: Duration = Duration::from_secs(10);
/// What of a copy's answer is read; of a longer one the connection is given up.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// The number of a copy's span among a hop's parts ([`Place::part`]): no try has it.
const PART: u32 = u32::MAX;

/// A copy of a share of the requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The service that gets it, by index in [`Config::services`](crate::Config::services).
    pub to: usize,
    /// For how many of the requests.
    pub share: Share,
    /// Whether its answers are held against the real ones.
    pub compare: bool,
    /// Bytes of a body that is still copied; requests with larger ones are not mirrored.
    pub body_bytes_max: usize,
}

impl Mirror {
    /// What is copied of a body where nobody says otherwise.
    pub const BODY_BYTES_MAX: usize = 64 << 10;
}

/// The bounds on all copies to one service. It outlives reloads: what is under way counts on.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    at_once: AtomicUsize,
    bytes: AtomicUsize,
}

/// A place, or bytes, taken from a lane until this is dropped.
#[derive(Debug)]
struct Taken {
    lane: Arc<Lane>,
    of: fn(&Lane) -> &AtomicUsize,
    amount: usize,
}

impl Lane {
    fn take(self: &Arc<Self>, of: fn(&Self) -> &AtomicUsize, amount: usize, most: usize) -> Option<Taken> {
        let count = of(self);
        if count.fetch_add(amount, Ordering::Relaxed) + amount > most {
            count.fetch_sub(amount, Ordering::Relaxed);
            return None;
        }
        Some(Taken { lane: Arc::clone(self), of, amount })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        (self.of)(&self.lane).fetch_sub(self.amount, Ordering::Relaxed);
    }
}

/// What is seen of a request that is mirrored, while it passes.
#[derive(Debug)]
pub(crate) struct Watch {
    body: RefCell<BodyCopy>,
    answer: RefCell<Digest>,
    status: Cell<u16>,
    is_compared: bool,
}

#[derive(Debug, Default)]
struct BodyCopy {
    bytes: Vec<u8>,
    bytes_max: usize,
    is_whole: bool,
    is_too_large: bool,
}

impl Watch {
    /// A piece of the request's body passes.
    pub(crate) fn asked(&self, piece: &[u8]) {
        let mut body = self.body.borrow_mut();
        if body.is_too_large || body.bytes.len() + piece.len() > body.bytes_max {
            body.is_too_large = true;
            body.bytes = Vec::new();
        } else {
            body.bytes.extend_from_slice(piece);
        }
    }

    /// The request's body has passed.
    pub(crate) fn asked_whole(&self) {
        self.body.borrow_mut().is_whole = true;
    }

    /// The head of the service's answer has come.
    pub(crate) fn answered(&self, status: u16) {
        self.status.set(status);
    }

    /// A piece of the answer's body passes.
    pub(crate) fn answering(&self, piece: &[u8]) {
        if self.is_compared {
            self.answer.borrow_mut().add(piece);
        }
    }

    /// The answer's body has passed.
    pub(crate) fn answered_whole(&self) {
        self.answer.borrow_mut().is_whole = true;
    }
}

/// A request that will be mirrored, until the original is over.
#[derive(Debug)]
pub(crate) struct Pending {
    head: RequestHead,
    watch: Rc<Watch>,
    /// The room for its head and body.
    _room: Taken,
}

/// A route's mirror, made ready.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) lane: Arc<Lane>,
    pub(crate) metrics: MirrorMetrics,
}

/// Draws whether the request is mirrored, and prepares that. To be called when its head is what the service gets.
pub(crate) fn prepare(
    (mirror, ready): (&Mirror, &Ready),
    route: &str,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
) -> Option<Box<Pending>> {
    let head = &*request.exchange.head;
    let is_copy = head.fields.has(Known::XTerraceMirror);
    // Its body is decoded on its way up, and what passes here is not what the service gets.
    let is_coded = request.passed.web.is_some_and(|call| call.is_text);
    if is_copy
        || is_coded
        || request.asked.upgrade.is_some()
        || !draw(mirror.share, terrace_runtime::random::u64())
    {
        return None;
    }
    let body_bytes = match request.exchange.length {
        BodyLength::Empty => 0,
        BodyLength::Known(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
        BodyLength::Framed | BodyLength::UntilClose => mirror.body_bytes_max,
    };
    if body_bytes > mirror.body_bytes_max {
        ready.metrics.count(Mirrored::TooLarge);
        return None;
    }
    let bytes = head.fields.wire_bytes() + head.target().len() + body_bytes;
    let Some(room) = ready.lane.take(|lane| &lane.bytes, bytes, BYTES_MAX) else {
        ready.metrics.count(Mirrored::Full);
        return None;
    };
    let watch = Rc::new(Watch {
        body: RefCell::new(BodyCopy {
            bytes_max: mirror.body_bytes_max,
            is_whole: request.exchange.length == BodyLength::Empty,
            ..BodyCopy::default()
        }),
        answer: RefCell::default(),
        status: Cell::new(0),
        is_compared: mirror.compare,
    });
    let mut head = head.clone();
    head.fields.remove(Known::Expect);
    head.fields.append_known(Known::XTerraceMirror, route.as_bytes());
    journal.tell_part(&mut head, PART);
    journal.mirrored(mirror.compare);
    request.passed.watch = Some(Rc::clone(&watch));
    Some(Box::new(Pending { head, watch, _room: room }))
}

/// Sends the copy: the original is over.
pub(crate) fn send(
    way: Way<'_>,
    (mirror, ready): (&Mirror, &Ready),
    pending: Pending,
    client: std::net::IpAddr,
    journal: &Journal<'_>,
) {
    let body = pending.watch.body.take();
    if body.is_too_large {
        return ready.metrics.count(Mirrored::TooLarge);
    }
    if !body.is_whole {
        return ready.metrics.count(Mirrored::Unfinished);
    }
    let Some(turn) = ready.lane.take(|lane| &lane.at_once, 1, AT_ONCE_MAX) else {
        return ready.metrics.count(Mirrored::Full);
    };
    let service = &way.snapshot.services[mirror.to];
    let copy = Copy {
        core: Rc::clone(way.core),
        upstream: Arc::clone(&service.upstream),
        proxied: Proxied {
            source: SocketAddr::new(client, way.connected.peer.port()),
            destination: way.connected.local,
        },
        head: pending.head,
        body: Bytes::from(body.bytes),
        original: original(&pending.watch),
        place: journal.place(),
        metrics: ready.metrics.clone(),
        _room: pending._room,
        _turn: turn,
    };
    tokio::task::spawn_local(copy.run());
}

/// What the real answer was, where there was a whole one and somebody wants to compare.
fn original(watch: &Watch) -> Option<(u16, Digest)> {
    let answer = watch.answer.take();
    (watch.is_compared && answer.is_whole).then(|| (watch.status.get(), answer))
}

/// A copy on its way.
struct Copy {
    core: Rc<Core>,
    upstream: Arc<Upstream>,
    proxied: Proxied,
    head: RequestHead,
    body: Bytes,
    original: Option<(u16, Digest)>,
    place: Option<Place>,
    metrics: MirrorMetrics,
    _room: Taken,
    _turn: Taken,
}

impl Copy {
    async fn run(self) {
        let (began, mut timer, mut dialling) = (clock::now(), Timer::new(), Timer::new());
        match timer.run(began + PATIENCE, self.exchange(&mut dialling)).await {
            Ok(Some((status, answer))) => {
                self.metrics.count(Mirrored::Answered);
                self.compare(began, status, &answer);
            }
            Ok(None) => self.metrics.count(Mirrored::Failed),
            Err(_) => self.metrics.count(Mirrored::TimedOut),
        }
    }

    /// Asks the service and reads its answer; nothing when that fails, however it does.
    async fn exchange(&self, dialling: &mut Timer) -> Option<(u16, Digest)> {
        let settings = self.upstream.settings();
        let lease =
            self.upstream.pick(&Ask::default(), clock::now(), &mut terrace_runtime::random::u64).ok()?;
        let mut link = match self.core.pool.reuse(&settings, lease.endpoint()) {
            Some(link) => link,
            None => self.core.pool.dial(&settings, lease.endpoint(), self.proxied, dialling).await.ok()?,
        };
        let length = match self.body.len() as u64 {
            0 => BodyLength::Empty,
            bytes => BodyLength::Known(bytes),
        };
        let mut response = ResponseHead::default();
        let (digest, is_reusable) = {
            let (mut sink, mut answer) = link.begin(&self.head, length).await.ok()?;
            self.ask(&mut sink).await?;
            loop {
                answer.head(&self.head.method, &mut response).await.ok()?;
                if !response.is_interim() {
                    break;
                }
            }
            read(answer).await?
        };
        if digest.is_whole && is_reusable && keeps_alive(&response) {
            self.core.pool.keep(&settings, link, None);
        }
        // The lease goes without a word: what becomes of copies says nothing of an endpoint.
        drop(lease);
        Some((response.status, digest))
    }

    async fn ask(&self, sink: &mut Sink<'_>) -> Option<()> {
        if !self.body.is_empty() {
            sink.data(self.body.clone()).ok()?;
        }
        sink.end(None).ok()?;
        sink.flush().await.ok()
    }

    /// Holds the copy's answer against the real one; of a difference the trace is kept.
    fn compare(&self, began: Duration, status: u16, answer: &Digest) {
        let Some((real_status, real)) = &self.original else { return };
        let difference = if status != *real_status {
            Difference::Status
        } else if answer.is_whole && !real.is_same(answer) {
            Difference::Body
        } else {
            return self.metrics.same.inc();
        };
        match difference {
            Difference::Status => self.metrics.other_status.inc(),
            Difference::Body => self.metrics.other_body.inc(),
        }
        let Some(place) = &self.place else { return };
        let mut attributes: Vec<(Cow<'static, str>, Value)> = Vec::new();
        let mut put = |key: &'static str, value: Value| attributes.push((Cow::Borrowed(key), value));
        put("http.request.method", self.head.method.as_str().to_owned().into());
        put("http.response.status_code", status.into());
        put("http.response.body.size", answer.bytes.into());
        put("terrace.mirror.service", self.upstream.service().to_string().into());
        put("terrace.mirror.difference", difference.as_str().into());
        put("terrace.mirror.original.status_code", (*real_status).into());
        put("terrace.mirror.original.body.size", real.bytes.into());
        put("terrace.mirror.hash", format!("{:016x}", answer.hash()).into());
        put("terrace.mirror.original.hash", format!("{:016x}", real.hash()).into());
        let span = Span {
            trace: place.trace,
            id: part(place),
            parent: Some(place.span),
            name: Cow::Borrowed("mirror"),
            kind: SpanKind::Client,
            service: Arc::clone(&spans::TERRACE),
            instance: Arc::clone(&spans::NOBODY),
            start: self.core.wall_at(began),
            duration: clock::now().saturating_sub(began),
            status: SpanStatus::Unset,
            attributes,
        };
        self.core.keep_difference(span);
    }
}

fn part(place: &Place) -> SpanId {
    place.part(u64::from(PART))
}

/// Reads an answer's body to its end, or to the most that is read; and says whether the connection can be used again.
async fn read(answer: Answer<'_>) -> Option<(Digest, bool)> {
    let (mut body, _count) = answer.into_body();
    let mut digest = Digest::default();
    while let Some(frame) = poll_fn(|cx| body.poll_frame(cx)).await.ok()? {
        if let Frame::Data(bytes) = frame {
            digest.add(&bytes);
        }
        if digest.bytes > ANSWER_BYTES_MAX {
            return Some((digest, false));
        }
    }
    digest.is_whole = true;
    let is_reusable = matches!(&body, Body::Http1(_) | Body::Empty) && body.is_done();
    Some((digest, is_reusable))
}

/// What two answers differ in.
#[derive(Debug, Clone, Copy)]
enum Difference {
    Status,
    Body,
}

impl Difference {
    fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Body => "body",
        }
    }
}

/// The length and a hash of a body that comes in pieces, however it is cut. It tells answers apart that differ by accident;
/// it is no proof against somebody who wants two to look alike.
#[derive(Debug, Clone, Default)]
struct Digest {
    bytes: u64,
    state: u64,
    /// What of the last eight bytes has come.
    tail: u64,
    is_whole: bool,
}

impl Digest {
    fn add(&mut self, mut piece: &[u8]) {
        while !self.bytes.is_multiple_of(8) && !piece.is_empty() {
            self.add_byte(piece[0]);
            piece = &piece[1..];
        }
        let (words, rest) = piece.as_chunks::<8>();
        for word in words {
            self.state = mixed(self.state, u64::from_le_bytes(*word));
        }
        self.bytes += 8 * words.len() as u64;
        rest.iter().for_each(|byte| self.add_byte(*byte));
    }

    fn add_byte(&mut self, byte: u8) {
        self.tail |= u64::from(byte) << (8 * (self.bytes % 8));
        self.bytes += 1;
        if self.bytes.is_multiple_of(8) {
            self.state = mixed(self.state, std::mem::take(&mut self.tail));
        }
    }

    fn hash(&self) -> u64 {
        mixed(mixed(self.state, self.tail), self.bytes)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.hash() == other.hash()
    }
}

/// One step: multiplied to 128 bits and folded (Wang Yi's wyhash), so that the order of words counts.
fn mixed(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ 0xa076_1d64_78bd_642f) * u128::from(word ^ 0xe703_7ed1_a0b4_28db);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lane_gives_no_more_than_it_has_and_takes_back_what_is_dropped() {
        let lane = Arc::new(Lane::default());
        let take = |amount| lane.take(|lane| &lane.bytes, amount, 100);
        let first = take(60).expect("room");
        assert!(take(41).is_none());
        let second = take(40).expect("room, as what was refused took none");
        drop(first);
        assert!(take(60).is_some());
        drop(second);
        assert_eq!(lane.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_body_beyond_its_bound_is_let_go_at_once() {
        let body = RefCell::new(BodyCopy { bytes_max: 4, ..BodyCopy::default() });
        let (answer, status) = (RefCell::default(), Cell::new(0));
        let watch = Watch { body, answer, status, is_compared: false };
        watch.asked(b"abcd");
        assert_eq!(watch.body.borrow().bytes, b"abcd");
        watch.asked(b"e");
        watch.asked(b"");
        let body = watch.body.borrow();
        assert!(body.is_too_large && body.bytes.capacity() == 0);
    }

    fn digest(pieces: &[&[u8]]) -> Digest {
        let mut digest = Digest::default();
        pieces.iter().for_each(|piece| digest.add(piece));
        digest
    }

    #[test]
    fn bodies_that_differ_a_little_differ() {
        let text = b"the quick brown fox jumps over the lazy dog".to_vec();
        for at in 0..text.len() {
            let mut other = text.clone();
            other[at] ^= 1;
            assert!(!digest(&[&text]).is_same(&digest(&[&other])), "{at}");
            assert!(!digest(&[&text]).is_same(&digest(&[&text[..at]])), "{at}");
        }
        assert!(!digest(&[b"abcdefghijklmnop"]).is_same(&digest(&[b"ijklmnopabcdefgh"])));
        assert!(!digest(&[b"\0"]).is_same(&digest(&[b"\0\0"])) && !digest(&[b""]).is_same(&digest(&[b"\0"])));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_a_body_is_cut(body: Vec<u8>, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
            places.extend([0, body.len()]);
            places.sort_unstable();
            let pieces: Vec<&[u8]> = places.windows(2).map(|ends| &body[ends[0]..ends[1]]).collect();
            prop_assert!(digest(&pieces).is_same(&digest(&[&body])));
        }
    }
}
