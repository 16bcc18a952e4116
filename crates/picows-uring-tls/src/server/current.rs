//! The settings of a server at a moment: one configuration of rustls for each set of client rules.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::certificate::{Chooser, ClientCertificates, add_roots, read_roots};
use crate::error::TlsError;
use crate::info::TlsVersion;
use crate::notes::{Noting, NotingSecrets};
use crate::provider::{Provider, has_aes_instructions};
use crate::server::Sources;
use crate::verify::ClientVerifier;

/// The keys that tickets are sealed with.
pub(crate) type Tickets = Arc<dyn ProducesTickets>;

/// A set of client rules. A ticket of one is worth nothing under another, as a resumed session asks for no
/// certificate: each set has keys of its own, which outlive reloads that leave the set as it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The name that the rules are for, if they are not the default.
    name: Option<String>,
    is_required: bool,
    /// The issuers. Empty if clients are not asked.
    issuers: Vec<CertificateDer<'static>>,
}

/// The settings of a server at a moment.
pub(crate) struct Current {
    default: Arc<ServerConfig>,
    /// Names with client rules of their own.
    by_name: HashMap<String, Arc<ServerConfig>>,
    /// The certificates, or `None` if they are those of foreign settings.
    certificates: Option<Arc<Certificates>>,
}

impl Current {
    /// Takes settings of rustls.
    pub(crate) fn from_rustls(mut config: Arc<ServerConfig>) -> Self {
        let own = Arc::make_mut(&mut config);
        own.enable_secret_extraction = true;
        own.cert_resolver = Arc::new(Noting(own.cert_resolver.clone()));
        own.key_log = Arc::new(NotingSecrets(own.key_log.clone()));
        Self { default: config, by_name: HashMap::new(), certificates: None }
    }

    /// Reads and checks all that the settings name.
    pub(crate) fn load(provider: Provider, sources: &mut Sources) -> Result<Self, TlsError> {
        let crypto = provider.rustls().ok_or(TlsError::NoProvider { provider })?;
        let certificates = Arc::new(Certificates::load(&crypto, sources)?);
        let mut tickets = Vec::new();
        let mut build = |name: Option<String>, clients: Option<&ClientCertificates>| {
            let rules = Rules::read(name, clients)?;
            let keys = match sources.tickets.iter().find(|(known, _)| *known == rules) {
                Some((_, keys)) => keys.clone(),
                None => provider
                    .ticketer()
                    .ok_or(TlsError::NoProvider { provider })?
                    .map_err(|error| TlsError::Other(error.to_string()))?,
            };
            let config = config(&crypto, &certificates, &rules, clients, &keys, sources)?;
            tickets.push((rules, keys));
            Ok::<_, TlsError>(Arc::new(config))
        };
        let default = build(None, sources.clients.as_ref())?;
        let mut by_name = HashMap::new();
        for (name, clients) in &sources.clients_by_name {
            let name = normalized(name)?;
            by_name.insert(name.clone(), build(Some(name), Some(clients))?);
        }
        // Only now that nothing fails any more.
        sources.tickets = tickets;
        Ok(Self { default, by_name, certificates: Some(certificates) })
    }

    /// Returns whether the configuration depends on the name that the client asks for.
    pub(crate) fn depends_on_name(&self) -> bool {
        let is_fixed = |all: &Arc<Certificates>| all.default.is_some() && all.chooser.is_none();
        !self.by_name.is_empty() || !self.certificates.as_ref().is_none_or(is_fixed)
    }

    /// Returns the configuration for a client that asks for `name`, or `None` if there is no certificate.
    pub(crate) fn config_for(&self, name: Option<&str>) -> Option<Arc<ServerConfig>> {
        let config = name.and_then(|name| find(&self.by_name, name)).unwrap_or(&self.default);
        let Some(certificates) = &self.certificates else { return Some(config.clone()) };
        let chosen = certificates.chooser.as_ref().and_then(|chooser| (chooser.0)(name));
        if let Some(chosen) = chosen {
            // All but the certificate is shared.
            let mut config = ServerConfig::clone(config);
            config.cert_resolver = Arc::new(Noting(Arc::new(Chosen(chosen.0))));
            return Some(Arc::new(config));
        }
        certificates.find(name).map(|_| config.clone())
    }

    /// Returns the configuration for clients whose name does not matter.
    pub(crate) fn default_config(&self) -> &Arc<ServerConfig> {
        &self.default
    }
}

impl Rules {
    fn read(name: Option<String>, clients: Option<&ClientCertificates>) -> Result<Self, TlsError> {
        let issuers = clients.map(|clients| read_roots(&clients.file)).transpose()?;
        Ok(Self {
            name,
            is_required: clients.is_some_and(|clients| clients.is_required),
            issuers: issuers.unwrap_or_default(),
        })
    }
}

fn config(
    crypto: &Arc<CryptoProvider>,
    certificates: &Arc<Certificates>,
    rules: &Rules,
    clients: Option<&ClientCertificates>,
    keys: &Tickets,
    sources: &Sources,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(crypto.clone())
        .with_protocol_versions(versions(sources.min_version))
        .map_err(|error| TlsError::Other(error.to_string()))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            builder.with_client_cert_verifier(client_verifier(crypto, rules, clients)?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(Noting(certificates.clone())));
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    config.ticketer = keys.clone();
    // Tickets carry the sessions, so that workers share them without a lock.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    // Clients without AES instructions ask for ChaCha20 first, and get by with AES as well.
    config.ignore_client_order = has_aes_instructions();
    config.enable_secret_extraction = true;
    if let Some(log) = &sources.key_log {
        config.key_log = log.clone();
    }
    config.key_log = Arc::new(NotingSecrets(config.key_log));
    Ok(config)
}

fn client_verifier(
    crypto: &Arc<CryptoProvider>,
    rules: &Rules,
    clients: &ClientCertificates,
) -> Result<Arc<ClientVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    add_roots(&mut roots, &clients.file, &rules.issuers)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto.clone());
    let builder = if clients.is_required { builder } else { builder.allow_unauthenticated() };
    let from = clients.file.display().to_string();
    let inner = builder
        .build()
        .map_err(|error| TlsError::Roots { from: from.clone(), reason: error.to_string() })?;
    Ok(Arc::new(ClientVerifier { inner, roots: from }))
}

/// The versions from `min` on.
pub(crate) fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match min {
        TlsVersion::Tls12 => ALL_VERSIONS,
        TlsVersion::Tls13 => &ALL_VERSIONS[..1],
    }
}

/// The newest first.
static ALL_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// The protocol that WebSocket upgrades begin with (RFC 6455 §4.1).
pub(crate) const HTTP_1_1: &[u8] = b"http/1.1";

/// Certificates by the name that a client asks for.
#[derive(Debug)]
struct Certificates {
    default: Option<Arc<CertifiedKey>>,
    by_name: HashMap<String, Arc<CertifiedKey>>,
    chooser: Option<Chooser>,
}

/// The certificate of one handshake.
#[derive(Debug)]
struct Chosen(Arc<CertifiedKey>);

impl ResolvesServerCert for Chosen {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

impl Certificates {
    fn load(crypto: &CryptoProvider, sources: &Sources) -> Result<Self, TlsError> {
        let has_any = sources.certificate.is_some() || !sources.names.is_empty();
        if !has_any && sources.chooser.is_none() {
            return Err(TlsError::NoCertificate);
        }
        let default = sources.certificate.as_ref().map(|pair| pair.load(crypto)).transpose()?;
        let mut by_name = HashMap::new();
        for (name, certificate) in &sources.names {
            let name = normalized(name)?;
            let pair = certificate.load(crypto)?;
            certificate.check_name(&pair, &name)?;
            by_name.insert(name, pair);
        }
        Ok(Self { default, by_name, chooser: sources.chooser.clone() })
    }

    fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        name.and_then(|name| find(&self.by_name, name)).or(self.default.as_ref())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name()).cloned()
    }
}

/// Finds an exact name, or the wildcard in the place of its first label.
fn find<'a, T>(by_name: &'a HashMap<String, T>, name: &str) -> Option<&'a T> {
    let name = name.to_ascii_lowercase();
    by_name.get(&name).or_else(|| {
        let (_, parent) = name.split_once('.')?;
        by_name.get(&format!("*.{parent}"))
    })
}

/// Returns a name as it is compared: in lower case, without the dot of the root.
fn normalized(name: &str) -> Result<String, TlsError> {
    let lower = name.trim_end_matches('.').to_ascii_lowercase();
    let bare = lower.strip_prefix("*.").unwrap_or(&lower);
    match rustls::pki_types::DnsName::try_from(bare) {
        Ok(_) => Ok(lower),
        Err(_) => Err(TlsError::InvalidName { name: name.to_owned() }),
    }
}
