//! One fetch of an instance's metrics: a GET on a connection of its own, bounded in time and bytes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use terrace_signals::series::text::{Dialect, Text, TextBounds, TextError, parse};
use tokio::net::TcpStream;

/// A longer answer is refused.
const BODY_BYTES_MAX: usize = 8 << 20;
/// OpenMetrics first, for it says what is a counter beyond doubt.
const ACCEPT: &str =
    "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// Why there are no numbers. A later fetch may fare better, but for the last.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// The instance's.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// The instance's.
    #[error("it did not answer within {0:?}")]
    Timeout(Duration),
    /// The instance's, or the file's where the path is wrong.
    #[error("it answered with status {0}; check the path in the file (metrics = …)")]
    Status(u16),
    /// The instance's.
    #[error("it broke off: {0}")]
    Broken(String),
    /// The instance's.
    #[error("its answer is larger than 8 MiB")]
    TooLarge,
    /// The app's to put right.
    #[error(transparent)]
    Text(#[from] TextError),
}

/// Fetches and reads. The text is read on a thread for such work, since a large one takes longer than the control plane
/// may stand still.
pub(crate) async fn fetch(
    address: SocketAddr,
    path: &str,
    bounds: TextBounds,
    timeout: Duration,
) -> Result<Text, FetchError> {
    let (dialect, body) = match tokio::time::timeout(timeout, get(address, path, timeout)).await {
        Ok(answered) => answered?,
        Err(_elapsed) => return Err(FetchError::Timeout(timeout)),
    };
    let reading = tokio::task::spawn_blocking(move || parse(&body, dialect, &bounds));
    match reading.await {
        Ok(read) => Ok(read?),
        Err(error) => Err(FetchError::Broken(error.to_string())),
    }
}

async fn get(address: SocketAddr, path: &str, timeout: Duration) -> Result<(Dialect, Bytes), FetchError> {
    let unreachable = |error: std::io::Error| FetchError::Unreachable(error.to_string());
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Ends with the sender, which lives as long as this future does.
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request(address, path, timeout)?).await;
    let read = read(answer.map_err(broken)?).await;
    connection.abort();
    read
}

fn request(address: SocketAddr, path: &str, timeout: Duration) -> Result<Request<Empty<Bytes>>, FetchError> {
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::ACCEPT, ACCEPT)
        .header(header::USER_AGENT, "terrace")
        .header(header::CONNECTION, "close")
        .header("x-prometheus-scrape-timeout-seconds", timeout.as_secs_f64().to_string())
        .body(Empty::new());
    request.map_err(|error| FetchError::Broken(error.to_string()))
}

async fn read(answer: http::Response<hyper::body::Incoming>) -> Result<(Dialect, Bytes), FetchError> {
    if answer.status() != http::StatusCode::OK {
        return Err(FetchError::Status(answer.status().as_u16()));
    }
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let dialect = match kind {
        Some(kind) if kind.trim_start().starts_with("application/openmetrics-text") => Dialect::OpenMetrics,
        _ => Dialect::Prometheus,
    };
    match Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(whole) => Ok((dialect, whole.to_bytes())),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(FetchError::TooLarge),
        Err(error) => Err(FetchError::Broken(error.to_string())),
    }
}

fn broken(error: hyper::Error) -> FetchError {
    FetchError::Broken(error.to_string())
}
