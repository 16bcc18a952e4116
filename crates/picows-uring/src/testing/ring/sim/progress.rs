//! Progress of the simulated kernel by itself: takes calls in, moves bytes, makes completions.

use super::wire::{BrokenBy, ServerEnd};
use super::{
    Completion, DESCRIPTOR_MIN, Kind, Operation, PeerId, Queued, ReceiveResult, Sending, SimRing,
    Socket, Submission, Token,
};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

impl<Name> Operation<Name> {
    /// When it may complete, if what it waits for is there, or it was cancelled.
    fn ready_at(&self, is_there: bool) -> Option<Duration> {
        (is_there || self.is_cancelled).then_some(self.gate)
    }

    fn cancel(&mut self, gate: Duration) {
        (self.is_cancelled, self.gate) = (true, gate);
    }
}

impl SimRing {
    /// Takes in what the caller has queued, in its order.
    pub(super) fn submit(&mut self) {
        while let Some(submission) = self.submissions.pop_front() {
            match submission {
                Submission::Accept(socket, listener) => {
                    let operation = self.operation(listener);
                    self.taken_in(socket).accept = Some(operation);
                }
                Submission::Receive(socket, token) => {
                    let operation = self.operation(token);
                    self.taken_in(socket).receive = Some(operation);
                }
                Submission::ReceiveOnce(socket, token) => {
                    let operation = Operation { is_single: true, ..self.operation(token) };
                    self.taken_in(socket).receive = Some(operation);
                }
                Submission::Send(socket, token, batch) => {
                    let operation = self.operation(token);
                    self.taken_in(socket).send = Some(Sending { operation, batch, sent: 0 });
                }
                Submission::CancelReceive(token) => self.cancel_receive_of(token),
                Submission::Cancel(socket) => self.cancel_all_on(socket),
                Submission::Close(socket) => self.close_now(socket),
            }
        }
    }

    /// Does what can be done on every socket, in any order.
    pub(super) fn progress(&mut self) {
        let mut sockets: Vec<_> = (0..self.sockets.len()).collect();
        self.random.shuffle(&mut sockets);
        for index in sockets {
            let socket = Socket(index as i32 + DESCRIPTOR_MIN);
            let Some(entry) = self.entry_mut(socket) else { continue };
            match entry.kind {
                Kind::Listener(_) => self.progress_accept(socket),
                Kind::Stream(peer) => {
                    let may_break = self.link(peer).may_break;
                    if may_break && self.random.chance(self.faults.reset) {
                        self.trace(|| format!("{socket:?} the network breaks {peer:?}"));
                        self.link(peer).break_off(BrokenBy::Network);
                    }
                    if self.random.chance(500) {
                        self.progress_send(socket, peer);
                        self.progress_receive(socket, peer);
                    } else {
                        self.progress_receive(socket, peer);
                        self.progress_send(socket, peer);
                    }
                }
            }
        }
    }

    /// When something will happen by itself, or the caller wants to be woken.
    pub(crate) fn next_event(&self) -> Option<Duration> {
        let gates = self.sockets.iter().flatten().flat_map(|entry| match &entry.kind {
            Kind::Listener(waiting) => {
                let accept = entry.accept.as_ref();
                [accept.and_then(|accept| accept.ready_at(!waiting.is_empty())), None]
            }
            Kind::Stream(peer) => {
                let link = &self.wires.links.borrow()[peer.0];
                let receive = entry.receive.as_ref();
                let send = entry.send.as_ref().map(|send| &send.operation);
                [
                    receive.and_then(|receive| receive.ready_at(link.can_receive())),
                    send.and_then(|send| send.ready_at(link.can_send())),
                ]
            }
        });
        gates.flatten().chain(self.deadline).min()
    }

    /// Bytes of `peer` have just arrived, or their end: a completion need not come at once.
    pub(super) fn delay_receive(&mut self, peer: PeerId) {
        let gate = self.gate();
        let of_peer =
            |entry: &&mut super::Entry| matches!(entry.kind, Kind::Stream(it) if it == peer);
        let entry = self.sockets.iter_mut().flatten().find(of_peer);
        if let Some(receive) = entry.and_then(|entry| entry.receive.as_mut()) {
            receive.gate = receive.gate.max(gate);
        }
    }

    fn gate(&mut self) -> Duration {
        if !self.random.chance(self.faults.delay) {
            return self.now;
        }
        let nanos = self.random.below(self.faults.delay_max.as_nanos() as usize + 1);
        self.now + Duration::from_nanos(nanos as u64)
    }

    fn operation<Name>(&mut self, name: Name) -> Operation<Name> {
        Operation { name, gate: self.gate(), is_cancelled: false, is_single: false }
    }

    fn taken_in(&mut self, socket: Socket) -> &mut super::Entry {
        self.entry_mut(socket).expect("a socket is open while calls on it are queued")
    }

    fn cancel_receive_of(&mut self, token: Token) {
        let gate = self.gate();
        let of_token = |entry: &&mut super::Entry| {
            entry.receive.as_ref().is_some_and(|receive| receive.name == token)
        };
        let entry = self.sockets.iter_mut().flatten().find(of_token);
        if let Some(receive) = entry.and_then(|entry| entry.receive.as_mut()) {
            receive.cancel(gate);
        }
    }

    fn cancel_all_on(&mut self, socket: Socket) {
        let gates = [self.gate(), self.gate(), self.gate()];
        let Some(entry) = self.entry_mut(socket) else { return };
        if let Some(accept) = &mut entry.accept {
            accept.cancel(gates[0]);
        }
        if let Some(receive) = &mut entry.receive {
            receive.cancel(gates[1]);
        }
        if let Some(send) = &mut entry.send {
            send.operation.cancel(gates[2]);
        }
    }

    fn close_now(&mut self, socket: Socket) {
        self.trace(|| format!("{socket:?} closed"));
        let index = (socket.0 - DESCRIPTOR_MIN) as usize;
        let Some(entry) = self.sockets[index].take() else { return };
        match entry.kind {
            Kind::Stream(peer) => self.link(peer).close_server_end(),
            Kind::Listener(waiting) => {
                for peer in waiting {
                    self.link(peer).close_server_end();
                    self.link(peer).break_off(BrokenBy::Server);
                }
            }
        }
    }

    fn complete(&mut self, socket: Socket, completion: Completion) {
        self.completions.push_back(Queued { socket, completion });
    }

    fn progress_accept(&mut self, socket: Socket) {
        for _ in 0..BURST_MAX {
            let now = self.now;
            let Some(entry) = self.entry_mut(socket) else { return };
            let Some(accept) = entry.accept.take_if(|accept| accept.gate <= now) else { return };
            let Kind::Listener(waiting) = &entry.kind else { return };
            let is_wanted = !waiting.is_empty();
            let listener = accept.name;
            if accept.is_cancelled && !(is_wanted && self.random.chance(self.faults.race)) {
                let result = Err(errno(libc::ECANCELED));
                self.complete(socket, Completion::Accepted { listener, result, more: false });
                return;
            }
            if !is_wanted {
                self.taken_in(socket).accept = Some(accept);
                return;
            }
            if let Some(failure) = self.draw_accept_failure() {
                if failure == libc::ECONNABORTED
                    && let Some(peer) = self.listener_mut(socket).and_then(VecDeque::pop_front)
                {
                    self.link(peer).break_off(BrokenBy::Network);
                    self.link(peer).close_server_end();
                }
                let result = Err(errno(failure));
                self.complete(socket, Completion::Accepted { listener, result, more: false });
                return;
            }
            let peer = self.listener_mut(socket).and_then(VecDeque::pop_front);
            let peer = peer.expect("somebody waits");
            self.link(peer).server = ServerEnd::Open;
            let stream = self.open(Kind::Stream(peer));
            self.trace(|| format!("{peer:?} is accepted as {stream:?}"));
            let more = !self.random.chance(self.faults.accept_ends);
            if more {
                let gate = self.gate();
                self.taken_in(socket).accept = Some(Operation { gate, ..accept });
            }
            self.complete(socket, Completion::Accepted { listener, result: Ok(stream), more });
            if !more {
                return;
            }
        }
    }

    fn draw_accept_failure(&mut self) -> Option<i32> {
        if self.descriptors() >= self.faults.descriptors_max {
            return Some(libc::EMFILE);
        }
        let errors = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::EINTR, libc::ECONNABORTED];
        self.random.chance(self.faults.accept_fails).then(|| self.random.pick(&errors))
    }

    fn progress_receive(&mut self, socket: Socket, peer: PeerId) {
        for _ in 0..self.random.between(1, BURST_MAX) {
            let now = self.now;
            let entry = self.taken_in(socket);
            let Some(receive) = entry.receive.take_if(|receive| receive.gate <= now) else {
                return;
            };
            let has_bytes = !self.link(peer).to_server.is_empty();
            let races = receive.is_cancelled && has_bytes && self.random.chance(self.faults.race);
            let can_receive = self.link(peer).can_receive();
            if !receive.is_cancelled && !can_receive {
                self.taken_in(socket).receive = Some(receive);
                return;
            }
            let token = receive.name;
            let result = if receive.is_cancelled && !races {
                ReceiveResult::Cancelled
            } else {
                self.receive_now(peer)
            };
            let more = matches!(result, ReceiveResult::Data(_))
                && !receive.is_single
                && !self.random.chance(self.faults.receive_ends);
            if more {
                let outlives = self.random.chance(self.faults.outlive);
                let is_cancelled = receive.is_cancelled && !outlives;
                let gate = self.gate();
                self.taken_in(socket).receive = Some(Operation { gate, is_cancelled, ..receive });
            }
            self.complete(socket, Completion::Received { token, result, more });
        }
    }

    /// What the caller gets that asks for what is there.
    pub(super) fn take_now(&mut self, peer: PeerId, max: usize) -> io::Result<Vec<u8>> {
        let mut links = self.wires.links.borrow_mut();
        let link = &mut links[peer.0];
        if std::mem::take(&mut link.owes_error) {
            return Err(errno(libc::ECONNRESET));
        }
        let count = max.min(link.to_server.len());
        let is_nothing = count == 0 && !link.is_to_server_ended && link.broken.is_none();
        if is_nothing || self.random.chance(self.faults.no_buffer) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = if count > 0 && self.random.chance(self.faults.cut) {
            self.random.between(1, count)
        } else {
            count
        };
        Ok(link.to_server.drain(..count).collect())
    }

    /// What a receive brings from a connection that has something to bring.
    fn receive_now(&mut self, peer: PeerId) -> ReceiveResult {
        let mut links = self.wires.links.borrow_mut();
        let link = &mut links[peer.0];
        if std::mem::take(&mut link.owes_error) {
            return ReceiveResult::Failed(errno(libc::ECONNRESET));
        }
        if link.to_server.is_empty() {
            return ReceiveResult::EndOfStream;
        }
        if self.random.chance(self.faults.no_buffer) {
            return ReceiveResult::NoBuffer;
        }
        let max = if self.random.chance(self.faults.cut) {
            self.random.between(1, link.to_server.len().min(self.faults.buffer_bytes))
        } else {
            usize::MAX
        };
        match self.buffers.fill(&mut self.random, &mut link.to_server, max) {
            Some(buffer) => ReceiveResult::Data(buffer),
            None => ReceiveResult::NoBuffer,
        }
    }

    fn progress_send(&mut self, socket: Socket, peer: PeerId) {
        let now = self.now;
        let entry = self.taken_in(socket);
        let Some(mut send) = entry.send.take_if(|send| send.operation.gate <= now) else { return };
        let mut links = self.wires.links.borrow_mut();
        let link = &mut links[peer.0];
        let token = send.operation.name;
        let outcome = if link.broken.is_some() {
            let is_news = std::mem::take(&mut link.owes_error);
            Some(Err(errno(if is_news { libc::ECONNRESET } else { libc::EPIPE })))
        } else if send.operation.is_cancelled && !self.random.chance(self.faults.race) {
            Some(Err(errno(libc::ECANCELED)))
        } else {
            let left = send.batch.len() - send.sent;
            let mut count = left.min(if link.is_peer_gone { left } else { link.room_to_peer() });
            let is_short = self.random.chance(self.faults.short_send);
            if is_short && count > 0 {
                count = self.random.between(1, count);
            }
            let bytes = send.batch.segments().flatten().skip(send.sent).take(count);
            if link.is_peer_gone {
                // It answers bytes with a reset.
                link.break_off(BrokenBy::Peer);
            } else {
                link.to_peer.extend(bytes);
            }
            send.sent += count;
            let is_over = count == left || (is_short && count > 0);
            (is_over || send.operation.is_cancelled).then(|| match send.sent {
                0 => Err(errno(libc::ECANCELED)),
                sent => Ok(sent),
            })
        };
        drop(links);
        match outcome {
            // Bytes that have left are reported before what went wrong after them.
            Some(result) => {
                let result = if send.sent > 0 { Ok(send.sent) } else { result };
                self.complete(socket, Completion::Sent { token, result, batch: send.batch });
            }
            None => {
                send.operation.gate = self.gate();
                self.taken_in(socket).send = Some(send);
            }
        }
    }
}

pub(super) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// Completions of one operation at a time.
const BURST_MAX: usize = 8;
