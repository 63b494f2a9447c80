//! The authority's server, spoken to by `terrace-fetch`. What the protocol's client does not hand on is noted here: when a
//! refusal may be tried again (`Retry-After`), which is the one thing that keeps a client with a problem from becoming the
//! authority's problem.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{HeaderMap, RETRY_AFTER};
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use terrace_fetch::{Client, ClientError};

use crate::config::Authority;

/// How long one request may take.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// A connection to one authority. Cheap to clone; clones note in the same place.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client,
    noted: Arc<Mutex<Noted>>,
}

/// What the last answer said besides its body.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Noted {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
}

impl Http {
    /// # Errors
    /// When the authority's roots are no certificates.
    pub(crate) fn new(authority: &Authority) -> Result<Self, ClientError> {
        let client = match &authority.roots_pem {
            Some(pem) => Client::trusting(pem)?,
            None => Client::new(),
        };
        Ok(Self { client, noted: Arc::default() })
    }

    /// What the last answer said.
    pub(crate) fn noted(&self) -> Noted {
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// GETs what needs no signature. The status has to be looked at.
    pub(crate) async fn get(&self, url: &str) -> Result<terrace_fetch::Answer, ClientError> {
        let answer = self.client.get(url, &[], REQUEST_TIME).await?;
        self.note(answer.status, &answer.headers);
        Ok(answer)
    }

    fn note(&self, status: u16, headers: &HeaderMap) {
        let noted = Noted { status, retry_after: retry_after(headers) };
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = noted;
    }

    async fn send(self, request: http::Request<BodyWrapper<bytes::Bytes>>) -> Result<BytesResponse, Error> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await;
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let fields: Vec<(String, String)> =
            head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        let url = head.uri.to_string();
        let sent = self.client.request(head.method, &url, &fields, body.to_bytes(), REQUEST_TIME);
        let answer = sent.await.map_err(|error| Error::Other(Box::new(error)))?;
        self.note(answer.status, &answer.headers);
        let mut response = http::Response::new(());
        *response.status_mut() = http::StatusCode::from_u16(answer.status).map_err(http::Error::from)?;
        *response.headers_mut() = answer.headers;
        let (parts, ()) = response.into_parts();
        Ok(BytesResponse { parts, body: Box::new(answer.body) })
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: http::Request<BodyWrapper<bytes::Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().send(request))
    }
}

/// As a span of time (RFC 9110 section 10.2.3); of a date, its distance from the answer's own `Date`, for the two clocks
/// need not agree.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let sent = httpdate::parse_http_date(headers.get(http::header::DATE)?.to_str().ok()?).ok()?;
    Some(date.duration_since(sent).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_10_2_3_a_delay_is_understood_in_both_forms() {
        let told = |fields: &[(&'static str, &'static str)]| {
            let headers = fields.iter().map(|(name, value)| {
                (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
            });
            retry_after(&headers.collect())
        };
        assert_eq!(told(&[("retry-after", "120")]), Some(Duration::from_secs(120)));
        let date = ("date", "Fri, 31 Dec 1999 23:58:59 GMT");
        assert_eq!(
            told(&[("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"), date]),
            Some(Duration::from_secs(60))
        );
        assert_eq!(told(&[("retry-after", "Fri, 31 Dec 1999 23:00:00 GMT"), date]), Some(Duration::ZERO));
        assert_eq!(told(&[("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")]), None, "by whose clock?");
        assert_eq!(told(&[("retry-after", "soon")]), None);
        assert_eq!(told(&[]), None);
    }
}
