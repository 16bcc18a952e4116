//! Commands of other threads to connections, which may have ended.
//!
//! A command names its receiver, so that a wrong one notices.

use super::journal;
use crate::command::ConnectionCommand;
use crate::foreign::Foreign;
use crate::ring::Token;
use crate::testing::ring::sim::Random;
use bytes::Bytes;
use picows_uring_proto::{CloseCode, CloseFrame, FrameHead, MsgType};

/// A command to a connection that is or was there, for the worker's mailbox.
pub(super) fn draw(random: &mut Random) -> Option<(Token, ConnectionCommand)> {
    let (id, token, is_open) = journal::with(|journal| {
        let (id, token) = *journal.tokens.get(random.below(journal.tokens.len()))?;
        Some((id, token, journal.open.contains_key(&id)))
    })?;
    // Those that have ended get the command to end more often: a wrong receiver would end.
    let action = match random.below(if is_open { 40 } else { 4 }) {
        0 => ConnectionCommand::Abort,
        1 => ConnectionCommand::Disconnect,
        2 => ConnectionCommand::Close(CloseFrame::new(CloseCode::POLICY_VIOLATION, "by a letter")),
        other => {
            let text = [MARK, id.to_string().as_bytes()].concat();
            let payload = Foreign::new(Bytes::from(text));
            let head = FrameHead::new(MsgType::Binary);
            if other % 3 == 0 {
                ConnectionCommand::SendLatest(KEY, head, payload)
            } else {
                ConnectionCommand::Send(head, payload)
            }
        }
    };
    if !matches!(action, ConnectionCommand::Send(..) | ConnectionCommand::SendLatest(..)) {
        journal::with(|journal| journal.record(id).is_ended_by_us = true);
    }
    Some((token, action))
}

/// Whom a payload is for, if it is a letter.
pub(super) fn addressee(payload: &[u8]) -> Option<u32> {
    std::str::from_utf8(payload.strip_prefix(MARK)?).ok()?.parse().ok()
}

/// Of letters only: each may take the place of another.
const KEY: u64 = u64::MAX;
const MARK: &[u8] = b"\xFFa letter for ";
