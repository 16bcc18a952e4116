//! Errors: of settings, of handshakes, of records. Each names the cause, and the cure where there is one.

use std::io;
use std::path::PathBuf;

use crate::alert::Alert;
use crate::debug::debug_with_text;
use crate::fingerprint::Fingerprint;
use crate::provider::Provider;

/// Settings that cannot be used.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read.
    #[error(
        "cannot read {}: {error} (check permissions, and the folder that relative paths begin in)",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Answer of the kernel.
        error: io::Error,
    },
    /// A pair of certificate and key that cannot be used.
    #[error("certificate {certificate} with key {key}: {reason}")]
    Pair {
        /// Where the certificate is.
        certificate: String,
        /// Where the key is.
        key: String,
        /// Cause and cure.
        reason: String,
    },
    /// Roots or client CAs that cannot be used.
    #[error("{from}: {reason}")]
    Roots {
        /// Where they are.
        from: String,
        /// Cause and cure.
        reason: String,
    },
    /// A server without any certificate.
    #[error("a server needs a certificate: set `certificate`, or `certificate_for` a name")]
    NoCertificate,
    /// A certificate that is not for the name that it was given for.
    #[error("certificate {certificate} is not for {name}: its names are {presented}")]
    WrongName {
        /// Where the certificate is.
        certificate: String,
        /// The name that it was given for.
        name: String,
        /// The names that it has.
        presented: String,
    },
    /// A name that is none, of `certificate_for` or of a server to connect to.
    #[error(
        "{name:?} is no name of a server: expected a host name, `*.` before one, or an address"
    )]
    InvalidName {
        /// The text.
        name: String,
    },
    /// The system has no roots.
    #[error(
        "the system has no root certificates{errors}: install the package ca-certificates, set \
         SSL_CERT_FILE, name a file with `roots`, or use `webpki_roots`"
    )]
    NoNativeRoots {
        /// Errors of the attempt, after a colon, or nothing.
        errors: String,
    },
    /// Settings that exclude each other.
    #[error("{0}")]
    Conflict(&'static str),
    /// A provider that is not in this build.
    #[error("the provider {provider:?} is not built in: switch its feature on")]
    NoProvider {
        /// The provider that was asked for.
        provider: Provider,
    },
    /// An error of rustls that none of the others describes.
    #[error("{0}")]
    Other(String),
}

debug_with_text!(TlsError);

impl Clone for TlsError {
    fn clone(&self) -> Self {
        match self {
            Self::Unreadable { path, error } => {
                // What the system has answered is a number; anything else is kept as its text.
                let error = match error.raw_os_error() {
                    Some(number) => io::Error::from_raw_os_error(number),
                    None => io::Error::new(error.kind(), error.to_string()),
                };
                Self::Unreadable { path: path.clone(), error }
            }
            Self::Pair { certificate, key, reason } => Self::Pair {
                certificate: certificate.clone(),
                key: key.clone(),
                reason: reason.clone(),
            },
            Self::Roots { from, reason } => {
                Self::Roots { from: from.clone(), reason: reason.clone() }
            }
            Self::NoCertificate => Self::NoCertificate,
            Self::WrongName { certificate, name, presented } => Self::WrongName {
                certificate: certificate.clone(),
                name: name.clone(),
                presented: presented.clone(),
            },
            Self::InvalidName { name } => Self::InvalidName { name: name.clone() },
            Self::NoNativeRoots { errors } => Self::NoNativeRoots { errors: errors.clone() },
            Self::Conflict(fault) => Self::Conflict(fault),
            Self::NoProvider { provider } => Self::NoProvider { provider: *provider },
            Self::Other(fault) => Self::Other(fault.clone()),
        }
    }
}

/// A handshake that failed. What is in `output` then is the alert for the peer.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The certificate of the peer has expired.
    #[error(
        "the certificate of the peer expired on {not_after}, {ago} ago: renew it, or check the clock of \
         this machine"
    )]
    Expired {
        /// The end of its validity, as `2026-11-28 10:00:00 UTC`.
        not_after: String,
        /// How long ago that is.
        ago: String,
    },
    /// The certificate of the peer is not valid yet.
    #[error(
        "the certificate of the peer is not valid before {not_before}, in {ahead}: check the clock of this \
         machine, and that of the issuer"
    )]
    NotYetValid {
        /// The beginning of its validity.
        not_before: String,
        /// How far ahead that is.
        ahead: String,
    },
    /// The certificate of the peer was not issued by a known root.
    #[error(
        "the certificate of the peer is issued by {issuer}, which is not among the roots ({roots}): \
         add the issuer with `roots(\"ca.pem\")` (`--tls-ca` of the command), or have the peer send its \
         intermediate certificates"
    )]
    UnknownIssuer {
        /// Issuer of the last certificate that the peer sent.
        issuer: String,
        /// Which roots were used.
        roots: String,
    },
    /// The certificate of the peer is signed by its own key, and not among the roots.
    #[error(
        "the certificate of the peer ({subject}) is self-signed and not among the roots ({roots}): add it \
         with `roots`, or pin it"
    )]
    SelfSigned {
        /// The name in it.
        subject: String,
        /// Which roots were used.
        roots: String,
    },
    /// The certificate of the server is for other names.
    #[error(
        "the certificate of the server is not for {expected}; its names are {}: use one of them, or \
         `tls_server_name`",
        list(presented)
    )]
    NameMismatch {
        /// The name that was asked for.
        expected: String,
        /// The names that the certificate has.
        presented: Vec<String>,
    },
    /// A signature that is too weak or unknown.
    #[error(
        "a signature of the peer or of its certificates is too weak or unknown ({0}): have the certificate \
         issued anew, signed with SHA-256 or better"
    )]
    WeakSignature(String),
    /// The certificate of the server has none of the pinned fingerprints.
    #[error("the certificate of the server has the fingerprint {presented}, which is not pinned")]
    NotPinned {
        /// The fingerprint that it has.
        presented: Fingerprint,
    },
    /// The certificate of the peer cannot be used for another reason.
    #[error("the certificate of the peer is invalid: {0}")]
    InvalidCertificate(String),
    /// The client has sent no certificate, and the server requires one.
    #[error("the client sent no certificate, which is required here")]
    NoClientCertificate,
    /// The peer gave up the handshake.
    #[error("the peer refused the handshake: {alert}{}", with_colon(alert.cure()))]
    AlertReceived {
        /// The alert.
        alert: Alert,
    },
    /// The server has no certificate for the name that the client asked for.
    #[error("no certificate for {}", name.as_deref().unwrap_or("a client that names no server"))]
    UnrecognizedName {
        /// The name in the client's hello.
        name: Option<String>,
    },
    /// The client speaks other protocols only (ALPN).
    #[error("no application protocol in common: http/1.1 is the only one here")]
    NoApplicationProtocol,
    /// No version, cipher suite, key exchange or signature in common.
    #[error("nothing in common with the peer: {0}")]
    Incompatible(String),
    /// A client speaks HTTP without TLS. The caller may answer 400 in clear.
    #[error("the client speaks plain HTTP on a TLS port: it has to use wss:// or https://")]
    PlainHttp,
    /// The server answered in clear: HTTP without TLS.
    #[error("the server speaks plain HTTP on this port: use ws://")]
    PlainHttpAnswer,
    /// The first bytes are no TLS.
    #[error("the peer does not speak TLS: its first bytes are {first}")]
    NotTls {
        /// The first bytes, escaped.
        first: String,
    },
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    PeerMisbehaved(String),
    /// A fault of this side, such as a provider that fails.
    #[error("the handshake failed on this side: {0}")]
    Local(String),
}

debug_with_text!(HandshakeError);

/// A record that ends the connection. [`RecordError::alert`] is what the peer is owed.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A record that was not sealed with the key, or at another place.
    #[error("a record does not belong to the connection, or was changed on its way")]
    BadMac,
    /// A record longer than TLS allows.
    #[error("a record is longer than TLS allows")]
    Overflow,
    /// A record of a version that is none.
    #[error("a record has the version {0:#06x}")]
    BadVersion(u16),
    /// A record of a type that is not allowed here.
    #[error("a record of type {0} is not allowed here")]
    UnexpectedType(u8),
    /// A record of padding only.
    #[error("a record has padding and nothing else")]
    NoContent,
    /// More empty records in a row than any peer has a reason for.
    #[error("too many empty records in a row")]
    TooManyEmpty,
    /// More key updates in a row than any peer has a reason for.
    #[error("too many key updates in a row")]
    TooManyKeyUpdates,
    /// More warnings than any peer has a reason for.
    #[error("too many warning alerts")]
    TooManyWarnings,
    /// A key update with data behind it in its record, or a malformed one.
    #[error("a malformed key update")]
    BadKeyUpdate,
    /// TLS 1.2: the peer wants another handshake, which is refused.
    #[error("the peer wants to negotiate anew, which is refused")]
    Renegotiation,
    /// A handshake message that is not allowed after the handshake.
    #[error("a handshake message of type {0} after the handshake")]
    UnexpectedHandshake(u8),
    /// A message between the parts of a handshake message.
    #[error("a handshake message was interrupted")]
    Interrupted,
    /// A handshake message longer than any needs to be.
    #[error("a handshake message is too long")]
    HandshakeTooLong,
    /// A session ticket that cannot be parsed.
    #[error("a malformed session ticket")]
    BadTicket,
    /// A malformed alert.
    #[error("a malformed alert")]
    BadAlert,
    /// As many records were opened or sealed with a key as are safe, and TLS 1.2 has no key update.
    #[error("as many records were sent with one key as are safe")]
    KeyExhausted,
    /// A record was to be sealed in a buffer without room for it, or with too much in it.
    #[error("no room for the record, or more than one record holds")]
    BadRoom,
    /// The record layer failed before, or the provider did.
    #[error("the keys of the connection cannot be used any more")]
    Broken,
}

debug_with_text!(RecordError);

impl RecordError {
    /// Returns the alert that the peer is owed: exactly one for each error.
    pub fn alert(self) -> Alert {
        match self {
            Self::BadMac => Alert::BAD_RECORD_MAC,
            Self::Overflow => Alert::RECORD_OVERFLOW,
            Self::BadVersion(_) => Alert::PROTOCOL_VERSION,
            Self::UnexpectedType(_)
            | Self::NoContent
            | Self::TooManyEmpty
            | Self::TooManyKeyUpdates
            | Self::TooManyWarnings
            | Self::UnexpectedHandshake(_)
            | Self::Interrupted => Alert::UNEXPECTED_MESSAGE,
            Self::Renegotiation => Alert::NO_RENEGOTIATION,
            Self::BadKeyUpdate | Self::HandshakeTooLong | Self::BadTicket | Self::BadAlert => {
                Alert::DECODE_ERROR
            }
            Self::KeyExhausted | Self::BadRoom | Self::Broken => Alert::INTERNAL_ERROR,
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn with_colon(cure: Option<&str>) -> String {
    cure.map(|cure| format!(": {cure}")).unwrap_or_default()
}
