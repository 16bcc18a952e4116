//! Servers that say what a test wants them to, right or wrong, and what their tests share.
//!
//! A thread for each connection, blocking sockets, and a generous timeout instead of sleeping.

#![allow(dead_code, reason = "each test binary uses its own part of this module")]

#[path = "../patience/mod.rs"]
mod patience;

pub(crate) use patience::*;

use picows_uring::{Connect, ConnectError, Frame, Listener, ListenerResult, MsgType, Transport};
use picows_uring_proto::AcceptKey;
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A port on which no socket listens, and none can as long as the socket is kept.
pub(crate) fn unheard() -> (OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port is free");
    let address = getsockname(&socket).expect("it is bound");
    (socket, address.try_into().expect("it is an address of IPv4"))
}

/// A server that follows `script`, which is also told the number of the connection.
pub(crate) fn serve(script: impl Fn(usize, Peer) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (script, stream) = (Arc::clone(&script), stream.expect("a connection"));
            std::thread::spawn(move || script(number, Peer::new(stream)));
        }
    });
    address
}

/// A server that answers each request with `answer` and then waits for the client to go.
pub(crate) fn answers(answer: impl Fn(&Request) -> String + Send + Sync + 'static) -> String {
    let address = serve(move |_, mut peer| {
        let request = peer.request();
        peer.write(answer(&request).as_bytes());
        peer.read_to_end();
    });
    format!("ws://{address}/")
}

/// The server's end of a connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
}

/// The head of a request.
#[derive(Clone, Debug)]
pub(crate) struct Request(pub(crate) String);

impl Peer {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("it is TCP");
        Self { stream }
    }

    /// Reads a request up to its empty line.
    pub(crate) fn request(&mut self) -> Request {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte).expect("a request");
            head.extend_from_slice(&byte);
        }
        Request(String::from_utf8(head).expect("a text"))
    }

    /// Reads what has arrived, and waits for the first bytes of it.
    pub(crate) fn read_some(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let length = uninterrupted(|| self.stream.read(&mut bytes)).expect("bytes arrive in time");
        bytes.truncate(length);
        bytes
    }

    /// Writes, and returns whether the client is still there.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Writes to a client that may have gone already.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Reads until the client ends the connection, orderly or not.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))
            .expect("linger can be set");
    }
}

impl Request {
    /// The values of all headers of that name.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.0.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines
            .filter(|(is, _)| is.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// Path and query.
    pub(crate) fn target(&self) -> &str {
        self.0.split(' ').nth(1).expect("a request line")
    }

    /// What `Sec-WebSocket-Accept` has to be.
    pub(crate) fn accept(&self) -> String {
        AcceptKey::for_key(self.headers("sec-websocket-key")[0]).as_str().to_owned()
    }

    /// An answer that accepts, with further header lines.
    pub(crate) fn accepted(&self, lines: &str) -> String {
        self.accepted_with("101 Switching Protocols", lines)
    }

    /// The same with another status and reason.
    pub(crate) fn accepted_with(&self, status: &str, lines: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n{lines}\r\n",
            self.accept()
        )
    }
}

/// An event of a listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(pub(crate) Rc<RefCell<Frames>>);

type Frames = Vec<(MsgType, Vec<u8>)>;

impl Listener for Heard {
    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        self.0.borrow_mut().push((frame.msg_type(), frame.payload().to_vec()));
        Ok(())
    }
}

/// Connects in a loop of its own, which has to fail.
#[track_caller]
pub(crate) fn refused(connect: Connect) -> ConnectError {
    let outcome = run(async { connect.connect(Heard::default()).await.map(drop) });
    outcome.expect("there is io_uring").expect_err("it is refused")
}

/// Connects in a loop of its own and lets `use_it` have the connection.
#[track_caller]
pub(crate) fn connected<T>(connect: Connect, use_it: impl FnOnce(&Transport) -> T) -> T {
    let outcome = run(async {
        let transport = connect.connect(Heard::default()).await?;
        let used = use_it(&transport);
        transport.abort();
        Ok::<_, ConnectError>(used)
    });
    outcome.expect("there is io_uring").expect("it connects")
}
