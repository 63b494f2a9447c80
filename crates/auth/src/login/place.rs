//! Where a browser is led back to after a login: somewhere on this host, and nowhere else.
//!
//! The place comes from a link, and a link may come from anybody. One that leads off the host would make our login a
//! trusted-looking way to a forged page. Browsers read `//host`, `/\host`, and paths with tabs and line ends between their slashes as
//! addresses of another host (WHATWG URL, "special authority ignore slashes state"), so a place is a path of visible ASCII
//! without a backslash whose second character is no slash.

/// A longer one is not kept.
const PLACE_BYTES_MAX: usize = 2048;

/// The place that was asked for, or the front page where it is none, or lies below `login`, which would lead in circles.
pub(crate) fn local(asked: Option<&str>, login: &str) -> String {
    match asked {
        Some(place) if is_local(place) && !is_below(place, login) => place.to_owned(),
        _ => "/".to_owned(),
    }
}

fn is_local(place: &str) -> bool {
    let mut letters = place.bytes();
    let is_rooted = letters.next() == Some(b'/') && letters.next() != Some(b'/');
    let is_plain = place.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    is_rooted && is_plain && place.len() <= PLACE_BYTES_MAX
}

fn is_below(place: &str, login: &str) -> bool {
    let path = place.split(['?', '#']).next().unwrap_or_default();
    path.strip_prefix(login).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOGIN: &str = "/.terrace/login";

    #[test]
    fn a_place_on_this_host_is_kept_and_any_other_is_the_front_page() {
        for place in [
            "/",
            "/orders",
            "/orders?page=2&next=//evil.test",
            "/a//b",
            "/%2F%2Fevil.test",
            "/.terrace/loginx",
        ] {
            assert_eq!(local(Some(place), LOGIN), place);
        }
        for place in [
            "",
            "//evil.test",
            "///evil.test",
            "/\\evil.test",
            "/a\\b",
            "\\\\evil.test",
            "https://evil.test/",
            "https:evil.test",
            "javascript:alert(1)",
            "evil.test",
            "/\t/evil.test",
            "/\n/evil.test",
            "/ /evil.test",
            "\t//evil.test",
            " /x",
            "/ä",
            "/x\0",
            "/x\r\nSet-Cookie: a=b",
            "/.terrace/login",
            "/.terrace/login?to=/",
            "/.terrace/login/callback?code=x",
        ] {
            assert_eq!(local(Some(place), LOGIN), "/", "{place:?}");
        }
        assert_eq!(local(None, LOGIN), "/");
        assert_eq!(local(Some(&format!("/{}", "x".repeat(PLACE_BYTES_MAX))), LOGIN), "/");
    }

    proptest! {
        /// What browsers do before they look at slashes: white space at the ends and tabs and line ends anywhere vanish, and a
        /// backslash is a slash.
        #[test]
        fn no_text_leads_off_the_host(text in r"[/\\\t\n\r .a@:?#%]{0,12}") {
            let place = local(Some(&text), LOGIN);
            let seen: String = place.trim().chars().filter(|letter| !"\t\r\n".contains(*letter)).collect();
            let seen = seen.replace('\\', "/");
            prop_assert!(seen.starts_with('/') && !seen.starts_with("//"), "{:?} from {:?}", place, text);
        }
    }
}
