//! What keeps the rest fast when a part is broken, as the file asks for it.

use serde_json::Value;
use terrace_testkit::{Port, Request, World, get, until_true};

use crate::world;

/// A service that runs, one that nobody answers for, and a route to it.
fn file(world: &World, port: &Port, broken: &str, route: &str) -> String {
    let nobody = Port::reserve();
    format!(
        "[listen.public]\naddress = \"{port}\"\n\
         [service.web]\nrun = {}\nhealth = {{ path = \"/health\", every = \"200ms\" }}\n\
         [service.broken]\nhosts = [\"{nobody}\"]\n{broken}\n\
         [route.web]\nat = \"/web/*\"\nstrip = \"/web\"\nto = \"web\"\n\
         [route.broken]\nat = \"/*\"\nto = \"broken\"\n{route}\n",
        world.app()
    )
}

#[test]
fn another_service_answers_for_one_that_is_broken() {
    let world = world();
    let port = Port::reserve();
    let terrace = world.up(&file(&world, &port, "", "fallback = { to = \"web\" }"));
    let answer = get(port.address(), "/seen");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["target"], "/seen");
    terrace.reload_with(&file(&world, &port, "", "")).ok();
    assert_eq!(get(port.address(), "/seen").status, 502);
}

#[test]
fn a_fixed_answer_stands_in_for_the_failures_that_it_is_for() {
    let world = world();
    let port = Port::reserve();
    let fallback = "fallback = { respond = { body = \"[]\", type = \"application/json\" }, on = [\"404\"] }";
    let terrace = world.up(&file(&world, &port, "", "")
        .replace("strip = \"/web\"\n", &format!("strip = \"/web\"\n{fallback}\n")));
    let missing = get(port.address(), "/web/status?code=404");
    assert_eq!((missing.status, missing.text().as_str()), (200, "[]"));
    assert_eq!(missing.field("content-type"), Some("application/json"));
    assert_eq!(get(port.address(), "/web/status?code=503").status, 503);
    assert_eq!(terrace.counted("terrace_fallbacks_total{service=\"web\"}"), 1.0);
}

#[test]
fn a_service_that_only_fails_is_not_asked_for_a_while() {
    let world = world();
    let port = Port::reserve();
    let broken = "breaker = { consecutive = 3, open = \"10m\" }\neject = false\nretry = false";
    let terrace = world.up(&file(&world, &port, broken, ""));
    until_true("the breaker opens", || {
        let answer = get(port.address(), "/");
        answer.status == 503 && answer.text().contains("breaker")
    });
    assert!(get(port.address(), "/").field("retry-after").is_some());
    terrace.reload_with(&file(&world, &port, broken, "request = { set = { X-A = \"1\" } }")).ok();
    assert_eq!(get(port.address(), "/").status, 503, "a reload does not close it");
    terrace.reload_with(&file(&world, &port, "breaker = false\neject = false\nretry = false", "")).ok();
    assert_eq!(get(port.address(), "/").status, 502, "without a breaker it is asked again");
}

#[test]
fn a_service_is_told_how_much_time_is_left_unless_the_file_says_no() {
    let world = world();
    let port = Port::reserve();
    let route = |more: &str| {
        file(&world, &port, "", "").replace("strip = \"/web\"\n", &format!("strip = \"/web\"\n{more}\n"))
    };
    let told = || {
        let seen: Value = get(port.address(), "/web/seen").json();
        seen["fields"].to_string().to_lowercase().contains("x-request-deadline")
    };
    let terrace = world.up(&route("timeout = { total = \"5s\" }"));
    assert!(told());
    terrace.reload_with(&route("timeout = { total = \"5s\", deadline = false }")).ok();
    assert!(!told());
    terrace.reload_with(&route("")).ok();
    assert!(!told(), "without an end there is none to tell");
}

#[test]
fn no_more_requests_than_the_file_allows_are_under_way_at_a_service() {
    let world = world();
    let port = Port::reserve();
    let service = "concurrency = 1\nqueue = { size = 0 }\nretry = false\n";
    let file = file(&world, &port, "", "")
        .replace("every = \"200ms\" }\n", &format!("every = \"200ms\" }}\n{service}"));
    let terrace = world.up(&file);
    let held = std::thread::spawn({
        let address = port.address();
        move || Request::get("/web/hold?gate=x").send(address).status
    });
    until_true("one is under way", || world.folder.join("at-x").exists());
    assert_eq!(get(port.address(), "/web/").status, 503, "there is room for one only, and no line");
    terrace.reload_with(&file.replace("concurrency = 1", "concurrency = 2")).ok();
    assert_eq!(get(port.address(), "/web/").status, 200);
    world.folder.write("gate-x", "");
    assert_eq!(held.join().expect("it ends"), 200);
}
