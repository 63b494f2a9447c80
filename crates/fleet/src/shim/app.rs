//! The app under a shim: started as the leader of a process group, found again with all that it started, and ended.
//!
//! The shim is a subreaper, so whatever the app leaves behind becomes the shim's own child: as long as `wait` knows a
//! child something is left, and when it knows none nothing is. That also finds daemons that left the group.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use terrace_runtime::spawn::{self, Identity};

use super::processes;
use super::protocol::{Exit, Launch};

/// The running app.
#[derive(Debug)]
pub(crate) struct App {
    pid: Pid,
    /// Becomes readable when the first process ends; absent where the kernel has no such thing.
    pidfd: Option<OwnedFd>,
    exit: Option<Exit>,
    nothing_left: bool,
}

/// The reading ends of the app's output.
pub(crate) struct Pipes {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

impl App {
    /// Starts the app.
    ///
    /// # Errors
    /// A sentence that says why it could not be started.
    pub(crate) fn start(launch: &Launch) -> Result<(Self, Pipes), String> {
        let mut command = command(launch)?;
        let mut child = command.spawn().map_err(|error| why_not(launch, &error))?;
        let pid = Pid::from_child(&child);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let pipes = Pipes {
            stdout: stdout.expect("it was started with a pipe").into(),
            stderr: stderr.expect("it was started with a pipe").into(),
        };
        Ok((Self { pid, pidfd: pidfd(pid), exit: None, nothing_left: false }, pipes))
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    pub(crate) fn pidfd(&self) -> Option<&OwnedFd> {
        match self.exit {
            None => self.pidfd.as_ref(),
            Some(_) => None,
        }
    }

    /// How the first process ended.
    pub(crate) fn exit(&self) -> Option<&Exit> {
        self.exit.as_ref()
    }

    /// Whether the first process has ended and nothing that it started is left.
    pub(crate) fn is_over(&self) -> bool {
        self.exit.is_some() && self.nothing_left
    }

    /// Collects what ended since the last call.
    pub(crate) fn reap(&mut self) {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.pid => {
                    self.exit =
                        Some(Exit { code: status.exit_status(), signal: status.terminating_signal() });
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return,
                Err(_) => return self.note_childless(),
            }
        }
    }

    /// Signals the group and every descendant outside of it. Errors mean that somebody ended meanwhile.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.exit.is_none() || !processes::KNOWS_DESCENDANTS {
            let _ended_meanwhile = rustix::process::kill_process_group(self.pid, signal);
        }
        for process in processes::descendants(rustix::process::getpid()) {
            // The leader's number cannot be another's while we have not collected it; afterwards the group's can.
            if self.exit.is_some() || process.group != self.pid {
                let _ended_meanwhile = rustix::process::kill_process(process.pid, signal);
            }
        }
    }

    /// Without subreapers a descendant is not our child, so the group is asked.
    fn note_childless(&mut self) {
        self.nothing_left =
            processes::KNOWS_DESCENDANTS || rustix::process::test_kill_process_group(self.pid).is_err();
    }
}

fn command(launch: &Launch) -> Result<Command, String> {
    let Some((program, arguments)) = launch.argv.split_first() else {
        return Err("its command is empty".to_owned());
    };
    let mut command = Command::new(program);
    command.args(arguments).arg0(program).env_clear().current_dir(&launch.folder);
    command.envs(launch.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let identity = launch.identity.clone();
    let identity = identity.map(|who| Identity { user: who.user, group: who.group, groups: who.groups });
    let setup = spawn::Setup { group: true, die_with_parent: true, identity, ..spawn::Setup::default() };
    spawn::prepare(&mut command, setup);
    Ok(command)
}

fn why_not(launch: &Launch, error: &io::Error) -> String {
    let program = launch.argv.first().map(String::as_str).unwrap_or_default();
    let folder = launch.folder.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("command `{program}` was not found (in folder {folder})"),
        io::ErrorKind::PermissionDenied => {
            format!("command `{program}` may not be executed, or folder {folder} not be entered")
        }
        _ => format!("command `{program}` could not be started: {error}"),
    }
}

#[cfg(target_os = "linux")]
fn pidfd(pid: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn pidfd(_pid: Pid) -> Option<OwnedFd> {
    None
}

/// Makes this process the new parent of every orphan among its descendants.
#[cfg(target_os = "linux")]
pub(crate) fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// There is no such thing here: daemons that leave the group are not found.
#[cfg(not(target_os = "linux"))]
pub(crate) fn become_subreaper() -> io::Result<()> {
    Ok(())
}
