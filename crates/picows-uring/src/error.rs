//! Errors of building, starting and stopping a server.
//!
//! Each text names the cause and, where there is one, the cure. What a peer does wrong is
//! [`PeerMisbehaved`](crate::PeerMisbehaved).

mod clone;
mod ring;

use crate::config::WrongSetting;
use crate::ring::StartError;
use picows_uring_proto::Escaped;
use picows_uring_proto::internal::{SHOWN_TEXT_BYTES_MAX, debug_with_text};
use std::io;
use std::time::Duration;
use thiserror::Error;

pub(crate) use clone::copy;
pub use ring::{RingError, RingFault};

/// The reason why a server could not be built, started or stopped. Its text names the cause and the cure.
///
/// ```
/// use picows_uring::{EchoListener, Error, Server, Upgrade};
///
/// let outcome = Server::builder().workers(0).start(|_| Upgrade::accept(EchoListener));
/// assert!(matches!(outcome, Err(Error::Config { setting: "workers", .. })));
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting makes no sense, or contradicts another.
    #[error("{setting}: {fault}")]
    Config {
        /// The setting, by the name of its builder method.
        setting: &'static str,
        /// What is wrong with it, with the value, and what to do instead.
        fault: String,
    },
    /// An address to listen on could not be understood.
    #[error("cannot listen on {}: {fault}", shown(address).quoted())]
    Address {
        /// The address as given, or as bound where the [application refuses
        /// it](crate::ServerBuilder::check_address).
        address: String,
        /// What is wrong with it.
        fault: String,
    },
    /// An address to listen on could not be had.
    #[error("cannot listen on {}: {}", shown(address), listen_cure(address, source))]
    Listen {
        /// The address.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The driver could not be set up: [`RingError::fault`] says what it is, and the text names the cause
    /// and the cure.
    #[error("{0}")]
    Ring(RingError),
    /// A thread could not be started, or not be pinned to a core.
    #[error("worker {worker} could not be started: {source}")]
    Thread {
        /// The number of the worker.
        worker: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A worker could not go on. Its connections are gone.
    #[error("worker {worker} failed: {fault}")]
    Worker {
        /// The number of the worker.
        worker: usize,
        /// What happened.
        fault: String,
    },
    /// The listening sockets of the process that serves could not be taken over. It serves on, if there is
    /// one.
    #[error("cannot take over by {}: {fault}", shown(path))]
    Takeover {
        /// The path of the Unix socket by which processes find each other.
        path: String,
        /// What is wrong, and what to do instead.
        fault: String,
    },
    /// A socket that a server was to adopt cannot be served.
    #[error("cannot adopt the connection: {fault}")]
    Socket {
        /// What is wrong with it.
        fault: String,
    },
    /// A runtime runs on this thread already, tokio's or one of ours.
    #[error(
        "a runtime runs on this thread already, and this would block it: call it on a thread of its \
         own, such as one of tokio::task::spawn_blocking; in a loop of picows-uring, use Connect \
         without another"
    )]
    InsideRuntime,
    /// A worker runs on this thread already, embedded or in a loop of ours.
    #[error(
        "a worker runs on this thread already, and a thread has one: use that for further \
         connections, or another thread"
    )]
    SecondWorker,
    /// [`Embedded::turn`](crate::Embedded::turn) or [`Embedded::listen`](crate::Embedded::listen) was
    /// called in the middle of a turn.
    #[error(
        "a worker is in its turn: turn or listen was called in a callback, or in the hook of \
         on_work; return from it first, and call it in your loop"
    )]
    InsideTurn,
    /// Something took too long.
    #[error("{what} took longer than {limit:?}")]
    Timeout {
        /// What it was.
        what: &'static str,
        /// How long it was given.
        limit: Duration,
    },
}

debug_with_text! { Error: Config, Address, Listen, Ring, Thread, Worker, Takeover, Socket, InsideRuntime, SecondWorker, InsideTurn, Timeout }

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        Self::Ring(RingError::from(&error))
    }
}

impl From<WrongSetting> for Error {
    fn from(WrongSetting { setting, fault }: WrongSetting) -> Self {
        Self::Config { setting, fault }
    }
}

/// Text of a peer or a caller, as errors and the log may quote it.
pub(crate) fn shown(text: &(impl AsRef<[u8]> + ?Sized)) -> Escaped<'_> {
    Escaped::new(text).at_most(SHOWN_TEXT_BYTES_MAX)
}

/// What helps when a name cannot be resolved, as the end of a sentence.
pub(crate) fn name_cure() -> &'static str {
    name_cure_of(cfg!(target_feature = "crt-static"))
}

fn name_cure_of(is_static: bool) -> &'static str {
    if is_static {
        "; this static binary knows the names in /etc/hosts and those of the DNS servers in \
         /etc/resolv.conf alone: use an address, provide these files, or take the dynamically linked \
         binary"
    } else {
        ""
    }
}

/// What helps when there is no descriptor for another socket, if that is what `error` says.
pub(crate) fn descriptor_cure(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error() {
        Some(libc::EMFILE) => Some(
            "no descriptor left: raise the limit of open files (ulimit -n, LimitNOFILE= in systemd)",
        ),
        Some(libc::ENFILE) => Some("no descriptor left in the whole system: raise fs.file-max"),
        _ => None,
    }
}

/// What the kernel said, with what helps against it.
fn listen_cure(address: &str, error: &io::Error) -> String {
    let is_unix = address.starts_with("unix:");
    let cure = match error.kind() {
        io::ErrorKind::AddrInUse if is_unix => {
            "something else listens there: stop it, or choose another path"
        }
        io::ErrorKind::AddrInUse => {
            "something else listens there: stop it, choose another port, or port 0 for any free one"
        }
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this machine has that address: use one of its own, 0.0.0.0 or [::]"
        }
        io::ErrorKind::PermissionDenied if is_unix => {
            "a Unix socket needs a folder that this user can write to, and one that is left there has \
             to be this user's: choose another path, or remove it"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::NotFound => "the folder of the Unix socket does not exist: make it first",
        _ => match descriptor_cure(error) {
            Some(cure) => cure,
            None => return error.to_string(),
        },
    };
    format!("{error}: {cure}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_binary_explains_where_it_looks_names_up() {
        assert_eq!(name_cure_of(false), "");
        let cure = name_cure_of(true);
        for part in ["static", "/etc/hosts", "/etc/resolv.conf", "use an address"] {
            assert!(cure.contains(part), "{part}");
        }
        let is_static = cfg!(target_feature = "crt-static");
        assert_eq!(name_cure(), name_cure_of(is_static));
    }

    #[test]
    fn listen_errors_name_address_cause_and_cure() {
        for (errno, cure) in [
            (libc::EADDRINUSE, "choose another port"),
            (libc::EADDRNOTAVAIL, "0.0.0.0"),
            (libc::EACCES, "CAP_NET_BIND_SERVICE"),
            (libc::ENOENT, "make it first"),
            (libc::EMFILE, "ulimit -n"),
            (libc::ENFILE, "fs.file-max"),
        ] {
            let source = io::Error::from_raw_os_error(errno);
            let text = Error::Listen { address: "127.0.0.1:9001".into(), source }.to_string();
            assert!(text.starts_with("cannot listen on 127.0.0.1:9001: "), "{text}");
            assert!(text.contains(cure), "{text}");
        }
        for (errno, cure) in [
            (libc::EADDRINUSE, "stop it, or choose another path"),
            (libc::EACCES, "a folder that this user can write to"),
            (libc::EPERM, "this user's"),
        ] {
            let source = io::Error::from_raw_os_error(errno);
            let text = Error::Listen { address: "unix:/run/s".into(), source }.to_string();
            assert!(text.contains(cure) && !text.contains("port"), "{text}");
        }
    }
}
