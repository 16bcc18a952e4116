//! Commands of other threads to a worker, and how many bytes of them may wait for each connection.
//!
//! The queue that carries them is the mailbox.

use crate::foreign::Foreign;
use crate::ring::{ListenerId, Token};
use bytes::Bytes;
use picows_uring_proto::{CloseFrame, FrameHead, UpgradeRequest};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

/// A request of another thread to a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// End every connection with CLOSE 1001, one after the other, and after `drain` without it.
    Stop { drain: Duration },
    /// The memory of all may be beyond its limit: see whether the largest holder is yours.
    LookAtMemory,
    /// Give a sign of life: health is asked for.
    Beat,
    /// Close a listening socket; its connections stay.
    CloseListener(ListenerId),
    /// Publications wait for subscriptions of yours.
    Topics,
    /// Serve a connection that was accepted elsewhere.
    Adopt(Box<Adopted>),
    /// Listen on the sockets that the server has added.
    ListenMore,
    /// Close what was added, or was there from the beginning, under a name.
    CloseListeners(ListenName),
    /// Leave listening sockets to another process.
    HandOver(Box<HandOver>),
    /// Do something with a connection.
    Connection(Token, ConnectionCommand),
}

/// What a server calls the listening sockets of one address, of which each worker has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenName(pub(crate) u32);

/// Listening sockets from which another process accepts next.
#[derive(Clone, Debug)]
pub(crate) struct HandOver {
    pub(crate) names: Arc<[ListenName]>,
    /// The worker stops as well, within so long.
    pub(crate) drain: Option<Duration>,
    /// Dropped when nothing is accepted from them any more.
    pub(crate) released: Sender<()>,
}

/// A connection that was accepted elsewhere.
pub(crate) struct Adopted {
    pub(crate) socket: OwnedFd,
    /// Bytes that were read from it.
    pub(crate) received: Vec<u8>,
    /// Its request, if that was answered with 101.
    pub(crate) upgraded: Option<Box<UpgradeRequest>>,
}

impl fmt::Debug for Adopted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adopted").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// A request of a handle to the worker, about a connection.
#[derive(Debug)]
pub(crate) enum ConnectionCommand {
    Send(FrameHead, Foreign<Bytes>),
    SendLatest(u64, FrameHead, Foreign<Bytes>),
    Close(CloseFrame),
    ResumeReading,
    Disconnect,
    Abort,
    /// Ends it, as a frame could not be posted.
    QueueFull,
}

impl ConnectionCommand {
    /// What it takes while it waits. An end always gets through: one command of each waits at
    /// the most.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Send(_, payload) | Self::SendLatest(_, _, payload) => {
                size_of::<Command>() + payload.len()
            }
            Self::Close(_)
            | Self::ResumeReading
            | Self::Disconnect
            | Self::Abort
            | Self::QueueFull => 0,
        }
    }

    /// Its bit in [`RemoteState::posted_once`], if one command of its kind is enough.
    pub(crate) const fn flag(&self) -> u8 {
        match self {
            Self::Send(..) | Self::SendLatest(..) => 0,
            Self::Close(_) => 1,
            Self::Disconnect => 2,
            Self::Abort => 4,
            Self::QueueFull => 8,
            Self::ResumeReading => 16,
        }
    }

    /// Whether the peer misses something without it.
    pub(crate) fn is_data(&self) -> bool {
        match self {
            Self::Send(head, _) | Self::SendLatest(_, head, _) => !head.msg_type.is_control(),
            _ => false,
        }
    }
}

/// The state of a connection, as handles in other threads know it.
#[derive(Debug)]
pub(crate) struct RemoteState {
    pub(crate) is_ended: AtomicBool,
    /// Bytes in commands that the worker has not read.
    posted: AtomicUsize,
    posted_max: usize,
    /// A frame that cannot be posted ends the connection.
    pub(crate) closes: bool,
    /// What was posted of which one command is enough ([`ConnectionCommand::flag`]): another would only
    /// take memory. An end takes effect once, and stays; anything else until the worker has read it.
    posted_once: AtomicU8,
    /// The last round trip in nanoseconds, and one more; 0 for none.
    roundtrip: AtomicU64,
}

impl RemoteState {
    /// Of a connection whose queue holds so many bytes; if `closes`, one that is full ends it.
    pub(crate) fn new(queue_bytes_max: usize, closes: bool) -> Self {
        Self {
            is_ended: AtomicBool::new(false),
            posted: AtomicUsize::new(0),
            posted_max: queue_bytes_max.max(POSTED_BYTES_MIN),
            closes,
            posted_once: AtomicU8::new(0),
            roundtrip: AtomicU64::new(0),
        }
    }

    /// The worker has read a command.
    pub(crate) fn read(&self, action: &ConnectionCommand) {
        self.posted.fetch_sub(action.bytes(), Ordering::Relaxed);
        if matches!(action, ConnectionCommand::ResumeReading) {
            // Before it takes effect, so that one that is posted from now on does once more.
            self.posted_once.fetch_and(!action.flag(), Ordering::AcqRel);
        }
    }

    /// Bytes in commands that the worker has not read.
    pub(crate) fn posted(&self) -> usize {
        self.posted.load(Ordering::Relaxed)
    }

    /// Counts a frame that is to be posted, if there is room for it.
    pub(crate) fn admit(&self, bytes: usize) -> bool {
        let admit = |posted: usize| {
            // Alone, it always gets through: what is too long for the queue is for the queue's
            // policy, and would never fit here however long the caller waits.
            let is_alone = posted == 0;
            let posted = posted.saturating_add(bytes);
            (is_alone || posted <= self.posted_max).then_some(posted)
        };
        self.posted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit).is_ok()
    }

    /// Whether none with `flag` was posted, or none waits.
    pub(crate) fn is_first(&self, flag: u8) -> bool {
        self.posted_once.fetch_or(flag, Ordering::AcqRel) & flag == 0
    }

    /// Whether the connection ends for a frame that could not be posted.
    pub(crate) fn is_full(&self) -> bool {
        self.posted_once.load(Ordering::Relaxed) & ConnectionCommand::QueueFull.flag() != 0
    }

    /// Records how long a ping took to be answered.
    pub(crate) fn set_roundtrip(&self, roundtrip: Duration) {
        let nanos = u64::try_from(roundtrip.as_nanos()).unwrap_or(u64::MAX - 1);
        self.roundtrip.store(nanos.saturating_add(1), Ordering::Relaxed);
    }

    /// How long the last ping took to be answered.
    pub(crate) fn last_roundtrip(&self) -> Option<Duration> {
        self.roundtrip.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_nanos)
    }

    pub(crate) fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
    }
}

/// Bytes of commands that may wait for each connection at the least: what a busy sender posts while the
/// worker is in a long turn, or waits for a processor. That says nothing of the peer, so it is no less
/// where queues are short.
const POSTED_BYTES_MIN: usize = 16 * 1024 * 1024;
