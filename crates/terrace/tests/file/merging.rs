//! Who wins: layers of policies, overlays, includes.

use std::time::Duration;

use terrace::file::{Action, Policies, Resolved, Source};

use crate::world::{good, load, wrong};

fn policies<'r>(resolved: &'r Resolved, route: &str, service: &str) -> &'r Policies {
    let Action::Forward { to, .. } = &resolved.routes[route].action else {
        panic!("{route} forwards nothing")
    };
    &to.iter().find(|target| target.service == service).unwrap().policies
}

fn attempts(layers: &str) -> Option<u32> {
    let resolved = good(layers).resolved;
    policies(&resolved, "a", "web").retry.as_ref().map(|retry| retry.attempts_max)
}

const BASE: &str =
    "[service.web]\nrun = \"web\"\n[route.a]\nat = \"/*\"\nto = \"web\"\npolicy = \"p\"\n[policy.p]\n";

#[test]
fn the_layer_nearest_to_the_request_wins() {
    let mut file = BASE.to_owned();
    assert_eq!(attempts(&file), Some(2), "built-in");
    file.push_str("[defaults]\nretry.attempts = 3\n");
    assert_eq!(attempts(&file), Some(3), "defaults");
    let service = file.replace("run = \"web\"", "run = \"web\"\nretry.attempts = 4");
    assert_eq!(attempts(&service), Some(4), "service");
    let policy = service.replace("[policy.p]", "[policy.p]\nretry.attempts = 5");
    assert_eq!(attempts(&policy), Some(5), "policy");
    let route = policy.replace("policy = \"p\"", "policy = \"p\"\nretry.attempts = 6");
    assert_eq!(attempts(&route), Some(6), "route");
}

#[test]
fn false_switches_off_and_a_later_layer_switches_on_again() {
    let off = BASE.replace("run = \"web\"", "run = \"web\"\nretry = false");
    assert_eq!(attempts(&off), None);
    let on_again = off.replace("[policy.p]", "[policy.p]\nretry.budget = \"20%\"");
    assert_eq!(attempts(&on_again), Some(2), "the rest is built-in, not what was before the `false`");
}

#[test]
fn keys_of_one_table_may_come_from_every_layer() {
    let file = BASE
        .replace("run = \"web\"", "run = \"web\"\ntimeout.total = \"9s\"")
        .replace("[policy.p]", "[policy.p]\ntimeout.try = \"3s\"")
        .replace("policy = \"p\"", "policy = \"p\"\ntimeout.first-byte = false");
    let resolved = good(&file).resolved;
    let timeout = policies(&resolved, "a", "web").timeout;
    assert_eq!(timeout.total, Some(Duration::from_secs(9)));
    assert_eq!(timeout.attempt, Some(Duration::from_secs(3)));
    assert_eq!(timeout.first_byte, None);
    assert_eq!(timeout.connect, Some(Duration::from_secs(1)));
}

#[test]
fn each_service_of_a_split_keeps_its_own_policies() {
    let file = "[service.one]\nrun = \"one\"\nbody-max = \"1KiB\"\n[service.two]\nrun = \"two\"\n\
                [route.a]\nat = \"/*\"\nto = { one = 9, two = 1 }\n";
    let resolved = good(file).resolved;
    assert_eq!(policies(&resolved, "a", "one").body_bytes_max, Some(1024));
    assert_eq!(policies(&resolved, "a", "two").body_bytes_max, Some(100 << 20));
}

#[test]
fn an_overlay_replaces_key_by_key() {
    let resolved = good(
        "[service.web]\nrun = \"web\"\ninstances = 1\nenv = { A = \"1\", S = { env = \"API_TOKEN\" } }\n\
         #=== terrace.production.toml\n[service.web]\ninstances = 4\nenv = { B = \"2\", S = { file = \"token\" } }\n",
    )
    .resolved;
    let Source::Run(program) = &resolved.services["web"].source else { panic!("not run") };
    assert_eq!((program.instances, program.command.as_slice()), (4, ["web".to_owned()].as_slice()));
    let names: Vec<&str> = program.env.keys().map(String::as_str).collect();
    assert_eq!(names, ["A", "B", "S"]);
    assert_eq!(
        program.env["S"].reveal(),
        "a-token-of-more-than-sixteen",
        "a secret is replaced whole, not mixed"
    );
}

#[test]
fn included_files_add_tables_and_never_share_one() {
    let resolved = good(
        "include = [\"routes/*.toml\"]\n[service.web]\nrun = \"web\"\n\
         #=== routes/b.toml\n[route.b]\nat = \"/b\"\nto = \"web\"\n\
         #=== routes/a.toml\n[route.a]\nat = \"/a\"\nto = \"web\"\n\
         #=== routes/.hidden.toml\n[route.hidden]\nat = \"/h\"\nto = \"web\"\n",
    )
    .resolved;
    assert_eq!(resolved.routes.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert!(resolved.watch.iter().any(|path| path.ends_with("routes")), "a new file is noticed");
}

#[test]
fn one_service_without_routes_answers_everything() {
    let resolved =
        good("[service.web]\nrun = \"web\"\n[service.jobs]\nrun = \"jobs\"\nworker = true\n").resolved;
    assert_eq!(resolved.routes["web"].at[0].as_str(), "/*");
    assert_eq!(resolved.listeners["public"].addresses, ["0.0.0.0:8080".parse().unwrap()]);
}

#[test]
fn a_command_needs_no_file() {
    let command = ["node".to_owned(), "a \"b\" \\ $c".to_owned()];
    let resolved = Resolved::for_command(&command).unwrap();
    let Source::Run(program) = &resolved.services["app"].source else { panic!("not run") };
    assert_eq!((program.command.as_slice(), program.instances), (command.as_slice(), 1));
    assert!(program.folder.is_absolute(), "an instance needs its folder by its full path");
    assert!(resolved.watch.is_empty() && !resolved.terrace.watch);
    assert!(Resolved::for_command(&[]).is_err());
}

#[test]
fn a_fault_inherited_by_many_routes_is_told_once() {
    let mut file = BASE.replace("run = \"web\"", "run = \"web\"\nretry = { attempts = 99, backof = 1 }");
    for number in 0..5 {
        file.push_str(&format!("[route.r{number}]\nat = \"/{number}\"\nto = \"web\"\n"));
    }
    assert_eq!(wrong(&file).len(), 2);
}

#[test]
fn a_pattern_does_not_include_the_main_file_or_its_overlays() {
    good(
        "include = [\"*.toml\"]\n[service.web]\nrun = \"web\"\n\
         #=== terrace.production.toml\n[service.web]\ninstances = 3\n\
         #=== more.toml\n[service.jobs]\nrun = \"jobs\"\nworker = true\n",
    );
}

#[test]
fn a_problem_is_told_in_one_line_for_a_log() {
    let Err(problems) = load("[service.web]\nrun = \"web\"\ninstnaces = 3\n") else { panic!("taken") };
    let line = "terrace.toml:3:1: unknown key `instnaces` in [service.web]; did you mean `instances`?";
    assert_eq!(problems.problems[0].to_string(), line);
}

#[test]
fn the_dashboard_makes_way_for_whoever_was_given_its_port() {
    let address = |more: &str| {
        let resolved = good(&format!("[service.web]\nrun = \"web\"\n{more}")).resolved;
        resolved.admin.api.map(|api| api.address.map(|address| address.to_string()))
    };
    assert_eq!(address(""), Some(None), "nobody chose, so it may move");
    assert_eq!(address("[admin]\naddress = false\n"), None);
    assert_eq!(address("[admin]\naddress = \"127.0.0.1:9900\"\n"), Some(Some("127.0.0.1:9900".to_owned())));
    let any = Some(Some("127.0.0.1:0".to_owned()));
    assert_eq!(address("[listen.a]\naddress = \"0.0.0.0:9900\"\n"), any);
    assert_eq!(address("[otlp]\nreceive = \"127.0.0.1:9900\"\n"), any);
    let hosts = "[service.other]\nhosts = [\"127.0.0.1:9900\"]\n[route.web]\nat = \"/*\"\nto = \"web\"\n";
    assert_eq!(address(hosts), any);
}

#[test]
fn an_alert_on_a_counter_is_about_its_rate_and_on_all_else_about_its_value() {
    let measure = |metric: &str, of: &str| {
        let file = format!("[service.web]\nrun = \"web\"\n[alert.a]\nmetric = {metric:?}\nabove = 1\n{of}");
        let alert = good(&file).resolved.alerts["a"].clone();
        format!("{:?}", alert.query.measure)
    };
    assert_eq!(measure("orders_placed_total", ""), "Rate");
    assert_eq!(measure("http_seconds_count", ""), "Rate");
    assert_eq!(measure("queue_length", ""), "Value");
    assert_eq!(measure("queue_length", "of = \"rate\""), "Rate");
    assert_eq!(measure("terrace_request_duration_seconds", "of = \"p99.9\""), "Quantile(P999)");
}
