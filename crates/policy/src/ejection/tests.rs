//! An endpoint's breaker from outside: what evidence ejects, who may probe, and how trust is lost and regained.

use super::*;
use crate::Spread;
use proptest::prelude::*;

const LAW: EjectionLaw = EjectionLaw {
    failures: 5,
    share: Share::percent(50),
    requests: 20,
    window: Duration::from_secs(10),
    slow: Some(SlowLaw { over: None, share: Share::percent(50), answers: 10 }),
    silence: None,
    duration: Backoff { from: Duration::from_secs(10), to: Duration::from_secs(300) },
    probe: Backoff { from: Duration::from_secs(1), to: Duration::from_secs(30) },
    probes: 3,
    ramp: Duration::from_secs(2),
    forgiven_after: Duration::from_secs(5),
    share_max: Share::percent(50),
};

fn at(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn the_fifth_failure_in_a_row_ejects() {
    let evidence = Evidence::default();
    let causes: Vec<_> = (0..5).map(|_| evidence.failure(&LAW, at(1))).collect();
    assert_eq!(causes[..4], [None; 4]);
    assert_eq!(causes[4], Some(EjectionCause::Consecutive(5)));
}

#[test]
fn a_success_breaks_the_row() {
    let evidence = Evidence::default();
    for _ in 0..4 {
        assert_eq!(evidence.failure(&LAW, at(1)), None);
    }
    evidence.success(LAW.window, at(1));
    assert_eq!(evidence.failure(&LAW, at(1)), None);
}

#[test]
fn half_of_enough_requests_failing_ejects_though_no_row_forms() {
    let evidence = Evidence::default();
    for _ in 0..9 {
        evidence.success(LAW.window, at(1));
        assert_eq!(evidence.failure(&LAW, at(1)), None);
    }
    evidence.success(LAW.window, at(1));
    let cause = evidence.failure(&LAW, at(1));
    assert_eq!(cause, Some(EjectionCause::Share { failures: 10, requests: 20 }));
}

#[test]
fn failures_older_than_the_window_say_nothing() {
    let evidence = Evidence::default();
    for _ in 0..9 {
        evidence.success(LAW.window, at(1));
        evidence.failure(&LAW, at(1));
    }
    evidence.success(LAW.window, at(60));
    assert_eq!(evidence.failure(&LAW, at(60)), None);
}

/// The shortest row that says something where so much is normal.
fn row_where(normal: Share) -> Option<u32> {
    (LAW.failures..10_000).find(|row| LAW.is_out_of_line(EjectionCause::Consecutive(*row), normal))
}

#[test]
fn the_more_neighbours_fail_the_longer_a_row_must_be() {
    let rows: Vec<_> = [0, 1, 6, 25, 50, 80, 100].map(|percent| row_where(Share::percent(percent))).into();
    assert_eq!(rows, [Some(5), Some(5), Some(5), Some(10), Some(20), Some(63), None]);
}

#[test]
fn one_failure_is_enough_for_who_asks_for_no_more_where_little_fails() {
    let law = EjectionLaw { failures: 1, ..LAW };
    assert!(law.is_out_of_line(EjectionCause::Consecutive(1), Share::percent(5)));
    assert!(!law.is_out_of_line(EjectionCause::Consecutive(1), Share::percent(20)));
}

#[test]
fn of_a_share_what_is_above_the_neighbours_counts() {
    let is_out = |failures, normal| {
        LAW.is_out_of_line(EjectionCause::Share { failures, requests: 1_000 }, Share::percent(normal))
    };
    assert!(is_out(500, 0));
    assert!(!is_out(500, 33), "a quarter of what the neighbours do well");
    assert!(is_out(680, 33) && !is_out(650, 33));
    assert!(!is_out(300, 33) && !is_out(330, 33) && !is_out(1_000, 100));
}

#[test]
fn a_share_of_few_is_chance() {
    let is_out = |failures, requests| {
        LAW.is_out_of_line(EjectionCause::Share { failures, requests }, Share::percent(33))
    };
    assert!(!is_out(14, 20) && is_out(140, 200));
}

#[test]
fn how_much_an_endpoint_fails_is_known_by_its_row_before_the_window_shows_it() {
    let evidence = Evidence::default();
    assert_eq!(evidence.failing(LAW.window, at(1)), Share::ZERO);
    (0..995).for_each(|_| evidence.success(LAW.window, at(1)));
    evidence.failure(&LAW, at(1));
    let one = evidence.failing(LAW.window, at(1));
    assert!(one < Share::percent(17), "one failure is one of six: {one:?}");
    assert!((0..19).filter_map(|_| evidence.failure(&LAW, at(1))).count() > 10);
    assert_eq!(evidence.failing(LAW.window, at(1)), Share::percent(80));
    evidence.success(LAW.window, at(1));
    assert!(evidence.failing(LAW.window, at(1)) < Share::percent(2));
}

#[test]
fn normal_is_what_the_best_quarter_fails() {
    let of = |percents: &[u32]| {
        normal_failing_of(&mut percents.iter().copied().map(Share::percent).collect::<Vec<_>>())
    };
    assert_eq!([of(&[]), of(&[7]), of(&[9, 3])], [Share::ZERO, Share::percent(7), Share::percent(3)]);
    assert_eq!(of(&[100, 100, 1]), Share::percent(1));
    assert_eq!(of(&[100, 30, 100, 1, 100]), Share::percent(30));
}

fn answers(latencies: &[(usize, Duration)]) -> SpreadCounts {
    let spread = Spread::default();
    for (count, latency) in latencies {
        (0..*count).for_each(|_| spread.record(*latency));
    }
    spread.counts()
}

#[test]
fn an_endpoint_is_slow_by_its_neighbours_measure() {
    let slow = SlowLaw::default();
    let limit = slow.limit(normal_of(&mut [ms(50), ms(900), ms(60)])).expect("there are neighbours");
    assert_eq!(limit, ms(180));
    assert!(matches!(
        slow.cause(&answers(&[(10, ms(900))]), limit),
        Some(EjectionCause::Slow { slow: 10, .. })
    ));
    assert_eq!(slow.cause(&answers(&[(10, ms(100))]), limit), None, "twice as slow is ordinary");
    assert_eq!(slow.cause(&answers(&[(9, ms(900))]), limit), None, "too few answers");
    assert_eq!(slow.cause(&answers(&[(11, ms(50)), (9, ms(900))]), limit), None, "not half of them");
}

#[test]
fn what_nobody_notices_is_not_slow() {
    assert_eq!(SlowLaw::default().limit(Some(ms(1))), Some(ms(100)));
    assert_eq!(SlowLaw::default().limit(None), None, "without neighbours there is no measure");
    let fixed = SlowLaw { over: Some(ms(7)), ..SlowLaw::default() };
    assert_eq!(fixed.limit(None), Some(ms(7)));
}

#[test]
fn the_neighbours_normal_is_that_of_the_better_half() {
    assert_eq!(normal_of(&mut []), None);
    assert_eq!(normal_of(&mut [ms(3)]), Some(ms(3)));
    assert_eq!(normal_of(&mut [ms(9), ms(3)]), Some(ms(3)));
    assert_eq!(normal_of(&mut [ms(9), ms(3), ms(5)]), Some(ms(5)));
}

#[test]
fn silence_is_measured_by_how_long_answers_take() {
    let law = SilenceLaw::default();
    assert_eq!(law.limit(Some(ms(1))), ms(250));
    assert_eq!(law.limit(Some(ms(400))), ms(1_200));
    assert_eq!(law.limit(Some(at(60))), at(30));
    assert_eq!(law.limit(None), at(1));
}

/// Ends the present outage by as many probes as it takes.
fn readmit(ejection: &mut Ejection, now: Duration) {
    for _ in 0..LAW.probes {
        assert!(ejection.try_begin_probe(now, true));
        ejection.end_probe(&LAW, now, ProbeEnd::Well);
    }
    assert!(!ejection.is_ejected());
}

#[test]
fn three_probes_that_go_well_one_after_the_other_readmit() {
    let mut ejection = Ejection::default();
    ejection.eject(&LAW, at(100));
    assert_eq!(ejection.probe_at(), Some(at(101)));
    assert!(!ejection.try_begin_probe(ms(100_999), true), "too early");
    for readmits in [false, false, true] {
        assert!(ejection.try_begin_probe(at(101), true));
        assert!(!ejection.try_begin_probe(at(101), true), "one at a time");
        assert_eq!(ejection.end_probe(&LAW, at(101), ProbeEnd::Well), readmits);
    }
    assert_eq!((ejection.is_ejected(), ejection.readmitted_at()), (false, Some(at(101))));
}

#[test]
fn a_probe_that_fails_ends_the_row_and_the_next_waits() {
    let mut ejection = Ejection::default();
    ejection.eject(&LAW, at(100));
    assert!(ejection.try_begin_probe(at(101), true));
    ejection.end_probe(&LAW, at(101), ProbeEnd::Well);
    assert!(ejection.try_begin_probe(at(101), true));
    ejection.end_probe(&LAW, at(101), ProbeEnd::Ill);
    assert!(!ejection.try_begin_probe(ms(101_999), true));
    for _ in 0..2 {
        assert!(ejection.try_begin_probe(at(102), true));
        assert!(!ejection.end_probe(&LAW, at(102), ProbeEnd::Well), "the row began anew");
    }
    assert!(ejection.is_ejected());
}

#[test]
fn a_probe_whose_client_left_says_nothing_and_leaves_its_place() {
    let mut ejection = Ejection::default();
    ejection.eject(&LAW, at(100));
    assert!(ejection.try_begin_probe(at(101), true));
    assert!(!ejection.end_probe(&LAW, at(101), ProbeEnd::Nothing));
    assert!(ejection.try_begin_probe(at(101), true));
}

#[test]
fn a_probe_that_says_nothing_holds_the_next_up_for_ten_seconds_and_no_longer() {
    let mut ejection = Ejection::default();
    ejection.eject(&LAW, at(100));
    assert!(ejection.try_begin_probe(at(110), false));
    assert_eq!(ejection.probe_at(), Some(at(120)));
    assert!(!ejection.try_begin_probe(ms(119_999), true));
    for readmits in [false, false, true] {
        assert!(ejection.try_begin_probe(at(120), true));
        assert_eq!(ejection.end_probe(&LAW, at(120), ProbeEnd::Well), readmits);
    }
}

#[test]
fn a_request_that_cannot_be_sent_twice_is_risked_late_or_when_another_went_well() {
    let mut ejection = Ejection::default();
    ejection.eject(&LAW, at(100));
    assert!(!ejection.try_begin_probe(at(109), false));
    assert!(ejection.try_begin_probe(at(110), false));
    ejection.end_probe(&LAW, at(110), ProbeEnd::Ill);
    assert!(!ejection.try_begin_probe(at(129), false), "a request was lost: twice as long");
    assert!(ejection.try_begin_probe(at(129), true));
    ejection.end_probe(&LAW, at(129), ProbeEnd::Well);
    assert!(ejection.try_begin_probe(at(129), false), "hardly a risk any more");
}

#[test]
fn both_pauses_double_with_each_ejection_in_a_row() {
    let (mut ejection, mut now, mut pauses) = (Ejection::default(), at(100), Vec::new());
    for _ in 0..7 {
        let ends_at = ejection.eject(&LAW, now);
        let probe_at = ejection.probe_at().expect("it is out");
        pauses.push(((ends_at - now).as_secs(), (probe_at - now).as_secs()));
        now = probe_at;
        readmit(&mut ejection, now);
    }
    assert_eq!(pauses, [(10, 1), (20, 2), (40, 4), (80, 8), (160, 16), (300, 30), (300, 30)]);
}

#[test]
fn an_endpoint_that_is_ill_for_long_is_probed_as_often_as_at_first() {
    let mut ejection = Ejection::default();
    ejection.eject(&LAW, at(100));
    for secs in 101..1_000 {
        assert!(ejection.try_begin_probe(at(secs), true));
        ejection.end_probe(&LAW, at(secs), ProbeEnd::Ill);
    }
}

#[test]
fn time_in_rotation_takes_the_doublings_back_one_by_one() {
    let (mut ejection, mut now) = (Ejection::default(), at(100));
    for _ in 0..3 {
        ejection.eject(&LAW, now);
        now = ejection.probe_at().expect("it is out");
        readmit(&mut ejection, now);
    }
    // 10, 20, 40 s it would have been; after 10 s in rotation two doublings are forgiven.
    let again = now + at(10);
    assert_eq!(ejection.eject(&LAW, again) - again, at(20));
}

#[test]
fn an_endpoint_that_is_out_is_not_ejected_for_longer() {
    let mut ejection = Ejection::default();
    let ends_at = ejection.eject(&LAW, at(100));
    assert_eq!(ejection.eject(&LAW, at(105)), ends_at);
}

#[test]
fn a_pardon_forgets_the_past() {
    let mut ejection = Ejection::default();
    ejection.eject(&LAW, at(100));
    assert!(ejection.pardon());
    assert!(!ejection.pardon());
    assert_eq!(ejection, Ejection::default());
}

#[test]
fn the_only_endpoint_is_never_ejected() {
    assert!(!LAW.may_eject(0, 1));
    assert!(LAW.may_eject(0, 2));
    assert!(!LAW.may_eject(1, 2));
}

/// What may happen to an endpoint's standing.
#[derive(Debug, Clone, Copy)]
enum Event {
    Eject,
    Begin { is_safe: bool },
    End(ProbeEnd),
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let event = prop_oneof![
        Just(Event::Eject),
        any::<bool>().prop_map(|is_safe| Event::Begin { is_safe }),
        any::<bool>().prop_map(|is_safe| Event::Begin { is_safe }),
        Just(Event::End(ProbeEnd::Well)),
        Just(Event::End(ProbeEnd::Well)),
        Just(Event::End(ProbeEnd::Ill)),
        Just(Event::End(ProbeEnd::Nothing)),
    ];
    prop::collection::vec((0_u64..4_000, event), 1..200)
}

/// The standing as a person would keep it on paper: three states, and the moments from which things are allowed.
#[derive(Debug)]
enum Paper {
    In,
    Out { safe_from: Duration, any_from: Duration, well: u32 },
    Probed { safe_from: Duration, any_from: Duration, well: u32, at_risk: bool, since: Duration },
}

proptest! {
    #[test]
    fn never_more_than_the_share_is_out(endpoints in 0_usize..200, percent in 0_u32..=100) {
        let law = EjectionLaw { share_max: Share::percent(percent), ..LAW };
        let mut ejected = 0;
        while law.may_eject(ejected, endpoints) {
            ejected += 1;
        }
        prop_assert!(ejected * 100 <= endpoints * percent as usize);
    }

    /// Against the naive machine, whose levels are counted from the list of what happened.
    #[test]
    fn it_is_out_half_open_and_in_as_on_paper(events in events()) {
        let (mut ejection, mut paper) = (Ejection::default(), Paper::In);
        let (mut now, mut level, mut back_at) = (at(50), 0_u32, None::<Duration>);
        let pause = |level: u32, first: u64, longest: u64| at((first << (level - 1).min(20)).min(longest));
        for (gap, event) in events {
            now += ms(gap);
            match (event, &mut paper) {
                (Event::Eject, Paper::In) => {
                    let forgiven = back_at.map_or(0, |back| ((now - back).as_millis() / 5_000) as u32);
                    level = (level.saturating_sub(forgiven) + 1).min(6);
                    let (safe_from, any_from) = (now + pause(level, 1, 30), now + pause(level, 10, 300));
                    prop_assert_eq!(ejection.eject(&LAW, now), any_from);
                    paper = Paper::Out { safe_from, any_from, well: 0 };
                }
                (Event::Eject, _) => { ejection.eject(&LAW, now); }
                (Event::Begin { is_safe }, Paper::Out { safe_from, any_from, well }) => {
                    let may = now >= *safe_from && (is_safe || *well > 0 || now >= *any_from);
                    prop_assert_eq!(ejection.try_begin_probe(now, is_safe), may);
                    if may {
                        let (safe_from, any_from, well) = (*safe_from, *any_from, *well);
                        paper = Paper::Probed { safe_from, any_from, well, at_risk: !is_safe, since: now };
                    }
                }
                (Event::Begin { is_safe }, Paper::Probed { any_from, well, at_risk, since, .. }) => {
                    let may = now >= *since + at(10) && (is_safe || *well > 0 || now >= *any_from);
                    prop_assert_eq!(ejection.try_begin_probe(now, is_safe), may);
                    if may {
                        (*at_risk, *since) = (!is_safe, now);
                    }
                }
                (Event::Begin { is_safe }, _) => prop_assert!(!ejection.try_begin_probe(now, is_safe)),
                (Event::End(end), Paper::Probed { safe_from, any_from, well, at_risk, .. }) => {
                    let (mut safe_from, mut any_from, mut well) = (*safe_from, *any_from, *well);
                    match end {
                        ProbeEnd::Well => well += 1,
                        ProbeEnd::Nothing => {}
                        ProbeEnd::Ill => {
                            well = 0;
                            if *at_risk {
                                level = (level + 1).min(6);
                                any_from = now + pause(level, 10, 300);
                            }
                            safe_from = now + pause(level, 1, 30);
                        }
                    }
                    let is_back = ejection.end_probe(&LAW, now, end);
                    prop_assert_eq!(is_back, well == 3);
                    paper = if is_back { Paper::In } else { Paper::Out { safe_from, any_from, well } };
                    back_at = if is_back { Some(now) } else { back_at };
                }
                (Event::End(end), _) => prop_assert!(!ejection.end_probe(&LAW, now, end)),
            }
            prop_assert_eq!(ejection.is_ejected(), !matches!(paper, Paper::In));
        }
    }
}
