//! What one core of the data plane has for itself: the snapshot in force, its connections to endpoints, the clients
//! connected to it. All of it is touched by one thread only.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use terrace_instruments::{Counter, Event, Level, Log};
use terrace_runtime::clock;
use terrace_upstream::{Pool, Shelf};

use crate::listener::Shared;
use crate::snapshot::{ListenerView, Snapshot};

/// How long the last snapshot of a listener that went away is kept for connections that are still in its line.
const FORMER_KEPT: Duration = Duration::from_secs(5);

thread_local! {
    static HERE: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// One core's own.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) pool: Pool,
    pub(crate) log: Log,
    panics: Counter,
    snapshot: RefCell<Rc<InForce>>,
    /// The last snapshots of listeners that went away, by name, until their last connection has.
    former: RefCell<HashMap<String, Former>>,
    clients: RefCell<HashMap<u64, Rc<Client>>>,
    next_client: Cell<u64>,
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
    pub(crate) fn install(snapshot: Arc<Snapshot>, shelf: Arc<Shelf>, log: Log, panics: Counter) -> Rc<Self> {
        let core = Rc::new(Self {
            pool: Pool::new(shelf),
            log,
            panics,
            snapshot: RefCell::new(Rc::new(InForce(snapshot))),
            former: RefCell::default(),
            clients: RefCell::default(),
            next_client: Cell::new(0),
        });
        HERE.set(Some(Rc::clone(&core)));
        core
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
    use crate::snapshot::Budgets;

    #[test]
    fn a_panic_ends_one_connection_is_counted_and_leaves_the_core_serving() {
        let meter = Meter::new(1);
        let panics = metrics::panics(&meter);
        let counted = panics.clone();
        let (log, told) = Log::channel(8);
        let snapshot = Snapshot::build(Config::default(), &mut Budgets::new(), &meter).expect("no routes");
        let (sender, receiver) = std::sync::mpsc::channel();
        let cores = Cores::start(1).expect("a thread");
        cores.post(0, move || {
            let core = Core::install(Arc::new(snapshot), Shelf::new(1), log, panics);
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
