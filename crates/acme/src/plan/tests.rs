//! Decisions about orders, with time made up.

use proptest::prelude::*;

use super::*;
use crate::store::name_of;
use crate::testing::{certificate, day};

const DAY: Duration = Duration::from_secs(86_400);

/// A world with one listener, in which an authority can be played.
struct Play {
    plan: Plan,
    held: ByHost,
    listeners: Vec<Listener>,
    asked: BTreeSet<String>,
    on_demand: bool,
    at: Moment,
}

impl Play {
    fn new(hosts: &[&str]) -> Self {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Self {
            plan: Plan::default(),
            held: ByHost::new(),
            listeners: vec![Listener { name: "public".to_owned(), hosts }],
            asked: BTreeSet::new(),
            on_demand: false,
            at: Moment { now: Duration::from_secs(100), wall: day(0) },
        }
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted { listeners: &self.listeners, on_demand: self.on_demand, asked: &self.asked, ways: 2 }
    }

    fn tasks(&self) -> Vec<Task> {
        self.plan.tasks(self.wanted(), &self.held, self.at)
    }

    /// What is to be ordered now.
    fn due(&self) -> Vec<Vec<String>> {
        let due = self.tasks().into_iter().filter(|task| task.wait.is_zero());
        due.map(|task| task.hosts).collect()
    }

    fn wait_of(&self, hosts: &[&str]) -> Duration {
        let is_it = |task: &&Task| task.hosts == hosts;
        self.tasks().iter().find(is_it).expect("it is to be ordered some time").wait
    }

    fn pass(&mut self, time: Duration) {
        self.at.now += time;
        self.at.wall += time;
    }

    /// Ninety days from now, due after sixty.
    fn issue(&mut self, hosts: &[String]) {
        let from = (self.at.wall - day(0)).as_secs() / 86_400;
        let pem = certificate(hosts, from..from + 90);
        let stored = Arc::new(Stored::read(&name_of(hosts), pem).expect("readable"));
        let shown = Shown { stored, due_at: day(from + 60) };
        self.plan.succeeded(hosts, &shown, self.at);
        for host in hosts {
            self.held.insert(host.clone(), shown.clone());
            self.asked.remove(host);
        }
    }

    fn fail(&mut self, hosts: &[&str], error: &OrderError) -> Duration {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let listeners = self.listeners.clone();
        let asked = self.asked.clone();
        let wanted = Wanted { listeners: &listeners, on_demand: self.on_demand, asked: &asked, ways: 2 };
        self.plan.failed(&hosts, error, wanted, self.at, 0.0)
    }
}

fn refused(hosts: &[&str]) -> OrderError {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    OrderError::Refused { hosts, said: "no".to_owned() }
}

fn unreachable() -> OrderError {
    OrderError::Unreachable("no route".to_owned())
}

#[test]
fn the_hosts_of_a_listener_share_a_certificate_which_is_renewed_in_time() {
    let mut play = Play::new(&["b.example", "a.example"]);
    assert_eq!(play.due(), [["a.example", "b.example"]]);
    play.issue(&play.due()[0].clone());
    assert!(play.due().is_empty());
    assert_eq!(play.wait_of(&["a.example", "b.example"]), 60 * DAY);
    play.pass(60 * DAY);
    assert_eq!(play.due(), [["a.example", "b.example"]]);
}

#[test]
fn a_host_that_is_added_brings_a_certificate_of_all_and_one_that_goes_brings_none() {
    let mut play = Play::new(&["a.example", "b.example"]);
    play.issue(&play.due()[0].clone());
    play.listeners[0].hosts.push("c.example".to_owned());
    assert_eq!(play.due(), [["a.example", "b.example", "c.example"]]);
    play.issue(&play.due()[0].clone());
    play.listeners[0].hosts.remove(0);
    assert!(play.due().is_empty());
}

#[test]
fn more_hosts_than_a_certificate_holds_have_several() {
    let names: Vec<String> = (0..250).map(|number| format!("h{number:03}.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let play = Play::new(&names);
    assert_eq!(play.due().iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
}

#[test]
fn a_host_that_is_refused_does_not_keep_the_others_without() {
    let mut play = Play::new(&["a.example", "b.example", "c.example"]);
    play.fail(&["a.example", "b.example", "c.example"], &refused(&["b.example"]));
    assert_eq!(play.due(), [["a.example", "c.example"]]);
    play.issue(&["a.example".to_owned(), "c.example".to_owned()]);
    assert_eq!(play.wait_of(&["b.example"]), OTHER_WAY, "the other challenge is tried soon");
    play.pass(OTHER_WAY);
    play.fail(&["b.example"], &refused(&["b.example"]));
    assert_eq!(play.wait_of(&["b.example"]), REFUSED.0);
    play.pass(REFUSED.0);
    play.issue(&["b.example".to_owned()]);
    play.pass(61 * DAY);
    assert_eq!(play.due(), [["a.example", "b.example", "c.example"]], "it is one of them again");
}

#[test]
fn who_has_mended_something_need_not_wait_but_for_what_the_authority_asked_for() {
    let mut play = Play::new(&["a.example"]);
    for _ in 0..9 {
        play.fail(&["a.example"], &refused(&["a.example"]));
    }
    play.plan.hurry(play.at.now);
    assert_eq!(play.due(), [["a.example"]]);
    assert_eq!(
        play.fail(&["a.example"], &refused(&["a.example"])),
        REFUSED.1,
        "what failed is not forgotten"
    );
    let hour = Some(Duration::from_secs(3_600));
    play.fail(&["a.example"], &OrderError::RateLimited { after: hour, said: "slow down".to_owned() });
    play.plan.hurry(play.at.now);
    assert!(play.due().is_empty());
    // Nor is a certificate that is due as soon as it comes ordered anew for that.
    let mut play = Play::new(&["a.example"]);
    play.issue(&["a.example".to_owned()]);
    play.at.wall += 3_650 * DAY;
    let shown = play.held["a.example"].clone();
    play.plan.succeeded(&["a.example".to_owned()], &shown, play.at);
    play.plan.hurry(play.at.now);
    assert!(play.due().is_empty());
}

#[test]
fn a_refusal_that_names_nobody_takes_all_apart() {
    let mut play = Play::new(&["a.example", "b.example"]);
    play.fail(&["a.example", "b.example"], &refused(&["a.example", "b.example"]));
    play.pass(OTHER_WAY);
    assert_eq!(play.due(), [["a.example"], ["b.example"]]);
}

#[test]
fn refusals_stay_below_what_authorities_allow() {
    let mut play = Play::new(&["a.example"]);
    let (mut orders, began) = (0, play.at.now);
    while play.at.now < began + Duration::from_secs(3_600) {
        if play.due().is_empty() {
            play.pass(play.wait_of(&["a.example"]));
        } else {
            orders += 1;
            play.fail(&["a.example"], &refused(&["a.example"]));
        }
    }
    // The first one counts for either way of asking.
    assert!(orders <= 6, "{orders} in an hour");
    for _ in 0..40 {
        play.fail(&["a.example"], &refused(&["a.example"]));
    }
    assert_eq!(play.wait_of(&["a.example"]), REFUSED.1);
}

#[test]
fn an_authority_that_is_down_is_tried_soon_and_then_seldom() {
    let mut play = Play::new(&["a.example"]);
    let waits: Vec<u64> = (0..9).map(|_| play.fail(&["a.example"], &unreachable()).as_secs()).collect();
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
    assert_eq!(play.tasks()[0].failures, 0, "it says nothing of the way of asking");
    play.pass(Duration::from_secs(600));
    play.issue(&["a.example".to_owned()]);
    play.pass(60 * DAY);
    assert_eq!(play.fail(&["a.example"], &unreachable()).as_secs(), 5, "what was is forgotten");
}

#[test]
fn too_many_requests_stop_all_orders_for_a_while_and_this_one_as_long_as_the_authority_says() {
    let mut play = Play::new(&["a.example"]);
    play.on_demand = true;
    play.listeners[0].hosts.push("b.example".to_owned());
    play.asked = play.listeners[0].hosts.iter().cloned().collect();
    let hour = Some(Duration::from_secs(3_600));
    play.fail(&["a.example"], &OrderError::RateLimited { after: hour, said: "slow down".to_owned() });
    assert!(play.due().is_empty());
    play.pass(PAUSE);
    assert_eq!(play.due(), [["b.example"]]);
    play.pass(Duration::from_secs(3_600) - PAUSE);
    assert_eq!(play.due(), [["a.example"], ["b.example"]]);
    let year = Some(365 * DAY);
    play.fail(&["a.example"], &OrderError::RateLimited { after: year, said: "slow down".to_owned() });
    assert_eq!(play.wait_of(&["a.example"]), DAY, "it is asked again each day");
}

#[test]
fn on_demand_nothing_is_ordered_that_nobody_asked_for() {
    let mut play = Play::new(&["a.example", "b.example"]);
    play.on_demand = true;
    assert!(play.tasks().is_empty());
    play.asked.insert("b.example".to_owned());
    assert_eq!(play.due(), [["b.example"]]);
    play.issue(&["b.example".to_owned()]);
    assert!(play.due().is_empty());
    play.pass(60 * DAY);
    assert_eq!(play.due(), [["b.example"]], "what is in use is renewed");
}

#[test]
fn a_clock_that_is_wrong_orders_no_certificate_after_another() {
    let mut play = Play::new(&["a.example"]);
    play.issue(&["a.example".to_owned()]);
    // Ten years ahead: everything seems to have ended, also what is issued now by an authority whose clock is right.
    play.at.wall += 3_650 * DAY;
    assert_eq!(play.due(), [["a.example"]]);
    let shown = play.held["a.example"].clone();
    play.plan.succeeded(&["a.example".to_owned()], &shown, play.at);
    assert_eq!(play.wait_of(&["a.example"]), 30 * DAY);
    // Far behind: nothing is due, and what is held is shown.
    play.at.wall = Duration::ZERO;
    assert!(play.due().is_empty());
}

#[test]
fn what_another_machine_has_ordered_is_waited_for_and_then_seen() {
    let mut play = Play::new(&["a.example"]);
    play.plan.found(&["a.example".to_owned()], play.at);
    assert_eq!(play.wait_of(&["a.example"]), FOUND_BY);
    play.issue(&["a.example".to_owned()]);
    assert_eq!(play.wait_of(&["a.example"]), 60 * DAY);
}

#[test]
fn what_is_not_wanted_any_more_is_forgotten() {
    let mut play = Play::new(&["a.example", "b.example"]);
    play.fail(&["a.example", "b.example"], &refused(&["b.example"]));
    play.fail(&["b.example"], &refused(&["b.example"]));
    play.listeners[0].hosts.retain(|host| host == "a.example");
    play.plan.forget_others(&play.listeners);
    assert!(play.plan.alone.is_empty() && play.plan.troubles.is_empty());
}

/// What an authority may answer to an order.
fn answers() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![3 => Just(None), 7 => (0_u8..4).prop_map(Some)]
}

proptest! {
    /// Whatever an authority answers: every host is in exactly one order, no order is asked for again while it waits, and
    /// once the authority issues everything, every host has a certificate within a day.
    #[test]
    fn every_host_gets_its_certificate_in_the_end(script in prop::collection::vec(answers(), 0..60)) {
        let names = ["a.example", "b.example", "c.example", "d.example"];
        let mut play = Play::new(&names);
        let mut script = script.into_iter();
        for _ in 0..300 {
            let ordered: Vec<String> = play.tasks().into_iter().flat_map(|task| task.hosts).collect();
            let distinct: BTreeSet<&String> = ordered.iter().collect();
            prop_assert_eq!((ordered.len(), distinct.len()), (4, 4), "{:?}", ordered);
            let Some(hosts) = play.due().first().cloned() else {
                if names.iter().all(|name| play.held.contains_key(*name)) {
                    return Ok(());
                }
                let wait = play.tasks().iter().map(|task| task.wait).min().expect("four hosts");
                prop_assert!(wait <= DAY, "{:?}", wait);
                play.pass(wait);
                continue;
            };
            let error = match script.next().flatten() {
                None => { play.issue(&hosts); continue }
                Some(0) => unreachable(),
                Some(1) => refused(&[hosts[0].as_str()]),
                Some(2) => OrderError::RateLimited { after: None, said: String::new() },
                Some(_) => OrderError::Account("no".to_owned()),
            };
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            let wait = play.fail(&hosts, &error);
            prop_assert!(wait >= OTHER_WAY);
            prop_assert!(!play.due().iter().any(|due| *due == hosts), "{:?} after {:?}", hosts, error);
        }
        prop_assert!(false, "four hosts are not done after 300 steps");
    }
}
