//! A small real shop as five HTTP services in one binary, to stand Terrace around.
//!
//! It plays the part of anybody's app: it knows nothing of Terrace and uses none of its crates. All it asks of
//! its surroundings is a `PORT`, the addresses of its neighbours (`CATALOG_URL`, …) and a folder for its data.
#![forbid(unsafe_code)]

mod auth;
mod catalog;
mod client;
mod clock;
mod database;
mod log;
mod metrics;
mod orders;
mod payments;
mod person;
mod problem;
mod random;
mod serve;
mod settings;
mod spans;
mod switch;
mod token;
mod web;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::serve::{StartError, Stop};
use crate::settings::{Role, Settings};

/// How long work on blocking threads (SQLite, passwords) may hold up the very end.
const BLOCKING_GRACE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let settings = Settings::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&StartError::Runtime(error)),
    };
    let outcome = runtime.block_on(run(settings));
    runtime.shutdown_timeout(BLOCKING_GRACE);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn run(settings: Settings) -> Result<(), StartError> {
    let stop = Stop::on_signals()?;
    spans::begin(settings.role.name(), &settings.instance());
    match settings.role {
        Role::Web => web::run(settings, stop).await,
        Role::Auth => auth::run(settings, stop).await,
        Role::Catalog => catalog::run(settings, stop).await,
        Role::Orders => orders::run(settings, stop).await,
        Role::Payments => payments::run(settings, stop).await,
    }
}

fn fail(error: &StartError) -> ExitCode {
    log::error("start.failed", serde_json::json!({ "error": error.to_string() }));
    ExitCode::FAILURE
}
