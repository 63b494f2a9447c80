//! Peak EWMA: of two drawn by weight, the one where a request is expected to be done sooner.
//!
//! The cost of a candidate is its expected latency times the requests it would then have in flight
//! (linkerd's formula): latency alone would send everything to the fastest until it no longer is, requests
//! alone know nothing of the slow.

use super::Shares;

/// The cheaper of two candidates.
pub(crate) fn pick(shares: &Shares, random: (u64, u64), cost: impl Fn(usize) -> f32) -> usize {
    let first = shares.draw(random.0);
    let second = shares.draw_other(first, random.1);
    if cost(second) < cost(first) { second } else { first }
}

/// What a request to a candidate is expected to cost.
pub(crate) fn cost(latency_us: f32, in_flight: u64) -> f32 {
    latency_us * (in_flight + 1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latency;
    use crate::testing::Random;
    use std::time::Duration;

    /// Ten endpoints of 10 ms of which `odd` behaves as told; the share of requests it gets.
    fn share_of_the_odd_one(odd: impl Fn(&Latency, Duration)) -> f64 {
        let (shares, mut random) = (Shares::new(&[1; 10]), Random::new(21));
        let latencies: Vec<Latency> = (0..10).map(|_| Latency::default()).collect();
        let mut taken = 0;
        for step in 0..20_000 {
            let now = Duration::from_millis(step);
            let of = |index: usize| cost(latencies[index].estimate_us(now), 0);
            let picked = pick(&shares, (random.next(), random.next()), of);
            match picked {
                4 => odd(&latencies[4], now),
                other => latencies[other].success(Duration::from_millis(10), now),
            }
            taken += u64::from(picked == 4);
        }
        taken as f64 / 20_000.0
    }

    #[test]
    fn a_slow_endpoint_gets_little() {
        let share = share_of_the_odd_one(|latency, now| latency.success(Duration::from_millis(500), now));
        assert!(share < 0.01, "{share}");
    }

    #[test]
    fn an_endpoint_that_fails_at_once_gets_little() {
        let share = share_of_the_odd_one(|latency, now| latency.failure(Duration::from_micros(50), now));
        assert!(share < 0.01, "{share}");
    }

    #[test]
    fn equals_share_equally() {
        let share = share_of_the_odd_one(|latency, now| latency.success(Duration::from_millis(10), now));
        assert!((0.05..0.2).contains(&share), "{share}");
    }

    #[test]
    fn a_fast_endpoint_is_not_drowned() {
        let shares = Shares::new(&[1, 1]);
        let cost_of = |index: usize| cost([1_000.0, 10_000.0][index], [20, 0][index]);
        assert_eq!(pick(&shares, (0, 0), cost_of), 1);
    }
}
