//! Sending from memory that is the caller's again after the call.
//!
//! The socket is given the frame where it lies, and what it does not take is copied into the queue.
//! Where the frame may not leave at once, it takes the way of every other (`queue.rs`).

use super::Session;
use crate::ring::is_passing;
use crate::status::{DisconnectCause, SendStatus};
use picows_uring_proto::{ApiMisuse, FRAME_HEADER_BYTES_MAX, FrameHead};
use std::io;

impl Session {
    /// Sends a frame whose payload is the end of `buffer`, from `payload_start` on.
    pub(crate) fn send_in_place(
        &self,
        head: FrameHead,
        buffer: &mut [u8],
        payload_start: usize,
    ) -> SendStatus {
        if payload_start < FRAME_HEADER_BYTES_MAX {
            return SendStatus::Refused(ApiMisuse::HeadroomTooSmall(payload_start));
        }
        let Some(payload) = buffer.get(payload_start..) else {
            let len = buffer.len();
            return SendStatus::Refused(ApiMisuse::HeadroomPastEnd { start: payload_start, len });
        };
        if payload.len() < IN_PLACE_BYTES_MIN || !self.leaves_at_once(payload.len()) {
            return self.send(head, payload);
        }
        if let Err(status) = self.check(head, payload.len()) {
            return status;
        }
        let payload_len = payload.len();
        match head.prepend(buffer, payload_start, self.mask_key()) {
            Ok(start) => {
                self.conversation.sender_mut().queued(head);
                self.count_sent(head.msg_type, payload_len);
                self.send_slice(&buffer[start..])
            }
            Err(misuse) => SendStatus::Refused(misuse),
        }
    }

    /// Whether a frame of so many bytes may go to the socket before this call returns: after what is
    /// queued, which is offered first, and as it is.
    fn leaves_at_once(&self, payload_len: usize) -> bool {
        self.catch_up();
        // Also where messages are compressed, wait apart or are in pieces: it is 0 then.
        let is_plain = self.append_max.get() > 0 && !self.is_secure();
        let fits = FRAME_HEADER_BYTES_MAX + payload_len <= self.config.queue_bytes_max;
        if !is_plain || !fits || self.is_sending() || self.is_offered.get() {
            return false;
        }
        if self.queued() > 0 {
            self.offer();
        }
        self.queued() == 0 && self.append_max.get() > 0 && self.conversation.borrow().may_send()
    }

    /// Sends an encoded frame, with nothing before it.
    fn send_slice(&self, frame: &[u8]) -> SendStatus {
        let (count, outcome) = self.give(frame);
        match outcome {
            Ok(()) if count == frame.len() => SendStatus::Queued,
            Ok(()) => self.queue_rest(&frame[count..], count > 0),
            Err(error) => {
                self.fail_offer(&error);
                SendStatus::Closed
            }
        }
    }

    /// Gives the socket `bytes`, and returns how many it has taken.
    fn give(&self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let (Some(socket), Some(outlet)) = (self.socket.get(), self.local.outlet.get()) else {
            return (0, Ok(()));
        };
        let mut done = 0;
        while done < bytes.len() {
            match outlet.send_slice(socket, &bytes[done..]) {
                Ok(count) if count > 0 => {
                    self.note_sent(count);
                    done += count;
                }
                Ok(_) => break,
                Err(error) if is_passing(&error) => break,
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }

    /// Queues what the socket has not taken of a frame, which `is_begun` if it has taken some.
    fn queue_rest(&self, rest: &[u8], is_begun: bool) -> SendStatus {
        // Nothing more until the ring has waited for room.
        self.is_offered.set(true);
        self.renew_append_max();
        let pool = &self.local.pool;
        if !pool.has_room(rest.len()) {
            self.local.counters.allocation_failures.increment();
            // Nothing can follow what has begun, not even CLOSE.
            self.set_cause(DisconnectCause::OutOfMemory);
            self.conversation.borrow_mut().end();
            self.mark_dirty();
            return SendStatus::Closed;
        }
        let mut queue = self.open_queue();
        queue.append(rest.len(), || pool.buffer(rest.len()), |out| out.extend_from_slice(rest));
        if is_begun {
            queue.mark_begun();
        }
        drop(queue);
        self.queued_frame(rest.len())
    }
}

/// Shorter payloads are copied, and leave with what else the turn sends: a call for each frame costs about
/// as much as a copy of so many bytes. The random runs of the simulation have shorter ones.
const IN_PLACE_BYTES_MIN: usize = if cfg!(test) { 200 } else { 16 * 1024 };
