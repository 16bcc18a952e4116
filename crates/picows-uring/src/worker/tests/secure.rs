//! TLS of a server, whose bytes are cut anywhere, and end anywhere.

use super::*;
use crate::tls::{Certificate, ClientTls, Control, Handshake, Opened, Secure, ServerTls, Step};

/// Settings of both ends, with a certificate for this run. No session is resumed.
struct Settings {
    server: ServerTls,
    client: ClientTls,
}

impl Settings {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pair = Certificate::pem(made.cert.pem(), made.signing_key.serialize_pem());
        let server = ServerTls::builder().certificate(pair).build().unwrap();
        let client = ClientTls::builder().danger_accept_invalid_certificates().resumption(0);
        Self { server, client: client.build().unwrap() }
    }
}

/// A client of the worker, whose bytes arrive as the test cuts them.
struct Peer {
    fixture: Fixture,
    handshake: Option<Handshake>,
    secure: Option<Box<Secure>>,
    /// Bytes of the server that were not opened.
    received: Vec<u8>,
    /// Its plaintext.
    plain: Vec<u8>,
    controls: Vec<Control>,
    /// Bytes that were delivered so far.
    delivered: usize,
}

impl Peer {
    fn new(settings: &Settings) -> Self {
        Self::of(settings, Config::default())
    }

    /// The same on a server with further settings.
    fn of(settings: &Settings, config: Config) -> Self {
        let mut config = Config { tls: Some(settings.server.clone()), ..config };
        config.liveness.auto_ping = None;
        let mut fixture = Fixture::listening(Manner::default(), config);
        fixture.worker.ring.connect(7);
        fixture.turn();
        let handshake = Some(Handshake::client(&settings.client, "localhost").unwrap());
        let (received, plain, controls) = Default::default();
        Self { fixture, handshake, secure: None, received, plain, controls, delivered: 0 }
    }

    /// Delivers bytes in pieces that end where `cut` says, by their place in all that were delivered.
    fn deliver(&mut self, bytes: &[u8], cut: &mut impl FnMut(usize) -> bool) {
        let mut start = 0;
        for end in 1..=bytes.len() {
            if end == bytes.len() || cut(self.delivered + end) {
                self.fixture.deliver(&bytes[start..end]);
                start = end;
            }
        }
        self.delivered += bytes.len();
        self.take();
    }

    /// Takes what the server has sent.
    fn take(&mut self) {
        self.received.append(&mut self.fixture.worker.ring.sent);
        let Some(secure) = &mut self.secure else { return };
        let mut start = 0;
        loop {
            match secure.next(&mut self.received[start..]).unwrap() {
                Opened::Incomplete { .. } => break,
                Opened::Data { consumed, range } => {
                    self.plain.extend_from_slice(&self.received[start..][range]);
                    start += consumed;
                }
                Opened::Control { consumed, control } => {
                    self.controls.push(control);
                    start += consumed;
                }
            }
        }
        self.received.drain(..start);
    }

    /// The next bytes of the client in the handshake; `None` when it has no more.
    fn step(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut handshake = self.handshake.take()?;
        match handshake.advance(&mut std::mem::take(&mut self.received), &mut out).unwrap() {
            Step::NeedsMore { .. } => self.handshake = Some(handshake),
            Step::Done { secure, .. } => self.secure = Some(secure),
        }
        Some(out)
    }

    fn sealed(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.secure.as_mut().unwrap().seal_from(plain, &mut out).unwrap();
        out
    }

    /// All that the client sends, step by step, each when the server has answered the one before; the
    /// last is two frames and CLOSE.
    fn converse(&mut self, cut: &mut impl FnMut(usize) -> bool) {
        for _ in 0..2 {
            let bytes = self.step().unwrap();
            self.deliver(&bytes, cut);
        }
        let request = self.sealed(REQUEST);
        self.deliver(&request, cut);
        let frames = [&frame(TEXT, b"one")[..], &frame(TEXT, b"two"), &frame(CLOSE, b"")].concat();
        let frames = self.sealed(&frames);
        self.deliver(&frames, cut);
    }

    /// The stream of the client ends.
    fn end(&mut self) {
        self.fixture.worker.ring.end(ReceiveResult::EndOfStream);
        self.fixture.turn();
        self.take();
    }
}

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// What the listener of a whole conversation sees.
const ALL: [&str; 4] = ["Text one", "Text two", "Close ", "disconnected Closed"];

/// Lengths of what the client sends, and of all of it.
fn lengths(settings: &Settings) -> (usize, usize) {
    let mut peer = Peer::new(settings);
    let mut ends = Vec::new();
    peer.converse(&mut |at| {
        ends.push(at);
        false
    });
    peer.end();
    assert_eq!(seen(), ALL);
    let hello = {
        let mut peer = Peer::new(settings);
        peer.step().unwrap().len()
    };
    (hello, peer.delivered)
}

/// All places behind the hello, and some in it: it is long, and nothing but its length counts there.
fn places(settings: &Settings) -> impl Iterator<Item = usize> + use<> {
    let (hello, all) = lengths(settings);
    (0..=all).filter(move |at| *at <= 16 || *at + 4 >= hello || at % 97 == 0)
}

#[test]
fn records_that_are_cut_anywhere_are_the_same_records() {
    let settings = Settings::new();
    for place in places(&settings) {
        let mut peer = Peer::new(&settings);
        peer.converse(&mut |at| at == place);
        peer.end();
        assert_eq!(seen(), ALL, "cut at {place}");
        assert!(peer.controls.contains(&Control::CloseNotify), "cut at {place}");
        assert_eq!(peer.fixture.stats().protocol_errors, 0, "cut at {place}");
        assert_eq!(peer.fixture.stats().stash_bytes, 0, "cut at {place}");
    }
    let mut peer = Peer::new(&settings);
    peer.converse(&mut |_| true);
    peer.end();
    assert_eq!(seen(), ALL, "a byte at a time");
}

#[test]
fn a_stream_that_ends_anywhere_ends_its_connection() {
    let settings = Settings::new();
    let (_, all) = lengths(&settings);
    for place in places(&settings) {
        let mut peer = Peer::new(&settings);
        let mut sent = Vec::new();
        // The same conversation, of which only the beginning arrives.
        for step in 0..4 {
            let bytes = match step {
                0 | 1 => peer.step().unwrap(),
                2 => peer.sealed(REQUEST),
                _ => {
                    let frames = [frame(TEXT, b"one"), frame(TEXT, b"two"), frame(CLOSE, b"")];
                    peer.sealed(&frames.concat())
                }
            };
            let left = place.saturating_sub(sent.len());
            sent.extend_from_slice(&bytes);
            if left < bytes.len() {
                peer.fixture.deliver(&bytes[..left]);
                break;
            }
            peer.deliver(&bytes, &mut |_| false);
        }
        peer.end();
        let saw = seen();
        let stats = peer.fixture.stats();
        if place == all {
            assert_eq!(saw, ALL);
        } else if stats.upgraded == 1 {
            // No part of a record is handled before it is whole.
            assert_eq!(saw, ["disconnected CutOff"], "the end at {place}");
        } else {
            assert!(saw.is_empty(), "the end at {place}: {saw:?}");
        }
        assert_eq!(stats.stash_bytes, 0, "the end at {place}");
        peer.fixture.go(60 * SECOND);
        assert!(peer.fixture.is_gone(), "the end at {place}");
        assert_eq!(peer.fixture.worker.ring.lent(), 0, "the end at {place}");
    }
}

/// Numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

#[test]
fn frames_of_any_length_come_back_whatever_cuts_their_records() {
    let settings = Settings::new();
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut peer = Peer::new(&settings);
        for _ in 0..2 {
            let bytes = peer.step().unwrap();
            peer.deliver(&bytes, &mut |_| random.below(50) == 0);
        }
        let request = peer.sealed(REQUEST);
        peer.deliver(&request, &mut |_| random.below(50) == 0);
        peer.plain.clear();
        let mut expected = Vec::new();
        for _ in 0..8 {
            // More than 1000 bytes are sent back.
            let size = 1001 + random.below(60_000);
            let payload: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
            let header = |mask: u8| match u16::try_from(size) {
                Ok(size) => [&[0x82, mask | 126][..], &size.to_be_bytes()].concat(),
                Err(_) => [&[0x82, mask | 127][..], &(size as u64).to_be_bytes()].concat(),
            };
            let frame = [&header(0x80)[..], &[0; 4], &payload].concat();
            expected.extend([header(0), payload].concat());
            // Records of any length, and pieces of any length.
            let mut rest = &frame[..];
            let mut records = Vec::new();
            while !rest.is_empty() {
                let (record, behind) = rest.split_at(rest.len().min(1 + random.below(20_000)));
                records.extend(peer.sealed(record));
                rest = behind;
            }
            let pieces = 1 + random.below(9_000);
            peer.deliver(&records, &mut |_| random.below(pieces) == 0);
        }
        assert!(peer.plain == expected, "seed {seed}");
        assert_eq!(peer.fixture.stats().protocol_errors, 0, "seed {seed}");
        seen();
    }
}

#[test]
fn the_header_of_a_proxy_tls_and_the_request_share_the_time_of_one_handshake() {
    let settings = Settings::new();
    for steps in 0..=4 {
        let networks = "127.0.0.0/8".parse().unwrap();
        let config = Config { proxy_protocol: Some(Arc::new(networks)), ..Config::default() };
        let mut peer = Peer::of(&settings, config);
        for step in 0..steps {
            peer.fixture.go((step + 1) * SECOND);
            let bytes = match step {
                0 => b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n".to_vec(),
                1 | 2 => peer.step().unwrap(),
                _ => peer.sealed(&REQUEST[..20]),
            };
            peer.deliver(&bytes, &mut |_| false);
        }
        peer.fixture.go(5 * SECOND - GRANULE);
        assert!(!peer.fixture.is_gone(), "{steps} steps");
        peer.fixture.go(5 * SECOND + GRANULE);
        assert!(peer.fixture.is_gone(), "{steps} steps");
    }
}
