//! Sending half of an endpoint: its sender, and bytes not yet taken.

use super::{EndpointRules, SendError, Sender};
use crate::close::CloseFrame;
use crate::conversation::Phase;
use crate::encode::FrameHead;
use crate::error::PeerMisbehaved;
#[cfg(feature = "deflate")]
use crate::extension::{Compressed, Compression, Deflate, Deflaters, NegotiatedDeflate};
use crate::frame::{Frame, MsgType, Role};
use crate::tick::Tick;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The sending side of an [`Endpoint`](super::Endpoint), lent to the application also while it
/// handles a frame.
pub struct Outgoing {
    sender: Sender,
    rules: Arc<EndpointRules>,
    /// The time of the last event.
    now: Tick,
    /// Bytes that the transport has not taken.
    bytes: Vec<u8>,
    /// Of a client; that of a server is never called.
    next_key: Box<dyn FnMut() -> [u8; 4]>,
    /// Of a connection that has agreed on permessage-deflate.
    #[cfg(feature = "deflate")]
    compression: Option<Box<(Compression, Deflaters)>>,
}

impl Outgoing {
    pub(super) fn new(
        role: Role,
        rules: Arc<EndpointRules>,
        now: Tick,
        next_key: Box<dyn FnMut() -> [u8; 4]>,
    ) -> Self {
        let sender = Sender::new(role, &rules.conversation, now);
        Self {
            sender,
            rules,
            now,
            bytes: Vec::new(),
            next_key,
            #[cfg(feature = "deflate")]
            compression: None,
        }
    }

    #[cfg(feature = "deflate")]
    pub(super) fn begin_compressing(&mut self, settings: &Deflate, agreed: &NegotiatedDeflate) {
        self.sender.begin_compressing();
        let compression = Compression::new(settings, agreed);
        self.compression = Some(Box::new((compression, Deflaters::new(1))));
    }

    /// Queues a frame, masked if we are a client.
    ///
    /// # Errors
    ///
    /// When it would break RFC 6455, or nothing may be sent; nothing was queued.
    pub fn send(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), SendError> {
        #[cfg(feature = "deflate")]
        if let Some(compression) = &mut self.compression {
            self.sender.check(head, payload.len())?;
            let (compression, deflaters) = &mut **compression;
            let compressed = compression.compress(deflaters, head, payload);
            let (head, payload) = match compressed.map_err(|_| SendError::OutOfMemory)? {
                Compressed::Plain => (head, payload),
                Compressed::Frame(head, payload) => (head, payload),
            };
            head.append(&mut self.bytes, payload, self.sender.mask_key(&mut self.next_key));
            self.sender.queued(head);
            return Ok(());
        }
        self.sender.encode(&mut self.bytes, head, payload, &mut self.next_key)
    }

    /// Queues CLOSE, if none was sent and one may be; returns whether it did. The peer has the
    /// close timeout to answer.
    pub fn send_close(&mut self, close: CloseFrame) -> bool {
        let is_sent = self.sender.send_close(&self.rules.conversation, self.now, close.clone());
        if is_sent {
            self.append_close(Some(close));
        }
        is_sent
    }

    /// Queues bytes that are no frame: HTTP.
    pub fn append_raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Ends the connection once the queued bytes are sent.
    pub fn finish(&mut self) {
        self.sender.conversation_mut().finish(&self.rules.conversation, self.now);
    }

    /// Ends the connection now; queued bytes are dropped.
    pub fn abort(&mut self) {
        self.sender.conversation_mut().end();
        self.bytes.clear();
    }

    /// Bytes for the transport, in order; see [`Endpoint::sent`](super::Endpoint::sent).
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The phase of the conversation.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.sender.phase()
    }

    pub(super) fn rules(&self) -> &EndpointRules {
        &self.rules
    }

    pub(super) const fn sender(&self) -> &Sender {
        &self.sender
    }

    pub(super) const fn sender_mut(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// What the receiving half works with.
    pub(super) fn receiving(&mut self) -> (&EndpointRules, &mut Sender) {
        (&self.rules, &mut self.sender)
    }

    pub(super) const fn set_now(&mut self, now: Tick) {
        self.now = now;
    }

    /// Drops the first `count` bytes, or all; returns how many.
    pub(super) fn take(&mut self, count: usize) -> usize {
        self.bytes.drain(..count.min(self.bytes.len())).len()
    }

    pub(super) fn answer_ping(&mut self, payload: &[u8]) {
        // Nothing is owed once our CLOSE was sent (RFC 6455 §5.5.2).
        let _ = self.send(FrameHead::new(MsgType::Pong), payload);
    }

    pub(super) fn reply_to_close(&mut self, frame: &Frame<'_>) {
        let (rules, now) = (&self.rules.conversation, self.now);
        let reply = self.sender.conversation_mut().close_reply(rules, now, frame);
        self.append_close(reply);
    }

    pub(super) fn peer_misbehaved(&mut self, error: PeerMisbehaved) {
        let close = self.sender.peer_misbehaved(&self.rules.conversation, self.now, error);
        self.append_close(close);
    }

    pub(super) fn give_up(&mut self, reason: &str, linger: Duration) {
        let (rules, now) = (&self.rules.conversation, self.now);
        let close = self.sender.conversation_mut().give_up(rules, now, reason, linger);
        self.append_close(close);
    }

    /// Appends a CLOSE that the conversation has recorded as sent.
    fn append_close(&mut self, close: Option<CloseFrame>) {
        if let Some(close) = close {
            close.append(&mut self.bytes, self.sender.mask_key(&mut self.next_key));
        }
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("sender", &self.sender)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}
