use super::*;
use crate::config::Config;
use crate::health::Counters;
use crate::local::Local;
use crate::mailbox::Mailbox;
use crate::ring::{Completion, ReceiveResult, Room};
use crate::testing::ring::scripted::ByHand;
use picows_uring_proto::Role;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

const SOCKET: Socket = Socket(7);
const TOKEN: Token = Token { slot: 0, generation: 0 };
/// More than is asked for to receive directly.
const MUCH: usize = 1024 * 1024;

/// A link on a scripted ring, and its session.
struct Fixture {
    ring: ByHand,
    session: Rc<Session>,
    link: Link,
}

impl Fixture {
    fn new() -> Self {
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let mailbox = Arc::new(Mailbox::new(Arc::new(event)));
        let config = Arc::new(Config::default());
        let local = Local::new(Arc::clone(&config), Arc::<Counters>::default(), mailbox);
        let session = Session::new(&local, &config, Role::Server, TOKEN, SOCKET, None);
        Self { ring: ByHand::default(), session, link: Link::default() }
    }

    fn queue(&self, bytes: &[u8]) {
        self.session.queue_raw(bytes.len(), |out| out.extend_from_slice(bytes));
    }

    /// Sends what is to be sent, as the only connection of its round or as one of several.
    fn send(&mut self, is_alone: bool) -> io::Result<()> {
        let offer_max = offer_max(&self.ring, if is_alone { 1 } else { 2 });
        let batch = self.session.take_batch().expect("there is something to send");
        self.link.send(&mut self.ring, &self.session, SOCKET, batch, offer_max)
    }

    fn completions(&mut self) -> Vec<Completion> {
        let mut completions = Vec::new();
        self.ring.poll(16, &mut completions).unwrap();
        completions
    }

    /// Has the link handle the completion of its send.
    fn complete_send(&mut self, is_ended: bool) -> io::Result<()> {
        match self.completions().pop() {
            Some(Completion::Sent { result, batch, .. }) => {
                self.link.on_sent(&self.session, result, batch, is_ended)
            }
            other => panic!("{other:?}"),
        }
    }

    /// The bytes queued, and those in flight.
    fn counts(&self) -> (usize, usize) {
        (self.session.queued(), self.session.in_flight())
    }

    /// Has a piece delivered.
    fn piece(&mut self, bytes: &[u8]) -> Piece {
        self.link.receive(&mut self.ring, SOCKET, TOKEN);
        self.ring.deliver(bytes);
        match self.completions().pop() {
            Some(Completion::Received { result: ReceiveResult::Data(buffer), .. }) => {
                Piece::new(buffer)
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_rest_of_a_send_leaves_before_what_was_queued_since() {
    let mut fixture = Fixture::new();
    fixture.queue(b"0123456789");
    fixture.ring.is_stuck = true;
    fixture.send(false).unwrap();
    fixture.queue(b"abc");
    assert_eq!(fixture.counts(), (3, 10));
    fixture.ring.take(4);
    fixture.complete_send(false).unwrap();
    assert_eq!(fixture.counts(), (9, 0), "the rest counts as queued again");
    assert!(!fixture.link.is_flushed(&fixture.session) && !fixture.link.is_busy(&fixture.session));
    fixture.send(false).unwrap();
    assert_eq!(
        (fixture.counts(), fixture.ring.sending().concat()),
        ((0, 9), b"456789abc".to_vec())
    );
    fixture.ring.unstick();
    fixture.complete_send(false).unwrap();
    assert!(fixture.link.is_flushed(&fixture.session));
    assert_eq!(fixture.ring.sent, b"0123456789abc");
}

#[test]
fn a_connection_alone_sends_to_the_socket_and_the_rest_by_the_ring() {
    let mut fixture = Fixture::new();
    fixture.ring.room.extend([Ok(6), Ok(2)]);
    fixture.ring.is_stuck = true;
    fixture.queue(b"all of");
    fixture.send(true).unwrap();
    assert_eq!((fixture.counts(), &fixture.ring.sent[..]), ((0, 0), &b"all of"[..]));
    fixture.queue(b"a part");
    fixture.send(true).unwrap();
    assert_eq!((fixture.counts(), fixture.ring.sending().concat()), ((0, 4), b"part".to_vec()));
    fixture.ring.unstick();
    fixture.complete_send(false).unwrap();
    assert_eq!(fixture.ring.sent, b"all ofa part");
    // One of several does not ask its socket.
    fixture.ring.room.push_back(Ok(100));
    fixture.queue(b"!");
    fixture.send(false).unwrap();
    assert_eq!((fixture.ring.room.len(), fixture.session.in_flight()), (1, 1));
}

#[test]
fn where_each_send_is_a_call_every_batch_is_offered_first() {
    let mut fixture = Fixture::new();
    fixture.ring.is_one_by_one = true;
    fixture.ring.is_stuck = true;
    fixture.queue(&[1; MUCH]);
    fixture.ring.room.extend([Ok(MUCH), Ok(4)]);
    fixture.send(false).unwrap();
    assert_eq!((fixture.counts(), fixture.ring.sent.len()), ((0, 0), MUCH), "no completion");
    fixture.queue(b"a part");
    fixture.send(false).unwrap();
    assert_eq!((fixture.counts(), fixture.ring.sending().concat()), ((0, 2), b"rt".to_vec()));
}

#[test]
fn a_failed_send_drops_its_batch_and_keeps_nothing_in_flight() {
    let mut fixture = Fixture::new();
    fixture.queue(b"bytes");
    fixture.ring.room.push_back(Err(io::ErrorKind::BrokenPipe.into()));
    let error = fixture.send(true).unwrap_err();
    assert_eq!((error.kind(), fixture.counts()), (io::ErrorKind::BrokenPipe, (0, 0)));
    // The same where the ring reports it, and where it says that nothing left.
    for result in [Err(io::ErrorKind::BrokenPipe.into()), Ok(0)] {
        let is_error = result.is_err();
        fixture.queue(b"bytes");
        fixture.ring.is_stuck = true;
        fixture.send(false).unwrap();
        fixture.ring.take(0);
        let Some(Completion::Sent { batch, .. }) = fixture.completions().pop() else {
            panic!("it has a completion")
        };
        let error = fixture.link.on_sent(&fixture.session, result, batch, false).unwrap_err();
        assert_eq!(error.kind() == io::ErrorKind::BrokenPipe, is_error);
        assert_eq!(fixture.counts(), (0, 0));
        assert!(fixture.link.is_flushed(&fixture.session));
    }
}

#[test]
fn the_rest_of_a_send_goes_with_a_connection_that_has_ended() {
    let mut fixture = Fixture::new();
    fixture.queue(b"bytes");
    fixture.ring.is_stuck = true;
    fixture.send(false).unwrap();
    fixture.ring.take(2);
    fixture.complete_send(true).unwrap();
    assert_eq!(fixture.counts(), (0, 0));
}

#[test]
fn a_direct_receive_waits_for_the_end_of_the_receive_in_flight() {
    let mut fixture = Fixture::new();
    let Fixture { ring, session, link } = &mut fixture;
    link.receive(ring, SOCKET, TOKEN);
    assert!(!link.begins_direct(ring, TOKEN, true), "its bytes come before");
    assert!(link.is_receiving() && !ring.is_receiving(7), "it was cancelled");
    assert!(!link.begins_direct(ring, TOKEN, true));
    link.on_receive_completion(session, &ReceiveResult::Cancelled, false);
    assert!(link.begins_direct(ring, TOKEN, true));
    let mut memory = Vec::new();
    ring.waiting.extend([Ok(vec![b'a'; 10]), Ok(Vec::new())]);
    let room = Room::new(&mut memory, 0, 10, 10).unwrap();
    let received = link.receive_now(ring, session, room, 10).unwrap();
    assert!(matches!(received, Direct::Bytes { count: 10, is_full: true }), "{received:?}");
    let room = Room::new(&mut memory, 0, 10, 10).unwrap();
    assert!(matches!(link.receive_now(ring, session, room, 10), Ok(Direct::EndOfStream)));
    let room = Room::new(&mut memory, 0, 10, 10).unwrap();
    assert!(matches!(link.receive_now(ring, session, room, 10), Ok(Direct::Empty)));
    assert_eq!((memory, session.local.counters.bytes_received.get()), (vec![b'a'; 10], 10));
    // From then on one by itself, until none has been large for a while.
    link.receive(ring, SOCKET, TOKEN);
    assert!(ring.is_single(7));
    let mut receives = 0;
    while link.is_bulk() {
        assert!(!link.begins_direct(ring, TOKEN, false));
        receives += 1;
    }
    assert_eq!(receives, 16);
}

#[test]
fn a_direct_receive_ends_with_the_budget_of_the_turn() {
    let mut link = Link::default();
    let fixture = Fixture::new();
    let rules = &fixture.session.local.budget_rules;
    assert!(link.is_worth_direct(MUCH) && !link.is_worth_direct(1000));
    let piece = link.direct_max(1, rules, MUCH, usize::MAX).unwrap();
    assert!((1..MUCH).contains(&piece), "a piece that stays in cache: {piece}");
    assert_eq!(link.direct_max(1, rules, 10, usize::MAX), Some(10), "the room of the frame");
    assert_eq!(link.direct_max(1, rules, MUCH, 20), Some(20), "what the worker has left");
    assert_eq!(link.direct_max(1, rules, MUCH, 0), None);
    link.budget.pay(u32::from(rules.units.get()), 0);
    assert_eq!(link.direct_max(1, rules, MUCH, usize::MAX), None);
    assert_eq!(link.direct_max(2, rules, MUCH, usize::MAX), Some(piece), "the next turn");
}

#[test]
fn an_operation_is_cancelled_once() {
    let mut fixture = Fixture::new();
    let Fixture { ring, session, link } = &mut fixture;
    link.receive(ring, SOCKET, TOKEN);
    for _ in 0..2 {
        link.cancel_receive(ring, TOKEN);
        assert_eq!(link.cancelled(), (false, true));
    }
    link.on_receive_completion(session, &ReceiveResult::Cancelled, true);
    assert_eq!(link.cancelled(), (false, true), "its last completion is still to come");
    link.on_receive_completion(session, &ReceiveResult::Cancelled, false);
    assert_eq!(link.cancelled(), (false, false));
    link.receive(ring, SOCKET, TOKEN);
    link.cancel(ring, SOCKET);
    assert!(!ring.is_receiving(7));
    ring.receive(SOCKET, TOKEN);
    link.cancel(ring, SOCKET);
    assert!(ring.is_receiving(7), "not again");
    link.on_cancel_survived();
    link.cancel(ring, SOCKET);
    assert!(!ring.is_receiving(7), "the receive had outlived it");
}

#[test]
fn a_piece_is_lent_while_it_is_handled_and_not_longer() {
    for is_lent in [true, false] {
        let mut fixture = Fixture::new();
        let piece = fixture.piece(&[b'a'; 8000]);
        let local = Rc::clone(&fixture.session.local);
        let mut loan = None;
        let handle = |bytes: &mut [u8]| {
            loan = local.lent.part(&bytes[100..6000]);
            Some(6000)
        };
        let (count, rest) = piece.hand_over(&mut fixture.ring, &local, is_lent, handle);
        assert_eq!((count, loan.is_some()), (6000, is_lent));
        assert!(!local.lent.is_lent());
        let rest = rest.unwrap();
        assert_eq!((rest.len(), rest.memory()), (2000, 0));
        let (count, rest) = rest.hand_over(&mut fixture.ring, &local, is_lent, |_| None);
        assert!(count == 2000 && rest.is_none());
        assert_eq!(fixture.ring.lent(), 0, "the buffer is released");
        assert!(loan.is_none_or(|loan| loan.as_slice() == [b'a'; 5900]), "and stays as it was");
    }
}

#[test]
fn the_loan_of_a_piece_ends_with_a_panic() {
    let mut fixture = Fixture::new();
    let piece = fixture.piece(&[b'a'; 8000]);
    let local = Rc::clone(&fixture.session.local);
    let call = || piece.hand_over(&mut fixture.ring, &local, true, |_| panic!("handled badly"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err());
    assert!(!local.lent.is_lent());
}

#[test]
fn a_piece_is_kept_in_its_buffer_or_copied_and_counted() {
    let mut fixture = Fixture::new();
    fixture.ring.keeps = Some(1);
    let pool = &fixture.session.local.clone().pool;
    let pieces = [b"first", b"other"].map(|bytes| {
        let (_, rest) =
            fixture
                .piece(bytes)
                .hand_over(&mut fixture.ring, &fixture.session.local, true, |_| Some(2));
        rest.unwrap().keep(&mut fixture.ring, pool)
    });
    let memory = pieces[1].memory();
    assert!(pieces[0].memory() == 0 && memory >= 3 && pool.held() == memory);
    assert_eq!((fixture.ring.kept, fixture.ring.lent()), (1, 1), "one is in its buffer");
    let mut left = Vec::new();
    for piece in pieces {
        assert_eq!(piece.len(), 3);
        let see = |bytes: &mut [u8]| {
            left.push(bytes.to_vec());
            Some(1)
        };
        let (_, rest) = piece.hand_over(&mut fixture.ring, &fixture.session.local, true, see);
        rest.unwrap().release(&mut fixture.ring, pool);
    }
    assert_eq!(left, [b"rst".to_vec(), b"her".to_vec()]);
    assert_eq!((pool.held(), fixture.ring.lent()), (0, 0), "nothing is counted any more");
}

#[test]
fn large_frames_are_received_in_turn_and_small_ones_not() {
    let mut fixture = Fixture::new();
    let Fixture { ring, session, link } = &mut fixture;
    link.receive(ring, SOCKET, TOKEN);
    link.note_large(100, 100 * LARGE_BYTES_MIN - 1);
    assert!(!link.has_large(), "many small frames in one piece");
    for count in 1..=8 {
        link.note_large(1, LARGE_BYTES_MIN);
        assert!(link.has_large());
        assert_eq!(link.choose(ring, TOKEN), count == 8, "{count}");
    }
    assert_eq!(link.cancelled(), (false, true), "to begin again the other way");
    link.on_receive_completion(session, &ReceiveResult::Cancelled, false);
    link.receive(ring, SOCKET, TOKEN);
    for _ in 0..100 {
        link.note_large(0, LARGE_BYTES_MIN);
        assert!(link.choose(ring, TOKEN), "a part of a frame");
    }
    let mut others = 0;
    while link.choose(ring, TOKEN) {
        others += 1;
    }
    assert_eq!((others, link.has_large(), link.cancelled()), (15, false, (false, true)));
}

#[cfg(feature = "_tls")]
#[test]
fn records_are_not_received_in_turn() {
    let mut link = Link { kind: Kind::Secure, ..Link::default() };
    link.note_large(1, MUCH);
    assert!(!link.has_large());
}
