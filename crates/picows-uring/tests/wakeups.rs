//! Wake-ups: what another thread posts at a random moment reaches a worker that sleeps, is awake, or
//! is about to sleep, in each kind of loop on each driver.
//!
//! A lost wake-up is a message that never comes, for which the client waits until its patience ends.
//! `scripts/wakeups` runs the same for longer, and limits how late a message may be.

mod common;

use common::{Client, address, next, on_frame, uninterrupted, workers};
use picows_uring::{
    Driver, Embedded, EventLoop, ListenAddress, MsgType, RemoteTransport, Server, ServerHandle,
    Stopper, Turned, Upgrade, UpgradeRequest,
};
use rustix::event::{PollFd, PollFlags, poll};
use std::net::SocketAddr;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Posts of one run, and where their pauses come from. From the environment, if the script set it.
struct Run {
    posts: u32,
    seed: u64,
    /// A message that comes later is a failure. `None` in CI, where other loads share the machine.
    late: Option<Duration>,
}

impl Run {
    fn from_environment() -> Self {
        let number = |name: &str| {
            std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"))
        };
        Self {
            posts: number("PICOWS_WAKEUPS").map_or(20_000, |posts| posts.try_into().expect("u32")),
            seed: number("PICOWS_WAKEUPS_SEED").unwrap_or(1),
            late: number("PICOWS_WAKEUPS_LATE_MS").map(Duration::from_millis),
        }
    }
}

/// Pauses between two posts, of all sizes up to `PAUSE_NANOS_MAX`: as many between 1 and 2 µs as
/// between 64 and 128, since the worker falls asleep some microseconds after its last message. One of
/// a thousand is longer than whatever the kernel does before a thread sleeps.
struct Pauses(u64);

impl Pauses {
    fn next(&mut self) -> Duration {
        let draw = self.draw();
        if draw.is_multiple_of(1000) {
            return Duration::from_millis(1);
        }
        let magnitude = 1 << (draw % u64::from(PAUSE_NANOS_MAX.ilog2()));
        Duration::from_nanos(magnitude + self.draw() % magnitude)
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// Passes time without giving up the core, which would take longer than most pauses.
fn pause(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// How late messages were.
#[derive(Default)]
struct Delays {
    worst: Duration,
    /// Longer than 1 ms, and than 10 ms.
    over: [u32; 2],
}

impl Delays {
    fn note(&mut self, delay: Duration) {
        self.worst = self.worst.max(delay);
        for (over, limit) in self.over.iter_mut().zip([1, 10]) {
            *over += u32::from(delay > Duration::from_millis(limit));
        }
    }
}

/// What waits between the turns of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Hosted,
    /// In tokio's own loop, whatever the driver.
    HostedByTokio,
    Dedicated,
    /// A loop of `poll`.
    Embedded,
}

/// A server of one worker that sends a handle of its connection away with the first frame.
enum Running {
    Server(ServerHandle),
    Embedded(Stopper, JoinHandle<()>),
}

impl Running {
    fn start(
        driver: Driver,
        waiting: Waiting,
        remotes: Sender<RemoteTransport>,
    ) -> (Self, SocketAddr) {
        let upgrade = move |_: &_| {
            let remotes = remotes.clone();
            Upgrade::accept(on_frame(move |transport, _| Ok(remotes.send(transport.remote())?)))
        };
        if waiting == Waiting::Embedded {
            return Self::embed(driver, upgrade);
        }
        let builder = workers(1).driver(driver).dedicated(waiting == Waiting::Dedicated);
        let is_by_tokio = waiting == Waiting::HostedByTokio;
        let builder = if is_by_tokio { builder.event_loop(EventLoop::Tokio) } else { builder };
        let server = builder.start(upgrade).expect("a worker of this kind can be had");
        let address = address(&server);
        (Self::Server(server), address)
    }

    /// A thread whose loop polls the descriptor of the worker.
    fn embed(
        driver: Driver,
        upgrade: impl Fn(&UpgradeRequest) -> Upgrade + Send + 'static,
    ) -> (Self, SocketAddr) {
        let (started, is_started) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let worker = Embedded::builder().driver(driver).build().expect("it can be had");
            let listening = worker.listen(Server::builder().listen("127.0.0.1:0"), upgrade);
            let listening = listening.expect("a port is free");
            let [ListenAddress::Tcp(address)] = listening.addresses() else { panic!("one port") };
            started.send((*address, worker.stopper())).expect("the test waits");
            let mut turned = Turned::Busy;
            while turned != Turned::Done {
                if turned == Turned::Idle {
                    let ready = || poll(&mut [PollFd::new(&worker, PollFlags::IN)], None);
                    uninterrupted(|| ready().map_err(Into::into)).expect("it can be polled");
                }
                turned = worker.turn().expect("its ring is there");
            }
        });
        let (address, stopper) = next(&is_started);
        (Self::Embedded(stopper, thread), address)
    }

    fn stop(self) {
        match self {
            Self::Server(server) => drop(server.stop().expect("it ends in order")),
            Self::Embedded(stopper, thread) => {
                stopper.stop();
                thread.join().expect("it ends in order");
            }
        }
    }
}

/// Posts to a worker of this kind from this thread, one message at a time.
fn every_post_arrives(driver: Driver, waiting: Waiting) {
    let run = Run::from_environment();
    let (sender, remotes) = mpsc::channel();
    let (running, address) = Running::start(driver, waiting, sender);
    let mut client = Client::upgrade(address);
    client.send_text("who posts to me?");
    let remote = next(&remotes);
    let (mut pauses, mut delays) = (Pauses(run.seed), Delays::default());
    for number in 0..run.posts {
        pause(pauses.next());
        let posted = Instant::now();
        let sent = remote.send(MsgType::Binary, number.to_be_bytes().to_vec());
        sent.expect("it is connected, and takes one message at a time");
        client.spin_for_bytes(SPIN);
        let got = match client.try_receive() {
            Ok(got) => got,
            Err(error) => {
                // A worker that cannot be woken cannot be stopped either.
                std::mem::forget(running);
                panic!("post {number} of seed {} was not heard: {error}", run.seed);
            }
        };
        delays.note(posted.elapsed());
        assert_eq!(got.payload, number.to_be_bytes());
    }
    report(&run, driver, waiting, &delays);
    assert!(run.late.is_none_or(|late| delays.worst <= late), "a post was handled late");
    drop(client);
    running.stop();
}

#[expect(clippy::print_stdout, reason = "what scripts/wakeups is for")]
fn report(run: &Run, driver: Driver, waiting: Waiting, delays: &Delays) {
    let Delays { worst, over: [over_1, over_10] } = delays;
    println!(
        "{driver} {waiting:?}: {} posts of seed {}, latest {:.3} ms, {over_1} over 1 ms, {over_10} over 10 ms",
        run.posts,
        run.seed,
        worst.as_secs_f64() * 1e3,
    );
}

#[test]
fn every_post_to_a_hosted_worker_on_io_uring_arrives() {
    every_post_arrives(Driver::IoUring, Waiting::Hosted);
}

#[test]
fn every_post_to_a_hosted_worker_on_io_uring_in_the_loop_of_tokio_arrives() {
    every_post_arrives(Driver::IoUring, Waiting::HostedByTokio);
}

#[test]
fn every_post_to_a_dedicated_worker_on_io_uring_arrives() {
    every_post_arrives(Driver::IoUring, Waiting::Dedicated);
}

#[test]
fn every_post_to_an_embedded_worker_on_io_uring_arrives() {
    every_post_arrives(Driver::IoUring, Waiting::Embedded);
}

#[test]
fn every_post_to_a_hosted_worker_on_epoll_arrives() {
    every_post_arrives(Driver::Epoll, Waiting::Hosted);
}

#[test]
fn every_post_to_a_dedicated_worker_on_epoll_arrives() {
    every_post_arrives(Driver::Epoll, Waiting::Dedicated);
}

#[test]
fn every_post_to_an_embedded_worker_on_epoll_arrives() {
    every_post_arrives(Driver::Epoll, Waiting::Embedded);
}

const PAUSE_NANOS_MAX: u64 = 1 << 18;
/// A message mostly comes sooner. Who sleeps until it is there is late for the moment in which the
/// worker falls asleep.
const SPIN: Duration = Duration::from_micros(100);
