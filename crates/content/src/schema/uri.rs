//! References between schemas are URIs (RFC 3986): what one means depends on where it stands.

/// The target of `reference` as it stands in a document at `base`, and the fragment.
pub(super) fn resolve(base: &str, reference: &str) -> (String, String) {
    let (reference, fragment) = split_fragment(reference);
    (target(split_fragment(base).0, reference), fragment.to_owned())
}

pub(super) fn split_fragment(uri: &str) -> (&str, &str) {
    uri.split_once('#').unwrap_or((uri, ""))
}

/// The parts of a URI (RFC 3986 section 3), each with what sets it off but the scheme's colon.
#[derive(Debug, Clone, Copy)]
struct Parts<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

fn parts(uri: &str) -> Parts<'_> {
    let (rest, query) = match uri.find('?') {
        Some(at) => (&uri[..at], Some(&uri[at..])),
        None => (uri, None),
    };
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, rest),
    };
    let Some(hierarchy) = rest.strip_prefix("//") else {
        return Parts { scheme, authority: None, path: rest, query };
    };
    let end = hierarchy.find('/').unwrap_or(hierarchy.len());
    Parts { scheme, authority: Some(&hierarchy[..end]), path: &hierarchy[end..], query }
}

pub(super) fn is_scheme(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) && text.bytes().all(is_part)
}

/// RFC 3986 section 5.2.2.
fn target(base: &str, reference: &str) -> String {
    let (base, wanted) = (parts(base), parts(reference));
    if wanted.scheme.is_some() {
        return joined(Parts { path: &without_dots(wanted.path), ..wanted });
    }
    if wanted.authority.is_some() {
        return joined(Parts { scheme: base.scheme, path: &without_dots(wanted.path), ..wanted });
    }
    if wanted.path.is_empty() {
        return joined(Parts { query: wanted.query.or(base.query), ..base });
    }
    let path = match wanted.path.starts_with('/') {
        true => without_dots(wanted.path),
        false => without_dots(&merged(base, wanted.path)),
    };
    joined(Parts { path: &path, query: wanted.query, ..base })
}

/// RFC 3986 section 5.2.3.
fn merged(base: Parts<'_>, path: &str) -> String {
    if base.authority.is_some() && base.path.is_empty() {
        return format!("/{path}");
    }
    let folder = base.path.rfind('/').map_or("", |end| &base.path[..=end]);
    format!("{folder}{path}")
}

/// RFC 3986 section 5.2.4.
fn without_dots(path: &str) -> String {
    if !path.contains("/.") && !path.starts_with('.') {
        return path.to_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    let is_absolute = path.starts_with('/');
    let segments = path.strip_prefix('/').unwrap_or(path).split('/');
    let mut ends_in_folder = false;
    for segment in segments {
        ends_in_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if ends_in_folder {
        kept.push("");
    }
    format!("{}{}", if is_absolute { "/" } else { "" }, kept.join("/"))
}

fn joined(parts: Parts<'_>) -> String {
    let mut uri = String::new();
    if let Some(scheme) = parts.scheme {
        uri.push_str(scheme);
        uri.push(':');
    }
    if let Some(authority) = parts.authority {
        uri.push_str("//");
        uri.push_str(authority);
    }
    uri.push_str(parts.path);
    uri.push_str(parts.query.unwrap_or_default());
    uri
}

/// Stands for each folder above the one that relative paths begin in, so that `..` leads out of that one.
const ABOVE: &str = "/@above";
/// So many such folders can be left.
const ABOVE_MAX: usize = 32;

/// The URI of a file by its path, which may be relative.
pub(super) fn of_file(path: &str) -> String {
    let mut uri = String::from("file://");
    if !path.starts_with('/') {
        uri.push_str(&ABOVE.repeat(ABOVE_MAX));
        uri.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                uri.push(char::from(byte));
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    split_fragment(&target(&uri, "")).0.to_owned()
}

/// The path of the file that a URI names, if it names one; relative where the document that all began with was.
pub(super) fn to_file(uri: &str) -> Option<String> {
    let path = uri.strip_prefix("file://").filter(|path| path.starts_with('/'))?;
    let path = path.split('?').next().unwrap_or_default();
    let (mut rest, mut above) = (path, 0);
    while let Some(after) = rest.strip_prefix(ABOVE).filter(|after| after.starts_with('/')) {
        (rest, above) = (after, above + 1);
    }
    match above {
        0 => decoded(path),
        above => decoded(&format!("{}{}", "../".repeat(ABOVE_MAX.saturating_sub(above)), &rest[1..])),
    }
}

/// A text with its percent-encoding undone; `None` where that gives no text.
pub(crate) fn decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
                rest = &rest[2..];
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3986_5_4_references_are_resolved() {
        let base = "http://a/b/c/d;p?q";
        let cases = [
            ("g:h", "g:h"),
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            (";x", "http://a/b/c/;x"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            ("..g", "http://a/b/c/..g"),
            ("./../g", "http://a/b/g"),
            ("g/./h", "http://a/b/c/g/h"),
            ("g/../h", "http://a/b/c/h"),
        ];
        for (reference, expected) in cases {
            assert_eq!(resolve(base, reference).0, expected, "{reference:?}");
        }
    }

    #[test]
    fn fragments_are_set_apart_and_urns_have_no_folders() {
        assert_eq!(resolve("urn:uuid:1", "#/a/b"), ("urn:uuid:1".to_owned(), "/a/b".to_owned()));
        assert_eq!(
            resolve("file:///a/b.json#x", "c.json#d"),
            ("file:///a/c.json".to_owned(), "d".to_owned())
        );
    }

    #[test]
    fn a_file_is_found_again_by_its_uri() {
        assert_eq!(to_file(&of_file("/a b/ö%.json")).as_deref(), Some("/a b/ö%.json"));
        assert_eq!(to_file("https://a/b"), None);
        let beside = |reference: &str| to_file(&resolve(&of_file("schemas/order.json"), reference).0);
        assert_eq!(beside("common.json").as_deref(), Some("schemas/common.json"));
        assert_eq!(beside("../common.json").as_deref(), Some("common.json"));
        assert_eq!(beside("../../x/common.json").as_deref(), Some("../x/common.json"));
        assert_eq!(beside("/etc/common.json").as_deref(), Some("/etc/common.json"));
        assert_eq!(to_file(&of_file("../a.json")).as_deref(), Some("../a.json"));
        assert_eq!((decoded("%4"), decoded("%ff"), decoded("%+1")), (None, None, None));
    }
}
