//! What the surroundings tell a service: every setting is an environment variable and a flag, defined once.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::clock;
use crate::switch;

/// A small shop as separate HTTP services; each instance of each service is one process.
#[derive(Parser)]
#[command(name = "shop", version)]
pub(crate) struct Settings {
    /// Which of the five services this process is.
    #[command(subcommand)]
    pub(crate) role: Role,

    /// Port to listen on, on 127.0.0.1; 0 takes a free one and logs which.
    #[arg(long, env = "PORT", default_value_t = 0, global = true)]
    pub(crate) port: u16,

    /// Folder for the databases, the signing key and the photos; instances of one service share it.
    #[arg(long, env = "SHOP_DATA", default_value = "./data", global = true)]
    pub(crate) data: PathBuf,

    /// Name of this instance, told in the `x-instance` header of every answer.
    #[arg(long, env = "TERRACE_INSTANCE", global = true)]
    instance: Option<String>,

    /// `iss` of the tokens: where people and gateways reach the shop from outside.
    #[arg(long, env = "SHOP_ISSUER", default_value = "http://localhost:8080", global = true)]
    pub(crate) issuer: String,

    /// Be this much slower with every answer, e.g. 300ms.
    #[arg(long, env = "SHOP_DELAY", value_parser = clock::parse_duration, global = true)]
    pub(crate) delay: Option<Duration>,

    /// Fail this share of all requests, e.g. 30%.
    #[arg(long, env = "SHOP_FAIL", value_parser = switch::parse_share, global = true)]
    pub(crate) fail: Option<f64>,

    /// How long an order stays in each step (packed, shipped, delivered).
    #[arg(long, env = "SHOP_PACE", default_value = "6s", value_parser = clock::parse_duration, global = true)]
    pub(crate) pace: Duration,

    /// Where the auth service answers.
    #[arg(long, env = "AUTH_URL", global = true)]
    pub(crate) auth_url: Option<String>,

    /// Where the catalog service answers.
    #[arg(long, env = "CATALOG_URL", global = true)]
    pub(crate) catalog_url: Option<String>,

    /// Where the orders service answers.
    #[arg(long, env = "ORDERS_URL", global = true)]
    pub(crate) orders_url: Option<String>,

    /// Where the payments service answers.
    #[arg(long, env = "PAYMENTS_URL", global = true)]
    pub(crate) payments_url: Option<String>,
}

/// The five services.
#[derive(Subcommand, Clone, Copy)]
pub(crate) enum Role {
    /// Pages and assets: what a person shops on.
    Web,
    /// Accounts: registers, logs in, signs tokens, publishes the keys to check them with.
    Auth,
    /// Products, search, pictures and stock.
    Catalog,
    /// Places orders and tells how far they are.
    Orders,
    /// The bank: authorises, captures or declines.
    Payments,
}

impl Role {
    /// The service's name as in logs and files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Auth => "auth",
            Self::Catalog => "catalog",
            Self::Orders => "orders",
            Self::Payments => "payments",
        }
    }
}

impl Settings {
    /// The name given from outside, else one that tells processes apart.
    pub(crate) fn instance(&self) -> String {
        match &self.instance {
            Some(name) => name.clone(),
            None => format!("{}-{}", self.role.name(), std::process::id()),
        }
    }
}
