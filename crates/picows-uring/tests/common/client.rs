//! A client that hides nothing, on a blocking socket, and what it gets.

#[cfg(feature = "_tls")]
use super::secure;
use super::{PATIENCE, close_payload, masked, uninterrupted, upgrade_request};
use picows_uring::{CloseCode, FrameHead, MsgType};
use picows_uring_proto::{FrameRules, Header, Role};
use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A frame that was received.
#[derive(PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) head: FrameHead,
    pub(crate) payload: Vec<u8>,
}

impl Got {
    pub(crate) fn new(msg_type: MsgType, payload: impl Into<Vec<u8>>) -> Self {
        Self { head: FrameHead::new(msg_type), payload: payload.into() }
    }
}

impl Debug for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = &self.payload[..self.payload.len().min(40)];
        let (start, len) = (start.escape_ascii(), self.payload.len());
        write!(f, "{:?} \"{start}\" ({len} bytes)", self.head)
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Response {
    /// The value of a header, if it is there.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One end of a connection.
pub(crate) struct Client {
    stream: TcpStream,
    /// Received and not used yet.
    received: Vec<u8>,
    used: usize,
    #[cfg(feature = "_tls")]
    secure: Option<secure::Layer>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the server accepts")).secured()
    }

    /// Makes the handshake of TLS, where that is wanted.
    fn secured(self) -> Self {
        #[cfg(feature = "_tls")]
        if secure::is_wanted() {
            let secure = secure::Layer::connect(&self.stream);
            return Self { secure, ..self };
        }
        self
    }

    /// Makes the handshake of TLS on a connection that is there.
    #[cfg(feature = "_tls")]
    pub(crate) fn over_tls(stream: TcpStream) -> Self {
        let secure = secure::Layer::connect(&stream);
        Self { secure, ..Self::over(stream) }
    }

    /// Writes bytes, sealed where the connection is secure.
    fn put(&self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(feature = "_tls")]
        if let Some(secure) = &self.secure {
            return secure.write(&self.stream, bytes);
        }
        (&self.stream).write_all(bytes)
    }

    pub(crate) fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the server accepts");
        // Reading, writing and timeouts are the same for both kinds of socket.
        Self::over(TcpStream::from(OwnedFd::from(stream)))
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        // Fails on a Unix socket, which has no delay anyway.
        let _ = stream.set_nodelay(true);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Self {
            stream,
            received: Vec::new(),
            used: 0,
            #[cfg(feature = "_tls")]
            secure: None,
        }
    }

    /// Connects and completes the handshake.
    pub(crate) fn upgrade(address: SocketAddr) -> Self {
        Self::upgrade_at(address, "/")
    }

    /// The same with a path.
    #[track_caller]
    pub(crate) fn upgrade_at(address: SocketAddr, path: &str) -> Self {
        let mut client = Self::connect(address);
        let response = client.ask(path, "");
        assert_eq!(response.status, 101, "{response:?}");
        client
    }

    /// Connects and completes the handshake, unless the server has hung up before.
    pub(crate) fn try_upgrade(address: SocketAddr) -> Option<Self> {
        let mut client = Self::connect(address);
        client.try_write(upgrade_request("/", "").as_bytes()).ok()?;
        while !client.rest().ends_with(b"\r\n\r\n") {
            if !client.fill().is_ok_and(|count| count > 0) {
                return None;
            }
        }
        assert_eq!(client.response().status, 101);
        Some(client)
    }

    /// Completes the handshake of an open connection.
    #[track_caller]
    pub(crate) fn upgraded(mut self) -> Self {
        let response = self.ask("/", "");
        assert_eq!(response.status, 101, "{response:?}");
        self
    }

    /// Sends an upgrade request with further header lines, and waits for the answer.
    pub(crate) fn ask(&mut self, path: &str, lines: &str) -> Response {
        self.write(upgrade_request(path, lines).as_bytes());
        self.response()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.put(bytes).expect("the server reads");
    }

    /// Writes to a server that may have gone already.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put(bytes)
    }

    /// Sends a byte, waits for a moment whether the server hangs up, sends the next, and returns
    /// how many bytes that were.
    pub(crate) fn drip(&mut self, bytes: &[u8], moment: Duration) -> usize {
        self.stream.set_read_timeout(Some(moment)).expect("a timeout can be set");
        let is_waiting = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        let hung_up = bytes.iter().position(|byte| {
            self.try_write(&[*byte]).is_err() || !self.fill().is_err_and(|error| is_waiting(&error))
        });
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        hung_up.unwrap_or(bytes.len())
    }

    pub(crate) fn send(&mut self, msg_type: MsgType, payload: impl AsRef<[u8]>) {
        self.write(&masked(FrameHead::new(msg_type), payload.as_ref()));
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.send(MsgType::Text, text);
    }

    pub(crate) fn send_close(&mut self, code: u16, reason: &str) {
        self.send(MsgType::Close, close_payload(code, reason));
    }

    /// Sends to a server that may have gone already.
    pub(crate) fn try_send(&mut self, msg_type: MsgType, payload: &[u8]) -> io::Result<()> {
        self.put(&masked(FrameHead::new(msg_type), payload))
    }

    /// Sends `bytes` from a thread of its own and meanwhile receives `count` frames, so that
    /// neither side waits for the other to read first.
    #[track_caller]
    pub(crate) fn exchange(&mut self, bytes: &[u8], count: usize) -> Vec<Got> {
        let mut sender = self.stream.try_clone().expect("a descriptor is left");
        #[cfg(feature = "_tls")]
        let secure = self.secure.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                #[cfg(feature = "_tls")]
                if let Some(secure) = secure {
                    return secure.write(&sender, bytes).expect("the server reads");
                }
                sender.write_all(bytes).expect("the server reads");
            });
            (0..count).map(|_| self.receive()).collect()
        })
    }

    /// Sends a message and expects it back.
    #[track_caller]
    pub(crate) fn echo(&mut self, payload: &[u8]) {
        self.send(MsgType::Binary, payload);
        assert_eq!(self.receive(), Got::new(MsgType::Binary, payload));
    }

    /// Another handle of the connection, to write with while this one reads.
    pub(crate) fn sender(&self) -> Self {
        Self {
            stream: self.stream.try_clone().expect("a descriptor is left"),
            received: Vec::new(),
            used: 0,
            #[cfg(feature = "_tls")]
            secure: self.secure.clone(),
        }
    }

    /// The next frame.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Got {
        self.try_receive().expect("a frame, and not the end")
    }

    /// The next frame, or how the connection ended.
    pub(crate) fn try_receive(&mut self) -> io::Result<Got> {
        let rules =
            FrameRules { payload_bytes_max: 1 << 30, rsv_allowed: 7, ..FrameRules::default() };
        loop {
            let rest = &self.received[self.used..];
            let decoded = Header::decode(rest, Role::Client, &rules).expect("a valid header");
            if let Some((header, len)) = decoded {
                let payload_len = usize::try_from(header.payload_len).expect("64-bit");
                if rest.len() >= len + payload_len {
                    let payload = rest[len..len + payload_len].to_vec();
                    self.used += len + payload_len;
                    let Header { msg_type, fin, rsv, .. } = header;
                    return Ok(Got {
                        head: FrameHead::new(msg_type).with_fin(fin).with_rsv(rsv),
                        payload,
                    });
                }
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect_text(&mut self, text: &str) {
        assert_eq!(self.receive(), Got::new(MsgType::Text, text));
    }

    /// The next frame is CLOSE with this code and reason.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, code: CloseCode, reason: &str) {
        assert_eq!(self.receive(), Got::new(MsgType::Close, close_payload(code.get(), reason)));
    }

    /// Nothing follows but the end of the stream.
    #[track_caller]
    pub(crate) fn expect_eof(&mut self) {
        let count = self.fill().expect("the end, and not an error");
        assert_eq!(count, 0, "nothing follows, but: {:?}", self.rest().escape_ascii().to_string());
    }

    /// Nothing follows; whether the end is orderly does not matter.
    #[track_caller]
    pub(crate) fn expect_gone(&mut self) {
        match self.fill() {
            Ok(count) => assert_eq!(count, 0, "{:?}", self.rest().escape_ascii().to_string()),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
        }
    }

    /// Everything up to the end, orderly or not, and how many bytes that was.
    pub(crate) fn read_to_end(&mut self) -> usize {
        loop {
            match self.fill() {
                Ok(0) => return self.rest().len(),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return self.rest().len();
                }
                outcome => drop(outcome.expect("no other error, and no timeout")),
            }
        }
    }

    /// Whether nothing comes for this long, not even the end: time passes in which the server has
    /// nothing to do.
    pub(crate) fn is_silent(&self, duration: Duration) -> bool {
        let start = Instant::now();
        let is_silent = loop {
            let left = duration.saturating_sub(start.elapsed());
            if left.is_zero() {
                break true;
            }
            self.stream.set_read_timeout(Some(left)).expect("a timeout can be set");
            // An error is the timeout, or that the process was stopped.
            if self.stream.peek(&mut [0]).is_ok() {
                break false;
            }
        };
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        is_silent
    }

    /// Waits for bytes without sleeping, for `duration` at the most.
    pub(crate) fn spin_for_bytes(&self, duration: Duration) {
        use rustix::net::{RecvFlags, recv};
        let start = Instant::now();
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let is_empty = || recv(&self.stream, &mut [0], flags).is_err();
        while is_empty() && start.elapsed() < duration {
            std::hint::spin_loop();
        }
    }

    /// Ends our side of the stream.
    pub(crate) fn finish(&self) {
        #[cfg(feature = "_tls")]
        if let Some(secure) = &self.secure {
            secure.end(&self.stream);
        }
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection with a reset instead of an end of stream.
    pub(crate) fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))
            .expect("linger can be set");
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().expect("it is connected over TCP")
    }

    /// An answer over HTTP, with its body unless it is a 101.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        let end = loop {
            let end = self.rest().windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                break end;
            }
            let count = self.fill().expect("an answer, and not an error");
            assert!(count > 0, "the end before an answer");
        };
        let head = String::from_utf8(self.rest()[..end].to_vec()).expect("a text");
        self.used += end + 4;
        let status = head.get(9..12).and_then(|status| status.parse().ok()).expect("a status line");
        let mut response = Response { status, head, body: String::new() };
        if let Some(length) = response.header("Content-Length") {
            let length: usize = length.parse().expect("a number");
            while self.rest().len() < length {
                assert!(self.fill().expect("the body, and not an error") > 0, "all of the body");
            }
            response.body = String::from_utf8(self.rest()[..length].to_vec()).expect("a text");
            self.used += length;
        }
        response
    }

    fn rest(&self) -> &[u8] {
        &self.received[self.used..]
    }

    /// Reads once.
    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 64 * 1024];
        self.received.drain(..std::mem::take(&mut self.used));
        #[cfg(feature = "_tls")]
        if let Some(secure) = &self.secure {
            return secure.read(&self.stream, &mut self.received);
        }
        let count = uninterrupted(|| self.stream.read(&mut chunk))?;
        self.received.extend_from_slice(&chunk[..count]);
        Ok(count)
    }
}
