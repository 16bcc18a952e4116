//! Fan-out that does nothing but send: each message goes to every connection in one `send(2)` each.
//!
//! Messages have one length, which is known before: nothing is parsed. What comes in one read leaves
//! in one send.

use benches::process::{announce, listen, raise_descriptor_limit};
use clap::Parser;
use picows_uring_proto::{
    FrameHead, HeadLimits, MsgType, UpgradeRequest, encode_switching_protocols,
};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Send each message to every connection, and parse nothing
#[derive(Debug, Parser)]
struct Args {
    /// Address to listen on; port 0 for any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    listen: SocketAddr,

    /// Payload of a message, in bytes
    #[arg(long, value_name = "N", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(126..65536))]
    size: u32,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    raise_descriptor_limit()?;
    let listener = listen(args.listen)?;
    announce(&listener)?;
    Server::new(listener, args.size as usize)?.run()
}

struct Server {
    epoll: rustix::fd::OwnedFd,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    /// A masked frame of a client.
    request_bytes: usize,
    /// The header of a frame to all.
    header: Vec<u8>,
    input: Vec<u8>,
    out: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    is_open: bool,
}

impl Server {
    fn new(listener: TcpListener, size: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
        let mut header = Vec::new();
        FrameHead::new(MsgType::Binary).append(&mut header, &vec![0; size], None);
        header.truncate(header.len() - size);
        Ok(Self {
            epoll,
            listener,
            connections: Vec::new(),
            request_bytes: header.len() + MASK_BYTES + size,
            header,
            input: vec![0; INPUT_BYTES],
            out: Vec::new(),
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
                let data = event.data.u64();
                if data == LISTENER {
                    self.accept()?;
                } else if !self.serve(data as usize).unwrap_or(false) {
                    self.connections[data as usize] = None;
                }
            }
            self.send_to_all();
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        let slot = self.connections.iter().position(Option::is_none).unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let data = epoll::EventData::new_u64(slot as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
        self.connections[slot] = Some(Connection { stream, received: Vec::new(), is_open: false });
        Ok(())
    }

    /// Reads once, and returns whether the connection goes on.
    fn serve(&mut self, slot: usize) -> io::Result<bool> {
        let Some(connection) = &mut self.connections[slot] else { return Ok(true) };
        let len = match connection.stream.read(&mut self.input) {
            Ok(0) => return Ok(false),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        connection.received.extend_from_slice(&self.input[..len]);
        if !connection.is_open {
            return connection.upgrade();
        }
        let whole = connection.received.len() / self.request_bytes * self.request_bytes;
        for request in connection.received[..whole].chunks(self.request_bytes) {
            // Anything shorter is a CLOSE, behind which nothing comes.
            let (mask, payload) = request[self.header.len()..].split_at(MASK_BYTES);
            self.out.extend_from_slice(&self.header);
            self.out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
        connection.received.drain(..whole);
        Ok(true)
    }

    /// A socket that takes no more is one that reads too slowly: the load reports it.
    fn send_to_all(&mut self) {
        if self.out.is_empty() {
            return;
        }
        for connection in self.connections.iter_mut().flatten().filter(|it| it.is_open) {
            let _ = connection.stream.write(&self.out);
        }
        self.out.clear();
    }
}

impl Connection {
    fn upgrade(&mut self) -> io::Result<bool> {
        let limits = HeadLimits::default();
        let parsed = UpgradeRequest::parse(&self.received, &limits).map_err(io::Error::other)?;
        let Some((request, used)) = parsed else { return Ok(true) };
        let Ok(key) = request.validate_upgrade() else { return Ok(false) };
        let mut answer = Vec::new();
        encode_switching_protocols(&mut answer, &key, None, &http::HeaderMap::new());
        self.stream.write_all(&answer)?;
        self.received.drain(..used);
        self.is_open = true;
        Ok(true)
    }
}

/// Event data of the listener; connections have their slot.
const LISTENER: u64 = u64::MAX;
const EVENTS: usize = 1024;
const MASK_BYTES: usize = 4;
const INPUT_BYTES: usize = 64 * 1024;
