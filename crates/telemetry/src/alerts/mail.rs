//! A mail to whoever is on call, by SMTP.

use std::time::Duration;

use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use terrace_signals::alerts::Notification;

use super::body;
use super::ways::Refusal;
use crate::config::Secret;

/// Where a mail goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Post<'a> {
    pub(super) server: &'a str,
    pub(super) login: Option<&'a (String, Secret)>,
    pub(super) from: &'a str,
    pub(super) to: &'a [String],
}

/// How a server is reached, from `smtps://host:465`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
    security: Security,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    Plain,
    StartTls,
    Tls,
}

impl Server {
    fn parse(url: &str) -> Option<Self> {
        let (scheme, authority) = url.split_once("://")?;
        let (security, default_port) = match scheme {
            "smtp" => (Security::Plain, 25),
            "smtp+starttls" => (Security::StartTls, 587),
            "smtps" => (Security::Tls, 465),
            _ => return None,
        };
        let authority = authority.trim_end_matches('/');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (authority, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        (!host.is_empty()).then_some(Self { host, port, security })
    }
}

/// Sends a message; gives up after `timeout`.
pub(super) async fn send(post: Post<'_>, message: &Notification, timeout: Duration) -> Result<(), Refusal> {
    let mail = compose(post, message).map_err(Refusal::for_good)?;
    let server = Server::parse(post.server)
        .ok_or_else(|| Refusal::for_good("the mail server's address is not usable".to_owned()))?;
    let transport = transport(server, post.login, timeout).await.map_err(Refusal::for_now)?;
    match tokio::time::timeout(timeout, transport.send(mail)).await {
        Ok(Ok(_accepted)) => Ok(()),
        // RFC 5321 section 4.2.1: 5yz is for good, 4yz for now; what is no answer at all may pass.
        Ok(Err(error)) if error.is_permanent() => Err(Refusal::for_good(told(&error))),
        Ok(Err(error)) => Err(Refusal::for_now(told(&error))),
        Err(_elapsed) => Err(Refusal::for_now(format!("the mail server did not take it within {timeout:?}"))),
    }
}

/// The error with its cause, which is where the server's own words are.
fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

async fn transport(
    server: Server,
    login: Option<&(String, Secret)>,
    timeout: Duration,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let host = server.host.clone();
    // Reading the system's certificates takes a while.
    let parameters = async {
        let made = tokio::task::spawn_blocking(move || TlsParameters::new_rustls(host)).await;
        made.map_err(|error| error.to_string())?.map_err(|error| told(&error))
    };
    let tls = match server.security {
        Security::Plain => Tls::None,
        Security::StartTls => Tls::Required(parameters.await?),
        Security::Tls => Tls::Wrapper(parameters.await?),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server.host)
        .port(server.port)
        .tls(tls)
        .timeout(Some(timeout));
    if let Some((user, password)) = login {
        builder = builder.credentials(Credentials::new(user.clone(), password.0.clone()));
    }
    Ok(builder.build())
}

fn compose(post: Post<'_>, message: &Notification) -> Result<Message, String> {
    let mut mail = Message::builder().from(mailbox(post.from)?).subject(body::subject(message));
    for address in post.to {
        mail = mail.to(mailbox(address)?);
    }
    let mail = mail.header(ContentType::TEXT_PLAIN).body(body::text(message));
    mail.map_err(|error| format!("the mail cannot be written: {error}"))
}

fn mailbox(address: &str) -> Result<Mailbox, String> {
    let parsed: Result<Mailbox, _> = match address.contains('<') {
        true => address.parse(),
        false => address.parse::<Address>().map(|address| Mailbox::new(None, address)),
    };
    parsed.map_err(|error| format!("{address} is no mail address: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_address_says_how_it_is_spoken_to() {
        let server = |host: &str, port, security| Some(Server { host: host.to_owned(), port, security });
        assert_eq!(Server::parse("smtps://mail.example.com"), server("mail.example.com", 465, Security::Tls));
        assert_eq!(Server::parse("smtp+starttls://m:2525"), server("m", 2525, Security::StartTls));
        assert_eq!(Server::parse("smtp://127.0.0.1:25/"), server("127.0.0.1", 25, Security::Plain));
        assert_eq!(Server::parse("smtp://[::1]"), server("::1", 25, Security::Plain));
        assert_eq!(Server::parse("http://x"), None);
        assert_eq!(Server::parse("smtp://:25"), None);
    }
}
