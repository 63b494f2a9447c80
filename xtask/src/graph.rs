//! Which crate may use which. The rules say what is allowed at all; the golden file says what is
//! there now, so that a new edge, though allowed, shows in review as a changed line.

use crate::report::Finding;
use crate::workspace::{Crate, Workspace};

/// Where the graph is written down, relative to the repository.
pub(crate) const GOLDEN_FILE: &str = "xtask/crate-graph.txt";

/// What the tiers may use; they never use each other.
const BELOW_TIERS: &[&str] = &[
    "route",
    "auth",
    "policy",
    "cache",
    "upstream",
    "scaling",
    "telemetry",
    "signals",
    "runtime",
    "instruments",
];

/// What those may use besides that read and write HTTP themselves: messages, and messages on a socket.
const HTTP: &[&str] = &["http"];
const WIRE: &[&str] = &["wire"];

/// A set of crates under one rule: the crates, and what each of them may use.
type Rule = (&'static [&'static str], &'static [&'static [&'static str]]);

const RULES: &[Rule] = &[
    (&["dns", "queue", "postgres", "redis", "flags", "fleet", "lab"], &[BELOW_TIERS]),
    (&["edge"], &[BELOW_TIERS, HTTP, WIRE, &["content", "limits"]]),
    (&["admin"], &[BELOW_TIERS, HTTP]),
    (&["auth"], &[&["fetch", "policy", "runtime", "instruments"], HTTP]),
    (&["acme"], &[&["fetch", "runtime", "instruments"]]),
    (&["limits", "cache"], &[&["policy", "runtime", "instruments"]]),
    (&["content"], &[HTTP]),
    (&["upstream"], &[&["policy", "runtime", "instruments"], HTTP, WIRE]),
    (&["wire"], &[&["runtime", "instruments"], HTTP]),
    (&["telemetry"], &[&["fetch", "otlp", "signals", "runtime", "instruments"]]),
    (&["signals", "otlp"], &[&["instruments"]]),
    (&["runtime"], &[&["instruments"]]),
    (&["fetch"], &[]),
    (PURE, &[]),
    (&["testkit"], &[&["runtime", "instruments"], HTTP]),
    // An app that stays as it is, and a program about the workspace: neither uses a crate of ours.
    (&["shop", "xtask"], &[]),
];

/// Crates that decide and do not act: none of ours below them, no IO, no clock.
pub(crate) const PURE: &[&str] =
    &["content", "http", "instruments", "otlp", "policy", "route", "scaling", "signals"];

/// Crates of others that do IO or read a clock, and so have no place in a pure crate.
const IMPURE_EXTERNAL: &[&str] = &[
    "axum",
    "fastrand",
    "h2",
    "hyper",
    "mio",
    "reqwest",
    "rusqlite",
    "rustix",
    "socket2",
    "tokio",
    "tokio-rustls",
];

/// The binary wires everything, so it may use every crate but those for development.
const WIRING: &str = "terrace";
const DEVELOPMENT_ONLY: &[&str] = &["testkit", "xtask", "shop"];

/// Edges that the rules forbid, and crates that no rule knows.
pub(crate) fn check_rules(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for krate in &workspace.crates {
        let manifest = format!("{}/Cargo.toml", krate.folder);
        if !is_known(&krate.name) {
            findings.push(Finding::new(
                manifest,
                format!("no rule says what `{}` may use", krate.name),
                "add it to RULES in xtask/src/graph.rs and to the code map, with the reason in the commit",
            ));
            continue;
        }
        findings.extend(forbidden_edges(krate, &manifest));
        findings.extend(impurities(krate, &manifest));
    }
    findings
}

fn forbidden_edges(krate: &Crate, manifest: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for used in &krate.uses {
        if !may_use(&krate.name, used) {
            findings.push(Finding::new(
                manifest,
                format!("`{}` may not use `{used}`", krate.name),
                "declare what it needs as a small trait or a watch where it is consumed; `terrace` connects the two",
            ));
        }
    }
    for used in &krate.dev_uses {
        if used != "testkit" && !may_use(&krate.name, used) {
            findings.push(Finding::new(
                manifest,
                format!("the tests of `{}` may not use `{used}`", krate.name),
                "test it through its own interface, or move the test to crates/terrace/tests",
            ));
        }
    }
    findings
}

fn impurities(krate: &Crate, manifest: &str) -> Vec<Finding> {
    if !PURE.contains(&krate.name.as_str()) {
        return Vec::new();
    }
    let impure = krate.external.iter().filter(|name| IMPURE_EXTERNAL.contains(&name.as_str()));
    impure
        .map(|name| {
            Finding::new(
                manifest,
                format!("`{}` is pure and may not use `{name}`", krate.name),
                "take what happened and the time as arguments, return the answer, act at the rim",
            )
        })
        .collect()
}

fn is_known(name: &str) -> bool {
    name == WIRING || RULES.iter().any(|(crates, _)| crates.contains(&name))
}

fn may_use(user: &str, used: &str) -> bool {
    if user == WIRING {
        return !DEVELOPMENT_ONLY.contains(&used);
    }
    let mut rules = RULES.iter().filter(|(crates, _)| crates.contains(&user));
    rules.any(|(_, allowed)| allowed.iter().any(|group| group.contains(&used)))
}

/// The graph as text, one line a crate; `(tests)` marks what only its tests use.
pub(crate) fn render(workspace: &Workspace) -> String {
    let mut text = String::from(
        "# What each crate of ours uses. Written by `cargo xtask tidy --bless`; a changed line is a decision to review.\n",
    );
    for krate in &workspace.crates {
        text.push_str(&line(&krate.name, &krate.uses));
        if !krate.dev_uses.is_empty() {
            text.push_str(&line(&format!("{} (tests)", krate.name), &krate.dev_uses));
        }
    }
    text
}

fn line(user: &str, uses: &[String]) -> String {
    let uses = if uses.is_empty() { "nothing of ours".to_owned() } else { uses.join(" ") };
    format!("{user} -> {uses}\n")
}

/// The graph as it is against the graph as written down.
pub(crate) fn check_golden(actual: &str, golden: &str) -> Vec<Finding> {
    let appeared = actual.lines().filter(|line| !golden.lines().any(|other| other == *line));
    let vanished = golden.lines().filter(|line| !actual.lines().any(|other| other == *line));
    let changes =
        appeared.map(|line| format!("new: {line}")).chain(vanished.map(|line| format!("gone: {line}")));
    changes
        .map(|change| {
            Finding::new(
                GOLDEN_FILE,
                change,
                "if it is meant, run `cargo xtask tidy --bless` and commit the file",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn krate(name: &str, uses: &[&str], dev_uses: &[&str], external: &[&str]) -> Crate {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Crate {
            name: name.to_owned(),
            folder: format!("crates/{name}"),
            uses: owned(uses),
            dev_uses: owned(dev_uses),
            external: owned(external),
        }
    }

    fn problems(krate: Crate) -> Vec<String> {
        let workspace = Workspace { root: "/repo".into(), crates: vec![krate] };
        check_rules(&workspace).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn a_tier_may_use_what_lies_below_it() {
        let uses = ["http", "instruments", "policy", "route", "runtime", "telemetry", "upstream", "wire"];
        assert!(problems(krate("edge", &uses, &["testkit"], &["tokio"])).is_empty());
    }

    #[test]
    fn tiers_never_use_each_other() {
        assert_eq!(problems(krate("edge", &["fleet"], &[], &[])), ["`edge` may not use `fleet`"]);
        assert_eq!(problems(krate("fleet", &["http"], &[], &[])), ["`fleet` may not use `http`"]);
        assert_eq!(problems(krate("admin", &["wire"], &[], &[])), ["`admin` may not use `wire`"]);
    }

    #[test]
    fn a_pure_crate_uses_none_of_ours_and_nothing_that_does_io() {
        let found = problems(krate("policy", &["runtime"], &[], &["tokio", "bytes"]));
        assert_eq!(found, ["`policy` may not use `runtime`", "`policy` is pure and may not use `tokio`"]);
    }

    #[test]
    fn the_binary_may_use_all_but_what_is_for_development() {
        assert!(problems(krate("terrace", &["edge", "fleet", "admin"], &["testkit"], &["tokio"])).is_empty());
        assert_eq!(problems(krate("terrace", &["testkit"], &[], &[])), ["`terrace` may not use `testkit`"]);
    }

    #[test]
    fn a_crate_without_a_rule_is_told() {
        assert_eq!(problems(krate("common", &[], &[], &[])), ["no rule says what `common` may use"]);
    }

    #[test]
    fn an_edge_that_is_not_written_down_shows() {
        let before = Workspace { root: "/repo".into(), crates: vec![krate("edge", &["route"], &[], &[])] };
        let after =
            Workspace { root: "/repo".into(), crates: vec![krate("edge", &["policy", "route"], &[], &[])] };
        assert!(check_golden(&render(&before), &render(&before)).is_empty());
        let found: Vec<String> = check_golden(&render(&after), &render(&before))
            .into_iter()
            .map(|finding| finding.problem)
            .collect();
        assert_eq!(found, ["new: edge -> policy route", "gone: edge -> route"]);
    }
}
