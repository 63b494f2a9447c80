//! Control of load: retry budgets and rules, backoff, deadlines, outlier ejection, restarts.
//!
//! Everything here is a decision: events and the time go in, an answer comes out. There is no socket, no
//! clock and no source of randomness inside; a moment is a [`std::time::Duration`] since the caller's clock
//! started, and a random number is handed in. So every law can be tested by the thousand, and a simulation
//! that uses these types behaves as the live system does.
#![forbid(unsafe_code)]

mod backoff;
mod budget;
mod ejection;
mod restart;
mod retry;
mod share;
mod spread;
mod timeouts;
mod window;

// The public interface is:
pub use backoff::Backoff;
pub use budget::{BudgetLaw, RetryBudget, RetryPermit};
pub use ejection::{
    Ejection, EjectionCause, EjectionLaw, Evidence, ProbeEnd, SilenceLaw, SlowLaw, normal_of,
};
pub use restart::{Decision as RestartDecision, RestartLaw, RestartState};
pub use retry::{Attempt, AttemptOutcome, Conditions, GiveUp, RetryPolicy, Statuses, Verdict};
pub use share::Share;
pub use spread::{Spread, SpreadCounts};
pub use timeouts::{Deadline, Phase, TimeoutKind, Timeouts};
