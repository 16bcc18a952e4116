//! `picows load`: the load generator for echo servers, and for servers that fan out.

mod examples;
mod shape;

use crate::auto_ping::AutoPingArgs;
use crate::client::LoopFlags;
use crate::deflate::DeflateArgs;
use crate::fan_out::{self, FanOutPlan};
use crate::fault::{Fault, Usage};
use crate::measure::{self, Filler, LoadPlan, measure};
use crate::proxy::{ProxyFlag, ProxyTlsFlags};
use crate::report::{Outputs, Report, hdr};
use crate::source::Sources;
use crate::threshold::Threshold;
use crate::{system, units};
use examples::EXAMPLES;
use shape::ShapeFlags;
use std::path::PathBuf;
use std::time::Duration;

/// Load an echo server, check every echo, and measure rate and latency
///
/// Works against any echo server. Every message is different, and the type, length and content of
/// its echo are checked. Messages received before the first one is sent, such as a greeting, are
/// ignored.
///
/// Without --rate each connection keeps --pipeline messages in flight and sends the next one after
/// an echo (a closed loop). With --rate messages are due at even intervals, whatever the server
/// does (an open loop): latency counts from the time at which a message was due, so that a stall
/// shows in all messages that it delayed. While --pipeline messages are in flight on its connection
/// a message waits, and its waiting counts. Messages that are due within 50 µs of each other may be
/// sent together; with --busy-poll the sender spins for the next one instead.
///
/// Rate and latency are measured after the warm-up; errors are counted in the whole run.
///
/// SIGINT, SIGTERM, SIGHUP and SIGQUIT end the load early: the figures until then are reported,
/// marked as interrupted. A second signal ends it at once, without a report.
///
/// With --mode idle, connections are made and held open for the duration: the figures are how long connecting
/// took, and with --server-pid what a connection costs the server in memory. With --mode churn each connection
/// has --messages echoed and is closed; latency is that of all of it, from the time at which it was due. With
/// --mode slow, further connections send what the server takes and read --slow-read bytes a second of it; what
/// becomes of them is reported and is no error.
///
/// With --mode fan-out, publishers send to the server, which sends each message to all subscribers.
/// Each subscriber checks that it gets every publication once, whole and in the same order as the
/// others; measured are deliveries per second, and how long it takes until half and until all of the
/// subscribers have a publication. Without --rate each publisher sends the next one when all have
/// the last, or keeps --pipeline of them in flight. The payload begins with a stamp of 16 bytes (32
/// with --text), so any server will do that sends on what it gets.
///
/// Exit status: 0 if every echo was right, 1 on any wrong or missing echo, failed or lost
/// connection, or a report that cannot be written, 2 if the command line is wrong, 3 if a threshold of
/// --fail-if was missed, 128 plus its number after a signal (130 for SIGINT, 143 for SIGTERM).
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The server, such as ws://127.0.0.1:9001/ or ws+unix:/run/picows.sock
    url: String,

    /// What is measured: `echo` sends messages and expects them back, `fan-out` publishes to subscribers, `idle`
    /// holds connections open, `churn` has them come and go, `slow` is echo beside connections that hardly read
    #[arg(long, value_enum, default_value_t = Mode::Echo)]
    mode: Mode,

    /// Connections, of all threads together [default: 64]
    #[arg(short, long, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: Option<u32>,

    /// Length of a message, such as 256 or 64KiB
    #[arg(short, long, value_name = "BYTES", value_parser = units::size, default_value = "256")]
    size: u64,

    /// Most messages in flight on each connection [default: 1; with --rate 1024, or fewer large
    /// ones]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pipeline: Option<u32>,

    /// Length of the measurement, or of each of --rounds [default: 10s, or that of --stages]
    #[arg(short, long, value_name = "DURATION", value_parser = units::positive_duration,
          conflicts_with = "stages")]
    duration: Option<Duration>,

    /// Measure so many rounds behind one warm-up, without a pause between them: each has its figures in the JSON,
    /// for `picows compare`, and the table has the lowest and the median of them. All other figures, and
    /// thresholds, are of all rounds together [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100),
          conflicts_with = "stages")]
    rounds: Option<u32>,

    /// Length of the warm-up before it [default: 1s; none with --stages]
    #[arg(short, long, value_name = "DURATION", value_parser = units::duration,
          conflicts_with = "stages")]
    warmup: Option<Duration>,

    /// Send this many messages per second in total, whatever the server does; with --mode churn, make this
    /// many connections. Not with --dedicated
    #[arg(short, long, value_name = "PER_SECOND", value_parser = units::rate,
          conflicts_with = "stages")]
    rate: Option<f64>,

    /// Threads, each with a loop, a ring and its share of the connections
    #[arg(short, long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,

    /// Send text (ASCII)
    #[arg(long)]
    text: bool,

    /// Send binary messages: the default
    #[arg(long, conflicts_with = "text")]
    binary: bool,

    /// Longest wait for missing echoes at the end
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "5s")]
    drain_timeout: Duration,

    /// Measure the processor time and memory of this process, too, which should be the server
    #[arg(long, value_name = "PID", value_parser = units::count::<u32>)]
    server_pid: Option<u32>,

    /// Connect through a proxy: `http://[USER:PASSWORD@]HOST[:PORT]`, or https, socks5h, socks5,
    /// socks4a or socks4; `env` takes the one that https_proxy and its kin name, `none` connects directly
    #[arg(long, value_name = "URL|env|none", default_value = "none")]
    proxy: ProxyFlag,

    #[command(flatten)]
    proxy_tls: ProxyTlsFlags,

    #[command(flatten)]
    event_loop: LoopFlags,

    /// What messages are made of: `random` bytes, or text like the `json` of a market feed, which
    /// compresses
    #[arg(long, value_enum, default_value_t = Filler::Random)]
    payload: Filler,

    #[command(flatten)]
    deflate: DeflateArgs,

    #[command(flatten)]
    auto_ping: AutoPingArgs,

    /// Write the figures to FILE as JSON, with units in their names; `-` is standard output, and
    /// the table is then written to standard error
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write an HTML page to FILE, with charts of latency by percentile and throughput over time
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write the latencies to FILE as an HdrHistogram log, version 2
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,

    /// End with status 3 if so: a figure, <, <=, > or >=, and a value, such as 'p99>5ms' or 'rate<50000'; may be
    /// given several times. The guide "Measuring a server" has the figures
    #[arg(long, value_name = "THRESHOLD", allow_hyphen_values = true)]
    fail_if: Vec<Threshold>,

    #[command(flatten)]
    shape: ShapeFlags,

    #[command(flatten)]
    fan_out: fan_out::Flags,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    Echo,
    FanOut,
    Idle,
    Churn,
    Slow,
}

/// Runs the load and prints its report.
pub(crate) fn run(args: Args) -> Result<(), Fault> {
    if args.mode == Mode::FanOut {
        let plan = fan_out_plan(&args)?;
        let outputs = args.outputs();
        outputs.check()?;
        system::raise_descriptor_limit();
        let connections = plan.subscribers + plan.publishers;
        let limits = Limits {
            connections: connections as u64,
            threads: plan.threads as u64 + 1,
            sources: plan.sources.as_ref(),
            is_direct: plan.proxy.is_none() && !plan.url.starts_with("ws+unix:"),
        };
        limits.check()?;
        return fan_out::run(plan, &outputs);
    }
    let plan = plan(&args)?;
    let outputs = args.outputs();
    outputs.check()?;
    system::raise_descriptor_limit();
    Limits::of(&plan).check()?;
    let measured = measure(plan.clone(), true)?;
    if let Some(path) = &outputs.hdr {
        hdr::write(path, &plan.url, &measured)?;
    }
    Report::new("load", &plan, &measured).publish(&outputs, measured.interrupted)
}

/// Numbers that limits of this machine are checked for.
struct Limits<'a> {
    connections: u64,
    threads: u64,
    sources: Option<&'a Sources>,
    /// To one address of one server, whose ports are counted; a proxy and a Unix socket have others, or none.
    is_direct: bool,
}

impl Limits<'_> {
    fn of(plan: &LoadPlan) -> Limits<'_> {
        let slow = if plan.is(measure::Mode::Slow) { plan.shape.slow.connections } else { 0 };
        Limits {
            connections: (plan.connections + slow) as u64,
            threads: plan.threads as u64,
            sources: plan.shape.sources.as_ref(),
            is_direct: plan.proxy.is_none() && !plan.url.starts_with("ws+unix:"),
        }
    }

    /// Checks that this process may have so many connections.
    fn check(&self) -> Result<(), Usage> {
        if let Some(sources) = self.sources {
            sources.check(self.connections).map_err(Usage)?;
        }
        let sources = self.is_direct.then(|| self.sources.map_or(1, Sources::count));
        system::check_connections(self.connections, self.threads, sources).map_err(Usage)
    }
}

fn plan(args: &Args) -> Result<LoadPlan, Usage> {
    let size_bytes = units::message_size(args.size).map_err(Usage)?;
    if let Some(flag) = args.fan_out.given() {
        return Err(Usage(format!("{flag} is for --mode fan-out")));
    }
    let connections = args.connections.unwrap_or(CONNECTIONS);
    if u32::from(args.threads) > connections {
        return Err(Usage(format!(
            "--threads {} for --connections {connections}: a thread without a connection does nothing",
            args.threads
        )));
    }
    let shape = args.shape.shape(args.mode)?;
    check_mode(args)?;
    args.check_thresholds()?;
    let is_open_loop = args.rate.is_some() || !shape.stages.is_empty();
    if is_open_loop && args.event_loop.dedicated {
        return Err(Usage(
            "--rate with --dedicated, or --stages: messages that are due are sent by a timer of the loop, which \
             a dedicated thread has left: leave one of the two out"
                .to_owned(),
        ));
    }
    let pipeline = match (args.pipeline, is_open_loop) {
        (Some(pipeline), _) => pipeline as usize,
        (None, false) => 1,
        (None, true) => (OPEN_LOOP_BYTES_MAX / size_bytes.max(1)).clamp(1, OPEN_LOOP_MESSAGES_MAX),
    };
    Ok(LoadPlan {
        url: args.url.clone(),
        shape,
        connections: connections as usize,
        threads: usize::from(args.threads),
        size_bytes,
        is_text: args.text || args.payload == Filler::Json,
        filler: args.payload,
        deflate: args.deflate.of_client(),
        pipeline,
        rate_per_s: args.rate,
        warmup: args.warmup(),
        duration: args.duration() * args.rounds(),
        rounds: args.rounds(),
        drain: args.drain_timeout,
        driver: args.event_loop.driver,
        busy_poll: args.event_loop.busy_poll,
        is_dedicated: args.event_loop.dedicated,
        auto_ping: args.auto_ping.settings(),
        proxy: args.proxy.proxy(&args.proxy_tls)?,
        tls: args.event_loop.tls.settings()?,
        server_pid: args.server_pid,
    })
}

impl Args {
    fn outputs(&self) -> Outputs {
        Outputs {
            json: self.json.clone(),
            html: self.html.clone(),
            hdr: self.hdr.clone(),
            fail_if: self.fail_if.clone(),
        }
    }

    /// Refuses thresholds of figures that this load does not have.
    fn check_thresholds(&self) -> Result<(), Usage> {
        let has_schedule = self.rate.is_some() || self.shape.staged_duration().is_some();
        let (is_idle, is_fan_out) = (self.mode == Mode::Idle, self.mode == Mode::FanOut);
        for threshold in &self.fail_if {
            let figure = threshold.figure();
            let cure = match figure {
                "unsent" if !has_schedule => "it is for loads with --rate or --stages",
                "server-cpu" | "bytes-per-connection" if self.server_pid.is_none() => {
                    "give the server's process with --server-pid"
                }
                "bytes-per-connection" if !is_idle => "it is for --mode idle",
                "connect-p50" | "connect-p99" | "connect-max" if is_fan_out => {
                    "it is not for --mode fan-out"
                }
                "errors" | "client-cpu" | "server-cpu" | "bytes-per-connection" => continue,
                _ if is_idle && !figure.starts_with("connect-") => {
                    "--mode idle sends no messages: take connect-p99 or bytes-per-connection"
                }
                _ => continue,
            };
            return Err(Usage(format!("--fail-if {threshold}: {cure}")));
        }
        Ok(())
    }

    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(1)
    }

    fn duration(&self) -> Duration {
        self.shape.staged_duration().or(self.duration).unwrap_or(DURATION)
    }

    fn warmup(&self) -> Duration {
        let is_staged = self.shape.staged_duration().is_some();
        self.warmup.unwrap_or(if is_staged { Duration::ZERO } else { WARMUP })
    }
}

/// Refuses flags that say nothing in a mode.
fn check_mode(args: &Args) -> Result<(), Usage> {
    let (is_idle, is_churn) = (args.mode == Mode::Idle, args.mode == Mode::Churn);
    for (is_given, flag, cure) in [
        (
            args.event_loop.dedicated && args.mode != Mode::Echo,
            "--dedicated",
            "leave it out: it needs a loop",
        ),
        (args.rate.is_some() && is_idle, "--rate", "write --connect-rate"),
        (
            args.rounds() > 1 && is_idle,
            "--rounds",
            "leave it out: what is held is the same in each",
        ),
        (args.pipeline.is_some() && is_idle, "--pipeline", "leave it out: no messages are sent"),
        (args.pipeline.is_some() && is_churn, "--pipeline", "write --messages"),
    ] {
        if is_given {
            let mode = if is_idle {
                "idle"
            } else if is_churn {
                "churn"
            } else {
                "slow"
            };
            return Err(Usage(format!("{flag} with --mode {mode}: {cure}")));
        }
    }
    Ok(())
}

fn fan_out_plan(args: &Args) -> Result<FanOutPlan, Usage> {
    for (is_given, flag, cure) in [
        (args.connections.is_some(), "--connections", "write --subscribers and --publishers"),
        (args.hdr.is_some(), "--hdr", "write --json"),
        (args.event_loop.dedicated, "--dedicated", "leave it out: publishers need a loop"),
        (args.rounds() > 1, "--rounds", "repeat the load, and give all reports to picows compare"),
    ] {
        if is_given {
            return Err(Usage(format!("{flag} with --mode fan-out: {cure}")));
        }
    }
    let shape = args.shape.shape(args.mode)?;
    args.check_thresholds()?;
    let flags = &args.fan_out;
    let plan = FanOutPlan {
        url: args.url.clone(),
        publish_url: flags.publish_url.clone().unwrap_or_else(|| args.url.clone()),
        subscribers: flags.subscribers.unwrap_or(SUBSCRIBERS) as usize,
        publishers: flags.publishers.unwrap_or(1) as usize,
        threads: usize::from(args.threads),
        size_bytes: units::message_size(args.size).map_err(Usage)?,
        is_text: args.text || args.payload == Filler::Json,
        filler: args.payload,
        deflate: args.deflate.of_client(),
        pipeline: args.pipeline.unwrap_or(1) as usize,
        rate_per_s: args.rate,
        stages: shape.stages,
        are_gaps_allowed: flags.allow_gaps,
        warmup: args.warmup(),
        duration: args.duration(),
        drain: args.drain_timeout,
        driver: args.event_loop.driver,
        busy_poll: args.event_loop.busy_poll,
        auto_ping: args.auto_ping.settings(),
        sources: shape.sources,
        proxy: args.proxy.proxy(&args.proxy_tls)?,
        tls: args.event_loop.tls.settings()?,
        server_pid: args.server_pid,
    };
    plan.check()
}

/// Connections to an echo server, and subscribers, unless the flags say otherwise.
const CONNECTIONS: u32 = 64;
const SUBSCRIBERS: u32 = 100;
const DURATION: Duration = Duration::from_secs(10);
const WARMUP: Duration = Duration::from_secs(1);
/// Messages in flight on a connection of an open loop: beyond it the latencies show that a server
/// is behind, and more messages would only overload it.
const OPEN_LOOP_MESSAGES_MAX: usize = 1024;
/// The same in bytes, for large messages.
const OPEN_LOOP_BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    pub(super) struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(flags: &str) -> Result<LoadPlan, String> {
        let words = ["load", "ws://h/"].into_iter().chain(flags.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        plan(&cli.args).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_make_a_plan() {
        let plan = parse(
            "--connections 100 --size 64KiB --pipeline 4 --duration 2s --warmup 500ms --threads 3 \
             --text --busy-poll 50us --dedicated",
        )
        .unwrap();
        assert_eq!((plan.connections, plan.size_bytes, plan.pipeline), (100, 65_536, 4));
        assert_eq!((plan.duration, plan.warmup.as_millis()), (Duration::from_secs(2), 500));
        assert_eq!((plan.threads, plan.is_text, plan.is_dedicated), (3, true, true));
        assert_eq!((plan.busy_poll.as_micros(), plan.rate_per_s), (50, None));
    }

    #[test]
    fn modes_have_a_shape() {
        let plan = parse("--mode churn --messages 3 --source 127.0.0.0/30 --rate 9").unwrap();
        assert_eq!((plan.shape.mode, plan.shape.messages), (measure::Mode::Churn, 3));
        assert_eq!(plan.shape.sources.map(|it| it.count()), Some(2));
        let plan = parse("--mode idle --connect-rate 5").unwrap();
        assert_eq!((plan.shape.connect_rate, plan.is_open_loop()), (Some(5.0), false));
        let slow = parse("--mode slow --slow-connections 3 --slow-read 10KiB").unwrap().shape.slow;
        assert_eq!((slow.connections, slow.bytes_per_s), (3, 10_240));
        let plan = parse("--stages 2s:10,3s:20,1s:0").unwrap();
        assert_eq!((plan.duration, plan.warmup), (Duration::from_secs(6), Duration::ZERO));
        assert_eq!((plan.shape.stages.len(), plan.is_open_loop(), plan.pipeline), (3, true, 1024));
        let plan = parse("").unwrap();
        assert_eq!((plan.duration, plan.warmup, plan.rounds), (DURATION, WARMUP, 1));
        let plan = parse("--rounds 6 --duration 2s --rate 5").unwrap();
        assert_eq!((plan.duration, plan.rounds), (Duration::from_secs(12), 6));
    }

    #[test]
    fn a_rate_allows_more_in_flight_but_not_without_end() {
        assert_eq!(parse("").unwrap().pipeline, 1);
        assert_eq!(parse("--rate 100").unwrap().pipeline, 1024);
        assert_eq!(parse("--rate 100 --size 1MiB").unwrap().pipeline, 4);
        assert_eq!(parse("--rate 100 --size 64MiB").unwrap().pipeline, 1);
        assert_eq!(parse("--rate 100 --size 0").unwrap().pipeline, 1024);
        assert_eq!(parse("--rate 100 --pipeline 2").unwrap().pipeline, 2);
    }

    #[test]
    fn wrong_flags_are_refused_by_name() {
        for (flags, word) in [
            ("--threads 3 --connections 2", "--threads 3"),
            ("--dedicated --rate 100", "--rate with --dedicated"),
            ("--size 2GiB", "--size"),
            ("--text --binary", "--binary"),
            ("--rate 0", "--rate"),
            ("--connections 0", "--connections"),
            ("--duration 0s", "--duration"),
            ("--pipeline 0", "--pipeline"),
            ("--busy-poll never", "--busy-poll"),
            ("--duration 9000000h", "--duration"),
            ("--subscribers 3", "--subscribers is for --mode fan-out"),
            ("--allow-gaps", "--allow-gaps is for --mode fan-out"),
            ("--messages 2", "--messages is for --mode churn"),
            ("--slow-read 1", "--slow-read is for --mode slow"),
            ("--mode idle --slow-connections 1", "--slow-connections is for --mode slow"),
            ("--mode idle --rate 5", "--rate with --mode idle: write --connect-rate"),
            ("--mode idle --stages 1s:5", "idle sends no messages: write --connect-rate"),
            ("--mode idle --pipeline 2", "no messages are sent"),
            ("--mode churn --connect-rate 5", "write --rate for churn"),
            ("--mode churn --pipeline 5", "write --messages"),
            ("--mode slow --dedicated", "--dedicated with --mode slow"),
            ("--stages 1s:5 --rate 5", "--rate"),
            ("--stages 1s:5 --duration 5", "--duration"),
            ("--stages 1s:5 --dedicated", "--stages"),
            ("--stages 5", "10s:1000,60s:1000"),
            ("--stages 1s:5 --rounds 2", "--rounds"),
            ("--rounds 0", "--rounds"),
            ("--mode idle --rounds 2", "--rounds with --mode idle: leave it out"),
            ("--source nowhere", "127.0.0.0/8"),
            ("--fail-if p99>5", "a unit is missing"),
            ("--fail-if p42>5ms", "there are p50"),
            ("--fail-if -5ms", "such as p99>5ms"),
            ("--fail-if unsent>5", "--fail-if unsent>5: it is for loads with --rate"),
            ("--fail-if server-cpu>1", "--server-pid"),
            ("--fail-if bytes-per-connection>4KiB --server-pid 1", "is for --mode idle"),
            ("--mode idle --fail-if p99>5ms", "take connect-p99"),
        ] {
            let error = parse(flags).unwrap_err();
            assert!(error.contains(word), "{flags}: {error}");
        }
    }

    #[test]
    fn flags_of_a_fan_out_make_its_plan() {
        let parse = |flags: &str| {
            let words = ["load", "ws://h/", "--mode", "fan-out"];
            let words = words.into_iter().chain(flags.split_whitespace());
            let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
            fan_out_plan(&cli.args).map_err(|error| error.to_string())
        };
        let plan = parse("").unwrap();
        assert_eq!((plan.subscribers, plan.publishers, plan.pipeline), (100, 1, 1));
        assert_eq!((&*plan.publish_url, plan.rate_per_s), ("ws://h/", None));
        let plan =
            parse("--subscribers 7 --publishers 2 --publish-url ws://p/ --rate 5 --allow-gaps");
        let plan = plan.unwrap();
        assert_eq!((plan.subscribers, plan.publishers, &*plan.publish_url), (7, 2, "ws://p/"));
        assert_eq!((plan.rate_per_s, plan.are_gaps_allowed), (Some(5.0), true));
        let plan = parse("--stages 2s:10,3s:20 --publishers 2").unwrap();
        assert_eq!((plan.duration, plan.warmup), (Duration::from_secs(5), Duration::ZERO));
        assert_eq!((plan.stages.len(), plan.is_open_loop()), (2, true));
        for (flags, word) in [
            ("--connections 5", "--connections with --mode fan-out: write --subscribers"),
            ("--hdr a.hlog", "--hdr with"),
            ("--rounds 2", "--rounds with --mode fan-out: repeat the load"),
            ("--dedicated", "--dedicated with"),
            ("--size 8", "--size 8: a publication has a stamp of 16 bytes"),
            ("--threads 101", "--threads 101 for --subscribers 100"),
        ] {
            let error = parse(flags).unwrap_err();
            assert!(error.contains(word), "{flags}: {error}");
        }
    }
}
