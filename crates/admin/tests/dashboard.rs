//! The dashboard as a browser meets it, and as somebody who wants in without a right to it does.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use terrace_admin::map::{Fault, Instance, Listener, Map, Route, Service};
use terrace_admin::{
    Admin, Answer, Config, Control, ControlError, FaultWanted, Handle, Loopback, Token, client,
};
use terrace_auth::TotpSecret;
use terrace_instruments::{Event, Level, Meter};
use terrace_runtime::clock;
use terrace_runtime::drain::{self, Drainer};
use terrace_signals::alerts::Severity;
use terrace_telemetry::{Destination, Receiver, Secret, Telemetry, Way};

const TOKEN: &str = "a-token-for-tests-0123456789";
const VIEWER_TOKEN: &str = "another-for-who-only-looks-01";
const HOSTILE: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&";

/// A Terrace that only remembers what it was asked.
#[derive(Default)]
struct Fake(Mutex<Vec<String>>);

impl Fake {
    fn asked(&self, what: String) -> Answer<'_, Value> {
        self.0.lock().unwrap().push(what);
        Box::pin(async { Ok(json!({ "done": true })) })
    }

    fn was_asked(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

fn map() -> Map {
    let instance =
        Instance { name: "orders-1".into(), state: "ready".into(), in_rotation: true, ..Instance::default() };
    let service = Service {
        name: "orders".into(),
        kind: "run".into(),
        state: "running".into(),
        reason: Some(HOSTILE.into()),
        desired: 3,
        ready: 1,
        is_managed: true,
        instances: vec![instance],
        ..Service::default()
    };
    let route = Route {
        name: "orders".into(),
        at: vec!["/orders/*".into()],
        to: vec![("orders".into(), 1)],
        ..Route::default()
    };
    let listener = Listener { name: "public".into(), routes: vec!["orders".into()], ..Listener::default() };
    Map {
        listeners: vec![listener],
        routes: vec![route],
        services: vec![service],
        not_ready: vec![HOSTILE.into()],
        faults: vec![fault()],
        ..Map::default()
    }
}

fn fault() -> Fault {
    let headers = vec![format!("x-test: {HOSTILE}")];
    Fault { id: Some(7), route: "orders".into(), abort: Some(503), share: 0.5, headers, ..Fault::default() }
}

impl Control for Fake {
    fn status(&self) -> Answer<'_, Value> {
        Box::pin(async { Ok(json!({ "services": [] })) })
    }
    fn config(&self) -> Answer<'_, Value> {
        Box::pin(async { Ok(json!({ "admin": { "token": "redacted" }, "note": HOSTILE })) })
    }
    fn reload(&self, _wait: Option<Duration>) -> Answer<'_, Value> {
        Box::pin(async { Err(ControlError::invalid(format!("terrace.toml:3:1: unknown key {HOSTILE}"))) })
    }
    fn scale(&self, service: String, instances: u32) -> Answer<'_, Value> {
        self.asked(format!("scale {service} {instances}"))
    }
    fn restart(&self, service: String) -> Answer<'_, Value> {
        self.asked(format!("restart {service}"))
    }
    fn map(&self) -> Answer<'_, Arc<Map>> {
        Box::pin(async { Ok(Arc::new(map())) })
    }
    fn drain(&self, service: String, instance: String, is_out: bool) -> Answer<'_, Value> {
        self.asked(format!("drain {service} {instance} {is_out}"))
    }
    fn faults(&self) -> Answer<'_, Vec<Fault>> {
        Box::pin(async { Ok(map().faults) })
    }
    fn begin_fault(&self, wanted: FaultWanted) -> Answer<'_, Fault> {
        self.0.lock().unwrap().push(format!("fault {wanted}"));
        Box::pin(async { Ok(map().faults.remove(0)) })
    }
    fn end_faults(&self, which: String) -> Answer<'_, Vec<Fault>> {
        self.0.lock().unwrap().push(format!("end-fault {which}"));
        Box::pin(async { Ok(map().faults) })
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
        Vec::new()
    }
}

/// A running admin API in a folder of its own.
struct Door {
    state: PathBuf,
    fake: Arc<Fake>,
    handle: Handle,
    drainer: Drainer,
    running: tokio::task::JoinHandle<terrace_admin::Claim>,
    telemetry: Telemetry,
}

fn telemetry() -> Telemetry {
    let receiver = Receiver {
        name: "oncall".to_owned(),
        way: Way::Webhook { url: Secret("http://secret.test/hook".to_owned()), headers: Vec::new() },
        severity_min: Severity::Page,
        resolved: true,
        group_wait: Duration::from_secs(10),
        repeat: Duration::from_secs(3_600),
    };
    let quiet = terrace_telemetry::Config {
        events: Destination::Off,
        access: Destination::Off,
        receivers: vec![receiver],
        ..Default::default()
    };
    Telemetry::build(quiet, Meter::new(1)).unwrap()
}

fn config(state: &std::path::Path, token: &str) -> Config {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let loopback = Loopback::new(any, Token::new(token).unwrap()).unwrap();
    let loopback = loopback.with_viewer_token(Token::new(VIEWER_TOKEN).unwrap());
    Config { state: state.to_owned(), loopback: Some(loopback), probes: None }
}

impl Door {
    fn open() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("terrace-dashboard-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        Self::open_in(std::env::temp_dir().join(name))
    }

    fn open_in(state: PathBuf) -> Self {
        let (fake, telemetry) = (Arc::new(Fake::default()), telemetry());
        let admin =
            Admin::build(config(&state, TOKEN), fake.clone(), telemetry.handle(), telemetry.log()).unwrap();
        let (drainer, drain) = drain::channel();
        let handle = admin.handle();
        let running = tokio::spawn(admin.run(drain));
        Self { state, fake, handle, drainer, running, telemetry }
    }

    /// Somebody with a browser of their own.
    fn browser(&self) -> Browser {
        let address = self.handle.addresses().loopback.unwrap();
        Browser { address, cookies: Vec::new(), csrf: String::new() }
    }

    async fn signed_in(&self, token: &str) -> Browser {
        let mut browser = self.browser();
        let answer = browser.post("/login", &[("token", token)], &[]).await;
        assert_eq!((answer.status, answer.field("location")), (303, Some("/")), "{}", answer.head);
        browser.csrf = browser.get("/config").await.csrf();
        browser
    }

    /// A link that opens the door once.
    async fn code(&self, role: &str) -> String {
        let wanted = json!({ "role": role });
        let socket = client::socket_path(&self.state);
        let answer = client::request(&socket, "POST", "/v1/login-code", Some(&wanted)).await.unwrap();
        assert_eq!(answer["expires_in_seconds"], 60);
        let url = answer["url"].as_str().unwrap();
        let address = self.handle.addresses().loopback.unwrap();
        url.strip_prefix(&format!("http://{address}")).unwrap().to_owned()
    }

    fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.state.join("audit.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Ends Terrace and keeps its folder.
    async fn end(self) -> PathBuf {
        self.drainer.request();
        self.running.await.unwrap();
        self.telemetry.stop();
        self.state
    }

    async fn close(self) {
        fs::remove_dir_all(self.end().await).unwrap();
    }
}

/// Keeps cookies and asks as a browser does.
#[derive(Clone)]
struct Browser {
    address: SocketAddr,
    cookies: Vec<(String, String)>,
    csrf: String,
}

#[derive(Debug)]
struct Page {
    status: u16,
    head: String,
    body: String,
}

impl Page {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).into_iter().next()
    }

    fn fields(&self, name: &str) -> Vec<&str> {
        let pairs = self.head.lines().filter_map(|line| line.split_once(": "));
        pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    fn csrf(&self) -> String {
        let (_, rest) = self.body.split_once("data-csrf=\"").expect("a page for somebody signed in");
        rest.split('"').next().unwrap().to_owned()
    }
}

impl Browser {
    fn head(&self, line: &str, more: &[(&str, &str)]) -> String {
        let mut head = format!("{line} HTTP/1.1\r\nHost: {}\r\n", self.address);
        let pairs: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !pairs.is_empty() {
            head += &format!("Cookie: {}\r\n", pairs.join("; "));
        }
        for (name, value) in more {
            head += &format!("{name}: {value}\r\n");
        }
        head
    }

    async fn get(&mut self, path: &str) -> Page {
        self.get_as(path, &[("Accept", "text/html"), ("Sec-Fetch-Site", "same-origin")]).await
    }

    async fn get_as(&mut self, path: &str, more: &[(&str, &str)]) -> Page {
        let head = self.head(&format!("GET {path}"), more);
        self.exchange(format!("{head}Connection: close\r\n\r\n")).await
    }

    /// Sends a form as it is; `more` may overwrite what a browser says of itself.
    async fn post(&mut self, path: &str, form: &[(&str, &str)], more: &[(&str, &str)]) -> Page {
        let body: Vec<_> = form.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        let body = body.join("&");
        let origin = format!("http://{}", self.address);
        let mut fields = vec![
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Accept", "text/html"),
            ("Origin", &*origin),
            ("Sec-Fetch-Site", "same-origin"),
        ];
        fields.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        fields.extend(more);
        let head = self.head(&format!("POST {path}"), &fields);
        self.exchange(format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
            .await
    }

    /// Sends a form of our own pages.
    async fn act(&mut self, path: &str, form: &[(&str, &str)]) -> Page {
        let csrf = self.csrf.clone();
        let form: Vec<_> =
            form.iter().copied().chain([("csrf", csrf.as_str()), ("back", "/config")]).collect();
        self.post(path, &form, &[]).await
    }

    async fn exchange(&mut self, request: String) -> Page {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let exchange = move || {
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let answer = tokio::task::spawn_blocking(exchange).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let page =
            Page { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() };
        for cookie in page.fields("set-cookie") {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !cookie.contains("Max-Age=0") {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        page
    }

    /// Opens the stream of events.
    async fn live(&self, query: &str) -> Stream {
        let head = self.head(&format!("GET /live{query}"), &[("Accept", "text/event-stream")]);
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        Stream { stream: Some(stream), heard: String::new() }
    }
}

struct Stream {
    stream: Option<TcpStream>,
    heard: String,
}

impl Stream {
    /// Reads until `wanted` was heard; what was heard up to then. The rest is heard the next time.
    async fn until(&mut self, wanted: &'static str) -> String {
        let (mut stream, mut heard) = (self.stream.take().unwrap(), std::mem::take(&mut self.heard));
        let read = move || {
            let mut buffer = [0; 16 << 10];
            while !heard.contains(wanted) {
                let count = stream.read(&mut buffer).unwrap();
                assert!(count > 0, "the stream ended before {wanted}: {heard}");
                heard += &String::from_utf8_lossy(&buffer[..count]);
            }
            (stream, heard)
        };
        let (stream, mut heard) = tokio::task::spawn_blocking(read).await.unwrap();
        let end = heard.find(wanted).map_or(heard.len(), |at| at + wanted.len());
        (self.stream, self.heard) = (Some(stream), heard.split_off(end));
        heard
    }

    /// Reads until it ends in good order, as chunked coding says (RFC 9112, section 7.1).
    async fn into_end(mut self) -> String {
        let mut stream = self.stream.take().unwrap();
        let read = move || {
            let mut rest = String::new();
            stream.read_to_string(&mut rest).unwrap();
            rest
        };
        let rest = tokio::task::spawn_blocking(read).await.unwrap();
        assert!(rest.ends_with("0\r\n\r\n"), "it broke off: {rest}");
        rest
    }
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

#[tokio::test]
async fn the_right_token_opens_the_dashboard_and_a_wrong_one_does_not() {
    let door = Door::open();
    let mut browser = door.browser();
    let sent_away = browser.get("/logs?level=warn").await;
    assert_eq!(
        (sent_away.status, sent_away.field("location")),
        (303, Some("/login?next=%2Flogs%3Flevel%3Dwarn"))
    );
    assert_eq!(browser.get_as("/live", &[]).await.status, 401, "a script is told");
    let wrong =
        browser.post("/login", &[("token", "a-token-for-tests-012345678X"), ("next", "/logs")], &[]).await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.body.contains("That token is not right") && browser.cookies.is_empty());
    assert!(!wrong.body.contains("a-token-for"), "what was typed is not shown");
    let right = browser.post("/login", &[("token", TOKEN), ("next", "/logs?level=warn")], &[]).await;
    assert_eq!((right.status, right.field("location")), (303, Some("/logs?level=warn")));
    let cookie = right.field("set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert_eq!(browser.get("/logs").await.status, 200);
    assert_eq!(browser.get("/login").await.status, 303, "who is signed in is led on");
    door.close().await;
}

#[tokio::test]
async fn after_the_login_nobody_is_led_to_another_site() {
    let door = Door::open();
    for place in ["//evil.test/", "https://evil.test/", "/\\evil.test"] {
        let answer = door.browser().post("/login", &[("token", TOKEN), ("next", place)], &[]).await;
        assert_eq!(answer.field("location"), Some("/"), "{place}");
    }
    door.close().await;
}

#[tokio::test]
async fn a_forged_session_opens_nothing() {
    let door = Door::open();
    let viewer = door.signed_in(VIEWER_TOKEN).await;
    let (name, value) = viewer.cookies[0].clone();
    let promoted = value.replace("viewer", "operator");
    let longer = value.replacen('.', ".1", 2);
    for forged in
        [promoted, longer, value[..value.len() - 1].to_owned(), String::new(), "operator".to_owned()]
    {
        let mut browser = door.browser();
        browser.cookies = vec![(name.clone(), forged.clone())];
        assert_eq!(browser.get("/config").await.status, 303, "{forged}");
        assert_eq!(browser.get_as("/v1/config", &[]).await.status, 401, "{forged}");
    }
    let mut tossed = viewer.clone();
    tossed.cookies.insert(0, (name, "operator.1.2.3.4".to_owned()));
    assert_eq!(tossed.get("/config").await.status, 200, "another's cookie of that name does no harm");
    door.close().await;
}

#[tokio::test]
async fn a_session_survives_a_restart_and_ends_with_its_token() {
    let door = Door::open();
    let (operator, viewer) = (door.signed_in(TOKEN).await, door.signed_in(VIEWER_TOKEN).await);
    let key = door.state.join("session.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let door = Door::open_in(door.end().await);
    // Another port is another cookie's name; the value is what counts.
    let moved = |mut browser: Browser| {
        browser.address = door.handle.addresses().loopback.unwrap();
        browser.cookies[0].0 = format!("terrace_session_{}", browser.address.port());
        browser
    };
    let (mut operator, mut viewer) = (moved(operator), moved(viewer));
    assert_eq!((operator.get("/config").await.status, viewer.get("/config").await.status), (200, 200));
    let mut live = operator.live("").await;
    live.until("event: map").await;
    door.handle.apply(config(&door.state, "a-new-token-for-tests-0123")).unwrap();
    assert_eq!(operator.get("/config").await.status, 303, "the token is another");
    assert_eq!(viewer.get("/config").await.status, 200, "theirs is the same");
    live.until("event: end").await;
    door.close().await;
}

#[tokio::test]
async fn who_signs_out_is_out_for_good_even_after_a_restart() {
    let door = Door::open();
    let mut browser = door.signed_in(TOKEN).await;
    let mut stolen = browser.clone();
    let answer = browser.act("/logout", &[]).await;
    assert_eq!((answer.status, answer.field("location")), (303, Some("/login")));
    assert!(browser.cookies.is_empty());
    assert_eq!(stolen.get("/config").await.status, 303);
    let door = Door::open_in(door.end().await);
    stolen.address = door.handle.addresses().loopback.unwrap();
    stolen.cookies[0].0 = format!("terrace_session_{}", stolen.address.port());
    assert_eq!(stolen.get("/config").await.status, 303);
    door.close().await;
}

#[tokio::test]
async fn a_code_opens_the_door_once_and_looking_at_the_link_does_not_use_it_up() {
    let door = Door::open();
    let link = door.code("viewer").await;
    let code = link.split_once("code=").unwrap().1.to_owned();
    let mut browser = door.browser();
    for _ in 0..2 {
        let page = browser.get_as(&link, &[("Accept", "text/html"), ("Sec-Fetch-Site", "none")]).await;
        assert!(page.status == 200 && page.body.contains("data-auto-submit") && browser.cookies.is_empty());
    }
    assert_eq!(browser.post("/login", &[("code", &code)], &[]).await.status, 303);
    assert!(browser.get("/config").await.body.contains("signed in as </span>viewer"));
    let again = door.browser().post("/login", &[("code", &code)], &[]).await;
    assert_eq!(again.status, 401);
    assert!(again.body.contains("used already"));
    assert_eq!(door.audit()[0]["action"], "login-code");
    door.close().await;
}

#[tokio::test]
async fn codes_are_handed_out_on_the_socket_only_and_only_where_there_is_a_dashboard() {
    let door = Door::open();
    let authorization = format!("Bearer {TOKEN}");
    let more = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let refused = door.browser().post("/v1/login-code", &[], &more).await;
    assert_eq!(refused.status, 404);
    let socket = client::socket_path(&door.state);
    let ask = async |body: Value| client::request(&socket, "POST", "/v1/login-code", Some(&body)).await;
    assert!(ask(json!({ "role": "root" })).await.unwrap_err().to_string().contains("operator"));
    door.handle.apply(Config { loopback: None, ..config(&door.state, TOKEN) }).unwrap();
    let off = ask(json!({ "role": "operator" })).await.unwrap_err();
    assert!(off.to_string().contains("the dashboard is off"), "{off}");
    door.close().await;
}

#[tokio::test]
async fn a_change_needs_the_pages_own_token_and_a_page_of_ours() {
    let door = Door::open();
    let mut browser = door.signed_in(TOKEN).await;
    let csrf = browser.csrf.clone();
    let form = [("instances", "5"), ("back", "/config")];
    let scale = "/services/orders/scale";
    assert_eq!(browser.post(scale, &form, &[]).await.status, 403, "no token");
    let with =
        |token: &str| [("instances", "5"), ("csrf", token)].map(|(name, value)| (name, value.to_owned()));
    let other = door.signed_in(TOKEN).await.csrf;
    for wrong in ["", "00", "x", &csrf[1..], &other] {
        let form = with(wrong);
        let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(browser.post(scale, &form, &[]).await.status, 403, "{wrong:?}");
    }
    let right = [("instances", "5"), ("csrf", csrf.as_str())];
    for (name, value) in [
        ("Origin", "http://evil.test"),
        ("Origin", "null"),
        ("Origin", "http://127.0.0.1:1"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Content-Type", "text/plain"),
        ("Content-Type", "multipart/form-data; boundary=x"),
    ] {
        let status = browser.post(scale, &right, &[(name, value)]).await.status;
        assert!(matches!(status, 403 | 415), "{name}: {value} gave {status}");
    }
    assert!(door.fake.was_asked().is_empty());
    assert_eq!(browser.post(scale, &right, &[]).await.status, 303);
    assert_eq!(door.fake.was_asked(), ["scale orders 5"]);
    door.close().await;
}

#[tokio::test]
async fn a_sessions_change_through_the_api_needs_the_token_too() {
    let door = Door::open();
    let mut browser = door.signed_in(TOKEN).await;
    let json = ("Content-Type", "application/json");
    assert_eq!(browser.get_as("/v1/status", &[]).await.status, 200);
    assert_eq!(browser.post("/v1/services/orders/restart", &[], &[json]).await.status, 403);
    let csrf = browser.csrf.clone();
    let answer =
        browser.post("/v1/services/orders/restart", &[], &[json, ("X-CSRF-Token", csrf.as_str())]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(door.fake.was_asked(), ["restart orders"]);
    door.close().await;
}

#[tokio::test]
async fn an_operator_sees_what_is_broken_on_purpose_and_ends_it() {
    let door = Door::open();
    let mut operator = door.signed_in(TOKEN).await;
    let page = operator.get("/alerts").await;
    assert!(page.body.contains("Broken on purpose") && page.body.contains("action=\"/faults/end\""));
    let overview = operator.get("/").await;
    assert!(overview.body.contains("On purpose, for another"), "{}", overview.body);
    assert_eq!(operator.act("/faults/end", &[("id", "7")]).await.status, 303);
    assert_eq!(door.fake.was_asked(), ["end-fault 7"]);
    door.close().await;
}

#[tokio::test]
async fn a_viewer_looks_and_changes_nothing() {
    let door = Door::open();
    let mut viewer = door.signed_in(VIEWER_TOKEN).await;
    for path in PAGES {
        let page = viewer.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        let forms = page.body.matches("method=\"post\"").count();
        assert_eq!(forms, 1, "{path}: only to sign out");
    }
    for path in ACTIONS {
        let answer = viewer.act(path, &[("instances", "9"), ("confirmed", "yes"), ("out", "yes")]).await;
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.body.contains("you may look, not change"));
    }
    let authorization = format!("Bearer {VIEWER_TOKEN}");
    let more = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    assert_eq!(door.browser().get_as("/v1/status", &more[..1]).await.status, 200);
    assert_eq!(door.browser().post("/v1/services/orders/restart", &[], &more).await.status, 403);
    assert_eq!(door.browser().post("/v1/faults", &[], &more).await.status, 403);
    assert!(door.fake.was_asked().is_empty());
    assert_eq!(viewer.act("/logout", &[]).await.status, 303, "but they may leave");
    door.close().await;
}

/// Every page there is for somebody signed in.
const PAGES: &[&str] = &[
    "/",
    "/routes",
    "/services",
    "/objectives",
    "/routes/orders",
    "/services/orders",
    "/services/orders/instances/orders-1",
    "/traces",
    "/metrics-explorer",
    "/logs",
    "/logs?service=orders&level=warn&text=x&since=1h",
    "/alerts",
    "/config",
    "/audit",
];

const ACTIONS: &[&str] = &[
    "/services/orders/scale",
    "/services/orders/restart",
    "/services/orders/instances/orders-1/drain",
    "/silences",
    "/silences/end",
    "/receivers/test",
    "/faults/end",
    "/reload",
];

#[tokio::test]
async fn no_page_has_a_script_or_a_style_of_its_own_and_all_have_the_strict_policy() {
    let door = Door::open();
    speak(&door);
    let mut browser = door.signed_in(TOKEN).await;
    let mut pages = vec![browser.get("/nowhere").await, browser.get("/logs?level=loud").await];
    for path in PAGES {
        pages.push(browser.get(path).await);
        assert_eq!(pages.last().unwrap().status, 200, "{path}");
    }
    pages.push(browser.act("/services/orders/restart", &[]).await);
    let mut stranger = door.browser();
    pages.push(stranger.get("/login").await);
    pages.push(stranger.get("/login?code=x").await);
    for page in &pages {
        no_inline(&page.body);
        guarded(page);
        assert!(!page.body.contains("secret.test"), "whoever knows a webhook may use it");
    }
    for page in [stranger.get_as("/v1/status", &[]).await, stranger.get("/").await] {
        guarded(&page);
    }
    door.close().await;
}

#[track_caller]
fn guarded(page: &Page) {
    let policy = page.field("content-security-policy").expect(&page.head);
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    let fields = [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ];
    for (name, value) in fields {
        assert_eq!(page.field(name), Some(value), "{}", page.head);
    }
    assert!(page.field("permissions-policy").is_some());
}

#[track_caller]
fn no_inline(html: &str) {
    let mut rest = html;
    while let Some((_, after)) = rest.split_once('<') {
        let tag = after.split('>').next().unwrap();
        let name = tag.split([' ', '/']).next().unwrap();
        assert!(!name.eq_ignore_ascii_case("style"), "<{tag}>");
        if name.eq_ignore_ascii_case("script") {
            assert!(tag.contains("src=\"/assets/") && after.contains("></script>"), "<{tag}>");
        }
        assert!(!tag.contains("=\"javascript:"), "<{tag}>");
        // What is between quotes is a value, whatever it looks like.
        let unquoted: String = tag.split('"').step_by(2).collect();
        for attribute in unquoted.split(' ').skip(1) {
            let key = attribute.trim_end_matches('=').to_ascii_lowercase();
            assert!(key != "style" && !key.starts_with("on"), "<{tag}>");
        }
        rest = after;
    }
}

/// Says something hostile in the log, and waits until it can be looked up.
fn speak(door: &Door) {
    let event = Event::new(Level::Error, "shop.said").service("orders").instance(HOSTILE);
    door.telemetry.log().emit(event.message(HOSTILE).field("field", HOSTILE));
    assert!(door.telemetry.handle().flush(Duration::from_secs(10)));
}

#[tokio::test]
async fn what_an_app_says_stays_text() {
    let door = Door::open();
    speak(&door);
    let mut browser = door.signed_in(TOKEN).await;
    let mut pages = vec![browser.get("/logs?text=%3Cscript%3E").await, browser.get("/config").await];
    pages.push(browser.get(&format!("/logs?instance={}", escape(HOSTILE))).await);
    let mut live = browser.live("?logs=1").await;
    pages.push(Page { status: 200, head: String::new(), body: live.until("</tr>").await });
    for page in pages {
        assert!(!page.body.contains("<script>alert") && !page.body.contains("<img"), "{}", page.body);
        assert!(page.body.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{}", page.body);
    }
    door.close().await;
}

#[tokio::test]
async fn an_action_works_without_a_script_and_asks_back_before_it_hurts() {
    let door = Door::open();
    let mut browser = door.signed_in(TOKEN).await;
    let asked = browser.act("/services/orders/scale", &[("instances", "1")]).await;
    assert_eq!(asked.status, 200);
    assert!(asked.body.contains("from 3 to 1?") && asked.body.contains("name=\"confirmed\" value=\"yes\""));
    assert!(asked.body.contains("name=\"instances\" value=\"1\""), "it is asked with the same fields");
    assert!(door.fake.was_asked().is_empty());
    let done = browser.act("/services/orders/scale", &[("instances", "1"), ("confirmed", "yes")]).await;
    assert_eq!((done.status, done.field("location")), (303, Some("/config")));
    let told = "orders is to have 1 instance now.";
    assert!(browser.get("/config").await.body.contains(told));
    assert!(!browser.get("/config").await.body.contains(told), "a message is shown once");
    browser.act("/services/orders/instances/orders-1/drain", &[("out", "no")]).await;
    let drain = browser.act("/services/orders/instances/orders-1/drain", &[("out", "yes")]).await;
    assert_eq!(drain.status, 200, "it is asked back");
    assert_eq!(door.fake.was_asked(), ["scale orders 1", "drain orders orders-1 false"]);
    let failed = browser.act("/reload", &[]).await;
    assert_eq!(failed.status, 303);
    assert!(browser.get("/config").await.body.contains("unknown key &lt;script&gt;"));
    let audit = door.audit();
    assert_eq!((&audit[0]["who"]["dashboard"], &audit[0]["who"]["role"]), (&json!(true), &json!("operator")));
    assert_eq!((&audit[0]["action"], &audit[1]["target"]), (&json!("scale"), &json!("orders-1")));
    let page = browser.get("/audit").await.body;
    assert!(page.contains("dashboard operator") && page.contains("undrain orders orders-1"), "{page}");
    door.close().await;
}

#[tokio::test]
async fn a_script_is_answered_in_json() {
    let door = Door::open();
    let mut browser = door.signed_in(TOKEN).await;
    let csrf = browser.csrf.clone();
    let more = [("Accept", "application/json"), ("X-CSRF-Token", csrf.as_str())];
    let asked = browser.post("/services/orders/restart", &[], &more).await;
    assert_eq!(asked.status, 200);
    let said: Value = serde_json::from_str(&asked.body).unwrap();
    assert!(said["confirm"].as_str().unwrap().starts_with("Restart orders?"));
    let done = browser.post("/services/orders/restart", &[("confirmed", "yes")], &more).await;
    let said: Value = serde_json::from_str(&done.body).unwrap();
    assert!(said["message"].as_str().unwrap().contains("being restarted"));
    let failed = browser.post("/reload", &[], &more).await;
    assert_eq!(failed.status, 422);
    assert!(failed.head.contains("application/problem+json"));
    for (path, form, status) in [
        ("/services/orders/scale", vec![("instances", "many")], 422),
        ("/services/orders/scale", vec![("instances", "10001")], 422),
        ("/services/..%2Fx/restart", vec![("confirmed", "yes")], 404),
        ("/silences", vec![("target", "nothing"), ("lasts", "1h")], 422),
        ("/silences", vec![("target", "nothing"), ("lasts", "for ever")], 422),
        ("/silences/end", vec![("id", "nothing")], 404),
    ] {
        assert_eq!(browser.post(path, &form, &more).await.status, status, "{path}");
    }
    assert_eq!(door.fake.was_asked(), ["restart orders"]);
    door.close().await;
}

#[tokio::test]
async fn a_link_in_a_chat_leads_to_the_page_and_a_frame_or_script_does_not() {
    let door = Door::open();
    let mut browser = door.signed_in(TOKEN).await;
    let from = |site: &'static str, mode: &'static str, dest: &'static str| {
        [
            ("Accept", "text/html"),
            ("Sec-Fetch-Site", site),
            ("Sec-Fetch-Mode", mode),
            ("Sec-Fetch-Dest", dest),
        ]
    };
    let logs = "/logs?text=a%20b&level=warn";
    for site in ["cross-site", "same-site"] {
        let page = browser.get_as(logs, &from(site, "navigate", "document")).await;
        assert_eq!(page.status, 200);
        assert!(page.body.contains("content=\"0; url=/logs?text=a%20b&amp;level=warn\""), "{}", page.body);
        assert!(!page.body.contains("data-csrf"), "nothing is shown before the browser comes by itself");
        guarded(&page);
    }
    let typed = browser.get_as(logs, &from("none", "navigate", "document")).await;
    assert!(typed.body.contains("data-csrf"));
    for (path, site, mode, dest) in [
        ("/logs", "cross-site", "navigate", "iframe"),
        ("/logs", "cross-site", "no-cors", "script"),
        ("/live", "cross-site", "cors", "empty"),
        ("/v1/status", "cross-site", "navigate", "document"),
        ("/v1/status", "same-site", "cors", "empty"),
    ] {
        assert_eq!(browser.get_as(path, &from(site, mode, dest)).await.status, 403, "{path} {dest}");
    }
    door.close().await;
}

#[tokio::test]
async fn the_stream_tells_the_map_and_what_is_said_and_ends_in_good_order() {
    let door = Door::open();
    let browser = door.signed_in(TOKEN).await;
    let mut live = browser.live("?logs=1&service=orders").await;
    let heard = live.until("event: map").await;
    assert!(heard.contains("content-type: text/event-stream"), "{heard}");
    assert!(heard.contains("event: alerts\ndata: {\"digest\":"), "{heard}");
    let map = live.until("\n\n").await;
    assert!(map.contains("\"routes\":[{\"name\":\"orders\""), "{map}");
    speak(&door);
    live.until("event: log\n").await;
    live.until("event: map\n").await;
    door.drainer.request();
    assert!(live.into_end().await.contains("event: end"));
    door.close().await;
}

#[tokio::test]
async fn streams_are_bounded_and_leave_room_for_pages() {
    let door = Door::open();
    let mut browser = door.signed_in(TOKEN).await;
    let mut streams = Vec::new();
    for _ in 0..48 {
        let mut stream = browser.live("").await;
        stream.until("retry:").await;
        streams.push(stream);
    }
    let refused = browser.live("").await.until("\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert_eq!(browser.get("/config").await.status, 200);
    drop(streams);
    // A stream's place is free once its end was noticed: the next that is let in says so.
    while browser.get_as("/live?logs=1&level=loud", &[]).await.status == 503 {
        tokio::task::yield_now().await;
    }
    door.close().await;
}

#[tokio::test]
async fn files_may_be_kept_for_ever_under_the_name_of_their_content() {
    let door = Door::open();
    let mut browser = door.browser();
    let login = browser.get("/login").await.body;
    let (_, rest) = login.split_once("href=\"/assets/").unwrap();
    let generation = rest.split('/').next().unwrap();
    for (name, media) in
        [("app.css", "text/css"), ("app.js", "text/javascript"), ("icon.svg", "image/svg+xml")]
    {
        let file = browser.get(&format!("/assets/{generation}/{name}")).await;
        assert_eq!(file.status, 200);
        assert!(file.field("content-type").unwrap().starts_with(media));
        assert_eq!(file.field("cache-control"), Some("public, max-age=31536000, immutable"));
        let older = browser.get(&format!("/assets/0123456789abcdef/{name}")).await;
        assert_eq!((older.status, older.field("cache-control")), (200, Some("no-cache")));
    }
    assert_eq!(browser.get(&format!("/assets/{generation}/../Cargo.toml")).await.status, 404);
    door.close().await;
}

impl Door {
    /// Asks for a code from now on, as a reload of the file would have it.
    fn ask_for_codes(&self) {
        let mut config = config(&self.state, TOKEN);
        config.loopback = config.loopback.map(|loopback| loopback.with_second_factor(true));
        self.handle.apply(config).unwrap();
    }

    /// What becomes of these logins; their answers wait for each other's less than one after the other.
    async fn try_at_once(&self, forms: &[Vec<(&str, &str)>]) -> Vec<u16> {
        let mut trying = Vec::new();
        for form in forms {
            let mut browser = self.browser();
            let form: Vec<_> =
                form.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            trying.push(tokio::spawn(async move {
                let form: Vec<_> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let answer = browser.post("/login", &form, &[]).await;
                assert!(browser.cookies.is_empty(), "{}", answer.head);
                answer.status
            }));
        }
        let mut statuses = Vec::new();
        for trying in trying {
            statuses.push(trying.await.unwrap());
        }
        statuses
    }

    /// The phone's secret, as `terrace totp` shows it.
    async fn phone(&self, anew: bool) -> Result<TotpSecret, client::ClientError> {
        let socket = client::socket_path(&self.state);
        let shown = client::request(&socket, "POST", "/v1/totp", Some(&json!({ "new": anew }))).await?;
        assert!(shown["uri"].as_str().unwrap().starts_with("otpauth://totp/Terrace:"));
        Ok(TotpSecret::from_text(shown["secret"].as_str().unwrap()).unwrap())
    }
}

/// What the phone shows, so many half minutes from now.
fn shown_by(phone: &TotpSecret, steps: u64) -> String {
    let wall = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap();
    phone.code_at(wall + Duration::from_secs(30 * steps))
}

#[tokio::test]
async fn with_a_second_factor_a_login_takes_the_token_and_a_code_that_is_good_once() {
    let door = Door::open();
    let before = door.signed_in(TOKEN).await;
    door.ask_for_codes();
    let mut browser = door.browser();
    assert_eq!(before.clone().get("/config").await.status, 303, "who came in with one factor is out");
    assert!(browser.get("/login").await.body.contains("name=\"totp\""));
    let early = browser.post("/login", &[("token", TOKEN), ("totp", "000000")], &[]).await;
    assert!(early.status == 403 && early.body.contains("terrace totp"), "{}", early.head);

    let phone = door.phone(false).await.unwrap();
    assert!(door.phone(false).await.is_err(), "it is shown once");
    let code = shown_by(&phone, 0);
    let wrong = [
        vec![("token", TOKEN)],
        vec![("token", TOKEN), ("totp", "12345x")],
        vec![("token", "a-token-for-tests-012345678X"), ("totp", code.as_str())],
        vec![("totp", code.as_str())],
    ];
    for (status, form) in door.try_at_once(&wrong).await.into_iter().zip(&wrong) {
        assert_eq!(status, 401, "{form:?}");
    }
    let right = browser.post("/login", &[("token", TOKEN), ("totp", &code), ("next", "/logs")], &[]).await;
    assert_eq!((right.status, right.field("location")), (303, Some("/logs")), "{}", right.body);
    assert_eq!(browser.get("/config").await.status, 200);
    let again = door.browser().post("/login", &[("token", TOKEN), ("totp", &code)], &[]).await;
    assert_eq!(again.status, 401, "a code is good once");
    let next = shown_by(&phone, 1);
    assert_eq!(
        door.browser().post("/login", &[("token", VIEWER_TOKEN), ("totp", &next)], &[]).await.status,
        303
    );
    door.close().await;
}

#[tokio::test]
async fn with_a_second_factor_a_token_alone_opens_the_api_neither() {
    let door = Door::open();
    door.ask_for_codes();
    let phone = door.phone(false).await.unwrap();
    let bearer = format!("Bearer {TOKEN}");
    let refused = door.browser().get_as("/v1/config", &[("Authorization", &bearer)]).await;
    assert!(refused.status == 403 && refused.body.contains("Unix socket"), "{}", refused.body);
    let mut browser = door.browser();
    let code = shown_by(&phone, 0);
    assert_eq!(browser.post("/login", &[("token", TOKEN), ("totp", &code)], &[]).await.status, 303);
    assert_eq!(browser.get_as("/v1/config", &[]).await.status, 200, "a session of both does");
    let link = door.code("operator").await;
    let code = link.split_once("code=").unwrap().1;
    let mut owner = door.browser();
    assert_eq!(
        owner.post("/login", &[("code", code)], &[]).await.status,
        303,
        "who owns the machine needs no phone"
    );
    door.close().await;
}

#[tokio::test]
async fn a_new_phone_ends_the_sessions_of_the_lost_one_and_wrong_codes_are_bounded() {
    let door = Door::open();
    door.ask_for_codes();
    let lost = door.phone(false).await.unwrap();
    let mut thief = door.browser();
    let code = shown_by(&lost, 0);
    assert_eq!(thief.post("/login", &[("token", TOKEN), ("totp", &code)], &[]).await.status, 303);
    let phone = door.phone(true).await.unwrap();
    assert_eq!(thief.get("/config").await.status, 303, "the session is over");
    let wrong = vec![vec![("token", TOKEN), ("totp", "000000")]; 5];
    assert_eq!(door.try_at_once(&wrong).await, [401; 5]);
    let held = door.browser().post("/login", &[("token", TOKEN), ("totp", &shown_by(&phone, 0))], &[]).await;
    assert_eq!(held.status, 429);
    assert!(held.field("retry-after").is_some() && held.body.contains("terrace dashboard"));
    let wrong =
        door.browser().post("/login", &[("token", "no-token-of-anybodys-000"), ("totp", "1")], &[]).await;
    assert_eq!(wrong.status, 401, "who has no token learns nothing of it");
    let asked: Vec<_> = door.audit().iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(asked, ["totp", "totp"]);
    assert!(!fs::read_to_string(door.state.join("audit.log")).unwrap().contains(&phone.text()));
    door.close().await;
}

#[tokio::test]
async fn the_second_factor_is_set_up_and_keys_are_made_on_the_socket_only() {
    let door = Door::open();
    let bearer = format!("Bearer {TOKEN}");
    let more = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    assert_eq!(door.browser().post("/v1/totp", &[], &more).await.status, 404);
    assert_eq!(door.browser().post("/v1/keys", &[], &more).await.status, 404);
    assert_eq!(door.browser().get_as("/v1/keys", &more).await.status, 200);
    let socket = client::socket_path(&door.state);
    let new = json!({ "name": "ci", "roles": ["reader"] });
    let made = client::request(&socket, "POST", "/v1/keys", Some(&new)).await.unwrap();
    assert_eq!(made["key"], "tk_made");
    assert!(client::request(&socket, "POST", "/v1/keys", Some(&json!({ "nam": "ci" }))).await.is_err());
    client::request(&socket, "POST", "/v1/keys/abc/revoke", None).await.unwrap();
    let audit = door.audit();
    assert_eq!((&audit[0]["action"], &audit[0]["target"]), (&json!("create-key"), &json!("ci")));
    assert!(!audit[0].to_string().contains("tk_made"));
    assert_eq!((&audit[1]["action"], &audit[1]["target"]), (&json!("revoke-key"), &json!("abc")));
    door.close().await;
}
