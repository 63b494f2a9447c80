//! `terrace install`: a systemd unit, and what to type next.
//!
//! Terrace runs other people's apps, so the unit can only take away what an app has no business with: the kernel's
//! settings, other users' homes from a system service, new devices. It leaves the network, the folders of the app
//! and setuid programs alone, and says in the unit which lines to add for an app that needs less.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::check::ending;
use super::{Global, Install};
use crate::file::{self, Resolved};

/// Why no unit was written. The caller's to mend; trying again helps after that.
#[derive(Debug, thiserror::Error)]
enum InstallError {
    #[error("cannot find {}: {source}", path.display())]
    NoFile { path: PathBuf, source: io::Error },
    #[error("cannot find this program's own path: {0}")]
    NoProgram(io::Error),
    #[error("HOME is not set, so there is no place for your own units")]
    NoHome,
    #[error("{} holds a different unit already; look at it, then use --force to replace it", .0.display())]
    Different(PathBuf),
    #[error("cannot write {}: {source}{}", path.display(), advice(source))]
    Write { path: PathBuf, source: io::Error },
    #[error("{} has a character that no unit can name (a line break, say)", .0.display())]
    Unspeakable(PathBuf),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; use sudo, or --user for your own systemd",
        _ => "",
    }
}

/// Writes or prints the unit. The file must be good first: a service that cannot start helps nobody.
pub fn install(arguments: &Install, global: &Global) -> ExitCode {
    let loaded = match file::load_here(&arguments.file, arguments.env.as_deref()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            let told = match global.json {
                true => format!("{:#}\n", problems.to_json()),
                false => problems.render(global.colours_errors()),
            };
            let _told = io::stderr().lock().write_all(told.as_bytes());
            return ExitCode::FAILURE;
        }
    };
    match carry_out(arguments, &loaded.resolved, global) {
        Ok(text) => ending(io::stdout().lock().write_all(text.as_bytes())),
        Err(error) => {
            let told = match global.json {
                true => serde_json::json!({ "error": error.to_string() }).to_string(),
                false => format!("terrace: {error}"),
            };
            let _told = writeln!(io::stderr(), "{told}");
            ExitCode::FAILURE
        }
    }
}

/// What is to be printed.
fn carry_out(arguments: &Install, resolved: &Resolved, global: &Global) -> Result<String, InstallError> {
    let program = std::env::current_exe().map_err(InstallError::NoProgram)?;
    let file = &arguments.file;
    let file = file.canonicalize().map_err(|source| InstallError::NoFile { path: file.clone(), source })?;
    let unit = unit(&program, &file, arguments, resolved)?;
    if arguments.print {
        return Ok(if global.json { format!("{:#}\n", serde_json::json!({ "text": unit })) } else { unit });
    }
    let path = unit_path(arguments.user)?;
    let is_new = write_unit(&path, &unit, arguments.force)?;
    Ok(match global.json {
        true => format!("{:#}\n", serde_json::json!({ "unit": path, "written": is_new })),
        false => next_steps(&path, is_new, arguments.user),
    })
}

fn unit_path(user: bool) -> Result<PathBuf, InstallError> {
    if !user {
        return Ok(PathBuf::from("/etc/systemd/system/terrace.service"));
    }
    let config = match (std::env::var_os("XDG_CONFIG_HOME"), std::env::var_os("HOME")) {
        (Some(config), _) if !config.is_empty() => PathBuf::from(config),
        (_, Some(home)) if !home.is_empty() => Path::new(&home).join(".config"),
        _ => return Err(InstallError::NoHome),
    };
    Ok(config.join("systemd/user/terrace.service"))
}

/// Whether it was written; `false`: it was there already, word for word.
fn write_unit(path: &Path, unit: &str, force: bool) -> Result<bool, InstallError> {
    let failed = |source| InstallError::Write { path: path.to_owned(), source };
    match std::fs::read_to_string(path) {
        Ok(present) if present == unit => return Ok(false),
        Ok(_) if !force => return Err(InstallError::Different(path.to_owned())),
        Err(error) if error.kind() != io::ErrorKind::NotFound && !force => return Err(failed(error)),
        Ok(_) | Err(_) => {}
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    // Beside it first: a full disk must not leave half a unit in its place.
    let beside = path.with_extension("service.new");
    std::fs::write(&beside, unit).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)?;
    Ok(true)
}

fn next_steps(path: &Path, is_new: bool, user: bool) -> String {
    let (systemctl, journalctl) = match user {
        true => ("systemctl --user", "journalctl --user"),
        false => ("sudo systemctl", "journalctl"),
    };
    let verb = if is_new { "wrote" } else { "unchanged:" };
    let mut out = format!("{verb} {}\n\nNext:\n", path.display());
    let linger = ("loginctl enable-linger".to_owned(), "let it run while you are logged out");
    let steps = [
        (format!("{systemctl} daemon-reload"), "let systemd read the unit"),
        (format!("{systemctl} enable --now terrace"), "start it now and at every boot"),
        (format!("{systemctl} status terrace"), "see whether it runs"),
        (format!("{journalctl} -u terrace -f"), "follow what it says"),
        (format!("{systemctl} reload terrace"), "take a changed file over"),
    ];
    for (command, purpose) in steps.into_iter().chain(user.then_some(linger)) {
        let _ = writeln!(out, "  {command:38}  # {purpose}");
    }
    out
}

/// The unit. `TimeoutStopSec` is longer than the longest stop that the file allows, or systemd would cut it short.
fn unit(
    program: &Path,
    file: &Path,
    arguments: &Install,
    resolved: &Resolved,
) -> Result<String, InstallError> {
    let folder = file.parent().unwrap_or_else(|| Path::new("/"));
    let (program, file) = (speakable(program)?, speakable(file)?);
    let env = arguments.env.as_ref().map(|name| format!(" --env {name}")).unwrap_or_default();
    let stop_seconds = stop_seconds(resolved);
    let (target, confined) = match arguments.user {
        true => ("default.target", ""),
        false => ("multi-user.target", CONFINED),
    };
    Ok(format!(
        "\
# Written by `terrace install`.
[Unit]
Description=Terrace for {file}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
NotifyAccess=main
WorkingDirectory={folder}
ExecStart=\"{program}\" up \"{file}\"{env}
ExecReload=\"{program}\" reload --file \"{file}\"
# Only Terrace is signalled: it stops the instances itself, in order. Should it crash, they run on for ten seconds
# under their shims, so that the next Terrace adopts them; nobody left alone stays.
KillMode=process
TimeoutStartSec=10min
TimeoutStopSec={stop_seconds}
Restart=on-failure
RestartSec=1
# The file is wrong: trying again cannot help.
RestartPreventExitStatus=2
LimitNOFILE=1048576
TasksMax=infinity
{confined}
[Install]
WantedBy={target}
",
        folder = speakable_folder(folder)?,
    ))
}

/// What no app needs. An app that needs less still can be confined more: ProtectSystem=strict with ReadWritePaths=,
/// NoNewPrivileges=yes, PrivateDevices=yes.
const CONFINED: &str = "\
# Ports below 1024 without being root, once you set User=.
AmbientCapabilities=CAP_NET_BIND_SERVICE
# What no app has business with. For an app that needs less still, add: NoNewPrivileges=yes, PrivateDevices=yes,
# ProtectSystem=strict with ReadWritePaths= for what it writes.
ProtectSystem=true
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectClock=yes
ProtectHostname=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
LockPersonality=yes
";

/// A path between double quotes in a unit: `%` begins a specifier there, `$` a variable.
fn speakable(path: &Path) -> Result<String, InstallError> {
    let unspeakable = || InstallError::Unspeakable(path.to_owned());
    let text = path.to_str().ok_or_else(unspeakable)?;
    if text.contains(char::is_control) {
        return Err(unspeakable());
    }
    Ok(text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$"))
}

/// A path that stands alone behind `=`, where quotes would be part of it.
fn speakable_folder(path: &Path) -> Result<String, InstallError> {
    speakable(path)?;
    Ok(path.to_string_lossy().replace('%', "%%"))
}

/// The drain of Terrace itself and the slowest service, with a margin for the rest.
fn stop_seconds(resolved: &Resolved) -> u64 {
    let services = resolved.services.values().filter_map(|service| match &service.source {
        file::Source::Run(program) => Some(program.stop.drain.max(program.stop.streams) + program.stop.grace),
        file::Source::Hosts(_) | file::Source::Dns { .. } => None,
    });
    let slowest = services.max().unwrap_or_default();
    resolved.terrace.drain.as_secs() + slowest.as_secs() + 10
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("terrace-install-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_different_unit_is_replaced_only_by_force() {
        let path = folder("force").join("a/terrace.service");
        assert!(write_unit(&path, "one", false).unwrap());
        assert!(!write_unit(&path, "one", false).unwrap());
        assert!(matches!(write_unit(&path, "two", false), Err(InstallError::Different(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        assert!(write_unit(&path, "two", true).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
    }

    #[test]
    fn a_path_means_itself_in_a_unit() {
        assert_eq!(speakable(Path::new("/a b/50%/$x/\"q\"")).unwrap(), "/a b/50%%/$$x/\\\"q\\\"");
        assert!(speakable(Path::new("/a\nExecStart=/bin/evil")).is_err());
    }

    #[test]
    fn systemd_waits_longer_than_the_slowest_service_takes_to_stop() {
        let resolved = Resolved::for_command(&["app".to_owned()]).unwrap();
        assert_eq!(stop_seconds(&resolved), 30 + 300 + 30 + 10);
    }
}
