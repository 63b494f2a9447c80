//! What a limiter's decision costs at a million keys, beside a bare look-up in a hash map of the same size and key type.
//!
//! `limit` prints nanoseconds of each as JSON, on one thread and on two at once: the subjects take turns in short rounds over
//! keys that lead anywhere in memory, and the fastest round of each counts, since noise only ever adds. The map is only
//! read, and nobody writes it; the limiter decides, writes and takes its lock. Each look-up waits for what the one before
//! found, as requests do. With `_ahead` they need not: the processor then fetches several places of the map at once, which
//! none can for requests that have not come yet, and which a lock forbids. `limit --keys 1000` for another size.
#![expect(clippy::print_stdout, reason = "a bench says what it measured")]

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use terrace_policy::limit::{Key, KeySeed, Law, Limiter, Material, Moment, Rate};

const ROUNDS: usize = 100;
const DECISIONS_PER_ROUND: usize = 50_000;

struct Subjects {
    keys: Vec<Key>,
    map: FxHashMap<u128, u64>,
    bucket: Limiter,
    sliding: Limiter,
}

const NAMES: [&str; 5] = ["map", "bucket", "sliding", "map_ahead", "bucket_ahead"];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let keys = arguments.windows(2).find(|pair| pair[0] == "--keys").map(|pair| pair[1].parse());
    let subjects = Subjects::new(keys.and_then(Result::ok).unwrap_or(1_000_000));
    println!("{{\"keys\": {},", subjects.keys.len());
    println!(" \"one_thread_ns\": {},", show(&measured(&subjects, 1)));
    println!(" \"two_threads_ns\": {}}}", show(&measured(&subjects, 2)));
}

impl Subjects {
    fn new(count: usize) -> Self {
        let mut material = Material::new();
        let key = |number: usize| {
            material.clear();
            material.text(&number.to_le_bytes());
            material.key(&KeySeed::new(1, 2))
        };
        let keys: Vec<Key> = (0..count).map(key).collect();
        let rate = Rate::new(NonZeroU32::new(100).expect("not zero"), Duration::from_secs(1));
        let burst = NonZeroU32::new(200).expect("not zero");
        let bucket = Limiter::new(Law::TokenBucket { rate, burst }, count);
        let sliding = Limiter::new(Law::SlidingWindow { rate }, count);
        for key in &keys {
            let now = Moment::default();
            let _counted = bucket.take(*key, 1, now, Duration::ZERO);
            let _counted = sliding.take(*key, 1, now, Duration::ZERO);
        }
        assert_eq!((bucket.forgotten(), sliding.forgotten()), (0, 0));
        Self { map: keys.iter().map(|key| (key.bits(), 1)).collect(), keys, bucket, sliding }
    }

    /// Walks through the keys from a place that `salt` gives. Their order is that of hashes, so each leads anywhere.
    fn run(&self, name: &str, salt: u64) {
        let now = Moment { clock: Duration::from_millis(salt), wall: Duration::ZERO };
        let from = salt as usize * DECISIONS_PER_ROUND % self.keys.len();
        match name {
            "map" => self.walk(from, |key| self.map.get(&key.bits()).copied().unwrap_or(0)),
            "bucket" => self.walk(from, |key| remaining(&self.bucket, key, now)),
            "sliding" => self.walk(from, |key| remaining(&self.sliding, key, now)),
            "map_ahead" => self.run_ahead(from, |key| self.map.get(&key.bits()).copied().unwrap_or(0)),
            _ => self.run_ahead(from, |key| remaining(&self.bucket, key, now)),
        }
    }

    fn run_ahead(&self, from: usize, look: impl Fn(Key) -> u64) {
        for key in self.keys.iter().cycle().skip(from).take(DECISIONS_PER_ROUND) {
            black_box(look(*key));
        }
    }

    /// Each step is one place forward, which only what was found tells: it is never near 2^40.
    fn walk(&self, from: usize, look: impl Fn(Key) -> u64) {
        let mut place = from;
        for _ in 0..DECISIONS_PER_ROUND {
            place += 1 + (look(self.keys[place]) >> 40) as usize;
            place = if place == self.keys.len() { 0 } else { place };
        }
        black_box(place);
    }

    #[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
    fn nanoseconds(&self, name: &str, salt: u64) -> f64 {
        let began = Instant::now();
        self.run(name, salt);
        began.elapsed().as_nanos() as f64 / DECISIONS_PER_ROUND as f64
    }
}

/// The fastest round of each, where all threads work at the same subject at the same moment and the slowest one counts.
fn measured(subjects: &Subjects, threads: usize) -> [f64; NAMES.len()] {
    let (together, rounds) = (Barrier::new(threads), Mutex::new(vec![[0.0_f64; NAMES.len()]; ROUNDS]));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (together, rounds) = (&together, &rounds);
            scope.spawn(move || {
                for (round, place) in
                    (0..ROUNDS).flat_map(|round| (0..NAMES.len()).map(move |place| (round, place)))
                {
                    together.wait();
                    let nanoseconds = subjects.nanoseconds(NAMES[place], (round * threads + thread) as u64);
                    let mut rounds = rounds.lock().expect("a bench does not panic");
                    rounds[round][place] = rounds[round][place].max(nanoseconds);
                }
            });
        }
    });
    let rounds = rounds.into_inner().expect("a bench does not panic");
    std::array::from_fn(|place| rounds.iter().map(|round| round[place]).fold(f64::INFINITY, f64::min))
}

fn remaining(limiter: &Limiter, key: Key, now: Moment) -> u64 {
    limiter.take(key, 1, now, Duration::ZERO).decision().remaining
}

fn show(nanoseconds: &[f64; NAMES.len()]) -> String {
    let pairs =
        NAMES.iter().zip(nanoseconds).map(|(name, nanoseconds)| format!("\"{name}\": {nanoseconds:.1}"));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}
