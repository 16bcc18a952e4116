//! One thread of a load that has left its loop: all happens in the callbacks of its connections.
//!
//! Has no clock of its own: a connection ends itself with the last echo that comes after the end of
//! the window, and whoever holds the clock stops the thread if one never comes.

use super::connection::Desk;
use super::tally::Tally;
use super::thread::{Pair, Place, close_all, muster, settle_all};
use crate::fault::Fault;
use picows_uring::Runtime;
use std::rc::Rc;

/// Runs a thread's part of the plan.
///
/// # Errors
///
/// When the ring was lost.
pub(super) fn run(runtime: Runtime, place: &Place) -> Result<Tally, Fault> {
    let crew = &place.crew;
    let desk = Rc::new(Desk::new(crew, place.index));
    let stopper = runtime.stopper();
    let setup = async {
        let (connections, window) = muster(place, &desk, Some(stopper)).await?;
        if window.is_some() {
            for (connection, transport) in &connections {
                connection.borrow_mut().pump(transport, crew.now_ns());
            }
        } else {
            close_all(&connections).await;
        }
        Ok::<Vec<Pair>, Fault>(connections)
    };
    let connections = runtime.run_dedicated(setup)??;
    settle_all(&desk, &connections);
    Ok(desk.tally.replace(Tally::new(&crew.plan)))
}
