//! Control of load: retry budgets and rules, hedging, backoff, deadlines; outlier ejection, breakers, lines, adaptive
//! concurrency, overload; restarts; and limits, in [`limit`].
//!
//! Everything here is a decision: events and the time go in, an answer comes out. There is no socket, no
//! clock and no source of randomness inside; a moment is a [`std::time::Duration`] since the caller's clock
//! started, and a random number is handed in. So every law can be tested by the thousand, and a simulation
//! that uses these types behaves as the live system does.
#![forbid(unsafe_code)]

mod backoff;
mod breaker;
mod budget;
mod client_share;
mod concurrency;
mod deadline;
mod ejection;
mod hedge;
pub mod limit;
mod line;
mod overload;
mod priority;
mod restart;
mod retry;
mod share;
mod spread;
mod timeouts;
mod window;

// The public interface is:
pub use backoff::Backoff;
pub use breaker::{Admission, Breaker, BreakerCause, BreakerLaw, BreakerState, Probe, SlowCalls};
pub use budget::{BudgetLaw, RetryBudget, RetryPermit};
pub use concurrency::{Gradient, GradientLaw, Sample};
pub use deadline::{
    can_make_it, format_grpc_timeout, format_request_deadline, parse_grpc_timeout, parse_request_deadline,
};
pub use ejection::{
    Ejection, EjectionCause, EjectionLaw, Evidence, ProbeEnd, SilenceLaw, SlowLaw, normal_failing_of,
    normal_of,
};
pub use hedge::{HedgeAfter, HedgeLaw, Quantile};
pub use line::{Line, LineLaw, Order, Place, Turned};
pub use overload::{OverloadLaw, Pressure, Strain, Vitals, sheds};
pub use priority::Priority;
pub use restart::{Decision as RestartDecision, RestartLaw, RestartState};
pub use retry::{Attempt, AttemptOutcome, Conditions, GiveUp, RetryPolicy, Statuses, Verdict};
pub use share::Share;
pub use spread::{Spread, SpreadCounts};
pub use timeouts::{Deadline, Phase, TimeoutKind, Timeouts};
