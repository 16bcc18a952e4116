//! State of ours that callbacks can reach through a handle: a `RefCell` that is not borrowed while
//! code of the application runs.
//!
//! Debug builds count the borrows of each thread, and the guard asserts that there are none; in
//! release builds this is a `RefCell` and nothing else.

use std::cell::{Ref, RefCell, RefMut};
use std::fmt;
use std::ops::{Deref, DerefMut};

#[derive(Default)]
pub(crate) struct StateCell<T>(RefCell<T>);

/// A shared borrow.
pub(crate) struct StateRef<'a, T: ?Sized> {
    value: Ref<'a, T>,
    borrow: Borrow,
}

/// An exclusive borrow.
pub(crate) struct StateMut<'a, T: ?Sized> {
    value: RefMut<'a, T>,
    borrow: Borrow,
}

impl<T> StateCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    #[inline]
    #[track_caller]
    pub(crate) fn borrow(&self) -> StateRef<'_, T> {
        StateRef { value: self.0.borrow(), borrow: Borrow::begin() }
    }

    #[inline]
    #[track_caller]
    pub(crate) fn borrow_mut(&self) -> StateMut<'_, T> {
        StateMut { value: self.0.borrow_mut(), borrow: Borrow::begin() }
    }

    #[inline]
    #[track_caller]
    pub(crate) fn replace(&self, value: T) -> T {
        self.0.replace(value)
    }
}

impl<T: Default> StateCell<T> {
    #[inline]
    #[track_caller]
    pub(crate) fn take(&self) -> T {
        self.0.take()
    }
}

impl<T: fmt::Debug> fmt::Debug for StateCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'a, T: ?Sized> StateRef<'a, T> {
    /// Borrows a part of it.
    #[inline]
    pub(crate) fn map<U: ?Sized>(self, part: impl FnOnce(&T) -> &U) -> StateRef<'a, U> {
        StateRef { value: Ref::map(self.value, part), borrow: self.borrow }
    }
}

impl<T: ?Sized> Deref for StateRef<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'a, T: ?Sized> StateMut<'a, T> {
    /// Borrows a part of it.
    #[inline]
    pub(crate) fn map<U: ?Sized>(self, part: impl FnOnce(&mut T) -> &mut U) -> StateMut<'a, U> {
        StateMut { value: RefMut::map(self.value, part), borrow: self.borrow }
    }

    /// Borrows a part of it, if it is there.
    #[inline]
    pub(crate) fn filter_map<U: ?Sized>(
        self,
        part: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Option<StateMut<'a, U>> {
        let value = RefMut::filter_map(self.value, part).ok()?;
        Some(StateMut { value, borrow: self.borrow })
    }
}

impl<T: ?Sized> Deref for StateMut<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> DerefMut for StateMut<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

use borrow::Borrow;
pub(super) use borrow::assert_nothing_borrowed;

#[cfg(debug_assertions)]
mod borrow {
    use std::cell::Cell;

    thread_local! {
        static BORROWS: Cell<u32> = const { Cell::new(0) };
    }

    /// Is counted for as long as it lives.
    pub(super) struct Borrow;

    impl Borrow {
        pub(super) fn begin() -> Self {
            let _ = BORROWS.try_with(|count| count.set(count.get() + 1));
            Self
        }
    }

    impl Drop for Borrow {
        fn drop(&mut self) {
            let _ = BORROWS.try_with(|count| count.set(count.get() - 1));
        }
    }

    #[track_caller]
    pub(in super::super) fn assert_nothing_borrowed() {
        let borrows = BORROWS.try_with(Cell::get).unwrap_or(0);
        assert!(borrows == 0, "code of the application runs while {borrows} cells are borrowed");
    }
}

#[cfg(not(debug_assertions))]
mod borrow {
    pub(super) struct Borrow;

    impl Borrow {
        #[inline(always)]
        pub(super) fn begin() -> Self {
            Self
        }
    }

    #[inline(always)]
    pub(in super::super) fn assert_nothing_borrowed() {}
}
