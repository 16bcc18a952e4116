//! Flags of TLS: certificates of the server, and what clients trust.
//!
//! A build without the feature `tls` has the types, and none of the flags.

use crate::fault::{Fault, Usage};
use picows_uring::{Connect, ServerBuilder};

#[cfg(feature = "tls")]
pub(crate) use present::{ClientFlags, ClientSettings, ServerFlags, ServerSettings};

#[cfg(not(feature = "tls"))]
pub(crate) use absent::{ClientFlags, ClientSettings, ServerFlags, ServerSettings};

/// Gives a connection the settings of TLS, if there are any.
pub(crate) fn of_client(connect: Connect, tls: Option<&ClientSettings>) -> Connect {
    match tls {
        #[cfg(feature = "tls")]
        Some(tls) => connect.tls(tls),
        _ => connect,
    }
}

/// Gives a server the settings of TLS, if there are any.
pub(crate) fn of_server(builder: ServerBuilder, tls: Option<&ServerSettings>) -> ServerBuilder {
    match tls {
        #[cfg(feature = "tls")]
        Some(tls) => builder.tls(tls.clone()),
        _ => builder,
    }
}

#[cfg(feature = "tls")]
mod present {
    use super::{Fault, Usage};
    use crate::stdio::note;
    use picows_uring::{Certificate, ClientCertificates, ClientTls, ServerTls};
    use std::path::{Path, PathBuf};

    pub(crate) type ClientSettings = ClientTls;
    pub(crate) type ServerSettings = ServerTls;

    /// Flags of a client.
    #[derive(Clone, Debug, Default, clap::Args)]
    pub(crate) struct ClientFlags {
        /// Trust the issuers in this file (PEM) for wss://, instead of those of the system
        #[arg(long, value_name = "FILE", help_heading = HEADING)]
        tls_ca: Option<PathBuf>,

        /// Certificate for servers that ask for one (PEM), with the intermediate ones behind it
        #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = HEADING)]
        tls_cert: Option<PathBuf>,

        /// Key of --tls-cert (PEM)
        #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = HEADING)]
        tls_key: Option<PathBuf>,

        /// Accept any certificate: the server may be another one, and everything may be read on the
        /// way. For tests
        #[arg(long, conflicts_with = "tls_ca", help_heading = HEADING)]
        tls_insecure: bool,
    }

    impl ClientFlags {
        /// The settings that the flags describe; `None` without flags: those of the library.
        pub(crate) fn settings(&self) -> Result<Option<ClientSettings>, Usage> {
            let certificate = pair(self.tls_cert.as_deref(), self.tls_key.as_deref());
            if self.tls_ca.is_none() && certificate.is_none() && !self.tls_insecure {
                return Ok(None);
            }
            let mut builder = ClientTls::builder();
            builder = match &self.tls_ca {
                Some(ca) => builder.roots(ca),
                None if self.tls_insecure => {
                    note(format_args!(
                        "warning: --tls-insecure accepts any certificate: the server may be another one"
                    ));
                    builder.danger_accept_invalid_certificates()
                }
                None => builder.native_roots(),
            };
            if let Some(certificate) = certificate {
                builder = builder.certificate(certificate);
            }
            builder.build().map(Some).map_err(|error| Usage(format!("TLS: {error}")))
        }
    }

    /// Flags of a server.
    #[derive(Clone, Debug, Default, clap::Args)]
    pub(crate) struct ServerFlags {
        /// Speak TLS (wss://) with this certificate (PEM), with the intermediate ones behind it. SIGHUP
        /// then reads the files again, and cuts no connection
        #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = HEADING)]
        tls_cert: Option<PathBuf>,

        /// Key of --tls-cert (PEM)
        #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = HEADING)]
        tls_key: Option<PathBuf>,

        /// Require a certificate of each client, of an issuer in this file (PEM)
        #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = HEADING)]
        tls_client_ca: Option<PathBuf>,
    }

    impl ServerFlags {
        /// The settings that the flags describe; `None` without flags: no TLS.
        pub(crate) fn settings(&self) -> Result<Option<ServerSettings>, Fault> {
            let certificate = pair(self.tls_cert.as_deref(), self.tls_key.as_deref());
            let Some(certificate) = certificate else { return Ok(None) };
            let mut builder = ServerTls::builder().certificate(certificate);
            if let Some(ca) = &self.tls_client_ca {
                builder = builder.client_certificates(ClientCertificates::required(ca));
            }
            Ok(Some(builder.build()?))
        }
    }

    fn pair(certificate: Option<&Path>, key: Option<&Path>) -> Option<Certificate> {
        Some(Certificate::files(certificate?, key?))
    }

    /// Reads the certificates again, and notes the outcome.
    pub(crate) fn reload(tls: &ServerSettings) {
        match tls.reload() {
            Ok(()) => note(format_args!("certificates read again: new connections get them")),
            Err(error) => {
                note(format_args!("certificates not read again, the old ones stay: {error}"));
            }
        }
    }

    const HEADING: &str = "TLS";
}

#[cfg(feature = "tls")]
pub(crate) use present::reload;

/// Reads the certificates again: there are none.
#[cfg(not(feature = "tls"))]
pub(crate) fn reload(tls: &ServerSettings) {
    match *tls {}
}

#[cfg(not(feature = "tls"))]
mod absent {
    use super::{Fault, Usage};

    /// Settings of a client, of which there are none.
    #[derive(Clone, Debug)]
    pub(crate) enum ClientSettings {}
    /// Settings of a server, of which there are none.
    #[derive(Clone, Debug)]
    pub(crate) enum ServerSettings {}

    /// Flags of a client: none.
    #[derive(Clone, Debug, Default, clap::Args)]
    pub(crate) struct ClientFlags {}

    /// Flags of a server: none.
    #[derive(Clone, Debug, Default, clap::Args)]
    pub(crate) struct ServerFlags {}

    impl ClientFlags {
        pub(crate) fn settings(&self) -> Result<Option<ClientSettings>, Usage> {
            Ok(None)
        }
    }

    impl ServerFlags {
        pub(crate) fn settings(&self) -> Result<Option<ServerSettings>, Fault> {
            Ok(None)
        }
    }
}
