//! The app's own signals, taken in: one loopback listener for OTLP over HTTP/1.1, HTTP/2 and gRPC.
//!
//! Spans wait for their trace to be kept, numbers become series beside ours, log records are found among the others. Only
//! this machine is listened to, and no web page of elsewhere. A request is bounded in bytes before and after it is
//! unpacked, in items, and in time; two at a time are read, off the control plane's thread, and who comes while they are
//! read waits a little and is then told to come again. What was refused is told to the sender, as OTLP has it, and counted.

mod body;
mod intake;
mod listener;
mod names;
mod numbers;
mod records;
mod request;
mod said;
mod senders;
mod serve;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use terrace_instruments::{Event, Level, Log, Meter};
use terrace_runtime::drain::{self, Drain, Drainer};
use terrace_runtime::sockets::Listening;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Config;
use crate::observatory::Observatory;
use crate::records::RecordBook;
use intake::Intake;
use listener::Listener;

pub(crate) use said::Said;

/// Before an address that is taken is tried again.
const BIND_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Takes in what the app sends, where the configuration says, as it says at the time.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) meter: Meter,
    pub(crate) observatory: Arc<Observatory>,
    pub(crate) book: Arc<RecordBook>,
    pub(crate) log: Log,
}

impl Receiving {
    /// Until `drain` is asked for.
    pub(crate) async fn run(mut self, mut drain: Drain) {
        let intake = Intake::new(&self.meter, Arc::clone(&self.observatory), Arc::clone(&self.book));
        let listener = Listener::new(Arc::new(intake));
        let mut open: Option<(SocketAddr, Drainer)> = None;
        let mut told = None;
        loop {
            let wanted = self.config.borrow_and_update().receive;
            if wanted != open.as_ref().map(|(address, _)| *address) {
                // The old one first, for the new one may be the same port of another address.
                open = None;
            }
            let mut again = None;
            if let (Some(address), None) = (wanted, &open) {
                match open_socket(address) {
                    Ok(socket) => {
                        let (closer, closing) = drain::channel();
                        tokio::spawn(listener.clone().serve(socket, closing));
                        open = Some((address, closer));
                    }
                    Err(error) => {
                        again = Some(BIND_AGAIN_AFTER);
                        if told.replace(address) != Some(address) {
                            self.tell(address, &error);
                        }
                    }
                }
            }
            tokio::select! {
                () = drain.requested() => return,
                changed = self.config.changed() => if changed.is_err() { return },
                () = pause(again) => {}
            }
        }
    }

    fn tell(&self, address: SocketAddr, error: &io::Error) {
        let event = Event::new(Level::Warn, "telemetry.receive.not_listening")
            .message("the app's own telemetry cannot be taken in; tried again every 5 s")
            .field("address", address)
            .field("error", error.to_string());
        self.log.emit(event);
    }
}

fn open_socket(address: SocketAddr) -> io::Result<TcpListener> {
    let mut sockets = Listening::open(address, 1)?.into_sockets();
    TcpListener::from_std(sockets.remove(0))
}

/// For ever when there is nothing to wait for.
async fn pause(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
