//! Where log lines end up, whatever happens to the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;
use terrace_instruments::{AccessRecord, Event, Level, Log, Meter, Plate, RequestId};
use terrace_signals::records::LogFilter;
use terrace_telemetry::{BuildError, Config, Destination, Followed, Rotation, Telemetry};

/// A folder of this test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("terrace-telemetry-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn config(events: Destination, access: Destination) -> Config {
    Config { events, access, ..Config::default() }
}

fn build(config: Config) -> Telemetry {
    Telemetry::build(config, Meter::new(2)).unwrap()
}

fn events_to(path: &Path) -> Config {
    config(Destination::File(path.to_owned()), Destination::Off)
}

fn flush(telemetry: &Telemetry) {
    assert!(telemetry.handle().flush(Duration::from_secs(30)), "the writer answers");
}

fn emit(log: &Log, number: u64) {
    log.emit(Event::new(Level::Info, "test").field("number", number));
}

fn request(log: &Log, path: &str) {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    log.access(&AccessRecord {
        time: Duration::ZERO,
        connection: &Plate::new(&[("client", "127.0.0.1"), ("listener", "public")]),
        client: None,
        asker: None,
        method: "GET",
        host: "localhost",
        path,
        query,
        protocol: "HTTP/1.1",
        status: 200,
        bytes_in: 0,
        bytes_out: 2,
        duration: Duration::from_millis(1),
        way: &Plate::new(&[("route", "web"), ("service", "web")]),
        instance: Some(&Plate::new(&[("instance", "web-1")])),
        tries: 1,
        request_id: RequestId::Text("r1"),
        trace: None,
        outcome: "ok",
    });
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect()
}

fn numbers(path: &Path) -> Vec<u64> {
    lines(path).iter().map(|line| line["number"].as_u64().unwrap()).collect()
}

#[test]
fn an_event_is_one_json_line_with_all_it_knows() {
    let folder = Folder::new();
    let path = folder.at("deep/in/events.log");
    let telemetry = build(events_to(&path));
    let event = Event::new(Level::Warn, "fleet.instance.crashed").service("orders").instance("orders-1");
    telemetry.log().emit(event.request("r7").message("exit status 1\nsee above").field("restarts", 3_u32));
    assert!(telemetry.stop());
    let lines = lines(&path);
    assert_eq!(lines.len(), 1);
    let mut expected = serde_json::json!({
        "level": "warn", "event": "fleet.instance.crashed", "service": "orders", "instance": "orders-1",
        "request_id": "r7", "message": "exit status 1\nsee above", "restarts": 3,
    });
    expected["time"] = lines[0]["time"].clone();
    assert_eq!(lines[0], expected);
    assert!(lines[0]["time"].as_str().unwrap() > "2020");
}

#[test]
fn the_access_log_can_go_its_own_way_or_the_same() {
    let folder = Folder::new();
    let (events, access) = (folder.at("events.log"), folder.at("access.log"));
    let telemetry = build(config(Destination::File(events.clone()), Destination::File(access.clone())));
    request(&telemetry.log(), "/apart");
    flush(&telemetry);
    assert_eq!(lines(&access)[0]["path"], "/apart");
    assert!(lines(&events).is_empty());
    let same = config(Destination::File(events.clone()), Destination::File(events.clone()));
    telemetry.handle().apply(same).unwrap();
    request(&telemetry.log(), "/together");
    emit(&telemetry.log(), 1);
    flush(&telemetry);
    assert_eq!(lines(&events).len(), 2);
    assert_eq!(lines(&access).len(), 1);
    assert!(telemetry.stop());
}

#[test]
fn a_change_of_destination_loses_no_line() {
    let folder = Folder::new();
    let paths = [folder.at("a.log"), folder.at("b.log")];
    let telemetry = build(events_to(&paths[0]));
    let (log, handle) = (telemetry.log(), telemetry.handle());
    for number in 0..500 {
        emit(&log, number);
        if number % 50 == 49 {
            handle.apply(events_to(&paths[(number as usize / 50 + 1) % 2])).unwrap();
        }
    }
    assert!(telemetry.stop());
    let mut all = [numbers(&paths[0]), numbers(&paths[1])].concat();
    all.sort_unstable();
    assert_eq!(all, (0..500).collect::<Vec<_>>());
}

#[test]
fn a_log_that_cannot_be_opened_is_refused_and_the_old_one_runs_on() {
    let folder = Folder::new();
    let telemetry = build(events_to(&folder.at("events.log")));
    let error = telemetry.handle().apply(events_to(&folder.0)).unwrap_err();
    assert!(matches!(&error, BuildError::Open { path, .. } if *path == folder.0), "{error}");
    emit(&telemetry.log(), 1);
    assert!(telemetry.stop());
    assert_eq!(numbers(&folder.at("events.log")), [1]);
}

#[test]
fn a_moved_file_is_opened_anew_on_request() {
    let folder = Folder::new();
    let (path, moved) = (folder.at("events.log"), folder.at("events.log.old"));
    let telemetry = build(events_to(&path));
    emit(&telemetry.log(), 1);
    flush(&telemetry);
    fs::rename(&path, &moved).unwrap();
    telemetry.handle().reopen();
    flush(&telemetry);
    emit(&telemetry.log(), 2);
    assert!(telemetry.stop());
    assert_eq!((numbers(&moved), numbers(&path)), (vec![1], vec![2]));
}

#[test]
fn a_large_file_is_set_aside_and_only_so_many_are_kept() {
    let folder = Folder::new();
    let path = folder.at("events.log");
    let rotation = Rotation { bytes_max: 1, files_kept_max: 2, ..Rotation::default() };
    let telemetry = build(Config { rotation, ..events_to(&path) });
    for number in 0..5 {
        emit(&telemetry.log(), number);
        flush(&telemetry);
    }
    assert!(telemetry.stop());
    assert!(numbers(&path).is_empty());
    assert_eq!(numbers(&folder.at("events.log.1")), [4]);
    assert_eq!(numbers(&folder.at("events.log.2")), [3]);
    assert!(!folder.at("events.log.3").exists());
}

fn said(log: &Log, text: &'static str) {
    let event = Event::new(Level::Info, "app.output").service("orders").instance("orders-1");
    log.relay(event.field("stream", "stdout").message(text));
}

#[test]
fn what_an_app_prints_is_written_as_what_it_says() {
    let folder = Folder::new();
    let path = folder.at("events.log");
    let telemetry = build(Config { level: Level::Warn, ..events_to(&path) });
    for text in [
        r#"{"level":"error","msg":"no stock","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","left":0}"#,
        r#"{"level":"info","msg":"fine"}"#,
        "WARN slow",
        "listening",
    ] {
        said(&telemetry.log(), text);
    }
    flush(&telemetry);
    let written = lines(&path);
    assert_eq!(written.len(), 2, "what matters less than `warn` is not written: {written:?}");
    assert_eq!(
        (
            &written[0]["level"],
            &written[0]["message"],
            &written[0]["trace_id"],
            &written[0]["fields"]["left"]
        ),
        (&"error".into(), &"no stock".into(), &"4bf92f3577b34da6a3ce929d0e0e4736".into(), &0.into())
    );
    assert_eq!(written[1]["message"], "WARN slow");
    let kept = telemetry.handle().records(&LogFilter::default(), 10);
    let levels: Vec<Level> = kept.iter().map(|record| record.level).collect();
    assert_eq!(levels, [Level::Error, Level::Info, Level::Warn, Level::Info], "all of it can be searched");
    let warnings =
        LogFilter { level_min: Some(Level::Warn), text: Some("SLOW".into()), ..LogFilter::default() };
    assert_eq!(telemetry.handle().records(&warnings, 10)[0].message, "WARN slow");
    assert_eq!(telemetry.handle().records_services(), ["orders"]);
}

#[test]
fn an_apps_own_debug_lines_are_written_where_nobody_asked_for_less() {
    let folder = Folder::new();
    let path = folder.at("events.log");
    let telemetry = build(events_to(&path));
    said(&telemetry.log(), r#"{"level":"debug","msg":"details"}"#);
    assert!(telemetry.stop());
    assert_eq!(
        (&lines(&path)[0]["level"], &lines(&path)[0]["message"]),
        (&"debug".into(), &"details".into())
    );
}

#[tokio::test]
async fn records_are_kept_and_followed_where_nothing_is_written() {
    let telemetry = build(config(Destination::Off, Destination::Off));
    let handle = telemetry.handle();
    emit(&telemetry.log(), 1);
    flush(&telemetry);
    let mut stream = handle.follow(LogFilter { service: Some("orders".into()), ..LogFilter::default() });
    said(&telemetry.log(), "hello");
    let Followed::Record(record) = stream.next().await else { panic!("nothing was missed") };
    assert_eq!((record.message.as_str(), record.is_app), ("hello", true));
    let of_terrace = LogFilter { service: Some("terrace".into()), ..LogFilter::default() };
    assert_eq!(handle.records(&of_terrace, 10).len(), 1);
    handle.apply(Config { records_bytes_max: 0, ..config(Destination::Off, Destination::Off) }).unwrap();
    assert!(handle.records(&LogFilter::default(), 10).is_empty());
}

/// A log of which the first line was written at that time.
fn began_at(path: &Path, time: &str) {
    fs::write(path, format!("{{\"time\":\"{time}\",\"number\":0}}\n")).unwrap();
}

#[test]
fn a_file_whose_first_line_is_old_is_set_aside_also_after_a_restart() {
    let folder = Folder::new();
    let path = folder.at("events.log");
    let day = Some(Duration::from_secs(86_400));
    let rotation = Rotation { bytes_max: 0, age_max: day, files_kept_max: 1 };
    began_at(&path, "2020-01-31T00:00:00.000000Z");
    let telemetry = build(Config { rotation, ..events_to(&path) });
    for number in 1..4 {
        emit(&telemetry.log(), number);
        flush(&telemetry);
    }
    assert!(telemetry.stop());
    assert_eq!((numbers(&path), numbers(&folder.at("events.log.1"))), (vec![1, 2, 3], vec![0]));
    assert!(build(Config { rotation, ..events_to(&path) }).stop());
    assert_eq!(numbers(&path), [1, 2, 3], "a young file stays");
}

#[test]
fn a_first_line_in_the_future_makes_nothing_old() {
    let folder = Folder::new();
    let path = folder.at("events.log");
    began_at(&path, "2999-01-31T00:00:00.000000Z");
    let rotation = Rotation { age_max: Some(Duration::from_secs(1)), ..Rotation::default() };
    let telemetry = build(Config { rotation, ..events_to(&path) });
    emit(&telemetry.log(), 1);
    assert!(telemetry.stop());
    assert_eq!(numbers(&path), [0, 1]);
}

#[test]
fn of_a_log_that_keeps_no_older_files_the_old_lines_go() {
    let folder = Folder::new();
    let path = folder.at("access.log");
    began_at(&path, "2020-01-31T00:00:00.000000Z");
    let access_rotation =
        Rotation { age_max: Some(Duration::from_secs(60)), files_kept_max: 0, ..Rotation::default() };
    let access = Destination::File(path.clone());
    let telemetry = build(Config { access_rotation, ..config(Destination::Off, access) });
    request(&telemetry.log(), "/");
    assert!(telemetry.stop());
    assert_eq!(lines(&path)[0]["path"], "/");
    assert!(!folder.at("access.log.1").exists());
}

/// A disk of 64 KiB; `None` where this user may not mount one.
struct SmallDisk(Folder);

impl SmallDisk {
    fn new() -> Option<Self> {
        let folder = Folder::new();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "terrace-test"]).arg(&folder.0);
        let mounted = mount.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg("--lazy").arg(&self.0.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "what was mounted can be unmounted");
    }
}

#[test]
fn on_a_full_disk_lines_are_lost_and_counted_and_with_room_they_are_written_again() {
    let Some(disk) = SmallDisk::new() else { return };
    let path = disk.0.at("events.log");
    let telemetry = build(events_to(&path));
    for number in 0..2_000 {
        emit(&telemetry.log(), number);
    }
    flush(&telemetry);
    let lost = telemetry.handle().dropped().events_unwritten;
    assert!((1..2_000).contains(&lost), "{lost}");
    // Where they were taken in two turns, word of the first one's losses is among them.
    let mut records = telemetry.handle().records(&LogFilter::default(), 10_000);
    records.retain(|record| *record.event != *"telemetry.log.lines_lost");
    assert_eq!(records.len(), 2_000, "memory has them all");
    fs::remove_file(&path).unwrap();
    telemetry.handle().reopen();
    flush(&telemetry);
    emit(&telemetry.log(), 9_999);
    flush(&telemetry);
    let written = lines(&path);
    assert_eq!(written[0]["number"], 9_999);
    assert_eq!(
        (&written[1]["event"], &written[1]["events_total"]),
        (&"telemetry.log.lines_lost".into(), &lost.into())
    );
    assert!(telemetry.stop());
}

#[test]
fn a_full_disk_costs_lines_that_are_counted() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let full = Destination::File("/dev/full".into());
    let telemetry = build(config(full.clone(), full));
    (0..3).for_each(|number| emit(&telemetry.log(), number));
    (0..4).for_each(|_| request(&telemetry.log(), "/"));
    flush(&telemetry);
    let lost = telemetry.handle().dropped();
    assert_eq!(lost.access_unwritten, 4);
    assert!(
        lost.events_unwritten >= 3,
        "what tells of a loss may be lost as well: {}",
        lost.events_unwritten
    );
    let text = telemetry.handle().metrics(None).body;
    assert!(
        text.contains("terrace_log_lines_lost_total{log=\"access\",reason=\"write-failed\"} 4"),
        "{text}"
    );
}

#[test]
fn a_disk_with_room_again_gets_whole_lines_and_is_told_of_the_loss() {
    let folder = Folder::new();
    let telemetry = build(events_to(Path::new("/dev/full")));
    emit(&telemetry.log(), 1);
    flush(&telemetry);
    telemetry.handle().apply(events_to(&folder.at("events.log"))).unwrap();
    emit(&telemetry.log(), 2);
    assert!(telemetry.stop());
    let lines = lines(&folder.at("events.log"));
    assert_eq!(lines[0]["number"], 2);
    assert_eq!(
        (&lines[1]["event"], &lines[1]["events_total"]),
        (&"telemetry.log.lines_lost".into(), &1.into())
    );
}

#[test]
fn an_access_log_that_is_off_costs_nothing() {
    let telemetry = build(config(Destination::Off, Destination::Off));
    assert!(!telemetry.log().access_on());
}
