//! Tests of the crate by its public interface, in one program, as linking takes longest.

#![allow(clippy::unwrap_used, reason = "a test ends with the first fault")]

mod common;
mod handshake;
