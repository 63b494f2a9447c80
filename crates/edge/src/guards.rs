//! What stands between a route and its action, in the order in which a request meets it. Each step sees what those before
//! it found, and may answer in the place of all that follow:
//!
//! 1. [`overload`](crate::overload): is this machine well enough for a request of this priority? (503)
//! 2. [`address`](crate::address): may this client's address come in at all? (403)
//! 3. [`cors`](crate::cors): a browser that asks beforehand is answered here (204)
//! 4. [`identity`](crate::identity): who asks, and may they? (401, 403, a login)
//! 5. [`limit`](crate::limit): how often, how many at once (429)
//! 6. [`validate`](crate::validate): is the body what the service expects? (400, 413, 415, 422)
//! 7. [`grpc_web`](crate::grpc_web) makes a browser's call one of gRPC, [`compress`](crate::compress) notes what the client takes
//! 8. [`fields`](crate::fields): what the service is told differently: fields, path, query
//! 9. [`fault`](crate::fault): is something to go wrong on purpose?
//!
//! On an answer's way back, Terrace's own or a service's, [`dress`] is the list; before it a service's answer becomes gRPC-Web
//! where that was asked, and after it is coded. A route without guards pays for one look at
//! an `Option`, and a guard that is not set for another.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use terrace_content::{Compression, WebCall, Wish};
use terrace_http::ResponseHead;
use terrace_route::Match;

use crate::chain::{Ending, Request, Way};
use crate::journal::Journal;
use crate::{
    address, compress, cors, fault, fields, grpc_web, identity, limit, mirror, overload, security, validate,
};

/// The guards of one route. What is absent costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Guards {
    /// How much its requests matter when not all can be served.
    pub priority: overload::Priority,
    /// Addresses that may come in.
    pub addresses: Option<Arc<address::Addresses>>,
    /// Pages of other origins that may call it.
    pub cors: Option<Arc<cors::Cors>>,
    /// Who may use it.
    pub identity: Option<Arc<identity::Required>>,
    /// How often it may be used.
    pub limits: Option<Arc<limit::Limits>>,
    /// Whether calls of gRPC-Web are made gRPC for the service.
    pub grpc_web: bool,
    /// Which answers are coded for clients who take that.
    pub compress: Option<Arc<Compression>>,
    /// What a request must look like.
    pub validate: Option<Arc<validate::Schema>>,
    /// What becomes of a request's fields and query, and of an answer's.
    pub fields: Option<Arc<fields::Changes>>,
    /// What goes wrong on purpose.
    pub faults: Option<Arc<fault::Faults>>,
    /// Fields that tell browsers to be careful.
    pub security: Option<Arc<security::Security>>,
}

/// What the guards found out about a request, for those after them and for its answer.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// How much the request matters when not all can be served.
    pub(crate) priority: terrace_policy::Priority,
    /// It is later than when the request began: something had to be waited for.
    pub(crate) has_waited: bool,
    /// Who asks, where that was to be known.
    pub(crate) identity: identity::Known,
    /// What limits say of the client's next requests, and places held until the answer's end.
    pub(crate) limits: limit::Taken,
    /// The memory that its body takes, where it was held to be judged.
    pub(crate) held: validate::Share,
    /// Which codings the client takes, where answers are coded.
    pub(crate) coding: Option<Box<Wish>>,
    /// What a call of gRPC-Web asks for.
    pub(crate) web: Option<WebCall>,
    /// What the answer's fields are to be, as far as the request says it.
    pub(crate) values: fields::Values,
    /// The cookie that leads the client back to its side of a choice, where it has none yet.
    pub(crate) side_cookie: Option<Box<str>>,
    /// What is seen of the request and its answer, where a copy of it is to be sent.
    pub(crate) watch: Option<Rc<mirror::Watch>>,
}

impl Passed {
    /// What is claimed of the client under that name, as text.
    pub(crate) fn claim(&self, name: &str) -> Option<Cow<'_, str>> {
        self.identity.claim(name)
    }
}

/// Takes a request through its route's guards.
pub(crate) async fn pass(
    way: Way<'_>,
    guards: &Guards,
    found: Option<&Match>,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
) -> Result<(), Ending> {
    overload::admit(way, &guards.priority, request, journal)?;
    if let Some(addresses) = &guards.addresses {
        address::admit(addresses, request, journal)?;
    }
    if guards.cors.is_some() {
        cors::answer_preflight(request, journal)?;
    }
    if let Some(required) = &guards.identity {
        identity::admit(way, required, request, journal).await?;
    }
    overload::admit_claimed(way, &guards.priority, request, journal)?;
    if let Some(limits) = &guards.limits {
        limit::admit(way, limits, request, journal).await?;
    }
    if let Some(schema) = &guards.validate {
        validate::admit(way, schema, request, journal).await?;
    }
    if guards.grpc_web {
        grpc_web::ask(request, journal);
    }
    if let Some(compression) = &guards.compress {
        compress::ask(compression, request);
    }
    if let Some(changes) = &guards.fields {
        let told = fields::Told { found, route: journal.route_name(), service: None };
        fields::change_request(told, changes, request, journal)?;
    }
    if let Some(faults) = &guards.faults {
        fault::inject(way, faults, request, journal).await?;
    }
    Ok(())
}

/// Whether `theirs` may refuse what `ours` lets through, apart from what shape it has: who asks, from where, how often.
pub(crate) fn ask_more(ours: Option<&Guards>, theirs: Option<&Guards>) -> bool {
    let Some(theirs) = theirs else { return false };
    let of_ours = |same: fn(&Guards, &Guards) -> bool| ours.is_some_and(|ours| same(ours, theirs));
    let is_same_gate = of_ours(|ours, theirs| match (&ours.identity, &theirs.identity) {
        (Some(ours), Some(theirs)) => ours.is_same(theirs),
        _ => false,
    });
    theirs.identity.is_some() && !is_same_gate
        || theirs.addresses.is_some() && !of_ours(|ours, theirs| ours.addresses == theirs.addresses)
        || theirs.limits.is_some() && !of_ours(|ours, _| ours.limits.is_some())
        || theirs.validate.is_some() && !of_ours(|ours, _| ours.validate.is_some())
}

/// Makes the head of a service's answer what the route's guards want it to be, before [`dress`].
pub(crate) fn dress_service(guards: &Guards, head: &mut ResponseHead) {
    if let Some(changes) = &guards.fields {
        fields::change_status(changes, head);
    }
}

/// Makes an answer's head what the route's guards want it to be.
pub(crate) fn dress(
    way: Way<'_>,
    guards: &Guards,
    request: &terrace_http::RequestHead,
    passed: &Passed,
    head: &mut ResponseHead,
) {
    if let Some(changes) = &guards.fields {
        fields::change_response(changes, passed, head);
    }
    passed.identity.dress(head);
    passed.limits.tell(guards.limits.as_deref(), head);
    if let Some(cors) = &guards.cors {
        cors::dress(cors, request, head);
    }
    if let Some(security) = &guards.security {
        security::dress(security, way.connected.is_tls, request, head);
    }
}
