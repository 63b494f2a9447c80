//! `terrace up`: starts everything, serves until it is asked to stop, and ends in order.

use std::process::ExitCode;
use std::sync::Arc;

use terrace_instruments::{Event, Level};
use terrace_runtime::drain::{self, Drain};
use terrace_telemetry::Style;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Color, Global, Up};
use crate::notify;
use crate::running::{self, Origin, Running, Tasks, UpError};
use crate::watch::Watch;

/// Status when Terrace could not start or had to end.
const FAILED: u8 = 1;
/// Status when the file is wrong, as of a wrong command line: trying again cannot help.
const WRONG_FILE: u8 = 2;

/// Runs `terrace up`.
pub(crate) fn run(up: &Up, global: &Global) -> ExitCode {
    let origin = match up.file() {
        // Instances run in folders of their own, where a relative path would mean something else.
        Some(path) => Origin::File(std::path::absolute(&path).unwrap_or(path), up.env.clone()),
        None => Origin::Command(up.command.clone()),
    };
    terrace_runtime::threads::raise_open_files_max();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("invariant: a process that could be started gets an epoll descriptor");
    runtime.block_on(serve(origin, global))
}

async fn serve(origin: Origin, global: &Global) -> ExitCode {
    let (stop, mut stopped) = drain::channel();
    let Ok(mut signals) = Signals::listen() else {
        return fail(global, "cannot listen for signals");
    };
    let started = tokio::select! {
        started = running::start(origin, style(global), stop) => started,
        () = signals.stop() => return ExitCode::SUCCESS,
    };
    let (running, tasks) = match started {
        Ok(started) => started,
        Err(error) => return refuse(global, &error),
    };
    let ready = tokio::select! {
        ready = running.all_ready() => ready,
        () = signals.stop() => return end(&running, tasks, signals).await,
        () = stopped.requested() => return end(&running, tasks, signals).await,
    };
    if let Err(error) = ready {
        end(&running, tasks, signals).await;
        return refuse(global, &error);
    }
    running.announce();
    notify::tell("READY=1");
    stay(&running, &mut signals, &mut stopped).await;
    end(&running, tasks, signals).await
}

/// Serves until asked to stop; reloads when asked, or when the file changes.
async fn stay(running: &Arc<Running>, signals: &mut Signals, stopped: &mut Drain) {
    let mut watch = Watch::new(running.in_force().resolved.watch.clone());
    loop {
        tokio::select! {
            () = stopped.requested() => return,
            asked = signals.next() => match asked {
                Asked::Stop => return,
                Asked::Reload => {
                    running.telemetry.reopen();
                    reload(running, "SIGHUP").await;
                }
            },
            () = watch.changed() => {
                if running.in_force().resolved.terrace.watch {
                    reload(running, "file").await;
                }
            }
        }
        watch.follow(running.in_force().resolved.watch.clone());
    }
}

async fn reload(running: &Arc<Running>, cause: &'static str) {
    notify::tell("RELOADING=1");
    if let Err(error) = running.reload().await {
        let what = "the file was refused whole; what ran runs on";
        let text = match &error {
            UpError::File(problems) => problems.render(false),
            error => error.to_string(),
        };
        let event = Event::new(Level::Error, "reload.refused").field("cause", cause).field("problem", text);
        running.log.emit(event.message(what));
    }
    notify::tell("READY=1");
}

async fn end(running: &Arc<Running>, tasks: Tasks, mut signals: Signals) -> ExitCode {
    notify::tell("STOPPING=1");
    tokio::select! {
        () = running.end(tasks) => ExitCode::SUCCESS,
        // Asked twice, it ends at once: the shims end their instances by themselves.
        () = signals.stop() => ExitCode::from(FAILED),
    }
}

/// Lines look as `--json` and `--color` ask.
fn style(global: &Global) -> Style {
    match (global.json, global.color) {
        (true, _) => Style::Json,
        (false, Color::Auto) => Style::Auto,
        (false, Color::Always) => Style::Colour,
        (false, Color::Never) => Style::Plain,
    }
}

fn refuse(global: &Global, error: &UpError) -> ExitCode {
    match error {
        UpError::File(problems) if global.json => {
            eprintln!("{}", problems.to_json());
            ExitCode::from(WRONG_FILE)
        }
        UpError::File(problems) => {
            eprint!("{}", problems.render(global.colours_errors()));
            ExitCode::from(WRONG_FILE)
        }
        error => fail(global, &error.to_string()),
    }
}

fn fail(global: &Global, sentence: &str) -> ExitCode {
    if global.json {
        eprintln!("{}", serde_json::json!({ "error": sentence }));
    } else if global.colours_errors() {
        eprintln!("\x1b[1;31merror\x1b[0m: {sentence}");
    } else {
        eprintln!("error: {sentence}");
    }
    ExitCode::from(FAILED)
}

/// What a signal asks for.
enum Asked {
    Stop,
    Reload,
}

/// The signals that mean something to Terrace.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Resolves when the process is asked to end; a reload before that is nobody's yet.
    async fn stop(&mut self) {
        while matches!(self.next().await, Asked::Reload) {}
    }
}
