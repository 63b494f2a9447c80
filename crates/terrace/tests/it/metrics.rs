//! Numbers for others: what Prometheus itself, its own checker and its Python library make of what Terrace shows, and that
//! no client can make it show more.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use terrace_testkit::{Port, Request, World, get, until, until_true};

use crate::peers::python;
use crate::seeing::probes;
use crate::{shop, world};

const OPEN: &str = "application/openmetrics-text; version=1.0.0";

/// A shop whose app shows numbers of its own, and in which every request is traced.
fn counted_shop(world: &World) -> (Port, SocketAddr, String) {
    let (port, address, file) = shop(world, 2);
    let more = "metrics = { path = \"/metrics\", every = \"1s\" }\n[trace]\nsample = \"100%\"\n";
    (port, address, format!("{file}{more}"))
}

/// The values of all series of the current answer.
fn values(answer: &Value) -> Vec<f64> {
    let of = |row: &Value| row["value"][1].as_str().and_then(|text| text.parse().ok());
    answer["data"]["result"].as_array().into_iter().flatten().filter_map(of).collect()
}

/// A Prometheus of Debian's that scrapes Terrace each second.
struct Prometheus {
    address: SocketAddr,
    child: Child,
}

impl Prometheus {
    fn scraping(world: &World, probes: SocketAddr) -> (Port, Self) {
        let port = Port::reserve();
        let job = |name: &str, path: &str| {
            format!(
                "- job_name: {name}\n  metrics_path: {path}\n  honor_labels: true\n  static_configs: [{{targets: ['{probes}']}}]\n"
            )
        };
        let jobs = format!("{}{}", job("terrace", "/metrics"), job("services", "/metrics/services"));
        let file = format!("global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n{jobs}");
        world.folder.write("prometheus.yml", &file);
        let log = std::fs::File::create(world.folder.join("prometheus.log")).expect("a file in our folder");
        let child = Command::new("prometheus")
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=prometheus", "--log.level=warn"])
            .args(["--enable-feature=exemplar-storage", &format!("--web.listen-address={port}")])
            .current_dir(world.folder.path())
            .stdin(Stdio::null())
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .expect("prometheus is installed; scripts/prepare.sh test does it");
        let address = port.address();
        until_true("Prometheus is ready", || {
            Request::get("/-/ready").try_send(address).is_ok_and(|answer| answer.status == 200)
        });
        (port, Self { address, child })
    }

    fn ask(&self, path: &str, query: &str) -> Value {
        let escape = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        };
        let query: String = query.bytes().map(escape).collect();
        get(self.address, &format!("/api/v1/{path}query={query}")).json()
    }

    #[track_caller]
    fn until_it_says(&self, query: &str, expected: f64) {
        until_true(&format!("Prometheus says {expected} to {query}"), || {
            values(&self.ask("query?", query)) == [expected]
        });
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _status = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes_terrace_the_app_behind_it_and_examples() {
    let world = world();
    let (_port, address, file) = counted_shop(&world);
    let terrace = world.up(&file);
    let (_taken, prometheus) = Prometheus::scraping(&world, probes(&terrace));
    for _ in 0..12 {
        assert_eq!(get(address, "/").status, 200);
    }
    prometheus.until_it_says("sum(terrace_requests_total{route=\"web\"})", 12.0);
    prometheus.until_it_says("sum(terrace_request_duration_seconds_count{route=\"web\"})", 12.0);
    // The app's own, of each instance, with the label that it had for itself.
    prometheus.until_it_says("sum(app_answers_total{service=\"web\", exported_service=\"own\"})", 12.0);
    prometheus.until_it_says("count(app_answers_total{instance=~\"web-[12]\"})", 2.0);
    prometheus.until_it_says("sum(terrace_scrape_up{service=\"web\"})", 2.0);
    prometheus.until_it_says("sum(up)", 2.0);
    // An example leads from a bucket to a trace.
    let range = "query_exemplars?start=0&end=9999999999&";
    let trace = until("Prometheus has an example", || {
        let found = prometheus.ask(range, "terrace_request_duration_seconds_bucket{route=\"web\"}");
        found["data"][0]["exemplars"][0]["labels"]["trace_id"].as_str().map(str::to_owned)
    });
    assert!(trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit()), "{trace}");
    let told = world.folder.read("prometheus.log");
    assert!(!told.contains("level=error") && !told.contains("scrape"), "{told}");
}

#[test]
fn promtool_and_pythons_client_find_nothing_wrong_in_what_is_shown() {
    let world = world();
    let (_port, address, file) = counted_shop(&world);
    let terrace = world.up(&file);
    let probes = probes(&terrace);
    assert_eq!(get(address, "/").status, 200);
    until_true("the app was asked", || get(probes, "/metrics/services").text().contains("web-2"));
    for path in ["/metrics", "/metrics/services"] {
        let old = Request::get(path).send(probes).text();
        world.folder.write("old.txt", &old);
        let checked = world.run("sh", &["-c", "promtool check metrics < old.txt"]);
        // 3 is the linter's taste in names, of which the app's are not ours to judge.
        let fine: &[i32] = if path == "/metrics" { &[0] } else { &[0, 3] };
        assert!(checked.code.is_some_and(|code| fine.contains(&code)), "{path}: {checked:?}");
        let open = Request::get(path).with("Accept", OPEN).send(probes);
        assert!(open.field("content-type").is_some_and(|kind| kind.starts_with(OPEN)), "{open:?}");
        world.folder.write("open.txt", &open.text());
        read_by_python(&world, "prometheus_client.parser", "old.txt");
        read_by_python(&world, "prometheus_client.openmetrics.parser", "open.txt");
        for text in [old, open.text()] {
            no_sample_twice(&text);
        }
    }
}

#[track_caller]
fn read_by_python(world: &World, module: &str, file: &str) {
    let script = "import importlib, sys\nread = importlib.import_module(sys.argv[1])\n\
                  families = list(read.text_string_to_metric_families(open(sys.argv[2]).read()))\n\
                  assert sum(len(family.samples) for family in families) > 3, families\n";
    world.folder.write("read.py", script);
    let done = world.run(&python(), &["read.py", module, file]);
    assert!(done.code == Some(0), "{done:?}\n{}", world.folder.read(file));
}

/// What neither promtool nor the Python client notices.
#[track_caller]
fn no_sample_twice(text: &str) {
    let mut series: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(" # ").map_or(line, |(line, _)| line))
        .filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series))
        .collect();
    series.sort_unstable();
    let twice = series.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "{text}");
}

#[test]
fn a_client_that_invents_paths_methods_and_hosts_makes_no_series() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&file);
    let probes = probes(&terrace);
    let ask = |number: usize| {
        let request = Request::new(&format!("M{number}"), &format!("/{number}?{number}={number}"));
        let request =
            request.with("Host", &format!("h{number}.example")).with("User-Agent", &number.to_string());
        let request = request.with(&format!("X-{number}"), "1").with("traceparent", &number.to_string());
        let _whatever_is_said = request.try_send(address);
        let _not_found = get(address, &format!("/invented/{number}"));
    };
    let counted = || answered(probes);
    // Whatever such a request can bring into being is there after the first.
    (0..3).for_each(ask);
    until_true("they are counted", || counted() >= 3.0);
    let before = series(probes);
    (3..200).for_each(ask);
    until_true("they are counted as well", || counted() >= 200.0);
    let (after, overflow) = (series(probes), "overflow");
    // The machine and the processes are looked at whenever their time comes.
    let is_of_clients =
        |name: &&String| !["terrace_host_", "terrace_instance_"].iter().any(|of| name.starts_with(of));
    let new: Vec<&String> =
        after.iter().filter(is_of_clients).filter(|name| !before.contains(name)).collect();
    assert!(new.is_empty() && !after.iter().any(|name| name.contains(overflow)), "{new:?}");
}

fn series(probes: SocketAddr) -> Vec<String> {
    let text = get(probes, "/metrics").text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

/// Requests that were answered, whoever answered them.
fn answered(probes: SocketAddr) -> f64 {
    let text = get(probes, "/metrics").text();
    let lines = text.lines().filter(|line| line.starts_with("terrace_requests_total{"));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}
