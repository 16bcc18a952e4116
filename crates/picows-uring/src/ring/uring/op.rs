//! Kinds of operation, as their completions name them.

/// Kinds of operation, in the upper four bits of `user_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    Accept = 1,
    Receive = 2,
    /// The lower bits are an index into [`Sends`](super::Sends).
    Send = 3,
    Deadline = 4,
    /// Its outcome is ignored: cancel, change of a deadline.
    Silent = 5,
    /// Another thread has signalled the eventfd.
    Wake = 6,
    /// A socket has bytes.
    Watch = 7,
    /// Of messages, whose stamps lie in front of their bytes.
    ReceiveStamped = 8,
}

/// The lower bits are of the operation.
const OP_SHIFT: u32 = 60;

impl Op {
    /// The `user_data` of an operation: its kind, and what else it is to be known by.
    pub(super) fn tag(self, bits: u64) -> u64 {
        ((self as u64) << OP_SHIFT) | bits
    }

    /// The kind in `user_data`.
    pub(super) fn of(user_data: u64) -> Option<Self> {
        let all = [
            Self::Accept,
            Self::Receive,
            Self::Send,
            Self::Deadline,
            Self::Silent,
            Self::Wake,
            Self::Watch,
            Self::ReceiveStamped,
        ];
        all.into_iter().find(|op| *op as u64 == user_data >> OP_SHIFT)
    }
}
