//! Flags common to the clients: the driver of their loop, and how it waits.

use crate::driver::DriverFlag;
use crate::{tls, units};
use std::time::Duration;

/// Flags for a client's loop.
#[derive(Debug, clap::Args)]
pub(crate) struct LoopFlags {
    #[command(flatten)]
    pub(crate) driver: DriverFlag,

    /// Spin on the ring for this long after the last activity before sleeping, such as 50us;
    /// `always` never sleeps. Cuts a round trip to a fraction, and costs a core for each thread
    #[arg(long, value_name = "DURATION", value_parser = units::busy_poll, default_value = "0")]
    pub(crate) busy_poll: Duration,

    /// Leave the loop once connected, and sleep in the ring, which the thread then serves alone: a
    /// few microseconds less for each wake-up
    #[arg(long)]
    pub(crate) dedicated: bool,

    #[command(flatten)]
    pub(crate) tls: tls::ClientFlags,
}
