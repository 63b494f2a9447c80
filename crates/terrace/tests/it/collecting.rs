//! The app's own telemetry comes in beside Terrace's, as OpenTelemetry's own SDK sends it when it is told nothing but what
//! stands in its environment; and Terrace's goes on to a collector, whatever that is up to.

use std::net::SocketAddr;

use serde_json::Value;
use terrace_testkit::{Inbox, Kind, Load, Port, Request, Terrace, World, get, until, until_true};

use crate::peers::python;
use crate::{shop, world};

/// An app with OpenTelemetry's SDK.
const ORDERS: &str = include_str!("collecting/orders.py");
const KINDS: [(Kind, usize); 2] = [(Kind::Get, 4), (Kind::Upload, 1)];

/// A service that runs it; what is `more` belongs to the file's end.
fn orders(world: &World, more: &str) -> (Port, SocketAddr, String) {
    world.folder.write("orders.py", ORDERS);
    let port = Port::reserve();
    let file = format!(
        "[listen.public]\naddress = \"{port}\"\n[service.orders]\nrun = [\"{}\", \"orders.py\"]\n\
         health = {{ path = \"/health\", every = \"200ms\" }}\n[trace]\nsample = \"100%\"\n{more}",
        python()
    );
    let address = port.address();
    (port, address, file)
}

#[test]
fn spans_counts_and_words_of_opentelemetrys_own_sdk_stand_beside_terraces() {
    let world = world();
    let alert = "[alert.many-orders]\nmetric = \"orders_placed_total\"\nlabels = { service = \"orders\" }\n\
                 by = [\"instance\"]\nabove = 0\nover = \"5s\"\nfor = \"0s\"\n";
    let (_port, address, file) = orders(&world, alert);
    let terrace = world.up(&file);
    let answer = Request::post("/order", "").send(address);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let trace = answer.field("x-trace").expect("the app knows its trace").to_owned();
    joined(&terrace, &trace);
    let record = until("its words are there", || {
        let told = terrace.command(&["logs", "orders", "--trace", &trace, "--json"]).ok();
        told.lines().find_map(|line| serde_json::from_str::<Value>(line).ok())
    });
    assert_eq!(record["message"], "payment p-1 failed", "{record}");
    assert_eq!((&record["service"], &record["instance"]), (&"orders".into(), &"orders-1".into()));
    assert_eq!((&record["level"], &record["fields"]["attempt"]), (&"error".into(), &2.into()));
    // A counter says something when it grows.
    let order = || assert_eq!(Request::post("/order", "").send(address).status, 201);
    let line = until("its count is there", || {
        order();
        terrace.ask("/v1/series?name=orders_placed_total&by=service,instance")["lines"].get(0).cloned()
    });
    assert_eq!(line["labels"], serde_json::json!({ "instance": "orders-1", "service": "orders" }));
    let address = crate::seeing::probes(&terrace);
    let shown = get(address, "/metrics/services").text();
    let (kind, line) = ("# TYPE orders_placed_total counter", "orders_placed_total{instance=\"orders-1\",");
    assert!(shown.contains(kind) && shown.contains(line), "whoever scrapes Terrace has it too: {shown}");
    let firing = until("the alert on it fires", || {
        order();
        let all = terrace.ask("/v1/alerts")["alerts"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|alert| alert["state"] == "firing")
    });
    assert_eq!((&firing["name"], &firing["detail"]), (&"many-orders".into(), &"instance=orders-1".into()));
    assert_eq!(firing["subject"]["service"], "orders");
}

/// The span of the app is a child of Terrace's try.
#[track_caller]
fn joined(terrace: &Terrace<'_>, trace: &str) {
    let spans = until("the app's span is in the trace", || {
        let told = terrace.command(&["traces", trace, "--json"]);
        let value: Value = serde_json::from_str(&told.stdout).unwrap_or_default();
        let spans = value["spans"].as_array().cloned().unwrap_or_default();
        spans.iter().any(|span| span["name"] == "place order").then_some(spans)
    });
    let span = |name: &str| spans.iter().find(|span| span["name"] == name).expect("it is there");
    let (own, attempt) = (span("place order"), span("try"));
    assert_eq!(own["parent_id"], attempt["span_id"], "{spans:#?}");
    assert_eq!((&own["service"], &own["instance"]), (&"orders".into(), &"orders-1".into()));
    assert_eq!(own["attributes"]["order.total"], 12.5);
}

#[test]
fn an_instance_finds_in_its_environment_where_its_telemetry_goes_unless_its_own_says_so() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let variable = |name: &str| get(address, &format!("/env?name={name}")).text();
    let mut terrace = world.up(&file);
    let endpoint = variable("OTEL_EXPORTER_OTLP_ENDPOINT");
    assert!(endpoint.starts_with("http://127.0.0.1:"), "{endpoint}");
    assert_eq!(variable("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf");
    assert_eq!(variable("OTEL_SERVICE_NAME"), "web");
    assert_eq!(variable("OTEL_RESOURCE_ATTRIBUTES"), "service.instance.id=web-1");
    assert!(terrace.stop().success());
    let mut terrace = world.up(&file);
    assert_eq!(variable("OTEL_EXPORTER_OTLP_ENDPOINT"), endpoint, "after a restart it is where it was");
    let own =
        "env = { OTEL_EXPORTER_OTLP_ENDPOINT = \"http://collector:4317\", OTEL_SERVICE_NAME = \"front\" }\n";
    terrace.reload_with(&format!("{file}{own}")).ok();
    until_true("it is told anew", || variable("OTEL_SERVICE_NAME") == "front");
    assert_eq!(variable("OTEL_EXPORTER_OTLP_ENDPOINT"), "http://collector:4317");
    assert_eq!(variable("OTEL_EXPORTER_OTLP_PROTOCOL"), "", "which protocol that speaks is its own affair");
    terrace.reload_with(&format!("{file}[otlp]\nreceive = false\n")).ok();
    until_true("nothing is taken in", || variable("OTEL_EXPORTER_OTLP_ENDPOINT").is_empty());
    assert!(terrace.stop().success());
}

/// All traces go to a collector there.
fn export(url: &str) -> String {
    format!("[trace]\nsample = \"100%\"\n[otlp]\nexport = {{ to = \"{url}\" }}\n")
}

fn exported(terrace: &Terrace<'_>, outcome: &str) -> f64 {
    terrace.counted(&format!("terrace_export_items_total{{signal=\"traces\",outcome=\"{outcome}\"}}"))
}

#[test]
fn a_collector_that_hangs_costs_no_request_and_what_it_misses_is_counted() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let hanging = Inbox::that_hangs();
    let mut terrace = world.up(&format!("{file}{}", export(&hanging.url())));
    let load = Load::start(address, &KINDS);
    until_true("it was asked", || !hanging.letters().is_empty());
    until_true("more wait than may", || exported(&terrace, "dropped") > 0.0);
    load.wait_for_more(&KINDS);
    load.stop().assert_nothing_lost();
    assert_eq!(exported(&terrace, "sent"), 0.0);
    assert!(terrace.stop().success(), "and it ends although the collector hangs");
}

#[test]
fn a_collector_that_is_away_refuses_or_moves_is_followed_under_load() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let (nobody, strict, well) = (Port::reserve(), Inbox::open(), Inbox::open());
    strict.answer(400);
    let mut terrace = world.up(&format!("{file}{}", export(&format!("http://{nobody}"))));
    let load = Load::start(address, &KINDS);
    let failing = terrace.event("telemetry.export.failing");
    assert_eq!(failing["signal"], "traces", "{failing}");
    terrace.reload_with(&format!("{file}{}", export(&strict.url()))).ok();
    until_true("what is refused is counted", || exported(&terrace, "refused") > 0.0);
    terrace.reload_with(&format!("{file}{}", export(&well.url()))).ok();
    until_true("what is taken is counted", || exported(&terrace, "sent") > 0.0);
    terrace.event("telemetry.export.recovered");
    let letter = well.letters().remove(0);
    assert_eq!(letter.path, "/v1/traces");
    let field = |name: &str| letter.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    assert_eq!(field("content-type").map(|(_, value)| value.as_str()), Some("application/x-protobuf"));
    terrace.reload_with(&format!("{file}[trace]\nsample = \"100%\"\n")).ok();
    let sent = exported(&terrace, "sent");
    // A request has some five spans: were they still sent on, these would be several batches.
    let requests = || terrace.counted("terrace_requests_total{");
    let more = requests() + 2_000.0;
    until_true("two thousand more were kept", || requests() >= more);
    load.stop().assert_nothing_lost();
    assert!(exported(&terrace, "sent") - sent <= 512.0, "one batch at most was still under way");
    assert!(terrace.stop().success());
}
