//! Relays between a peer and a server behind it, both in memory.

use super::SECOND;
use crate::testing::{Network, Peer};
use crate::{CloseCode, Connect, FrameHead, MsgType, Relay, Server, ServerBuilder, Upgrade, relay};
use std::cell::RefCell;
use std::rc::Rc;

/// A network whose server relays, with a client of it, and the listener for the connection behind.
fn relayed(builder: ServerBuilder) -> (Network, Peer, Relay) {
    let far = Rc::new(RefCell::new(None));
    let leaves = Rc::clone(&far);
    let network = Network::serve(builder, move |_| {
        let (near, far) = relay();
        *leaves.borrow_mut() = Some(far);
        Upgrade::accept(near)
    });
    let network = network.unwrap();
    let client = network.peer(Connect::new("ws://proxy/"));
    let far = far.take().unwrap();
    (network, client, far)
}

fn joined() -> (Network, Peer, Peer) {
    let (network, client, far) = relayed(Server::builder());
    let (_, behind) = network.dial(Connect::new("ws://behind/"), far).unwrap();
    (network, client, behind)
}

#[test]
fn frames_pass_both_ways_as_they_are() {
    let (_network, client, behind) = joined();
    client.send_frame(FrameHead::new(MsgType::Text).with_fin(false), "hel");
    client.send_frame(FrameHead::new(MsgType::Continuation), "lo");
    behind.send(MsgType::Binary, vec![7; 100_000]);
    let frames = behind.frames();
    let shown: Vec<_> = frames.iter().map(|it| (it.msg_type, it.fin, it.text())).collect();
    assert_eq!(shown[0], (MsgType::Text, false, "hel".to_owned()));
    assert_eq!(shown[1], (MsgType::Continuation, true, "lo".to_owned()));
    let frames = client.frames();
    assert_eq!((frames.len(), frames[0].payload.len()), (1, 100_000));
}

#[test]
fn what_comes_before_the_second_connection_is_kept() {
    let (network, client, far) = relayed(Server::builder());
    client.send_text("early");
    client.send_text("later");
    let (_, behind) = network.dial(Connect::new("ws://behind/"), far).unwrap();
    network.settle();
    assert_eq!(behind.texts(), ["early", "later"]);
    client.send_text("then");
    assert_eq!(behind.texts(), ["then"]);
}

#[test]
fn close_passes_with_code_and_reason() {
    for is_of_client in [true, false] {
        let (_network, client, behind) = joined();
        let (from, to) = if is_of_client { (&client, &behind) } else { (&behind, &client) };
        from.send_close(CloseCode::POLICY_VIOLATION, "enough");
        assert_eq!(to.close(), Some((CloseCode::POLICY_VIOLATION, "enough".to_owned())));
        assert!(client.is_ended() && behind.is_ended());
    }
}

#[test]
fn an_end_without_close_is_one_with_a_code_for_the_other() {
    let (_network, client, behind) = joined();
    client.reset();
    assert_eq!(behind.close().unwrap().0, CloseCode::GOING_AWAY);
    let (_network, client, behind) = joined();
    behind.reset();
    assert_eq!(client.close().unwrap().0, CloseCode::BAD_GATEWAY);
    // The second connection cannot be made.
    let (network, client, far) = relayed(Server::builder());
    drop(far);
    network.advance(SECOND);
    assert_eq!(client.close().unwrap().0, CloseCode::BAD_GATEWAY);
    // The first is gone before the second is there.
    let (network, client, far) = relayed(Server::builder());
    client.send_close(CloseCode::NORMAL, "bye");
    client.reset();
    let (_, behind) = network.dial(Connect::new("ws://behind/"), far).unwrap();
    network.settle();
    assert!(behind.close().is_some() && behind.is_ended());
}

#[test]
fn a_slow_side_holds_the_other_back_and_loses_nothing() {
    let (network, client, behind) = joined();
    behind.pause_reading();
    for number in 0..40_u8 {
        client.send(MsgType::Binary, vec![number; 50_000]);
    }
    let stats = network.stats();
    // Far less than all has been taken in.
    assert!(stats.bytes_received < 20 * 50_000, "{}", stats.bytes_received);
    behind.resume_reading();
    let frames = behind.frames();
    let numbers: Vec<_> = frames.iter().map(|frame| frame.payload[0]).collect();
    assert_eq!(numbers, (0..40).collect::<Vec<_>>());
}

#[test]
fn pings_end_where_they_are_answered_and_pass_where_not() {
    let (_network, client, behind) = joined();
    client.send(MsgType::Ping, "p");
    assert_eq!(client.frames()[0].msg_type, MsgType::Pong);
    assert!(behind.frames().is_empty());
    let (network, client, far) = relayed(Server::builder().auto_pong(false));
    let connect = Connect::new("ws://behind/").auto_pong(false);
    let (_, behind) = network.dial(connect, far).unwrap();
    client.send(MsgType::Ping, "p");
    let frames = behind.frames();
    assert_eq!((frames[0].msg_type, frames[0].text()), (MsgType::Ping, "p".to_owned()));
    // The answer is that of the peer behind.
    assert_eq!(client.frames()[0].msg_type, MsgType::Pong);
}
