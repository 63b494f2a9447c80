//! One edge with one listener before one scripted origin, all on real sockets, driven from top to bottom by a test.
//!
//! Both ends are raw: a test writes the bytes it means and reads the bytes that came. Nothing sleeps; every read waits
//! for its bytes and gives up only after [`PATIENCE`], which no test meets unless something hangs.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use terrace_edge::{
    Action, Bounds, Config, Edge, HashSource, Listener, Policy, ProxyProtocol, Purpose, Resilience, Route,
    Service, Target,
};
use terrace_instruments::{Log, Meter, SpanReceiver, TraceSettings, Tracer};
use terrace_policy::{OverloadLaw, RetryPolicy, Timeouts};
use terrace_route::{Conditions, Pattern, Split};
use terrace_runtime::clock;
use terrace_runtime::threads::Cores;
use terrace_upstream::{IdentityKey, Member, Upstream};

use crate::message::Message;

/// Whatever takes that long hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Spans that may wait for a test.
const SPANS_WAITING_MAX: usize = 10_000;

/// What a test changes about the edge before it is built.
pub(crate) struct Setup {
    pub(crate) listener: Listener,
    pub(crate) upstream: terrace_upstream::Config,
    pub(crate) policy: Policy,
    pub(crate) routes: Vec<Route>,
    /// Origins published; each test talks to them by index.
    pub(crate) origins: usize,
    /// Further services with an origin each; among the configuration's services they follow the first.
    pub(crate) beside: Vec<&'static str>,
    pub(crate) traces: TraceSettings,
    pub(crate) log: Log,
    /// How services are kept from being given more than they can do.
    pub(crate) resilience: Resilience,
    pub(crate) overload: Option<OverloadLaw>,
    /// Who has certificates issued.
    pub(crate) issuer: Option<Arc<dyn terrace_edge::Issuer>>,
}

impl Setup {
    fn new() -> Self {
        let mut upstream = terrace_upstream::Config::new("origin", IdentityKey([7; 16]));
        upstream.connect_timeout = Some(PATIENCE);
        // An idle connection lives for as long as a test takes, so that reuse is certain.
        upstream.connections.idle_time = PATIENCE;
        upstream.ejection = None;
        Self {
            listener: listener(),
            upstream,
            policy: Policy {
                timeouts: Timeouts { first_byte: Some(PATIENCE), ..Timeouts::default() },
                retry: RetryPolicy::default(),
                hedge: None,
                deadline: true,
                fallback: None,
                body_bytes_max: None,
                request_id: true,
            },
            routes: Vec::new(),
            origins: 1,
            beside: Vec::new(),
            traces: TraceSettings { on: false, ..TraceSettings::default() },
            log: Log::discard(),
            resilience: Resilience::default(),
            overload: None,
            issuer: None,
        }
    }
}

fn listener() -> Listener {
    Listener {
        name: "public".to_owned(),
        purpose: Purpose::Route,
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        tls: None,
        http2: true,
        proxy_protocol: ProxyProtocol::Off,
        trusted_proxies: Vec::new(),
        bounds: Bounds::default(),
    }
}

/// A route that answers by itself.
pub(crate) fn respond(name: &str, at: &str, status: u16, body: &'static str) -> Route {
    let body = bytes::Bytes::from_static(body.as_bytes());
    let action = Action::Respond { status, body, content_type: "text/plain".to_owned() };
    route(name, at, action)
}

/// A route with that action.
pub(crate) fn route(name: &str, at: &str, action: Action) -> Route {
    Route {
        name: name.to_owned(),
        at: vec![Pattern::parse(at).expect("a valid pattern")],
        conditions: Conditions::default(),
        listeners: Vec::new(),
        guards: None,
        action,
    }
}

/// The edge and its origin.
pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) origin: Origin,
    /// The origins after the first.
    pub(crate) others: Vec<Origin>,
    /// The origins of the further services.
    pub(crate) beside: Vec<Origin>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) meter: Meter,
    pub(crate) spans: SpanReceiver,
    pub(crate) tracer: Tracer,
    pub(crate) edge: Edge,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    /// The edge as it is without a word in the file.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// The edge with something changed.
    pub(crate) fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup::new();
        change(&mut setup);
        let mut origins: Vec<Origin> = (0..setup.origins).map(|_| Origin::listen()).collect();
        let meter = Meter::new(1);
        let upstream = Upstream::build(setup.upstream, &meter, &Log::discard()).expect("a valid upstream");
        let member =
            |(index, origin): (usize, &Origin)| Member::new(&format!("origin-{index}"), origin.address());
        upstream.publish(&origins.iter().enumerate().map(member).collect::<Vec<_>>(), clock::now());
        let cores = Cores::start(1).expect("a thread");
        let (tracer, spans) = Tracer::channel(SPANS_WAITING_MAX);
        tracer.configure(setup.traces);
        let edge = Edge::build(cores, meter.clone(), &setup.log, &tracer);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut routes = setup.routes;
        routes.push(route("all", "/*", forward(setup.policy)));
        let service = |name: &str, upstream: &Arc<Upstream>| Service {
            name: name.to_owned(),
            upstream: Arc::clone(upstream),
            hash: HashSource::None,
            sticky: None,
            resilience: setup.resilience,
            withheld: None,
        };
        let mut services = vec![service("origin", &upstream)];
        let mut beside = Vec::new();
        for name in setup.beside {
            let origin = Origin::listen();
            let config = terrace_upstream::Config::new(name, IdentityKey([7; 16]));
            let upstream = Upstream::build(config, &meter, &Log::discard()).expect("a valid upstream");
            upstream.publish(&[Member::new(name, origin.address())], clock::now());
            services.push(service(name, &upstream));
            beside.push(origin);
        }
        let config = Config {
            listeners: vec![setup.listener],
            services,
            routes,
            issuer: setup.issuer,
            overload: setup.overload,
            ..Config::default()
        };
        runtime.block_on(edge.apply(config)).expect("a valid configuration");
        let address = edge.address("public").expect("it listens");
        let others = origins.split_off(1);
        let origin = origins.pop().expect("one origin at least");
        Self { address, origin, others, beside, upstream, meter, spans, tracer, edge, runtime }
    }

    /// A new connection of a client.
    pub(crate) fn client(&self) -> Peer {
        Peer::new(TcpStream::connect(self.address).expect("the edge accepts"))
    }

    /// A client that has sent these bytes.
    pub(crate) fn client_that_sent(&self, bytes: impl AsRef<[u8]>) -> Peer {
        let mut client = self.client();
        client.send(bytes);
        client
    }

    /// The connection to whichever of two origins the edge chose, and the other origin.
    #[track_caller]
    pub(crate) fn either_origin(&self) -> (Peer, &Origin) {
        let until = clock::now() + PATIENCE;
        loop {
            if let Some(peer) = self.origin.try_accept() {
                return (peer, &self.others[0]);
            }
            if let Some(peer) = self.others[0].try_accept() {
                return (peer, &self.origin);
            }
            assert!(clock::now() < until, "the edge did not connect to an origin");
            std::thread::yield_now();
        }
    }

    /// Asks every connection to end, and waits until they have.
    pub(crate) fn drain(&self) {
        self.runtime.block_on(self.edge.drain(PATIENCE));
    }

    /// Asks every connection to end, and does not wait.
    pub(crate) fn begin_drain(&self) {
        self.runtime.block_on(self.edge.drain(Duration::ZERO));
    }

    /// The bytes are refused with that status, the connection ends, and the origin hears nothing of it.
    #[track_caller]
    pub(crate) fn refuses(&self, bytes: impl AsRef<[u8]>, status: u16) {
        let bytes = bytes.as_ref();
        let mut client = self.client_that_sent(bytes);
        let answer = client.response();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        assert_eq!(answer.status(), status, "{shown:?}: {answer:?}");
        assert_eq!(answer.field("connection"), Some("close"), "{shown:?}");
        client.ends();
        self.origin.heard_nothing();
    }

    /// The bytes reach the origin as one request, which is answered; what it saw is returned.
    #[track_caller]
    pub(crate) fn passes(&self, bytes: impl AsRef<[u8]>) -> Message {
        let mut client = self.client_that_sent(bytes);
        let mut origin = self.origin.accept();
        let request = origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let answer = client.response();
        assert_eq!((answer.status(), answer.text()), (200, "ok"), "{answer:?}");
        request
    }

    /// What a new client gets for these bytes, on whichever connection to the origin the edge chooses: `used` or another.
    #[track_caller]
    pub(crate) fn passes_somewhere(&self, bytes: &str, used: Peer) -> String {
        drop(used);
        let mut client = self.client_that_sent(bytes);
        let mut origin = self.origin.accept();
        origin.request();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.response().text().to_owned()
    }
}

fn forward(policy: Policy) -> Action {
    Action::Forward {
        split: Split::new(vec![(0, 1)]).expect("one target"),
        targets: vec![Target { service: 0, policy }],
        choosing: None,
        mirror: None,
        strip: None,
        rewrite: None,
    }
}

/// A server that says exactly what a test tells it to.
pub(crate) struct Origin(TcpListener);

impl Origin {
    fn listen() -> Self {
        Self(TcpListener::bind(("127.0.0.1", 0)).expect("a free port"))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound")
    }

    /// The socket itself, for a test that accepts in a runtime.
    pub(crate) fn listener(&self) -> TcpListener {
        self.0.set_nonblocking(true).expect("a socket");
        self.0.try_clone().expect("a descriptor")
    }

    /// The next connection of the edge.
    #[track_caller]
    pub(crate) fn accept(&self) -> Peer {
        // Accepting has no time of its own; waiting for readability by hand has.
        let until = clock::now() + PATIENCE;
        loop {
            if let Some(peer) = self.try_accept() {
                return peer;
            }
            assert!(clock::now() < until, "the edge did not connect to the origin");
            std::thread::yield_now();
        }
    }

    pub(crate) fn try_accept(&self) -> Option<Peer> {
        self.0.set_nonblocking(true).expect("a socket");
        match self.0.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).expect("a socket");
                Some(Peer::new(stream))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("accepting: {error}"),
        }
    }

    /// Nobody connected. To be asked after an answer that would have come later otherwise.
    #[track_caller]
    pub(crate) fn heard_nothing(&self) {
        if let Some(mut peer) = self.try_accept() {
            panic!("the origin was sent {:?}", String::from_utf8_lossy(&peer.some()));
        }
    }
}

/// One end of a connection, with what was read and not looked at yet.
pub(crate) struct Peer {
    stream: TcpStream,
    pub(crate) unread: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, unread: Vec::new() }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the other side takes it");
    }

    /// Sends what may be refused half-way.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Whether something came that was not read yet.
    pub(crate) fn has_bytes(&self) -> bool {
        self.stream.set_nonblocking(true).expect("a socket");
        let came = self.stream.peek(&mut [0]).is_ok();
        self.stream.set_nonblocking(false).expect("a socket");
        came
    }

    /// Sends as much as fits the buffers between here and there; how much that was.
    pub(crate) fn send_until_full(&mut self, bytes: &[u8], bytes_max: usize) -> usize {
        self.stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket");
        let mut sent = 0;
        while sent < bytes_max {
            match self.stream.write(bytes) {
                Ok(written) => sent += written,
                Err(_) => break,
            }
        }
        self.stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        sent
    }

    /// The same end again, for another thread to write on.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.stream.try_clone().expect("a descriptor"))
    }

    /// Closes the writing direction.
    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("it was open");
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    /// Reads more; 0 at the end, which a reset is too.
    fn fill(&mut self) -> usize {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(bytes) => {
                self.unread.extend_from_slice(&buffer[..bytes]);
                bytes
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) => {
                panic!("nothing came: {error}; before it {:?}", String::from_utf8_lossy(&self.unread))
            }
        }
    }

    /// The next bytes, whatever they are; empty at the end.
    pub(crate) fn some(&mut self) -> Vec<u8> {
        if self.unread.is_empty() {
            self.fill();
        }
        std::mem::take(&mut self.unread)
    }

    /// Exactly that many bytes.
    #[track_caller]
    pub(crate) fn exactly(&mut self, bytes: usize) -> Vec<u8> {
        while self.unread.len() < bytes {
            assert!(self.fill() > 0, "closed after {:?}", String::from_utf8_lossy(&self.unread));
        }
        let rest = self.unread.split_off(bytes);
        std::mem::replace(&mut self.unread, rest)
    }

    /// Exactly that many bytes, or none when the other side ends before.
    pub(crate) fn exactly_or_end(&mut self, bytes: usize) -> Option<Vec<u8>> {
        while self.unread.len() < bytes {
            if self.fill() == 0 {
                return None;
            }
        }
        Some(self.exactly(bytes))
    }

    /// The bytes up to and with `end`.
    #[track_caller]
    pub(crate) fn until(&mut self, end: &str) -> String {
        loop {
            let at = self.unread.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = at {
                let bytes = self.exactly(at + end.len());
                return String::from_utf8(bytes).expect("text");
            }
            assert!(self.fill() > 0, "closed after {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    /// Everything until the other side closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.unread)
    }

    /// The other side closes without another byte.
    #[track_caller]
    pub(crate) fn ends(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "before the end came {:?}", String::from_utf8_lossy(&rest));
    }

    /// The other side breaks the connection off: no end that could be taken for that of a message.
    #[track_caller]
    pub(crate) fn is_reset(&mut self) {
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("the connection ended as if all were well"),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("no reset came: {error}"),
            }
        }
    }

    /// A head alone.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Message {
        let head = self.until("\r\n\r\n");
        Message::parse(&head)
    }

    /// A request with its body.
    #[track_caller]
    pub(crate) fn request(&mut self) -> Message {
        let mut request = self.head();
        self.read_body(&mut request, false);
        request
    }

    /// A final response with its body; interim ones are passed over.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Message {
        loop {
            let mut response = self.head();
            if response.status() == 101 || response.status() >= 200 {
                let has_body = !matches!(response.status(), 101 | 204 | 304);
                if has_body {
                    self.read_body(&mut response, true);
                }
                return response;
            }
        }
    }

    #[track_caller]
    fn read_body(&mut self, message: &mut Message, is_response: bool) {
        let is_chunked = message.field("transfer-encoding") == Some("chunked");
        match message.field("content-length").map(|length| length.parse::<usize>().expect("a number")) {
            Some(length) => message.body = self.exactly(length),
            None if is_chunked => self.read_chunks(message),
            None if is_response => message.body = self.rest(),
            None => {}
        }
    }

    #[track_caller]
    fn read_chunks(&mut self, message: &mut Message) {
        loop {
            let line = self.until("\r\n");
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a plain size");
            if size == 0 {
                break;
            }
            message.body.extend(self.exactly(size));
            assert_eq!(self.exactly(2), b"\r\n");
        }
        loop {
            let line = self.until("\r\n");
            match line.trim_end().split_once(": ") {
                Some((name, value)) => message.trailers.push((name.to_lowercase(), value.to_owned())),
                None => break,
            }
        }
    }
}
