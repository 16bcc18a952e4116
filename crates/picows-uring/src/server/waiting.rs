//! Settings of how workers wait: in a loop, in their rings, spinning.
//!
//! Checks what can be said before there is a ring; the ring says the rest.

use super::builder::ServerBuilder;
use crate::config::WrongSetting;
use crate::host::{BusyPoll, EventLoop};
use crate::ring::{SleepOptions, WaitMode};
use std::time::Duration;

/// How the workers of a server wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) mode: WaitMode,
    pub(super) event_loop: EventLoop,
    pub(super) busy_poll: BusyPoll,
    pub(super) sleep: SleepOptions,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            mode: WaitMode::Hosted,
            event_loop: EventLoop::Auto,
            busy_poll: BusyPoll::default(),
            sleep: SleepOptions::default(),
        }
    }
}

impl ServerBuilder {
    /// How long a worker spins on its ring after the last activity before it sleeps; tasks and
    /// timers are served meanwhile. It cuts a round trip to a fraction and costs whole cores.
    /// [`Duration::MAX`] spins always. Default: zero, never.
    pub fn busy_poll(mut self, duration: Duration) -> Self {
        self.waiting.busy_poll = BusyPoll(duration);
        self
    }

    /// Whether workers sleep in their rings, with nothing else on their threads: a few per cent
    /// faster than in a loop, and [`spawn`](crate::spawn) and [`Connect`](crate::Connect) are errors in
    /// their callbacks. Default: off.
    pub fn dedicated(mut self, dedicated: bool) -> Self {
        self.waiting.mode = if dedicated { WaitMode::Dedicated } else { WaitMode::Hosted };
        self
    }

    /// The loop in which workers run beside tasks. Not with [`dedicated`](Self::dedicated) ones, which have
    /// none. Default: [`EventLoop::Auto`].
    pub fn event_loop(mut self, event_loop: EventLoop) -> Self {
        self.waiting.event_loop = event_loop;
        self
    }

    /// How long a dedicated worker that sleeps gathers what arrives: it wakes up after that time, or for 20
    /// completions, and not for the first. Under load that makes fewer sleeps and larger batches, and a
    /// message that comes within that time of the last waits for its end. 10 to 50 µs are usual, 10 ms the
    /// most. On io_uring of Linux 6.12 or later; elsewhere the start is an error. Default: zero, not at all.
    pub fn min_wait(mut self, duration: Duration) -> Self {
        self.waiting.sleep.min_wait = duration;
        self
    }

    /// How long a dedicated worker has the kernel poll the receive queues of the network devices that its
    /// connections come from, before it sleeps (NAPI busy polling): without an interrupt, a message costs
    /// some microseconds less, and the core is busy for that time. Loopback has no such queues. Devices that
    /// should leave interrupts off meanwhile need `napi_defer_hard_irqs` and `gro_flush_timeout` of sysfs.
    /// 10 ms at the most. On io_uring of Linux 6.9 or later; elsewhere the start is an error. Default: zero,
    /// not at all.
    pub fn napi_busy_poll(mut self, duration: Duration) -> Self {
        self.waiting.sleep.napi_busy_poll = duration;
        self
    }
}

impl Waiting {
    /// The first of the settings that is not as usual, by the name of its method.
    pub(super) fn first(&self) -> Option<&'static str> {
        let settings = [
            ("dedicated", self.mode == WaitMode::Dedicated),
            ("event_loop", self.event_loop != EventLoop::Auto),
            ("busy_poll", self.busy_poll != BusyPoll::default()),
        ];
        let found = settings.iter().find(|(_, is_given)| *is_given).map(|(setting, _)| *setting);
        found.or_else(|| self.sleep.first())
    }

    /// Checks that the settings go together.
    pub(super) fn check(&self) -> Result<(), WrongSetting> {
        let is_dedicated = self.mode == WaitMode::Dedicated;
        if is_dedicated && self.event_loop != EventLoop::Auto {
            let fault = format!(
                "{} with dedicated workers, which have no loop: leave one of the two out",
                self.event_loop
            );
            return Err(WrongSetting::new("event_loop", fault));
        }
        if let Some(setting) = self.sleep.first().filter(|_| !is_dedicated) {
            let fault = "only dedicated workers sleep in their rings: use it with dedicated";
            return Err(WrongSetting::new(setting, fault));
        }
        let SleepOptions { min_wait, napi_busy_poll } = self.sleep;
        for (setting, duration) in [("min_wait", min_wait), ("napi_busy_poll", napi_busy_poll)] {
            if duration > SLEEP_OPTION_MAX {
                let fault = format!("{duration:?} is more than {SLEEP_OPTION_MAX:?}: use less");
                return Err(WrongSetting::new(setting, fault));
            }
        }
        Ok(())
    }
}

/// A message may wait for so long, and a core be polled: more is a mistake of units.
const SLEEP_OPTION_MAX: Duration = Duration::from_millis(10);
