//! The same series, judged by Terrace and by Prometheus: both must call at the same moments.
//!
//! Debian's `promtool test rules` evaluates the Workbook's rules, written in PromQL, over series that it makes up. The
//! engine plays the same series. promtool does not say when an alert begins, only whether one fires at a given moment;
//! so for each rule it is asked just before and just after each moment at which the engine's alert began or ended.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, SystemTime};

use terrace_instruments::{Family, Kind, Meter};
use terrace_signals::alerts::{AlertState, BURN_RULES, BurnRule, Engine, Objective, Rules, Sight, Subject};
use terrace_signals::series::Chart;

static REQUESTS: Family = Family {
    name: "terrace_requests",
    help: "Requests.",
    unit: "",
    labels: &["route", "class"],
    kind: Kind::Counter,
};

/// Minutes of a run: calm, faulty, calm again.
const CALM: u64 = 73 * 60;
const FAULTY: u64 = 4 * 60;
const AFTER: u64 = 7 * 60;
const REQUESTS_PER_MINUTE: u64 = 3_000;

/// When the alert of each rule began and ended, in minutes.
fn moments(bad_per_minute: u64) -> Vec<(BurnRule, Vec<(u64, bool)>)> {
    let objective = Objective {
        name: "orders".to_owned(),
        subject: Subject::Route("orders".to_owned()),
        success: Some(0.999),
        latency: None,
        window: Duration::from_secs(30 * 86_400),
        notify: Vec::new(),
    };
    let meter = Meter::new(1);
    let (good, bad) =
        (meter.counter(&REQUESTS, &["orders", "2xx"]), meter.counter(&REQUESTS, &["orders", "5xx"]));
    let rules = Rules { objectives: vec![objective], ..Rules::default() };
    let mut engine = Engine::new(rules, Duration::ZERO);
    let mut found: Vec<(BurnRule, Vec<(u64, bool)>)> = BURN_RULES.map(|rule| (rule, Vec::new())).to_vec();
    for minute in 0..=CALM + FAULTY + AFTER {
        if minute > 0 {
            let failing = if (CALM + 1..=CALM + FAULTY).contains(&minute) { bad_per_minute } else { 0 };
            bad.add(failing);
            good.add(REQUESTS_PER_MINUTE - failing);
        }
        let own = meter.collect();
        let sight = Sight { own: &own, ask: &|_| Chart::default(), unusual: &Vec::new };
        let ticked = engine.tick(Duration::from_secs(minute * 60), SystemTime::UNIX_EPOCH, &sight);
        for change in ticked.changes {
            let is_its = |(rule, _): &&mut (BurnRule, _)| {
                change.alert.detail.contains(&format!("burn {}x", rule.rate))
            };
            let (_, of_rule) = found.iter_mut().find(is_its).unwrap();
            of_rule.push((minute, change.alert.state == AlertState::Firing));
        }
    }
    found
}

fn name(rule: &BurnRule) -> String {
    format!("Burn{}", rule.rate.to_string().replace('.', "_"))
}

fn rules_file() -> String {
    let mut text = "groups:\n- name: burn\n  interval: 1m\n  rules:\n".to_owned();
    for rule in &BURN_RULES {
        let over = |window: Duration| {
            let seconds = window.as_secs();
            format!(
                "sum(rate(terrace_requests_total{{route=\"orders\",class=\"5xx\"}}[{seconds}s])) / \
                 sum(rate(terrace_requests_total{{route=\"orders\",class!=\"none\"}}[{seconds}s])) > {} * 0.001",
                rule.rate
            )
        };
        let expression = format!("({}) and ({})", over(rule.long), over(rule.short));
        writeln!(text, "  - alert: {}\n    expr: {expression}", name(rule)).unwrap();
    }
    text
}

fn tests_file(bad_per_minute: u64, moments: &[(BurnRule, Vec<(u64, bool)>)]) -> String {
    let good = REQUESTS_PER_MINUTE - bad_per_minute;
    let calm = REQUESTS_PER_MINUTE * CALM;
    let (faulty_good, faulty_bad) = (calm + good * FAULTY, bad_per_minute * FAULTY);
    let mut text = format!(
        "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n\
         \x20 - series: 'terrace_requests_total{{route=\"orders\",class=\"2xx\"}}'\n\
         \x20   values: '0+{REQUESTS_PER_MINUTE}x{CALM} {}+{good}x{} {}+{REQUESTS_PER_MINUTE}x{}'\n\
         \x20 - series: 'terrace_requests_total{{route=\"orders\",class=\"5xx\"}}'\n\
         \x20   values: '0+0x{CALM} {bad_per_minute}+{bad_per_minute}x{} {faulty_bad}+0x{}'\n\
         \x20 alert_rule_test:\n",
        calm + good,
        FAULTY - 1,
        faulty_good + REQUESTS_PER_MINUTE,
        AFTER - 1,
        FAULTY - 1,
        AFTER - 1,
    );
    for (rule, moments) in moments {
        for (minute, fires) in moments {
            // The tolerance is one evaluation.
            for (at, expected) in [(minute - 2, !fires), (minute + 1, *fires)] {
                let alerts = if expected { "[{exp_labels: {}}]" } else { "[]" };
                writeln!(
                    text,
                    "  - eval_time: {at}m\n    alertname: {}\n    exp_alerts: {alerts}",
                    name(rule)
                )
                .unwrap();
            }
        }
    }
    text
}

#[test]
fn prometheus_calls_at_the_same_moments() {
    let folder = std::env::temp_dir().join(format!("terrace-promtool-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("rules.yml"), rules_file()).unwrap();
    let mut files = Vec::new();
    for bad_per_minute in [300, 60] {
        let moments = moments(bad_per_minute);
        for (rule, moments) in &moments {
            let kinds: Vec<bool> = moments.iter().map(|(_, fires)| *fires).collect();
            assert_eq!(kinds, [true, false], "{rule:?} at {bad_per_minute} a minute");
        }
        let file = folder.join(format!("tests-{bad_per_minute}.yml"));
        std::fs::write(&file, tests_file(bad_per_minute, &moments)).unwrap();
        files.push(file);
    }
    let output = Command::new("promtool").args(["test", "rules"]).args(&files).output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return skipped(&folder),
        output => output.unwrap(),
    };
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("SUCCESS").count(), files.len(), "{said}");
}

#[expect(clippy::print_stderr, reason = "whoever runs the tests should know what was not tried")]
fn skipped(folder: &std::path::Path) {
    std::fs::remove_dir_all(folder).unwrap();
    eprintln!("skipped: promtool is not installed");
}
