//! Signals by which users, terminals, supervisors and containers end a program.
//!
//! Handlers are installed for all commands: process 1 of a container has no default actions. A
//! thread of its own runs them, whatever the other threads do.

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// A signal that ends a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal(i32);

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            SIGHUP => "SIGHUP",
            SIGINT => "SIGINT",
            SIGQUIT => "SIGQUIT",
            SIGTERM => "SIGTERM",
            _ => "a signal",
        }
    }

    /// The exit status of a command that the signal ended, as shells report it.
    pub(crate) fn exit_status(self) -> u8 {
        u8::try_from(128 + self.0).unwrap_or(u8::MAX)
    }
}

/// A command that a signal ended: an exit status, and not a failure.
#[derive(Debug)]
pub(crate) struct Interrupted(pub(crate) Signal);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted by {}", self.0.name())
    }
}

impl std::error::Error for Interrupted {}

/// Handler of signals: given the signal and its count, from 1, returns how long the process may go
/// on.
type Handler = Box<dyn FnMut(Signal, u32) -> Duration + Send>;

/// Handler of a signal that does not end the command.
type Action = Box<dyn FnMut() + Send>;

/// Of SIGHUP, where that does not end the command.
static HANG_UP: Mutex<Option<Action>> = Mutex::new(None);
/// Of SIGUSR2.
static RESTART: Mutex<Option<Action>> = Mutex::new(None);
static SIGNALS: OnceLock<Handle> = OnceLock::new();
static HANDLER: Mutex<Option<Handler>> = Mutex::new(None);
static FIRST: AtomicI32 = AtomicI32::new(0);

/// Installs the handlers. Until [`handle`] is called, each signal ends the process at once.
///
/// An ignored SIGHUP stays ignored, as nohup(1) requires.
///
/// # Errors
///
/// When the handlers cannot be installed or their thread cannot be started.
pub(crate) fn install() -> io::Result<()> {
    let mut wanted = vec![SIGINT, SIGTERM, SIGQUIT];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !is_ignored(&status, SIGHUP) {
        wanted.push(SIGHUP);
    }
    // Reaching the limit of a file's size becomes an error of the write, not the end of the
    // process.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    let mut signals = Signals::new(wanted)?;
    SIGNALS.get_or_init(|| signals.handle());
    let serve = move || {
        let mut number = 0;
        for signal in signals.forever() {
            let is_handled = match signal {
                SIGHUP => act(&HANG_UP),
                SIGUSR2 => act(&RESTART),
                _ => false,
            };
            if !is_handled {
                number += 1;
                handle_signal(Signal(signal), number);
            }
        }
    };
    thread::Builder::new().name("picows-signals".to_owned()).spawn(serve).map(drop)
}

/// Sets the handler of signals. It is called on the thread of the signals, and must not block.
pub(crate) fn handle(handler: impl FnMut(Signal, u32) -> Duration + Send + 'static) {
    *HANDLER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(handler));
}

/// Sets the handler of SIGHUP, which then ends nothing. It is called on the thread of the signals, and must
/// not block.
pub(crate) fn handle_hang_up(handler: impl FnMut() + Send + 'static) {
    *HANG_UP.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(handler));
}

/// Sets the handler of SIGUSR2, which has its default action otherwise. It is called on the thread of the
/// signals, and must not block.
///
/// # Errors
///
/// When the signal keeps its default action.
pub(crate) fn handle_restart(handler: impl FnMut() + Send + 'static) -> io::Result<()> {
    *RESTART.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(handler));
    // Without a thread of the signals, all keep their default actions.
    SIGNALS.get().map_or(Ok(()), |signals| signals.add_signal(SIGUSR2))
}

/// Calls a handler, if there is one.
fn act(handler: &Mutex<Option<Action>>) -> bool {
    let mut handler = handler.lock().unwrap_or_else(PoisonError::into_inner);
    handler.as_mut().map(|handler| handler()).is_some()
}

/// Lets each signal end the process at once from now on.
pub(crate) fn end_at_once() {
    *HANDLER.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// The first signal that came.
pub(crate) fn first() -> Option<Signal> {
    let first = FIRST.load(Ordering::SeqCst);
    (first != 0).then_some(Signal(first))
}

fn handle_signal(signal: Signal, number: u32) {
    let _ = FIRST.compare_exchange(0, signal.0, Ordering::SeqCst, Ordering::SeqCst);
    let mut handler = HANDLER.lock().unwrap_or_else(PoisonError::into_inner);
    let left = handler.as_mut().map_or(Duration::ZERO, |handler| handler(signal, number));
    drop(handler);
    let status = i32::from(first().unwrap_or(signal).exit_status());
    let end = move || {
        thread::sleep(left);
        // Ends the process even while other threads block.
        signal_hook::low_level::exit(status);
    };
    if left.is_zero() || thread::Builder::new().spawn(end).is_err() {
        signal_hook::low_level::exit(status);
    }
}

/// Whether `/proc/self/status` has `signal` among those that the process ignores.
fn is_ignored(status: &str, signal: i32) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_shells() {
        for (signal, name, status) in [
            (SIGHUP, "SIGHUP", 129),
            (SIGINT, "SIGINT", 130),
            (SIGQUIT, "SIGQUIT", 131),
            (SIGTERM, "SIGTERM", 143),
        ] {
            assert_eq!((Signal(signal).name(), Signal(signal).exit_status()), (name, status));
        }
    }

    #[test]
    fn the_mask_of_ignored_signals_counts_from_one() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert!(is_ignored(status, SIGHUP));
        assert!(!is_ignored(status, SIGINT));
        assert!(!is_ignored("", SIGHUP));
    }
}
