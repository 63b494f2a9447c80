//! `[login.NAME]`: people log in with their browser, at an issuer, and keep a session here.

use std::collections::BTreeMap;
use std::time::Duration;

use terrace_auth::SealKeys;

use super::problem::Finding;
use super::read::{Read, Reader, Scalar, Wrong, table};
use super::route::Known;
use super::source::Origin;
use super::spec::Form;
use super::tree::Node;
use super::values::{Secret, SecretSource, Token, UrlPath, Words};

table! {
    /// Login of people with their browser at an issuer (OpenID Connect, authorization code with PKCE). What comes back is
    /// kept in an encrypted cookie, so no session is kept here. Register `https://YOUR-HOST/.terrace/login/callback` as
    /// redirect URI there.
    pub(crate) struct LoginTable {
        /// The `[issuer.*]` that knows the people.
        "issuer" issuer: Words, example "main";
        /// The client's id at the issuer.
        "client" client: Words, example "shop";
        /// The client's secret, unless it is a public client.
        "client-secret" client_secret: Option<SecretSource>, example { env = "LOGIN_SECRET" };
        /// What is asked for; `openid` is always needed.
        "scopes" scopes: Vec<Scope> = ["openid", "profile"];
        /// Path of the login, on the hosts of the routes that use it; `…/callback` and `…/logout` lie below.
        "path" path: UrlPath = "/.terrace/login";
        /// Name of the session's cookie.
        "cookie" cookie: Token = "terrace_session";
        /// How long a session lasts; within it, tokens are refreshed without anybody noticing.
        "lasts" lasts: Duration = "8h", within "1m" to "90d";
        /// What sessions are encrypted with: at least 32 bytes, the same on all machines that serve the same hosts. Of several
        /// lines the first encrypts, and the others still open what they encrypted. Default: made once and kept in the state
        /// folder.
        "secret" secret: Option<SecretSource>, example { file = "session.key" };
    }
}

/// A scope of OAuth 2.0 (RFC 6749 section 3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope(pub(crate) String);

impl Scalar for Scope {
    const FORM: Form = Form { noun: "a scope", example: "profile", pattern: "^[!#-\\[\\]-~]+$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let known = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        match !text.is_empty() && text.bytes().all(known) {
            true => Ok(Self(text.to_owned())),
            false if text.contains(' ') => {
                Err(Wrong::because("holds a blank; each scope is an item of its own"))
            }
            false => Err(Wrong::form()),
        }
    }
}

/// How people log in with their browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Its name in the file.
    pub name: String,
    /// Name of the issuer, whose keys are public.
    pub issuer: String,
    /// The client's id.
    pub client: String,
    /// The client's secret; `None`: a public client.
    pub client_secret: Option<Secret>,
    /// What is asked for; `openid` is among it.
    pub scopes: Vec<String>,
    /// Path of the login, without a slash at its end.
    pub path: String,
    /// Name of the session's cookie.
    pub cookie: String,
    /// How long a session lasts.
    pub lasts: Duration,
    /// What sessions are encrypted with, one secret a line; `None`: made by Terrace.
    pub secret: Option<Secret>,
}

impl Login {
    /// Every secret that it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.client_secret.iter().chain(&self.secret)
    }
}

/// The login called `name`.
pub(crate) fn resolve(name: &str, node: &Node, known: &Known<'_>, reader: &mut Reader<'_>) -> Option<Login> {
    let table = LoginTable::read(node, reader)?;
    let issuer = check_issuer(&table.issuer.0, node, known, reader);
    check_scopes(&table.scopes, node, reader)?;
    let path = check_path(&table.path.0, node.origin_of("path"), reader);
    let mut secret = |source: Option<&SecretSource>, key: &str| match source {
        Some(source) => reader.secret(source, node.origin_of(key)).map(Some),
        None => Some(None),
    };
    let client_secret = secret(table.client_secret.as_ref(), "client-secret");
    let secret = secret(table.secret.as_ref(), "secret")?;
    if let Some(Err(error)) = secret.as_ref().map(|secret| SealKeys::parse(secret.reveal())) {
        return reader.refuse(Finding::new(node.origin_of("secret"), error.to_string()));
    }
    issuer?;
    Some(Login {
        name: name.to_owned(),
        issuer: table.issuer.0,
        client: table.client.0,
        client_secret: client_secret?,
        scopes: table.scopes.into_iter().map(|scope| scope.0).collect(),
        path: path?,
        cookie: table.cookie.0,
        lasts: table.lasts,
        secret,
    })
}

fn check_issuer(issuer: &str, node: &Node, known: &Known<'_>, reader: &mut Reader<'_>) -> Option<()> {
    let origin = node.origin_of("issuer");
    if issuer.contains("://") {
        let finding = Finding::new(origin, "a login needs an issuer with a name");
        return reader
            .refuse(finding.help(format!("write [issuer.main] with url = {issuer:?}, and \"main\" here")));
    }
    let found = known.find("issuer", issuer, origin, reader)?;
    if found.get("secret").is_some() {
        let message =
            format!("nobody can log in at `{issuer}`, whose tokens are signed with a shared secret");
        return reader.refuse(Finding::new(origin, message).other(found.key_origin_of("secret"), "here"));
    }
    Some(())
}

fn check_scopes(scopes: &[Scope], node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    if scopes.iter().any(|scope| scope.0 == "openid") {
        return Some(());
    }
    let finding =
        Finding::new(node.origin_of("scopes"), "without the scope \"openid\" nobody says who logged in");
    reader.refuse(finding.help("add \"openid\""))
}

fn check_path(path: &str, origin: Origin, reader: &mut Reader<'_>) -> Option<String> {
    let plain = path.trim_end_matches('/');
    if plain.is_empty() || path.contains('?') {
        let finding = Finding::new(origin, "the login needs a path of its own, without a query");
        return reader.refuse(finding.help("write it like \"/.terrace/login\""));
    }
    Some(plain.to_owned())
}

/// Reports two logins that would answer the same path, or on one host would take each other's cookies. `users`: the hosts of
/// the routes that use each (`None`: any host).
pub(crate) fn check_together(
    logins: &BTreeMap<String, Login>,
    users: &[(&str, Option<String>)],
    root: &Node,
    reader: &mut Reader<'_>,
) {
    for (at, login) in logins.values().enumerate() {
        for other in logins.values().take(at) {
            if is_below(&login.path, &other.path) || is_below(&other.path, &login.path) {
                report_same("path", login, other, root, reader);
            }
            if login.cookie == other.cookie && share_a_host(&login.name, &other.name, users) {
                report_same("cookie", login, other, root, reader);
            }
        }
    }
}

/// Whether a path is another one or lies below it.
fn is_below(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn report_same(key: &str, login: &Login, other: &Login, root: &Node, reader: &mut Reader<'_>) {
    let node = |login: &Login| root.get("login").and_then(|logins| logins.get(&login.name));
    let (Some(here), Some(there)) = (node(login), node(other)) else { return };
    let message = format!("[login.{}] has the same `{key}`", other.name);
    let finding = Finding::new(here.origin_of(key).max(here.origin), message);
    let finding = finding.help(format!("give each a `{key}` of its own"));
    reader.report(finding.other(there.origin_of(key).max(there.origin), "this one"));
}

fn share_a_host(one: &str, other: &str, users: &[(&str, Option<String>)]) -> bool {
    let of_one = users.iter().filter(|(name, _)| *name == one);
    let mut of_other = users.iter().filter(|(name, _)| *name == other);
    let of_one: Vec<Option<&str>> = of_one.map(|(_, host)| host.as_deref()).collect();
    of_other.any(|(_, host)| of_one.iter().any(|one| hosts_meet(*one, host.as_deref())))
}

/// Whether two hosts of patterns, `*.` in front for all below, have one in common.
fn hosts_meet(one: Option<&str>, other: Option<&str>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return true };
    let covers = |wide: &str, host: &str| wide.strip_prefix('*').is_some_and(|suffix| host.ends_with(suffix));
    one == other || covers(one, other) || covers(other, one)
}
