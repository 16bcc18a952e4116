//! Decisions about requests that take time: `Upgrade::later`, and its ends.

mod common;

use common::{
    Client, Event, address, eventually, masked, next, recorder, upgrade_request, workers,
};
use http::{HeaderValue, StatusCode, header};
use picows_uring::{
    EchoListener, FrameHead, ListenerError, MsgType, ServerBuilder, ServerHandle, Stats, Upgrade,
    UpgradeRequest, UpgradeResponse, WorkerState,
};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tokio::sync::Semaphore;

/// What lets decisions go on, one for each permit.
type Gate = Arc<Semaphore>;

/// Reports that it was dropped.
struct Dropped(Sender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

async fn passed(gate: Gate) {
    gate.acquire_owned().await.expect("it is not closed").forget();
}

/// A server that decides about each request when `gate` lets it, as `decide` says.
fn gated(
    builder: ServerBuilder,
    decide: impl Fn(&UpgradeRequest) -> Upgrade + Clone + Send + Sync + 'static,
) -> (ServerHandle, Gate) {
    let gate = Gate::new(Semaphore::new(0));
    let passes = Arc::clone(&gate);
    let started = builder.start(move |request| {
        let (gate, request, decide) = (Arc::clone(&passes), request.clone(), decide.clone());
        Upgrade::later(async move {
            passed(gate).await;
            decide(&request)
        })
    });
    (started.expect("it starts"), gate)
}

fn echo(_: &UpgradeRequest) -> Upgrade {
    Upgrade::accept(EchoListener)
}

/// A server whose decisions never come, and the channel on which their futures report their end.
fn undecided(builder: ServerBuilder) -> (ServerHandle, std::sync::mpsc::Receiver<()>) {
    let (ends, dropped) = channel();
    let started = builder.start(move |_| {
        let guard = Dropped(ends.clone());
        Upgrade::later(async move {
            let _guard = guard;
            std::future::pending::<Upgrade>().await
        })
    });
    (started.expect("it starts"), dropped)
}

/// Sends a request, without waiting for the answer.
fn asking(server: &ServerHandle, path: &str) -> Client {
    let mut client = Client::connect(address(server));
    client.write(upgrade_request(path, "").as_bytes());
    client
}

/// Ends a server whose clients do not answer CLOSE.
fn end(server: ServerHandle) -> Stats {
    server.stop_within(Duration::ZERO).expect("no worker has failed")
}

/// The one worker of `server` runs.
#[track_caller]
fn lives(server: &ServerHandle) {
    let states: Vec<_> = server.monitor().workers().map(|worker| worker.state).collect();
    assert_eq!(states, [WorkerState::Running]);
}

#[test]
fn a_request_is_accepted_later_and_its_neighbours_are_served_meanwhile() {
    let (server, gate) = gated(workers(1), |request| match request.path() {
        "/now" => Upgrade::accept(EchoListener),
        _ => Upgrade::accept(EchoListener).with_subprotocol("chat"),
    });
    gate.add_permits(1);
    let mut neighbour = Client::upgrade_at(address(&server), "/now");
    let mut client = Client::connect(address(&server));
    client.write(upgrade_request("/", "Sec-WebSocket-Protocol: chat\r\n").as_bytes());
    eventually(&server, "both are there", |stats| stats.connections == 2);
    neighbour.echo(b"still served");
    gate.add_permits(1);
    let response = client.response();
    assert_eq!((response.status, response.header("Sec-WebSocket-Protocol")), (101, Some("chat")));
    client.echo(b"and so is this one");
    end(server);
}

#[test]
fn frames_that_come_early_are_delivered_after_on_connected_in_their_order() {
    let (events, seen) = channel();
    let (server, gate) = gated(workers(1), move |_| {
        Upgrade::accept(recorder(&events, |transport, frame| {
            transport.send(frame.msg_type(), frame.payload());
            Ok(())
        }))
    });
    let mut client = Client::connect(address(&server));
    let first = masked(FrameHead::new(MsgType::Text), b"first");
    client.write(&[upgrade_request("/", "").as_bytes(), &first[..]].concat());
    let second = masked(FrameHead::new(MsgType::Text), b"second");
    for part in second.chunks(5) {
        client.write(part);
    }
    eventually(&server, "it is there", |stats| stats.connections == 1);
    assert!(seen.try_recv().is_err(), "no event before the decision");
    gate.add_permits(1);
    assert_eq!(client.response().status, 101);
    client.expect_text("first");
    client.expect_text("second");
    client.echo(b"third");
    assert_eq!(next(&seen), Event::Connected);
    for text in [&b"first"[..], b"second"] {
        assert_eq!(next(&seen), Event::Frame(MsgType::Text, text.to_vec()));
    }
    end(server);
}

#[test]
fn more_that_comes_early_waits_in_the_socket() {
    // Far more than receive buffers hold, so that it cannot all have been taken.
    const COUNT: usize = 4000;
    const LEN: usize = 10_000;
    let (server, gate) = gated(workers(1), echo);
    let mut client = asking(&server, "/");
    let frames = masked(FrameHead::new(MsgType::Binary), &[b'x'; LEN]).repeat(COUNT);
    eventually(&server, "it is there", |stats| stats.connections == 1);
    std::thread::scope(|scope| {
        let opener = scope.spawn(|| {
            // More than a handshake; how much one receive brings is not known.
            eventually(&server, "some has come", |stats| stats.bytes_received > 8_000);
            let received = server.stats().bytes_received;
            gate.add_permits(1);
            received
        });
        let mut sender = client.sender();
        scope.spawn(move || sender.write(&frames));
        assert_eq!(client.response().status, 101);
        assert!((0..COUNT).all(|_| client.receive().payload.len() == LEN));
        let received = opener.join().expect("it does not panic");
        assert!(received < (COUNT * LEN / 2) as u64, "{received} bytes before the decision");
    });
    end(server);
}

#[test]
fn any_other_answer_may_come_later_too() {
    let (server, gate) = gated(workers(1), |request| {
        let unauthorized = UpgradeResponse::text(StatusCode::UNAUTHORIZED, "who are you?\n");
        match request.path() {
            "/twice" => Upgrade::later(async { Upgrade::accept(EchoListener) }),
            "/fine" => Upgrade::respond(UpgradeResponse::ok().with_body("fine")),
            _ => Upgrade::respond(unauthorized),
        }
    });
    gate.add_permits(4);
    let response = Client::connect(address(&server)).ask("/", "");
    assert_eq!((response.status, &*response.body), (401, "who are you?\n"));
    let mut plain = Client::connect(address(&server));
    plain.write(b"GET /fine HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = plain.response();
    assert_eq!((response.status, &*response.body), (200, "fine"));
    plain.expect_eof();
    let mut head = Client::connect(address(&server));
    head.write(b"HEAD /fine HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.read_to_end() > 0);
    Client::upgrade_at(address(&server), "/twice").echo(b"at the second try");
    end(server);
}

#[test]
fn what_is_added_to_a_later_answer_is_added_when_it_comes() {
    let builder = workers(1);
    let server = builder.start(|_| {
        let later = Upgrade::later(async { Upgrade::accept(EchoListener) });
        later.with_header(header::SERVER, HeaderValue::from_static("it")).with_subprotocol("chat")
    });
    let server = server.expect("it starts");
    let response = Client::connect(address(&server)).ask("/", "Sec-WebSocket-Protocol: chat\r\n");
    assert_eq!(response.header("Server"), Some("it"));
    assert_eq!(response.header("Sec-WebSocket-Protocol"), Some("chat"));
    end(server);
}

#[test]
fn errors_and_panics_cost_the_request_alone() {
    let server = workers(1).start(|request| match request.path() {
        "/panic" => Upgrade::later(async {
            tokio::task::yield_now().await;
            resume_unwind(Box::new("on purpose"));
            #[expect(unreachable_code)]
            Upgrade::not_found()
        }),
        "/error" => Upgrade::later(async { Err::<Upgrade, ListenerError>("no database".into()) }),
        _ => Upgrade::accept(EchoListener),
    });
    let server = server.expect("it starts");
    let mut neighbour = Client::upgrade(address(&server));
    for path in ["/panic", "/error"] {
        let mut client = Client::connect(address(&server));
        let response = client.ask(path, "");
        assert_eq!((response.status, &*response.body), (500, "internal server error\n"), "{path}");
        client.expect_eof();
    }
    neighbour.echo(b"still there?");
    lives(&server);
    assert_eq!(end(server).listener_errors, 2);
}

/// Panics when it is dropped.
struct Trap;

impl Drop for Trap {
    fn drop(&mut self) {
        resume_unwind(Box::new("on purpose"));
    }
}

#[test]
fn a_future_that_panics_as_it_is_dropped_costs_its_request_alone() {
    let builder = workers(1).handshake_timeout(Duration::from_millis(50));
    let server = builder.start(|request| match request.path() {
        "/pending" => Upgrade::later(async {
            let _trap = Trap;
            std::future::pending::<Upgrade>().await
        }),
        "/decided" => Upgrade::later(async {
            let _trap = Trap;
            Upgrade::accept(EchoListener)
        }),
        _ => Upgrade::accept(EchoListener),
    });
    let server = server.expect("it starts");
    let mut neighbour = Client::upgrade(address(&server));
    // Dropped when its time is over, when its client leaves, and when it has decided, which is lost then.
    assert_eq!(asking(&server, "/pending").response().status, 503);
    drop(asking(&server, "/pending"));
    assert_eq!(asking(&server, "/decided").response().status, 500);
    eventually(&server, "all but one have gone", |stats| stats.connections == 1);
    neighbour.echo(b"still there?");
    lives(&server);
    end(server);
}

#[test]
fn a_client_that_leaves_drops_the_future() {
    for is_reset in [false, true] {
        let (server, dropped) = undecided(workers(1).handshake_timeout(None));
        let client = asking(&server, "/");
        eventually(&server, "it is there", |stats| stats.connections == 1);
        if is_reset {
            client.reset();
        } else {
            drop(client);
        }
        next(&dropped);
        eventually(&server, "it has gone", |stats| stats.connections == 0);
        end(server);
    }
}

#[test]
fn a_decision_that_never_comes_is_dropped_in_time_and_answered() {
    let (server, dropped) = undecided(workers(1).handshake_timeout(Duration::from_millis(50)));
    for early in [&b""[..], b"\x81"] {
        let mut client = asking(&server, "/");
        client.write(early);
        let response = client.response();
        assert_eq!((response.status, &*response.body), (503, "no decision in time\n"));
        next(&dropped);
    }
    lives(&server);
    assert_eq!(end(server).listener_errors, 2);
}

#[test]
fn a_decision_counts_as_a_handshake() {
    let (server, gate) = gated(workers(1).max_handshakes(1), echo);
    let mut first = asking(&server, "/");
    eventually(&server, "it is there", |stats| stats.connections == 1);
    let refused = Client::connect(address(&server)).ask("/", "");
    assert_eq!((refused.status, &*refused.body), (503, "too many handshakes in progress\n"));
    gate.add_permits(2);
    assert_eq!(first.response().status, 101);
    first.echo(b"open");
    Client::upgrade(address(&server)).echo(b"there is room again");
    end(server);
}

#[test]
fn a_server_that_stops_answers_those_who_wait() {
    // Also one that has sent a part of a frame, and whose end comes behind it.
    for early in [&b""[..], b"\x81"] {
        let (server, dropped) = undecided(workers(1));
        let mut client = asking(&server, "/");
        client.write(early);
        eventually(&server, "it is there", |stats| stats.connections == 1);
        let stopped = std::thread::spawn(|| server.stop());
        let response = client.response();
        assert_eq!((response.status, &*response.body), (503, "server is shutting down\n"));
        next(&dropped);
        drop(client);
        stopped.join().expect("it does not panic").expect("no worker has failed");
    }
}

#[test]
fn a_server_that_is_dropped_drops_the_future() {
    let (server, dropped) = undecided(workers(1));
    let _client = asking(&server, "/");
    eventually(&server, "it is there", |stats| stats.connections == 1);
    drop(server);
    next(&dropped);
}

#[test]
fn a_dedicated_worker_has_no_loop_for_it() {
    let (server, dropped) = undecided(workers(1).dedicated(true));
    let response = Client::connect(address(&server)).ask("/", "");
    assert_eq!((response.status, &*response.body), (500, "internal server error\n"));
    next(&dropped);
    assert_eq!(end(server).listener_errors, 1);
}
