//! The way of one signal to the collector: one batch at a time, tried again until it is taken, refused or given up.

use std::sync::Arc;

use bytes::Bytes;
use terrace_instruments::{Event, Level, Log};
use terrace_otlp::Signal;
use terrace_runtime::drain::Drain;
use terrace_runtime::{clock, random};
use tokio::sync::watch;

use super::attempt::{Outcome, attempt};
use super::retry::Retry;
use super::{Counts, END_TIMEOUT, Sending, wants};
use crate::config::{Config, Export};
use terrace_fetch::Client;

/// One signal's way.
#[derive(Debug)]
pub(super) struct Lane {
    signal: Signal,
    client: Client,
    counts: Counts,
    config: watch::Receiver<Arc<Config>>,
    drain: Drain,
    log: Log,
    /// Whether the last word on it was that it fails, which is said once and not for each batch.
    is_failing: bool,
}

/// What every resource says of who sends it.
const ABOUT: &[(&str, &str)] = &[
    ("telemetry.sdk.name", "terrace"),
    ("telemetry.sdk.language", "rust"),
    ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
];

impl Lane {
    pub(super) fn new(signal: Signal, client: Client, of: &Sending, drain: Drain) -> Self {
        Self {
            signal,
            client,
            counts: Counts::new(&of.meter, signal),
            config: of.config.clone(),
            drain,
            log: of.log.clone(),
            is_failing: false,
        }
    }

    pub(super) fn config(&self) -> watch::Receiver<Arc<Config>> {
        self.config.clone()
    }

    pub(super) fn dropped(&self, items: u64) {
        self.counts.dropped.add(items);
    }

    /// Sends `items` as one request, and returns when something has become of them. A change of the configuration is
    /// followed between two attempts; at the end there is one attempt.
    pub(super) async fn send(&mut self, items: u64, write: impl FnOnce(&[(&str, &str)]) -> Vec<u8>) {
        let message = Bytes::from(write(ABOUT));
        let mut retry = Retry::new(clock::now());
        loop {
            let Some(export) = self.export() else { return self.dropped(items) };
            let attempt = attempt(&self.client, &export, self.signal, message.clone());
            let outcome = tokio::select! {
                outcome = attempt => outcome,
                () = end_is_over(self.drain.clone()) => return self.counts.given_up.add(items),
            };
            self.tell(&outcome);
            match outcome {
                Outcome::Taken { refused, .. } => {
                    let refused = refused.min(items);
                    self.counts.refused.add(refused);
                    return self.counts.sent.add(items - refused);
                }
                Outcome::Refused { .. } => return self.counts.refused.add(items),
                Outcome::Later { after, .. } => {
                    let wait = retry.next(clock::now(), after, random::u64());
                    let Some(wait) = wait.filter(|_| !self.drain.is_requested()) else {
                        return self.counts.given_up.add(items);
                    };
                    self.pause(wait).await;
                }
            }
        }
    }

    /// Says when it begins to fail and why, and when it is well again.
    fn tell(&mut self, outcome: &Outcome) {
        let failure = match outcome {
            Outcome::Taken { refused: 0, .. } => None,
            Outcome::Taken { why, .. } | Outcome::Later { why, .. } | Outcome::Refused { why } => Some(why),
        };
        if failure.is_some() == self.is_failing {
            return;
        }
        self.is_failing = failure.is_some();
        let event = match failure {
            Some(why) => Event::new(Level::Warn, "telemetry.export.failing")
                .message("the collector does not take all that is sent; see terrace_export_items_total")
                .field("error", why),
            None => Event::new(Level::Info, "telemetry.export.recovered"),
        };
        self.log.emit(event.field("signal", self.signal.as_str()));
    }

    /// Does the last of it within two seconds.
    pub(super) async fn end(&mut self, last: impl AsyncFnOnce(&mut Self)) {
        // What is not through by then is lost with all else that is in memory.
        let _too_slow = tokio::time::timeout(END_TIMEOUT, last(self)).await;
    }

    fn export(&mut self) -> Option<Export> {
        let is_wanted = wants(&self.config, self.signal);
        let config = self.config.borrow_and_update();
        config.export.clone().filter(|_| is_wanted)
    }

    async fn pause(&mut self, wait: std::time::Duration) {
        let (mut drain, mut config) = (self.drain.clone(), self.config.clone());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = drain.requested() => {}
            _changed = config.changed() => {}
        }
    }
}

/// A collector that hangs does not hold up the end.
async fn end_is_over(mut drain: Drain) {
    drain.requested().await;
    tokio::time::sleep(END_TIMEOUT).await;
}
