//! One thread of a load: connects, sends for as long as it is told to, waits for the last echoes.

use super::connection::{Connection, Desk, Stage};
use super::dedicated;
use super::pace::pace;
use super::schedule::Schedule;
use super::tally::Tally;
use super::{Crew, News, Order, Window};
use crate::fault::Fault;
use picows_uring::{
    CloseCode, Connect, ConnectError, FRAME_HEADER_BYTES_MAX, QueuePolicy, Runtime, Stopper,
    Transport,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// A connection, and the way to it.
pub(super) type Pair = (Rc<RefCell<Connection>>, Transport);

/// A thread's place in the crew: which it is, and who is told and tells.
pub(super) struct Place {
    pub(super) crew: Arc<Crew>,
    pub(super) index: usize,
    pub(super) orders: watch::Receiver<Order>,
    pub(super) teller: Sender<News>,
}

/// Tells that the thread has ended, however it did: nobody is to wait for it in vain.
impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.teller.send(News::Gone);
    }
}

/// Runs a thread's part of the plan.
///
/// # Errors
///
/// When there is no loop to be had.
pub(super) fn run(place: &Place) -> Result<Tally, Fault> {
    let runtime = Runtime::builder().busy_poll(place.crew.plan.busy_poll).build()?;
    if place.crew.plan.is_dedicated {
        return dedicated::run(runtime, place);
    }
    runtime.block_on(work(place))?
}

async fn work(place: &Place) -> Result<Tally, Fault> {
    let crew = &place.crew;
    let desk = Rc::new(Desk::new(crew, place.index));
    let (connections, window) = muster(place, &desk, None).await?;
    if let Some(window) = window {
        let mut stopped = place.orders.clone();
        // Its sender outlives the thread, so this ends with a signal only.
        let stopped = async || drop(stopped.wait_for(|it| matches!(it, Order::Stop(_))).await);
        load(crew, &window, &desk, &connections, stopped).await?;
        let _ = place.teller.send(News::Finished);
        drain(place, &desk).await;
        settle_all(&desk, &connections);
    }
    close_all(&connections).await;
    Ok(desk.tally.replace(Tally::new(&crew.plan)))
}

/// Connects, and waits until all threads have: the connections, and when they are to send, if the
/// load is to begin.
pub(super) async fn muster(
    place: &Place,
    desk: &Rc<Desk>,
    stopper: Option<Stopper>,
) -> Result<(Vec<Pair>, Option<Window>), Fault> {
    let (connections, failures) = connect_all(place, desk).await?;
    let told = News::Connected { connections: connections.len(), failures, stopper };
    let _ = place.teller.send(told);
    let mut orders = place.orders.clone();
    let order = *orders.wait_for(|order| !matches!(order, Order::Wait)).await?;
    let (Order::Start(window) | Order::Stop(window)) = order else {
        desk.enter(Stage::Over);
        return Ok((connections, None));
    };
    desk.begin(window);
    Ok((connections, Some(window)))
}

/// Makes this thread's share of the connections, several at a time, unless a signal comes.
async fn connect_all(
    place: &Place,
    desk: &Rc<Desk>,
) -> Result<(Vec<Pair>, Vec<ConnectError>), Fault> {
    let (crew, index) = (&place.crew, place.index);
    let ids = Rc::new(RefCell::new((index..crew.plan.connections).step_by(crew.plan.threads)));
    let done = Rc::new(RefCell::new((Vec::new(), Vec::new())));
    let mut tasks = Vec::new();
    for _ in 0..CONNECTING_MAX {
        let (crew, desk) = (Arc::clone(crew), Rc::clone(desk));
        let (ids, done) = (Rc::clone(&ids), Rc::clone(&done));
        tasks.push(picows_uring::spawn(async move {
            loop {
                let Some(id) = ids.borrow_mut().next() else { return };
                let connection = Rc::new(RefCell::new(Connection::new(&desk, id as u64)));
                match connector(&crew).connect(Rc::clone(&connection)).await {
                    Ok(transport) => done.borrow_mut().0.push((connection, transport)),
                    Err(error) => done.borrow_mut().1.push(error),
                }
            }
        })?);
    }
    let mut orders = place.orders.clone();
    tokio::select! {
        outcome = async {
            for task in &mut tasks {
                task.await?;
            }
            Ok::<_, Fault>(())
        } => outcome?,
        _ = orders.wait_for(|order| !matches!(order, Order::Wait)) => {
            tasks.iter().for_each(picows_uring::Task::abort);
        }
    }
    let (mut connections, failures) = done.take();
    // In the order of the schedule.
    connections.sort_by_key(|(connection, _): &Pair| connection.borrow().id());
    Ok((connections, failures))
}

fn connector(crew: &Crew) -> Connect {
    let plan = &crew.plan;
    let frame_bytes = plan.size_bytes + FRAME_HEADER_BYTES_MAX;
    // Twice what is in flight: a send counts in full until its last byte has left, and before that
    // all of its messages but the last may have come back and been followed by others.
    let frames = plan.pipeline.saturating_mul(2);
    let queue_bytes = frame_bytes.saturating_mul(frames).saturating_add(QUEUE_SPARE_BYTES);
    Connect::new(plan.url.as_str())
        // A longer echo than was sent is to be told as that.
        .max_frame_size(plan.size_bytes as u64 + FRAME_SPARE_BYTES)
        .max_queue_size(queue_bytes, QueuePolicy::Close)
        .close_timeout(CLOSE_TIMEOUT)
        .auto_ping(plan.auto_ping)
}

/// Sends until the window ends, or no connection is left.
async fn load(
    crew: &Crew,
    window: &Window,
    desk: &Desk,
    connections: &[Pair],
    stopped: impl AsyncFnOnce(),
) -> Result<(), Fault> {
    let schedule = crew
        .plan
        .rate_per_s
        .map(|rate| Schedule::new(window.start_ns, rate, crew.plan.connections));
    for (connection, transport) in connections {
        let mut connection = connection.borrow_mut();
        match schedule {
            Some(schedule) => connection.follow(schedule),
            None => connection.pump(transport, crew.now_ns()),
        }
    }
    let stop = Instant::from_std(crew.instant(window.stop_ns));
    let end = async {
        let deserted = async {
            while !desk.is_deserted() {
                desk.changed.notified().await;
            }
        };
        tokio::select! {
            _ = timeout_at(stop, deserted) => {}
            () = stopped() => {}
        }
    };
    match schedule {
        None => end.await,
        Some(schedule) => {
            let paced = async {
                let outcome = pace(crew, window, &schedule, connections).await;
                tokio::time::sleep_until(stop).await;
                outcome
            };
            tokio::select! {
                outcome = paced => outcome?,
                () = end => {}
            }
            // What was due before the end belongs to the load.
            for (connection, transport) in connections {
                connection.borrow_mut().pump(transport, window.stop_ns.min(crew.interrupted_ns()));
            }
        }
    }
    desk.enter(Stage::Draining);
    Ok(())
}

/// Waits for the echoes of what is in flight.
async fn drain(place: &Place, desk: &Desk) {
    let mut orders = place.orders.clone();
    let drained = async || {
        while !desk.is_drained() && !desk.is_deserted() {
            desk.changed.notified().await;
        }
    };
    let interrupted = async {
        let _ = orders.wait_for(|order| matches!(order, Order::Stop(_))).await;
        let _ = timeout(place.crew.drain(), drained()).await;
    };
    tokio::select! {
        _ = timeout(place.crew.plan.drain, drained()) => {}
        () = interrupted => {}
    }
}

/// Ends the measuring, and counts what is still missing on each connection.
pub(super) fn settle_all(desk: &Desk, connections: &[Pair]) {
    desk.enter(Stage::Over);
    for (connection, _) in connections {
        connection.borrow_mut().settle();
    }
}

/// Says goodbye, and waits a moment for the answers.
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

/// Handshakes of a thread at a time: a server's backlog is not the thing to be measured.
const CONNECTING_MAX: usize = 32;
/// For the frames of the close handshake and of pongs.
const QUEUE_SPARE_BYTES: usize = 1 << 20;
/// How much longer than what was sent an echo may be.
const FRAME_SPARE_BYTES: u64 = 1 << 20;
/// The measuring is over by then.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
