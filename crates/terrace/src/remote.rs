//! The commands that talk to a running Terrace, through the socket in its state folder, and how their answers look to a
//! person.

mod alerts;
mod dashboard;
mod fault;
mod keys;
mod logs;
mod totp;
mod traces;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use terrace_admin::client::{self, ClientError, encoded};
use terrace_instruments::Timestamp;
use terrace_runtime::clock;
use terrace_telemetry::for_terminal;

use crate::cli::{Alerts, Dashboard, Drain, Fault, Global, Keys, Logs, Totp, Traces};
use crate::figures::age;
use crate::file;

/// Failures in a row from which on somebody who answered before counts as failing.
const FAILING_FROM: u64 = 3;

/// What is asked of a running Terrace.
pub(crate) enum Ask<'a> {
    Status,
    /// With the time for which the roll-out is waited for.
    Reload(Option<Duration>),
    Scale(&'a str, u32),
    Restart(&'a str),
    Drain(&'a Drain),
    Fault(&'a Fault),
    Keys(&'a Keys),
    Totp(&'a Totp),
    Dashboard(&'a Dashboard),
    Alerts(&'a Alerts),
    Traces(&'a Traces),
    Logs(&'a Logs),
    Stop,
}

/// Asks the Terrace that was started with `file`, and prints the answer.
pub(crate) fn run(file: &Path, ask: &Ask<'_>, global: &Global) -> ExitCode {
    match wait_for(answer(&socket(file), ask, global)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => refuse(&error, global),
    }
}

/// Runs a command to its end.
pub(crate) fn wait_for<T>(command: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("invariant: a process that could be started gets an epoll descriptor");
    runtime.block_on(command)
}

/// Says why there is no answer.
pub(crate) fn refuse(error: &ClientError, global: &Global) -> ExitCode {
    let label = if global.colours_errors() { "\x1b[1;31merror\x1b[0m" } else { "error" };
    match global.json {
        true => eprintln!("{}", json!({ "error": error.to_string() })),
        false => eprintln!("{label}: {}", sentence(error)),
    }
    ExitCode::FAILURE
}

/// The sentence alone: what kind of refusal it was, a person sees. The problems of a file begin with their own label.
pub(crate) fn sentence(error: &ClientError) -> String {
    let sentence = match error {
        ClientError::Refused(refused) => refused.detail.clone(),
        other => other.to_string(),
    };
    sentence.strip_prefix("error: ").unwrap_or(&sentence).trim_end().to_owned()
}

/// Prints the answer as it is for programs, else as `text` makes it.
fn print(global: &Global, value: &Value, text: impl FnOnce(Paint) -> String) {
    let _nobody_reads = say(&match global.json {
        true => format!("{value:#}\n"),
        false => text(Paint(global.colours_output())),
    });
}

/// The socket in the state folder that the file names. A file that is wrong by now still leads there, as long as it says
/// nothing about the folder.
pub(crate) fn socket(file: &Path) -> PathBuf {
    let file = &std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let state = match file::load_here(file, None) {
        Ok(loaded) => loaded.resolved.terrace.state_folder,
        Err(_) => file.parent().unwrap_or_else(|| Path::new("")).join(".terrace"),
    };
    client::socket_path(&state)
}

/// Says whether what was asked for went well, where the answer can tell.
async fn answer(socket: &Path, ask: &Ask<'_>, global: &Global) -> Result<bool, ClientError> {
    let value = match ask {
        Ask::Logs(logs) => return logs::print(socket, logs, global).await.map(|()| true),
        Ask::Alerts(alerts) => return alerts::run(socket, alerts, global).await,
        Ask::Fault(fault) => return fault::run(socket, fault, global).await.map(|()| true),
        Ask::Keys(keys) => return keys::run(socket, keys, global).await.map(|()| true),
        Ask::Totp(totp) => return totp::run(socket, totp, global).await.map(|()| true),
        Ask::Traces(traces) => return traces::run(socket, traces, global).await.map(|()| true),
        Ask::Dashboard(dashboard) => {
            return dashboard::run(socket, dashboard, global).await.map(|()| true);
        }
        Ask::Drain(drain) => {
            let path = format!(
                "/v1/services/{}/instances/{}/drain",
                encoded(&drain.service),
                encoded(&drain.instance)
            );
            client::request(socket, "POST", &path, Some(&json!({ "out": !drain.undo }))).await?
        }
        Ask::Status => client::request(socket, "GET", "/v1/status", None).await?,
        Ask::Reload(wait) => {
            let body = wait.map(|wait| json!({ "wait_seconds": wait.as_secs_f64() }));
            client::request(socket, "POST", "/v1/reload", body.as_ref()).await?
        }
        Ask::Stop => client::request(socket, "POST", "/v1/stop", None).await?,
        Ask::Restart(service) => {
            let path = format!("/v1/services/{service}/restart");
            client::request(socket, "POST", &path, None).await?
        }
        Ask::Scale(service, instances) => {
            let path = format!("/v1/services/{service}/scale");
            client::request(socket, "POST", &path, Some(&json!({ "instances": instances }))).await?
        }
    };
    print(global, &value, |paint| text(ask, &value, paint));
    if matches!(ask, Ask::Stop) {
        // So that `terrace stop && terrace up` works. Where this cannot be waited for, it was asked to stop all the same.
        let _gone = client::wait_until_gone(socket);
    }
    Ok(true)
}

/// Prints. An error means that nobody reads it any more (`terrace logs -f | head`), which is no failure of ours.
fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn text(ask: &Ask<'_>, value: &Value, paint: Paint) -> String {
    match ask {
        Ask::Status => status(value, paint),
        Ask::Reload(wait) => {
            let done = if wait.is_some() { "every service runs as the file says\n" } else { "" };
            format!("{}\n{done}", value["summary"].as_str().unwrap_or("reloaded"))
        }
        Ask::Stop => "stopping; requests in flight finish first\n".to_owned(),
        Ask::Scale(service, _) | Ask::Restart(service) => {
            format!("{service}: {} of {} ready\n", value["ready"], value["desired"])
        }
        Ask::Drain(drain) => drained(drain, value),
        Ask::Logs(_)
        | Ask::Alerts(_)
        | Ask::Traces(_)
        | Ask::Dashboard(_)
        | Ask::Fault(_)
        | Ask::Keys(_)
        | Ask::Totp(_) => String::new(),
    }
}

fn drained(drain: &Drain, value: &Value) -> String {
    match drain.undo {
        true => format!("{} gets requests again\n", drain.instance),
        false => format!(
            "{} gets no new requests; {} in flight and {} streams there go on\n",
            drain.instance, value["in_flight"], value["streams"]
        ),
    }
}

/// Status as a table.
fn status(value: &Value, paint: Paint) -> String {
    let mut out = String::new();
    let uptime = age(value["uptime_seconds"].as_u64().unwrap_or_default());
    let version = value["version"].as_str().unwrap_or_default();
    let _infallible = writeln!(out, "Terrace {version}, pid {}, up {uptime}", value["pid"]);
    for listener in values(&value["listeners"]) {
        let urls: Vec<&str> = values(&listener["urls"]).filter_map(Value::as_str).collect();
        let name = listener["name"].as_str().unwrap_or_default();
        let _infallible = writeln!(out, "  {name:<12} {}", paint.bold(&urls.join(" ")));
    }
    if let Some(dashboard) = value["dashboard"].as_str() {
        let hint = paint.faint("(terrace dashboard lets you in)");
        let _infallible = writeln!(out, "  {:<12} {dashboard} {hint}", "dashboard");
    }
    if let Some(probes) = value["probes"].as_str() {
        let _infallible = writeln!(out, "  {:<12} http://{probes}/metrics", "probes");
    }
    for service in values(&value["services"]) {
        out.push('\n');
        push_service(&mut out, service, paint);
    }
    for reason in values(&value["not_ready"]).filter_map(Value::as_str) {
        let _infallible = writeln!(out, "\n{}", paint.bad(reason));
    }
    for broken in values(&value["faults"]) {
        let sentence = fault::sentence(broken, clock::wall());
        let _infallible = writeln!(out, "\non purpose: {}", paint.bad(&sentence));
    }
    out
}

fn push_service(out: &mut String, service: &Value, paint: Paint) {
    let fleet = &service["fleet"];
    let name = service["name"].as_str().unwrap_or_default();
    let kind = service["kind"].as_str().unwrap_or_default();
    let state = match fleet["state"].as_str() {
        Some(state) => format!("{}, {}", ready(service), paint.state(state)),
        None => kind.to_owned(),
    };
    let gate = match service["breaker"].as_str() {
        Some("open") => paint.bad(", breaker open: clients get 503"),
        Some("half_open") => paint.bad(", breaker half-open: all but a probe at a time get 503"),
        _ => String::new(),
    };
    let _infallible = writeln!(out, "{} {state}{gate}", paint.bold(&format!("{name:<14}")));
    for reason in fleet["reason"].as_str().into_iter().flat_map(str::lines) {
        let _infallible = writeln!(out, "  {}", paint.bad(&for_terminal(reason, false)));
    }
    let mut endpoints: Vec<&Value> = values(&service["endpoints"]).collect();
    for instance in values(&fleet["instances"]) {
        let at = endpoints.iter().position(|endpoint| endpoint["name"] == instance["name"]);
        let endpoint = at.map(|at| endpoints.remove(at));
        push_instance(out, instance, endpoint, paint);
    }
    for endpoint in endpoints {
        push_endpoint(out, endpoint, paint);
    }
}

fn push_instance(out: &mut String, instance: &Value, endpoint: Option<&Value>, paint: Paint) {
    let name = instance["name"].as_str().unwrap_or_default();
    let state = paint.state(&format!("{:<9}", shown_state(instance, endpoint)));
    let uptime = age(instance["uptime_seconds"].as_u64().unwrap_or_default());
    let pid = instance["pid"].as_u64().map_or_else(String::new, |pid| format!("pid {pid}"));
    let port = instance["port"].as_u64().map_or_else(String::new, |port| format!("port {port}"));
    let load = endpoint.map(load).unwrap_or_default();
    let restarts = match instance["restarts"].as_u64().unwrap_or_default() {
        0 => String::new(),
        count => format!(", restarted {count}×"),
    };
    let _infallible = writeln!(out, "  {name:<14} {state} {pid:<11} {port:<11} up {uptime}{restarts}{load}");
    if let Some(exit) = instance["last_exit"].as_str() {
        let _infallible = writeln!(out, "    {}", paint.faint(&format!("last exit: {exit}")));
    }
}

/// `1 of 2 ready, 1 ejected`: an instance that is well by its own account and gets no requests is not counted as ready.
fn ready(service: &Value) -> String {
    let fleet = &service["fleet"];
    let mut out_of_use: BTreeMap<&str, u64> = BTreeMap::new();
    for instance in values(&fleet["instances"]).filter(|instance| instance["state"] == "ready") {
        let endpoint = values(&service["endpoints"]).find(|endpoint| endpoint["name"] == instance["name"]);
        match shown_state(instance, endpoint) {
            "ready" => {}
            other => *out_of_use.entry(other).or_default() += 1,
        }
    }
    let ready = fleet["ready"].as_u64().unwrap_or_default().saturating_sub(out_of_use.values().sum());
    let mut text = format!("{ready} of {} ready", fleet["desired"]);
    for (state, count) in out_of_use {
        let _infallible = write!(text, ", {count} {state}");
    }
    text
}

/// What matters of an instance: that it runs, or why it gets no requests although it does.
fn shown_state<'a>(instance: &'a Value, endpoint: Option<&'a Value>) -> &'a str {
    let state = instance["state"].as_str().unwrap_or_default();
    match endpoint {
        Some(endpoint) if state == "ready" && endpoint["is_drained"] == true => "drained",
        Some(endpoint) if state == "ready" && endpoint["ejected_for_seconds"].is_number() => "ejected",
        Some(endpoint) if state == "ready" && endpoint["health"] == "down" => "unhealthy",
        Some(endpoint) if state == "ready" && is_failing(endpoint) => "failing",
        _ => state,
    }
}

/// Whether whatever it was asked of late failed. One failure among answers is none of that.
fn is_failing(endpoint: &Value) -> bool {
    let failures = endpoint["failures_in_row"].as_u64().unwrap_or_default();
    failures >= FAILING_FROM || (failures > 0 && endpoint["latency_ms"].is_null())
}

fn push_endpoint(out: &mut String, endpoint: &Value, paint: Paint) {
    let name = endpoint["name"].as_str().unwrap_or_default();
    let is_known = endpoint["health"] == "up" || endpoint["latency_ms"].is_number();
    let state = match (endpoint["in_rotation"].as_bool(), endpoint["ejected_for_seconds"].as_f64()) {
        _ if endpoint["is_drained"] == true => paint.state("drained"),
        (_, Some(seconds)) => paint.bad(&format!("ejected for {seconds:.0} s")),
        (Some(true), None) if is_failing(endpoint) => paint.bad("failing"),
        (Some(true), None) if is_known => paint.state("ready"),
        (Some(true), None) => paint.faint("not asked yet"),
        _ => paint.bad(endpoint["health"].as_str().unwrap_or("out")),
    };
    let _infallible = writeln!(out, "  {name:<22} {state}{}", load(endpoint));
}

fn load(endpoint: &Value) -> String {
    let mut text = match endpoint["latency_ms"].as_f64() {
        Some(latency) if latency >= 1e3 => format!(", last answer after {:.1} s", latency / 1e3),
        Some(latency) => format!(", last answer after {latency:.1} ms"),
        None => String::new(),
    };
    for (key, unit) in [("in_flight", "in flight"), ("streams", "streams")] {
        if let Some(count) = endpoint[key].as_u64().filter(|count| *count > 0) {
            let _infallible = write!(text, ", {count} {unit}");
        }
    }
    text
}

fn values(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A moment, written as RFC 3339 in UTC: the time of day, behind the day unless that is today.
fn moment(time: &str, now: SystemTime) -> String {
    let plain = for_terminal(time.trim_end_matches('Z'), false);
    let today = Timestamp::default().format(now)[..10].to_owned();
    match plain.split_once('T') {
        Some((day, of_day)) if day == today => of_day.to_owned(),
        _ => plain.replace('T', " "),
    }
}

/// [`moment`] without the parts of a second.
fn second(time: &str, now: SystemTime) -> String {
    moment(time.get(.."2026-01-31T12:00:00".len()).unwrap_or(time), now)
}

/// Colours, where they are wanted.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// Padded to the longest of them.
    fn level(self, level: &str) -> String {
        let padded = format!("{level:5}");
        match level {
            "error" => self.with("1;31", &padded),
            "warn" => self.with("33", &padded),
            "debug" => self.faint(&padded),
            _ => self.with("32", &padded),
        }
    }

    fn state(self, state: &str) -> String {
        let code = match state.trim_end() {
            "ready" | "running" => "32",
            "crash-loop" | "rollout-failed" | "ejected" | "unhealthy" | "failing" => "31",
            _ => "33",
        };
        self.with(code, state)
    }

    /// A name in a colour of its own, the same every time.
    fn name(self, name: &str, shown: &str) -> String {
        const CODES: [&str; 6] = ["36", "35", "34", "33", "32", "96"];
        let sum: usize = name.bytes().map(usize::from).sum();
        self.with(CODES[sum % CODES.len()], shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_app_prints_cannot_command_the_terminal() {
        let fleet =
            json!({ "state": "crash-loop", "ready": 0, "desired": 1, "reason": "it said:\n\u{1b}[2Jno" });
        let shown = status(&json!({ "services": [{ "name": "web", "fleet": fleet }] }), Paint(false));
        assert!(shown.contains("  it said:\n  [2Jno\n"), "{shown}");
    }
}
