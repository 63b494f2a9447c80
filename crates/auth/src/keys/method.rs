//! Proof by an API key, as a gate asks for it.
//!
//! A key comes in a field of its own or as a bearer token; there its prefix tells it from a token that an issuer signed.
//! To check one takes a microsecond, so nothing is waited for; it is remembered for a minute only, since a use that is
//! not seen is not noted.

use std::time::Duration;

use terrace_http::{Fields, Known};

use super::live::{KeyRefused, Keys};
use super::text::{self, NotAKey};
use crate::cache::Keep;
use crate::gate::{Asked, Checked, Fresh, Moment};
use crate::proof::{self, NoProof, PROOF_BYTES_MAX, Proof};
use crate::refusal::{Refused, Why, challenge as challenge_of};

/// A key is looked up anew after that time.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Which keys, and where they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The keys.
    pub keys: Keys,
    /// A field that holds nothing else, besides `Authorization: Bearer`.
    pub header: Option<String>,
}

/// The method, ready.
#[derive(Debug)]
pub(crate) struct KeyMethod {
    config: Config,
}

impl KeyMethod {
    pub(crate) fn build(config: &Config) -> Self {
        Self { config: config.clone() }
    }

    pub(crate) fn find<'a>(&self, asked: &Asked<'a>) -> Result<Proof<'a>, NoProof> {
        let fields = &asked.head.fields;
        let own = match &self.config.header {
            Some(header) => proof::field(fields, header),
            None => Err(NoProof::Absent),
        };
        let found = match own {
            Err(NoProof::Absent) => proof::credentials(fields, b"bearer").and_then(|token| {
                if text::looks_like_a_key(token) { Ok(token) } else { Err(NoProof::Absent) }
            }),
            other => other,
        };
        match found {
            Ok(b"") => Err(NoProof::Absent),
            Ok(key) if key.len() > PROOF_BYTES_MAX => Err(NoProof::Malformed("the key is too long")),
            Ok(key) => Ok(Proof::Secret(key)),
            Err(why) => Err(why),
        }
    }

    pub(crate) fn check(&self, key: &[u8], at: Moment) -> Checked {
        let since = self.config.keys.since();
        match self.config.keys.check(key, at.wall) {
            Ok(identity) => {
                let until = identity.expires.unwrap_or(Duration::MAX).min(at.wall + REMEMBERED);
                Checked::Known(Fresh::new((*identity).clone(), Some(Keep { until, since })))
            }
            Err(KeyRefused::NotAKey(NotAKey::Damaged)) => Checked::Refused(Refused::invalid(
                "the key was mistyped, or not copied whole: its checksum is wrong",
                "",
            )),
            Err(why @ KeyRefused::Expired) => {
                Checked::Refused(Refused::new(Why::Expired, "the key has expired", why.to_string()))
            }
            Err(why) => Checked::Refused(Refused::invalid("there is no such key", why.to_string())),
        }
    }

    /// What would be a proof, for people.
    pub(crate) fn wanted(&self) -> String {
        match &self.config.header {
            Some(header) => format!("an API key in {header}"),
            None => "an API key as Authorization: Bearer".to_owned(),
        }
    }

    /// Takes the key out of a request, wherever it stands.
    pub(crate) fn hide(&self, fields: &mut Fields) {
        if let Some(header) = &self.config.header {
            fields.remove_named(header.as_bytes());
        }
        if proof::credentials(fields, b"bearer").is_ok_and(text::looks_like_a_key) {
            fields.remove(Known::Authorization);
        }
    }

    /// No scheme is registered for keys in fields of their own; as a bearer token each is good too (RFC 6750 section 3).
    pub(crate) fn challenge(&self, realm: &str, wrong: Option<&Refused>) -> String {
        let error = wrong.and_then(|refused| refused.why.bearer_error());
        let description = wrong.filter(|_| error.is_some()).map(|refused| refused.reason);
        challenge_of(
            "Bearer",
            &[("realm", Some(realm)), ("error", error), ("error_description", description)],
        )
    }
}

#[cfg(test)]
mod tests {
    use terrace_http::RequestHead;
    use terrace_instruments::Log;
    use terrace_testkit::Folder;

    use super::*;
    use crate::keys::{KeyText, NewKey};
    use crate::{Auth, Decision, Gate, GateConfig, MethodConfig, Now};

    fn asked(gate: &Gate, name: &str, value: &str) -> Decision {
        let mut head = RequestHead::new();
        head.fields.append(name.as_bytes(), value.as_bytes());
        let client = "192.0.2.1".parse().expect("an address");
        let asked = Asked { head: &head, is_tls: true, client, certificate: None };
        match gate.check_now(&asked, Moment::read()) {
            Now::Decided(decision) => decision,
            Now::Later(ticket) => panic!("a key takes no time: {ticket:?}"),
        }
    }

    fn status(decision: &Decision) -> u16 {
        match decision {
            Decision::Refused(refusal) => refusal.status,
            Decision::Known(_) | Decision::Anonymous => 200,
        }
    }

    #[test]
    fn a_key_opens_in_its_field_and_as_a_bearer_token_until_it_is_revoked() {
        let folder = Folder::new();
        let keys = Keys::open(folder.path(), Log::discard()).expect("readable");
        let new = NewKey { name: "x".to_owned(), roles: vec!["a".to_owned()], ..NewKey::default() };
        let (key, _) = keys.create(new).expect("made");
        let method = Config { keys: keys.clone(), header: Some("X-Api-Key".to_owned()) };
        let (auth, _task) = Auth::unseen(1);
        let gate = auth
            .gate(&GateConfig { methods: vec![MethodConfig::Key(method)], ..GateConfig::default() })
            .expect("a gate");
        let bearer = format!("Bearer {}", key.reveal());
        for _ in 0..2 {
            for (name, value) in [("X-Api-Key", key.reveal()), ("authorization", &bearer)] {
                let decision = asked(&gate, name, value);
                let Decision::Known(passed) = &decision else { panic!("{decision:?}") };
                assert_eq!(passed.forward.named(b"X-Auth-Roles"), Some(&b"a"[..]));
            }
        }
        assert_eq!(
            status(&asked(&gate, "Authorization", "Bearer eyJ.e30.x")),
            401,
            "another's token is none of ours"
        );
        assert_eq!(status(&asked(&gate, "X-Other", key.reveal())), 401);
        let wrong = asked(&gate, "X-Api-Key", KeyText::random().reveal());
        let Decision::Refused(refusal) = &wrong else { panic!("{wrong:?}") };
        assert_eq!((refusal.status, refusal.outcome), (401, "invalid"));
        assert!(refusal.challenges[0].starts_with("Bearer realm=\"terrace\", error=\"invalid_token\""));

        keys.revoke(key.id()).expect("revoked");
        assert_eq!(status(&asked(&gate, "X-Api-Key", key.reveal())), 401, "what was remembered is forgotten");
    }
}
