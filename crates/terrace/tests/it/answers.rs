//! What Terrace says itself when a service cannot: whose fault it was, and why.

use std::net::TcpListener;

use terrace_testkit::{App, Port, Request, get, until_true};

use crate::{shop, world};

#[test]
fn with_every_instance_down_a_program_is_told_why_as_json_and_a_person_by_a_page() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let _terrace = world.up(&format!("{file}panic = false\n"));
    world.folder.write("unwell", "");
    until_true("both are out", || get(address, "/").status == 503);
    let answer = get(address, "/");
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], 503);
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("web")), "{problem}");
    assert_eq!(problem["fault"], "upstream");
    assert_eq!(problem["retry_safe"], true);
    assert!(answer.field("proxy-status").is_some_and(|text| text.starts_with("terrace; error=")));
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert_eq!(answer.field("x-request-id"), problem["request_id"].as_str());
    let page = Request::get("/").with("Accept", "text/html,*/*;q=0.8").send(address);
    assert_eq!((page.status, page.field("content-type")), (503, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("<h1>503") && page.text().contains("web"), "{}", page.text());
    world.folder.remove("unwell");
    until_true("they are back", || get(address, "/").status == 200);
}

#[test]
fn what_an_instance_sends_that_is_no_http_is_a_502_that_names_it() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let _terrace = world.up(&format!("{file}eject = false\n"));
    for kind in ["text", "field", "lengths", "nothing"] {
        let answer = get(address, &format!("/garbage?kind={kind}"));
        assert_eq!(answer.status, 502, "{kind}: {}", answer.text());
        let problem = answer.json();
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains("web-1")), "{kind}: {problem}");
        assert_eq!(problem["fault"], "upstream");
    }
    assert_eq!(get(address, "/").status, 200, "it goes on");
}

#[test]
fn an_answer_that_breaks_off_is_not_passed_on_as_a_whole_one() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let _terrace = world.up(&format!("{file}eject = false\n"));
    for kind in ["half", "chunk"] {
        let broken = Request::get(&format!("/garbage?kind={kind}")).try_send(address);
        let whole = broken.is_ok_and(|answer| answer.status == 200);
        assert!(!whole, "{kind} came through as a whole answer");
    }
}

#[test]
fn a_host_that_refuses_connections_is_a_502_and_one_that_is_not_there_in_time_a_504() {
    let world = world();
    let (port, nobody) = (Port::reserve(), Port::reserve());
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_address = silent.local_addr().expect("it is bound");
    let file = format!(
        "[listen.public]\naddress = \"{port}\"\n[defaults]\nretry = false\n\
         [service.gone]\nhosts = [\"{nobody}\"]\neject = false\n\
         [service.silent]\nhosts = [\"{silent_address}\"]\neject = false\ntimeout = {{ first-byte = \"100ms\" }}\n\
         [route.gone]\nat = \"/gone\"\nto = \"gone\"\n[route.silent]\nat = \"/silent\"\nto = \"silent\"\n"
    );
    let _terrace = world.up(&file);
    let answer = get(port.address(), "/gone");
    assert_eq!((answer.status, &answer.json()["error"]), (502, &"connection_refused".into()));
    let told = format!("{} {}", answer.text(), answer.field("proxy-status").expect("it says what happened"));
    assert!(
        told.contains("refused") && !told.contains(&nobody.to_string()),
        "inner addresses are not told: {told}"
    );
    let answer = get(port.address(), "/silent");
    assert_eq!((answer.status, &answer.json()["error"]), (504, &"http_response_timeout".into()));
    assert!(!answer.text().contains(&silent_address.to_string()));
}

#[test]
fn a_path_that_no_route_knows_is_a_404_and_a_method_a_405() {
    let world = world();
    let port = Port::reserve();
    let app = App::start("a", world.folder.path());
    let file = format!(
        "[listen.public]\naddress = \"{port}\"\n[service.web]\nhosts = [\"{}\"]\n\
         [route.orders]\nat = \"/orders/*\"\nto = \"web\"\nmethods = [\"GET\"]\nstrip = \"/orders\"\n\
         [route.user]\nat = \"/users/{{id}}/posts/{{rest*}}\"\nto = \"web\"\nrewrite = \"/v2/{{rest}}\"\n\
         [route.old]\nat = \"/old/{{rest*}}\"\nredirect = {{ to = \"/new/{{rest}}\", status = 308 }}\n\
         [route.fixed]\nat = \"/robots.txt\"\nrespond = {{ status = 200, body = \"none\", type = \"text/plain\" }}\n",
        app.address()
    );
    let _terrace = world.up(&file);
    let to = port.address();
    let seen = |path: &str| get(to, path).json()["target"].as_str().map(str::to_owned).unwrap_or_default();
    assert_eq!(get(to, "/nowhere").status, 404);
    assert_eq!(get(to, "/nowhere").json()["fault"], "client");
    assert_eq!(seen("/orders/seen?x=1"), "/seen?x=1");
    assert_eq!(seen("/orders/x/%2e%2e//./seen"), "/seen", "a path is made plain before it is matched");
    let refused = Request::new("DELETE", "/orders/seen").send(to);
    assert_eq!((refused.status, refused.field("allow")), (405, Some("GET")));
    assert_eq!(get(to, "/users/7/posts/seen/all").status, 200);
    let moved = get(to, "/old/a/b");
    assert_eq!((moved.status, moved.field("location")), (308, Some("/new/a/b")));
    assert_eq!(get(to, "/robots.txt").text(), "none");
}

#[test]
fn an_app_that_serves_its_working_folder_does_not_serve_terraces_own() {
    let world = world();
    let port = Port::reserve();
    world.folder.write("index.html", "hello\n");
    let run = r#"["sh", "-c", "exec python3 -m http.server --bind 127.0.0.1 $PORT"]"#;
    let text = format!(
        "[listen.public]\naddress = \"{port}\"\n[service.web]\nrun = {run}\n[route.site]\nat = \"/*\"\nto = \"web\"\n"
    );
    let _terrace = world.up(&text);
    assert_eq!(get(port.address(), "/index.html").text(), "hello\n");
    let kept = std::fs::read_dir(world.folder.join(".terrace")).expect("its own folder is there");
    assert!(kept.count() > 0, "there is something to be found");
    for path in
        ["/.terrace/", "/%2eterrace/", "/.terrace/terrace.lock", "/x%2F..%2F.terrace/", "//.terrace//"]
    {
        let answer = get(port.address(), path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
        assert!(!answer.text().contains("Directory listing"), "{path}");
    }
    assert_eq!(get(port.address(), "/.terrace/").status, 404);
}
