//! Sockets, tokens and buffers between a ring and its caller, and what may be done with each.

use crate::ring::{Completion, ListenerId, ReceiveResult, RecvBuffer, SendBatch, Socket, Token};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Book {
    /// Sockets that are open. One that a client connected is known from its first call.
    open: BTreeMap<i32, Entry>,
    /// Sockets that were closed and have not been opened again.
    closed: BTreeSet<i32>,
    /// The connection that each token was used for: no other may ever have it.
    owners: BTreeMap<u64, usize>,
    /// Sockets that were opened.
    count: usize,
    /// Pieces that the caller has, by buffer and offset; whether it keeps them.
    pieces: BTreeMap<(u16, u32), Piece>,
    /// Sockets may be opened without the ring: known from their first receive, by a new token.
    may_adopt: bool,
    /// Tokens of which completions are forged by a test.
    strays: Vec<Token>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Distinguishes it from others that have had the same descriptor.
    number: usize,
    accepting: Option<ListenerId>,
    receiving: Option<Receive>,
    sending: Option<Sending>,
    is_shut_down: bool,
}

#[derive(Clone, Copy, Debug)]
struct Receive {
    token: Token,
    is_single: bool,
}

#[derive(Clone, Copy, Debug)]
struct Sending {
    token: Token,
    /// Where the batch is, and how many bytes it has.
    address: usize,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    len: u32,
    is_kept: bool,
}

#[track_caller]
pub(super) fn demand(is_kept: bool, what: impl FnOnce() -> String) {
    assert!(is_kept, "contract of the ring broken: {}", what());
}

/// The calls.
impl Book {
    /// The socket of a call, which has to be open.
    pub(super) fn called(&mut self, call: &str, socket: Socket) {
        self.entry(call, socket);
    }

    fn entry(&mut self, call: &str, socket: Socket) -> &mut Entry {
        let is_open = !self.closed.contains(&socket.0);
        demand(is_open, || format!("{call} on {socket:?}, which is not open"));
        let count = &mut self.count;
        self.open.entry(socket.0).or_insert_with(|| {
            *count += 1;
            Entry { number: *count, ..Entry::default() }
        })
    }

    /// A token belongs to one connection, forever.
    fn check_token(&mut self, call: &str, socket: Socket, token: Token) {
        let entry = self.entry(call, socket);
        let (number, is_accepting) = (entry.number, entry.accepting.is_some());
        demand(!is_accepting, || format!("{call} on a listening socket"));
        let owner = *self.owners.entry(token.pack()).or_insert(number);
        demand(owner == number, || format!("{call}: {token:?} belongs to another connection"));
    }

    pub(super) fn accept(&mut self, socket: Socket, listener: ListenerId) {
        let entry = self.entry("accept", socket);
        let is_first = entry.accepting.replace(listener).is_none();
        demand(is_first, || format!("a second accept on {socket:?}"));
        let is_new = !self
            .open
            .iter()
            .any(|(fd, entry)| *fd != socket.0 && entry.accepting == Some(listener));
        demand(is_new, || format!("{listener:?} accepts on another socket"));
    }

    pub(super) fn receive(&mut self, socket: Socket, token: Token, is_single: bool) {
        if self.may_adopt && !self.owners.contains_key(&token.pack()) {
            self.closed.remove(&socket.0);
        }
        self.check_token("receive", socket, token);
        let receiving = &mut self.entry("receive", socket).receiving;
        let is_first = receiving.replace(Receive { token, is_single }).is_none();
        demand(is_first, || format!("a second receive on {socket:?}"));
    }

    pub(super) fn receive_now(&mut self, socket: Socket, max: usize) {
        let is_receiving = self.entry("receive_now", socket).receiving.is_some();
        demand(!is_receiving, || format!("receive_now overtakes a receive on {socket:?}"));
        demand(max > 0, || format!("no room for the bytes of {socket:?}"));
    }

    pub(super) fn send(&mut self, socket: Socket, token: Token, batch: &SendBatch) {
        self.check_token("send", socket, token);
        let entry = self.entry("send", socket);
        let sending = Sending { token, address: address_of(batch), len: batch.len() };
        let is_first = entry.sending.replace(sending).is_none();
        let is_shut_down = entry.is_shut_down;
        demand(is_first, || format!("a second send on {socket:?}"));
        demand(!is_shut_down, || format!("a send after shut_down on {socket:?}"));
        demand(!batch.is_empty(), || "an empty batch".into());
    }

    pub(super) fn send_now(&mut self, socket: Socket, batch: &SendBatch) {
        let entry = self.entry("send_now", socket);
        let (is_sending, is_shut_down) = (entry.sending.is_some(), entry.is_shut_down);
        demand(!is_sending, || format!("send_now overtakes a send on {socket:?}"));
        demand(!is_shut_down, || format!("send_now after shut_down on {socket:?}"));
        demand(!batch.is_empty(), || "an empty batch".into());
    }

    pub(super) fn cancel_receive(&self, token: Token) {
        let is_known = self.owners.contains_key(&token.pack());
        demand(is_known, || format!("cancel_receive of {token:?}, which is unknown"));
    }

    pub(super) fn shut_down(&mut self, socket: Socket) {
        let entry = self.entry("shut_down", socket);
        let (is_sending, is_accepting) = (entry.sending.is_some(), entry.accepting.is_some());
        let is_first = !std::mem::replace(&mut entry.is_shut_down, true);
        demand(!is_accepting, || "shut_down of a listening socket".into());
        demand(!is_sending, || format!("shut_down of {socket:?} in the middle of a send"));
        demand(is_first, || format!("a second shut_down of {socket:?}"));
    }

    pub(super) fn close(&mut self, socket: Socket) {
        let entry = self.entry("close", socket);
        let is_idle =
            entry.accepting.is_none() && entry.receiving.is_none() && entry.sending.is_none();
        demand(is_idle, || format!("close of {socket:?} with operations in flight"));
        self.close_on_failure(socket);
    }

    pub(super) fn close_on_failure(&mut self, socket: Socket) {
        self.called("close_on_failure", socket);
        self.open.remove(&socket.0);
        self.closed.insert(socket.0);
    }

    pub(super) fn use_buffer(&self, call: &str, buffer: &RecvBuffer) {
        let piece = self.pieces.get(&key(buffer));
        let is_there = piece.is_some_and(|piece| piece.len as usize == buffer.len());
        demand(is_there, || format!("{call} of {buffer:?}, which is released"));
    }

    pub(super) fn keep(&mut self, buffer: &RecvBuffer) {
        if let Some(piece) = self.pieces.get_mut(&key(buffer)) {
            piece.is_kept = true;
        }
    }

    pub(super) fn release(&mut self, buffer: &RecvBuffer) {
        let was_there = self.pieces.remove(&key(buffer)).is_some();
        demand(was_there, || format!("{buffer:?} is released twice"));
    }

    pub(super) fn demand_turn_is_over(&self) {
        let lent = self.pieces.values().filter(|piece| !piece.is_kept).count();
        demand(lent == 0, || format!("{lent} receive buffers are neither released nor kept"));
    }

    pub(super) fn demand_nothing_is_left(&self) {
        let open: Vec<_> = self.open.keys().collect();
        demand(open.is_empty(), || format!("sockets are left open: {open:?}"));
        demand(self.pieces.is_empty(), || "receive buffers are left".into());
    }

    #[cfg(test)]
    pub(super) fn allow_adopting(&mut self) {
        self.may_adopt = true;
    }

    #[cfg(test)]
    pub(super) fn allow_stray(&mut self, token: Token) {
        self.strays.push(token);
    }
}

/// The completions.
impl Book {
    pub(super) fn complete(&mut self, completion: &Completion) {
        match completion {
            Completion::Accepted { listener, result, more } => {
                self.accepted(*listener, result.as_ref().ok().copied(), *more);
            }
            Completion::Received { token, result, more } => self.received(*token, result, *more),
            Completion::Sent { token, result, batch } => {
                self.sent(*token, result.as_ref().ok().copied(), batch);
            }
        }
    }

    fn accepted(&mut self, listener: ListenerId, socket: Option<Socket>, more: bool) {
        let entry = self.open.values_mut().find(|entry| entry.accepting == Some(listener));
        demand(entry.is_some(), || format!("{listener:?} accepts, which was not begun"));
        demand(!more || socket.is_some(), || "more comes of an accept that failed".into());
        if let Some(entry) = entry.filter(|_| !more) {
            entry.accepting = None;
        }
        let Some(socket) = socket else { return };
        self.opened(socket);
    }

    /// A socket is new: accepted, or connected by the caller.
    pub(super) fn opened(&mut self, socket: Socket) {
        let is_new = !self.open.contains_key(&socket.0);
        demand(is_new, || format!("{socket:?} is accepted, which is open"));
        self.closed.remove(&socket.0);
        self.called("accept", socket);
    }

    fn received(&mut self, token: Token, result: &ReceiveResult, more: bool) {
        let is_stray = self.strays.iter().position(|stray| *stray == token);
        let receiving =
            |entry: &&mut Entry| entry.receiving.is_some_and(|receive| receive.token == token);
        let entry = self.open.values_mut().find(receiving);
        if let Some(index) = is_stray {
            self.strays.swap_remove(index);
        } else {
            demand(entry.is_some(), || format!("{token:?} receives, which was not begun"));
            let is_data = matches!(result, ReceiveResult::Data(_));
            demand(!more || is_data, || format!("more comes of a receive after {result:?}"));
            if let Some(entry) = entry {
                let is_single = entry.receiving.is_some_and(|receive| receive.is_single);
                demand(!more || !is_single, || "more comes of a single receive".into());
                if !more {
                    entry.receiving = None;
                }
            }
        }
        if let ReceiveResult::Data(buffer) = result {
            self.take_piece(buffer);
        }
    }

    fn take_piece(&mut self, buffer: &RecvBuffer) {
        let (id, start) = key(buffer);
        let len = buffer.len() as u32;
        demand(len > 0, || format!("{buffer:?} is empty"));
        let of_buffer = self.pieces.range((id, 0)..=(id, u32::MAX));
        let is_free = of_buffer
            .into_iter()
            .all(|((_, other), piece)| start + len <= *other || *other + piece.len <= start);
        demand(is_free, || format!("{buffer:?} is received over a piece of the caller"));
        self.pieces.insert((id, start), Piece { len, is_kept: false });
    }

    fn sent(&mut self, token: Token, count: Option<usize>, batch: &SendBatch) {
        let sending =
            |entry: &&mut Entry| entry.sending.is_some_and(|sending| sending.token == token);
        let sending = self.open.values_mut().find(sending).and_then(|entry| entry.sending.take());
        let Some(Sending { address, len, .. }) = sending else {
            return demand(false, || format!("{token:?} was sent, which was not begun"));
        };
        demand(address == address_of(batch), || format!("{token:?} gets a batch of another"));
        demand(count != Some(0), || format!("a send of {token:?} that took nothing"));
        let is_less = count.is_none_or(|count| count <= len);
        demand(is_less, || format!("{count:?} of {len} bytes of {token:?} were sent"));
    }
}

fn key(buffer: &RecvBuffer) -> (u16, u32) {
    (buffer.id(), buffer.offset())
}

fn address_of(batch: &SendBatch) -> usize {
    std::ptr::from_ref(batch) as usize
}
