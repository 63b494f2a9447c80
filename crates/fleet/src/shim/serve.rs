//! The shim's one loop: wait for something, then look at everything.
//!
//! All descriptors are non-blocking, so after each wait every one of them is simply tried; that leaves no path on
//! which something was forgotten. What is bounded: bytes taken from a pipe per turn, lines kept, orders, time.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use terrace_runtime::clock;

use super::app::{App, Pipes};
use super::controller::{Controller, Presence};
use super::lines::Lines;
use super::notify::Notify;
use super::processes;
use super::protocol::{Description, Launch, Order, OutputLine, PROTOCOL, Report, Stream, encode, file_name};
use super::queue::Queue;

/// What an app that ended by itself has started may take this long to end as well.
const LEFTOVERS_GRACE: Duration = Duration::from_secs(2);
/// Bytes taken from a pipe before everything else gets its turn.
const PIPE_BYTES_PER_TURN: usize = 64 * 1024;
/// While something is being ended; nothing wakes us when a grandchild goes.
const TURN_WHILE_ENDING: Duration = Duration::from_millis(20);
/// Otherwise: orphans that ended are collected at least this often.
const TURN_USUAL: Duration = Duration::from_secs(5);
/// Without a pidfd the app's ending is looked for.
const TURN_WITHOUT_PIDFD: Duration = Duration::from_millis(100);

/// How far the ending of the app is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It runs.
    No,
    /// It was asked to end, and will be killed then.
    Asked { kill_at: Duration },
    /// It is being killed.
    Killing,
}

/// One of the app's two streams.
struct Output {
    stream: Stream,
    pipe: Option<fs::File>,
    lines: Lines,
}

/// The files of this shim, named relative to the working folder so that no path is too long for a socket.
struct Files {
    socket: String,
    state: String,
    /// Where the notify socket has a path.
    notify: Option<String>,
}

/// All that a shim holds.
pub(crate) struct Shim {
    facts: Description,
    app: App,
    user: u32,
    outputs: [Output; 2],
    notify: Option<Notify>,
    listener: UnixListener,
    controller: Option<Controller>,
    queue: Queue,
    files: Files,
    ending: Ending,
    stop: (Signal, Duration),
    adopt_within: Duration,
    /// When to end the app because nobody came.
    orphan_at: Option<Duration>,
    /// Nothing is left of the app since; whoever is in control has until then to note it.
    leave_at: Option<Duration>,
    collected: bool,
}

impl Shim {
    /// Starts the app, and listens for successors.
    ///
    /// # Errors
    /// A sentence that says why it could not be; nothing is left behind then.
    pub(crate) fn start(launch: Launch) -> Result<Self, String> {
        let files = Files::new(&launch);
        Self::start_with(&launch, files).inspect_err(|_| Files::new(&launch).remove())
    }

    fn start_with(launch: &Launch, files: Files) -> Result<Self, String> {
        let unusable = |error: io::Error| format!("state folder {}: {error}", launch.instances.display());
        std::env::set_current_dir(&launch.instances).map_err(unusable)?;
        let listener = files.listen().map_err(unusable)?;
        let notify = launch.notify.as_deref().map(Notify::bind).transpose();
        let notify = notify.map_err(|error| format!("its notify socket: {error}"))?;
        let (app, pipes) = App::start(launch)?;
        let facts = describe(launch, &app);
        let stop = (signal(launch.stop_signal), Duration::from_millis(launch.stop_grace_ms));
        let shim = Self {
            user: launch
                .identity
                .as_ref()
                .map_or_else(|| rustix::process::geteuid().as_raw(), |who| who.user),
            outputs: outputs(pipes).map_err(unusable)?,
            adopt_within: Duration::from_millis(launch.adopt_within_ms),
            controller: None,
            queue: Queue::default(),
            ending: Ending::No,
            orphan_at: None,
            leave_at: None,
            collected: false,
            facts,
            app,
            notify,
            listener,
            files,
            stop,
        };
        shim.files.write_state(&shim.facts).map_err(unusable)?;
        Ok(shim)
    }

    /// Serves until nothing is left of the app and that was noted, or nobody came to note it.
    pub(crate) fn serve(mut self, terrace: Controller) -> io::Result<()> {
        self.take_control(terrace);
        while !self.is_over() {
            self.wait()?;
            self.take_output();
            self.take_notifications();
            self.note_exit();
            self.take_orders();
            self.accept();
            self.note_deadlines();
            self.note_gone();
            self.report();
        }
        self.files.remove();
        Ok(())
    }

    fn is_over(&self) -> bool {
        let now = clock::now();
        let orphaned = self.orphan_at.is_some_and(|at| now >= at);
        self.leave_at.is_some_and(|at| self.collected || orphaned || now >= at)
    }

    fn wait(&self) -> io::Result<()> {
        let timeout = Timespec::try_from(self.turn()).expect("a turn is seconds at most");
        let mut watched = vec![PollFd::new(&self.listener, PollFlags::IN)];
        watched.extend(
            self.outputs.iter().flat_map(|output| &output.pipe).map(|pipe| PollFd::new(pipe, PollFlags::IN)),
        );
        watched.extend(self.notify.iter().map(|notify| PollFd::new(notify, PollFlags::IN)));
        watched.extend(self.app.pidfd().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        let more = if self.queue.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        watched.extend(self.controller.iter().map(|terrace| PollFd::new(terrace, PollFlags::IN | more)));
        match poll(&mut watched, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How long to wait at most.
    fn turn(&self) -> Duration {
        let ending = self.ending == Ending::Killing || (self.app.exit().is_some() && self.leave_at.is_none());
        let usual = match self.app.pidfd() {
            _ if ending => TURN_WHILE_ENDING,
            None if self.app.exit().is_none() => TURN_WITHOUT_PIDFD,
            _ => TURN_USUAL,
        };
        let kill_at = if let Ending::Asked { kill_at } = self.ending { Some(kill_at) } else { None };
        let now = clock::now();
        let deadlines = [self.orphan_at, self.leave_at, kill_at].into_iter().flatten();
        // An orphan's deadline that has passed has done its work and must not keep the loop turning.
        let ahead = deadlines.filter(|at| *at > now).map(|at| at - now + Duration::from_millis(1));
        ahead.fold(usual, Duration::min)
    }

    fn take_output(&mut self) {
        for output in &mut self.outputs {
            output.take(&mut self.queue);
        }
    }

    fn take_notifications(&mut self) {
        let Some(notify) = &self.notify else { return };
        while let Some(said) = notify.next(self.app.pid(), self.user) {
            self.facts.ready |= said.ready;
            self.queue.push(&Report::Notify { ready: said.ready, status: said.status });
        }
    }

    fn note_exit(&mut self) {
        let running = self.facts.exit.is_none();
        self.app.reap();
        let exit = match self.app.exit() {
            Some(exit) if running => exit.clone(),
            _ => return,
        };
        self.take_output();
        self.facts.exit = Some(exit.clone());
        self.queue.push(&Report::Exited(exit));
        if self.ending == Ending::No {
            self.ask(Signal::TERM, LEFTOVERS_GRACE);
        }
    }

    fn note_gone(&mut self) {
        if self.leave_at.is_some() || !self.app.is_over() {
            return;
        }
        for output in &mut self.outputs {
            output.take(&mut self.queue);
            output.finish(&mut self.queue);
        }
        self.queue.push(&Report::Gone);
        self.leave_at = Some(clock::now() + self.adopt_within);
    }

    fn take_orders(&mut self) {
        let (orders, presence) = match &mut self.controller {
            Some(terrace) => terrace.orders(),
            None => return,
        };
        for order in orders {
            self.obey(order);
        }
        if presence == Presence::Gone {
            self.lose_control();
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Stop { signal: number, grace_ms } => {
                self.ask(signal(number), Duration::from_millis(grace_ms))
            }
            Order::Kill => self.kill(),
            Order::Signal { signal: number } => self.app.signal(signal(number)),
            Order::Ready => self.facts.ready = true,
            Order::Ping => self.queue.push(&Report::Pong),
            Order::Describe => self.queue.push(&Report::Hello(self.facts.clone())),
            Order::Collect => self.collected = true,
        }
    }

    /// Asked twice, the earlier kill holds.
    fn ask(&mut self, signal: Signal, grace: Duration) {
        let wanted = clock::now() + grace;
        match self.ending {
            Ending::Killing => return,
            Ending::Asked { kill_at } => self.ending = Ending::Asked { kill_at: kill_at.min(wanted) },
            Ending::No => self.ending = Ending::Asked { kill_at: wanted },
        }
        self.facts.stopping = true;
        self.app.signal(signal);
    }

    fn kill(&mut self) {
        self.ending = Ending::Killing;
        self.facts.stopping = true;
        self.app.signal(Signal::KILL);
    }

    fn note_deadlines(&mut self) {
        let now = clock::now();
        if self.ending == Ending::No && self.orphan_at.is_some_and(|at| now >= at) {
            let (signal, grace) = self.stop;
            self.ask(signal, grace);
        }
        let due = matches!(self.ending, Ending::Asked { kill_at } if now >= kill_at);
        if (due || self.ending == Ending::Killing) && !self.app.is_over() {
            self.kill();
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if !is_trusted(&stream) {
                continue;
            }
            let mut newcomer = Controller::new(stream);
            match self.controller {
                Some(_) => drop(newcomer.write_blocking(&encode(&Report::Busy))),
                None => self.take_control(newcomer),
            }
        }
    }

    fn take_control(&mut self, terrace: Controller) {
        if terrace.set_nonblocking().is_err() {
            return self.lose_control();
        }
        self.orphan_at = None;
        self.queue.push_first(&Report::Hello(self.facts.clone()));
        self.queue.extend_ending(&self.facts, self.leave_at.is_some());
        self.controller = Some(terrace);
    }

    fn lose_control(&mut self) {
        self.controller = None;
        self.queue.reset();
        self.orphan_at = Some(clock::now() + self.adopt_within);
    }

    fn report(&mut self) {
        let Some(terrace) = &mut self.controller else { return };
        if self.queue.write(terrace).is_err() {
            self.lose_control();
        }
    }
}

impl Queue {
    /// What a successor has missed: whatever a lost connection voided is told again.
    fn extend_ending(&mut self, facts: &Description, gone: bool) {
        if let Some(exit) = &facts.exit {
            self.push(&Report::Exited(exit.clone()));
        }
        if gone {
            self.push(&Report::Gone);
        }
    }
}

impl Output {
    fn take(&mut self, queue: &mut Queue) {
        let mut buffer = [0; 16 * 1024];
        let mut left = PIPE_BYTES_PER_TURN;
        while left > 0 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut buffer) {
                Ok(0) => return self.finish(queue),
                Ok(count) => {
                    left = left.saturating_sub(count);
                    let (stream, at_ms) = (self.stream, wall_ms());
                    self.lines
                        .push(&buffer[..count], |text, cut| queue.push(&line(stream, at_ms, text, cut)));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.finish(queue),
            }
        }
    }

    fn finish(&mut self, queue: &mut Queue) {
        let (stream, at_ms) = (self.stream, wall_ms());
        self.pipe = None;
        self.lines.finish(|text, cut| queue.push(&line(stream, at_ms, text, cut)));
    }
}

impl Files {
    fn new(launch: &Launch) -> Self {
        let name = |extension| file_name(&launch.instance, &launch.id, extension);
        let notify = launch.notify.as_ref().filter(|address| !address.starts_with('@'));
        Self { socket: name("sock"), state: name("json"), notify: notify.map(|_| name("notify")) }
    }

    fn listen(&self) -> io::Result<UnixListener> {
        let listener = UnixListener::bind(&self.socket)?;
        fs::set_permissions(&self.socket, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// For people and for the cleaning up of what a killed shim left; adoption goes by the socket.
    fn write_state(&self, facts: &Description) -> io::Result<()> {
        let mut file = fs::File::create(&self.state)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(&encode(facts))
    }

    fn remove(&self) {
        for name in [Some(&self.socket), Some(&self.state), self.notify.as_ref()].into_iter().flatten() {
            let _was_never_made = fs::remove_file(name);
        }
    }
}

fn outputs(pipes: Pipes) -> io::Result<[Output; 2]> {
    let output = |stream, pipe: OwnedFd| {
        rustix::io::ioctl_fionbio(pipe.as_fd(), true)?;
        Ok::<_, io::Error>(Output { stream, pipe: Some(fs::File::from(pipe)), lines: Lines::default() })
    };
    Ok([output(Stream::Stdout, pipes.stdout)?, output(Stream::Stderr, pipes.stderr)?])
}

fn describe(launch: &Launch, app: &App) -> Description {
    Description {
        protocol: PROTOCOL,
        service: launch.service.clone(),
        instance: launch.instance.clone(),
        id: launch.id.clone(),
        config_hash: launch.config_hash.clone(),
        port: launch.port,
        pid: app.pid().as_raw_nonzero().get(),
        pid_started: processes::started(app.pid()),
        shim_pid: rustix::process::getpid().as_raw_nonzero().get(),
        created_ms: wall_ms(),
        ready: false,
        stopping: false,
        exit: None,
    }
}

fn line(stream: Stream, at_ms: u64, text: String, cut: bool) -> Report {
    Report::Line(OutputLine { stream, text, at_ms, cut })
}

/// An unknown number is of a later version; the usual signal is nearest to what was meant.
fn signal(number: i32) -> Signal {
    Signal::from_named_raw(number).unwrap_or(Signal::TERM)
}

fn wall_ms() -> u64 {
    let since = clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Only the user who started the shim, and root, may take control.
#[cfg(target_os = "linux")]
fn is_trusted(stream: &UnixStream) -> bool {
    match rustix::net::sockopt::socket_peercred(stream) {
        Ok(peer) => peer.uid.is_root() || peer.uid == rustix::process::geteuid(),
        Err(_) => false,
    }
}

/// The socket's mode is what keeps others out here.
#[cfg(not(target_os = "linux"))]
fn is_trusted(_stream: &UnixStream) -> bool {
    true
}
