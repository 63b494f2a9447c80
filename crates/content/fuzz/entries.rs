//! What the fuzzers call, and what must hold of every input: nothing panics, nothing works without end, and what is read in
//! two ways is read the same.

use terrace_content::{
    CheckBounds, Coding, Item, Json, JsonBounds, JsonSchema, Kind, OpenApi, TextDecoder, TextEncoder, Unfit,
    Validator, WebCall, WebReply, negotiate, push_quoted,
};
use terrace_http::{Bounds, Fields, Head, Known, Method, RequestHead, ResponseHead, parse_request};

/// `Accept-Encoding`: the choice is among what is offered, does not change when the client says the same in two fields, and
/// is none where the client refuses all.
pub(crate) fn negotiation(data: &[u8]) {
    let chosen = negotiate([data], &Coding::ALL);
    for coding in Coding::ALL {
        if let Some(only) = negotiate([data], &[coding]) {
            assert_eq!(only, coding);
            assert!(chosen.is_some() || data.to_ascii_lowercase().windows(8).any(|word| word == b"identity"));
        }
    }
    let members: Vec<&[u8]> = data.split(|byte| *byte == b',').collect();
    if members.len() < 64 {
        assert_eq!(negotiate(members, &Coding::ALL), chosen, "a list over several fields is one list");
    }
    let refusal = [data, b", *;q=0, gzip;q=0, br;q=0, zstd;q=0"].concat();
    if data.len() < 64 {
        assert_eq!(negotiate([&refusal[..]], &Coding::ALL), None);
    }
}

/// gRPC-Web: text in any pieces gives the same bytes; a call becomes gRPC or stays as it was; an answer ends in one frame of
/// trailers.
pub(crate) fn grpc_web(data: &[u8]) {
    let (&piece, rest) = data.split_first().unwrap_or((&1, data));
    assert_eq!(decoded(rest, usize::from(piece).max(1)), decoded(rest, rest.len().max(1)));
    let mut text = Vec::new();
    let mut encoder = TextEncoder::default();
    rest.chunks(usize::from(piece).max(1)).for_each(|part| encoder.encode(part, &mut text));
    encoder.flush(&mut text);
    assert_eq!(decoded(&text, 3).as_deref(), Some(rest), "what we write is read as what it was");
    call(rest);
}

fn decoded(text: &[u8], piece: usize) -> Option<Vec<u8>> {
    let mut decoder = TextDecoder::default();
    let mut bytes = Vec::new();
    for part in text.chunks(piece) {
        decoder.decode(part, &mut bytes).ok()?;
    }
    decoder.finish().ok()?;
    Some(bytes)
}

fn call(content_type: &[u8]) {
    let mut head = RequestHead::new();
    head.method = Method::Post;
    head.fields.append(b"content-type", content_type);
    let Some(call) = WebCall::ask(&mut head) else {
        assert_eq!(head.fields.get(Known::ContentType), Some(content_type));
        return;
    };
    let ours = head.fields.get(Known::ContentType).unwrap_or_default();
    assert!(ours.starts_with(b"application/grpc") && !ours.starts_with(b"application/grpc-web"));
    let mut response = ResponseHead::new(200);
    response.fields.append(b"content-type", ours);
    let WebReply::Body(mut answer) = call.answer(&mut response) else { return };
    let mut trailers = Fields::new();
    trailers.append(b"grpc-status", b"0");
    let mut out = Vec::new();
    answer.end(Some(&trailers), &mut out);
    let frame = if call.wants_text { decoded(&out, 4).unwrap_or_default() } else { out };
    assert_eq!(frame, b"\x80\0\0\0\x10grpc-status: 0\r\n");
}

/// JSON: what is read, written again, is read as the same value, and every member is found by its name.
pub(crate) fn json(data: &[u8]) {
    let bounds = JsonBounds { values_max: 10_000, ..JsonBounds::default() };
    let Ok(json) = Json::read(data, &bounds) else { return };
    let text = written(json.root());
    let again = Json::read(text.as_bytes(), &bounds).expect("what was read is JSON");
    assert!(json.root() == again.root(), "{text}");
    each(json.root());
}

fn each(item: Item<'_>) {
    for (name, value) in item.members() {
        let name = name.text().expect("a name is a text");
        assert!(item.get(&name).is_some_and(|found| found == value), "{name:?}");
        each(value);
    }
    item.items().for_each(each);
    if let Some(number) = item.number() {
        assert!(number.as_u64().is_none() || number.is_integer());
    }
}

fn written(item: Item<'_>) -> String {
    match item.kind() {
        Kind::String => {
            let mut quoted = String::new();
            push_quoted(&mut quoted, &item.text().expect("a string has a text"));
            quoted
        }
        Kind::Array => format!("[{}]", item.items().map(written).collect::<Vec<_>>().join(",")),
        Kind::Object => {
            let member = |(name, value)| format!("{}:{}", written(name), written(value));
            format!("{{{}}}", item.members().map(member).collect::<Vec<_>>().join(","))
        }
        _ => item.literal().to_owned(),
    }
}

const SCHEMA: &str = r##"{"type":["object","array"],"properties":{"id":{"type":"integer","multipleOf":0.5},
    "at":{"format":"date-time"},"mail":{"format":"email"},"to":{"format":"uri"},"for":{"format":"duration"},
    "next":{"$ref":"#"},"kind":{"enum":["a",1,null,{"b":[]}]}},"patternProperties":{"^x-":{"pattern":"^\\w+$"}},
    "items":{"anyOf":[{"$ref":"#"},{"type":"string"}]},"uniqueItems":true,
    "unevaluatedProperties":{"type":"boolean"},"if":{"required":["id"]},"then":{"minProperties":2}}"##;

/// A body against a schema: a verdict is told within its bounds, and is the same again.
pub(crate) fn validation(data: &[u8]) {
    let bounds = JsonBounds { values_max: 10_000, ..JsonBounds::default() };
    let Ok(json) = Json::read(data, &bounds) else { return };
    let schema = JsonSchema::load("/s.json", &mut |_| Ok(SCHEMA.to_owned())).expect("our schema");
    let most = CheckBounds { steps_max: 100_000, flaws_max: 4 };
    let verdict = schema.check(json.root(), &most);
    if let Err(Unfit::Flaws(flaws)) = &verdict {
        assert!((1..=4).contains(&flaws.len()));
        assert!(flaws.iter().all(|flaw| flaw.pointer.starts_with('#') && flaw.pointer.len() < 300));
    }
    assert_eq!(schema.check(json.root(), &most), verdict);
}

const API: &str = r##"openapi: 3.1.0
paths:
  /a/{id}:
    get:
      parameters:
        - {name: id, in: path, schema: {type: [integer, boolean]}}
        - {name: list, in: query, style: pipeDelimited, explode: false, schema: {type: array, items: {type: number}}}
        - {name: deep, in: query, style: deepObject, schema: {type: object, properties: {a: {type: integer}}}}
        - {name: json, in: query, content: {application/json: {schema: {type: object}}}}
        - {name: X-H, in: header, schema: {type: object, properties: {b: {type: string}}}}
        - {name: c, in: cookie, schema: {format: uuid}}
"##;

/// A request's head against a description; and the input as a description, a schema and a document of YAML.
pub(crate) fn description(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let api = OpenApi::load("/a.yaml", &mut |_| Ok(API.to_owned())).expect("our description");
    let mut head = RequestHead::new();
    let request = [b"GET /a/", data, b" HTTP/1.1\r\nHost: a\r\nX-H: b\r\n\r\n"].concat();
    let is_request =
        matches!(parse_request(&request, &Bounds::default(), &mut head), Ok(Head::Complete { .. }));
    if is_request && let Err(refusal) = Validator::OpenApi(api).check_head(&head, false) {
        assert!(matches!(refusal.status, 404 | 413 | 422), "{refusal:?}");
        assert!(!refusal.detail.is_empty() && refusal.flaws.is_empty() == (refusal.status != 422));
    }
    for file in ["/a.yaml", "/a.json"] {
        let mut load = |path: &str| if path == file { Ok(text.clone()) } else { Err("none".to_owned()) };
        let _any_verdict = OpenApi::load(file, &mut load).is_ok();
        if let Ok(schema) = JsonSchema::load(file, &mut load) {
            let json = Json::read(b"{\"a\":[1,\"x\"]}", &JsonBounds::default()).expect("JSON");
            let _any_verdict = schema.check(json.root(), &CheckBounds { steps_max: 10_000, flaws_max: 4 });
        }
    }
}
