//! W3C Trace Context, Level 1: what is taken over from a client, what an endpoint is told, and which requests leave spans.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use terrace_instruments::{Log, Span, SpanKind, SpanStatus, TraceParent, TraceSettings, Value};
use terrace_runtime::clock;

use crate::message::Message;
use crate::rig::{PATIENCE, Rig, Setup, respond};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
/// Longer than any test.
const NEVER_SLOW: Duration = Duration::from_secs(3_600);

fn tracing(setup: &mut Setup, sample: f64) {
    setup.traces = TraceSettings { on: true, sample, slow: NEVER_SLOW };
}

fn rig(sample: f64) -> Rig {
    Rig::with(|setup| tracing(setup, sample))
}

fn get(fields: &str) -> String {
    format!("GET /orders/7?token=secret HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n")
}

fn traceparent(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{CALLER}-{flags}\r\n")
}

#[track_caller]
fn told(request: &Message) -> TraceParent {
    let value = request.field("traceparent").unwrap_or_else(|| panic!("no traceparent: {request:?}"));
    TraceParent::parse(value.as_bytes()).unwrap_or_else(|| panic!("not valid: {value}"))
}

impl Rig {
    /// Spans, until those of so many hops have come.
    #[track_caller]
    fn spans_of(&self, hops: usize) -> Vec<Span> {
        let until = clock::now() + PATIENCE;
        let mut spans = Vec::new();
        loop {
            self.edge.sweep();
            spans.extend(self.spans.take_spans());
            if servers(&spans).count() >= hops {
                return spans;
            }
            assert!(clock::now() < until, "of {hops} hops came {spans:?}");
            std::thread::yield_now();
        }
    }

    /// A request that the origin answers with that status.
    #[track_caller]
    fn serves(&self, fields: &str, status: u16) -> Message {
        let mut client = self.client_that_sent(get(fields));
        let mut origin = self.origin.accept();
        let request = origin.request();
        origin.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"));
        assert_eq!(client.response().status(), status);
        request
    }
}

fn servers(spans: &[Span]) -> impl Iterator<Item = &Span> {
    spans.iter().filter(|span| span.kind == SpanKind::Server)
}

fn tries(spans: &[Span]) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind == SpanKind::Client).collect()
}

#[track_caller]
fn attribute<'s>(span: &'s Span, key: &str) -> &'s Value {
    let found = span.attributes.iter().find(|(name, _)| name == key);
    found.map(|(_, value)| value).unwrap_or_else(|| panic!("{key} is not in {span:?}"))
}

/// Trace Context section 3.2: the field traceparent.
mod section_3_2_traceparent {
    use super::*;

    #[test]
    fn a_trace_is_taken_over_and_the_endpoint_is_called_by_our_try() {
        let told = told(&rig(0.0).passes(get(&traceparent("01"))));
        assert_eq!(told.trace.to_string(), TRACE);
        assert_ne!(told.parent.to_string(), CALLER, "the try is the caller, not the client");
        assert!(told.is_sampled, "a caller's flag is passed on");
        assert!(!super::told(&rig(0.0).passes(get(&traceparent("00")))).is_sampled);
    }

    #[test]
    fn a_trace_begins_where_none_came_and_its_id_is_the_requests() {
        let rig = rig(1.0);
        let (first, second) = (rig.serves("", 200), rig.serves("", 200));
        let (one, other) = (told(&first), told(&second));
        assert_ne!(one.trace, other.trace);
        assert!(one.is_sampled, "all are in the sample");
        assert_eq!(first.field("x-request-id"), Some(one.trace.to_string().as_str()));
    }

    #[test]
    fn what_is_not_valid_is_replaced_by_a_trace_of_our_own() {
        let rig = rig(0.0);
        for value in [
            format!("ff-{TRACE}-{CALLER}-01"),
            format!("00-{}-{CALLER}-01", TRACE.to_uppercase()),
            format!("00-{}-{CALLER}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}-{CALLER}-01-more"),
            format!("00-{TRACE}-{CALLER}"),
            String::new(),
        ] {
            let request = rig.serves(&format!("traceparent: {value}\r\ntracestate: a=1\r\n"), 200);
            assert_ne!(told(&request).trace.to_string(), TRACE, "{value}");
            assert_eq!(request.field("tracestate"), None, "{value}");
        }
    }

    #[test]
    fn two_are_none() {
        let request = rig(0.0).passes(get(&format!("{}{}", traceparent("01"), traceparent("00"))));
        assert_ne!(told(&request).trace.to_string(), TRACE);
    }

    #[test]
    fn a_later_version_is_read_as_ours_and_passed_on_as_ours() {
        let field = format!("traceparent: cc-{TRACE}-{CALLER}-01-what-the-future-will-be-like\r\n");
        let request = rig(0.0).passes(get(&field));
        assert_eq!(told(&request).trace.to_string(), TRACE);
        assert!(request.field("traceparent").is_some_and(|value| value.starts_with("00-")));
    }

    #[test]
    fn a_client_cannot_make_us_drop_it_on_the_way() {
        let fields =
            format!("{}Connection: traceparent, tracestate\r\ntracestate: a=1\r\n", traceparent("01"));
        let request = rig(0.0).passes(get(&fields));
        assert_eq!(told(&request).trace.to_string(), TRACE);
        assert_eq!(request.field("tracestate"), Some("a=1"));
    }

    #[test]
    fn without_tracing_a_clients_fields_are_passed_on_as_they_are() {
        let rig = Rig::with(|setup| setup.traces.on = false);
        let request = rig.passes(get("traceparent: whatever\r\ntracestate: a=1\r\n"));
        assert_eq!(request.field("traceparent"), Some("whatever"));
        assert_eq!(request.field("tracestate"), Some("a=1"));
    }

    #[test]
    fn settings_change_from_the_next_request_on() {
        let rig = rig(0.0);
        assert!(!told(&rig.serves("", 200)).is_sampled);
        rig.tracer.configure(TraceSettings { on: true, sample: 1.0, slow: NEVER_SLOW });
        assert!(told(&rig.serves("", 200)).is_sampled);
        rig.tracer.configure(TraceSettings { on: false, sample: 1.0, slow: NEVER_SLOW });
        assert_eq!(rig.serves("", 200).field("traceparent"), None);
    }
}

/// Trace Context section 3.3: the field tracestate.
mod section_3_3_tracestate {
    use super::*;

    #[test]
    fn it_is_passed_on_untouched_beside_a_trace_that_is_taken_over() {
        let state = "congo=t61rcWkgMzE,rojo@x=00f067aa0ba902b7,odd=!#$%&'()*+-./:;<>?@[]^_`{|}~";
        let request = rig(0.0).passes(get(&format!("{}tracestate: {state}\r\n", traceparent("00"))));
        assert_eq!(request.field("tracestate"), Some(state));
    }

    #[test]
    fn several_are_passed_on_in_their_order() {
        let fields = format!("{}tracestate: a=1\r\ntracestate: b=2\r\n", traceparent("00"));
        let request = rig(0.0).passes(get(&fields));
        assert_eq!(request.all("tracestate").collect::<Vec<_>>(), ["a=1", "b=2"]);
    }

    #[test]
    fn it_is_dropped_without_a_trace_or_with_more_than_32_members() {
        assert_eq!(rig(0.0).passes(get("tracestate: a=1\r\n")).field("tracestate"), None);
        let many = (0..33).map(|number| format!("k{number}=1")).collect::<Vec<_>>().join(",");
        let request = rig(0.0).passes(get(&format!("{}tracestate: {many}\r\n", traceparent("00"))));
        assert_eq!(request.field("tracestate"), None);
        assert_eq!(told(&request).trace.to_string(), TRACE, "the trace itself goes on");
    }
}

mod spans {
    use super::*;

    #[test]
    fn a_kept_request_shows_its_whole_way() {
        let rig = rig(0.0);
        let request = format!(
            "POST /orders HTTP/1.1\r\nHost: shop.example\r\n{}Content-Length: 3\r\n\r\nabc",
            traceparent("01")
        );
        let told = told(&rig.passes(request));
        let spans = rig.spans_of(1);
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_ref()).collect();
        assert_eq!(
            names,
            ["POST /*", "route", "try", "connect", "request body", "first byte", "response body"]
        );
        let server = &spans[0];
        assert_eq!(server.parent.map(|id| id.to_string()).as_deref(), Some(CALLER));
        assert_eq!(server.trace.to_string(), TRACE);
        assert_eq!((server.kind, server.status), (SpanKind::Server, SpanStatus::Unset));
        assert_eq!(tries(&spans)[0].id, told.parent, "the endpoint's spans hang under the try");
        assert_eq!(tries(&spans)[0].parent, Some(server.id));
        for (key, value) in [
            ("http.request.method", Value::from("POST")),
            ("http.route", "/*".into()),
            ("url.path", "/orders".into()),
            ("server.address", "shop.example".into()),
            ("client.address", "127.0.0.1".into()),
            ("http.response.status_code", 200_u16.into()),
            ("http.request.body.size", 3_u64.into()),
            ("http.response.body.size", 2_u64.into()),
            ("network.protocol.version", "1.1".into()),
            ("terrace.route", "all".into()),
            ("terrace.listener", "public".into()),
            ("terrace.service", "origin".into()),
            ("terrace.tries", 1_u32.into()),
            ("terrace.kept", "asked".into()),
        ] {
            assert_eq!(attribute(server, key), &value, "{key}");
        }
        assert_eq!(attribute(tries(&spans)[0], "terrace.instance"), &"origin-0".into());
        assert_eq!(attribute(tries(&spans)[0], "terrace.connection_reused"), &false.into());
        for span in &spans {
            assert!(span.start >= server.start, "{span:?}");
            assert!(span.start + span.duration <= server.start + server.duration, "{span:?}");
        }
    }

    #[test]
    fn a_reused_connection_shows_no_dialling() {
        let rig = rig(1.0);
        let mut client = rig.client_that_sent(get(""));
        let mut origin = rig.origin.accept();
        for _ in 0..2 {
            origin.request();
            origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            client.response();
            client.send(get(""));
        }
        let spans = rig.spans_of(2);
        assert_eq!(spans.iter().filter(|span| span.name == "connect").count(), 1);
        let reused: Vec<&Value> = tries(&spans)
            .into_iter()
            .map(|attempt| attribute(attempt, "terrace.connection_reused"))
            .collect();
        assert_eq!(reused, [&Value::Bool(false), &Value::Bool(true)]);
    }

    #[test]
    fn each_try_is_a_span_of_its_own_and_each_endpoint_is_told_of_its_own() {
        let rig = Rig::with(|setup| {
            tracing(setup, 1.0);
            setup.origins = 2;
            setup.policy.retry.on.statuses = terrace_policy::Statuses::none().with(503);
        });
        let mut client = rig.client_that_sent(get(""));
        let (mut failing, other) = rig.either_origin();
        let first = told(&failing.request());
        failing.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
        let mut good = other.accept();
        let second = told(&good.request());
        good.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.response().status(), 200);
        assert_eq!(first.trace, second.trace);
        let spans = rig.spans_of(1);
        let tries = tries(&spans);
        assert_eq!([tries[0].id, tries[1].id], [first.parent, second.parent]);
        assert_ne!(first.parent, second.parent);
        assert_eq!((tries[0].status, tries[1].status), (SpanStatus::Error, SpanStatus::Unset));
        assert_eq!(attribute(tries[0], "http.response.status_code"), &503_u16.into());
        assert_eq!(attribute(tries[1], "http.request.resend_count"), &1_u32.into());
        assert_eq!(attribute(&spans[0], "terrace.tries"), &2_u32.into());
    }

    #[test]
    fn an_answer_of_our_own_is_a_span_without_tries_and_names_its_trace() {
        let rig = Rig::with(|setup| {
            tracing(setup, 1.0);
            setup.origins = 1;
            setup.routes = vec![respond("health", "/health", 200, "ok")];
        });
        rig.upstream.publish(&[], clock::now());
        let mut client = rig.client_that_sent(get(""));
        let answer = client.response();
        assert_eq!(answer.status(), 503);
        let spans = rig.spans_of(1);
        assert!(tries(&spans).is_empty());
        assert_eq!(attribute(&spans[0], "error.type"), &"upstream.destination_unavailable".into());
        assert!(answer.text().contains(&format!(r#""trace_id":"{}""#, spans[0].trace)), "{}", answer.text());
        client.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status(), 200);
        assert_eq!(rig.spans_of(1)[0].name, "GET /health");
    }

    #[test]
    fn a_clients_secrets_are_in_no_span() {
        let rig = rig(1.0);
        rig.serves("Authorization: Bearer hidden\r\n", 200);
        let shown = format!("{:?}", rig.spans_of(1));
        assert!(!shown.contains("secret") && !shown.contains("hidden"), "{shown}");
    }
}

mod keeping {
    use super::*;

    #[test]
    fn what_is_not_sampled_and_went_well_leaves_nothing() {
        let rig = rig(0.0);
        rig.serves("", 200);
        rig.serves("", 404);
        rig.serves(&traceparent("01"), 200);
        let spans = rig.spans_of(1);
        assert_eq!(servers(&spans).count(), 1, "only the one that was asked for: {spans:?}");
        assert_eq!(attribute(&spans[0], "terrace.kept"), &"asked".into());
    }

    #[test]
    fn what_failed_is_kept() {
        let rig = rig(0.0);
        rig.serves("", 500);
        let spans = rig.spans_of(1);
        assert_eq!(attribute(&spans[0], "terrace.kept"), &"error".into());
        assert_eq!((spans[0].status, tries(&spans)[0].status), (SpanStatus::Error, SpanStatus::Error));
    }

    #[test]
    fn what_was_slow_is_kept() {
        let rig = Rig::with(|setup| {
            setup.traces = TraceSettings { on: true, sample: 0.0, slow: Duration::ZERO };
        });
        rig.serves("", 200);
        assert_eq!(attribute(&rig.spans_of(1)[0], "terrace.kept"), &"slow".into());
    }

    #[test]
    fn a_hop_that_is_kept_late_brings_the_others_of_its_trace() {
        let rig = rig(0.0);
        rig.serves(&traceparent("00"), 200);
        rig.serves("", 200);
        rig.serves(&traceparent("00"), 500);
        let spans = rig.spans_of(2);
        assert!(spans.iter().all(|span| span.trace.to_string() == TRACE), "and no others");
        let statuses: BTreeSet<String> = servers(&spans)
            .map(|span| format!("{:?}", attribute(span, "http.response.status_code")))
            .collect();
        assert_eq!(statuses.len(), 2, "{statuses:?}");
        rig.serves(&traceparent("00"), 201);
        let after = rig.spans_of(1);
        assert_eq!(attribute(&after[0], "http.response.status_code"), &201_u16.into(), "those after it too");
        assert_eq!(attribute(&after[0], "terrace.kept"), &"error".into());
    }

    #[test]
    fn kept_requests_are_the_examples_of_their_durations() {
        let rig = rig(0.0);
        rig.serves("", 200);
        rig.serves(&traceparent("01"), 200);
        rig.spans_of(1);
        for family in ["terrace_request_duration", "terrace_service_request_duration"] {
            let all = rig.meter.collect();
            let found = all.iter().find(|found| found.family.name == family).expect("it is counted");
            let examples = found.series.iter().filter_map(|series| match &series.value {
                terrace_instruments::SeriesValue::Histogram(histogram) => {
                    Some(histogram.exemplars().to_vec())
                }
                _ => None,
            });
            let traces: Vec<String> = examples.flatten().map(|one| one.trace.to_string()).collect();
            assert_eq!(traces, [TRACE], "{family}");
        }
    }
}

mod bounds {
    use super::*;

    #[test]
    fn whatever_a_client_invents_no_series_and_no_name_grows() {
        let rig = Rig::with(|setup| {
            tracing(setup, 1.0);
            setup.routes = vec![respond("fixed", "bomb.example/*", 200, "ok")];
        });
        let series = || rig.meter.collect().iter().map(|family| family.series.len()).sum::<usize>();
        let mut client = rig.client();
        let mut ask = |number: usize| {
            let host = if number.is_multiple_of(2) {
                "bomb.example".to_owned()
            } else {
                "bomb.example:80".to_owned()
            };
            client.send(format!(
                "M{number} /p{number}?q{number} HTTP/1.1\r\nHost: {host}\r\nX-{number}: 1\r\n\r\n"
            ));
            assert_eq!(client.response().status(), 200);
        };
        ask(0);
        let before = series();
        (1..300).for_each(&mut ask);
        assert_eq!(series(), before);
        let spans = rig.spans_of(300);
        let names: HashMap<&str, usize> = spans.iter().fold(HashMap::new(), |mut names, span| {
            *names.entry(span.name.as_ref()).or_default() += 1;
            names
        });
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names.contains_key("HTTP /*"), "{names:?}");
    }

    #[test]
    fn hostile_requests_leave_whole_lines_that_name_their_traces() {
        let (log, receiver) = Log::channel(8);
        let rig = Rig::with(|setup| {
            tracing(setup, 1.0);
            setup.log = log;
            setup.routes = vec![respond("fixed", "a/*", 200, "ok")];
        });
        let mut client = rig.client();
        let long = "/".repeat(4_000);
        let paths =
            ["/%22%7d%0a{\"status\":1}?a=\"b\"&token=hidden", "/%c3%28?%ff", "/a/../b?{}\\", long.as_str()];
        for path in paths {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            client.response();
        }
        let spans = rig.spans_of(1);
        let mut taken = Vec::new();
        receiver.take_access(&mut Vec::new(), &mut taken);
        let text = String::from_utf8(taken.concat()).expect("text");
        assert!(!text.contains("hidden"), "{text}");
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
            .collect();
        assert!(!lines.is_empty());
        let traces: BTreeSet<&str> = lines.iter().filter_map(|line| line["trace_id"].as_str()).collect();
        assert!(traces.contains(spans[0].trace.to_string().as_str()), "{text}");
        assert!(
            lines.iter().all(|line| line["client"] == "127.0.0.1" && line["listener"] == "public"),
            "{text}"
        );
    }
}
