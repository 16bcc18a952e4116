//! The record layer against the buffered connection of rustls: every suite, both sides, random cuts.

use std::io::{Read, Write};
use std::sync::Arc;

use crate::common::{Authority, Folder, Random};
use picows_uring_tls::{
    ClientTls, Control, Facts, Handshake, Opened, Secure, ServerTls, Step, TlsVersion,
};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, Connection, RootCertStore, ServerConfig, SupportedCipherSuite};

/// Settings of rustls for both sides, of one suite.
struct Settings {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn settings(
    provider: &CryptoProvider,
    suite: SupportedCipherSuite,
    issued: &crate::common::Issued,
    authority: &Authority,
) -> Settings {
    let mut provider = provider.clone();
    provider.cipher_suites = vec![suite];
    let provider = Arc::new(provider);
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[suite.version()])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(issued.der.clone())], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[suite.version()])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Settings { server: Arc::new(server), client: Arc::new(client) }
}

/// All suites of a provider, each with a certificate whose key fits.
fn all_settings() -> Vec<(SupportedCipherSuite, Settings)> {
    let authority = Authority::new("oracle");
    let ecdsa = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let ecdsa = authority.issue_to(&["localhost"], ecdsa, |_| {});
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let rsa = authority.issue_to(&["localhost"], rsa, |_| {});
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let suites = provider.cipher_suites.clone();
    assert_eq!(suites.len(), 9);
    let settings = |suite: SupportedCipherSuite| {
        let is_rsa = format!("{:?}", suite.suite()).contains("RSA");
        (suite, settings(&provider, suite, if is_rsa { &rsa } else { &ecdsa }, &authority))
    };
    suites.into_iter().map(settings).collect()
}

/// Our side and that of rustls, with the bytes on their way to each.
struct Both {
    ours: Box<Secure>,
    facts: Facts,
    theirs: Connection,
    to_us: Vec<u8>,
    to_them: Vec<u8>,
    /// What each side has received.
    received: [Vec<u8>; 2],
    updates: usize,
}

impl Both {
    fn connect(settings: &Settings, is_server: bool) -> Self {
        let (handshake, theirs) = if is_server {
            let ours = ServerTls::from_rustls(settings.server.clone());
            let name = "localhost".try_into().unwrap();
            let theirs = rustls::ClientConnection::new(settings.client.clone(), name).unwrap();
            (Handshake::server(&ours).unwrap(), Connection::Client(theirs))
        } else {
            let ours = ClientTls::from_rustls(settings.client.clone());
            let theirs = rustls::ServerConnection::new(settings.server.clone()).unwrap();
            (Handshake::client(&ours, "localhost").unwrap(), Connection::Server(theirs))
        };
        Self::run(handshake, theirs)
    }

    fn run(mut handshake: Handshake, mut theirs: Connection) -> Self {
        let (mut to_us, mut to_them) = (Vec::new(), Vec::new());
        handshake.advance(&mut [], &mut to_them).unwrap();
        loop {
            while theirs.wants_write() {
                theirs.write_tls(&mut to_us).unwrap();
            }
            if !to_us.is_empty() {
                let step = handshake.advance(&mut to_us, &mut to_them).unwrap();
                match step {
                    Step::NeedsMore { consumed } => drop(to_us.drain(..consumed)),
                    Step::Done { consumed, secure: ours, facts } => {
                        to_us.drain(..consumed);
                        let received = [Vec::new(), Vec::new()];
                        let mut both =
                            Self { ours, facts, theirs, to_us, to_them, received, updates: 0 };
                        both.deliver(usize::MAX, usize::MAX);
                        return both;
                    }
                }
            }
            read_into(&mut theirs, &mut to_them, usize::MAX);
        }
    }

    /// Delivers up to so many bytes to each side.
    fn deliver(&mut self, to_us: usize, to_them: usize) {
        self.deliver_to_us(to_us);
        self.received[1].extend(read_into(&mut self.theirs, &mut self.to_them, to_them));
        while self.theirs.wants_write() {
            self.theirs.write_tls(&mut self.to_us).unwrap();
        }
    }

    /// Opens what is there of the first `limit` bytes, in place and elsewhere by turns.
    fn deliver_to_us(&mut self, limit: usize) {
        let limit = limit.min(self.to_us.len());
        let mut start = 0;
        loop {
            let is_elsewhere = start % 2 == 0;
            let input = &mut self.to_us[start..limit];
            let opened = if is_elsewhere {
                self.ours.open_to(input, &mut self.received[0]).unwrap()
            } else {
                self.ours.next(input).unwrap()
            };
            match opened {
                Opened::Incomplete { needed } => {
                    assert!(needed > limit - start);
                    break;
                }
                Opened::Data { consumed, range } => {
                    if !is_elsewhere {
                        let data = self.to_us[start..][range].to_vec();
                        self.received[0].extend(data);
                    }
                    start += consumed;
                }
                Opened::Control { consumed, control } => {
                    self.updates += usize::from(matches!(control, Control::KeyUpdate { .. }));
                    start += consumed;
                }
            }
        }
        self.to_us.drain(..start);
    }

    fn send_ours(&mut self, data: &[u8], in_place: bool) {
        self.ours.seal_owed(&mut self.to_them).unwrap();
        if !in_place {
            return self.ours.seal_from(data, &mut self.to_them).unwrap();
        }
        for part in data.chunks(picows_uring_tls::PLAINTEXT_BYTES_MAX) {
            let start = self.to_them.len();
            self.to_them.resize(start + self.ours.prefix_bytes(), 0);
            self.to_them.extend_from_slice(part);
            self.ours.seal_in_place(&mut self.to_them, start).unwrap();
        }
    }

    fn send_theirs(&mut self, data: &[u8]) {
        self.theirs.writer().write_all(data).unwrap();
        while self.theirs.wants_write() {
            self.theirs.write_tls(&mut self.to_us).unwrap();
        }
    }

    fn update_theirs(&mut self) {
        self.theirs.refresh_traffic_keys().unwrap();
        while self.theirs.wants_write() {
            self.theirs.write_tls(&mut self.to_us).unwrap();
        }
    }
}

/// Delivers up to `limit` bytes to rustls, and returns the data in them.
fn read_into(connection: &mut Connection, bytes: &mut Vec<u8>, limit: usize) -> Vec<u8> {
    let limit = limit.min(bytes.len());
    let mut rest = &bytes[..limit];
    let mut data = Vec::new();
    while !rest.is_empty() && connection.read_tls(&mut rest).unwrap() > 0 {
        let state = connection.process_new_packets().unwrap();
        let start = data.len();
        data.resize(start + state.plaintext_bytes_to_read(), 0);
        connection.reader().read_exact(&mut data[start..]).unwrap();
    }
    let consumed = limit - rest.len();
    bytes.drain(..consumed);
    data
}

#[test]
fn every_suite_agrees_with_rustls_over_random_cuts() {
    let seed = std::env::var("PICOWS_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("PICOWS_SEED={seed}");
    let mut random = Random(seed);
    for (suite, settings) in all_settings() {
        for is_server in [true, false] {
            let mut both = Both::connect(&settings, is_server);
            let expected =
                if suite.tls13().is_some() { TlsVersion::Tls13 } else { TlsVersion::Tls12 };
            assert_eq!(both.facts.info.version, expected);
            converse(&mut both, &mut random);
        }
    }
}

/// Data in both directions, key updates of both sides, and no byte lost.
fn converse(both: &mut Both, random: &mut Random) {
    let is_tls13 = both.ours.version() == TlsVersion::Tls13;
    let mut sent = [Vec::new(), Vec::new()];
    for round in 0..60 {
        let longest = [20, 600, 40_000][random.below(3)];
        let data: Vec<u8> = (0..random.below(longest)).map(|_| random.next() as u8).collect();
        if random.below(2) == 0 {
            both.send_ours(&data, random.below(2) == 0);
            sent[1].extend(data);
        } else {
            both.send_theirs(&data);
            sent[0].extend(data);
        }
        if is_tls13 && round % 7 == 3 {
            both.update_theirs();
        }
        if is_tls13 && round % 11 == 5 {
            both.ours.seal_key_update(round % 2 == 0, &mut both.to_them).unwrap();
        }
        both.deliver(random.below(30_000), random.below(30_000));
    }
    both.ours.seal_owed(&mut both.to_them).unwrap();
    for _ in 0..4 {
        both.deliver(usize::MAX, usize::MAX);
    }
    assert!(both.to_us.is_empty() && both.to_them.is_empty());
    assert!(both.received[0] == sent[0] && both.received[1] == sent[1]);
    assert_eq!(both.updates > 0, is_tls13);
}

/// A stream with a key update in each place, delivered in two parts at each byte.
#[test]
fn key_updates_of_either_side_come_at_every_byte() {
    let authority = Authority::new("oracle");
    let issued = authority.issue(&["localhost"]);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let settings = settings(&provider, suite, &issued, &authority);
    for is_server in [true, false] {
        for place in 0..=3 {
            let mut both = Both::connect(&settings, is_server);
            let mut expected = Vec::new();
            let mut cut = 0;
            loop {
                for part in 0..4 {
                    if part == place {
                        both.update_theirs();
                        both.ours.seal_key_update(part % 2 == 0, &mut both.to_them).unwrap();
                    }
                    if part < 3 {
                        let data = [part as u8; 5];
                        both.send_ours(&data, part == 1);
                        both.send_theirs(&data);
                        expected.extend(data);
                    }
                }
                let longest = both.to_us.len().max(both.to_them.len());
                both.deliver(cut, cut);
                both.deliver(usize::MAX, usize::MAX);
                both.ours.seal_owed(&mut both.to_them).unwrap();
                both.deliver(usize::MAX, usize::MAX);
                assert_eq!(both.received, [expected.clone(), expected.clone()], "cut={cut}");
                cut += 1;
                if cut > longest {
                    break;
                }
            }
            assert!(both.updates >= cut, "{} of {cut}", both.updates);
        }
    }
}

#[test]
fn the_ends_of_both_sides_are_understood() {
    for (_, settings) in all_settings() {
        let mut both = Both::connect(&settings, true);
        both.theirs.send_close_notify();
        while both.theirs.wants_write() {
            both.theirs.write_tls(&mut both.to_us).unwrap();
        }
        let mut seen = Vec::new();
        while let Opened::Control { consumed, control } = both.ours.next(&mut both.to_us).unwrap() {
            seen.push(control);
            both.to_us.drain(..consumed);
        }
        assert_eq!(seen, [Control::CloseNotify]);
        both.ours.seal_close_notify(&mut both.to_them).unwrap();
        let state = {
            both.theirs.read_tls(&mut &both.to_them[..]).unwrap();
            both.theirs.process_new_packets().unwrap()
        };
        assert!(state.peer_has_closed());
    }
}

/// What rustls refuses of the records that a peer changed on their way, we refuse as well.
#[test]
fn changed_streams_are_refused_by_both() {
    let folder = Folder::new();
    let authority = Authority::new("oracle");
    folder.write("ca.pem", &authority.pem());
    let issued = authority.issue(&["localhost"]);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let settings = settings(&provider, suite, &issued, &authority);
    let mut random = Random(7);
    for _ in 0..60 {
        let mut both = Both::connect(&settings, true);
        both.send_theirs(b"some data of the peer");
        both.send_ours(b"some data of the peer", true);
        let bit = random.below(both.to_us.len().min(both.to_them.len()) * 8);
        // Not the length, which only asks for more, nor the version, which rustls does not look at.
        let bit = if (8..40).contains(&bit) { bit + 40 } else { bit };
        both.to_us[bit / 8] ^= 1 << (bit % 8);
        both.to_them[bit / 8] ^= 1 << (bit % 8);
        assert!(both.ours.next(&mut both.to_us).is_err(), "bit {bit}");
        both.theirs.read_tls(&mut &both.to_them[..]).unwrap();
        let theirs = both.theirs.process_new_packets();
        assert!(theirs.is_err(), "bit {bit}");
    }
}

/// A key seals no more records than are safe: it is replaced before, or the connection has to end.
#[test]
fn keys_are_replaced_before_they_have_sealed_too_much() {
    use rustls::{Tls12CipherSuite, Tls13CipherSuite};
    /// Records in a row that this side never needs to break off.
    const RESERVE: u64 = 1024;
    const SAFE: u64 = RESERVE + 50;
    let authority = Authority::new("oracle");
    let issued = authority.issue(&["localhost"]);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let limited = |suite: SupportedCipherSuite| -> SupportedCipherSuite {
        match suite {
            SupportedCipherSuite::Tls13(suite) => {
                let common = rustls::crypto::CipherSuiteCommon {
                    suite: suite.common.suite,
                    hash_provider: suite.common.hash_provider,
                    confidentiality_limit: SAFE,
                };
                let Tls13CipherSuite { hkdf_provider, aead_alg, .. } = *suite;
                let suite = Tls13CipherSuite { common, hkdf_provider, aead_alg, quic: None };
                SupportedCipherSuite::Tls13(Box::leak(Box::new(suite)))
            }
            SupportedCipherSuite::Tls12(suite) => {
                let common = rustls::crypto::CipherSuiteCommon {
                    suite: suite.common.suite,
                    hash_provider: suite.common.hash_provider,
                    confidentiality_limit: SAFE,
                };
                let Tls12CipherSuite { prf_provider, kx, sign, aead_alg, .. } = *suite;
                let suite = Tls12CipherSuite { common, prf_provider, kx, sign, aead_alg };
                SupportedCipherSuite::Tls12(Box::leak(Box::new(suite)))
            }
        }
    };
    use rustls::crypto::aws_lc_rs::cipher_suite::{
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS13_AES_128_GCM_SHA256,
    };
    for is_server in [true, false] {
        let settings = settings(&provider, limited(TLS13_AES_128_GCM_SHA256), &issued, &authority);
        let mut both = Both::connect(&settings, is_server);
        let (mut updates, mut sent) = (0, Vec::new());
        for number in 0..500 {
            updates += usize::from(both.ours.owes_control());
            assert!(!both.ours.must_close());
            both.send_ours(&[number as u8], false);
            sent.push(number as u8);
            both.deliver(usize::MAX, usize::MAX);
        }
        assert!((9..=11).contains(&updates), "{updates}");
        assert_eq!(both.received[1], sent);
        let suite = limited(TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
        let settings = self::settings(&provider, suite, &issued, &authority);
        let mut both = Both::connect(&settings, is_server);
        let mut records = 0;
        while !both.ours.must_close() {
            assert!(!both.ours.owes_control());
            both.send_ours(b"x", false);
            records += 1;
            assert!(records < SAFE);
        }
        assert!((45..=50).contains(&records), "{records}");
        // What is left is enough to end in order, and no more than that.
        let mut left = 0;
        while both.ours.seal_from(b"x", &mut both.to_them).is_ok() {
            left += 1;
        }
        assert_eq!(left, RESERVE);
        let sealed = both.ours.seal_close_notify(&mut both.to_them);
        assert_eq!(sealed, Err(picows_uring_tls::RecordError::KeyExhausted));
    }
}
