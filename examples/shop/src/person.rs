//! Who is asking, as the gateway in front has found out. It tells it in headers that no client can set, so nothing is
//! checked here again; a service that calls another one on somebody's behalf passes them on.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};

use crate::problem::Problem;

/// The header with a person's id.
pub(crate) const SUBJECT: HeaderName = HeaderName::from_static("x-auth-subject");
/// The header with a person's name.
const NAME: HeaderName = HeaderName::from_static("x-auth-name");
/// The header with a person's address.
const EMAIL: HeaderName = HeaderName::from_static("x-auth-email");

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) email: String,
}

impl Person {
    /// Who it is, if the gateway knows.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let text =
            |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Some(Self {
            id: text(SUBJECT)?,
            name: text(NAME).unwrap_or_default(),
            email: text(EMAIL).unwrap_or_default(),
        })
    }
}

/// For what only makes sense on somebody's behalf.
impl<S: Send + Sync> FromRequestParts<S> for Person {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Self::of(&parts.headers) {
            Some(person) => Ok(person),
            None => {
                Err(Problem::invalid("Nobody said whose order this is about; come by way of the gateway."))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_person_is_whoever_the_gateway_says_whatever_letters_their_name_has() {
        let mut headers = HeaderMap::new();
        assert!(Person::of(&headers).is_none());
        headers.insert(SUBJECT, HeaderValue::from_static("7"));
        headers.insert(NAME, HeaderValue::from_bytes("Zoë".as_bytes()).unwrap());
        let person = Person::of(&headers).unwrap();
        assert_eq!((person.id.as_str(), person.name.as_str(), person.email.as_str()), ("7", "Zoë", ""));
    }
}
