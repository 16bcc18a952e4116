//! Errors of rustls as those of this crate, with the cure.

use rustls::{CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible};

use crate::alert::Alert;
use crate::certificate::names;
use crate::error::HandshakeError;
use crate::notes::Rejection;
use crate::text::{date, span};

/// Describes an error, with what the verifier noted of a refused certificate.
pub(super) fn describe(error: &Error, rejection: Option<Rejection>) -> HandshakeError {
    match error {
        Error::InvalidCertificate(error) => certificate(error, rejection.unwrap_or_default()),
        Error::NoCertificatesPresented => HandshakeError::NoClientCertificate,
        Error::AlertReceived(alert) => {
            HandshakeError::AlertReceived { alert: Alert(u8::from(*alert)) }
        }
        Error::NoApplicationProtocol => HandshakeError::NoApplicationProtocol,
        Error::PeerIncompatible(reason) => HandshakeError::Incompatible(incompatible(reason)),
        Error::PeerMisbehaved(reason) => HandshakeError::PeerMisbehaved(format!("{reason:?}")),
        Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => {
            HandshakeError::Incompatible("its version of TLS is older than 1.2".into())
        }
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::DecryptError
        | Error::PeerSentOversizedRecord => HandshakeError::PeerMisbehaved(error.to_string()),
        _ => HandshakeError::Local(error.to_string()),
    }
}

fn certificate(error: &CertificateError, rejection: Rejection) -> HandshakeError {
    let Rejection { own, last_issuer, roots, not_pinned } = rejection;
    if let Some(presented) = not_pinned {
        return HandshakeError::NotPinned { presented };
    }
    match error {
        CertificateError::ExpiredContext { time, not_after } => HandshakeError::Expired {
            not_after: date(not_after.as_secs()),
            ago: span(time.as_secs().saturating_sub(not_after.as_secs())),
        },
        CertificateError::NotValidYetContext { time, not_before } => HandshakeError::NotYetValid {
            not_before: date(not_before.as_secs()),
            ahead: span(not_before.as_secs().saturating_sub(time.as_secs())),
        },
        CertificateError::UnknownIssuer if own.is_self_issued => {
            HandshakeError::SelfSigned { subject: own.subject, roots }
        }
        CertificateError::UnknownIssuer => {
            HandshakeError::UnknownIssuer { issuer: last_issuer, roots }
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            HandshakeError::NameMismatch {
                expected: expected.to_str().into_owned(),
                presented: names(presented),
            }
        }
        CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id, ..
        }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id,
            ..
        } => HandshakeError::WeakSignature(algorithm(signature_algorithm_id)),
        CertificateError::Other(other) if is_ca(other) => {
            HandshakeError::InvalidCertificate(format!(
                "it is that of an authority ({}), which is no certificate of a server: pin it, or have \
                 it issue one",
                own.subject
            ))
        }
        other => HandshakeError::InvalidCertificate(other.to_string()),
    }
}

/// `openssl req -x509` makes certificates that are authorities.
fn is_ca(other: &OtherError) -> bool {
    format!("{other:?}").contains("CaUsedAsEndEntity")
}

/// Returns the name of a signature algorithm by its object identifier, for those that are met and refused.
fn algorithm(identifier: &[u8]) -> String {
    /// RFC 8017, appendix C.
    const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    /// RFC 5758 §3.2.
    const ECDSA_SHA1: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    // As DER, with or without the head of the element.
    let found = identifier.windows(RSA.len()).position(|window| window == RSA);
    match found.and_then(|at| identifier.get(at + RSA.len())) {
        Some(4) => "MD5 with RSA".into(),
        Some(5) => "SHA-1 with RSA".into(),
        _ if identifier.windows(7).any(|window| window == ECDSA_SHA1) => "SHA-1 with ECDSA".into(),
        _ => format!("object identifier {identifier:02x?}"),
    }
}

fn incompatible(reason: &PeerIncompatible) -> String {
    match reason {
        PeerIncompatible::NoCipherSuitesInCommon => "no cipher suite".into(),
        PeerIncompatible::NoKxGroupsInCommon => "no group for the key exchange".into(),
        PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
            "no signature scheme".into()
        }
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => {
            "no version of TLS; see `tls13_only`".into()
        }
        other => format!("{other:?}"),
    }
}
