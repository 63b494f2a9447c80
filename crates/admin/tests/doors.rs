//! The three faces as their callers see them: a real server on a temporary socket and on loopback.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use terrace_admin::client::{self, ClientError};
use terrace_admin::map::Fault;
use terrace_admin::{
    Addresses, Admin, Answer, BuildError, Config, Control, ControlError, FaultWanted, Handle, Loopback, Token,
};
use terrace_instruments::{Event, Level, Log, Meter, Receiver};
use terrace_runtime::clock;
use terrace_runtime::drain::{self, Drainer};
use terrace_telemetry::{Destination, Telemetry};

const TOKEN: &str = "a-token-for-tests-0123456789";

/// A Terrace that only remembers what it was asked.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<String>>,
    reasons: Mutex<Vec<String>>,
}

impl Fake {
    fn asked(&self, what: String) -> Answer<'_, Value> {
        self.asked.lock().unwrap().push(what);
        Box::pin(async { Ok(json!({ "done": true })) })
    }
}

impl Control for Fake {
    fn status(&self) -> Answer<'_, Value> {
        Box::pin(async { Ok(json!({ "services": [{ "name": "orders" }] })) })
    }
    fn config(&self) -> Answer<'_, Value> {
        Box::pin(async { Ok(json!({ "admin": { "token": "redacted" } })) })
    }
    fn reload(&self, _wait: Option<Duration>) -> Answer<'_, Value> {
        Box::pin(async { Err(ControlError::invalid("terrace.toml:3:1: unknown key \"rout\"")) })
    }
    fn scale(&self, service: String, instances: u32) -> Answer<'_, Value> {
        self.asked(format!("scale {service} {instances}"))
    }
    fn restart(&self, service: String) -> Answer<'_, Value> {
        self.asked(format!("restart {service}"))
    }
    fn map(&self) -> Answer<'_, Arc<terrace_admin::map::Map>> {
        Box::pin(async { Ok(Arc::default()) })
    }

    fn drain(&self, _service: String, _instance: String, _is_out: bool) -> Answer<'_, Value> {
        Box::pin(async { Ok(json!({})) })
    }

    fn faults(&self) -> Answer<'_, Vec<Fault>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn begin_fault(&self, wanted: FaultWanted) -> Answer<'_, Fault> {
        self.asked.lock().unwrap().push(format!("fault {wanted}"));
        let fault = Fault { id: Some(7), route: wanted.route, share: wanted.share, ..Fault::default() };
        Box::pin(async { Ok(fault) })
    }

    fn end_faults(&self, which: String) -> Answer<'_, Vec<Fault>> {
        self.asked.lock().unwrap().push(format!("end-fault {which}"));
        Box::pin(async { Ok(Vec::new()) })
    }

    fn keys(&self) -> Answer<'_, Value> {
        Box::pin(async { Ok(json!([])) })
    }

    fn create_key(&self, new: terrace_auth::NewKey) -> Answer<'_, Value> {
        Box::pin(async move { Ok(json!({ "key": "tk_made", "name": new.name })) })
    }

    fn revoke_key(&self, id: String) -> Answer<'_, Value> {
        Box::pin(async move { Ok(json!({ "id": id })) })
    }

    fn stop(&self) -> Answer<'_, Value> {
        self.asked("stop".to_owned())
    }
    fn not_ready(&self) -> Vec<String> {
        self.reasons.lock().unwrap().clone()
    }
}

/// A running admin API in a folder of its own.
struct Door {
    state: PathBuf,
    fake: Arc<Fake>,
    handle: Handle,
    drainer: Drainer,
    running: tokio::task::JoinHandle<terrace_admin::Claim>,
    events: Receiver,
    telemetry: Telemetry,
}

fn folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    std::env::temp_dir().join(format!("terrace-admin-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed)))
}

fn telemetry() -> Telemetry {
    let quiet = terrace_telemetry::Config {
        events: Destination::Off,
        access: Destination::Off,
        ..Default::default()
    };
    Telemetry::build(quiet, Meter::new(1)).unwrap()
}

fn config(state: &Path) -> Config {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let loopback = Loopback::new(any, Token::new(TOKEN).unwrap()).unwrap();
    Config { state: state.to_owned(), loopback: Some(loopback), probes: Some(any) }
}

impl Door {
    fn open() -> Self {
        Self::open_in(folder())
    }

    fn open_in(state: PathBuf) -> Self {
        let (fake, telemetry) = (Arc::new(Fake::default()), telemetry());
        let (log, events) = Log::channel(100);
        let admin = Admin::build(config(&state), fake.clone(), telemetry.handle(), log).unwrap();
        let (drainer, drain) = drain::channel();
        let handle = admin.handle();
        let running = tokio::spawn(admin.run(drain));
        Self { state, fake, handle, drainer, running, events, telemetry }
    }

    fn socket(&self) -> PathBuf {
        client::socket_path(&self.state)
    }

    async fn post(&self, path: &str, body: Option<Value>) -> Result<Value, ClientError> {
        client::request(&self.socket(), "POST", path, body.as_ref()).await
    }

    async fn get(&self, path: &str) -> Result<Value, ClientError> {
        client::request(&self.socket(), "GET", path, None).await
    }

    fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.state.join("audit.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn close(self) {
        self.drainer.request();
        drop(self.running.await.unwrap());
        assert!(!client::socket_path(&self.state).exists(), "the socket is gone");
        fs::remove_dir_all(&self.state).unwrap();
    }
}

/// One request over TCP, head as given: status, head and body.
async fn tcp(address: SocketAddr, request: String) -> (u16, String, String) {
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = tokio::task::spawn_blocking(exchange).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
}

async fn with(address: SocketAddr, line: &str, headers: &[&str]) -> (u16, String, String) {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    tcp(address, format!("{line} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n")).await
}

fn refusal(result: Result<Value, ClientError>) -> ControlError {
    match result {
        Err(ClientError::Refused(problem)) => problem,
        other => panic!("expected a refusal: {other:?}"),
    }
}

#[tokio::test]
async fn commands_reach_the_running_terrace_through_the_socket() {
    let door = Door::open();
    assert_eq!(door.get("/v1/status").await.unwrap()["services"][0]["name"], "orders");
    assert_eq!(door.get("/v1/config").await.unwrap()["admin"]["token"], "redacted");
    door.post("/v1/services/orders/scale", Some(json!({ "instances": 3 }))).await.unwrap();
    door.post("/v1/services/orders/restart", None).await.unwrap();
    door.post("/v1/stop", None).await.unwrap();
    assert_eq!(*door.fake.asked.lock().unwrap(), ["scale orders 3", "restart orders", "stop"]);
    door.close().await;
}

#[tokio::test]
async fn the_socket_and_its_folder_are_private() {
    let door = Door::open();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    door.post("/v1/stop", None).await.unwrap();
    assert_eq!((mode(&door.state), mode(&door.socket())), (0o700, 0o600));
    assert_eq!(mode(&door.state.join("audit.log")), 0o600);
    door.close().await;
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_with_the_reason() {
    let door = Door::open();
    let reload = refusal(door.post("/v1/reload", None).await);
    assert_eq!((reload.status, reload.retry_safe), (422, false));
    assert!(reload.detail.contains("terrace.toml:3:1"), "{reload}");
    for body in
        [None, Some(json!({})), Some(json!({ "instances": -1 })), Some(json!({ "instances": 1, "x": 1 }))]
    {
        assert_eq!(refusal(door.post("/v1/services/orders/scale", body).await).status, 400);
    }
    assert_eq!(
        refusal(door.post("/v1/services/orders/scale", Some(json!({ "instances": 10_001 }))).await).status,
        422
    );
    assert_eq!(refusal(door.post("/v1/services/..%2Fx/restart", None).await).status, 404);
    assert_eq!(refusal(door.get("/v1/nothing").await).status, 404);
    assert_eq!(refusal(door.get("/v1/reload").await).status, 405);
    assert_eq!(refusal(door.get("/v1/logs?lines=many").await).status, 400);
    assert!(door.fake.asked.lock().unwrap().is_empty());
    door.close().await;
}

#[tokio::test]
async fn every_change_is_audited_with_who_made_it() {
    let door = Door::open();
    door.post("/v1/services/orders/scale", Some(json!({ "instances": 3 }))).await.unwrap();
    refusal(door.post("/v1/reload", None).await);
    door.get("/v1/status").await.unwrap();
    let audit = door.audit();
    assert_eq!(audit.len(), 2, "what changes nothing is not in it");
    let own_uid = rustix::process::geteuid().as_raw();
    assert_eq!(audit[0]["who"], json!({ "uid": own_uid, "pid": std::process::id() }));
    assert_eq!(
        (&audit[0]["action"], &audit[0]["service"], &audit[0]["instances"]),
        (&json!("scale"), &json!("orders"), &json!(3))
    );
    assert_eq!((&audit[0]["outcome"], &audit[1]["outcome"]), (&json!("done"), &json!("refused")));
    assert_eq!(audit[1]["status"], 422);
    let events: Vec<_> = door.events.take_events().iter().map(|event| event.name).collect();
    assert_eq!(events, ["admin.change", "admin.change"]);
    door.close().await;
}

#[tokio::test]
async fn whoever_breaks_something_on_purpose_is_noted() {
    let door = Door::open();
    let wanted = json!({
        "route": "orders", "delay_seconds": 0.5, "abort": 503, "share": 0.1,
        "headers": { "X-Test": "1" }, "seconds": 300,
    });
    let begun = door.post("/v1/faults", Some(wanted)).await.unwrap();
    assert_eq!((&begun["id"], &begun["route"]), (&json!(7), &json!("orders")));
    door.post("/v1/faults/7/end", None).await.unwrap();
    let said = "orders: delay 0.5s, abort 503, share 0.1, with X-Test: 1, for 300s";
    assert_eq!(*door.fake.asked.lock().unwrap(), [format!("fault {said}"), "end-fault 7".to_owned()]);
    let audit = door.audit();
    assert_eq!((&audit[0]["action"], &audit[0]["target"]), (&json!("fault"), &json!(said)));
    assert_eq!((&audit[1]["action"], &audit[1]["target"]), (&json!("end-fault"), &json!("7")));
    door.close().await;
}

#[tokio::test]
async fn what_is_no_fault_is_refused() {
    let door = Door::open();
    for wrong in [
        json!({}),
        json!({ "route": "orders", "abort": 503 }),
        json!({ "route": "orders", "abort": 503, "seconds": -1 }),
        json!({ "route": "orders", "abort": 503, "seconds": 300, "share": 0 }),
        json!({ "route": "orders", "abort": 503, "seconds": 300, "share": 1.5 }),
        json!({ "route": "x".repeat(500), "abort": 503, "seconds": 300 }),
        json!({ "route": "orders", "abort": 503, "seconds": 300, "headers": { "X": "a\nb" } }),
        json!({ "route": "orders", "abort": 503, "seconds": 300, "for": "ever" }),
    ] {
        refusal(door.post("/v1/faults", Some(wrong)).await);
    }
    assert!(door.fake.asked.lock().unwrap().is_empty());
    door.close().await;
}

#[tokio::test]
async fn a_second_terrace_in_the_same_folder_is_told_who_runs() {
    let door = Door::open();
    let telemetry = telemetry();
    let second = Admin::build(config(&door.state), door.fake.clone(), telemetry.handle(), Log::discard());
    let error = second.unwrap_err();
    assert!(
        matches!(&error, BuildError::AlreadyRunning { pid, .. } if *pid == std::process::id().to_string()),
        "{error}"
    );
    door.get("/v1/status").await.unwrap();
    door.close().await;
}

#[tokio::test]
async fn a_socket_left_by_a_dead_terrace_is_replaced() {
    let state = folder();
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    drop(std::os::unix::net::UnixListener::bind(client::socket_path(&state)).unwrap());
    let left_over =
        client::request(&client::socket_path(&state), "GET", "/v1/status", None).await.unwrap_err();
    assert!(left_over.to_string().contains("left over from one that died"), "{left_over}");
    let door = Door::open_in(state);
    door.get("/v1/status").await.unwrap();
    door.close().await;
}

#[tokio::test]
async fn a_folder_that_others_may_write_to_is_refused() {
    let state = folder();
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    let telemetry = telemetry();
    let built = Admin::build(config(&state), Arc::new(Fake::default()), telemetry.handle(), Log::discard());
    assert!(built.unwrap_err().to_string().contains("others may write into it"));
    fs::remove_dir_all(state).unwrap();
}

#[tokio::test]
async fn a_deep_folder_has_a_socket_all_the_same() {
    let top = folder();
    let door = Door::open_in(top.join("d".repeat(90)).join("e".repeat(90)));
    door.get("/v1/status").await.unwrap();
    door.close().await;
    fs::remove_dir_all(top).unwrap();
}

#[tokio::test]
async fn where_none_runs_the_client_says_how_to_start_one() {
    let error =
        client::request(&client::socket_path(&folder()), "GET", "/v1/status", None).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("no Terrace is running here: the socket "), "{text}");
    assert!(text.ends_with("does not exist; start it with `terrace up`"), "{text}");
}

impl Door {
    /// What an instance of `orders` prints; it is in memory when this returns.
    fn print(&self, line: &str) {
        let event = Event::new(Level::Info, "app.output").service("orders").instance("orders-1");
        self.telemetry.log().relay(Event { time: clock::wall(), ..event.message(line.to_owned()) });
        assert!(self.telemetry.handle().flush(Duration::from_secs(60)));
    }

    async fn logs(&self, query: &str) -> client::Lines {
        client::stream(&self.socket(), &format!("/v1/logs?{query}")).await.unwrap()
    }

    /// All messages that are answered.
    async fn messages(&self, query: &str) -> Vec<String> {
        let (mut lines, mut messages) = (self.logs(query).await, Vec::new());
        while let Some(line) = lines.next().await.unwrap() {
            let record: Value = serde_json::from_str(&line).unwrap();
            messages.push(record["message"].as_str().unwrap().to_owned());
        }
        messages
    }
}

#[tokio::test]
async fn records_are_found_by_what_is_asked_of_them() {
    let door = Door::open();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    door.print(&format!(r#"{{"level":"error","msg":"no stock","trace_id":"{trace}","left":0}}"#));
    door.print("listening");
    door.telemetry.log().emit(Event::new(Level::Info, "ready").message("every service is ready"));
    door.print("WARN slow");
    let all = ["no stock", "listening", "every service is ready", "WARN slow"];
    assert_eq!(door.messages("").await, all);
    assert_eq!(door.messages("lines=2").await, all[2..]);
    assert_eq!(door.messages("service=orders&level=warn").await, ["no stock", "WARN slow"]);
    assert_eq!(door.messages("service=terrace").await, ["every service is ready"]);
    assert_eq!(door.messages(&format!("trace={trace}")).await, ["no stock"]);
    assert_eq!(door.messages("text=STOCK").await, ["no stock"]);
    assert_eq!(door.messages("instance=orders-2").await, [""; 0]);
    assert_eq!(door.messages("until=1h").await, [""; 0]);
    let line: Value =
        serde_json::from_str(&door.logs("lines=4").await.next().await.unwrap().unwrap()).unwrap();
    assert_eq!(
        (&line["service"], &line["instance"], &line["stream"], &line["fields"]["left"], &line["trace_id"]),
        (&"orders".into(), &"orders-1".into(), &"stdout".into(), &0.into(), &trace.into())
    );
    door.close().await;
}

#[tokio::test]
async fn where_memory_does_not_reach_it_says_so_first() {
    let door = Door::open();
    door.print("listening");
    let mut lines = door.logs("since=1d").await;
    let note: Value = serde_json::from_str(&lines.next().await.unwrap().unwrap()).unwrap();
    assert!(note["note"].as_str().unwrap().ends_with(" are not in memory"), "{note}");
    assert!(lines.next().await.unwrap().unwrap().contains("listening"));
    assert_eq!(lines.next().await.unwrap(), None);
    assert!(door.logs("since=1d&lines=1").await.next().await.unwrap().unwrap().contains("listening"));
    door.close().await;
}

#[tokio::test]
async fn a_question_about_logs_that_makes_no_sense_is_refused_with_what_would() {
    let door = Door::open();
    let refused = async |query: &str| refusal(door.get(&format!("/v1/logs?{query}")).await);
    assert!(refused("service=order").await.detail.contains("did you mean `orders`?"));
    for query in
        ["level=terrible", "trace=7", "since=noon", "until=later", "until=1h&follow=true", "lines=-1", "x=1"]
    {
        assert_eq!(refused(query).await.status, 400, "{query}");
    }
    door.close().await;
}

#[tokio::test]
async fn a_log_can_be_followed_to_its_end() {
    let door = Door::open();
    door.print("before");
    let mut live = door.logs("follow=true&service=orders").await;
    assert!(live.next().await.unwrap().unwrap().contains("before"));
    for number in 0..100 {
        door.print(&format!("line {number}"));
        assert!(live.next().await.unwrap().unwrap().contains(&format!("\"line {number}\"")));
    }
    door.drainer.request();
    assert_eq!(live.next().await.unwrap(), None, "the end is an end, not a broken connection");
    door.close().await;
}

#[tokio::test]
async fn whoever_follows_logs_over_loopback_leaves_room_for_others() {
    let door = Door::open();
    let loopback = door.handle.addresses().loopback.unwrap();
    let follow = move || {
        let mut stream = TcpStream::connect(loopback).unwrap();
        let head = format!(
            "GET /v1/logs?follow=true HTTP/1.1\r\nHost: {loopback}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (stream, String::from_utf8_lossy(&status[9..]).into_owned())
    };
    let many = move || (0..33).map(|_| follow()).collect::<Vec<_>>();
    let followed = tokio::task::spawn_blocking(many).await.unwrap();
    assert!(followed[..32].iter().all(|(_, status)| status == "200"));
    assert_eq!(followed[32].1, "503");
    let mut live = door.logs("follow=true").await;
    door.print("hello");
    assert!(live.next().await.unwrap().unwrap().contains("hello"), "the socket's own are not counted");
    drop(live);
    door.close().await;
}

#[tokio::test]
async fn the_loopback_face_wants_token_host_and_no_foreign_page() {
    let door = Door::open();
    let address = door.handle.addresses().loopback.unwrap();
    let (host, token) =
        (format!("Host: localhost:{}", address.port()), format!("Authorization: Bearer {TOKEN}"));
    let get = "GET /v1/status";
    assert_eq!(with(address, get, &[&host, &token]).await.0, 200);
    let (status, head, body) = with(address, get, &[&host]).await;
    assert_eq!(status, 401);
    assert!(head.contains("www-authenticate: bearer") && head.contains("application/problem+json"), "{head}");
    assert!(!body.contains(TOKEN));
    assert_eq!(with(address, get, &["Host: rebound.test", &token]).await.0, 403);
    assert_eq!(with(address, get, &[&host, &token, "Origin: http://evil.test"]).await.0, 403);
    let stop = "POST /v1/stop";
    assert_eq!(with(address, stop, &[&host, &token, "Content-Type: text/plain"]).await.0, 415);
    assert_eq!(with(address, stop, &[&host, "Content-Type: application/json"]).await.0, 401);
    assert!(door.fake.asked.lock().unwrap().is_empty());
    assert_eq!(with(address, stop, &[&host, &token, "Content-Type: application/json"]).await.0, 200);
    assert_eq!(door.audit()[0]["who"]["token"], true);
    door.close().await;
}

#[tokio::test]
async fn a_new_token_is_in_force_at_once() {
    let door = Door::open();
    let address = door.handle.addresses().loopback.unwrap();
    let changed =
        Loopback::new("127.0.0.1:0".parse().unwrap(), Token::new("another-token-0123456789").unwrap())
            .unwrap();
    door.handle.apply(Config { loopback: Some(changed), ..config(&door.state) }).unwrap();
    assert_eq!(door.handle.addresses().loopback, Some(address), "the listener stays");
    let host = format!("Host: localhost:{}", address.port());
    assert_eq!(
        with(address, "GET /v1/status", &[&host, &format!("Authorization: Bearer {TOKEN}")]).await.0,
        401
    );
    assert_eq!(
        with(address, "GET /v1/status", &[&host, "Authorization: Bearer another-token-0123456789"]).await.0,
        200
    );
    door.close().await;
}

#[tokio::test]
async fn faces_come_and_go_while_it_runs() {
    let door = Door::open();
    door.handle.apply(Config { loopback: None, probes: None, ..config(&door.state) }).unwrap();
    assert_eq!(door.handle.addresses(), Addresses::default());
    door.get("/v1/status").await.unwrap();
    door.handle.apply(config(&door.state)).unwrap();
    let probes = door.handle.addresses().probes.unwrap();
    assert_eq!(with(probes, "GET /livez", &["Host: localhost"]).await.0, 200);

    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = Config { loopback: None, probes: occupied.local_addr().ok(), ..config(&door.state) };
    assert!(matches!(door.handle.apply(taken), Err(BuildError::Listen { face: "probes", .. })));
    assert_eq!(with(probes, "GET /livez", &["Host: localhost"]).await.0, 200, "nothing has changed");
    assert!(door.handle.addresses().loopback.is_some());
    door.close().await;
}

#[tokio::test]
async fn probes_tell_life_readiness_and_numbers_and_nothing_else() {
    let door = Door::open();
    let probes = door.handle.addresses().probes.unwrap();
    let get = async |path: &str| with(probes, &format!("GET {path}"), &["Host: localhost"]).await;
    assert_eq!(get("/livez").await.0, 200);
    assert_eq!(get("/readyz").await.0, 200);
    door.fake.reasons.lock().unwrap().push("service orders has no ready instance".to_owned());
    let (status, _, body) = get("/readyz").await;
    assert_eq!((status, body.as_str()), (503, "service orders has no ready instance\n"));
    door.fake.reasons.lock().unwrap().clear();
    door.handle.set_draining();
    assert_eq!(get("/readyz").await.0, 503);
    assert_eq!(get("/livez").await.0, 200, "who drains, lives");
    let (status, head, body) = get("/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("text/plain; version=0.0.4") && body.contains("process_cpu_seconds_total"));
    let open_metrics =
        with(probes, "GET /metrics", &["Host: localhost", "Accept: application/openmetrics-text"]).await;
    assert!(open_metrics.1.contains("application/openmetrics-text; version=1.0.0"));
    for path in ["/", "/v1/status", "/v1/config"] {
        assert_eq!(get(path).await.0, 404, "{path}");
    }
    assert_eq!(with(probes, "GET /metrics", &["Host: rebound.test"]).await.0, 403);
    door.close().await;
}

#[tokio::test]
async fn a_silent_connection_does_not_hold_up_the_end() {
    let door = Door::open();
    let probes = door.handle.addresses().probes.unwrap();
    let silent = TcpStream::connect(probes).unwrap();
    assert_eq!(with(probes, "GET /livez", &["Host: localhost"]).await.0, 200);
    door.close().await;
    drop(silent);
}
