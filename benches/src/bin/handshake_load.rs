//! Load of connections: each is opened, upgraded and reset, and then another is opened.
//!
//! So many at a time, on one epoll. No message is sent.

use benches::course::Course;
use benches::opening::{PATIENCE, prepare, request};
use benches::process::raise_descriptor_limit;
use benches::reading::{Reading, Spent, histogram, json, quantiles};
#[cfg(feature = "tls")]
use benches::secure::{Packing, SecureLayer, settings};
use clap::Parser;
use hdrhistogram::Histogram;
use picows_uring_proto::{ClientHandshake, HeadLimits};
#[cfg(feature = "tls")]
use picows_uring_tls::{ClientTls, Handshake, Step};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Open connections, upgrade and drop them, and print what one costs the server
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    course: Course,

    /// Handshakes under way at a time
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..))]
    at_a_time: u32,

    /// Process of the server, whose processor time is counted
    #[arg(long, value_name = "PID")]
    server_pid: u32,

    /// Speak TLS 1.3: a whole handshake each, and any certificate is accepted
    #[cfg(feature = "tls")]
    #[arg(long)]
    tls: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    raise_descriptor_limit()?;
    let mut load = Load::start(&args)?;
    load.run_for(args.course.warmup)?;
    load.latency_ns.reset();
    let before = Reading::take(args.server_pid)?;
    load.run_for(args.course.duration)?;
    let after = Reading::take(args.server_pid)?;
    let mut fields = Spent::between(&before, &after)
        .fields(["connection", "connections"], load.latency_ns.len());
    fields.extend(quantiles(&load.latency_ns));
    Ok(writeln!(io::stdout(), "{}", json(&fields))?)
}

struct Load {
    epoll: rustix::fd::OwnedFd,
    address: SocketAddr,
    attempts: Vec<Attempt>,
    opened: u64,
    latency_ns: Histogram<u64>,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
}

struct Attempt {
    stream: TcpStream,
    handshake: ClientHandshake,
    answer: Vec<u8>,
    begun_at: Instant,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

/// TLS of an attempt.
#[cfg(feature = "tls")]
enum Tls {
    /// With what is to be sent when it is done.
    Handshake(Box<Handshake>, Vec<u8>),
    Open(SecureLayer),
}

impl Load {
    fn start(args: &Args) -> Result<Self, Box<dyn Error>> {
        let mut load = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            address: args.course.url_addr,
            attempts: Vec::new(),
            opened: 0,
            latency_ns: histogram(),
            #[cfg(feature = "tls")]
            tls: args.tls.then(settings).transpose()?,
        };
        for index in 0..args.at_a_time as usize {
            let attempt = load.open(index)?;
            load.attempts.push(attempt);
        }
        Ok(load)
    }

    /// Connects, which takes no time here as the kernel accepts, and sends the request.
    fn open(&mut self, index: usize) -> Result<Attempt, Box<dyn Error>> {
        let begun_at = Instant::now();
        let mut stream = TcpStream::connect(self.address)?;
        prepare(&stream)?;
        let (handshake, request) = request(self.address, self.opened)?;
        self.opened += 1;
        #[cfg(feature = "tls")]
        let (request, tls) = match &self.tls {
            None => (request, None),
            Some(tls) => {
                let (mut handshake, mut hello) = (Handshake::client(tls, "localhost")?, Vec::new());
                handshake.advance(&mut [], &mut hello)?;
                (hello, Some(Tls::Handshake(Box::new(handshake), request)))
            }
        };
        stream.write_all(&request)?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
        Ok(Attempt {
            stream,
            handshake,
            answer: Vec::new(),
            begun_at,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    fn run_for(&mut self, time: Duration) -> Result<(), Box<dyn Error>> {
        let end = Instant::now() + time;
        let patience = PATIENCE.try_into()?;
        let mut events = Vec::with_capacity(EVENTS);
        while Instant::now() < end {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&patience)) {
                Ok(0) => return Err(format!("no answer for {PATIENCE:?}").into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            for event in &events {
                let data = event.data;
                let index = data.u64() as usize;
                if self.attempts[index].is_upgraded()? {
                    let took = self.attempts[index].begun_at.elapsed();
                    self.latency_ns.saturating_record(took.as_nanos() as u64);
                    // Closes, and so resets, the one before.
                    self.attempts[index] = self.open(index)?;
                }
            }
        }
        Ok(())
    }
}

impl Attempt {
    fn is_upgraded(&mut self) -> Result<bool, Box<dyn Error>> {
        let mut part = [0; 4096];
        let len = self.stream.read(&mut part)?;
        if len == 0 {
            return Err("closed by the server during the handshake".into());
        }
        self.take(&mut part[..len])?;
        Ok(self.handshake.parse_response(&self.answer, &HeadLimits::default())?.is_some())
    }

    #[cfg(not(feature = "tls"))]
    fn take(&mut self, part: &mut [u8]) -> Result<(), Box<dyn Error>> {
        self.answer.extend_from_slice(part);
        Ok(())
    }

    #[cfg(feature = "tls")]
    fn take(&mut self, part: &mut [u8]) -> Result<(), Box<dyn Error>> {
        let answer = &mut self.answer;
        match &mut self.tls {
            None => answer.extend_from_slice(part),
            Some(Tls::Open(layer)) => layer.open(part, |plain| {
                answer.extend_from_slice(plain);
                Ok(())
            })?,
            Some(Tls::Handshake(handshake, request)) => {
                let mut out = Vec::new();
                let step = handshake.advance(part, &mut out)?;
                let mut done = None;
                if let Step::Done { consumed, secure, .. } = step {
                    let mut layer = SecureLayer::new(secure, &part[consumed..]);
                    out.extend_from_slice(layer.seal(request, request.len(), Packing::Full)?);
                    done = Some(layer);
                }
                self.stream.write_all(&out)?;
                if let Some(layer) = done {
                    self.tls = Some(Tls::Open(layer));
                }
            }
        }
        Ok(())
    }
}

/// Events taken at a time.
const EVENTS: usize = 1024;
