//! One connection of the app: each request led to what its path asks for.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use super::Shared;
use super::answers::{self, Turn};
use super::wire::Wire;

/// Serves a connection until either side is done.
pub(crate) fn connection(stream: TcpStream, app: &Arc<Shared>) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    let mut turn = Turn { wire: Wire::new(stream)?, app, peer, proxy: None };
    turn.proxy = turn.wire.proxy_header()?;
    while let Some(asked) = turn.wire.next()? {
        let closes = asked.wants_close();
        if !matches!(asked.path(), "/health" | "/metrics") {
            app.count_request();
        }
        if !answers::answer(&mut turn, &asked)? || closes {
            return Ok(());
        }
    }
    Ok(())
}
