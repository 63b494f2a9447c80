//! What a token claims (RFC 7519 section 4), and whether it claims it for us and for now.
//!
//! A token without an end would be good for ever once stolen, so one without `exp` is refused. A date is a number of seconds
//! that may have a fraction (RFC 7519 section 2); one far beyond any calendar is an end that never comes, not an error that locks
//! somebody out, while one that is no number at all is.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::identity::{self, Identity, Method};
use crate::jose::json;

/// Roles, and scopes, of one token.
const GRANTS_MAX: usize = 256;
const BOUNDS: json::Bounds = json::Bounds { depth_max: 12, values_max: 2048 };
/// Dates are kept below this, some 30,000 years after 1970, so that leeway can be added to any.
const SECONDS_MAX: f64 = 1e12;

/// All that a token claims, by its name.
pub(crate) type Claims = Map<String, Value>;

/// What a token must claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Who issued it.
    pub(crate) issuer: String,
    /// One of these it must be for; nothing where that is not looked at.
    pub(crate) audience: Option<Vec<String>>,
    /// By so much clocks may differ.
    pub(crate) leeway: Duration,
    /// Where roles are.
    pub(crate) roles: String,
}

/// Why a token's claims do not do. The texts are for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClaimsError {
    Json,
    Issuer,
    Audience,
    NoExpiry,
    Date,
    Expired,
    TooEarly,
    Kind,
    TooMany,
}

impl ClaimsError {
    /// What the client is told.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Json => "the token's claims are no JSON object with each name once",
            Self::Issuer => "the token's issuer is not one of this route's",
            Self::Audience => "the token is meant for somebody else",
            Self::NoExpiry => "the token does not say when it expires",
            Self::Date => "a date in the token is no number",
            Self::Expired => "the token has expired",
            Self::TooEarly => "the token is not valid yet",
            Self::Kind => "a claim of the token is not of the kind that it has to be",
            Self::TooMany => "the token claims too many roles or scopes",
        }
    }
}

/// Reads claims, and believes nothing of them.
pub(crate) fn parse(payload: &[u8]) -> Result<Claims, ClaimsError> {
    json::object(payload, BOUNDS).ok_or(ClaimsError::Json)
}

/// Who the claims say issued them, so that their checker can be found. It is a claim like any other until that has checked it.
pub(crate) fn issuer(claims: &Claims) -> Option<&str> {
    claims.get("iss").and_then(Value::as_str)
}

/// Holds claims against what is expected, at `wall` since 1970, and says who it is. Their signature must have been checked.
pub(crate) fn identify(claims: Claims, expected: &Expected, wall: Duration) -> Result<Identity, ClaimsError> {
    if issuer(&claims) != Some(&expected.issuer) {
        return Err(ClaimsError::Issuer);
    }
    check_audience(claims.get("aud"), expected.audience.as_deref())?;
    let expires = check_dates(&claims, expected.leeway, wall)?;
    let subject = match (claims.get("sub"), claims.get("client_id")) {
        (Some(Value::String(subject)), _) => subject.clone(),
        (Some(_), _) => return Err(ClaimsError::Kind),
        // A program that asks for itself (RFC 6749 section 4.4) may be named so alone.
        (None, Some(Value::String(client))) => client.clone(),
        (None, _) => String::new(),
    };
    let roles = grants(identity::claim(&claims, &expected.roles), Form::Whole)?;
    let scopes = grants(claims.get("scope").or_else(|| claims.get("scp")), Form::Spaced)?;
    let new = Identity::new(Method::Token, expected.issuer.clone(), subject);
    Ok(Identity { roles, scopes, claims, expires: Some(expires), ..new })
}

/// `aud` is a text or a list of them (RFC 7519 section 4.1.3).
fn check_audience(claimed: Option<&Value>, expected: Option<&[String]>) -> Result<(), ClaimsError> {
    let Some(expected) = expected else { return Ok(()) };
    let is_ours = |value: &Value| value.as_str().is_some_and(|name| expected.iter().any(|ours| ours == name));
    match claimed {
        Some(Value::Array(list)) if list.iter().any(is_ours) => Ok(()),
        Some(single) if is_ours(single) => Ok(()),
        _ => Err(ClaimsError::Audience),
    }
}

/// `exp`, `nbf` and `iat` (RFC 7519 sections 4.1.4 to 4.1.6); the moment from which on the token is no good, leeway included.
fn check_dates(claims: &Claims, leeway: Duration, wall: Duration) -> Result<Duration, ClaimsError> {
    let expires = date(claims.get("exp"))?.ok_or(ClaimsError::NoExpiry)? + leeway;
    if expires <= wall {
        return Err(ClaimsError::Expired);
    }
    for name in ["nbf", "iat"] {
        if date(claims.get(name))?.is_some_and(|begin| begin > wall + leeway) {
            return Err(ClaimsError::TooEarly);
        }
    }
    Ok(expires)
}

/// A NumericDate (RFC 7519 section 2). What was before 1970 is 1970, for all that is asked of it.
fn date(value: Option<&Value>) -> Result<Option<Duration>, ClaimsError> {
    let Some(value) = value else { return Ok(None) };
    let seconds = match value {
        Value::Number(number) => number.as_f64().ok_or(ClaimsError::Date)?,
        _ => return Err(ClaimsError::Date),
    };
    if !seconds.is_finite() {
        return Err(ClaimsError::Date);
    }
    Ok(Some(Duration::from_secs_f64(seconds.clamp(0.0, SECONDS_MAX))))
}

/// How a text that grants is read.
#[derive(Clone, Copy)]
enum Form {
    /// As one grant: a role's name may have blanks, and `super admin` is not `admin`.
    Whole,
    /// As grants between blanks (RFC 8693 section 4.2).
    Spaced,
}

/// A text, a list of texts, or an object whose names are what is granted (as Zitadel has it), but for those that it denies.
fn grants(value: Option<&Value>, form: Form) -> Result<Vec<String>, ClaimsError> {
    let granted: Vec<String> = match (value, form) {
        (None | Some(Value::Null), _) => Vec::new(),
        (Some(Value::String(text)), Form::Whole) => vec![text.clone()],
        (Some(Value::String(text)), Form::Spaced) => {
            text.split_ascii_whitespace().map(str::to_owned).collect()
        }
        (Some(Value::Array(list)), _) => {
            let texts = list.iter().map(|value| value.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or(ClaimsError::Kind)?
        }
        (Some(Value::Object(object)), Form::Whole) => {
            let given = object.iter().filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)));
            given.map(|(name, _)| name.clone()).collect()
        }
        _ => return Err(ClaimsError::Kind),
    };
    if granted.len() > GRANTS_MAX {
        return Err(ClaimsError::TooMany);
    }
    Ok(granted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_700_000_000;

    fn expected() -> Expected {
        Expected {
            issuer: "https://id.example.com".to_owned(),
            audience: Some(vec!["shop".to_owned(), "api".to_owned()]),
            leeway: Duration::from_secs(60),
            roles: "realm_access.roles".to_owned(),
        }
    }

    /// What becomes of good claims with these members besides, the later ones in the place of the former.
    fn with(members: &str) -> Result<Identity, ClaimsError> {
        let good =
            format!(r#"{{"iss":"https://id.example.com","aud":"shop","exp":{},"sub":"ann"}}"#, NOW_S + 300);
        let mut claims = parse(good.as_bytes()).expect("good");
        for (name, value) in parse(format!("{{{members}}}").as_bytes())? {
            match value {
                Value::Null => drop(claims.remove(&name)),
                value => drop(claims.insert(name, value)),
            }
        }
        identify(claims, &expected(), Duration::from_secs(NOW_S))
    }

    #[test]
    fn rfc7519_4_1_1_the_issuer_is_compared_whole() {
        assert!(with("").is_ok());
        for issuer in [
            "null",
            "1",
            "\"https://id.example.com/\"",
            "\"https://ID.example.com\"",
            "[\"https://id.example.com\"]",
            "\"\"",
        ] {
            assert_eq!(with(&format!(r#""iss":{issuer}"#)), Err(ClaimsError::Issuer), "{issuer}");
        }
    }

    #[test]
    fn rfc7519_4_1_3_one_of_the_audiences_is_ours() {
        for good in [r#""api""#, r#"["other","api"]"#, r#"["shop"]"#] {
            assert!(with(&format!(r#""aud":{good}"#)).is_ok(), "{good}");
        }
        for bad in [
            "null",
            r#""other""#,
            r#"["other"]"#,
            "[]",
            "7",
            r#"{"shop":1}"#,
            r#""shop api""#,
            r#""SHOP""#,
            r#"[["shop"]]"#,
        ] {
            assert_eq!(with(&format!(r#""aud":{bad}"#)), Err(ClaimsError::Audience), "{bad}");
        }
        let any = Expected { audience: None, ..expected() };
        let claims = format!(r#"{{"iss":"https://id.example.com","exp":{}}}"#, NOW_S + 1);
        assert!(identify(parse(claims.as_bytes()).expect("good"), &any, Duration::from_secs(NOW_S)).is_ok());
    }

    #[test]
    fn rfc7519_4_1_4_a_token_ends_a_leeway_after_its_exp() {
        let expiry = |text: &str| with(&format!(r#""exp":{text}"#)).map(|identity| identity.expires);
        assert_eq!(expiry(&format!("{}", NOW_S - 60)), Err(ClaimsError::Expired));
        assert_eq!(expiry(&format!("{}", NOW_S - 59)), Ok(Some(Duration::from_secs(NOW_S + 1))));
        assert_eq!(expiry(&format!("{}.5", NOW_S - 60)), Ok(Some(Duration::from_millis(NOW_S * 1000 + 500))));
        for past in ["0", "-1", "-1e300", "1e-300", "1700000000e-3"] {
            assert_eq!(expiry(past), Err(ClaimsError::Expired), "{past}");
        }
        for far in ["1e300", "18446744073709551615", "99999999999999999999999999"] {
            assert_eq!(expiry(far), Ok(Some(Duration::from_secs(1_000_000_000_060))), "{far}");
        }
        assert_eq!(expiry("null"), Err(ClaimsError::NoExpiry));
        for wrong in ["\"1800000000\"", "true", "[1800000000]", "{}"] {
            assert_eq!(expiry(wrong), Err(ClaimsError::Date), "{wrong}");
        }
    }

    #[test]
    fn rfc7519_4_1_5_a_token_begins_a_leeway_before_its_nbf() {
        for name in ["nbf", "iat"] {
            let at = |seconds: u64| with(&format!(r#""{name}":{seconds}"#)).map(|_| ());
            assert_eq!((at(NOW_S + 60), at(NOW_S + 61)), (Ok(()), Err(ClaimsError::TooEarly)), "{name}");
            assert_eq!(with(&format!(r#""{name}":1e300"#)), Err(ClaimsError::TooEarly), "{name}");
            assert_eq!(with(&format!(r#""{name}":"0""#)), Err(ClaimsError::Date), "{name}");
            assert!(with(&format!(r#""{name}":-5"#)).is_ok(), "{name}");
        }
    }

    #[test]
    fn roles_and_scopes_are_read_in_the_forms_that_issuers_write() {
        let ann = with(r#""realm_access":{"roles":["a","b c"]},"scope":"x:read y""#).expect("good");
        assert_eq!(
            (ann.roles, ann.scopes),
            (vec!["a".to_owned(), "b c".into()], vec!["x:read".to_owned(), "y".into()])
        );
        let ann = with(r#""realm_access":{"roles":"super admin"},"scp":["x"]"#).expect("good");
        assert_eq!((ann.roles, ann.scopes), (vec!["super admin".to_owned()], vec!["x".to_owned()]));
        let granted = r#""realm_access":{"roles":{"admin":{"1":"org"},"guest":false,"root":null}}"#;
        let ann = with(granted).expect("good");
        assert_eq!((ann.roles.as_slice(), ann.scopes.len()), (&["admin".to_owned()][..], 0));
        for wrong in [
            r#""realm_access":{"roles":[1]}"#,
            r#""scope":7"#,
            r#""scope":{"x":1}"#,
            r#""sub":7"#,
            r#""realm_access":{"roles":true}"#,
        ] {
            assert_eq!(with(wrong), Err(ClaimsError::Kind), "{wrong}");
        }
        let many = vec!["\"r\""; GRANTS_MAX + 1].join(",");
        assert_eq!(with(&format!(r#""realm_access":{{"roles":[{many}]}}"#)), Err(ClaimsError::TooMany));
    }

    #[test]
    fn rfc7519_4_a_claim_that_stands_twice_is_refused() {
        assert_eq!(with(r#""sub":"bob","sub":"admin""#), Err(ClaimsError::Json));
        for bomb in
            ["[".repeat(50_000), r#"{"a":"#.repeat(5_000), format!("{{\"a\":[{}0]}}", "0,".repeat(4_000))]
        {
            assert_eq!(parse(bomb.as_bytes()), Err(ClaimsError::Json));
        }
    }
}
