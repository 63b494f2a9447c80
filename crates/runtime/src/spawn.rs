//! What a child process must do to itself between `fork` and `exec`: leave the terminal's session, lead a process
//! group, become another user, and ask to die with its parent.
//!
//! The standard library can do some of this, but not in the order that is needed: the kernel forgets the request to
//! die with the parent when the user changes, and supplementary groups can only be set while still root. So all of it
//! happens in one hook, in the only order that works: session or group, then identity, then the death signal.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Whom the child becomes. Only root may ask for this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub user: u32,
    /// Primary group id.
    pub group: u32,
    /// Supplementary group ids; replaces those of the parent, also when empty.
    pub groups: Vec<u32>,
}

/// What the child does before it becomes the program.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Leads a new session, away from the terminal: Ctrl-C there does not reach it. Implies its own process group.
    pub session: bool,
    /// Leads a new process group, so that it and its children can be signalled together.
    pub group: bool,
    /// The kernel kills it (SIGKILL) when the *thread* that started it ends. Linux only; elsewhere it is ignored.
    pub die_with_parent: bool,
    /// Becomes another user.
    pub identity: Option<Identity>,
}

/// Makes `command` do what `setup` says in each child that it starts from now on, in the process that calls this.
pub fn prepare(command: &mut Command, setup: Setup) {
    if setup.group && !setup.session {
        command.process_group(0);
    }
    install(command, setup);
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "pre_exec is the only hook between fork and exec")]
fn install(command: &mut Command, setup: Setup) {
    let hook = linux::Hook::new(setup);
    // SAFETY: the closure runs in the forked child, where only async-signal-safe work is allowed: other threads are
    // gone and may have held any lock. `Hook::run` makes bare system calls through rustix (linux_raw: no libc state,
    // no lock) on values that were allocated before the fork; it neither allocates, nor locks, nor panics.
    unsafe {
        command.pre_exec(move || hook.run());
    }
}

#[cfg(not(target_os = "linux"))]
#[expect(unsafe_code, reason = "pre_exec is the only hook between fork and exec")]
fn install(command: &mut Command, setup: Setup) {
    if let Some(identity) = setup.identity {
        command.uid(identity.user).gid(identity.group);
    }
    if setup.session {
        // SAFETY: setsid(2) is async-signal-safe, and the closure does nothing else: no allocation, no lock.
        unsafe {
            command.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from));
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{Setup, io};
    use rustix::process::{Gid, Pid, Signal, Uid};
    use rustix::{process, thread};

    /// [`Setup`] in the kernel's types, so that nothing is converted after the fork.
    pub(super) struct Hook {
        session: bool,
        die_with_parent: bool,
        identity: Option<(Uid, Gid, Vec<Gid>)>,
        parent: Pid,
    }

    impl Hook {
        pub(super) fn new(setup: Setup) -> Self {
            let identity = setup.identity.map(|identity| {
                let groups = identity.groups.into_iter().map(Gid::from_raw).collect();
                (Uid::from_raw(identity.user), Gid::from_raw(identity.group), groups)
            });
            Self {
                session: setup.session,
                die_with_parent: setup.die_with_parent,
                identity,
                parent: process::getpid(),
            }
        }

        /// Runs in the child. The death signal comes last: a change of user clears it.
        pub(super) fn run(&self) -> io::Result<()> {
            if self.session {
                process::setsid()?;
            }
            if let Some((user, group, groups)) = &self.identity {
                thread::set_thread_groups(groups)?;
                thread::set_thread_gid(*group)?;
                thread::set_thread_uid(*user)?;
            }
            if self.die_with_parent {
                self.die_with_parent()?;
            }
            Ok(())
        }

        /// A parent that died before the request was made would never be noticed, so the child looks once more.
        fn die_with_parent(&self) -> io::Result<()> {
            process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if process::getppid() == Some(self.parent) {
                Ok(())
            } else {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    fn output(script: &str, setup: Setup) -> String {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stderr(Stdio::null());
        prepare(&mut command, setup);
        let output = command.output().expect("sh is on every machine");
        String::from_utf8(output.stdout).expect("digits").trim().to_owned()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_leads_its_own_session_or_group() {
        let stat = "read -r line < /proc/$$/stat; set -- ${line##*) }; echo $$ $3 $4";
        let session = output(stat, Setup { session: true, ..Setup::default() });
        let fields: Vec<&str> = session.split(' ').collect();
        assert_eq!((fields[1], fields[2]), (fields[0], fields[0]), "{session}");
        let group = output(stat, Setup { group: true, ..Setup::default() });
        let fields: Vec<&str> = group.split(' ').collect();
        assert_eq!(fields[1], fields[0], "{group}");
        assert_ne!(fields[2], fields[0], "{group}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn root_starts_a_child_as_another_user_with_exactly_the_groups_given() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let identity = Identity { user: 65_534, group: 65_534, groups: vec![7, 9] };
        let setup = Setup { identity: Some(identity), die_with_parent: true, ..Setup::default() };
        assert_eq!(
            output("id -u; id -g; id -G", setup).split_whitespace().collect::<Vec<_>>(),
            ["65534", "65534", "65534", "7", "9"]
        );
    }
}
