//! The one thread that writes.
//!
//! It sleeps until something was said. Events are written at once; access lines are left to gather for a moment first,
//! so that under load one wake-up and one write serve thousands of requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Duration;

use terrace_instruments::{Event, Level, Receiver, Timestamp};
use terrace_runtime::clock;

use crate::line::push_record;
use crate::output::Output;
use crate::records::{self, RecordBook};

/// How long access lines gather.
const LINGER: Duration = Duration::from_millis(50);
/// The longest sleep: only a net below lost wake-ups, which do not happen.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// A buffer that grew beyond this is given back.
const BUFFER_KEPT_BYTES_MAX: usize = 1 << 20;
/// How often losses are told of while nothing else happens.
const TELL_LOSSES_EVERY: Duration = Duration::from_secs(10);

/// What the writer is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Write elsewhere from now on.
    Use(Box<Outputs>),
    /// Open files anew by their names.
    Reopen,
    /// Answer when everything said so far is written.
    Flush(mpsc::SyncSender<()>),
    /// Write everything said so far, answer and end.
    Stop(mpsc::SyncSender<()>),
}

/// Both destinations.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) events: Output,
    /// `None` when it is the events' own.
    pub(crate) access: Option<Output>,
}

/// Lines that no destination took, since the start.
#[derive(Debug, Default)]
pub(crate) struct LostLines {
    pub(crate) events: AtomicU64,
    pub(crate) access: AtomicU64,
}

/// The writing thread's own.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) receiver: Receiver,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) outputs: Outputs,
    pub(crate) lost: Arc<LostLines>,
    /// Where what was said is kept, whether or not it is written.
    pub(crate) book: Arc<RecordBook>,
    pub(crate) stamp: Timestamp,
    /// Lines told to be lost so far: events, and of the access log.
    pub(crate) told: (u64, u64),
    /// When they were.
    pub(crate) told_at: Option<Duration>,
}

/// What was taken and is not yet written.
#[derive(Debug, Default)]
struct Batch {
    events: Vec<Event>,
    /// Access lines, a buffer for each core that had some.
    access: Vec<Vec<u8>>,
    /// Buffers on their way back to the cores.
    spares: Vec<Vec<u8>>,
    /// Lines in the making.
    lines: Vec<u8>,
}

/// What commands ask of a round.
#[derive(Debug, Default)]
struct Asked {
    answers: Vec<mpsc::SyncSender<()>>,
    stop: bool,
}

impl Writer {
    /// Writes until told to stop, or until nobody can tell any more.
    pub(crate) fn run(mut self) {
        let mut batch = Batch::default();
        loop {
            self.receiver.wait(SLEEP_MAX);
            batch.events = self.receiver.take_events();
            if self.round(&mut batch) {
                return;
            }
            if !self.receiver.is_empty() {
                std::thread::sleep(LINGER);
            }
            self.take_all(&mut batch);
            if self.round(&mut batch) {
                return;
            }
        }
    }

    /// Obeys and writes what was taken; says whether that was the last. Commands are read after the lines were
    /// taken: so whatever is said after a change of destination returned is written to the new one.
    fn round(&mut self, batch: &mut Batch) -> bool {
        let asked = self.obey();
        self.write(batch);
        if asked.stop || !asked.answers.is_empty() {
            self.take_all(batch);
            self.write(batch);
        }
        for answer in asked.answers {
            // Whoever asked may have stopped waiting.
            let _ = answer.try_send(());
        }
        asked.stop
    }

    fn obey(&mut self) -> Asked {
        let mut asked = Asked::default();
        loop {
            match self.commands.try_recv() {
                Ok(Command::Use(outputs)) => self.outputs = *outputs,
                Ok(Command::Reopen) => self.outputs.reopen(),
                Ok(Command::Flush(answer)) => asked.answers.push(answer),
                Ok(Command::Stop(answer)) => {
                    asked.answers.push(answer);
                    asked.stop = true;
                }
                Err(mpsc::TryRecvError::Empty) => return asked,
                Err(mpsc::TryRecvError::Disconnected) => return Asked { stop: true, ..asked },
            }
        }
    }

    fn take_all(&self, batch: &mut Batch) {
        batch.events.extend(self.receiver.take_events());
        self.receiver.take_access(&mut batch.spares, &mut batch.access);
    }

    fn write(&mut self, batch: &mut Batch) {
        self.write_events(batch);
        self.write_access(batch);
        batch.spares.append(&mut batch.access);
        for buffer in batch.spares.iter_mut().chain([&mut batch.lines]) {
            buffer.clear();
            buffer.shrink_to(BUFFER_KEPT_BYTES_MAX);
        }
    }

    fn write_events(&mut self, batch: &mut Batch) {
        if batch.events.is_empty() && !self.owes_word_of_losses() {
            return;
        }
        batch.events.extend(self.losses());
        let mut kept = Vec::with_capacity(batch.events.len());
        for event in batch.events.drain(..) {
            let record = records::record(&event);
            // An app that says less important things wants them written; Terrace's own were asked for before they were made.
            if self.receiver.takes(record.level.max(Level::Info)) {
                match &mut self.outputs.events.pretty {
                    Some(pretty) if record.is_app => pretty.push_app(&mut batch.lines, &record, &event),
                    Some(pretty) => pretty.push_event(&mut batch.lines, &event),
                    None => push_record(&mut batch.lines, &mut self.stamp, &record),
                }
            }
            kept.push(record);
        }
        self.book.keep(kept);
        let lost = self.outputs.events.write(clock::now(), clock::wall(), &batch.lines);
        self.lost.events.fetch_add(lost, Relaxed);
        batch.lines.clear();
    }

    fn write_access(&mut self, batch: &mut Batch) {
        let output = match &mut self.outputs.access {
            Some(output) => output,
            None => &mut self.outputs.events,
        };
        for taken in &batch.access {
            let lines = match &mut output.pretty {
                Some(pretty) => {
                    batch.lines.clear();
                    pretty.push_access(&mut batch.lines, taken);
                    &batch.lines
                }
                None => taken,
            };
            let lost = output.write(clock::now(), clock::wall(), lines);
            self.lost.access.fetch_add(lost, Relaxed);
        }
    }

    /// Whatever happens brings word of losses along. Where nothing else does, those of the access log are told by themselves,
    /// and seldom; those of events are not, for the word itself may be lost where events are.
    fn owes_word_of_losses(&self) -> bool {
        let is_time = self.told_at.is_none_or(|at| clock::now() >= at.saturating_add(TELL_LOSSES_EVERY));
        is_time && self.lost_so_far().1 != self.told.1
    }

    fn lost_so_far(&self) -> (u64, u64) {
        let dropped = self.receiver.dropped();
        let events = dropped.events + self.lost.events.load(Relaxed);
        (events, dropped.access + self.lost.access.load(Relaxed))
    }

    /// Tells what was lost since it was last told.
    fn losses(&mut self) -> Option<Event> {
        let (events, access) = self.lost_so_far();
        if (events, access) == self.told {
            return None;
        }
        (self.told, self.told_at) = ((events, access), Some(clock::now()));
        let mut event = Event::new(Level::Warn, "telemetry.log.lines_lost")
            .message("log lines were lost: they came faster than they could be written, or there is no room for them")
            .field("events_total", events)
            .field("access_total", access);
        event.time = clock::wall();
        Some(event)
    }
}

impl Outputs {
    fn reopen(&mut self) {
        self.events.reopen();
        if let Some(access) = &mut self.access {
            access.reopen();
        }
    }
}
