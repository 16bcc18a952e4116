//! Load generator: keeps messages in flight on many connections, and counts what they cost.
//!
//! One thread, one epoll, closed loop: each echo lets the next message out. Reads the server's
//! processor time from `/proc`, so the server has to be on this machine.

use benches::cpu;
use benches::echo::{Check, Echo, Requests};
use benches::process::raise_descriptor_limit;
use clap::Parser;
use hdrhistogram::Histogram;
use picows_uring_proto::{ClientHandshake, HeadLimits};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Load a WebSocket echo server and print what a message costs it
///
/// Processor time is the server's, of all its threads, from the scheduler's count in nanoseconds.
/// A steal share of more than a few percent means that the numbers are no good: run it again.
#[derive(Debug, Parser)]
struct Args {
    /// Address of the server, such as 127.0.0.1:9001
    #[arg(long, value_name = "ADDR")]
    url_addr: SocketAddr,

    /// Number of connections
    #[arg(long, value_name = "C", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    connections: u32,

    /// Messages in flight on each connection
    #[arg(long, value_name = "P", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pipeline: u32,

    /// Payload of a message, in bytes
    #[arg(long, value_name = "S", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(..=10 << 20))]
    size: u32,

    /// How long to measure
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration,
          default_value = "2s")]
    duration: Duration,

    /// How long to run before that
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration,
          default_value = "300ms")]
    warmup: Duration,

    /// Process of the server, whose processor time is counted
    #[arg(long, value_name = "PID")]
    server_pid: u32,

    /// Compare only headers: for a server that answers with frames of its own
    #[arg(long)]
    headers_only: bool,

    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    raise_descriptor_limit()?;
    let mut load = Load::connect(&args)?;
    load.start()?;
    load.run_for(args.warmup)?;
    load.latency_ns.reset();
    load.messages = 0;
    let before = Reading::take(&args)?;
    load.run_for(args.duration)?;
    let after = Reading::take(&args)?;
    let report = Report::new(&before, &after, load.messages, &load.latency_ns);
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", report.json(&args))?;
    } else {
        writeln!(out, "{}", report.text())?;
    }
    Ok(())
}

/// All connections, and what is shared by them.
struct Load {
    epoll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    requests: Requests,
    echo: Echo,
    pipeline: usize,
    /// One for all connections, so that it stays in cache.
    buffer: Vec<u8>,
    origin: Instant,
    latency_ns: Histogram<u64>,
    messages: u64,
}

/// Invariant: `sent_ns.len()` messages are in flight, the oldest of which is stamped `stamp`.
struct Connection {
    stream: TcpStream,
    /// Of the echo that comes next.
    stamp: u64,
    /// How much of it has come.
    at: usize,
    /// When each message in flight was sent.
    sent_ns: VecDeque<u64>,
    /// What the socket would not take.
    unsent: Vec<u8>,
}

impl Load {
    /// Opens the connections, one after the other.
    fn connect(args: &Args) -> Result<Self, Box<dyn Error>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let pipeline = args.pipeline as usize;
        let mut connections = Vec::new();
        for index in 0..u64::from(args.connections) {
            let stream = open(args.url_addr, index)?;
            // Edge-triggered, so that room to write is only told after there was none.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            epoll::add(&epoll, &stream, epoll::EventData::new_u64(index), flags)?;
            connections.push(Connection {
                stream,
                stamp: index << STAMP_INDEX_SHIFT,
                at: 0,
                sent_ns: VecDeque::with_capacity(pipeline),
                unsent: Vec::new(),
            });
        }
        let check = if args.headers_only { Check::Header } else { Check::Content };
        Ok(Self {
            epoll,
            connections,
            requests: Requests::new(args.size as usize, pipeline),
            echo: Echo::new(args.size as usize, check),
            pipeline,
            buffer: vec![0; BUFFER_BYTES],
            origin: Instant::now(),
            latency_ns: histogram(),
            messages: 0,
        })
    }

    /// Sends the first messages.
    fn start(&mut self) -> io::Result<()> {
        let now_ns = self.now_ns();
        for connection in &mut self.connections {
            connection.send(&mut self.requests, self.pipeline, now_ns)?;
        }
        Ok(())
    }

    fn run_for(&mut self, time: Duration) -> Result<(), Box<dyn Error>> {
        let end_ns = self.now_ns() + time.as_nanos() as u64;
        let patience = Timespec { tv_sec: PATIENCE_S, tv_nsec: 0 };
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&patience)) {
                Ok(0) => return Err(format!("no echo for {PATIENCE_S} s").into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            for event in &events {
                let data = event.data;
                let index = data.u64() as usize;
                self.serve(index).map_err(|error| format!("connection {index}: {error}"))?;
            }
            if self.now_ns() >= end_ns {
                return Ok(());
            }
        }
    }

    /// Takes echoes from one connection, and sends as many messages.
    fn serve(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        connection.flush()?;
        loop {
            let len = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return Err(io::Error::other("closed by the server")),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let now_ns = self.origin.elapsed().as_nanos() as u64;
            let echoed = connection.take_echoes(&self.echo, &self.buffer[..len])?;
            for sent_ns in connection.sent_ns.drain(..echoed) {
                self.latency_ns.saturating_record(now_ns - sent_ns);
            }
            self.messages += echoed as u64;
            connection.send(&mut self.requests, echoed, now_ns)?;
            if len < self.buffer.len() {
                return Ok(());
            }
        }
    }

    fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

impl Connection {
    /// Checks what arrived, and tells how many echoes it completes.
    fn take_echoes(&mut self, echo: &Echo, mut input: &[u8]) -> io::Result<usize> {
        let mut echoed = 0;
        while !input.is_empty() {
            let len = input.len().min(echo.frame_bytes() - self.at);
            let (chunk, rest) = input.split_at(len);
            if echoed == self.sent_ns.len() || !echo.is_right(self.at, chunk, self.stamp) {
                return Err(self.not_an_echo(chunk));
            }
            self.at += len;
            if self.at == echo.frame_bytes() {
                self.at = 0;
                self.stamp += 1;
                echoed += 1;
            }
            input = rest;
        }
        Ok(echoed)
    }

    #[cold]
    fn not_an_echo(&self, chunk: &[u8]) -> io::Error {
        let start = &chunk[..chunk.len().min(32)];
        io::Error::other(format!(
            "not the echo of message {} ({} in flight), at byte {} of the frame: {start:02x?}",
            self.stamp & ((1 << STAMP_INDEX_SHIFT) - 1),
            self.sent_ns.len(),
            self.at,
        ))
    }

    fn send(&mut self, requests: &mut Requests, count: usize, now_ns: u64) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        let frames = requests.stamped(self.stamp + self.sent_ns.len() as u64, count);
        self.sent_ns.extend(std::iter::repeat_n(now_ns, count));
        let taken = if self.unsent.is_empty() { write(&mut self.stream, frames)? } else { 0 };
        self.unsent.extend_from_slice(&frames[taken..]);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.unsent.is_empty() {
            let taken = write(&mut self.stream, &self.unsent)?;
            self.unsent.drain(..taken);
        }
        Ok(())
    }
}

/// Writes until the socket takes no more, and tells how much it took.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        match stream.write(&bytes[taken..]) {
            Ok(len) => taken += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

/// Connects and does the handshake, blocking.
fn open(address: SocketAddr, index: u64) -> Result<TcpStream, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(PATIENCE_S as u64)))?;
    // Resets instead of waiting: thousands of ports would be in TIME_WAIT otherwise.
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&index.to_le_bytes());
    let handshake = ClientHandshake::new(&address.to_string(), "/", nonce)?;
    let mut request = Vec::new();
    handshake.encode(&mut request);
    stream.write_all(&request)?;
    let (mut answer, mut part) = (Vec::new(), [0; 1024]);
    loop {
        let len = stream.read(&mut part)?;
        if len == 0 {
            return Err("closed by the server during the handshake".into());
        }
        answer.extend_from_slice(&part[..len]);
        if let Some((_, used)) = handshake.parse_response(&answer, &HeadLimits::default())? {
            if used < answer.len() {
                return Err("the server sent a frame before the first message".into());
            }
            stream.set_nonblocking(true)?;
            return Ok(stream);
        }
    }
}

/// For latencies in nanoseconds, to three digits; what takes longer than a minute counts as one.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are fixed and right")
}

/// The counters at one moment.
struct Reading {
    at: Instant,
    server_cpu_ns: u64,
    load_cpu_ns: u64,
    cores: Vec<cpu::Ticks>,
}

impl Reading {
    fn take(args: &Args) -> io::Result<Self> {
        Ok(Self {
            cores: cpu::ticks_by_core()?,
            load_cpu_ns: cpu::process_cpu_ns(std::process::id())?,
            server_cpu_ns: cpu::process_cpu_ns(args.server_pid)?,
            at: Instant::now(),
        })
    }
}

/// What is printed.
struct Report {
    window_s: f64,
    messages: u64,
    server_cpu_us: f64,
    load_cpu_us: f64,
    latency_p50_us: f64,
    latency_p99_us: f64,
    steal_share: f64,
    other_cpu_share: f64,
}

impl Report {
    fn new(before: &Reading, after: &Reading, messages: u64, latency_ns: &Histogram<u64>) -> Self {
        let window_s = (after.at - before.at).as_secs_f64();
        let server_cpu_us = (after.server_cpu_ns - before.server_cpu_ns) as f64 / 1e3;
        let load_cpu_us = (after.load_cpu_ns - before.load_cpu_ns) as f64 / 1e3;
        let busy_us = cpu::busy_ticks(&before.cores, &after.cores) as f64 * TICK_US;
        let cores_us = window_s * 1e6 * before.cores.len() as f64;
        let quantile_us = |q| latency_ns.value_at_quantile(q) as f64 / 1e3;
        Self {
            window_s,
            messages,
            server_cpu_us,
            load_cpu_us,
            latency_p50_us: quantile_us(0.5),
            latency_p99_us: quantile_us(0.99),
            steal_share: cpu::steal_share(&before.cores, &after.cores),
            other_cpu_share: ((busy_us - server_cpu_us - load_cpu_us) / cores_us).max(0.0),
        }
    }

    fn per_message(&self, us: f64) -> f64 {
        us / self.messages.max(1) as f64
    }

    fn json(&self, args: &Args) -> String {
        let fields = [
            ("connections", f64::from(args.connections)),
            ("pipeline", f64::from(args.pipeline)),
            ("size_bytes", f64::from(args.size)),
            ("window_s", self.window_s),
            ("messages", self.messages as f64),
            ("messages_per_s", self.messages as f64 / self.window_s),
            ("server_cpu_us_per_message", self.per_message(self.server_cpu_us)),
            ("server_cpu_share_of_core", self.server_cpu_us / 1e6 / self.window_s),
            ("load_cpu_us_per_message", self.per_message(self.load_cpu_us)),
            ("load_cpu_share_of_core", self.load_cpu_us / 1e6 / self.window_s),
            ("latency_p50_us", self.latency_p50_us),
            ("latency_p99_us", self.latency_p99_us),
            ("steal_share_of_worst_core", self.steal_share),
            ("other_cpu_share_of_machine", self.other_cpu_share),
        ];
        let fields = fields.map(|(name, value)| {
            let value = format!("{value:.4}");
            let value = value.trim_end_matches('0').trim_end_matches('.');
            format!("\"{name}\": {value}")
        });
        format!("{{{}}}", fields.join(", "))
    }

    fn text(&self) -> String {
        format!(
            "{} messages in {:.2} s: {:.0}/s, server {:.2} us of CPU each, latency p50 {:.0} us \
             p99 {:.0} us, steal {:.1} %",
            self.messages,
            self.window_s,
            self.messages as f64 / self.window_s,
            self.per_message(self.server_cpu_us),
            self.latency_p50_us,
            self.latency_p99_us,
            self.steal_share * 1e2,
        )
    }
}

/// Receive buffer, larger than what the kernel holds of any connection.
const BUFFER_BYTES: usize = 512 * 1024;
/// Events taken at a time.
const EVENTS: usize = 1024;
/// A stamp is the index of its connection and, below this bit, that of the message.
const STAMP_INDEX_SHIFT: u32 = 40;
const CONNECTIONS_MAX: i64 = 1 << 20;
const _: () = assert!((CONNECTIONS_MAX as u64).ilog2() + STAMP_INDEX_SHIFT <= u64::BITS);
/// How long the server may take for any answer.
const PATIENCE_S: i64 = 5;
/// `/proc/stat` counts hundredths of a second, whatever the kernel's own tick (`time(7)`).
const TICK_US: f64 = 1e4;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(more: &[&str]) -> Result<Args, clap::Error> {
        let required = ["load", "--url-addr", "127.0.0.1:9001", "--server-pid", "7"];
        Args::try_parse_from(required.iter().chain(more))
    }

    fn report() -> Report {
        let mut latency_ns = histogram();
        for us in 1..=100 {
            latency_ns.saturating_record(us * 1000);
        }
        let core = |total, steal| cpu::Ticks { total, steal, idle: 0 };
        let at = Instant::now();
        let before =
            Reading { at, server_cpu_ns: 5_000, load_cpu_ns: 0, cores: vec![core(0, 0); 2] };
        let after = Reading {
            at: at + Duration::from_secs(1),
            server_cpu_ns: 500_005_000,
            load_cpu_ns: 250_000_000,
            cores: vec![core(100, 4), core(100, 0)],
        };
        Report::new(&before, &after, 100_000, &latency_ns)
    }

    #[test]
    fn durations_have_units_and_counts_have_bounds() {
        let args = parse(&["--duration", "500ms", "--connections", "1000"]).unwrap();
        assert_eq!((args.duration, args.connections), (Duration::from_millis(500), 1000));
        assert!(parse(&["--duration", "500"]).is_err());
        assert!(parse(&["--connections", "0"]).is_err());
        assert!(parse(&["--pipeline", "0"]).is_err());
        assert!(parse(&["--size", "0"]).is_ok());
    }

    #[test]
    fn costs_are_divided_by_messages_and_quantiles_taken() {
        let report = report();
        assert!((report.per_message(report.server_cpu_us) - 5.0).abs() < 1e-9);
        assert!((report.latency_p50_us - 50.0).abs() < 0.1, "{}", report.latency_p50_us);
        assert!((report.latency_p99_us - 99.0).abs() < 0.1, "{}", report.latency_p99_us);
        assert!((report.steal_share - 0.04).abs() < 1e-9);
        // 1.96 s busy of 2 s, 0.75 s of them ours.
        assert!((report.other_cpu_share - 0.605).abs() < 1e-9, "{}", report.other_cpu_share);
    }

    #[test]
    fn json_names_units() {
        let json = report().json(&parse(&[]).unwrap());
        assert!(json.starts_with("{\"connections\": 64, "), "{json}");
        assert!(json.contains("\"server_cpu_us_per_message\": 5, "), "{json}");
        assert!(json.ends_with("\"other_cpu_share_of_machine\": 0.605}"), "{json}");
    }

    #[test]
    fn nothing_measured_is_no_division_by_zero() {
        let report = Report { messages: 0, ..report() };
        assert!(report.per_message(1.0).is_finite());
    }
}
