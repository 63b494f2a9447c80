//! An issuer that lies to a login: about whom it is for, whose it is, which login it belongs to, and who signed it. A session
//! begins only with an ID token that is right in all of it (OpenID Connect Core 1.0 section 3.1.3.7).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use terrace_auth::{Asked, ClientId, Login, LoginConfig, Moment, SealKeys};
use terrace_http::RequestHead;
use terrace_testkit::Folder;

use crate::house::{House, Signer, issuer_of, now_s, runtime, set, signing_input};

const PATH: &str = "/login";

/// The issuer: its answer to a code is whatever the test says.
struct Liar {
    address: SocketAddr,
    answer: Arc<Mutex<Value>>,
    info: Arc<Mutex<Value>>,
    is_over: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Liar {
    fn start(signer: &Signer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let issuer = format!("http://{address}");
        let document = json!({
            "issuer": issuer, "jwks_uri": format!("{issuer}/keys"),
            "authorization_endpoint": format!("{issuer}/authorize"), "token_endpoint": format!("{issuer}/token"),
            "userinfo_endpoint": format!("{issuer}/me"),
        });
        let (answer, info) = (Arc::new(Mutex::new(json!({}))), Arc::new(Mutex::new(json!({}))));
        let (keys, said, told) = (set(&[signer.public()]), Arc::clone(&answer), Arc::clone(&info));
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let serving = std::thread::spawn(move || {
            for stream in listener.incoming().take_while(|_| !until.load(Ordering::Relaxed)) {
                let stream = stream.expect("a connection");
                let _gone = serve(stream, |path| match path {
                    "/keys" => keys.clone(),
                    "/token" => said.lock().expect("no panic").to_string(),
                    "/me" => told.lock().expect("no panic").to_string(),
                    _ => document.to_string(),
                });
            }
        });
        Self { address, answer, info, is_over, serving: Some(serving) }
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _wakes_it = TcpStream::connect(self.address);
        let serving = self.serving.take().expect("joined once");
        assert!(serving.join().is_ok() || std::thread::panicking(), "the issuer panicked");
    }
}

/// One request a connection.
fn serve(stream: TcpStream, answer: impl Fn(&str) -> String) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim().to_ascii_lowercase().strip_prefix("content-length:") {
            Some(bytes) => length = bytes.trim().parse().unwrap_or(0),
            None if line.trim().is_empty() => break,
            None => {}
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    let body = answer(first.split(' ').nth(1).unwrap_or_default());
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    reader.get_mut().write_all(format!("{head}{body}").as_bytes())
}

struct Rig {
    liar: Liar,
    login: Arc<Login>,
    signer: Signer,
    _house: House,
    _folder: Folder,
}

impl Rig {
    fn new() -> Self {
        let signer = Signer::new("good");
        let (liar, house, folder) = (Liar::start(&signer), House::new(), Folder::new());
        let config = LoginConfig {
            name: "web".to_owned(),
            issuer: issuer_of(&liar.issuer(), Duration::ZERO),
            client: ClientId { id: "shop".to_owned(), secret: None },
            scopes: vec!["openid".to_owned()],
            path: PATH.to_owned(),
            cookie: "s".to_owned(),
            lasts: Duration::from_secs(3600),
            keys: SealKeys::parse("0123456789abcdef0123456789abcdef").expect("a secret"),
            state: folder.path().to_owned(),
        };
        let login = house.auth.login(&config).expect("a login");
        Self { liar, login, signer, _house: house, _folder: folder }
    }

    /// What becomes of a request over TLS: status, and fields.
    fn ask(&self, query: &str, cookie: &str) -> (u16, Vec<(String, String)>) {
        let mut head = RequestHead::new();
        let host = terrace_http::Authority::parse(b"shop.example").expect("a host");
        head.set_authority(&host);
        let path = if query.contains("code=") { format!("{PATH}/callback") } else { PATH.to_owned() };
        head.set_target(&path, Some(query));
        head.fields.append(b"Cookie", cookie.as_bytes());
        let client = "192.0.2.1".parse().expect("an address");
        let asked = Asked { head: &head, is_tls: true, client, certificate: None };
        match runtime().block_on(self.login.answer(&asked, Moment::read())) {
            Ok(answer) => (answer.status, answer.fields),
            Err(refusal) => (refusal.status, refusal.fields),
        }
    }

    /// A login whose ID token has these members in the place of good ones (`null`: none), under what `sign` makes of it.
    fn log_in(&self, change: &Value, sign: impl Fn(&Value) -> String) -> (u16, Vec<(String, String)>) {
        let (status, fields) = self.ask("to=/", "");
        assert_eq!(status, 303);
        let field =
            |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let location = field("Location").expect("a way");
        let part =
            |name: &str| location.split(&format!("{name}=")).nth(1).and_then(|rest| rest.split('&').next());
        let (state, nonce) = (part("state").expect("a state"), part("nonce").expect("a nonce"));
        let mut claims = json!({
            "iss": self.liar.issuer(), "aud": "shop", "exp": now_s() + 300, "iat": now_s(), "sub": "ann", "nonce": nonce,
        });
        for (name, value) in change.as_object().expect("an object") {
            let members = claims.as_object_mut().expect("an object");
            if value.is_null() {
                members.remove(name)
            } else {
                members.insert(name.clone(), value.clone())
            };
        }
        *self.liar.answer.lock().expect("no panic") =
            json!({"id_token": sign(&claims), "access_token": "a", "token_type": "Bearer"});
        let cookie = field("Set-Cookie").and_then(|set| set.split(';').next()).expect("a cookie");
        self.ask(&format!("code=c&state={state}"), cookie)
    }

    fn status(&self, change: &Value) -> u16 {
        self.log_in(change, |claims| self.signer.sign(claims)).0
    }
}

#[test]
fn a_session_begins_with_an_id_token_that_is_right() {
    let rig = Rig::new();
    *rig.liar.info.lock().expect("no panic") = json!({"sub": "ann"});
    let (status, fields) = rig.log_in(&json!({}), |claims| rig.signer.sign(claims));
    assert_eq!(status, 303);
    let set: Vec<&str> =
        fields.iter().filter(|(name, _)| name == "Set-Cookie").map(|(_, value)| value.as_str()).collect();
    assert!(
        set[0].starts_with("__Host-s=1.") && set[0].ends_with("; HttpOnly; SameSite=Lax; Secure"),
        "{}",
        set[0]
    );
    assert!(set[1].starts_with("__Host-s_login_") && set[1].contains("; Max-Age=0;"), "{}", set[1]);
    assert_eq!(rig.status(&json!({"aud": ["shop"]})), 303);
    assert_eq!(rig.status(&json!({"aud": ["shop", "other"], "azp": "shop"})), 303);
}

#[test]
fn openid_core_3_1_3_7_an_id_token_that_is_wrong_in_anything_begins_none() {
    let rig = Rig::new();
    *rig.liar.info.lock().expect("no panic") = json!({"sub": "ann"});
    for wrong in [
        json!({"nonce": "of-another-login"}),
        json!({"nonce": null}),
        json!({"nonce": ["x"]}),
        json!({"aud": "other"}),
        json!({"aud": null}),
        json!({"aud": ["shop", "other"]}),
        json!({"azp": "other"}),
        json!({"iss": "https://evil.test"}),
        json!({"exp": 1}),
        json!({"exp": null}),
        json!({"iat": now_s() + 3_000}),
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": 7}),
    ] {
        assert_eq!(rig.status(&wrong), 403, "{wrong}");
    }
}

#[test]
fn an_id_token_that_the_issuer_did_not_sign_begins_none() {
    let rig = Rig::new();
    *rig.liar.info.lock().expect("no panic") = json!({"sub": "ann"});
    let other = Signer::new("other");
    let unsigned = |claims: &Value| format!("{}.", signing_input(r#"{"alg":"none"}"#, &claims.to_string()));
    let forged = |claims: &Value| other.sign_with(&json!({"alg": "EdDSA", "kid": "good"}), claims);
    assert_eq!(rig.log_in(&json!({}), unsigned).0, 403);
    assert_eq!(rig.log_in(&json!({}), forged).0, 403);
    assert_eq!(rig.log_in(&json!({}), |_| "nonsense".to_owned()).0, 403);
}

#[test]
fn openid_core_5_3_2_userinfo_of_somebody_else_is_not_added() {
    let rig = Rig::new();
    for wrong in [json!({"sub": "root", "roles": ["admin"]}), json!({"roles": ["admin"]})] {
        *rig.liar.info.lock().expect("no panic") = wrong.clone();
        assert_eq!(rig.status(&json!({})), 403, "{wrong}");
    }
}
