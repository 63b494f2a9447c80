//! How a service is kept from being given more than it can do: the settings, as plain values.

use std::time::Duration;

use terrace_policy::{BreakerLaw, GradientLaw, LineLaw, Order};

/// A service's breaker, limit and line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resilience {
    /// When requests are answered at once because nobody would answer them; none never does.
    pub breaker: Option<BreakerLaw>,
    /// How many are given to it at once.
    pub concurrency: Concurrency,
    /// Those who wait for a place among these.
    pub queue: Queue,
}

/// How many requests a service is given at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// As many as do not make each other late.
    Adaptive(GradientLaw),
    /// So many.
    Fixed(u32),
    /// However many there are.
    Off,
}

/// The line in front of a service that has been given as many as it can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Requests that may wait at once.
    pub size: u32,
    /// How long one may wait; none fits it to what answers usually take.
    pub wait: Option<Duration>,
    /// Whom it serves once it stands.
    pub order: Order,
}

impl Default for Resilience {
    fn default() -> Self {
        Self {
            breaker: Some(BreakerLaw::default()),
            concurrency: Concurrency::Adaptive(GradientLaw::default()),
            queue: Queue::default(),
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { size: LineLaw::SIZE, wait: None, order: Order::Lifo }
    }
}

impl Queue {
    /// The line's law, where half of the answers take at most `usual`.
    pub(crate) fn law(&self, usual: Option<Duration>) -> LineLaw {
        match self.wait {
            Some(patience) => LineLaw::of_patience(self.size, self.order, patience),
            None => LineLaw::fitting(self.size, self.order, usual),
        }
    }
}
