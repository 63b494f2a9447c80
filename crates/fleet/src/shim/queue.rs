//! What a shim has to say and Terrace has not yet taken.
//!
//! An app must never wait for its log, and a shim must never grow: so lines of output have a bound in bytes, and the
//! oldest make room for the newest and are counted. The few other reports are never dropped while connected; when the
//! connection is lost they are, for the next one begins with a full description.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Result, Write};

use super::protocol::{Report, encode};

/// Lines of output kept, in encoded bytes.
pub(crate) const LINES_BYTES_MAX: usize = 256 * 1024;
/// Frames handed to the kernel in one call.
const FRAMES_PER_WRITE: usize = 64;

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Line,
    Dropped(u64),
    Other,
}

#[derive(Debug)]
struct Frame {
    kind: Kind,
    bytes: Vec<u8>,
}

/// The frames that wait, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    frames: VecDeque<Frame>,
    line_bytes: usize,
    /// How much of the first frame is written already.
    written: usize,
    dropped: u64,
}

impl Queue {
    /// Adds a report.
    pub(crate) fn push(&mut self, report: &Report) {
        let kind = if matches!(report, Report::Line(_)) { Kind::Line } else { Kind::Other };
        let bytes = encode(report);
        if kind == Kind::Line {
            self.make_room(bytes.len());
            self.line_bytes += bytes.len();
        }
        self.frames.push_back(Frame { kind, bytes });
    }

    /// A new connection: what is told first. The one before must have been [`reset`](Self::reset).
    pub(crate) fn push_first(&mut self, report: &Report) {
        assert!(self.written == 0, "nothing is half written on a new connection");
        self.frames.push_front(Frame { kind: Kind::Other, bytes: encode(report) });
    }

    /// The connection was lost: lines wait for the next, other reports are void.
    pub(crate) fn reset(&mut self) {
        self.written = 0;
        let lost = |frame: &Frame| if let Kind::Dropped(lines) = frame.kind { lines } else { 0 };
        self.dropped += self.frames.iter().map(lost).sum::<u64>();
        self.frames.retain(|frame| frame.kind == Kind::Line);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Writes what `out` takes without blocking.
    pub(crate) fn write(&mut self, out: &mut impl Write) -> Result<()> {
        loop {
            self.tell_dropped();
            if self.frames.is_empty() {
                return Ok(());
            }
            let slices: Vec<IoSlice<'_>> = self.slices().collect();
            match out.write_vectored(&slices) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn slices(&self) -> impl Iterator<Item = IoSlice<'_>> {
        let skip = |index| if index == 0 { self.written } else { 0 };
        let slice = move |(index, frame): (usize, &'_ Frame)| (skip(index), frame.bytes.len());
        let bounds: Vec<(usize, usize)> =
            self.frames.iter().take(FRAMES_PER_WRITE).enumerate().map(slice).collect();
        self.frames.iter().zip(bounds).map(|(frame, (from, to))| IoSlice::new(&frame.bytes[from..to]))
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
        while let Some(first) = self.frames.front() {
            if self.written < first.bytes.len() {
                return;
            }
            self.written -= first.bytes.len();
            self.forget(0);
        }
    }

    fn make_room(&mut self, wanted: usize) {
        let first = usize::from(self.written > 0);
        while self.line_bytes + wanted > LINES_BYTES_MAX {
            match (first..self.frames.len()).find(|index| self.frames[*index].kind == Kind::Line) {
                Some(index) => self.forget(index),
                None => return,
            }
            self.dropped += 1;
        }
    }

    fn forget(&mut self, index: usize) {
        if let Some(Frame { kind: Kind::Line, bytes }) = self.frames.remove(index) {
            self.line_bytes -= bytes.len();
        }
    }

    /// Told just before the oldest line that is left, and never before the greeting of a new connection.
    fn tell_dropped(&mut self) {
        let before_line = self.frames.front().is_some_and(|frame| frame.kind == Kind::Line);
        if self.dropped == 0 || self.written > 0 || !before_line {
            return;
        }
        let lines = std::mem::take(&mut self.dropped);
        self.frames
            .push_front(Frame { kind: Kind::Dropped(lines), bytes: encode(&Report::Dropped { lines }) });
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{OutputLine, Stream};
    use super::*;

    /// Takes so many bytes and then blocks.
    struct Narrow(Vec<u8>, usize);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            let room = bytes.len().min(self.1);
            if room == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.0.extend_from_slice(&bytes[..room]);
            self.1 -= room;
            Ok(room)
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn line(number: usize) -> Report {
        let text = format!("{number} {}", "x".repeat(1000));
        Report::Line(OutputLine { stream: Stream::Stdout, text, at_ms: 0, cut: false })
    }

    fn told(bytes: &[u8]) -> Vec<Report> {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("whole frames")).collect()
    }

    #[test]
    fn a_flood_keeps_the_newest_lines_and_counts_the_others() {
        let mut queue = Queue::default();
        for number in 0..2000 {
            queue.push(&line(number));
            assert!(queue.line_bytes <= LINES_BYTES_MAX);
        }
        queue.push(&Report::Gone);
        let mut out = Narrow(Vec::new(), usize::MAX);
        queue.write(&mut out).expect("takes all");
        let reports = told(&out.0);
        let lines = reports.iter().filter(|report| matches!(report, Report::Line(_))).count() as u64;
        assert_eq!(reports[0], Report::Dropped { lines: 2000 - lines });
        assert_eq!(reports[reports.len() - 2..], [line(1999), Report::Gone]);
        assert!(queue.is_empty());
    }

    #[test]
    fn whatever_the_reader_takes_at_a_time_it_gets_whole_frames() {
        let mut queue = Queue::default();
        let mut out = Narrow(Vec::new(), 0);
        for number in 0..1500 {
            queue.push(&line(number));
            out.1 = (number * 37) % 900;
            queue.write(&mut out).expect("blocks at worst");
        }
        out.1 = usize::MAX;
        queue.write(&mut out).expect("takes all");
        let dropped: u64 = told(&out.0)
            .iter()
            .map(|report| if let Report::Dropped { lines } = report { *lines } else { 1 })
            .sum();
        assert_eq!(dropped, 1500, "each line was told or counted");
    }

    #[test]
    fn after_a_lost_connection_lines_are_told_again_and_other_reports_are_void() {
        let mut queue = Queue::default();
        queue.push(&Report::Pong);
        queue.push(&line(1));
        let mut out = Narrow(Vec::new(), 100);
        queue.write(&mut out).expect("blocks");
        queue.reset();
        queue.push_first(&Report::Busy);
        let mut next = Narrow(Vec::new(), usize::MAX);
        queue.write(&mut next).expect("takes all");
        assert_eq!(told(&next.0), [Report::Busy, line(1)]);
    }
}
