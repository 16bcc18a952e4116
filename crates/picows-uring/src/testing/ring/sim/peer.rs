//! The other side of a simulated connection, as a test plays it.

use super::wire::{BrokenBy, Link, ServerEnd};
use super::{Kind, SimRing, Socket};
use std::cell::RefMut;

/// Names the peer of a connection, for as long as the ring lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerId(pub(super) usize);

/// One peer.
pub(crate) struct Peer<'a> {
    ring: &'a mut SimRing,
    id: PeerId,
}

/// What reading brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PeerRead {
    Bytes(Vec<u8>),
    Nothing,
    End,
    Reset,
}

impl SimRing {
    /// Connects to `listener`. `room` is what each direction holds; the network may break the
    /// connection if `may_break`.
    pub(crate) fn connect(&mut self, listener: Socket, room: usize, may_break: bool) -> PeerId {
        let id = PeerId(self.wires.links.borrow().len());
        let mut link = Link::new(room, may_break);
        if let Some(entry) = self.listener_mut(listener) {
            entry.push_back(id);
        } else {
            link.server = ServerEnd::Closed;
            link.break_off(BrokenBy::Server);
        }
        self.wires.links.borrow_mut().push(link);
        self.trace(|| format!("{id:?} connects"));
        id
    }

    /// Connects to a peer, as the client of a worker does before it hands the socket over.
    pub(crate) fn dial(&mut self, room: usize, may_break: bool) -> (Socket, PeerId) {
        let id = PeerId(self.wires.links.borrow().len());
        let mut link = Link::new(room, may_break);
        link.server = ServerEnd::Open;
        self.wires.links.borrow_mut().push(link);
        let socket = self.open(Kind::Stream(id));
        self.trace(|| format!("{id:?} is dialed as {socket:?}"));
        (socket, id)
    }

    pub(crate) fn peer(&mut self, id: PeerId) -> Peer<'_> {
        Peer { ring: self, id }
    }
}

impl Peer<'_> {
    fn link(&self) -> RefMut<'_, Link> {
        self.ring.link(self.id)
    }

    fn trace(&self, what: impl FnOnce() -> String) {
        self.ring.trace(|| format!("{:?} {}", self.id, what()));
    }

    /// Sends a part of `bytes`, and returns how many; `None` when the connection is broken.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut link = self.link();
        assert!(!link.is_to_server_ended, "a peer writes after it shut down");
        if link.broken.is_none() && link.server == ServerEnd::Closed && !bytes.is_empty() {
            link.break_off(BrokenBy::Server);
        }
        if link.broken.is_some() {
            return None;
        }
        let was_empty = link.to_server.is_empty();
        let count = bytes.len().min(link.room.saturating_sub(link.to_server.len()));
        link.to_server.extend(&bytes[..count]);
        drop(link);
        self.trace(|| format!("writes {count} bytes"));
        if was_empty && count > 0 {
            self.ring.delay_receive(self.id);
        }
        Some(count)
    }

    pub(crate) fn read(&mut self, max: usize) -> PeerRead {
        let mut link = self.link();
        if link.broken.is_some() {
            PeerRead::Reset
        } else if !link.to_peer.is_empty() && max > 0 {
            let count = max.min(link.to_peer.len());
            let bytes = link.to_peer.drain(..count).collect();
            drop(link);
            self.trace(|| format!("reads {count} bytes"));
            PeerRead::Bytes(bytes)
        } else if link.to_peer.is_empty() && link.is_to_peer_ended {
            PeerRead::End
        } else {
            PeerRead::Nothing
        }
    }

    /// Sends no more, and still reads.
    pub(crate) fn shut_down(&mut self) {
        self.trace(|| "shuts down".into());
        self.link().is_to_server_ended = true;
        self.ring.delay_receive(self.id);
    }

    /// Breaks the connection.
    pub(crate) fn reset(&mut self) {
        self.trace(|| "resets".into());
        let mut link = self.link();
        link.break_off(BrokenBy::Peer);
        link.is_peer_gone = true;
    }

    /// Closes the socket; with bytes unread, that is a reset.
    pub(crate) fn close(&mut self) {
        self.trace(|| "closes".into());
        let mut link = self.link();
        if !link.to_peer.is_empty() {
            link.break_off(BrokenBy::Peer);
        }
        link.is_to_server_ended = true;
        link.is_peer_gone = true;
        drop(link);
        self.ring.delay_receive(self.id);
    }

    pub(crate) fn broken_by(&mut self) -> Option<BrokenBy> {
        self.link().broken
    }

    pub(crate) fn is_accepted(&mut self) -> bool {
        self.link().server != ServerEnd::Waiting
    }

    /// Whether reading would bring something.
    pub(crate) fn is_readable(&mut self) -> bool {
        let link = self.link();
        link.broken.is_some() || !link.to_peer.is_empty() || link.is_to_peer_ended
    }

    /// Whether writing would take something.
    pub(crate) fn is_writable(&mut self) -> bool {
        let link = self.link();
        link.broken.is_some()
            || link.server == ServerEnd::Closed
            || link.to_server.len() < link.room
    }
}
