//! The peer that picows-uring has to beat: an echo server on epoll, written by hand.
//!
//! The same protocol crate, one thread, one hot receive buffer, one write for all the frames of a
//! readable event. No listener, no timers, no limits: less than any runtime does.

use benches::process::{announce, listen, raise_descriptor_limit};
use clap::Parser;
use http::HeaderMap;
use picows_uring_proto::{
    CloseFrame, Decoder, Frame, FrameHead, FrameRules, HeadLimits, MsgType, PeerMisbehaved, Role,
    Stash, UpgradeRequest, UpgradeResponse, encode_switching_protocols,
};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Run an echo server on epoll, for comparison
#[derive(Debug, Parser)]
struct Args {
    /// Address to listen on; port 0 for any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    raise_descriptor_limit()?;
    let listener = listen(args.listen)?;
    let mut server = Server::new(listener)?;
    announce(&server.listener)?;
    server.run()
}

struct Server {
    epoll: rustix::fd::OwnedFd,
    listener: TcpListener,
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
    shared: Shared,
}

/// What all connections use in turn.
struct Shared {
    rules: FrameRules,
    /// One receive buffer for all, so that it stays in cache.
    input: Vec<u8>,
    /// All answers to what one read brought.
    out: Vec<u8>,
    /// Empty stashes, so that a connection between two frames owns none.
    stashes: Vec<Stash>,
}

struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    /// The handshake is not over: `stash` has the start of the request.
    is_new: bool,
    /// Close once everything is sent.
    is_ending: bool,
    /// Part of a frame.
    stash: Stash,
    /// The part of the request that has arrived.
    head: Vec<u8>,
    /// What the socket would not take. Nothing is read until it is sent.
    unsent: Vec<u8>,
}

impl Server {
    fn new(listener: TcpListener) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            shared: Shared {
                rules: FrameRules::default(),
                input: vec![0; INPUT_BYTES],
                out: Vec::with_capacity(INPUT_BYTES),
                stashes: Vec::new(),
            },
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            for event in &events {
                let (data, flags) = (event.data, event.flags);
                if data.u64() == LISTENER {
                    self.accept()?;
                } else {
                    self.serve(data.u64() as usize, flags);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            // Edge-triggered, so that room to write is only told after there was none.
            let flags = epoll::EventFlags::IN
                | epoll::EventFlags::OUT
                | epoll::EventFlags::RDHUP
                | epoll::EventFlags::ET;
            let data = epoll::EventData::new_u64(slot as u64);
            epoll::add(&self.epoll, &stream, data, flags)?;
            self.connections[slot] = Some(Box::new(Connection {
                stream,
                decoder: Decoder::new(Role::Server),
                is_new: true,
                is_ending: false,
                stash: Stash::new(),
                head: Vec::new(),
                unsent: Vec::new(),
            }));
        }
    }

    /// Serves one event. A connection that fails is closed and forgotten.
    fn serve(&mut self, slot: usize, flags: epoll::EventFlags) {
        // An event of a connection that was closed earlier in the same batch cannot come: each
        // connection has one event in it.
        let Some(connection) = &mut self.connections[slot] else { return };
        let is_hung_up = flags
            .intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR);
        if !matches!(connection.serve(&mut self.shared, is_hung_up), Ok(true)) {
            self.connections[slot] = None;
            self.free.push(slot);
        }
    }
}

impl Connection {
    /// Reads what is there, answers it, and tells whether the connection goes on.
    ///
    /// A read that does not fill the buffer has emptied the socket (`epoll(7)`), unless the peer
    /// has hung up: then the end is still to be read.
    fn serve(&mut self, shared: &mut Shared, is_hung_up: bool) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let taken = write(&mut self.stream, &self.unsent)?;
            self.unsent.drain(..taken);
        }
        while self.unsent.is_empty() && !self.is_ending {
            let len = match self.stream.read(&mut shared.input) {
                Ok(0) => return Ok(false),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            self.receive(shared, len);
            let taken = write(&mut self.stream, &shared.out)?;
            self.unsent.extend_from_slice(&shared.out[taken..]);
            shared.out.clear();
            if len < shared.input.len() && !is_hung_up {
                break;
            }
        }
        Ok(!self.is_ending || !self.unsent.is_empty())
    }

    /// Answers the first `len` bytes of the input, into `shared.out`.
    fn receive(&mut self, shared: &mut Shared, len: usize) {
        let Shared { rules, input, out, stashes } = shared;
        let input = &mut input[..len];
        if self.is_new {
            return self.receive_head(rules, input, out);
        }
        if !self.decoder.wants_stash() {
            self.stash = stashes.pop().unwrap_or_default();
        }
        self.receive_frames(rules, input, out);
        if !self.decoder.wants_stash() {
            stashes.push(std::mem::take(&mut self.stash));
        }
    }

    fn receive_head(&mut self, rules: &FrameRules, input: &[u8], out: &mut Vec<u8>) {
        self.head.extend_from_slice(input);
        let mut head = std::mem::take(&mut self.head);
        let answered = match UpgradeRequest::parse(&head, &HeadLimits::default()) {
            Ok(None) => {
                self.head = head;
                return;
            }
            Ok(Some((request, used))) => match request.validate_upgrade() {
                Ok(key) => Ok((key, used)),
                Err(error) => Err(UpgradeResponse::from(error)),
            },
            Err(error) => Err(UpgradeResponse::from(error)),
        };
        match answered {
            Ok((key, used)) => {
                encode_switching_protocols(out, &key, None, &HeaderMap::new());
                self.is_new = false;
                self.receive_frames(rules, &mut head[used..], out);
            }
            Err(refusal) => {
                refusal.encode(out);
                self.is_ending = true;
            }
        }
    }

    fn receive_frames(&mut self, rules: &FrameRules, mut input: &mut [u8], out: &mut Vec<u8>) {
        loop {
            match self.decoder.next_frame(rules, &mut self.stash, input) {
                Ok(decoded) => {
                    let consumed = decoded.consumed;
                    let Some(frame) = decoded.frame else { return };
                    self.is_ending |= answer(&frame, out);
                    input = &mut input[consumed..];
                }
                Err(error) => {
                    refuse(error, out);
                    self.is_ending = true;
                    return;
                }
            }
        }
    }
}

/// Appends what a frame is owed, and tells whether it was the last.
fn answer(frame: &Frame<'_>, out: &mut Vec<u8>) -> bool {
    let msg_type = match frame.msg_type() {
        MsgType::Ping => MsgType::Pong,
        MsgType::Pong => return false,
        other => other,
    };
    FrameHead::new(msg_type).with_fin(frame.fin()).append(out, frame.payload(), None);
    msg_type == MsgType::Close
}

#[cold]
fn refuse(error: PeerMisbehaved, out: &mut Vec<u8>) {
    CloseFrame::new(error.close_code(), "").append(out, None);
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

/// Event data of the listener; connections have their slot.
const LISTENER: u64 = u64::MAX;
/// Receive buffer: about what the second-level cache holds.
const INPUT_BYTES: usize = 512 * 1024;
/// Events taken at a time.
const EVENTS: usize = 1024;
