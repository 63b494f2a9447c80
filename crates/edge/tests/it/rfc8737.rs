//! The questions of authorities that issue certificates (RFC 8555 section 8.3 and RFC 8737), and clients that come before
//! the certificate does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use terrace_edge::{Certificates, Issuer, Later, Pair, Purpose, Tls, dev_pair};

use crate::rig::{PATIENCE, Rig, Setup};

/// Answers what the test has it answer, and notes what it is asked.
#[derive(Debug)]
struct Played {
    question: Pair,
    is_coming: bool,
    asked: Mutex<Vec<String>>,
}

impl Played {
    fn new(is_coming: bool) -> Arc<Self> {
        Arc::new(Self { question: pair("question.example"), is_coming, asked: Mutex::default() })
    }

    fn note(&self, what: &str) {
        self.asked.lock().expect("no thread panics here").push(what.to_owned());
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no thread panics here").clone()
    }
}

impl Issuer for Played {
    fn http_answer<'a>(&'a self, token: &'a str) -> Later<'a, Option<String>> {
        self.note(token);
        Box::pin(async move { (token == "ours").then(|| "ours.thumbprint".to_owned()) })
    }

    fn tls_answer<'a>(&'a self, host: &'a str) -> Later<'a, Option<Pair>> {
        self.note(host);
        Box::pin(async move { (host == "question.example").then(|| self.question.clone()) })
    }

    fn is_coming(&self, host: &str) -> bool {
        self.note(host);
        self.is_coming
    }
}

fn pair(name: &str) -> Pair {
    dev_pair(vec![name.to_owned()]).expect("a certificate")
}

/// A listener whose certificates are issued, and has none yet.
fn rig(issuer: &Arc<Played>, handshake: Duration) -> (Rig, Arc<Certificates>) {
    let issuer: Arc<dyn Issuer> = Arc::clone(issuer) as Arc<dyn Issuer>;
    let tls = Tls { http2: true, issuer: Some(Arc::clone(&issuer)), ..Tls::default() };
    let certificates = Arc::new(Certificates::build(&tls).expect("valid"));
    let shown = Arc::clone(&certificates);
    let rig = Rig::with(|setup: &mut Setup| {
        setup.listener.tls = Some(shown);
        setup.listener.bounds.head_time = handshake;
        setup.issuer = Some(issuer);
    });
    (rig, certificates)
}

/// A handshake with that certificate's server, offering these protocols.
fn shake(
    rig: &Rig,
    name: &str,
    believed: &Pair,
    alpn: &[&[u8]],
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    let certificate = rustls::pki_types::CertificateDer::from_pem_slice(&believed.certificates_pem);
    roots.add(certificate.expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut stream = TcpStream::connect(rig.address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("valid");
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

#[test]
fn rfc8555_8_3_a_question_is_answered_before_any_redirect_or_route() {
    let issuer = Played::new(false);
    let (rig, _) = rig(&issuer, PATIENCE);
    let mut client =
        rig.client_that_sent("GET /.well-known/acme-challenge/ours HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status(), answer.field("content-type")), (200, Some("application/octet-stream")));
    assert_eq!(answer.text(), "ours.thumbprint");
    client.send("GET /.well-known/acme-challenge/theirs HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(client.response().status(), 308, "what is not ours goes the way of any request");
    assert_eq!(issuer.asked(), ["ours", "theirs"]);
    rig.origin.heard_nothing();
}

#[test]
fn a_neighbour_inside_asks_no_such_questions() {
    let issuer = Played::new(false);
    let given: Arc<dyn Issuer> = Arc::clone(&issuer) as Arc<dyn Issuer>;
    let rig = Rig::with(|setup: &mut Setup| {
        setup.listener.purpose = Purpose::Internal { route: 0 };
        setup.issuer = Some(given);
    });
    let _client =
        rig.client_that_sent("GET /.well-known/acme-challenge/ours HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert!(rig.origin.accept().request().line.contains("acme-challenge"));
    assert!(issuer.asked().is_empty());
}

#[test]
fn rfc8737_3_a_handshake_that_offers_that_protocol_alone_is_the_answer() {
    let issuer = Played::new(false);
    let (rig, certificates) = rig(&issuer, PATIENCE);
    certificates.replace_pairs(&[pair("question.example")]).expect("valid");
    let mut answered = shake(&rig, "question.example", &issuer.question, &[b"acme-tls/1"]).expect("answered");
    assert_eq!(answered.conn.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    let _sent = answered.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let mut rest = Vec::new();
    let _ended = answered.read_to_end(&mut rest);
    assert!(rest.is_empty(), "nothing is served on it");
    // Somebody else's host, no host, and a client that speaks something besides.
    assert!(shake(&rig, "other.example", &issuer.question, &[b"acme-tls/1"]).is_err());
    assert!(shake(&rig, "127.0.0.1", &issuer.question, &[b"acme-tls/1"]).is_err());
    assert!(shake(&rig, "question.example", &issuer.question, &[b"acme-tls/1", b"h2"]).is_err());
    assert_eq!(issuer.asked(), ["question.example", "other.example"]);
    rig.origin.heard_nothing();
}

#[test]
fn a_client_waits_for_a_certificate_that_is_coming() {
    let issuer = Played::new(true);
    let (rig, certificates) = rig(&issuer, PATIENCE);
    let issued = pair("a.example");
    std::thread::scope(|scope| {
        let client = scope.spawn(|| shake(&rig, "A.example", &issued, &[b"http/1.1"]).map(drop));
        while issuer.asked().is_empty() {
            std::thread::yield_now();
        }
        certificates.replace_pairs(std::slice::from_ref(&issued)).expect("valid");
        client.join().expect("no panic").expect("it is shown what has come");
    });
    assert_eq!(issuer.asked(), ["a.example"]);
}

#[test]
fn rfc6066_3_a_client_is_told_that_there_is_no_certificate_for_the_name() {
    for is_coming in [false, true] {
        let issuer = Played::new(is_coming);
        let (rig, _) = rig(&issuer, Duration::from_millis(500));
        let error = shake(&rig, "a.example", &issuer.question, &[]).expect_err("there is none");
        assert!(error.to_string().contains("UnrecognisedName"), "{error}");
        assert_eq!(issuer.asked(), ["a.example"]);
    }
}

#[test]
fn who_asks_for_no_name_or_a_strangers_meets_the_first_certificate() {
    let issuer = Played::new(false);
    let (rig, certificates) = rig(&issuer, PATIENCE);
    let first = pair("127.0.0.1");
    certificates.replace_pairs(&[first.clone(), pair("a.example")]).expect("valid");
    shake(&rig, "127.0.0.1", &first, &[]).expect("it is the first one's");
    let error = shake(&rig, "stranger.example", &first, &[]).expect_err("it is not the stranger's");
    assert!(error.to_string().contains("certificate"), "{error}");
}
