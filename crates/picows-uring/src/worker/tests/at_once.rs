//! Answers to compressed messages, which leave before the messages of others are expanded.

use super::bombs::{OFFER, Peer, REQUEST};
use super::offers::FULL;
use super::*;
use picows_uring_proto::{Deflate, FrameHead};

thread_local! {
    /// Those that have answered.
    static ANSWERED: RefCell<Vec<Transport>> = const { RefCell::new(Vec::new()) };
}

/// Writes down how many bytes of others have not left, and answers.
struct Answering;

impl Listener for Answering {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        ANSWERED.with_borrow_mut(|answered| {
            let waiting: usize = answered.iter().map(Transport::buffered_amount).sum();
            see(if waiting > 0 { "others wait" } else { "none waits" });
            answered.push(transport.clone());
        });
        transport.send(MsgType::Text, frame.payload());
        Ok(())
    }
}

/// Delivers a message of `len` bytes to each of three connections in one turn, whose sockets have `room`;
/// returns how often they were offered something before its end.
fn answer_three(len: usize, room: impl IntoIterator<Item = io::Result<usize>>) -> usize {
    let config = Config { deflate: Some(Deflate::new()), ..Config::default() };
    let mut fixture = Fixture::listening(Manner::default(), config);
    fixture.answer_with(Arc::new(|_: &_| Ok(Upgrade::accept(Answering))));
    let sockets = [7, 8, 9];
    for socket in sockets {
        fixture.worker.ring.connect(socket);
        fixture.turn();
        fixture.worker.ring.deliver_to(socket, format!("{REQUEST}{OFFER}\r\n").as_bytes());
        fixture.turn();
    }
    fixture.worker.ring.sent.clear();
    fixture.worker.ring.outlet.give(room);
    let text: String = ('a'..='z').cycle().take(len).collect();
    for socket in sockets {
        let wire = Peer::new().frame(FrameHead::new(MsgType::Text), text.as_bytes());
        fixture.worker.ring.deliver_to(socket, &wire);
    }
    ANSWERED.take();
    fixture.worker.turn().unwrap();
    let offers = fixture.worker.ring.outlet.asked();
    fixture.turn();
    fixture.worker.ring.gather();
    let sent = &fixture.worker.ring.sent;
    assert_eq!(sent.len() % 3, 0);
    let (first, others) = sent.split_at(sent.len() / 3);
    assert!(first.starts_with(&[0xC1]) && [first, first].concat() == others, "{sent:?}");
    assert!(ANSWERED.take().iter().all(|it| it.buffered_amount() == 0));
    offers
}

#[test]
fn answers_to_long_messages_leave_before_the_next_message_is_expanded() {
    assert_eq!(answer_three(1024, [FULL, FULL, FULL]), 3);
    assert_eq!(seen(), ["none waits", "none waits", "none waits"]);
}

#[test]
fn answers_to_short_messages_leave_together_when_the_turn_ends() {
    assert_eq!(answer_three(100, []), 0);
    assert_eq!(seen(), ["none waits", "others wait", "others wait"]);
}

#[test]
fn an_answer_that_its_socket_does_not_take_leaves_when_the_turn_ends() {
    let room = [Err(io::ErrorKind::WouldBlock.into()), FULL, FULL];
    assert_eq!(answer_three(1024, room), 3);
    assert_eq!(seen(), ["none waits", "others wait", "others wait"]);
}
