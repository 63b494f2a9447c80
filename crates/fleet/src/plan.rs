//! The next step from what runs to what shall run: pure, one step at a time.
//!
//! All of scaling, restarting and rolling out is this one function. It is asked after every event, and whatever
//! happened meanwhile (a crash, a newer configuration, another number) it answers with the step that is right now.
//! There is no procedure that could be left half done.
//!
//! In a roll-out the ready ones never become fewer than wanted: first one more is started, and only when it is ready
//! one old is taken out. The next is started when the old one's requests are through; its long streams may take their
//! time, within a bound on how many old ones linger.

/// Numbers the configurations of a service, and its restarts.
pub(crate) type Generation = u64;

/// How one instance stands, as far as planning goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// On its way to be ready.
    Starting,
    /// In rotation.
    Ready,
    /// Ended by itself; to be started again.
    Down,
    /// Being stopped, and whether its requests are through.
    Stopping { requests_idle: bool },
}

/// One instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) slot: u64,
    /// The number in its name.
    pub(crate) index: u32,
    pub(crate) generation: Generation,
    pub(crate) phase: Phase,
}

/// What shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) count: usize,
    pub(crate) target: Generation,
    /// Of which generation new instances are; none are started while this is `None`.
    pub(crate) start: Option<Generation>,
    /// Whether instances of other generations than the target are to be replaced.
    pub(crate) replace: bool,
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Start { index: u32, generation: Generation },
    Stop { slot: u64 },
}

/// The next step, or `None` when there is nothing to do until something happens.
pub(crate) fn next(wanted: &Wanted, views: &[View]) -> Option<Step> {
    let live: Vec<View> = views.iter().copied().filter(is_live).collect();
    let outdated = |view: &View| wanted.replace && view.generation != wanted.target;
    if let Some(useless) = live.iter().find(|view| outdated(view) && view.phase != Phase::Ready) {
        return Some(Step::Stop { slot: useless.slot });
    }
    let rolling = live.iter().any(outdated);
    if live.len() > wanted.count {
        let surplus = if rolling { surplus_of_roll(wanted, &live) } else { surplus(&live) };
        return surplus.map(|view| Step::Stop { slot: view.slot });
    }
    let generation = wanted.start?;
    let fill = live.len() < wanted.count;
    if fill || (rolling && may_replace_next(wanted, views, &live)) {
        return Some(Step::Start { index: free_index(views), generation });
    }
    None
}

fn is_live(view: &View) -> bool {
    !matches!(view.phase, Phase::Stopping { .. })
}

/// Outside of a roll-out: what is not ready first, then the highest number.
fn surplus(live: &[View]) -> Option<View> {
    live.iter()
        .copied()
        .max_by_key(|view| (view.phase == Phase::Down, view.phase == Phase::Starting, view.index))
}

/// In a roll-out an old one goes when enough are ready without it. New ones that are not ready are kept, but for
/// more than one beyond the number wanted.
fn surplus_of_roll(wanted: &Wanted, live: &[View]) -> Option<View> {
    let is_ready = |view: &&View| view.phase == Phase::Ready;
    let ready = live.iter().filter(is_ready).count();
    if ready > wanted.count {
        let old = live.iter().filter(|view| view.generation != wanted.target);
        return old.min_by_key(|view| view.index).copied();
    }
    if live.len() > wanted.count + 1 {
        return live.iter().filter(|view| view.phase != Phase::Ready).max_by_key(|view| view.index).copied();
    }
    None
}

fn may_replace_next(wanted: &Wanted, views: &[View], live: &[View]) -> bool {
    let stopping = views.len() - live.len();
    let busy = |view: &View| view.phase == Phase::Stopping { requests_idle: false };
    let news_ready = live.iter().all(|view| view.phase == Phase::Ready);
    news_ready && !views.iter().any(busy) && stopping <= 2 * wanted.count + 2
}

fn free_index(views: &[View]) -> u32 {
    (1..)
        .find(|index| views.iter().all(|view| view.index != *index))
        .expect("there are more numbers than instances")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: Generation = 1;
    const NEW: Generation = 2;

    /// A service whose instances do what a test says.
    struct World {
        wanted: Wanted,
        views: Vec<View>,
        slots: u64,
    }

    impl World {
        fn new(count: usize) -> Self {
            let wanted = Wanted { count, target: OLD, start: Some(OLD), replace: true };
            let mut world = Self { wanted, views: Vec::new(), slots: 0 };
            world.settle();
            world
        }

        /// Takes steps until there is none; what is stopped while down is gone at once.
        fn steps(&mut self) -> Vec<Step> {
            let mut taken = Vec::new();
            while let Some(step) = next(&self.wanted, &self.views) {
                taken.push(step);
                assert!(taken.len() < 1000, "planning must come to an end: {taken:?}");
                self.take(step);
            }
            taken
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Start { index, generation } => {
                    self.slots += 1;
                    self.views.push(View { slot: self.slots, index, generation, phase: Phase::Starting });
                }
                Step::Stop { slot } => {
                    let at =
                        self.views.iter().position(|view| view.slot == slot).expect("a step names what is");
                    match self.views[at].phase {
                        Phase::Down => drop(self.views.remove(at)),
                        _ => self.views[at].phase = Phase::Stopping { requests_idle: false },
                    }
                }
            }
        }

        fn ready(&self) -> usize {
            self.views.iter().filter(|view| view.phase == Phase::Ready).count()
        }

        /// Lets the instance at this position do whatever comes next in its life.
        fn advance(&mut self, at: usize) {
            match self.views[at].phase {
                Phase::Starting => self.views[at].phase = Phase::Ready,
                Phase::Ready => {}
                Phase::Down => self.views[at].phase = Phase::Starting,
                Phase::Stopping { requests_idle: false } => {
                    self.views[at].phase = Phase::Stopping { requests_idle: true };
                }
                Phase::Stopping { requests_idle: true } => drop(self.views.remove(at)),
            }
        }

        fn settle(&mut self) {
            for _ in 0..10_000 {
                self.steps();
                match self.views.iter().position(|view| view.phase != Phase::Ready) {
                    Some(at) => self.advance(at),
                    None => return,
                }
            }
            panic!("it never settles: {:?}", self.views);
        }

        fn roll(&mut self) {
            self.wanted.target = NEW;
            self.wanted.start = Some(NEW);
        }
    }

    #[test]
    fn a_roll_out_starts_one_more_before_it_stops_one() {
        let mut world = World::new(2);
        world.roll();
        assert_eq!(world.steps(), [Step::Start { index: 3, generation: NEW }]);
        world.advance(2);
        assert_eq!(world.steps(), [Step::Stop { slot: 1 }]);
        assert_eq!(world.steps(), [], "the next waits until the old one's requests are through");
        world.advance(0);
        assert_eq!(world.steps(), [Step::Start { index: 4, generation: NEW }]);
    }

    #[test]
    fn what_does_not_serve_is_replaced_without_ceremony() {
        let mut world = World::new(3);
        for view in &mut world.views {
            view.phase = Phase::Down;
        }
        world.roll();
        let starts = world.steps().into_iter().filter(|step| matches!(step, Step::Start { .. })).count();
        assert_eq!(starts, 3);
    }

    #[test]
    fn while_blocked_only_the_number_is_kept() {
        let mut world = World::new(3);
        world.wanted.target = NEW;
        world.wanted.replace = false;
        assert_eq!(world.steps(), []);
        world.wanted.count = 4;
        assert_eq!(world.steps(), [Step::Start { index: 4, generation: OLD }]);
        world.wanted.start = None;
        world.wanted.count = 6;
        assert_eq!(world.steps(), []);
    }

    #[test]
    fn scaling_down_takes_first_what_is_not_ready() {
        let mut world = World::new(3);
        world.views[0].phase = Phase::Down;
        world.wanted.count = 2;
        assert_eq!(world.steps(), [Step::Stop { slot: 1 }]);
        world.wanted.count = 1;
        assert_eq!(world.steps(), [Step::Stop { slot: 3 }]);
    }

    #[derive(Debug, Clone)]
    enum Happens {
        Advance(prop::sample::Index),
        Crash(prop::sample::Index),
        Scale(usize),
        Roll,
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            6 => any::<prop::sample::Index>().prop_map(Happens::Advance),
            1 => any::<prop::sample::Index>().prop_map(Happens::Crash),
            1 => (0_usize..6).prop_map(Happens::Scale),
            1 => Just(Happens::Roll),
        ]
    }

    proptest! {
        #[test]
        fn planning_never_takes_a_ready_one_below_the_number_wanted_and_always_arrives(
            count in 0_usize..6, events in prop::collection::vec(happens(), 0..60)
        ) {
            let mut world = World::new(count);
            for event in events {
                match event {
                    Happens::Advance(at) if !world.views.is_empty() => world.advance(at.index(world.views.len())),
                    Happens::Crash(at) if !world.views.is_empty() => {
                        let at = at.index(world.views.len());
                        if is_live(&world.views[at]) {
                            world.views[at].phase = Phase::Down;
                        }
                    }
                    Happens::Scale(count) => world.wanted.count = count,
                    Happens::Roll => {
                        world.wanted.target += 1;
                        world.wanted.start = Some(world.wanted.target);
                    }
                    _ => {}
                }
                let before = world.ready();
                world.steps();
                prop_assert!(world.ready() >= before.min(world.wanted.count));
                let live = world.views.iter().filter(|view| is_live(view)).count();
                prop_assert!(live <= world.wanted.count.max(before) + 1, "{:?}", world.views);
            }
            world.settle();
            prop_assert_eq!(world.views.len(), world.wanted.count);
            prop_assert!(world.views.iter().all(|view| view.generation == world.wanted.target));
        }

        #[test]
        fn no_two_instances_share_a_name(count in 1_usize..6, rolls in 0_usize..4) {
            let mut world = World::new(count);
            for _ in 0..rolls {
                world.wanted.target += 1;
                world.wanted.start = Some(world.wanted.target);
                world.steps();
                let mut indices: Vec<u32> = world.views.iter().map(|view| view.index).collect();
                indices.sort_unstable();
                indices.dedup();
                prop_assert_eq!(indices.len(), world.views.len());
                world.settle();
            }
        }
    }
}
