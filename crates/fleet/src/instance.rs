//! One life of one instance: started or adopted, found ready, drained, asked to end, gone.
//!
//! The task only carries out; what shall be is the service's decision. It tells what happened in the order in which
//! it happened, ends with exactly one [`Happening::Over`], and when its service is dropped (Terrace ends without
//! stopping the app) it just lets go of the shim, which then waits for a successor.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use terrace_instruments::{Event, Level};
use terrace_runtime::random;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::adopt::{Adopted, end_stranded};
use crate::config::{Ready, ReadyKind};
use crate::context::Context;
use crate::link::Link;
use crate::ports::Lease;
use crate::ready;
use crate::shim::notify;
use crate::shim::protocol::{
    Description, Exit, Launch, LaunchIdentity, Order, OutputLine, Report, file_name,
};
use crate::spec::{self, Spec};

/// Lines of output told with a failure.
const TAIL_LINES: usize = 20;
/// A shim that was asked to end its app and has not this long after the kill is killed itself.
const OVERDUE: Duration = Duration::from_secs(10);

/// Who this is.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) service: String,
    pub(crate) name: String,
    /// The service's number for it.
    pub(crate) slot: u64,
}

/// Where it comes from.
pub(crate) enum Origin {
    /// It is to be started.
    Fresh(Arc<Spec>),
    /// A Terrace before this one started it.
    Adopted(Box<Adopted>),
}

/// What the service wants of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Run,
    Stop(StopPlan),
}

/// The bounds of stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopPlan {
    pub(crate) drain: Duration,
    pub(crate) streams: Duration,
    pub(crate) grace: Duration,
    pub(crate) signal: i32,
}

/// What happened to it.
#[derive(Debug)]
pub(crate) enum Happening {
    /// Its process runs.
    Up { pid: i32 },
    /// It said something about itself.
    Says(String),
    /// It is not ready after a while in which most are, and why.
    NotYet(String),
    /// It is ready.
    Ready,
    /// It was not ready in time and is being ended.
    NeverReady { why: String, tail: Vec<String> },
    /// Being stopped, it has no request left.
    RequestsIdle,
    /// Its process ended; it must get no more requests.
    Exited(Exit),
    /// Nothing is left of it.
    Over(Ending),
}

/// How its life ended.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// How its process ended, if it ever ran.
    pub(crate) exit: Option<Exit>,
    /// Why it never ran.
    pub(crate) why: Option<String>,
    /// Whether somebody else holds the port it was given.
    pub(crate) port_taken: bool,
    /// The last lines of its output.
    pub(crate) tail: Vec<String>,
}

/// Tells the service; when the task ends in any other way, that it is over.
struct Teller {
    slot: u64,
    happenings: mpsc::UnboundedSender<(u64, Happening)>,
    over: bool,
}

/// What the present phase is waiting for.
enum Awaited {
    Ready,
    NeverReady(String),
    Drained,
    Overdue,
}

/// What a report means for the present phase.
enum Heard {
    Nothing,
    Started,
    Ready,
}

type Phase = Pin<Box<dyn Future<Output = Awaited> + Send>>;

struct Instance {
    context: Arc<Context>,
    who: Who,
    teller: Teller,
    wishes: watch::Receiver<Wish>,
    link: Link,
    lease: Option<Lease>,
    ready: Ready,
    facts: Option<Description>,
    /// Whether it was in rotation, and so has to be drained.
    was_ready: bool,
    stop: Option<StopPlan>,
    /// Whether its shim was asked to end it.
    asked: bool,
    tail: VecDeque<String>,
    ending: Ending,
}

/// Starts the task of one life. It ends by itself, or when the sender of wishes is dropped.
pub(crate) fn start(
    context: Arc<Context>,
    who: Who,
    origin: Origin,
    ready: Ready,
    lease: Option<Lease>,
    happenings: mpsc::UnboundedSender<(u64, Happening)>,
) -> watch::Sender<Wish> {
    let (wish, wishes) = watch::channel(Wish::Run);
    let teller = Teller { slot: who.slot, happenings, over: false };
    tokio::spawn(live(context, who, origin, ready, lease, wishes, teller));
    wish
}

async fn live(
    context: Arc<Context>,
    who: Who,
    origin: Origin,
    ready: Ready,
    lease: Option<Lease>,
    wishes: watch::Receiver<Wish>,
    mut teller: Teller,
) {
    let (link, facts) = match origin {
        Origin::Adopted(adopted) => (Ok(adopted.link), Some(adopted.facts)),
        Origin::Fresh(spec) => {
            let launch = launch(&context, &who, &spec, &ready, lease.as_ref());
            (Link::launch(&context.shim_command, &launch).await, None)
        }
    };
    match link {
        Ok(link) => {
            let ending = Ending::default();
            let (was_ready, asked) =
                facts.as_ref().map_or((false, false), |facts| (facts.ready, facts.stopping));
            let (stop, tail) = (None, VecDeque::new());
            let instance = Instance {
                context,
                who,
                teller,
                wishes,
                link,
                lease,
                ready,
                facts,
                was_ready,
                stop,
                asked,
                tail,
                ending,
            };
            instance.run().await;
        }
        Err(error) => {
            let why = Some(format!("its shim could not be started: {error}"));
            teller.over(Ending { why, ..Ending::default() });
        }
    }
}

fn launch(context: &Context, who: &Who, spec: &Spec, ready: &Ready, lease: Option<&Lease>) -> Launch {
    let id = instance_id();
    let port = lease.map(Lease::port);
    let mut env = spec::environment(spec, &context.inherited, (&who.name, &id), port);
    let notify =
        (ready.kind == ReadyKind::Notify).then(|| notify::address(&context.instances, &who.name, &id));
    env.extend(notify.iter().map(|address| ("NOTIFY_SOCKET".to_owned(), address.clone())));
    let identity = spec.account.as_ref().map(|account| &account.identity);
    let identity =
        identity.map(|who| LaunchIdentity { user: who.user, group: who.group, groups: who.groups.clone() });
    Launch {
        service: who.service.clone(),
        instance: who.name.clone(),
        id,
        config_hash: spec.hash.clone(),
        argv: spec.config.argv.clone(),
        folder: spec.config.folder.clone(),
        env,
        identity,
        port,
        notify,
        instances: context.instances.clone(),
        adopt_within_ms: millis(context.adopt_within),
        stop_signal: spec.config.stop.signal,
        stop_grace_ms: millis(spec.config.stop.grace),
    }
}

/// A name that no other life of any instance has.
pub(crate) fn instance_id() -> String {
    format!("{:016x}", random::u64())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Instance {
    async fn run(mut self) {
        let mut phase = self.first_phase();
        loop {
            tokio::select! {
                report = self.link.next() => match report {
                    Ok(Some(Report::Gone)) => break,
                    Ok(Some(report)) => match self.hear(report) {
                        Heard::Started => phase = self.probe(),
                        Heard::Ready => phase = self.become_ready().await,
                        Heard::Nothing => {}
                    },
                    Ok(None) | Err(_) => {
                        self.note_lost_shim();
                        break;
                    }
                },
                wish = self.wishes.changed() => match wish {
                    Ok(()) => phase = self.obey(phase).await,
                    Err(_) => return self.teller.let_go(),
                },
                awaited = &mut phase => phase = self.advance(awaited).await,
            }
        }
        self.finish().await;
    }

    fn first_phase(&self) -> Phase {
        if self.was_ready || self.asked {
            return Box::pin(pending());
        }
        if self.facts.is_some() {
            return self.probe();
        }
        let within = self.ready.within;
        Box::pin(async move {
            sleep(within).await;
            Awaited::NeverReady(format!("its shim did not start within {within:?}"))
        })
    }

    /// Only once it runs: what can be ready before that is somebody else.
    fn probe(&self) -> Phase {
        let (ready, address) = (self.ready.clone(), self.address());
        let (slot, happenings) = (self.who.slot, self.teller.happenings.clone());
        Box::pin(async move {
            let not_yet = |why| {
                let _nobody_listens = happenings.send((slot, Happening::NotYet(why)));
            };
            match ready::probe(ready, address, not_yet).await {
                Ok(()) => Awaited::Ready,
                Err(why) => Awaited::NeverReady(why),
            }
        })
    }

    fn address(&self) -> Option<SocketAddr> {
        self.lease.as_ref().map(Lease::address)
    }

    async fn advance(&mut self, awaited: Awaited) -> Phase {
        match awaited {
            Awaited::Ready => self.become_ready().await,
            Awaited::NeverReady(why) => {
                self.teller.tell(Happening::NeverReady { why, tail: self.tail() });
                Box::pin(pending())
            }
            Awaited::Drained => self.ask_to_end().await,
            Awaited::Overdue => {
                self.kill_shim();
                Box::pin(pending())
            }
        }
    }

    async fn become_ready(&mut self) -> Phase {
        self.was_ready = true;
        // A shim that is gone is told by the next report.
        let _gone = self.link.ask(&Order::Ready).await;
        self.teller.tell(Happening::Ready);
        Box::pin(pending())
    }

    /// Does what the service wishes now; the present phase goes on if that is nothing new.
    async fn obey(&mut self, phase: Phase) -> Phase {
        let plan = match *self.wishes.borrow_and_update() {
            Wish::Run => return phase,
            Wish::Stop(plan) => plan,
        };
        self.stop = Some(plan);
        if !self.was_ready || self.asked {
            self.teller.tell(Happening::RequestsIdle);
            return self.ask_to_end().await;
        }
        self.drain(plan)
    }

    /// The service took it out of rotation already; what it has is waited for.
    fn drain(&self, plan: StopPlan) -> Phase {
        if self.lease.is_none() {
            self.teller.tell(Happening::RequestsIdle);
            return Box::pin(async { Awaited::Drained });
        }
        let requests = self.context.rotation.requests_idle(&self.who.service, &self.who.name);
        let streams = self.context.rotation.streams_idle(&self.who.service, &self.who.name);
        let (slot, happenings) = (self.who.slot, self.teller.happenings.clone());
        Box::pin(async move {
            let _cut_off = timeout(plan.drain, requests).await;
            let _nobody_listens = happenings.send((slot, Happening::RequestsIdle));
            let _cut_off = timeout(plan.streams, streams).await;
            Awaited::Drained
        })
    }

    async fn ask_to_end(&mut self) -> Phase {
        let Some(plan) = self.stop else { return Box::pin(pending()) };
        if self.lease.is_some() {
            self.context.rotation.close_idle(&self.who.service, &self.who.name);
        }
        self.asked = true;
        let order = Order::Stop { signal: plan.signal, grace_ms: millis(plan.grace) };
        let _gone = self.link.ask(&order).await;
        Box::pin(async move {
            sleep(plan.grace + OVERDUE).await;
            Awaited::Overdue
        })
    }

    /// Takes a report in.
    fn hear(&mut self, report: Report) -> Heard {
        match report {
            Report::Hello(facts) => {
                self.teller.tell(Happening::Up { pid: facts.pid });
                self.facts = Some(facts);
                if !self.asked {
                    return Heard::Started;
                }
            }
            Report::Failed { message } => self.ending.why = Some(message),
            Report::Line(line) => self.note_line(line),
            Report::Dropped { lines } => self.note_dropped(lines),
            Report::Exited(exit) => {
                self.ending.exit = Some(exit.clone());
                self.teller.tell(Happening::Exited(exit));
            }
            Report::Notify { ready, status } => {
                status.into_iter().for_each(|status| self.teller.tell(Happening::Says(status)));
                if ready && self.ready.kind == ReadyKind::Notify && !self.was_ready && !self.asked {
                    return Heard::Ready;
                }
            }
            Report::Busy | Report::Pong | Report::Gone => {}
        }
        Heard::Nothing
    }

    fn note_line(&mut self, line: OutputLine) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.text.clone());
        self.context.output(&self.who.service, &self.who.name, line);
    }

    fn note_dropped(&self, lines: u64) {
        let event = Event::new(Level::Warn, "app.output.dropped").field("lines", lines);
        self.context.log.emit(event.service(&self.who.service).instance(&self.who.name));
    }

    fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    /// A shim that does not do what it was asked: the kernel ends its app with it.
    fn kill_shim(&self) {
        let pid =
            self.facts.as_ref().and_then(|facts| Pid::from_raw(facts.shim_pid)).or_else(|| self.link.child());
        if let Some(pid) = pid {
            let _ended_meanwhile = rustix::process::kill_process(pid, Signal::KILL);
        }
    }

    /// The connection ended before the shim said that nothing is left: it was killed, or it could not start the app.
    fn note_lost_shim(&mut self) {
        let Some(facts) = &self.facts else {
            self.ending.why.get_or_insert_with(|| "its shim ended before it could start it".to_owned());
            return;
        };
        end_stranded(&facts.id);
        for ending in ["sock", "json", "notify"] {
            let file = self.context.instances.join(file_name(&facts.instance, &facts.id, ending));
            let _was_never_made = std::fs::remove_file(file);
        }
        if self.ending.exit.is_none() {
            let exit = Exit { code: None, signal: None };
            self.ending.exit = Some(exit.clone());
            self.teller.tell(Happening::Exited(exit));
        }
    }

    async fn finish(mut self) {
        let _gone = self.link.ask(&Order::Collect).await;
        self.ending.tail = self.tail.into();
        self.ending.port_taken = !self.was_ready && self.lease.as_ref().is_some_and(Lease::is_taken);
        self.link.ended().await;
        drop(self.lease);
        self.teller.over(self.ending);
    }
}

impl Teller {
    /// Nobody listens when the service was dropped, and then nobody needs to know.
    fn tell(&self, happening: Happening) {
        let _nobody_listens = self.happenings.send((self.slot, happening));
    }

    fn over(&mut self, ending: Ending) {
        self.over = true;
        self.tell(Happening::Over(ending));
    }

    fn let_go(mut self) {
        self.over = true;
    }
}

/// A task that panicked must not leave its service waiting for it.
impl Drop for Teller {
    fn drop(&mut self) {
        if !self.over {
            self.tell(Happening::Over(Ending::default()));
        }
    }
}
