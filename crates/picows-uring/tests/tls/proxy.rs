//! TLS through proxies: what is in the tunnel is the server's, name and certificate included.

use super::certificates::Certificates;
use super::common::{address, patiently, workers};
use super::echo;
use super::gate::{Gate, Rules};
use super::settings::echoed;
use picows_uring::{
    Connect, ConnectError, ConnectFault, ConnectStage, EchoListener, HandshakeError, Proxy,
    Upgrade, UpgradeResponse,
};
use std::net::TcpListener;
use std::time::Duration;

fn through(gate: &Gate, scheme: &str, credentials: &str) -> Proxy {
    Proxy::url(&gate.url(scheme, credentials)).expect("a good URL")
}

fn fault(connect: Connect) -> ConnectError {
    let attempt = async { connect.connect(EchoListener).await };
    picows_uring::run(attempt).expect("a loop").expect_err("no connection")
}

#[test]
fn every_kind_of_proxy_leads_to_a_server_with_tls() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    let port = address(&server).port();
    for scheme in ["http", "socks4", "socks4a", "socks5", "socks5h"] {
        let gate = Gate::new(Rules::default());
        let connect = Connect::new(format!("wss://localhost:{port}/")).tls(&certificates.client());
        assert!(echoed(connect.proxy(through(&gate, scheme, ""))).is_some(), "{scheme}");
        let asked = gate.next();
        assert_eq!(asked.port, port, "{scheme}");
        assert!(!asked.head.contains("Sec-WebSocket"), "{asked:?}");
        assert_eq!(gate.all(), []);
    }
    // Also where the 407 needs a second connection.
    for closes in [false, true] {
        let gate = Gate::new(Rules { wants_password: true, closes });
        let connect = Connect::new(format!("wss://localhost:{port}/")).tls(&certificates.client());
        assert!(echoed(connect.proxy(through(&gate, "http", "USER:SECRET@"))).is_some());
        assert_eq!(gate.all().len(), 2);
    }
    assert_eq!(server.stats().tls_failed, 0);
}

#[test]
fn the_certificate_has_to_be_that_of_the_server_and_not_of_the_proxy() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    let gate = Gate::new(Rules::default());
    // The proxy is at an address that the certificate has; the server is called by another name.
    let url = format!("wss://server.test:{}/", address(&server).port());
    let connect = || Connect::new(&*url).tls(&certificates.client());
    let error = fault(connect().proxy(through(&gate, "http", "")));
    let ConnectFault::Tls(HandshakeError::NameMismatch { .. }) = error.fault() else {
        panic!("{error:?}")
    };
    assert!(!error.is_transient());
    assert_eq!(gate.next().host, "server.test");
    let named = connect().tls_server_name("localhost");
    assert!(echoed(named.proxy(through(&gate, "http", ""))).is_some());
}

#[test]
fn a_redirect_to_tls_goes_through_the_proxy_as_well_or_past_it() {
    let certificates = Certificates::new();
    let secure = echo(&certificates, workers(1));
    let location = format!("wss://localhost:{}/there", address(&secure).port());
    let plain = workers(1).start(move |_| {
        let redirect = UpgradeResponse::new(http::StatusCode::TEMPORARY_REDIRECT);
        Upgrade::respond(redirect.with_header("Location", &location).expect("a header"))
    });
    let plain = plain.expect("it starts");
    let url = format!("ws://server.test:{}/", address(&plain).port());
    let gate = Gate::new(Rules::default());
    for (list, hosts) in [("", &["server.test", "localhost"][..]), ("localhost", &["server.test"])]
    {
        let connect = Connect::new(&*url).tls(&certificates.client());
        let proxy = through(&gate, "socks5h", "").no_proxy(list);
        assert!(echoed(connect.proxy(proxy)).is_some(), "{list}");
        let asked: Vec<_> = gate.all().into_iter().map(|asked| asked.host).collect();
        assert_eq!(asked, hosts);
    }
}

#[test]
fn a_server_behind_a_proxy_that_says_nothing_times_out_in_the_stage_of_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (certificates, gate) = (Certificates::new(), Gate::new(Rules::default()));
    let mut limit = Duration::from_millis(100);
    let stage = patiently("the way through the proxy", || {
        let connect = Connect::new(format!("wss://localhost:{port}/")).tls(&certificates.client());
        let connect = connect.proxy(through(&gate, "http", "")).handshake_timeout(limit);
        let error = fault(connect);
        let ConnectFault::Timeout { stage, .. } = *error.fault() else { panic!("{error:?}") };
        // On a busy machine the time may have run out before.
        limit *= 2;
        (stage != ConnectStage::Proxy).then_some(stage)
    });
    assert_eq!(stage, ConnectStage::Tls);
}

#[test]
fn plain_http_behind_a_proxy_is_told_from_tls() {
    let plain = workers(1).start(|_| Upgrade::accept(EchoListener)).expect("it starts");
    let (certificates, gate) = (Certificates::new(), Gate::new(Rules::default()));
    let url = format!("wss://localhost:{}/", address(&plain).port());
    let connect = Connect::new(url).tls(&certificates.client());
    let error = fault(connect.proxy(through(&gate, "socks5h", "")));
    let ConnectFault::Tls(HandshakeError::PlainHttpAnswer) = error.fault() else {
        panic!("{error:?}")
    };
}
