use super::*;
use crate::config::Config;
use crate::health::Counters;
use crate::local::Shared;
use crate::mailbox::Mailbox;
use crate::ring::{Completion, Received, Room};
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
struct Stage {
    ring: ByHand,
    session: Rc<Session>,
    link: Link,
}

impl Stage {
    fn new() -> Self {
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let mailbox = Arc::new(Mailbox::new(Arc::new(event)));
        let config = Arc::new(Config::default());
        let shared = Shared::new(Arc::clone(&config), Arc::<Counters>::default(), mailbox);
        let session = Session::new(&shared, &config, Role::Server, TOKEN, SOCKET, None);
        Self { ring: ByHand::default(), session, link: Link::default() }
    }

    fn queue(&self, bytes: &[u8]) {
        self.session.queue_raw(bytes.len(), |out| out.extend_from_slice(bytes));
    }

    /// Sends what is to be sent, as the only connection of its round or as one of several.
    fn send(&mut self, is_alone: bool) -> io::Result<()> {
        let batch = self.link.next_batch(&self.session).expect("there is something to send");
        self.link.send(&mut self.ring, &self.session, SOCKET, batch, is_alone)
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
            Some(Completion::Received { result: Received::Data(buffer), .. }) => Piece::new(buffer),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_rest_of_a_send_leaves_before_what_was_queued_since() {
    let mut stage = Stage::new();
    stage.queue(b"0123456789");
    stage.ring.is_stuck = true;
    stage.send(false).unwrap();
    stage.queue(b"abc");
    assert_eq!(stage.counts(), (3, 10));
    stage.ring.take(4);
    stage.complete_send(false).unwrap();
    assert_eq!(stage.counts(), (9, 0), "the rest counts as queued again");
    assert!(!stage.link.is_flushed(&stage.session) && !stage.link.is_busy(&stage.session));
    stage.send(false).unwrap();
    assert_eq!((stage.counts(), stage.ring.sending().concat()), ((0, 9), b"456789abc".to_vec()));
    stage.ring.unstick();
    stage.complete_send(false).unwrap();
    assert!(stage.link.is_flushed(&stage.session));
    assert_eq!(stage.ring.sent, b"0123456789abc");
}

#[test]
fn a_connection_alone_sends_to_the_socket_and_the_rest_by_the_ring() {
    let mut stage = Stage::new();
    stage.ring.room.extend([Ok(6), Ok(2)]);
    stage.ring.is_stuck = true;
    stage.queue(b"all of");
    stage.send(true).unwrap();
    assert_eq!((stage.counts(), &stage.ring.sent[..]), ((0, 0), &b"all of"[..]));
    stage.queue(b"a part");
    stage.send(true).unwrap();
    assert_eq!((stage.counts(), stage.ring.sending().concat()), ((0, 4), b"part".to_vec()));
    stage.ring.unstick();
    stage.complete_send(false).unwrap();
    assert_eq!(stage.ring.sent, b"all ofa part");
    // One of several does not ask its socket.
    stage.ring.room.push_back(Ok(100));
    stage.queue(b"!");
    stage.send(false).unwrap();
    assert_eq!((stage.ring.room.len(), stage.session.in_flight()), (1, 1));
}

#[test]
fn a_failed_send_drops_its_batch_and_keeps_nothing_in_flight() {
    let mut stage = Stage::new();
    stage.queue(b"bytes");
    stage.ring.room.push_back(Err(io::ErrorKind::BrokenPipe.into()));
    let error = stage.send(true).unwrap_err();
    assert_eq!((error.kind(), stage.counts()), (io::ErrorKind::BrokenPipe, (0, 0)));
    // The same where the ring reports it, and where it says that nothing left.
    for result in [Err(io::ErrorKind::BrokenPipe.into()), Ok(0)] {
        let is_error = result.is_err();
        stage.queue(b"bytes");
        stage.ring.is_stuck = true;
        stage.send(false).unwrap();
        stage.ring.take(0);
        let Some(Completion::Sent { batch, .. }) = stage.completions().pop() else {
            panic!("it has a completion")
        };
        let error = stage.link.on_sent(&stage.session, result, batch, false).unwrap_err();
        assert_eq!(error.kind() == io::ErrorKind::BrokenPipe, is_error);
        assert_eq!(stage.counts(), (0, 0));
        assert!(stage.link.is_flushed(&stage.session));
    }
}

#[test]
fn the_rest_of_a_send_goes_with_a_connection_that_has_ended() {
    let mut stage = Stage::new();
    stage.queue(b"bytes");
    stage.ring.is_stuck = true;
    stage.send(false).unwrap();
    stage.ring.take(2);
    stage.complete_send(true).unwrap();
    assert_eq!(stage.counts(), (0, 0));
}

#[test]
fn a_direct_receive_waits_for_the_end_of_the_receive_in_flight() {
    let mut stage = Stage::new();
    let Stage { ring, session, link } = &mut stage;
    link.receive(ring, SOCKET, TOKEN);
    assert!(!link.begins_direct(ring, TOKEN, true), "its bytes come before");
    assert!(link.is_receiving() && !ring.is_receiving(7), "it was cancelled");
    assert!(!link.begins_direct(ring, TOKEN, true));
    link.on_receive_completion(false);
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
    assert_eq!((memory, session.shared.counters.bytes_received.get()), (vec![b'a'; 10], 10));
    // From then on one by itself, until none has been large for a while.
    link.receive_as_wanted(ring, SOCKET, TOKEN, true);
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
    let stage = Stage::new();
    let rules = &stage.session.shared.shares;
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
    let mut stage = Stage::new();
    let Stage { ring, link, .. } = &mut stage;
    link.receive(ring, SOCKET, TOKEN);
    for _ in 0..2 {
        link.receive_as_wanted(ring, SOCKET, TOKEN, false);
        assert_eq!(link.cancelled(), (false, true));
    }
    link.on_receive_completion(true);
    assert_eq!(link.cancelled(), (false, true), "its last completion is still to come");
    link.on_receive_completion(false);
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
        let mut stage = Stage::new();
        let piece = stage.piece(&[b'a'; 8000]);
        let shared = Rc::clone(&stage.session.shared);
        let mut loan = None;
        let handle = |bytes: &mut [u8]| {
            loan = shared.lent.part(&bytes[100..6000]);
            Some(6000)
        };
        let (count, rest) = piece.hand_over(&mut stage.ring, &shared, is_lent, handle);
        assert_eq!((count, loan.is_some()), (6000, is_lent));
        assert!(!shared.lent.is_lent());
        let rest = rest.unwrap();
        assert_eq!((rest.len(), rest.memory()), (2000, 0));
        let (count, rest) = rest.hand_over(&mut stage.ring, &shared, is_lent, |_| None);
        assert!(count == 2000 && rest.is_none());
        assert_eq!(stage.ring.lent(), 0, "the buffer is released");
        assert!(loan.is_none_or(|loan| loan.as_slice() == [b'a'; 5900]), "and stays as it was");
    }
}

#[test]
fn the_loan_of_a_piece_ends_with_a_panic() {
    let mut stage = Stage::new();
    let piece = stage.piece(&[b'a'; 8000]);
    let shared = Rc::clone(&stage.session.shared);
    let call = || piece.hand_over(&mut stage.ring, &shared, true, |_| panic!("handled badly"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err());
    assert!(!shared.lent.is_lent());
}

#[test]
fn a_piece_is_kept_in_its_buffer_or_copied_and_counted() {
    let mut stage = Stage::new();
    stage.ring.keeps = Some(1);
    let pool = &stage.session.shared.clone().pool;
    let pieces = [b"first", b"other"].map(|bytes| {
        let (_, rest) =
            stage.piece(bytes).hand_over(&mut stage.ring, &stage.session.shared, true, |_| Some(2));
        rest.unwrap().keep(&mut stage.ring, pool)
    });
    let memory = pieces[1].memory();
    assert!(pieces[0].memory() == 0 && memory >= 3 && pool.held() == memory);
    assert_eq!((stage.ring.kept, stage.ring.lent()), (1, 1), "one is in its buffer");
    let mut left = Vec::new();
    for piece in pieces {
        assert_eq!(piece.len(), 3);
        let see = |bytes: &mut [u8]| {
            left.push(bytes.to_vec());
            Some(1)
        };
        let (_, rest) = piece.hand_over(&mut stage.ring, &stage.session.shared, true, see);
        rest.unwrap().release(&mut stage.ring, pool);
    }
    assert_eq!(left, [b"rst".to_vec(), b"her".to_vec()]);
    assert_eq!((pool.held(), stage.ring.lent()), (0, 0), "nothing is counted any more");
}
