//! Flags that the clients have in common: how their loop waits.

use crate::fault::Usage;
use crate::units;
use std::time::Duration;

/// How a client's loop waits.
#[derive(Debug, clap::Args)]
pub(crate) struct Waiting {
    /// Spin on the ring for this long after the last activity before sleeping, such as 50us;
    /// `always` never sleeps. Cuts a round trip to a fraction, and costs a core for each thread
    #[arg(long, value_name = "DURATION", value_parser = units::busy_poll, default_value = "0")]
    busy_poll: Duration,

    /// Refused: only a server's workers can be dedicated (see `picows echo --help`). A client needs
    /// a loop beside its ring, to connect
    #[arg(long)]
    dedicated: bool,
}

impl Waiting {
    /// # Errors
    ///
    /// When what was asked for is not there for clients.
    pub(crate) fn busy_poll(&self) -> Result<Duration, Usage> {
        if self.dedicated {
            return Err(Usage(
                "--dedicated: a client needs a loop beside its ring to connect, so it cannot be \
                 dedicated: leave the flag out, and use --busy-poll always for the shortest round \
                 trip"
                    .to_owned(),
            ));
        }
        Ok(self.busy_poll)
    }
}
