//! Who is let in. Pure: a caller and a request's head in, a refusal or nothing out.
//!
//! The loopback face is checked in an order that tells strangers least: first whether the request was meant for us at
//! all (Host, against DNS rebinding), then whether a web page sent it (Origin, Sec-Fetch-Site), and only then
//! who it is: the token, or a session of the dashboard. A server-side request forged through an application knows the
//! address but not the token; a foreign page in a browser can neither send the token nor hide its Origin, and what it can
//! send along, a session's cookie, is not enough for a change without the CSRF token, which it cannot read.
//!
//! One thing may come from another page: a person who follows a link to the dashboard, in a chat or in a mail. Their
//! browser says so (`Sec-Fetch-Mode: navigate`, `Sec-Fetch-Dest: document`, and a GET). They are let as far as a page
//! that goes on to the same address by itself: from there on the request is our own page's, and carries the
//! session's cookie, which `SameSite=Strict` kept back the first time. A frame or a script cannot come that way.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Method, header, request::Parts};

use crate::config::{Loopback, Role};
use crate::control::ControlError;

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A process at the other end of the Unix socket, as the system names it.
    Peer { uid: u32, pid: Option<i32> },
    /// Somebody of whom no more is known.
    Tcp { from: SocketAddr },
    /// Whoever has a token.
    Token { from: SocketAddr, role: Role },
    /// Somebody signed in to the dashboard.
    Dashboard { from: SocketAddr, role: Role },
}

/// How a request came to the loopback face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// From a program, our own page, or what somebody typed.
    Own,
    /// A person followed a link on another page.
    Followed,
}

/// Whether a process of user `uid` may command a Terrace of user `own`: its own user and root.
pub(crate) fn admit_peer(uid: u32, own: u32) -> Result<(), ControlError> {
    if uid == own || uid == 0 {
        return Ok(());
    }
    Err(forbidden(format!(
        "this Terrace belongs to user {own}, and you are user {uid}; use sudo -u '#{own}'"
    )))
}

/// Whether a request at the loopback face, which listens at `bound`, was meant for it.
pub(crate) fn arrival(bound: SocketAddr, request: &Parts) -> Result<Arrival, ControlError> {
    let host = only(&request.headers, header::HOST.as_str())?;
    if !host.is_some_and(|host| names_us(bound, host)) {
        return Err(forbidden("the Host field names somebody else; use localhost and the port"));
    }
    if let Some(origin) = only(&request.headers, header::ORIGIN.as_str())? {
        let ours = origin.strip_prefix("http://").is_some_and(|host| names_us(bound, host));
        if !ours {
            return Err(forbidden("web pages of another origin may not use the admin API"));
        }
    }
    match only(&request.headers, "sec-fetch-site")? {
        None | Some("same-origin" | "none") => Ok(Arrival::Own),
        Some(_) if is_followed(request)? => Ok(Arrival::Followed),
        Some(_) => Err(forbidden("web pages of another origin may not use the admin API")),
    }
}

/// Whether a person followed a link to one of our pages, in a window of its own.
fn is_followed(request: &Parts) -> Result<bool, ControlError> {
    Ok(request.method == Method::GET
        && !is_api(request)
        && only(&request.headers, "sec-fetch-mode")? == Some("navigate")
        && only(&request.headers, "sec-fetch-dest")? == Some("document"))
}

/// Whether a request is for the API, not for a page of the dashboard.
pub(crate) fn is_api(request: &Parts) -> bool {
    request.uri.path().starts_with("/v1/")
}

/// The role that a request's token gives; `None` without a token.
pub(crate) fn token_role(loopback: &Loopback, request: &Parts) -> Result<Option<Role>, ControlError> {
    match only(&request.headers, header::AUTHORIZATION.as_str())?.and_then(bearer) {
        None => Ok(None),
        Some(token) => match loopback.role_of(token.as_bytes()) {
            Some(role) => Ok(Some(role)),
            None => Err(unauthorized("the token is wrong")),
        },
    }
}

/// Neither token nor session.
pub(crate) fn nobody() -> ControlError {
    unauthorized("send `Authorization: Bearer` with the token of [admin], or sign in to the dashboard")
}

/// The token alone, where a code is asked for besides.
pub(crate) fn one_of_two() -> ControlError {
    forbidden(
        "with `totp` in [admin] the token alone opens nothing here; sign in to the dashboard, or use the Unix socket",
    )
}

/// Whether `role` may do what `request` is about: a viewer reads.
pub(crate) fn admit_role(role: Role, request: &Parts) -> Result<(), ControlError> {
    match role {
        Role::Viewer if !is_reading(&request.method) => {
            Err(forbidden("viewers may look, not change; ask an operator"))
        }
        _ => Ok(()),
    }
}

/// Whether a method changes nothing.
pub(crate) fn is_reading(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// The CSRF token that a script of our own pages sends with a change.
pub(crate) fn csrf(request: &Parts) -> Result<Option<&str>, ControlError> {
    only(&request.headers, "x-csrf-token")
}

/// A change must say that it is JSON: a form on a web page cannot.
pub(crate) fn admit_content(request: &Parts) -> Result<(), ControlError> {
    if request.method != Method::POST {
        return Ok(());
    }
    let media = only(&request.headers, header::CONTENT_TYPE.as_str())?.unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ControlError::new(415, "Unsupported media type", "send `Content-Type: application/json`", false))
}

/// A probe at a loopback address is meant for us only by address: a name could be anybody's that was made to lead here.
pub(crate) fn admit_probe(bound: SocketAddr, request: &Parts) -> Result<(), ControlError> {
    if !bound.ip().is_loopback() {
        return Ok(());
    }
    let name = only(&request.headers, header::HOST.as_str())?.map(without_port);
    match name {
        Some(name) if name.eq_ignore_ascii_case("localhost") || is_address(name) => Ok(()),
        _ => Err(forbidden("the Host field names somebody else; use localhost or the address")),
    }
}

fn names_us(bound: SocketAddr, host: &str) -> bool {
    let name = without_port(host);
    let port = match host[name.len()..].strip_prefix(':') {
        Some(port) => port.parse().ok(),
        None => Some(80),
    };
    let own_name = name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]";
    port == Some(bound.port()) && (own_name || name.parse() == Ok(bound.ip()))
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if !host[at..].contains(']') => &host[..at],
        _ => host,
    }
}

fn is_address(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok()
}

fn bearer(field: &str) -> Option<&str> {
    let (scheme, token) = field.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The value of a field that may come once; twice is an attempt to be read differently by two readers.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ControlError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    let text = first.map(|value| value.to_str());
    match (text, values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(text)), None) => Ok(Some(text)),
        _ => Err(ControlError::new(
            400,
            "Bad request",
            format!("the field {name} must come once and be text"),
            false,
        )),
    }
}

pub(crate) fn forbidden(detail: impl Into<String>) -> ControlError {
    ControlError::new(403, "Forbidden", detail, false)
}

fn unauthorized(detail: &str) -> ControlError {
    ControlError::new(401, "Unauthorized", detail, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Token;
    use axum::http::Request;

    const TOKEN: &str = "0123456789abcdef";

    #[track_caller]
    fn check(headers: &[(&str, &str)], expected: u16) {
        let bound: SocketAddr = "127.0.0.1:9900".parse().unwrap();
        let loopback = Loopback::new(bound, Token::new(TOKEN).unwrap()).unwrap();
        let request = parts("GET", headers);
        let admitted = arrival(bound, &request).and_then(|_| token_role(&loopback, &request));
        let status = match admitted {
            Ok(Some(_)) => 200,
            Ok(None) => 401,
            Err(problem) => problem.status,
        };
        assert_eq!(status, expected, "{headers:?}");
    }

    fn parts(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri("/v1/status");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    const BEARER: (&str, &str) = ("authorization", "Bearer 0123456789abcdef");
    const HOST: (&str, &str) = ("host", "localhost:9900");

    #[test]
    fn whoever_has_the_token_and_means_us_is_let_in() {
        for host in ["localhost:9900", "LOCALHOST:9900", "127.0.0.1:9900", "[::1]:9900"] {
            check(&[("host", host), BEARER], 200);
        }
        check(&[HOST, ("authorization", "bearer 0123456789abcdef")], 200);
        check(&[HOST, BEARER, ("origin", "http://localhost:9900"), ("sec-fetch-site", "same-origin")], 200);
    }

    #[test]
    fn a_rebound_name_gets_nothing() {
        for host in [
            "evil.test:9900",
            "admin.test:443",
            "localhost",
            "localhost:80",
            "localhost.evil.test:9900",
            "127.0.0.1.evil.test:9900",
            "",
            ":9900",
            "localhost:9900:",
            "[::1]",
        ] {
            check(&[("host", host), BEARER], 403);
        }
        check(&[BEARER], 403);
        check(&[HOST, ("host", "evil.test"), BEARER], 400);
    }

    #[test]
    fn a_web_page_gets_nothing() {
        for origin in [
            "null",
            "http://evil.test",
            "https://localhost:9900",
            "http://localhost:9901",
            "http://localhost:9900.evil.test",
        ] {
            check(&[HOST, BEARER, ("origin", origin)], 403);
        }
        check(&[HOST, BEARER, ("sec-fetch-site", "cross-site")], 403);
        check(&[HOST, BEARER, ("sec-fetch-site", "same-site")], 403);
    }

    #[test]
    fn without_the_token_nothing_is_had() {
        check(&[HOST], 401);
        for field in
            ["Bearer", "Bearer ", "Bearer 0123456789abcdeX", "Basic 0123456789abcdef", "0123456789abcdef"]
        {
            check(&[HOST, ("authorization", field)], 401);
        }
        check(&[HOST, BEARER, BEARER], 400);
    }

    #[test]
    fn a_form_cannot_make_a_change() {
        let status = |headers: &[(&str, &str)]| {
            admit_content(&parts("POST", headers)).map_err(|problem| problem.status)
        };
        assert_eq!(status(&[("content-type", "application/json; charset=utf-8")]), Ok(()));
        for media in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
            assert_eq!(status(&[("content-type", media)]), Err(415));
        }
        assert_eq!(status(&[]), Err(415));
    }

    #[test]
    fn only_the_owner_and_root_may_command() {
        assert!(admit_peer(1000, 1000).is_ok());
        assert!(admit_peer(0, 1000).is_ok());
        assert_eq!(admit_peer(1001, 1000).unwrap_err().status, 403);
        assert_eq!(admit_peer(1000, 0).unwrap_err().status, 403);
    }

    #[test]
    fn a_probe_on_loopback_is_asked_for_by_address() {
        let check = |bound: &str, host: &str| {
            admit_probe(bound.parse().unwrap(), &parts("GET", &[("host", host)])).is_ok()
        };
        for host in ["localhost", "localhost:9901", "127.0.0.1:9901", "[::1]:9901", "10.0.0.1"] {
            assert!(check("127.0.0.1:9901", host), "{host}");
        }
        assert!(!check("127.0.0.1:9901", "evil.test:9901"));
        assert!(check("0.0.0.0:9901", "metrics.example.com"));
    }
}
