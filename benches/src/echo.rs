//! Messages of one size, and what their echoes have to be.
//!
//! Encodes and compares; sockets and clocks are the load generator's.

use picows_uring_proto::{FrameHead, MsgType};

/// Masked frames, made once and stamped before each use.
///
/// Only the first eight bytes of a payload, its stamp, differ from message to message, so sending
/// costs next to nothing while a lost, repeated, swapped or foreign echo is still seen.
#[derive(Debug)]
pub struct Requests {
    frames: Vec<u8>,
    frame_bytes: usize,
    payload_start: usize,
    stamp_bytes: usize,
}

impl Requests {
    /// Up to `count_max` messages of `payload_bytes` at a time.
    #[must_use]
    pub fn new(payload_bytes: usize, count_max: usize) -> Self {
        let mut frame = Vec::new();
        FrameHead::new(MsgType::Binary).append(&mut frame, &payload(payload_bytes), Some(KEY));
        Self {
            frame_bytes: frame.len(),
            payload_start: frame.len() - payload_bytes,
            stamp_bytes: payload_bytes.min(STAMP_BYTES),
            frames: frame.repeat(count_max),
        }
    }

    /// Length of one frame on the wire.
    #[must_use]
    pub const fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// The next `count` frames, stamped with `first_stamp` and those after it.
    pub fn stamped(&mut self, first_stamp: u64, count: usize) -> &[u8] {
        let frames = &mut self.frames[..count * self.frame_bytes];
        for (frame, stamp) in frames.chunks_exact_mut(self.frame_bytes).zip(first_stamp..) {
            let masked = stamp ^ KEY_TWICE;
            frame[self.payload_start..][..self.stamp_bytes]
                .copy_from_slice(&masked.to_le_bytes()[..self.stamp_bytes]);
        }
        frames
    }
}

/// How much of an echo is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The header, and thereby the length: for servers that answer without echoing.
    Header,
    /// Header, stamp and the last bytes; every byte of one message in 64.
    Content,
}

/// The frame that answers a message, but for its stamp.
#[derive(Debug)]
pub struct Echo {
    frame: Vec<u8>,
    payload_start: usize,
    stamp_end: usize,
    check: Check,
}

impl Echo {
    /// The answer to a message of `payload_bytes`.
    #[must_use]
    pub fn new(payload_bytes: usize, check: Check) -> Self {
        let frame = ready_frame(payload_bytes);
        let payload_start = frame.len() - payload_bytes;
        let stamp_end = payload_start + payload_bytes.min(STAMP_BYTES);
        Self { frame, payload_start, stamp_end, check }
    }

    /// Length of the frame on the wire.
    #[must_use]
    pub const fn frame_bytes(&self) -> usize {
        self.frame.len()
    }

    /// Whether `chunk` is right as the part of the frame that starts at `at`.
    #[must_use]
    pub fn is_right(&self, at: usize, chunk: &[u8], stamp: u64) -> bool {
        let agrees = |start: usize, expected: &[u8]| {
            let from = start.max(at);
            let to = (start + expected.len()).min(at + chunk.len());
            from >= to || chunk[from - at..to - at] == expected[from - start..to - start]
        };
        let header = &self.frame[..self.payload_start];
        if self.check == Check::Header {
            return agrees(0, header);
        }
        let stamp_bytes = self.stamp_end - self.payload_start;
        let rest = if stamp.is_multiple_of(FULL_CHECK_EVERY) {
            self.stamp_end
        } else {
            self.stamp_end.max(self.frame.len().saturating_sub(STAMP_BYTES))
        };
        agrees(0, header)
            && agrees(self.payload_start, &stamp.to_le_bytes()[..stamp_bytes])
            && agrees(rest, &self.frame[rest..])
    }
}

/// An unmasked frame with a payload of `payload_bytes`, as a server would send it.
#[must_use]
pub fn ready_frame(payload_bytes: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    FrameHead::new(MsgType::Binary).append(&mut frame, &payload(payload_bytes), None);
    frame
}

/// Bytes whose pattern repeats with no power of two, so that a shift shows.
fn payload(payload_bytes: usize) -> Vec<u8> {
    (0..payload_bytes).map(|index| (index % 251) as u8).collect()
}

/// Length of a stamp, and of the end that is compared in each echo.
const STAMP_BYTES: usize = 8;
/// One message in so many is compared byte by byte.
const FULL_CHECK_EVERY: u64 = 64;
/// Every frame has the same key; none of its bytes is zero, so that forgetting to unmask shows.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const KEY_TWICE: u64 = u32::from_le_bytes(KEY) as u64 * 0x1_0000_0001;

#[cfg(test)]
mod tests {
    use super::*;
    use picows_uring_proto::{Endpoint, EndpointRules, Tick};

    /// What an honest server answers.
    fn echo(request: &[u8]) -> Vec<u8> {
        let mut server = Endpoint::server(&EndpointRules::default().into(), Tick::ZERO);
        server.opened(Tick::ZERO);
        let received = server.receive(Tick::ZERO, &mut request.to_vec(), |outgoing, frame| {
            let head = FrameHead::new(frame.msg_type());
            outgoing.send(head, frame.payload()).expect("the connection is open");
        });
        assert_eq!(received, Ok(()));
        server.outgoing().bytes().to_vec()
    }

    #[test]
    fn an_honest_echo_is_right_however_it_is_cut() {
        for payload_bytes in [0, 1, 7, 8, 9, 15, 16, 17, 125, 126, 256, 70_000] {
            let mut requests = Requests::new(payload_bytes, 3);
            let expected = Echo::new(payload_bytes, Check::Content);
            let answer = echo(requests.stamped(63, 3));
            assert_eq!(answer.len(), 3 * expected.frame_bytes());
            for (frame, stamp) in answer.chunks(expected.frame_bytes()).zip(63..) {
                for cut in [0, 1, 2, 5, frame.len() / 2, frame.len() - 1] {
                    let cut = cut.min(frame.len());
                    assert!(expected.is_right(0, &frame[..cut], stamp), "{payload_bytes} {cut}");
                    assert!(expected.is_right(cut, &frame[cut..], stamp), "{payload_bytes} {cut}");
                }
            }
        }
    }

    #[test]
    fn a_wrong_byte_is_seen() {
        let expected = Echo::new(256, Check::Content);
        let mut requests = Requests::new(256, 1);
        let answer = echo(requests.stamped(64, 1));
        for index in 0..answer.len() {
            let mut wrong = answer.clone();
            wrong[index] ^= 1;
            assert!(!expected.is_right(0, &wrong, 64), "byte {index}");
        }
        assert!(!expected.is_right(0, &answer, 65), "another message's stamp");
    }

    #[test]
    fn only_the_header_is_checked_of_a_ready_frame() {
        let expected = Echo::new(256, Check::Header);
        let mut frame = ready_frame(256);
        frame[100] ^= 1;
        assert!(expected.is_right(0, &frame, 64));
        frame[3] ^= 1;
        assert!(!expected.is_right(0, &frame, 64));
    }
}
