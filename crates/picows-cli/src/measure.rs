//! Measurement of an echo server under load, for `load` and `rtt`.
//!
//! Each thread has a loop and its share of the connections. The coordinator, here, holds the clock,
//! so that all threads measure in the same window. Presentation of the figures is in `report`.

mod churn;
mod connection;
mod connections;
mod dedicated;
mod live;
mod pace;
mod payload;
mod progress;
mod run;
mod schedule;
mod shape;
mod slow;
mod tally;
mod thread;

use crate::fault::{Fault, Usage};
use crate::signals::{self, Interrupted, Signal};
use crate::system::{CpuMeter, CpuReading, own_cpu_time, resident_bytes};
use connections::ThreadContext;
use live::Live;
pub(crate) use pace::SendTimer;
pub(crate) use payload::{Filler, Payload};
use picows_uring::{ConnectError, Stopper};
use progress::ProgressBar;
pub(crate) use run::LoadPlan;
#[cfg(test)]
pub(crate) use run::tests;
use run::{Command, Event, Run, Window, nanos};
pub(crate) use schedule::Schedule;
pub(crate) use shape::{Mode, RateStage, Shape, SlowShape};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};
pub(crate) use tally::{Errors, Part, SlowTally, Tally, histogram};
use tokio::sync::watch;

/// Result of a load.
#[derive(Debug)]
pub(crate) struct Measurement {
    /// Length of the window: shorter than planned if all connections ended, or after a signal.
    pub(crate) duration: Duration,
    pub(crate) bin: Duration,
    /// The start of the window.
    pub(crate) began: SystemTime,
    pub(crate) tally: Tally,
    /// Processor time of each complete round.
    pub(crate) rounds: Vec<RoundCpu>,
    pub(crate) client_cpu: Duration,
    pub(crate) server_cpu: Option<Duration>,
    pub(crate) server_memory: Option<Growth>,
    /// The signal that ended the load early.
    pub(crate) interrupted: Option<Signal>,
}

/// Processor time that one round took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundCpu {
    pub(crate) client: Duration,
    pub(crate) server: Option<Duration>,
}

/// Resident memory of the server's process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    /// Before the first connection.
    pub(crate) before_bytes: u64,
    /// At the end of the window.
    pub(crate) after_bytes: u64,
}

/// Runs the plan. Wrong and missing echoes are part of the result. A signal ends the load early, a
/// second one ends the process.
///
/// # Errors
///
/// When no connection could be made, the driver cannot be had, or a signal came before the load began.
pub(crate) fn measure(plan: LoadPlan, show_progress: bool) -> Result<Measurement, Fault> {
    let cpu = Cpu::new(plan.server_pid)?;
    let progress = ProgressBar::new(&plan, show_progress);
    let run = Arc::new(Run {
        origin: Instant::now(),
        interrupted_ns: AtomicU64::new(u64::MAX),
        echoes: (0..plan.threads).map(|_| AtomicU64::new(0)).collect(),
        live: progress.is_shown().then(|| Live::new(plan.threads)),
        plan,
    });
    let (command, commands) = watch::channel(Command::Wait);
    let (events, received) = mpsc::channel();
    handle_signals(&run, &command, &events);
    let threads: Vec<_> = (0..run.plan.threads)
        .map(|index| {
            let (run, commands, events) = (Arc::clone(&run), commands.clone(), events.clone());
            let context = ThreadContext { run, index, commands, events };
            std::thread::Builder::new()
                .name(format!("picows-load-{index}"))
                .spawn(move || thread::run(&context))
        })
        .collect::<io::Result<_>>()?;
    drop(events);

    let mut reader =
        EventReader { events: received, threads: run.plan.threads, finished: 0, gone: 0 };
    let Connected { failures, stoppers, all_ready } = reader.wait_connected(&run, &progress);
    let mut tally = Tally::new(&run.plan);
    tally.errors.failed_connections = failures.len() as u64;
    let is_ready = all_ready && failures.len() < run.plan.connections;
    let mut began = SystemTime::now();
    let outcome = match begin(&run, &command, is_ready) {
        Some(window) => {
            began = SystemTime::now() + run.plan.warmup;
            let spent = reader.watch_window(&run, &window, &cpu, &progress);
            reader.end_drain(&run, &window, &stoppers);
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
        // Slow connections come on top of these.
        if tally.errors.failed_connections >= run.plan.connections as u64 {
            return Err(failure.into());
        }
        tally.record_error(|| failure.to_string());
    }
    let Spent { duration, rounds, client_cpu, server_cpu, server_bytes } = outcome?;
    let bin = run.plan.bin();
    let grown = cpu.server_bytes.zip(server_bytes);
    let server_memory =
        grown.map(|(before_bytes, after_bytes)| Growth { before_bytes, after_bytes });
    Ok(Measurement {
        duration,
        bin,
        began,
        tally,
        rounds,
        client_cpu,
        server_cpu,
        server_memory,
        interrupted,
    })
}

/// Registers the signal handler: the first signal ends the load, the second the process.
fn handle_signals(run: &Arc<Run>, command: &watch::Sender<Command>, events: &mpsc::Sender<Event>) {
    let (run, command, events) = (Arc::clone(run), command.clone(), events.clone());
    signals::handle(move |_, number| {
        if number > 1 {
            return Duration::ZERO;
        }
        run.interrupted_ns.store(run.now_ns(), Ordering::Relaxed);
        command.send_modify(|command| {
            *command = match *command {
                Command::Start(window) | Command::Stop(window) => Command::Stop(window),
                Command::Wait | Command::GiveUp => Command::GiveUp,
            }
        });
        // The receiver is dropped when the load is over.
        let _ = events.send(Event::Interrupted);
        STOP_TIMEOUT
    });
}

/// Starts the threads if all are ready and no signal came before; returns the window, or `None`.
fn begin(run: &Run, command: &watch::Sender<Command>, is_ready: bool) -> Option<Window> {
    let window = Window::new(&run.plan, run.now_ns());
    let mut begun = None;
    command.send_modify(|command| match command {
        Command::Wait if is_ready => {
            *command = Command::Start(window);
            begun = Some(window);
        }
        _ => *command = Command::GiveUp,
    });
    begun
}

/// Reports of the threads before the load begins.
#[derive(Default)]
struct Connected {
    failures: Vec<ConnectError>,
    stoppers: Vec<Stopper>,
    all_ready: bool,
}

/// Reads and counts the events of the threads.
struct EventReader {
    events: mpsc::Receiver<Event>,
    threads: usize,
    /// Threads whose window is over.
    finished: usize,
    /// Threads that have ended.
    gone: usize,
}

impl EventReader {
    /// Waits until all threads have connected.
    fn wait_connected(&mut self, run: &Run, progress: &ProgressBar) -> Connected {
        let mut connected = Connected::default();
        for _ in 0..self.threads {
            match self.receive(run, progress) {
                Ok(Event::Connected { connections, failures, stopper }) => {
                    tracing::info!(
                        connections,
                        failures = failures.len(),
                        "a thread has connected"
                    );
                    connected.failures.extend(failures);
                    connected.stoppers.extend(stopper);
                }
                Ok(Event::Gone) => {
                    // A thread that could not start: its error follows when it is joined.
                    self.gone += 1;
                    return connected;
                }
                Ok(Event::Finished | Event::Interrupted) | Err(_) => return connected,
            }
        }
        connected.all_ready = true;
        connected
    }

    /// Waits for an event, and shows meanwhile how many connections there are.
    fn receive(&self, run: &Run, progress: &ProgressBar) -> Result<Event, RecvTimeoutError> {
        loop {
            progress.connecting(run);
            match self.events.recv_timeout(progress.wait_limit(Duration::from_secs(3600))) {
                Err(RecvTimeoutError::Timeout) => {}
                outcome => return outcome,
            }
        }
    }

    /// Waits for an event, for at most `limit`. Returns whether one came.
    fn wait(&mut self, limit: Duration) -> bool {
        match self.events.recv_timeout(limit) {
            Ok(Event::Finished) => self.finished += 1,
            Ok(Event::Gone) => self.gone += 1,
            Ok(Event::Connected { .. } | Event::Interrupted) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    /// Whether all threads have stopped sending.
    fn is_over(&self) -> bool {
        self.finished.max(self.gone) >= self.threads
    }

    /// Stops dedicated threads, which have no clock, at the end of the wait for echoes.
    fn end_drain(&mut self, run: &Run, window: &Window, stoppers: &[Stopper]) {
        if stoppers.is_empty() {
            return;
        }
        while self.gone < self.threads {
            let stop_ns = window.stop_ns.min(run.interrupted_ns());
            let end_ns = stop_ns.saturating_add(nanos(run.drain()));
            let left = Duration::from_nanos(end_ns.saturating_sub(run.now_ns()));
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
        run: &Run,
        window: &Window,
        cpu: &Cpu,
        progress: &ProgressBar,
    ) -> Result<Spent, Fault> {
        let mut wait_until = |time_ns: u64| {
            while run.now_ns() < time_ns && !run.is_interrupted() && !self.is_over() {
                let left = Duration::from_nanos(time_ns.saturating_sub(run.now_ns()));
                self.wait(progress.wait_limit(left));
                progress.show(run, window);
            }
        };
        wait_until(window.measure_ns);
        let (begin, before) = (run.now_ns(), cpu.read()?);
        let (mut rounds, mut readings) = (Vec::new(), vec![before]);
        let mut end = begin;
        for round in 1..=u64::from(run.plan.rounds) {
            let end_ns = (window.measure_ns + round * window.round_ns).min(window.stop_ns);
            wait_until(end_ns);
            end = run.now_ns().min(run.interrupted_ns());
            // The processor time of a server that died is lost; its lost connections are reported.
            let after = cpu.read();
            let after = after.unwrap_or_else(|_| Spending { own: own_cpu_time(), server: None });
            let complete = (end >= end_ns).then(|| after.since(readings.last()));
            readings.push(after);
            match complete {
                Some(spent) => rounds.push(spent),
                None => break,
            }
        }
        progress.draining();
        let spent = readings.last().map(|after| after.since(readings.first()));
        let spent = spent.unwrap_or(RoundCpu { client: Duration::ZERO, server: None });
        let duration = if end < window.stop_ns {
            Duration::from_nanos(end.saturating_sub(begin))
        } else {
            run.plan.duration
        };
        Ok(Spent {
            duration,
            rounds,
            client_cpu: spent.client,
            server_cpu: spent.server,
            server_bytes: cpu.resident_bytes(),
        })
    }
}

/// Length of the window, the processor time that the client and the server spent in it, and the memory that the
/// server then has.
struct Spent {
    duration: Duration,
    rounds: Vec<RoundCpu>,
    client_cpu: Duration,
    server_cpu: Option<Duration>,
    server_bytes: Option<u64>,
}

/// Reader of processor time: our own, and the server's if its process is known.
struct Cpu {
    server: Option<CpuMeter>,
    server_pid: Option<u32>,
    /// Resident memory of the server before the load.
    server_bytes: Option<u64>,
}

struct Spending {
    own: Duration,
    server: Option<CpuReading>,
}

impl Spending {
    /// The processor time since an earlier reading.
    fn since(&self, before: Option<&Self>) -> RoundCpu {
        let servers = self.server.as_ref().zip(before.and_then(|it| it.server.as_ref()));
        RoundCpu {
            client: self.own.saturating_sub(before.map_or(self.own, |it| it.own)),
            server: servers.map(|(after, before)| after.since(before)),
        }
    }
}

impl Cpu {
    fn new(server_pid: Option<u32>) -> Result<Self, Usage> {
        let server = server_pid.map(CpuMeter::new);
        if let (Some(meter), Some(pid)) = (&server, server_pid) {
            meter.read().map_err(|error| {
                Usage(format!("--server-pid {pid}: its threads cannot be read: {error}"))
            })?;
        }
        let server_bytes = server_pid.and_then(|pid| resident_bytes(pid).ok());
        Ok(Self { server, server_pid, server_bytes })
    }

    /// Resident memory of the server now, if it is there.
    fn resident_bytes(&self) -> Option<u64> {
        self.server_pid.and_then(|pid| resident_bytes(pid).ok())
    }

    fn read(&self) -> io::Result<Spending> {
        let server = self.server.as_ref().map(CpuMeter::read).transpose()?;
        Ok(Spending { own: own_cpu_time(), server })
    }
}

/// Time for the process to end after a signal: echoes, close handshakes of one second, the report.
/// Long, for a busy machine where all connections end at once.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
