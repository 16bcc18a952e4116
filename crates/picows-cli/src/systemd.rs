//! systemd: sockets that it hands over, and what it is notified of.

use crate::fault::Fault;
use crate::stdio::note;
use picows_uring::systemd;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

static SOCKETS: Mutex<Option<io::Result<Vec<OwnedFd>>>> = Mutex::new(None);

/// Takes what the environment names, before there are threads.
pub(crate) fn read_environment() {
    *SOCKETS.lock().unwrap_or_else(PoisonError::into_inner) = Some(systemd::listen_sockets());
}

/// The listening sockets that were handed over, once.
///
/// # Errors
///
/// When a descriptor is something else.
pub(crate) fn sockets() -> Result<Vec<OwnedFd>, Fault> {
    let taken = SOCKETS.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(taken.transpose()?.unwrap_or_default())
}

/// The service has started, or has reloaded.
pub(crate) fn ready() {
    report(systemd::notify_ready());
}

pub(crate) fn reloading() {
    report(systemd::notify_reloading());
}

pub(crate) fn stopping() {
    report(systemd::notify_stopping());
}

/// Another process of the service has taken over, and is the one to watch.
pub(crate) fn followed_by(process: u32) {
    report(systemd::notify_main_process(process));
}

pub(crate) fn alive() {
    report(systemd::notify_alive());
}

/// How often a sign of life is due: twice as often as systemd waits for one.
pub(crate) fn sign_of_life_interval() -> Option<Duration> {
    systemd::watchdog().map(|interval| interval / 2).filter(|interval| !interval.is_zero())
}

fn report(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        note(format_args!("systemd cannot be notified: {error}"));
    }
}
