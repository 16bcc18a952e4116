//! TLS of one connection, in a build without it: there is none.

use super::Session;
use crate::ring::SendBatch;
use picows_uring_proto::UnderWay;

impl Session {
    /// Bytes that stay free in front of frames in the queue: none.
    pub(crate) const fn record_prefix(&self) -> usize {
        0
    }

    /// Whether the connection is encrypted: it is not.
    pub(crate) const fn is_secure(&self) -> bool {
        false
    }

    /// Whether the bytes on the socket are records of TLS: they are not.
    pub(crate) const fn is_sealed(&self) -> bool {
        false
    }

    /// Takes what is queued, sealed: nothing ever is.
    pub(super) const fn take_sealed(&self) -> Option<Box<SendBatch>> {
        None
    }

    /// Whether nothing is queued that can still be sent.
    pub(crate) fn is_wire_empty(&self) -> bool {
        self.queued() == 0
    }

    /// Queues close_notify, if it is owed: it never is.
    pub(crate) const fn queue_close_notify(&self) -> bool {
        false
    }

    /// Whether the peer has begun a record and not ended it.
    pub(crate) const fn is_record_under_way(&self) -> bool {
        false
    }

    /// The record that the peer has begun and not ended.
    pub(crate) const fn record_under_way(&self) -> Option<UnderWay> {
        None
    }

    /// Bytes of memory that a cut record is collected in.
    pub(crate) const fn record_capacity(&self) -> usize {
        0
    }

    /// Gives back the memory in which a cut record is collected.
    pub(crate) const fn release_record(&self) {}
}
