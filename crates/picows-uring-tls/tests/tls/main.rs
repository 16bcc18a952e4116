//! Tests of the crate by its public interface, in one program, as linking takes longest.

#![cfg(feature = "aws-lc")]
#![allow(clippy::unwrap_used, reason = "a test ends with the first fault")]

mod common;
mod errors;
mod handshake;
mod openssl;
mod oracle;
mod sessions;
mod settings;
