//! Terrace: understands the command line and hands it to whoever carries it out. What a running Terrace is made of, and
//! how its parts are connected, is read in `running.rs`, from top to bottom.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "the binary is what speaks to a terminal")]

mod api_keys;
mod certificates;
mod compile;
mod control;
mod faults;
mod figures;
mod identity;
mod map;
mod notify;
mod remote;
mod rotation;
mod running;
mod services;
mod state;
mod top;
mod up;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use terrace::{cli, file};

use cli::{Cli, Command};
use remote::Ask;

/// Frees and takes the same few sizes on every request for less than the system's allocator does: measured in
/// docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Cli { command, global } = Cli::parse();
    match &command {
        Command::Up(up) => up::run(up, &global),
        Command::Check(check) => cli::check(check, &global),
        Command::Status(running) => remote::run(&running.file, &Ask::Status, &global),
        Command::Reload(reload) => remote::run(&reload.running.file, &Ask::Reload(reload.wait), &global),
        Command::Stop(running) => remote::run(&running.file, &Ask::Stop, &global),
        Command::Scale(scale) => {
            remote::run(&scale.running.file, &Ask::Scale(&scale.service, scale.instances), &global)
        }
        Command::Restart(restart) => {
            remote::run(&restart.running.file, &Ask::Restart(&restart.service), &global)
        }
        Command::Drain(drain) => remote::run(&drain.running.file, &Ask::Drain(drain), &global),
        Command::Fault(fault) => remote::run(&fault.running.file, &Ask::Fault(fault), &global),
        Command::Keys(keys) => remote::run(&keys.running().file, &Ask::Keys(keys), &global),
        Command::Totp(totp) => remote::run(&totp.running.file, &Ask::Totp(totp), &global),
        Command::Top(top) => top::run(&top.running.file, &global),
        Command::Dashboard(dashboard) => {
            remote::run(&dashboard.running.file, &Ask::Dashboard(dashboard), &global)
        }
        Command::Alerts(alerts) => remote::run(&alerts.running().file, &Ask::Alerts(alerts), &global),
        Command::Traces(traces) => remote::run(&traces.running.file, &Ask::Traces(traces), &global),
        Command::Logs(logs) => remote::run(&logs.running.file, &Ask::Logs(logs), &global),
        Command::Schema(schema) => cli::schema(schema),
        Command::Install(install) => cli::install(install, &global),
        Command::Completions(completions) => cli::completions(completions),
        Command::Shim(shim) => {
            terrace_fleet::shim_main(shim.arguments.iter().map(|word| word.to_string_lossy().into_owned()))
        }
    }
}
