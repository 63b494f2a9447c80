//! The law of order: total over rules that meet in a request, transitive, and true to containment.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::{Head, model, rule};
use crate::{Conditions, Fault, HeaderMatch, QueryMatch, Rule, Table, order::Weight};

/// A header's value that both ask for, where there is one; `None` for its absence.
fn value_for(first: Option<&HeaderMatch>, second: Option<&HeaderMatch>) -> Option<String> {
    let mut prefix = "";
    let mut suffix = "";
    for wanted in [first, second].into_iter().flatten() {
        match wanted {
            HeaderMatch::Exact(text) => return Some(text.clone()),
            HeaderMatch::Prefix(text) if text.len() > prefix.len() => prefix = text,
            HeaderMatch::Suffix(text) if text.len() > suffix.len() => suffix = text,
            HeaderMatch::Absent => return None,
            _ => {}
        }
    }
    Some(format!("{prefix}{suffix}"))
}

/// A request that meets the conditions of both, if one exists.
fn witness(path: &str, first: &Rule, second: &Rule) -> (String, Head) {
    let (a, b) = (&first.conditions, &second.conditions);
    let common = |ours: &[String], theirs: &[String]| match ours.is_empty() {
        true => theirs.first().cloned(),
        false => ours.iter().find(|one| theirs.is_empty() || theirs.contains(one)).cloned(),
    };
    let listener = common(&first.listeners, &second.listeners).unwrap_or_default();
    let method = common(&a.methods, &b.methods).unwrap_or_else(|| "GET".to_owned());
    let mut head = Head { method, ..Head::new(&format!("GET {path}")) };
    for (name, _) in a.headers.iter().chain(&b.headers) {
        let wanted = |conditions: &Conditions| {
            conditions.headers.iter().find(|(known, _)| known == name).map(|(_, wanted)| wanted.clone())
        };
        if let Some(value) = value_for(wanted(a).as_ref(), wanted(b).as_ref()) {
            head = head.with(&name.to_ascii_lowercase(), &value);
        }
    }
    let mut pairs = Vec::new();
    for (name, wanted) in a.query.iter().chain(&b.query) {
        // Exact values first: the first occurrence counts.
        match wanted {
            QueryMatch::Exact(text) => pairs.insert(0, format!("{name}={text}")),
            QueryMatch::Present => pairs.push(format!("{name}=")),
        }
    }
    head.query = Some(pairs.join("&"));
    (listener, head)
}

fn on_one_path(rule: Rule) -> Rule {
    Rule { conditions: rule.conditions, listeners: rule.listeners, ..self::rule("/p", Conditions::default()) }
}

fn weight(rule: &Rule) -> Weight {
    Weight::new(&rule.conditions, rule.listeners.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_order_is_transitive_and_antisymmetric(
        a in model::planned(), b in model::planned(), c in model::planned(),
    ) {
        let [a, b, c] = [a, b, c].map(|(plans, rule)| (model::rank(&plans[0], &rule), weight(&rule)));
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        for order in [Ordering::Less, Ordering::Equal, Ordering::Greater] {
            if a.cmp(&b) == order && b.cmp(&c) == order {
                prop_assert_eq!(a.cmp(&c), order);
            }
        }
    }

    #[test]
    fn of_all_rules_that_match_a_request_no_two_are_equally_specific(
        planned in prop::collection::vec(model::planned(), 0..25), heads in prop::collection::vec(model::head(), 20),
    ) {
        let (planned, _) = model::without_ties(planned);
        for head in heads {
            let mut ranks: Vec<_> =
                model::all_matches(&planned, "in", &head).into_iter().map(|(rank, ..)| rank).collect();
            ranks.sort();
            prop_assert!(ranks.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", head);
        }
    }

    #[test]
    fn what_is_refused_as_a_tie_meets_in_a_request_and_what_meets_is_refused(
        first in model::planned(), second in model::planned(),
    ) {
        let (first, second) = (on_one_path(first.1), on_one_path(second.1));
        let (listener, head) = witness("/p", &first, &second);
        let meet = model::admits(&first, &listener, &head) && model::admits(&second, &listener, &head);
        let tie = match Table::build(vec![first.clone(), second.clone()]) {
            Ok(_) => false,
            Err(problems) => matches!(problems[..], [ref one] if matches!(one.fault, Fault::Tie { other: 0, .. })),
        };
        prop_assert_eq!(tie, meet && weight(&first) == weight(&second));
    }

    #[test]
    fn a_rule_that_asks_for_more_comes_before_the_one_it_is_part_of(
        wider in model::planned(), other in model::planned(), choice: [prop::sample::Index; 4],
    ) {
        let narrower = on_one_path(narrowed(&wider.1, &other.1, &choice));
        let wider = on_one_path(wider.1);
        prop_assert!(contains(&wider, &narrower), "{narrower:?} in {wider:?}");
        if narrower.conditions != wider.conditions {
            prop_assert!(weight(&narrower) > weight(&wider), "{narrower:?} in {wider:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_pattern_comes_before_the_one_whose_paths_it_is_part_of(first in model::plan(), second in model::plan()) {
        let (mut only_first, mut only_second, mut both) = (false, false, false);
        for (host, path) in universe() {
            match (first.matches(host, &path), second.matches(host, &path)) {
                (true, true) => both = true,
                (true, false) => only_first = true,
                (false, true) => only_second = true,
                (false, false) => {}
            }
        }
        let expected = match (both, only_first, only_second) {
            (true, false, true) => Some(Ordering::Greater),
            (true, true, false) => Some(Ordering::Less),
            (true, false, false) => Some(Ordering::Equal),
            _ => None,
        };
        if let Some(expected) = expected {
            prop_assert_eq!(first.rank().cmp(&second.rank()), expected);
        }
    }
}

/// Every host and path that the plans of the model could tell apart.
fn universe() -> impl Iterator<Item = (&'static str, String)> {
    let mut paths = vec![String::new()];
    let mut start = 0;
    for _ in 0..5 {
        let end = paths.len();
        for place in start..end {
            paths.extend(["/a", "/b", "/z", "/"].map(|segment| format!("{}{segment}", paths[place])));
        }
        start = end;
    }
    let hosts = ["", "b.c", "a.b.c", "x.a.b.c", "y.x.a.b.c", "z.a.b.c", "[::1]"];
    paths.into_iter().skip(1).flat_map(move |path| hosts.map(|host| (host, path.clone())))
}

/// A rule that asks for all that `wider` asks for, more exactly in places, and for some of what `other` asks.
fn narrowed(wider: &Rule, other: &Rule, choice: &[prop::sample::Index; 4]) -> Rule {
    let list = |wide: &[String], other: &[String], choice: &prop::sample::Index| match wide {
        [] => other.to_vec(),
        _ => vec![choice.get(wide).clone()],
    };
    let (wide, more) = (&wider.conditions, &other.conditions);
    let mut conditions = wide.clone();
    conditions.methods = list(&wide.methods, &more.methods, &choice[0]);
    for (_, wanted) in &mut conditions.headers {
        let stronger: Vec<HeaderMatch> =
            model::header_matches().into_iter().filter(|asked| implies(asked, wanted)).collect();
        *wanted = choice[1].get(&stronger).clone();
    }
    for (_, wanted) in &mut conditions.query {
        if *wanted == QueryMatch::Present && choice[2].index(2) == 0 {
            *wanted = QueryMatch::Exact("1".into());
        }
    }
    let new = |name: &String, known: &[String]| !known.contains(name);
    let headers: Vec<String> = wide.headers.iter().map(|(name, _)| name.clone()).collect();
    conditions.headers.extend(more.headers.iter().filter(|(name, _)| new(name, &headers)).cloned());
    let query: Vec<String> = wide.query.iter().map(|(name, _)| name.clone()).collect();
    conditions.query.extend(more.query.iter().filter(|(name, _)| new(name, &query)).cloned());
    let listeners = list(&wider.listeners, &other.listeners, &choice[3]);
    Rule { conditions, listeners, ..wider.clone() }
}

/// Whether everything that `narrower` asks for implies what `wider` asks for.
fn contains(wider: &Rule, narrower: &Rule) -> bool {
    let list = |wide: &[String], narrow: &[String]| {
        wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|one| wide.contains(one)))
    };
    let (wide, narrow) = (&wider.conditions, &narrower.conditions);
    list(&wide.methods, &narrow.methods)
        && list(&wider.listeners, &narrower.listeners)
        && wide.headers.iter().all(|(name, wanted)| {
            narrow.headers.iter().any(|(known, asked)| known == name && implies(asked, wanted))
        })
        && wide.query.iter().all(|(name, wanted)| {
            narrow
                .query
                .iter()
                .any(|(known, asked)| known == name && (asked == wanted || *wanted == QueryMatch::Present))
        })
}

fn implies(asked: &HeaderMatch, wanted: &HeaderMatch) -> bool {
    use HeaderMatch::{Absent, Exact, Prefix, Present, Suffix};
    match (asked, wanted) {
        (Absent, _) | (_, Absent) => asked == wanted,
        (_, Present) => true,
        (Exact(text) | Prefix(text), Prefix(start)) => text.starts_with(start.as_str()),
        (Exact(text) | Suffix(text), Suffix(end)) => text.ends_with(end.as_str()),
        _ => asked == wanted,
    }
}
