//! Control of load: budgets, backoff, deadlines, ejection; pure, no socket, no clock.
#![forbid(unsafe_code)]
