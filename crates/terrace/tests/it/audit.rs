//! Changes that are rare but plausible, each of which somebody will make one day under load.

use std::net::TcpListener;
use std::thread;

use terrace_testkit::{App, Connection, Kind, Load, Port, Request, get, until_true};

use crate::{shop, world};

#[test]
fn a_service_goes_over_from_instances_to_hosts_and_back_under_load() {
    let world = world();
    let port = Port::reserve();
    let outside = App::start("outside", world.folder.path());
    let listen = format!("[listen.public]\naddress = \"{port}\"\n");
    let run = format!("{listen}[service.web]\nrun = {}\ninstances = 2\n", world.app());
    let hosts = format!("{listen}[service.web]\nhosts = [\"{}\"]\n", outside.address());
    let terrace = world.up(&run);
    let load = Load::start(port.address(), &[(Kind::Get, 4)]);
    load.wait_for_more(&[(Kind::Get, 100)]);

    terrace.reload_with(&hosts).ok();
    assert_eq!(get(port.address(), "/").instance(), "outside");
    until_true("the instances have ended", || {
        terrace.service("web")["endpoints"].as_array().is_some_and(|endpoints| endpoints.len() == 1)
    });
    load.wait_for_more(&[(Kind::Get, 100)]);
    assert_eq!(get(port.address(), "/").instance(), "outside");

    terrace.reload_with(&run).ok();
    until_true("an instance answers", || get(port.address(), "/").instance() != "outside");
    load.wait_for_more(&[(Kind::Get, 100)]);
    load.stop().assert_nothing_lost();
}

#[test]
fn a_client_that_asks_on_is_told_that_its_listener_goes_away() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&file);
    let mut connection = Connection::open(address).expect("it is let in");
    let asked_on = thread::spawn(move || {
        loop {
            let answer = connection.exchange(&Request::get("/")).expect("it is answered, not cut off");
            assert_eq!(answer.status, 200);
            if answer.field("connection") == Some("close") {
                return;
            }
        }
    });
    terrace.reload_with(&file.replace("[listen.public]", "[listen.renamed]")).ok();
    asked_on.join().expect("its last answer said so");
    assert_eq!(get(address, "/").status, 200);
}

#[test]
fn a_file_whose_last_part_is_refused_changes_nothing_of_its_first() {
    let world = world();
    let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = held.local_addr().expect("bound");
    let port = Port::reserve();
    let file = |more: &str, status: u16| {
        format!(
            "[listen.public]\naddress = \"{port}\"\n{more}\n\
             [route.all]\nat = \"/*\"\nrespond = {{ status = {status} }}\n"
        )
    };
    let logs = |to: &str| format!("[log.access]\nto = \"{to}\"\n");
    let terrace = world.up(&file(&logs("before.log"), 230));
    for more in [
        format!("[admin]\nprobes = \"{taken}\"\n"),
        logs("/dev/null/no.log"),
        format!("{}[listen.other]\naddress = \"{taken}\"\n", logs("refused.log")),
    ] {
        terrace.reload_with(&file(&more, 231)).refused();
        assert_eq!(get(port.address(), "/").status, 230, "{more}");
    }
    assert_eq!(get(port.address(), "/logged").status, 230);
    until_true("the log goes where it went", || world.folder.read("before.log").contains("/logged"));
    terrace.reload_with(&file(&logs("before.log"), 232)).ok();
    assert_eq!(get(port.address(), "/").status, 232);
}

#[test]
fn after_stop_another_can_be_started_at_once() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&file);
    terrace.command(&["stop"]).ok();
    let _another = world.up(&file);
    assert_eq!(get(address, "/").status, 200);
}

#[test]
fn a_listener_that_is_taken_out_can_be_put_back_at_once() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let other = Port::reserve();
    let both = format!("{file}[listen.other]\naddress = \"{other}\"\n");
    let terrace = world.up(&both);
    for _ in 0..5 {
        terrace.reload_with(&file).ok();
        terrace.reload_with(&both).ok();
    }
    assert_eq!(get(other.address(), "/").status, 200);
    assert_eq!(get(address, "/").status, 200);
}
