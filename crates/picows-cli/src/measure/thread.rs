//! One thread of a load: connects, sends during the window, waits for the last echoes.

use super::churn;
use super::connection::{LoadStage, ThreadState};
use super::connections::{Pair, ThreadContext, close_all, connect_all_and_wait, settle_all};
use super::dedicated;
use super::pace::pace;
use super::run::{Command, Event, Run, Window};
use super::shape::Mode;
use super::slow::SlowPeers;
use super::tally::Tally;
use crate::fault::Fault;
use std::rc::Rc;
use tokio::time::{Instant, timeout, timeout_at};

/// Runs a thread's part of the plan.
///
/// # Errors
///
/// When the loop cannot be created, or a task of it fails.
pub(super) fn run(context: &ThreadContext) -> Result<Tally, Fault> {
    let plan = &context.run.plan;
    let runtime = plan.driver.of_loop().busy_poll(plan.busy_poll).build()?;
    if plan.is_dedicated {
        return dedicated::run(runtime, context);
    }
    if plan.is(Mode::Churn) {
        return runtime.block_on(churn::work(context))?;
    }
    runtime.block_on(work(context))?
}

async fn work(context: &ThreadContext) -> Result<Tally, Fault> {
    let run = &context.run;
    let state = Rc::new(ThreadState::new(run, context.index));
    let slow = SlowPeers::connect(context, &state).await;
    let (connections, window) = connect_all_and_wait(context, &state, None).await?;
    if let Some(window) = window {
        let slow = slow.begin()?;
        let mut stopped = context.commands.clone();
        // Its sender outlives the thread, so this ends with a signal only.
        let stopped = async || drop(stopped.wait_for(|it| matches!(it, Command::Stop(_))).await);
        load(run, &window, &state, &connections, stopped).await?;
        let _ = context.events.send(Event::Finished);
        drain(context, &state).await;
        settle_all(&state, &connections);
        slow.end(&state).await;
    }
    close_all(&connections).await;
    Ok(state.tally.replace(Tally::new(&run.plan)))
}

/// Sends until the window ends, all connections have ended, or a signal comes.
async fn load(
    run: &Run,
    window: &Window,
    state: &ThreadState,
    connections: &[Pair],
    stopped: impl AsyncFnOnce(),
) -> Result<(), Fault> {
    let schedule = run.plan.schedule(window.start_ns, run.plan.connections);
    for (connection, transport) in connections.iter().filter(|_| !run.plan.is(Mode::Idle)) {
        let mut connection = connection.borrow_mut();
        match &schedule {
            Some(schedule) => connection.follow(schedule.clone()),
            None => connection.pump(transport, run.now_ns()),
        }
    }
    let stop = Instant::from_std(run.instant(window.stop_ns));
    let end = async {
        let all_closed = async {
            while !state.is_all_closed() {
                state.changed.notified().await;
            }
        };
        tokio::select! {
            _ = timeout_at(stop, all_closed) => {}
            () = stopped() => {}
        }
    };
    match schedule {
        None => end.await,
        Some(schedule) => {
            let paced = async {
                let outcome = pace(run, window, &schedule, connections).await;
                tokio::time::sleep_until(stop).await;
                outcome
            };
            tokio::select! {
                outcome = paced => outcome?,
                () = end => {}
            }
            // Messages that were due before the end belong to the load.
            for (connection, transport) in connections {
                connection.borrow_mut().pump(transport, window.stop_ns.min(run.interrupted_ns()));
            }
        }
    }
    state.enter(LoadStage::Draining);
    Ok(())
}

/// Waits for the echoes of the messages in flight.
async fn drain(context: &ThreadContext, state: &ThreadState) {
    let mut commands = context.commands.clone();
    let drained = async || {
        while !state.is_drained() && !state.is_all_closed() {
            state.changed.notified().await;
        }
    };
    let interrupted = async {
        let _ = commands.wait_for(|command| matches!(command, Command::Stop(_))).await;
        let _ = timeout(context.run.drain(), drained()).await;
    };
    tokio::select! {
        _ = timeout(context.run.plan.drain, drained()) => {}
        () = interrupted => {}
    }
}
