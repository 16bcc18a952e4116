//! All simulated connections, and the way to them for a caller that is inside a callback.
//!
//! Shared by the kernel and its outlet, so that what leaves by either comes in its order.

use super::progress::errno;
use super::wire::{BrokenBy, Link};
use super::{Outlet, Random, SendBatch, Socket};
use std::cell::{Cell, RefCell};
use std::io;

#[derive(Debug)]
pub(super) struct Wires {
    /// By [`PeerId`](super::PeerId).
    pub(super) links: RefCell<Vec<Link>>,
    random: RefCell<Random>,
    /// Per mille: nothing is taken although there is room, and a part of what could be.
    faults: Cell<(u32, u32)>,
    /// Bytes that were taken at once.
    taken: Cell<u64>,
}

impl Wires {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            links: RefCell::default(),
            random: RefCell::new(Random::new(seed)),
            faults: Cell::default(),
            taken: Cell::new(0),
        }
    }

    pub(super) fn set_faults(&self, no_buffer: u32, short_send: u32) {
        self.faults.set((no_buffer, short_send));
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.get()
    }
}

/// What of `batch` a connection takes from a caller who does not wait.
fn give_now(
    link: &mut Link,
    random: &mut Random,
    (no_buffer, short_send): (u32, u32),
    batch: &SendBatch,
) -> io::Result<usize> {
    if link.broken.is_some() {
        let is_news = std::mem::take(&mut link.owes_error);
        return Err(errno(if is_news { libc::ECONNRESET } else { libc::EPIPE }));
    }
    if link.is_peer_gone {
        // It answers bytes with a reset.
        link.break_off(BrokenBy::Peer);
        return Ok(batch.len());
    }
    let room = link.room_to_peer().min(batch.len());
    if room == 0 || random.chance(no_buffer) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let is_short = random.chance(short_send);
    let count = if is_short { random.between(1, room) } else { room };
    link.to_peer.extend(batch.segments().flatten().take(count));
    Ok(count)
}

impl Outlet for Wires {
    fn send_now(&self, socket: Socket, batch: &SendBatch) -> io::Result<usize> {
        let mut links = self.links.borrow_mut();
        let link = links.iter_mut().find(|link| link.socket == Some(socket));
        let link = link.expect("an open stream, which `Checked` demands");
        let count = give_now(link, &mut self.random.borrow_mut(), self.faults.get(), batch)?;
        self.taken.set(self.taken.get() + count as u64);
        Ok(count)
    }
}
