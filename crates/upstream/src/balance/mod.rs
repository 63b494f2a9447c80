//! The pickers: pure functions from weights, loads and random numbers to the index of a candidate.
//!
//! None knows an endpoint, a clock or a lock. [`Shares`] holds the candidates' weights, made once whenever the
//! set or its health changes; picking allocates nothing and looks at one or two candidates, however many there
//! are.

pub(crate) mod least_requests;
pub(crate) mod maglev;
pub(crate) mod peak_ewma;
pub(crate) mod random;
pub(crate) mod round_robin;
pub(crate) mod weighted;

mod shares;

pub(crate) use shares::Shares;
