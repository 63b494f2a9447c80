//! `[acme]`: certificates from an authority, for listeners with `tls = "acme"`.
//!
//! Which hosts a listener needs certificates for follows from its routes; so what is wrong shows only when both are looked
//! at together: a wildcard that no authority vouches for without DNS-01, a listener that no route gives a host, a
//! challenge that nobody could answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::Resolved;
use super::contact::{HttpUrl, MailAddress};
use super::listen::{Listener, Tls, holds_pem};
use super::problem::Finding;
use super::read::{OneOrMany, Read, Reader, Scalar, Wrong, any, choice, table};
use super::route::Route;
use super::source::Origin;
use super::spec::Form;
use super::tree::Node;
use super::values::{FilePath, Secret, SecretSource, Words, is_host};

/// Hosts of one listener; far more than a machine has certificates for.
const HOSTS_MAX: usize = 10_000;

table! {
    /// An authority that issues certificates by ACME (RFC 8555), for listeners with `tls = "acme"`. Hosts are those that
    /// the listener's routes name, and its `hosts`. They share a certificate, up to 100 each; one that is refused is
    /// ordered by itself, so that the others go on.
    pub(crate) struct AcmeTable {
        /// The authority's directory.
        "directory" directory: DirectoryUrl = "https://acme-v02.api.letsencrypt.org/directory";
        /// Where the authority may write to.
        "email" email: Option<MailAddress>, example "ops@example.com";
        /// That its terms of service are agreed to; without it nothing is ordered.
        "agree" agree: bool, example true;
        /// Folder for the account and the certificates. Machines that share it order each certificate once. Default: `acme`
        /// in the state folder.
        "folder" folder: Option<FilePath>, example "/var/lib/terrace/acme";
        /// PEM file with authorities that the directory's own server is checked with besides the system's.
        "ca" ca: Option<FilePath>, example "ca.pem";
        /// How the authority convinces itself that a host is yours, or a list, the preferred way first. Default: whichever can
        /// be answered.
        "challenge" challenge: Option<OneOrMany<ChallengeWord>>, example "http-01";
        /// So long before its end a certificate is renewed, at most a third of its lifetime. Default: 30 days, or when the
        /// authority suggests it (RFC 9773).
        "renew-before" renew_before: Option<Duration>, within "1m" to "365d", example "30d";
        /// Order each host's certificate when a client first asks for that host, instead of all beforehand; never for hosts
        /// that are not in this file.
        "on-demand" on_demand: bool = false;
        /// Ties the account to one that was opened with the authority by another way, where it asks for that.
        "external-account" external_account: Option<ExternalAccountTable>, example { id = "kid-1", key = { env = "ACME_HMAC" } };
    }
}

table! {
    /// A name and a key that the authority handed out (external account binding, RFC 8555 section 7.3.4).
    pub(crate) struct ExternalAccountTable, whole {
        /// The key's name.
        "id" id: Words, example "kid-1";
        /// The key for HMAC, in base64url.
        "key" key: SecretSource, example { env = "ACME_HMAC" };
    }
}

choice! {
    /// How an authority convinces itself that a host is yours.
    pub enum ChallengeWord {
        /// It asks over plain HTTP at port 80: needs a listener without TLS, or `redirect-from`.
        "http-01" Http01,
        /// It asks in a TLS handshake at port 443.
        "tls-alpn-01" TlsAlpn01,
    }
}

/// A directory, which is worth nothing when somebody else can answer in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirectoryUrl(pub(crate) String);

impl Scalar for DirectoryUrl {
    const FORM: Form = Form {
        noun: "a URL of https",
        example: "https://acme-v02.api.letsencrypt.org/directory",
        pattern: "^https://[^\\s@#/]+(/[^\\s#]*)?$",
    };

    fn parse(text: &str) -> Result<Self, Wrong> {
        match (HttpUrl::parse(text)?, text.strip_prefix("http://")) {
            (_, Some(rest)) => Err(Wrong::write(format!("https://{rest}"))),
            (url, None) => Ok(Self(url.0)),
        }
    }
}

/// A host that a certificate can be had for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CertifiedHost(pub(crate) String);

impl Scalar for CertifiedHost {
    const FORM: Form = Form {
        noun: "a name of a host",
        example: "shop.example.com",
        pattern: "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$",
    };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let lower = text.to_ascii_lowercase();
        match text {
            text if text.starts_with("*.") => Err(Wrong::because(WILDCARD)),
            text if text.parse::<std::net::IpAddr>().is_ok() => {
                Err(Wrong::because("is an address; certificates are issued for names of hosts"))
            }
            text if is_host(text) => Ok(Self(lower)),
            _ => Err(Wrong::form()),
        }
    }
}

const WILDCARD: &str = "is a wildcard, for which authorities issue only after the challenge dns-01, which Terrace does not offer";

/// An authority that issues certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The URL of its directory.
    pub directory: String,
    /// Where it may write to.
    pub email: Option<String>,
    /// Where account and certificates are kept; `None`: in the state folder.
    pub folder: Option<PathBuf>,
    /// Certificates that its server is checked with besides the system's, as PEM.
    pub roots_pem: Option<String>,
    /// How it may convince itself; `None`: whichever can be answered.
    pub challenges: Option<Vec<ChallengeWord>>,
    /// So long before its end a certificate is renewed.
    pub renew_before: Option<Duration>,
    /// Whether certificates are ordered when they are first asked for.
    pub on_demand: bool,
    /// An account that was opened by another way.
    pub external_account: Option<ExternalAccount>,
}

/// An account that was opened with the authority by another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The key's name.
    pub id: String,
    /// The key in base64url.
    pub key: Secret,
}

impl ExternalAccount {
    /// The key's bytes.
    ///
    /// # Panics
    /// Never for one that was read from a file: the key was looked at then.
    pub fn key_bytes(&self) -> Vec<u8> {
        external_key(&self.key).expect("invariant: a file with another key is refused")
    }
}

impl Resolved {
    /// The hosts that a listener's certificates are issued for: its own, and those that its routes name. Sorted, none
    /// twice; empty where they are not issued.
    pub fn certified_hosts(&self, listener: &Listener) -> Vec<String> {
        match &listener.tls {
            Tls::Acme(own) => hosts_of(&listener.name, own, &self.routes),
            Tls::Off | Tls::Dev | Tls::Files(_) => Vec::new(),
        }
    }

    /// Whether anything listens for plain HTTP, where an authority may ask.
    pub fn listens_in_the_clear(&self) -> bool {
        listens_in_the_clear(&self.listeners)
    }
}

/// The authority. `None` also where there is no such table.
pub(crate) fn resolve(node: &Node, reader: &mut Reader<'_>) -> Option<Acme> {
    let table = AcmeTable::read(node, reader)?;
    let roots_pem = match &table.ca {
        Some(path) => Some(roots(path, node.origin_of("ca"), reader)?),
        None => None,
    };
    let external_account = match &table.external_account {
        Some(account) => Some(external_account(account, node, reader)?),
        None => None,
    };
    if !table.agree {
        let message = "without agreeing to its terms of service no authority opens an account";
        let finding = Finding::new(node.origin_of("agree"), message);
        return reader.refuse(finding.help("read them, then write agree = true"));
    }
    Some(Acme {
        directory: table.directory.0,
        email: table.email.map(|email| email.0),
        folder: table.folder.map(|folder| reader.path(&folder.0)),
        roots_pem,
        challenges: table.challenge.map(|challenge| any(Some(challenge))),
        renew_before: table.renew_before,
        on_demand: table.on_demand,
        external_account,
    })
}

fn roots(path: &FilePath, origin: Origin, reader: &mut Reader<'_>) -> Option<String> {
    let pem = reader.side_text(&path.0, origin)?;
    holds_pem(&pem, "CERTIFICATE", origin, reader).then_some(pem)
}

fn external_account(
    table: &ExternalAccountTable,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<ExternalAccount> {
    let node = node.get("external-account").unwrap_or(node);
    let key = reader.secret(&table.key, node.origin_of("key"))?;
    if external_key(&key).is_none() {
        let finding = Finding::new(node.origin_of("key"), "this secret is no key in base64url");
        return reader
            .refuse(finding.help("it holds the HMAC key as the authority shows it, and nothing else"));
    }
    Some(ExternalAccount { id: table.id.0.clone(), key })
}

/// The bytes of an external account's key; some authorities show it with padding.
fn external_key(key: &Secret) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::URL_SAFE, config);
    engine.decode(key.reveal().trim()).ok().filter(|bytes| !bytes.is_empty())
}

fn hosts_of(name: &str, own: &[String], routes: &BTreeMap<String, Route>) -> Vec<String> {
    let mut hosts = own.to_vec();
    for route in reached(name, routes) {
        let named = route.at.iter().filter_map(terrace_route::Pattern::host);
        hosts.extend(named.filter(|host| CertifiedHost::parse(host).is_ok()));
    }
    hosts.sort();
    hosts.dedup();
    hosts
}

/// The routes that are reached through a listener.
fn reached<'r>(listener: &'r str, routes: &'r BTreeMap<String, Route>) -> impl Iterator<Item = &'r Route> {
    let is_reached = move |route: &&Route| {
        route.listeners.is_empty() || route.listeners.iter().any(|name| name == listener)
    };
    routes.values().filter(is_reached)
}

fn listens_in_the_clear(listeners: &BTreeMap<String, Listener>) -> bool {
    listeners.values().any(|listener| listener.tls == Tls::Off || !listener.redirect_from.is_empty())
}

/// Reports what is wrong between the authority, the listeners that need it, and their routes.
pub(crate) fn check_together(
    acme: Option<&Acme>,
    listeners: &BTreeMap<String, Listener>,
    routes: &BTreeMap<String, Route>,
    root: &Node,
    reader: &mut Reader<'_>,
) {
    for (name, listener) in listeners {
        let Tls::Acme(own) = &listener.tls else { continue };
        let Some(node) = root.get("listen").and_then(|listeners| listeners.get(name)) else { continue };
        if root.get("acme").is_none() {
            let finding = Finding::new(node.origin_of("tls"), "tls = \"acme\" needs a table [acme]");
            reader.report(finding.help("add [acme] with agree = true"));
        }
        check_hosts(name, own, routes, (root, node), reader);
    }
    let asks_in_the_clear = |acme: &Acme| acme.challenges.as_deref() == Some(&[ChallengeWord::Http01]);
    if acme.is_some_and(asks_in_the_clear)
        && !listens_in_the_clear(listeners)
        && let Some(node) = root.get("acme")
    {
        let message = "http-01 is answered over plain HTTP, and nothing listens for that";
        let finding = Finding::new(node.origin_of("challenge"), message);
        reader.report(finding.help("add redirect-from = \"0.0.0.0:80\" to the listener"));
    }
}

/// `node`: the file, and the listener in it.
fn check_hosts(
    name: &str,
    own: &[String],
    routes: &BTreeMap<String, Route>,
    (root, node): (&Node, &Node),
    reader: &mut Reader<'_>,
) {
    for route in reached(name, routes) {
        for host in route.at.iter().filter_map(terrace_route::Pattern::host) {
            let is_covered = |host: &str| own.iter().any(|own| is_below(own, host));
            let Err(wrong) = CertifiedHost::parse(&host) else { continue };
            if is_covered(&host) {
                continue;
            }
            let origin = root.get("route").and_then(|routes| routes.get(&route.name));
            let origin = origin.map_or(Origin::BuiltIn, |route| route.origin_of("at"));
            let why = if wrong.why.is_empty() { "is no name of a host" } else { wrong.why.as_str() };
            let finding = Finding::new(origin, format!("the host {host:?} {why}"));
            let help = format!("name the hosts in `hosts` of [listen.{name}], or use tls = \"files\"");
            reader.report(finding.other(node.origin_of("tls"), "certificates are issued here").help(help));
        }
    }
    let count = hosts_of(name, own, routes).len();
    // A route with a fault of its own would have named one.
    let are_all_read = root.get("route").and_then(Node::table).is_none_or(|all| all.len() == routes.len());
    if count == 0 && are_all_read {
        let message = "no route names a host that a certificate could be issued for";
        let finding = Finding::new(node.origin_of("tls"), message);
        reader.report(finding.help("add hosts = [\"shop.example.com\"]"));
    }
    if count > HOSTS_MAX {
        let message = format!("certificates are issued for at most {HOSTS_MAX} hosts of a listener");
        reader.report(Finding::new(node.origin_of("tls"), message));
    }
}

/// Whether a host is one that a wildcard stands for.
fn is_below(host: &str, wildcard: &str) -> bool {
    let rest = wildcard.strip_prefix('*').and_then(|parent| host.strip_suffix(parent));
    rest.is_some_and(|label| !label.is_empty() && !label.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_that_an_authority_can_look_up() {
        assert_eq!(
            CertifiedHost::parse("Shop.Example.com"),
            Ok(CertifiedHost("shop.example.com".to_owned()))
        );
        for wrong in ["*.example.com", "10.0.0.1", "::1", "[::1]", "a b", "", "a..b"] {
            assert!(CertifiedHost::parse(wrong).is_err(), "{wrong}");
        }
        assert!(is_below("a.example.com", "*.example.com"));
        for other in ["example.com", ".example.com", "a.b.example.com", "aexample.com"] {
            assert!(!is_below(other, "*.example.com"), "{other}");
        }
    }

    #[test]
    fn a_key_is_read_with_and_without_padding() {
        let key = |text: &str| external_key(&Secret::new(text.to_owned(), SecretSource::Env("X".to_owned())));
        assert_eq!(key("_-8").as_deref(), Some(&[0xff, 0xef][..]));
        assert_eq!(key("_-8=\n").as_deref(), Some(&[0xff, 0xef][..]));
        assert_eq!(key("not base64"), None);
    }

    #[test]
    fn a_directory_is_asked_over_a_way_on_which_nobody_else_answers() {
        assert_eq!(
            DirectoryUrl::parse("http://acme.example/dir"),
            Err(Wrong::write("https://acme.example/dir"))
        );
        assert!(DirectoryUrl::parse("https://acme.example:14000/dir").is_ok());
    }
}
