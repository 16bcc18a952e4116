//! Liveness of the peer: pings, their deadlines, and when to give up.
//!
//! Pure decisions: events and times in, verdicts out. What a ping looks like, and which frame
//! answers it, is decided by the runtime and its listener.

use crate::tick::Tick;
use std::time::Duration;

/// The times at which pings are sent by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AutoPingStrategy {
    /// When nothing has arrived for the idle timeout. The default.
    #[default]
    WhenIdle,
    /// Every idle timeout, whatever arrives.
    Periodic,
}

/// Pings that are sent by themselves, to find peers that have disappeared.
///
/// ```
/// use std::time::Duration;
/// use picows_uring_proto::{AutoPing, AutoPingStrategy};
///
/// let ping = AutoPing::new(Duration::from_secs(10), Duration::from_secs(5));
/// assert_eq!(ping.strategy, AutoPingStrategy::WhenIdle);
/// assert!(ping.check().is_ok());
/// let hasty = AutoPing::new(Duration::from_secs(5), Duration::from_secs(10));
/// assert!(hasty.check().unwrap_err().contains("10s"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AutoPing {
    /// How long nothing may arrive before a ping is sent, or the time between two pings.
    pub idle_timeout: Duration,
    /// How long the answer may take, from when the ping has left the queue. At most
    /// `idle_timeout`.
    pub reply_timeout: Duration,
    /// When pings are sent.
    pub strategy: AutoPingStrategy,
}

impl AutoPing {
    /// Pings when nothing has arrived for `idle_timeout`, to be answered within `reply_timeout`.
    #[must_use]
    pub const fn new(idle_timeout: Duration, reply_timeout: Duration) -> Self {
        Self { idle_timeout, reply_timeout, strategy: AutoPingStrategy::WhenIdle }
    }

    /// The same with another strategy.
    #[must_use]
    pub const fn with_strategy(mut self, strategy: AutoPingStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Checks that the timeouts make sense together.
    ///
    /// # Errors
    ///
    /// What is wrong, with the values.
    pub fn check(&self) -> Result<(), String> {
        let Self { idle_timeout, reply_timeout, .. } = self;
        if idle_timeout.is_zero() || reply_timeout.is_zero() {
            return Err(format!(
                "idle timeout {idle_timeout:?} and reply timeout {reply_timeout:?} have to be more \
                 than zero"
            ));
        }
        if reply_timeout > idle_timeout {
            return Err(format!(
                "the reply timeout {reply_timeout:?} is longer than the idle timeout \
                 {idle_timeout:?}: a ping would be sent before the one before it is given up; make \
                 it at most as long"
            ));
        }
        Ok(())
    }
}

/// The rules that keep a connection alive or end it; the same for many connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LivenessRules {
    /// Pings that are sent by themselves. Default: none.
    pub auto_ping: Option<AutoPing>,
    /// How long nothing may arrive before the connection is ended, without asking. Default: for
    /// ever.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may last before the peer is asked to make another one. Default: for
    /// ever.
    pub lifetime: Option<Duration>,
}

impl LivenessRules {
    /// Checks that the settings make sense.
    ///
    /// # Errors
    ///
    /// The field that does not, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if let Some(Err(fault)) = self.auto_ping.map(|ping| ping.check()) {
            return Err(("auto_ping", fault));
        }
        for (field, limit) in [("idle_timeout", self.idle_timeout), ("lifetime", self.lifetime)] {
            if limit == Some(Duration::ZERO) {
                return Err((field, "0 ends every connection at once: use None for ever".into()));
            }
        }
        Ok(())
    }

    /// Whether there is anything to watch.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.auto_ping.is_some() || self.idle_timeout.is_some() || self.lifetime.is_some()
    }
}

/// The finding of [`Liveness::handle_timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A ping is due. Send it, and say so with [`Liveness::ping_queued`]. One that cannot be sent
    /// is not waited for, and due again after another idle timeout.
    Ping,
    /// A ping was not answered in time: the peer is gone.
    Silent,
    /// Nothing has arrived for the idle timeout.
    Idle,
    /// The connection has lasted as long as it may.
    Expired,
}

/// Watches one connection.
///
/// ```
/// use std::time::Duration;
/// use picows_uring_proto::{AutoPing, Liveness, LivenessRules, Tick, Verdict};
///
/// let second = Duration::from_secs(1);
/// let auto_ping = Some(AutoPing::new(10 * second, 5 * second));
/// let rules = LivenessRules { auto_ping, ..LivenessRules::default() };
/// let start = Tick::ZERO;
/// let mut peer = Liveness::new(&rules, start, None);
/// assert_eq!(peer.poll_timeout(&rules), Some(start + 10 * second));
///
/// let idle = start + 10 * second;
/// assert_eq!(peer.handle_timeout(&rules, idle, false), Some(Verdict::Ping));
/// peer.ping_queued(idle, 2); // Two bytes wait to be sent, ...
/// peer.sent(idle, 2); // ... and leave at once: the reply is due in five seconds.
/// assert_eq!(peer.handle_timeout(&rules, idle + 5 * second, false), Some(Verdict::Silent));
/// ```
#[derive(Debug)]
pub struct Liveness {
    /// When something last arrived.
    last_received: Tick,
    /// When the next ping is due, by the periodic strategy; none is before, by the other.
    next_ping: Tick,
    /// When the connection has lasted long enough; `NEVER` if it may last.
    ends: Tick,
    ping: Ping,
    /// How much the peer had taken of what we sent, when we last looked.
    taken: u64,
    /// Pings are sent only on request.
    is_held: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    /// None is under way.
    None,
    /// It waits in the queue, with so many bytes up to its end; the queue last moved at `moved`.
    Queued { bytes_ahead: usize, moved: Tick },
    /// It has left.
    Sent { at: Tick },
}

impl Liveness {
    /// Watches a connection that is open since `now`. It may last for `lifetime`, which the caller
    /// has spread at random if many connections begin together.
    #[must_use]
    pub fn new(rules: &LivenessRules, now: Tick, lifetime: Option<Duration>) -> Self {
        let next_ping = rules.auto_ping.map_or(NEVER, |ping| now + ping.idle_timeout);
        let ends = lifetime.map_or(NEVER, |lifetime| now + lifetime);
        Self { last_received: now, next_ping, ends, ping: Ping::None, taken: 0, is_held: false }
    }

    /// Something arrived, if only a part of a frame.
    #[inline]
    pub fn received(&mut self, now: Tick) {
        self.last_received = now;
    }

    /// A ping was queued, with `bytes_ahead` bytes in the queue up to its end.
    pub fn ping_queued(&mut self, now: Tick, bytes_ahead: usize) {
        self.ping = match bytes_ahead {
            0 => Ping::Sent { at: now },
            bytes_ahead => Ping::Queued { bytes_ahead, moved: now },
        };
    }

    /// The kernel took `count` bytes of the queue. The reply clock starts when the ping is among
    /// them.
    #[inline]
    pub fn sent(&mut self, now: Tick, count: usize) {
        if let Ping::Queued { bytes_ahead, .. } = self.ping {
            self.ping_queued(now, bytes_ahead.saturating_sub(count));
        }
    }

    /// The peer's side of the transport has taken `taken` bytes of ours, in all, and more of them
    /// wait for it (`has_more`). Wanted once a ping is queued, and before one is called unanswered:
    /// the queue goes on in the kernel, where a ping may wait for a peer that takes its time.
    pub fn taken(&mut self, now: Tick, taken: u64, has_more: bool) {
        let has_moved = taken > std::mem::replace(&mut self.taken, taken);
        match &mut self.ping {
            Ping::Queued { moved: since, .. } if has_moved => *since = now,
            Ping::Sent { at: since } if has_moved && has_more => *since = now,
            _ => {}
        }
    }

    /// Whether an answer to a ping is awaited.
    #[inline]
    #[must_use]
    pub fn is_pong_expected(&self) -> bool {
        self.ping != Ping::None
    }

    /// The answer is here. Returns how long it took, from when the ping had left or the peer last took
    /// a part of what was sent. Harmless when none was awaited.
    pub fn pong_received(&mut self, now: Tick) -> Option<Duration> {
        let ping = std::mem::replace(&mut self.ping, Ping::None);
        self.next_ping = self.next_ping.max(now);
        match ping {
            Ping::Sent { at } => Some(now.duration_since(at)),
            Ping::Queued { .. } | Ping::None => None,
        }
    }

    /// Whether no pings are due for a while: a measurement sends them, one after the other, reports
    /// each with [`ping_queued`](Self::ping_queued), and each has to be answered in time.
    pub fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next wanted.
    ///
    /// Moves with everything that arrives: a timer that was set before may fire early, and is set
    /// again then.
    #[must_use]
    pub fn poll_timeout(&self, rules: &LivenessRules) -> Option<Tick> {
        let mut earliest = self.ends.min(self.ping_deadline(rules));
        if let Some(idle) = rules.idle_timeout {
            earliest = earliest.min(self.last_received + idle);
        }
        (earliest != NEVER).then_some(earliest)
    }

    /// Decides what is due at `now`. Harmless when called early or twice.
    ///
    /// `has_backlog` says that bytes of the peer may be here that were not looked at: it is not
    /// called silent or idle then.
    pub fn handle_timeout(
        &mut self,
        rules: &LivenessRules,
        now: Tick,
        has_backlog: bool,
    ) -> Option<Verdict> {
        if self.ends <= now {
            self.ends = NEVER;
            return Some(Verdict::Expired);
        }
        if has_backlog {
            self.last_received = now;
        }
        if rules.idle_timeout.is_some_and(|idle| self.last_received + idle <= now) {
            return Some(Verdict::Idle);
        }
        let ping = rules.auto_ping?;
        if self.ping_deadline(rules) > now {
            return None;
        }
        if self.is_pong_expected() {
            return Some(Verdict::Silent);
        }
        self.next_ping = now + ping.idle_timeout;
        Some(Verdict::Ping)
    }

    /// When a ping, or its answer, is due.
    fn ping_deadline(&self, rules: &LivenessRules) -> Tick {
        let Some(rules) = rules.auto_ping else { return NEVER };
        match self.ping {
            Ping::None if self.is_held => NEVER,
            Ping::None => match rules.strategy {
                // Not at once again after one that could not be sent.
                AutoPingStrategy::WhenIdle => {
                    (self.last_received + rules.idle_timeout).max(self.next_ping)
                }
                AutoPingStrategy::Periodic => self.next_ping,
            },
            // A peer that takes bytes, or sends some, is there, though its answer may be behind
            // much else.
            Ping::Queued { moved: since, .. } | Ping::Sent { at: since } => {
                since.max(self.last_received) + rules.reply_timeout
            }
        }
    }
}

/// No deadline.
const NEVER: Tick = Tick::from_nanos(u64::MAX);

#[cfg(test)]
mod tests;
