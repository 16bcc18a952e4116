//! Several listening sockets: each with its own factory, settings and limits, and closed by itself.

use super::log::warnings;
use super::*;
use picows_uring_proto::UpgradeResponse;

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const FIRST: ListenerId = ListenerId { index: 0, generation: 0 };

/// With the listening socket 3.
fn fixture() -> Fixture {
    Fixture::listening(Manner::default(), Config::default())
}

/// Listens on a further socket, for one connection.
fn listen_strictly(fixture: &mut Fixture, socket: i32) -> (ListenerId, Arc<Config>) {
    let admission = Some(Arc::default());
    let config = Config { connections_max: Some(1), admission, ..Config::default() };
    let factory: Arc<Factory> = Arc::new(|_: &_| Ok(Upgrade::accept(Actor(Manner::default()))));
    let config = Arc::new(config);
    let listening = Listening::new(Arc::clone(&config), factory);
    (fixture.worker.listen(Socket(socket), &listening), config)
}

fn join_on(fixture: &mut Fixture, listening: i32, socket: i32) -> String {
    fixture.worker.ring.connect_to(listening, socket);
    fixture.turn();
    request(fixture, socket, REQUEST)
}

fn request(fixture: &mut Fixture, socket: i32, bytes: &[u8]) -> String {
    fixture.worker.ring.deliver_to(socket, bytes);
    fixture.turn();
    let sent = std::mem::take(&mut fixture.worker.ring.sent);
    String::from_utf8_lossy(&sent).lines().next().unwrap_or_default().to_owned()
}

fn is_closed(fixture: &Fixture, socket: i32) -> bool {
    fixture.worker.ring.closed.contains(&Socket(socket))
}

const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols";
const REFUSED: &str = "HTTP/1.1 503 Service Unavailable";

#[test]
fn each_has_its_own_limits_and_settings() {
    let mut fixture = fixture();
    let (id, config) = listen_strictly(&mut fixture, 4);
    assert_ne!(id, FIRST);
    assert_eq!(join_on(&mut fixture, 4, 7), ACCEPTED);
    assert_eq!(join_on(&mut fixture, 4, 8), REFUSED);
    assert_eq!(join_on(&mut fixture, 3, 9), ACCEPTED, "the limit is that of the other");
    assert_eq!(join_on(&mut fixture, 3, 10), ACCEPTED);
    let strict: Vec<_> = (fixture.worker.slots.iter_mut())
        .map(|it| it.session())
        .filter(|it| Arc::ptr_eq(&it.config, &config))
        .map(|it| it.socket.get().unwrap())
        .collect();
    assert_eq!(strict, [Socket(7), Socket(8)]);
    // Room is free where the connection was counted.
    fixture.worker.ring.end_of(Socket(9), ReceiveResult::EndOfStream);
    fixture.turn();
    assert_eq!(join_on(&mut fixture, 4, 11), REFUSED);
    fixture.worker.ring.end_of(Socket(7), ReceiveResult::EndOfStream);
    fixture.turn();
    assert!(config.admission.as_ref().unwrap().is_empty());
    assert!(!fixture.admission().is_empty());
    assert_eq!(join_on(&mut fixture, 4, 12), ACCEPTED);
}

#[test]
fn each_has_its_own_factory() {
    let mut fixture = fixture();
    let admission = Some(Arc::default());
    let config = Arc::new(Config { admission, ..Config::default() });
    let factory: Arc<Factory> = Arc::new(|_: &_| {
        Ok(Upgrade::respond(UpgradeResponse::text(http::StatusCode::IM_A_TEAPOT, "short\n")))
    });
    fixture.worker.listen(Socket(4), &Listening::new(config, factory));
    assert!(join_on(&mut fixture, 4, 7).starts_with("HTTP/1.1 418"));
    assert_eq!(join_on(&mut fixture, 3, 8), ACCEPTED);
}

#[test]
fn a_socket_that_is_closed_leaves_its_connections_and_their_handshakes() {
    let mut fixture = fixture();
    let (id, _) = listen_strictly(&mut fixture, 4);
    assert_eq!(join_on(&mut fixture, 3, 7), ACCEPTED);
    fixture.worker.ring.connect_to(3, 8);
    fixture.turn();
    fixture.worker.ring.deliver_to(8, &REQUEST[..20]);
    fixture.turn();
    fixture.worker.close_listener(FIRST);
    assert!(!is_closed(&fixture, 3), "not before its last completion");
    fixture.turn();
    assert!(is_closed(&fixture, 3) && fixture.worker.is_listener_closed(FIRST));
    assert!(!is_closed(&fixture, 4) && !fixture.worker.is_listener_closed(id));
    assert_eq!(request(&mut fixture, 8, &REQUEST[20..]), ACCEPTED);
    for socket in [7, 8] {
        fixture.say_to(socket, TEXT, b"still here");
    }
    assert_eq!(seen(), ["Text still here"; 2]);
    assert_eq!(join_on(&mut fixture, 4, 9), ACCEPTED, "the other accepts");
    // Again does nothing.
    fixture.worker.close_listener(FIRST);
    fixture.turn();
    assert_eq!(fixture.worker.ring.closed.iter().filter(|it| it.0 == 3).count(), 1);
}

#[test]
fn what_waits_in_the_backlog_is_served_before_the_socket_is_closed() {
    let mut fixture = fixture();
    fixture.worker.close_listener(FIRST);
    fixture.worker.ring.backlog.extend([Socket(7), Socket(8)]);
    fixture.turn();
    assert!(is_closed(&fixture, 3));
    for socket in [7, 8] {
        assert_eq!(request(&mut fixture, socket, REQUEST), ACCEPTED);
    }
}

#[test]
fn the_last_that_is_closed_does_not_end_the_worker() {
    let mut fixture = fixture();
    assert_eq!(join_on(&mut fixture, 3, 7), ACCEPTED);
    fixture.worker.close_listener(FIRST);
    fixture.turn();
    fixture.worker.ring.end_of(Socket(7), ReceiveResult::EndOfStream);
    fixture.turn();
    assert_eq!(fixture.worker.turn().unwrap(), Turn::Idle);
    // It may listen again, and is stopped as any.
    let (id, _) = listen_strictly(&mut fixture, 5);
    assert_eq!(id, FIRST.next(), "an id of the past names no later socket");
    fixture.worker.close_listener(FIRST);
    fixture.turn();
    assert!(!is_closed(&fixture, 5));
    assert_eq!(join_on(&mut fixture, 5, 8), ACCEPTED);
    fixture.worker.stop(Duration::ZERO);
    fixture.turn();
    fixture.go(SECOND);
    assert!(is_closed(&fixture, 5) && is_closed(&fixture, 8));
    assert_eq!(fixture.worker.turn().unwrap(), Turn::Done);
}

#[test]
fn one_is_closed_while_accepting_pauses() {
    let mut fixture = fixture();
    let lines = warnings(|| {
        fixture.worker.ring.fail_accept(libc::EMFILE);
        fixture.turn();
        fixture.worker.close_listener(FIRST);
        fixture.turn();
    });
    assert_eq!((lines.len(), fixture.stats().accept_pauses), (1, 1), "{lines:?}");
    assert!(is_closed(&fixture, 3));
    let accepts = fixture.worker.ring.accepts;
    fixture.go(10 * SECOND);
    assert_eq!(fixture.worker.ring.accepts, accepts, "nothing is left to resume");
}

#[test]
fn a_worker_that_stops_listens_no_more() {
    let mut fixture = fixture();
    fixture.worker.close_listener(FIRST);
    fixture.worker.stop(SECOND);
    listen_strictly(&mut fixture, 4);
    while fixture.worker.turn().unwrap() != Turn::Done {}
    assert!(is_closed(&fixture, 3) && is_closed(&fixture, 4));
}

#[test]
fn a_factory_goes_with_its_socket_and_the_last_handshake() {
    let mut fixture = fixture();
    let factory: Arc<Factory> = Arc::new(|_: &_| Ok(Upgrade::accept(Actor(Manner::default()))));
    let config = Config { admission: Some(Arc::default()), ..Config::default() };
    let listening = Listening::new(Arc::new(config), Arc::clone(&factory));
    let id = fixture.worker.listen(Socket(4), &listening);
    drop(listening);
    fixture.worker.ring.connect_to(4, 7);
    fixture.turn();
    fixture.worker.close_listener(id);
    fixture.turn();
    assert_eq!(Arc::strong_count(&factory), 2, "a handshake is under way");
    assert_eq!(request(&mut fixture, 7, REQUEST), ACCEPTED);
    assert_eq!(Arc::strong_count(&factory), 1);
}
