//! The pages of a login: `PATH` begins one, `PATH/callback` takes the browser back from the issuer, `PATH/logout` ends a session, and
//! `PATH/ended` says that it has ended.
//!
//! To begin needs no protection: it does nothing but send the browser away with a cookie of its own. To end a session may not
//! be done to somebody by another site's link or form, so it is done at once only for our own pages and for what a person
//! typed; anybody else's is asked to confirm, by a form whose mark only we can make.

use std::sync::Arc;

use terrace_http::Method;
use terrace_instruments::{Event, Level};

use super::pending::Pending;
use super::{Login, browser, cookies, place};
use crate::client::AskError;
use crate::form::{self, Query};
use crate::gate::{Asked, Moment};
use crate::refusal::{Refusal, Refused, Why};
use crate::session::Session;

/// What an issuer says of a login that failed is told in the log up to here.
const SAID_CHARS_MAX: usize = 200;
const LOGOUT_MARK: &str = "logout";

/// An answer of the login's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginAnswer {
    /// 200, or 303 where the browser goes on.
    pub status: u16,
    /// Its fields; `Set-Cookie` may stand several times.
    pub fields: Vec<(String, String)>,
    /// A page, or nothing.
    pub body: String,
}

impl LoginAnswer {
    fn new(status: u16) -> Self {
        // Addresses hold codes and states; nobody behind the next link is to be told them.
        let fields = [("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { status, fields, body: String::new() }
    }

    fn towards(location: &str) -> Self {
        Self::new(303).with("Location", location)
    }

    fn page(text: String) -> Self {
        let csp = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
        let page = Self::new(200).with("Content-Type", "text/html; charset=utf-8");
        Self {
            body: text,
            ..page.with("Content-Security-Policy", csp).with("X-Content-Type-Options", "nosniff")
        }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn setting(mut self, cookies: Vec<String>) -> Self {
        self.fields.extend(cookies.into_iter().map(|cookie| ("Set-Cookie".to_owned(), cookie)));
        self
    }
}

impl Login {
    /// Answers a request for one of the login's pages.
    ///
    /// # Errors
    /// A refusal, for a problem document: what was wrong, and whether it helps to begin again.
    pub async fn answer(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        at: Moment,
    ) -> Result<LoginAnswer, Box<Refusal>> {
        let page = asked.head.path().strip_prefix(self.config.path.as_str()).unwrap_or("?");
        let is_get = asked.head.method == Method::Get;
        let is_post = asked.head.method == Method::Post;
        let answered = match page {
            "" | "/" if is_get => self.begin(asked, at).await,
            "/callback" if is_get => self.take_back(asked, at).await,
            "/logout" if is_get || is_post => self.log_out(asked, at).await,
            "/ended" if is_get => Ok(ended_page()),
            "" | "/" | "/callback" | "/ended" => return Err(Box::new(wrong_method("GET"))),
            "/logout" => return Err(Box::new(wrong_method("GET, POST"))),
            _ => return Err(Box::new(problem(404, "the login has no such page"))),
        };
        answered.map_err(|refused| Box::new(self.refusal(refused, at)))
    }

    async fn begin(self: &Arc<Self>, asked: &Asked<'_>, at: Moment) -> Result<LoginAnswer, Refused> {
        let query = query(asked)?;
        let place = place::local(query.once("to").ok().flatten(), &self.config.path);
        if self.open(asked, at).is_some_and(|session| holds(&session, at)) {
            return Ok(LoginAnswer::towards(&place));
        }
        let places = self.ask_provider(|login| async move { login.provider.places().await }).await?;
        let Some(authorize) = &places.authorize else {
            return Err(failed(&AskError::Without("authorization_endpoint")));
        };
        let redirect_uri = format!("{}{}/callback", origin(asked)?, self.config.path);
        let pending = Pending::new(redirect_uri, place, at.wall.as_secs());
        let location = self.authorization(authorize, &pending);
        let (keys, cookie) = (&self.config.keys, self.cookie(asked.is_tls));
        let kept = pending.keep(&asked.head.fields, keys, &self.pending_purpose, &cookie, asked.is_tls);
        self.meters.begun.add(1);
        Ok(LoginAnswer::towards(&location).setting(kept))
    }

    /// OpenID Connect Core 1.0 section 3.1.2.1, RFC 7636 section 4.3.
    fn authorization(&self, authorize: &str, pending: &Pending) -> String {
        let mut scopes = self.config.scopes.join(" ");
        if !self.config.scopes.iter().any(|scope| scope == "openid") {
            scopes = format!("openid {scopes}");
        }
        form::address(
            authorize,
            &[
                ("response_type", "code"),
                ("client_id", &self.config.client.id),
                ("redirect_uri", &pending.redirect_uri),
                ("scope", scopes.trim_end()),
                ("state", &pending.state),
                ("nonce", &pending.nonce),
                ("code_challenge", &pending.challenge()),
                ("code_challenge_method", "S256"),
            ],
        )
    }

    async fn take_back(self: &Arc<Self>, asked: &Asked<'_>, at: Moment) -> Result<LoginAnswer, Refused> {
        let came = Came::read(&query(asked)?)?;
        let cookie = self.cookie(asked.is_tls);
        let fields = &asked.head.fields;
        let (keys, now) = (&self.config.keys, at.wall.as_secs());
        let pending = Pending::find(fields, keys, &self.pending_purpose, &cookie, &came.state, now);
        let pending = pending.ok_or_else(|| {
            Refused::malformed(
                "this login was begun in another browser, too long ago, or ended already; begin again",
            )
        })?;
        // One login that was begun is good for any number of codes, and each is a question to the issuer.
        if let Some(wait) = self.misses.wait(asked.client, at.now) {
            let why = Why::TooMany { retry_after_s: wait.as_secs() + 1 };
            return Err(Refused::new(why, "too many logins that failed", ""));
        }
        let Came { state, iss, code } = came;
        let place = pending.place.clone();
        let granted =
            self.ask_provider(move |login| async move { login.redeem(pending, iss, code, at).await }).await;
        if matches!(&granted, Err(Refused { why: Why::Forbidden, .. })) {
            self.misses.charge(asked.client, at.now);
        }
        let given = self.give(granted?, None, at);
        let given =
            given.ok_or_else(|| failed(&AskError::Nonsense("the session is too large for cookies")))?;
        let had = cookies::first(fields, &cookie).map_or(0, cookies::count_of);
        let set = self.set_cookies(&given, had, asked.is_tls, at).unwrap_or_default();
        self.meters.done.add(1);
        let forgotten = Pending::forget(&cookie, &state, asked.is_tls);
        Ok(LoginAnswer::towards(&place).setting(set).setting(vec![forgotten]))
    }

    /// RFC 9207: the code is for the issuer that this login was begun with, or it is for nobody.
    async fn redeem(
        &self,
        pending: Pending,
        iss: Option<String>,
        code: Result<String, String>,
        at: Moment,
    ) -> Result<super::Granted, AskError> {
        let names_itself = self.provider.places().await?.names_itself;
        match iss {
            Some(iss) if iss != self.provider.issuer() => {
                return Err(AskError::Nonsense("the browser comes from another issuer"));
            }
            None if names_itself => {
                return Err(AskError::Nonsense("the browser does not say from which issuer"));
            }
            _ => {}
        }
        let code = code.map_err(AskError::Refused)?;
        let Pending { verifier, redirect_uri, nonce, .. } = &pending;
        self.provider.redeem(&code, verifier, redirect_uri, nonce, at.wall).await
    }

    async fn log_out(self: &Arc<Self>, asked: &Asked<'_>, at: Moment) -> Result<LoginAnswer, Refused> {
        let origin = origin(asked)?;
        let cookie = self.cookie(asked.is_tls);
        let sealed = cookies::read(&asked.head.fields, &cookie);
        let session =
            sealed.and_then(|sealed| Session::open(&self.config.keys, &self.session_purpose, &sealed));
        // What is ended is not ended again: that is a write to the disk.
        let session = session.filter(|session| !self.ended.has(&session.id));
        let forget = cookies::forget(&asked.head.fields, &cookie, asked.is_tls);
        let here = format!("{}/ended", self.config.path);
        let Some(session) = session else {
            return Ok(LoginAnswer::towards(&here).setting(forget));
        };
        let query = query(asked)?;
        let mark = query.once("confirm").ok().flatten().unwrap_or_default();
        let is_marked = self.config.keys.is_mark(LOGOUT_MARK, session.id.as_bytes(), mark.as_bytes());
        let is_confirmed = asked.head.method == Method::Post && is_marked;
        if !is_confirmed && !browser::is_own(asked.head, &origin) {
            return Ok(self.confirmation(&session));
        }
        let (id, ends, now) = (session.id.clone(), session.ends, at.wall.as_secs());
        self.end_for_good(id, ends, now).await?;
        self.meters.ended.add(1);
        let after = format!("{origin}{here}");
        let location =
            self.ask_provider(move |login| async move { Ok(login.say_goodbye(session, &after).await) });
        let location = location.await.ok().flatten().unwrap_or(here);
        Ok(LoginAnswer::towards(&location).setting(forget))
    }

    async fn end_for_good(self: &Arc<Self>, id: String, ends: u64, now: u64) -> Result<(), Refused> {
        let (ended, desk) = (Arc::clone(&self.ended), self.desk.clone());
        let on_disk = async move { desk.compute(move || ended.end(&id, ends, now)).await };
        match self.desk.ask(on_disk).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => {
                let event =
                    Event::new(Level::Error, "auth.login.end_unwritten").field("problem", error.to_string());
                self.log.emit(event.message("a session is ended here, until Terrace is started anew"));
                Ok(())
            }
            Ok(Err(busy)) | Err(busy) => Err(Refused::unavailable(busy.to_string())),
        }
    }

    /// Gives the tokens back, and says where the issuer ends its own session (OpenID Connect RP-Initiated Logout 1.0).
    async fn say_goodbye(self: Arc<Self>, session: Session, after: &str) -> Option<String> {
        if let Some(renewal) = session.renewal {
            let login = Arc::clone(&self);
            // Nobody waits for it: whether the issuer forgets the token does not change that it is forgotten here.
            tokio::spawn(async move { login.provider.revoke(&renewal.refresh_token).await });
        }
        let places = self.provider.places().await.ok()?;
        let end = places.end_session.as_deref()?;
        let client = self.config.client.id.as_str();
        let mut pairs = vec![("client_id", client), ("post_logout_redirect_uri", after)];
        pairs.extend(session.id_token.as_deref().map(|token| ("id_token_hint", token)));
        Some(form::address(end, &pairs))
    }

    fn confirmation(&self, session: &Session) -> LoginAnswer {
        let mark = self.config.keys.mark(LOGOUT_MARK, session.id.as_bytes());
        let action = form::address(&format!("{}/logout", self.config.path), &[("confirm", &mark)]);
        LoginAnswer::page(html(
            "Sign out?",
            &format!(
                "<p>You came here from another site. Do you want to sign out?</p>\
                 <form method=post action=\"{}\"><button>Sign out</button></form>",
                escaped(&action)
            ),
        ))
    }

    /// Has the issuer asked on the control plane.
    async fn ask_provider<T, F>(self: &Arc<Self>, ask: impl FnOnce(Arc<Self>) -> F) -> Result<T, Refused>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, AskError>> + Send + 'static,
    {
        match self.desk.ask(ask(Arc::clone(self))).await {
            Ok(answered) => answered.map_err(|error| failed(&error)),
            Err(busy) => Err(Refused::unavailable(busy.to_string())),
        }
    }

    fn refusal(&self, refused: Refused, at: Moment) -> Refusal {
        let Refused { why, reason, detail } = refused;
        match why {
            Why::Unavailable { .. } => self.meters.failed.add(1),
            _ => self.meters.refused.add(1),
        }
        if !detail.is_empty() {
            self.tell("auth.login.failed", &detail, at);
        }
        let retry_after_s = match why {
            Why::TooMany { retry_after_s } | Why::Unavailable { retry_after_s } => Some(retry_after_s),
            _ => None,
        };
        Refusal { outcome: why.outcome(), retry_after_s, detail, ..problem(why.status(), reason) }
    }
}

/// What a browser brings back (RFC 6749 section 4.1.2).
struct Came {
    state: String,
    iss: Option<String>,
    /// A code, or what the issuer says went wrong.
    code: Result<String, String>,
}

impl Came {
    fn read(query: &Query) -> Result<Self, Refused> {
        let twice = |_| Refused::malformed("the issuer's answer says something twice");
        let [state, iss, code, error, description] = ["state", "iss", "code", "error", "error_description"]
            .map(|name| query.once(name).map(|value| value.map(str::to_owned)));
        let state =
            state.map_err(twice)?.ok_or_else(|| Refused::malformed("the issuer's answer has no state"))?;
        let (iss, description) = (iss.map_err(twice)?, description.map_err(twice)?.unwrap_or_default());
        let code = match (code.map_err(twice)?, error.map_err(twice)?) {
            (Some(code), None) => Ok(code),
            (_, Some(error)) => {
                let said = format!("{error} ({description})");
                Err(said.chars().filter(|letter| !letter.is_control()).take(SAID_CHARS_MAX).collect())
            }
            (None, None) => return Err(Refused::malformed("the issuer's answer has no code")),
        };
        Ok(Self { state, iss, code })
    }
}

/// Whether nobody needs to be asked for the session to let its owner in.
fn holds(session: &Session, at: Moment) -> bool {
    session.renewal.as_ref().is_none_or(|renewal| at.wall.as_secs() < renewal.over)
}

fn query(asked: &Asked<'_>) -> Result<Query, Refused> {
    let read = Query::read(asked.head.query().unwrap_or_default());
    read.ok_or_else(|| Refused::malformed("the query of the address cannot be read"))
}

/// Scheme, host and port as the browser sees them.
fn origin(asked: &Asked<'_>) -> Result<String, Refused> {
    let (scheme, usual) = if asked.is_tls { ("https", 443) } else { ("http", 80) };
    match (asked.head.host(), asked.head.port()) {
        ("", _) => Err(Refused::malformed("the request names no host")),
        (host, Some(port)) if port != usual => Ok(format!("{scheme}://{host}:{port}")),
        (host, _) => Ok(format!("{scheme}://{host}")),
    }
}

/// What a person is told of it is less than what the log is.
fn failed(error: &AskError) -> Refused {
    let detail = error.to_string();
    match error {
        AskError::Silent(_) | AskError::Without(_) => {
            let why = Why::Unavailable { retry_after_s: 5 };
            Refused::new(why, "the issuer of this login does not answer", detail)
        }
        AskError::Refused(_) => Refused::new(Why::Forbidden, "the issuer did not let you in", detail),
        AskError::Nonsense(_) => Refused::new(
            Why::Forbidden,
            "what the issuer said of you cannot be believed; begin again",
            detail,
        ),
    }
}

fn problem(status: u16, reason: &'static str) -> Refusal {
    Refusal {
        status,
        challenges: Vec::new(),
        fields: Vec::new(),
        body: None,
        reason,
        wanted: None,
        detail: String::new(),
        outcome: "login",
        retry_after_s: None,
        method: Some(crate::identity::Method::Login),
        identity: None,
    }
}

fn wrong_method(allow: &str) -> Refusal {
    let fields = vec![("Allow".to_owned(), allow.to_owned())];
    Refusal { fields, ..problem(405, "the login's page does not take that method") }
}

fn ended_page() -> LoginAnswer {
    LoginAnswer::page(html(
        "Signed out",
        "<p>You are signed out.</p><p><a href=\"/\">Go on to the front page</a></p>",
    ))
}

fn html(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>:root{{color-scheme:light dark}}body{{font:1rem/1.5 system-ui,sans-serif;\
         max-width:34rem;margin:15vh auto;padding:0 1rem}}</style><h1>{title}</h1>{body}\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
