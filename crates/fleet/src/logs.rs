//! The last lines of each service's output, and whoever follows them live.
//!
//! A ring per service, bounded in lines and bytes, so that one that talks much does not push out what a quiet one
//! said. Followers read from one channel; a follower that is too slow is told how many lines it missed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::shim::protocol::Stream;

/// Lines kept per service.
const LINES_MAX: usize = 2_000;
/// Bytes of text kept per service.
const BYTES_MAX: usize = 1024 * 1024;
/// Lines a follower may lag behind.
const FOLLOW_LINES_MAX: usize = 1_024;

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The service.
    pub service: String,
    /// The instance, such as `orders-1`, or `orders-release`.
    pub instance: String,
    /// Where it was written.
    pub stream: Stream,
    /// When it was written: wall clock, milliseconds since 1970.
    pub at_ms: u64,
    /// The text without its line end; not UTF-8 is replaced.
    pub text: String,
    /// Whether the line was longer than 8 KiB and the rest was left out.
    pub cut: bool,
}

/// What a follower gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// A line.
    Line(Arc<LogLine>),
    /// So many lines (of any service) were missed, because they were not taken in time.
    Missed(u64),
}

/// The lines kept, and then those to come.
#[derive(Debug)]
pub struct LogStream {
    recent: VecDeque<Arc<LogLine>>,
    live: broadcast::Receiver<Arc<LogLine>>,
    wanted: Wanted,
}

/// Which lines.
#[derive(Debug)]
struct Wanted {
    service: Option<String>,
    instance: Option<String>,
}

/// All rings; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LogBook {
    rings: Arc<Mutex<BTreeMap<String, Ring>>>,
    live: broadcast::Sender<Arc<LogLine>>,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
}

impl LogBook {
    pub(crate) fn new() -> Self {
        Self { rings: Arc::default(), live: broadcast::channel(FOLLOW_LINES_MAX).0 }
    }

    /// Keeps a line and hands it to the followers.
    pub(crate) fn push(&self, line: LogLine) {
        let line = Arc::new(line);
        let mut rings = self.lock();
        match rings.get_mut(&line.service) {
            Some(ring) => ring.push(Arc::clone(&line)),
            None => rings.entry(line.service.clone()).or_default().push(Arc::clone(&line)),
        }
        // Under the lock, so that whoever subscribes gets each line once: in the ring or live.
        let _nobody_follows = self.live.send(line);
    }

    /// The lines of a service, or of all, and those to come.
    pub(crate) fn read(&self, service: Option<&str>, instance: Option<&str>) -> LogStream {
        let wanted = Wanted { service: service.map(str::to_owned), instance: instance.map(str::to_owned) };
        let rings = self.lock();
        let lines = rings.values().flat_map(|ring| &ring.lines).filter(|line| wanted.is(line));
        let mut recent: Vec<Arc<LogLine>> = lines.cloned().collect();
        let live = self.live.subscribe();
        drop(rings);
        recent.sort_by_key(|line| line.at_ms);
        LogStream { recent: recent.into(), live, wanted }
    }

    /// The last thing an instance said.
    pub(crate) fn last_text(&self, service: &str, instance: &str) -> Option<String> {
        let rings = self.lock();
        let line = rings.get(service)?.lines.iter().rev().find(|line| line.instance == instance)?;
        Some(line.text.clone())
    }

    /// A service is gone, and what it said with it.
    pub(crate) fn forget(&self, service: &str) {
        self.lock().remove(service);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Ring>> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, line: Arc<LogLine>) {
        self.bytes += line.text.len();
        self.lines.push_back(line);
        while self.lines.len() > LINES_MAX || self.bytes > BYTES_MAX {
            match self.lines.pop_front() {
                Some(oldest) => self.bytes -= oldest.text.len(),
                None => return,
            }
        }
    }
}

impl LogStream {
    /// Takes the lines that were kept when the stream was asked for, oldest first; at most `last` of them.
    pub fn recent(&mut self, last: usize) -> Vec<Arc<LogLine>> {
        let recent = std::mem::take(&mut self.recent);
        let skipped = recent.len().saturating_sub(last);
        recent.into_iter().skip(skipped).collect()
    }

    /// The next line after those; `None` when the fleet is gone. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Option<Followed> {
        loop {
            match self.live.recv().await {
                Ok(line) if self.wanted.is(&line) => return Some(Followed::Line(line)),
                Ok(_) => {}
                Err(RecvError::Lagged(lines)) => return Some(Followed::Missed(lines)),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl Wanted {
    fn is(&self, line: &LogLine) -> bool {
        let matches = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        matches(&self.service, &line.service) && matches(&self.instance, &line.instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(service: &str, number: u64, text: &str) -> LogLine {
        LogLine {
            service: service.to_owned(),
            instance: format!("{service}-1"),
            stream: Stream::Stdout,
            at_ms: number,
            text: text.to_owned(),
            cut: false,
        }
    }

    #[test]
    fn a_loud_service_does_not_push_out_what_a_quiet_one_said() {
        let book = LogBook::new();
        book.push(line("quiet", 0, "once"));
        for number in 0..5_000 {
            book.push(line("loud", number, "again"));
        }
        assert_eq!(book.read(None, None).recent(usize::MAX).len(), LINES_MAX + 1);
        assert_eq!(book.read(Some("quiet"), None).recent(10)[0].text, "once");
        assert_eq!(book.read(Some("loud"), Some("loud-2")).recent(10).len(), 0);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let book = LogBook::new();
        for number in 0..1_000 {
            book.push(line("loud", number, &"x".repeat(8 * 1024)));
        }
        assert_eq!(book.read(None, None).recent(usize::MAX).len(), BYTES_MAX / (8 * 1024));
    }

    #[tokio::test]
    async fn a_follower_gets_what_was_and_what_comes_and_is_told_what_it_missed() {
        let book = LogBook::new();
        book.push(line("orders", 0, "before"));
        let mut stream = book.read(Some("orders"), None);
        book.push(line("other", 1, "not wanted"));
        book.push(line("orders", 2, "after"));
        assert_eq!(stream.recent(10)[0].text, "before");
        assert_eq!(stream.next().await, Some(Followed::Line(Arc::new(line("orders", 2, "after")))));
        for number in 0..FOLLOW_LINES_MAX as u64 + 7 {
            book.push(line("orders", number, "flood"));
        }
        assert_eq!(stream.next().await, Some(Followed::Missed(7)));
    }
}
