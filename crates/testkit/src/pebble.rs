//! An authority that issues certificates by ACME, and a DNS in which every host is this machine: Let's Encrypt's own test
//! server, Debian's `pebble`. It really asks whether a host is ours, at the ports that the test names; and it refuses a
//! twentieth of all good nonces, as it does by default, so that clients learn to live with that.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::app::FOLDER_VARIABLE;
use crate::files::Authority;
use crate::ports::Port;
use crate::wait::{until, until_true};
use crate::world::World;

/// What is asked of it.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// For how long its certificates hold, in seconds; none: five years.
    pub lifetime_seconds: Option<u64>,
    /// An account is opened only with this key: its name, and the key in base64url.
    pub external_account: Option<(String, String)>,
}

/// A running pebble. It is ended when this is dropped.
#[derive(Debug)]
pub struct Pebble<'w> {
    world: &'w World,
    rules: Rules,
    api: Port,
    management: Port,
    dns: Port,
    dns_management: Port,
    /// Where hosts are asked over HTTP, and by TLS.
    asks: (u16, u16),
    processes: Vec<Child>,
}

impl<'w> Pebble<'w> {
    /// Starts one that asks hosts at these two ports, over HTTP and by TLS.
    ///
    /// # Panics
    /// When it is not installed.
    #[must_use]
    pub fn start(world: &'w World, http: &Port, tls: &Port, rules: Rules) -> Self {
        let mut pebble = Self::stopped(world, http, tls, rules);
        pebble.go_on();
        pebble
    }

    /// One that does not run yet.
    #[must_use]
    pub fn stopped(world: &'w World, http: &Port, tls: &Port, rules: Rules) -> Self {
        Authority::new(&folder(world)).sign("api", &["localhost"]);
        Self {
            world,
            rules,
            api: Port::reserve(),
            management: Port::reserve(),
            dns: Port::reserve(),
            dns_management: Port::reserve(),
            asks: (http.number(), tls.number()),
            processes: Vec::new(),
        }
    }

    /// Starts it, with nothing remembered of an earlier run.
    ///
    /// # Panics
    /// When it does not start.
    pub fn go_on(&mut self) {
        let folder = folder(self.world);
        let mut config = serde_json::json!({
            "listenAddress": self.api.to_string(),
            "managementListenAddress": self.management.to_string(),
            "certificate": "api.pem",
            "privateKey": "api.key",
            "httpPort": self.asks.0,
            "tlsPort": self.asks.1,
            "externalAccountBindingRequired": self.rules.external_account.is_some(),
            "domainBlocklist": ["blocked.example"],
        });
        if let Some((id, key)) = &self.rules.external_account {
            config["externalAccountMACKeys"] = serde_json::json!({ id: key });
        }
        if let Some(seconds) = self.rules.lifetime_seconds {
            config["certificateValidityPeriod"] = seconds.into();
        }
        let config = serde_json::json!({ "pebble": config }).to_string();
        self.world.folder.write("pebble/config.json", &config);
        let (dns, dns_management) = (self.dns.to_string(), self.dns_management.to_string());
        let words =
            ["-dns01", &dns, "-management", &dns_management, "-http01", "", "-https01", "", "-tlsalpn01", ""];
        let words = [&words[..], &["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]].concat();
        self.processes.push(spawn(self.world, &folder, "pebble-challtestsrv", &words));
        self.processes.push(spawn(
            self.world,
            &folder,
            "pebble",
            &["-config", "config.json", "-dnsserver", &dns],
        ));
        for port in [&self.dns_management, &self.api, &self.management] {
            until_true("pebble listens (its log is in its folder)", || {
                std::net::TcpStream::connect(port.address()).is_ok()
            });
        }
    }

    /// Ends it; who asks for something finds nobody.
    pub fn stop(&mut self) {
        for mut process in self.processes.drain(..) {
            let _gone_already = process.kill();
            let _status = process.wait();
        }
    }

    /// The lines of a table `[acme]` that leads to it, without the table's head.
    #[must_use]
    pub fn keys(&self) -> String {
        let directory = self.directory();
        format!("directory = \"{directory}\"\nca = \"pebble/authority.pem\"\nagree = true\n")
    }

    /// The URL of its directory.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.api.number())
    }

    /// The certificate with which what it issues is verified; another one after each start.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        let url = format!("https://localhost:{}/roots/0", self.management.number());
        let pem = self.world.run("curl", &["-sS", "--cacert", "pebble/authority.pem", &url]).ok();
        self.world.folder.write("pebble/root.pem", &pem)
    }

    /// Leads a host elsewhere than to this machine's 127.0.0.1.
    ///
    /// # Panics
    /// When it does not run.
    pub fn lead(&self, host: &str, address: &str) {
        let body = serde_json::json!({ "host": format!("{host}."), "addresses": [address] }).to_string();
        for path in ["clear-a", "add-a"] {
            let url = format!("http://{}/{path}", self.dns_management);
            self.world.run("curl", &["-sS", "-f", "-d", &body, &url]).ok();
        }
    }

    /// How many certificates it has been asked for so far, over all its runs; refused nonces do not count.
    #[must_use]
    pub fn orders(&self) -> usize {
        self.said("There are now ").iter().filter(|line| line.ends_with(" orders in the db")).count()
    }

    /// How many certificates it has issued so far, over all its runs.
    #[must_use]
    pub fn issued(&self) -> usize {
        self.said("Issued certificate serial ").len()
    }

    /// How many accounts were opened so far, over all its runs.
    #[must_use]
    pub fn accounts(&self) -> usize {
        self.said("There are now ").iter().filter(|line| line.ends_with(" accounts in memory")).count()
    }

    /// Waits until it has issued so many.
    pub fn wait_for_issued(&self, count: usize) {
        until("pebble has issued certificates", || (self.issued() >= count).then_some(()));
    }

    /// All that it has said.
    #[must_use]
    pub fn log(&self) -> String {
        self.world.folder.read("pebble/pebble.log")
    }

    fn said(&self, part: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }
}

impl Drop for Pebble<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

fn folder(world: &World) -> PathBuf {
    let folder = world.folder.join("pebble");
    std::fs::create_dir_all(&folder).expect("a folder in ours");
    folder
}

fn spawn(world: &World, folder: &Path, program: &str, words: &[&str]) -> Child {
    let log = File::options().create(true).append(true).open(folder.join(format!("{program}.log")));
    let log = log.expect("a file in our folder");
    let mut command = Command::new(program);
    command.args(words).current_dir(folder).env(FOLDER_VARIABLE, world.folder.path());
    // Asked questions are answered at once, and each order is asked about anew.
    command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0").stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a file")).stderr(log);
    match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!("{program} cannot be run ({error}); scripts/prepare.sh test installs it"),
    }
}
