//! TLS of one connection: what it has received of it, and the sealing of what it sends.
//!
//! The queue holds plaintext. It is sealed when it goes to the socket, never before: sealed bytes can be
//! neither dropped nor moved. How received records are handled is in `connection/secure.rs`.
//!
//! A connection has up to two layers: the inner one ends at its server, the outer one at a proxy on the way
//! to it. What is sealed in the queue has all layers that there are.

use super::Session;
use crate::foreign::{StateCell, StateMut};
use crate::pool::Pool;
use crate::ring::SendBatch;
use crate::status::DisconnectCause;
use crate::tls::{Handshake, PREFIX_BYTES_MAX, RecordError, Secure};
use picows_uring_proto::{CloseCode, Phase, Stash, TlsFacts, UnderWay};
use std::cell::{Cell, OnceCell};
use std::ops::Range;
use std::sync::Arc;

/// One layer of TLS of a connection.
#[derive(Debug)]
pub(crate) struct SecureState {
    stage: StateCell<SecureStage>,
    pub(crate) input: StateCell<SecureInput>,
    facts: OnceCell<Arc<TlsFacts>>,
    /// The same, until the request is there that they are shown with.
    new_facts: StateCell<Option<Arc<TlsFacts>>>,
    /// close_notify was sealed: nothing may follow it.
    is_notified: Cell<bool>,
    /// The peer has said that it sends no more data.
    pub(crate) is_peer_notified: Cell<bool>,
}

/// Stage of a layer of TLS.
#[derive(Debug)]
pub(crate) enum SecureStage {
    Handshake(Box<Handshake>),
    Open(Box<Secure>),
    /// It failed, or is in the hands of its handshake. Nothing is sealed any more.
    Ended,
}

/// Received bytes that are not handled.
#[derive(Debug, Default)]
pub(crate) struct SecureInput {
    /// A record that the end of a piece has cut.
    pub(crate) stash: Stash,
    /// It was cut since this was last asked.
    pub(crate) is_new: bool,
    /// Its plaintext that is not handled, once it is opened.
    pub(crate) opened_stash: Range<usize>,
    /// Plaintext that the next bytes begin with, and how many bytes of its record follow it.
    pub(crate) opened: usize,
    pub(crate) behind: usize,
}

impl Session {
    /// TLS of the connection, if it has any.
    #[inline]
    pub(crate) fn secure(&self) -> Option<&SecureState> {
        self.rare_state.get()?.secure.get().map(|secure| &**secure)
    }

    /// TLS to a proxy, around all else, if there is any.
    #[inline]
    pub(crate) fn outer(&self) -> Option<&SecureState> {
        self.rare_state.get()?.outer.get().map(|outer| &**outer)
    }

    /// Whether the connection is encrypted, or about to be.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure().is_some()
    }

    /// Whether the bytes on the socket are records of TLS.
    #[inline]
    pub(crate) fn is_sealed(&self) -> bool {
        self.is_secure() || self.outer().is_some()
    }

    /// Bytes that stay free in front of frames in the queue, so that they are sealed where they lie.
    pub(super) fn record_prefix(&self) -> usize {
        if self.is_sealed() { PREFIX_BYTES_MAX } else { 0 }
    }

    /// TLS begins with `handshake`, or has ended without one.
    pub(crate) fn begin_secure(&self, handshake: Option<Handshake>) {
        let begun = handshake.map(|handshake| SecureStage::Handshake(Box::new(handshake)));
        let state = SecureState::new(begun.unwrap_or(SecureStage::Ended));
        let _ = self.rare_state().secure.set(Box::new(state));
    }

    /// All that follows goes through a proxy that is spoken to in TLS. `rest` is the beginning of its next
    /// record.
    pub(crate) fn begin_outer(&self, open: Box<Secure>, rest: &[u8]) {
        let state = SecureState::new(SecureStage::Open(open));
        if !rest.is_empty() {
            let mut stash = self.local.pool.stash();
            stash.bytes_mut().extend_from_slice(rest);
            self.local.pool.hold(&mut stash);
            state.input.borrow_mut().stash = stash;
        }
        let _ = self.rare_state().outer.set(Box::new(state));
    }

    /// Sends bytes of TLS before anything else that is not sealed yet.
    pub(crate) fn queue_sealed(&self, bytes: Vec<u8>) {
        match self.outer() {
            Some(outer) if !bytes.is_empty() => self.queue_wrapped(outer, bytes),
            _ => self.queue_wire(bytes),
        }
    }

    /// The same with bytes of the inner layer, which the outer one seals.
    fn queue_wrapped(&self, outer: &SecureState, bytes: Vec<u8>) {
        let pool = &self.local.pool;
        let mut wire = pool.buffer(0);
        let sealed = match outer.open() {
            Some(mut open) => {
                open.seal_owed(&mut wire).and_then(|()| open.seal_from(&bytes, &mut wire))
            }
            // The proxy takes no more.
            None => Ok(()),
        };
        pool.put_buffer(bytes);
        self.queue_wire(wire);
        self.judge_sealing(sealed);
    }

    /// Sends bytes as they are on the wire before anything else that is not sealed yet.
    pub(crate) fn queue_wire(&self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return self.local.pool.put_buffer(bytes);
        }
        self.open_queue().insert_sealed(bytes);
        self.mark_dirty();
    }

    /// Takes what is queued, sealed in the layers that the connection has.
    pub(super) fn take_sealed(&self) -> Option<Box<SendBatch>> {
        match (self.secure(), self.outer()) {
            (None, None) => None,
            (Some(layer), None) | (None, Some(layer)) => self.seal_queue(layer, None),
            (Some(inner), Some(outer)) => self.seal_queue(inner, Some(outer)),
        }
    }

    /// Seals what is queued in a layer, and all of that in another one `around` it.
    fn seal_queue(
        &self,
        layer: &SecureState,
        around: Option<&SecureState>,
    ) -> Option<Box<SendBatch>> {
        let pool = &self.local.pool;
        let mut plain = self.take_queue()?;
        let mut wire = pool.batch();
        plain.move_sealed(&mut wire);
        let max = SEALED_BYTES_MAX.saturating_sub(wire.len());
        let sealed = match around {
            None => layer.seal(&mut plain, &mut wire, max, pool),
            Some(outer) => {
                let mut inner = pool.batch();
                let sealed = layer
                    .seal(&mut plain, &mut inner, max, pool)
                    .and_then(|()| outer.seal(&mut inner, &mut wire, usize::MAX, pool));
                pool.put_batch(inner);
                sealed
            }
        };
        if sealed.is_err() {
            plain.clear(|segment| pool.put_segment(segment));
        }
        self.judge_sealing(sealed);
        if plain.is_empty() {
            pool.put_batch(plain);
        } else {
            self.put_back(plain);
        }
        if layer.must_close() || around.is_some_and(SecureState::must_close) {
            let cause = DisconnectCause::Tls(RecordError::KeyExhausted.to_string());
            self.fail(cause, CloseCode::GOING_AWAY, "please reconnect");
        }
        if wire.is_empty() {
            pool.put_batch(wire);
            return None;
        }
        Some(wire)
    }

    /// Ends the connection, if nothing can be sealed any more.
    fn judge_sealing(&self, sealed: Result<(), RecordError>) {
        if let Err(error) = sealed {
            self.set_cause(DisconnectCause::Tls(error.to_string()));
            self.conversation.borrow_mut().end();
            self.mark_dirty();
        }
    }

    /// Whether nothing is queued that can still be sent: before the handshake of TLS is done, that is
    /// what TLS itself has queued.
    pub(crate) fn is_wire_empty(&self) -> bool {
        let can_seal = self.layers().all(SecureState::can_send);
        if can_seal {
            return self.queued() == 0;
        }
        !self.queue.borrow().as_ref().is_some_and(|queue| queue.is_sealed())
    }

    /// Queues close_notify, if it is owed: all else was sent, and our side of the stream is about to end.
    pub(crate) fn queue_close_notify(&self) -> bool {
        if !self.is_sealed() || self.conversation.borrow().phase() != Phase::Finishing {
            return false;
        }
        let mut is_queued = false;
        for (layer, is_outer) in [(self.secure(), false), (self.outer(), true)] {
            let Some(layer) = layer.filter(|layer| !layer.is_notified.replace(true)) else {
                continue;
            };
            let mut bytes = self.local.pool.buffer(0);
            if let Some(mut open) = layer.open() {
                // Without a key nothing more can be said.
                let _ = open.seal_close_notify(&mut bytes);
            }
            is_queued |= !bytes.is_empty();
            if is_outer {
                self.queue_wire(bytes);
            } else {
                self.queue_sealed(bytes);
            }
        }
        is_queued
    }

    /// The layers of TLS, the inner one first.
    fn layers(&self) -> impl Iterator<Item = &SecureState> {
        self.secure().into_iter().chain(self.outer())
    }

    /// What TLS agreed on, once its handshake is done and if the request is kept.
    pub(crate) fn tls_facts(&self) -> Option<&Arc<TlsFacts>> {
        self.secure()?.facts.get()
    }

    /// Takes what the handshake has agreed on, for the request; it `is_kept` for handles as well.
    pub(crate) fn take_tls_facts(&self, is_kept: bool) -> Option<Arc<TlsFacts>> {
        let secure = self.secure()?;
        let facts = secure.new_facts.take()?;
        if is_kept {
            let _ = secure.facts.set(Arc::clone(&facts));
        }
        Some(facts)
    }

    /// Whether the peer has begun a record and not ended it.
    pub(crate) fn is_record_under_way(&self) -> bool {
        self.layers().any(|layer| layer.input.borrow().is_cut())
    }

    /// The record that the peer has begun and not ended.
    pub(crate) fn record_under_way(&self) -> Option<UnderWay> {
        self.layers().find_map(|layer| {
            let mut input = layer.input.borrow_mut();
            let is_new = std::mem::take(&mut input.is_new);
            input.is_cut().then(|| UnderWay { bytes: input.stash.len() as u64, is_new })
        })
    }

    /// Bytes of memory that a cut record is collected in.
    pub(crate) fn record_capacity(&self) -> usize {
        self.layers().map(|layer| layer.input.borrow().stash.capacity()).sum()
    }

    /// Gives back the memory in which a cut record is collected, with what is in it.
    pub(crate) fn release_record(&self) {
        for layer in self.layers() {
            let input = layer.input.take();
            self.local.pool.unhold(&input.stash);
            self.local.pool.put_stash(input.stash);
        }
    }
}

impl SecureInput {
    /// Whether a record has begun and not ended.
    fn is_cut(&self) -> bool {
        !self.stash.is_empty() && self.opened_stash.is_empty()
    }
}

impl SecureState {
    fn new(stage: SecureStage) -> Self {
        Self {
            stage: StateCell::new(stage),
            input: StateCell::default(),
            facts: OnceCell::new(),
            new_facts: StateCell::default(),
            is_notified: Cell::new(false),
            is_peer_notified: Cell::new(false),
        }
    }

    /// Takes the handshake out, for a step of it that may run code of the application.
    pub(crate) fn take_handshake(&self) -> Option<Box<Handshake>> {
        if !matches!(*self.stage.borrow(), SecureStage::Handshake(_)) {
            return None;
        }
        match self.stage.replace(SecureStage::Ended) {
            SecureStage::Handshake(handshake) => Some(handshake),
            _ => None,
        }
    }

    /// Goes to another stage.
    pub(crate) fn set_stage(&self, stage: SecureStage) {
        drop(self.stage.replace(stage));
    }

    /// The handshake has agreed on something: kept until the request is there.
    pub(crate) fn set_new_facts(&self, facts: TlsFacts) {
        self.new_facts.replace(Some(Arc::new(facts)));
    }

    /// The record layer, once the handshake is done.
    #[inline]
    pub(crate) fn open(&self) -> Option<StateMut<'_, Secure>> {
        self.stage.borrow_mut().filter_map(|stage| match stage {
            SecureStage::Open(secure) => Some(&mut **secure),
            _ => None,
        })
    }

    /// Whether the handshake is under way.
    pub(crate) fn is_handshaking(&self) -> bool {
        matches!(*self.stage.borrow(), SecureStage::Handshake(_))
    }

    /// Whether what is queued can be sent.
    fn can_send(&self) -> bool {
        matches!(*self.stage.borrow(), SecureStage::Open(_))
    }

    /// Whether the connection has to end, as its key has sealed as much as is safe.
    fn must_close(&self) -> bool {
        self.open().is_some_and(|open| open.must_close())
    }

    /// Seals the beginning of `plain`, about `max` bytes, behind what is in `wire`. In the handshake, nothing.
    fn seal(
        &self,
        plain: &mut SendBatch,
        wire: &mut SendBatch,
        max: usize,
        pool: &Pool,
    ) -> Result<(), RecordError> {
        let Some(mut secure) = self.open() else { return Ok(()) };
        // Behind close_notify there is nothing, and no key is wanted.
        let owes_control = secure.owes_control() && !self.is_notified.get();
        if max == 0 || (plain.is_empty() && !owes_control) {
            return Ok(());
        }
        let record_bytes_max = secure.record_bytes_max();
        let (front, behind) = (secure.prefix_bytes(), secure.suffix_bytes());
        if !owes_control
            && let Some((mut bytes, start)) = plain.take_buffer(front, behind, record_bytes_max)
        {
            // Where it lies: what a turn has queued is one buffer most of the time, and one record.
            bytes.resize(bytes.len() + behind, 0);
            secure.seal_slice(&mut bytes[start - front..])?;
            drop(secure);
            wire.insert_sealed_from(bytes, start - front);
            return Ok(());
        }
        let wanted = secure.sealed_bytes(plain.len(), record_bytes_max) + CONTROL_BYTES_MAX;
        let mut out = pool.buffer(wanted.min(max.max(CONTROL_BYTES_MAX)));
        let owed = if owes_control { secure.seal_owed(&mut out) } else { Ok(()) };
        let sealed = owed.and_then(|()| seal_records(&mut secure, plain, &mut out));
        drop(secure);
        wire.insert_sealed(out);
        plain.advance(sealed?, |segment| pool.put_segment(segment));
        Ok(())
    }
}

/// Seals as many records of `plain` as there is room for in `out`, each as full as may be. Returns how
/// many bytes of `plain` that are.
fn seal_records(
    secure: &mut Secure,
    plain: &SendBatch,
    out: &mut Vec<u8>,
) -> Result<usize, RecordError> {
    let overhead = secure.prefix_bytes() + secure.suffix_bytes();
    let record_bytes_max = secure.record_bytes_max();
    let mut segments = plain.segments();
    let (mut rest, mut sealed): (&[u8], usize) = (&[], 0);
    while sealed < plain.len() {
        let (left, free) = (plain.len() - sealed, out.capacity() - out.len());
        let mut len = record_bytes_max.min(left).min(free.saturating_sub(overhead));
        if len == 0 {
            break;
        }
        if rest.is_empty() {
            rest = segments.next().unwrap_or_default();
        }
        if rest.len() < len && secure.sealed_bytes(left, record_bytes_max) <= free {
            // What several segments have is copied. No more records than before, and the shortest is copied:
            // in front of a long payload, its header alone.
            let shortest = left - (left.div_ceil(record_bytes_max) - 1) * record_bytes_max;
            len = len.min(shortest.max(rest.len()));
        }
        if rest.len() >= len {
            let (record, behind) = rest.split_at(len);
            secure.seal_from(record, out)?;
            rest = behind;
        } else {
            // Several segments in one record: gathered where it is sealed.
            let start = out.len();
            out.resize(start + secure.prefix_bytes(), 0);
            let mut missing = len;
            while missing > 0 {
                if rest.is_empty() {
                    rest = segments.next().unwrap_or_default();
                }
                let (part, behind) = rest.split_at(missing.min(rest.len()));
                out.extend_from_slice(part);
                missing -= part.len();
                rest = behind;
                if part.is_empty() {
                    break;
                }
            }
            secure.seal_in_place(out, start)?;
        }
        sealed += len;
    }
    Ok(sealed)
}

/// Bytes of records that are sealed ahead of the kernel: what is sealed can be neither dropped nor replaced,
/// and should still be in cache when it is copied.
const SEALED_BYTES_MAX: usize = 256 * 1024;
/// More than a key update takes.
const CONTROL_BYTES_MAX: usize = 64;
