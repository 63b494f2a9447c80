//! What the fleet's integration tests run: a shim, small apps that behave well or badly, and a Terrace to kill.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the output of these apps is what the tests are about")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use terrace_fleet::{BoxFuture, Config, Member, Rotation, ServiceConfig};
use terrace_instruments::{Log, Meter};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    match (role.as_str(), rest.as_slice()) {
        ("shim", _) => return terrace_fleet::shim_main(rest.iter().map(|word| (*word).to_owned())),
        ("serve", _) => serve(),
        ("deaf", _) => deaf(),
        ("crash", _) => return crash(),
        ("flood", [lines]) => flood(lines.parse().expect("a number of lines")),
        ("family", _) => family(),
        ("daemon", _) => daemon(),
        ("patient", [file]) => patient(Path::new(file)),
        ("notify", _) => notify(),
        ("controller", [state, count]) => {
            controller(Path::new(state), count.parse().expect("a number of instances"))
        }
        _ => return ExitCode::from(64),
    }
    ExitCode::SUCCESS
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn listener() -> TcpListener {
    let port: u16 = variable("PORT").parse().expect("PORT is a number");
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(listener) => listener,
        Err(error) => panic!("port {port}: {error}"),
    }
}

/// Answers every request with what it was given.
fn serve() {
    let listener = listener();
    println!("listening");
    let body = format!(
        "{} {} pid={} terrace={} own={}",
        variable("TERRACE_SERVICE"),
        variable("TERRACE_INSTANCE"),
        std::process::id(),
        variable("TERRACE_TOKEN"),
        variable("OWN"),
    );
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let mut request = [0; 4096];
        let _count = stream.read(&mut request);
        let _sent = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    }
}

/// Runs and never listens.
fn deaf() {
    println!("I will never listen");
    std::thread::park();
}

fn crash() -> ExitCode {
    (1..=30).for_each(|number| println!("line {number} before the end"));
    ExitCode::from(3)
}

fn flood(lines: usize) {
    let text = "x".repeat(200);
    (0..lines).for_each(|number| println!("{number} {text}"));
    println!("the flood is over");
    serve();
}

/// Starts a child in its group and a daemon in a session of its own, and serves.
#[expect(clippy::zombie_processes, reason = "that nobody waits for it is what this app is for")]
fn family() {
    let own = std::env::current_exe().expect("it runs");
    let start =
        |role: &str| Command::new(&own).arg(role).stdin(Stdio::null()).spawn().expect("it is executable");
    let child = start("deaf");
    println!("child {}", child.id());
    start("daemon").wait().expect("it goes to the background");
    serve();
}

/// Leaves its session and its parent, as daemons do.
#[expect(clippy::zombie_processes, reason = "that nobody waits for it is what this app is for")]
fn daemon() {
    if rustix::process::setsid().is_ok() {
        let own = std::env::current_exe().expect("it runs");
        let daemon = Command::new(own).arg("deaf").stdin(Stdio::null()).spawn().expect("it is executable");
        println!("daemon {}", daemon.id());
    }
}

/// Waits for a file before it takes its port.
fn patient(file: &Path) {
    while !file.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    serve();
}

fn notify() {
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt;
        let address = variable("NOTIFY_SOCKET");
        let name = address.strip_prefix('@').expect("an abstract address");
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("short");
        let socket = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
        socket.send_to_addr(b"READY=1\nSTATUS=at work", &address).expect("the shim listens");
    }
    std::thread::park();
}

/// A Terrace that says whenever something is published, until it is killed.
#[tokio::main(flavor = "current_thread")]
async fn controller(state: &Path, count: u32) {
    let own = std::env::current_exe().expect("it runs").to_string_lossy().into_owned();
    let config = Config::new(state.to_owned(), vec![own.clone(), "shim".to_owned()]);
    let (fleet, handle) =
        terrace_fleet::build(config, Arc::new(Loud), &Meter::new(1), Log::discard()).expect("a state folder");
    let mut service = ServiceConfig::new("orders", vec![own, "serve".to_owned()]);
    service.instances = count;
    let (_drainer, drain) = terrace_runtime::drain::channel();
    let apply = async {
        handle.apply(vec![service]).await.expect("it is well formed");
        std::future::pending::<()>().await;
    };
    tokio::join!(fleet.run(drain), apply);
}

struct Loud;

impl Rotation for Loud {
    fn publish(&self, service: &str, members: Vec<Member>) {
        let addresses: Vec<SocketAddr> = members.iter().map(|member| member.address).collect();
        println!("{service} {} {addresses:?}", members.len());
    }

    fn requests_idle(&self, _service: &str, _instance: &str) -> BoxFuture<()> {
        Box::pin(async {})
    }

    fn streams_idle(&self, _service: &str, _instance: &str) -> BoxFuture<()> {
        Box::pin(async {})
    }

    fn close_idle(&self, _service: &str, _instance: &str) {}
}
