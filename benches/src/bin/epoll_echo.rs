//! The peer that picows-uring has to beat: an echo server on epoll, written by hand.
//!
//! The same protocol crate, one thread, one hot receive buffer, one write for all the frames of a
//! readable event. No listener, no timers, no limits: less than any runtime does.

use benches::by_hand::{Conversation, Local, write};
use benches::process::{announce, listen, raise_descriptor_limit};
use clap::Parser;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Run an echo server on epoll, for comparison
#[derive(Debug, Parser)]
struct Args {
    /// Address to listen on; port 0 for any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    listen: SocketAddr,

    /// Send each message to every connection instead of back
    #[arg(long)]
    fan_out: bool,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    raise_descriptor_limit()?;
    let listener = listen(args.listen)?;
    let mut server = Server::new(listener, args.fan_out)?;
    announce(&server.listener)?;
    server.run()
}

struct Server {
    epoll: rustix::fd::OwnedFd,
    listener: TcpListener,
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
    shared: Local,
}

struct Connection {
    stream: TcpStream,
    conversation: Conversation,
    /// What the socket would not take. Nothing is read until it is sent.
    unsent: Vec<u8>,
}

impl Server {
    fn new(listener: TcpListener, is_fan_out: bool) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            shared: Local::new(is_fan_out),
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
                conversation: Conversation::default(),
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
        self.fan_out();
    }

    /// Sends what is meant for all. A socket that has failed has an event of its own.
    fn fan_out(&mut self) {
        let Some(bytes) = self.shared.to_all.as_mut().filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        for connection in self.connections.iter_mut().flatten() {
            if connection.conversation.is_open() {
                let _ = connection.send(bytes);
            }
        }
        bytes.clear();
    }
}

impl Connection {
    /// Reads what is there, answers it, and returns whether the connection goes on.
    ///
    /// A read that does not fill the buffer has emptied the socket (`epoll(7)`), unless the peer
    /// has hung up: then the end is still to be read.
    fn serve(&mut self, shared: &mut Local, is_hung_up: bool) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let taken = write(&mut self.stream, &self.unsent)?;
            self.unsent.drain(..taken);
        }
        while self.unsent.is_empty() && !self.conversation.is_ending() {
            let len = match self.stream.read(&mut shared.input) {
                Ok(0) => return Ok(false),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            self.conversation.receive(shared, len);
            let sent = self.send(&shared.out);
            // Also when the connection broke: what is left would go to another one.
            shared.out.clear();
            sent?;
            if len < shared.input.len() && !is_hung_up {
                break;
            }
        }
        Ok(!self.conversation.is_ending() || !self.unsent.is_empty())
    }

    /// Writes what the socket takes, and keeps the rest for later.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let taken = if self.unsent.is_empty() { write(&mut self.stream, bytes)? } else { 0 };
        self.unsent.extend_from_slice(&bytes[taken..]);
        Ok(())
    }
}

/// Event data of the listener; connections have their slot.
const LISTENER: u64 = u64::MAX;
/// Events taken at a time.
const EVENTS: usize = 1024;
