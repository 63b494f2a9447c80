//! From a service as it was given to one that can be started: checked, its user resolved, its identity computed.
//!
//! The identity is a hash over everything that is baked into a running process (command, environment, folder, user)
//! and over the release command. Two configurations with the same identity need no new processes; what is not in it
//! (number of instances, how to stop, when it counts as ready) changes in place.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ring::digest;
use rustix::process::Signal;

use crate::config::{INSTANCES_MAX, ReadyKind, ServiceConfig};
use crate::error::Problem;
use crate::shim::processes::MARK;
use crate::users::{Account, Directory};

/// Variables that a service manager or an operator meant for Terrace, not for the app.
const NOT_INHERITED: [&str; 12] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "MAINPID",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
    "CREDENTIALS_DIRECTORY",
    "MANAGERPID",
];

/// A service that can be started.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) config: ServiceConfig,
    pub(crate) account: Option<Account>,
    /// The identity, in hexadecimal.
    pub(crate) hash: String,
}

/// Checks all services at once, and tells everything that is wrong with any of them.
pub(crate) fn check(
    services: Vec<ServiceConfig>,
    inherited: &[(String, String)],
) -> Result<Vec<Spec>, Vec<Problem>> {
    let directory = Directory::read();
    let mut names = BTreeSet::new();
    let (mut specs, mut problems) = (Vec::new(), Vec::new());
    for config in services {
        let mut found = faults(&config, inherited);
        if !names.insert(config.name.clone()) {
            found.push("there are two services of this name".to_owned());
        }
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let account = directory.resolve(config.user.as_deref(), config.group.as_deref(), own);
        match (account, found.is_empty()) {
            (Ok(account), true) => specs.push(Spec { hash: identity(&config), config, account }),
            (resolved, _) => {
                found.extend(resolved.err());
                problems.extend(
                    found.into_iter().map(|message| Problem { service: config.name.clone(), message }),
                );
            }
        }
    }
    if problems.is_empty() { Ok(specs) } else { Err(problems) }
}

fn faults(config: &ServiceConfig, inherited: &[(String, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    if !is_name(&config.name) {
        faults
            .push("a name is a lower-case letter followed by lower-case letters, digits and `-`".to_owned());
    }
    if config.instances > INSTANCES_MAX {
        faults.push(format!("{} instances are more than the {INSTANCES_MAX} it may have", config.instances));
    }
    faults.extend(environment_faults(config));
    faults.extend(ready_fault(config));
    if Signal::from_named_raw(config.stop.signal).is_none() {
        faults.push(format!("{} is no signal to stop with; SIGTERM is 15", config.stop.signal));
    }
    if !config.folder.is_absolute() || !config.folder.is_dir() {
        faults.push(format!("its folder {} does not exist", config.folder.display()));
    } else {
        faults.extend(command_fault(config, inherited));
    }
    faults
}

fn is_name(name: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= 40 && name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(rest)
}

fn environment_faults(config: &ServiceConfig) -> Vec<String> {
    let bad = |name: &str| name.is_empty() || name.contains(['=', '\0']);
    let mut faults = Vec::new();
    for (name, value) in &config.env {
        if bad(name) || value.expose().contains('\0') {
            faults.push(format!("variable `{}` cannot be put into an environment", name.escape_debug()));
        }
    }
    if !config.worker && bad(&config.port_env) {
        faults.push("the name of the variable for the port is empty or has a `=`".to_owned());
    }
    faults
}

fn ready_fault(config: &ServiceConfig) -> Option<String> {
    match &config.ready.kind {
        ReadyKind::Http { .. } | ReadyKind::Tcp if config.worker => Some(
            "a worker has no port, so it can be ready by notification or by having started only".to_owned(),
        ),
        ReadyKind::Http { path, .. }
            if !path.starts_with('/') || path.contains(|c: char| c <= ' ' || c == '\x7f') =>
        {
            Some(format!(
                "the path `{}` of the ready check must start with `/` and hold no blank",
                path.escape_debug()
            ))
        }
        _ => None,
    }
}

/// A release command may be what builds the program, so with one a missing program is found out later.
fn command_fault(config: &ServiceConfig, inherited: &[(String, String)]) -> Option<String> {
    if config.argv.iter().chain(config.release.iter().flatten()).any(|word| word.contains('\0')) {
        return Some("a word of its command holds a NUL byte".to_owned());
    }
    if config.release.as_ref().is_some_and(Vec::is_empty) {
        return Some("its release command is empty".to_owned());
    }
    let Some(program) = config.argv.first() else { return Some("its command is empty".to_owned()) };
    if config.release.is_some() || is_found(program, config, inherited) {
        return None;
    }
    Some(match program.contains('/') {
        true => format!(
            "its command `{program}` is not an executable file (seen from {})",
            config.folder.display()
        ),
        false => format!("its command `{program}` was not found in PATH; install it, or give its path"),
    })
}

fn is_found(program: &str, config: &ServiceConfig, inherited: &[(String, String)]) -> bool {
    if program.contains('/') {
        return is_executable(&config.folder.join(program));
    }
    let own = config.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.expose());
    let path =
        own.or_else(|| inherited.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str()));
    let folders = path.unwrap_or("/bin:/usr/bin");
    folders.split(':').any(|folder| is_executable(&config.folder.join(folder).join(program)))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// SHA-256 over length-prefixed fields, so that no two configurations run together; cut to 128 bits.
fn identity(config: &ServiceConfig) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash_list(&mut hash, config.argv.iter().map(String::as_str));
    hash_list(&mut hash, config.release.iter().flatten().map(String::as_str));
    let folder = config.folder.to_string_lossy();
    let worker = if config.worker { "worker" } else { "server" };
    let user = config.user.as_deref().unwrap_or_default();
    let group = config.group.as_deref().unwrap_or_default();
    hash_list(&mut hash, [&*folder, worker, user, group, &config.port_env].into_iter());
    let env: BTreeMap<&str, &str> =
        config.env.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    hash_list(&mut hash, env.into_iter().flat_map(|(name, value)| [name, value]));
    hash.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash_list<'a>(hash: &mut digest::Context, fields: impl Iterator<Item = &'a str>) {
    let mut count = 0_u64;
    for field in fields {
        hash.update(&(field.len() as u64).to_le_bytes());
        hash.update(field.as_bytes());
        count += 1;
    }
    hash.update(&u64::MAX.to_le_bytes());
    hash.update(&count.to_le_bytes());
}

/// What of Terrace's own environment every app may see.
pub(crate) fn inheritable(environment: &[(OsString, OsString)]) -> Vec<(String, String)> {
    let text =
        |(name, value): &(OsString, OsString)| Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()));
    let wanted = |(name, _): &(String, String)| {
        !name.starts_with("TERRACE_") && !NOT_INHERITED.contains(&name.as_str())
    };
    environment.iter().filter_map(text).filter(wanted).collect()
}

/// The whole environment of one process of `spec`. `id` marks everything that it starts.
pub(crate) fn environment(
    spec: &Spec,
    inherited: &[(String, String)],
    (instance, id): (&str, &str),
    port: Option<u16>,
) -> Vec<(String, String)> {
    let mut env: BTreeMap<String, String> = inherited.iter().cloned().collect();
    if let Some(account) = &spec.account {
        env.extend(account.env.iter().cloned());
    }
    env.extend(spec.config.env.iter().map(|(name, value)| (name.clone(), value.expose_to(instance))));
    env.insert("TERRACE_SERVICE".to_owned(), spec.config.name.clone());
    env.insert("TERRACE_INSTANCE".to_owned(), instance.to_owned());
    env.insert(MARK.to_owned(), id.to_owned());
    if let Some(port) = port {
        env.insert(spec.config.port_env.clone(), port.to_string());
    }
    env.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, Value};
    use std::path::PathBuf;

    fn service() -> ServiceConfig {
        ServiceConfig::new("orders", vec!["/bin/sh".to_owned(), "-c".to_owned(), "exit".to_owned()])
    }

    fn hash(change: impl FnOnce(&mut ServiceConfig)) -> String {
        let mut config = service();
        change(&mut config);
        identity(&config)
    }

    #[test]
    fn what_is_baked_into_a_process_changes_the_identity() {
        let same = hash(|_| {});
        assert_ne!(same, hash(|config| config.argv.push("more".to_owned())));
        assert_ne!(same, hash(|config| config.env.push(("A".to_owned(), Value::Plain("b".to_owned())))));
        assert_ne!(same, hash(|config| config.folder = PathBuf::from("/tmp")));
        assert_ne!(same, hash(|config| config.user = Some("app".to_owned())));
        assert_ne!(same, hash(|config| config.release = Some(vec!["migrate".to_owned()])));
    }

    #[test]
    fn what_can_change_in_place_does_not() {
        let same = hash(|_| {});
        assert_eq!(same, hash(|config| config.instances = 7));
        assert_eq!(same, hash(|config| config.stop.grace *= 2));
        assert_eq!(same, hash(|config| config.ready.within *= 2));
    }

    #[test]
    fn the_order_of_variables_does_not_matter_and_words_do_not_run_together() {
        let variable = |name: &str, value: &str| (name.to_owned(), Value::Plain(value.to_owned()));
        let one = hash(|config| config.env = vec![variable("A", "1"), variable("B", "2")]);
        let other = hash(|config| config.env = vec![variable("B", "2"), variable("A", "1")]);
        assert_eq!(one, other);
        let split = hash(|config| config.argv = vec!["/bin/sh".to_owned(), "-cexit".to_owned()]);
        assert_ne!(split, hash(|_| {}));
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let missing = ServiceConfig::new("orders", vec!["no-such-program".to_owned()]);
        let mut odd = ServiceConfig::new("Odd", vec!["./nothing".to_owned()]);
        odd.folder = PathBuf::from("/nowhere/at/all");
        odd.worker = true;
        let problems = check(vec![missing, odd, service(), service()], &[]).expect_err("all are wrong");
        let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        for part in [
            "`no-such-program` was not found",
            "a name is",
            "/nowhere/at/all",
            "a worker has no port",
            "two services",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn an_app_sees_neither_terraces_secrets_nor_its_service_manager() {
        let own = [("TERRACE_TOKEN", "x"), ("NOTIFY_SOCKET", "/run/n"), ("LANG", "C")];
        let own: Vec<_> =
            own.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        assert_eq!(inheritable(&own), [("LANG".to_owned(), "C".to_owned())]);
    }

    #[test]
    fn its_own_variables_win_over_inherited_ones_and_its_port_over_all() {
        let mut config = service();
        config.env.push(("LANG".to_owned(), Value::Secret(Secret::new("de"))));
        config.env.push(("PORT".to_owned(), Value::Plain("1".to_owned())));
        config.env.push(("ID".to_owned(), Value::OfInstance("id=".to_owned())));
        let spec = Spec { hash: identity(&config), config, account: None };
        let env = environment(&spec, &[("LANG".to_owned(), "C".to_owned())], ("orders-1", "1"), Some(4000));
        let get = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(get("LANG"), Some("de"));
        assert_eq!(get("ID"), Some("id=orders-1"), "each instance has its own name");
        assert_eq!(get("PORT"), Some("4000"));
        assert_eq!(get("TERRACE_INSTANCE"), Some("orders-1"));
    }
}
