//! Why there is no certificate: whose fault it is, and when it is worth another try.

use std::time::Duration;

use instant_acme::{Error, Problem};
use terrace_fetch::ClientError;

use crate::http::Noted;

/// Bytes of what an authority says that are repeated in a log.
const SAID_BYTES_MAX: usize = 500;
const TYPES: &str = "urn:ietf:params:acme:error:";

/// Why an order came to nothing. What was served before is served on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OrderError {
    /// The network's or the authority's; soon again.
    #[error("the authority cannot be reached: {0}")]
    Unreachable(String),
    /// The authority's; soon again.
    #[error("the authority failed: {0}")]
    Authority(String),
    /// The authority is not convinced that these hosts are ours: their DNS leads elsewhere, or something stands between
    /// it and the listener. The operator's to mend; seldom again, for failures are counted there.
    #[error("the authority refused {}: {said}", .hosts.join(", "))]
    Refused {
        /// Of the hosts of the order; all where none is named.
        hosts: Vec<String>,
        /// In the authority's words.
        said: String,
    },
    /// Asked too often; not before it says.
    #[error("the authority has had too many requests: {said}")]
    RateLimited {
        /// How long to wait, where it says so.
        after: Option<Duration>,
        /// In the authority's words.
        said: String,
    },
    /// The account is not good: `[acme]` must change, or the operator must do what the authority says.
    #[error("the authority refuses the account: {0}")]
    Account(String),
    /// The account is not known there any more; another one is opened.
    #[error("the authority does not know the account any more")]
    NoAccount,
    /// It offers no way of convincing it that we can go.
    #[error("for {host} the authority offers none of the challenges that are allowed here ({offered})")]
    NoChallenge {
        /// The host.
        host: String,
        /// What it offers.
        offered: String,
    },
    /// What came is no certificate for what was ordered; the authority's.
    #[error("what the authority issued cannot be used: {0}")]
    Useless(String),
    /// It took too long; again.
    #[error("the order was not done within {0:?}")]
    TimedOut(Duration),
}

impl OrderError {
    /// A word for the label of a metric.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Authority(_) | Self::TimedOut(_) => "unreachable",
            Self::RateLimited { .. } => "rate_limited",
            Self::Refused { .. } | Self::NoChallenge { .. } => "refused",
            Self::Account(_) | Self::NoAccount | Self::Useless(_) => "failed",
        }
    }

    /// What became of a request. `hosts`: those of the order.
    pub(crate) fn of(error: Error, noted: Noted, hosts: &[String]) -> Self {
        match error {
            Error::Api(problem) => Self::said(&problem, noted, hosts),
            Error::Other(other) => match other.downcast::<ClientError>() {
                Ok(error) => Self::Unreachable(error.to_string()),
                Err(other) => Self::Authority(brief(&other.to_string())),
            },
            // No problem document: somebody in front of the authority answered.
            error if noted.status == 429 => {
                Self::RateLimited { after: noted.retry_after, said: brief(&error.to_string()) }
            }
            error => Self::Authority(format!("{} (status {})", brief(&error.to_string()), noted.status)),
        }
    }

    /// A problem document (RFC 8555 section 6.7).
    pub(crate) fn said(problem: &Problem, noted: Noted, hosts: &[String]) -> Self {
        let kind = problem.r#type.as_deref().unwrap_or_default();
        let said = brief(&problem.to_string());
        match kind.strip_prefix(TYPES).unwrap_or_default() {
            "rateLimited" => Self::RateLimited { after: noted.retry_after, said },
            "accountDoesNotExist" => Self::NoAccount,
            "serverInternal" | "badNonce" => Self::Authority(said),
            "externalAccountRequired"
            | "invalidContact"
            | "unsupportedContact"
            | "userActionRequired"
            | "badPublicKey"
            | "badSignatureAlgorithm" => Self::Account(said),
            // Of a request; of a host it is said in its authorization.
            "unauthorized" if problem.status.is_none_or(|status| status == 401) && noted.status >= 400 => {
                Self::Account(said)
            }
            "" if noted.status >= 500 => Self::Authority(said),
            _ => Self::Refused { hosts: named(problem, hosts), said },
        }
    }
}

/// The hosts of the order that a problem is about; all where it names none.
fn named(problem: &Problem, hosts: &[String]) -> Vec<String> {
    let is_named = |host: &&String| {
        problem.subproblems.iter().any(|part| {
            let name = part.identifier.as_ref().map(|identifier| identifier.authorized(false).to_string());
            name.is_some_and(|name| name.eq_ignore_ascii_case(host))
        })
    };
    let named: Vec<String> = hosts.iter().filter(is_named).cloned().collect();
    if named.is_empty() { hosts.to_vec() } else { named }
}

/// As much of a text as a log shall repeat, on one line.
pub(crate) fn brief(text: &str) -> String {
    let mut end = text.len().min(SAID_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Vec<String> {
        ["a.example", "b.example"].map(str::to_owned).to_vec()
    }

    fn of(document: &str, status: u16) -> OrderError {
        let problem: Problem = serde_json::from_str(document).expect("a problem");
        let noted = Noted { status, retry_after: Some(Duration::from_secs(7)) };
        OrderError::of(Error::Api(problem), noted, &hosts())
    }

    #[test]
    fn rfc8555_6_7_the_kind_of_a_problem_says_whose_fault_it_is() {
        let kind = |kind: &str, status| {
            of(&format!(r#"{{"type":"{TYPES}{kind}","detail":"d","status":{status}}}"#), status)
        };
        let wait = Some(Duration::from_secs(7));
        assert!(matches!(kind("rateLimited", 429), OrderError::RateLimited { after, .. } if after == wait));
        assert_eq!(kind("accountDoesNotExist", 400), OrderError::NoAccount);
        assert!(matches!(kind("serverInternal", 500), OrderError::Authority(_)));
        assert!(matches!(kind("externalAccountRequired", 401), OrderError::Account(_)));
        assert!(matches!(kind("unauthorized", 401), OrderError::Account(_)));
        assert!(matches!(kind("caa", 403), OrderError::Refused { hosts: refused, .. } if refused == hosts()));
        assert!(matches!(of("{}", 503), OrderError::Authority(_)));
        assert!(matches!(of("{}", 400), OrderError::Refused { .. }));
    }

    #[test]
    fn rfc8555_6_7_1_a_refusal_names_the_host_that_it_is_about() {
        let document = r#"{"type":"urn:ietf:params:acme:error:malformed","detail":"no","subproblems":[
            {"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"policy",
             "identifier":{"type":"dns","value":"B.example"}}]}"#;
        let OrderError::Refused { hosts, said } = of(document, 403) else { panic!("it is a refusal") };
        assert_eq!(hosts, ["b.example"]);
        assert!(said.contains("policy"), "{said}");
    }

    #[test]
    fn an_answer_of_something_in_front_is_no_refusal() {
        let json = || Error::from(serde_json::from_str::<Problem>("<html>").expect_err("no JSON"));
        let noted = |status| Noted { status, retry_after: None };
        assert!(matches!(OrderError::of(json(), noted(502), &hosts()), OrderError::Authority(_)));
        assert!(matches!(OrderError::of(json(), noted(429), &hosts()), OrderError::RateLimited { .. }));
    }

    #[test]
    fn what_an_authority_says_fills_no_log() {
        assert_eq!(brief("two\nlines"), "two lines");
        assert!(brief(&"ä".repeat(1_000)).len() <= SAID_BYTES_MAX);
    }
}
