//! What Redis is asked to do: one script for each algorithm, with the same decisions as `policy` makes in memory.
//!
//! A script runs whole, between no other commands, and takes the time from Redis itself, so neither the order in which
//! machines ask nor what their clocks say matters. One call decides over any number of requests for one key. Its arguments
//! are the law's, then what the machine that asks knows of the key, should Redis have lost it while it was away: how much is
//! used, and in how many microseconds all of that is back. Then for each request what it costs and 0, or, for one that is given back, its cost
//! with a minus and when it was taken. Its answer: a `1` or `0` for each request, then what is left, then in microseconds when all of it is back
//! and when the first that was refused could pass, then the time it was by Redis' clock.
//!
//! Numbers in Lua are exact up to 2^53; beyond that (a million a day by another prime than 2 and 5, say) the last bit of
//! sixteen digits is rounded. Each key is let go by Redis itself when it says no more than none would. Redis 5 and later, for
//! before it a script that asked the time could not write.

use std::time::Duration;

use terrace_policy::limit::{Decision, Law, Period, QuotaUse};

use crate::resp::Answer;

/// A script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    Bucket,
    Fixed,
    Sliding,
    Quota,
    Machines,
}

/// The time in microseconds, and what is the same for all that count in windows of it.
const BUCKET: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, speed, capacity = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local owed = math.min(ARGV[5] * speed, capacity)
local was, at, of = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+) (%d+)$')
if was then
  owed = tonumber(was)
  if tonumber(of) ~= interval then owed = math.ceil(owed * interval / of) end
  owed = math.min(math.max(0, owed - math.max(0, now - at) * speed), capacity)
end
local granted, retry, changed = {}, 0, false
for i = 6, #ARGV, 2 do
  local price = ARGV[i] * interval
  if price <= 0 or owed + price <= capacity then
    owed = math.max(0, owed + price)
    granted[#granted + 1], changed = '1', changed or price ~= 0
  else
    granted[#granted + 1] = '0'
    if retry == 0 then retry = math.ceil((owed + price - capacity) / speed) end
  end
end
if changed then
  local ms = math.ceil(owed / speed / 1000) + 1000
  redis.call('SET', KEYS[1], string.format('%.0f %.0f %.0f', owed, now, interval), 'PX', string.format('%.0f', ms))
end
return {table.concat(granted), math.floor((capacity - owed) / interval), math.ceil(owed / speed), retry, now}
";

const FIXED: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local period, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local count, began = math.min(tonumber(ARGV[3]), limit), now - math.max(0, period - ARGV[4])
local c, b = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
if c or count == 0 then count, began = 0, now end
if c and c ~= '0' and now < b + period then count, began = tonumber(c), tonumber(b) end
local granted, retry, changed = {}, 0, false
for i = 5, #ARGV, 2 do
  local cost, taken = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  if cost < 0 then
    if began <= taken then count, changed = math.max(0, count + cost), true end
    granted[#granted + 1] = '1'
  elseif count + cost <= limit then
    count = count + cost
    granted[#granted + 1], changed = '1', changed or cost > 0
  else
    granted[#granted + 1] = '0'
    retry = began + period - now
  end
end
if changed then
  local ms = math.ceil((began + period - now) / 1000) + 1000
  redis.call('SET', KEYS[1], string.format('%.0f %.0f', count, began), 'PX', string.format('%.0f', ms))
end
local reset = 0
if count > 0 then reset = began + period - now end
return {table.concat(granted), math.max(0, limit - count), reset, retry, now}
";

const SLIDING: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local slice, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local number = math.floor(now / slice)
local words, counts = {}, {}
for word in string.gmatch(redis.call('GET', KEYS[1]) or '', '%d+') do words[#words + 1] = tonumber(word) end
if #words == 13 then
  local before, latest = words[1], words[2]
  if before == slice and latest > number then number = latest end
  for k = 0, 10 do
    local at = latest - 10 + k
    if before ~= slice then at = math.min(math.floor(((at + 1) * before - 1) / slice), number) end
    counts[at] = (counts[at] or 0) + words[3 + k]
  end
elseif tonumber(ARGV[3]) > 0 then
  local at = math.floor((now + ARGV[4]) / slice) - 11
  counts[math.max(number - 10, math.min(at, number))] = math.min(tonumber(ARGV[3]), limit)
end
local used = 0
for at = number - 10, number do used = used + (counts[at] or 0) end
local granted, retry, changed = {}, 0, false
for i = 5, #ARGV, 2 do
  local cost, taken = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  if cost < 0 then
    local at = math.min(math.floor(taken / slice), number)
    if at >= number - 10 then
      local back = math.min(-cost, counts[at] or 0)
      counts[at], used, changed = (counts[at] or 0) - back, used - back, true
    end
    granted[#granted + 1] = '1'
  elseif used + cost <= limit then
    counts[number], used = (counts[number] or 0) + cost, used + cost
    granted[#granted + 1], changed = '1', changed or cost > 0
  else
    granted[#granted + 1] = '0'
    local left, wanted = 0, used + cost - limit
    for at = number - 10, number do
      left = left + (counts[at] or 0)
      if retry == 0 and left >= wanted then retry = (at + 11) * slice - now end
    end
  end
end
local reset, kept = 0, {string.format('%.0f %.0f', slice, number)}
for at = number - 10, number do
  kept[#kept + 1] = string.format('%.0f', counts[at] or 0)
  if (counts[at] or 0) > 0 then reset = (at + 11) * slice - now end
end
if changed then
  local ms = math.ceil(slice * 11 / 1000) + 1000
  redis.call('SET', KEYS[1], table.concat(kept, ' '), 'PX', string.format('%.0f', ms))
end
return {table.concat(granted), math.max(0, limit - used), reset, retry, now}
";

/// Months as in `terrace_policy::limit::months_since_1970`; what is further ahead than a day was counted by a clock that was
/// wrong, and counts as used today, as there. Besides limit and period it is told what the machine that asks
/// knows, should Redis have lost it, and what that machine let through while Redis was away. What Redis knows itself is newer:
/// something may have been given back since that machine heard of it.
const QUOTA: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function month_of(day)
  local era = math.floor((day + 719468) / 146097)
  local doe = day + 719468 - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  return (era * 400 + yoe) * 12 + math.floor((5 * doy + 2) / 153) + 2 - 23640
end
local day = math.floor(time[1] / 86400)
local month = month_of(day)
local limit, monthly, kept = tonumber(ARGV[1]), ARGV[2] == 'month', {}
local told = table.concat({ARGV[3], ARGV[4], ARGV[5], ARGV[6]}, ' ')
for word in string.gmatch(redis.call('GET', KEYS[1]) or told, '%d+') do kept[#kept + 1] = tonumber(word) end
local d, in_day, m, in_month = kept[1], kept[2], kept[3], kept[4]
local is_far_ahead = d > day + 1
if is_far_ahead then d, m = day, math.min(m, month) end
if day > d then d, in_day = day, 0 end
if month > m then m, in_month = month, 0 end
in_day, in_month = in_day + ARGV[7], in_month + ARGV[7]
local granted, changed = {}, is_far_ahead or tonumber(ARGV[7]) > 0
for i = 8, #ARGV, 2 do
  local cost, taken = tonumber(ARGV[i]), math.floor(ARGV[i + 1] / 86400000000)
  local used = monthly and in_month or in_day
  if cost < 0 then
    if taken == d then in_day = math.max(0, in_day + cost) end
    if month_of(taken) == m then in_month = math.max(0, in_month + cost) end
    granted[#granted + 1], changed = '1', true
  elseif used + cost <= limit then
    in_day, in_month = in_day + cost, in_month + cost
    granted[#granted + 1], changed = '1', changed or cost > 0
  else
    granted[#granted + 1] = '0'
  end
end
if changed then
  redis.call('SET', KEYS[1], string.format('%.0f %.0f %.0f %.0f', d, in_day, m, in_month), 'EX', '2851200')
end
local used = monthly and in_month or in_day
return {table.concat(granted), math.max(0, limit - used), used, 0, now, d, in_day, m, in_month}
";

/// Counts the machines that said within half a minute that they are there.
const MACHINES: &str = r"
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 30)
redis.call('EXPIRE', KEYS[1], 60)
return redis.call('ZCARD', KEYS[1])
";

impl Script {
    pub(crate) const ALL: [Self; 5] = [Self::Bucket, Self::Fixed, Self::Sliding, Self::Quota, Self::Machines];

    pub(crate) fn source(self) -> &'static str {
        match self {
            Self::Bucket => BUCKET,
            Self::Fixed => FIXED,
            Self::Sliding => SLIDING,
            Self::Quota => QUOTA,
            Self::Machines => MACHINES,
        }
    }

    /// Ends a key's name, so that another algorithm finds nothing in it that it cannot read.
    fn letter(self) -> char {
        match self {
            Self::Bucket => 'b',
            Self::Fixed => 'f',
            Self::Sliding => 's',
            Self::Quota => 'q',
            Self::Machines => 'm',
        }
    }
}

/// How a law is told to its script.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spelled {
    pub(crate) script: Script,
    law: Law,
    arguments: Vec<String>,
    /// The most that can be had.
    limit: u64,
}

/// What a machine knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Of a quota: what is used, and of that what Redis was not told yet.
    Quota(QuotaUse, u64),
    /// Of all others: how much is used, and after how long all of it is back.
    Used(u64, Duration),
}

impl Heard {
    /// Nothing is known, or nothing that Redis does not know better.
    pub(crate) const NOTHING: Self = Self::Used(0, Duration::ZERO);
}

/// What Redis said to several requests for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// One for each request, in their order.
    pub(crate) decisions: Vec<Decision>,
    /// By Redis' clock, in microseconds since 1970.
    pub(crate) at_us: u64,
    /// What all machines together have used of a quota.
    pub(crate) used: Option<QuotaUse>,
}

impl Spelled {
    /// Nothing for what only the machine itself can count: who is under way, and who waits.
    pub(crate) fn of(law: &Law) -> Option<Self> {
        let (script, arguments, limit) = match law {
            Law::TokenBucket { rate, burst } => {
                let (period_us, count) = (micros(rate.period()), u64::from(rate.count()));
                let divisor = greatest_common_divisor(period_us, count);
                let interval = period_us / divisor;
                let capacity = u128::from(interval) * u128::from(burst.get());
                let arguments =
                    vec![interval.to_string(), (count / divisor).to_string(), capacity.to_string()];
                (Script::Bucket, arguments, u64::from(burst.get()))
            }
            Law::FixedWindow { rate } => {
                let arguments = vec![micros(rate.period()).to_string(), rate.count().to_string()];
                (Script::Fixed, arguments, u64::from(rate.count()))
            }
            Law::SlidingWindow { rate } => {
                let slice = micros(rate.period()).div_ceil(10);
                (Script::Sliding, vec![slice.to_string(), rate.count().to_string()], u64::from(rate.count()))
            }
            Law::Quota { limit, period } => {
                let period = match period {
                    Period::Day => "day",
                    Period::Month => "month",
                };
                (Script::Quota, vec![limit.to_string(), period.to_owned()], limit.get())
            }
            Law::LeakyBucket { .. } | Law::Concurrency { .. } => return None,
        };
        Some(Self { script, law: *law, arguments, limit })
    }

    /// After so long all that was used is back.
    pub(crate) fn window(&self) -> Duration {
        self.law.policy().window.unwrap_or_default()
    }

    /// The key's name in Redis; what is in braces decides on which machine of a cluster it is (redis.io, "Redis cluster
    /// specification", "Hash tags").
    pub(crate) fn key(&self, name: &str, digest: u128) -> String {
        format!("terrace:limit:{{{name}:{digest:032x}}}:{}", self.script.letter())
    }

    /// Appends the law's arguments, and what is known here.
    pub(crate) fn push_arguments(&self, out: &mut Vec<String>, known: &Heard) {
        out.extend_from_slice(&self.arguments);
        match known {
            Heard::Quota(QuotaUse { day, month, in_day, in_month }, unreported) => {
                let numbers = [u64::from(*day), *in_day, u64::from(*month), *in_month, *unreported];
                out.extend(numbers.map(|number| number.to_string()));
            }
            Heard::Used(used, back_in) => out.extend([used.to_string(), back_in.as_micros().to_string()]),
        }
    }

    /// Understands an answer to requests of these costs.
    pub(crate) fn understand(&self, answer: &Answer, costs: &[i64]) -> Option<Told> {
        let Answer::List(items) = answer else { return None };
        let [
            Answer::Text(granted),
            Answer::Number(left),
            Answer::Number(reset),
            Answer::Number(retry),
            Answer::Number(now),
            used @ ..,
        ] = items.as_slice()
        else {
            return None;
        };
        if granted.len() != costs.len() {
            return None;
        }
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        let at_us = number(*now);
        let (reset, retry) = match self.law {
            Law::Quota { period, .. } => {
                let wall = Duration::from_micros(at_us);
                let left = period.ends_at(wall).saturating_sub(wall);
                (if *reset == 0 { Duration::ZERO } else { left }, left)
            }
            _ => (Duration::from_micros(number(*reset)), Duration::from_micros(number(*retry))),
        };
        let decide = |(granted, cost): (&u8, &i64)| {
            let allowed = *granted == b'1';
            let can_ever = number(*cost) <= self.limit;
            Decision {
                allowed,
                limit: self.limit,
                remaining: number(*left),
                reset,
                retry_after: if allowed || !can_ever { None } else { Some(retry) },
            }
        };
        Some(Told {
            decisions: granted.iter().zip(costs).map(decide).collect(),
            at_us,
            used: quota_use(used),
        })
    }
}

fn quota_use(items: &[Answer]) -> Option<QuotaUse> {
    let [Answer::Number(day), Answer::Number(in_day), Answer::Number(month), Answer::Number(in_month)] =
        items
    else {
        return None;
    };
    Some(QuotaUse {
        day: u32::try_from(*day).ok()?,
        month: u32::try_from(*month).ok()?,
        in_day: u64::try_from(*in_day).ok()?,
        in_month: u64::try_from(*in_month).ok()?,
    })
}

/// The name under which the machines that share this Redis count themselves.
pub(crate) const MACHINES_KEY: &str = "terrace:limit:{machines}:m";

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};

    use terrace_policy::limit::{Key, Limiter, Moment, Rate};
    use terrace_testkit::Redis;

    use super::*;
    use crate::link::Link;
    use crate::resp;
    use crate::url::RedisUrl;

    const KEY: Key = Key::from_hash(7);

    /// The scripts with the time that a test gives them as the last two arguments, and with nothing that goes by itself.
    fn simulated(script: Script) -> String {
        let told = "{table.remove(ARGV), table.remove(ARGV)}";
        let source = script.source().replace("redis.call('TIME')", told);
        let source = source.replace(", 'PX', string.format('%.0f', ms)", "").replace(", 'EX', '2851200'", "");
        assert!(!source.contains("PX") && !source.contains("TIME"));
        source
    }

    struct Simulation {
        link: Link,
        spelled: Spelled,
        source: String,
    }

    impl Simulation {
        async fn of(server: &Redis, law: &Law) -> Self {
            let url = RedisUrl::parse(&server.url()).expect("a URL");
            let link = Link::open(&url, &url.host, url.port).await.expect("Redis is there");
            let spelled = Spelled::of(law).expect("it can be shared");
            let source = simulated(spelled.script);
            Self { link, spelled, source }
        }

        /// What Redis decides about requests of these costs at that moment.
        async fn ask(&mut self, at_us: u64, costs: &[(i64, u64)]) -> Told {
            let nothing = match self.spelled.script {
                Script::Quota => Heard::Quota(QuotaUse::default(), 0),
                _ => Heard::NOTHING,
            };
            self.ask_knowing(&nothing, at_us, costs).await
        }

        /// The same by a machine that knows so much of the key.
        async fn ask_knowing(&mut self, known: &Heard, at_us: u64, costs: &[(i64, u64)]) -> Told {
            let mut arguments = Vec::new();
            self.spelled.push_arguments(&mut arguments, known);
            arguments.extend(costs.iter().flat_map(|(cost, taken)| [cost.to_string(), taken.to_string()]));
            arguments.extend([(at_us % 1_000_000).to_string(), (at_us / 1_000_000).to_string()]);
            let key = self.spelled.key("test", KEY.bits());
            let mut parts: Vec<&[u8]> = vec![b"EVAL", self.source.as_bytes(), b"1", key.as_bytes()];
            parts.extend(arguments.iter().map(String::as_bytes));
            let mut out = Vec::new();
            resp::push_command(&mut out, &parts);
            self.link.send(&out).await.expect("Redis is there");
            let answer = self.link.answer().await.expect("Redis is there");
            let costs: Vec<i64> = costs.iter().map(|(cost, _)| *cost).collect();
            self.spelled.understand(&answer, &costs).unwrap_or_else(|| panic!("{answer:?}"))
        }
    }

    fn rate(count: u32, secs: u64) -> Rate {
        Rate::new(NonZeroU32::new(count).expect("not zero"), Duration::from_secs(secs))
    }

    fn laws() -> Vec<Law> {
        let burst = |burst| NonZeroU32::new(burst).expect("not zero");
        let quota = |limit, period| Law::Quota { limit: NonZeroU64::new(limit).expect("not zero"), period };
        vec![
            Law::TokenBucket { rate: rate(10, 1), burst: burst(20) },
            Law::TokenBucket { rate: rate(7, 1), burst: burst(7) },
            Law::TokenBucket { rate: rate(7_919, 60), burst: burst(9) },
            Law::FixedWindow { rate: rate(10, 1) },
            Law::SlidingWindow { rate: rate(10, 1) },
            quota(10, Period::Day),
            quota(10, Period::Month),
        ]
    }

    fn moment(at_us: u64) -> Moment {
        Moment { clock: Duration::from_micros(at_us), wall: Duration::from_micros(at_us) }
    }

    /// Numbers that look random; the same in each run.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[tokio::test]
    async fn redis_decides_as_the_memory_does() {
        let server = Redis::start(&[]);
        for law in laws() {
            assert_eq!(server.ask(&["FLUSHALL"]), "OK");
            let mut simulation = Simulation::of(&server, &law).await;
            let limiter = Limiter::new(law, 100);
            let is_quota = matches!(law, Law::Quota { .. });
            // 2024-02-20, so that a leap day comes.
            let (mut state, mut at_us) = (0x5eed_u64, 1_708_387_200_000_000);
            let mut last: Option<(u32, u64)> = None;
            for step in 0..1_500 {
                at_us += random(&mut state) % 150_000 * if is_quota { 200_000 } else { 1 };
                if let (Some((cost, taken)), 0) = (last, random(&mut state) % 7) {
                    limiter.give_back(KEY, cost, moment(taken), moment(at_us));
                    simulation.ask(at_us, &[(-i64::from(cost), taken)]).await;
                    last = None;
                    continue;
                }
                let cost = (random(&mut state) % 4) as u32;
                let told = simulation.ask(at_us, &[(cost.into(), 0)]).await;
                let answer = limiter.take(KEY, cost, moment(at_us), Duration::ZERO);
                let (theirs, ours) = (told.decisions[0], *answer.decision());
                let is_near = |a: Duration, b: Duration| a.abs_diff(b) <= Duration::from_micros(1);
                let context = format!("{law:?} at step {step}: {theirs:?}, {ours:?}");
                assert_eq!((theirs.allowed, theirs.remaining), (ours.allowed, ours.remaining), "{context}");
                assert!(is_near(theirs.reset, ours.reset), "{context}");
                assert_eq!(theirs.retry_after.is_some(), ours.retry_after.is_some(), "{context}");
                let waits = (theirs.retry_after.unwrap_or_default(), ours.retry_after.unwrap_or_default());
                assert!(is_near(waits.0, waits.1), "{context}");
                last = ours.allowed.then_some((cost, at_us));
            }
        }
    }

    #[tokio::test]
    async fn several_requests_in_one_call_are_decided_one_after_the_other() {
        let server = Redis::start(&[]);
        for law in laws().into_iter().filter(|law| law.policy().quota == 10) {
            assert_eq!(server.ask(&["FLUSHALL"]), "OK");
            let mut simulation = Simulation::of(&server, &law).await;
            let told = simulation.ask(1_000_000, &[(4, 0), (4, 0), (4, 0), (-4, 1_000_000), (2, 0)]).await;
            let allowed: Vec<bool> = told.decisions.iter().map(|decision| decision.allowed).collect();
            assert_eq!(allowed, [true, true, false, true, true], "{law:?}");
            assert_eq!(told.decisions[0].remaining, 4, "{law:?}");
        }
    }

    #[tokio::test]
    async fn after_a_reload_what_was_used_stays_used_in_redis_too() {
        let server = Redis::start(&[]);
        let burst = |count| NonZeroU32::new(count).expect("not zero");
        let before = Law::TokenBucket { rate: rate(10, 1), burst: burst(100) };
        let after = Law::TokenBucket { rate: rate(1, 1), burst: burst(200) };
        let mut simulation = Simulation::of(&server, &before).await;
        assert!(simulation.ask(1_000_000, &[(80, 0)]).await.decisions[0].allowed);
        let mut simulation = Simulation::of(&server, &after).await;
        assert_eq!(simulation.ask(1_000_000, &[(0, 0)]).await.decisions[0].remaining, 120);
        let (before, after) =
            (Law::SlidingWindow { rate: rate(10, 1) }, Law::SlidingWindow { rate: rate(15, 10) });
        let mut simulation = Simulation::of(&server, &before).await;
        assert!(simulation.ask(1_800_000, &[(10, 0)]).await.decisions[0].allowed);
        let mut simulation = Simulation::of(&server, &after).await;
        assert_eq!(simulation.ask(2_000_000, &[(0, 0)]).await.decisions[0].remaining, 5);
        assert!(!simulation.ask(11_700_000, &[(6, 0)]).await.decisions[0].allowed);
    }

    #[tokio::test]
    async fn what_a_machine_with_a_wrong_clock_counted_shuts_nobody_out_for_years() {
        let server = Redis::start(&[]);
        for law in [&laws()[5], &laws()[6]] {
            assert_eq!(server.ask(&["FLUSHALL"]), "OK");
            let mut simulation = Simulation::of(&server, law).await;
            let (today_us, day_us) = (1_709_121_600_000_000, 86_400_000_000);
            assert!(simulation.ask(today_us + 1_000 * day_us, &[(10, 0)]).await.decisions[0].allowed);
            assert!(!simulation.ask(today_us, &[(1, 0)]).await.decisions[0].allowed, "{law:?}");
            assert!(simulation.ask(today_us + 2 * day_us, &[(10, 0)]).await.decisions[0].allowed, "{law:?}");
        }
    }

    /// 2024-02-20.
    const DAY_S: u64 = 1_708_387_200;

    fn used_that_day(count: u64) -> QuotaUse {
        let wall = Duration::from_secs(DAY_S);
        let day = terrace_policy::limit::days_since_1970(wall);
        let month = terrace_policy::limit::months_since_1970(wall);
        QuotaUse { day, month, in_day: count, in_month: count }
    }

    #[tokio::test]
    async fn a_quota_that_redis_lost_is_told_to_it_again() {
        let server = Redis::start(&[]);
        let mut simulation = Simulation::of(&server, &laws()[5]).await;
        let told =
            simulation.ask_knowing(&Heard::Quota(used_that_day(6), 3), DAY_S * 1_000_000, &[(1, 0)]).await;
        assert_eq!((told.decisions[0].allowed, told.decisions[0].remaining), (true, 0));
        assert_eq!(told.used, Some(used_that_day(10)));
    }

    #[tokio::test]
    async fn what_was_given_back_is_not_taken_again_by_a_machine_that_has_not_heard_of_it() {
        let server = Redis::start(&[]);
        let mut simulation = Simulation::of(&server, &laws()[5]).await;
        let now_us = DAY_S * 1_000_000;
        assert_eq!(simulation.ask(now_us, &[(10, 0)]).await.used, Some(used_that_day(10)));
        assert_eq!(simulation.ask(now_us, &[(-4, now_us)]).await.used, Some(used_that_day(6)));
        let told = simulation.ask_knowing(&Heard::Quota(used_that_day(10), 0), now_us, &[(4, 0)]).await;
        assert!(told.decisions[0].allowed, "{told:?}");
    }
}
