//! What one core of the data plane has for itself: the snapshot in force, its connections to endpoints, the clients
//! connected to it. All of it is touched by one thread only.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use terrace_instruments::{Counter, Event, Kept, Level, Log, Span, Tracer};
use terrace_runtime::clock;
use terrace_upstream::{Pool, Shelf};

use crate::flight::{Flight, Recorder};
use crate::listener::Shared;
use crate::lookout::{LOOK_EVERY, Lookout};
use crate::overload::Overload;
use crate::snapshot::{ListenerView, Names, Snapshot};
use crate::spans::KeptFlight;
use crate::trace::Half;

/// How long the last snapshot of a listener that went away is kept for connections that are still in its line.
const FORMER_KEPT: Duration = Duration::from_secs(5);

/// Snapshots whose hops can still be told of by name: four reloads within the flight recorder's memory.
const NAMES_MAX: usize = 4;
/// Hops that a core makes spans of within a second: some milliseconds of its time. Of further ones, when everything fails
/// at once, it is known that they were.
const KEPT_PER_SECOND_MAX: u32 = 500;
/// Of these, hops that went well in traces of others. Any caller can have those kept, by the flag in `traceparent` or by the
/// trace's id, and must leave room for what fails (W3C Trace Context, "Security Considerations", "Denial of Service").
const THEIRS_PER_SECOND_MAX: u32 = 250;

thread_local! {
    static HERE: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// How many hops may still be kept in a second.
#[derive(Debug, Clone, Copy, Default)]
struct Allowance {
    second: u64,
    kept: u32,
    theirs: u32,
}

impl Allowance {
    /// Whether one more may be kept.
    fn take(&mut self, second: u64, is_theirs: bool) -> bool {
        if self.second != second {
            *self = Self { second, ..Self::default() };
        }
        if self.kept >= KEPT_PER_SECOND_MAX || is_theirs && self.theirs >= THEIRS_PER_SECOND_MAX {
            return false;
        }
        self.kept += 1;
        self.theirs += u32::from(is_theirs);
        true
    }
}

/// One core's own.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) pool: Pool,
    pub(crate) log: Log,
    pub(crate) tracer: Tracer,
    pub(crate) overload: Arc<Overload>,
    pub(crate) lookout: Lookout,
    panics: Counter,
    snapshot: RefCell<Rc<InForce>>,
    /// The last snapshots of listeners that went away, by name, until their last connection has.
    former: RefCell<HashMap<String, Former>>,
    clients: RefCell<HashMap<u64, Rc<Client>>>,
    next_client: Cell<u64>,
    /// The time of day at the clock's start, as of the last second: of a request it is worked out, not asked for.
    wall_at_start: Cell<Duration>,
    recorder: RefCell<Recorder>,
    /// Ids of traces kept late that were looked for so far.
    late_seen: Cell<u64>,
    /// Of the last snapshots, the newest last.
    names: RefCell<VecDeque<Arc<Names>>>,
    allowance: Cell<Allowance>,
    /// Of the traces that begin here within this second.
    trace_half: Cell<Half>,
}

/// The snapshot in force, counted by this core for itself: no two cores write the same count for each request.
#[derive(Debug)]
pub(crate) struct InForce(Arc<Snapshot>);

/// The last snapshot in which a listener was.
#[derive(Debug)]
struct Former {
    snapshot: Rc<InForce>,
    since: Duration,
}

/// What a connection sees of the configuration: the snapshot in force, or, when its listener has gone away, the last one
/// that had it. Whoever was let in is served.
#[derive(Debug)]
pub(crate) struct Sight<'a> {
    core: &'a Core,
    listener: &'a str,
    current: Rc<InForce>,
    former: OnceCell<Option<Rc<InForce>>>,
}

impl Sight<'_> {
    /// The snapshot and the listener in it.
    pub(crate) fn look(&self) -> Option<(&Snapshot, &ListenerView)> {
        if let Some(view) = self.current.listeners.get(self.listener) {
            return Some((&self.current, view));
        }
        let former = self.former.get_or_init(|| self.core.former(self.listener)).as_ref()?;
        former.listeners.get(self.listener).map(|view| (&***former, view))
    }
}

impl std::ops::Deref for InForce {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

impl Core {
    /// Makes this thread a core of the data plane.
    pub(crate) fn install(
        snapshot: Arc<Snapshot>,
        shelf: Arc<Shelf>,
        (log, tracer): (Log, Tracer),
        (panics, overload): (Counter, Arc<Overload>),
    ) -> Rc<Self> {
        let core = Rc::new(Self {
            pool: Pool::new(shelf),
            log,
            tracer,
            overload,
            lookout: Lookout::default(),
            panics,
            wall_at_start: Cell::default(),
            recorder: RefCell::default(),
            late_seen: Cell::new(0),
            names: RefCell::new(VecDeque::from([Arc::clone(&snapshot.names)])),
            allowance: Cell::default(),
            trace_half: Cell::new(Half::new()),
            snapshot: RefCell::new(Rc::new(InForce(snapshot))),
            former: RefCell::default(),
            clients: RefCell::default(),
            next_client: Cell::new(0),
        });
        core.set_wall();
        HERE.set(Some(Rc::clone(&core)));
        core
    }

    /// Looks after what a core looks after once a second.
    pub(crate) fn sweep(&self) {
        self.pool.sweep();
        self.trace_half.set(Half::new());
        self.forget_former();
        self.set_wall();
        self.tell_late();
    }

    /// Looks ten times a second after the requests that wait, for as long as the core is there; each time it says by how
    /// much it came too late.
    pub(crate) async fn look_after_waiting(self: Rc<Self>, number: usize) {
        loop {
            let due = clock::now() + LOOK_EVERY;
            tokio::time::sleep_until(clock::instant(due)).await;
            let now = clock::now();
            self.overload.lagged(number, now.saturating_sub(due));
            self.lookout.look(now);
        }
    }

    fn set_wall(&self) {
        let since = clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.wall_at_start.set(since.saturating_sub(clock::now()));
    }

    /// The time of day at a moment, by the wall clock of the last second.
    #[inline]
    pub(crate) fn wall_at(&self, moment: Duration) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.wall_since_1970(moment)
    }

    /// The same as the time since 1970, which is what a line is made of.
    #[inline]
    pub(crate) fn wall_since_1970(&self, moment: Duration) -> Duration {
        self.wall_at_start.get() + moment
    }

    /// The upper half of the ids of traces that begin now.
    #[inline]
    pub(crate) fn trace_half(&self) -> Half {
        self.trace_half.get()
    }

    /// Takes a hop that is over, as `write` tells it: it is handed over when it is kept, else it is remembered for
    /// a while where its trace may have others, written where it stays.
    #[inline]
    pub(crate) fn landed(
        &self,
        kept: Option<Kept>,
        (now, is_compared): (Duration, bool),
        names: &Names,
        write: impl FnOnce(&mut Flight),
    ) {
        if let Some(why) = kept {
            let mut flight = Flight::blank();
            write(&mut flight);
            return self.keep(flight, why, names);
        }
        if !is_compared && !self.tracer.has_callers(now) {
            return;
        }
        let is_due = {
            let mut recorder = self.recorder.borrow_mut();
            write(recorder.place());
            recorder.is_due()
        };
        if is_due {
            self.tell_late();
        }
    }

    #[cold]
    fn keep(&self, flight: Flight, why: Kept, names: &Names) {
        let mut allowance = self.allowance.get();
        let is_theirs = flight.place.parent.is_some() && !why.is_late() && !flight.is_error;
        let is_allowed = allowance.take(flight.ended.as_secs(), is_theirs);
        self.allowance.set(allowance);
        if !is_allowed {
            return self.tracer.count_dropped(1);
        }
        if why.is_late() {
            self.tracer.keep_late(flight.place.trace, why);
        }
        self.hand_over(flight, why, names);
    }

    fn hand_over(&self, flight: Flight, why: Kept, names: &Names) {
        let kept = KeptFlight::new(flight, names, self.wall_at_start.get(), why);
        self.tracer.keep_hop(Box::new(kept));
    }

    /// Hands over the span of a copy whose answer was another than the real one, and has its trace kept.
    #[cold]
    pub(crate) fn keep_difference(&self, span: Span) {
        let mut allowance = self.allowance.get();
        let is_allowed = allowance.take(clock::now().as_secs(), true);
        self.allowance.set(allowance);
        if !is_allowed {
            return self.tracer.count_dropped(1);
        }
        self.tracer.keep_late(span.trace, Kept::Differed);
        self.tracer.keep(vec![span]);
    }

    /// Hands over what is remembered of traces that turned out to be kept.
    #[cold]
    pub(crate) fn tell_late(&self) {
        let mut fresh = Vec::new();
        let seen = self.tracer.late_since(self.late_seen.get(), |trace, why| fresh.push((trace, why)));
        self.late_seen.set(seen);
        let found = self.recorder.borrow_mut().look(fresh, clock::now());
        let known = self.names.borrow();
        for (flight, why) in found {
            match known.iter().find(|names| names.serial == flight.names) {
                Some(names) => self.hand_over(flight, why, names),
                None => self.tracer.count_dropped(1),
            }
        }
    }

    /// The core that this thread is.
    pub(crate) fn here() -> Option<Rc<Self>> {
        HERE.with_borrow(Clone::clone)
    }

    /// The snapshot in force, as a connection of `listener` sees it; whoever holds it keeps what it was told to the end
    /// of its request.
    pub(crate) fn sight<'a>(&'a self, listener: &'a str) -> Sight<'a> {
        let current = Rc::clone(&self.snapshot.borrow());
        Sight { core: self, listener, current, former: OnceCell::new() }
    }

    pub(crate) fn set_snapshot(&self, snapshot: Arc<Snapshot>) {
        {
            let mut names = self.names.borrow_mut();
            names.push_back(Arc::clone(&snapshot.names));
            if names.len() > NAMES_MAX {
                names.pop_front();
            }
        }
        let next = Rc::new(InForce(snapshot));
        let before = self.snapshot.replace(Rc::clone(&next));
        let mut former = self.former.borrow_mut();
        former.retain(|listener, _| !next.listeners.contains_key(listener));
        for listener in before.listeners.keys().filter(|listener| !next.listeners.contains_key(*listener)) {
            let last = Former { snapshot: Rc::clone(&before), since: clock::now() };
            former.insert(listener.clone(), last);
        }
    }

    fn former(&self, listener: &str) -> Option<Rc<InForce>> {
        self.former.borrow().get(listener).map(|former| Rc::clone(&former.snapshot))
    }

    /// Lets go of the last snapshots of listeners that nobody is connected to any more.
    pub(crate) fn forget_former(&self) {
        let clients = self.clients.borrow();
        let is_seen = |listener: &str| clients.values().any(|client| client.listener.name == listener);
        let recent = clock::now().saturating_sub(FORMER_KEPT);
        self.former.borrow_mut().retain(|listener, former| former.since > recent || is_seen(listener));
    }

    /// Registers a client's connection until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>, listener: &Arc<Shared>) -> ClientGuard {
        let id = self.next_client.get();
        self.next_client.set(id + 1);
        let is_leaving = Cell::new(listener.is_closing());
        let client = Client { listener: Arc::clone(listener), is_leaving, waker: RefCell::new(None) };
        let client = Rc::new(client);
        self.clients.borrow_mut().insert(id, Rc::clone(&client));
        ClientGuard { core: Rc::clone(self), id, client }
    }

    /// Asks the connections of a listener to end when their requests have.
    pub(crate) fn ask_to_leave(&self, listener: u64) {
        for client in self.clients.borrow().values().filter(|client| client.listener.id == listener) {
            client.is_leaving.set(true);
            if let Some(waker) = client.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// To be called where a task of a client ends: tells when a panic ended it. The runtime contains it, and the core
    /// serves all others on.
    pub(crate) fn note_panic(&self) {
        if std::thread::panicking() {
            self.panics.inc();
            let event = Event::new(Level::Error, "edge.panic");
            let what = "a client's connection or stream was given up because of a fault in Terrace; please report it";
            self.log.emit(event.message(what));
        }
    }

    /// How many connections of a listener are open.
    pub(crate) fn clients_of(&self, listener: u64) -> usize {
        self.clients.borrow().values().filter(|client| client.listener.id == listener).count()
    }
}

/// A client's connection, as its core knows it.
#[derive(Debug)]
struct Client {
    listener: Arc<Shared>,
    is_leaving: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Keeps a client's connection registered.
#[derive(Debug)]
pub(crate) struct ClientGuard {
    core: Rc<Core>,
    id: u64,
    client: Rc<Client>,
}

impl ClientGuard {
    /// Whether the connection was asked to end.
    pub(crate) fn is_leaving(&self) -> bool {
        self.client.is_leaving.get()
    }

    /// Ready when the connection is asked to end. Remembers one waker, that of the connection's own task.
    pub(crate) fn poll_leaving(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_leaving() {
            return Poll::Ready(());
        }
        let mut waker = self.client.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        self.core.clients.borrow_mut().remove(&self.id);
        self.core.note_panic();
    }
}

#[cfg(test)]
mod tests {
    use terrace_instruments::Meter;
    use terrace_runtime::threads::Cores;

    use super::*;
    use crate::config::Config;
    use crate::metrics;
    use crate::snapshot::Registry;

    #[test]
    fn whoever_has_everything_kept_leaves_room_for_what_fails() {
        let mut allowance = Allowance::default();
        let mut taken = |second, is_theirs| (0..2_000).filter(|_| allowance.take(second, is_theirs)).count();
        assert_eq!((taken(1, true), taken(1, false), taken(1, true)), (250, 250, 0));
        assert_eq!((taken(2, false), taken(2, true)), (500, 0));
        assert_eq!(taken(3, true), 250);
    }

    #[test]
    fn a_panic_ends_one_connection_is_counted_and_leaves_the_core_serving() {
        let meter = Meter::new(1);
        let panics = metrics::panics(&meter);
        let counted = panics.clone();
        let (log, told) = Log::channel(8);
        let mut registry = Registry::new(&meter, &log);
        let snapshot = Snapshot::build(Config::default(), &mut registry, &meter).expect("no routes");
        let (sender, receiver) = std::sync::mpsc::channel();
        let cores = Cores::start(1).expect("a thread");
        cores.post(0, move || {
            let told = (log, Tracer::discard());
            let core =
                Core::install(Arc::new(snapshot), Shelf::new(1), told, (panics, Overload::new(1, &meter)));
            let guard = core.enter(&Shared::new(7, "public"));
            let served = tokio::task::spawn_local(async move {
                let _guard = guard;
                panic!("a fault of ours, made by a test");
            });
            tokio::task::spawn_local(async move {
                let panicked = served.await.is_err();
                sender.send((panicked, core.clients_of(7))).expect("the test listens");
            });
        });
        assert_eq!(receiver.recv().expect("the core goes on"), (true, 0));
        assert_eq!(counted.value(), 1);
        assert_eq!(told.take_events().len(), 1);
        cores.stop();
    }
}
