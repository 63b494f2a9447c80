//! Telling a service manager how Terrace stands, as described in sd_notify(3): ready, reloading, stopping.

use std::os::unix::net::UnixDatagram;

/// Sends `message` to the service manager, when one listens. What it cannot be told it will do without.
pub(crate) fn tell(message: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let Ok(sender) = UnixDatagram::unbound() else { return };
    let _nobody_listens = match socket.to_str().and_then(|name| name.strip_prefix('@')) {
        Some(name) => send_to_abstract(&sender, name, message),
        None => sender.send_to(message.as_bytes(), &socket),
    };
}

#[cfg(target_os = "linux")]
fn send_to_abstract(sender: &UnixDatagram, name: &str, message: &str) -> std::io::Result<usize> {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    sender.send_to_addr(message.as_bytes(), &address)
}

#[cfg(not(target_os = "linux"))]
fn send_to_abstract(_: &UnixDatagram, _: &str, _: &str) -> std::io::Result<usize> {
    Err(std::io::ErrorKind::Unsupported.into())
}
