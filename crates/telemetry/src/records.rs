//! Where log records are kept to be searched and followed, and how an event becomes one.
//!
//! The writing thread brings every event here, so that what is searched is what was written, whether or not it was
//! written anywhere. A follower keeps a place in the store and is woken when it has grown: one that is slow holds
//! nothing up and costs nothing, and is told how many records went by.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use terrace_instruments::{Event, Value, push_json_value};
use terrace_signals::records::{APP_OUTPUT, Cursor, LogFilter, LogRecord, RecordStore, Records};
use tokio::sync::watch;

/// Records that a follower takes at a time.
const TAKEN_MAX: usize = 256;

/// The record store, shared by the writing thread and all who look.
#[derive(Debug)]
pub(crate) struct RecordBook {
    store: Mutex<RecordStore>,
    grown: watch::Sender<()>,
    /// Nothing is known of what was before.
    began: SystemTime,
}

/// What a follower gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// A record.
    Record(Arc<LogRecord>),
    /// So many records, of the service that is followed or of all, were overtaken before they could be read.
    Missed(u64),
}

/// Records as they come. Made by [`Handle::follow`](crate::Handle::follow).
#[derive(Debug)]
pub struct RecordStream {
    book: Arc<RecordBook>,
    grown: watch::Receiver<()>,
    filter: LogFilter,
    start: Cursor,
    cursor: Cursor,
    waiting: VecDeque<Arc<LogRecord>>,
}

impl RecordBook {
    pub(crate) fn new(bytes_max: usize, began: SystemTime) -> Self {
        Self { store: Mutex::new(RecordStore::new(bytes_max)), grown: watch::Sender::new(()), began }
    }

    pub(crate) fn set_bytes_max(&self, bytes_max: usize) {
        self.lock().set_bytes_max(bytes_max);
    }

    /// Keeps records, and wakes the followers once.
    pub(crate) fn keep(&self, records: impl IntoIterator<Item = LogRecord>) {
        let mut store = self.lock();
        records.into_iter().for_each(|record| store.push(record));
        drop(store);
        self.grown.send_replace(());
    }

    pub(crate) fn recent(&self, filter: &LogFilter, last: usize) -> Records {
        search(filter, last, |filter, last| self.lock().recent(filter, last))
    }

    /// From when on nothing is missing of a service, or of all.
    pub(crate) fn whole_since(&self, service: Option<&str>) -> SystemTime {
        self.lock().gone_until(service).map_or(self.began, |gone| gone.max(self.began))
    }

    pub(crate) fn services(&self) -> Vec<String> {
        self.lock().services().map(str::to_owned).collect()
    }

    pub(crate) fn follow(self: &Arc<Self>, filter: LogFilter) -> RecordStream {
        let grown = self.grown.subscribe();
        let cursor = self.lock().end();
        let (start, waiting) = (cursor.clone(), VecDeque::new());
        RecordStream { book: Arc::clone(self), grown, filter, start, cursor, waiting }
    }

    fn lock(&self) -> MutexGuard<'_, RecordStore> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for text when the store is free again: going through all of it takes some tens of milliseconds, during which
/// the writing thread must not wait.
fn search(filter: &LogFilter, last: usize, find: impl FnOnce(&LogFilter, usize) -> Records) -> Records {
    if filter.text.is_none() {
        return find(filter, last);
    }
    let mut found = find(&LogFilter { text: None, ..filter.clone() }, usize::MAX);
    let mut wanted: Records =
        found.drain(..).rev().filter(|record| filter.wants(record)).take(last).collect();
    wanted.reverse();
    wanted
}

impl RecordStream {
    /// What had been said when the stream was asked for, at most `last` records, oldest first. None of it comes again.
    pub fn recent(&self, last: usize) -> Records {
        search(&self.filter, last, |filter, last| self.book.lock().before(&self.start, filter, last))
    }

    /// The next record that is wanted. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Followed {
        loop {
            if let Some(record) = self.waiting.pop_front() {
                return Followed::Record(record);
            }
            self.grown.borrow_and_update();
            let service = self.filter.service.as_deref();
            let (missed, records) = self.book.lock().after(&mut self.cursor, service, TAKEN_MAX);
            let is_end = records.is_empty();
            self.waiting.extend(records.into_iter().filter(|record| self.filter.wants(record)));
            if missed > 0 {
                return Followed::Missed(missed);
            }
            if is_end {
                // The sender lives in the book, which this stream holds.
                let _never_closed = self.grown.changed().await;
            }
        }
    }
}

/// An event as a record; of what an app printed, as far as its line can be read.
pub(crate) fn record(event: &Event) -> LogRecord {
    let service = event.service.as_deref().unwrap_or_default();
    let instance = event.instance.as_deref().unwrap_or_default();
    let message = event.message.as_deref().unwrap_or_default();
    if event.name == APP_OUTPUT {
        let is_stderr = event.get("stream") == Some(&Value::from("stderr"));
        let is_cut = event.get("cut") == Some(&Value::Bool(true));
        return LogRecord::of_app(event.time, service, instance, message, is_stderr, is_cut);
    }
    LogRecord {
        service: service.to_owned(),
        instance: instance.to_owned(),
        request_id: event.request.clone().unwrap_or_default(),
        trace: event.trace,
        message: message.to_owned(),
        fields: event.fields.iter().map(|(name, value)| ((*name).to_owned(), json(value))).collect(),
        ..LogRecord::new(event.time, event.level, event.name)
    }
}

fn json(value: &Value) -> String {
    let mut out = Vec::new();
    push_json_value(&mut out, value);
    String::from_utf8(out).expect("invariant: JSON text is made of text and ASCII escapes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use terrace_instruments::Level;

    fn said(service: &str, text: &str) -> LogRecord {
        record(&Event::new(Level::Info, APP_OUTPUT).service(service).instance("i").message(text.to_owned()))
    }

    fn book(bytes_max: usize) -> Arc<RecordBook> {
        Arc::new(RecordBook::new(bytes_max, SystemTime::UNIX_EPOCH))
    }

    fn text(followed: Followed) -> String {
        match followed {
            Followed::Record(record) => record.message.clone(),
            Followed::Missed(missed) => format!("missed {missed}"),
        }
    }

    #[tokio::test]
    async fn a_follower_gets_what_was_and_then_what_comes_and_nothing_twice() {
        let book = book(1 << 20);
        book.keep([said("orders", "before")]);
        let mut stream =
            book.follow(LogFilter { service: Some("orders".to_owned()), ..LogFilter::default() });
        book.keep([said("other", "not wanted"), said("orders", "after")]);
        assert_eq!(stream.recent(10).len(), 1);
        assert_eq!(text(stream.next().await), "after");
        let later = tokio::spawn(async move { text(stream.next().await) });
        tokio::task::yield_now().await;
        book.keep([said("orders", "later")]);
        assert_eq!(later.await.unwrap(), "later");
    }

    #[tokio::test]
    async fn a_slow_follower_is_told_what_it_missed_and_goes_on() {
        let book = book(20_000);
        let mut stream = book.follow(LogFilter::default());
        book.keep((0..1_000).map(|number| said("loud", &number.to_string())));
        let Followed::Missed(missed) = stream.next().await else { panic!("it missed most") };
        assert_eq!(text(stream.next().await), missed.to_string());
    }

    #[tokio::test]
    async fn what_is_not_wanted_is_passed_over_however_much_it_is() {
        let book = book(1 << 24);
        let mut stream = book.follow(LogFilter { text: Some("NEEDLE".to_owned()), ..LogFilter::default() });
        book.keep((0..5_000).map(|number| said("loud", &number.to_string())));
        book.keep([said("loud", "a needle")]);
        assert_eq!(text(stream.next().await), "a needle");
        assert_eq!(stream.recent(10), Records::new());
        let found = book.recent(&LogFilter { text: Some("99".to_owned()), ..LogFilter::default() }, 2);
        assert_eq!(found.iter().map(|record| record.message.as_str()).collect::<Vec<_>>(), ["4998", "4999"]);
    }

    #[test]
    fn what_memory_holds_no_more_is_known() {
        let book = book(10_000);
        assert_eq!(book.whole_since(None), SystemTime::UNIX_EPOCH);
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
        book.keep((0..1_000).map(|_| LogRecord { time: at, ..said("loud", "x") }));
        assert_eq!(
            (book.whole_since(Some("loud")), book.whole_since(Some("quiet"))),
            (at, SystemTime::UNIX_EPOCH)
        );
        assert!(book.lock().bytes() <= 10_000);
    }

    #[test]
    fn an_event_keeps_all_that_it_says() {
        let event = Event::new(Level::Warn, "fleet.instance.crashed").service("orders").request("r1");
        let record = record(&event.message("no").field("restarts", 3_u32).field("why", "a\nb"));
        assert_eq!((record.event.as_str(), record.request_id.as_str()), ("fleet.instance.crashed", "r1"));
        let fields = [("restarts", "3"), ("why", r#""a\nb""#)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(record.fields, fields);
        assert!(!record.is_app);
    }
}
