//! A real Redis, Debian's `redis-server`, that a test may kill, freeze, fill up and start again.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::folder::Folder;
use crate::ports::Port;
use crate::wait::until_true;

/// A Redis of a test's own, with nothing on disk unless it is asked for.
#[derive(Debug)]
pub struct Redis {
    folder: Folder,
    port: Port,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Redis {
    /// Starts one, with further arguments of its command line.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut redis = Self { folder: Folder::new(), port: Port::reserve(), arguments, process: None };
        redis.go_on();
        redis
    }

    /// Starts it again after [`Redis::kill`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn go_on(&mut self) {
        let port = self.port.number().to_string();
        let usual = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--logfile", "redis.log"];
        let mut command = Command::new("redis-server");
        command.args(usual).args(&self.arguments).current_dir(self.folder.path());
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(quiet.spawn().expect("redis-server is installed: scripts/prepare.sh test"));
        until_true("Redis answers", || {
            let answer = self.ask(&["PING"]);
            answer == "PONG" || answer.starts_with("NOAUTH")
        });
    }

    /// Kills it with no time to say anything.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _gone_already = process.kill();
            let _status = process.wait();
        }
    }

    /// Stops it from running: connections stay and nobody answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it run again.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.port)
    }

    /// What it answers to a command; an empty text when nobody is there. Not to be asked while it is frozen.
    ///
    /// # Panics
    /// When `redis-cli` is not installed.
    #[must_use]
    pub fn ask(&self, words: &[&str]) -> String {
        let port = self.port.number().to_string();
        let mut command = Command::new("redis-cli");
        command.args(["-p", &port]).args(words).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().expect("redis-cli is installed: scripts/prepare.sh test");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn signal(&self, signal: Signal) {
        let pid = self.process.as_ref().and_then(|process| Pid::from_raw(process.id() as i32));
        let _gone_already = pid.map(|pid| kill_process(pid, signal));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.thaw();
        self.kill();
    }
}
