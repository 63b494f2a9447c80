//! Entity tags (RFC 9110 section 8.8.3) of bodies that we code.
//!
//! A strong tag promises the same bytes, and coded bytes are others than those that the service tagged. So a coded
//! answer's tag is weakened. The client names the weak tag when it asks again; the service knows only its strong one, and
//! some compare letter by letter, so it is told both. Comparing weakly (`If-None-Match`) that changes nothing; comparing
//! strongly (`If-Match`) a weak tag never matches, and the strong one stands for the same state of the resource.

/// The weak form of `tag`: `W/"a"` for `"a"`.
pub(crate) fn weakened(tag: &[u8]) -> Vec<u8> {
    [if is_weak(tag) { &b""[..] } else { b"W/" }, tag].concat()
}

pub(crate) fn is_weak(tag: &[u8]) -> bool {
    tag.starts_with(b"W/")
}

/// `list` with the strong form of each weak tag behind it; `None` where it stays as it is.
pub(crate) fn with_strong_forms(list: &[u8]) -> Option<Vec<u8>> {
    let mut longer = None;
    for weak in tags(list).filter(|tag| is_weak(tag)) {
        let strong = &weak[2..];
        if !tags(list).any(|tag| tag == strong) {
            let longer: &mut Vec<u8> = longer.get_or_insert_with(|| list.to_vec());
            longer.extend_from_slice(b", ");
            longer.extend_from_slice(strong);
        }
    }
    longer
}

/// Whether the list names `strong` only in its weak form: then the client knows the tag as we weakened it.
pub(crate) fn names_only_weakly(list: &[u8], strong: &[u8]) -> bool {
    let is_weak_form = |tag: &[u8]| tag.strip_prefix(b"W/").is_some_and(|opaque| opaque == strong);
    tags(list).any(is_weak_form) && !tags(list).any(|tag| tag == strong)
}

/// Tags that are looked at in one list: the pairwise look above stays small.
const TAGS_MAX: usize = 32;

/// The tags of a list. A tag may hold commas, so quotes count.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    let next = move || {
        rest = rest.trim_ascii_start();
        while let [b',', after @ ..] = rest {
            rest = after.trim_ascii_start();
        }
        let prefix = if is_weak(rest) { 2 } else { 0 };
        let opaque = rest.get(prefix..)?.strip_prefix(b"\"")?;
        let end = opaque.iter().position(|byte| *byte == b'"')?;
        let (tag, after) = rest.split_at(prefix + 1 + end + 1);
        rest = after;
        Some(tag)
    };
    std::iter::from_fn(next).take(TAGS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_8_8_3_a_list_of_tags_is_read_with_its_quotes() {
        let all = |list: &'static [u8]| tags(list).collect::<Vec<_>>();
        assert_eq!(all(br#""a", W/"b,c" ,,"""#), [&br#""a""#[..], br#"W/"b,c""#, br#""""#]);
        assert!(all(b"*").is_empty() && all(b"").is_empty() && all(b"W/").is_empty());
        assert_eq!(
            all(br#""a", nonsense, "b""#),
            [&br#""a""#[..]],
            "what follows nonsense is not guessed at"
        );
    }

    #[test]
    fn a_weak_tag_is_told_to_the_service_in_its_strong_form_too() {
        let longer = |list: &[u8]| with_strong_forms(list).map(|list| String::from_utf8(list).expect("text"));
        assert_eq!(longer(br#"W/"a", "b""#).as_deref(), Some(r#"W/"a", "b", "a""#));
        assert_eq!(longer(br#""b""#), None);
        assert_eq!(longer(br#"W/"a", "a""#), None, "it stands there already");
        assert_eq!(longer(b"*"), None);
    }

    #[test]
    fn a_client_knows_a_tag_as_weak_when_it_names_only_that() {
        assert!(names_only_weakly(br#"W/"a""#, br#""a""#));
        assert!(!names_only_weakly(br#"W/"a", "a""#, br#""a""#));
        assert!(!names_only_weakly(br#""a""#, br#""a""#));
        assert_eq!(weakened(br#""a""#), br#"W/"a""#);
        assert_eq!(weakened(br#"W/"a""#), br#"W/"a""#);
    }
}
