//! A program that Terrace runs: how it starts, when it is ready, how it stops and starts again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::traffic::{HealthTable, only_true};
use super::{EnvValue, ServiceTable, env};
use crate::file::policy::ordered;
use crate::file::problem::Finding;
use crate::file::read::{Reader, Switch, choice, table};
use crate::file::source::Origin;
use crate::file::surroundings::is_found;
use crate::file::tree::Node;
use crate::file::values::{Command, UrlPath};

table! {
    /// When a new instance gets its first request: one of `path`, `tcp` and `notify`.
    pub(crate) struct ReadyTable {
        /// This path answers with a status that counts as healthy.
        "path" path: Option<UrlPath>, example "/ready";
        /// Its port accepts a connection.
        "tcp" tcp: Option<bool>, example true;
        /// It says `READY=1` on the socket in `NOTIFY_SOCKET`, as under systemd.
        "notify" notify: Option<bool>, example true;
        /// An instance that is not ready by then has failed to start.
        "within" within: Duration = "60s", within "100ms" to "1h";
    }
}

table! {
    /// How an instance is stopped: it gets no new requests, those under way finish, then the signal, then SIGKILL to all its processes.
    pub(crate) struct StopTable {
        /// How long requests under way may take.
        "drain" drain: Duration = "30s", within "0s" to "1h";
        /// How long WebSockets, other upgraded connections and event streams may go on.
        "streams" streams: Duration = "5m", within "0s" to "1d";
        /// The signal that asks it to end.
        "signal" signal: Signal = "TERM";
        /// From the signal to SIGKILL.
        "grace" grace: Duration = "30s", within "0s" to "1h";
    }
}

table! {
    /// How an instance that ended is started again.
    pub(crate) struct RestartTable {
        /// The first pause; it doubles.
        "from" from: Duration = "200ms", within "10ms" to "1h";
        /// The longest pause.
        "to" to: Duration = "30s", within "10ms" to "1h";
        /// As many restarts `within` that time are a crash loop, which is reported with the last lines of output.
        "crash-loop" crash_loop: u32 = 5, within 2 to 1000;
        /// The time in which the restarts of a crash loop are counted.
        "within" within: Duration = "2m", within "1s" to "1d";
    }
}

choice! {
    /// A signal that asks a program to end.
    pub enum Signal {
        /// SIGTERM.
        "TERM" Term,
        /// SIGINT.
        "INT" Int,
        /// SIGQUIT.
        "QUIT" Quit,
        /// SIGHUP.
        "HUP" Hup,
        /// SIGUSR1.
        "USR1" Usr1,
        /// SIGUSR2.
        "USR2" Usr2,
    }
}

/// A program that Terrace runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    /// Run once before a roll-out.
    pub release: Option<Vec<String>>,
    /// How many instances run.
    pub instances: u32,
    /// Whether it has no port.
    pub worker: bool,
    /// Working folder.
    pub folder: PathBuf,
    /// Its environment, env-files included, without what Terrace adds (port, neighbours).
    pub env: BTreeMap<String, EnvValue>,
    /// User who runs it.
    pub user: Option<String>,
    /// Group that runs it.
    pub group: Option<String>,
    /// Environment variable for its port.
    pub port_env: String,
    /// When a new instance gets its first request.
    pub ready: Ready,
    /// How it is stopped.
    pub stop: Stop,
    /// How it is started again.
    pub restart: Restart,
}

/// When a new instance gets its first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// What shows it.
    pub probe: ReadyProbe,
    /// It has failed to start when it is not ready by then.
    pub within: Duration,
}

/// What shows that an instance is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadyProbe {
    /// The path answers with a healthy status.
    Http {
        /// Path, perhaps with a query.
        path: String,
    },
    /// Its port accepts.
    Tcp,
    /// It says so on `NOTIFY_SOCKET`.
    Notify,
    /// It runs; for workers.
    Started,
}

/// How an instance is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// How long requests under way may take.
    pub drain: Duration,
    /// How long upgraded connections and event streams may go on.
    pub streams: Duration,
    /// Asks it to end.
    pub signal: Signal,
    /// From the signal to SIGKILL.
    pub grace: Duration,
}

/// How an instance that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The first pause.
    pub from: Duration,
    /// The longest pause; not below the first.
    pub to: Duration,
    /// So many restarts ...
    pub crash_loop_restarts: u32,
    /// ... in this time are a crash loop.
    pub crash_loop_within: Duration,
}

pub(super) fn resolve(
    run: &Command,
    table: &ServiceTable,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<Program> {
    let env = env::resolve(table, node, reader);
    let ready = resolve_ready(table, node, reader);
    let folder = resolve_folder(table, node, reader);
    if let (Some(folder), Some(env), None) = (&folder, &env, &table.release) {
        let path = env.get("PATH").map(EnvValue::reveal);
        check_command(&run.0, (folder, path), node.origin_of("run"), reader)?;
    }
    let (stop, restart) = (&table.stop, &table.restart);
    ordered(node.get("restart"), ("from", restart.from), ("to", restart.to), reader)?;
    Some(Program {
        command: run.0.clone(),
        release: table.release.clone().map(|command| command.0),
        instances: table.instances,
        worker: table.worker,
        folder: folder?,
        env: env?,
        user: table.user.clone().map(|account| account.0),
        group: table.group.clone().map(|account| account.0),
        port_env: table.port_env.0.clone(),
        ready: ready?,
        stop: Stop { drain: stop.drain, streams: stop.streams, signal: stop.signal, grace: stop.grace },
        restart: Restart {
            from: restart.from,
            to: restart.to,
            crash_loop_restarts: restart.crash_loop,
            crash_loop_within: restart.within,
        },
    })
}

/// Refuses a command whose program is not there, in the folders of the service's own PATH or else of ours. Not to be asked of
/// one that a release may make.
pub(crate) fn check_command(
    command: &[String],
    (folder, own_path): (&Path, Option<&str>),
    origin: Origin,
    reader: &mut Reader<'_>,
) -> Option<()> {
    let program = command.first()?;
    let path = own_path.map(str::to_owned).or_else(|| reader.surroundings().variable("PATH"));
    if is_found(program, folder, path.as_deref().unwrap_or("/bin:/usr/bin"), reader.surroundings()) {
        return Some(());
    }
    let message = match program.contains('/') {
        true => format!("the command `{program}` is not an executable file (seen from {})", folder.display()),
        false => format!("the command `{program}` was not found in PATH; install it, or give its path"),
    };
    reader.refuse(Finding::new(origin, message))
}

fn resolve_folder(table: &ServiceTable, node: &Node, reader: &mut Reader<'_>) -> Option<PathBuf> {
    let folder = reader.path(&table.folder.0);
    // The default is the main file's own folder, which is there.
    if node.get("folder").is_none() || reader.surroundings().is_folder(&folder) {
        return Some(folder);
    }
    let message = format!("there is no folder {}", folder.display());
    reader.refuse(Finding::new(node.origin_of("folder"), message))
}

/// Without a `ready` that says how, an instance is ready as `health` checks it, else when its port accepts.
fn resolve_ready(table: &ServiceTable, node: &Node, reader: &mut Reader<'_>) -> Option<Ready> {
    let written = node.get("ready").unwrap_or(node);
    let within = table.ready.as_ref().map_or(READY_WITHIN, |ready| ready.within);
    let probe = match &table.ready {
        Some(ready) => written_probe(ready, written, reader)?,
        None => None,
    };
    let probe = match (probe, &table.health, table.worker) {
        (Some(ReadyProbe::Http { .. } | ReadyProbe::Tcp), _, true) => {
            let finding = Finding::new(written.origin, "a worker has no port that could be asked");
            return reader.refuse(finding.help("use ready = { notify = true }, or none"));
        }
        (Some(probe), _, _) => probe,
        (None, _, true) => ReadyProbe::Started,
        (None, Switch::On(HealthTable { path: Some(path), .. }), false) => {
            ReadyProbe::Http { path: path.0.clone() }
        }
        (None, _, false) => ReadyProbe::Tcp,
    };
    Some(Ready { probe, within })
}

/// As the default of `ready.within`; a test compares them.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// `Some(None)` when it does not say how.
fn written_probe(table: &ReadyTable, node: &Node, reader: &mut Reader<'_>) -> Option<Option<ReadyProbe>> {
    let kinds = ["path", "tcp", "notify"];
    if kinds.iter().all(|kind| node.get(kind).is_none()) {
        return Some(None);
    }
    if !reader.below("ready", |reader| reader.exactly_one(node, &kinds)) {
        return None;
    }
    only_true("tcp", table.tcp, node, reader)?;
    only_true("notify", table.notify, node, reader)?;
    Some(Some(match &table.path {
        Some(path) => ReadyProbe::Http { path: path.0.clone() },
        None if table.tcp.is_some() => ReadyProbe::Tcp,
        None => ReadyProbe::Notify,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::read::Read;
    use crate::file::surroundings::Imagined;
    use crate::file::tree::built_in;

    #[test]
    fn without_ready_the_time_is_that_of_an_empty_ready() {
        let world = Imagined::default();
        let mut reader = Reader::new(Path::new(""), &world);
        let table = ReadyTable::read(&built_in("{}"), &mut reader).unwrap();
        assert_eq!(table.within, READY_WITHIN);
    }
}
