//! Errors of handshakes: each row of the table, with its alert and its cure.

use std::sync::Arc;

use crate::common::{Authority, Issued, Refused, World, connect, connect_to};
use picows_uring_tls::{
    Alert, ClientCertificates, ClientTls, Control, Fingerprint, Handshake, HandshakeError, Opened,
    ServerTls, Step, TlsVersion,
};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

fn server_of(issued: &Issued) -> ServerTls {
    ServerTls::builder().certificate(issued.pair()).build().unwrap()
}

/// The client's error, and that of the server, which gets the alert.
fn refusal(client: &ClientTls, server: &ServerTls, name: &str) -> (HandshakeError, HandshakeError) {
    let mut client = Handshake::client(client, name).unwrap();
    let mut server = Handshake::server(server).unwrap();
    let (mut hello, mut flight, mut alert) = (Vec::new(), Vec::new(), Vec::new());
    client.advance(&mut [], &mut hello).unwrap();
    server.advance(&mut hello, &mut flight).unwrap();
    let error = client.advance(&mut flight, &mut alert).unwrap_err();
    assert!(client.advance(&mut [1], &mut Vec::new()).is_err(), "it is over");
    (error, server.advance(&mut alert, &mut Vec::new()).unwrap_err())
}

#[track_caller]
fn client_refuses(world: &World, server: &ServerTls, alert: &str, texts: &[&str]) {
    let (error, of_server) = refusal(&world.client(), server, "localhost");
    for text in texts {
        assert!(error.to_string().contains(text), "{text:?} in {error}");
        assert!(format!("{error:?}").contains(text), "{error:?}");
    }
    assert!(of_server.to_string().contains(alert), "{of_server}");
}

#[test]
fn expired_and_early_certificates_have_dates() {
    let world = World::new();
    let expired = world.authority.issue_with(&["localhost"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 2, 3);
    });
    let texts = ["expired on 2021-02-03 00:00:00 UTC", "days ago", "renew it", "clock"];
    client_refuses(&world, &server_of(&expired), "certificate_expired", &texts);
    let early = world.authority.issue_with(&["localhost"], |params| {
        params.not_before = date_time_ymd(3000, 1, 1);
        params.not_after = date_time_ymd(3001, 1, 1);
    });
    let texts = ["not valid before 3000-01-01", "days", "clock"];
    client_refuses(&world, &server_of(&early), "certificate_expired", &texts);
}

#[test]
fn unknown_issuers_are_named_with_the_roots() {
    let world = World::new();
    let stranger = Authority::new("stranger").issue(&["localhost"]);
    let texts = ["issued by CN=stranger", "ca.pem", "roots(", "--tls-ca", "intermediate"];
    client_refuses(&world, &server_of(&stranger), "unknown_ca", &texts);
    let key = KeyPair::generate().unwrap();
    let alone = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let alone = alone.self_signed(&key).unwrap();
    let issued =
        Issued { certificate: alone.pem(), key: key.serialize_pem(), der: alone.der().to_vec() };
    client_refuses(&world, &server_of(&issued), "unknown_ca", &["self-signed", "pin"]);
}

#[test]
fn a_certificate_of_other_names_shows_them() {
    let world = World::new();
    let other = world.authority.issue(&["a.example", "*.b.example", "10.1.2.3"]);
    let texts = ["not for localhost", "a.example, *.b.example, 10.1.2.3", "tls_server_name"];
    client_refuses(&world, &server_of(&other), "certificate", &texts);
    assert!(connect_to(&world.client(), &server_of(&other), "10.1.2.3").is_ok());
}

#[test]
fn an_authority_is_no_server() {
    let world = World::new();
    let own = world.authority.issue_with(&["localhost"], |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    client_refuses(&world, &server_of(&own), "certificate", &["authority", "pin it"]);
}

#[test]
fn pins_take_the_place_of_roots_names_and_dates() {
    let expired = Authority::new("stranger").issue_with(&["other.example"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 2, 3);
    });
    let server = server_of(&expired);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &expired.der);
    let pin = Fingerprint::sha256(digest.as_ref().try_into().unwrap());
    let wrong = Fingerprint::sha256([7; 32]);
    let client = |pins: &[Fingerprint]| {
        let builder = ClientTls::builder();
        pins.iter().fold(builder, |builder, pin| builder.pin(*pin)).build().unwrap()
    };
    assert!(connect(&client(&[pin]), &server).is_ok());
    assert!(connect(&client(&[wrong, pin]), &server).is_ok());
    assert_eq!(pin.to_string().parse(), Ok(pin));
    assert_eq!(pin.to_string().replace(':', "").to_lowercase().parse(), Ok(pin));
    for text in ["", "AB", &"0".repeat(65), &"g".repeat(64)] {
        assert!(text.parse::<Fingerprint>().is_err());
    }
    let (error, _) = refusal(&client(&[wrong]), &server, "localhost");
    assert!(error.to_string().contains(&pin.to_string()), "{error}");
}

/// The signature of the handshake counts whatever is accepted.
#[test]
fn a_server_without_the_key_is_refused_even_if_anything_is_accepted() {
    #[derive(Debug)]
    struct Impostor(Arc<rustls::sign::CertifiedKey>);
    impl rustls::server::ResolvesServerCert for Impostor {
        fn resolve(
            &self,
            _: rustls::server::ClientHello<'_>,
        ) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(self.0.clone())
        }
    }
    let world = World::new();
    let [victim, mine] = [(); 2].map(|()| world.authority.issue(&["localhost"]));
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from_pem_slice(mine.key.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let stolen = vec![CertificateDer::from(victim.der.clone())];
    let pair = Arc::new(rustls::sign::CertifiedKey::new(stolen, key));
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &victim.der);
    let pin = Fingerprint::sha256(digest.as_ref().try_into().unwrap());
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let config = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Impostor(pair.clone())));
        let server = ServerTls::from_rustls(Arc::new(config));
        for client in [
            world.client(),
            ClientTls::builder().pin(pin).build().unwrap(),
            ClientTls::builder().danger_accept_invalid_certificates().build().unwrap(),
        ] {
            let Err(Refused::Client(error)) = connect(&client, &server) else {
                panic!("an impostor was believed");
            };
            assert!(matches!(error, HandshakeError::InvalidCertificate(_)), "{error}");
        }
    }
}

#[test]
fn missing_and_foreign_client_certificates_are_refused_by_name() {
    let world = World::new();
    let server = ServerTls::builder()
        .certificate(world.authority.issue(&["localhost"]).pair())
        .client_certificates(ClientCertificates::required(&world.ca))
        .build()
        .unwrap();
    let refused = connect(&world.client(), &server).err();
    assert_eq!(refused, Some(Refused::Server(HandshakeError::NoClientCertificate)));
    let stranger = Authority::new("stranger").issue(&["me"]);
    let client = world.client_with(TlsVersion::Tls13, Some(&stranger));
    let Err(Refused::Server(error)) = connect(&client, &server) else {
        panic!("a foreign certificate was accepted");
    };
    assert!(error.to_string().contains("CN=stranger") && error.to_string().contains("ca.pem"));
}

/// In TLS 1.3 the client is done before the server looks at its certificate.
#[test]
fn a_refused_client_gets_the_alert_after_its_handshake() {
    let world = World::new();
    let server = ServerTls::builder()
        .certificate(world.authority.issue(&["localhost"]).pair())
        .client_certificates(ClientCertificates::required(&world.ca))
        .build()
        .unwrap();
    let mut client = Handshake::client(&world.client(), "localhost").unwrap();
    let mut server = Handshake::server(&server).unwrap();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    client.advance(&mut [], &mut to_server).unwrap();
    server.advance(&mut std::mem::take(&mut to_server), &mut to_client).unwrap();
    let done = client.advance(&mut std::mem::take(&mut to_client), &mut to_server).unwrap();
    let Step::Done { mut secure, .. } = done else { panic!("the client is not done") };
    server.advance(&mut to_server, &mut to_client).unwrap_err();
    let opened = secure.next(&mut to_client).unwrap();
    let Opened::Control { control: Control::Alert(alert), .. } = opened else {
        panic!("{opened:?}");
    };
    assert_eq!(alert, Alert::CERTIFICATE_REQUIRED);
    assert!(alert.cure().unwrap().contains("certificate"));
    assert_eq!(alert.to_string(), "certificate_required");
}

#[test]
fn protocols_of_the_application_have_to_agree() {
    let world = World::new();
    let server = world.server();
    let client = |protocols: &[&[u8]]| {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Handshake::client(&ClientTls::from_rustls(Arc::new(config)), "localhost").unwrap()
    };
    for (protocols, is_refused) in
        [(&[][..], false), (&[&b"h2"[..], b"http/1.1"], false), (&[&b"h2"[..]], true)]
    {
        let mut client = client(protocols);
        let (mut hello, mut answer) = (Vec::new(), Vec::new());
        client.advance(&mut [], &mut hello).unwrap();
        let result = Handshake::server(&server).unwrap().advance(&mut hello, &mut answer);
        assert_eq!(result.is_err(), is_refused);
        if is_refused {
            assert_eq!(result.err(), Some(HandshakeError::NoApplicationProtocol));
            let error = client.advance(&mut answer, &mut Vec::new()).unwrap_err();
            let alert = Alert::NO_APPLICATION_PROTOCOL;
            assert_eq!(error, HandshakeError::AlertReceived { alert });
        }
    }
}

#[test]
fn http_in_clear_is_answered_in_clear() {
    let world = World::new();
    let mut answer = Vec::new();
    for request in ["GET / HTTP/1.1\r\n", "POST /x HTTP/1.0\r\n", "OPTIONS * HTTP/1.1\r\n"] {
        for cut in 1..4 {
            answer.clear();
            let mut server = Handshake::server(&world.server()).unwrap();
            let (first, rest) = request.split_at(cut);
            let step = server.advance(&mut first.as_bytes().to_vec(), &mut answer).unwrap();
            assert!(matches!(step, Step::NeedsMore { .. }) && answer.is_empty());
            let error = server.advance(&mut rest.as_bytes().to_vec(), &mut answer).unwrap_err();
            assert_eq!(error, HandshakeError::PlainHttp);
        }
    }
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    assert!(body.contains("wss://"));
}

#[test]
fn peers_without_tls_are_recognized() {
    let world = World::new();
    let mut server = Handshake::server(&world.server()).unwrap();
    let error = server.advance(b"\x00\x01\r\n".to_vec().as_mut(), &mut Vec::new()).unwrap_err();
    assert!(matches!(&error, HandshakeError::NotTls { .. }), "{error}");
    assert!(error.to_string().contains(r"\0\u{1}\r\n"), "{error}");
    for (answer, expected) in
        [("HTTP/1.1 400 Bad Request\r\n", "ws://"), ("SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0")]
    {
        let mut client = Handshake::client(&world.client(), "localhost").unwrap();
        client.advance(&mut [], &mut Vec::new()).unwrap();
        let mut bytes = answer.as_bytes().to_vec();
        let error = client.advance(&mut bytes, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn alerts_of_the_peer_are_named_with_their_cure() {
    let world = World::new();
    for (number, name, cure) in [
        (116, "certificate_required", "client certificate"),
        (48, "unknown_ca", "intermediate"),
        (70, "protocol_version", "tls13_only"),
        (120, "no_application_protocol", "http/1.1"),
        (112, "unrecognized_name", "tls_server_name"),
        (40, "handshake_failure", "in common"),
        (45, "certificate_expired", "renew"),
        (200, "alert 200", ""),
    ] {
        let mut client = Handshake::client(&world.client(), "localhost").unwrap();
        client.advance(&mut [], &mut Vec::new()).unwrap();
        let error = client.advance(&mut [21, 3, 3, 0, 2, 2, number], &mut Vec::new()).unwrap_err();
        assert_eq!(error, HandshakeError::AlertReceived { alert: Alert(number) });
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(cure), "{text}");
    }
}

#[test]
fn old_versions_and_rubbish_are_refused_with_an_alert() {
    let world = World::new();
    // TLS 1.1, one suite, no compression, no extensions.
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut answer = Vec::new();
    let refused = Handshake::server(&world.server()).unwrap().advance(&mut hello, &mut answer);
    assert!(matches!(refused, Err(HandshakeError::Incompatible(_))), "{refused:?}");
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, Alert::HANDSHAKE_FAILURE.0]);
    // A record that is too long is refused by its header, and a message without end by its length.
    for bytes in [&[22, 3, 1, 0xff, 0xff][..], &[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]] {
        answer.clear();
        let mut server = Handshake::server(&world.server()).unwrap();
        let refused = server.advance(&mut bytes.to_vec(), &mut answer);
        assert!(refused.is_err());
        assert_eq!(answer.get(..6), Some(&[21, 3, 3, 0, 2, 2][..]), "{bytes:?} {refused:?}");
    }
}

/// What a peer sends before it has shown anything has a bound.
#[test]
fn a_hello_without_end_is_refused() {
    let world = World::new();
    let issued = world.authority.issue(&["localhost"]);
    let by_name = ServerTls::builder().certificate_for("localhost", issued.pair()).build().unwrap();
    for tls in [world.server(), by_name] {
        let mut server = Handshake::server(&tls).unwrap();
        let mut sent = 0;
        let mut first = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xf0];
        first.resize(5 + 0x4000, 0);
        let mut record = vec![22, 3, 1, 0, 1, 0];
        let mut result = server.advance(&mut first, &mut Vec::new());
        while result.is_ok() {
            sent += 1;
            // Each costs a microsecond, and all that a worker has received are one step.
            assert!(sent <= 1_024, "no end");
            result = server.advance(&mut record, &mut Vec::new());
        }
    }
}

#[test]
fn strangers_may_be_accepted_by_a_loud_name() {
    let world = World::new();
    let client = ClientTls::builder().danger_accept_invalid_certificates().build().unwrap();
    assert!(
        client.accepts_invalid_certificates() && !world.client().accepts_invalid_certificates()
    );
    let server = server_of(&Authority::new("stranger").issue(&["other"]));
    assert!(connect(&client, &server).is_ok());
}
