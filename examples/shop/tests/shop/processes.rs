//! Services as child processes that end with the test.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// One running instance.
pub(crate) struct Service {
    child: Child,
    pub(crate) port: u16,
    log: Lines<BufReader<ChildStdout>>,
}

impl Service {
    /// Starts `shop ROLE` with a free port unless `env` names one, and waits until it listens.
    fn start(role: &str, folder: &Path, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
        command.arg(role).env("PORT", "0").env("SHOP_DATA", folder).envs(env.iter().copied());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the shop can be run");
        let log = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
        let mut service = Self { child, port: 0, log };
        let listening = service.wait_for_event("listening");
        service.port = u16::try_from(listening["port"].as_u64().expect("a port")).expect("a port's number");
        service
    }

    /// The next log line of this event.
    pub(crate) fn wait_for_event(&mut self, event: &str) -> Value {
        for line in self.log.by_ref() {
            let line = line.expect("the log can be read");
            let value: Value = serde_json::from_str(&line).expect("every line is JSON");
            assert_ne!(value["event"], "start.failed", "{line}");
            if value["event"] == event {
                return value;
            }
        }
        panic!("the service ended without saying '{event}'");
    }

    /// Asks it to stop, as a supervisor does.
    pub(crate) fn terminate(&self) {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh can be run").success());
    }

    /// Waits for its end, and tells the exit status.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("it is our child").code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("shop-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// All five services, one instance each.
pub(crate) struct Shop {
    pub(crate) auth: Service,
    pub(crate) catalog: Service,
    pub(crate) payments: Service,
    pub(crate) orders: Service,
    pub(crate) web: Service,
    env: Vec<(String, String)>,
    folder: Folder,
}

impl Shop {
    /// Starts them with `env` on top of what they need of each other.
    pub(crate) fn start(env: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in env {
            all.push(((*name).to_owned(), (*value).to_owned()));
        }
        let mut start = |role: &str| {
            let service = Service::start(role, &folder.0, &borrowed(&all));
            let url = format!("http://127.0.0.1:{}", service.port);
            all.push((format!("{}_URL", role.to_uppercase()), url));
            service
        };
        let (auth, catalog, payments) = (start("auth"), start("catalog"), start("payments"));
        let (orders, web) = (start("orders"), start("web"));
        Self { auth, catalog, payments, orders, web, env: all, folder }
    }

    /// One more instance on the same data.
    pub(crate) fn another(&self, role: &str) -> Service {
        self.another_with(role, &[])
    }

    /// One more instance on the same data, with `env` on top.
    pub(crate) fn another_with(&self, role: &str, env: &[(&str, &str)]) -> Service {
        let mut all = borrowed(&self.env);
        all.extend(env);
        Service::start(role, &self.folder.0, &all)
    }
}

fn borrowed(env: &[(String, String)]) -> Vec<(&str, &str)> {
    env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}
