//! Logins of people with their browser (OpenID Connect Core 1.0, authorization code with PKCE), and the sessions that follow.
//!
//! A login has two sides. As a way through a gate it reads the session's cookies, and asks the issuer again when its word
//! grows old: one request does, the others go on with what still holds, and whoever comes late with the former cookies is given
//! the new ones. As a few pages below one path ([`pages`]) it sends the browser to the issuer, takes it back, and ends sessions.
//!
//! Nothing of a session is kept here, so there is nothing to lose and nothing to fill up; what is remembered is bounded and
//! can be forgotten.

mod browser;
pub(crate) mod cookies;
pub(crate) mod ended;
mod pages;
mod pending;
mod place;
mod provider;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ring::digest;
use terrace_http::Fields;
use terrace_instruments::{Counter, Event, Family, Kind, Level, Log, Meter, Told};

use crate::auth::Shared;
use crate::cache::{Cache, CacheBounds, Generation, Keep, Owner, Place};
use crate::client::{AskError, ClientId};
use crate::desk::Desk;
use crate::flights::{self, Flights};
use crate::form;
use crate::gate::{Asked, Checked, Fresh, Moment};
use crate::guesses::Misses;
use crate::issuer::{IssuerConfig, IssuerError, usable};
use crate::proof::{NoProof, Proof};
use crate::refusal::{Refused, Why, challenge as challenge_of};
use crate::sealed::SealKeys;
use crate::session::{Renewal, Session};

use cookies::CookieName;
use ended::Ended;
use provider::{Granted, Provider};

pub use pages::LoginAnswer;

/// Sessions that are renewed at once.
const RENEWING_MAX: usize = 256;
/// So long whoever comes with the former cookies is given the new ones.
const RENEWED_KEPT: Duration = Duration::from_secs(120);
const RENEWED: CacheBounds = CacheBounds { entries_max: 10_000, bytes_max: 64 << 20 };
/// After an issuer did not renew a session that still holds, it is not asked again within that time.
const REST: Duration = Duration::from_secs(15);
/// A session is looked at anew after that time.
const REMEMBERED: Duration = Duration::from_secs(300);
const OWNER: Owner = Owner { gate: 0, method: 0 };

static LOGINS: Family = Family {
    name: "terrace_auth_logins_total",
    help: "What happened to logins: begun, done, refused, failed, renewed, renewal_failed, ended.",
    unit: "",
    labels: &["login", "outcome"],
    kind: Kind::Counter,
};

/// A login, as the file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct LoginConfig {
    /// Its name.
    pub name: String,
    /// Who knows the people. What is asked of its tokens' audience does not hold here: an ID token is for the client.
    pub issuer: IssuerConfig,
    /// Who Terrace is there.
    pub client: ClientId,
    /// What is asked for; `openid` is added where it is not among them.
    pub scopes: Vec<String>,
    /// The path of its pages: begins with a slash, and does not end with one.
    pub path: String,
    /// The name of the session's cookies; with TLS `__Host-` stands before it.
    pub cookie: String,
    /// How long a session lasts, however often it is renewed.
    pub lasts: Duration,
    /// What sessions are sealed with.
    pub keys: SealKeys,
    /// Where ended sessions are remembered: the state folder.
    pub state: std::path::PathBuf,
}

/// A login, ready. It outlives a reload that does not change it.
pub struct Login {
    config: LoginConfig,
    provider: Arc<Provider>,
    ended: Arc<Ended>,
    /// What sessions, and logins under way, are sealed as.
    session_purpose: String,
    pending_purpose: String,
    renewing: Flights<Renewed>,
    /// By the former first cookie.
    renewed: Cache<Arc<Given>>,
    /// By the hash of a refresh token that is not to be shown again for a moment: whether the issuer said no to it.
    resting: Cache<bool>,
    /// Who came back with what is no good, which is a question to the issuer each time.
    misses: Misses,
    told: Told,
    ground: Generation,
    desk: Desk,
    log: Log,
    meters: Meters,
}

/// What came of renewing a session.
#[derive(Debug, Clone)]
enum Renewed {
    Done(Arc<Given>),
    /// The issuer does not renew it.
    Over,
    /// The issuer could not be asked.
    Silent(String),
}

/// A session and the value that its cookies have.
#[derive(Debug)]
struct Given {
    session: Session,
    sealed: String,
}

struct Meters {
    begun: Counter,
    done: Counter,
    refused: Counter,
    failed: Counter,
    renewed: Counter,
    renewal_failed: Counter,
    ended: Counter,
}

impl Meters {
    fn new(meter: &Meter, login: &str) -> Self {
        let counter = |outcome| meter.counter(&LOGINS, &[login, outcome]);
        Self {
            begun: counter("begun"),
            done: counter("done"),
            refused: counter("refused"),
            failed: counter("failed"),
            renewed: counter("renewed"),
            renewal_failed: counter("renewal_failed"),
            ended: counter("ended"),
        }
    }
}

impl Login {
    pub(crate) fn build(
        config: LoginConfig,
        ended: Arc<Ended>,
        shared: &Shared,
    ) -> Result<Self, IssuerError> {
        let ring = shared.ring(&config.issuer.ring).map_err(|error| IssuerError::Certificates {
            issuer: config.issuer.ring.issuer.clone(),
            error,
        })?;
        let provider = Provider::new(
            config.client.clone(),
            ring,
            usable(&config.issuer)?,
            config.issuer.leeway,
            config.issuer.roles.clone(),
            shared.desk.clone(),
        );
        // A session of another issuer or client opens nothing here, also where the secret is the same.
        let whose = format!("{}\0{}\0{}", config.name, provider.issuer(), config.client.id);
        Ok(Self {
            session_purpose: format!("session\0{whose}"),
            pending_purpose: format!("login\0{whose}"),
            renewing: Flights::new(RENEWING_MAX),
            renewed: Cache::new(RENEWED),
            resting: Cache::new(RENEWED),
            misses: Misses::new(),
            told: Told::default(),
            ground: Generation::default(),
            desk: shared.desk.for_one(),
            log: shared.log.clone(),
            meters: Meters::new(&shared.meter, &config.name),
            provider: Arc::new(provider),
            ended,
            config,
        })
    }

    /// What it was made from.
    #[must_use]
    pub fn config(&self) -> &LoginConfig {
        &self.config
    }

    /// Takes the login's cookies out of a request. Nobody behind Terrace needs them, and whoever had them could come as that
    /// person.
    pub fn hide_cookies(&self, fields: &mut Fields) {
        cookies::hide(fields, &self.config.cookie);
    }

    fn cookie(&self, is_tls: bool) -> CookieName {
        CookieName::new(&self.config.cookie, is_tls)
    }

    /// The session's first cookie; the others are read when it is not remembered.
    pub(crate) fn find<'a>(&self, asked: &Asked<'a>) -> Result<Proof<'a>, NoProof> {
        let first = cookies::first(&asked.head.fields, &self.cookie(asked.is_tls));
        first.map(Proof::Sealed).ok_or(NoProof::Absent)
    }

    /// Who it is by the session's cookies. A session that is over or was tampered with is no proof at all: browsers send what
    /// they have, on pages too that need none.
    pub(crate) fn check(self: &Arc<Self>, asked: &Asked<'_>, first: &[u8], at: Moment) -> Checked {
        let sought = self.renewed.seek(OWNER, Proof::Sealed(first));
        if let Some(given) = self.renewed.get(&sought, at.wall) {
            return Checked::Known(self.renewed_fresh(&given, first, asked.is_tls, at));
        }
        let Some(session) = self.open(asked, at) else { return Checked::Nothing };
        let Some(renewal) = session.renewal.as_ref().filter(|renewal| at.wall.as_secs() >= renewal.due)
        else {
            return Checked::Known(self.fresh(&session, at, REMEMBERED));
        };
        let key = key_of(&renewal.refresh_token);
        match (at.wall.as_secs() < renewal.over, self.resting_by(&key, at)) {
            (true, resting) if resting.is_some() || self.renewing.has(&key) => {
                return Checked::Known(self.fresh(&session, at, Duration::from_secs(1)));
            }
            // A browser asks for ten things at once, and a program as often as it likes.
            (false, Some(true)) => return Checked::Nothing,
            _ => {}
        }
        let former = Former { place: sought.place(), first: first.into(), is_tls: asked.is_tls };
        Checked::Later(Box::pin(Arc::clone(self).renew(session, key, former, at)))
    }

    /// The session of a request, if it has one that is not over.
    fn open(&self, asked: &Asked<'_>, at: Moment) -> Option<Session> {
        let sealed = cookies::read(&asked.head.fields, &self.cookie(asked.is_tls))?;
        let session = Session::open(&self.config.keys, &self.session_purpose, &sealed)?;
        let is_over = at.wall.as_secs() >= session.ends || self.ended.has(&session.id);
        (!is_over).then_some(session)
    }

    fn fresh(&self, session: &Session, at: Moment, remembered: Duration) -> Fresh {
        // Before it is asked for in a moment whether the session was ended: a gate puts it in after us.
        let since = self.ended.generation.now();
        let due = session.renewal.as_ref().map_or(u64::MAX, |renewal| renewal.due.max(at.wall.as_secs() + 1));
        let until = Duration::from_secs(session.ends.min(due)).min(at.wall + remembered);
        let keep = (!self.ended.has(&session.id)).then_some(Keep { until, since });
        Fresh::new(session.identity(), keep)
    }

    /// The same with the new cookies for whoever still has the former ones.
    fn renewed_fresh(&self, given: &Given, first: &[u8], is_tls: bool, at: Moment) -> Fresh {
        let mut fresh = self.fresh(&given.session, at, Duration::from_secs(10));
        let set = self.set_cookies(given, cookies::count_of(first), is_tls, at);
        let field = |value: String| ("Set-Cookie".into(), value.into());
        fresh.answer = set.into_iter().flatten().map(field).collect();
        fresh
    }

    fn set_cookies(&self, given: &Given, had: usize, is_tls: bool, at: Moment) -> Option<Vec<String>> {
        let left_s = given.session.ends.saturating_sub(at.wall.as_secs());
        cookies::write(&self.cookie(is_tls), &given.sealed, left_s, had, is_tls)
    }

    async fn renew(
        self: Arc<Self>,
        session: Session,
        key: flights::Key,
        former: Former,
        at: Moment,
    ) -> Result<Fresh, Refused> {
        let Former { place, first, is_tls } = former;
        let still_holds = session.renewal.as_ref().is_some_and(|renewal| at.wall.as_secs() < renewal.over);
        let work = Arc::clone(&self).renew_at_issuer(session.clone(), place, at);
        let renewed = match self.renewing.join(key, work).await {
            Ok(renewed) => renewed,
            Err(crowded) => Renewed::Silent(crowded.to_string()),
        };
        match renewed {
            Renewed::Done(given) if !self.ended.has(&given.session.id) => {
                Ok(self.renewed_fresh(&given, &first, is_tls, at))
            }
            Renewed::Over | Renewed::Silent(_) if still_holds => {
                self.rest(&key, matches!(renewed, Renewed::Over), at);
                Ok(self.fresh(&session, at, REST))
            }
            Renewed::Over => {
                self.rest(&key, true, at);
                Err(Refused::missing())
            }
            Renewed::Done(_) => Err(Refused::missing()),
            Renewed::Silent(why) => Err(Refused::unavailable(why)),
        }
    }

    /// Asks the issuer. Once for all who come with the same cookies, and to the end, whoever goes away meanwhile: a refresh token is
    /// often good once, and what came for it must not be lost.
    async fn renew_at_issuer(self: Arc<Self>, session: Session, place: Place, at: Moment) -> Renewed {
        let Some(renewal) = &session.renewal else { return Renewed::Over };
        let before = session.identity();
        let granted = match self.provider.renew(&renewal.refresh_token, &before, at.wall).await {
            Ok(granted) => granted,
            Err(error) => return self.not_renewed(error, at),
        };
        let Some(given) = self.give(granted, Some(session), at) else {
            return self.not_renewed(AskError::Nonsense("the session became too large for cookies"), at);
        };
        self.meters.renewed.add(1);
        let given = Arc::new(given);
        let keep = Keep { until: at.wall + RENEWED_KEPT, since: self.ended.generation.now() };
        self.renewed.put(place, Arc::clone(&given), given.sealed.len() * 2, keep, at.wall);
        Renewed::Done(given)
    }

    fn not_renewed(&self, error: AskError, at: Moment) -> Renewed {
        self.meters.renewal_failed.add(1);
        self.tell("auth.login.not_renewed", &error.to_string(), at);
        match error {
            AskError::Silent(why) => Renewed::Silent(why),
            _ => Renewed::Over,
        }
    }

    /// Tells of what anybody may cause, and of so many in a second.
    fn tell(&self, name: &'static str, problem: &str, at: Moment) {
        if self.told.may(at.now) {
            let event = Event::new(Level::Warn, name).field("login", self.config.name.clone());
            self.log.emit(event.field("problem", problem));
        }
    }

    /// The session that follows from what the issuer granted; nothing when it cannot be kept in cookies.
    fn give(&self, granted: Granted, before: Option<Session>, at: Moment) -> Option<Given> {
        let now = at.wall.as_secs();
        let Granted { identity, id_token, refresh_token, life_s } = granted;
        let (id, ends, old_token, old_refresh) = match before {
            Some(before) => {
                (before.id, before.ends, before.id_token, before.renewal.map(|renewal| renewal.refresh_token))
            }
            None => (Session::new_id(), now + self.config.lasts.as_secs(), None, None),
        };
        let renewal = match (refresh_token.or(old_refresh), life_s) {
            (Some(refresh_token), Some(life_s)) => {
                Some(Renewal { due: now + life_s * 3 / 4, over: now + life_s, refresh_token })
            }
            _ => None,
        };
        let mut session = Session {
            id,
            issuer: identity.issuer,
            subject: identity.subject,
            roles: identity.roles,
            scopes: identity.scopes,
            claims: identity.claims,
            ends,
            renewal,
            id_token: id_token.or(old_token),
        };
        let mut sealed = session.seal(&self.config.keys, &self.session_purpose);
        if cookies::is_too_large(&sealed) {
            // What it is good for is a smoother end at the issuer; all else is needed.
            session.id_token = None;
            sealed = session.seal(&self.config.keys, &self.session_purpose);
        }
        (!cookies::is_too_large(&sealed)).then_some(Given { session, sealed })
    }

    fn resting_by(&self, key: &flights::Key, at: Moment) -> Option<bool> {
        self.resting.get(&self.resting.seek(OWNER, Proof::Sealed(key)), at.wall)
    }

    fn rest(&self, key: &flights::Key, is_no: bool, at: Moment) {
        let keep = Keep { until: at.wall + REST, since: self.ground.now() };
        self.resting.put(self.resting.seek(OWNER, Proof::Sealed(key)).place(), is_no, 0, keep, at.wall);
    }

    /// Sends a person who asks for a page to the login, and back to that page afterwards; nothing for programs.
    pub(crate) fn lead(&self, asked: &Asked<'_>) -> Option<Refused> {
        if !browser::is_navigation(asked.head) {
            return None;
        }
        let place = place::local(Some(asked.head.target()), &self.config.path);
        let location = form::address(&self.config.path, &[("to", &place)]);
        let fields =
            vec![("Location".to_owned(), location), ("Cache-Control".to_owned(), "no-store".to_owned())];
        let why = Why::Elsewhere { status: 302, fields };
        Some(Refused::new(why, "a login comes first", ""))
    }

    /// No scheme is registered for cookies; this says by which name and where to have one (draft-broyer-http-cookie-auth).
    pub(crate) fn challenge(&self, realm: &str) -> String {
        challenge_of(
            "Cookie",
            &[
                ("realm", Some(realm)),
                ("form-action", Some(&self.config.path)),
                ("cookie-name", Some(&self.config.cookie)),
            ],
        )
    }
}

/// Whether the cookies of a request hold no session and no login under way, as none was sealed with this secret: for fuzzing.
pub(crate) fn opens_nothing(fields: &Fields) -> bool {
    let keys = SealKeys::parse("a secret that nobody has sealed with").expect("invariant: it is long enough");
    let name = CookieName::new("terrace_session", false);
    let session = cookies::read(fields, &name).and_then(|sealed| Session::open(&keys, "session", &sealed));
    let states = cookies::pairs(fields).filter_map(|(_, value)| std::str::from_utf8(value).ok());
    let mut found =
        states.filter_map(|state| pending::Pending::find(fields, &keys, "login", &name, state, 0));
    session.is_none() && found.next().is_none()
}

/// Where a browser that asks for that is led to: for fuzzing.
pub(crate) fn place_of(asked: &str) -> String {
    place::local(Some(asked), "/.terrace/login")
}

/// The cookies with which a request came whose session is due.
struct Former {
    place: Place,
    first: Box<[u8]>,
    is_tls: bool,
}

fn key_of(refresh_token: &str) -> flights::Key {
    let hash = digest::digest(&digest::SHA256, refresh_token.as_bytes());
    hash.as_ref().try_into().expect("invariant: SHA-256 has 32 bytes")
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Login").field("config", &self.config).finish_non_exhaustive()
    }
}
