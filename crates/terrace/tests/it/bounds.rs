//! What one client can take up, and what it gets instead of more.

use std::io;

use terrace_testkit::{Connection, Request, Response, get, until_true};

use crate::{shop, world};

/// The app behind a listener with these bounds.
macro_rules! bounded {
    ($world:ident, $address:ident, $bounds:expr) => {
        let $world = world();
        let (_port, $address, file) = shop(&$world, 1);
        let bounds = format!("bounds = {{ {} }}\n[service.web]", $bounds);
        let _terrace = $world.up(&file.replace("[service.web]", &bounds));
    };
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    bounded!(world, address, "header-bytes = \"2KiB\", header-count = 10, uri-bytes = \"1KiB\"");
    let padded = |count: usize| Request::get("/").with("X-Padding", &"x".repeat(count)).send(address).status;
    assert_eq!((padded(1000), padded(4000)), (200, 431));
    let fields = |count: u32| {
        let request = (0..count).fold(Request::get("/"), |request, at| request.with(&format!("X-{at}"), "x"));
        request.send(address).status
    };
    assert_eq!((fields(8), fields(11)), (200, 431));
    assert_eq!(get(address, &format!("/{}", "x".repeat(900))).status, 200);
    assert_eq!(get(address, &format!("/{}", "x".repeat(1100))).status, 414);
}

#[test]
fn a_head_that_comes_too_slowly_is_given_up() {
    bounded!(world, address, "header-time = \"200ms\"");
    let mut connection = Connection::open(address).expect("it is let in");
    connection.write(b"GET / HTTP/1.1\r\nHost: lo").expect("it is taken");
    let answer = connection.read("GET").expect("it is answered");
    assert_eq!(answer.status, 408);
    assert!(connection.is_closed());
}

#[test]
fn a_body_that_comes_too_slowly_is_given_up() {
    bounded!(world, address, "body-rate = \"1KiB/s\"");
    let mut connection = Connection::open(address).expect("it is let in");
    let head = "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nsome";
    connection.write(head.as_bytes()).expect("it is taken");
    assert_eq!(connection.read("POST").expect("it is answered").status, 408);
}

#[test]
fn a_connection_without_a_request_is_closed() {
    bounded!(world, address, "idle = \"100ms\"");
    let mut connection = Connection::open(address).expect("it is let in");
    assert_eq!(connection.exchange(&Request::get("/")).expect("it is served").status, 200);
    assert!(connection.is_closed());
}

#[test]
fn one_client_gets_so_many_connections_and_no_more() {
    bounded!(world, address, "connections-per-client = 2");
    let open = || -> io::Result<(Connection, Response)> {
        let mut connection = Connection::open(address)?;
        let answer = connection.exchange(&Request::get("/"))?;
        Ok((connection, answer))
    };
    let held = [open(), open()].map(|held| held.expect("both are let in"));
    assert!(held.iter().all(|(_, answer)| answer.status == 200));
    let over = open().expect("it is told");
    assert_eq!((over.1.status, over.1.field("retry-after")), (503, Some("1")));
    drop(held);
    until_true("there is room again", || open().is_ok_and(|(_, answer)| answer.status == 200));
}

#[test]
fn a_service_takes_so_many_connections_and_nobody_waits_in_line_for_more() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let _terrace = world.up(&format!("{file}connections = {{ max = 2 }}\n"));
    let held: Vec<_> = ["one", "two"]
        .into_iter()
        .map(|gate| std::thread::spawn(move || get(address, &format!("/hold?gate={gate}"))))
        .collect();
    until_true("both are in flight", || ["at-one", "at-two"].iter().all(|at| world.folder.join(at).exists()));
    let over = get(address, "/");
    assert_eq!((over.status, &over.json()["error"]), (503, &"connection_limit_reached".into()));
    assert_eq!(over.json()["fault"], "terrace");
    world.folder.write("gate-one", "");
    world.folder.write("gate-two", "");
    for one in held {
        assert_eq!(one.join().expect("it was answered").status, 200);
    }
    until_true("there is room again", || get(address, "/").status == 200);
}
