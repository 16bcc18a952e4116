//! A message sent in fragments (RFC 6455 §5.4).
//!
//! Keeps nothing but its place in the message: each fragment is queued at once.

use crate::status::SendStatus;
use crate::transport::Transport;
use picows_uring_proto::{ApiMisuse, FrameHead, MsgType};

/// A message that is sent piece by piece, for a sender who does not have it whole.
///
/// Made by [`Transport::message_writer`]. May be kept from callback to callback. Between two
/// fragments control frames can be sent, and nothing else: other messages of the connection are
/// refused until this one is finished ([`ApiMisuse::MessageUnderWay`]), a user-specific ping that
/// is a message among them.
///
/// RFC 6455 knows no way to give a message up: a writer that is dropped unfinished leaves the
/// connection fit for control frames only. Close it then.
///
/// ```
/// use picows_uring::{MsgType, Transport};
///
/// fn send_report(transport: &Transport, lines: &[String]) {
///     let mut report = transport.message_writer(MsgType::Text);
///     for line in lines {
///         report.write(line);
///     }
///     report.finish("the end");
/// }
/// ```
#[derive(Debug)]
#[must_use = "a message is complete when `finish` was called"]
pub struct MessageWriter {
    transport: Transport,
    /// Of the next fragment.
    msg_type: MsgType,
    /// Why a fragment was not queued: without it, the rest would be no message.
    lost: Option<SendStatus>,
}

impl MessageWriter {
    /// Sends the next fragment; `payload` is copied once, and may be empty or end inside a
    /// character.
    ///
    /// Once a fragment was not queued, no later one is, and each call says why.
    pub fn write(&mut self, payload: impl AsRef<[u8]>) -> SendStatus {
        self.send(payload.as_ref(), false)
    }

    /// Sends the last fragment, which may be empty.
    pub fn finish(mut self, payload: impl AsRef<[u8]>) -> SendStatus {
        self.send(payload.as_ref(), true)
    }

    /// The connection it writes to.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    fn send(&mut self, payload: &[u8], fin: bool) -> SendStatus {
        if let Some(lost) = self.lost {
            return lost;
        }
        let head = FrameHead::new(self.msg_type).with_fin(fin);
        let status = self.transport.send_frame(head, payload);
        if status.is_queued() {
            self.msg_type = MsgType::Continuation;
        } else {
            self.lost = Some(status);
        }
        status
    }
}

impl Transport {
    /// Begins a message that is sent in fragments: `msg_type` is [`MsgType::Text`] or
    /// [`MsgType::Binary`]. Nothing is sent before the first fragment.
    pub fn message_writer(&self, msg_type: MsgType) -> MessageWriter {
        let is_control = msg_type.is_control();
        let lost = is_control.then_some(SendStatus::Refused(ApiMisuse::FragmentedControlFrame));
        MessageWriter { transport: self.clone(), msg_type, lost }
    }

    /// Sends a message in the fragments that `fragments` yields; without any, an empty message.
    ///
    /// Returns what became of the first fragment that was not queued, or of the last one.
    ///
    /// ```
    /// use picows_uring::{MsgType, Transport};
    ///
    /// fn send_in_pieces(transport: &Transport, payload: &[u8]) {
    ///     transport.send_fragments(MsgType::Binary, payload.chunks(4096));
    /// }
    /// ```
    pub fn send_fragments<P: AsRef<[u8]>>(
        &self,
        msg_type: MsgType,
        fragments: impl IntoIterator<Item = P>,
    ) -> SendStatus {
        let mut writer = self.message_writer(msg_type);
        let mut fragments = fragments.into_iter();
        let Some(mut fragment) = fragments.next() else { return writer.finish([]) };
        for next in fragments {
            let status = writer.write(&fragment);
            if !status.is_queued() {
                return status;
            }
            fragment = next;
        }
        writer.finish(fragment)
    }
}
