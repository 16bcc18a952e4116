//! Things of one kind that wait to be used again.
//!
//! Remembers how few were left at a time: so many were not needed.

use crate::foreign::StateCell;
use std::cell::Cell;
use std::fmt;

/// Something that takes memory.
pub(super) trait Item {
    /// How much, the item itself included if it is boxed.
    fn bytes(&self) -> usize;
}

pub(super) struct Shelf<T> {
    items: StateCell<Vec<T>>,
    bytes: Cell<usize>,
    /// The fewest items since the last trim.
    idle: Cell<usize>,
}

impl<T: Item> Shelf<T> {
    /// Takes the item that was put last: it may still be in cache.
    #[inline]
    pub(super) fn take(&self) -> Option<T> {
        let mut items = self.items.borrow_mut();
        let item = items.pop()?;
        self.bytes.set(self.bytes.get() - item.bytes());
        self.idle.set(self.idle.get().min(items.len()));
        Some(item)
    }

    /// Takes the last item that `suits`.
    pub(super) fn take_that(&self, suits: impl Fn(&T) -> bool) -> Option<T> {
        let mut items = self.items.borrow_mut();
        let item = items.iter().rposition(suits).map(|index| items.swap_remove(index));
        drop(items);
        self.taken(item)
    }

    /// Whether there is an item that `suits`.
    pub(super) fn has(&self, suits: impl Fn(&T) -> bool) -> bool {
        self.items.borrow().iter().any(suits)
    }

    fn taken(&self, item: Option<T>) -> Option<T> {
        let bytes = item.as_ref().map_or(0, Item::bytes);
        self.bytes.set(self.bytes.get() - bytes);
        self.idle.set(self.idle.get().min(self.len()));
        item
    }

    /// Takes an item back, unless there are `count_max`.
    #[inline]
    pub(super) fn put(&self, item: T, count_max: usize) {
        let mut items = self.items.borrow_mut();
        if items.len() < count_max {
            self.bytes.set(self.bytes.get() + item.bytes());
            items.push(item);
        }
    }

    /// Takes an item back, unless there would be more than `bytes_max` bytes, or too many items to
    /// search.
    #[inline]
    pub(super) fn put_within(&self, item: T, bytes_max: usize) {
        if self.bytes() + item.bytes() <= bytes_max {
            self.put(item, SEARCHED_MAX);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.borrow().len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Drops all items.
    pub(super) fn clear(&self) {
        drop(self.items.take());
        self.bytes.set(0);
        self.idle.set(0);
    }

    /// Drops items that were not needed since the last call, until `surplus` bytes are gone.
    pub(super) fn trim(&self, surplus: &mut usize) {
        let mut items = self.items.borrow_mut();
        // Those at the front were used last the longest time ago.
        let mut count = 0;
        for item in items.iter().take(self.idle.get()) {
            if *surplus == 0 {
                break;
            }
            *surplus = surplus.saturating_sub(item.bytes());
            self.bytes.set(self.bytes.get() - item.bytes());
            count += 1;
        }
        items.drain(..count);
        let len = items.len();
        items.shrink_to(2 * len);
        self.idle.set(len);
    }
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { items: StateCell::default(), bytes: Cell::new(0), idle: Cell::new(0) }
    }
}

impl<T> fmt::Debug for Shelf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// How many items [`Shelf::take_that`] may have to look at, where they are bounded by their bytes.
pub(super) const SEARCHED_MAX: usize = 256;
