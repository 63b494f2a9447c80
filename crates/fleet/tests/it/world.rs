//! A fleet to try things on: its own state folder, a load balancer that remembers everything, and deadlines.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use terrace_fleet::{BoxFuture, Config, FleetStatus, Handle, Member, Rotation, ServiceConfig, ServiceState};
use terrace_instruments::{Event, Log, Meter, Receiver};
use terrace_policy::{Backoff, RestartLaw};
use terrace_runtime::drain::{self, Drainer};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Whatever is awaited comes long before, or never.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The program that plays shims, apps and another Terrace.
pub(crate) fn helper() -> String {
    env!("CARGO_BIN_EXE_fleet-helper").to_owned()
}

/// A folder that is removed in the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Long enough that a socket's path in it would not fit into an address.
        let long =
            "a-state-folder-with-a-name-that-is-longer-than-anybody-would-choose-but-somebody-will-have";
        let name = format!("terrace-fleet-{}-{number}-{long}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new(self.0.join("state"), vec![helper(), "shim".to_owned()]);
        config.adopt_within = Duration::from_secs(20);
        config.drain = Duration::from_secs(5);
        config.environment.push(("TERRACE_TOKEN".into(), "not for apps".into()));
        config
    }

    /// Names of the files that shims keep.
    pub(crate) fn instance_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.join("state/instances")).expect("made when a fleet is built");
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _absent = std::fs::remove_dir_all(&self.0);
    }
}

/// A load balancer that remembers what was published, and that can hold requests.
pub(crate) struct Recorder {
    published: Mutex<Vec<(String, Vec<Member>)>>,
    count: watch::Sender<usize>,
    /// While true, requests are in flight on every instance.
    pub(crate) busy: watch::Sender<bool>,
    /// While true, streams are open on every instance.
    pub(crate) streaming: watch::Sender<bool>,
    /// Instances that were drained while they were still in rotation.
    too_early: Mutex<Vec<String>>,
}

impl Recorder {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            published: Mutex::default(),
            count: watch::Sender::new(0),
            busy: watch::Sender::new(false),
            streaming: watch::Sender::new(false),
            too_early: Mutex::default(),
        })
    }

    /// Everything published for a service, in order.
    pub(crate) fn history(&self, service: &str) -> Vec<Vec<Member>> {
        let published = self.published.lock().expect("no test panics in here");
        published.iter().filter(|(name, _)| name == service).map(|(_, members)| members.clone()).collect()
    }

    pub(crate) fn now(&self, service: &str) -> Vec<Member> {
        self.history(service).pop().unwrap_or_default()
    }

    /// Waits until what is published satisfies the test.
    pub(crate) async fn until(&self, service: &str, test: impl Fn(&[Member]) -> bool) -> Vec<Member> {
        let mut count = self.count.subscribe();
        let reached = async {
            loop {
                count.borrow_and_update();
                let now = self.now(service);
                if test(&now) {
                    return now;
                }
                count.changed().await.expect("the recorder lives");
            }
        };
        timeout(DEADLINE, reached).await.unwrap_or_else(|_| panic!("published: {:?}", self.history(service)))
    }
}

impl Rotation for Recorder {
    fn publish(&self, service: &str, members: Vec<Member>) {
        self.published.lock().expect("no test panics in here").push((service.to_owned(), members));
        self.count.send_modify(|count| *count += 1);
    }

    fn requests_idle(&self, service: &str, instance: &str) -> BoxFuture<()> {
        if self.now(service).iter().any(|member| member.name == instance) {
            self.too_early.lock().expect("no test panics in here").push(instance.to_owned());
        }
        until_false(self.busy.subscribe())
    }

    fn streams_idle(&self, _service: &str, _instance: &str) -> BoxFuture<()> {
        until_false(self.streaming.subscribe())
    }

    fn close_idle(&self, _service: &str, _instance: &str) {}
}

fn until_false(mut flag: watch::Receiver<bool>) -> BoxFuture<()> {
    Box::pin(async move {
        let _recorder_gone = flag.wait_for(|flag| !flag).await;
    })
}

/// Everything that was said, and whoever waits for more.
struct Heard {
    events: Receiver,
    seen: Mutex<Vec<Event>>,
    grown: watch::Sender<()>,
    is_over: AtomicBool,
}

impl Heard {
    fn start(events: Receiver) -> Arc<Self> {
        let (seen, grown, is_over) = (Mutex::default(), watch::Sender::new(()), AtomicBool::new(false));
        let heard = Arc::new(Self { events, seen, grown, is_over });
        let listening = Arc::clone(&heard);
        std::thread::spawn(move || {
            while !listening.is_over.load(Ordering::Relaxed) {
                listening.events.wait(DEADLINE);
                drop(listening.listen());
                listening.grown.send_replace(());
            }
        });
        heard
    }

    /// All that was said before this call.
    fn listen(&self) -> MutexGuard<'_, Vec<Event>> {
        let mut seen = self.seen.lock().expect("no test panics in here");
        seen.extend(self.events.take_events());
        seen
    }
}

/// Ends the thread that listens.
impl Drop for World {
    fn drop(&mut self) {
        self.heard.is_over.store(true, Ordering::Relaxed);
        self.log.wake();
    }
}

fn rest_of_line(event: &Event, start: &str) -> Option<String> {
    let text = event.message.as_deref().filter(|_| event.name == "app.output")?;
    text.strip_prefix(start).map(str::to_owned)
}

/// A fleet that runs.
pub(crate) struct World {
    pub(crate) handle: Handle,
    pub(crate) rotation: Arc<Recorder>,
    heard: Arc<Heard>,
    log: Log,
    drainer: Drainer,
    task: JoinHandle<()>,
}

impl World {
    pub(crate) fn start(config: Config) -> Self {
        let (log, events) = Log::channel(400_000);
        let heard = Heard::start(events);
        let rotation = Recorder::new();
        let balancer: Arc<dyn Rotation> = Arc::<Recorder>::clone(&rotation);
        let (fleet, handle) =
            terrace_fleet::build(config, balancer, &Meter::new(1), log.clone()).expect("a folder of its own");
        let (drainer, drain) = drain::channel();
        let task = tokio::spawn(fleet.run(drain));
        Self { handle, rotation, heard, log, drainer, task }
    }

    pub(crate) async fn apply(&self, services: &[ServiceConfig]) {
        self.handle.apply(services.to_vec()).await.expect("well formed");
    }

    /// Waits until the status satisfies the test.
    pub(crate) async fn until(&self, test: impl Fn(&FleetStatus) -> bool) -> FleetStatus {
        let mut changes = self.handle.changes();
        let mut last = FleetStatus::default();
        let reached = async {
            loop {
                changes.borrow_and_update();
                last = self.handle.status().await;
                if test(&last) {
                    return last.clone();
                }
                changes.changed().await.expect("the fleet runs");
            }
        };
        let status = timeout(DEADLINE, reached).await;
        status.unwrap_or_else(|_| panic!("it stayed at {last:#?}; events: {:#?}", self.events()))
    }

    /// Waits until all instances of `orders` that shall run are ready, and nothing else is there.
    pub(crate) async fn running(&self) -> FleetStatus {
        self.until(|status| {
            status.service("orders").is_some_and(|orders| {
                orders.state == ServiceState::Running && orders.instances.len() == orders.desired as usize
            })
        })
        .await
    }

    /// Everything that happened so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        let seen = self.heard.listen();
        seen.iter().filter(|event| event.name != "app.output").cloned().collect()
    }

    /// Waits until `orders` has printed a line that starts like this, and returns the rest of it.
    pub(crate) async fn said(&self, start: &str) -> String {
        let mut grown = self.heard.grown.subscribe();
        let found = async {
            loop {
                grown.borrow_and_update();
                if let Some(rest) = self.heard.listen().iter().find_map(|event| rest_of_line(event, start)) {
                    return rest;
                }
                grown.changed().await.expect("it is listened to as long as this world stands");
            }
        };
        timeout(DEADLINE, found).await.expect("it is said")
    }

    /// What apps printed so far, as events.
    pub(crate) fn output(&self) -> Vec<Event> {
        let seen = self.heard.listen();
        seen.iter().filter(|event| event.name == "app.output").cloned().collect()
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.events().iter().filter(|event| event.name == name).count()
    }

    /// Stops everything and waits for it.
    pub(crate) async fn stop(mut self) {
        self.drainer.request();
        timeout(DEADLINE, &mut self.task).await.expect("stopping ends").expect("the fleet does not panic");
        assert!(self.rotation.too_early.lock().expect("no test panics in here").is_empty());
    }

    /// Ends as by kill -9: nothing is stopped, connections are just gone.
    pub(crate) async fn vanish(mut self) {
        self.task.abort();
        let _aborted = (&mut self.task).await;
    }
}

/// `count` well-behaved instances of a service called `orders`.
pub(crate) fn orders(count: u32) -> ServiceConfig {
    app(&["serve"], count)
}

pub(crate) fn app(arguments: &[&str], count: u32) -> ServiceConfig {
    let argv = std::iter::once(helper()).chain(arguments.iter().map(|word| (*word).to_owned())).collect();
    let mut service = ServiceConfig::new("orders", argv);
    service.instances = count;
    service.stop.grace = Duration::from_secs(10);
    service.restart = RestartLaw {
        backoff: Backoff { from: Duration::from_millis(1), to: Duration::from_millis(50) },
        crash_loop: 3,
        within: Duration::from_secs(60),
    };
    service
}

pub(crate) fn pids(status: &FleetStatus) -> Vec<i32> {
    let orders = status.service("orders").expect("it is applied");
    orders.instances.iter().filter_map(|instance| instance.pid).collect()
}

/// What the instance there says.
pub(crate) fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("it is in rotation");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it accepts");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

pub(crate) fn kill(pid: i32) {
    let pid = Pid::from_raw(pid).expect("no process has number 0");
    rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
}

/// Waits until a process is gone.
pub(crate) async fn gone(pid: i32) {
    let Ok(process) = pidfd_open(Pid::from_raw(pid).expect("no process has number 0"), PidfdFlags::empty())
    else {
        return;
    };
    let ended = tokio::task::spawn_blocking(move || {
        let timeout = Timespec { tv_sec: 60, tv_nsec: 0 };
        poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)).expect("poll works")
    });
    assert_eq!(ended.await.expect("it does not panic"), 1, "process {pid} is still there");
}
