//! How much this machine can still take on, from three signs of it: memory, the lag of its event loops, open connections.
//!
//! Past a bound there is no point in deciding by request whether there is room: by then each one makes it worse for all.
//! So there is one pressure, from 0 to 300, and each hundred is one priority: at 40 four of ten low ones are sent away,
//! at 100 all of them, at 150 half of the normal ones too. It rises while any sign is over its bound, the faster the
//! further over, holds while all are just below, and falls once all are well below; so just as much is sent away as it
//! takes, the least important first, and nothing flaps. Pure: somebody measures a few times a second, requests read one
//! number.

use std::time::Duration;

use crate::{Priority, Share};

/// The bounds past which requests are sent away; none switches a sign off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverloadLaw {
    /// Of the memory that this process could have: its own, and what the machine or its cgroup still has to give.
    pub memory: Option<Share>,
    /// By how much an event loop comes too late.
    pub lag: Option<Duration>,
    /// Of the connections that the listeners allow.
    pub connections: Option<Share>,
}

impl Default for OverloadLaw {
    /// 85 % of memory, 100 ms, 90 % of connections.
    fn default() -> Self {
        Self {
            memory: Some(Share::percent(85)),
            lag: Some(Duration::from_millis(100)),
            connections: Some(Share::percent(90)),
        }
    }
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// See [`OverloadLaw::memory`].
    pub memory: Share,
    /// The longest lag of any event loop since the last time.
    pub lag: Duration,
    /// See [`OverloadLaw::connections`].
    pub connections: Share,
}

/// Which sign is worst, and so says whether pressure rises or falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strain {
    /// Memory.
    Memory,
    /// The lag of an event loop.
    Lag,
    /// Open connections.
    Connections,
}

impl Strain {
    /// A word for labels and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Lag => "lag",
            Self::Connections => "connections",
        }
    }
}

/// How much is sent away: 0 nothing, 300 everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    level: u32,
    /// The worst sign, while there is any pressure.
    strain: Option<Strain>,
}

/// All of one priority.
const WHOLE: u32 = 100;
const LEVEL_MAX: u32 = WHOLE * Priority::ALL.len() as u32;
/// Rise and fall at each measurement.
const RISE_MIN: u32 = 10;
const RISE_MAX: u32 = 50;
const FALL: u32 = 10;
/// In per cent of the bound: below it pressure falls.
const WELL_BELOW: u32 = 90;

impl Pressure {
    /// From 0 to 300.
    pub fn level(self) -> u32 {
        self.level
    }

    /// The worst sign; none without pressure.
    pub fn strain(self) -> Option<Strain> {
        self.strain
    }

    /// Takes in what was measured.
    pub fn observe(&mut self, law: &OverloadLaw, vitals: &Vitals) {
        let (percent, strain) = worst(law, vitals);
        if percent > WHOLE {
            let rise = (RISE_MIN + (percent - WHOLE)).min(RISE_MAX);
            self.level = (self.level + rise).min(LEVEL_MAX);
            self.strain = Some(strain);
        } else if percent < WELL_BELOW {
            self.level = self.level.saturating_sub(FALL);
        }
        if self.level == 0 {
            self.strain = None;
        }
    }
}

/// Whether a request of this priority is to be sent away at this level.
pub fn sheds(level: u32, priority: Priority, random: u64) -> bool {
    let from = WHOLE * priority as u32;
    let share = level.saturating_sub(from).min(WHOLE);
    share > 0 && (random % u64::from(WHOLE)) < u64::from(share)
}

/// The worst sign, in per cent of its bound.
fn worst(law: &OverloadLaw, vitals: &Vitals) -> (u32, Strain) {
    let of_share = |bound: Option<Share>, value: Share| {
        bound.map_or(0, |bound| percent(u128::from(value.ppm()), u128::from(bound.ppm())))
    };
    let of_lag = law.lag.map_or(0, |bound| percent(vitals.lag.as_nanos(), bound.as_nanos()));
    let signs = [
        (of_share(law.memory, vitals.memory), Strain::Memory),
        (of_lag, Strain::Lag),
        (of_share(law.connections, vitals.connections), Strain::Connections),
    ];
    signs.into_iter().max_by_key(|(percent, _)| *percent).unwrap_or((0, Strain::Memory))
}

fn percent(value: u128, bound: u128) -> u32 {
    u32::try_from(value * 100 / bound.max(1)).unwrap_or(u32::MAX).min(10 * WHOLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WELL: Vitals = Vitals { memory: Share::percent(10), lag: Duration::ZERO, connections: Share::ZERO };
    const LATE: Vitals = Vitals { lag: Duration::from_millis(110), ..WELL };

    fn after(vitals: &[Vitals]) -> Pressure {
        let mut pressure = Pressure::default();
        vitals.iter().for_each(|one| pressure.observe(&OverloadLaw::default(), one));
        pressure
    }

    #[test]
    fn a_machine_that_is_well_sends_nobody_away() {
        assert_eq!(after(&[WELL; 50]), Pressure::default());
        assert!((0..1_000).all(|random| !sheds(0, Priority::Low, random)));
    }

    #[test]
    fn pressure_rises_with_the_worst_sign_and_names_it() {
        let low = after(&[LATE; 2]);
        assert_eq!((low.level(), low.strain()), (40, Some(Strain::Lag)));
        let full = Vitals { memory: Share::percent(99), ..LATE };
        assert_eq!(after(&[full]).strain(), Some(Strain::Memory));
        assert_eq!(after(&[full; 100]).level(), LEVEL_MAX);
    }

    #[test]
    fn it_holds_just_below_the_bound_and_falls_well_below_it() {
        let near = Vitals { lag: Duration::from_millis(95), ..WELL };
        assert_eq!(after(&[LATE, near, near]).level(), 20);
        assert_eq!(after(&[LATE, WELL]).level(), 10);
        assert_eq!(after(&[LATE, WELL, WELL, WELL]), Pressure::default());
    }

    #[test]
    fn a_sign_that_is_switched_off_says_nothing() {
        let law = OverloadLaw { memory: None, lag: None, connections: None };
        let mut pressure = Pressure::default();
        let dying = Vitals { memory: Share::ALL, lag: Duration::from_secs(60), connections: Share::ALL };
        pressure.observe(&law, &dying);
        assert_eq!(pressure, Pressure::default());
    }

    proptest! {
        /// The least important first: nobody is sent away while anybody below is let in.
        #[test]
        fn a_priority_goes_only_when_all_below_it_have_gone(level in 0_u32..=LEVEL_MAX, random: u64) {
            let shed: Vec<bool> = Priority::ALL.iter().map(|priority| sheds(level, *priority, random)).collect();
            prop_assert!(shed.windows(2).all(|pair| pair[0] || !pair[1]));
            prop_assert_eq!(sheds(level, Priority::Normal, 99), level >= 200);
            prop_assert_eq!(sheds(level, Priority::High, 0), level > 200);
        }
    }
}
