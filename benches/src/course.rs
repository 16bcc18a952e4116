//! The settings of every measurement: which server, and for how long.
//!
//! What is measured, and how, is for each load to say.

use std::net::SocketAddr;
use std::time::Duration;

/// Flags of each load and each round-trip meter.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Course {
    /// Address of the server, such as 127.0.0.1:9001
    #[arg(long, value_name = "ADDR")]
    pub url_addr: SocketAddr,

    /// How long to measure
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration,
          default_value = "2s")]
    pub duration: Duration,

    /// How long to run before that
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration,
          default_value = "300ms")]
    pub warmup: Duration,
}
