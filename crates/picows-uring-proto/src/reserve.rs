//! Memory for bytes of a peer: asked for in a way that can be refused.
//!
//! The peer decides how much it is, so a refusal is its connection's end and not the process's.

use crate::error::PeerMisbehaved;

/// Makes room for `additional` bytes, and for more of the next ones.
pub(crate) fn reserve(bytes: &mut Vec<u8>, additional: usize) -> Result<(), PeerMisbehaved> {
    allow(additional)?;
    bytes.try_reserve(additional).map_err(|_| PeerMisbehaved::OutOfMemory)
}

/// Makes room for `additional` bytes and no others.
pub(crate) fn reserve_exact(bytes: &mut Vec<u8>, additional: usize) -> Result<(), PeerMisbehaved> {
    allow(additional)?;
    bytes.try_reserve_exact(additional).map_err(|_| PeerMisbehaved::OutOfMemory)
}

/// Makes room for `additional` bytes of text, and for more of the next ones.
pub(crate) fn reserve_text(text: &mut String, additional: usize) -> Result<(), PeerMisbehaved> {
    allow(additional)?;
    text.try_reserve(additional).map_err(|_| PeerMisbehaved::OutOfMemory)
}

#[cfg(not(test))]
#[inline(always)]
#[expect(clippy::unnecessary_wraps, reason = "in tests, it is not always")]
fn allow(_: usize) -> Result<(), PeerMisbehaved> {
    Ok(())
}

#[cfg(test)]
thread_local! {
    static MOST: std::cell::Cell<usize> = const { std::cell::Cell::new(usize::MAX) };
}

#[cfg(test)]
fn allow(additional: usize) -> Result<(), PeerMisbehaved> {
    if additional <= MOST.get() { Ok(()) } else { Err(PeerMisbehaved::OutOfMemory) }
}

/// Refuses more than `most` bytes at a time on this thread, while `run` does.
#[cfg(test)]
pub(crate) fn with_no_more_than<T>(most: usize, run: impl FnOnce() -> T) -> T {
    let before = MOST.replace(most);
    let outcome = run();
    MOST.set(before);
    outcome
}
