//! Active checks against endpoints of our own on loopback that answer, fail and fall silent as told. Thresholds are
//! counted in checks, never in time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use proptest::prelude::*;
use terrace_instruments::{Log, Meter};
use terrace_runtime::drain;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;
use crate::config::{Config, Probe, Protocol, ProxyProtocol, Roots, TlsConfig};
use crate::id::IdentityKey;
use crate::roster::{Member, MemberState};

const LAW: HealthCheck = HealthCheck {
    probe: Probe::Tcp,
    interval: Duration::from_secs(2),
    timeout: Duration::from_secs(1),
    up: 2,
    down: 3,
};

/// Plays results ('.' passed, 'x' failed) to an endpoint and answers what it becomes at each.
fn play(start: Health, results: &str) -> String {
    let (mut streak, mut health) = (Streak::default(), start);
    let step = |result| {
        let verdict = match result {
            '.' => streak.passed(&LAW, health),
            _ => streak.failed(&LAW, health),
        };
        health = verdict.unwrap_or(health);
        match health {
            Health::Unknown => '?',
            Health::Up => 'U',
            Health::Down => 'D',
        }
    };
    results.chars().map(step).collect()
}

#[test]
fn the_first_check_decides_alone() {
    assert_eq!(play(Health::Unknown, "."), "U");
    assert_eq!(play(Health::Unknown, "x"), "D");
}

#[test]
fn three_failures_in_a_row_take_it_down_and_two_passes_bring_it_up() {
    assert_eq!(play(Health::Up, "xx.xx.xxx"), "UUUUUUUUD");
    assert_eq!(play(Health::Down, ".x.x.."), "DDDDDU");
}

proptest! {
    #[test]
    fn intervals_differ_by_a_tenth_at_most(random: u64) {
        let interval = jittered(LAW.interval, random);
        prop_assert!(interval >= LAW.interval * 9 / 10 && interval <= LAW.interval * 11 / 10);
    }
}

/// Checks every few milliseconds, each without a hurry: only a test of silence lowers the timeout.
fn config(probe: Probe) -> Config {
    let health = HealthCheck {
        probe,
        interval: Duration::from_millis(5),
        timeout: Duration::from_secs(60),
        up: 2,
        down: 2,
    };
    Config { health: Some(health), ..Config::new("orders", IdentityKey([1; 16])) }
}

fn http(path: &str) -> Probe {
    Probe::Http { path: path.into(), host: None, status: (200, 399) }
}

/// An upstream with one endpoint, checked until the returned drainer is gone.
fn checked(config: Config, address: SocketAddr) -> (Arc<Upstream>, drain::Drainer) {
    let upstream = Upstream::build(config, &Meter::new(1), &Log::discard()).expect("a fine configuration");
    upstream.publish(&[Member::new("orders-0", address)], clock::now());
    let (drainer, drain) = drain::channel();
    tokio::spawn(check(Arc::clone(&upstream), drain));
    (upstream, drainer)
}

/// Resolves when the endpoint has this health.
async fn becomes(upstream: &Upstream, health: Health) {
    let mut changes = upstream.changes();
    while upstream.report(clock::now())[0].health != health {
        changes.changed().await.expect("the upstream is held here");
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

/// What comes before the body, or before the other side closes.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, status: u16) {
    read_head(&mut stream).await;
    let head = format!("HTTP/1.1 {status} Told\r\nContent-Length: 2\r\n\r\nok");
    // A checker that has gone away is no failure of the server's.
    let _ = stream.write_all(head.as_bytes()).await;
}

/// A server that answers as told, where 0 is silence.
async fn server(status: Arc<AtomicU16>) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            match status.load(Ordering::Relaxed) {
                0 => silent.push(stream),
                status => answer(stream, status).await,
            }
        }
    });
    address
}

#[tokio::test]
async fn an_endpoint_that_answers_badly_goes_down_and_comes_back_when_it_answers_well() {
    let status = Arc::new(AtomicU16::new(200));
    let address = server(Arc::clone(&status)).await;
    let (upstream, _drainer) = checked(config(http("/health")), address);
    becomes(&upstream, Health::Up).await;
    status.store(500, Ordering::Relaxed);
    becomes(&upstream, Health::Down).await;
    status.store(204, Ordering::Relaxed);
    becomes(&upstream, Health::Up).await;
}

#[tokio::test]
async fn an_endpoint_that_keeps_the_connection_open_has_answered_all_the_same() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            open.push(stream);
        }
    });
    let (upstream, _drainer) = checked(config(http("/health")), address);
    becomes(&upstream, Health::Up).await;
}

#[tokio::test]
async fn silence_is_a_failure() {
    let address = server(Arc::new(AtomicU16::new(0))).await;
    let mut config = config(http("/health"));
    config.health.as_mut().expect("it has checks").timeout = Duration::from_millis(20);
    let (upstream, _drainer) = checked(config, address);
    becomes(&upstream, Health::Down).await;
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_down_and_up_once_somebody_does() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port on loopback");
    let address = socket.local_addr().expect("its address");
    let (upstream, _drainer) = checked(config(Probe::Tcp), address);
    becomes(&upstream, Health::Down).await;
    let _listener = socket.listen(16).expect("a listening socket");
    becomes(&upstream, Health::Up).await;
}

#[tokio::test]
async fn a_reload_changes_what_is_asked() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = read_head(&mut stream).await;
            let status = if head.starts_with("GET /new ") { "404" } else { "200" };
            let _ = stream.write_all(format!("HTTP/1.1 {status} Told\r\n\r\n").as_bytes()).await;
        }
    });
    let (upstream, _drainer) = checked(config(http("/old")), address);
    becomes(&upstream, Health::Up).await;
    upstream.apply(config(http("/new")), clock::now()).expect("a fine configuration");
    becomes(&upstream, Health::Down).await;
}

#[tokio::test]
async fn checks_follow_the_published_set_and_end_with_the_configuration() {
    let address = server(Arc::new(AtomicU16::new(200))).await;
    let config = config(http("/health"));
    let upstream =
        Upstream::build(config.clone(), &Meter::new(1), &Log::discard()).expect("a fine configuration");
    let mut checks = Checks::default();
    let mut count_with = |members: &[Member]| {
        upstream.publish(members, clock::now());
        checks.follow(&upstream);
        checks.by_endpoint.len()
    };
    let (one, two) = (Member::new("orders-1", address), Member::new("orders-2", address));
    assert_eq!(count_with(&[one.clone(), two.clone()]), 2);
    assert_eq!(count_with(&[one.clone(), Member { state: MemberState::Closed, ..two }]), 1);
    assert_eq!(count_with(&[]), 0);
    count_with(&[one]);
    upstream.apply(Config { health: None, ..config }, clock::now()).expect("a fine configuration");
    checks.follow(&upstream);
    assert!(checks.by_endpoint.is_empty());
}

#[tokio::test]
async fn what_the_fleet_found_ready_is_up_before_any_check() {
    let upstream =
        Upstream::build(config(Probe::Tcp), &Meter::new(1), &Log::discard()).expect("a fine configuration");
    let (_listener, address) = listen().await;
    let ready = Member { state: MemberState::Ready, ..Member::new("orders-0", address) };
    upstream.publish(&[ready, Member::new("orders-1", address)], clock::now());
    let report = upstream.report(clock::now());
    assert_eq!([report[0].health, report[1].health], [Health::Up, Health::Unknown]);
    assert!(report[1].is_candidate, "unknown is usable");
}

#[tokio::test]
async fn an_upstream_that_expects_a_proxy_header_gets_one_from_checks() {
    for (version, expected) in [
        (ProxyProtocol::V1, &b"PROXY UNKNOWN\r\nGET /health "[..]),
        (ProxyProtocol::V2, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET /health "),
    ] {
        let (listener, address) = listen().await;
        let proxied = Config { proxy_protocol_out: version, ..config(http("/health")) };
        let (_upstream, _drainer) = checked(proxied, address);
        let (mut stream, _): (TcpStream, _) = listener.accept().await.expect("a check");
        let mut start = vec![0; expected.len()];
        stream.read_exact(&mut start).await.expect("a header and a request");
        assert_eq!(start, expected);
    }
}

#[tokio::test]
async fn an_http2_endpoint_is_asked_in_http2() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let status = if request.uri().path() == "/health" { 200 } else { 404 };
                    let response = http::Response::builder().status(status).body(()).expect("a response");
                    respond.send_response(response, true).expect("the checker waits");
                }
            });
        }
    });
    let (upstream, _drainer) = checked(Config { protocol: Protocol::H2, ..config(http("/health")) }, address);
    becomes(&upstream, Health::Up).await;
    upstream
        .apply(Config { protocol: Protocol::H2, ..config(http("/missing")) }, clock::now())
        .expect("a fine configuration");
    becomes(&upstream, Health::Down).await;
}

/// A TLS server for `localhost`, and its certificate in PEM.
async fn tls_server() -> (SocketAddr, String) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports them")
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .expect("key and certificate match");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, 200).await;
            }
        }
    });
    (address, signed.cert.pem())
}

#[tokio::test]
async fn an_endpoint_with_tls_is_checked_through_tls_and_only_if_its_certificate_is_believed() {
    let (address, certificate) = tls_server().await;
    let with_name = |name: &str| {
        let roots = Roots::Pem(certificate.as_bytes().into());
        let tls = TlsConfig { server_name: Some(name.to_owned()), roots, client: None };
        Config { tls: Some(tls), ..config(http("/health")) }
    };
    let (believed, _drainer) = checked(with_name("localhost"), address);
    becomes(&believed, Health::Up).await;
    let (mistaken, _drainer) = checked(with_name("example.com"), address);
    becomes(&mistaken, Health::Down).await;
}
