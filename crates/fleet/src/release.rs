//! The command that runs once before a new configuration is rolled out: a migration, a build.
//!
//! It is no instance: it has no port and no shim. When Terrace dies it dies too, for a half-known release must not be
//! taken for a done one.

use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use terrace_runtime::{clock, spawn};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::adopt::end_stranded;
use crate::context::Context;
use crate::instance::instance_id;
use crate::shim::lines::Lines;
use crate::shim::protocol::{Exit, OutputLine, Stream};
use crate::spec::{self, Spec};

/// Output that is still in the pipes when the command has ended is there at once.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs the release command of `spec`, if it has one, and waits for it. Dropping the future kills it.
///
/// # Errors
/// A sentence that says how it failed, with the last line that it printed.
pub(crate) async fn run(context: Arc<Context>, spec: Arc<Spec>) -> Result<(), String> {
    let Some((program, arguments)) = spec.config.release.as_ref().and_then(|argv| argv.split_first()) else {
        return Ok(());
    };
    let instance = format!("{}-release", spec.config.name);
    let id = instance_id();
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&spec.config.folder).env_clear();
    command.envs(spec::environment(&spec, &context.inherited, (&instance, &id), None));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let identity = spec.account.as_ref().map(|account| account.identity.clone());
    let setup = spawn::Setup { group: true, die_with_parent: true, identity, ..spawn::Setup::default() };
    spawn::prepare(command.as_std_mut(), setup);
    let child = command
        .spawn()
        .map_err(|error| format!("release command `{program}` could not be started: {error}"))?;
    finish(&context, &spec.config.name, Family { child, id, instance }).await
}

/// The command and all that it started; killed when dropped.
struct Family {
    child: Child,
    id: String,
    instance: String,
}

impl Drop for Family {
    fn drop(&mut self) {
        end_stranded(&self.id);
    }
}

async fn finish(context: &Context, service: &str, family: Family) -> Result<(), String> {
    let last = Mutex::new(None);
    let ended = watch(context, service, family, &last).await;
    let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
    ended.map_err(|why| last.map_or_else(|| why.clone(), |last: String| format!("{why}: {last}")))
}

async fn watch(
    context: &Context,
    service: &str,
    mut family: Family,
    last: &Mutex<Option<String>>,
) -> Result<(), String> {
    let (stdout, stderr) = (family.child.stdout.take(), family.child.stderr.take());
    let instance = family.instance.clone();
    let keep = |stream, text: String, cut| {
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.clone());
        context.output(service, &instance, OutputLine { stream, text, at_ms: clock_ms(), cut });
    };
    let stdout = copy(stdout, |text, cut| keep(Stream::Stdout, text, cut));
    let stderr = copy(stderr, |text, cut| keep(Stream::Stderr, text, cut));
    let mut copying = pin!(async { tokio::join!(stdout, stderr) });
    let mut copied = false;
    // What it left running in the background may hold the pipes open, so its own end is what counts.
    let ended = async {
        loop {
            tokio::select! {
                status = family.child.wait() => return status,
                _ = &mut copying, if !copied => copied = true,
            }
        }
    };
    let status = match timeout(context.release_within, ended).await {
        Ok(status) => status.map_err(|error| format!("the release command was lost: {error}"))?,
        Err(_) => return Err(format!("the release command did not end within {:?}", context.release_within)),
    };
    if !copied {
        let _held_by_others = timeout(LAST_WORDS, copying).await;
    }
    judge(status)
}

fn judge(status: ExitStatus) -> Result<(), String> {
    if status.success() {
        return Ok(());
    }
    let exit = Exit { code: status.code(), signal: status.signal() };
    Err(format!("the release command failed: {exit}"))
}

async fn copy(pipe: Option<impl AsyncRead + Unpin>, keep: impl Fn(String, bool)) {
    let Some(mut pipe) = pipe else { return };
    let (mut lines, mut buffer) = (Lines::default(), vec![0; 8 * 1024]);
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        lines.push(&buffer[..count], &keep);
    }
    lines.finish(&keep);
}

fn clock_ms() -> u64 {
    let since = clock::wall().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
