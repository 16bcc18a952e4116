//! The settings of a connection, written once for the two builders that have them.
//!
//! Only stores them: whether they make sense is for `Config::check`.

/// Writes the methods that [`Connect`](crate::Connect) and [`ServerBuilder`](crate::ServerBuilder)
/// have in common, for a builder with a field `config`. Examples make one of it with `make`, which
/// wants `import`; `pings` is what picows' own settings are on that side.
macro_rules! connection_settings {
    ($builder:ty, import: $import:literal, make: $make:literal, pings: $pings:literal) => {
        /// Settings of each connection, the same for servers and clients.
        impl $builder {
            /// Largest data frame that is accepted, in bytes; a larger one is answered with CLOSE
            /// 1009 as soon as its header is there. 0 allows empty ones only, and [`u64::MAX`] any.
            /// Default: 10 MiB.
            pub fn max_frame_size(mut self, bytes: u64) -> Self {
                self.config.frames.payload_bytes_max = bytes;
                self
            }

            /// RSV bits that the application gives a meaning to: 4 is RSV1, 2 is RSV2, 1 is RSV3,
            /// or a sum of them. Default: 0, so that any is answered with CLOSE 1002
            /// (RFC 6455 §5.2).
            pub fn allow_rsv(mut self, bits: u8) -> Self {
                self.config.frames.rsv_allowed = bits;
                self
            }

            /// Whether text has to be UTF-8, across fragments, with CLOSE 1007 at the first byte
            /// that is not (RFC 6455 §8.1). Default: off: a listener that reads
            /// [`Frame::text`](crate::Frame::text) gets the error there.
            pub fn validate_text(mut self, validate: bool) -> Self {
                self.config.frames.validate_text = validate;
                self
            }

            /// Whether the order of fragments is the application's: data frames are received and sent
            /// in any order, and each is a callback (RFC 6455 §5.4 is not enforced). For proxies, tests,
            /// and extensions of one's own, usually with [`allow_rsv`](Self::allow_rsv); messages are
            /// joined in order only, also by [`MessageListener`](crate::MessageListener). Excludes
            /// `validate_text` and [`QueuePolicy::DropOldest`](crate::QueuePolicy::DropOldest), which
            /// know where messages begin. Default: off.
            pub fn any_order(mut self, any: bool) -> Self {
                self.config.frames.any_order = any;
                self
            }

            /// Compresses messages where the peer agrees (RFC 7692). Excludes RSV1 of
            /// [`allow_rsv`](Self::allow_rsv), and [`any_order`](Self::any_order). Guide
            /// "Compression". Default: off.
            ///
            /// ```
            #[doc = concat!("use picows_uring::{Deflate, ", $import, "};")]
            ///
            #[doc = concat!("let builder = ", $make, ".deflate(Deflate::new().level(1));")]
            /// ```
            #[cfg(feature = "deflate")]
            pub fn deflate(mut self, deflate: impl Into<Option<$crate::Deflate>>) -> Self {
                self.config.deflate = deflate.into();
                self
            }

            /// How long the peer may take over its part of the end of a connection: answering
            /// CLOSE, taking the last bytes, ending the stream. It counts from when these bytes were
            /// handed to the kernel. Default: 5 s.
            pub fn close_timeout(mut self, timeout: ::std::time::Duration) -> Self {
                self.config.conversation.close_timeout = timeout;
                self
            }

            /// Pings the peer by itself, to find out whether it has disappeared: CLOSE 1001 and the
            /// end if it does not answer in time. The reply timeout is at most the idle timeout;
            #[doc = concat!("picows uses ", $pings, " for both. Default: off.")]
            ///
            /// ```
            /// use std::time::Duration;
            #[doc = concat!("use picows_uring::{AutoPing, ", $import, "};")]
            ///
            /// let ping = AutoPing::new(Duration::from_secs(10), Duration::from_secs(5));
            #[doc = concat!("let builder = ", $make, ".auto_ping(ping);")]
            /// ```
            pub fn auto_ping(mut self, ping: impl Into<Option<$crate::AutoPing>>) -> Self {
                self.config.liveness.auto_ping = ping.into();
                self
            }

            /// Ends a connection on which nothing has arrived for this long, with CLOSE 1001 and
            /// without asking; more than zero. Default: never.
            pub fn idle_timeout(
                mut self,
                timeout: impl Into<Option<::std::time::Duration>>,
            ) -> Self {
                self.config.liveness.idle_timeout = timeout.into();
                self
            }

            /// How long a frame or message may be under way, unless it brings 1 KiB of payload
            /// a second on average since it began: then it may take as long as it does. One that
            /// is slower gets CLOSE 1008
            /// ([`DisconnectCause::MessageTooSlow`](crate::DisconnectCause::MessageTooSlow)),
            /// within a quarter of that time. PINGs in between and single bytes do not put that
            /// off; while reading is [paused](crate::Transport::pause_reading), no time passes.
            /// More than zero; `None` for no limit. Default: 60 s.
            pub fn message_timeout(
                mut self,
                timeout: impl Into<Option<::std::time::Duration>>,
            ) -> Self {
                self.config.progress.message_timeout = timeout.into();
                self
            }

            /// How long the peer may take nothing at all of what is queued for it, before it is
            /// dropped ([`DisconnectCause::WriteStalled`](crate::DisconnectCause::WriteStalled)),
            /// within a quarter of that time. Whatever it sends meanwhile does not put that off.
            /// More than zero; `None` for no limit. Default: 60 s.
            pub fn write_stall_timeout(
                mut self,
                timeout: impl Into<Option<::std::time::Duration>>,
            ) -> Self {
                self.config.progress.write_stall_timeout = timeout.into();
                self
            }

            /// Whether PING is answered and not delivered. Default: on.
            pub fn auto_pong(mut self, auto: bool) -> Self {
                self.config.conversation.auto_pong = auto;
                self
            }

            /// Whether CLOSE is answered after the listener saw it, and the connection then ended.
            /// Off leaves both to the listener ([`send_close`](crate::Transport::send_close),
            /// [`disconnect`](crate::Transport::disconnect)), as in picows. Default: on.
            pub fn auto_close(mut self, auto: bool) -> Self {
                self.config.conversation.auto_close = auto;
                self
            }

            /// Whether an error or panic of `on_frame` ends the connection; off, it is only logged.
            /// Default: on.
            pub fn disconnect_on_error(mut self, disconnect: bool) -> Self {
                self.config.disconnect_on_error = disconnect;
                self
            }

            /// Whether [`Transport::received_at`](crate::Transport::received_at) returns when the kernel
            /// received a frame. Every receive is more expensive then, and large frames are, which are
            /// copied once more. The first socket that asks for it, of any process, has the kernel take
            /// the time of everything that the machine receives. What comes through a Unix socket has no
            /// time. Default: off.
            pub fn receive_timestamps(mut self, on: bool) -> Self {
                self.config.receive_timestamps = on;
                self
            }

            /// Bytes queued on a connection above which its listener has to pause, and at or below
            /// which it may resume. What one callback queues is no reason to pause: at
            /// the high one, the socket is offered what is queued, and only what it does not take
            /// counts; so each `high` bytes queued in one turn cost a system call. `low` is at most
            /// `high`, and `high` at most what [`max_queue_size`](Self::max_queue_size) allows.
            /// Default: 64 KiB and 16 KiB.
            pub fn write_watermarks(mut self, high: usize, low: usize) -> Self {
                self.config.high_watermark = high;
                self.config.low_watermark = low;
                self
            }

            /// Bytes queued on a connection that are never passed, and what happens instead. The
            /// socket is offered what is queued before a frame is held to be too much, so a peer
            /// that reads gets everything, however much is sent at once. A frame that is longer
            /// than the limit by itself never fits. While the kernel has not seen a send that was
            /// handed to it, which is until the next turn, as much again may be queued behind it.
            /// At least 1, and not below the high one of the
            /// [`write_watermarks`](Self::write_watermarks), which a short queue has to lower.
            /// Default: 64 MiB, [`QueuePolicy::Close`](crate::QueuePolicy::Close).
            ///
            /// Control frames are never dropped; they have 64 KiB of their own beyond the limit.
            ///
            /// ```
            #[doc = concat!("use picows_uring::{QueuePolicy, ", $import, "};")]
            ///
            #[doc = concat!("let builder = ", $make)]
            ///     .write_watermarks(16 * 1024, 4 * 1024)
            ///     .max_queue_size(32 * 1024, QueuePolicy::DropOldest);
            /// ```
            pub fn max_queue_size(mut self, bytes: usize, policy: $crate::QueuePolicy) -> Self {
                self.config.queue_bytes_max = bytes;
                self.config.queue_policy = policy;
                self
            }
        }
    };
}

pub(crate) use connection_settings;
