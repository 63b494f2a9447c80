//! Who belongs to a service, and the folding of all that into the picture that picks look at.
//!
//! The roster is the truth and is changed by one at a time, under the upstream's lock: publications,
//! reloads, verdicts of checks and ejections come here, and each ends with a new [`Live`].

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use terrace_policy::{EjectionLaw, Share, normal_failing_of};

use crate::balance::maglev;
use crate::config::{Balance, Config, Protocol};
use crate::endpoint::{Bounds, Endpoint, Health};
use crate::error::NoEndpoint;
use crate::live::{Candidates, HashTable, Live};
use crate::pulse::{Pulse, ServicePulse};
use crate::slow_start::Ramp;

/// A larger weight counts as this one.
const WEIGHT_MAX: u32 = 1_000_000;
/// Requests that one HTTP/2 connection is taken to carry at once, the common bound of servers (RFC 9113,
/// section 6.5.2 recommends no less).
const STREAMS_PER_CONNECTION: u32 = 100;

/// One endpoint as its source publishes it. The same name and address are the same endpoint as before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The instance's name, or the address as it was configured; unique within the service.
    pub name: Arc<str>,
    /// The host name under which it was found, if there was one.
    pub host: Option<Arc<str>>,
    /// Where to connect to.
    pub address: SocketAddr,
    /// Its share among the others; 0 gets no requests.
    pub weight: u32,
    /// Whether requests may go there.
    pub state: MemberState,
}

/// What the source of an endpoint says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// No new requests: starting, or draining.
    Closed,
    /// Nobody has looked at it yet: used until a check says otherwise.
    Open,
    /// Its source has found it ready: up until checks say otherwise.
    Ready,
}

impl Member {
    /// An endpoint of weight 1 that nobody has looked at yet.
    pub fn new(name: &str, address: SocketAddr) -> Self {
        Self { name: name.into(), host: None, address, weight: 1, state: MemberState::Open }
    }
}

/// The truth about one service's endpoints.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    pub(crate) seats: Vec<Seat>,
    /// Withdrawn endpoints that somebody still holds.
    pub(crate) retired: Vec<Weak<Endpoint>>,
    pub(crate) pulse: ServicePulse,
    /// When the picture will be wrong by the time alone.
    pub(crate) refold_at: Option<Duration>,
    table: Option<(Vec<maglev::Member>, Arc<maglev::Table>)>,
}

/// One published endpoint.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) weight: u32,
    pub(crate) state: MemberState,
    /// When it last became usable: the beginning of its slow start.
    pub(crate) joined_at: Duration,
    pub(crate) pulse: Pulse,
}

/// A picture, and when the time alone will have made it wrong.
pub(crate) struct Folded {
    pub(crate) live: Live,
    pub(crate) due_at: Option<Duration>,
}

impl Seat {
    /// Whether its source lets requests go there.
    pub(crate) fn takes_requests(&self) -> bool {
        self.state != MemberState::Closed && self.weight > 0
    }

    /// Whether requests may go there as far as its source and the operator are concerned. An operator's word is not
    /// evidence of ill health: a drained endpoint counts neither as healthy nor as failing, and panic does not override it.
    pub(crate) fn is_open(&self) -> bool {
        self.takes_requests() && !self.endpoint.is_drained()
    }

    fn is_healthy(&self) -> bool {
        self.endpoint.health() != Health::Down && !self.endpoint.is_out()
    }

    /// Whether probes may find out if it is well again. One that fails its checks is not asked.
    fn is_to_be_probed(&self) -> bool {
        self.is_open() && self.endpoint.is_out() && self.endpoint.health() != Health::Down
    }

    /// Takes over what the source says now. A closed endpoint that opens again has a new process behind it, or one
    /// that was just found ready: what was known of the old one is forgotten, and what an operator said of it.
    pub(crate) fn updated(mut self, member: &Member, now: Duration) -> Self {
        let opens = self.state == MemberState::Closed && member.state != MemberState::Closed;
        self.weight = member.weight.min(WEIGHT_MAX);
        if opens {
            self.joined_at = now;
            self.endpoint.pardon();
            self.pulse.forget(now);
            self.endpoint.set_health(Health::Unknown);
            self.endpoint.set_drained(false);
        }
        if member.state == MemberState::Ready && self.state != MemberState::Ready {
            self.endpoint.set_health(Health::Up);
        }
        self.state = member.state;
        if self.is_open() {
            self.endpoint.set_accepting(true);
        }
        self
    }

    fn ramp(&self, config: &Config, now: Duration) -> Ramp {
        let young = Ramp::new(self.joined_at, config.slow_start, now);
        let readmitted_at = self.endpoint.ejection().readmitted_at();
        match (readmitted_at, &config.ejection) {
            (Some(since), Some(law)) => young.and(Ramp::new(since, law.ramp, now)),
            (Some(_), None) | (None, _) => young,
        }
    }

    fn weight(&self, balance: Balance, ramp: Ramp) -> u32 {
        match balance {
            Balance::RoundRobin => ramp.percent,
            Balance::Weighted
            | Balance::LeastRequests
            | Balance::PeakEwma
            | Balance::Random
            | Balance::Hash => self.weight * ramp.percent,
        }
    }
}

impl Roster {
    /// A withdrawn endpoint of that name and address which is still held.
    pub(crate) fn find_retired(&self, name: &str, address: SocketAddr) -> Option<Arc<Endpoint>> {
        let is_it = |endpoint: &Arc<Endpoint>| &**endpoint.name() == name && endpoint.address() == address;
        self.retired.iter().filter_map(Weak::upgrade).find(is_it)
    }

    /// Withdraws these, and forgets earlier ones that nobody holds any more or that are back.
    pub(crate) fn retire(&mut self, gone: &[Seat]) {
        let seated: HashSet<*const Endpoint> =
            self.seats.iter().map(|seat| Arc::as_ptr(&seat.endpoint)).collect();
        self.retired.retain(|endpoint| endpoint.strong_count() > 0 && !seated.contains(&endpoint.as_ptr()));
        self.retired.extend(gone.iter().map(|seat| Arc::downgrade(&seat.endpoint)));
    }

    /// Forbids new requests at who was closed or withdrawn. Only after the picture without them is in place: else a
    /// pick could find all it sees closed while the replacement is not in sight yet.
    pub(crate) fn close_withdrawn(&self) {
        let closed = self.seats.iter().filter(|seat| !seat.is_open());
        closed.for_each(|seat| seat.endpoint.set_accepting(false));
        self.retired.iter().filter_map(Weak::upgrade).for_each(|endpoint| endpoint.set_accepting(false));
    }

    /// All endpoints that are published or still held.
    pub(crate) fn everyone(&self) -> impl Iterator<Item = Arc<Endpoint>> + '_ {
        let seated = self.seats.iter().map(|seat| Arc::clone(&seat.endpoint));
        seated.chain(self.retired.iter().filter_map(Weak::upgrade))
    }

    pub(crate) fn seat_mut(&mut self, endpoint: &Endpoint) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| std::ptr::eq(&*seat.endpoint, endpoint))
    }

    /// Whether one more endpoint may be ejected.
    pub(crate) fn may_eject(&self, law: &EjectionLaw) -> bool {
        let open = || self.seats.iter().filter(|seat| seat.is_open());
        let ejected = open().filter(|seat| seat.endpoint.is_out()).count();
        law.may_eject(ejected, open().count())
    }

    /// The share of failures that is normal here, of those that requests go to.
    pub(crate) fn normal_failing(&self, law: &EjectionLaw, now: Duration) -> Share {
        let asked = self.seats.iter().filter(|seat| seat.is_open() && seat.is_healthy());
        let failing = asked.map(|seat| seat.endpoint.evidence().failing(law.window, now));
        normal_failing_of(&mut failing.collect::<Vec<_>>())
    }

    /// Folds all that is known into the picture that picks look at.
    pub(crate) fn fold(&mut self, config: &Config, now: Duration) -> Folded {
        let open = self.seats.iter().filter(|seat| seat.is_open()).count();
        let healthy = self.seats.iter().filter(|seat| seat.is_open() && seat.is_healthy()).count();
        let is_panicking = config
            .panic_share
            .is_some_and(|share| open > 0 && !share.is_reached_by(healthy as u64, open as u64));
        let is_candidate = |seat: &Seat| seat.is_open() && (is_panicking || seat.is_healthy());
        let chosen: Vec<Option<Ramp>> =
            self.seats.iter().map(|seat| is_candidate(seat).then(|| seat.ramp(config, now))).collect();
        let candidates = self.candidates(config.balance, &chosen);
        let nobody = match (self.seats.is_empty(), open, candidates.len()) {
            (true, _, _) => Some(NoEndpoint::NoneConfigured),
            (false, 0, _) if self.seats.iter().any(Seat::takes_requests) => Some(NoEndpoint::AllDrained),
            (false, 0, _) => Some(NoEndpoint::NoneReady),
            (false, _, 0) => Some(NoEndpoint::AllUnhealthy),
            (false, _, _) => None,
        };
        let table = self.hash_table(config.balance, &chosen);
        let probed = self.seats.iter().filter(|seat| seat.is_to_be_probed());
        let out = probed.map(|seat| Arc::clone(&seat.endpoint)).collect();
        let live = Live { balance: config.balance, candidates, out, table, nobody, is_panicking };
        Folded { live, due_at: due_at(&chosen) }
    }

    fn candidates(&self, balance: Balance, chosen: &[Option<Ramp>]) -> Candidates {
        let pairs = self.seats.iter().zip(chosen);
        let weighted = pairs.filter_map(|(seat, ramp)| {
            let weight = seat.weight(balance, (*ramp)?);
            Some((Arc::clone(&seat.endpoint), weight))
        });
        Candidates::new(weighted.collect())
    }

    /// The table of all who take requests, healthy or not; made anew only when these change.
    fn hash_table(&mut self, balance: Balance, chosen: &[Option<Ramp>]) -> Option<HashTable> {
        if balance != Balance::Hash {
            self.table = None;
            return None;
        }
        let open: Vec<(&Seat, &Option<Ramp>)> =
            self.seats.iter().zip(chosen).filter(|(seat, _)| seat.takes_requests()).collect();
        let member = |(seat, _): &(&Seat, _)| maglev::Member {
            name: Arc::clone(seat.endpoint.name()),
            weight: seat.weight,
        };
        let members: Vec<maglev::Member> = open.iter().map(member).collect();
        let mut next = 0_u32;
        let number = |(_, ramp): &(_, &Option<Ramp>)| {
            ramp.map(|_| {
                next += 1;
                next - 1
            })
        };
        let candidates = open.iter().map(number).collect();
        let table = match self.table.take() {
            Some((same, table)) if same == members => table,
            Some(_) | None => Arc::new(maglev::Table::new(&members)),
        };
        self.table = Some((members, Arc::clone(&table)));
        Some(HashTable { table, candidates })
    }
}

/// The next moment at which a share grows.
fn due_at(chosen: &[Option<Ramp>]) -> Option<Duration> {
    chosen.iter().filter_map(|ramp| ramp.and_then(|ramp| ramp.grows_at)).min()
}

/// The bounds that a configuration sets for each endpoint.
pub(crate) fn bounds(config: &Config) -> Bounds {
    let connections_max = config.connections.per_endpoint_max.max(1);
    let requests_max = match config.protocol {
        Protocol::Http1 => connections_max,
        Protocol::H2 => connections_max.saturating_mul(STREAMS_PER_CONNECTION),
    };
    let ejection_window = config.ejection.as_ref().map(|law| law.window).unwrap_or_default();
    Bounds { connections_max, requests_max, ejection_window }
}
