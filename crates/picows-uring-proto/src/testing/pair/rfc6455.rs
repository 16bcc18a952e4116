//! A test for each MUST and MUST NOT of RFC 6455 that concerns an endpoint, by section.
//!
//! Each begins with its section and with what is asked, from which docs/CONFORMANCE.md is made.
//! Breadth, not depth: corner cases are tested beside each part.

use super::*;
use crate::encode::FrameHead;
use crate::error::PeerMisbehaved;
use crate::frame::MsgType;

mod closing;
mod framing;
mod handshake;

const ROLES: [Role; 2] = [Role::Server, Role::Client];
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// FIN and opcode, the first byte of a frame.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

/// A frame of less than 126 bytes as it arrives at `hearer`, put together by hand.
fn frame(hearer: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u8;
    assert!(len < 126);
    match hearer {
        Role::Client => [&[first, len][..], payload].concat(),
        Role::Server => {
            let masked = payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key);
            [&[first, len | 0x80][..], &KEY, &masked.collect::<Vec<_>>()].concat()
        }
    }
}

fn other(role: Role) -> Role {
    if role == Role::Client { Role::Server } else { Role::Client }
}

impl Pair {
    fn end(&self, role: Role) -> &End {
        if role == Role::Client { &self.client } else { &self.server }
    }

    fn end_mut(&mut self, role: Role) -> &mut End {
        if role == Role::Client { &mut self.client } else { &mut self.server }
    }

    /// What has been said by one end since it was last asked.
    fn said_by(&mut self, role: Role) -> Vec<u8> {
        self.end_mut(role).take_wire()
    }
}

/// What `hearer` makes of `bytes` that its peer says after the handshake, at every split.
fn hear(hearer: Role, rules: &Rules, bytes: &[u8]) -> Pair {
    at_every_split(|delivery| {
        let mut pair = Pair::open_with(delivery, rules);
        pair.end_mut(other(hearer)).sender().append_raw(bytes);
        pair.deliver();
        pair
    })
}

/// `hearer` delivers the frames before, fails the connection with `error` and its close code, and
/// says and hears nothing after that.
#[track_caller]
fn assert_fails(hearer: Role, rules: &Rules, bytes: &[u8], error: PeerMisbehaved) -> Pair {
    let late = frame(hearer, TEXT, b"late");
    let pair = hear(hearer, rules, &[bytes, &late].concat());
    let events = pair.end(hearer).events();
    let [.., failed, Event::Disconnected] = events else { panic!("{hearer:?}: {events:?}") };
    assert_eq!(failed, &Event::PeerMisbehaved(error), "{hearer:?}");
    assert!(pair.end(hearer).frames().iter().all(|(.., payload)| *payload != b"late"));
    let close = pair.end(other(hearer)).close_handshake().expect("it was told");
    let told = close.received.as_ref().expect("it was told");
    assert_eq!((told.code(), told.reason()), (Some(error.close_code()), &*error.to_string()));
    pair
}

/// `hearer` delivers `bytes` as these frames, and the connection stays open.
#[track_caller]
fn assert_hears(hearer: Role, rules: &Rules, bytes: &[u8], frames: &[(MsgType, bool, &[u8])]) {
    let pair = hear(hearer, rules, bytes);
    assert_eq!(pair.end(hearer).frames(), frames, "{hearer:?}");
    assert_eq!(pair.end(hearer).phase(), crate::conversation::Phase::Open);
}
