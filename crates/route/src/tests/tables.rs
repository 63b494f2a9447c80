//! Tables: what a user would say of which route serves what.

use super::{Head, rule};
use crate::{Conditions, Fault, HeaderMatch, Problem, QueryMatch, Rule, Table};

fn methods(methods: &[&str]) -> Conditions {
    Conditions { methods: methods.iter().map(|&method| method.to_owned()).collect(), ..Conditions::default() }
}

fn header(name: &str, wanted: HeaderMatch) -> Conditions {
    Conditions { headers: vec![(name.to_owned(), wanted)], ..Conditions::default() }
}

fn query(name: &str, wanted: QueryMatch) -> Conditions {
    Conditions { query: vec![(name.to_owned(), wanted)], ..Conditions::default() }
}

/// Prefixes asked of two headers.
fn prefixes(first: &str, second: &str) -> Conditions {
    let prefix = |text: &str| HeaderMatch::Prefix(text.to_owned());
    Conditions { headers: vec![("x".into(), prefix(first)), ("y".into(), prefix(second))], ..any() }
}

fn exact(text: &str) -> HeaderMatch {
    HeaderMatch::Exact(text.to_owned())
}

fn any() -> Conditions {
    Conditions::default()
}

/// A table of rules without conditions.
fn table(patterns: &[&str]) -> Table {
    Table::build(patterns.iter().map(|at| rule(at, any())).collect()).expect("no problems")
}

fn build(rules: Vec<Rule>) -> Table {
    Table::build(rules).expect("no problems")
}

/// The rule that serves a request on a listener that no rule names.
fn served(table: &Table, head: &Head) -> Option<usize> {
    table.find(table.listener("any"), head).map(|found| found.rule)
}

#[track_caller]
fn serves(patterns: &[&str], cases: &[(&str, Option<&str>)]) {
    let table = table(patterns);
    for (line, expected) in cases {
        let found = served(&table, &Head::new(line)).map(|rule| patterns[rule]);
        assert_eq!(found, *expected, "{line}");
    }
}

fn problems(rules: Vec<Rule>) -> Vec<Problem> {
    Table::build(rules).expect_err("a problem")
}

#[test]
fn a_prefix_ends_at_the_border_of_a_segment() {
    serves(
        &["/orders/*"],
        &[
            ("GET /orders", Some("/orders/*")),
            ("GET /orders/", Some("/orders/*")),
            ("GET /orders/1/items", Some("/orders/*")),
            ("GET /ordersx", None),
            ("GET /", None),
        ],
    );
}

#[test]
fn an_exact_path_matches_only_itself() {
    serves(
        &["/orders", "/", "/a/"],
        &[
            ("GET /orders", Some("/orders")),
            ("GET /orders/", None),
            ("GET /orders/1", None),
            ("GET /", Some("/")),
            ("GET /a/", Some("/a/")),
            ("GET /a", None),
        ],
    );
}

#[test]
fn a_capture_takes_exactly_one_segment_that_is_not_empty() {
    serves(
        &["/users/{id}/posts"],
        &[
            ("GET /users/7/posts", Some("/users/{id}/posts")),
            ("GET /users//posts", None),
            ("GET /users/7/8/posts", None),
            ("GET /users/7/posts/", None),
        ],
    );
}

#[test]
fn captures_are_ranges_of_the_path() {
    let table = table(&["/users/{id}/posts/{rest*}", "/files/*"]);
    let texts = |line: &str| {
        let head = Head::new(line);
        let found = table.find(table.listener(""), &head).expect("a match");
        let text = |position| found.captures.text(&head.path, position).expect("a text").to_owned();
        (0..found.captures.len()).map(text).collect::<Vec<_>>()
    };
    assert_eq!(texts("GET /users/7/posts/a/b/"), ["7", "a/b/"]);
    assert_eq!(texts("GET /users/7/posts/"), ["7", ""]);
    assert_eq!(texts("GET /users/7/posts"), ["7", ""]);
    assert_eq!(texts("GET /files/x"), ["x"]);
}

#[test]
fn a_wildcard_host_takes_one_or_more_labels() {
    serves(
        &["*.example.com/*"],
        &[
            ("GET a.example.com/", Some("*.example.com/*")),
            ("GET a.b.example.com/", Some("*.example.com/*")),
            ("GET example.com/", None),
            ("GET .example.com/", None),
            ("GET aexample.com/", None),
            ("GET /", None),
        ],
    );
}

#[test]
fn the_more_specific_host_wins_before_any_path() {
    serves(
        &["a.b.c/*", "*.b.c/x/*", "*.c/x/y/*", "/x/y/z"],
        &[
            ("GET a.b.c/x/y/z", Some("a.b.c/*")),
            ("GET z.b.c/x/y/z", Some("*.b.c/x/*")),
            ("GET b.c/x/y/z", Some("*.c/x/y/*")),
            ("GET d/x/y/z", Some("/x/y/z")),
        ],
    );
}

#[test]
fn what_a_host_does_not_cover_falls_to_the_next() {
    serves(
        &["a.b.c/a", "*.b.c/b", "*.c/c", "/d"],
        &[
            ("GET a.b.c/a", Some("a.b.c/a")),
            ("GET a.b.c/b", Some("*.b.c/b")),
            ("GET a.b.c/c", Some("*.c/c")),
            ("GET a.b.c/d", Some("/d")),
            ("GET a.b.c/e", None),
        ],
    );
}

#[test]
fn an_ipv6_host_matches_in_every_notation() {
    serves(
        &["[::1]/x", "/x"],
        &[
            ("GET [::1]/x", Some("[::1]/x")),
            ("GET [0:0:0:0:0:0:0:1]/x", Some("[::1]/x")),
            ("GET [::2]/x", Some("/x")),
            ("GET [zz]/x", Some("/x")),
        ],
    );
}

#[test]
fn paths_are_ordered_segment_by_segment() {
    serves(
        &["/a/b", "/a/{x}", "/a/*", "/{x}/b/c", "/{x}/b", "/*", "/a/b/c/{rest*}"],
        &[
            ("GET /a/b", Some("/a/b")),
            ("GET /a/c", Some("/a/{x}")),
            ("GET /a", Some("/a/*")),
            ("GET /a/b/c", Some("/a/b/c/{rest*}")),
            ("GET /a/c/d", Some("/a/*")),
            ("GET /z/b/c", Some("/{x}/b/c")),
            ("GET /z/b", Some("/{x}/b")),
            ("GET /z", Some("/*")),
        ],
    );
}

#[test]
fn a_literal_that_leads_nowhere_is_walked_back() {
    serves(&["/a/b/c", "/{x}/{y}/d"], &[("GET /a/b/d", Some("/{x}/{y}/d")), ("GET /a/b/e", None)]);
}

#[test]
fn options_star_is_served_by_all_paths_alone() {
    let table = table(&["/*", "/a", "h/{rest}"]);
    let star = Head { method: "OPTIONS".into(), path: "*".into(), host: "h".into(), ..Head::default() };
    assert_eq!(served(&table, &star), Some(0));
}

#[test]
fn a_pattern_written_by_hand_meets_a_normalised_path() {
    serves(&["/caf\u{e9}/%7euser"], &[("GET /caf%C3%A9/~user", Some("/caf\u{e9}/%7euser"))]);
}

#[test]
fn conditions_must_all_hold_else_the_next_rule_serves() {
    let beta = Conditions {
        methods: vec!["GET".into()],
        headers: vec![("X-Env".into(), exact("beta"))],
        query: vec![("v".into(), QueryMatch::Exact("2 3".into()))],
    };
    let table = build(vec![rule("/a", beta), rule("/*", any())]);
    let full = Head::new("GET /a?x&v=2+3").with("x-env", "beta");
    assert_eq!(served(&table, &full), Some(0));
    assert_eq!(served(&table, &Head { method: "HEAD".into(), ..full.clone() }), Some(1));
    assert_eq!(served(&table, &Head { query: Some("v=2".into()), ..full.clone() }), Some(1));
    assert_eq!(served(&table, &Head { query: None, ..full.clone() }), Some(1));
    assert_eq!(served(&table, &Head { headers: vec![("x-env".into(), "Beta".into())], ..full }), Some(1));
}

#[test]
fn headers_are_asked_by_prefix_suffix_presence_and_absence() {
    let cases: [(HeaderMatch, &[&str], &[&str]); 5] = [
        (exact("abc"), &["abc"], &["ab", "abcd", "ABC", ""]),
        (HeaderMatch::Prefix("ab".into()), &["ab", "abc"], &["a", "xab"]),
        (HeaderMatch::Suffix("bc".into()), &["bc", "abc"], &["bcx", "c"]),
        (HeaderMatch::Present, &["", "x"], &[]),
        (HeaderMatch::Absent, &[], &["", "x"]),
    ];
    for (wanted, yes, no) in cases {
        let absent = wanted == HeaderMatch::Absent;
        let table = build(vec![rule("/", header("X-H", wanted.clone()))]);
        for value in yes {
            assert!(served(&table, &Head::new("GET /").with("x-h", value)).is_some(), "{wanted:?} {value}");
        }
        for value in no {
            assert!(served(&table, &Head::new("GET /").with("x-h", value)).is_none(), "{wanted:?} {value}");
        }
        assert_eq!(served(&table, &Head::new("GET /")).is_some(), absent, "{wanted:?}");
    }
}

#[test]
fn the_first_value_of_a_query_parameter_counts() {
    let table = build(vec![
        rule("/", query("v", QueryMatch::Exact("1".into()))),
        rule("/", query("v", QueryMatch::Exact("2".into()))),
    ]);
    assert_eq!(served(&table, &Head::new("GET /?v=2&v=1")), Some(1));
}

#[test]
fn more_conditions_win_then_more_exact_ones_then_fewer_methods() {
    let two = Conditions {
        headers: vec![("a".into(), HeaderMatch::Present), ("b".into(), HeaderMatch::Present)],
        ..any()
    };
    let table = build(vec![
        rule("/", any()),
        rule("/", header("a", HeaderMatch::Present)),
        rule("/", header("a", HeaderMatch::Prefix("x".into()))),
        rule("/", header("a", HeaderMatch::Prefix("xy".into()))),
        rule("/", header("a", exact("xyz"))),
        rule("/", methods(&["GET", "POST"])),
        rule("/", methods(&["POST"])),
        rule("/", two),
    ]);
    let get = |value: &str| served(&table, &Head::new("HEAD /").with("a", value));
    assert_eq!(served(&table, &Head::new("HEAD /")), Some(0));
    assert_eq!([get("q"), get("xq"), get("xyq"), get("xyz")], [Some(1), Some(2), Some(3), Some(4)]);
    assert_eq!(served(&table, &Head::new("GET /").with("a", "xyz")), Some(5));
    assert_eq!(served(&table, &Head::new("POST /").with("a", "xyz")), Some(6));
    assert_eq!(served(&table, &Head::new("POST /").with("a", "xyz").with("b", "")), Some(7));
}

#[test]
fn a_rule_serves_only_its_listeners() {
    let mut inside = rule("/*", any());
    inside.listeners = vec!["inside".into(), "admin".into()];
    let mut admin = rule("/*", any());
    admin.listeners = vec!["admin".into()];
    let table = build(vec![rule("/a", any()), inside, admin]);
    let on =
        |name: &str, line: &str| table.find(table.listener(name), &Head::new(line)).map(|found| found.rule);
    assert_eq!(
        [on("inside", "GET /b"), on("admin", "GET /b"), on("public", "GET /b")],
        [Some(1), Some(2), None]
    );
    assert_eq!([on("inside", "GET /a"), on("public", "GET /a")], [Some(0), Some(0)]);
}

#[test]
fn a_wrong_method_is_told_which_ones_are_allowed() {
    let table = build(vec![
        rule("/a", methods(&["PUT", "GET"])),
        rule("h/a", methods(&["DELETE", "GET"])),
        rule("/{x}", Conditions { headers: vec![("k".into(), HeaderMatch::Present)], ..methods(&["PATCH"]) }),
    ]);
    let allowed = |head: Head| table.allowed(table.listener(""), &head);
    assert_eq!(allowed(Head::new("POST h/a")), ["DELETE", "GET", "PUT"]);
    assert_eq!(allowed(Head::new("POST /a")), ["GET", "PUT"]);
    assert_eq!(allowed(Head::new("POST /a").with("k", "")), ["GET", "PATCH", "PUT"]);
    assert!(allowed(Head::new("POST /b")).is_empty());
}

#[test]
fn a_true_tie_is_refused_with_both_names() {
    let found = problems(vec![
        rule("/a/*", header("x", HeaderMatch::Present)),
        rule("/a/{more*}", query("y", QueryMatch::Present)),
    ]);
    assert_eq!(
        found[0].to_string(),
        "route `/a/{more*}`: `/a/{more*}` and `/a/*` of route `/a/*` are equally specific and both match some of the \
         same requests; make one more specific by its path, or by a condition that the other does not meet"
    );
    assert_eq!((found.len(), found[0].rule), (1, 1));
}

#[test]
fn rules_that_no_request_can_both_match_are_no_tie() {
    let pairs = [
        (header("X", exact("a")), header("x", exact("b"))),
        (header("x", HeaderMatch::Prefix("aa".into())), header("x", HeaderMatch::Prefix("ab".into()))),
        (header("x", HeaderMatch::Suffix("aa".into())), header("x", HeaderMatch::Suffix("ab".into()))),
        (header("x", HeaderMatch::Present), header("x", HeaderMatch::Absent)),
        (methods(&["GET"]), methods(&["PUT"])),
        (query("v", QueryMatch::Exact("1".into())), query("v", QueryMatch::Exact("2".into()))),
    ];
    for (first, second) in pairs {
        build(vec![rule("/a", first), rule("/a", second)]);
    }
}

#[test]
fn rules_that_some_request_can_both_match_are_a_tie() {
    let pairs = [
        (any(), any()),
        (methods(&["GET", "PUT"]), methods(&["PUT", "POST"])),
        (header("x", HeaderMatch::Prefix("a".into())), header("x", HeaderMatch::Suffix("b".into()))),
        (header("x", exact("a")), header("y", exact("a"))),
        (header("x", HeaderMatch::Absent), query("y", QueryMatch::Present)),
        (methods(&["GET"]), methods(&["GET", "GET"])),
        (prefixes("ab", "a"), prefixes("a", "ab")),
    ];
    for (first, second) in pairs {
        problems(vec![rule("/a", first), rule("/a", second)]);
    }
}

#[test]
fn a_tie_on_different_listeners_is_none() {
    let on = |listeners: &[&str]| Rule {
        listeners: listeners.iter().map(|&name| name.to_owned()).collect(),
        ..rule("/a", any())
    };
    build(vec![on(&["a"]), on(&["b"]), on(&[])]);
    problems(vec![on(&["a", "b"]), on(&["b", "c"])]);
}

#[test]
fn the_same_path_twice_in_a_rule_is_refused() {
    let found = problems(vec![rule("/a/{x} /a/{y}", any())]);
    assert_eq!(found[0].fault, Fault::Repeated("/a/{x}".into(), "/a/{y}".into()));
}

#[test]
fn all_problems_are_told_at_once() {
    let wrong = Conditions {
        methods: vec!["get".into(), "G T".into()],
        headers: vec![
            ("X:".into(), HeaderMatch::Present),
            ("y".into(), HeaderMatch::Prefix(String::new())),
            ("Y".into(), HeaderMatch::Present),
        ],
        query: vec![
            (String::new(), QueryMatch::Present),
            ("v".into(), QueryMatch::Present),
            ("v".into(), QueryMatch::Present),
        ],
    };
    let many = (0..33).map(|n| (format!("q{n}"), QueryMatch::Present)).collect();
    let found = problems(vec![
        rule("", any()),
        rule("/a", wrong),
        rule("/b", any()),
        rule("/c", Conditions { query: many, ..any() }),
    ]);
    let told: Vec<_> = found.into_iter().map(|problem| (problem.rule, problem.fault)).collect();
    assert_eq!(
        told,
        [
            (0, Fault::Nowhere),
            (1, Fault::MethodCase("GET".into())),
            (1, Fault::Method("G T".into())),
            (1, Fault::HeaderName("X:".into())),
            (1, Fault::EmptyAffix("y".into())),
            (1, Fault::HeaderRepeated("Y".into())),
            (1, Fault::QueryName),
            (1, Fault::QueryRepeated("v".into())),
            (3, Fault::Conditions),
        ]
    );
}

#[test]
fn thousands_of_routes_are_told_apart() {
    let patterns: Vec<String> = (0..4000)
        .map(|n| match n % 4 {
            0 => format!("/api/v{n}/items/{{id}}"),
            1 => format!("h{n}.example.com/*"),
            2 => format!("*.z{n}.example.com/a"),
            _ => format!("/api/v{}/*", n - 3),
        })
        .collect();
    let table = build(patterns.iter().map(|at| rule(at, any())).collect());
    assert_eq!(table.len(), 4000);
    assert_eq!(served(&table, &Head::new("GET q/api/v400/items/7")), Some(400));
    assert_eq!(served(&table, &Head::new("GET q/api/v400/other")), Some(403));
    assert_eq!(served(&table, &Head::new("GET h801.example.com/api/v400/items/7")), Some(801));
    assert_eq!(served(&table, &Head::new("GET a.b.z802.example.com/a")), Some(802));
}
