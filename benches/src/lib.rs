//! Shared by the benchmarks, and by the load generator and the servers it is pointed at.
//!
//! What is measured against picows-uring is in `bin/`; nothing here is part of the runtime.

pub mod cases;
pub mod cpu;
pub mod echo;
pub mod process;
