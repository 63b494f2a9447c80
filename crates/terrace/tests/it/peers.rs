//! Other people's programs on both sides: nginx as the app, curl, h2load, Python's websockets and grpcio as clients.

use std::path::PathBuf;

use terrace_testkit::{Authority, Done, Port, World, get, until_true};

use crate::{shop, world};

const WEBSOCKETS: &str = include_str!("peers/websockets.py");
const GRPC: &str = include_str!("peers/grpc.py");
/// nginx's listener with TLS, in the place of the plain one.
const SECURE: &str =
    "listen 127.0.0.1:PORT ssl http2; ssl_certificate inner.pem; ssl_certificate_key inner.key;";
const NGINX: &str = include_str!("peers/nginx.conf");

/// The interpreter with the packages that `scripts/prepare.sh test` installs.
pub(crate) fn python() -> String {
    let prepared = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/venv/bin/python");
    let path = std::env::var_os("TERRACE_TEST_PYTHON").map_or(prepared, PathBuf::from);
    assert!(path.exists(), "{} is missing: run scripts/prepare.sh test", path.display());
    path.to_str().expect("its path is text").to_owned()
}

/// Several nginx, each on its own port.
fn nginx(world: &World, more: &str) -> (Port, String) {
    let port = Port::reserve();
    world.folder.write("nginx.conf", NGINX);
    world.folder.write("pages/page.html", "<h1>a page</h1>\n");
    world.folder.write("pages/large", &"0123456789abcdef".repeat(1 << 16));
    let start = "sed s/PORT/$PORT/g nginx.conf > nginx-$PORT.conf; \
                 exec env PATH=$PATH:/usr/sbin nginx -e stderr -p $PWD -c nginx-$PORT.conf";
    let file = format!(
        "[listen.public]\naddress = \"{port}\"\n{more}[service.pages]\nrun = [\"sh\", \"-c\", \"{start}\"]\n\
         instances = 2\nhealth = {{ path = \"/\", every = \"500ms\" }}\nstop = {{ signal = \"QUIT\" }}\n"
    );
    (port, file)
}

#[test]
fn nginx_is_served_to_curl() {
    let world = world();
    let (port, file) = nginx(&world, "");
    let _terrace = world.up(&file);
    let url = |path: &str| format!("http://{port}{path}");
    let curl = |words: &[&str]| world.run("curl", &[&["-sS", "--max-time", "30"], words].concat()).ok();
    assert_eq!(curl(&[&url("/page.html")]), "<h1>a page</h1>\n");
    assert_eq!(curl(&["-r", "4-9", &url("/page.html")]), "a page", "a range");
    let tag = curl(&["-o", "/dev/null", "-w", "%header{etag}", &url("/page.html")]);
    let again = format!("If-None-Match: {tag}");
    assert_eq!(curl(&["-H", &again, "-w", "%{http_code}", &url("/page.html")]), "304");
    assert_eq!(
        curl(&["-I", "-w", "%{http_code} %{size_download}", "-o", "/dev/null", &url("/large")]),
        "200 0"
    );
    assert_eq!(
        curl(&["-o", "/dev/null", "-w", "%{http_code} %{size_download}", &url("/large")]),
        "200 1048576"
    );
    assert_eq!(
        curl(&["--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{size_download}", &url("/large")]),
        "1048576"
    );
    assert_eq!(curl(&["--compressed", &url("/page.html")]), "<h1>a page</h1>\n");
}

#[test]
fn nginx_is_reached_by_tls_and_http_2_and_believed_only_with_the_right_certificate() {
    let world = world();
    let authority = Authority::new(world.folder.path());
    authority.sign("inner", &["inner.example"]);
    let secure = NGINX.replace("listen 127.0.0.1:PORT;", SECURE);
    world.folder.write("nginx.conf", &secure);
    world.folder.write("pages/page.html", "<h1>a page</h1>\n");
    let port = Port::reserve();
    for (name, protocol, status) in
        [("inner.example", "h2", 200), ("inner.example", "http1", 200), ("other.example", "h2", 502)]
    {
        let (_, file) = nginx(&world, "");
        world.folder.write("nginx.conf", &secure);
        let (_, service) = file.split_once("[service.pages]").expect("it is there");
        let service =
            service.replace("health = { path = \"/\", every = \"500ms\" }", "ready = { tcp = true }");
        let mut terrace = world.up(&format!(
            "[listen.public]\naddress = \"{port}\"\n[service.pages]{service}protocol = \"{protocol}\"\n\
             tls = {{ ca = \"authority.pem\", name = \"{name}\" }}\n"
        ));
        let answer = get(port.address(), "/page.html");
        assert_eq!(answer.status, status, "{name} {protocol}: {}", answer.text());
        if status == 502 {
            assert_eq!(answer.json()["error"], "tls_protocol_error");
        }
        assert!(terrace.stop().success());
    }
}

#[test]
fn h2load_sees_no_failure_through_tls_http_2_and_http_1() {
    let world = world();
    let (port, file) = nginx(&world, "tls = \"dev\"\n");
    let plain = Port::reserve();
    let file = format!("{file}[listen.plain]\naddress = \"{plain}\"\n");
    let _terrace = world.up(&file);
    let requests = "3000";
    for (url, more) in [
        (format!("https://localhost:{}/page.html", port.number()), &["-m", "8"][..]),
        (format!("https://localhost:{}/page.html", port.number()), &["--h1"]),
        (format!("http://{plain}/page.html"), &["-m", "16"]),
        (format!("http://{plain}/page.html"), &["--h1"]),
    ] {
        let told = world.run("h2load", &[&["-n", requests, "-c", "16"], more, &[&url]].concat()).ok();
        let all = format!("{requests} done, {requests} succeeded, 0 failed, 0 errored, 0 timeout");
        assert!(told.contains(&all) && told.contains(&format!("{requests} 2xx")), "{url} {more:?}:\n{told}");
    }
    let url = format!("http://{plain}/large");
    let told = world.run("h2load", &["-n", "60", "-c", "6", "-m", "4", &url]).ok();
    assert!(told.contains("60 succeeded, 0 failed"), "{told}");
}

#[test]
fn a_rolling_restart_of_nginx_under_h2load_loses_nothing() {
    let world = world();
    let (port, file) = nginx(&world, "");
    let terrace = world.up(&file);
    let url = format!("http://{port}/page.html");
    let (told, restarts) = std::thread::scope(|scope| {
        let load = scope.spawn(|| world.run("h2load", &["-n", "12000", "-c", "8", "-m", "4", &url]).ok());
        let mut restarts = 0;
        while !load.is_finished() {
            terrace.command(&["restart", "pages"]).ok();
            restarts += 1;
        }
        (load.join().expect("h2load ends"), restarts)
    });
    assert!(restarts >= 1 && told.contains("12000 succeeded, 0 failed, 0 errored"), "{restarts}: {told}");
}

#[test]
fn pythons_websockets_talk_through_a_reload_and_a_rolling_restart() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let terrace = world.up(&file);
    let done = std::thread::scope(|scope| {
        let client = scope.spawn(|| run_python(&world, WEBSOCKETS, &[&format!("ws://{address}/ws")]));
        // It leaves a note when its sockets are open, and ends when it finds ours.
        until_true("its sockets are open", || client.is_finished() || world.folder.join("open").exists());
        terrace.reload_with(&format!("{file}slow-start = \"1s\"\n")).ok();
        terrace.command(&["restart", "web"]).ok();
        world.folder.write("changed", "");
        client.join().expect("it ends")
    });
    assert!(done.clone().ok().contains("20 sockets, all in order"), "{done:?}");
}

#[test]
fn grpc_passes_with_its_trailers_unary_and_streaming_over_http_2_on_both_sides() {
    let world = world();
    let port = Port::reserve();
    world.folder.write("grpc_peer.py", GRPC);
    let file = format!(
        "[listen.public]\naddress = \"{port}\"\n[service.greeter]\n\
         run = [\"{}\", \"grpc_peer.py\", \"serve\"]\ninstances = 2\nprotocol = \"h2\"\ntimeout = {{ first-byte = \"2s\" }}\n",
        python()
    );
    let _terrace = world.up(&file);
    let told = run_python(&world, GRPC, &["call", &port.to_string()]).ok();
    assert!(told.contains("all calls in order"), "{told}");
    // What Terrace says itself is something that a gRPC client understands.
    let told = run_python(&world, GRPC, &["late", &port.to_string()]).ok();
    assert!(told.starts_with("DEADLINE_EXCEEDED") && told.contains("first_byte"), "{told}");
}

#[track_caller]
fn run_python(world: &World, script: &str, arguments: &[&str]) -> Done {
    world.folder.write("script.py", script);
    world.run(&python(), &[&["script.py"], arguments].concat())
}
