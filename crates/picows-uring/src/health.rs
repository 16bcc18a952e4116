//! Health of a worker, for other threads and the log: counters, its pulse and slow callbacks.
//!
//! Watches and counts; acts on nothing.

mod callback_timer;
mod counters;
mod endings;
mod histogram;
mod pulse;

pub use counters::Stats;
pub use pulse::WorkerState;

pub(crate) use callback_timer::{COARSE_STEP_MAX, CallbackTimer};
pub(crate) use counters::{Counter, Counters};
pub(crate) use endings::EndCause;
pub(crate) use histogram::HistogramReading;
