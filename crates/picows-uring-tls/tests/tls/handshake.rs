//! Handshakes of both sides with each other, in memory.

use crate::common::{Random, World, connect, run};
use picows_uring_tls::{Control, Handshake, ServerTls, Step, TlsVersion};

#[test]
fn both_versions_connect_and_carry_data() {
    let world = World::new();
    let server = world.server();
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let client = world.client_of(version);
        let mut pair = connect(&client, &server).unwrap();
        for facts in [&pair.client.facts, &pair.server.facts] {
            assert_eq!(facts.info.version, version);
            assert_eq!(facts.info.alpn.as_deref(), Some("http/1.1"));
            assert!(!facts.info.resumed);
        }
        assert_eq!(pair.server.facts.info.sni.as_deref(), Some("localhost"));
        assert_eq!(pair.client.facts.info.sni, None);
        assert_eq!(pair.client.facts.peer_certificates.len(), 1);
        assert!(pair.server.facts.peer_certificates.is_empty());
        let message: Vec<u8> = (0..100_000).map(|number| number as u8).collect();
        for _ in 0..3 {
            let sealed = pair.client.seal(&message);
            pair.server.received.extend(sealed);
            assert_eq!(pair.server.open_all(), (message.clone(), vec![]));
            let sealed = pair.server.seal(&message);
            pair.client.received.extend(sealed);
            assert_eq!(pair.client.open_all().0, message);
        }
        let mut end = Vec::new();
        pair.server.secure.seal_close_notify(&mut end).unwrap();
        pair.client.received.extend(end);
        assert_eq!(pair.client.open_all(), (vec![], vec![Control::CloseNotify]));
    }
}

#[test]
fn handshakes_may_be_cut_anywhere() {
    let world = World::new();
    let (server, seed) = (world.server(), 1);
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let client = world.client_of(version);
        let mut random = Random(seed);
        for round in 0..40 {
            let longest = 1 + random.below(if round % 2 == 0 { 4 } else { 900 });
            let client = Handshake::client(&client, "localhost").unwrap();
            let server = Handshake::server(&server).unwrap();
            let mut cut = |_: &[u8]| 1 + random.below(longest);
            let mut pair = run(client, server, &mut cut).unwrap();
            let sealed = pair.client.seal(b"hello");
            pair.server.received.extend(sealed);
            assert_eq!(pair.server.open_all().0, b"hello");
        }
    }
}

#[test]
fn data_behind_the_handshake_is_left_to_the_record_layer() {
    // The request of a client comes with its Finished.
    let world = World::new();
    let mut client = Handshake::client(&world.client(), "localhost").unwrap();
    let mut server = Handshake::server(&world.server()).unwrap();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    client.advance(&mut [], &mut to_server).unwrap();
    let step = server.advance(&mut std::mem::take(&mut to_server), &mut to_client).unwrap();
    assert!(matches!(step, Step::NeedsMore { .. }));
    let Step::Done { mut secure, .. } = client.advance(&mut to_client, &mut to_server).unwrap()
    else {
        panic!("the client is not done");
    };
    let finished = to_server.len();
    secure.seal_from(b"GET / HTTP/1.1\r\n", &mut to_server).unwrap();
    let Step::Done { consumed, mut secure, .. } =
        server.advance(&mut to_server, &mut Vec::new()).unwrap()
    else {
        panic!("the server is not done");
    };
    assert_eq!(consumed, finished);
    let mut request = Vec::new();
    secure.open_to(&to_server[consumed..], &mut request).unwrap();
    assert_eq!(request, b"GET / HTTP/1.1\r\n");
}

/// Messages of the handshake in parts, over many records, with and without a choice by name.
#[test]
fn handshakes_may_come_in_small_records() {
    let world = World::new();
    let issued = world.authority.issue(&["localhost"]);
    let certificate = issued.pair();
    let ours = [
        ServerTls::builder().certificate(certificate.clone()).build().unwrap(),
        ServerTls::builder().certificate_for("localhost", certificate).build().unwrap(),
    ];
    let theirs = world.server_with(&issued, |config| config.max_fragment_size = Some(40));
    let mut random = Random(3);
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let client =
            world.client_changed(version, None, |config| config.max_fragment_size = Some(40));
        for server in ours.iter().chain([&theirs]) {
            for longest in [1, 50, 5_000] {
                let client = Handshake::client(&client, "localhost").unwrap();
                let server = Handshake::server(server).unwrap();
                let mut cut = |_: &[u8]| 1 + random.below(longest);
                let mut pair = run(client, server, &mut cut).unwrap();
                assert_eq!(pair.server.facts.info.sni.as_deref(), Some("localhost"));
                let sealed = pair.server.seal(b"hello");
                pair.client.received.extend(sealed);
                assert_eq!(pair.client.open_all().0, b"hello");
            }
        }
    }
}

/// A caller may ask again without new bytes, at any time.
#[test]
fn a_step_without_bytes_changes_nothing() {
    let world = World::new();
    let issued = world.authority.issue(&["localhost"]);
    let server = world.server_with(&issued, |config| config.max_fragment_size = Some(40));
    let mut client = Handshake::client(&world.client(), "localhost").unwrap();
    let mut server = Handshake::server(&server).unwrap();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    client.advance(&mut [], &mut to_server).unwrap();
    let sent = to_server.len();
    for byte in std::mem::take(&mut to_server) {
        server.advance(&mut [byte], &mut to_client).unwrap();
        server.advance(&mut [], &mut to_client).unwrap();
    }
    assert!(sent > 100);
    for byte in to_client {
        client.advance(&mut [], &mut to_server).unwrap();
        if let Step::Done { .. } = client.advance(&mut [byte], &mut to_server).unwrap() {
            return;
        }
    }
    panic!("the client is not done");
}
