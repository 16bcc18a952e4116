//! The C interface of picows-uring: an embedded worker, its connections and callbacks, as functions.
//!
//! Converts and checks; what happens is `picows_uring`'s. The comments of public items are those of the
//! header, `include/picows_uring.h`, which scripts/c-header makes of them.

#![allow(unsafe_code, reason = "C passes pointers; each use has its SAFETY reason")]
#![allow(non_camel_case_types, reason = "they are the names of C")]
#![allow(missing_debug_implementations, reason = "C sees pointers")]
#![allow(clippy::missing_safety_doc, reason = "the header says once what holds for all pointers")]

use std::ffi::c_char;

// In the order of the header.

pub mod status;

pub mod types;

pub mod options;

pub mod error;

pub mod worker;

pub mod callbacks;

pub mod head;

pub mod server;

pub mod client;

pub mod outside;

pub mod connection;

pub mod tls;

pub mod send;

pub mod kept;

pub mod remote;

pub mod log;

mod thread;

/// Version of this interface. Functions and fields are only added within one.
pub const PWU_ABI_VERSION: u32 = 0;

/// Returns the version of the library, such as "0.2.0". Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn pwu_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Returns PWU_ABI_VERSION of the library, for programs that load it at run time. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn pwu_abi_version() -> u32 {
    PWU_ABI_VERSION
}
