//! Flags common to the clients: how their loop waits.

use crate::units;
use std::time::Duration;

/// Flags for the waiting of a client's loop.
#[derive(Debug, clap::Args)]
pub(crate) struct WaitFlags {
    /// Spin on the ring for this long after the last activity before sleeping, such as 50us;
    /// `always` never sleeps. Cuts a round trip to a fraction, and costs a core for each thread
    #[arg(long, value_name = "DURATION", value_parser = units::busy_poll, default_value = "0")]
    pub(crate) busy_poll: Duration,

    /// Leave the loop once connected, and sleep in the ring, which the thread then serves alone: a
    /// few microseconds less for each wake-up
    #[arg(long)]
    pub(crate) dedicated: bool,
}
