//! OTLP out to other people's collectors and in from other people's SDKs, well and unwell.

use std::borrow::Cow;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde_json::Value as Json;
use terrace_instruments::{Event, Level, Meter, Span, SpanId, SpanKind, SpanStatus, TraceId, Value};
use terrace_runtime::drain::{self, Drainer};
use terrace_signals::records::LogFilter;
use terrace_signals::series::{Measure, Query, Selector};
use terrace_signals::traces::TraceFilter;
use terrace_telemetry::{Config, Destination, Export, ExportProtocol, Handle, Secret, Telemetry};
use terrace_testkit::{Port, until, until_true};

/// The interpreter with the packages that `scripts/prepare.sh test` installs.
fn python(script: &str) -> Command {
    let prepared = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/venv/bin/python");
    let path = std::env::var_os("TERRACE_TEST_PYTHON").map_or(prepared, PathBuf::from);
    assert!(path.exists(), "{} is missing: run scripts/prepare.sh test", path.display());
    let mut command = Command::new(path);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/otlp/").to_owned() + script);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A collector of other people's making.
struct Collector {
    process: Child,
    port: u16,
    lines: Arc<Mutex<Vec<Json>>>,
}

impl Collector {
    fn start(protocol: &str, behaviour: &str) -> Self {
        let mut process = python("collector.py").args([protocol, behaviour]).spawn().expect("it starts");
        let lines: Arc<Mutex<Vec<Json>>> = Arc::default();
        let (heard, out) = (Arc::clone(&lines), process.stdout.take().expect("piped"));
        // Ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                heard.lock().expect("no panic").push(serde_json::from_str(&line).expect("a line of JSON"));
            }
        });
        let port = until("the collector listens", || {
            lines.lock().expect("no panic").first().and_then(|line| line["port"].as_u64())
        });
        Self { process, port: port as u16, lines }
    }

    fn lines(&self) -> Vec<Json> {
        self.lines.lock().expect("no panic").clone()
    }

    /// Requests of a signal that it took.
    fn taken(&self, signal: &str) -> Vec<Json> {
        self.lines().into_iter().filter(|line| line["signal"] == signal).collect()
    }

    fn export(&self, protocol: ExportProtocol) -> Export {
        export(format!("http://127.0.0.1:{}", self.port), protocol)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn export(url: String, protocol: ExportProtocol) -> Export {
    let headers = vec![("x-key".to_owned(), Secret("k1".to_owned()))];
    Export { url, protocol, headers, traces: true, metrics: false, logs: false }
}

/// Telemetry that runs on a thread of its own until this is dropped.
struct Running {
    handle: Handle,
    telemetry: Telemetry,
    drainer: Drainer,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn with(config: Config) -> Self {
        let config = Config { events: Destination::Off, access: Destination::Off, ..config };
        let telemetry = Telemetry::build(config, Meter::new(1)).expect("it can be built");
        let (drainer, drain) = drain::channel();
        let handle = telemetry.handle();
        let running = handle.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(running.run(drain));
        });
        Self { handle, telemetry, drainer, thread: Some(thread) }
    }

    fn exporting(export: Export) -> Self {
        let running = Self::with(Config { export: Some(export), ..Config::default() });
        running.keep(1);
        running
    }

    /// Hands over a kept trace of so many spans.
    fn keep(&self, spans: u64) {
        self.telemetry.tracer().keep((1..=spans).map(span).collect());
    }

    fn number(&self, line: &str) -> f64 {
        let text = self.handle.metrics(None).body;
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{line} is not in\n{text}"))
    }

    /// Spans, by what became of them.
    fn count(&self, outcome: &str) -> u64 {
        let text = self.handle.metrics(None).body;
        let line = format!("terrace_export_items_total{{signal=\"traces\",outcome=\"{outcome}\"}} ");
        text.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drainer.request();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|joined| joined.is_ok()), "it ends when asked");
    }
}

fn span(id: u64) -> Span {
    Span {
        trace: TraceId(0xabc),
        id: SpanId(id),
        parent: (id > 1).then_some(SpanId(1)),
        name: Cow::Owned(format!("span {id}")),
        kind: if id == 1 { SpanKind::Server } else { SpanKind::Internal },
        service: Arc::from("terrace"),
        instance: Arc::from(""),
        start: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        duration: Duration::from_millis(250),
        status: if id == 1 { SpanStatus::Error } else { SpanStatus::Unset },
        attributes: vec![(Cow::Borrowed("http.response.status_code"), Value::from(503_u16))],
    }
}

fn spans(request: &Json) -> Vec<Json> {
    let mut spans = Vec::new();
    for resource in request["request"]["resourceSpans"].as_array().expect("a list") {
        for scope in resource["scopeSpans"].as_array().expect("a list") {
            spans.extend(scope["spans"].as_array().expect("a list").iter().cloned());
        }
    }
    spans
}

fn all_signals_reach_a_collector(name: &str, protocol: ExportProtocol) {
    let collector = Collector::start(name, "ok");
    let export = Export { metrics: true, logs: true, ..collector.export(protocol) };
    let running = Running::exporting(export);
    running.keep(2);
    running.telemetry.log().emit(Event::new(Level::Warn, "test.said").message("hello").field("n", 3_u32));
    let found = until("a span arrives", || {
        collector.taken("traces").iter().flat_map(spans).find(|span| span["name"] == "span 2")
    });
    // Python's JSON has bytes as base 64.
    assert_eq!(
        (found["traceId"].as_str(), found["parentSpanId"].as_str()),
        (Some("AAAAAAAAAAAAAAAAAAAKvA=="), Some("AAAAAAAAAAE="))
    );
    assert_eq!(found["endTimeUnixNano"], "1700000000250000000");
    let request = collector.taken("traces").remove(0);
    let resource = request["request"]["resourceSpans"][0]["resource"].to_string();
    assert!(resource.contains(r#""service.name","value":{"stringValue":"terrace"}"#), "{resource}");
    assert_eq!(request["fields"]["x-key"], "k1");
    let text = until("metrics arrive", || collector.taken("metrics").first().map(Json::to_string));
    assert!(text.contains("terrace_export_items") && text.contains("isMonotonic"), "{text}");
    until_true("the log record arrives", || {
        let texts: Vec<String> = collector.taken("logs").iter().map(Json::to_string).collect();
        texts.iter().any(|text| {
            text.contains("test.said") && text.contains("hello") && text.contains("SEVERITY_NUMBER_WARN")
        })
    });
}

#[test]
fn spans_metrics_and_logs_reach_a_real_grpc_server() {
    all_signals_reach_a_collector("grpc", ExportProtocol::Grpc);
}

#[test]
fn spans_metrics_and_logs_reach_a_server_over_http() {
    all_signals_reach_a_collector("http", ExportProtocol::Http);
}

#[test]
fn a_collector_that_says_later_gets_everything_later_and_once() {
    for (name, protocol) in [("grpc", ExportProtocol::Grpc), ("http", ExportProtocol::Http)] {
        let collector = Collector::start(name, "away:2");
        let running = Running::exporting(collector.export(protocol));
        running.keep(3);
        until_true("span 3 arrives", || {
            collector.taken("traces").iter().flat_map(spans).any(|span| span["name"] == "span 3")
        });
        let told = collector.lines().iter().filter(|line| line["told"] == "later").count();
        assert_eq!((told, running.count("refused"), running.count("given-up")), (2, 0, 0), "{name}");
        let once =
            collector.taken("traces").iter().flat_map(spans).filter(|span| span["name"] == "span 3").count();
        assert_eq!(once, 1, "{name}");
    }
}

#[test]
fn a_collector_that_breaks_off_is_asked_again() {
    let collector = Collector::start("http", "close:2");
    let running = Running::exporting(collector.export(ExportProtocol::Http));
    until_true("all is through", || running.count("sent") > 0);
    assert_eq!(collector.lines().iter().filter(|line| line["told"] == "half").count(), 2);
    assert_eq!((running.count("refused"), running.count("given-up")), (0, 0));
}

#[test]
fn what_a_collector_refuses_is_counted_and_not_sent_again() {
    for (name, protocol) in [("grpc", ExportProtocol::Grpc), ("http", ExportProtocol::Http)] {
        let collector = Collector::start(name, "refuse");
        let running = Running::exporting(collector.export(protocol));
        until_true("it is refused", || running.count("refused") > 0);
        assert_eq!((running.count("sent"), running.count("given-up")), (0, 0), "{name}");
    }
}

#[test]
fn what_a_collector_takes_but_for_one_is_counted_so() {
    for (name, protocol) in [("grpc", ExportProtocol::Grpc), ("http", ExportProtocol::Http)] {
        let collector = Collector::start(name, "partial");
        let running = Running::exporting(collector.export(protocol));
        let before = collector.taken("traces").len() as u64;
        running.keep(5);
        until_true("it is taken", || running.count("sent") >= 4);
        let requests = collector.taken("traces").len() as u64;
        assert!(requests > before && running.count("refused") == requests, "{name}");
    }
}

/// A collector that takes connections and says nothing, or is not there at all: what waits is bounded, the rest is counted.
fn drops_and_counts(url: String) {
    let running = Running::exporting(export(url, ExportProtocol::Http));
    for _ in 0..10 {
        running.keep(1_000);
    }
    // 8,192 wait and 512 at most are under way.
    until_true("what does not fit is dropped", || running.count("dropped") >= 10_000 - 8_192 - 512);
    assert_eq!(running.count("sent"), 0);
    let summary = running.handle.traces(&TraceFilter { limit: 1, ..TraceFilter::default() }).remove(0);
    assert_eq!(summary.spans, 500, "nobody else notices");
}

#[test]
fn a_collector_that_is_down_costs_spans_which_are_counted() {
    let gone =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    drops_and_counts(format!("http://{gone}"));
}

#[test]
fn a_collector_that_hangs_costs_spans_which_are_counted() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    drops_and_counts(format!("http://{}", silent.local_addr().expect("bound")));
}

#[test]
fn another_collector_takes_over_while_it_runs() {
    let away = Collector::start("http", "away:1000000");
    let running = Running::exporting(away.export(ExportProtocol::Http));
    let other = Collector::start("grpc", "ok");
    let config =
        Config { export: Some(other.export(ExportProtocol::Grpc)), ..(*running.handle.config()).clone() };
    running.handle.apply(config).expect("valid");
    running.keep(7);
    until_true("the other one gets it", || {
        other.taken("traces").iter().flat_map(spans).any(|span| span["name"] == "span 7")
    });
    let off = Config { export: None, ..(*running.handle.config()).clone() };
    running.handle.apply(off).expect("valid");
}

#[test]
fn what_waits_at_the_end_is_still_sent() {
    let collector = Collector::start("grpc", "ok");
    let running = Running::exporting(collector.export(ExportProtocol::Grpc));
    until_true("it is through", || running.count("sent") > 0);
    running.keep(9);
    drop(running);
    let is_there = || collector.taken("traces").iter().flat_map(spans).any(|span| span["name"] == "span 9");
    until_true("the last of it arrives", is_there);
}

/// The newest value of the series of `orders` with this name.
fn latest(handle: &Handle, name: &str, measure: Measure) -> Option<f64> {
    let labels =
        vec![("service".to_owned(), "orders".to_owned()), ("instance".to_owned(), "orders-1".to_owned())];
    let selector = Selector { name: name.to_owned(), labels };
    let query = Query { selector, measure, last: Duration::from_secs(300), by: Some(Vec::new()) };
    let chart = handle.query(&query);
    let points = chart.lines.first()?.points.iter().rev();
    points.copied().find(|point| point.is_finite() && *point > 0.0)
}

fn a_real_sdk_is_understood(protocol: &str) {
    let port = Port::reserve();
    let running = Running::with(Config { receive: Some(port.address()), ..Config::default() });
    until_true("it listens", || TcpStream::connect(port.address()).is_ok());
    running.keep(1);
    let parent = format!("00-{}-{}-01", TraceId(0xabc), SpanId(1));
    let mut app =
        python("app.py").args([protocol, &format!("http://{port}"), &parent]).spawn().expect("it starts");
    let mut out = BufReader::new(app.stdout.take().expect("piped"));
    let mut line = String::new();
    out.read_line(&mut line).expect("readable");
    assert_eq!(line, "first\n");

    let joined = until("the app's span joins the kept trace", || {
        running.handle.trace(TraceId(0xabc)).filter(|spans| spans.len() == 2)
    });
    let placed = &joined[1];
    assert_eq!((&*placed.name, &*placed.service, &*placed.instance), ("place order", "orders", "orders-1"));
    assert_eq!((placed.parent, placed.kind), (Some(SpanId(1)), SpanKind::Server));
    assert!(placed.attributes.contains(&(Cow::Borrowed("order.total"), Value::Float(12.5))), "{placed:?}");
    until_true("the trace that began in the app is kept", || {
        let found = running.handle.traces(&TraceFilter { limit: 9, ..TraceFilter::default() });
        found.iter().any(|summary| summary.root == "nightly" && summary.services == ["orders"])
    });
    let filter = LogFilter { service: Some("orders".to_owned()), ..LogFilter::default() };
    let record = until("the log record is found", || running.handle.records(&filter, 9).first().cloned());
    assert_eq!(
        (record.message.as_str(), record.level, record.trace),
        ("payment p-1 failed", Level::Error, Some(TraceId(0xabc)))
    );
    assert!(record.fields.contains(&("attempt".to_owned(), "2".to_owned())), "{record:?}");

    // The first points must be seen before the second ones come, or there is nothing to grow from.
    until_true("the counter is known", || {
        running.handle.metric_names().iter().any(|metric| &*metric.name == "orders_placed_total")
    });
    app.stdin.take().expect("piped").write_all(b"\n").expect("it listens");
    line.clear();
    out.read_line(&mut line).expect("readable");
    assert_eq!(line, "[True, True, True, True]\n", "the SDK is content with our answers");
    assert!(app.wait().expect("it ends").success());
    until_true("orders are charted", || {
        latest(&running.handle, "orders_placed_total", Measure::Rate).is_some()
    });
    let known = |name: &str| running.handle.metric_names().iter().any(|metric| &*metric.name == name);
    for name in ["payment_duration_seconds_bucket", "payment_duration_seconds_count", "basket_size_bucket"] {
        assert!(known(name), "{name}");
    }
    assert_eq!(running.number("terrace_receive_items_total{signal=\"traces\",outcome=\"accepted\"} "), 2.0);
    assert_eq!(running.number("terrace_receive_items_total{signal=\"logs\",outcome=\"accepted\"} "), 1.0);
    assert_eq!(running.number("terrace_receive_items_total{signal=\"metrics\",outcome=\"refused\"} "), 0.0);
}

#[test]
fn the_real_python_sdk_is_understood_over_http() {
    a_real_sdk_is_understood("http");
}

#[test]
fn the_real_python_sdk_is_understood_over_grpc() {
    a_real_sdk_is_understood("grpc");
}

/// Sends a request as it stands, and returns the answer's head and body.
fn ask(address: SocketAddr, head: &str, body: &[u8]) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let length = body.len();
    // A server that refuses by the head need not read the rest.
    let _sent = stream
        .write_all(format!("{head}content-length: {length}\r\nconnection: close\r\n\r\n").as_bytes())
        .and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    (head.to_owned(), body.to_owned())
}

const JSON: &str = "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";

fn receiving() -> (Running, Port) {
    let port = Port::reserve();
    let running = Running::with(Config { receive: Some(port.address()), ..Config::default() });
    until_true("it listens", || TcpStream::connect(port.address()).is_ok());
    (running, port)
}

#[test]
fn json_is_taken_and_what_is_wrong_with_it_is_told() {
    let (running, port) = receiving();
    let one = r#"{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"00000000000000ff","name":"from a browser"}"#;
    let body = |spans: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
    let (head, answer) = ask(port.address(), JSON, body(one).as_bytes());
    assert!(head.starts_with("HTTP/1.1 200") && answer == "{}", "{head} {answer}");
    let names: Vec<String> = running
        .handle
        .traces(&TraceFilter { limit: 9, ..TraceFilter::default() })
        .into_iter()
        .map(|summary| summary.root)
        .collect();
    assert_eq!(names, ["from a browser"]);
    let (_, answer) = ask(port.address(), JSON, body(&format!("{one},{{}}")).as_bytes());
    assert!(answer.starts_with(r#"{"partialSuccess":{"rejectedSpans":"1""#), "{answer}");
    let (head, answer) = ask(port.address(), JSON, b"{\"resourceSpans\": 7}");
    assert!(head.starts_with("HTTP/1.1 400") && answer.contains("line 1, column"), "{head} {answer}");
    assert_eq!(running.number("terrace_receive_items_total{signal=\"traces\",outcome=\"refused\"} "), 1.0);
    assert_eq!(running.number("terrace_receive_requests_total{outcome=\"malformed\"} "), 1.0);
}

#[test]
fn a_body_too_large_and_a_page_of_elsewhere_are_refused() {
    let (running, port) = receiving();
    let (head, _) = ask(port.address(), JSON, &vec![b' '; (4 << 20) + 1]);
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    let (head, _) = ask(port.address(), &JSON.replace("localhost", "evil.example"), b"{}");
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    let (head, _) = ask(port.address(), &format!("{JSON}origin: https://evil.example\r\n"), b"{}");
    assert!(head.starts_with("HTTP/1.1 403") && !head.contains("access-control"), "{head}");
    let (head, _) = ask(port.address(), &format!("{JSON}origin: http://localhost:3000\r\n"), b"{}");
    assert!(head.contains("access-control-allow-origin: http://localhost:3000"), "{head}");
    let preflight = format!("{}origin: http://localhost:3000\r\n", JSON.replace("POST", "OPTIONS"));
    let (head, _) = ask(port.address(), &preflight, b"");
    assert!(
        head.starts_with("HTTP/1.1 204") && head.contains("access-control-allow-methods: POST"),
        "{head}"
    );
    assert_eq!(running.number("terrace_receive_requests_total{outcome=\"forbidden\"} "), 2.0);
    assert_eq!(running.number("terrace_receive_requests_total{outcome=\"too-large\"} "), 1.0);
}

#[test]
fn the_listener_moves_and_ends_while_it_runs() {
    let (running, first) = receiving();
    let second = Port::reserve();
    let change = |receive| {
        running.handle.apply(Config { receive, ..(*running.handle.config()).clone() }).expect("valid");
    };
    change(Some(second.address()));
    until_true("the new one listens", || TcpStream::connect(second.address()).is_ok());
    until_true("the old one is gone", || TcpStream::connect(first.address()).is_err());
    change(None);
    until_true("none listens", || TcpStream::connect(second.address()).is_err());
}
