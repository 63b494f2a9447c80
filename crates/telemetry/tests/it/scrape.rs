//! The app's own metrics: fetched from its instances, charted, and shown again in one text.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use terrace_instruments::Meter;
use terrace_runtime::drain::{self, Drainer};
use terrace_signals::series::{Measure, Query, Selector};
use terrace_telemetry::{Config, Destination, Handle, Instance, Scrape, Telemetry};

/// An instance of an app: answers each request with what it is told to, and counts them.
struct App {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicU64>,
    heads: Arc<Mutex<String>>,
}

impl App {
    fn serving(kind: &str, text: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (answer, asked) = (Arc::new(Mutex::new(answer(kind, text))), Arc::new(AtomicU64::new(0)));
        let heads = Arc::new(Mutex::new(String::new()));
        let app = Self {
            address,
            answer: Arc::clone(&answer),
            asked: Arc::clone(&asked),
            heads: Arc::clone(&heads),
        };
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *heads.lock().expect("no panic") = head(&stream);
                asked.fetch_add(1, Relaxed);
                let text = answer.lock().expect("no panic").clone();
                let _gone = (&stream).write_all(text.as_bytes());
            }
        });
        app
    }

    fn answers(&self, kind: &str, text: &str) {
        *self.answer.lock().expect("no panic") = answer(kind, text);
    }

    fn instance(&self, service: &str, name: &str) -> Instance {
        Instance { service: service.into(), name: name.into(), pid: None, address: Some(self.address) }
    }
}

fn answer(kind: &str, text: &str) -> String {
    let length = text.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{text}")
}

fn head(stream: &TcpStream) -> String {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Telemetry that runs on a thread of its own until this is dropped.
struct Running {
    handle: Handle,
    drainer: Drainer,
    thread: Option<JoinHandle<()>>,
    _telemetry: Telemetry,
}

impl Running {
    fn scraping(services: &[&str]) -> Self {
        let every = Duration::from_secs(1);
        let scrape =
            |service: &&str| Scrape { service: (*service).into(), path: "/metrics".to_owned(), every };
        let scrapes = services.iter().map(scrape).collect();
        let config =
            Config { events: Destination::Off, access: Destination::Off, scrapes, ..Config::default() };
        let telemetry = Telemetry::build(config, Meter::new(1)).expect("it can be built");
        let (drainer, drain) = drain::channel();
        let handle = telemetry.handle();
        let running = handle.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(running.run(drain));
        });
        Self { handle, drainer, thread: Some(thread), _telemetry: telemetry }
    }

    fn services(&self) -> String {
        self.handle.service_metrics(None).body
    }

    /// The newest value of a metric of ours about fetching.
    fn of_fetching(&self, name: &str, instance: &str) -> Option<f64> {
        let text = self.handle.metrics(None).body;
        let line =
            text.lines().find(|line| line.starts_with(name) && line.contains(&format!("\"{instance}\"")))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drainer.request();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|joined| joined.is_ok()), "it ends when asked");
    }
}

#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..4_000 {
        if let Some(seen) = look() {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain until {what}");
}

const OLD: &str = "text/plain; version=0.0.4";
const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[test]
fn an_apps_own_metrics_are_shown_with_service_and_instance() {
    let one = App::serving(OLD, "# TYPE orders_placed_total counter\norders_placed_total{shop=\"a\"} 3\n");
    let two = App::serving(
        OPEN,
        "# TYPE orders_placed counter\norders_placed_total{shop=\"a\",service=\"x\"} 4\n# EOF\n",
    );
    let running = Running::scraping(&["orders"]);
    running
        .handle
        .set_instances(vec![one.instance("orders", "orders-1"), two.instance("orders", "orders-2")]);
    let text = until("both were fetched", || {
        Some(running.services()).filter(|text| text.contains("orders-1") && text.contains("orders-2"))
    });
    assert_eq!(
        text,
        "# TYPE orders_placed_total counter\n\
         orders_placed_total{instance=\"orders-1\",service=\"orders\",shop=\"a\"} 3\n\
         orders_placed_total{exported_service=\"x\",instance=\"orders-2\",service=\"orders\",shop=\"a\"} 4\n"
    );
    let asked = one.heads.lock().expect("no panic").clone();
    assert!(asked.starts_with("GET /metrics HTTP/1.1") && asked.contains("openmetrics"), "{asked}");
    assert_eq!(running.of_fetching("terrace_scrape_up", "orders-1"), Some(1.0));
    assert_eq!(running.of_fetching("terrace_scrape_samples", "orders-1"), Some(1.0));
}

#[test]
fn business_figures_are_charted_beside_ours() {
    let app = App::serving(OLD, "# TYPE orders_placed_total counter\norders_placed_total 0\n");
    let running = Running::scraping(&["orders"]);
    running.handle.set_instances(vec![app.instance("orders", "orders-1")]);
    let selector = Selector {
        name: "orders_placed".to_owned(),
        labels: vec![("service".to_owned(), "orders".to_owned())],
    };
    let query = Query { selector, measure: Measure::Rate, last: Duration::from_secs(10), by: None };
    let mut placed = 0;
    let rate = until("orders show", || {
        placed += 1;
        app.answers(OLD, &format!("# TYPE orders_placed_total counter\norders_placed_total {placed}\n"));
        running.handle.latest(&query).first().map(|(_, rate)| *rate).filter(|rate| *rate > 0.0)
    });
    assert!(rate > 0.0);
    assert!(running.handle.metric_names().iter().any(|known| &*known.name == "orders_placed_total"));
}

#[test]
fn an_app_whose_text_is_wrong_is_down_for_us_and_others_are_not() {
    let wrong = App::serving(OLD, "orders placed: 3\n");
    let right = App::serving(OLD, "up 1\n");
    let running = Running::scraping(&["wrong", "right"]);
    let gone = Instance {
        address: Some(SocketAddr::from(([127, 0, 0, 1], 1))),
        ..right.instance("right", "right-2")
    };
    let instances = vec![wrong.instance("wrong", "wrong-1"), right.instance("right", "right-1"), gone];
    running.handle.set_instances(instances);
    until("all were tried", || {
        let up = |instance| running.of_fetching("terrace_scrape_up", instance);
        (up("wrong-1") == Some(0.0) && up("right-1") == Some(1.0) && up("right-2") == Some(0.0)).then_some(())
    });
    until("it is tried again", || (wrong.asked.load(Relaxed) > 1).then_some(()));
    assert_eq!(
        running.services(),
        "up{instance=\"right-1\",service=\"right\"} 1\n".replace("up{", "# TYPE up untyped\nup{")
    );
}

#[test]
fn an_instance_that_is_gone_is_shown_no_more() {
    let app = App::serving(OLD, "up 1\n");
    let running = Running::scraping(&["web"]);
    running.handle.set_instances(vec![app.instance("web", "web-1")]);
    until("it was fetched", || running.services().contains("web-1").then_some(()));
    running.handle.set_instances(Vec::new());
    until("it is forgotten", || (!running.services().contains("web-1")).then_some(()));
    assert_eq!(running.of_fetching("terrace_scrape_up", "web-1"), None);
}

#[test]
fn an_app_that_shows_too_much_is_cut_and_told() {
    let many: String = (0..2_500).map(|number| format!("many{{n=\"{number}\"}} 1\n")).collect();
    let app = App::serving(OLD, &many);
    let running = Running::scraping(&["web"]);
    running.handle.set_instances(vec![app.instance("web", "web-1")]);
    let dropped = until("it was fetched", || running.of_fetching("terrace_scrape_samples_dropped", "web-1"));
    assert_eq!((dropped, running.of_fetching("terrace_scrape_samples{", "web-1")), (500.0, Some(2_000.0)));
}

#[test]
fn an_app_that_is_silent_holds_up_nobody() {
    // Accepts and never answers: the backlog takes the connection.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let app = App::serving(OLD, "up 1\n");
    let running = Running::scraping(&["web"]);
    let address = Some(silent.local_addr().expect("it is bound"));
    let mute = Instance { address, ..app.instance("web", "web-0") };
    running.handle.set_instances(vec![mute, app.instance("web", "web-1")]);
    until("the other is fetched", || running.services().contains("web-1").then_some(()));
    until("the silent one is given up", || {
        (running.of_fetching("terrace_scrape_up", "web-0") == Some(0.0)).then_some(())
    });
}
