//! `terrace dashboard`: a way into the dashboard that is good once, so that nobody needs to look for the token.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use terrace_admin::client::{self, ClientError};

use super::print;
use crate::cli::{Dashboard, DashboardRole, Global};

/// Asks for the address, prints it, and opens it where that was asked for.
pub(super) async fn run(socket: &Path, dashboard: &Dashboard, global: &Global) -> Result<(), ClientError> {
    let role = match dashboard.role {
        DashboardRole::Operator => "operator",
        DashboardRole::Viewer => "viewer",
    };
    let code = async |own_user_only: bool| {
        let wanted = json!({ "role": role, "own_user_only": own_user_only });
        client::request(socket, "POST", "/v1/login-code", Some(&wanted)).await
    };
    let value = code(false).await?;
    let url = value["url"].as_str().unwrap_or_default();
    let seconds = value["expires_in_seconds"].as_u64().unwrap_or(60);
    print(global, &value, |paint| {
        let hint = format!("(good once, within {seconds} s)");
        format!("{} {}\n", paint.bold(url), paint.faint(&hint))
    });
    if !dashboard.open {
        return Ok(());
    }
    // Another one: what a program gets as an argument, every user of this machine can read; it is good for this one alone.
    let value = code(true).await?;
    if !open(value["url"].as_str().unwrap_or_default()) {
        eprintln!("no program to open it with; open the address above in a browser");
    }
    Ok(())
}

/// Hands the address to the desktop's own way of opening one; says whether there is any.
fn open(url: &str) -> bool {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let nowhere = Stdio::null;
    let started = Command::new(opener).arg(url).stdin(nowhere()).stdout(nowhere()).stderr(nowhere()).spawn();
    match started {
        // It returns once a browser has the address, and says whether one was found.
        Ok(mut opener) => opener.wait().is_ok_and(|status| status.success()),
        Err(_) => false,
    }
}
