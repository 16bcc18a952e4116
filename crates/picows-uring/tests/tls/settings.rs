//! Settings: addresses with and without TLS, certificates of clients, reloads.

use super::certificates::Certificates;
use super::common::{Client, Got, address, eventually, next, on_frame, workers};
use super::echo;
use super::raw::Raw;
use picows_uring::{
    Certificate, ClientCertificates, ClientTls, Connect, EchoListener, MsgType, Server, ServerTls,
    TlsInfo, TlsVersion, Upgrade, UpgradeResponse,
};
use std::sync::mpsc;

/// Connects, echoes a message, and returns what TLS agreed on.
pub(super) fn echoed(connect: Connect) -> Option<TlsInfo> {
    picows_uring::run(async move {
        let listener = on_frame(|transport, frame| {
            assert_eq!(frame.payload(), b"hello");
            transport.disconnect();
            Ok(())
        });
        let transport = connect.connect(listener).await.expect("connected");
        transport.send_text("hello");
        assert!(transport.wait_disconnected().await.is_ok());
        assert_eq!(transport.is_secure(), transport.tls_info().is_some());
        transport.tls_info().cloned()
    })
    .expect("a loop")
}

#[test]
fn one_server_has_addresses_with_tls_and_without() {
    let certificates = Certificates::new();
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .listen_tls("127.0.0.1:0", certificates.server())
        .workers(2)
        .start(|request| {
            assert_eq!(request.is_secure(), request.tls_info().is_some());
            assert_eq!(request.is_secure(), request.path() == "/secure");
            Upgrade::accept(EchoListener)
        })
        .expect("it starts");
    let urls: Vec<_> = server.addresses().iter().map(ToString::to_string).collect();
    assert!(urls[0].starts_with("ws://") && urls[1].starts_with("wss://"), "{urls:?}");
    assert_eq!(echoed(Connect::new(format!("{}/plain", urls[0]))), None);
    let tls = certificates.client();
    let info = echoed(Connect::new(format!("{}/secure", urls[1])).tls(&tls)).expect("secure");
    assert_eq!((info.version, info.resumed), (TlsVersion::Tls13, false));
    let again = echoed(Connect::new(format!("{}/secure", urls[1])).tls(&tls)).expect("secure");
    assert!(again.resumed, "a session of the same settings: {again:?}");
    eventually(&server, "handshakes are counted", |stats| {
        (stats.tls_handshakes, stats.tls_resumed, stats.tls_failed) == (2, 1, 0)
    });
}

#[test]
fn a_unix_socket_may_speak_tls() {
    let certificates = Certificates::new();
    let folder = super::common::SocketFolder::new("tls");
    let server = Server::builder()
        .listen(format!("unix:{}", folder.socket().display()))
        .workers(1)
        .tls(certificates.server())
        .start(|_| Upgrade::accept(EchoListener))
        .expect("it starts");
    let url = server.addresses()[0].to_string();
    assert!(url.starts_with("wss+unix:"), "{url}");
    assert!(echoed(Connect::new(url).tls(&certificates.client())).is_some());
}

#[test]
fn the_factory_and_the_listener_see_the_certificate_of_the_client() {
    let certificates = Certificates::new();
    for keep in [true, false] {
        let (seen, sees) = mpsc::channel();
        let tls = ServerTls::builder()
            .certificate(certificates.issue("server", &["127.0.0.1"]))
            .client_certificates(ClientCertificates::required(certificates.ca()))
            .build()
            .expect("good settings");
        let server = workers(1)
            .tls(tls)
            .keep_request(keep)
            .start(move |request| {
                let (count, seen) = (request.peer_certificates().len(), seen.clone());
                let info = request.tls_info().expect("secure").clone();
                Upgrade::accept(on_frame(move |transport, frame| {
                    let kept = transport.peer_certificates().len();
                    let same = transport.tls_info().is_none_or(|it| *it == info);
                    let _ = seen.send((count, kept, same));
                    transport.send_like(frame, frame.payload());
                    Ok(())
                }))
            })
            .expect("it starts");
        let client = ClientTls::builder()
            .roots(certificates.ca())
            .certificate(certificates.issue("client", &["client.example"]))
            .build()
            .expect("good settings");
        let url = format!("wss://{}/", address(&server));
        assert!(echoed(Connect::new(url).tls(&client)).is_some());
        assert_eq!(next(&sees), (1, usize::from(keep), true));
    }
}

#[test]
fn a_reload_changes_new_connections_and_cuts_none() {
    let (first, second) = (Certificates::new(), Certificates::new());
    let tls = first.server();
    let server =
        workers(2).tls(tls.clone()).start(|_| Upgrade::accept(EchoListener)).expect("it starts");
    let mut old = Raw::upgrade(&first, address(&server));
    // Half of a pair: the key does not fit, and the old pair stays.
    let new = second.issue("server", &["127.0.0.1"]);
    let text = std::fs::read(second.path("server.crt")).expect("a file");
    std::fs::write(first.path("server.crt"), &text).expect("a file");
    let error = tls.reload().expect_err("half of a pair").to_string();
    assert!(error.contains("server.crt") && error.contains("server.key"), "{error}");
    Raw::upgrade(&first, address(&server));
    let key = std::fs::read(second.path("server.key")).expect("a file");
    std::fs::write(first.path("server.key"), key).expect("a file");
    tls.reload().expect("a whole pair");
    Raw::upgrade(&second, address(&server));
    old.send(MsgType::Text, b"still here");
    assert_eq!(old.receive(), b"still here");
    tls.replace(
        Some(Certificate::files(first.path("none.crt"), first.path("none.key"))),
        Vec::new(),
    )
    .expect_err("no such file");
    tls.replace(Some(new), Vec::new()).expect("a pair");
    Raw::upgrade(&second, address(&server));
}

#[test]
fn handshakes_go_on_while_the_certificates_are_reloaded() {
    let certificates = Certificates::new();
    let tls = certificates.server();
    let server = workers(1)
        .tls(tls.clone())
        .tls_handshakes_per_turn(1)
        .start(|_| Upgrade::accept(EchoListener))
        .expect("it starts");
    let address = address(&server);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let mut raw = Raw::upgrade(&certificates, address);
                    raw.send(MsgType::Text, b"hello");
                    assert_eq!(raw.receive(), b"hello");
                }
            });
        }
        for _ in 0..20 {
            tls.reload().expect("the same files");
        }
    });
    eventually(&server, "all were served", |stats| stats.tls_handshakes == 40);
    assert_eq!(server.stats().tls_failed, 0);
}

#[test]
fn a_storm_of_handshakes_leaves_a_plain_neighbour_its_turns() {
    let certificates = Certificates::new();
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .listen_tls("127.0.0.1:0", certificates.server())
        .tls_handshakes_per_turn(1)
        .workers(1)
        .start(|_| Upgrade::accept(EchoListener))
        .expect("it starts");
    let secure = match server.addresses()[1] {
        picows_uring::ListenAddress::Tls(address) => address,
        ref other => panic!("{other:?}"),
    };
    let mut neighbour = Client::upgrade(address(&server));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    Raw::upgrade(&certificates, secure);
                }
            });
        }
        for _ in 0..50 {
            neighbour.send(MsgType::Text, b"hello");
            assert_eq!(neighbour.receive(), Got::new(MsgType::Text, *b"hello"));
        }
    });
    eventually(&server, "all were served", |stats| stats.tls_handshakes == 40);
}

#[test]
fn a_program_chooses_certificates_and_its_panic_ends_one_handshake() {
    let certificates = Certificates::new();
    let chosen = certificates.issue("chosen", &["chosen.example"]).read().expect("a pair");
    let tls = ServerTls::builder()
        .certificate(certificates.issue("server", &["localhost"]))
        .certificate_by(move |name| match name {
            Some("panic.example") => panic!("on purpose"),
            Some("chosen.example") => Some(chosen.clone()),
            _ => None,
        })
        .build()
        .expect("good settings");
    let server = workers(1).tls(tls).start(|_| Upgrade::accept(EchoListener)).expect("it starts");
    let client = certificates.client();
    let connect = |name: &str| {
        let url = format!("wss://{}/", address(&server));
        Connect::new(url).tls(&client).tls_server_name(name)
    };
    for name in ["chosen.example", "localhost"] {
        // Each certificate is good for its name alone.
        assert!(echoed(connect(name)).is_some());
        let attempt = connect("panic.example");
        let outcome = picows_uring::run(async { attempt.connect(EchoListener).await });
        assert!(outcome.expect("a loop").is_err());
    }
    eventually(&server, "all are counted", |stats| {
        (stats.tls_handshakes, stats.tls_failed) == (2, 2)
    });
}

#[test]
fn another_client_ca_ends_the_resumption_of_sessions() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let (issuers, replaced) = (certificates.path("issuers.pem"), others.ca());
    std::fs::copy(certificates.ca(), &issuers).expect("a file");
    let tls = ServerTls::builder()
        .certificate(certificates.issue("server", &["127.0.0.1"]))
        .client_certificates(ClientCertificates::required(&issuers))
        .build()
        .expect("good settings");
    let server =
        workers(2).tls(tls.clone()).start(|_| Upgrade::accept(EchoListener)).expect("it starts");
    let client = |pair: Certificate| {
        let builder = ClientTls::builder().roots(certificates.ca()).certificate(pair);
        builder.build().expect("good settings")
    };
    let connect = |tls: &ClientTls| Connect::new(format!("wss://{}/", address(&server))).tls(tls);
    let known = client(certificates.issue("known", &["known.example"]));
    let resumed = || echoed(connect(&known)).expect("secure").resumed;
    assert_eq!([resumed(), resumed()], [false, true]);
    tls.reload().expect("the same files");
    assert!(resumed(), "the rules are the same");
    // The session would be good for hours, and a resumed one asks for no certificate.
    std::fs::copy(replaced, &issuers).expect("a file");
    tls.reload().expect("good files");
    let attempt = connect(&known);
    let outcome = picows_uring::run(async { attempt.connect(EchoListener).await });
    let error = outcome.expect("a loop").expect_err("its issuer is not known any more");
    assert!(matches!(error.fault(), picows_uring::ConnectFault::Tls(_)), "{error:?}");
    let other = client(others.issue("other", &["other.example"]));
    assert!(!echoed(connect(&other)).expect("secure").resumed);
}

#[test]
fn records_are_no_longer_than_the_settings_allow() {
    let certificates = Certificates::new();
    let tls = ServerTls::builder()
        .certificate(certificates.issue("server", &["localhost", "127.0.0.1"]))
        .record_bytes_max(1000)
        .build()
        .expect("good settings");
    let server = workers(1).tls(tls).start(|_| Upgrade::accept(EchoListener)).expect("it starts");
    let mut raw = Raw::upgrade(&certificates, address(&server));
    let payload = vec![7; 10_000];
    raw.send(MsgType::Binary, &payload);
    // The header of the frame, and its payload.
    assert_eq!(raw.take(4)[..2], [0x82, 126]);
    assert_eq!(raw.take(payload.len()), payload);
    assert_eq!(raw.records, [&[1000; 10][..], &[4]].concat());
}

#[test]
fn redirects_lead_to_tls_and_never_back() {
    let certificates = Certificates::new();
    let secure = echo(&certificates, workers(1));
    let target = format!("wss://{}/", address(&secure));
    let plain = workers(1)
        .start(move |_| {
            let mut response = UpgradeResponse::new(http::StatusCode::FOUND);
            response.headers.insert("Location", target.parse().expect("a header"));
            Upgrade::respond(response)
        })
        .expect("it starts");
    let connect = Connect::new(format!("ws://{}/", address(&plain))).tls(&certificates.client());
    assert!(echoed(connect).is_some());
}

#[test]
fn a_connect_without_settings_uses_the_roots_of_the_system() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    let url = format!("wss://{}/", address(&server));
    let outcome = picows_uring::run(async move { Connect::new(url).connect(EchoListener).await });
    let error = outcome.expect("a loop").expect_err("no such root is trusted");
    let text = error.to_string();
    assert!(text.contains("issue") || text.contains("ca-certificates"), "{text}");
}
