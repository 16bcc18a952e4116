//! Flags that the clients have in common: how their loop waits.

use crate::units;
use std::time::Duration;

/// How a client's loop waits.
#[derive(Debug, clap::Args)]
pub(crate) struct Waiting {
    /// Spin on the ring for this long after the last activity before sleeping, such as 50us;
    /// `always` never sleeps. Cuts a round trip to a fraction, and costs a core for each thread
    #[arg(long, value_name = "DURATION", value_parser = units::busy_poll, default_value = "0")]
    pub(crate) busy_poll: Duration,

    /// Leave the loop once connected, and sleep in the ring with nothing else on the thread: a few
    /// microseconds less for each time it is woken
    #[arg(long)]
    pub(crate) dedicated: bool,
}
