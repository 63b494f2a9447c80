//! Who is called, and when: alerts through the whole program, with receivers that take, refuse, hang or are not there, over
//! a kill and a restart.

use serde_json::Value;
use terrace_testkit::{Inbox, Kind, Letter, Load, Port, Terrace, get, until, until_true};

use crate::{shop, world};

/// A receiver that is told at once.
fn receiver(name: &str, url: &str) -> String {
    format!("[notify.{name}]\nwebhook = \"{url}/alerts\"\ngroup-wait = \"0s\"\n")
}

/// An alert as long as anybody has asked for anything within a minute.
fn busy(more: &str) -> String {
    let figure = "metric = \"terrace_requests_total\"\nabove = 0\nover = \"1m\"\nfor = \"0s\"\n";
    format!("[alert.busy]\n{figure}{more}")
}

fn alerts(terrace: &Terrace<'_>) -> Value {
    serde_json::from_str(&terrace.command(&["alerts", "--json"]).ok()).expect("alerts are JSON")
}

/// The alerts of that name that are in that state.
fn in_state(terrace: &Terrace<'_>, name: &str, state: &str) -> Vec<Value> {
    let all = alerts(terrace)["alerts"].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|alert| alert["name"] == name && alert["state"] == state).collect()
}

/// Letters about that alert or objective.
fn about(inbox: &Inbox, name: &str) -> Vec<Letter> {
    let is_about = |letter: &Letter| letter.json()["groupLabels"]["alertname"] == name;
    inbox.letters().into_iter().filter(is_about).collect()
}

fn outcomes(terrace: &Terrace<'_>, receiver: &str, outcome: &str) -> f64 {
    let labels = format!("{{receiver=\"{receiver}\",outcome=\"{outcome}\"}}");
    terrace.counted(&format!("terrace_alert_notifications_total{labels}"))
}

#[test]
fn a_page_outlives_kill_9_with_its_budget_and_silences_and_is_not_told_twice() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let inbox = Inbox::open();
    let objective = "[objective.checkout]\nroute = \"web\"\nsuccess = \"99%\"\n";
    let file = format!("{file}{objective}{}{}", busy(""), receiver("oncall", &inbox.url()));
    let mut first = world.up(&file);
    first.command(&["alerts", "silence", "busy", "2h", "--comment", "known, see #123"]).ok();
    world.folder.write("failing", "");
    let mut asked = 0;
    let mut ask = || {
        assert_eq!(get(address, "/").status, 500);
        asked += 1;
        asked
    };
    until_true("the silenced one fires", || ask() > 20 && !in_state(&first, "busy", "firing").is_empty());
    let told = until("the page is told", || about(&inbox, "checkout").first().cloned());
    like_alertmanager(&told);
    until_true("its arrival is known", || outcomes(&first, "oncall", "delivered") == 1.0);
    until_true("all are counted", || objective_of(&first)["total"] == asked);
    // A silence is kept on disk at once, and all that is known with it.
    let is_on_disk = || world.folder.read(".terrace/alerts.json").contains("being looked at");
    first.command(&["alerts", "silence", "checkout", "1h", "--comment", "being looked at"]).ok();
    assert!(is_on_disk(), "what is said to hold survives a kill at this moment");
    let (fired, silences) = (in_state(&first, "checkout", "firing"), alerts(&first)["silences"].clone());
    first.command(&["alerts", "unsilence", id_of(&silences, "checkout")]).ok();
    assert!(!is_on_disk());
    let in_the_way = world.folder.join(".terrace/alerts.json.new");
    std::fs::create_dir(&in_the_way).expect("it can be made");
    let told = first.command(&["alerts", "silence", "checkout", "1h"]).ok();
    assert!(told.contains("a restart will forget"), "{told}");
    std::fs::remove_dir(in_the_way).expect("it is there");
    first.kill();
    let second = world.up(&file);
    let firing = since(&in_state(&second, "checkout", "firing"));
    assert!(since(&fired).iter().all(|alert| firing.contains(alert)), "they fire on: {fired:#?}");
    let objective = objective_of(&second);
    assert_eq!((&objective["total"], &objective["bad"]), (&asked.into(), &asked.into()));
    assert!(objective["budget_left"].as_f64().is_some_and(|left| left < 0.0), "{objective}");
    let silences = alerts(&second)["silences"].clone();
    assert_eq!(silences[0]["comment"], "known, see #123", "{silences}");
    assert_eq!(get(address, "/").status, 500);
    until_true("counting goes on", || objective_of(&second)["total"] == asked + 1);
    let busy = in_state(&second, "busy", "firing");
    assert!(busy[0]["silenced_until"].is_string(), "{busy:?}");
    second.command(&["alerts", "test", "oncall"]).ok();
    let names: Vec<Value> =
        inbox.letters().iter().map(|letter| letter.json()["groupLabels"]["alertname"].clone()).collect();
    assert_eq!(names, ["checkout", "terrace-test"], "once, and nothing of what is silenced");
    let shown = second.command(&["alerts"]).ok();
    assert!(shown.contains("    since ") && !shown.contains("  , since"), "{shown}");
    let times_told =
        shown.lines().filter(|line| line.contains(" firing ") && line.contains(" checkout ")).count();
    assert_eq!(times_told, 1, "one outage, however many windows see it: {shown}");
    assert!(shown.contains("objective 99 % ") && shown.contains("budget spent "), "{shown}");
}

/// Version 4 of Alertmanager's body, with both pages of an objective of which nothing goes well; a ticket takes longer to show.
#[track_caller]
fn like_alertmanager(letter: &Letter) {
    let body = letter.json();
    let at = |pointer: &str| body.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!((letter.path.as_str(), at("/version")), ("/alerts", "4".into()));
    assert_eq!((at("/status"), at("/receiver")), ("firing".into(), "oncall".into()));
    assert_eq!(at("/groupKey"), "{}:{alertname=\"checkout\"}");
    assert_eq!((at("/commonLabels/route"), at("/truncatedAlerts")), ("web".into(), 0.into()));
    let alerts = body["alerts"].as_array().cloned().unwrap_or_default();
    let first = &alerts[0]["labels"];
    assert_eq!((&first["severity"], &first["window"]), (&"page".into(), &"1h".into()), "{body:#}");
    for alert in &alerts {
        assert_eq!((&alert["status"], &alert["endsAt"]), (&"firing".into(), &"0001-01-01T00:00:00Z".into()));
        let summary = alert["annotations"]["summary"].as_str().unwrap_or_default();
        assert!(summary.starts_with("100% of requests failed"), "{summary}");
        assert!(alert["fingerprint"].as_str().is_some_and(|id| !id.is_empty()), "{alert}");
    }
}

fn objective_of(terrace: &Terrace<'_>) -> Value {
    alerts(terrace)["objectives"][0].clone()
}

fn since(alerts: &[Value]) -> Vec<(Value, Value)> {
    alerts.iter().map(|alert| (alert["id"].clone(), alert["since"].clone())).collect()
}

fn id_of<'v>(silences: &'v Value, target: &str) -> &'v str {
    let mut all = silences.as_array().into_iter().flatten();
    let found = all.find(|silence| silence["target"] == target).expect("it is listed");
    found["id"].as_str().expect("it has an id")
}

#[test]
fn a_quick_failure_is_no_quick_answer_and_a_goal_is_shown_as_it_was_written() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let promises = ["route", "service"].map(|subject| {
        let latency = "latency = { under = \"10m\", for = \"99.9%\" }";
        format!("[objective.by-{subject}]\n{subject} = \"web\"\n{latency}\nsuccess = \"99.95%\"\n")
    });
    let terrace = world.up(&format!("{file}{}", promises.concat()));
    world.folder.write("failing", "");
    (0..20).for_each(|_| assert_eq!(get(address, "/").status, 500));
    world.folder.remove("failing");
    (0..5).for_each(|_| assert_eq!(get(address, "/").status, 200));
    let objectives = until("all are counted", || {
        let all = alerts(&terrace)["objectives"].as_array().cloned().unwrap_or_default();
        all.iter().all(|objective| objective["total"] == 25).then_some(all)
    });
    assert_eq!(objectives.len(), 4);
    for objective in objectives {
        assert_eq!(objective["bad"], 20, "{objective}");
        let goal = if objective["kind"] == "latency" { "0.999" } else { "0.9995" };
        assert_eq!(objective["goal"].to_string(), goal);
    }
}

#[test]
fn an_alert_on_a_figure_fires_while_it_is_out_of_bounds_and_is_over_when_it_is_not() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let inbox = Inbox::open();
    let alert = "[alert.nobody-serves]\nmetric = \"terrace_upstream_endpoints_available\"\n\
                 labels = { service = \"web\" }\nby = \"service\"\nbelow = 1\nover = \"5s\"\nfor = \"1s\"\nseverity = \"page\"\n";
    let file = format!("{file}panic = false\n{alert}{}", receiver("oncall", &inbox.url()));
    let terrace = world.up(&file);
    assert!(in_state(&terrace, "nobody-serves", "firing").is_empty());
    world.folder.write("unwell", "");
    let told = until("it is told", || about(&inbox, "nobody-serves").first().cloned()).json();
    assert_eq!(told["alerts"][0]["labels"]["service"], "web", "{told}");
    let event = terrace.event("alert.firing");
    assert_eq!((&event["alert"], &event["severity"]), (&"nobody-serves".into(), &"page".into()));
    assert_eq!(terrace.counted("terrace_alerts_firing{severity=\"page\"}"), 1.0);
    let shown = terrace.command(&["alerts"]).ok();
    assert!(
        shown.contains("nobody-serves") && shown.contains("terrace_upstream_endpoints_available"),
        "{shown}"
    );
    world.folder.remove("unwell");
    until_true("it is over", || !in_state(&terrace, "nobody-serves", "resolved").is_empty());
    assert_eq!(terrace.event("alert.resolved")["alert"], "nobody-serves");
    assert_eq!(terrace.counted("terrace_alerts_firing{severity=\"page\"}"), 0.0);
    // That it is over is said with the group's next message, five minutes after the first.
    assert_eq!(about(&inbox, "nobody-serves").len(), 1);
}

#[test]
fn receivers_that_hang_or_are_not_there_are_noticed_by_the_counts_alone() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let (hanging, well, nobody) = (Inbox::that_hangs(), Inbox::open(), Port::reserve());
    let rest =
        format!("{}{}{}", busy(""), receiver("hanging", &hanging.url()), receiver("well", &well.url()));
    let away = receiver("away", &format!("http://{nobody}"));
    let mut terrace = world.up(&format!("{file}{rest}{away}"));
    let kinds = [(Kind::Get, 3), (Kind::Upload, 1)];
    let load = Load::start(address, &kinds);
    until_true("the one that is well is told", || about(&well, "busy").len() == 1);
    until_true("the one that hangs was asked", || !hanging.letters().is_empty());
    until_true("the one that is away is tried again", || outcomes(&terrace, "away", "retried") >= 2.0);
    assert_eq!(outcomes(&terrace, "well", "delivered"), 1.0);
    assert_eq!(outcomes(&terrace, "hanging", "delivered") + outcomes(&terrace, "away", "delivered"), 0.0);
    let failure = terrace.event("alert.delivery_failed");
    assert_eq!((&failure["receiver"], &failure["retried"]), (&"away".into(), &true.into()));
    // An address that is put right helps the message that waits.
    let found = Inbox::open();
    terrace.reload_with(&format!("{file}{rest}{}", receiver("away", &found.url()))).ok();
    until_true("it arrives there", || about(&found, "busy").len() == 1);
    load.wait_for_more(&kinds);
    load.stop().assert_nothing_lost();
    assert!(terrace.stop().success(), "and it ends although one hangs");
}

#[test]
fn a_test_of_receivers_says_of_each_what_came_of_it() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let (well, strict) = (Inbox::open(), Inbox::open());
    strict.answer(403);
    let command = "[notify.program]\ncommand = [\"sh\", \"-c\", \"cat > told.json\"]\n";
    let receivers = format!("{}{}", receiver("well", &well.url()), receiver("strict", &strict.url()));
    let terrace = world.up(&format!("{file}{receivers}{command}"));
    let told = terrace.command(&["alerts", "test", "well"]).ok();
    assert!(told.starts_with("well") && told.contains("delivered"), "{told}");
    assert_eq!(about(&well, "terrace-test").len(), 1);
    let all = terrace.command(&["alerts", "test", "--json"]);
    assert_eq!(all.code, Some(1), "one of them refused: {all:?}");
    let results: Value = serde_json::from_str(&all.stdout).expect("JSON");
    let row = |at: usize| {
        let result = &results["results"][at];
        (result["receiver"].clone(), result["is_delivered"].clone(), result["problem"].clone())
    };
    assert_eq!(row(0), ("program".into(), true.into(), Value::Null));
    assert_eq!(row(1), ("strict".into(), false.into(), "it answered 403".into()));
    assert_eq!(row(2), ("well".into(), true.into(), Value::Null));
    let told: Value = serde_json::from_str(&world.folder.read("told.json")).expect("the program had a body");
    assert_eq!((&told["version"], &told["receiver"]), (&"4".into(), &"program".into()));
    let unknown = terrace.command(&["alerts", "test", "nobody"]).refused();
    assert!(unknown.contains("no receiver nobody"), "{unknown}");
    let unknown = terrace.command(&["alerts", "silence", "nothing", "1h"]).refused();
    assert!(unknown.contains("nothing; terrace alerts lists them"), "{unknown}");
}

/// What stands between a program and the machine's clock (`faketime`).
pub(crate) fn faketime() -> String {
    let folders = std::fs::read_dir("/usr/lib").expect("it is there").flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let library = libraries.find(|path| path.exists());
    let library = library.expect("faketime is installed; scripts/prepare.sh test does it");
    library.to_str().expect("its path is text").to_owned()
}

#[test]
fn a_clock_on_the_wall_that_jumps_fires_nothing_clears_nothing_and_forgets_nothing() {
    let world = world();
    let clock = world.folder.write("clock", "+0");
    let world = world
        .with_variable("LD_PRELOAD", &faketime())
        .with_variable("FAKETIME_TIMESTAMP_FILE", clock.to_str().expect("its path is text"))
        .with_variable("FAKETIME_NO_CACHE", "1")
        .with_variable("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let (_port, address, file) = shop(&world, 1);
    let inbox = Inbox::open();
    let objective = "[objective.checkout]\nroute = \"web\"\nsuccess = \"99%\"\n";
    let absent = "[alert.absent]\nmetric = \"nothing_total\"\nbelow = 1\nover = \"1h\"\nfor = \"1h\"\n";
    let rules = format!("{objective}{absent}{}{}", busy(""), receiver("oncall", &inbox.url()));
    let terrace = world.up(&format!("{file}{rules}"));
    terrace.command(&["alerts", "silence", "checkout", "2h"]).ok();
    let ask = || assert_eq!(get(address, "/").status, 200);
    until_true("one fires and one waits", || {
        ask();
        in_state(&terrace, "busy", "firing").len() + in_state(&terrace, "absent", "pending").len() == 2
    });
    let mut month = month(&terrace);
    for jump in ["+40d", "-40d", "+0"] {
        world.folder.write("clock", jump);
        let before = objective_of(&terrace)["total"].as_u64().unwrap_or_default();
        until_true("the clock is another, and counting goes on", || {
            ask();
            let counted = objective_of(&terrace)["total"].as_u64().unwrap_or_default();
            counted > before + 20 && self::month(&terrace) != month
        });
        month = self::month(&terrace);
        assert_eq!(in_state(&terrace, "busy", "firing").len(), 1, "{jump}: it fires on");
        assert_eq!(in_state(&terrace, "absent", "pending").len(), 1, "{jump}: it waits on");
        let told = alerts(&terrace);
        assert_eq!(told["alerts"].as_array().map(Vec::len), Some(2), "{jump}: {told:#}");
        assert_eq!(told["silences"].as_array().map(Vec::len), Some(1), "{jump}: {told:#}");
        assert_eq!((&told["objectives"][0]["bad"], inbox.letters().len()), (&0.into(), 1), "{jump}");
    }
}

/// The month of the last line of the access log, such as `2026-11`.
fn month(terrace: &Terrace<'_>) -> String {
    let line = until("a line is there", || terrace.access().pop());
    line["time"].as_str().expect("it has a time")[..7].to_owned()
}
