//! Which of a route's services a request goes to, where that is more than chance: the rules and the stickiness of
//! [`terrace_route::Choice`], asked about a request of HTTP.
//!
//! A client keeps its side in one of two ways. By a **key** that it has anyway (its address, a header, a cookie of the
//! app's, a claim): nothing is stored, and a change of weights moves only the clients that must move. Or by a **cookie**
//! of ours that names its side: then nobody moves but to a side that was closed (a weight of 0), and new clients are
//! drawn by the weights. What stands in the cookie is a keyed hash of the service's name, the same for all clients of a
//! side: it tells nothing of what is behind, cannot be guessed, and follows nobody.

use std::borrow::Cow;
use std::net::IpAddr;

use terrace_http::RequestHead;
use terrace_route::{Asker, Choice, Client, Ground};
use terrace_runtime::random;
use terrace_upstream::EndpointId;

use crate::chain::{Request, Way};
use crate::config::{Service, Sticky, Target};
use crate::guards::Passed;
use crate::journal::Journal;
use crate::note::Note;
use crate::sticky;

/// How a route chooses among its services.
#[derive(Debug, Clone)]
pub struct Choosing {
    /// The rules and weights; its targets are those of the action, in their order.
    pub choice: Choice,
    /// How a client stays on its side, if it does.
    pub stick: Option<Stick>,
}

/// How a client stays on its side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stick {
    /// By something that it has anyway. A client without it is known by its address.
    Key(StickKey),
    /// By a cookie of ours.
    Cookie(Sticky),
}

/// What tells clients apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StickKey {
    /// Their address; of IPv6 the first 64 bits, since a device changes the others by itself (RFC 8981).
    Client,
    /// The value of that field, lower case.
    Field(String),
    /// The value of that cookie.
    Cookie(String),
    /// What is claimed of them under that name.
    Claim(String),
}

/// A route's choice, made ready.
#[derive(Debug, Default)]
pub(crate) struct Sides(Box<[EndpointId]>);

impl Sides {
    /// What the targets are called in the cookie: the same in every route of this Terrace.
    pub(crate) fn of(targets: &[Target], services: &[Service]) -> Self {
        let side = |target: &Target| {
            let service = &services[target.service];
            EndpointId::of_side(&service.upstream.settings().config.identity_key, &service.name)
        };
        Self(targets.iter().map(side).collect())
    }
}

/// What the choice asks of a request.
struct Asked<'a> {
    head: &'a RequestHead,
    passed: &'a Passed,
}

impl Asker for Asked<'_> {
    fn header(&self, name_lower: &str) -> Option<&[u8]> {
        self.head.fields.named(name_lower.as_bytes())
    }

    fn cookie(&self, name: &str) -> Option<&[u8]> {
        sticky::cookie(&self.head.fields, name)
    }

    fn claim(&self, name: &str) -> Option<Cow<'_, str>> {
        self.passed.claim(name)
    }
}

/// The place of the target among the route's. Where the client is to come back by a cookie, its answer gets one.
pub(crate) fn target(
    way: Way<'_>,
    (choosing, sides): (&Choosing, &Sides),
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
) -> usize {
    let asked = Asked { head: request.exchange.head, passed: &request.passed };
    let client = match &choosing.stick {
        None => Client::default(),
        Some(Stick::Key(key)) => Client { key: Some(number(key, &asked, request.client)), side: None },
        Some(Stick::Cookie(cookie)) => {
            let id = sticky::endpoint(cookie, &asked.head.fields);
            Client { key: None, side: id.and_then(|id| sides.0.iter().position(|side| *side == id)) }
        }
    };
    let (target, ground) = choosing.choice.pick(&asked, client, &mut random::u64);
    journal.note(Note::Chosen(ground));
    if let Some(rules) = journal.rules() {
        rules.chosen(target, ground);
    }
    if let Some(Stick::Cookie(cookie)) = &choosing.stick
        && matches!(ground, Ground::Share(_) | Ground::Chance)
        && client.side != Some(target)
    {
        let cookie = sticky::set_cookie(cookie, sides.0[target], way.connected.is_tls);
        request.passed.side_cookie = Some(cookie.into());
    }
    target
}

/// A number of the client's own.
fn number(key: &StickKey, asked: &Asked<'_>, client: IpAddr) -> u64 {
    let found = match key {
        StickKey::Client => None,
        StickKey::Field(name) => asked.header(name).map(sticky::fnv1a),
        StickKey::Cookie(name) => asked.cookie(name).map(sticky::fnv1a),
        StickKey::Claim(name) => asked.claim(name).map(|claim| sticky::fnv1a(claim.as_bytes())),
    };
    found.unwrap_or_else(|| match client.to_canonical() {
        IpAddr::V4(address) => sticky::fnv1a(&address.octets()),
        IpAddr::V6(address) => sticky::fnv1a(&address.octets()[..8]),
    })
}
