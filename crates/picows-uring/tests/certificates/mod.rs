//! Throw-away certificates, in a folder that goes with them.

#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use picows_uring::{Certificate, ClientTls, ServerTls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder with an issuer's certificate, `ca.pem`, and what it has issued.
pub(crate) struct Certificates {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("picows-{}-tls-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the folder for temporary files can be written to");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, format!("issuer {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.join("ca.pem"), certificate.pem()).expect("a file");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// The path of a file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Issues a certificate for names and addresses, as `NAME.crt` and `NAME.key`.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> Certificate {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, file);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (crt, pem) = (self.path(&format!("{file}.crt")), self.path(&format!("{file}.key")));
        std::fs::write(&crt, certificate.pem()).expect("a file");
        std::fs::write(&pem, key.serialize_pem()).expect("a file");
        Certificate::files(crt, pem)
    }

    /// Settings of a server with a certificate for the loopback.
    pub(crate) fn server(&self) -> ServerTls {
        let certificate = self.issue("server", &["localhost", "127.0.0.1"]);
        ServerTls::builder().certificate(certificate).build().expect("good settings")
    }

    /// Settings of a client that trusts the issuer, and no other.
    pub(crate) fn client(&self) -> ClientTls {
        ClientTls::builder().roots(self.ca()).build().expect("good settings")
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(Path::new(&self.folder));
    }
}
