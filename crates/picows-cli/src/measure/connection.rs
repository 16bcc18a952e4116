//! The data path of a load: checks an echo, counts it, sends the next message.

use super::payload::Payload;
use super::schedule::Schedule;
use super::tally::Tally;
use super::{Crew, Window};
use picows_uring::{
    CloseCode, DisconnectCause, Frame, Listener, ListenerResult, MsgType, Transport,
};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::Notify;

/// What the connections of a thread share.
pub(super) struct Desk {
    crew: Arc<Crew>,
    thread: usize,
    msg_type: MsgType,
    pub(super) tally: RefCell<Tally>,
    payload: RefCell<Payload>,
    /// Set when all threads have connected.
    window: Cell<Option<Window>>,
    stage: Cell<Stage>,
    /// Messages that were sent and whose echo has not come.
    in_flight: Cell<usize>,
    open: Cell<usize>,
    /// Woken when nothing is in flight after the end, or no connection is open.
    pub(super) changed: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing was sent, so what arrives is no echo.
    Connecting,
    Sending,
    /// Nothing more is sent.
    Draining,
    /// What is missing now counts as that, and connections are ours to end.
    Over,
}

/// One connection of the load.
pub(super) struct Connection {
    desk: Rc<Desk>,
    id: u64,
    /// The number of the next message.
    next: u64,
    /// When each message in flight was to be sent, the oldest first.
    waiting: VecDeque<u64>,
    schedule: Option<Schedule>,
    /// The send queue is above its high watermark.
    is_congested: bool,
    /// It ended before we ended it.
    is_lost: bool,
    /// It has ended itself, as there is no loop to do so.
    is_ended: bool,
    /// The fragments of an echo that has not arrived whole.
    fragments: Option<(MsgType, Vec<u8>)>,
}

impl Desk {
    pub(super) fn new(crew: &Arc<Crew>, thread: usize) -> Self {
        let plan = &crew.plan;
        Self {
            crew: Arc::clone(crew),
            thread,
            msg_type: if plan.is_text { MsgType::Text } else { MsgType::Binary },
            tally: RefCell::new(Tally::new(plan)),
            payload: RefCell::new(Payload::new(plan.size_bytes, plan.is_text)),
            window: Cell::new(None),
            stage: Cell::new(Stage::Connecting),
            in_flight: Cell::new(0),
            open: Cell::new(0),
            changed: Notify::new(),
        }
    }

    pub(super) fn begin(&self, window: Window) {
        self.window.set(Some(window));
        self.stage.set(Stage::Sending);
    }

    /// The window, as short as a signal has made it.
    fn window(&self) -> Option<Window> {
        let stop_ns = self.crew.interrupted_ns();
        self.window.get().map(|window| Window { stop_ns: window.stop_ns.min(stop_ns), ..window })
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.stage.set(stage);
    }

    pub(super) fn is_drained(&self) -> bool {
        self.in_flight.get() == 0
    }

    pub(super) fn is_deserted(&self) -> bool {
        self.open.get() == 0
    }

    fn land(&self, count: usize) {
        self.in_flight.set(self.in_flight.get() - count);
        if self.is_drained() && self.stage.get() == Stage::Draining {
            self.changed.notify_one();
        }
    }
}

impl Connection {
    pub(super) fn new(desk: &Rc<Desk>, id: u64) -> Self {
        Self {
            desk: Rc::clone(desk),
            id,
            next: 0,
            waiting: VecDeque::new(),
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

    /// Sends what may be sent now.
    pub(super) fn pump(&mut self, transport: &Transport, now_ns: u64) {
        let Some(window) = self.desk.window() else { return };
        if self.desk.stage.get() != Stage::Sending {
            return;
        }
        while self.waiting.len() < self.desk.crew.plan.pipeline {
            let intended_ns = match self.schedule {
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

    fn send(
        &mut self,
        transport: &Transport,
        window: &Window,
        intended_ns: u64,
        now_ns: u64,
    ) -> bool {
        let desk = &*self.desk;
        let mut payload = desk.payload.borrow_mut();
        let status = transport.send(desk.msg_type, payload.stamped(self.id, self.next));
        if !status.is_queued() {
            // The connection has ended: `on_disconnected` counts that.
            return false;
        }
        self.next += 1;
        self.waiting.push_back(intended_ns);
        desk.in_flight.set(desk.in_flight.get() + 1);
        if self.schedule.is_some() && window.contains(intended_ns) {
            let delay_ns = now_ns - intended_ns;
            desk.tally.borrow_mut().send_delays.saturating_record(delay_ns);
        }
        true
    }

    /// A whole message arrived.
    fn receive(&mut self, now_ns: u64, msg_type: MsgType, echo: &[u8]) {
        let desk = Rc::clone(&self.desk);
        let Some(window) = desk.window() else { return };
        let mut tally = desk.tally.borrow_mut();
        let oldest = self.next - self.waiting.len() as u64;
        let about = || format!("connection {}, message {oldest}", self.id);
        let Some(&intended_ns) = self.waiting.front() else {
            tally.errors.unexpected += 1;
            tally.tell(|| format!("{}: nothing was in flight when one arrived", about()));
            return;
        };
        let payload = desk.payload.borrow();
        if msg_type != desk.msg_type {
            tally.errors.wrong_type += 1;
            tally.tell(|| format!("{}: came back as {msg_type:?}", about()));
        } else if echo.len() != payload.len() {
            tally.errors.wrong_length += 1;
            tally.tell(|| {
                let (sent, came) = (payload.len(), echo.len());
                format!("{}: {sent} bytes were sent, {came} came back", about())
            });
        } else if payload.matches(echo, self.id, oldest) {
            tally.count(&window, intended_ns, now_ns);
            let echoes = &desk.crew.echoes[desk.thread];
            // Written by this thread only, so no need for an addition in one step.
            echoes.store(echoes.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else if let Some(skipped) = self.later_match(&payload, oldest, echo) {
            tally.errors.missing += skipped as u64;
            tally.tell(|| format!("{}: a later one came back first", about()));
            let intended_ns = self.waiting[skipped];
            tally.count(&window, intended_ns, now_ns);
            self.waiting.drain(..skipped);
            desk.land(skipped);
        } else if self.was_answered(&payload, oldest, echo) {
            tally.errors.unexpected += 1;
            tally.tell(|| format!("{}: an earlier one came back again", about()));
            return;
        } else {
            tally.errors.wrong_content += 1;
            tally.tell(|| format!("{}: came back with another content", about()));
        }
        self.waiting.pop_front();
        desk.land(1);
    }

    /// Whether a connection without a loop has nothing more to do.
    fn is_done(&self, now_ns: u64) -> bool {
        let is_over = self.desk.window().is_some_and(|window| now_ns >= window.stop_ns);
        is_over && self.desk.crew.plan.is_dedicated && self.waiting.is_empty()
    }

    /// How many messages in flight are older than the one that `echo` belongs to.
    fn later_match(&self, payload: &Payload, oldest: u64, echo: &[u8]) -> Option<usize> {
        (1..self.waiting.len()).find(|&it| payload.matches(echo, self.id, oldest + it as u64))
    }

    fn was_answered(&self, payload: &Payload, oldest: u64, echo: &[u8]) -> bool {
        let first = oldest.saturating_sub(ANSWERED_LOOK_BACK);
        (first..oldest).any(|sequence| payload.matches(echo, self.id, sequence))
    }

    /// Counts what never came, and what of the schedule was never sent.
    pub(super) fn settle(&mut self) {
        let desk = Rc::clone(&self.desk);
        let Some(window) = desk.window() else { return };
        let missing = self.waiting.len();
        let mut tally = desk.tally.borrow_mut();
        if missing > 0 && !desk.crew.is_drain_cut() {
            tally.errors.missing += missing as u64;
            let first = self.next - missing as u64;
            tally.tell(|| format!("connection {}, message {first}: no echo came", self.id));
        }
        self.waiting.clear();
        desk.in_flight.set(desk.in_flight.get() - missing);
        let Some(schedule) = self.schedule.filter(|_| !self.is_lost) else { return };
        loop {
            let due_ns = schedule.due_ns(self.id, self.next);
            if due_ns >= window.stop_ns {
                return;
            }
            // At least that long: leaving them out would hide the very stall that kept them.
            if window.contains(due_ns) {
                tally.latencies.saturating_record(window.stop_ns - due_ns);
            }
            tally.unsent += 1;
            self.next += 1;
        }
    }
}

impl Listener for Connection {
    fn on_connected(&mut self, _: &Transport) -> ListenerResult {
        self.desk.open.set(self.desk.open.get() + 1);
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let now_ns = self.desk.crew.now_ns();
        match frame.msg_type() {
            MsgType::Close | MsgType::Ping | MsgType::Pong => return Ok(()),
            MsgType::Continuation => {
                // A first fragment came before, or the library would have ended the connection.
                let Some((msg_type, mut echo)) = self.fragments.take() else { return Ok(()) };
                if echo.len() <= self.desk.crew.plan.size_bytes {
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
        let desk = Rc::clone(&self.desk);
        desk.open.set(desk.open.get() - 1);
        let cause = transport.disconnect_cause();
        let is_ours = self.is_ended || cause == Some(DisconnectCause::Stopped);
        if desk.stage.get() != Stage::Over && !is_ours {
            let mut tally = desk.tally.borrow_mut();
            tally.errors.lost_connections += 1;
            self.is_lost = true;
            tally.tell(|| {
                let cause = cause.map_or_else(String::new, |it| format!(": {it}"));
                let close = transport.close_handshake().received;
                let code = close.and_then(|it| it.code());
                let cure = if code == Some(CloseCode::MESSAGE_TOO_BIG) { TOO_BIG } else { "" };
                let code = code.map_or_else(String::new, |it| format!(" ({it})"));
                format!("connection {} was lost{cause}{code}{cure}", self.id)
            });
            tally.errors.missing += self.waiting.len() as u64;
            let in_flight = self.waiting.len();
            self.waiting.clear();
            drop(tally);
            desk.land(in_flight);
        }
        if desk.is_deserted() {
            desk.changed.notify_one();
        }
    }

    fn pause_writing(&mut self, _: &Transport) {
        self.is_congested = true;
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.is_congested = false;
        let now_ns = self.desk.crew.now_ns();
        self.pump(transport, now_ns);
    }
}

/// What helps when the server says so.
const TOO_BIG: &str = ": a message is larger than the server takes: use a smaller --size, or raise \
                       its limit (picows echo --max-frame-size)";
/// How far back an echo that came twice is recognised.
const ANSWERED_LOOK_BACK: u64 = 16;
