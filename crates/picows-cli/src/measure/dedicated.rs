//! One thread of a load that has left its loop: all happens in the callbacks of its connections.
//!
//! Has no clock of its own: a connection ends itself with the last echo that comes after the end of
//! the window, and whoever holds the clock stops the thread if one never comes.

use super::connection::{Desk, Stage};
use super::tally::Tally;
use super::thread::{Pair, close_all, muster};
use super::{Crew, News, Signal};
use crate::fault::Fault;
use picows_uring::Runtime;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tokio::sync::watch;

/// Runs a thread's part of the plan.
///
/// # Errors
///
/// When the ring was lost.
pub(super) fn run(
    runtime: Runtime,
    crew: &Arc<Crew>,
    index: usize,
    signals: watch::Receiver<Signal>,
    teller: &Sender<News>,
) -> Result<Tally, Fault> {
    let desk = Rc::new(Desk::new(crew, index));
    let stopper = runtime.stopper();
    let setup = async {
        let (connections, window) =
            muster(crew, index, &desk, signals, teller, Some(stopper)).await?;
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
    desk.enter(Stage::Over);
    for (connection, _) in &connections {
        connection.borrow_mut().settle();
    }
    Ok(desk.tally.replace(Tally::new(&crew.plan)))
}
