//! Proof by the word of a service of the app's own, which is asked about each request.
//!
//! It is sent what it needs to decide: the method, where the request goes, whom it comes from, and the fields that the file names;
//! not the body. Of its answers two are understood: yes (2xx), with fields that the service behind is told, and an answer
//! in its place (401, 403 or a redirect), which the client gets as it is. Anything else, and silence, lets nobody in.
//!
//! What may be remembered is remembered by everything that was sent, so that no answer is given to another question, but for the
//! request's id, which decides nothing. Fields that are taken over can never come from a client: their names are among those that are
//! taken out of every request. `Authorization` is the exception, since clients prove by it who they are: where it is taken over,
//! the service behind is told what was answered, or nothing, in the place of what the client sent.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use terrace_fetch::{Answer, Client, ClientError};
use terrace_http::{Fields, Known, RequestHead};

use crate::cache::{Cache, CacheBounds, Generation, Keep, Owner};
use crate::gate::{Asked, Checked, Fresh, Moment};
use crate::identity::{Identity, Method};
use crate::proof::Proof;
use crate::refusal::{Refused, Told, Why};

/// A larger answer is passed on without its body.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Values of one field that are taken over.
const VALUE_BYTES_MAX: usize = 4 << 10;
/// The same of `Authorization`, which may hold a token.
const AUTHORIZATION_BYTES_MAX: usize = 12 << 10;
const REMEMBERED: CacheBounds = CacheBounds { entries_max: 10_000, bytes_max: 32 << 20 };
const OWNER: Owner = Owner { gate: 0, method: 0 };
/// Fields of a refusal that the client gets; all others are between us and the service.
const PASSED_ON: [&str; 8] = [
    "location",
    "www-authenticate",
    "set-cookie",
    "retry-after",
    "content-language",
    "content-security-policy",
    "referrer-policy",
    "x-content-type-options",
];
/// Fields that say how and for whom a request came; the service gets them as the app would.
const FORWARDED: [Known; 4] =
    [Known::XForwardedFor, Known::XForwardedProto, Known::XForwardedHost, Known::XRequestId];

/// Who is asked, and what.
#[derive(Debug, Clone, PartialEq)]
pub struct AskConfig {
    /// The address that is asked, with its path.
    pub url: String,
    /// For the answer.
    pub timeout: Duration,
    /// Fields of the client that are sent along.
    pub send: Vec<String>,
    /// Fields of the answer that the service behind is told; `Set-Cookie` goes to the client.
    pub take: Vec<String>,
    /// How long an answer holds for the same question; zero: not at all.
    pub cache: Duration,
    /// Certificates (PEM) that are trusted besides the system's.
    pub ca: Option<Arc<[u8]>>,
}

/// The method, ready.
pub(crate) struct Asking {
    config: AskConfig,
    client: Client,
    remembered: Arc<Cache<Arc<Word>>>,
    ground: Generation,
}

/// The fields that go to the service.
type Question = Vec<(String, String)>;

/// What it said of somebody who may pass.
#[derive(Debug, PartialEq)]
struct Word {
    identity: Identity,
    forward: Vec<(Box<str>, Box<str>)>,
    answer: Vec<(Box<str>, Box<str>)>,
}

impl Asking {
    pub(crate) fn build(config: &AskConfig) -> Result<Self, ClientError> {
        let client = match &config.ca {
            Some(pem) => Client::trusting(pem)?,
            None => Client::new(),
        };
        let remembered = Arc::new(Cache::new(REMEMBERED));
        Ok(Self { config: config.clone(), client, remembered, ground: Generation::default() })
    }

    /// The names that services are told, and no client may set; `Authorization` is not among them.
    pub(crate) fn header_names(config: &AskConfig) -> impl Iterator<Item = &str> {
        config.take.iter().map(String::as_str).filter(|name| !is_cookie(name) && !is_authorization(name))
    }

    pub(crate) fn check(&self, asked: &Asked<'_>, at: Moment) -> Checked {
        let question = match question(&self.config, asked.head) {
            Ok(question) => question,
            Err(refused) => return Checked::Refused(refused),
        };
        let flat = flat(&question);
        let is_kept = !self.config.cache.is_zero();
        if is_kept {
            let sought = self.remembered.seek(OWNER, Proof::Secret(&flat));
            if let Some(word) = self.remembered.get(&sought, at.wall) {
                return Checked::Known(word.fresh());
            }
        }
        let (client, config, remembered) =
            (self.client.clone(), self.config.clone(), Arc::clone(&self.remembered));
        let keep = Keep { until: at.wall + self.config.cache, since: self.ground.now() };
        Checked::Later(Box::pin(async move {
            let answer = client.get(&config.url, &question, config.timeout).await;
            let answer = answer.map_err(|error| Refused::unavailable(error.to_string()))?;
            let word = Arc::new(read(&config, answer)?);
            if is_kept && word.answer.is_empty() {
                let place = remembered.seek(OWNER, Proof::Secret(&flat)).place();
                remembered.put(place, Arc::clone(&word), 512, keep, at.wall);
            }
            Ok(word.fresh())
        }))
    }
}

impl Word {
    /// A gate does not remember it by itself: what it is about is the whole request.
    fn fresh(&self) -> Fresh {
        let mut fresh = Fresh::new(self.identity.clone(), None);
        fresh.forward.clone_from(&self.forward);
        fresh.answer.clone_from(&self.answer);
        fresh
    }
}

fn is_cookie(name: &str) -> bool {
    name.eq_ignore_ascii_case("set-cookie")
}

fn is_authorization(name: &str) -> bool {
    name.eq_ignore_ascii_case(Known::Authorization.name())
}

fn question(config: &AskConfig, head: &RequestHead) -> Result<Question, Refused> {
    let mut question = vec![
        ("X-Forwarded-Method".to_owned(), head.method.as_str().to_owned()),
        ("X-Forwarded-Uri".to_owned(), head.target().to_owned()),
    ];
    for name in FORWARDED {
        question.extend(value(&head.fields, name.name())?.map(|value| (name.name().to_owned(), value)));
    }
    for name in &config.send {
        question.extend(value(&head.fields, name)?.map(|value| (name.clone(), value)));
    }
    Ok(question)
}

/// All values of that name as one, as HTTP joins them (RFC 9110 section 5.3, RFC 9113 section 8.2.3). What says who somebody is may
/// stand there once only: the service asked and the one behind might read different ones.
fn value(fields: &Fields, name: &str) -> Result<Option<String>, Refused> {
    let all = fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()));
    let separator = if name.eq_ignore_ascii_case("cookie") { "; " } else { ", " };
    let mut joined: Option<String> = None;
    for (_, value) in all {
        let text = std::str::from_utf8(value)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte == b'\t' || byte >= b' '));
        let Some(text) = text else {
            return Err(Refused::malformed("a field that decides who may pass is no text"));
        };
        match &mut joined {
            None => joined = Some(text.to_owned()),
            Some(_) if name.eq_ignore_ascii_case("authorization") => {
                return Err(Refused::malformed("the request shows several proofs of who is asking"));
            }
            Some(before) => before.extend([separator, text]),
        }
    }
    Ok(joined)
}

/// Everything that was sent and may decide, so that no two questions look the same.
fn flat(question: &Question) -> Vec<u8> {
    let mut flat = Vec::new();
    let decides = |(name, _): &&(String, String)| !name.eq_ignore_ascii_case(Known::XRequestId.name());
    for part in question.iter().filter(decides).flat_map(|(name, value)| [name, value]) {
        flat.extend_from_slice(&(part.len() as u64).to_le_bytes());
        flat.extend_from_slice(part.as_bytes());
    }
    flat
}

fn read(config: &AskConfig, answer: Answer) -> Result<Word, Refused> {
    match answer.status {
        200..=299 => Ok(word(config, &answer)),
        301..=303 | 307 | 308 if answer.headers.contains_key("location") => Err(told(answer)),
        401 | 403 => Err(told(answer)),
        status => Err(Refused::unavailable(format!("who was asked answered with status {status}"))),
    }
}

fn word(config: &AskConfig, answer: &Answer) -> Word {
    let mut identity = Identity::new(Method::Ask, "ask", "");
    let (mut forward, mut to_client): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for name in &config.take {
        let values = answer.headers.get_all(name.as_str()).iter().filter_map(|value| value.to_str().ok());
        if is_cookie(name) {
            to_client.extend(values.map(|value| ("Set-Cookie".into(), value.into())));
            continue;
        }
        let values: Vec<&str> = values.map(str::trim).filter(|value| !value.is_empty()).collect();
        if is_authorization(name) {
            // No name and no claim: it is for the service behind alone.
            let single =
                values.first().filter(|value| values.len() == 1 && value.len() <= AUTHORIZATION_BYTES_MAX);
            forward.push((name.as_str().into(), single.copied().unwrap_or_default().into()));
            continue;
        }
        let joined = values.join(", ");
        if joined.is_empty() || joined.len() > VALUE_BYTES_MAX {
            continue;
        }
        if identity.subject.is_empty() {
            identity.subject.clone_from(&joined);
        }
        let parts: Vec<&str> = joined.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        if name.eq_ignore_ascii_case("x-auth-roles") {
            identity.roles = parts.iter().map(|part| (*part).to_owned()).collect();
        }
        let claim = if parts.len() > 1 { parts.into() } else { joined.as_str().into() };
        identity.claims.insert(name.to_ascii_lowercase(), claim);
        forward.push((name.as_str().into(), joined.into()));
    }
    Word { identity, forward, answer: to_client }
}

/// The client is told what we were.
fn told(answer: Answer) -> Refused {
    let mut fields = Vec::new();
    for name in PASSED_ON {
        let values = answer.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        fields.extend(values.map(|value| (name.to_owned(), value.to_owned())));
    }
    let media_type = answer.headers.get("content-type").and_then(|value| value.to_str().ok());
    let body = match answer.body.len() {
        1..=BODY_BYTES_MAX => answer.body,
        _ => Bytes::new(),
    };
    let body = (media_type.unwrap_or("text/plain").to_owned(), body);
    let why = Why::Told(Box::new(Told { status: answer.status, fields, body }));
    Refused::new(why, "who was asked said no", "")
}

impl fmt::Debug for Asking {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Asking").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> AskConfig {
        AskConfig {
            url: "http://127.0.0.1/check".to_owned(),
            timeout: Duration::from_secs(1),
            send: vec!["Cookie".to_owned(), "Authorization".to_owned()],
            take: ["X-User", "X-Auth-Roles", "Set-Cookie"].map(str::to_owned).to_vec(),
            cache: Duration::ZERO,
            ca: None,
        }
    }

    fn head(fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::new();
        head.set_target("/orders", Some("a=b"));
        fields.iter().for_each(|(name, value)| head.fields.append(name.as_bytes(), value.as_bytes()));
        head
    }

    fn answer(status: u16, fields: &[(&'static str, &str)], body: &str) -> Answer {
        let mut answer = Answer {
            status,
            headers: Default::default(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            trailers: Default::default(),
        };
        for (name, value) in fields {
            answer.headers.append(*name, value.parse().expect("a value"));
        }
        answer
    }

    #[test]
    fn the_question_has_what_the_file_names_and_no_more() {
        let head = head(&[
            ("Cookie", "a=1"),
            ("cookie", "b=2"),
            ("X-Secret", "x"),
            ("X-Forwarded-For", "192.0.2.1"),
            ("X-Forwarded-Proto", "https"),
        ]);
        let question = question(&config(), &head).expect("a question");
        let told =
            |name: &str| question.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!((told("X-Forwarded-Method"), told("X-Forwarded-Uri")), (Some("GET"), Some("/orders?a=b")));
        assert_eq!((told("Cookie"), told("x-forwarded-for")), (Some("a=1; b=2"), Some("192.0.2.1")));
        assert_eq!((told("X-Secret"), told("Authorization"), question.len()), (None, None, 5));
    }

    #[test]
    fn what_two_could_read_differently_is_not_asked_about() {
        let twice = head(&[("Authorization", "Bearer a"), ("authorization", "Bearer b")]);
        assert_eq!(question(&config(), &twice).map_err(|refused| refused.why), Err(Why::Malformed));
        let binary = head(&[("Cookie", "a=\u{1}")]);
        assert_eq!(question(&config(), &binary).map_err(|refused| refused.why), Err(Why::Malformed));
    }

    #[test]
    fn no_two_questions_look_the_same() {
        let one = |name: &str, value: &str| flat(&vec![(name.to_owned(), value.to_owned())]);
        assert_ne!(one("ab", "c"), one("a", "bc"));
        assert_ne!(one("a", ""), flat(&Vec::new()));
        assert_eq!(
            one("x-request-id", "1"),
            one("X-Request-Id", "2"),
            "asked once for all that differ in nothing else"
        );
    }

    #[test]
    fn yes_tells_who_it_is() {
        let fields = [
            ("x-user", "ann"),
            ("x-auth-roles", "a, b"),
            ("x-other", "no"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ];
        let word = read(&config(), answer(204, &fields, "")).expect("yes");
        assert_eq!((word.identity.subject.as_str(), word.identity.roles.len()), ("ann", 2));
        assert_eq!(word.identity.claim_text("x-auth-roles").as_deref(), Some("a,b"));
        let names: Vec<&str> = word.forward.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["X-User", "X-Auth-Roles"]);
        assert_eq!(word.answer.len(), 2);
        assert_eq!(Asking::header_names(&config()).collect::<Vec<_>>(), ["X-User", "X-Auth-Roles"]);
        let taking = AskConfig { take: vec!["authorization".to_owned(), "X-User".to_owned()], ..config() };
        for (fields, expected) in [
            (&[("authorization", "Bearer inner"), ("x-user", "ann")][..], "Bearer inner"),
            (&[("x-user", "ann")], ""),
            (&[("authorization", "Bearer a"), ("authorization", "Bearer b"), ("x-user", "ann")], ""),
        ] {
            let word = read(&taking, answer(200, fields, "")).expect("yes");
            assert_eq!(
                word.forward[0],
                ("authorization".into(), expected.into()),
                "in the place of the client's"
            );
            assert_eq!((word.identity.subject.as_str(), word.identity.claims.len()), ("ann", 1));
        }
        assert_eq!(Asking::header_names(&taking).collect::<Vec<_>>(), ["X-User"]);
        let nobody = read(&config(), answer(200, &[], "yes")).expect("yes");
        assert_eq!((nobody.identity.subject.as_str(), nobody.forward.len()), ("", 0));
    }

    #[test]
    fn no_is_passed_on_and_anything_else_is_no_answer() {
        let fields = [("www-authenticate", "Custom"), ("content-type", "text/html"), ("x-inner", "secret")];
        let refused = read(&config(), answer(401, &fields, "<p>no")).expect_err("no");
        let Why::Told(told) = refused.why else { panic!("{refused:?}") };
        let Told { status, fields, body } = *told;
        assert_eq!((status, fields), (401, vec![("www-authenticate".to_owned(), "Custom".to_owned())]));
        assert_eq!(body, ("text/html".to_owned(), Bytes::from_static(b"<p>no")));
        let moved = read(&config(), answer(302, &[("location", "/login")], "")).expect_err("elsewhere");
        assert_eq!(moved.why.status(), 302);
        let large = read(&config(), answer(403, &[], &"x".repeat(BODY_BYTES_MAX + 1))).expect_err("no");
        assert!(matches!(large.why, Why::Told(told) if told.body.1.is_empty()));
        for status in [100, 302, 304, 400, 404, 407, 429, 500, 502, 503] {
            let refused = read(&config(), answer(status, &[], "")).expect_err("no answer");
            assert!(matches!(refused.why, Why::Unavailable { .. }), "{status}");
        }
    }
}
