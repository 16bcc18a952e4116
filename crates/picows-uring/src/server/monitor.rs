//! View of a running server for other threads: counters, and whether its workers live.
//!
//! Only reads; what stops a server is its handle.

use super::metrics;
use super::ready::ReadyCheck;
use crate::admission::{Admission, AdmissionLimits, Refusal};
use crate::command::Command;
use crate::config::Config;
use crate::driver::Driver;
use crate::error::Error;
use crate::health::{Counters, Stats, WorkerState};
use crate::mailbox::Mailbox;
use crate::memory::MemoryBudget;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

/// Watches a server from any thread; made by [`ServerHandle::monitor`](crate::ServerHandle::monitor).
/// Cheap to clone, and stays valid when the server has ended.
///
/// ```
/// use picows_uring::{EchoListener, Server, Upgrade, WorkerState};
///
/// let builder = Server::builder().listen("127.0.0.1:0").workers(2);
/// let server = builder.start(|_| Upgrade::accept(EchoListener))?;
/// let monitor = server.monitor();
/// assert!(monitor.workers().all(|worker| worker.state == WorkerState::Running));
/// server.stop()?;
/// assert!(monitor.workers().all(|worker| worker.state == WorkerState::Ended));
/// # Ok::<(), picows_uring::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Monitor {
    workers: Arc<[(Arc<Counters>, Arc<Mailbox>)]>,
    server: Arc<ServerState>,
}

/// The state that the workers of a server have in common.
#[derive(Debug)]
pub(super) struct ServerState {
    admission: Option<Arc<Admission>>,
    limits: AdmissionLimits,
    memory: Arc<MemoryBudget>,
    /// What the application says about more clients.
    ready: Option<ReadyCheck>,
    /// It was stopped.
    pub(super) is_draining: Arc<AtomicBool>,
    /// The number of the process that has taken over.
    successor: OnceLock<u32>,
}

/// The status of a worker; [`WorkerState`] has an example.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Its number, counted from 0; its thread is called `picows-` and that.
    pub number: usize,
    /// Whether it runs.
    pub state: WorkerState,
    /// What it runs on: [`Driver::IoUring`] or [`Driver::Epoll`].
    pub driver: Driver,
    /// Whether the kernel refuses its ring all operations but those of the data path: on io_uring,
    /// unless the kernel knows no restrictions.
    pub is_restricted: bool,
    /// How long it has been in its present turn, unless it is between two. Far below a millisecond
    /// unless a callback blocks; a worker that is blocked for ever is seen here, and nowhere else.
    pub turn_time: Option<Duration>,
    /// What it has done so far.
    pub stats: Stats,
}

impl ServerState {
    /// Of a server whose connections have the settings `config`.
    pub(super) fn new(config: &Config, ready: Option<ReadyCheck>) -> Self {
        // Not the settings themselves: what they hold may hold a monitor.
        Self {
            admission: config.admission.clone(),
            limits: config.admission_limits(),
            memory: Arc::clone(&config.memory),
            ready,
            is_draining: Arc::default(),
            successor: OnceLock::new(),
        }
    }

    /// Another process takes over, and so the server stops.
    pub(super) fn hand_over(&self, process: u32) {
        let _ = self.successor.set(process);
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// The setting of a limit, on all connections together, that is reached.
    fn full(&self) -> Option<&'static str> {
        if self.memory.is_full() {
            return Some(Refusal::Memory.setting());
        }
        self.admission.as_ref()?.full(&self.limits).map(Refusal::setting)
    }
}

impl Monitor {
    pub(super) fn new(
        workers: impl Iterator<Item = (Arc<Counters>, Arc<Mailbox>)>,
        server: Arc<ServerState>,
    ) -> Self {
        Self { workers: workers.collect(), server }
    }

    /// The counters of each worker.
    pub(super) fn counters(&self) -> impl Iterator<Item = &Counters> {
        self.workers.iter().map(|(counters, _)| &**counters)
    }

    /// The memory limit of the server.
    pub(super) fn memory_limit(&self) -> Option<usize> {
        self.server.memory.limit()
    }

    /// What the server has done so far, all workers together.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        self.counters().for_each(|worker| sum += worker.read());
        sum
    }

    /// How each worker is.
    pub fn workers(&self) -> impl ExactSizeIterator<Item = WorkerStatus> {
        self.workers.iter().enumerate().map(|(number, (worker, _))| WorkerStatus {
            number,
            driver: worker.driver(),
            is_restricted: worker.is_restricted(),
            state: worker.pulse.state(),
            turn_time: worker.pulse.turn_time(),
            stats: worker.read(),
        })
    }

    /// The first worker that could not go on, as the error that
    /// [`ServerHandle::join`](crate::ServerHandle::join) will return. The others go on without it.
    #[must_use]
    pub fn failed(&self) -> Option<Error> {
        self.counters().enumerate().find_map(|(worker, counters)| match counters.pulse.state() {
            WorkerState::Failed(fault) => Some(Error::Worker { worker, fault }),
            WorkerState::Running | WorkerState::Ended => None,
        })
    }

    /// Waits until the server has ended, and returns what it did in total. Any number of tasks may wait,
    /// on any runtime; dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// When a worker failed, once the others have ended as well: [`failed`](Self::failed) shows it at
    /// once.
    pub async fn stopped(&self) -> Result<Stats, Error> {
        for (worker, _) in self.workers.iter() {
            let ended = |is_ended| if is_ended { Poll::Ready(()) } else { Poll::Pending };
            poll_fn(|context| ended(worker.pulse.wait(context.waker()))).await;
        }
        self.failed().map_or_else(|| Ok(self.stats()), Err)
    }

    /// Whether any worker runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.counters().any(|worker| worker.pulse.state() == WorkerState::Running)
    }

    /// The reason why the process is better started again, if there is one: a worker failed, has been in
    /// one turn for 5 s, or has not answered for so long. What `/healthz` reports.
    ///
    /// Each call wakes the workers and asks them for a sign of life, which a later call judges: it is
    /// for callers that come again, such as a watchdog.
    #[must_use]
    pub fn unhealthy(&self) -> Option<String> {
        self.workers.iter().enumerate().find_map(|(number, (counters, mailbox))| {
            let pulse = &counters.pulse;
            match pulse.state() {
                WorkerState::Failed(fault) => {
                    return Some(format!("worker {number} failed: {fault}"));
                }
                WorkerState::Ended if self.is_draining() => return None,
                WorkerState::Ended => return Some(format!("worker {number} has ended")),
                WorkerState::Running => {}
            }
            let waiting = pulse.ask();
            if waiting.is_none() {
                mailbox.post(Command::Beat);
            }
            let (waiting, turn) = (waiting.unwrap_or_default(), pulse.turn_time());
            let longest = turn.unwrap_or_default().max(waiting);
            (longest >= PULSE_AGE_MAX)
                .then(|| format!("worker {number} is blocked: no sign of life for {longest:.1?}"))
        })
    }

    /// The reason why no more clients should come, if there is one: what is
    /// [unhealthy](Self::unhealthy), a server that stops, a worker that pauses accepting for lack of
    /// descriptors or memory, a limit on all connections that is reached, an error of the application's
    /// [check](crate::ServerBuilder::ready_when). What `/readyz` reports.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        if self.is_draining() {
            return Some("the server is stopping".to_owned());
        }
        let paused = self.counters().position(|counters| counters.accept_paused.get() > 0);
        if let Some(number) = paused {
            return Some(format!("worker {number} pauses accepting: see the log"));
        }
        self.server
            .full()
            .map(|setting| format!("{setting} is reached"))
            .or_else(|| self.unhealthy())
            .or_else(|| self.server.ready.as_ref()?.fault())
    }

    /// Whether the server was stopped.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.server.is_draining.load(Ordering::Relaxed)
    }

    /// The number of the process that has [taken over](crate::ServerBuilder::takeover) the listening sockets,
    /// as that knows itself; this one drains then.
    #[must_use]
    pub fn successor(&self) -> Option<u32> {
        self.server.successor.get().copied()
    }

    /// All figures as text in the format OpenMetrics 1.0: what `/metrics` answers. The guide "Metrics and
    /// health" lists the names, which are promised.
    ///
    /// ```
    /// use picows_uring::{EchoListener, Server, Upgrade};
    ///
    /// let builder = Server::builder().listen("127.0.0.1:0").workers(1);
    /// let server = builder.start(|_| Upgrade::accept(EchoListener))?;
    /// let text = server.monitor().open_metrics();
    /// assert!(text.contains("\npicows_connections 0\n") && text.ends_with("# EOF\n"));
    /// # Ok::<(), picows_uring::Error>(())
    /// ```
    #[must_use]
    pub fn open_metrics(&self) -> String {
        metrics::render(self)
    }
}

/// How long a worker may give no sign of life before it is unhealthy: far more than a long callback.
const PULSE_AGE_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    fn mailbox() -> Arc<Mailbox> {
        Arc::new(Mailbox::new(Arc::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap())))
    }

    /// A monitor of two workers that no thread runs.
    fn monitor(config: Config) -> Monitor {
        let workers = (0..2).map(|_| (Arc::default(), mailbox()));
        Monitor::new(workers, Arc::new(ServerState::new(&config, None)))
    }

    #[test]
    fn a_worker_in_a_long_turn_is_unhealthy() {
        let monitor = monitor(Config::default());
        let pulse = &monitor.workers[1].0.pulse;
        pulse.set_clock(Duration::from_secs(4));
        pulse.turn_begins(Duration::ZERO);
        assert_eq!(monitor.unhealthy(), None);
        pulse.set_clock(Duration::from_secs(6));
        let reason = monitor.unhealthy().unwrap();
        assert!(reason.starts_with("worker 1 is blocked: no sign of life for 6"), "{reason}");
        assert_eq!(
            monitor.not_ready().map(|it| it[..19].to_owned()),
            Some(reason[..19].to_owned())
        );
        pulse.turn_ends();
        assert_eq!((monitor.unhealthy(), monitor.not_ready()), (None, None));
    }

    #[test]
    fn each_worker_is_asked_once_for_a_sign_of_life() {
        let monitor = monitor(Config::default());
        for _ in 0..3 {
            assert_eq!(monitor.unhealthy(), None);
        }
        for (counters, mailbox) in monitor.workers.iter() {
            assert!(matches!(mailbox.take()[..], [Command::Beat]));
            counters.pulse.answer();
        }
        assert_eq!(monitor.unhealthy(), None);
        assert_eq!(monitor.workers[0].1.len(), 1, "and again once it has answered");
    }

    #[test]
    fn a_worker_that_failed_or_ended_by_itself_is_unhealthy() {
        let monitor = monitor(Config::default());
        monitor.workers[0].0.pulse.end(WorkerState::Ended);
        assert_eq!(monitor.unhealthy().as_deref(), Some("worker 0 has ended"));
        monitor.server.is_draining.store(true, Ordering::Relaxed);
        assert_eq!(monitor.unhealthy(), None, "it was to");
        assert_eq!(monitor.not_ready().as_deref(), Some("the server is stopping"));
        monitor.workers[1].0.pulse.end(WorkerState::Failed("lost".into()));
        assert_eq!(monitor.unhealthy().as_deref(), Some("worker 1 failed: lost"));
    }

    #[test]
    fn a_server_at_a_limit_or_without_descriptors_is_not_ready() {
        let admission = Some(Arc::new(Admission::default()));
        let limited = |handshakes_max| Config {
            connections_max: Some(2),
            handshakes_max,
            admission: admission.clone(),
            ..Config::default()
        };
        let config = limited(Some(1));
        let monitor = monitor(config.clone());
        assert_eq!(monitor.not_ready(), None);
        config.admit(None).unwrap();
        assert_eq!(monitor.not_ready().as_deref(), Some("max_handshakes is reached"));
        limited(None).admit(None).unwrap();
        assert_eq!(monitor.not_ready().as_deref(), Some("max_connections is reached"));
        assert_eq!(monitor.unhealthy(), None);
        let monitor = self::monitor(Config::default());
        monitor.workers[1].0.accept_paused.set(1);
        let reason = monitor.not_ready().unwrap();
        assert!(reason.starts_with("worker 1 pauses accepting"), "{reason}");
    }
}
