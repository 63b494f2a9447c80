//! Proof by a client's certificate: the names that an authority vouches for.
//!
//! The handshake has shown by then that the authority is ours and that the client holds the key; what is left is to read who
//! it is. That stands in the subject alternative names (RFC 5280 section 4.2.1.6): DNS names, URIs such as SPIFFE ids, mail
//! addresses. The common name is not looked at: it says nothing of what kind of name it is.
//!
//! Only that much of DER is read here as leads to the names: a walk past fields of known order, each with its length. A
//! certificate is read once a connection, and who it stands for is put together then, so that a request on it costs a
//! comparison of names.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ring::digest;
use serde_json::{Map, Value, json};

use crate::cache::{Generation, Keep};
use crate::gate::{Asked, Checked, Fresh, Moment};
use crate::identity::{Identity, Method};
use crate::proof::{NoProof, Proof};
use crate::refusal::{Refused, Why};

/// Names of one certificate; what has more is refused, since nobody can oversee it.
const NAMES_MAX: usize = 64;
/// The longest name.
const NAME_BYTES_MAX: usize = 1024;
/// A gate holds a certificate against its names anew after that time.
const REMEMBERED: Duration = Duration::from_secs(300);

/// 2.5.29.17, id-ce-subjectAltName.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

const INTEGER: u8 = 0x02;
const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const RFC822_NAME: u8 = 0x81;
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;

/// Why a certificate says nobody. Whoever issued it has to issue another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not a certificate as RFC 5280 has it.
    #[error("it is no X.509 certificate in DER")]
    Malformed,
    /// Too many, or too long.
    #[error("it bears more than {NAMES_MAX} names, or one longer than {NAME_BYTES_MAX} bytes")]
    TooLarge,
}

/// A client's certificate, read.
#[derive(Clone, PartialEq)]
pub struct ClientCertificate {
    /// SHA-256 of the whole of it.
    fingerprint: [u8; digest::SHA256_OUTPUT_LEN],
    /// In order of preference: URIs, DNS names, mail addresses.
    names: Vec<(Name, Arc<Identity>)>,
}

/// A name, by its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Uri(String),
    Dns(String),
    Email(String),
}

/// Which names are let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamePattern {
    /// Any name that the authority vouches for.
    Any,
    /// A DNS name; `*.` in front stands for one label.
    Dns(String),
    /// A URI with an authority, or a URN; `*` at the end, after a `/`, stands for whatever follows.
    Uri(String),
    /// A mail address; `*@` in front stands for anybody there.
    Email(String),
}

/// The text is no pattern; the file's to put right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no pattern of names; write a DNS name (api.example.com, *.svc.example.com), a URI \
     (spiffe://example.com/web, spiffe://example.com/ns/shop/*) or a mail address (*@example.com)"
)]
pub struct NotANamePattern(pub String);

/// The certificate of the request's connection.
pub(crate) fn find<'a>(asked: &Asked<'a>) -> Result<Proof<'a>, NoProof> {
    match asked.certificate {
        Some(certificate) => Ok(Proof::Sealed(&certificate.fingerprint)),
        None => Err(NoProof::Absent),
    }
}

/// Who it stands for. The handshake has checked it; here it is held against the names that are let in, and against the time,
/// since a connection may outlive its certificate.
pub(crate) fn check(asked: &Asked<'_>, patterns: &[NamePattern], at: Moment) -> Checked {
    let identity = asked.certificate.and_then(|certificate| certificate.identity(patterns));
    match identity {
        Some(identity) if identity.expires.is_some_and(|expires| expires <= at.wall) => Checked::Refused(
            Refused::new(Why::Expired, "the certificate has expired", identity.subject.as_str()),
        ),
        Some(identity) => {
            let until = identity.expires.unwrap_or(Duration::MAX).min(at.wall + REMEMBERED);
            let keep = Keep { until, since: Generation::default().now() };
            Checked::Known(Fresh::new((**identity).clone(), Some(keep)))
        }
        None => Checked::Refused(Refused::new(
            Why::Forbidden,
            "the certificate bears none of the names that may pass",
            asked.certificate.map_or_else(String::new, |certificate| format!("{certificate:?}")),
        )),
    }
}

impl NamePattern {
    /// Reads `api.example.com`, `*.svc.example.com`, `spiffe://example.com/web`, `spiffe://example.com/ns/*`,
    /// `ann@example.com` or `*@example.com`.
    ///
    /// # Errors
    /// [`NotANamePattern`] for anything else: above all for a star that would let in more than it seems to.
    pub fn parse(text: &str) -> Result<Self, NotANamePattern> {
        let is_plain = text.len() <= NAME_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        let parsed = match text {
            _ if text.is_empty() || !is_plain => None,
            _ if is_uri(text) => uri_pattern(text),
            _ if text.contains('@') => email_pattern(text),
            _ => dns_pattern(text),
        };
        parsed.ok_or_else(|| NotANamePattern(text.to_owned()))
    }

    fn matches(&self, name: &Name) -> bool {
        match (self, name) {
            (Self::Any, _) => true,
            (Self::Dns(pattern), Name::Dns(name)) => match pattern.strip_prefix('*') {
                // One label, as in certificates themselves (RFC 9525 section 6.3).
                Some(suffix) => name.find('.').is_some_and(|dot| dot > 0 && name[dot..] == *suffix),
                None => name == pattern,
            },
            (Self::Uri(pattern), Name::Uri(name)) => match pattern.strip_suffix('*') {
                Some(prefix) => name.len() > prefix.len() && name.starts_with(prefix),
                None => name == pattern,
            },
            (Self::Email(pattern), Name::Email(name)) => match pattern.strip_prefix('*') {
                Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
                None => name == pattern,
            },
            _ => false,
        }
    }
}

/// The authority stands there whole: `spiffe://*` would be everybody's.
fn uri_pattern(text: &str) -> Option<NamePattern> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("urn", text));
    let fixed = rest.strip_suffix("/*").unwrap_or(rest);
    let is_whole = !scheme.is_empty() && !fixed.is_empty() && !fixed.starts_with('/');
    (is_whole && !text[..text.len() - 1].contains('*') && !fixed.contains('*'))
        .then(|| NamePattern::Uri(text.to_owned()))
}

/// The host stands there whole.
fn email_pattern(text: &str) -> Option<NamePattern> {
    let (user, host) = text.split_once('@')?;
    let is_whole = !user.is_empty() && !host.is_empty() && host.bytes().all(is_of_host);
    (is_whole && (user == "*" || !user.contains('*'))).then(|| NamePattern::Email(lower_host(text)))
}

/// A star stands for one label in front of at least two.
fn dns_pattern(text: &str) -> Option<NamePattern> {
    let (fixed, labels_min) = text.strip_prefix("*.").map_or((text, 1), |fixed| (fixed, 2));
    let is_name = fixed.bytes().all(is_of_host)
        && fixed.split('.').filter(|label| !label.is_empty()).count() >= labels_min;
    is_name.then(|| NamePattern::Dns(text.to_ascii_lowercase()))
}

impl ClientCertificate {
    /// Reads a certificate that a handshake has verified.
    ///
    /// # Errors
    /// [`CertificateError`] when it is none, or has more names than can be overseen.
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let read = read(der)?;
        let fingerprint = digest::digest(&digest::SHA256, der);
        let fingerprint: [u8; 32] = fingerprint.as_ref().try_into().expect("invariant: SHA-256 has 32 bytes");
        let claims = claims(&read, &fingerprint);
        let identity = |name: Name| {
            let mut identity = Identity::new(Method::Certificate, "client-certificates", name.text());
            identity.claims.clone_from(&claims);
            identity.expires = read.not_after;
            (name, Arc::new(identity))
        };
        let names = read.names.iter().cloned().map(identity).collect();
        Ok(Self { fingerprint, names })
    }

    /// Who it stands for where these names are let in: the first that fits, URIs before DNS names before mail addresses.
    #[must_use]
    pub fn identity(&self, patterns: &[NamePattern]) -> Option<&Arc<Identity>> {
        let fits = |name: &Name| patterns.iter().any(|pattern| pattern.matches(name));
        self.names.iter().find(|(name, _)| fits(name)).map(|(_, identity)| identity)
    }

    /// SHA-256 of the whole certificate.
    #[must_use]
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names.iter().map(|(name, _)| name.text()).collect();
        formatter.debug_struct("ClientCertificate").field("names", &names).finish_non_exhaustive()
    }
}

impl Name {
    fn text(&self) -> &str {
        match self {
            Self::Uri(text) | Self::Dns(text) | Self::Email(text) => text,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Uri(_) => 0,
            Self::Dns(_) => 1,
            Self::Email(_) => 2,
        }
    }
}

/// Hosts do not tell cases apart; what stands before the `@` may (RFC 5321 section 2.4).
fn lower_host(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((user, host)) => format!("{user}@{}", host.to_ascii_lowercase()),
        None => address.to_owned(),
    }
}

fn claims(read: &Read, fingerprint: &[u8]) -> Map<String, Value> {
    let of = |rank: u8| -> Vec<&str> {
        read.names.iter().filter(|name| name.rank() == rank).map(Name::text).collect()
    };
    let mut claims = Map::new();
    claims.insert("san".to_owned(), json!({ "uri": of(0), "dns": of(1), "email": of(2) }));
    claims.insert("fingerprint".to_owned(), json!(data_encoding::HEXLOWER.encode(fingerprint)));
    claims.insert("serial".to_owned(), json!(data_encoding::HEXLOWER.encode(&read.serial)));
    claims
}

/// What is taken out of a certificate.
struct Read {
    serial: Vec<u8>,
    not_after: Option<Duration>,
    names: Vec<Name>,
}

/// RFC 5280 section 4.1: the fields of TBSCertificate in their order.
fn read(der: &[u8]) -> Result<Read, CertificateError> {
    let mut outer = Der(der);
    let mut certificate = Der(outer.expect(SEQUENCE)?);
    if !outer.0.is_empty() {
        return Err(CertificateError::Malformed);
    }
    let mut fields = Der(certificate.expect(SEQUENCE)?);
    fields.optional(VERSION)?;
    let serial = fields.expect(INTEGER)?;
    let _signature = fields.expect(SEQUENCE)?;
    let _issuer = fields.expect(SEQUENCE)?;
    let mut validity = Der(fields.expect(SEQUENCE)?);
    let _subject = fields.expect(SEQUENCE)?;
    let _key = fields.expect(SEQUENCE)?;
    let _not_before = validity.next()?;
    let (kind, not_after) = validity.next()?;
    let mut names = Vec::new();
    while !fields.0.is_empty() {
        let (tag, value) = fields.next()?;
        if tag == EXTENSIONS {
            names = subject_alt_names(value)?;
        }
    }
    names.sort_by_key(Name::rank);
    let serial = serial.get(..serial.len().min(NAMES_MAX)).unwrap_or_default().to_vec();
    Ok(Read { serial, not_after: time(kind, not_after), names })
}

/// Those of the one extension that has them; RFC 5280 section 4.2 forbids a second.
fn subject_alt_names(extensions: &[u8]) -> Result<Vec<Name>, CertificateError> {
    let mut all = Der(Der(extensions).expect(SEQUENCE)?);
    let mut found = None;
    while !all.0.is_empty() {
        let mut extension = Der(all.expect(SEQUENCE)?);
        let id = extension.expect(OBJECT_ID)?;
        extension.optional(BOOLEAN)?;
        let value = extension.expect(OCTET_STRING)?;
        if id == SUBJECT_ALT_NAME && found.replace(value).is_some() {
            return Err(CertificateError::Malformed);
        }
    }
    let Some(value) = found else { return Ok(Vec::new()) };
    let mut general = Der(Der(value).expect(SEQUENCE)?);
    let mut names = Vec::new();
    while !general.0.is_empty() {
        let (tag, value) = general.next()?;
        if names.len() >= NAMES_MAX || value.len() > NAME_BYTES_MAX {
            return Err(CertificateError::TooLarge);
        }
        names.extend(name(tag, value));
    }
    Ok(names)
}

/// A name that is text as its kind of name is; what is not (a zero byte, a blank, letters beyond ASCII) was made to be
/// taken for something else.
fn name(tag: u8, value: &[u8]) -> Option<Name> {
    let text = std::str::from_utf8(value).ok()?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    match tag {
        URI if is_uri(text) => Some(Name::Uri(text.to_owned())),
        // No star: a client is one host, not all of them.
        DNS_NAME if text.bytes().all(is_of_host) => Some(Name::Dns(text.to_ascii_lowercase())),
        RFC822_NAME if text.contains('@') && !is_uri(text) => Some(Name::Email(lower_host(text))),
        _ => None,
    }
}

fn is_uri(text: &str) -> bool {
    text.contains("://") || text.starts_with("urn:")
}

fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

/// RFC 5280 section 4.1.2.5: `YYMMDDHHMMSSZ` until 2049, `YYYYMMDDHHMMSSZ` from then on. Since 1970; nothing for what is
/// not so.
fn time(tag: u8, value: &[u8]) -> Option<Duration> {
    let digits = value.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let number =
        |digits: &[u8]| digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(&digits[..2]);
            (year + if year < 50 { 2000 } else { 1900 }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let parts: Vec<u64> = rest.chunks(2).map(number).collect();
    let [month @ 1..=12, day @ 1..=31, hour @ 0..24, minute @ 0..60, second @ 0..=60] = parts[..] else {
        return None;
    };
    let seconds =
        days_since_1970(year, month, day)?.checked_mul(86_400)? + hour * 3_600 + minute * 60 + second;
    Some(Duration::from_secs(seconds))
}

/// Howard Hinnant's `days_from_civil`, for years from 1970 on.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    days.checked_sub(719_468)
}

/// DER (X.690), as far as certificates need it: tags of one byte, lengths in their shortest form.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next tag and its value.
    fn next(&mut self) -> Result<(u8, &'a [u8]), CertificateError> {
        let malformed = CertificateError::Malformed;
        let [tag, first, rest @ ..] = self.0 else { return Err(malformed) };
        if tag & 0x1f == 0x1f {
            return Err(malformed);
        }
        let (bytes, rest) = match (first, rest) {
            (0..=0x7f, rest) => (usize::from(*first), rest),
            (0x81, [low @ 0x80..=0xff, rest @ ..]) => (usize::from(*low), rest),
            (0x82, [high @ 1..=0xff, low, rest @ ..]) => (usize::from(*high) << 8 | usize::from(*low), rest),
            (0x83, [high @ 1..=0xff, middle, low, rest @ ..]) => {
                (usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low), rest)
            }
            _ => return Err(malformed),
        };
        let (value, rest) = rest.split_at_checked(bytes).ok_or(malformed)?;
        self.0 = rest;
        Ok((*tag, value))
    }

    fn expect(&mut self, tag: u8) -> Result<&'a [u8], CertificateError> {
        match self.next()? {
            (found, value) if found == tag => Ok(value),
            _ => Err(CertificateError::Malformed),
        }
    }

    /// Passes over a value when it is there.
    fn optional(&mut self, tag: u8) -> Result<(), CertificateError> {
        if self.0.first() == Some(&tag) {
            self.next()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn made(sans: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = sans;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2030, 2, 28);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().expect("a name"))
    }

    fn uri(name: &str) -> SanType {
        SanType::URI(name.try_into().expect("a name"))
    }

    fn email(name: &str) -> SanType {
        SanType::Rfc822Name(name.try_into().expect("a name"))
    }

    fn patterns(texts: &[&str]) -> Vec<NamePattern> {
        texts.iter().map(|text| NamePattern::parse(text).expect("a pattern")).collect()
    }

    fn subject(certificate: &ClientCertificate, texts: &[&str]) -> Option<String> {
        certificate.identity(&patterns(texts)).map(|identity| identity.subject.clone())
    }

    #[test]
    fn rfc5280_4_2_1_6_the_names_of_a_certificate_say_who_it_is() {
        let sans = vec![
            email("Ann@Example.COM"),
            dns("Web.svc.example.com"),
            uri("spiffe://example.com/ns/shop/sa/web"),
            SanType::IpAddress("192.0.2.1".parse().expect("an address")),
        ];
        let der = made(sans);
        let certificate = ClientCertificate::read(&der).expect("read");
        let any = certificate.identity(&[NamePattern::Any]).expect("somebody");
        assert_eq!(any.subject, "spiffe://example.com/ns/shop/sa/web", "URIs come first");
        assert_eq!(any.method, Method::Certificate);
        assert_eq!(any.claim_text("san.dns").as_deref(), Some("web.svc.example.com"));
        assert_eq!(any.claim_text("san.email").as_deref(), Some("Ann@example.com"));
        // 2030-02-28T00:00:00Z
        assert_eq!(any.expires, Some(Duration::from_secs(1_898_467_200)));
        let hash = data_encoding::HEXLOWER.encode(digest::digest(&digest::SHA256, &der).as_ref());
        assert_eq!(any.claim_text("fingerprint").as_deref(), Some(hash.as_str()));
        let found = |texts: &[&str]| subject(&certificate, texts);
        assert_eq!(found(&["*.svc.example.com"]).as_deref(), Some("web.svc.example.com"));
        assert_eq!(found(&["WEB.SVC.example.com"]).as_deref(), Some("web.svc.example.com"));
        assert_eq!(found(&["spiffe://example.com/ns/shop/*"]).as_deref(), Some(any.subject.as_str()));
        assert_eq!(found(&["*@example.com"]).as_deref(), Some("Ann@example.com"));
        for texts in [
            &["*.example.com"][..],
            &["svc.example.com"],
            &["spiffe://example.com/ns/other/*"],
            &["spiffe://example.com/ns/shop"],
            &["bob@example.com", "*@other.com", "ann@example.com"],
            &["192.0.2.1"],
        ] {
            assert_eq!(found(texts), None, "{texts:?}");
        }
    }

    #[test]
    fn a_certificate_without_names_is_nobody() {
        let certificate = ClientCertificate::read(&made(Vec::new())).expect("read");
        assert!(certificate.identity(&[NamePattern::Any]).is_none());
    }

    #[test]
    fn a_star_lets_in_no_more_than_it_seems_to() {
        for wrong in [
            "",
            "*",
            "*.",
            "*.com",
            "a.*.com",
            "*a.com",
            "**.example.com",
            "spiffe://*",
            "spiffe:///x",
            "://x/",
            "spiffe://ex*/x",
            "spiffe://example.com/a*",
            "spiffe://example.com/*/b",
            "*@*",
            "a*@example.com",
            "@",
            "a@b@c",
            "a b",
            "http:/x",
            "ä.example.com",
        ] {
            assert!(NamePattern::parse(wrong).is_err(), "{wrong:?}");
        }
        let certificate = |sans| ClientCertificate::read(&made(sans)).expect("read");
        let near = certificate(vec![
            dns("evilexample.com"),
            dns("a.b.example.com"),
            uri("spiffe://example.com.evil/x"),
        ]);
        for text in ["example.com", "*.example.com", "spiffe://example.com/*"] {
            assert_eq!(subject(&near, &[text]), None, "{text}");
        }
        let prefix = certificate(vec![uri("spiffe://example.com/ns/")]);
        assert_eq!(subject(&prefix, &["spiffe://example.com/ns/*"]), None, "something must follow");
        let wild = certificate(vec![dns("*.example.com")]);
        assert!(wild.identity(&[NamePattern::Any]).is_none(), "a client is one host, not all of them");
    }

    #[test]
    fn a_name_that_was_made_to_look_like_another_is_none() {
        for (tag, value) in [
            (DNS_NAME, &b"api.example.com\0.evil.test"[..]),
            (DNS_NAME, b"api.example.com "),
            (URI, "spiffe://ex\u{e4}mple.com/x".as_bytes()),
            (RFC822_NAME, b"no address"),
            (RFC822_NAME, b"nobody"),
            (DNS_NAME, b"spiffe://example.com/web"),
            (DNS_NAME, b"ann@example.com"),
            (DNS_NAME, b"*.example.com"),
            (RFC822_NAME, b"spiffe://ann@example.com"),
            (URI, b"ann@example.com"),
            (DNS_NAME, b""),
        ] {
            assert_eq!(name(tag, value), None);
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |tag, text: &str| time(tag, text.as_bytes()).map(|time| time.as_secs());
        assert_eq!(at(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(at(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(at(GENERALIZED_TIME, "20000229120000Z"), Some(951_825_600));
        assert_eq!(at(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        for wrong in
            ["", "Z", "7001010000Z", "701301000000Z", "700132000000Z", "7001012400-0Z", "500101000000Z"]
        {
            assert_eq!(at(UTC_TIME, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let whole = made(vec![dns("a.example.com")]);
        assert!((0..whole.len()).all(|end| ClientCertificate::read(&whole[..end]).is_err()));
        let mut longer = whole.clone();
        longer.push(0);
        assert!(ClientCertificate::read(&longer).is_err());
        let many = (0..=NAMES_MAX).map(|number| dns(&format!("n{number}.example.com"))).collect();
        assert_eq!(ClientCertificate::read(&made(many)), Err(CertificateError::TooLarge));
    }
}
