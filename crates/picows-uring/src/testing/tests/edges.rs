//! Edges of the interface: ids of connections, listeners of all kinds, ends of batches, round trips.

use super::{Record, SECOND};
use crate::testing::{Network, transport};
use crate::{
    AutoPing, Connect, ConnectFault, Frame, FramePiece, Listener, ListenerError, ListenerResult,
    Message, MessageListener, Messages, MsgType, RemoteTransport, Server, Transport, Upgrade,
};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

fn connect(network: &Network) -> crate::testing::Peer {
    network.peer(Connect::new("ws://test/"))
}

/// A text frame of a client, masked with zeros.
fn text(payload: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload.as_bytes());
    frame
}

#[test]
#[expect(clippy::mutable_key_type, reason = "their hash is that of the id, which never changes")]
fn handles_of_a_connection_are_equal_and_of_two_are_not() {
    let (first, _first_sent) = transport();
    let (second, _second_sent) = transport();
    assert_eq!(first, first.clone());
    assert_ne!(first, second);
    assert_ne!(first.id(), second.id());
    let remotes: HashSet<RemoteTransport> =
        [first.remote(), first.remote(), second.remote()].into_iter().collect();
    assert_eq!(remotes.len(), 2);
    assert!(remotes.iter().any(|remote| remote.id() == first.id()));
    let mut names = HashMap::new();
    names.insert(first.clone(), "first");
    assert_eq!(names.get(&first.clone()), Some(&"first"));
    assert!(format!("{first:?}").contains(&first.id().to_string()));
}

#[test]
fn ids_are_not_used_again() {
    let ids = Rc::new(std::cell::RefCell::new(Vec::new()));
    let seen = Rc::clone(&ids);
    let network = Network::serve(Server::builder(), move |_| {
        let seen = Rc::clone(&seen);
        Upgrade::accept(move |transport: &Transport, _: &Frame<'_>| {
            seen.borrow_mut().push(transport.id());
            Ok(())
        })
    });
    let network = network.unwrap();
    for _ in 0..3 {
        let peer = connect(&network);
        peer.send_text("hello");
        peer.reset();
    }
    let ids: HashSet<_> = ids.borrow().iter().copied().collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn text_is_sent_from_whatever_holds_it() {
    let (transport, sent) = transport();
    transport.send_text("a");
    transport.send_text(String::from("b"));
    let owned = String::from("c");
    transport.send_text(&owned);
    assert_eq!(owned, "c");
    transport.remote().send_text(format!("{}", 1)).unwrap();
    assert_eq!(sent.texts(), ["a", "b", "c", "1"]);
}

#[test]
fn a_boxed_listener_gets_every_callback() {
    let record = Record::default();
    let boxed = record.clone();
    let network = Network::serve(Server::builder(), move |_| {
        let boxed: Box<dyn Listener> = Box::new(boxed.clone());
        // As a listener, not as a box that `accept_boxed` knows.
        Upgrade::accept(boxed)
    });
    let peer = connect(&network.unwrap());
    peer.send_text("hello");
    peer.hang_up();
    let events = record.take();
    assert_eq!(events[..2], ["connected -", "Text hello"]);
    assert_eq!(events.len(), 3, "{events:?}");
}

/// Wants frames in pieces that are longer than control frames may be.
struct InPieces(Record);

impl Listener for InPieces {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        self.0.on_frame(transport, frame)
    }

    fn pieces_of_frames_above(&self) -> Option<u64> {
        Some(125)
    }

    fn on_piece(&mut self, _: &Transport, piece: &FramePiece<'_>) -> ListenerResult {
        self.0.push(format!("piece of {}", piece.payload().len()));
        Ok(())
    }

    fn on_batch_end(&mut self, _: &Transport) -> ListenerResult {
        self.0.push("end");
        Ok(())
    }
}

#[test]
fn a_boxed_listener_has_its_pieces_and_their_batches_end() {
    let record = Record::default();
    let of_listener = record.clone();
    let network = Network::serve(Server::builder(), move |_| {
        let boxed: Box<dyn Listener> = Box::new(InPieces(of_listener.clone()));
        Upgrade::accept(boxed)
    });
    let peer = connect(&network.unwrap());
    // A header with a length of two bytes, and a mask of zeros.
    let long = [vec![0x81, 0x80 | 126, 0, 200, 0, 0, 0, 0], vec![b'x'; 200]].concat();
    peer.send_raw([text("a"), long.clone()].concat());
    assert_eq!(record.take(), ["Text a", "piece of 200", "end"]);
    peer.send_raw(&long[..10]);
    assert_eq!(record.take(), ["piece of 2", "end"]);
}

/// Records frames, and where a batch ends; fails at `stop`.
struct Batches(Record);

impl Listener for Batches {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.payload() == b"stop" {
            return Err(ListenerError::from("it said stop"));
        }
        self.0.on_frame(transport, frame)
    }

    fn on_batch_end(&mut self, _: &Transport) -> ListenerResult {
        self.0.push("end");
        Ok(())
    }
}

impl MessageListener for Batches {
    fn on_message(&mut self, _: &Transport, message: Message<'_>) -> ListenerResult {
        self.0.push(format!("message {}", message.payload().len()));
        Ok(())
    }

    fn on_batch_end(&mut self, _: &Transport) -> ListenerResult {
        self.0.push("end");
        Ok(())
    }
}

fn batches() -> (Network, Record) {
    let record = Record::default();
    let of_listener = record.clone();
    let network =
        Network::serve(Server::builder(), move |_| Upgrade::accept(Batches(of_listener.clone())));
    (network.unwrap(), record)
}

#[test]
fn a_batch_ends_once_after_its_last_frame() {
    let (network, record) = batches();
    let peer = connect(&network);
    peer.send_raw([text("a"), text("b"), text("c")].concat());
    assert_eq!(record.take(), ["Text a", "Text b", "Text c", "end"]);
    // A frame that is cut is in the batch of its end.
    peer.send_raw([text("d"), text("e")[..3].to_vec()].concat());
    assert_eq!(record.take(), ["Text d", "end"]);
    peer.send_raw(&text("e")[3..]);
    assert_eq!(record.take(), ["Text e", "end"]);
}

#[test]
fn what_the_listener_does_not_get_ends_no_batch() {
    let (network, record) = batches();
    let peer = connect(&network);
    peer.send(MsgType::Ping, "hello");
    peer.send_raw(&text("never finished")[..4]);
    assert_eq!(record.take(), [""; 0]);
}

#[test]
fn a_batch_with_close_ends_and_one_that_failed_does_not() {
    let (network, record) = batches();
    let peer = connect(&network);
    peer.send_raw([text("a"), vec![0x88, 0x80, 0, 0, 0, 0]].concat());
    assert_eq!(record.take(), ["Text a", "Close ", "end"]);
    let peer = connect(&network);
    peer.send_raw([text("a"), text("stop"), text("b")].concat());
    assert_eq!(record.take(), ["Text a"]);
    assert!(peer.close().is_some());
}

#[test]
fn batches_of_messages_end_as_well() {
    let record = Record::default();
    let of_listener = record.clone();
    let network = Network::serve(Server::builder(), move |_| {
        Upgrade::accept(Messages::new(Batches(of_listener.clone())))
    });
    let peer = connect(&network.unwrap());
    peer.send_raw([text("a"), text("bc")].concat());
    assert_eq!(record.take(), ["message 1", "message 2", "end"]);
}

#[test]
fn the_last_round_trip_of_automatic_pings_is_known() {
    let (silent, _sent) = transport();
    assert_eq!((silent.last_roundtrip(), silent.remote().last_roundtrip()), (None, None));

    let kept = Rc::new(std::cell::Cell::new(None));
    let keep = Rc::clone(&kept);
    let builder = Server::builder().auto_ping(AutoPing::new(10 * SECOND, 5 * SECOND));
    let network = Network::serve(builder, move |_| {
        let keep = Rc::clone(&keep);
        Upgrade::accept(move |transport: &Transport, _: &Frame<'_>| {
            keep.set(Some(transport.clone()));
            Ok(())
        })
    });
    let network = network.unwrap();
    let peer = connect(&network);
    peer.send_text("hello");
    let transport: Transport = kept.take().unwrap();
    let remote = transport.remote();
    assert_eq!(transport.last_roundtrip(), None);
    peer.pause_reading();
    network.advance(12 * SECOND);
    assert_eq!(transport.last_roundtrip(), None, "no answer yet");
    peer.resume_reading();
    let roundtrip = transport.last_roundtrip();
    // The timer wheel is exact to about a millisecond.
    let late = (2 * SECOND).abs_diff(roundtrip.unwrap());
    assert!(late < SECOND / 100, "{roundtrip:?}");
    assert_eq!(
        (remote.last_roundtrip(), transport.remote().last_roundtrip()),
        (roundtrip, roundtrip)
    );
}

#[test]
fn query_and_credentials_of_a_client_reach_the_server() {
    let connect = Connect::new("ws://test/feed?a=1")
        .query("stream", "btc/usd & eth")
        .query("b", "2")
        .basic_auth("user", "pa:ss")
        .header(http::header::ORIGIN, http::HeaderValue::from_static("https://test"))
        .header("X-Key", vec![0x31]);
    let (_, peer) = Network::new().dial(connect, Record::default()).unwrap();
    let request = peer.request().unwrap();
    assert_eq!(request.target(), "/feed?a=1&stream=btc%2Fusd+%26+eth&b=2");
    assert_eq!(request.header_str("authorization"), Some("Basic dXNlcjpwYTpzcw=="));
    assert_eq!(request.header_str("origin"), Some("https://test"));
    let wrong = Connect::new("ws://test/").basic_auth("us:er", "x");
    let error = Network::new().dial(wrong, Record::default()).unwrap_err();
    let is_named = matches!(error.fault(), ConnectFault::Setting { setting: "basic_auth", .. });
    assert!(is_named, "{error}");
}
