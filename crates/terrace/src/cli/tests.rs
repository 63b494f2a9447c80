//! What can be said on the command line.

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

fn command(line: &str) -> Command {
    parse(line).unwrap_or_else(|error| panic!("{line}: {error}")).command
}

#[test]
fn the_definition_is_sound() {
    definition().debug_assert();
}

#[test]
fn up_takes_a_file_or_a_command() {
    let Command::Up(up) = command("terrace up") else { panic!("not up") };
    assert_eq!(up.file(), Some(PathBuf::from("terrace.toml")));
    let Command::Up(up) = command("terrace up shop/terrace.toml --env production") else { panic!("not up") };
    assert_eq!((up.file(), up.env.as_deref()), (Some("shop/terrace.toml".into()), Some("production")));
    let Command::Up(up) = command("terrace up -- node --inspect server.js") else { panic!("not up") };
    assert_eq!((up.file(), up.command), (None, vec!["node".into(), "--inspect".into(), "server.js".into()]));
    assert!(parse("terrace up a.toml -- node").is_err());
}

#[test]
fn json_and_colour_may_stand_anywhere() {
    assert!(parse("terrace --json status").unwrap().global.json);
    assert!(parse("terrace status --json --color never").unwrap().global.json);
}

#[test]
fn a_running_terrace_is_found_by_its_file() {
    let Command::Scale(scale) = command("terrace scale web 4 --file shop/terrace.toml") else {
        panic!("not scale")
    };
    assert_eq!((scale.service.as_str(), scale.instances), ("web", 4));
    assert_eq!(scale.running.file, PathBuf::from("shop/terrace.toml"));
    assert!(parse("terrace scale web 0").is_err());
    assert!(parse("terrace scale web many").is_err());
}

#[test]
fn logs_are_followed_from_some_line_on() {
    let Command::Logs(logs) = command("terrace logs web -f -n 5") else { panic!("not logs") };
    assert_eq!((logs.service.as_deref(), logs.follow, logs.lines), (Some("web"), true, 5));
    let Command::Logs(logs) = command("terrace logs") else { panic!("not logs") };
    assert_eq!((logs.service, logs.follow, logs.lines), (None, false, 100));
    let Command::Logs(logs) = command("terrace logs --level warn --since 10m --text a --until 1m") else {
        panic!("not logs")
    };
    let asked = [&logs.level, &logs.since, &logs.text, &logs.until].map(|asked| asked.as_deref());
    assert_eq!(asked, [Some("warn"), Some("10m"), Some("a"), Some("1m")]);
    assert!(parse("terrace logs --until 1m -f").is_err());
}

#[test]
fn alerts_are_shown_silenced_and_tested() {
    let alerts = |line: &str| match command(line) {
        Command::Alerts(alerts) => alerts,
        other => panic!("{other:?}"),
    };
    let shown = alerts("terrace alerts --file shop/terrace.toml");
    assert_eq!((shown.running().file.as_path(), &shown.action), ("shop/terrace.toml".as_ref(), &None));
    let silence = alerts("terrace alerts silence checkout 2h -c known --file a.toml");
    assert_eq!(silence.running().file, PathBuf::from("a.toml"));
    let Some(AlertsAction::Silence { target, lasts, comment, .. }) = silence.action else { panic!() };
    assert_eq!((target.as_str(), lasts.as_secs(), comment.as_str()), ("checkout", 7_200, "known"));
    assert!(matches!(alerts("terrace alerts test").action, Some(AlertsAction::Test { receiver: None, .. })));
    assert!(parse("terrace alerts silence checkout").is_err());
    assert!(parse("terrace alerts silence checkout forever").unwrap_err().to_string().contains("2h"));
}

#[test]
fn a_trace_is_named_or_searched_for_and_an_instance_drained() {
    let Command::Traces(traces) = command("terrace traces --slower 500ms --errors -n 5") else { panic!() };
    assert_eq!(
        (traces.slower.map(|slower| slower.as_millis()), traces.errors, traces.lines),
        (Some(500), true, 5)
    );
    assert!(parse("terrace traces 4bf9 --errors").is_err(), "one trace is not searched for");
    let Command::Drain(drain) = command("terrace drain web web-1 --undo") else { panic!() };
    assert_eq!((drain.service.as_str(), drain.instance.as_str(), drain.undo), ("web", "web-1", true));
    assert!(parse("terrace drain web").is_err());
    let Command::Dashboard(dashboard) = command("terrace dashboard --open --role viewer") else { panic!() };
    assert_eq!((dashboard.open, dashboard.role), (true, DashboardRole::Viewer));
}

#[test]
fn a_slip_in_a_command_gets_a_suggestion() {
    assert!(parse("terrace statsu").unwrap_err().to_string().contains("status"));
}

#[test]
fn every_command_that_is_shown_has_examples() {
    for command in definition().get_subcommands().filter(|command| !command.is_hide_set()) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Examples:"), "{}", command.get_name());
        assert!(help.contains(&format!("terrace {}", command.get_name())), "{}", command.get_name());
    }
}

#[test]
fn the_shim_is_handed_everything_as_it_is() {
    let Command::Shim(shim) = command("terrace shim --socket 3 -- app --json") else { panic!("not shim") };
    assert_eq!(shim.arguments, ["--socket", "3", "--", "app", "--json"]);
}
