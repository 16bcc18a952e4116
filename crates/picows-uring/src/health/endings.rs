//! Counts of connections that have ended, by cause and by close code.
//!
//! Both have a bounded number of names: what a peer chooses does not make new ones.

use super::counters::Counter;
use picows_uring_proto::CloseCode;

/// Counters for each pair of a cause and a code.
#[derive(Debug, Default)]
pub(crate) struct Endings([[Counter; CODES.len()]; EndCause::ALL.len()]);

macro_rules! causes {
    ($($(#[doc = $doc:literal])+ $cause:ident = $name:literal,)+) => {
        /// The kind of a connection's end; what a `DisconnectCause` is without its details.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum EndCause {
            $($(#[doc = $doc])+ $cause,)+
        }

        impl EndCause {
            const ALL: &[Self] = &[$(Self::$cause,)+];

            /// Its name in metrics, which is promised.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$cause => $name,)+
                }
            }
        }
    };
}

causes! {
    /// Answered over HTTP, refusals included.
    Http = "http",
    /// A close handshake.
    Closed = "closed",
    /// `disconnect` or `abort` of the application.
    Application = "application",
    /// The end of the stream without CLOSE.
    EndOfStream = "end_of_stream",
    /// The same, without the end that TLS has for it.
    CutOff = "cut_off",
    /// A failure of TLS.
    Tls = "tls",
    /// A peer that broke the protocol or passed a limit.
    ProtocolError = "protocol_error",
    /// An error of the socket.
    Io = "io",
    /// A handshake or an end that took too long, or a connection that was idle.
    TimedOut = "timed_out",
    /// A ping without an answer.
    PingTimedOut = "ping_timed_out",
    /// An error or a panic of the listener.
    Listener = "listener",
    /// A send queue that was full.
    QueueFull = "queue_full",
    /// A subscription that lost publications.
    PublicationsLost = "publications_lost",
    /// A frame of ours that was not written to its end.
    FrameUnfinished = "frame_unfinished",
    /// The memory limit.
    MemoryLimit = "memory_limit",
    /// No memory at all.
    OutOfMemory = "out_of_memory",
    /// A message that came too slowly.
    MessageTooSlow = "message_too_slow",
    /// A peer that took nothing.
    WriteStalled = "write_stalled",
    /// A graceful shutdown.
    Stopped = "stopped",
    /// A worker that failed.
    WorkerFailed = "worker_failed",
}

impl Endings {
    /// Counts an end. Only the owner may.
    pub(crate) fn record(&self, cause: EndCause, code: Option<CloseCode>) {
        self.0[cause as usize][code_index(code)].increment();
    }

    /// The pairs that have occurred, by their names.
    pub(crate) fn read(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let causes = EndCause::ALL.iter().zip(&self.0);
        causes.flat_map(|(cause, counters)| {
            let codes = CODES.iter().zip(counters);
            codes.map(|(code, counter)| (cause.name(), *code, counter.get()))
        })
    }
}

/// The place of a code in [`CODES`].
fn code_index(code: Option<CloseCode>) -> usize {
    match code.map(CloseCode::get) {
        None => NONE,
        Some(code @ 1000..=1014) => usize::from(code - 1000),
        Some(3000..=3999) => NONE - 3,
        Some(4000..=4999) => NONE - 2,
        Some(_) => NONE - 1,
    }
}

/// Names of codes in metrics. Those of applications are two classes: peers choose them.
const CODES: [&str; 19] = [
    "1000", "1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1009", "1010", "1011",
    "1012", "1013", "1014", "3xxx", "4xxx", "other", "none",
];
/// The place of the name of no code.
const NONE: usize = CODES.len() - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_applications_are_two_classes() {
        for (code, name) in [
            (Some(1000), "1000"),
            (Some(1014), "1014"),
            (Some(3000), "3xxx"),
            (Some(4999), "4xxx"),
            (None, "none"),
        ] {
            let code = code.and_then(CloseCode::new);
            assert_eq!(CODES[code_index(code)], name);
        }
    }

    #[test]
    fn each_pair_is_counted_by_itself() {
        let endings = Endings::default();
        endings.record(EndCause::Closed, Some(CloseCode::NORMAL));
        endings.record(EndCause::Closed, Some(CloseCode::NORMAL));
        endings.record(EndCause::Io, None);
        let counted: Vec<_> = endings.read().filter(|(.., count)| *count > 0).collect();
        assert_eq!(counted, [("closed", "1000", 2), ("io", "none", 1)]);
    }
}
