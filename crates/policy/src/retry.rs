//! Whether a failed attempt is made again.
//!
//! Two facts decide what is *safe*: what the endpoint may already have done, and what the client has already
//! seen. A request that was never sent has done nothing, so it may go elsewhere whatever its method. One that
//! was sent may have had its effect, so only idempotent methods (RFC 9110, section 9.2.2) go again. And once a
//! byte of the response has gone to the client nothing may be retried at all. What is *wanted* on top is the
//! policy's: on which failures, how often, at what pace, within which budget.

use std::time::Duration;

use crate::{Backoff, BudgetLaw};

/// Attempts that were refused before a byte was sent are repeated this often for one request without asking
/// the policy: an idle connection that the endpoint closed just then is nobody's failure.
const UNSENT_MAX: u32 = 3;

/// Which requests are tried again, how often and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one counted; 1 (or 0) retries nothing.
    pub attempts_max: u32,
    /// The failures after which to try again.
    pub on: Conditions,
    /// The methods that may be sent twice, in upper case.
    pub methods: Vec<String>,
    /// The wait before a retry, with full jitter.
    pub backoff: Backoff,
    /// What all retries together may cost.
    pub budget: BudgetLaw,
}

impl Default for RetryPolicy {
    /// Two attempts, on connections that fail or break before the response, for idempotent methods.
    fn default() -> Self {
        let methods = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"];
        Self {
            attempts_max: 2,
            on: Conditions { connect: true, reset: true, timeout: false, statuses: Statuses::none() },
            methods: methods.map(str::to_owned).to_vec(),
            backoff: Backoff { from: Duration::from_millis(25), to: Duration::from_secs(1) },
            budget: BudgetLaw::default(),
        }
    }
}

/// Failures after which to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// No connection could be established.
    pub connect: bool,
    /// The connection broke after sending, before a response.
    pub reset: bool,
    /// The time of an attempt, or until its first byte, ran out.
    pub timeout: bool,
    /// These statuses came back.
    pub statuses: Statuses,
}

/// A set of status codes from 400 to 599; others cannot be retried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statuses {
    client: u128,
    server: u128,
}

impl Statuses {
    /// The empty set.
    pub const fn none() -> Self {
        Self { client: 0, server: 0 }
    }

    /// All server errors, 500 to 599.
    pub fn server_errors() -> Self {
        (500..600).fold(Self::none(), Self::with)
    }

    /// This set and `status`; unchanged when that is not from 400 to 599.
    #[must_use]
    pub fn with(mut self, status: u16) -> Self {
        match status {
            400..500 => self.client |= 1 << (status - 400),
            500..600 => self.server |= 1 << (status - 500),
            _ => {}
        }
        self
    }

    /// This set and the other.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self { client: self.client | other.client, server: self.server | other.server }
    }

    /// Whether `status` is in the set.
    pub fn contains(&self, status: u16) -> bool {
        match status {
            400..500 => self.client >> (status - 400) & 1 == 1,
            500..600 => self.server >> (status - 500) & 1 == 1,
            _ => false,
        }
    }
}

/// How an attempt ended, when not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// No connection could be established; nothing was sent.
    ConnectFailed,
    /// An established connection took nothing: it was closed while idle, or the endpoint refused the stream
    /// unseen (RFC 9113, section 8.7).
    NotSent,
    /// The connection broke after something was sent.
    Reset,
    /// The time of the attempt, or until its first byte, ran out.
    TimedOut,
    /// A response with this status came.
    Status(u16),
}

/// What is known of the request when an attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which attempt it was, counted from 1, without those that were [`AttemptOutcome::NotSent`].
    pub number: u32,
    /// How many attempts of this request were `NotSent` before.
    pub unsent: u32,
    /// Whether the policy allows this method to be sent twice ([`RetryPolicy::allows_method`]).
    pub is_method_allowed: bool,
    /// Whether the whole body can be sent again: it is empty, kept, or was not touched.
    pub is_body_replayable: bool,
    /// Whether a byte of the response has gone to the client.
    pub is_response_started: bool,
    /// Whether the request is itself a retry of somebody before us, who marked it as such: of hops in a chain that each
    /// try twice, the last would be asked eight times by the third. What was never sent may be sent all the same.
    pub is_marked: bool,
    /// Whether it was to find out if an endpoint is well again: then it fails for our sake and not for the client's, and
    /// what the policy retries on does not matter.
    pub is_probe: bool,
    /// How it ended.
    pub outcome: AttemptOutcome,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again at once, at no charge: nothing was sent and nobody failed.
    RetryUnsent,
    /// Charge the budget, wait so long, try again; with the budget spent, give up.
    Retry {
        /// The backoff, from now.
        wait: Duration,
    },
    /// Answer with what there is.
    GiveUp(GiveUp),
}

/// Why there is no retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// The client has already seen a part of the response.
    ResponseStarted,
    /// Part of the body is gone and cannot be sent again.
    BodyConsumed,
    /// The request may have had its effect, and its method may not be sent twice.
    NotIdempotent,
    /// The policy does not retry on this.
    Condition,
    /// All attempts are used up.
    Attempts,
    /// The caller tries again already.
    Marked,
    /// The retry budget is spent. Never decided here: the caller asks the budget.
    Budget,
}

impl GiveUp {
    /// A word for labels and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ResponseStarted => "response_started",
            Self::BodyConsumed => "body_consumed",
            Self::NotIdempotent => "not_idempotent",
            Self::Condition => "condition",
            Self::Attempts => "attempts",
            Self::Marked => "marked",
            Self::Budget => "budget",
        }
    }
}

impl RetryPolicy {
    /// The policy that retries nothing but what was never sent.
    pub fn off() -> Self {
        Self { attempts_max: 1, ..Self::default() }
    }

    /// Whether this method may be sent twice.
    pub fn allows_method(&self, method: &str) -> bool {
        self.methods.iter().any(|allowed| allowed == method)
    }

    /// What to do after a failed attempt.
    pub fn decide(&self, attempt: &Attempt, random: u64) -> Verdict {
        if attempt.is_response_started {
            return Verdict::GiveUp(GiveUp::ResponseStarted);
        }
        if !attempt.is_body_replayable {
            return Verdict::GiveUp(GiveUp::BodyConsumed);
        }
        if attempt.outcome == AttemptOutcome::NotSent && attempt.unsent < UNSENT_MAX {
            return Verdict::RetryUnsent;
        }
        if attempt.number >= self.attempts_max {
            return Verdict::GiveUp(GiveUp::Attempts);
        }
        if attempt.is_marked {
            return Verdict::GiveUp(GiveUp::Marked);
        }
        if attempt.is_probe && attempt.is_method_allowed {
            return Verdict::Retry { wait: Duration::ZERO };
        }
        match self.objection(attempt) {
            Some(reason) => Verdict::GiveUp(reason),
            None => Verdict::Retry { wait: self.backoff.full_jitter(attempt.number, random) },
        }
    }

    fn objection(&self, attempt: &Attempt) -> Option<GiveUp> {
        let is_wanted = match attempt.outcome {
            AttemptOutcome::ConnectFailed | AttemptOutcome::NotSent => return self.unsent_objection(),
            AttemptOutcome::Reset => self.on.reset,
            AttemptOutcome::TimedOut => self.on.timeout,
            AttemptOutcome::Status(status) => self.on.statuses.contains(status),
        };
        match (is_wanted, attempt.is_method_allowed) {
            (false, _) => Some(GiveUp::Condition),
            (true, false) => Some(GiveUp::NotIdempotent),
            (true, true) => None,
        }
    }

    fn unsent_objection(&self) -> Option<GiveUp> {
        if self.on.connect { None } else { Some(GiveUp::Condition) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GET_REFUSED: Attempt = Attempt {
        number: 1,
        unsent: 0,
        is_method_allowed: true,
        is_body_replayable: true,
        is_response_started: false,
        is_marked: false,
        is_probe: false,
        outcome: AttemptOutcome::ConnectFailed,
    };

    fn decide(attempt: Attempt) -> Verdict {
        RetryPolicy::default().decide(&attempt, 0)
    }

    #[test]
    fn a_post_that_was_never_sent_is_retried() {
        let attempt = Attempt { is_method_allowed: false, ..GET_REFUSED };
        assert_eq!(decide(attempt), Verdict::Retry { wait: Duration::ZERO });
    }

    #[test]
    fn a_post_that_was_sent_is_not() {
        let attempt = Attempt { is_method_allowed: false, outcome: AttemptOutcome::Reset, ..GET_REFUSED };
        assert_eq!(decide(attempt), Verdict::GiveUp(GiveUp::NotIdempotent));
    }

    #[test]
    fn a_get_whose_connection_broke_is_retried_once() {
        let attempt = Attempt { outcome: AttemptOutcome::Reset, ..GET_REFUSED };
        assert_eq!(decide(attempt), Verdict::Retry { wait: Duration::ZERO });
        assert_eq!(decide(Attempt { number: 2, ..attempt }), Verdict::GiveUp(GiveUp::Attempts));
    }

    #[test]
    fn a_status_is_retried_on_only_when_the_policy_names_it() {
        let attempt = Attempt { outcome: AttemptOutcome::Status(503), ..GET_REFUSED };
        assert_eq!(decide(attempt), Verdict::GiveUp(GiveUp::Condition));
        let mut policy = RetryPolicy::default();
        policy.on.statuses = Statuses::none().with(503);
        assert_eq!(policy.decide(&attempt, 0), Verdict::Retry { wait: Duration::ZERO });
        let other = Attempt { outcome: AttemptOutcome::Status(500), ..GET_REFUSED };
        assert_eq!(policy.decide(&other, 0), Verdict::GiveUp(GiveUp::Condition));
    }

    #[test]
    fn an_idle_connection_closed_under_our_hands_costs_nothing_even_with_retries_off() {
        let attempt = Attempt { outcome: AttemptOutcome::NotSent, is_method_allowed: false, ..GET_REFUSED };
        assert_eq!(RetryPolicy::off().decide(&attempt, 0), Verdict::RetryUnsent);
        let again = Attempt { unsent: UNSENT_MAX, ..attempt };
        assert_eq!(RetryPolicy::off().decide(&again, 0), Verdict::GiveUp(GiveUp::Attempts));
    }

    #[test]
    fn what_somebody_before_us_tries_again_is_not_tried_again_here() {
        let attempt = Attempt { is_marked: true, ..GET_REFUSED };
        assert_eq!(decide(attempt), Verdict::GiveUp(GiveUp::Marked));
        let closed = Attempt { outcome: AttemptOutcome::NotSent, ..attempt };
        assert_eq!(decide(closed), Verdict::RetryUnsent, "an idle connection that was closed is no retry");
    }

    #[test]
    fn a_probe_that_failed_is_made_good_whatever_the_policy_retries_on() {
        let probe = Attempt { is_probe: true, outcome: AttemptOutcome::Status(500), ..GET_REFUSED };
        assert_eq!(decide(probe), Verdict::Retry { wait: Duration::ZERO });
        let post = Attempt { is_method_allowed: false, ..probe };
        assert_eq!(decide(post), Verdict::GiveUp(GiveUp::Condition), "which cannot be made good");
        assert_eq!(decide(Attempt { number: 2, ..probe }), Verdict::GiveUp(GiveUp::Attempts));
    }

    #[test]
    fn the_wait_grows_with_the_attempts() {
        let policy = RetryPolicy { attempts_max: 10, ..RetryPolicy::default() };
        let wait = |number| policy.decide(&Attempt { number, ..GET_REFUSED }, 1 << 63);
        assert_eq!(wait(1), Verdict::Retry { wait: Duration::from_micros(12_500) });
        assert_eq!(wait(3), Verdict::Retry { wait: Duration::from_millis(50) });
    }

    #[test]
    fn statuses_are_a_set_of_errors() {
        let set = Statuses::server_errors().union(Statuses::none().with(429).with(200));
        assert!([500, 503, 599, 429].iter().all(|status| set.contains(*status)));
        assert!([200, 400, 428, 499, 600, 0].iter().all(|status| !set.contains(*status)));
    }

    fn outcomes() -> impl Strategy<Value = AttemptOutcome> {
        prop_oneof![
            Just(AttemptOutcome::ConnectFailed),
            Just(AttemptOutcome::NotSent),
            Just(AttemptOutcome::Reset),
            Just(AttemptOutcome::TimedOut),
            (100_u16..600).prop_map(AttemptOutcome::Status),
        ]
    }

    proptest! {
        /// The safety of retries, whatever the policy asks for.
        #[test]
        fn nothing_is_done_twice_that_must_not_be(
            outcome in outcomes(),
            (number, unsent, attempts_max) in (1_u32..6, 0_u32..6, 0_u32..6),
            (is_method_allowed, is_body_replayable, is_response_started) in any::<(bool, bool, bool)>(),
            (is_marked, is_probe) in any::<(bool, bool)>(),
        ) {
            let on = Conditions { connect: true, reset: true, timeout: true, statuses: Statuses::server_errors() };
            let policy = RetryPolicy { attempts_max, on, ..RetryPolicy::default() };
            let attempt = Attempt {
                number,
                unsent,
                is_method_allowed,
                is_body_replayable,
                is_response_started,
                is_marked,
                is_probe,
                outcome,
            };
            let was_sent = !matches!(outcome, AttemptOutcome::ConnectFailed | AttemptOutcome::NotSent);
            if !matches!(policy.decide(&attempt, 7), Verdict::GiveUp(_)) {
                prop_assert!(!is_response_started && is_body_replayable);
                prop_assert!(is_method_allowed || !was_sent);
                prop_assert!(!is_marked || outcome == AttemptOutcome::NotSent);
                prop_assert!(number < attempts_max || (outcome == AttemptOutcome::NotSent && unsent < UNSENT_MAX));
            }
        }
    }
}
