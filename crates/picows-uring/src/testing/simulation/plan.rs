//! Plan of a client: its purpose, and how fast it goes about it.

use super::script;
use crate::testing::ring::sim::Random;
use std::time::Duration;

/// What a client has come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientScript {
    /// Says something and expects it back, each byte of it.
    Echo,
    /// The same, reading so slowly that the server may lose patience.
    Slow,
    /// The same, and reads nothing.
    Deaf,
    /// Talks to everybody in the room.
    Room,
    /// Listens to a server that sends much.
    Listen,
    /// Has the listener fail.
    Command,
    /// Breaks the protocol with one of the violations.
    Break(usize),
    /// Sends rubbish.
    Rubbish,
    /// One of the requests that do not become a WebSocket.
    Http(usize),
    /// Sends its request a byte at a time, slower than is allowed.
    Drip,
    /// Waits until the server stops.
    Idle,
    /// The same, and answers no ping.
    Silent,
}

/// How fast it writes and reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) write_max: usize,
    pub(super) write_pause: Duration,
    pub(super) read_max: usize,
    pub(super) read_pause: Duration,
    pub(super) writes_at: Duration,
    pub(super) reads_at: Duration,
}

impl ClientScript {
    pub(super) fn draw(random: &mut Random) -> Self {
        match random.below(20) {
            0..=6 => Self::Echo,
            7 => Self::Slow,
            8 => Self::Deaf,
            9..=11 => Self::Room,
            12 | 13 => Self::Listen,
            14 | 15 => Self::Command,
            16 => Self::Break(random.below(script::VIOLATIONS.len())),
            17 => random.pick(&[Self::Rubbish, Self::Drip]),
            18 => Self::Http(random.below(script::REQUESTS.len())),
            _ => random.pick(&[Self::Idle, Self::Silent]),
        }
    }

    /// Whether it ends by itself.
    pub(super) fn is_finite(self) -> bool {
        !matches!(self, Self::Idle | Self::Silent | Self::Deaf | Self::Slow)
    }

    /// Whether it sends what is in order where messages may be compressed.
    pub(super) fn breaks_by_rsv1(self) -> bool {
        matches!(self, Self::Break(index) if script::VIOLATIONS[index].0.starts_with(b"\xC1"))
    }

    pub(super) fn is_echo(self) -> bool {
        matches!(self, Self::Echo | Self::Slow | Self::Deaf | Self::Break(_) | Self::Rubbish)
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Room => "/room",
            Self::Listen => "/push",
            Self::Command => "/obey",
            Self::Idle | Self::Silent => "/mute",
            _ => "/echo",
        }
    }
}

impl Pace {
    pub(super) fn draw(plan: ClientScript, random: &mut Random) -> Self {
        let micros = Duration::from_micros;
        let mut pace = Self {
            write_max: random.pick(&[100, 1000, 20_000, 400_000]),
            write_pause: micros(random.pick(&[0, 0, 100])),
            read_max: random.pick(&[2000, 20_000, 400_000]),
            read_pause: micros(random.pick(&[0, 0, 500])),
            writes_at: Duration::ZERO,
            reads_at: Duration::ZERO,
        };
        match plan {
            ClientScript::Slow => {
                pace.read_max = 2000;
                pace.read_pause = micros(200_000);
            }
            ClientScript::Drip => {
                pace.write_max = 1;
                pace.write_pause = micros(200_000);
            }
            _ => {}
        }
        pace
    }
}
