//! Connections of a load generator: connected and upgraded, blocking, one after the other.

use picows_uring_proto::{ClientHandshake, HeadLimits};
use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Connects and does the handshake. What comes back does not block.
///
/// # Errors
///
/// When the server refuses, is silent for [`PATIENCE`], or speaks before it is spoken to.
pub fn open(address: SocketAddr, index: u64) -> Result<TcpStream, Box<dyn Error>> {
    open_with(address, index, None)
}

/// [`open`] with an offer of an extension, which the server has to accept.
///
/// # Errors
///
/// As [`open`], and when the server declines it.
pub fn open_with(
    address: SocketAddr,
    index: u64,
    extension: Option<&str>,
) -> Result<TcpStream, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address)?;
    prepare(&stream)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut handshake = handshake(address, index)?;
    if let Some(extension) = extension {
        handshake = handshake.with_extension(extension)?;
    }
    let mut request = Vec::new();
    handshake.encode(&mut request);
    stream.write_all(&request)?;
    let (mut answer, mut part) = (Vec::new(), [0; 1024]);
    loop {
        let len = stream.read(&mut part)?;
        if len == 0 {
            return Err("closed by the server during the handshake".into());
        }
        answer.extend_from_slice(&part[..len]);
        if let Some((head, used)) = handshake.parse_response(&answer, &HeadLimits::default())? {
            let is_answered =
                |(name, _): (&str, &[u8])| name.eq_ignore_ascii_case("sec-websocket-extensions");
            if extension.is_some() && !head.headers().any(is_answered) {
                return Err("the server declines the extension".into());
            }
            if used < answer.len() {
                return Err("the server sent a frame before the first message".into());
            }
            stream.set_nonblocking(true)?;
            return Ok(stream);
        }
    }
}

/// Sets what every connection of ours has.
///
/// # Errors
///
/// When the socket is gone.
pub fn prepare(stream: &TcpStream) -> Result<(), Box<dyn Error>> {
    stream.set_nodelay(true)?;
    // Resets instead of waiting: thousands of ports would be in TIME_WAIT otherwise.
    Ok(rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?)
}

/// A handshake, and the bytes that ask for it.
///
/// # Errors
///
/// None that an address could cause.
pub fn request(
    address: SocketAddr,
    index: u64,
) -> Result<(ClientHandshake, Vec<u8>), Box<dyn Error>> {
    let handshake = handshake(address, index)?;
    let mut request = Vec::new();
    handshake.encode(&mut request);
    Ok((handshake, request))
}

fn handshake(address: SocketAddr, index: u64) -> Result<ClientHandshake, Box<dyn Error>> {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&index.to_le_bytes());
    Ok(ClientHandshake::new(&address.to_string(), "/", nonce)?)
}

/// How long the server may take for any answer.
pub const PATIENCE: Duration = Duration::from_secs(5);
