//! Three of ten endpoints fall ill while three times as many ask as all of them can answer: what is left, what it costs, and
//! how soon all is as before. Nothing is said of it in the file, and what is left is held against what the seven give alone,
//! in the same run and through the same Terrace.
//!
//! The laws behind it are tested in simulated time with every run (`terrace-upstream`, `simulation`; `terrace-policy`,
//! `concurrency`); this is the whole program on real sockets.

mod heavy {
    use std::net::SocketAddr;
    use std::time::Duration;

    use terrace_testkit::{Asking, Capacity, Crowd, Fate, Mood, Origin, Port, Reply, until_true};

    use crate::world;

    const ENDPOINTS: usize = 10;
    const ILL: usize = 3;
    /// Each answers 80 requests a second: few enough that even a small machine has time for all of it.
    const CAPACITY: Capacity = Capacity { workers: 4, service: Duration::from_millis(50) };
    /// Three times as many as there are workers.
    const CLIENTS: usize = 3 * ENDPOINTS * CAPACITY.workers;

    const GOODPUT: f64 = 0.9;
    const ATTEMPTS: f64 = 1.1;
    const WELL_AGAIN_WITHIN: Duration = Duration::from_secs(5);

    /// From when to when of the crowd's age.
    type While = (Duration, Duration);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pass(crowd: &Crowd, time: Duration) -> While {
        let from = crowd.age();
        until_true("the time has passed", || crowd.age() >= from + time);
        (from, from + time)
    }

    fn goodput(crowd: &Crowd, (from, to): While) -> f64 {
        crowd.goodput(from, to)
    }

    /// How many were not refused at once, and how many of all were not answered with 200.
    fn admitted_and_failed(replies: &[Reply]) -> (f64, f64) {
        let is_refused = |reply: &&Reply| matches!(reply.fate, Fate::Status(429 | 503));
        let (refused, admitted): (Vec<&Reply>, Vec<&Reply>) = replies.iter().partition(is_refused);
        let failed = admitted.iter().filter(|reply| reply.fate != Fate::Good).count();
        (admitted.len() as f64, (failed + refused.len()) as f64)
    }

    /// When a whole second was first as good as before, since `since`.
    fn well_again_after(crowd: &Crowd, since: Duration, calm: f64) -> Option<Duration> {
        const STEP: Duration = Duration::from_millis(100);
        let starts =
            (0..).map(|step| STEP * step).take_while(|after| since + *after + seconds(1) <= crowd.age());
        starts
            .into_iter()
            .find(|after| goodput(crowd, (since + *after, since + *after + seconds(1))) >= GOODPUT * calm)
    }

    #[track_caller]
    fn survives(mood: Mood) {
        let world = world();
        let port = Port::reserve();
        let origin = Origin::start_many(ENDPOINTS, CAPACITY);
        let file = |addresses: &[SocketAddr]| {
            let hosts: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
            format!("[listen.public]\naddress = \"{port}\"\n[service.app]\nhosts = [{}]\n", hosts.join(", "))
        };
        let terrace = world.up(&file(&origin.addresses()[ILL..]));
        let patience = seconds(10);
        let crowd = Crowd::start(Asking {
            address: port.address(),
            clients: CLIENTS,
            rate_per_s: None,
            patience,
            pause: Duration::ZERO,
        });
        pass(&crowd, seconds(2));
        let healthy = goodput(&crowd, pass(&crowd, seconds(4)));
        terrace.reload_with(&file(&origin.addresses())).ok();
        pass(&crowd, seconds(3));
        let calm = goodput(&crowd, pass(&crowd, seconds(3)));

        let (arrived, replied) = (origin.served_in_all().arrived, crowd.replies().len());
        origin.set(0..ILL, mood);
        let ill = goodput(&crowd, pass(&crowd, seconds(8)));
        let attempts = (origin.served_in_all().arrived - arrived) as f64;
        let (admitted, failed) = admitted_and_failed(&crowd.replies()[replied..]);

        origin.set(0..ILL, Mood::Well);
        let (since, _) = pass(&crowd, WELL_AGAIN_WITHIN + seconds(1));
        let well_again = well_again_after(&crowd, since, calm);
        drop(crowd);
        let told = format!(
            "{mood:?}: the seven alone {healthy:.0}/s, all ten {calm:.0}/s, with three ill {ill:.0}/s; {attempts} attempts \
             of {admitted} requests, {failed} not answered with 200; well again after {well_again:?}"
        );
        assert!(ill >= GOODPUT * healthy, "{told}");
        assert!(attempts <= ATTEMPTS * admitted, "{told}");
        assert!(failed <= 0.02 * admitted, "{told}");
        assert!(well_again.is_some_and(|after| after <= WELL_AGAIN_WITHIN), "{told}");
        tell(&told);
    }

    /// The figures, for whoever runs it to see them.
    fn tell(told: &str) {
        use std::io::Write as _;
        let _nobody_listens = writeln!(std::io::stdout().lock(), "{told}");
    }

    #[test]
    fn three_of_ten_that_fail_at_once_cost_what_they_would_have_answered_and_no_more() {
        survives(Mood::Failing);
    }

    #[test]
    fn three_of_ten_that_fall_silent_cost_what_they_would_have_answered_and_no_more() {
        survives(Mood::Silent);
    }

    #[test]
    fn three_of_ten_that_take_a_hundred_times_as_long_cost_what_they_would_have_answered_and_no_more() {
        survives(Mood::Slow(100));
    }
}
