//! Where log lines end up, whatever happens to the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use terrace_instruments::{AccessRecord, AddressText, Event, Level, Log, Meter, Plate};
use terrace_telemetry::{BuildError, Config, Destination, Rotation, Telemetry};

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
    let client = AddressText::new([127, 0, 0, 1].into());
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    log.access(&AccessRecord {
        time: SystemTime::UNIX_EPOCH,
        listener: &Plate::new(&[("listener", "public")]),
        client: &client,
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
        instance: "web-1",
        tries: 1,
        request_id: "r1",
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
    let rotation = Rotation { bytes_max: 1, files_kept_max: 2 };
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
    assert_eq!((lost.events_unwritten, lost.access_unwritten), (3, 4));
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
