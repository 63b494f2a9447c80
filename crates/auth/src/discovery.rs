//! What an issuer says of itself (OpenID Connect Discovery 1.0): where its keys are, and where it takes logins and questions.
//!
//! Everything that is believed of tokens hangs on this one document, so it must name itself as the issuer that the file
//! names, letter by letter (section 4.3), or another one could be put in its place; and an issuer that is reached by TLS cannot send
//! anybody to where there is none.

use std::time::Duration;

use serde_json::{Map, Value};
use terrace_fetch::{Answer, Client, ClientError};

use crate::jose::json;

const BOUNDS: json::Bounds = json::Bounds { depth_max: 6, values_max: 2048 };
const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// Where an issuer does what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Discovered {
    pub(crate) keys: String,
    pub(crate) authorize: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) introspect: Option<String>,
    pub(crate) end_session: Option<String>,
    pub(crate) userinfo: Option<String>,
    /// Where tokens are given back (RFC 7009).
    pub(crate) revoke: Option<String>,
    /// Whether clients say who they are in the form alone, not by `Authorization` (RFC 8414 section 2).
    pub(crate) wants_secret_in_form: bool,
    /// Whether whoever comes back from it says from which issuer (RFC 9207 section 3).
    pub(crate) names_itself: bool,
}

/// Why nothing can be fetched from an issuer. None of it is for a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("it answered with status {0}")]
    Status(u16),
    #[error(
        "its discovery document is no JSON object with each name once, or is larger than {DOCUMENT_BYTES_MAX} bytes"
    )]
    Document,
    #[error("its discovery document is of another issuer: {0:?}")]
    OtherIssuer(String),
    #[error("its discovery document has no usable `{0}`")]
    Missing(&'static str),
    #[error(transparent)]
    Set(#[from] crate::jwk::SetError),
    #[error("its file cannot be read: {0}")]
    File(String),
}

/// Where the document is (OpenID Connect Discovery 1.0 section 4).
pub(crate) fn address(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
}

/// Asks the issuer where things are.
pub(crate) async fn discover(
    client: &Client,
    issuer: &str,
    timeout: Duration,
) -> Result<Discovered, FetchError> {
    let answer = get(client, &address(issuer), timeout).await?;
    read(issuer, &answer.body)
}

/// GETs a document; anything but 200 is none.
pub(crate) async fn get(client: &Client, url: &str, timeout: Duration) -> Result<Answer, FetchError> {
    let fields = [("Accept".to_owned(), "application/json".to_owned())];
    let answer = client.get(url, &fields, timeout).await?;
    match answer.status {
        200 => Ok(answer),
        status => Err(FetchError::Status(status)),
    }
}

/// Reads what an issuer of that name says of itself.
pub(crate) fn read(issuer: &str, text: &[u8]) -> Result<Discovered, FetchError> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(FetchError::Document);
    }
    let document = json::object(text, BOUNDS).ok_or(FetchError::Document)?;
    match document.get("issuer") {
        Some(Value::String(named)) if named == issuer => {}
        Some(Value::String(named)) => return Err(FetchError::OtherIssuer(named.chars().take(200).collect())),
        _ => return Err(FetchError::Missing("issuer")),
    }
    let endpoint = |name| endpoint(issuer, &document, name);
    Ok(Discovered {
        keys: endpoint("jwks_uri").ok_or(FetchError::Missing("jwks_uri"))?,
        authorize: endpoint("authorization_endpoint"),
        token: endpoint("token_endpoint"),
        introspect: endpoint("introspection_endpoint"),
        end_session: endpoint("end_session_endpoint"),
        userinfo: endpoint("userinfo_endpoint"),
        revoke: endpoint("revocation_endpoint"),
        wants_secret_in_form: wants_secret_in_form(&document),
        names_itself: document.get("authorization_response_iss_parameter_supported")
            == Some(&Value::Bool(true)),
    })
}

/// Where nothing is said, `Authorization` is taken.
fn wants_secret_in_form(document: &Map<String, Value>) -> bool {
    match document.get("token_endpoint_auth_methods_supported") {
        Some(Value::Array(methods)) => {
            let has = |name: &str| methods.iter().any(|method| method == name);
            has("client_secret_post") && !has("client_secret_basic")
        }
        _ => false,
    }
}

/// An address that may be gone to: by TLS, if the issuer is. Browsers are sent to some of them, so that it must be one that a
/// field can hold: what ends a line would be more than an address.
fn endpoint(issuer: &str, document: &Map<String, Value>, name: &str) -> Option<String> {
    let url = document.get(name)?.as_str()?;
    let is_safe = url.starts_with("https://") || url.starts_with("http://") && issuer.starts_with("http://");
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic());
    (is_safe && is_plain).then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://id.example.com";

    fn error(text: &str) -> FetchError {
        read(ISSUER, text.as_bytes()).expect_err("refused")
    }

    #[test]
    fn openid_discovery_4_3_a_document_names_its_issuer() {
        let text = r#"{"issuer":"https://id.example.com","jwks_uri":"https://cdn.example.net/keys",
            "token_endpoint":"https://id.example.com/token","authorization_endpoint":"http://id.example.com/auth"}"#;
        let found = read(ISSUER, text.as_bytes()).expect("good");
        assert_eq!((found.keys.as_str(), found.authorize), ("https://cdn.example.net/keys", None));
        assert_eq!(found.token.as_deref(), Some("https://id.example.com/token"));
        let text = r#"{"issuer":"https://id.example.com","jwks_uri":"https://id.example.com/keys",
            "authorization_endpoint":"https://id.example.com/\r\nSet-Cookie: a=b","end_session_endpoint":"https://id.example.com/\u00e9 x"}"#;
        let found = read(ISSUER, text.as_bytes()).expect("good");
        assert_eq!((found.authorize, found.end_session), (None, None), "no field could hold them");
        for other in ["https://id.example.com/", "http://id.example.com", "https://evil.example", ""] {
            let text = format!(r#"{{"issuer":"{other}","jwks_uri":"https://id.example.com/keys"}}"#);
            assert_eq!(error(&text), FetchError::OtherIssuer(other.to_owned()));
        }
    }

    #[test]
    fn a_document_that_lies_or_lacks_is_refused() {
        assert_eq!(error("<html>"), FetchError::Document);
        assert_eq!(error(&" ".repeat(DOCUMENT_BYTES_MAX + 1)), FetchError::Document);
        assert_eq!(error("{}"), FetchError::Missing("issuer"));
        for keys in [
            "",
            r#","jwks_uri":7"#,
            r#","jwks_uri":"http://id.example.com/keys""#,
            r#","jwks_uri":"file:///etc/passwd""#,
        ] {
            assert_eq!(
                error(&format!(r#"{{"issuer":"{ISSUER}"{keys}}}"#)),
                FetchError::Missing("jwks_uri"),
                "{keys}"
            );
        }
    }

    #[test]
    fn openid_discovery_4_the_document_is_below_the_issuer() {
        for issuer in ["https://id.example.com/realms/x", "https://id.example.com/realms/x/"] {
            assert_eq!(address(issuer), "https://id.example.com/realms/x/.well-known/openid-configuration");
        }
    }
}
