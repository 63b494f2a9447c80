//! The attacks on token checks that were published, each as a token that must not be taken. After them the issuer's own token
//! must still be.

use std::net::TcpListener;
use std::sync::Arc;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
};
use serde_json::{Value, json};
use terrace_auth::{
    Algorithms, BuildError, Decision, Gate, IssuerConfig, IssuerError, KeySource, Now, Secret,
};
use terrace_http::RequestHead;
use terrace_testkit::{Folder, until_true};

use crate::house::{
    House, ISSUER, Signer, ask, ask_now, ask_with, claims, decide, issuer, now_s, set, signing_input, status,
};

/// The modulus of RFC 7515 appendix A.2.
const MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

/// A gate whose issuer has a key of each kind, and the signer that may use one of them.
struct Target {
    gate: Arc<Gate>,
    signer: Signer,
    ecdsa: EcdsaKeyPair,
    _house: House,
    _folder: Folder,
}

impl Target {
    fn new() -> Self {
        let (house, folder, signer) = (House::new(), Folder::new(), Signer::new("ed"));
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("made");
        let ecdsa =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random).expect("good");
        let file = folder.write("keys.json", &set(&[signer.public(), rsa(), ec(&ecdsa), p521()]));
        let gate = house.gate(issuer(ISSUER, KeySource::File(file)));
        let target = Self { gate, signer, ecdsa, _house: house, _folder: folder };
        until_true("the keys are there", || status(&ask(&target.gate, &target.good())) == 200);
        target
    }

    fn good(&self) -> String {
        self.signer.sign(&claims(ISSUER))
    }

    /// The token is refused, as a proof that is no good or as one that cannot be read, and the client is told nothing of keys.
    #[track_caller]
    fn refuses(&self, what: &str, token: &str) {
        let Decision::Refused(refusal) = ask(&self.gate, token) else {
            panic!("{what} lets somebody in: {token}")
        };
        assert_eq!((refusal.status, refusal.outcome), (401, "invalid"), "{what}: {refusal:?}");
        let told = format!("{} {:?}", refusal.reason, refusal.challenges);
        assert!(!told.contains("ed25519") && !told.contains("kid\""), "{what}: {told}");
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(status(&ask(&self.gate, &self.good())), 200, "the issuer's own token is still taken");
        }
    }
}

fn rsa() -> Value {
    json!({"kty": "RSA", "kid": "rsa", "n": MODULUS, "e": "AQAB", "use": "sig", "alg": "RS256"})
}

fn ec(pair: &EcdsaKeyPair) -> Value {
    let point = pair.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..]].map(|half| BASE64URL_NOPAD.encode(half));
    json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": x, "y": y})
}

/// That of RFC 7515 appendix A.4.
fn p521() -> Value {
    json!({"kty": "EC", "crv": "P-521", "kid": "p521",
        "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
        "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"})
}

fn hs256(header: &Value, key: &[u8]) -> String {
    let signed = signing_input(&header.to_string(), &claims(ISSUER).to_string());
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
}

fn with_signature(header: &Value, signature: &[u8]) -> String {
    let signed = signing_input(&header.to_string(), &claims(ISSUER).to_string());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(signature))
}

#[test]
fn a_token_that_says_it_needs_no_signature_is_refused() {
    let target = Target::new();
    for name in ["none", "None", "NONE", "nOnE", "none ", "", "null"] {
        let header = json!({"alg": name, "kid": "ed"});
        target.refuses(name, &with_signature(&header, b""));
        target.refuses(name, &target.signer.sign_with(&header, &claims(ISSUER)));
    }
    for header in [json!({}), json!({"alg": null}), json!({"alg": ["EdDSA"]}), json!({"alg": true})] {
        target.refuses("no alg", &target.signer.sign_with(&header, &claims(ISSUER)));
    }
    target.refuses("no signature", &with_signature(&json!({"alg": "EdDSA", "kid": "ed"}), b""));
}

#[test]
fn a_public_key_is_never_taken_for_the_secret_of_an_hmac() {
    let target = Target::new();
    let modulus = BASE64URL_NOPAD.decode(MODULUS.as_bytes()).expect("base64url");
    // SubjectPublicKeyInfo of a 2048 bit key with the exponent 65537.
    let mut der = vec![
        0x30, 0x82, 1, 0x22, 0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1, 5, 0, 3, 0x82, 1, 15,
        0,
    ];
    der.extend([0x30, 0x82, 1, 10, 2, 0x82, 1, 1, 0]);
    der.extend(&modulus);
    der.extend([2, 3, 1, 0, 1]);
    let lines: Vec<String> = BASE64
        .encode(&der)
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
    let text = rsa().to_string();
    let point = target.ecdsa.public_key().as_ref();
    for key in [
        &modulus,
        &der,
        pem.as_bytes(),
        pem.trim().as_bytes(),
        MODULUS.as_bytes(),
        text.as_bytes(),
        point,
        b"",
        b"secret",
    ] {
        for kid in [json!("rsa"), json!("ec"), json!("ed"), json!("p521"), Value::Null] {
            let mut header = json!({"alg": "HS256", "kid": kid});
            if kid.is_null() {
                header.as_object_mut().expect("an object").remove("kid");
            }
            target.refuses("algorithm confusion", &hs256(&header, key));
        }
    }
}

#[test]
fn a_good_token_without_the_role_is_refused_each_time_and_opens_other_gates() {
    let (house, folder, signer) = (House::new(), Folder::new(), Signer::new("ed"));
    let file = KeySource::File(folder.write("keys.json", &set(&[signer.public()])));
    let config = issuer(ISSUER, file);
    let (strict, open) = (house.gate_for_role(config.clone(), "admin"), house.gate(config));
    let token = signer.sign(&claims(ISSUER));
    for _ in 0..3 {
        let Decision::Refused(refusal) = ask(&strict, &token) else { panic!("let in without the role") };
        assert_eq!((refusal.status, refusal.outcome), (403, "forbidden"));
        assert_eq!(status(&ask(&open, &token)), 200, "what one gate remembers is not another's");
    }
    let mut admin = claims(ISSUER);
    admin["roles"] = json!(["admin"]);
    assert_eq!(status(&ask(&strict, &signer.sign(&admin))), 200);
}

#[test]
fn an_issuer_has_secrets_or_public_keys_and_never_both() {
    let (house, folder) = (House::new(), Folder::new());
    let file = KeySource::File(folder.write("keys.json", &set(&[rsa()])));
    let secret = |bytes: usize| KeySource::Secret(Secret::new(vec![7; bytes]));
    let with =
        |source: KeySource, algorithms: Algorithms| IssuerConfig { algorithms, ..issuer(ISSUER, source) };
    let none = BuildError::Issuer(IssuerError::NoAlgorithm(ISSUER.to_owned()));
    assert_eq!(house.refuses_to_build(with(file, Algorithms::symmetric())), none);
    assert_eq!(house.refuses_to_build(with(secret(64), Algorithms::asymmetric())), none);
    let short = house.refuses_to_build(with(secret(31), Algorithms::symmetric()));
    assert!(
        short.to_string().contains("HS256 needs a secret of at least 32 bytes, this one has 31"),
        "{short}"
    );
}

#[test]
fn a_key_that_a_token_brings_or_points_to_is_not_looked_at() {
    let target = Target::new();
    let attacker = Signer::new("attacker");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket takes it");
    let url = format!("http://{}/keys", listener.local_addr().expect("bound"));
    for member in [
        json!({"jwk": attacker.public()}),
        json!({"jku": url}),
        json!({"x5u": url}),
        json!({"x5c": [BASE64.encode(b"a certificate")]}),
        json!({"jwk": attacker.public(), "jku": url, "x5u": url}),
    ] {
        for kid in [json!("attacker"), json!("ed"), json!(url)] {
            let mut header = json!({"alg": "EdDSA", "kid": kid});
            header.as_object_mut().expect("an object").extend(member.as_object().expect("an object").clone());
            target.refuses("a key of the attacker's", &attacker.sign_with(&header, &claims(ISSUER)));
        }
    }
    assert!(listener.accept().is_err(), "nobody came for the attacker's keys");
    let header = json!({"alg": "EdDSA", "kid": "ed", "jku": url, "jwk": attacker.public()});
    assert_eq!(
        status(&ask(&target.gate, &target.signer.sign_with(&header, &claims(ISSUER)))),
        200,
        "they change nothing"
    );
}

#[test]
fn a_kid_reads_no_file_and_asks_no_database() {
    let target = Target::new();
    let long = "k".repeat(10_000);
    for kid in [
        "../../../../../../dev/null",
        "/dev/null",
        "x' UNION SELECT 'secret'; --",
        "|whoami",
        "${jndi:ldap://evil.example/x}",
        "ed\0",
        " ed",
        "ED",
        &long,
    ] {
        target.refuses(kid, &hs256(&json!({"alg": "HS256", "kid": kid}), b""));
        target.refuses(kid, &hs256(&json!({"alg": "HS256", "kid": kid}), b"secret"));
        target.refuses(
            kid,
            &Signer::new("attacker").sign_with(&json!({"alg": "EdDSA", "kid": kid}), &claims(ISSUER)),
        );
    }
    for kid in [json!(1), json!(["ed"]), json!({"ed": 1}), json!(null)] {
        target.refuses(
            "a kid that is no text",
            &target.signer.sign_with(&json!({"alg": "EdDSA", "kid": kid}), &claims(ISSUER)),
        );
    }
}

/// CVE-2022-21449, and its kin: numbers that make the equation true for every message, or that are out of range.
#[test]
fn a_psychic_signature_is_none() {
    let target = Target::new();
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let one: Vec<u8> = [&[0; 31][..], &[1], &[0; 31], &[1]].concat();
    for signature in [
        vec![0; 64],
        [order, order].concat(),
        one,
        vec![0xff; 64],
        vec![0; 63],
        vec![0; 65],
        vec![0; 128],
        [0x30, 6, 2, 1, 0, 2, 1, 0].to_vec(),
    ] {
        target.refuses("ES256", &with_signature(&json!({"alg": "ES256", "kid": "ec"}), &signature));
    }
    for bytes in [0, 1, 64, 131, 132, 133] {
        target.refuses("ES512", &with_signature(&json!({"alg": "ES512", "kid": "p521"}), &vec![0; bytes]));
    }
    for bytes in [0, 63, 64, 65] {
        target.refuses("EdDSA", &with_signature(&json!({"alg": "EdDSA", "kid": "ed"}), &vec![0; bytes]));
    }
    for signature in [vec![0; 256], [&[0; 255][..], &[1]].concat(), vec![0; 255], vec![0xff; 256], vec![]] {
        target.refuses("RS256", &with_signature(&json!({"alg": "RS256", "kid": "rsa"}), &signature));
    }
}

/// A good signature in another writing (DER), with another algorithm's name, or with another key's.
#[test]
fn a_good_signature_counts_for_its_own_algorithm_and_key() {
    let target = Target::new();
    let random = SystemRandom::new();
    let signed = |header: &Value| signing_input(&header.to_string(), &claims(ISSUER).to_string());
    let header = json!({"alg": "ES256", "kid": "ec"});
    let good = target.ecdsa.sign(&random, signed(&header).as_bytes()).expect("signed");
    assert_eq!(status(&ask(&target.gate, &with_signature(&header, good.as_ref()))), 200);
    for other in [
        json!({"alg": "ES256", "kid": "ed"}),
        json!({"alg": "ES384", "kid": "ec"}),
        json!({"alg": "ES256K", "kid": "ec"}),
        json!({"alg": "PS256", "kid": "rsa"}),
    ] {
        let signature = target.ecdsa.sign(&random, signed(&other).as_bytes()).expect("signed");
        target.refuses("another name", &with_signature(&other, signature.as_ref()));
    }
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("made");
    let der =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, made.as_ref(), &random).expect("good");
    let signature = der.sign(&random, signed(&header).as_bytes()).expect("signed");
    target.refuses("DER", &with_signature(&header, signature.as_ref()));
    let token = target.good();
    for changed in [
        format!("{token}="),
        format!("{token}A"),
        token.replace('.', ".."),
        token[..token.len() - 1].to_owned(),
        format!("{token}."),
    ] {
        target.refuses("a changed signature", &changed);
    }
}

#[test]
fn a_token_with_two_meanings_is_refused() {
    let target = Target::new();
    let sign = |header: &str, claims: &str| {
        // Signed by the issuer itself, as by one that lets its clients choose a part of the text.
        let signed = signing_input(header, claims);
        let (_, signature) = target
            .signer
            .sign_with(&json!({}), &json!({}))
            .rsplit_once('.')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .expect("three parts");
        format!("{signed}.{signature}")
    };
    let good = claims(ISSUER).to_string();
    for header in [
        r#"{"alg":"none","alg":"EdDSA","kid":"ed"}"#,
        r#"{"alg":"EdDSA","kid":"ed","kid":"attacker"}"#,
        r#"{"alg":"EdDSA","kid":"ed","\u0061lg":"none"}"#,
    ] {
        target.refuses(header, &sign(header, &good));
    }
    let twice = format!(r#"{},"sub":"admin"}}"#, &good[..good.len() - 1]);
    let header = r#"{"alg":"EdDSA","kid":"ed"}"#;
    let Decision::Refused(refusal) = ask(&target.gate, &sign(header, &twice)) else { panic!("taken") };
    assert_eq!(refusal.reason, "the token's claims are no JSON object with each name once");
}

#[test]
fn extensions_that_change_what_was_signed_are_refused() {
    let target = Target::new();
    for member in [
        json!({"b64": false, "crit": ["b64"]}),
        json!({"b64": false}),
        json!({"crit": ["exp"], "exp": 1}),
        json!({"crit": []}),
        json!({"zip": "DEF"}),
        json!({"enc": "A128GCM"}),
        json!({"crit": ["http://example.com/UNDEFINED"], "http://example.com/UNDEFINED": true}),
        json!({"typ": "logout+jwt"}),
        json!({"typ": "dpop+jwt"}),
    ] {
        let mut header = json!({"alg": "EdDSA", "kid": "ed"});
        header.as_object_mut().expect("an object").extend(member.as_object().expect("an object").clone());
        target.refuses(&member.to_string(), &target.signer.sign_with(&header, &claims(ISSUER)));
    }
}

#[test]
fn a_token_that_is_a_bomb_is_refused_before_it_goes_off() {
    let target = Target::new();
    let deep = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let header = json!({"alg": "EdDSA", "kid": "ed"});
    for depth in [20, 200, 5_000] {
        target.refuses("deep claims", &with_signature_of(&target, &header.to_string(), &deep(depth)));
        target.refuses("a deep header", &with_signature_of(&target, &deep(depth), "{}"));
    }
    let wide = format!(r#"{{"a":[{}0]}}"#, "0,".repeat(5_000));
    target.refuses("wide claims", &with_signature_of(&target, &header.to_string(), &wide));
    let names: Vec<String> = (0..500).map(|at| format!(r#""k{at}":0"#)).collect();
    target.refuses("a wide header", &with_signature_of(&target, &format!("{{{}}}", names.join(",")), "{}"));
    target.refuses("five parts", "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.a.b.c.d");
    target.refuses("dots", &".".repeat(16_000));
    target.refuses("a nested token", &target.signer.sign_with(&header, &json!({"iss": target.good()})));
    let mut claims = claims(ISSUER);
    claims["blob"] = json!("x".repeat(20_000));
    let mut head = RequestHead::new();
    head.fields.append(b"authorization", format!("Bearer {}", target.signer.sign(&claims)).as_bytes());
    assert_eq!(
        status(&decide(&target.gate, ask_with(&target.gate, &head))),
        400,
        "longer than any token may be"
    );
}

fn with_signature_of(target: &Target, header: &str, claims: &str) -> String {
    let token = target.good();
    let (_, signature) = token.rsplit_once('.').expect("three parts");
    format!("{}.{signature}", signing_input(header, claims))
}

#[test]
fn an_empty_or_short_secret_opens_nothing() {
    let house = House::new();
    let secret = b"0123456789abcdef0123456789abcdef";
    let gate = house.gate(issuer(ISSUER, KeySource::Secret(Secret::new(*secret))));
    let header = json!({"alg": "HS256"});
    assert_eq!(status(&ask(&gate, &hs256(&header, secret))), 200);
    for wrong in [&b""[..], &secret[..31], b"0123456789abcdef0123456789abcdef0", &[0; 64]] {
        assert_eq!(status(&ask(&gate, &hs256(&header, wrong))), 401);
    }
    assert_eq!(status(&ask(&gate, &with_signature(&header, b""))), 401);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, secret), b"");
    assert_eq!(
        status(&ask(&gate, &with_signature(&json!({"alg": "HS512"}), tag.as_ref()))),
        401,
        "too short for HS512"
    );
    assert_eq!(status(&ask(&gate, &with_signature(&json!({"alg": "EdDSA"}), &[0; 64]))), 401);
}

#[test]
fn what_was_refused_once_is_not_remembered_as_good_nor_a_good_one_beyond_its_time() {
    let target = Target::new();
    let mut late = claims(ISSUER);
    late["exp"] = json!(now_s() - 61);
    let token = target.signer.sign(&late);
    for _ in 0..3 {
        let Now::Decided(Decision::Refused(refusal)) = ask_now(&target.gate, &token) else { panic!("taken") };
        assert_eq!((refusal.outcome, refusal.reason), ("expired", "the token has expired"));
        let expected =
            r#"Bearer realm="terrace", error="invalid_token", error_description="the token has expired""#;
        assert_eq!(refusal.challenges, [expected]);
    }
    let mut head = RequestHead::new();
    for value in [format!("Bearer {token}"), format!("Bearer {}", target.good())] {
        head.fields.append(b"authorization", value.as_bytes());
    }
    assert_eq!(status(&decide(&target.gate, ask_with(&target.gate, &head))), 400, "two tokens");
    let Now::Decided(Decision::Refused(refusal)) = ask_with(&target.gate, &RequestHead::new()) else {
        panic!("taken")
    };
    assert_eq!(
        (refusal.status, refusal.challenges.as_slice()),
        (401, &[r#"Bearer realm="terrace""#.to_owned()][..]),
        "RFC 6750 section 3.1: no error without a token"
    );
}
