//! What answers when a service could not, after all retries: another service, or a fixed answer.

use bytes::Bytes;
use terrace_http::{Known, ResponseHead};
use terrace_policy::{AttemptOutcome, Statuses};

use crate::chain::{Ending, Request, Towards, Way};
use crate::config::Target;
use crate::exchange::After;
use crate::forward::{self, Failed};
use crate::journal::Journal;
use crate::note::Note;

/// What answers in a service's place, and when.
#[derive(Debug, Clone)]
pub struct Fallback {
    /// What.
    pub to: FallbackTo,
    /// When.
    pub on: FallbackOn,
}

/// What answers in a service's place.
#[derive(Debug, Clone)]
pub enum FallbackTo {
    /// Another service, under its own policies; for it there is no further fallback.
    Service(Box<Target>),
    /// A fixed answer.
    Respond {
        /// Its status.
        status: u16,
        /// Its body.
        body: Bytes,
        /// Its media type.
        content_type: String,
    },
}

/// After which failures something else answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FallbackOn {
    /// The service's breaker is open, it is given as much as it can do, or this machine is.
    pub open: bool,
    /// No connection could be had; the request was never sent.
    pub connect: bool,
    /// The connection broke before the response.
    pub reset: bool,
    /// No answer came in time.
    pub timeout: bool,
    /// The response had one of these statuses.
    pub statuses: Statuses,
}

/// Why a service did not serve a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It was not even asked.
    Open,
    /// It was asked, and that came of it.
    Attempt(AttemptOutcome),
}

impl FallbackOn {
    fn contains(&self, cause: Cause) -> bool {
        match cause {
            Cause::Open => self.open,
            Cause::Attempt(AttemptOutcome::ConnectFailed) => self.connect,
            Cause::Attempt(AttemptOutcome::NotSent | AttemptOutcome::Reset) => self.reset,
            Cause::Attempt(AttemptOutcome::TimedOut) => self.timeout,
            Cause::Attempt(AttemptOutcome::Status(status)) => self.statuses.contains(status),
        }
    }
}

impl Fallback {
    /// Whether it stands in for a failure of that cause, for a request that can or cannot be sent once more.
    pub(crate) fn is_for(&self, cause: Cause, is_replayable: bool) -> bool {
        let can_answer = is_replayable || matches!(self.to, FallbackTo::Respond { .. });
        can_answer && self.on.contains(cause)
    }
}

/// Answers in the place of the service, or says what was wrong with it.
pub(crate) async fn answer<'a>(
    way: Way<'a>,
    request: &mut Request<'_, '_>,
    to: Towards<'a>,
    failed: Failed,
    journal: &mut Journal<'a>,
) -> Result<After, Ending> {
    let Some(fallback) = &to.policy.fallback else { return Err(failed.problem.into()) };
    if !fallback.is_for(failed.cause, failed.is_replayable) {
        return Err(failed.problem.into());
    }
    journal.note(Note::FellBack);
    to.metrics.fallbacks.inc();
    match &fallback.to {
        FallbackTo::Respond { status, body, content_type } => {
            let mut head = ResponseHead::new(*status);
            head.fields.append_known(Known::ContentType, content_type.as_bytes());
            Err(Ending::Answer(Box::new((head, body.clone()))))
        }
        FallbackTo::Service(target) => {
            let instead = to.instead(way.snapshot, target);
            forward::forward_once(way, request, instead, journal).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_open_and_503() -> FallbackOn {
        let statuses = Statuses::none().with(503);
        FallbackOn { open: true, connect: false, reset: false, timeout: false, statuses }
    }

    #[test]
    fn a_fallback_stands_in_for_the_failures_it_names() {
        let on = on_open_and_503();
        assert!(on.contains(Cause::Open));
        assert!(on.contains(Cause::Attempt(AttemptOutcome::Status(503))));
        assert!(!on.contains(Cause::Attempt(AttemptOutcome::Status(500))));
        assert!(!on.contains(Cause::Attempt(AttemptOutcome::TimedOut)));
    }

    #[test]
    fn a_request_whose_body_is_gone_can_only_have_a_fixed_answer() {
        let fixed = FallbackTo::Respond { status: 200, body: Bytes::new(), content_type: String::new() };
        assert!(Fallback { to: fixed, on: on_open_and_503() }.is_for(Cause::Open, false));
    }
}
