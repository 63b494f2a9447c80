//! The way of single requests: whose trace it is, which are kept, and that all hops of one are found together.

use std::net::SocketAddr;

use serde_json::Value;
use terrace_testkit::{Port, Request, Terrace, World, get, until, until_true};

use crate::{shop, world};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENTS_SPAN: &str = "00f067aa0ba902b7";

/// `traceparent` of a client that wants its trace kept, or does not care.
fn parent(is_sampled: bool) -> String {
    format!("00-{TRACE}-{CLIENTS_SPAN}-0{}", u8::from(is_sampled))
}

/// A shop that asks its store for everything at `/call`.
fn shop_with_store(world: &World, more: &str) -> (Port, SocketAddr, String) {
    let (port, address, file) = shop(world, 1);
    let store = format!("[service.store]\nrun = {}\nready = {{ tcp = true }}\n", world.app());
    let route = "[route.all]\nat = \"/*\"\nto = \"web\"\n";
    (port, address, format!("{file}{store}{route}{more}"))
}

/// A field of the request as the app saw it.
fn seen(answer: &Value, name: &str) -> Option<String> {
    let fields = answer["fields"].as_array()?;
    fields.iter().find(|field| field[0] == name)?[1].as_str().map(str::to_owned)
}

fn list(terrace: &Terrace<'_>, asked: &[&str]) -> Vec<Value> {
    let told = terrace.command(&[&["traces", "--json"], asked].concat()).ok();
    let value: Value = serde_json::from_str(&told).expect("traces are JSON");
    value["traces"].as_array().cloned().unwrap_or_default()
}

/// A trace's spans, once there are so many requests to a server and tries in it.
fn whole(terrace: &Terrace<'_>, id: &str, servers: usize) -> Vec<Value> {
    until(&format!("all hops of {id} are there"), || {
        let spans = spans_if_kept(terrace, id);
        let count = |kind: &str| spans.iter().filter(|span| span["kind"] == kind).count();
        (count("server") >= servers && count("client") >= servers).then_some(spans)
    })
}

fn spans_if_kept(terrace: &Terrace<'_>, id: &str) -> Vec<Value> {
    let told = terrace.command(&["traces", id, "--json"]);
    let value: Value = serde_json::from_str(&told.stdout).unwrap_or_default();
    value["spans"].as_array().cloned().unwrap_or_default()
}

/// The only span of that kind on the way to that service.
#[track_caller]
fn the<'s>(spans: &'s [Value], kind: &str, service: &str) -> &'s Value {
    let fits = |span: &&Value| span["kind"] == kind && span["attributes"]["terrace.service"] == service;
    let found: Vec<&Value> = spans.iter().filter(fits).collect();
    assert_eq!(found.len(), 1, "of kind {kind} to {service}: {spans:#?}");
    found[0]
}

#[test]
fn a_clients_trace_is_taken_over_and_the_app_gets_a_child_of_it() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&format!("{file}[trace]\nsample = \"0%\"\n"));
    let request =
        Request::get("/seen").with("traceparent", &parent(true)).with("tracestate", "shop=1,other=2");
    let told = request.send(address).json();
    assert_eq!(seen(&told, "tracestate").as_deref(), Some("shop=1,other=2"));
    let child = seen(&told, "traceparent").expect("it is handed on");
    let parts: Vec<&str> = child.split('-').collect();
    assert_eq!((parts[0], parts[1], parts[3]), ("00", TRACE, "01"));
    let spans = whole(&terrace, TRACE, 1);
    let (server, attempt) = (the(&spans, "server", "web"), the(&spans, "client", "web"));
    assert_eq!(server["parent_id"], CLIENTS_SPAN);
    assert_eq!((&attempt["parent_id"], &attempt["span_id"]), (&server["span_id"], &parts[2].into()));
    // The same in the log, so that one leads to the other.
    let line = until("it is in the access log", || terrace.access().first().cloned());
    assert_eq!(line["trace_id"], TRACE);
    // A client that does not want its trace kept has its way, and it is one trace all the same.
    let other = TRACE.replace('4', "5");
    let unwanted = parent(false).replace(TRACE, &other);
    let told = Request::get("/seen").with("traceparent", &unwanted).send(address).json();
    let child = seen(&told, "traceparent").expect("it is handed on");
    assert!(child.starts_with(&format!("00-{other}-")) && child.ends_with("-00"), "{child}");
    assert!(!child.contains(CLIENTS_SPAN), "{child}");
}

#[test]
fn where_nobody_traces_a_clients_trace_passes_as_it_is() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&format!("{file}[trace]\nsample = false\n"));
    let told = Request::get("/seen").with("traceparent", &parent(true)).send(address).json();
    assert_eq!(seen(&told, "traceparent"), Some(parent(true)));
    assert_eq!(seen(&get(address, "/seen").json(), "traceparent"), None);
    assert_eq!(get(address, "/status?code=503").status, 503);
    until_true("all is over", || terrace.access().len() == 3);
    assert_eq!(list(&terrace, &[]), Vec::<Value>::new());
}

#[test]
fn a_failed_request_is_kept_with_all_its_hops_and_found_by_any_of_them() {
    let world = world();
    let (_port, address, file) = shop_with_store(&world, "[trace]\nsample = \"0%\"\nslow = \"1h\"\n");
    let terrace = world.up(&file);
    for _ in 0..5 {
        assert_eq!(get(address, "/call?url=STORE_URL&path=/status?code=200").status, 200);
    }
    assert_eq!(get(address, "/call?url=STORE_URL&path=/status?code=507").status, 507);
    let kept = until("it is kept", || list(&terrace, &["--errors"]).first().cloned());
    let id = kept["trace_id"].as_str().expect("it has an id").to_owned();
    let spans = whole(&terrace, &id, 2);
    let (outer, inner) = (the(&spans, "server", "web"), the(&spans, "server", "store"));
    let (to_web, to_store) = (the(&spans, "client", "web"), the(&spans, "client", "store"));
    let chain = [outer, to_web, inner, to_store];
    assert_eq!(outer["parent_id"], Value::Null);
    for pair in chain.windows(2) {
        assert_eq!(pair[1]["parent_id"], pair[0]["span_id"], "{spans:#?}");
    }
    for hop in chain {
        let about = &hop["attributes"];
        assert_eq!((&hop["is_error"], &about["http.response.status_code"]), (&true.into(), &507.into()));
    }
    assert_eq!(to_store["attributes"]["terrace.instance"], "store-1");
    until_true("the list has the whole of it", || list(&terrace, &[])[0]["services"][2] == "store");
    let found = list(&terrace, &["--service", "store", "--route", "all", "--text", "507"]);
    assert_eq!(
        (found.len(), &found[0]["trace_id"], &found[0]["kept"]),
        (1, &id.clone().into(), &"error".into())
    );
    assert_eq!(list(&terrace, &[]).len(), 1, "what went well is not kept");
    assert_eq!(list(&terrace, &["--slower", "1h"]).len(), 0);
    let shown = terrace.command(&["traces", &id]).ok();
    let inner = shown.lines().find(|line| line.contains("GET internal:store")).unwrap_or_default();
    assert!(inner.starts_with("    terrace") && inner.contains("failed") && inner.contains("507"), "{shown}");
    let missing = terrace.command(&["traces", TRACE]).refused();
    assert!(missing.contains("was not kept"), "{missing}");
}

#[test]
fn a_request_whose_caller_made_good_for_a_failure_is_kept_as_well() {
    let world = world();
    let (_port, address, file) = shop_with_store(&world, "[trace]\nsample = \"0%\"\nslow = \"1h\"\n");
    let terrace = world.up(&file);
    assert_eq!(get(address, "/call?url=STORE_URL&else=200&path=/status?code=503").status, 200);
    let kept = until("it is kept", || list(&terrace, &["--errors"]).first().cloned());
    let spans = whole(&terrace, kept["trace_id"].as_str().expect("it has an id"), 2);
    let (outer, inner) = (the(&spans, "server", "web"), the(&spans, "server", "store"));
    assert_eq!((&outer["is_error"], &inner["is_error"]), (&false.into(), &true.into()));
}

#[test]
fn a_slow_request_is_kept_and_says_where_its_time_went() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&format!("{file}[trace]\nsample = \"0%\"\nslow = \"5ms\"\n"));
    let held = std::thread::spawn(move || get(address, "/hold?gate=slow"));
    until_true("it is in flight", || world.folder.join("at-slow").exists());
    // Whatever else takes its time, this request is older than that now.
    let _takes_longer = terrace.status();
    world.folder.write("gate-slow", "");
    assert_eq!(held.join().expect("it is answered").status, 200);
    let found =
        until("it is kept", || list(&terrace, &["--slower", "5ms", "--text", "/hold"]).first().cloned());
    assert_eq!((&found["kept"], &found["is_error"]), (&"slow".into(), &false.into()));
    let spans = whole(&terrace, found["trace_id"].as_str().expect("it has an id"), 1);
    let span = |name: &str| spans.iter().find(|span| span["name"] == name).expect("it has that span");
    let seconds = |span: &Value| span["duration_seconds"].as_f64().unwrap_or_default();
    assert!(seconds(span("first byte")) > seconds(span("connect")), "{spans:#?}");
    assert!(seconds(span("first byte")) <= seconds(span("try")), "{spans:#?}");
}
