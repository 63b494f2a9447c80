//! A token as it comes (RFC 7515 section 7.1): header, payload and signature, each in base64url, joined by dots.

use serde_json::Value;

use super::algorithm::Algorithm;
use super::{base64, json};

/// A longer token is none.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 << 10;
const HEADER_BYTES_MAX: usize = 8 << 10;
const KID_BYTES_MAX: usize = 512;
const HEADER_BOUNDS: json::Bounds = json::Bounds { depth_max: 4, values_max: 64 };

/// Why a token is none; the client's to put right. The texts are for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CompactError {
    Parts,
    Encrypted,
    TooLong,
    Base64,
    Header,
    Algorithm,
    Critical,
    Kid,
    Kind,
}

impl CompactError {
    /// What the client is told.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Parts => "the token is not one of three parts",
            Self::Encrypted => "encrypted tokens are not taken",
            Self::TooLong => "the token is too long",
            Self::Base64 => "the token is not in base64url",
            Self::Header => "the token's header is no JSON object with each name once",
            Self::Algorithm => "the token names no algorithm that is taken",
            Self::Critical => "the token needs an extension that is not known",
            Self::Kid => "the token's kid is not usable",
            Self::Kind => "the token is of another kind",
        }
    }
}

/// A token, none of which is known to be true yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compact<'a> {
    pub(crate) algorithm: Algorithm,
    /// Which key it says it was signed with.
    pub(crate) kid: Option<String>,
    /// What was signed.
    pub(crate) signed: &'a [u8],
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

/// Whether a credential looks like a signed token, so that it is checked as one and not taken for an opaque one.
pub(crate) fn is_compact(credential: &[u8]) -> bool {
    credential.iter().filter(|byte| **byte == b'.').count() == 2 && credential.starts_with(b"eyJ")
}

impl<'a> Compact<'a> {
    /// Reads a token, and believes nothing of it.
    pub(crate) fn parse(token: &'a [u8]) -> Result<Self, CompactError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(CompactError::TooLong);
        }
        let mut dots = token.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
        let (Some(first), Some(second)) = (dots.next(), dots.next()) else { return Err(CompactError::Parts) };
        match dots.count() {
            0 => {}
            2 => return Err(CompactError::Encrypted),
            _ => return Err(CompactError::Parts),
        }
        let (header, payload, signature) = (&token[..first], &token[first + 1..second], &token[second + 1..]);
        let (algorithm, kid) = read_header(header)?;
        Ok(Self {
            algorithm,
            kid,
            signed: &token[..second],
            payload: base64::decode(payload).ok_or(CompactError::Base64)?,
            signature: base64::decode(signature).ok_or(CompactError::Base64)?,
        })
    }
}

/// Which algorithm and which key. `jwk`, `jku`, `x5u`, `x5c` and `x5t` are not looked at: where keys come from is not the
/// token's to say (RFC 8725 section 3.10).
fn read_header(text: &[u8]) -> Result<(Algorithm, Option<String>), CompactError> {
    if text.len() > HEADER_BYTES_MAX {
        return Err(CompactError::TooLong);
    }
    let text = base64::decode(text).ok_or(CompactError::Base64)?;
    let header = json::object(&text, HEADER_BOUNDS).ok_or(CompactError::Header)?;
    // We know no extension, so that whichever a token needs is one too many (RFC 7515 section 4.1.11). `b64` (RFC 7797) and
    // `zip` change what was signed; a token that has them without saying so is meant for a careless reader.
    if ["crit", "b64", "zip", "enc"].iter().any(|name| header.contains_key(*name)) {
        return Err(CompactError::Critical);
    }
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.clone()),
        Some(_) => return Err(CompactError::Kid),
    };
    match header.get("typ") {
        None => {}
        Some(Value::String(kind)) if !is_other_kind(kind) => {}
        Some(_) => return Err(CompactError::Kind),
    }
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::parse);
    Ok((algorithm.ok_or(CompactError::Algorithm)?, kid))
}

/// Whether it is a token that proves something else than who is asking (RFC 8725 section 3.11): a logout, an event, a proof of
/// possession. Plain tokens and access tokens (RFC 9068) are no other kind, nor is what somebody made up without `+jwt`.
fn is_other_kind(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    let kind = kind.strip_prefix("application/").unwrap_or(&kind);
    kind.ends_with("+jwt") && kind != "at+jwt"
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64URL_NOPAD;

    fn token(header: &str) -> String {
        format!("{}.e30.AAAA", BASE64URL_NOPAD.encode(header.as_bytes()))
    }

    fn error(header: &str) -> Option<CompactError> {
        Compact::parse(token(header).as_bytes()).err()
    }

    #[test]
    fn rfc7515_7_1_a_token_is_three_parts() {
        assert_eq!(error(r#"{"alg":"HS256"}"#), None);
        for text in ["", ".", "a", "a.b", "a.b.c.d", "eyJhbGciOiJIUzI1NiJ9.e30"] {
            assert_eq!(Compact::parse(text.as_bytes()), Err(CompactError::Parts), "{text}");
        }
        assert_eq!(Compact::parse(b"a.b.c.d.e"), Err(CompactError::Encrypted));
        let long = format!("{}.{}.AAAA", "a".repeat(100), "a".repeat(TOKEN_BYTES_MAX));
        assert_eq!(Compact::parse(long.as_bytes()), Err(CompactError::TooLong));
        let header = format!(r#"{{"alg":"HS256","x5c":["{}"]}}"#, "A".repeat(HEADER_BYTES_MAX));
        assert_eq!(error(&header), Some(CompactError::TooLong));
        for (at, text) in [
            "=eyJhbGciOiJIUzI1NiJ9.e30.AAAA",
            "eyJhbGciOiJIUzI1NiJ9.e3.AAAA",
            "eyJhbGciOiJIUzI1NiJ9.e30.AA==",
        ]
        .iter()
        .enumerate()
        {
            assert_eq!(Compact::parse(text.as_bytes()), Err(CompactError::Base64), "{at}");
        }
    }

    #[test]
    fn rfc7515_4_1_11_no_extension_is_known() {
        for member in [
            r#""crit":["exp"]"#,
            r#""crit":[]"#,
            r#""b64":false"#,
            r#""b64":true"#,
            r#""zip":"DEF""#,
            r#""enc":"A128GCM""#,
        ] {
            assert_eq!(
                error(&format!(r#"{{"alg":"HS256",{member}}}"#)),
                Some(CompactError::Critical),
                "{member}"
            );
        }
    }

    #[test]
    fn no_algorithm_is_no_token() {
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":"nOnE"}"#,
            "{}",
            r#"{"alg":null}"#,
            r#"{"alg":["HS256"]}"#,
            r#"{"alg":""}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"Alg":"HS256"}"#,
        ] {
            assert_eq!(error(header), Some(CompactError::Algorithm), "{header}");
        }
        for header in [r#"{"alg":"none","alg":"HS256"}"#, "[]", "", "{", "{\"alg\":\"HS256\"}x"] {
            assert_eq!(error(header), Some(CompactError::Header), "{header}");
        }
    }

    #[test]
    fn a_kid_is_text_of_bounded_length_and_nothing_is_done_with_it() {
        for kid in
            ["../../../../dev/null", "' OR 1=1 --", "http://evil.example/keys", "|/bin/sh", "\\u0000", ""]
        {
            assert_eq!(error(&format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#)), None, "{kid}");
        }
        for kid in ["1", "null", "[\"a\"]", "{}", &format!("\"{}\"", "k".repeat(KID_BYTES_MAX + 1))] {
            assert_eq!(error(&format!(r#"{{"alg":"HS256","kid":{kid}}}"#)), Some(CompactError::Kid), "{kid}");
        }
    }

    #[test]
    fn rfc8725_3_11_a_token_of_another_kind_proves_nothing() {
        for kind in ["JWT", "jwt", "at+jwt", "application/AT+JWT", "JOSE", "JWS"] {
            assert_eq!(error(&format!(r#"{{"alg":"HS256","typ":"{kind}"}}"#)), None, "{kind}");
        }
        for kind in ["logout+jwt", "application/secevent+jwt", "dpop+jwt", "DPoP+JWT"] {
            assert_eq!(
                error(&format!(r#"{{"alg":"HS256","typ":"{kind}"}}"#)),
                Some(CompactError::Kind),
                "{kind}"
            );
        }
        assert_eq!(error(r#"{"alg":"HS256","typ":1}"#), Some(CompactError::Kind));
    }

    #[test]
    fn what_looks_like_a_token_is_taken_for_one() {
        assert!(is_compact(token(r#"{"alg":"HS256"}"#).as_bytes()));
        for other in ["tk_abc", "2YotnFZFEjr1zCsicMWpAA", "a.b.c", "eyJ.x", ""] {
            assert!(!is_compact(other.as_bytes()), "{other}");
        }
    }
}
