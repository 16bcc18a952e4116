//! `picows echo`: the echo benchmark server.

use crate::auto_ping::AutoPingArgs;
use crate::fault::Fault;
use crate::{note, system, units};
use picows_uring::{
    EchoListener, ListenerResult, Message, MessageListener, Messages, Server, ServerBuilder,
    ServerHandle, Stats, Transport, Upgrade, UpgradeRequest, UpgradeResponse,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Run an echo server: every frame comes back as it was sent
///
/// Prints a line `listening on ws://ADDRESS` for each address once it accepts connections. Logs go
/// to standard error; RUST_LOG=info shows connections, RUST_LOG=trace every frame. GET /healthz
/// answers 200. SIGINT and SIGTERM stop it: clients get CLOSE 1001, and a line says what was
/// served. A second signal ends it at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on: HOST:PORT (port 0 for any free one; IPv6 in brackets) or unix:PATH; may be
    /// given several times
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    listen: Vec<String>,

    /// Number of workers, each a thread with a ring of its own [default: one for each available
    /// core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,

    /// Bind each worker to a core
    #[arg(long)]
    pin: bool,

    /// Spin on the ring for this long after the last activity before sleeping, such as 50us;
    /// `always` never sleeps. Cuts a round trip to a fraction, and costs a core for each worker
    #[arg(long, value_name = "DURATION", value_parser = units::busy_poll, default_value = "0")]
    busy_poll: Duration,

    /// Let each worker sleep in its own ring, with nothing else on its thread: a few per cent less
    /// processor time
    #[arg(long)]
    dedicated: bool,

    /// Largest frame to accept, such as 64KiB; a larger one is answered with CLOSE 1009
    #[arg(long, value_name = "BYTES", value_parser = units::size, default_value = "10MiB")]
    max_frame_size: u64,

    /// Refuse text that is not UTF-8 with CLOSE 1007, as soon as the first bad byte arrives
    #[arg(long)]
    validate_text: bool,

    /// Join fragments and echo whole messages, of at most the size of a frame; text is checked
    #[arg(long)]
    messages: bool,

    /// Most connections at a time; further ones are answered with 503 [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: Option<u32>,

    /// How long a client may take to send its request
    #[arg(long, value_name = "DURATION", value_parser = units::positive_duration,
          default_value = "5s")]
    handshake_timeout: Duration,

    /// How long to wait for clients to answer CLOSE when stopping
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "5s")]
    drain_timeout: Duration,

    #[command(flatten)]
    auto_ping: AutoPingArgs,

    /// Print counters to standard error this often, such as 1 (seconds) or 500ms
    #[arg(long, value_name = "SECS", value_parser = units::positive_duration)]
    stats: Option<Duration>,
}

/// Runs until a signal comes.
pub(crate) fn run(args: Args) -> Result<(), Fault> {
    system::raise_descriptor_limit();
    // Before the server starts, so that no signal is missed.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let server = builder(&args).start(router(&args))?;
    announce(&server)?;

    let (stopped, stops) = mpsc::channel();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if stopped.send(signal).is_err() {
                return;
            }
        }
    });
    let start = Instant::now();
    wait(&server, &stops, args.stats)?;
    note(format_args!("stopping: closing {} connections", server.stats().connections));
    let stopper = server.stopper();
    std::thread::spawn(move || {
        if stops.recv().is_ok() {
            stopper.stop_within(Duration::ZERO);
        }
    });
    let stats = server.stop()?;
    note(format_args!("{}", summary(&stats, start.elapsed())));
    Ok(())
}

fn builder(args: &Args) -> ServerBuilder {
    let mut builder = Server::builder()
        .pin(args.pin)
        .busy_poll(args.busy_poll)
        .dedicated(args.dedicated)
        .max_frame_size(args.max_frame_size)
        .validate_text(args.validate_text)
        .max_connections(args.max_connections.map(|count| count as usize))
        .handshake_timeout(args.handshake_timeout)
        .drain_timeout(args.drain_timeout)
        .auto_ping(args.auto_ping.settings())
        .keep_request(false);
    for address in &args.listen {
        builder = builder.listen(address);
    }
    if let Some(count) = args.workers {
        builder = builder.workers(usize::from(count));
    }
    builder
}

/// Every path echoes; a plain GET of `/healthz` says that we live.
fn router(args: &Args) -> impl Fn(&UpgradeRequest) -> Upgrade + use<> {
    let message_bytes_max = usize::try_from(args.max_frame_size).unwrap_or(usize::MAX);
    let messages = args.messages;
    move |request| {
        if request.path() == "/healthz" && !request.is_upgrade() {
            return Upgrade::respond(UpgradeResponse::ok().with_body("ok\n"));
        }
        if messages {
            let listener = Messages::new(EchoMessages).max_message_size(message_bytes_max);
            return Upgrade::accept(listener);
        }
        Upgrade::accept(EchoListener)
    }
}

/// Echoes every message in one frame.
struct EchoMessages;

impl MessageListener for EchoMessages {
    fn on_message(&mut self, transport: &Transport, message: Message<'_>) -> ListenerResult {
        transport.send(message.msg_type(), message.payload());
        Ok(())
    }
}

fn announce(server: &ServerHandle) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for address in server.addresses() {
        writeln!(out, "listening on {address}")?;
    }
    out.flush()
}

/// Waits for a signal, and shows the counters meanwhile.
fn wait(
    server: &ServerHandle,
    stops: &mpsc::Receiver<i32>,
    every: Option<Duration>,
) -> Result<(), Fault> {
    let Some(every) = every else {
        stops.recv()?;
        return Ok(());
    };
    let mut before = server.stats();
    loop {
        match stops.recv_timeout(every) {
            Ok(_) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                let stats = server.stats();
                note(format_args!("{}", progress(&before, &stats, every)));
                before = stats;
            }
            Err(error @ RecvTimeoutError::Disconnected) => return Err(error.into()),
        }
    }
}

/// What happened between two readings.
fn progress(before: &Stats, now: &Stats, every: Duration) -> String {
    let rate = |before: u64, now: u64| (now - before) as f64 / every.as_secs_f64();
    format!(
        "connections {} (accepted {}, refused {}), frames/s in {:.0} out {:.0}, MB/s in {:.1} out \
         {:.1}, turns/s {:.0}, sleeps/s {:.0}, ring enters/s {:.0}, buffer shortages {}, \
         protocol errors {}",
        now.connections,
        now.accepted,
        now.refused,
        rate(before.frames_received, now.frames_received),
        rate(before.frames_sent, now.frames_sent),
        rate(before.bytes_received, now.bytes_received) / 1e6,
        rate(before.bytes_sent, now.bytes_sent) / 1e6,
        rate(before.turns, now.turns),
        rate(before.sleeps, now.sleeps),
        rate(before.ring_enters, now.ring_enters),
        now.buffer_shortages,
        now.protocol_errors,
    )
}

fn summary(stats: &Stats, time: Duration) -> String {
    format!(
        "served {} connections in {}: {} frames and {:.1} MB received, {} frames and {:.1} MB \
         sent, {} refused, {} protocol errors",
        stats.upgraded,
        humantime::format_duration(Duration::from_millis(time.as_millis() as u64)),
        stats.frames_received,
        stats.bytes_received as f64 / 1e6,
        stats.frames_sent,
        stats.bytes_sent as f64 / 1e6,
        stats.refused,
        stats.protocol_errors,
    )
}
