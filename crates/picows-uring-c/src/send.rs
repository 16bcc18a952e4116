//! Sending: copied, in place, by reference, the latest of a key, and forwarded.

use crate::connection::{live_conn_at, pwu_conn};
use crate::status::{Failure, entry, pwu_status};
use crate::types::{bytes_of, msg_type, pwu_frame, with_frame};
use bytes::Bytes;
use picows_uring::{CloseCode, FrameHead, SendStatus};
use std::ffi::{c_char, c_int, c_uint, c_void};

/// Bytes in front of the payload that pwu_send_headroom writes to.
pub const PWU_HEADROOM: usize = 14;

impl pwu_conn {
    /// The outcome of a send, as a status.
    #[inline]
    pub(crate) fn became(&self, status: SendStatus) -> Result<pwu_status, Failure> {
        match status {
            SendStatus::Queued => Ok(pwu_status::PWU_OK),
            other => self.became_rarely(other),
        }
    }

    #[cold]
    fn became_rarely(&self, status: SendStatus) -> Result<pwu_status, Failure> {
        match status {
            SendStatus::Queued => Ok(pwu_status::PWU_OK),
            SendStatus::Congested => {
                self.shared.congested(self);
                Ok(pwu_status::PWU_CONGESTED)
            }
            SendStatus::Replaced => Ok(pwu_status::PWU_REPLACED),
            SendStatus::DroppedOldest => {
                self.shared.congested(self);
                Ok(pwu_status::PWU_DROPPED_OLDEST)
            }
            SendStatus::Dropped => Err(Failure::fixed(pwu_status::PWU_DROPPED)),
            SendStatus::Refused(misuse) => {
                Err(Failure::new(pwu_status::PWU_REFUSED, misuse.to_string()))
            }
            // What is newer than this library's user is no success.
            _ => Err(Failure::fixed(pwu_status::PWU_CLOSED)),
        }
    }
}

fn head_of(number: c_int, fin: c_int, rsv: c_uint) -> Result<FrameHead, Failure> {
    // A number that is too large is refused as 255 is.
    let rsv = u8::try_from(rsv).unwrap_or(u8::MAX);
    Ok(FrameHead::new(msg_type(number)?).with_fin(fin != 0).with_rsv(rsv))
}

/// Sends a message of one frame; `data` is copied. CLOSE is sent with pwu_send_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_send(
    conn: *mut pwu_conn,
    r#type: c_int,
    data: *const c_void,
    size: usize,
) -> pwu_status {
    // SAFETY: the same promises.
    unsafe { pwu_send_frame(conn, r#type, 1, 0, data, size) }
}

/// Sends a frame with FIN (0 or 1) and RSV bits (4, 2, 1 or a sum); `data` is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_send_frame(
    conn: *mut pwu_conn,
    r#type: c_int,
    fin: c_int,
    rsv: c_uint,
    data: *const c_void,
    size: usize,
) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { live_conn_at(conn) }?;
        let head = head_of(r#type, fin, rsv)?;
        // SAFETY: there are `size` bytes, by the caller's word.
        let payload = unsafe { bytes_of(data.cast(), size) };
        conn.became(conn.transport.send_frame(head, payload))
    })
}

/// Sends a frame whose payload has PWU_HEADROOM bytes in front of it, which the header is written to; a
/// client masks the payload where it lies. The buffer stays the caller's and can be used again after the
/// call; its bytes are garbage then. Of 16 KiB and more, the socket is given the frame in this call, after
/// what is queued, and only what it does not take is copied. Smaller payloads leave with the turn and are
/// copied, as are those that are encrypted, compressed or have to wait for others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_send_headroom(
    conn: *mut pwu_conn,
    r#type: c_int,
    fin: c_int,
    rsv: c_uint,
    payload: *mut u8,
    size: usize,
) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { live_conn_at(conn) }?;
        let head = head_of(r#type, fin, rsv)?;
        if payload.is_null() {
            return Err(Failure::null("the payload"));
        }
        // SAFETY: there are PWU_HEADROOM and `size` bytes, the library's for this call, by the caller's word.
        let buffer = unsafe {
            std::slice::from_raw_parts_mut(payload.sub(PWU_HEADROOM), PWU_HEADROOM + size)
        };
        conn.became(conn.transport.send_in_place(head, buffer, PWU_HEADROOM))
    })
}

/// Memory of the application, until it was sent.
struct Owned {
    data: *const u8,
    size: usize,
    done: Option<unsafe extern "C" fn(*mut c_void)>,
    user: *mut c_void,
}

// SAFETY: it is made, read and dropped on the thread of its connection: no `RemoteTransport` gets one.
unsafe impl Send for Owned {}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: it stays as it is until `done` is called, by the caller's word.
        unsafe { bytes_of(self.data, self.size) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(done) = self.done {
            // SAFETY: the application gave both for this, and it is called once.
            unsafe { done(self.user) };
        }
    }
}

/// Sends a frame whose payload is kept by reference, as far as that is cheaper than a copy: `data` has
/// to stay as it is until done(user) is called. That is exactly once, whatever becomes of the frame: in
/// this call, or later in a turn, on the thread that called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_send_owned(
    conn: *mut pwu_conn,
    r#type: c_int,
    fin: c_int,
    rsv: c_uint,
    data: *const c_void,
    size: usize,
    done: Option<unsafe extern "C" fn(user: *mut c_void)>,
    user: *mut c_void,
) -> pwu_status {
    let owned = Owned { data: data.cast(), size, done, user };
    entry(move || {
        let payload = Bytes::from_owner(owned);
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { live_conn_at(conn) }?;
        let head = head_of(r#type, fin, rsv)?;
        conn.became(conn.transport.send_bytes(head, &payload))
    })
}

/// Sends a message that a later one with the same key may replace while the peer does not keep up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_send_latest(
    conn: *mut pwu_conn,
    key: u64,
    r#type: c_int,
    data: *const c_void,
    size: usize,
) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { live_conn_at(conn) }?;
        // SAFETY: there are `size` bytes, by the caller's word.
        let payload = unsafe { bytes_of(data.cast(), size) };
        conn.became(conn.transport.send_latest(key, msg_type(r#type)?, payload))
    })
}

/// Sends the frame of the callback that runs on another connection of the thread, or back: its type, its
/// bits and its payload, which a server does not copy if it is large.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_forward(conn: *mut pwu_conn, frame: *const pwu_frame) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { live_conn_at(conn) }?;
        // SAFETY: NULL, or what a callback was given.
        let frame = unsafe { frame.as_ref() }.ok_or_else(|| Failure::null("the frame"))?;
        conn.became(with_frame(frame, |frame| conn.transport.forward(frame))?)
    })
}

pub(crate) fn send_close(
    conn: *mut pwu_conn,
    code: u16,
    reason: *const c_char,
    size: usize,
) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { live_conn_at(conn) }?;
        // SAFETY: there are `size` bytes, by the caller's word.
        let reason = String::from_utf8_lossy(unsafe { bytes_of(reason.cast(), size) });
        let code = if code == 0 {
            None
        } else {
            let checked = CloseCode::try_from(code);
            Some(checked.map_err(|it| Failure::new(pwu_status::PWU_REFUSED, it.to_string()))?)
        };
        conn.became(conn.transport.send_close(code, &reason))
    })
}

pub(crate) fn send_auto_ping(conn: *mut pwu_conn) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { live_conn_at(conn) }?;
        conn.became(conn.transport.send_auto_ping())
    })
}

/// Queues bytes that are no frame. Not in the header: for tests of peers that break the protocol.
///
/// cbindgen:ignore
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_test_write_raw(
    conn: *mut pwu_conn,
    data: *const c_void,
    size: usize,
) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { live_conn_at(conn) }?;
        if conn.transport.is_disconnected() {
            return Err(Failure::fixed(pwu_status::PWU_CLOSED));
        }
        // SAFETY: there are `size` bytes, by the caller's word.
        let bytes = unsafe { bytes_of(data.cast(), size) };
        picows_uring::internal::write_raw(&conn.transport, bytes);
        Ok(pwu_status::PWU_OK)
    })
}
