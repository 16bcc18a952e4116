//! Results of functions, the sentence of the last failure, and the guard at each entry.

use std::any::Any;
use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The outcome of a call. Below 0 it did nothing, and pwu_last_error has the reason.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum pwu_status {
    /// It is done. Of a frame: it is queued.
    PWU_OK = 0,
    /// It is queued, and more than the high watermark is, which the socket does not take: pause_writing
    /// follows, or pwu_take_pause is 1.
    PWU_CONGESTED = 1,
    /// It is queued in the place of an earlier frame with its key.
    PWU_REPLACED = 2,
    /// It is queued, and older messages were dropped for it.
    PWU_DROPPED_OLDEST = 3,
    /// A CLOSE was sent before, or the connection or its worker has ended.
    PWU_CLOSED = -1,
    /// The queue is full, and the frame is dropped.
    PWU_DROPPED = -2,
    /// The frame would break RFC 6455.
    PWU_REFUSED = -3,
    /// The object belongs to another thread.
    PWU_WRONG_THREAD = -4,
    /// The object belongs to the process that forked this one.
    PWU_FORKED = -5,
    /// A pointer that has to be given is NULL.
    PWU_NULL = -6,
    /// An argument or a setting makes no sense.
    PWU_INVALID = -7,
    /// It cannot be done in a callback or hook: return first.
    PWU_INSIDE_TURN = -8,
    /// The worker could not go on, and its connections have ended: free it, and make another one.
    PWU_LOST = -9,
    /// A fault of the library. Its worker is lost with it.
    PWU_BUG = -10,
    /// A signal handler ran while pwu_worker_run waited: call it again to go on.
    PWU_INTERRUPTED = -11,
    /// The system refused something, such as memory or a descriptor.
    PWU_SYSTEM = -12,
}

/// The frame is queued: PWU_OK by another name.
pub const PWU_QUEUED: c_int = 0;

/// Why a call did nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: pwu_status,
    pub(crate) text: Cow<'static, str>,
}

impl Failure {
    pub(crate) fn new(status: pwu_status, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into() }
    }

    /// With the sentence that is always the same.
    #[cold]
    pub(crate) fn fixed(status: pwu_status) -> Self {
        Self::new(status, sentence(status))
    }

    #[cold]
    pub(crate) fn null(what: &str) -> Self {
        Self::new(
            pwu_status::PWU_NULL,
            format!("{what} is NULL: give one that was made and not freed"),
        )
    }
}

/// The sentence of a status, for a call that has no better one.
fn sentence(status: pwu_status) -> &'static str {
    match status {
        pwu_status::PWU_OK
        | pwu_status::PWU_CONGESTED
        | pwu_status::PWU_REPLACED
        | pwu_status::PWU_DROPPED_OLDEST => "",
        pwu_status::PWU_CLOSED => {
            "a CLOSE was sent before, or the connection has ended: make another one"
        }
        pwu_status::PWU_DROPPED => {
            "the queue is full, and the frame was dropped: send less, or allow more with max_queue"
        }
        pwu_status::PWU_REFUSED => "the frame would break RFC 6455",
        pwu_status::PWU_WRONG_THREAD => {
            "the object belongs to another thread: call on the thread that made its worker, or use a \
             pwu_remote"
        }
        pwu_status::PWU_FORKED => {
            "the object belongs to the process that forked this one: make a worker of your own here, or \
             fork before the worker is made; pwu_worker_free lets go of the inherited one"
        }
        pwu_status::PWU_NULL => "a pointer is NULL: give an object that was made and not freed",
        pwu_status::PWU_INVALID => "an argument makes no sense",
        pwu_status::PWU_INSIDE_TURN => {
            "a worker is in its turn: return from the callback or hook first, and call it in your loop"
        }
        pwu_status::PWU_LOST => {
            "the worker could not go on, and its connections have ended: free it, and make another one"
        }
        pwu_status::PWU_BUG => "a fault of the library, which ends its worker: please report it",
        pwu_status::PWU_INTERRUPTED => "a signal handler ran: call pwu_worker_run again to go on",
        pwu_status::PWU_SYSTEM => "the system refused something",
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Returns the sentence of the last call on this thread that failed, with the cure, and "" if there was
/// none. Valid until the next call that fails here. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn pwu_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Notes `failure` for [`pwu_last_error`].
#[cold]
pub(crate) fn note(failure: &Failure) {
    let text = c_text(&failure.text);
    // At the end of a thread there may be no place for it any more.
    let _ = LAST.try_with(|last| drop(last.replace(text)));
}

/// `text` with a zero at its end, and none inside.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

/// The body of a function that returns a status.
#[inline]
pub(crate) fn entry(body: impl FnOnce() -> Result<pwu_status, Failure>) -> pwu_status {
    guarded(body).unwrap_or_else(|failure| failure.status)
}

/// The body of a function that returns a number or a status.
#[inline]
pub(crate) fn number(body: impl FnOnce() -> Result<c_int, Failure>) -> c_int {
    guarded(body).unwrap_or_else(|failure| failure.status as c_int)
}

/// Runs `body`, and notes why it failed. A panic of it ends here.
#[inline]
pub(crate) fn guarded<T>(body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(bug(panic)));
    outcome.inspect_err(note)
}

#[cold]
fn bug(panic: Box<dyn Any + Send>) -> Failure {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    // A payload may panic when it is dropped.
    std::mem::forget(panic);
    crate::worker::lose_current();
    let fixed = sentence(pwu_status::PWU_BUG);
    Failure::new(pwu_status::PWU_BUG, format!("{fixed} ({text})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn last_error() -> String {
        // SAFETY: it points to a text with a zero at its end.
        unsafe { CStr::from_ptr(pwu_last_error()) }.to_string_lossy().into_owned()
    }

    #[test]
    fn a_panic_ends_at_the_entry_and_loses_the_worker() {
        let worker = crate::worker::tests::new_worker();
        let status = entry(|| panic!("a fault\0 with a zero"));
        assert_eq!(status, pwu_status::PWU_BUG);
        assert!(last_error().contains("(a fault  with a zero)"), "{}", last_error());
        assert_eq!(number(|| panic!("{}", 1)), pwu_status::PWU_BUG as c_int);
        // SAFETY: it was made above, and freed here.
        unsafe {
            let turned = crate::worker::pwu_worker_turn(worker, 0);
            assert_eq!(turned, pwu_status::PWU_LOST as c_int);
            assert!(last_error().contains("free it"), "{}", last_error());
            assert_eq!(crate::worker::pwu_worker_free(worker), pwu_status::PWU_OK);
        }
        // The thread can have another one.
        let another = crate::worker::tests::new_worker();
        // SAFETY: the same.
        assert_eq!(unsafe { crate::worker::pwu_worker_free(another) }, pwu_status::PWU_OK);
    }

    #[test]
    fn each_failure_has_a_sentence() {
        for status in [
            pwu_status::PWU_CLOSED,
            pwu_status::PWU_DROPPED,
            pwu_status::PWU_REFUSED,
            pwu_status::PWU_WRONG_THREAD,
            pwu_status::PWU_FORKED,
            pwu_status::PWU_NULL,
            pwu_status::PWU_INVALID,
            pwu_status::PWU_INSIDE_TURN,
            pwu_status::PWU_LOST,
            pwu_status::PWU_BUG,
            pwu_status::PWU_INTERRUPTED,
            pwu_status::PWU_SYSTEM,
        ] {
            assert!((status as c_int) < 0 && !sentence(status).is_empty(), "{status:?}");
        }
    }
}
