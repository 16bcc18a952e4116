//! Certificates made by each run, handshakes in memory, folders that go again.
#![allow(dead_code, unreachable_pub)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use picows_uring_tls::{
    Certificate, ClientTls, Control, Facts, Handshake, HandshakeError, Opened, Secure, ServerTls,
    Step, TlsVersion,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An issuer of certificates.
pub struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
pub struct Issued {
    pub certificate: String,
    pub key: String,
    pub der: Vec<u8>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, |_| {})
    }

    pub fn issue_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        self.issue_to(names, KeyPair::generate().unwrap(), change)
    }

    pub fn issue_to(
        &self,
        names: &[&str],
        key: KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().to_vec(),
        }
    }
}

impl Issued {
    pub fn pair(&self) -> Certificate {
        Certificate::pem(self.certificate.clone(), self.key.clone())
    }
}

/// A folder that is removed at its end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("picows-tls-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

/// An authority, a server with a certificate of it for `localhost`, and a client that knows it.
pub struct World {
    pub folder: Folder,
    pub authority: Authority,
    pub ca: PathBuf,
}

impl World {
    pub fn new() -> Self {
        let folder = Folder::new();
        let authority = Authority::new("test authority");
        let ca = folder.write("ca.pem", &authority.pem());
        Self { folder, authority, ca }
    }

    pub fn server(&self) -> ServerTls {
        ServerTls::builder()
            .certificate(self.authority.issue(&["localhost"]).pair())
            .build()
            .unwrap()
    }

    pub fn client(&self) -> ClientTls {
        ClientTls::builder().roots(&self.ca).build().unwrap()
    }

    /// A client of this version and no other, which the settings here cannot say.
    pub fn client_of(&self, version: TlsVersion) -> ClientTls {
        self.client_with(version, None)
    }

    pub fn client_with(&self, version: TlsVersion, own: Option<&Issued>) -> ClientTls {
        self.client_changed(version, own, |_| {})
    }

    /// A server with settings that those here cannot say.
    pub fn server_with(
        &self,
        issued: &Issued,
        change: impl FnOnce(&mut rustls::ServerConfig),
    ) -> ServerTls {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(issued.der.clone())], key)
            .unwrap();
        change(&mut config);
        ServerTls::from_rustls(Arc::new(config))
    }

    pub fn client_changed(
        &self,
        version: TlsVersion,
        own: Option<&Issued>,
        change: impl FnOnce(&mut rustls::ClientConfig),
    ) -> ClientTls {
        let version = match version {
            TlsVersion::Tls12 => &rustls::version::TLS12,
            _ => &rustls::version::TLS13,
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                let chain = vec![CertificateDer::from(own.der.clone())];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        change(&mut config);
        ClientTls::from_rustls(Arc::new(config))
    }
}

/// Both ends of an open connection.
pub struct Pair {
    pub client: End,
    pub server: End,
}

/// One end of an open connection, and what it has received.
pub struct End {
    pub secure: Box<Secure>,
    pub facts: Facts,
    /// What came with the end of the handshake, or was not opened yet.
    pub received: Vec<u8>,
}

impl End {
    /// Opens everything that has been received; returns its data and its control records.
    pub fn open_all(&mut self) -> (Vec<u8>, Vec<Control>) {
        let (mut data, mut controls) = (Vec::new(), Vec::new());
        let mut start = 0;
        loop {
            match self.secure.next(&mut self.received[start..]).unwrap() {
                Opened::Incomplete { .. } => break,
                Opened::Data { consumed, range } => {
                    data.extend_from_slice(&self.received[start..][range]);
                    start += consumed;
                }
                Opened::Control { consumed, control } => {
                    controls.push(control);
                    start += consumed;
                }
            }
        }
        self.received.drain(..start);
        (data, controls)
    }

    pub fn seal(&mut self, data: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        self.secure.seal_owed(&mut sealed).unwrap();
        self.secure.seal_from(data, &mut sealed).unwrap();
        sealed
    }
}

/// Which side refused a handshake, and why.
#[derive(Debug, PartialEq)]
pub enum Refused {
    Client(HandshakeError),
    Server(HandshakeError),
}

pub fn connect(client: &ClientTls, server: &ServerTls) -> Result<Pair, Refused> {
    connect_to(client, server, "localhost")
}

pub fn connect_to(client: &ClientTls, server: &ServerTls, name: &str) -> Result<Pair, Refused> {
    let client = Handshake::client(client, name).unwrap();
    run(client, Handshake::server(server).unwrap(), &mut |bytes| bytes.len())
}

/// Runs both sides; `cut` chooses how many of the bytes that are there one step gets.
pub fn run(
    mut client: Handshake,
    mut server: Handshake,
    cut: &mut dyn FnMut(&[u8]) -> usize,
) -> Result<Pair, Refused> {
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let (mut client_end, mut server_end) = (None, None);
    client.advance(&mut [], &mut to_server).map_err(Refused::Client)?;
    while client_end.is_none() || server_end.is_none() {
        let before = to_server.len() + to_client.len();
        assert!(before > 0, "both sides wait");
        if server_end.is_none() {
            server_end = step(&mut server, &mut to_server, &mut to_client, cut)
                .map_err(|error| refused_by_server(&mut client, &mut to_client, error))?;
        }
        if client_end.is_none() {
            client_end =
                step(&mut client, &mut to_client, &mut to_server, cut).map_err(Refused::Client)?;
        }
    }
    let end = |ended: Option<(Box<Secure>, Facts)>, received: Vec<u8>| {
        let (secure, facts) = ended.unwrap();
        End { secure, facts, received }
    };
    Ok(Pair { client: end(client_end, to_client), server: end(server_end, to_server) })
}

/// The peer of a server that refuses gets its alert.
fn refused_by_server(
    client: &mut Handshake,
    to_client: &mut Vec<u8>,
    error: HandshakeError,
) -> Refused {
    // In TLS 1.3 a client may be done by then.
    let _ = client.advance(&mut std::mem::take(to_client), &mut Vec::new());
    Refused::Server(error)
}

fn step(
    handshake: &mut Handshake,
    input: &mut Vec<u8>,
    output: &mut Vec<u8>,
    cut: &mut dyn FnMut(&[u8]) -> usize,
) -> Result<Option<(Box<Secure>, Facts)>, HandshakeError> {
    if input.is_empty() {
        return Ok(None);
    }
    let taken = cut(input).clamp(1, input.len());
    let (consumed, ended) = match handshake.advance(&mut input[..taken], output)? {
        Step::NeedsMore { consumed } => {
            assert_eq!(consumed, taken);
            (consumed, None)
        }
        Step::Done { consumed, secure, facts } => (consumed, Some((secure, facts))),
    };
    input.drain(..consumed);
    Ok(ended)
}

/// Numbers from a seed (SplitMix64), so that a run can be repeated.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
