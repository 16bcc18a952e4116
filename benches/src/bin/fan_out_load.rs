//! Load for fan-out: one connection sends, all of them receive.
//!
//! The next message goes out when everybody has the last one, so a lost delivery is a hang, which
//! is reported. The server has to be started with its `--fan-out`.

use benches::course::Course;
use benches::echo::{Check, Echo, Requests};
use benches::opening::{PATIENCE, open_with};
use benches::process::raise_descriptor_limit;
use benches::reading::{Reading, Spent, histogram, json, quantiles};
use clap::Parser;
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Send messages that a server passes on to many, and print what a delivery costs it
///
/// Latency is from sending a message to reading it, over all subscribers; `span` is until the last
/// of them has it.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    course: Course,

    /// Number of connections that receive; the first of them also sends
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: u32,

    /// Payload of a message, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    size: u32,

    /// Have the server compress: frames are counted by their headers then, and not compared
    #[arg(long)]
    deflate: bool,

    /// Process of the server, whose processor time is counted
    #[arg(long, value_name = "PID")]
    server_pid: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    raise_descriptor_limit()?;
    let mut load = Load::connect(&args)?;
    load.run_for(args.course.warmup)?;
    load.forget();
    let before = Reading::take(args.server_pid)?;
    load.run_for(args.course.duration)?;
    let after = Reading::take(args.server_pid)?;
    let deliveries = load.latency_ns.len();
    let mut fields = Spent::between(&before, &after).fields(["delivery", "deliveries"], deliveries);
    fields.push(("subscribers".to_owned(), f64::from(args.subscribers)));
    fields.push(("size_bytes".to_owned(), f64::from(args.size)));
    fields.extend(quantiles(&load.latency_ns));
    let span_us = load.span_ns.value_at_quantile(0.5) as f64 / 1e3;
    fields.push(("span_p50_us".to_owned(), span_us));
    Ok(writeln!(io::stdout(), "{}", json(&fields))?)
}

struct Load {
    epoll: rustix::fd::OwnedFd,
    subscribers: Vec<Subscriber>,
    requests: Requests,
    /// What each delivery has to be, if it is compared.
    echo: Option<Echo>,
    /// One for all connections, so that it stays in cache.
    buffer: Vec<u8>,
    /// Of the message under way.
    stamp: u64,
    latency_ns: Histogram<u64>,
    span_ns: Histogram<u64>,
}

struct Subscriber {
    stream: TcpStream,
    /// How much of the message it has.
    at: usize,
    /// The length of its frame, once its header is there.
    frame_bytes: usize,
}

impl Load {
    fn connect(args: &Args) -> Result<Self, Box<dyn Error>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut subscribers = Vec::new();
        for index in 0..u64::from(args.subscribers) {
            let stream = open_with(args.course.url_addr, index, args.deflate.then_some(OFFER))?;
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&epoll, &stream, epoll::EventData::new_u64(index), flags)?;
            subscribers.push(Subscriber { stream, at: 0, frame_bytes: 0 });
        }
        Ok(Self {
            epoll,
            subscribers,
            requests: Requests::new(args.size as usize, 1),
            echo: (!args.deflate).then(|| Echo::new(args.size as usize, Check::Content)),
            buffer: vec![0; BUFFER_BYTES],
            stamp: 0,
            latency_ns: histogram(),
            span_ns: histogram(),
        })
    }

    fn forget(&mut self) {
        self.latency_ns.reset();
        self.span_ns.reset();
    }

    fn run_for(&mut self, time: Duration) -> Result<(), Box<dyn Error>> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.stamp += 1;
            self.deliver()?;
        }
        Ok(())
    }

    /// Sends one message, and waits until everybody has it.
    fn deliver(&mut self) -> Result<(), Box<dyn Error>> {
        let sent_at = Instant::now();
        send(&mut self.subscribers[0].stream, self.requests.stamped(self.stamp, 1))?;
        let mut missing = self.subscribers.len();
        let patience = PATIENCE.try_into()?;
        let mut events = Vec::with_capacity(EVENTS);
        while missing > 0 {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&patience)) {
                Ok(0) => {
                    return Err(format!("{missing} deliveries missing for {PATIENCE:?}").into());
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            for event in &events {
                let data = event.data;
                let index = data.u64() as usize;
                let subscriber = &mut self.subscribers[index];
                if subscriber
                    .read(self.echo.as_ref(), &mut self.buffer, self.stamp)
                    .map_err(|error| format!("subscriber {index}: {error}"))?
                {
                    self.latency_ns.saturating_record(sent_at.elapsed().as_nanos() as u64);
                    missing -= 1;
                }
            }
        }
        self.span_ns.saturating_record(sent_at.elapsed().as_nanos() as u64);
        Ok(())
    }
}

impl Subscriber {
    /// Reads what is there, and returns whether that completed the message.
    fn read(&mut self, echo: Option<&Echo>, buffer: &mut [u8], stamp: u64) -> io::Result<bool> {
        let mut is_complete = false;
        loop {
            let len = match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::other("closed by the server")),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(is_complete),
                Err(error) => return Err(error),
            };
            if self.at == 0 {
                self.frame_bytes =
                    echo.map_or_else(|| frame_bytes(&buffer[..len]), Echo::frame_bytes);
            }
            let is_too_much = is_complete || self.at + len > self.frame_bytes;
            let is_right = echo.is_none_or(|echo| echo.is_right(self.at, &buffer[..len], stamp));
            if is_too_much || !is_right {
                return Err(io::Error::other(format!("not message {stamp}")));
            }
            self.at += len;
            if self.at == self.frame_bytes {
                self.at = 0;
                is_complete = true;
            }
            if len < buffer.len() {
                return Ok(is_complete);
            }
        }
    }
}

/// Length of the compressed frame that begins like this; 0, which is too short for any, if it is none.
fn frame_bytes(start: &[u8]) -> usize {
    match *start {
        [0xC1 | 0xC2, 126, high, low, ..] => 4 + usize::from(u16::from_be_bytes([high, low])),
        [0xC1 | 0xC2, len @ 0..126, ..] => 2 + usize::from(len),
        _ => 0,
    }
}

/// Sends a whole message; the server takes it, as it has nothing else to do.
fn send(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.write_all(frame)?;
    stream.set_nonblocking(true)
}

const OFFER: &str = "permessage-deflate; client_max_window_bits";
/// Receive buffer, larger than what the kernel holds of any connection.
const BUFFER_BYTES: usize = 512 * 1024;
/// Events taken at a time.
const EVENTS: usize = 1024;
