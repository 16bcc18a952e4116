//! Handles of connections for other threads.

use crate::connection::{live_conn_at, pwu_conn};
use crate::status::{Failure, entry, guarded, pwu_status};
use crate::thread::Owner;
use crate::types::{bytes_of, msg_type};
use bytes::Bytes;
use picows_uring::{CloseCode, RemoteError, RemoteTransport};
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

/// A connection for other threads. What they ask for happens in the next turn of its worker.
pub struct pwu_remote {
    owner: Owner,
    remote: RemoteTransport,
}

/// Makes a handle of a connection for other threads. NULL if the connection cannot be used; see
/// pwu_last_error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_remote_new(conn: *mut pwu_conn) -> *mut pwu_remote {
    let made = guarded(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { live_conn_at(conn) }?;
        let remote = conn.transport.remote();
        Ok(Box::into_raw(Box::new(pwu_remote { owner: conn.shared.owner(), remote })))
    });
    made.unwrap_or(ptr::null_mut())
}

/// Frees a handle. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_remote_free(remote: *mut pwu_remote) -> pwu_status {
    entry(|| {
        if remote.is_null() {
            return Err(Failure::null("the remote"));
        }
        // SAFETY: it was made and not freed, by the caller's word.
        drop(unsafe { Box::from_raw(remote) });
        Ok(pwu_status::PWU_OK)
    })
}

/// Does what `ask` does with the handle.
///
/// # Safety
///
/// `remote` is NULL, or was made and not freed.
unsafe fn asked(
    remote: *mut pwu_remote,
    ask: impl FnOnce(&RemoteTransport) -> Result<Result<(), RemoteError>, Failure>,
) -> pwu_status {
    entry(|| {
        // SAFETY: the caller's promise.
        let remote = unsafe { remote.as_ref() }.ok_or_else(|| Failure::null("the remote"))?;
        remote.owner.check_process()?;
        match ask(&remote.remote)? {
            Ok(()) => Ok(pwu_status::PWU_OK),
            Err(error) => {
                let status = match error {
                    RemoteError::Congested | RemoteError::QueueFull => pwu_status::PWU_DROPPED,
                    RemoteError::Misuse(_) => pwu_status::PWU_REFUSED,
                    _ => pwu_status::PWU_CLOSED,
                };
                Err(Failure::new(status, error.to_string()))
            }
        }
    })
}

/// Sends a message of one frame; `data` is copied. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_remote_send(
    remote: *mut pwu_remote,
    r#type: c_int,
    data: *const c_void,
    size: usize,
) -> pwu_status {
    let ask = |remote: &RemoteTransport| {
        // SAFETY: there are `size` bytes, by the caller's word.
        let payload = Bytes::copy_from_slice(unsafe { bytes_of(data.cast(), size) });
        Ok(remote.send(msg_type(r#type)?, payload))
    };
    // SAFETY: NULL, or made and not freed, by the caller's word.
    unsafe { asked(remote, ask) }
}

/// Sends a message that a later one with the same key may replace. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_remote_send_latest(
    remote: *mut pwu_remote,
    key: u64,
    r#type: c_int,
    data: *const c_void,
    size: usize,
) -> pwu_status {
    let ask = |remote: &RemoteTransport| {
        // SAFETY: there are `size` bytes, by the caller's word.
        let payload = Bytes::copy_from_slice(unsafe { bytes_of(data.cast(), size) });
        Ok(remote.send_latest(key, msg_type(r#type)?, payload))
    };
    // SAFETY: NULL, or made and not freed, by the caller's word.
    unsafe { asked(remote, ask) }
}

/// Sends CLOSE, as pwu_send_close. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_remote_send_close(
    remote: *mut pwu_remote,
    code: u16,
    reason: *const c_char,
    size: usize,
) -> pwu_status {
    let ask = |remote: &RemoteTransport| {
        // SAFETY: there are `size` bytes, by the caller's word.
        let reason = String::from_utf8_lossy(unsafe { bytes_of(reason.cast(), size) });
        if code == 0 {
            return Ok(remote.send_close(None, &reason));
        }
        let code = CloseCode::try_from(code)
            .map_err(|it| Failure::new(pwu_status::PWU_REFUSED, it.to_string()))?;
        Ok(remote.send_close(code, &reason))
    };
    // SAFETY: NULL, or made and not freed, by the caller's word.
    unsafe { asked(remote, ask) }
}

/// Ends the connection, as pwu_disconnect. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_remote_disconnect(remote: *mut pwu_remote) -> pwu_status {
    // SAFETY: NULL, or made and not freed, by the caller's word.
    unsafe { asked(remote, |remote| Ok(remote.disconnect())) }
}

/// Ends the connection, as pwu_abort. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_remote_abort(remote: *mut pwu_remote) -> pwu_status {
    // SAFETY: NULL, or made and not freed, by the caller's word.
    unsafe { asked(remote, |remote| Ok(remote.abort())) }
}
