//! Flags of automatic pings, common to all commands.

use crate::units;
use clap::ValueEnum;
use picows_uring::{AutoPing, AutoPingStrategy};
use std::time::Duration;

/// Flags of automatic pings, which detect peers that have disappeared.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct AutoPingArgs {
    /// Ping a peer that has sent nothing for IDLE, and end the connection if it does not answer
    /// within REPLY, such as 10s,5s [default: off]
    #[arg(long, value_name = "IDLE,REPLY", value_parser = timeouts)]
    auto_ping: Option<AutoPing>,

    /// When to ping: after IDLE without input, or at every IDLE whether or not there was input
    #[arg(long, value_name = "STRATEGY", default_value = "when-idle", requires = "auto_ping")]
    auto_ping_strategy: Strategy,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Strategy {
    WhenIdle,
    Periodic,
}

impl AutoPingArgs {
    /// Returns the setting of the library.
    pub(crate) fn settings(&self) -> Option<AutoPing> {
        let strategy = match self.auto_ping_strategy {
            Strategy::WhenIdle => AutoPingStrategy::WhenIdle,
            Strategy::Periodic => AutoPingStrategy::Periodic,
        };
        self.auto_ping.map(|ping| ping.with_strategy(strategy))
    }
}

fn timeouts(text: &str) -> Result<AutoPing, String> {
    let (idle, reply) =
        text.split_once(',').ok_or_else(|| "write two durations, such as 10s,5s".to_owned())?;
    let timeout =
        |part: &str| -> Result<Duration, String> { units::positive_duration(part.trim()) };
    let ping = AutoPing::new(timeout(idle)?, timeout(reply)?);
    ping.check().map(|()| ping)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_durations_are_wanted_in_their_order() {
        let ping = timeouts("2s,500ms").unwrap();
        assert_eq!(ping.idle_timeout, Duration::from_secs(2));
        assert_eq!(ping.reply_timeout, Duration::from_millis(500));
        for (text, word) in
            [("2s", "10s,5s"), ("1s,2s", "longer"), ("0s,0s", "zero"), ("a,b", "500ms")]
        {
            let error = timeouts(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
