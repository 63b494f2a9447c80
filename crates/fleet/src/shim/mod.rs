//! The shim: a tiny process between Terrace and one instance, so that the instance outlives Terrace's death and
//! nothing outlives the instance.
//!
//! Terrace starts it with one end of a socket pair as standard input and tells it over that what to run. The shim
//! starts the app in a process group of its own, takes its output, and reports. When Terrace's connection is lost it
//! listens for a successor for some seconds; when none comes it ends the app and everything the app started. When the
//! shim itself is killed, the kernel kills the app.
//!
//! One thread, no runtime, no allocation that grows: it must be too small to fail.

mod app;
mod controller;
pub(crate) mod lines;
pub(crate) mod notify;
pub(crate) mod processes;
pub(crate) mod protocol;
mod queue;
mod serve;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use controller::Controller;
use protocol::{LAUNCH_BYTES_MAX, Launch, Report, encode};

/// A Terrace that started a shim tells it at once what to run.
const LAUNCH_TIME: Duration = Duration::from_secs(10);

/// Runs a shim until its app is gone. The arguments are for those who read a list of processes; what to run comes
/// over standard input.
pub fn shim_main(_arguments: impl IntoIterator<Item = String>) -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_nobody_to_tell) => ExitCode::FAILURE,
    }
}

fn run() -> io::Result<()> {
    app::become_subreaper()?;
    let mut terrace = Controller::new(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?));
    let launch: Launch = terrace.read_blocking(LAUNCH_TIME, LAUNCH_BYTES_MAX)?;
    match serve::Shim::start(launch) {
        Ok(shim) => shim.serve(terrace),
        Err(message) => terrace.write_blocking(&encode(&Report::Failed { message })),
    }
}
