//! The floor: what the kernel alone costs when it is asked through a ring.
//!
//! Counts bytes and answers with ready frames. Looks at nothing that it receives, so no server
//! that does can be expected to cost less.

use benches::buffer_ring::{BufferRing, pages};
use benches::echo::ready_frame;
use benches::process::{announce, listen, raise_descriptor_limit};
use clap::Parser;
use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode, squeue};
use picows_uring_proto::{HeadLimits, UpgradeRequest, encode_switching_protocols};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Answer every N bytes with a ready frame, over io_uring, and parse nothing
#[derive(Debug, Parser)]
struct Args {
    /// Address to listen on; port 0 for any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    listen: SocketAddr,

    /// How many bytes to answer: a masked request with its header
    #[arg(long, value_name = "N", default_value_t = 256 + 8,
          value_parser = clap::value_parser!(u32).range(1..))]
    bytes_in: u32,

    /// Payload of the frame to answer with, in bytes
    #[arg(long, value_name = "N", default_value_t = 256)]
    payload: u32,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    raise_descriptor_limit()?;
    let listener = listen(args.listen)?;
    let mut floor = Floor::new(listener, &args)?;
    announce(&floor.listener)?;
    floor.run()
}

struct Floor {
    ring: IoUring,
    buffers: Buffers,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Completions of this turn.
    completions: Vec<cqueue::Entry>,
    request_bytes: u64,
    frame_bytes: usize,
    /// Answers to as many requests as fit into a receive buffer. Leaked, as the kernel reads it.
    frames: &'static [u8],
}

/// Lives until it has nothing in flight.
struct Connection {
    stream: TcpStream,
    /// Received and not answered yet.
    bytes_owed: u64,
    is_receiving: bool,
    is_sending: bool,
    is_ending: bool,
}

impl Floor {
    fn new(listener: TcpListener, args: &Args) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let buffers = Buffers::register(&ring)?;
        let frame = ready_frame(args.payload as usize);
        let frames_max = BUFFER_BYTES / args.bytes_in as usize + 1;
        let mut floor = Self {
            ring,
            buffers,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            completions: Vec::with_capacity(COMPLETIONS as usize),
            request_bytes: u64::from(args.bytes_in),
            frame_bytes: frame.len(),
            frames: frame.repeat(frames_max).leak(),
        };
        floor.watch_listener()?;
        Ok(floor)
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // The completion queue overflowed: the kernel wants it emptied first.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
            let mut completions = std::mem::take(&mut self.completions);
            completions.extend(self.ring.completion());
            for completion in completions.drain(..) {
                self.handle(&completion)?;
            }
            self.completions = completions;
            self.buffers.publish();
        }
    }

    fn handle(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let token = completion.user_data();
        if token == LISTENER {
            self.accept()?;
            if !cqueue::more(completion.flags()) {
                self.watch_listener()?;
            }
            return Ok(());
        }
        let slot = (token >> 1) as usize;
        let connection = self.connections[slot].as_mut().expect("it had something in flight");
        let result = completion.result();
        if token & 1 == SEND {
            connection.is_sending = false;
            connection.is_ending |= result < 0;
        } else {
            if let Some(id) = cqueue::buffer_select(completion.flags()) {
                self.buffers.give_back(id);
            }
            connection.is_receiving = cqueue::more(completion.flags());
            connection.bytes_owed += u64::try_from(result).unwrap_or(0);
            connection.is_ending |= result == 0 || (result < 0 && result != -libc::ENOBUFS);
        }
        self.advance(slot)
    }

    /// Submits what a connection needs next.
    fn advance(&mut self, slot: usize) -> io::Result<()> {
        let connection = self.connections[slot].as_mut().expect("only called for a live one");
        let fd = Fd(connection.stream.as_raw_fd());
        if connection.is_ending {
            if connection.is_receiving || connection.is_sending {
                // Ends the receive, which is in flight for ever otherwise.
                let _ = connection.stream.shutdown(std::net::Shutdown::Both);
            } else {
                self.connections[slot] = None;
                self.free.push(slot);
            }
            return Ok(());
        }
        let receive = (!connection.is_receiving).then(|| {
            connection.is_receiving = true;
            opcode::RecvMulti::new(fd, GROUP).build().user_data((slot as u64) << 1)
        });
        let frames_max = (self.frames.len() / self.frame_bytes) as u64;
        let count = (connection.bytes_owed / self.request_bytes).min(frames_max);
        let send = (count > 0 && !connection.is_sending).then(|| {
            connection.is_sending = true;
            connection.bytes_owed -= count * self.request_bytes;
            let len = count as usize * self.frame_bytes;
            opcode::Send::new(fd, self.frames.as_ptr(), len as u32)
                .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                .build()
                .user_data((slot as u64) << 1 | SEND)
        });
        for entry in receive.into_iter().chain(send) {
            self.push(&entry)?;
        }
        Ok(())
    }

    fn watch_listener(&mut self) -> io::Result<()> {
        let fd = Fd(self.listener.as_raw_fd());
        let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true);
        self.push(&poll.build().user_data(LISTENER))
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: entries name descriptors, which the kernel holds itself while it uses them,
            // and memory that is leaked: `frames`, and the receive buffer through its group.
            #[expect(unsafe_code)]
            let pushed = unsafe { self.ring.submission().push(entry) };
            if pushed.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    /// Takes every connection that waits. A handshake that fails is the client's loss.
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            if upgrade(&stream).is_err() {
                continue;
            }
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.connections[slot] = Some(Connection {
                stream,
                bytes_owed: 0,
                is_receiving: false,
                is_sending: false,
                is_ending: false,
            });
            self.advance(slot)?;
        }
    }
}

/// Does the handshake, blocking: it is not what is measured.
fn upgrade(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (mut head, mut part) = (Vec::new(), [0; 1024]);
    loop {
        let len = stream.read(&mut part)?;
        head.extend_from_slice(&part[..len]);
        let parsed = UpgradeRequest::parse(&head, &HeadLimits::default());
        if let Some((request, _)) = parsed.map_err(io::Error::other)? {
            let key = request.validate_upgrade().map_err(io::Error::other)?;
            let mut answer = Vec::new();
            encode_switching_protocols(&mut answer, &key, None, &http::HeaderMap::new());
            return stream.write_all(&answer);
        }
        if len == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A ring of buffers that are all the same memory.
///
/// What the kernel writes there is never read, so it may write all of it into one place, which
/// stays in cache as no real server's buffers can.
struct Buffers {
    ring: BufferRing,
    /// Leaked, as the kernel writes there.
    memory: *mut u8,
}

impl Buffers {
    fn register(ring: &IoUring) -> io::Result<Self> {
        let ring = BufferRing::register(ring, BUFFERS, GROUP, 0)?;
        let mut buffers = Self { ring, memory: pages(BUFFER_BYTES).leak().as_mut_ptr().cast() };
        for id in 0..BUFFERS {
            buffers.give_back(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Describes a buffer to the kernel, which sees it at the next `publish`.
    fn give_back(&mut self, id: u16) {
        // SAFETY: leaked, and only ever written by the kernel.
        #[expect(unsafe_code)]
        unsafe {
            self.ring.offer(id, self.memory, BUFFER_BYTES as u32);
        }
    }

    fn publish(&self) {
        self.ring.publish();
    }
}

/// Token of the listener; those of connections are slot and operation.
const LISTENER: u64 = u64::MAX;
/// Lowest bit of a connection's token: send, else receive.
const SEND: u64 = 1;
const GROUP: u16 = 0;
const SUBMISSIONS: u32 = 2048;
const COMPLETIONS: u32 = 8 * SUBMISSIONS;
/// More than a thousand busy connections, so that the kernel rarely finds none; a power of two.
const BUFFERS: u16 = 2048;
/// About what the second-level cache holds.
const BUFFER_BYTES: usize = 512 * 1024;
