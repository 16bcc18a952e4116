//! Errors that are objects: of workers, listening sockets and connection attempts.

use crate::status::{Failure, c_text, guarded, note, pwu_status};
use crate::types::pwu_str;
use picows_uring::{ConnectError, ConnectFault, Error, ResponseError};
use std::error::Error as StdError;
use std::ffi::{CString, c_char, c_int};
use std::io;
use std::ptr;

/// Kinds of errors. More may be added.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum pwu_kind {
    /// A call that failed as functions do that return a pwu_status: PWU_ERROR_CALL and the text says it.
    PWU_ERROR_CALL = 1,
    /// A setting makes no sense, or contradicts another.
    PWU_ERROR_SETTING = 2,
    /// An address cannot be understood or listened on.
    PWU_ERROR_LISTEN = 3,
    /// The driver cannot be set up. The text names the cure.
    PWU_ERROR_DRIVER = 4,
    /// A worker runs on this thread already.
    PWU_ERROR_SECOND_WORKER = 5,
    /// The worker could not go on.
    PWU_ERROR_LOST = 6,
    /// The URL cannot be used.
    PWU_ERROR_URL = 10,
    /// A header or another option of the request cannot be used.
    PWU_ERROR_OPTION = 11,
    /// TLS: its settings, such as a key that does not fit; its handshake; a certificate that was refused;
    /// ws:// to a port that speaks TLS, or wss:// to one that does not; a build without TLS.
    PWU_ERROR_TLS = 12,
    /// The socket cannot be used, or broke.
    PWU_ERROR_SOCKET = 13,
    /// It took longer than handshake_ms.
    PWU_ERROR_TIMEOUT = 14,
    /// The connection ended before the server had answered.
    PWU_ERROR_DISCONNECTED = 15,
    /// The answer is a redirect, which is the caller's to follow.
    PWU_ERROR_REDIRECT = 16,
    /// A proxy refused, or the way through it.
    PWU_ERROR_PROXY = 17,
    /// The answer is no HTTP response, or a malformed one.
    PWU_ERROR_ANSWER_MALFORMED = 20,
    /// The status of the answer is not 101.
    PWU_ERROR_ANSWER_STATUS = 21,
    /// The header Upgrade of the answer is not websocket.
    PWU_ERROR_ANSWER_UPGRADE = 22,
    /// The header Connection of the answer does not list Upgrade.
    PWU_ERROR_ANSWER_CONNECTION = 23,
    /// The header Sec-WebSocket-Accept of the answer does not fit the request.
    PWU_ERROR_ANSWER_ACCEPT = 24,
    /// The answer chooses an extension that was not offered.
    PWU_ERROR_ANSWER_EXTENSION = 25,
    /// The answer chooses a subprotocol that was not offered.
    PWU_ERROR_ANSWER_SUBPROTOCOL = 26,
    /// Another error.
    PWU_ERROR_OTHER = 99,
}

/// Why something could not be made. May be used on any thread.
pub struct pwu_error {
    kind: pwu_kind,
    errno: c_int,
    text: CString,
    status: c_int,
    raw_head: Vec<u8>,
    body: Vec<u8>,
}

impl pwu_error {
    pub(crate) fn new(kind: pwu_kind, error: &(dyn StdError + 'static)) -> Self {
        Self {
            kind,
            errno: errno_of(error),
            text: c_text(&error.to_string()),
            status: 0,
            raw_head: Vec::new(),
            body: Vec::new(),
        }
    }

    fn with_response(mut self, status: Option<http::StatusCode>, head: &[u8], body: &[u8]) -> Self {
        self.status = status.map_or(0, |status| status.as_u16().into());
        self.raw_head = head.to_vec();
        self.body = body.to_vec();
        self
    }
}

impl From<Failure> for pwu_error {
    fn from(failure: Failure) -> Self {
        let kind = match failure.status {
            pwu_status::PWU_LOST | pwu_status::PWU_BUG => pwu_kind::PWU_ERROR_LOST,
            _ => pwu_kind::PWU_ERROR_CALL,
        };
        let text = c_text(&failure.text);
        Self { kind, errno: 0, text, status: 0, raw_head: Vec::new(), body: Vec::new() }
    }
}

impl From<Error> for pwu_error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Config { .. } => pwu_kind::PWU_ERROR_SETTING,
            Error::Address { .. } | Error::Listen { .. } => pwu_kind::PWU_ERROR_LISTEN,
            Error::Ring(_) => pwu_kind::PWU_ERROR_DRIVER,
            Error::SecondWorker => pwu_kind::PWU_ERROR_SECOND_WORKER,
            Error::InsideTurn => pwu_kind::PWU_ERROR_CALL,
            Error::Worker { .. } => pwu_kind::PWU_ERROR_LOST,
            _ => pwu_kind::PWU_ERROR_OTHER,
        };
        Self::new(kind, &error)
    }
}

impl From<&ConnectError> for pwu_error {
    fn from(error: &ConnectError) -> Self {
        let kind = match error.fault() {
            ConnectFault::Url(_) => pwu_kind::PWU_ERROR_URL,
            ConnectFault::Option(_) | ConnectFault::Request(_) => pwu_kind::PWU_ERROR_OPTION,
            ConnectFault::Setting { .. } => pwu_kind::PWU_ERROR_SETTING,
            ConnectFault::TlsUnsupported | ConnectFault::TlsExpected => pwu_kind::PWU_ERROR_TLS,
            #[cfg(feature = "tls")]
            ConnectFault::TlsSettings(_) | ConnectFault::Tls(_) => pwu_kind::PWU_ERROR_TLS,
            ConnectFault::Proxy { .. } => pwu_kind::PWU_ERROR_PROXY,
            ConnectFault::NoRuntime => pwu_kind::PWU_ERROR_LOST,
            ConnectFault::Unreachable { .. }
            | ConnectFault::UnixSocket { .. }
            | ConnectFault::Socket(_) => pwu_kind::PWU_ERROR_SOCKET,
            ConnectFault::Timeout { .. } => pwu_kind::PWU_ERROR_TIMEOUT,
            ConnectFault::Disconnected(_) => pwu_kind::PWU_ERROR_DISCONNECTED,
            ConnectFault::Redirect { .. } => pwu_kind::PWU_ERROR_REDIRECT,
            ConnectFault::Response(response) => kind_of(response),
            _ => pwu_kind::PWU_ERROR_OTHER,
        };
        let made = Self::new(kind, error);
        match (error.fault(), error.response()) {
            (ConnectFault::Response(ResponseError::InvalidMessage(message)), _) => {
                made.with_response(message.status, &message.head, &message.body)
            }
            (_, Some(head)) => {
                let body = error.body().unwrap_or_default();
                made.with_response(Some(head.status()), head.raw_head(), body)
            }
            _ => made,
        }
    }
}

fn kind_of(error: &ResponseError) -> pwu_kind {
    match error {
        ResponseError::InvalidMessage(_) => pwu_kind::PWU_ERROR_ANSWER_MALFORMED,
        ResponseError::InvalidStatus(_) => pwu_kind::PWU_ERROR_ANSWER_STATUS,
        ResponseError::Redirect { .. } => pwu_kind::PWU_ERROR_REDIRECT,
        ResponseError::InvalidUpgrade(_) => pwu_kind::PWU_ERROR_ANSWER_UPGRADE,
        ResponseError::InvalidConnection(_) => pwu_kind::PWU_ERROR_ANSWER_CONNECTION,
        ResponseError::InvalidAccept(_) => pwu_kind::PWU_ERROR_ANSWER_ACCEPT,
        ResponseError::InvalidExtensions(_) => pwu_kind::PWU_ERROR_ANSWER_EXTENSION,
        ResponseError::InvalidSubprotocol(_) => pwu_kind::PWU_ERROR_ANSWER_SUBPROTOCOL,
        _ => pwu_kind::PWU_ERROR_OTHER,
    }
}

fn errno_of(error: &(dyn StdError + 'static)) -> c_int {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    chain.filter_map(|it| it.downcast_ref::<io::Error>()?.raw_os_error()).next().unwrap_or(0)
}

/// A call that cannot be done in this state, as a function that returns a status reports it.
pub(crate) fn failure_of(error: &Error) -> Failure {
    let status = match error {
        Error::InsideTurn => pwu_status::PWU_INSIDE_TURN,
        Error::Worker { .. } => pwu_status::PWU_LOST,
        Error::Config { .. } => pwu_status::PWU_INVALID,
        _ => pwu_status::PWU_SYSTEM,
    };
    Failure::new(status, error.to_string())
}

/// The body of a function that returns an object, or NULL with an error.
///
/// # Safety
///
/// `error` is NULL or may be written to.
pub(crate) unsafe fn made<T>(
    error: *mut *mut pwu_error,
    body: impl FnOnce() -> Result<*mut T, pwu_error>,
) -> *mut T {
    let outcome = guarded(|| Ok(body())).unwrap_or_else(|failure| Err(failure.into()));
    let (object, fault) = match outcome {
        Ok(object) => (object, ptr::null_mut()),
        Err(fault) => {
            note(&Failure::new(pwu_status::PWU_INVALID, fault.text.to_string_lossy().into_owned()));
            (ptr::null_mut(), Box::into_raw(Box::new(fault)))
        }
    };
    if error.is_null() {
        if !fault.is_null() {
            // SAFETY: it was made above.
            drop(unsafe { Box::from_raw(fault) });
        }
    } else {
        // SAFETY: the caller's promise.
        unsafe { error.write(fault) };
    }
    object
}

/// Returns the kind of an error, one of pwu_kind. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_error_kind(error: *const pwu_error) -> c_int {
    // SAFETY: NULL, or an error that was not freed.
    match unsafe { error.as_ref() } {
        Some(error) => error.kind as c_int,
        None => pwu_status::PWU_NULL as c_int,
    }
}

/// Returns the errno behind an error, or 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_error_errno(error: *const pwu_error) -> c_int {
    // SAFETY: NULL, or an error that was not freed.
    match unsafe { error.as_ref() } {
        Some(error) => error.errno,
        None => pwu_status::PWU_NULL as c_int,
    }
}

/// Returns the sentence of an error, with the cause and the cure. Valid as long as the error is; "" for
/// NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_error_text(error: *const pwu_error) -> *const c_char {
    // SAFETY: NULL, or an error that was not freed.
    unsafe { error.as_ref() }.map_or(c"".as_ptr(), |error| error.text.as_ptr())
}

/// Returns the HTTP status of the answer that opened no WebSocket, or 0 if there was none, and its head
/// as it was received with the first part of its body (at most 4 KiB). They are valid as long as the
/// error is. raw_head and body may be NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_error_response(
    error: *const pwu_error,
    raw_head: *mut pwu_str,
    body: *mut pwu_str,
) -> c_int {
    // SAFETY: NULL, or an error that was not freed.
    let Some(error) = (unsafe { error.as_ref() }) else { return pwu_status::PWU_NULL as c_int };
    for (out, bytes) in [(raw_head, &error.raw_head), (body, &error.body)] {
        if !out.is_null() {
            // SAFETY: it may be written to, by the caller's word.
            unsafe { out.write(pwu_str::of(bytes)) };
        }
    }
    error.status
}

/// Frees an error that a function gave out; not one that a pwu_outcome is lent. NULL is nothing. Any
/// thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_error_free(error: *mut pwu_error) {
    if !error.is_null() {
        // SAFETY: `made` made it, and it is freed once, by the caller's word.
        drop(unsafe { Box::from_raw(error) });
    }
}
