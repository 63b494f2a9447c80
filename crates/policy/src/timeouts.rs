//! Which deadline comes next, and whose it is.
//!
//! A request has several clocks at once: one for all of it, one for each attempt, and one for what it waits
//! for at the moment. A timer for each would cost a timer for each; here the earliest is computed from the
//! moments that are known anyway, and one timer is armed for it. Whose it was then decides what may follow: a
//! connection that took too long may be tried elsewhere, a request whose whole time is over may not.

use std::time::Duration;

/// How long each part of a request may take; none leaves that part unbounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection is established, TLS included.
    pub connect: Option<Duration>,
    /// From the request being sent to the first byte of the response.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the response (or of the request body, while the endpoint takes it).
    pub idle: Option<Duration>,
    /// For each attempt, to the end of its response.
    pub attempt: Option<Duration>,
    /// For the whole request with all its attempts.
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    /// 1 s to connect, 30 s to the first byte, 60 s between pieces; no end for what keeps flowing, so that
    /// streams of events live.
    fn default() -> Self {
        Self {
            connect: Some(Duration::from_secs(1)),
            first_byte: Some(Duration::from_secs(30)),
            idle: Some(Duration::from_secs(60)),
            attempt: None,
            total: None,
        }
    }
}

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutKind {
    /// Of the connection.
    Connect,
    /// Of the first byte.
    FirstByte,
    /// Of the next piece.
    Idle,
    /// Of the attempt.
    Attempt,
    /// Of the whole request.
    Total,
}

impl TimeoutKind {
    /// A word for labels, events and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::FirstByte => "first_byte",
            Self::Idle => "idle",
            Self::Attempt => "try",
            Self::Total => "total",
        }
    }

    /// Whether another attempt could still help: the request's own time is not over.
    pub fn allows_retry(self) -> bool {
        self != Self::Total
    }
}

/// What a request waits for at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// For a retry's backoff to pass, or for a free connection.
    Waiting,
    /// For a connection, since then.
    Connecting {
        /// When it began.
        since: Duration,
    },
    /// For the first byte of the response, since the request was sent or last took a piece of its body.
    FirstByte {
        /// When that was.
        since: Duration,
    },
    /// For the next piece, since the last one.
    Streaming {
        /// When that was.
        since: Duration,
    },
}

/// A moment by which something must have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Duration,
    /// Whose.
    pub kind: TimeoutKind,
}

impl Timeouts {
    /// The earliest deadline of a request admitted at `admitted_at` whose present attempt began at `attempt_at`. Of
    /// two at the same moment the wider one's, because it leaves less to do afterwards.
    pub fn next(&self, admitted_at: Duration, attempt_at: Duration, phase: Phase) -> Option<Deadline> {
        let of_attempt = match phase {
            Phase::Waiting => None,
            Phase::Connecting { .. } | Phase::FirstByte { .. } | Phase::Streaming { .. } => self.attempt,
        };
        let of_phase = match phase {
            Phase::Waiting => None,
            Phase::Connecting { since } => deadline(since, self.connect, TimeoutKind::Connect),
            Phase::FirstByte { since } => deadline(since, self.first_byte, TimeoutKind::FirstByte),
            Phase::Streaming { since } => deadline(since, self.idle, TimeoutKind::Idle),
        };
        let of_attempt = deadline(attempt_at, of_attempt, TimeoutKind::Attempt);
        let of_request = deadline(admitted_at, self.total, TimeoutKind::Total);
        earlier(of_request, earlier(of_attempt, of_phase))
    }
}

/// Whichever comes first; of two at the same moment the wider one.
#[inline]
fn earlier(wider: Option<Deadline>, narrower: Option<Deadline>) -> Option<Deadline> {
    match (wider, narrower) {
        (Some(wider), Some(narrower)) => Some(if narrower.at < wider.at { narrower } else { wider }),
        (wider, narrower) => wider.or(narrower),
    }
}

#[inline]
fn deadline(since: Duration, timeout: Option<Duration>, kind: TimeoutKind) -> Option<Deadline> {
    Some(Deadline { at: since.saturating_add(timeout?), kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const ALL: Timeouts = Timeouts {
        connect: Some(Duration::from_secs(1)),
        first_byte: Some(Duration::from_secs(2)),
        idle: Some(Duration::from_secs(3)),
        attempt: Some(Duration::from_secs(4)),
        total: Some(Duration::from_secs(6)),
    };

    fn next(attempt_at: u64, phase: Phase) -> (u64, TimeoutKind) {
        let deadline = ALL.next(at(0), at(attempt_at), phase).expect("all timeouts are set");
        (deadline.at.as_millis() as u64, deadline.kind)
    }

    #[test]
    fn each_phase_has_its_own_deadline_within_the_wider_ones() {
        assert_eq!(next(0, Phase::Connecting { since: at(0) }), (1_000, TimeoutKind::Connect));
        assert_eq!(next(0, Phase::FirstByte { since: at(500) }), (2_500, TimeoutKind::FirstByte));
        assert_eq!(next(0, Phase::Streaming { since: at(900) }), (3_900, TimeoutKind::Idle));
        assert_eq!(next(0, Phase::Streaming { since: at(1_500) }), (4_000, TimeoutKind::Attempt));
        assert_eq!(next(3_000, Phase::Streaming { since: at(3_500) }), (6_000, TimeoutKind::Total));
    }

    #[test]
    fn while_a_retry_waits_only_the_whole_request_can_run_out() {
        assert_eq!(next(0, Phase::Waiting), (6_000, TimeoutKind::Total));
    }

    #[test]
    fn a_tie_goes_to_the_wider_one() {
        assert_eq!(next(2_000, Phase::Streaming { since: at(3_000) }), (6_000, TimeoutKind::Total));
    }

    #[test]
    fn by_default_a_stream_that_keeps_flowing_never_ends() {
        let phase = Phase::Streaming { since: at(86_400_000) };
        let deadline = Timeouts::default().next(at(0), at(0), phase);
        assert_eq!(deadline, Some(Deadline { at: at(86_460_000), kind: TimeoutKind::Idle }));
        let unbounded = Timeouts { idle: None, ..Timeouts::default() };
        assert_eq!(unbounded.next(at(0), at(0), phase), None);
    }

    #[test]
    fn only_the_whole_request_s_deadline_forbids_another_try() {
        let kinds = [TimeoutKind::Connect, TimeoutKind::FirstByte, TimeoutKind::Idle, TimeoutKind::Attempt];
        assert!(kinds.iter().all(|kind| kind.allows_retry()));
        assert!(!TimeoutKind::Total.allows_retry());
    }

    proptest! {
        #[test]
        fn nothing_outlives_the_whole_request(attempt_at in 0_u64..10_000, since in 0_u64..10_000) {
            for phase in [Phase::Waiting, Phase::Connecting { since: at(since) }, Phase::Streaming { since: at(since) }] {
                let deadline = ALL.next(at(0), at(attempt_at), phase).expect("all timeouts are set");
                prop_assert!(deadline.at <= at(6_000));
            }
        }
    }
}
