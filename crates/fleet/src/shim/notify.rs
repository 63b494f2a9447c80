//! The socket on which an app says that it is ready, as service managers have it (sd_notify(3)).
//!
//! On Linux its address is in the abstract namespace: no path to be too long or in a folder that the app's user may
//! not enter. Anybody may send there, so the kernel is asked who did, and only the app is believed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::process::Pid;

/// A datagram is longer than any state an app has to tell.
const DATAGRAM_BYTES_MAX: usize = 4 * 1024;

/// The app's end is the address in `NOTIFY_SOCKET`.
#[derive(Debug)]
pub(crate) struct Notify(UnixDatagram);

/// What the app said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) ready: bool,
    pub(crate) status: Option<String>,
}

/// The address for an instance, as it stands in `NOTIFY_SOCKET`.
pub(crate) fn address(instances: &Path, instance: &str, id: &str) -> String {
    if cfg!(target_os = "linux") {
        return format!("@terrace/{instance}.{id}");
    }
    instances.join(super::protocol::file_name(instance, id, "notify")).to_string_lossy().into_owned()
}

impl Notify {
    pub(crate) fn bind(address: &str) -> io::Result<Self> {
        let socket = bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// The next thing that the app, or `user`, said; `None` when there is nothing more.
    pub(crate) fn next(&self, app: Pid, user: u32) -> Option<Said> {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        loop {
            let (count, trusted) = receive(&self.0, &mut buffer, app, user).ok()?;
            if trusted {
                return Some(parse(&String::from_utf8_lossy(&buffer[..count])));
            }
        }
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn parse(text: &str) -> Said {
    let status = text.lines().find_map(|line| line.strip_prefix("STATUS="));
    Said {
        ready: text.lines().any(|line| line == "READY=1"),
        status: status.map(|status| status.chars().take(200).collect()),
    }
}

#[cfg(target_os = "linux")]
fn bind(address: &str) -> io::Result<UnixDatagram> {
    use std::os::linux::net::SocketAddrExt;
    let name = address.strip_prefix('@').unwrap_or(address);
    let socket = UnixDatagram::bind_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
    rustix::net::sockopt::set_socket_passcred(&socket, true)?;
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn receive(socket: &UnixDatagram, buffer: &mut [u8], app: Pid, user: u32) -> io::Result<(usize, bool)> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [io::IoSliceMut::new(buffer)];
    let count = recvmsg(socket, &mut slices, &mut control, RecvFlags::DONTWAIT)?.bytes;
    let trusted = control.drain().any(|message| match message {
        RecvAncillaryMessage::ScmCredentials(sender) => {
            sender.uid.as_raw() == user || rustix::process::getpgid(Some(sender.pid)) == Ok(app)
        }
        _ => false,
    });
    Ok((count, trusted))
}

#[cfg(not(target_os = "linux"))]
fn bind(address: &str) -> io::Result<UnixDatagram> {
    UnixDatagram::bind(address)
}

#[cfg(not(target_os = "linux"))]
fn receive(socket: &UnixDatagram, buffer: &mut [u8], _app: Pid, _user: u32) -> io::Result<(usize, bool)> {
    Ok((socket.recv(buffer)?, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_and_status_are_understood_and_the_rest_is_passed_over() {
        assert_eq!(
            parse("STATUS=warming up\nMAINPID=3"),
            Said { ready: false, status: Some("warming up".to_owned()) }
        );
        assert_eq!(parse("READY=1\n"), Said { ready: true, status: None });
        assert_eq!(parse("READY=0"), Said { ready: false, status: None });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_the_apps_user_or_group_is_believed() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("terrace/test.{:x}", terrace_runtime::random::u64());
        let notify = Notify::bind(&format!("@{name}")).expect("a fresh name");
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("short");
        let sender = UnixDatagram::unbound().expect("a socket");
        let own = rustix::process::getuid().as_raw();
        sender.send_to_addr(b"READY=1", &address).expect("bound");
        assert_eq!(notify.next(Pid::INIT, own + 1), None);
        sender.send_to_addr(b"READY=1", &address).expect("bound");
        assert_eq!(notify.next(Pid::INIT, own).map(|said| said.ready), Some(true));
    }
}
