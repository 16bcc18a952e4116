//! Operations under way on each socket of the epoll driver, and what its last events said.

use super::super::{ListenerId, SendBatch, Socket, Token};
use rustix::event::epoll::EventFlags;

/// Sockets, by descriptor.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    entries: Vec<Option<Entry>>,
    count: usize,
    /// By the slot of a token: the socket that last received for it.
    receivers: Vec<Socket>,
}

/// One socket.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) reading: Option<Reading>,
    pub(super) sending: Option<Sending>,
    /// A call may bring something: no call returned less than it was asked for since the last event.
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
    /// The peer has ended the stream, or it is broken: there will be no further event.
    pub(super) is_ending: bool,
    /// The hosting loop watches it.
    pub(super) is_watched: bool,
    /// It is on the list of sockets for which something can be done.
    pub(super) is_listed: bool,
}

/// The purpose of reading a socket.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reading {
    Bytes(Receive),
    /// Connections: it is a listening socket that accepts.
    Connections(ListenerId),
}

/// A receive that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receive {
    pub(super) token: Token,
    /// It ends with its first bytes.
    pub(super) is_single: bool,
    /// Its pieces have stamps.
    pub(super) is_stamped: bool,
}

/// A send that is under way.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) token: Token,
    pub(super) batch: Box<SendBatch>,
    /// Bytes that the socket has taken.
    pub(super) sent: usize,
}

impl Entry {
    /// Takes note of an event. Whether the socket is to be put on the list.
    pub(super) fn mark(&mut self, flags: EventFlags) -> bool {
        let is_over = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        self.is_ending |= is_over;
        self.is_readable |= is_over || flags.contains(EventFlags::IN);
        self.is_writable |= flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR);
        self.is_to_be_listed()
    }

    /// Whether something can be done for it, and it is not on the list; from here on, it is.
    pub(super) fn is_to_be_listed(&mut self) -> bool {
        let can_read = self.is_readable && self.reading.is_some();
        let can_write = self.is_writable && self.sending.is_some();
        (can_read || can_write) && !std::mem::replace(&mut self.is_listed, true)
    }
}

impl Sockets {
    /// Makes an entry for a socket that has none.
    pub(super) fn add(&mut self, socket: Socket, is_watched: bool) {
        let Ok(index) = usize::try_from(socket.0) else { return };
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || None);
        }
        self.entries[index] = Some(Entry { is_watched, ..Entry::default() });
        self.count += 1;
    }

    pub(super) fn get_mut(&mut self, fd: u64) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(fd).ok()?)?.as_mut()
    }

    /// Forgets a socket, and returns what was known of it.
    pub(super) fn remove(&mut self, socket: Socket) -> Option<Entry> {
        let index = usize::try_from(socket.0).ok()?;
        let removed = self.entries.get_mut(index)?.take()?;
        self.count -= 1;
        Some(removed)
    }

    /// `socket` receives for `token` from here on.
    pub(super) fn receives(&mut self, token: Token, socket: Socket) {
        let slot = token.slot as usize;
        if slot >= self.receivers.len() {
            self.receivers.resize(slot + 1, Socket(-1));
        }
        self.receivers[slot] = socket;
    }

    /// The socket that receives for `token`.
    pub(super) fn receiver(&mut self, token: Token) -> Option<Socket> {
        let socket = *self.receivers.get(token.slot as usize)?;
        let entry = self.get_mut(u64::try_from(socket.0).ok()?)?;
        let is_of_token = |it| matches!(it, Reading::Bytes(receive) if receive.token == token);
        entry.reading.is_some_and(is_of_token).then_some(socket)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether much of the memory is for sockets that are gone.
    pub(super) fn has_spare(&self) -> bool {
        self.entries.capacity() > ENTRIES_KEPT && self.entries.capacity() > 4 * self.count
    }

    /// Frees memory for descriptors above the largest that is in use.
    pub(super) fn trim(&mut self) {
        while let Some(None) = self.entries.last() {
            self.entries.pop();
        }
        self.entries.shrink_to(ENTRIES_KEPT.max(self.entries.len()));
    }
}

/// Room for so many sockets is kept.
const ENTRIES_KEPT: usize = 1024;

const _: () = assert!(size_of::<Option<Entry>>() <= 48, "each idle connection pays for it");
