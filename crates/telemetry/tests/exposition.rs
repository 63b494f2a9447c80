//! What a scraper is served: golden texts, a strict reader of our own, and the real readers where they are installed.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use terrace_instruments::{Counter, Family, Gauge, Histogram, Kind, Meter, TraceId};
use terrace_telemetry::{Config, Destination, Format, Handle, Telemetry};

static REQUESTS: Family = Family {
    name: "terrace_requests_total",
    help: "Requests by route and \"class\".\nTwo lines, one \\.",
    unit: "",
    labels: &["route", "class"],
    kind: Kind::Counter,
};
static OPEN: Family = Family {
    name: "terrace_connections_open",
    help: "Connections now open.",
    unit: "",
    labels: &[],
    kind: Kind::Gauge,
};
static DURATION: Family = Family {
    name: "terrace_request_duration",
    help: "From the head's arrival to the last byte.",
    unit: "seconds",
    labels: &["route"],
    kind: Kind::Histogram,
};
static SENT: Family =
    Family { name: "terrace_sent", help: "Bytes sent.", unit: "bytes", labels: &[], kind: Kind::Counter };

/// One metric of each kind, held, and the handle that serves them.
struct Filled {
    handle: Handle,
    _telemetry: Telemetry,
    _held: (Counter, Counter, Counter, Gauge, Histogram),
}

fn filled() -> Filled {
    let meter = Meter::new(2);
    let quiet = Config { events: Destination::Off, access: Destination::Off, ..Config::default() };
    let telemetry = Telemetry::build(quiet, meter.clone()).unwrap();
    let requests = meter.counter(&REQUESTS, &["orders", "2xx"]);
    requests.add(7);
    let failures = meter.counter(&REQUESTS, &["a\"b\\c\nd", "5xx"]);
    failures.inc();
    let open = meter.gauge(&OPEN, &[]);
    open.set(-3);
    let sent = meter.counter(&SENT, &[]);
    sent.add(u64::MAX);
    let durations = meter.histogram(&DURATION, &["orders"]);
    for micros in [300, 700, 1_000] {
        durations.record(Duration::from_micros(micros));
    }
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
    durations.record_traced(Duration::from_micros(40_000), TraceId(0xabc), at);
    durations.record_traced(Duration::from_secs(90), TraceId(0xdef), at);
    let held = (requests, failures, sent, open, durations);
    Filled { handle: telemetry.handle(), _telemetry: telemetry, _held: held }
}

const OPEN_METRICS: Option<&str> =
    Some("application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1");

/// The lines of what was filled in here; telemetry and the process tell of themselves besides.
fn ours(text: &str) -> String {
    let names = ["connections_open", "request_duration", "requests", "sent_bytes", "log_lines_lost"];
    let is_ours = |line: &&str| {
        let name = line.trim_start_matches(['#', ' ']).trim_start_matches(char::is_uppercase).trim_start();
        names.iter().any(|known| name.strip_prefix("terrace_").is_some_and(|name| name.starts_with(known)))
    };
    text.lines().filter(is_ours).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_scraper_that_asks_for_nothing_gets_prometheus_text() {
    let filled = filled();
    let rendered = filled.handle.metrics(None);
    assert_eq!(rendered.content_type, "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(ours(&rendered.body), include_str!("exposition.prometheus.txt"));
}

#[test]
fn a_scraper_that_prefers_openmetrics_gets_it() {
    let filled = filled();
    let rendered = filled.handle.metrics(OPEN_METRICS);
    assert_eq!(rendered.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert_eq!(ours(&rendered.body), include_str!("exposition.openmetrics.txt"));
    assert!(rendered.body.ends_with("# EOF\n"));
}

#[test]
fn the_format_follows_the_accept_field() {
    let check = |accept, expected| assert_eq!(Format::negotiate(accept), expected, "{accept:?}");
    check(None, Format::Prometheus);
    check(Some("*/*"), Format::Prometheus);
    check(Some("text/html, text/plain"), Format::Prometheus);
    check(Some("application/openmetrics-text"), Format::OpenMetrics);
    check(Some("application/openmetrics-text; version=1.0.0; charset=utf-8"), Format::OpenMetrics);
    check(Some("application/openmetrics-text; version=0.0.1"), Format::Prometheus);
    check(Some("application/openmetrics-text;q=0"), Format::Prometheus);
    check(Some("application/openmetrics-text;q=0.2,text/plain;q=0.5"), Format::Prometheus);
    check(Some(";;;q=,,="), Format::Prometheus);
    let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    check(Some(prometheus), Format::OpenMetrics);
}

#[test]
fn both_texts_are_well_formed() {
    let filled = filled();
    for accept in [None, OPEN_METRICS] {
        let text = filled.handle.metrics(accept).body;
        strict::check(&text, accept.is_some()).unwrap_or_else(|problem| panic!("{problem}\n{text}"));
    }
}

#[test]
fn the_process_tells_of_itself() {
    let filled = filled();
    let text = filled.handle.metrics(None).body;
    for name in
        ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_threads"]
    {
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is missing"));
        let value: f64 = line.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(value >= 0.0, "{line}");
    }
}

#[test]
fn promtool_finds_nothing_wrong() {
    let filled = filled();
    match reader("promtool", &["check", "metrics"], &filled.handle.metrics(None).body) {
        // Its linter is for people who name metrics; a problem of form is an exit status of 1.
        Some((status, output)) => assert_ne!(status, 1, "{output}"),
        None => eprintln_skipped("promtool"),
    }
}

#[test]
fn the_python_client_reads_both_texts() {
    let filled = filled();
    for (module, accept) in [("parser", None), ("openmetrics.parser", OPEN_METRICS)] {
        let code = format!(
            "import sys\ntry: from prometheus_client.{module} import text_string_to_metric_families as read\n\
             except ImportError: sys.exit(77)\nprint(sum(len(f.samples) for f in read(sys.stdin.read())))"
        );
        match reader("/usr/bin/python3", &["-c", &code], &filled.handle.metrics(accept).body) {
            Some((77, _)) | None => eprintln_skipped("prometheus_client"),
            Some((status, output)) => assert_eq!(status, 0, "{output}"),
        }
    }
}

/// Runs a reader over a text: its exit status and all it said, or `None` when it is not installed.
fn reader(program: &str, arguments: &[&str], text: &str) -> Option<(i32, String)> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned()))
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn eprintln_skipped(what: &str) {
    eprintln!("skipped: {what} is not installed");
}

/// Reads the text the way neither promtool nor the Python client alone does: form, order, duplicates, monotony.
mod strict {
    use std::collections::{HashMap, HashSet};

    #[derive(Default)]
    struct Reader {
        open_metrics: bool,
        family: String,
        kind: String,
        families: HashSet<String>,
        samples: HashSet<String>,
        buckets: HashMap<String, f64>,
    }

    pub(super) fn check(text: &str, open_metrics: bool) -> Result<(), String> {
        let mut reader = Reader { open_metrics, ..Reader::default() };
        let body = if open_metrics { text.strip_suffix("# EOF\n").ok_or("no # EOF")? } else { text };
        for line in body.lines() {
            match line.strip_prefix("# ") {
                Some(comment) => reader.comment(comment),
                None => reader.sample(line),
            }
            .map_err(|problem| format!("{problem}: {line}"))?;
        }
        Ok(())
    }

    impl Reader {
        fn comment(&mut self, comment: &str) -> Result<(), &'static str> {
            let words: Vec<&str> = comment.splitn(3, ' ').collect();
            let [what, name, rest] = words[..] else { return Err("short comment") };
            match what {
                "HELP" if !self.families.insert(name.to_owned()) => return Err("family twice"),
                "HELP" => self.family = name.to_owned(),
                "TYPE" if name == self.family => self.kind = rest.to_owned(),
                "UNIT" if self.open_metrics && name == self.family && name.ends_with(&format!("_{rest}")) => {
                }
                _ => return Err("out of place"),
            }
            Ok(())
        }

        fn sample(&mut self, line: &str) -> Result<(), &'static str> {
            let line = match line.split_once(" # ") {
                Some((line, example)) if self.open_metrics => exemplar(example).map(|()| line)?,
                _ => line,
            };
            let (series, value) = line.rsplit_once(' ').ok_or("no value")?;
            let value: f64 = value.parse().map_err(|_| "bad value")?;
            let (name, labels) = labels(series)?;
            belongs(&self.family, &self.kind, self.open_metrics, name)?;
            if !self.samples.insert(series.to_owned()) {
                return Err("sample twice");
            }
            if self.kind == "counter" && value < 0.0 {
                return Err("negative counter");
            }
            if name.ends_with("_bucket") { self.bucket(name, &labels, value) } else { Ok(()) }
        }

        fn bucket(&mut self, name: &str, labels: &Labels, value: f64) -> Result<(), &'static str> {
            let others: Vec<_> = labels.iter().filter(|(key, _)| key != "le").collect();
            let last = self.buckets.entry(format!("{name}{others:?}")).or_insert(0.0);
            if value < *last {
                return Err("buckets fall");
            }
            *last = value;
            Ok(())
        }
    }

    /// Labels of at most 128 characters, a value and a time.
    fn exemplar(example: &str) -> Result<(), &'static str> {
        let (labels, numbers) = example.split_once("} ").ok_or("no labels of an exemplar")?;
        let is_number = |text: &str| text.parse::<f64>().is_ok();
        let fits = labels.starts_with("{trace_id=\"") && labels.chars().count() <= 128;
        let fits = fits && numbers.split(' ').count() == 2 && numbers.split(' ').all(is_number);
        if fits { Ok(()) } else { Err("bad exemplar") }
    }

    fn belongs(family: &str, kind: &str, open_metrics: bool, name: &str) -> Result<(), &'static str> {
        let suffix = name.strip_prefix(family).ok_or("outside of its family")?;
        let fits = match (kind, open_metrics) {
            ("counter", true) => suffix == "_total",
            ("counter", false) => suffix.is_empty() && name.ends_with("_total"),
            ("gauge", _) => suffix.is_empty() && !name.ends_with("_total"),
            ("histogram", _) => ["_bucket", "_sum", "_count"].contains(&suffix),
            _ => false,
        };
        if fits { Ok(()) } else { Err("does not fit its family's type") }
    }

    type Labels = Vec<(String, String)>;

    fn labels(series: &str) -> Result<(&str, Labels), &'static str> {
        let Some((name, rest)) = series.split_once('{') else { return Ok((series, Vec::new())) };
        let mut rest = rest.strip_suffix('}').ok_or("open labels")?;
        let mut found = Vec::new();
        while !rest.is_empty() {
            let (key, after) = rest.split_once("=\"").ok_or("bad label")?;
            if key.is_empty() || !key.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
                return Err("bad label name");
            }
            let (value, length) = value(after).ok_or("bad label value")?;
            found.push((key.to_owned(), value));
            rest = &after[length..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        Ok((name, found))
    }

    /// The unescaped value and how many bytes it took, closing quote included.
    fn value(text: &str) -> Option<(String, usize)> {
        let mut out = String::new();
        let mut characters = text.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => return Some((out, at + 1)),
                '\\' => out.push(match characters.next()?.1 {
                    'n' => '\n',
                    escaped @ ('\\' | '"') => escaped,
                    _ => return None,
                }),
                plain => out.push(plain),
            }
        }
        None
    }
}
