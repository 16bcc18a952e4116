//! A server: listening sockets, workers on threads, and a handle to stop them.
//!
//! The data path is in the worker; here is only what happens before and after it.

mod address_check;
mod adopt;
mod builder;
mod handle;
mod listen;
mod metrics;
mod monitor;
mod probes;
mod ready;
mod start;
mod takeover;
mod threads;
mod waiting;

pub use builder::{BACKLOG, Server, ServerBuilder};
pub use handle::ServerHandle;
pub use listen::Listen;
pub(crate) use listen::Served;
pub use monitor::{Monitor, WorkerStatus};
pub(crate) use threads::left_of;

#[cfg(test)]
mod tests;
