//! What every request for a page passes, before any page is asked: so that no page can forget it.

use axum::Form;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use terrace_signals::alerts::{AlertState, Severity};

use crate::config::Role;
use crate::control::ControlError;
use crate::gate::{self, Arrival, Caller};
use crate::serve::wall_seconds;

use super::session::Session;
use super::visitor::Visitor;
use super::{Dashboard, layout};

/// What a browser may do with anything that the loopback face answers: use what comes from this origin, and let nobody
/// else have or frame it. `style-src` has no `unsafe-inline`: scripts set styles through the CSSOM, which is allowed.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// `same-origin`, not `no-referrer`: with the latter browsers send `Origin: null` with a form (Fetch, section 3.2, "append a
/// request Origin header"), which could not be told from a foreign page's.
const REFERRER_POLICY: &str = "same-origin";

const PERMISSIONS_POLICY: &str =
    "camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), browsing-topics=()";

static HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, REFERRER_POLICY),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), PERMISSIONS_POLICY),
];

/// Adds what every answer of the loopback face bears.
pub(crate) fn guard_headers(headers: &mut HeaderMap) {
    for (name, value) in &HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What is shown is true now and for this visitor; only files say otherwise.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// The fields of a form that has passed: of an operator, with its CSRF token.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The first value of a field; `None` when it is absent or blank.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// All but those that this module is about, to be asked again.
    pub(crate) fn others(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        all.filter(|(key, _)| !matches!(*key, "csrf" | "back" | "confirmed"))
    }
}

/// Lets a request through to its page, or not; what goes wrong behind it becomes a page too.
pub(crate) async fn guard(State(dashboard): State<Dashboard>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let here = request.uri().path_and_query().map_or("/", |whole| whole.as_str()).to_owned();
    if path.starts_with("/assets/") {
        return next.run(request).await;
    }
    if request.extensions().get() == Some(&Arrival::Followed) {
        return layout::go_on(&here);
    }
    if path == "/login" {
        return next.run(request).await;
    }
    let Some(session) = request.extensions().get::<Session>().cloned() else {
        return login_first(&request, &here);
    };
    let wants_page = wants_page(request.headers());
    let visitor = visitor(&dashboard, session, &here, request.headers());
    if !gate::is_reading(request.method()) {
        request = match admit_form(&dashboard, &visitor, request).await {
            Ok(request) => request,
            Err(problem) => {
                return match wants_page {
                    true => layout::problem(&problem, &visitor),
                    false => problem.into_response(),
                };
            }
        };
    }
    request.extensions_mut().insert(visitor.clone());
    let mut response = next.run(request).await;
    if response.extensions_mut().remove::<layout::FlashShown>().is_some()
        && let Some(cookie) = dashboard.sessions.flash_shown()
    {
        set_cookie(&mut response, &cookie);
    }
    match response.extensions_mut().remove::<ControlError>() {
        Some(problem) if wants_page => layout::problem(&problem, &visitor),
        _ => response,
    }
}

fn visitor(dashboard: &Dashboard, session: Session, here: &str, headers: &HeaderMap) -> Visitor {
    let sessions = &dashboard.sessions;
    let csrf = sessions.csrf(&session);
    let flash = sessions.read_flash(&session, headers);
    let mut visitor = Visitor::new(session, csrf, here.to_owned());
    visitor.flash = flash;
    for alert in dashboard.telemetry.alerts() {
        match (alert.state, alert.severity) {
            (AlertState::Firing, Severity::Page) => visitor.firing[0] += 1,
            (AlertState::Firing, Severity::Ticket) => visitor.firing[1] += 1,
            _ => {}
        }
    }
    visitor
}

/// Whoever looks for a page is led to the login and back; a script is told.
fn login_first(request: &Request, here: &str) -> Response {
    if !gate::is_reading(request.method()) || !wants_page(request.headers()) {
        return gate::nobody().into_response();
    }
    let mut response = StatusCode::SEE_OTHER.into_response();
    let place = match here {
        "/" => "/login".to_owned(),
        _ => format!("/login?next={}", layout::escape_query(here)),
    };
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// A change comes as a form of one of our pages, from somebody who may make it. Its fields go on as [`Fields`].
async fn admit_form(
    dashboard: &Dashboard,
    visitor: &Visitor,
    request: Request,
) -> Result<Request, ControlError> {
    let (mut parts, body) = request.into_parts();
    let header = gate::csrf(&parts)?.map(str::to_owned);
    let whole = Request::from_parts(parts.clone(), body);
    let fields = match Form::<Vec<(String, String)>>::from_request(whole, &()).await {
        Ok(Form(fields)) => Fields(fields),
        Err(rejection) => {
            let (status, text) = (rejection.status().as_u16(), rejection.body_text());
            return Err(ControlError::new(status, "Not a form of ours", text, false));
        }
    };
    let given = header.as_deref().or_else(|| fields.get("csrf")).unwrap_or_default();
    if !dashboard.sessions.is_csrf(&visitor.session, given) {
        return Err(gate::forbidden(
            "The page was too old, or the form was not ours. Go back, reload the page and try again.",
        ));
    }
    let may = visitor.role == Role::Operator || parts.uri.path() == "/logout";
    if !may {
        let problem = gate::forbidden("You are signed in as a viewer: you may look, not change.");
        let caller = parts.extensions.get::<Caller>().copied();
        if let Some(caller) = caller {
            dashboard.audit.refused(caller, &problem);
        }
        return Err(problem);
    }
    parts.extensions.insert(fields);
    Ok(Request::from_parts(parts, axum::body::Body::empty()))
}

/// A place on this site to go to after an action or a login; anything else leads to the overview.
pub(crate) fn local_place(given: Option<&str>) -> &str {
    match given {
        Some(place) if is_local(place) => place,
        _ => "/",
    }
}

/// A path from the root. What begins with two slashes (or what a browser takes for them) names another host.
fn is_local(place: &str) -> bool {
    let mut bytes = place.bytes();
    let begins = bytes.next() == Some(b'/') && !matches!(bytes.next(), Some(b'/' | b'\\'));
    begins && place.len() <= 2_000 && place.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

/// Leads on to a place of ours with another method (RFC 9110, section 15.4.4).
pub(crate) fn see_other(place: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let place = HeaderValue::from_str(local_place(Some(place))).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, place);
    response
}

/// Adds a `Set-Cookie`.
pub(crate) fn set_cookie(response: &mut Response, cookie: &str) {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

/// Whether an action was asked for by a script, which wants JSON.
pub(crate) fn wants_json(headers: &HeaderMap) -> bool {
    !wants_page(headers)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    wall_seconds()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_to_another_site() {
        for place in ["/", "/logs?text=a%20b&level=warn", "/services/orders/instances/orders-1"] {
            assert_eq!(local_place(Some(place)), place);
        }
        for place in [
            "",
            "//evil.test",
            "/\\evil.test",
            "https://evil.test",
            "/a\\b",
            "/a b",
            "/a\r\nb",
            "logs",
            "/\t/x",
        ] {
            assert_eq!(local_place(Some(place)), "/", "{place:?}");
        }
    }
}
