//! Calls to the neighbours: plain HTTP/1.1 with JSON.
//!
//! There are no retries, no balancing and no timeouts here: that is for whatever stands between the services. A call carries
//! on the request id and the trace of the request that caused it, so that both can be followed through all services.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::person::{self, Person};
use crate::problem::{self, Problem};
use crate::serve::{REQUEST, StartError, TRACEPARENT};
use crate::spans::Kind;

/// Idle connections are dropped before a server would close them under our hands.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Larger answers are refused.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Another service of the shop, by the address we were given for it.
#[derive(Clone)]
pub(crate) struct Neighbour {
    name: &'static str,
    base: String,
    client: Client<HttpConnector, Body>,
}

/// One call being put together.
pub(crate) struct Call<'a> {
    to: &'a Neighbour,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// What came back, with the body read whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Neighbour {
    /// The service `name` at `base` (`http://host:port`).
    ///
    /// Fails when the address was not given.
    pub(crate) fn new(name: &'static str, base: Option<&String>) -> Result<Self, StartError> {
        let Some(base) = base else {
            return Err(StartError::NoNeighbour { name });
        };
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE_TIMEOUT).build(connector);
        Ok(Self { name, base: base.trim_end_matches('/').to_owned(), client })
    }

    /// Begins a call; `path` starts with a slash and is percent-encoded where needed.
    pub(crate) fn call(&self, method: Method, path: impl Into<String>) -> Call<'_> {
        let mut headers = HeaderMap::new();
        // Outside of a request (background work, streams) there is nothing to carry on.
        let _ = REQUEST.try_with(|request| request.carry_on(&mut headers));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        Call { to: self, method, path: path.into(), headers, body: Vec::new() }
    }

    /// Begins a GET.
    pub(crate) fn get(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::GET, path)
    }

    /// Begins a POST.
    pub(crate) fn post(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::POST, path)
    }

    fn broke(&self, how: &str) -> Problem {
        Problem::unsure(format!("The {} service gave no whole answer ({how}); try again.", self.name))
    }
}

impl Call<'_> {
    /// Says on whose behalf, as the gateway said it.
    pub(crate) fn on_behalf_of(self, person: &Person) -> Self {
        self.header(person::SUBJECT, &person.id)
    }

    /// Makes the call safe to repeat.
    pub(crate) fn key(self, key: &str) -> Self {
        self.header(HeaderName::from_static("idempotency-key"), key)
    }

    fn header(mut self, name: HeaderName, value: &str) -> Self {
        // What cannot be in a header was checked long before; the neighbour refuses what is missing.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Sets the body.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        self.body = serde_json::to_vec(body).expect("our own types serialize to JSON");
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self
    }

    /// Sends it and reads a JSON answer.
    ///
    /// A 4xx of the neighbour is the caller's problem and passed on; anything else is the neighbour's.
    pub(crate) async fn fetch<T: DeserializeOwned>(self) -> Result<T, Problem> {
        let name = self.to.name;
        let answer = self.send().await?;
        match serde_json::from_slice(&answer.body) {
            Ok(value) => Ok(value),
            Err(error) => {
                Err(Problem::bad_neighbour(format!("The {name} service answered nonsense: {error}")))
            }
        }
    }

    /// Sends it and reads the answer, which is a success.
    pub(crate) async fn send(self) -> Result<Answer, Problem> {
        let name = self.to.name;
        let answer = self.exchange().await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let trouble = || format!("The {name} service is in trouble ({}); try again.", answer.status.as_u16());
        match (answer.status, serde_json::from_slice::<problem::Body>(&answer.body)) {
            (status, Ok(body)) if status.is_client_error() => Err(Problem::passed_on(status, body)),
            // It was not begun, whoever says so (RFC 9110, section 15.6.4).
            (StatusCode::SERVICE_UNAVAILABLE, _) => Err(Problem::unavailable(trouble())),
            _ => Err(Problem::unsure(trouble())),
        }
    }

    /// The call as a span of its own, which the neighbour's hangs under.
    async fn exchange(mut self) -> Result<Answer, Problem> {
        let place = REQUEST.try_with(|request| request.place().cloned()).ok().flatten();
        let name = || format!("{} {}{}", self.method, self.to.name, self.path);
        let open = place.map(|place| place.open(name(), Kind::Client));
        if let Some(carried) = open.as_ref().and_then(|open| open.place().traceparent()) {
            self.headers.insert(TRACEPARENT, carried);
        }
        let answer = self.exchange_untold().await;
        if let Some(open) = open {
            open.close(answer.as_ref().map_or(true, |answer| answer.status.is_server_error()), &[]);
        }
        answer
    }

    async fn exchange_untold(self) -> Result<Answer, Problem> {
        let to = self.to;
        let mut request = Request::new(Body::from(self.body));
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        *request.uri_mut() = match format!("{}{}", to.base, self.path).parse() {
            Ok(uri) => uri,
            Err(error) => return Err(Problem::internal(&error)),
        };
        let response = match to.client.request(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => {
                return Err(Problem::unavailable(format!(
                    "The {} service cannot be reached; try again.",
                    to.name
                )));
            }
            Err(_) => return Err(to.broke("the connection ended")),
        };
        let (head, body) = response.into_parts();
        match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(body) => {
                Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes().to_vec() })
            }
            Err(_) => Err(to.broke("it ended early or is too large")),
        }
    }
}

/// Percent-encodes everything but unreserved characters (RFC 3986, section 2.3), for paths and queries.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
