//! What was said, found again and never in the way: logs through the whole program, on disks that are full and in files
//! that are set aside.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use terrace_testkit::{Connection, Kind, Load, Request, Terrace, World, get, until, until_true};

use crate::{shop, world};

const KINDS: [(Kind, usize); 2] = [(Kind::Get, 3), (Kind::Upload, 1)];

/// Lets an instance print a line.
fn print(address: SocketAddr, line: &str) {
    assert_eq!(get(address, &format!("/print?line={line}")).status, 200);
}

fn messages(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["message"].as_str()).collect()
}

/// `terrace logs --json` with these arguments.
#[track_caller]
fn logs(terrace: &Terrace<'_>, asked: &[&str]) -> Vec<Value> {
    let told = terrace.command(&[&["logs", "--json"], asked].concat()).ok();
    told.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

#[test]
fn lines_are_found_between_two_moments_and_by_all_that_is_known_of_them_at_once() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let terrace = world.up(&file);
    for line in ["one", "WARN:two", "three"] {
        print(address, line);
        until_true("it is kept", || logs(&terrace, &["web", "--text", line]).len() == 1);
    }
    let all = logs(&terrace, &["web", "--text", "e"]);
    let time_of = |text: &str| {
        let found = logs(&terrace, &["web", "--text", text]);
        found[0]["time"].as_str().expect("it has a time").to_owned()
    };
    let (one, two, three) = (time_of("one"), time_of("WARN:two"), time_of("three"));
    assert!(one < two && two < three, "{all:?}");
    let between = |since: &str, until: &str| {
        let found = logs(&terrace, &["web", "--since", since, "--until", until]);
        found.iter().filter_map(|line| line["message"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(between(&one, &two), ["one", "WARN:two"]);
    assert_eq!(between(&two, &two), ["WARN:two"]);
    assert_eq!(between(&three, &one), [""; 0]);
    let found = logs(&terrace, &["web", "--level", "warn", "--since", &one, "--text", "TWO", "-n", "5"]);
    assert_eq!(messages(&found), ["WARN:two"]);
    let instance = found[0]["instance"].as_str().expect("it is of an instance").to_owned();
    assert_eq!(logs(&terrace, &["--instance", &instance, "--text", "two"]).len(), 1);
    assert_eq!(logs(&terrace, &["web", "--level", "error"]).len(), 0);
}

#[test]
fn a_follower_gets_only_what_it_asked_for() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let _terrace = world.up(&file);
    let errors = world.start_with(&["logs", "web", "-f", "--level", "error", "--json"]);
    let traced = world.start_with(&["logs", "-f", "--trace", TRACE, "--json", "-n", "0"]);
    print(address, "{\"level\":\"error\",\"msg\":\"first\"}");
    until_true("it follows", || messages(&errors.access()) == ["first"]);
    print(address, "plain");
    print(address, "{\"level\":\"info\",\"msg\":\"fine\"}");
    print(
        address,
        &format!("{{\"severity\":\"ERROR\",\"message\":\"last\",\"traceId\":\"{TRACE}\",\"order\":7}}"),
    );
    until_true("the next one comes alone", || messages(&errors.access()) == ["first", "last"]);
    let record = until("it is also of that trace", || traced.access().first().cloned());
    assert_eq!((&record["trace_id"], &record["fields"]["order"]), (&TRACE.into(), &7.into()), "{record}");
    assert_eq!(record["level"], "error");
}

/// A disk of its own, gone with the test; where we may not make one, none.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(world: &World, size: &str) -> Option<Self> {
        let folder = world.folder.join("small");
        std::fs::create_dir(&folder).expect("a folder in ours");
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "terrace-test"]).arg(&folder);
        mount.output().is_ok_and(|done| done.status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Somebody may still have a file open there; it goes when they do.
        let _unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn lost(terrace: &Terrace<'_>, log: &str, reason: &str) -> f64 {
    terrace.counted(&format!("terrace_log_lines_lost_total{{log=\"{log}\",reason=\"{reason}\"}}"))
}

#[test]
fn a_disk_that_is_always_full_costs_lines_and_nothing_else() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let mut terrace = world.up(&format!("{file}[log]\naccess = {{ to = \"/dev/full\" }}\n"));
    let load = Load::start(address, &KINDS);
    until_true("lines are lost and counted", || lost(&terrace, "access", "write-failed") >= 100.0);
    assert_eq!(terrace.event("telemetry.log.lines_lost")["level"], "warn");
    load.wait_for_more(&KINDS);
    load.stop().assert_nothing_lost();
    assert_eq!(lost(&terrace, "events", "write-failed"), 0.0);
    assert!(terrace.stop().success());
}

#[test]
fn a_disk_that_fills_up_is_written_again_when_there_is_room() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let Some(_disk) = SmallDisk::mount(&world, "64k") else { return };
    let log = "[log]\naccess = { to = \"small/access.log\", rotate = false }\nevents = { to = \"small/events.log\" }\n";
    world.write(&format!("{file}{log}"));
    world.folder.write("small/ballast", &"x".repeat(32 << 10));
    let mut terrace = world.start_with(&["up"]);
    until_true("it is ready", || world.terrace(&["status", "--json"]).stdout.contains("\"not_ready\": []"));
    let load = Load::start(address, &KINDS);
    until_true("lines are lost", || lost(&terrace, "access", "write-failed") >= 50.0);
    world.folder.remove("small/ballast");
    let before = world.folder.read("small/access.log").len();
    until_true("lines are written again", || world.folder.read("small/access.log").len() > before);
    load.stop().assert_nothing_lost();
    assert!(terrace.stop().success());
    let text = world.folder.read("small/access.log");
    let spoilt = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).count();
    // Where the disk was full in the middle of a line, and that may have been more than once.
    assert!(spoilt * 10 < text.lines().count(), "{spoilt} lines are spoilt:\n{text}");
}

#[test]
fn a_log_is_set_aside_by_size_without_losing_a_line_and_the_oldest_go() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let rotate = |keep: u32| {
        let rotate = format!("rotate = {{ size = \"64KiB\", age = \"1h\", keep = {keep} }}");
        format!("{file}[log]\naccess = {{ to = \"logs/access.log\", {rotate} }}\n")
    };
    std::fs::create_dir(world.folder.join("logs")).expect("a folder in ours");
    let terrace = world.up(&rotate(100));
    let mut connection = Connection::open(address).expect("it listens");
    let mut ask_a_hundred = || {
        for _ in 0..100 {
            let answer = connection.exchange(&Request::get("/")).expect("it answers");
            assert_eq!(answer.status, 200);
        }
    };
    for hundred in 1..=10 {
        ask_a_hundred();
        until_true("all of it is written", || ids(&world).len() == hundred * 100);
    }
    let files = files(&world);
    assert!(files.len() >= 4 && files[0] == "access.log" && files[1] == "access.log.1", "{files:?}");
    for file in &files {
        let bytes = world.folder.read(&format!("logs/{file}")).len();
        // What is written at a time is never cut in two.
        assert!(bytes < 128 << 10, "{file} has {bytes} bytes");
    }
    terrace.reload_with(&rotate(2)).ok();
    until_true("the oldest are gone", || {
        ask_a_hundred();
        self::files(&world) == ["access.log", "access.log.1", "access.log.2"]
    });
    assert_eq!(lost(&terrace, "access", "write-failed") + lost(&terrace, "access", "queue-full"), 0.0);
}

/// The access log's files, the newest first.
fn files(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.folder.join("logs")).expect("it is there").flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_by_key(|name| name.rsplit_once("log.").and_then(|(_, number)| number.parse::<u32>().ok()));
    names
}

/// Ids of all requests that are in any of the files, each of which has whole lines only.
fn ids(world: &World) -> BTreeSet<String> {
    let texts = files(world).into_iter().map(|file| world.folder.read(&format!("logs/{file}")));
    let text: String = texts.collect();
    let id = |line: &str| serde_json::from_str::<Value>(line).ok()?["request_id"].as_str().map(str::to_owned);
    text.lines().filter_map(id).collect()
}
