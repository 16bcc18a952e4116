//! Shared by the benchmarks, and by the load generators and the servers they are pointed at.
//!
//! What is measured against picows-uring is in `bin/`; nothing here is part of the runtime.

pub mod buffer_ring;
pub mod by_hand;
pub mod cases;
pub mod course;
pub mod cpu;
pub mod echo;
pub mod figures;
pub mod opening;
pub mod process;
pub mod reading;
pub mod rtt;
#[cfg(feature = "tls")]
pub mod secure;
