//! The ways to send, their order, what they say of themselves, and sending to others.

mod common;

use bytes::Bytes;
use common::{Client, Got, address, next, noise, on_frame, workers};
use picows_uring::{
    ApiMisuse, CloseCode, FRAME_HEADER_BYTES_MAX, Frame, FrameHead, Listener, ListenerResult,
    MsgType, SendStatus, Transport, Upgrade,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc;

const TEXT: FrameHead = FrameHead::new(MsgType::Text);
const BINARY: FrameHead = FrameHead::new(MsgType::Binary);
const CONTINUATION: FrameHead = FrameHead::new(MsgType::Continuation);

#[test]
fn every_way_to_send_keeps_its_place_in_the_queue() {
    let server = workers(1)
        .start(|_| Upgrade::accept(on_frame(|transport, _| send_in_every_way(transport))))
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    for _ in 0..3 {
        client.send_text("go");
        for (number, wanted) in sent_in_every_way().into_iter().enumerate() {
            assert_eq!(client.receive(), wanted, "frame {number}");
        }
    }
}

/// Around the length up to which a payload kept by reference is copied all the same.
const SHARED_SIZES: [usize; 5] = [0, 1023, 1024, 1025, 100_000];
/// More than fit into one send.
const SEGMENTS: usize = 150;

fn send_in_every_way(transport: &Transport) -> ListenerResult {
    assert_eq!(transport.send(MsgType::Text, "a slice"), SendStatus::Queued);
    for size in SHARED_SIZES {
        transport.send_bytes(BINARY, &Bytes::from(noise(1, size)));
        transport.send_text("between");
    }
    for size in [0, 125, 126, 50_000, 70_000] {
        let mut buffer = vec![0; FRAME_HEADER_BYTES_MAX + 3];
        buffer.extend(noise(2, size));
        transport.send_headroom(BINARY, buffer, FRAME_HEADER_BYTES_MAX + 3);
    }
    transport.send_frame(TEXT.with_fin(false), b"Hel");
    transport.send_ping("in the middle of a message");
    transport.send_bytes(CONTINUATION.with_fin(false), &Bytes::from_static(&[b'x'; 2000]));
    transport.send_pong("unasked");
    transport.send_frame(CONTINUATION, b"lo");
    for number in 0..SEGMENTS {
        transport.send_bytes(BINARY, &Bytes::from(noise(number as u64, 2_000)));
    }
    transport.send_text("the end");
    Ok(())
}

fn sent_in_every_way() -> Vec<Got> {
    let binary = |seed, size| Got::new(MsgType::Binary, noise(seed, size));
    let fragment = |head: FrameHead, payload: &[u8]| Got { head, payload: payload.to_vec() };
    let mut sent = vec![Got::new(MsgType::Text, "a slice")];
    for size in SHARED_SIZES {
        sent.push(binary(1, size));
        sent.push(Got::new(MsgType::Text, "between"));
    }
    sent.extend([0, 125, 126, 50_000, 70_000].map(|size| binary(2, size)));
    sent.push(fragment(TEXT.with_fin(false), b"Hel"));
    sent.push(Got::new(MsgType::Ping, "in the middle of a message"));
    sent.push(fragment(CONTINUATION.with_fin(false), &[b'x'; 2000]));
    sent.push(Got::new(MsgType::Pong, "unasked"));
    sent.push(fragment(CONTINUATION, b"lo"));
    sent.extend((0..SEGMENTS).map(|number| binary(number as u64, 2_000)));
    sent.push(Got::new(MsgType::Text, "the end"));
    sent
}

#[test]
fn send_like_keeps_type_fin_and_allowed_rsv_bits() {
    let server = workers(1)
        .allow_rsv(0b101)
        .start(|_| {
            Upgrade::accept(on_frame(|transport, frame| {
                transport.send_like(frame, frame.payload());
                Ok(())
            }))
        })
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    let heads = [
        TEXT.with_rsv(0b100),
        BINARY.with_rsv(0b101).with_fin(false),
        CONTINUATION.with_rsv(0b001).with_fin(false),
        CONTINUATION,
    ];
    for head in heads {
        client.write(&common::masked(head, b"payload"));
        assert_eq!(client.receive(), Got { head, payload: b"payload".to_vec() });
    }
    // RFC 6455 §5.2: a bit that no extension gave a meaning to.
    client.write(&common::masked(TEXT.with_rsv(0b010), b"payload"));
    client.expect_close(CloseCode::PROTOCOL_ERROR, "Received frame with unexpected RSV bits");
}

#[test]
fn frames_are_forwarded_whatever_pieces_they_came_in() {
    let server = workers(1).start(|_| Upgrade::accept(picows_uring::EchoListener)).unwrap();
    let mut client = Client::upgrade(address(&server));
    for size in [0, 125, 1024, 1025, 70_000, 300_000, 2_000_000] {
        for _ in 0..3 {
            client.echo(&noise(size as u64, size));
        }
    }
}

#[test]
fn what_would_break_the_rfc_is_refused_and_not_sent() {
    let (told, tells) = mpsc::channel();
    let server = workers(1)
        .start(move |_| {
            let told = told.clone();
            Upgrade::accept(on_frame(move |transport, _| {
                let _ = told.send(refused_sends(transport));
                transport.send_text("nothing came before");
                Ok(())
            }))
        })
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    client.send_text("go");
    let wanted = [
        ApiMisuse::CloseThroughSend,
        ApiMisuse::CloseThroughSend,
        ApiMisuse::CloseThroughSend,
        ApiMisuse::ControlPayloadTooLong(126),
        ApiMisuse::ControlPayloadTooLong(126),
        ApiMisuse::FragmentedControlFrame,
        ApiMisuse::InvalidRsv(8),
        ApiMisuse::HeadroomTooSmall(13),
        ApiMisuse::HeadroomPastEnd { start: 21, len: 20 },
    ];
    assert_eq!(next(&tells), wanted.map(SendStatus::Refused));
    client.expect_text("nothing came before");
    assert_eq!(server.stats().frames_sent, 1);
}

fn refused_sends(transport: &Transport) -> [SendStatus; 9] {
    let close = FrameHead::new(MsgType::Close);
    let ping = FrameHead::new(MsgType::Ping);
    [
        transport.send(MsgType::Close, ""),
        transport.send_bytes(close, &Bytes::new()),
        transport.send_headroom(close, vec![0; 20], 14),
        transport.send_ping([0; 126]),
        transport.send_bytes(ping, &Bytes::from_static(&[0; 126])),
        transport.send_frame(ping.with_fin(false), b""),
        transport.send_frame(TEXT.with_rsv(8), b""),
        transport.send_headroom(TEXT, vec![0; 20], 13),
        transport.send_headroom(TEXT, vec![0; 20], 21),
    ]
}

#[test]
fn nothing_is_sent_after_close() {
    let (told, tells) = mpsc::channel();
    let server = workers(1)
        .start(move |_| {
            let told = told.clone();
            Upgrade::accept(on_frame(move |transport, _| {
                let before = transport.is_close_frame_sent();
                let close = transport.send_close(CloseCode::NORMAL, "enough");
                let after = [
                    transport.send_text("late"),
                    transport.send_bytes(BINARY, &Bytes::from_static(&[0; 5000])),
                    transport.send_headroom(BINARY, vec![0; 20], 14),
                    transport.send_ping(""),
                    transport.send_close(CloseCode::GOING_AWAY, "really"),
                ];
                let _ = told.send((before, close, after, transport.is_close_frame_sent()));
                Ok(())
            }))
        })
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    client.send_text("go");
    assert_eq!(next(&tells), (false, SendStatus::Queued, [SendStatus::Closed; 5], true));
    client.expect_close(CloseCode::NORMAL, "enough");
    client.send_close(1000, "");
    client.expect_eof();
}

#[test]
fn the_queue_is_counted_and_a_peer_that_takes_it_is_no_reason_to_pause() {
    let (told, tells) = mpsc::channel();
    let server = workers(1)
        .write_watermarks(10_000, 1_000)
        .start(move |_| {
            let told = told.clone();
            Upgrade::accept(on_frame(move |transport, _| {
                assert_eq!(transport.buffered_amount(), 0);
                let counted = [9_000, 2_000].map(|len| {
                    let status = transport.send(MsgType::Binary, vec![0; len]);
                    (status, transport.buffered_amount())
                });
                let _ = told.send(counted);
                Ok(())
            }))
        })
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    for _ in 0..3 {
        client.send_text("go");
        // Above the watermark, the socket is offered all of it.
        assert_eq!(next(&tells), [(SendStatus::Queued, 9_000 + 4), (SendStatus::Queued, 0)]);
        assert_eq!((client.receive().payload.len(), client.receive().payload.len()), (9000, 2000));
    }
}

#[test]
fn what_on_connected_sends_follows_the_response() {
    struct Greeter;
    impl Listener for Greeter {
        fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
            transport.send_text("welcome");
            Ok(())
        }
        fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
            Ok(())
        }
    }
    let server = workers(1).start(|_| Upgrade::accept(Greeter)).unwrap();
    Client::upgrade(address(&server)).expect_text("welcome");
}

#[test]
fn pings_are_answered_unless_that_is_off() {
    let server = workers(1).start(|_| Upgrade::accept(on_frame(|_, _| Ok(())))).unwrap();
    let mut client = Client::upgrade(address(&server));
    client.send(MsgType::Ping, noise(1, 125));
    assert_eq!(client.receive(), Got::new(MsgType::Pong, noise(1, 125)));

    let delivered = on_frame_delivered_to_text();
    let server = workers(1).auto_pong(false).start(delivered).unwrap();
    let mut client = Client::upgrade(address(&server));
    client.send(MsgType::Ping, "ping");
    client.expect_text("Ping: ping");
}

fn on_frame_delivered_to_text()
-> impl Fn(&picows_uring::UpgradeRequest) -> Upgrade + Send + Sync + 'static {
    |_| {
        Upgrade::accept(on_frame(|transport, frame| {
            transport.send_text(format!("{:?}: {}", frame.msg_type(), frame.text()?));
            Ok(())
        }))
    }
}

thread_local! {
    /// Who is in the room of this worker.
    static ROOM: Rc<RefCell<Vec<(u32, Transport)>>> = Rc::default();
}

/// Sends the text of a command to all in the room, itself included.
struct Member {
    room: Rc<RefCell<Vec<(u32, Transport)>>>,
    name: u32,
}

impl Member {
    fn say(&self, what: &str) {
        // Some of it is shared, as in a fan-out of large messages.
        let payload = Bytes::from(format!("{}: {what} {}", self.name, "x".repeat(2000)));
        for (_, transport) in self.room.borrow().iter() {
            transport.send_bytes(TEXT, &payload);
        }
    }
}

impl Listener for Member {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.room.borrow_mut().push((self.name, transport.clone()));
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Text {
            self.say(frame.text()?);
        }
        Ok(())
    }

    fn on_disconnected(&mut self, _: &Transport) {
        self.room.borrow_mut().retain(|(name, _)| *name != self.name);
        self.say("left");
    }
}

#[test]
fn a_room_hears_everybody_in_the_same_order() {
    const MEMBERS: u32 = 30;
    const MESSAGES: u32 = 20;
    let server = workers(1)
        .start(|request| {
            let name = request.path().trim_start_matches('/').parse()?;
            let room = ROOM.with(Rc::clone);
            Ok::<_, std::num::ParseIntError>(Upgrade::accept(Member { room, name }))
        })
        .unwrap();
    let join = |name| Client::upgrade_at(address(&server), &format!("/{name}"));
    let mut members: Vec<_> = (0..MEMBERS).map(join).collect();
    for message in 0..MESSAGES {
        for member in &mut members {
            member.send_text(&message.to_string());
        }
    }
    let heard: Vec<Vec<_>> = members
        .iter_mut()
        .map(|member| (0..MEMBERS * MESSAGES).map(|_| member.receive().payload).collect())
        .collect();
    assert!(heard.iter().all(|of_one| *of_one == heard[0]), "in the same order for everybody");
    for name in 0..MEMBERS {
        let prefix = format!("{name}: ");
        let from_one = heard[0].iter().filter(|said| said.starts_with(prefix.as_bytes()));
        let wanted = (0..MESSAGES).map(|message| format!("{prefix}{message} "));
        assert!(from_one.zip(wanted).all(|(said, wanted)| said.starts_with(wanted.as_bytes())));
    }
    members.remove(7).reset();
    for member in &mut members {
        assert!(member.receive().payload.starts_with(b"7: left "));
    }
}

/// A handle outlives its connection, and says so instead of doing anything.
#[test]
fn a_handle_to_a_dead_connection_is_harmless() {
    thread_local!(static DEAD: RefCell<Option<Transport>> = const { RefCell::new(None) });
    struct Witness;
    impl Listener for Witness {
        fn on_frame(&mut self, transport: &Transport, _: &Frame<'_>) -> ListenerResult {
            let Some(dead) = DEAD.take() else {
                DEAD.set(Some(transport.clone()));
                transport.disconnect();
                return Ok(());
            };
            dead.disconnect();
            dead.abort();
            let told = format!(
                "{:?} {:?} {} {} {} {:?} {:?} {:?}",
                dead.send_text("anybody?"),
                dead.send_close(CloseCode::NORMAL, ""),
                dead.is_disconnected(),
                dead.is_open(),
                dead.buffered_amount(),
                dead.local_addr(),
                dead.with_socket(|_| ()),
                dead.request().map(picows_uring::UpgradeRequest::path),
            );
            transport.send_text(&told);
            Ok(())
        }
    }
    let server = workers(1).start(|_| Upgrade::accept(Witness)).unwrap();
    let mut dead = Client::upgrade_at(address(&server), "/dead");
    dead.send_text("die");
    dead.expect_eof();
    drop(dead);
    common::eventually(&server, "it is gone", |stats| stats.slots == 0);
    let mut other = Client::upgrade(address(&server));
    other.send_text("look");
    other.expect_text("Closed Closed true false 0 None None Some(\"/dead\")");
}
