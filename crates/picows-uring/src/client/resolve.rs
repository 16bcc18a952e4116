//! Name resolution, on threads of its own that nothing waits for.
//!
//! `getaddrinfo` blocks for as long as the DNS likes and cannot be interrupted. The blocking
//! threads of a tokio runtime would do, but their runtime waits for them when it is dropped: a
//! connect that has given up would hold up the end of `run`, of a `Runtime` and of the process.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;

/// Addresses of a host and port; blocks.
type Lookup = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// Looks names up. Clones share their threads.
#[derive(Clone)]
pub(super) struct Resolver(Arc<Shared>);

struct Shared {
    lookup: Lookup,
    threads_max: usize,
    state: Mutex<State>,
    /// A job was added.
    added: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Of those, the ones that wait for a job.
    idle: usize,
    /// Length of the queue at which jobs of callers that have given up are removed from it.
    purge_at: usize,
}

struct Job {
    host: String,
    port: u16,
    reply: oneshot::Sender<io::Result<Vec<SocketAddr>>>,
}

impl Resolver {
    /// The one of this process.
    pub(super) fn of_process() -> Self {
        static RESOLVER: LazyLock<Resolver> = LazyLock::new(|| Resolver::new(look_up, THREADS_MAX));
        RESOLVER.clone()
    }

    fn new(lookup: Lookup, threads_max: usize) -> Self {
        let state = Mutex::default();
        Self(Arc::new(Shared { lookup, threads_max, state, added: Condvar::new() }))
    }

    /// One with a thread of its own.
    #[cfg(test)]
    pub(super) fn for_test(lookup: Lookup) -> Self {
        Self::new(lookup, 1)
    }

    /// The addresses of `host`, which an address is itself. When all threads are busy, waits for
    /// one. Dropping the future gives the job up, but does not interrupt it.
    ///
    /// # Errors
    ///
    /// What the resolver says, or that no thread can be had.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let (reply, answer) = oneshot::channel();
        self.0.add(Job { host: host.to_owned(), port, reply })?;
        let lost = |_| io::Error::other("the thread that looked the name up has ended");
        answer.await.map_err(lost)?
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::of_process()
    }
}

impl Shared {
    fn add(self: &Arc<Self>, job: Job) -> io::Result<()> {
        let mut state = self.lock();
        if state.jobs.len() >= state.purge_at {
            // With a resolver that hangs, callers give up and come again.
            state.jobs.retain(|job| !job.reply.is_closed());
            state.purge_at = PURGE_AT_MIN.max(2 * state.jobs.len());
        }
        state.jobs.push_back(job);
        if state.jobs.len() > state.idle && state.threads < self.threads_max {
            let shared = Arc::clone(self);
            let thread = thread::Builder::new().name("picows-resolve".to_owned());
            match thread.spawn(move || shared.serve()) {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    state.jobs.pop_back();
                    return Err(error);
                }
                // Those that there are will come to it.
                Err(_) => {}
            }
        }
        drop(state);
        self.added.notify_one();
        Ok(())
    }

    /// Does jobs until there have been none for a while.
    fn serve(self: Arc<Self>) {
        while let Some(Job { host, port, reply }) = self.next_job() {
            // The caller may have given up; then nothing is asked, and nothing is reported.
            if !reply.is_closed() {
                let _ = reply.send((self.lookup)(&host, port));
            }
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut state = self.lock();
        if state.jobs.is_empty() {
            state.idle += 1;
            let (after, _) = self
                .added
                .wait_timeout_while(state, IDLE_TIME, |state| state.jobs.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            state = after;
            state.idle -= 1;
        }
        let job = state.jobs.pop_front();
        if job.is_none() {
            // Under the same lock as the look for a job, so that none is missed.
            state.threads -= 1;
        }
        job
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// Names that are looked up at the same time, of a whole process. Each costs a thread, and a
/// resolver that hangs keeps all of them; so many are enough for others to get through.
const THREADS_MAX: usize = 64;

/// How long a thread waits for the next name: a client that connects many times needs no new one
/// for each.
const IDLE_TIME: Duration = Duration::from_secs(10);

/// Jobs that may wait before it is worth a look whether their callers still do.
const PURGE_AT_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Connect, ConnectFault, ConnectStage};
    use crate::listener::EchoListener;
    use futures_util::FutureExt;
    use std::sync::mpsc;

    /// What `stuck` waits for, and how often it was called: one pair for each test.
    struct Gate {
        open: Mutex<bool>,
        opened: Condvar,
        calls: Mutex<Vec<String>>,
    }

    impl Gate {
        const fn new() -> Self {
            Self { open: Mutex::new(false), opened: Condvar::new(), calls: Mutex::new(Vec::new()) }
        }

        fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
            self.calls.lock().unwrap().push(host.to_owned());
            drop(self.opened.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
        }

        fn open(&self) {
            *self.open.lock().unwrap() = true;
            self.opened.notify_all();
        }
    }

    #[test]
    fn a_loop_ends_while_the_name_of_a_connect_that_gave_up_is_still_looked_up() {
        static GATE: Gate = Gate::new();
        let resolver = Resolver::new(|host, port| GATE.look_up(host, port), 1);
        // The lookup ends after the loops only: were they to wait, this would not end.
        for limit_ms in [1, 50] {
            let connect = Connect::new("ws://slow.example/")
                .resolver(resolver.clone())
                .handshake_timeout(Duration::from_millis(limit_ms));
            let error = crate::run(connect.connect(EchoListener)).unwrap().unwrap_err();
            let is_timeout = |fault: &ConnectFault| {
                matches!(fault, ConnectFault::Timeout { stage: ConnectStage::Resolve, .. })
            };
            assert!(is_timeout(error.fault()), "{error:?}");
        }
        let dedicated = crate::Runtime::builder().build().unwrap();
        let connect = Connect::new("ws://slow.example/")
            .resolver(resolver.clone())
            .handshake_timeout(Duration::from_millis(1));
        assert!(dedicated.run_dedicated(connect.connect(EchoListener)).unwrap().is_err());
        GATE.open();
        // And names are looked up again; those that were given up were not.
        let found = crate::run(async move { resolver.addresses("fast.example", 7).await });
        assert_eq!(found.unwrap().unwrap(), [SocketAddr::from(([127, 0, 0, 1], 7))]);
        let calls = GATE.calls.lock().unwrap();
        assert!(calls.len() <= 2 && calls.last().unwrap() == "fast.example", "{calls:?}");
    }

    #[test]
    fn threads_are_bounded_and_one_that_hangs_holds_up_no_other() {
        static GATE: Gate = Gate::new();
        let lookup: Lookup = |host, port| match host {
            "stuck.example" => GATE.look_up(host, port),
            _ => Ok(vec![SocketAddr::from(([127, 0, 0, 2], port))]),
        };
        let resolver = Resolver::new(lookup, 2);
        let mut stuck = Box::pin(resolver.addresses("stuck.example", 1));
        assert!(stuck.as_mut().now_or_never().is_none());
        crate::run(async {
            for port in 0..50 {
                let found = resolver.addresses("other.example", port).await.unwrap();
                assert_eq!(found, [SocketAddr::from(([127, 0, 0, 2], port))]);
            }
            assert!(resolver.0.lock().threads <= 2);
            GATE.open();
            assert_eq!(stuck.await.unwrap().len(), 1);
        })
        .unwrap();
    }

    #[test]
    fn jobs_of_callers_that_gave_up_do_not_pile_up() {
        static GATE: Gate = Gate::new();
        let resolver = Resolver::new(|host, port| GATE.look_up(host, port), 1);
        for _ in 0..10_000 {
            assert!(resolver.addresses("stuck.example", 1).now_or_never().is_none());
            assert!(resolver.0.lock().jobs.len() <= PURGE_AT_MIN + 1);
        }
        GATE.open();
    }

    #[test]
    fn an_address_is_its_own() {
        let resolver = Resolver::new(|_, _| panic!("nothing is looked up"), 1);
        for host in ["127.0.0.1", "::1"] {
            let found = resolver.addresses(host, 80).now_or_never().unwrap().unwrap();
            assert_eq!(found, [SocketAddr::new(host.parse().unwrap(), 80)]);
        }
    }

    #[test]
    fn an_answer_wakes_a_caller_on_another_thread() {
        let (told, answers) = mpsc::channel();
        crate::run(async move {
            let found = Resolver::of_process().addresses("localhost", 9).await;
            told.send(found.is_ok_and(|found| found.iter().all(|it| it.port() == 9))).unwrap();
        })
        .unwrap();
        assert!(answers.recv().unwrap());
    }
}
