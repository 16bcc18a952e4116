//! Costs of topics that no load on a server shows: of a publication for its publisher, and of what is held
//! back for subscribers that have stopped reading.
//!
//! The server is in this process. The subscribers are in a child, which is this program again: a
//! connection takes a descriptor at each end.

use benches::opening::open;
use benches::process::raise_descriptor_limit;
use benches::reading::json;
use clap::{Parser, ValueEnum};
use picows_uring::topics::{Hub, HubStats, Post, SlowPolicy, SubscribeOptions, Topic};
use picows_uring::{Frame, Listener, ListenerResult, Server, ServerHandle, Transport, Upgrade};
use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Measure what a publication costs its publisher, or what slow subscribers hold, and print it
#[derive(Debug, Parser)]
struct Args {
    /// What to measure
    #[arg(long, value_enum)]
    what: What,

    /// Connections that subscribe, on two workers
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: u32,

    /// Publications
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..))]
    publications: u32,

    /// Payload of a publication, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    size: u32,

    /// Be the subscribers of a server, until the standard input ends
    #[arg(long, value_name = "ADDRESS", hide = true)]
    connect: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Processor time of the thread that publishes, to subscribers whose filters let nothing through
    Publish,
    /// Memory of subscribers that hold the latest publication back
    Latest,
    /// Memory of subscribers that hold 64 publications back
    Oldest,
}

impl What {
    fn options(self) -> SubscribeOptions {
        let options = SubscribeOptions::new();
        match self {
            Self::Publish => options.filter(|_| false),
            Self::Latest => options.policy(SlowPolicy::latest()),
            Self::Oldest => options.policy(SlowPolicy::drop_oldest(HELD)),
        }
    }
}

struct Subscriber(Hub, What);

impl Listener for Subscriber {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.0.subscribe(transport, NAME, self.1.options())?.keep();
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    raise_descriptor_limit()?;
    if let Some(address) = args.connect {
        return subscribe(address, args.subscribers);
    }
    let hub = Hub::new();
    let topic = hub.topic(NAME)?;
    let (server, address) = start(&hub, args.what)?;
    let subscribers = Subscribers::start(address, &args)?;
    let mut fields = vec![("subscribers".to_owned(), f64::from(args.subscribers))];
    fields.extend(match args.what {
        What::Publish => publish(&args, &topic)?,
        What::Latest | What::Oldest => hold(&args, &hub, &topic)?,
    });
    drop(subscribers);
    server.stop_within(Duration::ZERO)?;
    Ok(writeln!(io::stdout(), "{}", json(&fields))?)
}

/// Sockets take little, so that the kernel holds little and the server the rest.
fn start(hub: &Hub, what: What) -> Result<(ServerHandle, SocketAddr), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    rustix::net::sockopt::set_socket_send_buffer_size(&listener, SOCKET_BYTES)?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, SOCKET_BYTES)?;
    let (address, hub) = (listener.local_addr()?, hub.clone());
    let server = Server::builder().listen(OwnedFd::from(listener)).workers(2);
    let server = server.start(move |_: &_| Upgrade::accept(Subscriber(hub.clone(), what)))?;
    Ok((server, address))
}

/// The process of the subscribers. Dropping it ends it.
struct Subscribers(Child);

impl Subscribers {
    /// Starts it, and waits until all are connected.
    fn start(address: SocketAddr, args: &Args) -> Result<Self, Box<dyn Error>> {
        let child = Command::new(std::env::current_exe()?)
            .args(["--what", "publish", "--connect", &address.to_string()])
            .args(["--subscribers", &args.subscribers.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut subscribers = Self(child);
        let mut line = String::new();
        if let Some(output) = subscribers.0.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        match line.trim_end() {
            CONNECTED => Ok(subscribers),
            _ => Err(format!("the {} subscribers could not all connect", args.subscribers).into()),
        }
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Connects, says so, and reads nothing.
fn subscribe(address: SocketAddr, count: u32) -> Result<(), Box<dyn Error>> {
    let mut all = Vec::new();
    for index in 0..count {
        let stream = open(address, u64::from(index))
            .map_err(|error| format!("subscriber {index} of {count}: {error}"))?;
        rustix::net::sockopt::set_socket_recv_buffer_size(&stream, SOCKET_BYTES)?;
        all.push(stream);
    }
    writeln!(io::stdout(), "{CONNECTED}")?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// One at a time, where each has to wake the workers, and in a row.
fn publish(args: &Args, topic: &Topic) -> Result<Vec<(String, f64)>, Box<dyn Error>> {
    let payload = vec![7; args.size as usize];
    let once = || Ok::<_, Box<dyn Error>>(topic.publish(Post::binary(payload.clone()))?.receivers);
    let mut alone = Vec::new();
    for _ in 0..args.publications {
        // Bounds nothing: the workers have slept by then, or one of them costs less.
        std::thread::sleep(Duration::from_millis(1));
        let before = thread_time();
        if once()? != args.subscribers as usize {
            return Err("a subscriber is missing".into());
        }
        alone.push(thread_time() - before);
    }
    alone.sort_unstable();
    let before = thread_time();
    for _ in 0..args.publications {
        once()?;
    }
    let in_a_row = (thread_time() - before).as_secs_f64() * 1e6 / f64::from(args.publications);
    let alone = alone[alone.len() / 2].as_secs_f64() * 1e6;
    Ok(vec![("publish_alone_us".to_owned(), alone), ("publish_in_a_row_us".to_owned(), in_a_row)])
}

fn hold(args: &Args, hub: &Hub, topic: &Topic) -> Result<Vec<(String, f64)>, Box<dyn Error>> {
    let before = resident_bytes()?;
    publish_all(args, hub, topic)?;
    let after = resident_bytes()?;
    let behind = hub.stats().behind;
    if behind != args.subscribers as usize {
        return Err(format!("{behind} subscribers hold something back").into());
    }
    let each = if matches!(args.what, What::Oldest) { HELD } else { 1 };
    let held = (behind * each) as f64;
    let grown = after.saturating_sub(before) as f64;
    Ok(vec![
        ("held".to_owned(), held),
        ("grown_bytes".to_owned(), grown),
        ("bytes_per_held".to_owned(), grown / held),
        ("bytes_per_subscriber".to_owned(), grown / f64::from(args.subscribers)),
    ])
}

/// Publishes, and waits until all of it is with the subscriptions.
fn publish_all(args: &Args, hub: &Hub, topic: &Topic) -> Result<(), Box<dyn Error>> {
    let payload = vec![7; args.size as usize];
    for number in 0..args.publications {
        topic.publish(Post::binary(payload.clone()))?;
        if number % 64 == 63 {
            settle(hub, args)?;
        }
    }
    settle(hub, args)
}

fn settle(hub: &Hub, args: &Args) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    loop {
        let before = hub.stats();
        std::thread::sleep(Duration::from_millis(20));
        if hub.stats() == before && is_through(&before, args) {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("the workers do not keep up: {before:?}").into());
        }
    }
}

/// Whether every publication has been queued, held, replaced or dropped.
fn is_through(stats: &HubStats, args: &Args) -> bool {
    let all = stats.published * u64::from(args.subscribers);
    let held = all - (stats.delivered + stats.dropped + stats.conflated).min(all);
    held <= u64::from(args.subscribers) * HELD as u64
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Resident memory of this process.
fn resident_bytes() -> Result<usize, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim_end().parse::<usize>()? * 1024)
}

const NAME: &str = "bench";
/// What the process of the subscribers says when it is ready.
const CONNECTED: &str = "connected";
/// Publications that `Oldest` holds back.
const HELD: usize = 64;
const SOCKET_BYTES: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(60);
