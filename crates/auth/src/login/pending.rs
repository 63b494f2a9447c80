//! A login under way: what its browser keeps until it comes back from the issuer.
//!
//! The issuer sends the browser back with a code and the `state` that we gave it. That is only believed of the browser that we
//! gave it to, or somebody could log a stranger in as themselves (RFC 6749 section 10.12): so `state`, `nonce` and the PKCE
//! verifier are kept in a sealed cookie of that browser, which is good once and for some minutes. Each login has a cookie of its own, named
//! by its state, so that two tabs do not disturb each other.

use data_encoding::BASE64URL_NOPAD;
use ring::digest;
use serde::{Deserialize, Serialize};
use terrace_http::Fields;

use super::cookies::{self, CookieName};
use crate::sealed::{SealKeys, random};
use crate::secret::is_same;

/// For so many seconds a login may take.
const LASTS_S: u64 = 600;
/// Logins of one browser at once; with one more all but it are forgotten.
const AT_ONCE_MAX: usize = 4;
/// Characters of a state that name its cookie.
const TAG_BYTES: usize = 8;

/// What is kept of a login under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) state: String,
    pub(crate) nonce: String,
    /// RFC 7636 section 4.1.
    pub(crate) verifier: String,
    /// Where the issuer was told to send the browser back to; it must be told again.
    pub(crate) redirect_uri: String,
    /// Where the browser wanted to go.
    pub(crate) place: String,
    /// Until when it is good, seconds since 1970.
    until: u64,
}

impl Pending {
    /// A new one at `now`, seconds since 1970.
    pub(crate) fn new(redirect_uri: String, place: String, now: u64) -> Self {
        let word = || BASE64URL_NOPAD.encode(&random::<32>());
        Self { state: word(), nonce: word(), verifier: word(), redirect_uri, place, until: now + LASTS_S }
    }

    /// RFC 7636 section 4.2: `S256`, and no other way.
    pub(crate) fn challenge(&self) -> String {
        let hash = digest::digest(&digest::SHA256, self.verifier.as_bytes());
        BASE64URL_NOPAD.encode(hash.as_ref())
    }

    /// Values of `Set-Cookie` that keep it, and forget others when they are many.
    pub(crate) fn keep(
        &self,
        fields: &Fields,
        keys: &SealKeys,
        purpose: &str,
        session: &CookieName,
        is_tls: bool,
    ) -> Vec<String> {
        let plain = serde_json::to_vec(self).expect("invariant: it is plain text");
        let others = others(fields, session);
        let mut set = Vec::new();
        if others.len() >= AT_ONCE_MAX {
            set.extend(others.iter().map(|name| cookies::set_cookie(name, "", None, is_tls)));
        }
        let sealed = keys.seal(purpose, &plain);
        set.push(cookies::set_cookie(&name(session, &self.state), &sealed, Some(LASTS_S), is_tls));
        set
    }

    /// The login that `state` belongs to, if this browser began it and it is not too old at `now`, seconds since 1970.
    pub(crate) fn find(
        fields: &Fields,
        keys: &SealKeys,
        purpose: &str,
        session: &CookieName,
        state: &str,
        now: u64,
    ) -> Option<Self> {
        let wanted = name(session, state);
        let mut kept = cookies::pairs(fields).filter(|(found, _)| *found == wanted.as_bytes());
        // Several of one name: somebody put one beside ours. The one that we sealed counts.
        kept.find_map(|(_, sealed)| {
            let plain = keys.open_sealed(purpose, sealed)?;
            let pending: Self = serde_json::from_slice(&plain).ok()?;
            let is_it = is_same(pending.state.as_bytes(), state.as_bytes());
            (is_it && now < pending.until).then_some(pending)
        })
    }

    /// The value of `Set-Cookie` that forgets it.
    pub(crate) fn forget(session: &CookieName, state: &str, is_tls: bool) -> String {
        cookies::set_cookie(&name(session, state), "", None, is_tls)
    }
}

fn name(session: &CookieName, state: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let tag: String = state.bytes().filter(is_plain).take(TAG_BYTES).map(char::from).collect();
    format!("{}{tag}", prefix(session))
}

fn prefix(session: &CookieName) -> String {
    format!("{}_login_", session.as_str())
}

fn others(fields: &Fields, session: &CookieName) -> Vec<String> {
    let prefix = prefix(session);
    let names = cookies::pairs(fields).filter_map(|(name, _)| std::str::from_utf8(name).ok());
    let is_tag = |name: &&str| {
        let tag = name.strip_prefix(&prefix).unwrap_or_default();
        tag.len() == TAG_BYTES
            && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    names.filter(is_tag).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn keys() -> SealKeys {
        SealKeys::parse("0123456789abcdef0123456789abcdef").expect("a secret")
    }

    fn session() -> CookieName {
        CookieName::new("terrace_session", true)
    }

    fn pending() -> Pending {
        Pending::new("https://shop.example/.terrace/login/callback".to_owned(), "/orders".to_owned(), NOW)
    }

    fn with_cookies(set: &[String]) -> Fields {
        let mut fields = Fields::new();
        for set in set {
            fields.append(b"Cookie", set.split(';').next().expect("a pair").as_bytes());
        }
        fields
    }

    fn find(fields: &Fields, state: &str, now: u64) -> Option<Pending> {
        Pending::find(fields, &keys(), "login web", &session(), state, now)
    }

    #[test]
    fn rfc6749_10_12_only_the_browser_that_began_a_login_ends_it() {
        let (mine, other) = (pending(), pending());
        let fields = with_cookies(&mine.keep(&Fields::new(), &keys(), "login web", &session(), true));
        assert_eq!(find(&fields, &mine.state, NOW), Some(mine.clone()));
        assert_eq!(find(&fields, &other.state, NOW), None, "another's code with another's state");
        assert_eq!(find(&Fields::new(), &mine.state, NOW), None, "another's browser");
        assert_eq!(find(&fields, &mine.state[..TAG_BYTES], NOW), None);
        assert_eq!(find(&fields, "", NOW), None);
        assert!(find(&fields, &mine.state, NOW + LASTS_S - 1).is_some());
        assert_eq!(find(&fields, &mine.state, NOW + LASTS_S), None, "too late");
        let elsewhere = Pending::find(&fields, &keys(), "login other", &session(), &mine.state, NOW);
        assert_eq!(elsewhere, None, "another login of the file");
    }

    #[test]
    fn a_cookie_that_somebody_put_beside_ours_changes_nothing() {
        let mine = pending();
        let mut set = mine.keep(&Fields::new(), &keys(), "login web", &session(), true);
        let name = set[0].split('=').next().expect("a name").to_owned();
        set.insert(0, format!("{name}=forged"));
        assert_eq!(find(&with_cookies(&set), &mine.state, NOW), Some(mine));
    }

    #[test]
    fn logins_that_were_given_up_do_not_pile_up() {
        let mut set = Vec::new();
        for _ in 0..AT_ONCE_MAX {
            let more = pending().keep(&with_cookies(&set), &keys(), "login web", &session(), true);
            assert_eq!(more.len(), 1);
            set.extend(more);
        }
        let more = pending().keep(&with_cookies(&set), &keys(), "login web", &session(), true);
        assert_eq!(more.iter().filter(|set| set.contains("Max-Age=0")).count(), AT_ONCE_MAX);
    }

    #[test]
    fn rfc7636_4_2_the_challenge_is_the_hash_of_the_verifier() {
        let mut pending = pending();
        assert!((43..=128).contains(&pending.verifier.len()));
        // RFC 7636 appendix B.
        pending.verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned();
        assert_eq!(pending.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
