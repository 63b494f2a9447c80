//! TLS and HTTP/2 as curl speaks them, the PROXY protocol, and who is believed about where a request comes from.

use std::net::SocketAddr;
use std::path::Path;

use terrace_testkit::{App, Authority, Connection, Port, Request, Response, World, get, until_true};

use crate::{shop, world};

/// curl asking `https://HOST:PORT/PATH`, with the host led to loopback.
fn curl(world: &World, authority: &Path, host: &str, port: &Port, more: &[&str]) -> Result<String, String> {
    let resolve = format!("{host}:{}:127.0.0.1", port.number());
    let url = format!("https://{host}:{}/", port.number());
    let authority = authority.to_str().expect("our folder's path is text");
    let mut words = vec!["-sS", "--max-time", "30", "--cacert", authority, "--resolve", &resolve];
    words.extend(more);
    words.push(&url);
    let done = world.run("curl", &words);
    if done.code == Some(0) { Ok(done.stdout) } else { Err(done.stderr) }
}

/// A secure listener in front of the app.
fn secure(world: &World, keys: &str) -> (Port, String) {
    let (port, _, file) = shop(world, 1);
    let file = file.replace("[service.web]", &format!("{keys}[service.web]"));
    (port, file)
}

const FILES: &str = "tls = \"files\"\ncertificate = \"a.pem\"\nkey = { file = \"a.key\" }\n";

#[test]
fn each_host_gets_its_own_certificate() {
    let world = world();
    let authority = Authority::new(world.folder.path());
    authority.sign("a", &["a.example"]);
    authority.sign("b", &["b.example", "*.c.example"]);
    let more = "certificates = [ { certificate = \"b.pem\", key = { file = \"b.key\" } } ]\n";
    let (port, file) = secure(&world, &format!("{FILES}{more}"));
    let _terrace = world.up(&file);
    for host in ["a.example", "b.example", "x.c.example"] {
        let text = curl(&world, &authority.certificate, host, &port, &[]);
        assert_eq!(text.as_deref(), Ok("hello from web-1\n"), "{host}");
    }
    assert!(curl(&world, &authority.certificate, "d.example", &port, &[]).is_err(), "nobody has that");
}

#[test]
fn a_certificate_that_is_replaced_is_served_without_a_restart() {
    let world = world();
    let authority = Authority::new(world.folder.path());
    authority.sign("a", &["a.example"]);
    let (port, file) = secure(&world, FILES);
    let terrace = world.up(&format!("{file}[terrace]\nwatch = true\n"));
    assert!(curl(&world, &authority.certificate, "a.example", &port, &[]).is_ok());
    assert!(curl(&world, &authority.certificate, "new.example", &port, &[]).is_err());
    authority.sign("a", &["new.example"]);
    until_true("the new one is served", || {
        curl(&world, &authority.certificate, "new.example", &port, &[]).is_ok()
    });
    let pids = terrace.pids("web");
    world.folder.write("a.pem", "half a certificate");
    terrace.event("reload.refused");
    assert!(
        curl(&world, &authority.certificate, "new.example", &port, &[]).is_ok(),
        "the last good one stays"
    );
    assert_eq!(terrace.pids("web"), pids);
}

#[test]
fn dev_makes_a_certificate_and_plain_http_is_led_to_https() {
    let world = world();
    let from = Port::reserve();
    let (port, file) = secure(&world, &format!("tls = \"dev\"\nredirect-from = \"{from}\"\n"));
    let route = "[route.shop]\nat = [\"shop.localhost/*\", \"/*\"]\nto = \"web\"\n";
    let _terrace = world.up(&format!("{file}{route}"));
    let made = world.folder.join(".terrace/dev-certificate.pem");
    assert_eq!(curl(&world, &made, "localhost", &port, &[]).as_deref(), Ok("hello from web-1\n"));
    assert_eq!(curl(&world, &made, "shop.localhost", &port, &[]).as_deref(), Ok("hello from web-1\n"));
    for plain in [&port, &from] {
        let answer = Request::get("/cart?id=7").with("Host", "localhost:80").send(plain.address());
        let location = format!("https://localhost:{}/cart?id=7", port.number());
        assert_eq!((answer.status, answer.field("location")), (308, Some(location.as_str())));
    }
}

#[test]
fn the_dev_certificate_learns_the_name_of_a_new_route() {
    let world = world();
    let (port, file) = secure(&world, "tls = \"dev\"\n");
    let terrace = world.up(&file);
    let made = world.folder.join(".terrace/dev-certificate.pem");
    assert!(curl(&world, &made, "shop.example", &port, &[]).is_err());
    let route = |host: &str| format!("{file}[route.shop]\nat = \"{host}/*\"\nto = \"web\"\n");
    terrace.reload_with(&route("shop.example")).ok();
    assert_eq!(curl(&world, &made, "shop.example", &port, &[]).as_deref(), Ok("hello from web-1\n"));
    let first = world.folder.read(".terrace/dev-certificate.pem");
    terrace.reload_with(&route("localhost")).ok();
    terrace.reload_with(&route("shop.example")).ok();
    assert_eq!(world.folder.read(".terrace/dev-certificate.pem"), first, "browsers need not be told again");
}

#[test]
fn the_app_is_told_that_the_client_came_by_tls() {
    let world = world();
    let (port, file) = secure(&world, "tls = \"dev\"\n");
    let _terrace = world.up(&file);
    let made = world.folder.join(".terrace/dev-certificate.pem");
    let seen = world.run(
        "curl",
        &[
            "-sS",
            "--cacert",
            made.to_str().expect("text"),
            &format!("https://localhost:{}/seen", port.number()),
        ],
    );
    assert!(seen.stdout.contains(r#"["x-forwarded-proto","https"]"#), "{seen:?}");
    assert!(
        seen.stdout.contains(r#"["via","2 terrace"]"#) || seen.stdout.contains(r#"["via","2.0 terrace"]"#),
        "{seen:?}"
    );
}

#[test]
fn http_2_is_agreed_by_alpn_or_known_before() {
    let world = world();
    let (port, file) = secure(&world, "tls = \"dev\"\n");
    let (plain_port, plain_address, _) = shop(&world, 1);
    let file = format!("{file}[listen.plain]\naddress = \"{plain_port}\"\n");
    let _terrace = world.up(&file);
    let made = world.folder.join(".terrace/dev-certificate.pem");
    let version = ["-o", "/dev/null", "-w", "%{http_version} %{http_code}"];
    assert_eq!(curl(&world, &made, "localhost", &port, &version).as_deref(), Ok("2 200"));
    let old = ["--http1.1", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"];
    assert_eq!(curl(&world, &made, "localhost", &port, &old).as_deref(), Ok("1.1 200"));
    let url = format!("http://{plain_address}/");
    let mut words = vec!["-sS", "--http2-prior-knowledge"];
    words.extend(version);
    words.push(&url);
    assert_eq!(world.run("curl", &words).ok(), "2 200");
    assert_eq!(get(plain_address, "/").status, 200);
}

#[test]
fn uploads_and_trailers_pass_between_http_2_and_http_1() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let _terrace = world.up(&file);
    world.folder.write("body", &"a line of the body\n".repeat(20_000));
    let url = format!("http://{address}/upload");
    let done = world.run("curl", &["-sS", "--http2-prior-knowledge", "--data-binary", "@body", &url]);
    let told: serde_json::Value = serde_json::from_str(&done.ok()).expect("the app answers with JSON");
    assert_eq!(told["bytes"], 19 * 20_000);
    assert_eq!(told["fingerprint"], terrace_testkit::fingerprint(world.folder.read("body").as_bytes()));
    let url = format!("http://{address}/mirror");
    let arguments =
        ["-sS", "--http2-prior-knowledge", "-H", "TE: trailers", "-d", "ab", "-D", "head", "-o", "out", &url];
    world.run("curl", &arguments).ok();
    assert_eq!(world.folder.read("out"), "ab");
    assert!(world.folder.read("head").contains("x-length: 2"), "{}", world.folder.read("head"));
}

fn proxied(to: SocketAddr, header: &[u8]) -> std::io::Result<Response> {
    let mut connection = Connection::open(to)?;
    connection.write(&[header, &Request::get("/seen").to_bytes()].concat())?;
    connection.read("GET")
}

const VERSION_1: &[u8] = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n";
const VERSION_2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x09\xc0\x00\x02\x01\x12\x67\x01\xbb";

#[test]
fn a_proxy_in_front_says_who_the_client_is_by_its_protocol() {
    let world = world();
    let trusted = "trusted-proxies = [\"127.0.0.0/8\"]\n";
    let (port, file) = secure(&world, &format!("proxy-protocol = \"any\"\n{trusted}"));
    let terrace = world.up(&file);
    for header in [VERSION_1, VERSION_2] {
        let seen = proxied(port.address(), header).expect("it is served");
        assert!(seen.text().contains(r#"["x-forwarded-for","203.0.113.9"]"#), "{}", seen.text());
    }
    assert!(proxied(port.address(), b"").is_err(), "without the header nobody is served");
    assert!(proxied(port.address(), b"PROXY NONSENSE\r\n").is_err());
    terrace.reload_with(&file.replace("\"any\"", "\"v2\"")).ok();
    assert!(proxied(port.address(), VERSION_1).is_err(), "only version 2 now");
    assert!(proxied(port.address(), VERSION_2).is_ok());
    terrace.reload_with(&file.replace(trusted, "trusted-proxies = [\"10.0.0.0/8\"]\n")).ok();
    assert!(proxied(port.address(), VERSION_2).is_err(), "and nobody else is believed");
}

#[test]
fn a_service_is_told_who_the_client_is_by_the_proxy_protocol() {
    let world = world();
    let port = Port::reserve();
    let app = App::start("a", world.folder.path());
    for (version, starts) in [("v1", "PROXY TCP4 127.0.0.1 127.0.0.1 "), ("v2", "v2 127.0.0.1 ")] {
        let file = format!(
            "[listen.public]\naddress = \"{port}\"\n\
             [service.web]\nhosts = [\"{}\"]\nproxy-protocol = \"{version}\"\nhealth = {{ path = \"/health\", every = \"100ms\" }}\n",
            app.address()
        );
        let mut terrace = world.up(&file);
        let mut connection = Connection::open(port.address()).expect("it is served");
        let own = connection.local_address().expect("it is connected").port().to_string();
        let seen = connection.exchange(&Request::get("/seen")).expect("it is served").json();
        let told = seen["proxy"].as_str().unwrap_or_default();
        assert!(
            told.starts_with(starts) && told.split(' ').any(|word| word == own),
            "{version} {own}: {told}"
        );
        drop(connection);
        assert!(terrace.stop().success());
    }
}

#[test]
fn a_client_cannot_say_that_it_is_somebody_else() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&file);
    let spoofed = Request::get("/seen")
        .with("X-Forwarded-For", "10.9.9.9")
        .with("X-Forwarded-Proto", "https")
        .with("X-Forwarded-Host", "bank.example")
        .with("Forwarded", "for=10.9.9.9")
        .with("X-Real-IP", "10.9.9.9")
        .with("X-Request-Id", "mine")
        .with("Connection", "X-Forwarded-For, X-Secret-Hop")
        .with("X-Secret-Hop", "between us");
    let seen = spoofed.send(address);
    let fields = seen.json()["fields"].to_string();
    for lie in ["10.9.9.9", "bank.example", "\"mine\"", "between us"] {
        assert!(!fields.contains(lie), "{lie} in {fields}");
    }
    assert!(fields.contains(r#"["x-forwarded-for","127.0.0.1"]"#), "{fields}");
    assert!(fields.contains(r#"["x-forwarded-proto","http"]"#), "{fields}");
    let trusting = file.replace("[service.web]", "trusted-proxies = [\"127.0.0.1\"]\n[service.web]");
    terrace.reload_with(&trusting).ok();
    let fields = spoofed.send(address).json()["fields"].to_string();
    assert!(fields.contains(r#"["x-request-id","mine"]"#) && fields.contains("bank.example"), "{fields}");
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let _terrace = world.up(&file);
    for wrong in [
        "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd",
        "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
    ] {
        let mut connection = Connection::open(address).expect("it is served");
        connection.write(wrong.as_bytes()).expect("it is taken");
        let answer = connection.read("GET").expect("it is answered");
        assert!(
            (400..=501).contains(&answer.status) && answer.status != 404,
            "{} to {wrong:?}",
            answer.status
        );
        assert!(connection.is_closed(), "nothing after it is read: {wrong:?}");
    }
}
