//! A header whose payload comes next, as small as it can be.
//!
//! What most headers are takes a way of its own through the checks, which [`Header`] makes one by
//! one to tell what is wrong. The two agree: a test compares them.

use crate::frame::{MsgType, Role};
use crate::header::Header;
use crate::limits::FrameRules;

/// The part of a header that the decoder keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) payload_len: u64,
    /// Of no meaning where nothing is masked.
    pub(super) key: [u8; 4],
    pub(super) msg_type: MsgType,
    pub(super) fin: bool,
    pub(super) rsv: u8,
}

// It is kept and taken with each frame.
const _: () = assert!(size_of::<Option<Pending>>() == 16);

impl Pending {
    pub(super) fn new(header: &Header) -> Self {
        let Header { payload_len, mask, msg_type, fin, rsv } = *header;
        Self { payload_len, key: mask.unwrap_or_default(), msg_type, fin, rsv }
    }

    /// The header at the start of `input` and its length, if it begins a message, without RSV
    /// bits, of less than 64 KiB, or is that of a control frame; and nothing is wrong with it. Of
    /// any other header, and of one that is not all there, this knows nothing.
    #[inline]
    pub(super) fn usual(input: &[u8], role: Role, rules: &FrameRules) -> Option<(Self, usize)> {
        let [first, second, rest @ ..] = input else { return None };
        let msg_type = MsgType::from_opcode(first & 0x7F)?;
        let fin = first & 0x80 != 0;
        // The rest of what the two bytes can tell, one by one in `Header::decode`.
        let masked = second & 0x80 != 0;
        let short_len = second & 0x7F;
        let is_in_order = masked == (role == Role::Server)
            && msg_type != MsgType::Continuation
            && (!msg_type.is_control() || (fin && short_len <= 125));
        if !is_in_order {
            return None;
        }
        let (payload_len, rest) = match short_len {
            127 => return None,
            126 => {
                let (len, rest) = rest.split_first_chunk::<2>()?;
                let len = u64::from(u16::from_be_bytes(*len));
                if len < 126 {
                    return None;
                }
                (len, rest)
            }
            short => (u64::from(short), rest),
        };
        if payload_len > rules.payload_bytes_max {
            return None;
        }
        let (key, rest) = match role {
            Role::Server => {
                let (key, rest) = rest.split_first_chunk::<4>()?;
                (*key, rest)
            }
            Role::Client => ([0; 4], rest),
        };
        let header_len = input.len() - rest.len();
        Some((Self { payload_len, key, msg_type, fin, rsv: 0 }, header_len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every start of a header, with lengths around each bound, cut everywhere.
    #[test]
    fn a_usual_header_is_what_the_careful_way_makes_of_it() {
        let rules = FrameRules { payload_bytes_max: 300, ..FrameRules::default() };
        let mut usual = 0;
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                for len in [[0, 125], [0, 126], [1, 44], [1, 45], [255, 255]] {
                    let input = [&[first, second][..], &len, &[1, 2, 3, 4, 5, 6]].concat();
                    for end in 0..=input.len() {
                        usual += usize::from(compare(&input[..end], &rules));
                    }
                }
            }
        }
        assert!(usual > 10_000, "{usual} were usual");
    }

    fn compare(input: &[u8], rules: &FrameRules) -> bool {
        let mut is_usual = false;
        for role in [Role::Server, Role::Client] {
            let careful = Header::decode(input, role, rules);
            if let Some((pending, len)) = Pending::usual(input, role, rules) {
                let (header, header_len) = careful.unwrap().expect("it is all there");
                assert_eq!((pending, len), (Pending::new(&header), header_len), "{input:?}");
                is_usual = true;
            }
        }
        is_usual
    }

    #[test]
    fn a_message_of_exactly_the_limit_is_usual_and_a_longer_one_is_not() {
        let rules = FrameRules { payload_bytes_max: 300, ..FrameRules::default() };
        let usual = |input: &[u8]| Pending::usual(input, Role::Client, &rules);
        let (pending, len) = usual(&[0x82, 126, 1, 44]).unwrap();
        assert_eq!((pending.payload_len, len), (300, 4));
        assert_eq!(usual(&[0x82, 126, 1, 45]), None);
    }

    #[test]
    fn whole_messages_and_control_frames_are_usual() {
        let rules = FrameRules::default();
        for (role, key) in [(Role::Server, Some([1, 2, 3, 4])), (Role::Client, None)] {
            for msg_type in [MsgType::Text, MsgType::Binary, MsgType::Ping, MsgType::Close] {
                for payload_len in [0, 125, 126, 65_535] {
                    if payload_len > 125 && msg_type.is_control() {
                        continue;
                    }
                    let header = Header { payload_len, mask: key, msg_type, fin: true, rsv: 0 };
                    let (bytes, len) = header.encode();
                    let usual = Pending::usual(&bytes[..len], role, &rules);
                    assert_eq!(usual, Some((Pending::new(&header), len)));
                }
            }
        }
    }
}
