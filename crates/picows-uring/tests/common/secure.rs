//! TLS under the client of the tests, for runs of them over `wss://`.

#[path = "../certificates/mod.rs"]
pub(crate) mod certificates;

use super::uninterrupted;
use certificates::Certificates;
use picows_uring::{ClientTls, ServerTls};
use picows_uring_tls::{Control, Handshake, Opened, Secure, Step};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Whether the tests are to run over TLS.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os("PICOWS_TEST_TLS").is_some()
}

fn certificates() -> &'static Certificates {
    static CERTIFICATES: OnceLock<Certificates> = OnceLock::new();
    CERTIFICATES.get_or_init(Certificates::new)
}

/// Settings that all servers of the process share.
pub(crate) fn server() -> ServerTls {
    static SERVER: OnceLock<ServerTls> = OnceLock::new();
    SERVER.get_or_init(|| certificates().server()).clone()
}

/// Settings of clients that trust them.
pub(crate) fn client() -> ClientTls {
    static CLIENT: OnceLock<ClientTls> = OnceLock::new();
    CLIENT.get_or_init(|| certificates().client()).clone()
}

/// The records of one connection. Clones are the same.
#[derive(Clone)]
pub(crate) struct Layer(Arc<Mutex<Records>>);

struct Records {
    secure: Box<Secure>,
    received: Vec<u8>,
    is_over: bool,
}

impl Layer {
    /// Makes the handshake. `None` where the server hangs up in it.
    pub(crate) fn connect(mut stream: &TcpStream) -> Option<Self> {
        let tls = certificates().client();
        let mut handshake = Handshake::client(&tls, "localhost").expect("a name");
        let mut out = Vec::new();
        handshake.advance(&mut [], &mut out).expect("a hello");
        loop {
            stream.write_all(&out).ok()?;
            out.clear();
            let mut bytes = [0; 4096];
            let count =
                uninterrupted(|| stream.read(&mut bytes)).ok().filter(|count| *count > 0)?;
            let step = handshake.advance(&mut bytes[..count], &mut out).expect("no fault");
            if let Step::Done { consumed, secure, .. } = step {
                stream.write_all(&out).ok()?;
                let received = bytes[consumed..count].to_vec();
                let records = Records { secure, received, is_over: false };
                return Some(Self(Arc::new(Mutex::new(records))));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seals bytes and writes them, a part at a time, so that a reader in another thread gets its turn.
    pub(crate) fn write(&self, mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(64 * 1024) {
            let mut out = Vec::new();
            self.lock().secure.seal_from(part, &mut out).expect("a key");
            stream.write_all(&out)?;
        }
        Ok(())
    }

    /// Says that nothing follows.
    pub(crate) fn end(&self, mut stream: &TcpStream) {
        let mut out = Vec::new();
        self.lock().secure.seal_close_notify(&mut out).expect("a key");
        let _ = stream.write_all(&out);
    }

    /// Reads until there is data or the end, and appends it to `plain`.
    pub(crate) fn read(&self, mut stream: &TcpStream, plain: &mut Vec<u8>) -> io::Result<usize> {
        let before = plain.len();
        loop {
            let mut records = self.lock();
            let Records { secure, received, is_over } = &mut *records;
            loop {
                match secure.open_to(received, plain).expect("a good record") {
                    Opened::Incomplete { .. } => break,
                    Opened::Data { consumed, .. } => drop(received.drain(..consumed)),
                    Opened::Control { consumed, control } => {
                        received.drain(..consumed);
                        *is_over |= control == Control::CloseNotify;
                    }
                }
            }
            if plain.len() > before || *is_over {
                return Ok(plain.len() - before);
            }
            drop(records);
            let mut bytes = [0; 64 * 1024];
            let count = uninterrupted(|| stream.read(&mut bytes))?;
            if count == 0 {
                return Ok(0);
            }
            self.lock().received.extend_from_slice(&bytes[..count]);
        }
    }
}
