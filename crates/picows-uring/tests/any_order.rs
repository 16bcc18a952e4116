//! Fragments in an order that is the application's.

mod common;

use common::{Client, Got, address, masked, on_frame, workers};
use picows_uring::{
    CloseCode, Error, FrameHead, MsgType, QueuePolicy, SendStatus, ServerBuilder, Upgrade,
};

/// Data frames that RFC 6455 allows in no order.
fn frames() -> Vec<(FrameHead, &'static [u8])> {
    let (text, more) = (FrameHead::new(MsgType::Text), FrameHead::new(MsgType::Continuation));
    vec![
        (more, b"an end"),
        (text.with_fin(false), b"a beginning"),
        (text.with_rsv(4), b"\xFF a text inside"),
        (more.with_fin(false), b"a part"),
        (FrameHead::new(MsgType::Binary), b"another"),
    ]
}

fn exchange(client: &mut Client) {
    for (head, payload) in frames() {
        client.write(&masked(head, payload));
    }
}

#[test]
fn frames_are_received_and_sent_as_they_come() {
    let server = workers(1).any_order(true).allow_rsv(7).start(|_| {
        Upgrade::accept(on_frame(|transport, frame| {
            if frame.msg_type() != MsgType::Close {
                assert_eq!(transport.send_like(frame, frame.payload()), SendStatus::Queued);
            }
            Ok(())
        }))
    });
    let server = server.expect("a server");
    let mut client = Client::upgrade(address(&server));
    exchange(&mut client);
    for (head, payload) in frames() {
        assert_eq!(client.receive(), Got { head, payload: payload.to_vec() });
    }
    client.send_close(1000, "");
    client.expect_close(CloseCode::NORMAL, "");
}

#[test]
fn without_it_the_first_frame_out_of_order_is_the_end() {
    let server = workers(1).start(|_| Upgrade::accept(on_frame(|_, _| Ok(()))));
    let server = server.expect("a server");
    let mut client = Client::upgrade(address(&server));
    exchange(&mut client);
    let close = client.receive();
    assert_eq!((close.head.msg_type, &close.payload[..2]), (MsgType::Close, &[3, 0xEA][..]));
}

#[test]
fn what_has_to_know_messages_excludes_it() {
    let refused = |builder: ServerBuilder| {
        let error = builder.any_order(true).start(|_| Upgrade::not_found()).map(drop);
        let error = error.expect_err("they exclude each other");
        assert!(matches!(error, Error::Config { setting: "any_order", .. }), "{error}");
    };
    refused(workers(1).validate_text(true));
    refused(workers(1).max_queue_size(1 << 20, QueuePolicy::DropOldest));
}
