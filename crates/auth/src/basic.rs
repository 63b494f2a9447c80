//! Proof by a name and a password (RFC 7617).
//!
//! The password is hashed beside the core, with as much work for a name that nobody has as for one that somebody has, and
//! only as often as guessing is allowed. Until a client knows better it sends the password with each request, so what was
//! right is remembered.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Shared;
use crate::cache::{Generation, Keep};
use crate::gate::{Asked, Checked, Fresh, Moment};
use crate::identity::{Identity, Method};
use crate::passwords::{Claim, Verdict};
use crate::proof::{self, NoProof, Proof};
use crate::refusal::{Refused, Why, challenge as challenge_of};
use crate::users::{User, Users};

const NAME_BYTES_MAX: usize = 256;
const PASSWORD_BYTES_MAX: usize = 1024;
/// How long a gate remembers who it was; the list that said so is the gate's own, and a changed list is another gate.
const REMEMBERED: Duration = Duration::from_secs(60);

const WRONG: &str = "the name or the password is wrong";

/// The method, ready.
#[derive(Debug)]
pub(crate) struct BasicMethod {
    users: Users,
    shared: Arc<Shared>,
    ground: Generation,
}

impl BasicMethod {
    pub(crate) fn build(users: &Users, shared: &Arc<Shared>) -> Self {
        Self { users: users.clone(), shared: Arc::clone(shared), ground: Generation::default() }
    }

    pub(crate) fn find<'a>(&self, asked: &Asked<'a>) -> Result<Proof<'a>, NoProof> {
        match proof::credentials(&asked.head.fields, b"basic")? {
            b"" => Err(NoProof::Absent),
            given if given.len() > 2 * (NAME_BYTES_MAX + PASSWORD_BYTES_MAX) => {
                Err(NoProof::Malformed("the name or the password is too long"))
            }
            given => Ok(Proof::Secret(given)),
        }
    }

    pub(crate) fn check(&self, given: &[u8], client: IpAddr, at: Moment) -> Checked {
        let Some((name, password)) = read(given) else {
            return Checked::Refused(Refused::invalid(
                "this is no name and password as RFC 7617 has them",
                "",
            ));
        };
        let user = self.users.get(&name);
        let passwords = &self.shared.passwords;
        if let Some(user) = user.filter(|user| passwords.remembers(&user.hash, &password, at.wall)) {
            return Checked::Known(self.fresh(&name, user, at));
        }
        if let Some(wait) = passwords.held_up(self.users.name(), &name, client, at) {
            return Checked::Refused(too_many(wait));
        }
        let hash = match user {
            Some(user) => Arc::clone(&user.hash),
            None => match self.users.decoy(passwords.number_of(&name)) {
                Some(hash) => Arc::clone(hash),
                None => return Checked::Refused(Refused::invalid(WRONG, "the list of users is empty")),
            },
        };
        // Nobody, where the hash is another's.
        let known = user.map(|user| self.fresh(&name, user, at));
        let claim = Claim {
            list: self.users.name().to_owned(),
            user: name,
            is_real: known.is_some(),
            client,
            hash,
            password,
        };
        Checked::Later(Box::pin(hashed(Arc::clone(&self.shared), claim, known, at)))
    }

    fn fresh(&self, name: &str, user: &User, at: Moment) -> Fresh {
        let mut identity = Identity::new(Method::Basic, self.users.name(), name);
        identity.roles.clone_from(&user.roles);
        let keep = Keep { until: at.wall + REMEMBERED, since: self.ground.now() };
        Fresh::new(identity, Some(keep))
    }

    /// RFC 7617 section 2 and 2.1.
    pub(crate) fn challenge(&self, realm: &str) -> String {
        challenge_of("Basic", &[("realm", Some(realm)), ("charset", Some("UTF-8"))])
    }
}

async fn hashed(
    shared: Arc<Shared>,
    claim: Claim,
    known: Option<Fresh>,
    at: Moment,
) -> Result<Fresh, Refused> {
    match (shared.passwords.check(&shared.desk, claim, at).await, known) {
        (Verdict::Right, Some(fresh)) => Ok(fresh),
        (Verdict::Right, None) | (Verdict::Wrong, _) => Err(Refused::invalid(WRONG, "")),
        (Verdict::HeldUp(wait), _) => Err(too_many(wait)),
        (Verdict::Crowded, _) => Err(Refused::unavailable("too many passwords wait to be checked")),
    }
}

fn too_many(wait: Duration) -> Refused {
    let retry_after_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Refused::new(Why::TooMany { retry_after_s }, "too many wrong passwords; wait before the next", "")
}

/// Base 64 of a name, a colon and a password, of which only the name must be text.
pub(crate) fn read(given: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut bytes = data_encoding::BASE64.decode(given).ok()?;
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let password = bytes.split_off(colon + 1);
    bytes.truncate(colon);
    let name = String::from_utf8(bytes).ok()?;
    let is_fit = name.len() <= NAME_BYTES_MAX && password.len() <= PASSWORD_BYTES_MAX;
    (is_fit && !name.chars().any(char::is_control)).then_some((name, password))
}

#[cfg(test)]
mod tests {
    use terrace_http::RequestHead;
    use terrace_runtime::drain;

    use super::*;
    use crate::users::tests::{ARGON2, BCRYPT};
    use crate::{Auth, Decision, Gate, GateConfig, MethodConfig, Now};

    const WALL: Duration = Duration::from_secs(1_800_000_000);

    /// A gate for `ann` and `bob`, both with the password `secret`, and who works for it.
    async fn with_gate<F: Future<Output = ()>>(test: impl FnOnce(Arc<Gate>) -> F) {
        let text = format!("ann:{ARGON2}:admin\nbob:{BCRYPT}\n");
        let users = Users::parse("staff", &text).expect("a list");
        let (auth, task) = Auth::unseen(2);
        let config = GateConfig { methods: vec![MethodConfig::Basic(users)], ..GateConfig::default() };
        let gate = auth.gate(&config).expect("a gate");
        let (drainer, drain) = drain::channel();
        let working = tokio::spawn(task.run(drain));
        test(gate).await;
        drainer.request();
        working.await.expect("no panic");
    }

    fn now(gate: &Gate, credentials: &str, client: &str, at_s: u64) -> Now {
        let mut head = RequestHead::new();
        let value = format!("Basic {}", data_encoding::BASE64.encode(credentials.as_bytes()));
        head.fields.append(b"Authorization", value.as_bytes());
        let asked = Asked {
            head: &head,
            is_tls: true,
            client: client.parse().expect("an address"),
            certificate: None,
        };
        let now = Duration::from_secs(at_s);
        gate.check_now(&asked, Moment { now, wall: WALL + now })
    }

    async fn ask(gate: &Gate, credentials: &str, client: &str, at_s: u64) -> Decision {
        match now(gate, credentials, client, at_s) {
            Now::Decided(decision) => decision,
            Now::Later(ticket) => gate.later(ticket).await,
        }
    }

    fn status(decision: &Decision) -> u16 {
        match decision {
            Decision::Refused(refusal) => refusal.status,
            Decision::Known(_) | Decision::Anonymous => 200,
        }
    }

    #[tokio::test]
    async fn rfc7617_a_name_and_a_password_say_who_it_is() {
        with_gate(async |gate| {
            let decision = ask(&gate, "ann:secret", "192.0.2.1", 1).await;
            let Decision::Known(passed) = &decision else { panic!("{decision:?}") };
            assert_eq!((passed.identity.subject.as_str(), passed.identity.issuer.as_str()), ("ann", "staff"));
            assert!(passed.identity.has_role("admin"));
            for wrong in ["ann:Secret", "ann:", "ann:secret ", "Ann:secret", ":secret", "ann", "eve:secret"] {
                let decision = ask(&gate, wrong, "192.0.2.1", 1).await;
                let Decision::Refused(refusal) = &decision else { panic!("{wrong}") };
                assert_eq!(refusal.status, 401, "{wrong}");
                assert_eq!(refusal.challenges, ["Basic realm=\"terrace\", charset=\"UTF-8\""], "{wrong}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn who_was_right_is_known_without_waiting() {
        with_gate(async |gate| {
            assert!(matches!(now(&gate, "bob:secret", "192.0.2.1", 1), Now::Later(_)));
            assert_eq!(status(&ask(&gate, "bob:secret", "192.0.2.1", 1).await), 200);
            for at_s in [2, 100, 500] {
                let Now::Decided(decision) = now(&gate, "bob:secret", "198.51.100.1", at_s) else {
                    panic!("it waits at {at_s}");
                };
                assert_eq!(status(&decision), 200);
            }
            assert!(matches!(now(&gate, "bob:secret", "192.0.2.1", 700), Now::Later(_)), "ten minutes later");
        })
        .await;
    }

    #[tokio::test]
    async fn guessing_is_held_up_and_who_is_known_is_not() {
        with_gate(async |gate| {
            assert_eq!(status(&ask(&gate, "bob:secret", "192.0.2.1", 1).await), 200);
            for name in ["bob", "nobody"] {
                let mut statuses = Vec::new();
                for number in 0..12 {
                    let guess = format!("{name}:{number}");
                    statuses.push(status(&ask(&gate, &guess, "192.0.2.1", 1).await));
                }
                assert_eq!(statuses[..10], [401; 10], "{name}");
                assert_eq!(statuses[10..], [429; 2], "{name}: there or not, it looks the same");
            }
            // The right password of somebody else is a wrong guess like any other.
            let mut statuses = Vec::new();
            for _ in 0..11 {
                statuses.push(status(&ask(&gate, "eve:secret", "192.0.2.2", 1).await));
            }
            assert_eq!((&statuses[..10], statuses[10]), (&[401; 10][..], 429));
            let held_up = ask(&gate, "bob:x", "192.0.2.1", 1).await;
            let Decision::Refused(refusal) = &held_up else { panic!("{held_up:?}") };
            assert_eq!(refusal.retry_after_s, Some(10));
            assert_eq!(status(&ask(&gate, "bob:secret", "192.0.2.1", 1).await), 200, "who is known goes on");
        })
        .await;
    }

    #[tokio::test]
    async fn the_same_password_at_once_is_hashed_once() {
        with_gate(async |gate| {
            let mut asking = tokio::task::JoinSet::new();
            for _ in 0..100 {
                let gate = Arc::clone(&gate);
                asking.spawn(async move { status(&ask(&gate, "bob:secret", "192.0.2.1", 1).await) });
            }
            for status in asking.join_all().await {
                assert_eq!(status, 200, "one guess, however many bring it");
            }
        })
        .await;
    }
}
