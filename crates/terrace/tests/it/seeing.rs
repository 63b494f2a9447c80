//! What an operator sees: the access log, metrics, probes, the admin API, who changed what, and no secret anywhere.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use terrace_testkit::{Port, Request, Signal, Terrace, WebSocket, World, get, post, until, until_true};

use crate::{shop, world};

const TOKEN: &str = "a-token-that-nobody-guesses";

pub(crate) fn probes(terrace: &Terrace<'_>) -> SocketAddr {
    terrace.status()["probes"].as_str().and_then(|text| text.parse().ok()).expect("probes are on")
}

#[test]
fn each_request_is_a_line_of_json_in_the_access_log() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&file);
    see(address, "/seen?q=\"quoted\"");
    let _answer = post(address, "/upload", "12345");
    see(address, "/garbage?kind=text");
    let socket = WebSocket::open(address, "/ws").expect("it opens");
    socket.close().expect("it closes");
    let lines = until("four lines are there", || Some(terrace.access()).filter(|lines| lines.len() >= 4));
    let of = |path: &str| {
        lines
            .iter()
            .find(|line| line["path"].as_str().is_some_and(|text| text.starts_with(path)))
            .expect("it is there")
    };
    let seen = of("/seen");
    assert_eq!(
        (&seen["status"], &seen["method"], &seen["route"]),
        (&200.into(), &"GET".into(), &"web".into())
    );
    assert_eq!((&seen["instance"], &seen["client"]), (&"web-1".into(), &"127.0.0.1".into()));
    assert_eq!((&of("/upload")["bytes_in"], &of("/ws")["status"]), (&5.into(), &101.into()));
    let garbage = of("/garbage");
    assert_eq!((&garbage["status"], &garbage["service"]), (&502.into(), &"web".into()));
    assert!(garbage["outcome"].as_str().is_some_and(|text| text.starts_with("upstream.")), "{garbage}");
    assert!(lines.iter().all(|line| line["request_id"].as_str().is_some_and(|id| id.len() == 32)));
}

#[test]
fn the_access_log_goes_to_a_file_that_can_be_moved_away() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&format!("{file}[log]\naccess = {{ to = \"access.log\" }}\n"));
    see(address, "/first");
    until_true("it is written", || world.folder.read("access.log").contains("/first"));
    std::fs::rename(world.folder.join("access.log"), world.folder.join("access.log.1")).expect("it is there");
    terrace.signal(Signal::HUP);
    terrace.event("reload.done");
    see(address, "/second");
    until_true("a new file is begun", || world.folder.read("access.log").contains("/second"));
    assert!(!world.folder.read("access.log.1").contains("/second"));
    assert_eq!(terrace.stdout(), "");
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let terrace = world.up(&file);
    let probes = probes(&terrace);
    for _ in 0..10 {
        see(address, "/");
    }
    see(address, "/status?code=404");
    let value = |name: &str| sample(&get(probes, "/metrics").text(), name);
    until_true("they are counted", || {
        value("terrace_requests_total{route=\"web\",class=\"2xx\"}") == Some(10.0)
    });
    assert_eq!(value("terrace_requests_total{route=\"web\",class=\"4xx\"}"), Some(1.0));
    assert_eq!(value("terrace_fleet_instances{service=\"web\",state=\"ready\"}"), Some(2.0));
    assert_eq!(value("terrace_upstream_endpoints_available{service=\"web\"}"), Some(2.0));
    well_formed(&get(probes, "/metrics").text());
    // What a client invents makes no new series.
    let before = get(probes, "/metrics").text().lines().count();
    for number in 0..50 {
        see(address, &format!("/invented/{number}"));
    }
    assert_eq!(get(probes, "/metrics").text().lines().count(), before);
}

fn sample(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Every line is a comment or a sample of a family that was declared before (Prometheus text format 0.0.4).
#[track_caller]
fn well_formed(metrics: &str) {
    let (mut families, mut series) = (BTreeSet::new(), BTreeSet::new());
    for line in
        metrics.lines().filter(|line| !line.is_empty() && !line.starts_with("# HELP ") && *line != "# EOF")
    {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').expect("a name and a kind");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert!(families.insert(name.to_owned()), "declared twice: {line}");
            continue;
        }
        let (name, number) = line.rsplit_once(' ').expect("a name and a value");
        assert!(number.parse::<f64>().is_ok(), "{line}");
        assert!(series.insert(name.to_owned()), "twice: {line}");
        let family = name.split('{').next().unwrap_or_default();
        let stems = ["", "_bucket", "_sum", "_count"].map(|end| family.strip_suffix(end));
        assert!(stems.iter().flatten().any(|stem| families.contains(*stem)), "not declared: {line}");
    }
}

#[test]
fn one_slow_request_after_twenty_fast_ones_is_the_p99_and_leaves_the_median() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&file);
    (0..20).for_each(|_| assert_eq!(get(address, "/").status, 200));
    let held = std::thread::spawn(move || get(address, "/hold?gate=slow"));
    let known = until("the fast ones are counted", || {
        let map = terrace.ask("/v1/map");
        map["routes"][0]["figures"]["p50"].is_number().then_some(map)
    });
    let since = |map: &Value| map["uptime_seconds"].as_f64().unwrap_or_default();
    until_true("a second has passed", || since(&terrace.ask("/v1/map")) >= since(&known) + 1.0);
    world.folder.write("gate-slow", "");
    assert_eq!(held.join().expect("it is answered").status, 200);
    let figure = |map: &Value, of: &str, name: &str| map[of][0]["figures"][name].as_f64().unwrap_or_default();
    let map = until("the slow one is counted", || {
        let map = terrace.ask("/v1/map");
        let is_there = |of| figure(&map, of, "p99") > 0.8;
        (is_there("routes") && is_there("services")).then_some(map)
    });
    // The mean of a fast second's median and a slow one's would be half of the slow one.
    let told = ["routes", "services"].map(|of| (figure(&map, of, "p50"), figure(&map, of, "p99")));
    assert!(told.iter().all(|(p50, p99)| *p50 < p99 / 4.0), "{told:?}");
}

#[test]
fn probes_say_that_it_lives_and_whether_it_is_ready() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&format!("{file}panic = false\n"));
    let probes = probes(&terrace);
    assert_eq!((get(probes, "/livez").status, get(probes, "/readyz").status), (200, 200));
    world.folder.write("unwell", "");
    let answer =
        until("it is not ready", || Some(get(probes, "/readyz")).filter(|answer| answer.status == 503));
    assert!(answer.text().contains("web"), "{}", answer.text());
    assert_eq!(get(probes, "/livez").status, 200, "but alive");
    world.folder.remove("unwell");
    until_true("it is ready again", || get(probes, "/readyz").status == 200);
    assert_eq!(Request::get("/metrics").with("Host", "evil.example").send(probes).status, 403);
    // While it stops it says so, so that nobody sends more.
    let held = std::thread::spawn(move || get(address, "/hold?gate=stop"));
    until_true("a request is in flight", || world.folder.join("at-stop").exists());
    terrace.signal(Signal::TERM);
    until_true("it says that it stops", || get(probes, "/readyz").text().contains("stopping"));
    world.folder.write("gate-stop", "");
    assert_eq!(held.join().expect("it was answered").status, 200);
}

#[test]
fn the_admin_api_lets_nobody_in_who_is_not_meant() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let api = Port::reserve();
    world.folder.write("token", TOKEN);
    let admin = format!("[admin]\nprobes = false\naddress = \"{api}\"\ntoken = {{ file = \"token\" }}\n");
    let terrace = world.up(&format!("{file}{admin}"));
    let ask = |host: &str, token: &str| {
        let request = Request::get("/v1/status").with("Host", host);
        request.with("Authorization", &format!("Bearer {token}"))
    };
    let host = api.to_string();
    let status = |request: Request| request.send(api.address()).status;
    assert_eq!(status(ask(&host, TOKEN)), 200);
    assert_eq!(status(Request::get("/v1/status").with("Host", &host)), 401);
    assert_eq!(status(ask(&host, "another-token-altogether")), 401);
    assert_eq!(status(ask("evil.example", TOKEN)), 403);
    assert_eq!(status(ask(&host, TOKEN).with("Origin", "https://evil.example")), 403);
    assert_eq!(status(ask(&host, TOKEN).with("Sec-Fetch-Site", "cross-site")), 403);
    let change = |kind: &str| {
        let request = Request::post("/v1/services/web/scale", "{\"instances\":2}").with("Host", &host);
        request.with("Authorization", &format!("Bearer {TOKEN}")).with("Content-Type", kind)
    };
    assert_eq!(status(change("text/plain")), 415, "a form of a web page cannot do it");
    assert_eq!(status(change("application/json")), 200);
    assert_eq!(terrace.pids("web").len(), 2);
    let refused = terrace.events().iter().filter(|event| event["event"] == "admin.refused").count();
    assert!(refused >= 5, "{refused} refusals are told");
}

#[test]
fn the_configuration_shown_is_the_one_in_force_whatever_the_file_says_by_now() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let api = Port::reserve();
    world.folder.write("token", TOKEN);
    let file = format!(
        "{file}[admin]\nprobes = \"127.0.0.1:0\"\naddress = \"{api}\"\ntoken = {{ file = \"token\" }}\n"
    );
    let terrace = world.up(&file);
    let config = || -> Value {
        let request = Request::get("/v1/config").with("Host", &api.to_string());
        let answer = request.with("Authorization", &format!("Bearer {TOKEN}")).send(api.address());
        serde_json::from_str(&answer.text()).expect("it is JSON")
    };
    let instances = |config: &Value| {
        let values = config["values"].as_array().expect("there are values").iter();
        let mut found = values.filter(|value| value["name"] == "web" && value["key"] == "instances");
        found.next().map(|value| (value["value"].clone(), value["written"]["line"].is_u64()))
    };
    let in_force = Some((Value::from("1"), true));
    let same = config();
    assert_eq!((instances(&same), &same["on_disk"]["problem"]), (in_force.clone(), &Value::Null));
    assert_eq!(same["on_disk"]["changes"], Value::Array(Vec::new()));
    world.write(&file.replace("instances = 1", "instances = 2"));
    let changed = config();
    assert_eq!(instances(&changed), in_force);
    assert_eq!(changed["on_disk"]["changes"][0], "service web: instances 1 → 2");
    world.write("[service.web]\nrum = \"x\"\n");
    let broken = config();
    assert_eq!(instances(&broken), in_force);
    let problem = broken["on_disk"]["problem"].as_str().expect("the file is wrong");
    assert!(problem.contains("rum"), "{problem}");
    terrace.reload_with(&file.replace("instances = 1", "instances = 2")).ok();
    assert_eq!(instances(&config()), Some((Value::from("2"), true)));
}

#[test]
fn a_port_that_the_system_chose_is_told() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&file.replace(&address.to_string(), "127.0.0.1:0"));
    let url = terrace.status()["listeners"][0]["urls"][0].as_str().map(str::to_owned).expect("it listens");
    let told: SocketAddr =
        url.strip_prefix("http://").and_then(|text| text.parse().ok()).expect("an address");
    assert_ne!(told.port(), 0);
    assert_eq!(get(told, "/").status, 200);
    assert_eq!(terrace.event("listening")["message"], url.as_str());
}

#[test]
fn the_dashboards_port_stays_over_a_restart_also_where_nobody_chose_it() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let file = format!("{file}[admin]\nprobes = \"127.0.0.1:0\"\naddress = \"127.0.0.1:0\"\n");
    let dashboard = |terrace: &Terrace<'_>| {
        let url = terrace.status()["dashboard"].as_str().map(str::to_owned).expect("it is on");
        let address = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix('/'));
        address.and_then(|text| text.parse::<SocketAddr>().ok()).expect("an address")
    };
    let mut first = world.up(&file);
    let kept = || world.folder.read(".terrace/dashboard.address");
    assert_eq!(kept().trim(), dashboard(&first).to_string(), "where it is, is kept");
    assert!(first.stop().success());
    // One that nobody else takes meanwhile.
    let port = Port::reserve();
    world.folder.write(".terrace/dashboard.address", &port.to_string());
    let mut second = world.up(&file);
    assert_eq!(dashboard(&second), port.address(), "who has it open finds it again");
    assert!(second.stop().success());
    let _taken = TcpListener::bind(port.address()).expect("it is free while no Terrace runs");
    assert_ne!(dashboard(&world.up(&file)), port.address(), "somebody else has it by now");
}

#[test]
fn an_address_that_a_browser_is_given_as_an_argument_is_good_for_its_user_alone() {
    let world = world();
    let given = world.folder.join("given");
    let script = format!("#!/bin/sh\nprintf %s \"$1\" > '{}'\n", given.display());
    for opener in ["bin/xdg-open", "bin/open"] {
        let path = world.folder.write(opener, &script);
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).expect("it is ours");
    }
    let path =
        format!("{}:{}", world.folder.join("bin").display(), std::env::var("PATH").unwrap_or_default());
    let world = world.with_variable("PATH", &path);
    let (_port, _, file) = shop(&world, 1);
    let api = Port::reserve();
    let admin = format!("[admin]\nprobes = false\naddress = \"{api}\"\n");
    let terrace = world.up(&format!("{file}{admin}"));
    let printed = terrace.command(&["dashboard", "--open"]).ok();
    let code = |url: &str| {
        let (_, rest) = url.split_once("code=").expect("it has a code");
        rest.chars().take_while(char::is_ascii_hexdigit).collect::<String>()
    };
    let (printed, given) = (code(&printed), code(&world.folder.read("given")));
    assert_ne!(printed, given, "what is printed is seen by nobody else, and may be opened elsewhere");
    let url = format!("http://{api}/login");
    let curl = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-d"];
    let bring = |before: &[&str], code: &str| {
        let form = format!("code={code}");
        let words = [before, &curl, &[form.as_str(), &url]].concat();
        world.run(words[0], &words[1..]).ok()
    };
    // Only root can be somebody else.
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    if world.run(nobody[0], &[&nobody[1..], &["true"]].concat()).code == Some(0) {
        assert_eq!(bring(&nobody, &given), "401");
        assert_eq!(bring(&nobody, &printed), "303");
    }
    assert_eq!(bring(&[], &given), "303", "what somebody else tried is still good for its own");
    assert_eq!(bring(&[], &given), "401", "once");
}

#[test]
fn whoever_guesses_tokens_does_not_wash_the_log_away_and_is_counted() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let api = Port::reserve();
    let admin = format!("[admin]\nprobes = \"127.0.0.1:0\"\naddress = \"{api}\"\n");
    let terrace = world.up(&format!("{file}{admin}"));
    let guess = || {
        let request = Request::get("/v1/status").with("Host", &api.to_string());
        request.with("Authorization", "Bearer a-token-that-is-a-guess").send(api.address()).status
    };
    (0..200).for_each(|_| assert_eq!(guess(), 401));
    assert_eq!(terrace.counted("terrace_admin_refused_total"), 200.0);
    let told = terrace.events().into_iter().filter(|event| event["event"] == "admin.refused").count();
    // Ten a minute; on a machine so slow that this takes some minutes, some times ten.
    assert!((1..=100).contains(&told), "{told} are told");
}

#[test]
fn who_changed_what_is_on_record() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let terrace = world.up(&file);
    terrace.command(&["scale", "web", "2"]).ok();
    terrace.reload_with("[service.web]\nrum = \"x\"\n").refused();
    world.write(&file);
    terrace.command(&["restart", "web"]).ok();
    let text = world.folder.read(".terrace/audit.log");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told: Vec<_> = lines.iter().map(|line| (line["action"].as_str(), line["outcome"].as_str())).collect();
    assert_eq!(
        told,
        [(Some("scale"), Some("done")), (Some("reload"), Some("refused")), (Some("restart"), Some("done"))]
    );
    assert_eq!(lines[0]["instances"], 2);
    assert!(lines.iter().all(|line| line["who"]["uid"].is_u64() && line["who"]["pid"].is_u64()));
    assert_eq!(mode(&world.folder.join(".terrace/audit.log")), 0o600);
}

/// In a file, in an env-file, as the admin token, and in the clear in `terrace.toml`.
const SECRETS: [&str; 4] = ["s3cret-of-a-file", "s3cret-of-an-env-file", TOKEN, "s3cret-in-the-clear"];

#[test]
fn secrets_appear_nowhere() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let api = Port::reserve();
    let file = with_secrets(&world, &file, &api);
    let terrace = world.up(&file);
    assert_eq!(get(address, "/env?name=PASSWORD").text(), SECRETS[0]);
    assert_eq!(get(address, "/env?name=API_KEY").text(), SECRETS[1]);
    let mut shown = commands(&terrace);
    let config = Request::get("/v1/config").with("Host", &api.to_string());
    let config = config.with("Authorization", &format!("Bearer {TOKEN}")).send(api.address());
    assert_eq!(config.status, 200);
    shown.push(("/v1/config".to_owned(), config.text()));
    shown.push(("metrics".to_owned(), get(probes(&terrace), "/metrics").text()));
    // Wrong in a line of its own, and in the line of a secret; then right, with another one.
    let wrong = file.replace("env-file", "env-fil").replace("PLAIN =", "NUMBER = 7, PLAIN =");
    shown.push(("a refused reload".to_owned(), terrace.reload_with(&wrong).refused()));
    shown.push(("a reload".to_owned(), terrace.reload_with(&file.replace("clear\"", "clear-2\"")).ok()));
    terrace.event("fleet.rollout.done");
    shown.push(("standard error".to_owned(), terrace.stderr()));
    shown.push(("standard output".to_owned(), terrace.stdout()));
    shown.extend(texts(&world.folder.join(".terrace")));
    for (place, text) in shown {
        // What stands in the file itself is no secret to whom the file's own content is shown.
        let is_the_file = place.starts_with("check") || place == "/v1/config";
        for secret in &SECRETS[..if is_the_file { 3 } else { 4 }] {
            assert!(!text.contains(secret), "{secret} stands in {place}:\n{text}");
        }
    }
}

#[test]
fn what_looks_like_a_secret_is_not_shown_although_it_stands_in_the_file_in_plain() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let file = format!(
        "{file}env = {{ DB_PASSWORD = \"s3cret-1\", DB = \"postgres://app:s3cret-2@db/shop\", MODE = \"production\" }}\n\
         [notify.oncall]\nwebhook = \"https://oncall.example.com/alerts\"\n\
         headers = {{ X-Oncall-Key = \"s3cret-3\", User-Agent = \"our-shop\" }}\n\
         [otlp]\nexport = {{ to = \"https://otlp.example.com\", headers = {{ x-team = \"s3cret-4\" }} }}\n"
    );
    world.write(&file);
    for how in [&["check"][..], &["check", "--explain"], &["check", "--json"]] {
        let told = world.terrace(how).ok();
        assert!(!told.contains("s3cret"), "{how:?}: {told}");
        assert_eq!(told.matches("•••").count(), 4, "that there is something is shown: {told}");
        assert!(told.contains("production") && told.contains("our-shop"), "{told}");
    }
}

fn with_secrets(world: &World, file: &str, api: &Port) -> String {
    world.folder.write("password", SECRETS[0]);
    world.folder.write("app.env", &format!("API_KEY={}\n", SECRETS[1]));
    world.folder.write("token", SECRETS[2]);
    format!(
        "{file}env = {{ PASSWORD = {{ file = \"password\" }}, PLAIN = \"{}\" }}\nenv-file = \"app.env\"\n\
         [admin]\nprobes = \"127.0.0.1:0\"\naddress = \"{api}\"\ntoken = {{ file = \"token\" }}\n",
        SECRETS[3]
    )
}

/// What the commands print that show something.
fn commands(terrace: &Terrace<'_>) -> Vec<(String, String)> {
    let commands = [
        "status",
        "status --json",
        "check",
        "check --json",
        "check --explain",
        "logs web",
        "logs web --json",
    ];
    let print = |command: &str| terrace.command(&command.split(' ').collect::<Vec<_>>()).ok();
    commands.map(|command| (command.to_owned(), print(command))).to_vec()
}

#[test]
fn the_state_folder_is_for_its_owner_alone() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let _terrace = world.up(&file);
    assert_eq!(mode(&world.folder.join(".terrace")), 0o700);
    for entry in walk(&world.folder.join(".terrace")) {
        assert_eq!(mode(&entry) & 0o077, 0, "{} can be read by others", entry.display());
    }
}

#[test]
fn logs_are_followed_line_by_line() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let terrace = world.up(&file);
    see(address, "/print?line=before");
    until_true("it is known", || terrace.command(&["logs", "web"]).ok().contains("before"));
    let following = world.start_with(&["logs", "web", "-f", "--json"]);
    until_true("the past comes first", || following.stdout().contains("before"));
    see(address, "/print?line=after");
    let line = until("the present follows", || {
        following.access().into_iter().find(|line| line["message"] == "after")
    });
    assert!(line["instance"].as_str().is_some_and(|name| name.starts_with("web-")), "{line}");
    assert_eq!((&line["service"], &line["stream"]), (&"web".into(), &"stdout".into()));
    let told = terrace.event("app.output");
    assert_eq!(told["service"], "web");
}

#[test]
fn logs_are_found_by_level_trace_text_and_time() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let line = format!(r#"{{"level":"error","msg":"no stock","trace_id":"{TRACE}","left":0}}"#);
    let run = format!("['sh', '-c', '''echo WARN slow; echo '{line}'; echo listening; exec sleep 600''']");
    let mailer = format!("[service.mailer]\nrun = {run}\nworker = true\n");
    let terrace = world.up(&format!("{file}{mailer}[route.all]\nat = \"/*\"\nto = \"web\"\n"));
    let logs = |asked: &[&str]| terrace.command(&[&["logs"], asked].concat()).ok();
    until_true("all is said", || logs(&["mailer", "--text", "listening"]).contains("listening"));
    let errors = logs(&["mailer", "--level", "error"]);
    assert!(errors.contains("error mailer-1       no stock left=0 trace_id=4bf92f"), "{errors}");
    assert!(!errors.contains("slow"), "{errors}");
    assert!(logs(&["--level", "warn", "--instance", "mailer-1"]).contains("WARN slow"));
    let of_trace = logs(&["--trace", TRACE, "--json"]);
    let record: Value = serde_json::from_str(of_trace.trim()).expect("one record");
    assert_eq!((&record["message"], &record["fields"]["left"]), (&"no stock".into(), &0.into()));
    assert_eq!(logs(&["mailer", "--text", "NO STOCK", "--since", "1h"]).matches("no stock").count(), 1);
    assert_eq!(logs(&["mailer", "--until", "1h"]), "");
    assert!(logs(&["mailer", "--since", "1h"]).contains("are not in memory"));
    assert!(logs(&["terrace"]).contains("every service is ready"));
    let told = terrace.command(&["logs", "mailr"]).refused();
    assert!(told.contains("there is no service `mailr`; did you mean `mailer`?"), "{told}");
    let written = terrace.events().into_iter().find(|event| event["message"] == "no stock");
    let written = written.expect("it is written");
    assert_eq!((&written["level"], &written["fields"]["left"]), (&"error".into(), &0.into()));
}

#[test]
fn status_is_something_that_a_person_can_read() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let terrace = world.up(&file);
    let told = terrace.command(&["status"]).ok();
    assert!(told.contains(&format!("http://{address}")), "{told}");
    assert!(told.contains("2 of 2 ready") && told.contains("web-1") && told.contains("web-2"), "{told}");
    let whole = terrace.status();
    assert_eq!(whole["pid"], terrace.pid());
    assert_eq!(whole["not_ready"], serde_json::json!([]));
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o777
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("it can be read").flatten();
    entries
        .flat_map(|entry| {
            let path = entry.path();
            let inner = if path.is_dir() { walk(&path) } else { Vec::new() };
            std::iter::once(path).chain(inner)
        })
        .collect()
}

fn texts(folder: &Path) -> Vec<(String, String)> {
    let files = walk(folder).into_iter().filter(|path| path.is_file());
    let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    files.map(|path| (path.display().to_string(), text(&path))).collect()
}

/// Asks for it; what comes is not what the test is about.
fn see(address: SocketAddr, target: &str) {
    let _answer = get(address, target);
}
