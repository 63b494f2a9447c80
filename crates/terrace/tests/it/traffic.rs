//! Traffic by rule, from the file to the client: what is changed on the way, which service a request goes to, and which
//! pages of other origins may read its answer.

use std::path::Path;

use serde_json::json;
use terrace_testkit::{Port, Request, Response, World, get, until_true};

use crate::world;

/// A listener, and the app as two services.
fn two(world: &World, port: &Port, routes: &str) -> String {
    let service = |name: &str| {
        let app = world.app();
        format!("[service.{name}]\nrun = {app}\nhealth = {{ path = \"/health\", every = \"200ms\" }}\n")
    };
    format!("[listen.public]\naddress = \"{port}\"\n{}{}{routes}", service("web"), service("next"))
}

/// The request's fields as the service saw them.
fn seen(answer: &Response) -> Vec<(String, String)> {
    let value: serde_json::Value = serde_json::from_str(&answer.text()).expect("the app tells in JSON");
    let pair = |pair: &serde_json::Value| {
        let text = |at: usize| pair[at].as_str().unwrap_or_default().to_owned();
        (text(0), text(1))
    };
    value["fields"].as_array().expect("a list").iter().map(pair).collect()
}

#[test]
fn requests_and_answers_are_changed_as_the_file_says() {
    let world = world();
    let port = Port::reserve();
    let routes = "[route.shop]\nat = \"/{tenant}/*\"\nto = \"web\"\nrewrite = \"/{rest}\"\n\
                  request = { set = { X-Tenant = \"{tenant}\", Host = \"web.internal\" }, remove = [\"X-Debug\"], \
                  query = { set = { v = \"2\" } } }\n\
                  response = { set = { X-Served = \"{service} for {tenant}\" }, status = { 404 = 200 } }\n\
                  security-headers = true\n";
    let _terrace = world.up(&two(&world, &port, routes));
    let request = Request::get("/acme/seen?v=1&a=1").with("X-Debug", "1").with("x_tenant", "forged");
    let answer = request.send(port.address());
    let fields = seen(&answer);
    let all = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!((all("x-tenant"), all("host")), (vec!["acme"], vec!["web.internal"]));
    assert_eq!((all("x-debug").len(), all("x_tenant").len()), (0, 0));
    assert!(answer.text().contains("\"target\":\"/seen?a=1&v=2\""), "{}", answer.text());
    assert_eq!(answer.field("x-served"), Some("web for acme"));
    assert_eq!(answer.field("x-frame-options"), Some("DENY"));
    assert_eq!(get(port.address(), "/acme/status?code=404").status, 200);
}

#[test]
fn a_canary_gets_its_share_of_clients_and_each_stays_on_its_side() {
    let world = world();
    let port = Port::reserve();
    let routes = |weight: u32| {
        two(
            &world,
            &port,
            &format!(
                "[route.shop]\nat = \"/*\"\nto = {{ web = 1, next = {weight} }}\nstick = {{ key = \"header:X-User\" }}\n\
                 choose = [{{ to = \"next\", header = {{ X-Beta = \"1\" }} }}]\n"
            ),
        )
    };
    let terrace = world.up(&routes(1));
    let side = |user: u32| {
        let answer = Request::get("/").with("X-User", &user.to_string()).send(port.address());
        answer.instance().starts_with("next")
    };
    let before: Vec<bool> = (0..60).map(side).collect();
    assert_eq!((0..60).map(side).collect::<Vec<bool>>(), before);
    terrace.reload_with(&routes(3)).ok();
    let after: Vec<bool> = (0..60).map(side).collect();
    let went_back = before.iter().zip(&after).filter(|(before, after)| **before && !**after).count();
    let (few, more) =
        (before.iter().filter(|side| **side).count(), after.iter().filter(|side| **side).count());
    assert_eq!(went_back, 0, "who was on the side that grew stays there");
    assert!((15..=45).contains(&few) && more > few, "{few} of 60, then {more}");
    let beta = Request::get("/").with("X-Beta", "1").send(port.address());
    assert!(beta.instance().starts_with("next"));
    terrace.reload_with(&routes(0)).ok();
    assert!(!(0..60).any(side), "a side that is closed keeps nobody");
}

#[test]
fn a_copy_of_each_request_meets_the_next_version() {
    let world = world();
    let port = Port::reserve();
    let routes = "[route.shop]\nat = \"/*\"\nto = \"web\"\nmirror = { to = \"next\", compare = true }\n";
    let terrace = world.up(&two(&world, &port, routes));
    assert!(get(port.address(), "/").instance().starts_with("web"));
    // Both greet by their own name, so the answers differ.
    until_true("the copy is compared", || {
        terrace.counted("terrace_mirror_compared_total{route=\"shop\",service=\"next\",result=\"body\"}")
            == 1.0
    });
    assert_eq!(
        terrace.counted("terrace_mirrored_total{route=\"shop\",service=\"next\",outcome=\"answered\"}"),
        1.0
    );
    until_true("its trace tells of both answers", || {
        let traces = terrace.ask("/v1/traces?text=mirror");
        let Some(id) = traces["traces"][0]["trace_id"].as_str() else { return false };
        let spans = terrace.ask(&format!("/v1/traces/{id}"))["spans"].to_string();
        spans.contains("terrace.mirror.difference") && spans.contains("terrace.mirror.original.hash")
    });
}

#[test]
fn only_addresses_that_are_let_in_come_in() {
    let world = world();
    let port = Port::reserve();
    let routes = "[route.shop]\nat = \"/*\"\nto = \"web\"\n\
                  [route.inside]\nat = \"/inside\"\nto = \"web\"\naddresses = { allow = [\"192.0.2.0/24\"] }\n";
    let _terrace = world.up(&two(&world, &port, routes));
    assert_eq!(get(port.address(), "/").status, 200);
    assert_eq!(get(port.address(), "/inside").status, 403);
}

/// Runs alone: a browser wants a core for itself.
mod heavy {
    use super::*;

    #[test]
    fn a_browser_lets_pages_do_and_read_what_the_file_says() {
        let world = world();
        let (page, stranger, api) = (Port::reserve(), Port::reserve(), Port::reserve());
        let cors = format!(
            "cors = {{ origins = [\"http://{page}\"], methods = [\"GET\", \"PUT\"], headers = [\"X-Custom\"], \
             expose = [\"X-Instance\"], credentials = true }}\n"
        );
        let empty =
            "respond = { body = \"<!doctype html><title>A page</title><body>\", type = \"text/html\" }\n";
        let file = format!(
            "[listen.page]\naddress = \"{page}\"\n[listen.stranger]\naddress = \"{stranger}\"\n\
             [listen.api]\naddress = \"{api}\"\n[service.web]\nrun = {}\n\
             health = {{ path = \"/health\", every = \"200ms\" }}\n\
             [route.pages]\nat = \"/*\"\nlisten = [\"page\", \"stranger\"]\n{empty}\
             [route.api]\nat = \"/*\"\nlisten = \"api\"\nto = \"web\"\n\
             response = {{ set = {{ X-Hidden = \"1\" }} }}\n{cors}\
             [route.open]\nat = \"/open/*\"\nlisten = \"api\"\nto = \"web\"\nstrip = \"/open\"\n\
             cors = {{ origins = \"*\" }}\n\
             [route.denied]\nat = \"/denied\"\nlisten = \"api\"\nto = \"web\"\n\
             addresses = {{ deny = [\"127.0.0.0/8\"] }}\n{cors}",
            world.app()
        );
        let _terrace = world.up(&file);
        let origin = |port: &Port| format!("http://{port}");
        let given =
            json!({ "page": origin(&page), "stranger": origin(&stranger), "api": origin(&api) }).to_string();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/cors.mjs");
        let done = world.run("node", &[script.to_str().expect("its path is text"), &given]);
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    }
}
