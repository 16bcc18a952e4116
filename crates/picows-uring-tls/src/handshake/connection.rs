//! The connections of rustls, of either side, up to the extraction of their keys.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{
    AlertDescription, CipherSuite, CommonState, Error, HandshakeKind, ProtocolVersion,
    SupportedCipherSuite,
};

use crate::error::HandshakeError;
use crate::handshake::error::describe;
use crate::info::{Facts, TlsInfo, TlsVersion};
use crate::notes::Notes;
use crate::provider::Provider;
use crate::secure::{Extracted, Secure};

/// A connection of rustls before its keys are taken.
pub(super) enum Connection {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// Next step after one result of rustls.
enum Next {
    /// Ask again.
    Again,
    /// The records are used up, or the handshake is done.
    Wait,
}

impl Connection {
    /// Has rustls handle `records`, whose last is whole, and appends what it has to say. Returns how many
    /// bytes it has used up; what is left is the beginning of a message, and has to be there the next time.
    pub(super) fn process(
        &mut self,
        records: &mut [u8],
        output: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        let mut discarded = 0;
        loop {
            let (discard, next) = self.process_once(&mut records[discarded..], output);
            discarded += discard;
            match next {
                Ok(Next::Again) => {}
                Ok(Next::Wait) => return Ok(discarded),
                Err(error) => {
                    // The alert that rustls has queued. Not once more: it would look for the rest of the
                    // message that it refused.
                    while self.common().wants_write() {
                        let _ = self.process_once(&mut [], output);
                    }
                    return Err(error);
                }
            }
        }
    }

    fn process_once(
        &mut self,
        records: &mut [u8],
        output: &mut Vec<u8>,
    ) -> (usize, Result<Next, Error>) {
        match self {
            Self::Client(connection) => next(connection.process_tls_records(records), output),
            Self::Server(connection) => next(connection.process_tls_records(records), output),
        }
    }

    fn common(&self) -> &CommonState {
        match self {
            Self::Client(connection) => connection,
            Self::Server(connection) => connection,
        }
    }

    /// Returns whether both sides may send data.
    pub(super) fn is_done(&self) -> bool {
        !self.common().is_handshaking()
    }

    /// Takes the keys. All facts are taken before.
    pub(super) fn extract(
        self,
        provider: Provider,
        notes: Notes,
    ) -> Result<(Secure, Facts), HandshakeError> {
        let suite = self.common().negotiated_cipher_suite();
        let suite = suite.ok_or_else(|| HandshakeError::Local("no cipher suite".into()))?;
        let records_max = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        };
        let facts = self.facts(suite, notes.server_name)?;
        let (secrets, extracted) = match self {
            Self::Client(connection) => connection
                .dangerous_into_kernel_connection()
                .map(|(secrets, kernel)| (secrets, Extracted::Client(Box::new(kernel)))),
            // What rustls would keep is dropped: the secrets do all that a server needs.
            Self::Server(connection) => {
                connection.dangerous_into_kernel_connection().map(|(secrets, _)| {
                    (secrets, Extracted::Server(notes.client_secret, notes.server_secret))
                })
            }
        }
        .map_err(|error| describe(&error, None))?;
        let secure = Secure::new(provider, secrets, extracted, suite.tls13(), records_max);
        Ok((secure.map_err(|error| HandshakeError::Local(error.to_string()))?, facts))
    }

    fn facts(
        &self,
        suite: SupportedCipherSuite,
        sni: Option<Arc<str>>,
    ) -> Result<Facts, HandshakeError> {
        let common = self.common();
        let version = match common.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
            _ => return Err(HandshakeError::Local("no version".into())),
        };
        let alpn = common.alpn_protocol().map(|name| Arc::from(String::from_utf8_lossy(name)));
        let certificates = common.peer_certificates().unwrap_or_default();
        Ok(Facts {
            info: TlsInfo {
                version,
                cipher: name(suite.suite()),
                sni,
                alpn,
                resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            },
            peer_certificates: certificates.iter().map(|der| der.to_vec()).collect(),
        })
    }
}

fn next<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    output: &mut Vec<u8>,
) -> (usize, Result<Next, Error>) {
    let next = match status.state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let start = output.len();
            let mut encoded = data.encode(&mut []);
            if let Err(EncodeError::InsufficientSize(needed)) = encoded {
                output.resize(start + needed.required_size, 0);
                encoded = data.encode(&mut output[start..]);
            }
            match encoded {
                Ok(_) => Ok(Next::Again),
                Err(error) => Err(Error::General(error.to_string())),
            }
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Next::Again)
        }
        Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Ok(Next::Wait),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
            Err(Error::AlertReceived(AlertDescription::CloseNotify))
        }
        Ok(_) => Err(Error::General("data of the application in the handshake".into())),
        Err(error) => Err(error),
    };
    (status.discard, next)
}

/// Returns the name that IANA has for a suite.
fn name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}
