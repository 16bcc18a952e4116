//! Streams that the program carries itself: TLS of another library, a pipe, the transports of its loop.

use crate::callbacks::{User, pwu_callbacks};
use crate::client::{Over, begin, pwu_attempt, pwu_outcome};
use crate::connection::{conn_at, pwu_conn};
use crate::error::{made, pwu_error};
use crate::options::{pwu_options, read_options};
use crate::server::{Origin, pwu_route, pwu_server, route_of};
use crate::status::{Failure, entry, guarded, pwu_status};
use crate::types::{Sized0, pwu_header, pwu_str, read_sized};
use crate::worker::{OfWorker, Shared, object_at, pwu_worker, take_object, worker_at};
use picows_uring::Server;
use picows_uring::internal::outside::{self, Carried, Carrier};
use std::any::Any;
use std::ffi::{c_char, c_int, c_void};
use std::io;
use std::net::SocketAddr;
use std::ptr;
use std::rc::Rc;

/// Functions that carry the bytes of a stream to its peer. They are called in a turn of the worker, and
/// never inside of a callback of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pwu_outside_ops {
    /// sizeof(pwu_outside_ops).
    pub size: usize,
    /// Reads from the peer if `on` is 1, or stops. A stream reads from the beginning. What is received
    /// in spite of it is kept. May be NULL.
    pub set_reading: Option<unsafe extern "C" fn(user: *mut c_void, on: c_int)>,
    /// Takes `size` bytes. Returns 1 if all that it was given so far has been passed on; 0 if not: then
    /// pwu_outside_drained has to be called when it has, and nothing more is written before.
    pub write:
        Option<unsafe extern "C" fn(user: *mut c_void, data: *const c_void, size: usize) -> c_int>,
    /// Ends this side of the stream behind what was written; where that cannot be done without the other
    /// side, closes the stream, and pwu_outside_ended follows.
    pub shut_down: Option<unsafe extern "C" fn(user: *mut c_void)>,
    /// Closes the stream, and drops what was not passed on.
    pub close: Option<unsafe extern "C" fn(user: *mut c_void)>,
    /// The last call, whatever happened. May be NULL.
    pub free_user: Option<unsafe extern "C" fn(user: *mut c_void)>,
}

// SAFETY: the size is first, and all others are options of functions.
unsafe impl Sized0 for pwu_outside_ops {
    const DEFAULT: Self = Self {
        size: 0,
        set_reading: None,
        write: None,
        shut_down: None,
        close: None,
        free_user: None,
    };
}

/// A stream, for the program that carries it.
pub struct pwu_outside {
    shared: Rc<Shared>,
    carried: Carried,
}

impl OfWorker for pwu_outside {
    const NAME: &'static str = "the stream";

    fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// The functions of one stream, and their argument.
struct Table {
    ops: pwu_outside_ops,
    user: Rc<User>,
}

impl Table {
    /// Takes `user` over, whatever else fails from here on.
    ///
    /// # Safety
    ///
    /// `ops` is NULL or points to a table, and its functions may be called with `user`.
    unsafe fn take(ops: *const pwu_outside_ops, user: *mut c_void) -> Result<Box<Self>, Failure> {
        // SAFETY: the caller's promise.
        let ops = unsafe { read_sized(ops) }?.ok_or_else(|| Failure::null("ops"))?;
        let table = Self { ops, user: User::new(user, ops.free_user) };
        if ops.write.is_none() || ops.shut_down.is_none() || ops.close.is_none() {
            let text = "ops need write, shut_down and close";
            return Err(Failure::new(pwu_status::PWU_INVALID, text));
        }
        Ok(Box::new(table))
    }
}

impl Carrier for Table {
    fn set_reading(&self, is_on: bool) {
        if let Some(call) = self.ops.set_reading {
            // SAFETY: the application gave both for this.
            unsafe { call(self.user.pointer, is_on.into()) };
        }
    }

    fn write(&self, bytes: &[u8]) -> bool {
        // SAFETY: the same.
        self.ops.write.is_none_or(|call| unsafe {
            call(self.user.pointer, bytes.as_ptr().cast(), bytes.len()) != 0
        })
    }

    fn shut_down(&self) {
        if let Some(call) = self.ops.shut_down {
            // SAFETY: the same.
            unsafe { call(self.user.pointer) };
        }
    }

    fn close(&self) {
        if let Some(call) = self.ops.close {
            // SAFETY: the same.
            unsafe { call(self.user.pointer) };
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The address in a text such as `192.0.2.7:4711`; none where that is empty or no address.
///
/// # Safety
///
/// As [`pwu_str::bytes`].
unsafe fn address_in(text: pwu_str) -> Option<SocketAddr> {
    // SAFETY: the caller's promise.
    std::str::from_utf8(unsafe { text.bytes() }).ok()?.parse().ok()
}

/// Makes a WebSocket connection over a stream that `ops` carry with the argument `carrier`, which is the
/// library's from here on: free_user of ops is called whatever happens. `*outside` becomes the handle of the
/// stream, to be freed by pwu_outside_free. For the others see pwu_connect; url begins with ws://, whatever
/// the stream is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_connect_outside(
    worker: *mut pwu_worker,
    url: *const c_char,
    ops: *const pwu_outside_ops,
    carrier: *mut c_void,
    outside: *mut *mut pwu_outside,
    headers: *const pwu_header,
    count: usize,
    options: *const pwu_options,
    callbacks: *const pwu_callbacks,
    user: *mut c_void,
    outcome: pwu_outcome,
    error: *mut *mut pwu_error,
) -> *mut pwu_attempt {
    let body = move || {
        // SAFETY: NULL, or a table whose functions may be called with `carrier`.
        let table = unsafe { Table::take(ops, carrier) };
        let over = table.map(|table| Over::Stream(table));
        // SAFETY: the same promises.
        let (attempt, carried) = unsafe {
            begin(worker, url, over, (headers, count), options, (callbacks, user), outcome)
        }?;
        if let (Some(carried), false) = (carried, outside.is_null()) {
            let handle = pwu_outside { shared: Rc::clone(&attempt.shared), carried };
            // SAFETY: not NULL, and to be written to, by the caller's word.
            unsafe { outside.write(Box::into_raw(Box::new(handle))) };
        }
        Ok(Box::into_raw(Box::new(attempt)))
    };
    // SAFETY: NULL or to be written to, by the caller's word.
    unsafe { made(error, body) }
}

/// Takes options and a route for streams that pwu_accept_outside brings, as pwu_listen does for a listening
/// socket; those about listening mean nothing. To be closed by pwu_server_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_serve_outside(
    worker: *mut pwu_worker,
    options: *const pwu_options,
    route: pwu_route,
    user: *mut c_void,
    free_user: Option<unsafe extern "C" fn(user: *mut c_void)>,
    error: *mut *mut pwu_error,
) -> *mut pwu_server {
    let user = User::new(user, free_user);
    let body = move || {
        // SAFETY: NULL, or made and not freed, by the caller's word.
        let worker = unsafe { worker_at(worker) }?;
        let embedded = worker.embedded()?;
        // SAFETY: NULL, or a structure with its size, by the caller's word.
        let options = unsafe { read_options(options) }?;
        // SAFETY: the same: what it points to was made and not freed.
        let builder = unsafe { options.of_server(Server::builder().without_address()) }?;
        let factory = route_of(route, user, &worker.shared)?;
        let served = outside::serve(&embedded, builder, factory)?;
        Ok(pwu_server::made(&worker.shared, Origin::Carried(served)))
    };
    // SAFETY: NULL or to be written to, by the caller's word.
    unsafe { made(error, body) }
}

/// Serves a stream whose peer has connected, which `ops` carry with the argument `carrier`: it is the
/// library's from here on, as for pwu_connect_outside. `peer` is the peer's address for limits and logs, such
/// as `192.0.2.7:4711`, or empty. Not inside of a callback. NULL with an error if it fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_accept_outside(
    worker: *mut pwu_worker,
    server: *const pwu_server,
    ops: *const pwu_outside_ops,
    carrier: *mut c_void,
    peer: pwu_str,
    error: *mut *mut pwu_error,
) -> *mut pwu_outside {
    let body = move || {
        // SAFETY: NULL, or a table whose functions may be called with `carrier`.
        let table = unsafe { Table::take(ops, carrier) }?;
        // SAFETY: NULL, or made and not freed, by the caller's word.
        let (worker, server) = unsafe { (worker_at(worker)?, object_at(server)?) };
        let Origin::Carried(served) = &server.origin else {
            let text = "the server accepts connections itself: use one of pwu_serve_outside";
            return Err(Failure::new(pwu_status::PWU_INVALID, text).into());
        };
        // SAFETY: a text of the caller.
        let peer = unsafe { address_in(peer) };
        let carried = outside::accept(&*worker.embedded()?, served, table, peer)?;
        Ok(Box::into_raw(Box::new(pwu_outside { shared: Rc::clone(&worker.shared), carried })))
    };
    // SAFETY: NULL or to be written to, by the caller's word.
    unsafe { made(error, body) }
}

/// Returns memory for the next bytes of the peer and sets `*size` to how many fit: fill it from its
/// beginning, and call pwu_outside_filled before any other function of the worker. NULL if the stream cannot
/// be used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_outside_buffer(
    outside: *const pwu_outside,
    size: *mut usize,
) -> *mut c_void {
    let found = guarded(|| {
        // SAFETY: NULL, or made and not freed, by the caller's word.
        let outside = unsafe { object_at(outside) }?;
        if size.is_null() {
            return Err(Failure::null("size"));
        }
        let (memory, len) = outside.carried.buffer();
        // SAFETY: not NULL, and to be written to, by the caller's word.
        unsafe { size.write(len) };
        Ok(memory.cast())
    });
    found.unwrap_or(ptr::null_mut())
}

/// The first `size` bytes of pwu_outside_buffer are the peer's. The connection sees them in the next turn.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_outside_filled(
    outside: *const pwu_outside,
    size: usize,
) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, or made and not freed, by the caller's word.
        unsafe { object_at(outside) }?.carried.filled(size);
        Ok(pwu_status::PWU_OK)
    })
}

/// The peer sends no more, if `number` is 0; else the stream has failed with that errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_outside_ended(
    outside: *const pwu_outside,
    number: c_int,
) -> pwu_status {
    entry(|| {
        let failure = (number != 0).then(|| io::Error::from_raw_os_error(number).kind());
        // SAFETY: NULL, or made and not freed, by the caller's word.
        unsafe { object_at(outside) }?.carried.ended(failure);
        Ok(pwu_status::PWU_OK)
    })
}

/// Everything that was written has been passed on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_outside_drained(outside: *const pwu_outside) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, or made and not freed, by the caller's word.
        unsafe { object_at(outside) }?.carried.drained();
        Ok(pwu_status::PWU_OK)
    })
}

/// Frees the handle of a stream, which stays open, and gets nothing more from the program.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_outside_free(outside: *mut pwu_outside) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, or made and not freed, by the caller's word.
        drop(unsafe { take_object(outside) }?);
        Ok(pwu_status::PWU_OK)
    })
}

/// Returns the argument of the functions that carry the stream of a connection; NULL if it has a socket, or
/// its stream is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_outside_of(conn: *const pwu_conn) -> *mut c_void {
    let found = guarded(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { conn_at(conn) }?;
        let found = outside::with_carrier(&conn.transport, |carrier| {
            carrier.as_any().downcast_ref::<Table>().map(|table| table.user.pointer)
        });
        Ok(found.flatten().unwrap_or(ptr::null_mut()))
    });
    found.unwrap_or(ptr::null_mut())
}
