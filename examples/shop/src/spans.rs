//! What the shop did for a request, told as OpenTelemetry would: spans in OTLP's JSON, posted to the collector that
//! `OTEL_EXPORTER_OTLP_ENDPOINT` names. Any app does so by its framework's instrumentation; this one has a small one of
//! its own.
//!
//! Only requests whose `traceparent` says that they are sampled cost anything. Nobody waits for the collector: what it
//! does not take is let go.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::clock;
use crate::random;
use crate::serve::REQUEST;

/// Spans that may wait to be sent.
const WAITING_MAX: usize = 1024;
/// Spans of one message.
const BATCH_MAX: usize = 256;
/// How long a batch is gathered.
const GATHER: Duration = Duration::from_millis(200);
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

static SPANS: OnceLock<mpsc::Sender<Value>> = OnceLock::new();

/// Where in a sampled trace something happens: under which span.
#[derive(Clone)]
pub(crate) struct Place {
    trace: String,
    span: String,
}

/// OTLP's numbers for what a span is to its parent.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

/// A span that is not over yet.
pub(crate) struct Open {
    place: Place,
    parent: String,
    name: String,
    kind: Kind,
    began_us: i64,
}

impl Place {
    /// Reads `traceparent` (W3C Trace Context, section 3.2); nothing where nobody wants to know.
    pub(crate) fn of(traceparent: &HeaderValue) -> Option<Self> {
        let parts: Vec<&str> = traceparent.to_str().ok()?.split('-').collect();
        let [_, trace, span, flags] = parts.as_slice() else { return None };
        let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        let is_whole = trace.len() == 32 && span.len() == 16;
        let wanted = is_sampled && is_whole && SPANS.get().is_some();
        wanted.then(|| Self { trace: (*trace).to_owned(), span: (*span).to_owned() })
    }

    /// To be carried on to whoever is called.
    pub(crate) fn traceparent(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&format!("00-{}-{}-01", self.trace, self.span)).ok()
    }

    /// Begins a span under this one.
    pub(crate) fn open(&self, name: impl Into<String>, kind: Kind) -> Open {
        let span = data_encoding::HEXLOWER.encode(&random::bytes::<8>());
        let place = Self { trace: self.trace.clone(), span };
        Open { place, parent: self.span.clone(), name: name.into(), kind, began_us: clock::wall_us() }
    }
}

impl Open {
    /// Where its own children belong.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Ends it.
    pub(crate) fn close(self, failed: bool, attributes: &[(&str, Value)]) {
        let Some(spans) = SPANS.get() else { return };
        let attributes: Vec<Value> =
            attributes.iter().map(|(key, value)| json!({ "key": key, "value": any(value) })).collect();
        let nanos = |us: i64| format!("{us}000");
        let span = json!({
            "traceId": self.place.trace, "spanId": self.place.span, "parentSpanId": self.parent,
            "name": self.name, "kind": self.kind as u8,
            "startTimeUnixNano": nanos(self.began_us), "endTimeUnixNano": nanos(clock::wall_us()),
            "attributes": attributes, "status": { "code": if failed { 2 } else { 0 } },
        });
        // Full means that nobody takes them: they are for looking, not for keeping.
        let _ = spans.try_send(span);
    }
}

fn any(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        Value::Bool(flag) => json!({ "boolValue": flag }),
        Value::String(text) => json!({ "stringValue": text }),
        other => json!({ "stringValue": other.to_string() }),
    }
}

/// Does `work`, which is a step of the request being answered, as a span of that name.
pub(crate) async fn step<T, E>(name: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let place = REQUEST.try_with(|request| request.place().cloned()).ok().flatten();
    let open = place.map(|place| place.open(name, Kind::Internal));
    let done = work.await;
    if let Some(open) = open {
        open.close(done.is_err(), &[]);
    }
    done
}

/// Sends what is told from now on, when the surroundings say where to.
pub(crate) fn begin(service: &'static str, instance: &str) {
    let Ok(endpoint) = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT") else { return };
    let (sender, waiting) = mpsc::channel(WAITING_MAX);
    if SPANS.set(sender).is_ok() {
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        tokio::spawn(send_all(url, service, instance.to_owned(), waiting));
    }
}

async fn send_all(url: String, service: &'static str, instance: String, mut waiting: mpsc::Receiver<Value>) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        tokio::time::sleep(GATHER).await;
        while batch.len() < BATCH_MAX
            && let Ok(span) = waiting.try_recv()
        {
            batch.push(span);
        }
        let spans = std::mem::take(&mut batch);
        let body = json!({ "resourceSpans": [{
            "resource": { "attributes": [
                { "key": "service.name", "value": { "stringValue": service } },
                { "key": "service.instance.id", "value": { "stringValue": instance } },
            ] },
            "scopeSpans": [{ "scope": { "name": "shop" }, "spans": spans }],
        }] });
        let request = Request::post(&url).header("content-type", "application/json");
        let Ok(request) = request.body(Body::from(body.to_string())) else { return };
        // A collector that is away is no business of the shop's.
        let _ = tokio::time::timeout(SEND_TIMEOUT, client.request(request)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_sampled_costs_nothing() {
        let (sender, mut waiting) = mpsc::channel(1);
        SPANS.set(sender).expect("nobody else sends in this test");
        let of = |flags: &str| {
            let text = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
            Place::of(&HeaderValue::from_str(&text).expect("text"))
        };
        assert!(of("00").is_none() && of("zz").is_none());
        assert!(Place::of(&HeaderValue::from_static("nonsense")).is_none());
        let server = of("01").expect("sampled").open("GET /", Kind::Server);
        let carried = server.place().traceparent().expect("text");
        assert!(carried.to_str().expect("text").starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
        server.close(true, &[("http.response.status_code", json!(500))]);
        let span = waiting.try_recv().expect("told");
        assert_eq!(span["parentSpanId"], "b7ad6b7169203331");
        assert_eq!(span["status"]["code"], 2);
        assert_eq!(span["attributes"][0]["value"]["intValue"], "500");
    }
}
