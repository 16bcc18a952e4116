//! Journal of what the listeners of a simulation saw and sent, connection by connection.
//!
//! One for each thread: factories have to be `Send`, and listeners are made by them. What a
//! listener finds wrong is written down here, as its panics are caught by the worker.

use crate::ring::Token;
use crate::transport::Transport;
use picows_uring_proto::MsgType;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

thread_local! {
    static JOURNAL: RefCell<Journal> = RefCell::default();
}

#[derive(Default)]
pub(super) struct Journal {
    pub(super) seed: u64,
    /// By the number that the client gave in its request.
    pub(super) records: BTreeMap<u32, Record>,
    /// What must not be.
    pub(super) faults: Vec<String>,
    /// Connections that others may send on and end.
    pub(super) room: BTreeMap<u32, Transport>,
    /// All that are open.
    pub(super) open: BTreeMap<u32, Transport>,
    /// How other threads name every connection that there was.
    pub(super) tokens: Vec<(u32, Token)>,
    /// Connections that our client made.
    pub(super) dialed: u64,
    /// Pieces of frames that listeners sent on.
    pub(super) pieces: u64,
    /// Errors and panics of listeners and factories, as they meant it.
    pub(super) errors: u64,
}

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) connected: u32,
    pub(super) disconnected: u32,
    pub(super) is_paused: bool,
    pub(super) pauses: u32,
    /// The sender has learnt that `pause_writing` follows.
    pub(super) awaits_pause: bool,
    /// What was queued, in its order.
    pub(super) sent: Vec<Seen>,
    /// Where the last message of each key is in `sent`: the next may take its place.
    pub(super) keys: BTreeMap<u64, usize>,
    pub(super) dropped: u32,
    /// The last data frame that was queued leaves its message open (RFC 6455 §5.4).
    pub(super) is_message_open: bool,
    /// Frames that came back to our client.
    pub(super) echoed: usize,
    /// A listener ended it, or tried to, or another thread did.
    pub(super) is_ended_by_us: bool,
    /// Its listener has said all and ends it.
    pub(super) is_leaving: bool,
    /// It held the most when all held too much.
    pub(super) is_evicted: bool,
}

/// A frame, short enough to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    msg_type: MsgType,
    is_fin: bool,
    pub(super) len: usize,
    digest: u64,
}

impl Seen {
    pub(super) fn new(msg_type: MsgType, is_fin: bool, payload: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(payload);
        Self { msg_type, is_fin, len: payload.len(), digest: hasher.finish() }
    }

    #[cfg(test)]
    pub(super) fn is_pong(&self) -> bool {
        self.msg_type == MsgType::Pong
    }
}

impl Journal {
    pub(super) fn record(&mut self, id: u32) -> &mut Record {
        self.records.entry(id).or_default()
    }

    /// Notes that a callback came at the wrong time.
    pub(super) fn demand(&mut self, id: u32, is_kept: bool, what: &str) {
        if !is_kept {
            self.faults.push(format!("client {id}: {what}"));
        }
    }
}

/// Forgets everything, for a new run.
pub(super) fn reset(seed: u64) {
    let old = JOURNAL.replace(Journal { seed, ..Journal::default() });
    drop(old);
}

/// Lends the journal. Not to be called while it is lent, so no callback may be made meanwhile.
pub(super) fn with<T>(use_it: impl FnOnce(&mut Journal) -> T) -> T {
    JOURNAL.with_borrow_mut(use_it)
}
