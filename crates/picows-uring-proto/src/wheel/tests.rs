//! The wheel against a sorted map, and its promises one by one.

use std::collections::{BTreeMap, HashSet};

use super::*;

/// The obvious wheel: a map sorted by granule and then by insertion.
#[derive(Default)]
struct Sorted {
    armed: BTreeMap<(u64, u64), u64>,
    inserted: u64,
    granule_min: u64,
}

/// The granule as the documentation defines it, in 128 bits so that nothing saturates.
fn granule_rounded_up(deadline: Tick) -> u64 {
    let granularity = Wheel::GRANULARITY.as_nanos();
    u64::try_from(u128::from(deadline.as_nanos()).div_ceil(granularity)).unwrap()
}

/// The last granule at or before `now`. The last `Tick` of all stands for the end of time.
fn granule_rounded_down(now: Tick) -> u64 {
    let nanos = u128::from(now.as_nanos()) + u128::from(now.as_nanos() == u64::MAX);
    u64::try_from(nanos / Wheel::GRANULARITY.as_nanos()).unwrap()
}

impl Sorted {
    fn new(now: Tick) -> Self {
        Self { granule_min: granule_rounded_down(now), ..Self::default() }
    }

    fn insert(&mut self, deadline: Tick, token: u64) -> (u64, u64) {
        self.inserted += 1;
        let key = (granule_rounded_up(deadline).max(self.granule_min), self.inserted);
        self.armed.insert(key, token);
        key
    }

    fn cancel(&mut self, key: (u64, u64)) -> bool {
        self.armed.remove(&key).is_some()
    }

    fn expire(&mut self, now: Tick) -> Option<u64> {
        let reached = granule_rounded_down(now);
        self.granule_min = self.granule_min.max(reached + 1).min(GRANULE_LAST);
        let first = self.armed.first_entry()?;
        (first.key().0 <= reached).then(|| first.remove())
    }

    fn next_deadline(&self) -> Option<Tick> {
        let ((granule, _), _) = self.armed.first_key_value()?;
        let nanos = u128::from(*granule) * Wheel::GRANULARITY.as_nanos();
        Some(Tick::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

/// A small generator of numbers (splitmix64): enough chance for a test, and the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number of nanoseconds of any magnitude below 2^`bits_max`, small ones as often as large.
    fn nanos(&mut self, bits_max: u32) -> u64 {
        let bits = self.below(u64::from(bits_max)) as u32 + 1;
        self.next() >> (u64::BITS - bits)
    }
}

/// A wheel, the obvious one beside it, and a hand that only moves forwards.
struct Pair {
    wheel: Wheel,
    sorted: Sorted,
    now: Tick,
    random: Random,
    /// Ids handed out, armed or stale, with what the obvious wheel calls them.
    ids: Vec<(TimerId, (u64, u64))>,
    ids_seen: HashSet<TimerId>,
    seed: u64,
    step: u32,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let now = Tick::from_nanos(random.nanos(56));
        Self {
            wheel: Wheel::new(now),
            sorted: Sorted::new(now),
            now,
            random,
            ids: Vec::new(),
            ids_seen: HashSet::new(),
            seed,
            step: 0,
        }
    }

    fn place(&self) -> String {
        format!("seed={} step={} now={:?}", self.seed, self.step, self.now)
    }

    fn insert(&mut self) {
        let now = self.now.as_nanos();
        let deadline = match self.random.below(8) {
            0 => now,
            1 => now.saturating_sub(self.random.nanos(40)),
            2 => u64::MAX - self.random.nanos(24),
            // The common ones: a few fixed delays, so that many share a granule.
            3..=5 => now.saturating_add(self.random.below(3) * 5_000_000_000 + 3_000_000),
            6 => now.saturating_add(self.random.nanos(34)),
            _ => now.saturating_add(self.random.nanos(64)),
        };
        let token = self.random.next();
        let id = self.wheel.insert(Tick::from_nanos(deadline), token);
        let key = self.sorted.insert(Tick::from_nanos(deadline), token);
        assert!(self.ids_seen.insert(id), "{}", self.place());
        self.ids.push((id, key));
    }

    fn cancel(&mut self) {
        if self.ids.is_empty() {
            return;
        }
        let mut index = self.random.below(self.ids.len() as u64) as usize;
        if self.random.below(8) == 0 {
            // The earliest, whose place as the next to fire has to be filled.
            let first = self.sorted.armed.first_key_value().map(|(key, _)| *key);
            let first = self.ids.iter().position(|(_, key)| Some(*key) == first);
            index = first.unwrap_or(index);
        }
        let (id, key) = self.ids[index];
        assert_eq!(self.wheel.cancel(id), self.sorted.cancel(key), "{}", self.place());
        // Stale ids stay in the list for a while, to be cancelled again.
        if self.random.below(2) == 0 {
            self.ids.swap_remove(index);
        }
    }

    fn advance(&mut self) {
        let nanos = self.now.as_nanos();
        let next = self.wheel.next_deadline().map_or(nanos, Tick::as_nanos);
        let to = match self.random.below(16) {
            0..=3 => next,
            4..=5 => next.saturating_sub(1),
            6 => nanos,
            7 => nanos.saturating_add(self.random.nanos(58)),
            8..=10 => nanos.saturating_add(self.random.nanos(33)),
            _ => nanos.saturating_add(self.random.nanos(24)),
        };
        // A clock that goes backwards must do no harm, so it does now and then.
        self.now = Tick::from_nanos(if self.random.below(16) == 0 { to } else { to.max(nanos) });
    }

    /// Drains what is due, sometimes not to the end, and arms and cancels meanwhile.
    fn expire(&mut self) {
        for _ in 0..self.random.below(200) {
            let fired = self.wheel.expire(self.now);
            assert_eq!(fired, self.sorted.expire(self.now), "{}", self.place());
            match self.random.below(8) {
                _ if fired.is_none() => return,
                0 => self.insert(),
                1 => self.cancel(),
                _ => {}
            }
        }
    }

    fn step(&mut self) {
        self.step += 1;
        match self.random.below(33) {
            32 => self.wheel.trim(),
            0..=15 => self.insert(),
            16..=23 => self.cancel(),
            24..=27 => self.advance(),
            28..=30 => self.expire(),
            // A crowd, so that slots are refined.
            _ => (0..self.random.below(300)).for_each(|_| self.insert()),
        }
        assert_eq!(self.wheel.len(), self.sorted.armed.len(), "{}", self.place());
        assert_eq!(self.wheel.is_empty(), self.sorted.armed.is_empty(), "{}", self.place());
        // Not after every step: a wheel without callers must find the way by itself later.
        if self.random.below(2) == 0 {
            let next = self.wheel.next_deadline();
            assert_eq!(next, self.sorted.next_deadline(), "{}", self.place());
        }
    }
}

fn millis(millis: u64) -> Tick {
    Tick::ZERO + Duration::from_millis(millis)
}

fn drain(wheel: &mut Wheel, now: Tick) -> Vec<u64> {
    std::iter::from_fn(|| wheel.expire(now)).collect()
}

#[test]
fn agrees_with_a_sorted_map_over_long_times() {
    for seed in 0..64 {
        let mut pair = Pair::new(seed);
        for _ in 0..2_000 {
            pair.step();
        }
        pair.wheel.dials.check(&pair.wheel.timers);
        // To the end of time, one deadline after the other.
        while let Some(next) = pair.wheel.next_deadline() {
            assert_eq!(Some(next), pair.sorted.next_deadline(), "{}", pair.place());
            let fired = pair.wheel.expire(next);
            assert!(fired.is_some(), "a wake-up for nothing: {}", pair.place());
            assert_eq!(fired, pair.sorted.expire(next), "{}", pair.place());
        }
        assert!(pair.sorted.armed.is_empty());
        assert_eq!(pair.wheel.dials.check(&pair.wheel.timers), 1, "only the coarsest dial is left");
    }
}

#[test]
fn dials_stay_consistent_after_every_step() {
    for seed in 1_000..1_008 {
        let mut pair = Pair::new(seed);
        for _ in 0..400 {
            pair.step();
            pair.wheel.dials.check(&pair.wheel.timers);
        }
    }
}

#[test]
fn never_fires_early_and_at_most_a_granule_late() {
    let granularity = Wheel::GRANULARITY.as_nanos() as u64;
    for deadline in [1, 2, granularity - 1, granularity, granularity + 1, 5_000_000, 30_000_000_001]
    {
        let mut wheel = Wheel::new(Tick::ZERO);
        wheel.insert(Tick::from_nanos(deadline), 7);
        let wake = wheel.next_deadline().unwrap();
        assert!(wake.as_nanos() >= deadline, "deadline={deadline}");
        assert!(wake.as_nanos() < deadline + granularity, "deadline={deadline}");
        assert_eq!(wheel.expire(Tick::from_nanos(deadline - 1)), None, "deadline={deadline}");
        assert_eq!(wheel.expire(Tick::from_nanos(wake.as_nanos() - 1)), None);
        assert_eq!(wheel.next_deadline(), Some(wake), "asking early changes nothing");
        assert_eq!(wheel.expire(wake), Some(7), "deadline={deadline}");
    }
}

#[test]
fn fires_in_deadline_order_and_equals_in_insertion_order() {
    let mut wheel = Wheel::new(Tick::ZERO);
    for token in 0..300 {
        wheel.insert(millis(2_000 + token % 3 * 1_000), token);
    }
    let expected: Vec<u64> =
        (0..3).flat_map(|rest| (0..300).filter(move |token| token % 3 == rest)).collect();
    assert_eq!(drain(&mut wheel, millis(10_000)), expected);
}

#[test]
fn a_deadline_in_the_past_fires_at_the_first_expire() {
    let mut wheel = Wheel::new(millis(1_000));
    wheel.insert(Tick::ZERO, 1);
    wheel.insert(millis(999), 2);
    assert!(wheel.next_deadline().unwrap() <= millis(1_000));
    assert_eq!(drain(&mut wheel, millis(1_000)), [1, 2]);
}

#[test]
fn rearming_without_delay_does_not_trap_the_drain() {
    let mut wheel = Wheel::new(Tick::ZERO);
    let now = millis(50);
    wheel.insert(now, 1);
    let mut turns = 0;
    let mut fired = 0;
    let mut now = now + Wheel::GRANULARITY;
    while turns < 100 {
        while let Some(token) = wheel.expire(now) {
            fired += 1;
            assert!(fired <= turns + 1, "the drain does not end");
            wheel.insert(Tick::ZERO, token);
        }
        turns += 1;
        let next = wheel.next_deadline().unwrap();
        assert!(next > now && next <= now + Wheel::GRANULARITY);
        now = next;
    }
    assert_eq!(fired, 100, "once in each granule");
}

#[test]
fn stale_ids_are_harmless() {
    let mut wheel = Wheel::new(Tick::ZERO);
    let fired = wheel.insert(millis(1), 1);
    assert_eq!(drain(&mut wheel, millis(5)), [1]);
    assert!(!wheel.cancel(fired));
    let cancelled = wheel.insert(millis(10), 2);
    assert!(wheel.cancel(cancelled));
    assert!(!wheel.cancel(cancelled));
    let armed = wheel.insert(millis(10), 3);
    assert!(!wheel.cancel(fired));
    assert!(!wheel.cancel(cancelled));
    assert_eq!(wheel.len(), 1);
    assert!(wheel.cancel(armed));

    let mut other = Wheel::new(Tick::ZERO);
    assert!(!other.cancel(armed), "an id beyond the end is harmless too");
}

#[test]
fn an_entry_without_generations_left_is_never_used_again() {
    let mut wheel = Wheel::new(Tick::ZERO);
    let first = wheel.insert(millis(1), 1);
    wheel.timers.wear_out(0);
    let last = wheel.timers.id(0);
    assert!(!wheel.cancel(first));
    assert!(wheel.cancel(last));
    for token in 2..10 {
        let id = wheel.insert(millis(1), token);
        assert!(!wheel.cancel(first) && !wheel.cancel(last));
        assert!(wheel.cancel(id));
    }
    assert_eq!(wheel.timers.capacity(), Vec::<timers::Timer>::with_capacity(4).capacity());
}

#[test]
fn memory_goes_back_after_a_crowd_and_its_ids_stay_stale() {
    let mut wheel = Wheel::new(Tick::ZERO);
    let stays = wheel.insert(millis(5), 0);
    let few = (wheel.timers.capacity(), wheel.dials.capacity());
    let crowd: Vec<_> = (1..10_000).map(|token| wheel.insert(millis(token), token)).collect();
    assert!(crowd.iter().all(|id| wheel.cancel(*id)));
    assert!(wheel.timers.capacity() > 9_999 && wheel.dials.capacity() > few.1);
    wheel.trim();
    assert!(wheel.timers.capacity() <= few.0 && wheel.dials.capacity() <= 8);
    let again: Vec<_> = (1..10_000).map(|token| wheel.insert(millis(token), token)).collect();
    assert!(!crowd.iter().any(|id| wheel.cancel(*id)), "a stale id came to life");
    assert!(again.iter().all(|id| wheel.cancel(*id)) && wheel.cancel(stays));
}

#[test]
fn cancelling_the_earliest_moves_the_next_deadline_to_the_second() {
    let mut wheel = Wheel::new(Tick::ZERO);
    let ids: Vec<TimerId> =
        (0..1_000).map(|token| wheel.insert(millis(60_000 + token * 7), token)).collect();
    for (token, id) in ids.into_iter().enumerate() {
        let expected = granule_rounded_up(millis(60_000 + token as u64 * 7));
        assert_eq!(wheel.next_deadline(), Some(instant_of(expected)), "token={token}");
        assert!(wheel.cancel(id));
    }
    assert_eq!(wheel.next_deadline(), None);
}

#[test]
fn the_end_of_time_is_a_deadline_like_any_other() {
    let end = Tick::from_nanos(u64::MAX);
    let mut wheel = Wheel::new(Tick::ZERO);
    wheel.insert(end, 1);
    wheel.insert(Tick::from_nanos(u64::MAX - 5), 2);
    wheel.insert(Tick::from_nanos(u64::MAX - (2 << 20)), 3);
    assert_eq!(drain(&mut wheel, Tick::from_nanos(u64::MAX - 1)), [3]);
    assert_eq!(wheel.next_deadline(), Some(end));
    assert_eq!(drain(&mut wheel, end), [1, 2]);
    wheel.insert(end, 4);
    assert_eq!(wheel.next_deadline(), Some(end));
    assert_eq!(wheel.expire(end), Some(4));
}

#[test]
fn jumps_of_years_fire_everything_once_and_in_order() {
    let year = Duration::from_secs(365 * 86_400);
    let mut wheel = Wheel::new(Tick::ZERO);
    let mut now = Tick::ZERO;
    for round in 0..500 {
        wheel.insert(now + year / 2, 2);
        wheel.insert(now + Duration::from_secs(1), 1);
        wheel.insert(now + year, 3);
        now = now + year + Wheel::GRANULARITY;
        assert_eq!(drain(&mut wheel, now), [1, 2, 3], "round={round}");
    }
    assert_eq!(wheel.dials.check(&wheel.timers), 1);
}

#[test]
fn one_hundred_thousand_timers_cause_no_wake_up_between_deadlines() {
    let mut random = Random(100_000);
    let mut wheel = Wheel::new(Tick::ZERO);
    let mut deadlines: Vec<u64> = (0..100_000).map(|_| random.below(60_000_000_000)).collect();
    for &nanos in &deadlines {
        wheel.insert(Tick::from_nanos(nanos), nanos);
    }
    deadlines.sort_unstable();
    let mut granules: Vec<u64> =
        deadlines.iter().map(|nanos| granule_rounded_up(Tick::from_nanos(*nanos))).collect();
    granules.dedup();

    let mut fired = Vec::new();
    let mut wakes = 0;
    while let Some(wake) = wheel.next_deadline() {
        assert_eq!(wake, instant_of(granules[wakes]));
        wakes += 1;
        let before = fired.len();
        while let Some(nanos) = wheel.expire(wake) {
            assert!(nanos <= wake.as_nanos());
            assert!(wake.as_nanos() - nanos < Wheel::GRANULARITY.as_nanos() as u64);
            fired.push(nanos);
        }
        assert!(fired.len() > before, "a wake-up for nothing");
    }
    assert_eq!(wakes, granules.len());
    fired.sort_unstable();
    assert_eq!(fired, deadlines);
}

#[test]
fn idle_timers_do_not_wake_a_worker_that_has_others_to_serve() {
    let mut wheel = Wheel::new(Tick::ZERO);
    for token in 0..100_000 {
        wheel.insert(millis(30_000 + token / 100), token);
    }
    // A short timer that comes and goes: fired half of the time, cancelled the other half.
    let mut now = Tick::ZERO;
    for round in 0..1_000 {
        let deadline = now + Duration::from_millis(5);
        let id = wheel.insert(deadline, u64::MAX);
        let wake = wheel.next_deadline().unwrap();
        assert!(wake < deadline + Wheel::GRANULARITY);
        if round % 2 == 0 {
            assert_eq!(drain(&mut wheel, wake), [u64::MAX]);
        } else {
            assert!(wheel.cancel(id));
            assert_eq!(wheel.expire(wake), None);
        }
        assert!(wheel.next_deadline().unwrap() >= millis(30_000));
        now = wake;
    }
    assert_eq!(wheel.len(), 100_000);
}

#[test]
fn allocates_nothing_once_warm_and_little_before() {
    let mut random = Random(7);
    let mut wheel = Wheel::new(Tick::ZERO);
    let mut now = Tick::ZERO;
    let mut arm = |wheel: &mut Wheel, now: Tick, token: u64| {
        wheel.insert(now + Duration::from_millis(20_000 + random.below(20_000)), token);
    };
    (0..100_000).for_each(|token| arm(&mut wheel, now, token));
    let mut warm = None;
    // Ten minutes in which every timer that fires is armed again: thirty laps or so.
    while now < millis(600_000) {
        now = wheel.next_deadline().unwrap();
        while let Some(token) = wheel.expire(now) {
            arm(&mut wheel, now, token);
        }
        let capacity = (wheel.timers.capacity(), wheel.dials.capacity());
        if millis(120_000) < now {
            assert_eq!(*warm.get_or_insert(capacity), capacity, "now={now:?}");
        }
    }
    let bytes = wheel.dials.bytes() / wheel.len();
    assert!(bytes <= 24, "{bytes} bytes of dials for each timer");
}

#[test]
fn debug_output_is_short() {
    let mut wheel = Wheel::new(Tick::ZERO);
    (0..100).for_each(|token| _ = wheel.insert(Tick::ZERO, token));
    assert_eq!(format!("{wheel:?}"), "Wheel { len: 100, .. }");
}
