//! Hostile values of the applications of a simulation: payloads whose owners panic, send and end
//! others when they are dropped, and errors that panic when they are formatted or dropped.

use super::journal;
use super::listeners::{end_another, say};
use crate::listener::ListenerError;
use crate::status::SendStatus;
use crate::testing::ring::sim::Random;
use crate::transport::Transport;
use bytes::Bytes;
use picows_uring_proto::{FrameHead, MsgType};
use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The memory of a payload.
struct Owner {
    bytes: Vec<u8>,
    /// The library kept a reference, so it drops the last one.
    is_kept: Arc<AtomicBool>,
    seed: u64,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if !self.is_kept.load(Ordering::Relaxed) {
            return;
        }
        let mut random = Random::new(self.seed);
        match random.below(6) {
            0 => ask_all(),
            1 => say_to_another(&mut random),
            2 => end_another(&mut random, u32::MAX),
            _ => {}
        }
        if random.chance(300) {
            resume_unwind(Box::new("an owner panics"));
        }
    }
}

/// Sends a payload by reference, of an owner that does something when it is dropped.
pub(super) fn send_owned(
    random: &mut Random,
    transport: &Transport,
    head: FrameHead,
    payload: &[u8],
) -> SendStatus {
    let is_kept = Arc::<AtomicBool>::default();
    let seed = random.next();
    let owner = Owner { bytes: payload.to_vec(), is_kept: Arc::clone(&is_kept), seed };
    let payload = Bytes::from_owner(owner);
    let status = transport.send_bytes(head, &payload);
    drop(payload);
    is_kept.store(true, Ordering::Relaxed);
    status
}

fn ask_all() {
    let open: Vec<_> = journal::with(|journal| journal.open.values().cloned().collect());
    for transport in open {
        let sum = transport.queued_amount() + transport.in_flight_amount();
        assert_eq!(transport.buffered_amount(), sum);
        let _ = (transport.disconnect_cause(), transport.close_handshake());
    }
}

/// Sends on a connection in the room.
fn say_to_another(random: &mut Random) {
    let room: Vec<_> = journal::with(|journal| {
        journal.room.iter().map(|(id, transport)| (*id, transport.clone())).collect()
    });
    if room.is_empty() {
        return;
    }
    let (id, transport) = &room[random.below(room.len())];
    let payload = vec![0xDD; random.pick(&[0, 125, 3000])];
    say(random, *id, transport, FrameHead::new(MsgType::Binary), &payload);
}

/// An error of a callback.
pub(super) fn error(random: &mut Random) -> ListenerError {
    let fault =
        random.pick(&[Fault::None, Fault::DisplayFails, Fault::DisplayPanics, Fault::DropPanics]);
    ListenerError::from(HostileError(fault))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    DisplayFails,
    DisplayPanics,
    DropPanics,
}

#[derive(Debug)]
struct HostileError(Fault);

impl fmt::Display for HostileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Fault::DisplayFails => Err(fmt::Error),
            Fault::DisplayPanics => resume_unwind(Box::new("in Display")),
            Fault::None | Fault::DropPanics => f.write_str("as it was told"),
        }
    }
}

impl std::error::Error for HostileError {}

impl Drop for HostileError {
    fn drop(&mut self) {
        if self.0 == Fault::DropPanics {
            resume_unwind(Box::new("in Drop"));
        }
    }
}
