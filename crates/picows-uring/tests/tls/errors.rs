//! Faults of TLS: what a client gets, and that its server goes on.

use super::certificates::Certificates;
use super::common::{Client, address, eventually, workers};
use super::{connect, echo};
use picows_uring::{
    ClientCertificates, ClientTls, Connect, ConnectError, ConnectFault, ConnectStage, EchoListener,
    HandshakeError, ServerHandle, ServerTls, Upgrade,
};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

fn fault(connect: Connect) -> ConnectError {
    let attempt = async { connect.connect(EchoListener).await };
    picows_uring::run(attempt).expect("a loop").expect_err("no connection")
}

fn of_tls(error: &ConnectError) -> &HandshakeError {
    assert!(!error.is_transient(), "{error}");
    match error.fault() {
        ConnectFault::Tls(fault) => fault,
        _ => panic!("{error:?}"),
    }
}

#[test]
fn plain_http_on_a_tls_port_is_answered_in_clear() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    let mut client = Client::connect(address(&server));
    let response = client.ask("/", "");
    assert_eq!(response.status, 400, "{response:?}");
    assert!(response.body.contains("wss://"), "{response:?}");
    client.expect_gone();
    assert_eq!(server.stats().tls_failed, 1);
    let error = fault(Connect::new(format!("ws://{}/", address(&server))));
    assert!(error.to_string().contains("wss://"), "{error}");
}

#[test]
fn a_client_that_meets_the_other_kind_of_port_is_told_which_scheme_it_has() {
    let plain = workers(1).start(|_| Upgrade::accept(EchoListener)).expect("it starts");
    let certificates = Certificates::new();
    let error = fault(connect(&certificates, &plain));
    assert_eq!(of_tls(&error), &HandshakeError::PlainHttpAnswer);
    assert!(error.to_string().contains("use ws://"), "{error}");
    // A server of another kind answers HTTP with an alert.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}/", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        Write::write_all(&mut stream, &[21, 3, 3, 0, 2, 2, 70]).expect("it reads");
        stream
    });
    let error = fault(Connect::new(url));
    assert!(matches!(error.fault(), ConnectFault::TlsExpected), "{error:?}");
    assert!(error.to_string().contains("use wss://"), "{error}");
    drop(server.join());
}

#[test]
fn a_certificate_of_another_issuer_or_name_is_refused() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let server = echo(&certificates, workers(1));
    let error = fault(connect(&others, &server));
    assert!(matches!(of_tls(&error), HandshakeError::UnknownIssuer { .. }), "{error:?}");
    let error = fault(connect(&certificates, &server).tls_server_name("api.example.com"));
    let HandshakeError::NameMismatch { presented, .. } = of_tls(&error) else {
        panic!("{error:?}");
    };
    assert!(presented.iter().any(|name| name.contains("localhost")), "{presented:?}");
    eventually(&server, "both are counted", |stats| stats.tls_failed == 2);
    assert_eq!(server.stats().upgraded, 0);
}

fn strict(certificates: &Certificates) -> ServerHandle {
    let tls = ServerTls::builder()
        .certificate(certificates.issue("server", &["127.0.0.1"]))
        .client_certificates(ClientCertificates::required(certificates.ca()))
        .build()
        .expect("good settings");
    workers(1).tls(tls).start(|_| Upgrade::accept(EchoListener)).expect("it starts")
}

#[test]
fn a_refused_client_certificate_is_no_bad_network() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let server = strict(&certificates);
    let error = fault(connect(&certificates, &server));
    assert!(error.to_string().contains("certificate_required"), "{error}");
    let HandshakeError::AlertReceived { .. } = of_tls(&error) else { panic!("{error:?}") };
    let foreign = ClientTls::builder()
        .roots(certificates.ca())
        .certificate(others.issue("client", &["client.example"]))
        .build()
        .expect("good settings");
    let error = fault(Connect::new(format!("wss://{}/", address(&server))).tls(&foreign));
    let HandshakeError::AlertReceived { .. } = of_tls(&error) else { panic!("{error:?}") };
}

#[test]
fn reconnecting_ends_with_a_fault_of_tls() {
    let certificates = Certificates::new();
    let server = strict(&certificates);
    let (url, tls) = (format!("wss://{}/", address(&server)), certificates.client());
    let outcome = picows_uring::run(async move {
        let reconnect = picows_uring::Reconnect::new(move || Connect::new(url.clone()).tls(&tls));
        reconnect.run(|| EchoListener).await
    });
    let error = outcome.expect("a loop").expect_err("it ends");
    assert!(error.to_string().contains("certificate_required"), "{error}");
}

#[test]
fn a_server_that_says_nothing_times_out_in_the_stage_of_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("wss://{}/", listener.local_addr().expect("an address"));
    let certificates = Certificates::new();
    let connect = Connect::new(url).tls(&certificates.client());
    let error = fault(connect.handshake_timeout(Duration::from_millis(100)));
    let ConnectFault::Timeout { stage, .. } = error.fault() else { panic!("{error:?}") };
    assert_eq!(*stage, ConnectStage::Tls);
    assert!(error.is_transient());
}

#[test]
fn a_server_that_ends_in_the_handshake_may_be_tried_again() {
    let certificates = Certificates::new();
    // Before its hello, and in the middle of a record.
    for sent in [&b""[..], &[22, 3, 3, 0, 90, 2, 0, 0, 86]] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("wss://{}/", listener.local_addr().expect("an address"));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(sent).expect("the client reads");
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let error = fault(Connect::new(url).tls(&certificates.client()));
        assert!(matches!(error.fault(), ConnectFault::Disconnected(_)), "{error:?}");
        assert!(error.is_transient(), "as a network that breaks");
        server.join().expect("no panic");
    }
}

#[test]
fn a_client_that_never_finishes_its_handshake_is_dropped_in_time() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1).handshake_timeout(Duration::from_millis(50)));
    let mut client = Client::connect(address(&server));
    client.write(&[22, 3, 1, 2, 0]);
    client.expect_gone();
    eventually(&server, "it is gone", |stats| stats.disconnected == 1);
}

#[test]
fn what_is_neither_tls_nor_http_ends_its_connection() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    for bytes in [&b"SSH-2.0-client\r\n"[..], &[0; 64], &[22, 3, 1, 255, 255, 1, 2, 3]] {
        let mut client = Client::connect(address(&server));
        client.write(bytes);
        client.finish();
        client.read_to_end();
    }
    eventually(&server, "all are gone", |stats| stats.disconnected == 3);
    assert!(server.stats().tls_failed >= 2, "{:?}", server.stats());
}
