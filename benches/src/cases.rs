//! The measured calls of the protocol crate, and with the feature `worker` those of a worker.
//!
//! Each case is a call that can be repeated, and does the same work each time. Who counts
//! instructions (`bin/icount.rs`) or nanoseconds (`benches/protocol.rs`) is not known here.

#[cfg(feature = "deflate")]
mod deflate;
mod frames;
mod handshakes;
mod rest;
#[cfg(feature = "worker")]
mod worker;

use std::fmt;

/// Something to be measured.
pub struct Case {
    name: String,
    items: u32,
    call: Box<dyn FnMut()>,
}

impl Case {
    fn new(name: impl Into<String>, call: impl FnMut() + 'static) -> Self {
        Self { name: name.into(), items: 1, call: Box::new(call) }
    }

    /// One call deals with so many items, such as frames, each of which counts.
    fn of_items(mut self, items: u32) -> Self {
        self.items = items;
        self
    }

    /// What it is called: part, what is done, and with how much.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many items one call deals with.
    #[must_use]
    pub fn items(&self) -> u32 {
        self.items
    }

    /// Does it once.
    #[inline]
    pub fn call(&mut self) {
        (self.call)();
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All cases, in the order of a connection's life.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut cases = handshakes::cases();
    cases.extend(frames::cases());
    cases.extend(rest::cases());
    #[cfg(feature = "deflate")]
    cases.extend(deflate::cases());
    #[cfg(feature = "worker")]
    cases.extend(worker::cases());
    cases
}
