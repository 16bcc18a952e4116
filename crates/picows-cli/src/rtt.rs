//! `picows rtt`: the round-trip meter, one message at a time on one connection.

use crate::client::LoopFlags;
use crate::deflate::DeflateArgs;
use crate::fault::{Fault, Usage};
use crate::measure::{Filler, LoadPlan, Shape, measure};
use crate::proxy::{ProxyFlag, ProxyTlsFlags};
use crate::report::{Outputs, Report};
use crate::units;
use std::path::PathBuf;
use std::time::Duration;

/// Measure round trips to an echo server: one connection, one message in flight
///
/// The next message is sent from the callback that received the echo, as in the echo benchmark of
/// Python's picows. Every echo is checked; see `picows load --help`, also for signals and the exit
/// status.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server, such as ws://127.0.0.1:9001/ or ws+unix:/run/picows.sock
    url: String,

    /// Length of a message, such as 256 or 64KiB
    #[arg(short, long, value_name = "BYTES", value_parser = units::size, default_value = "256")]
    size: u64,

    /// Length of the measurement
    #[arg(short, long, value_name = "DURATION", value_parser = units::positive_duration,
          default_value = "5s")]
    duration: Duration,

    /// Length of the warm-up before it
    #[arg(short, long, value_name = "DURATION", value_parser = units::duration,
          default_value = "500ms")]
    warmup: Duration,

    /// Connect through a proxy: `http://[USER:PASSWORD@]HOST[:PORT]`, or https, socks5h, socks5,
    /// socks4a or socks4; `env` takes the one that https_proxy and its kin name, `none` connects directly
    #[arg(long, value_name = "URL|env|none", default_value = "none")]
    proxy: ProxyFlag,

    #[command(flatten)]
    proxy_tls: ProxyTlsFlags,

    /// What messages are made of: `random` bytes, or text like the `json` of a market feed, which
    /// compresses
    #[arg(long, value_enum, default_value_t = Filler::Random)]
    payload: Filler,

    #[command(flatten)]
    deflate: DeflateArgs,

    #[command(flatten)]
    event_loop: LoopFlags,

    /// Write the figures to FILE as JSON, named as those of `load`; `-` is standard output, and the
    /// table is then written to standard error
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures, and prints the report.
pub(crate) fn run(args: Args) -> Result<(), Fault> {
    let plan = LoadPlan {
        driver: args.event_loop.driver,
        busy_poll: args.event_loop.busy_poll,
        is_dedicated: args.event_loop.dedicated,
        url: args.url,
        shape: Shape::default(),
        connections: 1,
        threads: 1,
        size_bytes: units::message_size(args.size).map_err(Usage)?,
        is_text: args.payload == Filler::Json,
        filler: args.payload,
        deflate: args.deflate.of_client(),
        pipeline: 1,
        rate_per_s: None,
        warmup: args.warmup,
        duration: args.duration,
        rounds: 1,
        drain: DRAIN_TIMEOUT,
        auto_ping: None,
        proxy: args.proxy.proxy(&args.proxy_tls)?,
        tls: args.event_loop.tls.settings()?,
        server_pid: None,
    };
    let outputs = Outputs { json: args.json, ..Outputs::default() };
    outputs.check()?;
    let measured = measure(plan.clone(), true)?;
    Report::new("rtt", &plan, &measured).publish(&outputs, measured.interrupted)
}

/// Longest wait for the last echo.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
