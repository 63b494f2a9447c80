//! A crowd that asks for more than there is: so many clients, each with a connection of its own and one request at a time,
//! and of each answer when it came and how long it took.
//!
//! *Closed*, each client asks again as soon as it was answered, so that who is stuck asks for nothing. *Open*, requests are
//! due at a rate whatever became of those before, as they are when the clients are many people; how long an answer took
//! then counts from when its request was due, not from when a client was free to send it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::wait::now;

/// Between two attempts to connect where nobody listens.
const RECONNECT_AFTER: Duration = Duration::from_millis(20);

/// Who asks, and how.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    /// Whom.
    pub address: SocketAddr,
    /// Clients, which is also how many requests are out at once at most.
    pub clients: usize,
    /// Requests that become due each second; none for a closed crowd.
    pub rate_per_s: Option<u64>,
    /// A client waits so long for an answer, then drops the connection.
    pub patience: Duration,
    /// And so long after any answer but 200.
    pub pause: Duration,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Answered with 200.
    Good,
    /// Answered with another status.
    Status(u16),
    /// No answer within the client's patience.
    Late,
    /// The connection broke, or could not be had.
    Broken,
}

/// One request that is over.
#[derive(Debug, Clone, Copy)]
pub struct Reply {
    /// When it was over, since the crowd began.
    pub at: Duration,
    /// How long it took, since it was due.
    pub took: Duration,
    /// What became of it.
    pub fate: Fate,
}

/// Clients at work. They stop when this is dropped.
#[derive(Debug)]
pub struct Crowd {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    asking: Asking,
    began: Instant,
    stop: AtomicBool,
    /// How many requests were begun, in an open crowd.
    turn: AtomicU64,
    replies: Mutex<Vec<Reply>>,
}

impl Crowd {
    /// Sets a crowd to work.
    #[must_use]
    pub fn start(asking: Asking) -> Self {
        let shared = Arc::new(Shared {
            asking,
            began: now(),
            stop: AtomicBool::new(false),
            turn: AtomicU64::new(0),
            replies: Mutex::default(),
        });
        let client = |_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.work())
        };
        let clients = (0..asking.clients).map(client).collect();
        Self { shared, clients }
    }

    /// How long it has been at work.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// All replies so far.
    #[must_use]
    pub fn replies(&self) -> Vec<Reply> {
        self.shared.replies().clone()
    }

    /// Good answers a second between two moments of the crowd's age.
    #[must_use]
    pub fn goodput(&self, from: Duration, to: Duration) -> f64 {
        let is_good = |reply: &&Reply| reply.fate == Fate::Good && (from..to).contains(&reply.at);
        self.shared.replies().iter().filter(is_good).count() as f64 / (to - from).as_secs_f64()
    }

    /// Stops it, and tells all that came of it.
    #[must_use]
    pub fn stop(mut self) -> Vec<Reply> {
        self.end();
        self.replies()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            let _panicked = client.join();
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn work(&self) {
        let mut connection = None;
        while let Some(due) = self.next() {
            let fate = self.ask(&mut connection);
            let ended = now();
            self.replies().push(Reply {
                at: ended.duration_since(self.began),
                took: ended.saturating_duration_since(due),
                fate,
            });
            if fate == Fate::Broken {
                std::thread::sleep(RECONNECT_AFTER);
            } else if fate != Fate::Good && !self.asking.pause.is_zero() {
                std::thread::sleep(self.asking.pause);
            }
        }
    }

    /// When the next request of a client is due, after waiting until then; none when all is over.
    fn next(&self) -> Option<Instant> {
        let due = match self.asking.rate_per_s {
            None => now(),
            Some(rate_per_s) => {
                let turn = self.turn.fetch_add(1, Ordering::SeqCst);
                let due = self.began + Duration::from_nanos(turn * 1_000_000_000 / rate_per_s.max(1));
                std::thread::sleep(due.saturating_duration_since(now()));
                due
            }
        };
        if self.stop.load(Ordering::SeqCst) { None } else { Some(due) }
    }

    fn ask(&self, kept: &mut Option<BufReader<TcpStream>>) -> Fate {
        let asked = match kept.take() {
            Some(connection) => Ok(connection),
            None => self.connect(),
        };
        let exchanged = asked.and_then(|mut connection| {
            let (status, stays) = exchange(&mut connection)?;
            Ok((status, stays.then_some(connection)))
        });
        match exchanged {
            Ok((status, connection)) => {
                *kept = connection;
                if status == 200 { Fate::Good } else { Fate::Status(status) }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Fate::Late
            }
            Err(_) => Fate::Broken,
        }
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(self.asking.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.asking.patience))?;
        Ok(BufReader::new(stream))
    }

    fn replies(&self) -> MutexGuard<'_, Vec<Reply>> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request and its answer: its status, and whether the connection stays.
fn exchange(connection: &mut BufReader<TcpStream>) -> io::Result<(u16, bool)> {
    connection.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    let (mut bytes, mut stays) = (0, true);
    loop {
        line.clear();
        if connection.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            bytes = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
        } else if name.eq_ignore_ascii_case("connection") {
            stays = !value.trim().eq_ignore_ascii_case("close");
        }
    }
    io::copy(&mut connection.take(bytes), &mut io::sink())?;
    Ok((status, stays))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::{Capacity, Mood, Origin};
    use crate::wait::until_true;

    fn asking(address: SocketAddr, patience: Duration) -> Asking {
        Asking { address, clients: 3, rate_per_s: None, patience, pause: Duration::from_millis(1) }
    }

    #[test]
    fn a_crowd_tells_what_became_of_each_request() {
        let origin = Origin::start_many(1, Capacity { workers: 2, service: Duration::from_millis(1) });
        let crowd = Crowd::start(asking(origin.addresses()[0], Duration::from_millis(100)));
        let has = |fate: Fate| crowd.replies().iter().any(|reply| reply.fate == fate);
        until_true("answers came", || has(Fate::Good));
        origin.set([0], Mood::Failing);
        until_true("failures came", || has(Fate::Status(500)));
        origin.set([0], Mood::Silent);
        until_true("patience ran out", || has(Fate::Late));
        origin.set([0], Mood::Refusing);
        until_true("connections broke", || has(Fate::Broken));
        assert!(crowd.goodput(Duration::ZERO, crowd.age()) > 0.0);
    }

    #[test]
    fn an_open_crowd_does_not_ask_more_often_than_it_is_told() {
        let origin = Origin::start_many(1, Capacity { workers: 8, service: Duration::from_millis(1) });
        let open = Asking { rate_per_s: Some(50), ..asking(origin.addresses()[0], Duration::from_secs(5)) };
        let crowd = Crowd::start(open);
        until_true("some answers came", || crowd.replies().len() >= 10);
        let age = crowd.age();
        assert!(crowd.stop().len() as f64 <= age.as_secs_f64() * 50.0 + 4.0, "after {age:?}");
    }
}
