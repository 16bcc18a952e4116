//! Frames out: the three ways a payload gets behind its header.
//!
//! Works on vectors that the caller owns. Whether a frame may be sent at all is decided in
//! `conversation.rs`.

use crate::close::CloseFrame;
use crate::frame::MsgType;
use crate::header::Header;
use crate::limits::{CLOSE_REASON_BYTES_MAX, CONTROL_PAYLOAD_BYTES_MAX, FRAME_HEADER_BYTES_MAX};
use crate::mask;
use crate::misuse::ApiMisuse;

/// The header of a frame to be sent, without its length.
///
/// ```
/// use picows_uring_proto::{FrameHead, MsgType};
///
/// let head = FrameHead::new(MsgType::Text).with_fin(false);
/// let mut out = Vec::new();
/// head.append(&mut out, b"Hel", None);
/// assert_eq!(out, b"\x01\x03Hel"); // RFC 6455 §5.7
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameHead {
    /// What the frame carries.
    pub msg_type: MsgType,
    /// Whether this is the last fragment of its message.
    pub fin: bool,
    /// RSV bits: 4 is RSV1, 2 is RSV2, 1 is RSV3.
    pub rsv: u8,
    /// Whether the message is compressed, on a connection that has agreed on permessage-deflate;
    /// `None` leaves it to the settings of the connection.
    pub compressed: Option<bool>,
}

impl FrameHead {
    /// A whole message of one frame.
    #[must_use]
    pub const fn new(msg_type: MsgType) -> Self {
        Self { msg_type, fin: true, rsv: 0, compressed: None }
    }

    /// The same, to be compressed or not where the connection has agreed on permessage-deflate
    /// (RFC 7692), whatever its settings say. Off for secrets that are sent beside text of an
    /// attacker's choice: the length of what is compressed betrays what the two have in common.
    /// Of a message in fragments, the head of the first counts.
    #[must_use]
    pub const fn compressed(mut self, compressed: bool) -> Self {
        self.compressed = Some(compressed);
        self
    }

    /// The same with another FIN bit.
    #[must_use]
    pub const fn with_fin(mut self, fin: bool) -> Self {
        self.fin = fin;
        self
    }

    /// The same with these RSV bits.
    #[must_use]
    pub const fn with_rsv(mut self, rsv: u8) -> Self {
        self.rsv = rsv;
        self
    }

    /// The header of a message in one frame without RSV bits, of less than 64 KiB and not masked: its
    /// bytes, and how many of them there are. `None` for any other frame.
    ///
    /// [`check`](Self::check) has nothing against such a frame. Where most frames are of this kind,
    /// asking here first is the shorter way.
    ///
    /// ```
    /// use picows_uring_proto::{FrameHead, MsgType};
    ///
    /// let head = FrameHead::new(MsgType::Binary);
    /// assert_eq!(head.encode_short_header(1000), Some(([0x82, 126, 0x03, 0xE8], 4)));
    /// assert_eq!(head.encode_short_header(100), Some(([0x82, 100, 0, 0], 2)));
    /// assert_eq!(head.with_fin(false).encode_short_header(100), None);
    /// ```
    #[doc(hidden)] // For the crates of this project, and not promised.
    #[inline]
    #[must_use]
    pub const fn encode_short_header(&self, payload_len: usize) -> Option<([u8; 4], usize)> {
        let is_usual = matches!(self.msg_type, MsgType::Text | MsgType::Binary);
        if !is_usual || !self.fin || self.rsv != 0 {
            return None;
        }
        let first = 0x80 | self.msg_type.opcode();
        match payload_len {
            0..=125 => Some(([first, payload_len as u8, 0, 0], 2)),
            126..=0xFFFF => {
                let [high, low] = (payload_len as u16).to_be_bytes();
                Some(([first, 126, high, low], 4))
            }
            _ => None,
        }
    }

    /// Checks that such a frame of `payload_len` bytes may be sent (RFC 6455 §5.5).
    ///
    /// # Errors
    ///
    /// When it would break RFC 6455.
    #[inline]
    pub const fn check(&self, payload_len: usize) -> Result<(), ApiMisuse> {
        if self.rsv > 7 {
            return Err(ApiMisuse::InvalidRsv(self.rsv));
        }
        if self.msg_type.is_control() {
            if !self.fin {
                return Err(ApiMisuse::FragmentedControlFrame);
            }
            if payload_len > CONTROL_PAYLOAD_BYTES_MAX {
                return Err(ApiMisuse::ControlPayloadTooLong(payload_len));
            }
        }
        Ok(())
    }

    /// Checks that such a frame may be sent now, when `is_message_open` says whether a fragmented
    /// message of ours is under way, and returns whether one is afterwards (RFC 6455 §5.4).
    ///
    /// ```
    /// use picows_uring_proto::{ApiMisuse, FrameHead, MsgType};
    ///
    /// let begins = FrameHead::new(MsgType::Text).with_fin(false);
    /// assert_eq!(begins.check_order(false), Ok(true));
    /// assert_eq!(begins.check_order(true), Err(ApiMisuse::MessageUnderWay));
    /// ```
    ///
    /// # Errors
    ///
    /// When it would break RFC 6455.
    #[inline]
    pub const fn check_order(&self, is_message_open: bool) -> Result<bool, ApiMisuse> {
        match (self.msg_type, is_message_open) {
            (MsgType::Text | MsgType::Binary, true) => Err(ApiMisuse::MessageUnderWay),
            (MsgType::Continuation, false) => Err(ApiMisuse::UnexpectedContinuation),
            (MsgType::Text | MsgType::Binary | MsgType::Continuation, _) => Ok(!self.fin),
            (MsgType::Close | MsgType::Ping | MsgType::Pong, _) => Ok(is_message_open),
        }
    }

    /// Appends the frame to `out`; the payload is copied once, masked on the way if there is a
    /// `key`.
    #[inline]
    pub fn append(&self, out: &mut Vec<u8>, payload: &[u8], key: Option<[u8; 4]>) {
        out.reserve(FRAME_HEADER_BYTES_MAX + payload.len());
        self.append_header(out, payload.len(), key);
        match key {
            Some(key) => mask::copy_at(out, payload, key, 0),
            None => out.extend_from_slice(payload),
        }
    }

    /// Appends only the header of a frame whose payload of `payload_len` bytes goes another way.
    #[inline]
    pub fn append_header(&self, out: &mut Vec<u8>, payload_len: usize, key: Option<[u8; 4]>) {
        let (bytes, len) = self.encode_header(payload_len, key);
        // All of it, and back: a copy whose length is fixed is two moves, and not a call.
        let end = out.len() + len;
        out.extend_from_slice(&bytes);
        out.truncate(end);
    }

    /// The header by itself: its bytes, and how many of them there are.
    ///
    /// ```
    /// use picows_uring_proto::{FrameHead, MsgType};
    ///
    /// let (bytes, len) = FrameHead::new(MsgType::Binary).encode_header(1000, None);
    /// assert_eq!(bytes[..len], [0x82, 126, 0x03, 0xE8]);
    /// ```
    #[inline]
    #[must_use]
    pub fn encode_header(
        &self,
        payload_len: usize,
        key: Option<[u8; 4]>,
    ) -> ([u8; FRAME_HEADER_BYTES_MAX], usize) {
        self.header(payload_len, key).encode()
    }

    /// Writes the header in front of the payload that starts at `payload_start` of `buffer`,
    /// masks the payload where it lies if there is a `key`, and returns where the frame starts.
    ///
    /// # Errors
    ///
    /// When there is less than 14 bytes of room in front of the payload, or it starts past the
    /// end.
    pub fn prepend(
        &self,
        buffer: &mut [u8],
        payload_start: usize,
        key: Option<[u8; 4]>,
    ) -> Result<usize, ApiMisuse> {
        if payload_start < FRAME_HEADER_BYTES_MAX {
            return Err(ApiMisuse::HeadroomTooSmall(payload_start));
        }
        let buffer_len = buffer.len();
        let Some((front, payload)) = buffer.split_at_mut_checked(payload_start) else {
            return Err(ApiMisuse::HeadroomPastEnd { start: payload_start, len: buffer_len });
        };
        let (bytes, len) = self.header(payload.len(), key).encode();
        let start = payload_start - len;
        front[start..].copy_from_slice(&bytes[..len]);
        if let Some(key) = key {
            mask::apply(payload, key);
        }
        Ok(start)
    }

    const fn header(&self, payload_len: usize, mask: Option<[u8; 4]>) -> Header {
        Header {
            payload_len: payload_len as u64,
            mask,
            msg_type: self.msg_type,
            fin: self.fin,
            rsv: self.rsv,
        }
    }
}

impl CloseFrame {
    /// Appends the CLOSE frame to `out`, masked if there is a `key`.
    ///
    /// ```
    /// use picows_uring_proto::{CloseCode, CloseFrame};
    ///
    /// let mut out = Vec::new();
    /// CloseFrame::new(CloseCode::NORMAL, "bye").append(&mut out, None);
    /// assert_eq!(out, b"\x88\x05\x03\xe8bye");
    /// ```
    pub fn append(&self, out: &mut Vec<u8>, key: Option<[u8; 4]>) {
        let mut payload = [0; CONTROL_PAYLOAD_BYTES_MAX];
        let len = match self.code() {
            Some(code) => {
                let reason = self.reason().as_bytes();
                payload[..2].copy_from_slice(&code.get().to_be_bytes());
                payload[2..2 + reason.len()].copy_from_slice(reason);
                2 + reason.len()
            }
            None => 0,
        };
        FrameHead::new(MsgType::Close).append(out, &payload[..len], key);
    }
}

// `CloseFrame::new` cuts reasons to this, so the payload above has room for them.
const _: () = assert!(2 + CLOSE_REASON_BYTES_MAX == CONTROL_PAYLOAD_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close::CloseCode;

    #[test]
    fn control_frames_are_checked_before_they_are_sent_rfc6455_5_5() {
        let ping = FrameHead::new(MsgType::Ping);
        assert_eq!(ping.check(125), Ok(()));
        assert_eq!(ping.check(126), Err(ApiMisuse::ControlPayloadTooLong(126)));
        assert_eq!(ping.with_fin(false).check(0), Err(ApiMisuse::FragmentedControlFrame));
        assert_eq!(
            FrameHead::new(MsgType::Text).with_rsv(8).check(0),
            Err(ApiMisuse::InvalidRsv(8))
        );
        assert_eq!(FrameHead::new(MsgType::Text).with_fin(false).check(1 << 20), Ok(()));
    }

    #[test]
    fn a_usual_header_is_what_the_other_way_makes_of_it() {
        let mut usual = 0;
        for opcode in [0, 1, 2, 8, 9, 10] {
            let msg_type = MsgType::from_opcode(opcode).unwrap();
            for (fin, rsv) in [(true, 0), (false, 0), (true, 4), (true, 8)] {
                let head = FrameHead::new(msg_type).with_fin(fin).with_rsv(rsv);
                for len in [0, 1, 125, 126, 127, 255, 256, 65_535, 65_536] {
                    let Some((short, short_len)) = head.encode_short_header(len) else { continue };
                    let (bytes, bytes_len) = head.encode_header(len, None);
                    assert_eq!(short[..short_len], bytes[..bytes_len], "{head:?} {len}");
                    assert_eq!(head.check(len), Ok(()));
                    assert_eq!(head.check_order(false), Ok(false));
                    usual += 1;
                }
            }
        }
        assert_eq!(usual, 2 * 8, "whole text and binary messages, and no others");
    }

    #[test]
    fn fragments_of_two_messages_are_not_mixed_rfc6455_5_4() {
        let head = FrameHead::new;
        for control in [MsgType::Ping, MsgType::Pong, MsgType::Close] {
            for is_open in [false, true] {
                assert_eq!(head(control).check_order(is_open), Ok(is_open));
            }
        }
        for data in [MsgType::Text, MsgType::Binary] {
            for fin in [false, true] {
                assert_eq!(head(data).with_fin(fin).check_order(false), Ok(!fin));
                let mixed = head(data).with_fin(fin).check_order(true);
                assert_eq!(mixed, Err(ApiMisuse::MessageUnderWay));
            }
        }
        for fin in [false, true] {
            let next = head(MsgType::Continuation).with_fin(fin);
            assert_eq!(next.check_order(true), Ok(!fin));
            assert_eq!(next.check_order(false), Err(ApiMisuse::UnexpectedContinuation));
        }
    }

    #[test]
    fn a_frame_in_front_of_its_payload_equals_a_copied_one() {
        for key in [None, Some([1, 2, 3, 4])] {
            for len in [0, 1, 125, 126, 65_535, 65_536] {
                let payload: Vec<u8> = (0..len).map(|index| index as u8).collect();
                let head = FrameHead::new(MsgType::Binary);
                let mut copied = Vec::new();
                head.append(&mut copied, &payload, key);
                let mut buffer = vec![0xEE; FRAME_HEADER_BYTES_MAX];
                buffer.extend_from_slice(&payload);
                let start = head.prepend(&mut buffer, FRAME_HEADER_BYTES_MAX, key).unwrap();
                assert_eq!(buffer[start..], copied, "len={len}");
                assert!(buffer[..start].iter().all(|byte| *byte == 0xEE), "room is left alone");
            }
        }
    }

    #[test]
    fn headroom_is_checked() {
        let head = FrameHead::new(MsgType::Binary);
        let mut buffer = [0; 20];
        assert_eq!(head.prepend(&mut buffer, 13, None), Err(ApiMisuse::HeadroomTooSmall(13)));
        let past = Err(ApiMisuse::HeadroomPastEnd { start: 21, len: 20 });
        assert_eq!(head.prepend(&mut buffer, 21, None), past);
        assert!(head.prepend(&mut buffer, 20, None).is_ok(), "an empty payload at the very end");
    }

    #[test]
    fn the_longest_close_fits() {
        let mut out = Vec::new();
        CloseFrame::new(CloseCode::NORMAL, &"x".repeat(200)).append(&mut out, None);
        assert_eq!(out.len(), 2 + CONTROL_PAYLOAD_BYTES_MAX);
        out.clear();
        CloseFrame::empty().append(&mut out, None);
        assert_eq!(out, b"\x88\x00");
    }
}
