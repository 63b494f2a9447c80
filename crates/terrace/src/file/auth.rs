//! The policy `auth`: who may use a route, how they prove who they are, and what the service is told of them.
//!
//! A way to prove it is a key of the table; with several, whoever passes one of them is let in. What they must be beyond
//! that is said by `roles` and `require`.

use std::collections::BTreeMap;
use std::time::Duration;

use terrace_auth::NamePattern;

use super::contact::HttpUrl;
use super::issuer::{ClaimPath, audiences, safe_from_others};
use super::problem::{Finding, listed, nearest};
use super::read::{OneOrMany, Read, Reader, Scalar, Switch, Wrong, table};
use super::source::Origin;
use super::spec::{Form, Shape};
use super::tree::{Node, Value};
use super::values::{Token, UrlPath, Words};

table! {
    /// Each of `issuer`, `keys`, `users`, `client-certificate`, `login` and `ask` is a way to prove who one is; one that succeeds
    /// is enough. Whoever cannot is answered with 401, whoever may not with 403.
    pub(crate) struct AuthTable {
        /// Tokens (JWT) of an `[issuer.*]`, or of a list of them; or of an issuer that is named by its URL alone.
        "issuer" issuer: Switch<OneOrMany<IssuerRef>> = false, example "main";
        /// What must stand in a token as `aud`, of an issuer that is named by its URL. Default: the hosts of the route.
        "audience" audience: Option<Switch<OneOrMany<Words>>>, example ["shop"];
        /// API keys, see `[keys]`.
        "keys" keys: bool = false;
        /// Name and password of a `[users.*]` (HTTP Basic).
        "users" users: Switch<Words> = false, example "staff";
        /// Certificates of clients, which the listener must ask for: `true` for any that its authorities have signed, or a list
        /// of names of which the certificate must have one.
        "client-certificate" client_certificate: SansSetting = false, example ["*.svc.example.com"];
        /// A `[login.*]` for browsers: whoever has no session is sent there.
        "login" login: Switch<Words> = false, example "web";
        /// Ask a service of yours whether the request may pass.
        "ask" ask: Switch<AskTable> = false, example { to = "guard", path = "/check" };
        /// Where a token is, in place of `Authorization: Bearer`.
        "token" token: Option<TokenTable>, example { cookie = "session" };
        /// Let those through who prove nothing. A proof that is wrong is refused all the same, but for a token in a cookie, which
        /// browsers go on sending when it is over.
        "optional" optional: bool = false;
        /// Roles of which they must have one.
        "roles" roles: Vec<Words>, example ["customer", "staff"];
        /// What they must be beyond that: `"role:NAME"`, `"scope:NAME"`, `"claim:NAME=VALUE"` or `"claim:NAME"` (there at all); or
        /// `{ all = [ … ] }`, `{ any = [ … ] }`, `{ not = [ … ] }` of these and of each other.
        "require" require: Option<Requirement>, example { all = ["scope:orders", { any = ["role:admin", "claim:tier=gold"] }] };
        /// Headers that tell the service who asks: `"sub"`, `"iss"`, `"roles"`, `"scopes"`, `"method"` or `"claim:NAME"`. None of them
        /// is ever taken from a client, on any route.
        "forward" forward: ForwardTable = { X-Auth-Subject = "sub", X-Auth-Issuer = "iss", X-Auth-Roles = "roles", X-Auth-Method = "method" };
    }
}

table! {
    /// A request like the client's, without its body, goes there first; 2xx lets it pass, what else comes is the answer.
    pub(crate) struct AskTable {
        /// A service of this file, or a URL without a path.
        "to" to: AskTo, example "guard";
        /// Path that is asked for; the client's own is in `X-Forwarded-Uri`, its method in `X-Forwarded-Method`.
        "path" path: UrlPath = "/";
        /// Without an answer by then the client gets 503.
        "timeout" timeout: Duration = "1s", within "1ms" to "1m";
        /// Headers of the client that are sent along.
        "send" send: Vec<Token> = ["Authorization", "Cookie"];
        /// Headers of the answer that the service is told, and that are never taken from a client; `Set-Cookie` goes to the
        /// client; `Authorization`, or none, takes the place of the client's.
        "take" take: Vec<Token>, example ["X-User"];
        /// How long an answer holds for the same question. `"0s"`: not at all.
        "cache" cache: Duration = "0s", within "0s" to "1h";
    }
}

table! {
    /// A cookie, or a header that holds nothing else.
    pub(crate) struct TokenTable one of "cookie" "header", whole {
        /// Name of the cookie.
        "cookie" cookie: Option<Token>, example "session";
        /// Name of the header.
        "header" header: Option<Token>, example "X-Token";
    }
}

/// An issuer as a route names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IssuerRef {
    Named(String),
    Url(String),
}

impl Scalar for IssuerRef {
    const FORM: Form = Form { noun: "the name of an issuer or its URL", example: "main", pattern: "^\\S+$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "" => Err(Wrong::form()),
            text if text.contains("://") => Ok(Self::Url(HttpUrl::parse(text)?.0)),
            name => Ok(Self::Named(name.to_owned())),
        }
    }

    fn secret_help(text: &str) -> Option<&'static str> {
        HttpUrl::secret_help(text)
    }
}

/// Who is asked whether a request may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskTo {
    /// A service of the file.
    Service(String),
    /// `http://host:port` or `https://host:port`.
    Url(String),
}

impl Scalar for AskTo {
    const FORM: Form =
        Form { noun: "a service or a URL", example: "http://127.0.0.1:9000", pattern: "^\\S+$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() {
            return Err(Wrong::form());
        }
        if !text.contains("://") {
            return Ok(Self::Service(text.to_owned()));
        }
        let url = HttpUrl::parse(text)?.0;
        let plain = url.trim_end_matches('/');
        match plain.matches('/').count() {
            2 if !plain.contains('?') => Ok(Self::Url(plain.to_owned())),
            _ => Err(Wrong::because("has a path, which is said by `path`")),
        }
    }

    fn secret_help(text: &str) -> Option<&'static str> {
        HttpUrl::secret_help(text)
    }
}

/// `client-certificate` as written.
#[derive(Clone, Debug)]
pub(crate) enum SansSetting {
    Off,
    Any,
    OneOf(Vec<San>),
}

impl Read for SansSetting {
    fn shape() -> Shape {
        Shape::Either(vec![Shape::Boolean, Shape::List(Box::new(San::shape()))])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Boolean(false) => Some(Self::Off),
            Value::Boolean(true) => Some(Self::Any),
            Value::List(items) if items.is_empty() => {
                let finding = Finding::new(node.origin, "no certificate has one of no names");
                reader.refuse(finding.help("write `true` for any certificate of the listener's authorities"))
            }
            Value::List(_) => Some(Self::OneOf(Vec::read(node, reader)?)),
            _ => reader.unexpected(node, "`true`, `false` or a list of names", None),
        }
    }
}

/// A name in a certificate (subject alternative name): of DNS, a URI, or a mail address, perhaps with a star.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct San(String);

impl Scalar for San {
    const FORM: Form =
        Form { noun: "a name in a certificate", example: "*.svc.example.com", pattern: "^\\S+$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        match NamePattern::parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(Wrong::form()),
        }
    }
}

/// What of somebody who was let in a header tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardSource {
    /// Who it is.
    Subject,
    /// Who vouches for it.
    Issuer,
    /// Roles, joined by commas.
    Roles,
    /// Scopes, joined by blanks.
    Scopes,
    /// How it was proved.
    Method,
    /// A claim, with dots on the way down into it.
    Claim(String),
}

impl Scalar for ForwardSource {
    const FORM: Form = Form {
        noun: "what a header tells",
        example: "claim:email",
        pattern: "^(sub|iss|roles|scopes|method|claim:\\S+)$",
    };

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "sub" => Ok(Self::Subject),
            "iss" => Ok(Self::Issuer),
            "roles" => Ok(Self::Roles),
            "scopes" => Ok(Self::Scopes),
            "method" => Ok(Self::Method),
            _ => match text.strip_prefix("claim:") {
                Some(path) => Ok(Self::Claim(ClaimPath::parse(path)?.0)),
                None if ClaimPath::parse(text).is_ok() => Err(Wrong::write(format!("claim:{text}"))),
                None => Err(Wrong::form()),
            },
        }
    }
}

/// `forward` as written: what a header tells, by its name. One such table replaces another.
#[derive(Clone, Debug)]
pub(crate) struct ForwardTable(BTreeMap<String, ForwardSource>);

impl Read for ForwardTable {
    fn shape() -> Shape {
        let table = Shape::Map { key: "HEADER", value: Box::new(ForwardSource::shape()), whole: true };
        Shape::Either(vec![table, Shape::Off])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if matches!(node.value, Value::Boolean(false)) {
            return Some(Self(BTreeMap::new()));
        }
        let mut good = Some(());
        for (name, entry) in node.table().into_iter().flatten() {
            let checked = check_told(name, entry.key, reader);
            good = good.and(checked);
        }
        good?;
        Some(Self(BTreeMap::read(node, reader)?))
    }
}

/// Fields that say how a message is carried (RFC 9110 section 7.6.1, RFC 9112 section 6), so that nothing else can be
/// told by them.
const FRAMING_FIELDS: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Longer names are no names of headers.
const FIELD_NAME_BYTES_MAX: usize = 256;

/// Reports a name by which a service cannot be told who asks: HTTP or Terrace gives it another meaning.
fn check_told(name: &str, origin: Origin, reader: &mut Reader<'_>) -> Option<()> {
    match terrace_auth::check_header(name) {
        Ok(()) => Some(()),
        Err(error) => reader.refuse(Finding::new(origin, error.to_string())),
    }
}

/// Reports the name of a header, written at `origin`, that none may have or that Terrace sets itself.
pub(crate) fn check_header_name(name: &str, origin: Origin, reader: &mut Reader<'_>) -> Option<()> {
    if Token::parse(name).is_err() || name.len() > FIELD_NAME_BYTES_MAX {
        return reader.refuse(Finding::new(origin, format!("{name:?} is no name of a header")));
    }
    // Some servers take `_` for `-`.
    if FRAMING_FIELDS.contains(&name.to_ascii_lowercase().replace('_', "-").as_str()) {
        let message = format!("`{name}` says how a message is carried, so Terrace sets it itself");
        return reader.refuse(Finding::new(origin, message));
    }
    Some(())
}

/// What somebody must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// They have this role.
    Role(String),
    /// They were granted this scope.
    Scope(String),
    /// They have this claim.
    Claim {
        /// Its name, with dots on the way down into it.
        path: String,
        /// What it must be, or hold as one of several; `None`: it is there.
        value: Option<String>,
    },
    /// All of these; never empty.
    All(Vec<Requirement>),
    /// One of these at least; never empty.
    Any(Vec<Requirement>),
    /// None of these; never empty.
    Not(Vec<Requirement>),
}

/// How deep `all`, `any` and `not` may be nested: enough for every combination of conditions.
const REQUIRE_DEPTH_MAX: usize = 4;
/// Conditions in one `require`.
const CONDITIONS_MAX: usize = 64;
const JUNCTIONS: [&str; 3] = ["all", "any", "not"];

impl Read for Requirement {
    fn shape() -> Shape {
        requirement_shape(REQUIRE_DEPTH_MAX)
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut conditions = 0;
        read_requirement(node, 0, &mut conditions, reader)
    }
}

fn requirement_shape(depth_left: usize) -> Shape {
    let condition = Condition::shape();
    if depth_left == 0 {
        return condition;
    }
    let items = Shape::List(Box::new(requirement_shape(depth_left - 1)));
    Shape::Either(vec![condition, Shape::Map { key: "all, any or not", value: Box::new(items), whole: true }])
}

fn read_requirement(
    node: &Node,
    depth: usize,
    conditions: &mut usize,
    reader: &mut Reader<'_>,
) -> Option<Requirement> {
    match &node.value {
        Value::Text(_) => {
            *conditions += 1;
            if *conditions > CONDITIONS_MAX {
                return reader
                    .refuse(Finding::new(node.origin, format!("more than {CONDITIONS_MAX} conditions")));
            }
            Some(Condition::read(node, reader)?.0)
        }
        Value::Table(_) if depth >= REQUIRE_DEPTH_MAX => {
            reader.refuse(Finding::new(node.origin, format!("nested deeper than {REQUIRE_DEPTH_MAX} levels")))
        }
        Value::Table(_) => read_junction(node, depth, conditions, reader),
        _ => reader.unexpected(
            node,
            "a condition like \"role:admin\", or { all = [ … ] }, { any = [ … ] } or { not = [ … ] }",
            None,
        ),
    }
}

fn read_junction(
    node: &Node,
    depth: usize,
    conditions: &mut usize,
    reader: &mut Reader<'_>,
) -> Option<Requirement> {
    for (name, entry) in node.table().into_iter().flatten() {
        if !JUNCTIONS.contains(&name.as_str()) {
            let finding = Finding::new(entry.key, format!("unknown key `{name}` in a condition"));
            return reader.refuse(match nearest(name, JUNCTIONS) {
                Some(meant) => finding.help(format!("did you mean `{meant}`?")),
                None => finding.help(format!("known here: {}", listed(JUNCTIONS, "and"))),
            });
        }
    }
    if !reader.exactly_one(node, &JUNCTIONS) {
        return None;
    }
    let (name, entry) = node.table().into_iter().flatten().next()?;
    let Value::List(items) = &entry.node.value else {
        return reader.unexpected(&entry.node, "a list of conditions", None);
    };
    if items.is_empty() {
        return reader.refuse(Finding::new(entry.node.origin, "this list is empty"));
    }
    let read: Vec<Option<Requirement>> =
        items.iter().map(|item| read_requirement(item, depth + 1, conditions, reader)).collect();
    let read: Vec<Requirement> = read.into_iter().collect::<Option<_>>()?;
    Some(match name.as_str() {
        "all" => Requirement::All(read),
        "any" => Requirement::Any(read),
        _ => Requirement::Not(read),
    })
}

/// A single condition of `require`.
struct Condition(Requirement);

impl Scalar for Condition {
    const FORM: Form =
        Form { noun: "a condition", example: "role:admin", pattern: "^(role|scope|claim):\\S" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let Some((kind, rest)) = text.split_once(':') else {
            return Err(match text.is_empty() || text.contains(char::is_whitespace) {
                true => Wrong::form(),
                false => Wrong::write(format!("role:{text}")),
            });
        };
        if rest.is_empty() {
            return Err(Wrong::because("names nothing behind the colon"));
        }
        match kind {
            "role" => Ok(Self(Requirement::Role(rest.to_owned()))),
            "scope" => Ok(Self(Requirement::Scope(rest.to_owned()))),
            "claim" => claim_condition(rest).map(Self),
            _ => Err(match nearest(kind, ["role", "scope", "claim"]) {
                Some(meant) => Wrong::write(format!("{meant}:{rest}")),
                None => Wrong::because("begins with none of role:, scope:, claim:"),
            }),
        }
    }
}

fn claim_condition(text: &str) -> Result<Requirement, Wrong> {
    let (path, value) = match text.split_once('=') {
        Some((path, value)) => (path, Some(value.to_owned())),
        None => (text, None),
    };
    match ClaimPath::parse(path) {
        Ok(path) => Ok(Requirement::Claim { path: path.0, value }),
        Err(_) => Err(Wrong::because("names no claim behind the colon")),
    }
}

/// Who may use a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Whose tokens are believed.
    pub issuers: Vec<TrustedIssuer>,
    /// Whether API keys are.
    pub keys: bool,
    /// Name of the `[users.*]` that are.
    pub users: Option<String>,
    /// Whether clients' certificates are: any of these names must stand in it; an empty list: any certificate.
    pub certificate_names: Option<Vec<String>>,
    /// Name of the `[login.*]`.
    pub login: Option<String>,
    /// Who is asked.
    pub ask: Option<Ask>,
    /// Where a token is.
    pub token: TokenPlace,
    /// Whether those may pass who prove nothing.
    pub optional: bool,
    /// Roles of which one is needed; empty: none.
    pub roles: Vec<String>,
    /// What else is needed.
    pub require: Option<Requirement>,
    /// Headers for the service, by their name.
    pub forward: BTreeMap<String, ForwardSource>,
}

/// An issuer whose tokens a route believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustedIssuer {
    /// An `[issuer.*]`.
    Named(String),
    /// One that is known by its URL alone, with all else as by default.
    Url {
        /// `iss` of its tokens.
        url: String,
        /// Any of these must be `aud`; `None`: whatever it is.
        audiences: Option<Vec<String>>,
    },
}

/// Where a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// In `Authorization: Bearer`.
    Bearer,
    /// In this cookie.
    Cookie(String),
    /// In this header, alone.
    Header(String),
}

/// Who is asked whether a request may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Who.
    pub to: AskTo,
    /// Path, perhaps with a query.
    pub path: String,
    /// Without an answer by then the request fails.
    pub timeout: Duration,
    /// The client's headers that are sent along.
    pub send: Vec<String>,
    /// Headers of the answer for the service.
    pub take: Vec<String>,
    /// How long an answer holds; zero: not at all.
    pub cache: Duration,
}

/// `auth` in `policies`, if it is on. `hosts`: those of the route.
pub(crate) fn resolve(
    switch: Switch<AuthTable>,
    policies: &Node,
    hosts: &[String],
    reader: &mut Reader<'_>,
) -> Option<Option<Auth>> {
    let (Switch::On(table), Some(node)) = (switch, policies.get("auth")) else { return Some(None) };
    let issuers = resolve_issuers(&table, node, hosts, reader);
    let ask = resolve_ask(table.ask, node, reader);
    let auth = Auth {
        issuers: issuers?,
        keys: table.keys,
        users: table.users.on().map(|users| users.0),
        certificate_names: match table.client_certificate {
            SansSetting::Off => None,
            SansSetting::Any => Some(Vec::new()),
            SansSetting::OneOf(names) => Some(names.into_iter().map(|name| name.0).collect()),
        },
        login: table.login.on().map(|login| login.0),
        ask: ask?,
        token: token_place(table.token),
        optional: table.optional,
        roles: table.roles.into_iter().map(|role| role.0).collect(),
        require: table.require,
        forward: table.forward.0,
    };
    check_ways(&auth, node, reader)?;
    check_optional(&auth, node, reader)?;
    Some(Some(auth))
}

fn resolve_ask(switch: Switch<AskTable>, auth: &Node, reader: &mut Reader<'_>) -> Option<Option<Ask>> {
    let (Switch::On(table), Some(node)) = (switch, auth.get("ask")) else { return Some(None) };
    let mut good = Some(());
    for name in OneOrMany::<Token>::nodes(node.get("take")) {
        match name.text() {
            // A session that whoever is asked begins goes to the client; and what clients prove who they are by may be changed for
            // what the service takes.
            Some(text)
                if ["set-cookie", "authorization"].iter().any(|one| text.eq_ignore_ascii_case(one)) => {}
            Some(text) => {
                let checked = check_told(text, name.origin, reader);
                good = good.and(checked);
            }
            None => {}
        }
    }
    good?;
    Some(Some(table.into()))
}

fn token_place(table: Option<TokenTable>) -> TokenPlace {
    match table {
        Some(TokenTable { cookie: Some(cookie), .. }) => TokenPlace::Cookie(cookie.0),
        Some(TokenTable { header: Some(header), .. }) => TokenPlace::Header(header.0),
        Some(TokenTable { cookie: None, header: None }) | None => TokenPlace::Bearer,
    }
}

impl From<AskTable> for Ask {
    fn from(table: AskTable) -> Self {
        let names = |names: Vec<Token>| names.into_iter().map(|name| name.0).collect();
        Self {
            to: table.to,
            path: table.path.0,
            timeout: table.timeout,
            send: names(table.send),
            take: names(table.take),
            cache: table.cache,
        }
    }
}

fn resolve_issuers(
    table: &AuthTable,
    node: &Node,
    hosts: &[String],
    reader: &mut Reader<'_>,
) -> Option<Vec<TrustedIssuer>> {
    let Switch::On(OneOrMany(issuers)) = &table.issuer else { return Some(Vec::new()) };
    let is_unnamed = |issuer: &IssuerRef| matches!(issuer, IssuerRef::Url(_));
    if table.audience.is_some() && !issuers.iter().any(is_unnamed) {
        let finding = Finding::new(
            node.key_origin_of("audience"),
            "the audience of an issuer with a name stands in its own table",
        );
        return reader.refuse(finding.help("move it to [issuer.NAME]"));
    }
    let written = OneOrMany::<IssuerRef>::nodes(node.get("issuer"));
    let mut trusted = Vec::new();
    for (issuer, written) in issuers.iter().zip(written) {
        trusted.push(match issuer {
            IssuerRef::Named(name) => TrustedIssuer::Named(name.clone()),
            IssuerRef::Url(url) => {
                safe_from_others(url, "answer with keys of their own", written.origin, reader)?;
                let audiences = match &table.audience {
                    Some(written) => audiences(written.clone()),
                    None => Some(audiences_of_hosts(hosts, written.origin, reader)?),
                };
                TrustedIssuer::Url { url: url.clone(), audiences }
            }
        });
    }
    Some(trusted)
}

/// What tokens for these hosts may be meant for. A recipient that names itself by nothing must refuse every token that is
/// for somebody (RFC 7519 section 4.1.3), so there must be a name.
fn audiences_of_hosts(hosts: &[String], origin: Origin, reader: &mut Reader<'_>) -> Option<Vec<String>> {
    let plain: Vec<&String> = hosts.iter().filter(|host| !host.starts_with('*')).collect();
    if plain.is_empty() || plain.len() < hosts.len() {
        let message = "without an audience, a token that this issuer made for another app would do here too";
        let help = "add audience = [\"…\"] beside it with what stands in your tokens as `aud`";
        return reader.refuse(Finding::new(origin, message).help(help));
    }
    let spellings = |host: &&String| [(*host).clone(), format!("https://{host}"), format!("https://{host}/")];
    Some(plain.iter().flat_map(spellings).collect())
}

/// Reports an `auth` that nobody can pass.
fn check_ways(auth: &Auth, node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    let has_tokens = !auth.issuers.is_empty();
    let has_other = auth.keys
        || auth.users.is_some()
        || auth.certificate_names.is_some()
        || auth.login.is_some()
        || auth.ask.is_some();
    let is_misspelt = node.table().into_iter().flatten().any(|(name, _)| AuthTable::SPEC.key(name).is_none());
    if !has_tokens && !has_other && is_misspelt {
        // That was told already; that it names nothing would be told twice.
        return None;
    }
    if !has_tokens && !has_other {
        let message = "this `auth` names no way to prove who one is";
        let ways = listed(["issuer", "keys", "users", "client-certificate", "login", "ask"], "or");
        return reader.refuse(Finding::new(node.origin, message).help(format!("add {ways}")));
    }
    if !has_tokens && auth.token != TokenPlace::Bearer {
        let finding = Finding::new(node.key_origin_of("token"), "`token` has no meaning without `issuer`");
        return reader.refuse(finding.help("add issuer = \"…\""));
    }
    Some(())
}

fn check_optional(auth: &Auth, node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    let wanted = if auth.roles.is_empty() { "require" } else { "roles" };
    if !auth.optional || (auth.roles.is_empty() && auth.require.is_none()) {
        return Some(());
    }
    let message = format!("`optional` lets everybody in, but `{wanted}` does not");
    let finding = Finding::new(node.key_origin_of("optional"), message).help("leave one of them out");
    reader.refuse(finding.other(node.key_origin_of(wanted), "what they must be"))
}
