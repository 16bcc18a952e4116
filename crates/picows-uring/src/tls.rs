//! TLS: what users see of the crate `picows-uring-tls`, and the absence of it.
//!
//! Without the feature `tls` or `tls-ring`, settings of TLS have no values.

#[cfg(feature = "_tls")]
pub use picows_uring_tls::{
    Alert, Certificate, ClientCertificates, ClientTls, ClientTlsBuilder, Fingerprint,
    HandshakeError, InvalidFingerprint, Provider, ReadCertificate, ServerTls, ServerTlsBuilder,
    TlsError,
};
#[cfg(feature = "_tls")]
pub(crate) use picows_uring_tls::{
    Control, Facts, Handshake, Opened, PREFIX_BYTES_MAX, RecordError, Secure, Step, TlsVersion,
};

#[cfg(not(feature = "_tls"))]
mod absent {
    /// Settings of TLS on a server, of which there are none.
    #[derive(Clone, Debug)]
    pub(crate) enum ServerTls {}
}
#[cfg(not(feature = "_tls"))]
pub(crate) use absent::ServerTls;
