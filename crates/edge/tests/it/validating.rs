//! Requests held against a schema: what does not fit never reaches the service, what fits arrives byte for byte.

use std::sync::Arc;

use terrace_content::{JsonSchema, OpenApi, Validator};
use terrace_edge::{Guards, Route, Schema};

use crate::frames::{Client, DATA, END_STREAM, Said, get as h2_get};
use crate::message::Message;
use crate::rig::{Rig, Setup, route};
use crate::traffic::{forward, get};

const ORDER: &str = r#"{"type":"object","required":["item","count"],"additionalProperties":false,
    "properties":{"item":{"type":"string"},"count":{"type":"integer","minimum":1},"notes":{"type":"array","items":{"type":"string"}}}}"#;

const API: &str = "openapi: 3.1.0
servers: [{url: /api}]
paths:
  /orders:
    get: {parameters: [{name: limit, in: query, schema: {type: integer, maximum: 100}}]}
    post: {requestBody: {required: true, content: {application/json: {schema: {type: object, required: [item]}}}}}
";

fn validating(setup: &mut Setup, at: &str, validator: Validator) {
    let schema = Schema { validator, body_bytes_max: 128 << 10 };
    let guards = Guards { validate: Some(Arc::new(schema)), ..Guards::default() };
    let action = forward(setup, &[1]);
    setup.routes.push(Route { guards: Some(Box::new(guards)), ..route("orders", at, action) });
}

fn rig() -> Rig {
    let schema = JsonSchema::load("/order.json", &mut |_| Ok(ORDER.to_owned())).expect("a schema");
    let api = OpenApi::load("/api.yaml", &mut |_| Ok(API.to_owned())).expect("a description");
    Rig::with(|setup| {
        validating(setup, "/orders", Validator::Schema(schema));
        validating(setup, "/api/*", Validator::OpenApi(api));
    })
}

const JSON: &str = "Content-Type: application/json\r\n";

fn post(fields: &str, body: &str) -> String {
    let head = get("/orders", &format!("{fields}Content-Length: {}\r\n", body.len()));
    format!("{}{body}", head.replacen("GET", "POST", 1))
}

/// The request is refused, and no service hears of it.
#[track_caller]
fn refused(rig: &Rig, asked: &str, status: u16) -> Message {
    let answer = rig.answers_itself(asked);
    assert_eq!(answer.status(), status, "{answer:?} {}", answer.text());
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    answer
}

#[test]
fn what_fits_arrives_byte_for_byte() {
    let rig = rig();
    let body = "{ \"count\" : 1.0,\n\t\"item\":\"caf\\u00e9 \u{e9}\" }  ";
    let seen = rig.passes(post(JSON, body));
    assert_eq!((seen.text(), seen.field("content-length")), (body, Some(&*body.len().to_string())));
    assert_eq!(rig.counted("terrace_validated", &["orders", "ok"]), 1);
}

#[test]
fn a_body_in_chunks_is_judged_and_its_trailers_go_along() {
    let rig = rig();
    let head = get("/orders", &format!("{JSON}Transfer-Encoding: chunked\r\n")).replacen("GET", "POST", 1);
    let seen = rig.passes(format!("{head}a\r\n{{\"item\":\"x\r\nd\r\n\",\"count\": 2}}\r\n0\r\n\r\n"));
    assert_eq!(seen.text(), r#"{"item":"x","count": 2}"#);
    let seen = rig.passes(format!("{head}17\r\n{{\"item\":\"x\",\"count\": 2}}\r\n0\r\nX-Sum: 1\r\n\r\n"));
    assert_eq!(seen.trailers, [("x-sum".to_owned(), "1".to_owned())]);
}

#[test]
fn rfc9457_3_what_does_not_fit_is_told_with_its_places() {
    let rig = rig();
    let answer = refused(&rig, &post(JSON, r#"{"count":0,"notes":["a",7],"secret":"s3"}"#), 422);
    let problem: serde_json::Value = serde_json::from_str(answer.text()).expect("JSON");
    let errors = problem["errors"].as_array().expect("errors");
    let mut pointers: Vec<&str> =
        errors.iter().map(|error| error["pointer"].as_str().expect("a pointer")).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["#", "#/count", "#/notes/1", "#/secret"]);
    assert_eq!((&problem["fault"], &problem["retry_safe"]), (&"client".into(), &false.into()));
    assert!(!answer.text().contains("s3"), "no value is told: {}", answer.text());
    assert_eq!(rig.counted("terrace_validated", &["orders", "422"]), 1);
}

#[test]
fn rfc9110_15_5_each_reason_has_its_status() {
    let rig = rig();
    assert!(refused(&rig, &post(JSON, "{"), 400).text().contains("the body is not JSON: "));
    assert!(refused(&rig, &post(JSON, r#"{"item":"a","item":"b","count":1}"#), 400).text().contains("twice"));
    assert_eq!(
        refused(&rig, &post("Content-Type: text/plain\r\n", "x"), 415).field("accept"),
        Some("application/json")
    );
    refused(&rig, &post(&format!("{JSON}Content-Encoding: gzip\r\n"), "{}"), 415);
    let twice = post(&format!("{JSON}Content-Type: text/plain\r\n"), r#"{"item":"a","count":1}"#);
    assert!(refused(&rig, &twice, 400).text().contains("twice"));
    refused(&rig, &post("", "{}"), 415);
    refused(&rig, &post(JSON, ""), 400);
    refused(&rig, &post(JSON, &"[".repeat(1000)), 413);
    let seen = rig.passes(get("/orders", ""));
    assert!(seen.line.starts_with("GET"), "what has no body is not judged");
}

#[test]
fn the_connection_goes_on_after_a_refusal() {
    let rig = rig();
    let mut client =
        rig.client_that_sent(post(JSON, "[]") + &post(JSON, &format!("[{}]", " ".repeat(100_000))));
    assert_eq!(client.response().status(), 422);
    assert_eq!(client.response().status(), 422, "read whole, though it was large");
    client.send(post(JSON, r#"{"item":"x","count":1}"#));
    let mut origin = rig.origin.accept();
    origin.request();
    origin.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().status(), 201);
}

#[test]
fn what_is_too_large_to_judge_is_not_read_to_its_end() {
    let rig = rig();
    let head = get("/orders", &format!("{JSON}Content-Length: 200000\r\n")).replacen("GET", "POST", 1);
    let answer = refused(&rig, &head, 413);
    assert_eq!(answer.field("connection"), Some("close"));
    let head = get("/orders", &format!("{JSON}Transfer-Encoding: chunked\r\n")).replacen("GET", "POST", 1);
    let mut client = rig.client_that_sent(head);
    let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
    client.send(chunk.repeat(8));
    client.try_send(&chunk);
    assert_eq!(client.response().status(), 413);
    rig.origin.heard_nothing();
}

#[test]
fn rfc9110_10_1_1_a_client_that_waits_is_told_to_go_on() {
    let rig = rig();
    let body = r#"{"item":"x","count":1}"#;
    let head = get("/orders", &format!("{JSON}Expect: 100-continue\r\nContent-Length: {}\r\n", body.len()));
    let mut client = rig.client_that_sent(head.replacen("GET", "POST", 1));
    assert!(client.head().line.contains(" 100 "));
    client.send(body);
    let mut origin = rig.origin.accept();
    let seen = origin.request();
    assert_eq!((seen.field("expect"), seen.text()), (None, body));
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    // One whose type is wrong is told that without having sent anything.
    let head = get("/orders", "Content-Type: text/css\r\nExpect: 100-continue\r\nContent-Length: 9\r\n");
    let answer = rig.answers_itself(head.replacen("GET", "POST", 1));
    assert_eq!(answer.status(), 415);
}

#[test]
fn a_body_that_is_judged_elsewhere_is_judged_alike() {
    let rig = rig();
    let notes: Vec<String> = (0..4_000).map(|number| format!("\"note {number}\"")).collect();
    let body = format!(r#"{{"item":"x","count":1,"notes":[{}]}}"#, notes.join(","));
    assert!(body.len() > 40_000);
    assert_eq!(rig.passes(post(JSON, &body)).text(), body);
    let broken = body.replacen("\"note 3999\"", "3999", 1);
    assert!(refused(&rig, &post(JSON, &broken), 422).text().contains("#/notes/3999"));
}

#[test]
fn a_slow_body_is_waited_for_and_a_client_that_goes_away_is_not() {
    let rig = rig();
    let body = r#"{"item":"x","count":1}"#;
    let whole = post(JSON, body);
    let (first, second) = whole.split_at(whole.len() - 5);
    let mut client = rig.client_that_sent(first);
    let gone = rig.client_that_sent(first);
    drop(gone);
    assert_eq!(refused(&rig, &post(JSON, "[]"), 422).status(), 422, "others are served meanwhile");
    client.send(second);
    let mut origin = rig.origin.accept();
    assert_eq!(origin.request().text(), body);
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    rig.origin.heard_nothing();
}

#[test]
fn a_description_knows_paths_methods_and_parameters() {
    let rig = rig();
    assert!(rig.passes(get("/api/orders?limit=7", "")).line.contains("/api/orders?limit=7"));
    let answer = refused(&rig, &get("/api/orders?limit=700", ""), 422);
    let problem: serde_json::Value = serde_json::from_str(answer.text()).expect("JSON");
    let error = &problem["errors"][0];
    assert_eq!((&error["parameter"], &error["in"]), (&"limit".into(), &"query".into()));
    refused(&rig, &get("/api/unknown", ""), 404);
    let answer = refused(&rig, &get("/api/orders", "").replacen("GET", "DELETE", 1), 405);
    assert_eq!(answer.field("allow"), Some("GET, POST"));
    refused(&rig, &post(JSON, "{}").replacen("/orders", "/api/orders", 1), 422);
    let fits = post(JSON, r#"{"item":1}"#).replacen("/orders", "/api/orders", 1);
    assert_eq!(rig.passes(fits).text(), r#"{"item":1}"#);
}

#[test]
fn a_body_that_comes_over_http_2_is_judged_too() {
    let rig = rig();
    let mut client = Client::connect(&rig);
    let ask = |client: &mut Client, stream, body: &str| {
        let mut fields = h2_get("/orders");
        fields[0] = (":method", "POST");
        fields.push(("content-type", "application/json"));
        client.ask(stream, &fields, true);
        client.send(DATA, END_STREAM, stream, body.as_bytes());
    };
    ask(&mut client, 1, "{}");
    assert_eq!(client.said(1), Said::Status(422));
    ask(&mut client, 3, r#"{"item":"x","count":1}"#);
    let mut origin = rig.origin.accept();
    assert_eq!(origin.request().text(), r#"{"item":"x","count":1}"#);
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.said(3), Said::Status(200));
    assert_eq!(client.body(3).as_deref(), Ok(&b"ok"[..]));
}
