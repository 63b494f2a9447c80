//! Who may use a route, from the file to the app: API keys by the command line, passwords, certificates, a service that is
//! asked, and a login at a certified provider through a browser. What the app sees of each is what Terrace says, and not the
//! proof.

use serde_json::{Value, json};
use terrace_testkit::{
    Authority, Browser, Port, Provider, Request, Response, Terrace, World, get, until_true,
};

use crate::world;

/// The app behind one route with this policy, and what else the file says.
fn guarded(world: &World, port: &Port, auth: &str, more: &str) -> String {
    format!(
        "[listen.public]\naddress = \"{port}\"\n\
         [service.web]\nrun = {}\nhealth = {{ path = \"/health\", every = \"200ms\" }}\n\
         [route.shop]\nat = \"/*\"\nto = \"web\"\nauth = {{ {auth} }}\n{more}",
        world.app()
    )
}

/// The values of a field as the app saw them.
fn seen(answer: &Response, name: &str) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let fields = answer.json()["fields"].as_array().expect("a list").clone();
    let of_name =
        fields.iter().filter(|field| field[0].as_str().is_some_and(|known| known.eq_ignore_ascii_case(name)));
    of_name.map(|field| field[1].as_str().expect("text").to_owned()).collect()
}

fn made(terrace: &Terrace<'_>, more: &[&str]) -> Value {
    let told = terrace.command(&[&["--json", "keys", "create"], more].concat()).ok();
    serde_json::from_str(&told).expect("JSON")
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

#[test]
fn a_key_opens_its_route_once_made_and_nothing_once_revoked() {
    let world = world();
    let port = Port::reserve();
    let terrace = world.up(&guarded(&world, &port, "keys = true, roles = [\"reader\"]", ""));
    let with = |key: &str| Request::get("/seen").with("X-Api-Key", key).send(port.address());
    assert_eq!(get(port.address(), "/seen").status, 401);

    let key = made(&terrace, &["nightly", "--role", "reader", "--limit", "100/s", "--expires", "90d"]);
    let answer = with(text(&key, "key"));
    assert_eq!(seen(&answer, "x-auth-subject"), [text(&key, "id")]);
    assert_eq!(
        (seen(&answer, "x-auth-method"), seen(&answer, "x-auth-roles")),
        (vec!["key".to_owned()], vec!["reader".to_owned()])
    );
    assert!(seen(&answer, "x-api-key").is_empty(), "the key stays in front");
    let bearer = format!("Bearer {}", text(&key, "key"));
    let answer = Request::get("/seen").with("Authorization", &bearer).send(port.address());
    assert!(seen(&answer, "authorization").is_empty());

    let other = made(&terrace, &["other"]);
    assert_eq!(with(text(&other, "key")).status, 403, "without the role");
    let typo = text(&key, "key").replace("tk_", "tk_x");
    assert!(with(&typo).text().contains("checksum"), "a typo is told as one");

    let listed = terrace.command(&["keys", "list"]).ok();
    assert!(
        listed.contains("nightly") && listed.contains("at most 100/s") && !listed.contains(text(&key, "key")),
        "{listed}"
    );
    assert!(!world.folder.read(".terrace/keys.json").contains(text(&key, "key")));
    assert!(!terrace.stderr().contains(text(&key, "key")) && !terrace.stdout().contains(text(&key, "key")));
    terrace.command(&["keys", "revoke", text(&key, "id")]).ok();
    assert_eq!(with(text(&key, "key")).status, 401, "from when the command has ended");
    terrace.command(&["keys", "revoke", text(&key, "id")]).refused();
}

#[test]
fn keys_made_while_terrace_is_down_or_beside_it_are_good() {
    let world = world();
    let port = Port::reserve();
    let file = guarded(&world, &port, "keys = true", "");
    world.write(&file);
    let key = world.terrace(&["keys", "create", "early"]).ok();
    assert!(world.terrace(&["keys", "list"]).ok().contains("early"));
    let mut terrace = world.up(&file);
    let with = |key: &str| Request::get("/").with("X-Api-Key", key.trim()).send(port.address()).status;
    assert_eq!(with(&key), 200);
    // Another machine that shares the folder takes the key away.
    let without = r#"{"version":1,"keys":[]}"#;
    world.folder.write(".terrace/keys.json", without);
    until_true("the key opens nothing any more", || with(&key) == 401);
    world.folder.write(".terrace/keys.json", "{");
    until_true("it is told", || terrace.has_event("auth.keys.unreadable"));
    terrace.stop();
}

/// `secret`, by bcrypt with the least work.
const SECRET: &str = "$2y$04$B2GCexTzaxTMIYxOnohMp.y2YPATc5.0RGupehhrNzu8PGtrDByWm";

#[test]
fn people_with_passwords_come_in_and_whoever_is_taken_off_the_list_does_not() {
    let world = world();
    let port = Port::reserve();
    world.folder.write("staff.htpasswd", &format!("ann:{SECRET}:admin\nben:{SECRET}\n"));
    let file = guarded(&world, &port, "users = \"staff\"", "[users.staff]\nfile = \"staff.htpasswd\"\n");
    let terrace = world.up(&file);
    let with = |basic: &str| {
        Request::get("/seen").with("Authorization", &format!("Basic {basic}")).send(port.address())
    };
    let (ann, wrong) = ("YW5uOnNlY3JldA==", "YW5uOndyb25n");
    let answer = with(ann);
    assert_eq!(
        (seen(&answer, "x-auth-subject"), seen(&answer, "x-auth-roles")),
        (vec!["ann".to_owned()], vec!["admin".to_owned()])
    );
    assert!(seen(&answer, "authorization").is_empty(), "the password stays in front");
    let refused = with(wrong);
    assert_eq!(refused.status, 401);
    assert_eq!(refused.field("www-authenticate"), Some("Basic realm=\"terrace\", charset=\"UTF-8\""));
    let statuses: Vec<u16> = (0..12).map(|_| with(wrong).status).collect();
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    assert_eq!(with(ann).status, 200, "who is known goes on");

    world.folder.write("staff.htpasswd", &format!("ben:{SECRET}\n"));
    terrace.command(&["reload"]).ok();
    assert_ne!(with(ann).status, 200);
}

#[test]
fn a_service_that_is_asked_decides_and_its_silence_lets_nobody_in() {
    let world = world();
    let port = Port::reserve();
    // The app itself is asked: /status answers as the client's query says.
    let file = |code: &str| {
        let auth =
            format!("ask = {{ to = \"web\", path = \"/status?code={code}\", take = [\"X-Instance\"] }}");
        guarded(&world, &port, &auth, "")
    };
    let terrace = world.up(&file("200"));
    let answer =
        Request::get("/seen").with("x_instance", "forged").with("X-Instance", "forged").send(port.address());
    assert_eq!(seen(&answer, "x-instance"), ["web-1"], "what was said, and not what the client says");
    assert_eq!(seen(&answer, "x-auth-subject"), ["web-1"]);
    for (code, expected) in [("401", 401), ("403", 403), ("404", 503), ("500", 503)] {
        terrace.reload_with(&file(code)).ok();
        assert_eq!(get(port.address(), "/seen").status, expected, "{code}");
    }
}

#[test]
fn what_whoever_is_asked_says_of_authorization_takes_the_place_of_the_clients() {
    let world = world();
    let port = Port::reserve();
    let file = |take: &str| {
        let auth = format!("ask = {{ to = \"web\", path = \"/status?code=200\", take = [\"{take}\"] }}");
        guarded(&world, &port, &auth, "")
    };
    let terrace = world.up(&file("Authorization"));
    let answer = Request::get("/seen").with("Authorization", "Bearer outer").send(port.address());
    assert!(seen(&answer, "authorization").is_empty(), "nothing was said of it");
    // What Terrace itself says of a request is nobody's to say.
    let refused = terrace.reload_with(&file("X-Forwarded-For")).refused();
    assert!(refused.contains("terrace.toml:") && refused.contains("X-Forwarded-For"), "{refused}");
    let forward = guarded(&world, &port, "keys = true, forward = { Authorization = \"sub\" }", "");
    let refused = terrace.reload_with(&forward).refused();
    assert!(refused.contains("terrace.toml:") && refused.contains("such as X-User"), "{refused}");
}

#[test]
fn the_login_of_one_host_answers_on_no_other() {
    let world = world();
    let port = Port::reserve();
    let more = "[route.other]\nat = \"other.example/*\"\nto = \"web\"\n\
                [issuer.main]\nurl = \"http://127.0.0.1:1\"\naudience = [\"shop\"]\n\
                [login.web]\nissuer = \"main\"\nclient = \"shop\"\n";
    let file = guarded(&world, &port, "login = \"web\"", more);
    let _terrace = world.up(&file.replacen("at = \"/*\"", "at = \"shop.example/*\"", 1));
    let ended = |host: &str| {
        let answer = Request::get("/.terrace/login/ended").with("Host", host).send(port.address());
        answer.text().contains("You are signed out")
    };
    assert!(ended("shop.example") && ended("SHOP.example."), "on its own");
    assert!(!ended("other.example") && !ended("evil.example"));
}

#[test]
fn a_certificate_says_who_its_client_is() {
    let world = world();
    let port = Port::reserve();
    let authority = Authority::new(world.folder.path());
    authority.sign("server", &["shop.example"]);
    authority.sign("ann", &["ann.clients.example"]);
    authority.sign("eve", &["eve.elsewhere.example"]);
    let tls = "tls = \"files\"\ncertificate = \"server.pem\"\nkey = { file = \"server.key\" }\n\
               client-certificates = { ca = \"authority.pem\", demand = \"optional\" }\n[service.web]";
    let file = guarded(&world, &port, "client-certificate = [\"*.clients.example\"]", "");
    let _terrace = world.up(&file.replacen("[service.web]", tls, 1));
    let curl = |client: Option<&str>| {
        let resolve = format!("shop.example:{}:127.0.0.1", port.number());
        let url = format!("https://shop.example:{}/seen", port.number());
        let mut words =
            vec!["-sS", "-w", "\n%{http_code}", "--cacert", "authority.pem", "--resolve", &resolve];
        let (certificate, key) =
            (format!("{}.pem", client.unwrap_or("")), format!("{}.key", client.unwrap_or("")));
        if client.is_some() {
            words.extend(["--cert", &certificate, "--key", &key]);
        }
        words.push(&url);
        let told = world.run("curl", &words).ok();
        let (body, status) = told.rsplit_once('\n').expect("a status");
        (status.to_owned(), body.to_owned())
    };
    let (status, body) = curl(Some("ann"));
    assert!(
        status == "200" && body.contains("[\"x-auth-subject\",\"ann.clients.example\"]"),
        "{status} {body}"
    );
    assert_eq!(curl(Some("eve")).0, "403");
    assert_eq!(curl(None).0, "401");
}

#[test]
fn somebody_logs_in_with_a_browser_and_the_app_sees_who_but_no_session() {
    let world = world();
    let port = Port::reserve();
    let at = |target: &str| format!("http://localhost:{}{target}", port.number());
    let provider = Provider::start(&json!({
        "redirect_uris": [at("/.terrace/login/callback")],
        "post_logout_redirect_uris": [at("/.terrace/login/ended")],
    }));
    world.folder.write("client.secret", Provider::SECRET);
    let more = format!(
        "[issuer.main]\nurl = \"{}\"\naudience = [\"shop\"]\n\
         [login.web]\nissuer = \"main\"\nclient = \"{}\"\nclient-secret = {{ file = \"client.secret\" }}\n",
        provider.issuer(),
        Provider::CLIENT
    );
    let auth = "login = \"web\", forward = { X-User = \"sub\", X-Tier = \"claim:tier\" }";
    let file = guarded(&world, &port, auth, &more);
    let mut terrace = world.up(&file);

    let mut browser = Browser::new();
    assert_eq!(browser.fetch(&at("/seen")).status, 401, "a script is told");
    let page = browser.go(&at("/seen?page=2"));
    assert!(page.url.starts_with(provider.issuer()), "{} {}", page.url, page.response.text());
    let page = provider.log_in(&mut browser, page, "ann");
    assert_eq!(page.url, at("/seen?page=2"));
    assert_eq!(
        (seen(&page.response, "x-user"), seen(&page.response, "x-tier")),
        (vec!["ann".to_owned()], vec!["gold".to_owned()])
    );

    browser.plant("localhost", "mine", "1");
    let forged = [("Sec-Fetch-Mode", "cors"), ("X-User", "root"), ("x_tier", "platinum")];
    let answer = browser.send("GET", &at("/seen"), None, &forged);
    assert_eq!(
        (seen(&answer, "x-user"), seen(&answer, "cookie")),
        (vec!["ann".to_owned()], vec!["mine=1".to_owned()])
    );
    assert!(seen(&answer, "x_tier").is_empty() && seen(&answer, "x-tier") == ["gold"]);

    // The session outlives Terrace.
    terrace.stop();
    drop(terrace);
    let terrace = world.up(&file);
    assert_eq!(browser.fetch(&at("/seen")).status, 200);
    let session = browser.cookie("localhost", "terrace_session").expect("a session").to_owned();
    for told in
        [terrace.stdout(), terrace.stderr(), world.folder.read("up-0.out"), world.folder.read("up-0.err")]
    {
        assert!(!told.contains(&session[2..40]), "no session in a log");
    }

    let mut thief = browser.clone();
    assert_eq!(browser.link(&at("/.terrace/login/logout"), "cross-site").status, 200, "a question");
    assert_eq!(browser.fetch(&at("/seen")).status, 200);
    let out = browser.link(&at("/.terrace/login/logout"), "same-origin");
    assert!(out.field("location").is_some_and(|to| to.starts_with(provider.issuer())), "{:?}", out.fields);
    assert_eq!((browser.fetch(&at("/seen")).status, thief.fetch(&at("/seen")).status), (401, 401));
}

#[test]
fn the_second_factor_is_shown_once_running_or_not() {
    let world = world();
    let port = Port::reserve();
    let file = format!(
        "{}\n[admin]\naddress = \"127.0.0.1:0\"\ntotp = true\nprobes = \"127.0.0.1:0\"\n",
        guarded(&world, &port, "keys = true", "")
    );
    world.write(&file);
    let shown: Value = serde_json::from_str(&world.terrace(&["--json", "totp"]).ok()).expect("JSON");
    assert_eq!(text(&shown, "secret").len(), 32);
    assert!(text(&shown, "uri").starts_with("otpauth://totp/Terrace:"));
    let terrace = world.up(&file);
    assert!(terrace.command(&["totp"]).refused().contains("terrace totp --new"));
    let picture = terrace.command(&["totp", "--new"]).ok();
    assert!(picture.contains('█') && picture.contains("otpauth://totp/Terrace:"), "{picture}");
    assert!(!picture.contains(text(&shown, "secret")));
}
