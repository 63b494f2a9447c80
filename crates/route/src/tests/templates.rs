//! Rewrites and redirects: what is filled in, and that nothing a stranger sends can lead elsewhere.

use proptest::prelude::*;

use super::{Head, pattern, rule};
use crate::{
    Conditions, ExpandError, Match, Pattern, Redirect, Rewrite, Table, TemplateError, TemplateFault,
};

fn found(at: &str, head: &Head) -> Option<Match> {
    let table = Table::build(vec![rule(at, Conditions::default())]).expect("one rule");
    table.find(table.listener(""), head)
}

fn patterns(at: &str) -> Vec<Pattern> {
    at.split_whitespace().map(pattern).collect()
}

#[track_caller]
fn rewrites(at: &str, template: &str, line: &str) -> String {
    let head = Head::new(line);
    let found = found(at, &head).expect("a match");
    Rewrite::parse(template, &patterns(at)).expect(template).expand(&head, &found).expect(line)
}

#[track_caller]
fn redirects(at: &str, template: &str, line: &str) -> Result<String, ExpandError> {
    let head = Head::new(line);
    let found = found(at, &head).expect("a match");
    Redirect::parse(template, &patterns(at)).expect(template).expand(&head, &found)
}

#[test]
fn a_rewrite_fills_in_captures_and_keeps_the_query() {
    assert_eq!(rewrites("/orders/*", "/v2/{rest}", "GET /orders/7/items?a=1&a[]=%"), "/v2/7/items?a=1&a[]=%");
    assert_eq!(rewrites("/orders/*", "/v2/{rest}", "GET /orders"), "/v2/");
    assert_eq!(rewrites("/u/{id}/p/{post}", "/{post}-{id}", "GET /u/7/p/8%20x"), "/8%20x-7");
    assert_eq!(rewrites("/*", "/sites/{host}{path}", "GET a.b/x/y"), "/sites/a.b/x/y");
    assert_eq!(rewrites("/*", "{path}", "GET /x?"), "/x?");
}

#[test]
fn a_query_in_the_template_takes_the_place_of_the_old() {
    assert_eq!(rewrites("/u/{id}", "/u?id={id}&{query}", "GET /u/a&b=c?x=1"), "/u?id=a%26b%3Dc&x=1");
    assert_eq!(rewrites("/u/{id}", "/u?id={id}&{query}", "GET /u/7"), "/u?id=7");
    assert_eq!(rewrites("/u/{id}", "/u?{query}", "GET /u/7"), "/u");
    assert_eq!(rewrites("/u/{id}", "/u?", "GET /u/7?x=1"), "/u");
}

#[test]
fn a_route_with_several_patterns_fills_in_the_one_that_matched() {
    let at = "/a/{x}/{y} /b/{y}/{x}";
    assert_eq!(rewrites(at, "/{x}/{y}", "GET /a/1/2"), "/1/2");
    assert_eq!(rewrites(at, "/{x}/{y}", "GET /b/1/2"), "/2/1");
}

#[test]
fn options_star_is_not_rewritten() {
    let star = Head { method: "OPTIONS".into(), path: "*".into(), ..Head::default() };
    let found = found("/*", &star).unwrap();
    let rewrite = Rewrite::parse("/v2/{rest}", &patterns("/*")).unwrap();
    assert_eq!(rewrite.expand(&star, &found).as_deref(), Ok("*"));
}

#[test]
fn a_redirect_leads_to_another_host_or_path() {
    let to = |template| redirects("/old/*", template, "GET shop.example.com/old/a/b?q=1").unwrap();
    assert_eq!(to("https://new.example.com/{rest}"), "https://new.example.com/a/b?q=1");
    assert_eq!(to("https://www.{host}:8443{path}"), "https://www.shop.example.com:8443/old/a/b?q=1");
    assert_eq!(to("https://new.example.com"), "https://new.example.com/?q=1");
    assert_eq!(to("HTTPS://[::1]:80/x?"), "https://[::1]:80/x");
    assert_eq!(to("/new/{rest}#top"), "/new/a/b?q=1#top");
    assert_eq!(to("/caf\u{e9}?u={rest}"), "/caf%C3%A9?u=a/b");
}

#[test]
fn a_redirect_never_leads_to_a_host_from_the_path() {
    assert_eq!(redirects("/*", "/{rest}", "GET h//evil.example").as_deref(), Ok("/evil.example"));
    assert_eq!(redirects("/*", "{path}", "GET h//evil.example").as_deref(), Ok("/evil.example"));
    assert_eq!(redirects("/*", "/{rest}", "GET h/\\evil.example").as_deref(), Ok("/%5Cevil.example"));
    assert_eq!(redirects("/*", "https://h{path}", "GET h/@evil").as_deref(), Ok("https://h/@evil"));
    assert_eq!(redirects("/*", "https://{host}/", "GET a@evil\\/"), Ok("https://a%40evil%5C/".to_owned()));
    assert_eq!(redirects("/*", "https://{host}/", "GET /"), Err(ExpandError::NoHost));
}

#[test]
fn a_capture_cannot_leave_its_folder() {
    assert_eq!(redirects("/{a}/{b}", "/x/{a}{b}/y", "GET /./.%2"), Ok("/x/..%252/y".to_owned()));
    for line in ["GET /./.", "GET /./%2e", "GET /x%2f./.", "GET /./.;x", "GET /x\\./."] {
        assert_eq!(redirects("/{a}/{b}", "/x/{a}{b}/y", line), Err(ExpandError::DotSegment), "{line}");
    }
}

#[test]
fn an_address_has_a_bound() {
    let line = format!("GET /{}", "\u{1}".repeat(30_000));
    assert_eq!(redirects("/*", "/{rest}", &line), Err(ExpandError::TooLong));
    let line = format!("GET /?{}", "a".repeat(70_000));
    assert_eq!(redirects("/*", "/", &line), Err(ExpandError::TooLong));
}

#[test]
fn a_rewrite_that_cannot_work_is_refused_with_its_place() {
    use TemplateFault as F;
    let at = patterns("/orders/{id}/*");
    let cases = [
        ("", F::NoPath, 0),
        ("v2/{id}", F::NoPath, 0),
        ("{id}", F::NoPath, 0),
        ("https://x/", F::NoPath, 0),
        ("/x#y", F::Fragment, 2),
        ("/x y", F::Character, 2),
        ("/x\r\n", F::Character, 2),
        ("/x\\y", F::Character, 2),
        ("/v2/*", F::Star, 4),
        ("/100%", F::Escape, 4),
        ("/x/{id", F::Brace, 3),
        ("/x/id}", F::Brace, 5),
        ("/x/{i{d}", F::Brace, 3),
        ("/x/{query}", F::QueryInPath, 3),
        ("/x/../{id}", F::DotSegment, 2),
    ];
    for (text, fault, offset) in cases {
        let error = Rewrite::parse(text, &at).expect_err(text);
        assert_eq!((error.fault, error.offset), (fault, offset), "{text}");
    }
}

#[test]
fn an_unknown_name_is_told_with_the_one_that_was_meant() {
    let error = |template| Rewrite::parse(template, &patterns("/orders/{order_id}/*")).unwrap_err();
    assert_eq!(
        error("/x/{orderid}").to_string(),
        "`/orders/{order_id}/*` captures no `orderid`; did you mean `{order_id}`?"
    );
    assert_eq!(error("/x/{zzz}").suggestion, None);
    let several = Rewrite::parse("/{id}", &patterns("/a/{id} /b/{name}")).unwrap_err();
    let fault = TemplateFault::UnknownName { name: "id".into(), at: "/b/{name}".into() };
    assert_eq!(several, TemplateError { offset: 1, fault, suggestion: Some("name".into()) });
}

#[test]
fn a_redirect_that_could_lead_anywhere_is_refused() {
    use TemplateFault as F;
    let at = patterns("/{id}/*");
    let cases = [
        ("javascript:alert(1)", F::NoTarget),
        ("ftp://x/", F::NoTarget),
        ("new/{rest}", F::NoTarget),
        ("{rest}", F::NoTarget),
        ("//{id}/", F::NoScheme),
        ("https://{id}/", F::NameInHost),
        ("https://{id}.example.com/", F::NameInHost),
        ("https://{query}/", F::NameInHost),
        ("https:///x", F::Host),
        ("https://user@x/", F::Host),
        ("https://x:99999/", F::Host),
        ("https://x:{host}/", F::Host),
        ("https://a..b/", F::Host),
    ];
    for (text, fault) in cases {
        assert_eq!(Redirect::parse(text, &at).expect_err(text).fault, fault, "{text}");
    }
}

fn nearly_a_template() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "https://",
        "/",
        "//",
        "{rest}",
        "{id}",
        "{host}",
        "{path}",
        "{query}",
        "?",
        "#",
        "&",
        "=",
        ".",
        "..",
        "%",
        "%2e",
        "x.example",
        ":",
        "8080",
        "{",
        "}",
        "a",
        "\u{e9}",
        "@",
        "[",
        "]",
    ]);
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "\\", "..", ".", "%2e", "%2F", "\r", "\n", "\t", "@", ":", "a", "\u{e9}", "%", "#", "?", "\"",
        "<", "evil",
    ]);
    prop_oneof![prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()), any::<String>()]
}

/// What a browser takes as the host of a reference.
fn leads_to(address: &str) -> Option<&str> {
    let rest = match address.split_once("://") {
        Some(("http" | "https", rest)) => rest,
        _ => address.strip_prefix("//").or_else(|| address.strip_prefix("/\\"))?,
    };
    rest.split(['/', '?', '#', '\\']).next()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_a_stranger_sends_an_address_is_safe(
        template in nearly_a_template(), path in hostile(), query in prop::option::of(hostile()), host in hostile(),
    ) {
        let at = "/{id}/*";
        let head = Head { method: "GET".into(), host, path: format!("/{path}"), query, headers: vec![] };
        let Some(found) = found(at, &head) else { return Ok(()) };
        if let Ok(redirect) = Redirect::parse(&template, &patterns(at))
            && let Ok(address) = redirect.expand(&head, &found)
        {
                prop_assert!(address.bytes().all(|byte| byte.is_ascii_graphic()), "{address:?}");
                prop_assert!(!address.contains('\\'));
                let own = leads_to(&template).map(|own| own.replace("{path}", "/"));
                match own.as_deref().map(|own| own.split('/').next().unwrap()) {
                    None => prop_assert_eq!(leads_to(&address), None),
                    Some(own) if !own.contains("{host}") => prop_assert_eq!(leads_to(&address), Some(own)),
                    Some(_) => prop_assert!(!leads_to(&address).unwrap().contains('@')),
                }
        }
        if let Ok(rewrite) = Rewrite::parse(&template, &patterns(at))
            && let Ok(target) = rewrite.expand(&head, &found)
        {
                prop_assert!(target.bytes().all(|byte| byte.is_ascii_graphic()), "{target:?}");
                prop_assert!(target.starts_with('/') && !target.starts_with("//") && !target.contains('#'));
        }
    }

    #[test]
    fn any_text_is_a_template_or_an_error(text: String, nearly in nearly_a_template()) {
        for text in [text, nearly] {
            for error in [Rewrite::parse(&text, &patterns("/{id}")).err(), Redirect::parse(&text, &[]).err()] {
                let Some(error) = error else { continue };
                prop_assert!(text.is_char_boundary(error.offset), "{error:?}");
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
