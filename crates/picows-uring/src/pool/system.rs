//! Free memory of the allocator, returned to the system.
//!
//! Decides nothing: when it is worth the work is for the worker to find out.

use std::ffi::OsString;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Has the allocator map large blocks one by one, so that each returns to the system when it is
/// freed. Done once for the process.
///
/// glibc raises its threshold to the largest block that was freed, up to 32 MiB. From then on
/// stashes that grow lie between other blocks and leave holes: resident, and counted by no limit.
pub(crate) fn map_large_blocks() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        if !is_set_by_environment(|name| std::env::var_os(name)) {
            set_thresholds();
        }
    });
}

/// Whether the environment has thresholds of its own for the allocator (mallopt(3)).
fn is_set_by_environment(read: impl Fn(&str) -> Option<OsString>) -> bool {
    let tunables = read("GLIBC_TUNABLES").unwrap_or_default();
    let tunables = tunables.to_string_lossy();
    read("MALLOC_MMAP_THRESHOLD_").is_some()
        || read("MALLOC_TRIM_THRESHOLD_").is_some()
        || tunables.contains("glibc.malloc.mmap_threshold=")
        || tunables.contains("glibc.malloc.trim_threshold=")
}

/// A threshold that is set stays. The one for trimming is twice that, as glibc has it.
#[cfg(all(target_os = "linux", target_env = "gnu", not(test)))]
fn set_thresholds() {
    // SAFETY: may be called by any thread: mallopt locks the main arena (its "init" race in
    // mallopt(3) is that of the first allocation, which is long past), and changes parameters only.
    // Blocks that exist know themselves whether they are mapped.
    #[expect(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * MAPPED_BYTES_MIN);
    }
}

/// Other C libraries have no such threshold.
#[cfg(not(all(target_os = "linux", target_env = "gnu", not(test))))]
fn set_thresholds() {}

/// Blocks of this size and more are mapped. With 4 MiB, stashes that doubled up to there still left
/// holes of a third of the memory limit.
#[cfg(all(target_os = "linux", target_env = "gnu", not(test)))]
const MAPPED_BYTES_MIN: libc::c_int = 1024 * 1024;

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

/// glibc keeps what is freed below the top of each arena, whole pages too, until `malloc_trim`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_of_the_environment_are_kept() {
        for (name, value, is_set) in [
            ("MALLOC_MMAP_THRESHOLD_", "4194304", true),
            ("MALLOC_TRIM_THRESHOLD_", "1", true),
            ("GLIBC_TUNABLES", "glibc.malloc.arena_max=1:glibc.malloc.mmap_threshold=9", true),
            ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=9", true),
            ("GLIBC_TUNABLES", "glibc.malloc.arena_max=1", false),
            ("MALLOC_ARENA_MAX", "1", false),
        ] {
            let read = |it: &str| (it == name).then(|| OsString::from(value));
            assert_eq!(is_set_by_environment(read), is_set, "{name}={value}");
        }
    }
}
