//! `picows load --mode fan-out`: measures a server that sends what publishers send to all subscribers.
//!
//! Each thread has a loop and its share of the subscribers; one more thread has the publishers. The
//! coordinator, here, moves all of them from phase to phase.

mod board;
mod plan;
mod publisher;
mod report;
mod stamp;
mod subscriber;
mod tally;

use crate::fault::{Fault, Usage};
use crate::report::Outputs;
use crate::signals::{self, Interrupted, Signal};
use crate::system::{CpuMeter, CpuReading, own_cpu_time};
use crate::tls;
use board::{Board, Phase};
use picows_uring::{
    CloseCode, Connect, ConnectError, FRAME_HEADER_BYTES_MAX, Listener, QueuePolicy, Transport,
};
pub(crate) use plan::FanOutPlan;
use publisher::Publisher;
use report::Report;
use rustix::rand::{GetRandomFlags, getrandom};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use subscriber::{Subscriber, ThreadState};
use tally::Tally;
use tokio::time::timeout;

/// Flags of this mode alone.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "With --mode fan-out")]
pub(crate) struct Flags {
    /// Connections that subscribe, of all threads together [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) subscribers: Option<u32>,

    /// Connections that publish [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) publishers: Option<u32>,

    /// Where publishers connect to, such as the URL with a token [default: the URL]
    #[arg(long, value_name = "URL")]
    pub(crate) publish_url: Option<String>,

    /// Report gaps, and do not count them as errors: for servers with a policy that drops
    #[arg(long)]
    pub(crate) allow_gaps: bool,
}

impl Flags {
    /// The first of these flags that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        [
            (self.subscribers.is_some(), "--subscribers"),
            (self.publishers.is_some(), "--publishers"),
            (self.publish_url.is_some(), "--publish-url"),
            (self.allow_gaps, "--allow-gaps"),
        ]
        .into_iter()
        .find_map(|(is_given, name)| is_given.then_some(name))
    }
}

/// Event that a thread, or the signal handler, reports to the coordinator.
enum Event {
    Connected(Vec<ConnectError>),
    /// A thread has ended.
    Gone,
    Interrupted,
}

/// What the coordinator measured besides the tallies.
struct Window {
    duration: Duration,
    client_cpu: Duration,
    server_cpu: Option<Duration>,
}

/// Runs the plan, and prints its report.
pub(crate) fn run(plan: FanOutPlan, outputs: &Outputs) -> Result<(), Fault> {
    let meter = plan.server_pid.map(CpuMeter::new);
    if let Some(meter) = &meter {
        meter.read().map_err(|error| Usage(format!("--server-pid: its threads: {error}")))?;
    }
    let mut run_id = [0; 4];
    getrandom(&mut run_id, GetRandomFlags::empty())?;
    let board = Arc::new(Board::new(plan.clone(), u32::from_ne_bytes(run_id)));
    let (sender, events) = mpsc::channel();
    handle_signals(&board, &sender);
    let mut threads = Vec::new();
    for role in (0..plan.threads).map(Role::Subscribers).chain([Role::Publishers]) {
        let thread = Thread { board: Arc::clone(&board), role, events: sender.clone() };
        let builder = std::thread::Builder::new().name(role.name());
        threads.push(builder.spawn(move || thread.run())?);
    }
    drop(sender);
    let mut coordinator = Coordinator { board: &board, events, gone: 0, interrupted: false };
    let (failures, outcome) = coordinator.run(meter.as_ref());
    board.phase.send_replace(Phase::Over);
    let mut tally = Tally::new(&plan);
    for thread in threads {
        let part = thread.join().map_err(|_| "a thread of the load panicked")??;
        tally.add(&part);
    }
    let interrupted = signals::first();
    signals::end_at_once();
    let window = conclude(&mut tally, failures, outcome, interrupted)?;
    Report::new(&plan, &window, &tally, interrupted.map(Signal::name)).publish(outputs, interrupted)
}

/// Completes the tally; returns the window, or the cause for which there are no figures.
fn conclude(
    tally: &mut Tally,
    failures: Vec<ConnectError>,
    outcome: Result<Window, Fault>,
    interrupted: Option<Signal>,
) -> Result<Window, Fault> {
    tally.errors.failed_connections = failures.len() as u64;
    if let (Some(signal), Err(_)) = (interrupted, &outcome) {
        return Err(Interrupted(signal).into());
    }
    let first = failures.into_iter().next();
    match (outcome, first) {
        (Ok(window), first) => {
            if let Some(failure) = first {
                tally.record_error(|| failure.to_string());
            }
            tally.compare_orders();
            Ok(window)
        }
        (Err(_), Some(failure)) => Err(failure.into()),
        (Err(fault), None) => match tally.first_error.take() {
            Some(error) => Err(format!("{fault}: {error}").into()),
            None => Err(fault),
        },
    }
}

/// Registers the signal handler: the first signal ends the load, the second the process.
fn handle_signals(board: &Arc<Board>, events: &mpsc::Sender<Event>) {
    let (board, events) = (Arc::clone(board), events.clone());
    signals::handle(move |_, number| {
        if number > 1 {
            return Duration::ZERO;
        }
        board.phase.send_modify(|phase| {
            *phase = match *phase {
                Phase::Publishing | Phase::Draining => Phase::Draining,
                _ => Phase::Over,
            }
        });
        // The receiver is dropped when the load is over.
        let _ = events.send(Event::Interrupted);
        STOP_TIMEOUT
    });
}

/// Moves all threads from phase to phase.
struct Coordinator<'a> {
    board: &'a Board,
    events: mpsc::Receiver<Event>,
    gone: usize,
    interrupted: bool,
}

impl Coordinator<'_> {
    fn run(&mut self, meter: Option<&CpuMeter>) -> (Vec<ConnectError>, Result<Window, Fault>) {
        let failures = self.wait_connected();
        let plan = &self.board.plan;
        if self.is_over() || failures.len() == plan.subscribers + plan.publishers {
            return (failures, Err("the load did not begin".into()));
        }
        let outcome = self.wait_probed().and_then(|()| self.measure(meter));
        (failures, outcome)
    }

    fn wait_connected(&mut self) -> Vec<ConnectError> {
        let mut failures = Vec::new();
        for _ in 0..=self.board.plan.threads {
            match self.events.recv() {
                Ok(Event::Connected(failed)) => failures.extend(failed),
                Ok(Event::Gone) => {
                    self.gone += 1;
                    return failures;
                }
                Ok(Event::Interrupted) | Err(_) => {
                    self.interrupted = true;
                    return failures;
                }
            }
        }
        failures
    }

    /// Waits until each subscriber has had a probe, so that none begins with a gap.
    fn wait_probed(&mut self) -> Result<(), Fault> {
        self.enter(Phase::Probing);
        let start = Instant::now();
        loop {
            let (open, probed) =
                (self.board.subscribers(), self.board.probed.load(Ordering::Relaxed));
            if open == 0 {
                return Err("all subscribers were lost before the load began".into());
            }
            if probed >= open {
                return Ok(());
            }
            if self.board.is_publisher_lost.load(Ordering::Relaxed) {
                return Err("a publisher was lost before the load began".into());
            }
            if start.elapsed() >= PROBE_TIMEOUT {
                return Err(format!(
                    "{} of {open} subscribers did not get what was published within {} s: the server \
                     has to send the messages of one connection to all others of this URL (picows \
                     pubsub --publish all, and ws://HOST/topic/NAME)",
                    open - probed,
                    PROBE_TIMEOUT.as_secs()
                )
                .into());
            }
            self.wait(PROBE_CHECK);
            if self.is_over() {
                return Err("the load did not begin".into());
            }
        }
    }

    fn measure(&mut self, meter: Option<&CpuMeter>) -> Result<Window, Fault> {
        let plan = &self.board.plan;
        if !plan.warmup.is_zero() {
            self.enter(Phase::Publishing);
            self.wait_for(plan.warmup);
        }
        let read = || -> io::Result<_> { meter.map(CpuMeter::read).transpose() };
        let before: Option<CpuReading> = read()?;
        let (start, own_before) = (Instant::now(), own_cpu_time());
        self.board.measure(true);
        // Without a warm-up the first publication is measured.
        self.enter(Phase::Publishing);
        self.wait_for(plan.duration);
        self.board.measure(false);
        let (duration, own) = (start.elapsed(), own_cpu_time());
        // The processor time of a server that died is lost; its lost connections are reported.
        let after = read().unwrap_or(None);
        self.enter(Phase::Draining);
        // A publisher may not have noticed yet, and what it counted now would reach no subscriber.
        self.board.close();
        let limit = if self.interrupted { plan.drain.min(STOP_DRAIN) } else { plan.drain };
        let end = Instant::now() + limit;
        while !self.board.is_settled() && self.board.subscribers() > 0 && Instant::now() < end {
            self.wait(SETTLE_CHECK);
        }
        let server_cpu = after.zip(before).map(|(after, before)| after.since(&before));
        Ok(Window { duration, client_cpu: own.saturating_sub(own_before), server_cpu })
    }

    /// Waits so long, or until a signal or the loss of all subscribers.
    fn wait_for(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        while !self.is_over() && self.board.subscribers() > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.wait(left.min(LOSS_CHECK));
        }
    }

    /// Waits for an event, for at most `limit`.
    fn wait(&mut self, limit: Duration) {
        match self.events.recv_timeout(limit) {
            // The channel is closed when all threads have ended.
            Ok(Event::Gone) | Err(RecvTimeoutError::Disconnected) => self.gone += 1,
            Ok(Event::Interrupted) => self.interrupted = true,
            Ok(Event::Connected(_)) | Err(RecvTimeoutError::Timeout) => {}
        }
    }

    fn is_over(&self) -> bool {
        self.interrupted || self.gone > 0
    }

    /// Enters a phase, unless a signal has gone further.
    fn enter(&self, phase: Phase) {
        self.board.phase.send_modify(|now| *now = (*now).max(phase));
    }
}

/// What a thread does.
#[derive(Clone, Copy)]
enum Role {
    /// The subscribers whose number leaves this rest.
    Subscribers(usize),
    Publishers,
}

impl Role {
    fn name(self) -> String {
        match self {
            Self::Subscribers(index) => format!("picows-load-{index}"),
            Self::Publishers => "picows-publish".to_owned(),
        }
    }
}

/// A thread of the load, with a loop.
struct Thread {
    board: Arc<Board>,
    role: Role,
    events: mpsc::Sender<Event>,
}

/// Reports the end of the thread on every path, a panic included.
impl Drop for Thread {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Gone);
    }
}

impl Thread {
    fn run(&self) -> Result<Tally, Fault> {
        let plan = &self.board.plan;
        let runtime = plan.driver.of_loop().busy_poll(plan.busy_poll).build()?;
        runtime.block_on(self.work())?
    }

    async fn work(&self) -> Result<Tally, Fault> {
        let (board, state) = (&self.board, ThreadState::new(&self.board));
        let plan = &board.plan;
        let mut phase = board.phase.subscribe();
        let mut subscribers = Vec::new();
        let transports = match self.role {
            Role::Subscribers(index) => {
                let ids = (index..plan.subscribers).step_by(plan.threads);
                let listeners = ids.map(|id| Rc::new(RefCell::new(Subscriber::new(&state, id))));
                subscribers = listeners.collect();
                connect_all(&self.events, board, &plan.url, subscribers.iter().cloned()).await?
            }
            Role::Publishers => {
                let listener = |id| Publisher { state: Rc::clone(&state), id };
                let listeners = (0..plan.publishers).map(listener);
                connect_all(&self.events, board, &plan.publish_url, listeners).await?
            }
        };
        if let Role::Publishers = self.role {
            let _ = phase.wait_for(|phase| *phase > Phase::Connecting).await;
            publisher::publish(&state, &transports).await?;
        }
        let _ = phase.wait_for(|phase| *phase == Phase::Over).await;
        let is_cut = signals::first().is_some();
        for subscriber in &subscribers {
            subscriber.borrow_mut().settle(is_cut);
        }
        close_all(&transports).await;
        Ok(state.tally.replace(Tally::new(plan)))
    }
}

/// Connects listeners, several at a time, until a signal comes, and reports it. Returns the transports of
/// those that connected.
async fn connect_all<L: Listener + 'static>(
    events: &mpsc::Sender<Event>,
    board: &Arc<Board>,
    url: &str,
    listeners: impl Iterator<Item = L>,
) -> Result<Vec<Transport>, Fault> {
    let waiting: Vec<_> = listeners.collect();
    let waiting = Rc::new(RefCell::new(waiting.into_iter().rev().collect::<Vec<_>>()));
    let done = Rc::new(RefCell::new((Vec::new(), Vec::new())));
    let mut tasks = Vec::new();
    for _ in 0..CONNECTING_MAX {
        let (waiting, done) = (Rc::clone(&waiting), Rc::clone(&done));
        let (board, url) = (Arc::clone(board), url.to_owned());
        tasks.push(picows_uring::spawn(async move {
            loop {
                let Some(listener) = waiting.borrow_mut().pop() else { return };
                match connector(&board, &url).connect(listener).await {
                    Ok(transport) => done.borrow_mut().0.push(transport),
                    Err(error) => done.borrow_mut().1.push(error),
                }
            }
        })?);
    }
    let mut phase = board.phase.subscribe();
    tokio::select! {
        outcome = async {
            for task in &mut tasks {
                task.await?;
            }
            Ok::<_, Fault>(())
        } => outcome?,
        _ = phase.wait_for(|phase| *phase != Phase::Connecting) => {
            tasks.iter().for_each(picows_uring::Task::abort);
        }
    }
    let (transports, failures) = done.take();
    let _ = events.send(Event::Connected(failures));
    Ok(transports)
}

fn connector(board: &Board, url: &str) -> Connect {
    let plan = &board.plan;
    let frame_bytes = plan.size_bytes + FRAME_HEADER_BYTES_MAX;
    let queue_bytes = frame_bytes.saturating_mul(2 * plan.pipeline).max(QUEUE_BYTES_MIN);
    let connect = Connect::new(url)
        .max_frame_size(plan.size_bytes as u64 + FRAME_SPARE_BYTES)
        .max_queue_size(queue_bytes, QueuePolicy::Close)
        .close_timeout(CLOSE_TIMEOUT)
        .deflate(plan.deflate)
        .auto_ping(plan.auto_ping);
    let connect = match &plan.sources {
        Some(sources) => sources.bind(connect, board.begun.fetch_add(1, Ordering::Relaxed)),
        None => connect,
    };
    let connect = tls::of_client(connect, plan.tls.as_ref());
    match &plan.proxy {
        Some(proxy) => connect.proxy(proxy.clone()),
        None => connect,
    }
}

/// Sends CLOSE on each connection, and waits up to `CLOSE_TIMEOUT` for the answers.
async fn close_all(transports: &[Transport]) {
    for transport in transports {
        transport.send_close(CloseCode::NORMAL, "");
    }
    let _ = timeout(CLOSE_TIMEOUT, async {
        for transport in transports {
            let _ = transport.wait_disconnected().await;
        }
    })
    .await;
}

/// Handshakes of a thread at a time, so that they do not overflow the server's listen backlog.
const CONNECTING_MAX: usize = 32;
/// Least limit of a publisher's queue: an open loop queues up to 4 MiB.
const QUEUE_BYTES_MIN: usize = 16 << 20;
/// Bytes by which a message may exceed a publication, so that it is counted instead of ending the
/// connection.
const FRAME_SPARE_BYTES: u64 = 1 << 20;
/// Limit of the close handshakes, after the measurement.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Limit of the wait for the first publication to reach all subscribers.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Intervals of the coordinator's checks.
const PROBE_CHECK: Duration = Duration::from_millis(5);
const SETTLE_CHECK: Duration = Duration::from_millis(5);
const LOSS_CHECK: Duration = Duration::from_millis(100);
/// Limit of the wait for deliveries after a signal.
const STOP_DRAIN: Duration = Duration::from_millis(500);
/// Time for the process to end after a signal.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
