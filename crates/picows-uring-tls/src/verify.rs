//! Verification of the peer's certificate, by roots, by pins, or not at all.
//!
//! The signature of the handshake, which shows that the peer has the key, is verified always.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use crate::fingerprint::Fingerprint;
use crate::notes::{self, Rejection};
use crate::provider::Provider;
use crate::text::Names;

fn reject(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &str,
    not_pinned: Option<Fingerprint>,
) {
    let last = intermediates.last().unwrap_or(end_entity);
    notes::reject(Rejection {
        own: Names::of(end_entity),
        last_issuer: Names::of(last).issuer,
        roots: roots.to_owned(),
        not_pinned,
    });
}

/// Rules by which the certificate of a server is good.
pub(crate) enum Trust {
    /// A chain to one of these roots, the name and the dates.
    Roots(Arc<WebPkiServerVerifier>),
    /// One of these fingerprints.
    Pins(Vec<Fingerprint>),
    /// Nothing.
    Anything,
}

/// Verifier of servers, on the client.
pub(crate) struct ServerVerifier {
    pub(crate) trust: Trust,
    pub(crate) provider: Provider,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
    /// Which roots are used, for errors.
    pub(crate) roots: String,
}

impl Trust {
    /// Trusts chains to `roots`, of which there is at least one.
    pub(crate) fn roots(
        roots: RootCertStore,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map(Self::Roots)
            .map_err(|error| error.to_string())
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Anything => Ok(ServerCertVerified::assertion()),
            Trust::Pins(pins) => {
                let fingerprint = Fingerprint::sha256(self.provider.sha256(end_entity));
                if pins.contains(&fingerprint) {
                    return Ok(ServerCertVerified::assertion());
                }
                reject(end_entity, intermediates, &self.roots, Some(fingerprint));
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            Trust::Roots(roots) => {
                let verified = roots.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                );
                if verified.is_err() {
                    reject(end_entity, intermediates, &self.roots, None);
                }
                verified
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl std::fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerVerifier").field("roots", &self.roots).finish_non_exhaustive()
    }
}

/// Verifier of clients, on the server: that of rustls, which notes whom it refused.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) inner: Arc<dyn ClientCertVerifier>,
    /// Which roots are used, for errors.
    pub(crate) roots: String,
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now);
        if verified.is_err() {
            reject(end_entity, intermediates, &self.roots, None);
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
