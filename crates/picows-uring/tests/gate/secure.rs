//! The proxy of `gate` behind TLS, as proxies of `https://` are.
//!
//! What it forwards to the client is cut into records, and these into writes, as a test wants it.

use super::gate::{Gate, Rules};
use picows_uring::ServerTls;
use picows_uring_tls::{Control, Handshake, Opened, Secure, Step};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// A running proxy; it runs as long as the process.
pub(crate) struct SecureGate {
    pub(crate) gate: Gate,
    pub(crate) address: SocketAddr,
    ends: Receiver<End>,
}

/// End of a client's connection.
#[derive(Debug)]
pub(crate) struct End {
    /// It has sent close_notify.
    pub(crate) is_notified: bool,
    /// All that it has sent, as it was on the wire.
    pub(crate) wire: Vec<u8>,
}

/// Manner in which the proxy forwards bytes to its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Most plaintext in a record.
    pub(crate) record: usize,
    /// Most bytes in a write.
    pub(crate) write: usize,
    /// Records between two key updates, which ask for one of the client.
    pub(crate) key_update: Option<usize>,
    /// A key update follows the answer to CONNECT, and is not whole before the client has sent more.
    pub(crate) is_answer_cut: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { record: 1 << 14, write: usize::MAX, key_update: None, is_answer_cut: false }
    }
}

impl SecureGate {
    pub(crate) fn new(tls: ServerTls, rules: Rules, manner: Manner) -> Self {
        let gate = Gate::new(rules);
        let upstream = gate.address;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (report, ends) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, tls) = (stream.expect("a connection"), tls.clone());
                let report = report.clone();
                // A client that goes ends its connection.
                thread::spawn(move || drop(serve(&stream, &tls, upstream, manner, &report)));
            }
        });
        Self { gate, address, ends }
    }

    pub(crate) fn url(&self, credentials: &str) -> String {
        format!("https://{credentials}localhost:{}", self.address.port())
    }

    /// The end of the next connection that ends.
    #[track_caller]
    pub(crate) fn end(&self) -> End {
        self.ends.recv_timeout(std::time::Duration::from_secs(30)).expect("a connection ends")
    }
}

/// One connection of a client.
#[derive(Clone)]
struct Line(Arc<Mutex<Box<Secure>>>);

impl Line {
    fn lock(&self) -> MutexGuard<'_, Box<Secure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(
    stream: &TcpStream,
    tls: &ServerTls,
    upstream: SocketAddr,
    manner: Manner,
    report: &Sender<End>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut wire, mut received) = (Vec::new(), Vec::new());
    let line = Line(Arc::new(Mutex::new(shake_hands(stream, tls, &mut wire, &mut received)?)));
    let upstream = TcpStream::connect(upstream)?;
    upstream.set_nodelay(true)?;
    let (heard, hears) = mpsc::channel();
    let back = {
        let (line, upstream, stream) = (line.clone(), upstream.try_clone()?, stream.try_clone()?);
        thread::spawn(move || drop(forward_back(&upstream, &stream, &line, manner, &hears)))
    };
    let is_notified = forward(stream, &upstream, &line, &mut wire, received, &heard)?;
    let _ = upstream.shutdown(Shutdown::Write);
    drop(heard);
    let _ = back.join();
    let _ = report.send(End { is_notified, wire });
    Ok(())
}

fn shake_hands(
    mut stream: &TcpStream,
    tls: &ServerTls,
    wire: &mut Vec<u8>,
    received: &mut Vec<u8>,
) -> io::Result<Box<Secure>> {
    let mut handshake = Handshake::server(tls).expect("good settings");
    loop {
        let (mut bytes, mut out) = ([0; 4096], Vec::new());
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        wire.extend_from_slice(&bytes[..count]);
        let step = handshake.advance(&mut bytes[..count], &mut out);
        stream.write_all(&out)?;
        match step {
            Ok(Step::NeedsMore { .. }) => {}
            Ok(Step::Done { consumed, secure, .. }) => {
                received.extend_from_slice(&bytes[consumed..count]);
                return Ok(secure);
            }
            Err(error) => {
                // Until the client has read the alert.
                let _ = stream.shutdown(Shutdown::Write);
                while stream.read(&mut bytes)? > 0 {}
                return Err(io::Error::other(error));
            }
        }
    }
}

/// Forwards what the client sends, and returns whether it has said that nothing follows.
fn forward(
    mut stream: &TcpStream,
    mut upstream: &TcpStream,
    line: &Line,
    wire: &mut Vec<u8>,
    mut received: Vec<u8>,
    heard: &Sender<()>,
) -> io::Result<bool> {
    let (mut bytes, mut plain) = (vec![0; 64 * 1024], Vec::new());
    loop {
        loop {
            let opened = line.lock().open_to(&received, &mut plain).map_err(io::Error::other)?;
            match opened {
                Opened::Incomplete { .. } => break,
                Opened::Control { control: Control::CloseNotify, .. } => return Ok(true),
                Opened::Data { consumed, .. } | Opened::Control { consumed, .. } => {
                    drop(received.drain(..consumed));
                }
            }
        }
        if !plain.is_empty() {
            upstream.write_all(&plain)?;
            plain.clear();
            let _ = heard.send(());
        }
        let count = stream.read(&mut bytes).unwrap_or(0);
        if count == 0 {
            return Ok(false);
        }
        wire.extend_from_slice(&bytes[..count]);
        received.extend_from_slice(&bytes[..count]);
    }
}

fn forward_back(
    mut upstream: &TcpStream,
    stream: &TcpStream,
    line: &Line,
    manner: Manner,
    hears: &Receiver<()>,
) -> io::Result<()> {
    let (mut bytes, mut records) = (vec![0; 64 * 1024], 0);
    let mut is_answer_cut = manner.is_answer_cut;
    loop {
        let count = upstream.read(&mut bytes).unwrap_or(0);
        let mut out = Vec::new();
        if count == 0 {
            line.lock().seal_close_notify(&mut out).map_err(io::Error::other)?;
            write(stream, &out, manner)?;
            return stream.shutdown(Shutdown::Write);
        }
        for part in bytes[..count].chunks(manner.record) {
            let mut secure = line.lock();
            records += 1;
            if manner.key_update.is_some_and(|every| records % every == 0) {
                secure.seal_key_update(true, &mut out).map_err(io::Error::other)?;
            }
            secure.seal_owed(&mut out).map_err(io::Error::other)?;
            secure.seal_from(part, &mut out).map_err(io::Error::other)?;
        }
        if std::mem::take(&mut is_answer_cut) {
            // The request that is being answered.
            let _ = hears.recv();
            line.lock().seal_key_update(true, &mut out).map_err(io::Error::other)?;
            let rest = out.split_off(out.len() - 3);
            write(stream, &out, manner)?;
            let _ = hears.recv();
            out = rest;
        }
        write(stream, &out, manner)?;
    }
}

fn write(mut stream: &TcpStream, bytes: &[u8], manner: Manner) -> io::Result<()> {
    bytes.chunks(manner.write.max(1)).try_for_each(|part| stream.write_all(part))
}
