//! Cost of kernel receive timestamps: what a received message takes with them and without.
//!
//! One thread, with both ends of each connection. In a turn every connection gets one message, which is
//! not timed as receiving; then all of them are received, which is. No frames are parsed.

use benches::buffer_ring::{BufferRing, Page, pages};
use benches::figures::Rounds;
use clap::Parser;
use io_uring::types::{Fd, RecvMsgOut};
use io_uring::{IoUring, cqueue, opcode, types};
use rustix::net::RecvFlags;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Measure what receive timestamps of the kernel cost for each message, and print a table
#[derive(Debug, Parser)]
struct Args {
    /// Rounds of each way, taken in turn
    #[arg(long, value_name = "N", default_value_t = 12,
          value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Messages in a round
    #[arg(long, value_name = "N", default_value_t = 20_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let mut out = io::stdout();
    writeln!(out, "ns a message, lowest and median of {} rounds", args.rounds)?;
    for load in LOADS {
        let (count, bytes) = (load.connections, load.bytes);
        writeln!(
            out,
            "\n{count} connections, {bytes} bytes | receive | send | stamped | age of a stamp"
        )?;
        let mut figures: Vec<_> = WAYS.iter().map(|_| Figures::default()).collect();
        for _ in 0..args.rounds {
            for (way, figures) in WAYS.iter().zip(&mut figures) {
                figures.add(&measure(*way, load, args.messages)?);
            }
        }
        for (way, figures) in WAYS.iter().zip(&figures) {
            writeln!(out, "{} | {figures}", way.name)?;
        }
    }
    Ok(())
}

/// A way to receive.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    call: Call,
    /// The kernel is asked to stamp what it receives (`SO_TIMESTAMPNS`).
    is_stamped: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    /// `recv(2)`, or `recvmsg(2)` where it is stamped.
    System,
    /// Multishot receives into buffers of their own.
    Multishot,
    /// The same into buffers that are filled piece by piece.
    Incremental,
    /// Multishot `recvmsg`, into buffers of their own.
    MultishotMessage,
}

/// Connections that each get one message of so many bytes in a turn.
#[derive(Clone, Copy)]
struct Load {
    connections: usize,
    bytes: usize,
}

/// What a round has taken.
#[derive(Default)]
struct Round {
    receiving: Duration,
    sending: Duration,
    messages: u64,
    stamped: u64,
    /// Of all stamps together, when they were read.
    age: Duration,
}

#[derive(Default)]
struct Figures {
    receiving: Rounds,
    sending: Rounds,
    messages: u64,
    stamped: u64,
    age: Duration,
}

impl Figures {
    fn add(&mut self, round: &Round) {
        self.receiving.add(round.receiving, round.messages);
        self.sending.add(round.sending, round.messages);
        self.messages += round.messages;
        self.stamped += round.stamped;
        self.age += round.age;
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for rounds in [&self.receiving, &self.sending] {
            let (lowest, median) = rounds.lowest_and_median();
            write!(f, "{lowest}, {median} | ")?;
        }
        write!(f, "{} of {} | ", self.stamped, self.messages)?;
        match self.age.as_nanos() as u64 / self.stamped.max(1) {
            0 => f.write_str("-"),
            nanos => write!(f, "{nanos} ns"),
        }
    }
}

fn measure(way: Way, load: Load, messages: u32) -> io::Result<Round> {
    let mut ends = Ends::new(load, way.is_stamped)?;
    let mut receiver = Receiver::new(way, &ends)?;
    let turns = messages as usize / load.connections;
    let begun = Instant::now();
    loop {
        let mut warm = Round::default();
        turn(&mut ends, &mut receiver, load, &mut warm)?;
        // The kernel begins to stamp a moment after it was asked to.
        let is_warm = warm.stamped == warm.messages || !receiver.reads_stamps();
        if is_warm || begun.elapsed() > WARM_UP_MAX {
            break;
        }
    }
    let mut round = Round::default();
    for _ in 0..turns.max(1) {
        turn(&mut ends, &mut receiver, load, &mut round)?;
    }
    Ok(round)
}

/// Sends a message to each connection, and receives all of them.
fn turn(ends: &mut Ends, receiver: &mut Receiver, load: Load, round: &mut Round) -> io::Result<()> {
    let begun = Instant::now();
    for sender in &mut ends.senders {
        sender.write_all(&ends.message)?;
    }
    let sent = Instant::now();
    receiver.receive(ends, load.connections * load.bytes, round)?;
    round.receiving += sent.elapsed();
    round.sending += sent - begun;
    round.messages += load.connections as u64;
    Ok(())
}

/// Both ends of all connections.
struct Ends {
    senders: Vec<TcpStream>,
    receivers: Vec<TcpStream>,
    message: Vec<u8>,
}

impl Ends {
    fn new(load: Load, is_stamped: bool) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for _ in 0..load.connections {
            let sender = TcpStream::connect(listener.local_addr()?)?;
            sender.set_nodelay(true)?;
            let (receiver, _) = listener.accept()?;
            if is_stamped {
                request_stamps(&receiver)?;
            }
            senders.push(sender);
            receivers.push(receiver);
        }
        Ok(Self { senders, receivers, message: vec![1; load.bytes] })
    }
}

fn request_stamps(socket: &TcpStream) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value is an integer of this length, which outlives the call.
    #[expect(unsafe_code)]
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives in one of the ways.
enum Receiver {
    System { memory: Vec<u8>, is_stamped: bool },
    Ring(Box<Ring>),
}

impl Receiver {
    fn new(way: Way, ends: &Ends) -> io::Result<Self> {
        if way.call == Call::System {
            return Ok(Self::System { memory: vec![0; 64 * 1024], is_stamped: way.is_stamped });
        }
        Ok(Self::Ring(Box::new(Ring::new(way, ends)?)))
    }

    fn reads_stamps(&self) -> bool {
        match self {
            Self::System { is_stamped, .. } => *is_stamped,
            Self::Ring(ring) => ring.way.call == Call::MultishotMessage && ring.way.is_stamped,
        }
    }

    /// Receives `bytes` bytes from all connections together.
    fn receive(&mut self, ends: &Ends, bytes: usize, round: &mut Round) -> io::Result<()> {
        match self {
            Self::System { memory, is_stamped } => {
                for socket in &ends.receivers {
                    let mut left = ends.message.len();
                    while left > 0 {
                        let (count, stamp) = match is_stamped {
                            true => receive_message(socket, memory)?,
                            false => {
                                let recv = rustix::net::recv;
                                (recv(socket, &mut memory[..], RecvFlags::empty())?.0, None)
                            }
                        };
                        left -= count;
                        if left == 0 {
                            note(stamp, round);
                        }
                    }
                }
                Ok(())
            }
            Self::Ring(ring) => ring.receive(bytes, ends.message.len(), round),
        }
    }
}

/// Counts a message, with its stamp if it has one.
fn note(stamp: Option<SystemTime>, round: &mut Round) {
    let Some(stamp) = stamp else { return };
    round.stamped += 1;
    // Of one in 64, as the clock is read for it.
    if round.stamped.is_multiple_of(64) {
        round.age += 64 * stamp.elapsed().unwrap_or_default();
    }
}

/// `recvmsg(2)`, with the stamp.
fn receive_message(
    socket: &TcpStream,
    memory: &mut [u8],
) -> io::Result<(usize, Option<SystemTime>)> {
    let mut control = [0_u64; CONTROL_BYTES / 8];
    let mut part = libc::iovec { iov_base: memory.as_mut_ptr().cast(), iov_len: memory.len() };
    // SAFETY: all zeros is a header without anything.
    #[expect(unsafe_code)]
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES as _;
    // SAFETY: what the header names outlives the call, and is as long as it says.
    #[expect(unsafe_code)]
    let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) };
    let count = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
    let control: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    Ok((count, stamp(&control)))
}

/// The stamp in control messages, of which it is the first (`cmsg(3)`).
fn stamp(control: &[u8]) -> Option<SystemTime> {
    let word = |at: usize| Some(u64::from_ne_bytes(control.get(at..at + 8)?.try_into().ok()?));
    let kind = (u64::from(libc::SO_TIMESTAMPNS as u32) << 32) | libc::SOL_SOCKET as u64;
    let is_stamp =
        word(8)? == if cfg!(target_endian = "little") { kind } else { kind.rotate_left(32) };
    let time = Duration::new(word(16)?, word(24)? as u32);
    is_stamp.then(|| UNIX_EPOCH + time)
}

/// Multishot receives of all connections.
struct Ring {
    ring: IoUring,
    way: Way,
    buffers: Buffers,
    header: Box<libc::msghdr>,
    completions: Vec<cqueue::Entry>,
    sum: u64,
}

impl Ring {
    fn new(way: Way, ends: &Ends) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(4096)
            .build(256)?;
        let buffers = Buffers::register(&ring, way.call == Call::Incremental)?;
        // SAFETY: all zeros is a header without anything.
        #[expect(unsafe_code)]
        let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        if way.is_stamped {
            header.msg_controllen = CONTROL_BYTES as _;
        }
        let mut this = Self { ring, way, buffers, header, completions: Vec::new(), sum: 0 };
        for (index, socket) in ends.receivers.iter().enumerate() {
            this.arm(socket.as_raw_fd(), index)?;
        }
        Ok(this)
    }

    fn arm(&mut self, fd: i32, index: usize) -> io::Result<()> {
        let entry = match self.way.call {
            Call::MultishotMessage => {
                opcode::RecvMsgMulti::new(Fd(fd), &raw const *self.header, GROUP).build()
            }
            _ => opcode::RecvMulti::new(Fd(fd), GROUP).build(),
        };
        // SAFETY: the header and the buffers live as long as the ring.
        #[expect(unsafe_code)]
        let pushed = unsafe { self.ring.submission().push(&entry.user_data(index as u64)) };
        pushed.map_err(|_| io::Error::other("the queue is full"))?;
        self.ring.submit().map(drop)
    }

    fn receive(&mut self, bytes: usize, each: usize, round: &mut Round) -> io::Result<()> {
        let (mut left, mut pending) = (bytes, 0);
        while left > 0 {
            self.ring.submit_and_wait(1)?;
            let mut completions = std::mem::take(&mut self.completions);
            completions.extend(self.ring.completion());
            for completion in completions.drain(..) {
                let (count, stamp) = self.complete(&completion)?;
                left -= count;
                pending += count;
                if pending >= each {
                    pending -= each;
                    note(stamp, round);
                }
            }
            self.completions = completions;
            self.buffers.publish();
        }
        Ok(())
    }

    /// Bytes of a completion and their stamp; the buffer goes back.
    fn complete(&mut self, entry: &cqueue::Entry) -> io::Result<(usize, Option<SystemTime>)> {
        let count = usize::try_from(entry.result())
            .map_err(|_| io::Error::from_raw_os_error(-entry.result()))?;
        let flags = entry.flags();
        let id = cqueue::buffer_select(flags).filter(|_| cqueue::more(flags));
        let id = id.ok_or_else(|| io::Error::other("a multishot receive has ended"))?;
        let bytes = self.buffers.bytes(id, count);
        let outcome = if self.way.call == Call::MultishotMessage {
            let message = RecvMsgOut::parse(bytes, &self.header)
                .map_err(|()| io::Error::other("a message without its header"))?;
            let payload = message.payload_data();
            self.sum += u64::from(payload[0]);
            (payload.len(), stamp(message.control_data()))
        } else {
            self.sum += u64::from(bytes[0]);
            (count, None)
        };
        self.buffers.release(id, count, !cqueue::buffer_more(flags));
        Ok(outcome)
    }
}

impl Drop for Ring {
    /// Has the kernel let go of the buffers, or leaks them.
    fn drop(&mut self) {
        let everything = types::CancelBuilder::any();
        if self.ring.submitter().register_sync_cancel(None, everything).is_err() {
            std::mem::forget(std::mem::take(&mut self.buffers.pages));
        }
    }
}

/// A ring of buffers.
struct Buffers {
    ring: BufferRing,
    pages: Vec<Page>,
    /// The begin of the pages.
    memory: *mut u8,
    is_incremental: bool,
    /// Bytes that the kernel has put into each of the incremental ones.
    filled: Vec<usize>,
}

impl Buffers {
    fn register(ring: &IoUring, is_incremental: bool) -> io::Result<Self> {
        let count = if is_incremental { LARGE_BUFFERS } else { BUFFERS };
        let flags = if is_incremental { IOU_PBUF_RING_INC } else { 0 };
        let mut pages = pages(MEMORY_BYTES);
        let mut buffers = Self {
            ring: BufferRing::register(ring, BUFFERS, GROUP, flags)?,
            memory: pages.as_mut_ptr().cast(),
            pages,
            is_incremental,
            filled: vec![0; usize::from(count)],
        };
        (0..count).for_each(|id| buffers.give_back(id));
        buffers.publish();
        Ok(buffers)
    }

    fn buffer_bytes(&self) -> usize {
        if self.is_incremental { LARGE_BUFFER_BYTES } else { BUFFER_BYTES }
    }

    fn address(&self, id: u16) -> *mut u8 {
        self.memory.wrapping_add(usize::from(id) * self.buffer_bytes())
    }

    /// The next `count` bytes that the kernel has put into a buffer.
    fn bytes(&self, id: u16, count: usize) -> &[u8] {
        let start = self.filled[usize::from(id)];
        assert!(start + count <= self.buffer_bytes(), "inside the buffer");
        // SAFETY: inside the memory, which is initialised; the kernel writes there only after the buffer was given back, for which `self` is borrowed.
        #[expect(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.address(id).add(start), count)
        }
    }

    fn release(&mut self, id: u16, count: usize, is_last: bool) {
        if self.is_incremental && !is_last {
            self.filled[usize::from(id)] += count;
        } else {
            self.give_back(id);
        }
    }

    /// Describes a buffer to the kernel, which sees it at the next `publish`.
    fn give_back(&mut self, id: u16) {
        self.filled[usize::from(id)] = 0;
        let (address, len) = (self.address(id), self.buffer_bytes() as u32);
        // SAFETY: inside the memory, which is freed when the kernel has let go of it.
        #[expect(unsafe_code)]
        unsafe {
            self.ring.offer(id, address, len);
        }
    }

    fn publish(&self) {
        self.ring.publish();
    }
}

const WAYS: [Way; 8] = [
    Way { name: "recv(2)", call: Call::System, is_stamped: false },
    Way { name: "recvmsg(2), stamped", call: Call::System, is_stamped: true },
    Way { name: "multishot recv, incremental", call: Call::Incremental, is_stamped: false },
    Way { name: "the same, stamps not read", call: Call::Incremental, is_stamped: true },
    Way { name: "multishot recv, whole buffers", call: Call::Multishot, is_stamped: false },
    Way { name: "the same, stamps not read", call: Call::Multishot, is_stamped: true },
    Way { name: "multishot recvmsg", call: Call::MultishotMessage, is_stamped: false },
    Way { name: "multishot recvmsg, stamped", call: Call::MultishotMessage, is_stamped: true },
];
const LOADS: [Load; 3] = [
    Load { connections: 1, bytes: 256 },
    Load { connections: 64, bytes: 256 },
    Load { connections: 8, bytes: 8192 },
];
const WARM_UP_MAX: Duration = Duration::from_secs(1);
/// Room for a header of 16 bytes and a time of two words (`cmsg(3)`).
const CONTROL_BYTES: usize = 32;
const GROUP: u16 = 0;
/// More than there are messages in a turn; a power of two.
const BUFFERS: u16 = 128;
const BUFFER_BYTES: usize = 16 * 1024;
const MEMORY_BYTES: usize = BUFFER_BYTES * BUFFERS as usize;
/// As in the driver.
const LARGE_BUFFERS: u16 = 2;
const LARGE_BUFFER_BYTES: usize = 256 * 1024;
const _: () = assert!(LARGE_BUFFERS as usize * LARGE_BUFFER_BYTES <= MEMORY_BYTES);
/// Fill buffers piece by piece (Linux 6.12, `io_uring_register_buf_ring(3)`).
const IOU_PBUF_RING_INC: u16 = 2;
