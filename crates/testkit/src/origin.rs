//! Endpoints of bounded capacity that fall ill on order: what a set of real servers looks like from outside when one of
//! them dies, hangs or thrashes.
//!
//! Each endpoint has so many workers, and each request keeps one of them for the service time; who finds them all busy
//! waits in the endpoint's own line, in the order of arrival and without a bound. Work is done whether or not the client
//! still listens, since most servers do not look: whoever lets a request go and sends it again has it done twice.

mod control;
mod server;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::wait::now;

/// How an endpoint behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Well,
    /// Answers 500 at once, taking no worker.
    Failing,
    /// Closes the connection at once, without an answer.
    Refusing,
    /// Takes connections and requests, and answers nothing until it is in another mood; then it goes on where it was.
    Silent,
    /// Takes so many times as long.
    Slow(u32),
}

/// What one endpoint can do.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Requests at once.
    pub workers: usize,
    /// How long each takes.
    pub service: Duration,
}

/// What one endpoint has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Requests that arrived whole.
    pub arrived: u64,
    /// Of these, answered with 200.
    pub answered: u64,
    /// Requests that wait or are worked on at the moment.
    pub present: u64,
}

/// Endpoints on threads of this process. They are gone when this is dropped.
#[derive(Debug)]
pub struct Origin {
    endpoints: Vec<Arc<Endpoint>>,
    control: Option<SocketAddr>,
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    capacity: Capacity,
    state: Mutex<State>,
    /// A worker is free.
    is_free: Condvar,
    /// The mood is another.
    has_changed: Condvar,
    is_gone: AtomicBool,
    arrived: AtomicU64,
    answered: AtomicU64,
    present: AtomicU64,
}

#[derive(Debug)]
struct State {
    mood: Mood,
    busy: usize,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Answer,
    Fail,
    HangUp,
}

impl Origin {
    /// Starts an endpoint at each address; port 0 takes a free one.
    ///
    /// # Panics
    /// When one cannot be listened on.
    #[must_use]
    pub fn start(addresses: &[SocketAddr], capacity: Capacity) -> Self {
        let endpoints = addresses.iter().map(|address| Endpoint::start(*address, capacity)).collect();
        Self { endpoints, control: None }
    }

    /// Starts so many on free ports of loopback.
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn start_many(count: usize, capacity: Capacity) -> Self {
        Self::start(&vec![SocketAddr::from(([127, 0, 0, 1], 0)); count], capacity)
    }

    /// Lets moods be set and counts be read over HTTP there: `/mood?to=silent&endpoints=0,1,2`, `/served`.
    ///
    /// # Panics
    /// When that cannot be listened on.
    #[must_use]
    pub fn with_control(mut self, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("the control's port is free");
        self.control = listener.local_addr().ok();
        let endpoints = self.endpoints.clone();
        std::thread::spawn(move || control::serve(&listener, &endpoints));
        self
    }

    /// Where moods are set over HTTP.
    #[must_use]
    pub fn control(&self) -> Option<SocketAddr> {
        self.control
    }

    /// Where the endpoints are.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().map(|endpoint| endpoint.address).collect()
    }

    /// Puts the endpoints of these numbers into that mood; what they are at goes on in it.
    ///
    /// # Panics
    /// When there is no such endpoint.
    pub fn set(&self, endpoints: impl IntoIterator<Item = usize>, mood: Mood) {
        endpoints.into_iter().for_each(|number| self.endpoints[number].set(mood));
    }

    /// What each has done.
    #[must_use]
    pub fn served(&self) -> Vec<Served> {
        self.endpoints.iter().map(|endpoint| endpoint.served()).collect()
    }

    /// What all have done together.
    #[must_use]
    pub fn served_in_all(&self) -> Served {
        self.served().into_iter().fold(Served::default(), |sum, one| Served {
            arrived: sum.arrived + one.arrived,
            answered: sum.answered + one.answered,
            present: sum.present + one.present,
        })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.endpoints.iter().for_each(|endpoint| endpoint.end());
    }
}

impl Endpoint {
    fn start(address: SocketAddr, capacity: Capacity) -> Arc<Self> {
        let listener = TcpListener::bind(address).expect("the endpoint's port is free");
        let endpoint = Arc::new(Self {
            address: listener.local_addr().expect("it is bound"),
            capacity,
            state: Mutex::new(State { mood: Mood::Well, busy: 0 }),
            is_free: Condvar::new(),
            has_changed: Condvar::new(),
            is_gone: AtomicBool::new(false),
            arrived: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            present: AtomicU64::new(0),
        });
        let served = Arc::clone(&endpoint);
        std::thread::spawn(move || server::accept(&listener, &served));
        endpoint
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.state().mood = mood;
        self.has_changed.notify_all();
        self.is_free.notify_all();
    }

    pub(crate) fn served(&self) -> Served {
        Served {
            arrived: self.arrived.load(Ordering::SeqCst),
            answered: self.answered.load(Ordering::SeqCst),
            present: self.present.load(Ordering::SeqCst),
        }
    }

    pub(crate) fn mood(&self) -> Mood {
        self.state().mood
    }

    /// Carries one request through, however long that takes, and says how it is to be answered.
    pub(crate) fn work(&self) -> Verdict {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        self.present.fetch_add(1, Ordering::SeqCst);
        let verdict = self.work_through();
        self.present.fetch_sub(1, Ordering::SeqCst);
        if verdict == Verdict::Answer {
            self.answered.fetch_add(1, Ordering::SeqCst);
        }
        verdict
    }

    fn work_through(&self) -> Verdict {
        let mut state = self.state();
        loop {
            match self.ill(&state) {
                Some(Some(verdict)) => return verdict,
                Some(None) => state = wait(&self.has_changed, state),
                None if state.busy < self.capacity.workers => break,
                None => state = wait(&self.is_free, state),
            }
        }
        state.busy += 1;
        let (mut state, verdict) = self.serve(state);
        state.busy -= 1;
        drop(state);
        self.is_free.notify_one();
        verdict
    }

    /// What an endpoint that does no work makes of a request: an end, or nothing for now.
    fn ill(&self, state: &State) -> Option<Option<Verdict>> {
        match state.mood {
            _ if self.is_gone.load(Ordering::SeqCst) => Some(Some(Verdict::HangUp)),
            Mood::Well | Mood::Slow(_) => None,
            Mood::Failing => Some(Some(Verdict::Fail)),
            Mood::Refusing => Some(Some(Verdict::HangUp)),
            Mood::Silent => Some(None),
        }
    }

    /// The service time, at the pace of the mood while it lasts.
    fn serve<'a>(&self, mut state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, Verdict) {
        let mut left = self.capacity.service;
        loop {
            let slowness = match state.mood {
                Mood::Slow(times) => times.max(1),
                _ => 1,
            };
            match self.ill(&state) {
                Some(Some(verdict)) => return (state, verdict),
                Some(None) => state = wait(&self.has_changed, state),
                None if left.is_zero() => return (state, Verdict::Answer),
                None => {
                    let began = now();
                    state = wait_for(&self.has_changed, state, left * slowness);
                    left = left.saturating_sub(began.elapsed() / slowness);
                }
            }
        }
    }

    fn end(&self) {
        self.is_gone.store(true, Ordering::SeqCst);
        self.has_changed.notify_all();
        self.is_free.notify_all();
        // Wakes the thread that accepts, which then lets the port go.
        let _gone_already = std::net::TcpStream::connect(self.address);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait<'a>(on: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    on.wait(state).unwrap_or_else(PoisonError::into_inner)
}

fn wait_for<'a>(on: &Condvar, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
    on.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{get, try_get};
    use crate::wait::until_true;

    fn one() -> (Origin, SocketAddr) {
        let origin = Origin::start_many(1, Capacity { workers: 1, service: Duration::from_millis(1) });
        let address = origin.addresses()[0];
        (origin, address)
    }

    #[test]
    fn an_endpoint_that_is_well_answers_and_counts() {
        let (origin, address) = one();
        assert_eq!(get(address, "/").status, 200);
        assert_eq!(origin.served_in_all(), Served { arrived: 1, answered: 1, present: 0 });
    }

    #[test]
    fn an_endpoint_that_fails_or_refuses_does_so_at_once() {
        let (origin, address) = one();
        origin.set([0], Mood::Failing);
        assert_eq!(get(address, "/").status, 500);
        origin.set([0], Mood::Refusing);
        assert!(try_get(address, "/").is_err());
        assert_eq!(origin.served_in_all().answered, 0);
    }

    #[test]
    fn a_silent_endpoint_goes_on_where_it_was() {
        let (origin, address) = one();
        origin.set([0], Mood::Silent);
        let asking = std::thread::spawn(move || get(address, "/").status);
        until_true("the request is there", || origin.served_in_all().present == 1);
        origin.set([0], Mood::Well);
        assert_eq!(asking.join().expect("it was answered"), 200);
    }

    #[test]
    fn a_slow_endpoint_that_gets_well_hurries() {
        let (origin, address) = one();
        origin.set([0], Mood::Slow(1_000_000));
        let asking = std::thread::spawn(move || get(address, "/").status);
        until_true("the request is there", || origin.served_in_all().present == 1);
        origin.set([0], Mood::Well);
        assert_eq!(asking.join().expect("it was answered"), 200);
    }

    #[test]
    fn moods_are_set_over_http() {
        let (origin, address) = one();
        let origin = origin.with_control(([127, 0, 0, 1], 0).into());
        let control = origin.control().expect("it was started");
        assert_eq!(get(control, "/mood?to=failing&endpoints=0").status, 200);
        assert_eq!(get(address, "/").status, 500);
        assert_eq!(get(control, "/mood?to=well").status, 200);
        assert_eq!(get(address, "/").status, 200);
        let served = get(control, "/served").json();
        assert_eq!((served[0]["arrived"].as_u64(), served[0]["answered"].as_u64()), (Some(2), Some(1)));
        assert_eq!(get(control, "/mood?to=angry").status, 400);
        assert_eq!(get(control, "/mood?to=well&endpoints=7").status, 400);
    }
}
