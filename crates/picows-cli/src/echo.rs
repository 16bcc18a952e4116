//! `picows echo`: the echo benchmark server.

mod page;
mod relay;
mod stats;

use crate::auto_ping::AutoPingArgs;
use crate::deflate::DeflateArgs;
use crate::driver::DriverFlag;
use crate::fault::Fault;
use crate::stdio::{self, FLUSH_MIN, FLUSH_TIMEOUT, LogFile, note};
use crate::successor::Successor;
use crate::{signals, system, systemd, tls, units};
use clap::ValueEnum;
use picows_uring::{
    EchoListener, ListenAddress, ListenerResult, Message, MessageListener, Messages, Monitor,
    Networks, QueuePolicy, Server, ServerBuilder, Transport, TrustedProxies, Upgrade,
    UpgradeRequest, WorkerState, select_subprotocol,
};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Run an echo server: every frame is sent back unchanged
///
/// Prints a line `listening on ws://ADDRESS` for each address once it accepts connections. Logs go
/// to standard error; RUST_LOG=info shows connections, RUST_LOG=trace every frame. Workers that fail or
/// are blocked are reported.
///
/// GET /healthz answers 200 and names the driver, or 503 and a reason to start the process again; GET
/// /readyz answers 503 while no more clients should come. --admin has both, and /metrics, on an address
/// of its own, to the end of a graceful shutdown. GET / answers with a page that connects back.
///
/// SIGINT, SIGTERM, SIGQUIT and SIGHUP (unless it is ignored, as under nohup) stop it: clients get
/// CLOSE 1001, and a line summarises the counters. A second signal ends it at once. Where files were given
/// (--tls-cert, --tls-client-ca, --log-filter-file), SIGHUP reads them again instead. With --takeover,
/// SIGUSR2 starts this program again with the same arguments, which takes over. Exit status: 0
/// after a signal, 1 if it could not start or a worker failed, 2 if the command line is wrong.
///
/// It serves and handles signals whether or not standard output and standard error are read: lines
/// that are not read in time are dropped and counted.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    server: ServingFlags,

    /// What happens to an echo beyond --max-queue
    #[arg(long, value_enum, default_value_t = Policy::Close)]
    queue_policy: Policy,

    /// Refuse text that is not UTF-8 with CLOSE 1007, at the first invalid byte
    #[arg(long)]
    validate_text: bool,

    /// Join fragments and echo whole messages, of at most --max-frame-size bytes; text is validated
    #[arg(long)]
    messages: bool,

    /// Agree on this subprotocol with clients that offer it; may be given several times, the first choice
    /// first
    #[arg(long = "subprotocol", value_name = "NAME")]
    subprotocols: Vec<String>,

    /// Refuse GET / as other plain requests, instead of answering with the page for browsers
    #[arg(long)]
    no_page: bool,

    /// Echo frames of more than so many bytes, such as 64KiB, piece by piece, in little memory; on a
    /// connection that has agreed on compression they are echoed whole
    #[arg(long, value_name = "BYTES", value_parser = units::size, conflicts_with = "messages")]
    pieces: Option<u64>,
}

/// Flags that all servers of the command have.
#[derive(Debug, clap::Args)]
pub(crate) struct ServingFlags {
    /// Address to listen on, as with --listen
    #[arg(value_name = "ADDR", value_parser = units::listen_address, conflicts_with = "listen")]
    address: Option<String>,

    /// Address to listen on: HOST:PORT (port 0 for any free port; IPv6 in brackets), PORT for 127.0.0.1:PORT, :PORT
    /// for 0.0.0.0:PORT, or unix:PATH; may be given several times [default: the sockets that systemd hands over, or
    /// else 127.0.0.1:9001]
    #[arg(long, value_name = "ADDR", value_parser = units::listen_address)]
    listen: Vec<String>,

    /// Address for operators, as --listen: /metrics (OpenMetrics), /healthz and /readyz, answered at every
    /// limit and while workers are busy. Without TLS or a password: not for clients
    #[arg(long, value_name = "ADDR", value_parser = units::listen_address)]
    admin: Option<String>,

    /// Answer /metrics on the addresses of --listen as well, for every client
    #[arg(long)]
    metrics_on_main: bool,

    /// Restart without a refused client: take over the listening sockets of the process that runs with the
    /// same PATH, a Unix socket, and hand them to the next. The other process finishes its handshakes,
    /// drains and ends; it serves on if this one fails before it is ready. SIGUSR2 starts the next: what is
    /// at the path of the program then, with the same arguments
    #[arg(long, value_name = "PATH")]
    takeover: Option<PathBuf>,

    /// Number of workers, each a thread with a ring of its own [default: one for each available
    /// core; fewer, with a warning, where the limit of locked memory (ulimit -l) is too low]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,

    #[command(flatten)]
    driver: DriverFlag,

    /// Bind each worker to a core
    #[arg(long)]
    pin: bool,

    /// Spin on the ring for this long after the last activity before sleeping, such as 50us;
    /// `always` never sleeps. Cuts a round trip to a fraction, and costs a core for each worker
    #[arg(long, value_name = "DURATION", value_parser = units::busy_poll, default_value = "0")]
    busy_poll: Duration,

    /// Let each worker sleep in its own ring, without a loop for tasks on its thread: fewer system
    /// calls for a lone message; with many connections it makes little difference
    #[arg(long)]
    dedicated: bool,

    /// With --dedicated: gather what arrives for this long before waking up, such as 20us: fewer wake-ups
    /// under load, and up to so much more latency. At most 10ms; io_uring of Linux 6.12 or later
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "0")]
    min_wait: Duration,

    /// With --dedicated: have the kernel poll the network devices of the connections for this long before
    /// a worker sleeps, such as 50us. At most 10ms; io_uring of Linux 6.9 or later
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "0")]
    napi_busy_poll: Duration,

    /// Largest frame to accept, such as 64KiB; a larger one is answered with CLOSE 1009
    #[arg(long, value_name = "BYTES", value_parser = units::size, default_value = "10MiB")]
    pub(crate) max_frame_size: u64,

    /// Most bytes buffered for a client that does not read, such as 1MiB
    #[arg(long, value_name = "BYTES", value_parser = units::size, default_value = "64MiB")]
    pub(crate) max_queue: u64,

    /// Most connections at a time; further upgrades are refused with 503, plain requests of
    /// /healthz are answered as always [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: Option<u32>,

    /// Most connections of one address at a time (IPv6: of one /64 network); further ones are
    /// refused with 503 [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_per_address: Option<u32>,

    /// Proxies in front that begin each connection with a header of the PROXY protocol, version 1 or 2,
    /// such as 10.0.0.0/8,::1: the address in it is that of the client. From other addresses it is refused
    #[arg(long, value_name = "NETWORKS")]
    proxy_protocol: Option<Networks>,

    /// Proxies in front that name the client in X-Forwarded-For
    #[arg(long, value_name = "NETWORKS")]
    trusted_proxies: Option<Networks>,

    /// Most handshakes in progress at a time; further connections are refused with 503; 0 for no
    /// limit
    #[arg(long, value_name = "N", value_parser = units::count::<u32>, default_value_t = 4096)]
    max_handshakes: u32,

    /// Most memory that all connections together may hold, such as 512MiB: beyond it the connection
    /// that holds the most is ended with CLOSE 1013; 0 for no limit [default: half of the least of
    /// the memory of the machine, the memory of its control group, and the limit of the address
    /// space]
    #[arg(long, value_name = "BYTES", value_parser = units::size)]
    memory_limit: Option<u64>,

    /// Longest time for a client to send its request
    #[arg(long, value_name = "DURATION", value_parser = units::positive_duration,
          default_value = "5s")]
    handshake_timeout: Duration,

    /// Longest time for a frame or message that brings less than 1 KiB a second; a slower client
    /// gets CLOSE 1008; 0 for no limit
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "60s")]
    message_timeout: Duration,

    /// Longest time in which a client reads nothing of the bytes queued for it, before it is
    /// disconnected; 0 for no limit
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "60s")]
    write_stall_timeout: Duration,

    /// Longest time of a graceful shutdown: then clients that have not answered CLOSE are
    /// disconnected
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "5s")]
    drain_timeout: Duration,

    /// Part of the drain timeout over which the CLOSE frames are spread, so that clients do not all
    /// reconnect at once; at most half of it [default: 100us for each connection of a worker]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    drain_spread: Option<Duration>,

    /// Warn of callbacks that block a worker for this long; 0 for no warnings
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "100ms")]
    slow_callback: Duration,

    #[command(flatten)]
    pub(crate) deflate: DeflateArgs,

    #[command(flatten)]
    auto_ping: AutoPingArgs,

    #[command(flatten)]
    tls: tls::ServerFlags,

    /// Print counters to standard error at this interval, such as 1 (second, the default) or 500ms
    #[arg(long, value_name = "INTERVAL", value_parser = units::positive_duration,
          num_args = 0..=1, default_missing_value = "1")]
    stats: Option<Duration>,

    /// Print all counters to standard output, a line of JSON at the interval of --stats, or each
    /// second, and one at the end. `lines_dropped` counts the lines that were not read in time
    #[arg(long)]
    stats_json: bool,
}

/// Runs the echo server until a signal comes; see [`run_server`].
pub(crate) fn run(args: &Args) -> (Result<(), Fault>, Duration) {
    run_server(&args.server, args)
}

impl ServingFlags {
    /// The addresses to listen on that were given.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &String> {
        self.address.iter().chain(&self.listen)
    }
}

/// What a server of the command does, beside listening, counting and stopping.
pub(crate) trait Service {
    /// Sets what is particular to it.
    fn set_up(&self, builder: ServerBuilder) -> ServerBuilder;

    /// Returns the router.
    fn router(&self) -> impl Fn(&UpgradeRequest) -> Upgrade + Send + Sync + 'static;

    /// The server listens: the line to print behind its addresses, if any.
    fn started(&self) -> Option<String> {
        None
    }

    /// What `--stats` prints besides the counters of the server, with a comma before it.
    fn progress(&self, every: Duration) -> String {
        let _ = every;
        String::new()
    }

    /// The same for `--stats-json`.
    fn add_counters(&self, json: &mut serde_json::Value) {
        let _ = json;
    }

    /// What SIGHUP has it read again, beside certificates and the filter of the log.
    fn reload(&self) -> Option<Box<dyn Fn() + Send>> {
        None
    }

    /// The server has stopped.
    fn stopped(&self) {}
}

impl Service for Args {
    fn set_up(&self, builder: ServerBuilder) -> ServerBuilder {
        let queue = usize::try_from(self.server.max_queue).unwrap_or(usize::MAX);
        builder.max_queue_size(queue, self.queue_policy.into()).validate_text(self.validate_text)
    }

    fn router(&self) -> impl Fn(&UpgradeRequest) -> Upgrade + Send + Sync + 'static {
        router(self)
    }
}

/// Runs a server until a signal comes. Returns the outcome, and the limit of the final flush of the standard
/// streams.
pub(crate) fn run_server(
    args: &ServingFlags,
    service: &impl Service,
) -> (Result<(), Fault>, Duration) {
    system::raise_descriptor_limit();
    // Before the server starts, so that no signal is missed.
    let (stopped, stops) = mpsc::channel();
    let is_hurried = Arc::new(AtomicBool::new(false));
    let drain = args.drain_timeout;
    signals::handle({
        let is_hurried = Arc::clone(&is_hurried);
        move |_, number| {
            is_hurried.store(number > 1, Ordering::SeqCst);
            match stopped.send(number) {
                Ok(()) if number == 1 => drain.saturating_add(END_MARGIN),
                Ok(()) if number == 2 => END_MARGIN,
                _ => Duration::ZERO,
            }
        }
    });
    let outcome = serve(args, service, stops);
    let left = outcome.as_ref().map_or(FLUSH_TIMEOUT, |stop| drain.saturating_sub(stop.elapsed()));
    let is_hurried = is_hurried.load(Ordering::SeqCst);
    let flush = if is_hurried { FLUSH_MIN } else { left.clamp(FLUSH_MIN, FLUSH_TIMEOUT) };
    (outcome.map(drop), flush)
}

/// Serves until a signal comes; returns the time of the signal.
fn serve(
    args: &ServingFlags,
    service: &impl Service,
    stops: mpsc::Receiver<u32>,
) -> Result<Instant, Fault> {
    let successor = Successor::install()?;
    let tls = args.tls.settings()?;
    let builder = tls::of_server(service.set_up(builder(args)), tls.as_ref());
    let sockets = systemd::sockets()?.into_iter();
    let builder = sockets.fold(builder, ServerBuilder::listen_socket);
    let server = builder.start(service.router())?;
    reload_on_hang_up(tls, service.reload())?;
    stdio::out().when_failed(|| {
        let error = stdio::out().failure().map_or_else(String::new, |it| it.to_string());
        note(format_args!("standard output cannot be written, and serving goes on: {error}"));
    });
    let monitor = server.monitor();
    // First: what reads that it listens or is ready may send any signal.
    successor.serves(monitor.clone(), args.takeover.is_some());
    for address in server.addresses() {
        stdio::out().line(&format!("listening on {address}"));
    }
    if let Some(address) = server.admin_address() {
        stdio::out().line(&format!("admin on {}", admin_url(address)));
    }
    if let Some(process) = server.predecessor() {
        note(format_args!("taken over from process {process}"));
    }
    if let Some(line) = service.started() {
        stdio::out().line(&line);
    }
    systemd::ready();
    let start = Instant::now();
    tracing::info!(driver = stats::driver(&monitor), "serving");
    watch(&monitor, &stops, args, service)?;
    let stop = Instant::now();
    successor.stops();
    let why = match monitor.successor() {
        Some(process) => {
            // The end of this process is not that of the service.
            systemd::followed_by(process);
            format!("process {process} has taken over")
        }
        None => {
            systemd::stopping();
            "stopping".to_owned()
        }
    };
    note(format_args!("{why}: closing {} connections", monitor.stats().connections));
    let stopper = server.stopper();
    std::thread::spawn(move || {
        // The first signal stops a server, also one that stops already.
        if stops.iter().any(|number| number > 1) {
            stopper.stop_within(Duration::ZERO);
        }
    });
    let ended = if monitor.successor().is_some() { server.join() } else { server.stop() };
    service.stopped();
    if args.stats_json {
        stats::print_json(&monitor, start.elapsed(), service);
    }
    note(format_args!("{}", stats::summary(&monitor.stats(), start.elapsed())));
    ended?;
    Ok(stop)
}

/// Has SIGHUP read again what came from files, on a thread of its own. Without files, it stops the server.
fn reload_on_hang_up(
    tls: Option<tls::ServerSettings>,
    reload: Option<Box<dyn Fn() + Send>>,
) -> Result<(), Fault> {
    let log = stdio::log_file();
    if tls.is_none() && reload.is_none() && log.is_none() {
        return Ok(());
    }
    let (asked, asks) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("picows-reload".to_owned()).spawn(move || {
        for () in asks {
            systemd::reloading();
            tls.iter().for_each(tls::reload);
            reload.iter().for_each(|reload| reload());
            log.into_iter().for_each(LogFile::reload);
            systemd::ready();
        }
    })?;
    // One that waits already reads the files later than now.
    signals::handle_hang_up(move || {
        let _ = asked.try_send(());
    });
    Ok(())
}

/// See [`QueuePolicy`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Policy {
    /// CLOSE 1008
    Close,
    /// The echo is dropped
    DropNewest,
    /// The oldest queued echoes are dropped for it
    DropOldest,
}

impl From<Policy> for QueuePolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Close => Self::Close,
            Policy::DropNewest => Self::DropNewest,
            Policy::DropOldest => Self::DropOldest,
        }
    }
}

/// Default of the library; the watermark must not exceed the queue.
const HIGH_WATERMARK_MAX: usize = 64 * 1024;

fn builder(args: &ServingFlags) -> ServerBuilder {
    let queue = usize::try_from(args.max_queue).unwrap_or(usize::MAX);
    let (high, low) = (HIGH_WATERMARK_MAX.min(queue), HIGH_WATERMARK_MAX.min(queue) / 4);
    let mut builder = Server::builder()
        .write_watermarks(high, low)
        .pin(args.pin)
        .busy_poll(args.busy_poll)
        .dedicated(args.dedicated)
        .min_wait(args.min_wait)
        .napi_busy_poll(args.napi_busy_poll)
        .max_frame_size(args.max_frame_size)
        .max_connections(args.max_connections.map(|count| count as usize))
        .handshake_timeout(args.handshake_timeout)
        .max_per_address(args.max_per_address.map(|count| count as usize))
        .proxy_protocol(args.proxy_protocol.clone())
        .trusted_proxies(args.trusted_proxies.clone().map(TrustedProxies::by_x_forwarded_for))
        .max_handshakes(NonZeroU32::new(args.max_handshakes).map(|count| count.get() as usize))
        .message_timeout(units::limit(args.message_timeout))
        .write_stall_timeout(units::limit(args.write_stall_timeout))
        .drain_timeout(args.drain_timeout)
        .drain_spread(args.drain_spread)
        .slow_callback(args.slow_callback)
        .deflate(args.deflate.of_server())
        .auto_ping(args.auto_ping.settings())
        .health_on_main(true)
        .metrics_on_main(args.metrics_on_main)
        .keep_request(false);
    if let Some(address) = &args.admin {
        builder = builder.admin(address);
    }
    if let Some(path) = &args.takeover {
        builder = builder.takeover(path);
    }
    builder = args.driver.of_server(builder);
    for address in args.addresses() {
        builder = builder.listen(address);
    }
    if let Some(limit) = args.memory_limit {
        builder = builder.memory_limit(usize::try_from(limit).ok().filter(|limit| *limit > 0));
    }
    if let Some(count) = args.workers {
        builder = builder.workers(usize::from(count));
    }
    builder
}

/// Formats the URL of the admin address.
fn admin_url(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => format!("http://{address}"),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
        other => other.to_string(),
    }
}

/// Returns the router: every path echoes, and `/` has the page for browsers.
fn router(args: &Args) -> impl Fn(&UpgradeRequest) -> Upgrade + use<> {
    let message_bytes_max = usize::try_from(args.server.max_frame_size).unwrap_or(usize::MAX);
    let (messages, pieces) = (args.messages, args.pieces);
    let (subprotocols, has_page) = (args.subprotocols.clone(), !args.no_page);
    move |request| {
        if has_page && let Some(page) = page::answer(request) {
            return page;
        }
        let upgrade = match pieces {
            _ if messages => {
                let listener = Messages::new(EchoMessages).max_message_size(message_bytes_max);
                Upgrade::accept(listener)
            }
            Some(bytes) => Upgrade::accept(relay::Relay::of_frames_above(bytes)),
            None => Upgrade::accept(EchoListener),
        };
        let supported: Vec<&str> = subprotocols.iter().map(String::as_str).collect();
        match select_subprotocol(request, &supported) {
            Some(name) => upgrade.with_subprotocol(name),
            None => upgrade,
        }
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

/// Waits for a signal, or until the last worker has failed, and prints counters meanwhile.
fn watch(
    monitor: &Monitor,
    stops: &mpsc::Receiver<u32>,
    args: &ServingFlags,
    service: &impl Service,
) -> Result<(), Fault> {
    let every = args.stats.unwrap_or(CHECK_INTERVAL);
    let (start, mut before) = (Instant::now(), monitor.stats());
    let mut failed = 0;
    let mut next = start + every;
    let sign_of_life = systemd::sign_of_life_interval();
    let check = sign_of_life.map_or(CHECK_INTERVAL, |interval| interval.min(CHECK_INTERVAL));
    loop {
        let left = next.saturating_duration_since(Instant::now());
        match stops.recv_timeout(left.min(check)) {
            Ok(_) => return Ok(()),
            Err(error @ RecvTimeoutError::Disconnected) => return Err(error.into()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if monitor.successor().is_some() {
            return Ok(());
        }
        if sign_of_life.is_some() && monitor.unhealthy().is_none() {
            systemd::alive();
        }
        if Instant::now() < next {
            continue;
        }
        next += every;
        let stats = monitor.stats();
        if args.stats_json {
            stats::print_json(monitor, start.elapsed(), service);
        } else if args.stats.is_some() {
            let (driver, line) = (stats::driver(monitor), stats::progress(&before, &stats, every));
            note(format_args!("{line}{}, driver {driver}", service.progress(every)));
        }
        before = stats;
        note_blocked(monitor, args.slow_callback);
        let workers = monitor.workers();
        let failures = workers.filter(|it| matches!(it.state, WorkerState::Failed(_))).count();
        if failures > failed {
            failed = failures;
            note(format_args!("{failed} of {} workers have failed", monitor.workers().len()));
        }
        if !monitor.is_running() {
            return Ok(());
        }
    }
}

/// Reports workers that are blocked in a turn: their own warning follows only after the turn.
fn note_blocked(monitor: &Monitor, limit: Duration) {
    for worker in monitor.workers() {
        if let Some(time) = worker.turn_time.filter(|time| !limit.is_zero() && *time >= limit) {
            note(format_args!("worker {} is blocked: one turn for {time:.1?} now", worker.number));
        }
    }
}

/// Time after the drain timeout before the process is ended although a worker still runs.
const END_MARGIN: Duration = Duration::from_secs(1);
/// Interval of the checks on workers without `--stats`.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
