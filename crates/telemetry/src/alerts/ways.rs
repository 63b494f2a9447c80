//! One attempt to tell one receiver, in the way it wants to be told.

use std::time::Duration;

use bytes::Bytes;
use terrace_signals::alerts::Notification;

use super::mail::{self, Post};
use super::{body, command};
use crate::config::{Receiver, Secret, Way};
use terrace_fetch::{Client, ClientError};

/// One attempt over the network takes at most this long.
const ATTEMPT: Duration = Duration::from_secs(10);
/// A program may think longer.
const COMMAND: Duration = Duration::from_secs(30);

/// Why an attempt failed. Its text names no secret: not the path of an address, nor a field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: String,
    /// Whether the same message may fare better later.
    pub(super) may_pass: bool,
}

impl Refusal {
    pub(super) fn for_good(reason: String) -> Self {
        Self { reason, may_pass: false }
    }

    pub(super) fn for_now(reason: String) -> Self {
        Self { reason, may_pass: true }
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        Self { reason: error.to_string(), may_pass: error.is_retryable() }
    }
}

/// Tells `receiver` once.
pub(super) async fn tell(
    client: &Client,
    receiver: &Receiver,
    message: &Notification,
) -> Result<(), Refusal> {
    match &receiver.way {
        Way::Webhook { url, headers } => post(client, url, headers, body::webhook(message)).await,
        Way::Slack { url } => post(client, url, &[], body::slack(message)).await,
        Way::Email { server, login, from, to } => {
            mail::send(Post { server, login: login.as_ref(), from, to }, message, ATTEMPT).await
        }
        Way::Command(words) => {
            command::run(words, &body::webhook(message), COMMAND).await.map_err(Refusal::for_now)
        }
    }
}

async fn post(
    client: &Client,
    url: &Secret,
    headers: &[(String, Secret)],
    body: Vec<u8>,
) -> Result<(), Refusal> {
    let mut fields = vec![("content-type".to_owned(), "application/json".to_owned())];
    for (name, value) in headers {
        fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        fields.push((name.clone(), value.0.clone()));
    }
    let answer = client.post(&url.0, &fields, Bytes::from(body), ATTEMPT).await?;
    match answer.status {
        200..=299 => Ok(()),
        status @ (408 | 429 | 500..=599) => Err(Refusal::for_now(format!("it answered {status}"))),
        status => Err(Refusal::for_good(format!("it answered {status}"))),
    }
}
