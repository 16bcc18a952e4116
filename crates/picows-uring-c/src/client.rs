//! Connection attempts on sockets that the caller has connected.

use crate::callbacks::{Hooks, Opened, TableListener, pwu_callbacks};
use crate::connection::pwu_conn;
use crate::error::{made, pwu_error};
use crate::options::{pwu_options, read_options};
use crate::server::text_at;
use crate::status::{Failure, entry, pwu_status};
use crate::types::{headers_of, pwu_header};
use crate::worker::{OfWorker, Shared, pwu_worker, take_object, worker_at};
use picows_uring::internal::outside::{self, Carried, Carrier};
use picows_uring::{Attempt, Connect, ConnectError, ResponseHead, Transport, UpgradeRequest};
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::rc::Rc;

/// A connection that is being made.
pub struct pwu_attempt {
    pub(crate) shared: Rc<Shared>,
    attempt: Attempt,
}

impl OfWorker for pwu_attempt {
    const NAME: &'static str = "the attempt";

    fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// The outcome of an attempt, called once in a turn, behind on_connected: exactly one of `conn` and
/// `error` is not NULL, and both are lent.
pub type pwu_outcome =
    Option<unsafe extern "C" fn(user: *mut c_void, conn: *mut pwu_conn, error: *const pwu_error)>;

/// Makes a WebSocket connection of `fd`, a socket that is connected, which is the library's from here on,
/// whatever happens. `url` gives Host, path and query; `headers` go with the request (of them
/// Sec-WebSocket-Protocol offers subprotocols). `outcome`, which may be NULL, gets `user` as callbacks
/// do; `user` is the library's from here on: free_user is called whatever happens, also if this returns
/// NULL. A redirect is an error, for the caller to follow. Free the attempt by pwu_attempt_free or
/// pwu_attempt_abandon.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_connect(
    worker: *mut pwu_worker,
    url: *const c_char,
    fd: c_int,
    headers: *const pwu_header,
    count: usize,
    options: *const pwu_options,
    callbacks: *const pwu_callbacks,
    user: *mut c_void,
    outcome: pwu_outcome,
    error: *mut *mut pwu_error,
) -> *mut pwu_attempt {
    // SAFETY: the caller gives it away.
    let socket = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) });
    let body = move || {
        let over = Ok(Over::Socket(socket));
        // SAFETY: the same promises.
        let (attempt, _) = unsafe {
            begin(worker, url, over, (headers, count), options, (callbacks, user), outcome)
        }?;
        Ok(Box::into_raw(Box::new(attempt)))
    };
    // SAFETY: NULL or to be written to, by the caller's word.
    unsafe { made(error, body) }
}

/// The bytes of a connection.
pub(crate) enum Over {
    /// `None` is an error of its own.
    Socket(Option<OwnedFd>),
    Stream(Box<dyn Carrier>),
}

/// Begins a handshake. The user of the callbacks is taken over whatever fails.
///
/// # Safety
///
/// As [`pwu_connect`].
pub(crate) unsafe fn begin(
    worker: *mut pwu_worker,
    url: *const c_char,
    over: Result<Over, Failure>,
    (headers, count): (*const pwu_header, usize),
    options: *const pwu_options,
    (callbacks, user): (*const pwu_callbacks, *mut c_void),
    outcome: pwu_outcome,
) -> Result<(pwu_attempt, Option<Carried>), pwu_error> {
    // SAFETY: NULL, or a table whose functions may be called with `user`.
    let hooks = unsafe { Hooks::take(callbacks, user) }?;
    let over = over?;
    // SAFETY: NULL, or made and not freed, by the caller's word.
    let worker = unsafe { worker_at(worker) }?;
    let embedded = worker.embedded()?;
    // SAFETY: NULL, or a text with a zero at its end, by the caller's word.
    let url = unsafe { text_at(url) }.ok_or_else(|| Failure::null("url"))?;
    // SAFETY: NULL, or there are `count`, by the caller's word.
    let headers = unsafe { headers_of(headers, count) };
    // SAFETY: NULL, or a structure with its size, by the caller's word.
    let options = unsafe { read_options(options) }?;
    // SAFETY: the same: what it points to was made and not freed.
    let mut connect = unsafe { options.of_client(Connect::new(url)) }?;
    for header in headers {
        // SAFETY: texts of the caller.
        let (name, value) = unsafe { (header.name.bytes(), header.value.bytes()) };
        connect = with_header(connect, &String::from_utf8_lossy(name), value);
    }
    let (opened, shared) = (Opened::default(), Rc::clone(&worker.shared));
    let report = {
        let (opened, hooks) = (Rc::clone(&opened), hooks.clone());
        move |result: Result<Transport, ConnectError>| report(outcome, &hooks, &opened, &result)
    };
    let listener = TableListener::new(hooks, Rc::clone(&shared), Some(opened));
    let make = |_: &UpgradeRequest, _: &ResponseHead| listener;
    let begun = match over {
        Over::Socket(socket) => {
            if let Some(socket) = socket {
                connect = connect.socket(socket);
            }
            embedded.connect(connect, make, report).map(|attempt| (attempt, None))
        }
        Over::Stream(carrier) => outside::connect(&embedded, connect, carrier, None, make, report),
    };
    let (attempt, carried) = begun.map_err(|error| pwu_error::from(&error))?;
    Ok((pwu_attempt { shared, attempt }, carried))
}

/// Offers of subprotocols have a method of their own.
fn with_header(mut connect: Connect, name: &str, value: &[u8]) -> Connect {
    if !name.eq_ignore_ascii_case("sec-websocket-protocol") {
        return connect.header(name, value);
    }
    for offer in String::from_utf8_lossy(value).split(',').map(str::trim) {
        connect = connect.subprotocol(offer);
    }
    connect
}

fn report(
    outcome: pwu_outcome,
    hooks: &Hooks,
    opened: &Opened,
    result: &Result<Transport, ConnectError>,
) {
    let Some(call) = outcome else { return };
    match result {
        Ok(_) => {
            let conn = opened.take();
            let pointer = conn.as_ref().map_or(ptr::null_mut(), pwu_conn::as_pointer);
            // SAFETY: the application gave both for this, and the connection lives.
            unsafe { call(hooks.user(), pointer, ptr::null()) };
        }
        Err(error) => {
            let error = pwu_error::from(error);
            // SAFETY: the application gave both for this, and the error lives.
            unsafe { call(hooks.user(), ptr::null_mut(), &raw const error) };
        }
    }
}

/// Gives an attempt up and frees it: its socket is closed in the next turn, and the outcome is not
/// called. If that was called before, this frees it only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_attempt_abandon(attempt: *mut pwu_attempt) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, or made and not freed, by the caller's word.
        unsafe { take_object(attempt) }?.attempt.abandon();
        Ok(pwu_status::PWU_OK)
    })
}

/// Frees an attempt, which goes on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_attempt_free(attempt: *mut pwu_attempt) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, or made and not freed, by the caller's word.
        drop(unsafe { take_object(attempt) }?);
        Ok(pwu_status::PWU_OK)
    })
}
