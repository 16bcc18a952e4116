//! Tests of a chat room without a kernel: the example of the guide "Testing".

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

use picows_uring::testing::{Network, Peer, client_transport, transport};
use picows_uring::{
    AutoPing, CloseCode, Connect, Frame, Listener, ListenerError, ListenerResult, MsgType, Server,
    Transport, Upgrade,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

type Room = Rc<RefCell<Vec<Transport>>>;

/// A member of the room: what it sends, all members get.
struct Member {
    room: Room,
}

impl Listener for Member {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.room.borrow_mut().push(transport.clone());
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Binary {
            return Err(ListenerError::close(CloseCode::UNSUPPORTED_DATA, "text only"));
        }
        for member in self.room.borrow().iter() {
            member.send_like(frame, frame.payload());
        }
        Ok(())
    }

    fn on_disconnected(&mut self, _: &Transport) {
        self.room.borrow_mut().retain(|it| !it.is_disconnected());
    }
}

fn serve(room: &Room) -> Network {
    let room = Rc::clone(room);
    let ping = AutoPing::new(Duration::from_secs(30), Duration::from_secs(10));
    let builder = Server::builder().auto_ping(ping);
    Network::serve(builder, move |_| Upgrade::accept(Member { room: Rc::clone(&room) })).unwrap()
}

fn join(network: &Network) -> Peer {
    network.peer(Connect::new("ws://chat.test/"))
}

#[test]
fn a_listener_is_called_by_the_test() {
    let (room, (transport, sent)) = (Room::default(), transport());
    let mut member = Member { room: Rc::clone(&room) };
    member.on_connected(&transport).unwrap();
    assert_eq!(room.borrow().len(), 1);

    let refused = member.on_frame(&transport, &Frame::new(MsgType::Binary, b"\0"));
    assert!(refused.is_err());

    room.borrow()[0].send_text("hello");
    assert_eq!(sent.texts(), ["hello"]);
}

#[test]
fn what_a_member_says_all_hear() {
    let room = Room::default();
    let network = serve(&room);
    let (ann, bob) = (join(&network), join(&network));
    ann.send_text("hello");
    assert_eq!(bob.texts(), ["hello"]);

    ann.send(MsgType::Binary, [0]);
    assert_eq!(ann.close(), Some((CloseCode::UNSUPPORTED_DATA, "text only".to_owned())));
    assert_eq!(room.borrow().len(), 1);
}

#[test]
fn a_member_that_disappears_is_missed_after_forty_seconds() {
    let room = Room::default();
    let network = serve(&room);
    let silent = join(&network);
    silent.answer_pings(false);
    network.advance(Duration::from_secs(39));
    assert_eq!(room.borrow().len(), 1);
    network.advance(Duration::from_secs(2));
    assert_eq!(room.borrow().len(), 0);
}

#[test]
fn a_client_is_tested_with_a_server_that_the_test_plays() {
    let (transport, server) = client_transport();
    let subscribe = |transport: &Transport| transport.send_text("subscribe");
    assert!(subscribe(&transport).is_queued());
    assert_eq!(server.texts(), ["subscribe"]);
    server.reset();
    assert!(transport.is_disconnected());
}
