//! What operators break on purpose: it hurts as it shall, it is told wherever somebody would look, and it ends.

use serde_json::Value;
use terrace_testkit::{Port, Request, World, get, until_true};

use crate::world;

fn file(world: &World, port: &Port, more: &str) -> String {
    format!(
        "[listen.public]\naddress = \"{port}\"\n[service.web]\nrun = {}\n\
         health = {{ path = \"/health\", every = \"200ms\" }}\n[route.shop]\nat = \"/*\"\nto = \"web\"\n{more}",
        world.app()
    )
}

#[test]
fn an_operator_breaks_a_route_for_a_while_and_mends_it() {
    let world = world();
    let port = Port::reserve();
    let terrace = world.up(&file(&world, &port, ""));
    let begun = terrace.command(&["fault", "shop", "--abort", "503", "--for", "1h"]).ok();
    assert!(
        begun.starts_with("100 % of the requests to shop are answered 503, for another 60 min"),
        "{begun}"
    );
    let answer = get(port.address(), "/");
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("on purpose"), "{}", answer.text());
    terrace.reload_with(&file(&world, &port, "request = { set = { X-A = \"1\" } }\n")).ok();
    assert_eq!(get(port.address(), "/").status, 503, "a reload does not end it");
    assert!(terrace.command(&["status"]).ok().contains("on purpose: 100 % of the requests to shop"));
    assert_eq!(terrace.ask("/v1/map")["faults"][0]["route"], "shop");
    let id = terrace.ask("/v1/faults")["faults"][0]["id"].as_u64().expect("it has a number").to_string();
    assert!(terrace.command(&["fault", "--list"]).ok().contains(&format!("{id} 100 % of the requests")));
    terrace.command(&["fault", "--end", "shop"]).ok();
    assert_eq!(get(port.address(), "/").status, 200);
    assert_eq!(terrace.command(&["fault", "--list"]).ok(), "nothing is broken on purpose\n");
    let audit = world.folder.read(".terrace/audit.log");
    let actions: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told: Vec<(&str, &str)> = actions
        .iter()
        .map(|entry| (entry["action"].as_str().unwrap_or(""), entry["target"].as_str().unwrap_or("")))
        .filter(|(action, _)| action.contains("fault"))
        .collect();
    assert_eq!(told, [("fault", "shop: abort 503, share 1, for 3600s"), ("end-fault", "shop")]);
    assert_eq!(terrace.counted("terrace_faults_injected_total{route=\"shop\",kind=\"abort\"}"), 2.0);
}

#[test]
fn a_fault_ends_by_itself_and_hurts_whom_it_names() {
    let world = world();
    let port = Port::reserve();
    let terrace = world.up(&file(&world, &port, ""));
    let fault = ["fault", "shop", "--abort", "500", "--header", "X-Test: 1", "--for", "1s"];
    terrace.command(&fault).ok();
    let broken = || {
        let request = Request::get("/").with("X-Test", "1");
        request.send(port.address()).status == 500
    };
    assert_eq!(get(port.address(), "/").status, 200);
    until_true("it is over", || !broken());
    terrace.event("fault.ended");
}

#[test]
fn what_is_no_fault_is_refused() {
    let world = world();
    let port = Port::reserve();
    let terrace = world.up(&file(&world, &port, ""));
    let refused = |arguments: &[&str]| terrace.command(arguments).refused();
    assert!(refused(&["fault", "shop", "--abort", "503"]).contains("--for <TIME>"), "no end");
    assert!(refused(&["fault", "shap", "--abort", "503", "--for", "5m"]).contains("there is no route shap"));
    assert!(refused(&["fault", "shop", "--for", "5m"]).contains("give `delay` or `abort`"));
    assert!(refused(&["fault", "shop", "--abort", "503", "--for", "2d"]).contains("at most 24 h"));
    assert!(refused(&["fault", "--end", "77"]).contains("it may be over"));
    assert_eq!(get(port.address(), "/").status, 200);
}
