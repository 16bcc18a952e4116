//! Metrics, health and readiness over HTTP, on the admin address and on that of the server.

mod common;

use common::{Client, Response, address, close_payload, eventually, next, workers};
use picows_uring::{
    CloseCode, EchoListener, Frame, ListenAddress, Listener, ListenerResult, MsgType, ServerHandle,
    Transport, Upgrade, UpgradeRequest, UpgradeResponse,
};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

const GUIDE: &str = include_str!("../../../docs/guides/metrics.md");

fn get(address: SocketAddr, path: &str) -> Response {
    let mut client = Client::connect(address);
    client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    client.response()
}

fn admin(server: &ServerHandle) -> SocketAddr {
    match server.admin_address() {
        Some(ListenAddress::Tcp(address)) => *address,
        other => panic!("{other:?}"),
    }
}

/// The number of a sample.
#[track_caller]
fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let Some(Ok(value)) = line.map(str::parse) else { panic!("no {name} in {text}") };
    value
}

fn route(request: &UpgradeRequest) -> Upgrade {
    match request.is_upgrade() {
        true => Upgrade::accept(EchoListener),
        false => Upgrade::respond(UpgradeResponse::ok().with_body("the factory's")),
    }
}

#[test]
fn metrics_count_what_happened() {
    let server = workers(2).admin("127.0.0.1:0").start(route).unwrap();
    let mut client = Client::upgrade(address(&server));
    client.echo(&[7; 1000]);
    client.send(MsgType::Ping, [1; 5]);
    assert_eq!(client.receive().payload, [1; 5]);
    client.send(MsgType::Close, close_payload(1000, ""));
    client.receive();
    client.expect_eof();
    drop(client);
    eventually(&server, "it has ended", |stats| stats.disconnected == 1);
    let response = get(admin(&server), "/metrics");
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(response.header("content-type"), Some(content_type));
    let text = response.body;
    assert!(text.ends_with("\n# EOF\n"));
    for (name, expected) in [
        ("picows_connections", 0.0),
        ("picows_connections_opened_total", 1.0),
        ("picows_connections_upgraded_total", 1.0),
        ("picows_connections_closed_total{cause=\"closed\",code=\"1000\"}", 1.0),
        ("picows_connections_refused_total{cause=\"max_connections\"}", 0.0),
        ("picows_frames_total{direction=\"in\",opcode=\"binary\"}", 1.0),
        ("picows_frames_total{direction=\"out\",opcode=\"binary\"}", 1.0),
        ("picows_frames_total{direction=\"in\",opcode=\"ping\"}", 1.0),
        ("picows_frames_total{direction=\"out\",opcode=\"pong\"}", 1.0),
        ("picows_frames_total{direction=\"in\",opcode=\"close\"}", 1.0),
        ("picows_frames_total{direction=\"out\",opcode=\"close\"}", 1.0),
        ("picows_payload_bytes_total{direction=\"in\"}", 1007.0),
        ("picows_payload_bytes_total{direction=\"out\"}", 1007.0),
        ("picows_handshake_seconds_count", 1.0),
        ("picows_handshake_seconds_bucket{le=\"+Inf\"}", 1.0),
        ("picows_workers{state=\"running\"}", 2.0),
        ("picows_ready", 1.0),
    ] {
        assert_eq!(sample(&text, name), expected, "{name}");
    }
    assert!(sample(&text, "picows_turn_seconds_count") > 0.0);
    let drivers = ["io-uring", "epoll"];
    let on = drivers.map(|it| sample(&text, &format!("picows_driver{{driver=\"{it}\"}}")));
    assert_eq!(on.iter().sum::<f64>(), 2.0);
    server.stop().unwrap();
}

#[test]
fn the_guide_lists_the_names() {
    let server = workers(1).start(route).unwrap();
    let text = server.monitor().open_metrics();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut names: BTreeSet<_> = types.filter_map(|it| it.split(' ').next()).collect();
    // It depends on the machine.
    names.insert("picows_memory_limit_bytes");
    let rows = GUIDE.lines().filter_map(|line| line.strip_prefix("| `picows_"));
    let rows = rows.filter_map(|line| line.split(['`', '{']).next());
    let listed: BTreeSet<_> = rows.map(|name| name.trim_end_matches("_total")).collect();
    let family = |name: &&str| name.trim_start_matches("picows_").to_owned();
    let names: BTreeSet<_> = names.iter().map(family).collect();
    assert_eq!(listed.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>(), names);
}

#[test]
fn a_full_server_is_healthy_and_not_ready() {
    let builder = workers(1).admin("127.0.0.1:0").max_connections(1).health_on_main(true);
    let server = builder.start(route).unwrap();
    let (admin, main) = (admin(&server), address(&server));
    assert_eq!(get(admin, "/readyz").body, "ready\n");
    let client = Client::upgrade(main);
    for at in [admin, main] {
        let health = get(at, "/healthz");
        assert_eq!((health.status, &health.body[..11]), (200, "ok\ndriver: "));
        assert_eq!(health.header("cache-control"), Some("no-store"));
        let mut client = Client::connect(at);
        client.write(b"HEAD /healthz HTTP/1.0\r\n\r\n");
        let head = client.read_to_end();
        let mut client = Client::connect(at);
        client.write(b"GET /healthz HTTP/1.0\r\n\r\n");
        assert_eq!(client.read_to_end(), head + health.body.len(), "a HEAD has no body");
        let ready = get(at, "/readyz");
        assert_eq!((ready.status, &*ready.body), (503, "max_connections is reached\n"));
    }
    drop(client);
    eventually(&server, "it has gone", |stats| stats.connections == 0);
    // On an address of the server, who asks takes the last place.
    assert_eq!((get(admin, "/readyz").status, get(main, "/readyz").status), (200, 503));
    server.stop().unwrap();
}

#[test]
fn a_connection_of_a_scraper_serves_several_requests_and_ends_with_the_server() {
    let server = workers(1).admin("127.0.0.1:0").health_on_main(true).start(route).unwrap();
    let clients = [admin(&server), address(&server)].map(|at| {
        let mut client = Client::connect(at);
        for path in ["/healthz", "/readyz", "/healthz"] {
            client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
            let response = client.response();
            assert_eq!((response.status, response.header("connection")), (200, Some("keep-alive")));
        }
        client
    });
    let [mut scraper, mut checker] = clients;
    for _ in 0..3 {
        scraper.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(scraper.response().body.ends_with("# EOF\n"));
    }
    // Whatever a client has asked before, it may upgrade.
    let mut upgraded = Client::connect(address(&server));
    upgraded.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(upgraded.response().status, 200);
    let mut upgraded = upgraded.upgraded();
    upgraded.echo(b"and back");
    let stopping = thread::spawn(move || server.stop());
    upgraded.expect_close(CloseCode::GOING_AWAY, "server is shutting down");
    checker.expect_eof();
    drop((upgraded, checker));
    scraper.expect_eof();
    stopping.join().unwrap().unwrap();
}

#[test]
fn the_factory_answers_what_is_not_asked_for() {
    let server = workers(1).start(route).unwrap();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(address(&server), path).body, "the factory's", "{path}");
    }
    assert!(server.admin_address().is_none());
    server.stop().unwrap();
    let server = workers(1).health_on_main(true).start(route).unwrap();
    assert_eq!(get(address(&server), "/metrics").body, "the factory's");
    // An upgrade is never answered for it.
    Client::upgrade_at(address(&server), "/healthz").echo(b"mine");
    server.stop().unwrap();
    let server = workers(1).metrics_on_main(true).start(route).unwrap();
    assert!(get(address(&server), "/metrics").body.ends_with("# EOF\n"));
    assert_eq!(get(address(&server), "/healthz").body, "the factory's");
    server.stop().unwrap();
}

#[test]
fn other_paths_of_the_admin_address_are_listed_or_not_found() {
    let server = workers(1).admin("127.0.0.1:0").start(route).unwrap();
    let (index, other) = (get(admin(&server), "/"), get(admin(&server), "/other"));
    assert_eq!((index.status, other.status), (200, 404));
    assert!(index.body.contains("/metrics\n") && other.body.contains("/readyz\n"));
    let mut client = Client::connect(admin(&server));
    client.write(b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().status, 405);
    server.stop().unwrap();
}

#[test]
fn a_server_that_stops_is_healthy_to_the_end_and_not_ready_at_once() {
    let builder = workers(1).admin("127.0.0.1:0").drain_timeout(Duration::from_secs(60));
    let server = builder.start(route).unwrap();
    let admin = admin(&server);
    let mut client = Client::upgrade(address(&server));
    let (monitor, stopper) = (server.monitor(), server.stopper());
    stopper.stop();
    let joining = thread::spawn(move || server.join());
    assert!(monitor.is_draining());
    let expect_draining = || {
        let (health, ready) = (get(admin, "/healthz"), get(admin, "/readyz"));
        assert_eq!((health.status, ready.status), (200, 503));
        assert_eq!(ready.body, "the server is stopping\n");
    };
    expect_draining();
    // Once more when the worker has begun to end its connections.
    assert_eq!(client.receive().head.msg_type, MsgType::Close);
    expect_draining();
    client.send(MsgType::Close, close_payload(1001, ""));
    client.read_to_end();
    drop(client);
    joining.join().unwrap().unwrap();
    assert!(std::net::TcpStream::connect(admin).is_err(), "it ends with the server");
}

#[test]
fn the_application_has_a_part_in_readiness() {
    let fault = Arc::new(Mutex::new(Some("no database yet")));
    let asked = Arc::clone(&fault);
    let builder = workers(1).admin("127.0.0.1:0").health_on_main(true).ready_when(move || {
        match *asked.lock().unwrap() {
            Some("panic") => panic!("in the check"),
            fault => fault.map_or(Ok(()), |fault| Err(fault.to_owned())),
        }
    });
    let server = builder.start(route).unwrap();
    let expect = |status: u16, body: &str| {
        for at in [admin(&server), address(&server)] {
            let ready = get(at, "/readyz");
            assert_eq!((ready.status, &*ready.body), (status, body));
            assert_eq!(get(at, "/healthz").status, 200, "it is not restarted for that");
        }
        let text = server.monitor().open_metrics();
        assert_eq!(sample(&text, "picows_ready"), f64::from(u8::from(status == 200)));
    };
    expect(503, "no database yet\n");
    // Connections are served all the same.
    Client::upgrade(address(&server)).echo(b"still");
    *fault.lock().unwrap() = Some("panic");
    // The lock is poisoned then; the reason stays one line.
    let text = get(admin(&server), "/readyz").body;
    assert_eq!(text, "the check of ready_when failed: panic: in the check\n");
    fault.clear_poison();
    *fault.lock().unwrap() = None;
    expect(200, "ready\n");
    server.stop().unwrap();
}

/// Blocks its worker until the test lets it go on.
struct Blocking(mpsc::Sender<()>, mpsc::Receiver<()>);

impl Listener for Blocking {
    fn on_connected(&mut self, _: &Transport) -> ListenerResult {
        self.0.send(())?;
        self.1.recv()?;
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

#[test]
fn a_blocked_worker_does_not_block_the_admin_address() {
    let (blocked, blocks) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let listener = Mutex::new(Some(Blocking(blocked, released)));
    let builder = workers(1).admin("127.0.0.1:0");
    let server =
        builder.start(move |_| Upgrade::accept(listener.lock().unwrap().take().unwrap())).unwrap();
    let mut client = Client::connect(address(&server));
    client.write(common::upgrade_request("/", "").as_bytes());
    next(&blocks);
    // Blocked for less than what makes it unhealthy.
    let text = get(admin(&server), "/metrics").body;
    assert_eq!(sample(&text, "picows_connections"), 1.0);
    release.send(()).unwrap();
    assert_eq!(client.response().status, 101);
    drop(client);
    server.stop().unwrap();
}

#[test]
fn an_admin_address_that_is_taken_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let error = workers(1).admin(&taken).start(route).unwrap_err().to_string();
    assert!(error.contains(&taken), "{error}");
}
