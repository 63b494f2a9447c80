//! Patterns: what is accepted, and how well a mistake is told.

use proptest::prelude::*;

use super::pattern;
use crate::{CAPTURES_MAX, PATTERN_BYTES_MAX, Pattern, PatternFault, SEGMENTS_MAX};

#[track_caller]
fn refused(text: &str, fault: PatternFault, offset: usize, suggestion: Option<&str>) {
    let error = Pattern::parse(text).expect_err(text);
    assert_eq!(
        (error.fault, error.offset, error.suggestion.as_deref()),
        (fault, offset, suggestion),
        "{text}"
    );
}

#[test]
fn the_patterns_of_the_manual_are_accepted() {
    for text in [
        "/*",
        "/",
        "/health",
        "/health/",
        "shop.example.com/orders/*",
        "*.example.com/*",
        "[::1]/x",
        "10.0.0.5/x",
        "/users/{id}/posts/{rest*}",
        "localhost/",
        "my_host/x",
        "/caf\u{e9}/%2F",
    ] {
        assert_eq!(pattern(text).to_string(), text);
    }
}

#[test]
fn a_host_is_compared_in_lower_case_without_its_last_dot() {
    assert_eq!(pattern("Shop.Example.COM./x").host().as_deref(), Some("shop.example.com"));
    assert_eq!(pattern("*.Example.com/x").host().as_deref(), Some("*.example.com"));
    assert_eq!(pattern("[0:0::0:1]/x").host().as_deref(), Some("[::1]"));
    assert_eq!(pattern("/x").host(), None);
}

#[test]
fn a_star_at_the_end_captures_as_rest() {
    assert_eq!(pattern("/a/{id}/*").names().collect::<Vec<_>>(), ["id", "rest"]);
    assert_eq!(pattern("/a/{id}/{more*}").names().collect::<Vec<_>>(), ["id", "more"]);
    assert_eq!(pattern("/a/{id}/*").position("rest"), Some(1));
}

#[test]
fn a_mistake_in_the_host_is_told_with_its_place() {
    use PatternFault as F;
    refused("", F::Empty, 0, Some("/*"));
    refused("shop.example.com", F::NoPath, 16, Some("shop.example.com/*"));
    refused("*", F::NoPath, 1, Some("/*"));
    refused("https://shop.example.com/x", F::Scheme, 0, Some("shop.example.com/x"));
    refused("https://shop.example.com", F::Scheme, 0, Some("shop.example.com/*"));
    refused("shop.example.com:8080/x", F::Port, 16, Some("shop.example.com/x"));
    refused("[::1]:80/x", F::Port, 5, Some("[::1]/x"));
    refused("[::1/x", F::Address, 0, None);
    refused("[1.2.3.4]/x", F::Address, 1, None);
    refused("*/x", F::Wildcard, 0, Some("/x"));
    refused("shop.*.com/x", F::Wildcard, 5, None);
    refused("*shop.com/x", F::Wildcard, 0, Some("shop.com/x"));
    refused("*.*.com/x", F::Wildcard, 2, None);
    refused("*./x", F::Label, 2, None);
    refused("a..b/x", F::Label, 2, None);
    refused("sh!op/x", F::HostCharacter, 2, None);
    refused("b\u{fc}cher.example/x", F::International, 1, None);
    refused("{tenant}.example.com/x", F::CaptureInHost, 0, Some("*.example.com/x"));
}

#[test]
fn a_mistake_in_the_path_is_told_with_its_place() {
    use PatternFault as F;
    refused("/a b", F::Space, 2, None);
    refused(" /a", F::Space, 0, Some("/a"));
    refused("/a?v=2", F::Query, 2, Some("/a"));
    refused("/a#b", F::Query, 2, Some("/a"));
    refused("/a//b", F::EmptySegment, 3, Some("/a/b"));
    refused("/a/../b", F::DotSegment, 3, None);
    refused("/a/%2e%2E/b", F::DotSegment, 3, None);
    refused("/100%", F::Escape, 4, None);
    refused("/a/*/b", F::StarInside, 3, Some("/a/{name}/b"));
    refused("/a*", F::StarInSegment, 2, Some("/a/*"));
    refused("/a/*.json", F::StarInSegment, 3, None);
    refused("/{a*}/b", F::RestInside, 1, Some("/{a}/b"));
    refused("/x/{id}.json", F::MixedSegment, 7, Some("/x/{id}"));
    refused("/x/v{id}", F::MixedSegment, 4, Some("/x/{id}"));
    refused("/x/{a}{b}", F::MixedSegment, 6, Some("/x/{a}"));
    refused("/x/{id", F::Unclosed, 3, Some("/x/{id}"));
    refused("/x/id}", F::StrayBrace, 5, None);
    refused("/x/{}", F::NoName, 4, Some("/x/{name}"));
    refused("/x/{*}", F::NoName, 4, Some("/x/{name*}"));
    refused("/x/{user.id}", F::NameCharacter, 8, Some("/x/{user_id}"));
    refused("/{path*}", F::ReservedName("path".into()), 2, Some("/{path_part*}"));
    refused("/{a}/{a}", F::RepeatedName("a".into()), 6, Some("/{a}/{a2}"));
    refused("/{rest}/*", F::RepeatedName("rest".into()), 8, Some("/{rest}/{below*}"));
}

#[test]
fn a_pattern_has_bounds() {
    let captures = |count: usize| (0..count).map(|n| format!("/{{c{n}}}")).collect::<String>();
    assert!(Pattern::parse(&captures(CAPTURES_MAX)).is_ok());
    assert_eq!(Pattern::parse(&captures(CAPTURES_MAX + 1)).unwrap_err().fault, PatternFault::Captures);
    assert!(Pattern::parse(&"/a".repeat(SEGMENTS_MAX)).is_ok());
    assert_eq!(Pattern::parse(&"/a".repeat(SEGMENTS_MAX + 1)).unwrap_err().fault, PatternFault::Segments);
    let long = format!("/{}", "\u{e9}".repeat(PATTERN_BYTES_MAX));
    assert_eq!(Pattern::parse(&long).unwrap_err().fault, PatternFault::TooLong);
}

/// Text that looks like a pattern often enough to get deep into the parser.
fn nearly_a_pattern() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/",
        "*",
        "{",
        "}",
        "a",
        "id",
        ".",
        "..",
        "%",
        "%41",
        "%zz",
        "[",
        "]",
        "::1",
        ":",
        ":80",
        "*.",
        "://",
        "?",
        "#",
        " ",
        "\u{e9}",
        "\u{0}",
        "example.com",
        "{id}",
        "{rest*}",
        "/*",
        "//",
        "-",
        "_",
        "{host}",
    ]);
    prop_oneof![prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()), any::<String>()]
}

proptest! {
    #[test]
    fn any_bytes_are_a_pattern_or_a_clear_error(bytes: Vec<u8>, nearly in nearly_a_pattern()) {
        for text in [String::from_utf8_lossy(&bytes).into_owned(), nearly] {
            let Err(error) = Pattern::parse(&text) else { continue };
            prop_assert!(text.is_char_boundary(error.offset), "{text:?}: {error:?}");
            prop_assert!(!error.to_string().is_empty());
            if let Some(suggestion) = error.suggestion {
                prop_assert!(Pattern::parse(&suggestion).is_ok(), "{text:?}: {suggestion:?}");
            }
        }
    }

    #[test]
    fn captures_of_any_path_are_cut_without_a_panic(path: String, nearly in nearly_a_pattern()) {
        for at in ["/{a}/{b}/*", "/x/{a}", "/*", "/{a}/x/{rest*}"] {
            for path in [&path, &nearly] {
                let captures = pattern(at).captures(path);
                for position in 0..captures.len() {
                    prop_assert!(captures.text(path, position).is_some() || !path.starts_with('/'));
                }
                prop_assert_eq!(captures.text(path, captures.len()), None);
            }
        }
    }
}
