//! What keeps the rest fast when a part is slow, broken or crowded, for the edge: the breaker, the concurrency and the line
//! of a service; hedges, fallbacks and priorities; and what this machine itself can bear.

use bytes::Bytes;
use terrace_edge as edge;
use terrace_policy::{
    Backoff, BreakerLaw, GradientLaw, HedgeAfter as After, HedgeLaw, Order, OverloadLaw, Priority as Rank,
    Quantile, Share, SlowCalls, SlowLaw, Statuses,
};

use super::route::{Places, policy};
use crate::file::{
    Breaker, Concurrency, Fallback, FallbackOn, FallbackTo, Hedge, HedgeAfter, HedgeQuantile, Overload,
    Priority, PriorityLevel, Queue, QueueOrder, Service, Slow, StatusRange,
};

/// How a service is kept from being given more than it can do.
pub(super) fn of_service(service: &Service) -> edge::Resilience {
    edge::Resilience {
        breaker: service.breaker.as_ref().map(breaker),
        concurrency: match service.concurrency {
            Concurrency::Adaptive => edge::Concurrency::Adaptive(GradientLaw::default()),
            Concurrency::Fixed(count) => edge::Concurrency::Fixed(count),
            Concurrency::Off => edge::Concurrency::Off,
        },
        queue: queue(service.queue),
    }
}

fn breaker(breaker: &Breaker) -> BreakerLaw {
    /// From the first time that it opens to the longest: three doublings.
    const FIRST_SHARE: u32 = 8;
    BreakerLaw {
        consecutive: breaker.consecutive.unwrap_or(u32::MAX),
        errors: breaker.error_share.map_or(Share::ZERO, Share::from_ratio),
        slow: breaker.slow.map(|slow| SlowCalls { over: slow.over, share: Share::from_ratio(slow.share) }),
        requests: breaker.requests_min,
        window: breaker.window,
        open: Backoff { from: breaker.open_time_max / FIRST_SHARE, to: breaker.open_time_max },
        ..BreakerLaw::default()
    }
}

fn queue(queue: Queue) -> edge::Queue {
    edge::Queue {
        size: queue.waiting_max,
        wait: queue.wait_max,
        order: match queue.order {
            QueueOrder::Lifo => Order::Lifo,
            QueueOrder::Codel => Order::Codel,
        },
    }
}

/// When an endpoint counts as slow.
pub(super) fn slow(slow: Slow) -> SlowLaw {
    SlowLaw { over: slow.over, share: Share::from_ratio(slow.share), ..SlowLaw::default() }
}

/// What this machine can bear; nothing where nothing counts.
pub(super) fn overload(overload: Overload) -> Option<OverloadLaw> {
    let law = OverloadLaw {
        memory: overload.memory_share.map(Share::from_ratio),
        lag: overload.lag,
        connections: overload.connections_share.map(Share::from_ratio),
    };
    let counts = law.memory.is_some() || law.lag.is_some() || law.connections.is_some();
    counts.then_some(law)
}

pub(super) fn hedge(hedge: Hedge) -> HedgeLaw {
    HedgeLaw {
        after: match hedge.after {
            HedgeAfter::Quantile(HedgeQuantile::P50) => After::Usual(Quantile::P50),
            HedgeAfter::Quantile(HedgeQuantile::P90) => After::Usual(Quantile::P90),
            HedgeAfter::Quantile(HedgeQuantile::P95) => After::Usual(Quantile::P95),
            HedgeAfter::Quantile(HedgeQuantile::P99) => After::Usual(Quantile::P99),
            HedgeAfter::Time(time) => After::Fixed(time),
        },
        attempts: hedge.attempts_max,
    }
}

/// What answers in a service's place. Another service does so under its own policies, and has no fallback then.
pub(super) fn fallback(fallback: &Fallback, places: &Places<'_>) -> edge::Fallback {
    let to = match &fallback.to {
        FallbackTo::Service(name) => {
            let service = places.of(name);
            let alone = edge::Policy { fallback: None, ..policy(&places.0[service].policies, places) };
            edge::FallbackTo::Service(Box::new(edge::Target { service, policy: alone }))
        }
        FallbackTo::Respond { status, body, media_type } => edge::FallbackTo::Respond {
            status: *status,
            body: Bytes::copy_from_slice(body.as_bytes()),
            content_type: media_type.clone(),
        },
    };
    edge::Fallback { to, on: fallback_on(&fallback.on) }
}

fn fallback_on(on: &FallbackOn) -> edge::FallbackOn {
    edge::FallbackOn {
        open: on.open,
        connect: on.connect,
        reset: on.reset,
        timeout: on.timeout,
        statuses: statuses(&on.statuses),
    }
}

/// All statuses in some ranges.
pub(super) fn statuses(ranges: &[StatusRange]) -> Statuses {
    ranges.iter().flat_map(|range| range.from..=range.to).fold(Statuses::none(), Statuses::with)
}

/// How much a route's requests matter.
pub(super) fn priority(priority: &Priority) -> edge::Priority {
    match priority {
        Priority::Level(level) => edge::Priority::Level(rank(*level)),
        Priority::Header { name, default } => {
            edge::Priority::Field { name: name.to_ascii_lowercase().into(), default: rank(*default) }
        }
        Priority::Claim { path, high, low } => {
            edge::Priority::Claim { path: path.as_str().into(), high: high.clone(), low: low.clone() }
        }
    }
}

fn rank(level: PriorityLevel) -> Rank {
    match level {
        PriorityLevel::High => Rank::High,
        PriorityLevel::Normal => Rank::Normal,
        PriorityLevel::Low => Rank::Low,
    }
}
