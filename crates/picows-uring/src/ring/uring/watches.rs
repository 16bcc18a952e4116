//! Receives of large frames: the kernel says which sockets have bytes, and a poll takes those of a few.
//!
//! A receive of the ring has the bytes of all connections copied before the first is handled, and large
//! ones are in no cache by then. Here a call for each socket puts them into the same memory again and
//! again, as long as they are handled and sent before the next poll.

use super::{Completion, Op, ReceiveResult, Socket, Token, UringRing, borrow};
use crate::ring::epoll::buffers::BUFFER_BYTES as CALL_BUFFER_BYTES;
use io_uring::{opcode, types};
use rustix::net::RecvFlags;
use std::collections::VecDeque;
use std::io;

/// The sockets whose bytes are taken in their turn.
#[derive(Debug, Default)]
pub(super) struct Watches {
    /// By the slot of the token.
    watches: Vec<Option<Watch>>,
    /// How many there are.
    count: usize,
    /// Those that may have bytes, each once; perhaps some that are no more.
    ready: VecDeque<Token>,
    /// Polls that took bytes of sockets since the ring was entered.
    polls_ahead: usize,
}

#[derive(Debug)]
struct Watch {
    socket: Socket,
    generation: u32,
    /// It is on the list of those that may have bytes.
    is_listed: bool,
    /// The end of the stream is behind its bytes: no event says so again.
    is_ending: bool,
    /// The worker has cancelled it.
    is_cancelled: bool,
    /// The kernel watches no longer, though nothing has ended.
    is_over: bool,
    /// Its last completion, for which the end of the operation is awaited.
    end: Option<ReceiveResult>,
}

impl Watches {
    fn begin(&mut self, socket: Socket, token: Token) {
        let slot = token.slot as usize;
        if self.watches.len() <= slot {
            self.watches.resize_with(slot + 1, || None);
        }
        debug_assert!(self.watches[slot].is_none(), "a second receive of {token:?}");
        self.count += usize::from(self.watches[slot].is_none());
        self.watches[slot] = Some(Watch {
            socket,
            generation: token.generation,
            is_listed: false,
            is_ending: false,
            is_cancelled: false,
            is_over: false,
            end: None,
        });
    }

    fn get(&mut self, token: Token) -> Option<&mut Watch> {
        let watch = self.watches.get_mut(token.slot as usize)?.as_mut()?;
        (watch.generation == token.generation).then_some(watch)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether a socket may have bytes.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether sockets that may have bytes have their turn before what the kernel has deferred for others:
    /// for a few polls, as some never run dry.
    pub(super) fn go_first(&self) -> bool {
        self.has_ready() && self.polls_ahead < POLLS_AHEAD_MAX
    }

    /// The ring is entered.
    pub(super) fn on_enter(&mut self) {
        self.polls_ahead = 0;
    }

    /// So many polls at the most are between two that enter the ring for what the kernel has deferred.
    pub(super) fn polls_per_enter(&self) -> usize {
        if self.count > 0 { 1 + POLLS_AHEAD_MAX } else { 1 }
    }

    /// Takes no more bytes for `token`. `false` where it has no watch.
    pub(super) fn cancel(&mut self, token: Token) -> bool {
        self.get(token).map(|watch| watch.is_cancelled = true).is_some()
    }

    /// The kernel says that a socket has bytes, or watches it no longer.
    pub(super) fn on_event(
        &mut self,
        token: Token,
        result: io::Result<usize>,
        more: bool,
    ) -> Option<Completion> {
        let watch = self.get(token)?;
        watch.is_over |= !more;
        match result {
            Ok(events) if watch.end.is_none() => {
                watch.is_ending |= events & ENDING != 0;
                self.list(token);
                None
            }
            _ if more => None,
            result => {
                let end = watch.end.take().unwrap_or_else(|| match result {
                    Err(error) if error.raw_os_error() != Some(libc::ECANCELED) => {
                        ReceiveResult::Failed(error)
                    }
                    _ => ReceiveResult::Cancelled,
                });
                Some(self.ended(token, end))
            }
        }
    }

    fn list(&mut self, token: Token) {
        if let Some(watch) = self.get(token)
            && !std::mem::replace(&mut watch.is_listed, true)
        {
            self.ready.push_back(token);
        }
    }

    /// The last completion of `token`.
    fn ended(&mut self, token: Token, result: ReceiveResult) -> Completion {
        if let Some(place) = self.watches.get_mut(token.slot as usize)
            && place.take().is_some()
        {
            self.count -= 1;
        }
        Completion::Received { token, result, more: false }
    }

    /// The next that may have bytes.
    fn next(&mut self) -> Option<(Token, &mut Watch)> {
        loop {
            let token = self.ready.pop_front()?;
            if self.get(token).is_some() {
                let watch = self.get(token)?;
                watch.is_listed = false;
                return Some((token, watch));
            }
        }
    }

    /// Whether there is memory that none needs.
    pub(super) fn has_spare(&self) -> bool {
        self.count == 0 && self.watches.capacity() > 0
    }

    /// Gives memory up that none needs.
    pub(super) fn trim(&mut self) {
        if self.count == 0 {
            *self = Self::default();
        }
    }
}

impl UringRing {
    /// Has the kernel say when `socket` has bytes.
    pub(super) fn watch(&mut self, socket: Socket, token: Token) {
        self.watches.begin(socket, token);
        let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
        let watch = opcode::PollAdd::new(types::Fd(socket.0), events).multi(true).build();
        self.push(watch.user_data(Op::Watch.tag(token.pack())));
    }

    /// Takes the bytes of sockets that have some, up to as much as stays in cache, and returns `max`
    /// completions at the most.
    pub(super) fn take_in_turn(&mut self, max: usize, out: &mut Vec<Completion>) {
        let (end, mut taken) = (out.len().saturating_add(max), 0);
        self.watches.polls_ahead += 1;
        while out.len() < end && taken < BYTES_PER_POLL {
            let Some((token, watch)) = self.watches.next() else { return };
            let (socket, is_over) = (watch.socket, watch.is_over);
            if watch.end.is_some() {
                // Listed twice: a receive before it ended while its socket was on the list.
                continue;
            }
            if watch.is_cancelled {
                if is_over {
                    out.push(self.watches.ended(token, ReceiveResult::Cancelled));
                }
                continue;
            }
            let (outcome, is_full) = self.take(socket);
            if let ReceiveResult::Data(buffer) = &outcome {
                taken += buffer.len();
                if is_over {
                    out.push(self.watches.ended(token, outcome));
                    continue;
                }
                if is_full || self.watches.get(token).is_some_and(|watch| watch.is_ending) {
                    self.watches.list(token);
                }
                out.push(Completion::Received { token, result: outcome, more: true });
            } else if is_over {
                out.push(self.watches.ended(token, outcome));
            } else if !matches!(outcome, ReceiveResult::Cancelled) {
                self.end_watch(token, outcome);
            }
        }
    }

    /// Takes bytes of a socket, and whether there may be more. `Cancelled` where there are none.
    fn take(&mut self, socket: Socket) -> (ReceiveResult, bool) {
        let Some(space) = self.buffers.space(BYTES_PER_CALL) else {
            return (ReceiveResult::NoBuffer, false);
        };
        let asked = space.len();
        loop {
            match rustix::net::recv(borrow(&socket), &mut *space, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return (ReceiveResult::EndOfStream, false),
                Ok((_, count)) => {
                    let piece = self.buffers.cut(count);
                    let result = piece.map_or(ReceiveResult::NoBuffer, ReceiveResult::Data);
                    return (result, count == asked);
                }
                Err(rustix::io::Errno::AGAIN) => return (ReceiveResult::Cancelled, false),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return (ReceiveResult::Failed(error.into()), false),
            }
        }
    }

    /// The receive of `token` has ended with `result`: its last completion, when the kernel watches no longer.
    fn end_watch(&mut self, token: Token, result: ReceiveResult) {
        if let Some(watch) = self.watches.get(token) {
            watch.end = Some(result);
            self.cancel_operation(Op::Watch, token);
        }
    }

    /// Ends an operation soon, which still has its last completion.
    pub(super) fn cancel_operation(&mut self, op: Op, token: Token) {
        let operation = types::CancelBuilder::user_data(op.tag(token.pack()));
        self.push(opcode::AsyncCancel2::new(operation).build().user_data(Op::Silent.tag(0)));
    }
}

/// Events behind which a stream has an end that no other event announces.
const ENDING: usize = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as usize;
/// What one call takes at the most: a frame of 100 kB comes with one.
const BYTES_PER_CALL: usize = 128 * 1024;
/// With so many, a poll has taken enough: together with those of the last call they fit in one buffer.
const BYTES_PER_POLL: usize = 128 * 1024;
/// Polls that may take bytes of sockets before the ring is entered for what others wait for.
const POLLS_AHEAD_MAX: usize = 8;
const _: () = assert!(BYTES_PER_POLL + BYTES_PER_CALL <= CALL_BUFFER_BYTES);

#[cfg(test)]
mod tests;
