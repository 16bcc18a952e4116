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
use crate::system::{CpuMeter, CpuReading, own_cpu_time};
use picows_uring::{AutoPing, ConnectError, Stopper};
use progress::Progress;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
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
    /// Right echoes of each thread so far, for the progress bar.
    echoes: Vec<AtomicU64>,
}

/// What the threads are told, once all have connected.
#[derive(Clone, Copy, Debug)]
enum Signal {
    Wait,
    Start(Window),
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
}

/// Does what the plan says. Wrong and missing echoes are part of the result.
///
/// # Errors
///
/// When no connection could be made, or there is no io_uring.
pub(crate) fn measure(plan: Plan, show_progress: bool) -> Result<Measurement, Fault> {
    let cpu = Cpu::new(plan.server_pid)?;
    let progress = Progress::new(&plan, show_progress);
    let crew = Arc::new(Crew {
        origin: Instant::now(),
        echoes: (0..plan.threads).map(|_| AtomicU64::new(0)).collect(),
        plan,
    });
    let (signal, signals) = watch::channel(Signal::Wait);
    let (teller, news) = mpsc::channel();
    let threads: Vec<_> = (0..crew.plan.threads)
        .map(|index| {
            let (crew, signals, teller) = (Arc::clone(&crew), signals.clone(), teller.clone());
            let place = thread::Place { crew, index, signals, teller };
            std::thread::Builder::new()
                .name(format!("picows-load-{index}"))
                .spawn(move || thread::run(&place))
        })
        .collect::<io::Result<_>>()?;
    drop(teller);

    let Gathered { failures, stoppers, all_ready } = gather(&news, crew.plan.threads);
    let mut tally = Tally::new(&crew.plan);
    tally.errors.failed_connections = failures.len() as u64;
    let outcome = if all_ready && failures.len() < crew.plan.connections {
        let window = Window::new(&crew.plan, crew.now_ns());
        signal.send_replace(Signal::Start(window));
        let spent = watch_window(&crew, &window, &cpu, &news, &progress);
        end_drain(&crew, &window, &news, &stoppers);
        spent
    } else {
        signal.send_replace(Signal::GiveUp);
        Err("no thread is left".into())
    };
    for thread in threads {
        let part = thread.join().map_err(|_| "a thread of the load panicked")??;
        tally.add(&part);
    }
    progress.finish();
    if let Some(failure) = failures.into_iter().next() {
        if tally.errors.failed_connections == crew.plan.connections as u64 {
            return Err(failure.into());
        }
        tally.tell(|| failure.to_string());
    }
    let (duration, client_cpu, server_cpu) = outcome?;
    Ok(Measurement { duration, bin: crew.plan.bin(), tally, client_cpu, server_cpu })
}

/// What the threads tell before the load begins.
#[derive(Default)]
struct Gathered {
    failures: Vec<ConnectError>,
    stoppers: Vec<Stopper>,
    all_ready: bool,
}

/// Waits until all threads have connected.
fn gather(news: &mpsc::Receiver<News>, threads: usize) -> Gathered {
    let mut gathered = Gathered::default();
    for _ in 0..threads {
        match news.recv() {
            Ok(News::Connected { connections, failures, stopper }) => {
                tracing::info!(connections, failures = failures.len(), "a thread has connected");
                gathered.failures.extend(failures);
                gathered.stoppers.extend(stopper);
            }
            // A thread that could not start: its error follows when it is joined.
            Ok(News::Finished | News::Gone) | Err(_) => return gathered,
        }
    }
    gathered.all_ready = true;
    gathered
}

/// Ends the threads that have no clock when they have waited long enough for echoes.
fn end_drain(crew: &Crew, window: &Window, news: &mpsc::Receiver<News>, stoppers: &[Stopper]) {
    if stoppers.is_empty() {
        return;
    }
    let end_ns = window.stop_ns.saturating_add(nanos(crew.plan.drain));
    // When all threads have gone, there is nobody who could tell anything.
    let left = || Duration::from_nanos(end_ns.saturating_sub(crew.now_ns()));
    while news.recv_timeout(left()).is_ok() {}
    for stopper in stoppers {
        stopper.stop();
    }
}

/// How long the window was, and the processor time spent in it by the client and the server.
type Spent = (Duration, Duration, Option<Duration>);

/// Follows the threads through the window.
fn watch_window(
    crew: &Crew,
    window: &Window,
    cpu: &Cpu,
    news: &mpsc::Receiver<News>,
    progress: &Progress,
) -> Result<Spent, Fault> {
    let mut finished = 0;
    let mut wait_until = |time_ns: u64| {
        while crew.now_ns() < time_ns && finished < crew.plan.threads {
            let left = Duration::from_nanos(time_ns.saturating_sub(crew.now_ns()));
            match news.recv_timeout(progress.patience(left)) {
                Ok(News::Finished) => finished += 1,
                Ok(News::Connected { .. } | News::Gone) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => finished = crew.plan.threads,
            }
            progress.show(crew, window);
        }
    };
    wait_until(window.measure_ns);
    let (begin, before) = (crew.now_ns(), cpu.read()?);
    wait_until(window.stop_ns);
    let (end, after) = (crew.now_ns(), cpu.read());
    progress.draining();
    // A server that died has no processor time to tell of: its lost connections say enough.
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
