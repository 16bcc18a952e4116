//! Subscribers of a fan-out: check that each publication comes once, whole and in order.

use super::board::{Board, Phase, Progress};
use super::stamp::{PROBE, Stamp};
use super::tally::Tally;
use picows_uring::{
    CloseCode, DisconnectCause, Frame, Listener, ListenerResult, MsgType, Transport,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// State that the connections of one thread share.
pub(super) struct ThreadState {
    pub(super) board: Arc<Board>,
    pub(super) tally: RefCell<Tally>,
    /// A payload, whose stamp differs from publication to publication.
    pub(super) sample: Vec<u8>,
}

/// One subscriber.
pub(super) struct Subscriber {
    state: Rc<ThreadState>,
    id: usize,
    /// The number that comes next from each publisher.
    expected: Vec<u64>,
    /// Digest of the order in which all publications came.
    order: u64,
    missed: u64,
    is_probed: bool,
    is_lost: bool,
    /// The fragments of an incomplete message.
    fragments: Option<(MsgType, Vec<u8>)>,
}

impl ThreadState {
    pub(super) fn new(board: &Arc<Board>) -> Rc<Self> {
        let sample = board.plan.sample();
        Rc::new(Self {
            board: Arc::clone(board),
            tally: RefCell::new(Tally::new(&board.plan)),
            sample,
        })
    }
}

impl Subscriber {
    pub(super) fn new(state: &Rc<ThreadState>, id: usize) -> Self {
        Self {
            state: Rc::clone(state),
            id,
            expected: vec![0; state.board.publishers.len()],
            order: 0,
            missed: 0,
            is_probed: false,
            is_lost: false,
            fragments: None,
        }
    }

    /// Checks and counts a complete message.
    fn receive(&mut self, msg_type: MsgType, payload: &[u8]) {
        let state = Rc::clone(&self.state);
        let board = &*state.board;
        let is_text = board.plan.is_text;
        let stamp = Stamp::read(payload, is_text).filter(|stamp| {
            stamp.run == board.run_id && (stamp.publisher as usize) < self.expected.len()
        });
        let mut tally = state.tally.borrow_mut();
        let Some(stamp) = stamp else {
            tally.foreign += 1;
            return;
        };
        if stamp.number == PROBE {
            if !std::mem::replace(&mut self.is_probed, true) {
                board.probed.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        let about = || format!("subscriber {}, publication {}", self.id, stamp.number);
        let length = Stamp::length(is_text);
        if (msg_type == MsgType::Text) != is_text {
            tally.errors.wrong_type += 1;
            tally.record_error(|| format!("{}: it came as {msg_type:?}", about()));
        } else if payload[length..] != state.sample[length..] {
            tally.errors.wrong_content += 1;
            tally.record_error(|| format!("{}: it came with another content", about()));
        }
        let publisher = stamp.publisher as usize;
        let expected = self.expected[publisher];
        if stamp.number < expected {
            tally.errors.repeated += 1;
            tally.record_error(|| format!("{}: it came again, or too late", about()));
            return;
        }
        if stamp.number > expected {
            let missing = stamp.number - expected;
            tally.gaps += 1;
            self.missed += missing;
            if !board.plan.are_gaps_allowed {
                tally.errors.missing += missing;
                tally.record_error(|| format!("{}: {missing} before it did not come", about()));
            }
            for number in expected..stamp.number {
                board.settle(publisher, number, false);
            }
        }
        self.expected[publisher] = stamp.number + 1;
        self.order = digest(self.order, stamp);
        if board.is_measuring() {
            tally.deliveries += 1;
        }
        let reached = board.settle(publisher, stamp.number, true);
        if reached.half_of.is_some() || reached.all_of.is_some() {
            let stage = reached.all_of.and_then(|due_ns| board.stage_of(due_ns));
            tally.reach(reached, stage, board.now_ns());
        }
    }

    /// Counts what did not come until the end.
    pub(super) fn settle(&mut self, is_cut: bool) {
        let state = Rc::clone(&self.state);
        if self.is_lost {
            return;
        }
        let published = state.board.publishers.iter().map(Progress::next);
        let missing: u64 = published.zip(&self.expected).map(|(next, it)| next - it).sum();
        let mut tally = state.tally.borrow_mut();
        if missing == 0 && self.missed == 0 {
            *tally.orders.entry(self.order).or_default() += 1;
        }
        if missing > 0 && !is_cut {
            tally.gaps += 1;
            if !state.board.plan.are_gaps_allowed {
                tally.errors.missing += missing;
                let id = self.id;
                tally.record_error(|| format!("subscriber {id}: the last {missing} did not come"));
            }
        }
    }
}

impl Listener for Subscriber {
    fn on_connected(&mut self, _: &Transport) -> ListenerResult {
        self.state.board.add_subscriber();
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        match frame.msg_type() {
            MsgType::Close | MsgType::Ping | MsgType::Pong => {}
            MsgType::Continuation => {
                // The library ends a connection whose continuation has no first fragment.
                let Some((msg_type, mut message)) = self.fragments.take() else { return Ok(()) };
                message.extend_from_slice(frame.payload());
                if frame.fin() {
                    self.receive(msg_type, &message);
                } else {
                    self.fragments = Some((msg_type, message));
                }
            }
            msg_type if frame.fin() => self.receive(msg_type, frame.payload()),
            msg_type => self.fragments = Some((msg_type, frame.payload().to_vec())),
        }
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        let board = &self.state.board;
        board.remove_subscriber(&self.expected);
        if *board.phase.borrow() == Phase::Over {
            return;
        }
        self.is_lost = true;
        let mut tally = self.state.tally.borrow_mut();
        tally.errors.lost_connections += 1;
        let id = self.id;
        tally.record_error(|| format!("subscriber {id} was lost{}", ending(transport)));
    }
}

/// The cause of a connection's end, and the CLOSE of the server, as the end of a sentence.
pub(super) fn ending(transport: &Transport) -> String {
    let cause = transport.disconnect_cause().filter(|it| *it != DisconnectCause::Closed);
    let mut text = cause.map_or_else(String::new, |it| format!(": {it}"));
    if let Some(close) = transport.close_handshake().received {
        let code = close.code().map_or_else(|| "no code".to_owned(), |it| it.to_string());
        text += &format!(": the server closed with {code}");
        if !close.reason().is_empty() {
            text += &format!(" \"{}\"", close.reason());
        }
        match close.code() {
            Some(CloseCode::POLICY_VIOLATION) => text += MAY_NOT,
            Some(CloseCode::TRY_AGAIN_LATER) => text += TOO_SLOW,
            _ => {}
        }
    }
    text
}

/// Adds a publication to the digest of an order: a different order has a different digest, but for
/// chance.
fn digest(order: u64, stamp: Stamp) -> u64 {
    let key = u64::from(stamp.publisher) << 48 ^ stamp.number;
    (order.rotate_left(5) ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Cures for the close codes of `picows pubsub`.
const MAY_NOT: &str = ": it may not publish; start the server with --publish all, or give \
                       --publish-url with the token";
const TOO_SLOW: &str = ": it read too slowly; give the load more --threads or a lower --rate";

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;
    use crate::fan_out::FanOutPlan;

    fn setup(publishers: usize) -> (Rc<ThreadState>, Subscriber) {
        let board = Arc::new(Board::new(FanOutPlan { publishers, ..plan() }, 9));
        board.add_subscriber();
        board.measure(true);
        let state = ThreadState::new(&board);
        let subscriber = Subscriber::new(&state, 0);
        (state, subscriber)
    }

    fn publish(state: &ThreadState, count: usize) {
        for _ in 0..count {
            state.board.publish(0, 1).unwrap();
        }
    }

    fn message(state: &ThreadState, publisher: u32, number: u64) -> Vec<u8> {
        let mut payload = state.sample.clone();
        Stamp { run: 9, publisher, number }.write(&mut payload, false);
        payload
    }

    #[test]
    fn gaps_and_repetitions_are_counted_by_publication() {
        let (state, mut subscriber) = setup(1);
        publish(&state, 6);
        for number in [0, 1, 4, 4, 2, 5] {
            subscriber.receive(MsgType::Binary, &message(&state, 0, number));
        }
        subscriber.settle(false);
        let tally = state.tally.borrow();
        let errors = tally.errors;
        assert_eq!((tally.deliveries, tally.gaps), (4, 1));
        assert_eq!((errors.missing, errors.repeated, errors.total()), (2, 2, 4));
        assert!(state.board.is_settled());
        assert_eq!(tally.all.len(), 4, "what was missed has no latency");
        assert!(tally.orders.is_empty(), "an order with holes is compared with none");
        assert_eq!(
            tally.first_error.as_deref(),
            Some("subscriber 0, publication 4: 2 before it did not come")
        );
    }

    #[test]
    fn the_last_publications_are_missed_too() {
        let (state, mut subscriber) = setup(1);
        publish(&state, 3);
        subscriber.receive(MsgType::Binary, &message(&state, 0, 0));
        subscriber.settle(false);
        assert_eq!((state.tally.borrow().errors.missing, state.tally.borrow().gaps), (2, 1));
    }

    #[test]
    fn wrong_messages_are_told_from_foreign_ones() {
        let (state, mut subscriber) = setup(1);
        publish(&state, 2);
        subscriber.receive(MsgType::Text, &message(&state, 0, 0));
        let mut changed = message(&state, 0, 1);
        *changed.last_mut().unwrap() ^= 1;
        subscriber.receive(MsgType::Binary, &changed);
        subscriber.receive(MsgType::Binary, b"welcome");
        let mut other_run = state.sample.clone();
        Stamp { run: 8, publisher: 0, number: 7 }.write(&mut other_run, false);
        subscriber.receive(MsgType::Binary, &other_run);
        let tally = state.tally.borrow();
        assert_eq!((tally.errors.wrong_type, tally.errors.wrong_content), (1, 1));
        assert_eq!((tally.foreign, tally.errors.total()), (2, 2));
    }

    #[test]
    fn orders_across_publishers_are_compared() {
        let (state, mut first) = setup(2);
        let mut second = Subscriber::new(&state, 1);
        for publisher in 0..2 {
            state.board.publish(publisher, 1).unwrap();
        }
        for (subscriber, order) in [(&mut first, [0, 1]), (&mut second, [1, 0])] {
            for publisher in order {
                subscriber.receive(MsgType::Binary, &message(&state, publisher, 0));
            }
            subscriber.settle(false);
        }
        assert_eq!(state.tally.borrow().errors.total(), 0);
        state.tally.borrow_mut().compare_orders();
        assert_eq!(state.tally.borrow().errors.other_order, 1);
    }
}
