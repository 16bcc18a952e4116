//! Load generator: keeps messages in flight on many connections, and counts what they cost.
//!
//! One thread, one epoll, closed loop: each echo lets the next message out. Reads the server's
//! processor time from `/proc`, so the server has to be on this machine.

use benches::by_hand::write;
use benches::course::Course;
use benches::echo::{Check, Echo, Requests};
use benches::opening::{PATIENCE, open};
use benches::process::raise_descriptor_limit;
use benches::reading::{Reading, Spent, histogram, json, quantiles};
#[cfg(feature = "tls")]
use benches::secure::{Packing, SecureLayer, open_secure, settings};
use clap::Parser;
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Load a WebSocket echo server and print what a message costs it
///
/// Processor time is the server's, of all its threads, from the scheduler's count in nanoseconds.
/// A steal share of more than a few percent means that the numbers are no good: run it again.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    course: Course,

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

    /// Process of the server, whose processor time is counted
    #[arg(long, value_name = "PID")]
    server_pid: u32,

    /// Compare only headers: for a server that answers with frames of its own
    #[arg(long)]
    headers_only: bool,

    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,

    /// Speak TLS 1.3, and accept any certificate
    #[cfg(feature = "tls")]
    #[arg(long)]
    tls: bool,

    /// With --tls: a record for each frame, instead of one for all that go out together
    #[cfg(feature = "tls")]
    #[arg(long, requires = "tls")]
    record_each: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    raise_descriptor_limit()?;
    let mut load = Load::connect(&args)?;
    load.start()?;
    load.run_for(args.course.warmup)?;
    load.latency_ns.reset();
    load.messages = 0;
    let before = Reading::take(args.server_pid)?;
    load.run_for(args.course.duration)?;
    let after = Reading::take(args.server_pid)?;
    let report = Report {
        spent: Spent::between(&before, &after),
        messages: load.messages,
        latency_us: quantiles(&load.latency_ns),
    };
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
    #[cfg(feature = "tls")]
    packing: Packing,
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
    #[cfg(feature = "tls")]
    secure: Option<SecureLayer>,
}

impl Load {
    /// Opens the connections, one after the other.
    fn connect(args: &Args) -> Result<Self, Box<dyn Error>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let pipeline = args.pipeline as usize;
        let mut connections = Vec::new();
        #[cfg(feature = "tls")]
        let tls = args.tls.then(settings).transpose()?;
        for index in 0..u64::from(args.connections) {
            #[cfg(feature = "tls")]
            let (stream, secure) = match &tls {
                Some(tls) => {
                    let (stream, layer) = open_secure(args.course.url_addr, index, tls)?;
                    (stream, Some(layer))
                }
                None => (open(args.course.url_addr, index)?, None),
            };
            #[cfg(not(feature = "tls"))]
            let stream = open(args.course.url_addr, index)?;
            // Edge-triggered, so that room to write is only told after there was none.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            epoll::add(&epoll, &stream, epoll::EventData::new_u64(index), flags)?;
            connections.push(Connection {
                stream,
                stamp: index << STAMP_INDEX_SHIFT,
                at: 0,
                sent_ns: VecDeque::with_capacity(pipeline),
                unsent: Vec::new(),
                #[cfg(feature = "tls")]
                secure,
            });
        }
        let check = if args.headers_only { Check::Header } else { Check::Content };
        Ok(Self {
            epoll,
            connections,
            requests: Requests::new(args.size as usize, pipeline),
            echo: Echo::new(args.size as usize, check),
            pipeline,
            #[cfg(feature = "tls")]
            packing: if args.record_each { Packing::Each } else { Packing::Full },
            buffer: vec![0; BUFFER_BYTES],
            origin: Instant::now(),
            latency_ns: histogram(),
            messages: 0,
        })
    }

    /// Sends the first messages.
    fn start(&mut self) -> io::Result<()> {
        let (now_ns, packing) = (self.now_ns(), self.packing());
        for connection in &mut self.connections {
            connection.send(&mut self.requests, self.pipeline, now_ns, packing)?;
        }
        Ok(())
    }

    fn run_for(&mut self, time: Duration) -> Result<(), Box<dyn Error>> {
        let end_ns = self.now_ns() + time.as_nanos() as u64;
        let patience = PATIENCE.try_into()?;
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&patience)) {
                Ok(0) => return Err(format!("no echo for {PATIENCE:?}").into()),
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
        let packing = self.packing();
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
            let echoed = connection.take_received(&self.echo, &mut self.buffer[..len])?;
            for sent_ns in connection.sent_ns.drain(..echoed) {
                self.latency_ns.saturating_record(now_ns - sent_ns);
            }
            self.messages += echoed as u64;
            connection.send(&mut self.requests, echoed, now_ns, packing)?;
            if len < self.buffer.len() {
                return Ok(());
            }
        }
    }

    fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    #[cfg(feature = "tls")]
    fn packing(&self) -> Packing {
        self.packing
    }

    /// Without TLS there is nothing to pack.
    #[cfg(not(feature = "tls"))]
    fn packing(&self) -> Packing {
        Packing
    }
}

/// How frames are put into records, of which there are none.
#[cfg(not(feature = "tls"))]
#[derive(Clone, Copy)]
struct Packing;

impl Connection {
    /// Opens received bytes, checks them, and returns how many echoes they complete.
    fn take_received(&mut self, echo: &Echo, input: &mut [u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(mut secure) = self.secure.take() {
            let mut echoed = 0;
            secure.open(input, |plain| {
                echoed += self.take_echoes(echo, plain, echoed)?;
                Ok(())
            })?;
            self.secure = Some(secure);
            return Ok(echoed);
        }
        self.take_echoes(echo, input, 0)
    }

    /// Checks the bytes of frames behind those of `before` echoes, and returns how many more they complete.
    fn take_echoes(&mut self, echo: &Echo, mut input: &[u8], before: usize) -> io::Result<usize> {
        let mut echoed = 0;
        while !input.is_empty() {
            let len = input.len().min(echo.frame_bytes() - self.at);
            let (chunk, rest) = input.split_at(len);
            if before + echoed == self.sent_ns.len() || !echo.is_right(self.at, chunk, self.stamp) {
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

    fn send(
        &mut self,
        requests: &mut Requests,
        count: usize,
        now_ns: u64,
        packing: Packing,
    ) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        #[cfg(feature = "tls")]
        let frame_bytes = requests.frame_bytes();
        #[cfg(not(feature = "tls"))]
        let _ = packing;
        let frames = requests.stamped(self.stamp + self.sent_ns.len() as u64, count);
        #[cfg(feature = "tls")]
        let frames = match &mut self.secure {
            Some(secure) => secure.seal(frames, frame_bytes, packing)?,
            None => frames,
        };
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

/// What is printed.
struct Report {
    spent: Spent,
    messages: u64,
    latency_us: Vec<(String, f64)>,
}

impl Report {
    fn json(&self, args: &Args) -> String {
        let settings = [
            ("connections", args.connections),
            ("pipeline", args.pipeline),
            ("size_bytes", args.size),
        ];
        let mut fields = settings.map(|(name, value)| (name.to_owned(), f64::from(value))).to_vec();
        fields.extend(self.spent.fields(["message", "messages"], self.messages));
        fields.extend_from_slice(&self.latency_us);
        json(&fields)
    }

    fn text(&self) -> String {
        let Spent { window_s, server_cpu_us, steal_share, .. } = self.spent;
        let latency: Vec<_> =
            self.latency_us.iter().map(|(name, us)| format!("{name} {us:.0}")).collect();
        format!(
            "{} messages in {window_s:.2} s: {:.0}/s, server {:.2} us of CPU each, {}, steal {:.1} %",
            self.messages,
            self.messages as f64 / window_s,
            server_cpu_us / self.messages.max(1) as f64,
            latency.join(", "),
            steal_share * 1e2,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(more: &[&str]) -> Result<Args, clap::Error> {
        let required = ["load", "--url-addr", "127.0.0.1:9001", "--server-pid", "7"];
        Args::try_parse_from(required.iter().chain(more))
    }

    #[test]
    fn durations_have_units_and_counts_have_bounds() {
        let args = parse(&["--duration", "500ms", "--connections", "1000"]).unwrap();
        assert_eq!((args.course.duration, args.connections), (Duration::from_millis(500), 1000));
        assert!(parse(&["--duration", "500"]).is_err());
        assert!(parse(&["--connections", "0"]).is_err());
        assert!(parse(&["--pipeline", "0"]).is_err());
        assert!(parse(&["--size", "0"]).is_ok());
    }
}
