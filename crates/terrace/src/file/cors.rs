//! The policies of what browsers are told (`cors`, `security-headers`) and of which clients are let in at all
//! (`addresses`).

use std::time::Duration;

use super::problem::Finding;
use super::read::{OneOrMany, Reader, Scalar, Switch, Toggle, Wrong, choice, table};
use super::spec::Form;
use super::tree::Node;
use super::values::{Method, Network, Token, is_host};

table! {
    /// What the app says about it itself is replaced.
    pub(crate) struct CorsTable {
        /// Origins whose pages may call, or `"*"` for all; `https://*.example.com` stands for every host below it, `null` for
        /// pages without an origin.
        "origins" origins: OneOrMany<OriginPattern>, example ["https://shop.example.com", "https://*.example.com"];
        /// Methods that they may use.
        "methods" methods: Vec<Method> = ["GET", "HEAD", "POST"];
        /// Headers that they may send beyond those that every page may.
        "headers" headers: Vec<Token>, example ["Authorization", "Content-Type"];
        /// Headers of the answer that they may read beyond those that every page may.
        "expose" expose: Vec<Token>, example ["X-Request-Id"];
        /// Whether the browser sends cookies and the like along.
        "credentials" credentials: bool = false;
        /// How long a browser may remember the answer before it asks again.
        "max-age" max_age: Duration = "10m", within "0s" to "1d";
    }
}

table! {
    /// What the app sets itself stays; `false` leaves one out.
    pub(crate) struct SecurityHeadersTable {
        /// `Strict-Transport-Security`: so long the browser comes over HTTPS only. It is sent over HTTPS only.
        "hsts" hsts: Switch<Duration> = "365d", within "0s" to "3650d";
        /// `X-Frame-Options`: who may show the page in a frame.
        "frame" frame: Switch<Frame> = "DENY";
        /// `X-Content-Type-Options: nosniff`: the browser takes the type as it is told.
        "content-type" content_type: bool = true;
        /// `Referrer-Policy`: what other sites learn of where the visitor came from.
        "referrer" referrer: Switch<Referrer> = "strict-origin-when-cross-origin";
        /// `Content-Security-Policy`.
        "csp" csp: Switch<FieldText> = false, example "default-src 'self'";
        /// `Permissions-Policy`.
        "permissions" permissions: Switch<FieldText> = false, example "camera=(), geolocation=()";
    }
}

table! {
    /// All others get 403. The address is the client's own, as `trusted-proxies` tell it.
    pub(crate) struct AddressesTable {
        /// Networks that are let in. Default: all.
        "allow" allow: Vec<Network>, example ["10.0.0.0/8"];
        /// Networks that are not, even where `allow` has them.
        "deny" deny: Vec<Network>, example ["10.0.0.66/32"];
    }
}

choice! {
    /// Who may show a page in a frame.
    pub enum Frame {
        /// Nobody.
        "DENY" Deny,
        /// Pages of the same origin.
        "SAMEORIGIN" SameOrigin,
    }
}

choice! {
    /// What other sites learn of where a visitor came from (Referrer Policy, W3C).
    pub enum Referrer {
        /// Nothing.
        "no-referrer" NoReferrer,
        /// The address, but never over plain HTTP after HTTPS.
        "no-referrer-when-downgrade" NoReferrerWhenDowngrade,
        /// The origin.
        "origin" Origin,
        /// The address on the same origin, else the origin.
        "origin-when-cross-origin" OriginWhenCrossOrigin,
        /// The address on the same origin, else nothing.
        "same-origin" SameOrigin,
        /// The origin, but never over plain HTTP after HTTPS.
        "strict-origin" StrictOrigin,
        /// The address on the same origin, else the origin, but never over plain HTTP after HTTPS.
        "strict-origin-when-cross-origin" StrictOriginWhenCrossOrigin,
        /// The address, always.
        "unsafe-url" UnsafeUrl,
    }
}

impl Referrer {
    /// As the field has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoReferrer => "no-referrer",
            Self::NoReferrerWhenDowngrade => "no-referrer-when-downgrade",
            Self::Origin => "origin",
            Self::OriginWhenCrossOrigin => "origin-when-cross-origin",
            Self::SameOrigin => "same-origin",
            Self::StrictOrigin => "strict-origin",
            Self::StrictOriginWhenCrossOrigin => "strict-origin-when-cross-origin",
            Self::UnsafeUrl => "unsafe-url",
        }
    }
}

/// The value of a header, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldText(String);

impl Scalar for FieldText {
    const FORM: Form =
        Form { noun: "the value of a header", example: "default-src 'self'", pattern: "^[ -~]+$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        match is_plain && !text.is_empty() && text.trim() == text {
            true => Ok(Self(text.to_owned())),
            false => Err(Wrong::form()),
        }
    }
}

/// Origins of pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// Every origin.
    Any,
    /// This one: `https://shop.example.com`.
    Exact(String),
    /// Every host below a domain: `https://` and `.example.com`, port included.
    Below {
        /// With `://`.
        scheme: String,
        /// With its first dot.
        suffix: String,
    },
}

impl Scalar for OriginPattern {
    const FORM: Form = Form {
        noun: "an origin",
        example: "https://shop.example.com",
        pattern: "^(\\*|null|[a-z][a-z0-9+.-]*://[^/\\s]+)$",
    };

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if text == "null" {
            // What browsers say of a page without an origin, such as a file or a frame in a sandbox.
            return Ok(Self::Exact(text.to_owned()));
        }
        let Some((scheme, host)) = text.split_once("://") else {
            return Err(match text.contains('.') && is_host(text.strip_prefix("*.").unwrap_or(text)) {
                true => Wrong::write(format!("https://{text}")),
                false => Wrong::form(),
            });
        };
        if let Some((host, _)) = host.split_once('/') {
            return Err(Wrong::write(format!("{scheme}://{host}")));
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(Wrong::write(text.to_ascii_lowercase()));
        }
        let is_known =
            !scheme.is_empty() && !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
        match (is_known, host.strip_prefix("*.")) {
            (true, Some(domain)) if !domain.contains('*') => {
                Ok(Self::Below { scheme: format!("{scheme}://"), suffix: format!(".{domain}") })
            }
            (true, None) if !host.contains('*') => Ok(Self::Exact(text.to_owned())),
            (true, _) => Err(Wrong::because("has a `*` elsewhere than for the first part of the host")),
            (false, _) => Err(Wrong::form()),
        }
    }
}

/// Which other websites' pages may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Never empty.
    pub origins: Vec<OriginPattern>,
    /// Methods that they may use.
    pub methods: Vec<String>,
    /// Headers that they may send.
    pub headers: Vec<String>,
    /// Headers that they may read.
    pub expose: Vec<String>,
    /// Whether cookies and the like come along; then no origin is [`OriginPattern::Any`].
    pub credentials: bool,
    /// How long a browser may remember it.
    pub max_age: Duration,
}

/// Headers that make browsers careful; `None` and `false`: not that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityHeaders {
    /// So long over HTTPS only.
    pub hsts: Option<Duration>,
    /// Who may show the page in a frame.
    pub frame: Option<Frame>,
    /// Whether the type is taken as told.
    pub content_type: bool,
    /// What other sites learn.
    pub referrer: Option<Referrer>,
    /// `Content-Security-Policy`.
    pub csp: Option<String>,
    /// `Permissions-Policy`.
    pub permissions: Option<String>,
}

/// Which clients are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Empty: all.
    pub allow: Vec<Network>,
    /// Wins over `allow`.
    pub deny: Vec<Network>,
}

/// `cors` in `policies`, if it is on.
pub(crate) fn resolve(
    switch: Switch<CorsTable>,
    policies: &Node,
    reader: &mut Reader<'_>,
) -> Option<Option<Cors>> {
    let (Switch::On(table), Some(node)) = (switch, policies.get("cors")) else { return Some(None) };
    check_credentials(&table, node, reader)?;
    let names = |names: Vec<Token>| names.into_iter().map(|name| name.0).collect();
    Some(Some(Cors {
        origins: table.origins.0,
        methods: table.methods.into_iter().map(|method| method.0).collect(),
        headers: names(table.headers),
        expose: names(table.expose),
        credentials: table.credentials,
        max_age: table.max_age,
    }))
}

/// With credentials `*` does not mean all (Fetch, section 3.2.5), and saying it by echoing every origin would hand every
/// visitor's session to every website.
fn check_credentials(table: &CorsTable, node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    let has_star = |names: &[Token]| names.iter().any(|name| name.0 == "*");
    let stars = [
        ("origins", table.origins.0.contains(&OriginPattern::Any)),
        ("methods", table.methods.iter().any(|method| method.0 == "*")),
        ("headers", has_star(&table.headers)),
        ("expose", has_star(&table.expose)),
    ];
    let Some((key, _)) = stars.into_iter().find(|(_, has_star)| *has_star && table.credentials) else {
        return Some(());
    };
    let finding = Finding::new(node.origin_of(key), format!("with `credentials`, `{key}` cannot be \"*\""));
    let finding = finding.help("name those that are meant");
    reader.refuse(finding.other(node.key_origin_of("credentials"), "here"))
}

pub(crate) fn resolve_security_headers(toggle: Toggle<SecurityHeadersTable>) -> Option<SecurityHeaders> {
    let table = toggle.on()?;
    let text = |switch: Switch<FieldText>| switch.on().map(|text| text.0);
    Some(SecurityHeaders {
        hsts: table.hsts.on(),
        frame: table.frame.on(),
        content_type: table.content_type,
        referrer: table.referrer.on(),
        csp: text(table.csp),
        permissions: text(table.permissions),
    })
}

/// `addresses` in `policies`, if it is on.
pub(crate) fn resolve_addresses(
    switch: Switch<AddressesTable>,
    policies: &Node,
    reader: &mut Reader<'_>,
) -> Option<Option<Addresses>> {
    let (Switch::On(table), Some(node)) = (switch, policies.get("addresses")) else { return Some(None) };
    if table.allow.is_empty() && table.deny.is_empty() {
        let finding = Finding::new(node.origin, "these `addresses` name none");
        return reader.refuse(finding.help("add `allow` or `deny`; `false` lets everybody in"));
    }
    Some(Some(Addresses { allow: table.allow, deny: table.deny }))
}
