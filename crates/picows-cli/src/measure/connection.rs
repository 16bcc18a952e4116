//! One connection of a load, and the state it shares: checks an echo, counts it, sends the next.
//!
//! Joins fragments itself: `Messages` would end the connection on text that is not UTF-8 and on a
//! long echo, which are to be counted, and would validate each message of `--text`.

use super::payload::Payload;
use super::run::{Run, Window};
use super::schedule::Schedule;
use super::shape::Mode;
use super::tally::Tally;
use picows_uring::{
    CloseCode, DisconnectCause, Frame, Listener, ListenerResult, MsgType, Transport,
};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::Notify;

/// State that the connections of one thread share.
pub(super) struct ThreadState {
    run: Arc<Run>,
    thread: usize,
    msg_type: MsgType,
    pub(super) tally: RefCell<Tally>,
    payload: RefCell<Payload>,
    /// Set when all threads have connected.
    window: Cell<Option<Window>>,
    stage: Cell<LoadStage>,
    /// Messages whose echo is missing so far.
    in_flight: Cell<usize>,
    /// Open connections.
    open: Cell<usize>,
    /// Notified when all messages in flight are answered after the end, or all connections are
    /// closed.
    pub(super) changed: Notify,
}

/// Stage of a thread's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoadStage {
    /// Before the first message: messages of the server are ignored.
    Connecting,
    Sending,
    /// After the last message, waiting for echoes.
    Draining,
    /// Missing echoes are counted, and the ends of connections are our own.
    Over,
}

/// One connection of the load.
pub(super) struct Connection {
    state: Rc<ThreadState>,
    id: u64,
    /// The number of the next message.
    next: u64,
    /// Intended send time of each message in flight, the oldest first.
    in_flight: VecDeque<u64>,
    schedule: Option<Schedule>,
    /// The send queue is above its high watermark.
    is_congested: bool,
    /// The connection ended before we ended it.
    is_lost: bool,
    /// The connection has ended itself, as a dedicated thread has no loop for that.
    is_ended: bool,
    /// The fragments of an incomplete echo.
    fragments: Option<(MsgType, Vec<u8>)>,
}

impl ThreadState {
    pub(super) fn new(run: &Arc<Run>, thread: usize) -> Self {
        let plan = &run.plan;
        Self {
            run: Arc::clone(run),
            thread,
            msg_type: if plan.is_text { MsgType::Text } else { MsgType::Binary },
            tally: RefCell::new(Tally::new(plan)),
            payload: RefCell::new(Payload::filled(plan.size_bytes, plan.is_text, plan.filler)),
            window: Cell::new(None),
            stage: Cell::new(LoadStage::Connecting),
            in_flight: Cell::new(0),
            open: Cell::new(0),
            changed: Notify::new(),
        }
    }

    pub(super) fn begin(&self, window: Window) {
        self.window.set(Some(window));
        self.stage.set(LoadStage::Sending);
    }

    /// The window, cut short by a signal.
    pub(super) fn window(&self) -> Option<Window> {
        let stop_ns = self.run.interrupted_ns();
        self.window.get().map(|window| Window { stop_ns: window.stop_ns.min(stop_ns), ..window })
    }

    pub(super) fn enter(&self, stage: LoadStage) {
        self.stage.set(stage);
    }

    pub(super) fn run(&self) -> &Arc<Run> {
        &self.run
    }

    pub(super) fn msg_type(&self) -> MsgType {
        self.msg_type
    }

    /// Whether messages are still to be sent.
    pub(super) fn is_sending(&self) -> bool {
        self.stage.get() == LoadStage::Sending
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage.get() == LoadStage::Over
    }

    /// Lets `check` look at the payload of message `sequence` of `connection`.
    pub(super) fn with_payload<T>(
        &self,
        connection: u64,
        sequence: u64,
        check: impl FnOnce(&[u8]) -> T,
    ) -> T {
        check(self.payload.borrow_mut().stamped(connection, sequence))
    }

    pub(super) fn matches(&self, echo: &[u8], connection: u64, sequence: u64) -> bool {
        self.payload.borrow().matches(echo, connection, sequence)
    }

    /// Counts a right echo, or a visit, for the live view.
    pub(super) fn count_progress(&self, latency_ns: u64) {
        if let Some(live) = &self.run.live {
            live.count_latency(self.thread, latency_ns);
        }
        let echoes = &self.run.echoes[self.thread];
        // Only this thread writes the counter, so a load and a store suffice.
        echoes.store(echoes.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Shows a connection that was made.
    pub(super) fn show_connected(&self) {
        if let Some(live) = &self.run.live {
            live.count_connected(self.thread);
        }
    }

    /// Shows the errors so far.
    pub(super) fn show_errors(&self, tally: &Tally) {
        if let Some(live) = &self.run.live {
            live.set_errors(self.thread, tally.errors.total());
        }
    }

    pub(super) fn is_drained(&self) -> bool {
        self.in_flight.get() == 0
    }

    pub(super) fn is_all_closed(&self) -> bool {
        self.open.get() == 0
    }

    fn remove_in_flight(&self, count: usize) {
        self.in_flight.set(self.in_flight.get() - count);
        if self.is_drained() && self.stage.get() == LoadStage::Draining {
            self.changed.notify_one();
        }
    }
}

impl Connection {
    pub(super) fn new(state: &Rc<ThreadState>, id: u64) -> Self {
        Self {
            state: Rc::clone(state),
            id,
            next: 0,
            in_flight: VecDeque::new(),
            schedule: None,
            is_congested: false,
            is_lost: false,
            is_ended: false,
            fragments: None,
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn follow(&mut self, schedule: Schedule) {
        self.schedule = Some(schedule);
    }

    /// Sends all messages that are due and fit the pipeline.
    pub(super) fn pump(&mut self, transport: &Transport, now_ns: u64) {
        let Some(window) = self.state.window() else { return };
        if self.state.stage.get() != LoadStage::Sending {
            return;
        }
        while self.in_flight.len() < self.state.run.plan.pipeline {
            let intended_ns = match &self.schedule {
                None => now_ns,
                Some(schedule) => schedule.due_ns(self.id, self.next),
            };
            let is_held = self.schedule.is_some() && self.is_congested;
            if intended_ns > now_ns || intended_ns >= window.stop_ns || is_held {
                return;
            }
            if !self.send(transport, &window, intended_ns, now_ns) {
                return;
            }
        }
    }

    /// Sends the next message. Returns whether it was queued.
    fn send(
        &mut self,
        transport: &Transport,
        window: &Window,
        intended_ns: u64,
        now_ns: u64,
    ) -> bool {
        let state = &*self.state;
        let mut payload = state.payload.borrow_mut();
        let status = transport.send(state.msg_type, payload.stamped(self.id, self.next));
        if !status.is_queued() {
            // The connection has ended, which `on_disconnected` counts.
            return false;
        }
        self.next += 1;
        self.in_flight.push_back(intended_ns);
        state.in_flight.set(state.in_flight.get() + 1);
        if self.schedule.is_some() && window.contains(intended_ns) {
            let delay_ns = now_ns - intended_ns;
            state.tally.borrow_mut().send_delays.saturating_record(delay_ns);
        }
        true
    }

    /// Checks and counts a complete message.
    fn receive(&mut self, now_ns: u64, msg_type: MsgType, echo: &[u8]) {
        let state = Rc::clone(&self.state);
        let Some(window) = state.window() else { return };
        let mut tally = state.tally.borrow_mut();
        let oldest = self.next - self.in_flight.len() as u64;
        let about = || format!("connection {}, message {oldest}", self.id);
        let Some(&intended_ns) = self.in_flight.front() else {
            tally.errors.unexpected += 1;
            tally.record_error(|| format!("{}: nothing was in flight when one arrived", about()));
            return;
        };
        let payload = state.payload.borrow();
        if msg_type != state.msg_type {
            tally.errors.wrong_type += 1;
            tally.record_error(|| format!("{}: came back as {msg_type:?}", about()));
        } else if echo.len() != payload.len() {
            tally.errors.wrong_length += 1;
            tally.record_error(|| {
                let (sent, came) = (payload.len(), echo.len());
                format!("{}: {sent} bytes were sent, {came} came back", about())
            });
        } else if payload.matches(echo, self.id, oldest) {
            tally.count(&window, intended_ns, now_ns);
            state.count_progress(now_ns.saturating_sub(intended_ns));
        } else if let Some(skipped) = self.later_match(&payload, oldest, echo) {
            tally.errors.missing += skipped as u64;
            tally.record_error(|| format!("{}: a later one came back first", about()));
            let intended_ns = self.in_flight[skipped];
            tally.count(&window, intended_ns, now_ns);
            self.in_flight.drain(..skipped);
            state.remove_in_flight(skipped);
        } else if self.was_answered(&payload, oldest, echo) {
            tally.errors.unexpected += 1;
            tally.record_error(|| format!("{}: an earlier one came back again", about()));
            return;
        } else {
            tally.errors.wrong_content += 1;
            tally.record_error(|| format!("{}: came back with another content", about()));
        }
        self.in_flight.pop_front();
        state.show_errors(&tally);
        state.remove_in_flight(1);
    }

    /// Whether a connection of a dedicated thread has its last echo.
    fn is_done(&self, now_ns: u64) -> bool {
        let is_over = self.state.window().is_some_and(|window| now_ns >= window.stop_ns);
        is_over && self.state.run.plan.is_dedicated && self.in_flight.is_empty()
    }

    /// Number of messages in flight that are older than the one whose echo this is.
    fn later_match(&self, payload: &Payload, oldest: u64, echo: &[u8]) -> Option<usize> {
        (1..self.in_flight.len()).find(|&it| payload.matches(echo, self.id, oldest + it as u64))
    }

    fn was_answered(&self, payload: &Payload, oldest: u64, echo: &[u8]) -> bool {
        let first = oldest.saturating_sub(ANSWERED_LOOK_BACK);
        (first..oldest).any(|sequence| payload.matches(echo, self.id, sequence))
    }

    /// Counts missing echoes, and scheduled messages that were not sent.
    pub(super) fn settle(&mut self) {
        let state = Rc::clone(&self.state);
        let Some(window) = state.window() else { return };
        let missing = self.in_flight.len();
        let mut tally = state.tally.borrow_mut();
        if missing > 0 && !state.run.is_drain_cut() {
            tally.errors.missing += missing as u64;
            let first = self.next - missing as u64;
            tally.record_error(|| format!("connection {}, message {first}: no echo came", self.id));
        }
        self.in_flight.clear();
        state.in_flight.set(state.in_flight.get() - missing);
        let Some(schedule) = self.schedule.take().filter(|_| !self.is_lost) else { return };
        loop {
            let due_ns = schedule.due_ns(self.id, self.next);
            if due_ns >= window.stop_ns {
                return;
            }
            // The latency is at least that long. Leaving it out would hide the stall that caused
            // it.
            tally.count_unsent(&window, due_ns);
            self.next += 1;
        }
    }
}

impl Listener for Connection {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        let state = &*self.state;
        state.open.set(state.open.get() + 1);
        if state.run.plan.deflate.is_some() && transport.deflate().is_none() {
            state.tally.borrow_mut().uncompressed += 1;
        }
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if self.state.run.plan.is(Mode::Idle) {
            // Whatever a server sends on its own: feeds, greetings.
            return Ok(());
        }
        let now_ns = self.state.run.now_ns();
        match frame.msg_type() {
            MsgType::Close | MsgType::Ping | MsgType::Pong => return Ok(()),
            MsgType::Continuation => {
                // The library ends a connection whose continuation has no first fragment.
                let Some((msg_type, mut echo)) = self.fragments.take() else { return Ok(()) };
                if echo.len() <= self.state.run.plan.size_bytes {
                    echo.extend_from_slice(frame.payload());
                }
                if frame.fin() {
                    self.receive(now_ns, msg_type, &echo);
                } else {
                    self.fragments = Some((msg_type, echo));
                }
            }
            msg_type if frame.fin() => self.receive(now_ns, msg_type, frame.payload()),
            msg_type => self.fragments = Some((msg_type, frame.payload().to_vec())),
        }
        self.pump(transport, now_ns);
        if self.is_done(now_ns) {
            self.is_ended = true;
            transport.send_close(CloseCode::NORMAL, "");
        }
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        let state = Rc::clone(&self.state);
        state.open.set(state.open.get() - 1);
        let cause = transport.disconnect_cause();
        let is_ours = self.is_ended || cause == Some(DisconnectCause::Stopped);
        if state.stage.get() != LoadStage::Over && !is_ours {
            let mut tally = state.tally.borrow_mut();
            tally.errors.lost_connections += 1;
            self.is_lost = true;
            tally.record_error(|| {
                let cause = cause.map_or_else(String::new, |it| format!(": {it}"));
                let close = transport.close_handshake().received;
                let code = close.and_then(|it| it.code());
                let cure = if code == Some(CloseCode::MESSAGE_TOO_BIG) { TOO_BIG } else { "" };
                let code = code.map_or_else(String::new, |it| format!(" ({it})"));
                format!("connection {} was lost{cause}{code}{cure}", self.id)
            });
            tally.errors.missing += self.in_flight.len() as u64;
            let in_flight = self.in_flight.len();
            self.in_flight.clear();
            state.show_errors(&tally);
            drop(tally);
            state.remove_in_flight(in_flight);
        }
        if state.is_all_closed() {
            state.changed.notify_one();
        }
    }

    fn pause_writing(&mut self, _: &Transport) {
        self.is_congested = true;
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.is_congested = false;
        let now_ns = self.state.run.now_ns();
        self.pump(transport, now_ns);
    }
}

/// Cure for a CLOSE 1009 of the server.
const TOO_BIG: &str = ": a message is larger than the server takes: use a smaller --size, or raise \
                       its limit (picows echo --max-frame-size)";
/// Answered messages of which a second echo is recognised.
const ANSWERED_LOOK_BACK: u64 = 16;
