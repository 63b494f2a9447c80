//! Certificates from an authority, for real: Debian's pebble issues them after it has asked whether the hosts are ours, over
//! HTTP or in a handshake, at the ports of the Terrace under test. curl and openssl look at what is served.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use terrace_testkit::{App, Pebble, Port, Request, Rules, Terrace, World, get, until, until_true};

use crate::world;

/// A listener whose certificates are issued, and one address for plain HTTP.
struct Setup<'w> {
    world: &'w World,
    app: App,
    tls: Port,
    plain: Port,
}

impl<'w> Setup<'w> {
    fn new(world: &'w World) -> Self {
        let app = App::start("web", world.folder.path());
        Self { world, app, tls: Port::reserve(), plain: Port::reserve() }
    }

    fn pebble(&self) -> Pebble<'w> {
        self.pebble_with(Rules::default())
    }

    fn pebble_with(&self, rules: Rules) -> Pebble<'w> {
        Pebble::start(self.world, &self.plain, &self.tls, rules)
    }

    /// The file, with further keys of `[acme]` and of the listener, and routes for these hosts.
    fn file(&self, pebble: &Pebble<'_>, acme: &str, listener: &str, hosts: &[&str]) -> String {
        let at: Vec<String> = hosts.iter().map(|host| format!("\"{host}/*\"")).collect();
        format!(
            "[acme]\n{}{acme}\n[listen.public]\naddress = \"{}\"\ntls = \"acme\"\n{listener}\n\
             [service.web]\nhosts = [\"{}\"]\n[route.web]\nat = [{}]\nto = \"web\"\n",
            pebble.keys(),
            self.tls,
            self.app.address(),
            at.join(", "),
        )
    }

    /// The same with an address at which plain HTTP is redirected.
    fn redirecting(&self, pebble: &Pebble<'_>, acme: &str, hosts: &[&str]) -> String {
        self.file(pebble, acme, &format!("redirect-from = \"{}\"", self.plain), hosts)
    }

    /// What curl gets, which believes that root only.
    fn curl(&self, root: &Path, host: &str) -> Result<String, String> {
        let (port, root) = (self.tls.number(), root.to_str().expect("our folder's path is text"));
        let resolve = format!("{host}:{port}:127.0.0.1");
        let url = format!("https://{host}:{port}/");
        let done = self
            .world
            .run("curl", &["-sS", "--max-time", "30", "--cacert", root, "--resolve", &resolve, &url]);
        if done.code == Some(0) { Ok(done.stdout) } else { Err(done.stderr) }
    }

    fn wait_until_served(&self, root: &Path, host: &str) {
        until(&format!("{host} is served"), || self.curl(root, host).ok());
    }

    /// The names in the certificate that is shown to who asks for this host.
    fn names(&self, host: &str) -> Vec<String> {
        let shown = self.openssl(host, &[], "Q\n");
        self.world.folder.write("shown.pem", &shown);
        let text =
            self.world.run("openssl", &["x509", "-in", "shown.pem", "-noout", "-ext", "subjectAltName"]).ok();
        let names = text
            .lines()
            .flat_map(|line| line.split(", "))
            .filter_map(|part| part.trim().strip_prefix("DNS:"));
        names.map(str::to_owned).collect()
    }

    /// What `openssl s_client` says to that input.
    fn openssl(&self, host: &str, more: &[&str], input: &str) -> String {
        let mut session = Session::open(self, host, more);
        session.write(input);
        session.end()
    }
}

/// One TLS session by `openssl s_client`.
struct Session {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Session {
    fn open(setup: &Setup<'_>, host: &str, more: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &setup.tls.to_string(), "-servername", host]).args(more);
        command.current_dir(setup.world.folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().expect("openssl is installed");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, lines }
    }

    fn write(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().expect("it is piped");
        // It may have ended already, when the handshake failed.
        let _ended = input.write_all(text.as_bytes()).and_then(|()| input.flush());
    }

    /// Reads until a line ends so.
    fn read_until(&mut self, end: &str) -> String {
        let mut read = String::new();
        while !read.trim_end().ends_with(end) {
            assert!(self.lines.read_line(&mut read).expect("text") > 0, "it ended after {read}");
        }
        read
    }

    fn end(mut self) -> String {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.lines, &mut rest).expect("text");
        let _status = self.child.wait();
        rest
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _status = self.child.wait();
    }
}

fn orders(terrace: &Terrace<'_>, outcome: &str) -> f64 {
    terrace.counted(&format!("terrace_acme_orders_total{{outcome=\"{outcome}\"}}"))
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Whether what an order needs on the way is gone.
fn is_tidy(folder: &Path) -> bool {
    let is_left =
        |path: &PathBuf| ["challenges", "locks"].iter().any(|part| path.to_string_lossy().contains(part));
    !files(folder).iter().any(is_left)
}

#[test]
fn a_listener_has_its_certificate_issued_over_http_and_redirects_everybody_else() {
    let world = world();
    let setup = Setup::new(&world);
    let pebble = setup.pebble();
    let hosts = ["shop.example", "www.example"];
    let terrace = world.up(&setup.redirecting(
        &pebble,
        "challenge = \"http-01\"\nemail = \"ops@shop.example\"",
        &hosts,
    ));
    let root = pebble.root();
    for host in hosts {
        setup.wait_until_served(&root, host);
    }
    assert_eq!(setup.names("www.example"), hosts, "they share one");
    assert_eq!((pebble.orders(), pebble.issued(), pebble.accounts()), (1, 1, 1));
    assert!(orders(&terrace, "issued") == 1.0);
    for host in hosts {
        let left = terrace
            .counted(&format!("terrace_certificate_expires_seconds{{listener=\"public\",host=\"{host}\"}}"));
        assert!(left > 4.0 * 365.0 * 86_400.0, "{host}: {left}");
    }
    let challenge = Request::get("/.well-known/acme-challenge/unknown").with("Host", "shop.example");
    let answer = challenge.send(setup.plain.address());
    assert_eq!(answer.status, 308, "a token that nobody knows is a request like any other");
    let event = terrace.event("acme.certificate_issued");
    assert_eq!(
        (&event["hosts"], &event["challenge"]),
        (&"shop.example, www.example".into(), &"http-01".into())
    );
}

#[test]
fn what_is_kept_is_its_owners_alone_and_what_an_order_needed_is_gone() {
    let world = world();
    let setup = Setup::new(&world);
    let pebble = setup.pebble();
    let _terrace = world.up(&setup.redirecting(&pebble, "", &["shop.example"]));
    setup.wait_until_served(&pebble.root(), "shop.example");
    let folder = world.folder.join(".terrace/acme");
    until_true("the order's traces are gone", || is_tidy(&folder));
    let kept = files(&folder);
    assert_eq!(kept.len(), 2, "the account and the certificate: {kept:?}");
    for path in kept {
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

#[test]
fn a_listener_alone_has_its_certificate_issued_in_a_handshake() {
    let world = world();
    let setup = Setup::new(&world);
    let pebble = setup.pebble();
    let terrace = world.up(&setup.file(&pebble, "", "", &["shop.example"]));
    setup.wait_until_served(&pebble.root(), "shop.example");
    assert_eq!(terrace.event("acme.certificate_issued")["challenge"], "tls-alpn-01");
    let answered = "terrace_connections_accepted_total{listener=\"public\",outcome=\"answered\"}";
    assert!(terrace.counted(answered) >= 1.0);
    // Who only asks as an authority does is told that nothing is being issued.
    let shown = setup.openssl("shop.example", &["-alpn", "acme-tls/1"], "Q\n");
    assert!(!shown.contains("BEGIN CERTIFICATE"), "{shown}");
}

#[test]
fn a_listener_comes_up_while_the_authority_is_down_and_is_served_when_it_is_back() {
    let world = world();
    let setup = Setup::new(&world);
    let mut pebble = Pebble::stopped(&world, &setup.plain, &setup.tls, Rules::default());
    let file = setup.redirecting(&pebble, "", &["shop.example"]);
    let terrace = world.up(&file);
    let failed = terrace.event("acme.order_failed");
    assert_eq!((&failed["outcome"], &failed["level"]), (&"unreachable".into(), &"error".into()), "{failed}");
    let stranger = setup.openssl("stranger.example", &[], "Q\n");
    assert!(!stranger.contains("BEGIN CERTIFICATE"), "nothing is shown that nobody vouches for: {stranger}");
    let plain = Request::get("/").with("Host", "shop.example").send(setup.plain.address());
    assert_eq!(plain.status, 308);
    pebble.go_on();
    setup.wait_until_served(&pebble.root(), "shop.example");
}

#[test]
fn a_client_that_comes_before_the_certificate_waits_for_it() {
    let world = world();
    let setup = Setup::new(&world);
    let pebble = setup.pebble();
    let root = pebble.root();
    let mut terrace = world.start(&setup.redirecting(&pebble, "", &["shop.example"]));
    until_true("it listens", || std::net::TcpStream::connect(setup.tls.address()).is_ok());
    assert_eq!(setup.curl(&root, "shop.example").as_deref(), Ok("hello from web\n"), "at the first try");
    terrace.wait_until_ready();
}

#[test]
fn a_restart_serves_at_once_what_it_has_and_orders_nothing() {
    let world = world();
    let setup = Setup::new(&world);
    let mut pebble = setup.pebble();
    let file = setup.redirecting(&pebble, "", &["shop.example"]);
    let root = {
        let mut terrace = world.up(&file);
        let root = pebble.root();
        setup.wait_until_served(&root, "shop.example");
        assert!(terrace.stop().success());
        root
    };
    let orders_before = pebble.orders();
    pebble.stop();
    let terrace = world.up(&file);
    assert_eq!(setup.curl(&root, "shop.example").as_deref(), Ok("hello from web\n"));
    assert_eq!((pebble.orders(), terrace.has_event("acme.order_begun")), (orders_before, false));
}

#[test]
fn a_second_terrace_with_the_same_folder_orders_nothing_and_answers_for_the_first() {
    let (world, other) = (world(), world());
    let setup = Setup::new(&world);
    let pebble = setup.pebble();
    let acme = format!("folder = \"{}\"", world.folder.join("shared").display());
    // The authority asks at the first one's ports, whoever orders; and the first has a certificate for `a` only.
    let first = world.up(&setup.redirecting(&pebble, &acme, &["a.example"]));
    let root = pebble.root();
    setup.wait_until_served(&root, "a.example");
    for part in ["pebble/authority.pem", "pebble/root.pem"] {
        other.folder.write(part, &world.folder.read(part));
    }
    let neighbour = Setup::new(&other);
    let file = neighbour.redirecting(&pebble, &acme, &["a.example"]);
    let second = other.up(&file);
    assert_eq!(neighbour.curl(&root, "a.example").as_deref(), Ok("hello from web\n"));
    assert_eq!((pebble.orders(), second.has_event("acme.order_begun")), (1, false));
    for challenge in ["http-01", "tls-alpn-01"] {
        let host = format!("{challenge}.example");
        let acme = format!("{acme}\nchallenge = \"{challenge}\"");
        second.reload_with(&neighbour.redirecting(&pebble, &acme, &["a.example", &host])).ok();
        neighbour.wait_until_served(&root, &host);
    }
    assert_eq!((pebble.accounts(), pebble.orders()), (1, 3));
    assert_eq!((orders(&first, "issued"), orders(&second, "issued")), (1.0, 2.0));
}

#[test]
fn two_that_begin_together_order_once() {
    let (world, other) = (world(), world());
    let setup = Setup::new(&world);
    let pebble = setup.pebble();
    let acme = format!("folder = \"{}\"", world.folder.join("shared").display());
    other.folder.write("pebble/authority.pem", &world.folder.read("pebble/authority.pem"));
    let neighbour = Setup::new(&other);
    let mut first = world.start(&setup.redirecting(&pebble, &acme, &["a.example"]));
    let mut second = other.start(&neighbour.redirecting(&pebble, &acme, &["a.example"]));
    first.wait_until_ready();
    second.wait_until_ready();
    let root = pebble.root();
    setup.wait_until_served(&root, "a.example");
    neighbour.wait_until_served(&root, "a.example");
    assert_eq!((pebble.accounts(), pebble.orders()), (1, 1));
    // The other waited for it, or came when it was there already.
    assert_eq!(orders(&first, "issued") + orders(&second, "issued"), 1.0);
}

#[test]
fn what_one_renews_the_other_finds() {
    let (world, other) = (world(), world());
    let setup = Setup::new(&world);
    let pebble = setup.pebble_with(Rules { lifetime_seconds: Some(9), ..Rules::default() });
    let acme = format!("folder = \"{}\"", world.folder.join("shared").display());
    other.folder.write("pebble/authority.pem", &world.folder.read("pebble/authority.pem"));
    let neighbour = Setup::new(&other);
    let first = world.up(&setup.redirecting(&pebble, &acme, &["a.example"]));
    until_true("it is served", || setup.names("a.example") == ["a.example"]);
    let second = other.up(&neighbour.redirecting(&pebble, &acme, &["a.example"]));
    pebble.wait_for_issued(4);
    until_true("for each that was issued the other found one, but for the first", || {
        let both = |outcome| orders(&first, outcome) + orders(&second, outcome);
        both("issued") >= 4.0 && both("found") >= both("issued") - 2.0
    });
    assert_eq!(pebble.accounts(), 1);
}

#[test]
fn a_lock_that_a_killed_terrace_left_behind_is_in_nobodys_way() {
    let world = world();
    let setup = Setup::new(&world);
    let pebble = setup.pebble();
    let machine = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux tells it");
    let folder = pebble.directory().replace("https://", "").replace([':', '/'], "-");
    let holder = format!("{} 00112233445566ff 7\n", machine.trim().replace('-', ""));
    world.folder.write(&format!(".terrace/acme/{folder}/locks/account.lock"), &holder);
    let _terrace = world.up(&setup.redirecting(&pebble, "", &["shop.example"]));
    setup.wait_until_served(&pebble.root(), "shop.example");
    assert_eq!(pebble.accounts(), 1);
}

#[test]
fn on_demand_a_host_is_ordered_once_when_it_is_first_asked_for_and_never_if_it_is_not_in_the_file() {
    let world = world();
    let setup = Setup::new(&world);
    let pebble = setup.pebble();
    let file = setup.redirecting(&pebble, "on-demand = true", &["a.example", "b.example"]);
    let terrace = world.up(&file);
    let root = pebble.root();
    let stranger = setup.openssl("stranger.example", &[], "Q\n");
    assert!(!stranger.contains("BEGIN CERTIFICATE"), "{stranger}");
    assert_eq!(pebble.orders(), 0, "nobody asked for anything that is ours");
    assert_eq!(setup.curl(&root, "a.example").as_deref(), Ok("hello from web\n"), "the first one waits");
    assert_eq!((setup.names("a.example"), pebble.orders()), (vec!["a.example".to_owned()], 1));
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| assert_eq!(setup.curl(&root, "b.example").as_deref(), Ok("hello from web\n")));
        }
    });
    assert_eq!((pebble.orders(), orders(&terrace, "issued")), (2, 2.0), "twelve waited for one order");
}

#[test]
fn a_host_that_leads_elsewhere_does_not_keep_the_others_without_and_gets_its_own_in_the_end() {
    let world = world();
    let setup = Setup::new(&world);
    let pebble = setup.pebble();
    pebble.lead("moved.example", "127.0.0.77");
    let hosts = ["a.example", "b.example", "moved.example"];
    let terrace = world.up(&setup.redirecting(&pebble, "", &hosts));
    let root = pebble.root();
    setup.wait_until_served(&root, "a.example");
    setup.wait_until_served(&root, "b.example");
    assert_eq!(setup.names("a.example"), ["a.example", "b.example"]);
    let failed = terrace.event("acme.order_failed");
    assert_eq!(failed["outcome"], "refused");
    let problem = failed["problem"].as_str().unwrap_or_default();
    assert!(problem.contains("moved.example: ") && !problem.contains("a.example: "), "{problem}");
    pebble.lead("moved.example", "127.0.0.1");
    terrace.command(&["reload"]).ok();
    setup.wait_until_served(&root, "moved.example");
    assert_eq!(setup.names("moved.example"), ["moved.example"]);
}

#[test]
fn a_host_that_the_authority_does_not_serve_is_told_in_its_own_words() {
    let world = world();
    let setup = Setup::new(&world);
    let pebble = setup.pebble();
    let terrace = world.up(&setup.redirecting(&pebble, "", &["a.example", "blocked.example"]));
    setup.wait_until_served(&pebble.root(), "a.example");
    let told = |event: &serde_json::Value| {
        event["event"] == "acme.order_failed"
            && event["hosts"] == "blocked.example"
            && event["problem"].as_str().is_some_and(|problem| problem.contains("rejectedIdentifier"))
    };
    until_true("the refusal is told", || terrace.events().iter().any(told));
}

#[test]
fn files_that_were_spoilt_are_told_of_and_made_anew() {
    let world = world();
    let setup = Setup::new(&world);
    let pebble = setup.pebble();
    let file = setup.redirecting(&pebble, "", &["shop.example"]);
    let folder = world.folder.join(".terrace/acme");
    {
        let mut terrace = world.up(&file);
        setup.wait_until_served(&pebble.root(), "shop.example");
        assert!(terrace.stop().success());
    }
    for path in files(&folder) {
        std::fs::write(path, "-----BEGIN CERTIFICATE-----\nhalf a").expect("ours");
    }
    let terrace = world.up(&file);
    setup.wait_until_served(&pebble.root(), "shop.example");
    assert_eq!((pebble.accounts(), pebble.orders()), (2, 2));
    let told = terrace.event("acme.certificate_unreadable");
    assert!(told["file"].as_str().is_some_and(|file| file.contains("shop.example-")), "{told}");
    assert!(terrace.has_event("acme.account_unreadable"));
}

#[test]
fn a_folder_that_cannot_be_written_costs_a_warning_and_no_certificate() {
    let world = world();
    let setup = Setup::new(&world);
    let pebble = setup.pebble();
    world.folder.write("blocked", "a file where a folder should be");
    let hosts = ["a.example", "b.example"];
    let terrace = world.up(&setup.redirecting(&pebble, "folder = \"blocked\"\non-demand = true", &hosts));
    let root = pebble.root();
    for host in hosts {
        setup.wait_until_served(&root, host);
    }
    assert_eq!((pebble.accounts(), pebble.orders()), (1, 2), "the account is remembered all the same");
    let told = terrace.event("acme.folder");
    assert!(told["problem"].as_str().is_some_and(|problem| problem.contains("directory")), "{told}");
    world.folder.remove("blocked");
    until_true("it is written when that can be done", || files(&world.folder.join("blocked")).len() >= 2);
}

#[test]
fn an_authority_that_forgot_the_account_gets_another_one() {
    let world = world();
    let setup = Setup::new(&world);
    let mut pebble = setup.pebble();
    let terrace = world.up(&setup.redirecting(&pebble, "", &["a.example"]));
    setup.wait_until_served(&pebble.root(), "a.example");
    pebble.stop();
    pebble.go_on();
    let root = pebble.root();
    terrace.reload_with(&setup.redirecting(&pebble, "", &["a.example", "b.example"])).ok();
    setup.wait_until_served(&root, "b.example");
    assert_eq!(pebble.accounts(), 2);
}

#[test]
fn an_account_is_tied_to_one_that_was_opened_elsewhere() {
    let world = world()
        .with_variable("ACME_HMAC", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");
    let setup = Setup::new(&world);
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W".to_owned();
    let rules = Rules { external_account: Some(("kid-1".to_owned(), key)), ..Rules::default() };
    let pebble = setup.pebble_with(rules);
    let hosts = ["shop.example"];
    let terrace = world.up(&setup.redirecting(&pebble, "", &hosts));
    let failed = terrace.event("acme.order_failed");
    assert!(failed["problem"].as_str().is_some_and(|problem| problem.contains("account")), "{failed}");
    let account = "external-account = { id = \"kid-1\", key = { env = \"ACME_HMAC\" } }";
    terrace.reload_with(&setup.redirecting(&pebble, account, &hosts)).ok();
    setup.wait_until_served(&pebble.root(), "shop.example");
    for text in [terrace.stderr(), terrace.stdout(), world.folder.read("terrace.toml")] {
        assert!(!text.contains("zWNDZM6"), "a key is never told");
    }
}

#[test]
fn a_clock_that_is_years_ahead_serves_what_there_is_and_does_not_order_again_and_again() {
    let world = world();
    let clock = world.folder.write("clock", "+0");
    let world = world
        .with_variable("LD_PRELOAD", &crate::alerting::faketime())
        .with_variable("FAKETIME_TIMESTAMP_FILE", clock.to_str().expect("its path is text"))
        .with_variable("FAKETIME_NO_CACHE", "1")
        .with_variable("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let setup = Setup::new(&world);
    let pebble = setup.pebble();
    let file = setup.redirecting(&pebble, "", &["shop.example"]);
    let root = pebble.root();
    {
        let mut terrace = world.up(&file);
        setup.wait_until_served(&root, "shop.example");
        assert!(terrace.stop().success());
    }
    world.folder.write("clock", "+3650d");
    let terrace = world.up(&file);
    let failed = terrace.event("acme.order_failed");
    assert_eq!(
        failed["outcome"], "unreachable",
        "the authority's own certificate seems to have ended: {failed}"
    );
    assert_eq!(
        setup.curl(&root, "shop.example").as_deref(),
        Ok("hello from web\n"),
        "what is there is served on"
    );
    let left =
        terrace.counted("terrace_certificate_expires_seconds{listener=\"public\",host=\"shop.example\"}");
    assert!(left < 0.0, "{left}");
    assert_eq!(pebble.orders(), 1);
}

#[test]
fn a_wildcard_is_refused_with_what_to_do() {
    let world = world();
    let setup = Setup::new(&world);
    let pebble = Pebble::stopped(&world, &setup.plain, &setup.tls, Rules::default());
    world.write(&setup.redirecting(&pebble, "", &["*.shops.example"]));
    let told = world.terrace(&["check"]).refused();
    for part in ["*.shops.example", "dns-01", "`hosts` of [listen.public]"] {
        assert!(told.contains(part), "{part} is missing: {told}");
    }
    let named = setup.redirecting(&pebble, "", &["*.shops.example"]);
    world.write(&named.replace("tls = \"acme\"", "tls = \"acme\"\nhosts = [\"a.shops.example\"]"));
    world.terrace(&["check"]).ok();
}

#[test]
fn the_app_may_have_its_own_certificates_issued() {
    let world = world();
    let setup = Setup::new(&world);
    let pebble = setup.pebble();
    let file = setup.file(&pebble, "", "", &["shop.example"]);
    let _terrace = world.up(&format!("{file}[listen.plain]\naddress = \"{}\"\n", setup.plain));
    setup.wait_until_served(&pebble.root(), "shop.example");
    let question = Request::get("/.well-known/acme-challenge/of-the-app").with("Host", "shop.example");
    assert_eq!(question.send(setup.plain.address()).instance(), "web");
    assert_eq!(
        get(setup.plain.address(), "/.well-known/acme-challenge/x").status,
        404,
        "for no route of ours"
    );
}

mod heavy {
    use super::*;

    /// Each request of h2load, over TLS, on eight connections.
    fn crowd(setup: &Setup<'_>) -> String {
        let (port, target) = (setup.tls.number(), setup.tls.to_string());
        let url = format!("https://shop.example:{port}/");
        let connect = format!("--connect-to={target}");
        setup.world.run("h2load", &["-n", "3000", "-c", "8", "-m", "4", &connect, &url]).ok()
    }

    #[test]
    fn a_certificate_is_renewed_under_load_without_a_dropped_connection_and_sessions_resume() {
        let world = world();
        let setup = Setup::new(&world);
        let pebble = setup.pebble_with(Rules { lifetime_seconds: Some(9), ..Rules::default() });
        let terrace = world.up(&setup.redirecting(&pebble, "", &["shop.example"]));
        until_true("it is served", || setup.names("shop.example") == ["shop.example"]);
        let first = setup.openssl("shop.example", &["-tls1_2", "-sess_out", "session.pem"], "Q\n");
        // One connection over all renewals, asked before and after.
        let mut long = Session::open(&setup, "shop.example", &["-quiet", "-alpn", "http/1.1"]);
        let ask = "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";
        long.write(ask);
        long.read_until("hello from web");
        let before = pebble.issued();
        while pebble.issued() < before + 2 {
            let told = crowd(&setup);
            assert!(told.contains("3000 succeeded, 0 failed, 0 errored, 0 timeout"), "{told}");
        }
        long.write(ask);
        long.read_until("hello from web");
        let now = setup.openssl("shop.example", &[], "Q\n");
        assert_ne!(certificate(&first), certificate(&now), "another one is shown");
        let resumed = setup.openssl("shop.example", &["-tls1_2", "-sess_in", "session.pem"], "Q\n");
        assert!(resumed.contains("Reused, "), "{resumed}");
        let failed =
            terrace.counted("terrace_connections_accepted_total{listener=\"public\",outcome=\"failed\"}");
        assert!(failed == 0.0, "{failed} handshakes failed");
        let left =
            terrace.counted("terrace_certificate_expires_seconds{listener=\"public\",host=\"shop.example\"}");
        assert!((0.0..=9.0).contains(&left), "{left}");
    }

    fn certificate(told: &str) -> &str {
        let (_, rest) = told.split_once("-----BEGIN CERTIFICATE-----").expect("it shows one");
        rest.split_once("-----END").expect("whole").0
    }
}
