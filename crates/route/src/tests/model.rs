//! The table against a matcher that knows no structure: it tries every rule on every request and takes the most
//! specific one, by a law written down a second time here.

use std::cmp::Reverse;

use proptest::prelude::*;

use super::{Head, pattern};
use crate::{Conditions, Fault, HeaderMatch, QueryMatch, Rule, Table};

/// A pattern in pieces, from which both its text and its meaning follow.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    host: &'static str,
    segments: Vec<&'static str>,
    end: &'static str,
}

impl Plan {
    fn text(&self) -> String {
        let mut text = self.host.to_owned();
        for (place, segment) in self.segments.iter().enumerate() {
            let segment = if *segment == "{}" { format!("{{c{place}}}") } else { (*segment).to_owned() };
            text.push('/');
            text.push_str(&segment);
        }
        text + self.end
    }

    pub(super) fn matches(&self, host: &str, path: &str) -> bool {
        let host_fits = match self.host.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => self.host.is_empty() || self.host == host,
        };
        host_fits && self.path_matches(path)
    }

    fn path_matches(&self, path: &str) -> bool {
        if path == "*" {
            return self.segments.is_empty();
        }
        let given: Vec<&str> = path[1..].split('/').collect();
        let long_enough = match self.end {
            "" => given.len() == self.segments.len(),
            _ => given.len() >= self.segments.len(),
        };
        let fits = |(own, given): (&&str, &&str)| own == given || (*own == "{}" && !given.is_empty());
        long_enough && self.segments.iter().zip(&given).all(fits)
    }

    /// Steps 1 and 2 of the law.
    pub(super) fn rank(&self) -> (u8, usize, Vec<u8>) {
        let host = match self.host {
            "" => 0,
            wildcard if wildcard.starts_with('*') => 1,
            _ => 2,
        };
        let kind = |segment: &&str| if *segment == "{}" { 2 } else { 3 };
        let mut path: Vec<u8> = self.segments.iter().map(kind).collect();
        path.push(u8::from(self.end.is_empty()));
        (host, self.host.len(), path)
    }
}

type Rank = ((u8, usize, Vec<u8>), usize, usize, usize, Reverse<usize>, Reverse<usize>);

/// The whole law, for one pattern of a rule.
pub(super) fn rank(plan: &Plan, rule: &Rule) -> Rank {
    let Conditions { methods, headers, query } = &rule.conditions;
    let named = usize::from(!methods.is_empty());
    let exact_headers = headers.iter().filter(|(_, wanted)| matches!(wanted, HeaderMatch::Exact(_))).count();
    let exact_query = query.iter().filter(|(_, wanted)| matches!(wanted, QueryMatch::Exact(_))).count();
    let affix = |wanted: &HeaderMatch| match wanted {
        HeaderMatch::Prefix(text) | HeaderMatch::Suffix(text) => text.len(),
        _ => 0,
    };
    let limit = |count: usize| Reverse(if count == 0 { usize::MAX } else { count });
    (
        plan.rank(),
        named + headers.len() + query.len(),
        named + exact_headers + exact_query,
        headers.iter().map(|(_, wanted)| affix(wanted)).sum(),
        limit(methods.len()),
        limit(rule.listeners.len()),
    )
}

pub(super) fn admits(rule: &Rule, listener: &str, head: &Head) -> bool {
    let Conditions { methods, .. } = &rule.conditions;
    let method = methods.is_empty() || methods.contains(&head.method);
    method && admits_any_method(rule, listener, head)
}

fn admits_any_method(rule: &Rule, listener: &str, head: &Head) -> bool {
    let header = |(name, wanted): &(String, HeaderMatch)| {
        let value = head.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        match (value.map(|(_, value)| value), wanted) {
            (value, HeaderMatch::Absent) => value.is_none(),
            (None, _) => false,
            (Some(value), HeaderMatch::Exact(text)) => value == text,
            (Some(value), HeaderMatch::Prefix(text)) => value.starts_with(text.as_str()),
            (Some(value), HeaderMatch::Suffix(text)) => value.ends_with(text.as_str()),
            (Some(_), HeaderMatch::Present) => true,
        }
    };
    let query = |(name, wanted): &(String, QueryMatch)| {
        let pairs = head.query.as_deref().unwrap_or("").split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.clone().find(|(known, _)| known == name).map(|(_, value)| value);
        match wanted {
            QueryMatch::Exact(text) => value == Some(text),
            QueryMatch::Present => value.is_some(),
        }
    };
    let on = rule.listeners.is_empty() || rule.listeners.iter().any(|name| name == listener);
    on && rule.conditions.headers.iter().all(header) && rule.conditions.query.iter().all(query)
}

pub(super) fn plan() -> impl Strategy<Value = Plan> {
    let host = prop::sample::select(vec!["", "", "a.b.c", "x.a.b.c", "*.c", "*.b.c", "*.a.b.c", "[::1]"]);
    let segments = prop::collection::vec(prop::sample::select(vec!["a", "b", "{}", "{}"]), 0..4);
    let end = prop::sample::select(vec!["", "", "/", "/*", "/{more*}"]);
    (host, segments, end).prop_map(|(host, mut segments, end)| {
        // A slash at the end is a last segment without text.
        let end = if end == "/" || (end.is_empty() && segments.is_empty()) {
            segments.push("");
            ""
        } else {
            end
        };
        Plan { host, segments, end }
    })
}

fn some<T: Clone + std::fmt::Debug + 'static>(from: Vec<T>) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![Just(vec![]), prop::sample::subsequence(from, 0..=2)]
}

/// What the rules of the model may ask of a header.
pub(super) fn header_matches() -> Vec<HeaderMatch> {
    vec![
        HeaderMatch::Exact("x".into()),
        HeaderMatch::Exact("xyx".into()),
        HeaderMatch::Prefix("x".into()),
        HeaderMatch::Prefix("xy".into()),
        HeaderMatch::Suffix("x".into()),
        HeaderMatch::Present,
        HeaderMatch::Absent,
    ]
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let methods = some(vec!["GET", "POST", "PUT"]);
    let wanted = prop::sample::select(header_matches());
    let asked = prop::sample::select(vec![
        QueryMatch::Exact("1".into()),
        QueryMatch::Exact("2".into()),
        QueryMatch::Present,
    ]);
    let headers = (some(vec!["H", "h2"]), prop::collection::vec(wanted, 2));
    let query = (some(vec!["v", "w"]), prop::collection::vec(asked, 2));
    (methods, headers, query).prop_map(|(methods, (headers, wanted), (query, asked))| Conditions {
        methods: methods.into_iter().map(str::to_owned).collect(),
        headers: headers.into_iter().map(str::to_owned).zip(wanted).collect(),
        query: query.into_iter().map(str::to_owned).zip(asked).collect(),
    })
}

/// A rule with the plans of its patterns.
pub(super) fn planned() -> impl Strategy<Value = (Vec<Plan>, Rule)> {
    let plans = prop::collection::vec(plan(), 1..3);
    (plans, conditions(), some(vec!["in", "out"])).prop_map(|(plans, conditions, listeners)| {
        let at = plans.iter().map(|plan| pattern(&plan.text())).collect();
        let listeners = listeners.into_iter().map(str::to_owned).collect();
        (plans, Rule { name: String::new(), at, conditions, listeners })
    })
}

pub(super) fn head() -> impl Strategy<Value = Head> {
    let host =
        prop::sample::select(vec!["", "c", "b.c", "a.b.c", "x.a.b.c", "y.x.a.b.c", "z", "[::1]", ".c"]);
    let segments = prop::collection::vec(prop::sample::select(vec!["a", "b", "z", ""]), 1..5);
    let path =
        prop_oneof![9 => segments.prop_map(|all| format!("/{}", all.join("/"))), 1 => Just("*".to_owned())];
    let method = prop::sample::select(vec!["GET", "POST", "PUT", "HEAD"]);
    let value = || prop::option::of(prop::sample::select(vec!["", "x", "xy", "xyx", "yx", "q"]));
    let query =
        prop::option::of(prop::sample::select(vec!["", "v=1", "v=2&v=1", "w=1&v=1", "w=2", "w=3&v=3"]));
    (host, path, method, value(), value(), query).prop_map(|(host, path, method, first, second, query)| {
        let headers = [("h", first), ("h2", second)].into_iter();
        let pair = |(name, value): (&str, Option<&str>)| Some((name.to_owned(), value?.to_owned()));
        Head {
            method: method.to_owned(),
            host: host.to_owned(),
            path,
            query: query.map(str::to_owned),
            headers: headers.filter_map(pair).collect(),
        }
    })
}

/// Takes the rules that are part of a refused tie out, so that a table can be built of the rest.
pub(super) fn without_ties(mut planned: Vec<(Vec<Plan>, Rule)>) -> (Vec<(Vec<Plan>, Rule)>, Table) {
    let rules = |planned: &[(Vec<Plan>, Rule)]| planned.iter().map(|(_, rule)| rule.clone()).collect();
    let Err(problems) = Table::build(rules(&planned)) else {
        let table = Table::build(rules(&planned)).expect("the same rules");
        return (planned, table);
    };
    for rule in (0..planned.len()).rev() {
        if problems.iter().any(|problem| problem.rule == rule) {
            planned.remove(rule);
        }
    }
    let table = Table::build(rules(&planned)).expect("one of each tie is gone");
    (planned, table)
}

/// Every way in which a rule matches a request: rule, pattern, rank.
pub(super) fn all_matches(
    planned: &[(Vec<Plan>, Rule)],
    listener: &str,
    head: &Head,
) -> Vec<(Rank, usize, usize)> {
    let mut found = Vec::new();
    for (index, (plans, rule)) in planned.iter().enumerate() {
        for (at, plan) in plans.iter().enumerate() {
            if plan.matches(&head.host, &head.path) && admits(rule, listener, head) {
                found.push((rank(plan, rule), index, at));
            }
        }
    }
    found
}

fn allowed<'r>(planned: &'r [(Vec<Plan>, Rule)], listener: &str, head: &Head) -> Vec<&'r str> {
    let mut methods: Vec<&str> = Vec::new();
    for (plans, rule) in planned {
        let found = plans.iter().any(|plan| plan.matches(&head.host, &head.path));
        if found && admits_any_method(rule, listener, head) {
            methods.extend(rule.conditions.methods.iter().map(String::as_str));
        }
    }
    methods.sort_unstable();
    methods.dedup();
    methods
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_table_answers_like_a_matcher_that_tries_every_rule(
        planned in prop::collection::vec(planned(), 0..25),
        heads in prop::collection::vec(head(), 30),
        listener in prop::sample::select(vec!["in", "out", "other"]),
    ) {
        let (planned, table) = without_ties(planned);
        for head in heads {
            let mut matches = all_matches(&planned, listener, &head);
            matches.sort();
            let expected = matches.last().map(|(_, rule, at)| (*rule, *at));
            let listener_id = table.listener(listener);
            let found = table.find(listener_id, &head);
            prop_assert_eq!(found.map(|found| (found.rule, found.at)), expected, "{:?}", head);
            prop_assert_eq!(table.allowed(listener_id, &head), allowed(&planned, listener, &head));
            if let Some(found) = found {
                let names = planned[found.rule].1.at[found.at].names().len();
                prop_assert_eq!(found.captures.len(), names);
            }
        }
    }

    #[test]
    fn captures_put_back_into_the_pattern_give_the_path(planned in planned(), head in head()) {
        let (plans, rule) = planned;
        for (plan, pattern) in plans.iter().zip(&rule.at) {
            if !plan.path_matches(&head.path) || head.path == "*" {
                continue;
            }
            let captures = pattern.captures(&head.path);
            let mut texts = (0..captures.len()).map(|position| captures.text(&head.path, position).unwrap());
            let mut path = String::new();
            for segment in &plan.segments {
                path.push('/');
                path.push_str(if *segment == "{}" { texts.next().unwrap() } else { segment });
            }
            let below = texts.next().unwrap_or("");
            let slash = if plan.end.is_empty() || head.path.len() == path.len() { "" } else { "/" };
            prop_assert_eq!(format!("{path}{slash}{below}"), head.path.as_str());
        }
    }

    #[test]
    fn any_request_is_answered_without_a_panic(
        planned in prop::collection::vec(planned(), 0..10),
        host: String, path: String, query: Option<String>, method: String,
    ) {
        let (_, table) = without_ties(planned);
        for path in [path.clone(), format!("/{path}")] {
            let head = Head { method: method.clone(), host: host.clone(), path, query: query.clone(), headers: vec![] };
            let listener = table.listener("in");
            let found = table.find(listener, &head);
            prop_assert!(found.is_none() || head.path.starts_with('/') || head.path == "*");
            let _ = table.allowed(listener, &head);
        }
    }

    #[test]
    fn a_problem_names_the_earlier_rule_of_a_tie(planned in prop::collection::vec(planned(), 0..25)) {
        let rules = planned.iter().map(|(_, rule)| rule.clone()).collect();
        for problem in Table::build(rules).err().unwrap_or_default() {
            match problem.fault {
                Fault::Tie { other, .. } => prop_assert!(other < problem.rule),
                Fault::Repeated(..) => {}
                fault => prop_assert!(false, "{fault}"),
            }
        }
    }
}
