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
        wider in model::planned(), narrower in model::planned(),
    ) {
        let (wider, narrower) = (on_one_path(wider.1), on_one_path(narrower.1));
        if contains(&wider, &narrower) && wider.conditions != narrower.conditions {
            prop_assert!(weight(&narrower) > weight(&wider), "{:?} in {:?}", narrower, wider);
        }
    }
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
