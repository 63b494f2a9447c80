//! What a pick looks at: an immutable picture of the endpoints, replaced whole when anything about them changes.
//!
//! Health, ejection, weights and slow start are already folded in: the candidates are those that may be
//! picked, with the weights that hold now. So a pick reads the picture, draws, and counts itself in at the
//! endpoint. Only when that endpoint is unusable (tried before, full, withdrawn since) are others looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use terrace_policy::ProbeEnd;

use crate::balance::{Shares, least_requests, maglev, peak_ewma, random, round_robin, weighted};
use crate::config::Balance;
use crate::endpoint::{Endpoint, Refusal};
use crate::error::NoEndpoint;
use crate::id::EndpointId;
use crate::lease::Lease;

/// Draws before all candidates are gone through one by one.
const DRAWS_MAX: usize = 4;
/// Slots of a hash table walked before the same.
const SLOTS_MAX: usize = 64;
/// Endpoints that are out at which one pick looks for a probe that is due.
const PROBES_LOOKED_AT: usize = 8;

/// What a request wants of the pick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// What equal requests have in common, for [`Balance::Hash`]; without one such a pick is random.
    pub hash: Option<u64>,
    /// The endpoint that the client was with before; taken whenever it is a candidate.
    pub sticky: Option<EndpointId>,
    /// Endpoints that failed this request before; taken again only when there are no others.
    pub tried: &'a [EndpointId],
    /// The request has no body, so that it is whole with its head.
    pub is_whole: bool,
    /// It may be sent elsewhere should the endpoint fail: such a request can find out whether one that is out is well.
    pub is_repeatable: bool,
}

/// The picture.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) balance: Balance,
    pub(crate) candidates: Candidates,
    /// Those that are out, to be probed.
    pub(crate) out: Box<[Arc<Endpoint>]>,
    pub(crate) table: Option<HashTable>,
    /// Why there are no candidates; none, when there are.
    pub(crate) nobody: Option<NoEndpoint>,
    pub(crate) is_panicking: bool,
}

/// Those that may be picked.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    endpoints: Box<[Arc<Endpoint>]>,
    /// None without candidates.
    shares: Option<Shares>,
    /// Sorted by id.
    by_id: Box<[(EndpointId, u32)]>,
}

/// The table over all members, and which candidate each member is.
#[derive(Debug)]
pub(crate) struct HashTable {
    pub(crate) table: Arc<maglev::Table>,
    /// None for a member that may not be picked.
    pub(crate) candidates: Box<[Option<u32>]>,
}

/// Why a pick gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// The picture is older than a withdrawal: look at the next one.
    Outdated,
    /// There is nobody to pick.
    Nobody(NoEndpoint),
}

impl Candidates {
    pub(crate) fn new(weighted: Vec<(Arc<Endpoint>, u32)>) -> Self {
        if weighted.is_empty() {
            return Self::default();
        }
        let (endpoints, weights): (Vec<Arc<Endpoint>>, Vec<u32>) = weighted.into_iter().unzip();
        let mut by_id: Vec<(EndpointId, u32)> =
            endpoints.iter().map(|endpoint| endpoint.id()).zip(0..).collect();
        by_id.sort_unstable();
        Self { endpoints: endpoints.into(), shares: Some(Shares::new(&weights)), by_id: by_id.into() }
    }

    pub(crate) fn len(&self) -> usize {
        self.endpoints.len()
    }

    pub(crate) fn contains(&self, id: EndpointId) -> bool {
        self.find(id).is_some()
    }

    fn find(&self, id: EndpointId) -> Option<usize> {
        let at = self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.by_id[at].1 as usize)
    }
}

/// One pick under way.
struct Attempt<'a> {
    live: &'a Live,
    ask: &'a Ask<'a>,
    now: Duration,
    saw_withdrawn: bool,
}

impl Live {
    /// The picture of a service without endpoints.
    pub(crate) fn empty(balance: Balance) -> Self {
        let nobody = Some(NoEndpoint::NoneConfigured);
        Self {
            balance,
            candidates: Candidates::default(),
            out: Box::default(),
            table: None,
            nobody,
            is_panicking: false,
        }
    }

    /// Picks a candidate and counts a request in there.
    pub(crate) fn pick(
        &self,
        ask: &Ask<'_>,
        turn: &AtomicU64,
        now: Duration,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Lease, Miss> {
        let is_at_home = ask.sticky.is_some_and(|id| self.candidates.contains(id));
        let may_probe = !self.out.is_empty() && ask.tried.is_empty() && !is_at_home;
        if may_probe && let Some(lease) = self.probe(ask, now, random) {
            return Ok(lease);
        }
        let Some(shares) = &self.candidates.shares else {
            return Err(Miss::Nobody(self.nobody.unwrap_or(NoEndpoint::NoneConfigured)));
        };
        let mut attempt = Attempt { live: self, ask, now, saw_withdrawn: false };
        let drawn = match (attempt.sticky(), &self.table, ask.hash) {
            (Some(lease), _, _) => Some(lease),
            (None, Some(table), Some(hash)) => attempt.walk(table, hash),
            (None, _, _) => attempt.draw(shares, turn, random),
        };
        match drawn {
            Some(lease) => Ok(lease),
            None => attempt.go_through(ask.hash.unwrap_or_else(random)),
        }
    }

    /// The request as a probe of an endpoint that is out, where one is due.
    fn probe(&self, ask: &Ask<'_>, now: Duration, random: &mut dyn FnMut() -> u64) -> Option<Lease> {
        let start = (random() % self.out.len() as u64) as usize;
        let looked_at = self.out[start..].iter().chain(&self.out[..start]).take(PROBES_LOOKED_AT);
        let mut open = looked_at.filter(|endpoint| endpoint.try_begin_probe(ask.is_repeatable, now));
        let endpoint = open.next()?;
        match endpoint.begin_request(ask.is_whole, now) {
            Ok(()) => Some(Lease::of_begun(Arc::clone(endpoint), ask.is_whole, true)),
            Err(Refusal::Full | Refusal::Closed) => {
                endpoint.end_probe(ProbeEnd::Nothing, now);
                None
            }
        }
    }
}

impl Attempt<'_> {
    fn sticky(&mut self) -> Option<Lease> {
        let index = self.live.candidates.find(self.ask.sticky?)?;
        self.begin_untried(index)
    }

    fn walk(&mut self, table: &HashTable, hash: u64) -> Option<Lease> {
        let owners = table.table.walk(hash).take(SLOTS_MAX);
        let mut open = owners.filter_map(|member| table.candidates[member]);
        open.find_map(|index| self.begin_untried(index as usize))
    }

    fn draw(&mut self, shares: &Shares, turn: &AtomicU64, random: &mut dyn FnMut() -> u64) -> Option<Lease> {
        (0..DRAWS_MAX).find_map(|_| {
            let index = self.draw_one(shares, turn, random);
            self.begin_untried(index)
        })
    }

    fn draw_one(&self, shares: &Shares, turn: &AtomicU64, random: &mut dyn FnMut() -> u64) -> usize {
        let endpoints = &self.live.candidates.endpoints;
        let load = |index: usize| endpoints[index].load(self.now);
        let cost =
            |index: usize| peak_ewma::cost(endpoints[index].expected_latency_us(self.now), load(index));
        match self.live.balance {
            Balance::RoundRobin => round_robin::pick(shares, turn.fetch_add(1, Ordering::Relaxed)),
            Balance::Weighted => weighted::pick(shares, turn.fetch_add(1, Ordering::Relaxed)),
            Balance::LeastRequests => least_requests::pick(shares, (random(), random()), load),
            Balance::PeakEwma => peak_ewma::pick(shares, (random(), random()), cost),
            Balance::Random | Balance::Hash => random::pick(shares, random()),
        }
    }

    /// Every candidate from a random one onwards, first without and then with those tried before.
    fn go_through(&mut self, start: u64) -> Result<Lease, Miss> {
        let count = self.live.candidates.len();
        let start = (start % count as u64) as usize;
        let order = || (start..count).chain(0..start);
        let untried = order().find_map(|index| self.begin_untried(index));
        match untried.or_else(|| order().find_map(|index| self.begin(index))) {
            Some(lease) => Ok(lease),
            None if self.saw_withdrawn => Err(Miss::Outdated),
            None => Err(Miss::Nobody(NoEndpoint::AllFull)),
        }
    }

    fn begin_untried(&mut self, index: usize) -> Option<Lease> {
        let id = self.live.candidates.endpoints[index].id();
        if self.ask.tried.contains(&id) { None } else { self.begin(index) }
    }

    fn begin(&mut self, index: usize) -> Option<Lease> {
        let endpoint = &self.live.candidates.endpoints[index];
        match endpoint.begin_request(self.ask.is_whole, self.now) {
            Ok(()) => Some(Lease::of_begun(Arc::clone(endpoint), self.ask.is_whole, false)),
            Err(Refusal::Full) => None,
            Err(Refusal::Closed) => {
                self.saw_withdrawn = true;
                None
            }
        }
    }
}
