//! Copies of errors, also of those that contain an [`io::Error`], which has no `Clone`.
//!
//! A copy has the same kind, number of the system and text; an error of the application inside of an
//! `io::Error` is there as its text.

use super::Error;
use std::io;

/// The copy of an error.
pub(crate) fn copy(error: &io::Error) -> io::Error {
    match (error.raw_os_error(), error.get_ref()) {
        (Some(number), _) => io::Error::from_raw_os_error(number),
        (None, Some(inner)) => io::Error::new(error.kind(), inner.to_string()),
        (None, None) => error.kind().into(),
    }
}

impl Clone for Error {
    fn clone(&self) -> Self {
        match self {
            Self::Config { setting, fault } => Self::Config { setting, fault: fault.clone() },
            Self::Address { address, fault } => {
                Self::Address { address: address.clone(), fault: fault.clone() }
            }
            Self::Listen { address, source } => {
                Self::Listen { address: address.clone(), source: copy(source) }
            }
            Self::Ring(error) => Self::Ring(error.clone()),
            Self::Thread { worker, source } => {
                Self::Thread { worker: *worker, source: copy(source) }
            }
            Self::Worker { worker, fault } => {
                Self::Worker { worker: *worker, fault: fault.clone() }
            }
            Self::Takeover { path, fault } => {
                Self::Takeover { path: path.clone(), fault: fault.clone() }
            }
            Self::Socket { fault } => Self::Socket { fault: fault.clone() },
            Self::InsideRuntime => Self::InsideRuntime,
            Self::SecondWorker => Self::SecondWorker,
            Self::InsideTurn => Self::InsideTurn,
            Self::Timeout { what, limit } => Self::Timeout { what, limit: *limit },
        }
    }
}
