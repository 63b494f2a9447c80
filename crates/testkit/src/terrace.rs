//! A Terrace that runs, as its user has it: the command line, the file, what it prints.

use std::process::{Child, ExitStatus};

use serde_json::Value;

use crate::http::get;
use crate::processes::{Signal, signal};
use crate::wait::until;
use crate::world::World;

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Done {
    /// The exit status; `None`: by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Done {
    /// Its standard output, when it went well.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Its standard error, when it went badly.
    ///
    /// # Panics
    /// When it went well.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(self.code.is_some_and(|code| code > 0), "it went well: {}{}", self.stdout, self.stderr);
        self.stderr
    }
}

/// A running Terrace. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Terrace<'w> {
    world: &'w World,
    child: Child,
    out: String,
    err: String,
}

impl<'w> Terrace<'w> {
    pub(crate) fn new(world: &'w World, child: Child, out: String, err: String) -> Self {
        Self { world, child, out, err }
    }

    /// Waits until it says that every service is ready.
    ///
    /// # Panics
    /// When it ends instead.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        until("terrace is ready", || {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                panic!("terrace ended with {status}:\n{}", self.stderr());
            }
            self.has_event("ready").then_some(())
        });
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// What it has printed to standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.world.folder.read(&self.err)
    }

    /// What it has printed to standard output.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.world.folder.read(&self.out)
    }

    /// The events it has told of.
    ///
    /// # Panics
    /// When a whole line is no JSON.
    #[track_caller]
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        json_lines(&self.stderr())
    }

    /// The lines of its access log.
    ///
    /// # Panics
    /// When a whole line is no JSON.
    #[track_caller]
    #[must_use]
    pub fn access(&self) -> Vec<Value> {
        json_lines(&self.stdout())
    }

    /// Whether an event of that name was told.
    #[track_caller]
    #[must_use]
    pub fn has_event(&self, name: &str) -> bool {
        self.events().iter().any(|event| event["event"] == name)
    }

    /// Waits for an event of that name, and returns the first.
    #[track_caller]
    pub fn event(&self, name: &str) -> Value {
        let find = || self.events().into_iter().find(|event| event["event"] == name);
        until(&format!("terrace tells of {name}"), find)
    }

    /// Runs `terrace` with these arguments, to its end.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> Done {
        self.world.terrace(arguments)
    }

    /// `terrace status --json`
    ///
    /// # Panics
    /// When it cannot be had.
    #[track_caller]
    #[must_use]
    pub fn status(&self) -> Value {
        let text = self.command(&["status", "--json"]).ok();
        serde_json::from_str(&text).expect("the status is JSON")
    }

    /// What the admin API answers to `GET` of this path, over the socket in the state folder.
    ///
    /// # Panics
    /// When it is no JSON.
    #[track_caller]
    #[must_use]
    pub fn ask(&self, path: &str) -> Value {
        let url = format!("http://localhost{path}");
        let told = self.world.run("curl", &["-sSg", "--unix-socket", ".terrace/admin.sock", &url]).ok();
        match serde_json::from_str(&told) {
            Ok(value) => value,
            Err(error) => panic!("{path} is no JSON ({error}): {told}"),
        }
    }

    /// Its metrics as Prometheus reads them.
    ///
    /// # Panics
    /// When probes are off.
    #[track_caller]
    #[must_use]
    pub fn metrics(&self) -> String {
        let probes = self.status()["probes"].as_str().and_then(|text| text.parse().ok());
        get(probes.expect("probes are on"), "/metrics").text()
    }

    /// The sum of its samples whose line begins so; of a counter, what it has counted. None is 0.
    #[track_caller]
    #[must_use]
    pub fn counted(&self, series: &str) -> f64 {
        let text = self.metrics();
        let lines = text.lines().filter(|line| line.starts_with(series));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// One service of the status.
    ///
    /// # Panics
    /// When there is none of that name.
    #[track_caller]
    #[must_use]
    pub fn service(&self, name: &str) -> Value {
        let status = self.status();
        let services = status["services"].as_array().cloned().unwrap_or_default();
        match services.into_iter().find(|service| service["name"] == name) {
            Some(service) => service,
            None => panic!("no service {name} in {status:#}"),
        }
    }

    /// The processes of a service's instances, by name.
    #[track_caller]
    #[must_use]
    pub fn pids(&self, service: &str) -> Vec<(String, i32)> {
        let service = self.service(service);
        let instances = service["fleet"]["instances"].as_array().cloned().unwrap_or_default();
        let pid = |instance: &Value| {
            Some((instance["name"].as_str()?.to_owned(), instance["pid"].as_i64()? as i32))
        };
        instances.iter().filter_map(pid).collect()
    }

    /// Writes another file and takes it over.
    #[track_caller]
    pub fn reload_with(&self, file: &str) -> Done {
        self.world.write(file);
        self.command(&["reload"])
    }

    /// Kills it: nothing of it runs on, but for what is meant to.
    ///
    /// # Panics
    /// When it does not end.
    pub fn kill(&mut self) {
        signal(self.pid(), Signal::KILL);
        let _status = self.wait();
    }

    /// Sends it a signal.
    pub fn signal(&self, what: Signal) {
        signal(self.pid(), what);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        until("terrace has ended", || self.child.try_wait().expect("it is our child"))
    }

    /// Asks it to end, as `systemctl stop` does, and waits.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for Terrace<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let told = self.stderr();
            let lines: Vec<&str> = told.lines().collect();
            let last = lines[lines.len().saturating_sub(40)..].join("\n");
            let _stderr = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("the last that terrace said:\n{last}\n").as_bytes(),
            );
            let _gone_already = self.child.kill();
        } else if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // Asked twice, it does not wait for what is in flight; the shims end their instances by themselves.
            self.signal(Signal::TERM);
        }
        let _status = self.child.wait();
    }
}

#[track_caller]
fn json_lines(text: &str) -> Vec<Value> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line: &str| match serde_json::from_str(line) {
        Ok(value) => value,
        Err(error) => panic!("a line that is no JSON ({error}): {line}"),
    };
    whole.lines().map(parse).collect()
}
