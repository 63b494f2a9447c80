//! When a certificate is renewed: thirty days before its end or a third of its lifetime, whichever is less, and a little
//! earlier at random, so that machines and certificates that began together do not all come at once. An authority may
//! know better and say when (RFC 9773): it spreads its load so, and it says "now" when it must revoke.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::error::brief;
use crate::http::Http;
use crate::moment;
use crate::x509::Facts;

/// Renewed so long before the end, where nobody says otherwise.
const BEFORE: Duration = Duration::from_secs(30 * 86_400);
/// What an authority suggests is looked at so often, where it does not say; and at least and at most.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3_600);
const LOOK_EVERY_MIN: Duration = Duration::from_secs(5 * 60);
const LOOK_EVERY_MAX: Duration = Duration::from_secs(86_400);

/// When the authority wants a certificate to be renewed, as a moment of the wall clock within its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suggestion {
    pub(crate) at: Duration,
}

/// The moment of the wall clock from which on a certificate is due. `jitter`: 0 to 1, the certificate's own.
pub(crate) fn due_at(
    facts: &Facts,
    before: Option<Duration>,
    suggestion: Option<Suggestion>,
    jitter: f64,
) -> Duration {
    let lifetime = facts.lifetime();
    let early = (lifetime / 30).mul_f64(jitter.clamp(0.0, 1.0));
    let own = facts.not_after.saturating_sub(before.unwrap_or(BEFORE).min(lifetime / 3) + early);
    match suggestion {
        // However late it wants to be asked, some time must be left for failures.
        Some(Suggestion { at }) if before.is_none() => at.min(facts.not_after.saturating_sub(lifetime / 10)),
        Some(Suggestion { at }) => at.min(own),
        None => own,
    }
}

/// Of two certificates for a host the one of the higher rank is shown: the newest that has not ended, else the one that
/// ended last. The newest and not the one that holds longest, for an authority that revokes a certificate has it replaced
/// long before its end.
pub(crate) fn rank(facts: &Facts, wall: Duration) -> (bool, Duration, Duration) {
    let has_ended = facts.not_after <= wall;
    (!has_ended, if has_ended { Duration::ZERO } else { facts.not_before }, facts.not_after)
}

/// What names a certificate towards its authority (RFC 9773 section 4.1): who signed it, and its number.
pub(crate) fn identifier(facts: &Facts) -> Option<String> {
    let key = URL_SAFE_NO_PAD.encode(facts.authority_key.as_ref()?);
    Some(format!("{key}.{}", URL_SAFE_NO_PAD.encode(&facts.serial)))
}

#[derive(Deserialize)]
struct Directory {
    #[serde(rename = "renewalInfo")]
    renewal_info: Option<String>,
}

#[derive(Deserialize)]
struct RenewalInfo {
    #[serde(rename = "suggestedWindow")]
    window: Window,
}

#[derive(Deserialize)]
struct Window {
    start: String,
    end: String,
}

/// What became of asking.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    /// By the certificate's identifier.
    pub(crate) suggestions: Vec<(String, Suggestion)>,
    /// When to ask again.
    pub(crate) again: Duration,
    /// What went wrong, the first of it.
    pub(crate) problem: Option<String>,
}

/// Asks the authority when it wants these certificates to be renewed. One that does not offer it is asked again in a day.
pub(crate) async fn ask(http: &Http, directory: &str, identifiers: Vec<String>) -> Round {
    let mut round = Round { again: LOOK_EVERY_MAX, ..Round::default() };
    let found = match http.get(directory).await {
        Ok(answer) => serde_json::from_slice::<Directory>(&answer.body).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let url = match found {
        Ok(Directory { renewal_info: Some(url) }) => url,
        Ok(Directory { renewal_info: None }) => return round,
        Err(problem) => return Round { again: LOOK_EVERY, problem: Some(brief(&problem)), ..round },
    };
    for identifier in identifiers {
        match suggestion(http, &format!("{}/{identifier}", url.trim_end_matches('/'))).await {
            Ok(found) => round.suggestions.push((identifier, found)),
            Err(problem) => round.problem = round.problem.or(Some(problem)),
        }
        let again = http.noted().retry_after.unwrap_or(LOOK_EVERY).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX);
        round.again = round.again.min(again);
    }
    round
}

async fn suggestion(http: &Http, url: &str) -> Result<Suggestion, String> {
    let answer = http.get(url).await.map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("its renewal information has the status {}", answer.status));
    }
    window(&answer.body, terrace_runtime::random::u64()).ok_or_else(|| {
        format!("its renewal information is none: {}", brief(&String::from_utf8_lossy(&answer.body)))
    })
}

/// A moment within the suggested window, drawn by `random` (RFC 9773 section 4.2).
pub(crate) fn window(body: &[u8], random: u64) -> Option<Suggestion> {
    let info: RenewalInfo = serde_json::from_slice(body).ok()?;
    let (start, end) = (moment::rfc3339(&info.window.start)?, moment::rfc3339(&info.window.end)?);
    let width = end.checked_sub(start)?.as_secs().max(1);
    Some(Suggestion { at: start + Duration::from_secs(random % width) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::day;

    fn facts(from: u64, to: u64) -> Facts {
        Facts {
            not_before: day(from),
            not_after: day(to),
            serial: vec![0, 0x87, 0x65, 0x43, 0x21],
            authority_key: None,
        }
    }

    #[test]
    fn a_certificate_is_renewed_thirty_days_or_a_third_of_its_life_before_its_end() {
        assert_eq!(due_at(&facts(0, 398), None, None, 0.0), day(368));
        assert_eq!(due_at(&facts(0, 90), None, None, 0.0), day(60));
        assert_eq!(due_at(&facts(0, 6), None, None, 0.0), day(4));
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        assert_eq!(due_at(&facts(0, 90), days(10), None, 0.0), day(80));
        assert_eq!(due_at(&facts(0, 90), days(60), None, 0.0), day(60), "else it would be renewed for ever");
        assert_eq!(due_at(&facts(0, 90), None, None, 1.0), day(57), "at random up to a thirtieth earlier");
    }

    #[test]
    fn the_newest_certificate_is_shown_and_of_those_that_ended_the_last() {
        let (long, short, old) = (facts(0, 398), facts(10, 100), facts(0, 90));
        let first = |wall| {
            let mut all = [&long, &short, &old];
            all.sort_by_key(|facts| std::cmp::Reverse(rank(facts, wall)));
            all[0].clone()
        };
        assert_eq!(first(day(20)), short, "the long one was replaced for a reason");
        assert_eq!(first(day(200)), long);
        assert_eq!(first(day(9_999)), long, "by a clock that is wrong, perhaps");
        assert_eq!(first(Duration::ZERO), short);
    }

    #[test]
    fn rfc9773_4_2_the_authority_says_when_within_reason() {
        let at = |at| Some(Suggestion { at: day(at) });
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        assert_eq!(due_at(&facts(0, 90), None, at(5), 0.0), day(5), "it must be revoked");
        assert_eq!(due_at(&facts(0, 90), None, at(70), 0.0), day(70));
        assert_eq!(due_at(&facts(0, 90), None, at(90), 0.0), day(81), "some time is left for failures");
        assert_eq!(due_at(&facts(0, 90), days(20), at(80), 0.0), day(70), "the operator said when");
        assert_eq!(due_at(&facts(0, 90), days(20), at(5), 0.0), day(5), "but the authority may be in need");
    }

    #[test]
    fn rfc9773_4_1_a_certificate_is_named_as_in_its_example() {
        let key = [
            0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3, 0x7b, 0x84, 0x7b, 0xa0, 0xae, 0x2c,
            0xde, 0x01, 0xc8, 0xd4,
        ];
        let facts = Facts { authority_key: Some(key.to_vec()), ..facts(0, 90) };
        assert_eq!(identifier(&facts).as_deref(), Some("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"));
        assert_eq!(identifier(&Facts { authority_key: None, ..facts }), None);
    }

    #[test]
    fn rfc9773_4_2_a_moment_within_the_window_is_drawn() {
        let body = br#"{"suggestedWindow":{"start":"2026-01-02T00:00:00Z","end":"2026-01-03T00:00:00Z"},
                        "explanationURL":"https://acme.example.com/docs/ari"}"#;
        assert_eq!(window(body, 0), Some(Suggestion { at: day(1) }));
        let last = window(body, 86_399).expect("a window").at;
        assert!(last > day(1) && last < day(2));
        let backwards =
            br#"{"suggestedWindow":{"start":"2026-01-03T00:00:00Z","end":"2026-01-02T00:00:00Z"}}"#;
        assert_eq!(window(backwards, 0), None);
        assert_eq!(window(b"{}", 0), None);
    }

    fn http() -> Http {
        Http::new(&crate::order::tests::authority("http://unused/")).expect("no roots of its own")
    }

    const DIRECTORY: (&str, &str, &str) = ("/dir", "200 OK\r\n", r#"{"renewalInfo":"HERE/renewal"}"#);

    #[tokio::test]
    async fn rfc9773_4_the_authority_is_asked_for_each_certificate_and_says_when_to_ask_again() {
        let window = r#"{"suggestedWindow":{"start":"2026-01-02T00:00:00Z","end":"2026-01-02T00:00:01Z"}}"#;
        let authority = crate::testing::Authority::start(vec![
            DIRECTORY,
            ("/renewal/a.1", "200 OK\r\nRetry-After: 3600\r\n", window),
            ("/renewal/b.2", "404 Not Found\r\nRetry-After: 9000\r\n", "{}"),
        ]);
        let identifiers = vec!["a.1".to_owned(), "b.2".to_owned()];
        let round = ask(&http(), &authority.url("/dir"), identifiers).await;
        assert_eq!(round.suggestions, [("a.1".to_owned(), Suggestion { at: day(1) })]);
        assert_eq!(round.again, Duration::from_secs(3_600), "the sooner of both");
        assert_eq!(round.problem.as_deref(), Some("its renewal information has the status 404"));
        assert_eq!(authority.asked(), ["GET /dir", "GET /renewal/a.1", "GET /renewal/b.2"]);
    }

    #[tokio::test]
    async fn an_authority_that_suggests_nothing_is_asked_again_in_a_day_and_one_that_is_down_earlier() {
        let authority = crate::testing::Authority::start(vec![("/dir", "200 OK\r\n", "{}")]);
        let round = ask(&http(), &authority.url("/dir"), vec!["a.1".to_owned()]).await;
        assert_eq!(round, Round { again: LOOK_EVERY_MAX, ..Round::default() });
        let down = ask(&http(), &authority.url("/nowhere"), vec!["a.1".to_owned()]).await;
        assert!(down.problem.is_some() && down.again == LOOK_EVERY, "{down:?}");
    }
}
