//! Workers: made, waited for, given turns, stopped and freed.

use crate::callbacks::{User, inside_turn};
use crate::connection::pwu_conn;
use crate::error::{failure_of, made, pwu_error};
use crate::options::pwu_worker_options;
use crate::status::{Failure, entry, number, pwu_status};
use crate::thread::Owner;
use crate::types::{Sized0, read_sized};
use picows_uring::{Embedded, Stopper, Turned};
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_uint, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::{Rc, Weak};
use std::time::Duration;

/// A worker in a loop of the program: it serves connections in pwu_worker_turn, and never waits. One for
/// each thread, on which it stays.
pub struct pwu_worker {
    pub(crate) shared: Rc<Shared>,
    /// Empty once it was freed.
    embedded: RefCell<Option<Rc<Embedded>>>,
    stopper: Stopper,
}

/// The state that pwu_worker_turn leaves behind.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub enum pwu_turned {
    /// Nothing is to be done until the descriptor is readable, or the hook of pwu_worker_on_work is
    /// called.
    PWU_IDLE = 0,
    /// There is more to do: call pwu_worker_turn again soon. The descriptor is readable meanwhile.
    PWU_BUSY = 1,
    /// The worker was stopped, and its last connection has ended.
    PWU_DONE = 2,
}

/// The state that a worker shares with its connections and other objects.
pub(crate) struct Shared {
    owner: Owner,
    /// It was not freed.
    is_alive: Cell<bool>,
    /// It met a fault of this library.
    is_lost: Cell<bool>,
    /// Callbacks may be running.
    is_in_turn: Cell<bool>,
    /// Connections that were told outside of a turn that they are congested.
    congested: RefCell<Vec<Weak<pwu_conn>>>,
}

/// An object that belongs to a worker, and that the program frees.
pub(crate) trait OfWorker {
    /// Its name in the text of an error.
    const NAME: &'static str;

    fn shared(&self) -> &Shared;
}

/// The object at `pointer`, if this thread may use it.
///
/// # Safety
///
/// `pointer` is NULL, or was made and not freed.
pub(crate) unsafe fn object_at<'a, T: OfWorker>(pointer: *const T) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise.
    let object = unsafe { pointer.as_ref() }.ok_or_else(|| Failure::null(T::NAME))?;
    object.shared().check()?;
    Ok(object)
}

/// The object at `pointer`, taken over to be freed, if this thread may do that: also when its worker is lost.
///
/// # Safety
///
/// `pointer` is NULL, or was made and not freed.
pub(crate) unsafe fn take_object<T: OfWorker>(pointer: *mut T) -> Result<Box<T>, Failure> {
    // SAFETY: the caller's promise.
    let object = unsafe { pointer.as_ref() }.ok_or_else(|| Failure::null(T::NAME))?;
    object.shared().owner().check()?;
    // SAFETY: the same, and this is the one call that frees it.
    Ok(unsafe { Box::from_raw(pointer) })
}

impl Shared {
    /// Whether this thread may use it.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.owner.check()?;
        if self.is_lost.get() {
            return Err(Failure::fixed(pwu_status::PWU_LOST));
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn check_alive(&self) -> Result<(), Failure> {
        if self.is_alive.get() {
            return Ok(());
        }
        Err(Failure::new(
            pwu_status::PWU_CLOSED,
            "the worker was freed, and its connections have ended: make another one",
        ))
    }

    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// Has a flush look at `conn`.
    pub(crate) fn congested(&self, conn: &pwu_conn) {
        if self.is_in_turn.get() || conn.is_congested.replace(true) {
            return;
        }
        // SAFETY: all connections are in an `Rc`, of which this is a further reference.
        let conn = unsafe {
            Rc::increment_strong_count(conn);
            Rc::from_raw(conn)
        };
        self.congested.borrow_mut().push(Rc::downgrade(&conn));
    }

    /// Runs `body`, in which callbacks are called.
    fn in_turn<T>(&self, body: impl FnOnce() -> T) -> T {
        struct Leave<'a>(&'a Cell<bool>, bool);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.set(self.1);
            }
        }
        let _leave = Leave(&self.is_in_turn, self.is_in_turn.replace(true));
        body()
    }
}

thread_local! {
    /// The worker of this thread.
    static CURRENT: RefCell<Weak<Shared>> = RefCell::default();
}

/// Gives up the worker of this thread, as a fault of this library may have left it in any state.
pub(crate) fn lose_current() {
    let current = CURRENT.try_with(|current| current.borrow().upgrade());
    if let Ok(Some(shared)) = current {
        shared.is_lost.set(true);
    }
}

/// The worker at `worker`, if this thread may use it.
///
/// # Safety
///
/// `worker` is NULL, or was made and not freed.
pub(crate) unsafe fn worker_at<'a>(worker: *const pwu_worker) -> Result<&'a pwu_worker, Failure> {
    // SAFETY: the caller's promise.
    let worker = unsafe { worker.as_ref() }.ok_or_else(|| Failure::null("the worker"))?;
    worker.shared.check()?;
    Ok(worker)
}

impl pwu_worker {
    /// The worker of the library; none while it is being freed.
    pub(crate) fn embedded(&self) -> Result<Rc<Embedded>, Failure> {
        self.shared.check_alive()?;
        self.embedded.borrow().clone().ok_or_else(|| Failure::fixed(pwu_status::PWU_CLOSED))
    }

    fn turn(&self, turns_max: c_uint) -> Result<Turned, Failure> {
        let embedded = self.embedded()?;
        if self.shared.is_in_turn.get() {
            return Err(inside_turn());
        }
        let turned = self.shared.in_turn(|| match turns_max {
            0 => embedded.turn(),
            turns_max => embedded.turn_within(turns_max),
        });
        turned.map_err(|error| failure_of(&error))
    }
}

/// Makes a worker on this thread, with default settings if options is NULL. NULL with an error, whose
/// text names the cure, if that fails; error may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_worker_new(
    options: *const pwu_worker_options,
    error: *mut *mut pwu_error,
) -> *mut pwu_worker {
    let body = || {
        // SAFETY: NULL, or a structure with its size, by the caller's word.
        let options = unsafe { read_sized(options) }?.unwrap_or(pwu_worker_options::DEFAULT);
        let embedded = options.builder()?.build()?;
        let shared = Rc::new(Shared {
            owner: Owner::current(),
            is_alive: Cell::new(true),
            is_lost: Cell::new(false),
            is_in_turn: Cell::new(false),
            congested: RefCell::default(),
        });
        let _ = CURRENT.try_with(|current| current.replace(Rc::downgrade(&shared)));
        let stopper = embedded.stopper();
        let embedded = RefCell::new(Some(Rc::new(embedded)));
        Ok(Box::into_raw(Box::new(pwu_worker { shared, embedded, stopper })))
    };
    // SAFETY: NULL or to be written to, by the caller's word.
    unsafe { made(error, body) }
}

/// Ends the connections of a worker, with CLOSE 1001 as far as their sockets take it at once, calls
/// on_disconnected for each, and frees it. Connections that were kept stay valid, and closed. In a
/// callback it is PWU_INSIDE_TURN; on another thread it frees nothing, is PWU_WRONG_THREAD and says so in
/// the log. In a child of fork it closes the descriptors that were inherited and calls nothing; then the
/// child can make a worker of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_worker_free(worker: *mut pwu_worker) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, or made and not freed, by the caller's word.
        let shared = match unsafe { worker.as_ref() } {
            Some(worker) => &worker.shared,
            None => return Err(Failure::null("the worker")),
        };
        if shared.owner.check_process().is_err() && !shared.is_in_turn.get() {
            // SAFETY: the same, and this is the one call in this process.
            let worker = unsafe { Box::from_raw(worker) };
            forget_inherited(&worker);
            return Ok(pwu_status::PWU_OK);
        }
        if let Err(failure) = shared.owner.check() {
            tracing::error!(reason = %failure.text, "pwu_worker_free has freed nothing");
            return Err(failure);
        }
        if shared.is_in_turn.get() {
            return Err(inside_turn());
        }
        // SAFETY: the same, and no callback runs that has it borrowed.
        let worker = unsafe { Box::from_raw(worker) };
        let embedded = worker.embedded.take();
        // It is alive for what callbacks send meanwhile.
        worker.shared.in_turn(|| drop(embedded));
        worker.shared.is_alive.set(false);
        Ok(pwu_status::PWU_OK)
    })
}

/// Lets go of a worker that a child process has inherited.
fn forget_inherited(worker: &pwu_worker) {
    worker.shared.is_alive.set(false);
    match worker.embedded.take().map(Rc::try_unwrap) {
        Some(Ok(embedded)) => embedded.forget_in_child(),
        // A callback that runs has it.
        Some(Err(embedded)) => std::mem::forget(embedded),
        None => {}
    }
}

/// Returns the descriptor that is readable when a turn is due, to be watched for reading, by level or by
/// edge. Do not read or close it. It stays the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_worker_fd(worker: *const pwu_worker) -> c_int {
    // SAFETY: NULL, or made and not freed, by the caller's word.
    number(|| Ok(unsafe { worker_at(worker) }?.embedded()?.as_fd().as_raw_fd()))
}

/// Serves the connections: receives, calls callbacks, sends. Never blocks, and takes at most `turns_max`
/// turns (0: the default of the worker). Returns one of pwu_turned, or a pwu_status below 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_worker_turn(worker: *mut pwu_worker, turns_max: c_uint) -> c_int {
    number(|| {
        // SAFETY: NULL, or made and not freed, by the caller's word.
        Ok(match unsafe { worker_at(worker) }?.turn(turns_max)? {
            Turned::Idle => pwu_turned::PWU_IDLE as c_int,
            Turned::Busy => pwu_turned::PWU_BUSY as c_int,
            Turned::Done => pwu_turned::PWU_DONE as c_int,
        })
    })
}

/// Takes turns and waits in between, until the worker was stopped and its last connection has ended:
/// PWU_OK. For programs without a loop of their own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_worker_run(worker: *mut pwu_worker) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, or made and not freed, by the caller's word.
        let worker = unsafe { worker_at(worker) }?;
        loop {
            match worker.turn(0)? {
                Turned::Done => return Ok(pwu_status::PWU_OK),
                Turned::Busy => {}
                Turned::Idle => {
                    let embedded = worker.embedded()?;
                    wait(&embedded)?;
                }
            }
        }
    })
}

/// Waits until a turn is due.
fn wait(embedded: &Embedded) -> Result<(), Failure> {
    let mut watched =
        libc::pollfd { fd: embedded.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: there is one structure, and it lives meanwhile.
    if unsafe { libc::poll(&raw mut watched, 1, -1) } >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted {
        return Err(Failure::fixed(pwu_status::PWU_INTERRUPTED));
    }
    Err(Failure::new(pwu_status::PWU_SYSTEM, format!("cannot wait for the worker: {error}")))
}

/// Has `hook` called when work is queued outside of a turn: it schedules a call of pwu_worker_turn, and
/// does not call that itself. At most once between two turns. free_user frees `user` when another hook
/// takes its place or the worker goes; it may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_worker_on_work(
    worker: *mut pwu_worker,
    hook: Option<unsafe extern "C" fn(user: *mut c_void)>,
    user: *mut c_void,
    free_user: Option<unsafe extern "C" fn(user: *mut c_void)>,
) -> pwu_status {
    let user = User::new(user, free_user);
    entry(move || {
        // SAFETY: NULL, or made and not freed, by the caller's word.
        let worker = unsafe { worker_at(worker) }?;
        let embedded = worker.embedded()?;
        let hook = hook.ok_or_else(|| Failure::null("the hook"))?;
        let shared = Rc::clone(&worker.shared);
        // SAFETY: the application gave both for this.
        embedded.on_work(move || shared.in_turn(|| unsafe { hook(user.pointer) }));
        Ok(pwu_status::PWU_OK)
    })
}

/// Sends what is queued, as far as the sockets take it, without waiting for the next turn, and calls
/// pause_writing of those connections that remain above their high watermark after a PWU_CONGESTED. No
/// other callback is called. Does nothing in a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_worker_flush(worker: *mut pwu_worker) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, or made and not freed, by the caller's word.
        let worker = unsafe { worker_at(worker) }?;
        let embedded = worker.embedded()?;
        if worker.shared.is_in_turn.get() {
            return Ok(pwu_status::PWU_OK);
        }
        embedded.flush();
        for conn in worker.shared.congested.take() {
            let Some(conn) = conn.upgrade() else { continue };
            conn.is_congested.set(false);
            if conn.transport.take_pause() {
                conn.pause_writing();
            }
        }
        Ok(pwu_status::PWU_OK)
    })
}

/// Ends all connections with CLOSE 1001, and then pwu_worker_turn with PWU_DONE and pwu_worker_run, after
/// drain_ms milliseconds at the latest. Returns at once. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_worker_stop(worker: *mut pwu_worker, drain_ms: u32) -> pwu_status {
    entry(|| {
        if worker.is_null() {
            return Err(Failure::null("the worker"));
        }
        // SAFETY: it was made and not freed, by the caller's word, and what is read may be shared
        // between threads.
        let (shared, stopper) = unsafe { (&raw const (*worker).shared, &(*worker).stopper) };
        // SAFETY: the reference is not counted, and what is read does not change.
        unsafe { &*shared }.owner().check_process()?;
        stopper.stop_within(Duration::from_millis(drain_ms.into()));
        Ok(pwu_status::PWU_OK)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::ptr;

    /// A worker with the defaults.
    pub(crate) fn new_worker() -> *mut pwu_worker {
        // SAFETY: NULL stands for the defaults, and for no interest in the error.
        let worker = unsafe { pwu_worker_new(ptr::null(), ptr::null_mut()) };
        assert!(!worker.is_null(), "a worker");
        worker
    }
}
