//! The table: built once, asked for every request.
//!
//! Hosts lead to tries, tries lead to lists of rules with the same host and shape of path. A list is kept in order of
//! its rules' conditions, the most specific first, so the first rule that admits the request is the answer. Ties can
//! only stand in one list, because two patterns that are equally specific and overlap are the same but for the names of
//! their captures; that is where they are looked for.

use std::collections::HashMap;

use crate::{
    hosts::Hosts,
    order::Weight,
    pattern::{Captures, Pattern},
    problem::{self, Fault, Problem},
    request::Request,
    rule::{Conditions, Rule},
    trie::Entry,
};

/// How many patterns the rules of a table may have together.
pub const PATTERNS_MAX: usize = 65_536;

/// A listener as a table knows it; got once from [`Table::listener`], then cheap to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener(u32);

/// A listener that no rule names: rules for all listeners match on it, no others.
const UNNAMED: Listener = Listener(u32::MAX);

/// Which rule serves a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// The rule's index in the list that the table was built from.
    pub rule: usize,
    /// Which of the rule's patterns matched.
    pub at: usize,
    /// What it captured of the request's path.
    pub captures: Captures,
}

#[derive(Debug)]
struct Compiled {
    at: Box<[Pattern]>,
    conditions: Conditions,
    listeners: Box<[Listener]>,
    weight: Weight,
}

/// All routes, ready to be asked. See the crate's documentation for the law of order.
#[derive(Debug)]
pub struct Table {
    rules: Box<[Compiled]>,
    hosts: Hosts,
    listeners: HashMap<String, Listener>,
}

impl Table {
    /// Builds the table of these rules.
    ///
    /// # Errors
    /// Every problem of every rule, in the order of the rules; of a rule's ties the first.
    pub fn build(rules: Vec<Rule>) -> Result<Self, Vec<Problem>> {
        let names: Vec<String> = rules.iter().map(|rule| rule.name.clone()).collect();
        let mut faults = own_faults(&rules);
        if faults.is_empty() {
            let mut table = Self::unordered(rules);
            faults = table.put_in_order(&names);
            if faults.is_empty() {
                return Ok(table);
            }
        }
        faults.sort_by_key(|(rule, _)| *rule);
        let problem = |(rule, fault): (usize, Fault)| Problem { rule, name: names[rule].clone(), fault };
        Err(faults.into_iter().map(problem).collect())
    }

    /// The listener with this name, to be handed to [`Table::find`]. A name that no rule mentions is no fault: only
    /// rules for all listeners match there.
    #[must_use]
    pub fn listener(&self, name: &str) -> Listener {
        self.listeners.get(name).copied().unwrap_or(UNNAMED)
    }

    /// The most specific rule that matches, or `None`.
    #[must_use]
    pub fn find<R: Request + ?Sized>(&self, listener: Listener, request: &R) -> Option<Match> {
        let path = request.path();
        let entry = self.hosts.walk(request.host(), path, |entries| {
            entries.iter().copied().find(|entry| {
                let rule = &self.rules[entry.rule as usize];
                rule.is_on(listener)
                    && rule.conditions.admit_method(request.method())
                    && rule.conditions.admit_fields(request)
            })
        })?;
        let (rule, at) = (entry.rule as usize, entry.at as usize);
        Some(Match { rule, at, captures: self.rules[rule].at[at].captures(path) })
    }

    /// The methods with which the request would have matched, for the `Allow` field of a 405 answer (RFC 9110,
    /// section 15.5.6): sorted, each once. Empty when nothing would have matched with any method: then the answer is 404.
    ///
    /// Meant for a request for which [`Table::find`] returned `None`.
    #[must_use]
    pub fn allowed<R: Request + ?Sized>(&self, listener: Listener, request: &R) -> Vec<&str> {
        let mut methods = Vec::new();
        self.hosts.walk(request.host(), request.path(), |entries| {
            for entry in entries {
                let rule = &self.rules[entry.rule as usize];
                if rule.is_on(listener) && rule.conditions.admit_fields(request) {
                    methods.extend(rule.conditions.methods.iter().map(String::as_str));
                }
            }
            None::<()>
        });
        methods.sort_unstable();
        methods.dedup();
        methods
    }

    /// A pattern of a rule, such as the one that a [`Match`] names.
    #[must_use]
    pub fn pattern(&self, rule: usize, at: usize) -> Option<&Pattern> {
        self.rules.get(rule)?.at.get(at)
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are no rules, so that nothing ever matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn unordered(rules: Vec<Rule>) -> Self {
        let mut table = Self { rules: Box::default(), hosts: Hosts::default(), listeners: HashMap::new() };
        let mut compiled = Vec::with_capacity(rules.len());
        for rule in rules {
            compiled.push(table.compile(rule));
        }
        for (rule, compiled) in (0..).zip(&compiled) {
            for (at, pattern) in (0..).zip(&compiled.at) {
                table.hosts.insert(pattern, Entry { rule, at });
            }
        }
        table.rules = compiled.into();
        table
    }

    fn compile(&mut self, rule: Rule) -> Compiled {
        let mut listeners: Vec<Listener> = Vec::with_capacity(rule.listeners.len());
        for name in rule.listeners {
            let next = Listener(u32::try_from(self.listeners.len()).unwrap_or(u32::MAX));
            let listener = *self.listeners.entry(name).or_insert(next);
            if !listeners.contains(&listener) {
                listeners.push(listener);
            }
        }
        let mut conditions = rule.conditions.lowered();
        conditions.methods.sort_unstable();
        conditions.methods.dedup();
        let weight = Weight::new(&conditions, listeners.len());
        Compiled { at: rule.at.into(), conditions, listeners: listeners.into(), weight }
    }

    /// Sorts each list by its rules' conditions and returns the ties.
    fn put_in_order(&mut self, names: &[String]) -> Vec<(usize, Fault)> {
        let mut faults = Vec::new();
        for list in self.hosts.lists() {
            list.sort_by_key(|entry| {
                (std::cmp::Reverse(self.rules[entry.rule as usize].weight), entry.rule, entry.at)
            });
            for run in
                list.chunk_by(|a, b| self.rules[a.rule as usize].weight == self.rules[b.rule as usize].weight)
            {
                ties(&self.rules, names, run, &mut faults);
            }
        }
        faults
    }
}

impl Compiled {
    fn is_on(&self, listener: Listener) -> bool {
        self.listeners.is_empty() || self.listeners.contains(&listener)
    }

    /// Whether some request could match both, given that host and path do.
    fn overlaps(&self, other: &Self) -> bool {
        let apart = !self.listeners.is_empty()
            && !other.listeners.is_empty()
            && !self.listeners.iter().any(|listener| other.is_on(*listener));
        !apart && !self.conditions.exclude(&other.conditions)
    }
}

/// The faults that each rule has by itself.
fn own_faults(rules: &[Rule]) -> Vec<(usize, Fault)> {
    let mut faults = Vec::new();
    let mut patterns = 0;
    for (index, rule) in rules.iter().enumerate() {
        faults.extend(problem::of_rule(rule).into_iter().map(|fault| (index, fault)));
        patterns += rule.at.len();
        if patterns > PATTERNS_MAX {
            faults.push((index, Fault::TooMany));
            break;
        }
    }
    faults
}

/// Among entries with the same host, shape of path and weight, which in the order of the rules: each one that an
/// earlier one overlaps.
fn ties(rules: &[Compiled], names: &[String], run: &[Entry], faults: &mut Vec<(usize, Fault)>) {
    for (place, entry) in run.iter().enumerate() {
        let (rule, at) = (entry.rule as usize, entry.at as usize);
        let rival = run[..place].iter().find(|other| rules[rule].overlaps(&rules[other.rule as usize]));
        let Some(rival) = rival else {
            continue;
        };
        let other = rival.rule as usize;
        let at = rules[rule].at[at].to_string();
        let other_at = rules[other].at[rival.at as usize].to_string();
        faults.push(match other == rule {
            true => (rule, Fault::Repeated(other_at, at)),
            false => (rule, Fault::Tie { at, other, other_name: names[other].clone(), other_at }),
        });
    }
}
