//! Whether an answer is coded for a client, and what its head says then (RFC 9110 sections 8.4, 8.8.3, 12.5.5).
//!
//! Before the request goes on it is noted what the client takes; when the answer's head is there, that and the head
//! decide. A HEAD's answer is judged as a GET's would be. `Vary` is set wherever another client might get another coding,
//! also when this one got none, or a cache would hand one client's bytes to the other.

use terrace_http::{Fields, Known, RequestHead, ResponseHead, contains_token};

use crate::coding::{Coding, negotiate};
use crate::encode::Effort;
use crate::etag;
use crate::media::{MediaRange, essence};

/// What is coded, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// The codings offered; where a client likes several alike, the first of them is taken.
    pub codings: Vec<Coding>,
    /// The media types that are coded.
    pub types: Vec<MediaRange>,
    /// Bodies known to be smaller than that many bytes go as they are: what they save is less than what it costs.
    pub from_bytes: u64,
    /// How much work is spent on size.
    pub effort: Effort,
}

/// What is coded where nobody says otherwise: text in all its dress, and the few binary formats that are not compressed by
/// themselves.
const TYPES: &[&str] = &[
    "text/*",
    "application/json",
    "application/*+json",
    "application/x-ndjson",
    "application/javascript",
    "application/x-javascript",
    "application/wasm",
    "application/xml",
    "application/*+xml",
    "application/yaml",
    "application/rtf",
    "application/vnd.ms-fontobject",
    "font/ttf",
    "font/otf",
    "font/collection",
    "image/svg+xml",
    "image/bmp",
    "image/x-icon",
    "image/vnd.microsoft.icon",
];

impl Default for Compression {
    fn default() -> Self {
        let range =
            |text: &&str| MediaRange::parse(text).expect("invariant: our own list holds media ranges");
        Self {
            codings: Coding::ALL.to_vec(),
            types: TYPES.iter().map(range).collect(),
            from_bytes: 1024,
            effort: Effort::default(),
        }
    }
}

/// What a request means for the coding of its answer.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    coding: Option<Coding>,
    /// The client wants nothing changed (RFC 9111 section 5.2.1.6).
    is_as_it_is: bool,
    /// `If-None-Match` as the client sent it, where the service is told more.
    if_none_match: Option<Box<[u8]>>,
}

/// How an answer's body is to be coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The coding.
    pub coding: Coding,
    /// How much work is spent on size.
    pub effort: Effort,
    /// The body's length before, where its head says it.
    pub length_bytes: Option<u64>,
}

impl Compression {
    /// Notes what the client takes, and tells the service the tags that it knows.
    pub fn ask(&self, request: &mut RequestHead) -> Wish {
        let fields = &mut request.fields;
        let coding = negotiate(fields.all(Known::AcceptEncoding), &self.codings);
        let is_as_it_is = says(fields, "no-transform");
        if let Some(tags) = fields.get(Known::IfMatch).and_then(etag::with_strong_forms) {
            fields.set(Known::IfMatch, &tags);
        }
        let tags = fields.get(Known::IfNoneMatch);
        let changed = tags.and_then(|tags| Some((etag::with_strong_forms(tags)?, Box::<[u8]>::from(tags))));
        let if_none_match = changed.map(|(longer, original)| {
            fields.set(Known::IfNoneMatch, &longer);
            original
        });
        Wish { coding, is_as_it_is, if_none_match }
    }

    /// Says how the answer's body is to be coded, if it is. An answer without a length is taken to be large: one that has no
    /// body at all is not to be asked about, but for those to HEAD, which are judged as those to GET would be. The head is changed by [`Plan::dress`] alone, but for `Vary`
    /// and for the tag of a 304, which hold either way.
    pub fn judge(&self, wish: &Wish, response: &mut ResponseHead) -> Option<Plan> {
        if wish.is_as_it_is {
            return None;
        }
        if response.status == 304 {
            wish.tell_of_no_change(&mut response.fields);
            return None;
        }
        let length_bytes = response.fields.text(Known::ContentLength).and_then(|text| text.parse().ok());
        let is_small = length_bytes.is_some_and(|bytes: u64| bytes < self.from_bytes.max(1));
        if is_small || !self.may_code(response) {
            return None;
        }
        vary(&mut response.fields);
        Some(Plan { coding: wish.coding?, effort: self.effort, length_bytes })
    }

    /// Whether the answer is one that is coded for clients who take that.
    fn may_code(&self, response: &ResponseHead) -> bool {
        // 205 has no body, and a part of a body says nothing by itself (RFC 9110 section 15.3.7).
        let has_whole_body = response.status >= 200 && !matches!(response.status, 204..=206);
        let fields = &response.fields;
        has_whole_body
            && fields.get(Known::ContentType).is_some_and(|content_type| self.takes(content_type))
            && !is_coded(fields)
            && !says(fields, "no-transform")
            && !fields.has(Known::ContentRange)
            && !DIGESTS.iter().any(|name| fields.named(name).is_some())
    }

    /// Events and gRPC are never coded: what reads them waits for each piece, and gRPC has its own compression.
    fn takes(&self, content_type: &[u8]) -> bool {
        let essence = essence(content_type);
        let begins =
            |with: &[u8]| essence.len() >= with.len() && essence[..with.len()].eq_ignore_ascii_case(with);
        !begins(b"text/event-stream")
            && !begins(b"application/grpc")
            && self.types.iter().any(|range| range.matches(essence))
    }
}

impl Plan {
    /// Makes the head that of a coded answer.
    pub fn dress(&self, response: &mut ResponseHead) {
        let fields = &mut response.fields;
        fields.remove(Known::ContentLength);
        // Parts of the coded body can be had from nobody.
        fields.remove(Known::AcceptRanges);
        fields.set(Known::ContentEncoding, self.coding.name().as_bytes());
        weaken_tag(fields);
    }
}

impl Wish {
    /// A client that knows the tag as we weakened it hears of it in the same form, or it would not know which of its
    /// copies is meant (RFC 9111 section 4.3.4).
    fn tell_of_no_change(&self, fields: &mut Fields) {
        let Some(named) = &self.if_none_match else { return };
        if fields.get(Known::Etag).is_some_and(|tag| etag::names_only_weakly(named, tag)) {
            weaken_tag(fields);
            vary(fields);
        }
    }
}

/// Fields that speak of the very bytes: whoever sends them wants those.
const DIGESTS: [&[u8]; 4] = [b"content-digest", b"repr-digest", b"digest", b"content-md5"];

fn is_coded(fields: &Fields) -> bool {
    fields.all(Known::ContentEncoding).any(|value| !value.trim_ascii().eq_ignore_ascii_case(b"identity"))
}

fn says(fields: &Fields, directive: &str) -> bool {
    fields.all(Known::CacheControl).any(|value| contains_token(value, directive))
}

fn weaken_tag(fields: &mut Fields) {
    let strong = fields.get(Known::Etag).filter(|tag| !etag::is_weak(tag));
    if let Some(weak) = strong.map(etag::weakened) {
        fields.set(Known::Etag, &weak);
    }
}

fn vary(fields: &mut Fields) {
    let says_so = |value: &[u8]| contains_token(value, "accept-encoding") || contains_token(value, "*");
    if !fields.all(Known::Vary).any(says_so) {
        fields.append_known(Known::Vary, b"accept-encoding");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::new();
        fields.iter().for_each(|(name, value)| head.fields.append(name.as_bytes(), value.as_bytes()));
        head
    }

    fn response(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
        let mut head = ResponseHead::new(status);
        fields.iter().for_each(|(name, value)| head.fields.append(name.as_bytes(), value.as_bytes()));
        head
    }

    const HTML: (&str, &str) = ("Content-Type", "text/html; charset=utf-8");

    /// What becomes of an answer with these fields for a client that takes gzip.
    fn judged(status: u16, fields: &[(&str, &str)]) -> (Option<Coding>, ResponseHead) {
        let compression = Compression::default();
        let wish = compression.ask(&mut request(&[("Accept-Encoding", "gzip")]));
        let mut head = response(status, fields);
        let plan = compression.judge(&wish, &mut head);
        if let Some(plan) = plan {
            plan.dress(&mut head);
        }
        (plan.map(|plan| plan.coding), head)
    }

    #[test]
    fn rfc9110_8_4_the_head_of_a_coded_answer_says_so_and_names_no_length() {
        let (coding, head) = judged(
            200,
            &[
                HTML,
                ("Content-Length", "5000"),
                ("ETag", r#""a""#),
                ("Accept-Ranges", "bytes"),
                ("Vary", "Origin"),
            ],
        );
        assert_eq!(coding, Some(Coding::Gzip));
        let fields = &head.fields;
        assert_eq!(fields.text(Known::ContentEncoding), Some("gzip"));
        assert_eq!(fields.text(Known::Etag), Some(r#"W/"a""#));
        assert!(!fields.has(Known::ContentLength) && !fields.has(Known::AcceptRanges));
        assert_eq!(fields.all(Known::Vary).collect::<Vec<_>>(), [&b"Origin"[..], b"accept-encoding"]);
    }

    #[test]
    fn what_is_small_coded_or_not_to_be_touched_goes_as_it_is() {
        let kept: &[(u16, &[(&str, &str)])] = &[
            (200, &[HTML, ("Content-Length", "1023")]),
            (200, &[HTML, ("Content-Encoding", "br")]),
            (200, &[HTML, ("Cache-Control", "public, No-Transform")]),
            (206, &[HTML, ("Content-Range", "bytes 0-4999/9999")]),
            (200, &[HTML, ("Content-Range", "bytes 0-4999/9999")]),
            (204, &[HTML]),
            (205, &[HTML]),
            (200, &[HTML, ("Repr-Digest", "sha-256=:x:")]),
            (200, &[("Content-Type", "image/png")]),
            (200, &[("Content-Type", "text/event-stream; charset=utf-8")]),
            (200, &[("Content-Type", "application/grpc-web+proto")]),
            (200, &[]),
        ];
        for (status, fields) in kept {
            let (coding, head) = judged(*status, fields);
            assert_eq!(coding, None, "{fields:?}");
            assert!(!head.fields.has(Known::Vary), "there is no other form of it: {fields:?}");
        }
    }

    #[test]
    fn what_has_no_length_yet_and_errors_of_the_service_are_coded() {
        assert_eq!(judged(200, &[HTML]).0, Some(Coding::Gzip));
        assert_eq!(judged(500, &[HTML, ("Content-Length", "1024")]).0, Some(Coding::Gzip));
        assert_eq!(judged(200, &[("Content-Type", "image/svg+xml")]).0, Some(Coding::Gzip));
        let (coding, head) = judged(200, &[HTML, ("Content-Encoding", "identity")]);
        assert_eq!(coding, Some(Coding::Gzip));
        assert_eq!(head.fields.all(Known::ContentEncoding).count(), 1);
    }

    #[test]
    fn rfc9110_12_5_5_another_client_might_get_another_coding_so_caches_are_told() {
        let compression = Compression::default();
        let wish = compression.ask(&mut request(&[]));
        let mut head = response(200, &[HTML]);
        assert_eq!(compression.judge(&wish, &mut head), None);
        assert_eq!(head.fields.text(Known::Vary), Some("accept-encoding"));
        let mut head = response(200, &[HTML, ("Vary", "*")]);
        compression.judge(&wish, &mut head);
        assert_eq!(head.fields.all(Known::Vary).count(), 1);
    }

    #[test]
    fn rfc9111_5_2_1_6_a_client_may_want_nothing_transformed() {
        let compression = Compression::default();
        let asked = [("Accept-Encoding", "gzip"), ("Cache-Control", "no-transform")];
        let wish = compression.ask(&mut request(&asked));
        assert_eq!(compression.judge(&wish, &mut response(200, &[HTML])), None);
    }

    #[test]
    fn rfc9110_13_1_2_a_tag_that_we_weakened_is_known_to_the_service_again() {
        let compression = Compression::default();
        let mut asked = request(&[("If-None-Match", r#"W/"a""#), ("If-Match", r#"W/"b""#)]);
        let wish = compression.ask(&mut asked);
        assert_eq!(asked.fields.text(Known::IfNoneMatch), Some(r#"W/"a", "a""#));
        assert_eq!(asked.fields.text(Known::IfMatch), Some(r#"W/"b", "b""#));
        let mut same = response(304, &[("ETag", r#""a""#)]);
        compression.judge(&wish, &mut same);
        assert_eq!(same.fields.text(Known::Etag), Some(r#"W/"a""#), "as the client has it");
        let mut strong = response(304, &[("ETag", r#""c""#)]);
        compression.judge(&wish, &mut strong);
        assert_eq!(strong.fields.text(Known::Etag), Some(r#""c""#));
    }

    #[test]
    fn an_answer_to_head_is_that_to_get_without_its_body() {
        let compression = Compression::default();
        let wish = compression.ask(&mut request(&[("Accept-Encoding", "br")]));
        let mut head = response(200, &[HTML, ("Content-Length", "5000")]);
        let plan = compression.judge(&wish, &mut head).expect("coded for GET");
        assert_eq!((plan.coding, plan.length_bytes), (Coding::Brotli, Some(5000)));
    }
}
