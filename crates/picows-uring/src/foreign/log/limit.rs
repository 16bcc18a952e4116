//! Rate limit for the lines of the log that a peer can cause.
//!
//! Each worker logs a line of one kind at most once in [`INTERVAL`]; the others are only counted,
//! without a look at their fields, and the next line of that kind says how many they were. Where
//! none follows, the worker reports the count by itself. Writes nothing but through `tracing`.

use crate::foreign::log;
use picows_uring_proto::Tick;
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

macro_rules! log_lines {
    ($($(#[$doc:meta])+ $name:ident = $text:literal,)+) => {
        /// A kind of line, of level WARN or above, that a peer can cause.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum LogLine {
            $($(#[$doc])+ $name,)+
        }

        impl LogLine {
            const ALL: &[Self] = &[$(Self::$name,)+];

            /// The text of the line.
            pub(crate) const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

log_lines! {
    /// The peer broke RFC 6455 or passed a limit.
    ProtocolError = "protocol error: closing",
    /// A callback returned an error, or panicked.
    ListenerFailed = "listener failed",
    /// The task that handles a stream returned an error.
    HandlerFailed = "handler failed",
    /// A task panicked that no other task awaits.
    TaskPanicked = "a task panicked, and no other task awaits it",
    /// The factory returned an error, panicked, or gave an answer that cannot be sent.
    FactoryFailed = "factory failed",
    /// The future of a factory has not come to an answer in the time for the handshake.
    DecisionLate = "no decision about a request in time: answering with 503",
    /// The peer reads less than is sent to it.
    QueueFull = "send queue full: closing",
    /// All connections together hold too much memory.
    MemoryLimit = "memory limit reached: ending the connection that holds the most",
    /// A frame of another thread does not fit into what is being sent, such as a message in fragments.
    PostRefused = "a frame that another thread posted was refused: it is lost",
    /// A proxy sends no header of the PROXY protocol, or a bad one.
    ProxyHeader = "bad header of the PROXY protocol: dropping",
    /// The handshake of TLS failed.
    TlsFailed = "TLS handshake failed",
    /// A client of ours accepts every certificate, as it was set up to.
    AnyCertificate = "any certificate is accepted: the server may be another one",
    /// The peer sends a message too slowly.
    MessageTooSlow = "a message brings too little: closing",
    /// The peer takes nothing of what is queued for it.
    WriteStalled = "the peer takes nothing: dropping",
    /// An allocation failed.
    OutOfMemory = "no memory for bytes of a connection: closing",
    /// A limit of connections is met.
    Refused = "too many connections: refusing some",
    /// Accepting fails.
    AcceptPaused = "cannot accept connections: pausing",
    /// The callbacks of one connection took most of a turn that was too long.
    CallbackBlocks = "a callback blocks the loop: no other connection of this worker was served meanwhile",
    /// Many callbacks together took too long.
    LongTurn =
        "a long turn, of many callbacks that are short each: this worker is overloaded",
    /// A connection that is made again whenever it ends has ended.
    ConnectionFailed = "connection failed",
}

/// Logs a line of `$kind` at `$level`, with the fields that follow, unless one of its kind was
/// logged a moment ago. Fields of a line that is left out are not evaluated.
macro_rules! log_limited {
    ($level:ident, $local:expr, $kind:expr, $($fields:tt)+) => {
        if let Some(more) = $local.log_limits.admit($kind, $local.now()) {
            let text = $kind.text();
            $crate::foreign::log::$level!($($fields)+, left_out = more.count(), "{text}{more}");
        }
    };
}
pub(crate) use log_limited;

/// The limits of one worker.
#[derive(Debug)]
pub(crate) struct LogLimits {
    kinds: [LogLimit; LogLine::ALL.len()],
    /// Lines were left out since the worker last asked.
    is_report_due: Cell<bool>,
    /// The worker will report what is left out.
    is_report_set: Cell<bool>,
}

/// The limit of one kind of line.
#[derive(Debug, Default)]
struct LogLimit {
    /// When the next line may be logged.
    next: Cell<Tick>,
    /// Lines left out since the last that was logged.
    left_out: Cell<u64>,
}

/// The number of lines of a kind that were left out before one that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    count: u64,
    /// Over how long.
    time: Duration,
}

impl LogLimits {
    /// Limits of which none is met.
    pub(crate) fn new() -> Self {
        Self {
            kinds: Default::default(),
            is_report_due: Cell::new(false),
            is_report_set: Cell::new(false),
        }
    }

    /// Says that a line of `kind` is to be logged at `now`, and how many were left out before it;
    /// or counts it as left out.
    pub(crate) fn admit(&self, kind: LogLine, now: Tick) -> Option<LeftOut> {
        let limit = &self.kinds[kind as usize];
        if now < limit.next.get() {
            limit.left_out.set(limit.left_out.get().saturating_add(1));
            self.is_report_due.set(true);
            return None;
        }
        Some(limit.take(now))
    }

    /// Whether the worker has to set a timer: lines were left out since this was last asked, and no
    /// [`report`](Self::report) is due yet. It is, [`REPORT_AFTER`] from now.
    #[inline]
    pub(crate) fn begin_report(&self) -> bool {
        self.is_report_due.take() && !self.is_report_set.replace(true)
    }

    /// Logs how many lines of each kind were left out, if that was a while ago and none of the kind
    /// has followed to say so. Returns whether some are left, for another report [`REPORT_AFTER`]
    /// from now.
    pub(crate) fn report(&self, now: Tick) -> bool {
        let mut is_more = false;
        for kind in LogLine::ALL {
            let limit = &self.kinds[*kind as usize];
            if limit.left_out.get() == 0 {
                continue;
            }
            if now < limit.next.get() + INTERVAL {
                is_more = true;
                continue;
            }
            limit.report(*kind, now);
        }
        self.is_report_set.set(is_more);
        is_more
    }

    /// Logs how many lines of each kind were left out: the worker ends.
    pub(crate) fn report_all(&self, now: Tick) {
        for kind in LogLine::ALL {
            let limit = &self.kinds[*kind as usize];
            if limit.left_out.get() > 0 {
                limit.report(*kind, now);
            }
        }
    }
}

impl LogLimit {
    /// A line is logged at `now`: takes what was left out before it.
    fn take(&self, now: Tick) -> LeftOut {
        let next = self.next.replace(now + INTERVAL);
        // It was moved by `INTERVAL` when the last line was logged.
        let time = now.duration_since(next) + INTERVAL;
        LeftOut { count: self.left_out.take(), time }
    }

    fn report(&self, kind: LogLine, now: Tick) {
        let more = self.take(now);
        let text = kind.text();
        log::warn!(left_out = more.count(), "{text}{more}");
    }
}

impl LeftOut {
    /// The count, unless it is zero, for a field of the line.
    pub(crate) fn count(self) -> Option<u64> {
        (self.count > 0).then_some(self.count)
    }
}

/// The end of the text of a line: empty if none was left out.
impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return Ok(());
        }
        write!(f, " ({} more in the last {:.1} s)", self.count, self.time.as_secs_f64())
    }
}

/// Between two lines of a kind, of one worker: a server of 64 workers writes at most 64 of each kind
/// in a second, about 10 KB, whatever its peers do.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
/// How long after lines were left out the worker reports them, if no line has: after the next could
/// have been logged.
pub(crate) const REPORT_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: LogLine = LogLine::ProtocolError;

    fn at(millis: u64) -> Tick {
        Tick::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn one_line_of_a_kind_is_logged_in_a_second_and_the_next_has_the_count() {
        let limits = LogLimits::new();
        assert_eq!(limits.admit(KIND, at(0)).and_then(LeftOut::count), None);
        for millis in 0..1000 {
            assert_eq!(limits.admit(KIND, at(millis)), None, "at {millis} ms");
        }
        let more = limits.admit(KIND, at(1000)).unwrap();
        assert_eq!(more.count(), Some(1000));
        assert_eq!(more.to_string(), " (1000 more in the last 1.0 s)");
        assert_eq!(limits.admit(KIND, at(1999)), None);
        let more = limits.admit(KIND, at(9000)).unwrap();
        assert_eq!(more.to_string(), " (1 more in the last 8.0 s)");
        assert_eq!(limits.admit(KIND, at(99_000)).unwrap().to_string(), "");
    }

    #[test]
    fn kinds_are_limited_by_themselves() {
        let limits = LogLimits::new();
        for kind in LogLine::ALL {
            assert!(limits.admit(*kind, at(0)).is_some(), "{kind:?}");
            assert!(limits.admit(*kind, at(0)).is_none(), "{kind:?}");
        }
    }

    #[test]
    fn what_no_line_followed_is_reported_once() {
        let limits = LogLimits::new();
        assert!(limits.admit(KIND, at(0)).is_some());
        assert!(!limits.begin_report(), "nothing was left out");
        assert!(limits.admit(KIND, at(500)).is_none());
        assert!(limits.begin_report() && !limits.begin_report());
        assert!(limits.admit(KIND, at(600)).is_none());
        assert!(!limits.begin_report(), "one report is due already");
        assert!(limits.report(at(1999)), "the next line may yet come");
        assert!(!limits.report(at(2000)), "reported");
        assert!(limits.admit(KIND, at(2999)).is_none(), "a report counts as a line");
        assert_eq!(limits.admit(KIND, at(3000)).unwrap().count(), Some(1));
    }
}
