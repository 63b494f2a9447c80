//! Changes to a request's fields and query, and to an answer's fields and status. What frames a message or is between
//! neighbours cannot be changed here: such names are refused when the file is read, so that no rule can make two readers
//! disagree about where a message ends.
//!
//! # The law
//! 1. Of each message first `remove`, then `set`, then `add`; `set` takes the place of all fields of that name, also of
//!    those that a server may take for it (`X_User` for `X-User`: RFC 3875 section 4.1.18).
//! 2. A value that comes out empty leaves its field out. So `set = { X-User = "{claim:sub}" }` removes what a client
//!    claims of itself, whether anybody is known or not.
//! 3. Values are filled in with the request as it came, before its path is changed; those of the answer too.
//! 4. Fields are changed on every answer of the route, Terrace's own included; a status only on a service's.

use std::net::IpAddr;

use terrace_http::{Authority, Fields, Known, RequestHead, ResponseHead};
use terrace_instruments::AddressText;
use terrace_route::{ExpandError, Match, QueryEdit, ValueName, ValueSource, ValueTemplate};

use crate::chain::{Ending, Request, Seen};
use crate::client;
use crate::guards::Passed;
use crate::journal::Journal;
use crate::problem::Problem;

/// How many fields one message's rules may name.
pub const FIELD_EDITS_MAX: usize = 64;

/// Bytes that all values of one message may be filled in with: a client's path stands in as many as the rules say.
const VALUES_BYTES_MAX: usize = 64 << 10;

/// A field that rules may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldName(Box<str>);

/// Why a rule cannot be. The fault is the file's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// No name of a field (RFC 9110 section 5.1).
    #[error("{0:?} is no name of a field")]
    NoToken(String),
    /// A field between two neighbours (RFC 9110 section 7.6.1).
    #[error("`{0}` is between Terrace and its neighbour, and nobody else's to set")]
    BetweenNeighbours(String),
    /// A field that says where a message ends.
    #[error("`{0}` says where a message ends; Terrace sets it by what it sends")]
    Frames(String),
    /// `Host` in `add` or `remove`.
    #[error("a request has exactly one `Host`; it can only be `set`")]
    OneHost,
    /// `Host` made of what the request says.
    #[error(
        "`Host` is set to a fixed host, such as \"api.example.com\": one from the request would let any client choose it"
    )]
    FixedHost,
    /// The same name in `remove` and in `set` or `add`.
    #[error("`{0}` is both removed and set")]
    Both(String),
    /// More than [`FIELD_EDITS_MAX`].
    #[error("more than {FIELD_EDITS_MAX} fields")]
    TooMany,
    /// A status that cannot be exchanged.
    #[error("{0} is not exchanged: only statuses from 200 to 599 whose answers have content are")]
    Status(u16),
}

impl FieldName {
    /// Reads the name of a field that a rule may change.
    ///
    /// # Errors
    /// [`FieldError`] for what no rule may touch.
    pub fn parse(name: &str) -> Result<Self, FieldError> {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > 256 || !name.bytes().all(is_fit) {
            return Err(FieldError::NoToken(name.to_owned()));
        }
        match Known::lookup_as_read(name.as_bytes()) {
            Some(Known::ContentLength | Known::TransferEncoding | Known::Trailer | Known::Expect) => {
                Err(FieldError::Frames(name.to_owned()))
            }
            Some(
                Known::Connection
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::ProxyAuthenticate
                | Known::ProxyAuthorization
                | Known::Te
                | Known::Upgrade
                | Known::Http2Settings,
            ) => Err(FieldError::BetweenNeighbours(name.to_owned())),
            _ => Ok(Self(name.into())),
        }
    }

    /// The name as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_host(&self) -> bool {
        Known::lookup_as_read(self.0.as_bytes()) == Some(Known::Host)
    }

    /// Whether a server may take a field for this one.
    fn is_read_as(&self, name: &[u8]) -> bool {
        let read = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        let ours = self.0.as_bytes();
        ours.len() == name.len() && ours.iter().zip(name).all(|(a, b)| read(*a) == read(*b))
    }
}

/// What becomes of one message's fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldEdits {
    remove: Box<[FieldName]>,
    set: Box<[(FieldName, ValueTemplate)]>,
    add: Box<[(FieldName, ValueTemplate)]>,
}

impl FieldEdits {
    /// Takes fields out, puts others in their place, and adds further ones.
    ///
    /// # Errors
    /// [`FieldError`] for what contradicts itself.
    pub fn new(
        set: Vec<(FieldName, ValueTemplate)>,
        add: Vec<(FieldName, ValueTemplate)>,
        remove: Vec<FieldName>,
    ) -> Result<Self, FieldError> {
        if set.len() + add.len() + remove.len() > FIELD_EDITS_MAX {
            return Err(FieldError::TooMany);
        }
        if remove.iter().chain(add.iter().map(|(name, _)| name)).any(FieldName::is_host) {
            return Err(FieldError::OneHost);
        }
        let is_fixed = |value: &ValueTemplate| {
            let authority = value.literal().map(|host| Authority::parse(host.as_bytes()));
            matches!(authority, Some(Ok(authority)) if !authority.host.is_empty())
        };
        if set.iter().any(|(name, value)| name.is_host() && !is_fixed(value)) {
            return Err(FieldError::FixedHost);
        }
        let is_removed =
            |name: &FieldName| remove.iter().any(|removed| removed.is_read_as(name.0.as_bytes()));
        if let Some((both, _)) = set.iter().chain(&add).find(|(name, _)| is_removed(name)) {
            return Err(FieldError::Both(both.0.to_string()));
        }
        Ok(Self { remove: remove.into(), set: set.into(), add: add.into() })
    }

    /// All values, in the order in which they are written.
    fn values(&self) -> impl Iterator<Item = &ValueTemplate> {
        self.set.iter().chain(&self.add).map(|(_, value)| value)
    }

    fn remove_from(&self, fields: &mut Fields) {
        if !self.remove.is_empty() {
            fields.retain(|_, name, _| !self.remove.iter().any(|removed| removed.is_read_as(name)));
        }
    }

    /// Sets and adds those that are due; `filled` holds the values among them that are not always the same.
    fn write(&self, filled: &Values, fields: &mut Fields, is_due: impl Fn(&ValueTemplate) -> bool) {
        let mut filled = filled.iter();
        let set = self.set.iter().map(|edit| (edit, true));
        for ((name, template), is_set) in set.chain(self.add.iter().map(|edit| (edit, false))) {
            if !is_due(template) {
                continue;
            }
            let value = match template.literal() {
                Some(literal) => literal.as_bytes(),
                None => filled.next().unwrap_or_default(),
            };
            if is_set {
                fields.retain(|_, read, _| !name.is_read_as(read));
            }
            if !value.is_empty() {
                fields.append(name.0.as_bytes(), value);
            }
        }
    }
}

/// What is changed, as the file says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeRules {
    /// What the service is told.
    pub request: FieldEdits,
    /// What the service is asked.
    pub query: QueryEdit,
    /// What the client is told.
    pub response: FieldEdits,
    /// Statuses of a service, and what the client sees in their place.
    pub statuses: Vec<(u16, u16)>,
}

/// What is changed, made ready.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    rules: ChangeRules,
    /// Whether a value of the request names the service, which is chosen last.
    request_names_service: bool,
    /// The same of a value of the answer.
    response_names_service: bool,
    /// Whether a value of the answer is made of the request.
    keeps_values: bool,
}

impl Changes {
    /// Makes the rules ready.
    ///
    /// # Errors
    /// [`FieldError`] for what cannot be exchanged or set there.
    pub fn new(rules: ChangeRules) -> Result<Self, FieldError> {
        let is_fit = |status: u16| matches!(status, 200..=599) && !matches!(status, 204 | 205 | 304);
        let mut statuses = rules.statuses.iter().flat_map(|(from, to)| [*from, *to]);
        if let Some(status) = statuses.find(|status| !is_fit(*status)) {
            return Err(FieldError::Status(status));
        }
        let names_service = |edits: &FieldEdits| edits.values().any(|value| value.names(&ValueName::Service));
        let keeps_values = rules.response.values().any(|value| value.literal().is_none());
        let request_names_service = names_service(&rules.request);
        let response_names_service = names_service(&rules.response);
        Ok(Self { rules, request_names_service, response_names_service, keeps_values })
    }
}

/// What values are filled in with, beside the request's head.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) found: Option<&'a Match>,
    pub(crate) route: &'a str,
    /// Nothing before it is chosen.
    pub(crate) service: Option<&'a str>,
}

/// The same with what the request itself brings.
struct Source<'a> {
    told: Told<'a>,
    client: IpAddr,
    passed: &'a Passed,
    head: &'a RequestHead,
}

impl ValueSource for Source<'_> {
    fn write(&self, name: &ValueName, out: &mut Vec<u8>) {
        match name {
            ValueName::ClientIp => out.extend_from_slice(AddressText::new(self.client).as_bytes()),
            ValueName::RequestId => out.extend_from_slice(client::request_id(&self.head.fields).as_bytes()),
            ValueName::Route => out.extend_from_slice(self.told.route.as_bytes()),
            ValueName::Service => out.extend_from_slice(self.told.service.unwrap_or("").as_bytes()),
            ValueName::Claim(name) => {
                if let Some(claim) = self.passed.claim(name) {
                    out.extend_from_slice(claim.as_bytes());
                }
            }
        }
    }
}

impl Source<'_> {
    /// Those of `edits`' values that are not always the same and that `is_due`.
    fn fill(
        &self,
        edits: &FieldEdits,
        is_due: impl Fn(&ValueTemplate) -> bool,
    ) -> Result<Values, ExpandError> {
        let mut values = Values::default();
        for template in edits.values().filter(|value| value.literal().is_none() && is_due(value)) {
            template.expand(&Seen(self.head), self.told.found, self, &mut values.bytes)?;
            values.ends.push(values.bytes.len());
            if values.bytes.len() > VALUES_BYTES_MAX {
                return Err(ExpandError::TooLong);
            }
        }
        Ok(values)
    }
}

/// Values that were filled in, end to end.
#[derive(Debug, Default)]
pub(crate) struct Values {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Values {
    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// Changes what the service is told, but for what names the service: that is not chosen yet. What the client is told later
/// is filled in as far as the request says it.
pub(crate) fn change_request(
    told: Told<'_>,
    changes: &Changes,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
) -> Result<(), Ending> {
    let Request { exchange, passed, client, .. } = request;
    let rules = &changes.rules;
    keep_values(told, changes, *client, exchange.head, passed);
    let source = Source { told, client: *client, passed, head: exchange.head };
    let values = source.fill(&rules.request, |value| !value.names(&ValueName::Service)).map_err(too_long)?;
    if !rules.query.is_empty() {
        let query = rules.query.apply(&Seen(exchange.head), told.found, &source).map_err(too_long)?;
        journal.keep_target(exchange.head);
        let path = exchange.head.path().to_owned();
        exchange.head.set_target(&path, query.as_deref());
    }
    rules.request.remove_from(&mut exchange.head.fields);
    rules.request.write(&values, &mut exchange.head.fields, |value| !value.names(&ValueName::Service));
    Ok(())
}

/// Fills in what names the service, once that is chosen, and before the path is changed.
pub(crate) fn name_service(
    told: Told<'_>,
    changes: &Changes,
    request: &mut Request<'_, '_>,
) -> Result<(), Ending> {
    let Request { exchange, passed, client, .. } = request;
    if changes.response_names_service {
        keep_values(told, changes, *client, exchange.head, passed);
    }
    if changes.request_names_service {
        let edits = &changes.rules.request;
        let source = Source { told, client: *client, passed, head: exchange.head };
        let values = source.fill(edits, |value| value.names(&ValueName::Service)).map_err(too_long)?;
        edits.write(&values, &mut exchange.head.fields, |value| value.names(&ValueName::Service));
    }
    Ok(())
}

fn too_long(_: ExpandError) -> Ending {
    let detail = "a value that the route's `request` fills in from the request gets too long";
    Problem::client(400, "http_request_error", detail).into()
}

/// Keeps the values of the answer that are made of the request. Where one gets too long, the answer has none of them.
fn keep_values(told: Told<'_>, changes: &Changes, client: IpAddr, head: &RequestHead, passed: &mut Passed) {
    if changes.keeps_values {
        let source = Source { told, client, passed, head };
        let values = source.fill(&changes.rules.response, |_| true).unwrap_or_default();
        passed.values = values;
    }
}

/// Changes what the client is told.
pub(crate) fn change_response(changes: &Changes, passed: &Passed, head: &mut ResponseHead) {
    changes.rules.response.remove_from(&mut head.fields);
    // Nothing was kept of a request that a guard answered before this one.
    changes.rules.response.write(&passed.values, &mut head.fields, |_| true);
}

/// Exchanges a service's status.
pub(crate) fn change_status(changes: &Changes, head: &mut ResponseHead) {
    if let Some((_, to)) = changes.rules.statuses.iter().find(|(from, _)| *from == head.status) {
        head.status = *to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, text: &str) -> (FieldName, ValueTemplate) {
        let value = ValueTemplate::parse(text, &[]).expect("a valid value");
        (FieldName::parse(name).expect("a valid name"), value)
    }

    #[test]
    fn what_frames_a_message_or_is_between_neighbours_is_nobodys_to_change() {
        for name in ["Content-Length", "transfer-encoding", "Trailer", "Expect", "content_length"] {
            assert_eq!(FieldName::parse(name), Err(FieldError::Frames(name.to_owned())));
        }
        for name in ["Connection", "keep-alive", "Proxy-Authorization", "TE", "Upgrade", "HTTP2-Settings"] {
            assert_eq!(FieldName::parse(name), Err(FieldError::BetweenNeighbours(name.to_owned())));
        }
        for name in ["", ":path", "X A", "X\r\nY", "caf\u{e9}", &"x".repeat(300)] {
            assert_eq!(FieldName::parse(name), Err(FieldError::NoToken(name.to_owned())));
        }
        assert_eq!(FieldName::parse("X-Mine").expect("a name").as_str(), "X-Mine");
    }

    #[test]
    fn a_host_is_set_to_a_fixed_one_and_nothing_else() {
        let set = |text| FieldEdits::new(vec![named("host", text)], Vec::new(), Vec::new()).err();
        assert_eq!(set("api.example.com:8443"), None);
        for text in ["{host}", "a.example{path}", "a b", "", "user@a.example"] {
            assert_eq!(set(text), Some(FieldError::FixedHost), "{text}");
        }
        let added = FieldEdits::new(Vec::new(), vec![named("Host", "a.example")], Vec::new());
        assert_eq!(added.err(), Some(FieldError::OneHost));
        let removed =
            FieldEdits::new(Vec::new(), Vec::new(), vec![FieldName::parse("Host").expect("a name")]);
        assert_eq!(removed.err(), Some(FieldError::OneHost));
    }

    #[test]
    fn edits_that_contradict_themselves_are_refused() {
        let name = |name| FieldName::parse(name).expect("a name");
        let both = FieldEdits::new(vec![named("X-A", "1")], Vec::new(), vec![name("x_a")]);
        assert_eq!(both.err(), Some(FieldError::Both("X-A".to_owned())));
        let many = FieldEdits::new(Vec::new(), Vec::new(), vec![name("X-A"); FIELD_EDITS_MAX + 1]);
        assert_eq!(many.err(), Some(FieldError::TooMany));
    }

    #[test]
    fn a_status_without_content_is_not_exchanged() {
        let exchange = |from, to| {
            Changes::new(ChangeRules { statuses: vec![(from, to)], ..ChangeRules::default() }).err()
        };
        assert_eq!(exchange(404, 200), None);
        for (from, to, wrong) in [(204, 200, 204), (200, 304, 304), (101, 200, 101), (200, 600, 600)] {
            assert_eq!(exchange(from, to), Some(FieldError::Status(wrong)));
        }
    }

    #[test]
    fn set_takes_the_place_of_all_and_add_of_none() {
        let edits = FieldEdits::new(
            vec![named("X-A", "new")],
            vec![named("X-B", "more"), named("X-C", "{claim:none}")],
            vec![FieldName::parse("X-D").expect("a name")],
        );
        let changes = Changes::new(ChangeRules { response: edits.expect("valid"), ..ChangeRules::default() });
        let mut head = ResponseHead::new(200);
        for name in ["X-A", "x-a", "X-B", "X-C", "X-D", "x-d"] {
            head.fields.append(name.as_bytes(), b"old");
        }
        change_response(&changes.expect("valid"), &Passed::default(), &mut head);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let fields: Vec<_> = head.fields.iter().map(|(name, value)| (text(name), text(value))).collect();
        let expected = [("X-B", "old"), ("X-C", "old"), ("X-A", "new"), ("X-B", "more")];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
