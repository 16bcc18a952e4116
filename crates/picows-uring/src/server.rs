//! A server: listening sockets, workers on threads, and a handle to stop them.
//!
//! The data path is in the worker; here is only what happens before and after it.

mod builder;
mod gauge;
mod handle;
mod monitor;
mod threads;
mod upgrade;

pub use builder::{Server, ServerBuilder};
pub use handle::{ServerHandle, Stopper};
pub use monitor::{Monitor, WorkerState, WorkerStatus};
pub use upgrade::{IntoUpgrade, Upgrade};

pub(crate) use gauge::{Gauge, Place, Refusal};
pub(crate) use upgrade::{Answer, Factory};

#[cfg(test)]
mod tests;
