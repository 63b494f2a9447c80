//! What one core of the data plane has for itself: the snapshot in force, its connections to endpoints, the clients
//! connected to it. All of it is touched by one thread only.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use terrace_instruments::Log;
use terrace_upstream::{Pool, Shelf};

use crate::snapshot::Snapshot;

thread_local! {
    static HERE: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// One core's own.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) pool: Pool,
    pub(crate) log: Log,
    snapshot: RefCell<Rc<InForce>>,
    clients: RefCell<HashMap<u64, Rc<Client>>>,
    next_client: Cell<u64>,
}

/// The snapshot in force, counted by this core for itself: no two cores write the same count for each request.
#[derive(Debug)]
pub(crate) struct InForce(Arc<Snapshot>);

impl std::ops::Deref for InForce {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

impl Core {
    /// Makes this thread a core of the data plane.
    pub(crate) fn install(snapshot: Arc<Snapshot>, shelf: Arc<Shelf>, log: Log) -> Rc<Self> {
        let core = Rc::new(Self {
            pool: Pool::new(shelf),
            log,
            snapshot: RefCell::new(Rc::new(InForce(snapshot))),
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

    /// The snapshot in force; whoever holds it keeps what it was told to the end of its request.
    pub(crate) fn snapshot(&self) -> Rc<InForce> {
        Rc::clone(&self.snapshot.borrow())
    }

    pub(crate) fn set_snapshot(&self, snapshot: Arc<Snapshot>) {
        *self.snapshot.borrow_mut() = Rc::new(InForce(snapshot));
    }

    /// Registers a client's connection until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>, listener: u64) -> ClientGuard {
        let id = self.next_client.get();
        self.next_client.set(id + 1);
        let client = Rc::new(Client { listener, is_leaving: Cell::new(false), waker: RefCell::new(None) });
        self.clients.borrow_mut().insert(id, Rc::clone(&client));
        ClientGuard { core: Rc::clone(self), id, client }
    }

    /// Asks the connections of a listener to end when their requests have.
    pub(crate) fn ask_to_leave(&self, listener: u64) {
        for client in self.clients.borrow().values().filter(|client| client.listener == listener) {
            client.is_leaving.set(true);
            if let Some(waker) = client.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// How many connections of a listener are open.
    pub(crate) fn clients_of(&self, listener: u64) -> usize {
        self.clients.borrow().values().filter(|client| client.listener == listener).count()
    }
}

/// A client's connection, as its core knows it.
#[derive(Debug)]
struct Client {
    listener: u64,
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
    }
}
