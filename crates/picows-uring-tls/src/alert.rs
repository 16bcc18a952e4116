//! Alerts of TLS: their numbers, their names, and what helps against those that a peer sends.

use std::fmt;

/// Description of an alert (RFC 8446 §6).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Alert(pub u8);

impl Alert {
    /// The peer has sent all its data.
    pub const CLOSE_NOTIFY: Self = Self(0);
    /// A message that is not expected here.
    pub const UNEXPECTED_MESSAGE: Self = Self(10);
    /// A record that was not sealed with the key of the connection.
    pub const BAD_RECORD_MAC: Self = Self(20);
    /// A record that is too long.
    pub const RECORD_OVERFLOW: Self = Self(22);
    /// No common parameters.
    pub const HANDSHAKE_FAILURE: Self = Self(40);
    /// A field that is out of range.
    pub const ILLEGAL_PARAMETER: Self = Self(47);
    /// A message that could not be parsed.
    pub const DECODE_ERROR: Self = Self(50);
    /// No common version.
    pub const PROTOCOL_VERSION: Self = Self(70);
    /// A fault of the side that sends it.
    pub const INTERNAL_ERROR: Self = Self(80);
    /// The sender gives up the handshake.
    pub const USER_CANCELED: Self = Self(90);
    /// TLS 1.2: the peer does not negotiate anew.
    pub const NO_RENEGOTIATION: Self = Self(100);
    /// The server has no certificate for the name.
    pub const UNRECOGNIZED_NAME: Self = Self(112);
    /// The server wants a certificate of the client.
    pub const CERTIFICATE_REQUIRED: Self = Self(116);
    /// No common protocol (ALPN).
    pub const NO_APPLICATION_PROTOCOL: Self = Self(120);

    /// Returns the name that the RFCs have for the alert, or `None` if they have none.
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            21 => "decryption_failed",
            22 => "record_overflow",
            30 => "decompression_failure",
            40 => "handshake_failure",
            41 => "no_certificate",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            60 => "export_restriction",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            100 => "no_renegotiation",
            109 => "missing_extension",
            110 => "unsupported_extension",
            111 => "certificate_unobtainable",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            114 => "bad_certificate_hash_value",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            121 => "ech_required",
            _ => return None,
        })
    }

    /// Returns what helps when a peer sends this alert, where something is known to.
    pub fn cure(self) -> Option<&'static str> {
        Some(match self.0 {
            116 => "the server wants a client certificate: give the client one with `certificate`",
            48 => {
                "the peer does not know the issuer of the certificate it got: send the intermediate \
                 certificates with it, or add the issuer to the peer's roots"
            }
            42 | 43 | 46 => "the peer refused the certificate it got: see the peer's log",
            44 => "the certificate was revoked: renew it",
            45 => "the certificate has expired: renew it, or check the peer's clock",
            70 => "no TLS version in common: leave `tls13_only` out, or update the peer",
            40 | 71 => {
                "no cipher suite, key exchange or signature in common, or a client certificate is \
                 missing: see the peer's log"
            }
            112 => {
                "the server has no certificate for the name: connect to a name that it serves, or \
                 set `tls_server_name`"
            }
            120 => "the peer does not speak http/1.1 on this port: it wants another port or path",
            _ => return None,
        })
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "alert {}", self.0),
        }
    }
}

impl fmt::Debug for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alert({self})")
    }
}
