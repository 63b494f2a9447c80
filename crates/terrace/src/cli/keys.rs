//! `terrace keys` and `terrace totp`: who may come in, programs with a key and operators with a phone.
//!
//! Both also work while Terrace does not run, on its state folder.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::seeing::lasts;
use super::{Running, examples};

/// `terrace keys`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = examples::KEYS)]
pub struct Keys {
    /// What is to be done.
    #[command(subcommand)]
    pub action: KeysAction,
}

/// What `terrace keys` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum KeysAction {
    /// Make a key and print it: it is shown this once
    Create(CreateKey),
    /// Show which keys there are, and when each was last used
    List(Running),
    /// Take a key away: from then on it opens nothing
    Revoke(RevokeKey),
}

/// `terrace keys create`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct CreateKey {
    /// What it is for, in your words
    pub name: String,
    /// A role of whoever has it; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// A limit of its own, such as 100/s or 10000/d
    #[arg(long, value_name = "RATE")]
    pub limit: Option<String>,
    /// How long it lasts, such as 90d; for ever when not given
    #[arg(long, value_name = "TIME", value_parser = lasts)]
    pub expires: Option<Duration>,
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
    #[command(flatten)]
    pub running: Running,
}

/// `terrace keys revoke`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct RevokeKey {
    /// Its id: the part between tk_ and the next _
    pub id: String,
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
    #[command(flatten)]
    pub running: Running,
}

/// `terrace totp`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = examples::TOTP)]
pub struct Totp {
    /// Make a new secret, for a phone that was lost; ends all sessions
    #[arg(long)]
    pub new: bool,
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
    #[command(flatten)]
    pub running: Running,
}

impl Keys {
    /// Which Terrace is meant.
    pub fn running(&self) -> &Running {
        match &self.action {
            KeysAction::Create(create) => &create.running,
            KeysAction::List(running) => running,
            KeysAction::Revoke(revoke) => &revoke.running,
        }
    }
}
