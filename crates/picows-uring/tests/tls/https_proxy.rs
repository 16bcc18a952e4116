//! Proxies that are spoken to in TLS: what is in the tunnel is plain, or TLS once more.

use super::Sizes;
use super::certificates::Certificates;
use super::common::{address, next, noise, workers};
use super::echo;
use super::gate::{Gate, PASSWORD, Rules, USER};
use super::secure_gate::{Manner, SecureGate};
use super::settings::echoed;
use picows_uring::{
    Certificate, ClientCertificates, ClientTls, Connect, ConnectError, ConnectFault, ConnectStage,
    DisconnectCause, EchoListener, Frame, HandshakeError, Listener, ListenerResult, MsgType, Proxy,
    ProxyFault, Runtime, ServerHandle, ServerTls, Transport, TunnelError, Upgrade,
};
use picows_uring_tls::{Alert, Handshake, Step};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A proxy and two servers, of which the second speaks TLS. The certificates of proxy and server have
/// different issuers.
struct Scene {
    of_proxy: Certificates,
    of_server: Certificates,
    plain: ServerHandle,
    secure: ServerHandle,
}

impl Scene {
    fn new() -> Self {
        let (of_proxy, of_server) = (Certificates::new(), Certificates::new());
        let plain = workers(1).start(|_| Upgrade::accept(EchoListener)).expect("it starts");
        let secure = echo(&of_server, workers(1));
        Self { of_proxy, of_server, plain, secure }
    }

    fn gate(&self, manner: Manner) -> SecureGate {
        SecureGate::new(self.of_proxy.server(), Rules::default(), manner)
    }

    /// A connection to the server with TLS, or to the one without.
    fn connect(&self, is_secure: bool) -> Connect {
        let (scheme, server) = if is_secure { ("wss", &self.secure) } else { ("ws", &self.plain) };
        let url = format!("{scheme}://localhost:{}/", address(server).port());
        Connect::new(url).tls(&self.of_server.client())
    }

    fn through(&self, gate: &SecureGate) -> Proxy {
        proxy(&gate.url("")).tls(&self.of_proxy.client())
    }
}

fn proxy(url: &str) -> Proxy {
    Proxy::url(url).expect("a good URL")
}

fn fails(connect: Connect) -> ConnectError {
    let attempt = async { connect.connect(EchoListener).await };
    let error = picows_uring::run(attempt).expect("a loop").expect_err("no connection");
    let text = format!("{error} {error:?}");
    assert!(!text.contains(USER) && !text.contains(PASSWORD), "{text}");
    error
}

#[track_caller]
fn proxy_fault(error: &ConnectError) -> &ProxyFault {
    match error.fault() {
        ConnectFault::Proxy { proxy, fault, .. } => {
            assert!(proxy.starts_with("https://localhost:"), "{error}");
            fault
        }
        _ => panic!("{error:?}"),
    }
}

#[track_caller]
fn tls_fault(error: &ConnectError) -> &HandshakeError {
    match proxy_fault(error) {
        ProxyFault::Tls(fault) => fault,
        _ => panic!("{error:?}"),
    }
}

#[test]
fn every_size_comes_back_whole_however_the_proxy_cuts_it() {
    let scene = Scene::new();
    for (is_secure, is_dedicated, record, write, largest) in [
        (false, false, 1 << 14, usize::MAX, 3 << 20),
        (true, false, 1 << 14, usize::MAX, 3 << 20),
        (true, true, 1 << 14, usize::MAX, 1 << 20),
        (false, true, 5000, 777, 300_000),
        (true, false, 5000, 777, 300_000),
        (true, false, 97, 1001, 70_000),
        (true, false, 1, 7, 200),
        (false, false, 1, 1, 200),
    ] {
        let manner = Manner { record, write, key_update: Some(5), ..Manner::default() };
        let gate = scene.gate(manner);
        let sizes = [0, 1, 125, 126, 4096, 16_362, 16_384, 65_535, 70_000, 300_000, 1 << 20];
        let sizes = sizes.into_iter().chain([3 << 20]).filter(|size| *size <= largest);
        let payloads: Vec<_> = sizes.map(|size| noise(size as u64, size)).collect();
        let count = payloads.len();
        let (back, backs) = mpsc::channel();
        let connect = scene.connect(is_secure).proxy(scene.through(&gate));
        let listener = Sizes { payloads, back, is_secure };
        if is_dedicated {
            let runtime = Runtime::builder().build().expect("a loop");
            let transport = runtime.run_dedicated(connect.connect(listener)).expect("a ring");
            transport.expect("connected");
        } else {
            picows_uring::run(async move {
                let transport = connect.connect(listener).await.expect("connected");
                assert_eq!(transport.tls_info().is_some(), is_secure);
                assert_eq!(transport.peer_addr(), Some(gate.address));
                assert!(transport.wait_disconnected().await.is_ok());
            })
            .expect("a loop");
        }
        let whole = (0..count).filter(|_| next(&backs)).count();
        assert_eq!(whole, count, "{manner:?}");
    }
    assert_eq!((scene.secure.stats().tls_failed, scene.secure.stats().protocol_errors), (0, 0));
}

/// Sends so many messages at once, and expects them back in their order.
struct Flood {
    next: u32,
    done: mpsc::Sender<u32>,
}

const FLOOD: u32 = 30_000;

impl Listener for Flood {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        for number in 0..FLOOD {
            transport.send(MsgType::Binary, number.to_be_bytes());
        }
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.payload() == self.next.to_be_bytes() {
            self.next += 1;
        }
        if self.next == FLOOD || frame.msg_type() != MsgType::Binary {
            let _ = self.done.send(self.next);
            transport.disconnect();
        }
        Ok(())
    }
}

#[test]
fn a_flood_of_small_frames_comes_back_in_order() {
    let scene = Scene::new();
    for is_secure in [false, true] {
        // Long records have far more frames than one budget, and short ones are cut each time.
        for record in [1 << 14, 3001] {
            let gate = scene.gate(Manner { record, ..Manner::default() });
            let connect = scene.connect(is_secure).proxy(scene.through(&gate));
            let (done, all) = mpsc::channel();
            picows_uring::run(async move {
                let transport = connect.connect(Flood { next: 0, done }).await.expect("connected");
                let _ = transport.wait_disconnected().await;
            })
            .expect("a loop");
            assert_eq!(next(&all), FLOOD, "{is_secure} {record}");
        }
    }
}

#[test]
fn the_network_sees_tls_and_its_end() {
    let scene = Scene::new();
    for is_secure in [false, true] {
        let gate = scene.gate(Manner::default());
        let info = echoed(scene.connect(is_secure).proxy(scene.through(&gate)));
        assert_eq!(info.is_some(), is_secure, "that of the server, and not of the proxy");
        let asked = gate.gate.next();
        assert!(asked.head.starts_with("CONNECT localhost:"), "{asked:?}");
        assert!(!asked.head.contains("Sec-WebSocket"), "{asked:?}");
        let end = gate.end();
        assert!(end.is_notified, "close_notify of the outer layer");
        for word in ["CONNECT", "Sec-WebSocket", "hello"] {
            let is_seen = end.wire.windows(word.len()).any(|bytes| bytes == word.as_bytes());
            assert!(!is_seen, "{word}");
        }
    }
}

#[test]
fn user_and_password_go_through_tls_only() {
    let scene = Scene::new();
    for closes in [false, true] {
        let rules = Rules { wants_password: true, closes };
        let gate = SecureGate::new(scene.of_proxy.server(), rules, Manner::default());
        let to = proxy(&gate.url("USER:SECRET@")).tls(&scene.of_proxy.client());
        assert!(echoed(scene.connect(true).proxy(to)).is_some());
        assert_eq!(gate.gate.all().len(), 2);
    }
    // It does not get them where it cannot be trusted.
    let rules = Rules { wants_password: true, closes: false };
    let gate = SecureGate::new(scene.of_proxy.server(), rules, Manner::default());
    let to = proxy(&gate.url("USER:SECRET@")).tls(&scene.of_server.client());
    fails(scene.connect(true).proxy(to));
    assert_eq!(gate.gate.all(), []);
}

#[test]
fn what_follows_the_answer_of_the_proxy_is_carried_over() {
    let scene = Scene::new();
    for is_secure in [false, true] {
        let gate = scene.gate(Manner { is_answer_cut: true, ..Manner::default() });
        let info = echoed(scene.connect(is_secure).proxy(scene.through(&gate)));
        assert_eq!(info.is_some(), is_secure);
    }
}

#[test]
fn certificates_of_proxies_are_checked_by_their_own_settings() {
    let scene = Scene::new();
    let gate = scene.gate(Manner::default());
    let tls = |tls: &ClientTls| scene.connect(true).proxy(proxy(&gate.url("")).tls(tls));
    let error = fails(tls(&scene.of_server.client()));
    let HandshakeError::UnknownIssuer { .. } = tls_fault(&error) else { panic!("{error:?}") };
    assert!(error.to_string().contains("`--proxy-ca` of the command"), "{error}");
    assert!(!error.is_transient());
    // The settings of the server do not do for the proxy: those of the system are used.
    let error = fails(scene.connect(true).proxy(proxy(&gate.url(""))));
    assert!(matches!(proxy_fault(&error), ProxyFault::Tls(_) | ProxyFault::TlsSettings(_)));
    // Another name than that of the proxy's URL.
    let certificate = scene.of_proxy.issue("other", &["other.test"]);
    let other = ServerTls::builder().certificate(certificate).build().expect("good settings");
    let other = SecureGate::new(other, Rules::default(), Manner::default());
    let error = fails(scene.connect(true).proxy(scene.through(&other)));
    let HandshakeError::NameMismatch { .. } = tls_fault(&error) else { panic!("{error:?}") };
    let text = error.to_string();
    assert!(text.contains("other.test") && text.contains("the proxy's URL"), "{text}");
    assert_eq!(gate.gate.all(), []);
}

#[test]
fn a_proxy_may_want_a_certificate_of_its_clients() {
    let scene = Scene::new();
    let strict = ServerTls::builder()
        .certificate(scene.of_proxy.issue("proxy", &["localhost"]))
        .client_certificates(ClientCertificates::required(scene.of_proxy.ca()))
        .build()
        .expect("good settings");
    let gate = SecureGate::new(strict, Rules::default(), Manner::default());
    let error = fails(scene.connect(true).proxy(scene.through(&gate)));
    let HandshakeError::AlertReceived { alert } = tls_fault(&error) else { panic!("{error:?}") };
    assert_eq!(*alert, Alert::CERTIFICATE_REQUIRED);
    assert!(!error.is_transient());
    let own: Certificate = scene.of_proxy.issue("me", &["me.test"]);
    let tls = ClientTls::builder().roots(scene.of_proxy.ca()).certificate(own);
    let tls = tls.build().expect("good settings");
    let connect = scene.connect(true).proxy(proxy(&gate.url("")).tls(&tls));
    assert!(echoed(connect).is_some());
}

#[test]
fn a_wrong_scheme_is_named_with_the_right_one() {
    let scene = Scene::new();
    // Proxies that take a hello for a request, and a request for a hello.
    let answering = |answer: &'static [u8]| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        format!("localhost:{port}")
    };
    let http = format!("https://{}", answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let error = fails(scene.connect(true).proxy(proxy(&http).tls(&scene.of_proxy.client())));
    assert_eq!(*tls_fault(&error), HandshakeError::PlainHttpAnswer);
    assert!(error.to_string().contains("its URL begins with http://"), "{error}");
    assert!(!error.is_transient());
    let tls = format!("http://{}", answering(&[21, 3, 1, 0, 2, 2, 10]));
    let error = fails(scene.connect(true).proxy(proxy(&tls)));
    assert!(error.to_string().contains("its URL begins with https://"), "{error}");
    let url = Gate::new(Rules::default()).url("https", "").replace("127.0.0.1", "localhost");
    // A SOCKS proxy, or one that waits for an end of the head.
    let connect = scene.connect(true).handshake_timeout(Duration::from_millis(300));
    let error = fails(connect.proxy(proxy(&url).tls(&scene.of_proxy.client())));
    let ConnectFault::Timeout { stage: ConnectStage::Proxy, .. } = error.fault() else {
        panic!("{error:?}")
    };
}

/// A proxy that makes the handshake, and goes on by `script` with what seals for it, and with bytes that came
/// behind the handshake.
fn scripted(
    scene: &Scene,
    script: impl FnOnce(&mut TcpStream, &mut picows_uring_tls::Secure, Vec<u8>) + Send + 'static,
) -> Proxy {
    let tls = scene.of_proxy.server();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut handshake = Handshake::server(&tls).expect("good settings");
        let (mut secure, rest) = loop {
            let (mut bytes, mut out) = ([0; 4096], Vec::new());
            let count = stream.read(&mut bytes).expect("the client speaks");
            let step = handshake.advance(&mut bytes[..count], &mut out).expect("a handshake");
            stream.write_all(&out).expect("the client reads");
            if let Step::Done { consumed, secure, .. } = step {
                break (secure, bytes[consumed..count].to_vec());
            }
        };
        script(&mut stream, &mut secure, rest);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    proxy(&format!("https://localhost:{port}")).tls(&scene.of_proxy.client())
}

const OPEN: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

#[test]
fn proxies_that_break_the_rules_are_named() {
    let scene = Scene::new();
    type Script = fn(&mut Vec<u8>, &mut picows_uring_tls::Secure);
    let cases: [(Script, &str, bool); 6] = [
        // Bytes behind the answer, in its record or in another.
        (
            |out, secure| secure.seal_from(&[OPEN, b"hello"].concat(), out).expect("a key"),
            "bytes follow its answer",
            false,
        ),
        (
            |out, secure| {
                secure.seal_from(OPEN, out).expect("a key");
                secure.seal_from(b"hello", out).expect("a key");
            },
            "bytes follow its answer",
            false,
        ),
        // The end before the answer, with and without close_notify.
        (|out, secure| secure.seal_close_notify(out).expect("a key"), "before it answered", true),
        (|_, _| {}, "before it answered", true),
        // A record that is none.
        (
            |out, _| {
                out.extend_from_slice(&[
                    23, 3, 3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                ]);
            },
            "TLS to it",
            false,
        ),
        // A refusal.
        (|out, secure| secure.seal_alert(Alert(49), out).expect("a key"), "access_denied", false),
    ];
    for (script, word, is_transient) in cases {
        let to = scripted(&scene, move |stream, secure, _| {
            let mut out = Vec::new();
            script(&mut out, secure);
            stream.write_all(&out).expect("the client reads");
        });
        let error = fails(scene.connect(true).proxy(to));
        let fault = proxy_fault(&error);
        assert!(error.to_string().contains(word), "{word}: {error}");
        assert_eq!(error.is_transient(), is_transient, "{error}");
        let is_tunnel = matches!(fault, ProxyFault::Tunnel(_));
        assert_eq!(is_tunnel, word.contains("answer"), "{fault:?}");
        if let ProxyFault::Tunnel(TunnelError::Closed { in_answer }) = fault {
            assert!(!in_answer);
        }
    }
}

#[test]
fn tls_to_the_proxy_may_fail_behind_its_answer() {
    let scene = Scene::new();
    type Script = fn(&mut Vec<u8>, &mut picows_uring_tls::Secure);
    let cases: [(Script, Option<&str>); 4] = [
        (
            |out, secure| secure.seal_alert(Alert::INTERNAL_ERROR, out).expect("a key"),
            Some("internal_error"),
        ),
        (|out, _| out.extend_from_slice(b"\x17\x03\x03\x00\x01x"), Some("TLS to it")),
        (|out, secure| secure.seal_close_notify(out).expect("a key"), None),
        (|_, _| {}, None),
    ];
    for is_secure in [false, true] {
        for (script, word) in cases {
            let to = scripted(&scene, move |stream, secure, _| {
                let mut out = Vec::new();
                secure.seal_from(OPEN, &mut out).expect("a key");
                stream.write_all(&out).expect("the client reads");
                // What the tunnel is for: then it fails.
                let _ = stream.read(&mut [0; 4096]);
                out.clear();
                script(&mut out, secure);
                stream.write_all(&out).expect("the client reads");
            });
            let error = fails(scene.connect(is_secure).proxy(to));
            match word {
                Some(word) => {
                    assert!(matches!(proxy_fault(&error), ProxyFault::Tls(_)), "{error:?}");
                    assert!(error.to_string().contains(word), "{error}");
                    assert!(!error.is_transient());
                }
                // As where the server ends the connection, which it may have.
                None => {
                    let ConnectFault::Disconnected(None) = error.fault() else {
                        panic!("{error:?}")
                    };
                }
            }
        }
    }
}

#[test]
fn an_open_connection_ends_with_the_cause_that_tls_to_the_proxy_has() {
    let scene = Scene::new();
    type Script = fn(&mut Vec<u8>, &mut picows_uring_tls::Secure);
    let cases: [(Script, &str); 3] = [
        (|out, secure| secure.seal_alert(Alert::INTERNAL_ERROR, out).expect("a key"), "tls"),
        (|out, secure| secure.seal_close_notify(out).expect("a key"), "end"),
        (|_, _| {}, "cut"),
    ];
    for (script, wanted) in cases {
        let to = scripted(&scene, move |stream, secure, mut wire| {
            let (mut out, mut plain) = (Vec::new(), Vec::new());
            secure.seal_from(OPEN, &mut out).expect("a key");
            let mut bytes = [0; 4096];
            let mut read = |stream: &mut TcpStream, secure: &mut picows_uring_tls::Secure| {
                plain.clear();
                loop {
                    while let picows_uring_tls::Opened::Data { consumed, .. } =
                        secure.open_to(&wire, &mut plain).expect("a good record")
                    {
                        wire.drain(..consumed);
                    }
                    if plain.ends_with(b"\r\n\r\n") {
                        break;
                    }
                    let count = stream.read(&mut bytes).expect("the client speaks");
                    assert!(count > 0, "the client has gone");
                    wire.extend_from_slice(&bytes[..count]);
                }
                String::from_utf8(plain.clone()).expect("a head")
            };
            read(stream, secure);
            stream.write_all(&out).expect("the client reads");
            let head = read(stream, secure);
            let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
            let accept = picows_uring_proto::AcceptKey::for_key(key.expect("a key"));
            let answer = format!(
                "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {}\r\n\r\n",
                accept.as_str()
            );
            out.clear();
            secure.seal_from(answer.as_bytes(), &mut out).expect("a key");
            script(&mut out, secure);
            stream.write_all(&out).expect("the client reads");
        });
        let connect = scene.connect(false).proxy(to);
        let cause = picows_uring::run(async move {
            let transport = connect.connect(EchoListener).await.expect("connected");
            let _ = transport.wait_disconnected().await;
            transport.disconnect_cause()
        })
        .expect("a loop");
        let got = match cause {
            Some(DisconnectCause::Tls(_)) => "tls",
            Some(DisconnectCause::EndOfStream) => "end",
            Some(DisconnectCause::CutOff) => "cut",
            other => panic!("{other:?}"),
        };
        assert_eq!(got, wanted);
    }
}
