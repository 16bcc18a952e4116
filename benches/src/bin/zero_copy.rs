//! Cost of zero-copy sends (`IORING_OP_SEND_ZC`) for fan-out, beside plain sends.
//!
//! One payload goes to every connection, again and again. A second thread takes it from the sockets
//! and discards it there, which copies nothing. The kernel reports of each send whether it copied
//! after all (`IORING_SEND_ZC_REPORT_USAGE`); over loopback it does.

use benches::figures::Rounds;
use clap::Parser;
use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

/// Measure what a delivery costs with zero-copy sends and with plain ones, and print a table
#[derive(Debug, Parser)]
struct Args {
    /// Rounds of each way, taken in turn
    #[arg(long, value_name = "N", default_value_t = 12,
          value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Connections that each payload goes to
    #[arg(long, value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,

    /// Bytes that each connection gets in a round
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20,
          value_parser = clap::value_parser!(u32).range(1..))]
    bytes: u32,

    /// Core of the sender
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    core: usize,

    /// Core of the receiver
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    receiver_core: usize,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let mut out = io::stdout();
    pin(args.core)?;
    writeln!(out, "{} connections; µs a delivery, lowest and median", args.connections)?;
    for size in SIZES {
        writeln!(out, "\n{} KiB | sender | receiver too | copied", size / 1024)?;
        let mut figures: Vec<_> = WAYS.iter().map(|_| Figures::default()).collect();
        for _ in 0..args.rounds {
            for (way, figures) in WAYS.iter().zip(&mut figures) {
                figures.add(&measure(way.1, size, &args)?);
            }
        }
        for (way, figures) in WAYS.iter().zip(&figures) {
            writeln!(out, "{} | {figures}", way.0)?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    ZeroCopy,
    /// With the payload registered, so that its pages need not be looked up for each send.
    Registered,
}

/// What a round has taken.
#[derive(Default)]
struct Round {
    sender: Duration,
    process: Duration,
    deliveries: u64,
    /// Notifications that the payload is free again, and those of them that say it was copied.
    notifications: u64,
    copied: u64,
}

#[derive(Default)]
struct Figures {
    sender: Rounds,
    process: Rounds,
    notifications: u64,
    copied: u64,
}

impl Figures {
    fn add(&mut self, round: &Round) {
        self.sender.add(round.sender, round.deliveries);
        self.process.add(round.process, round.deliveries);
        self.notifications += round.notifications;
        self.copied += round.copied;
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for rounds in [&self.sender, &self.process] {
            let (lowest, median) = rounds.lowest_and_median();
            write!(f, "{:.1}, {:.1} | ", lowest as f64 / 1000.0, median as f64 / 1000.0)?;
        }
        match self.notifications {
            0 => f.write_str("-"),
            count => write!(f, "{} of {count}", self.copied),
        }
    }
}

fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn measure(way: Way, size: usize, args: &Args) -> io::Result<Round> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..args.connections {
        theirs.push(TcpStream::connect(listener.local_addr()?)?);
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        ours.push(stream);
    }
    let core = args.receiver_core;
    let reader = thread::spawn(move || discard(&theirs, core));
    let mut sender = Sender::new(way, size)?;
    let mut warm = Round::default();
    sender.send_to_all(&ours, &mut warm)?;
    let mut round = Round::default();
    let clocks = [ClockId::ThreadCPUTime, ClockId::ProcessCPUTime];
    let before = clocks.map(cpu);
    for _ in 0..(args.bytes as usize / size).max(1) {
        sender.send_to_all(&ours, &mut round)?;
    }
    let after = clocks.map(cpu);
    (round.sender, round.process) = (after[0] - before[0], after[1] - before[1]);
    drop(ours);
    reader.join().map_err(|_| io::Error::other("the reader has panicked"))??;
    Ok(round)
}

/// Takes what comes in, until all streams have ended.
fn discard(streams: &[TcpStream], core: usize) -> io::Result<()> {
    pin(core)?;
    let mut streams: Vec<_> = streams.iter().collect();
    let mut byte = [0; 1 << 20];
    while !streams.is_empty() {
        let mut ready: Vec<_> = streams
            .iter()
            .map(|stream| rustix::event::PollFd::new(stream, rustix::event::PollFlags::IN))
            .collect();
        rustix::event::poll(&mut ready, None)?;
        let is_ready: Vec<_> = ready.iter().map(|it| !it.revents().is_empty()).collect();
        let mut index = 0;
        streams.retain(|stream| {
            index += 1;
            // With `MSG_TRUNC`, TCP discards what it would copy (tcp(7)).
            let flags = rustix::net::RecvFlags::DONTWAIT | rustix::net::RecvFlags::TRUNC;
            !is_ready[index - 1]
                || !matches!(rustix::net::recv(stream, &mut byte[..], flags), Ok((_, 0)))
        });
    }
    Ok(())
}

/// Sends one payload by a ring.
struct Sender {
    ring: IoUring,
    way: Way,
    /// Leaked, as the kernel reads it.
    payload: &'static [u8],
}

impl Sender {
    fn new(way: Way, size: usize) -> io::Result<Self> {
        let ring =
            IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(SUBMISSIONS)?;
        let payload: &'static [u8] = vec![7; size].leak();
        if way == Way::Registered {
            let part = libc::iovec {
                iov_base: payload.as_ptr().cast_mut().cast(),
                iov_len: payload.len(),
            };
            // SAFETY: the memory is leaked, and a send only reads it.
            #[expect(unsafe_code)]
            unsafe {
                ring.submitter().register_buffers(&[part])?;
            }
        }
        Ok(Self { ring, way, payload })
    }

    /// Sends the payload to all, and waits until all of them have taken it and it is free again.
    fn send_to_all(&mut self, streams: &[TcpStream], round: &mut Round) -> io::Result<()> {
        for stream in streams {
            let entry = self.entry(stream);
            // SAFETY: the payload is leaked, and the sockets are open until the last completion.
            #[expect(unsafe_code)]
            let pushed = unsafe { self.ring.submission().push(&entry) };
            pushed.map_err(|_| io::Error::other("the queue is full"))?;
        }
        let mut left = streams.len();
        while left > 0 {
            self.ring.submit_and_wait(1)?;
            for completion in self.ring.completion() {
                let (result, flags) = (completion.result(), completion.flags());
                if cqueue::notif(flags) {
                    round.notifications += 1;
                    round.copied += u64::from(result as u32 & NOTIF_USAGE_ZC_COPIED != 0);
                } else if result != self.payload.len() as i32 {
                    return Err(io::Error::other(format!("a send has ended with {result}")));
                } else {
                    round.deliveries += 1;
                }
                left -= usize::from(!cqueue::more(flags));
            }
        }
        Ok(())
    }

    fn entry(&self, stream: &TcpStream) -> squeue::Entry {
        let (fd, flags) = (Fd(stream.as_raw_fd()), libc::MSG_WAITALL | libc::MSG_NOSIGNAL);
        let (start, len) = (self.payload.as_ptr(), self.payload.len() as u32);
        if self.way == Way::Plain {
            return opcode::Send::new(fd, start, len).flags(flags).build();
        }
        opcode::SendZc::new(fd, start, len)
            .buf_index((self.way == Way::Registered).then_some(0))
            .flags(flags)
            .zc_flags(SEND_ZC_REPORT_USAGE)
            .build()
    }
}

const WAYS: [(&str, Way); 3] = [
    ("send", Way::Plain),
    ("send_zc", Way::ZeroCopy),
    ("send_zc of a registered buffer", Way::Registered),
];
const SIZES: [usize; 3] = [16 * 1024, 64 * 1024, 256 * 1024];
const SUBMISSIONS: u32 = 256;
/// `IORING_SEND_ZC_REPORT_USAGE` of linux/io_uring.h (Linux 6.2).
const SEND_ZC_REPORT_USAGE: u16 = 1 << 3;
/// `IORING_NOTIF_USAGE_ZC_COPIED` of linux/io_uring.h, in the result of a notification.
const NOTIF_USAGE_ZC_COPIED: u32 = 1 << 31;
