//! One simulated connection: two pipes, and what each end has done to it.
//!
//! Follows TCP where it hurts: closing with unread bytes resets, and a reset takes away what the
//! other end has not read.

use super::Socket;
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) server: ServerEnd,
    /// Bytes that the peer sent and the server has not received.
    pub(super) to_server: VecDeque<u8>,
    /// The peer sends no more.
    pub(super) is_to_server_ended: bool,
    /// Bytes that the server sent and the peer has not read.
    pub(super) to_peer: VecDeque<u8>,
    /// The server sends no more.
    pub(super) is_to_peer_ended: bool,
    /// Nothing passes any more, because of whom.
    pub(super) broken: Option<BrokenBy>,
    /// The server has not been told that it is broken.
    pub(super) owes_error: bool,
    /// The peer has closed its socket.
    pub(super) is_peer_gone: bool,
    /// How much each pipe holds.
    pub(super) room: usize,
    /// The network may break it.
    pub(super) may_break: bool,
    /// The caller's end, from when it has it until it closes it.
    pub(super) socket: Option<Socket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerEnd {
    /// In the queue of the listening socket.
    Waiting,
    Open,
    Closed,
}

/// Who broke a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokenBy {
    Network,
    Peer,
    /// It closed with bytes unread, was sent bytes after it had closed, or never accepted.
    Server,
}

impl Link {
    pub(super) fn new(room: usize, may_break: bool) -> Self {
        Self {
            server: ServerEnd::Waiting,
            to_server: VecDeque::new(),
            is_to_server_ended: false,
            to_peer: VecDeque::new(),
            is_to_peer_ended: false,
            broken: None,
            owes_error: false,
            is_peer_gone: false,
            room,
            may_break,
            socket: None,
        }
    }

    pub(super) fn break_off(&mut self, by: BrokenBy) {
        if self.broken.is_none() {
            self.broken = Some(by);
            self.owes_error = true;
            self.to_server.clear();
            self.to_peer.clear();
        }
    }

    /// The server closes its socket.
    pub(super) fn close_server_end(&mut self) {
        self.server = ServerEnd::Closed;
        self.is_to_peer_ended = true;
        if !self.to_server.is_empty() {
            self.break_off(BrokenBy::Server);
        }
    }

    /// Bytes that the peer's side would take now.
    pub(super) fn room_to_peer(&self) -> usize {
        self.room.saturating_sub(self.to_peer.len())
    }

    pub(super) fn can_receive(&self) -> bool {
        self.broken.is_some() || self.is_to_server_ended || !self.to_server.is_empty()
    }

    pub(super) fn can_send(&self) -> bool {
        self.broken.is_some() || self.is_peer_gone || self.room_to_peer() > 0
    }
}
