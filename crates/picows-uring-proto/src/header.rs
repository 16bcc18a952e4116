//! The frame header on the wire (RFC 6455 §5.2): decode, check, encode.
//!
//! One header at a time; what depends on the frames before it is checked in `decoder.rs`.

use crate::error::PeerMisbehaved;
use crate::frame::{MsgType, Role};
use crate::limits::{
    CONTROL_PAYLOAD_BYTES_MAX, FRAME_HEADER_BYTES_MAX, FRAME_PAYLOAD_BYTES_CLAIM_MAX, FrameRules,
};

/// A decoded frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload that follow.
    pub payload_len: u64,
    /// The masking key, when the payload is masked.
    pub mask: Option<[u8; 4]>,
    /// What the frame carries.
    pub msg_type: MsgType,
    /// Whether this is the last fragment of its message.
    pub fin: bool,
    /// RSV bits: 4 is RSV1, 2 is RSV2, 1 is RSV3.
    pub rsv: u8,
}

impl Header {
    /// Decodes the header at the start of `input` and returns its length in bytes, or `None` until
    /// more bytes arrive.
    ///
    /// `role` is ours: a server expects masks. What the first two bytes show to be wrong is
    /// reported at once, before the length or the key has arrived.
    ///
    /// ```
    /// use picows_uring_proto::{FrameRules, Header, MsgType, Role};
    ///
    /// let input = [0x81, 0x05, b'H', b'e', b'l', b'l', b'o']; // RFC 6455 §5.7
    /// let (header, len) = Header::decode(&input, Role::Client, &FrameRules::default())?.unwrap();
    /// assert_eq!((header.msg_type, header.payload_len, len), (MsgType::Text, 5, 2));
    /// # Ok::<(), picows_uring_proto::PeerMisbehaved>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the header breaks RFC 6455 or passes a limit of `rules`.
    #[inline]
    pub fn decode(
        input: &[u8],
        role: Role,
        rules: &FrameRules,
    ) -> Result<Option<(Self, usize)>, PeerMisbehaved> {
        let [first, second, rest @ ..] = input else { return Ok(None) };
        let (first, second) = (*first, *second);
        let opcode = first & 0x0F;
        let Some(msg_type) = MsgType::from_opcode(opcode) else {
            return Err(PeerMisbehaved::UnknownOpcode(opcode));
        };
        let fin = first & 0x80 != 0;
        let rsv = (first >> 4) & 0x07;
        if rsv & !rules.rsv_allowed != 0 && !is_compressed(rules, msg_type, rsv) {
            return Err(PeerMisbehaved::UnexpectedRsv);
        }
        let masked = second & 0x80 != 0;
        match role {
            Role::Server if !masked => return Err(PeerMisbehaved::UnmaskedFrame),
            Role::Client if masked => return Err(PeerMisbehaved::MaskedFrame),
            Role::Server | Role::Client => {}
        }
        let short_len = second & 0x7F;
        if msg_type.is_control() {
            if !fin {
                return Err(PeerMisbehaved::FragmentedControlFrame);
            }
            if usize::from(short_len) > CONTROL_PAYLOAD_BYTES_MAX {
                return Err(PeerMisbehaved::ControlFrameTooLong);
            }
        }
        let Some((payload_len, rest)) = decode_length(short_len, rest)? else { return Ok(None) };
        if payload_len > rules.payload_bytes_max && !msg_type.is_control() {
            return Err(PeerMisbehaved::FrameTooLarge);
        }
        let (mask, rest) = if masked {
            let Some((key, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
            (Some(*key), rest)
        } else {
            (None, rest)
        };
        let header_len = input.len() - rest.len();
        Ok(Some((Self { payload_len, mask, msg_type, fin, rsv }, header_len)))
    }

    /// Encodes the header; the first `len` bytes of the array are it.
    ///
    /// ```
    /// use picows_uring_proto::{Header, MsgType};
    ///
    /// let header = Header { payload_len: 256, mask: None, msg_type: MsgType::Binary, fin: true, rsv: 0 };
    /// let (bytes, len) = header.encode();
    /// assert_eq!(bytes[..len], [0x82, 0x7E, 0x01, 0x00]);
    /// ```
    #[inline]
    #[must_use]
    pub fn encode(&self) -> ([u8; FRAME_HEADER_BYTES_MAX], usize) {
        let mut bytes = [0; FRAME_HEADER_BYTES_MAX];
        bytes[0] = (u8::from(self.fin) << 7) | ((self.rsv & 0x07) << 4) | self.msg_type.opcode();
        let mask_bit = if self.mask.is_some() { 0x80 } else { 0 };
        let mut len = match self.payload_len {
            short @ 0..=125 => {
                bytes[1] = mask_bit | short as u8;
                2
            }
            medium @ 126..=0xFFFF => {
                bytes[1] = mask_bit | LENGTH_16;
                bytes[2..4].copy_from_slice(&(medium as u16).to_be_bytes());
                4
            }
            long => {
                bytes[1] = mask_bit | LENGTH_64;
                bytes[2..10].copy_from_slice(&long.to_be_bytes());
                10
            }
        };
        if let Some(key) = self.mask {
            bytes[len..len + 4].copy_from_slice(&key);
            len += 4;
        }
        (bytes, len)
    }
}

/// Whether the RSV bits that are not allowed otherwise say that a message is compressed: RSV1 on its
/// first frame (RFC 7692 §6).
#[cold]
const fn is_compressed(rules: &FrameRules, msg_type: MsgType, rsv: u8) -> bool {
    let begins = matches!(msg_type, MsgType::Text | MsgType::Binary);
    rules.compressed && begins && rsv & 3 & !rules.rsv_allowed == 0
}

/// Decodes the payload length whose first seven bits are `short_len`, and returns what follows it.
#[inline]
fn decode_length(short_len: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, PeerMisbehaved> {
    match short_len {
        LENGTH_16 => {
            let Some((bytes, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
            let len = u64::from(u16::from_be_bytes(*bytes));
            if len < u64::from(LENGTH_16) {
                return Err(PeerMisbehaved::NonMinimalLength16);
            }
            Ok(Some((len, rest)))
        }
        LENGTH_64 => {
            let Some((bytes, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
            let len = u64::from_be_bytes(*bytes);
            if len > FRAME_PAYLOAD_BYTES_CLAIM_MAX {
                return Err(PeerMisbehaved::LengthOverflow);
            }
            if len <= u64::from(u16::MAX) {
                return Err(PeerMisbehaved::NonMinimalLength64);
            }
            Ok(Some((len, rest)))
        }
        short => Ok(Some((u64::from(short), rest))),
    }
}

/// Says that the length follows in 16 bits (RFC 6455 §5.2).
const LENGTH_16: u8 = 126;
/// Says that the length follows in 64 bits (RFC 6455 §5.2).
const LENGTH_64: u8 = 127;

#[cfg(test)]
mod tests;
