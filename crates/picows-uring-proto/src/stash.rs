//! Memory for a frame that arrives in pieces.
//!
//! Counted references, so that the receiver of the complete frame may keep it without a copy.

use crate::error::PeerMisbehaved;
use crate::reserve::reserve;
use std::rc::Rc;

/// Memory where a [`Decoder`](crate::Decoder) collects the payload of a frame that is cut by the end
/// of its input. Takes no memory before it is needed.
///
/// ```
/// use picows_uring_proto::Stash;
///
/// let stash = Stash::new();
/// assert!(stash.is_empty() && stash.capacity() == 0 && !stash.is_shared());
/// ```
#[derive(Debug, Default)]
pub struct Stash(Option<Rc<Vec<u8>>>);

impl Stash {
    /// An empty one, without memory.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// One that uses `memory`, whose bytes are forgotten unless it has another holder as well.
    #[must_use]
    pub fn with_memory(memory: Rc<Vec<u8>>) -> Self {
        let mut stash = Self(Some(memory));
        stash.clear();
        stash
    }

    /// Its memory, to be used again for another frame; `None` if it has none of its own.
    #[must_use]
    pub fn into_memory(self) -> Option<Rc<Vec<u8>>> {
        self.0.filter(|memory| Rc::strong_count(memory) == 1)
    }

    /// Bytes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |memory| memory.capacity())
    }

    /// Whether the frame that was lent from it is still held.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.as_ref().is_some_and(|memory| Rc::strong_count(memory) > 1)
    }

    /// Forgets its bytes. Memory that is still held is left to its holder.
    pub fn clear(&mut self) {
        match self.0.as_mut().map(Rc::get_mut) {
            Some(Some(bytes)) => bytes.clear(),
            Some(None) => self.0 = None,
            None => {}
        }
    }

    /// Gives up memory that is not in use, down to `capacity` bytes.
    pub fn shrink_to(&mut self, capacity: usize) {
        if let Some(bytes) = self.0.as_mut().and_then(Rc::get_mut) {
            bytes.shrink_to(capacity);
        }
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    ///
    /// [`PeerMisbehaved::OutOfMemory`], and nothing has changed.
    pub fn try_extend(&mut self, bytes: &[u8]) -> Result<(), PeerMisbehaved> {
        let memory = self.bytes_mut();
        reserve(memory, bytes.len())?;
        memory.extend_from_slice(bytes);
        Ok(())
    }

    /// What is in it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |memory| memory)
    }

    /// To be appended to. It has no other reader: a part of a frame is not lent, and a frame that
    /// was is cleared before.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        Rc::make_mut(self.0.get_or_insert_default())
    }

    pub(crate) fn memory(&self) -> Option<&Rc<Vec<u8>>> {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_a_listener_keeps_is_left_to_it() {
        let mut stash = Stash::new();
        stash.bytes_mut().extend_from_slice(b"kept");
        let kept = stash.memory().cloned().unwrap();
        assert!(stash.is_shared());
        stash.clear();
        stash.bytes_mut().extend_from_slice(b"next");
        assert_eq!((kept.as_slice(), stash.bytes()), (&b"kept"[..], &b"next"[..]));
        assert!(!stash.is_shared());
    }

    #[test]
    fn memory_is_used_again_once_it_is_not_shared() {
        let mut stash = Stash::new();
        stash.bytes_mut().extend_from_slice(b"first");
        let kept = stash.memory().cloned().unwrap();
        assert!(stash.into_memory().is_none(), "somebody keeps it");
        let address = kept.as_ptr();
        let mut again = Stash::with_memory(kept);
        assert!(again.is_empty());
        again.bytes_mut().extend_from_slice(b"again");
        assert_eq!(again.into_memory().unwrap().as_ptr(), address);
    }
}
