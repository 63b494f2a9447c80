//! Logins at a certified provider, through a browser that a test drives: the pages, the cookies, renewal, and what attackers try.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use terrace_auth::{
    Asked, ClientId, Decision, Gate, GateConfig, Login, LoginConfig, MethodConfig, Moment, SealKeys, Secret,
};
use terrace_http::{Bounds, Head, RequestHead, parse_request};
use terrace_testkit::{Browser, Folder, Page, Provider, Response};

use crate::house::{House, decide, issuer_of, runtime};

const PATH: &str = "/.terrace/login";
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A server with a login in front: `/` and all else need one, `/open` knows whoever has one.
struct Shop {
    address: SocketAddr,
    /// By so many seconds its clock is ahead.
    ahead_s: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
    _house: House,
    _folder: Folder,
    provider: Provider,
}

struct Doors {
    login: Arc<Login>,
    gate: Arc<Gate>,
    open_gate: Arc<Gate>,
    ahead_s: Arc<AtomicU64>,
}

impl Shop {
    fn new(settings: serde_json::Value) -> Self {
        Self::with(settings, |config| config)
    }

    fn with(mut settings: serde_json::Value, change: impl FnOnce(LoginConfig) -> LoginConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let base = format!("http://localhost:{}{PATH}", address.port());
        settings["redirect_uris"] = json!([format!("{base}/callback")]);
        settings["post_logout_redirect_uris"] = json!([format!("{base}/ended")]);
        let (provider, folder) = (Provider::start(&settings), Folder::new());
        let config = change(LoginConfig {
            name: "web".to_owned(),
            // Its clock is the true one, whatever ours is made to say.
            issuer: issuer_of(provider.issuer(), Duration::from_secs(86_400)),
            client: ClientId {
                id: Provider::CLIENT.to_owned(),
                secret: Some(Secret::new(Provider::SECRET.as_bytes())),
            },
            scopes: vec!["openid".to_owned(), "profile".to_owned()],
            path: PATH.to_owned(),
            cookie: "terrace_session".to_owned(),
            lasts: Duration::from_secs(8 * 3600),
            keys: SealKeys::parse(KEY).expect("a secret"),
            state: folder.path().to_owned(),
        });
        let house = House::new();
        let ahead_s = Arc::new(AtomicU64::new(0));
        let gate = |is_optional| {
            let methods = vec![MethodConfig::Login(Box::new(config.clone()))];
            house.auth.gate(&GateConfig { methods, is_optional, ..GateConfig::default() }).expect("a gate")
        };
        let doors = Doors {
            login: house.auth.login(&config).expect("a login"),
            gate: gate(false),
            open_gate: gate(true),
            ahead_s: Arc::clone(&ahead_s),
        };
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let serving = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for stream in listener.incoming().take_while(|_| !until.load(Ordering::Relaxed)) {
                    let doors = &doors;
                    scope.spawn(move || doors.serve(stream.expect("a connection")));
                }
            });
        });
        Self { address, ahead_s, is_over, serving: Some(serving), _house: house, _folder: folder, provider }
    }

    fn url(&self, target: &str) -> String {
        format!("http://localhost:{}{target}", self.address.port())
    }

    fn pass(&self, seconds: u64) {
        self.ahead_s.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Logs in on the way to that page.
    fn log_in(&self, browser: &mut Browser, target: &str, who: &str) -> Page {
        let page = browser.go(&self.url(target));
        assert!(page.url.starts_with(self.provider.issuer()), "{} {}", page.url, page.response.text());
        self.provider.log_in(browser, page, who)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _wakes_it = TcpStream::connect(self.address);
        let serving = self.serving.take().expect("joined once");
        assert!(serving.join().is_ok() || std::thread::panicking(), "the shop panicked");
    }
}

impl Doors {
    fn serve(&self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        let mut head = RequestHead::new();
        loop {
            let mut some = [0; 4096];
            match stream.read(&mut some).expect("readable") {
                0 => return,
                count => bytes.extend_from_slice(&some[..count]),
            }
            if let Head::Complete { .. } =
                parse_request(&bytes, &Bounds::default(), &mut head).expect("a request")
            {
                break;
            }
        }
        let mut at = Moment::read();
        at.wall += Duration::from_secs(self.ahead_s.load(Ordering::Relaxed));
        let client = "192.0.2.1".parse().expect("an address");
        let asked = Asked { head: &head, is_tls: false, client, certificate: None };
        let (status, fields, body) = self.answer(&asked, at);
        let mut text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
        fields.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all(format!("{text}\r\n{body}").as_bytes()).expect("writable");
    }

    fn answer(&self, asked: &Asked<'_>, at: Moment) -> (u16, Vec<(String, String)>, String) {
        if asked.head.path().starts_with(PATH) {
            return match runtime().block_on(self.login.answer(asked, at)) {
                Ok(answer) => (answer.status, answer.fields, answer.body),
                Err(refusal) => (refusal.status, refusal.fields, refusal.reason.to_owned()),
            };
        }
        let gate = if asked.head.path() == "/open" { &self.open_gate } else { &self.gate };
        match decide(gate, gate.check_now(asked, at)) {
            Decision::Known(passed) => {
                let text = |(name, value): &(Box<str>, Box<str>)| (name.to_string(), value.to_string());
                let mut fields: Vec<(String, String)> = passed.answer.iter().map(text).collect();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                fields.extend(passed.forward.iter().map(|(name, value)| (text(name), text(value))));
                let tier = passed.identity.claim_text("tier").unwrap_or_default();
                (200, fields, format!("{} {tier}", passed.identity.subject))
            }
            Decision::Anonymous => (200, Vec::new(), "nobody".to_owned()),
            Decision::Refused(refusal) => {
                let mut fields = refusal.fields.clone();
                let challenges = refusal.challenges.iter().cloned();
                fields.extend(challenges.map(|challenge| ("WWW-Authenticate".to_owned(), challenge)));
                (refusal.status, fields, refusal.reason.to_owned())
            }
        }
    }
}

fn set_cookies(response: &Response) -> Vec<&str> {
    let set = response.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    set.map(|(_, value)| value.as_str()).collect()
}

#[test]
fn somebody_logs_in_comes_back_to_their_page_and_is_known_from_then_on() {
    let shop = Shop::new(json!({}));
    let mut browser = Browser::new();
    let page = shop.log_in(&mut browser, "/orders?page=2", "ann");
    assert_eq!(page.url, shop.url("/orders?page=2"));
    assert_eq!((page.response.status, page.response.text().as_str()), (200, "ann gold"), "by userinfo, too");
    assert_eq!(page.response.field("x-auth-subject"), Some("ann"));
    assert_eq!(page.response.field("x-auth-method"), Some("login"));
    assert_eq!(page.response.field("x-auth-roles"), Some("customer"));
    assert_eq!(browser.cookies("localhost"), ["terrace_session"], "nothing is left of the way");

    assert_eq!(browser.open(&shop.url("/other")).text(), "ann gold");
    assert_eq!(browser.open(&shop.url("/open")).text(), "ann gold");
    assert_eq!(browser.go(&shop.url(&format!("{PATH}?to=/there"))).url, shop.url("/there"), "in already");
    let came = page.passed.iter().find(|url| url.contains("/callback")).expect("the way back");
    let again = browser.clone().open(came);
    assert_eq!(again.status, 400, "what a history remembers is good no more: {}", again.text());
}

#[test]
fn a_program_is_told_and_a_person_is_led() {
    let shop = Shop::new(json!({}));
    let mut browser = Browser::new();
    let led = browser.open(&shop.url("/orders?a=b&c=//evil.test"));
    assert_eq!(led.status, 302);
    assert_eq!(led.field("location"), Some("/.terrace/login?to=%2Forders%3Fa%3Db%26c%3D%2F%2Fevil.test"));
    assert_eq!(led.field("cache-control"), Some("no-store"));
    let told = browser.fetch(&shop.url("/orders"));
    assert_eq!((told.status, told.field("location")), (401, None));
    let challenge =
        "Cookie realm=\"terrace\", form-action=\"/.terrace/login\", cookie-name=\"terrace_session\"";
    assert_eq!(told.field("www-authenticate"), Some(challenge));
    assert_eq!(browser.submit(&shop.url("/orders"), "a=b", "same-origin").status, 401);
    assert_eq!(browser.open(&shop.url("/open")).text(), "nobody");
    assert!(browser.cookies("localhost").is_empty(), "who only asks is given nothing to carry");
}

#[test]
fn the_way_to_the_issuer_is_bound_to_the_browser_and_to_one_code() {
    let shop = Shop::new(json!({}));
    let mut browser = Browser::new();
    let begun = browser.open(&shop.url(&format!("{PATH}?to=/x")));
    let location = begun.field("location").expect("a way").to_owned();
    assert_eq!(begun.status, 303);
    assert_eq!(
        (begun.field("cache-control"), begun.field("referrer-policy")),
        (Some("no-store"), Some("no-referrer"))
    );
    for part in [
        "response_type=code",
        "code_challenge_method=S256",
        "code_challenge=",
        "nonce=",
        "state=",
        "scope=openid%20profile",
    ] {
        assert!(location.contains(part), "{part} in {location}");
    }
    let [set] = set_cookies(&begun)[..] else { panic!("one cookie") };
    assert!(
        set.starts_with("terrace_session_login_")
            && set.ends_with("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax")
    );
    let sealed = set.split(['=', ';']).nth(1).expect("a value");
    for secret in ["state", "nonce"] {
        let value = location.split(&format!("{secret}=")).nth(1).and_then(|rest| rest.split('&').next());
        assert!(!sealed.contains(value.expect("given")));
    }
    // Two tabs at once do not disturb each other.
    let other = browser.open(&shop.url(&format!("{PATH}?to=/y")));
    assert_ne!(other.field("location"), Some(location.as_str()));
    let page = browser.go(&location);
    let page = shop.provider.log_in(&mut browser, page, "ann");
    assert_eq!(page.url, shop.url("/x"));
    let page = browser.go(other.field("location").expect("a way"));
    assert_eq!(shop.provider.agree(&mut browser, page).url, shop.url("/y"));
}

#[test]
fn nobody_is_logged_in_with_somebody_elses_code() {
    let shop = Shop::new(json!({}));
    let mut mallory = Browser::new();
    let page = mallory.go(&shop.url("/"));
    let before = mallory.clone();
    let page = shop.provider.log_in(&mut mallory, page, "mallory");
    let callback = page.passed.iter().find(|url| url.contains("/callback")).expect("the way back").clone();

    // A link with Mallory's code, opened by a victim: with no login of their own under way, and with one.
    let mut victim = Browser::new();
    assert_eq!(victim.link(&callback, "cross-site").status, 400);
    let _own = victim.open(&shop.url(PATH));
    assert_eq!(victim.link(&callback, "cross-site").status, 400);
    assert_eq!(victim.cookie("localhost", "terrace_session"), None);

    // Mallory's cookie without the code, with another state, with two, and with an issuer that is none.
    let (base, query) = callback.split_once('?').expect("a query");
    let with = |change: &dyn Fn(&str) -> String| format!("{base}?{}", change(query));
    for url in [
        base.to_owned(),
        with(&|query| query.replace("state=", "state=x")),
        with(&|query| format!("{query}&state=x")),
        with(&|query| format!("{query}&code=x")),
        with(&|query| query.replace("code=", "other=")),
        with(&|query| format!("{query}&%zz")),
    ] {
        let mut browser = before.clone();
        assert_eq!(browser.open(&url).status, 400, "{url}");
        assert_eq!(browser.cookie("localhost", "terrace_session"), None);
    }
}

#[test]
fn rfc9207_a_code_of_another_issuer_is_not_shown_to_this_one() {
    let shop = Shop::new(json!({}));
    let mut browser = Browser::new();
    let begun = browser.open(&shop.url(PATH));
    let location = begun.field("location").expect("a way").to_owned();
    let state = location.split("state=").nth(1).and_then(|rest| rest.split('&').next()).expect("a state");
    let base = shop.url(&format!("{PATH}/callback?state={state}&code=stolen"));
    for mixed_up in [base.clone(), format!("{base}&iss=https%3A%2F%2Fevil.test")] {
        let refused = browser.open(&mixed_up);
        assert_eq!((refused.status, refused.text().contains("begin again")), (403, true), "{mixed_up}");
    }
    assert_eq!(shop.provider.counts(), json!({}), "the code went nowhere");
    let refused = browser.open(&shop.url(&format!(
        "{PATH}/callback?state={state}&error=access_denied&error_description=no%0d%0aX&iss={}",
        shop.provider.issuer().replace(':', "%3A").replace('/', "%2F")
    )));
    assert_eq!((refused.status, refused.text().as_str()), (403, "the issuer did not let you in"));
}

#[test]
fn a_cookie_that_was_tampered_with_is_as_none() {
    let shop = Shop::new(json!({}));
    let mut browser = Browser::new();
    shop.log_in(&mut browser, "/", "ann");
    let good = browser.cookie("localhost", "terrace_session").expect("a session").to_owned();
    let flipped = |at: usize| {
        let letter = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{letter}{}", &good[..at], &good[at + 1..])
    };
    for wrong in [
        flipped(2),
        flipped(40),
        flipped(good.len() - 2),
        good[..good.len() - 4].to_owned(),
        format!("2{}", &good[1..]),
        String::new(),
    ] {
        let mut browser = Browser::new();
        browser.plant("localhost", "terrace_session", &wrong);
        assert_eq!(browser.open(&shop.url("/")).status, 302, "{wrong}");
        assert_eq!(browser.fetch(&shop.url("/")).status, 401);
        assert_eq!(browser.open(&shop.url("/open")).text(), "nobody");
    }
    assert_eq!(browser.open(&shop.url("/")).text(), "ann gold");
}

#[test]
fn a_session_of_another_login_or_client_opens_nothing() {
    let shop = Shop::new(json!({}));
    let mut browser = Browser::new();
    shop.log_in(&mut browser, "/", "ann");
    let session = browser.cookie("localhost", "terrace_session").expect("a session").to_owned();
    for change in [
        (|config| LoginConfig { name: "other".to_owned(), ..config }) as fn(LoginConfig) -> LoginConfig,
        |config| LoginConfig { client: ClientId { id: "form".to_owned(), ..config.client }, ..config },
        |config| LoginConfig {
            keys: SealKeys::parse("f123456789abcdef0123456789abcdef").expect("a secret"),
            ..config
        },
    ] {
        let other = Shop::with(json!({}), change);
        let mut browser = Browser::new();
        browser.plant("localhost", "terrace_session", &session);
        assert_eq!(browser.open(&other.url("/")).status, 302);
    }
}

#[test]
fn who_comes_with_a_planted_session_has_another_one_after_the_login() {
    let shop = Shop::new(json!({}));
    let mut mallory = Browser::new();
    shop.log_in(&mut mallory, "/", "mallory");
    let planted = mallory.cookie("localhost", "terrace_session").expect("a session").to_owned();
    mallory.open(&shop.url(&format!("{PATH}/logout")));

    let mut victim = Browser::new();
    victim.plant("localhost", "terrace_session", &planted);
    shop.log_in(&mut victim, "/", "ann");
    let own = victim.cookie("localhost", "terrace_session").expect("a session");
    assert_ne!(own, planted);
    assert_eq!(victim.open(&shop.url("/")).text(), "ann gold");
    let mut mallory = Browser::new();
    mallory.plant("localhost", "terrace_session", &planted);
    assert_eq!(mallory.open(&shop.url("/")).status, 302);
}

#[test]
fn a_session_is_renewed_ahead_of_time_once_for_all_who_come() {
    let shop = Shop::new(json!({"access_s": 60}));
    let mut browser = Browser::new();
    shop.log_in(&mut browser, "/", "ann");
    let former = browser.clone();
    let first = browser.cookie("localhost", "terrace_session").expect("a session").to_owned();
    assert!(set_cookies(&browser.open(&shop.url("/"))).is_empty());
    assert_eq!(shop.provider.counts()["refresh_token"], json!(null));

    shop.pass(46);
    let answers: Vec<Response> = std::thread::scope(|scope| {
        let ask = |mut browser: Browser| scope.spawn(|| (browser.fetch(&shop.url("/")), browser).0);
        let asking = [(); 8].map(|()| ask(former.clone()));
        asking.map(|asking| asking.join().expect("no panic")).into()
    });
    assert!(answers.iter().all(|answer| answer.text() == "ann gold"), "nobody notices");
    assert_eq!(shop.provider.counts()["refresh_token"], json!(1));

    let late = browser.open(&shop.url("/"));
    assert_eq!(set_cookies(&late).len(), 1, "who comes late with the former cookie is given the new one");
    let second = browser.cookie("localhost", "terrace_session").expect("a session").to_owned();
    assert_ne!(first, second);
    assert!(set_cookies(&browser.open(&shop.url("/"))).is_empty());
    shop.pass(46);
    assert_eq!(browser.open(&shop.url("/")).text(), "ann gold");
    assert_eq!(
        shop.provider.counts()["refresh_token"],
        json!(2),
        "with the token that came with the first renewal"
    );
}

#[test]
fn a_session_ends_when_the_issuer_does_not_renew_it() {
    let shop = Shop::new(json!({"access_s": 60}));
    let mut browser = Browser::new();
    shop.log_in(&mut browser, "/", "ann");
    shop.provider.forget();
    shop.pass(50);
    assert_eq!(browser.fetch(&shop.url("/")).text(), "ann gold", "the issuer's word holds until it is over");
    assert_eq!(browser.fetch(&shop.url("/")).text(), "ann gold");
    assert_eq!(browser.fetch(&shop.url("/open")).text(), "ann gold", "on routes with another policy, too");
    assert_eq!(shop.provider.counts()["refresh_token"], json!(1), "and it is not asked again at once");
    shop.pass(20);
    assert_eq!(browser.fetch(&shop.url("/")).status, 401);
    assert_eq!(browser.open(&shop.url("/open")).text(), "nobody");
    assert_eq!(browser.open(&shop.url("/")).status, 302);
    let begun = browser.open(&shop.url(PATH));
    assert!(begun.field("location").is_some_and(|url| url.starts_with(shop.provider.issuer())), "no circle");
    assert_eq!(
        shop.provider.counts()["refresh_token"],
        json!(2),
        "nor is it asked each time for a session that is over"
    );
}

#[test]
fn with_one_login_that_was_begun_nobody_tries_codes_without_end() {
    let shop = Shop::new(json!({}));
    let mut browser = Browser::new();
    let begun = browser.open(&shop.url(PATH));
    let location = begun.field("location").expect("a way").to_owned();
    let state = location.split("state=").nth(1).and_then(|rest| rest.split('&').next()).expect("a state");
    let iss = shop.provider.issuer().replace(':', "%3A").replace('/', "%2F");
    let mut with = |code: u32| {
        browser.open(&shop.url(&format!("{PATH}/callback?state={state}&code=guess{code}&iss={iss}"))).status
    };
    assert_eq!((0..1000).map(&mut with).find(|status| *status != 403), Some(429));
}

#[test]
fn an_issuer_that_is_away_costs_nobody_a_session_that_still_holds() {
    let shop = Shop::new(json!({"access_s": 60}));
    let mut browser = Browser::new();
    shop.log_in(&mut browser, "/", "ann");
    shop.provider.set_down(true);
    shop.pass(50);
    assert_eq!(browser.fetch(&shop.url("/")).text(), "ann gold");
    shop.pass(20);
    assert_eq!(browser.fetch(&shop.url("/")).status, 503, "nobody is let in on a word that is over");
    shop.provider.set_down(false);
    assert_eq!(browser.fetch(&shop.url("/")).text(), "ann gold", "and nobody was logged out");
}

#[test]
fn a_session_lasts_as_long_as_the_file_says_and_no_longer() {
    let shop = Shop::with(json!({"access_s": 3600, "refresh": false}), |config| LoginConfig {
        lasts: Duration::from_secs(100),
        ..config
    });
    let mut browser = Browser::new();
    shop.log_in(&mut browser, "/", "ann");
    shop.pass(95);
    assert_eq!(browser.fetch(&shop.url("/")).text(), "ann gold");
    shop.pass(10);
    assert_eq!(browser.fetch(&shop.url("/")).status, 401);
}

#[test]
fn logging_out_ends_the_session_here_and_at_the_issuer_also_for_a_copy_of_it() {
    let shop = Shop::new(json!({}));
    let mut browser = Browser::new();
    shop.log_in(&mut browser, "/", "ann");
    let mut thief = browser.clone();
    let out = browser.link(&shop.url(&format!("{PATH}/logout")), "same-origin");
    assert_eq!(out.status, 303);
    let location = out.field("location").expect("a way").to_owned();
    assert!(
        location.starts_with(&format!("{}/session/end?client_id=shop", shop.provider.issuer())),
        "{location}"
    );
    assert!(location.contains("id_token_hint=ey"), "{location}");
    assert!(browser.cookies("localhost").is_empty());
    assert_eq!(thief.fetch(&shop.url("/")).status, 401, "a copy is good for nothing");

    let page = browser.go(&location);
    let xsrf = page.response.text();
    let xsrf = xsrf.split("name=\"xsrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let form = format!("logout=yes&xsrf={}", xsrf.expect("a confirmation"));
    let page = shop.provider.send_form(&mut browser, page, &form);
    assert_eq!(page.url, shop.url(&format!("{PATH}/ended")));
    assert!(page.response.text().contains("You are signed out."));
    assert!(
        page.response
            .field("content-security-policy")
            .is_some_and(|csp| csp.contains("frame-ancestors 'none'"))
    );
    terrace_testkit::until_true("the refresh token is given back", || {
        shop.provider.counts()["revocation"] == json!(1)
    });
    assert_eq!(browser.open(&shop.url(&format!("{PATH}/logout"))).status, 303, "twice does no harm");
}

#[test]
fn another_site_cannot_log_somebody_out() {
    let shop = Shop::new(json!({}));
    let mut browser = Browser::new();
    shop.log_in(&mut browser, "/", "ann");
    let logout = shop.url(&format!("{PATH}/logout"));
    for site in ["cross-site", "same-site"] {
        assert_eq!(browser.link(&logout, site).status, 200, "a question");
        assert_eq!(browser.submit(&logout, "", site).status, 200);
        assert_eq!(browser.submit(&format!("{logout}?confirm=x"), "", site).status, 200);
    }
    let silent = browser.send("GET", &logout, None, &[("Accept", "text/html")]);
    assert_eq!(silent.status, 200, "a browser that does not say where it comes from is asked, too");
    assert_eq!(browser.fetch(&shop.url("/")).text(), "ann gold");

    let question = silent.text();
    assert!(question.contains("form method=post"));
    let action = question.split("action=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a form");
    // Another's mark is not this session's.
    let mut mallory = Browser::new();
    shop.log_in(&mut mallory, "/", "mallory");
    let theirs = mallory.link(&logout, "cross-site").text();
    let theirs = theirs.split("action=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a form");
    assert_eq!(browser.submit(&shop.url(theirs), "", "cross-site").status, 200);
    assert_eq!(browser.fetch(&shop.url("/")).text(), "ann gold");
    assert_eq!(
        browser.send("POST", &shop.url(action), Some(""), &[]).status,
        303,
        "the form of ours is taken"
    );
    assert_eq!(browser.fetch(&shop.url("/")).status, 401);
}

#[test]
fn a_large_session_is_spread_over_cookies() {
    let shop = Shop::new(json!({}));
    let mut browser = Browser::new();
    let page = shop.log_in(&mut browser, "/", "large");
    assert_eq!(page.response.text(), "large gold");
    let names = browser.cookies("localhost");
    assert!(names.len() > 1 && names.iter().all(|name| name.starts_with("terrace_session")), "{names:?}");
    let mut without = browser.clone();
    without.plant("localhost", "terrace_session_1", "AAAA");
    assert_eq!(browser.open(&shop.url("/x")).text(), "large gold");
    shop.pass(1000);
    assert_eq!(without.fetch(&shop.url("/x")).status, 401, "parts that do not fit each other");
    browser.open(&shop.url(&format!("{PATH}/logout")));
    assert!(browser.cookies("localhost").is_empty());
}

#[test]
fn clients_of_every_kind_log_in() {
    let only = |method| json!({"methods": [method, "none"]});
    for (id, secret, settings) in
        [("form", Some("other"), only("client_secret_post")), ("public", None, json!({}))]
    {
        let secret = secret.map(|secret| Secret::new(secret.as_bytes()));
        let shop = Shop::with(settings, |config| LoginConfig {
            client: ClientId { id: id.to_owned(), secret },
            ..config
        });
        let mut browser = Browser::new();
        assert_eq!(shop.log_in(&mut browser, "/", "ann").response.text(), "ann gold", "{id}");
    }
    let shop = Shop::with(json!({}), |config| LoginConfig {
        client: ClientId { secret: Some(Secret::new(*b"wrong")), ..config.client },
        ..config
    });
    let refused = shop.log_in(&mut Browser::new(), "/", "ann").response;
    assert_eq!((refused.status, refused.text().as_str()), (403, "the issuer did not let you in"));
}

#[test]
fn a_login_that_cannot_be_asked_for_says_so_and_no_page_is_led_off_the_host() {
    let shop = Shop::new(json!({}));
    let mut browser = Browser::new();
    let page = browser.go(&shop.url(&format!("{PATH}?to=https%3A%2F%2Fevil.test%2F")));
    let page = shop.provider.log_in(&mut browser, page, "ann");
    assert_eq!(page.url, shop.url("/"));
    assert_eq!(browser.open(&shop.url(&format!("{PATH}?to=%2F%2Fevil.test"))).field("location"), Some("/"));
    assert_eq!(browser.open(&shop.url(&format!("{PATH}/nothing"))).status, 404);
    let put = browser.submit(&shop.url(PATH), "", "same-origin");
    assert_eq!((put.status, put.field("allow")), (405, Some("GET")));

    // From the start, or where things are could be known already.
    let away = Shop::new(json!({"down": true}));
    let refused = Browser::new().open(&away.url(PATH));
    assert_eq!((refused.status, refused.text().as_str()), (503, "the issuer of this login does not answer"));
}
