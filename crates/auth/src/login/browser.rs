//! Whether it is a person who asks for a page, or a program that asks for data.
//!
//! A person is led to the login. A script that gets a login page where it asked for data breaks in odd ways, and cannot show it
//! anyway: it is told 401, and its page does what it thinks right. Browsers say which is which (Fetch Metadata); of those that do not,
//! whoever names `text/html` and nothing that only programs send is taken for a person.

use terrace_http::{Fields, Known, Method, RequestHead, contains_token};

/// Whether the request is for a page that a person will see.
pub(crate) fn is_navigation(head: &RequestHead) -> bool {
    if head.method != Method::Get {
        return false;
    }
    match head.fields.named(b"sec-fetch-mode") {
        // A frame would show a login that refuses to be framed.
        Some(mode) => {
            mode == b"navigate" && matches!(head.fields.named(b"sec-fetch-dest"), None | Some(b"document"))
        }
        None => names_html(&head.fields) && !is_program(&head.fields),
    }
}

/// Whether the request comes from a page of the same origin, or from nobody but the person: typed, or from a bookmark. A
/// browser that does not say is not believed.
pub(crate) fn is_own(head: &RequestHead, origin: &str) -> bool {
    match (head.fields.named(b"sec-fetch-site"), head.fields.named(b"origin")) {
        (Some(site), _) => matches!(site, b"same-origin" | b"none"),
        (None, Some(from)) => from == origin.as_bytes(),
        (None, None) => false,
    }
}

fn names_html(fields: &Fields) -> bool {
    let ranges = fields.all(Known::Accept).flat_map(|value| value.split(|byte| *byte == b','));
    ranges.filter_map(|range| range.split(|byte| *byte == b';').next()).any(|name| {
        contains_token(name.trim_ascii(), "text/html")
            || contains_token(name.trim_ascii(), "application/xhtml+xml")
    })
}

fn is_program(fields: &Fields) -> bool {
    let is_script =
        fields.named(b"x-requested-with").is_some_and(|with| with.eq_ignore_ascii_case(b"xmlhttprequest"));
    is_script || fields.has(Known::Authorization) || fields.has(Known::Upgrade)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::new();
        head.method = Method::parse(method);
        fields.iter().for_each(|(name, value)| head.fields.append(name.as_bytes(), value.as_bytes()));
        head
    }

    const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");

    #[test]
    fn a_person_who_opens_a_page_is_told_from_a_script_that_fetches() {
        let navigation = |method, fields: &[(&str, &str)]| is_navigation(&head(method, fields));
        let mode = |mode| ("Sec-Fetch-Mode", mode);
        let dest = |dest| ("Sec-Fetch-Dest", dest);
        assert!(navigation("GET", &[mode("navigate"), dest("document"), ("Accept", "*/*")]));
        assert!(navigation("GET", &[HTML]));
        for fields in [
            &[mode("cors"), HTML][..],
            &[mode("same-origin"), dest("empty"), HTML],
            &[mode("no-cors"), dest("image")],
            &[mode("navigate"), dest("iframe"), HTML],
            &[mode("websocket")],
            &[("Accept", "*/*")],
            &[("Accept", "application/json")],
            &[HTML, ("X-Requested-With", "XMLHttpRequest")],
            &[HTML, ("Authorization", "Bearer x")],
            &[],
        ] {
            assert!(!navigation("GET", fields), "{fields:?}");
        }
        assert!(!navigation("POST", &[mode("navigate"), dest("document"), HTML]), "its body would be lost");
    }

    #[test]
    fn only_our_own_pages_and_the_person_may_end_a_session() {
        let own = |fields: &[(&str, &str)]| is_own(&head("GET", fields), "https://shop.example");
        for fields in [
            &[("Sec-Fetch-Site", "same-origin")][..],
            &[("Sec-Fetch-Site", "none")],
            &[("Origin", "https://shop.example")],
        ] {
            assert!(own(fields), "{fields:?}");
        }
        for fields in [
            &[("Sec-Fetch-Site", "cross-site")][..],
            &[("Sec-Fetch-Site", "same-site")],
            &[("Sec-Fetch-Site", "cross-site"), ("Origin", "https://shop.example")],
            &[("Origin", "https://evil.test")],
            &[("Origin", "http://shop.example")],
            &[("Origin", "null")],
            &[],
        ] {
            assert!(!own(fields), "{fields:?}");
        }
    }
}
