//! Terrace as a client of an authorization server (RFC 6749): who it says it is there, and how an answer is read.
//!
//! Answers come from somebody whom the file trusts with logins, and are still read within bounds and strictly. What went wrong
//! is told apart by what follows from it: an answer that never came may come later, one that says no will not change.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};
use terrace_fetch::{Answer, Client, ClientError};

use crate::form;
use crate::jose::json;
use crate::secret::Secret;

const BOUNDS: json::Bounds = json::Bounds { depth_max: 12, values_max: 4096 };
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Of what an authority says of an error so much is told to the log.
const SAID_CHARS_MAX: usize = 200;

/// Who Terrace is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientId {
    /// The id under which it is registered.
    pub id: String,
    /// The secret that goes with it; a public client has none.
    pub secret: Option<Secret>,
}

/// Why an authority did not answer as was hoped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// Theirs or the network's; later it may be otherwise.
    #[error("{0}")]
    Silent(String),
    /// It said no: what it calls it (RFC 6749 section 5.2).
    #[error("it refused: {0}")]
    Refused(String),
    /// It said something that makes no sense.
    #[error("its answer makes no sense: {0}")]
    Nonsense(&'static str),
    /// It does not do that.
    #[error("it has no {0}")]
    Without(&'static str),
}

impl From<ClientError> for AskError {
    fn from(error: ClientError) -> Self {
        Self::Silent(error.to_string())
    }
}

impl ClientId {
    /// POSTs a form as that client, and reads the object that comes back.
    pub(crate) async fn post(
        &self,
        client: &Client,
        url: &str,
        pairs: &[(&str, &str)],
        secret_in_form: bool,
        timeout: Duration,
    ) -> Result<Map<String, Value>, AskError> {
        let answer = self.send(client, url, pairs, secret_in_form, timeout).await?;
        read(&answer)
    }

    /// POSTs a form as that client, whatever comes back.
    pub(crate) async fn send(
        &self,
        client: &Client,
        url: &str,
        pairs: &[(&str, &str)],
        secret_in_form: bool,
        timeout: Duration,
    ) -> Result<Answer, AskError> {
        let mut pairs = pairs.to_vec();
        let mut headers = vec![
            ("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
            ("Accept".to_owned(), "application/json".to_owned()),
        ];
        let secret = self.secret.as_ref().map(|secret| String::from_utf8_lossy(secret.expose()));
        match &secret {
            Some(secret) if secret_in_form => {
                pairs.extend([("client_id", self.id.as_str()), ("client_secret", secret)]);
            }
            Some(secret) => headers.push(("Authorization".to_owned(), self.basic(secret))),
            // RFC 6749 section 3.2.1.
            None => pairs.push(("client_id", &self.id)),
        }
        Ok(client.post(url, &headers, Bytes::from(form::write(&pairs)), timeout).await?)
    }

    /// RFC 6749 section 2.3.1: both are encoded as in a form first, so that a colon in the id does no harm.
    fn basic(&self, secret: &str) -> String {
        let both = format!("{}:{}", form::encoded(&self.id), form::encoded(secret));
        format!("Basic {}", data_encoding::BASE64.encode(both.as_bytes()))
    }
}

/// The object of an answer with status 200; the error that another one names.
pub(crate) fn read(answer: &Answer) -> Result<Map<String, Value>, AskError> {
    let object = match answer.body.len() {
        0..=ANSWER_BYTES_MAX => json::object(&answer.body, BOUNDS),
        _ => None,
    };
    match (answer.status, object) {
        (200, Some(object)) => Ok(object),
        (200, None) => Err(AskError::Nonsense("it is no JSON object with each name once")),
        (400..=428 | 430..=499, Some(object)) => Err(AskError::Refused(error_of(&object))),
        (status, _) => Err(AskError::Silent(format!("it answered with status {status}"))),
    }
}

/// What is wrong, in the words of RFC 6749 section 5.2.
pub(crate) fn error_of(object: &Map<String, Value>) -> String {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let said = match text("error_description") {
        "" => text("error").to_owned(),
        description => format!("{} ({description})", text("error")),
    };
    said.chars().filter(|letter| !letter.is_control()).take(SAID_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let (headers, trailers) = Default::default();
        Answer { status, headers, body: Bytes::copy_from_slice(body.as_bytes()), trailers }
    }

    #[test]
    fn rfc6749_2_3_1_a_client_says_who_it_is() {
        let client = ClientId { id: "a:b c".to_owned(), secret: Some(Secret::new(*b"p%&")) };
        // base64 of `a%3Ab%20c:p%25%26`
        assert_eq!(client.basic("p%&"), "Basic YSUzQWIlMjBjOnAlMjUlMjY=");
        assert!(!format!("{client:?}").contains("p%&"));
    }

    #[test]
    fn an_answer_that_says_no_is_told_from_one_that_never_came() {
        assert_eq!(read(&answer(200, r#"{"a":1}"#)).map(|object| object.len()), Ok(1));
        let said =
            read(&answer(400, "{\"error\":\"invalid_grant\",\"error_description\":\"too \\u0007old\"}"));
        assert_eq!(said, Err(AskError::Refused("invalid_grant (too old)".to_owned())));
        assert!(matches!(read(&answer(401, r#"{"error":"invalid_client"}"#)), Err(AskError::Refused(_))));
        for (status, body) in
            [(500, r#"{"error":"x"}"#), (429, r#"{"error":"x"}"#), (302, ""), (404, "<html>")]
        {
            assert!(matches!(read(&answer(status, body)), Err(AskError::Silent(_))), "{status}");
        }
        for body in ["", "[]", r#"{"a":1,"a":2}"#, &"[".repeat(10_000), &" ".repeat(ANSWER_BYTES_MAX + 1)] {
            assert!(matches!(read(&answer(200, body)), Err(AskError::Nonsense(_))));
        }
    }
}
