//! One dedicated thread of a load: it sends and measures in the callbacks of its connections.
//!
//! Has no clock: a connection ends itself with the last echo after the end of the window, and the
//! coordinator stops the thread if an echo is missing.

use super::connection::ThreadState;
use super::connections::{Pair, ThreadContext, close_all, connect_all_and_wait, settle_all};
use super::tally::Tally;
use crate::fault::Fault;
use picows_uring::Runtime;
use std::rc::Rc;

/// Runs a thread's part of the plan.
///
/// # Errors
///
/// When the connections cannot be set up, or the ring is lost.
pub(super) fn run(runtime: Runtime, context: &ThreadContext) -> Result<Tally, Fault> {
    let run = &context.run;
    let state = Rc::new(ThreadState::new(run, context.index));
    let stopper = runtime.stopper();
    let setup = async {
        let (connections, window) = connect_all_and_wait(context, &state, Some(stopper)).await?;
        if window.is_some() {
            for (connection, transport) in &connections {
                connection.borrow_mut().pump(transport, run.now_ns());
            }
        } else {
            close_all(&connections).await;
        }
        Ok::<Vec<Pair>, Fault>(connections)
    };
    let connections = runtime.run_dedicated(setup)??;
    settle_all(&state, &connections);
    Ok(state.tally.replace(Tally::new(&run.plan)))
}
