//! The timer wheel with few and with many timers armed: what each call costs.
//!
//! Deadlines lie as those of idle connections do: 30 to 60 seconds ahead, in no order.

use std::time::Duration;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use picows_uring_proto::{Tick, TimerId, Wheel};

const ARMED: [usize; 2] = [1_000, 100_000];

fn main() {
    divan::main();
}

/// Delays in no order, the same in every run.
struct Delays(u64);

impl Delays {
    fn next(&mut self) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Duration::from_millis(30_000 + (self.0 >> 33) % 30_000)
    }
}

fn armed(timers: usize) -> (Wheel, Vec<TimerId>) {
    let mut delays = Delays(1);
    let mut wheel = Wheel::new(Tick::ZERO);
    let ids =
        (0..timers as u64).map(|token| wheel.insert(Tick::ZERO + delays.next(), token)).collect();
    (wheel, ids)
}

/// Per timer: a wheel filled from nothing, its memory included.
#[divan::bench(args = ARMED)]
fn fill(bencher: Bencher<'_, '_>, timers: usize) {
    bencher.counter(ItemsCount::new(timers)).bench_local(|| armed(timers));
}

/// Per timer: all cancelled, in no order, and the next deadline asked for after each.
#[divan::bench(args = ARMED)]
fn cancel_all(bencher: Bencher<'_, '_>, timers: usize) {
    let setup = || {
        let (wheel, mut ids) = armed(timers);
        let mut numbers = Delays(3);
        for index in (1..ids.len()).rev() {
            let other = numbers.next().as_nanos() as usize / 1_000_000 * 7_919 % (index + 1);
            ids.swap(index, other);
        }
        (wheel, ids)
    };
    bencher.counter(ItemsCount::new(timers)).with_inputs(setup).bench_local_refs(|(wheel, ids)| {
        for id in ids {
            assert!(wheel.cancel(*id));
            black_box(wheel.next_deadline());
        }
    });
}

/// A timer armed and cancelled among many: a connection that comes and goes.
#[divan::bench(args = ARMED)]
fn insert_and_cancel(bencher: Bencher<'_, '_>, timers: usize) {
    let (mut wheel, _) = armed(timers);
    let mut delays = Delays(2);
    bencher.bench_local(|| {
        let id = wheel.insert(Tick::ZERO + delays.next(), 7);
        wheel.cancel(black_box(id))
    });
}

/// The oldest timer cancelled and armed anew, in turn: memory is as scattered as it gets.
#[divan::bench(args = ARMED)]
fn rearm_in_turn(bencher: Bencher<'_, '_>, timers: usize) {
    let (mut wheel, mut ids) = armed(timers);
    let mut delays = Delays(2);
    let mut turn = 0;
    bencher.bench_local(|| {
        turn = (turn + 1) % timers;
        wheel.cancel(ids[turn]);
        ids[turn] = wheel.insert(Tick::ZERO + delays.next(), turn as u64);
    });
}

/// Per timer fired and armed anew: time goes from deadline to deadline, and all timers stay.
#[divan::bench(args = ARMED)]
fn expire_and_rearm(bencher: Bencher<'_, '_>, timers: usize) {
    let (mut wheel, _) = armed(timers);
    let mut delays = Delays(2);
    let mut now = Tick::ZERO;
    bencher.bench_local(|| {
        let token = loop {
            if let Some(token) = wheel.expire(now) {
                break token;
            }
            now = wheel.next_deadline().expect("every timer that fires is armed anew");
        };
        wheel.insert(now + delays.next(), token);
    });
}

/// A turn in which nothing is due: what every turn of a worker pays.
#[divan::bench(args = ARMED)]
fn idle_turn(bencher: Bencher<'_, '_>, timers: usize) {
    let (mut wheel, _) = armed(timers);
    let now = Tick::from_nanos(1_000_000_000);
    bencher.bench_local(|| {
        let fired = wheel.expire(black_box(now));
        (fired, black_box(&mut wheel).next_deadline())
    });
}

/// The next deadline when it has to be searched for: the earliest timer has just been cancelled.
#[divan::bench(args = ARMED)]
fn next_deadline_after_cancel(bencher: Bencher<'_, '_>, timers: usize) {
    let (mut wheel, _) = armed(timers);
    bencher.bench_local(|| {
        let id = wheel.insert(Tick::from_nanos(5_000_000), 7);
        black_box(wheel.next_deadline());
        wheel.cancel(id);
        wheel.next_deadline()
    });
}
