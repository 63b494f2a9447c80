//! A program that is told of alerts: it finds the webhook's body on its standard input.
//!
//! It leads a process group of its own, which is ended with it: a script that hangs, or leaves something hanging, costs
//! its time and no more. It gets none of Terrace's own environment but what every program needs, for some of that is
//! the app's secrets.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use terrace_runtime::spawn::{Setup, prepare};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Variables that it inherits.
const INHERITED: [&str; 10] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"];
/// Output that is read; the rest is thrown away.
const OUTPUT_BYTES_MAX: usize = 4_096;
/// Letters of its last line that are told when it fails.
const SAID_MAX: usize = 200;

/// Ends the group when dropped, however that comes about.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Fails only when nobody is left in it.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Runs `words` and waits for its end, at most `timeout`.
pub(super) async fn run(words: &[String], body: &[u8], timeout: Duration) -> Result<(), String> {
    // Its arguments are not repeated: one of them may be a token.
    let program = words.first().map_or("", String::as_str);
    let mut child = start(words).map_err(|error| format!("cannot run {program}: {error}"))?;
    let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let _group = Group(leader);
    match tokio::time::timeout(timeout, converse(&mut child, body)).await {
        Err(_elapsed) => Err(format!("it did not end within {} s and was killed", timeout.as_secs())),
        Ok(Err(error)) => Err(format!("cannot wait for it: {error}")),
        Ok(Ok((status, _))) if status.success() => Ok(()),
        Ok(Ok((status, said))) => Err(match last_line(&said) {
            Some(line) => format!("it ended with {status}: {line}"),
            None => format!("it ended with {status}"),
        }),
    }
}

fn start(words: &[String]) -> io::Result<Child> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"));
    };
    let mut command = std::process::Command::new(program);
    command.args(arguments).env_clear();
    let inherited = INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.envs(inherited);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    prepare(&mut command, Setup { group: true, die_with_parent: true, ..Setup::default() });
    Command::from(command).kill_on_drop(true).spawn()
}

/// Hands the body over, listens and waits, all at once: whoever waits with one while the other is full waits for ever.
async fn converse(child: &mut Child, body: &[u8]) -> io::Result<(std::process::ExitStatus, Vec<u8>)> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let speak = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read what it is told is no failure of ours.
            let _ = stdin.write_all(body).await;
        }
    };
    let mut said = Vec::new();
    let ended = {
        let listen = async {
            match stderr {
                Some(stderr) => listen(stderr, &mut said).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(speak, listen);
        let (mut spoken, mut heard) = (false, false);
        loop {
            tokio::select! {
                biased;
                () = &mut speak, if !spoken => spoken = true,
                () = &mut listen, if !heard => heard = true,
                ended = child.wait() => break ended?,
            }
        }
    };
    Ok((ended, said))
}

/// Keeps the last of what it says.
async fn listen(mut stderr: impl AsyncRead + Unpin, said: &mut Vec<u8>) {
    let mut piece = [0; 1_024];
    while let Ok(length @ 1..) = stderr.read(&mut piece).await {
        said.extend_from_slice(&piece[..length]);
        let too_many = said.len().saturating_sub(OUTPUT_BYTES_MAX);
        said.drain(..too_many);
    }
}

fn last_line(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().filter(|letter| !letter.is_control()).take(SAID_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn a_program_that_fails_is_quoted_with_its_last_line() {
        let failed = run(&shell("echo first >&2; echo last >&2; exit 7"), b"{}", LONG).await;
        assert_eq!(failed, Err("it ended with exit status: 7: last".to_owned()));
        assert_eq!(run(&shell("exit 0"), &[b'x'; 1 << 20], LONG).await, Ok(()), "it need not read");
        let missing = run(&["/no/such/program".to_owned(), "token".to_owned()], b"", LONG).await.unwrap_err();
        assert!(missing.contains("/no/such/program") && !missing.contains("token"), "{missing}");
    }

    #[tokio::test]
    async fn a_program_that_never_stops_talking_costs_no_memory() {
        let script = "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2; exit 1";
        let failed = run(&shell(script), b"", LONG).await;
        assert_eq!(failed, Err("it ended with exit status: 1: end".to_owned()));
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_all_that_it_started() {
        let folder = std::env::temp_dir().join(format!("terrace-command-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder of ours");
        let pids = folder.join("pids");
        let script = format!(
            "sleep 1000 & echo $! > {0}.new; echo $$ >> {0}.new; mv {0}.new {0}; wait",
            pids.display()
        );
        let words = shell(&script);
        let mut running = Box::pin(run(&words, b"", LONG));
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        let text = loop {
            tokio::select! {
                ended = running.as_mut() => panic!("it ended: {ended:?}"),
                _ = looks.tick() => if let Ok(text) = std::fs::read_to_string(&pids) { break text },
            }
        };
        // As at a time-out: what is dropped is over.
        drop(running);
        for pid in text.lines() {
            let stat = format!("/proc/{pid}/stat");
            // A zombie is dead; only its parent, or init, has not looked yet.
            let lives = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
            let ended = async {
                while lives() {
                    looks.tick().await;
                }
            };
            assert!(tokio::time::timeout(LONG / 4, ended).await.is_ok(), "{pid} lives on");
        }
        std::fs::remove_dir_all(&folder).expect("our folder");
    }

    #[tokio::test]
    async fn a_time_out_says_so() {
        let hanging = run(&shell("sleep 1000"), b"", Duration::ZERO).await;
        assert_eq!(hanging, Err("it did not end within 0 s and was killed".to_owned()));
    }

    #[tokio::test]
    async fn a_program_finds_nothing_of_terraces_own_environment() {
        let failed = run(&shell("test -z \"$CARGO_PKG_NAME\" && test -n \"$PATH\""), b"", LONG).await;
        assert_eq!(failed, Ok(()));
    }
}
