//! gRPC-Web byte for byte (grpc/doc/PROTOCOL-WEB.md): browsers' calls in HTTP/1.1 before a gRPC server of HTTP/2.

use bytes::Bytes;
use data_encoding::BASE64;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use terrace_edge::{Guards, Route};
use tokio::net::{TcpListener, TcpStream};

use crate::message::Message;
use crate::rig::{PATIENCE, Peer, Rig, route};
use crate::traffic::forward;

type Connection = h2::server::Connection<TcpStream, Bytes>;

/// The message `hi`, framed.
const HI: &[u8] = b"\0\0\0\0\x02hi";

fn rig() -> Rig {
    Rig::with(|setup| {
        setup.upstream.protocol = terrace_upstream::Protocol::H2;
        let guards = Guards { grpc_web: true, ..Guards::default() };
        let action = forward(setup, &[1]);
        setup.routes.push(Route { guards: Some(Box::new(guards)), ..route("rpc", "/shop.Orders/*", action) });
    })
}

/// Runs the service's side beside the test's.
fn run<T>(service: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, service).await.expect("it hangs") })
}

async fn connection(rig: &Rig) -> Connection {
    let listener = TcpListener::from_std(rig.origin.listener()).expect("in a runtime");
    let (stream, _) = listener.accept().await.expect("the edge connects");
    h2::server::handshake(stream).await.expect("a client of HTTP/2")
}

/// A call as a browser makes it.
fn call(content_type: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /shop.Orders/Get HTTP/1.1\r\nHost: a.example\r\nContent-Type: {content_type}\r\nX-Grpc-Web: 1\r\n\
         {fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// What the service was sent.
async fn whole(request: Request<h2::RecvStream>) -> (HeaderMap, Vec<u8>) {
    let (parts, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        body.extend(data.expect("it comes whole"));
    }
    (parts.headers, body)
}

/// The value of a field; empty where there is none.
fn field<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().expect("text"))
}

fn ok_head() -> Response<()> {
    Response::builder().header("content-type", "application/grpc+proto").body(()).expect("a head")
}

fn trailers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)))
        .collect()
}

/// Serves one call: `answer` says it, and gets what was asked.
fn exchange(
    rig: &Rig,
    asked: Vec<u8>,
    answer: impl FnOnce(&mut SendResponse<Bytes>),
) -> (HeaderMap, Vec<u8>, Message) {
    let mut client = rig.client_that_sent(asked);
    run(async {
        let mut connection = connection(rig).await;
        let (request, mut respond) = connection.accept().await.expect("a stream").expect("a stream");
        let read = tokio::spawn(whole(request));
        let (headers, body) = tokio::select! {
            read = read => read.expect("no panic"),
            _ = connection.accept() => panic!("no further stream"),
        };
        answer(&mut respond);
        let got = tokio::task::spawn_blocking(move || client.response());
        tokio::select! {
            got = got => (headers, body, got.expect("read")),
            _ = connection.accept() => panic!("no further stream"),
        }
    })
}

fn say_hi(respond: &mut SendResponse<Bytes>) {
    let mut stream = respond.send_response(ok_head(), false).expect("open");
    stream.send_data(Bytes::from_static(HI), false).expect("open");
    let fields = [("grpc-status", "0"), ("grpc-message", "fine"), ("grpc-retry-pushback-ms", "-1")];
    stream.send_trailers(trailers(&fields)).expect("open");
}

const TRAILERS: &[u8] =
    b"\x80\0\0\0\x40grpc-status: 0\r\ngrpc-message: fine\r\ngrpc-retry-pushback-ms: -1\r\n";

#[test]
fn a_call_reaches_a_grpc_server_and_its_trailers_reach_the_browser() {
    let rig = rig();
    let asked = call("application/grpc-web+proto", "Grpc-Timeout: 5S\r\n", HI);
    let (headers, body, got) = exchange(&rig, asked, say_hi);
    assert_eq!(
        (field(&headers, "content-type"), field(&headers, "te")),
        ("application/grpc+proto", "trailers")
    );
    assert!(!headers.contains_key("x-grpc-web") && headers.contains_key("grpc-timeout"));
    assert_eq!(body, HI);
    assert_eq!((got.status(), got.field("content-type")), (200, Some("application/grpc-web+proto")));
    assert_eq!(String::from_utf8_lossy(&got.body), String::from_utf8_lossy(&[HI, TRAILERS].concat()));
    assert!(got.trailers.is_empty(), "a browser could not read them");
}

#[test]
fn text_is_base64_in_both_directions() {
    let rig = rig();
    // Padding may stand in the midst, where the client let go of what it had.
    let text = format!("{}{}", BASE64.encode(&HI[..4]), BASE64.encode(&HI[4..]));
    let (headers, body, got) = exchange(&rig, call("application/grpc-web-text", "", text.as_bytes()), say_hi);
    assert_eq!(
        (field(&headers, "content-type"), field(&headers, "content-length")),
        ("application/grpc", "")
    );
    assert_eq!(body, HI);
    assert_eq!(got.field("content-type"), Some("application/grpc-web-text+proto"));
    // Each quarter is a group of its own, so padding in the midst does not matter.
    let groups = got.body.chunks(4).map(|group| BASE64.decode(group).expect("base64"));
    assert_eq!(groups.collect::<Vec<_>>().concat(), [HI, TRAILERS].concat());
}

#[test]
fn decoded_text_is_shorter_than_it_said_and_http_1_is_told_by_chunks() {
    let rig = Rig::with(|setup| {
        let guards = Guards { grpc_web: true, ..Guards::default() };
        let action = forward(setup, &[1]);
        setup.routes.push(Route { guards: Some(Box::new(guards)), ..route("rpc", "/shop.Orders/*", action) });
    });
    let mut client =
        rig.client_that_sent(call("application/grpc-web-text", "", BASE64.encode(HI).as_bytes()));
    let mut origin = rig.origin.accept();
    let seen = origin.request();
    assert_eq!((seen.field("transfer-encoding"), &*seen.body), (Some("chunked"), HI));
    origin.send(
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n\
         7\r\n\0\0\0\0\x02hi\r\n0\r\ngrpc-status: 0\r\n\r\n",
    );
    let groups = client.response().body;
    let groups = groups.chunks(4).map(|group| BASE64.decode(group).expect("base64"));
    assert_eq!(groups.collect::<Vec<_>>().concat(), [HI, b"\x80\0\0\0\x10grpc-status: 0\r\n"].concat());
}

#[test]
fn a_stream_of_messages_is_seen_one_by_one() {
    let rig = rig();
    let mut client =
        rig.client_that_sent(call("application/grpc-web-text", "", BASE64.encode(HI).as_bytes()));
    run(async {
        let mut connection = connection(&rig).await;
        let (_request, mut respond) = connection.accept().await.expect("a stream").expect("a stream");
        let mut stream = respond.send_response(ok_head(), false).expect("open");
        for round in 0..3 {
            stream.send_data(Bytes::from_static(HI), false).expect("open");
            // The service has not said more: the browser has this message all the same, in groups that are whole.
            let read = tokio::task::spawn_blocking(move || {
                if round == 0 {
                    client.head();
                }
                let mut text = Vec::new();
                while text.len() < BASE64.encode_len(HI.len()) {
                    text.extend(chunk(&mut client));
                }
                (client, text)
            });
            let text;
            (client, text) = tokio::select! {
                read = read => read.expect("no panic"),
                _ = connection.accept() => panic!("no further stream"),
            };
            let groups = text.chunks(4).map(|group| BASE64.decode(group).expect("base64"));
            assert_eq!(groups.collect::<Vec<_>>().concat(), HI, "{round}");
        }
    });
}

fn chunk(client: &mut Peer) -> Vec<u8> {
    let line = client.until("\r\n");
    let size = usize::from_str_radix(line.trim_end(), 16).expect("a plain size");
    let data = client.exactly(size);
    client.exactly(2);
    data
}

#[test]
fn trailers_alone_stay_in_the_head() {
    let rig = rig();
    let (_, _, got) = exchange(&rig, call("application/grpc-web", "", HI), |respond| {
        let head = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "5")
            .header("grpc-message", "no such order");
        respond.send_response(head.body(()).expect("a head"), true).expect("open");
    });
    assert_eq!((got.field("grpc-status"), got.field("grpc-message")), (Some("5"), Some("no such order")));
    assert_eq!((got.field("content-type"), got.body.len()), (Some("application/grpc-web"), 0));
}

#[test]
fn what_a_service_says_that_is_no_grpc_is_a_status_of_grpc() {
    let rig = rig();
    let (_, _, got) = exchange(&rig, call("application/grpc-web", "", HI), |respond| {
        let head = Response::builder().status(404).header("content-type", "text/html");
        let mut stream = respond.send_response(head.body(()).expect("a head"), false).expect("open");
        stream.send_data(Bytes::from_static(b"<h1>lost</h1>"), true).expect("open");
    });
    assert_eq!((got.status(), got.field("grpc-status"), got.body.len()), (200, Some("12"), 0));
    // The next call goes well.
    let (_, body, got) = exchange(&rig, call("application/grpc-web", "", HI), say_hi);
    assert_eq!((&*body, got.status()), (HI, 200));
}

#[test]
fn an_end_without_a_status_is_told() {
    let rig = rig();
    let (_, _, got) = exchange(&rig, call("application/grpc-web", "", HI), |respond| {
        let mut stream = respond.send_response(ok_head(), false).expect("open");
        stream.send_data(Bytes::from_static(HI), true).expect("open");
    });
    assert_eq!(&got.body[..HI.len()], HI);
    let frame = String::from_utf8_lossy(&got.body[HI.len() + 5..]).into_owned();
    assert!(frame.starts_with("grpc-status: 2\r\n"), "{frame}");
}

#[test]
fn terraces_own_answers_are_of_grpc_too() {
    let rig = rig();
    let mut client = rig.client_that_sent(call("application/grpc-web-text", "", b"AAAAAAJoaQ="));
    let answered = run(async {
        let mut connection = connection(&rig).await;
        let read = tokio::task::spawn_blocking(move || client.response());
        let served = async {
            while let Some(stream) = connection.accept().await {
                drop(stream);
            }
        };
        tokio::select! {
            read = read => read.expect("no panic"),
            () = served => panic!("the edge closed the connection"),
        }
    });
    assert_eq!(answered.status(), 200);
    assert_eq!(answered.field("content-type"), Some("application/grpc-web-text"));
    assert_eq!(answered.field("grpc-status"), Some("13"));
    let message = answered.field("grpc-message").expect("a message");
    assert!(message.contains("base64"), "{message}");
}

#[test]
fn other_requests_of_the_route_are_left_alone() {
    let rig = rig();
    let asked =
        b"POST /shop.Orders/Get HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nTE: trailers\r\n\
                  Content-Length: 7\r\n\r\n\0\0\0\0\x02hi";
    let (headers, body, got) = exchange(&rig, asked.to_vec(), say_hi);
    assert_eq!((field(&headers, "content-type"), &*body), ("application/grpc", HI));
    assert_eq!((got.field("content-type"), &*got.body), (Some("application/grpc+proto"), HI));
    assert_eq!(got.trailers[0], ("grpc-status".to_owned(), "0".to_owned()));
}
