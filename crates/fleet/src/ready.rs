//! Finding out that an instance is ready: asked often at first, for most start within a blink, and then less often.

use std::future::Future;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use terrace_runtime::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{Ready, ReadyKind};

/// Between the first two attempts.
const PAUSE_FROM: Duration = Duration::from_millis(20);
/// Between later ones.
const PAUSE_TO: Duration = Duration::from_millis(250);
/// For one attempt.
const ATTEMPT_TIME: Duration = Duration::from_secs(5);
/// Whoever is not ready by then is told why, long before it is given up.
const TOLD_AFTER: Duration = Duration::from_secs(5);
/// A process that is still there after this has started.
const STARTED_AFTER: Duration = Duration::from_secs(1);
/// A status line ends within this many bytes, or the answer is no HTTP.
const STATUS_LINE_BYTES: usize = 12;

/// Resolves when the instance is ready, or with a sentence when it was not in time. A notification is not awaited
/// here but comes in over the shim; for it only the deadline is. `not_yet` is told once what is wrong where it takes long.
pub(crate) async fn probe(
    ready: Ready,
    address: Option<SocketAddr>,
    not_yet: impl Fn(String),
) -> Result<(), String> {
    let within = ready.within;
    match (ready.kind, address) {
        (ReadyKind::Http { path, status }, Some(address)) => {
            repeat(within, || ask_http(address, path.clone(), status.clone()), not_yet).await
        }
        (ReadyKind::Tcp, Some(address)) => repeat(within, || ask_tcp(address), not_yet).await,
        (ReadyKind::Notify, _) => {
            tokio::time::sleep(within).await;
            Err(format!("it did not send READY=1 to NOTIFY_SOCKET within {within:?}"))
        }
        _ => {
            tokio::time::sleep(STARTED_AFTER.min(within)).await;
            Ok(())
        }
    }
}

async fn repeat<F>(within: Duration, attempt: impl Fn() -> F, not_yet: impl Fn(String)) -> Result<(), String>
where
    F: Future<Output = Result<(), String>>,
{
    let began = clock::now();
    let deadline = began + within;
    let mut is_told = false;
    let mut pause = PAUSE_FROM;
    loop {
        let left = deadline.saturating_sub(clock::now());
        let failure = match timeout(left.min(ATTEMPT_TIME), attempt()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) => failure,
            Err(_) => "it did not answer".to_owned(),
        };
        if clock::now() + pause >= deadline {
            return Err(format!("it was not ready within {within:?}: {failure}"));
        }
        if !is_told && clock::now() >= began + TOLD_AFTER {
            is_told = true;
            not_yet(format!("it is not ready yet: {failure}"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(PAUSE_TO);
    }
}

async fn ask_tcp(address: SocketAddr) -> Result<(), String> {
    connect(address).await.map(drop)
}

async fn ask_http(address: SocketAddr, path: String, wanted: RangeInclusive<u16>) -> Result<(), String> {
    let mut stream = connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nUser-Agent: terrace-ready\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        address.port()
    );
    let unanswered = |error: std::io::Error| format!("GET {path} was not answered: {error}");
    stream.write_all(request.as_bytes()).await.map_err(unanswered)?;
    let mut line = [0; STATUS_LINE_BYTES];
    stream.read_exact(&mut line).await.map_err(unanswered)?;
    match status(&line) {
        Some(status) if wanted.contains(&status) => Ok(()),
        Some(status) => Err(format!("GET {path} was answered with status {status}")),
        None => Err(format!("GET {path} was answered with something that is not HTTP/1")),
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let refused = |why: &str| {
        format!(
            "{address} accepts no connection ({why}); the app must listen on the port in PORT, on 127.0.0.1"
        )
    };
    let stream = TcpStream::connect(address).await.map_err(|error| refused(&error.to_string()))?;
    // A port of the ephemeral range on which nobody listens can by chance be given to our own end, and then TCP's
    // simultaneous open (RFC 9293 section 3.5) connects the socket with itself.
    match stream.local_addr() {
        Ok(own) if own != address => Ok(stream),
        _ => Err(refused("nobody listens")),
    }
}

fn status(line: &[u8; STATUS_LINE_BYTES]) -> Option<u16> {
    let text = std::str::from_utf8(line).ok()?;
    let (version, status) = text.split_once(' ')?;
    if version.starts_with("HTTP/1.") { status.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn answers(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _count = stream.read(&mut request).await;
                let _sent = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    fn http(within_ms: u64) -> Ready {
        let kind = ReadyKind::Http { path: "/health".to_owned(), status: 200..=399 };
        Ready { kind, within: Duration::from_millis(within_ms) }
    }

    #[tokio::test]
    async fn an_answer_in_the_range_is_ready() {
        let address = answers("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(probe(http(60_000), Some(address), drop).await, Ok(()));
    }

    #[tokio::test]
    async fn the_last_failure_says_why_it_is_not_ready() {
        let address = answers("HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        let why = probe(http(50), Some(address), drop).await.expect_err("503 is not ready");
        assert!(why.contains("status 503"), "{why}");
        let address = answers("SSH-2.0-OpenSSH_9.2\r\n").await;
        let why = probe(http(50), Some(address), drop).await.expect_err("no HTTP");
        assert!(why.contains("not HTTP/1"), "{why}");
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_not_ready() {
        let address = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
        let tcp = Ready { kind: ReadyKind::Tcp, within: Duration::from_millis(50) };
        let why = probe(tcp, Some(address), drop).await.expect_err("nobody listens");
        assert!(why.contains("accepts no connection"), "{why}");
    }
}
