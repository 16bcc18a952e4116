//! Clients behind proxies, and pages of other sites: the PROXY protocol, headers of proxies, `Origin`.

mod common;

use common::{Client, address, eventually, next, upgrade_request, workers};
use picows_uring::{
    EchoListener, Frame, Listen, Listener, ListenerResult, Networks, OriginPolicy, ServerBuilder,
    ServerHandle, Transport, TrustedProxies, Upgrade, UpgradeRequest, UpgradeResponse,
};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Reports the address of its peer.
struct Reports(Sender<Option<SocketAddr>>);

impl Listener for Reports {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        let _ = self.0.send(transport.peer_addr());
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

/// A server whose requests and connections report their peers: the request first.
fn reporting(builder: ServerBuilder) -> (ServerHandle, Receiver<Option<SocketAddr>>) {
    let (sender, reports) = channel();
    let server = builder.start(move |request: &UpgradeRequest| {
        if !request.is_upgrade() {
            return Upgrade::respond(UpgradeResponse::ok());
        }
        let _ = sender.send(request.peer_addr());
        Upgrade::accept(Reports(sender.clone()))
    });
    (server.expect("it starts"), reports)
}

fn loopback() -> Networks {
    "127.0.0.0/8".parse().expect("a network")
}

fn elsewhere() -> Networks {
    "192.0.2.0/24".parse().expect("a network")
}

fn end(server: ServerHandle) {
    server.stop_within(Duration::ZERO).expect("no worker has failed");
}

/// A connection without TLS of its own, whatever the other tests speak.
fn plain(server: &ServerHandle) -> Client {
    Client::over(TcpStream::connect(address(server)).expect("the server accepts"))
}

fn v1(source: &str) -> Vec<u8> {
    format!("PROXY TCP4 {source} 198.51.100.1 51000 443\r\n").into_bytes()
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).expect("it is short").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &len, body].concat()
}

/// A builder that takes no TLS from the environment, as the header comes in clear.
fn unsecured() -> ServerBuilder {
    picows_uring::Server::builder().listen("127.0.0.1:0").workers(1)
}

#[test]
fn a_proxy_names_the_client_by_either_version() {
    let (server, reports) = reporting(unsecured().proxy_protocol(loopback()));
    let body = [192, 0, 2, 7, 198, 51, 100, 1, 0xC7, 0x38, 0x01, 0xBB];
    for header in [v1("192.0.2.7"), v2(0x21, 0x11, &body)] {
        let expected = Some("192.0.2.7:51000".parse().expect("an address"));
        let whole = [&header[..], upgrade_request("/", "").as_bytes()].concat();
        for step in [whole.len(), 7] {
            let mut client = plain(&server);
            whole.chunks(step).for_each(|part| client.write(part));
            assert_eq!(client.response().status, 101);
            assert_eq!([next(&reports), next(&reports)], [expected, expected]);
        }
    }
    end(server);
}

#[test]
fn a_proxy_of_its_own_accord_is_itself() {
    let (server, reports) = reporting(unsecured().proxy_protocol(loopback()));
    let unknown = b"PROXY UNKNOWN 192.0.2.7 192.0.2.8 1 2\r\n".to_vec();
    for header in [unknown, v2(0x20, 0x11, &[192; 12]), v2(0x21, 0x00, b"")] {
        let mut client = plain(&server);
        let own = Some(client.local_addr());
        client.write(&[&header[..], upgrade_request("/", "").as_bytes()].concat());
        assert_eq!(client.response().status, 101);
        assert_eq!([next(&reports), next(&reports)], [own, own]);
    }
    end(server);
}

#[test]
fn a_bad_header_ends_the_connection_and_no_other() {
    let (server, _reports) = reporting(unsecured().proxy_protocol(loopback()));
    let mut neighbour = plain(&server);
    neighbour.write(&[&v1("192.0.2.7")[..], upgrade_request("/", "").as_bytes()].concat());
    assert_eq!(neighbour.response().status, 101);
    for bytes in [
        upgrade_request("/", "").into_bytes(),
        b"PROXY TCP4 192.0.2.7\r\n".to_vec(),
        b"PROXY TCP9 ".to_vec().repeat(20),
        v2(0x21, 0x11, &[0; 11]),
        v2(0x31, 0x11, &[0; 12]),
        v2(0x21, 0x11, &[0; 5000]),
        b"\x16\x03\x01\x02\x00".to_vec(),
    ] {
        let mut client = plain(&server);
        let _ = client.try_write(&bytes);
        assert_eq!(client.read_to_end(), 0, "nothing is answered");
    }
    eventually(&server, "they are gone", |stats| stats.connections == 1);
    assert_eq!(server.stats().protocol_errors, 7);
    end(server);
}

#[test]
fn a_header_has_the_time_of_a_handshake() {
    let builder = unsecured().proxy_protocol(loopback());
    let (server, _reports) = reporting(builder.handshake_timeout(Duration::from_millis(50)));
    let header = v1("192.0.2.7");
    // None of it, a part of it, and all of it with nothing behind.
    for sent in [0, 10, header.len()] {
        let mut client = plain(&server);
        client.write(&header[..sent]);
        client.expect_gone();
    }
    end(server);
}

#[test]
fn a_header_of_a_stranger_is_refused_and_without_one_it_is_a_client() {
    let (server, reports) = reporting(unsecured().proxy_protocol(elsewhere()));
    for header in [v1("192.0.2.7"), v2(0x21, 0x11, &[192; 12])] {
        let mut client = plain(&server);
        client.write(&[&header[..], upgrade_request("/", "").as_bytes()].concat());
        let status = client.response().status;
        assert!([400, 405].contains(&status), "{status}");
    }
    let mut client = plain(&server);
    let own = Some(client.local_addr());
    client.write(upgrade_request("/", "").as_bytes());
    assert_eq!((client.response().status, next(&reports)), (101, own));
    end(server);
}

#[test]
fn the_protocol_is_spoken_on_the_addresses_that_are_set_up_for_it() {
    let inside = Listen::on("127.0.0.1:0").settings(|it| it.proxy_protocol(loopback()));
    let server = unsecured().listen(inside).start(|_| Upgrade::accept(EchoListener));
    let server = server.expect("it starts");
    let mut direct = plain(&server);
    direct.write(upgrade_request("/", "").as_bytes());
    assert_eq!(direct.response().status, 101);
    let picows_uring::ListenAddress::Tcp(inside) = server.addresses()[1] else { panic!("TCP") };
    let mut proxied = Client::over(TcpStream::connect(inside).expect("the server accepts"));
    proxied.write(&[&v1("192.0.2.7")[..], upgrade_request("/", "").as_bytes()].concat());
    assert_eq!(proxied.response().status, 101);
    end(server);
}

/// Connects through a proxy for `source`, and returns the status of the answer.
fn through(server: &ServerHandle, source: &str) -> (u16, Client) {
    let mut client = plain(server);
    client.write(&[&v1(source)[..], upgrade_request("/", "").as_bytes()].concat());
    (client.response().status, client)
}

#[test]
fn limits_of_an_address_count_the_clients_and_not_their_proxy() {
    let builder = unsecured().proxy_protocol(loopback()).max_per_address(1);
    let (server, _reports) = reporting(builder);
    // All of these have connected before one of them says who it is.
    let mut waiting: Vec<_> = (0..5).map(|_| plain(&server)).collect();
    for (index, client) in waiting.iter_mut().enumerate() {
        let header = v1(&format!("192.0.2.{index}"));
        client.write(&[&header[..], upgrade_request("/", "").as_bytes()].concat());
        assert_eq!(client.response().status, 101);
    }
    assert_eq!(through(&server, "192.0.2.3").0, 503);
    assert_eq!(server.stats().refused_by_address, 1);
    // A health check is answered, of the same client, too.
    let mut check = plain(&server);
    check.write(&[&v1("192.0.2.3")[..], b"GET / HTTP/1.0\r\n\r\n"].concat());
    assert_eq!(check.response().status, 200);
    drop((check, waiting.remove(3)));
    eventually(&server, "there is room", |stats| stats.connections == 4);
    assert_eq!(through(&server, "192.0.2.3").0, 101);
    end(server);
}

#[test]
fn a_trusted_proxy_names_the_client_in_a_header() {
    let proxies = TrustedProxies::by_x_forwarded_for(loopback());
    let (server, reports) = reporting(workers(1).trusted_proxies(proxies).max_per_address(1));
    let lines = |client| format!("X-Forwarded-For: 203.0.113.9, {client}\r\n");
    let mut first = Client::connect(address(&server));
    assert_eq!(first.ask("/", &lines("192.0.2.7")).status, 101);
    let expected = Some("192.0.2.7:0".parse().expect("an address"));
    assert_eq!([next(&reports), next(&reports)], [expected, expected]);
    let mut second = Client::connect(address(&server));
    assert_eq!(second.ask("/", &lines("192.0.2.7")).status, 503);
    let mut third = Client::connect(address(&server));
    assert_eq!(third.ask("/", &lines("192.0.2.8")).status, 101);
    drop((first, second));
    eventually(&server, "there is room", |stats| stats.connections == 1);
    assert_eq!(Client::connect(address(&server)).ask("/", &lines("192.0.2.7")).status, 101);
    end(server);
}

#[test]
fn a_header_from_a_stranger_names_no_client() {
    let proxies = TrustedProxies::by_forwarded(elsewhere());
    let (server, reports) = reporting(workers(1).trusted_proxies(proxies));
    let mut client = Client::connect(address(&server));
    let own = Some(client.local_addr());
    assert_eq!(client.ask("/", "Forwarded: for=192.0.2.7\r\n").status, 101);
    assert_eq!([next(&reports), next(&reports)], [own, own]);
    end(server);
}

#[test]
fn other_sites_are_refused_before_the_factory() {
    let (server, reports) = reporting(workers(1).origins(OriginPolicy::SameHost));
    let mut client = Client::connect(address(&server));
    let refused = client.ask("/", "Origin: https://evil.example\r\n");
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("Origin"), "{}", refused.body);
    assert!(reports.try_recv().is_err(), "the factory was not asked");
    for lines in ["", "Origin: http://localhost\r\n"] {
        assert_eq!(Client::connect(address(&server)).ask("/", lines).status, 101, "{lines}");
    }
    // What is no upgrade is of no harm, and answered.
    let mut plain = Client::connect(address(&server));
    plain.write(b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.example\r\n\r\n");
    assert_eq!(plain.response().status, 200);
    end(server);
}

#[cfg(feature = "_tls")]
#[test]
fn tls_comes_behind_the_header() {
    let builder = unsecured().tls(common::secure::server()).proxy_protocol(loopback());
    let (server, reports) = reporting(builder);
    let stream = TcpStream::connect(address(&server)).expect("the server accepts");
    std::io::Write::write_all(&mut &stream, &v1("192.0.2.7")).expect("the server reads");
    let mut client = Client::over_tls(stream);
    assert_eq!(client.ask("/", "").status, 101);
    let expected = Some("192.0.2.7:51000".parse().expect("an address"));
    assert_eq!([next(&reports), next(&reports)], [expected, expected]);
    end(server);
}
