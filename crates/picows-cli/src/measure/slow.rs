//! Slow connections of a load: they send as fast as the server takes it, and hardly read the echoes.
//!
//! What becomes of them is counted and is no error: a server may slow them down, drop what it has for them, or
//! end them.

use super::connection::ThreadState;
use super::connections::{CLOSE_TIMEOUT, ThreadContext, connector};
use super::shape::Mode;
use crate::fault::Fault;
use picows_uring::{
    CloseCode, DisconnectCause, Frame, Listener, ListenerResult, Task, Transport, spawn,
};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

/// The slow connections of one thread.
pub(super) struct SlowPeers {
    state: Rc<ThreadState>,
    peers: Vec<(Rc<RefCell<SlowPeer>>, Transport)>,
}

/// The same, under way.
pub(super) struct RunningSlowPeers {
    peers: Rc<SlowPeers>,
    feeder: Option<Task<()>>,
}

/// One slow connection.
struct SlowPeer {
    state: Rc<ThreadState>,
    /// Bytes that it may read so far; below 0 after a frame that was larger.
    budget: Cell<i64>,
    is_congested: bool,
}

impl SlowPeers {
    /// Connects this thread's share of them. One that fails is counted as a failed connection.
    pub(super) async fn connect(context: &ThreadContext, state: &Rc<ThreadState>) -> Self {
        let plan = &context.run.plan;
        let mut peers = Vec::new();
        let count = if plan.is(Mode::Slow) { plan.shape.slow.connections } else { 0 };
        for index in (context.index..count).step_by(plan.threads) {
            let id = (plan.connections + index) as u64;
            let peer =
                SlowPeer { state: Rc::clone(state), budget: Cell::new(0), is_congested: false };
            let peer = Rc::new(RefCell::new(peer));
            match connector(&context.run, id).connect(Rc::clone(&peer)).await {
                Ok(transport) => peers.push((peer, transport)),
                Err(error) => {
                    let mut tally = state.tally.borrow_mut();
                    tally.errors.failed_connections += 1;
                    tally.record_error(|| error.to_string());
                }
            }
        }
        state.tally.borrow_mut().slow.connections = peers.len() as u64;
        Self { state: Rc::clone(state), peers }
    }

    /// Has them send and read from now on.
    ///
    /// # Errors
    ///
    /// When the loop takes no task.
    pub(super) fn begin(self) -> Result<RunningSlowPeers, Fault> {
        let peers = Rc::new(self);
        let feeder = if peers.peers.is_empty() {
            None
        } else {
            let peers = Rc::clone(&peers);
            Some(spawn(async move { peers.feed().await })?)
        };
        Ok(RunningSlowPeers { peers, feeder })
    }

    /// Gives each connection its bytes to read, and sends what the server takes, several times a second.
    async fn feed(&self) {
        let allowance = self.state.run().plan.shape.slow.bytes_per_s / TICKS_PER_S;
        let mut sequence = 0;
        loop {
            for (index, (peer, transport)) in self.peers.iter().enumerate() {
                if transport.is_disconnected() {
                    continue;
                }
                peer.borrow().allow(transport, allowance as i64);
                for _ in 0..MESSAGES_PER_TICK {
                    if peer.borrow().is_congested || !self.state.is_sending() {
                        break;
                    }
                    let msg_type = self.state.msg_type();
                    let send = |payload: &[u8]| transport.send(msg_type, payload);
                    if !self.state.with_payload(index as u64, sequence, send).is_queued() {
                        break;
                    }
                    sequence += 1;
                    self.state.tally.borrow_mut().slow.sent_messages += 1;
                }
                // The connections that are measured are not to wait for all of these.
                yield_now().await;
            }
            sleep(Duration::from_secs(1) / TICKS_PER_S as u32).await;
        }
    }
}

impl RunningSlowPeers {
    /// Counts the connections that are open, and ends them.
    pub(super) async fn end(mut self, state: &ThreadState) {
        if let Some(feeder) = &mut self.feeder {
            feeder.abort();
        }
        for (peer, transport) in &self.peers.peers {
            if !transport.is_disconnected() {
                state.tally.borrow_mut().slow.open += 1;
                peer.borrow().budget.set(i64::MAX);
                transport.send_close(CloseCode::NORMAL, "");
                transport.resume_reading();
            }
        }
        // What is left in the queues of the server would take long to read.
        let _ = timeout(CLOSE_TIMEOUT, async {
            for (_, transport) in &self.peers.peers {
                let _ = transport.wait_disconnected().await;
            }
        })
        .await;
        for (_, transport) in &self.peers.peers {
            transport.abort();
        }
    }
}

impl SlowPeer {
    /// Lets the connection read so many bytes more.
    fn allow(&self, transport: &Transport, bytes: i64) {
        // What was not used is not saved up.
        self.budget.set(self.budget.get().min(0).saturating_add(bytes));
        if self.budget.get() > 0 {
            transport.resume_reading();
        }
    }
}

impl Listener for SlowPeer {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        transport.pause_reading();
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let bytes = frame.payload().len();
        self.state.tally.borrow_mut().slow.read_bytes += bytes as u64;
        let left = self.budget.get().saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.budget.set(left);
        if left <= 0 {
            transport.pause_reading();
        }
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        if self.state.is_over() || transport.disconnect_cause() == Some(DisconnectCause::Stopped) {
            return;
        }
        let slow = &mut self.state.tally.borrow_mut().slow;
        match transport.close_handshake().received {
            Some(close) => {
                let code = close.code().map_or(NO_CODE, CloseCode::get);
                *slow.closed.entry(code).or_default() += 1;
            }
            None => slow.cut += 1,
        }
    }

    fn pause_writing(&mut self, _: &Transport) {
        self.is_congested = true;
    }

    fn resume_writing(&mut self, _: &Transport) {
        self.is_congested = false;
    }
}

/// How often a connection gets bytes to read.
const TICKS_PER_S: u64 = 20;
/// So that one connection does not keep the others of its thread waiting.
const MESSAGES_PER_TICK: usize = 64;
/// A CLOSE without a code (RFC 6455 §7.1.5).
const NO_CODE: u16 = 1005;
