//! Counters of a worker, readable by any thread at any time.
//!
//! Each counter is written by one thread, so it costs a load and a store.

use super::endings::Endings;
use super::histogram::Histogram;
use super::pulse::Pulse;
use crate::driver::Driver;
use picows_uring_proto::{Frame, MsgType};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    (
        $($(#[doc = $doc:literal])+ $name:ident,)+;
        $($(#[doc = $peak_doc:literal])+ $peak:ident,)+;
        $($(#[doc = $sum_doc:literal])+ $sum:ident: |$counters:ident| $value:expr,)+
    ) => {
        /// Counters of one worker.
        #[derive(Debug, Default)]
        #[repr(align(128))] // Two cache lines: the neighbour's writes do not slow ours.
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
            $(pub(crate) $peak: Counter,)+
            pub(crate) pulse: Pulse,
            /// Frames that arrived.
            pub(crate) received: FrameCounters,
            /// Frames that were queued to be sent.
            pub(crate) sent: FrameCounters,
            /// How long turns took.
            pub(crate) turn_times: Histogram,
            /// How long handshakes of a server took, from the accepted connection to the answer.
            pub(crate) handshake_times: Histogram,
            /// How long answers to pings took.
            pub(crate) roundtrips: Histogram,
            /// Connections that have ended, by cause and close code.
            pub(crate) endings: Endings,
            /// The driver, and whether its ring is restricted.
            driver: OnceLock<(Driver, bool)>,
        }

        /// The counters of a worker, or of a whole server, since its start.
        ///
        /// Read with [`ServerHandle::stats`](crate::ServerHandle::stats) or, from any thread,
        /// [`Monitor`](crate::Monitor). The numbers are not taken at one instant, but each is exact.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $name: u64,)+
            $($(#[doc = $peak_doc])+ pub $peak: u64,)+
            $($(#[doc = $sum_doc])+ pub $sum: u64,)+
        }

        impl Counters {
            /// The worker runs on `driver`, with a ring that is restricted or not.
            pub(crate) fn set_driver(&self, driver: Driver, is_restricted: bool) {
                let _ = self.driver.set((driver, is_restricted));
            }

            /// What the worker runs on; `Auto` before that is known.
            pub(crate) fn driver(&self) -> Driver {
                self.driver.get().map_or(Driver::default(), |(driver, _)| *driver)
            }

            /// Whether the worker's ring can do only what the data path does.
            pub(crate) fn is_restricted(&self) -> bool {
                self.driver.get().is_some_and(|(_, is_restricted)| *is_restricted)
            }

            pub(crate) fn read(&self) -> Stats {
                Stats {
                    $($name: self.$name.get(),)+
                    $($peak: self.$peak.get(),)+
                    $($sum: { let $counters = self; $value },)+
                }
            }
        }

        impl Stats {
            /// Each counter by its name, for exporters that hand all of them on.
            ///
            /// ```
            /// let stats = picows_uring::Stats::default();
            /// assert!(stats.iter().any(|counter| counter == ("frames_received", 0)));
            /// ```
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [
                    $((stringify!($name), self.$name),)+
                    $((stringify!($peak), self.$peak),)+
                    $((stringify!($sum), self.$sum),)+
                ]
                .into_iter()
            }
        }

        /// Sums, of peaks the higher one.
        impl std::ops::AddAssign for Stats {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)+
                $(self.$peak = self.$peak.max(other.$peak);)+
                $(self.$sum += other.$sum;)+
            }
        }
    };
}

counters! {
    /// Connections that were accepted.
    accepted,
    /// Connections that were refused because there were too many, with 503 unless they had a plain
    /// request: the sum of the next four.
    refused,
    /// Connections that were refused because the server had `max_connections`.
    refused_by_connections,
    /// Connections that were refused because their address had `max_per_address`.
    refused_by_address,
    /// Connections that were refused because `max_handshakes` were in progress.
    refused_by_handshakes,
    /// Connections that were refused because little was left of `memory_limit`, and none held so
    /// much that ending it would have helped.
    refused_by_memory,
    /// Handshakes that were completed.
    upgraded,
    /// Handshakes of TLS that were completed, on both sides.
    tls_handshakes,
    /// Those of them that resumed a session.
    tls_resumed,
    /// Handshakes of TLS that failed, but for those that ended with their connection.
    tls_failed,
    /// Connections that are open now, handshakes and those about to end included.
    connections,
    /// Slots of connections in use, those that wait for their last completion included.
    slots,
    /// Connections that have ended.
    disconnected,
    /// Connections that were ended because the peer broke the protocol.
    protocol_errors,
    /// Connections that were ended because all together held more than `memory_limit`, and they
    /// the most.
    memory_evictions,
    /// Connections that were ended because there was no memory for their bytes at all.
    allocation_failures,
    /// Connections that were ended because a frame or message of the peer brought too little for
    /// `message_timeout`.
    message_timeouts,
    /// Connections that were ended because the peer took nothing of its queue for
    /// `write_stall_timeout`.
    write_stalls,
    /// Errors and panics of listeners.
    listener_errors,
    /// Tasks that panicked while no other task awaited them: each is in the log.
    task_panics,
    /// Panics of the application's code outside of callbacks and tasks: when a payload, an error or
    /// a listener's maker was dropped, a task woken, a line logged. Each is in the log, but the last.
    stray_panics,
    /// Bytes of payload of the frames that arrived, as the application gets them: what was compressed
    /// counts with what it was expanded to.
    payload_received,
    /// Bytes of payload of the frames that were queued to be sent, as the application gave them.
    payload_sent,
    /// Bytes that arrived, HTTP and frame headers included.
    bytes_received,
    /// Bytes that the kernel took, HTTP and frame headers included.
    bytes_sent,
    /// Bytes of compressed frames that arrived.
    bytes_before_expansion,
    /// Bytes that they were expanded to.
    bytes_after_expansion,
    /// Bytes of frames that were compressed.
    bytes_before_compression,
    /// Bytes that they were compressed to.
    bytes_after_compression,
    /// Data frames that were dropped because a queue was full.
    frames_dropped,
    /// Those of them that were dropped to make room for a later one.
    frames_dropped_oldest,
    /// Data frames that gave way to a later one with their key before they left.
    frames_conflated,
    /// Times that a receive found no buffer.
    buffer_shortages,
    /// Times that accepting was paused for lack of descriptors or memory.
    accept_pauses,
    /// Workers that pause accepting now.
    accept_paused,
    /// Turns of the worker.
    turns,
    /// System calls into the ring.
    ring_enters,
    /// Times that the worker slept.
    sleeps,
    /// Looks at the ring while spinning instead of sleeping.
    spins,
    /// Turns that took as long as [`slow_callback`](crate::ServerBuilder::slow_callback), whatever
    /// the reason.
    slow_turns,
    /// Slow turns in which the callbacks of one connection took that long.
    slow_callbacks,
    /// Bytes of memory now: connections themselves, without listeners and without what the next
    /// counters tell.
    connection_bytes,
    /// Bytes of memory now: what waits to be sent or is being sent.
    queue_bytes,
    /// Bytes of memory now: frames, requests and responses of which a part has arrived.
    stash_bytes,
    /// Bytes of memory now: history that connections keep to compress and expand messages with.
    history_bytes,
    /// Bytes of memory now: fragments of which the last has not arrived, and messages that wait in
    /// a [`WsStream`](crate::WsStream) to be taken.
    message_bytes,
    /// Bytes of memory now: what no connection uses and is kept for the next; released when it
    /// was not needed for [`release_memory_after`](crate::ServerBuilder::release_memory_after).
    pool_bytes,
    /// Receive buffers that are shared with the kernel now. They become more in a burst, and fewer
    /// after it.
    receive_buffers,
    ;
    /// The longest turn, in microseconds; 0 if turns are not timed. Of all workers the longest.
    longest_turn_micros,
    ;
    /// Frames that arrived: the sum of the next six.
    frames_received: |it| it.received.sum(),
    /// Continuation frames that arrived.
    frames_received_continuation: |it| it.received.get(MsgType::Continuation),
    /// Text frames that arrived.
    frames_received_text: |it| it.received.get(MsgType::Text),
    /// Binary frames that arrived.
    frames_received_binary: |it| it.received.get(MsgType::Binary),
    /// CLOSE frames that arrived.
    frames_received_close: |it| it.received.get(MsgType::Close),
    /// PING frames that arrived.
    frames_received_ping: |it| it.received.get(MsgType::Ping),
    /// PONG frames that arrived.
    frames_received_pong: |it| it.received.get(MsgType::Pong),
    /// Frames that were queued to be sent, those included that were dropped or replaced later: the sum
    /// of the next six.
    frames_sent: |it| it.sent.sum(),
    /// Continuation frames that were queued to be sent.
    frames_sent_continuation: |it| it.sent.get(MsgType::Continuation),
    /// Text frames that were queued to be sent.
    frames_sent_text: |it| it.sent.get(MsgType::Text),
    /// Binary frames that were queued to be sent.
    frames_sent_binary: |it| it.sent.get(MsgType::Binary),
    /// CLOSE frames that were queued to be sent.
    frames_sent_close: |it| it.sent.get(MsgType::Close),
    /// PING frames that were queued to be sent.
    frames_sent_ping: |it| it.sent.get(MsgType::Ping),
    /// PONG frames that were queued to be sent.
    frames_sent_pong: |it| it.sent.get(MsgType::Pong),
}

impl Counters {
    /// Counts a frame that arrived. Only the owner may.
    #[inline(always)] // Three instructions of each frame.
    pub(crate) fn count_received(&self, frame: &Frame<'_>) {
        self.received.increment(frame.msg_type());
        self.payload_received.add(frame.payload().len() as u64);
    }

    /// Counts a frame that is queued. Only the owner may.
    #[inline(always)] // The same.
    pub(crate) fn count_sent(&self, msg_type: MsgType, payload_len: usize) {
        self.sent.increment(msg_type);
        self.payload_sent.add(payload_len as u64);
    }
}

/// Frames of one direction, by opcode.
#[derive(Debug, Default)]
pub(crate) struct FrameCounters([Counter; 16]);

impl FrameCounters {
    /// Counts a frame. Only the owner may.
    #[inline(always)] // Two instructions of each frame.
    pub(crate) fn increment(&self, msg_type: MsgType) {
        self.of(msg_type).increment();
    }

    /// Counts several frames. Only the owner may.
    pub(crate) fn add(&self, msg_type: MsgType, count: u64) {
        self.of(msg_type).add(count);
    }

    fn get(&self, msg_type: MsgType) -> u64 {
        self.of(msg_type).get()
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }

    #[inline(always)]
    fn of(&self, msg_type: MsgType) -> &Counter {
        // An opcode has four bits: the compiler leaves the check of the index out.
        &self.0[usize::from(msg_type.opcode() & 0xF)]
    }
}

/// A number that one thread writes.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only the owner may.
    pub(crate) fn add(&self, count: u64) {
        // Not `fetch_add`: there is one writer, and a locked instruction costs as much as the
        // parsing of a small frame.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Adds one. Only the owner may.
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    /// Takes one off. Only the owner may.
    pub(crate) fn decrement(&self) {
        self.add(u64::MAX);
    }

    /// Sets it. Only the owner may.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_added_and_peaks_are_compared() {
        let counters = Counters::default();
        counters.accepted.add(3);
        counters.longest_turn_micros.set(7);
        let mut sum = counters.read();
        sum += counters.read();
        assert_eq!((sum.accepted, sum.longest_turn_micros), (6, 7));
        let listed: Vec<_> = sum.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(listed, [("accepted", 6), ("longest_turn_micros", 7)]);
    }
}
