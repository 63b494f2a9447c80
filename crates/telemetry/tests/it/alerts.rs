//! Whoever is on call is told: alerts on their way to real peers, well and unwell.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use terrace_instruments::{Family, Gauge, Kind, Meter};
use terrace_runtime::drain::{self, Drainer};
use terrace_signals::alerts::{AlertState, Objective, Severity, Subject, Threshold};
use terrace_signals::series::{Measure, Query, Selector};
use terrace_telemetry::{Config, Destination, Handle, Receiver, Secret, Telemetry, Way};
use terrace_testkit::{Authority, Folder, until, until_true};

static BACKLOG: Family =
    Family { name: "backlog", help: "Work that waits.", unit: "", labels: &["service"], kind: Kind::Gauge };

/// A running telemetry whose only alert fires when the backlog is above five.
struct Running {
    handle: Handle,
    backlog: Gauge,
    drainer: Drainer,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(config: Config) -> Self {
        let meter = Meter::new(1);
        let backlog = meter.gauge(&BACKLOG, &["orders"]);
        let telemetry = Telemetry::build(config, meter).unwrap();
        let (drainer, drain) = drain::channel();
        let handle = telemetry.handle();
        let running = handle.clone();
        let thread = std::thread::spawn(move || block_on(running.run(drain)));
        Self { handle, backlog, drainer, thread: Some(thread) }
    }

    fn firing(&self) -> Vec<String> {
        let alerts = self.handle.alerts().into_iter();
        alerts.filter(|alert| alert.state == AlertState::Firing).map(|alert| alert.detail).collect()
    }

    /// Value of one of the counts of messages.
    fn count(&self, receiver: &str, outcome: &str) -> u64 {
        let text = self.handle.metrics(None).body;
        let series =
            format!("terrace_alert_notifications_total{{receiver=\"{receiver}\",outcome=\"{outcome}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |value| value.parse().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drainer.request();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn backlog_above_five() -> Threshold {
    let selector = Selector { name: "backlog".to_owned(), labels: Vec::new() };
    let query = Query { selector, measure: Measure::Value, last: Duration::from_secs(10), by: None };
    Threshold {
        name: "backlog".to_owned(),
        query,
        above: Some(5.0),
        below: None,
        hold: Duration::ZERO,
        severity: Severity::Page,
        notify: Vec::new(),
    }
}

fn receiver(name: &str, way: Way) -> Receiver {
    Receiver {
        name: name.to_owned(),
        way,
        severity_min: Severity::Ticket,
        resolved: true,
        group_wait: Duration::ZERO,
        repeat: Duration::from_secs(3_600),
    }
}

fn webhook(name: &str, address: SocketAddr) -> Receiver {
    let url = Secret(format!("http://{address}/hooks/sesame"));
    let headers = vec![("Authorization".to_owned(), Secret("Bearer open".to_owned()))];
    receiver(name, Way::Webhook { url, headers })
}

fn config(receivers: Vec<Receiver>) -> Config {
    Config {
        events: Destination::Off,
        access: Destination::Off,
        thresholds: vec![backlog_above_five()],
        receivers,
        ..Config::default()
    }
}

/// An HTTP server that answers with these statuses, the last for ever, and remembers what it was sent.
struct Hook {
    address: SocketAddr,
    /// Head and body of each request.
    heard: Arc<Mutex<Vec<(String, Value)>>>,
}

/// What a request's arrival is answered with.
type Answer = dyn Fn(usize) -> u16 + Send + Sync;

impl Hook {
    fn answering(statuses: &[u16]) -> Self {
        let statuses = statuses.to_vec();
        Self::with(Arc::new(move |number| statuses[number.min(statuses.len() - 1)]))
    }

    fn with(answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Arc::default());
        let hears = Arc::clone(&heard);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (hears, answer) = (Arc::clone(&hears), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream.unwrap(), &hears, &*answer));
            }
        });
        Self { address, heard }
    }

    fn heard(&self) -> Vec<(String, Value)> {
        self.heard.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, heard: &Mutex<Vec<(String, Value)>>, answer: &Answer) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let status = {
            let mut heard = heard.lock().unwrap();
            heard.push((head, serde_json::from_slice(&body).unwrap()));
            answer(heard.len() - 1)
        };
        write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}

#[test]
fn a_webhook_gets_what_alertmanager_would_send() {
    let hook = Hook::answering(&[200]);
    let running = Running::start(config(vec![webhook("oncall", hook.address)]));
    running.backlog.set(10);
    let (head, body) = until("the webhook is called", || hook.heard().into_iter().next());
    assert!(head.starts_with("POST /hooks/sesame HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/json\r\n")
            && head.contains("authorization: Bearer open\r\n")
    );
    assert_eq!(
        (&body["version"], &body["status"], &body["receiver"]),
        (&"4".into(), &"firing".into(), &"oncall".into())
    );
    let alert = &body["alerts"][0];
    assert_eq!(alert["labels"]["alertname"], "backlog");
    assert_eq!(alert["labels"]["service"], "orders");
    assert_eq!(alert["labels"]["severity"], "page");
    assert_eq!(alert["annotations"]["summary"], "backlog: a value of 10 over 10s is above 5");
    assert_eq!(alert["fingerprint"], running.handle.alerts()[0].id);
    until_true("it is counted", || running.count("oncall", "delivered") == 1);
    assert_eq!(hook.heard().len(), 1, "nobody is told twice");
}

#[test]
fn a_receiver_that_hangs_does_not_keep_others_from_being_told() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = Hook::answering(&[200]);
    let receivers = vec![webhook("a-hangs", silent.local_addr().unwrap()), webhook("oncall", hook.address)];
    let running = Running::start(config(receivers));
    running.backlog.set(10);
    until_true("the other is told", || hook.heard().len() == 1);
    running.backlog.set(0);
    until_true("ticks go on", || running.firing().is_empty());
    assert_eq!(running.count("a-hangs", "delivered"), 0);
}

#[test]
fn a_message_that_fails_is_sent_again_until_it_arrives() {
    let hook = Hook::answering(&[503, 429, 200]);
    let running = Running::start(config(vec![webhook("oncall", hook.address)]));
    running.backlog.set(10);
    until_true("it arrived", || running.count("oncall", "delivered") == 1);
    assert_eq!((hook.heard().len(), running.count("oncall", "retried")), (3, 2));
}

#[test]
fn what_cannot_be_delivered_is_told_without_its_secrets() {
    let folder = Folder::new();
    let (hook, log) = (Hook::answering(&[404]), folder.join("events.log"));
    let receivers = vec![webhook("oncall", hook.address)];
    let config = Config {
        events: Destination::File(log.clone()),
        state: Some(folder.path().to_owned()),
        ..config(receivers)
    };
    let running = Running::start(config);
    running.backlog.set(10);
    until_true("it is given up", || running.count("oncall", "failed") == 1);
    until_true("it is told", || fs::read_to_string(&log).unwrap().contains("\"alert.delivery_failed\""));
    let told = fs::read_to_string(&log).unwrap();
    assert!(told.contains("\"alert.firing\"") && told.contains("it answered 404"), "{told}");
    let tested = block_on(running.handle.test_receivers(None));
    assert_eq!(tested, [("oncall".to_owned(), Err("it answered 404".to_owned()))]);
    drop(running);
    let state = fs::read_to_string(folder.join("alerts.json")).unwrap();
    for secret in ["sesame", "Bearer"] {
        assert!(!told.contains(secret) && !state.contains(secret));
    }
}

#[test]
fn what_fires_and_what_is_silenced_survives_the_end_of_terrace() {
    let folder = Folder::new();
    let hook = Hook::answering(&[200]);
    let with_state =
        || Config { state: Some(folder.path().to_owned()), ..config(vec![webhook("oncall", hook.address)]) };
    let running = Running::start(with_state());
    running.backlog.set(10);
    until_true("it is told", || running.count("oncall", "delivered") == 1);
    let silencing = running.handle.silence("backlog", Duration::from_secs(600), "known", "anna");
    let (silence, is_kept) = block_on(silencing).unwrap();
    let file = folder.join("alerts.json");
    assert!(is_kept && fs::read_to_string(&file).unwrap().contains("anna"), "it is on disk once it is said");
    // As kill -9 leaves it: what is on disk now, and nothing that is written at the end.
    let left_behind = fs::read(&file).unwrap();
    let before = running.handle.alerts();
    drop(running);
    fs::write(&file, left_behind).unwrap();

    let running = Running::start(with_state());
    let after = running.handle.alerts();
    assert_eq!(
        (&after[0].id, after[0].state, after[0].since),
        (&before[0].id, AlertState::Firing, before[0].since)
    );
    assert_eq!(running.handle.silences()[0].id, silence.id);
    assert_eq!(block_on(running.handle.unsilence(&silence.id)), Some(true));
    assert!(!fs::read_to_string(&file).unwrap().contains("anna"));
    // The disk takes nothing more, as this folder at the place of its next file does not.
    fs::create_dir(folder.join("alerts.json.new")).unwrap();
    let silencing = running.handle.silence("backlog", Duration::from_secs(600), "at night", "anna");
    let (silence, is_kept) = block_on(silencing).unwrap();
    assert!(!is_kept, "what is not on disk is not said to be");
    assert_eq!(running.handle.silences()[0].id, silence.id, "it holds all the same");
    fs::remove_dir(folder.join("alerts.json.new")).unwrap();
    running.backlog.set(10);
    until_true("the series is known again", || running.handle.alerts()[0].summary.contains("value of 10"));
    assert_eq!(hook.heard().len(), 1, "nobody is told twice");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_told_is_on_disk_before_anybody_hears_of_it() {
    let folder = Folder::new();
    let file = folder.join("alerts.json");
    let hook = Hook::with(Arc::new(move |_| {
        let kept = fs::read_to_string(&file).unwrap_or_default();
        if kept.contains("\"state\":\"firing\"") && kept.contains("\"under_way\":{") { 200 } else { 404 }
    }));
    let receivers = vec![webhook("oncall", hook.address)];
    let running = Running::start(Config { state: Some(folder.path().to_owned()), ..config(receivers) });
    running.backlog.set(10);
    until_true("it is told", || {
        running.count("oncall", "delivered") + running.count("oncall", "failed") == 1
    });
    assert_eq!(running.count("oncall", "delivered"), 1, "whoever is told can be told again after a crash");
}

#[test]
fn state_that_cannot_be_read_is_put_aside_and_not_lost() {
    let folder = Folder::new();
    folder.write("alerts.json", "{\"version\":9}");
    let log = folder.join("events.log");
    let hook = Hook::answering(&[200]);
    let running = Running::start(Config {
        events: Destination::File(log.clone()),
        state: Some(folder.path().to_owned()),
        ..config(vec![webhook("oncall", hook.address)])
    });
    assert_eq!(fs::read_to_string(folder.join("alerts.json.aside")).unwrap(), "{\"version\":9}");
    running.backlog.set(10);
    until_true("alerts work", || hook.heard().len() == 1);
    until_true("it is told", || fs::read_to_string(&log).unwrap().contains("a later Terrace (version 9"));
}

#[test]
fn a_disk_that_takes_nothing_keeps_nobody_from_being_told() {
    let folder = Folder::new();
    let (hook, log) = (Hook::answering(&[200]), folder.join("events.log"));
    let running = Running::start(Config {
        events: Destination::File(log.clone()),
        state: Some(folder.join("missing")),
        ..config(vec![webhook("oncall", hook.address)])
    });
    running.backlog.set(10);
    until_true("the webhook is called", || hook.heard().len() == 1);
    until_true("it is told", || fs::read_to_string(&log).unwrap().contains("\"alert.state_unwritten\""));
}

#[test]
fn an_address_that_was_put_right_helps_the_message_that_waits() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hook = Hook::answering(&[200]);
    let running = Running::start(config(vec![webhook("oncall", gone)]));
    running.backlog.set(10);
    until_true("it was tried", || running.count("oncall", "retried") > 0);
    running.handle.apply(config(vec![webhook("oncall", hook.address)])).unwrap();
    until_true("it arrives at the new address", || hook.heard().len() == 1);
}

#[test]
fn slack_and_a_program_are_told_too() {
    let folder = Folder::new();
    let hook = Hook::answering(&[200]);
    let url = Secret(format!("http://{}/services/T0/B0/x", hook.address));
    let told = folder.join("told.json");
    let script = format!("cat > {0}.new && mv {0}.new {0}", told.display());
    let command = Way::Command(vec!["sh".to_owned(), "-c".to_owned(), script]);
    let running =
        Running::start(config(vec![receiver("chat", Way::Slack { url }), receiver("program", command)]));
    running.backlog.set(10);
    let (_, body) = until("Slack is told", || hook.heard().into_iter().next());
    let text = body["text"].as_str().unwrap();
    assert!(
        text.starts_with("[FIRING: 1] backlog (page)\n- backlog: a value of 10 over 10s is above 5"),
        "{text}"
    );
    let body = until("the program is told", || fs::read(&told).ok());
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["receiver"], &body["version"]), (&"program".into(), &"4".into()));
}

#[test]
fn a_test_says_of_each_receiver_what_came_of_it() {
    let hook = Hook::answering(&[200]);
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let fails = Way::Command(vec!["sh".to_owned(), "-c".to_owned(), "echo no signal >&2; exit 3".to_owned()]);
    let receivers = vec![webhook("oncall", hook.address), webhook("gone", gone), receiver("pager", fails)];
    let running = Running::start(config(receivers));
    let results = block_on(running.handle.test_receivers(None));
    let names: Vec<&str> = results.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["gone", "oncall", "pager"]);
    let reason = results[0].1.as_ref().unwrap_err();
    assert!(reason.contains("cannot connect"), "{reason}");
    assert_eq!(results[1].1, Ok(()));
    assert_eq!(results[2].1, Err("it ended with exit status: 3: no signal".to_owned()));
    assert_eq!(hook.heard()[0].1["alerts"][0]["labels"]["alertname"], "terrace-test");
    let unknown = block_on(running.handle.test_receivers(Some("nobody")));
    assert_eq!(unknown, []);
}

#[test]
fn objectives_are_metrics_too() {
    let checkout = Objective {
        name: "checkout".to_owned(),
        subject: Subject::Route("orders".to_owned()),
        success: Some(0.999),
        latency: None,
        window: Duration::from_secs(30 * 86_400),
        notify: Vec::new(),
    };
    let running = Running::start(Config { objectives: vec![checkout], ..config(Vec::new()) });
    running.backlog.set(10);
    until_true("it fires", || !running.firing().is_empty());
    let text = running.handle.metrics(None).body;
    for line in [
        "terrace_alerts_firing{severity=\"page\"} 1",
        "terrace_alerts_refused_total 0",
        "terrace_objective_budget_left_ratio{objective=\"checkout\",kind=\"success\"} 1",
        "terrace_objective_burn_rate{objective=\"checkout\",kind=\"success\",window=\"1h\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let text = running.handle.metrics(Some("application/openmetrics-text")).body;
    assert!(text.contains("# TYPE terrace_alerts_refused counter\n"), "{text}");
}

/// Debian's Python as a mail server.
struct MailServer {
    child: Child,
    output: BufReader<ChildStdout>,
    port: u16,
}

impl MailServer {
    fn start(arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/smtp_server.py");
        let mut child =
            Command::new("python3").arg(script).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut port = String::new();
        output.read_line(&mut port).unwrap();
        Self { child, output, port: port.trim().parse().unwrap() }
    }

    fn mail(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn mail_to(server: String, login: Option<&str>, to: &str) -> Receiver {
    let way = Way::Email {
        server,
        login: login.map(|password| ("anna".to_owned(), Secret(password.to_owned()))),
        from: "terrace@example.com".to_owned(),
        to: vec![to.to_owned(), "second@example.com".to_owned()],
    };
    receiver("mail", way)
}

fn send_test_mail(receiver: Receiver) -> Result<(), String> {
    let running = Running::start(config(vec![receiver]));
    let mut results = block_on(running.handle.test_receivers(Some("mail")));
    results.remove(0).1
}

#[test]
fn a_mail_reaches_everybody_named() {
    let mut server = MailServer::start(&["plain"]);
    let address = format!("smtp://127.0.0.1:{}", server.port);
    assert_eq!(send_test_mail(mail_to(address, None, "ops@example.com")), Ok(()));
    let mail = server.mail();
    assert_eq!(mail["from"].as_str().unwrap().split(' ').next_back().unwrap(), "FROM:<terrace@example.com>");
    assert_eq!(mail["to"].as_array().unwrap().len(), 2);
    let data = mail["data"].as_str().unwrap();
    assert!(data.contains("Subject: [FIRING: 1] terrace-test (info)\r\n"), "{data}");
    assert!(data.contains("nothing is wrong."), "{data}");
}

#[test]
fn a_mail_server_that_refuses_says_why() {
    let server = MailServer::start(&["plain"]);
    let address = format!("smtp://127.0.0.1:{}", server.port);
    let refused = send_test_mail(mail_to(address, None, "nobody@example.com")).unwrap_err();
    assert!(refused.contains("no such user"), "{refused}");
}

#[test]
fn a_mail_server_that_hangs_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("smtp://{}", silent.local_addr().unwrap());
    assert!(send_test_mail(mail_to(address, None, "ops@example.com")).is_err());
}

/// The system's certificates are read from the environment, which a test may not change in its own process: so it runs
/// itself once more.
fn mails_over_tls(test: &str, mode: &str, scheme: &str) {
    if let Ok(port) = std::env::var("TERRACE_TEST_MAIL_PORT") {
        let to =
            |password| mail_to(format!("{scheme}://localhost:{port}"), Some(password), "ops@example.com");
        assert_eq!(send_test_mail(to("right")), Ok(()));
        let refused = send_test_mail(to("wrong-password")).unwrap_err();
        assert!(refused.contains("535") && !refused.contains("wrong-password"), "{refused}");
        return;
    }
    let folder = Folder::new();
    let authority = Authority::new(folder.path());
    let leaf = authority.sign("mail", &["localhost"]);
    let mut server =
        MailServer::start(&[mode, leaf.certificate.to_str().unwrap(), leaf.key.to_str().unwrap()]);
    let again = |certificates: &Path| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", &format!("alerts::{test}"), "--nocapture"])
            .env("TERRACE_TEST_MAIL_PORT", server.port.to_string());
        command.env("SSL_CERT_FILE", certificates).env_remove("SSL_CERT_DIR").output().unwrap()
    };
    let trusting = again(&authority.certificate);
    assert!(trusting.status.success(), "{}", String::from_utf8_lossy(&trusting.stderr));
    let doubting = again(&Authority::new(Folder::new().path()).certificate);
    assert!(!doubting.status.success(), "a stranger's certificate is not believed");
    let mail = server.mail();
    assert_eq!((&mail["tls"], &mail["login"][1]), (&true.into(), &"right".into()));
}

#[test]
fn a_mail_goes_over_tls_with_a_login() {
    mails_over_tls("a_mail_goes_over_tls_with_a_login", "tls", "smtps");
}

#[test]
fn a_mail_asks_for_tls_before_it_says_anything() {
    mails_over_tls("a_mail_asks_for_tls_before_it_says_anything", "starttls", "smtp+starttls");
}
