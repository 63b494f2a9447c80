//! Messages that protobuf's own Python wrote (of OpenTelemetry's examples and of richer ones), and the same as JSON.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use terrace_instruments::{SpanId, SpanKind, SpanStatus, TraceId, Value};
use terrace_otlp::{
    ATTRIBUTES_MAX, Buckets, Data, DecodeError, ITEMS_MAX, Partial, Signal, Temporality, json_to_protobuf,
    read_logs, read_metrics, read_response, read_traces, write_response, write_status, write_traces,
};

fn corpus(name: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/").to_owned() + name;
    std::fs::read(&path).expect("committed")
}

fn attribute<'a>(attributes: &'a terrace_otlp::Attributes, name: &str) -> &'a Value {
    &attributes.iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("{name}")).1
}

fn text(text: &str) -> Value {
    Value::Text(Cow::Owned(text.to_owned()))
}

fn at(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

#[test]
fn json_and_protobuf_say_the_same() {
    let json =
        |signal, name: &str| json_to_protobuf(signal, &corpus(&format!("json/{name}"))).expect("valid");
    for name in ["example", "rich"] {
        let of_json = read_traces(&json(Signal::Traces, &format!("traces_{name}")));
        assert_eq!(of_json, read_traces(&corpus(&format!("traces/{name}"))));
        let of_json = read_metrics(&json(Signal::Metrics, &format!("metrics_{name}")));
        assert_eq!(
            format!("{of_json:?}"),
            format!("{:?}", read_metrics(&corpus(&format!("metrics/{name}"))))
        );
        let of_json = read_logs(&json(Signal::Logs, &format!("logs_{name}")));
        assert_eq!(of_json, read_logs(&corpus(&format!("logs/{name}"))));
    }
}

#[test]
fn a_span_is_read_with_all_that_we_keep_of_it() {
    let received = read_traces(&corpus("traces/rich")).expect("valid");
    let [span, bare] = &received.items[..] else { panic!("two spans") };
    assert_eq!((span.trace, span.id), (TraceId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10), SpanId(0xff)));
    assert_eq!((&*span.name, &*span.service, &*span.instance), ("GET /orders", "orders", "orders-1"));
    assert_eq!((span.kind, span.status, span.parent), (SpanKind::Client, SpanStatus::Error, None));
    assert_eq!((span.start, span.duration), (at(1_700_000_000_000_000_000), Duration::from_millis(250)));
    let all = r#"{"a":[-3,true,1.5,"aGk=",null],"s":"x\"ü"}"#;
    assert_eq!(attribute(&span.attributes, "all"), &text(all));
    assert_eq!(attribute(&span.attributes, "n"), &Value::Int(i64::MAX));
    assert_eq!(attribute(&span.attributes, "event.cache miss"), &Value::Duration(Duration::from_millis(100)));
    assert_eq!(attribute(&span.attributes, "exception.type"), &text("ValueError"));
    assert_eq!(attribute(&span.attributes, "otel.status_description"), &text("it broke"));
    assert_eq!(attribute(&span.attributes, "otel.scope.name"), &text("flask"));
    assert_eq!((&*bare.service, &*bare.name, received.refused), ("unknown_service", "no resource", 0));
}

#[test]
fn metrics_of_each_kind_are_read() {
    let received = read_metrics(&corpus("metrics/rich")).expect("valid");
    let [gauge, sum, histogram, exponential, summary] = &received.items[..] else { panic!("five metrics") };
    let Data::Gauge(points) = &gauge.data else { panic!("{gauge:?}") };
    assert_eq!(
        points.iter().map(|point| point.value).collect::<Vec<_>>(),
        [-5.0],
        "a point without value is none"
    );
    assert_eq!(points[0].attributes, [(Cow::Borrowed("k"), text("v"))]);
    let Data::Sum { temporality: Temporality::Delta, is_monotone: true, points } = &sum.data else {
        panic!("{sum:?}")
    };
    assert_eq!((points[0].value, sum.unit.as_str(), sum.description.as_str()), (7.0, "By", "Bytes."));
    let Data::Histogram { temporality: Temporality::Cumulative, points } = &histogram.data else {
        panic!("{histogram:?}")
    };
    assert_eq!(
        (&points[0].counts[..], &points[0].bounds[..], points[0].sum),
        (&[1, 2, 3][..], &[0.5, 1.0][..], Some(2.5))
    );
    let Data::Exponential { points, .. } = &exponential.data else { panic!("{exponential:?}") };
    assert_eq!((points[0].scale, points[0].zero_count), (-1, 1));
    assert_eq!(points[0].positive, Buckets { offset: -2, counts: vec![1, 300] });
    let Data::Summary(points) = &summary.data else { panic!("{summary:?}") };
    assert!(points[0].quantiles[0] == (0.5, 0.1) && points[0].quantiles[1].1.is_nan());
}

#[test]
fn log_records_are_read() {
    let received = read_logs(&corpus("logs/rich")).expect("valid");
    let [event, plain] = &received.items[..] else { panic!("two records") };
    assert_eq!(
        (event.severity, event.event.as_str(), event.time),
        (17, "order.placed", at(1_700_000_000_000_000_000))
    );
    assert_eq!(
        (event.trace, event.span),
        (Some(TraceId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10)), Some(SpanId(0xff)))
    );
    assert_eq!((plain.body.clone(), plain.trace), (Some(text("plain")), None));
}

#[test]
fn a_request_of_nothing_but_empty_spans_costs_no_memory_and_is_told() {
    // 2 bytes a span: field 2, length 0; within scope spans, within resource spans.
    let mut scope = Vec::new();
    (0..100_000).for_each(|_| scope.extend_from_slice(&[0x12, 0]));
    let request = nested(&nested(&scope, 0x12), 0x0a);
    let received = read_traces(&request).expect("valid");
    assert_eq!((received.items.len(), received.refused), (0, 100_000));
    assert!(received.why.contains("trace id"), "{}", received.why);
}

fn nested(inner: &[u8], tag: u8) -> Vec<u8> {
    let mut outer = vec![tag];
    let mut length = inner.len();
    while length >= 0x80 {
        outer.push(length as u8 | 0x80);
        length >>= 7;
    }
    outer.push(length as u8);
    outer.extend_from_slice(inner);
    outer
}

#[test]
fn more_spans_than_the_bound_are_refused_and_counted() {
    let mut span = read_traces(&corpus("traces/example")).expect("valid").items.remove(0);
    span.attributes = (0..200).map(|place| (Cow::Owned(format!("a{place}")), Value::Int(place))).collect();
    let one =
        read_traces(&write_traces(std::slice::from_ref(&span), "1", &[])).expect("valid").items.remove(0);
    assert_eq!(one.attributes.len(), ATTRIBUTES_MAX);
    span.attributes.clear();
    let received = read_traces(&write_traces(&vec![span; ITEMS_MAX + 5], "1", &[])).expect("valid");
    assert_eq!((received.items.len(), received.refused), (ITEMS_MAX, 5));
}

#[test]
fn values_nested_without_end_end() {
    let open = r#"{"arrayValue":{"values":["#.repeat(40) + &"]}}".repeat(40);
    let json = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{open}}}]}}]}}]}}"#);
    let protobuf = json_to_protobuf(Signal::Logs, json.as_bytes()).expect("within the parser's depth");
    let record = read_logs(&protobuf).expect("valid").items.remove(0);
    assert_eq!(record.body, Some(text("[[[[[[[[[null]]]]]]]]]")));
    let deeper = r#"{"arrayValue":{"values":["#.repeat(100_000);
    let json = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{deeper}"#);
    assert!(matches!(json_to_protobuf(Signal::Logs, json.as_bytes()), Err(DecodeError::Json { .. })));
}

#[test]
fn json_that_is_wrong_is_told_with_its_place() {
    let refused = json_to_protobuf(Signal::Traces, b"{\"resourceSpans\":[{\n\"scopeSpans\": 7}]}");
    assert_eq!(refused, Err(DecodeError::Json { line: 2, column: 15 }));
    assert!(json_to_protobuf(Signal::Traces, b"{} {}").is_err());
    assert_eq!(
        json_to_protobuf(Signal::Traces, br#"{"unknown":[{"a":1}],"resourceSpans":null}"#),
        Ok(Vec::new())
    );
}

#[test]
fn answers_are_read_as_they_were_written() {
    let partial = Partial { refused: 3, why: "too \"many\"".to_owned() };
    assert_eq!(read_response(&write_response(Signal::Traces, &partial, false)), Ok(partial.clone()));
    assert_eq!(read_response(b""), Ok(Partial::default()));
    let json = write_response(Signal::Logs, &partial, true);
    assert_eq!(json, br#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"too \"many\""}}"#);
    assert_eq!(write_response(Signal::Logs, &Partial::default(), true), b"{}");
    assert_eq!(write_status(3, "no", true), br#"{"code":3,"message":"no"}"#);
    assert_eq!(write_status(3, "no", false), b"\x08\x03\x12\x02no");
}
