//! Receiving half of a client: the answer to its request, and frames, each of which it knows.
//!
//! Says nothing by itself but what it owes: PONG and CLOSE.

use super::{Client, ClientStage};
use crate::testing::ring::sim::{PeerId, PeerRead, SimRing};
use crate::testing::simulation::journal::{Journal, Seen};
use crate::testing::simulation::plan::ClientScript;
use crate::testing::simulation::{letters, script};
use picows_uring_proto::{
    CloseFrame, FrameHead, FrameRules, HeadLimits, MsgType, ResponseError, Role,
};
use std::time::Duration;

/// A frame that is no part of the plan.
enum Other {
    Ping(Vec<u8>),
    Command(u32),
}

impl Client {
    pub(super) fn read(
        &mut self,
        ring: &mut SimRing,
        peer: PeerId,
        now: Duration,
        journal: &Journal,
    ) -> bool {
        let max = if self.reads() { self.random.between(1, self.pace.read_max) } else { 0 };
        let Some(stream) = &mut self.stream else { return false };
        let mut bytes = match stream.read(ring, max) {
            PeerRead::Nothing => return false,
            PeerRead::Bytes(bytes) => bytes,
            PeerRead::End => {
                self.has_read_end = true;
                ring.peer(peer).close();
                self.over(now);
                return true;
            }
            PeerRead::Reset => {
                self.over(now);
                return true;
            }
        };
        self.pace.reads_at = now + self.pace.read_pause;
        if self.stage == ClientStage::Handshake {
            self.answer.append(&mut bytes);
            self.read_answer(&mut bytes);
            if self.stage == ClientStage::Open {
                self.opened_at = Some(now);
            }
        }
        if self.status == Some(101) {
            self.read_frames(&mut bytes, journal);
        }
        true
    }

    /// Reads the answer to the request, and leaves in `rest` what comes after it.
    fn read_answer(&mut self, rest: &mut Vec<u8>) {
        match self.handshake.parse_response(&self.answer, &HeadLimits::default()) {
            Ok(None) => {}
            Ok(Some((head, used))) => {
                let agreed = self.handshake.negotiated_deflate(&head);
                if let (Some(settings), Some(agreed)) = (&self.deflate, agreed) {
                    self.codec.begin(Role::Client, settings, &agreed);
                }
                self.status = Some(101);
                self.stage = ClientStage::Open;
                rest.extend_from_slice(&self.answer[used..]);
            }
            Err(ResponseError::InvalidStatus(answer)) => {
                self.status = Some(answer.head().status().as_u16());
                self.stage = ClientStage::Closed;
            }
            Err(error) => self.fail(format!("a strange answer: {error}")),
        }
    }

    fn read_frames(&mut self, bytes: &mut [u8], journal: &Journal) {
        let rules = FrameRules::default();
        let mut consumed = 0;
        loop {
            let input = &mut bytes[consumed..];
            let memory = (&mut self.decoder, &mut self.stash);
            let (seen, close, other) = match self.codec.next(memory, &rules, input) {
                Err(error) => {
                    self.breach = Some(format!("the server broke the protocol: {error}"));
                    return;
                }
                Ok(decoded) => {
                    consumed += decoded.consumed;
                    let Some(frame) = decoded.frame else { break };
                    let close = (frame.msg_type() == MsgType::Close).then(|| {
                        let reason = frame.close_reason().unwrap_or_default();
                        frame
                            .close_code()
                            .map_or(CloseFrame::empty(), |code| CloseFrame::new(code, reason))
                    });
                    let payload = frame.payload();
                    let other = match frame.msg_type() {
                        MsgType::Ping => Some(Other::Ping(payload.to_vec())),
                        _ => letters::addressee(payload).map(Other::Command),
                    };
                    (Seen::new(frame.msg_type(), frame.fin(), payload), close, other)
                }
            };
            match (close, other) {
                (Some(close), _) => self.read_close(close),
                (None, Some(Other::Ping(nonce))) => self.answer_ping(&nonce),
                (None, Some(Other::Command(to))) if to == self.id => {}
                (None, Some(Other::Command(to))) => self.fail(format!("it got a letter for {to}")),
                (None, None) => self.read_frame(seen, journal),
            }
        }
        if !self.decoder.wants_stash() {
            self.stash.clear();
        }
    }

    fn read_frame(&mut self, seen: Seen, journal: &Journal) {
        self.arrived += 1;
        let expected = if self.plan.is_echo() {
            self.take_expected(seen)
        } else {
            let record = journal.records.get(&self.id);
            record.and_then(|record| record.sent.get(self.arrived - 1).copied())
        };
        // Rubbish may happen to be a frame, which is echoed.
        if expected != Some(seen) && self.plan != ClientScript::Rubbish {
            let number = self.arrived;
            self.fail(format!("frame {number} is {seen:?} and should be {expected:?}"));
        }
    }

    /// The frame that ought to be `seen`: the next one, but that of several PINGs only the last may
    /// be answered, behind what came later (RFC 6455 §5.5.3).
    fn take_expected(&mut self, seen: Seen) -> Option<Seen> {
        let position = if seen.is_pong() {
            self.expected.iter().position(|expected| *expected == seen)
        } else {
            self.expected.iter().position(|expected| !expected.is_pong())
        };
        self.expected.remove(position?)
    }

    fn answer_ping(&mut self, nonce: &[u8]) {
        if self.stage == ClientStage::Open && !self.has_gone && self.plan != ClientScript::Silent {
            let head = FrameHead::new(MsgType::Pong);
            script::frame(&mut self.random, &mut self.out, head, nonce);
        }
    }

    fn read_close(&mut self, close: CloseFrame) {
        if self.close_sent.is_none() && !self.has_gone && self.stage < ClientStage::Closing {
            // What was not sent stays so, unless it has begun.
            close.append(&mut self.out, Some([9; 4]));
            self.close_sent = Some(close.clone());
        }
        self.close_received = Some(close);
        self.stage = ClientStage::Closed;
    }
}
