//! Cross-origin resource sharing (Fetch standard, "CORS protocol"): which pages of other origins may read answers. A browser's
//! question beforehand is answered here; on the answer itself the app's own fields are replaced, never doubled.
//!
//! # An origin that is not allowed
//! gets no fields, and nothing else happens: its request goes to the service like any other, for CORS says who may *read* an
//! answer, not who may ask (a form on any page can send the same). The question beforehand is answered 204, likewise
//! without fields. A 403 would say no more to a browser, which blocks in either case ("CORS check", "CORS-preflight
//! fetch"), and would turn away programs that send an `Origin` without caring for one.
//!
//! # What caches are told
//! Where the answer depends on who asks, `Vary: Origin` stands on every answer, also on those without an `Origin`, or a
//! cache would hand the answer for nobody to everybody ("CORS protocol and HTTP caches"). Where all may
//! read, `*` stands on every answer and it does not vary.

use std::time::Duration;

use bytes::Bytes;
use terrace_http::{Fields, Known, Method, RequestHead, ResponseHead, contains_token};

use crate::chain::{Ending, Request};
use crate::journal::Journal;

/// Origins of pages that may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Every one: nobody's cookies come along then.
    Any,
    /// This one, as browsers write it: `https://shop.example.com`, or `null` for pages without one.
    Exact(String),
    /// Every host below a domain.
    Below {
        /// With `://`.
        scheme: String,
        /// With its first dot, and with the port if it is not the scheme's own: `.example.com`.
        suffix: String,
    },
}

/// Who may call and how, as the file says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CorsRules {
    /// Pages that may call.
    pub origins: Vec<Origin>,
    /// Methods that they may use.
    pub methods: Vec<String>,
    /// Fields that they may send.
    pub headers: Vec<String>,
    /// Fields of answers that they may read.
    pub expose: Vec<String>,
    /// Whether cookies and the like come along.
    pub credentials: bool,
    /// How long a browser may remember what it was told.
    pub max_age: Duration,
}

/// Rules that cannot hold. The fault is the file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CorsError {
    /// With credentials `*` means nothing ("CORS protocol and credentials"), and echoing every origin in its place would hand every
    /// visitor's session to every page.
    #[error("`*` cannot stand in `{0}` where credentials come along; name those that are meant")]
    StarWithCredentials(&'static str),
    /// A method or the name of a field that is none.
    #[error("`{0}` names something that is no token (RFC 9110 section 5.6.2)")]
    NoToken(&'static str),
}

/// Pages of other origins that may call a route, made ready.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    is_any: bool,
    /// In ascending order.
    exact: Box<[Box<[u8]>]>,
    below: Box<[Below]>,
    is_credentialed: bool,
    methods: Box<[u8]>,
    headers: Box<[u8]>,
    expose: Box<[u8]>,
    max_age_s: Box<[u8]>,
}

/// Every host below a domain, as bytes.
#[derive(Debug, Clone)]
struct Below {
    scheme: Box<[u8]>,
    suffix: Box<[u8]>,
}

impl Cors {
    /// Makes the rules ready.
    ///
    /// # Errors
    /// [`CorsError`] where they contradict themselves.
    pub fn new(rules: &CorsRules) -> Result<Self, CorsError> {
        let is_any = rules.origins.contains(&Origin::Any);
        let lists = [("methods", &rules.methods), ("headers", &rules.headers), ("expose", &rules.expose)];
        if let Some((key, _)) = lists.iter().find(|(_, names)| !names.iter().all(|name| is_token(name))) {
            return Err(CorsError::NoToken(key));
        }
        let has_star = |names: &&Vec<String>| names.iter().any(|name| name == "*");
        let star = lists.iter().find(|(_, names)| has_star(names)).map(|(key, _)| *key);
        if let Some(key) = is_any.then_some("origins").or(star).filter(|_| rules.credentials) {
            return Err(CorsError::StarWithCredentials(key));
        }
        let (mut exact, mut below) = (Vec::new(), Vec::new());
        for origin in &rules.origins {
            match origin {
                Origin::Any => {}
                Origin::Exact(origin) => exact.push(serialized(origin).into_bytes().into()),
                Origin::Below { scheme, suffix } => {
                    let whole = serialized(&format!("{scheme}{suffix}"));
                    let suffix = whole.get(scheme.len()..).unwrap_or_default().as_bytes().into();
                    let scheme = scheme.to_ascii_lowercase().into_bytes().into();
                    below.push(Below { scheme, suffix });
                }
            }
        }
        exact.sort_unstable();
        let listed = |names: &[String]| names.join(", ").into_bytes().into();
        Ok(Self {
            is_any,
            exact: exact.into(),
            below: below.into(),
            is_credentialed: rules.credentials,
            methods: listed(&rules.methods),
            headers: listed(&rules.headers),
            expose: listed(&rules.expose),
            max_age_s: rules.max_age.as_secs().to_string().into_bytes().into(),
        })
    }

    /// What `Access-Control-Allow-Origin` says to who asks from there.
    fn allowed<'r>(&self, origin: Option<&'r [u8]>) -> Option<&'r [u8]> {
        if self.is_any {
            return Some(b"*");
        }
        origin.filter(|origin| self.has(origin))
    }

    fn has(&self, origin: &[u8]) -> bool {
        self.exact.binary_search_by(|known| (**known).cmp(origin)).is_ok()
            || self.below.iter().any(|below| below.has(origin))
    }
}

fn is_token(name: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_fit)
}

/// An origin as browsers write it (HTML, "serialization of an origin"): lower case, without the scheme's own port.
fn serialized(origin: &str) -> String {
    let origin = origin.to_ascii_lowercase();
    let own_port = if origin.starts_with("https://") { ":443" } else { ":80" };
    match origin.strip_suffix(own_port) {
        Some(shorter) => shorter.to_owned(),
        None => origin,
    }
}

impl Below {
    /// Whether an origin is of that scheme and below that domain. What stands before the suffix must be labels of a host:
    /// of `https://evil.test/.example.com` only the end looks right.
    fn has(&self, origin: &[u8]) -> bool {
        let rest = origin.strip_prefix(&*self.scheme);
        let Some(labels) = rest.and_then(|rest| rest.strip_suffix(&*self.suffix)) else { return false };
        let is_label = |label: &[u8]| {
            let is_fit = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
            !label.is_empty() && label.iter().all(is_fit)
        };
        labels.split(|byte| *byte == b'.').all(is_label)
    }
}

/// The method that a browser asks about beforehand, if the request is such a question ("CORS-preflight request": `OPTIONS` with
/// an origin and the method). Such a question belongs to the route that takes the method.
#[inline]
pub(crate) fn asked_method(head: &RequestHead) -> Option<&str> {
    if head.method != Method::Options || !head.fields.has(Known::Origin) {
        return None;
    }
    let method = head.fields.named(b"access-control-request-method")?;
    std::str::from_utf8(method).ok().filter(|method| is_token(method))
}

/// Answers a browser that asks beforehand; [`dress`] says what.
pub(crate) fn answer_preflight(request: &Request<'_, '_>, journal: &Journal<'_>) -> Result<(), Ending> {
    if asked_method(request.exchange.head).is_none() {
        return Ok(());
    }
    if let Some(rules) = journal.rules() {
        rules.preflight_answered();
    }
    Err(Ending::Answer(Box::new((ResponseHead::new(204), Bytes::new()))))
}

/// Tells the browser who may read the answer, in the place of whatever the app said of it.
pub(crate) fn dress(cors: &Cors, request: &RequestHead, head: &mut ResponseHead) {
    // What follows 101 is no answer that a page could read: WebSockets have their own check of `Origin`.
    if head.status == 101 {
        return;
    }
    head.fields.retain(|_, name, _| !is_ours(name));
    let origin = origin(&request.fields);
    let is_preflight = asked_method(request).is_some();
    if !cors.is_any {
        vary(&mut head.fields, is_preflight);
    }
    let Some(allowed) = cors.allowed(origin) else { return };
    let mut say = |name: &str, value: &[u8]| {
        if !value.is_empty() {
            head.fields.append(name.as_bytes(), value);
        }
    };
    say("access-control-allow-origin", allowed);
    if cors.is_credentialed {
        say("access-control-allow-credentials", b"true");
    }
    if !is_preflight {
        return say("access-control-expose-headers", &cors.expose);
    }
    say("access-control-allow-methods", &cors.methods);
    say("access-control-allow-headers", &cors.headers);
    say("access-control-max-age", &cors.max_age_s);
    // Private Network Access: a page of the public network that asks for something in a private one. Where every page may
    // call, this one still may not.
    let is_private = request.fields.named(b"access-control-request-private-network") == Some(b"true");
    if is_private && !cors.is_any {
        say("access-control-allow-private-network", b"true");
    }
}

/// The origin that a request names; of two none is believed.
fn origin(fields: &Fields) -> Option<&[u8]> {
    let mut named = fields.all(Known::Origin);
    match (named.next(), named.next()) {
        (Some(origin), None) => Some(origin),
        _ => None,
    }
}

/// Whether a response's field is about CORS.
fn is_ours(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"access-control-";
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Says what the answer depends on, unless it says so already.
fn vary(fields: &mut Fields, is_preflight: bool) {
    let of_preflight: &[&str] = &["access-control-request-method", "access-control-request-headers"];
    let says = |fields: &Fields, token: &str| {
        let mut lists = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"vary"));
        lists.any(|(_, value)| contains_token(value, token) || contains_token(value, "*"))
    };
    if !says(fields, "origin") {
        fields.append(b"vary", b"Origin");
    }
    for token in of_preflight.iter().filter(|_| is_preflight) {
        if !says(fields, token) {
            fields.append(b"vary", token.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(origins: &[&str]) -> CorsRules {
        let origin = |text: &&str| match (*text, text.split_once("://*")) {
            ("*", _) => Origin::Any,
            (_, Some((scheme, suffix))) => {
                Origin::Below { scheme: format!("{scheme}://"), suffix: suffix.to_owned() }
            }
            (exact, None) => Origin::Exact(exact.to_owned()),
        };
        CorsRules {
            origins: origins.iter().map(origin).collect(),
            methods: vec!["GET".to_owned(), "PUT".to_owned()],
            headers: vec!["X-A".to_owned(), "Authorization".to_owned()],
            expose: vec!["X-Request-Id".to_owned()],
            credentials: false,
            max_age: Duration::from_secs(600),
        }
    }

    fn request(method: Method, fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::new();
        head.method = method;
        fields.iter().for_each(|(name, value)| head.fields.append(name.as_bytes(), value.as_bytes()));
        head
    }

    /// The fields about CORS and caches that an answer has in the end.
    fn told(rules: &CorsRules, request: &RequestHead, said: &[(&str, &str)]) -> Vec<String> {
        let mut head = ResponseHead::new(200);
        said.iter().for_each(|(name, value)| head.fields.append(name.as_bytes(), value.as_bytes()));
        dress(&Cors::new(rules).expect("valid rules"), request, &mut head);
        let line = |(name, value): (&[u8], &[u8])| {
            format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        };
        head.fields.iter().map(line).collect()
    }

    fn get(origin: &str) -> RequestHead {
        request(Method::Get, &[("Origin", origin)])
    }

    fn preflight(origin: &str) -> RequestHead {
        request(Method::Options, &[("Origin", origin), ("Access-Control-Request-Method", "PUT")])
    }

    fn is_allowed(origins: &[&str], origin: &str) -> bool {
        told(&rules(origins), &get(origin), &[]).contains(&format!("access-control-allow-origin: {origin}"))
    }

    #[test]
    fn a_page_of_an_allowed_origin_may_read_the_answer() {
        let fields = told(&rules(&["https://shop.example"]), &get("https://shop.example"), &[]);
        let expected = [
            "vary: Origin",
            "access-control-allow-origin: https://shop.example",
            "access-control-expose-headers: X-Request-Id",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_page_of_another_origin_is_told_nothing() {
        let rules = rules(&["https://shop.example"]);
        assert_eq!(told(&rules, &get("https://evil.test"), &[]), ["vary: Origin"]);
        assert_eq!(
            told(&rules, &request(Method::Get, &[]), &[]),
            ["vary: Origin"],
            "or a cache mixes them up"
        );
        let twice =
            request(Method::Get, &[("Origin", "https://shop.example"), ("Origin", "https://evil.test")]);
        assert_eq!(told(&rules, &twice, &[]), ["vary: Origin"]);
    }

    #[test]
    fn what_the_app_says_of_it_is_replaced_and_not_doubled() {
        let said = [
            ("Access-Control-Allow-Origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("Vary", "Accept-Encoding, Origin"),
            ("X-Kept", "1"),
        ];
        let fields = told(&rules(&["https://shop.example"]), &get("https://evil.test"), &said);
        assert_eq!(fields, ["Vary: Accept-Encoding, Origin", "X-Kept: 1"]);
    }

    #[test]
    fn where_all_may_read_it_the_answer_is_the_same_for_all() {
        for request in [get("https://a.test"), request(Method::Get, &[])] {
            let fields = told(&rules(&["*"]), &request, &[]);
            assert_eq!(
                fields,
                ["access-control-allow-origin: *", "access-control-expose-headers: X-Request-Id"]
            );
        }
    }

    #[test]
    fn a_browser_that_asks_beforehand_is_told_methods_fields_and_for_how_long() {
        let credentialed = CorsRules { credentials: true, ..rules(&["https://shop.example"]) };
        let fields = told(&credentialed, &preflight("https://shop.example"), &[]);
        let expected = [
            "vary: Origin",
            "vary: access-control-request-method",
            "vary: access-control-request-headers",
            "access-control-allow-origin: https://shop.example",
            "access-control-allow-credentials: true",
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-headers: X-A, Authorization",
            "access-control-max-age: 600",
        ];
        assert_eq!(fields, expected);
        let refused = told(&credentialed, &preflight("https://evil.test"), &[]);
        assert_eq!(refused, expected[..3]);
    }

    #[test]
    fn only_a_question_with_origin_and_method_is_one() {
        let asked =
            |method, fields: &[(&str, &str)]| asked_method(&request(method, fields)).map(str::to_owned);
        let (origin, method) = (("Origin", "https://a.test"), ("Access-Control-Request-Method", "PUT"));
        assert_eq!(asked(Method::Options, &[origin, method]).as_deref(), Some("PUT"));
        assert_eq!(asked(Method::Options, &[origin]), None);
        assert_eq!(asked(Method::Options, &[method]), None);
        assert_eq!(asked(Method::Get, &[origin, method]), None);
        assert_eq!(asked(Method::Options, &[origin, ("Access-Control-Request-Method", "P T")]), None);
    }

    #[test]
    fn a_domain_stands_for_the_hosts_below_it_and_for_nothing_that_only_ends_like_one() {
        let below = ["https://*.example.com"];
        for origin in ["https://a.example.com", "https://a.b-c.example.com", "https://x_1.example.com"] {
            assert!(is_allowed(&below, origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://.example.com",
            "http://a.example.com",
            "https://a.example.com:8443",
            "https://evil.test/.example.com",
            "https://evil.test:1.example.com",
            "https://a@b.example.com",
            "https://a..example.com",
            "https://aexample.com",
            "https://a.example.com.evil.test",
            "https://A.example.com",
            "null",
            "",
        ] {
            assert!(!is_allowed(&below, origin), "{origin}");
        }
        assert!(is_allowed(&["https://*.example.com:8443"], "https://a.example.com:8443"));
        assert!(is_allowed(&["https://*.example.com:443"], "https://a.example.com"));
    }

    #[test]
    fn an_origin_is_compared_as_browsers_write_it() {
        assert!(is_allowed(&["HTTPS://Shop.Example:443"], "https://shop.example"));
        assert!(is_allowed(&["http://localhost:3000"], "http://localhost:3000"));
        assert!(!is_allowed(&["http://localhost:3000"], "http://localhost:3001"));
    }

    #[test]
    fn pages_without_an_origin_are_refused_unless_named() {
        assert!(!is_allowed(&["https://shop.example", "https://*.example.com"], "null"));
        assert!(is_allowed(&["null"], "null"));
    }

    #[test]
    fn a_private_network_is_opened_to_named_origins_alone() {
        let ask = |origins: &[&str]| {
            let mut asked = preflight("https://shop.example");
            asked.fields.append(b"Access-Control-Request-Private-Network", b"true");
            let fields = told(&rules(origins), &asked, &[]);
            fields.contains(&"access-control-allow-private-network: true".to_owned())
        };
        assert!(ask(&["https://shop.example"]));
        assert!(!ask(&["*"]) && !ask(&["https://other.example"]));
    }

    #[test]
    fn credentials_never_go_with_a_star() {
        let any = CorsRules { credentials: true, ..rules(&["https://a.test", "*"]) };
        assert_eq!(Cors::new(&any).err(), Some(CorsError::StarWithCredentials("origins")));
        let named = CorsRules { credentials: true, ..rules(&["https://a.test"]) };
        let headers = CorsRules { headers: vec!["*".to_owned()], ..named.clone() };
        assert_eq!(Cors::new(&headers).err(), Some(CorsError::StarWithCredentials("headers")));
        let crooked = CorsRules { expose: vec!["X\r\nY".to_owned()], ..named };
        assert_eq!(Cors::new(&crooked).err(), Some(CorsError::NoToken("expose")));
    }
}
