//! Endpoints that speak HTTP/2 behind clients of HTTP/1: a well-behaved server of the `h2` crate, told what to do.

use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{PATIENCE, Rig, respond};

type Connection = h2::server::Connection<TcpStream, Bytes>;

fn rig() -> Rig {
    Rig::with(|setup| {
        setup.upstream.protocol = terrace_upstream::Protocol::H2;
        setup.routes.push(respond("own", "/own", 200, "own"));
    })
}

/// Runs the origin's side beside the test's.
fn run<T>(origin: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, origin).await.expect("it hangs") })
}

fn listener(rig: &Rig) -> TcpListener {
    TcpListener::from_std(rig.origin.listener()).expect("in a runtime")
}

async fn connection(listener: &TcpListener) -> Connection {
    let (stream, _) = listener.accept().await.expect("the edge connects");
    h2::server::handshake(stream).await.expect("a client of HTTP/2")
}

async fn next(connection: &mut Connection) -> (Request<h2::RecvStream>, SendResponse<Bytes>) {
    connection.accept().await.expect("a stream").expect("a stream")
}

fn say(respond: &mut SendResponse<Bytes>, body: &'static str) {
    let mut stream = respond.send_response(Response::new(()), false).expect("open");
    stream.send_data(Bytes::from_static(body.as_bytes()), true).expect("open");
}

#[test]
fn a_request_of_http_1_becomes_one_of_http_2() {
    let rig = rig();
    let mut client = rig.client_that_sent(
        "GET /x?y HTTP/1.1\r\nHost: A.example:81\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nTE: trailers\r\nX-Kept: 2\r\n\r\n",
    );
    run(async {
        let mut connection = connection(&listener(&rig)).await;
        let (request, mut respond) = next(&mut connection).await;
        assert_eq!(request.uri().to_string(), "http://A.example:81/x?y");
        let field = |name| request.headers().get(name).map(|value| value.to_str().expect("text"));
        assert_eq!((field("te"), field("x-kept"), field("x-hop")), (Some("trailers"), Some("2"), None));
        assert_eq!((field("connection"), field("host")), (None, None));
        say(&mut respond, "ok");
        drop(respond);
        let answer = tokio::task::spawn_blocking(move || client.response());
        tokio::select! {
            answer = answer => assert_eq!(answer.expect("read").text(), "ok"),
            _ = connection.accept() => panic!("no further stream"),
        }
    });
}

#[test]
fn a_target_that_is_no_uri_is_encoded_and_is_nobodys_fault() {
    let rig = rig();
    let _client = rig.client_that_sent("GET /a<b>\"c\"^`{|}?q=<s>\"|^\\ HTTP/1.1\r\nHost: a\r\n\r\n");
    run(async {
        let mut connection = connection(&listener(&rig)).await;
        let (request, _respond) = next(&mut connection).await;
        let target = request.uri().path_and_query().expect("a path").as_str();
        assert!(target.starts_with("/a%3Cb%3E") && target.contains("?q=%3Cs%3E"), "{target}");
    });
}

#[test]
fn what_cannot_be_said_in_http_2_is_the_clients_fault() {
    let rig = rig();
    let mut client = rig.client_that_sent("GET / HTTP/1.1\r\nHost:\r\n\r\n");
    run(async {
        let listener = listener(&rig);
        let served = async {
            let mut connection = connection(&listener).await;
            while let Some(stream) = connection.accept().await {
                drop(stream);
            }
        };
        let answer = tokio::task::spawn_blocking(move || client.response());
        tokio::select! {
            answer = answer => {
                let answer = answer.expect("read");
                assert_eq!(answer.status(), 400);
                assert!(answer.text().contains("\"fault\":\"client\""), "{}", answer.text());
            }
            () = served => panic!("the edge closed the connection"),
        }
    });
}

#[test]
fn a_connection_that_said_goaway_takes_no_new_request_while_it_ends_the_old() {
    let rig = rig();
    let mut slow = rig.client_that_sent("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    run(async {
        let listener = listener(&rig);
        let mut old = connection(&listener).await;
        let (_, mut slow_respond) = next(&mut old).await;
        old.graceful_shutdown();
        let driving = tokio::spawn(async move { while old.accept().await.is_some() {} });
        // Each request after GOAWAY is answered on another connection; which of them is the first, timing decides.
        let clients = tokio::task::spawn_blocking({
            let address = rig.address;
            move || {
                for _ in 0..20 {
                    let mut client =
                        crate::rig::Peer::new(std::net::TcpStream::connect(address).expect("accepted"));
                    client.send("GET /new HTTP/1.1\r\nHost: a\r\n\r\n");
                    assert_eq!(client.response().text(), "new");
                }
            }
        });
        let serving = tokio::spawn(async move {
            let mut new = connection(&listener).await;
            while let Some(Ok((_, mut respond))) = new.accept().await {
                say(&mut respond, "new");
            }
        });
        clients.await.expect("all were answered");
        say(&mut slow_respond, "slow");
        drop(slow_respond);
        let answer = tokio::task::spawn_blocking(move || slow.response()).await.expect("read");
        assert_eq!(answer.text(), "slow");
        serving.abort();
        driving.await.expect("it ended in good order");
    });
}

#[test]
fn an_upgrade_is_not_asked_of_an_endpoint_that_has_none() {
    let rig = rig();
    let _client = rig.client_that_sent(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
    );
    run(async {
        let mut connection = connection(&listener(&rig)).await;
        let (request, _respond) = next(&mut connection).await;
        assert_eq!(request.method(), "GET");
        assert!(!request.headers().contains_key("upgrade"));
    });
}

#[test]
fn a_reset_stream_is_never_a_whole_answer() {
    let rig = rig();
    let mut client = rig.client_that_sent("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    run(async {
        let mut connection = connection(&listener(&rig)).await;
        let (_, mut respond) = next(&mut connection).await;
        let mut stream = respond.send_response(Response::new(()), false).expect("open");
        stream.send_data(Bytes::from_static(b"abc"), false).expect("open");
        let driving = tokio::spawn(async move { while connection.accept().await.is_some() {} });
        let mut client = tokio::task::spawn_blocking(move || {
            client.until("abc");
            client
        })
        .await
        .expect("it began");
        stream.send_reset(h2::Reason::INTERNAL_ERROR);
        let rest = tokio::task::spawn_blocking(move || client.rest()).await.expect("it ended");
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&rest));
        driving.abort();
    });
}

#[test]
fn a_stream_that_was_refused_is_sent_again_even_with_a_method_that_must_not_be_sent_twice() {
    let rig = rig();
    let mut client = rig.client_that_sent("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    run(async {
        let mut connection = connection(&listener(&rig)).await;
        let (_, mut respond) = next(&mut connection).await;
        respond.send_reset(h2::Reason::REFUSED_STREAM);
        drop(respond);
        let (request, mut respond) = next(&mut connection).await;
        assert_eq!(request.method(), "POST");
        say(&mut respond, "ok");
        let driving = tokio::spawn(async move { while connection.accept().await.is_some() {} });
        let answer = tokio::task::spawn_blocking(move || client.response()).await.expect("read");
        assert_eq!(answer.text(), "ok");
        driving.abort();
    });
}

#[test]
fn an_endpoint_that_does_not_speak_http_2_is_a_bad_gateway() {
    let rig = Rig::with(|setup| {
        setup.upstream.protocol = terrace_upstream::Protocol::H2;
        setup.policy.retry.attempts_max = 1;
        setup.policy.timeouts.connect = Some(Duration::from_secs(5));
    });
    let mut client = rig.client_that_sent("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut origin = rig.origin.accept();
    origin.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().status(), 502);
}

#[test]
fn a_connection_on_which_no_answer_came_in_time_takes_no_new_request() {
    let rig = Rig::with(|setup| {
        setup.upstream.protocol = terrace_upstream::Protocol::H2;
        setup.policy.timeouts.first_byte = Some(Duration::from_millis(200));
        setup.policy.retry.attempts_max = 1;
    });
    let mut waits = rig.client_that_sent("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    run(async {
        let listener = listener(&rig);
        let mut old = connection(&listener).await;
        let (_request, _no_answer) = next(&mut old).await;
        let answer = tokio::task::spawn_blocking(move || waits.response());
        assert_eq!(answer.await.expect("read").status(), 504);
        let mut client = rig.client_that_sent("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut new = connection(&listener).await;
        let (request, mut respond) = next(&mut new).await;
        assert_eq!(request.uri().path(), "/next", "on a connection of its own");
        say(&mut respond, "ok");
        let driving = tokio::spawn(async move { while new.accept().await.is_some() {} });
        let answer = tokio::task::spawn_blocking(move || client.response()).await.expect("read");
        assert_eq!(answer.text(), "ok");
        driving.abort();
    });
}
