//! What it costs a request to be checked: instructions in user space, counted exactly by callgrind (Debian's valgrind).
//!
//! `cargo bench -p terrace-auth` prints, for each kind of check, the instructions of one: callgrind counts inside of [`check`]
//! alone, so that tokens and requests are made for nothing. `check KIND TIMES` makes so many and prints nothing.
#![expect(clippy::print_stdout, reason = "a bench says what it measured")]

use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use serde_json::json;
use terrace_auth::{
    Algorithms, Asked, Auth, CacheBounds, Decision, Gate, GateConfig, IssuerConfig, KeySource, MethodConfig,
    Moment, Now, Pace, RingConfig, Rule, Secret, TokenConfig,
};
use terrace_http::RequestHead;
use terrace_instruments::{Log, Meter};

const SECRET: &[u8; 32] = b"a secret of thirty-two bytes....";
const CHECKS: u64 = 1_000;
/// The kinds of check: a token that is remembered, among one and among fifty thousand; one that is checked anew each time;
/// one that is refused; a request without any.
const KINDS: [&str; 5] = ["remembered", "among-50000", "verified", "refused", "missing"];

/// A token as large as they are: a few hundred bytes of claims.
fn token(number: u64) -> String {
    let claims = json!({
        "iss": "https://id.example.com/realms/shop", "aud": ["shop", "account"], "exp": u32::MAX, "iat": 1_700_000_000,
        "sub": format!("{number:08x}-9b1d-4b0e-a3f5-8a8e3c1c9f11"), "jti": "0f6d3a8e-2b1a-4a33-9d5e-5b6c7d8e9f00", "typ": "Bearer",
        "azp": "shop-web", "realm_access": {"roles": ["customer", "offline_access", "default-roles-shop"]},
        "scope": "openid email profile", "email": "ann@example.com", "email_verified": true, "name": "Ann Example",
    });
    let [header, claims] = [json!({"alg": "HS256", "typ": "JWT"}), claims]
        .map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
    let signed = format!("{header}.{claims}");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
}

/// A request as browsers send it, with that token.
fn request(token: Option<&str>) -> RequestHead {
    let mut head = RequestHead::new();
    for (name, value) in [
        ("Host", "shop.example.com"),
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        ("Accept", "application/json"),
        ("Accept-Language", "en-GB,en;q=0.5"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Referer", "https://shop.example.com/"),
        ("Origin", "https://shop.example.com"),
        ("Sec-Fetch-Mode", "cors"),
    ] {
        head.fields.append(name.as_bytes(), value.as_bytes());
    }
    if let Some(token) = token {
        head.fields.append(b"Authorization", format!("Bearer {token}").as_bytes());
    }
    head
}

fn gate() -> Arc<Gate> {
    let (auth, _task) = Auth::new(CacheBounds::default(), 1, &Log::discard(), &Meter::new(1));
    let issuer = IssuerConfig {
        ring: RingConfig {
            issuer: "https://id.example.com/realms/shop".to_owned(),
            source: KeySource::Secret(Secret::new(*SECRET)),
            ca: None,
            pace: Pace::default(),
        },
        audience: Some(vec!["shop".to_owned()]),
        algorithms: Algorithms::symmetric(),
        leeway: Duration::from_secs(60),
        roles: "realm_access.roles".to_owned(),
    };
    let methods = vec![MethodConfig::Token(TokenConfig { issuers: vec![issuer], ..TokenConfig::default() })];
    let require = Some(Rule::Role("customer".to_owned()));
    auth.gate(&GateConfig { methods, require, ..GateConfig::default() }).expect("a gate")
}

#[inline(never)]
fn check(gate: &Gate, head: &RequestHead) -> bool {
    let asked = Asked { head, is_tls: true, client: [192, 0, 2, 1].into(), certificate: None };
    let at = Moment { now: Duration::from_secs(1), wall: Duration::from_secs(1_800_000_000) };
    match gate.check_now(black_box(&asked), black_box(at)) {
        Now::Decided(Decision::Known(passed)) => passed.identity.expires.is_some(),
        Now::Decided(_) => false,
        Now::Later(ticket) => panic!("a secret is there at once: {ticket:?}"),
    }
}

fn run(kind: &str, times: u64) {
    let gate = gate();
    match kind {
        "verified" => {
            let tokens: Vec<_> = (0..times).map(|number| request(Some(&token(number)))).collect();
            assert!(tokens.iter().all(|head| check(&gate, head)));
        }
        "refused" => {
            let head = request(Some(&format!("{}x", token(0))));
            assert!((0..times).all(|_| !check(&gate, &head)));
        }
        "missing" => {
            let head = request(None);
            assert!((0..times).all(|_| !check(&gate, &head)));
        }
        _ => {
            let others = if kind == "remembered" { 0 } else { 50_000 };
            (1..=others).for_each(|number| assert!(check(&gate, &request(Some(&token(number))))));
            let head = request(Some(&token(0)));
            assert!((0..times).all(|_| check(&gate, &head)));
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [kind, times] if kind != "--bench" => run(kind, times.parse()?),
        _ => measure()?,
    }
    Ok(())
}

fn measure() -> Result<(), Box<dyn Error>> {
    println!("a token of {} bytes; instructions of one check:", token(0).len());
    for kind in KINDS {
        // What comes once, such as filling the table, is in both.
        let (once, more) = (instructions(kind, CHECKS)?, instructions(kind, 11 * CHECKS)?);
        println!("{kind:12} {:>9}", more.saturating_sub(once) / (10 * CHECKS));
    }
    Ok(())
}

fn instructions(kind: &str, times: u64) -> Result<u64, Box<dyn Error>> {
    let out = std::env::temp_dir().join(format!("terrace-auth-{}.callgrind", std::process::id()));
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*check::check*"])
        .args([&format!("--callgrind-out-file={}", out.display())])
        .arg(std::env::current_exe()?)
        .args([kind, &times.to_string()])
        .output()?;
    if !ran.status.success() {
        return Err(String::from_utf8_lossy(&ran.stderr).into_owned().into());
    }
    let text = std::fs::read_to_string(&out)?;
    std::fs::remove_file(&out)?;
    let total =
        text.lines().find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")));
    Ok(total.ok_or("callgrind wrote no totals")?.trim().parse()?)
}
