//! Loads an echo server and measures it: what `load` and `rtt` have in common.
//!
//! Each thread has a loop and its share of the connections; this one holds the clock, and sees to
//! it that all of them measure in the same window. What is made of the figures is not known here.

mod connection;
mod dedicated;
mod pace;
mod payload;
mod progress;
mod schedule;
mod tally;
mod thread;

use crate::fault::{Fault, Usage};
use crate::signals::{self, Interrupted, Signal};
use crate::system::{CpuMeter, CpuReading, own_cpu_time};
use picows_uring::{AutoPing, ConnectError, Stopper};
use progress::Progress;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
pub(crate) use tally::{Errors, Tally};
use tokio::sync::watch;

/// What is to be measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) url: String,
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    pub(crate) size_bytes: usize,
    pub(crate) is_text: bool,
    /// Most messages in flight on a connection.
    pub(crate) pipeline: usize,
    /// Messages per second in total; `None` sends the next when an echo has come.
    pub(crate) rate_per_s: Option<f64>,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    /// How long to wait for echoes that are missing at the end.
    pub(crate) drain: Duration,
    pub(crate) busy_poll: Duration,
    /// Threads leave their loops once they have connected. Not with a rate.
    pub(crate) is_dedicated: bool,
    pub(crate) auto_ping: Option<AutoPing>,
    pub(crate) server_pid: Option<u32>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Measurement {
    /// How long the window was: shorter than planned if no connection was left.
    pub(crate) duration: Duration,
    pub(crate) bin: Duration,
    pub(crate) tally: Tally,
    pub(crate) client_cpu: Duration,
    pub(crate) server_cpu: Option<Duration>,
    /// The signal that ended it early.
    pub(crate) interrupted: Option<Signal>,
}

/// When messages are sent and when they count, in nanoseconds of the crew's clock.
#[derive(Clone, Copy, Debug)]
struct Window {
    start_ns: u64,
    measure_ns: u64,
    stop_ns: u64,
    bin_ns: u64,
}

/// What the threads share.
#[derive(Debug)]
struct Crew {
    plan: Plan,
    origin: Instant,
    /// When a signal ended the load; the maximum if none did.
    interrupted_ns: AtomicU64,
    /// Right echoes of each thread so far, for the progress bar.
    echoes: Vec<AtomicU64>,
}

/// What the threads are to do.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// Connect, and wait.
    Wait,
    Start(Window),
    /// A signal came after the start: send nothing more.
    Stop(Window),
    /// Do not begin.
    GiveUp,
}

/// What a thread tells.
#[derive(Debug)]
enum News {
    Connected {
        connections: usize,
        failures: Vec<ConnectError>,
        /// Of a thread that has no clock.
        stopper: Option<Stopper>,
    },
    /// Its window is over.
    Finished,
    /// The thread has ended.
    Gone,
    /// A signal came.
    Interrupted,
}

impl Plan {
    fn bin(&self) -> Duration {
        (self.duration / BINS).max(BIN_MIN)
    }

    fn bins(&self) -> usize {
        self.duration.as_nanos().div_ceil(self.bin().as_nanos()) as usize
    }
}

impl Window {
    fn new(plan: &Plan, start_ns: u64) -> Self {
        let measure_ns = start_ns + nanos(plan.warmup);
        let stop_ns = measure_ns + nanos(plan.duration);
        Self { start_ns, measure_ns, stop_ns, bin_ns: nanos(plan.bin()) }
    }

    fn contains(&self, time_ns: u64) -> bool {
        (self.measure_ns..self.stop_ns).contains(&time_ns)
    }
}

impl Crew {
    fn now_ns(&self) -> u64 {
        nanos(self.origin.elapsed())
    }

    fn instant(&self, time_ns: u64) -> Instant {
        self.origin + Duration::from_nanos(time_ns)
    }

    fn interrupted_ns(&self) -> u64 {
        self.interrupted_ns.load(Ordering::Relaxed)
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted_ns() != u64::MAX
    }

    /// Whether echoes are not waited for as long as they might take.
    fn is_drain_cut(&self) -> bool {
        self.drain() < self.plan.drain
    }

    /// How long echoes that are missing are waited for at the end.
    fn drain(&self) -> Duration {
        if self.is_interrupted() { self.plan.drain.min(STOP_DRAIN) } else { self.plan.drain }
    }
}

/// Does what the plan says. Wrong and missing echoes are part of the result. A signal ends it early,
/// and a second one ends the process.
///
/// # Errors
///
/// When no connection could be made, there is no io_uring, or a signal came before the load began.
pub(crate) fn measure(plan: Plan, show_progress: bool) -> Result<Measurement, Fault> {
    let cpu = Cpu::new(plan.server_pid)?;
    let progress = Progress::new(&plan, show_progress);
    let crew = Arc::new(Crew {
        origin: Instant::now(),
        interrupted_ns: AtomicU64::new(u64::MAX),
        echoes: (0..plan.threads).map(|_| AtomicU64::new(0)).collect(),
        plan,
    });
    let (order, orders) = watch::channel(Order::Wait);
    let (teller, news) = mpsc::channel();
    obey_signals(&crew, &order, &teller);
    let threads: Vec<_> = (0..crew.plan.threads)
        .map(|index| {
            let (crew, orders, teller) = (Arc::clone(&crew), orders.clone(), teller.clone());
            let place = thread::Place { crew, index, orders, teller };
            std::thread::Builder::new()
                .name(format!("picows-load-{index}"))
                .spawn(move || thread::run(&place))
        })
        .collect::<io::Result<_>>()?;
    drop(teller);

    let mut news = Newsroom { news, threads: crew.plan.threads, finished: 0, gone: 0 };
    let Gathered { failures, stoppers, all_ready } = news.gather();
    let mut tally = Tally::new(&crew.plan);
    tally.errors.failed_connections = failures.len() as u64;
    let is_ready = all_ready && failures.len() < crew.plan.connections;
    let outcome = match begin(&crew, &order, is_ready) {
        Some(window) => {
            let spent = news.watch_window(&crew, &window, &cpu, &progress);
            news.end_drain(&crew, &window, &stoppers);
            spent
        }
        None => Err("no thread is left".into()),
    };
    for thread in threads {
        let part = thread.join().map_err(|_| "a thread of the load panicked")??;
        tally.add(&part);
    }
    progress.finish();
    let interrupted = signals::first();
    signals::end_at_once();
    if let (Some(signal), Err(_)) = (interrupted, &outcome) {
        return Err(Interrupted(signal).into());
    }
    if let Some(failure) = failures.into_iter().next() {
        if tally.errors.failed_connections == crew.plan.connections as u64 {
            return Err(failure.into());
        }
        tally.tell(|| failure.to_string());
    }
    let (duration, client_cpu, server_cpu) = outcome?;
    let bin = crew.plan.bin();
    Ok(Measurement { duration, bin, tally, client_cpu, server_cpu, interrupted })
}

/// Has the first signal end the load, and the second the process.
fn obey_signals(crew: &Arc<Crew>, order: &watch::Sender<Order>, teller: &mpsc::Sender<News>) {
    let (crew, order, teller) = (Arc::clone(crew), order.clone(), teller.clone());
    signals::handle(move |_, number| {
        if number > 1 {
            return Duration::ZERO;
        }
        crew.interrupted_ns.store(crew.now_ns(), Ordering::Relaxed);
        order.send_modify(|order| {
            *order = match *order {
                Order::Start(window) | Order::Stop(window) => Order::Stop(window),
                Order::Wait | Order::GiveUp => Order::GiveUp,
            }
        });
        // Gone when the load is over.
        let _ = teller.send(News::Interrupted);
        STOP_TIMEOUT
    });
}

/// Orders the threads to send, if they are to, and no signal came before: the window.
fn begin(crew: &Crew, order: &watch::Sender<Order>, is_ready: bool) -> Option<Window> {
    let window = Window::new(&crew.plan, crew.now_ns());
    let mut begun = None;
    order.send_modify(|order| match order {
        Order::Wait if is_ready => {
            *order = Order::Start(window);
            begun = Some(window);
        }
        _ => *order = Order::GiveUp,
    });
    begun
}

/// What the threads report before the load begins.
#[derive(Default)]
struct Gathered {
    failures: Vec<ConnectError>,
    stoppers: Vec<Stopper>,
    all_ready: bool,
}

/// What the threads have reported.
struct Newsroom {
    news: mpsc::Receiver<News>,
    threads: usize,
    /// Threads whose window is over.
    finished: usize,
    /// Threads that have ended.
    gone: usize,
}

impl Newsroom {
    /// Waits until all threads have connected.
    fn gather(&mut self) -> Gathered {
        let mut gathered = Gathered::default();
        for _ in 0..self.threads {
            match self.news.recv() {
                Ok(News::Connected { connections, failures, stopper }) => {
                    tracing::info!(
                        connections,
                        failures = failures.len(),
                        "a thread has connected"
                    );
                    gathered.failures.extend(failures);
                    gathered.stoppers.extend(stopper);
                }
                Ok(News::Gone) => {
                    // A thread that could not start: its error follows when it is joined.
                    self.gone += 1;
                    return gathered;
                }
                Ok(News::Finished | News::Interrupted) | Err(_) => return gathered,
            }
        }
        gathered.all_ready = true;
        gathered
    }

    /// Waits for a report, for at most `limit`. `false` when none came.
    fn wait(&mut self, limit: Duration) -> bool {
        match self.news.recv_timeout(limit) {
            Ok(News::Finished) => self.finished += 1,
            Ok(News::Gone) => self.gone += 1,
            Ok(News::Connected { .. } | News::Interrupted) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    /// Whether no thread sends any more.
    fn is_over(&self) -> bool {
        self.finished.max(self.gone) >= self.threads
    }

    /// Ends the threads that have no clock when they have waited long enough for echoes.
    fn end_drain(&mut self, crew: &Crew, window: &Window, stoppers: &[Stopper]) {
        if stoppers.is_empty() {
            return;
        }
        while self.gone < self.threads {
            let stop_ns = window.stop_ns.min(crew.interrupted_ns());
            let end_ns = stop_ns.saturating_add(nanos(crew.drain()));
            let left = Duration::from_nanos(end_ns.saturating_sub(crew.now_ns()));
            if left.is_zero() || !self.wait(left) {
                break;
            }
        }
        for stopper in stoppers {
            stopper.stop();
        }
    }

    /// Follows the threads through the window.
    fn watch_window(
        &mut self,
        crew: &Crew,
        window: &Window,
        cpu: &Cpu,
        progress: &Progress,
    ) -> Result<Spent, Fault> {
        let mut wait_until = |time_ns: u64| {
            while crew.now_ns() < time_ns && !crew.is_interrupted() && !self.is_over() {
                let left = Duration::from_nanos(time_ns.saturating_sub(crew.now_ns()));
                self.wait(progress.patience(left));
                progress.show(crew, window);
            }
        };
        wait_until(window.measure_ns);
        let (begin, before) = (crew.now_ns(), cpu.read()?);
        wait_until(window.stop_ns);
        let (end, after) = (crew.now_ns().min(crew.interrupted_ns()), cpu.read());
        progress.draining();
        // The processor time of a server that died is lost: its lost connections say enough.
        let after = after.unwrap_or_else(|_| Spending { own: own_cpu_time(), server: None });
        let server = match (&after.server, &before.server) {
            (Some(after), Some(before)) => Some(after.since(before)),
            _ => None,
        };
        let duration = if end < window.stop_ns {
            Duration::from_nanos(end.saturating_sub(begin))
        } else {
            crew.plan.duration
        };
        Ok((duration, after.own.saturating_sub(before.own), server))
    }
}

/// How long the window was, and the processor time spent in it by the client and the server.
type Spent = (Duration, Duration, Option<Duration>);

/// Reads processor time: our own, and the server's if it is known.
struct Cpu {
    server: Option<CpuMeter>,
}

struct Spending {
    own: Duration,
    server: Option<CpuReading>,
}

impl Cpu {
    fn new(server_pid: Option<u32>) -> Result<Self, Usage> {
        let server = server_pid.map(CpuMeter::new);
        if let (Some(meter), Some(pid)) = (&server, server_pid) {
            meter.read().map_err(|error| {
                Usage(format!("--server-pid {pid}: its threads cannot be read: {error}"))
            })?;
        }
        Ok(Self { server })
    }

    fn read(&self) -> io::Result<Spending> {
        let server = self.server.as_ref().map(CpuMeter::read).transpose()?;
        Ok(Spending { own: own_cpu_time(), server })
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How long a load that a signal has ended waits for echoes.
const STOP_DRAIN: Duration = Duration::from_millis(500);
/// How long the process may take to end after a signal, everything else included: echoes, close
/// handshakes of a second, the report. A lot on a busy machine, where all connections end at once.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Points of the throughput over time, if the time is not too short.
const BINS: u32 = 100;
/// Shorter, and the scheduler is what shows.
const BIN_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plan() -> Plan {
        Plan {
            url: "ws://127.0.0.1:9001/".into(),
            connections: 2,
            threads: 1,
            size_bytes: 64,
            is_text: false,
            pipeline: 4,
            rate_per_s: None,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            drain: Duration::from_secs(5),
            busy_poll: Duration::ZERO,
            is_dedicated: false,
            auto_ping: None,
            server_pid: None,
        }
    }

    #[test]
    fn bins_cover_the_window_exactly_once() {
        for millis in [1, 9, 10, 11, 999, 1000, 1001, 12_345, 60_000] {
            let plan = Plan { duration: Duration::from_millis(millis), ..plan() };
            let covered = plan.bin() * plan.bins() as u32;
            assert!(covered >= plan.duration && covered - plan.duration < plan.bin(), "{millis}");
        }
    }
}
