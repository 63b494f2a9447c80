//! Certificates on both sides: clients that show who they are to a listener, and Terrace that shows who it is to its
//! endpoints. The certificates, and the lists of those that do not hold any more, are made by openssl; curl and openssl's own
//! server are the other side.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use terrace_testkit::{Authority, Port, World, get, until, until_true};

use crate::{shop, world};

const SERVER: &str = "tls = \"files\"\ncertificate = \"server.pem\"\nkey = { file = \"server.key\" }\n";

/// A listener that asks for certificates, in front of the app. `asked`: what stands in `client-certificates`.
fn asking(world: &World, asked: &str) -> (Port, String) {
    let (port, _, file) = shop(world, 1);
    let keys = format!("{SERVER}client-certificates = {{ {asked} }}\n");
    (port, file.replace("[service.web]", &format!("{keys}[service.web]")))
}

/// curl as a client with that certificate, or with none; its status, or what went wrong.
fn curl(world: &World, port: &Port, client: Option<&str>) -> Result<String, String> {
    let resolve = format!("shop.example:{}:127.0.0.1", port.number());
    let url = format!("https://shop.example:{}/", port.number());
    let mut words = vec!["-sS", "--max-time", "30", "--cacert", "authority.pem", "--resolve", &resolve];
    let (certificate, key) =
        (format!("{}.pem", client.unwrap_or("")), format!("{}.key", client.unwrap_or("")));
    if client.is_some() {
        words.extend(["--cert", &certificate, "--key", &key]);
    }
    words.push(&url);
    let done = world.run("curl", &words);
    if done.code == Some(0) { Ok(done.stdout) } else { Err(done.stderr) }
}

const HELLO: Result<&str, &String> = Ok("hello from web-1\n");

/// An authority of servers in the test's folder, and one of clients below it, with a certificate of each.
fn authorities(world: &World) -> Authority {
    Authority::new(world.folder.path()).sign("server", &["shop.example"]);
    let folder = world.folder.join("clients");
    std::fs::create_dir_all(&folder).expect("a folder in ours");
    let clients = Authority::new(&folder);
    for name in ["ann", "ben"] {
        take(world, &clients, name);
    }
    world.folder.write("clients.pem", &world.folder.read("clients/authority.pem"));
    clients
}

/// Has a client's certificate signed, and puts it where curl looks.
fn take(world: &World, clients: &Authority, name: &str) {
    clients.sign(name, &[&format!("{name}.clients.example")]);
    for end in ["pem", "key"] {
        world.folder.write(&format!("{name}.{end}"), &world.folder.read(&format!("clients/{name}.{end}")));
    }
}

/// A list of revoked certificates of the clients' authority, with `name`'s in it.
fn revoke(world: &World, name: &str) {
    let config = "[ca]\ndefault_ca = own\n[own]\ndatabase = index\ncrlnumber = number\ndefault_md = sha256\n\
                  default_crl_days = 30\ncrl_extensions = ext\n[ext]\nauthorityKeyIdentifier = keyid:always\n";
    world.folder.write("clients/ca.cnf", config);
    world.folder.write("clients/index", "");
    world.folder.write("clients/number", "01\n");
    let certificate = format!("{name}.pem");
    let signer = ["ca", "-config", "ca.cnf", "-cert", "authority.pem", "-keyfile", "authority.key"];
    for more in [&["-revoke", certificate.as_str()][..], &["-gencrl", "-out", "revoked.pem"]] {
        let mut command = Command::new("openssl");
        let output = command.args(signer).args(more).current_dir(world.folder.join("clients")).output();
        let output = output.expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    world.folder.write("revoked.pem", &world.folder.read("clients/revoked.pem"));
}

#[test]
fn only_clients_of_the_authority_come_in_where_a_certificate_is_required() {
    let world = world();
    authorities(&world);
    let (port, file) = asking(&world, "ca = \"clients.pem\"");
    let _terrace = world.up(&file);
    assert_eq!(curl(&world, &port, Some("ann")).as_ref().map(String::as_str), HELLO);
    let none = curl(&world, &port, None).expect_err("it shows none");
    assert!(none.contains("alert") || none.contains("certificate"), "{none}");
    // The server's own certificate is good, but its authority vouches for no clients.
    assert!(curl(&world, &port, Some("server")).is_err());
    let plain = get(port.address(), "/");
    assert_eq!(plain.status, 308, "in the clear there is only the way to TLS");
}

#[test]
fn where_it_is_optional_who_shows_none_comes_in_and_who_shows_a_bad_one_does_not() {
    let world = world();
    authorities(&world);
    let (port, file) = asking(&world, "ca = \"clients.pem\", demand = \"optional\"");
    let _terrace = world.up(&file);
    for client in [None, Some("ann")] {
        assert_eq!(curl(&world, &port, client).as_ref().map(String::as_str), HELLO, "{client:?}");
    }
    assert!(curl(&world, &port, Some("server")).is_err());
}

#[test]
fn a_certificate_that_was_revoked_is_refused_and_the_list_is_followed() {
    let world = world();
    authorities(&world);
    revoke(&world, "ben");
    let (port, file) = asking(&world, "ca = \"clients.pem\", revoked = \"revoked.pem\"");
    let terrace = world.up(&format!("{file}[terrace]\nwatch = true\n"));
    assert_eq!(curl(&world, &port, Some("ann")).as_ref().map(String::as_str), HELLO);
    let refused = curl(&world, &port, Some("ben")).expect_err("it was revoked");
    assert!(refused.contains("revoked"), "{refused}");
    revoke(&world, "ann");
    terrace.event("reload.done");
    assert!(curl(&world, &port, Some("ann")).is_err(), "it is by now");
    assert_eq!(
        curl(&world, &port, Some("ben")).as_ref().map(String::as_str),
        HELLO,
        "it is not on the new list"
    );
}

#[test]
fn an_authority_that_is_replaced_vouches_for_nobody_any_more_and_no_session_slips_past() {
    let world = world();
    authorities(&world);
    let (port, file) = asking(&world, "ca = \"clients.pem\"");
    let terrace = world.up(&file);
    let session = |more: &[&str]| {
        let connect = port.to_string();
        let mut words = vec!["s_client", "-connect", &connect, "-servername", "shop.example", "-tls1_2"];
        words.extend(["-cert", "ann.pem", "-key", "ann.key", "-CAfile", "authority.pem"]);
        words.extend(more);
        world.run("openssl", &words)
    };
    assert!(session(&["-sess_out", "session.pem"]).ok().contains("New, TLSv1.2"));
    let resumed = session(&["-sess_in", "session.pem"]).ok();
    assert!(resumed.contains("Reused, TLSv1.2"), "{resumed}");
    let clients = Authority::new(&world.folder.join("clients"));
    take(&world, &clients, "eve");
    world.folder.write("clients.pem", &world.folder.read("clients/authority.pem"));
    terrace.command(&["reload"]).ok();
    assert_eq!(curl(&world, &port, Some("eve")).as_ref().map(String::as_str), HELLO);
    assert!(curl(&world, &port, Some("ann")).is_err());
    let again = session(&["-sess_in", "session.pem"]);
    assert!(!again.stdout.contains("Reused, "), "{again:?}");
    world.folder.write("clients.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let refused = terrace.command(&["reload"]).refused();
    assert!(refused.contains("client-certificates.ca"), "{refused}");
    assert_eq!(curl(&world, &port, Some("eve")).as_ref().map(String::as_str), HELLO, "what ran runs on");
}

/// A client that stays connected.
struct Standing(Child, BufReader<ChildStdout>);

impl Standing {
    fn start(world: &World, port: &Port, name: &str) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-connect", &port.to_string(), "-servername", "shop.example"]);
        command.args([
            "-cert",
            &format!("{name}.pem"),
            "-key",
            &format!("{name}.key"),
            "-CAfile",
            "authority.pem",
        ]);
        command.current_dir(world.folder.path()).stderr(Stdio::null());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("openssl is installed");
        let said = BufReader::new(child.stdout.take().expect("a pipe"));
        Self(child, said)
    }

    /// The status of an answer to one more request, read up to the app's word or to the end.
    fn ask(&mut self) -> String {
        let request = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";
        self.0.stdin.as_mut().expect("a pipe").write_all(request).expect("it listens");
        let (mut status, mut line) = (String::new(), String::new());
        while self.1.read_line(&mut line).expect("text") > 0 && !line.starts_with("hello") {
            if line.starts_with("HTTP/1.1 ") {
                status = line[9..12].to_owned();
            }
            line.clear();
        }
        status
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _status = self.0.wait();
    }
}

#[test]
fn who_is_revoked_is_served_no_more_on_a_connection_that_stands() {
    let world = world();
    authorities(&world);
    let (port, file) = asking(&world, "ca = \"clients.pem\"");
    let terrace = world.up(&file);
    let [mut ann, mut ben] = ["ann", "ben"].map(|name| Standing::start(&world, &port, name));
    assert_eq!((ann.ask(), ben.ask()), ("200".to_owned(), "200".to_owned()));
    revoke(&world, "ann");
    terrace.reload_with(&file.replace("ca = ", "revoked = \"revoked.pem\", ca = ")).ok();
    assert_eq!((ann.ask(), ben.ask()), ("421".to_owned(), "200".to_owned()));
    assert_eq!(ben.ask(), "200", "whose certificate is good goes on");
}

#[test]
fn a_route_that_wants_a_certificate_nobody_is_asked_for_is_refused() {
    let world = world();
    authorities(&world);
    let (_port, file) = asking(&world, "ca = \"clients.pem\"");
    let route = "[route.web]\nat = \"/*\"\nto = \"web\"\nauth = { client-certificate = true }\n";
    world.write(&format!("{file}{route}"));
    world.terrace(&["check"]).ok();
    world.write(&format!("{}{route}", file.replace("client-certificates", "# client-certificates")));
    let told = world.terrace(&["check"]).refused();
    assert!(told.contains("no listener of this route asks clients for certificates"), "{told}");
}

/// An endpoint that lets in who shows a certificate of the clients' authority, and says what was shown.
struct Endpoint(Child);

impl Endpoint {
    fn start(world: &World, port: &Port) -> Self {
        let number = port.number().to_string();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", &number, "-www", "-cert", "server.pem", "-key", "server.key"]);
        command.args(["-Verify", "1", "-verify_return_error", "-CAfile", "clients.pem"]);
        command
            .current_dir(world.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("openssl is installed");
        until_true("openssl listens", || std::net::TcpStream::connect(port.address()).is_ok());
        Self(child)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _status = self.0.wait();
    }
}

#[test]
fn an_endpoint_is_shown_who_terrace_is_and_a_new_certificate_is_followed() {
    let world = world();
    let clients = authorities(&world);
    let (port, endpoint) = (Port::reserve(), Port::reserve());
    let _endpoint = Endpoint::start(&world, &endpoint);
    let file = |more: &str| {
        format!(
            "[listen.public]\naddress = \"{port}\"\n[service.web]\nhosts = [\"{endpoint}\"]\n\
             tls = {{ ca = \"authority.pem\", name = \"shop.example\"{more} }}\n[terrace]\nwatch = true\n"
        )
    };
    let shown = ", certificate = \"ann.pem\", key = { file = \"ann.key\" }";
    let terrace = world.up(&file(shown));
    let told = || get(port.address(), "/").text();
    assert!(told().contains("ann.clients.example"), "{}", told());
    take(&world, &clients, "ann");
    let serial = world.run("openssl", &["x509", "-in", "ann.pem", "-noout", "-serial"]).ok();
    let serial = serial.trim().trim_start_matches("serial=").to_lowercase();
    let has_serial = |text: String| text.to_lowercase().replace(':', "").contains(&serial);
    until("the new one is shown", || has_serial(told()).then_some(()));
    terrace.reload_with(&file("")).ok();
    until_true("without one there is no connection", || get(port.address(), "/").status == 503);
    world.folder.write("ann.key", "half a key");
    let refused = terrace.reload_with(&file(shown)).refused();
    assert!(refused.contains("PRIVATE KEY"), "{refused}");
}
