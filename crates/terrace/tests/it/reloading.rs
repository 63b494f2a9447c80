//! The file changes while it is served: whole, or not at all, and nobody in the middle of something notices.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};

use terrace_testkit::{
    App, Connection, Kind, Load, Port, Request, Signal, WebSocket, get, try_get, until, until_true,
};

use crate::{shop, world};

const WATCHED: &str = "[terrace]\nwatch = true\n";
const WRONG: &str = "[route.more]\nat = \"/more\"\nto = \"wob\"\n";

#[test]
fn a_wrong_file_is_refused_whole_with_its_place_and_a_suggestion_while_what_ran_runs_on() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let terrace = world.up(&file);
    let pids = terrace.pids("web");
    // The first change is good, the second is not: neither is taken.
    let wrong = file.replace("instances = 2", "instances = 3") + WRONG;
    let told = terrace.reload_with(&wrong).refused();
    assert!(told.contains("terrace.toml:9:6") && told.contains("did you mean `web`?"), "{told}");
    assert_eq!(terrace.pids("web"), pids);
    assert_eq!(get(address, "/").status, 200);
    let good = wrong.replace("\"wob\"", "\"web\"");
    assert_eq!(terrace.reload_with(&good).code, Some(0));
    until_true("the third instance runs", || terrace.pids("web").len() == 3);
}

#[test]
fn a_wrong_file_is_refused_by_sighup_too() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&file);
    world.write(&format!("{file}{WRONG}"));
    terrace.signal(Signal::HUP);
    let refused = terrace.event("reload.refused");
    assert_eq!(refused["cause"], "SIGHUP");
    assert!(refused["problem"].as_str().is_some_and(|text| text.contains("terrace.toml:9:6")), "{refused}");
    assert_eq!(get(address, "/").status, 200);
    world.write(&format!("{file}{}", fixed_route("/more", "here")));
    terrace.signal(Signal::HUP);
    until_true("the new route is served", || get(address, "/more").text() == "here");
}

#[test]
fn a_watched_file_is_taken_over_when_it_changes_and_refused_when_it_is_wrong() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let route = |body: &str| format!("{file}{}{WATCHED}", fixed_route("/colour", body));
    let terrace = world.up(&route("red"));
    assert_eq!(get(address, "/colour").text(), "red");
    world.write(&format!("{}{WRONG}", route("green")));
    assert_eq!(terrace.event("reload.refused")["cause"], "file");
    assert_eq!(get(address, "/colour").text(), "red");
    world.write(&route("blue"));
    until_true("the new answer is given", || get(address, "/colour").text() == "blue");
}

#[test]
fn a_file_that_asks_for_a_taken_port_changes_nothing() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&file);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|at| (taken, at)).expect("it is bound");
    let more = format!("[listen.more]\naddress = \"{}\"\n{}", taken.1, fixed_route("/new", "new"));
    let told = terrace.reload_with(&format!("{file}{more}")).refused();
    assert!(told.contains(&taken.1.to_string()), "{told}");
    assert_eq!(get(address, "/new").instance(), "web-1", "the new route is not there");
}

#[test]
fn a_reload_disturbs_neither_instances_nor_open_websockets() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let terrace = world.up(&file);
    let pids = terrace.pids("web");
    let mut socket = WebSocket::open(address, "/ws").expect("it opens");
    for colour in ["red", "green", "blue"] {
        let policy = "[defaults]\ntimeout = { total = \"20s\" }\n";
        terrace.reload_with(&format!("{file}{}{policy}", fixed_route("/colour", colour))).ok();
        assert_eq!(get(address, "/colour").text(), colour);
        socket.echo(colour).expect("it is still open");
    }
    socket.close().expect("it closes in order");
    assert_eq!(terrace.pids("web"), pids);
}

#[test]
fn a_listener_appears_and_vanishes_without_a_reset() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let terrace = world.up(&file);
    let extra = Port::reserve();
    let more = format!("{file}[listen.extra]\naddress = \"{extra}\"\n");
    let everybody = &[(Kind::Get, 1), (Kind::WebSocket, 1)];
    let load = Load::start(address, everybody);
    for round in 0..4 {
        assert_eq!(connect_kind(extra.address()), Err(ErrorKind::ConnectionRefused));
        terrace.reload_with(&more).ok();
        let gate = format!("vanish-{round}");
        let held = in_flight(&world.folder, extra.address(), &gate);
        let mut idle = Connection::open(extra.address()).expect("it is listened on");
        idle.exchange(&Request::get("/")).expect("it is served");
        let served = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let knocking: Vec<_> =
                (0..6).map(|_| scope.spawn(|| knock_until_refused(extra.address(), &served))).collect();
            until_true("they are served", || served.load(Ordering::SeqCst) > 20);
            terrace.reload_with(&file).ok();
            for one in knocking {
                one.join().expect("it does not panic");
            }
        });
        assert!(idle.read_to_end().is_ok_and(|rest| rest.is_empty()), "closed in order, not reset");
        world.folder.write(&format!("gate-{gate}"), "");
        assert_eq!(held.join().expect("it was answered"), "held\n");
    }
    load.wait_for_more(everybody);
    load.stop().assert_nothing_lost();
}

#[test]
fn a_listener_moves_to_another_address() {
    let world = world();
    let (port, address, file) = shop(&world, 1);
    let terrace = world.up(&file);
    let other = Port::reserve();
    terrace.reload_with(&file.replace(&port.to_string(), &other.to_string())).ok();
    assert_eq!(get(other.address(), "/").status, 200);
    until_true("the old one is gone", || try_get(address, "/").is_err());
}

#[test]
fn a_service_that_is_taken_out_of_the_file_is_ended_after_its_requests() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let both = format!(
        "{file}[service.old]\nrun = {}\n[route.old]\nat = \"/hold\"\nto = \"old\"\n[route.all]\nat = \"/*\"\nto = \"web\"\n",
        world.app()
    );
    let terrace = world.up(&both);
    let held = in_flight(&world.folder, address, "leave");
    terrace.reload_with(&file).ok();
    assert_eq!(get(address, "/").instance(), "web-1");
    world.folder.write("gate-leave", "");
    assert_eq!(held.join().expect("it was answered"), "held\n");
    let processes =
        || world.processes().into_iter().filter(|process| process.command.ends_with("--nocapture")).count();
    until_true("only the other is left", || processes() == 1);
}

#[test]
fn a_reload_does_not_readmit_an_endpoint_that_was_taken_out() {
    let world = world();
    let port = Port::reserve();
    let (good, bad) = (App::start("good", world.folder.path()), App::start("bad", world.folder.path()));
    let file = format!(
        "[listen.public]\naddress = \"{port}\"\n\
         [service.web]\nhosts = [\"{}\", \"{}\"]\nbalance = \"round-robin\"\nretry = false\n\
         eject = {{ failures = 3, for = \"10m\", for-max = \"10m\", share-max = \"50%\" }}\n",
        good.address(),
        bad.address()
    );
    let terrace = world.up(&file);
    world.folder.write("failing-bad", "");
    until_true("the bad one is out", || {
        let _answer = get(port.address(), "/");
        terrace.stderr().contains("upstream.endpoint.ejected")
    });
    world.folder.remove("failing-bad");
    terrace.reload_with(&format!("{file}slow-start = \"1s\"\n")).ok();
    for _ in 0..10 {
        assert_eq!(get(port.address(), "/").instance(), "good");
    }
}

/// A route with a fixed answer.
fn fixed_route(path: &str, body: &str) -> String {
    let name = path.trim_start_matches('/');
    format!(
        "[route.{name}]\nat = \"{path}\"\nrespond = {{ status = 200, body = \"{body}\", type = \"text/plain\" }}\n\
             [route.everything]\nat = \"/*\"\nto = \"web\"\n"
    )
}

/// A request that is answered when its gate opens, once it has arrived at the app.
fn in_flight(
    folder: &terrace_testkit::Folder,
    address: SocketAddr,
    gate: &str,
) -> std::thread::JoinHandle<String> {
    let target = format!("/hold?gate={gate}");
    let held = std::thread::spawn(move || get(address, &target).text());
    until("it is in flight", || folder.join(&format!("at-{gate}")).exists().then_some(()));
    held
}

fn connect_kind(address: SocketAddr) -> Result<(), ErrorKind> {
    Connection::open(address).map(drop).map_err(|error| error.kind())
}

/// Asks again and again: whoever was let in is served, until nobody is let in.
fn knock_until_refused(address: SocketAddr, served: &AtomicU64) {
    loop {
        let mut connection = match Connection::open(address) {
            Ok(connection) => connection,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
            Err(error) => panic!("not refused but: {error}"),
        };
        match connection.exchange(&Request::get("/")) {
            Ok(answer) => assert_eq!(answer.status, 200),
            Err(error) => panic!("let in, and then: {error}"),
        }
        served.fetch_add(1, Ordering::SeqCst);
    }
}
