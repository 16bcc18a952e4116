//! Free memory of the allocator, returned to the system.
//!
//! Decides nothing: when it is worth the work is for the worker to find out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Has the allocator return the pages that nothing uses, all threads' together. `false` if that is
/// under way already, or cannot be done now.
///
/// It takes some milliseconds for each hundred megabytes, so it runs beside the caller, in a thread of
/// its own that ends with it: a worker waits for it only when it allocates from the part (the *arena*)
/// that is being looked through.
pub(crate) fn release_free_pages() -> bool {
    if cfg!(test) {
        // Tests run beside each other, and want to know who asks.
        #[cfg(test)]
        RELEASES.with(|count| count.set(count.get() + 1));
        return true;
    }
    if IS_RELEASING.swap(true, Ordering::Acquire) {
        return false;
    }
    let started =
        thread::Builder::new().name("picows-trim".into()).stack_size(STACK_BYTES).spawn(|| {
            trim();
            IS_RELEASING.store(false, Ordering::Release);
        });
    if started.is_err() {
        IS_RELEASING.store(false, Ordering::Release);
    }
    started.is_ok()
}

/// One at a time: a second one would find what the first one is at.
static IS_RELEASING: AtomicBool = AtomicBool::new(false);
/// The thread calls one function of the C library.
const STACK_BYTES: usize = 64 * 1024;

/// glibc keeps what is freed below the top of each arena, whole pages too, until it is told.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: has no precondition and may be called by any thread (malloc_trim(3): MT-Safe). It
    // touches free memory only.
    #[expect(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other C libraries return free pages by themselves: musl does when it frees a group of them.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}

#[cfg(test)]
thread_local! {
    /// How often this thread has asked.
    static RELEASES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// How often this thread has asked, for the tests of who asks.
#[cfg(test)]
pub(crate) fn releases() -> u32 {
    RELEASES.get()
}
