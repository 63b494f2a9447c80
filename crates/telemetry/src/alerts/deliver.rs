//! Messages on their way: tried, and tried again, each in a task of its own.
//!
//! A receiver that is down is asked again after half a second, one, two … up to thirty, with as much luck in it as
//! time, so that those who are down together are not asked together. After eight attempts a message is given up: the
//! engine then says what is still true, five minutes later. Four attempts at a time and receiver, and sixty-four
//! messages, are enough; what is more is dropped, which is counted and comes to the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use terrace_instruments::{Counter, Event, Family, Kind, Level, Meter};
use terrace_runtime::random;
use terrace_signals::alerts::Notification;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Alerts;
use super::ways::{self, Refusal};

/// Attempts for one message.
const ATTEMPTS_MAX: u32 = 8;
/// Attempts at a time for one receiver.
const ATTEMPTS_AT_ONCE_MAX: usize = 4;
/// Messages for one receiver on their way.
const MESSAGES_MAX: usize = 64;
/// Before the second attempt.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Before a late one.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

static NOTIFICATIONS: Family = Family {
    name: "terrace_alert_notifications",
    help: "Messages about alerts, by receiver and what became of them: delivered, retried, failed, dropped.",
    unit: "",
    labels: &["receiver", "outcome"],
    kind: Kind::Counter,
};

/// Hands messages to receivers.
pub(super) struct Post {
    alerts: Alerts,
    lanes: BTreeMap<String, Arc<Lane>>,
    /// Ended when dropped: what was under way is in the state on disk.
    under_way: JoinSet<()>,
}

/// What the messages to one receiver share.
struct Lane {
    attempts: Semaphore,
    messages: AtomicUsize,
    delivered: Counter,
    retried: Counter,
    failed: Counter,
    dropped: Counter,
}

impl Lane {
    fn new(meter: &Meter, receiver: &str) -> Self {
        let count = |outcome| meter.counter(&NOTIFICATIONS, &[receiver, outcome]);
        Self {
            attempts: Semaphore::new(ATTEMPTS_AT_ONCE_MAX),
            messages: AtomicUsize::new(0),
            delivered: count("delivered"),
            retried: count("retried"),
            failed: count("failed"),
            dropped: count("dropped"),
        }
    }
}

impl Post {
    pub(super) fn new(alerts: Alerts) -> Self {
        Self { alerts, lanes: BTreeMap::new(), under_way: JoinSet::new() }
    }

    /// Sends a message on its way.
    pub(super) fn hand_out(&mut self, message: Notification) {
        while self.under_way.try_join_next().is_some() {}
        let alerts = self.alerts.clone();
        self.lanes.retain(|name, _| alerts.receiver(name).is_some());
        let meter = &alerts.0.meter;
        let lane = self.lanes.entry(message.receiver.clone());
        let lane = Arc::clone(lane.or_insert_with_key(|name| Arc::new(Lane::new(meter, name))));
        if lane.messages.fetch_add(1, Relaxed) >= MESSAGES_MAX {
            lane.messages.fetch_sub(1, Relaxed);
            lane.dropped.inc();
            alerts.settled(&message, false);
            return;
        }
        self.under_way.spawn(async move {
            let arrived = deliver(&alerts, &lane, &message).await;
            alerts.settled(&message, arrived);
            lane.messages.fetch_sub(1, Relaxed);
        });
    }
}

impl Post {
    /// Waits for what is under way, at most `patience`.
    pub(super) async fn finish(mut self, patience: Duration) {
        let all = async { while self.under_way.join_next().await.is_some() {} };
        let _gave_up = tokio::time::timeout(patience, all).await;
    }
}

/// Says whether it arrived; to a receiver that left the file nothing has to arrive.
async fn deliver(alerts: &Alerts, lane: &Lane, message: &Notification) -> bool {
    for attempt in 1..=ATTEMPTS_MAX {
        let permit = lane.attempts.acquire().await;
        // Asked each time: an address that was put right helps the message that waits.
        let Some(receiver) = alerts.receiver(&message.receiver) else { return true };
        let told = ways::tell(&alerts.0.client, &receiver, message).await;
        drop(permit);
        let Err(refusal) = told else {
            lane.delivered.inc();
            return true;
        };
        let is_last = !refusal.may_pass || attempt == ATTEMPTS_MAX;
        if is_last || attempt == 1 {
            alerts.0.log.emit(failure(message, &refusal, !is_last));
        }
        if is_last {
            break;
        }
        lane.retried.inc();
        tokio::time::sleep(backoff(attempt, random::u64())).await;
    }
    lane.failed.inc();
    false
}

fn failure(message: &Notification, refusal: &Refusal, is_retried: bool) -> Event {
    let again = match is_retried {
        true => "it is tried again",
        false => "it is told anew in five minutes if it still holds",
    };
    Event::new(Level::Warn, "alert.delivery_failed")
        .message(format!("a message about {} did not reach {}; {again}", message.name, message.receiver))
        .field("receiver", &message.receiver)
        .field("alert", &message.name)
        .field("retried", is_retried)
        .field("error", &refusal.reason)
}

/// How long to wait after the attempt of this number: half of it certain, half of it luck.
fn backoff(attempt: u32, luck: u64) -> Duration {
    let whole = BACKOFF_MIN.saturating_mul(1 << (attempt - 1).min(16)).min(BACKOFF_MAX);
    let half_us = u64::try_from(whole.as_micros() / 2).unwrap_or(u64::MAX).max(1);
    whole / 2 + Duration::from_micros(luck % half_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_longer_than_the_last_up_to_half_a_minute() {
        let least: Vec<u64> = (1..=8).map(|attempt| backoff(attempt, 0).as_millis() as u64).collect();
        assert_eq!(least, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
        assert!(backoff(u32::MAX, u64::MAX) <= BACKOFF_MAX);
        assert!(backoff(1, u64::MAX) < BACKOFF_MIN);
    }
}
