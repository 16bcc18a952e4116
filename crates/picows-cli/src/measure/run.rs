//! A run of a load: its plan, its window, and what the coordinator and the threads exchange.

use super::live::Live;
use super::payload::Filler;
use super::schedule::Schedule;
use super::shape::{Mode, Shape};
use crate::driver::DriverFlag;
use crate::tls;
use picows_uring::{AutoPing, ConnectError, Deflate, Proxy, Stopper};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Plan of a load: target, messages, connections and times.
#[derive(Clone, Debug)]
pub(crate) struct LoadPlan {
    pub(crate) url: String,
    pub(crate) shape: Shape,
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    pub(crate) size_bytes: usize,
    pub(crate) is_text: bool,
    pub(crate) filler: Filler,
    /// Messages are compressed, if the server agrees.
    pub(crate) deflate: Option<Deflate>,
    /// Most messages in flight on a connection.
    pub(crate) pipeline: usize,
    /// Messages per second in total; `None` sends the next one after an echo.
    pub(crate) rate_per_s: Option<f64>,
    pub(crate) warmup: Duration,
    /// Length of the window: of all rounds together.
    pub(crate) duration: Duration,
    /// Equal parts of the window that have figures of their own.
    pub(crate) rounds: u32,
    /// How long to wait for echoes that are missing at the end.
    pub(crate) drain: Duration,
    pub(crate) driver: DriverFlag,
    pub(crate) busy_poll: Duration,
    /// Threads leave their loops once they have connected. Not with a rate.
    pub(crate) is_dedicated: bool,
    pub(crate) auto_ping: Option<AutoPing>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) tls: Option<tls::ClientSettings>,
    pub(crate) server_pid: Option<u32>,
}

/// Times of sending and of measuring, in nanoseconds of the run's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) start_ns: u64,
    pub(super) measure_ns: u64,
    pub(super) stop_ns: u64,
    pub(super) bin_ns: u64,
    pub(super) round_ns: u64,
}

/// State that the coordinator and all threads share.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) plan: LoadPlan,
    pub(super) origin: Instant,
    /// Time at which a signal ended the load; `u64::MAX` before.
    pub(super) interrupted_ns: AtomicU64,
    /// Right echoes of each thread so far, for the progress bar.
    pub(super) echoes: Vec<AtomicU64>,
    /// Counters for the live view, while it is shown.
    pub(super) live: Option<Live>,
}

/// Command of the coordinator to all threads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Command {
    /// Connect, and wait.
    Wait,
    Start(Window),
    /// Send nothing more: a signal came after the start.
    Stop(Window),
    /// Do not begin.
    GiveUp,
}

/// Event that a thread, or the signal handler, reports to the coordinator.
#[derive(Debug)]
pub(super) enum Event {
    Connected {
        connections: usize,
        failures: Vec<ConnectError>,
        /// Stops a dedicated thread, which has no clock.
        stopper: Option<Stopper>,
    },
    /// The window of a thread is over.
    Finished,
    /// A thread has ended.
    Gone,
    /// A signal came.
    Interrupted,
}

impl LoadPlan {
    /// Whether messages are due at times of a schedule.
    pub(crate) fn is_open_loop(&self) -> bool {
        self.rate_per_s.is_some() || !self.shape.stages.is_empty()
    }

    pub(crate) fn is(&self, mode: Mode) -> bool {
        self.shape.mode == mode
    }

    /// The schedule of an open loop that begins at `start_ns`, whose messages take turns on `lanes`.
    pub(super) fn schedule(&self, start_ns: u64, lanes: usize) -> Option<Schedule> {
        let stages = &self.shape.stages;
        match self.rate_per_s {
            Some(rate) => Some(Schedule::new(start_ns, rate, lanes)),
            None if stages.is_empty() => None,
            None => Some(Schedule::staged(start_ns, stages, lanes)),
        }
    }

    pub(super) fn bin(&self) -> Duration {
        (self.duration / BINS).max(BIN_MIN)
    }

    pub(super) fn bins(&self) -> usize {
        self.duration.as_nanos().div_ceil(self.bin().as_nanos()) as usize
    }
}

impl Window {
    pub(super) fn new(plan: &LoadPlan, start_ns: u64) -> Self {
        let measure_ns = start_ns + nanos(plan.warmup);
        let stop_ns = measure_ns + nanos(plan.duration);
        let round_ns = (nanos(plan.duration) / u64::from(plan.rounds.max(1))).max(1);
        Self { start_ns, measure_ns, stop_ns, bin_ns: nanos(plan.bin()), round_ns }
    }

    /// The round in which `time_ns` of the window is, from 0.
    pub(super) fn round_at(&self, time_ns: u64) -> usize {
        (time_ns.saturating_sub(self.measure_ns) / self.round_ns) as usize
    }

    pub(super) fn contains(&self, time_ns: u64) -> bool {
        (self.measure_ns..self.stop_ns).contains(&time_ns)
    }
}

impl Run {
    pub(super) fn now_ns(&self) -> u64 {
        nanos(self.origin.elapsed())
    }

    pub(super) fn instant(&self, time_ns: u64) -> Instant {
        self.origin + Duration::from_nanos(time_ns)
    }

    pub(super) fn interrupted_ns(&self) -> u64 {
        self.interrupted_ns.load(Ordering::Relaxed)
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted_ns() != u64::MAX
    }

    /// Whether a signal has shortened the wait for missing echoes.
    pub(super) fn is_drain_cut(&self) -> bool {
        self.drain() < self.plan.drain
    }

    /// Limit of the wait for missing echoes at the end.
    pub(super) fn drain(&self) -> Duration {
        if self.is_interrupted() { self.plan.drain.min(STOP_DRAIN) } else { self.plan.drain }
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Limit of the wait for echoes after a signal.
const STOP_DRAIN: Duration = Duration::from_millis(500);
/// Points of the throughput over time, unless `BIN_MIN` leaves fewer.
const BINS: u32 = 100;
/// Shorter bins show the scheduler instead of the server.
const BIN_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plan() -> LoadPlan {
        LoadPlan {
            url: "ws://127.0.0.1:9001/".into(),
            shape: Shape::default(),
            connections: 2,
            threads: 1,
            size_bytes: 64,
            is_text: false,
            filler: Filler::Random,
            deflate: None,
            pipeline: 4,
            rate_per_s: None,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            rounds: 1,
            drain: Duration::from_secs(5),
            driver: DriverFlag::default(),
            busy_poll: Duration::ZERO,
            is_dedicated: false,
            auto_ping: None,
            proxy: None,
            tls: None,
            server_pid: None,
        }
    }

    #[test]
    fn bins_cover_the_window_exactly_once() {
        for millis in [1, 9, 10, 11, 999, 1000, 1001, 12_345, 60_000] {
            let plan = LoadPlan { duration: Duration::from_millis(millis), ..plan() };
            let covered = plan.bin() * plan.bins() as u32;
            assert!(covered >= plan.duration && covered - plan.duration < plan.bin(), "{millis}");
        }
    }
}
