//! The connections of one load thread: connected, settled and closed together.

use super::connection::{Connection, LoadStage, ThreadState};
use super::run::{Command, Event, Run, Window};
use crate::fault::Fault;
use crate::tls;
use picows_uring::{
    CloseCode, Connect, ConnectError, FRAME_HEADER_BYTES_MAX, QueuePolicy, Stopper, Transport,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// A connection and its transport.
pub(super) type Pair = (Rc<RefCell<Connection>>, Transport);

/// Context of one thread: its index, the commands it obeys, and the channel for its events.
pub(super) struct ThreadContext {
    pub(super) run: Arc<Run>,
    pub(super) index: usize,
    pub(super) commands: watch::Receiver<Command>,
    pub(super) events: Sender<Event>,
}

/// Reports the end of the thread on every path, a panic included, so that the coordinator does not
/// wait for it.
impl Drop for ThreadContext {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Gone);
    }
}

/// Connects, and waits until all threads have connected. Returns the connections, and the window if
/// the load begins.
pub(super) async fn connect_all_and_wait(
    context: &ThreadContext,
    state: &Rc<ThreadState>,
    stopper: Option<Stopper>,
) -> Result<(Vec<Pair>, Option<Window>), Fault> {
    let (connections, failures) = connect_all(context, state).await?;
    let event = Event::Connected { connections: connections.len(), failures, stopper };
    let window = wait_start(context, state, event).await?;
    Ok((connections, window))
}

/// Reports that this thread is ready, and waits until all are. Returns the window, if the load begins.
pub(super) async fn wait_start(
    context: &ThreadContext,
    state: &ThreadState,
    event: Event,
) -> Result<Option<Window>, Fault> {
    let _ = context.events.send(event);
    let mut commands = context.commands.clone();
    let command = *commands.wait_for(|command| !matches!(command, Command::Wait)).await?;
    let (Command::Start(window) | Command::Stop(window)) = command else {
        state.enter(LoadStage::Over);
        return Ok(None);
    };
    state.begin(window);
    Ok(Some(window))
}

/// Makes this thread's share of the connections, several at a time, until a signal comes.
async fn connect_all(
    context: &ThreadContext,
    state: &Rc<ThreadState>,
) -> Result<(Vec<Pair>, Vec<ConnectError>), Fault> {
    let (run, index) = (&context.run, context.index);
    let ids = Rc::new(RefCell::new((index..run.plan.connections).step_by(run.plan.threads)));
    let done = Rc::new(RefCell::new((Vec::new(), Vec::new())));
    let start = run.instant(0);
    let mut tasks = Vec::new();
    for _ in 0..CONNECTING_MAX {
        let (run, state) = (Arc::clone(run), Rc::clone(state));
        let (ids, done) = (Rc::clone(&ids), Rc::clone(&done));
        tasks.push(picows_uring::spawn(async move {
            loop {
                let Some(id) = ids.borrow_mut().next() else { return };
                if let Some(rate) = run.plan.shape.connect_rate {
                    let due = Duration::from_secs_f64(id as f64 / rate);
                    sleep_until(Instant::from_std(start + due)).await;
                }
                let connection = Rc::new(RefCell::new(Connection::new(&state, id as u64)));
                let begin_ns = run.now_ns();
                match connector(&run, id as u64).connect(Rc::clone(&connection)).await {
                    Ok(transport) => {
                        let spent_ns = run.now_ns() - begin_ns;
                        state.tally.borrow_mut().connects.saturating_record(spent_ns);
                        state.show_connected();
                        done.borrow_mut().0.push((connection, transport));
                    }
                    Err(error) => done.borrow_mut().1.push(error),
                }
            }
        })?);
    }
    let mut commands = context.commands.clone();
    tokio::select! {
        outcome = async {
            for task in &mut tasks {
                task.await?;
            }
            Ok::<_, Fault>(())
        } => outcome?,
        _ = commands.wait_for(|command| !matches!(command, Command::Wait)) => {
            tasks.iter().for_each(picows_uring::Task::abort);
        }
    }
    let (mut connections, failures) = done.take();
    // The order of the schedule.
    connections.sort_by_key(|(connection, _): &Pair| connection.borrow().id());
    Ok((connections, failures))
}

/// The settings of connection `id`.
pub(super) fn connector(run: &Run, id: u64) -> Connect {
    let plan = &run.plan;
    let frame_bytes = plan.size_bytes + FRAME_HEADER_BYTES_MAX;
    // Twice the messages in flight: a send counts in full until its last byte has left, and before
    // that all of its messages but the last may have been answered and followed by new ones.
    let frames = plan.pipeline.saturating_mul(2);
    let queue_bytes = frame_bytes.saturating_mul(frames).saturating_add(QUEUE_SPARE_BYTES);
    let connect = Connect::new(plan.url.as_str())
        // An echo that is somewhat too long is counted as such, instead of ending the connection.
        .max_frame_size(plan.size_bytes as u64 + FRAME_SPARE_BYTES)
        .max_queue_size(queue_bytes, QueuePolicy::Close)
        .close_timeout(CLOSE_TIMEOUT)
        .deflate(plan.deflate)
        .auto_ping(plan.auto_ping);
    let connect = match &plan.shape.sources {
        Some(sources) => sources.bind(connect, id),
        None => connect,
    };
    let connect = tls::of_client(connect, plan.tls.as_ref());
    match &plan.proxy {
        Some(proxy) => connect.proxy(proxy.clone()),
        None => connect,
    }
}

/// Ends the measurement, and counts the missing echoes of each connection.
pub(super) fn settle_all(state: &ThreadState, connections: &[Pair]) {
    state.enter(LoadStage::Over);
    for (connection, _) in connections {
        connection.borrow_mut().settle();
    }
}

/// Sends CLOSE on each connection, and waits up to `CLOSE_TIMEOUT` for the answers.
pub(super) async fn close_all(connections: &[Pair]) {
    for (_, transport) in connections {
        transport.send_close(CloseCode::NORMAL, "");
    }
    let _ = timeout(CLOSE_TIMEOUT, async {
        for (_, transport) in connections {
            let _ = transport.wait_disconnected().await;
        }
    })
    .await;
}

/// Handshakes of a thread at a time, so that they do not overflow the server's listen backlog.
const CONNECTING_MAX: usize = 32;
/// For the frames of the close handshake and of pongs.
const QUEUE_SPARE_BYTES: usize = 1 << 20;
/// Bytes by which an echo may exceed its message.
const FRAME_SPARE_BYTES: u64 = 1 << 20;
/// Limit of the close handshakes, after the measurement.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
