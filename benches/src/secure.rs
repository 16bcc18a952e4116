//! TLS under a load generator, which accepts any certificate: records of our own layer, on blocking sockets in
//! the handshake, and afterwards without waiting.
//!
//! Its cost is the load's, on another core than the server's.

use crate::opening::{PATIENCE, prepare, request};
use picows_uring_proto::HeadLimits;
use picows_uring_tls::{ClientTls, Control, Handshake, Opened, PLAINTEXT_BYTES_MAX, Secure, Step};
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Settings for all connections. No session is resumed, so that each handshake is a whole one.
///
/// # Errors
///
/// When there is no provider of cryptography.
pub fn settings() -> Result<ClientTls, Box<dyn Error>> {
    Ok(ClientTls::builder().danger_accept_invalid_certificates().resumption(0).build()?)
}

/// How frames are put into records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As many in each as fit.
    Full,
    /// Each in records of its own.
    Each,
}

/// TLS of one connection.
#[derive(Debug)]
pub struct SecureLayer {
    secure: Box<Secure>,
    /// Received, and not opened: the beginning of a record.
    cut: Vec<u8>,
    sealed: Vec<u8>,
}

/// Connects, and does the handshakes of TLS and of WebSocket. What comes back does not block.
///
/// # Errors
///
/// When the server refuses, is silent for [`PATIENCE`], or speaks before it is spoken to.
pub fn open_secure(
    address: SocketAddr,
    index: u64,
    tls: &ClientTls,
) -> Result<(TcpStream, SecureLayer), Box<dyn Error>> {
    let mut stream = TcpStream::connect(address)?;
    prepare(&stream)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut layer = shake_hands(&mut stream, tls)?;
    let (handshake, request) = request(address, index)?;
    stream.write_all(layer.seal(&request, request.len(), Packing::Full)?)?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let len = read(&mut stream, &mut part)?;
        layer.open(&mut part[..len], |plain| {
            answer.extend_from_slice(plain);
            Ok(())
        })?;
        if let Some((_, used)) = handshake.parse_response(&answer, &HeadLimits::default())? {
            if used < answer.len() {
                return Err("the server sent a frame before the first message".into());
            }
            stream.set_nonblocking(true)?;
            return Ok((stream, layer));
        }
    }
}

fn shake_hands(stream: &mut TcpStream, tls: &ClientTls) -> Result<SecureLayer, Box<dyn Error>> {
    let mut handshake = Handshake::client(tls, "localhost")?;
    let (mut part, mut out) = ([0; 4096], Vec::new());
    handshake.advance(&mut [], &mut out)?;
    loop {
        stream.write_all(&out)?;
        out.clear();
        let len = read(stream, &mut part)?;
        if let Step::Done { consumed, secure, .. } =
            handshake.advance(&mut part[..len], &mut out)?
        {
            stream.write_all(&out)?;
            return Ok(SecureLayer::new(secure, &part[consumed..len]));
        }
    }
}

fn read(stream: &mut TcpStream, part: &mut [u8]) -> Result<usize, Box<dyn Error>> {
    match stream.read(part)? {
        0 => Err("closed by the server during the handshake".into()),
        len => Ok(len),
    }
}

impl SecureLayer {
    /// Takes over from a handshake; `received` is what came behind its end.
    #[must_use]
    pub fn new(secure: Box<Secure>, received: &[u8]) -> Self {
        Self { secure, cut: received.to_vec(), sealed: Vec::new() }
    }

    /// Seals `frames`, each of `frame_bytes`, and lends the records.
    ///
    /// # Errors
    ///
    /// When no more records can be sealed.
    pub fn seal(
        &mut self,
        frames: &[u8],
        frame_bytes: usize,
        packing: Packing,
    ) -> io::Result<&[u8]> {
        self.sealed.clear();
        self.secure.seal_owed(&mut self.sealed).map_err(io::Error::other)?;
        let chunk = match packing {
            Packing::Full => PLAINTEXT_BYTES_MAX,
            Packing::Each => frame_bytes,
        };
        for chunk in frames.chunks(chunk.max(1)) {
            self.secure.seal_from(chunk, &mut self.sealed).map_err(io::Error::other)?;
        }
        Ok(&self.sealed)
    }

    /// Opens received bytes, and gives the data of each record to `take`.
    ///
    /// # Errors
    ///
    /// When a record is none, when the server ends, and those of `take`.
    pub fn open(
        &mut self,
        input: &mut [u8],
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.cut.is_empty() {
            let used = open_all(&mut self.secure, input, &mut take)?;
            self.cut.extend_from_slice(&input[used..]);
        } else {
            self.cut.extend_from_slice(input);
            let used = open_all(&mut self.secure, &mut self.cut, &mut take)?;
            self.cut.drain(..used);
        }
        Ok(())
    }
}

/// Opens all records that are whole, and returns their length.
fn open_all(
    secure: &mut Secure,
    input: &mut [u8],
    take: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<usize> {
    let mut used = 0;
    while used < input.len() {
        let rest = &mut input[used..];
        match secure.next(rest).map_err(io::Error::other)? {
            Opened::Incomplete { .. } => break,
            Opened::Data { consumed, range } => {
                take(&rest[range])?;
                used += consumed;
            }
            Opened::Control { consumed, control } => {
                if matches!(control, Control::CloseNotify | Control::Alert(_)) {
                    return Err(io::Error::other(format!("the server ended: {control:?}")));
                }
                used += consumed;
            }
        }
    }
    Ok(used)
}
