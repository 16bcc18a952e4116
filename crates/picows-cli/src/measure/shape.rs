//! Shape of a load: what its connections do, where they come from, and how fast.

use crate::source::Sources;
use std::fmt;
use std::time::Duration;

/// What the connections of a load do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Send messages, and expect their echoes.
    #[default]
    Echo,
    /// Stay open.
    Idle,
    /// Come, have a few messages echoed, and go.
    Churn,
    /// As `Echo`, beside connections that hardly read.
    Slow,
}

/// Shape of a load. That of `Default` is an echo load from the addresses that the system chooses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) mode: Mode,
    /// Stages of an open loop, in their order; empty for one rate.
    pub(crate) stages: Vec<RateStage>,
    /// Connections begun per second in total, before the load; `None` as fast as they are accepted.
    pub(crate) connect_rate: Option<f64>,
    pub(crate) sources: Option<Sources>,
    /// Messages of each connection of a churn.
    pub(crate) messages: u32,
    pub(crate) slow: SlowShape,
}

/// The slow connections of a load.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SlowShape {
    pub(crate) connections: usize,
    /// What each of them reads.
    pub(crate) bytes_per_s: u64,
}

/// One stage of an open loop: the rate goes evenly from that of the stage before to this one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RateStage {
    pub(crate) duration: Duration,
    /// The rate at its end.
    pub(crate) rate_per_s: f64,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Idle => "idle",
            Self::Churn => "churn",
            Self::Slow => "slow",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
