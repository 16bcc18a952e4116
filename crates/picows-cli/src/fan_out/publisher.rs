//! Publishers of a fan-out, on a thread of their own.
//!
//! What they receive, as subscribers of the same topic, is ignored.

use super::board::{Board, Phase};
use super::stamp::{PROBE, Stamp};
use super::subscriber::{ThreadState, ending};
use crate::measure::{Schedule, SendTimer};
use picows_uring::{Frame, Listener, ListenerResult, MsgType, Transport};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A publisher, whose connection only sends.
pub(super) struct Publisher {
    pub(super) state: Rc<ThreadState>,
    pub(super) id: usize,
}

impl Listener for Publisher {
    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        if *self.state.board.phase.borrow() == Phase::Over {
            return;
        }
        self.state.board.is_publisher_lost.store(true, Ordering::Relaxed);
        let mut tally = self.state.tally.borrow_mut();
        tally.errors.lost_connections += 1;
        let id = self.id;
        tally.record_error(|| format!("publisher {id} was lost{}", ending(transport)));
    }
}

/// Sends probes until each subscriber has had one, and then publications until the end.
///
/// # Errors
///
/// When the kernel grants no timer.
pub(super) async fn publish(state: &Rc<ThreadState>, transports: &[Transport]) -> io::Result<()> {
    let board = &state.board;
    let mut phase = board.phase.subscribe();
    let mut payload = state.sample.clone();
    while *phase.borrow_and_update() == Phase::Probing {
        if let Some(transport) = transports.first() {
            send(board, transport, &mut payload, 0, PROBE);
        }
        let _ = tokio::time::timeout(PROBE_INTERVAL, phase.changed()).await;
    }
    if *phase.borrow() != Phase::Publishing {
        return Ok(());
    }
    let mut ended = board.phase.subscribe();
    let end = async move { drop(ended.wait_for(|phase| *phase > Phase::Publishing).await) };
    match board.start_schedule() {
        Some(schedule) => {
            let mut index = 0;
            let outcome = tokio::select! {
                outcome = pace(state, transports, &schedule, &mut index) => outcome,
                () = end => Ok(()),
            };
            count_unsent(state, transports.len() as u64, &schedule, index);
            outcome
        }
        None => {
            let tasks = transports.iter().enumerate().map(|(id, transport)| {
                let (state, transport) = (Rc::clone(state), transport.clone());
                picows_uring::spawn(async move { follow(&state, &transport, id).await })
            });
            let tasks: Vec<_> = tasks.collect::<Result<_, _>>().map_err(io::Error::other)?;
            end.await;
            tasks.iter().for_each(picows_uring::Task::abort);
            Ok(())
        }
    }
}

/// Keeps `pipeline` publications of one publisher in flight, until it is lost.
async fn follow(state: &ThreadState, transport: &Transport, id: usize) {
    let board = &state.board;
    let mut payload = state.sample.clone();
    loop {
        while board.publishers[id].in_flight() < board.plan.pipeline as u64 {
            let due_ns = board.now_ns();
            if !publish_one(state, transport, &mut payload, id, due_ns) {
                return;
            }
        }
        board.publishers[id].changed.notified().await;
    }
}

/// Publishes what is due, of all publishers in turn.
async fn pace(
    state: &ThreadState,
    transports: &[Transport],
    schedule: &Schedule,
    index: &mut u64,
) -> io::Result<()> {
    let board = &state.board;
    let mut timer = SendTimer::new(board.plan.busy_poll)?;
    let mut payload = state.sample.clone();
    let count = transports.len() as u64;
    let mut since_yield = 0;
    loop {
        let (id, sequence) = (*index % count, *index / count);
        let due_ns = schedule.due_ns(id, sequence);
        let transport = &transports[id as usize];
        let now_ns = board.now_ns();
        if due_ns > now_ns {
            timer.wait(Duration::from_nanos(due_ns - now_ns)).await?;
            since_yield = 0;
            continue;
        }
        if transport.buffered_amount() > BUFFERED_BYTES_MAX {
            // The server takes no more: what is due waits, and its waiting counts.
            timer.wait(CONGESTED_WAIT).await?;
            continue;
        }
        *index += 1;
        publish_one(state, transport, &mut payload, id as usize, due_ns);
        since_yield += 1;
        if since_yield == SENDS_PER_YIELD {
            since_yield = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Counts the publications that were due before the end and were not sent.
fn count_unsent(state: &ThreadState, count: u64, schedule: &Schedule, index: u64) {
    let now_ns = state.board.now_ns();
    let due = |index: &u64| {
        schedule.due_ns(index % count, index / count) < now_ns.saturating_sub(GRACE_NS)
    };
    state.tally.borrow_mut().unsent += (index..).take_while(due).count() as u64;
}

/// Publishes the next of a publisher. Returns whether it was queued.
fn publish_one(
    state: &ThreadState,
    transport: &Transport,
    payload: &mut [u8],
    id: usize,
    due_ns: u64,
) -> bool {
    let board = &state.board;
    if transport.is_disconnected() || transport.is_close_frame_sent() {
        return false;
    }
    let Some(number) = board.publish(id, due_ns) else { return false };
    if board.is_measuring() {
        state.tally.borrow_mut().publications += 1;
    }
    send(board, transport, payload, id, number)
}

fn send(
    board: &Arc<Board>,
    transport: &Transport,
    payload: &mut [u8],
    id: usize,
    number: u64,
) -> bool {
    let is_text = board.plan.is_text;
    Stamp { run: board.run_id, publisher: id as u32, number }.write(payload, is_text);
    let msg_type = if is_text { MsgType::Text } else { MsgType::Binary };
    transport.send(msg_type, payload).is_queued()
}

const PROBE_INTERVAL: Duration = Duration::from_millis(20);
/// Unsent bytes of a publisher beyond which it waits for the server.
const BUFFERED_BYTES_MAX: usize = 4 << 20;
const CONGESTED_WAIT: Duration = Duration::from_millis(1);
/// Publications after which a publisher that is late yields, so that what is queued leaves.
const SENDS_PER_YIELD: u32 = 64;
/// What became due that shortly before the end is not late.
const GRACE_NS: u64 = 10_000_000;
