//! Which endpoint gets a request, which gets none, and what is tried again.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use terrace_testkit::{App, Port, Request, Terrace, World, get, post, until, until_true};

use crate::{shop, world};

/// Apps that Terrace does not run, behind a listener.
struct Hosts {
    port: Port,
    apps: Vec<App>,
    file: String,
}

fn hosts(world: &World, names: &[&str], more: &str) -> Hosts {
    let port = Port::reserve();
    let apps: Vec<App> = names.iter().map(|name| App::start(name, world.folder.path())).collect();
    let list: Vec<String> = apps.iter().map(|app| format!("\"{}\"", app.address())).collect();
    let file = format!(
        "[listen.public]\naddress = \"{port}\"\n[service.web]\nhosts = [{}]\n{more}",
        list.join(", ")
    );
    Hosts { port, apps, file }
}

/// How many of so many requests each endpoint answered.
fn shares(address: SocketAddr, requests: u32) -> BTreeMap<String, u32> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        *shares.entry(get(address, "/").instance().to_owned()).or_default() += 1;
    }
    shares
}

#[test]
fn round_robin_gives_everyone_the_same() {
    let world = world();
    let hosts = hosts(&world, &["a", "b", "c"], "balance = \"round-robin\"\n");
    let _terrace = world.up(&format!("{}[terrace]\nthreads = 1\nwatch = false\n", hosts.file));
    let shares = shares(hosts.port.address(), 60);
    assert_eq!(shares.into_values().collect::<Vec<_>>(), [20, 20, 20]);
}

#[test]
fn weights_are_shares() {
    let world = world();
    let hosts = hosts(&world, &["a", "b"], "balance = \"weighted\"\n");
    let second = format!("\"{}\"", hosts.apps[1].address());
    let file = hosts.file.replace(&second, &format!("{{ address = {second}, weight = 3 }}"));
    let _terrace = world.up(&file);
    let shares = shares(hosts.port.address(), 80);
    let (a, b) = (shares["a"], shares["b"]);
    assert!((16..=24).contains(&a) && a + b == 80, "{a} and {b}");
}

#[test]
fn a_route_splits_between_services() {
    let world = world();
    let hosts = hosts(&world, &["old"], "");
    let next = App::start("next", world.folder.path());
    let more = format!(
        "[service.next]\nhosts = [\"{}\"]\n[route.all]\nat = \"/*\"\nto = {{ web = 1, next = 1 }}\n",
        next.address()
    );
    let _terrace = world.up(&format!("{}{more}", hosts.file));
    let shares = shares(hosts.port.address(), 200);
    assert!(shares["old"] > 50 && shares["next"] > 50, "{shares:?}");
}

#[test]
fn a_cookie_leads_a_client_back_to_its_endpoint_even_after_a_restart_of_terrace() {
    let world = world();
    let hosts = hosts(&world, &["a", "b", "c"], "sticky = { cookie = \"where\", ttl = \"1h\" }\n");
    let mut terrace = world.up(&hosts.file);
    let first = get(hosts.port.address(), "/");
    let cookie =
        first.field("set-cookie").expect("it is set").split(';').next().unwrap_or_default().to_owned();
    assert!(
        first
            .field("set-cookie")
            .is_some_and(|text| text.contains("HttpOnly") && text.contains("Max-Age=3600"))
    );
    let again = Request::get("/").with("Cookie", &format!("theme=dark; {cookie}"));
    let same = |_| again.send(hosts.port.address()).instance() == first.instance();
    assert!((0..20).all(same), "always the same");
    assert!(again.send(hosts.port.address()).field("set-cookie").is_none(), "it has it already");
    assert!(terrace.stop().success());
    let _terrace = world.up(&hosts.file);
    assert!((0..20).all(same), "the same as before");
}

#[test]
fn a_hash_leads_the_same_key_to_the_same_endpoint() {
    let world = world();
    let hosts = hosts(&world, &["a", "b", "c"], "balance = { hash = \"header:X-User\" }\n");
    let _terrace = world.up(&hosts.file);
    let of = |user: u32| {
        let request = Request::get("/").with("X-User", &format!("user-{user}"));
        request.send(hosts.port.address()).instance().to_owned()
    };
    let places: Vec<String> = (0..40).map(of).collect();
    assert_eq!((0..40).map(of).collect::<Vec<_>>(), places);
    for name in ["a", "b", "c"] {
        assert!(places.iter().any(|place| place == name), "{name} has some");
    }
}

#[test]
fn what_was_never_sent_is_sent_elsewhere_whatever_it_is() {
    let world = world();
    let gone = Port::reserve();
    let hosts =
        hosts(&world, &["a"], "balance = \"round-robin\"\neject = false\nretry = { budget = \"100%\" }\n");
    let file = hosts.file.replace("hosts = [", &format!("hosts = [\"{gone}\", "));
    let terrace = world.up(&file);
    for _ in 0..20 {
        assert_eq!(get(hosts.port.address(), "/").instance(), "a");
        assert_eq!(post(hosts.port.address(), "/upload", "once").status, 200);
    }
    assert_eq!(hosts.apps[0].requests(), 40, "and nothing twice");
    drop(terrace);
}

#[test]
fn a_request_that_another_endpoint_answered_is_called_retried_and_not_an_error() {
    let world = world();
    let gone = Port::reserve();
    let hosts =
        hosts(&world, &["a"], "balance = \"round-robin\"\neject = false\nretry = { budget = \"100%\" }\n");
    let file = hosts.file.replace("hosts = [", &format!("hosts = [\"{gone}\", "));
    let terrace = world.up(&format!("{file}[trace]\nsample = \"100%\"\n"));
    (0..4).for_each(|_| assert_eq!(get(hosts.port.address(), "/").status, 200));
    let listed = || terrace.command(&["traces"]).ok();
    let retried = until("a retried one is kept", || {
        listed().lines().find(|line| line.contains(", retried)")).map(str::to_owned)
    });
    assert!(retried.contains(" 200 "), "{retried}");
    assert!(!terrace.command(&["traces", "--errors"]).ok().contains(" 200 "));
    let id = retried.split_whitespace().find(|word| word.len() == 32).expect("it has an id");
    assert!(terrace.command(&["traces", id]).ok().contains("connect"), "the try that failed is still seen");
}

#[test]
fn a_host_whose_checks_pass_is_nothing_to_look_at() {
    let world = world();
    let hosts = hosts(&world, &["a"], "health = { path = \"/health\", every = \"100ms\" }\n");
    let terrace = world.up(&hosts.file);
    let state = || terrace.ask("/v1/map")["services"][0]["instances"][0]["state"].clone();
    until_true("its checks pass", || state() == "healthy");
    drop(hosts.apps);
    until_true("its checks fail", || state() == "unhealthy");
}

#[test]
fn a_dead_endpoint_is_not_tried_twice_though_nothing_is_in_flight_on_it() {
    let world = world();
    let gone = Port::reserve();
    let hosts =
        hosts(&world, &["a"], "balance = \"least-requests\"\neject = false\nretry = { budget = \"100%\" }\n");
    let file = hosts.file.replace("hosts = [", &format!("hosts = [\"{gone}\", "));
    let _terrace = world.up(&file);
    let address = hosts.port.address();
    let held = std::thread::spawn(move || get(address, "/hold?gate=busy"));
    until_true("the living one is busy", || world.folder.join("at-busy").exists());
    let shares = shares(address, 50);
    world.folder.write("gate-busy", "");
    assert_eq!(shares.into_iter().collect::<Vec<_>>(), [("a".to_owned(), 50)]);
    assert_eq!(held.join().expect("it was answered").status, 200);
}

#[test]
fn what_policy_says_is_tried_again_and_nothing_else() {
    let world = world();
    let policy = "balance = \"round-robin\"\neject = false\nretry = { attempts = 2, on = [\"503\"], budget = \"100%\" }\n";
    let hosts = hosts(&world, &["a", "b"], policy);
    let _terrace = world.up(&hosts.file);
    let before = || hosts.apps.iter().map(App::requests).sum::<u64>();
    assert_eq!(get(hosts.port.address(), "/status?code=503").status, 503, "both say so");
    assert_eq!(before(), 2);
    assert_eq!(get(hosts.port.address(), "/status?code=500").status, 500);
    assert_eq!(before(), 3, "another status is passed on");
    assert_eq!(post(hosts.port.address(), "/status?code=503", "x").status, 503);
    assert_eq!(before(), 4, "a POST is never sent twice");
}

#[test]
fn a_retry_budget_bounds_what_is_tried_again() {
    let world = world();
    let policy = "balance = \"round-robin\"\neject = false\nretry = { attempts = 2, on = [\"503\"], budget = \"10%\" }\n";
    let hosts = hosts(&world, &["a", "b"], policy);
    let _terrace = world.up(&hosts.file);
    for _ in 0..300 {
        assert_eq!(get(hosts.port.address(), "/status?code=503").status, 503);
    }
    let sent: u64 = hosts.apps.iter().map(App::requests).sum();
    assert!((301..400).contains(&sent), "{sent} were sent for 300");
}

#[test]
fn active_checks_take_an_endpoint_out_and_back() {
    let world = world();
    let check = "health = { path = \"/health\", every = \"100ms\", down = 2, up = 2 }\n";
    let hosts = hosts(&world, &["a", "b"], check);
    let terrace = world.up(&hosts.file);
    world.folder.write("unwell-a", "");
    until_true("a is out", || health(&terrace, &hosts.apps[0]) == "down");
    assert_eq!(shares(hosts.port.address(), 20).into_iter().collect::<Vec<_>>(), [("b".to_owned(), 20)]);
    assert!(terrace.command(&["status"]).ok().contains("down"));
    world.folder.remove("unwell-a");
    until_true("a is back", || shares(hosts.port.address(), 10).len() == 2);
    assert_eq!(health(&terrace, &hosts.apps[0]), "up");
}

#[test]
fn an_endpoint_that_fails_is_taken_out_and_comes_back() {
    let world = world();
    let law = "balance = \"round-robin\"\nretry = false\neject = { failures = 3, for = \"1s\" }\n";
    let hosts = hosts(&world, &["a", "b"], law);
    let terrace = world.up(&hosts.file);
    world.folder.write("failing-a", "");
    until_true("a is out", || {
        shares(hosts.port.address(), 4);
        terrace.has_event("upstream.endpoint.ejected")
    });
    let ejected = terrace.event("upstream.endpoint.ejected");
    assert_eq!(ejected["instance"], hosts.apps[0].address().to_string());
    world.folder.remove("failing-a");
    // It proves itself request by request, so some have to come.
    until_true("a is back", || {
        shares(hosts.port.address(), 4);
        terrace.has_event("upstream.endpoint.readmitted")
    });
    until_true("a serves", || shares(hosts.port.address(), 4).contains_key("a"));
}

#[test]
fn never_all_are_taken_out_however_badly_they_do() {
    let world = world();
    let law =
        "retry = false\neject = { failures = 2, for = \"10m\", for-max = \"10m\", share-max = \"50%\" }\n";
    let hosts = hosts(&world, &["a", "b"], law);
    let terrace = world.up(&hosts.file);
    // One after the other: what both fail alike from the start is held against neither.
    world.folder.write("failing-a", "");
    until_true("one is out", || {
        shares(hosts.port.address(), 4);
        terrace.has_event("upstream.endpoint.ejected")
    });
    world.folder.write("failing", "");
    assert!((0..60).all(|_| get(hosts.port.address(), "/").status == 500));
    let out = terrace.events().iter().filter(|event| event["event"] == "upstream.endpoint.ejected").count();
    assert_eq!(out, 1, "half of two");
}

#[test]
fn in_panic_all_are_used() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let terrace = world.up(&file);
    world.folder.write("unwell", "");
    terrace.event("upstream.panic.began");
    assert_eq!(get(address, "/").status, 200, "unwell, but it answers");
}

#[test]
fn a_name_is_looked_up_and_its_changes_are_followed() {
    let world = world();
    let first = App::start("first", world.folder.path());
    let second =
        App::start_at("second", world.folder.path(), ([127, 0, 0, 2], first.address().port()).into());
    let names = NameServer::start(1);
    let port = Port::reserve();
    let file = format!(
        "[listen.public]\naddress = \"{port}\"\n[service.web]\ndns = \"app.internal:{}\"\nresolver = \"{}\"\n",
        first.address().port(),
        names.address
    );
    let terrace = world.up(&file);
    until("the first answers", || (get(port.address(), "/").instance() == "first").then_some(()));
    names.last_octet.store(2, Ordering::SeqCst);
    until_true("the second answers", || get(port.address(), "/").instance() == "second");
    assert_eq!(second.address().ip().to_string(), "127.0.0.2");
    assert_eq!(terrace.service("web")["kind"], "dns");
}

fn health(terrace: &Terrace<'_>, app: &App) -> String {
    let endpoints = terrace.service("web")["endpoints"].as_array().cloned().unwrap_or_default();
    let address = app.address().to_string();
    let endpoint = endpoints.into_iter().find(|endpoint| endpoint["address"] == address.as_str());
    endpoint.map(|endpoint| endpoint["health"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

/// A name server that knows one address (RFC 1035), 127.0.0.N, for a second at a time.
struct NameServer {
    address: SocketAddr,
    last_octet: Arc<AtomicU8>,
}

impl NameServer {
    fn start(last_octet: u8) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("it is bound");
        let last_octet = Arc::new(AtomicU8::new(last_octet));
        let answered = Arc::clone(&last_octet);
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((count, from)) = socket.recv_from(&mut query) {
                let answer = answer(&query[..count], answered.load(Ordering::SeqCst));
                let _asker_gone = socket.send_to(&answer, from);
            }
        });
        Self { address, last_octet }
    }
}

fn answer(query: &[u8], last_octet: u8) -> Vec<u8> {
    // The question ends with the name's zero byte, the type and the class.
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap_or_default() + 5;
    let is_a = query.get(end - 3) == Some(&1);
    let mut answer = query[..2].to_vec();
    answer.extend_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    answer.extend_from_slice(&query[12..end]);
    if is_a {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, last_octet]);
    }
    answer
}
