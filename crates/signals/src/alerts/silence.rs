//! For a time, nobody is told. The alert goes its way meanwhile, and who looks sees it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::alert::{Alert, stable_id};

/// The longest silence: whoever wants longer wants the rule gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(90 * 86_400);
/// The shortest.
const SILENCE_MIN: Duration = Duration::from_secs(1);
/// Silences at a time.
const SILENCES_MAX: usize = 1_000;
/// Bytes of a comment that are kept.
const COMMENT_BYTES_MAX: usize = 1_024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Silence {
    pub(crate) id: String,
    /// Name of an objective or rule, or an alert's id.
    pub(crate) target: String,
    /// By the engine's clock.
    pub(crate) ends: Duration,
    pub(crate) comment: String,
    pub(crate) by: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Silences {
    pub(crate) all: Vec<Silence>,
    made: u64,
}

impl Silences {
    /// Begins one at `at`; the error is a sentence for the user.
    pub(crate) fn add(
        &mut self,
        at: Duration,
        target: &str,
        lasts: Duration,
        (comment, by): (&str, &str),
    ) -> Result<&Silence, String> {
        if lasts < SILENCE_MIN || lasts > SILENCE_MAX {
            return Err("a silence lasts between 1s and 90d".to_owned());
        }
        if self.all.len() >= SILENCES_MAX {
            return Err(format!("there are {SILENCES_MAX} silences already; end one first"));
        }
        self.made = self.made.wrapping_add(1);
        let id = stable_id([target, comment, by, &self.made.to_string()])[..8].to_owned();
        let (comment, by) = (bounded(comment), bounded(by));
        self.all.push(Silence { id, target: target.to_owned(), ends: at.saturating_add(lasts), comment, by });
        Ok(&self.all[self.all.len() - 1])
    }

    /// Ends one; says whether there was one.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let before = self.all.len();
        self.all.retain(|silence| silence.id != id);
        self.all.len() < before
    }

    /// Forgets those that are over.
    pub(crate) fn forget(&mut self, at: Duration) {
        self.all.retain(|silence| silence.ends > at);
    }

    /// Until when nobody is told of this alert.
    pub(crate) fn until(&self, at: Duration, alert: &Alert) -> Option<Duration> {
        let identity = &alert.identity;
        let meant = |silence: &&Silence| silence.target == identity.name || silence.target == identity.id;
        self.all.iter().filter(meant).map(|silence| silence.ends).filter(|ends| *ends > at).max()
    }
}

/// As many whole letters as fit.
fn bounded(text: &str) -> String {
    let fits = |(at, letter): &(usize, char)| at + letter.len_utf8() <= COMMENT_BYTES_MAX;
    text.char_indices().take_while(fits).map(|(_, letter)| letter).collect()
}
