//! One end of topics over NATS, or of bare async-nats: what a publication costs, and how long it takes.
//!
//! The publisher sends probes until it reads a line, and then so many publications at a rate of their own.
//! The subscriber says `ready` with the first probe, and ends with the last publication.

use benches::opening::open;
use benches::process::raise_descriptor_limit;
use benches::reading::{histogram, json, quantiles};
use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use picows_uring::topics::{Hub, Post, Publication, SubscribeOptions};
use picows_uring::{
    EventLoop, Frame, Listener, ListenerResult, Server, Transport, Upgrade, WorkerInfo,
};
use picows_uring_nats::NatsBus;
use picows_uring_nats::async_nats::{self, Client};
use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// Publish over NATS, or subscribe there, and print what it cost
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Which end
    #[arg(long, value_enum)]
    role: Role,

    /// The bus of topics, on a thread of its own or on the loop of a worker, or async-nats alone
    #[arg(long, value_enum)]
    way: Way,

    /// The NATS server
    #[arg(long, value_name = "URL")]
    url: String,

    /// Publications
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    publications: u64,

    /// Publications a second
    #[arg(long, value_name = "N", default_value_t = 2000,
          value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,

    /// Payload of a publication, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(8..))]
    size: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    Publish,
    Subscribe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    Bus,
    Worker,
    Bare,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    raise_descriptor_limit()?;
    match (args.role, args.way) {
        // Without a server there is no worker.
        (Role::Publish, Way::Bus | Way::Worker) => publish_on_bus(&args),
        (Role::Publish, Way::Bare) => publish_bare(&args),
        (Role::Subscribe, Way::Bus | Way::Worker) => subscribe_on_bus(&args),
        (Role::Subscribe, Way::Bare) => subscribe_bare(&args),
    }
}

fn wait_for(bus: &NatsBus) -> Result<(), Box<dyn Error>> {
    if bus.wait_connected(PATIENCE) { Ok(()) } else { Err(bus.status().to_string().into()) }
}

fn publish_on_bus(args: &Args) -> Result<(), Box<dyn Error>> {
    let (hub, bus) = (Hub::new(), NatsBus::builder(&args.url).build()?);
    hub.attach(bus.clone())?;
    wait_for(&bus)?;
    let topic = hub.topic(NAME)?;
    publish_all(args, |payload| {
        topic.publish(Post::binary(payload))?;
        Ok(())
    })?;
    bus.close(PATIENCE);
    Ok(())
}

fn publish_bare(args: &Args) -> Result<(), Box<dyn Error>> {
    let (runtime, client) = connect(args)?;
    let subject = format!("picows.{NAME}");
    publish_all(args, |payload| {
        Ok(runtime.block_on(client.publish(subject.clone(), payload.into()))?)
    })?;
    Ok(runtime.block_on(client.flush())?)
}

/// The connection is served by a thread of its own, as that of a bus is.
fn connect(args: &Args) -> Result<(tokio::runtime::Runtime, Client), Box<dyn Error>> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let client = runtime.block_on(async_nats::connect(&args.url))?;
    Ok((runtime, client))
}

/// Probes, until a line is read; then publications, each when its time has come.
fn publish_all(
    args: &Args,
    mut publish: impl FnMut(Vec<u8>) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let is_begun = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_begun);
    std::thread::spawn(move || {
        let _ = io::stdin().lock().read_line(&mut String::new());
        seen.store(true, Ordering::Relaxed);
    });
    while !is_begun.load(Ordering::Relaxed) {
        publish(vec![0; args.size as usize])?;
        std::thread::sleep(PROBE_INTERVAL);
    }
    let (start, before) = (Instant::now(), cpu_time());
    for number in 0..args.publications {
        let due = start + Duration::from_secs_f64(number as f64 / f64::from(args.rate));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut payload = vec![7; args.size as usize];
        payload[..8].copy_from_slice(&now_ns().to_le_bytes());
        publish(payload)?;
    }
    // What the thread of the connection does behind the last one is little.
    let cpu = (cpu_time() - before).as_secs_f64() * 1e6 / args.publications as f64;
    let fields = [("publisher_cpu_us".to_owned(), cpu)];
    Ok(writeln!(io::stdout(), "{}", json(&fields))?)
}

/// The publications that have come.
struct Tally {
    latency_ns: Histogram<u64>,
    begun_at_cpu: Option<Duration>,
    left: u64,
}

impl Tally {
    /// Takes a payload. Returns whether it is the last.
    fn take(&mut self, payload: &[u8]) -> bool {
        let Some(sent) = payload.first_chunk().map(|it| u64::from_le_bytes(*it)) else {
            return false;
        };
        if sent == 0 {
            if self.begun_at_cpu.is_none() {
                let _ = writeln!(io::stdout(), "ready");
            }
            self.begun_at_cpu = Some(cpu_time());
            return false;
        }
        self.latency_ns.saturating_record(now_ns().saturating_sub(sent));
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    fn report(&self, args: &Args) -> Result<(), Box<dyn Error>> {
        let spent = cpu_time() - self.begun_at_cpu.unwrap_or_default();
        let cpu = spent.as_secs_f64() * 1e6 / args.publications as f64;
        let mut fields = vec![("subscriber_cpu_us".to_owned(), cpu)];
        fields.extend(quantiles(&self.latency_ns));
        Ok(writeln!(io::stdout(), "{}", json(&fields))?)
    }
}

fn tally(args: &Args) -> Tally {
    Tally { latency_ns: histogram(), begun_at_cpu: None, left: args.publications }
}

/// Looks at publications, and lets none through: what a WebSocket costs is measured elsewhere.
struct Subscriber(Hub, Arc<Mutex<Tally>>, mpsc::Sender<()>);

impl Listener for Subscriber {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        let (tally, done) = (Arc::clone(&self.1), self.2.clone());
        let filter = move |publication: &Publication| {
            if tally.lock().is_ok_and(|mut tally| tally.take(publication.payload())) {
                let _ = done.send(());
            }
            false
        };
        self.0.subscribe(transport, NAME, SubscribeOptions::new().filter(filter))?.keep();
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

fn subscribe_on_bus(args: &Args) -> Result<(), Box<dyn Error>> {
    let (hub, mut builder) = (Hub::new(), NatsBus::builder(&args.url));
    let mut server = Server::builder().listen("127.0.0.1:0").workers(1);
    if args.way == Way::Worker {
        // Nothing here is for tokio-uring.
        (builder, server) = (builder.on_worker(), server.event_loop(EventLoop::Tokio));
    }
    let bus = builder.build()?;
    hub.attach(bus.clone())?;
    let (tally, (done, ended)) = (Arc::new(Mutex::new(tally(args))), mpsc::channel());
    let (seen, on_worker) = (Arc::clone(&tally), Arc::clone(&bus));
    let server = server.start_local(move |_: WorkerInfo| {
        // It is served already, if it has a thread.
        let _ = on_worker.serve_here();
        let (hub, seen, done) = (hub.clone(), Arc::clone(&seen), done.clone());
        move |_: &_| Upgrade::accept(Subscriber(hub.clone(), Arc::clone(&seen), done.clone()))
    })?;
    wait_for(&bus)?;
    let address = server.local_addr().ok_or("no address")?;
    let connection = open(address, 0)?;
    ended.recv_timeout(limit(args))?;
    let report = tally.lock().map_err(|_| "a panic")?.report(args);
    drop(connection);
    server.stop_within(Duration::ZERO)?;
    report
}

fn subscribe_bare(args: &Args) -> Result<(), Box<dyn Error>> {
    let (runtime, client) = connect(args)?;
    let mut subscriber = runtime.block_on(client.subscribe(format!("picows.{NAME}")))?;
    let mut tally = tally(args);
    // On the thread of the connection, where the bus hands over to a worker.
    let reading = runtime.spawn(async move {
        while let Some(message) = futures_util::StreamExt::next(&mut subscriber).await {
            if tally.take(&message.payload) {
                break;
            }
        }
        tally
    });
    runtime.block_on(async { tokio::time::timeout(limit(args), reading).await })??.report(args)
}

fn limit(args: &Args) -> Duration {
    PATIENCE + Duration::from_secs_f64(args.publications as f64 / f64::from(args.rate))
}

/// The same clock in all processes.
fn now_ns() -> u64 {
    since(ClockId::Monotonic).as_nanos() as u64
}

fn cpu_time() -> Duration {
    since(ClockId::ProcessCPUTime)
}

fn since(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

const NAME: &str = "bench";
const PROBE_INTERVAL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(20);
