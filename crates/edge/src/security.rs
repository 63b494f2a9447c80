//! Fields that tell browsers to be careful: only HTTPS, no sniffing of types, no frames. What the app says itself wins: it
//! knows which of its pages is meant to be framed.

use std::time::Duration;

use terrace_http::{Known, RequestHead, ResponseHead};

/// What browsers are told, as the file says it; what is absent is not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityRules {
    /// `Strict-Transport-Security` (RFC 6797): so long the browser comes over HTTPS only.
    pub hsts: Option<Duration>,
    /// `X-Content-Type-Options: nosniff`.
    pub no_sniffing: bool,
    /// `X-Frame-Options`: `DENY` or `SAMEORIGIN`.
    pub frame: Option<String>,
    /// `Referrer-Policy`.
    pub referrer: Option<String>,
    /// `Content-Security-Policy`.
    pub content: Option<String>,
    /// `Permissions-Policy`.
    pub permissions: Option<String>,
}

/// What browsers are told, made ready.
#[derive(Debug, Clone, Default)]
pub struct Security {
    fields: Box<[Field]>,
    hsts: Option<Box<[u8]>>,
}

/// A field's name and what it says.
type Field = (&'static str, Box<[u8]>);

impl Security {
    /// These fields, where the app does not set them itself. A value with a character that no field holds is left out:
    /// the check of the file refuses it.
    #[must_use]
    pub fn new(rules: &SecurityRules) -> Self {
        let given = [
            ("x-content-type-options", rules.no_sniffing.then_some("nosniff")),
            ("x-frame-options", rules.frame.as_deref()),
            ("referrer-policy", rules.referrer.as_deref()),
            ("content-security-policy", rules.content.as_deref()),
            ("permissions-policy", rules.permissions.as_deref()),
        ];
        let is_fit = |value: &&str| value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let ready = |(name, value): (&'static str, Option<&str>)| {
            value.filter(is_fit).map(|value| (name, value.as_bytes().into()))
        };
        let hsts = rules.hsts.map(|lasts| format!("max-age={}", lasts.as_secs()).into_bytes().into());
        Self { fields: given.into_iter().filter_map(ready).collect(), hsts }
    }
}

/// Adds what the answer does not say itself. HSTS is for answers that came over TLS alone (RFC 6797 section 7.2), be it
/// that a trusted proxy in front ended it.
pub(crate) fn dress(security: &Security, is_tls: bool, request: &RequestHead, head: &mut ResponseHead) {
    for (name, value) in &security.fields {
        add_unless_there(head, name, value);
    }
    let Some(hsts) = &security.hsts else { return };
    // Only a trusted proxy can have set it: `client` takes it from everybody else.
    if is_tls || request.fields.get(Known::XForwardedProto) == Some(b"https") {
        add_unless_there(head, "strict-transport-security", hsts);
    }
}

fn add_unless_there(head: &mut ResponseHead, name: &str, value: &[u8]) {
    if head.fields.named(name.as_bytes()).is_none() {
        head.fields.append(name.as_bytes(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dressed(
        rules: &SecurityRules,
        is_tls: bool,
        proto: Option<&str>,
        said: &[(&str, &str)],
    ) -> Vec<String> {
        let (mut request, mut head) = (RequestHead::new(), ResponseHead::new(200));
        if let Some(proto) = proto {
            request.fields.append_known(Known::XForwardedProto, proto.as_bytes());
        }
        said.iter().for_each(|(name, value)| head.fields.append(name.as_bytes(), value.as_bytes()));
        dress(&Security::new(rules), is_tls, &request, &mut head);
        let line = |(name, value): (&[u8], &[u8])| {
            format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        };
        head.fields.iter().map(line).collect()
    }

    fn rules() -> SecurityRules {
        SecurityRules {
            hsts: Some(Duration::from_secs(86_400)),
            no_sniffing: true,
            frame: Some("DENY".to_owned()),
            ..SecurityRules::default()
        }
    }

    #[test]
    fn what_the_app_sets_wins() {
        let fields = dressed(&rules(), false, None, &[("X-FRAME-OPTIONS", "SAMEORIGIN")]);
        assert_eq!(fields, ["X-FRAME-OPTIONS: SAMEORIGIN", "x-content-type-options: nosniff"]);
    }

    #[test]
    fn rfc6797_7_2_hsts_is_said_over_tls_alone() {
        let has_hsts = |is_tls, proto| {
            let fields = dressed(&rules(), is_tls, proto, &[]);
            fields.contains(&"strict-transport-security: max-age=86400".to_owned())
        };
        assert!(!has_hsts(false, Some("http")) && !has_hsts(false, None));
        assert!(has_hsts(true, None));
        assert!(has_hsts(false, Some("https")), "a trusted proxy ended TLS");
    }

    #[test]
    fn a_value_cannot_begin_another_field() {
        let rules = SecurityRules { content: Some("a\r\nX: 1".to_owned()), ..SecurityRules::default() };
        assert!(dressed(&rules, true, None, &[]).is_empty());
    }
}
