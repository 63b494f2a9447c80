//! What Terrace needs to call somebody itself, a collector or a receiver of alerts: URLs, mail servers, mail addresses, and
//! the fields of a request, which may hold a secret.
//!
//! A URL with a password in it is a secret that looks like an address; it is refused here without being shown.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::problem::Finding;
use super::read::{Read, Reader, Scalar, Wrong};
use super::service::EnvValue;
use super::source::Origin;
use super::spec::{Form, Shape};
use super::tree::{Node, Value};
use super::values::{Secret, SecretSource, Words, is_host, is_token};

/// A URL of HTTP without user, password and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpUrl(pub(crate) String);

impl Scalar for HttpUrl {
    const FORM: Form = Form {
        noun: "a URL",
        example: "https://example.com/alerts",
        pattern: "^https?://[^\\s@#/]+(/[^\\s#]*)?$",
    };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let Some(rest) = rest else {
            return Err(match (text.contains("://"), is_authority(before_path(text))) {
                (true, _) => Wrong::because("starts with neither http:// nor https://"),
                (false, true) if before_path(text).contains(':') => Wrong::write(format!("http://{text}")),
                (false, true) => Wrong::write(format!("https://{text}")),
                (false, false) => Wrong::form(),
            });
        };
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(Wrong::because("has characters that a URL must percent-encode"));
        }
        match is_authority(before_path(rest)) {
            true => Ok(Self(text.to_owned())),
            false => Err(Wrong::because("names no host, with a port from 1 to 65535 if any")),
        }
    }

    fn secret_help(text: &str) -> Option<&'static str> {
        has_password(text).then_some("send it in `headers`, as { Authorization = { env = \"NAME\" } }")
    }
}

fn before_path(rest: &str) -> &str {
    rest.split(['/', '?']).next().unwrap_or_default()
}

/// A host, perhaps with a port (RFC 3986 section 3.2, without user information).
pub(crate) fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, after)) if host.parse::<Ipv6Addr>().is_ok() => ("localhost", after),
            _ => return false,
        },
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port_is_good = match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => port.is_empty(),
    };
    port_is_good && (is_host(host) || host.parse::<Ipv4Addr>().is_ok())
}

/// Whether a URL carries user information, which is as good as a password.
fn has_password(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    before_path(rest).contains('@')
}

/// A URL, written or kept elsewhere because who knows it may use it.
#[derive(Clone, Debug)]
pub(crate) enum UrlSetting {
    Plain(HttpUrl),
    Kept(SecretSource),
}

impl Read for UrlSetting {
    fn shape() -> Shape {
        Shape::Either(vec![HttpUrl::shape(), SecretSource::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Table(_) => Some(Self::Kept(SecretSource::read(node, reader)?)),
            Value::Text(_) => Some(Self::Plain(HttpUrl::read(node, reader)?)),
            _ => reader.unexpected(node, "a URL, { file = \"…\" } or { env = \"…\" }", None),
        }
    }
}

impl UrlSetting {
    pub(crate) fn resolve(&self, origin: Origin, reader: &mut Reader<'_>) -> Option<EnvValue> {
        match self {
            Self::Plain(url) => Some(EnvValue::Plain(url.0.clone())),
            Self::Kept(source) => secret_url(source, origin, reader).map(EnvValue::Secret),
        }
    }
}

/// A secret that is a URL; what it holds instead is not shown.
pub(crate) fn secret_url(source: &SecretSource, origin: Origin, reader: &mut Reader<'_>) -> Option<Secret> {
    let secret = reader.secret(source, origin)?;
    match HttpUrl::parse(secret.reveal()) {
        Ok(_) => Some(secret),
        Err(_) => {
            let finding = Finding::new(origin, "this secret holds no URL");
            reader.refuse(finding.help("it must hold the URL alone, such as https://hooks.example.com/…"))
        }
    }
}

/// The value of a field of a request, written or kept elsewhere.
#[derive(Clone, Debug)]
enum FieldSetting {
    Plain(String),
    Kept(SecretSource),
}

impl Read for FieldSetting {
    fn shape() -> Shape {
        Shape::Either(vec![Words::shape(), SecretSource::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Table(_) => Some(Self::Kept(SecretSource::read(node, reader)?)),
            Value::Text(text) => {
                reader.hide(node);
                match is_field_value(text) {
                    true => Some(Self::Plain(text.clone())),
                    false => reader.refuse(Finding::new(node.origin, "no header may have this value")),
                }
            }
            _ => reader.unexpected(node, "a text, { file = \"…\" } or { env = \"…\" }", None),
        }
    }
}

/// A value that can be sent (RFC 9110 section 5.5), in ASCII.
fn is_field_value(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') && text.trim() == text
}

/// Fields of each request that Terrace makes.
#[derive(Clone, Debug)]
pub(crate) struct FieldsTable(BTreeMap<String, FieldSetting>);

/// Fields that hold a secret, whoever writes them.
const SECRET_FIELDS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-api-key"];
/// Fields that Terrace sets itself.
const OWN_FIELDS: [&str; 5] = ["host", "content-length", "content-type", "transfer-encoding", "connection"];

impl Read for FieldsTable {
    fn shape() -> Shape {
        Shape::Map { key: "HEADER", value: Box::new(FieldSetting::shape()), whole: false }
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        for (name, entry) in node.table().into_iter().flatten() {
            let lower = name.to_ascii_lowercase();
            if !is_token(name) {
                reader.report(Finding::new(entry.key, format!("{name:?} is no name of a header")));
            } else if OWN_FIELDS.contains(&lower.as_str()) {
                reader.report(Finding::new(entry.key, format!("Terrace sets `{name}` itself")));
            } else if SECRET_FIELDS.contains(&lower.as_str()) && entry.node.text().is_some() {
                reader.hide(&entry.node);
                let finding = Finding::new(entry.node.origin, "a secret is not written in this file");
                reader.report(finding.help("write { env = \"NAME\" } or { file = \"path\" }"));
            }
        }
        Some(Self(BTreeMap::read(node, reader)?))
    }
}

impl FieldsTable {
    /// `node`: the table as written, for the places of its secrets.
    pub(crate) fn resolve(
        &self,
        node: Option<&Node>,
        reader: &mut Reader<'_>,
    ) -> Option<BTreeMap<String, EnvValue>> {
        let mut fields = BTreeMap::new();
        for (name, setting) in &self.0 {
            let origin = node.map_or(Origin::BuiltIn, |node| node.origin_of(name));
            let value = match setting {
                FieldSetting::Plain(text) => Some(EnvValue::Plain(text.clone())),
                FieldSetting::Kept(source) => secret_field(source, origin, reader),
            };
            fields.extend(value.map(|value| (name.clone(), value)));
        }
        (fields.len() == self.0.len()).then_some(fields)
    }
}

fn secret_field(source: &SecretSource, origin: Origin, reader: &mut Reader<'_>) -> Option<EnvValue> {
    let secret = reader.secret(source, origin)?;
    if is_field_value(secret.reveal()) {
        return Some(EnvValue::Secret(secret));
    }
    reader.refuse(Finding::new(origin, "no header may have the value that this secret holds"))
}

/// A mail address (RFC 5321 section 4.1.2, without quoted names).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MailAddress(pub(crate) String);

impl Scalar for MailAddress {
    const FORM: Form =
        Form { noun: "a mail address", example: "ops@example.com", pattern: "^[^\\s@<>]+@[^\\s@<>]+$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        // `Operations <ops@example.com>` is how a mail program shows one.
        if let Some((_, rest)) = text.split_once('<')
            && let Some(inner) = rest.trim_end().strip_suffix('>')
            && is_mail_address(inner)
        {
            return Err(Wrong::write(inner));
        }
        match is_mail_address(text) {
            true => Ok(Self(text.to_owned())),
            false => Err(Wrong::form()),
        }
    }
}

fn is_mail_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let atom = |atom: &str| !atom.is_empty() && atom.bytes().all(is_atom_byte);
    local.len() <= 64 && local.split('.').all(atom) && is_host(domain)
}

/// `atext` of RFC 5322 section 3.2.3.
fn is_atom_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// A server that takes mail, with the port that its scheme implies where none is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MailServer {
    /// `smtp://host:25`.
    pub(crate) url: String,
    /// Whether nobody on the way can read what is sent: TLS, or the same machine.
    pub(crate) is_private: bool,
}

const MAIL_SCHEMES: [(&str, u16); 3] = [("smtps", 465), ("smtp+starttls", 587), ("smtp", 25)];

impl Scalar for MailServer {
    const FORM: Form = Form {
        noun: "a mail server",
        example: "smtps://mail.example.com:465",
        pattern: "^(smtps|smtp|smtp\\+starttls)://[^\\s@/]+$",
    };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let Some((scheme, authority)) = text.split_once("://") else {
            return Err(match is_authority(text) {
                true => Wrong::write(format!("smtps://{text}")),
                false => Wrong::form(),
            });
        };
        let authority = authority.trim_end_matches('/');
        let Some((_, port)) = MAIL_SCHEMES.iter().find(|(known, _)| *known == scheme) else {
            return Err(Wrong::because("starts with none of smtps://, smtp+starttls://, smtp://"));
        };
        if !is_authority(authority) {
            return Err(Wrong::because("names no host, with a port from 1 to 65535 if any"));
        }
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host,
            _ => authority,
        };
        let url = match host == authority {
            true => format!("{scheme}://{authority}:{port}"),
            false => format!("{scheme}://{authority}"),
        };
        let is_here = matches!(host, "localhost" | "[::1]")
            || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
        Ok(Self { url, is_private: scheme != "smtp" || is_here })
    }

    fn secret_help(text: &str) -> Option<&'static str> {
        has_password(text)
            .then_some("write `user`, and `password` as { env = \"NAME\" } or { file = \"path\" }")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_http_is_taken_and_nothing_else() {
        for good in [
            "http://collector:4318",
            "https://hooks.example.com/a/b?c=d",
            "http://[::1]:9/x",
            "http://127.0.0.1",
            "https://example.com/",
        ] {
            assert!(HttpUrl::parse(good).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "http://",
            "ftp://a",
            "http://a:0",
            "http://a:99999",
            "http://a b",
            "http://a/#b",
            "https://[::1",
        ] {
            assert!(HttpUrl::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(HttpUrl::parse("collector:4318"), Err(Wrong::write("http://collector:4318")));
    }

    #[test]
    fn a_mail_server_gets_the_port_of_its_scheme() {
        let url = |text| MailServer::parse(text).map(|server| server.url);
        assert_eq!(url("smtps://mail.example.com").as_deref(), Ok("smtps://mail.example.com:465"));
        assert_eq!(url("smtp+starttls://mail").as_deref(), Ok("smtp+starttls://mail:587"));
        assert_eq!(url("smtp://[::1]").as_deref(), Ok("smtp://[::1]:25"));
        assert_eq!(url("smtp://[::1]:2525/").as_deref(), Ok("smtp://[::1]:2525"));
        assert!(
            MailServer::parse("imap://mail").is_err() && MailServer::parse("smtp://user:pass@mail").is_err()
        );
        let is_private = |text| MailServer::parse(text).is_ok_and(|server| server.is_private);
        assert!(is_private("smtp://localhost:25") && is_private("smtps://a") && !is_private("smtp://a:25"));
        assert!(is_private("smtp://127.0.0.1") && !is_private("smtp://127.evil.example"));
    }

    #[test]
    fn a_mail_address_is_one_address_without_a_name() {
        for good in ["ops@example.com", "a.b+c@x.de", "root@localhost"] {
            assert!(MailAddress::parse(good).is_ok(), "{good}");
        }
        for wrong in ["ops", "@example.com", "a..b@c", "a@b@c", "a b@c", "a@", "x\r\n@y"] {
            assert!(MailAddress::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(MailAddress::parse("Ops <ops@example.com>"), Err(Wrong::write("ops@example.com")));
    }
}
