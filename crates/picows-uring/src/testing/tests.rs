//! Tests of what users test with: transports, peers and networks in memory.

use super::{Network, Peer, client_transport, transport};
use crate::{
    AutoPing, CloseCode, Connect, ConnectFault, DisconnectCause, EchoListener, Error, Frame,
    FrameHead, Listener, ListenerResult, MsgType, QueuePolicy, SendStatus, Server, Transport,
    Upgrade, UpgradeResponse,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

mod edges;
mod relaying;

const SECOND: Duration = Duration::from_secs(1);

fn echo() -> Network {
    Network::serve(Server::builder(), |_| Upgrade::accept(EchoListener)).unwrap()
}

/// Records the callbacks of a connection.
#[derive(Clone, Default)]
struct Record(Rc<RefCell<Vec<String>>>);

impl Record {
    fn take(&self) -> Vec<String> {
        self.0.take()
    }

    fn push(&self, event: impl Into<String>) {
        self.0.borrow_mut().push(event.into());
    }
}

impl Listener for Record {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.push(format!("connected {}", transport.subprotocol().unwrap_or("-")));
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        self.push(format!("{:?} {}", frame.msg_type(), frame.text()?));
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        self.push(format!("{:?}", transport.disconnect_cause()));
    }

    fn pause_writing(&mut self, _: &Transport) {
        self.push("pause");
    }

    fn resume_writing(&mut self, _: &Transport) {
        self.push("resume");
    }
}

#[test]
fn a_transport_sends_to_its_peer_on_both_sides() {
    for (transport, sent) in [transport(), client_transport()] {
        assert!(transport.is_open());
        assert_eq!(transport.send_text("hello"), SendStatus::Queued);
        let head = FrameHead::new(MsgType::Binary).with_fin(false);
        assert_eq!(transport.send_frame(head, b"par"), SendStatus::Queued);
        let _ = transport.send_close(CloseCode::NORMAL, "bye");
        let frames = sent.frames();
        let types: Vec<_> = frames.iter().map(|it| (it.msg_type, it.fin)).collect();
        let expected = [(MsgType::Text, true), (MsgType::Binary, false), (MsgType::Close, true)];
        assert_eq!(types, expected);
        assert_eq!((frames[0].text(), frames[1].payload.as_ref()), ("hello".into(), &b"par"[..]));
        assert_eq!(sent.close(), Some((CloseCode::NORMAL, "bye".to_owned())));
        assert!(sent.is_ended() && sent.fault().is_none());
        assert!(transport.is_disconnected());
        assert_eq!(transport.send_text("late"), SendStatus::Closed);
    }
}

#[test]
fn a_client_of_the_library_talks_to_a_server_of_it() {
    let network = echo();
    let record = Record::default();
    let client = network.client(Connect::new("ws://test/"), record.clone()).unwrap();
    client.send_text("hello");
    let large = vec![7; 1 << 20];
    client.send(MsgType::Binary, &large);
    network.settle();
    let mut events = record.take();
    // The message is larger than the high watermark.
    events.retain(|event| event != "pause" && event != "resume");
    assert_eq!(events[..2], ["connected -", "Text hello"]);
    assert_eq!(events[2].len(), "Binary ".len() + large.len());
    client.send_close(CloseCode::NORMAL, "");
    network.settle();
    assert_eq!(record.take(), ["Some(Closed(the connection was closed))"], "after CLOSE");
    let stats = network.stats();
    assert_eq!((stats.connections, stats.disconnected), (0, 2));
}

#[test]
fn a_handshake_has_its_answer() {
    let network = Network::serve(Server::builder(), |request| match request.path() {
        "/chat" => Upgrade::accept(EchoListener).with_subprotocol("chat"),
        _ => Upgrade::respond(UpgradeResponse::text(http::StatusCode::FORBIDDEN, "no\n")),
    });
    let network = network.unwrap();
    let offer = |path: &str| Connect::new(format!("ws://test{path}")).subprotocol("chat");
    let peer = network.peer(offer("/chat"));
    assert_eq!(peer.status().unwrap(), 101);
    assert_eq!(peer.response().unwrap().subprotocol(), Some("chat"));
    let refused = network.peer(offer("/"));
    assert_eq!((refused.status().unwrap().as_u16(), &refused.body()[..]), (403, &b"no\n"[..]));
    assert!(refused.is_ended());
    let error = network.client(offer("/"), EchoListener).unwrap_err();
    assert!(matches!(error.fault(), ConnectFault::Response(_)), "{error}");
    let record = Record::default();
    network.client(offer("/chat"), record.clone()).unwrap();
    assert_eq!(record.take(), ["connected chat"]);
}

#[test]
fn a_client_is_tested_with_a_server_by_hand() {
    let record = Record::default();
    let connect = Connect::new("ws://test/feed?x=1").header("X-Key", "1").subprotocol("a");
    let (transport, peer) = Network::new().dial(connect, record.clone()).unwrap();
    let request = peer.request().unwrap();
    assert_eq!((request.target(), request.header_str("x-key")), ("/feed?x=1", Some("1")));
    peer.send_text("tick");
    peer.send_close(CloseCode::GOING_AWAY, "");
    assert_eq!(record.take()[..2], ["connected a", "Text tick"]);
    assert!(transport.is_disconnected() && peer.is_ended());
}

#[test]
fn pings_and_their_deadlines_come_as_time_passes() {
    let ping = AutoPing::new(10 * SECOND, 5 * SECOND);
    let builder = Server::builder().auto_ping(ping);
    let network = Network::serve(builder, |_| Upgrade::accept(EchoListener)).unwrap();
    let peer = network.peer(Connect::new("ws://test/"));
    let pings =
        |peer: &Peer| peer.frames().iter().filter(|frame| frame.msg_type == MsgType::Ping).count();
    network.advance(9 * SECOND);
    assert_eq!(pings(&peer), 0);
    network.advance(2 * SECOND);
    assert_eq!(pings(&peer), 1);
    network.advance(60 * SECOND);
    assert!(pings(&peer) >= 4 && !peer.is_ended(), "it answers");
    peer.answer_pings(false);
    network.advance(16 * SECOND);
    assert!(peer.is_ended());
    assert_eq!(peer.close().unwrap().0, CloseCode::GOING_AWAY);
    assert_eq!(network.now(), 87 * SECOND);
}

#[test]
fn a_handshake_times_out_in_no_time() {
    // A server that never answers: it is no server.
    let network = Network::serve(Server::builder(), |_| Upgrade::accept(EchoListener)).unwrap();
    let peer = network.peer(Connect::new("ws://test/"));
    assert_eq!(peer.status().unwrap(), 101);
    network.advance(3600 * SECOND);
    assert!(!peer.is_ended(), "an open connection has no such deadline");
    let error = Network::new().client(Connect::new("ws://test/"), EchoListener).unwrap_err();
    assert!(matches!(error.fault(), ConnectFault::Unreachable { .. }), "{error}");
}

#[test]
fn a_peer_that_does_not_read_makes_the_queue_grow() {
    let record = Record::default();
    let kept = Rc::new(RefCell::new(None));
    let (listener, keep) = (record.clone(), Rc::clone(&kept));
    let builder = Server::builder().max_queue_size(1 << 20, QueuePolicy::DropNewest);
    let network = Network::serve(builder, move |_| {
        Upgrade::accept(Keeping { record: listener.clone(), keep: Rc::clone(&keep) })
    });
    let network = network.unwrap();
    let peer = network.peer(Connect::new("ws://test/"));
    let transport: Transport = kept.take().unwrap();
    peer.pause_reading();
    let payload = [0; 100_000];
    let statuses: Vec<_> = (0..20)
        .map(|_| {
            let status = transport.send(MsgType::Binary, payload);
            network.settle();
            status
        })
        .collect();
    assert_eq!(statuses[0], SendStatus::Queued);
    assert!(statuses.contains(&SendStatus::Dropped), "{statuses:?}");
    assert_eq!(record.take(), ["pause"]);
    peer.resume_reading();
    assert_eq!(record.take(), ["resume"]);
    assert_eq!(transport.buffered_amount(), 0);
    assert!(peer.frames().len() >= 10);
}

/// Leaves its transport outside.
struct Keeping {
    record: Record,
    keep: Rc<RefCell<Option<Transport>>>,
}

impl Listener for Keeping {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        *self.keep.borrow_mut() = Some(transport.clone());
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        self.record.on_frame(transport, frame)
    }

    fn pause_writing(&mut self, transport: &Transport) {
        self.record.pause_writing(transport);
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.record.resume_writing(transport);
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        self.record.on_disconnected(transport);
    }
}

#[test]
fn ends_of_all_kinds_reach_the_listener() {
    type End = (fn(&Peer), fn(&DisconnectCause) -> bool);
    let ends: [End; 4] = [
        (|peer| peer.hang_up(), |cause| matches!(cause, DisconnectCause::EndOfStream)),
        (|peer| peer.reset(), |cause| matches!(cause, DisconnectCause::Io(_))),
        (
            |peer| peer.send_raw([0x81, 0x00]),
            |cause| matches!(cause, DisconnectCause::PeerMisbehaved(_)),
        ),
        (|peer| peer.send_close(None, ""), |cause| matches!(cause, DisconnectCause::Closed)),
    ];
    for (index, (end, is_expected)) in ends.into_iter().enumerate() {
        let (transport, peer) = transport();
        end(&peer);
        let cause = transport.disconnect_cause();
        assert!(cause.as_ref().is_some_and(is_expected), "{index}: {cause:?}");
        assert!(transport.is_disconnected(), "{index}");
    }
}

#[test]
fn a_server_stops_gracefully() {
    let network = echo();
    let (willing, silent) =
        (network.peer(Connect::new("ws://test/")), network.peer(Connect::new("ws://test/")));
    silent.answer_close(false);
    network.stop_within(4 * SECOND);
    network.advance(3 * SECOND);
    assert_eq!(willing.close().unwrap().0, CloseCode::GOING_AWAY);
    assert!(willing.is_ended() && !silent.is_ended());
    network.advance(2 * SECOND);
    assert!(silent.is_ended());
}

#[test]
fn commands_of_other_threads_arrive() {
    let (transport, sent) = transport();
    let remote = transport.remote();
    std::thread::spawn(move || remote.send(MsgType::Text, "from elsewhere"))
        .join()
        .unwrap()
        .unwrap();
    assert_eq!(sent.texts(), ["from elsewhere"]);
}

#[test]
fn settings_that_make_no_sense_are_errors() {
    let error = Network::serve(Server::builder().workers(0), |_| Upgrade::not_found()).unwrap_err();
    assert!(matches!(error, Error::Config { setting: "workers", .. }), "{error}");
    let error = echo().client(Connect::new("wss://test/"), EchoListener).unwrap_err();
    assert!(matches!(error.fault(), ConnectFault::Url(_)), "{error}");
}

#[test]
fn a_network_is_not_used_inside_of_its_callbacks() {
    /// Calls into its own network.
    struct Nested(Rc<RefCell<Option<Network>>>);

    impl Listener for Nested {
        fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
            self.0.borrow().as_ref().unwrap().settle();
            Ok(())
        }
    }

    let own = Rc::<RefCell<Option<Network>>>::default();
    let inner = Rc::clone(&own);
    let served =
        Network::serve(Server::builder(), move |_| Upgrade::accept(Nested(Rc::clone(&inner))));
    *own.borrow_mut() = Some(served.unwrap());
    let network = own.borrow().clone().unwrap();
    let peer = network.peer(Connect::new("ws://test/"));
    peer.send_text("go");
    assert_eq!(peer.close().unwrap().0, CloseCode::INTERNAL_ERROR);
    own.take();
}
