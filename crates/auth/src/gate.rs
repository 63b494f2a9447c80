//! The gate: one policy of who may pass, made of the ways in which somebody may prove who they are and of what they must
//! then have.
//!
//! A request is looked at in three steps, the first two at once and without a system call:
//!
//! 1. Which proof does it show? The first method of the policy that finds one in its place is asked; a proof that is no
//!    good is refused, and no other method tried, so that a bad token cannot hide behind a good cookie. What browsers send
//!    along of themselves (a session that is over; where everybody may pass, a token in a cookie) counts as none.
//! 2. Was that proof checked before? Then what came of it is known, rules and headers included: one look-up.
//! 3. Otherwise it is checked: at once where that takes microseconds, else beside the core ([`Gate::later`]).
//!
//! A further method is a variant of [`MethodConfig`] and of `Means`, and a file of its own that finds its proof, checks it,
//! and says how it is asked for. All else (what is remembered, rules, headers, refusals) is done here, once for all.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use terrace_http::{Fields, Known, KnownSet, RequestHead};
use terrace_instruments::Plate;

use crate::ask::{AskConfig, Asking};
use crate::auth::Shared;
use crate::basic::BasicMethod;
use crate::cache::{Keep, Owner, Place};
use crate::certificate::{self, ClientCertificate, NamePattern};
use crate::desk::Desk;
use crate::forward::{self, ForwardError, Source};
use crate::identity::{Identity, Method};
use crate::issuer::IssuerError;
use crate::keys::{KeyConfig, KeyMethod};
use crate::login::{Login, LoginConfig};
use crate::proof::{NoProof, Proof};
use crate::refusal::{Refusal, Refused, Why};
use crate::rules::{Rule, RuleError};
use crate::token::{self, TokenConfig, Tokens};
use crate::users::Users;

/// One policy of who may pass.
#[derive(Debug, Clone, PartialEq)]
pub struct GateConfig {
    /// The ways to prove who one is, in the order in which a request is searched for them. At least one.
    pub methods: Vec<MethodConfig>,
    /// Whether who shows no proof may pass, as nobody. The rule then holds for those who do show one; a token in a cookie
    /// that is no good is taken for none.
    pub is_optional: bool,
    /// What those must have whose proof is good.
    pub require: Option<Rule>,
    /// What the service is told, by the name of the header.
    pub forward: Vec<(String, Source)>,
    /// What the client is told it asks for (RFC 9110 section 11.5).
    pub realm: String,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            methods: Vec::new(),
            is_optional: false,
            require: None,
            forward: forward::DEFAULT_HEADERS.map(|(name, source)| (name.to_owned(), source)).to_vec(),
            realm: "terrace".to_owned(),
        }
    }
}

/// More of a subject is not in an access line.
const SUBJECT_BYTES_MAX: usize = 128;
/// Methods of one policy.
const METHODS_MAX: usize = 16;

/// Why a policy cannot be; the file's to put right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Nobody can prove anything, or there are too many ways to.
    #[error("a policy of who may pass needs 1 to {METHODS_MAX} methods")]
    Methods,
    /// Its rule.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// What is to be told.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// An issuer.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// Certificates for whoever is asked.
    #[error("ask: {0}")]
    Ask(#[from] terrace_fetch::ClientError),
    /// The state folder cannot be used; the machine's fault, or that of who set it up.
    #[error("{0}")]
    State(String),
}

/// One way to prove who one is.
#[derive(Debug, Clone, PartialEq)]
pub enum MethodConfig {
    /// By a token that an issuer signed.
    Token(TokenConfig),
    /// By an API key of ours. It stands before tokens, since both may be in one place and only keys are told by their
    /// beginning.
    Key(KeyConfig),
    /// By the name and password of somebody on a list.
    Basic(Users),
    /// By the certificate that the client showed when it connected.
    Certificate(Vec<NamePattern>),
    /// By the session of a login in the browser; who has none is led there.
    Login(Box<LoginConfig>),
    /// By the word of a service that is asked. It stands last, since there is always something to ask.
    Ask(AskConfig),
}

/// What a request shows, for whoever looks for a proof in it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its head, before anything of the route's was written into it.
    pub head: &'a RequestHead,
    /// Whether the client came by TLS, as far as is known: cookies are made `Secure` by it.
    pub is_tls: bool,
    /// The client's address.
    pub client: std::net::IpAddr,
    /// The certificate that the client showed when it connected, verified.
    pub certificate: Option<&'a ClientCertificate>,
}

/// A moment, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since the clock's start: `terrace_runtime::clock::now()`.
    pub now: Duration,
    /// Since 1970, for what tokens and keys say of their time.
    pub wall: Duration,
}

/// Somebody who may pass, and what goes with it. Made once for each proof and policy, shared while it is remembered.
#[derive(Debug, Clone, PartialEq)]
pub struct Passed {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// Fields to be added to the request, as they go out. Their names are nobody else's, but for those of `replaced`.
    pub forward: Fields,
    /// Fields that clients send as well: theirs are taken out of the request.
    pub replaced: KnownSet,
    /// Fields to be added to the answer: a session's cookie that was made anew.
    pub answer: Vec<(Box<str>, Box<str>)>,
    /// Who it is, as an access line has it.
    pub plate: Plate,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It passes; that is who asks.
    Known(Arc<Passed>),
    /// It passes, and nobody knows who asks.
    Anonymous,
    /// It is answered here.
    Refused(Arc<Refusal>),
}

/// What is known of a request without waiting.
#[derive(Debug)]
pub enum Now {
    /// All of it.
    Decided(Decision),
    /// Its proof has to be checked beside the core: hand this to [`Gate::later`].
    Later(Ticket),
}

/// Work that a core must not wait for.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<Fresh, Refused>> + Send>>;

/// A proof that is being checked. Nothing happens until it is given to [`Gate::later`].
pub struct Ticket {
    means: usize,
    place: Place,
    work: Work,
    /// What becomes of the request if it turns out to show no proof.
    without: Decision,
}

/// Somebody whose proof was just checked.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) identity: Identity,
    /// How long that may be remembered; nothing for what must be checked each time.
    pub(crate) keep: Option<Keep>,
    /// Fields for the request besides those of the policy.
    pub(crate) forward: Vec<(Box<str>, Box<str>)>,
    /// Fields for the answer.
    pub(crate) answer: Vec<(Box<str>, Box<str>)>,
}

impl Fresh {
    pub(crate) fn new(identity: Identity, keep: Option<Keep>) -> Self {
        Self { identity, keep, forward: Vec::new(), answer: Vec::new() }
    }
}

/// What a method says of a proof.
pub(crate) enum Checked {
    Known(Fresh),
    Refused(Refused),
    /// It is what is left of one, which a browser sends along: as if there were none.
    Nothing,
    /// It takes longer than a core may wait.
    Later(Work),
}

/// A method, ready.
#[derive(Debug)]
enum Means {
    Token(Tokens),
    Key(KeyMethod),
    Basic(BasicMethod),
    Certificate(Vec<NamePattern>),
    Login(Arc<Login>),
    Ask(Asking),
}

impl Means {
    fn build(config: &MethodConfig, shared: &Arc<Shared>) -> Result<Self, BuildError> {
        Ok(match config {
            MethodConfig::Token(config) => Self::Token(Tokens::build(config, shared)?),
            MethodConfig::Key(config) => Self::Key(KeyMethod::build(config)),
            MethodConfig::Basic(users) => Self::Basic(BasicMethod::build(users, shared)),
            MethodConfig::Certificate(patterns) => Self::Certificate(patterns.clone()),
            MethodConfig::Login(config) => Self::Login(shared.login(config)?),
            MethodConfig::Ask(config) => {
                Asking::header_names(config).try_for_each(forward::check_header)?;
                Self::Ask(Asking::build(config)?)
            }
        })
    }

    fn method(&self) -> Method {
        match self {
            Self::Token(_) => Method::Token,
            Self::Key(_) => Method::Key,
            Self::Basic(_) => Method::Basic,
            Self::Certificate(_) => Method::Certificate,
            Self::Login(_) => Method::Login,
            Self::Ask(_) => Method::Ask,
        }
    }

    /// The proof in its place.
    fn find<'a>(&self, asked: &Asked<'a>) -> Result<Proof<'a>, NoProof> {
        match self {
            Self::Token(tokens) => tokens.find(asked),
            Self::Key(keys) => keys.find(asked),
            Self::Basic(users) => users.find(asked),
            Self::Certificate(_) => certificate::find(asked),
            Self::Login(login) => login.find(asked),
            // Whatever the request shows, and be it nothing, is for whoever is asked to judge.
            Self::Ask(_) => Ok(Proof::Sealed(b"")),
        }
    }

    fn check(&self, asked: &Asked<'_>, proof: Proof<'_>, at: Moment) -> Checked {
        match self {
            Self::Token(tokens) => tokens.check(asked, proof.bytes(), at),
            Self::Key(keys) => keys.check(proof.bytes(), at),
            Self::Basic(users) => users.check(proof.bytes(), asked.client, at),
            Self::Certificate(patterns) => certificate::check(asked, patterns, at),
            Self::Login(login) => login.check(asked, proof.bytes(), at),
            Self::Ask(asking) => asking.check(asked, at),
        }
    }

    /// What would be such a proof, for people; nothing where only somebody who is asked knows.
    fn wanted(&self) -> Option<String> {
        Some(match self {
            Self::Token(tokens) => tokens.wanted(),
            Self::Key(keys) => keys.wanted(),
            Self::Basic(_) => "a name and a password".to_owned(),
            Self::Certificate(_) => "a certificate of the client".to_owned(),
            Self::Login(_) => "a login in the browser".to_owned(),
            Self::Ask(_) => return None,
        })
    }

    /// How a proof of this kind is asked for, and what was wrong with the one that was shown.
    fn challenge(&self, realm: &str, wrong: Option<&Refused>, scope: Option<&str>) -> Option<String> {
        match self {
            Self::Token(_) => Some(token::challenge(realm, wrong, scope)),
            Self::Key(keys) => Some(keys.challenge(realm, wrong)),
            Self::Basic(users) => Some(users.challenge(realm)),
            // There is nothing to send again: the certificate is the connection's.
            Self::Certificate(_) => None,
            Self::Ask(_) => None,
            Self::Login(login) => Some(login.challenge(realm)),
        }
    }
}

/// A policy of who may pass, ready. It outlives a reload that does not change it.
pub struct Gate {
    number: u32,
    config: GateConfig,
    means: Vec<Means>,
    desk: Desk,
    shared: Arc<Shared>,
}

impl Gate {
    pub(crate) fn build(number: u32, config: GateConfig, shared: Arc<Shared>) -> Result<Self, BuildError> {
        if config.methods.is_empty() || config.methods.len() > METHODS_MAX {
            return Err(BuildError::Methods);
        }
        if let Some(rule) = &config.require {
            rule.check()?;
        }
        config.forward.iter().try_for_each(|(name, _)| forward::check_header(name))?;
        let means = config.methods.iter().map(|method| Means::build(method, &shared));
        let means = means.collect::<Result<_, _>>()?;
        Ok(Self { number, config, means, desk: shared.desk.for_one(), shared })
    }

    /// What it was made from.
    pub fn config(&self) -> &GateConfig {
        &self.config
    }

    /// The ways in which somebody may prove who they are.
    pub fn methods(&self) -> impl Iterator<Item = Method> {
        self.means.iter().map(Means::method)
    }

    /// The names of all headers by which services are told who asks.
    pub fn header_names(&self) -> impl Iterator<Item = &str> {
        let told = self.config.methods.iter().filter_map(|method| match method {
            MethodConfig::Ask(config) => Some(Asking::header_names(config)),
            _ => None,
        });
        self.config.forward.iter().map(|(name, _)| name.as_str()).chain(told.flatten())
    }

    /// What becomes of a request, where that is known without waiting. Makes no system call; a proof that is remembered
    /// costs one look-up and no allocation.
    pub fn check_now(&self, asked: &Asked<'_>, at: Moment) -> Now {
        let mut from = 0;
        loop {
            let (index, proof) = match self.find(asked, from) {
                Ok(Some(found)) => found,
                Ok(None) => return Now::Decided(self.without_proof(asked)),
                Err(refused) => return Now::Decided(self.refused(None, refused)),
            };
            let owner = Owner { gate: self.number, method: index as u8 };
            let sought = self.shared.cache.seek(owner, proof);
            if let Some(known) = self.shared.cache.get(&sought, at.wall) {
                return Now::Decided(known);
            }
            return match self.means[index].check(asked, proof, at) {
                Checked::Known(fresh) => Now::Decided(self.admit(index, sought.place(), fresh, at)),
                Checked::Refused(refused) if self.is_leftover(index, &refused) => {
                    from = index + 1;
                    continue;
                }
                Checked::Refused(refused) => Now::Decided(self.refused(Some(index), refused)),
                Checked::Later(work) => {
                    let without = self.without_proof(asked);
                    Now::Later(Ticket { means: index, place: sought.place(), work, without })
                }
                Checked::Nothing => {
                    from = index + 1;
                    continue;
                }
            };
        }
    }

    /// Waits for what [`Gate::check_now`] could not know. The work is done on the control plane; dropping the future ends
    /// it.
    pub async fn later(&self, ticket: Ticket) -> Decision {
        let Ticket { means, place, work, without } = ticket;
        let done = match self.desk.ask(work).await {
            Ok(done) => done,
            Err(busy) => Err(Refused::unavailable(busy.to_string())),
        };
        match done {
            Ok(fresh) => self.admit(means, place, fresh, Moment::read()),
            Err(Refused { why: Why::Missing, .. }) => without,
            Err(refused) if self.is_leftover(means, &refused) => without,
            Err(refused) => self.refused(Some(means), refused),
        }
    }

    /// Whether a proof that is no good is only what is left of one: browsers send a cookie until it ends, and could not look
    /// around any more where everybody may.
    fn is_leftover(&self, index: usize, refused: &Refused) -> bool {
        let is_cookie = matches!(&self.means[index], Means::Token(tokens) if tokens.is_in_cookie());
        is_cookie && self.config.is_optional && matches!(refused.why, Why::Invalid | Why::Expired)
    }

    /// Takes out of a request what proved who somebody is, where it is nobody's business behind Terrace: a key or a password that
    /// Terrace itself keeps. Whoever is behind is told who it is, and could do nothing with the proof but lose it.
    pub fn hide_proof(&self, method: Method, fields: &mut Fields) {
        match method {
            Method::Key => {
                let keys = self.means.iter().filter_map(|means| match means {
                    Means::Key(keys) => Some(keys),
                    _ => None,
                });
                keys.for_each(|keys| keys.hide(fields));
            }
            Method::Basic => fields.remove(Known::Authorization),
            Method::Token | Method::Introspection | Method::Certificate | Method::Login | Method::Ask => {}
        }
    }

    /// Takes out of a request of nobody what is left of a proof: a token in a cookie, which was no good. The service behind may
    /// read it, and believe it.
    pub fn hide_leftovers(&self, fields: &mut Fields) {
        for means in &self.means {
            if let Means::Token(tokens) = means {
                tokens.hide_cookie(fields);
            }
        }
    }

    /// The first proof that any method from that one on finds, and the method's place.
    fn find<'a>(&self, asked: &Asked<'a>, from: usize) -> Result<Option<(usize, Proof<'a>)>, Refused> {
        for (index, means) in self.means.iter().enumerate().skip(from) {
            match means.find(asked) {
                Ok(proof) => return Ok(Some((index, proof))),
                Err(NoProof::Absent) => {}
                Err(NoProof::Malformed(reason)) => return Err(Refused::malformed(reason)),
            }
        }
        Ok(None)
    }

    fn without_proof(&self, asked: &Asked<'_>) -> Decision {
        if self.config.is_optional {
            return Decision::Anonymous;
        }
        let led = self.means.iter().find_map(|means| match means {
            Means::Login(login) => login.lead(asked),
            _ => None,
        });
        self.refused(None, led.unwrap_or_else(Refused::missing))
    }

    /// Holds who it is against the rule, and remembers what came of it.
    fn admit(&self, index: usize, place: Place, fresh: Fresh, at: Moment) -> Decision {
        let Fresh { identity, keep, forward: mut fields, answer } = fresh;
        let identity = Arc::new(identity);
        // What the policy tells under that name stands: one name, one value.
        fields
            .retain(|(name, _)| !self.config.forward.iter().any(|(ours, _)| ours.eq_ignore_ascii_case(name)));
        fields.extend(forward::headers(&self.config.forward, &identity));
        let decision = match &self.config.require {
            Some(rule) if !rule.holds(&identity) => Decision::Refused(self.forbidden(index, rule, identity)),
            _ => {
                let plate = plate(&identity);
                let (forward, replaced) = as_sent(&fields);
                Decision::Known(Arc::new(Passed { identity, forward, replaced, answer, plate }))
            }
        };
        if let Some(keep) = keep {
            let bytes = about_bytes(&decision);
            self.shared.cache.put(place, decision.clone(), bytes, keep, at.wall);
        }
        decision
    }

    /// 403: asking again with the same proof is no use (RFC 9110 section 15.5.4, RFC 6750 section 3.1).
    fn forbidden(&self, index: usize, rule: &Rule, identity: Arc<Identity>) -> Arc<Refusal> {
        let mut scopes = Vec::new();
        rule.missing_scopes(&identity, &mut scopes);
        let scopes = (!scopes.is_empty()).then(|| scopes.join(" "));
        let refused =
            Refused::new(Why::Forbidden, "who is asking may not do this", "the route's rule does not hold");
        let challenge = self.means[index].challenge(&self.config.realm, Some(&refused), scopes.as_deref());
        let refusal = refusal(refused, challenge.into_iter().collect());
        Arc::new(Refusal { identity: Some(identity), method: Some(self.means[index].method()), ..refusal })
    }

    /// Each method says how its proof is asked for, the one that looked at it also what was wrong.
    fn refused(&self, index: Option<usize>, refused: Refused) -> Decision {
        let realm = &self.config.realm;
        let wrong = |at: usize| (Some(at) == index || index.is_none()).then_some(&refused);
        let challenges = match refused.why.status() {
            400 | 401 => (0..)
                .zip(&self.means)
                .filter_map(|(at, means)| means.challenge(realm, wrong(at), None))
                .collect(),
            _ => Vec::new(),
        };
        let method = index.map(|index| self.means[index].method());
        let wanted: Vec<String> = match refused.why {
            Why::Missing => self.means.iter().filter_map(Means::wanted).collect(),
            _ => Vec::new(),
        };
        let wanted = (!wanted.is_empty()).then(|| wanted.join(", or "));
        Decision::Refused(Arc::new(Refusal { method, wanted, ..refusal(refused, challenges) }))
    }
}

fn refusal(refused: Refused, mut challenges: Vec<String>) -> Refusal {
    // A key and a token may both be bearer tokens: one question is enough.
    challenges.dedup();
    let Refused { why, reason, detail } = refused;
    let (status, outcome) = (why.status(), why.outcome());
    let retry_after_s = match why {
        Why::TooMany { retry_after_s } | Why::Unavailable { retry_after_s } => Some(retry_after_s),
        _ => None,
    };
    let (fields, body) = match why {
        Why::Elsewhere { fields, .. } => (fields, None),
        Why::Told(told) => (told.fields, Some(told.body)),
        _ => (Vec::new(), None),
    };
    Refusal {
        status,
        challenges,
        fields,
        reason,
        wanted: None,
        detail,
        outcome,
        retry_after_s,
        body,
        method: None,
        identity: None,
    }
}

/// Fields as they go out, and those of their names that clients use as well. One without a value only takes theirs out.
fn as_sent(fields: &[(Box<str>, Box<str>)]) -> (Fields, KnownSet) {
    let (mut sent, mut replaced) = (Fields::new(), KnownSet::EMPTY);
    for (name, value) in fields {
        if let Some(known) = Known::lookup(name.as_bytes()) {
            replaced.add(known);
        }
        if !value.is_empty() {
            sent.append(name.as_bytes(), value.as_bytes());
        }
    }
    (sent, replaced)
}

/// What remembering it takes: objects of JSON take a few times what they take as text.
fn about_bytes(decision: &Decision) -> usize {
    let identity = match decision {
        Decision::Known(passed) => Some(&passed.identity),
        Decision::Refused(refusal) => refusal.identity.as_ref(),
        Decision::Anonymous => None,
    };
    1024 + identity.map_or(0, |identity| identity.claims.len() * 160)
}

/// Who somebody is, as an access line has it.
#[must_use]
pub fn plate(identity: &Identity) -> Plate {
    // A line has a bound, and so has what a token calls its subject in it.
    let subject = match identity.subject.char_indices().find(|(at, _)| *at >= SUBJECT_BYTES_MAX) {
        Some((end, _)) => &identity.subject[..end],
        None => &identity.subject,
    };
    Plate::new(&[("user", subject), ("auth", identity.method.as_str())])
}

impl Moment {
    /// The present one. At the rim only.
    pub fn read() -> Self {
        let wall = terrace_runtime::clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { now: terrace_runtime::clock::now(), wall }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gate").field("config", &self.config).finish_non_exhaustive()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ticket").finish_non_exhaustive()
    }
}
