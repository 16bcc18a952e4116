//! systemd: listening sockets that it hands over, and what it is notified of.
//!
//! Reads the environment, as sd_listen_fds(3) and sd_notify(3) describe it; without systemd, nothing happens.

use listenfd::ListenFd;
use sd_notify::NotifyState;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Takes the listening sockets of socket activation (`LISTEN_FDS`), for
/// [`ServerBuilder::listen_socket`](crate::ServerBuilder::listen_socket); none where `LISTEN_PID` names another
/// process. They are closed on exec, and the variables are removed, so that children get neither: so call it
/// once, first in `main`, where no other thread reads the environment.
///
/// # Errors
///
/// When a descriptor is no stream socket. The text names it, and the cure.
///
/// ```
/// use picows_uring::{EchoListener, Server, Upgrade, systemd};
///
/// let sockets = systemd::listen_sockets()?;
/// let builder = Server::builder().listen("127.0.0.1:0").workers(1);
/// let builder = sockets.into_iter().fold(builder, |builder, socket| builder.listen_socket(socket));
/// let server = builder.start(|_| Upgrade::accept(EchoListener))?;
/// systemd::notify_ready()?;
/// systemd::notify_stopping()?;
/// server.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn listen_sockets() -> io::Result<Vec<OwnedFd>> {
    let mut given = ListenFd::from_env();
    (0..given.len()).map(|index| take(&mut given, index)).collect()
}

fn take(given: &mut ListenFd, index: usize) -> io::Result<OwnedFd> {
    if let Ok(Some(socket)) = given.take_tcp_listener(index) {
        return Ok(socket.into());
    }
    match given.take_unix_listener(index) {
        Ok(Some(socket)) => Ok(socket.into()),
        _ => {
            let fault = format!(
                "number {} of the descriptors that systemd handed over (LISTEN_FDS) is no stream socket of \
                 TCP or Unix: have ListenStream= in the socket unit, and nothing else",
                index + 1
            );
            Err(io::Error::new(io::ErrorKind::InvalidInput, fault))
        }
    }
}

/// Notifies systemd that the service has started, or has reloaded (`READY=1`).
///
/// # Errors
///
/// When the socket of `NOTIFY_SOCKET` cannot be written to; that of a service of `Type=notify` has to be.
pub fn notify_ready() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready])
}

/// Notifies systemd that the service reloads (`RELOADING=1` with `MONOTONIC_USEC=`);
/// [`notify_ready`] ends it.
///
/// # Errors
///
/// As those of [`notify_ready`].
pub fn notify_reloading() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
}

/// Notifies systemd that the service stops (`STOPPING=1`).
///
/// # Errors
///
/// As those of [`notify_ready`].
pub fn notify_stopping() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Stopping])
}

/// Notifies systemd that another process of the service is the main one from now on (`MAINPID=`), as when it has
/// [taken over](crate::ServerBuilder::takeover): the end of this one is then not the end of the service. It has
/// to be in the control group of the service, as children of this one are.
///
/// # Errors
///
/// As those of [`notify_ready`].
pub fn notify_main_process(process: u32) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::MainPid(process)])
}

/// How often systemd wants a sign of life (`WatchdogSec=`), if it does: give one twice as often, while
/// [`Monitor::unhealthy`](crate::Monitor::unhealthy) has nothing.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Gives systemd a sign of life (`WATCHDOG=1`).
///
/// # Errors
///
/// As those of [`notify_ready`].
pub fn notify_alive() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Watchdog])
}
