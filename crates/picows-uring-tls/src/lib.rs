//! TLS of picows-uring: everything that computes and nothing that waits.
//!
//! rustls makes the handshake and derives the keys; the records of the open connection are opened and sealed
//! here, where they lie and without an allocation. No socket, thread or timer: bytes are arguments and
//! results.
//!
//! | part | what it does |
//! |---|---|
//! | [`ServerTls`], [`ClientTls`] | settings, read and checked; handles that connections share |
//! | [`Handshake`] | bytes in, bytes out, until the connection is secure |
//! | [`Secure`] | records of the open connection, opened in place and sealed in place |
//! | [`Facts`], [`TlsInfo`] | what the handshake agreed on |
//!
//! A caller drives it so: [`Handshake::advance`] with received bytes until [`Step::Done`], sending what it
//! appends; then [`Secure::next`] for each received record, and [`Secure::seal_in_place`] or
//! [`Secure::seal_from`] for what is sent, after [`Secure::seal_owed`].
//!
//! Both ends in memory, with a certificate that is good for this run:
//!
//! ```
//! use picows_uring_tls::{Certificate, ClientTls, Handshake, Opened, ServerTls, Step};
//!
//! let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
//! let pair = Certificate::pem(made.cert.pem(), made.signing_key.serialize_pem());
//! let server_tls = ServerTls::builder().certificate(pair).build()?;
//! let client_tls = ClientTls::builder().danger_accept_invalid_certificates().build()?;
//!
//! let mut client = Handshake::client(&client_tls, "localhost")?;
//! let mut server = Handshake::server(&server_tls)?;
//! let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
//! client.advance(&mut [], &mut to_server)?; // The hello.
//! server.advance(&mut to_server, &mut to_client)?;
//! to_server.clear();
//! let Step::Done { secure: mut client, .. } = client.advance(&mut to_client, &mut to_server)? else {
//!     panic!("one round trip is enough");
//! };
//! let Step::Done { secure: mut server, facts, .. } = server.advance(&mut to_server, &mut Vec::new())?
//! else {
//!     panic!("the client is done");
//! };
//! assert_eq!(facts.info.sni.as_deref(), Some("localhost"));
//!
//! let mut records = Vec::new();
//! client.seal_owed(&mut records)?;
//! client.seal_from(b"hello", &mut records)?;
//! let Opened::Data { range, .. } = server.next(&mut records)? else { panic!("it is whole") };
//! assert_eq!(&records[range], b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Without one of the features `aws-lc` and `ring` the crate is empty: nothing of it works without a provider
//! of cryptography.

#![cfg(any(feature = "aws-lc", feature = "ring"))]

mod alert;
mod certificate;
mod client;
mod debug;
mod error;
mod fingerprint;
mod handshake;
mod info;
mod key_log;
mod notes;
mod pem;
mod provider;
mod record;
mod secret;
mod secure;
mod server;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod testing;
mod text;
mod verify;

pub use alert::Alert;
pub use certificate::{Certificate, ClientCertificates, ReadCertificate};
pub use client::{ClientTls, ClientTlsBuilder};
pub use error::{HandshakeError, RecordError, TlsError};
pub use fingerprint::{Fingerprint, InvalidFingerprint};
pub use handshake::{Handshake, Step};
pub use info::{Facts, TlsInfo, TlsVersion};
pub use provider::Provider;
pub use record::{
    Control, HEADER_BYTES, Opened, PLAINTEXT_BYTES_MAX, PREFIX_BYTES_MAX, RECORD_BYTES_MAX,
    SUFFIX_BYTES_MAX,
};
pub use secure::Secure;
pub use server::{ServerTls, ServerTlsBuilder};
