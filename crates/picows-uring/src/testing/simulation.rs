//! The whole runtime on a simulated kernel.
//!
//! `run.rs` plays many clients from a seed, `tests.rs` one lie at a time, and `operations.rs` what
//! a fuzzer wants; `harness.rs` says what holds for all of them.

#![allow(clippy::unwrap_used, reason = "tests, which the feature `fuzzing` takes out of cfg(test)")]

#[cfg(test)]
mod callee;
#[cfg(test)]
mod client;
#[cfg(test)]
mod codec;
mod harness;
mod hostile;
mod journal;
#[cfg(test)]
mod letters;
#[cfg_attr(not(test), allow(dead_code, reason = "a fuzzer makes no calls"))]
mod listeners;
mod operations;
#[cfg(test)]
mod plan;
#[cfg(test)]
mod run;
#[cfg_attr(not(test), allow(dead_code, reason = "the clients of `run.rs` say more"))]
mod script;
#[cfg(test)]
mod strain;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use operations::fuzz;
