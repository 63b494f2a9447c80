//! A session's cookies: how one value is spread over several, read again, and taken away.
//!
//! Browsers keep no cookie larger than 4 KiB (RFC 6265 section 6.1), and a session with its tokens may be larger. So the
//! first cookie says how many there are, and those after it are numbered. With TLS their names begin with `__Host-`: then a
//! browser takes them only from this host itself, over TLS, so that no other host of the domain can slip somebody a session of
//! its own (RFC 6265bis section 4.1.3.2).

use std::fmt::Write as _;

use terrace_http::{Fields, Known};

/// Bytes of one cookie's value; with its name and attributes it stays below 4096.
const VALUE_BYTES_MAX: usize = 3800;
/// Cookies of one session.
pub(crate) const PARTS_MAX: usize = 4;

/// The name of a session's cookies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CookieName(String);

impl CookieName {
    /// The name as it is on a connection with or without TLS.
    pub(crate) fn new(name: &str, is_tls: bool) -> Self {
        Self(if is_tls { format!("__Host-{name}") } else { name.to_owned() })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn part(&self, number: usize) -> String {
        if number == 0 { self.0.clone() } else { format!("{}_{number}", self.0) }
    }
}

/// The first cookie's value, which says that there is a session, and stands for it where it was seen before.
pub(crate) fn first<'a>(fields: &'a Fields, name: &CookieName) -> Option<&'a [u8]> {
    pairs(fields).find(|(found, _)| *found == name.0.as_bytes()).map(|(_, value)| value)
}

/// The whole value: that of the first cookie, and of as many more as it says.
pub(crate) fn read(fields: &Fields, name: &CookieName) -> Option<Vec<u8>> {
    let first = first(fields, name)?;
    let (count, value) = count(first)?;
    let mut whole = value.to_vec();
    for number in 1..count {
        let wanted = name.part(number);
        let (_, value) = pairs(fields).find(|(found, _)| *found == wanted.as_bytes())?;
        whole.extend_from_slice(value);
    }
    Some(whole)
}

/// How many cookies there are, by the digit in front of the first.
fn count(first: &[u8]) -> Option<(usize, &[u8])> {
    let [digit, b'.', value @ ..] = first else { return None };
    let count = usize::from(digit.checked_sub(b'0')?);
    (1..=PARTS_MAX).contains(&count).then_some((count, value))
}

/// How many cookies a session has whose first this is; none where it is no session's.
pub(crate) fn count_of(first: &[u8]) -> usize {
    count(first).map_or(0, |(count, _)| count)
}

/// Whether a value does not fit into the cookies of one session.
pub(crate) fn is_too_large(value: &str) -> bool {
    value.len() + 2 > PARTS_MAX * VALUE_BYTES_MAX
}

/// Values of `Set-Cookie` that keep `value` for so many seconds, and take away what is left of `had` cookies before. Nothing
/// when it is too large to be kept.
pub(crate) fn write(
    name: &CookieName,
    value: &str,
    seconds: u64,
    had: usize,
    is_tls: bool,
) -> Option<Vec<String>> {
    if is_too_large(value) {
        return None;
    }
    let count = (value.len() + 2).div_ceil(VALUE_BYTES_MAX);
    let whole = format!("{count}.{value}");
    let mut set = Vec::new();
    let mut rest = whole.as_str();
    for number in 0..count {
        let (part, left) = rest.split_at(rest.len().min(VALUE_BYTES_MAX));
        set.push(set_cookie(&name.part(number), part, Some(seconds), is_tls));
        rest = left;
    }
    let stale = (count..had).map(|number| name.part(number));
    set.extend(stale.map(|part| set_cookie(&part, "", None, is_tls)));
    Some(set)
}

/// Values of `Set-Cookie` that take the session away.
pub(crate) fn forget(fields: &Fields, name: &CookieName, is_tls: bool) -> Vec<String> {
    let parts = (0..PARTS_MAX).map(|number| name.part(number));
    let kept = parts.enumerate().filter(|(number, part)| *number == 0 || has(fields, part));
    kept.map(|(_, part)| set_cookie(&part, "", None, is_tls)).collect()
}

/// Takes every cookie of that login out of a request: of sessions, and of logins under way, with TLS or without.
pub(crate) fn hide(fields: &mut Fields, name: &str) {
    take_out(fields, |found| is_of(found, name));
}

/// Takes the cookies out whose name it is.
pub(crate) fn take_out(fields: &mut Fields, is_it: impl Fn(&[u8]) -> bool) {
    if !pairs(fields).any(|(found, _)| is_it(found)) {
        return;
    }
    let mut kept: Vec<u8> = Vec::new();
    for (found, value) in pairs(fields).filter(|(found, _)| !is_it(found)) {
        if !kept.is_empty() {
            kept.extend_from_slice(b"; ");
        }
        kept.extend_from_slice(found);
        kept.push(b'=');
        kept.extend_from_slice(value);
    }
    fields.remove(Known::Cookie);
    if !kept.is_empty() {
        fields.append_known(Known::Cookie, &kept);
    }
}

fn is_of(found: &[u8], name: &str) -> bool {
    let found = found.strip_prefix(b"__Host-").unwrap_or(found);
    match found.strip_prefix(name.as_bytes()) {
        Some(b"") => true,
        Some([b'_', b'0'..=b'9']) => true,
        Some(rest) => rest.starts_with(b"_login_"),
        None => false,
    }
}

/// One value of `Set-Cookie`; no seconds take it away. `Lax`, since the way back from the issuer begins on another site.
pub(crate) fn set_cookie(name: &str, value: &str, seconds: Option<u64>, is_tls: bool) -> String {
    let mut text =
        format!("{name}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax", seconds.unwrap_or(0));
    if is_tls {
        let _infallible = write!(text, "; Secure");
    }
    text
}

/// All cookies, in order (RFC 6265 section 4.2.1).
pub(crate) fn pairs(fields: &Fields) -> impl Iterator<Item = (&[u8], &[u8])> {
    let all = fields.all(Known::Cookie).flat_map(|value| value.split(|byte| *byte == b';'));
    all.filter_map(|pair| {
        let pair = pair.trim_ascii();
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        // Some apps read a name without the spaces behind it.
        Some((pair[..equals].trim_ascii_end(), &pair[equals + 1..]))
    })
}

fn has(fields: &Fields, name: &str) -> bool {
    pairs(fields).any(|(found, _)| found == name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a browser sends back after these.
    fn sent(set: &[String]) -> Fields {
        let pairs: Vec<&str> = set
            .iter()
            .filter(|set| !set.contains("Max-Age=0"))
            .map(|set| set.split(';').next().expect("a pair"))
            .collect();
        let mut fields = Fields::new();
        fields.append(b"Cookie", format!("a=b; {}", pairs.join("; ")).as_bytes());
        fields
    }

    fn name() -> CookieName {
        CookieName::new("terrace_session", true)
    }

    #[test]
    fn a_session_that_fits_is_one_cookie_that_scripts_and_other_hosts_cannot_touch() {
        let set = write(&name(), "abc", 60, 0, true).expect("it fits");
        assert_eq!(set, ["__Host-terrace_session=1.abc; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"]);
        assert_eq!(read(&sent(&set), &name()).as_deref(), Some(&b"abc"[..]));
        let plain = CookieName::new("terrace_session", false);
        let set = write(&plain, "abc", 60, 0, false).expect("it fits");
        assert_eq!(set, ["terrace_session=1.abc; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"]);
        assert_eq!(read(&sent(&set), &name()), None, "a cookie that came in the clear is not one of TLS");
    }

    #[test]
    fn a_large_session_is_spread_and_what_is_left_of_it_taken_away() {
        let long: String = ('a'..='z').cycle().take(9_000).collect();
        let set = write(&name(), &long, 60, 0, true).expect("it fits");
        assert_eq!(set.len(), 3);
        assert!(set.iter().all(|set| set.len() < 4096));
        let fields = sent(&set);
        assert_eq!(read(&fields, &name()).as_deref(), Some(long.as_bytes()));
        assert!(first(&fields, &name()).expect("there").starts_with(b"3.abc"));

        let shorter = write(&name(), "abc", 60, count_of(first(&fields, &name()).expect("there")), true)
            .expect("it fits");
        let taken = shorter.iter().filter(|set| set.contains("=; Path=/; Max-Age=0;")).count();
        assert_eq!((shorter.len(), taken), (3, 2));
        assert_eq!(forget(&fields, &name(), true).len(), 3);
        assert_eq!(forget(&Fields::new(), &name(), true).len(), 1);
        assert_eq!(write(&name(), &"x".repeat(4 * VALUE_BYTES_MAX), 60, 0, true), None);
        assert!(write(&name(), &"x".repeat(4 * VALUE_BYTES_MAX - 2), 60, 0, true).is_some());
    }

    #[test]
    fn what_is_behind_terrace_sees_no_session() {
        let mut fields = Fields::new();
        fields.append(
            b"Cookie",
            b"a=1; __Host-terrace_session=x; __Host-terrace_session_1=y; terrace_session_login_abc=z",
        );
        fields.append(b"X-Other", b"1");
        fields.append(b"cookie", b"terrace_session=x; terrace_sessions=mine; b=2=3; terrace_session_12=mine");
        hide(&mut fields, "terrace_session");
        let left: Vec<&[u8]> = fields.all(Known::Cookie).collect();
        assert_eq!(left, [&b"a=1; terrace_sessions=mine; b=2=3; terrace_session_12=mine"[..]]);
        let mut only = Fields::new();
        only.append(b"Cookie", b"terrace_session=x");
        hide(&mut only, "terrace_session");
        assert!(only.is_empty());
        let mut others = Fields::new();
        others.append(b"Cookie", b"a=1;  b ; c=2");
        hide(&mut others, "terrace_session");
        assert_eq!(others.get(Known::Cookie), Some(&b"a=1;  b ; c=2"[..]), "left as it is");
    }

    #[test]
    fn parts_that_do_not_belong_together_are_no_session() {
        for cookie in ["", "1", "1abc", "0.abc", "5.abc", "2.abc", "x.abc", "11.abc"] {
            let mut fields = Fields::new();
            fields.append(b"Cookie", format!("__Host-terrace_session={cookie}").as_bytes());
            assert_eq!(read(&fields, &name()), None, "{cookie}");
        }
    }
}
