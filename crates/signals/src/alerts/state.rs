//! What survives: everything the engine knows, as JSON with a version.
//!
//! Times are those of the engine's own clock, which stands still while nobody runs it: whoever brings the state back
//! says how late it is, and the clock goes on from there. How long Terrace was away is read from the wall clock, the
//! only one that ran meanwhile; so it is believed within bounds only. A wall clock that went back counts as no time,
//! and one that leapt ahead as a week at most, so that a wrong year at boot does not wipe a month's budget.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::alert::Alerts;
use super::ledger::SavedLedger;
use super::notify::Groups;
use super::reading::Promise;
use super::silence::Silences;
use super::{LatencyGoal, Subject};

/// What is written today.
const VERSION: u32 = 1;
/// The longest absence that is believed.
const AWAY_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Why a saved state is not taken. Nothing is lost but the past: put the file aside and begin anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// A later Terrace wrote it.
    #[error("it was written by a later Terrace (version {0}, this one knows {VERSION})")]
    Newer(u32),
    /// A disk or somebody changed it.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// All that an engine knows; to be written as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    version: u32,
    /// The engine's clock.
    pub(crate) at: Duration,
    /// The wall clock at that moment.
    wall: SystemTime,
    pub(crate) promises: Vec<SavedPromise>,
    pub(crate) alerts: Alerts,
    pub(crate) silences: Silences,
    pub(crate) groups: Groups,
}

/// One figure of an objective on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedPromise {
    pub(crate) name: String,
    pub(crate) subject: Subject,
    pub(crate) latency: Option<LatencyGoal>,
    pub(crate) ledger: SavedLedger,
}

impl SavedPromise {
    pub(crate) fn promise(&self) -> Promise {
        match self.latency {
            Some(goal) => Promise::Latency(goal),
            None => Promise::Success,
        }
    }
}

/// Only what every version has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Saved {
    pub(crate) fn new(
        (at, wall): (Duration, SystemTime),
        promises: Vec<SavedPromise>,
        (alerts, silences, groups): (Alerts, Silences, Groups),
    ) -> Self {
        Self { version: VERSION, at, wall, promises, alerts, silences, groups }
    }

    /// Reads what [`Saved::to_json`] wrote.
    ///
    /// # Errors
    /// [`StateError`]; never panics, whatever the bytes.
    pub fn parse(json: &[u8]) -> Result<Self, StateError> {
        let damaged = |error: serde_json::Error| StateError::Damaged(error.to_string());
        let Versioned { version } = serde_json::from_slice(json).map_err(damaged)?;
        match version {
            VERSION => serde_json::from_slice(json).map_err(damaged),
            0 => Err(StateError::Damaged("version 0".to_owned())),
            newer => Err(StateError::Newer(newer)),
        }
    }

    /// As JSON on one line.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain structs with text keys and finite numbers are always JSON")
    }

    /// How long nobody ran the engine, believed within bounds.
    pub(crate) fn away(&self, wall: SystemTime) -> Duration {
        match wall.duration_since(self.wall) {
            Ok(away) => away.min(AWAY_MAX),
            Err(_) => Duration::ZERO,
        }
    }
}
