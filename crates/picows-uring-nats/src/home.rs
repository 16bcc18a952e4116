//! Loop that serves a bus: one of a thread of its own, or that of a worker.
//!
//! A loop that ends before the bus does hands it to a thread of its own.

use crate::connection::{self, Commands, Wanted};
use crate::message::Subjects;
use crate::shared::Shared;
use crate::stream::JetStream;
use async_nats::{ConnectOptions, ServerAddr};
use picows_uring::topics::{BusError, Inlet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::runtime::Handle;

/// The parts of a bus that the loop which serves it needs.
pub(crate) struct Plan {
    pub(crate) servers: Vec<ServerAddr>,
    pub(crate) options: ConnectOptions,
    pub(crate) subjects: Subjects,
    pub(crate) jet_stream: Option<JetStream>,
    pub(crate) commands: Commands,
    pub(crate) wanted: Wanted,
    pub(crate) shared: Arc<Shared>,
    /// A connection was there before, of another loop perhaps.
    pub(crate) was_connected: bool,
}

/// Where a bus is served.
pub(crate) enum Home {
    /// Nowhere, as no hub is attached.
    Unattached(Plan),
    /// Nowhere, until the application says where.
    Attached(Plan, Inlet),
    /// On a loop.
    Served,
}

/// Serves a bus on a thread of its own.
pub(crate) fn serve_on_thread(mut plan: Plan, inlet: Inlet) -> Result<(), BusError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| BusError::new(format!("no loop for NATS: {error}")))?;
    std::thread::Builder::new()
        .name("picows-nats".to_owned())
        .spawn(move || runtime.block_on(connection::run(&mut plan, &inlet)))
        .map(drop)
        .map_err(|error| BusError::new(format!("no thread for NATS: {error}")))
}

/// Serves a bus on the loop of the calling thread. Without one it goes to a thread of its own, as when the
/// loop ends.
pub(crate) fn serve_here(plan: Plan, inlet: Inlet) {
    let guest = Guest { plan: Some(plan), inlet };
    drop(picows_uring::spawn(OnLoop { future: Some(Box::pin(guest.run())), runtime: None }));
}

/// A future that is dropped in the context of the runtime that polled it: subscriptions of async-nats start a
/// task as they are dropped, and a loop drops its tasks outside.
struct OnLoop<F> {
    future: Option<Pin<Box<F>>>,
    runtime: Option<Handle>,
}

impl<F: Future> Future for OnLoop<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.runtime.get_or_insert_with(Handle::current);
        match &mut self.future {
            Some(future) => future.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for OnLoop<F> {
    fn drop(&mut self) {
        let _context = self.runtime.as_ref().map(Handle::enter);
        drop(self.future.take());
    }
}

/// A bus on the loop of a worker.
struct Guest {
    /// Until the bus is closed.
    plan: Option<Plan>,
    inlet: Inlet,
}

impl Guest {
    async fn run(mut self) {
        if let Some(plan) = &mut self.plan {
            connection::run(plan, &self.inlet).await;
            self.plan = None;
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let Some(plan) = self.plan.take() else { return };
        let shared = Arc::clone(&plan.shared);
        if !plan.commands.are_open() {
            shared.closed();
            return;
        }
        if plan.was_connected {
            shared.disconnected(Some("the loop that served it has ended".to_owned()));
        }
        if let Err(error) = serve_on_thread(plan, self.inlet.clone()) {
            tracing::error!("the bus on NATS has ended: {error}");
            shared.closed();
        }
    }
}
