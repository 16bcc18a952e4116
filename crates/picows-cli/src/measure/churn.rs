//! One thread of a load whose connections come and go.
//!
//! A visit is one connection: made, a few messages echoed, closed. So many at a time as the plan has
//! connections. With a rate, visits are due at its times, and one that finds no free place waits: its latency
//! counts from the time at which it was due.

use super::connection::{LoadStage, ThreadState};
use super::connections::{ThreadContext, connector, wait_start};
use super::pace::SendTimer;
use super::run::{Command, Event, Run, Window};
use super::schedule::Schedule;
use super::tally::Tally;
use crate::fault::Fault;
use picows_uring::{
    CloseCode, ConnectError, Frame, Listener, ListenerResult, MsgType, Task, Transport, spawn,
};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Runs a thread's part of the visits.
///
/// # Errors
///
/// When the loop takes no task, or the kernel grants no timer.
pub(super) async fn work(context: &ThreadContext) -> Result<Tally, Fault> {
    let run = &context.run;
    let state = Rc::new(ThreadState::new(run, context.index));
    let places = (context.index..run.plan.connections).step_by(run.plan.threads);
    let guests = Rc::new(Guests::new(Rc::clone(&state)));
    // Without a server there is nothing to measure.
    let failures = match guests.visit(context.index as u64, 0, run.now_ns()).await {
        Err(error) => vec![error; places.clone().count()],
        Ok(_) => Vec::new(),
    };
    let event = Event::Connected { connections: 0, failures, stopper: None };
    if let Some(window) = wait_start(context, &state, event).await? {
        serve(context, &window, &guests, places).await?;
    }
    Ok(state.tally.replace(Tally::new(&run.plan)))
}

/// Makes visits until the window ends or a signal comes, and waits for those under way.
async fn serve(
    context: &ThreadContext,
    window: &Window,
    guests: &Rc<Guests>,
    places: impl Iterator<Item = usize>,
) -> Result<(), Fault> {
    let run = &context.run;
    let schedule = run.plan.schedule(window.start_ns, run.plan.threads);
    guests.is_open_loop.set(schedule.is_some());
    let mut tasks: Vec<Task<()>> = Vec::new();
    for place in places {
        let guests = Rc::clone(guests);
        tasks.push(spawn(async move { guests.stay(place as u64).await })?);
    }
    let stop = Instant::from_std(run.instant(window.stop_ns));
    let mut commands = context.commands.clone();
    let paced = async {
        if let Some(schedule) = schedule {
            guests.announce(run, window, &schedule, context.index as u64).await?;
        }
        sleep_until(stop).await;
        Ok::<_, io::Error>(())
    };
    tokio::select! {
        outcome = paced => outcome?,
        _ = commands.wait_for(|command| matches!(command, Command::Stop(_))) => {}
    }
    guests.state.enter(LoadStage::Draining);
    guests.announced.notify_waiters();
    let _ = context.events.send(Event::Finished);
    let all = async {
        for task in &mut tasks {
            let _ = task.await;
        }
    };
    let is_late = timeout(run.drain(), all).await.is_err();
    tasks.iter().for_each(Task::abort);
    guests.state.enter(LoadStage::Over);
    let mut tally = guests.state.tally.borrow_mut();
    let missing = guests.under_way.get();
    if is_late && missing > 0 && !run.is_drain_cut() {
        tally.errors.missing += missing;
        tally.record_error(|| format!("{missing} connections were not over in time"));
    }
    if !run.is_interrupted() {
        for due_ns in guests.due.take() {
            tally.count_unsent(window, due_ns);
        }
    }
    Ok(())
}

/// The visits of one thread.
struct Guests {
    state: Rc<ThreadState>,
    /// Times of visits that are due and have no place so far.
    due: RefCell<VecDeque<u64>>,
    announced: Notify,
    is_open_loop: Cell<bool>,
    under_way: Cell<u64>,
}

impl Guests {
    fn new(state: Rc<ThreadState>) -> Self {
        Self {
            state,
            due: RefCell::default(),
            announced: Notify::new(),
            is_open_loop: Cell::new(false),
            under_way: Cell::new(0),
        }
    }

    /// Puts visits into the queue as they are due.
    async fn announce(
        &self,
        run: &Run,
        window: &Window,
        schedule: &Schedule,
        thread: u64,
    ) -> io::Result<()> {
        let mut timer = SendTimer::new(run.plan.busy_poll)?;
        for sequence in 0.. {
            let due_ns = schedule.due_ns(thread, sequence);
            if due_ns >= window.stop_ns {
                break;
            }
            loop {
                let now_ns = run.now_ns();
                if due_ns <= now_ns {
                    break;
                }
                timer.wait(Duration::from_nanos(due_ns - now_ns)).await?;
            }
            self.due.borrow_mut().push_back(due_ns);
            self.announced.notify_one();
            if sequence % ANNOUNCED_PER_YIELD == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Makes one visit after the other at a place, as long as messages are to be sent.
    async fn stay(&self, place: u64) {
        for number in 1.. {
            if !self.state.is_sending() {
                return;
            }
            let Some(due_ns) = self.next_due().await else { return };
            let now_ns = self.state.run().now_ns();
            if self.state.window().is_some_and(|window| window.contains(due_ns)) {
                self.state.tally.borrow_mut().send_delays.saturating_record(now_ns - due_ns);
            }
            self.under_way.set(self.under_way.get() + 1);
            let outcome = self.visit(place, number, due_ns).await;
            self.under_way.set(self.under_way.get() - 1);
            if let Err(error) = outcome {
                {
                    let mut tally = self.state.tally.borrow_mut();
                    tally.errors.failed_connections += 1;
                    tally.record_error(|| error.to_string());
                    self.state.show_errors(&tally);
                }
                sleep(FAILURE_PAUSE).await;
            }
        }
    }

    /// The time at which the next visit was due; `None` when there are no more.
    async fn next_due(&self) -> Option<u64> {
        if !self.is_open_loop.get() {
            return Some(self.state.run().now_ns());
        }
        loop {
            if !self.state.is_sending() {
                return None;
            }
            if let Some(due_ns) = self.due.borrow_mut().pop_front() {
                return Some(due_ns);
            }
            self.announced.notified().await;
        }
    }

    /// Makes one connection, has its messages echoed, and closes it. Faults after the handshake are
    /// counted.
    async fn visit(&self, place: u64, number: u64, due_ns: u64) -> Result<(), ConnectError> {
        let run = self.state.run();
        let messages = run.plan.shape.messages;
        let first = number * u64::from(messages);
        let visitor = Rc::new(RefCell::new(Visitor::new(&self.state, place, first)));
        let changed = Rc::clone(&visitor.borrow().changed);
        // All sources take turns, whatever the place.
        let source = place + number * run.plan.connections as u64;
        let begin_ns = run.now_ns();
        let transport = connector(run, source).connect(Rc::clone(&visitor)).await?;
        let is_counted = self.state.window().is_some_and(|window| window.contains(begin_ns));
        if is_counted {
            let spent_ns = run.now_ns() - begin_ns;
            self.state.tally.borrow_mut().connects.saturating_record(spent_ns);
        }
        for sequence in first..first + u64::from(messages) {
            visitor.borrow_mut().is_waiting = true;
            let msg_type = self.state.msg_type();
            let send = |payload: &[u8]| transport.send(msg_type, payload);
            self.state.with_payload(place, sequence, send);
            let is_there = || visitor.borrow().next > sequence || visitor.borrow().is_over;
            let echoed = async {
                while !is_there() {
                    changed.notified().await;
                }
            };
            if timeout(run.plan.drain, echoed).await.is_err() {
                let mut tally = self.state.tally.borrow_mut();
                tally.errors.missing += 1;
                tally.record_error(|| format!("place {place}, message {sequence}: no echo came"));
            }
            if visitor.borrow().is_over {
                break;
            }
        }
        visitor.borrow_mut().is_leaving = true;
        transport.send_close(CloseCode::NORMAL, "");
        let _ = transport.wait_disconnected().await;
        if !visitor.borrow().is_wrong && self.state.window().is_some() {
            self.state.count_progress(run.now_ns().saturating_sub(due_ns));
            if let Some(window) = self.state.window() {
                self.state.tally.borrow_mut().count(&window, due_ns, run.now_ns());
            }
        }
        Ok(())
    }
}

/// Listener of one visit.
struct Visitor {
    state: Rc<ThreadState>,
    place: u64,
    /// The number of the message whose echo is missing.
    next: u64,
    fragments: Vec<u8>,
    first_type: MsgType,
    /// A message was sent: before it, messages of the server are ignored.
    is_waiting: bool,
    is_leaving: bool,
    is_over: bool,
    is_wrong: bool,
    changed: Rc<Notify>,
}

impl Visitor {
    fn new(state: &Rc<ThreadState>, place: u64, next: u64) -> Self {
        Self {
            state: Rc::clone(state),
            place,
            next,
            fragments: Vec::new(),
            first_type: state.msg_type(),
            is_waiting: false,
            is_leaving: false,
            is_over: false,
            is_wrong: false,
            changed: Rc::new(Notify::new()),
        }
    }

    fn receive(&mut self, msg_type: MsgType, echo: &[u8]) {
        let is_right = self.state.matches(echo, self.place, self.next);
        if !is_right || msg_type != self.state.msg_type() {
            self.is_wrong = true;
            let mut tally = self.state.tally.borrow_mut();
            if is_right {
                tally.errors.wrong_type += 1;
            } else {
                tally.errors.wrong_content += 1;
            }
            let (place, next) = (self.place, self.next);
            tally.record_error(|| format!("place {place}, message {next}: came back changed"));
        }
        self.next += 1;
        self.changed.notify_one();
    }
}

impl Listener for Visitor {
    fn on_connected(&mut self, _: &Transport) -> ListenerResult {
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let msg_type = match frame.msg_type() {
            MsgType::Close | MsgType::Ping | MsgType::Pong => return Ok(()),
            _ if !self.is_waiting || self.is_leaving => return Ok(()),
            MsgType::Continuation => self.first_type,
            first => {
                self.fragments.clear();
                self.first_type = first;
                first
            }
        };
        if frame.fin() && self.fragments.is_empty() {
            self.receive(msg_type, frame.payload());
            return Ok(());
        }
        self.fragments.extend_from_slice(frame.payload());
        if frame.fin() {
            let echo = std::mem::take(&mut self.fragments);
            self.receive(msg_type, &echo);
        }
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        self.is_over = true;
        if !self.is_leaving {
            self.is_wrong = true;
            let mut tally = self.state.tally.borrow_mut();
            tally.errors.lost_connections += 1;
            let cause = transport.disconnect_cause();
            let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
            tally.record_error(|| format!("a connection was lost{cause}"));
        }
        self.changed.notify_one();
    }
}

/// Pause of a place whose connection failed, so that a server that is gone is not asked without end.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);
/// The loop serves connections between so many visits that are due.
const ANNOUNCED_PER_YIELD: u64 = 64;
