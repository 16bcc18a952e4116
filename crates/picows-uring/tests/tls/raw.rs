//! A peer that has its own way with records: what no well-behaved library does.

use super::certificates::Certificates;
use super::common::{PATIENCE, masked, upgrade_request};
use picows_uring::{FrameHead, MsgType};
use picows_uring_tls::{Alert, Control, Handshake, Opened, Secure, Step};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

/// One end of a secure connection.
pub(crate) struct Raw {
    stream: TcpStream,
    pub(crate) secure: Box<Secure>,
    /// Records that were received and not opened.
    received: Vec<u8>,
    /// Plaintext that was not used.
    pub(crate) plain: Vec<u8>,
    /// Lengths of the plaintext of each record of data.
    pub(crate) records: Vec<usize>,
    pub(crate) controls: Vec<Control>,
}

impl Raw {
    /// Connects, and makes the handshake of TLS.
    pub(crate) fn connect(certificates: &Certificates, address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let mut handshake = Handshake::client(&certificates.client(), "127.0.0.1").expect("a name");
        let mut out = Vec::new();
        handshake.advance(&mut [], &mut out).expect("a hello");
        loop {
            stream.write_all(&out).expect("the server reads");
            out.clear();
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).expect("the server answers");
            assert!(count > 0, "the end, in the handshake");
            let step = handshake.advance(&mut bytes[..count], &mut out).expect("no fault");
            if let Step::Done { consumed, secure, .. } = step {
                stream.write_all(&out).expect("the server reads");
                let received = bytes[consumed..count].to_vec();
                let (plain, records, controls) = Default::default();
                return Self { stream, secure, received, plain, records, controls };
            }
        }
    }

    /// Connects, and upgrades to WebSocket.
    pub(crate) fn upgrade(certificates: &Certificates, address: SocketAddr) -> Self {
        let mut raw = Self::connect(certificates, address);
        raw.write(upgrade_request("/", "").as_bytes());
        let head = raw.until(b"\r\n\r\n");
        assert!(head.starts_with(b"HTTP/1.1 101"), "{:?}", head.escape_ascii().to_string());
        raw.records.clear();
        raw
    }

    /// Seals bytes in as few records as may be.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.secure.seal_from(plain, &mut out).expect("a key");
        out
    }

    pub(crate) fn write(&mut self, plain: &[u8]) {
        let sealed = self.seal(plain);
        self.write_wire(&sealed);
    }

    /// Writes bytes as they are.
    pub(crate) fn write_wire(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    pub(crate) fn send(&mut self, msg_type: MsgType, payload: &[u8]) {
        self.write(&masked(FrameHead::new(msg_type), payload));
    }

    pub(crate) fn close_notify(&mut self) {
        let mut out = Vec::new();
        self.secure.seal_close_notify(&mut out).expect("a key");
        self.write_wire(&out);
    }

    /// Ends our side of the stream.
    pub(crate) fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Plaintext up to and with `end`.
    pub(crate) fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.plain.windows(end.len()).position(|bytes| bytes == end) {
                return self.plain.drain(..at + end.len()).collect();
            }
            assert!(self.fill(), "the end, before {:?}", end.escape_ascii().to_string());
        }
    }

    /// So many bytes of plaintext.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        while self.plain.len() < count {
            assert!(self.fill(), "the end, with {} of {count} bytes", self.plain.len());
        }
        self.plain.drain(..count).collect()
    }

    /// The next frame, which is short: its payload.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        let header = self.take(2);
        assert!(header[1] < 126, "a short frame: {header:?}");
        self.take(usize::from(header[1]))
    }

    /// Everything up to the end of the stream.
    pub(crate) fn read_to_end(&mut self) {
        while self.fill() {}
    }

    /// The alert that the server has ended the connection with.
    pub(crate) fn alert(&mut self) -> Option<Alert> {
        self.read_to_end();
        self.controls.iter().find_map(|control| match control {
            Control::Alert(alert) => Some(*alert),
            _ => None,
        })
    }

    /// Whether the server has ended the stream as TLS has it.
    pub(crate) fn was_notified(&mut self) -> bool {
        self.read_to_end();
        self.controls.contains(&Control::CloseNotify)
    }

    /// Reads once, and opens what is whole. `false` at the end.
    fn fill(&mut self) -> bool {
        let mut bytes = [0; 64 * 1024];
        let count = match self.stream.read(&mut bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("{error}"),
        };
        self.received.extend_from_slice(&bytes[..count]);
        let mut start = 0;
        loop {
            match self.secure.next(&mut self.received[start..]).expect("a good record") {
                Opened::Incomplete { .. } => break,
                Opened::Data { consumed, range } => {
                    self.records.push(range.len());
                    self.plain.extend_from_slice(&self.received[start..][range]);
                    start += consumed;
                }
                Opened::Control { consumed, control } => {
                    self.controls.push(control);
                    start += consumed;
                }
            }
        }
        self.received.drain(..start);
        count > 0
    }
}
