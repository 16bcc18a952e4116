//! Handshakes, made by rustls: the only place that knows its connections.
//!
//! rustls gets one record at a time, so that it never sees one that belongs to the open connection: it would
//! open that, count it, and keep its plaintext.

mod connection;
mod error;

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::{Acceptor, UnbufferedServerConnection};

use crate::alert::Alert;
use crate::client::ClientTls;
use crate::error::{HandshakeError, TlsError};
use crate::handshake::connection::Connection;
use crate::info::Facts;
use crate::notes::{self, Notes};
use crate::provider::Provider;
use crate::record::{HEADER_BYTES, PLAINTEXT_BYTES_MAX, content};
use crate::secure::Secure;
use crate::server::{Current, ServerTls};
use crate::text::shown;

/// A handshake under way, of either side. Does no I/O, and is dropped when it is done.
pub struct Handshake {
    provider: Provider,
    /// Most plaintext in a record that is sent later.
    record_bytes_max: usize,
    state: State,
    /// Records that rustls has not used up, and the part of the next one that is there.
    records: Vec<u8>,
    /// Where the next record begins in `records`.
    next: usize,
    /// How many records of the peer were whole.
    count: u16,
    is_first: bool,
    /// Whether a message of the peer was handled, after which alerts may have to be sealed.
    is_answered: bool,
    /// Notes of the steps so far.
    notes: Notes,
}

/// Stage of a handshake.
enum State {
    /// The settings of the server depend on the name in the hello, which is not whole yet.
    Hello { acceptor: Box<Acceptor>, current: Arc<Current> },
    /// rustls has taken over.
    Under(Connection),
    /// It is over.
    Over,
}

/// Outcome of a step of a handshake.
#[derive(Debug)]
pub enum Step {
    /// The input is used up, and more is needed. What is in `output` has to be sent first.
    NeedsMore {
        /// Always the whole input: an incomplete record is kept inside.
        consumed: usize,
    },
    /// The handshake is done. What is in `output` has to be sent first.
    Done {
        /// Length of what belonged to the handshake. What follows are records for [`Secure::next`].
        consumed: usize,
        /// The record layer of the connection.
        secure: Box<Secure>,
        /// Facts about the peer and the connection.
        facts: Facts,
    },
}

impl Handshake {
    /// Begins a handshake of a server, with its settings of this moment.
    pub fn server(tls: &ServerTls) -> Result<Self, HandshakeError> {
        let current = tls.current();
        let state = if current.depends_on_name() {
            State::Hello { acceptor: Box::default(), current }
        } else {
            server_connection(current.default_config())?
        };
        Ok(Self::new(tls.provider(), tls.record_bytes_max(), state))
    }

    /// Begins a handshake of a client with the server `name`, a host name or an address.
    ///
    /// The first [`Self::advance`], with an empty input, writes the hello.
    pub fn client(tls: &ClientTls, name: &str) -> Result<Self, TlsError> {
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        // The dot of the root is none of the name in certificates, nor of SNI (RFC 6066 §3).
        let bare = bare.strip_suffix('.').unwrap_or(bare);
        let server = ServerName::try_from(bare.to_owned())
            .map_err(|_| TlsError::InvalidName { name: name.to_owned() })?;
        let connection = UnbufferedClientConnection::new(tls.config().clone(), server)
            .map_err(|error| TlsError::Other(error.to_string()))?;
        let state = State::Under(Connection::Client(Box::new(connection)));
        Ok(Self::new(tls.provider(), tls.record_bytes_max(), state))
    }

    fn new(provider: Provider, record_bytes_max: usize, state: State) -> Self {
        Self {
            provider,
            record_bytes_max,
            state,
            records: Vec::new(),
            next: 0,
            count: 0,
            is_first: true,
            is_answered: false,
            notes: Notes::default(),
        }
    }

    /// Takes bytes of the peer and appends what it is owed to `output`.
    ///
    /// Call it with new bytes only. After an error the handshake is over, and `output` has what the peer is
    /// owed: an alert, or an answer in clear to a client that speaks HTTP.
    pub fn advance(
        &mut self,
        input: &mut [u8],
        output: &mut Vec<u8>,
    ) -> Result<Step, HandshakeError> {
        notes::take();
        let step = self.step(input, output);
        if !matches!(step, Ok(Step::NeedsMore { .. })) {
            self.state = State::Over;
            self.records = Vec::new();
        }
        step
    }

    fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<Step, HandshakeError> {
        // A client speaks first.
        if let State::Under(connection @ Connection::Client(_)) = &mut self.state
            && input.is_empty()
            && self.records.is_empty()
        {
            connection
                .process(&mut [], output)
                .map_err(|error| error::describe(&error, notes::take().rejection))?;
        }
        let mut consumed = 0;
        while consumed < input.len() {
            let taken = self.take(&input[consumed..], output)?;
            consumed += taken;
            let Some(end) = self.whole() else {
                continue;
            };
            let start = std::mem::replace(&mut self.next, end);
            self.count += 1;
            if self.count > RECORDS_MAX {
                output.extend_from_slice(&fatal_alert(Alert::DECODE_ERROR));
                let what = "the handshake is cut into too many records";
                return Err(HandshakeError::PeerMisbehaved(what.into()));
            }
            self.enter(start, output)?;
            let State::Under(connection) = &mut self.state else {
                continue;
            };
            let start = output.len();
            let discard = connection.process(&mut self.records, output).map_err(|error| {
                let error = error::describe(&error, notes::take().rejection);
                let is_silent = output.len() == start && !self.is_answered;
                if is_silent && matches!(error, HandshakeError::PeerMisbehaved(_)) {
                    output.extend_from_slice(&fatal_alert(Alert::DECODE_ERROR));
                }
                error
            })?;
            self.is_answered |= discard > 0;
            self.notes.absorb(notes::take());
            self.records.drain(..discard);
            self.next = self.next.saturating_sub(discard);
            if !self.is_done() {
                continue;
            }
            if !self.records.is_empty() {
                let what = "data behind the end of the handshake in its record";
                return Err(HandshakeError::PeerMisbehaved(what.into()));
            }
            return self.finish(consumed);
        }
        Ok(Step::NeedsMore { consumed })
    }

    fn is_done(&self) -> bool {
        matches!(&self.state, State::Under(connection) if connection.is_done())
    }

    fn finish(&mut self, consumed: usize) -> Result<Step, HandshakeError> {
        let State::Under(connection) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(HandshakeError::Local("the handshake is over".into()));
        };
        let notes = std::mem::take(&mut self.notes);
        let (mut secure, facts) = connection.extract(self.provider, notes)?;
        secure.set_record_bytes_max(self.record_bytes_max);
        Ok(Step::Done { consumed, secure: Box::new(secure), facts })
    }

    /// Takes bytes up to the end of the current record, or of its header if that is not whole.
    fn take(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, HandshakeError> {
        if matches!(self.state, State::Over) {
            return Err(HandshakeError::Local("the handshake is over".into()));
        }
        let have = self.records.len() - self.next;
        let wanted = match self.record_bytes() {
            None => HEADER_BYTES,
            Some(bytes) => bytes,
        };
        let taken = input.len().min(wanted - have);
        self.records.extend_from_slice(&input[..taken]);
        if self.is_first {
            self.check_first(&input[taken..], output)?;
        }
        if self.records.len() > RECORDS_BYTES_MAX {
            output.extend_from_slice(&fatal_alert(Alert::DECODE_ERROR));
            return Err(HandshakeError::PeerMisbehaved(
                "a message of the handshake is too long".into(),
            ));
        }
        Ok(taken)
    }

    /// Returns the length of the current record, once its header is there. One that is too long ends with its
    /// header: rustls refuses it then.
    fn record_bytes(&self) -> Option<usize> {
        let &[_, _, _, high, low] = self.records[self.next..].first_chunk()?;
        let body_bytes = usize::from(u16::from_be_bytes([high, low]));
        Some(HEADER_BYTES + if body_bytes > BODY_BYTES_MAX { 0 } else { body_bytes })
    }

    /// Returns the end of the current record, if it is whole.
    fn whole(&self) -> Option<usize> {
        let end = self.next + self.record_bytes()?;
        (self.records.len() >= end).then_some(end)
    }

    /// Looks at the first bytes of the peer, which may be no TLS at all. `behind` follows them.
    fn check_first(&mut self, behind: &[u8], output: &mut Vec<u8>) -> Result<(), HandshakeError> {
        let Some(&first) = self.records.first() else {
            return Ok(());
        };
        if matches!(first, content::HANDSHAKE | content::ALERT) {
            self.is_first = false;
            return Ok(());
        }
        // Enough to know HTTP.
        let Some(start) = self.records.first_chunk::<4>() else {
            return Ok(());
        };
        let is_client = matches!(self.state, State::Under(Connection::Client(_)));
        if is_client && start == b"HTTP" {
            return Err(HandshakeError::PlainHttpAnswer);
        }
        if !is_client && METHODS.contains(&start) {
            output.extend_from_slice(USE_TLS.as_bytes());
            return Err(HandshakeError::PlainHttp);
        }
        Err(HandshakeError::NotTls { first: shown(&[&self.records, behind].concat()) })
    }

    /// Chooses the settings of the server, once the hello is whole. The newest record begins at `start`.
    fn enter(&mut self, start: usize, output: &mut Vec<u8>) -> Result<(), HandshakeError> {
        let State::Hello { acceptor, current } = &mut self.state else {
            return Ok(());
        };
        let mut record = &self.records[start..];
        while !record.is_empty() {
            // Reading from memory does not fail.
            if acceptor.read_tls(&mut record).is_err() {
                break;
            }
        }
        let name = match acceptor.accept() {
            Ok(None) => return Ok(()),
            Ok(Some(accepted)) => accepted.client_hello().server_name().map(ToOwned::to_owned),
            Err((error, mut alert)) => {
                // Writing to memory does not fail.
                let _ = alert.write_all(output);
                return Err(error::describe(&error, None));
            }
        };
        let Some(config) = current.config_for(name.as_deref()) else {
            output.extend_from_slice(&fatal_alert(Alert::UNRECOGNIZED_NAME));
            return Err(HandshakeError::UnrecognizedName { name });
        };
        self.state = server_connection(&config)?;
        Ok(())
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake").finish_non_exhaustive()
    }
}

fn server_connection(config: &Arc<ServerConfig>) -> Result<State, HandshakeError> {
    let connection = UnbufferedServerConnection::new(config.clone());
    let connection = connection.map_err(|error| error::describe(&error, None))?;
    Ok(State::Under(Connection::Server(Box::new(connection))))
}

/// Returns the record of a fatal alert before there are keys.
fn fatal_alert(alert: Alert) -> [u8; 7] {
    [content::ALERT, 3, 3, 0, 2, FATAL, alert.0]
}

/// Beginnings of HTTP requests.
const METHODS: [&[u8; 4]; 9] =
    [b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"CONN", b"OPTI", b"TRAC", b"PATC"];

/// Answer to a client that speaks HTTP.
const USE_TLS: &str = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
    Content-Type: text/plain\r\nContent-Length: 61\r\n\r\n\
    This port speaks TLS: use wss:// (or https://) for this URL.\n";

const FATAL: u8 = 2;

/// Longest body of a record, in either version, before its cipher is known (RFC 5246 §6.2.3).
const BODY_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + 2048;

/// Records of a whole handshake: a hello of 64 KiB in records of 512 bytes (RFC 6066 §4) takes 128. Each costs a
/// microsecond and may carry one byte, and all that are there are handled in one step.
const RECORDS_MAX: u16 = 1024;

/// More than the longest message that rustls takes (64 KiB), in records of a usual length.
const RECORDS_BYTES_MAX: usize = 128 * 1024;
