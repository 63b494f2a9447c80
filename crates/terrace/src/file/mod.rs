//! `terrace.toml`: from text to a configuration that cannot be wrong.
//!
//! ```text
//! files ──gather──▶ one tree ──complete──▶ nothing left unsaid ──resolve──▶ Resolved
//!          include, --env     one listener, one route           types, bounds, names, ties
//! ```
//! Every value on the tree knows where it was written. So what is wrong is told with line and column, all of it at
//! once ([`Problems`]), and `check --explain` can say where each value comes from. There is one module for each
//! table of the file; a table's definition there is also its documentation, its defaults and its JSON Schema.
//!
//! This module knows no socket and no running component of Terrace; values whose law is another crate's (a pattern, a
//! schema, a list of users) are read by that law. It reads files and environment variables through [`Surroundings`] only,
//! and never panics, whatever is in them.

mod acme;
mod admin;
mod alert;
mod auth;
mod body;
mod command;
mod contact;
mod cors;
mod diff;
mod gather;
mod hints;
mod issuer;
mod limit;
mod listen;
mod log;
mod login;
mod notify;
mod objective;
mod otlp;
mod policy;
mod print;
mod private;
mod problem;
mod read;
mod reference;
mod resilience;
mod root;
mod route;
mod schema;
mod service;
mod source;
mod spec;
mod surroundings;
mod terrace;
mod trace;
mod traffic;
mod tree;
mod users;
mod values;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use read::Reader;
use source::Sources;
use surroundings::Machine;
use terrace_auth::Users;
use terrace_signals::alerts::{Objective, Threshold};
use tree::Node;

pub use acme::{Acme, ChallengeWord, ExternalAccount};
pub use admin::{Admin, AdminApi, DEFAULT_ADDRESS};
pub use auth::{Ask, AskTo, Auth, ForwardSource, Requirement, TokenPlace, TrustedIssuer};
pub use body::{Coding, Compress, CompressLevel, Validate, ValidateKind};
pub use cors::{Addresses, Cors, Frame, OriginPattern, Referrer, SecurityHeaders};
pub use diff::{Change, KeyChange, What, diff, summary};
pub use issuer::{Algorithm, Introspection, Issuer, IssuerKeys};
pub use limit::{Limit, LimitEngine, LimitKey, LimitLaw, LimitUse, Period, Rate};
pub use listen::{Bounds, Certificate, ClientCertificates, DemandWord, Listener, ProxyProtocolIn, Tls};
pub use log::{Log, LogTo, Rotate};
pub use login::Login;
pub use notify::{Receiver, Way};
pub use otlp::{ExportProtocol, ExportSignal, Otlp, OtlpExport};
pub use policy::{Guards, Policies, Retry, RetryOn, Timeouts};
pub use problem::{Other, Problem, Problems, Spot};
pub use reference::reference;
pub use resilience::{
    Breaker, Concurrency, Fallback, FallbackOn, FallbackTo, Hedge, HedgeAfter, HedgeQuantile, Overload,
    Priority, PriorityLevel, Queue, QueueOrder, Slow,
};
pub use route::{Action, Choice, PathChange, Route, Target};
pub use schema::schema;
pub use service::*;
pub use surroundings::{Imagined, Surroundings};
pub use terrace::Terrace;
pub use trace::Trace;
pub use traffic::{Condition, Fault, FieldChange, Mirror, RequestChange, ResponseChange, Stick, StickKey};
pub use users::ApiKeys;
pub use values::{DnsName, Network, Secret, SecretSource, StatusRange};

/// A configuration with nothing left open: every default filled in, every name checked, every secret read.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The program itself.
    pub terrace: Terrace,
    /// Listeners by name; at least one.
    pub listeners: BTreeMap<String, Listener>,
    /// The authority that issues certificates, if any does.
    pub acme: Option<Acme>,
    /// Services by name.
    pub services: BTreeMap<String, Service>,
    /// Routes by name; [`terrace_route::Table::build`] accepts them.
    pub routes: BTreeMap<String, Route>,
    /// Who can prove who they are, and to whom.
    pub identity: Identity,
    /// Limits that several share, by name.
    pub limits: BTreeMap<String, Limit>,
    /// What this machine can bear.
    pub overload: Overload,
    /// What users are promised, by name.
    pub objectives: BTreeMap<String, Objective>,
    /// Alerts on metrics, by name.
    pub alerts: BTreeMap<String, Threshold>,
    /// Whom alerts are told, by name.
    pub receivers: BTreeMap<String, Receiver>,
    /// The logs.
    pub log: Log,
    /// Which requests leave a trace.
    pub trace: Trace,
    /// What of the app's own telemetry is taken in, and what is sent on.
    pub otlp: Otlp,
    /// Probes, metrics and the admin API.
    pub admin: Admin,
    /// Files and folders that the configuration was read from: a change of one may change it.
    pub watch: Vec<PathBuf>,
    /// Everything as it is written out, to be compared by [`diff`].
    written: diff::Written,
}

/// Who can prove who they are, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Authorities whose tokens are believed, by name.
    pub issuers: BTreeMap<String, Issuer>,
    /// Logins of people with their browser, by name.
    pub logins: BTreeMap<String, Login>,
    /// People with passwords, by name.
    pub users: BTreeMap<String, Users>,
    /// Keys for programs.
    pub keys: ApiKeys,
}

/// A configuration together with the text that it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub resolved: Resolved,
    tree: Node,
    sources: Sources,
}

impl Loaded {
    /// The configuration as TOML with all layers merged and all defaults written out: it means the same again.
    /// `explain`: behind each value stands where it comes from. Secrets appear as references only, but what was written in plain
    /// is in it, whatever it is: to be compared and read again, not to be shown.
    pub fn to_toml(&self, explain: bool) -> String {
        let look = print::Look { explain, whole: true, ..print::Look::default() };
        print::print(&self.tree, &self.sources, look)
    }

    /// [`Self::to_toml`] to be shown, in `colour` for a terminal: without what looks like a secret written in plain.
    pub fn render(&self, explain: bool, colour: bool) -> String {
        print::print(&self.tree, &self.sources, print::Look { explain, colour, whole: false })
    }

    /// Each value with where it comes from, for a program that shows it; without what looks like a secret written in plain.
    pub fn to_json(&self) -> serde_json::Value {
        print::to_json(&self.tree, &self.sources)
    }

    /// The configuration of `terrace up -- COMMAND`: one instance of it at port 8080. Its text is no file's.
    ///
    /// # Errors
    /// When the command is empty.
    pub fn for_command(command: &[String]) -> Result<Self, Problems> {
        command::for_command(command)
    }
}

/// Reads the configuration at `path`, with the overlay of `env_name` where one is asked for.
///
/// # Errors
/// Everything that is wrong with it, in the order of the files. Nothing was changed; reading again helps only after
/// a change of what the problems name.
pub fn load(
    path: &Path,
    env_name: Option<&str>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Resolved, Problems> {
    Ok(load_from(path, env_name, &Machine { environment })?.resolved)
}

/// [`load`] that also keeps the text, and reads from any [`Surroundings`].
///
/// # Errors
/// As [`load`].
pub fn load_from(
    path: &Path,
    env_name: Option<&str>,
    surroundings: &dyn Surroundings,
) -> Result<Loaded, Problems> {
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let mut reader = Reader::new(folder, surroundings);
    let found = read_all(path, env_name, &mut reader);
    match found {
        Some((resolved, tree)) if reader.findings.is_empty() => {
            let watch = reader.watch.into_iter().collect();
            let tree = print::written_out(&tree);
            let written = print::by_table(&tree);
            Ok(Loaded { resolved: Resolved { watch, written, ..resolved }, tree, sources: reader.sources })
        }
        _ => Err(Problems::new(reader.findings, &reader.sources)),
    }
}

/// [`load_from`] of this machine, with its environment.
///
/// # Errors
/// As [`load`].
pub fn load_here(path: &Path, env_name: Option<&str>) -> Result<Loaded, Problems> {
    load_from(path, env_name, &Machine { environment: &|name| std::env::var(name).ok() })
}

fn read_all(path: &Path, env_name: Option<&str>, reader: &mut Reader<'_>) -> Option<(Resolved, Node)> {
    let mut tree = gather::gather(path, env_name, reader)?;
    if !reader.misread.is_empty() {
        check_around_syntax(&tree, reader);
        return None;
    }
    root::complete(&mut tree);
    let resolved = root::resolve(&tree, reader)?;
    Some((resolved, tree))
}

/// With a fault of syntax, only what does not depend on the rest is told, and nothing about the misread lines: a
/// consequence of the first mistake must not look like a second one.
fn check_around_syntax(tree: &Node, reader: &mut Reader<'_>) {
    let told = reader.findings.len();
    reader.damaged(|reader| root::check_tables(tree, reader));
    let mut more = reader.findings.split_off(told);
    more.retain(|finding| match finding.origin {
        source::Origin::Text(place) => !reader.misread.contains(&(place.file, reader.sources.line(place))),
        source::Origin::BuiltIn => false,
    });
    reader.findings.extend(more);
}

impl Resolved {
    /// That of [`Loaded::for_command`].
    ///
    /// # Errors
    /// When the command is empty.
    pub fn for_command(command: &[String]) -> Result<Self, Problems> {
        command::for_command(command).map(|loaded| loaded.resolved)
    }
}
