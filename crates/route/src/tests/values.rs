//! Values of fields and query parameters: what is filled in, and that nothing a stranger sends can leave its place.

use proptest::prelude::*;

use super::{Head, pattern, rule};
use crate::{
    Conditions, EditError, ExpandError, Match, Pattern, QueryEdit, Table, TemplateFault, VALUE_BYTES_MAX,
    ValueName, ValueSource, ValueTemplate,
};

/// What the edge knows of a request beside its head.
struct Known {
    claim: String,
}

impl ValueSource for Known {
    fn write(&self, name: &ValueName, out: &mut Vec<u8>) {
        out.extend_from_slice(match name {
            ValueName::ClientIp => b"192.0.2.7",
            ValueName::RequestId => b"id-1",
            ValueName::Route => b"orders",
            ValueName::Service => b"",
            ValueName::Claim(name) if &**name == "sub" => self.claim.as_bytes(),
            ValueName::Claim(_) => b"",
        });
    }
}

fn known(claim: &str) -> Known {
    Known { claim: claim.to_owned() }
}

fn found(at: &str, head: &Head) -> Option<Match> {
    let table = Table::build(vec![rule(at, Conditions::default())]).expect("one rule");
    table.find(table.listener(""), head)
}

fn patterns(at: &str) -> Vec<Pattern> {
    at.split_whitespace().map(pattern).collect()
}

#[track_caller]
fn filled_with(at: &str, template: &str, line: &str, claim: &str) -> Result<String, ExpandError> {
    let head = Head::new(line);
    let found = found(at, &head).expect("a match");
    let template = ValueTemplate::parse(template, &patterns(at)).expect(template);
    let mut out = b"before".to_vec();
    template.expand(&head, Some(&found), &known(claim), &mut out)?;
    Ok(String::from_utf8(out.split_off(6)).expect("ASCII"))
}

#[track_caller]
fn filled(at: &str, template: &str, line: &str) -> String {
    filled_with(at, template, line, "ann").expect("it fits")
}

#[track_caller]
fn edited(set: &[(&str, &str)], remove: &[&str], line: &str) -> Option<String> {
    let head = Head::new(line);
    let found = found("/{id}/*", &head).expect("a match");
    let value = |text: &str| ValueTemplate::parse(text, &patterns("/{id}/*")).expect(text);
    let set = set.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
    let edit = QueryEdit::new(set, remove.iter().map(|name| (*name).to_owned()).collect()).expect("valid");
    edit.apply(&head, Some(&found), &known("a&b=c")).expect("it fits")
}

#[test]
fn a_value_fills_in_captures_and_what_is_known_of_the_request() {
    let line = "GET shop.example/orders/7/items?a=1";
    let value = |template| filled("/orders/{id}/*", template, line);
    assert_eq!(value("order {id}, rest={rest}"), "order 7, rest=items");
    assert_eq!(value("{host}{path}?{query}"), "shop.example/orders/7/items?a=1");
    assert_eq!(value("{client-ip} {request-id} {route}"), "192.0.2.7 id-1 orders");
    assert_eq!(value("{claim:sub}"), "ann");
    assert_eq!(value("{{\"id\": {id}}}"), "{\"id\": 7}");
    assert_eq!(value("plain"), "plain");
}

#[test]
fn what_is_not_there_is_empty_and_leaves_no_spaces() {
    let value = |template| filled("/{id}", template, "GET /7");
    assert_eq!(value("{claim:none}"), "");
    assert_eq!(value("{service} {claim:none}"), "");
    assert_eq!(value("{service} {id}"), "7");
    let head = Head::new("GET /7");
    let anywhere = ValueTemplate::parse("{id}", &[]).expect("captures are empty where there is no pattern");
    let mut out = Vec::new();
    anywhere.expand(&head, None, &known("x"), &mut out).expect("it fits");
    assert!(out.is_empty());
}

#[test]
fn a_capture_wins_over_a_name_of_ours() {
    assert_eq!(filled("/{service}/{route}", "{service} {route}", "GET /a/b"), "a b");
    let several = ValueTemplate::parse("{service}", &patterns("/a/{service} /b/{id}")).unwrap_err();
    assert_eq!(several.fault, TemplateFault::UnknownName { name: "service".into(), at: "/b/{id}".into() });
}

#[test]
fn nothing_that_is_filled_in_ends_a_field() {
    let claim = "ann\r\nX-Admin: 1\0\u{e9}\u{7f}";
    let value = filled_with("/*", "{claim:sub}", "GET /", claim).expect("it fits");
    assert_eq!(value, "ann%0D%0AX-Admin: 1%00%C3%A9%7F");
}

#[test]
fn a_value_has_a_bound() {
    let long = |bytes: usize| filled_with("/*", "{claim:sub}", "GET /", &"a".repeat(bytes));
    assert_eq!(long(VALUE_BYTES_MAX).map(|value| value.len()), Ok(VALUE_BYTES_MAX));
    assert_eq!(long(VALUE_BYTES_MAX + 1), Err(ExpandError::TooLong));
    assert_eq!(
        filled_with("/*", "{claim:sub}", "GET /", &"\n".repeat(VALUE_BYTES_MAX)),
        Err(ExpandError::TooLong)
    );
}

#[test]
fn a_value_that_is_always_the_same_is_known_beforehand() {
    let literal = |text| ValueTemplate::parse(text, &[]).expect(text).literal().map(str::to_owned);
    assert_eq!(literal("a {{b}}").as_deref(), Some("a {b}"));
    assert_eq!(literal("").as_deref(), Some(""));
    assert_eq!(literal("a {host}"), None);
    let template = ValueTemplate::parse("{service}", &[]).expect("valid");
    assert!(template.names(&ValueName::Service) && !template.names(&ValueName::Route));
}

#[test]
fn a_value_that_cannot_work_is_refused_with_its_place() {
    use TemplateFault as F;
    let cases = [
        ("a\r\nb", F::ValueCharacter, 1),
        ("a\tb", F::ValueCharacter, 1),
        ("caf\u{e9}", F::ValueCharacter, 3),
        (" a", F::OuterSpace, 0),
        ("a ", F::OuterSpace, 1),
        ("a {id", F::ValueBrace, 2),
        ("a id}", F::ValueBrace, 4),
        ("{claim:}", F::NoClaim, 0),
        ("{}", F::UnknownValue { name: String::new() }, 0),
    ];
    for (text, fault, offset) in cases {
        let error = ValueTemplate::parse(text, &patterns("/{id}")).expect_err(text);
        assert_eq!((error.fault, error.offset), (fault, offset), "{text}");
    }
    let error = |name, at: &str| ValueTemplate::parse(name, &patterns(at)).unwrap_err().suggestion;
    assert_eq!(error("{clent-ip}", "/{id}").as_deref(), Some("client-ip"));
    assert_eq!(error("{client-ipp}", "").as_deref(), Some("client-ip"), "a slip, not a capture");
    assert_eq!(error("{order}", "/{order_id}").as_deref(), Some("order_id"));
}

#[test]
fn query_parameters_are_set_and_removed_and_the_rest_stays_as_it_was() {
    let line = "GET /7/x?a=1&debug=1&b[]=%&a=2&flag";
    assert_eq!(edited(&[("v", "{id}")], &[], line).as_deref(), Some("a=1&debug=1&b[]=%&a=2&flag&v=7"));
    assert_eq!(edited(&[("a", "3")], &["debug"], line).as_deref(), Some("b[]=%&flag&a=3"));
    assert_eq!(edited(&[], &["%61", "flag"], line).as_deref(), Some("a=1&debug=1&b[]=%&a=2"));
    assert_eq!(edited(&[], &["a"], "GET /7/x?%61=1&a").as_deref(), None, "names are compared decoded");
    assert_eq!(edited(&[("new one", "x")], &[], "GET /7/x").as_deref(), Some("new%20one=x"));
    assert_eq!(edited(&[("a", "{claim:none}")], &[], "GET /7/x?a=forged").as_deref(), None);
}

#[test]
fn a_value_cannot_leave_its_parameter() {
    assert_eq!(edited(&[("u", "{claim:sub}")], &[], "GET /7/x").as_deref(), Some("u=a%26b%3Dc"));
    assert_eq!(
        edited(&[("r", "{rest}")], &[], "GET /7/a&admin=1?x=1").as_deref(),
        Some("x=1&r=a%26admin%3D1")
    );
}

#[test]
fn an_edit_that_contradicts_itself_is_refused() {
    let value = || ValueTemplate::parse("x", &[]).expect("valid");
    let set = || vec![("a".to_owned(), value())];
    assert_eq!(QueryEdit::new(set(), vec!["a".to_owned()]), Err(EditError::Both("a".to_owned())));
    assert_eq!(QueryEdit::new(Vec::new(), vec![String::new()]), Err(EditError::NoName));
    let many = (0..65).map(|number| number.to_string()).collect();
    assert_eq!(QueryEdit::new(Vec::new(), many), Err(EditError::TooMany));
    assert!(QueryEdit::default().is_empty());
}

fn nearly_a_value() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{rest}",
        "{id}",
        "{host}",
        "{path}",
        "{query}",
        "{claim:sub}",
        "{client-ip}",
        "{{",
        "}}",
        "{",
        "}",
        "a",
        " ",
        ":",
        "\u{e9}",
        "\r\n",
    ]);
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_a_stranger_sends_a_value_is_one_field(
        template in nearly_a_value(), path: String, query in prop::option::of(any::<String>()), host: String,
        claim: String,
    ) {
        let at = "/{id}/*";
        let head = Head { method: "GET".into(), host, path: format!("/{path}"), query, headers: vec![] };
        let Some(found) = found(at, &head) else { return Ok(()) };
        let Ok(template) = ValueTemplate::parse(&template, &patterns(at)) else { return Ok(()) };
        let mut out = Vec::new();
        if template.expand(&head, Some(&found), &known(&claim), &mut out).is_ok() {
            prop_assert!(out.iter().all(|byte| matches!(byte, b' '..=b'~')), "{out:?}");
            prop_assert!(!out.starts_with(b" ") && !out.ends_with(b" "));
        }
        let edit = QueryEdit::new(vec![("p".to_owned(), template)], vec!["q".to_owned()]).expect("valid");
        if let Ok(Some(query)) = edit.apply(&head, Some(&found), &known(&claim)) {
            let ours: Vec<&str> = query.split('&').filter(|pair| pair.starts_with("p=")).collect();
            prop_assert!(ours.len() <= 1 && !query.split('&').any(|pair| pair == "q" || pair.starts_with("q=")));
            prop_assert!(ours.iter().all(|pair| pair.bytes().all(|byte| byte.is_ascii_graphic())));
        }
    }

    #[test]
    fn any_text_is_a_value_or_an_error(text: String, nearly in nearly_a_value()) {
        for text in [text, nearly] {
            let Err(error) = ValueTemplate::parse(&text, &patterns("/{id}")) else { continue };
            prop_assert!(text.is_char_boundary(error.offset), "{error:?}");
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
